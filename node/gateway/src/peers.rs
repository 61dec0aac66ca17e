//! The port to the other nodes of a mesh.
//!
//! Does not know how nodes are linked: the node brings an implementation.

use amcp_protocol::llm::PortFuture;
use amcp_protocol::{Failure, FilePiece, FlowAnswer, FlowId, NodeName, RequestId};
use serde_json::Value;

/// The other nodes of a mesh.
pub trait Peers: Send + Sync + std::fmt::Debug {
    /// The name of this node.
    fn node(&self) -> &NodeName;

    /// The members as this node sees them, for GET /cluster.
    fn view(&self) -> Value;

    /// The address at which clients reach a node's gateway, if known.
    fn http_of(&self, node: &NodeName) -> Option<String>;

    /// Asks the other nodes for a request: the node that has it, and its [`crate::request_body`].
    fn find(&self, id: RequestId) -> PortFuture<'_, Option<(NodeName, Value)>>;

    /// Asks the other nodes for a list of requests ([`amcp_orchestrator::Wanted`] as JSON): each node with its accounts of them, none
    /// for one that did not reply.
    fn list(&self, wanted: Value) -> PortFuture<'_, Vec<(NodeName, Option<Vec<Value>>)>>;

    /// A piece of a report of another node from a byte on, and that node; asks all nodes while the owner is not known.
    fn file<'a>(
        &'a self,
        name: &'a str,
        from: u64,
        owner: Option<&'a NodeName>,
    ) -> PortFuture<'a, Option<(NodeName, FilePiece)>>;

    /// Cancels the request on the node that has it; false if no node has it.
    fn cancel(&self, id: RequestId) -> PortFuture<'_, bool>;

    /// Hands a person's answer to the node that has the request. Returns whether the answer counts there; none when that node
    /// cannot be reached, or its build takes no answers from other nodes.
    fn answer_flow(
        &self,
        owner: NodeName,
        id: RequestId,
        flow: FlowId,
        answer: FlowAnswer,
    ) -> PortFuture<'_, Option<Result<(), Failure>>>;
}
