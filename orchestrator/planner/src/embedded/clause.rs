//! Divides a query into clauses, each of which asks for one thing.
//!
//! A conjunction divides only where both sides stand for something by themselves; does not place the clauses.

use std::ops::Range;

use super::fill::{Reach, fill};
use super::kind::Kind;
use super::rank::Reading;
use super::text::{Token, TokenKind};
use super::wiring::are_connected;
use super::words::is_joint;

/// Most parts of a query that are looked at by themselves; the last one takes the rest.
const MAX_SEGMENTS: usize = 64;

/// What stands between two segments.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Joint {
    /// The end of a sentence or a line.
    Hard,
    /// A conjunction or a comma.
    Soft,
}

#[derive(Debug, Clone)]
struct Segment {
    tokens: Range<usize>,
    /// What stands before it.
    joint: Joint,
}

/// One thing that is asked for.
#[derive(Debug, Clone)]
pub(super) struct Clause {
    pub(super) tokens: Range<usize>,
    /// The parts that conjunctions join in it.
    pub(super) segments: Vec<Range<usize>>,
}

/// The clauses of a query, in its order; none is empty.
pub(super) fn clauses(reading: &Reading<'_>) -> Vec<Clause> {
    let mut clauses: Vec<Clause> = Vec::new();
    for segment in segments(reading) {
        match clauses.last_mut() {
            Some(last) if !divides(reading, last, &segment) => {
                last.tokens.end = segment.tokens.end;
                last.segments.push(segment.tokens);
            }
            _ => clauses.push(Clause {
                tokens: segment.tokens.clone(),
                segments: vec![segment.tokens],
            }),
        }
    }
    clauses
}

fn divides(reading: &Reading<'_>, left: &Clause, right: &Segment) -> bool {
    let stand = (
        reading.stands(left.tokens.clone()),
        reading.stands(right.tokens.clone()),
    );
    let opens = reading.opens(right.tokens.clone());
    // Whoever plans with a request understands it best as a whole: "… in May? And in June?"
    if let (Some(a), b) = stand
        && reading.plans(a)
        && (b == Some(a) || (b.is_none() && (!opens || asks_again(reading, &right.tokens))))
    {
        return false;
    }
    if right.joint == Joint::Hard {
        return true;
    }
    let content = reading.has_content(right.tokens.clone());
    let left_opens =
        || reading.opens(left.tokens.clone()) && reading.has_content(left.tokens.clone());
    match stand {
        (Some(_), Some(_)) if opens => true,
        (Some(a), Some(b)) => a != b && !are_connected(reading.index, a, b),
        (Some(_), None) => opens && content,
        (None, Some(b)) => left_opens() && (opens || !are_values(reading, &left.tokens, b)),
        (None, None) => opens && content && left_opens(),
    }
}

/// "What about June?"
pub(super) fn asks_again(reading: &Reading<'_>, range: &Range<usize>) -> bool {
    let mut words = range
        .clone()
        .map(|at| reading.query.lower(at))
        .skip_while(|w| matches!(*w, "and" | "," | "or"));
    matches!(
        (words.next(), words.next()),
        (Some("what" | "how"), Some("about"))
    )
}

/// Whether all that some words say are values for a capability: "show sales and marketing rows".
fn are_values(reading: &Reading<'_>, tokens: &Range<usize>, entry: usize) -> bool {
    let Some(card) = reading.index.entry(entry) else {
        return false;
    };
    let said = fill(reading.query, &card.spec, tokens.clone(), Reach::Named, &[]);
    tokens
        .clone()
        .all(|at| !reading.query.is_content(at) || said.used.get(at) == Some(&true))
}

fn segments(reading: &Reading<'_>) -> Vec<Segment> {
    let query = reading.query;
    let mut segments = Vec::new();
    let mut start = 0;
    let mut joint = Joint::Hard;
    let mut at = 0;
    while at < query.tokens.len() {
        if segments.len() + 1 == MAX_SEGMENTS {
            break;
        }
        let Some((next, length)) = separator(reading, start, at) else {
            at += 1;
            continue;
        };
        if takes_the_rest(reading, start..at) {
            break;
        }
        let empty = start == at;
        push(&mut segments, start..at, joint);
        // Of several separators in a row the strongest one counts.
        joint = if empty && joint == Joint::Hard {
            joint
        } else {
            next
        };
        at += length;
        start = at;
    }
    push(&mut segments, start..query.tokens.len(), joint);
    segments
}

fn push(segments: &mut Vec<Segment>, tokens: Range<usize>, joint: Joint) {
    if !tokens.is_empty() {
        segments.push(Segment { tokens, joint });
    }
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
    if query.in_fact.get(at) == Some(&true) {
        // `2)` in the middle of a line.
        let numbered = token.kind == TokenKind::Number
            && query.lower(at + 1) == ")"
            && !in_parentheses(reading, start, at);
        return numbered.then_some((Joint::Hard, 2));
    }
    match token.lower.as_str() {
        ";" | "•" => Some((Joint::Hard, 1)),
        "." | "?" | "!" => {
            let ends = query
                .token(at + 1)
                .is_none_or(|t| t.spaced || t.kind == TokenKind::Line);
            (ends && !is_abbreviation(query.token(at.wrapping_sub(1)))).then_some((Joint::Hard, 1))
        }
        ":" => Some((Joint::Soft, 1)),
        "and" if between(reading, start, at) => None,
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
    let starts_line = at == 0
        || query
            .token(at - 1)
            .is_some_and(|t| t.kind == TokenKind::Line);
    let token = query.token(at).filter(|_| starts_line)?;
    let after = query.token(at + 1)?;
    if token.kind == TokenKind::Number && (after.is(".") || after.is(")")) && token.text.len() <= 2
    {
        return Some(2);
    }
    (matches!(token.lower.as_str(), "-" | "*" | "•" | "–") && after.spaced).then_some(1)
}

fn in_parentheses(reading: &Reading<'_>, start: usize, at: usize) -> bool {
    (start..at)
        .rev()
        .take(8)
        .any(|i| reading.query.lower(i) == "(")
}

fn is_abbreviation(token: Option<&Token<'_>>) -> bool {
    token.is_some_and(|t| {
        matches!(
            t.lower.as_str(),
            "mr" | "mrs" | "ms" | "dr" | "st" | "prof" | "vs" | "no" | "inc" | "e.g" | "i.e"
        )
    })
}

/// "between 3 and 5": the conjunction belongs to the range.
fn between(reading: &Reading<'_>, start: usize, at: usize) -> bool {
    let since: Vec<&str> = (start..at)
        .rev()
        .take(5)
        .map(|i| reading.query.lower(i))
        .collect();
    since
        .iter()
        .position(|w| *w == "between")
        .is_some_and(|i| !since.iter().take(i).any(|w| is_joint(w)))
}

/// "Summarize this: …": what follows the colon is a text, whatever is in it.
fn takes_the_rest(reading: &Reading<'_>, tokens: Range<usize>) -> bool {
    let query = reading.query;
    if query.lower(tokens.end) != ":"
        || query
            .token(tokens.end + 1)
            .is_some_and(|t| t.kind == TokenKind::Quoted)
    {
        return false;
    }
    let entry = reading.stands(tokens).and_then(|e| reading.index.entry(e));
    entry.is_some_and(|e| {
        e.spec
            .params
            .iter()
            .any(|p| p.kind == Kind::Text && p.required)
    })
}
