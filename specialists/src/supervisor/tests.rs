//! Shell and supervisor together, on real small specialists: the fate of tasks and agents when a part fails.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use amcp_protocol::task::{TaskOutcome, WIRE_VERSION};
use amcp_protocol::{
    AgentCard, Capability, CapabilityName, ErrorCode, Failure, Grant, RequestId, TaskId,
    TaskRequest, TaskResponse,
};
use amcp_registry::{AgentPort, AgentStatus, Agents, AnswerPort, EventBus, Restart, TaskKey};
use ractor::ActorStatus;
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use super::*;
use crate::specialist::{Context, Task};

impl SupervisorHandle {
    /// The status of the supervisor's agents, by id.
    fn agents(&self) -> Vec<AgentStatus> {
        let directory = self.registry.load();
        let agents = self.agents.iter();
        agents.filter_map(|agent| directory.status(agent)).collect()
    }
}

/// The state that a probe's handlers share with the test.
#[derive(Default)]
struct World {
    /// How many values the factory made.
    made: AtomicU32,
    /// The tasks that began, in order.
    begun: Mutex<Vec<String>>,
    /// How many handlers were dropped before they returned.
    dropped: AtomicU32,
    /// One permit lets one waiting task return.
    gate: Option<Semaphore>,
    never_blocks: bool,
}

struct DropCount(Arc<World>, bool);

