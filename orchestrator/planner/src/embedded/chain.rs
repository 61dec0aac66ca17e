//! Chains of inputs that the compiler could not complete as meant: lists of values, several tasks with the same need, and
//! several sources of one input.
//!
//! Leaves single chains to the compiler, which says why it adds what it adds.

use std::collections::BTreeSet;
use std::ops::Range;

use super::choose::supplier;
use super::clause::Clause;
use super::draft::Draft;
use super::fill::{Reach, fill};
use super::propose::Drafts;
use super::rank::Reading;
use super::wiring::{feeds, wires};

/// Longest chain that is followed: as deep as plans may be.
const MAX_CHAIN: usize = 16;

/// Adds what the compiler could not choose as meant: the producers on the way to one for which the clause lists several
/// values, because they are repeated, and those that were preferred to others by their words.
pub(super) fn with_suppliers(
    reading: &Reading<'_>,
    range: &Range<usize>,
    mut chosen: Vec<usize>,
    earlier: &[Draft],
) -> Vec<usize> {
    let mut next = 0;
    while let Some(&entry) = chosen.get(next).filter(|_| next < MAX_CHAIN) {
        next += 1;
        let mut chain = Vec::new();
        if has_lists(reading, range, entry, &mut chain) {
            chain.retain(|link| !chosen.contains(link));
            chosen.extend(chain);
        }
        for param in needed_inputs(reading, range, entry) {
            let earlier = earlier.iter().map(|draft| draft.entry);
            let mut there = chosen.iter().copied().chain(earlier);
            let provided = there.any(|other| feeds_param(reading, other, entry, &param));
            let preferred = supplier(reading, range, entry, &param);
            if let Some(preferred) = preferred.filter(|s| !provided && s.has_rivals) {
                chosen.push(preferred.entry);
            }
        }
    }
    chosen
}

fn feeds_param(reading: &Reading<'_>, producer: usize, consumer: usize, param: &str) -> bool {
    path_of(reading, producer, consumer, param).is_some()
}

/// Where in the producer's result the consumer's param is.
pub(super) fn path_of(
    reading: &Reading<'_>,
    producer: usize,
    consumer: usize,
    param: &str,
) -> Option<String> {
    let (from, to) = (
        reading.index.entry(producer)?,
        reading.index.entry(consumer)?,
    );
    let mut wires = wires(from.capability(), to.capability()).into_iter();
    wires.find(|w| w.param == param).map(|w| w.path)
}

/// The inputs of a capability that the clause itself does not say; what is merely left of its words is not said.
pub(super) fn unsaid_inputs(
    reading: &Reading<'_>,
    range: &Range<usize>,
    entry: usize,
) -> Vec<String> {
    let Some(card) = reading.index.entry(entry) else {
        return Vec::new();
    };
    if !card.spec.params.iter().any(|p| p.consumed) {
        return Vec::new();
    }
    let said = fill(reading.query, &card.spec, range.clone(), Reach::Named, &[]);
    let unsaid = card.spec.params.iter().filter(|p| p.consumed);
    unsaid
        .filter(|p| !said.values.contains_key(&p.name))
        .map(|p| p.name.clone())
        .collect()
}

fn needed_inputs(reading: &Reading<'_>, range: &Range<usize>, entry: usize) -> Vec<String> {
    let mut inputs = unsaid_inputs(reading, range, entry);
    let card = reading.index.entry(entry);
    inputs
        .retain(|input| card.is_some_and(|c| c.capability().required_params().any(|p| p == input)));
    inputs
}

/// Whether a capability needs one that takes a param of which the clause lists several values; `chain` is the way there.
fn has_lists(
    reading: &Reading<'_>,
    range: &Range<usize>,
    entry: usize,
    chain: &mut Vec<usize>,
) -> bool {
    if chain.len() >= MAX_CHAIN || chain.contains(&entry) {
        return false;
    }
    chain.push(entry);
    for param in needed_inputs(reading, range, entry) {
        let Some(supplier) = supplier(reading, range, entry, &param) else {
            continue;
        };
        let Some(card) = reading.index.entry(supplier.entry) else {
            continue;
        };
        let said = fill(
            reading.query,
            &card.spec,
            range.clone(),
            Reach::Elsewhere,
            &[],
        );
        if said.values.values().any(|values| values.len() > 1) {
            chain.push(supplier.entry);
            return true;
        }
        if has_lists(reading, range, supplier.entry, chain) {
            return true;
        }
    }
    chain.pop();
    false
}

