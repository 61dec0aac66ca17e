//! The capabilities that a clause asks for: those that together explain all its words.
//!
//! Does not wire them; the plan compiler does.

use std::collections::BTreeSet;
use std::ops::Range;
use std::rc::Rc;

use amcp_protocol::Effect;
use serde_json::Value;

use super::card::{Card, Param};
use super::fill::{ANNOUNCED, Filled, fill};
use super::index::Hit;
use super::judge::{Case, Member};
use super::rank::{NAMED, PLACED, Ranked, Reading};
use super::words::{PRONOUN, RECALLS, is};

/// What must be said of a capability at least.
const MEANT: f32 = 0.4;
/// What must be said of capabilities that change something, their values included.
const ENOUGH: f32 = 0.7;
/// What a value says of a capability besides.
const TOLD: f32 = 0.2;
/// Capabilities that a clause is tried with first.
const SEEDS: usize = 4;
/// Capabilities that are tried beside another one.
const BESIDE: usize = 6;
/// Most capabilities of one clause.
const MOST: usize = 4;
/// What a value is worth beside the words that name a capability.
const VALUE: f32 = 0.6;

/// Some capabilities that may carry out a clause.
#[derive(Debug, Clone)]
pub(super) struct Attempt<'a> {
    pub(super) members: Vec<Member<'a>>,
    /// Words that they do not explain.
    left: Vec<usize>,
    pub(super) notes: Vec<String>,
    /// What the clause does not say: the names of required params.
    missing: Vec<String>,
    objection: Option<String>,
    worth: f32,
    /// How surely the first one is meant.
    strength: f32,
    /// How many words became values.
    pub(super) used: isize,
}

impl Attempt<'_> {
    fn is_accepted(&self) -> bool {
        let open = self.open() > 0 || self.objection.is_some();
        !open && (self.reads() || self.strength >= ENOUGH)
    }

    pub(super) fn has(&self, entry: usize) -> bool {
        self.members.iter().any(|m| m.entry == entry)
    }

    fn open(&self) -> usize {
        self.left.len() + self.missing.len()
    }

    /// Less is better: what is open, and the values that are not found.
    fn key(&self) -> (usize, isize) {
        (self.open(), -self.used)
    }

    pub(super) fn reads(&self) -> bool {
        self.members.iter().all(|m| m.card.reads())
    }

    /// Says nothing of what is meant, to a capability that is always told.
    pub(super) fn is_vague(&self) -> bool {
        let told = |card: &Card| {
            let mut examples = card
                .capability()
                .examples
                .iter()
                .map(|e| e.params.as_object());
            examples.all(|params| params.is_some_and(|params| !params.is_empty()))
        };
        self.members
            .iter()
            .all(|m| m.filled.values.is_empty() && told(m.card))
    }

    /// Lacks nothing but what other words of the query may say.
    pub(super) fn lacks(&self) -> bool {
        !self.missing.is_empty() && self.objection.is_none()
    }

    /// Why it is not carried out; none where too little is said to mean anything here.
    fn why_not(&self, case: &Case<'_>) -> Option<String> {
        let name = self.members.first().map_or("", |m| m.card.name());
        if let Some(objection) = &self.objection {
            return Some(objection.clone());
        }
        if !self.left.is_empty() {
            let shown = case.shown(&self.left);
            let why = format!("{name} comes closest, but '{shown}' was not understood");
            return (self.strength >= PLACED).then_some(why);
        }
        let missing = self.missing.join(", ");
        (!missing.is_empty()).then(|| format!("{name} also needs: {missing}"))
    }
}

