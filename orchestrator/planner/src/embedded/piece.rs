//! Divides a query into pieces so that the fewest words are left, and says what is done about each.
//!
//! Makes no tasks; see [`super::propose`].

use std::collections::BTreeMap;
use std::ops::Range;
use std::rc::Rc;

use super::choose::{Attempt, Choice, choose, goes_on};
use super::clause::{Clause, Joint, clauses, is_courtesy};
use super::judge::Member;
use super::query::Query;
use super::rank::Reading;
use super::words::{PRONOUN, TAKES_BACK, TELLS, TURNS, WISHES, is_negative};

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
/// What it costs to leave out what says nothing.
const EMPTY: f32 = 0.1;

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

/// The pieces of a query; the clauses that begin at the tokens in `refused` are left out.
pub(super) fn pieces<'a>(
    reading: &'a Reading<'a>,
    refused: &BTreeMap<usize, String>,
) -> Vec<Piece<'a>> {
    let query = reading.query;
    let clauses = clauses(reading);
    let divider = Divider {
        reading,
        query,
        clauses: &clauses,
        refused,
    };
    let mut pieces = divider.cheapest();
    for at in 0..pieces.len() {
        if let Some(why) = divider.unsettled(&pieces, at)
            && let Some(piece) = pieces.get_mut(at)
        {
            piece.does = Does::Nothing(why);
        }
    }
    pieces
}

struct Divider<'a, 'r> {
    reading: &'a Reading<'a>,
    query: &'a Query<'a>,
    clauses: &'r [Clause],
    refused: &'r BTreeMap<usize, String>,
}

