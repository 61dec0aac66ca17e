//! Edges and tasks that the compiler adds, each with its reason.

use serde_json::{Value, json};

use super::testing::{SaysQ4, compiled, compiled_with, proposal, wiring};
use super::{NoFill, PlanLimits};

/// Capabilities by a letter, so that a table shows the plan.
fn plan(tasks: Value) -> Value {
    let Value::Array(tasks) = tasks else {
        unreachable!("the tables are lists")
    };
    let long = |short: &str| match short {
        "q" => "finance.db.query",
        "a" => "finance.analyze.expenses",
        "r" => "document.report.generate",
        "m" => "summary.mail",
        "w" => "weather.get",
        "s" => "text.summarize",
        "j" => "joke.get",
        "p" => "page.print",
        other => panic!("no capability {other}"),
    };
    tasks
        .into_iter()
        .map(|task| {
            let mut task = task.as_array().unwrap().clone().into_iter();
            let capability = task.next().unwrap();
            json!({
                "capability": long(capability.as_str().unwrap()),
                "params": task.next(),
                "depends_on": task.next(),
            })
        })
        .collect()
}

fn check(tasks: Value, expected: &[&str]) {
    let shown = tasks.to_string();
    let plan = compiled(plan(tasks)).unwrap_or_else(|error| panic!("{shown}: {error}"));
    assert_eq!(wiring(&plan), expected, "{shown}");
}

#[test]
fn the_plan_of_the_requirements_becomes_a_chain() {
    let plan = compiled(json!([
        {"capability": "finance.db.query", "params": {"quarter": "Q4 2024"}},
        {"capability": "finance.analyze.expenses", "params": {"metric": "summary by department"}},
        {"capability": "document.report.generate", "params": {"format": "PDF"}},
    ]))
    .unwrap();
    assert_eq!(wiring(&plan), ["t2.rows=t1/rows", "t3.content=t2/summary"]);
    assert_eq!(plan.tasks[2].params["format"], "pdf");
    assert_eq!(plan.tasks[1].after, [0]);
    assert_eq!(
        plan.tasks[1].inferred[0].reason,
        "finance.analyze.expenses needs 'rows' (expense.rows), which t1 (finance.db.query) produces"
    );
    assert_eq!(plan.tasks[1].inferred[0].from, plan.tasks[0].id);
}

#[test]
fn the_producer_of_an_input_is_chosen_by_preference() {
    let q3 = json!({"quarter": "Q3"});
    let q4 = json!({"quarter": "Q4"});
    let pdf = json!({"format": "pdf"});
    // Two queries and two analyses pair up in order, wherever they stand.
    check(
        json!([["q", q3], ["q", q4], ["a"], ["a"]]),
        &["t3.rows=t1/rows", "t4.rows=t2/rows"],
    );
    check(
        json!([["q", q3], ["a"], ["q", q4], ["a"]]),
        &["t2.rows=t1/rows", "t4.rows=t3/rows"],
    );
    check(
        json!([["a"], ["a"], ["q", q3], ["q", q4]]),
        &["t2.rows=t1/rows", "t4.rows=t3/rows"],
    );
    // A listed producer comes first, also out of order.
    check(
        json!([["q", q3], ["q", q4], ["a", {}, ["t2"]], ["a"]]),
        &["t3.rows=t2/rows", "t4.rows=t1/rows"],
    );
    // A producer with an explicit reference stays with that reference.
    check(
        json!([["q", q3], ["q", q4], ["a", {"rows": "$t1.rows"}], ["a"]]),
        &["t3.rows=t1/rows", "t4.rows=t2/rows"],
    );
    // Several may share one producer; the nearest serves a lone consumer; optional inputs take the producers left over.
    check(
        json!([["q", q3], ["a"], ["a"]]),
        &["t2.rows=t1/rows", "t3.rows=t1/rows"],
    );
    check(
        json!([["q", q3], ["q", q4], ["a"]]),
        &["t3.rows=t2/rows", "t3.baseline=t1/rows"],
    );
    // The preferred type wins over the nearer producer; without it the next type serves.
    check(
        json!([["q", q3], ["a"], ["q", q4], ["r", pdf]]),
        &[
            "t3.rows=t1/rows",
            "t3.baseline=t2/rows",
            "t4.content=t3/summary",
        ],
    );
    check(json!([["q", q3], ["r", pdf]]), &["t2.content=t1/rows"]);
    // Never a cycle: not from a task that waits for this one, wherever it stands.
    let weather = json!(["w", {"city": "Paris"}]);
    check(
        json!([["s"], ["s", {"text": "$t1.text"}], weather]),
        &["t2.text=t1/text", "t3.text=t2/text"],
    );
    check(
        json!([weather, ["s", {"text": "x"}, ["t3"]], ["s"]]),
        &["t2.text=t1/text", "t3>t2"],
    );
}

