//! Decides whether calls go to a server that keeps failing.
//!
//! Pure: reads no clock, draws no random numbers and calls no server.

use std::time::Duration;

use smart_default::SmartDefault;

/// The bounds of a breaker.
#[derive(Debug, Clone, PartialEq, Eq, SmartDefault)]
pub struct BreakerSettings {
    /// Number of failures in a row that open the breaker.
    // One planning may make three attempts, so that the first request to a dead server spares the next one the wait.
    #[default = 3]
    pub failures: u32,
    /// How long it stays open, before jitter.
    // A model server restarts in about that time.
    #[default(Duration::from_secs(10))]
    pub open: Duration,
}

/// The state of a breaker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BreakerState {
    /// Lets all calls through; counts the failures in a row.
    Closed(u32),
    /// Lets no call through until this time.
    Open(Duration),
    /// Waits for the outcome of one probe.
    HalfOpen,
}

impl BreakerState {
    /// The state's name in logs.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Closed(_) => "closed",
            Self::Open(_) => "open",
            Self::HalfOpen => "half_open",
        }
    }
}

/// What the end of a call says about the server's health.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The server answered, well or badly.
    Answered,
    /// The server was unreachable or too slow.
    Failed,
    /// The caller stopped waiting.
    Abandoned,
}

/// The permission for one call; [`Breaker::record`] takes it back with the outcome.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use = "a probe without a recorded outcome keeps the breaker half-open"]
pub struct Pass {
    probe: bool,
}

/// Lets calls through while the server is well. All times count from an instant that the owner chooses.
#[derive(Debug, Clone)]
pub struct Breaker {
    settings: BreakerSettings,
    state: BreakerState,
}

impl Breaker {
    /// Makes a closed breaker.
    #[must_use]
    pub const fn new(settings: BreakerSettings) -> Self {
        Self {
            settings,
            state: BreakerState::Closed(0),
        }
    }

    /// The state after the last call.
    #[must_use]
    pub const fn state(&self) -> BreakerState {
        self.state
    }

    /// Lets a call through or refuses it.
    ///
    /// # Errors
    /// The time until the breaker may let a call through.
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
            // The next call becomes the probe.
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