impl Drop for DropCount {
    fn drop(&mut self) {
        if !self.1 {
            self.0.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Does the act that its params name.
struct Probe(Arc<World>);

#[crate::async_trait]
impl Specialist for Probe {
    fn card(&self) -> AgentCard {
        let mut does = Capability::new("probe.do", "Does what it is told.");
        does.params = json!({
            "type": "object",
            "properties": {"act": {"type": "string"}, "n": {"type": "integer"}},
            "required": ["act"],
        });
        does.result = json!({"type": "object"});
        does.concurrency = 2;
        let mut secret = Capability::new("probe.secret", "Only for some.");
        secret.required_roles = vec!["staff".into(), "finance".into()];
        let act = Capability {
            idempotent: false,
            ..Capability::new("probe.act", "Acts.")
        };
        let crawl = Capability {
            params: json!({"type": "object", "x-idle-ms": 1_000}),
            concurrency: 1,
            ..Capability::new("probe.crawl", "Takes long.")
        };
        AgentCard::new("probe", "A probe.", vec![does, secret, act, crawl])
    }

    fn never_blocks(&self) -> bool {
        self.0.never_blocks
    }

    async fn handle(&self, task: Task, ctx: &Context) -> Result<Value, Failure> {
        let world = &self.0;
        world.begun.lock().unwrap().push(ctx.task_id().to_string());
        let mut dropped = DropCount(Arc::clone(world), false);
        let result = match task.text("act") {
            "panic" => panic!("no {}", task.params["n"]),
            "fail" => Err(Failure::task("it cannot")),
            "hang" => std::future::pending().await,
            "wait" => {
                world
                    .gate
                    .as_ref()
                    .unwrap()
                    .acquire()
                    .await
                    .unwrap()
                    .forget();
                Ok(json!({}))
            }
            "say much" => {
                for n in 1..=1_000 {
                    ctx.progress(&format!("page {n}"));
                }
                std::future::pending().await
            }
            "say more" => {
                for n in 1.. {
                    ctx.progress(&format!("page {n}"));
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
                Ok(json!({}))
            }
            "lie" => Ok(json!("not an object")),
            "shout" => Ok(json!({"text": "a".repeat(9 * 1024 * 1024)})),
            _ => Ok(json!({"value": self.0.made.load(Ordering::Relaxed)})),
        };
        dropped.1 = true;
        result
    }
}

struct Mesh {
    registry: RegistryHandle,
    supervisor: SupervisorHandle,
    world: Arc<World>,
}

fn registry() -> RegistryHandle {
    static SCOPES: AtomicU64 = AtomicU64::new(0);
    let scope = SCOPES.fetch_add(1, Ordering::Relaxed);
    RegistryHandle::new(format!("specialists-test-{scope}"), EventBus::new())
}

/// Time is paused and passes only while all tasks wait, so that a wait in vain ends at once.
async fn soon<T>(what: impl Future<Output = T>) -> T {
    let deadline = Duration::from_secs(300);
    tokio::time::timeout(deadline, what)
        .await
        .expect("it happens")
}

async fn until(registry: &RegistryHandle, condition: impl FnMut(&Agents) -> bool) {
    soon(registry.wait_for(condition)).await;
}

fn probe(id: &str, world: &Arc<World>) -> ChildSpec {
    let world = Arc::clone(world);
    ChildSpec::new(id, move || {
        world.made.fetch_add(1, Ordering::Relaxed);
        Probe(Arc::clone(&world))
    })
}

async fn mesh(change: impl Fn(ChildSpec) -> ChildSpec) -> Mesh {
    mesh_of(false, change).await
}

async fn mesh_of(never_blocks: bool, change: impl Fn(ChildSpec) -> ChildSpec) -> Mesh {
    let world = Arc::new(World {
        gate: Some(Semaphore::new(0)),
        never_blocks,
        ..World::default()
    });
    let registry = registry();
    registry.spawn(None).await.unwrap();
    let children = vec![change(probe("probe-1", &world))];
    let supervisor = SupervisorConfig::new(registry.clone(), children)
        .start(None)
        .await
        .unwrap();
    soon(supervisor.settled()).await;
    Mesh {
        registry,
        supervisor,
        world,
    }
}

fn agent() -> AgentId {
    AgentId::new("probe-1").unwrap()
}

fn request(task: &str, act: &str) -> TaskRequest {
    TaskRequest {
        version: WIRE_VERSION,
        request_id: "123e4567-e89b-12d3-a456-426614174999"
            .parse::<RequestId>()
            .unwrap(),
        task_id: TaskId::new(task).unwrap(),
        attempt: 1,
        deadline_ms: 600_000,
        traceparent: None,
        grant: Arc::default(),
        lineage: Arc::default(),
        capability: CapabilityName::new("probe.do").unwrap(),
        flows: Vec::new(),
        params: json!({"act": act}).into(),
    }
}

fn key(task: &str) -> TaskKey {
    let TaskRequest {
        request_id,
        task_id,
        attempt,
        ..
    } = request(task, "");
    TaskKey {
        request_id,
        task_id,
        attempt,
    }
}

type Answer = oneshot::Receiver<TaskResponse>;

/// The code of a failure; `None` for a result.
async fn code(answer: Answer) -> Option<ErrorCode> {
    failure(answer).await.map(|failure| failure.code)
}

async fn failure(answer: Answer) -> Option<Failure> {
    let outcome = soon(answer).await.expect("an answer").outcome;
    outcome.failure().cloned()
}

impl Mesh {
    fn port(&self) -> AgentPort {
        self.registry.load().agent(&agent()).unwrap().port.clone()
    }

    fn send(&self, task: TaskRequest) -> Answer {
        let (port, answer) = AnswerPort::channel();
        self.port().execute(task, port).unwrap();
        answer
    }

    async fn ask(&self, task: TaskRequest) -> Option<Failure> {
        failure(self.send(task)).await
    }

    /// Fills both places of the agent with tasks that wait.
    async fn busy(&self) -> [Answer; 2] {
        let answers = [
            self.send(request("w1", "wait")),
            self.send(request("w2", "wait")),
        ];
        self.begun(2).await;
        answers
    }

    async fn begun(&self, count: usize) {
        while self.world.begun.lock().unwrap().len() < count {
            tokio::task::yield_now().await;
        }
    }

    fn release(&self, tasks: usize) {
        self.world.gate.as_ref().unwrap().add_permits(tasks);
    }

    fn cancel(&self, task: &str) {
        self.port().cancel(key(task));
    }

    fn status(&self) -> AgentStatus {
        self.supervisor.agents().remove(0)
    }

    async fn until(&self, state: AgentState) {
        until(&self.registry, |agents| agents.agents()[0].state == state).await;
    }

    /// Until the agent was started this many times after the first.
    async fn restarted(&self, times: u64) {
        until(&self.registry, |agents| {
            let status = &agents.agents()[0];
            let made = u64::from(self.world.made.load(Ordering::Relaxed));
            status.state == AgentState::Ready && made == times + 1
        })
        .await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_task_is_done_and_its_answer_says_which() {
    for never_blocks in [false, true] {
        let mesh = mesh_of(never_blocks, |spec| spec).await;
        let response = mesh.send(request("t1", "echo")).await.unwrap();
        assert_eq!(
            response.outcome,
            TaskOutcome::Done(json!({"value": 1}).into())
        );
        assert_eq!((response.agent, response.attempt), (agent(), 1));
        assert_eq!(response.task_id, TaskId::new("t1").unwrap());
        let refused = mesh.ask(request("t2", "fail")).await.unwrap();
        assert_eq!(
            (refused.code, refused.message.as_str()),
            (ErrorCode::TaskFailed, "it cannot")
        );
        let status = mesh.status();
        assert_eq!((status.done, status.failed, status.restarts), (1, 1, 0));
    }
}

#[tokio::test(start_paused = true)]
async fn what_may_not_be_done_is_refused_before_it_begins() {
    let mesh = mesh(|spec| spec).await;
    let refused = |change: fn(&mut TaskRequest)| {
        let mut task = request("t1", "echo");
        change(&mut task);
        let answer = mesh.send(task);
        async { failure(answer).await.unwrap() }
    };
    let unknown = refused(|t| t.capability = CapabilityName::new("probe.other").unwrap()).await;
    assert_eq!(unknown.code, ErrorCode::NoAgent);
    let version = refused(|t| t.version = 2).await;
    assert_eq!(version.code, ErrorCode::UnsupportedWire);
    let expired = refused(|t| t.deadline_ms = 0).await;
    assert_eq!(expired.code, ErrorCode::DeadlineExceeded);
    let params = refused(|t| t.params = json!({"act": "echo", "n": "one"}).into()).await;
    assert_eq!(params.code, ErrorCode::InvalidParams);
    assert!(params.message.contains("/n"), "{}", params.message);
    let role = refused(|t| {
        t.capability = CapabilityName::new("probe.secret").unwrap();
        let roles = vec!["finance".to_owned()];
        t.grant = Arc::new(Grant {
            roles,
            ..Grant::default()
        });
    });
    let role = role.await;
    assert_eq!(role.code, ErrorCode::NotPermitted);
    assert!(role.hint.unwrap().contains("staff, finance"));
    assert!(
        mesh.world.begun.lock().unwrap().is_empty(),
        "nothing may have begun"
    );

    let mut allowed = request("t1", "lie");
    allowed.capability = CapabilityName::new("probe.secret").unwrap();
    let roles = vec!["finance".to_owned(), "staff".to_owned()];
    allowed.grant = Arc::new(Grant {
        roles,
        ..Grant::default()
    });
    assert_eq!(mesh.ask(allowed.clone()).await, None);

    let rules = json!({"roles": {"everyone": {"allow": ["*"], "deny": ["probe.secret"]}}});
    mesh.registry.permit(serde_json::from_value(rules).unwrap());
    allowed.task_id = "t2".parse().unwrap();
    let denied = mesh.ask(allowed).await.unwrap();
    assert_eq!(denied.code, ErrorCode::NotPermitted);
    assert!(denied.hint.unwrap().contains("'everyone'"));
}

#[tokio::test(start_paused = true)]
async fn a_result_that_breaks_its_promise_is_none() {
    for never_blocks in [false, true] {
        let mesh = mesh_of(never_blocks, |spec| spec).await;
        let lie = mesh.ask(request("t1", "lie")).await.unwrap();
        assert_eq!(lie.code, ErrorCode::InvalidResult);
        assert!(lie.message.contains("probe.do"));
        let large = mesh.ask(request("t2", "shout")).await.unwrap();
        assert_eq!(large.code, ErrorCode::ResultTooLarge);
        assert_eq!(mesh.status().restarts, 0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_panic_costs_its_task_and_nobody_else() {
    for never_blocks in [false, true] {
        let mesh = mesh_of(never_blocks, |spec| spec).await;
        let other = mesh.send(request("w1", "wait"));
        mesh.begun(1).await;
        let panics = mesh.send(request("t1", "panic"));
        let queued = mesh.send(request("t2", "echo"));
        let panicked = failure(panics).await.unwrap();
        assert_eq!(panicked.code, ErrorCode::AgentPanicked);
        assert!(panicked.message.contains("no null"), "{}", panicked.message);
        assert_eq!(code(queued).await, Some(ErrorCode::AgentUnavailable));
        mesh.until(AgentState::Restarting).await;
        assert_eq!(
            code(mesh.send(request("t3", "echo"))).await,
            Some(ErrorCode::AgentUnavailable)
        );
        assert!(
            mesh.registry
                .load()
                .choose(&request("t4", "").capability, &[], 0)
                .is_none()
        );
        assert_eq!(
            mesh.world.made.load(Ordering::Relaxed),
            1,
            "what runs may end first"
        );

        mesh.release(1);
        assert_eq!(code(other).await, None);
        mesh.restarted(1).await;
        let response = mesh.send(request("t4", "echo")).await.unwrap();
        assert_eq!(
            response.outcome,
            TaskOutcome::Done(json!({"value": 2}).into()),
            "a fresh value"
        );
        assert_eq!(mesh.status().restarts, 1);
    }
}

#[tokio::test(start_paused = true)]
async fn what_never_blocks_begins_before_the_shell_hears_the_next_message() {
    let mesh = mesh_of(true, |spec| spec).await;
    let tasks = (1..=3).map(|n| mesh.send(request(&format!("t{n}"), "echo")));
    let answers: Vec<_> = tasks.collect();
    let panics = mesh.send(request("t4", "panic"));
    let late = mesh.send(request("t5", "echo"));
    for answer in answers {
        assert_eq!(code(answer).await, None);
    }
    assert_eq!(code(panics).await, Some(ErrorCode::AgentPanicked));
    let refused = soon(late).await.unwrap().outcome;
    assert!(
        refused.is_refused(),
        "nothing begins after a panic: {refused:?}"
    );
    mesh.restarted(1).await;
    assert_eq!(mesh.ask(request("t6", "echo")).await, None);
    assert_eq!(mesh.world.begun.lock().unwrap().len(), 5);
}

#[tokio::test(start_paused = true)]
async fn an_agent_that_panicked_is_back_soon_whatever_still_runs() {
    for never_blocks in [false, true] {
        let mesh = mesh_of(never_blocks, |spec| spec).await;
        let begin = tokio::time::Instant::now();
        let slow = mesh.send(request("t1", "hang"));
        mesh.begun(1).await;
        let panics = mesh.send(request("t2", "panic"));
        assert_eq!(code(panics).await, Some(ErrorCode::AgentPanicked));
        assert!(soon(slow).await.is_err(), "it is lost, not answered");
        mesh.restarted(1).await;
        assert!(
            begin.elapsed() < Duration::from_secs(2),
            "long before the slow task's time is over"
        );
        assert_eq!(mesh.ask(request("t3", "echo")).await, None);
    }
}

#[tokio::test(start_paused = true)]
async fn a_task_that_hangs_ends_when_its_time_is_over() {
    for never_blocks in [false, true] {
        let mesh = mesh_of(never_blocks, |spec| spec).await;
        let begin = tokio::time::Instant::now();
        let mut short = request("t2", "hang");
        short.deadline_ms = 2_000;
        let (short, long) = (mesh.send(short), mesh.send(request("t1", "hang")));
        assert_eq!(code(short).await, Some(ErrorCode::TaskTimeout));
        assert_eq!(begin.elapsed().as_secs(), 2, "the deadline comes first");
        assert_eq!(code(long).await, Some(ErrorCode::TaskTimeout));
        assert_eq!(
            begin.elapsed().as_secs(),
            30,
            "the capability's time-out comes first"
        );
        assert_eq!(mesh.world.dropped.load(Ordering::Relaxed), 2);
        assert_eq!(
            mesh.ask(request("t3", "echo")).await,
            None,
            "their places are free"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_killed_agent_loses_what_it_had_and_comes_back() {
    for never_blocks in [false, true] {
        let mesh = mesh_of(never_blocks, |spec| spec).await;
        let running = mesh.busy().await;
        let queued = mesh.send(request("t3", "echo"));
        while mesh.status().queued == 0 {
            tokio::task::yield_now().await;
        }
        assert!(mesh.supervisor.kill(&agent()).await);
        for answer in running.into_iter().chain([queued]) {
            assert!(
                answer.await.is_err(),
                "an agent that is gone answers nothing"
            );
        }
        mesh.restarted(1).await;
        assert_eq!(
            mesh.world.dropped.load(Ordering::Relaxed),
            2,
            "its work was stopped"
        );
        assert_eq!(mesh.status().queued, 0);
        assert_eq!(mesh.ask(request("t4", "echo")).await, None);
        assert!(!mesh.supervisor.kill(&AgentId::new("nobody").unwrap()).await);
    }
}

#[tokio::test(start_paused = true)]
async fn an_agent_dies_of_one_kill_only() {
    let mesh = mesh(|spec| spec).await;
    let agent = agent();
    let kills = || mesh.supervisor.kill(&agent);
    let (first, second) = tokio::join!(kills(), kills());
    assert_eq!((first, second), (true, false), "one death, one restart");
    mesh.restarted(1).await;
    assert!(mesh.supervisor.kill(&agent).await, "the next one is alive");
}

#[tokio::test(start_paused = true)]
async fn a_poison_task_is_refused_after_three_deaths() {
    for never_blocks in [false, true] {
        let mesh = mesh_of(never_blocks, |spec| spec).await;
        let poison = |n: u32| {
            let mut task = request(&format!("t{n}"), "panic");
            task.params = json!({"act": "panic", "n": 7}).into();
            task
        };
        for death in 1..=3 {
            let failure = mesh.ask(poison(death)).await.unwrap();
            assert_eq!(failure.code, ErrorCode::AgentPanicked);
            mesh.restarted(u64::from(death)).await;
        }
        let refused = mesh.ask(poison(4)).await.unwrap();
        assert_eq!(refused.code, ErrorCode::Quarantined);
        assert!(refused.hint.unwrap().contains("10 minutes"));
        assert_eq!(mesh.ask(request("t5", "echo")).await, None);
        assert_eq!(mesh.status().restarts, 3);
        tokio::time::advance(crate::quarantine::TERM).await;
        assert_eq!(
            mesh.ask(poison(6)).await.unwrap().code,
            ErrorCode::AgentPanicked
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_queue_has_an_end_and_dead_work_does_not_fill_it() {
    let limits = ShellLimits {
        queue: 2,
        ..ShellLimits::default()
    };
    let mesh = mesh(|spec| spec.limits(limits)).await;
    let running = mesh.busy().await;
    let mut brief = request("t1", "echo");
    brief.deadline_ms = 1_000;
    let (brief, patient) = (mesh.send(brief), mesh.send(request("t2", "echo")));
    let refused = mesh.ask(request("t3", "echo")).await.unwrap();
    assert_eq!(refused.code, ErrorCode::AgentBusy);
    assert!(refused.retry_after_ms.is_some());
    assert_eq!(mesh.status().queued, 2);

    tokio::time::advance(Duration::from_secs(2)).await;
    let late = mesh.send(request("t4", "echo"));
    assert_eq!(
        code(brief).await,
        Some(ErrorCode::DeadlineExceeded),
        "it made room"
    );
    mesh.release(2);
    for answer in running.into_iter().chain([patient, late]) {
        assert_eq!(code(answer).await, None);
    }
    assert_eq!(
        *mesh.world.begun.lock().unwrap(),
        ["w1", "w2", "t2", "t4"],
        "in order"
    );
    assert_eq!(mesh.status().queued, 0);
}

#[tokio::test(start_paused = true)]
async fn a_queued_task_whose_deadline_passed_is_not_begun() {
    for never_blocks in [false, true] {
        let mesh = mesh_of(never_blocks, |spec| spec).await;
        let _running = mesh.busy().await;
        let mut brief = request("t1", "echo");
        brief.deadline_ms = 1_000;
        let brief = mesh.send(brief);
        while mesh.status().queued == 0 {
            tokio::task::yield_now().await;
        }
        tokio::time::advance(Duration::from_secs(1)).await;
        mesh.release(1);
        assert_eq!(code(brief).await, Some(ErrorCode::DeadlineExceeded));
        assert_eq!(mesh.world.begun.lock().unwrap().len(), 2);
    }
}

#[tokio::test(start_paused = true)]
async fn a_task_can_be_cancelled_while_it_waits_and_while_it_runs() {
    for never_blocks in [false, true] {
        let mesh = mesh_of(never_blocks, |spec| spec).await;
        let [first, second] = mesh.busy().await;
        let (queued, next) = (
            mesh.send(request("t1", "echo")),
            mesh.send(request("t2", "echo")),
        );
        mesh.cancel("t1");
        assert_eq!(code(queued).await, Some(ErrorCode::Cancelled));
        mesh.cancel("w1");
        assert_eq!(code(first).await, Some(ErrorCode::Cancelled));
        assert_eq!(code(next).await, None, "the place is free");
        assert_eq!(mesh.world.dropped.load(Ordering::Relaxed), 1);
        mesh.cancel("never-heard-of");
        mesh.release(1);
        assert_eq!(code(second).await, None);
        assert_eq!(*mesh.world.begun.lock().unwrap(), ["w1", "w2", "t2"]);
    }
}

#[tokio::test(start_paused = true)]
async fn an_attempt_that_is_sent_again_joins_the_one_that_runs_or_waits() {
    for never_blocks in [false, true] {
        let mesh = mesh_of(never_blocks, |spec| spec).await;
        let [first, second] = mesh.busy().await;
        let queued = mesh.send(request("t1", "echo"));
        let joined = ["w1", "t1"].map(|task| mesh.send(request(task, "wait")));
        let mut retry = request("w1", "echo");
        retry.attempt = 2;
        let retry = mesh.send(retry);
        // One of the two senders of w1 cancels; all senders of t1 do.
        for task in ["w1", "t1", "t1"] {
            mesh.cancel(task);
        }
        mesh.release(2);
        let [runs, waits] = joined;
        for answer in [first, second, runs, retry] {
            assert_eq!(code(answer).await, None);
        }
        for answer in [queued, waits] {
            assert_eq!(code(answer).await, Some(ErrorCode::Cancelled));
        }
        let begun = mesh.world.begun.lock().unwrap().clone();
        assert_eq!(begun, ["w1", "w2", "w1"], "each attempt once");
        assert_eq!(mesh.status().done, 3);
    }
}

#[tokio::test(start_paused = true)]
async fn what_may_be_repeated_does_not_join_work_that_was_given_up() {
    let mesh = mesh(|spec| spec).await;
    let first = mesh.send(request("w1", "wait"));
    mesh.begun(1).await;
    mesh.cancel("w1");
    let again = soon(mesh.send(request("w1", "wait"))).await.unwrap();
    assert!(again.outcome.is_refused(), "{again:?}");
    assert_eq!(code(first).await, Some(ErrorCode::Cancelled));
    let anew = mesh.send(request("w1", "wait"));
    mesh.begun(2).await;
    mesh.release(1);
    assert_eq!(code(anew).await, None);
}

#[tokio::test(start_paused = true)]
async fn only_a_few_wait_for_the_same_attempt() {
    let mesh = mesh(|spec| spec).await;
    let first = mesh.send(request("w1", "wait"));
    let mut again: Vec<_> = (0..5).map(|_| mesh.send(request("w1", "wait"))).collect();
    let last = soon(again.pop().unwrap()).await.unwrap();
    assert!(!last.outcome.is_refused(), "it has begun");
    assert_eq!(last.outcome.failure().unwrap().code, ErrorCode::NodeLost);
    mesh.release(1);
    for answer in again.into_iter().chain([first]) {
        assert_eq!(code(answer).await, None);
    }
}

#[tokio::test(start_paused = true)]
async fn what_must_not_be_done_twice_is_not_done_again_when_it_is_sent_again() {
    for never_blocks in [false, true] {
        let mesh = mesh_of(never_blocks, |spec| spec).await;
        let act = |act: &str| TaskRequest {
            capability: CapabilityName::new("probe.act").unwrap(),
            ..request("t1", act)
        };
        let done = soon(mesh.send(act("echo"))).await.unwrap();
        assert_eq!(soon(mesh.send(act("echo"))).await.unwrap(), done);
        let failed = TaskRequest {
            attempt: 2,
            ..act("fail")
        };
        let failed = [failed.clone(), failed].map(|task| mesh.send(task));
        for answer in failed {
            assert_eq!(code(answer).await, Some(ErrorCode::TaskFailed));
        }
        assert_eq!(mesh.world.begun.lock().unwrap().len(), 2);
        // A task that may be repeated runs again.
        for _ in 0..2 {
            assert_eq!(mesh.ask(request("t2", "echo")).await, None);
        }
        assert_eq!(mesh.world.begun.lock().unwrap().len(), 4);
    }
}

#[tokio::test(start_paused = true)]
async fn two_poison_tasks_cost_the_agent_for_a_while_and_not_for_good() {
    let mesh = mesh(|spec| spec).await;
    for death in 1..=6 {
        let mut poison = request(&format!("t{death}"), "panic");
        poison.params = json!({"act": "panic", "n": death % 2}).into();
        let failure = mesh.ask(poison).await.unwrap();
        assert_eq!(failure.code, ErrorCode::AgentPanicked);
        if death < 6 {
            mesh.restarted(death).await;
        }
    }
    mesh.until(AgentState::Cooling).await;
    let cooling = mesh.status();
    assert!(cooling.again_at_unix_ms.is_some());
    assert_eq!(cooling.restarts, 5);
    assert!(!mesh.supervisor.kill(&agent()).await, "it is not running");
    let capability = request("t", "").capability;
    assert!(mesh.registry.load().choose(&capability, &[], 0).is_none());

    let since = tokio::time::Instant::now();
    mesh.restarted(6).await;
    let policy = RestartPolicy::default();
    assert!(since.elapsed() >= policy.cool_down / 2 && since.elapsed() <= policy.cool_down);
    assert_eq!(mesh.ask(request("t7", "echo")).await, None);
    assert_eq!(mesh.status().again_at_unix_ms, None);
}

#[tokio::test(start_paused = true)]
async fn a_drain_does_not_wait_for_who_cools_down() {
    let policy = RestartPolicy {
        restart_intensity: 0,
        ..RestartPolicy::default()
    };
    let mesh = mesh(|spec| spec.policy(policy)).await;
    mesh.supervisor.kill(&agent()).await;
    mesh.until(AgentState::Cooling).await;
    let begin = tokio::time::Instant::now();
    assert_eq!(mesh.supervisor.drain(Duration::from_secs(20)).await, []);
    assert!(begin.elapsed().is_zero());
    assert_eq!(mesh.supervisor.cell().get_status(), ActorStatus::Running);
}

#[tokio::test(start_paused = true)]
async fn an_id_that_is_in_use_is_waited_for_and_left_alone() {
    let mesh = mesh(|spec| spec).await;
    let world = Arc::new(World::default());
    let children = vec![probe("probe-1", &world)];
    let config = SupervisorConfig::new(mesh.registry.clone(), children);
    let next = config.start(None).await.unwrap();
    while world.made.load(Ordering::Relaxed) < 3 {
        tokio::time::advance(Duration::from_millis(1)).await;
        assert_eq!(
            mesh.status().state,
            AgentState::Ready,
            "it is not theirs to speak of"
        );
    }
    mesh.supervisor.cell().kill();
    let incarnation = |agents: &Agents| agents.agent(&agent()).unwrap().incarnation;
    let before = incarnation(&mesh.registry.load());
    until(&mesh.registry, |agents| incarnation(agents) != before).await;
    soon(next.settled()).await;
    assert_eq!(mesh.ask(request("t1", "echo")).await, None);
}

#[tokio::test(start_paused = true)]
async fn restart_types_are_kept() {
    for (restart, killed, stopped) in [
        (Restart::Permanent, AgentState::Ready, AgentState::Ready),
        (Restart::Transient, AgentState::Ready, AgentState::Left),
        (Restart::Temporary, AgentState::Left, AgentState::Left),
    ] {
        for (kill, then) in [(true, killed), (false, stopped)] {
            let policy = RestartPolicy {
                restart,
                ..RestartPolicy::default()
            };
            let mesh = mesh(|spec| spec.policy(policy)).await;
            if kill {
                mesh.port().actor().unwrap().kill();
            } else {
                mesh.port().actor().unwrap().stop(None);
            }
            until(&mesh.registry, |agents| {
                !agents.entries().all(|e| e.is_present())
            })
            .await;
            mesh.until(then).await;
            let made = 1 + u32::from(then == AgentState::Ready);
            assert_eq!(mesh.world.made.load(Ordering::Relaxed), made, "{restart:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_cannot_start_is_tried_again_cools_down_or_is_given_up() {
    let world = Arc::new(World::default());
    let registry = registry();
    registry.spawn(None).await.unwrap();
    let tries = Arc::new(AtomicU32::new(0));
    let slow_to_come = {
        let (tries, world) = (Arc::clone(&tries), Arc::clone(&world));
        ChildSpec::new("late", move || {
            assert!(tries.fetch_add(1, Ordering::Relaxed) >= 3, "not yet");
            Probe(Arc::clone(&world))
        })
    };
    let never = ChildSpec::new("never", || -> Probe { panic!("not ever") });
    let unsound = ChildSpec::new("unsound", || Unsound);
    let clash = ChildSpec::new("clash", || Clash);
    let children = vec![slow_to_come, never, unsound];
    let supervisor = SupervisorConfig::new(registry.clone(), children)
        .start(None)
        .await
        .unwrap();
    soon(supervisor.settled()).await;
    let state = |supervisor: &SupervisorHandle| {
        let agents = supervisor.agents().into_iter();
        agents
            .map(|a| (a.agent.to_string(), a.state))
            .collect::<Vec<_>>()
    };
    let given_up = AgentState::GivenUp;
    let expected = [
        ("late", AgentState::Ready),
        ("never", AgentState::Cooling),
        ("unsound", given_up),
    ];
    assert_eq!(
        state(&supervisor),
        expected.map(|(agent, state)| (agent.to_owned(), state))
    );
    assert_eq!(tries.load(Ordering::Relaxed), 4);

    let late = SupervisorConfig::new(registry.clone(), vec![clash])
        .start(None)
        .await
        .unwrap();
    soon(late.settled()).await;
    assert_eq!(state(&late), [("clash".to_owned(), given_up)]);
}

struct Unsound;

#[crate::async_trait]
impl Specialist for Unsound {
    fn card(&self) -> AgentCard {
        AgentCard::new("unsound", "Offers nothing.", vec![])
    }

    async fn handle(&self, _: Task, _: &Context) -> Result<Value, Failure> {
        Ok(json!({}))
    }
}

struct Clash;

#[crate::async_trait]
impl Specialist for Clash {
    fn card(&self) -> AgentCard {
        AgentCard::new(
            "clash",
            "Another.",
            vec![Capability::new("probe.do", "Does otherwise.")],
        )
    }

    async fn handle(&self, _: Task, _: &Context) -> Result<Value, Failure> {
        Ok(json!({}))
    }
}

#[tokio::test(start_paused = true)]
async fn a_drain_lets_tasks_end_and_starts_nothing() {
    let mesh = mesh(|spec| spec).await;
    let port = mesh.port();
    let running = mesh.busy().await;
    let queued = mesh.send(request("t1", "echo"));
    let drained = tokio::spawn({
        let supervisor = mesh.supervisor.clone();
        async move { supervisor.drain(Duration::from_secs(20)).await }
    });
    until(&mesh.registry, |agents| {
        let capability = request("t", "").capability;
        agents.choose(&capability, &[], 0).is_none()
    })
    .await;
    mesh.until(AgentState::Draining).await;
    let (late, answer) = AnswerPort::channel();
    port.execute(request("t2", "echo"), late).unwrap();
    assert_eq!(code(answer).await, Some(ErrorCode::AgentUnavailable));
    mesh.release(2);
    for answer in running.into_iter().chain([queued]) {
        assert_eq!(code(answer).await, None);
    }
    assert_eq!(drained.await.unwrap(), []);
    mesh.until(AgentState::Left).await;
    assert_eq!(port.actor().unwrap().get_status(), ActorStatus::Stopped);
    assert_eq!(mesh.world.made.load(Ordering::Relaxed), 1);
}

#[tokio::test(start_paused = true)]
async fn a_drain_says_what_it_cut_off() {
    let mesh = mesh(|spec| spec).await;
    let running = mesh.busy().await;
    let queued = mesh.send(request("t1", "echo"));
    let begin = tokio::time::Instant::now();
    let left = mesh.supervisor.drain(Duration::from_secs(20)).await;
    assert_eq!(
        left,
        [Leftover {
            agent: agent(),
            tasks: 3
        }]
    );
    assert_eq!(begin.elapsed().as_secs(), 20);
    for answer in running.into_iter().chain([queued]) {
        assert!(answer.await.is_err());
    }
    assert_eq!(
        mesh.supervisor.drain(Duration::from_secs(20)).await,
        [],
        "it is over"
    );
}

#[tokio::test(start_paused = true)]
async fn a_drain_does_not_wait_for_who_is_being_restarted() {
    let policy = RestartPolicy {
        backoff: Duration::from_secs(10),
        ..RestartPolicy::default()
    };
    let mesh = mesh(|spec| spec.policy(policy)).await;
    mesh.supervisor.kill(&agent()).await;
    mesh.until(AgentState::Restarting).await;
    let begin = tokio::time::Instant::now();
    assert_eq!(mesh.supervisor.drain(Duration::from_secs(20)).await, []);
    assert!(begin.elapsed().is_zero());
    tokio::time::advance(Duration::from_secs(60)).await;
    assert_eq!(mesh.world.made.load(Ordering::Relaxed), 1);
}

#[tokio::test(start_paused = true)]
async fn a_drain_ends_who_is_just_starting() {
    let world = Arc::new(World::default());
    let registry = registry();
    registry.spawn(None).await.unwrap();
    let children = vec![probe("probe-1", &world)];
    let config = SupervisorConfig::new(registry.clone(), children);
    let supervisor = config.start(None).await.unwrap();
    let begin = tokio::time::Instant::now();
    assert_eq!(supervisor.drain(Duration::from_secs(20)).await, []);
    assert!(begin.elapsed().as_secs() < 1);
    until(&registry, |agents| {
        agents.entries().all(|entry| !entry.is_present())
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn thousands_of_agents_settle_under_one_supervisor() {
    const AGENTS: usize = 5_000;
    let world = Arc::new(World::default());
    let registry = registry();
    registry.spawn(None).await.unwrap();
    let children = (0..AGENTS).map(|n| probe(&format!("probe-{n}"), &world));
    let config = SupervisorConfig::new(registry.clone(), children.collect());
    let supervisor = config.start(None).await.unwrap();
    soon(supervisor.settled()).await;
    let agents = supervisor.agents();
    assert_eq!(agents.len(), AGENTS);
    assert!(agents.iter().all(|a| a.state == AgentState::Ready));
}

type Heard = Arc<Mutex<Vec<(u128, String)>>>;

impl Mesh {
    /// Sends a task and writes down its signs of life, with the time since now in milliseconds.
    fn listen(&self, task: TaskRequest) -> (Answer, Heard) {
        let (heard, begin) = (Heard::default(), tokio::time::Instant::now());
        let hears = Arc::clone(&heard);
        let (port, answer) = AnswerPort::channel();
        let port = port.hearing(move |note| {
            let at = begin.elapsed().as_millis();
            hears.lock().unwrap().push((at, note.to_owned()));
        });
        self.port().execute(task, port).unwrap();
        (answer, heard)
    }
}

fn notes(heard: &Heard) -> Vec<(u128, String)> {
    heard.lock().unwrap().clone()
}

#[tokio::test(start_paused = true)]
async fn of_signs_in_a_loop_few_leave_and_the_last_is_among_them() {
    let mesh = mesh(|child| child).await;
    let (_answer, heard) = mesh.listen(request("t1", "say much"));
    let (answer, more) = mesh.listen(TaskRequest {
        deadline_ms: 10_000,
        ..request("t2", "say more")
    });
    assert_eq!(code(answer).await, Some(ErrorCode::TaskTimeout));
    let expected = [(0, "page 1"), (100, "page 1000")].map(|(at, note)| (at, note.to_owned()));
    assert_eq!(notes(&heard), expected);
    let more = notes(&more);
    assert!((90..=101).contains(&more.len()), "{}", more.len());
    let apart = more.windows(2).map(|two| two[1].0 - two[0].0);
    assert!(apart.min() >= Some(100));
}

#[tokio::test(start_paused = true)]
async fn an_attempt_that_is_sent_again_hears_the_same_signs() {
    let mesh = mesh(|child| child).await;
    let (_first, one) = mesh.listen(request("t1", "say more"));
    mesh.begun(1).await;
    let (_second, two) = mesh.listen(request("t1", "say more"));
    soon(async {
        while notes(&two).len() < 3 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
    let said = |heard: &Heard| {
        notes(heard)
            .into_iter()
            .map(|(_, note)| note)
            .collect::<Vec<_>>()
    };
    assert!(said(&one).ends_with(&said(&two)));
    assert_eq!(mesh.world.begun.lock().unwrap().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_agent_says_that_it_takes_a_task_out_of_its_queue() {
    let mesh = mesh(|child| child).await;
    let crawl = |task: &str| TaskRequest {
        capability: CapabilityName::new("probe.crawl").unwrap(),
        ..request(task, "wait")
    };
    let (first, at_once) = mesh.listen(crawl("t1"));
    let (second, queued) = mesh.listen(crawl("t2"));
    mesh.begun(1).await;
    assert_eq!((notes(&at_once), notes(&queued)), (vec![], vec![]));
    mesh.release(1);
    assert_eq!(code(first).await, None);
    mesh.begun(2).await;
    assert_eq!(notes(&queued).len(), 1);
    mesh.release(1);
    assert_eq!(code(second).await, None);
}
