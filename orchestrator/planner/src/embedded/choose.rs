//! Which capabilities one clause asks for, and whether the query says all that they need.
//!
//! Does not make tasks of them.

use std::collections::BTreeSet;
use std::ops::Range;

use amcp_protocol::Effect;

use super::fill::{Filled, Reach, fill};
use super::index::Hit;
use super::kind::Kind;
use super::rank::{PLACED, Ranked, Reading};
use super::spec::Param;
use super::wiring::{feeds, producers, wires};

/// Further capabilities of a clause that are looked at.
const MAX_FURTHER: usize = 8;
/// What must be said of a capability whose result another one of the clause wants anyway.
const WANTED: f32 = 0.5;
/// What a param is worth as evidence, where no word names the capability.
const TOLD: f32 = 0.5;
/// Longest chain of missing inputs that is followed: as deep as plans may be.
const MAX_CHAIN: usize = 16;

/// What a clause asks for.
#[derive(Debug, Default)]
pub(super) struct Choice {
    /// The best one first.
    pub(super) chosen: Vec<usize>,
    /// What the query does not say of one that it asks for, and that is left out therefore.
    pub(super) missing: Vec<String>,
}

/// Chooses the capabilities that a clause asks for.
pub(super) fn choose(reading: &Reading<'_>, clause: &Range<usize>) -> Choice {
    let ranked = reading.rank(clause.clone());
    let mut choice = Choice::default();
    let Some(best) = ranked.iter().find(|r| r.strength >= PLACED) else {
        return choice;
    };
    // The second best may be as good, and the query may say all that it needs. A further one is named by its own words.
    let nothing = vec![false; reading.query.tokens.len()];
    let meant = |r: &&Ranked| {
        let exactly = || remaining(reading, clause, &nothing, r.entry, &[]).1;
        r.strength >= PLACED && (r.gain >= 0.8 * best.gain || exactly() >= PLACED)
    };
    for candidate in ranked.iter().filter(meant) {
        let missing = missing(reading, candidate.entry, clause, &mut Vec::new());
        if missing.is_empty() {
            // As good as the one that lacks something: then that was not meant.
            if candidate.gain >= 0.8 * best.gain {
                choice.missing.clear();
            }
            choice.chosen.push(candidate.entry);
            add_further(reading, clause, &ranked, &mut choice.chosen);
            return choice;
        }
        if choice.missing.is_empty() {
            choice.missing = missing;
        }
    }
    choice
}

/// Adds what the clause names besides: capabilities that feed those chosen, and those that can use them.
fn add_further(
    reading: &Reading<'_>,
    clause: &Range<usize>,
    ranked: &[Ranked],
    chosen: &mut Vec<usize>,
) {
    let Some(&first) = chosen.first() else { return };
    let Some(entry) = reading.index.entry(first) else {
        return;
    };
    // Words that are values of the first one's params say nothing of others.
    let values = fill(
        reading.query,
        &entry.spec,
        clause.clone(),
        Reach::Named,
        &[],
    )
    .used;
    let mut fed: BTreeSet<(usize, String)> = BTreeSet::new();
    // Each addition may connect to the next one.
    for _ in 0..MAX_FURTHER {
        let mut best: Option<(usize, usize, (usize, String))> = None;
        let mut user = None;
        for candidate in ranked.iter().take(MAX_FURTHER) {
            let entry = candidate.entry;
            if chosen.contains(&entry) {
                continue;
            }
            let (said, exactly) = remaining(reading, clause, &values, entry, chosen);
            let open = open_inputs(reading, entry, chosen, &fed);
            for (rank, input) in open.into_iter().filter(|_| said >= WANTED) {
                if best.as_ref().is_none_or(|(least, ..)| rank < *least) {
                    best = Some((rank, entry, input));
                }
            }
            let uses = chosen.iter().any(|&c| feeds(reading.index, c, entry));
            user = user.or((exactly >= PLACED && uses).then_some(entry));
        }
        match (best, user) {
            (Some((_, entry, input)), _) => {
                fed.insert(input);
                chosen.push(entry);
            }
            (None, Some(entry)) => chosen.push(entry),
            (None, None) => return,
        }
    }
}

/// The inputs of those chosen that `producer` can fill and nothing fills yet, with the rank of the type.
fn open_inputs(
    reading: &Reading<'_>,
    producer: usize,
    chosen: &[usize],
    fed: &BTreeSet<(usize, String)>,
) -> Vec<(usize, (usize, String))> {
    let Some(from) = reading.index.entry(producer) else {
        return Vec::new();
    };
    let mut open = Vec::new();
    for &consumer in chosen {
        let Some(to) = reading.index.entry(consumer) else {
            continue;
        };
        for wire in wires(from.capability(), to.capability()) {
            let input = (consumer, wire.param);
            if !fed.contains(&input) {
                open.push((wire.rank, input));
            }
        }
    }
    open
}