/// An input that a draft lacks, and who is to produce it.
struct Need {
    draft: usize,
    param: String,
    supplier: usize,
}

/// Where several clauses need a producer that none of them named, each gets its own, filled from its own words.
pub(super) fn complete(reading: &Reading<'_>, clauses: &[Clause], drafts: &mut Drafts) {
    let mut needs = Vec::new();
    for at in 0..drafts.tasks.len() {
        needs.extend(needs_of(reading, clauses, drafts, at));
    }
    let clause_of = |need: &Need| drafts.tasks.get(need.draft).map(|d| d.clause);
    let shared: Vec<bool> = needs
        .iter()
        .map(|need| {
            let rival = |other: &Need| {
                other.supplier == need.supplier && clause_of(other) != clause_of(need)
            };
            needs.iter().any(rival)
        })
        .collect();
    for (need, shared) in needs.into_iter().zip(shared) {
        if shared {
            add_supplier(reading, clauses, drafts, need);
        }
    }
}

/// What a draft needs that no task of its clause produces.
fn needs_of(reading: &Reading<'_>, clauses: &[Clause], drafts: &Drafts, at: usize) -> Vec<Need> {
    let Some(draft) = drafts.tasks.get(at) else {
        return Vec::new();
    };
    let range = clauses.get(draft.clause).map_or(0..0, |c| c.tokens.clone());
    let Some(card) = reading.index.entry(draft.entry) else {
        return Vec::new();
    };
    let mut needs = Vec::new();
    for param in card.spec.params.iter().filter(|p| p.required && p.consumed) {
        let produced = drafts.tasks.iter().any(|other| {
            other.clause == draft.clause
                && feeds_param(reading, other.entry, draft.entry, &param.name)
        });
        if draft.has(&param.name) || produced {
            continue;
        }
        if let Some(supplier) = supplier(reading, &range, draft.entry, &param.name) {
            needs.push(Need {
                draft: at,
                param: param.name.clone(),
                supplier: supplier.entry,
            });
        }
    }
    needs
}

/// Adds the producer of an input and, one after the other, what that needs itself.
fn add_supplier(reading: &Reading<'_>, clauses: &[Clause], drafts: &mut Drafts, need: Need) {
    let mut open = vec![need];
    for _ in 0..MAX_CHAIN {
        let Some(need) = open.pop() else { return };
        let Some((clause, consumer)) = drafts.tasks.get(need.draft).map(|d| (d.clause, d.entry))
        else {
            return;
        };
        let Some(card) = reading.index.entry(need.supplier) else {
            return;
        };
        let range = clauses.get(clause).map_or(0..0, |c| c.tokens.clone());
        let mut params = fill(reading.query, &card.spec, range, Reach::Elsewhere, &[]).first();
        for (name, value) in reading.elsewhere(need.supplier).first() {
            if card.capability().required_params().any(|p| p == name) {
                params.entry(name).or_insert(value);
            }
        }
        let added = Draft {
            entry: need.supplier,
            params,
            inputs: Vec::new(),
            clause,
        };
        let alike = |task: &Draft| task.entry == added.entry && task.params == added.params;
        let known = drafts.tasks.iter().position(alike);
        let from = known.unwrap_or(drafts.tasks.len());
        if known.is_none() {
            drafts.tasks.push(added);
            open.extend(needs_of(reading, clauses, drafts, from));
        }
        let path = path_of(reading, need.supplier, consumer, &need.param);
        if let (Some(path), Some(draft)) = (path, drafts.tasks.get_mut(need.draft)) {
            draft.inputs.push((need.param, from, path));
        }
    }
}

