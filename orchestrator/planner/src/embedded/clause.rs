//! Divides a query into clauses, each of which asks for one thing.
//!
//! A conjunction divides only where both sides stand for something by themselves; does not place the clauses.

use std::collections::BTreeMap;
use std::ops::Range;
use std::rc::Rc;

use super::card::Card;
use super::choose::{self, Attempt, Choice, choose};
use super::judge::Member;
use super::kind::Kind;
use super::rank::Reading;
use super::text::{Token, TokenKind};
use super::words::{
    ASK, PREFACE, SAYING, TAKES_BACK, TELLS, TURNS, WISHES, base, is, is_joint, is_negative,
};

/// Most parts of a query that are looked at by themselves; the last one takes the rest.
const MAX_SEGMENTS: usize = 64;
/// Most clauses that are read as one.
const MERGED: usize = 4;
/// What a word costs that nothing is done about, beside 1 for each piece.
const UNREAD: f32 = 10.0;
/// What it costs to read two sentences as one.
const CROSSED: f32 = 1.5;
/// What it costs to leave out what only tells something.
const TOLD: f32 = 0.5;

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

/// A part of a query that is read as one.
#[derive(Debug, Clone)]
pub(super) struct Piece<'a> {
    pub(super) range: Range<usize>,
    pub(super) does: Does<'a>,
}

/// What is done about a piece.
#[derive(Debug, Clone)]
pub(super) enum Does<'a> {
    Tasks(Rc<Attempt<'a>>),
    /// "and in London?": other or more values for a capability of the piece before.
    Goes(Member<'a>),
    /// It tells something, and asks for nothing.
    Tells,
    /// It takes back the piece before.
    TakesBack,
    Nothing(String),
}

/// The cheapest way to read the clauses up to a place.
#[derive(Debug, Clone)]
struct Path<'a> {
    cost: f32,
    /// Where the last piece begins, in clauses.
    from: usize,
    piece: Piece<'a>,
    /// What the pieces so far are done by.
    members: Vec<Member<'a>>,
    /// How many of them the last piece has.
    last: usize,
}

/// Divides a query into pieces so that the fewest words are left; the clauses that begin at the tokens in `refused` are left out.
pub(super) fn pieces<'a>(
    reading: &'a Reading<'a>,
    refused: &BTreeMap<usize, String>,
) -> Vec<Piece<'a>> {
    let clauses = clauses(reading);
    let mut paths: Vec<Option<Path<'a>>> = vec![None; clauses.len() + 1];
    for at in 0..clauses.len() {
        for length in 1..=MERGED.min(clauses.len() - at) {
            let Some(parts) = clauses.get(at..at + length) else {
                break;
            };
            let before = paths.get(at).and_then(Option::as_ref);
            let Some(mut path) = path(reading, parts, before, refused) else {
                continue;
            };
            path.from = at;
            let best = paths.get_mut(at + length);
            if let Some(best) = best.filter(|best| best.as_ref().is_none_or(|b| path.cost < b.cost))
            {
                *best = Some(path);
            }
        }
    }
    let mut pieces = Vec::new();
    let mut at = clauses.len();
    while let Some(path) = paths.get_mut(at).and_then(Option::take) {
        at = path.from;
        pieces.push(path.piece);
    }
    pieces.reverse();
    // What changes something is not done where a part of its sentence is not understood.
    for at in 1..pieces.len() {
        let Some([one, next]) = pieces.get_mut(at - 1..=at) else {
            continue;
        };
        let soft = clauses
            .iter()
            .any(|c| c.tokens.start == next.range.start && c.joint == Joint::Soft);
        let open =
            matches!(&next.does, Does::Nothing(_)) && reading.has_content(next.range.clone());
        let soft = soft && !reading.opens(&next.range);
        let marked =
            open && (0..2).any(|i| {
                reading
                    .query
                    .mark(next.range.start + i + 1)
                    .is_some_and(|(_, cue)| cue.start <= next.range.start + 1)
            }) && reading
                .stands(next.range.clone())
                .is_none_or(|entry| matches!(&one.does, Does::Tasks(a) if a.has(entry)));
        if let Does::Tasks(attempt) = &one.does
            && ((soft && open && !attempt.reads()) || marked)
        {
            one.does = Does::Nothing(format!(
                "'{}' was not understood",
                reading.query.slice(next.range.clone())
            ));
        }
    }
    pieces
}

