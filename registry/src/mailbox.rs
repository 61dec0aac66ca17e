//! The mailbox that every agent has: what orchestrators and the registry may send it, here or from another node.
//!
//! A variant crosses nodes by its name: never rename one, add.

use amcp_protocol::{AgentCard, RequestId, TaskId, TaskRequest, TaskResponse};
use ractor::{DerivedActorRef, RpcReplyPort};
use ractor_cluster_derive::RactorClusterMessage;
use serde::{Deserialize, Serialize};

use crate::wire::Wire;

/// Names one attempt at one task.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct TaskKey {
    /// The request.
    pub request_id: RequestId,
    /// The task within its plan.
    pub task_id: TaskId,
    /// Counts from 1.
    pub attempt: u32,
}

/// What an agent understands.
#[derive(Debug, RactorClusterMessage)]
pub enum AgentMsg {
    /// From a request: do this. Answered once; a port that is dropped unanswered means that the agent died with it.
    #[rpc]
    Execute(Wire<TaskRequest>, RpcReplyPort<Wire<TaskResponse>>),
    /// From a request: the result is no longer wanted. Never answered.
    Cancel(Wire<TaskKey>),
    /// From a registry: who are you? Answered with the card.
    #[rpc]
    Describe(RpcReplyPort<Wire<AgentCard>>),
    /// From its supervisor: take nothing new, end what you have, stop. Never answered.
    Drain,
}

/// An agent that can be sent [`AgentMsg`]s: a specialist's shell here, later also its shim for another node.
pub type AgentPort = DerivedActorRef<AgentMsg>;
