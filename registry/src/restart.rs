//! Decides whether and when a child that ended starts again: OTP's restart types and restart intensity, with backoff.
//!
//! Pure: it starts nothing and reads no clock. Every supervisor of the node uses it.

use std::collections::VecDeque;
use std::time::Duration;

use smart_default::SmartDefault;

/// When a supervisor starts a child again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Restart {
    /// Always.
    #[default]
    Permanent,
    /// When it ended abnormally.
    Transient,
    /// Never.
    Temporary,
}

/// How a child ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Exit {
    /// The child stopped, because it was told to or had nothing more to do.
    Normal,
    /// The child panicked, returned an error, was killed or could not start.
    Abnormal,
}

impl Exit {
    /// How an actor ended that ractor reports as terminated, by ractor's reason: a kill, or the end of its tokio task, came from
    /// outside the actor.
    #[must_use]
    pub fn of_termination(reason: Option<&str>) -> Self {
        match reason {
            Some("killed" | "actor_task_cancelled") => Self::Abnormal,
            Some(_) | None => Self::Normal,
        }
    }
}

/// How often and how fast a supervisor starts a child again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, SmartDefault)]
pub struct RestartPolicy {
    /// The kinds of ends after which the child starts again at all.
    pub restart: Restart,
    /// Most restarts within the period; at one more the child cools down.
    // Enough for a burst of three poison tasks and a stray kill; more is a fault that restarts do not cure.
    #[default = 5]
    pub restart_intensity: u32,
    /// The period to which `restart_intensity` applies.
    #[default(Duration::from_secs(10))]
    pub restart_period: Duration,
    /// The wait before the first restart within the period; it doubles with each further restart.
    // Short enough that a retry with its own backoff finds the agent back, long enough not to spin.
    #[default(Duration::from_millis(20))]
    pub backoff: Duration,
    /// The longest wait before a restart.
    // Half of the directory's grace period: plans still compile when the agent comes back.
    #[default(Duration::from_secs(30))]
    pub backoff_max: Duration,
    /// How long a child that ended too often stays down; each further time twice as long, until the child has run for as long
    /// as it stayed down.
    // Five periods: the cause (a burst of poison tasks, an upstream that is away) may be over by then.
    #[default(Duration::from_secs(50))]
    pub cool_down: Duration,
    /// The longest time that a child stays down.
    // As long as the quarantine remembers the tasks that killed the child.
    #[default(Duration::from_secs(600))]
    pub cool_down_max: Duration,
}

/// A supervisor's next step for a child that ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// Start it again after this time.
    Restart {
        /// The wait before the start.
        after: Duration,
    },
    /// The child ended too often. Depending on its strategy, the supervisor starts the child again after this time, or ends
    /// with it.
    CoolDown {
        /// How long the child stays down.
        after: Duration,
    },
    /// The child stays down.
    Leave,
}

/// The restarts of one child.
#[derive(Debug, Clone)]
pub struct RestartBudget {
    policy: RestartPolicy,
    recent: VecDeque<Duration>,
    /// Cool-downs since the child last ran well, and the start and length of the last one.
    cool_downs: u32,
    cooled: Option<(Duration, Duration)>,
}

impl RestartBudget {
    /// The budget of a child without restarts.
    #[must_use]
    pub const fn new(policy: RestartPolicy) -> Self {
        Self {
            policy,
            recent: VecDeque::new(),
            cool_downs: 0,
            cooled: None,
        }
    }

    /// Decides about a child that ended `now` (since an origin that the caller chooses). `random` spreads the restarts of
    /// children that ended together: half of the wait depends on it.
    pub fn decide(&mut self, exit: Exit, now: Duration, random: u64) -> Decision {
        let again = match self.policy.restart {
            Restart::Permanent => true,
            Restart::Transient => exit == Exit::Abnormal,
            Restart::Temporary => false,
        };
        if !again {
            return Decision::Leave;
        }
        let RestartPolicy {
            restart_intensity,
            restart_period,
            backoff,
            backoff_max,
            ..
        } = self.policy;
        self.recent
            .retain(|&then| now.saturating_sub(then) < restart_period);
        let before = u32::try_from(self.recent.len()).unwrap_or(u32::MAX);
        if before >= restart_intensity {
            return self.cool_down(now, random);
        }
        self.recent.push_back(now);
        let after = wait(backoff, before, backoff_max, random);
        Decision::Restart { after }
    }

    fn cool_down(&mut self, now: Duration, random: u64) -> Decision {
        // The child was down for the first `long`; only the time after that counts as run.
        let ran_well = |(then, long): (Duration, Duration)| now.saturating_sub(then) >= long * 2;
        if self.cooled.is_some_and(ran_well) {
            self.cool_downs = 0;
        }
        let (first, longest) = (self.policy.cool_down, self.policy.cool_down_max);
        let after = wait(first, self.cool_downs, longest, random);
        self.cool_downs = self.cool_downs.saturating_add(1);
        self.cooled = Some((now, after));
        Decision::CoolDown { after }
    }
}

