//! The agents of this node that other nodes know, and the changes to tell them. Pure.
//!
//! A card travels once for each incarnation of its agent; agents of one kind share one card body.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use amcp_protocol::{AgentCard, AgentId, Capability};
use amcp_registry::{AgentState, Agents};
use serde::{Deserialize, Serialize};

/// Most agents in one announcement: some 32 KiB with their ids, since many agents share few cards.
const BATCH: usize = 512;

/// An agent's card without its id.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct CardBody {
    pub(crate) description: String,
    pub(crate) capabilities: Arc<[Capability]>,
}

/// Agents that joined.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Joined {
    pub(crate) cards: Vec<CardBody>,
    /// Id, incarnation, state, and index in `cards`.
    pub(crate) agents: Vec<(AgentId, u64, AgentState, u32)>,
}

/// Changes among this node's agents.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Change {
    pub(crate) joined: Vec<Joined>,
    pub(crate) fares: Vec<(AgentId, AgentState)>,
    pub(crate) left: Vec<(AgentId, u64)>,
}

#[derive(Debug, Clone)]
struct Known {
    incarnation: u64,
    state: AgentState,
    card: Arc<AgentCard>,
}

/// An agent's state in the words that every version understands.
const fn said(state: AgentState) -> AgentState {
    match state {
        AgentState::Cooling => AgentState::Restarting,
        AgentState::Ready
        | AgentState::Restarting
        | AgentState::Quarantined
        | AgentState::GivenUp
        | AgentState::Draining
        | AgentState::Left => state,
    }
}

/// The agents that other nodes know.
#[derive(Debug, Default)]
pub(crate) struct Roster {
    known: BTreeMap<AgentId, Known>,
    withdrawn: bool,
}

impl Roster {
    /// Takes over the directory's agents of this node; returns the changes to tell peers.
    pub(crate) fn update(&mut self, directory: &Agents) -> Change {
        let mut change = Change::default();
        let mut joined = Vec::new();
        let mut gone = std::mem::take(&mut self.known);
        for entry in directory.entries().filter(|entry| entry.node.is_none()) {
            let before = gone.remove(entry.id());
            let state = said(entry.state);
            if before.as_ref().is_some_and(|b| b.state != state) {
                change.fares.push((entry.id().clone(), state));
            }
            if !entry.is_present() || self.withdrawn {
                if let Some(before) = before {
                    change.left.push((entry.id().clone(), before.incarnation));
                }
                continue;
            }
            let now = Known {
                incarnation: entry.incarnation,
                state,
                card: Arc::clone(&entry.card),
            };
            match before {
                Some(before) if before.incarnation == now.incarnation => {}
                before => {
                    let left = before.map(|b| (entry.id().clone(), b.incarnation));
                    change.left.extend(left);
                    joined.push(now.clone());
                }
            }
            self.known.insert(entry.id().clone(), now);
        }
        let gone = gone.into_iter().map(|(id, known)| (id, known.incarnation));
        change.left.extend(gone);
        change.joined = batches(joined.iter());
        change
    }

    /// All agents, for a peer that knows none.
    pub(crate) fn whole(&self) -> Vec<Joined> {
        batches(self.known.values())
    }

    /// Offers other nodes no agent from the next [`Self::update`] on.
    pub(crate) fn withdraw(&mut self) {
        self.withdrawn = true;
    }
}

fn batches<'a>(agents: impl Iterator<Item = &'a Known>) -> Vec<Joined> {
    let mut batches = Vec::new();
    let mut batch = Joined::default();
    let mut places: HashMap<String, u32> = HashMap::new();
    for known in agents {
        let card = &known.card;
        let place = place_of(card, &mut batch.cards, &mut places);
        let agent = (card.id.clone(), known.incarnation, known.state, place);
        batch.agents.push(agent);
        if batch.agents.len() == BATCH {
            batches.push(std::mem::take(&mut batch));
            places.clear();
        }
    }
    if !batch.agents.is_empty() {
        batches.push(batch);
    }
    batches
}

