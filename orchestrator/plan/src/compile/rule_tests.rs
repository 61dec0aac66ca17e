//! Each rule of the compiler, broken once.

use std::sync::Arc;

use amcp_protocol::{
    Access, Capability, Contract, ErrorCode, ProposedPlan, ProposedTask, TaskState,
};
use serde_json::{Value, json};

use super::testing::{compiled, compiled_with, proposal, wiring};
use super::{NoFill, PlanError, PlanLimits, Rules, compile, compile_possible};
use crate::catalogue::Catalogue;
use crate::plan::Plan;

fn refused(tasks: Value, code: ErrorCode, path: &str, problem: &str) -> Vec<String> {
    let shown = tasks.to_string();
    let error = compiled(tasks).expect_err(&shown);
    assert_eq!(error.code, code, "{shown}: {error}");
    assert_eq!(error.path, path, "{shown}: {error}");
    assert!(error.problem.contains(problem), "{shown}: {error}");
    error.allowed
}

#[test]
fn each_rule_is_named_where_it_is_broken() {
    use ErrorCode::{InvalidPlan, UnknownCapability};
    let joke = json!({"id": "j", "capability": "joke.get"});
    refused(
        json!([joke, joke]),
        InvalidPlan,
        "tasks[1].id",
        "tasks[0] too",
    );
    let near = refused(
        json!([joke, {"capability": "weather.forecast"}]),
        UnknownCapability,
        "tasks[1].capability",
        "'weather.forecast'",
    );
    assert_eq!(near[0], "weather.get");
    assert!(!near.contains(&"salary.list".to_owned()), "not permitted");
    let known = refused(
        json!([joke, {"capability": "joke.get", "depends_on": ["t9"]}]),
        InvalidPlan,
        "tasks[1].depends_on[0]",
        "no task 't9'",
    );
    assert_eq!(known, ["j", "t2"]);
    for dangling in [
        json!({"$ref": "t9"}),
        json!("$t9.text"),
        json!("{{t9.text}}"),
    ] {
        refused(
            json!([joke, {"capability": "text.summarize", "params": {"text": dangling}}]),
            InvalidPlan,
            "tasks[1].params.text",
            "no task 't9'",
        );
    }
    refused(
        json!([joke, {"capability": "text.summarize", "params": {"text": "It is {{j.text}}."}}]),
        InvalidPlan,
        "tasks[1].params.text",
        "inside a text",
    );
    let parts = refused(
        json!([{"capability": "weather.get", "params": {"city": "Paris"}},
               {"capability": "document.report.generate", "params": {"title": "$t1.headline", "content": 1, "format": "pdf"}}]),
        InvalidPlan,
        "tasks[1].params.title",
        "no '/headline'",
    );
    assert_eq!(parts, ["/text", "/temperature"]);
    refused(
        json!([{"capability": "weather.get", "params": {"city": "Paris"}},
               {"capability": "document.report.generate", "params": {"title": "$t1.temperature", "content": 1, "format": "pdf"}}]),
        InvalidPlan,
        "tasks[1].params.title",
        "is number, but string",
    );
}

#[test]
fn a_circle_is_named() {
    use ErrorCode::CyclicPlan;
    let joke = json!({"id": "j", "capability": "joke.get"});
    refused(
        json!([{"capability": "joke.get", "depends_on": "t2"}, {"capability": "joke.get", "depends_on": "t3"},
               {"capability": "joke.get", "depends_on": "t1"}]),
        CyclicPlan,
        "tasks[0]",
        "t1 → t2 → t3 → t1",
    );
    refused(
        json!([joke, {"capability": "text.summarize", "params": {"text": "$t2.text"}}]),
        CyclicPlan,
        "tasks[1]",
        "t2 → t2",
    );
}

