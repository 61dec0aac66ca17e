//! The request's clock: its deadline, its timers, and the waits for people, which do not count.

use std::time::Duration;

use amcp_protocol::{ErrorCode, Failure};

use super::task::{Status, TaskRun};
use super::{Action, Machine, Stage, Time, TimerKey};

impl Machine {
    /// Whether the request waits for nothing but flows.
    #[must_use]
    pub const fn is_idle(&self) -> bool {
        self.idle_since.is_some()
    }

    /// Total time in which the request waited for nothing but flows.
    #[must_use]
    pub const fn idle(&self) -> Duration {
        self.idle
    }

    /// The time at which tasks are cut off: before the deadline by a fifth of it, ten seconds at most, so that an LLM has time to
    /// write the answer.
    pub(super) fn closing_time(&self) -> Time {
        let reserve = (self.policy.deadline / 5).min(Duration::from_secs(10));
        if self.policy.composes {
            self.deadline().saturating_sub(reserve)
        } else {
            self.deadline()
        }
    }

    /// The time of the final response at the latest.
    pub(super) fn deadline(&self) -> Time {
        self.policy.deadline + self.idle
    }

    pub(super) fn set_deadline(&self, out: &mut Vec<Action>) {
        out.push(Action::SetTimer {
            key: TimerKey::Deadline,
            at: self.deadline(),
        });
        if self.policy.composes && self.stage != Stage::Composing {
            out.push(Action::SetTimer {
                key: TimerKey::Closing,
                at: self.closing_time(),
            });
        }
    }

    pub(super) fn timer_fired(&mut self, now: Time, key: TimerKey, out: &mut Vec<Action>) {
        match key {
            // Set before a wait for nothing but flows, which has moved the deadline.
            TimerKey::Deadline if now < self.deadline() => {}
            TimerKey::Closing if now < self.closing_time() => {}
            // Only the text is missing: the request has not failed.
            TimerKey::Deadline if self.stage == Stage::Composing => {
                let failure = Failure::new(
                    ErrorCode::LlmTimeout,
                    "the LLM did not answer before the request's deadline",
                );
                self.composed(now, Err(failure), out);
            }
            TimerKey::Deadline => {
                let failure =
                    Failure::new(ErrorCode::DeadlineExceeded, "the request's deadline passed");
                self.stop_now(now, failure.hint("ask with a longer deadline"), out);
            }
            TimerKey::Closing => match self.stage {
                Stage::Executing => {
                    let failure = Failure::new(
                        ErrorCode::DeadlineExceeded,
                        "the request ran out of time for this task",
                    );
                    self.cut_open_tasks(now, &failure, out);
                    self.write_answer(now, out);
                }
                Stage::Planning | Stage::Composing | Stage::Done => {}
            },
            TimerKey::Planning { round } => {
                if self.stage == Stage::Planning && self.round == round {
                    let failure =
                        Failure::new(ErrorCode::DeadlineExceeded, "planning took too long");
                    self.planned(
                        now,
                        Err(failure.hint("ask with a longer deadline or use a faster model")),
                        out,
                    );
                }
            }
            TimerKey::Attempt { task, attempt } => {
                self.attempt_timed_out(now, (task, attempt), false, out);
            }
            TimerKey::Silence { task, attempt } => {
                self.attempt_timed_out(now, (task, attempt), true, out);
            }
            TimerKey::Flow { task, number } => self.flow_expired(now, task, number, out),
            TimerKey::Retry { task, attempt } => {
                let waiting = |run: &&TaskRun| {
                    matches!(run.status, Status::Backoff) && run.attempt == attempt
                };
                if self.tasks.get(task).filter(waiting).is_some() {
                    self.dispatch(now, task, out);
                    self.advance(now, out);
                }
            }
        }
    }

    /// Moves the deadline by the time since the last event, if the request waited for nothing but flows.
    pub(super) fn count_idle(&mut self, now: Time) {
        if let Some(since) = &mut self.idle_since {
            self.idle += now.saturating_sub(*since);
            *since = now;
        }
    }

    /// Stops the clock while nothing but flows is open.
    pub(super) fn keep_clock(&mut self, now: Time, out: &mut Vec<Action>) {
        let under_way = |run: &TaskRun| matches!(run.status, Status::InFlight | Status::Backoff);
        // Past the closing time the clock does not stop: its timers are due.
        let idle = self.flows > 0
            && self.stage == Stage::Executing
            && now < self.closing_time()
            && !self.tasks.iter().any(under_way);
        if idle && self.idle_since.is_none() {
            self.idle_since = Some(now);
            out.push(Action::ClearTimer(TimerKey::Deadline));
            out.push(Action::ClearTimer(TimerKey::Closing));
        } else if !idle && self.idle_since.take().is_some() && self.stage != Stage::Done {
            self.set_deadline(out);
        }
    }
}
