//! The account of a request: what it took so far, for lists, the log and the metrics.
//!
//! Measures nothing itself; the request's progress has the times.

use std::time::Duration;

use amcp_protocol::event::rfc3339;
use amcp_protocol::llm::Usage;
use amcp_protocol::{Answer, ErrorCode, Progress, RequestId, TaskReport, UserRequest};
use schemars::JsonSchema;
use serde::{Serialize, Serializer};

use crate::record::Phase;

/// The name of the histogram of the seconds from acceptance to the answer, without waits for nothing but a person, by `state`.
pub const REQUEST_SECONDS: &str = "amcp_request_seconds";
/// The name of the histogram of the seconds of a request's parts, by `phase`: `planning`, `executing`, `writing`, `waiting`.
pub const PHASE_SECONDS: &str = "amcp_request_phase_seconds";

/// The name of the histogram of the seconds of tasks from the first dispatch to the end, by `capability` and `outcome`: `done`,
/// `failed`.
pub const TASK_SECONDS: &str = "amcp_task_seconds";
/// The name of the counter of language models' tokens, by `direction`: `read`, `written`.
pub const TOKENS: &str = "amcp_llm_tokens_total";

/// Longest beginning of a query in an account, in characters: two lines of a terminal.
const MAX_QUERY: usize = 200;

/// The account of one request, also of one that is under way. The times of its parts count whole milliseconds of the node's clock.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Account {
    /// The request.
    pub request_id: RequestId,
    /// The final state ([`AnswerState`](amcp_protocol::AnswerState)), or the stage ([`Phase`]) of a request under way.
    pub state: &'static str,
    /// The beginning of the query, at most 200 characters.
    pub query: String,
    /// The user, if the request names one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// The time of acceptance, in milliseconds since 1970 UTC.
    #[serde(rename = "accepted_at", serialize_with = "as_time")]
    #[schemars(with = "String", extend("format" = "date-time"))]
    pub accepted_unix_ms: i64,
    /// Whether the request was answered; `accepted_at` and `total_ms` tell when.
    pub answered: bool,
    /// Whether another orchestrator delegated the request.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub delegated: bool,
    /// Why the answer is not complete.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error_code: Option<ErrorCode>,
    /// The planner that made the plan; empty without a plan.
    pub planner: String,
    /// From acceptance to the first plan.
    pub planning_ms: u64,
    /// From the first plan to the end of the last task, further rounds included.
    pub executing_ms: u64,
    /// From the end of the last task to the answer.
    pub writing_ms: u64,
    /// The part of the time in which the request waited for nothing but a person.
    pub waiting_ms: u64,
    /// From acceptance to the answer, or to now.
    pub total_ms: u64,
    /// Number of tasks, refused ones included.
    pub task_count: usize,
    /// Number of attempts beyond the first of each task.
    pub retries: u32,
    /// The tokens of language models, known at the end.
    pub usage: Usage,
    /// From acceptance to the answer, without waits for nothing but a person.
    #[serde(skip)]
    #[schemars(skip)]
    pub(crate) worked: Duration,
}

fn as_time<S: Serializer>(unix_ms: &i64, serializer: S) -> Result<S::Ok, S::Error> {
    rfc3339(*unix_ms).serialize(serializer)
}

/// What a request's record knows, for its account.
pub(crate) struct Known<'a> {
    pub(crate) id: RequestId,
    pub(crate) request: &'a UserRequest,
    pub(crate) phase: Phase,
    pub(crate) answer: Option<&'a Answer>,
    /// Each event with its time, in milliseconds since 1970 UTC.
    pub(crate) progress: &'a [(i64, Progress)],
    /// The times of acceptance and of the answer, or of now, in milliseconds since 1970 UTC.
    pub(crate) span: (i64, i64),
    /// How long the request waited for nothing but a person.
    pub(crate) waiting: Duration,
    /// From acceptance to the answer, or to now.
    pub(crate) total: Duration,
}

