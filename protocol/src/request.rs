//! A user's request, its progress and its answer.
//!
//! Does not move a request from state to state: that is the machine's work (crate `amcp-plan`).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::error::{ErrorCode, Failure};
use crate::flow::{Flow, FlowEnd, FlowKind};
use crate::id::{AgentId, CapabilityName, FlowId, RequestId, TaskId};
use crate::llm::Usage;
use crate::payload::Payload;
use crate::plan::{PlannedTaskView, ProposedTask};
use crate::principal::{ANONYMOUS, Principal, Proof};
use crate::task::{CallReport, Lineage};

/// Longest query, in bytes: a few pages of text; longer text belongs in a document that a task reads.
pub const MAX_QUERY_BYTES: usize = 16 * 1024;

/// Most turns of a conversation before a query: older turns seldom bear on the query.
pub const MAX_TURNS: usize = 32;
/// Longest text of all these turns together, in bytes: a quarter of the context that a small model reads.
pub const MAX_HISTORY_BYTES: usize = 16 * 1024;

/// Longest `traceparent`, in bytes: twice that of version 00.
const MAX_TRACEPARENT: usize = 110;

/// One turn of the conversation before a query.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Turn {
    /// The user, or AMCP in an earlier answer.
    pub role: Role,
    /// The words of the turn; [`MAX_HISTORY_BYTES`] bounds all turns together.
    pub text: String,
}

/// The speaker of a turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// The person or program that asks.
    User,
    /// AMCP, in an earlier answer.
    Assistant,
}

/// Whether a text is a `traceparent` of W3C Trace Context: version, trace, parent and flags in small hexadecimal digits. Later
/// versions than 00 may append fields.
#[must_use]
pub fn is_traceparent(text: &str) -> bool {
    let hex = |part: &str, digits: usize| {
        part.len() == digits && part.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
    };
    let named = |part: &str, digits| hex(part, digits) && part.bytes().any(|b| b != b'0');
    let mut parts = text.splitn(5, '-');
    let mut next = || parts.next().unwrap_or_default();
    let version = next();
    let known = hex(version, 2) && version != "ff";
    let sound = known && named(next(), 32) && named(next(), 16) && hex(next(), 2);
    sound && text.len() <= MAX_TRACEPARENT && (version != "00" || parts.next().is_none())
}

/// A user's request: the body of `POST /ask`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct UserRequest {
    /// In plain language: at most 16 KiB, and not blank.
    #[schemars(length(max = 16_384), regex(pattern = r"\S"))]
    pub query: String,
    /// The user's name; none for a client without a credential. The body of `POST /ask` cannot set it.
    #[serde(skip)]
    pub user: Option<String>,
    /// How the node knows the user. No body can set it.
    #[serde(skip)]
    pub by: Option<Proof>,
    /// The user's roles. The body of `POST /ask` cannot set them.
    #[serde(skip)]
    pub roles: Vec<String>,
    /// How long the answer may take, in milliseconds; the node's default when missing. More than the node's maximum is refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub deadline_ms: Option<u64>,
    /// The conversation before the query, oldest turn first. Data for planning and writing: no turn is a request.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub history: Vec<Turn>,
    /// The kinds of flows that the asker can put before a person; all of them when missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flows: Option<Vec<FlowKind>>,
    /// W3C trace context of the caller.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traceparent: Option<String>,
    /// The tasks of a plan that is carried out as it is, without a planner; `POST /run` sets them.
    #[serde(skip)]
    pub plan: Option<Vec<ProposedTask>>,
    /// The origin of a request that another orchestrator delegated. No body can set it.
    #[serde(skip)]
    pub lineage: Lineage,
}

impl UserRequest {
    /// A request without a user, with the node's defaults.
    #[must_use]
    pub fn new(query: impl Into<String>) -> Self {
        Self {
            query: query.into(),
            ..Self::default()
        }
    }

    /// The user on whose behalf the request runs.
    #[must_use]
    pub fn principal(&self) -> Principal {
        Principal {
            user: self.user.clone().unwrap_or_else(|| ANONYMOUS.to_owned()),
            roles: self.roles.clone(),
            by: self.by.clone().unwrap_or(Proof::Anonymous),
        }
    }

