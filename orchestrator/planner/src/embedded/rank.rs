//! A query beside an index: how much each part of the query says of each capability.
//!
//! Does not decide which capability is meant; see [`super::choose`].

use std::cell::RefCell;
use std::collections::HashMap;
use std::ops::Range;
use std::rc::Rc;

use amcp_protocol::Access;

use super::card::{Card, Param};
use super::facts::Meaning;
use super::fill::{Filled, fill};
use super::index::{Hit, Index};
use super::kind::Kind;
use super::query::Query;
use super::text::Token;
use super::words::{ASK, COMMAND, LIGHT, PREFACE, QUESTION, STOP};

/// From here on a capability is meant: about what one unique keyword is worth; a word of a description alone is not.
pub(super) const PLACED: f32 = 1.2;
/// A word that says less of a capability than this does not stand for it.
pub(super) const NAMED: f32 = 0.2;
/// A word that says less of a capability than this does not explain it.
const EXPLAINS: f32 = 0.58;
/// What a value is worth that only the capability's params look like.
const SHAPED: f32 = 1.5;
/// Codes of a part that are compared with every param that has a pattern.
const MAX_CODES: usize = 40;
/// Unknown words that are compared with every term, per query: keeps a hostile query cheap.
const MAX_GUESSES: usize = 64;
/// A capability's worth for a part of a query.
#[derive(Debug, Clone)]
pub(super) struct Ranked {
    pub(super) entry: usize,
    /// For ranking.
    pub(super) gain: f32,
    /// For deciding whether the capability is meant at all.
    pub(super) strength: f32,
}

/// What was found out once.
type Known<K, V> = RefCell<HashMap<K, Rc<V>>>;

/// A query beside the index that it is ranked against.
#[derive(Debug)]
pub(super) struct Reading<'a> {
    pub(super) query: &'a Query<'a>,
    pub(super) index: &'a Index,
    /// By token.
    hits: Vec<Vec<Hit>>,
    /// What the user may change with.
    pub(super) changers: Vec<usize>,
    allowed: Vec<bool>,
    /// What was ranked and read is not ranked and read again.
    ranked: Known<(usize, usize), Vec<Ranked>>,
    filled: Known<(usize, usize, usize), Filled>,
}

impl<'a> Reading<'a> {
    pub(super) fn new(query: &'a Query<'a>, index: &'a Index, access: Option<&Access>) -> Self {
        let mut guesses = MAX_GUESSES;
        let mut hits: Vec<Vec<Hit>> = Vec::with_capacity(query.tokens.len());
        for (at, token) in query.tokens.iter().enumerate() {
            let matchable = token.is_word() && query.fact(at).is_none();
            hits.push(match matchable {
                true => {
                    // A capital inside of a sentence is a name, hence not misspelt.
                    let name = at > 0 && token.is_capitalised();
                    let guess = guesses > 0
                        && token.stem.len() >= 4
                        && !token.has(STOP | ASK | LIGHT)
                        && !name;
                    guesses -= usize::from(guess);
                    index.look_up(&token.lower, &token.stem, guess)
                }
                false => Vec::new(),
            });
        }
        let allowed = |card: &Card| access.is_none_or(|access| access.allows(card.capability()));
        let cards = || index.cards.iter().enumerate();
        let changers = cards().filter(|(_, card)| !card.reads() && !card.plans && allowed(card));
        Self {
            changers: changers.map(|(entry, _)| entry).collect(),
            allowed: index.cards.iter().map(allowed).collect(),
            query,
            index,
            hits,
            ranked: RefCell::default(),
            filled: RefCell::default(),
        }
    }

    pub(super) fn is_allowed(&self, entry: usize) -> bool {
        self.allowed.get(entry).copied().unwrap_or(false)
    }

    /// What a part of the query says about a capability's params.
    pub(super) fn fill(&self, entry: usize, range: &Range<usize>) -> Rc<Filled> {
        let key = (entry, range.start, range.end);
        if let Some(known) = self.filled.borrow().get(&key) {
            return Rc::clone(known);
        }
        let card = self.index.card(entry);
        let filled = Rc::new(
            card.map(|card| fill(self.query, card, range.clone(), 0.0))
                .unwrap_or_default(),
        );
        self.filled.borrow_mut().insert(key, Rc::clone(&filled));
        filled
    }

    /// Whether a word stands for a capability itself, not for a param or a value of it.
    /// A name does only if it is among the card's own words.
    pub(super) fn names(&self, at: usize, entry: usize, name: bool) -> bool {
        (self.worth(at, entry) > EXPLAINS && !name)
            || self.query.token(at).is_some_and(|t| {
                self.index
                    .card(entry)
                    .is_some_and(|card| card.words.contains(&t.stem))
            })
    }

