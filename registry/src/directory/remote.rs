//! Takes other nodes' reports on their agents, and keeps the refused agents until there is room. Pure.
//!
//! A node speaks for its own agents only: no report changes another node's or this node's agents.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use amcp_protocol::{AgentId, NodeName};

use super::{Change, Directory, Offer, RegisterError};
use crate::agent::{AgentState, Entry, Registration};

/// Most refused agents that we keep for one node: more than a node has, in some 6 MB. An agent past the bound gets another
/// chance with the node's next full account.
const MAX_REFUSED: usize = 16_384;

impl<P: Clone + PartialEq> Directory<P> {
    /// Lets an agent of another node join. The same incarnation again brings a new port and state; another incarnation replaces
    /// the previous one. An agent that clashes with another is refused and waits: [`Self::settle`] lets it join when there is
    /// room.
    ///
    /// # Errors
    /// [`RegisterError`], as for an agent of this node.
    pub fn join_from(
        &mut self,
        node: &NodeName,
        (registration, state): (Registration<P>, AgentState),
        now: Duration,
    ) -> Result<(), RegisterError> {
        let entry = Arc::new(Entry::joining(registration.on(node.clone()), state));
        if let Some(unnamed) = self.unnamed.get_mut(node) {
            unnamed.remove(entry.id());
        }
        self.withdraw(node, entry.id());
        let outcome = self.admit(Arc::clone(&entry), now);
        if let Err(RegisterError::AlreadyRegistered(_) | RegisterError::NameClash { .. }) = outcome
        {
            self.refuse(entry);
        }
        outcome
    }

    /// An incarnation of another node's agent is gone.
    pub fn leave_from(
        &mut self,
        node: &NodeName,
        agent: &AgentId,
        incarnation: u64,
        now: Duration,
    ) {
        let refused = self
            .refused
            .get(node)
            .and_then(|of_node| of_node.get(agent));
        if refused.is_some_and(|entry| entry.incarnation == incarnation) {
            self.withdraw(node, agent);
        }
        if self.theirs(node, agent).is_some() {
            self.leave(agent, incarnation, now);
        }
    }

    /// Takes another node's report on one of its agents.
    pub fn report_from(
        &mut self,
        node: &NodeName,
        agent: &AgentId,
        state: AgentState,
        now: Duration,
    ) {
        let refused = self.refused.get_mut(node);
        if let Some(entry) = refused.and_then(|of_node| of_node.get_mut(agent)) {
            *entry = Arc::new(entry.changed(state, None));
        } else if let Some(entry) = self.theirs(node, agent).cloned() {
            self.fares(&entry, state, now);
        }
    }

    /// A node begins to name all of its agents.
    pub fn begin_whole(&mut self, node: &NodeName) {
        let present = self.present_of(node).map(|entry| entry.id().clone());
        let refused = self.refused.get(node).into_iter();
        let refused = refused.flat_map(|of_node| of_node.keys().cloned());
        let unnamed: BTreeSet<_> = present.chain(refused).collect();
        self.unnamed.insert(node.clone(), unnamed);
    }

    /// A node has named all of its agents: those that it did not name since it began have left.
    pub fn end_whole(&mut self, node: &NodeName, now: Duration) {
        for agent in self.unnamed.remove(node).unwrap_or_default() {
            self.withdraw(node, &agent);
            if let Some(incarnation) = self.theirs(node, &agent).map(|entry| entry.incarnation) {
                self.leave(&agent, incarnation, now);
            }
        }
    }

    /// A node is lost with all of its agents.
    pub fn lose(&mut self, node: &NodeName, now: Duration) {
        self.begin_whole(node);
        self.end_whole(node, now);
    }

    /// Lets refused agents join that have room now and are still `usable`, and returns the changes since the last call. Call it
    /// after all reports that belong together.
    #[must_use]
    pub fn settle(&mut self, usable: impl Fn(&P) -> bool, now: Duration) -> Vec<Change<P>> {
        if std::mem::take(&mut self.room) {
            let refused = self.refused.values().flat_map(|of_node| of_node.values());
            for entry in refused.cloned().collect::<Vec<_>>() {
                if !usable(&entry.port) || self.admit(Arc::clone(&entry), now).is_ok() {
                    let node = entry.node.as_ref().expect("only other nodes' are refused");
                    self.withdraw(node, entry.id());
                }
            }
        }
        std::mem::take(&mut self.changes)
    }

    /// How many agents of other nodes wait for room.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.refused.values().map(BTreeMap::len).sum()
    }

    /// Keeps an agent of another node that clashes with another agent until there is room.
    pub(super) fn refuse(&mut self, entry: Arc<Entry<P>>) {
        if let Some(node) = &entry.node {
            let of_node = self.refused.entry(node.clone()).or_default();
            if of_node.len() < MAX_REFUSED {
                of_node.insert(entry.id().clone(), entry);
            }
        }
    }

    /// Notes whether a refused agent may take the place of an agent that left.
    pub(super) fn make_room(&mut self, gone: &Entry<P>) {
        if self.room || self.refused.is_empty() {
            return;
        }
        let by_id = |of_node: &BTreeMap<_, _>| of_node.contains_key(gone.id());
        let vacant = |offer: &Arc<Offer<P>>| offer.present == 0;
        let mut names = gone.card.capabilities.iter().map(|c| &c.name);
        self.room = self.refused.values().any(by_id)
            || names.any(|name| self.offers.get(name).is_some_and(vacant));
    }

    /// Drops a refused agent from those that wait.
    fn withdraw(&mut self, node: &NodeName, agent: &AgentId) {
        if let Some(of_node) = self.refused.get_mut(node) {
            of_node.remove(agent);
            if of_node.is_empty() {
                self.refused.remove(node);
            }
        }
    }

    /// An agent, if it belongs to this node of the cluster.
    fn theirs(&self, node: &NodeName, agent: &AgentId) -> Option<&Arc<Entry<P>>> {
        let entry = self.agents.get(agent);
        entry.filter(|entry| entry.node.as_ref() == Some(node))
    }

    fn present_of(&self, node: &NodeName) -> impl Iterator<Item = &Arc<Entry<P>>> {
        let all = self.agents.values();
        all.filter(move |entry| entry.is_present() && entry.node.as_ref() == Some(node))
    }
}

#[cfg(test)]
mod tests;
