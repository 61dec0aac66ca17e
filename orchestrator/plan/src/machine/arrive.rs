//! Adds tasks to the machine: with a complete plan, or before it while a model still writes the plan.
//!
//! Does not start them: [`super::run`] does.

use std::collections::{BTreeMap, BTreeSet};

use amcp_protocol::plan::PlannedTaskView;
use amcp_protocol::{Effect, ErrorCode, Failure, Progress, TaskId};

use super::replace::Refusal;
use super::task::{Status, TaskRun};
use super::{Action, Machine, Time};
use crate::plan::{Plan, PlanTask};

impl Machine {
    /// Accepts a plan; returns the indexes of its tasks.
    pub(super) fn accept(&mut self, plan: Plan, out: &mut Vec<Action>) -> Vec<usize> {
        let mut view = plan.view();
        let added = self.add(plan.tasks);
        self.replace(&added);
        self.order.extend(&added);
        // `add` may have changed ids of a later round to keep them unique.
        let ids = added.iter().filter_map(|&index| self.tasks.get(index));
        let renamed: BTreeMap<TaskId, TaskId> = view
            .iter()
            .zip(ids)
            .filter(|(task, run)| task.id != run.plan.id)
            .map(|(task, run)| (task.id.clone(), run.plan.id.clone()))
            .collect();
        rename(&mut view, &renamed);
        let mut refused = plan.refused;
        for (refusal, shown) in refused.iter_mut().zip(view.iter_mut().skip(added.len())) {
            refusal.view.id = self.unique_id(&refusal.view.id, &[]);
            shown.id = refusal.view.id.clone();
            self.refused.push(Refusal::of(refusal.clone()));
        }
        self.answer_directly = plan.answer_directly.filter(|text| !text.trim().is_empty());
        // A later plan repairs failures only: parts that no agent covered before stay uncovered.
        for part in plan.unplaced {
            if !self.unplaced.contains(&part) {
                self.unplaced.push(part);
            }
        }
        out.push(Action::Report(Progress::Planned {
            planner: self.planner.clone(),
            round: self.round,
            tasks: view,
            unplaced: self.unplaced.clone(),
        }));
        out.extend(refused.into_iter().map(|refused| {
            Action::Report(Progress::Failed {
                task: refused.view.id,
                state: refused.state,
                error: refused.failure,
                calls: Vec::new(),
            })
        }));
        added
    }

    /// Adds the tasks of a complete plan and adopts those that run already. Returns the index of each task.
    pub(super) fn add(&mut self, tasks: Vec<PlanTask>) -> Vec<usize> {
        let adopts = |task: &PlanTask| {
            let runs = self.tasks.iter().enumerate().skip(self.round_start);
            let mut early = runs.filter(|(_, run)| run.is_of(task));
            early.next().map(|(index, _)| index)
        };
        let incoming: Vec<TaskId> = tasks.iter().map(|task| task.id.clone()).collect();
        let known: BTreeSet<TaskId> = self.tasks.iter().map(|run| run.plan.id.clone()).collect();
        let mut next = self.tasks.len();
        let places: Vec<usize> = tasks
            .iter()
            .map(|task| {
                adopts(task).unwrap_or_else(|| {
                    next += 1;
                    next - 1
                })
            })
            .collect();
        for (mut task, &place) in tasks.into_iter().zip(&places) {
            if let Some(early) = self.tasks.get_mut(place) {
                early.unplanned = None;
                early.plan.optional = task.optional;
                continue;
            }
            if known.contains(&task.id) || !self.refused.is_empty() {
                task.id = self.unique_id(&task.id, &incoming);
            }
            let references = task.references.iter_mut();
            let references = references.map(|reference| &mut reference.from);
            for from in task.after.iter_mut().chain(references) {
                *from = places.get(*from).copied().unwrap_or(*from);
            }
            self.tasks.push(TaskRun::new(task));
            self.open += 1;
        }
        self.link(&places);
        places
    }

    /// Makes each added task wait for those before it that have not ended.
    fn link(&mut self, places: &[usize]) {
        for &place in places {
            let before = self.tasks.get(place).map(|run| run.plan.after.clone());
            for before in before.unwrap_or_default() {
                let waits = self
                    .tasks
                    .get_mut(before)
                    .filter(|before| !before.status.has_ended())
                    .map(|before| before.dependents.push(place));
                if let (Some(()), Some(run)) = (waits, self.tasks.get_mut(place)) {
                    run.waiting_for += 1;
                }
            }
        }
    }

    /// Adds tasks of a plan that is still arriving: only idempotent reads that wait neither for a task nor for a person, since
    /// the rest of the plan may be refused.
    pub(super) fn add_early(&mut self, tasks: Vec<PlanTask>) {
        for mut task in tasks {
            let reads = task.terms.effect == Effect::Read && task.terms.idempotent;
            let harmless = reads && task.terms.flow.is_none();
            let arrived = |run: &TaskRun| run.unplanned.as_ref() == Some(&task.id);
            let again = self.tasks.iter().any(arrived);
            if harmless && !again && task.after.is_empty() && task.references.is_empty() {
                let arrived_as = task.id.clone();
                task.id = self.unique_id(&task.id, &[]);
                let mut run = TaskRun::new(task);
                run.unplanned = Some(arrived_as);
                self.tasks.push(run);
                self.open += 1;
            }
        }
    }

    /// Cancels the early tasks that the complete plan lacks.
    pub(super) fn drop_unplanned(&mut self, now: Time, out: &mut Vec<Action>) {
        let message = "the complete plan has no such task";
        let failure = Failure::new(ErrorCode::Cancelled, message);
        for task in self.round_start..self.tasks.len() {
            if self
                .tasks
                .get(task)
                .is_some_and(|run| run.unplanned.is_some())
            {
                self.cut(now, task, &failure, out);
                self.take_back(task, &failure);
            }
        }
    }

    /// Gives the bytes of an unplanned task's result back to the budget.
    fn take_back(&mut self, task: usize, failure: &Failure) {
        if let Some(run) = self.tasks.get_mut(task)
            && let Status::Completed(result, _) = &run.status
        {
            self.result_bytes_left += result.size();
            run.status = Status::Cancelled(failure.clone());
        }
    }

    /// Changes an id that another task has already: agents and readers tell tasks apart by id. `incoming` are the ids of the
    /// task's own plan.
    pub(super) fn unique_id(&self, id: &TaskId, incoming: &[TaskId]) -> TaskId {
        let refused = |id: &TaskId| {
            self.refused
                .iter()
                .any(|refusal| &refusal.task.view.id == id)
        };
        let free = |id: &TaskId| !refused(id) && self.tasks.iter().all(|run| &run.plan.id != id);
        if free(id) {
            return id.clone();
        }
        let round = self.round;
        let named = std::iter::once(format!("r{round}-{id}"));
        // An id may be too long for a prefix, or the prefixed id may exist too.
        let mut numbered = named.chain((1..).map(|n| format!("r{round}-{n}")));
        numbered
            .find_map(|text| {
                let id = TaskId::new(text).ok()?;
                (free(&id) && !incoming.contains(&id)).then_some(id)
            })
            .unwrap_or_else(|| id.clone())
    }
}

fn rename(view: &mut [PlannedTaskView], names: &BTreeMap<TaskId, TaskId>) {
    for task in view {
        let edges = task.inferred.iter_mut().map(|edge| &mut edge.from);
        for id in edges.chain(&mut task.depends_on).chain([&mut task.id]) {
            if let Some(name) = names.get(id) {
                *id = name.clone();
            }
        }
    }
}
