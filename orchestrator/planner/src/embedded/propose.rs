//! From a query to a proposed plan: one clause after the other, and the parts that could not be placed, with the reasons.
//!
//! Does not wire tasks to each other: the plan compiler does, and gives its reasons.

use std::collections::BTreeMap;
use std::ops::Range;
use std::rc::Rc;

use amcp_protocol::{ProposedPlan, ProposedTask};
use serde_json::{Map, Value};

use super::choose::{Attempt, Choice, choose};
use super::clause::{asks_again, clauses, is_courtesy};
use super::fill::{ANNOUNCED, Filled, fill};
use super::judge::{Case, Member};
use super::rank::{NAMED, Reading};
use super::words::{SAYING, TAKES_BACK, TELLS, TURNS, WISHES, base, is, is_negative};

/// Longest text of a clause that is repeated to the user, in characters.
const MAX_SHOWN: usize = 200;
/// Most parts that are reported as unplaced; more are counted.
const MAX_UNPLACED: usize = 8;
/// Longest reasoning, in characters: as long as a model's.
const MAX_REASONING: usize = 300;
/// Most tasks that lists of values make of one clause: as many as a plan may have.
const MAX_COPIES: usize = 32;

#[derive(Debug, Clone, PartialEq)]
struct Draft {
    entry: usize,
    params: Map<String, Value>,
    clause: usize,
}

/// A proposal, and the clauses that its tasks stand for.
#[derive(Debug, Default)]
pub(super) struct Proposed {
    pub(super) plan: ProposedPlan,
    /// The clauses that have tasks.
    pub(super) placed: Vec<Range<usize>>,
    /// Of each task its clause.
    pub(super) clauses: Vec<usize>,
    pub(super) notes: Vec<String>,
}

/// Proposes a plan of at most `most` tasks. It has tasks or unplaced parts, or both. The clauses in `refused` get no task but are
/// unplaced, with the reasons there.
pub(super) fn propose(
    reading: &Reading<'_>,
    most: usize,
    refused: &BTreeMap<usize, String>,
) -> Proposed {
    let mut drafts = Drafts {
        reading,
        tasks: Vec::new(),
        unplaced: Vec::new(),
        placed: Vec::new(),
        reasons: Vec::new(),
        notes: Vec::new(),
        last: Vec::new(),
    };
    for (number, range) in clauses(reading).into_iter().enumerate() {
        match refused.get(&number) {
            Some(why) => drafts.leave(&range, why),
            None => drafts.place(number, range),
        }
    }
    drafts.proposed(most)
}

struct Drafts<'a> {
    reading: &'a Reading<'a>,
    tasks: Vec<Draft>,
    /// The parts that no task stands for, and why.
    unplaced: Vec<(Range<usize>, String)>,
    placed: Vec<Range<usize>>,
    reasons: Vec<String>,
    notes: Vec<String>,
    /// The tasks of the clause before, for "and in London?".
    last: Vec<usize>,
}

impl<'a> Drafts<'a> {
    fn leave(&mut self, range: &Range<usize>, why: &str) {
        self.unplaced.push((range.clone(), why.to_owned()));
    }

    fn place(&mut self, number: usize, range: Range<usize>) {
        let lower = |at: usize| self.reading.query.lower(at);
        let empty =
            is_courtesy(self.reading, &range) && range.clone().any(|at| is_negative(lower(at)));
        if empty || (lower(range.start) == "no" && lower(range.start + 1) == ",") {
            return self.take_back(&range);
        }
        if is_courtesy(self.reading, &range) && !self.reading.opens(&range) {
            return;
        }
        let before: Vec<usize> = self.tasks.iter().map(|task| task.entry).collect();
        let mut range = range;
        let mut choice = choose(self.reading, &range, &before);
        if let (Choice::Declined(..) | Choice::Unknown, Some(wish)) = (&choice, self.wish(&range))
            && let Choice::Accepted(attempt) = choose(self.reading, &wish, &before)
            && (attempt.reads() || self.commands(&range, &wish))
        {
            self.note_unused(&(range.start..wish.start));
            (range, choice) = (wish, Choice::Accepted(attempt));
        }
        match choice {
            Choice::Accepted(attempt) => {
                self.accept(number, range, &attempt);
            }
            Choice::Declined(attempt, why) => {
                if !(attempt.lacks() && self.continues(number, &range)) {
                    self.leave(&range, &why);
                }
            }
            Choice::Unknown => {
                if !self.continues(number, &range) && self.reading.has_content(range.clone()) {
                    self.leave(&range, "");
                }
            }
        }
    }

