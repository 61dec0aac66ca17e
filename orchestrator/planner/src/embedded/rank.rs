//! A query beside an index: how much each part of the query says of each capability.
//!
//! Does not decide which capability is meant; see [`super::choose`].

use std::cell::RefCell;
use std::collections::HashMap;
use std::ops::Range;
use std::rc::Rc;

use super::card::Card;
use super::facts::Meaning;
use super::fill::{Filled, fill};
use super::index::{Hit, Index};
use super::kind::Kind;
use super::query::Query;
use super::text::{Token, TokenKind};
use super::words::{ASK, COMMAND, LIGHT, PREFACE, QUESTION, STOP, is, is_slip};

/// From here on a capability is meant: about what one unique keyword is worth; a word of a description alone is not.
pub(super) const PLACED: f32 = 1.2;
/// A word that says less of a capability than this does not stand for it.
pub(super) const NAMED: f32 = 0.2;
/// A word that says less of a capability than this does not explain it.
const EXPLAINS: f32 = 0.58;
/// What a value is worth that only the capability's params look like.
const SHAPED: f32 = 1.5;
/// What being like an example adds at most: enough to decide between capabilities that share their words.
const EXAMPLE: f32 = 0.8;
/// Words after "about" say what the thing is about, not what is wanted.
const ABOUT: f32 = 0.5;
/// Unknown words that are compared with every term, per query: keeps a hostile query cheap.
const MAX_GUESSES: usize = 64;
/// Longer parts are not like any example.
const MAX_EXAMPLE: usize = 40;

/// A capability's worth for a part of a query.
#[derive(Debug, Clone)]
pub(super) struct Ranked {
    pub(super) entry: usize,
    /// For ranking.
    pub(super) gain: f32,
    /// For deciding whether the capability is meant at all.
    pub(super) strength: f32,
}

/// A query beside the index that it is ranked against.
#[derive(Debug)]
pub(super) struct Reading<'a> {
    pub(super) query: &'a Query<'a>,
    pub(super) index: &'a Index,
    /// By token.
    hits: Vec<Vec<Hit>>,
    /// By token: the token before with the same stem.
    earlier: Vec<Option<usize>>,
    about: Vec<bool>,
    /// By token: a slip of a word of grammar, such as "liek".
    slips: Vec<bool>,
    /// What the user may change with.
    pub(super) changers: Vec<usize>,
    allowed: Vec<bool>,
    /// What was ranked and read is not ranked and read again.
    ranked: RefCell<HashMap<(usize, usize), Rc<Vec<Ranked>>>>,
    filled: RefCell<HashMap<(usize, usize, usize), Rc<Filled>>>,
}

impl<'a> Reading<'a> {
    pub(super) fn new(query: &'a Query<'a>, index: &'a Index, roles: Option<&[String]>) -> Self {
        let mut last: HashMap<&str, usize> = HashMap::new();
        let mut guesses = MAX_GUESSES;
        let mut hits: Vec<Vec<Hit>> = Vec::with_capacity(query.tokens.len());
        let mut earlier = Vec::with_capacity(query.tokens.len());
        for (at, token) in query.tokens.iter().enumerate() {
            let matchable = token.is_word() && query.fact(at).is_none();
            let known = last.insert(&token.stem, at).filter(|_| matchable);
            hits.push(match known {
                Some(known) => hits.get(known).cloned().unwrap_or_default(),
                None if matchable => {
                    // A capital inside of a sentence is a name, hence not misspelt.
                    let name = at > 0 && token.is_capitalised();
                    let guess = guesses > 0
                        && token.stem.len() >= 4
                        && !is(&token.lower, STOP | ASK | LIGHT)
                        && !name;
                    guesses -= usize::from(guess);
                    index.look_up(&token.lower, &token.stem, guess)
                }
                None => Vec::new(),
            });
            earlier.push(known);
        }
        let allowed = |card: &Card| roles.is_none_or(|roles| card.capability().allows(roles));
        let cards = || index.cards.iter().enumerate();
        let changers = cards().filter(|(_, card)| !card.reads() && !card.plans && allowed(card));
        let slip = |(token, hits): (&Token<'_>, &Vec<Hit>)| {
            hits.is_empty() && token.is_word() && !token.is_capitalised() && is_slip(&token.lower)
        };
        Self {
            about: about(query),
            slips: query.tokens.iter().zip(&hits).map(slip).collect(),
            changers: changers.map(|(entry, _)| entry).collect(),
            allowed: index.cards.iter().map(allowed).collect(),
            query,
            index,
            hits,
            earlier,
            ranked: RefCell::default(),
            filled: RefCell::default(),
        }
    }

    pub(super) fn is_allowed(&self, entry: usize) -> bool {
        self.allowed.get(entry).copied().unwrap_or(false)
    }

