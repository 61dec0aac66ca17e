//! The edges of a plan while it grows, and whether another edge would close a cycle.
//!
//! Does not know the reasons for edges.

use std::cmp::Reverse;

#[derive(Debug, Default)]
pub(super) struct Graph {
    /// For each task the tasks before it.
    after: Vec<Vec<usize>>,
    /// For each task the tasks that wait for it.
    before: Vec<Vec<usize>>,
    /// Whether some edge leads from a later task to an earlier one.
    has_backward: bool,
}

/// The state of a task in the walk of [`Graph::order`].
#[derive(Debug, Clone, Copy)]
enum State {
    New,
    Entered,
    Left,
}

/// A pending step of the walk of [`Graph::order`].
#[derive(Debug, Clone, Copy)]
enum Step {
    Enter(usize),
    Leave(usize),
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

    /// Adds the edge; does nothing if it exists.
    pub(super) fn add_edge(&mut self, from: usize, to: usize) {
        let (Some(after), Some(before)) = (self.after.get_mut(to), self.before.get_mut(from))
        else {
            return;
        };
        after.push(from);
        before.push(to);
        self.has_backward |= from >= to;
    }

    /// The tasks before a task, in any order, some perhaps twice.
    pub(super) fn before_it(&self, task: usize) -> impl Iterator<Item = usize> {
        self.after.get(task).into_iter().flatten().copied()
    }

    /// Number of tasks that wait for a task.
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
        // If every edge leads to a later task, no path leads to an earlier one: the usual plan needs no search.
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

    /// An order of execution, or a shortest cycle: each of its tasks waits for the next, the last one for the first.
    ///
    /// Each task follows the tasks that it waits for, and these stand as late as possible: a list that is already in order
    /// stays unchanged, and a task that only one other task needs stands right before that task.
    pub(super) fn order(&self) -> Result<Vec<usize>, Vec<usize>> {
        let mut states = vec![State::New; self.after.len()];
        let mut order = Vec::with_capacity(states.len());
        // Not recursive: a chain may be as long as the plan.
        let mut open: Vec<_> = (0..states.len()).rev().map(Step::Enter).collect();
        while let Some(step) = open.pop() {
            let (Step::Enter(task) | Step::Leave(task)) = step;
            let Some(state) = states.get_mut(task) else {
                continue;
            };
            match (step, *state) {
                (Step::Enter(_), State::New) => {
                    *state = State::Entered;
                    open.push(Step::Leave(task));
                    let mut before: Vec<_> = self.before_it(task).collect();
                    before.sort_unstable_by_key(|&before| Reverse(before));
                    open.extend(before.into_iter().map(Step::Enter));
                }
                (Step::Enter(_), State::Entered) => return Err(self.circle(task)),
                (Step::Enter(_), State::Left) => {}
                (Step::Leave(_), _) => {
                    *state = State::Left;
                    order.push(task);
                }
            }
        }
        Ok(order)
    }

    /// A shortest cycle through a task that is in one, beginning with its earliest task.
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