    /// How much a word says of a capability.
    pub(super) fn worth(&self, at: usize, entry: usize) -> f32 {
        let hit = self.hits(at).iter().find(|hit| hit.entry == entry);
        hit.map_or(0.0, |hit| hit.strength)
    }

    /// All capabilities that a word speaks of.
    pub(super) fn hits(&self, at: usize) -> &[Hit] {
        self.hits.get(at).map_or(&[], Vec::as_slice)
    }

    /// The capabilities that the words of `range` speak of, the best one first.
    pub(super) fn rank(&self, range: Range<usize>) -> Rc<Vec<Ranked>> {
        let key = (range.start, range.end);
        if let Some(known) = self.ranked.borrow().get(&key) {
            return Rc::clone(known);
        }
        let ranked = Rc::new(self.ranked_anew(range));
        self.ranked.borrow_mut().insert(key, Rc::clone(&ranked));
        ranked
    }

    fn ranked_anew(&self, range: Range<usize>) -> Vec<Ranked> {
        let mut scores: Vec<(f32, f32)> = vec![(0.0, 0.0); self.index.cards.len()];
        for hit in range.clone().flat_map(|at| self.hits(at)) {
            if let Some(score) = scores.get_mut(hit.entry) {
                *score = (score.0 + hit.gain, score.1 + hit.strength);
            }
        }
        self.add_shapes(&range, &mut scores);
        let scored = scores.into_iter().enumerate();
        let scored = scored.filter(|(entry, score)| score.0 > 0.0 && self.is_allowed(*entry));
        let mut ranked: Vec<Ranked> = scored
            .map(|(entry, (gain, strength))| Ranked {
                entry,
                gain,
                strength,
            })
            .collect();
        // Stable: of equal ones the first by name, so that plans are reproducible.
        ranked.sort_by(|a, b| b.gain.total_cmp(&a.gain));
        ranked
    }

    /// Arithmetic, SQL and codes such as "AB-12345" are evidence for the capabilities that take them.
    fn add_shapes(&self, range: &Range<usize>, scores: &mut [(f32, f32)]) {
        let mut takes = |fits: &dyn Fn(&Param) -> bool, worth: f32| {
            let cards = self.index.cards.iter().zip(&mut *scores);
            for (_, score) in cards.filter(|(card, _)| card.params.iter().any(fits)) {
                *score = (score.0 + worth, score.1 + worth);
            }
        };
        let digit = |t: &&Token<'_>| t.text.contains(|c: char| c.is_ascii_digit());
        let free = range.clone().filter(|&at| self.query.fact(at).is_none());
        let codes = free.filter_map(|at| self.query.token(at).filter(digit));
        for code in codes.take(MAX_CODES).map(|t| t.text.to_uppercase()) {
            takes(&|p| p.patterned && p.accepted(&[&code]).is_some(), SHAPED);
        }
        let facts = self.query.facts.iter();
        for fact in facts.filter(|fact| range.contains(&fact.tokens.start)) {
            match fact.meaning {
                Meaning::Expression(_) => takes(&|p| p.kind == Kind::Expression, SHAPED),
                Meaning::Sql(_) => takes(&|p| p.kind == Kind::Sql, 2.0 * SHAPED),
                Meaning::Span(_)
                | Meaning::Time(_)
                | Meaning::Number(..)
                | Meaning::Quoted(_)
                | Meaning::Email(_)
                | Meaning::Url(_) => {}
            }
        }
    }

    /// Whether a capability takes whole requests.
    pub(super) fn plans(&self, entry: usize) -> bool {
        self.index.card(entry).is_some_and(|card| card.plans)
    }

    /// The capability that the words stand for by themselves; one that takes requests only where no other is meant.
    pub(super) fn stands(&self, range: Range<usize>) -> Option<usize> {
        let ranked = self.rank(range);
        let placed = || ranked.iter().filter(|r| r.strength >= PLACED);
        let own = placed().find(|r| !self.plans(r.entry));
        own.or_else(|| placed().next()).map(|r| r.entry)
    }

    /// The first word that is no mere preface.
    pub(super) fn first_word(&self, range: &Range<usize>) -> Option<usize> {
        let mut words = range.clone();
        words.find(|&at| !self.query.is(at, PREFACE) && !matches!(self.query.lower(at), "," | ":"))
    }

    /// Whether the words start like a command or a question.
    pub(super) fn opens(&self, range: &Range<usize>) -> bool {
        let Some(first) = self.first_word(range) else {
            return false;
        };
        let opens = |at: usize| self.query.is(at, ASK | LIGHT | COMMAND | QUESTION);
        (range.start..=first).any(opens) || matches!(self.query.lower(first + 1), "me" | "us")
    }

    pub(super) fn has_content(&self, mut range: Range<usize>) -> bool {
        range.any(|at| self.query.is_content(at))
    }
}
