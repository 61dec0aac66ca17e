//! Plans that no planner should write: huge, cyclic, forged. The compiler refuses each by name, or compiles it in its limits.

use amcp_protocol::{Capability, ErrorCode, ProposedPlan, ProposedTask};
use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::testing::{SaysQ4, catalogue, compiled_with};
use super::{Fill, NoFill, PlanLimits};
use crate::plan::Plan;

fn tasks(n: usize, task: impl Fn(usize) -> Value) -> ProposedPlan {
    let tasks: Value = (0..n).map(task).collect();
    crate::parse(&tasks.to_string()).unwrap()
}

const WIDE: PlanLimits = PlanLimits {
    tasks: 20_000,
    depth: 20_000,
    params_bytes: usize::MAX,
};

#[test]
fn ten_thousand_tasks_are_refused_or_compiled() {
    let chains = tasks(10_000, |i| match i % 2 {
        0 => {
            json!({"id": format!("t{i}"), "capability": "finance.db.query", "params": {"quarter": "Q4"}})
        }
        _ => json!({"id": format!("t{i}"), "capability": "finance.analyze.expenses"}),
    });
    let error = compiled_with(&chains, &NoFill, &PlanLimits::default()).unwrap_err();
    assert_eq!(error.code, ErrorCode::BudgetExceeded);
    assert!(error.problem.contains("10000") && error.problem.contains("32"));
    let plan = compiled_with(&chains, &NoFill, &WIDE).unwrap();
    check_invariants(&plan);
    assert!(
        plan.tasks
            .iter()
            .skip(1)
            .step_by(2)
            .all(|task| task.after.len() == 1)
    );
}

#[test]
fn a_circle_of_ten_thousand_is_named_in_short() {
    let circle = tasks(
        10_000,
        |i| json!({"capability": "joke.get", "depends_on": [format!("t{}", (i + 1) % 10_000 + 1)]}),
    );
    let error = compiled_with(&circle, &NoFill, &WIDE).unwrap_err();
    assert_eq!(error.code, ErrorCode::CyclicPlan);
    assert!(
        error.problem.contains("t1 → t2 → t3") && error.problem.len() < 300,
        "{error}"
    );
    // Reversed and without the last edge it is a chain.
    let chain = tasks(
        10_000,
        |i| json!({"capability": "joke.get", "depends_on": (i < 9_999).then(|| format!("t{}", i + 2))}),
    );
    check_invariants(&compiled_with(&chain, &NoFill, &WIDE).unwrap());
}

#[test]
fn values_that_are_too_deep_are_refused_before_anybody_recurses() {
    let mut value = json!("$t1");
    for _ in 0..5_000 {
        value = Value::Array(vec![value]);
    }
    let plan = ProposedPlan {
        tasks: vec![ProposedTask {
            capability: "document.report.generate".to_owned(),
            params: Map::from_iter([("content".to_owned(), value)]),
            ..ProposedTask::default()
        }],
        ..ProposedPlan::default()
    };
    let error = compiled_with(&plan, &NoFill, &PlanLimits::default()).unwrap_err();
    assert!(error.problem.contains("nested deeper"), "{error}");
}

/// Panics: the compiler must refuse the plan before it fills params.
struct NotAsked;

impl Fill for NotAsked {
    fn fill(&self, capability: &Capability) -> Map<String, Value> {
        panic!("inference began, for {}", capability.name)
    }
}

#[test]
fn params_that_are_too_large_are_refused_before_anything_is_inferred() {
    let large = "x".repeat(300 * 1024);
    let plan = tasks(2, |i| match i {
        0 => json!({"capability": "text.summarize", "params": {"text": large}}),
        _ => json!({"capability": "finance.analyze.expenses", "params": {"rows": "$nobody"}}),
    });
    let error = compiled_with(&plan, &NotAsked, &PlanLimits::default()).unwrap_err();
    assert_eq!(error.code, ErrorCode::BudgetExceeded, "{error}");
    assert_eq!(error.path, "tasks[0].params");
    // The bound comes before finding the capability and reading references.
    let plan = tasks(
        1,
        |_| json!({"capability": "no.such", "params": {"text": large}}),
    );
    let error = compiled_with(&plan, &NotAsked, &PlanLimits::default()).unwrap_err();
    assert_eq!(error.code, ErrorCode::BudgetExceeded, "{error}");
}

