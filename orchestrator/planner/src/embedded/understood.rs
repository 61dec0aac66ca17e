//! Whether a plan says what the query says: each content word is explained, nothing is denied, and nothing is changed that nobody
//! asked to change.
//!
//! Does not plan: it judges the clauses of a compiled plan, and says why one is not carried out.

use std::collections::BTreeSet;
use std::ops::Range;

use amcp_plan::Plan;
use amcp_protocol::Effect;

use super::fill::{Reach, fill};
use super::kind::Kind;
use super::lexicon::unit_seconds;
use super::propose::Proposed;
use super::rank::Reading;
use super::spec::Param;
use super::text::TokenKind;
use super::words::{
    changes, is_command, is_comparison, is_filler, is_generic, is_negation, is_preface,
    is_question, is_stop, takes_back,
};

/// A word that says less of a capability than this explains nothing.
const NAMED: f32 = 0.2;
/// Most leftover words that are named to the user.
const SHOWN: usize = 4;

/// A clause that is not carried out, and why.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Misread {
    /// Index of the clause.
    pub(super) clause: usize,
    pub(super) why: String,
}

/// What the user should know of a plan.
#[derive(Debug, Default)]
pub(super) struct Judgement {
    /// The clauses that the plan does not carry out as they were said.
    pub(super) misread: Vec<Misread>,
    pub(super) notes: Vec<String>,
}

/// Judges a plan, clause by clause.
pub(super) fn judge(reading: &Reading<'_>, proposed: &Proposed, plan: &Plan) -> Judgement {
    let names: BTreeSet<&str> = plan.tasks.iter().map(|t| t.capability.as_str()).collect();
    let entries = reading.index.entries.iter().enumerate();
    let entries: Vec<usize> = entries
        .filter(|(_, e)| names.contains(e.capability().name.as_str()))
        .map(|(entry, _)| entry)
        .collect();
    let mut judgement = Judgement::default();
    for (clause, range) in proposed.clauses.iter().enumerate() {
        let own: Vec<usize> = proposed.entries_of(clause).collect();
        if own.is_empty() || own.iter().any(|&entry| reading.plans(entry)) {
            continue;
        }
        let words = Words {
            reading,
            range: range.clone(),
            own: &own,
            all: &entries,
            used: used(reading, range, &entries),
        };
        match words.why_not(&proposed.added(reading, plan)) {
            Some(why) => judgement.misread.push(Misread { clause, why }),
            None => judgement.notes.extend(words.note()),
        }
    }
    judgement
}

/// The tokens that become values of the plan's capabilities.
fn used(reading: &Reading<'_>, range: &Range<usize>, entries: &[usize]) -> Vec<bool> {
    let mut used = vec![false; reading.query.tokens.len()];
    for &entry in entries {
        let Some(card) = reading.index.entry(entry) else {
            continue;
        };
        let said = fill(reading.query, &card.spec, range.clone(), Reach::Clause, &[]);
        used.iter_mut()
            .zip(said.used)
            .for_each(|(all, one)| *all |= one);
    }
    used
}

/// A clause beside the capabilities that its plan uses.
struct Words<'a> {
    reading: &'a Reading<'a>,
    range: Range<usize>,
    /// The capabilities of the clause.
    own: &'a [usize],
    /// The capabilities of the whole plan.
    all: &'a [usize],
    used: Vec<bool>,
}

/// How a clause asks.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Mood {
    /// With the verb at this token.
    Command(usize),
    Question,
    /// A phrase without a verb: "expense report for Q4".
    Phrase,
}

