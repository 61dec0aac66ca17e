//! Ranks the capabilities against a part of a query.
//!
//! Does not decide where a query is divided, nor what the params are.

use std::cell::{Cell, OnceCell};
use std::collections::HashMap;
use std::ops::Range;

use super::facts::Meaning;
use super::fill::{Filled, Reach, fill};
use super::index::{Hit, Index};
use super::kind::Kind;
use super::query::Query;
use super::text::TokenKind;
use super::words::{is_command, is_generic, is_preface, is_question, is_stop};

/// From here on a capability is meant: about what one unique keyword is worth; a word of a description alone is not.
pub(super) const PLACED: f32 = 1.2;
/// What being like an example adds at most: enough to decide between capabilities that share their words.
const EXAMPLE: f32 = 0.8;
/// Words after "about" say what the thing is about, not what is wanted.
const ABOUT: f32 = 0.5;
/// What less than this says, is said of many things.
const MENTION: f32 = 0.5;
/// Unknown words that are compared with every term, per query: keeps a hostile query cheap.
const MAX_GUESSES: usize = 64;
/// Steps of the search for suppliers, per query: a catalogue whose capabilities all feed each other has very many ways.
const MAX_SEARCHES: usize = 1_000;
/// Longer parts are not like any example.
const MAX_EXAMPLE_TOKENS: usize = 40;

/// A capability's worth for a part of a query.
#[derive(Debug, Clone)]
pub(super) struct Ranked {
    pub(super) entry: usize,
    pub(super) gain: f32,
    pub(super) strength: f32,
}

/// A query beside the index that it is ranked against.
#[derive(Debug)]
pub(super) struct Reading<'a> {
    pub(super) query: &'a Query<'a>,
    pub(super) index: &'a Index,
    /// By token.
    pub(super) hits: Vec<Vec<Hit>>,
    terms: Vec<Option<usize>>,
    /// The token before with the same stem.
    earlier: Vec<Option<usize>>,
    about: Vec<bool>,
    allowed: Vec<bool>,
    /// What the whole query says about each capability's params, read when it is asked for.
    elsewhere: Vec<OnceCell<Filled>>,
    searches: Cell<usize>,
}

impl<'a> Reading<'a> {
    pub(super) fn new(query: &'a Query<'a>, index: &'a Index, allowed: Vec<bool>) -> Self {
        let mut last: HashMap<&str, usize> = HashMap::new();
        let mut guesses = MAX_GUESSES;
        let mut reading = Self {
            query,
            index,
            hits: Vec::with_capacity(query.tokens.len()),
            terms: Vec::with_capacity(query.tokens.len()),
            earlier: Vec::with_capacity(query.tokens.len()),
            about: about(query),
            allowed,
            elsewhere: index.entries.iter().map(|_| OnceCell::new()).collect(),
            searches: Cell::new(MAX_SEARCHES),
        };
        for (at, token) in query.tokens.iter().enumerate() {
            let matchable =
                token.is_word() && !is_stop(&token.lower) && query.in_fact.get(at) != Some(&true);
            let known = last.insert(&token.stem, at).filter(|_| matchable);
            let hits = if let Some(known) = known {
                reading.hits.get(known).cloned().unwrap_or_default()
            } else if matchable {
                let guess = guesses > 0
                    && token.stem.len() >= 4
                    && !is_generic(&token.lower)
                    && !token.is_capitalised_name(at);
                let hits = index.look_up(&token.lower, &token.stem, guess);
                guesses -= usize::from(guess);
                hits
            } else {
                Vec::new()
            };
            reading.hits.push(hits);
            reading
                .terms
                .push(matchable.then(|| index.term(&token.stem)).flatten());
            reading.earlier.push(known);
        }
        reading
    }

    pub(super) fn is_allowed(&self, entry: usize) -> bool {
        self.allowed.get(entry).copied().unwrap_or(false)
    }

    /// What the whole query says about a capability's params.
    pub(super) fn elsewhere(&self, entry: usize) -> &Filled {
        static NOTHING: Filled = Filled::NOTHING;
        let (Some(cell), Some(card)) = (self.elsewhere.get(entry), self.index.entry(entry)) else {
            return &NOTHING;
        };
        let all = 0..self.query.tokens.len();
        cell.get_or_init(|| fill(self.query, &card.spec, all, Reach::Elsewhere, &[]))
    }

    /// Whether another step of the search for suppliers may be made.
    pub(super) fn may_search(&self) -> bool {
        let left = self.searches.get();
        self.searches.set(left.saturating_sub(1));
        left > 0
    }

    /// The most that any single word of the query says of a capability; slight mentions are none.
    pub(super) fn evidence(&self, entry: usize) -> f32 {
        let hits = self.hits.iter().flatten().filter(|h| h.entry == entry);
        let best = hits.map(|h| h.strength).fold(0.0, f32::max);
        if best < MENTION { 0.0 } else { best }
    }

    /// Whether the words of `range` name the capability otherwise than by a command: "summarize" names no expenses.
    pub(super) fn is_named(&self, entry: usize, range: &Range<usize>) -> bool {
        range.clone().any(|at| {
            let hits = self.hits.get(at).map_or(&[][..], Vec::as_slice);
            let named = hits
                .iter()
                .any(|h| h.entry == entry && h.strength >= MENTION);
            named && !is_command(self.query.lower(at))
        })
    }