struct SaysMuch;

impl Fill for SaysMuch {
    fn fill(&self, _: &Capability) -> Map<String, Value> {
        Map::from_iter([("department".to_owned(), "x".repeat(3_000).into())])
    }
}

#[test]
fn what_added_tasks_are_filled_with_counts_too() {
    let plan = tasks(
        2,
        |i| json!({"capability": "finance.analyze.expenses", "params": {"quarter": format!("Q{i}")}}),
    );
    let limits = PlanLimits {
        params_bytes: 5_000,
        ..PlanLimits::default()
    };
    let error = compiled_with(&plan, &SaysMuch, &limits).unwrap_err();
    assert_eq!(error.code, ErrorCode::BudgetExceeded, "{error}");
}

#[test]
fn a_text_of_many_dots_costs_little() {
    let text = format!("${}", "t1.".repeat(100_000));
    let plan = tasks(2, |i| match i {
        0 => json!({"capability": "joke.get"}),
        _ => json!({"capability": "text.summarize", "params": {"text": text}}),
    });
    let wide = PlanLimits {
        params_bytes: usize::MAX,
        ..PlanLimits::default()
    };
    assert!(compiled_with(&plan, &NoFill, &wide).is_ok());
}

/// Asserts the rules that every compiled plan keeps.
fn check_invariants(plan: &Plan) {
    let n = plan.tasks.len();
    let mut ids: Vec<_> = plan.tasks.iter().map(|task| &task.id).collect();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), n, "ids are unique");
    for (i, task) in plan.tasks.iter().enumerate() {
        assert!(task.after.is_sorted_by(|a, b| a < b) && task.after.iter().all(|&a| a < i));
        for reference in &task.references {
            assert!(task.after.contains(&reference.from), "task {i}");
            let place = task.params.pointer(&reference.place).unwrap();
            assert_eq!(place["$ref"], plan.tasks[reference.from].id.as_str());
            assert_eq!(place["path"], reference.path);
        }
        for edge in &task.inferred {
            assert!(task.after.iter().any(|&a| plan.tasks[a].id == edge.from));
            assert!(!edge.reason.is_empty());
        }
        let places: Vec<_> = task.references.iter().map(|r| r.place.clone()).collect();
        assert!(
            catalogue()
                .get(task.capability.as_str())
                .unwrap()
                .params
                .violations_outside(&task.params, &places)
                .is_empty()
        );
    }
}

fn any_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        (-5i64..5).prop_map(Value::from),
        prop::sample::select(vec![
            "",
            "Q4 2024",
            "PDF",
            "4",
            "Paris",
            "$t1",
            "$t2.rows",
            "$t1.text",
            "{{t2.summary}}",
            "<result of t1>",
            "$t9",
            "x ${t1} y",
            "$5",
            "t2",
            "rows",
        ])
        .prop_map(Value::from),
        (
            prop::sample::select(vec!["t1", "t2", "t3", "nobody", "finance.db.query"]),
            prop::sample::select(vec![
                "",
                "/rows",
                "rows",
                "/summary",
                "/text",
                "/rows/0/x",
                "/~"
            ])
        )
            .prop_map(|(id, path)| json!({"$ref": id, "path": path})),
    ];
    leaf.prop_recursive(3, 12, 3, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
            prop::collection::hash_map("[a-z/~$]{1,4}", inner, 0..3)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

fn any_task() -> impl Strategy<Value = Value> {
    let name = prop::sample::select(vec![
        "finance.db.query",
        "finance.analyze.expenses",
        "document.report.generate",
        "weather.get",
        "text.summarize",
        "joke.get",
        "receipt.archive",
        "salary.chart",
        "salary.list",
        "no.such",
    ]);
    let param = prop::sample::select(vec![
        "quarter",
        "department",
        "limit",
        "rows",
        "metric",
        "baseline",
        "top",
        "content",
        "format",
        "city",
        "text",
    ]);
    let params = prop::collection::vec((param, any_value()), 0..4);
    let id = prop::option::of(prop::sample::select(vec![
        "t1", "t2", "t3", "t 1", "é", "7",
    ]));
    let depends_on = prop::collection::vec(
        prop::sample::select(vec!["t1", "t2", "t3", "t4", "joke.get"]),
        0..2,
    );
    (name, params, id, depends_on).prop_map(|(name, params, id, depends_on)| {
        let params: Map<_, _> = params
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value))
            .collect();
        json!({"id": id, "capability": name, "params": params, "depends_on": depends_on})
    })
}

