//! Requests through the real actors: orchestrator, planner, registry and small agents; time is paused.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod begin;
mod delegated;
mod flows;
mod holders;
mod journal;
mod keys;
mod life;
mod recovery;
mod warrants;
mod witness;

use std::fs::File;
use std::io::Write;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use amcp_orchestrator::{OrchestratorHandle, Recorder, Settings};
use amcp_plan::{NoFill, Rules, compile};
use amcp_planner::{Planned, Planner, PlanningError, PlanningInput};
use amcp_protocol::llm::{PortFuture, Usage};
use amcp_protocol::task::TaskOutcome;
use amcp_protocol::{
    AgentCard, AgentId, AnswerState, Capability, Effect, ErrorCode, Failure, FlowKind, FlowRequest,
    Grant, Lineage, Progress, ProposedPlan, TaskRequest, TaskResponse, TaskState, UserRequest,
};
use amcp_registry::{AgentMsg, AnswerPort, EventBus, Registration, RegistryHandle};
use ractor::{Actor, ActorCell, ActorProcessingErr, ActorRef};
use serde_json::{Value, json};

/// Plans what the query says: it is the plan's JSON, with the plan of a second round under `then`. `panic` panics, `hang` never
/// answers, `down` fails, `block` keeps its thread until [`begin::Blocked`] is dropped.
#[derive(Default)]
struct Told {
    replans: bool,
}

static ENDED: AtomicUsize = AtomicUsize::new(0);

/// Counts planner calls that were given up.
struct Ended;

impl Drop for Ended {
    fn drop(&mut self) {
        ENDED.fetch_add(1, Ordering::SeqCst);
    }
}

impl Planner for Told {
    fn name(&self) -> String {
        "told".into()
    }

    fn replans(&self) -> bool {
        self.replans
    }

    fn plan(&self, input: PlanningInput) -> PortFuture<'_, Result<Planned, PlanningError>> {
        Box::pin(async move {
            let failed = |failure| PlanningError {
                failure,
                planner: "told".into(),
                llm_calls: 1,
                usage: Usage::default(),
                proposal: None,
            };
            match input.query.as_str() {
                "panic" => panic!("as told"),
                "block" => {
                    begin::block();
                    Err(failed(Failure::internal("it was blocked")))
                }
                "hang" => {
                    input.spent.send(Usage {
                        calls: 1,
                        ..Usage::default()
                    });
                    let _ended = Ended;
                    std::future::pending().await
                }
                "down" => Err(failed(Failure::new(
                    ErrorCode::LlmUnavailable,
                    "no LLM answers",
                ))),
                json => {
                    let mut told: Value = serde_json::from_str(json).expect("JSON");
                    let then = told.as_object_mut().and_then(|plan| plan.remove("then"));
                    if input.feedback.is_some() {
                        told = then.expect("a plan for the second round");
                    }
                    let proposal: ProposedPlan = serde_json::from_value(told).expect("a plan");
                    let rules = Rules {
                        catalogue: &input.catalogue,
                        access: &input.access,
                        limits: &input.limits,
                        fill: &NoFill,
                    };
                    let plan = compile(&proposal, &rules)
                        .map_err(|error| failed(Failure::new(error.code, error.to_string())))?;
                    Ok(Planned {
                        plan,
                        planner: "told".into(),
                        llm_calls: 1,
                        usage: Usage::default(),
                        notes: vec![],
                    })
                }
            }
        })
    }
}

/// An agent that does what the params say, at once: `{"fail": code}`, `{"drop": true}`, `{"hold": true}` (until asked for
/// `release`), `{"panic_once": true}`, `{"pay": true}` (asks for a payment, then says how it went), `{"deadline": true}` (says what is left); `{"took": n}` counts n calls of a model; otherwise it echoes them.
struct Worker {
    id: AgentId,
    held: Arc<AtomicUsize>,
}

type Held = Vec<(TaskRequest, AnswerPort)>;

