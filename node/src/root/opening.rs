//! When a node that has started begins to take requests: once it knows what can be done.
//!
//! Does not look at its own agents, which have settled before; what a node says of its readiness is its own.

use std::time::Duration;

use amcp_cluster::Cluster;
use amcp_orchestrator::OrchestratorHandle;
use amcp_registry::RegistryHandle;
use tokio_util::task::AbortOnDropHandle;

/// How long a node with seeds keeps requests waiting for its first link: longer than a link takes to stand, and short enough
/// for the last node of a mesh to serve alone.
const MEET: Duration = Duration::from_secs(3);

/// Opens the node: at once, or, among others, when a link stands and an agent is known, or when that takes too long. The wait
/// ends with what is returned.
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
            someone_ready(&orchestrator, &registry).await;
        };
        if tokio::time::timeout(MEET, known).await.is_err() {
            tracing::warn!("found no other node with an agent; the node opens all the same");
        }
        orchestrator.open();
    });
    Some(AbortOnDropHandle::new(opening))
}

async fn someone_ready(orchestrator: &OrchestratorHandle, registry: &RegistryHandle) {
    let mut changes = registry.changes();
    while !orchestrator.has_agents() {
        if changes.changed().await.is_err() {
            return;
        }
    }
}
