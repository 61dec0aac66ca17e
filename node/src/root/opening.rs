//! Opens admission of a node that has started, once it knows agents.
//!
//! Does not wait for the node's own agents, which are ready before.

use std::time::Duration;

use amcp_cluster::Cluster;
use amcp_orchestrator::OrchestratorHandle;
use amcp_registry::RegistryHandle;
use tokio_util::task::AbortOnDropHandle;

/// How long a node with seeds waits for its first link: longer than a link takes, and short enough for the last node of a
/// mesh to serve alone.
const MEET: Duration = Duration::from_secs(3);

/// Opens a node without seeds at once; else when a link stands and an agent is known, or after [`MEET`]. Dropping the handle
/// ends the wait.
pub(super) fn begin(
    orchestrator: OrchestratorHandle,
    registry: RegistryHandle,
    others: Option<Cluster>,
) -> Option<AbortOnDropHandle<()>> {
    let Some(cluster) = others else {
        orchestrator.open();
        return None;
    };
    let opening = tokio::spawn(async move {
        let known = async {
            cluster.linked().await;
            registry.wait_for(|_| orchestrator.has_agents()).await;
        };
        if tokio::time::timeout(MEET, known).await.is_err() {
            tracing::warn!("found no other node with an agent; requests are open without one");
        }
        orchestrator.open();
    });
    Some(AbortOnDropHandle::new(opening))
}