/// What a clause asks for.
#[derive(Debug)]
pub(super) enum Choice<'a> {
    /// These together carry it out.
    Accepted(Attempt<'a>),
    /// Something is meant that cannot be done so; then why.
    Declined(Attempt<'a>, String),
    /// Nothing here is meant.
    Unknown,
}

/// Chooses the capabilities for a clause; `before` are those of the clauses before it, whose results it may use.
pub(super) fn choose<'a>(
    reading: &'a Reading<'a>,
    range: &Range<usize>,
    ask: &Range<usize>,
    before: &[Member<'a>],
) -> Choice<'a> {
    let ranked = reading.rank(range.clone());
    let ranked = ranked.iter().cloned();
    let (delegates, ranked): (Vec<Ranked>, Vec<Ranked>) =
        ranked.partition(|r| reading.plans(r.entry));
    let placed = |r: &&Ranked| r.strength >= PLACED;
    let own = ranked
        .iter()
        .filter(placed)
        .map(|r| r.gain)
        .fold(0.0, f32::max);
    let chooser = Chooser {
        reading,
        range,
        ask,
        before,
        ranked: &ranked,
    };
    let seeds = ranked.iter().filter(|r| r.strength >= MEANT).take(SEEDS);
    // One that another seed grew to does not grow to anything else.
    let best = seeds.fold(None, |best: Option<Attempt<'a>>, seed| match best {
        Some(best) if best.is_accepted() && best.has(seed.entry) => Some(best),
        Some(best) => Some(better(best, chooser.grow(seed))),
        None => Some(chooser.grow(seed)),
    });
    // Work is handed on only where nothing of one's own is meant, and then to those that are there for the least else.
    let breadth = |r: &Ranked| reading.index.card(r.entry).map_or(0, |card| card.own.len());
    let delegates = delegates.iter().filter(|r| placed(r) && r.gain > own);
    let delegate =
        delegates.min_by(|a, b| b.gain.total_cmp(&a.gain).then(breadth(a).cmp(&breadth(b))));
    let best = match (best, delegate) {
        (Some(best), _) if best.is_accepted() => best,
        (_, Some(delegate)) => chooser.attempt(&[delegate.entry]),
        (Some(best), None) => best,
        (None, None) => return Choice::Unknown,
    };
    if best.is_accepted() {
        return Choice::Accepted(best);
    }
    let case = Case {
        reading,
        range,
        ask,
        members: &best.members,
    };
    match best.why_not(&case) {
        Some(why) => Choice::Declined(best, why),
        None => Choice::Unknown,
    }
}

/// The values that a clause adds to a capability of the clause before, if it says nothing else.
pub(super) fn goes_on<'a>(
    reading: &'a Reading<'a>,
    range: &Range<usize>,
    last: &Member<'a>,
) -> Option<Member<'a>> {
    // The words of one that plans went there with the clause, or are a request of their own. A name that nothing announces is
    // another thing: "Thanks, John".
    let filled = fill(reading.query, last.card, range.clone(), ANNOUNCED);
    let member = Member {
        filled: Rc::new(filled),
        ..last.clone()
    };
    let members = std::slice::from_ref(&member);
    let case = Case {
        reading,
        range,
        ask: range,
        members,
    };
    let goes = !last.card.plans
        && !member.filled.values.is_empty()
        && case.left_over().is_empty()
        && case.denied().is_none();
    goes.then_some(member)
}

/// The accepted one, else the one that leaves less open.
fn better<'a>(best: Attempt<'a>, next: Attempt<'a>) -> Attempt<'a> {
    let open = |a: &Attempt<'_>| (!a.is_accepted(), a.open(), a.objection.is_some());
    let undoable = |a: &Attempt<'_>| {
        a.members
            .iter()
            .all(|m| m.card.capability().effect != Effect::Irreversible)
    };
    let rank = |a: &Attempt<'_>| (open(a), -a.used, a.members.len(), !undoable(a));
    let order = rank(&next)
        .cmp(&rank(&best))
        .then(best.worth.total_cmp(&next.worth));
    if order.is_lt() { next } else { best }
}

struct Chooser<'a, 'c> {
    reading: &'a Reading<'a>,
    range: &'c Range<usize>,
    ask: &'c Range<usize>,
    before: &'c [Member<'a>],
    ranked: &'c [Ranked],
}

