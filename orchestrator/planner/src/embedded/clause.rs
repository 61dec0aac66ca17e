//! Divides a query into clauses, each of which asks for one thing.
//!
//! A conjunction divides only where both sides stand for something by themselves; does not place the clauses.

use std::ops::Range;

use super::card::Card;
use super::kind::Kind;
use super::rank::Reading;
use super::text::{Token, TokenKind};
use super::words::{ASK, PREFACE, is_joint};

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

/// The clauses of a query, in its order; none is empty.
pub(super) fn clauses(reading: &Reading<'_>) -> Vec<Range<usize>> {
    let mut clauses: Vec<Range<usize>> = Vec::new();
    for segment in segments(reading) {
        match clauses.last_mut() {
            Some(last) if !divides(reading, last, &segment) => last.end = segment.tokens.end,
            _ => clauses.push(segment.tokens),
        }
    }
    clauses
}

fn divides(reading: &Reading<'_>, left: &Range<usize>, right: &Segment) -> bool {
    let (a, b) = (
        reading.stands(left.clone()),
        reading.stands(right.tokens.clone()),
    );
    let opens = reading.opens(&right.tokens);
    // Those that plan with a request understand it best as a whole: "… in May? And in June?"
    if let Some(a) = a.filter(|&a| reading.plans(a))
        && (b == Some(a) || (b.is_none() && (!opens || asks_again(reading, &right.tokens))))
    {
        return false;
    }
    if right.joint == Joint::Hard {
        return true;
    }
    // "if it rains, …": the condition stays with what hangs on it.
    let condition = |at: usize| {
        matches!(
            reading.query.lower(at),
            "if" | "when" | "once" | "unless" | "whenever" | "should"
        )
    };
    if condition(left.start) && reading.query.lower(left.end) == "," {
        return false;
    }
    let content = reading.has_content(right.tokens.clone());
    let left_opens = || reading.opens(left) && reading.has_content(left.clone());
    // "don't open this one, open that one"
    let denies = |range: &Range<usize>| {
        range
            .clone()
            .any(|at| super::words::is_negative(reading.query.lower(at)))
    };
    match (a, b) {
        (Some(_), Some(_)) if opens => true,
        (Some(a), Some(b)) => denies(left) != denies(&right.tokens) || a != b,
        (Some(_), None) => opens && content,
        (None, Some(b)) => left_opens() && (opens || !are_values(reading, left, b)),
        (None, None) => opens && content && left_opens(),
    }
}

/// "What about June?"
pub(super) fn asks_again(reading: &Reading<'_>, range: &Range<usize>) -> bool {
    let words = range.clone().map(|at| reading.query.lower(at));
    let mut words = words.skip_while(|w| matches!(*w, "and" | "," | "or"));
    matches!(
        (words.next(), words.next()),
        (Some("what" | "how"), Some("about"))
    )
}

/// Whether all that some words say are values for a capability: "show sales and marketing rows".
fn are_values(reading: &Reading<'_>, tokens: &Range<usize>, entry: usize) -> bool {
    let said = reading.fill(entry, tokens);
    tokens
        .clone()
        .all(|at| !reading.query.is_content(at) || said.uses(at))
}

fn segments(reading: &Reading<'_>) -> Vec<Segment> {
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
            segments.push(Segment {
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
        segments.push(Segment { tokens, joint });
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
            (ends && !is_abbreviation(query.token(at.wrapping_sub(1)))).then_some((Joint::Hard, 1))
        }
        ":" => Some((Joint::Soft, 1)),
        "and" if between(reading, start, at) => None,
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

fn is_abbreviation(token: Option<&Token<'_>>) -> bool {
    let known =
        |t: &Token<'_>| matches!(t.lower.as_str(), "vs" | "no" | "inc" | "e.g" | "i.e" | "uk");
    token.is_some_and(known)
}

/// "between 3 and 5": the conjunction belongs to the range.
fn between(reading: &Reading<'_>, start: usize, at: usize) -> bool {
    let since: Vec<&str> = (start..at)
        .rev()
        .take(5)
        .map(|i| reading.query.lower(i))
        .collect();
    let place = since.iter().position(|w| *w == "between");
    place.is_some_and(|i| !since.iter().take(i).any(|w| is_joint(w)))
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