    /// Checks the bounds that the type cannot express.
    ///
    /// # Errors
    /// [`ErrorCode::BadRequest`] for an empty or over-long query, an over-long history, a plan without tasks and a deadline of zero.
    pub fn check(&self) -> Result<(), Failure> {
        let bad = |message: String, hint: &str| {
            Err(Failure::new(ErrorCode::BadRequest, message).hint(hint))
        };
        if self.query.trim().is_empty() {
            return bad(
                "the query is empty".to_owned(),
                "say what you want, such as \"What's the weather in Paris?\"",
            );
        }
        if self.query.len() > MAX_QUERY_BYTES {
            return bad(
                format!(
                    "the query has {} bytes, more than {MAX_QUERY_BYTES}",
                    self.query.len()
                ),
                "shorten it",
            );
        }
        let said: usize = self.history.iter().map(|turn| turn.text.len()).sum();
        if self.history.len() > MAX_TURNS || said > MAX_HISTORY_BYTES {
            let turns = self.history.len();
            return bad(
                format!(
                    "the history has {turns} turns of {said} bytes, more than {MAX_TURNS} or {MAX_HISTORY_BYTES}"
                ),
                "leave out the oldest turns",
            );
        }
        if let Some(tasks) = &self.plan
            && (tasks.is_empty() || tasks.iter().any(|task| !task.replaces.is_empty()))
        {
            return bad(
                "the plan has no task, or one with `replaces`".to_owned(),
                "give at least one task; only a second plan replaces tasks",
            );
        }
        if self.deadline_ms == Some(0) {
            return bad(
                "deadline_ms is 0".to_owned(),
                "leave deadline_ms out for the node's default",
            );
        }
        Ok(())
    }
}

/// A plan to carry out as it is: the body of `POST /run`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RunRequest {
    /// In any order; at least one.
    #[schemars(length(min = 1))]
    pub tasks: Vec<ProposedTask>,
    /// As in [`UserRequest`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub deadline_ms: Option<u64>,
    /// As in [`UserRequest`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flows: Option<Vec<FlowKind>>,
}

impl From<RunRequest> for UserRequest {
    /// The query names the capabilities, for people who read of the request.
    fn from(run: RunRequest) -> Self {
        const SHOWN: usize = 200;
        let names: Vec<&str> = run.tasks.iter().map(|t| t.capability.as_str()).collect();
        let names: String = names.join(", ").chars().take(SHOWN).collect();
        Self {
            query: format!("run {names}"),
            deadline_ms: run.deadline_ms,
            flows: run.flows,
            plan: Some(run.tasks),
            ..Self::default()
        }
    }
}

/// The final state of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[derive(strum::IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub enum AnswerState {
    /// Every task was done and the whole query was answered.
    Completed,
    /// A part is missing; the answer names it.
    Partial,
    /// No part could be answered; `error` says why.
    Failed,
    /// Cancelled from outside before its end.
    Cancelled,
}

impl AnswerState {
    /// The state as it is serialised.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}

/// The final state of a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum TaskState {
    /// It has a result, perhaps in part.
    Completed,
    /// It has no result, after one attempt or several, or it was refused before any.
    Failed,
    /// The task never began, because a task that it needs has no result.
    Skipped,
    /// The request was cancelled or ran out of time before it ended.
    Cancelled,
}

/// A task at the end of its request.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TaskReport {
    /// Unique in the request, over all rounds.
    pub id: TaskId,
    /// The capability of the task.
    pub capability: CapabilityName,
    /// The agent of the last attempt; none if the task was never dispatched.
    pub agent: Option<AgentId>,
    /// `completed` goes with `result`, the others with `error`.
    pub state: TaskState,
    /// How many times it was dispatched.
    pub attempts: u32,
    /// From the first dispatch to the end, in milliseconds.
    pub duration_ms: u64,
    /// The result of a completed task.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<Payload>,
    /// Why a task was not completed, or what the result of a completed one lacks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<Failure>,
    /// The calls of other agents that its last attempt made.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub calls: Vec<CallReport>,
}

