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

    pub(super) fn token(&self, at: usize) -> Option<&Token<'_>> {
        self.query.token(at).filter(|_| self.range.contains(&at))
    }

    /// Whether the word is one that the capability is known by.
    pub(super) fn is_own(&self, at: usize) -> bool {
        let token = self.query.token(at);
        token.is_some_and(|t| self.card.own.contains(&t.stem))
    }

    /// The word before a place, articles and signs aside.
    fn word_before(&self, at: usize) -> &str {
        let mut before = (self.range.start..at).rev().map(|i| self.lower(i));
        let skipped = |w: &str| is_article(w) || is(w, MONEY);
        before.find(|w| !skipped(w)).unwrap_or_default()
    }

    /// Whether the words before a place mark it as the param wants it; then the words that do.
    pub(super) fn marked(&self, param: &Param, at: usize) -> Option<Range<usize>> {
        let mark = self.query.mark(at);
        let mark = mark.filter(|(_, cue)| cue.start >= self.range.start);
        match (param.role, mark) {
            (Some(Role::Except), Some((Mark::Except, cue)))
            | (Some(Role::Least), Some((Mark::Least, cue)))
            | (Some(Role::Most), Some((Mark::Most, cue))) => Some(cue.clone()),
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
        let text = text.trim_matches([',', ';', ' ']);
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
        let divides = divides || self.lower(at).ends_with("ly");
        let weight = if names::is_cue(param, before) {
            6.0
        } else {
            5.0
        };
        let tokens = at..at + known.words.len();
        let candidate = Candidate::new(index, known.value.clone(), tokens, weight);
        (divides || !param.grouped).then_some(Candidate { cue, ..candidate })
    }

    /// Whether a value's words stand at a place. A noun in "-ing" is not its verb: "train" is no "training".
    fn spells(&self, known: &Known, at: usize) -> bool {
        let needed = matches!(self.query.before(at), "need" | "needs");
        let gerund = |word: &str| word.trim_end_matches('s').ends_with("ing");
        let same = |(i, (word, stem)): (usize, &(String, String))| {
            let Some(token) = self.token(at + i) else {
                return false;
            };
            let lower = &token.lower;
            let noun = needed || gerund(lower) == gerund(word);
            // Names are not misspelt.
            let slip = word.len() >= SLIPPERY && !token.is_capitalised() && !token.has(FREE);
            let inflected = noun && token.is_word() && lower.len() > 2 && token.stem == *stem;
            lower == word || inflected || (slip && misspelt(lower, word))
        };
        known.words.iter().enumerate().all(same)
    }

    /// A word that only a value looks like: "AB-12345".
    fn shaped(&self, index: usize, param: &Param, at: usize) -> Option<Candidate> {
        if !param.patterned {
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
            candidates.extend(ways.map(|sets| Candidate {
                sets,
                note: span.assumed.then(note),
                is_span: true,
                ..Candidate::new(0, Value::Null, fact.tokens.clone(), 6.0)
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
            let start = fact.tokens.start;
            // "titled …", "title it …"
            let it = usize::from(matches!(before, "it" | "them" | "is" | "as"));
            let named = self.is_named(param, start.checked_sub(1 + it));
            let cued = named || names::is_cue(param, before);
            let weight = weight + f32::from(u8::from(cued));
            let tokens = self.with_unit(param, fact);
            let cue = match (param.kind, day) {
                (Kind::DateTime, Some((_, tokens))) => tokens.clone(),
                // A mark of several words ("at least") is the longer cue.
                _ if cued && cue.is_empty() => start - 1 - if named { it } else { 0 }..start,
                _ => cue,
            };
            let candidate = Candidate::new(index, value, tokens, weight);
            candidates.push(Candidate { cue, ..candidate });
        }
    }

    /// Whether the word at a place is one of the param's name.
    fn is_named(&self, param: &Param, at: Option<usize>) -> bool {
        let token = at.and_then(|at| self.token(at));
        token.is_some_and(|t| param.words.contains(&t.stem))
    }

    /// Whether a unit of the param stands at a place.
    fn is_unit(&self, param: &Param, at: usize) -> bool {
        let other = |unit: &&str| param.units.contains(*unit);
        self.token(at)
            .is_some_and(|t| param.units.contains(&t.stem) || aliases(&t.lower).iter().any(other))
    }

    /// How surely a number is meant for the param.
    fn number_weight(&self, param: &Param, fact: &Fact, unit: Option<f64>) -> Option<f32> {
        let (at, end) = (fact.tokens.start, fact.tokens.end);
        let percent = matches!(self.lower(end), "%" | "percent");
        let timed = unit.is_some() && param.unit_seconds.is_some();
        let own = self.is_unit(param, end);
        if !own && (percent || (unit.is_some() && !timed)) {
            return None;
        }
        let wanted = |p: &&Param| p.required && p.kind == Kind::Number;
        let only = param.required && self.card.params.iter().filter(wanted).count() == 1;
        match param.role {
            Some(Role::Least | Role::Most) => Some(6.0),
            Some(Role::Count) if self.counts(fact) => Some(6.0),
            Some(Role::Count) => (self.is_own(end) || self.is_own(end + 1)).then_some(2.0),
            _ if timed => Some(6.0),
            _ if own || self.is_named(param, at.checked_sub(1)) => Some(5.0),
            _ if names::is_cue(param, self.word_before(at)) => Some(4.0),
            _ if only => Some(2.0),
            _ => param
                .has_word(&["quantiti", "amount", "count", "number"])
                .then_some(1.2),
        }
    }

    /// The tokens of a fact, with the unit after a number.
    fn with_unit(&self, param: &Param, fact: &Fact) -> Range<usize> {
        let end = fact.tokens.end;
        let timed = param.unit_seconds.is_some() && unit_seconds(self.lower(end)).is_some();
        let money = self.is(end, MONEY) && !self.takes(end);
        let united = (self.is_unit(param, end) || timed || money) && self.range.contains(&end);
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
        let mut known = self.card.params.iter().flat_map(|p| &p.known);
        let mut known = |word: &str| known.any(|k| k.words.iter().any(|(known, _)| known == word));
        self.is(at, TOP) || (word.ends_with("est") && known(word))
    }

    /// "the largest expense" is one.
    fn one(&self, index: usize, param: &Param, at: usize) -> Option<Candidate> {
        if param.role != Some(Role::Count) || !self.ranks(at) || self.query.fact(at + 1).is_some() {
            return None;
        }
        let mut nouns = at + 1..self.range.end.min(at + 4);
        let noun = nouns.find(|&at| self.is_own(at) || self.is(at, FILLER))?;
        let single = !self.lower(noun).ends_with('s') && param.accepts(&Value::from(1));
        single.then(|| Candidate::new(index, Value::from(1), noun..noun + 1, 2.5))
    }

    /// Whether a number counts the first or the largest: "top 5", "the 3 smallest".
    fn counts(&self, fact: &Fact) -> bool {
        let before = fact.tokens.start.wrapping_sub(1);
        self.lower(before) == "first" || self.ranks(before) || self.ranks(fact.tokens.end)
    }

    /// Whether a candidate goes on a list that another one began: "Paris and in London".
    fn are_listed(&self, one: &Candidate, other: &Candidate) -> bool {
        let ends = [one, other].map(|c| (c.tokens.start, c.tokens.end));
        let between = ends[0].1.min(ends[1].1)..ends[0].0.max(ends[1].0);
        let compares = self.range.clone().any(|at| self.is(at, COMPARES));
        let joins = |at: usize| {
            is_joint(self.lower(at)) || (compares && matches!(self.lower(at), "with" | "than"))
        };
        let fills = |at: usize| {
            let word = self.lower(at);
            let lead = matches!(
                word,
                "in" | "for" | "of" | "to" | "at" | "also" | "from" | "with"
            );
            lead || matches!(word, "no" | "one") || is(word, ABOUT) || is_article(word) || joins(at)
        };
        between.clone().any(joins) && between.clone().all(fills)
    }

    /// Whether a candidate's param has no value yet, or one of the same list.
    fn is_open(&self, candidate: &Candidate, chosen: &[&Candidate]) -> bool {
        let way = |c: &Candidate| c.sets.iter().map(|(param, _)| *param).collect::<Vec<_>>();
        let own = way(candidate);
        let other_way = |c: &&Candidate| c.is_span && way(c) != own;
        if candidate.is_span && chosen.iter().any(other_way) {
            return false;
        }
        let is_rival = |c: &&&Candidate| way(c).iter().any(|param| own.contains(param));
        let rivals: Vec<&&Candidate> = chosen.iter().filter(is_rival).collect();
        let (Some(&index), 1) = (own.first(), own.len()) else {
            return rivals.is_empty();
        };
        // A list of what is to be left out cannot be carried out one after the other.
        let single = [Role::Except, Role::Least, Role::Most, Role::Count];
        let several = |p: &Param| p.list || p.role.is_none_or(|role| !single.contains(&role));
        let listed = self.card.params.get(index).is_some_and(several)
            && rivals
                .iter()
                .all(|r| r.sets.len() == 1 && r.sets != candidate.sets)
            && rivals.iter().any(|r| self.are_listed(r, candidate));
        rivals.is_empty() || listed
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
