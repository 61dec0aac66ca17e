//! The rules for a plan, each with an error that lets a planner repair the plan.
//!
//! Mends nothing.

use std::collections::BTreeSet;
use std::sync::Arc;

use amcp_protocol::{
    Capability, Consumes, Contract, ErrorCode, ProposedPlan, ProposedTask, Violation, payload,
};
use serde_json::{Map, Value};

use super::draft::{Draft, Drafts};
use super::mend::options;
use super::shape::{self, Place};
use super::{PlanError, PlanLimits, Rules};

/// Refuses a plan without a task and a direct answer.
pub(super) fn something_to_do(proposal: &ProposedPlan) -> Result<(), PlanError> {
    if !proposal.tasks.is_empty() || proposal.answer_directly.is_some() {
        return Ok(());
    }
    let problem = if proposal.unplaced.is_empty() {
        "the plan has neither a task nor a direct answer".to_owned()
    } else {
        let parts = proposal.unplaced.join("', '");
        format!("no capability was found for '{parts}'")
    };
    Err(PlanError::new(ErrorCode::NothingPlanned, "tasks", problem))
}

/// Checks the limit on tasks.
pub(super) fn task_count(tasks: usize, limits: &PlanLimits) -> Result<(), PlanError> {
    if tasks <= limits.tasks {
        return Ok(());
    }
    Err(PlanError::new(
        ErrorCode::BudgetExceeded,
        "tasks",
        format!(
            "the plan needs {tasks} tasks, the limit is {}",
            limits.tasks
        ),
    ))
}

/// Finds a capability; ignores upper case and blanks around the name.
pub(super) fn capability<'a>(
    name: &str,
    task: usize,
    rules: &'a Rules<'a>,
) -> Result<&'a Arc<Contract>, PlanError> {
    let catalogue = rules.catalogue;
    let found = catalogue
        .get(name)
        .or_else(|| catalogue.get(&name.trim().to_lowercase()));
    found.ok_or_else(|| {
        let shown: String = name.chars().take(80).collect();
        PlanError::new(
            ErrorCode::UnknownCapability,
            format!("tasks[{task}].capability"),
            format!("no agent offers '{shown}'"),
        )
        .allowed(nearest(name, rules))
    })
}

/// The capabilities that the user may use; those whose names share words with the text come first.
fn nearest<'a>(name: &str, rules: &'a Rules<'a>) -> impl Iterator<Item = &'a str> {
    const SHOWN: usize = 8;
    fn words(text: &str) -> BTreeSet<String> {
        text.split(|c: char| !c.is_alphanumeric())
            .map(str::to_lowercase)
            .collect()
    }
    // A name is short; the beginning of a longer text suffices.
    let wanted = words(
        name.get(..name.floor_char_boundary(256))
            .unwrap_or_default(),
    );
    let mut names: Vec<_> = rules
        .catalogue
        .iter()
        .map(|contract| &contract.capability)
        .filter(|capability| rules.access.allows(capability))
        .map(|capability| capability.name.as_str())
        .collect();
    names.sort_by_cached_key(|name| std::cmp::Reverse(words(name).intersection(&wanted).count()));
    names.into_iter().take(SHOWN)
}

/// Deepest nesting of params, in levels: deeper than any schema here, and shallow enough for every recursive reader.
const MAX_NESTING: usize = 64;

/// Refuses params that nest deeper than [`MAX_NESTING`] levels.
pub(super) fn nesting(proposal: &ProposedPlan) -> Result<(), PlanError> {
    let is_deep = |task: &ProposedTask| is_deeper(&task.params, MAX_NESTING);
    match proposal.tasks.iter().position(is_deep) {
        None => Ok(()),
        Some(task) => Err(PlanError::invalid(
            format!("tasks[{task}].params"),
            format!("values are nested deeper than {MAX_NESTING} levels"),
        )),
    }
}

fn is_deeper(params: &Map<String, Value>, levels: usize) -> bool {
    let nests = |value: &&Value| value.is_array() || value.is_object();
    let mut open: Vec<_> = params.values().filter(nests).map(|v| (v, 1)).collect();
    while let Some((value, level)) = open.pop() {
        if level > levels {
            return true;
        }
        let items = value.as_array().into_iter().flatten();
        let items = items.chain(value.as_object().into_iter().flat_map(Map::values));
        open.extend(items.filter(nests).map(|item| (item, level + 1)));
    }
    false
}

/// Refuses a cycle, and a longest chain past the limit.
pub(super) fn depth(drafts: &Drafts<'_>, limits: &PlanLimits) -> Result<(), PlanError> {
    let mut depths = vec![1; drafts.tasks.len()];
    for task in drafts.order()? {
        let before = drafts.graph.before_it(task);
        let deepest = before.filter_map(|before| depths.get(before)).max();
        let depth = deepest.map_or(1, |depth| depth + 1);
        if depth > limits.depth {
            return Err(PlanError::new(
                ErrorCode::BudgetExceeded,
                format!("tasks[{}]", drafts.at(task).root),
                format!(
                    "{} ends a chain of {depth} tasks that wait for each other, the limit is {}",
                    drafts.named(task),
                    limits.depth
                ),
            ));
        }
        if let Some(slot) = depths.get_mut(task) {
            *slot = depth;
        }
    }
    Ok(())
}

