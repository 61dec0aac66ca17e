//! What crosses a link: tasks, answers, cards, questions; in frames, so that what goes the same way at the same time goes
//! together.

use std::sync::Arc;
use std::time::Duration;

use amcp_protocol::{NodeName, RequestId};
use amcp_registry::RegistryHandle;
use ractor::{ActorCell, SpawnErr};
use ractor_cluster::NodeId;
use serde_json::Value;
use tokio::sync::mpsc;

use crate::info::NodeInfo;
use crate::settings::AllowList;
use crate::transport::Meter;
use crate::view::ClusterCounts;

/// What other nodes may ask this one.
pub trait Desk: Send + Sync + std::fmt::Debug {
    /// The view of a request that this node has, as `GET /requests/{id}` shows it.
    fn request(&self, id: RequestId) -> Option<Value>;

    /// Cancels a request; says whether this node has it.
    fn cancel(&self, id: RequestId) -> bool;
}

/// A link about to be used: what the connection's greeting settled.
#[derive(Debug, Clone)]
pub struct LinkInfo {
    /// Who is at the other side.
    pub peer: NodeInfo,
    /// What frames from there carry.
    pub token_in: u64,
    /// What frames to there must carry.
    pub token_out: u64,
    /// Counts the connection's bytes.
    pub meter: Arc<Meter>,
}

/// What a peer says that is the members' business.
#[derive(Debug)]
pub enum LinkEvent {
    /// It knows these members, itself not among them.
    Members(NodeName, Vec<NodeInfo>),
    /// It drains: it ends what it has and takes nothing new.
    Draining(NodeName),
    /// It is about to close its links and does not come back under this incarnation.
    Goodbye(NodeName),
}

/// How a link fares.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkStatus {
    /// With whom.
    pub peer: NodeName,
    /// Which link.
    pub token_in: u64,
    /// Agents of the peer in the directory.
    pub agents: usize,
    /// Tasks sent to it and not answered yet.
    pub in_flight: usize,
    /// Tasks of it that are worked on here.
    pub serving: usize,
    /// Bytes that wait to be written to it.
    pub queued_bytes: u64,
}

/// All links of a node. Cloning shares them.
#[derive(Debug, Clone)]
pub struct Links;

impl Links {
    /// No links yet. `events` hears what peers say about members.
    #[must_use]
    pub fn new(
        _name: NodeName,
        _registry: RegistryHandle,
        _desk: Arc<dyn Desk>,
        _allow: AllowList,
        _events: mpsc::UnboundedSender<LinkEvent>,
    ) -> Self {
        unimplemented!()
    }

    /// Starts the one actor that peers reach, linked to `supervisor`; it is in the process group of all nodes' ports when
    /// this returns.
    ///
    /// # Errors
    /// [`SpawnErr`] when the supervisor is stopping.
    pub async fn spawn_port(&self, _supervisor: ActorCell) -> Result<ActorCell, SpawnErr> {
        unimplemented!()
    }

    /// The port of the peer behind a session of ractor_cluster, once the session is ready.
    #[must_use]
    pub fn port_of(_session: NodeId) -> Option<ActorCell> {
        unimplemented!()
    }

    /// Uses a link from now on: this node's cards go to the peer. `port` is the peer's.
    pub fn open(&self, _link: LinkInfo, _port: ActorCell) {
        unimplemented!()
    }

    /// Uses a link no more: the peer's agents leave the directory at once, and what was in flight is lost. Harmless for a
    /// link that is not open. Neither cuts the connection nor stops its session.
    pub fn close(&self, _token_in: u64) {
        unimplemented!()
    }

    /// Sends a heartbeat over every link.
    pub fn beat(&self) {
        unimplemented!()
    }

    /// Tells every peer which members there are.
    pub fn gossip(&self, _members: Vec<NodeInfo>) {
        unimplemented!()
    }

    /// Withdraws this node's agents from every peer, and tells them that it drains. New tasks are refused from then on.
    pub fn withdraw(&self) {
        unimplemented!()
    }

    /// Says good-bye over every link.
    pub fn goodbye(&self) {
        unimplemented!()
    }

    /// Waits until every task of other nodes is answered; returns how many were not after `within`.
    pub async fn idle(&self, _within: Duration) -> usize {
        unimplemented!()
    }

    /// Waits until nothing waits to be written, at most `within`.
    pub async fn flushed(&self, _within: Duration) {
        unimplemented!()
    }

    /// How each open link fares, by peer.
    #[must_use]
    pub fn statuses(&self) -> Vec<LinkStatus> {
        unimplemented!()
    }

    /// What links counted; `links`, `evicted` and `refused` are not theirs and stay 0.
    #[must_use]
    pub fn counts(&self) -> ClusterCounts {
        unimplemented!()
    }

    /// Asks every peer that has an orchestrator for a request.
    pub async fn find_request(&self, _id: RequestId) -> Option<(NodeName, Value)> {
        unimplemented!()
    }

    /// Asks every peer that has an orchestrator to cancel a request; says whether one has it.
    pub async fn cancel_request(&self, _id: RequestId) -> bool {
        unimplemented!()
    }
}
