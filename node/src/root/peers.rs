//! Connects a node's requests and its gateway with other nodes: answers their questions, and puts the gateway's to them.
//!
//! Carries nothing itself; the cluster's links do.

use std::path::PathBuf;
use std::sync::Arc;

use amcp_cluster::{Cluster, Desk};
use amcp_gateway::{Peers, file_piece, request_body};
use amcp_orchestrator::OrchestratorHandle;
use amcp_protocol::llm::PortFuture;
use amcp_protocol::{Failure, FilePiece, FlowAnswer, FlowId, NodeName, RequestId, TaskRequest};
use amcp_specialists::reports::owner;
use serde_json::{Value, json};

use super::ledger::Ledger;

/// Answers other nodes' questions about this node's requests and reports.
#[derive(Debug)]
pub(super) struct OwnRequests {
    pub(super) node: NodeName,
    pub(super) orchestrator: OrchestratorHandle,
    /// The folder of reports.
    pub(super) reports: PathBuf,
    pub(super) ledger: Arc<Ledger>,
}

impl Desk for OwnRequests {
    fn request(&self, id: RequestId) -> Option<Value> {
        let view = self.orchestrator.request(id)?;
        Some(request_body(&view, Some(&self.node)))
    }

    fn list(&self, wanted: Value) -> Option<Value> {
        let wanted = serde_json::from_value(wanted).ok()?;
        Some(json!(self.orchestrator.list(&wanted)))
    }

    fn cancel(&self, id: RequestId) -> bool {
        self.orchestrator.cancel(id).is_ok()
    }

    fn refused(&self, peer: &NodeName, task: &TaskRequest, failure: &Failure) {
        self.ledger.task_refused(peer, task, failure);
    }

    fn answer_flow(
        &self,
        id: RequestId,
        flow: FlowId,
        answer: FlowAnswer,
    ) -> PortFuture<'static, Option<Result<(), Failure>>> {
        let orchestrator = self.orchestrator.clone();
        Box::pin(async move {
            orchestrator.request(id)?;
            Some(orchestrator.answer_flow(id, flow, answer).await)
        })
    }

    fn file(&self, name: String, from: u64) -> PortFuture<'static, Option<FilePiece>> {
        let reports = self.reports.clone();
        Box::pin(async move { file_piece((&reports, owner), &name, from).await })
    }
}

/// Asks the other nodes.
#[derive(Debug)]
pub(super) struct OtherNodes {
    pub(super) node: NodeName,
    pub(super) cluster: Cluster,
}

impl Peers for OtherNodes {
    fn node(&self) -> &NodeName {
        &self.node
    }

    fn view(&self) -> Value {
        serde_json::to_value(self.cluster.view()).expect("a view has string keys only")
    }

    fn http_of(&self, node: &NodeName) -> Option<String> {
        let members = self.cluster.view().members;
        members
            .into_iter()
            .find(|member| member.name == *node)?
            .http
    }

    fn find(&self, id: RequestId) -> PortFuture<'_, Option<(NodeName, Value)>> {
        Box::pin(self.cluster.links().find_request(id))
    }

    fn list(&self, wanted: Value) -> PortFuture<'_, Vec<(NodeName, Option<Vec<Value>>)>> {
        Box::pin(async move {
            let replies = self
                .cluster
                .links()
                .list_requests(&wanted)
                .await
                .into_iter();
            let rows = |reply: Option<Value>| serde_json::from_value(reply?).ok();
            replies.map(|(node, reply)| (node, rows(reply))).collect()
        })
    }

    fn file<'a>(
        &'a self,
        name: &'a str,
        from: u64,
        owner: Option<&'a NodeName>,
    ) -> PortFuture<'a, Option<(NodeName, FilePiece)>> {
        Box::pin(self.cluster.links().file(name, from, owner))
    }

    fn cancel(&self, id: RequestId) -> PortFuture<'_, bool> {
        Box::pin(self.cluster.links().cancel_request(id))
    }

    fn answer_flow(
        &self,
        owner: NodeName,
        id: RequestId,
        flow: FlowId,
        answer: FlowAnswer,
    ) -> PortFuture<'_, Option<Result<(), Failure>>> {
        let links = self.cluster.links();
        Box::pin(async move { links.answer_flow(&owner, id, &flow, &answer).await })
    }
}
