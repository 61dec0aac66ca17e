//! A node in this process, linked to others: its registry, its specialists and its links, without orchestrator and gateway.
//!
//! One for each process: process groups are global.

use std::error::Error;
use std::net::Ipv4Addr;
use std::sync::Arc;

use amcp_cluster::{Cluster, ClusterSettings, Desk, Role, Seed, Trust};
use amcp_protocol::llm::PortFuture;
use amcp_protocol::{Failure, FlowAnswer, FlowId, NodeName, RequestId};
use amcp_registry::{EventBus, RegistryHandle};
use amcp_specialists::{ChildSpec, SupervisorConfig, SupervisorHandle};
use serde_json::Value;

use super::COOKIE;

/// A node without orchestrators to ask.
#[derive(Debug)]
struct NoDesk;

impl Desk for NoDesk {
    fn request(&self, _: RequestId) -> Option<Value> {
        None
    }

    fn cancel(&self, _: RequestId) -> bool {
        false
    }

    fn answer_flow(
        &self,
        _: RequestId,
        _: FlowId,
        _: FlowAnswer,
    ) -> PortFuture<'static, Option<Result<(), Failure>>> {
        Box::pin(async { None })
    }
}

/// Links this process to others, by these settings.
///
/// # Errors
/// An unusable name, or no free port.
pub async fn link(
    name: &str,
    role: Role,
    seed: Option<&str>,
    registry: &RegistryHandle,
) -> Result<Cluster, Box<dyn Error>> {
    linked(settings(name, role, seed)?, registry).await
}

/// The settings of a node on loopback without TLS.
///
/// # Errors
/// An unusable name.
pub fn settings(
    name: &str,
    role: Role,
    seed: Option<&str>,
) -> Result<ClusterSettings, Box<dyn Error>> {
    Ok(ClusterSettings {
        name: NodeName::new(name)?,
        roles: vec![role],
        domain: None,
        bind: (Ipv4Addr::LOCALHOST, 0).into(),
        advertise: None,
        http: None,
        seeds: seed
            .map(|seed| Seed::Host(seed.to_owned()))
            .into_iter()
            .collect(),
        cookie: COOKIE.to_owned(),
        tls: None,
        insecure: false,
        trust: Trust::default(),
    })
}

/// Links this process to others.
///
/// # Errors
/// Unusable settings, or no free port.
pub async fn linked(
    settings: ClusterSettings,
    registry: &RegistryHandle,
) -> Result<Cluster, Box<dyn Error>> {
    let cluster = Cluster::bind(settings, registry.clone(), Arc::new(NoDesk)).await?;
    cluster.spawn(None).await?;
    Ok(cluster)
}

/// A registry and these specialists, started and settled.
///
/// # Errors
/// An actor does not start.
pub async fn specialists(
    children: Vec<ChildSpec>,
) -> Result<(RegistryHandle, SupervisorHandle), Box<dyn Error>> {
    let registry = registry().await?;
    let config = SupervisorConfig::new(registry.clone(), children);
    let supervisor = config.start(None).await?;
    supervisor.settled().await;
    Ok((registry, supervisor))
}

/// A registry of this process.
///
/// # Errors
/// Its actor does not start.
pub async fn registry() -> Result<RegistryHandle, Box<dyn Error>> {
    let registry = RegistryHandle::new("here", EventBus::new());
    registry.spawn(None).await?;
    Ok(registry)
}
