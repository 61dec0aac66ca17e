//! Fills the params of one capability from a part of a query: finds all candidates, then lets the strongest have its words.
//!
//! Does not choose the capability, and never invents a value: a param that the words do not give stays empty.

use std::collections::BTreeMap;
use std::ops::Range;

use jiff::civil::Date;
use serde_json::{Map, Value};

use super::card::{Card, Known, Param, Role};
use super::facts::{Fact, Meaning};
use super::index::misspelt;
use super::kind::Kind;
use super::lexicon::unit_seconds;
use super::names;
use super::query::Query;
use super::spell;
use super::text::Token;
use super::words::{
    ABOUT, COMPARES, FILLER, FREE, MONEY, Mark, TOP, aliases, is, is_article, is_joint,
};

/// Facts of one part that are looked at: more are not typed by people, and each is tried with each param.
const MAX_FACTS: usize = 64;
/// Shortest word of a known value that may have a slip.
const SLIPPERY: usize = 6;
/// Most candidates of one part: bounds the assignment of a hostile text.
const MAX_CANDIDATES: usize = 256;

/// From this weight on some word announces a value.
pub(super) const ANNOUNCED: f32 = 2.0;
/// From this weight on the words name a value.
const NAMED: f32 = 5.0;
/// From this weight on a value is unmistakable.
pub(super) const SURE: f32 = 3.0;

/// What the words say about a capability's params.
#[derive(Debug, Default, Clone)]
pub(super) struct Filled {
    /// By the param's name; more than one value where the user listed several and the param takes one.
    pub(super) values: BTreeMap<String, Vec<Value>>,
    /// The tokens that became values, or announce them.
    pub(super) used: Vec<usize>,
    /// The tokens of names in lower case, which may be ordinary words.
    pub(super) plain: Vec<usize>,
    /// The values that the words left open.
    pub(super) notes: Vec<String>,
    /// How many of the values the words name, rather than announce.
    pub(super) named: usize,
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
    /// It is a name in lower case.
    pub(super) is_plain: bool,
    /// It is a span of time: all of a clause's spans go the same way.
    is_span: bool,
}

impl Candidate {
    pub(super) fn new(param: usize, value: Value, tokens: Range<usize>, weight: f32) -> Self {
        Self {
            sets: vec![(param, value)],
            cue: tokens.start..tokens.start,
            tokens,
            weight,
            note: None,
            is_plain: false,
            is_span: false,
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
        for at in words.range.clone() {
            candidates.extend(words.known(index, param, at));
            candidates.extend(words.shaped(index, param, at));
            candidates.extend(words.one(index, param, at));
        }
        candidates.extend(names::candidates(&words, index, param));
    }
    words.facts(&mut candidates);
    candidates.retain(|candidate| candidate.weight >= least);
    words.assign(candidates)
}

/// A part of a query beside a card.
pub(super) struct Words<'a> {
    pub(super) query: &'a Query<'a>,
    pub(super) card: &'a Card,
    pub(super) range: Range<usize>,
}

