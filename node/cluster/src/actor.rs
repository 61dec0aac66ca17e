//! The [`Cluster`] and its actor, which owns the peers.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use amcp_protocol::{NodeName, RequestId};
use amcp_registry::RegistryHandle;
use ractor::{ActorCell, SpawnErr};
use serde_json::Value;

use crate::link::Desk;
use crate::settings::ClusterSettings;
use crate::view::ClusterView;

/// Why a node cannot take part in a mesh.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct ClusterError {
    /// What is wrong and where.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
}

/// The way to a node's links. It outlives the actor: a restarted one dials again.
#[derive(Debug, Clone)]
pub struct Cluster(Arc<()>);

impl Cluster {
    /// Checks the settings and listens.
    ///
    /// # Errors
    /// The address, the certificates or the cookie cannot be used, or encryption is missing where it is needed.
    pub async fn bind(
        _settings: ClusterSettings,
        _registry: RegistryHandle,
        _desk: Arc<dyn Desk>,
    ) -> Result<Self, ClusterError> {
        unimplemented!()
    }

    /// Starts the actor, for the first time or again, linked to `supervisor`.
    ///
    /// # Errors
    /// [`SpawnErr`] when the supervisor is stopping.
    pub async fn spawn(&self, _supervisor: Option<ActorCell>) -> Result<ActorCell, SpawnErr> {
        unimplemented!()
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        unimplemented!()
    }

    /// The mesh as this node sees it.
    #[must_use]
    pub fn view(&self) -> ClusterView {
        unimplemented!()
    }

    /// Asks all other orchestrators for a request; returns whose it is and its view.
    pub async fn find_request(&self, _id: RequestId) -> Option<(NodeName, Value)> {
        unimplemented!()
    }

    /// Asks all other orchestrators to cancel a request; says whether one of them has it.
    pub async fn cancel_request(&self, _id: RequestId) -> bool {
        unimplemented!()
    }

    /// Withdraws this node's agents from all other nodes, and waits until what they were given is answered. Returns how many
    /// tasks were still under way after `within`.
    pub async fn drain(&self, _within: Duration) -> usize {
        unimplemented!()
    }

    /// Writes out what waits, says good-bye and closes every link.
    pub async fn leave(&self) {
        unimplemented!()
    }
}