    /// "I've got a call and need the weather in Oslo", "boss asks: …": where the wish begins, if what stands before it names
    /// nothing here, denies nothing and is no condition.
    fn wish(&self, range: &Range<usize>) -> Option<Range<usize>> {
        let query = self.reading.query;
        let joins =
            |at: &usize| matches!(query.lower(*at), ":" | "-" | "–" | "—" | "and" | "so" | ",");
        let wish = |joint: usize| {
            let wish = joint + 1..range.end;
            let bare = matches!(query.lower(joint), ":" | "-" | "–" | "—");
            (self.is_told(&(range.start..joint)) && (bare || self.reading.opens(&wish)))
                .then_some(wish)
        };
        range.clone().filter(joins).find_map(wish)
    }

    /// Whether words tell of the speaker rather than ask.
    fn is_told(&self, range: &Range<usize>) -> bool {
        let query = self.reading.query;
        let first = query.lower(range.start);
        let told = is(first, TELLS) || query.lower(range.end) == ":";
        let turns = |at: usize| {
            let word = query.lower(at);
            is_negative(word)
                || is(word, TURNS | TAKES_BACK)
                || query.mark(at).is_some()
                || word == "should"
        };
        let asks = |at: usize| query.is(at, WISHES);
        let mut words = range.clone();
        told && query.lower(range.end) != "?"
            && !words.any(|at| turns(at) || asks(at))
            && self.reading.stands(range.clone()).is_none()
    }

    /// A command of the speaker's own changes something; one that is told of does not: "Anna wrote: lock the door".
    fn commands(&self, range: &Range<usize>, wish: &Range<usize>) -> bool {
        let query = self.reading.query;
        let tells = |at: usize| {
            let said = base(query.lower(at));
            matches!(said, "tell" | "say" | "write" | ":")
                || is(said, SAYING)
                || said.starts_with("ask")
        };
        self.reading.opens(wish) && !(range.start..wish.start).any(tells)
    }

    fn note_unused(&mut self, range: &Range<usize>) {
        let said = self.reading.query.slice(range.clone());
        let said = said.trim_end_matches(|c: char| !c.is_alphanumeric());
        let said = said.strip_suffix(" and").unwrap_or(said);
        self.notes.push(format!("'{said}' is not used"));
    }

    /// "Actually, don't.": the clause before is not carried out.
    fn take_back(&mut self, range: &Range<usize>) {
        let last = std::mem::take(&mut self.last);
        if let Some(first) = last.into_iter().min() {
            self.tasks.truncate(first);
        }
        let from = self.placed.pop().map_or(range.start, |before| before.start);
        self.leave(&(from..range.end), "it was taken back");
    }

    /// "And in London?": the clause before with other values, or more values for it.
    fn continues(&mut self, number: usize, range: &Range<usize>) -> bool {
        let reading = self.reading;
        for at in self.last.clone().into_iter().rev() {
            let Some(previous) = self.tasks.get(at).cloned() else {
                continue;
            };
            let entry = previous.entry;
            // The words of one that plans went there with the clause, or are a request of their own.
            let Some(card) = reading.index.card(entry).filter(|card| !card.plans) else {
                continue;
            };
            // A name that nothing announces is another thing: "Thanks, John".
            let filled = Rc::new(fill(reading.query, card, range.clone(), ANNOUNCED));
            let members = [Member {
                entry,
                card,
                filled: Rc::clone(&filled),
            }];
            let case = Case {
                reading,
                range,
                members: &members,
            };
            if filled.values.is_empty()
                || !case.left_over().is_empty()
                || case.objection().is_some()
            {
                continue;
            }
            let mut names = filled.values.keys();
            let other =
                names.any(|name| previous.params.contains_key(name)) || asks_again(reading, range);
            for copy in 0..copies([&*filled]) {
                let mut params = previous.params.clone();
                params.extend(nth(&filled, copy, &mut 1));
                if let (false, 0, Some(task)) = (other, copy, self.tasks.get_mut(at)) {
                    task.params = params;
                } else {
                    self.last = vec![self.tasks.len()];
                    self.tasks.push(Draft {
                        entry,
                        params,
                        clause: number,
                    });
                }
            }
            self.notes.extend(filled.notes.clone());
            return true;
        }
        false
    }

