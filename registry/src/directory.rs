//! The [`Directory`] knows the agents, their capabilities and states, and chooses the agent for the next task.
//!
//! Pure: it sends nothing and reads no clock. The caller chooses the type of an agent's port and the origin of times, and
//! passes randomness in.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use amcp_protocol::capability::DELEGATES;
use amcp_protocol::{AgentId, Capability, CapabilityName, CardError, Contract, NodeName};

use crate::agent::{AgentState, AgentStatus, Entry, Registration};

mod choice;
mod remote;

use choice::Ready;

/// How long a capability stays known after its last agent left: twice the longest backoff of a restart, so that plans still
/// compile meanwhile.
pub const GRACE: Duration = Duration::from_secs(60);

/// Most agents that are known by reports only: far more than a node has.
const MAX_UNSEEN: usize = 1_024;

/// Why an agent may not join.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RegisterError {
    /// The card breaks a rule.
    #[error("the card of '{agent}' is refused: {source}")]
    Card {
        /// The agent with the card.
        agent: AgentId,
        /// The broken rule.
        source: CardError,
    },
    /// Another agent has the id already.
    #[error("another agent '{0}' is registered already; give this agent another id")]
    AlreadyRegistered(AgentId),
    /// Other agents offer the capability under another contract.
    #[error(
        "'{agent}' offers '{capability}' with another {differs} than the agents that already offer it; \
         give the capability another name, or stop those agents first"
    )]
    NameClash {
        /// The agent that wants to join.
        agent: AgentId,
        /// The capability that clashes.
        capability: CapabilityName,
        /// The part of the contract that differs.
        differs: &'static str,
    },
    /// Only an orchestrator may offer to plan whole requests: no rule about effects judges such a capability.
    #[error(
        "'{agent}' is no orchestrator and cannot offer '{capability}'; give the capability another name"
    )]
    Reserved {
        /// The agent that wants to join.
        agent: AgentId,
        /// The capability with the reserved name.
        capability: CapabilityName,
    },
    /// No registry answers; only from [`crate::RegistryHandle`].
    #[error("the registry does not answer")]
    Unavailable,
}

/// One capability and the agents that offer it.
#[derive(Debug, Clone)]
struct Offer<P> {
    contract: Arc<Contract>,
    /// Agents that offer the capability and have not left.
    present: usize,
    ready: Ready<P>,
    vacant_since: Option<Duration>,
}

/// The agents and their capabilities. Clones share all entries.
#[derive(Debug, Clone)]
pub struct Directory<P> {
    agents: BTreeMap<AgentId, Arc<Entry<P>>>,
    offers: BTreeMap<CapabilityName, Arc<Offer<P>>>,
    /// Agents of this node with a report that have never registered.
    unseen: BTreeMap<AgentId, AgentState>,
    /// When agents of this node that cool down start again, in milliseconds since 1970: for `amcp agents`.
    cooling: BTreeMap<AgentId, i64>,
    /// Agents of other nodes whose id or contract clashes with an agent's, until there is room for them.
    refused: BTreeMap<NodeName, BTreeMap<AgentId, Arc<Entry<P>>>>,
    /// Agents that a node has not named yet in its full account.
    unnamed: BTreeMap<NodeName, BTreeSet<AgentId>>,
    /// Whether there may be room for a refused agent.
    room: bool,
    /// Changes that the next [`Self::settle`] returns.
    changes: Vec<Change<P>>,
}

/// An agent joined or left.
#[derive(Debug, Clone)]
pub enum Change<P> {
    /// It is there from now on, with this entry.
    Joined(Arc<Entry<P>>),
    /// It has left; its last entry.
    Left(Arc<Entry<P>>),
}

impl<P> Default for Directory<P> {
    fn default() -> Self {
        Self {
            agents: BTreeMap::new(),
            offers: BTreeMap::new(),
            unseen: BTreeMap::new(),
            cooling: BTreeMap::new(),
            refused: BTreeMap::new(),
            unnamed: BTreeMap::new(),
            room: false,
            changes: Vec::new(),
        }
    }
}

