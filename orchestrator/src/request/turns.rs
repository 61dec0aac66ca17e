//! Holds the actions of a turn back until the journal has its events (ADR-0033).
//!
//! Decides nothing, and does nothing for a request without a journal: its actions are carried out in place.

use std::collections::VecDeque;
use std::sync::Arc;

use amcp_journal::{Journal, Record, Refusal, Step};
use amcp_plan::{Action, Event, Time};
use amcp_protocol::{Answer, Failure};
use amcp_registry::InFlight;
use amcp_registry::bus::unix_ms;
use ractor::ActorRef;
use tokio::sync::oneshot;

use super::{RequestMsg, RequestState};
use crate::recovery::{Acceptance, Entry, mark, unwritable};
use crate::requests::Known;

/// A request's way into the journal. At most one record is under way.
pub(super) struct Turns {
    journal: Arc<dyn Journal>,
    /// The next record, if it must be written even without events: the first of this process.
    due: bool,
    /// Whether the journal has the acceptance.
    opened: bool,
    entry: Entry,
    /// What follows once the record is durable.
    held: Vec<Held>,
    waits: bool,
    /// Messages that came while a record was under way: the mailbox of a request that waits.
    deferred: VecDeque<RequestMsg>,
    /// Lets an agent count as busy from its choice on.
    chosen: Vec<InFlight>,
}

amcp_protocol::opaque_debug!(Turns);

/// What a request owes the outside.
enum Held {
    Do(Action),
    Answer(Box<Answer>),
    Tell(oneshot::Sender<Result<(), Failure>>, Result<(), Failure>),
}

impl Turns {
    /// `accepted` is none for a request of an earlier process.
    pub(super) fn new(journal: Arc<dyn Journal>, accepted: Option<Box<Acceptance>>) -> Box<Self> {
        Box::new(Self {
            journal,
            due: true,
            opened: accepted.is_none(),
            entry: Entry {
                accepted,
                ..Entry::default()
            },
            held: Vec::new(),
            waits: false,
            deferred: VecDeque::new(),
            chosen: Vec::new(),
        })
    }

    /// Notes an event for the next record. Signs of life decide nothing: only those that readers see are written down, because readers
    /// count events.
    pub(super) fn note(&mut self, at: Time, event: Event, actions: &[Action]) {
        let shown = |action: &Action| matches!(action, Action::Report(_));
        if !matches!(event, Event::Progressed { .. }) || actions.iter().any(shown) {
            let at = u64::try_from(at.as_nanos()).unwrap_or(u64::MAX);
            self.entry.turns.push((at, event));
        }
    }

    /// Whether a record is under way.
    pub(super) const fn waits(&self) -> bool {
        self.waits
    }

    pub(super) fn busy(&mut self, agent: InFlight) {
        self.chosen.push(agent);
    }

    pub(super) fn tell(
        &mut self,
        to: oneshot::Sender<Result<(), Failure>>,
        what: Result<(), Failure>,
    ) {
        self.held.push(Held::Tell(to, what));
    }

    /// Takes a message that must wait, and returns any other.
    pub(super) fn defer(&mut self, message: RequestMsg) -> Option<RequestMsg> {
        if !self.waits {
            return Some(message);
        }
        let RequestMsg::Happened(Event::Progressed { task, attempt, .. }) = message else {
            self.deferred.push_back(message);
            return None;
        };
        // An agent may speak as long as a disk is full: of its words only the last wait, and its sign of life counts now.
        let is_of = |other: &RequestMsg| matches!(other, RequestMsg::Happened(Event::Progressed { task: t, attempt: a, .. }) if (*t, *a) == (task, attempt));
        self.deferred.retain(|other| !is_of(other));
        self.deferred.push_back(message);
        Some(RequestMsg::Happened(super::dispatch::progressed(
            task, attempt, "",
        )))
    }
}

impl RequestState {
    /// Takes an action that must wait for the journal, and returns any other: choices and plans change nothing outside, timers nothing
    /// at all.
    pub(super) fn hold(&mut self, action: Action) -> Option<Action> {
        if self.turns.is_none() {
            return Some(action);
        }
        let held = match action {
            Action::Plan { .. }
            | Action::Choose { .. }
            | Action::SetTimer { .. }
            | Action::ClearTimer(_) => return Some(action),
            Action::Respond(conclusion) => {
                let answer = self.conclude(*conclusion);
                Held::Answer(Box::new(self.record.decide(answer)))
            }
            Action::Send(_)
            | Action::Withdraw(_)
            | Action::Abandon { .. }
            | Action::Compose { .. }
            | Action::Report(_) => Held::Do(action),
        };
        if let Some(turns) = &mut self.turns {
            turns.held.push(held);
        }
        None
    }

