//! The [`Quarantine`] keeps tasks that made several agents panic away from the others.
//!
//! Does not know why agents panic: it recognises a task by its capability and params only. The rules are pure, times are
//! arguments; the agents of a supervisor share a [`SharedQuarantine`].

use std::collections::HashMap;
use std::hash::BuildHasher;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use amcp_protocol::CapabilityName;
use parking_lot::Mutex;
use serde_json::Value;
use tokio::time::Instant;

/// Deaths after which the quarantine refuses a task: one may be bad luck, two a coincidence.
pub const DEATHS: usize = 3;
/// How long the quarantine refuses a task and remembers a death: long enough that operators notice, short enough that a cure
/// (such as a fixed upstream) shows without a restart of the node.
pub const TERM: Duration = Duration::from_secs(600);
/// Most suspect tasks at a time; past this number the quarantine forgets the task with the oldest last death.
const MAX_CASES: usize = 1_024;

/// The part of a task by which the quarantine recognises it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Suspect {
    capability: CapabilityName,
    params_hash: u64,
}

impl Suspect {
    /// A task with this capability and these params; the order of members does not matter.
    #[must_use]
    pub fn new(capability: &CapabilityName, params: &Value) -> Self {
        let hasher = foldhash::quality::FixedState::with_seed(0);
        Self {
            capability: capability.clone(),
            params_hash: hasher.hash_one(params),
        }
    }
}

#[derive(Debug)]
struct Case {
    /// Distinct incarnations, at most [`DEATHS`].
    incarnations: Vec<u64>,
    last: Duration,
}

impl Case {
    fn left(&self, now: Duration) -> Option<Duration> {
        TERM.checked_sub(now.saturating_sub(self.last))
            .filter(|left| !left.is_zero())
    }
}

/// The tasks that killed agents, with their deaths.
#[derive(Debug, Default)]
pub struct Quarantine(HashMap<Suspect, Case>);

impl Quarantine {
    /// Notes that an incarnation of an agent died of the task. An incarnation counts once for each task.
    pub fn died(&mut self, suspect: Suspect, incarnation: u64, now: Duration) {
        self.0.retain(|_, case| case.left(now).is_some());
        if self.0.len() >= MAX_CASES && !self.0.contains_key(&suspect) {
            let oldest = self.0.iter().min_by_key(|(_, case)| case.last);
            if let Some(oldest) = oldest.map(|(suspect, _)| suspect.clone()) {
                self.0.remove(&oldest);
            }
        }
        let case = self.0.entry(suspect).or_insert(Case {
            incarnations: Vec::new(),
            last: now,
        });
        if case.incarnations.len() < DEATHS && !case.incarnations.contains(&incarnation) {
            case.incarnations.push(incarnation);
        }
        case.last = now;
    }

    /// For how much longer the task is refused; `None` when it is not.
    #[must_use]
    pub fn refuses(&self, suspect: &Suspect, now: Duration) -> Option<Duration> {
        let case = self.0.get(suspect)?;
        case.left(now).filter(|_| case.incarnations.len() >= DEATHS)
    }
}

/// The quarantine of one supervisor's agents.
#[derive(Debug)]
pub struct SharedQuarantine {
    origin: Instant,
    /// The number of cases: there is nearly always none, and then a look-up costs this one read.
    cases: AtomicUsize,
    quarantine: Mutex<Quarantine>,
}

impl Default for SharedQuarantine {
    fn default() -> Self {
        Self {
            origin: Instant::now(),
            cases: AtomicUsize::new(0),
            quarantine: Mutex::default(),
        }
    }
}

impl SharedQuarantine {
    /// See [`Quarantine::died`].
    pub fn died(&self, suspect: Suspect, incarnation: u64) {
        let mut quarantine = self.quarantine.lock();
        quarantine.died(suspect, incarnation, self.origin.elapsed());
        self.cases.store(quarantine.0.len(), Ordering::Release);
    }

    /// See [`Quarantine::refuses`]. Hashes the params only while there are cases.
    #[must_use]
    pub fn refuses(&self, capability: &CapabilityName, params: &Value) -> Option<Duration> {
        if self.cases.load(Ordering::Acquire) == 0 {
            return None;
        }
        let suspect = Suspect::new(capability, params);
        self.quarantine
            .lock()
            .refuses(&suspect, self.origin.elapsed())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const NOW: Duration = Duration::from_secs(1_000);

    fn suspect(params: &Value) -> Suspect {
        Suspect::new(&CapabilityName::new("math.eval").unwrap(), params)
    }

    #[test]
    fn three_distinct_deaths_are_refused_for_ten_minutes() {
        let mut quarantine = Quarantine::default();
        let poison = suspect(&json!({"a": 1, "b": 2}));
        for incarnation in [1, 1, 2, 2] {
            quarantine.died(poison.clone(), incarnation, NOW);
            assert_eq!(quarantine.refuses(&poison, NOW), None);
        }
        quarantine.died(poison, 3, NOW);
        let again = suspect(&json!({"b": 2, "a": 1}));
        assert_eq!(quarantine.refuses(&again, NOW), Some(TERM));
        assert_eq!(
            quarantine.refuses(&again, NOW + TERM - Duration::from_secs(1)),
            Some(Duration::from_secs(1))
        );
        assert_eq!(quarantine.refuses(&again, NOW + TERM), None);
        assert_eq!(quarantine.refuses(&suspect(&json!({"a": 1})), NOW), None);
    }

    #[test]
    fn deaths_long_ago_do_not_count() {
        let mut quarantine = Quarantine::default();
        let poison = suspect(&json!({}));
        for incarnation in 1..10 {
            let now = TERM * u32::try_from(incarnation).unwrap();
            quarantine.died(poison.clone(), incarnation, now);
            assert_eq!(quarantine.refuses(&poison, now), None);
        }
    }

    #[test]
    fn it_does_not_grow_past_its_bound_and_forgets_the_oldest() {
        let mut quarantine = Quarantine::default();
        for incarnation in 1..=3 {
            quarantine.died(suspect(&json!("poison")), incarnation, NOW);
        }
        for i in 0..MAX_CASES {
            let now = NOW + Duration::from_millis(i as u64 + 1);
            quarantine.died(suspect(&json!(i)), 1, now);
        }
        assert_eq!(quarantine.0.len(), MAX_CASES);
        assert_eq!(quarantine.refuses(&suspect(&json!("poison")), NOW), None);
        assert!(quarantine.0.contains_key(&suspect(&json!(0))));
    }
}
