//! A query, read once: its tokens and its facts.
//!
//! Does not know any capability.

use std::ops::Range;

use jiff::civil::Date;

use super::facts::{Fact, facts};
use super::text::{Token, TokenKind, tokens};
use super::words::{is_filler, is_generic, is_negation, is_stop};

/// A query, read once.
#[derive(Debug)]
pub(super) struct Query<'q> {
    pub(super) text: &'q str,
    pub(super) tokens: Vec<Token<'q>>,
    pub(super) facts: Vec<Fact>,
    /// Which token belongs to a fact.
    pub(super) in_fact: Vec<bool>,
    /// Which token stands in a sentence after a word that takes something back: no other sentence takes a value from there.
    pub(super) denied: Vec<bool>,
    pub(super) today: Date,
}

impl<'q> Query<'q> {
    pub(super) fn new(text: &'q str, today: Date) -> Self {
        let tokens = tokens(text);
        let facts = facts(text, &tokens, today);
        let mut in_fact = vec![false; tokens.len()];
        for fact in &facts {
            mark(&mut in_fact, fact.tokens.clone());
        }
        let denied = denied(&tokens);
        Self {
            text,
            tokens,
            facts,
            in_fact,
            denied,
            today,
        }
    }

    pub(super) fn token(&self, at: usize) -> Option<&Token<'q>> {
        self.tokens.get(at)
    }

    pub(super) fn lower(&self, at: usize) -> &str {
        self.tokens.get(at).map_or("", |t| t.lower.as_str())
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

    /// A word that says something by itself: neither grammar nor a general verb.
    pub(super) fn is_content(&self, at: usize) -> bool {
        self.token(at).is_some_and(|t| match t.kind {
            TokenKind::Word => !is_stop(&t.lower) && !is_generic(&t.lower) && !is_filler(&t.lower),
            TokenKind::Number | TokenKind::Quoted | TokenKind::Link => true,
            TokenKind::Mark | TokenKind::Line => false,
        })
    }
}

fn denied(tokens: &[Token<'_>]) -> Vec<bool> {
    let next = |at: usize| tokens.get(at + 1).map_or("", |t| t.lower.as_str());
    let mut inside = false;
    let mut denied = Vec::with_capacity(tokens.len());
    for (at, token) in tokens.iter().enumerate() {
        let ends = token.kind == TokenKind::Line || matches!(token.lower.as_str(), "." | "?" | "!");
        inside = !ends && (inside || is_negation(&token.lower, next(at)));
        denied.push(inside);
    }
    denied
}

pub(super) fn mark(flags: &mut [bool], range: Range<usize>) {
    for flag in flags.iter_mut().take(range.end).skip(range.start) {
        *flag = true;
    }
}
