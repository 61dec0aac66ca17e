//! The [`Directory`]: which agents there are, what each can do, how it fares, and who should get the next task.
//!
//! Pure: it sends nothing and reads no clock. Ports are whatever the caller uses to reach an agent; times are durations
//! since an origin of the caller's choice, and randomness is an argument.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use amcp_protocol::{AgentId, Capability, CapabilityName, CardError, Contract, NodeName};

use crate::agent::{AgentState, AgentStatus, Entry, Registration};

mod choice;
mod remote;

use choice::Ready;

/// How long a capability stays known after its last agent left: the longest back-off of a restart twice over, so that a
/// plan made meanwhile still compiles.
pub const GRACE: Duration = Duration::from_secs(60);

/// Most agents that are known only because somebody reported on them: a bound, not a limit that anybody should meet.
const MAX_UNSEEN: usize = 1_024;

/// Why an agent may not join.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RegisterError {
    /// Its card is unsound.
    #[error("the card of '{agent}' is refused: {source}")]
    Card {
        /// Whose card.
        agent: AgentId,
        /// What is wrong with it.
        source: CardError,
    },
    /// An agent by that id is there already.
    #[error("an agent '{0}' is registered already; give this one another id")]
    AlreadyRegistered(AgentId),
    /// The capability is offered under another contract.
    #[error(
        "'{agent}' offers '{capability}' with another {differs} than the agents that are there; \
         give it another name, or stop them first"
    )]
    NameClash {
        /// Who wants to join.
        agent: AgentId,
        /// With what.
        capability: CapabilityName,
        /// Which part of the contract is not the same.
        differs: &'static str,
    },
    /// No registry answers; only from [`crate::RegistryHandle`].
    #[error("the registry does not answer")]
    Unavailable,
}

/// One capability and those who offer it.
#[derive(Debug, Clone)]
struct Offer<P> {
    contract: Arc<Contract>,
    /// How many agents that have not left offer it.
    present: usize,
    ready: Ready<P>,
    vacant_since: Option<Duration>,
}

/// Who is there and what they can do. Cloning shares all entries.
#[derive(Debug, Clone)]
pub struct Directory<P> {
    agents: BTreeMap<AgentId, Arc<Entry<P>>>,
    offers: BTreeMap<CapabilityName, Arc<Offer<P>>>,
    /// Agents of this node that somebody reported on before they ever registered.
    unseen: BTreeMap<AgentId, AgentState>,
    /// When agents of this node that cool down are started again, in milliseconds since 1970: for people.
    cooling: BTreeMap<AgentId, i64>,
    /// Agents of other nodes that are in somebody's way, until there is room for them.
    refused: BTreeMap<NodeName, BTreeMap<AgentId, Arc<Entry<P>>>>,
    /// Whom a node that gives a full account has not named yet.
    unnamed: BTreeMap<NodeName, BTreeSet<AgentId>>,
    /// Whether there may be room for somebody who was refused.
    room: bool,
    /// What nobody asked about yet.
    changes: Vec<Change<P>>,
}

/// An agent came or went.
#[derive(Debug, Clone)]
pub enum Change<P> {
    /// It is there from now on.
    Joined(Arc<Entry<P>>),
    /// It is not there any more.
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
    /// Who should get the next task for a capability: the lighter of two random ready agents of this node, or of two of
    /// other nodes where that one has less in flight; those to avoid only when nobody else is ready.
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

    /// The contract of each known capability, by name; those whose last agent left within [`GRACE`] included.
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

    /// How an agent fares, if anybody knows.
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
    /// Lets an agent join. The same incarnation again is no error, for whoever lost the answer may ask twice; it changes
    /// nothing but the way to the agent. An agent of this node does not give way to those of others: they leave, and wait
    /// until there is room for them again.
    ///
    /// # Errors
    /// [`RegisterError`] for an unsound card, an id that is in use and a capability that is offered under another contract.
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
                // Its node knows which of the two is there.
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

    /// An agent that is there joins again: over a new link, or because somebody lost an answer.
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

    /// The contracts of an agent that wants to join. Those of other nodes that an agent of this node cannot share a
    /// capability with are added to those in its way.
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
            // Compiling schemas is most of what a join costs, and most agents are one of several of their kind.
            contracts.push(match there {
                Some(offer) if offer.contract.capability == *capability => {
                    Arc::clone(&offer.contract)
                }
                _ => Arc::new(Contract::new(capability.clone()).map_err(unsound)?),
            });
        }
        Ok(contracts)
    }

    /// Who offers a capability, if they all give way to an agent that clashes with them.
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

    /// The agent is gone. Says whether it was there; one of another incarnation was not.
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

    /// Somebody says how an agent of this node fares. Says whether that is news; one that is gone cannot be ready.
    pub fn report(&mut self, agent: &AgentId, state: AgentState, now: Duration) -> bool {
        self.cooling.remove(agent);
        let known = self.agents.get(agent).cloned();
        if let Some(theirs) = known.as_ref().filter(|entry| entry.node.is_some()) {
            if theirs.is_present() {
                return false;
            }
            // Another node's that had the same id is gone; it is not the one that is spoken of.
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

    /// The supervisor of an agent of this node says that it cools down, and when it is started again, in milliseconds since
    /// 1970.
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

    /// Forgets agents that have been gone for longer than [`GRACE`], except agents of this node that were given up or cool down:
    /// people should see those. Returns whether it forgot any.
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

    /// Makes a capability known. Among agents that are there the contract is the same but for its words: those of the last
    /// to join stand, though nobody elsewhere gives an agent of this node other words.
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

/// Which part of two contracts is not the same: whatever a plan, a policy or a retry relies on.
fn difference(a: &Capability, b: &Capability) -> Option<&'static str> {
    [
        (a.version == b.version, "version"),
        (a.params == b.params, "params schema"),
        (a.result == b.result, "result schema"),
        (a.consumes == b.consumes, "list of what it consumes"),
        (a.produces == b.produces, "list of what it produces"),
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
