//! Two nodes' links in one process: their ports are local actors, all else is as between machines.

use std::sync::Mutex as StdMutex;

use amcp_protocol::flow::Decision;
use amcp_protocol::task::TaskOutcome;
use amcp_protocol::{
    AgentCard, AgentId, Capability, CapabilityName, CapabilityPattern, ErrorCode, Failure, TaskId,
    TaskRequest, TaskResponse,
};
use amcp_registry::{AgentMsg, AgentPort, AgentState, AnswerPort, EventBus, Registration, TaskKey};
use ractor::{Actor, ActorProcessingErr};
use serde_json::json;
use tokio::sync::oneshot;

use super::*;
use crate::settings::{AllowList, Issue};

mod warrants;

const COOKIE: &str = "00112233445566778899aabbccddeeff";
const REQUEST: &str = "123e4567-e89b-12d3-a456-426614174999";

/// An agent that keeps its tasks until the test answers them.
struct Hand;

type Held = Arc<StdMutex<Vec<(TaskRequest, AnswerPort)>>>;

impl Actor for Hand {
    type Msg = AgentMsg;
    type State = Held;
    type Arguments = Held;

    async fn pre_start(
        &self,
        _: ActorRef<AgentMsg>,
        held: Held,
    ) -> Result<Held, ActorProcessingErr> {
        Ok(held)
    }

    async fn handle(
        &self,
        _: ActorRef<AgentMsg>,
        message: AgentMsg,
        held: &mut Held,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            AgentMsg::Execute(task, port) => held.lock().unwrap().push((task, port)),
            AgentMsg::Cancel(key) => {
                // A dropped port tells the asker that no answer comes.
                held.lock().unwrap().retain(|(t, _)| TaskKey::of(t) != key);
            }
            AgentMsg::Drain => {}
        }
        Ok(())
    }
}

fn approval() -> FlowAnswer {
    FlowAnswer {
        decision: Decision::Approve,
        digest: "d".into(),
        payload: json!({"paid": [12, "EUR"]}),
        reason: None,
    }
}

#[derive(Debug)]
struct OneRequest(Option<RequestId>, Refusals);

type Refusals = Arc<StdMutex<Vec<ErrorCode>>>;

impl Desk for OneRequest {
    fn request(&self, id: RequestId) -> Option<Value> {
        (self.0 == Some(id)).then(|| json!({"request_id": id}))
    }

    /// A list of more than a frame holds.
    fn list(&self, wanted: Value) -> Option<Value> {
        let id = self.0.filter(|_| wanted["limit"] == 7)?;
        Some(json!([{"request_id": id, "query": "x".repeat(300_000)}]))
    }

    fn cancel(&self, id: RequestId) -> bool {
        self.0 == Some(id)
    }

    fn refused(&self, _: &NodeName, _: &TaskRequest, failure: &Failure) {
        self.1.lock().unwrap().push(failure.code);
    }

    fn answer_flow(
        &self,
        id: RequestId,
        flow: FlowId,
        answer: FlowAnswer,
    ) -> PortFuture<'static, Option<Result<(), Failure>>> {
        assert_eq!(answer, approval());
        let open = FlowId::new("t1.1").unwrap();
        let judged = (flow == open).then_some(());
        let judged = judged.ok_or_else(|| amcp_protocol::flow::closed(&flow, None));
        let known = self.0 == Some(id);
        Box::pin(async move { known.then_some(judged) })
    }

    fn file(&self, name: String, from: u64) -> PortFuture<'static, Option<FilePiece>> {
        let known = self.0.is_some() && name == "ü.pdf";
        Box::pin(async move {
            known.then(|| FilePiece {
                user: None,
                length: 7,
                written_unix_ms: 1,
                bytes: b"reports".get(from as usize..).unwrap_or_default().to_vec(),
            })
        })
    }
}

struct Node {
    name: NodeName,
    registry: RegistryHandle,
    links: Links,
    port: ActorCell,
    held: Held,
    /// The refusals that its desk heard of.
    refused: Refusals,
    events: mpsc::UnboundedReceiver<Event>,
}

struct Silent;

impl Actor for Silent {
    type Msg = ();
    type State = ();
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<()>, (): ()) -> Result<(), ActorProcessingErr> {
        Ok(())
    }
}

impl Node {
    async fn start(name: &str, trust: Trust, request: Option<RequestId>) -> Self {
        let me = Identity::new(name.parse().unwrap(), COOKIE, None);
        Self::of(me, trust, request).await
    }

