//! Chooses an agent among those that are ready for a task. Pure.
//!
//! Does not know the agents' states; the directory adds and removes ready agents.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use amcp_protocol::AgentId;

use crate::agent::Entry;

/// Agents that can take a task now, on this node and on others.
#[derive(Debug, Clone)]
pub(super) struct Ready<P> {
    pub(super) here: Vec<Arc<Entry<P>>>,
    pub(super) elsewhere: Vec<Arc<Entry<P>>>,
}

impl<P> Ready<P> {
    pub(super) const fn new() -> Self {
        Self {
            here: Vec::new(),
            elsewhere: Vec::new(),
        }
    }

    pub(super) fn push(&mut self, entry: &Arc<Entry<P>>) {
        self.of(entry).push(Arc::clone(entry));
    }

    pub(super) fn remove(&mut self, entry: &Arc<Entry<P>>) {
        let place = self.of(entry);
        if let Some(at) = place.iter().position(|other| Arc::ptr_eq(other, entry)) {
            place.swap_remove(at);
        }
    }

    fn of(&mut self, entry: &Entry<P>) -> &mut Vec<Arc<Entry<P>>> {
        match entry.node {
            None => &mut self.here,
            Some(_) => &mut self.elsewhere,
        }
    }

    /// The less loaded of two random agents of this node and two of other nodes; this node's agent when the loads are equal.
    pub(super) fn lightest(&self, avoid: &[AgentId], random: u64) -> Option<&Arc<Entry<P>>> {
        let here = lighter_of_two(&self.here, avoid, random);
        let there = lighter_of_two(&self.elsewhere, avoid, random.rotate_left(16));
        match (here, there) {
            (Some(here), Some(there)) if in_flight(there) < in_flight(here) => Some(there),
            (here, there) => here.or(there),
        }
    }
}

fn in_flight<P>(entry: &Entry<P>) -> u32 {
    entry.load.in_flight.load(Relaxed)
}

/// Power of two choices: nearly as even as asking all agents, and callers do not all choose the same idle agent at once.
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
