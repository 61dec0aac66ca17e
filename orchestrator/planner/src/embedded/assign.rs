//! Gives dates, numbers and the other facts of a clause to the params that they fit best.
//!
//! Does not spell values; see [`super::values`].

use std::collections::BTreeMap;

use super::facts::{Fact, Meaning};
use super::fill::{Filler, Reach};
use super::kind::Kind;
use super::spec::Param;
use super::values;

/// Facts of one clause that are looked at: more are not typed by people, and each is tried with each param.
const MAX_FACTS: usize = 64;

impl<'a> Filler<'a> {
    fn facts_in_range(&self) -> Vec<&'a Fact> {
        let (query, range) = (self.query, &self.range);
        let inside = |f: &&Fact| f.tokens.start >= range.start && f.tokens.end <= range.end;
        query.facts.iter().filter(inside).take(MAX_FACTS).collect()
    }

    pub(super) fn date_times(&mut self) {
        let found = self.facts_in_range();
        let Some((index, param)) = self
            .open()
            .into_iter()
            .find(|(_, p)| p.kind == Kind::DateTime)
        else {
            return;
        };
        let date = found.iter().find_map(|f| {
            let Meaning::Date(date) = f.meaning else {
                return None;
            };
            Some((date, f.tokens.clone()))
        });
        let time = found.iter().find_map(|f| {
            let Meaning::Time(time) = f.meaning else {
                return None;
            };
            Some((time, f.tokens.clone()))
        });
        if date.is_none() && time.is_none() {
            return;
        }
        let day = date.as_ref().map_or(self.query.today, |d| d.0);
        let at = day.to_datetime(
            time.as_ref()
                .map_or_else(jiff::civil::Time::midnight, |t| t.0),
        );
        let text = at.to_string();
        if let Some(value) = param.accepted_text(&[&text, &format!("{text}Z")]) {
            for tokens in [date.map(|d| d.1), time.map(|t| t.1)].into_iter().flatten() {
                self.put(index, value.clone(), tokens);
            }
        }
    }

    /// Gives each fact to the param that it fits best.
    pub(super) fn facts(&mut self) {
        let found = self.facts_in_range();
        let mut pairs = Vec::new();
        for (index, param) in self.open() {
            for &fact in &found {
                let Some(value) = values::of_fact(param, fact) else {
                    continue;
                };
                let score = self.fit(param, fact);
                if score >= 1.0 && self.are_free(fact.tokens.clone()) {
                    pairs.push((score, index, fact, value));
                }
            }
        }
        // Stable: of equal ones the first param takes the first fact; a whole meaning goes before a part of one.
        pairs.sort_by(|a, b| {
            let parts = self.is_part(a.1, a.2).cmp(&self.is_part(b.1, b.2));
            parts.then(b.0.total_cmp(&a.0))
        });
        let mut ends: BTreeMap<usize, usize> = BTreeMap::new();
        // Once a param took a period with its whole meaning no other gets a part of one.
        let mut took_whole = false;
        for (_, index, fact, value) in pairs.iter().cloned() {
            let open = self.values.get(index).is_some_and(Vec::is_empty);
            let shared = self.is_part(index, fact);
            if shared && took_whole {
                continue;
            }
            if open && (shared || self.are_free(fact.tokens.clone())) {
                took_whole |= !shared && values::is_period(fact);
                self.put(index, value, fact.tokens.clone());
                ends.insert(index, fact.tokens.end);
            }
        }
        self.whole_day(&ends);
        pairs.sort_by_key(|(_, _, fact, _)| fact.tokens.start);
        for (_, index, fact, value) in pairs {
            let several = self
                .spec
                .params
                .get(index)
                .is_some_and(|p| p.list || p.kind != Kind::Number);
            if let Some(end) = ends.get_mut(&index)
                && several
                && self.are_free(fact.tokens.clone())
                && (self.are_listed(*end, fact.tokens.start) || self.is_span(*end, fact))
            {
                self.put(index, value, fact.tokens.clone());
                *end = fact.tokens.end;
            }
        }
    }

    /// "From Q3 to Q4": both quarters are meant.
    fn is_span(&self, end: usize, fact: &Fact) -> bool {
        let to = ["to", "-", "–", "through", "with"].contains(&self.query.lower(end));
        to && fact.tokens.start == end + 1 && matches!(fact.meaning, Meaning::Quarter { .. })
    }

    /// Whether the param would take only a part of what the fact means, such as the year of a quarter.
    fn is_part(&self, param: usize, fact: &Fact) -> bool {
        values::is_derived(self.spec.params.get(param), fact)
    }

    /// A single day for a range from one day to another is the range of that day.
    fn whole_day(&mut self, given: &BTreeMap<usize, usize>) {
        let role =
            |param: &Param, word| param.kind == Kind::Date && values::role(param, word) > 0.0;
        let params = &self.spec.params;
        let begins: Vec<usize> = (0..params.len())
            .filter(|&i| params.get(i).is_some_and(|p| role(p, "from")))
            .collect();
        let ends: Vec<usize> = (0..params.len())
            .filter(|&i| params.get(i).is_some_and(|p| role(p, "to")))
            .collect();
        let ([begin], [end]) = (begins.as_slice(), ends.as_slice()) else {
            return;
        };
        let (from, to) = match (given.get(begin), given.get(end)) {
            (Some(_), None) => (*begin, *end),
            (None, Some(_)) => (*end, *begin),
            _ => return,
        };
        let (Some(given), Some(param)) = (given.get(&from), params.get(from)) else {
            return;
        };
        let fact = self.query.facts.iter().find(|f| f.tokens.end == *given);
        let directed =
            fact.is_none_or(|f| values::role(param, self.word_before(f.tokens.start)) > 0.0);
        if let Some(value) = self
            .values
            .get(from)
            .and_then(|v| v.first())
            .cloned()
            .filter(|_| !directed)
        {
            self.put(to, value, 0..0);
        }
    }

    /// How well a fact fits a param that could take it; below 1 it does not.
    fn fit(&self, param: &Param, fact: &Fact) -> f32 {
        let before = self.word_before(fact.tokens.start);
        let after = self.query.token(fact.tokens.end);
        let near = (fact.tokens.start.saturating_sub(3)..fact.tokens.start)
            .chain(fact.tokens.end..fact.tokens.end + 2)
            .filter_map(|i| self.query.token(i))
            .any(|t| param.words.contains(&t.stem));
        let counted = param.kind == Kind::Number && self.reach == Reach::Elsewhere;
        let mut score = if param.kind != Kind::Number || (param.required && !counted) {
            1.0
        } else {
            0.0
        };
        if param.cues.contains(before) {
            score += if param.kind == Kind::Number && !param.required {
                0.5
            } else {
                2.0
            };
        }
        score += values::role(param, before);
        if after.is_some_and(|t| param.words.contains(&t.stem)) {
            score += 1.0;
        }
        if near || values::counts(param, before) {
            score += 1.0;
        }
        if let Meaning::Number {
            unit_seconds: Some(_),
            ..
        } = fact.meaning
        {
            score += if param.unit_seconds.is_some() {
                2.0
            } else {
                -0.5
            };
        }
        score
    }
}
