//! Agents that call agents, on the real shells, supervisor and registry; time is paused.

mod flows;

use std::collections::HashSet;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use amcp_protocol::task::TaskOutcome;
use amcp_protocol::{AgentCard, Capability, FlowKind, Grant, RequestId};
use amcp_registry::EventBus;
use serde_json::json;

use super::*;
use crate::specialist::{Specialist, Task};
use crate::supervisor::{ChildSpec, SupervisorConfig, SupervisorHandle};

/// The state that all nodes of a test share.
#[derive(Default)]
struct World {
    dropped: AtomicU32,
    begun: AtomicU32,
    deaths: AtomicU32,
    /// The keys under which something was paid.
    paid: Mutex<Vec<String>>,
}

/// Does the act that its params name; an act may call another node with the params that it holds.
struct Node(Arc<World>);

struct Dropped<'a>(&'a World);

impl Drop for Dropped<'_> {
    fn drop(&mut self) {
        self.0.dropped.fetch_add(1, Ordering::Relaxed);
    }
}

impl Node {
    async fn crawl(&self, ctx: &Context, hangs: bool) -> Result<Value, Failure> {
        for n in 1..=5 {
            ctx.progress(&format!("page {n}"));
            sleep(Duration::from_millis(900)).await;
        }
        if hangs {
            let _dropped = Dropped(&self.0);
            std::future::pending().await
        }
        Ok(json!({}))
    }
}

#[crate::async_trait]
impl Specialist for Node {
    fn card(&self) -> AgentCard {
        let mut does = Capability::new("mesh.do", "Does what it is told.");
        does.concurrency = 64;
        let mut once = Capability::new("mesh.once", "Must not be done twice.");
        once.idempotent = false;
        let mut secret = Capability::new("mesh.secret", "Only for some.");
        secret.required_roles = vec!["staff".into()];
        let mut crawl = Capability::new("mesh.crawl", "Takes long.");
        crawl.params = json!({"type": "object", "x-idle-ms": 1_000});
        crawl.idempotent = false;
        let whole = Capability::new("orchestrate.shop", "Takes whole requests.");
        AgentCard::new("node", "A node.", vec![does, once, secret, crawl, whole])
    }

    async fn handle(&self, task: Task, ctx: &Context) -> Result<Value, Failure> {
        self.0.begun.fetch_add(1, Ordering::Relaxed);
        let params = task
            .params
            .get("params")
            .cloned()
            .unwrap_or_else(|| json!({}));
        match task.text("act") {
            "call" => ctx.call_named(task.text("name"), params).await,
            "again" => {
                // Each one calls itself at another agent, with the same words.
                ctx.call_named("mesh.do", json!({"act": "again"})).await
            }
            "die once" => {
                let first = self.0.deaths.fetch_add(1, Ordering::Relaxed) == 0;
                assert!(!first, "as told");
                Ok(json!({"left": ctx.time_left().as_millis()}))
            }
            "hang" => {
                let _dropped = Dropped(&self.0);
                std::future::pending().await
            }
            "crawl" => self.crawl(ctx, params == json!("hang")).await,
            "fail" => Err(Failure::task("it cannot")),
            "pay" => {
                self.0.paid.lock().push(ctx.idempotency_key());
                Ok(json!({}))
            }
            "pay all and die once" => {
                for params in params.as_array().unwrap() {
                    ctx.call_named("mesh.do", params.clone()).await?;
                }
                let first = self.0.deaths.fetch_add(1, Ordering::Relaxed) == 0;
                assert!(!first, "as told");
                Ok(json!({}))
            }
            "buy" => {
                let question = format!("Pay for {}?", task.text("what"));
                let asks = FlowRequest::new(FlowKind::Payment, question);
                let paid = ctx.obtain(asks)?.payload.clone();
                let flows = ctx.flows().len();
                self.0.paid.lock().push(ctx.idempotency_key());
                Ok(json!({"paid": paid, "flows": flows}))
            }
            "buy and call" => {
                ctx.obtain(FlowRequest::new(FlowKind::Payment, "Pay?"))?;
                ctx.call_named(task.text("name"), params).await
            }
            "call all at once" => {
                let all = params.as_array().unwrap().iter();
                let calls = all.map(|params| ctx.call_named("mesh.once", params.clone()));
                let results = futures_util::future::join_all(calls).await;
                let results: Result<Vec<_>, _> = results.into_iter().collect();
                Ok(json!({"all": results?}))
            }
            "busy" => Err(Failure::new(ErrorCode::AgentBusy, "says the handler")),
            "refuse" => Err(ctx.refuse(Failure::new(ErrorCode::AgentBusy, "not begun"))),
            "call and refuse" => {
                ctx.call_named("mesh.do", json!({})).await?;
                Err(ctx.refuse(Failure::new(ErrorCode::AgentBusy, "it did")))
            }
            _ => Ok(
                json!({"left": ctx.time_left().as_millis(), "depth": ctx.lineage.depth, "calls": ctx.lineage.calls, "task": ctx.task_id.as_str()}),
            ),
        }
    }
}

