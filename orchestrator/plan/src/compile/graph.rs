//! The edges of a plan while it grows: what waits for what, and whether one more edge would close a circle.
//!
//! Does not know why an edge is there.

use petgraph::algo::toposort;
use petgraph::graph::DiGraph;

/// Who waits for whom.
#[derive(Debug, Default)]
pub(super) struct Graph {
    /// For each task the tasks before it.
    after: Vec<Vec<usize>>,
    /// For each task the tasks that wait for it.
    before: Vec<Vec<usize>>,
    /// Whether some edge leads from a later task to an earlier one.
    has_backward: bool,
}

impl Graph {
    pub(super) fn with_tasks(tasks: usize) -> Self {
        Self {
            after: vec![Vec::new(); tasks],
            before: vec![Vec::new(); tasks],
            has_backward: false,
        }
    }

    pub(super) fn add_task(&mut self) {
        self.after.push(Vec::new());
        self.before.push(Vec::new());
    }

    /// Adds the edge; twice is the same as once.
    pub(super) fn add_edge(&mut self, from: usize, to: usize) {
        let (Some(after), Some(before)) = (self.after.get_mut(to), self.before.get_mut(from))
        else {
            return;
        };
        after.push(from);
        before.push(to);
        self.has_backward |= from >= to;
    }

    /// The tasks before a task, ascending, each once.
    pub(super) fn after(&self, task: usize) -> Vec<usize> {
        let mut after = self.after.get(task).cloned().unwrap_or_default();
        after.sort_unstable();
        after.dedup();
        after
    }

    /// The tasks before a task, in any order, some perhaps twice.
    pub(super) fn before_it(&self, task: usize) -> impl Iterator<Item = usize> {
        self.after.get(task).into_iter().flatten().copied()
    }

    /// How many tasks wait for a task.
    pub(super) fn consumers(&self, task: usize) -> usize {
        let mut waiting = self.before.get(task).cloned().unwrap_or_default();
        waiting.sort_unstable();
        waiting.dedup();
        waiting.len()
    }

    /// Whether `to` waits for `from`, directly or not; a task reaches itself.
    pub(super) fn reaches(&self, from: usize, to: usize) -> bool {
        if from == to {
            return true;
        }
        // As long as every edge leads to a later task, no path leads to an earlier one: no search in the usual plan.
        if !self.has_backward && from > to {
            return false;
        }
        let mut seen = vec![false; self.before.len()];
        let mut open = vec![from];
        while let Some(task) = open.pop() {
            if task == to {
                return true;
            }
            if let Some(seen) = seen.get_mut(task)
                && !std::mem::replace(seen, true)
            {
                open.extend(self.before.get(task).into_iter().flatten());
            }
        }
        false
    }

    /// An order in which every task comes after those it waits for, or a shortest circle through the earliest task that
    /// is in one: each of its tasks waits for the next, the last one for the first.
    pub(super) fn order(&self) -> Result<Vec<usize>, Vec<usize>> {
        let edges = self
            .after
            .iter()
            .enumerate()
            .flat_map(|(to, after)| after.iter().map(move |&from| (index(from), index(to))));
        let mut graph = DiGraph::<(), (), u32>::with_capacity(self.after.len(), self.after.len());
        for _ in &self.after {
            graph.add_node(());
        }
        graph.extend_with_edges(edges);
        toposort(&graph, None)
            .map(|order| order.into_iter().map(|node| node.index()).collect())
            .map_err(|cycle| self.circle(cycle.node_id().index()))
    }

    /// A shortest circle through a task that is in one, beginning with its earliest task.
    fn circle(&self, start: usize) -> Vec<usize> {
        let mut came_from = vec![None; self.after.len()];
        let mut open = std::collections::VecDeque::from([start]);
        while let Some(task) = open.pop_front() {
            for &next in self.after.get(task).into_iter().flatten() {
                if next == start {
                    let mut circle = vec![task];
                    let mut at = task;
                    while at != start
                        && let Some(Some(previous)) = came_from.get(at).copied()
                    {
                        circle.push(previous);
                        at = previous;
                    }
                    circle.reverse();
                    let earliest = circle
                        .iter()
                        .enumerate()
                        .min_by_key(|(_, task)| **task)
                        .map_or(0, |(position, _)| position);
                    circle.rotate_left(earliest);
                    return circle;
                }
                if let Some(slot @ None) = came_from.get_mut(next) {
                    *slot = Some(task);
                    open.push_back(next);
                }
            }
        }
        vec![start]
    }
}

fn index(task: usize) -> u32 {
    // More than four thousand million tasks do not fit into a proposal.
    u32::try_from(task).unwrap_or(u32::MAX)
}
