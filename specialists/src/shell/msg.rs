//! The shell's mailbox: the messages that every agent takes, and those of its own jobs and timers.

use amcp_registry::{AgentMsg, TaskKey};

/// The shell's mailbox.
#[derive(Debug)]
pub enum ShellMsg {
    /// From any sender: a message that every agent takes.
    Agent(AgentMsg),
    /// From a job: its place is free.
    JobEnded {
        /// The attempt that the job made.
        key: TaskKey,
        /// The text of the specialist's panic.
        panic: Option<String>,
    },
    /// From its timer: the jobs that ran beside a panic have had their time.
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
