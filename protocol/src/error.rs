//! Failures as data: a code that programs match on, a message and a hint that people read.
//!
//! Does not decide what happens next: [`crate::retry`] judges failed attempts.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::ser::SerializeStruct;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// Every kind of failure that leaves a component. The serialised form (`snake_case`) is part of the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
#[derive(strum::Display, strum::IntoStaticStr, strum::VariantArray)]
#[strum(serialize_all = "snake_case")]
pub enum ErrorCode {
    /// The request itself is malformed: empty query, unknown field, wrong type.
    BadRequest,
    /// The node serves as many requests as it admits; `retry_after_ms` says when to come back.
    Overloaded,
    /// The user has spent what the node grants for a minute or a day, or has as many requests at a time.
    QuotaExceeded,
    /// The node is draining and takes nothing new.
    ShuttingDown,
    /// The node is starting, or no agent is ready; `retry_after_ms` says when to come back.
    NotReady,
    /// No request, task or agent has that id.
    NotFound,
    /// The route does not take the HTTP method.
    MethodNotAllowed,
    /// The client accepts no form in which the node can answer.
    NotAcceptable,
    /// The client proves no user: it sends no credential, or one that does not count.
    Unauthenticated,
    /// The request's URI, head or body has more bytes than the node takes.
    TooLarge,
    /// The same idempotency key came with another body.
    IdempotencyConflict,
    /// The user's roles do not allow the capability.
    NotPermitted,
    /// The request's deadline passed.
    DeadlineExceeded,
    /// The request, or the attempt at a task, was cancelled.
    Cancelled,
    /// A budget of the request is used up (tasks, LLM calls, result bytes).
    BudgetExceeded,
    /// A fault of AMCP itself.
    Internal,

    /// The planner found no capability for any part of the query.
    NothingPlanned,
    /// The plan is not JSON of a known shape, or breaks a rule that has no code of its own.
    InvalidPlan,
    /// The plan names a capability that no agent offers.
    UnknownCapability,
    /// The plan's tasks wait for each other in a circle.
    CyclicPlan,

    /// No LLM answers at the configured address.
    LlmUnavailable,
    /// The LLM did not answer in time.
    LlmTimeout,
    /// The LLM server does not have the model.
    LlmModelMissing,
    /// The LLM server refuses work for now.
    LlmBusy,
    /// The LLM's answer stopped in the middle.
    LlmCut,
    /// The LLM's reply breaks its protocol, or stayed unusable after the repairs.
    LlmMalformed,

    /// No agent offers the capability at this moment.
    NoAgent,
    /// The agent's queue is full; the task was not started.
    AgentBusy,
    /// The agent is stopping or restarting; the task was not started.
    AgentUnavailable,
    /// The agent ended while it had the task: the outcome is unknown.
    AgentLost,
    /// The way to the agent was lost while it had the task: a link broke, or the agent no longer knows how the attempt ended. The
    /// outcome is unknown.
    NodeLost,
    /// The agent panicked while it worked on the task.
    AgentPanicked,
    /// The attempt took longer than allowed: the outcome is unknown.
    TaskTimeout,
    /// The specialist says that it cannot do the task.
    TaskFailed,
    /// The task's params break the capability's schema.
    InvalidParams,
    /// The result breaks the capability's schema.
    InvalidResult,
    /// The result is larger than allowed.
    ResultTooLarge,
    /// The node keeps as many files as it may.
    StorageFull,
    /// The task killed several agents, so no other agent gets it.
    Quarantined,
    /// A task that this one depends on did not complete.
    DependencyFailed,
    /// A service outside the mesh could not be reached.
    UpstreamUnavailable,
    /// A service outside the mesh answered with an error or with nonsense.
    UpstreamFailed,
    /// The message has a wire version or a kind that this node does not know.
    UnsupportedWire,
    /// The request was answered before, and the node has dropped its answer.
    Gone,

    /// The task goes on only after a person has answered its flow.
    FlowRequired,
    /// A person denied what the task needs.
    FlowDenied,
    /// No person answered the task's flow in time.
    FlowExpired,
    /// The asker cannot answer the kind of flow that the task needs.
    FlowUnsupported,
    /// The flow has an answer already, or asks another question than the one that was answered.
    FlowClosed,
}

/// Writes the text in every format: builds add codes, and a number would mean another code to another build.
impl Serialize for ErrorCode {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl JsonSchema for ErrorCode {
    fn schema_name() -> Cow<'static, str> {
        "ErrorCode".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let all: Vec<&str> = Self::ALL.iter().map(|code| code.as_str()).collect();
        json_schema!({"type": "string", "enum": all})
    }
}

