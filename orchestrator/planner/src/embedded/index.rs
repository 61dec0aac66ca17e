//! A catalogue's cards, prepared so that a query is ranked against all of them in microseconds.
//!
//! Knows no query and no user; built once per catalogue.

use std::collections::{BTreeMap, HashMap};

use amcp_plan::Catalogue;

use super::card::Card;
use super::kind::Kind;
use super::text::{stem, tokens};
use super::words::{ASK, LIGHT, QUESTION, STOP, base, is, slips, synonyms};

/// What a word is worth where it stands. A capability's name and keywords were chosen to be found by; a description has
/// filler words; examples are many words each; params' names and values are said of other things as well.
const NAME: f32 = 3.0;
const KEYWORD: f32 = 2.5;
const DESCRIPTION: f32 = 1.0;
const EXAMPLE: f32 = 0.8;
const PARAM: f32 = 0.4;
const VALUE: f32 = 0.3;
/// A share's symbol or a company's name is hardly said of anything else.
const TICKER: f32 = 1.6;
/// Shortest word that may have a slip.
const SHORTEST: usize = 5;
/// BM25's k1, its usual value: how soon more of the same word stops counting.
const SATURATION: f32 = 1.2;
/// A verb like "show" says that something is wanted, hardly what.
const GENERIC: f32 = 0.3;
/// Words that are not on the card, but are synonyms, relatives or misspellings of one that is.
const SYNONYM: f32 = 0.8;
const RELATIVE: f32 = 0.6;
const MISSPELT: f32 = 0.85;

/// A word's worth for one capability.
#[derive(Debug, Clone, Copy)]
pub(super) struct Hit {
    pub(super) entry: usize,
    /// For ranking: weighs rare words more.
    pub(super) gain: f32,
    /// For deciding whether the capability is meant at all.
    pub(super) strength: f32,
}

#[derive(Debug)]
struct Term {
    stem: String,
    /// The words that have it, as far as the cards show them.
    forms: Vec<String>,
    hits: Vec<Hit>,
}

/// A catalogue, indexed.
#[derive(Debug)]
pub(super) struct Index {
    pub(super) cards: Vec<Card>,
    terms: Vec<Term>,
    by_stem: HashMap<String, usize>,
    by_name: HashMap<String, usize>,
}

/// What the cards say of a stem.
#[derive(Debug, Default)]
struct Weight {
    forms: Vec<String>,
    /// By entry: the worth, and whether it is more than a general verb there.
    by_entry: BTreeMap<usize, (f32, bool)>,
}

type Weights = BTreeMap<String, Weight>;

impl Index {
    pub(super) fn new(catalogue: &Catalogue) -> Self {
        let cards: Vec<Card> = catalogue.iter().map(Card::new).collect();
        let mut weights = Weights::new();
        for (entry, card) in cards.iter().enumerate() {
            weigh(&mut weights, entry, card);
        }
        let terms: Vec<Term> = weights
            .into_iter()
            .map(|(stem, weight)| term(stem, weight, cards.len()))
            .collect();
        let by_stem = terms.iter().enumerate().map(|(i, t)| (t.stem.clone(), i));
        Self {
            by_stem: by_stem.collect(),
            by_name: cards
                .iter()
                .enumerate()
                .map(|(i, card)| (card.name().to_owned(), i))
                .collect(),
            cards,
            terms,
        }
    }

    pub(super) fn card(&self, entry: usize) -> Option<&Card> {
        self.cards.get(entry)
    }

    pub(super) fn entry(&self, name: &str) -> Option<usize> {
        self.by_name.get(name).copied()
    }

    /// What a word of a query is worth for each capability. `guess` allows for relatives and misspellings, which costs a
    /// look at every term.
    pub(super) fn look_up(&self, lower: &str, stem_of_word: &str, guess: bool) -> Vec<Hit> {
        let find = |stem: &str| self.by_stem.get(stem).copied();
        // The name of a value is no form of another word: "Marketing" is no "market".
        let values = || {
            self.cards
                .iter()
                .flat_map(|card| &card.params)
                .flat_map(|p| &p.known)
        };
        let is_value = lower.ends_with("ing")
            && values().any(|k| k.words.iter().any(|(word, _)| word == lower));
        let other = |t: &Term| !t.forms.is_empty() && t.forms.iter().all(|form| form != lower);
        let term = find(stem_of_word).and_then(|t| self.terms.get(t));
        let is_value = is_value && term.is_some_and(other);
        let exact = find(stem_of_word).map(|t| (t, if is_value { RELATIVE / 2.0 } else { 1.0 }));
        let mut found: Vec<(usize, f32)> = exact.into_iter().collect();
        let others = synonyms(lower).chain(synonyms(base(lower)));
        found.extend(others.filter_map(|s| Some((find(&stem(s))?, SYNONYM))));
        if found.is_empty() && guess {
            // "colder", "warmest"
            let plain = ["er", "est"]
                .iter()
                .find_map(|ending| lower.strip_suffix(ending))
                .filter(|plain| plain.len() >= 4);
            found.extend(plain.and_then(find).map(|t| (t, SYNONYM)));
        }
        if found.is_empty() && guess {
            found.extend(self.alike(lower, stem_of_word));
        }
        let mut hits: Vec<Hit> = Vec::new();
        for (term, factor) in found {
            for hit in self.terms.get(term).into_iter().flat_map(|t| &t.hits) {
                let (gain, strength) = (hit.gain * factor, hit.strength * factor);
                match hits.iter_mut().find(|h| h.entry == hit.entry) {
                    Some(known) => {
                        (known.gain, known.strength) =
                            (known.gain.max(gain), known.strength.max(strength))
                    }
                    None => hits.push(Hit {
                        gain,
                        strength,
                        ..*hit
                    }),
                }
            }
        }
        hits
    }

