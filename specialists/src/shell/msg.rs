//! The shell's mailbox: what every agent understands, and what only its own jobs may say.

use amcp_registry::{AgentMsg, TaskKey};

/// What a shell understands.
#[derive(Debug)]
pub enum ShellMsg {
    /// What every agent understands; from anybody.
    Agent(AgentMsg),
    /// From a job: its place is free.
    JobEnded {
        /// Which attempt.
        key: TaskKey,
        /// What the specialist's panic said.
        panic: Option<String>,
    },
    /// From its timer: what still runs after a panic had its time.
    FailNow,
}

impl ractor::Message for ShellMsg {}

impl From<AgentMsg> for ShellMsg {
    fn from(message: AgentMsg) -> Self {
        Self::Agent(message)
    }
}

impl TryFrom<ShellMsg> for AgentMsg {
    type Error = ShellMsg;

    fn try_from(message: ShellMsg) -> Result<Self, ShellMsg> {
        match message {
            ShellMsg::Agent(message) => Ok(message),
            own @ (ShellMsg::JobEnded { .. } | ShellMsg::FailNow) => Err(own),
        }
    }
}
