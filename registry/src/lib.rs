//! The agents and their capabilities: the pure [`directory::Directory`], the actor that keeps it, the mailbox of every agent,
//! and the node's event bus.
//!
//! Plans no task and restarts no agent; it chooses the agent for a task.

pub mod actor;
pub mod agent;
pub mod bus;
pub mod directory;
pub mod group;
pub mod mailbox;
pub mod restart;
pub mod roster;
pub mod trace;

pub use actor::{Agents, CallHeard, RegistryHandle, RegistryMsg};
pub use agent::{AgentLoad, AgentState, AgentStatus, Entry, InFlight, Registration};
pub use bus::{EventBus, Subscription};
pub use directory::{Change, Directory, RegisterError};
pub use mailbox::{AgentMsg, AgentPort, AnswerPort, Carrier, Signs, TaskKey};
pub use restart::{Decision, Exit, Restart, RestartBudget, RestartPolicy};
pub use roster::RosterChange;
