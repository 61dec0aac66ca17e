//! Whether a failed attempt is followed by another, and when: the one place where retries are decided, for the tasks of
//! a plan as for the calls that agents make.
//!
//! Pure: it waits for nothing and draws no random numbers.

use std::time::Duration;

use crate::error::{ErrorCode, Failure};

/// How often a task is tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// Most attempts that may have begun.
    pub attempts: u32,
    /// Most refusals by agents that had not begun (busy, restarting, none there).
    pub refusals: u32,
    /// After so many agents died with a task, it is given to no other.
    pub kills: u32,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            // The first, one elsewhere, and one after a restart.
            attempts: 3,
            // With the backoff's steps about four seconds: longer than the restart of an agent, shorter than a patience.
            refusals: 8,
            kills: 3,
        }
    }
}

/// How a task's attempts failed so far.
#[derive(Debug, Clone, Default)]
pub struct History {
    /// Attempts that had begun.
    begun: u32,
    /// Attempts that were refused before they began.
    refused: u32,
    /// Agents that died with it.
    kills: u32,
    /// Whether an attempt that failed may have done its work.
    unknown: bool,
}

/// What follows a failed attempt.
#[derive(Debug, Clone, PartialEq)]
pub enum Verdict {
    /// Another attempt.
    Retry {
        /// After this pause.
        after: Duration,
        /// Why the attempt failed.
        failure: Failure,
    },
    /// Nothing: the task failed with this.
    GiveUp(Failure),
}

/// The first pause: longer than a message takes, shorter than a person notices.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
/// The longest pause: an agent's restart backoff is of this order.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

impl History {
    /// Whether an attempt that failed may have done its work.
    #[must_use]
    pub const fn is_unknown(&self) -> bool {
        self.unknown
    }

    /// Judges one more failed attempt. `jitter` is in 0..1.
    pub fn judge(
        &mut self,
        failure: Failure,
        idempotent: bool,
        patience: Patience,
        jitter: f64,
    ) -> Verdict {
        let code = failure.code;
        if code.is_before_start() {
            self.refused += 1;
            if self.refused >= patience.refusals {
                return Verdict::GiveUp(failure);
            }
            return Verdict::Retry {
                after: pause(self.refused, &failure, jitter),
                failure,
            };
        }
        self.begun += 1;
        self.unknown |= code.is_transient();
        self.kills += u32::from(code.is_agent_death());
        if self.kills >= patience.kills {
            let message = format!(
                "the task is not given to another agent: {} died with it ({failure})",
                self.kills
            );
            return Verdict::GiveUp(Failure::new(ErrorCode::Quarantined, message));
        }
        if !code.is_transient() || self.begun >= patience.attempts {
            return Verdict::GiveUp(failure);
        }
        if !idempotent {
            let hint = "the outcome is unknown and the capability is not idempotent, so it was not tried again; \
                        check what was done before asking again";
            return Verdict::GiveUp(failure.hint(hint));
        }
        Verdict::Retry {
            after: pause(self.begun, &failure, jitter),
            failure,
        }
    }
}

fn pause(nth: u32, failure: &Failure, jitter: f64) -> Duration {
    let full = FIRST_PAUSE
        .saturating_mul(1 << (nth - 1).min(10))
        .min(LONGEST_PAUSE);
    let wanted = Duration::from_millis(failure.retry_after_ms.unwrap_or(0)).min(LONGEST_PAUSE);
    full.mul_f64(0.5 + jitter / 2.0).max(wanted)
}

/// A number in 0..1 that depends on nothing but its arguments (splitmix64).
#[must_use]
pub fn jitter(seed: u64, task: usize, attempt: u32) -> f64 {
    let mut z = seed
        ^ (task as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15)
        ^ u64::from(attempt).rotate_left(32);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    ((z ^ (z >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn codes(idempotent: bool, codes: &[ErrorCode]) -> Vec<Option<ErrorCode>> {
        let mut history = History::default();
        let patience = Patience::default();
        let judged = codes.iter().map(|&code| {
            match history.judge(Failure::new(code, "x"), idempotent, patience, 0.5) {
                Verdict::Retry { .. } => None,
                Verdict::GiveUp(failure) => Some(failure.code),
            }
        });
        judged.collect()
    }

    #[test]
    fn a_transient_failure_of_an_idempotent_task_is_tried_three_times() {
        let timeout = ErrorCode::TaskTimeout;
        assert_eq!(codes(true, &[timeout; 3]), [None, None, Some(timeout)]);
        assert_eq!(
            codes(true, &[ErrorCode::TaskFailed]),
            [Some(ErrorCode::TaskFailed)]
        );
    }

    #[test]
    fn an_unknown_outcome_of_a_task_that_is_not_idempotent_is_never_tried_again() {
        for code in ErrorCode::ALL
            .iter()
            .copied()
            .filter(|code| !code.is_before_start())
        {
            assert!(codes(false, &[code])[0].is_some(), "{code}");
        }
        assert_eq!(
            codes(false, &[ErrorCode::AgentBusy, ErrorCode::NoAgent]),
            [None, None]
        );
    }

    #[test]
    fn the_third_death_quarantines() {
        let (lost, panicked) = (ErrorCode::AgentLost, ErrorCode::AgentPanicked);
        assert_eq!(
            codes(true, &[lost, panicked, lost]),
            [None, None, Some(ErrorCode::Quarantined)]
        );
    }

    #[test]
    fn refusals_are_patient_but_end() {
        let judged = codes(true, &[ErrorCode::AgentUnavailable; 8]);
        assert!(judged[..7].iter().all(Option::is_none));
        assert_eq!(judged[7], Some(ErrorCode::AgentUnavailable));
    }

    #[test]
    fn pauses_grow_are_bounded_and_keep_the_agents_wish() {
        let plain = Failure::new(ErrorCode::AgentBusy, "x");
        assert_eq!(pause(1, &plain, 1.0), FIRST_PAUSE);
        assert_eq!(pause(3, &plain, 0.0), FIRST_PAUSE * 2);
        assert_eq!(pause(30, &plain, 1.0), LONGEST_PAUSE);
        assert_eq!(
            pause(1, &plain.retry_after_ms(1_000), 0.0),
            Duration::from_secs(1)
        );
        assert!(
            (0..1_000)
                .map(|n| jitter(n, 0, 1))
                .all(|j| (0.0..1.0).contains(&j))
        );
    }
}