/// Names the source of each input of which the plan has several, or that is not required but referred to.
pub(super) fn wire_up(reading: &Reading<'_>, clauses: &[Clause], drafts: &mut Drafts) {
    for at in 0..drafts.tasks.len() {
        let Some(entry) = drafts
            .tasks
            .get(at)
            .and_then(|d| reading.index.entry(d.entry))
        else {
            continue;
        };
        for param in entry.spec.params.iter().filter(|p| p.consumed) {
            let Some(draft) = drafts.tasks.get(at).filter(|d| !d.has(&param.name)) else {
                continue;
            };
            let sources = sources(reading, drafts, at, &param.name);
            if param.required && sources.len() < 2 {
                continue;
            }
            let own = |s: &&usize| {
                drafts
                    .tasks
                    .get(**s)
                    .is_some_and(|t| t.clause == draft.clause)
            };
            let meant = param.required || refers_back(reading, clauses, draft.clause);
            let source = sources.iter().rev().find(own);
            let source = source
                .or_else(|| sources.iter().rev().find(|&&s| meant && s < at))
                .copied();
            let wired = source.and_then(|from| {
                let producer = drafts.tasks.get(from)?.entry;
                Some((from, path_of(reading, producer, draft.entry, &param.name)?))
            });
            if let (Some((from, path)), Some(draft)) = (wired, drafts.tasks.get_mut(at)) {
                draft.inputs.push((param.name.clone(), from, path));
            }
        }
    }
}

/// The tasks that produce the type that a param likes best, those that wait for the consumer aside.
fn sources(reading: &Reading<'_>, drafts: &Drafts, at: usize, param: &str) -> Vec<usize> {
    let Some(consumer) = drafts
        .tasks
        .get(at)
        .and_then(|d| reading.index.entry(d.entry))
    else {
        return Vec::new();
    };
    let found: Vec<(usize, usize)> = drafts
        .tasks
        .iter()
        .enumerate()
        .filter(|(other, _)| *other != at && !waits_for(&drafts.tasks, *other, at))
        .filter_map(|(other, task)| {
            let producer = reading.index.entry(task.entry)?;
            let mut wires = wires(producer.capability(), consumer.capability()).into_iter();
            Some((wires.find(|w| w.param == param)?.rank, other))
        })
        .collect();
    let best = found.iter().map(|(rank, _)| *rank).min();
    let preferred = found.into_iter().filter(|(rank, _)| Some(*rank) == best);
    preferred.map(|(_, other)| other).collect()
}

/// Whether `task` waits for `at`, however many tasks are between.
fn waits_for(tasks: &[Draft], task: usize, at: usize) -> bool {
    let mut open = vec![task];
    let mut seen = BTreeSet::new();
    while let Some(next) = open.pop() {
        if next == at {
            return true;
        }
        if seen.insert(next) {
            let inputs = tasks.get(next).map_or(&[][..], |t| t.inputs.as_slice());
            open.extend(inputs.iter().map(|(_, from, _)| *from));
        }
    }
    false
}

/// "Mail it to …": a pronoun in the clause stands for what came before.
fn refers_back(reading: &Reading<'_>, clauses: &[Clause], clause: usize) -> bool {
    const PRONOUNS: [&str; 7] = ["it", "that", "this", "them", "these", "result", "results"];
    clauses.get(clause).is_some_and(|c| {
        let mut words = c.tokens.clone().map(|at| reading.query.lower(at));
        words.any(|word| PRONOUNS.contains(&word))
    })
}

/// Producers before their consumers, otherwise as chosen.
pub(super) fn in_order(reading: &Reading<'_>, mut chosen: Vec<usize>) -> Vec<usize> {
    let mut ordered: Vec<usize> = Vec::new();
    while !chosen.is_empty() {
        let is_fed = |entry: usize| {
            chosen
                .iter()
                .any(|&other| feeds(reading.index, other, entry))
        };
        let free = chosen.iter().position(|&entry| !is_fed(entry));
        // In a circle of types any order will do.
        ordered.push(chosen.remove(free.unwrap_or(0)));
    }
    ordered
}
