//! Decides whether and when another attempt follows a failed one, for the tasks of a plan and for the calls that agents
//! make. No other module decides about retries.
//!
//! Pure: it waits for nothing and draws no random numbers.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use smart_default::SmartDefault;

use crate::error::{ErrorCode, Failure};

/// How often a task is tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, SmartDefault)]
pub struct Patience {
    /// Most attempts that may have begun.
    // The first, one elsewhere, and one after a restart.
    #[default = 3]
    pub attempts: u32,
    /// Most refusals before an attempt began (agent busy, agent restarting, no agent).
    // About four seconds with the backoff's steps: longer than an agent's restart, shorter than a user's patience.
    #[default = 8]
    pub refusals: u32,
    /// Agents that may die with a task; after that no agent gets it.
    #[default = 3]
    pub kills: u32,
}

/// How a task's attempts failed so far.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct History {
    /// Attempts that had begun.
    begun: u32,
    /// Attempts that were refused before they began.
    refused: u32,
    /// Agents that died with the task.
    kills: u32,
}

/// The consequence of a failed attempt.
#[derive(Debug, Clone, PartialEq)]
pub enum Verdict {
    /// Another attempt.
    Retry {
        /// After this pause.
        after: Duration,
        /// Why the attempt failed.
        failure: Failure,
    },
    /// No further attempt: the task failed with this failure.
    GiveUp(Failure),
}

/// The first pause: longer than a message takes, shorter than a person notices.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
/// The longest pause: an agent's restart backoff is of this order.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

impl History {
    /// Judges one more refusal: the attempt certainly did not begin. `jitter` is in 0..1.
    pub fn refused(&mut self, failure: Failure, patience: Patience, jitter: f64) -> Verdict {
        self.refused += 1;
        if !failure.code.is_transient() || self.refused >= patience.refusals {
            return Verdict::GiveUp(failure);
        }
        Verdict::Retry {
            after: pause(self.refused, &failure, jitter),
            failure,
        }
    }

    /// Judges one more attempt that began and failed. `jitter` is in 0..1.
    pub fn failed(
        &mut self,
        failure: Failure,
        idempotent: bool,
        patience: Patience,
        jitter: f64,
    ) -> Verdict {
        let code = failure.code;
        self.begun += 1;
        self.kills += u32::from(code.is_agent_death());
        if self.kills >= patience.kills {
            let message = format!(
                "no other agent gets the task: {} agents died with it ({failure})",
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

/// A number in 0..1 that depends on its arguments only (splitmix64).
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

    fn outcome(verdict: Verdict) -> Option<ErrorCode> {
        match verdict {
            Verdict::Retry { .. } => None,
            Verdict::GiveUp(failure) => Some(failure.code),
        }
    }

    fn failed(idempotent: bool, codes: &[ErrorCode]) -> Vec<Option<ErrorCode>> {
        let mut history = History::default();
        let judged = codes.iter().map(|&code| {
            let failure = Failure::new(code, "x");
            outcome(history.failed(failure, idempotent, Patience::default(), 0.5))
        });
        judged.collect()
    }

    fn refused(codes: &[ErrorCode]) -> Vec<Option<ErrorCode>> {
        let mut history = History::default();
        let judged = codes.iter().map(|&code| {
            let failure = Failure::new(code, "x");
            outcome(history.refused(failure, Patience::default(), 0.5))
        });
        judged.collect()
    }

    #[test]
    fn a_transient_failure_of_an_idempotent_task_is_tried_three_times() {
        let timeout = ErrorCode::TaskTimeout;
        assert_eq!(failed(true, &[timeout; 3]), [None, None, Some(timeout)]);
        assert_eq!(
            failed(true, &[ErrorCode::TaskFailed]),
            [Some(ErrorCode::TaskFailed)]
        );
    }

    #[test]
    fn what_began_and_is_not_idempotent_is_never_tried_again_whatever_its_handler_says() {
        for &code in ErrorCode::ALL {
            assert!(failed(false, &[code])[0].is_some(), "{code}");
        }
        assert_eq!(
            refused(&[ErrorCode::AgentBusy, ErrorCode::NoAgent]),
            [None, None]
        );
        assert_eq!(
            refused(&[ErrorCode::InvalidParams]),
            [Some(ErrorCode::InvalidParams)]
        );
    }

    #[test]
    fn the_third_death_quarantines() {
        let (lost, panicked) = (ErrorCode::AgentLost, ErrorCode::AgentPanicked);
        assert_eq!(
            failed(true, &[lost, panicked, lost]),
            [None, None, Some(ErrorCode::Quarantined)]
        );
    }

    #[test]
    fn refusals_are_patient_but_end() {
        let judged = refused(&[ErrorCode::AgentUnavailable; 8]);
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
