//! The same faults for a task of a plan and for a call between agents: as many attempts, at other agents, for as long, with the
//! same end. The two have loops of their own, which must not drift apart.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use amcp_orchestrator::{OrchestratorHandle, Settings};
use amcp_plan::{NoFill, Rules, compile};
use amcp_planner::{Planned, Planner, PlanningError, PlanningInput};
use amcp_protocol::llm::{PortFuture, Usage};
use amcp_protocol::{ErrorCode, TaskState, UserRequest};
use amcp_registry::{EventBus, RegistryHandle};
use amcp_specialists::{
    AgentCard, Capability, ChildSpec, Context, Failure, Specialist, SupervisorConfig,
    SupervisorHandle, Task, Value, async_trait, json,
};
use tokio::time::{Instant, sleep};

/// What an attempt does.
#[derive(Debug, Clone, Copy)]
enum Act {
    Done,
    Fail(ErrorCode),
    Refuse,
    Hang,
    /// Says twice that it goes on, a second apart, and then nothing.
    FallSilent,
    Panic,
}

/// What the next attempts do, and the agents that made them.
#[derive(Default)]
struct Script {
    acts: Mutex<Vec<Act>>,
    agents: Mutex<Vec<u32>>,
}

struct Scripted(u32, Arc<Script>);

#[async_trait]
impl Specialist for Scripted {
    fn card(&self) -> AgentCard {
        let capability = |name| Capability {
            timeout_ms: 10_000,
            ..Capability::new(name, "Does what the script says.")
        };
        let once = Capability {
            idempotent: false,
            ..capability("test.once")
        };
        let crawl = Capability {
            params: json!({"type": "object", "x-idle-ms": 2_000}),
            ..capability("test.crawl")
        };
        AgentCard::new("scripted", "x", vec![capability("test.do"), once, crawl])
    }

    async fn handle(&self, _: Task, ctx: &Context) -> Result<Value, Failure> {
        let act = {
            let mut agents = self.1.agents.lock().unwrap();
            agents.push(self.0);
            let acts = self.1.acts.lock().unwrap();
            acts.get(agents.len() - 1).copied().unwrap_or(Act::Done)
        };
        let failure = |code| Failure::new(code, "as the script says");
        match act {
            Act::Done => Ok(json!({"text": "Done."})),
            Act::Fail(code) => Err(failure(code)),
            Act::Refuse => Err(ctx.refuse(failure(ErrorCode::AgentBusy))),
            Act::Hang => std::future::pending().await,
            Act::FallSilent => {
                for _ in 0..2 {
                    ctx.progress("it goes on");
                    sleep(Duration::from_secs(1)).await;
                }
                std::future::pending().await
            }
            Act::Panic => panic!("as the script says"),
        }
    }
}

/// Plans one task: the query is its capability.
struct One;

impl Planner for One {
    fn name(&self) -> String {
        "one".into()
    }

    fn plan(&self, input: PlanningInput) -> PortFuture<'_, Result<Planned, PlanningError>> {
        Box::pin(async move {
            let (capability, params) = input.query.split_once(' ').unwrap();
            let params: Value = serde_json::from_str(params).unwrap();
            let task = json!({"id": "t1", "capability": capability, "params": params});
            let proposal = serde_json::from_value(json!({"tasks": [task]})).unwrap();
            let rules = Rules {
                catalogue: &input.catalogue,
                access: &input.access,
                limits: &input.limits,
                fill: &NoFill,
            };
            Ok(Planned {
                plan: compile(&proposal, &rules).unwrap(),
                planner: "one".into(),
                llm_calls: 0,
                usage: Usage::default(),
                notes: Vec::new(),
            })
        })
    }
}

/// The attempts that began, the number of agents that made them, seconds taken, and why there is no result.
#[derive(Debug)]
struct Course {
    attempts: usize,
    agents: usize,
    seconds: u64,
    error: Option<ErrorCode>,
}

struct Mesh {
    registry: RegistryHandle,
    orchestrator: OrchestratorHandle,
    script: Arc<Script>,
    _supervisor: SupervisorHandle,
}

impl Mesh {
    async fn watch(&self, acts: &[Act], run: impl Future<Output = Option<ErrorCode>>) -> Course {
        self.script.agents.lock().unwrap().clear();
        *self.script.acts.lock().unwrap() = acts.to_vec();
        let ready = |agents: &amcp_registry::Agents| {
            let state = amcp_registry::AgentState::Ready;
            agents.agents().iter().all(|agent| agent.state == state)
        };
        self.registry.wait_for(ready).await;
        let begin = Instant::now();
        let error = run.await;
        let agents = self.script.agents.lock().unwrap().clone();
        Course {
            attempts: agents.len(),
            agents: agents.iter().collect::<BTreeSet<_>>().len(),
            seconds: begin.elapsed().as_secs(),
            error,
        }
    }

