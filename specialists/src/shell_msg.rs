//! The shell's mailbox: what every agent understands, and what only its own jobs may say.
//!
//! Does not let another node say the latter: only [`AgentMsg`]s are read from the wire.

use amcp_registry::{AgentMsg, TaskKey};
use ractor::Message;
use ractor::message::{BoxedDowncastErr, SerializedMessage};

/// What a shell understands.
#[derive(Debug)]
pub enum ShellMsg {
    /// What every agent understands; from anybody, here or on another node.
    Agent(AgentMsg),
    /// From a job: its place is free. Never from another node.
    JobEnded {
        /// Which attempt.
        key: TaskKey,
        /// What the specialist's panic said.
        panic: Option<String>,
    },
    /// From its timer: what still runs after a panic had its time. Never from another node.
    FailNow,
}

impl Message for ShellMsg {
    fn serializable() -> bool {
        true
    }

    fn serialize(self) -> Result<SerializedMessage, BoxedDowncastErr> {
        AgentMsg::try_from(self)
            .map_err(|_| BoxedDowncastErr)
            .and_then(Message::serialize)
    }

    fn deserialize(bytes: SerializedMessage) -> Result<Self, BoxedDowncastErr> {
        AgentMsg::deserialize(bytes).map(Self::Agent)
    }
}

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
            local @ (ShellMsg::JobEnded { .. } | ShellMsg::FailNow) => Err(local),
        }
    }
}