impl Words<'_> {
    fn lower(&self, at: usize) -> &str {
        self.reading.query.lower(at)
    }

    fn why_not(&self, added: &[Effect]) -> Option<String> {
        self.denied()
            .or_else(|| self.changed(added))
            .or_else(|| self.left_over())
    }

    /// "without travel", "more than 500": no param takes it.
    fn denied(&self) -> Option<String> {
        let at = self.range.clone().find(|&at| self.denies(at))?;
        let end = (at + 4).min(self.range.end);
        let shown = self.reading.query.slice(at..end);
        Some(format!("'{shown}' cannot be expressed"))
    }

    fn denies(&self, at: usize) -> bool {
        if self.is_used(at) {
            return false;
        }
        let (lower, next) = (self.lower(at), self.lower(at + 1));
        let flag = || (at + 1..at + 3).any(|next| self.is_flag(next));
        (is_negation(lower, next) && !flag())
            || (is_comparison(lower, next) && (at + 1..self.range.end).any(|i| self.is_number(i)))
    }

    /// Whether the token became a yes or a no.
    fn is_flag(&self, at: usize) -> bool {
        let flags = self
            .all
            .iter()
            .filter_map(|&entry| self.reading.index.entry(entry));
        let stem = self.reading.query.token(at).map(|t| t.stem.as_str());
        self.is_used(at)
            && flags
                .flat_map(|card| &card.spec.params)
                .any(|p| p.kind == Kind::Flag && p.words.iter().any(|w| Some(w.as_str()) == stem))
    }

    fn is_number(&self, at: usize) -> bool {
        let token = self.reading.query.token(at);
        token.is_some_and(|t| t.kind == TokenKind::Number)
    }

    /// What changes something is asked for with a verb that the card names; what only reads is not asked to change anything.
    fn changed(&self, added: &[Effect]) -> Option<String> {
        let mood = self.mood();
        let reads = self.effects().all(|(effect, _)| effect == Effect::Read);
        if let Mood::Command(verb) = mood
            && reads
            && changes(self.lower(verb))
            && !self.names(verb, self.own)
        {
            let verb = self.lower(verb);
            return Some(format!("nothing here can {verb} that"));
        }
        for (effect, name) in self.effects().filter(|(effect, _)| *effect != Effect::Read) {
            let asked = match mood {
                Mood::Command(verb) => {
                    let lower = self.lower(verb);
                    self.names(verb, self.own) || (is_generic(lower) && !takes_back(lower))
                }
                Mood::Question => false,
                Mood::Phrase => effect == Effect::Write,
            };
            if !asked {
                return Some(format!(
                    "{name} changes something, and nothing asks for that"
                ));
            }
        }
        let unasked = added.iter().any(|effect| *effect != Effect::Read);
        unasked.then(|| "it needs a task that changes something and was not asked for".to_owned())
    }

    fn effects(&self) -> impl Iterator<Item = (Effect, &str)> {
        self.own.iter().filter_map(|&entry| {
            let capability = self.reading.index.entry(entry)?.capability();
            Some((capability.effect, capability.name.as_str()))
        })
    }

    /// Words that stand for nothing in the plan.
    fn left_over(&self) -> Option<String> {
        let adjunct = self.adjunct();
        let left = self
            .range
            .clone()
            .filter(|at| !adjunct.contains(at) && self.is_left(*at));
        let words: Vec<&str> = left
            .map(|at| self.reading.query.slice(at..at + 1))
            .collect();
        let shown = words
            .iter()
            .take(SHOWN)
            .copied()
            .collect::<Vec<_>>()
            .join(" ");
        let named = self
            .own
            .first()
            .and_then(|&entry| self.reading.index.entry(entry))?;
        let name = &named.capability().name;
        (!words.is_empty()).then(|| format!("{name} was meant, but '{shown}' was not understood"))
    }

    fn is_left(&self, at: usize) -> bool {
        let Some(token) = self.reading.query.token(at) else {
            return false;
        };
        let says = match token.kind {
            TokenKind::Word => {
                let grammar = |word: &str| is_stop(word) || is_generic(word) || is_filler(word);
                !grammar(&token.lower)
                    && !grammar(&token.stem)
                    && !is_command(&token.lower)
                    && !is_question(&token.lower)
            }
            TokenKind::Number | TokenKind::Quoted | TokenKind::Link => true,
            // Of an amount, but not of an expression: "200 minus 15%".
            TokenKind::Mark => token.is("%") && self.calculates(),
            TokenKind::Line => false,
        };
        // A word of grammar in a date is not: "next week".
        let dated =
            self.reading.query.in_fact.get(at) == Some(&true) && token.kind == TokenKind::Word;
        (says || dated)
            && !self.is_used(at)
            && !self.names(at, self.all)
            && !self.is_beside_number(at)
    }

    /// "5 minutes", "top 5", where the number became a value.
    fn is_beside_number(&self, at: usize) -> bool {
        let value = |at: usize| self.is_used(at) && self.is_number(at);
        let lower = self.lower(at);
        let unit = unit_seconds(lower).is_some() || matches!(lower, "percent" | "items" | "times");
        (unit && at > 0 && value(at - 1)) || (lower == "top" && value(at + 1))
    }

    fn calculates(&self) -> bool {
        let cards = self
            .own
            .iter()
            .filter_map(|&entry| self.reading.index.entry(entry));
        let mut params = cards.flat_map(|card| &card.spec.params);
        params.any(|param| param.kind == Kind::Expression)
    }

    fn is_used(&self, at: usize) -> bool {
        self.used.get(at) == Some(&true)
    }

    /// Whether the token is a word of one of the capabilities.
    fn names(&self, at: usize, entries: &[usize]) -> bool {
        let hits = self.reading.hits.get(at).into_iter().flatten();
        let mut own = hits.filter(|hit| entries.contains(&hit.entry));
        let stem = self.reading.query.token(at).map_or("", |t| t.stem.as_str());
        let listed = |&entry: &usize| {
            self.reading.index.entry(entry).is_some_and(|card| {
                let of_param = |p: &Param| p.words.iter().any(|w| w == stem);
                card.spec.words.contains(stem)
                    || card.spec.results.contains(stem)
                    || card.spec.params.iter().any(of_param)
            })
        };
        own.any(|hit| hit.strength > NAMED) || entries.iter().any(listed)
    }

    /// "for my boss" changes nothing of what only reads.
    fn adjunct(&self) -> Range<usize> {
        let reads = self.own.iter().all(|&entry| {
            let card = self.reading.index.entry(entry);
            card.is_none_or(|card| card.capability().effect != Effect::Irreversible)
        });
        let whose = |at: &usize| {
            self.lower(*at) == "for"
                && matches!(self.lower(at + 1), "my" | "our" | "his" | "her" | "their")
        };
        let at = self.range.clone().find(whose).filter(|_| reads);
        at.map_or(0..0, |at| at..(at + 3).min(self.range.end))
    }

    fn note(&self) -> Option<String> {
        let adjunct = self.adjunct();
        let left = adjunct.clone().any(|at| self.is_left(at));
        left.then(|| format!("'{}' changed nothing", self.reading.query.slice(adjunct)))
    }

    fn mood(&self) -> Mood {
        let mut wished = false;
        let mut at = self.range.start;
        while at < self.range.end {
            let (lower, next) = (self.lower(at), self.lower(at + 1));
            if matches!(lower, "can" | "could" | "would" | "will") && next == "you" {
                at += 2;
                wished = true;
            } else if is_preface(lower) && !(is_question(lower) && !wished && next != "like")
                || matches!(lower, "," | "help" | "me" | "us" | "let's" | "to")
            {
                wished |= matches!(lower, "need" | "want" | "like");
                at += 1;
            } else {
                break;
            }
        }
        let word = self.lower(at);
        if is_command(word) {
            Mood::Command(at)
        } else if is_question(word) && !wished {
            Mood::Question
        } else {
            Mood::Phrase
        }
    }
}
