use std::sync::Arc;

use amcp_plan::{NoFill, PlanLimits, Rules, compile};
use amcp_protocol::{Failure, ProposedPlan};
use serde_json::{Value, json};

use super::*;
use crate::eval::read;

fn case(case: Value) -> Case {
    let ledger = json!({"name": "ledger.read", "description": "Reads.", "produces": [{"type": "rows"}],
        "params": {"type": "object", "properties": {"quarter": {"type": "string"}, "limit": {"type": "integer", "default": 10}}}});
    let report = json!({"name": "report.write", "description": "Writes.", "effect": "write", "consumes": [{"param": "rows", "types": ["rows"]}],
        "params": {"type": "object", "properties": {"rows": {}, "title": {"type": "string"}, "format": {"type": "string"}}, "required": ["rows"]}});
    let weather = json!({"name": "weather.get", "description": "Reads.",
        "params": {"type": "object", "properties": {"city": {"type": "string"}, "date": {"type": "string"}}}});
    let file = json!({"cards": [ledger, report, weather], "cases": [case]});
    let mut cases = read(&file.to_string(), &Arc::default(), &mut |_| {
        Err("none".to_owned())
    });
    cases.as_mut().unwrap().remove(0)
}

fn planned(case: &Case, tasks: Value, unplaced: &[&str], notes: &[&str]) -> Planned {
    let proposal: ProposedPlan = serde_json::from_value(json!({"tasks": tasks})).unwrap();
    let rules = Rules {
        catalogue: &case.catalogue,
        access: &amcp_protocol::Access::default(),
        limits: &PlanLimits::default(),
        fill: &NoFill,
    };
    let owned = |texts: &[&str]| texts.iter().map(|&text| text.to_owned()).collect();
    let mut plan = Plan::default();
    if !proposal.tasks.is_empty() {
        plan = compile(&proposal, &rules).unwrap();
    }
    plan.unplaced = owned(unplaced);
    Planned {
        plan,
        planner: "test".to_owned(),
        llm_calls: 0,
        usage: amcp_protocol::llm::Usage::default(),
        notes: owned(notes),
    }
}

/// What a plan is worth where the case expects these tasks.
fn worth(expect: Value, tasks: Value, unplaced: &[&str], notes: &[&str]) -> Outcome {
    verdict(
        json!({"query": "q", "expect": expect}),
        tasks,
        unplaced,
        notes,
    )
    .outcome
}

fn verdict(one: Value, tasks: Value, unplaced: &[&str], notes: &[&str]) -> Verdict {
    let case = case(one);
    judge(&case, Ok(&planned(&case, tasks, unplaced, notes)))
}

fn paris() -> Value {
    json!([{"capability": "weather.get", "params": {"city": "Paris"}}])
}

use Outcome::{Declined, Partly, Right, SilentlyWrong};

#[test]
fn the_expected_plan_is_right() {
    assert_eq!(worth(paris(), paris(), &[], &[]), Right);
    assert_eq!(worth(json!([]), json!([]), &["q"], &[]), Right);
    assert_eq!(worth(json!([]), json!([]), &[], &[]), Right);
    // A note beside it is no fault.
    assert_eq!(worth(paris(), paris(), &[], &["for your boss"]), Right);
}

#[test]
fn a_value_that_is_not_expected_is_silently_wrong_unless_a_note_names_it() {
    let expect = json!([{"capability": "ledger.read", "params": {"quarter": "Q4 2024"}}]);
    let made = |params: Value| json!([{"capability": "ledger.read", "params": params}]);
    let wrong = made(json!({"quarter": "Q3 2025"}));
    assert_eq!(
        worth(expect.clone(), wrong.clone(), &[], &[]),
        SilentlyWrong
    );
    assert_eq!(
        worth(expect.clone(), wrong.clone(), &[], &["took Q3 2025"]),
        Partly
    );
    assert_eq!(
        worth(expect.clone(), wrong, &[], &["took something"]),
        SilentlyWrong
    );
    let all = made(json!({}));
    assert_eq!(worth(expect.clone(), all.clone(), &[], &[]), SilentlyWrong);
    assert_eq!(
        worth(expect.clone(), all, &[], &["'Q4 2024' was not understood"]),
        Partly
    );
    let more = made(json!({"quarter": "Q4 2024", "limit": 5}));
    assert_eq!(worth(expect.clone(), more, &[], &[]), SilentlyWrong);
    let default = made(json!({"quarter": "Q4 2024", "limit": 10}));
    assert_eq!(worth(expect, default, &[], &[]), Right);
}

