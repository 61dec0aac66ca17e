//! What the orchestrator tells of its requests to the part of the node that keeps account of them: an audit log, budgets.
//!
//! Keeps nothing itself.

use std::fmt::Debug;

use amcp_protocol::llm::Usage;
use amcp_protocol::{
    AgentId, Answer, CapabilityName, Failure, Progress, RequestId, TaskRequest, UserRequest,
};

/// Hears of requests. Each method is called where requests are accepted and moved on: it must neither block nor panic.
pub trait Witness: Send + Sync + Debug {
    /// A request is about to be accepted, or (without an id) a plan about to be made that nobody carries out.
    ///
    /// # Errors
    /// The reason for which it is refused.
    fn accepts(&self, id: Option<RequestId>, request: &UserRequest) -> Result<(), Failure>;
    /// A request of a user was refused.
    fn refused(&self, request: &UserRequest, failure: &Failure);
    /// An attempt at a task goes to an agent.
    fn dispatched(&self, request: &UserRequest, task: &TaskRequest, agent: &AgentId);
    /// A request goes on; with the capability of the event's task.
    fn progressed(
        &self,
        request: (RequestId, &UserRequest),
        capability: Option<&CapabilityName>,
        progress: &Progress,
    );
    /// A request that was accepted has its answer.
    fn answered(&self, request: &UserRequest, answer: &Answer);
    /// A model has answered for a plan that nobody carries out.
    fn spent(&self, request: &UserRequest, usage: Usage);
    /// A plan that nobody carries out is made, or failed.
    fn planned(&self, request: &UserRequest, failure: Option<&Failure>);
}
