//! The mesh as nodes run it: an orchestrator here, its three specialists in another process, linked.
//!
//! Deadlines, policy checks, schemas of params and results, progress events, retries, deduplication and the composed
//! answer are all there; only the plans are compiled beforehand.

use std::collections::HashMap;
use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use amcp_cluster::{Cluster, Role};
use amcp_orchestrator::{OrchestratorHandle, Settings};
use amcp_plan::{NoFill, Plan, Rules, compile};
use amcp_planner::{Planned, Planner, PlanningError, PlanningInput};
use amcp_protocol::llm::{PortFuture, Usage};
use amcp_protocol::{AgentCard, AnswerState, Capability, Contract, Failure, UserRequest};
use amcp_registry::{AgentState, EventBus};
use amcp_specialists::{ChildSpec, Context, Specialist, Task, async_trait};
use amcp_tests::bench::load::{Fate, Subject};
use amcp_tests::bench::{Shape, capabilities, fresh, limits, memory, proposal};
use amcp_tests::cluster::here;
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::PAYLOADS;
use crate::worker::{self, Worker};

/// How long the nodes may take to know each other.
const MEET: Duration = Duration::from_secs(10);

pub(crate) struct Ours {
    orchestrator: OrchestratorHandle,
    _cluster: Cluster,
    worker: Worker,
}

/// The worker process.
pub(crate) async fn work(seed: &str) -> Result<(), Box<dyn Error>> {
    let children = with_data().map(|capability| {
        let id = format!("{}@specialists", capability.name.as_str().replace('.', "-"));
        ChildSpec::new(&id, move || Counter(capability.clone()))
    });
    let (registry, _specialists) = here::specialists(children.into()).await?;
    let _cluster = here::link("specialists", Role::Specialists, Some(seed), &registry).await?;
    worker::say("ready");
    worker::until_alone().await;
    Ok(())
}

impl Ours {
    pub(crate) async fn start() -> Result<Self, Box<dyn Error>> {
        let registry = here::registry().await?;
        let settings = Settings {
            limits: limits(),
            meshed: true,
            ..Settings::default()
        };
        let planner = Arc::new(Precompiled::new());
        let orchestrator =
            OrchestratorHandle::new(settings, planner, registry.clone(), EventBus::new());
        orchestrator.spawn_planner(None).await?;
        orchestrator.spawn(None).await?;
        let cluster = here::link("requests", Role::Orchestrator, None, &registry).await?;
        let mut worker = Worker::start(&format!("ours {}", cluster.address()))?;
        worker.hears().await?;
        let met = registry.wait_for(|agents| {
            let ready = agents.entries().filter(|e| e.state == AgentState::Ready);
            ready.count() == 3
        });
        timeout(MEET, met)
            .await
            .map_err(|_| "our nodes do not meet")?;
        Ok(Self {
            orchestrator,
            _cluster: cluster,
            worker,
        })
    }
}

impl Subject for Ours {
    /// Bytes in each param and each result.
    type Question = usize;

    async fn ask(&self, payload: usize) -> Fate {
        let request = UserRequest::new(payload.to_string());
        let ticket = self.orchestrator.ask(request, None);
        let ticket = ticket.expect("fewer are asked than are admitted");
        let answer = ticket.answer().await;
        assert_eq!(answer.state, AnswerState::Completed, "{answer:?}");
        Fate::Answered
    }

    fn processor(&self) -> Option<Duration> {
        Some(memory::processor()? + self.worker.processor()?)
    }
}

/// The capabilities of every bench, with room for a payload.
fn with_data() -> [Capability; 3] {
    capabilities().map(|mut capability| {
        for schema in [&mut capability.params, &mut capability.result] {
            if let Some(Value::Object(properties)) = schema.get_mut("properties") {
                properties.insert("data".to_owned(), json!({"type": "string"}));
            }
        }
        capability
    })
}

/// The diamond with so many bytes in each param; the third task takes the first one's.
fn plan(payload: usize) -> Plan {
    let catalogue = with_data().map(|c| Arc::new(Contract::new(c).expect("a sound capability")));
    let catalogue = catalogue.into_iter().collect();
    let mut proposal = proposal(Shape::Diamond);
    if payload > 0 {
        let datas = [
            json!("x".repeat(payload)),
            json!("x".repeat(payload)),
            json!({"$ref": "t1", "path": "/data"}),
        ];
        for (task, data) in proposal.tasks.iter_mut().zip(datas) {
            task.params.insert("data".to_owned(), data);
        }
    }
    let rules = Rules {
        catalogue: &catalogue,
        access: &amcp_protocol::Access::default(),
        limits: &limits(),
        fill: &NoFill,
    };
    compile(&proposal, &rules).expect("a sound plan")
}

/// Knows one plan for each payload; the query names its bytes.
struct Precompiled(HashMap<String, Plan>);

impl Precompiled {
    fn new() -> Self {
        let plans = PAYLOADS.map(|(payload, _)| (payload.to_string(), plan(payload)));
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

/// Answers at once, with the payload that it was sent.
pub(crate) struct Counter(pub(crate) Capability);

#[async_trait]
impl Specialist for Counter {
    fn card(&self) -> AgentCard {
        AgentCard::new("bench", "Counts.", vec![self.0.clone()])
    }

    async fn handle(&self, task: Task, _: &Context) -> Result<Value, Failure> {
        let number = |param| {
            let number = task.params.get(param).and_then(Value::as_u64);
            number.unwrap_or_default()
        };
        let n = number("n") + number("a") + number("b") + 1;
        Ok(match task.params.get("data") {
            Some(data) => json!({"n": n, "text": "Counted.", "data": data}),
            None => json!({"n": n}),
        })
    }
}