/// The one final response to a request: the body of POST /ask and of `amcp ask --json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Answer {
    /// The id under which `GET /requests/{id}` shows the request.
    pub request_id: RequestId,
    /// `failed` and `partial` go with `error`.
    pub state: AnswerState,
    /// The text for the user; never empty.
    pub answer: String,
    /// The planner that made the plan, such as `embedded` or `ollama/llama3.1:8b`.
    pub planner: String,
    /// All tasks, in the plan's order.
    pub tasks: Vec<TaskReport>,
    /// Why a request failed, or what is missing from a partial answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<Failure>,
    /// Tokens that the language model read and wrote for the answer, as far as its server counts them.
    #[serde(default, skip_serializing_if = "Usage::is_none")]
    pub usage: Usage,
    /// For the reader: circumstances of the answer, such as a fall-back to the embedded planner.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

/// One step of a request, in order; the CloudEvents `progress.*`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
#[derive(strum::IntoStaticStr)]
#[strum(serialize_all = "snake_case", prefix = "progress.")]
pub enum Progress {
    /// The request was accepted.
    Accepted {
        /// At most [`MAX_QUERY_BYTES`].
        query: String,
    },
    /// A plan was compiled; with `round` 2 it replaces what failed in round 1.
    Planned {
        /// Such as `embedded` or `ollama/llama3.1:8b`.
        planner: String,
        /// Counts from 1.
        round: u32,
        /// The tasks that it adds.
        tasks: Vec<PlannedTaskView>,
        /// Parts of the query that no capability covers.
        unplaced: Vec<String>,
    },
    /// A task was sent to an agent.
    Dispatched {
        /// Its id in the plan.
        task: TaskId,
        /// The capability of the task.
        capability: CapabilityName,
        /// Counts from 1.
        attempt: u32,
        /// The agent that has the attempt.
        agent: AgentId,
    },
    /// An agent says how a task goes on. Of frequent notes only some are shown.
    Progressed {
        /// Its id in the plan.
        task: TaskId,
        /// The agent's words: one line.
        note: String,
    },
    /// An attempt failed and the task will be dispatched again.
    Retried {
        /// Its id in the plan.
        task: TaskId,
        /// The number of the failed attempt, from 1.
        attempt: u32,
        /// The failure of that attempt.
        error: Failure,
        /// The pause before the next attempt, in milliseconds.
        after_ms: u64,
    },
    /// A task waits for a person's answer; the others go on.
    FlowRequired {
        /// The question.
        flow: Box<Flow>,
    },
    /// A task's flow ended.
    FlowEnded {
        /// The task that waited.
        task: TaskId,
        /// The flow.
        flow: FlowId,
        /// How it ended.
        end: FlowEnd,
    },
    /// A task was done.
    Completed {
        /// Its id in the plan.
        task: TaskId,
        /// The agent of the successful attempt.
        agent: AgentId,
        /// From the first dispatch, in milliseconds.
        duration_ms: u64,
        /// The calls of other agents that it made.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        calls: Vec<CallReport>,
    },
    /// A task failed for good, was skipped or was cancelled.
    Failed {
        /// Its id in the plan.
        task: TaskId,
        /// Not `completed`.
        state: TaskState,
        /// The failure of the last attempt, or the reason for which there was none.
        error: Failure,
        /// The calls of other agents that its last attempt made.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        calls: Vec<CallReport>,
    },
    /// The final response was given; nothing follows.
    Answered {
        /// As in the [`Answer`].
        state: AnswerState,
    },
}

impl Progress {
    /// The CloudEvents `type` of this progress event.
    #[must_use]
    pub fn event_type(&self) -> &'static str {
        self.into()
    }

    /// The task that the event is about; none for an event of the whole request.
    #[must_use]
    pub const fn task(&self) -> Option<&TaskId> {
        match self {
            Self::Dispatched { task, .. }
            | Self::Progressed { task, .. }
            | Self::Retried { task, .. }
            | Self::FlowEnded { task, .. }
            | Self::Completed { task, .. }
            | Self::Failed { task, .. } => Some(task),
            Self::FlowRequired { flow } => Some(&flow.task),
            Self::Accepted { .. } | Self::Planned { .. } | Self::Answered { .. } => None,
        }
    }
}