impl<P> Directory<P> {
    /// The agent for a capability's next task: the less loaded of two random ready agents of this node, or of two agents of
    /// other nodes if that agent has less in flight; an agent to avoid only when no other is ready.
    #[must_use]
    pub fn choose(
        &self,
        capability: &CapabilityName,
        avoid: &[AgentId],
        random: u64,
    ) -> Option<&Arc<Entry<P>>> {
        let ready = &self.offers.get(capability)?.ready;
        let other = match avoid {
            [] => None,
            avoid => ready.lightest(avoid, random),
        };
        other.or_else(|| ready.lightest(&[], random))
    }

    /// The contract of each known capability, by name, including capabilities whose last agent left within [`GRACE`].
    pub fn contracts(&self) -> impl Iterator<Item = &Arc<Contract>> {
        self.offers.values().map(|offer| &offer.contract)
    }

    /// The contract of a known capability.
    #[must_use]
    pub fn contract(&self, capability: &CapabilityName) -> Option<&Arc<Contract>> {
        self.offers.get(capability).map(|offer| &offer.contract)
    }

    /// An agent, present or not yet forgotten.
    #[must_use]
    pub fn agent(&self, agent: &AgentId) -> Option<&Arc<Entry<P>>> {
        self.agents.get(agent)
    }

    /// All agents, present or not yet forgotten, by id.
    pub fn entries(&self) -> impl Iterator<Item = &Arc<Entry<P>>> {
        self.agents.values()
    }

    /// All agents as `amcp agents` shows them, by id.
    #[must_use]
    pub fn agents(&self) -> Vec<AgentStatus> {
        let all = self.agents.keys().chain(self.unseen.keys());
        let mut all: Vec<_> = all.filter_map(|agent| self.status(agent)).collect();
        all.sort_by(|a, b| a.agent.cmp(&b.agent));
        all
    }

    /// An agent's last reported state; none for an unknown agent.
    #[must_use]
    pub fn state(&self, agent: &AgentId) -> Option<AgentState> {
        let seen = self.agents.get(agent).map(|entry| entry.state);
        seen.or_else(|| self.unseen.get(agent).copied())
    }

    /// One agent as `amcp agents` shows it.
    #[must_use]
    pub fn status(&self, agent: &AgentId) -> Option<AgentStatus> {
        let unseen = || Some(AgentStatus::unseen(agent, *self.unseen.get(agent)?));
        let seen = self.agents.get(agent).map(|entry| entry.status());
        let mut status = seen.or_else(unseen)?;
        status.again_at_unix_ms = self.cooling.get(agent).copied();
        Some(status)
    }
}

impl<P: Clone + PartialEq> Directory<P> {
    /// Lets an agent join. The same incarnation may join again, since a caller that lost the answer asks twice; that replaces the
    /// agent's port only. Agents of other nodes give way to an agent of this node: they leave, and wait until there is room for
    /// them again.
    ///
    /// # Errors
    /// [`RegisterError`] for an unsound card, an id in use and a capability that other agents offer under another contract.
    pub fn register(
        &mut self,
        registration: Registration<P>,
        now: Duration,
    ) -> Result<(), RegisterError> {
        let entry = Entry::joining(registration, AgentState::Ready);
        self.admit(Arc::new(entry), now)
    }

    fn admit(&mut self, entry: Arc<Entry<P>>, now: Duration) -> Result<(), RegisterError> {
        let mut in_the_way = Vec::new();
        let present = |there: &&Arc<Entry<P>>| there.is_present();
        if let Some(there) = self.agents.get(entry.id()).filter(present).cloned() {
            if there.node == entry.node && there.incarnation == entry.incarnation {
                self.renew(&there, &entry, now);
                return Ok(());
            }
            if there.node.is_some() && there.node == entry.node {
                // Their node knows which of the two incarnations lives.
                self.leave(there.id(), there.incarnation, now);
            } else if entry.node.is_none() && there.node.is_some() {
                in_the_way.push(there);
            } else {
                return Err(RegisterError::AlreadyRegistered(entry.id().clone()));
            }
        }
        let contracts = self.contracts_of(&entry, &mut in_the_way)?;
        for there in in_the_way {
            self.leave(there.id(), there.incarnation, now);
            self.refuse(there);
        }
        for contract in contracts {
            self.offer(contract, entry.node.is_none());
        }
        self.unseen.remove(entry.id());
        self.cooling.remove(entry.id());
        self.changes.push(Change::Joined(Arc::clone(&entry)));
        self.put(entry, now);
        Ok(())
    }

