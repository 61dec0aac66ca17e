//! Decides whether a server that keeps failing is asked at all.
//!
//! Pure: does not look at a clock, draws no random numbers and asks nobody.

use std::time::Duration;

/// When the breaker opens and for how long.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BreakerSettings {
    /// So many failures in a row open it.
    pub failures: u32,
    /// So long it stays open, before jitter.
    pub open: Duration,
}

impl Default for BreakerSettings {
    fn default() -> Self {
        // Three: one planning may try so often, so that a request that met a dead server spares the next one the wait.
        // 10 s: a model server that restarts is back in about that time.
        Self {
            failures: 3,
            open: Duration::from_secs(10),
        }
    }
}

/// What the breaker does at the moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BreakerState {
    /// Lets everything through; so many failures in a row were seen.
    Closed(u32),
    /// Lets nothing through until then.
    Open(Duration),
    /// One probe is on its way and decides.
    HalfOpen,
}

/// How a call ended, as far as the server's health goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The server answered, whatever it said.
    Answered,
    /// The server was not there or too slow.
    Failed,
    /// Nobody waited for the end.
    Abandoned,
}

/// A call that was let through; give it back with its outcome.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use = "a probe whose outcome is never told keeps the breaker half-open"]
pub struct Pass {
    probe: bool,
}

/// Lets calls through while the server is well. All times count from an instant that the owner chose.
#[derive(Debug, Clone)]
pub struct Breaker {
    settings: BreakerSettings,
    state: BreakerState,
}

impl Breaker {
    /// A closed breaker.
    #[must_use]
    pub const fn new(settings: BreakerSettings) -> Self {
        Self {
            settings,
            state: BreakerState::Closed(0),
        }
    }

    /// What it does at the moment.
    #[must_use]
    pub const fn state(&self) -> BreakerState {
        self.state
    }

    /// Lets a call through, or says how long to stay away.
    ///
    /// # Errors
    /// The time until asking again makes sense.
    pub fn admit(&mut self, now: Duration) -> Result<Pass, Duration> {
        match self.state {
            BreakerState::Closed(_) => Ok(Pass { probe: false }),
            BreakerState::Open(until) if now >= until => {
                self.state = BreakerState::HalfOpen;
                Ok(Pass { probe: true })
            }
            BreakerState::Open(until) => Err(until.saturating_sub(now)),
            BreakerState::HalfOpen => Err(self.settings.open),
        }
    }

    /// Takes a call's outcome. `jitter` between 0 and 1 spreads the probes of many nodes over the second half of the
    /// period.
    pub fn record(&mut self, pass: Pass, outcome: Outcome, now: Duration, jitter: f64) {
        let open = BreakerState::Open(
            now + self
                .settings
                .open
                .mul_f64(0.5 + jitter.clamp(0.0, 1.0) / 2.0),
        );
        self.state = match (self.state, outcome) {
            (_, Outcome::Answered) => BreakerState::Closed(0),
            (BreakerState::Closed(n), Outcome::Failed) if n + 1 >= self.settings.failures => open,
            (BreakerState::Closed(n), Outcome::Failed) => BreakerState::Closed(n + 1),
            (BreakerState::HalfOpen, Outcome::Failed) if pass.probe => open,
            // The next call probes in its place.
            (BreakerState::HalfOpen, Outcome::Abandoned) if pass.probe => BreakerState::Open(now),
            (state, Outcome::Failed | Outcome::Abandoned) => state,
        };
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn opened() -> Breaker {
        let mut breaker = Breaker::new(BreakerSettings {
            failures: 2,
            open: s(10),
        });
        for _ in 0..2 {
            let pass = breaker.admit(s(0)).unwrap();
            breaker.record(pass, Outcome::Failed, s(0), 1.0);
        }
        breaker
    }

    #[test]
    fn opens_after_failures_in_a_row_only() {
        let mut breaker = Breaker::new(BreakerSettings {
            failures: 2,
            open: s(10),
        });
        for outcome in [Outcome::Failed, Outcome::Answered, Outcome::Failed] {
            let pass = breaker.admit(s(0)).unwrap();
            breaker.record(pass, outcome, s(0), 1.0);
        }
        assert_eq!(breaker.state(), BreakerState::Closed(1));
        assert_eq!(opened().admit(s(4)), Err(s(6)));
    }

    #[test]
    fn one_probe_decides() {
        let mut breaker = opened();
        let probe = breaker.admit(s(10)).unwrap();
        assert!(breaker.admit(s(10)).is_err(), "a second probe");
        breaker.record(probe, Outcome::Failed, s(11), 0.0);
        assert_eq!(breaker.state(), BreakerState::Open(s(16)));
        let probe = breaker.admit(s(16)).unwrap();
        breaker.record(probe, Outcome::Answered, s(17), 0.0);
        assert_eq!(breaker.state(), BreakerState::Closed(0));
    }

    #[test]
    fn an_abandoned_probe_makes_room_for_another() {
        let mut breaker = opened();
        let probe = breaker.admit(s(10)).unwrap();
        breaker.record(probe, Outcome::Abandoned, s(12), 0.0);
        assert!(breaker.admit(s(12)).is_ok());
    }

    proptest! {
        #[test]
        fn invariant_it_never_stays_shut(outcomes in prop::collection::vec((0_u8..3, 0_u64..20, 0.0_f64..1.0), 0..60)) {
            let mut breaker = Breaker::new(BreakerSettings { failures: 2, open: s(10) });
            let mut now = s(0);
            for (outcome, later, jitter) in outcomes {
                now += s(later);
                let Ok(pass) = breaker.admit(now) else { continue };
                let outcome = [Outcome::Answered, Outcome::Failed, Outcome::Abandoned][usize::from(outcome)];
                breaker.record(pass, outcome, now, jitter);
                prop_assert_ne!(breaker.state(), BreakerState::HalfOpen);
            }
            prop_assert!(breaker.admit(now + s(10)).is_ok());
        }
    }
}
