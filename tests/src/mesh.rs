//! A node without HTTP inside the test: registry, supervised specialists, orchestrator.
//!
//! Uses the real actors. Each mesh has its own process group scope.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use amcp_orchestrator::{OrchestratorHandle, Settings};
use amcp_planner::SharedPlanner;
use amcp_protocol::{Answer, UserRequest};
use amcp_registry::{EventBus, RegistryHandle};
use amcp_specialists::supervisor::{ChildSpec, SupervisorConfig, SupervisorHandle};

/// A running mesh.
#[derive(Debug)]
pub struct Mesh {
    /// Takes requests.
    pub orchestrator: OrchestratorHandle,
    /// Knows the agents.
    pub registry: RegistryHandle,
    /// The specialists' supervisor.
    pub specialists: SupervisorHandle,
    /// Carries the mesh's events.
    pub bus: EventBus,
}

impl Mesh {
    /// Starts a mesh of these specialists and waits until they are ready.
    ///
    /// # Panics
    /// A part does not start.
    pub async fn start(
        planner: SharedPlanner,
        settings: Settings,
        children: Vec<ChildSpec>,
    ) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let scope = format!("test/mesh-{}", NEXT.fetch_add(1, Ordering::Relaxed));
        let bus = EventBus::new();
        let registry = RegistryHandle::new(scope, bus.clone());
        registry.spawn(None).await.expect("the registry starts");
        let orchestrator =
            OrchestratorHandle::new(settings, planner, registry.clone(), bus.clone());
        orchestrator
            .spawn_planner(None)
            .await
            .expect("the planner's actor starts");
        orchestrator
            .spawn(None)
            .await
            .expect("the orchestrator starts");
        let config = SupervisorConfig::new(registry.clone(), children);
        let specialists = config.start(None).await.expect("the supervisor starts");
        specialists.settled().await;
        Self {
            orchestrator,
            registry,
            specialists,
            bus,
        }
    }

    /// Asks and waits for the answer.
    ///
    /// # Panics
    /// The request is not accepted.
    pub async fn ask(&self, query: &str) -> Arc<Answer> {
        let ticket = self.orchestrator.ask(UserRequest::new(query), None);
        ticket.expect("the request is accepted").answer().await
    }
}
