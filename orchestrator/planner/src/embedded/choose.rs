//! The capabilities that a clause asks for: those that together explain all its words.
//!
//! Does not wire them; the plan compiler does.

use std::collections::BTreeSet;
use std::ops::Range;

use super::card::{Card, Param};
use super::fill::Filled;
use super::index::Hit;
use super::judge::{Case, Member};
use super::kind::Kind;
use super::rank::{NAMED, PLACED, Ranked, Reading};
use super::words::{PRONOUN, is};

/// What must be said of a capability at least.
const MEANT: f32 = 0.4;
/// What must be said of the capabilities of a clause, their values included.
const ENOUGH: f32 = 0.7;
/// What a value says of a capability besides.
const TOLD: f32 = 0.2;
/// Capabilities that a clause is tried with first.
const SEEDS: usize = 5;
/// Capabilities that are tried beside another one.
const BESIDE: usize = 10;
/// Most capabilities of one clause.
const MOST: usize = 4;
/// What a value is worth beside the words that name a capability.
const VALUE: f32 = 0.6;

/// Some capabilities that may carry out a clause.
#[derive(Debug, Clone)]
pub(super) struct Attempt {
    pub(super) members: Vec<Member>,
    /// Words that they do not explain.
    left: Vec<usize>,
    /// What the clause does not say: the names of required params.
    missing: Vec<String>,
    objection: Option<String>,
    worth: f32,
    /// How surely the first one is meant.
    strength: f32,
    /// How many words became values.
    used: isize,
}

impl Attempt {
    fn is_accepted(&self) -> bool {
        self.strength >= ENOUGH
            && self.left.is_empty()
            && self.missing.is_empty()
            && self.objection.is_none()
    }

    fn open(&self) -> usize {
        self.left.len() + self.missing.len()
    }

    /// Less is better: what is open, and the values that are not found.
    fn key(&self) -> (usize, isize) {
        (self.open(), -self.used)
    }

    /// Lacks nothing but what other words of the query may say.
    pub(super) fn lacks(&self) -> bool {
        !self.missing.is_empty() && self.objection.is_none()
    }
}

/// What a clause asks for.
#[derive(Debug)]
pub(super) enum Choice {
    /// These together carry it out.
    Accepted(Attempt),
    /// Something is meant that cannot be done so; then why.
    Declined(Attempt, String),
    /// Nothing here is meant.
    Unknown,
}

/// Chooses the capabilities for a clause; `before` are those of the clauses before it, whose results it may use.
pub(super) fn choose(reading: &Reading<'_>, range: &Range<usize>, before: &[usize]) -> Choice {
    let ranked = reading.rank(range.clone());
    let (delegates, own): (Vec<Ranked>, Vec<Ranked>) =
        ranked.into_iter().partition(|r| reading.plans(r.entry));
    let chooser = Chooser {
        reading,
        range,
        before,
        ranked: &own,
    };
    let seeds = own.iter().filter(|r| r.strength >= MEANT).take(SEEDS);
    let best = seeds.map(|seed| chooser.grow(seed)).reduce(better);
    if let Some(best) = best.as_ref().filter(|best| best.is_accepted()) {
        return Choice::Accepted(best.clone());
    }
    // Work is handed on only where nothing of one's own is meant, and then to those that are there for the least else.
    let placed = |r: &&Ranked| r.strength >= PLACED;
    let own_gain = own
        .iter()
        .filter(placed)
        .map(|r| r.gain)
        .fold(0.0, f32::max);
    {
        let breadth = |r: &Ranked| reading.index.card(r.entry).map_or(0, |card| card.own.len());
        let delegate = delegates.iter().filter(placed).reduce(|best, next| {
            let better =
                next.gain > best.gain || (next.gain >= best.gain && breadth(next) < breadth(best));
            if better { next } else { best }
        });
        if let Some(delegate) = delegate.filter(|d| d.gain > own_gain) {
            return chooser.judged(chooser.attempt(vec![delegate.entry]));
        }
    }
    best.map_or(Choice::Unknown, |best| chooser.judged(best))
}

/// The accepted one, else the one that leaves less open.
fn better(best: Attempt, next: Attempt) -> Attempt {
    let rank = |a: &Attempt| {
        (
            !a.is_accepted(),
            a.open(),
            a.objection.is_some(),
            -a.used,
            a.members.len(),
        )
    };
    let wins = rank(&next)
        .cmp(&rank(&best))
        .then(best.worth.total_cmp(&next.worth))
        .is_lt();
    if wins { next } else { best }
}