#[test]
fn some_capabilities_take_any_result_as_a_whole() {
    let q3 = json!({"quarter": "Q3"});
    let paris = json!(["w", {"city": "Paris"}]);
    // Whatever it is, declared as something or not; the nearest one before.
    check(json!([paris, ["p"]]), &["t2.content=t1"]);
    check(json!([paris, ["j"], ["p"]]), &["t3.content=t2"]);
    check(json!([["p"], ["j"]]), &["t2.content=t1"]);
    // A type that the consumer prefers comes first, and the planner's word before the order.
    check(
        json!([["q", q3], ["a"], paris, ["p"]]),
        &["t2.rows=t1/rows", "t4.content=t2/summary"],
    );
    check(json!([paris, ["j"], ["p", {}, ["t1"]]]), &["t3.content=t1"]);
    // What was made of any result is not made into another.
    check(
        json!([paris, ["p"], ["p"]]),
        &["t2.content=t1", "t3.content=t1"],
    );
    let plan = compiled(plan(json!([paris, ["p"]]))).unwrap();
    assert_eq!(
        plan.tasks[1].inferred[0].reason,
        "page.print needs 'content' (any result), which t1 (weather.get) produces"
    );
}

#[test]
fn a_placeholder_is_no_value() {
    let rows = |value: Value| json!([["q", {"quarter": "Q3"}], ["q", {"quarter": "Q4"}], ["a", {"rows": value, "baseline": [{}]}]]);
    for nothing in [
        json!(null),
        json!([]),
        json!(""),
        json!("the rows"),
        json!({}),
    ] {
        check(rows(nothing), &["t3.rows=t2/rows"]);
    }
    // A placeholder that names a task means that task.
    check(rows(json!("<result of t1>")), &["t3.rows=t1/rows"]);
    // A text is a value for a param that takes texts, unless it is bracketed and names a task.
    let texts = |text: &str| json!([["w", {"city": "Paris"}], ["s", {"text": text}]]);
    check(texts("<text of t1>"), &["t2.text=t1/text"]);
    check(texts("what t1 stands for"), &[]);
    check(texts("a text of its own"), &[]);
}

#[test]
fn explicit_references_stay_and_loose_ones_are_settled() {
    let query = json!(["q", {"quarter": "Q4"}]);
    for (written, settled) in [
        (json!({"$ref": "t1", "path": "/rows"}), "t1/rows"),
        (json!({"$ref": "$t1", "path": "rows"}), "t1/rows"),
        (json!({"$ref": "t1.rows"}), "t1/rows"),
        (
            json!({"$ref": "finance.db.query", "path": "/rows"}),
            "t1/rows",
        ),
        (json!("$t1.rows"), "t1/rows"),
        (json!("${t1.rows}"), "t1/rows"),
        (json!("{{ t1.rows }}"), "t1/rows"),
        // Without a part, with a missing one or one of another type: the part that the capability declares.
        (json!("$t1"), "t1/rows"),
        (json!("$t1.result.rows"), "t1/rows"),
        (json!("$t1.data"), "t1/rows"),
        (json!("$t1.count"), "t1/rows"),
        (json!({"$ref": "t1", "path": ""}), "t1/rows"),
        (json!(["$t1.rows"]), "t1/rows"),
    ] {
        let expected = format!("t2.rows={settled}");
        check(
            json!([query, ["a", {"rows": written}]]),
            &[expected.as_str()],
        );
    }
    // The report takes any value, and the planner named one.
    check(
        json!([query, ["r", {"content": "$t1.count", "format": "pdf"}]]),
        &["t2.content=t1/count"],
    );
    check(
        json!([query, ["r", {"content": {"n": ["x", "$t1.rows[0].amount"]}, "format": "pdf"}]]),
        &["t2.content/n/1=t1/rows/0/amount"],
    );
}