/// What the clause says of a capability beyond what it says of those chosen: in all, and by its own name and keywords.
fn remaining(
    reading: &Reading<'_>,
    clause: &Range<usize>,
    values: &[bool],
    entry: usize,
    chosen: &[usize],
) -> (f32, f32) {
    let (mut said, mut exactly) = (0.0, 0.0);
    let mut seen: BTreeSet<&str> = BTreeSet::new();
    for at in clause.clone() {
        let Some(token) = reading.query.token(at) else {
            continue;
        };
        if values.get(at) == Some(&true) || !seen.insert(&token.stem) {
            continue;
        }
        let hits = reading.hits.get(at).map_or(&[][..], Vec::as_slice);
        let worth = |entry: usize| hits.iter().find(|h| h.entry == entry);
        let Some(hit) = worth(entry) else { continue };
        let taken = chosen
            .iter()
            .filter_map(|&c| worth(c))
            .map(|h: &Hit| h.strength)
            .fold(0.0, f32::max);
        said += (hit.strength - taken).max(0.0);
        if hit.exact {
            exactly += (hit.strength - taken).max(0.0);
        }
    }
    (said, exactly)
}

/// The required params of a capability that neither the query says nor another capability can supply.
fn missing(
    reading: &Reading<'_>,
    entry: usize,
    clause: &Range<usize>,
    above: &mut Vec<usize>,
) -> Vec<String> {
    let Some(card) = reading.index.entry(entry) else {
        return Vec::new();
    };
    if above.len() >= MAX_CHAIN || above.contains(&entry) || !reading.may_search() {
        return vec![card.capability().name.to_string()];
    }
    above.push(entry);
    // The clause itself is asked for its text only where it names the capability.
    let reach = if above.len() == 1 {
        Reach::Clause
    } else {
        Reach::Elsewhere
    };
    let said = fill(reading.query, &card.spec, clause.clone(), reach, &[]);
    let mut lacking = Vec::new();
    for param in card
        .spec
        .params
        .iter()
        .filter(|p| p.required && !is_said(&said, p))
    {
        let mut supplied = || supplier_below(reading, clause, (entry, param), above).is_some();
        if !is_said(reading.elsewhere(entry), param) && !supplied() {
            lacking.push(param.name.clone());
        }
    }
    above.pop();
    lacking
}

/// Who is to produce an input that the query does not say.
#[derive(Debug, Clone, Copy)]
pub(super) struct Supplier {
    pub(super) entry: usize,
    /// Others could produce the same type; the query's words decided.
    pub(super) has_rivals: bool,
}

/// Who is to produce an input: the type that the consumer prefers, then the one that the query says most of.
///
/// Somebody of whom the query says nothing is asked only for what no words could say: "translate it" is no reason to fetch
/// any text that there is.
pub(super) fn supplier(
    reading: &Reading<'_>,
    clause: &Range<usize>,
    consumer: usize,
    param: &str,
) -> Option<Supplier> {
    let card = reading.index.entry(consumer)?;
    let param = card.spec.params.iter().find(|p| p.name == param)?;
    supplier_below(reading, clause, (consumer, param), &mut vec![consumer])
}

fn supplier_below(
    reading: &Reading<'_>,
    clause: &Range<usize>,
    (consumer, param): (usize, &Param),
    above: &mut Vec<usize>,
) -> Option<Supplier> {
    if !param.consumed {
        return None;
    }
    let mut able: Vec<(usize, f32, usize)> = Vec::new();
    let unsayable = param.kind == Kind::Opaque && reading.is_named(consumer, clause);
    for (rank, producer) in producers(reading, consumer, &param.name) {
        let read_only = reading
            .index
            .entry(producer)
            .is_some_and(|e| e.capability().effect == Effect::Read);
        let evidence = evidence(reading, producer, &mut vec![consumer]);
        if read_only
            && (evidence > 0.0 || unsayable)
            && missing(reading, producer, clause, above).is_empty()
        {
            able.push((rank, evidence, producer));
        }
    }
    let best = able.iter().copied().reduce(|best, next| {
        let better = next.0 < best.0 || (next.0 == best.0 && next.1 > best.1);
        if better { next } else { best }
    })?;
    // The compiler, which knows no words, would take any other of the same or a better type.
    let rival = |&(rank, other): &(usize, usize)| rank <= best.0 && other != best.2;
    let all = producers(reading, consumer, &param.name);
    Some(Supplier {
        entry: best.2,
        has_rivals: all.iter().any(rival),
    })
}

/// How much the query says of a capability, or of those that its inputs come from.
fn evidence(reading: &Reading<'_>, entry: usize, seen: &mut Vec<usize>) -> f32 {
    let Some(card) = reading
        .index
        .entry(entry)
        .filter(|_| !seen.contains(&entry))
    else {
        return 0.0;
    };
    seen.push(entry);
    let named = reading.evidence(entry);
    let told = if reading.elsewhere(entry).values.is_empty() {
        0.0
    } else {
        TOLD
    };
    if named + told > 0.0 {
        return named + told;
    }
    let inputs = card.spec.params.iter().filter(|p| p.required && p.consumed);
    inputs
        .flat_map(|p| producers(reading, entry, &p.name))
        .map(|(_, producer)| evidence(reading, producer, seen))
        .fold(0.0, f32::max)
}

/// Whether the clause alone does not say all that a capability requires, leaving aside what others can produce.
pub(super) fn lacks_in(reading: &Reading<'_>, entry: usize, clause: &Range<usize>) -> bool {
    reading.index.entry(entry).is_some_and(|card| {
        let said = fill(
            reading.query,
            &card.spec,
            clause.clone(),
            Reach::Clause,
            &[],
        );
        let mut required = card
            .spec
            .params
            .iter()
            .filter(|p| p.required && !p.consumed);
        required.any(|p| !is_said(&said, p))
    })
}

fn is_said(said: &Filled, param: &Param) -> bool {
    param.default.is_some() || said.values.contains_key(&param.name)
}