struct Chooser<'a> {
    reading: &'a Reading<'a>,
    range: &'a Range<usize>,
    before: &'a [usize],
    ranked: &'a [Ranked],
}

impl<'a> Chooser<'a> {
    /// Adds what explains more, as long as it feeds or uses what is there.
    fn grow(&self, seed: &Ranked) -> Attempt {
        let mut attempt = self.attempt(vec![seed.entry]);
        while attempt.members.len() < MOST {
            let entries: Vec<usize> = attempt.members.iter().map(|m| m.entry).collect();
            let ranked = self.ranked.iter().take(BESIDE).map(|r| r.entry);
            let beside = ranked.chain(self.feeders(&attempt));
            let beside = beside.filter(|e| !entries.contains(e) && self.is_said(*e, &attempt));
            let connected =
                beside.filter(|&e| attempt.members.iter().any(|m| self.are_connected(m, e)));
            let grown =
                connected.map(|e| self.attempt(entries.iter().copied().chain([e]).collect()));
            let best = grown.reduce(|best, next| if next.key() < best.key() { next } else { best });
            match best {
                Some(best) if best.key() < attempt.key() => attempt = best,
                _ => break,
            }
        }
        attempt
    }

    /// Those that could give what is missing, whether words name them or not: "Email Bob" needs his address.
    fn feeders(&self, attempt: &Attempt) -> impl Iterator<Item = usize> {
        let lacking = attempt
            .members
            .first()
            .filter(|_| !attempt.missing.is_empty());
        let lacking = lacking.and_then(|m| self.reading.index.card(m.entry));
        let cards = self.reading.index.cards.iter().enumerate();
        let feeds =
            move |card: &Card| lacking.is_some_and(|to| card.reads() && feeds(card, to, None));
        let able =
            cards.filter(move |(entry, card)| self.reading.is_allowed(*entry) && feeds(card));
        able.map(|(entry, _)| entry).take(BESIDE)
    }

    fn attempt(&self, entries: Vec<usize>) -> Attempt {
        let member = |&entry: &usize| Member {
            entry,
            filled: self.reading.fill(entry, self.range),
        };
        let members: Vec<Member> = entries.iter().map(member).collect();
        let case = self.case(&members);
        let used: BTreeSet<usize> = members
            .iter()
            .flat_map(|m| m.filled.used.iter().copied())
            .collect();
        let used = used
            .into_iter()
            .filter(|&at| self.reading.query.is_content(at))
            .count();
        let used = isize::try_from(used).unwrap_or(isize::MAX);
        let ranked = |m: &Member| self.ranked.iter().find(|r| r.entry == m.entry);
        let values = |m: &Member| f32::from(u8::try_from(m.filled.values.len()).unwrap_or(u8::MAX));
        let worth = |m: &Member| ranked(m).map_or(0.0, |r| r.gain) + VALUE * values(m);
        let strength = |m: &Member| ranked(m).map_or(PLACED, |r| r.strength) + TOLD * values(m);
        Attempt {
            left: case.left_over(),
            missing: members
                .iter()
                .flat_map(|m| self.missing(m, &entries))
                .collect(),
            objection: case.objection(),
            worth: members.iter().map(worth).sum(),
            strength: members.first().map_or(0.0, strength),
            used,
            members,
        }
    }

    fn case<'c>(&'c self, members: &'c [Member]) -> Case<'c> {
        Case {
            reading: self.reading,
            range: self.range,
            members,
        }
    }

    /// The required params that the clause does not give and no other task can.
    fn missing(&self, member: &Member, entries: &[usize]) -> Vec<String> {
        let Some(card) = self.reading.index.card(member.entry) else {
            return Vec::new();
        };
        let open = card.params.iter().filter(|p| {
            p.required && p.default.is_none() && !member.filled.values.contains_key(&p.name)
        });
        open.filter(|p| !self.is_supplied(card, p, entries))
            .map(|p| p.name.replace('_', " "))
            .collect()
    }