impl Actor for Worker {
    type Msg = AgentMsg;
    type State = Held;
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<AgentMsg>, (): ()) -> Result<Held, ActorProcessingErr> {
        Ok(Vec::new())
    }

    async fn handle(
        &self,
        _: ActorRef<AgentMsg>,
        message: AgentMsg,
        held: &mut Held,
    ) -> Result<(), ActorProcessingErr> {
        let answer = |task: &TaskRequest, outcome: TaskOutcome| TaskResponse {
            version: 1,
            request_id: task.request_id,
            task_id: task.task_id.clone(),
            attempt: task.attempt,
            agent: self.id.clone(),
            calls: Vec::new(),
            usage: Usage {
                calls: task.params.get("took").and_then(Value::as_u64).unwrap_or(0) as u32,
                ..Usage::default()
            },
            outcome,
        };
        match message {
            AgentMsg::Execute(task, port) => {
                let params = task.params.clone();
                if let Some(code) = params.get("fail") {
                    let code = serde_json::from_value(code.clone()).unwrap();
                    port.answer(answer(
                        &task,
                        TaskOutcome::Failed(Failure::new(code, "as told")),
                    ));
                } else if let Some(seconds) = params.get("say").and_then(Value::as_u64) {
                    let id = self.id.clone();
                    tokio::spawn(async move {
                        for n in 0..2 * seconds {
                            port.signs().give(&format!("{id} at {n}"));
                            tokio::time::sleep(Duration::from_millis(500)).await;
                        }
                        // Afterwards nothing more is said, for as long.
                        tokio::time::sleep(Duration::from_secs(seconds)).await;
                        drop((task, port));
                    });
                } else if params.get("hold").is_some() {
                    held.push((task, port));
                    self.held.fetch_add(1, Ordering::SeqCst);
                } else if params.get("deadline").is_some() {
                    let result = json!({"ms": task.deadline_ms}).into();
                    port.answer(answer(&task, TaskOutcome::Done(result)));
                } else if params.get("pay").is_some() && task.flows.is_empty() {
                    let asker = format!("{}/{}/{}", task.request_id, task.task_id, task.attempt);
                    let flow = FlowRequest::new(FlowKind::Payment, "Pay 12 EUR?");
                    let held = params.get("pay") == Some(&json!("held"));
                    let flow = Box::new(FlowRequest {
                        asker,
                        held,
                        ..flow
                    });
                    port.answer(answer(&task, TaskOutcome::FlowRequired(flow)));
                } else if params.get("pay").is_some() {
                    let result = json!({"flows": task.flows}).into();
                    port.answer(answer(&task, TaskOutcome::Done(result)));
                } else if params.get("drop").is_none() {
                    port.answer(answer(&task, TaskOutcome::Done(params)));
                }
            }
            AgentMsg::Cancel(key) => {
                held.retain(|(task, _)| {
                    task.request_id != key.request_id || task.task_id != key.task_id
                });
                self.held.store(held.len(), Ordering::SeqCst);
            }
            AgentMsg::Drain => {}
        }
        Ok(())
    }
}

struct Mesh {
    handle: OrchestratorHandle,
    registry: RegistryHandle,
    bus: EventBus,
    orchestrator: ActorCell,
    planner: ActorCell,
    held: Arc<AtomicUsize>,
}

/// Writes each request's recording to a file of its own: `<mesh>-<number>.jsonl`.
fn to_files(folder: PathBuf, name: String) -> Recorder {
    let requests = Mutex::new(Vec::new());
    Recorder::new(move |request, line| {
        let mut requests = requests.lock().unwrap();
        let known = requests.iter().position(|other| *other == request);
        let number = known.unwrap_or_else(|| {
            requests.push(request);
            requests.len() - 1
        });
        let path = folder.join(format!("{name}-{number}.jsonl"));
        let mut file = File::options()
            .create(true)
            .append(true)
            .open(path)
            .unwrap();
        writeln!(file, "{line}").unwrap();
    })
}

impl Mesh {
    async fn start(name: &str) -> Self {
        Self::with(name, Settings::default()).await
    }

    async fn with(name: &str, settings: Settings) -> Self {
        Self::planned_by(Told::default(), name, settings).await
    }

    async fn planned_by(planner: Told, name: &str, settings: Settings) -> Self {
        let folder = std::env::var_os("AMCP_RECORD_TO");
        let recorder = folder.map(|folder| to_files(folder.into(), name.to_owned()));
        Self::recorded_by(recorder, planner, name, settings).await
    }