struct Mesh {
    registry: RegistryHandle,
    _supervisor: SupervisorHandle,
    world: Arc<World>,
}

async fn mesh(agents: usize) -> Mesh {
    static SCOPES: AtomicU64 = AtomicU64::new(0);
    let scope = SCOPES.fetch_add(1, Ordering::Relaxed);
    let registry = RegistryHandle::new(format!("call-test-{scope}"), EventBus::new());
    registry.spawn(None).await.unwrap();
    let world = Arc::new(World::default());
    let children = (0..agents).map(|n| {
        let world = Arc::clone(&world);
        ChildSpec::new(&format!("orchestrator-{n}"), move || {
            Node(Arc::clone(&world))
        })
    });
    let config = SupervisorConfig::new(registry.clone(), children.collect());
    let supervisor = config.start(None).await.unwrap();
    supervisor.settled().await;
    Mesh {
        registry,
        _supervisor: supervisor,
        world,
    }
}

fn request(params: Value) -> TaskRequest {
    TaskRequest {
        version: WIRE_VERSION,
        request_id: id(),
        task_id: TaskId::new("t1").unwrap(),
        attempt: 1,
        deadline_ms: 20_000,
        traceparent: None,
        grant: Arc::default(),
        lineage: Arc::default(),
        capability: CapabilityName::new("mesh.do").unwrap(),
        flows: Vec::new(),
        params: params.into(),
    }
}

fn id() -> RequestId {
    "123e4567-e89b-12d3-a456-426614174999".parse().unwrap()
}

fn calls(name: &str, params: &Value) -> Value {
    json!({"act": "call", "name": name, "params": params})
}

impl Mesh {
    fn port(&self, agent: &str) -> AgentPort {
        let directory = self.registry.load();
        directory
            .agent(&AgentId::new(agent).unwrap())
            .unwrap()
            .port
            .clone()
    }

    async fn ask(&self, request: TaskRequest) -> TaskResponse {
        let (answer, answered) = AnswerPort::channel();
        self.port("orchestrator-0")
            .execute(request, answer)
            .unwrap();
        answered.await.unwrap()
    }

