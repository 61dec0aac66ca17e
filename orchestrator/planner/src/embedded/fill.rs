//! Fills the params of one capability from a part of a query: finds all candidates, then lets the strongest have its words.
//!
//! Does not choose the capability, and never invents a value: a param that the words do not give stays empty.

use std::collections::BTreeMap;
use std::ops::Range;

use serde_json::{Map, Value};

use super::card::{Card, Known, Param, Role};
use super::facts::{Fact, Meaning};
use super::kind::Kind;
use super::lexicon::unit_seconds;
use super::names;
use super::query::Query;
use super::spell;
use super::text::TokenKind;
use super::words::{ACRONYM, COMMAND, FREE, Mark, PREFACE, is, is_article, is_joint};

/// Facts of one part that are looked at: more are not typed by people, and each is tried with each param.
const MAX_FACTS: usize = 64;
/// Most candidates of one part: bounds the assignment of a hostile text.
const MAX_CANDIDATES: usize = 256;

/// From this weight on a value is unmistakable.
pub(super) const SURE: f32 = 3.0;

/// What the words say about a capability's params.
#[derive(Debug, Default, Clone)]
pub(super) struct Filled {
    /// By the param's name; more than one value where the user listed several and the param takes one.
    pub(super) values: BTreeMap<String, Vec<Value>>,
    /// The tokens that became values, or announce them.
    pub(super) used: Vec<usize>,
    /// The values that the words left open.
    pub(super) notes: Vec<String>,
}

impl Filled {
    pub(super) fn uses(&self, at: usize) -> bool {
        self.used.binary_search(&at).is_ok()
    }

    /// The params with the first of each listed values.
    pub(super) fn first(&self) -> Map<String, Value> {
        let first = self.values.iter();
        first
            .filter_map(|(name, values)| Some((name.clone(), values.first()?.clone())))
            .collect()
    }
}

/// A value for a param, and the words that give it.
#[derive(Debug)]
pub(super) struct Candidate {
    /// A span may need two.
    pub(super) sets: Vec<(usize, Value)>,
    pub(super) tokens: Range<usize>,
    /// The words that announce it.
    pub(super) cue: Range<usize>,
    /// How surely the words mean the param. 5 and more: they name the value; 2 to 4: they announce it; below: they could mean it.
    pub(super) weight: f32,
    pub(super) note: Option<String>,
}

impl Candidate {
    pub(super) fn new(param: usize, value: Value, tokens: Range<usize>, weight: f32) -> Self {
        Self {
            sets: vec![(param, value)],
            cue: tokens.start..tokens.start,
            tokens,
            weight,
            note: None,
        }
    }
}

/// Fills what `range` says about a card's params; candidates below the weight `least` are no values.
pub(super) fn fill(query: &Query<'_>, card: &Card, range: Range<usize>, least: f32) -> Filled {
    let words = Words { query, card, range };
    let mut candidates = Vec::new();
    for (index, param) in card.params.iter().enumerate() {
        candidates.extend(words.request(index, param));
        candidates.extend(words.flag(index, param));
        words.known(index, param, &mut candidates);
        words.shaped(index, param, &mut candidates);
        names::candidates(&words, index, param, &mut candidates);
    }
    words.facts(&mut candidates);
    candidates.retain(|candidate| candidate.weight >= least);
    candidates.truncate(MAX_CANDIDATES);
    words.assign(candidates)
}

/// A part of a query beside a card.
pub(super) struct Words<'a> {
    pub(super) query: &'a Query<'a>,
    pub(super) card: &'a Card,
    pub(super) range: Range<usize>,
}

