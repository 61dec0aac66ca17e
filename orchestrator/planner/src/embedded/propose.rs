//! From a query to a proposed plan: one clause after the other, and what could not be placed.
//!
//! Does not add inputs that a single chain lacks: the plan compiler does, and gives the reasons.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use amcp_plan::Plan;
use amcp_protocol::{Effect, ProposedPlan, ProposedTask};
use serde_json::json;

use super::chain;
use super::choose::{Choice, choose, lacks_in};
use super::clause::{Clause, asks_again, clauses};
use super::draft::{Draft, copies, draft, nth};
use super::fill::{Reach, fill};
use super::rank::Reading;

/// Longest text of a clause that is repeated to the user, in characters.
const MAX_UNPLACED_CHARS: usize = 200;
/// Most parts that are reported as unplaced; more are counted.
const MAX_UNPLACED: usize = 8;
/// Longest reasoning, in characters: as long as a model's.
const MAX_REASONING: usize = 300;

#[derive(Debug)]
struct Unplaced {
    text: String,
    /// Where it is; empty when it is no part of the query.
    tokens: Range<usize>,
}

#[derive(Debug, Default)]
pub(super) struct Drafts {
    pub(super) tasks: Vec<Draft>,
    unplaced: Vec<Unplaced>,
    reasons: Vec<String>,
    /// The tasks of the clause before, for "and in London?".
    pub(super) last: Vec<usize>,
    /// The tokens that became values, for whichever clause.
    pub(super) used: BTreeSet<usize>,
}

/// A proposal, and the clauses that its tasks stand for.
#[derive(Debug)]
pub(super) struct Proposed {
    pub(super) plan: ProposedPlan,
    pub(super) clauses: Vec<Range<usize>>,
    /// Of each task its clause and its capability's entry.
    tasks: Vec<(usize, usize)>,
}

impl Proposed {
    /// The capabilities of a clause.
    pub(super) fn entries_of(&self, clause: usize) -> impl Iterator<Item = usize> {
        let of_clause = move |task: &&(usize, usize)| task.0 == clause;
        self.tasks.iter().filter(of_clause).map(|task| task.1)
    }

    /// The effects of the tasks that the compiler added.
    pub(super) fn added(&self, reading: &Reading<'_>, plan: &Plan) -> Vec<Effect> {
        let proposed = |name: &str| {
            let entries = self
                .tasks
                .iter()
                .filter_map(|task| reading.index.entry(task.1));
            entries
                .into_iter()
                .any(|e| e.capability().name.as_str() == name)
        };
        let tasks = plan.tasks.iter();
        let added = tasks.filter(|task| !proposed(task.capability.as_str()));
        added.map(|task| task.terms.effect).collect()
    }
}

/// Proposes a plan of at most `most` tasks. It has tasks or unplaced parts, or both. The clauses in `misread` get no task but are
/// unplaced, with the reasons there.
pub(super) fn propose(
    reading: &Reading<'_>,
    most: usize,
    misread: &BTreeMap<usize, String>,
) -> Proposed {
    let mut drafts = Drafts::default();
    let clauses = clauses(reading);
    for (number, clause) in clauses.iter().enumerate() {
        match misread.get(&number) {
            Some(why) => unplaced(reading, &clause.tokens, &format!(" ({why})"), &mut drafts),
            None => place(reading, clause, number, &mut drafts),
        }
    }
    chain::complete(reading, &clauses, &mut drafts);
    chain::wire_up(reading, &clauses, &mut drafts);
    let unplaced = still_unplaced(reading, &mut drafts, most);
    let reasoning: String = drafts
        .reasons
        .join("; ")
        .chars()
        .take(MAX_REASONING)
        .collect();
    let plan = ProposedPlan {
        reasoning: (!reasoning.is_empty()).then_some(reasoning),
        answer_directly: None,
        tasks: drafts
            .tasks
            .iter()
            .filter_map(|draft| task(reading, draft))
            .collect(),
        unplaced,
    };
    Proposed {
        plan,
        clauses: clauses.into_iter().map(|clause| clause.tokens).collect(),
        tasks: drafts.tasks.iter().map(|d| (d.clause, d.entry)).collect(),
    }
}

