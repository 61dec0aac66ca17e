//! What a catalogue's cards say, prepared so that a query is ranked against all of them in microseconds.
//!
//! Knows no query and no user; built once per catalogue.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use amcp_plan::Catalogue;
use amcp_protocol::{Capability, Contract};
use serde_json::Value;

use super::kind::Kind;
use super::spec::{Spec, value_stems};
use super::text::{stem, tokens};
use super::words::{is_generic, is_stop, synonyms};

/// What a word is worth where it stands. A capability's name and keywords were chosen to be found by; a description has
/// filler words; examples are many words each; params' names and values are said of other things as well.
const NAME: f32 = 3.0;
const KEYWORD: f32 = 2.5;
const DESCRIPTION: f32 = 1.0;
const EXAMPLE: f32 = 0.8;
const PARAM: f32 = 0.4;
const VALUE: f32 = 0.3;
/// A share's symbol is hardly said of anything else.
const TICKER: f32 = 1.6;
/// A company's name is.
const COMPANY: f32 = 0.8;
/// BM25's k1, its usual value: how soon more of the same word stops counting.
const SATURATION: f32 = 1.2;
/// A verb like "show" says that something is wanted, hardly what.
const GENERIC: f32 = 0.3;
/// Words that are not on the card, but are synonyms, relatives or misspellings of one that is.
const SYNONYM: f32 = 0.8;
const RELATIVE: f32 = 0.6;
const MISSPELT: f32 = 0.85;
const COMPARED: f32 = 0.9;

/// A capability as the planner sees it.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) contract: Arc<Contract>,
    pub(super) spec: Spec,
    /// The terms of each example, without its values.
    pub(super) examples: Vec<BTreeSet<usize>>,
}

impl Entry {
    pub(super) fn capability(&self) -> &Capability {
        &self.contract.capability
    }
}

/// A word's worth for one capability.
#[derive(Debug, Clone, Copy)]
pub(super) struct Hit {
    pub(super) entry: usize,
    /// For ranking: weighs rare words more.
    pub(super) gain: f32,
    /// For deciding whether the capability is meant at all.
    pub(super) strength: f32,
    /// The word itself is in the capability's name or keywords.
    pub(super) exact: bool,
}

#[derive(Debug)]
struct Term {
    stem: String,
    /// Counted as a generic verb already.
    generic: bool,
    hits: Vec<Hit>,
}

/// A catalogue, indexed.
#[derive(Debug)]
pub(super) struct Index {
    pub(super) entries: Vec<Entry>,
    terms: Vec<Term>,
    by_stem: HashMap<String, usize>,
}

/// The weights of one stem, by entry.
type Weights = BTreeMap<String, BTreeMap<usize, Weight>>;

/// What a stem is worth for one entry.
#[derive(Debug, Default, Clone, Copy)]
struct Weight {
    worth: f32,
    /// It is in the name or the keywords.
    exact: bool,
    /// Some word with this stem is more than a generic verb: "bookings" is, "book" is not.
    plain: bool,
}

impl Index {
    pub(super) fn new(catalogue: &Catalogue) -> Self {
        let mut weights = Weights::new();
        let specs: Vec<Spec> = catalogue.iter().map(|c| Spec::new(&c.capability)).collect();
        for (entry, (contract, spec)) in catalogue.iter().zip(&specs).enumerate() {
            weigh(&mut weights, entry, &contract.capability, spec);
        }
        let terms: Vec<Term> = weights
            .into_iter()
            .map(|(stem, by_entry)| term(stem, by_entry, specs.len()))
            .collect();
        let by_stem: HashMap<String, usize> = terms
            .iter()
            .enumerate()
            .map(|(i, t)| (t.stem.clone(), i))
            .collect();
        let entries = catalogue
            .iter()
            .zip(specs)
            .map(|(contract, spec)| Entry {
                examples: example_stems(&contract.capability)
                    .map(|stems| {
                        stems
                            .iter()
                            .filter_map(|s| by_stem.get(s).copied())
                            .collect()
                    })
                    .collect(),
                contract: Arc::clone(contract),
                spec,
            })
            .collect();
        Self {
            entries,
            terms,
            by_stem,
        }
    }

    pub(super) fn entry(&self, entry: usize) -> Option<&Entry> {
        self.entries.get(entry)
    }

    pub(super) fn term(&self, stem: &str) -> Option<usize> {
        self.by_stem.get(stem).copied()
    }

