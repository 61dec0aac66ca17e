//! Finds the incomplete or refused tasks of earlier plans that a later plan replaces.
//!
//! Tasks without a replacement stay missing; [`super::conclude`] reports them.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Machine;
use super::task::{Status, TaskRun};
use crate::plan::{PlanTask, RefusedTask};

/// A refused task of a plan.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Refusal {
    pub(super) task: RefusedTask,
    /// The task of a later round that replaces it once it is done.
    pub(super) replaced_by: Option<usize>,
}

impl Refusal {
    pub(super) const fn of(task: RefusedTask) -> Self {
        let replaced_by = None;
        Self { task, replaced_by }
    }
}

impl Machine {
    /// Notes the earlier tasks that each task of a later plan replaces: those that it names, or without names one failed task
    /// with the same params and inputs. Only a name replaces a task that was done in part.
    pub(super) fn replace(&mut self, added: &[usize]) {
        for &new in added {
            let Some(task) = self.tasks.get(new).map(|run| &run.plan) else {
                continue;
            };
            let unfinished = |run: &TaskRun| {
                run.replaced_by.is_none()
                    && run.unplanned.is_none()
                    && !matches!(run.status, Status::Completed(_, None))
            };
            let again =
                |run: &TaskRun| run.status.failure().is_some() && self.repeats(task, &run.plan);
            let mut earlier = self.tasks.iter().take(self.round_start);
            let replaced: Vec<usize> = if task.replaces.is_empty() {
                let same = earlier.position(|run| unfinished(run) && again(run));
                same.into_iter().collect()
            } else {
                let named = |run: &TaskRun| task.replaces.contains(&run.plan.id);
                let named = earlier
                    .enumerate()
                    .filter(|(_, run)| unfinished(run) && named(run));
                named.map(|(index, _)| index).collect()
            };
            let refused = task.replaces.clone();
            for index in replaced {
                if let Some(run) = self.tasks.get_mut(index) {
                    run.replaced_by = Some(new);
                }
            }
            for refusal in &mut self.refused {
                if refused.contains(&refusal.task.view.id) {
                    refusal.replaced_by = Some(new);
                }
            }
        }
    }

    /// Whether a later task has the capability, the params and the inputs of an earlier one.
    fn repeats(&self, new: &PlanTask, old: &PlanTask) -> bool {
        let bare = |task: &PlanTask| {
            let mut params = Value::clone(&task.params);
            for reference in &task.references {
                reference.leave_out_of(&mut params);
            }
            params
        };
        let stands_for = |new: usize, old: usize| {
            new == old
                || self
                    .tasks
                    .get(old)
                    .is_some_and(|run| run.replaced_by == Some(new))
        };
        new.capability == old.capability
            && new.references.len() == old.references.len()
            && new
                .references
                .iter()
                .zip(&old.references)
                .all(|(new, old)| {
                    (&new.place, &new.path) == (&old.place, &old.path)
                        && stands_for(new.from, old.from)
                })
            && bare(new) == bare(old)
    }

    /// Whether the replacing task, or one that replaced it in turn, has completed.
    pub(super) fn is_made_up_for(&self, replaced_by: Option<usize>) -> bool {
        let Some(by) = replaced_by.and_then(|by| self.tasks.get(by)) else {
            return false;
        };
        // Ends, because a replacement is always younger.
        matches!(by.status, Status::Completed(..)) || self.is_made_up_for(by.replaced_by)
    }
}