impl Words<'_> {
    pub(super) fn lower(&self, at: usize) -> &str {
        self.query.lower(at)
    }

    fn is(&self, at: usize, classes: u64) -> bool {
        self.query.is(at, classes)
    }

    fn token(&self, at: usize) -> Option<&Token<'_>> {
        self.query.token(at).filter(|_| self.range.contains(&at))
    }

    /// Whether the word is one that the capability is known by.
    pub(super) fn is_own(&self, at: usize) -> bool {
        let token = self.query.token(at);
        token.is_some_and(|t| self.card.own.contains(&t.stem))
    }

    /// The word before a place, articles and signs aside.
    fn word_before(&self, at: usize) -> &str {
        let before = (self.range.start..at).rev().map(|i| self.lower(i));
        let mut words = before.filter(|w| !is_article(w) && !matches!(*w, "$" | "€" | "£"));
        words.next().unwrap_or_default()
    }

    /// Whether the words before a place mark it as the param wants it; then the words that do.
    pub(super) fn marked(&self, param: &Param, at: usize) -> Option<Range<usize>> {
        let mark = self.query.mark(at);
        let mark = mark.filter(|(_, cue)| cue.start >= self.range.start);
        match (param.role, mark) {
            (Some(Role::Except), Some((Mark::Except, cue)))
            | (Some(Role::Least), Some((Mark::Least, cue)))
            | (Some(Role::Most), Some((Mark::Most, cue))) => Some(cue.clone()),
            // "a loan over 36 months"
            (None, Some((Mark::Least, cue)))
                if param.unit_seconds.is_some()
                    && self.lower(cue.start) == "over"
                    && self.card.reads() =>
            {
                Some(cue.clone())
            }
            // "turn it up to 30"
            (None, Some((Mark::Most, cue))) if param.kind == Kind::Number && !self.card.reads() => {
                Some(cue.clone())
            }
            (Some(Role::Except | Role::Least | Role::Most), _) | (_, Some(_)) => None,
            (_, None) => Some(at..at),
        }
    }

    fn request(&self, index: usize, param: &Param) -> Option<Candidate> {
        let text = self.query.slice(self.range.clone());
        let text = text.trim_matches(|c: char| c.is_whitespace() || matches!(c, ',' | ';'));
        let asked = param.kind == Kind::Request && !text.is_empty();
        let value = param.accepted(&[text]).filter(|_| asked)?;
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
            let mut words = words.iter().enumerate();
            words.all(|(i, word)| self.token(at + i).is_some_and(|t| t.stem == **word))
        };
        let flag = param.kind == Kind::Flag && !words.is_empty();
        let at = self.range.clone().find(says).filter(|_| flag)?;
        let not = |i: &usize| matches!(self.lower(*i), "no" | "not" | "without" | "non");
        let not = (at.saturating_sub(2)..at).find(not);
        let value = Value::Bool(not.is_none());
        let mut candidate = Candidate::new(index, value, at..at + words.len(), 4.0);
        candidate.cue = not.unwrap_or(at)..at;
        Some(candidate)
    }

    /// A known value by its words.
    fn known(&self, index: usize, param: &Param, at: usize) -> Option<Candidate> {
        // All spellings of a word begin alike.
        let first = self.lower(at).bytes().next()?;
        let begins = |known: &&Known| {
            let word = known.words.first();
            word.is_some_and(|(word, stem)| {
                [word, stem].iter().any(|w| w.bytes().next() == Some(first))
            })
        };
        let spelt = param.known.iter().filter(begins);
        let spelt = spelt.filter(|known| self.spells(known, at));
        // Of equal ones the first: an enumeration may list two spellings.
        let known = spelt.rev().max_by_key(|known| known.words.len())?;
        let cue = self.marked(param, at)?;
        let before = self.word_before(at);
        // "by category", but not "the category".
        let divides = matches!(before, "by" | "per" | "each" | "every" | "which" | "across");
        let tokens = at..at + known.words.len();
        let announced = names::is_cue(param, before) || !cue.is_empty();
        let weight = if announced { 6.0 } else { 5.0 };
        let mut candidate = Candidate::new(index, known.value.clone(), tokens, weight);
        candidate.cue = cue;
        let adverb = self.lower(at).ends_with("ly");
        (divides || adverb || !param.grouped).then_some(candidate)
    }

    /// Whether a value's words stand at a place. A noun in "-ing" is not its verb: "train" is no "training".
    fn spells(&self, known: &Known, at: usize) -> bool {
        let same = |(i, (word, stem)): (usize, &(String, String))| {
            let token = self
                .token(at + i)
                .filter(|t| t.is_word() || t.number().is_some() || t.is("&"));
            let Some(token) = token else {
                return false;
            };
            let lower = &token.lower;
            let gerund = |word: &str| word.trim_end_matches('s').ends_with("ing");
            let needed = matches!(self.query.before(at), "need" | "needs");
            let noun = needed || gerund(lower) == gerund(word);
            let inflected = token.stem == *stem && noun && lower.len() > 2;
            // Names are not misspelt.
            let slip = word.len() >= SLIPPERY && !token.is_capitalised() && !is(lower, FREE);
            lower == word || inflected || (slip && misspelt(lower, word))
        };
        known.words.iter().enumerate().all(same)
    }

    /// A word that only a value looks like: "AB-12345".
    fn shaped(&self, index: usize, param: &Param, at: usize) -> Option<Candidate> {
        if !(param.patterned && matches!(param.kind, Kind::Name | Kind::Topic | Kind::Text)) {
            return None;
        }
        let token = self.token(at)?;
        let name = Some(token.name()).filter(|name| name.contains(|c: char| c.is_ascii_digit()))?;
        let value = param.accepted(&[name, &name.to_uppercase()])?;
        let mut candidate = Candidate::new(index, value, at..at + 1, 4.5);
        candidate.cue = self.marked(param, at)?;
        Some(candidate)
    }

    /// Dates, numbers, addresses and quoted texts.
    fn facts(&self, candidates: &mut Vec<Candidate>) {
        let facts = || {
            let all = self.query.facts.iter().take(MAX_FACTS);
            all.filter(|f| f.tokens.start >= self.range.start && f.tokens.end <= self.range.end)
        };
        let day = facts().find_map(|f| {
            let span = f.span_for(self.card.way)?;
            let span = Some(span).filter(|span| span.from == span.to)?;
            Some((span.from?, f.tokens.clone()))
        });
        for fact in facts() {
            let Some(span) = fact.span_for(self.card.way) else {
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
                is_plain: false,
                is_span: true,
            }));
        }
    }

    fn fact(
        &self,
        fact: &Fact,
        day: Option<&(Date, Range<usize>)>,
        candidates: &mut Vec<Candidate>,
    ) {
        let before = self.word_before(fact.tokens.start);
        for (index, param) in self.card.params.iter().enumerate() {
            let takes = |text: &str, weight: f32| Some((param.accepted(&[text])?, weight));
            let found = match (&fact.meaning, param.kind) {
                (Meaning::Time(time), Kind::Time | Kind::DateTime) => {
                    let date = day.map_or(self.query.today, |(date, _)| *date);
                    spell::time(param, *time, Some(date)).map(|value| (value, 6.5))
                }
                (Meaning::Number(value, unit), Kind::Number) => {
                    let weight = self.number_weight(param, fact, *unit);
                    spell::number(param, *value, *unit).zip(weight)
                }
                (Meaning::Expression(text), Kind::Expression)
                | (Meaning::Email(text), Kind::Email)
                | (Meaning::Url(text), Kind::Url) => takes(text, 6.0),
                (Meaning::Sql(text), Kind::Sql) => takes(text, 9.0),
                (Meaning::Quoted(text), Kind::Text | Kind::Content) => takes(text, 5.0),
                (Meaning::Quoted(text), Kind::Topic) => takes(text, 4.8),
                (Meaning::Quoted(text), Kind::Name) => {
                    takes(text, 4.8).filter(|_| param.required || param.cues.contains(before))
                }
                _ => None,
            };
            let cue = self.marked(param, fact.tokens.start);
            let Some(((value, weight), cue)) = found.zip(cue) else {
                continue;
            };
            let quoted = matches!(fact.meaning, Meaning::Quoted(_));
            let start = fact.tokens.start;
            // "titled …", "title it …"
            let it = usize::from(matches!(before, "it" | "them" | "is" | "as"));
            let named = self.is_named(param, start.checked_sub(1 + it));
            let cued = quoted && (named || names::is_cue(param, before));
            let announced = if cued { 1.0 } else { 0.0 };
            let tokens = self.with_unit(param, fact);
            let mut candidate = Candidate::new(index, value, tokens, weight + announced);
            candidate.cue = match (param.kind, day) {
                (Kind::DateTime, Some((_, tokens))) => tokens.clone(),
                _ if cued => start - 1 - if named { it } else { 0 }..start,
                _ => cue,
            };
            candidates.push(candidate);
        }
    }

    /// Whether the word at a place is one of the param's name.
    fn is_named(&self, param: &Param, at: Option<usize>) -> bool {
        let token = at.and_then(|at| self.token(at));
        token.is_some_and(|t| param.words.contains(&t.stem))
    }

    /// Whether a unit of the param stands at a place.
    fn is_unit(&self, param: &Param, at: usize) -> bool {
        let percent = |t: &Token<'_>| t.is("%") && param.units.contains("percent");
        let token = self.token(at);
        let other = |t: &Token<'_>| {
            aliases(&t.lower)
                .iter()
                .any(|unit| param.units.contains(*unit))
        };
        token.is_some_and(|t| param.units.contains(&t.stem) || percent(t) || other(t))
    }

    /// How surely a number is meant for the param.
    fn number_weight(&self, param: &Param, fact: &Fact, unit: Option<f64>) -> Option<f32> {
        let (at, end) = (fact.tokens.start, fact.tokens.end);
        let percent = self
            .token(end)
            .is_some_and(|t| t.is("%") || t.is("percent"));
        let foreign = percent || (unit.is_some() && param.unit_seconds.is_none());
        if foreign && !self.is_unit(param, end) {
            return None;
        }
        if matches!(param.role, Some(Role::Least | Role::Most)) {
            return Some(6.0);
        }
        if param.role == Some(Role::Count) {
            let counted = (end..end + 2).any(|at| self.range.contains(&at) && self.is_own(at));
            return self.counts(fact).then_some(6.0).or(counted.then_some(2.0));
        }
        if unit.is_some() && param.unit_seconds.is_some() {
            return Some(6.0);
        }
        if self.is_unit(param, end) || self.is_named(param, at.checked_sub(1)) {
            return Some(5.0);
        }
        if names::is_cue(param, self.word_before(at)) && unit.is_none() {
            return Some(4.0);
        }
        let wanted = |p: &&Param| p.required && p.kind == Kind::Number;
        if param.required && self.card.params.iter().filter(wanted).count() == 1 {
            return Some(2.0);
        }
        let counts = param.has_word(&["quantiti", "amount", "count", "number"]);
        counts.then_some(1.2)
    }

    /// The tokens of a fact, with the unit after a number.
    fn with_unit(&self, param: &Param, fact: &Fact) -> Range<usize> {
        let end = fact.tokens.end;
        let timed = self
            .token(end)
            .is_some_and(|t| unit_seconds(&t.lower).is_some());
        let money = self.is(end, MONEY) && !self.takes(end);
        let timed = timed && param.unit_seconds.is_some();
        let united = self.is_unit(param, end) || timed || money;
        fact.tokens.start..end + usize::from(united && param.kind == Kind::Number)
    }

    /// Whether a word names a known value of some param.
    fn takes(&self, at: usize) -> bool {
        let mut known = self.card.params.iter().flat_map(|p| &p.known);
        known.any(|known| self.spells(known, at))
    }

    /// Whether a word is a superlative; "smallest" is one where the card knows it.
    fn ranks(&self, at: usize) -> bool {
        let word = self.lower(at);
        let params = self.card.params.iter().filter(|p| p.kind == Kind::Choice);
        let mut words = params.flat_map(|p| &p.known).flat_map(|known| &known.words);
        self.is(at, TOP) || (word.ends_with("est") && words.any(|(known, _)| known == word))
    }

    /// "the largest expense" is one.
    fn one(&self, index: usize, param: &Param, at: usize) -> Option<Candidate> {
        let counted = param.role == Some(Role::Count) && self.ranks(at);
        let number = |at: usize| self.query.fact(at).is_some();
        let mut nouns = at + 1..self.range.end.min(at + 4);
        let noun = nouns.find(|&at| self.is_own(at) || self.is(at, FILLER))?;
        let single = !self.lower(noun).ends_with('s') && !(at.saturating_sub(1)..noun).any(number);
        let value = param.accepts(&Value::from(1)).then(|| Value::from(1))?;
        (counted && single).then(|| Candidate::new(index, value, noun..noun + 1, 2.5))
    }

    /// Whether a number counts the first or the largest: "top 5", "the 3 smallest".
    fn counts(&self, fact: &Fact) -> bool {
        let (before, end) = (fact.tokens.start.wrapping_sub(1), fact.tokens.end);
        let first = self
            .token(before)
            .is_some_and(|t| t.is("first") || self.ranks(before));
        first || self.ranks(end)
    }

    /// Whether a candidate goes on a list that another one began: "Paris and in London".
    fn are_listed(&self, one: &Candidate, other: &Candidate) -> bool {
        let reversed = one.tokens.start > other.tokens.start;
        let (left, right) = if reversed { (other, one) } else { (one, other) };
        let between = || (left.tokens.end..right.tokens.start).map(|i| self.lower(i));
        let filler = |word: &str| {
            let preposition = matches!(
                word,
                "in" | "for" | "of" | "to" | "at" | "also" | "from" | "with" | "no" | "one"
            ) || is(word, ABOUT);
            preposition || is_joint(word) || is_article(word)
        };
        let compares = self.range.clone().any(|at| self.is(at, COMPARES));
        let joins = |word: &str| is_joint(word) || (compares && matches!(word, "with" | "than"));
        between().any(joins) && between().all(|word| filler(word) || joins(word))
    }

    /// Whether a candidate's param has no value yet, or one of the same list.
    fn is_open(&self, candidate: &Candidate, chosen: &[&Candidate]) -> bool {
        let sets = |other: &&&Candidate| {
            let mut params = other.sets.iter().map(|(param, _)| param);
            params.any(|param| candidate.sets.iter().any(|(own, _)| own == param))
        };
        let rivals = || chosen.iter().filter(sets);
        let way = |c: &Candidate| c.sets.iter().map(|(param, _)| *param).collect::<Vec<_>>();
        let other_way = |c: &&Candidate| c.is_span && way(c) != way(candidate);
        if candidate.is_span && chosen.iter().any(other_way) {
            return false;
        }
        let (Some((index, value)), 1) = (candidate.sets.first(), candidate.sets.len()) else {
            return rivals().next().is_none();
        };
        // A list of what is to be left out cannot be carried out one after the other.
        let single = [Role::Except, Role::Least, Role::Most, Role::Count];
        let several = |p: &Param| p.list || p.role.is_none_or(|role| !single.contains(&role));
        let param = self.card.params.get(*index);
        let others = || {
            rivals().all(|r| r.sets.iter().all(|(_, other)| other != value) && r.sets.len() == 1)
        };
        let listed = || rivals().any(|r| self.are_listed(r, candidate));
        rivals().next().is_none() || (param.is_some_and(several) && others() && listed())
    }

    /// The strongest candidate has its words and its params; others of the same list join it.
    fn assign(&self, mut candidates: Vec<Candidate>) -> Filled {
        candidates.sort_by(|a, b| {
            let order = b.weight.total_cmp(&a.weight);
            order.then((b.tokens.len(), a.tokens.start).cmp(&(a.tokens.len(), b.tokens.start)))
        });
        candidates.truncate(MAX_CANDIDATES);
        let mut chosen: Vec<&Candidate> = Vec::new();
        // Each round may lengthen a list by one at either end.
        let mut before = None;
        while before != Some(chosen.len()) {
            before = Some(chosen.len());
            for candidate in &candidates {
                let (start, end) = (candidate.tokens.start, candidate.tokens.end);
                let free = chosen
                    .iter()
                    .all(|c| c.tokens.end <= start || end <= c.tokens.start);
                if free && self.is_open(candidate, &chosen) {
                    chosen.push(candidate);
                }
            }
        }
        chosen.sort_by_key(|candidate| candidate.tokens.start);
        self.filled(&chosen)
    }

    fn filled(&self, chosen: &[&Candidate]) -> Filled {
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
            filled.named += usize::from(candidate.weight >= NAMED);
            let words = candidate.cue.clone().chain(candidate.tokens.clone());
            filled.used.extend(words);
            filled.notes.extend(candidate.note.clone());
            let plain = candidate.tokens.clone().filter(|_| candidate.is_plain);
            filled.plain.extend(plain);
        }
        filled.used.sort_unstable();
        filled.used.dedup();
        filled
    }
}
