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
use super::query::Query;
use super::rank::{PLACED, Reading};
use super::text::{Token, TokenKind};
use super::words::{
    ASK, FREE, PREFACE, PRONOUN, SAYING, TAKES_BACK, TELLS, TURNS, WISHES, base, is, is_joint,
    is_negative,
};

/// Most parts of a query that are looked at by themselves; the last one takes the rest.
const MAX_SEGMENTS: usize = 64;
/// Most clauses that are read as one.
const MERGED: usize = 4;
/// Of more clauses than people write none are read as one.
const MANY: usize = 16;
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
    let merged = if clauses.len() > MANY { 1 } else { MERGED };
    let mut paths: Vec<Option<Path<'a>>> = vec![None; clauses.len() + 1];
    for at in 0..clauses.len() {
        for length in 1..=merged.min(clauses.len() - at) {
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
    for at in 0..pieces.len() {
        if let Some(why) = unsettled(reading, &clauses, &pieces, at)
            && let Some(piece) = pieces.get_mut(at)
        {
            piece.does = Does::Nothing(why);
        }
    }
    pieces
}

/// Why a piece is not done after all: the words beside it that nobody understands may mean it.
fn unsettled(
    reading: &Reading<'_>,
    clauses: &[Segment],
    pieces: &[Piece<'_>],
    at: usize,
) -> Option<String> {
    let query = reading.query;
    let Does::Tasks(attempt) = &pieces.get(at)?.does else {
        return None;
    };
    let open = |piece: &&Piece<'_>| {
        matches!(piece.does, Does::Nothing(_)) && reading.has_content(piece.range.clone())
    };
    let before = at.checked_sub(1).and_then(|at| pieces.get(at)).filter(open);
    let after = pieces.get(at + 1).filter(open);
    let says = |piece: &&Piece<'_>| piece.range.clone().any(|at| query.fact(at).is_some());
    let vague = attempt.is_vague().then_some(before.filter(says)).flatten();
    let restricts = |piece: &&Piece<'_>| {
        let first = piece.range.start;
        let joint = clauses
            .iter()
            .find(|c| c.tokens.start == first)
            .map(|c| c.joint);
        let own = reading.stands(piece.range.clone());
        let denies = piece.range.clone().any(|at| is_negative(query.lower(at)));
        let soft = joint == Some(Joint::Soft) && !reading.opens(&piece.range);
        (self::restricts(query, first) && own.is_none_or(|entry| attempt.has(entry)))
            || (!attempt.reads() && (soft || denies))
    };
    let piece = vague.or(after.filter(restricts))?;
    Some(format!(
        "'{}' was not understood",
        query.slice(piece.range.clone())
    ))
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
            // What tells of the speaker or leaves something out asks for nothing by itself.
            let told = told(reading.query, first);
            let asks = !told && !restricts(reading.query, range.start);
            let stands = reading.stands(range.clone()).is_some() || (before.is_none() && !told);
            let opens = first.joint == Joint::Hard || reading.opens(&first.tokens);
            let opens = opens && (stands || goes(reading, &range, before).is_none());
            let own = (asks && opens) || (after && stands);
            match choice {
                Choice::Accepted(attempt) if own && !is_reported(reading, &attempt, before) => {
                    let crossed = parts.iter().skip(1);
                    let colon = |s: &Segment| reading.query.before(s.tokens.start) == ":";
                    let crossed = crossed.filter(|s| {
                        s.joint == Joint::Hard || (reading.opens(&s.tokens) && !colon(s))
                    });
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

/// What a clause adds to the piece before it.
fn goes<'a>(
    reading: &'a Reading<'a>,
    range: &Range<usize>,
    before: Option<&Path<'a>>,
) -> Option<Member<'a>> {
    let path = before?;
    let mut last = path.members.iter().rev().take(path.last);
    last.find_map(|member| choose::goes_on(reading, range, member))
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
    let goes = if lacks {
        goes(reading, range, before)
    } else {
        None
    };
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

/// Whether a clause begins as what tells of the speaker does.
fn told(query: &Query<'_>, part: &Segment) -> bool {
    let wishes = part.tokens.clone().any(|at| query.is(at, WISHES));
    query.is(part.tokens.start, TELLS) && !wishes
}

/// Whether the words at a place leave something out, or bound it.
fn restricts(query: &Query<'_>, first: usize) -> bool {
    let marks = |at: usize| {
        query
            .mark(at)
            .is_some_and(|(_, cue)| cue.start <= first + 1)
    };
    marks(first + 1) || marks(first + 2)
}

/// The part that asks.
fn asking(reading: &Reading<'_>, parts: &[Segment]) -> Range<usize> {
    let query = reading.query;
    let asks = |part: &&Segment| {
        !told(query, part) && (reading.opens(&part.tokens) || query.lower(part.tokens.end) == "?")
    };
    let (first, last) = (parts.first(), parts.last());
    let whole = first
        .zip(last)
        .map(|(first, last)| first.tokens.start..last.tokens.end);
    let part = parts.iter().find(asks).map(|part| part.tokens.clone());
    part.or(whole).unwrap_or_default()
}

/// Whether words tell of the speaker rather than ask, deny or bound anything.
fn tells(reading: &Reading<'_>, range: &Range<usize>) -> bool {
    let query = reading.query;
    let told = query.is(range.start, TELLS) || matches!(query.lower(range.end), ":" | "–" | "—");
    let turns = |at: usize| {
        let word = query.lower(at);
        let used = query.is(at + 1, PRONOUN) && query.lower(at + 2) == "for";
        is_negative(word)
            || is(word, TURNS | TAKES_BACK)
            || (is(word, WISHES) && !used)
            || query.mark(at).is_some()
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
    let ranked = reading.rank(whole.clone());
    let mut meant = ranked.iter().take(3).filter(|r| r.strength >= PLACED);
    opens || !meant.any(|r| reading.fill(r.entry, &whole).lists(left.end - 1, first))
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
        ":" => Some((Joint::Soft, 1)),
        "–" | "—" if joins_names(reading, at) => None,
        "–" | "—" => Some((Joint::Soft, 1)),
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

/// "Munich – Chicago"
fn joins_names(reading: &Reading<'_>, at: usize) -> bool {
    let name = |at: usize| {
        reading
            .query
            .token(at)
            .is_some_and(|t| t.is_capitalised() && !t.has(FREE))
    };
    name(at.wrapping_sub(1)) && name(at + 1)
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