/// Reads a code that only a newer build knows as [`ErrorCode::Internal`] between nodes (binary formats), and refuses it in
/// text formats, which people write.
impl<'de> Deserialize<'de> for ErrorCode {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let binary = !deserializer.is_human_readable();
        let text = String::deserialize(deserializer)?;
        let known = Self::ALL.iter().find(|code| code.as_str() == text);
        match known {
            Some(code) => Ok(*code),
            None if binary => Ok(Self::Internal),
            None => Err(de::Error::custom(format_args!(
                "unknown error code '{text}'"
            ))),
        }
    }
}

impl ErrorCode {
    /// All codes, in the order of their declaration.
    pub const ALL: &'static [Self] = <Self as strum::VariantArray>::VARIANTS;

    /// The code as it is serialised.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        self.into()
    }

    /// Whether another attempt may end differently. Does not tell whether the work began: a handler may return any code, and
    /// only [`TaskOutcome::Refused`](crate::task::TaskOutcome::Refused) says that it did not.
    #[must_use]
    pub const fn is_transient(self) -> bool {
        matches!(
            self,
            Self::NoAgent
                | Self::AgentBusy
                | Self::AgentUnavailable
                | Self::UnsupportedWire
                | Self::AgentLost
                | Self::NodeLost
                | Self::AgentPanicked
                | Self::TaskTimeout
                | Self::UpstreamUnavailable
                | Self::LlmUnavailable
                | Self::LlmTimeout
                | Self::LlmBusy
                | Self::LlmCut
        )
    }

    /// Whether the agent is gone, so that the effects of its attempt are unknown.
    #[must_use]
    pub const fn is_agent_gone(self) -> bool {
        self.is_agent_death() || matches!(self, Self::NodeLost)
    }

    /// Whether the attempt probably destroyed the agent.
    #[must_use]
    pub const fn is_agent_death(self) -> bool {
        matches!(self, Self::AgentLost | Self::AgentPanicked)
    }
}

/// A failure, for programs and for readers.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, thiserror::Error, JsonSchema)]
#[error("{message}")]
pub struct Failure {
    /// The kind of failure; programs match on it.
    pub code: ErrorCode,
    /// The fault and its place, in a sentence without a full stop.
    pub message: String,
    /// The reader's remedy.
    #[serde(default)]
    #[schemars(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// The time after which another try makes sense, in milliseconds from now.
    #[serde(default)]
    #[schemars(skip_serializing_if = "Option::is_none")]
    pub retry_after_ms: Option<u64>,
}

/// Text formats leave out absent fields; binary formats cannot, because they read fields by position.
impl Serialize for Failure {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let all = !serializer.is_human_readable();
        let optional = usize::from(all || self.hint.is_some())
            + usize::from(all || self.retry_after_ms.is_some());
        let mut fields = serializer.serialize_struct("Failure", 2 + optional)?;
        fields.serialize_field("code", &self.code)?;
        fields.serialize_field("message", &self.message)?;
        if all || self.hint.is_some() {
            fields.serialize_field("hint", &self.hint)?;
        }
        if all || self.retry_after_ms.is_some() {
            fields.serialize_field("retry_after_ms", &self.retry_after_ms)?;
        }
        fields.end()
    }
}

impl Failure {
    /// A failure without a hint.
    #[must_use]
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            hint: None,
            retry_after_ms: None,
        }
    }

    /// Adds the reader's remedy.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Adds the time after which another try makes sense.
    #[must_use]
    pub const fn retry_after_ms(mut self, ms: u64) -> Self {
        self.retry_after_ms = Some(ms);
        self
    }

    /// The specialist cannot do the task ([`ErrorCode::TaskFailed`]).
    #[must_use]
    pub fn task(message: impl Into<String>) -> Self {
        Self::new(ErrorCode::TaskFailed, message)
    }

    /// A fault of AMCP itself ([`ErrorCode::Internal`]).
    #[must_use]
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(ErrorCode::Internal, message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_reads_back_from_its_text() {
        for &code in ErrorCode::ALL {
            let json = serde_json::to_string(&code).unwrap();
            assert_eq!(json, format!("\"{code}\""));
            assert_eq!(serde_json::from_str::<ErrorCode>(&json).unwrap(), code);
        }
    }
}
