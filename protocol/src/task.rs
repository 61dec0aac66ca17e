//! The task that an orchestrator sends to an agent, and the agent's answer.
//!
//! Does not send: the mailboxes are the registry crate's.

use std::sync::Arc;

use crate::error::{ErrorCode, Failure};
use crate::flow::{EndedFlow, FlowKind, FlowRequest};
use crate::id::{AgentId, CapabilityName, RequestId, TaskId};
use crate::llm::Usage;
use crate::payload::Payload;
use crate::warrant::{Backing, Step};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use smart_default::SmartDefault;

/// The version of [`TaskRequest`] and [`TaskResponse`] that this build speaks.
pub const WIRE_VERSION: u16 = 1;

/// The user for whom agents do a task, with the user's rights.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grant {
    /// The user, if known.
    pub user: Option<String>,
    /// The user's roles.
    pub roles: Vec<String>,
    /// The kinds of flows that the user's client can put before a person.
    #[serde(default)]
    pub flows: Vec<FlowKind>,
}

/// The origin of a task. It bounds what the task may cause: otherwise agents might call agents, and orchestrators delegate to
/// orchestrators, without end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, SmartDefault)]
pub struct Lineage {
    /// The domains of the orchestrators that work on the request, in the order of delegation. No domain is asked twice.
    pub domains: Vec<String>,
    /// How many calls and delegations led here; at most [`Lineage::MAX_DEPTH`].
    pub depth: u8,
    /// How many calls the task may cause, including its callees' calls.
    #[default(Lineage::CALLS)]
    pub calls: u32,
    /// The steps from a task of the request that a user asked for; as many as `depth`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub path: Vec<Step>,
    /// The warrant of the node that accepted that request. It travels beside the lineage.
    #[serde(skip)]
    pub backing: Option<Arc<Backing>>,
}

impl Lineage {
    /// Deepest nesting: a longer chain is a loop, or a plan that no reader can follow.
    pub const MAX_DEPTH: u8 = 8;
    /// Calls that one task of a plan may cause: as many as a plan may have tasks by default.
    pub const CALLS: u32 = 32;
}

/// The calls that a task may still cause, including its callees' calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct CallBudget(u32);

impl CallBudget {
    /// A task of a plan gets [`Lineage::CALLS`].
    #[must_use]
    pub const fn new(calls: u32) -> Self {
        Self(calls)
    }

    /// Takes one call and, for the calls that it may cause in turn, half of the rest. None when no call is left.
    ///
    /// Half: the caller keeps some for its later calls, and a chain of calls ends by itself.
    pub fn take(&mut self) -> Option<u32> {
        let rest = self.0.checked_sub(1)?;
        let given = rest / 2;
        self.0 = rest - given;
        Some(given)
    }

    /// Takes back the calls that a call did not use.
    pub const fn give_back(&mut self, calls: u32) {
        self.0 = self.0.saturating_add(calls);
    }
}

/// How many of its `given` calls a task with these reports has used.
#[must_use]
pub fn calls_used(given: u32, calls: &[CallReport]) -> u32 {
    u32::try_from(calls.len()).unwrap_or(u32::MAX).min(given)
}

/// One call that a task made of another agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CallReport {
    /// How deep it is below the task: 1 for the task's own calls. A call follows the one that made it.
    pub depth: u8,
    /// The capability of the call.
    pub capability: CapabilityName,
    /// The agent of the last attempt; none if no agent was found.
    pub agent: Option<AgentId>,
    /// From the call to its end, in milliseconds.
    pub elapsed_ms: u64,
    /// None if there is a result.
    pub error: Option<ErrorCode>,
}

/// One attempt at one task, addressed to one agent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TaskRequest {
    /// [`WIRE_VERSION`] of the sender.
    pub version: u16,
    /// The request that the task belongs to.
    pub request_id: RequestId,
    /// The task within its plan.
    pub task_id: TaskId,
    /// Counts from 1. With `request_id` and `task_id` it names the attempt; an answer must repeat it.
    pub attempt: u32,
    /// The time until the deadline when the sender sends this, in milliseconds.
    pub deadline_ms: u64,
    /// W3C trace context of the request.
    pub traceparent: Option<String>,
    /// The user for whom the task is done.
    pub grant: Arc<Grant>,
    /// Bounds what the task may cause.
    pub lineage: Arc<Lineage>,
    /// A capability on the agent's card.
    pub capability: CapabilityName,
    /// How the flows of earlier attempts ended.
    pub flows: Vec<EndedFlow>,
    /// An object, with values in place of references.
    pub params: Payload,
}

/// An agent's answer to a [`TaskRequest`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TaskResponse {
    /// [`WIRE_VERSION`] of the sender.
    pub version: u16,
    /// From the task's request.
    pub request_id: RequestId,
    /// From the task's request.
    pub task_id: TaskId,
    /// From the task's request.
    pub attempt: u32,
    /// The agent that had the attempt.
    pub agent: AgentId,
    /// The attempt's calls of other agents.
    pub calls: Vec<CallReport>,
    /// What models took for the attempt and for those calls.
    #[serde(default)]
    pub usage: Usage,
    /// The result, or the reason why there is none.
    pub outcome: TaskOutcome,
}

/// How an attempt at a task ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum TaskOutcome {
    /// The result.
    Done(Payload),
    /// The attempt began and has no result. The work may have been done all the same, in part or whole.
    Failed(Failure),
    /// The attempt certainly did not begin. Only the agent's shell or the carrier of the task says so, never a handler with its
    /// code: a task that is not idempotent may be repeated only after a refusal.
    Refused(Failure),
    /// The work was done in part: the result so far, and why the rest is missing.
    Partly(Payload, Failure),
    /// The attempt began and needs a person's answer; the orchestrator sends the task again with that answer.
    FlowRequired(Box<FlowRequest>),
}

impl TaskOutcome {
    /// The failure of an attempt without a result.
    #[must_use]
    pub const fn failure(&self) -> Option<&Failure> {
        match self {
            Self::Failed(failure) | Self::Refused(failure) => Some(failure),
            Self::Done(_) | Self::Partly(..) | Self::FlowRequired(_) => None,
        }
    }

    /// The result, whole or in part.
    #[must_use]
    pub const fn result(&self) -> Option<&Payload> {
        match self {
            Self::Done(result) | Self::Partly(result, _) => Some(result),
            Self::Failed(_) | Self::Refused(_) | Self::FlowRequired(_) => None,
        }
    }

    /// Whether the attempt certainly did not begin.
    #[must_use]
    pub const fn is_refused(&self) -> bool {
        matches!(self, Self::Refused(_))
    }

    /// Whether the next attempt carries the task out anew, even where it must not be done twice: the attempt did nothing, or waits
    /// for a person.
    #[must_use]
    pub const fn begins_anew(&self) -> bool {
        matches!(self, Self::Refused(_) | Self::FlowRequired(_))
    }

    /// Whether the agent gave up the attempt because its result is no longer wanted.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.failure()
            .is_some_and(|failure| failure.code == ErrorCode::Cancelled)
    }
}
