//! A plan compared with one that is expected: which task is which, and what is wrong with each.
//!
//! Does not choose among several expected plans; the judge does.

use std::collections::BTreeMap;

use amcp_plan::{Plan, PlanTask};
use amcp_protocol::Effect;
use amcp_protocol::capability::DELEGATES;
use serde_json::Value;

use super::cases::Expected;
use super::judge::{Outcome, Said, Tally, Verdict};
use super::wanted::{Wanted, text};

/// A param that has not the expected value.
struct WrongValue {
    what: String,
    /// Texts by which a note admits it: the value that is set, and those that were wanted.
    named: Vec<String>,
}

/// The params of one task beside those that are expected of it.
#[derive(Default)]
struct Values {
    tally: Tally,
    wrong: Vec<WrongValue>,
}

/// One expected plan and the plan that was made, task by task.
pub(super) struct Comparison<'a> {
    expected: &'a [Expected],
    plan: &'a Plan,
    /// Which task was made of each expected one.
    made: Vec<Option<usize>>,
}

impl<'a> Comparison<'a> {
    /// Pairs the tasks, those with the most right values first.
    pub(super) fn new(expected: &'a [Expected], plan: &'a Plan) -> Self {
        let mut pairs = Self {
            expected,
            plan,
            made: vec![None; expected.len()],
        };
        while let Some((at, made)) = pairs.closest() {
            if let Some(place) = pairs.made.get_mut(at) {
                *place = Some(made);
            }
        }
        pairs
    }

    fn closest(&self) -> Option<(usize, usize)> {
        let mut best: Option<(i64, usize, usize)> = None;
        for (made, task) in self.plan.tasks.iter().enumerate() {
            if self.made.contains(&Some(made)) {
                continue;
            }
            for (at, expected) in self.expected.iter().enumerate() {
                let is_free = self.made.get(at) == Some(&None);
                if !is_free || expected.contract.capability.name != task.capability {
                    continue;
                }
                let values = self.values(expected, task);
                let edges = expected.depends_on.iter();
                let edges = edges.filter(|&&from| self.follows(task, from)).count();
                let score =
                    i64::from(values.tally.right) + signed(edges) - signed(values.wrong.len());
                if best.is_none_or(|(highest, ..)| score > highest) {
                    best = Some((score, at, made));
                }
            }
        }
        best.map(|(_, at, made)| (at, made))
    }

    /// Whether a task is not expected, has a wrong value, or gets the result of such a task.
    fn is_wrong(&self, at: usize) -> bool {
        let Some(task) = self.plan.tasks.get(at) else {
            return false;
        };
        let pairs = self.expected.iter().zip(&self.made);
        let mut expected = pairs.filter(|(_, made)| **made == Some(at));
        let right = expected.any(|(expected, _)| self.values(expected, task).wrong.is_empty());
        !right || task.references.iter().any(|from| self.is_wrong(from.from))
    }

    /// Whether a task waits for the one that was made of an expected task.
    fn follows(&self, task: &PlanTask, from: usize) -> bool {
        let from = self.made.get(from).copied().flatten();
        from.is_some_and(|from| task.after.contains(&from))
    }

    fn values(&self, expected: &Expected, task: &PlanTask) -> Values {
        let alternatives = expected.params.iter();
        let judged = alternatives.map(|wanted| self.values_by(wanted, expected, task));
        judged
            .reduce(|best, next| {
                let worth = |v: &Values| i64::from(v.tally.right) - 2 * signed(v.wrong.len());
                if worth(&next) > worth(&best) {
                    next
                } else {
                    best
                }
            })
            .unwrap_or_default()
    }

    fn values_by(
        &self,
        wanted: &BTreeMap<String, Wanted>,
        expected: &Expected,
        task: &PlanTask,
    ) -> Values {
        let capability = &expected.contract.capability;
        let set = |param: &str| task.params.get(param).filter(|value| !value.is_null());
        let default = |param: &str| capability.param_schema(param)?.get("default");
        let mut values = Values::default();
        let mut wrong = |param: &str, is: Option<&Value>, named: Vec<String>| {
            let is = is.map_or_else(|| "not set".to_owned(), Value::to_string);
            let what = format!("{}.{param} is {is}", capability.name);
            values.wrong.push(WrongValue { what, named });
        };
        let mut tally = Tally::default();
        for (param, wanted) in wanted {
            let is = set(param).or_else(|| default(param));
            if is.is_none() && wanted.is_optional() {
                continue;
            }
            tally.expected += 1;
            tally.made += u32::from(is.is_some());
            if wanted.allows(is) {
                tally.right += 1;
            } else {
                let named = wanted.named().into_iter().chain(is.and_then(text));
                wrong(param, is, named.collect());
            }
        }
        let params = task.params.as_object().into_iter().flatten();
        for (param, is) in params {
            let is_judged = wanted.contains_key(param) || expected.free.contains(param);
            let is_default = default(param) == Some(is);
            if is_judged || is_default || is.is_null() || self.is_handed_on(param, expected, task) {
                continue;
            }
            tally.made += 1;
            wrong(param, Some(is), text(is).into_iter().collect());
        }
        values.tally = tally;
        values
    }