/// Checks the limit on the size of all params.
///
/// Each task's params come with the place of the proposed task that they belong to.
pub(super) fn params_bytes<'p>(
    params: impl Iterator<Item = (usize, &'p Map<String, Value>)>,
    limits: &PlanLimits,
) -> Result<(), PlanError> {
    let mut left = Some(limits.params_bytes);
    for (task, params) in params {
        for (name, value) in params {
            left = left.and_then(|left| {
                let left = left.checked_sub(name.len())?;
                left.checked_sub(payload::size(value, left)?)
            });
        }
        if left.is_none() {
            return Err(PlanError::new(
                ErrorCode::BudgetExceeded,
                format!("tasks[{task}].params"),
                format!(
                    "the params of all tasks take more than {} bytes, which is the limit",
                    limits.params_bytes
                ),
            ));
        }
    }
    Ok(())
}

/// Checks the params of all tasks, except for the places of references.
pub(super) fn params(drafts: &mut Drafts<'_>) -> Result<(), PlanError> {
    for task in 0..drafts.tasks.len() {
        let draft = drafts.at_mut(task);
        let places: Vec<_> = draft.references.iter().map(|r| r.place.clone()).collect();
        let params = Value::Object(std::mem::take(&mut draft.params));
        let violation = draft
            .contract
            .params
            .violations_outside(&params, &places)
            .into_iter()
            .next();
        if let Value::Object(params) = params {
            draft.params = params;
        }
        if let Some(violation) = violation {
            return Err(told(drafts, task, &violation));
        }
    }
    Ok(())
}

/// The first violation, with the value to write instead.
fn told(drafts: &Drafts<'_>, task: usize, violation: &Violation) -> PlanError {
    let draft = drafts.at(task);
    let capability = &draft.contract.capability;
    let path = |rest: &str| format!("tasks[{}].params{rest}", draft.root);
    if let Some(name) = unknown_param(draft) {
        return PlanError::invalid(
            path(&format!(".{name}")),
            format!("{} has no param '{name}'", capability.name),
        )
        .allowed(declared(&capability.params));
    }
    let missing = capability
        .required_params()
        .find(|name| !draft.params.contains_key(*name));
    if let Some(name) = missing {
        let path = path(&format!(".{name}"));
        return missing_param(drafts, capability, name, path);
    }
    let problem = format!("{}: {}", capability.name, violation.message);
    let error = PlanError::invalid(path(&shape::dotted(&violation.path)), problem);
    match shape::place(&capability.params, &violation.path) {
        Place::Described(schema) if !violation.path.is_empty() => {
            if let Some(options) = options(schema) {
                error.allowed(options)
            } else if shape::is_closed(schema) {
                error.allowed(declared(schema))
            } else {
                error.allowed(shape::types(schema))
            }
        }
        Place::Described(_) | Place::Open | Place::Absent => error,
    }
}

fn unknown_param<'d>(draft: &'d Draft<'_>) -> Option<&'d String> {
    let mut names = draft.params.keys().filter(|name| !draft.declares(name));
    names.next().filter(|_| shape::is_closed(draft.schema()))
}

fn declared(schema: &Value) -> impl Iterator<Item = &String> {
    let properties = schema.get("properties").and_then(Value::as_object);
    properties.into_iter().flat_map(|map| map.keys())
}

fn missing_param(
    drafts: &Drafts<'_>,
    capability: &Capability,
    name: &str,
    path: String,
) -> PlanError {
    let problem = format!("{} needs '{name}'", capability.name);
    let Some(consumes) = capability.consumes.iter().find(|c| c.param == name) else {
        let schema = capability.param_schema(name);
        let error = PlanError::invalid(path, problem);
        return match schema.and_then(options) {
            Some(options) => error.allowed(options),
            None => error.allowed(schema.map(shape::types).unwrap_or_default()),
        };
    };
    let producers: Vec<_> = drafts
        .rules
        .catalogue
        .iter()
        .map(|contract| &contract.capability)
        .filter(|producer| drafts.rules.access.allows(producer))
        .filter(|producer| {
            let mut types = producer.produces.iter().map(|p| &p.value_type);
            types.any(|value_type| consumes.types.contains(value_type))
        })
        .map(|producer| &producer.name)
        .collect();
    let types: Vec<_> = consumes.types.iter().map(|t| Consumes::spoken(t)).collect();
    let types = types.join(" or ");
    let hint = if producers.is_empty() {
        "give the value: no capability produces it"
    } else {
        "add a task that produces it, with the params that it needs, and refer to its result"
    };
    PlanError::invalid(path, format!("{problem} ({types}): {hint}")).allowed(producers)
}

/// Checks what the user may use. Last, so that faults of the plan itself do not depend on the user.
pub(super) fn authorisation(drafts: &Drafts<'_>) -> Result<(), PlanError> {
    for draft in &drafts.tasks {
        let capability = &draft.contract.capability;
        if let Err(failure) = drafts.rules.access.check(capability) {
            let path = format!("tasks[{}].capability", draft.root);
            return Err(PlanError::new(failure.code, path, failure.message));
        }
    }
    Ok(())
}