/// The parts that no task stands for, bounded.
fn still_unplaced(reading: &Reading<'_>, drafts: &mut Drafts, most: usize) -> Vec<String> {
    // "I'm in Lisbon. What's the weather?": the first sentence gave the second one its city.
    let says_more = |part: &Unplaced| {
        let mut content = part
            .tokens
            .clone()
            .filter(|&at| reading.query.is_content(at));
        part.tokens.is_empty() || content.any(|at| !drafts.used.contains(&at))
    };
    let mut texts: Vec<String> = drafts
        .unplaced
        .iter()
        .filter(|part| drafts.tasks.is_empty() || says_more(part))
        .map(|part| part.text.clone())
        .collect();
    if drafts.tasks.is_empty() && texts.is_empty() {
        texts.push(shortened(reading.query.text));
    }
    let hidden = texts.len().saturating_sub(MAX_UNPLACED);
    if hidden > 0 {
        texts.truncate(MAX_UNPLACED);
        texts.push(format!("{hidden} further parts"));
    }
    if drafts.tasks.len() > most {
        let dropped = drafts.tasks.split_off(most).len();
        texts.push(format!("{dropped} tasks more than a plan may have"));
    }
    texts
}

/// How other tasks name a task that has no id yet: the compiler numbers these tasks in the order of execution.
fn place_of(draft: usize) -> String {
    format!("t{}", draft + 1)
}

fn task(reading: &Reading<'_>, draft: &Draft) -> Option<ProposedTask> {
    let entry = reading.index.entry(draft.entry)?;
    let mut params = draft.params.clone();
    for (param, from, path) in &draft.inputs {
        params.insert(
            param.clone(),
            json!({"$ref": place_of(*from), "path": path}),
        );
    }
    Some(ProposedTask {
        capability: entry.capability().name.to_string(),
        params,
        ..ProposedTask::default()
    })
}

fn place(reading: &Reading<'_>, clause: &Clause, number: usize, drafts: &mut Drafts) {
    let range = &clause.tokens;
    if !reading.has_content(range.clone()) && !reading.opens(range.clone()) {
        return;
    }
    let Choice { chosen, missing } = choose(reading, range);
    // "… and set the brightness to 60": what the clause lacks, the one before said.
    let lacks = chosen.iter().all(|&entry| lacks_in(reading, entry, range));
    if missing.is_empty() && lacks && continues(reading, range, number, drafts) {
        return;
    }
    if !missing.is_empty() {
        let verb = if missing.len() == 1 { "is" } else { "are" };
        let note = format!(" ({} {verb} missing)", missing.join(" and "));
        unplaced(reading, range, &note, drafts);
    }
    if !chosen.is_empty() {
        explain(reading, range, &chosen, drafts);
        let used = draft(reading, range, number, chosen.clone(), drafts);
        untouched(reading, clause, &chosen, &used, drafts);
    } else if missing.is_empty() && reading.has_content(range.clone()) {
        // "Could you help me?" asks for nothing that could be named.
        unplaced(reading, range, "", drafts);
    }
}

fn unplaced(reading: &Reading<'_>, tokens: &Range<usize>, note: &str, drafts: &mut Drafts) {
    drafts.unplaced.push(Unplaced {
        text: shortened(reading.query.slice(tokens.clone())) + note,
        tokens: if note.is_empty() {
            tokens.clone()
        } else {
            0..0
        },
    });
}

fn shortened(text: &str) -> String {
    let text = text.trim().trim_matches([',', ';']).trim();
    let mut short: String = text.chars().take(MAX_UNPLACED_CHARS).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    if short.is_empty() {
        "(nothing was asked)".clone_into(&mut short);
    }
    short
}

