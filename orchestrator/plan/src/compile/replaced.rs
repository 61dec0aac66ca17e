//! Which tasks of earlier rounds a later plan makes up for.
//!
//! What nobody makes up for stays missing: a later plan with one task must not hide that three others failed.

use std::sync::Arc;

use amcp_protocol::{Contract, TaskId};

use super::{Rules, Unfinished};
use crate::plan::PlanTask;

/// What each task of the plan replaces: what the planner names, and of the rest one task with the same capability, or
/// with a result of the same type. `named` holds the planner's words for the tasks that it proposed.
pub(super) fn settle(
    tasks: &mut [PlanTask],
    named: impl Iterator<Item = Vec<String>>,
    rules: &Rules<'_>,
) {
    let mut open: Vec<&Unfinished> = rules.unfinished.iter().collect();
    for (task, names) in tasks.iter_mut().zip(named) {
        let is_named = |id: &TaskId| {
            names
                .iter()
                .any(|name| name.trim().trim_start_matches('$') == id.as_str())
        };
        open.retain(|unfinished| {
            let named = is_named(&unfinished.id);
            if named {
                task.replaces.push(unfinished.id.clone());
            }
            !named
        });
    }
    let same: Match = |task, unfinished| task.capability() == &unfinished.capability;
    let alike: Match = |task, unfinished| {
        let types = |contract: &Arc<Contract>| {
            let produces = contract.capability.produces.iter();
            produces
                .map(|produces| produces.value_type.clone())
                .collect::<Vec<_>>()
        };
        let wanted = unfinished.contract.as_ref().map(types).unwrap_or_default();
        types(&task.contract)
            .iter()
            .any(|made| wanted.contains(made))
    };
    for fits in [same, alike] {
        for task in tasks.iter_mut().filter(|task| task.replaces.is_empty()) {
            if let Some(at) = open.iter().position(|unfinished| fits(task, unfinished)) {
                task.replaces.push(open.remove(at).id.clone());
            }
        }
    }
}

type Match = fn(&PlanTask, &Unfinished) -> bool;
