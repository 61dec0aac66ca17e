//! Chooses the members to dial, their addresses, and the times of further dials.

use std::time::Duration;

use amcp_protocol::NodeName;

use super::{Action, DialFailure, DialId, Member, Membership, Standing, Veto};
use crate::settings::Seed;

/// First wait before a further dial: about the time in which a process restarts.
const WAIT: Duration = Duration::from_millis(200);
/// Longest wait: a node that comes back should be found within seconds.
const WAIT_MAX: Duration = Duration::from_secs(5);
/// The pause between look-ups of a name whose nodes are all linked: it may have more nodes by now.
const LOOK_EVERY: Duration = Duration::from_secs(30);
/// Most members that we dial at each tick: forty a second, no flood whatever others report, and each member has its turn within
/// half a minute even if we remember as many as possible and reach none.
const DIALS_A_TICK: usize = 8;
/// How long the higher of two names waits for the lower one's dial.
pub(super) const LET_THE_OTHER_DIAL: Duration = Duration::from_secs(1);
/// How much longer the higher name waits after a lost link, which both sides notice at once.
const AFTER_YOU: Duration = Duration::from_millis(300);

/// The time of the next try, which a growing wait sets.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Retry {
    tries: u32,
    at: Duration,
}

impl Retry {
    pub(super) const fn begin(&mut self, at: Duration) {
        self.tries = 0;
        self.at = at;
    }

    pub(super) const fn at(&self) -> Duration {
        self.at
    }

    /// Sets the next try after a random wait between half and all of a time that doubles. `chance` is in 0..1.
    fn again(&mut self, now: Duration, chance: f64) {
        let wait = WAIT.saturating_mul(1 << self.tries.min(16)).min(WAIT_MAX);
        self.tries = self.tries.saturating_add(1);
        self.at = now + wait.mul_f64(0.5 + chance / 2.0);
    }

    pub(super) fn after_loss(&mut self, now: Duration, proven: bool, first: bool, chance: f64) {
        if proven {
            self.tries = 0;
        }
        self.again(now, chance);
        if !first {
            self.at += AFTER_YOU;
        }
    }
}

/// A dial under way.
#[derive(Debug, Clone)]
pub(super) struct Dial {
    address: String,
    whom: Whom,
    pub(super) began: Duration,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Whom {
    Seed(usize),
    Member(NodeName),
}

/// A seed and its last look-up.
#[derive(Debug, Clone)]
pub(super) struct SeedState {
    pub(super) seed: Seed,
    pub(super) addresses: Vec<String>,
    pub(super) trouble: Option<String>,
    looking: bool,
    retry: Retry,
}

impl SeedState {
    pub(super) fn new(seed: Seed) -> Self {
        Self {
            seed,
            addresses: Vec::new(),
            trouble: None,
            looking: false,
            retry: Retry::default(),
        }
    }
}

impl Membership {
    pub(super) fn look(&mut self, now: Duration, todo: &mut Vec<Action>) {
        for index in 0..self.seeds.len() {
            let Some(seed) = self.seeds.get(index) else {
                continue;
            };
            let met = !seed.addresses.is_empty()
                && seed.addresses.iter().all(|address| self.is_linked(address));
            let may_stand_for_more = matches!(seed.seed, Seed::Dns(_));
            let due = !seed.looking && now >= seed.retry.at && (!met || may_stand_for_more);
            if let Some(seed) = self.seeds.get_mut(index).filter(|_| due) {
                seed.looking = true;
                todo.push(Action::Look(index));
            }
        }
    }

    /// Dials members that are due, those that have waited longest first.
    pub(super) fn dial_members(&mut self, now: Duration, todo: &mut Vec<Action>) {
        let wanted = |member: &&Member| self.mode == super::Mode::In || member.met;
        let due = |member: &&Member| {
            member.standing == Standing::Apart && member.dial.is_none() && now >= member.retry.at
        };
        let due = self.members.values().filter(wanted).filter(due);
        let mut due: Vec<_> = due
            .map(|member| (member.retry.at, member.info.name.clone()))
            .collect();
        due.sort_unstable();
        for (_, name) in due.into_iter().take(DIALS_A_TICK) {
            self.dial_member(now, &name, todo);
        }
    }

    pub(super) fn found(
        &mut self,
        now: Duration,
        index: usize,
        addresses: Result<Vec<String>, String>,
        todo: &mut Vec<Action>,
    ) {
        let chance = self.rng.f64();
        let Some(seed) = self.seeds.get_mut(index) else {
            return;
        };
        seed.looking = false;
        match addresses {
            Ok(addresses) => seed.addresses = addresses,
            // The addresses of the last look-up stay.
            Err(why) => seed.trouble = Some(why),
        }
        let addresses = seed.addresses.clone();
        let met = !addresses.is_empty() && addresses.iter().all(|address| self.is_linked(address));
        if let Some(seed) = self.seeds.get_mut(index) {
            if met {
                seed.trouble = None;
                seed.retry.begin(now + LOOK_EVERY);
            } else {
                seed.retry.again(now, chance);
            }
        }
        for address in addresses {
            if !self.is_linked(&address)
                && !self.is_redialled(&address)
                && self.mode == super::Mode::In
            {
                self.dial(now, address, Whom::Seed(index), todo);
            }
        }
    }

