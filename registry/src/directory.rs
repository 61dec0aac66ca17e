//! The [`Directory`]: which agents there are, what each can do, how it fares, and who should get the next task.
//!
//! Pure: it sends nothing and reads no clock. Ports are whatever the caller uses to reach an agent; times are durations
//! since an origin of the caller's choice, and randomness is an argument.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use amcp_protocol::{AgentId, Capability, CapabilityName, CardError, Contract};

use crate::agent::{AgentState, AgentStatus, Entry, Registration};

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

/// Who can take a task now, on this node and on others.
#[derive(Debug, Clone)]
struct Ready<P> {
    here: Vec<Arc<Entry<P>>>,
    elsewhere: Vec<Arc<Entry<P>>>,
}

impl<P> Ready<P> {
    const fn new() -> Self {
        Self {
            here: Vec::new(),
            elsewhere: Vec::new(),
        }
    }

    fn of(&mut self, entry: &Entry<P>) -> &mut Vec<Arc<Entry<P>>> {
        match entry.node {
            None => &mut self.here,
            Some(_) => &mut self.elsewhere,
        }
    }

    /// The lighter of two random ones of each place; the one of this node when they are as light.
    fn lightest(&self, avoid: &[AgentId], random: u64) -> Option<&Arc<Entry<P>>> {
        let here = lighter_of_two(&self.here, avoid, random);
        let there = lighter_of_two(&self.elsewhere, avoid, random.rotate_left(16));
        match (here, there) {
            (Some(here), Some(there)) if in_flight(there) < in_flight(here) => Some(there),
            (here, there) => here.or(there),
        }
    }
}

/// Who is there and what they can do. Cloning shares all entries.
#[derive(Debug, Clone)]
pub struct Directory<P> {
    agents: BTreeMap<AgentId, Arc<Entry<P>>>,
    offers: BTreeMap<CapabilityName, Arc<Offer<P>>>,
    /// Agents that somebody reported on before they ever registered.
    unseen: BTreeMap<AgentId, AgentState>,
}

