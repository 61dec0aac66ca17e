use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use amcp_protocol::task::WIRE_VERSION;
use amcp_protocol::{
    Capability, CapabilityName, Failure, NodeName, RequestId, TaskId, TaskRequest,
};

use super::*;
use crate::mailbox::{AgentMsg, AnswerPort, Carrier, TaskKey};

/// An agent that panics at its first task.
struct Bare;

impl Actor for Bare {
    type Msg = AgentMsg;
    type State = ();
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<AgentMsg>, (): ()) -> Result<(), ActorProcessingErr> {
        Ok(())
    }

    async fn handle(
        &self,
        _: ActorRef<AgentMsg>,
        message: AgentMsg,
        (): &mut (),
    ) -> Result<(), ActorProcessingErr> {
        match message {
            AgentMsg::Execute(..) => panic!("as the test wants"),
            AgentMsg::Cancel(_) | AgentMsg::Drain => (),
        }
        Ok(())
    }
}

fn id(agent: &str) -> AgentId {
    AgentId::new(agent).unwrap()
}

fn registry() -> RegistryHandle {
    static SCOPES: AtomicU64 = AtomicU64::new(0);
    let scope = SCOPES.fetch_add(1, Ordering::Relaxed);
    RegistryHandle::new(format!("registry-test-{scope}"), EventBus::new())
}

fn card(agent: &str, capabilities: &[&str]) -> AgentCard {
    let capabilities = capabilities.iter().map(|c| Capability::new(c, "It does."));
    AgentCard::new(agent, "An agent.", capabilities.collect())
}

async fn bare() -> ActorRef<AgentMsg> {
    Actor::spawn(None, Bare, ()).await.unwrap().0
}

async fn join(registry: &RegistryHandle, agent: &str, incarnation: u64) -> ActorRef<AgentMsg> {
    let card = card(agent, &["a.x", "a.y"]);
    let actor = bare().await;
    let joins = Registration::new(card, incarnation, actor.get_derived());
    registry.register(joins).await.unwrap();
    actor
}

fn task() -> TaskRequest {
    TaskRequest {
        version: WIRE_VERSION,
        request_id: "123e4567-e89b-12d3-a456-426614174999"
            .parse::<RequestId>()
            .unwrap(),
        task_id: TaskId::new("t1").unwrap(),
        attempt: 1,
        deadline_ms: 1_000,
        traceparent: None,
        grant: Arc::default(),
        lineage: Arc::default(),
        capability: CapabilityName::new("a.x").unwrap(),
        flows: Vec::new(),
        params: json!({}).into(),
    }
}

/// Time is paused and passes only while all tasks wait, so that a wait in vain ends at once.
async fn until(registry: &RegistryHandle, condition: impl FnMut(&Agents) -> bool) -> Arc<Agents> {
    tokio::time::timeout(Duration::from_secs(300), registry.wait_for(condition))
        .await
        .expect("the directory comes to fulfil it")
}

fn ready(agents: &Agents, capability: &str) -> bool {
    let name = CapabilityName::new(capability).unwrap();
    agents.choose(&name, &[], 0).is_some()
}

