//! The tasks that produce each value type, and those of them that a capability does not consume yet.
//!
//! Does not choose; the index makes choosing cheap in a large plan.

use std::collections::{BTreeSet, HashMap, HashSet};

use amcp_protocol::{Capability, Consumes};

/// The producing tasks, by value type.
#[derive(Debug, Default)]
pub(super) struct Producers<'a> {
    all: HashMap<&'a str, BTreeSet<usize>>,
    /// By capability and value type: the producers that no task of the capability consumes yet.
    open: HashMap<(&'a str, &'a str), BTreeSet<usize>>,
    /// Pairs of a capability and a task that it consumes from.
    consumed: HashSet<(&'a str, usize)>,
}

impl<'a> Producers<'a> {
    /// Adds a task.
    pub(super) fn add(&mut self, task: usize, capability: &'a Capability) {
        for value_type in types_of(capability) {
            self.all.entry(value_type).or_default().insert(task);
            for ((_, open_type), open) in &mut self.open {
                if *open_type == value_type {
                    open.insert(task);
                }
            }
        }
    }

    /// Notes that a task of `capability` consumes from `producer`.
    pub(super) fn consume(&mut self, capability: &'a str, producer: usize, from: &'a Capability) {
        if self.consumed.insert((capability, producer)) {
            for value_type in types_of(from) {
                if let Some(open) = self.open.get_mut(&(capability, value_type)) {
                    open.remove(&producer);
                }
            }
        }
    }

    /// Whether a task of `capability` consumes from `producer`.
    pub(super) fn is_consumed(&self, capability: &str, producer: usize) -> bool {
        self.consumed.contains(&(capability, producer))
    }

    /// The tasks that produce the type.
    pub(super) fn of(&self, value_type: &str) -> Option<&BTreeSet<usize>> {
        self.all.get(value_type)
    }

    /// The producers that no task of `capability` consumes yet; none before [`Self::watch`].
    pub(super) fn open(
        &self,
        capability: &'a str,
        value_type: &'a str,
    ) -> Option<&BTreeSet<usize>> {
        self.open.get(&(capability, value_type))
    }

    /// Keeps the set for [`Self::open`] from now on.
    pub(super) fn watch(&mut self, capability: &'a str, value_type: &'a str) {
        let (all, consumed) = (&self.all, &self.consumed);
        self.open
            .entry((capability, value_type))
            .or_insert_with(|| {
                let all = all.get(value_type).into_iter().flatten();
                all.copied()
                    .filter(|&task| !consumed.contains(&(capability, task)))
                    .collect()
            });
    }
}

/// What a task's result counts as.
fn types_of(capability: &Capability) -> impl Iterator<Item = &str> {
    let any = (!capability.takes_any()).then_some(Consumes::ANY);
    let produced = capability.produces.iter().map(|p| p.value_type.as_str());
    produced.chain(any)
}