impl<'a> Chooser<'a, '_> {
    /// Adds what explains more, as long as it feeds or uses what is there.
    fn grow(&self, seed: &Ranked) -> Attempt<'a> {
        let mut entries = vec![seed.entry];
        let mut attempt = self.attempt(&entries);
        while entries.len() < MOST {
            let beside = self.ranked.iter().take(BESIDE);
            let beside = beside.filter(|r| r.strength >= MEANT).map(|r| r.entry);
            let beside =
                beside.filter(|e| !entries.contains(e) && self.are_connected(&attempt, *e));
            let grown = beside.map(|e| self.attempt(&[&*entries, &[e]].concat()));
            let said = grown.filter(|a| a.members.iter().all(|m| self.is_said(m, &a.members)));
            let best = said.reduce(|best, next| if next.key() < best.key() { next } else { best });
            let Some(best) = best.filter(|best| best.key() < attempt.key()) else {
                break;
            };
            entries = best.members.iter().map(|m| m.entry).collect();
            attempt = best;
        }
        attempt
    }

    fn attempt(&self, entries: &[usize]) -> Attempt<'a> {
        let reading = self.reading;
        let member = |&entry: &usize| {
            let filled = reading.fill(entry, self.range);
            Some(Member {
                entry,
                card: reading.index.card(entry)?,
                filled,
            })
        };
        let mut members: Vec<Member<'a>> = entries.iter().filter_map(member).collect();
        for member in &mut members {
            for (name, value) in self.recalled(member) {
                let values = &mut Rc::make_mut(&mut member.filled).values;
                values.insert(name, vec![value]);
            }
        }
        let case = Case {
            reading,
            range: self.range,
            ask: self.ask,
            members: &members,
        };
        let used: BTreeSet<usize> = members
            .iter()
            .flat_map(|m| m.filled.used.iter().copied())
            .collect();
        let used = used
            .into_iter()
            .filter(|&at| reading.query.is_content(at))
            .count();
        let ranked = |m: &Member<'_>| self.ranked.iter().find(|r| r.entry == m.entry);
        let values =
            |m: &Member<'_>| f32::from(u8::try_from(m.filled.values.len()).unwrap_or(u8::MAX));
        let worth = |m: &Member<'_>| ranked(m).map_or(0.0, |r| r.gain) + VALUE * values(m);
        let strength = |m: &Member<'_>| ranked(m).map_or(PLACED, |r| r.strength) + TOLD * values(m);
        let mut left = case.left_over();
        let mut notes = Vec::new();
        let firm: f32 = members.first().map_or(0.0, strength);
        if let [at] = *left.as_slice()
            && firm >= PLACED
            && members.iter().any(|m| m.filled.named > 0)
            && case.is_harmless(at)
        {
            notes.push(format!(
                "'{}' was not understood",
                reading.query.slice(at..at + 1)
            ));
            left.clear();
        }
        Attempt {
            notes,
            left,
            missing: members
                .iter()
                .flat_map(|m| self.missing(m, &members))
                .collect(),
            objection: case.objection(),
            worth: members.iter().map(worth).sum(),
            strength: members.first().map_or(0.0, strength),
            used: isize::try_from(used).unwrap_or(isize::MAX),
            members,
        }
    }

    /// "there", "it", "her": what the clauses before gave for the like of a required param.
    fn recalled(&self, member: &Member<'a>) -> Vec<(String, Value)> {
        let mut words = self.range.clone().map(|at| self.reading.query.lower(at));
        if self.before.is_empty() || !words.any(|word| is(word, PRONOUN | RECALLS)) {
            return Vec::new();
        }
        let open = |p: &&Param| p.required && !member.filled.values.contains_key(&p.name);
        let value = |p: &Param| {
            let mut values = self.before.iter().rev().flat_map(|m| {
                let params = m.card.params.iter().rev().filter(|q| p.is_like(q));
                params.filter_map(|q| m.filled.values.get(&q.name))
            });
            let one = values.find_map(|values| {
                if let [one] = values.as_slice() {
                    Some(one)
                } else {
                    None
                }
            })?;
            p.accepts(one).then(|| (p.name.clone(), one.clone()))
        };
        member
            .card
            .params
            .iter()
            .filter(open)
            .filter_map(value)
            .collect()
    }

    /// The required params that the clause does not give and no other task can.
    fn missing(&self, member: &Member<'a>, all: &[Member<'a>]) -> Vec<String> {
        let open = |p: &&Param| {
            p.required && p.default.is_none() && !member.filled.values.contains_key(&p.name)
        };
        let params = member.card.params.iter().filter(open);
        let missing = params.filter(|p| !self.is_supplied(member.card, p, all));
        missing.map(|p| p.name.replace('_', " ")).collect()
    }

    fn is_supplied(&self, card: &Card, param: &Param, all: &[Member<'a>]) -> bool {
        let feeds = |from: &Card| feeds(from, card, Some(&param.name));
        let mut words = self.range.clone().map(|at| self.reading.query.lower(at));
        let refers = words.any(|word| is(word, PRONOUN | RECALLS));
        let mut before = self.before.iter().map(|m| m.card);
        let earlier = refers && before.any(feeds);
        let said = earlier || all.iter().any(|m| feeds(m.card));
        param.consumed && said
    }

    /// Whether the clause has a word or a value for a capability that it has for none of the others.
    fn is_said(&self, member: &Member<'a>, all: &[Member<'a>]) -> bool {
        let named = |at: usize, m: &Member<'_>| self.reading.worth(at, m.entry) > NAMED;
        let own = |at: usize| {
            let others = || all.iter().filter(|other| other.entry != member.entry);
            (named(at, member) && !others().any(|m| named(at, m)))
                || (member.filled.uses(at) && !others().any(|m| m.filled.uses(at)))
        };
        self.range.clone().any(own)
    }

    /// Whether another one uses or gives a result for a param that the clause does not give.
    fn are_connected(&self, attempt: &Attempt<'a>, added: usize) -> bool {
        let Some(card) = self.reading.index.card(added) else {
            return false;
        };
        let filled = self.reading.fill(added, self.range);
        let feeds_open = |from: &Card, to: &Card, filled: &Filled| {
            let open = |p: &Param| p.consumed && !filled.values.contains_key(&p.name);
            let mut params = to.params.iter().filter(|p| open(p));
            params.any(|p| feeds(from, to, Some(&p.name)))
        };
        let mut members = attempt.members.iter();
        members.any(|m| feeds_open(m.card, card, &filled) || feeds_open(card, m.card, &m.filled))
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
