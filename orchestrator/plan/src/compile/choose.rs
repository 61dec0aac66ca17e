//! Chooses the task of the plan that an input comes from, where several produce it.
//!
//! Binds nothing.

use serde_json::{Map, Value};

use super::infer::{Inference, Want};

/// How far a producer agrees with the params that the consumer has for it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Agreement {
    /// The producer has another value.
    Contradicts,
    /// The producer has no value.
    Silent,
    /// The producer has the same value.
    Agrees,
}

impl<'a> Inference<'_, 'a> {
    /// The producer for a want: one that the planner named, else one that no task of the capability consumes yet, else (with
    /// `reuse`) the nearest before, else the first after. Never a producer that would close a cycle.
    pub(super) fn choose(
        &mut self,
        want: &Want<'a>,
        value_type: &'a str,
        reuse: bool,
    ) -> Option<usize> {
        if want.extra.is_empty() {
            return self.choose_agreeing(want, value_type, reuse, Agreement::Contradicts);
        }
        [Agreement::Agrees, Agreement::Silent, Agreement::Contradicts]
            .into_iter()
            .find_map(|least| self.choose_agreeing(want, value_type, reuse, least))
    }

    fn choose_agreeing(
        &mut self,
        want: &Want<'a>,
        value_type: &'a str,
        reuse: bool,
        least: Agreement,
    ) -> Option<usize> {
        let (capability, param) = self.key(want);
        // Tasks of one capability pair up with producers in order; the last one takes the nearest. An added task stands at
        // the place of the task that it was added for.
        let position = self.drafts.at(want.task).root;
        let kind = self.capability(position).name.as_str();
        let is_added = position != want.task;
        let in_order = self.waiting.iter().any(|(&key, &tasks)| {
            tasks > 1 && (key == (capability, param) || (is_added && key.0 == kind))
        });
        self.producers.watch(capability, value_type);
        let all = self.producers.of(value_type)?;
        let fits = |&producer: &usize| {
            !self.drafts.graph.reaches(want.task, producer)
                && self.agreement(producer, &want.extra) >= self.least(producer, least)
        };
        let is_open = |producer: &usize| !self.producers.is_consumed(capability, *producer);
        let is_new = |producer: &usize| {
            let bound = &self.drafts.at(want.task).references;
            reuse || bound.iter().all(|reference| reference.from != *producer)
        };
        let named = || {
            let named = want.named.iter();
            named.filter(|p| all.contains(p) && fits(p) && is_new(p))
        };
        if let Some(producer) = named().find(|p| is_open(p)).or_else(|| named().next()) {
            return Some(*producer);
        }
        let open = self.producers.open(capability, value_type)?;
        let before = || open.range(..position);
        let unconsumed = if in_order {
            before().find(|p| fits(p))
        } else {
            before().rev().find(|p| fits(p))
        };
        unconsumed
            .or_else(|| open.range(position..).find(|p| fits(p)))
            .or_else(|| {
                let fits = |p: &&usize| reuse && fits(p) && self.may_share(**p);
                all.range(..position)
                    .rev()
                    .find(fits)
                    .or_else(|| all.range(position..).find(fits))
            })
            .copied()
    }

    /// An added task with other values is never the right producer.
    fn least(&self, producer: usize, least: Agreement) -> Agreement {
        if self.drafts.is_added(producer) {
            least.max(Agreement::Silent)
        } else {
            least
        }
    }

    /// Whether a consumer may share an added task: not if another of its kind would find an input of its own.
    fn may_share(&self, producer: usize) -> bool {
        !self.drafts.is_added(producer) || {
            let capability = self.capability(producer);
            let types = capability.consumes.iter().flat_map(|c| &c.types);
            !types
                .filter_map(|value_type| self.producers.open(capability.name.as_str(), value_type))
                .any(|open| !open.is_empty())
        }
    }

    fn agreement(&self, producer: usize, extra: &Map<String, Value>) -> Agreement {
        let draft = self.drafts.at(producer);
        let mut agreement = Agreement::Silent;
        for (name, value) in extra {
            match draft.params.get(name) {
                Some(other) if other == value => agreement = Agreement::Agrees,
                Some(_) => return Agreement::Contradicts,
                None => {}
            }
        }
        agreement
    }
}