    async fn recorded_by(
        recorder: Option<Recorder>,
        planner: Told,
        name: &str,
        settings: Settings,
    ) -> Self {
        let bus = EventBus::new();
        let registry = RegistryHandle::new(format!("test/{name}"), bus.clone());
        registry.spawn(None).await.unwrap();
        let handle =
            OrchestratorHandle::new(settings, Arc::new(planner), registry.clone(), bus.clone());
        if let Some(recorder) = recorder {
            handle.record_with(recorder);
        }
        let (planner, _) = handle.spawn_planner(None).await.unwrap();
        let (orchestrator, _) = handle.spawn(None).await.unwrap();
        let held = Arc::default();
        let mesh = Self {
            handle,
            registry,
            bus,
            orchestrator,
            planner,
            held,
        };
        mesh.join("worker-1", "test.do").await;
        mesh
    }

    async fn join(&self, id: &str, capability: &str) -> ActorCell {
        let mut capability = Capability::new(capability, "For tests.");
        match capability.name.as_str() {
            "test.crawl" => capability.params = json!({"type": "object", "x-idle-ms": 3_000}),
            "test.secret" => capability.required_roles = vec!["boss".into()],
            "test.send" => {
                (capability.effect, capability.idempotent) = (Effect::Irreversible, false);
            }
            _ => {}
        }
        let card = AgentCard::new(id, "A worker.", vec![capability]);
        let worker = Worker {
            id: card.id.clone(),
            held: self.held.clone(),
        };
        let (actor, _) = Actor::spawn(None, worker, ()).await.unwrap();
        self.registry
            .register(Registration::new(card, 1, actor.get_derived()))
            .await
            .unwrap();
        actor.get_cell()
    }

    async fn ask(&self, query: impl ToString) -> Arc<amcp_protocol::Answer> {
        self.handle
            .ask(UserRequest::new(query.to_string()), None)
            .unwrap()
            .answer()
            .await
    }