/// The way that reads some clauses as one piece.
fn path<'a>(
    reading: &'a Reading<'a>,
    parts: &[Segment],
    before: Option<&Path<'a>>,
    refused: &BTreeMap<usize, String>,
) -> Option<Path<'a>> {
    let (first, last) = (parts.first()?, parts.last()?);
    let range = first.tokens.start..last.tokens.end;
    let known = before.map_or(&[][..], |path| &path.members);
    let single = parts.len() == 1;
    let (does, cost) = match refused.get(&range.start) {
        Some(_) if !single => return None,
        Some(why) => (Does::Nothing(why.clone()), UNREAD),
        None => {
            let ask = asking(reading, parts);
            let choice = choose(reading, &range, &ask, known);
            let denied = |path: &Path<'_>| {
                path.piece
                    .range
                    .clone()
                    .any(|at| is_negative(reading.query.lower(at)))
            };
            let after = before.is_none_or(|path| {
                matches!(path.piece.does, Does::Tasks(_) | Does::Goes(_)) || denied(path)
            });
            let stands = before.is_none() || reading.stands(range.clone()).is_some();
            let own =
                first.joint == Joint::Hard || reading.opens(&first.tokens) || (after && stands);
            match choice {
                Choice::Accepted(attempt) if own && !is_reported(reading, &attempt, before) => {
                    let crossed = parts.iter().skip(1);
                    let crossed =
                        crossed.filter(|s| s.joint == Joint::Hard || reading.opens(&s.tokens));
                    let cost = 1.0 + CROSSED * crossed.map(|_| 1.0).sum::<f32>();
                    (Does::Tasks(Rc::new(attempt)), cost)
                }
                Choice::Accepted(_) | Choice::Declined(..) | Choice::Unknown if !single => {
                    return None;
                }
                choice @ (Choice::Accepted(_) | Choice::Declined(..) | Choice::Unknown) => {
                    unread(reading, first, before, choice)
                }
            }
        }
    };
    let mut members = known.to_vec();
    let last = match &does {
        Does::Tasks(attempt) => {
            members.extend(attempt.members.iter().cloned());
            attempt.members.len()
        }
        Does::Goes(_) => before.map_or(0, |path| path.last),
        Does::Tells | Does::TakesBack | Does::Nothing(_) => 0,
    };
    let cost = cost + before.map_or(0.0, |path| path.cost);
    let piece = Piece { range, does };
    Some(Path {
        cost,
        from: 0,
        piece,
        members,
        last,
    })
}

/// What is done about a clause that no capability carries out.
fn unread<'a>(
    reading: &'a Reading<'a>,
    segment: &Segment,
    before: Option<&Path<'a>>,
    choice: Choice<'a>,
) -> (Does<'a>, f32) {
    let range = &segment.tokens;
    let query = reading.query;
    let content = range.clone().filter(|&at| query.is_content(at)).count();
    let courtesy = is_courtesy(reading, range);
    let negative = range.clone().any(|at| is_negative(query.lower(at)));
    if courtesy && negative
        || (query.lower(range.start) == "no" && query.lower(range.start + 1) == ",")
    {
        return (Does::TakesBack, 1.0);
    }
    if content == 0 || (courtesy && !reading.opens(range)) {
        return (Does::Nothing(String::new()), 0.1);
    }
    let lacks = match &choice {
        Choice::Declined(attempt, _) => attempt.lacks(),
        Choice::Accepted(_) | Choice::Unknown => true,
    };
    let goes = before.filter(|_| lacks).and_then(|path| {
        let last = path.members.iter().rev().take(path.last);
        last.into_iter()
            .find_map(|member| choose::goes_on(reading, range, member))
    });
    if let Some(member) = goes {
        return (Does::Goes(member), 1.0);
    }
    if tells(reading, range) {
        return (Does::Tells, TOLD);
    }
    let why = match choice {
        Choice::Declined(_, why) => why,
        Choice::Accepted(_) | Choice::Unknown => String::new(),
    };
    #[expect(clippy::cast_precision_loss, reason = "a query has few words")]
    let words = content as f32;
    (Does::Nothing(why), UNREAD * words)
}