/// The index of a card's body in `cards`, to which a new body is added. Looks for it by its capabilities' names.
fn place_of(card: &AgentCard, cards: &mut Vec<CardBody>, places: &mut HashMap<String, u32>) -> u32 {
    let names: Vec<_> = card.capabilities.iter().map(|c| c.name.as_str()).collect();
    let name = names.join(" ");
    let same = |place: &&u32| {
        let body = usize::try_from(**place).ok().and_then(|at| cards.get(at));
        body.is_some_and(|body| {
            body.description == card.description && body.capabilities == card.capabilities
        })
    };
    if let Some(place) = places.get(&name).filter(same) {
        return *place;
    }
    let place = u32::try_from(cards.len()).unwrap_or(u32::MAX);
    cards.push(CardBody {
        description: card.description.clone(),
        capabilities: card.capabilities.clone(),
    });
    places.insert(name, place);
    place
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use amcp_protocol::NodeName;
    use amcp_registry::{AgentPort, AnswerPort, Carrier, Registration, TaskKey};

    use super::*;

    #[derive(Debug)]
    struct Nowhere;

    impl Carrier for Nowhere {
        fn execute(
            &self,
            _: &AgentId,
            _: amcp_protocol::TaskRequest,
            answer: AnswerPort,
        ) -> Result<(), amcp_protocol::Failure> {
            answer.discard();
            Ok(())
        }

        fn cancel(&self, _: &AgentId, _: TaskKey) {}

        fn is_open(&self) -> bool {
            true
        }
    }

    fn registration(id: &str, incarnation: u64) -> Registration<AgentPort> {
        let card = AgentCard::new(id, "x", vec![Capability::new("a.x", "Does x.")]);
        let port = AgentPort::Remote(card.id.clone(), Arc::new(Nowhere));
        Registration::new(card, incarnation, port)
    }

    fn id(id: &str) -> AgentId {
        AgentId::new(id).unwrap()
    }

    #[test]
    fn only_what_changed_is_told_and_only_of_this_node() {
        let (mut roster, mut agents) = (Roster::default(), Agents::default());
        let now = Duration::ZERO;
        agents.register(registration("one", 1), now).unwrap();
        agents.register(registration("two", 2), now).unwrap();
        let elsewhere = registration("three", 3).on(NodeName::new("b").unwrap());
        agents.register(elsewhere, now).unwrap();
        let change = roster.update(&agents);
        let joined = &change.joined[0];
        assert_eq!((joined.agents.len(), joined.cards.len()), (2, 1));
        assert_eq!(roster.update(&agents), Change::default());

        // An older build has no state for an agent that cools down.
        agents.cools(&id("one"), 0, now);
        agents.leave(&id("one"), 1, now);
        agents.leave(&id("two"), 2, now);
        agents.register(registration("two", 22), now).unwrap();
        let change = roster.update(&agents);
        assert_eq!(change.fares, [(id("one"), AgentState::Restarting)]);
        assert_eq!(change.left, [(id("one"), 1), (id("two"), 2)]);
        assert_eq!(change.joined[0].agents.len(), 1);
        assert_eq!(roster.whole(), change.joined);

        roster.withdraw();
        assert_eq!(roster.update(&agents).left, [(id("two"), 22)]);
        assert_eq!(roster.whole(), []);
    }

    #[test]
    fn thousands_go_in_batches_that_fit_a_frame() {
        let mut agents = Agents::default();
        for n in 0..1_200 {
            let registration = registration(&format!("agent-{n}@node"), n);
            agents.register(registration, Duration::ZERO).unwrap();
        }
        let joined = Roster::default().update(&agents).joined;
        assert_eq!(joined.len(), 3);
        for batch in joined {
            assert_eq!(batch.cards.len(), 1);
            assert!(crate::wire::encode(&batch).unwrap().len() < super::super::outbox::INLINE);
        }
    }
}
