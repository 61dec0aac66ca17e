//! The port: the one actor of a node that other nodes reach. It takes frames.
//!
//! One for all links and unnamed: each remotely reachable actor costs every node memory and time, and a remote actor of the
//! same name would take the name away when it stops (ADR-0008). A frame's token names its link.

use ractor::{Actor, ActorCell, ActorProcessingErr, ActorRef, BytesConvertable, SpawnErr, pg};
use ractor_cluster::NodeId;
use ractor_cluster::RactorClusterMessage;

use super::Links;

/// The scope of the process group of all nodes' ports.
const SCOPE: &str = "amcp/cluster";
const GROUP: &str = "ports";

/// A frame's bytes.
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

/// The port's mailbox. The name of a variant is on the wire: never rename one, add.
#[derive(Debug, RactorClusterMessage)]
pub(super) enum PortMsg {
    /// From a link's writer on another node: a frame. Never answered; entries in it are.
    Carry(Frame),
}

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