#[test]
fn a_mended_reference_says_why() {
    let tasks = plan(json!([["q", {"quarter": "Q4"}], ["a", {"rows": "$t1.data"}]]));
    let reasons = |plan: &crate::Plan| plan.tasks[1].inferred[0].reason.clone();
    assert_eq!(
        reasons(&compiled(tasks).unwrap()),
        "'/data' does not exist; t1 (finance.db.query) has its expense.rows at '/rows'"
    );
}

#[test]
fn a_missing_producer_is_added() {
    let with_fill =
        |tasks| compiled_with(&proposal(plan(tasks)), &SaysQ4, &PlanLimits::default()).unwrap();
    // The whole chain, from the query's params.
    let chain = with_fill(json!([["r", {"format": "pdf"}]]));
    assert_eq!(wiring(&chain), ["t2.rows=t1/rows", "t3.content=t2/summary"]);
    assert_eq!(chain.tasks[0].params, json!({"quarter": "Q4 2024"}));
    assert!(
        chain.tasks[1].inferred[0]
            .reason
            .ends_with("; it was added because no task of the plan does")
    );
    // A param that the planner wrote at the consumer goes to the producer that takes it, before the query's.
    let moved = with_fill(json!([["a", {"quarter": "Q1 2023", "metric": "total"}]]));
    assert_eq!(moved.tasks[1].params["metric"], "total");
    assert_eq!(moved.tasks[1].params.get("quarter"), None);
    assert_eq!(moved.tasks[0].params, json!({"quarter": "Q1 2023"}));
    // Two consumers share an added task, unless they need different ones.
    let shared = with_fill(json!([["a", {"metric": "x"}], ["a", {"metric": "y"}]]));
    assert_eq!(wiring(&shared), ["t2.rows=t1/rows", "t3.rows=t1/rows"]);
    let apart = with_fill(json!([["a", {"quarter": "Q1"}], ["a", {"quarter": "Q2"}]]));
    assert_eq!(wiring(&apart), ["t2.rows=t1/rows", "t4.rows=t3/rows"]);
    assert_eq!(apart.tasks[2].params, json!({"quarter": "Q2"}));
    // An added task takes its own inputs from the plan, each from its own producer.
    let (q1, q2) = (
        json!(["q", {"quarter": "Q1"}]),
        json!(["q", {"quarter": "Q2"}]),
    );
    let between = with_fill(json!([q1, q2, ["m"], ["m"]]));
    assert_eq!(
        wiring(&between),
        [
            "t3.rows=t1/rows",
            "t4.summary=t3/summary",
            "t5.rows=t2/rows",
            "t6.summary=t5/summary"
        ]
    );
    let one = with_fill(json!([q1, ["m"], ["m"]]));
    assert_eq!(
        wiring(&one),
        [
            "t2.rows=t1/rows",
            "t3.summary=t2/summary",
            "t4.summary=t2/summary"
        ]
    );
}

#[test]
fn nothing_is_added_that_cannot_be_called_or_may_not() {
    // The quarter is missing everywhere.
    let error = compiled(plan(json!([["a"]]))).unwrap_err();
    assert_eq!(error.path, "tasks[0].params.rows");
    assert_eq!(error.allowed, ["finance.db.query"]);
    // The producer writes, or the user may not use it.
    for capability in ["receipt.archive", "salary.chart"] {
        let error = compiled(json!([{"capability": capability}])).unwrap_err();
        assert_eq!(error.code, amcp_protocol::ErrorCode::InvalidPlan, "{error}");
    }
    // The producer would need itself.
    let error = compiled(plan(json!([["s"]]))).unwrap_err();
    assert_eq!(error.path, "tasks[0].params.text");
    // The producer would be one task too many.
    let limits = PlanLimits {
        tasks: 2,
        ..PlanLimits::default()
    };
    let tasks = proposal(plan(json!([["r", {"format": "pdf"}]])));
    let error = compiled_with(&tasks, &SaysQ4, &limits).unwrap_err();
    assert_eq!(error.code, amcp_protocol::ErrorCode::BudgetExceeded);
    assert!(compiled_with(&tasks, &NoFill, &limits).is_err());
}

