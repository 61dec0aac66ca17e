//! Takes the params of one capability out of a part of a query.
//!
//! Does not choose the capability, and never invents a value: what the words do not say stays missing.

use std::collections::BTreeMap;
use std::ops::Range;

use serde_json::{Map, Value};

use super::kind::Kind;
use super::names;
use super::phrase;
use super::query::{Query, mark};
use super::spec::{Choice, Param, Spec};
use super::values;
use super::words::{is_article, is_generic, is_joint, is_stop};

/// What a part of a query says about a capability's params.
#[derive(Debug, Default, Clone)]
pub(super) struct Filled {
    /// By the param's name; more than one value where the user listed several and the param takes one.
    pub(super) values: BTreeMap<String, Vec<Value>>,
    /// Which tokens of the query became values.
    pub(super) used: Vec<bool>,
}

impl Filled {
    pub(super) const NOTHING: Self = Self {
        values: BTreeMap::new(),
        used: Vec::new(),
    };

    /// The params with the first of each listed values.
    pub(super) fn first(&self) -> Map<String, Value> {
        self.values
            .iter()
            .filter_map(|(name, values)| Some((name.clone(), values.first()?.clone())))
            .collect()
    }
}

/// How much may be taken for a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reach {
    /// The capability was asked for in these words: what is left of them is its text.
    Clause,
    /// As [`Self::Clause`], without what is merely left over.
    Named,
    /// Words from elsewhere in the query: only what is unmistakable.
    Elsewhere,
}

/// Fills what `range` says about the params of `spec`, except those named in `bound`.
pub(super) fn fill(
    query: &Query<'_>,
    spec: &Spec,
    range: Range<usize>,
    reach: Reach,
    bound: &[String],
) -> Filled {
    let mut filler = Filler {
        query,
        spec,
        range,
        reach,
        values: spec.params.iter().map(|_| Vec::new()).collect(),
        used: match reach {
            Reach::Elsewhere => query.denied.clone(),
            Reach::Clause | Reach::Named => vec![false; query.tokens.len()],
        },
        bound,
    };
    filler.request();
    filler.date_times();
    filler.facts();
    filler.choices(&[Kind::Choice]);
    filler.flags();
    filler.tickers();
    phrase::cued(&mut filler);
    // After what was announced: "in Paris and Rome" lists two cities, of which the card knows one.
    filler.choices(&[Kind::Name, Kind::Topic]);
    if reach != Reach::Elsewhere {
        phrase::quoted(&mut filler);
        names::modifiers(&mut filler);
    }
    if reach == Reach::Clause {
        names::names(&mut filler);
        phrase::texts(&mut filler);
    }
    filler.finish()
}

pub(super) struct Filler<'a> {
    pub(super) query: &'a Query<'a>,
    pub(super) spec: &'a Spec,
    pub(super) range: Range<usize>,
    pub(super) reach: Reach,
    pub(super) values: Vec<Vec<Value>>,
    used: Vec<bool>,
    bound: &'a [String],
}

impl<'a> Filler<'a> {
    /// The params that have no value yet, with their index.
    pub(super) fn open(&self) -> Vec<(usize, &'a Param)> {
        let empty = |i: usize| self.values.get(i).is_some_and(Vec::is_empty);
        self.spec
            .params
            .iter()
            .enumerate()
            .filter(|(i, p)| empty(*i) && p.kind != Kind::Opaque && !self.bound.contains(&p.name))
            .collect()
    }

    pub(super) fn is_used(&self, at: usize) -> bool {
        self.used.get(at).copied().unwrap_or(true)
    }

    pub(super) fn are_free(&self, mut tokens: Range<usize>) -> bool {
        tokens.all(|at| !self.is_used(at))
    }

    pub(super) fn put(&mut self, param: usize, value: Value, tokens: Range<usize>) {
        if let Some(values) = self.values.get_mut(param)
            && !values.contains(&value)
        {
            values.push(value);
        }
        mark(&mut self.used, tokens);
    }

    /// Whether the word is one of those that the capability is known by.
    pub(super) fn is_known_word(&self, at: usize) -> bool {
        self.query
            .token(at)
            .is_some_and(|t| self.spec.words.contains(&t.stem))
    }

