//! From a query to a proposed plan: one clause after the other, and the parts that could not be placed, with the reasons.
//!
//! Does not wire tasks to each other: the plan compiler does, and gives its reasons.

use std::collections::BTreeMap;
use std::ops::Range;

use amcp_protocol::{ProposedPlan, ProposedTask};
use serde_json::{Map, Value};

use super::choose::Attempt;
use super::fill::Filled;
use super::judge::{Case, Member};
use super::piece::{Does, Piece, pieces};
use super::rank::{NAMED, Reading};

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
        told: Vec::new(),
    };
    for Piece { range, does } in pieces(reading, refused) {
        match does {
            Does::Tasks(attempt) => drafts.accept(range, &attempt),
            Does::Goes(member) => drafts.go_on(&range, &member),
            Does::Tells => drafts.told.push(range),
            Does::TakesBack => drafts.take_back(&range),
            Does::Nothing(why) if why.is_empty() && !reading.has_content(range.clone()) => {}
            Does::Nothing(why) => drafts.leave(&range, &why),
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
    /// What only tells something.
    told: Vec<Range<usize>>,
    /// The tasks of the clause before, for "and in London?".
    last: Vec<usize>,
}

impl<'a> Drafts<'a> {
    fn leave(&mut self, range: &Range<usize>, why: &str) {
        self.unplaced.push((range.clone(), why.to_owned()));
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
    fn go_on(&mut self, range: &Range<usize>, member: &Member<'_>) {
        let filled = &member.filled;
        let last = self.last.iter().rev().copied();
        let same = |at: &usize| {
            self.tasks
                .get(*at)
                .is_some_and(|task| task.entry == member.entry)
        };
        let Some((at, previous)) = last
            .into_iter()
            .find(same)
            .and_then(|at| Some((at, self.tasks.get(at)?.clone())))
        else {
            return self.leave(range, "");
        };
        let mut names = filled.values.keys();
        let other = names.any(|name| previous.params.contains_key(name));
        for copy in 0..copies([&**filled]) {
            let mut params = previous.params.clone();
            params.extend(nth(filled, copy, &mut 1));
            let known = |task: &Draft| task.entry == member.entry && task.params == params;
            if self.tasks.iter().any(known) {
                continue;
            }
            if let (false, 0, Some(task)) = (other, copy, self.tasks.get_mut(at)) {
                task.params = params;
            } else {
                self.last = vec![self.tasks.len()];
                self.tasks.push(Draft {
                    entry: member.entry,
                    params,
                    clause: range.start,
                });
            }
        }
        self.notes.extend(filled.notes.clone());
    }

    /// Makes the tasks of a clause, one set for each combination of listed values.
    fn accept(&mut self, range: Range<usize>, attempt: &Attempt<'_>) {
        // "a report of the expenses and the weather" is one wish.
        let joined = matches!(
            self.reading.query.before(range.start),
            "and" | "," | "plus" | "&"
        );
        let last = self
            .tasks
            .last()
            .filter(|_| joined && !self.reading.opens(&range));
        let number = last.map_or(range.start, |task| task.clause);
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
            ask: &range,
            members: &attempt.members,
        };
        self.notes.extend(case.note());
        self.notes.extend(attempt.notes.clone());
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
        for range in std::mem::take(&mut self.told) {
            match self.tasks.is_empty() {
                true => self.leave(&range, ""),
                false => self.note_unused(&range),
            }
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
