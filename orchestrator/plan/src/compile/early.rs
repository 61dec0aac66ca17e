//! Compiles one task of a plan that still arrives, if no later task can change it.
//!
//! Does not replace compiling the whole plan, which may still refuse or change the task.

use amcp_protocol::{Effect, ProposedPlan, ProposedTask, TaskId};
use serde_json::Value;

use super::{Rules, compile, judge};
use crate::plan::PlanTask;

/// Compiles a task that may start before the rest of its plan is known: a task with an id that only reads, is idempotent,
/// consumes nothing, waits for nothing, and keeps its schema and the limits by itself. None for any other task.
#[must_use]
pub fn compile_early(task: &ProposedTask, rules: &Rules<'_>) -> Option<PlanTask> {
    let has_id = task.id.as_deref().is_some_and(|id| TaskId::new(id).is_ok());
    if !has_id || !task.depends_on.is_empty() || task.params.values().any(may_refer) {
        return None;
    }
    let capability = &judge::capability(&task.capability, 0, rules)
        .ok()?
        .capability;
    if capability.effect != Effect::Read || !capability.idempotent {
        return None;
    }
    // A later task may produce its input.
    if !capability.consumes.is_empty() {
        return None;
    }
    let alone = ProposedPlan {
        tasks: vec![task.clone()],
        ..ProposedPlan::default()
    };
    let [task] = <[PlanTask; 1]>::try_from(compile(&alone, rules).ok()?.tasks).ok()?;
    (task.after.is_empty() && task.references.is_empty()).then_some(task)
}

/// Whether a later task's id could turn the value into a reference.
fn may_refer(value: &Value) -> bool {
    match value {
        Value::String(text) => {
            text.trim_start().starts_with('$') || text.contains("{{") || text.contains("${")
        }
        Value::Array(items) => items.iter().any(may_refer),
        Value::Object(fields) => fields.contains_key("$ref") || fields.values().any(may_refer),
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use amcp_protocol::Access;
    use proptest::prelude::*;
    use serde_json::json;

    use super::super::testing::{catalogue, compiled, proposal};
    use super::super::{NoFill, PlanLimits};
    use super::*;

    fn early(tasks: Value) -> Option<PlanTask> {
        let rules = Rules {
            catalogue: &catalogue(),
            access: &Access::default(),
            limits: &PlanLimits::default(),
            fill: &NoFill,
        };
        compile_early(&proposal(tasks).tasks[0], &rules)
    }

    #[test]
    fn what_only_reads_and_stands_alone_is_early() {
        let rome = json!([{"id": "t1", "capability": "weather.get", "params": {"city": "Rome", "days": "3"}}]);
        let task = early(rome).unwrap();
        assert_eq!(task.id.as_str(), "t1");
        assert_eq!(task.params, json!({"city": "Rome", "days": 3}));
        assert!(early(json!([{"id": "a-b", "capability": "joke.get", "params": {}}])).is_some());
    }

    #[test]
    fn what_the_rest_of_the_plan_may_change_is_not_early() {
        let weather = |id: &str, params: Value| json!([{"id": id, "capability": "weather.get", "params": params}]);
        for tasks in [
            json!([{"capability": "weather.get", "params": {"city": "Rome"}}]),
            weather(" t1", json!({"city": "Rome"})),
            weather("t 1", json!({"city": "Rome"})),
            weather("t1", json!({})),
            weather("t1", json!({"city": 3.5, "days": "many"})),
            weather("t1", json!({"city": "Rome", "colour": "red"})),
            weather("t1", json!({"city": "$t2.city"})),
            weather("t1", json!({"city": {"$ref": "t2"}})),
            weather("t1", json!({"city": "the city of {{t2}}"})),
            json!([{"id": "t1", "capability": "joke.get", "params": {}, "depends_on": ["t2"]}]),
            json!([{"id": "t1", "capability": "text.summarize", "params": {"text": "long"}}]),
            json!([{"id": "t1", "capability": "payment.send", "params": {"to": "Ann"}}]),
            json!([{"id": "t1", "capability": "salary.list", "params": {}}]),
            json!([{"id": "t1", "capability": "no.such", "params": {}}]),
        ] {
            assert!(early(tasks.clone()).is_none(), "{tasks}");
        }
    }

    proptest! {
        /// The exception: params that a later task hands back to an early one, see below.
        #[test]
        fn invariant_the_whole_plan_repeats_an_early_task(
            id in "[a-z]{1,2}[0-9]?",
            city in "[$a-z{}. ]{0,6}",
            before in prop::collection::vec(0..5_usize, 0..2),
            after in prop::collection::vec(0..5_usize, 0..3),
        ) {
            let task = json!({"id": id, "capability": "weather.get", "params": {"city": city}});
            let others = [
                json!({"capability": "joke.get", "params": {}}),
                json!({"capability": "text.summarize", "params": {}}),
                json!({"id": "b1", "capability": "text.summarize", "params": {"text": {"$ref": id}}}),
                json!({"capability": "document.report.generate", "params": {"format": "pdf"}, "depends_on": [id]}),
                json!({"id": "a2", "capability": "finance.db.query", "params": {"quarter": "Q1"}}),
            ];
            let pick = |which: &Vec<usize>| which.iter().map(|&i| others[i].clone()).collect::<Vec<_>>();
            let tasks = [pick(&before), vec![task.clone()], pick(&after)].concat();
            if let (Some(early), Ok(plan)) = (early(json!([task])), compiled(json!(tasks))) {
                let same = plan.tasks.iter().find(|task| task.id == early.id).unwrap();
                prop_assert_eq!(
                    (&same.id, &same.capability, &same.params, &same.after),
                    (&early.id, &early.capability, &early.params, &early.after)
                );
            }
        }
    }

    #[test]
    fn params_that_a_later_task_hands_back_make_another_task_of_it() {
        let task = json!({"id": "t1", "capability": "weather.get", "params": {"city": "Rome"}});
        let later = json!({"id": "t2", "capability": "text.summarize", "params": {"text": {"$ref": "t1"}, "days": 3}});
        let plan = compiled(json!([task, later])).unwrap();
        let task = early(json!([task])).unwrap();
        assert_ne!(plan.tasks[0].params, task.params);
    }
}