/// A part of an answer's text while it is written. Provisional: only the [`Answer`] counts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
#[derive(strum::IntoStaticStr)]
#[strum(serialize_all = "snake_case", prefix = "progress.")]
pub enum AnswerPiece {
    /// The next piece of the text.
    Text {
        /// The text that follows the pieces so far.
        text: String,
    },
    /// The pieces so far are void: the answer is written anew.
    TextReset,
}

impl AnswerPiece {
    /// The CloudEvents `type` of this piece.
    #[must_use]
    pub fn event_type(&self) -> &'static str {
        self.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_the_serialised_form() {
        use crate::capability::Effect;
        use crate::flow::{FlowEnd, FlowKind};
        fn check(serialised: impl Serialize, name: impl ToString) {
            assert_eq!(serde_json::to_value(serialised).unwrap(), name.to_string());
        }
        FlowKind::ALL.iter().for_each(|kind| check(kind, kind));
        for effect in [Effect::Read, Effect::Write, Effect::Irreversible] {
            check(effect, effect);
        }
        for end in [FlowEnd::Approved, FlowEnd::Withdrawn] {
            check(end, end);
        }
        for state in [AnswerState::Completed, AnswerState::Cancelled] {
            check(state, state.as_str());
        }
        let (flow, end) = ("t1.1".parse().unwrap(), FlowEnd::Denied);
        let task = TaskId::new("t1").unwrap();
        let event = Progress::FlowEnded { task, flow, end };
        assert_eq!(event.event_type(), "progress.flow_ended");
        assert_eq!(AnswerPiece::TextReset.event_type(), "progress.text_reset");
    }

    #[test]
    fn a_trace_is_one_of_w3c() {
        let (trace, parent) = ("4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7");
        let zeros = "0".repeat(32);
        let upper = trace.to_uppercase();
        for (text, is) in [
            (format!("00-{trace}-{parent}-01"), true),
            (
                format!("cc-{trace}-{parent}-01-what-the-future-brings"),
                true,
            ),
            (format!("00-{trace}-{parent}-01-more"), false),
            (format!("00-{trace}-{parent}-01-"), false),
            (format!("ff-{trace}-{parent}-01"), false),
            (format!("00-{zeros}-{parent}-01"), false),
            (format!("00-{trace}-{}-01", "0".repeat(16)), false),
            (format!("00-{upper}-{parent}-01"), false),
            (format!("00-{trace}-{parent}"), false),
            (format!("cc-{trace}-{parent}-01-{}", "x".repeat(100)), false),
            (String::new(), false),
        ] {
            assert_eq!(is_traceparent(&text), is, "{text}");
        }
    }

    #[test]
    fn an_unusable_request_is_refused_with_what_to_do() {
        assert!(UserRequest::new("hello").check().is_ok());
        for query in ["", "  \n\t", &"x".repeat(MAX_QUERY_BYTES + 1)] {
            let failure = UserRequest::new(query).check().unwrap_err();
            assert_eq!(failure.code, ErrorCode::BadRequest);
            assert!(failure.hint.is_some());
        }
        assert!(serde_json::from_str::<UserRequest>(r#"{"query":"x","qeury":"y"}"#).is_err());
        let turn = |bytes: usize| Turn {
            role: Role::User,
            text: "x".repeat(bytes),
        };
        for (history, ok) in [
            (vec![turn(1); MAX_TURNS], true),
            (vec![turn(1); MAX_TURNS + 1], false),
            (vec![turn(MAX_HISTORY_BYTES / 2); 2], true),
            (vec![turn(MAX_HISTORY_BYTES), turn(1)], false),
        ] {
            let request = UserRequest {
                history,
                ..UserRequest::new("and tomorrow?")
            };
            assert_eq!(request.check().is_ok(), ok);
        }
    }
}