#[test]
fn a_task_that_is_not_expected_is_silently_wrong_unless_it_reads_and_a_note_names_it() {
    let two = json!([{"capability": "weather.get", "params": {"city": "Paris"}}, {"capability": "ledger.read", "params": {}}]);
    assert_eq!(worth(paris(), two.clone(), &[], &[]), SilentlyWrong);
    assert_eq!(
        worth(paris(), two.clone(), &[], &["perhaps ledger.read helps"]),
        Partly
    );
    assert_eq!(worth(json!([]), two, &[], &[]), SilentlyWrong);
    let write = json!([{"capability": "report.write", "params": {"rows": ["a"]}}]);
    let verdict = verdict(
        json!({"query": "q", "expect": []}),
        write,
        &[],
        &["report.write"],
    );
    assert_eq!((verdict.outcome, verdict.wrong_writes), (SilentlyWrong, 1));
    assert_eq!(verdict.why, ["report.write is not expected"]);
}

#[test]
fn no_task_is_declined_only_when_something_is_said() {
    assert_eq!(worth(paris(), json!([]), &["q"], &[]), Declined);
    assert_eq!(worth(paris(), json!([]), &[], &["no city"]), Declined);
    assert_eq!(worth(paris(), json!([]), &[], &[]), SilentlyWrong);
    let case = case(json!({"query": "q", "expect": paris()}));
    let mut direct = planned(&case, json!([]), &[], &["note"]);
    direct.plan.answer_directly = Some("It is sunny.".to_owned());
    assert_eq!(judge(&case, Ok(&direct)).outcome, SilentlyWrong);
    let error = |code| PlanningError {
        failure: Failure::new(code, "no plan"),
        planner: "test".to_owned(),
        llm_calls: 0,
        usage: amcp_protocol::llm::Usage::default(),
        proposal: None,
    };
    let judged = |code| judge(&case, Err(&error(code))).outcome;
    assert_eq!(judged(ErrorCode::InvalidPlan), Declined);
    assert_eq!(judged(ErrorCode::LlmUnavailable), Outcome::Failed);
}

#[test]
fn a_missing_task_makes_a_plan_right_in_part() {
    let two = json!([{"capability": "weather.get", "params": {"city": "Paris"}}, {"capability": "weather.get", "params": {"city": "Rome"}}]);
    assert_eq!(worth(two.clone(), paris(), &[], &[]), Partly);
    // Whatever their order, each task is compared with the one that it is closest to.
    let swapped = json!([{"capability": "weather.get", "params": {"city": "Rome"}}, {"capability": "weather.get", "params": {"city": "Paris"}}]);
    let verdict = verdict(json!({"query": "q", "expect": two}), swapped, &[], &[]);
    assert_eq!(verdict.outcome, Right);
    let all = Tally {
        expected: 2,
        made: 2,
        right: 2,
    };
    assert_eq!((verdict.nodes, verdict.values), (all, all));
}

#[test]
fn what_is_left_out_must_be_said_and_must_be_meant() {
    let declining = |words: Value| json!({"query": "q", "expect": paris(), "declines": words});
    let worth = |case: Value, unplaced: &[&str]| verdict(case, paris(), unplaced, &[]).outcome;
    assert_eq!(
        worth(declining(json!(["flight"])), &["book a flight"]),
        Right
    );
    assert_eq!(
        worth(declining(json!(["flight"])), &["book a hotel"]),
        Partly
    );
    assert_eq!(worth(declining(json!(["flight"])), &[]), Partly);
    assert_eq!(worth(declining(json!([])), &["no joke"]), Right);
    assert_eq!(worth(declining(json!([])), &[]), Right);
    assert_eq!(
        worth(json!({"query": "q", "expect": paris()}), &["please"]),
        Partly
    );
}

