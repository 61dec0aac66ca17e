use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering::Relaxed;

use amcp_protocol::{AgentCard, Effect, NodeName};
use proptest::prelude::*;
use proptest_state_machine::{ReferenceStateMachine, StateMachineTest, prop_state_machine};
use serde_json::json;

use super::*;
use crate::agent::{AgentLoad, InFlight};

const NOW: Duration = Duration::ZERO;

fn name(capability: &str) -> CapabilityName {
    CapabilityName::new(capability).unwrap()
}

fn id(agent: &str) -> AgentId {
    AgentId::new(agent).unwrap()
}

fn card(agent: &str, capabilities: &[&str]) -> AgentCard {
    let capabilities = capabilities.iter().map(|c| Capability::new(c, "It does."));
    AgentCard::new(agent, "An agent.", capabilities.collect())
}

#[test]
fn only_orchestrators_plan_whole_requests() {
    let mut directory = Directory::<u64>::default();
    let mut joins = |agent: &str| {
        let card = card(agent, &["orchestrate.mail"]);
        directory.register(Registration::new(card, 1, 1_u64), NOW)
    };
    for agent in [
        "mail-1",
        "orchestrators",
        "mail@orchestrator",
        "x-orchestrator",
    ] {
        let refused = joins(agent);
        assert!(
            matches!(refused, Err(RegisterError::Reserved { .. })),
            "{agent}"
        );
    }
    for agent in ["orchestrator", "orchestrator@b", "orchestrator-2@b"] {
        assert_eq!(joins(agent), Ok(()), "{agent}");
    }
}

fn directory(agents: &[&str]) -> Directory<u64> {
    let mut directory = Directory::default();
    for (port, agent) in (1..).zip(agents) {
        let joins = Registration::new(card(agent, &["a.x"]), port, port);
        directory.register(joins, NOW).unwrap();
    }
    directory
}

#[test]
fn a_refusal_says_what_to_change_and_changes_nothing() {
    let mut directory = directory(&["one"]);
    let register = |directory: &mut Directory<u64>, card| {
        let before = directory.agents();
        let refused = directory.register(Registration::new(card, 9, 9_u64), NOW);
        assert_eq!(directory.agents(), before);
        refused.unwrap_err().to_string()
    };
    assert!(register(&mut directory, card("one", &["a.x"])).contains("another id"));
    assert!(register(&mut directory, card("two", &[])).contains("no capability"));
    let mut unsound = card("two", &["b.y"]);
    Arc::make_mut(&mut unsound.capabilities)[0].result = json!({"type": "strnig"});
    assert!(register(&mut directory, unsound).contains("result schema of 'b.y'"));

    type Change = fn(&mut Capability);
    let clashes: [(Change, &str); 8] = [
        (|c| c.version = "2.0".into(), "version"),
        (
            |c| c.params = json!({"type": "object", "required": ["q"]}),
            "params schema",
        ),
        (|c| c.result = json!({"type": "string"}), "result schema"),
        (|c| c.effect = Effect::Write, "effect"),
        (|c| c.idempotent = false, "idempotency"),
        (
            |c| c.required_roles = vec!["finance".into()],
            "required roles",
        ),
        (
            |c| {
                c.produces = vec![amcp_protocol::Produces {
                    value_type: "rows".into(),
                    path: String::new(),
                }];
            },
            "produced values",
        ),
        (
            |c| {
                c.params = json!({"type": "object", "properties": {"rows": {}}});
                c.consumes = vec![amcp_protocol::Consumes {
                    param: "rows".into(),
                    types: vec!["rows".into()],
                }];
            },
            "params schema",
        ),
    ];
    for (change, named) in clashes {
        let mut other = card("two", &["b.y", "a.x"]);
        change(&mut Arc::make_mut(&mut other.capabilities)[1]);
        let refused = register(&mut directory, other);
        assert!(
            refused.contains("'a.x'") && refused.contains(named),
            "{refused}"
        );
    }
    assert!(directory.contract(&name("b.y")).is_none());
}

