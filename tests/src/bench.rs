//! Shared by the benches: the work (three capabilities and plans of known shapes over them), the load, the report.

pub mod load;
pub mod memory;
pub mod report;

use std::sync::Arc;

use amcp_plan::{Catalogue, NoFill, Plan, PlanLimits, Rules, compile};
use amcp_protocol::{Access, Capability, Contract, ProposedPlan};
use serde_json::{Value, json};

/// Number of tasks of the wide and of the deep plan.
pub const LONG: usize = 100;

/// The shape of a request's plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Shape {
    /// A and B at once, then C from both results.
    Diamond,
    /// [`LONG`] tasks that do not depend on each other.
    Wide,
    /// [`LONG`] tasks, each from the result of the previous one.
    Deep,
}

impl Shape {
    /// All shapes.
    pub const ALL: [Self; 3] = [Self::Diamond, Self::Wide, Self::Deep];

    /// The name in reports, and the query for the shape.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Diamond => "diamond",
            Self::Wide => "100 wide",
            Self::Deep => "100 deep",
        }
    }
}

/// `bench.a` and `bench.b` take a number and return its successor, `bench.c` adds two numbers. All accept any number of tasks
/// at once: the benches measure the way to them.
#[must_use]
pub fn capabilities() -> [Capability; 3] {
    let number = json!({"type": "integer"});
    let of = |name: &str, params: &[&str]| {
        let properties: serde_json::Map<String, Value> = params
            .iter()
            .map(|param| ((*param).to_owned(), number.clone()))
            .collect();
        Capability {
            params: json!({"type": "object", "properties": properties, "required": params}),
            result: json!({"type": "object", "properties": {"n": number.clone()}, "required": ["n"]}),
            concurrency: 100_000,
            ..Capability::new(name, "Counts.")
        }
    };
    [
        of("bench.a", &["n"]),
        of("bench.b", &["n"]),
        of("bench.c", &["a", "b"]),
    ]
}

/// The compiled capabilities.
#[must_use]
pub fn catalogue() -> Catalogue {
    let contracts = capabilities().map(|c| Contract::new(c).expect("a sound capability"));
    contracts.into_iter().map(Arc::new).collect()
}

/// Limits with room for the long plans.
#[must_use]
pub fn limits() -> PlanLimits {
    PlanLimits {
        tasks: LONG,
        depth: LONG,
        ..PlanLimits::default()
    }
}

/// A planner's proposal of this shape.
#[must_use]
pub fn proposal(shape: Shape) -> ProposedPlan {
    let task = |id: usize, capability: &str, params: Value| json!({"id": format!("t{id}"), "capability": capability, "params": params});
    let result = |id: usize| json!({"$ref": format!("t{id}"), "path": "/n"});
    let tasks: Vec<Value> = match shape {
        Shape::Diamond => vec![
            task(1, "bench.a", json!({"n": 1})),
            task(2, "bench.b", json!({"n": 2})),
            task(3, "bench.c", json!({"a": result(1), "b": result(2)})),
        ],
        Shape::Wide => (1..=LONG)
            .map(|id| task(id, "bench.a", json!({"n": id})))
            .collect(),
        Shape::Deep => std::iter::once(task(1, "bench.a", json!({"n": 1})))
            .chain((2..=LONG).map(|id| task(id, "bench.a", json!({"n": result(id - 1)}))))
            .collect(),
    };
    serde_json::from_value(json!({"tasks": tasks})).expect("a plan of the documented form")
}

/// The compiled plan of this shape.
///
/// # Panics
/// The compiler refuses the plan, which is written here.
#[must_use]
pub fn plan(shape: Shape, catalogue: &Catalogue) -> Plan {
    compiled(&proposal(shape), catalogue)
}

/// A copy of the plan with params that no other request has used, as from a planner.
#[must_use]
pub fn fresh(plan: &Plan) -> Plan {
    let mut plan = plan.clone();
    for task in &mut plan.tasks {
        task.params = Value::clone(&task.params).into();
    }
    plan
}

/// Compiles any proposal.
///
/// # Panics
/// The compiler refuses it.
#[must_use]
pub fn compiled(proposal: &ProposedPlan, catalogue: &Catalogue) -> Plan {
    let rules = Rules {
        catalogue,
        access: &Access::default(),
        limits: &limits(),
        fill: &NoFill,
    };
    compile(proposal, &rules).expect("a sound plan")
}