    /// What a word of a query is worth for each capability. `guess` allows for relatives and misspellings, which costs a
    /// look at every term.
    pub(super) fn look_up(&self, lower: &str, stem_of_word: &str, guess: bool) -> Vec<Hit> {
        let mut found: Vec<(usize, f32)> = self
            .term(stem_of_word)
            .map(|t| (t, 1.0))
            .into_iter()
            .collect();
        found.extend(synonyms(lower).filter_map(|s| Some((self.term(&stem(s))?, SYNONYM))));
        if found.is_empty() && guess {
            found.extend(self.compared(lower));
        }
        if found.is_empty() && guess {
            found.extend(self.alike(stem_of_word));
        }
        let mut hits: Vec<Hit> = Vec::new();
        for (term, factor) in found {
            let Some(term) = self.terms.get(term) else {
                continue;
            };
            // "Book" the verb is not the noun of "bookings".
            let factor = if is_generic(lower) && !term.generic {
                factor * GENERIC
            } else {
                factor
            };
            for hit in &term.hits {
                let hit = Hit {
                    gain: hit.gain * factor,
                    strength: hit.strength * factor,
                    exact: hit.exact && factor >= 1.0,
                    ..*hit
                };
                match hits.iter_mut().find(|h| h.entry == hit.entry) {
                    Some(known) => {
                        known.gain = known.gain.max(hit.gain);
                        known.strength = known.strength.max(hit.strength);
                        known.exact |= hit.exact;
                    }
                    None => hits.push(hit),
                }
            }
        }
        hits
    }

    /// "colder", "warmest".
    fn compared(&self, lower: &str) -> Option<(usize, f32)> {
        let plain = ["er", "est"]
            .iter()
            .find_map(|ending| lower.strip_suffix(ending))?;
        let known = self.term(plain).filter(|_| plain.len() >= 4)?;
        Some((known, COMPARED))
    }

    fn alike(&self, word: &str) -> Option<(usize, f32)> {
        self.terms
            .iter()
            .enumerate()
            .filter_map(|(i, term)| {
                if related(word, &term.stem) {
                    Some((i, RELATIVE))
                } else {
                    misspelt(word, &term.stem).then_some((i, MISSPELT))
                }
            })
            .reduce(|best, next| if next.1 > best.1 { next } else { best })
    }
}

fn term(stem: String, by_entry: BTreeMap<usize, Weight>, entries: usize) -> Term {
    #[expect(clippy::cast_precision_loss, reason = "catalogues are small")]
    let (n, df) = (entries as f32, by_entry.len() as f32);
    let rarity = |df: f32| (1.0 + (n - df + 0.5) / (df + 0.5)).ln();
    // 1 for a word that only one capability has, however many there are.
    let idf = rarity(df) / rarity(1.0);
    // A word that a family of capabilities shares still says that the family is meant; one on most cards says nothing.
    let spread = if df <= 2.0 || df / n <= 0.5 { 1.0 } else { 0.4 };
    let generic = !by_entry.values().any(|w| w.plain);
    let factor = if generic { GENERIC } else { 1.0 };
    let hits = by_entry
        .into_iter()
        .map(|(entry, Weight { worth, exact, .. })| {
            let weight = factor * worth * (SATURATION + 1.0) / (worth + SATURATION);
            Hit {
                entry,
                gain: weight * idf,
                strength: weight * spread,
                exact: exact && !generic,
            }
        })
        .collect();
    Term {
        generic,
        stem,
        hits,
    }
}

fn weigh(weights: &mut Weights, entry: usize, capability: &Capability, spec: &Spec) {
    let mut add = |word: &str, weight: f32| {
        let lower = word.to_lowercase();
        if lower.is_empty() || is_stop(&lower) {
            return;
        }
        let slot = weights
            .entry(stem(&lower))
            .or_default()
            .entry(entry)
            .or_default();
        slot.worth += weight;
        slot.exact |= weight >= KEYWORD;
        slot.plain |= !is_generic(&lower);
    };
    for part in capability.name.as_str().split(['.', '_', '-']) {
        add(part, NAME);
    }
    // A keyword of several words gives each of them its share: "exchange rate" is not meant by "exchange" alone.
    for keyword in &capability.keywords {
        let words: Vec<&str> = keyword
            .split_whitespace()
            .filter(|w| !is_stop(&w.to_lowercase()))
            .collect();
        let share = if words.len() > 1 { 0.6 } else { 1.0 };
        for word in words {
            add(word, KEYWORD * share);
        }
    }
    for token in tokens(&capability.description)
        .iter()
        .filter(|t| t.is_word())
    {
        add(&token.lower, DESCRIPTION);
    }
    for stems in example_stems(capability) {
        for stem in stems {
            // Several examples with one word are no stronger than one.
            let slot = weights.entry(stem).or_default().entry(entry).or_default();
            slot.worth = slot.worth.max(EXAMPLE);
            slot.plain = true;
        }
    }
    weigh_params(weights, entry, spec);
}