    async fn until_held(&self, count: usize) {
        let wait = async {
            while self.held.load(Ordering::SeqCst) != count {
                // Virtual time: it moves on only when nothing else has anything to do.
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(3_600), wait)
            .await
            .expect("the tasks never arrived");
    }
}

fn task(id: &str, params: Value) -> Value {
    json!({"id": id, "capability": "test.do", "params": params})
}

fn plan(tasks: &[Value]) -> String {
    json!({ "tasks": tasks }).to_string()
}

#[tokio::test(start_paused = true)]
async fn a_result_flows_into_the_task_that_refers_to_it() {
    let mesh = Mesh::start("references").await;
    let tasks = [
        task("t1", json!({"x": [1, 2]})),
        task("t2", json!({"from": {"$ref": "t1", "path": "/x"}})),
    ];
    let answer = mesh.ask(plan(&tasks)).await;
    assert_eq!(answer.state, AnswerState::Completed, "{answer:?}");
    assert_eq!(
        answer.tasks[1].result.as_deref(),
        Some(&json!({"from": [1, 2]}))
    );
    assert_eq!(
        (
            answer.tasks[1].agent.as_ref().unwrap().as_str(),
            answer.tasks[1].attempts
        ),
        ("worker-1", 1)
    );
    assert_eq!(mesh.handle.in_flight(), 0);
}

#[tokio::test(start_paused = true)]
async fn progress_and_events_tell_the_whole_story_in_order() {
    let mesh = Mesh::start("progress").await;
    let mut events = mesh.bus.subscribe("**".parse().unwrap(), 100);
    let ticket = mesh
        .handle
        .ask(UserRequest::new(plan(&[task("t1", json!({}))])), None)
        .unwrap();
    let mut feed = mesh.handle.progress(ticket.request_id(), 0).unwrap();
    let mut kinds = Vec::new();
    while let Some(recorded) = feed.next().await {
        assert_eq!(recorded.sequence, kinds.len());
        kinds.push(recorded.progress.event_type());
    }
    assert_eq!(
        kinds,
        ["accepted", "planned", "dispatched", "completed", "answered"]
            .map(|k| format!("progress.{k}"))
    );
    let mut types = Vec::new();
    while types.last().is_none_or(|last| last != "progress.answered") {
        let event = events.recv().await.unwrap();
        assert_eq!(event.correlation(), Some(ticket.request_id()), "{event:?}");
        types.push(event.event_type.clone());
    }
    for expected in [
        "user.request",
        "task.request",
        "task.response",
        "user.response",
    ] {
        assert_eq!(
            types.iter().filter(|kind| *kind == expected).count(),
            1,
            "{expected} in {types:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_failed_task_is_reported_and_what_needs_it_is_skipped() {
    let mesh = Mesh::start("fails").await;
    let tasks = [
        task("t1", json!({"fail": "task_failed"})),
        task("t2", json!({"from": "$t1"})),
        task("t3", json!({"fine": 1})),
    ];
    let answer = mesh.ask(plan(&tasks)).await;
    assert_eq!(
        (answer.state, answer.error.as_ref().unwrap().code),
        (AnswerState::Partial, ErrorCode::TaskFailed)
    );
    let states: Vec<_> = answer.tasks.iter().map(|task| task.state).collect();
    assert_eq!(
        states,
        [TaskState::Failed, TaskState::Skipped, TaskState::Completed]
    );
}

#[tokio::test(start_paused = true)]
async fn a_second_plan_replaces_what_failed() {
    let told = Told { replans: true };
    let mesh = Mesh::planned_by(told, "replans", Settings::default()).await;
    let fails = task("t1", json!({"fail": "task_failed"}));
    let mut instead = task("t3", json!({"y": 2}));
    instead["replaces"] = json!(["t1"]);
    let tasks = [fails, task("t2", json!({"x": 1}))];
    let query = json!({"tasks": tasks, "then": {"tasks": [instead]}});
    let answer = mesh.ask(query).await;
    assert_eq!(answer.state, AnswerState::Completed, "{answer:?}");
    let states: Vec<_> = answer.tasks.iter().map(|task| task.state).collect();
    assert_eq!(
        states,
        [
            TaskState::Failed,
            TaskState::Completed,
            TaskState::Completed
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn an_agent_that_drops_its_task_is_tried_again_and_then_quarantined() {
    let mesh = Mesh::start("drops").await;
    let answer = mesh.ask(plan(&[task("t1", json!({"drop": true}))])).await;
    assert_eq!(
        answer.tasks[0].error.as_ref().unwrap().code,
        ErrorCode::Quarantined
    );
    assert_eq!(
        (answer.tasks[0].attempts, mesh.handle.counts().retries),
        (3, 2)
    );
}

#[tokio::test(start_paused = true)]
async fn when_an_agent_is_killed_another_takes_over() {
    let mesh = Mesh::start("takes-over").await;
    let ticket = mesh
        .handle
        .ask(
            UserRequest::new(plan(&[task("t1", json!({"hold": true}))])),
            None,
        )
        .unwrap();
    mesh.until_held(1).await;
    let directory = mesh.registry.directory();
    let first = directory
        .agent(&AgentId::new("worker-1").unwrap())
        .unwrap()
        .port
        .actor()
        .unwrap();
    mesh.join("worker-2", "test.do").await;
    first.kill();
    mesh.until_held(2).await;
    mesh.handle.cancel(ticket.request_id()).unwrap();
    let answer = ticket.answer().await;
    assert_eq!(answer.tasks[0].agent.as_ref().unwrap().as_str(), "worker-2");
}

#[tokio::test(start_paused = true)]
async fn without_an_agent_the_request_waits_a_while_and_then_says_so() {
    let mesh = Mesh::start("nobody").await;
    let lonely = mesh.join("worker-2", "test.lonely").await;
    lonely.stop(None);
    let gone = |d: &amcp_registry::Agents| {
        let lonely = "test.lonely".parse().unwrap();
        d.choose(&lonely, &[], 0).is_none()
    };
    mesh.registry.wait_for(gone).await;
    let answer = mesh
        .ask(json!({"tasks": [{"capability": "test.lonely"}]}))
        .await;
    assert_eq!(
        (answer.state, answer.error.as_ref().unwrap().code),
        (AnswerState::Failed, ErrorCode::NoAgent)
    );
    assert_eq!(
        (answer.tasks[0].attempts, answer.tasks[0].agent.as_ref()),
        (0, None)
    );
}

#[tokio::test(start_paused = true)]
async fn planners_that_fail_panic_hang_or_are_killed_cost_one_failure_each() {
    let mesh = Mesh::start("planners").await;
    for (query, code) in [
        ("down", ErrorCode::LlmUnavailable),
        ("panic", ErrorCode::Internal),
        ("hang", ErrorCode::DeadlineExceeded),
    ] {
        let answer = mesh.ask(query).await;
        assert_eq!(
            (answer.state, answer.error.as_ref().unwrap().code),
            (AnswerState::Failed, code),
            "{query}"
        );
        assert!(!answer.answer.is_empty());
    }
    let ticket = mesh.handle.ask(UserRequest::new("hang"), None).unwrap();
    let mut feed = mesh.handle.progress(ticket.request_id(), 0).unwrap();
    feed.next().await;
    mesh.planner.kill();
    assert_eq!(
        ticket.answer().await.error.as_ref().unwrap().code,
        ErrorCode::Internal
    );
    mesh.handle.spawn_planner(None).await.unwrap();
    assert_eq!(
        mesh.ask(plan(&[task("t1", json!({}))])).await.state,
        AnswerState::Completed
    );
}

#[tokio::test(start_paused = true)]
async fn a_crashed_request_and_a_killed_orchestrator_answer_exactly_once() {
    let mesh = Mesh::start("crash").await;
    let held = || UserRequest::new(plan(&[task("t1", json!({"hold": true}))]));
    let tickets: Vec<_> = (0..3)
        .map(|_| mesh.handle.ask(held(), None).unwrap())
        .collect();
    mesh.until_held(3).await;
    mesh.orchestrator.get_children()[0].kill();
    let crashed = || mesh.handle.counts().crashed;
    while crashed() < 1 {
        tokio::task::yield_now().await;
    }
    mesh.orchestrator.kill_and_wait(None).await.unwrap();
    mesh.handle.spawn(None).await.unwrap();
    for ticket in tickets {
        let answer = ticket.answer().await;
        assert_eq!(
            (answer.state, answer.error.as_ref().unwrap().code),
            (AnswerState::Failed, ErrorCode::Internal)
        );
    }
    let counts = mesh.handle.counts();
    assert_eq!(
        (counts.accepted, counts.answered, counts.crashed),
        (3, 3, 3)
    );
    assert_eq!(
        mesh.ask(plan(&[task("t1", json!({}))])).await.state,
        AnswerState::Completed
    );
}

#[tokio::test(start_paused = true)]
async fn a_node_that_starts_takes_requests_once_it_is_opened() {
    let mesh = Mesh::with("starting", Settings::default()).await;
    let asks = || UserRequest::new(plan(&[task("t1", json!({}))]));
    mesh.handle.hold();
    let refused = [
        mesh.handle.ask(asks(), None).unwrap_err(),
        mesh.handle.plan(asks()).await.unwrap_err(),
    ];
    for failure in refused {
        assert_eq!(failure.code, ErrorCode::NotReady);
        assert!(failure.retry_after_ms.is_some());
    }
    mesh.handle.open();
    let ticket = mesh.handle.ask(asks(), None).unwrap();
    assert_eq!(ticket.answer().await.state, AnswerState::Completed);
}

#[tokio::test(start_paused = true)]
async fn without_any_agent_to_plan_with_requests_are_refused_until_one_is_there() {
    let settings = Settings {
        domain: Some("finance=test.fin".parse().unwrap()),
        ..Settings::default()
    };
    let mesh = Mesh::with("no-agents", settings).await;
    // Neither another domain's agent nor its own offer does anything for it.
    mesh.join("orchestrator", "orchestrate.finance").await;
    let asks = || {
        let task = json!({"id": "t1", "capability": "test.fin", "params": {}});
        UserRequest::new(plan(&[task]))
    };
    let refused = |mesh: &Mesh| {
        let failure = mesh.handle.ask(asks(), None).unwrap_err();
        assert_eq!(failure.code, ErrorCode::NotReady, "{failure}");
        assert!(failure.retry_after_ms.is_some() && failure.hint.is_some());
    };
    refused(&mesh);
    let planned = mesh.handle.plan(asks()).await.unwrap_err();
    assert_eq!(planned.code, ErrorCode::NotReady);

    let agent = mesh.join("worker-2", "test.fin").await;
    let ticket = mesh.handle.ask(asks(), Some("k")).unwrap();
    assert_eq!(ticket.answer().await.state, AnswerState::Completed);
    agent.stop(None);
    let gone = |d: &amcp_registry::Agents| {
        let agent = d.agent(&AgentId::new("worker-2").unwrap());
        agent.is_none_or(|agent| !agent.is_present())
    };
    mesh.registry.wait_for(gone).await;
    refused(&mesh);
    assert!(mesh.handle.ask(asks(), Some("k")).unwrap().replayed());
}

#[tokio::test(start_paused = true)]
async fn past_the_limit_requests_are_refused_and_later_taken_again() {
    let settings = Settings {
        max_requests: 2,
        ..Settings::default()
    };
    let mesh = Mesh::with("overload", settings).await;
    let held = || UserRequest::new(plan(&[task("t1", json!({"hold": true}))]));
    let tickets = [
        mesh.handle.ask(held(), None).unwrap(),
        mesh.handle.ask(held(), None).unwrap(),
    ];
    let refused = mesh.handle.ask(held(), None).unwrap_err();
    assert_eq!(refused.code, ErrorCode::Overloaded);
    assert!(refused.retry_after_ms.is_some());
    mesh.handle.cancel(tickets[0].request_id()).unwrap();
    assert_eq!(tickets[0].answer().await.state, AnswerState::Cancelled);
    assert!(mesh.handle.ask(held(), None).is_ok());
}

#[tokio::test(start_paused = true)]
async fn cancelling_tells_the_agent_and_an_unknown_request_is_not_found() {
    let mesh = Mesh::start("cancel").await;
    let ticket = mesh
        .handle
        .ask(
            UserRequest::new(plan(&[task("t1", json!({"hold": true}))])),
            None,
        )
        .unwrap();
    mesh.until_held(1).await;
    mesh.handle.cancel(ticket.request_id()).unwrap();
    mesh.until_held(0).await;
    let answer = ticket.answer().await;
    assert_eq!(
        (answer.state, answer.tasks[0].state),
        (AnswerState::Cancelled, TaskState::Cancelled)
    );
    let unknown = "123e4567-e89b-12d3-a456-426614174999".parse().unwrap();
    assert_eq!(
        mesh.handle.cancel(unknown).unwrap_err().code,
        ErrorCode::NotFound
    );
}

#[tokio::test(start_paused = true)]
async fn a_drain_ends_what_is_under_way_and_cuts_off_the_rest() {
    let mesh = Mesh::start("drain").await;
    let quick = mesh
        .handle
        .ask(UserRequest::new(plan(&[task("t1", json!({}))])), None)
        .unwrap();
    let stuck = mesh
        .handle
        .ask(
            UserRequest::new(plan(&[task("t1", json!({"hold": true}))])),
            None,
        )
        .unwrap();
    let drained = mesh.handle.drain(Duration::from_secs(5)).await;
    assert_eq!(
        (drained.answered, &drained.cut_off[..]),
        (1, &[stuck.request_id()][..])
    );
    assert_eq!(quick.answer().await.state, AnswerState::Completed);
    assert_eq!(
        stuck.answer().await.error.as_ref().unwrap().code,
        ErrorCode::ShuttingDown
    );
    let refused = mesh.handle.ask(UserRequest::new("{}"), None).unwrap_err();
    assert_eq!(refused.code, ErrorCode::ShuttingDown);
}

#[tokio::test(start_paused = true)]
async fn a_role_that_is_missing_is_refused_before_anything_is_dispatched() {
    let mesh = Mesh::start("roles").await;
    mesh.join("worker-2", "test.secret").await;
    let query = json!({"tasks": [{"capability": "test.secret"}]}).to_string();
    let answer = mesh.ask(&query).await;
    assert_eq!(
        answer.error.as_ref().unwrap().code,
        ErrorCode::NotPermitted,
        "{answer:?}"
    );
    let boss = UserRequest {
        roles: vec!["boss".into()],
        ..UserRequest::new(query)
    };
    let answer = mesh.handle.ask(boss.clone(), None).unwrap().answer().await;
    assert_eq!(answer.state, AnswerState::Completed);

    let rules = json!({"roles": {"boss": {"allow": ["test.*"], "effect": "read"}}});
    mesh.registry.permit(serde_json::from_value(rules).unwrap());
    let answer = mesh.handle.ask(boss.clone(), None).unwrap().answer().await;
    assert_eq!(answer.state, AnswerState::Completed);
    let nobody = UserRequest {
        query: json!({"tasks": [{"capability": "test.do"}]}).to_string(),
        ..UserRequest::new("")
    };
    let answer = mesh.handle.ask(nobody, None).unwrap().answer().await;
    let error = answer.error.as_ref().unwrap();
    assert_eq!(error.code, ErrorCode::NotPermitted, "{answer:?}");
}

#[tokio::test(start_paused = true)]
async fn many_requests_at_once_do_not_mix() {
    let mesh = Mesh::start("many").await;
    let asks = (0..500).map(|n| {
        let tasks = [
            task("t1", json!({"n": n})),
            task("t2", json!({"from": {"$ref": "t1", "path": "/n"}})),
        ];
        (
            n,
            mesh.handle
                .ask(UserRequest::new(plan(&tasks)), None)
                .unwrap(),
        )
    });
    for (n, ticket) in asks.collect::<Vec<_>>() {
        let answer = ticket.answer().await;
        assert_eq!(answer.request_id, ticket.request_id());
        assert_eq!(answer.tasks[1].result.as_deref(), Some(&json!({"from": n})));
    }
    assert_eq!(mesh.handle.counts().answered, 500);
}

#[tokio::test(start_paused = true)]
async fn a_deadline_answers_with_what_is_there() {
    let mesh = Mesh::start("deadline").await;
    let tasks = [
        task("t1", json!({"x": 1})),
        task("t2", json!({"hold": true})),
    ];
    let request = UserRequest {
        deadline_ms: Some(2_000),
        ..UserRequest::new(plan(&tasks))
    };
    let answer = mesh.handle.ask(request, None).unwrap().answer().await;
    assert_eq!(answer.state, AnswerState::Partial, "{answer:?}");
    let planned = mesh
        .handle
        .plan(UserRequest::new("hang"))
        .await
        .unwrap_err();
    assert_eq!(planned.code, ErrorCode::DeadlineExceeded);
    let mut feed = mesh.handle.progress(answer.request_id, 0).unwrap();
    let mut failed = 0;
    while let Some(recorded) = feed.next().await {
        failed += usize::from(matches!(recorded.progress, Progress::Failed { .. }));
    }
    assert_eq!(failed, 1);
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_request_ends_its_planners_call() {
    let mesh = Mesh::start("ends-call").await;
    let before = ENDED.load(Ordering::SeqCst);
    let ticket = mesh.handle.ask(UserRequest::new("hang"), None).unwrap();
    let mut feed = mesh.handle.progress(ticket.request_id(), 0).unwrap();
    feed.next().await;
    mesh.handle.cancel(ticket.request_id()).unwrap();
    assert_eq!(ticket.answer().await.state, AnswerState::Cancelled);
    let ended = async {
        while ENDED.load(Ordering::SeqCst) == before {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    let in_time = tokio::time::timeout(Duration::from_secs(5), ended).await;
    in_time.expect("the planner went on for a request that nobody wants");
}

#[tokio::test(start_paused = true)]
async fn what_is_cut_off_answers_with_what_it_has() {
    let mesh = Mesh::start("cut-off").await;
    let tasks = [
        task("t1", json!({"x": 1})),
        task("t2", json!({"hold": true})),
    ];
    let ticket = mesh
        .handle
        .ask(UserRequest::new(plan(&tasks)), None)
        .unwrap();
    mesh.until_held(1).await;
    let drained = mesh.handle.drain(Duration::from_secs(1)).await;
    assert_eq!((drained.answered, drained.cut_off.len()), (0, 1));
    let answer = ticket.answer().await;
    assert_eq!(
        (answer.state, answer.error.as_ref().unwrap().code),
        (AnswerState::Partial, ErrorCode::ShuttingDown)
    );
    assert_eq!(answer.tasks[0].state, TaskState::Completed);
}
