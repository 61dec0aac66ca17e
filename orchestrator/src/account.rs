//! The account of an answered request: what it took, for the log and the metrics.
//!
//! Measures nothing itself; the request's progress has the times.

use std::time::Duration;

use amcp_protocol::llm::Usage;
use amcp_protocol::{Answer, AnswerState, ErrorCode, Progress, RequestId, TaskReport};
use serde::Serialize;

/// The name of the histogram of the seconds from acceptance to the answer, without waits for nothing but a person, by `state`.
pub const REQUEST_SECONDS: &str = "amcp_request_seconds";
/// The name of the histogram of the seconds of a request's parts, by `phase`: `planning`, `executing`, `writing`, `waiting`.
pub const PHASE_SECONDS: &str = "amcp_request_phase_seconds";

/// The name of the histogram of the seconds of tasks from the first dispatch to the end, by `capability` and `outcome`: `done`,
/// `failed`.
pub const TASK_SECONDS: &str = "amcp_task_seconds";
/// The name of the counter of language models' tokens, by `direction`: `read`, `written`.
pub const TOKENS: &str = "amcp_llm_tokens_total";

/// The account of one answered request. The times of its parts count whole milliseconds of the node's clock.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Account {
    /// The request.
    pub request_id: RequestId,
    /// The user, if the request names one.
    pub user: Option<String>,
    /// The final state.
    pub state: AnswerState,
    /// Why the answer is not complete.
    pub error: Option<ErrorCode>,
    /// The planner that made the plan; empty without a plan.
    pub planner: String,
    /// From acceptance to the first plan.
    pub planning_ms: u64,
    /// From the first plan to the end of the last task, further rounds included.
    pub executing_ms: u64,
    /// From the end of the last task to the answer.
    pub writing_ms: u64,
    /// The part of the time in which the request waited for nothing but a person.
    pub waiting: Duration,
    /// From acceptance to the answer.
    pub total: Duration,
    /// Number of tasks, refused ones included.
    pub tasks: usize,
    /// Number of attempts beyond the first of each task.
    pub retries: u32,
    /// The tokens of language models.
    pub usage: Usage,
}

impl Account {
    /// `progress` holds the time of each event in milliseconds since 1970 UTC, `now` is the time of the answer.
    pub(crate) fn of(
        answer: &Answer,
        user: Option<&str>,
        progress: &[(i64, Progress)],
        (now, total, waiting): (i64, Duration, Duration),
    ) -> Self {
        let (mut accepted, mut planned, mut ended) = (now, None, None);
        for (at, event) in progress {
            match event {
                Progress::Accepted { .. } => accepted = *at,
                Progress::Planned { .. } => planned = planned.or(Some(*at)),
                Progress::Completed { .. } | Progress::Failed { .. } => ended = Some(*at),
                Progress::Dispatched { .. }
                | Progress::Progressed { .. }
                | Progress::Retried { .. }
                | Progress::FlowRequired { .. }
                | Progress::FlowEnded { .. }
                | Progress::Answered { .. } => (),
            }
        }
        // A clock that was set back gives no negative times.
        let between = |from: i64, to: i64| u64::try_from(to.saturating_sub(from)).unwrap_or(0);
        let planned = planned.unwrap_or(now);
        let ended = ended.unwrap_or(planned);
        let attempts = answer.tasks.iter().map(|task| task.attempts);
        Self {
            request_id: answer.request_id,
            user: user.map(str::to_owned),
            state: answer.state,
            error: answer.error.as_ref().map(|error| error.code),
            planner: answer.planner.clone(),
            planning_ms: between(accepted, planned),
            executing_ms: between(planned, ended),
            writing_ms: between(ended, now),
            waiting,
            total,
            tasks: answer.tasks.len(),
            retries: attempts.map(|attempts| attempts.saturating_sub(1)).sum(),
            usage: answer.usage,
        }
    }

    /// From acceptance to the answer, without waits for nothing but a person.
    pub(crate) fn worked(&self) -> Duration {
        self.total.saturating_sub(self.waiting)
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
        let state = self.state.as_str();
        metrics::histogram!(REQUEST_SECONDS, "state" => state).record(self.worked());
        let ms = Duration::from_millis;
        for (phase, time) in [
            ("planning", ms(self.planning_ms)),
            ("executing", ms(self.executing_ms)),
            ("writing", ms(self.writing_ms)),
            ("waiting", self.waiting),
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
        let error = self.error.map(ErrorCode::as_str);
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
            waiting_ms = self.waiting.as_millis(),
            total_ms = self.total.as_millis(),
            tasks = self.tasks,
            retries = self.retries,
            prompt_tokens,
            reply_tokens,
            "answered"
        );
    }
}