fn weigh_params(weights: &mut Weights, entry: usize, spec: &Spec) {
    let mut raise = |stem: &String, weight: f32| {
        let slot = weights
            .entry(stem.clone())
            .or_default()
            .entry(entry)
            .or_default();
        slot.worth = slot.worth.max(weight);
        slot.plain = true;
    };
    for param in &spec.params {
        for word in param.words.iter().filter(|w| !is_stop(w) && !is_generic(w)) {
            raise(word, PARAM);
        }
        for choice in &param.choices {
            let symbol = param.kind == Kind::Ticker
                && choice
                    .value
                    .as_str()
                    .is_some_and(|v| v.bytes().all(|b| b.is_ascii_uppercase()));
            let weight = if symbol && choice.stems.len() == 1 {
                TICKER
            } else if param.kind == Kind::Ticker {
                COMPANY
            } else {
                VALUE
            };
            for stem in choice
                .stems
                .iter()
                .filter(|s| !is_stop(s) && !is_generic(s))
            {
                raise(stem, weight);
            }
        }
    }
}

/// The content stems of each example, without the words that are its values.
fn example_stems(capability: &Capability) -> impl Iterator<Item = BTreeSet<String>> {
    capability.examples.iter().map(|example| {
        let mut values = BTreeSet::new();
        collect_stems(&example.params, &mut values);
        tokens(&example.query)
            .into_iter()
            .filter(|t| {
                t.is_word()
                    && !is_stop(&t.lower)
                    && !is_generic(&t.lower)
                    && !values.contains(&t.stem)
            })
            .map(|t| t.stem)
            .collect()
    })
}

fn collect_stems(value: &Value, stems: &mut BTreeSet<String>) {
    match value {
        Value::String(text) => stems.extend(value_stems(text)),
        Value::Array(values) => values.iter().for_each(|v| collect_stems(v, stems)),
        Value::Object(map) => map.values().for_each(|v| collect_stems(v, stems)),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// Whether two stems are of one family, such as "summari" (summary) and "summar" (summarize).
fn related(a: &str, b: &str) -> bool {
    let common = a.bytes().zip(b.bytes()).take_while(|(x, y)| x == y).count();
    let longer = a.len().max(b.len());
    common >= 5 && common * 10 >= longer * 7
}

/// Whether two words differ by one letter, or by two that changed places.
fn misspelt(a: &str, b: &str) -> bool {
    const SHORTEST: usize = 5;
    let (a, b) = if a.len() <= b.len() {
        (a.as_bytes(), b.as_bytes())
    } else {
        (b.as_bytes(), a.as_bytes())
    };
    if a.len() < SHORTEST || b.len() - a.len() > 1 || a.first() != b.first() {
        return false;
    }
    let head = a.iter().zip(b).take_while(|(x, y)| x == y).count();
    let tail_of = |a: &[u8], b: &[u8], skip_a: usize, skip_b: usize| {
        a.get(head + skip_a..) == b.get(head + skip_b..)
    };
    if a.len() == b.len() {
        let swapped = a.get(head) == b.get(head + 1)
            && a.get(head + 1) == b.get(head)
            && a.get(head).is_some();
        tail_of(a, b, 1, 1) || (swapped && tail_of(a, b, 2, 2))
    } else {
        tail_of(a, b, 0, 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn relatives_and_misspellings() {
        assert!(related("summari", "summar"));
        assert!(related("analysi", "analyz"));
        assert!(!related("report", "repeat"));
        assert!(misspelt("wether", "weather"));
        assert!(misspelt("wheater", "wheatre"));
        assert!(misspelt("stokcs", "stocks"));
        assert!(!misspelt("light", "night"));
        assert!(!misspelt("light", "lights2x"));
    }
}
