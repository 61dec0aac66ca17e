//! Divides a query at its marks and conjunctions into clauses.
//!
//! Does not know which clauses say something only together; see [`super::piece`].

use std::ops::Range;

use super::card::Card;
use super::kind::Kind;
use super::rank::Reading;
use super::text::TokenKind;
use super::words::{ASK, PREFACE};

/// Most parts of a query that are looked at by themselves; the last one takes the rest.
const MAX_SEGMENTS: usize = 64;

/// What stands between two clauses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Joint {
    /// The end of a sentence or a line.
    Hard,
    /// A conjunction or a comma.
    Soft,
}

#[derive(Debug, Clone)]
pub(super) struct Clause {
    pub(super) tokens: Range<usize>,
    /// What stands before it.
    pub(super) joint: Joint,
}

/// The clauses of a query, in its order; none is empty.
pub(super) fn clauses(reading: &Reading<'_>) -> Vec<Clause> {
    let mut clauses: Vec<Clause> = Vec::new();
    for clause in segments(reading) {
        match clauses.last_mut() {
            Some(last) if !divides(reading, &last.tokens, &clause) => {
                last.tokens.end = clause.tokens.end;
            }
            _ => clauses.push(clause),
        }
    }
    clauses
}

/// Whether a clause stands by itself: "if it rains, …" stays with what hangs on it, and those that plan with a request
/// understand it best as a whole: "… in May? And in June?"
fn divides(reading: &Reading<'_>, left: &Range<usize>, right: &Clause) -> bool {
    let (query, words) = (reading.query, right.tokens.clone());
    let (a, b) = (reading.stands(left.clone()), reading.stands(words.clone()));
    let again = a == b || (b.is_none() && !reading.opens(&words));
    if again && a.is_some_and(|a| reading.plans(a)) {
        return false;
    }
    let words = [0, 1, 2].map(|at| query.lower(left.start + at));
    let condition = match words {
        [
            "if" | "when" | "once" | "unless" | "whenever" | "should" | "until",
            ..,
        ]
        | ["provided" | "assuming", ..]
        | ["as", _, "as"]
        | ["in", "case", _] => true,
        [..] => false,
    };
    right.joint == Joint::Hard || !condition || query.lower(left.end) != ","
}

fn segments(reading: &Reading<'_>) -> Vec<Clause> {
    let query = reading.query;
    let mut segments = Vec::new();
    let (mut start, mut at, mut joint) = (0, 0, Joint::Hard);
    while at < query.tokens.len() && segments.len() + 1 < MAX_SEGMENTS {
        let Some((next, length)) = separator(reading, start, at) else {
            at += 1;
            continue;
        };
        if takes_the_rest(reading, start..at) {
            break;
        }
        if start < at {
            segments.push(Clause {
                tokens: start..at,
                joint,
            });
        }
        // Of several separators in a row the strongest one counts.
        if start < at || joint == Joint::Soft {
            joint = next;
        }
        at += length;
        start = at;
    }
    if start < query.tokens.len() {
        let tokens = start..query.tokens.len();
        segments.push(Clause { tokens, joint });
    }
    segments
}

/// Whether a separator stands at `at`, and how many tokens it has; `start` is where the segment started.
fn separator(reading: &Reading<'_>, start: usize, at: usize) -> Option<(Joint, usize)> {
    let query = reading.query;
    let token = query.token(at)?;
    if token.kind == TokenKind::Line {
        return Some((Joint::Hard, 1));
    }
    if at == start
        && let Some(length) = list_mark(reading, at)
    {
        return Some((Joint::Hard, length));
    }
    if query.fact(at).is_some() {
        return None;
    }
    match token.lower.as_str() {
        ";" | "•" => Some((Joint::Hard, 1)),
        "." | "?" | "!" => {
            let ends = query
                .token(at + 1)
                .is_none_or(|t| t.spaced || t.kind == TokenKind::Line);
            ends.then_some((Joint::Hard, 1))
        }
        ":" => Some((Joint::Soft, 1)),
        "–" | "—" => Some((Joint::Soft, 1)),
        "-" if token.spaced && query.token(at + 1).is_some_and(|t| t.spaced) => {
            Some((Joint::Soft, 1))
        }
        "but" if query.mark(at + 1).is_some_and(|(_, cue)| cue.contains(&at)) => None,
        "and" | "," | "then" | "also" | "plus" | "&" | "but" => Some((Joint::Soft, 1)),
        "as" if query.lower(at + 1) == "well" && query.lower(at + 2) == "as" => {
            Some((Joint::Soft, 3))
        }
        _ => None,
    }
}

/// `1.`, `2)`, `-` or `*` at the start of a line.
fn list_mark(reading: &Reading<'_>, at: usize) -> Option<usize> {
    let query = reading.query;
    let before = at.checked_sub(1).map(|before| query.token(before));
    let starts_line = before.is_none_or(|token| token.is_some_and(|t| t.kind == TokenKind::Line));
    let token = query.token(at).filter(|_| starts_line)?;
    let after = query.token(at + 1)?;
    if token.kind == TokenKind::Number && (after.is(".") || after.is(")")) && token.text.len() <= 2
    {
        return Some(2);
    }
    (matches!(token.lower.as_str(), "-" | "*" | "•" | "–") && after.spaced).then_some(1)
}

/// "Summarize this: …": what follows the colon is a text, whatever is in it.
fn takes_the_rest(reading: &Reading<'_>, tokens: Range<usize>) -> bool {
    let query = reading.query;
    let quoted = query
        .token(tokens.end + 1)
        .is_some_and(|t| t.kind == TokenKind::Quoted);
    if query.lower(tokens.end) != ":" || quoted {
        return false;
    }
    let takes_text = |card: &Card| {
        card.params
            .iter()
            .any(|p| p.kind == Kind::Text && p.required)
    };
    let ranked = reading.rank(tokens);
    ranked
        .iter()
        .take(3)
        .filter_map(|r| reading.index.card(r.entry))
        .any(takes_text)
}

/// Whether the words are no more than courtesy: "please", "thanks a lot".
pub(super) fn is_courtesy(reading: &Reading<'_>, range: &Range<usize>) -> bool {
    range
        .clone()
        .all(|at| !reading.query.is_content(at) || reading.query.is(at, PREFACE | ASK))
}