    /// Writes the turn's events down, or carries out what waits for none.
    pub(super) fn write_down(&mut self, myself: &ActorRef<RequestMsg>) {
        while let Some(turns) = &mut self.turns {
            if turns.waits {
                return;
            }
            if turns.due || !turns.entry.turns.is_empty() {
                return self.append(myself);
            }
            if turns.held.is_empty() {
                return;
            }
            self.release(myself);
        }
    }

    fn append(&mut self, myself: &ActorRef<RequestMsg>) {
        let Some(turns) = &mut self.turns else {
            return;
        };
        let mut entry = std::mem::take(&mut turns.entry);
        entry.answer = turns.held.iter().find_map(|held| match held {
            Held::Answer(answer) => Some(Answer::clone(answer)),
            Held::Do(_) | Held::Tell(..) => None,
        });
        let mark = || mark(&self.record);
        let step = match (turns.opened, &entry.answer) {
            (false, None) => Step::Opens(mark()),
            (false, Some(_)) => Step::OpensAndEnds(mark()),
            (true, None) => Step::Continues,
            (true, Some(_)) => Step::Ends,
        };
        let record = Record {
            request: self.record.id,
            epoch: turns.journal.epoch(),
            unix_ms: unix_ms(),
            step,
            body: entry.written(),
        };
        (turns.due, turns.waits) = (false, true);
        let to = myself.clone();
        // Fails for a request whose actor died; the orchestrator answers it.
        let kept = move |outcome| drop(to.cast(RequestMsg::Kept(outcome)));
        turns.journal.append(record, Box::new(kept));
    }

    /// The journal has the record, or refuses it.
    pub(super) fn kept(&mut self, myself: &ActorRef<RequestMsg>, outcome: Result<(), Refusal>) {
        let Some(turns) = &mut self.turns else {
            return;
        };
        turns.waits = false;
        match outcome {
            Ok(()) => {
                if !turns.opened {
                    turns.opened = true;
                    self.record.keep();
                }
            }
            Err(Refusal::Unwritable(trouble)) => return self.refuse(myself, &trouble),
            Err(Refusal::Superseded(reason)) => {
                tracing::error!(request = %self.record.id, reason, "the request has another owner, and this one stops");
                return myself.stop(None);
            }
        }
        self.release(myself);
        if self.record.answer().is_some() {
            return;
        }
        while let Some(next) = self.next_deferred() {
            self.take(myself, next);
        }
        self.write_down(myself);
    }

    fn next_deferred(&mut self) -> Option<RequestMsg> {
        self.turns.as_mut()?.deferred.pop_front()
    }

    /// Carries out what waited for the journal.
    fn release(&mut self, myself: &ActorRef<RequestMsg>) {
        let Some(turns) = &mut self.turns else {
            return;
        };
        let held = std::mem::take(&mut turns.held);
        let chosen = std::mem::take(&mut turns.chosen);
        for held in held {
            match held {
                Held::Do(action) => {
                    if let Some(event) = self.perform(myself, action) {
                        self.feed(myself, event);
                    }
                }
                Held::Answer(answer) => self.give(myself, *answer),
                // Fails for an asker that has gone; it can read the request's progress later.
                Held::Tell(to, what) => drop(to.send(what)),
            }
        }
        drop(chosen);
    }

    /// Ends a request whose acceptance cannot be kept, as if it had never come.
    fn refuse(&mut self, myself: &ActorRef<RequestMsg>, trouble: &str) {
        let failure = unwritable(trouble);
        self.shared.refused(&self.record.request, &failure);
        let known = self.record.key.as_deref().map_or(Known::No, Known::ByKey);
        self.shared.requests.withdraw(&self.record, known);
        let answer = crate::shared::Shared::failed(self.record.id, failure);
        let witness = self.shared.witness.get();
        self.record.commit(unix_ms(), answer, witness);
        myself.stop(None);
    }
}
