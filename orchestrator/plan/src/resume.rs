//! Brings a request's machine back from the events that were written down, and names what was open then.
//!
//! Carries nothing out, and does not judge what became of an open attempt.

use amcp_protocol::Progress;

use crate::machine::{Action, Event, Machine, Policy, Time, TimerKey};

/// A request at its last event.
#[derive(Debug, Clone, PartialEq)]
pub struct Resumed {
    /// The machine.
    pub machine: Machine,
    /// The time of the last event.
    pub at: Time,
    /// What was reported so far.
    pub progress: Vec<(Time, Progress)>,
    /// The timers that are set.
    pub timers: Vec<(TimerKey, Time)>,
    /// The actions of which no event tells the outcome: plans, choices, attempts and compositions, or only the final response.
    pub open: Vec<Action>,
}

/// Steps a new machine through the events.
#[must_use]
pub fn resume(policy: Policy, events: impl IntoIterator<Item = (Time, Event)>) -> Resumed {
    let (machine, first) = Machine::start(policy);
    let mut resumed = Resumed {
        machine,
        at: Time::ZERO,
        progress: Vec::new(),
        timers: Vec::new(),
        open: Vec::new(),
    };
    resumed.note(first);
    for (at, event) in events {
        resumed.settle(&event);
        resumed.at = at;
        let actions = resumed.machine.step(at, event);
        resumed.note(actions);
    }
    resumed
}

impl Resumed {
    fn settle(&mut self, event: &Event) {
        if let Event::TimerFired(key) = event {
            self.timers.retain(|(set, _)| set != key);
        } else if let Event::Chosen { task, attempt, .. } | Event::Responded { task, attempt, .. } =
            event
        {
            self.open.retain(|open| !is_of(open, *task, *attempt));
        } else if let Event::Composed { .. } = event {
            self.open
                .retain(|open| !matches!(open, Action::Compose { .. }));
        }
    }

    fn note(&mut self, actions: Vec<Action>) {
        for action in actions {
            match action {
                Action::Plan { .. }
                | Action::Choose { .. }
                | Action::Send(_)
                | Action::Compose { .. } => self.open.push(action),
                Action::Abandon { task, attempt } => {
                    self.open.retain(|open| !is_of(open, task, attempt));
                }
                Action::SetTimer { key, at } => self.timers.push((key, at)),
                Action::ClearTimer(key) => {
                    self.timers.retain(|(set, _)| *set != key);
                    // The end of a round, with or without a plan.
                    if let TimerKey::Planning { round: over } = key {
                        self.open.retain(
                            |open| !matches!(open, Action::Plan { round, .. } if *round == over),
                        );
                    }
                }
                Action::Report(progress) => self.progress.push((self.at, progress)),
                // The agent that holds the work gives it up by itself when its flow expires.
                Action::Withdraw(_) => {}
                Action::Respond(_) => {
                    self.open = vec![action];
                    self.timers.clear();
                }
            }
        }
    }
}

fn is_of(open: &Action, of: usize, nth: u32) -> bool {
    if let Action::Choose { task, attempt, .. } = open {
        return (*task, *attempt) == (of, nth);
    }
    matches!(open, Action::Send(assigned) if (assigned.task, assigned.attempt) == (of, nth))
}