/// The wait after `before` earlier waits: twice as long each time, up to `longest`, half of it random.
fn wait(first: Duration, before: u32, longest: Duration, random: u64) -> Duration {
    let whole = first.saturating_mul(1 << before.min(31)).min(longest);
    let half = whole / 2;
    half + half.mul_f64((random >> 11) as f64 / (1_u64 << 53) as f64)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn budget(restart: Restart) -> RestartBudget {
        RestartBudget::new(RestartPolicy {
            restart,
            ..RestartPolicy::default()
        })
    }

    #[test]
    fn what_an_actor_had_no_say_in_is_abnormal() {
        for (reason, exit) in [
            (None, Exit::Normal),
            (Some("the registry refused it"), Exit::Normal),
            (Some("killed"), Exit::Abnormal),
            (Some("actor_task_cancelled"), Exit::Abnormal),
        ] {
            assert_eq!(Exit::of_termination(reason), exit, "{reason:?}");
        }
    }

    #[test]
    fn the_restart_type_decides_whether() {
        for (restart, exit, again) in [
            (Restart::Permanent, Exit::Normal, true),
            (Restart::Permanent, Exit::Abnormal, true),
            (Restart::Transient, Exit::Normal, false),
            (Restart::Transient, Exit::Abnormal, true),
            (Restart::Temporary, Exit::Normal, false),
            (Restart::Temporary, Exit::Abnormal, false),
        ] {
            let decision = budget(restart).decide(exit, ms(0), 0);
            assert_eq!(decision != Decision::Leave, again, "{restart:?} {exit:?}");
        }
    }

    #[test]
    fn each_restart_waits_twice_as_long_and_after_the_fifth_it_cools_down() {
        let mut budget = budget(Restart::Permanent);
        let decisions: Vec<_> = (0..6)
            .map(|i| budget.decide(Exit::Abnormal, ms(i), 0))
            .collect();
        let waits = [10, 20, 40, 80, 160].map(|wait| Decision::Restart { after: ms(wait) });
        assert_eq!(decisions[..5], waits);
        assert_eq!(decisions[5], Decision::CoolDown { after: ms(25_000) });
    }

    /// Ends a child until it cools down; returns the whole seconds of the cool-down.
    fn cools(budget: &mut RestartBudget, now: Duration) -> u64 {
        for _ in 0..6 {
            if let Decision::CoolDown { after } = budget.decide(Exit::Abnormal, now, 0) {
                return after.as_secs();
            }
        }
        panic!("it does not cool down")
    }

    #[test]
    fn a_child_that_does_not_recover_cools_down_for_longer_and_one_that_did_begins_anew() {
        let mut budget = budget(Restart::Permanent);
        let (mut now, mut times) = (ms(0), Vec::new());
        for _ in 0..6 {
            times.push(cools(&mut budget, now));
            now += Duration::from_secs(times[times.len() - 1] + 11);
        }
        assert_eq!(times, [25, 50, 100, 200, 300, 300], "up to a bound");
        let well = Duration::from_secs(300);
        assert_eq!(cools(&mut budget, now + well), 25);
    }

    #[test]
    fn restarts_long_ago_do_not_count() {
        let mut budget = budget(Restart::Permanent);
        for i in 0..100 {
            let decision = budget.decide(Exit::Abnormal, Duration::from_secs(10 * i), 0);
            assert_eq!(decision, Decision::Restart { after: ms(10) });
        }
    }

    proptest! {
        #[test]
        fn invariant_intensity_and_longest_waits_hold_and_nothing_is_left_for_good(
            gaps in prop::collection::vec((0..4_000_u64, any::<u64>()), 1..80),
        ) {
            let mut budget = budget(Restart::Permanent);
            let policy = budget.policy;
            let (mut now, mut restarts, mut cooled) = (ms(0), Vec::new(), (ms(0), ms(0)));
            for (gap, random) in gaps {
                now += ms(gap);
                match budget.decide(Exit::Abnormal, now, random) {
                    Decision::Restart { after } => {
                        prop_assert!(after >= policy.backoff / 2 && after <= policy.backoff_max);
                        restarts.push(now);
                    }
                    Decision::CoolDown { after } => {
                        prop_assert!(after >= policy.cool_down / 2 && after <= policy.cool_down_max);
                        // The random half may be whole in the first of two doubling waits and nothing in the second.
                        let ran_well = now - cooled.0 >= cooled.1;
                        prop_assert!(after >= cooled.1 || ran_well, "{cooled:?}, then {after:?}");
                        now += after;
                        cooled = (now, after.min(policy.cool_down_max / 2));
                    }
                    Decision::Leave => prop_assert!(false, "a permanent child was left"),
                }
                let recent = restarts.iter().filter(|&&t| now - t < policy.restart_period).count();
                prop_assert!(recent <= 5, "{recent} restarts within the period");
            }
        }
    }
}
