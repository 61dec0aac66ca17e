use std::sync::atomic::{AtomicU64, Ordering};

use amcp_protocol::{Capability, CapabilityName};

use super::*;

/// An agent that can say who it is.
struct Bare(AgentCard);

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
            AgentMsg::Describe(reply) => reply.send(crate::Wire::new(self.0.clone()))?,
            AgentMsg::Execute(..) => panic!("as the test wants"),
            AgentMsg::Cancel(_) | AgentMsg::Drain => (),
        }
        Ok(())
    }
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

async fn bare(card: &AgentCard) -> ActorRef<AgentMsg> {
    Actor::spawn(None, Bare(card.clone()), ()).await.unwrap().0
}

async fn join(registry: &RegistryHandle, agent: &str, incarnation: u64) -> ActorRef<AgentMsg> {
    let card = card(agent, &["a.x", "a.y"]);
    let actor = bare(&card).await;
    let joins = Registration::new(card, incarnation, actor.get_derived());
    registry.register(joins).await.unwrap();
    actor
}

/// Time is paused: it passes only when nobody can do anything, so that a wait that fails fails at once.
async fn until(registry: &RegistryHandle, condition: impl FnMut(&Agents) -> bool) -> Arc<Agents> {
    tokio::time::timeout(Duration::from_secs(300), registry.wait_for(condition))
        .await
        .expect("the directory comes to fulfil it")
}

fn ready(agents: &Agents, capability: &str) -> usize {
    agents
        .candidates(&CapabilityName::new(capability).unwrap())
        .count()
}

#[tokio::test(start_paused = true)]
async fn an_agent_is_found_from_the_moment_it_registered_until_it_dies() {
    let registry = registry();
    registry.spawn(None).await.unwrap();
    let ends: [fn(&ActorRef<AgentMsg>); 3] = [
        |agent| agent.stop(None),
        |agent| agent.kill(),
        |agent| {
            let task = crate::Wire::unreadable(crate::WireError::Version(9));
            agent
                .send_message(AgentMsg::Execute(task, oneshot::channel().0.into()))
                .unwrap();
        },
    ];
    for (incarnation, end) in (0..).zip(ends) {
        let agent = join(&registry, "one", incarnation).await;
        assert_eq!(ready(&registry.load(), "a.x"), 1);
        end(&agent);
        let left = until(&registry, |agents| ready(agents, "a.x") == 0).await;
        assert_eq!(ready(&left, "a.y"), 0);
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
        "leaving the directory ends nobody"
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
    let agent = bare(&card).await;
    agent.stop_and_wait(None, None).await.unwrap();
    let joins = Registration::new(card, 1, agent.get_derived());
    registry.register(joins).await.unwrap();
    until(&registry, |agents| ready(agents, "a.x") == 0).await;
    let again = join(&registry, "one", 2).await;
    assert_eq!(ready(&registry.load(), "a.x"), 1);
    drop(again);
}

#[tokio::test(start_paused = true)]
async fn a_member_that_never_registered_is_asked_who_it_is() {
    let registry = registry();
    let early = card("early", &["a.x"]);
    let early_actor = bare(&early).await;
    group::join(registry.scope(), &early, &early_actor.get_cell());
    registry.spawn(None).await.unwrap();
    until(&registry, |agents| ready(agents, "a.x") == 1).await;
    let late = card("late", &["a.x"]);
    let late_actor = bare(&late).await;
    group::join(registry.scope(), &late, &late_actor.get_cell());
    until(&registry, |agents| ready(agents, "a.x") == 2).await;
    group::leave(registry.scope(), &late, &late_actor.get_cell());
    let left = until(&registry, |agents| ready(agents, "a.x") == 1).await;
    let who = left
        .candidates(&CapabilityName::new("a.x").unwrap())
        .next()
        .unwrap();
    assert_eq!(who.id().as_str(), "early");
}

#[tokio::test(start_paused = true)]
async fn a_registry_that_was_killed_comes_back_with_all_who_are_alive() {
    let registry = registry();
    let (first, ended) = registry.spawn(None).await.unwrap();
    let one = join(&registry, "one", 1).await;
    let two = join(&registry, "two", 2).await;
    first.kill();
    ended.await.unwrap();
    assert_eq!(
        ready(&registry.load(), "a.x"),
        2,
        "look-ups do not need the actor"
    );
    two.stop_and_wait(None, None).await.unwrap();
    let three = card("three", &["a.x"]);
    let three_actor = bare(&three).await;
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
    let joins = Registration::new(card.clone(), 1, bare(&card).await.get_derived());
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