    async fn begun(&self, count: u32) {
        while self.world.begun.load(Ordering::Relaxed) < count {
            tokio::task::yield_now().await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_listener_hears_of_each_call_with_its_user_params_and_end() {
    let mesh = mesh(2).await;
    let heard = Arc::new(Mutex::new(Vec::new()));
    let hears = Arc::clone(&heard);
    mesh.registry
        .calls_heard_by(Box::new(move |(request, grant), call, params| {
            assert_eq!(request, id());
            let said = (grant.user.clone(), params.text().to_vec(), call.error);
            hears.lock().push((call.capability.to_string(), said));
        }));
    let user = Some("ana".to_owned());
    let grant = Arc::new(Grant {
        user: user.clone(),
        ..Grant::default()
    });
    for name in ["mesh.do", "mesh.nothing"] {
        let params = calls(name, &json!({"x": 1}));
        let grant = Arc::clone(&grant);
        mesh.ask(TaskRequest {
            grant,
            ..request(params)
        })
        .await;
    }
    let said = |error| (user.clone(), br#"{"x":1}"#.to_vec(), error);
    let expected = [
        ("mesh.do".to_owned(), said(None)),
        (
            "mesh.nothing".to_owned(),
            said(Some(ErrorCode::UnknownCapability)),
        ),
    ];
    assert_eq!(*heard.lock(), expected);
}

fn code(response: &TaskResponse) -> Option<ErrorCode> {
    response.outcome.failure().map(|failure| failure.code)
}

#[tokio::test(start_paused = true)]
async fn a_call_is_done_elsewhere_within_what_the_caller_was_given_and_is_reported() {
    let mesh = mesh(3).await;
    let nested = calls("mesh.do", &calls("mesh.do", &json!({})));
    let mut task = request(nested);
    task.deadline_ms = 5_000;
    let response = mesh.ask(task).await;
    let TaskOutcome::Done(result) = &response.outcome else {
        panic!("{response:?}");
    };
    assert_eq!(
        (&result["left"], &result["depth"], &result["calls"]),
        (&json!(5_000), &json!(2), &json!(7))
    );
    let id = result["task"].as_str().unwrap();
    assert_eq!(id.split("-c1-").count(), 3, "a call of a call of t1: {id}");
    let depths: Vec<_> = response.calls.iter().map(|c| (c.depth, c.error)).collect();
    assert_eq!(depths, [(1, None), (2, None)]);
    assert_ne!(
        response.calls[0].agent.as_ref().unwrap().as_str(),
        "orchestrator-0"
    );
}

#[tokio::test(start_paused = true)]
async fn a_runaway_recursion_ends_by_its_budget_and_a_deep_one_by_its_depth() {
    let mesh = mesh(4).await;
    let response = mesh.ask(request(json!({"act": "again"}))).await;
    assert_eq!(code(&response), Some(ErrorCode::BudgetExceeded));
    assert!(mesh.world.begun.load(Ordering::Relaxed) <= 1 + u32::from(Lineage::MAX_DEPTH));
    let mut deep = request(json!({"act": "again"}));
    deep.lineage = Arc::new(Lineage {
        depth: Lineage::MAX_DEPTH,
        ..Lineage::default()
    });
    let begun = mesh.world.begun.load(Ordering::Relaxed);
    let response = mesh.ask(deep).await;
    assert_eq!(code(&response), Some(ErrorCode::BudgetExceeded));
    assert_eq!(mesh.world.begun.load(Ordering::Relaxed), begun + 1);
}

#[tokio::test(start_paused = true)]
async fn what_is_forbidden_or_unknown_never_leaves() {
    let mesh = mesh(2).await;
    let forbidden = mesh.ask(request(calls("mesh.secret", &json!({})))).await;
    assert_eq!(code(&forbidden), Some(ErrorCode::NotPermitted));
    let unknown = mesh.ask(request(calls("mesh.unheard", &json!({})))).await;
    assert_eq!(code(&unknown), Some(ErrorCode::UnknownCapability));
    assert_eq!(
        mesh.world.begun.load(Ordering::Relaxed),
        2,
        "the callers only"
    );
    assert_eq!(forbidden.calls[0].error, Some(ErrorCode::NotPermitted));

    let mut allowed = request(calls("mesh.secret", &json!({})));
    let roles = vec!["staff".to_owned()];
    allowed.grant = Arc::new(Grant {
        roles,
        ..Grant::default()
    });
    assert_eq!(code(&mesh.ask(allowed).await), None, "the grant goes along");

    let rules = json!({"agents": {"orchestrator-0": {"allow": ["mesh.*"], "deny": ["mesh.do"]}}});
    mesh.registry.permit(serde_json::from_value(rules).unwrap());
    let begun = mesh.world.begun.load(Ordering::Relaxed);
    let response = mesh.ask(request(calls("mesh.do", &json!({})))).await;
    assert_eq!(code(&response), Some(ErrorCode::NotPermitted));
    assert_eq!(
        mesh.world.begun.load(Ordering::Relaxed),
        begun + 1,
        "the caller only"
    );
}

#[tokio::test(start_paused = true)]
async fn cancelling_the_caller_cancels_whom_it_called() {
    let mesh = mesh(2).await;
    let task = request(calls("mesh.do", &json!({"act": "hang"})));
    let key = TaskKey::of(&task);
    let (answer, answered) = AnswerPort::channel();
    mesh.port("orchestrator-0").execute(task, answer).unwrap();
    mesh.begun(2).await;
    mesh.port("orchestrator-0").cancel(key);
    let response = answered.await.unwrap();
    assert_eq!(code(&response), Some(ErrorCode::Cancelled));
    assert_eq!(response.calls[0].error, Some(ErrorCode::Cancelled));
    while mesh.world.dropped.load(Ordering::Relaxed) == 0 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_callee_that_dies_is_replaced_unless_the_outcome_must_not_be_unknown() {
    let mesh = mesh(3).await;
    let response = mesh
        .ask(request(calls("mesh.do", &json!({"act": "die once"}))))
        .await;
    assert_eq!(code(&response), None, "{response:?}");
    mesh.world.deaths.store(0, Ordering::Relaxed);
    let once = mesh
        .ask(request(calls("mesh.once", &json!({"act": "die once"}))))
        .await;
    assert_eq!(
        code(&once),
        Some(ErrorCode::DependencyFailed),
        "the caller itself has not died"
    );
    assert_eq!(once.calls[0].error, Some(ErrorCode::AgentPanicked));
    assert_eq!(mesh.world.deaths.load(Ordering::Relaxed), 1);
}

#[tokio::test(start_paused = true)]
async fn a_callee_gets_no_more_time_than_is_left() {
    let mesh = mesh(2).await;
    let mut task = request(calls("mesh.do", &json!({"act": "hang"})));
    task.deadline_ms = 1_000;
    let begin = Instant::now();
    let response = mesh.ask(task).await;
    assert!(code(&response).is_some());
    assert_eq!(begin.elapsed().as_secs(), 1);
    while mesh.world.dropped.load(Ordering::Relaxed) == 0 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_detached_context_calls_only_with_a_registry() {
    let mesh = mesh(1).await;
    let detached = || Context::detached(id(), Duration::from_secs(5));
    let refused = detached()
        .call_named("mesh.do", json!({}))
        .await
        .unwrap_err();
    assert!(refused.hint.unwrap().contains("with_registry"));
    let context = detached().with_registry(mesh.registry.clone());
    let result = context.call_named("mesh.do", json!({})).await.unwrap();
    assert!(result["task"].as_str().unwrap().starts_with("t1-c1-"));
    let failed = context.call_named("mesh.do", json!({"act": "fail"})).await;
    assert_eq!(failed.unwrap_err().code, ErrorCode::TaskFailed);
}

#[test]
fn ids_of_calls_are_their_own_and_never_too_long() {
    let (one, two) = ([1; 6], [2; 6]);
    let short = TaskId::new("t1").unwrap();
    assert_eq!(task_id(&short, one, 2).as_str(), "t1-c2-010101010101");
    assert_ne!(task_id(&short, one, 1), task_id(&short, two, 1));
    let long = TaskId::new("x".repeat(64)).unwrap();
    let deep = task_id(&long, one, 1);
    assert!(deep != task_id(&long, one, 2) && deep.as_str().len() <= 64);
    assert_eq!(deep, task_id(&long, one, 1));
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_dies_after_its_callee_acted_calls_again_under_the_same_key() {
    let mesh = mesh(3).await;
    let pay = |amount: u32| json!({"act": "pay", "params": {"amount": amount}});
    let caller = json!({"act": "pay all and die once", "params": [pay(1), pay(2), pay(1)]});
    let dies = mesh.ask(request(caller.clone())).await;
    assert_eq!(code(&dies), Some(ErrorCode::AgentPanicked));
    let again = TaskRequest {
        attempt: 2,
        ..request(caller)
    };
    let (answer, answered) = AnswerPort::channel();
    mesh.port("orchestrator-1").execute(again, answer).unwrap();
    assert_eq!(code(&answered.await.unwrap()), None);
    let paid = mesh.world.paid.lock().clone();
    let keys: HashSet<_> = paid.iter().collect();
    assert_eq!((paid.len(), keys.len()), (6, 3), "{paid:?}");
}

#[tokio::test(start_paused = true)]
async fn only_an_explicit_word_of_a_handler_that_called_nobody_is_a_refusal() {
    let mesh = mesh(2).await;
    let busy = mesh.ask(request(json!({"act": "busy"}))).await;
    assert!(matches!(busy.outcome, TaskOutcome::Failed(_)), "{busy:?}");
    let refused = mesh.ask(request(json!({"act": "refuse"}))).await;
    assert!(refused.outcome.is_refused(), "{refused:?}");
    let called = mesh.ask(request(json!({"act": "call and refuse"}))).await;
    assert!(
        matches!(called.outcome, TaskOutcome::Failed(_)),
        "{called:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_callees_signs_of_life_are_its_callers() {
    let mesh = mesh(3).await;
    let (answer, answered) = AnswerPort::channel();
    let heard = Arc::new(Mutex::new(Vec::new()));
    let hears = Arc::clone(&heard);
    let answer = answer.hearing(move |note| hears.lock().push(note.to_owned()));
    let crawl = calls("mesh.crawl", &json!({"act": "crawl"}));
    let nested = request(calls("mesh.do", &crawl));
    mesh.port("orchestrator-0").execute(nested, answer).unwrap();
    let response = answered.await.unwrap();
    assert_eq!(code(&response), None, "{response:?}");
    let expected: Vec<_> = (1..=5).map(|n| format!("page {n}")).collect();
    assert_eq!(*heard.lock(), expected);
}

#[tokio::test(start_paused = true)]
async fn a_silent_callee_is_given_up_before_its_time_is_over() {
    let mesh = mesh(2).await;
    let hang = json!({"act": "crawl", "params": "hang"});
    let task = request(calls("mesh.crawl", &hang));
    let begin = Instant::now();
    let response = mesh.ask(task).await;
    let failure = response.outcome.failure().unwrap();
    assert_eq!(failure.code, ErrorCode::DependencyFailed);
    assert!(
        failure.message.contains("gave no sign of life for 1s"),
        "{failure}"
    );
    assert_eq!(response.calls[0].error, Some(ErrorCode::TaskTimeout));
    // The call ends one second after its last page, which came at 3.6 s.
    assert_eq!(begin.elapsed().as_millis() / 100, 46);
    while mesh.world.dropped.load(Ordering::Relaxed) == 0 {
        tokio::task::yield_now().await;
    }
}