impl Words<'_> {
    /// Whether the word is one that the capability is known by.
    pub(super) fn is_own(&self, at: usize) -> bool {
        self.query
            .token(at)
            .is_some_and(|t| self.card.own.contains(&t.stem))
    }

    /// The word before a place, articles and signs aside.
    pub(super) fn word_before(&self, at: usize) -> &str {
        let before = (self.range.start..at).rev().map(|i| self.query.lower(i));
        before
            .take(4)
            .find(|w| !is_article(w) && !matches!(*w, "$" | "€" | "£"))
            .unwrap_or_default()
    }

    /// Whether the words before a place mark it as the param wants it; then the words that do.
    pub(super) fn marked(&self, param: &Param, at: usize) -> Option<Range<usize>> {
        let mark = self
            .query
            .mark(at)
            .filter(|(_, cue)| cue.start >= self.range.start);
        match (param.role, mark) {
            (Some(Role::Except), Some((Mark::Except, cue)))
            | (Some(Role::Least), Some((Mark::Least, cue)))
            | (Some(Role::Most), Some((Mark::Most, cue))) => Some(cue.clone()),
            (Some(Role::Except | Role::Least | Role::Most), _) | (_, Some(_)) => None,
            (_, None) => Some(at..at),
        }
    }

    fn request(&self, index: usize, param: &Param) -> Option<Candidate> {
        if param.kind != Kind::Request {
            return None;
        }
        let text = self.query.slice(self.range.clone());
        let text = text.trim_matches(|c: char| c.is_whitespace() || matches!(c, ',' | ';'));
        let value = param.accepted(&[text]).filter(|_| !text.is_empty())?;
        Some(Candidate::new(index, value, self.range.clone(), 10.0))
    }

    /// "unread", "not in stock".
    fn flag(&self, index: usize, param: &Param) -> Option<Candidate> {
        let lead = |w: &&String| {
            matches!(
                w.as_str(),
                "is" | "has" | "with" | "includ" | "only" | "show"
            )
        };
        let words: Vec<&String> = param.words.iter().skip_while(lead).collect();
        let says = |at: &usize| {
            let tokens = (*at..self.range.end).filter_map(|at| self.query.token(at));
            param.kind == Kind::Flag
                && !words.is_empty()
                && at + words.len() <= self.range.end
                && tokens.zip(&words).all(|(t, w)| t.stem == **w)
        };
        let at = self.range.clone().find(says)?;
        let negated = (at.saturating_sub(2)..at)
            .find(|&i| matches!(self.query.lower(i), "no" | "not" | "without" | "non"));
        let mut candidate = Candidate::new(
            index,
            Value::Bool(negated.is_none()),
            at..at + words.len(),
            4.0,
        );
        candidate.cue = negated.unwrap_or(at)..at;
        Some(candidate)
    }

    /// Known values by their words.
    fn known(&self, index: usize, param: &Param, candidates: &mut Vec<Candidate>) {
        if param.known.is_empty() {
            return;
        }
        for at in self.range.clone() {
            let spelt = param.known.iter().filter(|known| self.spells(known, at));
            // Of equal ones the first: an enumeration may list two spellings.
            let longest = spelt.reduce(|best, next| {
                if next.words.len() > best.words.len() {
                    next
                } else {
                    best
                }
            });
            let (Some(known), Some(cue)) = (longest, self.marked(param, at)) else {
                continue;
            };
            let before = self.word_before(at);
            let announced = param.cues.contains(before) || !cue.is_empty();
            // "by category", but not "the category".
            if param.grouped
                && !matches!(before, "by" | "per" | "each" | "every" | "which" | "across")
            {
                continue;
            }
            let tokens = at..at + known.words.len();
            let weight =
                5.0 + f32::from(u8::from(announced)) + if param.required { 0.4 } else { 0.0 };
            let mut candidate = Candidate::new(index, known.value.clone(), tokens, weight);
            candidate.cue = cue;
            candidates.push(candidate);
        }
    }

    /// Whether a value's words stand at a place. A noun in "-ing" is not its verb: "train" is no "training".
    fn spells(&self, known: &Known, at: usize) -> bool {
        let same = |(i, (word, stem)): (usize, &(String, String))| {
            let Some(token) = self
                .query
                .token(at + i)
                .filter(|t| t.is_word() || t.number().is_some())
            else {
                return false;
            };
            let noun = token.lower.ends_with("ing") == word.ends_with("ing");
            // What is to be done is no state of what is there: "pay the bills".
            let verb = self.card.reads()
                && is(&token.lower, COMMAND)
                && (self.range.start..at).all(|i| is(self.query.lower(i), PREFACE));
            token.lower == *word
                || (token.stem == *stem && noun && !verb && known_by_stem(&token.lower))
                || is_misspelt(token, word)
        };
        at + known.words.len() <= self.range.end && known.words.iter().enumerate().all(same)
    }

    /// Words that only a value looks like: "AB-12345", "$AAPL".
    fn shaped(&self, index: usize, param: &Param, candidates: &mut Vec<Candidate>) {
        let ticker = param.kind == Kind::Ticker;
        let named = matches!(param.kind, Kind::Name | Kind::Topic | Kind::Text);
        if !(ticker || param.patterned && named) {
            return;
        }
        for at in self.range.clone() {
            let Some(token) = self
                .query
                .token(at)
                .filter(|t| t.is_word() || t.number().is_some())
            else {
                continue;
            };
            let name = token.name();
            let upper = name.chars().all(|c| c.is_ascii_uppercase() || c == '.')
                && (2..=5).contains(&name.len());
            let coded = name.chars().any(|c| c.is_ascii_digit());
            let fits =
                upper || (coded && param.patterned) || (ticker && self.query.before(at) == "$");
            let plain = is(&token.lower, FREE) || self.is_own(at) || is(&token.lower, ACRONYM);
            // A sign belongs to the word that it touches: "#general".
            let signed = at > self.range.start
                && !token.spaced
                && self
                    .query
                    .token(at - 1)
                    .is_some_and(|t| t.kind == TokenKind::Mark);
            let with_sign = self.query.slice(at - usize::from(signed)..at + 1);
            let sign = param
                .accepted(&[with_sign])
                .filter(|_| signed && param.patterned);
            let value = param
                .accepted(&[name, &name.to_uppercase()])
                .filter(|_| fits && !plain)
                .or(sign);
            if let (Some(value), Some(cue)) = (value, self.marked(param, at)) {
                let mut candidate = Candidate::new(index, value, at..at + 1, 4.5);
                candidate.cue = cue;
                candidates.push(candidate);
            }
        }
    }

    /// Dates, numbers, addresses and quoted texts.
    fn facts(&self, candidates: &mut Vec<Candidate>) {
        let facts = || {
            let all = self.query.facts.iter().take(MAX_FACTS);
            all.filter(|f| f.tokens.start >= self.range.start && f.tokens.end <= self.range.end)
        };
        let day = facts().find_map(|f| {
            let span = f.span().filter(|span| span.from == span.to)?;
            Some((span.from?, f.tokens.clone()))
        });
        for fact in facts() {
            let Some(span) = fact.span() else {
                self.fact(fact, day.as_ref(), candidates);
                continue;
            };
            let said = self.query.slice(fact.tokens.clone());
            let note = || format!("'{said}' is taken as {}", span.told());
            let ways = spell::span(&self.card.params, span).into_iter();
            candidates.extend(ways.enumerate().map(|(rank, sets)| Candidate {
                sets,
                tokens: fact.tokens.clone(),
                cue: fact.tokens.start..fact.tokens.start,
                weight: if rank == 0 { 6.0 } else { 5.9 },
                note: span.assumed.then(note),
            }));
        }
    }

    fn fact(
        &self,
        fact: &Fact,
        day: Option<&(jiff::civil::Date, Range<usize>)>,
        candidates: &mut Vec<Candidate>,
    ) {
        for (index, param) in self.card.params.iter().enumerate() {
            let found = match (&fact.meaning, param.kind) {
                (Meaning::Time(time), Kind::Time | Kind::DateTime) => {
                    let date = day.map_or(self.query.today, |(date, _)| *date);
                    spell::time(param, *time, Some(date)).map(|value| (value, 6.5))
                }
                (Meaning::Number(value, unit), Kind::Number) => self
                    .number_weight(param, fact, *unit)
                    .and_then(|weight| Some((spell::number(param, *value, *unit)?, weight))),
                (Meaning::Expression(text), Kind::Expression)
                | (Meaning::Email(text), Kind::Email)
                | (Meaning::Url(text), Kind::Url) => {
                    param.accepted(&[text]).map(|value| (value, 6.0))
                }
                (Meaning::Sql(text), Kind::Sql) => {
                    param.accepted(&[text]).map(|value| (value, 9.0))
                }
                // An address is as good a name as any, where the schema takes it.
                (Meaning::Email(text) | Meaning::Url(text), Kind::Name)
                    if names::is_cue(param, self.word_before(fact.tokens.start)) =>
                {
                    param.accepted(&[text]).map(|value| (value, 3.0))
                }
                (Meaning::Quoted(text), Kind::Text | Kind::Content | Kind::Topic | Kind::Name) => {
                    let announced = param.cues.contains(self.word_before(fact.tokens.start));
                    let order = if matches!(param.kind, Kind::Text | Kind::Content) {
                        5.0
                    } else {
                        4.8
                    };
                    let wanted =
                        if param.required { 0.4 } else { 0.0 } + if announced { 1.0 } else { 0.0 };
                    let meant = announced || param.required || param.kind != Kind::Name;
                    let value = param.accepted(&[text]).filter(|_| meant);
                    value.map(|value| (value, order + wanted))
                }
                _ => None,
            };
            if let (Some((value, weight)), Some(cue)) =
                (found, self.marked(param, fact.tokens.start))
            {
                let mut candidate =
                    Candidate::new(index, value, self.with_unit(param, fact), weight);
                candidate.cue = match (param.kind, day) {
                    (Kind::DateTime, Some((_, tokens))) => tokens.clone(),
                    _ if cue.is_empty() => self.beside(param, fact),
                    _ => cue,
                };
                candidates.push(candidate);
            }
        }
    }

    /// How surely a number is meant for the param.
    fn number_weight(&self, param: &Param, fact: &Fact, unit: Option<f64>) -> Option<f32> {
        let (at, end) = (fact.tokens.start, fact.tokens.end);
        let next = self.query.token(end).filter(|_| end < self.range.end);
        let united = next.is_some_and(|t| {
            param.units.contains(&t.stem) || (t.is("%") && param.units.contains("percent"))
        });
        match param.role {
            Some(Role::Least | Role::Most) => return Some(6.0),
            Some(Role::Count) => {
                let counted = next.is_some_and(|t| self.card.own.contains(&t.stem));
                return if self.top(fact).is_some() {
                    Some(6.0)
                } else {
                    counted.then_some(2.0)
                };
            }
            _ => {}
        }
        if unit.is_some() && param.unit_seconds.is_some() {
            return Some(6.0);
        }
        let before = self.word_before(at);
        let named = self
            .query
            .token(at.wrapping_sub(1))
            .is_some_and(|t| param.words.contains(&t.stem));
        if united || named {
            return Some(5.0);
        }
        if param.cues.contains(before) && unit.is_none() {
            return Some(4.0);
        }
        let others = self
            .card
            .params
            .iter()
            .filter(|p| p.required && p.kind == Kind::Number)
            .count();
        if param.required && others == 1 {
            return Some(2.0);
        }
        param
            .has_word(&["quantiti", "amount", "count", "number"])
            .then_some(1.2)
    }

    /// The tokens of a fact, with the unit after a number.
    fn with_unit(&self, param: &Param, fact: &Fact) -> Range<usize> {
        let end = fact.tokens.end;
        let unit = self
            .query
            .token(end)
            .filter(|_| param.kind == Kind::Number && end < self.range.end);
        let united = unit.is_some_and(|t| {
            t.is("%") || param.units.contains(&t.stem) || unit_seconds(&t.lower).is_some()
        });
        fact.tokens.start..end + usize::from(united)
    }

    /// The words beside a number that say what it is: "top 5", "volume 20", "10 biggest".
    fn beside(&self, param: &Param, fact: &Fact) -> Range<usize> {
        let at = fact.tokens.start;
        if param.role == Some(Role::Count) {
            return self.top(fact).unwrap_or(at..at);
        }
        let named = at > self.range.start
            && self
                .query
                .token(at - 1)
                .is_some_and(|t| param.words.contains(&t.stem));
        at - usize::from(named)..at
    }

    /// The words that make a number the count of the first or the largest.
    fn top(&self, fact: &Fact) -> Option<Range<usize>> {
        let largest = |at: usize| {
            matches!(
                self.query.lower(at),
                "largest" | "biggest" | "highest" | "top" | "greatest"
            )
        };
        let (at, end) = (fact.tokens.start, fact.tokens.end);
        let before = at > self.range.start && (largest(at - 1) || self.query.before(at) == "first");
        let most = self.query.lower(end) == "most"
            && matches!(self.query.lower(end + 1), "expensive" | "costly");
        match (before, largest(end), most) {
            (true, _, _) => Some(at - 1..at),
            (_, true, _) => Some(end..end + 1),
            (_, _, true) => Some(end..end + 2),
            _ => None,
        }
    }

    /// Whether two places of a list stand beside each other: "Paris and in London".
    fn are_listed(&self, first: &Range<usize>, second: &Range<usize>) -> bool {
        let (left, right) = if first.start < second.start {
            (first, second)
        } else {
            (second, first)
        };
        let between = || (left.end..right.start).map(|i| self.query.lower(i));
        let filler = |word: &str| {
            is_joint(word)
                || is_article(word)
                || matches!(
                    word,
                    "in" | "for" | "of" | "to" | "at" | "also" | "from" | "with"
                )
        };
        between().any(is_joint) && between().all(filler)
    }

    /// The strongest candidate has its words and its params; others of the same list join it.
    fn assign(&self, mut candidates: Vec<Candidate>) -> Filled {
        candidates.sort_by(|a, b| {
            let order = b
                .weight
                .total_cmp(&a.weight)
                .then(b.tokens.len().cmp(&a.tokens.len()));
            order.then(a.tokens.start.cmp(&b.tokens.start))
        });
        let mut taken = vec![false; self.range.len()];
        let mut chosen: Vec<&Candidate> = Vec::new();
        // Each round may lengthen a list by one at either end.
        let mut grown = true;
        while grown {
            grown = false;
            for candidate in &candidates {
                let own = candidate.tokens.start.saturating_sub(self.range.start)
                    ..candidate.tokens.end - self.range.start;
                let free = taken
                    .get(own.clone())
                    .is_some_and(|tokens| tokens.iter().all(|t| !t));
                let sets = |other: &&&Candidate| {
                    other
                        .sets
                        .iter()
                        .any(|(p, _)| candidate.sets.iter().any(|(q, _)| p == q))
                };
                let mut rivals = chosen.iter().filter(sets).peekable();
                let open = rivals.peek().is_none() || {
                    let one = candidate.sets.len() == 1 && self.takes_several(candidate);
                    one && rivals.all(|r| r.sets.len() == 1 && r.sets != candidate.sets)
                        && chosen.iter().filter(sets).any(|r| {
                            self.are_listed(&r.tokens, &candidate.tokens)
                                && self.are_alike(r, candidate)
                        })
                };
                if free && open {
                    if let Some(tokens) = taken.get_mut(own) {
                        tokens.fill(true);
                    }
                    chosen.push(candidate);
                    grown = true;
                }
            }
        }
        self.filled(chosen)
    }

    /// After a name with a capital, one without is another thing.
    fn are_alike(&self, first: &Candidate, second: &Candidate) -> bool {
        let capital = |c: &Candidate| {
            self.query
                .token(c.tokens.start)
                .is_some_and(|t| !t.is_word() || t.is_capitalised())
        };
        capital(first) == capital(second) || first.weight.min(second.weight) >= 5.0
    }

    /// A list of what is to be left out cannot be carried out one after the other.
    fn takes_several(&self, candidate: &Candidate) -> bool {
        let params = candidate
            .sets
            .iter()
            .filter_map(|(param, _)| self.card.params.get(*param));
        let mut several = params.map(|p| {
            p.list
                || !matches!(
                    p.role,
                    Some(Role::Except | Role::Least | Role::Most | Role::Count)
                )
        });
        several.all(|several| several)
    }

    fn filled(&self, mut chosen: Vec<&Candidate>) -> Filled {
        chosen.sort_by_key(|candidate| candidate.tokens.start);
        let mut filled = Filled::default();
        for candidate in chosen {
            for (index, value) in &candidate.sets {
                let Some(param) = self.card.params.get(*index) else {
                    continue;
                };
                let values = filled.values.entry(param.name.clone()).or_default();
                match values.first_mut() {
                    Some(Value::Array(items)) if param.list => items.push(value.clone()),
                    None if param.list => values.push(Value::Array(vec![value.clone()])),
                    _ => values.push(value.clone()),
                }
            }
            filled
                .used
                .extend(candidate.cue.clone().chain(candidate.tokens.clone()));
            filled.notes.extend(candidate.note.clone());
        }
        filled.used.sort_unstable();
        filled.used.dedup();
        filled
    }
}

/// A short word's stem is too many words' stem: "its" and "it".
fn known_by_stem(lower: &str) -> bool {
    lower.len() > 2
}

/// A slip in a long word that begins in lower case: names are not misspelt.
fn is_misspelt(token: &super::text::Token<'_>, word: &str) -> bool {
    const SHORTEST: usize = 6;
    word.len() >= SHORTEST
        && !token.is_capitalised()
        && !is(&token.lower, FREE)
        && super::index::misspelt(&token.lower, word)
}