    /// The capabilities that the words of `range` speak of, the best one first.
    pub(super) fn rank(&self, range: Range<usize>) -> Vec<Ranked> {
        let mut scores: Vec<Ranked> = (0..self.index.entries.len())
            .map(|entry| Ranked {
                entry,
                gain: 0.0,
                strength: 0.0,
            })
            .collect();
        for at in range.clone() {
            let repeated = self
                .earlier
                .get(at)
                .copied()
                .flatten()
                .is_some_and(|before| before >= range.start);
            if repeated {
                continue;
            }
            let factor = if self.about.get(at) == Some(&true) {
                ABOUT
            } else {
                1.0
            };
            for hit in self.hits.get(at).into_iter().flatten() {
                if let Some(score) = scores.get_mut(hit.entry) {
                    score.gain += hit.gain * factor;
                    score.strength += hit.strength;
                }
            }
        }
        self.add_facts(range.clone(), &mut scores);
        self.add_examples(range, &mut scores);
        scores.retain(|s| s.gain > 0.0 && self.is_allowed(s.entry));
        // Work is handed on only where nobody here is meant, and then to whoever is there for the least else. Stable: of
        // equal ones the first by name, so that plans are reproducible.
        let placed = |s: &Ranked| s.strength >= PLACED && !self.plans(s.entry);
        let own = scores.iter().any(placed);
        scores.sort_by(|a, b| {
            let handed_on = |s: &Ranked| own && self.plans(s.entry);
            handed_on(a)
                .cmp(&handed_on(b))
                .then(b.gain.total_cmp(&a.gain))
                .then(self.breadth(a.entry).cmp(&self.breadth(b.entry)))
        });
        scores
    }

    /// Whether a capability takes whole requests.
    pub(super) fn plans(&self, entry: usize) -> bool {
        self.index.entry(entry).is_some_and(|e| e.spec.plans)
    }

    /// How many words stand for one that takes requests.
    fn breadth(&self, entry: usize) -> usize {
        let card = self.index.entry(entry).filter(|e| e.spec.plans);
        card.map_or(0, |e| e.spec.words.len())
    }

    /// Whether the words stand for something by themselves.
    pub(super) fn stands(&self, range: Range<usize>) -> Option<usize> {
        self.rank(range)
            .into_iter()
            .find(|r| r.strength >= PLACED)
            .map(|r| r.entry)
    }

    /// Whether the words start like a command or a question.
    pub(super) fn opens(&self, range: Range<usize>) -> bool {
        let mut words =
            range.skip_while(|&at| is_preface(self.query.lower(at)) || self.query.lower(at) == ",");
        let (Some(first), second) = (words.next(), words.next()) else {
            return false;
        };
        let word = self.query.lower(first);
        is_command(word)
            || is_question(word)
            || second.is_some_and(|at| matches!(self.query.lower(at), "me" | "us"))
    }

    pub(super) fn has_content(&self, mut range: Range<usize>) -> bool {
        range.any(|at| self.query.is_content(at))
    }

    /// Expressions, symbols and SQL are evidence for the capabilities that take them.
    fn add_facts(&self, range: Range<usize>, scores: &mut [Ranked]) {
        for fact in self
            .query
            .facts
            .iter()
            .filter(|f| range.contains(&f.tokens.start))
        {
            let (kind, gain, strength) = match fact.meaning {
                Meaning::Expression(_) => {
                    let others = range
                        .clone()
                        .filter(|&at| {
                            self.query.in_fact.get(at) == Some(&false) && self.query.is_content(at)
                        })
                        .count();
                    (
                        Kind::Expression,
                        if others <= 2 { 1.5 } else { 0.5 },
                        if others <= 2 { 1.5 } else { 0.0 },
                    )
                }
                Meaning::Sql(_) => (Kind::Sql, 3.0, 3.0),
                Meaning::Email(_) => (Kind::Email, 0.3, 0.0),
                Meaning::Url(_) => (Kind::Url, 0.3, 0.0),
                Meaning::Quarter { .. } => (Kind::Quarter, 0.2, 0.0),
                Meaning::Date(_)
                | Meaning::Month { .. }
                | Meaning::Year(_)
                | Meaning::Time(_)
                | Meaning::Number { .. }
                | Meaning::Quoted(_) => continue,
            };
            for score in &mut *scores {
                let takes = self
                    .index
                    .entry(score.entry)
                    .is_some_and(|e| e.spec.params.iter().any(|p| p.kind == kind));
                if takes {
                    score.gain += gain;
                    score.strength += strength;
                }
            }
        }
    }

    fn add_examples(&self, range: Range<usize>, scores: &mut [Ranked]) {
        if range.len() > MAX_EXAMPLE_TOKENS {
            return;
        }
        let content: Vec<usize> = range
            .filter(|&at| self.query.is_content(at) && self.query.in_fact.get(at) == Some(&false))
            .collect();
        for score in scores.iter_mut().filter(|s| s.gain > 0.0) {
            let examples = self
                .index
                .entry(score.entry)
                .map_or(&[][..], |e| e.examples.as_slice());
            let likeness = |example: &std::collections::BTreeSet<usize>| {
                let shared = content
                    .iter()
                    .filter_map(|&at| self.terms.get(at).copied().flatten())
                    .filter(|t| example.contains(t))
                    .count();
                #[expect(clippy::cast_precision_loss, reason = "small counts")]
                let likeness = 2.0 * shared as f32 / (content.len() + example.len()).max(1) as f32;
                likeness
            };
            let best = examples.iter().map(likeness).fold(0.0, f32::max);
            score.gain += EXAMPLE * best.min(1.0);
        }
    }
}

/// Which tokens stand in a phrase that begins with "about".
fn about(query: &Query<'_>) -> Vec<bool> {
    let mut inside = false;
    query
        .tokens
        .iter()
        .map(|token| {
            let ends = matches!(token.kind, TokenKind::Mark | TokenKind::Line)
                || matches!(token.lower.as_str(), "and" | "then");
            inside = (inside && !ends)
                || matches!(token.lower.as_str(), "about" | "regarding" | "concerning");
            inside
        })
        .collect()
}