#[test]
fn results_must_go_where_they_are_expected() {
    let expect = json!([
        {"capability": "ledger.read", "params": {"quarter": "Q4 2024"}},
        {"capability": "report.write", "params": {}, "free": ["title"], "depends_on": ["t1"]},
    ]);
    let made = |rows: Value| {
        json!([
            {"id": "a", "capability": "ledger.read", "params": {"quarter": "Q4 2024"}},
            {"id": "b", "capability": "weather.get", "params": {"city": "Paris"}},
            {"id": "c", "capability": "report.write", "params": {"rows": rows, "title": "Autumn"}},
        ])
    };
    let case = json!({"query": "q", "expect": expect, "or": [[]]});
    let right = verdict(
        case.clone(),
        made(json!({"$ref": "a"})),
        &[],
        &["weather.get"],
    );
    assert_eq!(right.outcome, Partly, "{:?}", right.why);
    assert_eq!(
        right.edges,
        Tally {
            expected: 1,
            made: 1,
            right: 1
        }
    );
    let wrong = verdict(
        case.clone(),
        made(json!({"$ref": "b"})),
        &[],
        &["weather.get"],
    );
    assert_eq!(
        (wrong.outcome, wrong.wrong_writes),
        (SilentlyWrong, 1),
        "{:?}",
        wrong.why
    );
    assert_eq!(wrong.edges.right, 0);
    assert_eq!(verdict(case, json!([]), &["q"], &[]).outcome, Right);
}

#[test]
fn params_are_judged_by_the_closest_alternative_and_not_at_all_without_any() {
    let expect = json!([{"capability": "weather.get", "params": [{"city": "Paris"}, {"city": "Rome", "date": "2025-11-21"}]}]);
    let made =
        json!([{"capability": "weather.get", "params": {"city": "Rome", "date": "2025-11-21"}}]);
    assert_eq!(worth(expect.clone(), made.clone(), &[], &[]), Right);
    let mixed =
        json!([{"capability": "weather.get", "params": {"city": "Paris", "date": "2025-11-21"}}]);
    assert_eq!(worth(expect, mixed, &[], &[]), SilentlyWrong);
    assert_eq!(
        worth(json!([{"capability": "weather.get"}]), made, &[], &[]),
        Right
    );
}

#[test]
fn an_optional_task_counts_only_where_it_is() {
    let expect = json!([
        {"capability": "ledger.read", "params": {}},
        {"capability": "report.write", "params": {}, "depends_on": ["t1"], "optional": true},
    ]);
    let read = json!([{"capability": "ledger.read", "params": {}}]);
    let short = verdict(json!({"query": "q", "expect": expect}), read, &[], &[]);
    assert_eq!(
        (short.outcome, short.nodes.expected, short.edges.expected),
        (Right, 1, 0)
    );
    let both = json!([{"capability": "ledger.read", "params": {}}, {"capability": "report.write", "params": {"rows": {"$ref": "t1"}}}]);
    let long = verdict(json!({"query": "q", "expect": expect}), both, &[], &[]);
    assert_eq!(
        (long.outcome, long.nodes.expected, long.edges.right),
        (Right, 2, 1)
    );
}

#[test]
fn a_write_of_what_a_wrong_read_gave_is_a_wrong_write() {
    let expect = json!([
        {"capability": "ledger.read", "params": {"quarter": "Q4"}},
        {"capability": "report.write", "free": ["rows"], "depends_on": ["t1"]},
    ]);
    let writes = |quarter: &str| {
        let tasks = json!([{"capability": "ledger.read", "params": {"quarter": quarter}}, {"capability": "report.write"}]);
        let one = json!({"query": "q", "expect": expect});
        verdict(one, tasks, &[], &[&format!("took {quarter}")]).wrong_writes
    };
    assert_eq!((writes("Q4"), writes("Q3")), (0, 1));
}