#[test]
fn the_last_to_join_says_what_a_capability_is_but_nobody_elsewhere_does_so_of_one_here() {
    let mut directory = Directory::<u64>::default();
    let mut join = |agent: &str, node: Option<&str>, words: &str| {
        let mut wordy = card(agent, &["a.x"]);
        Arc::make_mut(&mut wordy.capabilities)[0].description = words.into();
        let mut registration = Registration::new(wordy, 1, 1_u64);
        registration.node = node.map(|node| node.parse().unwrap());
        directory.register(registration, NOW).unwrap();
        let contract = directory.contract(&name("a.x")).unwrap();
        contract.capability.description.clone()
    };
    assert_eq!(join("one@b", Some("b"), "First."), "First.");
    assert_eq!(join("two@b", Some("b"), "Second."), "Second.");
    assert_eq!(join("three", None, "Ours."), "Ours.");
    assert_eq!(join("four@b", Some("b"), "Theirs."), "Ours.");
    assert_eq!(join("five", None, "Newer."), "Newer.");
}

/// The ports of all agents that can take a task for the capability now.
pub(super) fn ready<P: Copy>(directory: &Directory<P>, capability: &CapabilityName) -> Vec<P> {
    let offer = directory.offers.get(capability).into_iter();
    let ready = offer.flat_map(|offer| offer.ready.here.iter().chain(&offer.ready.elsewhere));
    ready.map(|entry| entry.port).collect()
}

#[test]
fn asking_twice_to_join_is_joining_once() {
    let mut directory = directory(&["one"]);
    let again = Registration::new(card("one", &["a.x"]), 1, 1_u64);
    directory.register(again, NOW).unwrap();
    assert_eq!(ready(&directory, &name("a.x")).len(), 1);
    assert!(
        !directory.leave(&id("one"), 2, NOW),
        "another incarnation's leaving is not this one's"
    );
    assert!(directory.leave(&id("one"), 1, NOW));
    assert!(!directory.leave(&id("one"), 1, NOW));
}

#[test]
fn a_capability_outlives_its_last_agent_for_the_grace_period() {
    let mut directory = directory(&["one"]);
    let known = |directory: &Directory<u64>| directory.contracts().count();
    let left = Duration::from_secs(5);
    directory.leave(&id("one"), 1, left);
    assert!(directory.choose(&name("a.x"), &[], 0).is_none());
    directory.report(&id("one"), AgentState::Restarting, left + GRACE);
    assert!(!directory.forget(left + GRACE));
    assert_eq!(known(&directory), 1);
    assert!(directory.forget(left + GRACE + Duration::from_secs(1)));
    assert_eq!(known(&directory), 0);
    assert!(directory.agents().is_empty());
}

#[test]
fn an_agent_that_comes_back_may_bring_a_new_contract_when_nobody_else_holds_the_old_one() {
    let mut directory = directory(&["one", "two"]);
    let mut newer = card("one", &["a.x"]);
    Arc::make_mut(&mut newer.capabilities)[0].version = "2.0".into();
    let newer = Registration::new(newer, 7, 7_u64);
    directory.leave(&id("one"), 1, NOW);
    assert!(directory.register(newer.clone(), NOW).is_err());
    directory.leave(&id("two"), 2, NOW);
    directory.register(newer, NOW).unwrap();
    let contract = directory.contract(&name("a.x")).unwrap();
    assert_eq!(contract.capability.version, "2.0");
}