#[test]
fn params_are_named_with_what_they_may_be() {
    use ErrorCode::{InvalidPlan, NotPermitted};
    let joke = json!({"id": "j", "capability": "joke.get"});
    let cities = refused(
        json!([{"capability": "weather.get", "params": {"city": ["Paris"]}}]),
        InvalidPlan,
        "tasks[0].params.city",
        "weather.get",
    );
    assert_eq!(cities, ["string"]);
    let formats = refused(
        json!([{"capability": "document.report.generate", "params": {"content": "x", "format": "docx"}}]),
        InvalidPlan,
        "tasks[0].params.format",
        "docx",
    );
    assert_eq!(formats, ["\"pdf\"", "\"markdown\"", "\"html\""]);
    let names = refused(
        json!([{"capability": "weather.get", "params": {"city": "Paris", "mood": "sunny"}}]),
        InvalidPlan,
        "tasks[0].params.mood",
        "no param 'mood'",
    );
    assert_eq!(names, ["city", "days"]);
    refused(
        json!([{"capability": "weather.get"}]),
        InvalidPlan,
        "tasks[0].params.city",
        "needs 'city'",
    );
    refused(
        json!([joke, {"capability": "salary.list"}]),
        NotPermitted,
        "tasks[1].capability",
        "roles",
    );
}

#[test]
fn the_earlier_rule_is_named_first() {
    let mut tasks = vec![
        json!({"id": "a", "capability": "salary.list"}),
        json!({"id": "b", "capability": "weather.get"}),
        json!({"id": "c", "capability": "joke.get", "depends_on": ["c"]}),
        json!({"id": "d", "capability": "joke.get", "depends_on": ["x"]}),
        json!({"id": "e", "capability": "no.such"}),
        json!({"id": "e", "capability": "joke.get"}),
    ];
    for expected in [
        "tasks[5].id",
        "tasks[4].capability",
        "tasks[3].depends_on[0]",
        "tasks[2]",
        "tasks[1].params.city",
        "tasks[0].capability",
    ] {
        let error = compiled(Value::Array(tasks.clone())).unwrap_err();
        assert_eq!(error.path, expected, "{error}");
        tasks.pop();
    }
}

#[test]
fn an_empty_plan_answers_or_says_what_is_missing() {
    let compile = |plan: &ProposedPlan| compiled_with(plan, &NoFill, &PlanLimits::default());
    let mut plan = ProposedPlan::default();
    assert_eq!(compile(&plan).unwrap_err().code, ErrorCode::NothingPlanned);
    plan.unplaced = vec!["fly me to the moon".to_owned()];
    let error = compile(&plan).unwrap_err();
    assert_eq!(error.code, ErrorCode::NothingPlanned);
    assert!(error.problem.contains("fly me to the moon"));
    plan.answer_directly = Some("No.".to_owned());
    let compiled = compile(&plan).unwrap();
    assert_eq!(compiled.answer_directly.as_deref(), Some("No."));
    assert_eq!(compiled.unplaced, ["fly me to the moon"]);
    // Planned tasks win over a direct answer.
    plan.tasks = proposal(json!([{"capability": "joke.get"}])).tasks;
    assert_eq!(compile(&plan).unwrap().answer_directly, None);
}

#[test]
fn a_param_under_another_name_is_renamed() {
    let mut capability = Capability::new("weather.get", "The weather.");
    capability.params = json!({
        "type": "object",
        "properties": {"city": {"type": "string", "x-aliases": ["place", "location"]}},
        "required": ["city"], "additionalProperties": false,
    });
    let catalogue: Catalogue = [Arc::new(Contract::new(capability).unwrap())]
        .into_iter()
        .collect();
    let limits = PlanLimits::default();
    let rules = Rules {
        catalogue: &catalogue,
        access: &Access::default(),
        limits: &limits,
        fill: &NoFill,
    };
    let plan = |params: Value| {
        let proposal = serde_json::from_value(
            json!({"tasks": [{"capability": "weather.get", "params": params}]}),
        );
        compile(&proposal.unwrap(), &rules).map(|plan| plan.tasks[0].params.clone())
    };
    assert_eq!(
        plan(json!({"location": "NYC"})).unwrap(),
        json!({"city": "NYC"})
    );
    assert!(
        plan(json!({"city": "Paris", "location": "NYC"})).is_err(),
        "two cities are not one"
    );
    assert!(plan(json!({"where": "NYC"})).is_err());
}