impl Account {
    pub(crate) fn of(known: Known<'_>) -> Self {
        let (accepted, now) = known.span;
        let (mut planned, mut ended) = (None, None);
        let (mut planner, mut task_count, mut retries) = (String::new(), 0, 0);
        for (at, event) in known.progress {
            match event {
                Progress::Planned {
                    planner: by, tasks, ..
                } => {
                    planned = planned.or(Some(*at));
                    by.clone_into(&mut planner);
                    task_count += tasks.len();
                }
                Progress::Completed { .. } | Progress::Failed { .. } => ended = Some(*at),
                Progress::Retried { .. } => retries += 1,
                Progress::Accepted { .. }
                | Progress::Dispatched { .. }
                | Progress::Progressed { .. }
                | Progress::FlowRequired { .. }
                | Progress::FlowEnded { .. }
                | Progress::Answered { .. } => (),
            }
        }
        if let Some(answer) = known.answer {
            answer.planner.clone_into(&mut planner);
            task_count = answer.tasks.len();
            let attempts = answer.tasks.iter().map(|task| task.attempts);
            retries = attempts.map(|attempts| attempts.saturating_sub(1)).sum();
        } else if known.phase != Phase::Synthesizing {
            ended = None;
        }
        // A clock that was set back gives no negative times.
        let between = |from: i64, to: i64| u64::try_from(to.saturating_sub(from)).unwrap_or(0);
        let in_ms = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let planned = planned.unwrap_or(now);
        let ended = ended.unwrap_or(if known.answer.is_some() { planned } else { now });
        let UserRequest { query, user, .. } = known.request;
        Self {
            request_id: known.id,
            state: known
                .answer
                .map_or(known.phase.as_str(), |answer| answer.state.as_str()),
            query: query.chars().take(MAX_QUERY).collect(),
            user: user.clone(),
            accepted_unix_ms: accepted,
            answered: known.answer.is_some(),
            delegated: known.request.lineage.depth > 0,
            error_code: known.answer.and_then(|a| Some(a.error.as_ref()?.code)),
            planner,
            planning_ms: between(accepted, planned),
            executing_ms: between(planned, ended),
            writing_ms: between(ended, now),
            waiting_ms: in_ms(known.waiting),
            total_ms: in_ms(known.total),
            task_count,
            retries,
            usage: known.answer.map(|answer| answer.usage).unwrap_or_default(),
            worked: known.total.saturating_sub(known.waiting),
        }
    }

    /// Writes the one log line of an answer, and adds the request and its tasks to the histograms.
    pub(crate) fn tell(&self, tasks: &[TaskReport]) {
        for task in tasks.iter().filter(|task| task.attempts > 0) {
            let capability = task.capability.to_string();
            let outcome = if task.result.is_some() {
                "done"
            } else {
                "failed"
            };
            metrics::histogram!(TASK_SECONDS, "capability" => capability, "outcome" => outcome)
                .record(Duration::from_millis(task.duration_ms));
        }
        let state = self.state;
        metrics::histogram!(REQUEST_SECONDS, "state" => state).record(self.worked);
        let ms = Duration::from_millis;
        for (phase, time) in [
            ("planning", ms(self.planning_ms)),
            ("executing", ms(self.executing_ms)),
            ("writing", ms(self.writing_ms)),
            ("waiting", ms(self.waiting_ms)),
        ] {
            metrics::histogram!(PHASE_SECONDS, "phase" => phase).record(time);
        }
        let Usage {
            prompt_tokens,
            reply_tokens,
            calls: _,
        } = self.usage;
        for (direction, tokens) in [("read", prompt_tokens), ("written", reply_tokens)] {
            metrics::counter!(TOKENS, "direction" => direction).increment(u64::from(tokens));
        }
        let error = self.error_code.map(ErrorCode::as_str);
        tracing::info!(
            target: "amcp::request",
            request = %self.request_id,
            user = self.user,
            state,
            error,
            planner = self.planner,
            planning_ms = self.planning_ms,
            executing_ms = self.executing_ms,
            writing_ms = self.writing_ms,
            waiting_ms = self.waiting_ms,
            total_ms = self.total_ms,
            tasks = self.task_count,
            retries = self.retries,
            prompt_tokens,
            reply_tokens,
            "answered"
        );
    }
}