    async fn task(&self, capability: &str, params: &Value) -> Option<ErrorCode> {
        let request = UserRequest::new(format!("{capability} {params}"));
        let answer = self.orchestrator.ask(request, None).unwrap().answer().await;
        let task = answer.tasks.first().unwrap();
        assert_eq!(task.state == TaskState::Completed, task.error.is_none());
        task.error.as_ref().map(|failure| failure.code)
    }

    async fn call(&self, capability: &str, params: &Value) -> Option<ErrorCode> {
        let id = "123e4567-e89b-12d3-a456-426614174999".parse().unwrap();
        let context = Context::detached(id, Duration::from_secs(60));
        let context = context.with_registry(self.registry.clone());
        let called = context.call_named(capability, params.clone()).await;
        called.err().map(|failure| failure.code)
    }
}

async fn mesh() -> Mesh {
    let bus = EventBus::new();
    let registry = RegistryHandle::new("calls".to_owned(), bus.clone());
    registry.spawn(None).await.unwrap();
    let script = Arc::new(Script::default());
    let settings = Settings::default();
    let orchestrator = OrchestratorHandle::new(settings, Arc::new(One), registry.clone(), bus);
    orchestrator.spawn_planner(None).await.unwrap();
    orchestrator.spawn(None).await.unwrap();
    let children = (0..4).map(|n| {
        let script = Arc::clone(&script);
        ChildSpec::new(&format!("scripted-{n}"), move || {
            Scripted(n, Arc::clone(&script))
        })
    });
    let config = SupervisorConfig::new(registry.clone(), children.collect());
    let supervisor = config.start(None).await.unwrap();
    supervisor.settled().await;
    Mesh {
        registry,
        orchestrator,
        script,
        _supervisor: supervisor,
    }
}

#[tokio::test(start_paused = true)]
async fn a_task_of_a_plan_and_a_call_take_the_same_course() {
    static RUNS: AtomicU32 = AtomicU32::new(0);
    use Act::{Done, Fail, FallSilent, Hang, Panic, Refuse};
    use ErrorCode::{
        AgentBusy, DependencyFailed, Quarantined, TaskFailed, TaskTimeout, UpstreamUnavailable,
    };
    let mesh = mesh().await;
    let silent: &[Act] = &[FallSilent, FallSilent, FallSilent, Done];
    let rows: [(&str, &[Act], usize, Option<ErrorCode>); 12] = [
        ("test.do", &[Done], 1, None),
        ("test.do", &[Fail(TaskFailed), Done], 1, Some(TaskFailed)),
        ("test.do", &[Fail(UpstreamUnavailable), Done], 2, None),
        (
            "test.do",
            &[Fail(UpstreamUnavailable); 4],
            3,
            Some(UpstreamUnavailable),
        ),
        ("test.once", &[Fail(AgentBusy), Done], 1, Some(AgentBusy)),
        ("test.once", &[Refuse, Refuse, Done], 3, None),
        ("test.do", &[Refuse; 9], 8, Some(AgentBusy)),
        ("test.do", &[Hang; 3], 2, Some(TaskTimeout)),
        ("test.once", &[Hang, Done], 1, Some(TaskTimeout)),
        ("test.crawl", silent, 3, Some(TaskTimeout)),
        ("test.do", &[Panic, Done], 2, None),
        ("test.do", &[Panic; 4], 3, Some(Quarantined)),
    ];
    for (capability, acts, attempts, error) in rows {
        // Params that killed agents before would be refused.
        let params = || json!({"run": RUNS.fetch_add(1, Ordering::Relaxed)});
        let params = [params(), params()];
        let [of_task, of_call] = &params;
        let task = mesh.watch(acts, mesh.task(capability, of_task)).await;
        let call = mesh.watch(acts, mesh.call(capability, of_call)).await;
        assert_eq!((task.attempts, task.error), (attempts, error), "{acts:?}");
        // To whoever asked the caller, a failure that may pass is the caller's.
        let seen = error.map(|code| {
            if code.is_transient() {
                DependencyFailed
            } else {
                code
            }
        });
        assert_eq!(call.error, seen, "{acts:?}");
        let whom = |course: &Course| (course.attempts, course.agents);
        assert_eq!(whom(&call), whom(&task), "{capability} {acts:?}");
        // Pauses have jitter: up to half of each.
        let apart = call.seconds.abs_diff(task.seconds);
        assert!(
            apart <= 1 + task.seconds.max(call.seconds) / 2,
            "{task:?} {call:?}"
        );
    }
}
