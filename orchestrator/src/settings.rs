//! The bounds and defaults of an orchestrator.
//!
//! Does not read a configuration; the node does.

use std::time::Duration;

use amcp_plan::PlanLimits;
use amcp_planner::Domain;
use smart_default::SmartDefault;

/// Bounds and defaults for all requests of an orchestrator.
#[derive(Debug, Clone, SmartDefault)]
pub struct Settings {
    /// Most requests that run at a time; the orchestrator refuses further ones as `overloaded`.
    // About 32 KB each: a burst of this size costs 32 MB.
    #[default = 1_024]
    pub max_requests: usize,
    /// Most requests that wait for nothing but flows, beside the running ones: a tenth of them of one user, half of them without a
    /// user. Further ones keep a place of `max_requests`.
    // A day's questions of a large team, about 32 KB each.
    #[default = 10_000]
    pub max_waiting: usize,
    /// A request's deadline when it names none.
    // As long as a person waits, and twice the default time-out of a task.
    #[default(Duration::from_secs(60))]
    pub default_deadline: Duration,
    /// The longest deadline that a request may name.
    #[default(Duration::from_secs(600))]
    pub max_deadline: Duration,
    /// Most attempts at one task.
    // The first attempt, one on another agent, and one after a restart.
    #[default = 3]
    pub attempts: u32,
    /// The bounds on a plan.
    pub limits: PlanLimits,
    /// Most LLM calls for one request, including repairs and the answer.
    // A plan with two repairs, a second round, the answer, and one to spare.
    #[default = 6]
    pub llm_calls: u32,
    /// Most bytes of results that one request may gather.
    #[default(32 * 1024 * 1024)]
    pub result_bytes: usize,
    /// Most answered requests that stay readable.
    #[default = 1_000]
    pub retained: usize,
    /// The capabilities that the orchestrator plans with; all of the mesh without a domain.
    pub domain: Option<Domain>,
    /// Whether tasks may reach other nodes: then each request of a user has a warrant.
    pub meshed: bool,
}