    async fn of(me: Identity, trust: Trust, request: Option<RequestId>) -> Self {
        let name = me.name.clone();
        let scope = format!("{name}-{}", fastrand::u64(..));
        let registry = RegistryHandle::new(scope, EventBus::new());
        registry.spawn(None).await.unwrap();
        let (said, events) = mpsc::unbounded_channel();
        let refused = Refusals::default();
        let desk = Arc::new(OneRequest(request, Arc::clone(&refused)));
        let links = Links::new(me, registry.clone(), desk, trust, said);
        let (supervisor, _) = Actor::spawn(None, Silent, ()).await.unwrap();
        let port = links.spawn_port(supervisor.get_cell()).await.unwrap();
        let held = Held::default();
        Self {
            name,
            registry,
            links,
            port,
            held,
            refused,
            events,
        }
    }

    fn info(&self) -> NodeInfo {
        NodeInfo {
            name: self.name.clone(),
            incarnation: 1,
            build: "0.1.0".into(),
            address: "127.0.0.1:7000".into(),
            http: None,
            roles: vec![Role::Orchestrator],
            domain: None,
        }
    }

    async fn agent(&self, id: &str, capability: &str) -> ActorRef<AgentMsg> {
        self.agent_for(id, Capability::new(capability, "Does x."))
            .await
    }

    async fn agent_for(&self, id: &str, capability: Capability) -> ActorRef<AgentMsg> {
        let (actor, _) = Actor::spawn(None, Hand, self.held.clone()).await.unwrap();
        let card = AgentCard::new(id, "x", vec![capability]);
        let joins = Registration::new(card, fastrand::u64(..), actor.get_derived());
        self.registry.register(joins).await.unwrap();
        actor
    }

    /// The tasks of the node's agents, once there are `count`.
    async fn tasks(&self, count: usize) -> Vec<(TaskRequest, AnswerPort)> {
        until(|| {
            let mut held = self.held.lock().unwrap();
            (held.len() == count).then(|| std::mem::take(&mut *held))
        })
        .await
    }

    async fn sees(&self, agent: &str) -> AgentPort {
        let id = AgentId::new(agent).unwrap();
        until(|| {
            let directory = self.registry.load();
            let entry = directory.agent(&id).filter(|entry| entry.is_present());
            entry.map(|entry| entry.port.clone())
        })
        .await
    }

    async fn does_not_see(&self, agent: &str) {
        let id = AgentId::new(agent).unwrap();
        until(|| {
            let directory = self.registry.load();
            let there = directory.agent(&id).is_some_and(|e| e.is_present());
            (!there).then_some(())
        })
        .await;
    }
}