/// The part that asks.
fn asking(reading: &Reading<'_>, parts: &[Segment]) -> Range<usize> {
    let told =
        |part: &Segment| reading.query.is(part.tokens.start, TELLS) && tells(reading, &part.tokens);
    let asks = |part: &&Segment| {
        !told(part) && (reading.opens(&part.tokens) || reading.query.lower(part.tokens.end) == "?")
    };
    let part = parts
        .iter()
        .find(asks)
        .or_else(|| parts.iter().find(|part| !told(part)));
    part.or(parts.first())
        .map(|part| part.tokens.clone())
        .unwrap_or_default()
}

/// Whether words tell of the speaker rather than ask, deny or bound anything.
fn tells(reading: &Reading<'_>, range: &Range<usize>) -> bool {
    let query = reading.query;
    let told = query.is(range.start, TELLS) || matches!(query.lower(range.end), ":" | "–" | "—");
    let turns = |at: usize| {
        let word = query.lower(at);
        is_negative(word) || is(word, TURNS | TAKES_BACK | WISHES) || query.mark(at).is_some()
    };
    told && query.lower(range.end) != "?"
        && !range.clone().any(turns)
        && reading.stands(range.clone()).is_none()
}

/// A command of the speaker's own changes something; one that is told of does not: "Anna wrote: lock the door".
fn is_reported(reading: &Reading<'_>, attempt: &Attempt<'_>, before: Option<&Path<'_>>) -> bool {
    let says = |at: usize| {
        let said = base(reading.query.lower(at));
        matches!(said, "tell" | "say" | "write") || is(said, SAYING) || said.starts_with("ask")
    };
    let told = before.filter(|path| matches!(path.piece.does, Does::Tells | Does::Nothing(_)));
    !attempt.reads() && told.is_some_and(|path| path.piece.range.clone().any(says))
}

/// The clauses of a query, in its order; none is empty.
fn clauses(reading: &Reading<'_>) -> Vec<Segment> {
    let mut clauses: Vec<Segment> = Vec::new();
    for segment in segments(reading) {
        match clauses.last_mut() {
            Some(last) if !divides(reading, &last.tokens, &segment) => {
                last.tokens.end = segment.tokens.end;
            }
            _ => clauses.push(segment),
        }
    }
    clauses
}

fn divides(reading: &Reading<'_>, left: &Range<usize>, right: &Segment) -> bool {
    let query = reading.query;
    let (a, b) = (
        reading.stands(left.clone()),
        reading.stands(right.tokens.clone()),
    );
    // Those that plan with a request understand it best as a whole: "… in May? And in June?"
    if let Some(a) = a.filter(|&a| reading.plans(a))
        && (b == Some(a)
            || (b.is_none()
                && (!reading.opens(&right.tokens) || asks_again(reading, &right.tokens))))
    {
        return false;
    }
    if right.joint == Joint::Hard {
        return true;
    }
    // "if it rains, …": the condition stays with what hangs on it, and what is left out with what it is left out of.
    let condition = matches!(
        query.lower(left.start),
        "if" | "when" | "once" | "unless" | "whenever" | "should"
    );
    let first = right.tokens.start;
    let marked = query
        .mark(first + 1)
        .or(query.mark(first + 2))
        .is_some_and(|(_, cue)| (left.end..first + 2).contains(&cue.start));
    let opens = reading.opens(&right.tokens);
    if (condition && query.lower(left.end) == ",") || (marked && (b.is_none() || a == b) && !opens)
    {
        return false;
    }
    // "show sales and marketing rows"
    let whole = left.start..right.tokens.end;
    let entry = reading.stands(whole.clone());
    opens || !entry.is_some_and(|entry| reading.fill(entry, &whole).lists(left.end - 1, first))
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
        ":" | "–" | "—" => Some((Joint::Soft, 1)),
        "-" if token.spaced && query.token(at + 1).is_some_and(|t| t.spaced) => {
            Some((Joint::Soft, 1))
        }
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