    fn is_supplied(&self, card: &Card, param: &Param, entries: &[usize]) -> bool {
        let feeds = |entry: &usize| {
            let from = self.reading.index.card(*entry);
            from.is_some_and(|from| feeds(from, card, Some(&param.name)))
        };
        let mut words = self.range.clone().map(|at| self.reading.query.lower(at));
        let refers = words.any(|word| is(word, PRONOUN));
        let unsayable = matches!(param.kind, Kind::Opaque | Kind::Content);
        let before = (unsayable || refers) && self.before.iter().any(feeds);
        // "summarize it" means no other thing than what was said before.
        let others = param.kind == Kind::Opaque && !refers;
        let mut all = self.reading.index.cards.iter().filter(|from| from.reads());
        param.consumed
            && (before
                || entries.iter().any(feeds)
                || (others && all.any(|from| self::feeds(from, card, Some(&param.name)))))
    }

    /// Whether the clause has a word or a value for a capability that it has for none of the others.
    fn is_said(&self, entry: usize, attempt: &Attempt) -> bool {
        let named = |at: usize, entry: usize| self.reading.worth(at, entry) > NAMED;
        let others = |at: usize| attempt.members.iter().any(|m| named(at, m.entry));
        let used = &self.reading.fill(entry, self.range).used;
        used.iter()
            .any(|at| !attempt.members.iter().any(|m| m.filled.uses(*at)))
            || self.range.clone().any(|at| named(at, entry) && !others(at))
    }

    /// Whether one uses the result of the other for a param that the clause does not give, directly or through a third.
    fn are_connected(&self, member: &Member, added: usize) -> bool {
        let (Some(a), Some(b)) = (
            self.reading.index.card(member.entry),
            self.reading.index.card(added),
        ) else {
            return false;
        };
        let filled = self.reading.fill(added, self.range);
        let through = |from: &Card, to: &Card, filled: &Filled| {
            let open = |to: &Card| {
                to.params.iter().any(|p| {
                    p.consumed
                        && !filled.values.contains_key(&p.name)
                        && feeds(from, to, Some(&p.name))
                })
            };
            let cards = self
                .ranked
                .iter()
                .take(BESIDE)
                .filter_map(|r| self.reading.index.card(r.entry));
            let mut between = cards.filter(|card| card.reads());
            open(to) || between.any(|card| feeds(from, card, None) && feeds(card, to, None))
        };
        through(a, b, &filled) || through(b, a, &member.filled)
    }

    fn judged(&self, attempt: Attempt) -> Choice {
        let names: Vec<&str> = attempt
            .members
            .iter()
            .filter_map(|m| self.reading.index.card(m.entry))
            .map(Card::name)
            .collect();
        let name = names.first().copied().unwrap_or_default();
        let why = if let Some(objection) = &attempt.objection {
            objection.clone()
        } else if !attempt.left.is_empty() {
            if attempt.strength < PLACED {
                return Choice::Unknown;
            }
            let shown = self.case(&attempt.members).shown(&attempt.left);
            format!("{name} comes closest, but '{shown}' was not understood")
        } else if !attempt.missing.is_empty() {
            let verb = if attempt.missing.len() == 1 {
                "is"
            } else {
                "are"
            };
            format!(
                "{name} was meant, but {} {verb} missing",
                attempt.missing.join(" and ")
            )
        } else if attempt.strength < ENOUGH {
            return Choice::Unknown;
        } else {
            return Choice::Accepted(attempt);
        };
        Choice::Declined(attempt, why)
    }
}

/// Whether a capability produces what another one consumes, for the param if one is given.
pub(super) fn feeds(from: &Card, to: &Card, param: Option<&str>) -> bool {
    let consumed = &to.capability().consumes;
    let mut asked = consumed
        .iter()
        .filter(|c| param.is_none_or(|param| c.param == param));
    !std::ptr::eq(from, to) && asked.any(|consumes| consumes.takes(from.capability()))
}

/// How much a query says of a capability, for choosing among suppliers: none where it says nothing. A word that says more
/// of a capability that has nothing to do with this one means that one: a share's price is no expense.
pub(super) fn named(reading: &Reading<'_>, entry: usize) -> Option<f32> {
    let card = reading.index.card(entry)?;
    let stranger = |other: &Card| !feeds(card, other, None) && !feeds(other, card, None);
    let own = |at: usize| {
        let worth = reading.worth(at, entry);
        let better = |hit: &&Hit| hit.strength > worth;
        let mut cards = reading.hits(at).iter().filter(better);
        let means_other = cards.any(|hit| reading.index.card(hit.entry).is_some_and(stranger));
        (worth > NAMED && !means_other).then_some(worth)
    };
    let worth: f32 = (0..reading.query.tokens.len()).filter_map(own).sum();
    (worth > 0.0).then_some(worth)
}
