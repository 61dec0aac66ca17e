//! The way in: asks are admitted here, before any mailbox, and watched, cancelled and drained from here.
//!
//! Does not run a request; each gets an actor of its own.

use std::time::Duration;

use amcp_plan::PlanLimits;
use amcp_protocol::plan::PlannedTaskView;
use amcp_protocol::{Failure, RequestId, UserRequest};
use serde::{Deserialize, Serialize};

use crate::record::{ProgressFeed, RequestView, Ticket};

/// What an orchestrator is run with.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Most requests that are worked on at a time; further ones are refused as `overloaded`.
    pub max_requests: usize,
    /// A request's deadline when it names none.
    pub default_deadline: Duration,
    /// The longest deadline that a request may name.
    pub max_deadline: Duration,
    /// Most attempts at one task.
    pub attempts: u32,
    /// How large a plan may be.
    pub limits: PlanLimits,
    /// Most LLM calls for one request, repairs and the answer included.
    pub llm_calls: u32,
    /// Most bytes of results that one request may gather.
    pub result_bytes: usize,
    /// How many answered requests stay readable.
    pub retained: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            // About 32 KB each: a burst of this size costs 32 MB.
            max_requests: 1_024,
            // What a person waits for, and twice the default time-out of one task.
            default_deadline: Duration::from_secs(60),
            max_deadline: Duration::from_secs(600),
            // The first, one elsewhere, and one after a restart.
            attempts: 3,
            limits: PlanLimits::default(),
            // A plan with two repairs, a second round, the answer, and one to spare.
            llm_calls: 6,
            result_bytes: 32 * 1024 * 1024,
            retained: 1_000,
        }
    }
}

/// A plan that was made and not carried out.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PlanView {
    /// Who made it.
    pub planner: String,
    /// The tasks, compiled.
    pub tasks: Vec<PlannedTaskView>,
    /// Parts of the query that no capability covers.
    pub unplaced: Vec<String>,
    /// The planner's words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reasoning: Option<String>,
    /// An answer that needs no task.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answer_directly: Option<String>,
    /// What the reader should know.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

/// What was left when a drain ended.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Drained {
    /// How many requests were answered during the drain.
    pub answered: usize,
    /// The requests that the deadline cut off; each was answered as failed.
    pub cut_off: Vec<RequestId>,
}

/// A handle on a running orchestrator; clones share it.
#[derive(Debug, Clone)]
pub struct OrchestratorHandle {}

impl OrchestratorHandle {
    /// Accepts a request. An accepted request gets exactly one final response.
    ///
    /// # Errors
    /// `bad_request`; `overloaded` with `retry_after_ms`; `shutting_down`; `idempotency_conflict` when the same user
    /// gave the same key with another request.
    pub fn ask(
        &self,
        _request: UserRequest,
        _idempotency_key: Option<&str>,
    ) -> Result<Ticket, Failure> {
        unimplemented!("written next")
    }

    /// Makes the plan only; dispatches nothing.
    ///
    /// # Errors
    /// Those of [`Self::ask`] and of planning.
    pub async fn plan(&self, _request: UserRequest) -> Result<PlanView, Failure> {
        unimplemented!("written next")
    }

    /// Cancels a request; one that was answered before stays as it is.
    ///
    /// # Errors
    /// `not_found`.
    pub fn cancel(&self, _id: RequestId) -> Result<(), Failure> {
        unimplemented!("written next")
    }

    /// What is known of a request; none when it is unknown or has expired.
    #[must_use]
    pub fn request(&self, _id: RequestId) -> Option<RequestView> {
        unimplemented!("written next")
    }

    /// A wait for a request accepted before.
    #[must_use]
    pub fn ticket(&self, _id: RequestId) -> Option<Ticket> {
        unimplemented!("written next")
    }

    /// A request's progress from a position on (0 for all of it).
    #[must_use]
    pub fn progress(&self, _id: RequestId, _from: usize) -> Option<ProgressFeed> {
        unimplemented!("written next")
    }

    /// How many requests are being worked on.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        unimplemented!("written next")
    }

    /// Takes nothing new, waits for what is under way, and answers what is left after `within` as failed.
    pub async fn drain(&self, _within: Duration) -> Drained {
        unimplemented!("written next")
    }
}
