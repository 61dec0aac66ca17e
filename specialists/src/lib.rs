//! Agents that do the work: the [`Specialist`] trait, the actor shell and the supervisor that run one, and the
//! specialists that AMCP ships.
//!
//! Does not know orchestrators: tasks come in through an agent's mailbox, and who sent them does not matter.

pub mod quarantine;
pub mod shell;
mod shell_job;
pub mod specialist;
pub mod supervisor;
mod supervisor_actor;

pub use amcp_protocol::{AgentCard, Capability, Consumes, Effect, Example, Failure, Produces};
pub use async_trait::async_trait;
pub use serde_json::{Value, json};
pub use shell::ShellLimits;
pub use specialist::{Context, Specialist, Task};
pub use supervisor::{ChildSpec, Leftover, SupervisorConfig, SupervisorHandle};