    fn alike(&self, lower: &str, stem: &str) -> Option<(usize, f32)> {
        let alike = self.terms.iter().enumerate().filter_map(|(i, term)| {
            if term.forms.iter().any(|form| misspelt(lower, form)) {
                return Some((i, MISSPELT));
            }
            related(stem, &term.stem).then_some((i, RELATIVE))
        });
        alike.reduce(|best, next| if next.1 > best.1 { next } else { best })
    }
}

fn term(stem: String, Weight { forms, by_entry }: Weight, entries: usize) -> Term {
    #[expect(clippy::cast_precision_loss, reason = "catalogues are small")]
    let (n, df) = (entries as f32, by_entry.len() as f32);
    let rarity = |df: f32| (1.0 + (n - df + 0.5) / (df + 0.5)).ln();
    // 1 for a word that only one capability has, however many there are.
    let idf = rarity(df) / rarity(1.0);
    // A word that a family of capabilities shares still says that the family is meant; one on most cards says nothing.
    let spread = if df <= 2.0 || df / n <= 0.5 { 1.0 } else { 0.4 };
    let factor = if by_entry.values().any(|(_, plain)| *plain) {
        1.0
    } else {
        GENERIC
    };
    let hit = |(entry, (worth, _)): (usize, (f32, bool))| {
        let weight = factor * worth * (SATURATION + 1.0) / (worth + SATURATION);
        Hit {
            entry,
            gain: weight * idf,
            strength: weight * spread,
        }
    };
    Term {
        hits: by_entry.into_iter().map(hit).collect(),
        forms,
        stem,
    }
}

fn weigh(weights: &mut Weights, entry: usize, card: &Card) {
    let mut add = |word: &str, weight: f32| {
        let lower = word.to_lowercase();
        // A keyword counts whatever it is: "up" says something of a service.
        if !lower.is_empty() && (weight == KEYWORD || !is(&lower, STOP)) {
            let weights = weights.entry(stem(&lower)).or_default();
            let slot = weights.by_entry.entry(entry).or_default();
            let general = is(&lower, ASK | LIGHT) || is(&stem(&lower), ASK | LIGHT);
            *slot = (slot.0 + weight, slot.1 || !general);
            if !weights.forms.contains(&lower) {
                weights.forms.push(lower);
            }
        }
    };
    let capability = card.capability();
    capability
        .name
        .as_str()
        .split(['.', '_', '-'])
        .for_each(|part| add(part, NAME));
    // A keyword of several words gives each of them its share; a single one counts whatever it is.
    for keyword in &capability.keywords {
        let words: Vec<&str> = keyword.split_whitespace().collect();
        let single = words.len() == 1;
        // "out" says something of absences; "who" asks for anybody.
        let no_word = |w: &str| is(w, if single { QUESTION } else { STOP });
        let words = words.into_iter().filter(|w| !no_word(&w.to_lowercase()));
        words.for_each(|word| add(word, KEYWORD));
    }
    let description = tokens(&capability.description);
    description
        .iter()
        .filter(|t| t.is_word())
        .for_each(|t| add(&t.lower, DESCRIPTION));
    // Several examples with one word are no stronger than one.
    let mut raise = |stem: &str, weight: f32| {
        if !is(stem, STOP) {
            let slot = weights
                .entry(stem.to_owned())
                .or_default()
                .by_entry
                .entry(entry)
                .or_default();
            *slot = (slot.0.max(weight), slot.1 || !is(stem, ASK | LIGHT));
        }
    };
    card.examples
        .iter()
        .flatten()
        .for_each(|stem| raise(stem, EXAMPLE));
    for param in &card.params {
        param.words.iter().for_each(|word| raise(word, PARAM));
        let value = if param.kind == Kind::Ticker {
            TICKER
        } else {
            VALUE
        };
        param
            .known
            .iter()
            .flat_map(|known| &known.words)
            .for_each(|(_, stem)| raise(stem, value));
    }
}

/// Whether two stems are of one family, such as "summari" (summary) and "summar" (summarize).
fn related(a: &str, b: &str) -> bool {
    let common = a.bytes().zip(b.bytes()).take_while(|(x, y)| x == y).count();
    let longer = a.len().max(b.len());
    common >= 5 && common * 10 >= longer * 7
}

/// Whether a word is another one of five letters and more with a slip.
pub(super) fn misspelt(written: &str, meant: &str) -> bool {
    meant.len() >= SHORTEST && slips(written, meant)
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
        assert!(misspelt("gardn", "garden"));
        assert!(!misspelt("light", "night"));
        assert!(!misspelt("light", "lights2x"));
    }
}
