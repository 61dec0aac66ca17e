//! A compiled plan: an executable DAG with checked tasks, references and edges.
//!
//! Does not change once compiled; the machine keeps the state of its execution.

use std::time::Duration;

use amcp_protocol::plan::{InferredEdge, PlannedTaskView};
use amcp_protocol::{
    Capability, CapabilityName, Effect, Failure, FlowKind, Payload, TaskId, TaskState,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A plan that can be executed. Tasks refer to each other by their index in `tasks`, and every index in it exists.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// The planner's reasons.
    pub reasoning: Option<String>,
    /// An answer that needs no task; then `tasks` may be empty.
    pub answer_directly: Option<String>,
    /// In an order of execution: each task follows the tasks that it waits for.
    pub tasks: Vec<PlanTask>,
    /// Parts of the query that no capability covers.
    pub unplaced: Vec<String>,
    /// Proposed tasks that cannot be done; the others run without them.
    pub refused: Vec<RefusedTask>,
}

/// A proposed task that cannot run: no agent offers its capability, the user may not use it, or it needs such a task.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RefusedTask {
    /// The task for answers and progress.
    pub view: PlannedTaskView,
    /// [`TaskState::Failed`], or [`TaskState::Skipped`] when it needs another refused task.
    pub state: TaskState,
    /// The reason.
    pub failure: Failure,
    /// Whether the answer is whole without it.
    #[serde(default)]
    pub optional: bool,
}

/// The part of a capability's contract that the machine needs to judge attempts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Terms {
    /// Whether the task reads, writes or cannot be undone.
    pub effect: Effect,
    /// Whether doing it twice is the same as doing it once.
    pub idempotent: bool,
    /// How long one attempt may take, in milliseconds.
    pub timeout_ms: u64,
    /// How long an attempt may go on without a sign of life, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idle_ms: Option<u64>,
    /// A user needs all of these roles.
    pub required_roles: Vec<String>,
    /// The flow that the task waits for before its first dispatch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flow: Option<FlowKind>,
}

impl Terms {
    /// The terms of a capability.
    #[must_use]
    pub fn of(capability: &Capability) -> Self {
        Self {
            effect: capability.effect,
            idempotent: capability.idempotent,
            timeout_ms: capability.timeout_ms,
            idle_ms: capability
                .idle()
                .and_then(|idle| u64::try_from(idle.as_millis()).ok()),
            required_roles: capability.required_roles.clone(),
            flow: capability.requires_flow(),
        }
    }

    /// How long one attempt may take.
    #[must_use]
    pub const fn timeout(&self) -> Duration {
        Duration::from_millis(self.timeout_ms)
    }

    /// How long an attempt may go on without a sign of life.
    #[must_use]
    pub fn idle(&self) -> Option<Duration> {
        self.idle_ms.map(Duration::from_millis)
    }

    /// Whether a user with these roles may use the capability.
    #[must_use]
    pub fn allow(&self, roles: &[String]) -> bool {
        self.required_roles.iter().all(|role| roles.contains(role))
    }
}

/// One task of a plan.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PlanTask {
    /// Unique in the plan.
    pub id: TaskId,
    /// The capability that does the task.
    pub capability: CapabilityName,
    /// The capability's terms.
    pub terms: Terms,
    /// An object; the places of `references` hold their long form until a value replaces it.
    pub params: Payload,
    /// The places of `params` that other tasks' results fill.
    pub references: Vec<Reference>,
    /// The tasks that must have ended before: explicit, referenced and inferred ones, without duplicates, ascending.
    pub after: Vec<usize>,
    /// The edges that the compiler added; a task that it added itself carries the reason in the edge to its consumer.
    pub inferred: Vec<InferredEdge>,
    /// Whether dependents go on without it when it fails.
    pub optional: bool,
    /// In a later round: the incomplete tasks of earlier rounds that this task replaces.
    pub replaces: Vec<TaskId>,
}

/// A place in a task's params that is filled from another task's result.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reference {
    /// The place in the params: a JSON pointer.
    pub place: String,
    /// The task with the result: an index into the plan's tasks.
    pub from: usize,
    /// The part of the result: a JSON pointer, empty for all of it.
    pub path: String,
}

impl Reference {
    /// Removes a place that will never have a value; in a list the place becomes null, so that the others keep their indexes.
    pub(crate) fn leave_out_of(&self, params: &mut Value) {
        let Some((parent, key)) = self.place.rsplit_once('/') else {
            return;
        };
        match params.pointer_mut(parent) {
            Some(Value::Object(map)) => {
                map.shift_remove(&key.replace("~1", "/").replace("~0", "~"));
            }
            Some(Value::Array(items)) => {
                if let Some(item) = key.parse::<usize>().ok().and_then(|i| items.get_mut(i)) {
                    *item = Value::Null;
                }
            }
            _ => {}
        }
    }
}

impl Plan {
    /// The tasks for answers and progress, the refused ones last.
    #[must_use]
    pub fn view(&self) -> Vec<PlannedTaskView> {
        self.tasks
            .iter()
            .map(|task| PlannedTaskView {
                id: task.id.clone(),
                capability: task.capability.clone(),
                params: task.params.clone(),
                depends_on: task
                    .after
                    .iter()
                    .filter_map(|&i| self.tasks.get(i))
                    .map(|t| t.id.clone())
                    .collect(),
                inferred: task.inferred.clone(),
            })
            .chain(self.refused.iter().map(|refused| refused.view.clone()))
            .collect()
    }
}
