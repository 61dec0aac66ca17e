//! Signs of life: each renews an attempt's idle time, and some of their words become progress.

use std::time::Duration;

use amcp_protocol::Progress;

use super::task::TaskRun;
use super::{Action, Machine, Time, TimerKey};

/// Least time between two notes of one task in the progress: as fast as a person reads.
const SHOWN: Duration = Duration::from_secs(1);
/// Also at least this part of the task's time so far: notes get rarer with time, so that an hour shows about sixty.
const SHARE: u32 = 8;

impl TaskRun {
    /// Starts the idle time of the current attempt, unless its whole time ends sooner.
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

    /// Clears the timers of the current attempt.
    pub(super) fn clear_timers(&self, task: usize, out: &mut Vec<Action>) {
        let attempt = self.attempt;
        out.push(Action::ClearTimer(TimerKey::Attempt { task, attempt }));
        if self.plan.terms.idle_ms.is_some() {
            out.push(Action::ClearTimer(TimerKey::Silence { task, attempt }));
        }
    }

    /// Whether the agent's next note becomes progress.
    fn shows(&self, now: Time) -> bool {
        self.shown.is_none_or(|shown| {
            let taken = shown.saturating_sub(self.first_dispatch.unwrap_or_default());
            now >= shown + SHOWN.max(taken / SHARE)
        })
    }
}

impl Machine {
    /// Handles an agent's sign of life; ignores one of another attempt.
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