#[test]
fn what_a_supervisor_says_stays_when_the_agent_goes() {
    let mut directory = directory(&["one"]);
    let state = |directory: &Directory<u64>| directory.agents()[0].state;
    assert!(directory.report(&id("one"), AgentState::Restarting, NOW));
    assert!(
        !directory.report(&id("one"), AgentState::Restarting, NOW),
        "no news"
    );
    directory.leave(&id("one"), 1, NOW);
    assert_eq!(state(&directory), AgentState::Restarting);
    assert!(
        !directory.report(&id("one"), AgentState::Ready, NOW),
        "the agent is not there"
    );
    directory.report(&id("one"), AgentState::GivenUp, NOW);
    directory.forget(GRACE * 10);
    assert_eq!(state(&directory), AgentState::GivenUp);
    directory
        .register(Registration::new(card("one", &["a.x"]), 3, 3_u64), NOW)
        .unwrap();
    assert_eq!(state(&directory), AgentState::Ready);
}

#[test]
fn an_agent_that_never_came_up_is_listed_all_the_same() {
    let mut directory = directory(&[]);
    assert!(directory.report(&id("broken"), AgentState::GivenUp, NOW));
    let agents = directory.agents();
    assert_eq!(agents[0].state, AgentState::GivenUp);
    let json = serde_json::to_value(&agents[0]).unwrap();
    assert_eq!(json["state"], "given_up");
    directory
        .register(Registration::new(card("broken", &["a.x"]), 1, 1_u64), NOW)
        .unwrap();
    assert_eq!(directory.agents().len(), 1);
}

#[test]
fn an_agent_that_cools_down_takes_nothing_and_is_listed_with_its_time() {
    let mut directory = directory(&["one"]);
    for agent in ["one", "broken"] {
        directory.cools(&id(agent), 1_000, NOW);
    }
    directory.leave(&id("one"), 1, NOW);
    assert!(directory.choose(&name("a.x"), &[], 0).is_none());
    directory.forget(GRACE * 10);
    for status in directory.agents() {
        let json = serde_json::to_value(&status).unwrap();
        assert_eq!(
            (&json["state"], &json["again_at_unix_ms"]),
            (&"cooling".into(), &1_000.into()),
            "{}",
            status.agent
        );
    }
    directory.report(&id("broken"), AgentState::Left, NOW);
    let again = Registration::new(card("one", &["a.x"]), 2, 2_u64);
    directory.register(again, NOW).unwrap();
    let times = directory.agents().into_iter().map(|a| a.again_at_unix_ms);
    assert_eq!(times.collect::<Vec<_>>(), [None, None]);
}

#[test]
fn work_goes_to_the_less_loaded_of_two() {
    let directory = directory(&["one", "two", "three"]);
    let guards: Vec<InFlight> = directory
        .entries()
        .zip([5, 0, 0])
        .flat_map(|(entry, load)| (0..load).map(|_| entry.begin()))
        .collect();
    let chosen = |random| {
        directory
            .choose(&name("a.x"), &[], random)
            .unwrap()
            .id()
            .clone()
    };
    let counts = (0..3_000_u64).fold(BTreeMap::new(), |mut counts: BTreeMap<_, u32>, i| {
        *counts
            .entry(chosen(i.wrapping_mul(0x9e37_79b9_7f4a_7c15)))
            .or_default() += 1;
        counts
    });
    assert!(!counts.contains_key(&id("one")), "{counts:?}");
    assert!(
        counts.values().all(|&n| n > 1_200),
        "the idle ones share: {counts:?}"
    );
    drop(guards);
    assert!(directory.agents().iter().all(|agent| agent.in_flight == 0));
}

#[test]
fn an_agent_to_avoid_is_chosen_only_when_it_is_the_last() {
    let directory = directory(&["one", "two"]);
    for random in 0..100 {
        let random = random << 58 | random;
        let choice = directory
            .choose(&name("a.x"), &[id("one")], random)
            .unwrap();
        assert_eq!(choice.id(), &id("two"));
        let last = directory.choose(&name("a.x"), &[id("one"), id("two")], random);
        assert!(last.is_some());
    }
}