/// Tasks that mostly fit together and mostly wait for earlier ones, so that many plans compile.
fn likely_tasks() -> impl Strategy<Value = Vec<Value>> {
    let task = prop::sample::select(vec![
        json!({"capability": "finance.db.query", "params": {"quarter": "Q4"}}),
        json!({"capability": "finance.analyze.expenses"}),
        json!({"capability": "finance.analyze.expenses", "params": {"quarter": "Q3", "rows": null}}),
        json!({"capability": "finance.analyze.expenses", "params": {"rows": "<rows of t1>"}}),
        json!({"capability": "document.report.generate", "params": {"format": "PDF"}}),
        json!({"capability": "document.report.generate", "params": {"format": "html", "content": "$t2"}}),
        json!({"capability": "weather.get", "params": {"city": "Paris"}}),
        json!({"capability": "text.summarize"}),
    ]);
    let back = prop_oneof![8 => Just(0), 4 => 1..4usize, 1 => Just(usize::MAX)];
    prop::collection::vec((task, back), 2..9).prop_map(|tasks| {
        let depends_on = |i: usize, back: usize| match back {
            0 => None,
            usize::MAX => Some(format!("t{}", i + 2)),
            back => (back <= i).then(|| format!("t{}", i + 1 - back)),
        };
        let tasks = tasks.into_iter().enumerate();
        tasks
            .map(|(i, (mut task, back))| {
                task["depends_on"] = json!(depends_on(i, back));
                task
            })
            .collect()
    })
}

proptest! {
    #[test]
    fn invariant_any_plan_is_compiled_soundly_or_refused(
        tasks in prop_oneof![
            prop::collection::vec(any_task(), 1..6),
            likely_tasks(),
        ],
    ) {
        let text = json!({"tasks": tasks}).to_string();
        let proposal = crate::parse(&text).unwrap();
        let limits = PlanLimits::default();
        match compiled_with(&proposal, &SaysQ4, &limits) {
            Ok(plan) => {
                check_invariants(&plan);
                prop_assert!(plan.tasks.len() <= limits.tasks);
                let again = compiled_with(&proposal, &SaysQ4, &limits).unwrap();
                prop_assert_eq!(plan.view(), again.view());
                // A compiled plan is a proposal too, and compiling it again infers nothing.
                let view = serde_json::to_string(&plan.view()).unwrap();
                let settled = compiled_with(&crate::parse(&view).unwrap(), &NoFill, &limits).unwrap();
                for (one, other) in plan.tasks.iter().zip(&settled.tasks) {
                    prop_assert_eq!(&one.params, &other.params);
                    prop_assert_eq!(&one.after, &other.after);
                }
            }
            Err(error) => {
                prop_assert!(!error.problem.is_empty() && !error.path.is_empty());
                let again = compiled_with(&proposal, &SaysQ4, &limits).unwrap_err();
                prop_assert_eq!(error, again);
            }
        }
    }
}
