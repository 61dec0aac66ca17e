//! Tasks and plans to run a machine with.
//!
//! Bypasses the compiler: tests run the machine with every plan that its types allow, not only with sound ones.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use amcp_plan::{Plan, PlanTask, Reference, Terms};
use amcp_protocol::{Capability, Contract, Effect, FlowKind, TaskId};
use serde_json::json;

/// The kinds of capabilities that tests use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Kind {
    pub(crate) effect: Effect,
    pub(crate) idempotent: bool,
    /// Whether it needs the role `boss`.
    pub(crate) secret: bool,
    /// The flow before its first dispatch.
    pub(crate) flow: Option<FlowKind>,
}

pub(crate) const LOOK: Kind = Kind {
    effect: Effect::Read,
    idempotent: true,
    secret: false,
    flow: None,
};

pub(crate) const WRITE: Kind = Kind {
    effect: Effect::Write,
    ..LOOK
};

pub(crate) const PAY: Kind = Kind {
    effect: Effect::Irreversible,
    idempotent: false,
    secret: false,
    flow: None,
};

/// Needs a confirmation and is not idempotent.
pub(crate) const SEND: Kind = Kind {
    flow: Some(FlowKind::Confirmation),
    ..PAY
};

/// The contract of a kind; compiled once, because compiling a schema takes a thousand times as long as a step.
pub(crate) fn contract(kind: Kind) -> Arc<Contract> {
    static CONTRACTS: Mutex<BTreeMap<Kind, Arc<Contract>>> = Mutex::new(BTreeMap::new());
    let mut contracts = CONTRACTS.lock().unwrap_or_else(PoisonError::into_inner);
    let contract = contracts.entry(kind).or_insert_with(|| {
        let effect = format!("{:?}", kind.effect).to_lowercase();
        let idempotent = if kind.idempotent { "again" } else { "once" };
        let asks = kind.flow.map_or("unasked", FlowKind::as_str);
        let name = format!(
            "{}.{effect}.{idempotent}.{asks}",
            if kind.secret { "secret" } else { "open" }
        );
        let mut capability = Capability::new(&name, "For tests.");
        (capability.effect, capability.idempotent) = (kind.effect, kind.idempotent);
        capability.required_roles = kind.secret.then(|| "boss".into()).into_iter().collect();
        Arc::new(Contract::new(capability).expect("the capability is sound"))
    });
    contract.clone()
}

/// A task that starts after others.
pub(crate) fn task(id: &str, kind: Kind, after: &[usize]) -> PlanTask {
    PlanTask {
        id: TaskId::new(id).expect("an id in a test is valid"),
        capability: contract(kind).capability.name.clone(),
        terms: Terms {
            flow: kind.flow,
            ..Terms::of(&contract(kind).capability)
        },
        params: json!({}).into(),
        references: Vec::new(),
        after: after.to_vec(),
        inferred: Vec::new(),
        optional: false,
        replaces: Vec::new(),
    }
}

/// The same, with another task's whole result as a param.
pub(crate) fn fed_by(mut task: PlanTask, from: usize) -> PlanTask {
    task.params = json!({"input": {"$ref": "another"}}).into();
    task.references = vec![Reference {
        place: "/input".into(),
        from,
        path: String::new(),
    }];
    task
}

/// A plan of these tasks and nothing else.
pub(crate) fn plan(tasks: Vec<PlanTask>) -> Plan {
    Plan {
        tasks,
        ..Plan::default()
    }
}
