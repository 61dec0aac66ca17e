//! A node of the test, in the test's own process or in the example's.

use std::sync::Arc;
use std::time::Duration;

use amcp_cluster::{Cluster, ClusterSettings, Desk, Role, Seed, Trust};
use amcp_protocol::llm::PortFuture;
use amcp_protocol::{Failure, FlowAnswer, FlowId, NodeName, RequestId};
use amcp_registry::RegistryHandle;
use amcp_registry::bus::EventBus;
use ractor::ActorCell;
use serde_json::Value;

/// Far more time than a loaded machine needs.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);
#[derive(Debug)]
struct NoRequests;

impl Desk for NoRequests {
    fn request(&self, _id: RequestId) -> Option<Value> {
        None
    }

    fn cancel(&self, _id: RequestId) -> bool {
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

pub(crate) async fn node(name: &str, seeds: Vec<Seed>, bus: EventBus) -> (Cluster, ActorCell) {
    let registry = RegistryHandle::new("two-nodes", bus);
    registry.spawn(None).await.unwrap();
    let settings = ClusterSettings {
        name: NodeName::new(name).unwrap(),
        roles: vec![Role::Specialists],
        domain: None,
        bind: "127.0.0.1:0".parse().unwrap(),
        advertise: None,
        http: None,
        seeds,
        cookie: "0123456789abcdef0123456789abcdef".to_owned(),
        tls: None,
        insecure: false,
        trust: Trust::default(),
    };
    let cluster = Cluster::bind(settings, registry, Arc::new(NoRequests))
        .await
        .unwrap();
    let actor = cluster.spawn(None).await.unwrap();
    (cluster, actor)
}