async fn until<T>(mut look: impl FnMut() -> Option<T>) -> T {
    let found = async {
        loop {
            if let Some(found) = look() {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(3_600), found)
        .await
        .unwrap()
}

/// Links two nodes under tokens derived from a number.
fn link(a: &Node, b: &Node, number: u64) {
    let (to_a, to_b) = (number * 2, number * 2 + 1);
    let info = |peer: &Node, token_in, token_out| LinkInfo {
        peer: peer.info(),
        token_in,
        token_out,
        certificate: None,
        meter: Arc::default(),
    };
    a.links.open(info(b, to_a, to_b), b.port.clone());
    b.links.open(info(a, to_b, to_a), a.port.clone());
}

async fn two() -> (Node, Node) {
    let a = Node::start("a", Trust::default(), None).await;
    let b = Node::start("b", Trust::default(), None).await;
    (a, b)
}

fn task(name: &str, attempt: u32) -> TaskRequest {
    TaskRequest {
        version: 1,
        request_id: REQUEST.parse().unwrap(),
        task_id: TaskId::new(name).unwrap(),
        attempt,
        deadline_ms: 1_000,
        traceparent: None,
        grant: Arc::default(),
        lineage: Arc::default(),
        capability: CapabilityName::new("a.x").unwrap(),
        flows: Vec::new(),
        params: json!({"n": 1}).into(),
    }
}

fn send(port: &AgentPort, task: TaskRequest) -> oneshot::Receiver<TaskResponse> {
    let (answer, answered) = AnswerPort::channel();
    port.execute(task, answer).unwrap();
    answered
}

type Heard = Arc<StdMutex<Vec<String>>>;

/// Like [`send`], with the signs that come before the answer.
fn listen(port: &AgentPort, task: TaskRequest) -> (oneshot::Receiver<TaskResponse>, Heard) {
    let ((answer, answered), heard) = (AnswerPort::channel(), Heard::default());
    let hears = Arc::clone(&heard);
    let answer = answer.hearing(move |note| hears.lock().unwrap().push(note.to_owned()));
    port.execute(task, answer).unwrap();
    (answered, heard)
}

fn done(task: &TaskRequest, value: Value) -> TaskResponse {
    TaskResponse {
        version: 1,
        request_id: task.request_id,
        task_id: task.task_id.clone(),
        attempt: task.attempt,
        agent: AgentId::new("worker@b").unwrap(),
        calls: Vec::new(),
        usage: Default::default(),
        outcome: TaskOutcome::Done(value.into()),
    }
}

fn code(response: TaskResponse) -> ErrorCode {
    let failure = response.outcome.failure();
    failure.unwrap_or_else(|| panic!("{response:?}")).code
}

#[tokio::test(start_paused = true)]
async fn a_task_goes_to_an_agent_elsewhere_and_its_answer_comes_back() {
    let (a, b) = two().await;
    b.agent("worker@b", "a.x").await;
    link(&a, &b, 1);
    let port = a.sees("worker@b").await;
    let node = a.registry.load().agents()[0].node.clone();
    assert_eq!(node.as_ref().map(NodeName::as_str), Some("b"));
    let answered = send(&port, task("t1", 1));
    let (asked, answer) = b.tasks(1).await.remove(0);
    assert_eq!(asked, task("t1", 1));
    assert_eq!(a.links.statuses()[0].in_flight, 1);
    assert_eq!(b.links.statuses()[0].serving, 1);
    answer.answer(done(&asked, json!({"x": 1})));
    assert_eq!(answered.await.unwrap(), done(&asked, json!({"x": 1})));
    assert_eq!(a.links.statuses()[0].in_flight, 0);
    assert_eq!(b.links.idle(Duration::ZERO).await, 0);
}

#[tokio::test(start_paused = true)]
async fn agents_come_and_go_elsewhere_too() {
    let (a, b) = two().await;
    link(&a, &b, 1);
    let worker = b.agent("worker@b", "a.x").await;
    a.sees("worker@b").await;
    let id = AgentId::new("worker@b").unwrap();
    b.registry.report(&id, AgentState::Restarting);
    worker.kill();
    a.does_not_see("worker@b").await;
    assert_eq!(
        a.registry.load().agents()[0].state,
        AgentState::Restarting,
        "an agent that restarts comes back"
    );
    b.agent("worker@b", "a.x").await;
    a.sees("worker@b").await;
    a.agent("own@a", "a.x").await;
    b.sees("own@a").await;
}

#[tokio::test(start_paused = true)]
async fn a_lost_link_loses_its_agents_and_what_was_in_flight() {
    let (a, b) = two().await;
    b.agent("worker@b", "a.x").await;
    link(&a, &b, 1);
    let port = a.sees("worker@b").await;
    let lost = send(&port, task("t1", 1));
    let (asked, answer) = b.tasks(1).await.remove(0);
    a.links.close(2);
    assert_eq!(code(lost.await.unwrap()), ErrorCode::NodeLost);
    a.does_not_see("worker@b").await;
    assert!(!port.is_open());
    let (again, _) = AnswerPort::channel();
    let refused = port.execute(task("t1", 2), again).unwrap_err();
    assert_eq!(refused.code, ErrorCode::AgentUnavailable);
    // The other side has not noticed yet, and sends an answer for which no link is left.
    answer.answer(done(&asked, json!(1)));
    until(|| (a.links.counts().dropped_late == 1).then_some(())).await;
}

#[tokio::test(start_paused = true)]
async fn a_repeated_task_is_answered_from_what_is_kept_or_joins_what_is_under_way() {
    let (a, b) = two().await;
    b.agent("worker@b", "a.x").await;
    link(&a, &b, 1);
    let first = send(&a.sees("worker@b").await, task("t1", 1));
    let (asked, answer) = b.tasks(1).await.remove(0);
    a.links.close(2);
    b.links.close(3);
    assert_eq!(code(first.await.unwrap()), ErrorCode::NodeLost);
    a.does_not_see("worker@b").await;

    link(&a, &b, 2);
    let port = a.sees("worker@b").await;
    let second = send(&port, task("t1", 2));
    until(|| (b.links.counts().deduplicated == 1).then_some(())).await;
    answer.answer(done(&asked, json!("once")));
    let second = second.await.unwrap();
    assert_eq!(
        (second.attempt, second.outcome),
        (2, TaskOutcome::Done(json!("once").into()))
    );

    // A task that ended while the nodes were not linked.
    let first = send(&port, task("t2", 1));
    let (asked, answer) = b.tasks(1).await.remove(0);
    a.links.close(4);
    b.links.close(5);
    answer.answer(done(&asked, json!("kept")));
    assert_eq!(code(first.await.unwrap()), ErrorCode::NodeLost);
    a.does_not_see("worker@b").await;
    link(&a, &b, 3);
    let port = a.sees("worker@b").await;
    let second = send(&port, task("t2", 2)).await.unwrap();
    assert_eq!(
        (second.attempt, second.outcome),
        (2, TaskOutcome::Done(json!("kept").into()))
    );
    assert_eq!(b.links.counts().deduplicated, 2);
    assert!(b.held.lock().unwrap().is_empty(), "it was executed once");
}

/// The outcome of a second attempt after the first ended as `first` while the link was lost; none if it is executed again.
async fn repeated(idempotent: bool, first: Option<TaskOutcome>) -> Option<TaskOutcome> {
    let (a, b) = two().await;
    let mut pay = Capability::new("a.x", "Pays.");
    pay.idempotent = idempotent;
    b.agent_for("worker@b", pay).await;
    link(&a, &b, 1);
    let _lost = send(&a.sees("worker@b").await, task("t1", 1));
    let (asked, answer) = b.tasks(1).await.remove(0);
    a.links.close(2);
    b.links.close(3);
    match first {
        Some(outcome) => answer.answer(TaskResponse {
            outcome,
            ..done(&asked, json!(1))
        }),
        None => drop(answer),
    }
    a.does_not_see("worker@b").await;
    link(&a, &b, 2);
    let second = send(&a.sees("worker@b").await, task("t1", 2));
    let known = async {
        until(|| (b.links.counts().deduplicated == 1).then_some(())).await;
        second.await.unwrap()
    };
    tokio::select! {
        known = known => {
            assert_eq!(known.attempt, 2);
            Some(known.outcome)
        }
        _ = b.tasks(1) => None,
    }
}

#[tokio::test(start_paused = true)]
async fn a_failure_of_what_must_not_be_repeated_is_kept_and_a_refusal_is_not() {
    let failure = Failure::new(ErrorCode::AgentBusy, "half of it is done");
    let failed = TaskOutcome::Failed(failure.clone());
    let refused = TaskOutcome::Refused(failure);
    assert_eq!(
        repeated(false, Some(failed.clone())).await,
        Some(failed.clone())
    );
    let lost = repeated(false, None).await.unwrap();
    assert_eq!(lost.failure().unwrap().code, ErrorCode::AgentLost);
    assert!(!lost.is_refused());
    assert_eq!(repeated(false, Some(refused.clone())).await, None);
    assert_eq!(repeated(true, Some(failed)).await, None);
    assert_eq!(repeated(true, Some(refused)).await, None);
    assert_eq!(repeated(true, None).await, None);
}

#[tokio::test(start_paused = true)]
async fn what_is_not_wanted_any_more_is_cancelled() {
    let (a, b) = two().await;
    b.agent("worker@b", "a.x").await;
    link(&a, &b, 1);
    let port = a.sees("worker@b").await;
    let answered = send(&port, task("t1", 1));
    until(|| (b.held.lock().unwrap().len() == 1).then_some(())).await;
    port.cancel(TaskKey::of(&task("t1", 1)));
    assert!(answered.await.is_err());
    until(|| b.held.lock().unwrap().is_empty().then_some(())).await;
    assert_eq!(b.links.idle(Duration::ZERO).await, 0);
}

#[tokio::test(start_paused = true)]
async fn a_result_of_megabytes_comes_whole() {
    let (a, b) = two().await;
    b.agent("worker@b", "a.x").await;
    link(&a, &b, 1);
    let answered = send(&a.sees("worker@b").await, task("t1", 1));
    let (asked, answer) = b.tasks(1).await.remove(0);
    let text = "x".repeat(900 * 1024);
    answer.answer(done(&asked, json!(text)));
    let response = answered.await.unwrap();
    assert!(response.outcome == TaskOutcome::Done(json!(text).into()));
    assert_eq!(b.links.statuses()[0].in_flight, 0);
}

#[tokio::test(start_paused = true)]
async fn a_peer_has_its_credit_and_not_more() {
    let (a, b) = two().await;
    b.agent("worker@b", "a.x").await;
    link(&a, &b, 1);
    let port = a.sees("worker@b").await;
    let all: Vec<_> = (0..peer::CREDIT)
        .map(|n| send(&port, task(&format!("t{n}"), 1)))
        .collect();
    let (answer, answered) = AnswerPort::channel();
    let refused = port.execute(task("more", 1), answer).unwrap_err();
    assert_eq!(refused.code, ErrorCode::AgentBusy);
    assert!(answered.await.is_err());
    for (asked, answer) in b.tasks(peer::CREDIT).await {
        answer.answer(done(&asked, json!(1)));
    }
    for answered in all {
        answered.await.unwrap();
    }
    send(&port, task("more", 2));
}

#[tokio::test(start_paused = true)]
async fn what_a_newer_build_asks_is_refused_by_name_and_the_link_stays_usable() {
    let (a, b) = two().await;
    b.agent("worker@b", "a.x").await;
    link(&a, &b, 1);
    let port = a.sees("worker@b").await;
    let running = send(&port, task("t1", 1));
    let (asked, answer) = b.tasks(1).await.remove(0);
    // To b: an unreadable task under the id of a's next task, an entry of an unknown kind, and garbage.
    let mut newer = frame::begin(3);
    for (kind, id) in [(Kind::Joined, 0), (Kind::Outcome2, 77), (Kind::Members, 0)] {
        frame::push(&mut newer, kind, id, b"\xff nonsense");
    }
    newer.push(200);
    newer.extend(0_u64.to_be_bytes());
    newer.extend(0_u32.to_be_bytes());
    b.links.arrived(&newer);
    assert_eq!(
        b.links.counts().unknown,
        3,
        "an outcome that no task awaits is late"
    );
    assert_eq!(b.links.counts().dropped_late, 1);
    assert_eq!(a.links.statuses()[0].in_flight, 1, "what runs goes on");

    // From b: a refusal of the task that a has sent.
    let mut refusal = frame::begin(2);
    frame::push(&mut refusal, Kind::Refused, 1, &[Kind::Outcome2 as u8]);
    a.links.arrived(&refusal);
    assert_eq!(
        a.links.statuses()[0].in_flight,
        1,
        "that was about another id"
    );
    answer.answer(done(&asked, json!(1)));
    running.await.unwrap();
    let refused = send(&port, task("t2", 1));
    let (_, _second) = b.tasks(1).await.remove(0);
    refusal.truncate(frame::HEADER);
    frame::push(&mut refusal, Kind::Refused, 2, &[Kind::Task2 as u8]);
    a.links.arrived(&refusal);
    assert_eq!(code(refused.await.unwrap()), ErrorCode::UnsupportedWire);
    let third = send(&port, task("t3", 1));
    let (asked, answer) = b.tasks(1).await.remove(0);
    answer.answer(done(&asked, json!(3)));
    third.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_understands_no_frame_is_given_no_task() {
    let (a, b) = two().await;
    b.agent("worker@b", "a.x").await;
    link(&a, &b, 1);
    let port = a.sees("worker@b").await;
    let mut older = frame::begin(2);
    older[0] = 9;
    a.links.arrived(&older);
    until(|| (a.links.counts().unknown == 1).then_some(())).await;
    let mut refusal = frame::begin(2);
    let awaited = send(&port, task("t1", 1));
    frame::push(&mut refusal, Kind::Refused, 0, b"\0version");
    a.links.arrived(&refusal);
    assert_eq!(code(awaited.await.unwrap()), ErrorCode::UnsupportedWire);
}

#[tokio::test(start_paused = true)]
async fn a_node_speaks_for_its_own_agents_only() {
    let (a, b) = two().await;
    link(&a, &b, 1);
    b.agent("worker@c", "a.x").await;
    b.agent("worker@b", "a.x").await;
    a.sees("worker@b").await;
    assert!(
        a.registry
            .load()
            .agent(&AgentId::new("worker@c").unwrap())
            .is_none()
    );
}

#[tokio::test(start_paused = true)]
async fn whoever_opens_first_learns_everything_all_the_same() {
    let (a, b) = two().await;
    b.agent("worker@b", "a.x").await;
    a.agent("own@a", "a.x").await;
    let info = |peer: &Node, token_in, token_out| LinkInfo {
        peer: peer.info(),
        token_in,
        token_out,
        certificate: None,
        meter: Arc::default(),
    };
    b.links.open(info(&a, 3, 2), a.port.clone());
    // All entries that b sends now arrive before a knows the link.
    until(|| (a.links.counts().dropped_late > 0).then_some(())).await;
    a.links.open(info(&b, 2, 3), b.port.clone());
    a.sees("worker@b").await;
    b.sees("own@a").await;
}

#[tokio::test(start_paused = true)]
async fn a_node_that_slept_long_begins_nothing_that_came_before() {
    let (a, b) = two().await;
    b.agent("worker@b", "a.x").await;
    link(&a, &b, 1);
    let port = a.sees("worker@b").await;
    assert!(!b.links.ticked());
    // Both nodes sleep here; the test asks only b.
    tokio::time::advance(Duration::from_secs(10)).await;
    let (answer, _answered) = AnswerPort::channel();
    port.execute(task("t1", 1), answer).unwrap();
    until(|| (b.links.counts().dropped_late > 0).then_some(())).await;
    assert!(b.held.lock().unwrap().is_empty());
    assert!(b.links.ticked());
    assert_eq!(b.links.statuses(), []);
    assert!(!b.links.ticked());
}

#[tokio::test(start_paused = true)]
async fn a_large_task_that_is_cancelled_on_its_way_is_not_begun() {
    let (a, b) = two().await;
    b.agent("worker@b", "a.x").await;
    link(&a, &b, 1);
    let port = a.sees("worker@b").await;
    let large = TaskRequest {
        params: json!("x".repeat(500 * 1024)).into(),
        ..task("t1", 1)
    };
    let answered = send(&port, large.clone());
    port.cancel(TaskKey::of(&large));
    assert!(answered.await.is_err());
    let next = send(&port, task("t2", 1));
    let asked = b.tasks(1).await;
    assert_eq!(asked[0].0.task_id.as_str(), "t2");
    drop(asked);
    assert!(next.await.is_err());
}

#[tokio::test(start_paused = true)]
async fn a_node_may_offer_here_what_the_list_says() {
    let offer = AllowList(vec![(
        NodeName::new("b").unwrap(),
        vec![CapabilityPattern::new("weather.*").unwrap()],
    )]);
    let trust = Trust {
        offer,
        ..Trust::default()
    };
    let a = Node::start("a", trust, None).await;
    let b = Node::start("b", Trust::default(), None).await;
    b.agent("sky@b", "weather.get").await;
    b.agent("bank@b", "finance.pay").await;
    link(&a, &b, 1);
    a.sees("sky@b").await;
    a.does_not_see("bank@b").await;
    assert!(a.links.counts().not_allowed > 0);
}

/// A stolen key of `a`, or a hostile `a`, gets what `b` lets `a` ask for and no more.
#[tokio::test(start_paused = true)]
async fn a_node_may_ask_here_for_what_the_settings_say() {
    let issue = |roles: Option<&[&str]>, capabilities: Option<&str>| Issue {
        roles: roles.map(|roles| roles.iter().map(|&role| role.to_owned()).collect()),
        capabilities: capabilities.map(|text| vec![CapabilityPattern::new(text).unwrap()]),
    };
    let asks: &[&str] = &["analyst", "admin"];
    for (trusted, refused, roles) in [
        (None, false, asks),
        (Some(issue(None, None)), false, asks),
        (Some(issue(None, Some("a.*"))), false, asks),
        (Some(issue(None, Some("b.*"))), true, &[]),
        (Some(issue(Some(&["analyst"]), None)), false, &["analyst"]),
        (Some(issue(Some(&[]), None)), false, &[]),
    ] {
        let name = NodeName::new("a").unwrap();
        let trust = Trust {
            issue: trusted.map(|issue| (name, issue)).into_iter().collect(),
            ..Trust::default()
        };
        let a = Node::start("a", Trust::default(), None).await;
        let b = Node::start("b", trust, None).await;
        b.agent("worker@b", "a.x").await;
        link(&a, &b, 1);
        let port = a.sees("worker@b").await;
        let mut asked = task("t1", 1);
        Arc::make_mut(&mut asked.grant).roles = asks.iter().map(|&r| r.to_owned()).collect();
        let answered = send(&port, asked);
        if refused {
            let response = answered.await.unwrap();
            assert!(matches!(response.outcome, TaskOutcome::Refused(_)));
            assert_eq!(code(response), ErrorCode::NotPermitted);
            assert_eq!(b.held.lock().unwrap().len(), 0);
            assert_eq!(b.links.counts().not_allowed, 1);
            continue;
        }
        let (asked, answer) = b.tasks(1).await.remove(0);
        assert_eq!(asked.grant.roles, roles);
        answer.answer(done(&asked, json!({})));
        answered.await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn who_drains_withdraws_its_agents_and_ends_what_it_has() {
    let (mut a, b) = two().await;
    b.agent("worker@b", "a.x").await;
    link(&a, &b, 1);
    let port = a.sees("worker@b").await;
    let answered = send(&port, task("t1", 1));
    let (asked, answer) = b.tasks(1).await.remove(0);
    b.links.withdraw();
    a.does_not_see("worker@b").await;
    assert!(matches!(a.events.recv().await, Some(Event::Draining(2))));
    let late = send(&port, task("t2", 1));
    assert_eq!(code(late.await.unwrap()), ErrorCode::AgentUnavailable);
    assert_eq!(b.links.idle(Duration::from_millis(20)).await, 1);
    answer.answer(done(&asked, json!(1)));
    answered.await.unwrap();
    assert_eq!(b.links.idle(Duration::from_secs(1)).await, 0);
    b.agent("new@b", "a.x").await;
    b.links.goodbye();
    assert!(matches!(a.events.recv().await, Some(Event::Goodbye(2))));
    a.does_not_see("new@b").await;
}

#[tokio::test(start_paused = true)]
async fn a_registry_that_began_anew_is_told_everything_again() {
    let (a, b) = two().await;
    b.agent("worker@b", "a.x").await;
    link(&a, &b, 1);
    a.sees("worker@b").await;
    let id = AgentId::new("worker@b").unwrap();
    assert!(a.registry.deregister(&id).await);
    a.does_not_see("worker@b").await;
    a.registry.spawn(None).await.unwrap();
    a.sees("worker@b").await;
}

#[tokio::test(start_paused = true)]
async fn peers_are_asked_about_requests() {
    let id: RequestId = REQUEST.parse().unwrap();
    let a = Node::start("a", Trust::default(), None).await;
    let b = Node::start("b", Trust::default(), None).await;
    let c = Node::start("c", Trust::default(), Some(id)).await;
    link(&a, &b, 1);
    link(&a, &c, 2);
    let (owner, view) = a.links.find_request(id).await.unwrap();
    assert_eq!((owner.as_str(), view), ("c", json!({"request_id": id})));
    assert!(a.links.cancel_request(id).await);
    let other: RequestId = "00000000-0000-0000-0000-000000000001".parse().unwrap();
    assert!(a.links.find_request(other).await.is_none());
    assert!(!a.links.cancel_request(other).await);
    assert!(
        b.links.find_request(id).await.is_none(),
        "a node that is not linked is not asked"
    );
}

#[tokio::test(start_paused = true)]
async fn all_peers_are_asked_for_lists_and_who_is_silent_is_known() {
    let id: RequestId = REQUEST.parse().unwrap();
    let a = Node::start("a", Trust::default(), None).await;
    let b = Node::start("b", Trust::default(), None).await;
    let c = Node::start("c", Trust::default(), Some(id)).await;
    link(&a, &b, 1);
    link(&a, &c, 2);
    let mut lists = a.links.list_requests(&json!({"limit": 7})).await;
    lists.sort_by(|a, b| a.0.cmp(&b.0));
    let [(b, None), (c, Some(list))] = lists.as_slice() else {
        panic!("{lists:?}");
    };
    assert_eq!((b.as_str(), c.as_str()), ("b", "c"));
    assert_eq!(list[0]["request_id"], json!(id));
    assert_eq!(list[0]["query"].as_str().unwrap().len(), 300_000);
}

/// A thief of a key that may ask for little learns nothing of others' requests, ends none, and approves nothing.
#[tokio::test(start_paused = true)]
async fn a_limited_node_is_told_nothing_of_requests() {
    let id: RequestId = REQUEST.parse().unwrap();
    let everything = Issue {
        roles: None,
        capabilities: None,
    };
    let trust = Trust {
        issue: [(NodeName::new("a").unwrap(), everything)].into(),
        ..Trust::default()
    };
    let a = Node::start("a", Trust::default(), None).await;
    let b = Node::start("b", trust, Some(id)).await;
    link(&a, &b, 1);
    assert_eq!(a.links.find_request(id).await, None);
    assert!(!a.links.cancel_request(id).await);
    let lists = a.links.list_requests(&json!({"limit": 7})).await;
    assert!(matches!(lists.as_slice(), [(_, None)]), "{lists:?}");
    let (flow, yes) = (FlowId::new("t1.1").unwrap(), approval());
    let owner = NodeName::new("b").unwrap();
    assert!(a.links.answer_flow(&owner, id, &flow, &yes).await.is_none());
    assert_eq!(b.links.counts().not_allowed, 4);
}

#[tokio::test(start_paused = true)]
async fn an_answer_to_a_flow_goes_to_the_node_whose_request_it_is() {
    let id: RequestId = REQUEST.parse().unwrap();
    let a = Node::start("a", Trust::default(), None).await;
    let b = Node::start("b", Trust::default(), None).await;
    let c = Node::start("c", Trust::default(), Some(id)).await;
    link(&a, &b, 1);
    link(&a, &c, 2);
    let answer = async |owner: &Node, flow: &str| {
        let flow = FlowId::new(flow).unwrap();
        let approval = approval();
        let answered = a.links.answer_flow(&owner.name, id, &flow, &approval);
        answered.await.map(|judged| judged.map_err(|no| no.code))
    };
    assert_eq!(answer(&c, "t1.1").await, Some(Ok(())));
    assert_eq!(answer(&c, "t1.2").await, Some(Err(ErrorCode::NotFound)));
    assert_eq!(answer(&b, "t1.1").await, None, "it is not its request");
    // A peer that does not know such answers says so, and the asker waits no longer. The third entry that asks c.
    let mut refusal = frame::begin(4);
    frame::push(&mut refusal, Kind::Refused, 3, &[Kind::FlowAnswer as u8]);
    let refused = async { a.links.arrived(&refusal) };
    let (answered, ()) = tokio::join!(answer(&c, "t1.1"), refused);
    assert_eq!(answered, None);
}

#[tokio::test(start_paused = true)]
async fn a_file_is_found_where_it_is_and_comes_in_pieces() {
    let a = Node::start("a", Trust::default(), None).await;
    let b = Node::start("b", Trust::default(), None).await;
    let c = Node::start("c", Trust::default(), Some(REQUEST.parse().unwrap())).await;
    link(&a, &b, 1);
    link(&a, &c, 2);
    let (owner, piece) = a.links.file("ü.pdf", 0, None).await.unwrap();
    assert_eq!(
        (&owner, piece.bytes.as_slice(), piece.length),
        (&c.name, &b"reports"[..], 7)
    );
    let (_, rest) = a.links.file("ü.pdf", 3, Some(&owner)).await.unwrap();
    assert_eq!(rest.bytes, b"orts");
    assert!(a.links.file("ü.pdf", 0, Some(&b.name)).await.is_none());
    assert!(a.links.file("other.pdf", 0, None).await.is_none());
}

#[tokio::test(start_paused = true)]
async fn signs_of_life_cross_to_all_who_wait_until_the_end() {
    let (a, b) = two().await;
    let c = Node::start("c", Trust::default(), None).await;
    b.agent("worker@b", "a.x").await;
    link(&a, &b, 1);
    link(&c, &b, 2);
    let (first, one) = listen(&a.sees("worker@b").await, task("t1", 1));
    let (asked, answer) = b.tasks(1).await.remove(0);
    answer.signs().give("");
    answer.signs().give("page 1");
    until(|| (*one.lock().unwrap() == ["", "page 1"]).then_some(())).await;
    let (second, two) = listen(&c.sees("worker@b").await, task("t1", 2));
    until(|| (b.links.counts().deduplicated == 1).then_some(())).await;
    let signs = answer.signs().clone();
    signs.give("page 2");
    until(|| (*two.lock().unwrap() == ["page 2"]).then_some(())).await;
    answer.answer(done(&asked, json!(1)));
    assert_eq!(
        first.await.unwrap().outcome,
        TaskOutcome::Done(json!(1).into())
    );
    assert_eq!(
        second.await.unwrap().outcome,
        TaskOutcome::Done(json!(1).into())
    );
    signs.give("after the end");
    // A sign that crosses with the end, and one that no build of today would send.
    let mut late = frame::begin(2);
    frame::push(&mut late, Kind::Sign, 1, b"late");
    frame::push(&mut late, Kind::Sign, 77, &[0xff, 0xfe]);
    a.links.arrived(&late);
    let next = send(&a.sees("worker@b").await, task("t2", 1));
    let (asked, answer) = b.tasks(1).await.remove(0);
    answer.answer(done(&asked, json!(2)));
    next.await.unwrap();
    assert_eq!(*one.lock().unwrap(), ["", "page 1", "page 2"]);
    let counts = a.links.counts();
    assert_eq!((counts.unknown, counts.dropped_late), (0, 0));
}
