//! Compiles the possible part of a proposal with impossible tasks.
//!
//! Planners call this after the last repair: one unknown or forbidden task must not fail the others. Does not mend tasks.

use std::collections::BTreeSet;
use std::sync::Arc;

use amcp_protocol::plan::PlannedTaskView;
use amcp_protocol::{
    Capability, CapabilityName, Contract, ErrorCode, Failure, ProposedPlan, TaskState,
};
use serde_json::Value;

use super::{PlanError, Rules, compile_for};
use crate::catalogue::Catalogue;
use crate::plan::{Plan, PlanTask, RefusedTask};

/// Compiles a proposal like [`super::compile`], but leaves out tasks that no agent offers, tasks that the user may not use,
/// and tasks that need such a task: [`Plan::refused`] lists them. A task that waits for an optional one of these stays.
///
/// # Errors
/// Those of [`super::compile`], and the first refusal when no task is left.
pub fn compile_possible(proposal: &ProposedPlan, rules: &Rules<'_>) -> Result<Plan, PlanError> {
    let (proposal, unknown) = with_names(proposal, rules.catalogue);
    let stand_ins = unknown.iter().filter_map(|name| {
        let capability = Capability::new(name.as_str(), "Offered by no agent.");
        Contract::new(capability).ok().map(Arc::new)
    });
    let all: Catalogue = rules.catalogue.iter().cloned().chain(stand_ins).collect();
    let everybody = Rules {
        catalogue: &all,
        ..*rules
    };
    let plan = compile_for(&proposal, &everybody, |_| Ok(()))?;
    let refusals = refusals(&plan, &unknown, rules);
    if refusals.iter().all(Option::is_some) {
        // No task is possible: the ordinary compilation names the reason.
        return super::compile(&proposal, rules);
    }
    Ok(without(plan, refusals))
}

/// The proposal with well-formed capability names, and the names among them that no agent offers.
fn with_names(
    proposal: &ProposedPlan,
    catalogue: &Catalogue,
) -> (ProposedPlan, BTreeSet<CapabilityName>) {
    let (mut proposal, mut unknown) = (proposal.clone(), BTreeSet::new());
    for task in &mut proposal.tasks {
        let name = task.capability.trim().to_lowercase();
        if catalogue.get(&task.capability).is_some() || catalogue.get(&name).is_some() {
            continue;
        }
        let sound = |c: char| {
            if c.is_ascii_alphanumeric() || c == '.' {
                c
            } else {
                '-'
            }
        };
        let name: String = name.chars().take(100).map(sound).collect();
        let named = CapabilityName::new(&name)
            .or_else(|_| CapabilityName::new(format!("unknown.{}", name.replace('.', "-"))));
        // A mended name must not match an existing capability.
        let unknown_name = |name: &CapabilityName| {
            let known = catalogue.get(name.as_str()).is_some();
            known.then(|| {
                CapabilityName::new(format!("unknown.{}", name.as_str().replace('.', "-")))
            })
        };
        let named = named.and_then(|name| unknown_name(&name).unwrap_or(Ok(name)));
        if let Ok(name) = named {
            task.capability = name.to_string();
            unknown.insert(name);
        }
    }
    (proposal, unknown)
}

/// The reason why each task cannot be done; none for the possible tasks.
fn refusals(
    plan: &Plan,
    unknown: &BTreeSet<CapabilityName>,
    rules: &Rules<'_>,
) -> Vec<Option<(TaskState, Failure)>> {
    let itself = |task: &PlanTask| {
        let name = &task.capability;
        let failure = if unknown.contains(name) {
            let message = format!("no agent offers {name}");
            Failure::new(ErrorCode::UnknownCapability, message)
        } else {
            let contract = rules.catalogue.get(name.as_str())?;
            rules.access.check(&contract.capability).err()?
        };
        Some((TaskState::Failed, failure))
    };
    let mut refusals: Vec<_> = plan.tasks.iter().map(itself).collect();
    // The plan is acyclic, so each pass settles at least the next level of tasks.
    loop {
        let skipped = plan.tasks.iter().enumerate().find_map(|(index, task)| {
            let open = matches!(refusals.get(index), Some(None));
            let is_needed = |before: &&usize| {
                let refused = matches!(refusals.get(**before), Some(Some(_)));
                // Tasks that wait for an optional task go on without it.
                refused && plan.tasks.get(**before).is_some_and(|task| !task.optional)
            };
            let needed = task.after.iter().find(is_needed).filter(|_| open)?;
            Some((index, plan.tasks.get(*needed)?.id.clone()))
        });
        let Some((index, needed)) = skipped else {
            return refusals;
        };
        if let Some(refusal) = refusals.get_mut(index) {
            let message = format!("it needs the result of {needed}, which cannot be done");
            let failure = Failure::new(ErrorCode::DependencyFailed, message);
            *refusal = Some((TaskState::Skipped, failure));
        }
    }
}

/// The plan without its refused tasks and without references to them.
fn without(mut plan: Plan, refusals: Vec<Option<(TaskState, Failure)>>) -> Plan {
    let views: Vec<PlannedTaskView> = plan.view();
    let mut places: Vec<Option<usize>> = Vec::with_capacity(refusals.len());
    let mut kept = Vec::new();
    for ((task, refusal), view) in plan.tasks.into_iter().zip(refusals).zip(views) {
        places.push(refusal.is_none().then_some(kept.len()));
        match refusal {
            None => kept.push(task),
            Some((state, failure)) => plan.refused.push(RefusedTask {
                view,
                state,
                failure,
                optional: task.optional,
            }),
        }
    }
    let place = |before: usize| places.get(before).copied().flatten();
    let refused: BTreeSet<_> = plan.refused.iter().map(|task| &task.view.id).collect();
    for task in &mut kept {
        task.after = task.after.iter().copied().filter_map(place).collect();
        task.inferred.retain(|edge| !refused.contains(&edge.from));
        task.references
            .retain_mut(|reference| match place(reference.from) {
                Some(from) => {
                    reference.from = from;
                    true
                }
                None => {
                    let mut params = Value::clone(&task.params);
                    reference.leave_out_of(&mut params);
                    task.params = params.into();
                    false
                }
            });
    }
    plan.tasks = kept;
    plan
}
