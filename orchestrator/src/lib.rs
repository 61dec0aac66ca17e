//! The orchestrator: admission, one short-lived actor per request, the planners and the LLM clients behind them.
//!
//! Decides nothing itself: which plan runs and what happens next are decisions of the pure crate `amcp-plan`. Does not
//! know any specialist: agents are found at run time, in the registry's directory.

mod actor;
pub mod delegate;
pub mod domain;
pub mod handle;
pub mod llm;
pub mod planner;
mod planning;
pub mod record;
mod request;
mod shared;

pub use delegate::Delegation;
pub use domain::{Domain, DomainError};
pub use handle::{Drained, OrchestratorHandle, PlanView, Settings};
pub use planner::{
    ComposeInput, Composed, Feedback, Planned, Planner, PlanningError, PlanningInput,
};
pub use record::{Phase, ProgressFeed, Recorded, RequestView, Ticket};
pub use shared::Counts;

/// The CloudEvents `source` of an orchestrator's events.
pub const SOURCE: &str = "/agent/orchestrator";