    /// A present agent joins again: over a new link, or because its supervisor lost the answer.
    fn renew(&mut self, there: &Entry<P>, entry: &Entry<P>, now: Duration) {
        let state = match entry.node {
            Some(_) => entry.state,
            None => there.state,
        };
        if there.port != entry.port || there.state != state {
            let renewed = Entry {
                port: entry.port.clone(),
                ..there.changed(state, None)
            };
            self.put(Arc::new(renewed), now);
        }
    }

    /// The contracts of an agent that wants to join. Adds to `in_the_way` the agents of other nodes that cannot share a
    /// capability with an agent of this node.
    fn contracts_of(
        &self,
        entry: &Entry<P>,
        in_the_way: &mut Vec<Arc<Entry<P>>>,
    ) -> Result<Vec<Arc<Contract>>, RegisterError> {
        let agent = entry.id();
        let unsound = |source| RegisterError::Card {
            agent: agent.clone(),
            source,
        };
        entry.card.check().map_err(unsound)?;
        let mut contracts = Vec::with_capacity(entry.card.capabilities.len());
        for capability in entry.card.capabilities.iter() {
            if capability.name.as_str().starts_with(DELEGATES) && !agent.is_orchestrator() {
                return Err(RegisterError::Reserved {
                    agent: agent.clone(),
                    capability: capability.name.clone(),
                });
            }
            let there = self.offers.get(&capability.name);
            if let Some(offer) = there.filter(|offer| offer.present > 0)
                && let Some(differs) = difference(&offer.contract.capability, capability)
            {
                let theirs = self.give_way(entry, &capability.name);
                in_the_way.extend(theirs.ok_or_else(|| RegisterError::NameClash {
                    agent: agent.clone(),
                    capability: capability.name.clone(),
                    differs,
                })?);
            }
            // Compiling schemas is most of the cost of a join, and most agents share their contracts with others.
            contracts.push(match there {
                Some(offer) if offer.contract.capability == *capability => {
                    Arc::clone(&offer.contract)
                }
                _ => Arc::new(Contract::new(capability.clone()).map_err(unsound)?),
            });
        }
        Ok(contracts)
    }

    /// The agents that offer a capability, if all of them give way to an agent that clashes with them.
    fn give_way(&self, to: &Entry<P>, name: &CapabilityName) -> Option<Vec<Arc<Entry<P>>>> {
        if to.node.is_some() {
            return None;
        }
        let offers = |entry: &Entry<P>| entry.card.capabilities.iter().any(|c| c.name == *name);
        let all = self.agents.values();
        let theirs = all.filter(|entry| entry.is_present() && offers(entry));
        theirs
            .map(|entry| entry.node.is_some().then(|| Arc::clone(entry)))
            .collect()
    }

    /// Takes an agent out. Returns whether this incarnation was there.
    pub fn leave(&mut self, agent: &AgentId, incarnation: u64, now: Duration) -> bool {
        let there = |entry: &&Arc<Entry<P>>| entry.is_present() && entry.incarnation == incarnation;
        let Some(entry) = self.agents.get(agent).filter(there).cloned() else {
            return false;
        };
        let state = match entry.state {
            AgentState::Ready | AgentState::Quarantined => AgentState::Left,
            told @ (AgentState::Restarting
            | AgentState::GivenUp
            | AgentState::Draining
            | AgentState::Left
            | AgentState::Cooling) => told,
        };
        let gone = Arc::new(entry.changed(state, Some(now)));
        self.changes.push(Change::Left(Arc::clone(&gone)));
        self.put(gone, now);
        self.make_room(&entry);
        true
    }

    /// Takes a report on an agent of this node. Returns whether it is news; an agent that left cannot be ready.
    pub fn report(&mut self, agent: &AgentId, state: AgentState, now: Duration) -> bool {
        self.cooling.remove(agent);
        let known = self.agents.get(agent).cloned();
        if let Some(theirs) = known.as_ref().filter(|entry| entry.node.is_some()) {
            if theirs.is_present() {
                return false;
            }
            // The report is not about another node's agent, which had the same id and has left.
            self.agents.remove(agent);
        }
        let Some(entry) = known.filter(|entry| entry.node.is_none()) else {
            let room = self.unseen.len() < MAX_UNSEEN || self.unseen.contains_key(agent);
            return state != AgentState::Ready
                && room
                && self.unseen.insert(agent.clone(), state) != Some(state);
        };
        self.fares(&entry, state, now)
    }

