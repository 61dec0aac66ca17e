//! A query, read once: its tokens, its facts, and the words that mark what follows them.
//!
//! Does not know any capability.

use std::ops::Range;

use jiff::civil::Date;

use super::facts::{Fact, Meaning, facts};
use super::text::{Token, TokenKind, tokens};
use super::words::{FREE, Mark, is, mark};

/// A query, read once.
#[derive(Debug)]
pub(super) struct Query<'q> {
    pub(super) text: &'q str,
    pub(super) tokens: Vec<Token<'q>>,
    pub(super) facts: Vec<Fact>,
    /// By token: the fact that it belongs to.
    in_fact: Vec<Option<usize>>,
    /// By token: how the words before it mark it, and these words.
    marks: Vec<Option<(Mark, Range<usize>)>>,
    pub(super) today: Date,
}

impl<'q> Query<'q> {
    pub(super) fn new(text: &'q str, today: Date) -> Self {
        let tokens = tokens(text);
        let facts = facts(text, &tokens, today);
        let mut in_fact = vec![None; tokens.len()];
        for (number, fact) in facts.iter().enumerate() {
            let places = in_fact
                .iter_mut()
                .take(fact.tokens.end)
                .skip(fact.tokens.start);
            places.for_each(|place| *place = Some(number));
        }
        let mut query = Self {
            text,
            tokens,
            facts,
            in_fact,
            marks: Vec::new(),
            today,
        };
        query.marks = query.find_marks();
        query
    }

    pub(super) fn token(&self, at: usize) -> Option<&Token<'q>> {
        self.tokens.get(at)
    }

    pub(super) fn lower(&self, at: usize) -> &str {
        self.tokens.get(at).map_or("", |t| t.lower.as_str())
    }

    /// The word before a token; nothing at the beginning.
    pub(super) fn before(&self, at: usize) -> &str {
        at.checked_sub(1).map_or("", |at| self.lower(at))
    }

    pub(super) fn fact(&self, at: usize) -> Option<&Fact> {
        self.facts.get((*self.in_fact.get(at)?)?)
    }

    pub(super) fn mark(&self, at: usize) -> Option<&(Mark, Range<usize>)> {
        self.marks.get(at)?.as_ref()
    }

    /// The text that some tokens stand for, as written.
    pub(super) fn slice(&self, range: Range<usize>) -> &'q str {
        let tokens = self.tokens.get(range).unwrap_or_default();
        let (Some(first), Some(last)) = (tokens.first(), tokens.last()) else {
            return "";
        };
        self.text
            .get(first.start..last.end)
            .unwrap_or_default()
            .trim()
    }

    /// A word that says something by itself, or a part of a fact.
    pub(super) fn is_content(&self, at: usize) -> bool {
        let fact = self.fact(at).is_some();
        self.token(at).is_some_and(|t| match t.kind {
            TokenKind::Word => fact || !is(&t.lower, FREE),
            TokenKind::Number | TokenKind::Quoted | TokenKind::Link => true,
            TokenKind::Mark | TokenKind::Line => false,
        })
    }

    fn is_number(&self, at: usize) -> bool {
        self.fact(at)
            .is_some_and(|f| matches!(f.meaning, Meaning::Number(..)))
    }

    /// What is marked by "without" and the like reaches to the next preposition or mark of punctuation; bounds reach to one number.
    fn find_marks(&self) -> Vec<Option<(Mark, Range<usize>)>> {
        let mut marks = Vec::with_capacity(self.tokens.len());
        let mut open: Option<(Mark, Range<usize>)> = None;
        let mut between = false;
        for (at, token) in self.tokens.iter().enumerate() {
            let span = self
                .fact(at)
                .is_some_and(|f| matches!(f.meaning, Meaning::Span(_)));
            let adjacent = open.as_ref().is_some_and(|(_, cue)| cue.end == at);
            let word = token.lower.as_str();
            let ends = matches!(
                word,
                "." | "?"
                    | "!"
                    | ";"
                    | "then"
                    | "in"
                    | "for"
                    | "with"
                    | "since"
                    | "on"
                    | "at"
                    | "during"
                    | "by"
                    | "\n"
            );
            if (ends || span) && !adjacent {
                open = None;
            }
            let bound = matches!(open, Some((Mark::Least | Mark::Most, _)));
            marks.push(open.clone().filter(|_| !bound || self.is_number(at)));
            if bound && self.is_number(at) && !self.is_number(at + 1) {
                // "between 200 and 400"
                let next = between.then_some((Mark::Most, at + 1..at + 2));
                open = next.filter(|_| (at + 1..at + 4).any(|at| self.lower(at) == "and"));
                between = false;
            }
            let (before, first) = (
                self.before(at),
                at.checked_sub(2).map_or("", |at| self.lower(at)),
            );
            if span {
            } else if word == "between" && self.is_number(at + 1) {
                (between, open) = (true, Some((Mark::Least, at..at + 1)));
            } else if let Some((found, length)) = mark(word, before, first) {
                open = Some((found, (at + 1).saturating_sub(length)..at + 1));
            }
        }
        marks
    }
}
