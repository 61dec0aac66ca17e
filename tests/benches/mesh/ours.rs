//! The mesh as a node runs it (registry, supervised specialists, orchestrator), with a planner whose plans are compiled
//! beforehand and specialists that only count.
//!
//! Deadlines, policy checks, schemas of params and results, progress events and the composed answer are all there.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use amcp_orchestrator::{OrchestratorHandle, Settings};
use amcp_plan::Plan;
use amcp_planner::{Planned, Planner, PlanningError, PlanningInput};
use amcp_protocol::llm::{PortFuture, Usage};
use amcp_protocol::{AgentCard, AnswerState, Capability, ErrorCode, Failure, UserRequest};
use amcp_registry::{EventBus, RegistryHandle};
use amcp_specialists::{
    ChildSpec, Context, Specialist, SupervisorConfig, SupervisorHandle, Task, async_trait,
};
use amcp_tests::bench::load::{Fate, Subject};
use amcp_tests::bench::{Shape, capabilities, catalogue, fresh, limits, plan};
use serde_json::{Value, json};
use tokio::sync::Semaphore;

pub(crate) struct Ours {
    orchestrator: OrchestratorHandle,
    _specialists: SupervisorHandle,
}

impl Ours {
    /// Admits so many requests; specialists answer as long as the gate has permits.
    pub(crate) async fn start(max_requests: usize, gate: Arc<Semaphore>) -> Self {
        // Process groups are global to the process, and several meshes are started in this one.
        static STARTED: AtomicUsize = AtomicUsize::new(0);
        let scope = format!("bench/{}", STARTED.fetch_add(1, Ordering::Relaxed));
        let bus = EventBus::new();
        let registry = RegistryHandle::new(scope, bus.clone());
        registry.spawn(None).await.expect("a registry starts");
        let children = capabilities().map(|capability| {
            let gate = gate.clone();
            let id = capability.name.as_str().replace('.', "-");
            ChildSpec::new(&id, move || Counter {
                capability: capability.clone(),
                gate: gate.clone(),
            })
        });
        let config = SupervisorConfig::new(registry.clone(), children.into());
        let specialists = config.start(None).await.expect("a supervisor starts");
        specialists.settled().await;

        let settings = Settings {
            max_requests,
            limits: limits(),
            ..Settings::default()
        };
        let orchestrator =
            OrchestratorHandle::new(settings, Arc::new(Precompiled::new()), registry, bus);
        orchestrator
            .spawn_planner(None)
            .await
            .expect("a planner starts");
        orchestrator
            .spawn(None)
            .await
            .expect("an orchestrator starts");
        Self {
            orchestrator,
            _specialists: specialists,
        }
    }
}

impl Subject for Ours {
    type Question = Shape;

    async fn ask(&self, shape: Shape) -> Fate {
        match self.orchestrator.ask(UserRequest::new(shape.name()), None) {
            Ok(ticket) => {
                let answer = ticket.answer().await;
                assert_eq!(answer.state, AnswerState::Completed, "{answer:?}");
                Fate::Answered
            }
            Err(failure) if failure.code == ErrorCode::Overloaded => Fate::Refused,
            Err(failure) => panic!("a request was refused: {failure}"),
        }
    }
}

/// Knows one plan for each query.
struct Precompiled(HashMap<&'static str, Plan>);

impl Precompiled {
    fn new() -> Self {
        let catalogue = catalogue();
        let plans = Shape::ALL.map(|shape| (shape.name(), plan(shape, &catalogue)));
        Self(plans.into())
    }
}

impl Planner for Precompiled {
    fn name(&self) -> String {
        "precompiled".to_owned()
    }

    fn plan(&self, input: PlanningInput) -> PortFuture<'_, Result<Planned, PlanningError>> {
        let plan = self.0.get(input.query.as_str()).map(fresh);
        Box::pin(async move {
            Ok(Planned {
                plan: plan.expect("only known queries are asked"),
                planner: "precompiled".to_owned(),
                llm_calls: 0,
                usage: Usage::default(),
                notes: Vec::new(),
            })
        })
    }
}

/// Answers at once, or when its gate opens.
struct Counter {
    capability: Capability,
    gate: Arc<Semaphore>,
}

#[async_trait]
impl Specialist for Counter {
    fn card(&self) -> AgentCard {
        AgentCard::new("bench", "Counts.", vec![self.capability.clone()])
    }

    fn never_blocks(&self) -> bool {
        true
    }

    async fn handle(&self, task: Task, _: &Context) -> Result<Value, Failure> {
        let _open = self
            .gate
            .acquire()
            .await
            .map_err(|e| Failure::internal(e.to_string()))?;
        let number = |param| {
            task.params
                .get(param)
                .and_then(Value::as_u64)
                .unwrap_or_default()
        };
        Ok(json!({"n": number("n") + number("a") + number("b") + 1}))
    }
}
