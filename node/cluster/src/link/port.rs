//! The port: the one actor of a node that other nodes reach. What arrives at it are frames.
//!
//! One for all links and unnamed: an actor that can be reached from other nodes costs each of them memory and time, and a
//! name would be taken away by a remote one that stops (ADR-0008). Which link a frame belongs to is said by its token.

use ractor::{Actor, ActorCell, ActorProcessingErr, ActorRef, BytesConvertable, SpawnErr, pg};
use ractor_cluster::NodeId;
use ractor_cluster::RactorClusterMessage;

use super::Links;

/// The process group that all nodes' ports are in.
const SCOPE: &str = "amcp/cluster";
const GROUP: &str = "ports";

/// Bytes of a frame, as they are.
#[derive(Debug)]
pub(super) struct Frame(pub(super) Vec<u8>);

impl BytesConvertable for Frame {
    fn into_bytes(self) -> Vec<u8> {
        self.0
    }

    fn from_bytes(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }
}

/// What a port understands. The name of a variant is on the wire: never rename one, add.
#[derive(Debug, RactorClusterMessage)]
pub(super) enum PortMsg {
    /// From a link's writer on another node: entries. Never answered as such.
    Carry(Frame),
}

/// The actor.
#[derive(Debug)]
struct Port;

impl Actor for Port {
    type Msg = PortMsg;
    type State = Links;
    type Arguments = Links;

    async fn pre_start(
        &self,
        myself: ActorRef<PortMsg>,
        links: Links,
    ) -> Result<Links, ActorProcessingErr> {
        let (scope, group) = (SCOPE.to_owned(), GROUP.to_owned());
        pg::join_scoped(scope, group, vec![myself.get_cell()]);
        Ok(links)
    }

    async fn handle(
        &self,
        _myself: ActorRef<PortMsg>,
        PortMsg::Carry(frame): PortMsg,
        links: &mut Links,
    ) -> Result<(), ActorProcessingErr> {
        links.arrived(&frame.0);
        Ok(())
    }
}

pub(super) async fn spawn(links: Links, supervisor: ActorCell) -> Result<ActorCell, SpawnErr> {
    let (actor, _) = Actor::spawn_linked(None, Port, links, supervisor).await?;
    Ok(actor.get_cell())
}

/// The port of the peer behind a session.
pub(super) fn of_session(session: NodeId) -> Option<ActorCell> {
    let ports = pg::get_scoped_members(&SCOPE.to_owned(), &GROUP.to_owned());
    ports.into_iter().find(|port| match port.get_id() {
        ractor::ActorId::Remote { node_id, .. } => node_id == session,
        ractor::ActorId::Local(_) => false,
    })
}