    /// Notes that an agent of this node cools down, and when it starts again, in milliseconds since 1970.
    pub fn cools(&mut self, agent: &AgentId, again_at_unix_ms: i64, now: Duration) {
        self.report(agent, AgentState::Cooling, now);
        if self.state(agent) == Some(AgentState::Cooling) {
            self.cooling.insert(agent.clone(), again_at_unix_ms);
        }
    }

    fn fares(&mut self, entry: &Entry<P>, state: AgentState, now: Duration) -> bool {
        if entry.state == state || (state == AgentState::Ready && !entry.is_present()) {
            return false;
        }
        self.put(Arc::new(entry.changed(state, entry.gone_at)), now);
        true
    }

    /// Forgets agents that left longer than [`GRACE`] ago, except agents of this node that were given up or cool down: the list of
    /// agents should show those. Returns whether it forgot any.
    pub fn forget(&mut self, now: Duration) -> bool {
        let old = |since: Option<Duration>| since.is_some_and(|t| now.saturating_sub(t) > GRACE);
        let before = self.agents.len() + self.offers.len();
        let stays = |entry: &Entry<P>| {
            let state = entry.state;
            entry.node.is_none() && matches!(state, AgentState::GivenUp | AgentState::Cooling)
        };
        self.agents
            .retain(|_, entry| !old(entry.gone_at) || stays(entry));
        self.offers.retain(|_, offer| !old(offer.vacant_since));
        self.agents.len() + self.offers.len() < before
    }

    /// Makes a capability known. The contracts of present agents differ in their words only: the last agent to join chooses the
    /// words, but agents elsewhere do not change those of an agent of this node.
    fn offer(&mut self, contract: Arc<Contract>, is_here: bool) {
        let name = contract.capability.name.clone();
        let there = self.offers.get_mut(&name).filter(|o| o.present > 0);
        if let Some(offer) = there {
            let news = !Arc::ptr_eq(&offer.contract, &contract);
            if news && (is_here || offer.ready.here.is_empty()) {
                Arc::make_mut(offer).contract = contract;
            }
        } else {
            let offer = Offer {
                contract,
                present: 0,
                ready: Ready::new(),
                vacant_since: None,
            };
            self.offers.insert(name, Arc::new(offer));
        }
    }

    /// Replaces an agent's entry, in the offers too.
    fn put(&mut self, entry: Arc<Entry<P>>, now: Duration) {
        let before = self.agents.insert(entry.id().clone(), Arc::clone(&entry));
        if let Some(before) = before.filter(|before| before.is_present()) {
            for capability in before.card.capabilities.iter() {
                self.change_offer(&capability.name, now, |offer| {
                    offer.ready.remove(&before);
                    offer.present -= 1;
                });
            }
        }
        for capability in entry.card.capabilities.iter() {
            self.change_offer(&capability.name, now, |offer| {
                if entry.is_present() && entry.state == AgentState::Ready {
                    offer.ready.push(&entry);
                }
                offer.present += usize::from(entry.is_present());
            });
        }
    }

    fn change_offer(
        &mut self,
        name: &CapabilityName,
        now: Duration,
        change: impl FnOnce(&mut Offer<P>),
    ) {
        if let Some(offer) = self.offers.get_mut(name) {
            let offer = Arc::make_mut(offer);
            change(offer);
            offer.vacant_since = match offer.present {
                0 => offer.vacant_since.or(Some(now)),
                _ => None,
            };
        }
    }
}

/// The first part on which plans, policies or retries rely and in which two contracts differ.
fn difference(a: &Capability, b: &Capability) -> Option<&'static str> {
    [
        (a.version == b.version, "version"),
        (a.params == b.params, "params schema"),
        (a.result == b.result, "result schema"),
        (a.consumes == b.consumes, "list of consumed params"),
        (a.produces == b.produces, "list of produced values"),
        (a.effect == b.effect, "effect"),
        (a.idempotent == b.idempotent, "idempotency"),
        (
            a.required_roles == b.required_roles,
            "list of required roles",
        ),
    ]
    .into_iter()
    .find_map(|(same, what)| (!same).then_some(what))
}

#[cfg(test)]
mod tests;
