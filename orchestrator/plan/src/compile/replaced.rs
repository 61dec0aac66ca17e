//! Decides which tasks of earlier rounds a later plan replaces.
//!
//! A task that no later task replaces stays missing: a later plan with one task must not hide that three others failed.

use amcp_protocol::TaskId;

use super::{Rules, Unfinished};
use crate::plan::PlanTask;

/// The earlier tasks that each task of the plan replaces: those that the planner names, and of the rest one task with the same
/// capability, or with a result of the same type. `named` holds the planner's words for each task.
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
    let same = |task: &PlanTask, unfinished: &Unfinished| task.capability == unfinished.capability;
    let alike = |task: &PlanTask, unfinished: &Unfinished| {
        let made = rules.catalogue.get(task.capability.as_str());
        let (Some(made), Some(wanted)) = (made, &unfinished.contract) else {
            return false;
        };
        let mut made = made.capability.produces.iter().map(|p| &p.value_type);
        let wanted = &wanted.capability.produces;
        made.any(|made| wanted.iter().any(|p| &p.value_type == made))
    };
    for fits in [&same as &Match<'_>, &alike] {
        for task in tasks.iter_mut().filter(|task| task.replaces.is_empty()) {
            if let Some(at) = open.iter().position(|unfinished| fits(task, unfinished)) {
                task.replaces.push(open.remove(at).id.clone());
            }
        }
    }
}

type Match<'a> = dyn Fn(&PlanTask, &Unfinished) -> bool + 'a;