    /// Whether a param comes from a task that its task is expected to wait for, or perhaps does: that task may have no pair yet.
    fn is_handed_on(&self, param: &str, expected: &Expected, task: &PlanTask) -> bool {
        let within = |place: &str| {
            let place = place.strip_prefix('/').unwrap_or(place);
            place.split('/').next() == Some(param)
        };
        let mut references = task
            .references
            .iter()
            .filter(|r| within(&r.place))
            .peekable();
        references.peek().is_some()
            && references.all(|reference| {
                expected.depends_on.iter().any(|&from| {
                    let made = self.made.get(from).copied().flatten();
                    made.is_none_or(|made| made == reference.from)
                })
            })
    }

    pub(super) fn verdict(&self, said: &Said, declines: Option<&[String]>) -> Verdict {
        let mut verdict = Verdict::default();
        let mut admitted = Vec::new();
        for (made, task) in self.plan.tasks.iter().enumerate() {
            verdict.nodes.made += 1;
            verdict.edges.made += count(task.after.len());
            if self.made.contains(&Some(made)) {
                continue;
            }
            let what = format!("{} is not expected", task.capability);
            let writes = task.terms.effect != Effect::Read;
            verdict.wrong_writes += u32::from(changes(task));
            if !writes && said.names(task.capability.as_str()) {
                admitted.push(what);
            } else {
                verdict.why.push(what);
            }
        }
        for (expected, made) in self.expected.iter().zip(&self.made) {
            let Some(task) = made.and_then(|made| self.plan.tasks.get(made)) else {
                if !expected.optional {
                    verdict.nodes.expected += 1;
                    verdict.edges.expected += count(expected.depends_on.len());
                    admitted.push(format!("{} is missing", expected.contract.capability.name));
                }
                continue;
            };
            verdict.nodes.expected += 1;
            verdict.nodes.right += 1;
            let values = self.values(expected, task);
            verdict.values += values.tally;
            let wrong = made.is_some_and(|made| self.is_wrong(made));
            verdict.wrong_writes += u32::from(wrong && changes(task));
            for wrong in values.wrong {
                let is_admitted = wrong.named.iter().any(|name| said.names(name));
                let list = if is_admitted {
                    &mut admitted
                } else {
                    &mut verdict.why
                };
                list.push(wrong.what);
            }
            for &from in &expected.depends_on {
                let is_left_out = self.made.get(from) == Some(&None)
                    && self.expected.get(from).is_some_and(|e| e.optional);
                let right = self.follows(task, from);
                verdict.edges.expected += u32::from(!is_left_out);
                verdict.edges.right += u32::from(right);
                if !right && !is_left_out {
                    admitted.push(format!("{} does not wait for its input", task.capability));
                }
            }
        }
        verdict.outcome = self.outcome(said, &mut verdict.why, admitted, declines);
        verdict
    }

    /// `why` holds what is wrong and not admitted, and in the end all that is wrong.
    fn outcome(
        &self,
        said: &Said,
        why: &mut Vec<String>,
        mut admitted: Vec<String>,
        declines: Option<&[String]>,
    ) -> Outcome {
        if self.plan.tasks.is_empty() {
            if self.expected.iter().all(|expected| expected.optional) {
                return Outcome::Right;
            }
            let answered = self.plan.answer_directly.is_some();
            if answered || said.texts.is_empty() {
                let how = if answered {
                    "answered without a task"
                } else {
                    "nothing is planned, nothing is said"
                };
                why.push(how.to_owned());
                return Outcome::SilentlyWrong;
            }
            why.extend(said.texts.iter().map(|text| format!("it says: {text}")));
            return Outcome::Declined;
        }
        match declines {
            None if said.leaves_out => admitted.push("a part is left out without need".to_owned()),
            Some(words) => {
                let unsaid = words.iter().filter(|word| !said.names(word));
                admitted
                    .extend(unsaid.map(|word| format!("nothing says that '{word}' is left out")));
            }
            None => {}
        }
        let outcome = match (why.is_empty(), admitted.is_empty()) {
            (false, _) => Outcome::SilentlyWrong,
            (true, false) => Outcome::Partly,
            (true, true) => Outcome::Right,
        };
        why.append(&mut admitted);
        outcome
    }
}

/// Whether a task changes something itself; what is delegated is judged where it is done.
fn changes(task: &PlanTask) -> bool {
    task.terms.effect != Effect::Read && !task.capability.as_str().starts_with(DELEGATES)
}

fn count(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

fn signed(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
