//! Which capability's result can fill which other's param.
//!
//! Knows the cards only, no query.

use amcp_protocol::Capability;

use super::index::Index;
use super::rank::Reading;

/// A param that another task's result fills.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wire {
    pub(super) param: String,
    /// Where the value is in the other's result.
    pub(super) path: String,
    /// How much the consumer likes the type: 0 is best.
    pub(super) rank: usize,
}

/// The ways in which `producer` can feed `consumer`, one for each of its params.
pub(super) fn wires(producer: &Capability, consumer: &Capability) -> Vec<Wire> {
    consumer
        .consumes
        .iter()
        .filter_map(|consumes| {
            consumes
                .types
                .iter()
                .enumerate()
                .find_map(|(rank, wanted)| {
                    let produces = producer.produces.iter().find(|p| p.value_type == *wanted)?;
                    Some(Wire {
                        param: consumes.param.clone(),
                        path: produces.path.clone(),
                        rank,
                    })
                })
        })
        .collect()
}

/// Whether one of two capabilities can use what the other produces.
pub(super) fn are_connected(index: &Index, a: usize, b: usize) -> bool {
    feeds(index, a, b) || feeds(index, b, a)
}

pub(super) fn feeds(index: &Index, producer: usize, consumer: usize) -> bool {
    producer != consumer
        && index
            .entry(producer)
            .zip(index.entry(consumer))
            .is_some_and(|(p, c)| !wires(p.capability(), c.capability()).is_empty())
}

/// The capabilities that can fill a param, with the rank of the type that they produce, the preferred ones first.
pub(super) fn producers(
    reading: &Reading<'_>,
    consumer: usize,
    param: &str,
) -> Vec<(usize, usize)> {
    let Some(wanted) = reading.index.entry(consumer) else {
        return Vec::new();
    };
    let mut found: Vec<(usize, usize)> = reading
        .index
        .entries
        .iter()
        .enumerate()
        .filter(|(at, _)| *at != consumer && reading.is_allowed(*at))
        .filter_map(|(at, entry)| {
            let wire = wires(entry.capability(), wanted.capability())
                .into_iter()
                .find(|w| w.param == param)?;
            Some((wire.rank, at))
        })
        .collect();
    found.sort_unstable();
    found
}