    /// Makes the tasks of a clause, one set for each combination of listed values.
    fn accept(&mut self, number: usize, range: Range<usize>, attempt: &Attempt<'_>) {
        let filled = || attempt.members.iter().map(|m| &*m.filled);
        let copies = copies(filled());
        let lists = filled()
            .flat_map(|f| f.values.values())
            .filter(|values| values.len() > 1);
        if lists.count() > 1 && attempt.members.iter().any(|m| !m.card.reads()) {
            return self.leave(&range, "it is not clear which belongs to which");
        }
        if copies > MAX_COPIES {
            return self.leave(&range, "that is too much at once");
        }
        self.last.clear();
        for copy in 0..copies {
            let mut stride = 1;
            for member in &attempt.members {
                let params = nth(&member.filled, copy, &mut stride);
                let same = |task: &Draft| {
                    task.clause != number && task.entry == member.entry && task.params == params
                };
                let known = self.tasks.iter().position(same);
                self.last.push(known.unwrap_or(self.tasks.len()));
                if known.is_none() {
                    self.tasks.push(Draft {
                        entry: member.entry,
                        params,
                        clause: number,
                    });
                }
            }
        }
        self.notes.extend(filled().flat_map(|f| f.notes.clone()));
        let case = Case {
            reading: self.reading,
            range: &range,
            members: &attempt.members,
        };
        self.notes.extend(case.note());
        for member in &attempt.members {
            self.explain(&range, member);
        }
        self.placed.push(range);
    }

    /// Says which words stand for which capability.
    fn explain(&mut self, range: &Range<usize>, member: &Member<'_>) {
        let (query, name) = (self.reading.query, member.card.name());
        let named = range
            .clone()
            .filter(|&at| self.reading.worth(at, member.entry) > NAMED);
        let mut words: Vec<&str> = named
            .filter_map(|at| Some(query.token(at)?.name()))
            .collect();
        words.dedup();
        words.truncate(4);
        let said: String = query.slice(range.clone()).chars().take(40).collect();
        self.reasons.push(match words.is_empty() {
            true => format!("{name} takes '{said}'"),
            false => format!("{name} for '{}'", words.join(", ")),
        });
    }

    fn proposed(mut self, most: usize) -> Proposed {
        if !self.tasks.is_empty() {
            let unplaced = std::mem::take(&mut self.unplaced);
            let (told, left) = unplaced
                .into_iter()
                .partition(|(range, _)| self.is_told(range));
            self.unplaced = left;
            let told: Vec<(Range<usize>, String)> = told;
            told.iter().for_each(|(range, _)| self.note_unused(range));
        }
        let mut unplaced: Vec<String> = self
            .unplaced
            .iter()
            .map(|(range, why)| told(self.reading.query.slice(range.clone()), why))
            .collect();
        if self.tasks.is_empty() && unplaced.is_empty() {
            unplaced.push(told(self.reading.query.text, ""));
        }
        let hidden = unplaced.len().saturating_sub(MAX_UNPLACED);
        if hidden > 0 {
            unplaced.truncate(MAX_UNPLACED);
            unplaced.push(format!("{hidden} further parts"));
        }
        if self.tasks.len() > most {
            let dropped = self.tasks.split_off(most).len();
            unplaced.push(format!("{dropped} tasks more than a plan may have"));
        }
        let reasoning: String = self
            .reasons
            .join("; ")
            .chars()
            .take(MAX_REASONING)
            .collect();
        let task = |draft: &Draft| {
            Some(ProposedTask {
                capability: self.reading.index.card(draft.entry)?.name().to_owned(),
                params: draft.params.clone(),
                ..ProposedTask::default()
            })
        };
        self.notes.dedup();
        Proposed {
            plan: ProposedPlan {
                reasoning: (!reasoning.is_empty()).then_some(reasoning),
                answer_directly: None,
                tasks: self.tasks.iter().filter_map(task).collect(),
                unplaced,
            },
            placed: self.placed,
            clauses: self.tasks.iter().map(|draft| draft.clause).collect(),
            notes: self.notes,
        }
    }
}

/// A part that is not carried out, as people are told of it.
fn told(text: &str, why: &str) -> String {
    let text = text.trim().trim_matches([',', ';']).trim();
    let mut short: String = text.chars().take(MAX_SHOWN).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    match (short.is_empty(), why.is_empty()) {
        (true, _) => "(nothing was asked)".to_owned(),
        (_, true) => short,
        _ => format!("{short} – {why}"),
    }
}

/// How many combinations of listed values there are.
fn copies<'f>(filled: impl IntoIterator<Item = &'f Filled>) -> usize {
    let lengths = filled
        .into_iter()
        .flat_map(|f| f.values.values())
        .map(|values| values.len().max(1));
    lengths.fold(1_usize, usize::saturating_mul)
}

/// The params of the `copy`th combination; `stride` counts the combinations of the values seen before.
fn nth(filled: &Filled, copy: usize, stride: &mut usize) -> Map<String, Value> {
    let mut params = Map::new();
    for (name, values) in &filled.values {
        let count = values.len().max(1);
        if let Some(value) = values.get(copy / *stride % count) {
            params.insert(name.clone(), value.clone());
        }
        *stride *= count;
    }
    params
}