/// Says which words stand for which capability.
fn explain(reading: &Reading<'_>, range: &Range<usize>, chosen: &[usize], drafts: &mut Drafts) {
    for &entry in chosen {
        let Some(card) = reading.index.entry(entry) else {
            continue;
        };
        let mut words: Vec<&str> = Vec::new();
        for at in range.clone() {
            let hit = reading
                .hits
                .get(at)
                .into_iter()
                .flatten()
                .any(|h| h.entry == entry && h.strength > WORTH_SAYING);
            if let Some(token) = reading
                .query
                .token(at)
                .filter(|t| hit && !words.contains(&t.name()))
            {
                words.push(token.name());
            }
        }
        words.truncate(4);
        let name = &card.capability().name;
        drafts.reasons.push(match words.is_empty() {
            true => format!(
                "{name} takes '{}'",
                reading
                    .query
                    .slice(range.clone())
                    .chars()
                    .take(40)
                    .collect::<String>()
            ),
            false => format!("{name} for '{}'", words.join(", ")),
        });
    }
}

/// Words that count less are not worth telling.
const WORTH_SAYING: f32 = 0.5;

/// "And in London?": the clause before, with other values; or more values for it.
fn continues(
    reading: &Reading<'_>,
    range: &Range<usize>,
    number: usize,
    drafts: &mut Drafts,
) -> bool {
    if range
        .clone()
        .any(|at| reading.query.denied.get(at) == Some(&true))
    {
        return false;
    }
    let before: Vec<usize> = drafts.last.clone();
    for at in before.into_iter().rev() {
        let Some(previous) = drafts.tasks.get(at).cloned() else {
            continue;
        };
        let Some(card) = reading.index.entry(previous.entry) else {
            continue;
        };
        if card.spec.plans {
            // Its words went there with the clause, or are a request of their own.
            continue;
        }
        let said = fill(reading.query, &card.spec, range.clone(), Reach::Clause, &[]);
        let is_value = |at: usize| said.used.get(at) == Some(&true);
        let names_it = |at: usize| {
            reading.query.token(at).is_some_and(|t| {
                card.spec.params.iter().any(|p| p.words.contains(&t.stem))
                    || card.spec.words.contains(&t.stem)
            })
        };
        let covered = range
            .clone()
            .all(|at| !reading.query.is_content(at) || is_value(at) || names_it(at));
        if said.values.is_empty() || !covered {
            continue;
        }
        let other = said
            .values
            .keys()
            .any(|name| previous.params.contains_key(name))
            || asks_again(reading, range);
        for copy in 0..copies(&[(previous.entry, said.clone())]) {
            let mut params = previous.params.clone();
            params.extend(nth(&said, copy, &mut 1));
            if !other && copy == 0 {
                if let Some(task) = drafts.tasks.get_mut(at) {
                    task.params = params;
                }
                continue;
            }
            drafts.tasks.push(Draft {
                params,
                clause: number,
                ..previous.clone()
            });
            drafts.last = vec![drafts.tasks.len() - 1];
        }
        return true;
    }
    false
}

/// Reports the parts of a clause in which nothing stands for the chosen capabilities or became a value.
fn untouched(
    reading: &Reading<'_>,
    clause: &Clause,
    chosen: &[usize],
    used: &[bool],
    drafts: &mut Drafts,
) {
    if clause.segments.len() < 2 {
        return;
    }
    for segment in &clause.segments {
        let touched = segment.clone().any(|at| {
            let named = reading
                .hits
                .get(at)
                .into_iter()
                .flatten()
                .any(|h| chosen.contains(&h.entry) && h.strength > 0.2);
            used.get(at) == Some(&true) || named
        });
        if !touched && reading.has_content(segment.clone()) {
            unplaced(reading, segment, "", drafts);
        }
    }
}
