//! Makes tasks of the capabilities that a clause asks for: params, inputs, one copy for each of listed values.
//!
//! Does not choose capabilities.

use std::ops::Range;

use serde_json::{Map, Value};

use super::chain;
use super::choose::supplier;
use super::fill::{Filled, Reach, fill};
use super::index::Entry;
use super::propose::Drafts;
use super::rank::Reading;
use super::spec::Param;
use super::wiring::wires;

/// Most tasks that a list of values makes of one clause.
const MAX_COPIES: usize = 8;

/// A task before it has an id.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Draft {
    pub(super) entry: usize,
    pub(super) params: Map<String, Value>,
    /// Params that other drafts' results fill: whose, and which part of it.
    pub(super) inputs: Vec<(String, usize, String)>,
    pub(super) clause: usize,
}

impl Draft {
    pub(super) fn has(&self, param: &str) -> bool {
        self.params.contains_key(param) || self.inputs.iter().any(|(name, ..)| name == param)
    }
}

/// Makes the tasks of a clause, one set for each combination of listed values; says which tokens became values.
pub(super) fn draft(
    reading: &Reading<'_>,
    range: &Range<usize>,
    number: usize,
    chosen: Vec<usize>,
    drafts: &mut Drafts,
) -> Vec<bool> {
    let chosen = chain::in_order(
        reading,
        chain::with_suppliers(reading, range, chosen, &drafts.tasks),
    );
    let mut used = vec![false; reading.query.tokens.len()];
    let mut filled = Vec::new();
    for &entry in &chosen {
        let Some(card) = reading.index.entry(entry) else {
            continue;
        };
        let inputs = inputs_of(reading, range, &chosen, entry);
        let values = fill_entry(reading, card, entry, range, &inputs);
        used.iter_mut().zip(&values.used).for_each(|(a, b)| *a |= b);
        filled.push((entry, values));
    }
    drafts.used.extend(
        used.iter()
            .enumerate()
            .filter_map(|(at, used)| used.then_some(at)),
    );
    drafts.last.clear();
    for copy in 0..copies(&filled) {
        let mut made: Vec<(usize, usize)> = Vec::new();
        let mut stride = 1;
        for (entry, values) in &filled {
            let params = nth(values, copy, &mut stride);
            let inputs = match copies(&filled) {
                1 => Vec::new(),
                _ => explicit_inputs(reading, *entry, &params, &made),
            };
            let task = Draft {
                entry: *entry,
                params,
                inputs,
                clause: number,
            };
            let at = drafts
                .tasks
                .iter()
                .position(|known| *known == task)
                .unwrap_or_else(|| {
                    drafts.tasks.push(task);
                    drafts.tasks.len() - 1
                });
            made.push((*entry, at));
        }
        drafts.last.extend(made.iter().map(|(_, at)| *at));
    }
    used
}

/// What the clause says, then what the rest of the query says about required params, then the schema's defaults.
fn fill_entry(
    reading: &Reading<'_>,
    card: &Entry,
    entry: usize,
    range: &Range<usize>,
    inputs: &[String],
) -> Filled {
    let mut values = fill(
        reading.query,
        &card.spec,
        range.clone(),
        Reach::Clause,
        inputs,
    );
    let open = |p: &&Param, values: &Filled| {
        p.required && !values.values.contains_key(&p.name) && !inputs.contains(&p.name)
    };
    if card.spec.params.iter().any(|p| open(&p, &values)) {
        let rest = reading.elsewhere(entry);
        values
            .used
            .iter_mut()
            .zip(&rest.used)
            .for_each(|(a, b)| *a |= b);
        for param in card.spec.params.iter() {
            if !open(&param, &values) {
                continue;
            }
            let said = rest
                .values
                .get(&param.name)
                .and_then(|v| v.first())
                .or(param.default.as_ref());
            if let Some(value) = said {
                values
                    .values
                    .insert(param.name.clone(), vec![value.clone()]);
            }
        }
    }
    values
}

/// The params that other tasks will fill, because the clause does not say them itself.
fn inputs_of(
    reading: &Reading<'_>,
    range: &Range<usize>,
    chosen: &[usize],
    entry: usize,
) -> Vec<String> {
    let Some(card) = reading.index.entry(entry) else {
        return Vec::new();
    };
    let unsaid = chain::unsaid_inputs(reading, range, entry);
    let fed = |param: &&String| {
        let from = |other: usize| chain::path_of(reading, other, entry, param).is_some();
        chosen.iter().any(|&other| other != entry && from(other))
    };
    let required = |param: &&String| card.capability().required_params().any(|p| p == *param);
    let supplied =
        |param: &&String| required(param) && supplier(reading, range, entry, param).is_some();
    let inputs = unsaid.iter().filter(|param| fed(param) || supplied(param));
    inputs.cloned().collect()
}

fn explicit_inputs(
    reading: &Reading<'_>,
    entry: usize,
    params: &Map<String, Value>,
    made: &[(usize, usize)],
) -> Vec<(String, usize, String)> {
    let mut inputs: Vec<(String, usize, String)> = Vec::new();
    let Some(card) = reading.index.entry(entry) else {
        return inputs;
    };
    for &(other, at) in made.iter().rev() {
        let Some(producer) = reading.index.entry(other) else {
            continue;
        };
        for wire in wires(producer.capability(), card.capability()) {
            if !params.contains_key(&wire.param) && !inputs.iter().any(|(p, ..)| *p == wire.param) {
                inputs.push((wire.param, at, wire.path));
            }
        }
    }
    inputs
}

/// How many combinations of listed values there are.
pub(super) fn copies(filled: &[(usize, Filled)]) -> usize {
    let lengths = filled
        .iter()
        .flat_map(|(_, f)| f.values.values())
        .map(|values| values.len().max(1));
    lengths
        .fold(1_usize, |all, n| all.saturating_mul(n))
        .min(MAX_COPIES)
}

/// The params of the `copy`th combination; `stride` counts the combinations of the values seen before.
pub(super) fn nth(filled: &Filled, copy: usize, stride: &mut usize) -> Map<String, Value> {
    let mut params = Map::new();
    for (name, values) in &filled.values {
        let count = values.len().max(1);
        if let Some(value) = values.get(copy / *stride % count) {
            params.insert(name.clone(), value.clone());
        }
        *stride *= count;
    }
    params
}