impl<'a> Divider<'a, '_> {
    fn cheapest(&self) -> Vec<Piece<'a>> {
        let count = self.clauses.len();
        let merged = if count > MANY { 1 } else { MERGED };
        let mut paths: Vec<Option<Path<'a>>> = vec![None; count + 1];
        for (from, to) in (0..count).flat_map(|at| (1..=merged).map(move |n| (at, at + n))) {
            let before = paths.get(from).and_then(Option::as_ref);
            let path = self
                .clauses
                .get(from..to)
                .and_then(|parts| self.path(parts, before));
            let cheaper = |path: &Path<'a>, best: &Option<Path<'a>>| {
                best.as_ref().is_none_or(|best| path.cost < best.cost)
            };
            if let (Some(path), Some(best)) = (path, paths.get_mut(to))
                && cheaper(&path, best)
            {
                *best = Some(Path { from, ..path });
            }
        }
        let (mut pieces, mut at) = (Vec::new(), count);
        while let Some(path) = paths.get_mut(at).and_then(Option::take) {
            at = path.from;
            pieces.push(path.piece);
        }
        pieces.reverse();
        pieces
    }

    /// The way that reads some clauses as one piece, after the given one.
    fn path(&self, parts: &[Clause], before: Option<&Path<'a>>) -> Option<Path<'a>> {
        let (first, last) = (parts.first()?, parts.last()?);
        let range = first.tokens.start..last.tokens.end;
        let known = before.map_or(&[][..], |path| &path.members);
        let refused = self.refused.get(&range.start);
        let (does, cost) = match (refused, parts) {
            (Some(why), [_]) => (Does::Nothing(why.clone()), UNREAD),
            (Some(_), _) => return None,
            (None, _) => self.done(parts, &range, before)?,
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

    /// What is done about some clauses read as one, and what that costs.
    fn done(
        &self,
        parts: &[Clause],
        range: &Range<usize>,
        before: Option<&Path<'a>>,
    ) -> Option<(Does<'a>, f32)> {
        let first = parts.first()?;
        let known = before.map_or(&[][..], |path| &path.members);
        let choice = choose(self.reading, range, &self.asking(parts), known);
        let after = before.is_none_or(|path| {
            let done = matches!(path.piece.does, Does::Tasks(_) | Does::Goes(_));
            done || self.denies(&path.piece.range)
        });
        // What tells of the speaker or leaves something out asks for nothing by itself.
        let told = self.is_told(first);
        let asks = !told && !self.query.restricts(range.start, range.start);
        let stands = self.reading.stands(range.clone()).is_some() || (before.is_none() && !told);
        let opens = first.joint == Joint::Hard || self.reading.opens(&first.tokens);
        let opens = opens && (stands || self.goes(range, before).is_none());
        let own = (asks && opens) || (after && stands);
        match (choice, parts) {
            (Choice::Accepted(attempt), _) if own => {
                let stands = |part: &Clause| self.reading.stands(part.tokens.clone());
                let other = |part: &Clause| {
                    let start = part.tokens.start;
                    let both = stands(first).zip(stands(part));
                    both.is_some_and(|(a, b)| a != b) && !self.query.restricts(start, start)
                };
                let crossed = parts.iter().skip(1);
                let crossed = crossed.filter(|part| self.begins(part) || other(part));
                let cost = 1.0 + CROSSED * crossed.map(|_| 1.0).sum::<f32>();
                Some((Does::Tasks(Rc::new(attempt)), cost))
            }
            (choice, [_]) => Some(self.unread(range, before, choice)),
            _ => None,
        }
    }

    /// Whether a clause begins a sentence or a command; not behind a colon.
    fn begins(&self, part: &Clause) -> bool {
        let colon = self.query.before(part.tokens.start) == ":";
        part.joint == Joint::Hard || (self.reading.opens(&part.tokens) && !colon)
    }

    /// What a clause adds to the piece before it.
    fn goes(&self, range: &Range<usize>, before: Option<&Path<'a>>) -> Option<Member<'a>> {
        let path = before?;
        let mut last = path.members.iter().rev().take(path.last);
        last.find_map(|member| goes_on(self.reading, range, member))
    }

    /// What is done about a clause that no capability carries out.
    fn unread(
        &self,
        range: &Range<usize>,
        before: Option<&Path<'a>>,
        choice: Choice<'a>,
    ) -> (Does<'a>, f32) {
        let content = range
            .clone()
            .filter(|&at| self.query.is_content(at))
            .count();
        let courtesy = is_courtesy(self.reading, range);
        let no = [0, 1].map(|i| self.query.lower(range.start + i)) == ["no", ","];
        if no || (courtesy && self.denies(range)) {
            return (Does::TakesBack, 1.0);
        }
        if content == 0 || (courtesy && !self.reading.opens(range)) {
            return (Does::Nothing(String::new()), EMPTY);
        }
        let (lacks, why) = match choice {
            Choice::Declined(attempt, why) => (attempt.lacks(), why),
            Choice::Accepted(_) | Choice::Unknown => (true, String::new()),
        };
        if let Some(member) = self.goes(range, before).filter(|_| lacks) {
            return (Does::Goes(member), 1.0);
        }
        if self.tells(range) {
            return (Does::Tells, TOLD);
        }
        #[expect(clippy::cast_precision_loss, reason = "a query has few words")]
        let words = content as f32;
        (Does::Nothing(why), UNREAD * words)
    }

    fn denies(&self, range: &Range<usize>) -> bool {
        range.clone().any(|at| is_negative(self.query.lower(at)))
    }

    /// Whether a clause begins as what tells of the speaker does.
    fn is_told(&self, part: &Clause) -> bool {
        let mut words = part.tokens.clone();
        self.query.is(part.tokens.start, TELLS) && !words.any(|at| self.query.is(at, WISHES))
    }

    /// The part that asks.
    fn asking(&self, parts: &[Clause]) -> Range<usize> {
        let question = |part: &Clause| self.query.lower(part.tokens.end) == "?";
        let asks = |part: &Clause| self.reading.opens(&part.tokens) || question(part);
        let part = parts.iter().find(|part| !self.is_told(part) && asks(part));
        let start = part.or(parts.first()).map_or(0, |part| part.tokens.start);
        let end = part.or(parts.last()).map_or(start, |part| part.tokens.end);
        start..end
    }

    /// Whether words tell of the speaker rather than ask, deny or bound anything.
    fn tells(&self, range: &Range<usize>) -> bool {
        let query = self.query;
        let end = query.lower(range.end);
        let told = query.is(range.start, TELLS) || matches!(end, ":" | "–" | "—");
        // "I need it for my boss" wishes nothing else.
        let uses = |at: usize| query.is(at + 1, PRONOUN) && query.lower(at + 2) == "for";
        let wishes = |at: usize| query.is(at, WISHES) && !uses(at);
        let turns = |at: usize| query.is(at, TURNS | TAKES_BACK) || query.mark(at).is_some();
        let stands = self.reading.stands(range.clone()).is_some();
        let asks = range.clone().any(|at| turns(at) || wishes(at)) || self.denies(range);
        told && end != "?" && !asks && !stands
    }

    /// Why a piece is not done after all: the words beside it that nobody understands may mean it.
    fn unsettled(&self, pieces: &[Piece<'_>], at: usize) -> Option<String> {
        let Does::Tasks(attempt) = &pieces.get(at)?.does else {
            return None;
        };
        let open = |piece: &&Piece<'_>| {
            matches!(piece.does, Does::Nothing(_)) && self.reading.has_content(piece.range.clone())
        };
        let before = at.checked_sub(1).and_then(|at| pieces.get(at)).filter(open);
        let says = |piece: &&Piece<'_>| {
            let mut words = piece.range.clone();
            attempt.is_vague() && words.any(|at| self.query.fact(at).is_some())
        };
        let restricts = |piece: &&Piece<'_>| {
            let first = piece.range.start;
            let own = self.reading.stands(piece.range.clone());
            let own = own.is_none_or(|entry| attempt.has(entry));
            let soft = |c: &Clause| c.tokens.start == first && c.joint == Joint::Soft;
            let soft = self.clauses.iter().any(soft) && !self.reading.opens(&piece.range);
            let open = !attempt.reads() && (soft || self.denies(&piece.range));
            open || (own && self.query.restricts(first, first))
        };
        let after = pieces.get(at + 1).filter(open).filter(restricts);
        let piece = before.filter(says).or(after)?;
        let said = self.query.slice(piece.range.clone());
        Some(format!("'{said}' was not understood"))
    }
}
