//! The orchestrator: admission, the table of requests, one short-lived actor per request.
//!
//! Decides nothing itself: the pure crate `amcp-plan` decides which plan runs and what happens next. Makes no plan
//! (`amcp-planner` does) and knows no specialist: it finds agents at run time, in the registry's directory.

mod account;
mod actor;
mod alarm;
mod counts;
pub mod delegate;
mod draft;
pub mod handle;
mod keys;
mod listing;
mod places;
mod planning;
pub mod record;
mod recorder;
mod recovery;
mod request;
mod requests;
mod settings;
mod shared;
mod slot;
mod witness;

pub use account::{Account, PHASE_SECONDS, REQUEST_SECONDS, TASK_SECONDS, TOKENS};
pub use counts::Counts;
pub use delegate::Delegation;
pub use handle::{Drained, OrchestratorHandle, PlanView};
pub use listing::{Wanted, Whose};
pub use record::{OpenFlow, Phase, ProgressFeed, Recorded, RequestView, TextFeed, Ticket};
pub use recorder::Recorder;
pub use recovery::Recovered;
pub use settings::Settings;
pub use shared::REFUSED;
pub use witness::Witness;

/// The CloudEvents `source` of an orchestrator's events.
pub const SOURCE: &str = "/agent/orchestrator";
