//! Signs of life: an attempt's idle time, which each sign renews, and the words that are shown to people.

use std::time::Duration;

use amcp_protocol::Progress;

use super::task::TaskRun;
use super::{Action, Machine, Time, TimerKey};

/// Between two words that are shown of one task: as fast as a person reads them.
const SHOWN: Duration = Duration::from_secs(1);
/// A part of the time that the task has taken: fewer words the longer it takes, so that an hour of it shows about sixty.
const SHARE: u32 = 8;

impl TaskRun {
    /// Lets the idle time of the attempt under way begin, unless its whole time is over sooner.
    pub(super) fn wait_for_sign(&self, now: Time, task: usize, out: &mut Vec<Action>) {
        let Some(idle) = self.plan.terms.idle() else {
            return;
        };
        let attempt = self.attempt;
        let (key, at) = (TimerKey::Silence { task, attempt }, now + idle);
        if at < self.until {
            out.push(Action::SetTimer { key, at });
        }
    }

    /// Forgets the timers of the attempt under way.
    pub(super) fn clear_timers(&self, task: usize, out: &mut Vec<Action>) {
        let attempt = self.attempt;
        out.push(Action::ClearTimer(TimerKey::Attempt { task, attempt }));
        if self.plan.terms.idle_ms.is_some() {
            out.push(Action::ClearTimer(TimerKey::Silence { task, attempt }));
        }
    }

    /// Whether the agent's next words are shown.
    fn shows(&self, now: Time) -> bool {
        self.shown.is_none_or(|shown| {
            let taken = shown.saturating_sub(self.first_dispatch.unwrap_or_default());
            now >= shown + SHOWN.max(taken / SHARE)
        })
    }
}

impl Machine {
    /// The agent that works on a task's attempt gave a sign of life; one of another attempt says nothing.
    pub(super) fn progressed(
        &mut self,
        now: Time,
        (task, attempt): (usize, u32),
        note: String,
        out: &mut Vec<Action>,
    ) {
        let works = |run: &&mut TaskRun| run.is_current(attempt) && run.agent.is_some();
        let Some(run) = self.tasks.get_mut(task).filter(works) else {
            return;
        };
        if run.plan.terms.idle_ms.is_some() {
            out.push(Action::ClearTimer(TimerKey::Silence { task, attempt }));
            run.wait_for_sign(now, task, out);
        }
        if !note.is_empty() && run.shows(now) {
            run.shown = Some(now);
            let task = run.plan.id.clone();
            out.push(Action::Report(Progress::Progressed { task, note }));
        }
    }
}