#[test]
fn ids_are_made_up_and_mended() {
    let ids = |ids: Value| {
        let tasks: Value = ids
            .as_array()
            .unwrap()
            .iter()
            .map(|id| json!({"id": id, "capability": "joke.get"}))
            .collect();
        let tasks = compiled(tasks).unwrap().tasks;
        tasks.iter().map(|t| t.id.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(ids(json!([null, "", "x"])), ["t1", "t2", "x"]);
    assert_eq!(ids(json!(["t1", null, 3])), ["t1", "t2", "3"]);
    assert_eq!(ids(json!(["t2", null, 3])), ["t2", "t1", "3"]);
    assert_eq!(ids(json!(["a b", "a_b", "a.b"])), ["a_b-2", "a_b", "a_b-3"]);
    let long = "x".repeat(300);
    assert!(compiled(json!([{"id": long, "capability": "joke.get"}])).is_err());
    // References follow a mended id; an id with a dot is found whole.
    let plan = compiled(json!([
        {"id": "get weather", "capability": "weather.get", "params": {"city": "Paris"}},
        {"id": "v1.0", "capability": "text.summarize", "params": {"text": "$get weather.text"}, "depends_on": ["get weather"]},
        {"id": "t3", "capability": "text.summarize", "params": {"text": "$v1.0.text"}},
    ]))
    .unwrap();
    assert_eq!(
        wiring(&plan),
        ["v1_0.text=get_weather/text", "t3.text=v1_0/text"]
    );
}

#[test]
fn a_text_that_names_no_task_stays_a_text() {
    for text in [
        "$5",
        "$HOME/x",
        "${HOME}",
        "costs $t1 or so",
        "$t1.50 a piece",
        "{{name}}",
        "$",
        "$$",
        "{\"$ref\"}",
    ] {
        let plan = compiled(json!([
            {"capability": "joke.get"},
            {"capability": "text.summarize", "params": {"text": text}},
        ]))
        .unwrap_or_else(|error| panic!("{text}: {error}"));
        assert_eq!(plan.tasks[1].params["text"], text);
        assert!(plan.tasks[1].after.is_empty(), "{text}");
    }
    // A JSON Schema among the params has references of its own.
    let schema = json!({"items": {"$ref": "#/$defs/row"}});
    let plan = compiled(
        json!([{"capability": "document.report.generate", "params": {"content": schema, "format": "pdf"}}]),
    );
    assert_eq!(plan.unwrap().tasks[0].params["content"], schema);
}

#[test]
fn depends_on_may_name_the_only_task_of_a_capability() {
    let plan = compiled(json!([
        {"capability": "Joke.get"},
        {"capability": "weather.get", "params": {"city": "Paris"}, "depends_on": "joke.get", "optional": true},
    ]))
    .unwrap();
    assert_eq!(wiring(&plan), ["t2>t1"]);
    assert!(plan.tasks[1].optional && plan.tasks[1].inferred.is_empty());
}

#[test]
fn limits_are_named() {
    let jokes = |n: usize| ProposedPlan {
        tasks: (0..n)
            .map(|i| ProposedTask {
                capability: "joke.get".to_owned(),
                depends_on: i
                    .checked_sub(1)
                    .map(|i| format!("t{}", i + 1))
                    .into_iter()
                    .collect(),
                ..ProposedTask::default()
            })
            .collect(),
        ..ProposedPlan::default()
    };
    let limits = PlanLimits {
        tasks: 8,
        depth: 4,
        params_bytes: 100,
    };
    let refused = |plan: &ProposedPlan| {
        let error = compiled_with(plan, &NoFill, &limits).unwrap_err();
        assert_eq!(error.code, ErrorCode::BudgetExceeded);
        error.to_string()
    };
    assert!(compiled_with(&jokes(4), &NoFill, &limits).is_ok());
    let deep = refused(&jokes(5));
    assert!(
        deep.contains("tasks[4]") && deep.contains("the limit is 4"),
        "{deep}"
    );
    assert!(refused(&jokes(9)).contains("the limit is 8"));
    let mut large = proposal(json!([{"capability": "weather.get"}]));
    large.tasks[0]
        .params
        .insert("city".to_owned(), "x".repeat(100).into());
    assert!(refused(&large).contains("100 bytes"));
}

fn possible(tasks: Value) -> Result<Plan, PlanError> {
    let rules = Rules {
        catalogue: &super::testing::catalogue(),
        access: &Access::default(),
        limits: &PlanLimits::default(),
        fill: &NoFill,
    };
    compile_possible(&proposal(tasks), &rules)
}

#[test]
fn dependents_of_an_optional_task_that_is_refused_go_on_without_it() {
    let plan = possible(json!([
        {"id": "fly", "capability": "moon.fly", "optional": true},
        {"id": "joke", "capability": "joke.get"},
        {"id": "news", "capability": "moon.news", "params": {"log": "$fly.log"}},
        {"id": "sum", "capability": "text.summarize", "optional": true, "params": {"text": "$news.text"}},
        {"id": "report", "capability": "document.report.generate", "depends_on": ["sum"],
         "params": {"format": "pdf", "content": {"jokes": ["$fly.log", "$joke.text"], "log": "$fly.log"}}},
    ]))
    .unwrap();
    let refused: Vec<_> = plan.refused.iter().map(|r| r.view.id.as_str()).collect();
    assert_eq!(refused, ["fly", "news", "sum"]);
    assert_eq!(wiring(&plan), ["report.content/jokes/1=joke/text"]);
    let report = plan.tasks.last().unwrap();
    assert_eq!(report.after, [0]);
    assert_eq!(report.params["content"]["jokes"][0], Value::Null);
    assert_eq!(report.params["content"].get("log"), None);
    let view = plan.view();
    let report = view.iter().find(|task| task.id.as_str() == "report");
    assert_eq!(report.unwrap().depends_on, [plan.tasks[0].id.clone()]);
}

#[test]
fn what_can_be_done_is_done_without_what_cannot() {
    let plan = possible(json!([
        {"id": "fly", "capability": "Moon Rocket!"},
        {"id": "pay", "capability": "salary.list"},
        {"id": "sum", "capability": "text.summarize", "params": {"text": "$fly.log"}},
        {"id": "joke", "capability": "joke.get"},
        {"id": "about", "capability": "text.summarize", "params": {"text": "$joke.text"}},
    ]))
    .unwrap();
    let ids: Vec<_> = plan.tasks.iter().map(|task| task.id.as_str()).collect();
    assert_eq!(ids, ["joke", "about"]);
    assert_eq!(wiring(&plan), ["about.text=joke/text"]);
    let refused: Vec<_> = plan
        .refused
        .iter()
        .map(|refused| {
            (
                refused.view.id.as_str(),
                refused.failure.code,
                refused.state,
            )
        })
        .collect();
    let (failed, skipped) = (TaskState::Failed, TaskState::Skipped);
    assert_eq!(
        refused,
        [
            ("fly", ErrorCode::UnknownCapability, failed),
            ("pay", ErrorCode::NotPermitted, failed),
            ("sum", ErrorCode::DependencyFailed, skipped),
        ]
    );
    assert_eq!(plan.view().len(), 5, "people are shown all of it");
    let nothing = possible(json!([{"capability": "moon.fly"}])).unwrap_err();
    assert_eq!(nothing.code, ErrorCode::UnknownCapability);
    let broken = possible(
        json!([{"capability": "moon.fly"}, {"capability": "joke.get", "depends_on": ["t9"]}]),
    );
    assert_eq!(
        broken.unwrap_err().code,
        ErrorCode::InvalidPlan,
        "other rules hold"
    );
}