#[tokio::test(start_paused = true)]
async fn an_agent_is_found_from_the_moment_it_registered_until_it_dies() {
    let registry = registry();
    registry.spawn(None).await.unwrap();
    let ends: [fn(&ActorRef<AgentMsg>); 3] = [
        |agent| agent.stop(None),
        |agent| agent.kill(),
        |agent| {
            let (answer, _) = AnswerPort::channel();
            agent
                .send_message(AgentMsg::Execute(task(), answer))
                .unwrap();
        },
    ];
    for (incarnation, end) in (0..).zip(ends) {
        let agent = join(&registry, "one", incarnation).await;
        assert!(ready(&registry.load(), "a.x"));
        end(&agent);
        let left = until(&registry, |agents| !ready(agents, "a.x")).await;
        assert!(!ready(&left, "a.y"));
        assert_eq!(left.agents()[0].state, AgentState::Left);
        assert_eq!(
            left.contracts().count(),
            2,
            "a plan made now must still compile"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn joining_and_leaving_are_events() {
    let registry = registry();
    let mut events = registry.0.bus.subscribe("agent.*".parse().unwrap(), 8);
    registry.spawn(None).await.unwrap();
    let agent = join(&registry, "one", 7).await;
    assert!(registry.deregister(&AgentId::new("one").unwrap()).await);
    assert!(!registry.deregister(&AgentId::new("one").unwrap()).await);
    assert_eq!(
        agent.get_status(),
        ActorStatus::Running,
        "leaving the directory ends no agent"
    );
    for event_type in [AGENT_REGISTER, AGENT_DEREGISTER] {
        let event = events.recv().await.unwrap();
        assert_eq!(event.event_type, event_type);
        let data = event.data.as_ref().unwrap();
        assert_eq!(data["agent"], "one");
        assert_eq!(data["capabilities"], json!(["a.x", "a.y"]));
        assert!(CloudEvent::from_json(&serde_json::to_vec(&*event).unwrap()).is_ok());
    }
}

#[tokio::test(start_paused = true)]
async fn a_refusal_reaches_who_asked() {
    let registry = registry();
    registry.spawn(None).await.unwrap();
    let agent = join(&registry, "one", 1).await;
    let twice = Registration::new(card("one", &["a.x"]), 2, agent.get_derived());
    let refused = registry.register(twice).await.unwrap_err();
    assert!(matches!(refused, RegisterError::AlreadyRegistered(_)));
}

#[tokio::test(start_paused = true)]
async fn an_agent_that_is_dead_already_does_not_stay() {
    let registry = registry();
    registry.spawn(None).await.unwrap();
    let card = card("one", &["a.x"]);
    let agent = bare().await;
    agent.stop_and_wait(None, None).await.unwrap();
    let joins = Registration::new(card, 1, agent.get_derived());
    registry.register(joins).await.unwrap();
    until(&registry, |agents| !ready(agents, "a.x")).await;
    let again = join(&registry, "one", 2).await;
    assert!(ready(&registry.load(), "a.x"));
    drop(again);
}

#[tokio::test(start_paused = true)]
async fn a_registry_that_was_killed_comes_back_with_all_who_are_alive() {
    let registry = registry();
    let (first, ended) = registry.spawn(None).await.unwrap();
    let one = join(&registry, "one", 1).await;
    let two = join(&registry, "two", 2).await;
    first.kill();
    ended.await.unwrap();
    assert!(
        ready(&registry.load(), "a.x"),
        "look-ups do not need the actor"
    );
    two.stop_and_wait(None, None).await.unwrap();
    let three = card("three", &["a.x"]);
    let three_actor = bare().await;
    let waits = tokio::spawn({
        let joins = Registration::new(three, 3, three_actor.get_derived());
        let registry = registry.clone();
        async move { registry.register(joins).await }
    });
    tokio::task::yield_now().await;

    registry.spawn(None).await.unwrap();
    waits.await.unwrap().unwrap();
    let alive = |agents: &Agents| -> Vec<String> {
        let there = agents.entries().filter(|entry| entry.is_present());
        there.map(|entry| entry.id().to_string()).collect()
    };
    assert_eq!(alive(&registry.directory()), ["one", "three"]);
    one.kill();
    until(&registry, |agents| alive(agents) == ["three"]).await;
}

#[tokio::test(start_paused = true)]
async fn without_a_registry_an_agent_waits_and_is_told() {
    let registry = registry();
    let card = card("one", &["a.x"]);
    let joins = Registration::new(card.clone(), 1, bare().await.get_derived());
    assert_eq!(
        registry.register(joins).await,
        Err(RegisterError::Unavailable)
    );
}

#[tokio::test(start_paused = true)]
async fn who_is_gone_for_long_is_forgotten() {
    let registry = registry();
    registry.spawn(None).await.unwrap();
    let agent = join(&registry, "one", 1).await;
    agent.kill();
    let forgotten = until(&registry, |agents| agents.agents().is_empty()).await;
    assert_eq!(forgotten.contracts().count(), 0);
    let waited = registry.now();
    assert!(
        waited > crate::directory::GRACE && waited <= crate::directory::GRACE + 2 * FORGET_EVERY
    );
}

/// A link to another node.
#[derive(Debug)]
struct StubCarrier(AtomicBool);

impl Carrier for StubCarrier {
    fn execute(&self, _: &AgentId, _: TaskRequest, answer: AnswerPort) -> Result<(), Failure> {
        drop(answer);
        Ok(())
    }

    fn cancel(&self, _: &AgentId, _: TaskKey) {}

    fn is_open(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

fn link() -> Arc<StubCarrier> {
    Arc::new(StubCarrier(AtomicBool::new(true)))
}

fn node(name: &str) -> NodeName {
    NodeName::new(name).unwrap()
}

fn joins(name: &str, joined: Vec<Registration<AgentPort>>) -> RosterChange {
    let ready = joined.into_iter().map(|joins| (joins, AgentState::Ready));
    RosterChange {
        joined: ready.collect(),
        ..RosterChange::of(node(name))
    }
}

fn remote(agent: &str, link: &Arc<StubCarrier>) -> Registration<AgentPort> {
    let card = card(agent, &["a.x"]);
    let port = AgentPort::Remote(card.id.clone(), Arc::clone(link) as Arc<dyn Carrier>);
    Registration::new(card, 1, port)
}

/// Sends a change, and waits until the directory shows it: the registry works on messages in order.
async fn roster(registry: &RegistryHandle, change: RosterChange) {
    registry.tell_roster(change);
    registry.deregister(&id("nobody")).await;
}

fn listed(registry: &RegistryHandle) -> Vec<(String, AgentState)> {
    let agents = registry.load().agents().into_iter();
    agents.map(|a| (a.agent.to_string(), a.state)).collect()
}

#[tokio::test(start_paused = true)]
async fn a_roster_shows_who_joined_fares_and_left() {
    let registry = registry();
    registry.spawn(None).await.unwrap();
    let _here = join(&registry, "here", 1).await;
    let (b, c) = (link(), link());
    let taken = remote("here", &b);
    let joined = vec![remote("b-1", &b), taken, remote("b-2", &b)];
    roster(&registry, joins("b", joined)).await;
    roster(&registry, joins("c", vec![remote("c-1", &c)])).await;
    let ready_ones = |names: &[&str]| -> Vec<_> {
        names
            .iter()
            .map(|n| ((*n).to_owned(), AgentState::Ready))
            .collect()
    };
    assert_eq!(
        listed(&registry),
        ready_ones(&["b-1", "b-2", "c-1", "here"]),
        "an id in use costs the others nothing"
    );
    assert_eq!(registry.load().agent(&id("here")).unwrap().node, None);

    let changes = RosterChange {
        fares: vec![
            (id("b-1"), AgentState::Draining),
            (id("here"), AgentState::Draining),
            (id("nobody"), AgentState::Draining),
        ],
        left: vec![(id("b-2"), 7), (id("c-1"), 1), (id("here"), 1)],
        ..RosterChange::of(node("b"))
    };
    roster(&registry, changes).await;
    assert_eq!(
        listed(&registry).len(),
        4,
        "a report does not list an unknown agent"
    );
    let state = |agent: &str| registry.load().agent(&id(agent)).unwrap().state;
    assert_eq!(
        ["b-1", "b-2", "c-1", "here"].map(state),
        [
            AgentState::Draining,
            AgentState::Ready,
            AgentState::Ready,
            AgentState::Ready
        ],
        "what another incarnation did is not this one's, and a node speaks for its own agents"
    );

    // A node that comes back sends its loss and its new agents in one change.
    let back = RosterChange {
        joined: vec![(remote("b-2", &b), AgentState::Ready)],
        lost: true,
        ..RosterChange::of(node("b"))
    };
    roster(&registry, back).await;
    let there: Vec<_> = registry
        .load()
        .entries()
        .filter(|entry| entry.is_present() && entry.state == AgentState::Ready)
        .map(|entry| entry.id().to_string())
        .collect();
    assert_eq!(there, ["b-2", "c-1", "here"]);
}

#[tokio::test(start_paused = true)]
async fn what_is_said_over_a_closed_link_is_too_late() {
    let registry = registry();
    registry.spawn(None).await.unwrap();
    let link = link();
    link.0.store(false, Ordering::Relaxed);
    roster(&registry, joins("b", vec![remote("b-1", &link)])).await;
    assert_eq!(listed(&registry), []);
}

#[tokio::test(start_paused = true)]
async fn an_agent_of_this_node_takes_the_place_of_another_nodes_while_it_is_there() {
    let registry = registry();
    let mut events = registry.0.bus.subscribe("agent.*".parse().unwrap(), 8);
    registry.spawn(None).await.unwrap();
    roster(&registry, joins("b", vec![remote("one", &link())])).await;
    let mine = join(&registry, "one", 7).await;
    mine.kill();
    until(&registry, |agents| {
        agents
            .agent(&id("one"))
            .is_some_and(|e| e.is_present() && e.node.is_some())
    })
    .await;
    let mut said = Vec::new();
    for _ in 0..5 {
        let event = events.recv().await.unwrap();
        said.push((
            event.event_type.clone(),
            event.data.as_ref().unwrap()["incarnation"].clone(),
        ));
    }
    let expected = [
        (AGENT_REGISTER, 1),
        (AGENT_DEREGISTER, 1),
        (AGENT_REGISTER, 7),
        (AGENT_DEREGISTER, 7),
        (AGENT_REGISTER, 1),
    ];
    let expected = expected.map(|(event, incarnation)| (event.to_owned(), json!(incarnation)));
    assert_eq!(said, expected);
}

#[tokio::test(start_paused = true)]
async fn a_full_account_over_a_new_link_brings_new_ports_without_a_word() {
    let registry = registry();
    registry.spawn(None).await.unwrap();
    let (old, new) = (link(), link());
    roster(&registry, joins("b", vec![remote("b-1", &old)])).await;
    let mut events = registry.0.bus.subscribe("agent.*".parse().unwrap(), 8);
    old.0.store(false, Ordering::Relaxed);
    let whole = RosterChange {
        begin_whole: true,
        end_whole: true,
        ..joins("b", vec![remote("b-1", &new)])
    };
    roster(&registry, whole).await;
    assert!(registry.load().agent(&id("b-1")).unwrap().port.is_open());
    let _mine = join(&registry, "mine", 1).await;
    let first = events.recv().await.unwrap();
    let about = &first.data.as_ref().unwrap()["agent"];
    assert_eq!(about, "mine", "no agent came or went before");
}

#[tokio::test(start_paused = true)]
async fn a_restarted_registry_drops_whom_no_link_reaches() {
    let registry = registry();
    let (first, ended) = registry.spawn(None).await.unwrap();
    let (b, c) = (link(), link());
    roster(&registry, joins("b", vec![remote("b-1", &b)])).await;
    roster(&registry, joins("c", vec![remote("c-1", &c)])).await;
    first.kill();
    ended.await.unwrap();
    b.0.store(false, Ordering::Relaxed);
    registry.spawn(None).await.unwrap();
    let expected = [("b-1", AgentState::Left), ("c-1", AgentState::Ready)];
    assert_eq!(
        listed(&registry),
        expected.map(|(agent, state)| (agent.to_owned(), state))
    );
}

#[tokio::test(start_paused = true)]
async fn who_joins_together_is_shown_together_and_before_it_is_told() {
    const AGENTS: usize = 100;
    let registry = registry();
    registry.spawn(None).await.unwrap();
    let published = tokio::spawn({
        let mut changes = registry.changes();
        let registry = registry.clone();
        async move {
            let mut times = 0;
            while registry.load().entries().count() < AGENTS {
                changes.changed().await.unwrap();
                times += 1;
            }
            times
        }
    });
    tokio::task::yield_now().await;
    let joins = (0..AGENTS).map(|n| {
        let registry = registry.clone();
        async move {
            let card = card(&format!("agent-{n}"), &["a.x"]);
            let (agent, actor) = (card.id.clone(), bare().await);
            let joins = Registration::new(card, 1, actor.get_derived());
            registry.register(joins).await.unwrap();
            assert!(registry.load().agent(&agent).is_some());
        }
    });
    let mut all: tokio::task::JoinSet<()> = joins.collect();
    while let Some(joined) = all.join_next().await {
        joined.unwrap();
    }
    let times = published.await.unwrap();
    assert!(times < AGENTS / 2, "published {times} times");
}
