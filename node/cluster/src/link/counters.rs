//! The links' counters.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::view::ClusterCounts;

#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) dropped_late: AtomicU64,
    pub(crate) tasks_out: AtomicU64,
    pub(crate) tasks_in: AtomicU64,
    pub(crate) deduplicated: AtomicU64,
    pub(crate) unknown: AtomicU64,
    pub(crate) not_allowed: AtomicU64,
    pub(crate) unproven: AtomicU64,
}

pub(crate) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Relaxed);
}

impl Counters {
    pub(crate) fn read(&self) -> ClusterCounts {
        let read = |counter: &AtomicU64| counter.load(Relaxed);
        ClusterCounts {
            dropped_late: read(&self.dropped_late),
            tasks_out: read(&self.tasks_out),
            tasks_in: read(&self.tasks_in),
            deduplicated: read(&self.deduplicated),
            unknown: read(&self.unknown),
            not_allowed: read(&self.not_allowed),
            unproven: read(&self.unproven),
            ..ClusterCounts::default()
        }
    }
}
