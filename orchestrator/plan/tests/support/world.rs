//! The surroundings of a machine: agents with tasks, running timers, a planner and a writer at work.
//!
//! Lists the events that may happen next; each test chooses.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use amcp_plan::{Action, Assignment, Conclusion, Event, Machine, Policy, Time, TimerKey};
use amcp_protocol::{AgentId, FlowId, Progress};

use super::ledger::Ledger;

/// A machine with its surroundings.
#[derive(Clone)]
pub(crate) struct World {
    pub(crate) policy: Arc<Policy>,
    pub(crate) machine: Machine,
    pub(crate) ledger: Ledger,
    pub(crate) now: Time,
    /// Unanswered attempts: an answer may come at any time, or never.
    pub(crate) awaited: BTreeSet<(usize, u32)>,
    /// Answered attempts: the answer may come again.
    pub(crate) answered: BTreeSet<(usize, u32)>,
    pub(crate) timers: BTreeMap<TimerKey, Time>,
    /// Timers that may have expired just before they were cleared.
    pub(crate) cleared: BTreeSet<TimerKey>,
    /// Open flows and their digests.
    pub(crate) flows: BTreeMap<FlowId, String>,
    /// Closed flows: their answer may come again, or late.
    pub(crate) closed: BTreeMap<FlowId, String>,
    /// The round that the planner works on.
    pub(crate) planning: Option<u32>,
    pub(crate) composing: bool,
    pub(crate) conclusion: Option<Conclusion>,
}

impl World {
    pub(crate) fn start(policy: Policy) -> Self {
        let (machine, first) = Machine::start(policy.clone());
        let mut world = Self {
            ledger: Ledger::start(&policy, &machine, &first),
            policy: Arc::new(policy),
            machine,
            now: Time::ZERO,
            awaited: BTreeSet::new(),
            answered: BTreeSet::new(),
            timers: BTreeMap::new(),
            cleared: BTreeSet::new(),
            flows: BTreeMap::new(),
            closed: BTreeMap::new(),
            planning: None,
            composing: false,
            conclusion: None,
        };
        for action in first {
            world.carry_out(action);
        }
        world
    }

    /// Feeds an event, and then `Chosen` for every `Choose` that follows.
    pub(crate) fn feed(&mut self, event: Event) {
        let mut inbox = VecDeque::from([event]);
        while let Some(event) = inbox.pop_front() {
            self.take_note(&event);
            self.ledger.hears(&self.machine, &event);
            let actions = self.machine.step(self.now, event.clone());
            self.ledger
                .saw(&self.policy, &self.machine, self.now, (&event, &actions));
            inbox.extend(
                actions
                    .into_iter()
                    .filter_map(|action| self.carry_out(action)),
            );
        }
    }

    fn take_note(&mut self, event: &Event) {
        match event {
            Event::TimerFired(key) => {
                // A cleared timer may have been set again.
                if self.timers.get(key).is_some_and(|at| *at <= self.now) {
                    self.timers.remove(key);
                } else {
                    self.cleared.remove(key);
                }
            }
            Event::Responded { task, attempt, .. } => {
                if self.awaited.remove(&(*task, *attempt)) {
                    self.answered.insert((*task, *attempt));
                }
            }
            Event::Planned { round, .. } => {
                self.planning = self.planning.filter(|current| current != round);
            }
            Event::Composed { .. } => self.composing = false,
            Event::TasksAdded { .. }
            | Event::Chosen { .. }
            | Event::Progressed { .. }
            | Event::Spent(_)
            | Event::FlowAnswered { .. }
            | Event::CancelRequested
            | Event::CutOff(_) => {}
        }
    }

    fn carry_out(&mut self, action: Action) -> Option<Event> {
        match action {
            Action::SetTimer { key, at } => {
                self.timers.insert(key, at);
            }
            Action::ClearTimer(key) => {
                if self.timers.remove(&key).is_some() {
                    self.cleared.insert(key);
                }
            }
            Action::Choose { task, attempt, .. } => {
                let agent =
                    AgentId::new(format!("agent-{attempt}")).expect("an id in a test is valid");
                return Some(Event::Chosen {
                    task,
                    attempt,
                    agent,
                    incarnation: 1,
                });
            }
            Action::Send(Assignment { task, attempt, .. }) => {
                self.awaited.insert((task, attempt));
            }
            Action::Plan { round, .. } => self.planning = Some(round),
            Action::Compose { .. } => self.composing = true,
            Action::Respond(conclusion) => self.conclusion = Some(*conclusion),
            Action::Report(Progress::FlowRequired { flow }) => {
                self.flows.insert(flow.id.clone(), flow.digest);
            }
            Action::Report(Progress::FlowEnded { flow, .. }) => {
                if let Some(digest) = self.flows.remove(&flow) {
                    self.closed.insert(flow, digest);
                }
            }
            Action::Abandon { .. } | Action::Withdraw(_) | Action::Report(_) => {}
        }
        None
    }

    /// Identifies the state; a machine has no `Hash`, but its `Debug` text is complete.
    pub(crate) fn digest(&self) -> u64 {
        let mut text = Text(DefaultHasher::new());
        fmt::Write::write_fmt(&mut text, format_args!("{:?}", self.machine))
            .expect("a hasher takes every text");
        let Text(mut hasher) = text;
        self.ledger.hash(&mut hasher);
        (&self.awaited, &self.answered, &self.timers, &self.cleared).hash(&mut hasher);
        (self.now, self.planning, self.composing).hash(&mut hasher);
        (&self.flows, &self.closed).hash(&mut hasher);
        self.conclusion
            .as_ref()
            .map(|conclusion| conclusion.state)
            .hash(&mut hasher);
        hasher.finish()
    }
}

/// Hashes the text that is written to it.
struct Text(DefaultHasher);

impl fmt::Write for Text {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.write(text.as_bytes());
        Ok(())
    }
}

/// A short text for failed runs; the machine's own fills pages.
impl fmt::Debug for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("World")
            .field("breaches", &self.ledger.breaches)
            .field("conclusion", &self.conclusion)
            .field("awaited", &self.awaited)
            .field("timers", &self.timers.keys())
            .finish_non_exhaustive()
    }
}
