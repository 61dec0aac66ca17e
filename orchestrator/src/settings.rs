//! The bounds and defaults of an orchestrator.
//!
//! Does not read a configuration; the node does.

use std::time::Duration;

use amcp_plan::PlanLimits;
use amcp_planner::Domain;

/// Bounds and defaults for all requests of an orchestrator.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Most requests that run at a time; the orchestrator refuses further ones as `overloaded`.
    pub max_requests: usize,
    /// Most requests that wait for nothing but flows, beside the running ones: a tenth of them of one user, half of them without a
    /// user. Further ones keep a place of `max_requests`.
    pub max_waiting: usize,
    /// A request's deadline when it names none.
    pub default_deadline: Duration,
    /// The longest deadline that a request may name.
    pub max_deadline: Duration,
    /// Most attempts at one task.
    pub attempts: u32,
    /// The bounds on a plan.
    pub limits: PlanLimits,
    /// Most LLM calls for one request, including repairs and the answer.
    pub llm_calls: u32,
    /// Most bytes of results that one request may gather.
    pub result_bytes: usize,
    /// Most answered requests that stay readable.
    pub retained: usize,
    /// The capabilities that the orchestrator plans with; all of the mesh without a domain.
    pub domain: Option<Domain>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            // About 32 KB each: a burst of this size costs 32 MB.
            max_requests: 1_024,
            // A day's questions of a large team, about 32 KB each.
            max_waiting: 10_000,
            // As long as a person waits, and twice the default time-out of a task.
            default_deadline: Duration::from_secs(60),
            max_deadline: Duration::from_secs(600),
            // The first attempt, one on another agent, and one after a restart.
            attempts: 3,
            limits: PlanLimits::default(),
            // A plan with two repairs, a second round, the answer, and one to spare.
            llm_calls: 6,
            result_bytes: 32 * 1024 * 1024,
            retained: 1_000,
            domain: None,
        }
    }
}