#[test]
fn a_misplaced_param_moves_only_where_it_harms_nobody() {
    let moved = compiled(plan(json!([
        ["q", {"quarter": "Q4"}], ["a"], ["r", {"format": "pdf", "department": "Sales"}],
    ])))
    .unwrap();
    assert_eq!(
        moved.tasks[0].params,
        json!({"quarter": "Q4", "department": "Sales"})
    );
    assert_eq!(moved.tasks[2].inferred.len(), 2);
    // The producer has the same value already.
    check(
        json!([["q", {"quarter": "Q4"}], ["a", {"quarter": "Q4"}]]),
        &["t2.rows=t1/rows"],
    );
    // The value tells which producer is meant.
    check(
        json!([
            ["q", {"quarter": "Q1"}], ["q", {"quarter": "Q2"}], ["a", {"quarter": "Q2"}], ["a", {"quarter": "Q1"}],
        ]),
        &["t3.rows=t2/rows", "t4.rows=t1/rows"],
    );
    // The producer has another value, or another task would get other rows.
    for tasks in [
        json!([["q", {"quarter": "Q4"}], ["a", {"quarter": "Q3"}]]),
        json!([["q", {"quarter": "Q4"}], ["a", {"department": "Sales"}], ["a"]]),
    ] {
        let error = compiled(plan(tasks)).unwrap_err();
        assert!(error.problem.contains("has no param"), "{error}");
        assert!(error.allowed.contains(&"metric".to_owned()));
    }
}

#[test]
fn notation_is_mended() {
    let plan = compiled(plan(json!([
        ["q", {"quarter": 4, "limit": "5", "department": null}],
        ["a", {"top": "Sales"}],
        ["w", {"city": "Paris", "days": 3.0}],
        ["r", {"content": "x", "format": " Markdown "}],
    ])))
    .unwrap();
    assert_eq!(plan.tasks[0].params, json!({"quarter": "4", "limit": 5}));
    assert_eq!(plan.tasks[1].params["top"], json!(["Sales"]));
    assert_eq!(plan.tasks[3].params["format"], "markdown");
}

#[test]
fn tasks_come_in_an_order_of_execution_and_made_up_ids_count_it() {
    let plan = compiled_with(
        &proposal(json!([
            {"capability": "document.report.generate", "params": {"format": "pdf", "content": "$t2"}},
            {"capability": "finance.analyze.expenses"},
            {"capability": "joke.get"},
        ])),
        &SaysQ4,
        &PlanLimits::default(),
    )
    .unwrap();
    let listed: Vec<_> = plan
        .tasks
        .iter()
        .map(|task| format!("{} {}", task.id, task.capability))
        .collect();
    let expected = [
        "t1 finance.db.query",
        "t2 finance.analyze.expenses",
        "t3 document.report.generate",
        "t4 joke.get",
    ];
    assert_eq!(listed, expected);
    assert_eq!(wiring(&plan), ["t2.rows=t1/rows", "t3.content=t2/summary"]);
    let reasons: Vec<_> = plan.tasks.iter().flat_map(|task| &task.inferred).collect();
    assert_eq!(reasons[0].from.as_str(), "t1");
    assert!(
        reasons[0]
            .reason
            .contains("which t1 (finance.db.query) produces"),
        "{reasons:?}"
    );
}

#[test]
fn ids_that_a_planner_gave_stay() {
    let plan = compiled_with(
        &proposal(json!([
            {"id": "report", "capability": "document.report.generate", "params": {"format": "pdf"}},
            {"id": "t2", "capability": "finance.analyze.expenses"},
            {"capability": "joke.get", "depends_on": ["t2"]},
        ])),
        &SaysQ4,
        &PlanLimits::default(),
    )
    .unwrap();
    let ids: Vec<_> = plan.tasks.iter().map(|task| task.id.as_str()).collect();
    assert_eq!(ids, ["t1", "t2", "report", "t3"]);
    assert_eq!(
        wiring(&plan),
        ["t2.rows=t1/rows", "report.content=t2/summary", "t3>t2"]
    );
}