#[test]
fn an_agent_of_this_node_is_preferred_until_one_elsewhere_has_less_to_do() {
    let mut directory = directory(&["here-1", "here-2"]);
    for (port, agent) in [(11, "there-1"), (12, "there-2")] {
        let joins = Registration::new(card(agent, &["a.x"]), port, port);
        let node = NodeName::new("b").unwrap();
        directory.register(joins.on(node), NOW).unwrap();
    }
    let chosen = |directory: &Directory<u64>| -> BTreeSet<String> {
        let all = (0..200_u64).map(|i| i.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let chosen = all.filter_map(|random| directory.choose(&name("a.x"), &[], random));
        chosen.map(|entry| entry.id().to_string()).collect()
    };
    let set = |ids: &[&str]| ids.iter().map(ToString::to_string).collect::<BTreeSet<_>>();
    assert_eq!(chosen(&directory), set(&["here-1", "here-2"]));

    let agent = |id_: &str| Arc::clone(directory.agent(&id(id_)).unwrap());
    let busy = [agent("here-1"), agent("here-2")].map(|entry| entry.begin());
    assert_eq!(chosen(&directory), set(&["there-1", "there-2"]));
    let _even = [agent("there-1"), agent("there-2")].map(|entry| entry.begin());
    assert_eq!(chosen(&directory), set(&["here-1", "here-2"]));

    let _busier = agent("here-1").begin();
    let all_here = [id("here-1"), id("here-2")];
    let elsewhere = directory.choose(&name("a.x"), &all_here, 7).unwrap();
    assert!(
        elsewhere.node.is_some(),
        "an agent that failed is avoided here too"
    );
    drop(busy);
}

/// The directory's definition, without any index.
#[derive(Debug, Clone, Default)]
struct Model {
    now: u64,
    agents: BTreeMap<u8, ModelAgent>,
    unseen: BTreeMap<u8, AgentState>,
    /// Version, and the time since which no present agent offers it.
    known: BTreeMap<u8, (u8, Option<u64>)>,
}

#[derive(Debug, Clone)]
struct ModelAgent {
    capabilities: BTreeSet<u8>,
    incarnation: u64,
    state: AgentState,
    gone_at: Option<u64>,
}

#[derive(Debug, Clone)]
enum Step {
    Register(u8, BTreeSet<u8>, u8, u64),
    Leave(u8, u64),
    Report(u8, AgentState),
    Wait(u64),
    Choose(u8, BTreeSet<u8>, u64),
    Answer(usize),
}

impl Model {
    fn offerers(&self, capability: u8) -> impl Iterator<Item = (&u8, &ModelAgent)> {
        self.agents.iter().filter(move |(_, agent)| {
            agent.gone_at.is_none() && agent.capabilities.contains(&capability)
        })
    }

    fn ready(&self, capability: u8) -> BTreeSet<u8> {
        let ready = |agent: &ModelAgent| agent.state == AgentState::Ready;
        self.offerers(capability)
            .filter(|(_, a)| ready(a))
            .map(|(&id, _)| id)
            .collect()
    }

    fn accepts(&self, agent: u8, capabilities: &BTreeSet<u8>, version: u8) -> bool {
        self.agents
            .get(&agent)
            .is_none_or(|agent| agent.gone_at.is_some())
            && capabilities
                .iter()
                .all(|&c| self.offerers(c).next().is_none() || self.known[&c].0 == version)
    }

    fn settle(&mut self) {
        for capability in self.known.keys().copied().collect::<Vec<_>>() {
            let vacant = self.offerers(capability).next().is_none();
            let since = &mut self.known.get_mut(&capability).unwrap().1;
            *since = if vacant {
                since.or(Some(self.now))
            } else {
                None
            };
        }
    }
}

impl ReferenceStateMachine for Model {
    type State = Self;
    type Transition = Step;

    fn init_state() -> BoxedStrategy<Self> {
        Just(Self::default()).boxed()
    }

    fn transitions(_: &Self) -> BoxedStrategy<Step> {
        let some = || prop::collection::btree_set(0..3_u8, 1..3);
        let states = [
            AgentState::Ready,
            AgentState::Restarting,
            AgentState::Quarantined,
            AgentState::GivenUp,
            AgentState::Draining,
            AgentState::Left,
            AgentState::Cooling,
        ];
        prop_oneof![
            4 => (0..4_u8, some(), 0..2_u8, 0..4_u64).prop_map(|(a, c, v, i)| Step::Register(a, c, v, i)),
            2 => (0..4_u8, 0..4_u64).prop_map(|(a, i)| Step::Leave(a, i)),
            2 => (0..5_u8, prop::sample::select(states.to_vec())).prop_map(|(a, s)| Step::Report(a, s)),
            1 => (0..90_u64).prop_map(Step::Wait),
            4 => (0..3_u8, prop::collection::btree_set(0..4_u8, 0..3), any::<u64>())
                .prop_map(|(c, avoid, random)| Step::Choose(c, avoid, random)),
            1 => any::<usize>().prop_map(Step::Answer),
        ]
        .boxed()
    }

    fn apply(mut model: Self, step: &Step) -> Self {
        match step {
            Step::Register(agent, capabilities, version, incarnation) => {
                if model.accepts(*agent, capabilities, *version) {
                    for &c in capabilities {
                        if model.offerers(c).next().is_none() {
                            model.known.insert(c, (*version, None));
                        }
                    }
                    model.unseen.remove(agent);
                    let joined = ModelAgent {
                        capabilities: capabilities.clone(),
                        incarnation: *incarnation,
                        state: AgentState::Ready,
                        gone_at: None,
                    };
                    model.agents.insert(*agent, joined);
                }
            }
            Step::Leave(agent, incarnation) => {
                if let Some(agent) = model.agents.get_mut(agent)
                    && agent.gone_at.is_none()
                    && agent.incarnation == *incarnation
                {
                    agent.gone_at = Some(model.now);
                    if matches!(agent.state, AgentState::Ready | AgentState::Quarantined) {
                        agent.state = AgentState::Left;
                    }
                }
            }
            Step::Report(agent, state) => match model.agents.get_mut(agent) {
                Some(agent) if *state == AgentState::Ready && agent.gone_at.is_some() => (),
                Some(agent) => agent.state = *state,
                None if *state == AgentState::Ready => (),
                None => drop(model.unseen.insert(*agent, *state)),
            },
            Step::Wait(seconds) => {
                model.now += seconds;
                let now = model.now;
                let old = |t: Option<u64>| t.is_some_and(|t| now - t > GRACE.as_secs());
                model.agents.retain(|_, a| {
                    !old(a.gone_at) || matches!(a.state, AgentState::GivenUp | AgentState::Cooling)
                });
                model.known.retain(|_, (_, vacant)| !old(*vacant));
            }
            Step::Choose(..) | Step::Answer(_) => (),
        }
        model.settle();
        model
    }
}

struct Sut {
    directory: Directory<u8>,
    loads: [Arc<AgentLoad>; 4],
    in_flight: Vec<InFlight>,
    now: Duration,
}

fn agent_id(agent: u8) -> AgentId {
    id(&format!("agent-{agent}"))
}

fn capability_name(capability: u8) -> CapabilityName {
    name(&format!("cap.c{capability}"))
}

impl Sut {
    fn choose(&mut self, capability: u8, avoid: &BTreeSet<u8>, random: u64, model: &Model) {
        let ready = model.ready(capability);
        let avoided: Vec<_> = avoid.iter().map(|&a| agent_id(a)).collect();
        let Some(choice) = self
            .directory
            .choose(&capability_name(capability), &avoided, random)
        else {
            assert!(ready.is_empty(), "no agent was chosen of {ready:?}");
            return;
        };
        let port = choice.port;
        let others: BTreeSet<_> = ready.difference(avoid).copied().collect();
        let eligible = if others.is_empty() { &ready } else { &others };
        assert!(
            eligible.contains(&port),
            "{port} was chosen of {eligible:?}"
        );
        let load = |agent: u8| self.loads[usize::from(agent)].in_flight.load(Relaxed);
        let heaviest = eligible.iter().all(|&a| a == port || load(a) < load(port));
        assert!(
            eligible.len() < 2 || !heaviest,
            "the one with most to do was chosen"
        );
        self.in_flight.push(choice.begin());
    }
}

impl StateMachineTest for Sut {
    type SystemUnderTest = Self;
    type Reference = Model;

    fn init_test(_: &Model) -> Self {
        Self {
            directory: Directory::default(),
            loads: std::array::from_fn(|_| Arc::default()),
            in_flight: Vec::new(),
            now: NOW,
        }
    }

    fn apply(mut sut: Self, model: &Model, step: Step) -> Self {
        match step {
            Step::Register(agent, capabilities, version, incarnation) => {
                let capabilities = capabilities.iter().map(|&c| Capability {
                    version: version.to_string(),
                    ..Capability::new(capability_name(c).as_str(), "It does.")
                });
                let card = AgentCard::new(
                    agent_id(agent).as_str(),
                    "An agent.",
                    capabilities.collect(),
                );
                let load = Arc::clone(&sut.loads[usize::from(agent)]);
                let joins = Registration {
                    load,
                    ..Registration::new(card, incarnation, agent)
                };
                let joined = sut.directory.register(joins, sut.now).is_ok();
                let there = model.agents.get(&agent);
                let there =
                    there.is_some_and(|a| a.gone_at.is_none() && a.incarnation == incarnation);
                assert_eq!(
                    joined, there,
                    "joining succeeds exactly when this incarnation is there then"
                );
            }
            Step::Leave(agent, incarnation) => {
                sut.directory.leave(&agent_id(agent), incarnation, sut.now);
            }
            Step::Report(agent, state) => {
                sut.directory.report(&agent_id(agent), state, sut.now);
            }
            Step::Wait(_) => {
                sut.now = Duration::from_secs(model.now);
                sut.directory.forget(sut.now);
            }
            Step::Choose(capability, avoid, random) => {
                sut.choose(capability, &avoid, random, model)
            }
            Step::Answer(which) => {
                if !sut.in_flight.is_empty() {
                    sut.in_flight.swap_remove(which % sut.in_flight.len());
                }
            }
        }
        sut
    }

    fn check_invariants(sut: &Self, model: &Model) {
        let known = sut
            .directory
            .contracts()
            .map(|c| (c.capability.name.clone(), c.capability.version.clone()));
        let modelled = model
            .known
            .iter()
            .map(|(&c, (v, _))| (capability_name(c), v.to_string()));
        assert_eq!(known.collect::<Vec<_>>(), modelled.collect::<Vec<_>>());

        let listed = sut.directory.agents();
        let listed = listed
            .iter()
            .map(|status| (status.agent.clone(), status.state));
        let seen = model
            .agents
            .iter()
            .map(|(&id, agent)| (agent_id(id), agent.state));
        let unseen = model
            .unseen
            .iter()
            .map(|(&id, &state)| (agent_id(id), state));
        assert_eq!(
            listed.collect::<BTreeMap<_, _>>(),
            seen.chain(unseen).collect()
        );

        for capability in 0..3 {
            let ready = ready(&sut.directory, &capability_name(capability));
            assert_eq!(
                ready.len(),
                model.ready(capability).len(),
                "each ready agent once"
            );
            assert_eq!(
                ready.into_iter().collect::<BTreeSet<_>>(),
                model.ready(capability)
            );
        }
        let in_flight: u32 = sut
            .loads
            .iter()
            .map(|load| load.in_flight.load(Relaxed))
            .sum();
        assert_eq!(in_flight as usize, sut.in_flight.len());
    }
}

prop_state_machine! {
    #[test]
    fn invariant_the_directory_is_its_definition(sequential 1..60 => Sut);
}