    pub(super) fn is_slip(&self, at: usize) -> bool {
        self.slips.get(at).copied().unwrap_or(false)
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
    pub(super) fn names(&self, at: usize, entry: usize) -> bool {
        self.worth(at, entry) > EXPLAINS
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
        for at in range.clone() {
            let repeated = self
                .earlier
                .get(at)
                .copied()
                .flatten()
                .is_some_and(|before| before >= range.start);
            let factor = if self.about.get(at) == Some(&true) {
                ABOUT
            } else {
                1.0
            };
            for hit in self
                .hits
                .get(at)
                .into_iter()
                .flatten()
                .filter(|_| !repeated)
            {
                if let Some(score) = scores.get_mut(hit.entry) {
                    *score = (score.0 + hit.gain * factor, score.1 + hit.strength);
                }
            }
        }
        self.add_shapes(&range, &mut scores);
        let scored = scores.into_iter().enumerate();
        let scored = scored.filter(|(entry, score)| score.0 > 0.0 && self.is_allowed(*entry));
        let mut ranked: Vec<Ranked> = scored
            .map(|(entry, (gain, strength))| Ranked {
                entry,
                gain: gain + self.likeness(entry, &range),
                strength,
            })
            .collect();
        // Stable: of equal ones the first by name, so that plans are reproducible.
        ranked.sort_by(|a, b| b.gain.total_cmp(&a.gain));
        ranked
    }

    /// Arithmetic, SQL and words that only one kind of value looks like are evidence for the capabilities that take them.
    fn add_shapes(&self, range: &Range<usize>, scores: &mut [(f32, f32)]) {
        let facts = self
            .query
            .facts
            .iter()
            .filter(|f| range.contains(&f.tokens.start));
        let takes = |kind: Kind, scores: &mut [(f32, f32)], worth: f32| {
            for (card, score) in self.index.cards.iter().zip(scores) {
                if card.params.iter().any(|p| p.kind == kind) {
                    *score = (score.0 + worth, score.1 + worth);
                }
            }
        };
        for fact in facts {
            if matches!(fact.meaning, Meaning::Expression(_)) {
                takes(Kind::Expression, scores, SHAPED);
            } else if matches!(fact.meaning, Meaning::Sql(_)) {
                takes(Kind::Sql, scores, 2.0 * SHAPED);
            }
        }
        let coded = |at: usize| {
            let token = self.query.token(at).filter(|t| t.kind == TokenKind::Word);
            token.is_some_and(|t| {
                t.text.chars().any(|c| c.is_ascii_digit()) && self.query.fact(at).is_none()
            })
        };
        for token in range
            .clone()
            .filter(|&at| coded(at))
            .filter_map(|at| self.query.token(at))
            .take(MAX_EXAMPLE)
        {
            for (card, score) in self.index.cards.iter().zip(&mut *scores) {
                let upper = token.text.to_uppercase();
                if card
                    .params
                    .iter()
                    .any(|p| p.patterned && p.accepted(&[&upper]).is_some())
                {
                    *score = (score.0 + SHAPED, score.1 + SHAPED);
                }
            }
        }
    }

    /// How much the words are like one of the examples.
    fn likeness(&self, entry: usize, range: &Range<usize>) -> f32 {
        let Some(card) = self
            .index
            .card(entry)
            .filter(|_| range.len() <= MAX_EXAMPLE)
        else {
            return 0.0;
        };
        let words = || {
            range
                .clone()
                .filter_map(|at| self.query.token(at))
                .filter(|t| t.is_word() && !is(&t.lower, STOP))
        };
        let count = words().count();
        let like = |example: &std::collections::BTreeSet<String>| {
            let shared = words().filter(|t| example.contains(&t.stem)).count();
            #[expect(clippy::cast_precision_loss, reason = "small counts")]
            let like = 2.0 * shared as f32 / (count + example.len()).max(1) as f32;
            like
        };
        EXAMPLE * card.examples.iter().map(like).fold(0.0, f32::max).min(1.0)
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
        words.find(|&at| {
            !is(self.query.lower(at), PREFACE) && !matches!(self.query.lower(at), "," | ":")
        })
    }

    /// Whether the words start like a command or a question.
    pub(super) fn opens(&self, range: &Range<usize>) -> bool {
        let Some(first) = self.first_word(range) else {
            return false;
        };
        let opens = |at: usize| is(self.query.lower(at), ASK | LIGHT | COMMAND | QUESTION);
        (range.start..=first).any(opens) || matches!(self.query.lower(first + 1), "me" | "us")
    }

    pub(super) fn has_content(&self, mut range: Range<usize>) -> bool {
        range.any(|at| self.query.is_content(at))
    }
}

/// Which tokens stand in a phrase that begins with "about".
fn about(query: &Query<'_>) -> Vec<bool> {
    let mut inside = false;
    let tokens = query.tokens.iter();
    tokens
        .map(|token| {
            let word = token.lower.as_str();
            let ends = matches!(token.kind, TokenKind::Mark | TokenKind::Line)
                || matches!(word, "and" | "then");
            inside = (inside && !ends) || matches!(word, "about" | "regarding" | "concerning");
            inside
        })
        .collect()
}
