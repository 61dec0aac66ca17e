//! The orchestrator: admission, the table of requests, one short-lived actor per request.
//!
//! Decides nothing itself: which plan runs and what happens next are decisions of the pure crate `amcp-plan`. Makes no plan
//! (`amcp-planner` does) and does not know any specialist: agents are found at run time, in the registry's directory.

mod actor;
pub mod delegate;
pub mod handle;
mod planning;
pub mod record;
mod request;
mod shared;

pub use delegate::Delegation;
pub use handle::{Drained, OrchestratorHandle, PlanView, Settings};
pub use record::{Phase, ProgressFeed, Recorded, RequestView, Ticket};
pub use shared::Counts;

/// The CloudEvents `source` of an orchestrator's events.
pub const SOURCE: &str = "/agent/orchestrator";