    /// Dials a member in turn at its own address, at an address that others report, and at those where it answered as a seed: each
    /// may be reachable when the others are not.
    fn dial_member(&mut self, now: Duration, name: &NodeName, todo: &mut Vec<Action>) {
        let chance = self.rng.f64();
        let to_it = |(_, there): &(&String, &NodeName)| *there == name;
        let met_at = self.leads.iter().filter(to_it).map(|(at, _)| at.clone());
        let Some(member) = self.members.get_mut(name) else {
            return;
        };
        let mut addresses: Vec<_> = member.elsewhere.iter().cloned().collect();
        for address in std::iter::once(member.info.address.clone()).chain(met_at) {
            if !addresses.contains(&address) {
                addresses.push(address);
            }
        }
        let turn = member.retry.tries as usize % addresses.len();
        let address = addresses.swap_remove(turn);
        member.retry.again(now, chance);
        if let Some(other) = self.answers_at(&address, name) {
            let trouble = format!("{other} answers at {name}'s address {address}");
            if let Some(member) = self.members.get_mut(name) {
                member.trouble = Some(trouble);
            }
        } else {
            self.dial(now, address, Whom::Member(name.clone()), todo);
        }
    }

    fn dial(&mut self, now: Duration, address: String, whom: Whom, todo: &mut Vec<Action>) {
        if self.dials.values().any(|dial| dial.address == address) {
            return;
        }
        self.next_dial += 1;
        let id = self.next_dial;
        if let Whom::Member(name) = &whom
            && let Some(member) = self.members.get_mut(name)
        {
            member.dial = Some(id);
        }
        let dial = Dial {
            address: address.clone(),
            whom,
            began: now,
        };
        self.dials.insert(id, dial);
        todo.push(Action::Dial(id, address));
    }

    /// Whether the node at an address is linked with us, or is this node.
    fn is_linked(&self, address: &str) -> bool {
        match self.leads.get(address) {
            None => self.linked_at(address).is_some(),
            Some(name) if *name == self.name => true,
            Some(name) => self.members.get(name).is_some_and(|m| m.link().is_some()),
        }
    }

    /// Whether we dial the node at an address anyway, as a member.
    fn is_redialled(&self, address: &str) -> bool {
        let Some(name) = self.leads.get(address) else {
            return false;
        };
        let member = self.members.get(name);
        member.is_some_and(|member| member.standing == Standing::Apart)
    }

    fn linked_at(&self, address: &str) -> Option<&NodeName> {
        let mut linked = self.members.values().filter(|m| m.link().is_some());
        let there = linked.find(|member| member.info.address == address)?;
        Some(&there.info.name)
    }

    /// The linked node that answers at another member's address: a dial would only shake its link.
    fn answers_at(&self, address: &str, name: &NodeName) -> Option<NodeName> {
        match self.leads.get(address) {
            Some(there) if *there == self.name || there != name && self.is_linked(address) => {
                Some(there.clone())
            }
            Some(_) | None => self.linked_at(address).cloned(),
        }
    }

    /// Notes the node that a dial reached.
    pub(super) fn learn(&mut self, dial: DialId, name: &NodeName) {
        if let Some(dial) = self.dials.get(&dial) {
            self.leads.insert(dial.address.clone(), name.clone());
        }
    }

    /// Ends a dial that reached a node.
    pub(super) fn reached(&mut self, now: Duration, id: DialId, name: &NodeName) {
        self.learn(id, name);
        let Some(dial) = self.end_dial(id) else {
            return;
        };
        match dial.whom {
            Whom::Seed(index) => {
                if let Some(seed) = self.seeds.get_mut(index) {
                    seed.trouble = None;
                    seed.retry.begin(now);
                }
            }
            Whom::Member(wanted) if wanted != *name => {
                self.in_trouble(
                    &wanted,
                    format!("{name} answers at {wanted}'s address {}", dial.address),
                );
            }
            Whom::Member(_) => {}
        }
    }

    pub(super) fn dial_failed(&mut self, id: DialId, failure: DialFailure) {
        let Some(dial) = self.end_dial(id) else {
            return;
        };
        if failure.veto == Some(Veto::Itself) {
            self.leads.insert(dial.address, self.name.clone());
            return;
        }
        // A dial from the other side at the same time is not a trouble.
        if failure.veto == Some(Veto::Duplicate) {
            return;
        }
        match dial.whom {
            Whom::Seed(index) => {
                if let Some(seed) = self.seeds.get_mut(index) {
                    seed.trouble = Some(failure.text);
                }
            }
            Whom::Member(name) => self.in_trouble(&name, failure.text),
        }
    }

    fn end_dial(&mut self, id: DialId) -> Option<Dial> {
        let dial = self.dials.remove(&id)?;
        if let Whom::Member(name) = &dial.whom
            && let Some(member) = self.members.get_mut(name)
        {
            member.dial = None;
        }
        Some(dial)
    }

    fn in_trouble(&mut self, name: &NodeName, trouble: String) {
        if let Some(member) = self.members.get_mut(name)
            && member.link().is_none()
        {
            member.trouble = Some(trouble);
        }
    }
}