impl<P> Default for Directory<P> {
    fn default() -> Self {
        Self {
            agents: BTreeMap::new(),
            offers: BTreeMap::new(),
            unseen: BTreeMap::new(),
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

    /// Every agent that can take a task for the capability now.
    pub fn candidates<'a>(
        &'a self,
        capability: &CapabilityName,
    ) -> impl Iterator<Item = &'a Arc<Entry<P>>> + use<'a, P> {
        self.offers
            .get(capability)
            .into_iter()
            .flat_map(|offer| offer.ready.here.iter().chain(&offer.ready.elsewhere))
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
        let seen = self.agents.values().map(|entry| entry.status());
        let unseen = self.unseen.iter();
        let unseen = unseen.map(|(agent, &state)| AgentStatus::unseen(agent, state));
        let mut all: Vec<_> = seen.chain(unseen).collect();
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
        seen.or_else(unseen)
    }
}

impl<P: Clone> Directory<P> {
    /// Lets an agent join. The same incarnation again changes nothing and is no error: whoever lost the answer may ask
    /// twice.
    ///
    /// # Errors
    /// [`RegisterError`] for an unsound card, an id that is in use and a capability that is offered under another contract.
    pub fn register(
        &mut self,
        registration: Registration<P>,
        now: Duration,
    ) -> Result<(), RegisterError> {
        let agent = registration.card.id.clone();
        if let Some(entry) = self.agents.get(&agent).filter(|entry| entry.is_present()) {
            return if entry.incarnation == registration.incarnation {
                Ok(())
            } else {
                Err(RegisterError::AlreadyRegistered(agent))
            };
        }
        let refused = |source| RegisterError::Card {
            agent: agent.clone(),
            source,
        };
        registration.card.check().map_err(refused)?;
        let mut contracts = Vec::with_capacity(registration.card.capabilities.len());
        for capability in &registration.card.capabilities {
            let there = self.offers.get(&capability.name);
            if let Some(offer) = there.filter(|offer| offer.present > 0)
                && let Some(differs) = difference(&offer.contract.capability, capability)
            {
                return Err(RegisterError::NameClash {
                    agent,
                    capability: capability.name.clone(),
                    differs,
                });
            }
            // Compiling schemas is most of what a join costs, and most agents are one of several of their kind.
            contracts.push(match there {
                Some(offer) if offer.contract.capability == *capability => {
                    Arc::clone(&offer.contract)
                }
                _ => Arc::new(Contract::new(capability.clone()).map_err(refused)?),
            });
        }
        for contract in contracts {
            self.offer(contract);
        }
        self.unseen.remove(&agent);
        let entry = Entry {
            card: Arc::new(registration.card),
            incarnation: registration.incarnation,
            port: registration.port,
            load: registration.load,
            node: registration.node,
            state: AgentState::Ready,
            gone_at: None,
        };
        self.put(entry, now);
        Ok(())
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
            | AgentState::Left) => told,
        };
        self.put(entry.changed(state, Some(now)), now);
        true
    }

    /// Somebody says how an agent fares. Says whether that is news; one that is gone cannot be ready.
    pub fn report(&mut self, agent: &AgentId, state: AgentState, now: Duration) -> bool {
        let Some(entry) = self.agents.get(agent).cloned() else {
            let room = self.unseen.len() < MAX_UNSEEN || self.unseen.contains_key(agent);
            return state != AgentState::Ready
                && room
                && self.unseen.insert(agent.clone(), state) != Some(state);
        };
        if entry.state == state || (state == AgentState::Ready && !entry.is_present()) {
            return false;
        }
        self.put(entry.changed(state, entry.gone_at), now);
        true
    }

    /// Forgets what has been gone for longer than [`GRACE`], except agents that were given up: somebody should look at
    /// those. Says whether there was any.
    pub fn forget(&mut self, now: Duration) -> bool {
        let old = |since: Option<Duration>| since.is_some_and(|t| now.saturating_sub(t) > GRACE);
        let before = self.agents.len() + self.offers.len();
        self.agents
            .retain(|_, entry| !old(entry.gone_at) || entry.state == AgentState::GivenUp);
        self.offers.retain(|_, offer| !old(offer.vacant_since));
        self.agents.len() + self.offers.len() < before
    }

    /// Makes a capability known. The contract of agents that are there stays; nobody's is replaced.
    fn offer(&mut self, contract: Arc<Contract>) {
        let name = contract.capability.name.clone();
        if self
            .offers
            .get(&name)
            .is_none_or(|offer| offer.present == 0)
        {
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
    fn put(&mut self, entry: Entry<P>, now: Duration) {
        let entry = Arc::new(entry);
        let before = self.agents.insert(entry.id().clone(), Arc::clone(&entry));
        let old = before.iter().flat_map(|before| &before.card.capabilities);
        for capability in old {
            self.change_offer(&capability.name, now, |offer| {
                for place in [&mut offer.ready.here, &mut offer.ready.elsewhere] {
                    place.retain(|other| other.id() != entry.id());
                }
                offer.present -= usize::from(before.as_ref().is_some_and(|b| b.is_present()));
            });
        }
        for capability in &entry.card.capabilities {
            self.change_offer(&capability.name, now, |offer| {
                if entry.is_present() && entry.state == AgentState::Ready {
                    offer.ready.of(&entry).push(Arc::clone(&entry));
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

fn in_flight<P>(entry: &Entry<P>) -> u32 {
    entry.load.in_flight.load(Relaxed)
}

/// Power of two choices: nearly as even as asking everybody, without everybody choosing the same idle agent at once.
fn lighter_of_two<'a, P>(
    among: &'a [Arc<Entry<P>>],
    avoid: &[AgentId],
    random: u64,
) -> Option<&'a Arc<Entry<P>>> {
    if avoid.is_empty() {
        return lighter_at(among.len(), |at| among.get(at), random);
    }
    let free = |entry: &&Arc<Entry<P>>| !avoid.contains(entry.id());
    let others: Vec<_> = among.iter().filter(free).collect();
    lighter_at(others.len(), |at| others.get(at).copied(), random)
}

fn lighter_at<'a, P>(
    count: usize,
    at: impl Fn(usize) -> Option<&'a Arc<Entry<P>>>,
    random: u64,
) -> Option<&'a Arc<Entry<P>>> {
    let below = |random: u64, count: usize| {
        usize::try_from(((random & 0xffff_ffff) * count as u64) >> 32).unwrap_or_default()
    };
    let one = below(random, count);
    let first = at(one)?;
    if count < 2 {
        return Some(first);
    }
    let second = at((one + 1 + below(random >> 32, count - 1)) % count)?;
    Some(if in_flight(second) < in_flight(first) {
        second
    } else {
        first
    })
}

#[cfg(test)]
mod tests;
