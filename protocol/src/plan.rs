//! The plan, as planners write it and as users see it.
//!
//! Does not judge a plan: that is the compiler's work (crate `amcp-plan`).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::id::{CapabilityName, TaskId};
use crate::payload::Payload;

/// A planner's proposal; nothing in it has been checked.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProposedPlan {
    /// The planner's reasons, for readers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reasoning: Option<String>,
    /// An answer that needs no task.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answer_directly: Option<String>,
    /// Tasks in any order; the compiler bounds their number.
    #[serde(default)]
    pub tasks: Vec<ProposedTask>,
    /// Parts of the query for which the planner found no capability.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unplaced: Vec<String>,
}

/// One task as a planner proposes it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ProposedTask {
    /// The task's id, which the compiled plan keeps. Without an id other tasks name the task by its place (`t2` is the second),
    /// and the compiler numbers it in the order of execution.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// The name of a capability, perhaps misspelt or unknown.
    pub capability: String,
    /// An object; a value may be a reference, `{"$ref":"t1","path":"/rows"}` or `"$t1.rows"`.
    #[serde(default)]
    pub params: Map<String, Value>,
    /// Tasks that must be completed first.
    #[serde(default)]
    pub depends_on: Vec<String>,
    /// Whether the tasks that depend on it go on without it when it fails.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub optional: bool,
    /// In a second plan: the ids of the first plan's tasks that this task replaces.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(skip)]
    pub replaces: Vec<String>,
}

/// One task of a compiled plan, as `amcp plan --json` and the events show it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PlannedTaskView {
    /// Unique in the plan.
    pub id: TaskId,
    /// A capability that an agent offers, except in a refused task.
    pub capability: CapabilityName,
    /// An object, with references in their long form.
    pub params: Payload,
    /// Tasks that must be completed first.
    pub depends_on: Vec<TaskId>,
    /// The edges that the compiler added, each with its reason.
    pub inferred: Vec<InferredEdge>,
}

/// An edge that the compiler added.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct InferredEdge {
    /// The task that must be completed first.
    pub from: TaskId,
    /// The compiler's reason, for readers.
    pub reason: String,
}
