//! The orchestrator's counters since the start.
//!
//! Does not count agents or links; the registry and the cluster do.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use amcp_protocol::AnswerState;

/// Numbers of events since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct Counts {
    /// Requests accepted.
    pub accepted: u64,
    /// Requests answered, in any state.
    pub answered: u64,
    /// Of these: completed.
    pub completed: u64,
    /// Of these: partial.
    pub partial: u64,
    /// Of these: failed.
    pub failed: u64,
    /// Of these: cancelled.
    pub cancelled: u64,
    /// Tasks dispatched again after a failed attempt.
    pub retries: u64,
    /// Requests whose actor died before it answered; the orchestrator answered each as failed.
    pub crashed: u64,
    /// Responses dropped because the task had ended.
    pub dropped_duplicate: u64,
    /// Responses dropped because their attempt was over.
    pub dropped_late: u64,
    /// Responses of agents to another task than the one sent.
    pub dropped_foreign: u64,
}

#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) accepted: AtomicU64,
    states: [AtomicU64; 4],
    pub(crate) retries: AtomicU64,
    pub(crate) crashed: AtomicU64,
    pub(crate) duplicate: AtomicU64,
    pub(crate) late: AtomicU64,
    pub(crate) foreign: AtomicU64,
    average_ms: AtomicU64,
}

pub(crate) fn count(counter: &AtomicU64, more: u32) {
    counter.fetch_add(u64::from(more), Ordering::Relaxed);
}

impl Counters {
    pub(crate) fn answered(&self, state: AnswerState, age: Duration) {
        let [completed, partial, failed, cancelled] = &self.states;
        let counter = match state {
            AnswerState::Completed => completed,
            AnswerState::Partial => partial,
            AnswerState::Failed => failed,
            AnswerState::Cancelled => cancelled,
        };
        count(counter, 1);
        // A moving average over about eight requests; a lost update does no harm.
        let (age, average) = (
            u64::try_from(age.as_millis()).unwrap_or(u64::MAX),
            &self.average_ms,
        );
        let before = average.load(Ordering::Relaxed);
        average.store((before * 7).saturating_add(age) / 8, Ordering::Relaxed);
    }

    /// How long a refused client should wait: a request's average time.
    pub(crate) fn retry_after_ms(&self) -> u64 {
        self.average_ms.load(Ordering::Relaxed).clamp(100, 10_000)
    }

    pub(crate) fn read(&self) -> Counts {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let [completed, partial, failed, cancelled] = self.states.each_ref().map(read);
        Counts {
            accepted: read(&self.accepted),
            answered: completed + partial + failed + cancelled,
            completed,
            partial,
            failed,
            cancelled,
            retries: read(&self.retries),
            crashed: read(&self.crashed),
            dropped_duplicate: read(&self.duplicate),
            dropped_late: read(&self.late),
            dropped_foreign: read(&self.foreign),
        }
    }
}