    /// The word before a place, articles and unit signs aside.
    pub(super) fn word_before(&self, at: usize) -> &'a str {
        let before = (self.range.start..at).rev().map(|i| self.query.lower(i));
        before.take(4).find(|w| !is_article(w)).unwrap_or_default()
    }

    /// Whether two places of a list stand beside each other: "Paris and in London".
    pub(super) fn are_listed(&self, first_end: usize, second: usize) -> bool {
        let mut joint = false;
        let between = (first_end..second).map(|i| self.query.lower(i));
        for word in between {
            joint |= is_joint(word);
            let filler = is_joint(word)
                || is_article(word)
                || matches!(word, "in" | "for" | "of" | "to" | "at" | "also");
            if !filler {
                return false;
            }
        }
        joint
    }

    /// Whoever plans with a clause gets its own words, all of them.
    fn request(&mut self) {
        if self.reach != Reach::Clause {
            return;
        }
        let open = self.open().into_iter();
        for (index, param) in open.filter(|(_, p)| p.kind == Kind::Request) {
            let range = self.range.clone();
            let text = self.query.slice(range.clone());
            let text = text.trim_matches(|c: char| c.is_whitespace() || matches!(c, ',' | ';'));
            if let Some(value) = param.accepted_text(&[text]).filter(|_| !text.is_empty()) {
                self.put(index, value, range);
            }
        }
    }

    /// Finds known values by their words.
    fn choices(&mut self, kinds: &[Kind]) {
        let mut matches = Vec::new();
        let open: Vec<(usize, &Param)> = self
            .open()
            .into_iter()
            .filter(|(_, p)| !p.choices.is_empty() && kinds.contains(&p.kind))
            .collect();
        if open.is_empty() {
            return;
        }
        for at in self.range.clone() {
            for &(index, param) in &open {
                let longest = self.longest_choice(param, at);
                if let Some(choice) = longest {
                    let before = self.word_before(at);
                    let cued = if param.cues.contains(before) {
                        2.0
                    } else {
                        0.0
                    };
                    let score =
                        cued + values::role(param, before) + if param.required { 0.5 } else { 0.0 };
                    matches.push((
                        score,
                        index,
                        at..at + choice.stems.len(),
                        choice.value.clone(),
                    ));
                }
            }
        }
        matches.sort_by(|a, b| b.0.total_cmp(&a.0).then(b.2.len().cmp(&a.2.len())));
        let mut ends: BTreeMap<usize, usize> = BTreeMap::new();
        for (_, index, tokens, value) in &matches {
            if !ends.contains_key(index) && self.are_free(tokens.clone()) {
                self.put(*index, value.clone(), tokens.clone());
                ends.insert(*index, tokens.end);
            }
        }
        matches.sort_by_key(|(_, _, tokens, _)| tokens.start);
        for (_, index, tokens, value) in matches {
            if let Some(end) = ends.get_mut(&index)
                && self.are_free(tokens.clone())
                && tokens.start >= *end
                && self.are_listed(*end, tokens.start)
            {
                *end = tokens.end;
                self.put(index, value, tokens);
            }
        }
    }

    fn longest_choice<'p>(&self, param: &'p Param, at: usize) -> Option<&'p Choice> {
        let fits = |c: &&Choice| self.starts(at, &c.stems) && !is_ambiguous(&c.stems);
        // Of equal ones the first: an enumeration may list two spellings.
        let candidates = param.choices.iter().filter(fits);
        candidates.reduce(|best, next| {
            if next.stems.len() > best.stems.len() {
                next
            } else {
                best
            }
        })
    }

    fn starts(&self, at: usize, stems: &[String]) -> bool {
        at + stems.len() <= self.range.end
            && stems.iter().enumerate().all(|(i, stem)| {
                !self.is_used(at + i) && self.query.token(at + i).is_some_and(|t| t.stem == *stem)
            })
    }

    fn flags(&mut self) {
        for (index, param) in self.open() {
            if param.kind != Kind::Flag {
                continue;
            }
            let words: Vec<&String> = param
                .words
                .iter()
                .filter(|w| !is_stop(w) && !is_generic(w) && *w != "includ")
                .collect();
            let Some(first) = words.first() else { continue };
            let place = self.range.clone().find(|&at| {
                let rest = (at..self.range.end).filter_map(|i| self.query.token(i));
                self.query.token(at).is_some_and(|t| t.stem == **first)
                    && rest.zip(&words).all(|(t, w)| t.stem == **w)
                    && at + words.len() <= self.range.end
            });
            if let Some(at) = place {
                let negated = (at.saturating_sub(2)..at).any(|i| {
                    matches!(
                        self.query.lower(i),
                        "no" | "not" | "without" | "don't" | "non"
                    )
                });
                self.put(index, Value::Bool(!negated), at..at + words.len());
            }
        }
    }

    /// Symbols, known ones by any of their names, and those that are listed with them.
    fn tickers(&mut self) {
        for (index, param) in self.open() {
            if param.kind != Kind::Ticker {
                continue;
            }
            let mut end = None;
            for at in self.range.clone() {
                let known = self.longest_choice(param, at);
                let listed = end.is_some_and(|end| self.are_listed(end, at));
                let found = known
                    .map(|choice| (choice.value.clone(), choice.stems.len()))
                    .or_else(|| Some((self.ticker(param, at, listed)?, 1)));
                let Some((value, length)) = found else {
                    continue;
                };
                if end.is_none() || listed {
                    self.put(index, value, at..at + length);
                    end = Some(at + length);
                }
            }
        }
    }

    /// A symbol that the card does not list; `listed` after another one any name will do.
    fn ticker(&self, param: &Param, at: usize, listed: bool) -> Option<Value> {
        let token = self
            .query
            .token(at)
            .filter(|t| t.is_word() && !self.is_used(at))?;
        let name = token.name();
        let marked = at > 0 && self.query.lower(at - 1) == "$";
        let upper = (2..=5).contains(&name.len())
            && name.chars().all(|c| c.is_ascii_uppercase() || c == '.');
        let named = listed && token.is_capitalised() && self.query.in_fact.get(at) == Some(&false);
        if !(marked || upper || named) || values::is_acronym(name) || self.is_known_word(at) {
            return None;
        }
        param.accepted_text(&[name, &name.to_uppercase()])
    }

    fn finish(self) -> Filled {
        let values = self
            .spec
            .params
            .iter()
            .zip(self.values)
            .filter(|(_, values)| !values.is_empty());
        Filled {
            values: values
                .map(|(param, values)| {
                    let values = if param.list {
                        vec![Value::Array(values)]
                    } else {
                        values
                    };
                    (param.name.clone(), values)
                })
                .collect(),
            used: self.used,
        }
    }
}

/// A code that is also a pronoun or the like, such as `it` for Italian.
fn is_ambiguous(stems: &[String]) -> bool {
    matches!(stems, [one] if matches!(one.as_str(), "it" | "is" | "he" | "me" | "so" | "am" | "be" | "my" | "us" | "or" | "to" | "no" | "a" | "i"))
}
