//! The judged cases of a file, added up: for each class and together.
//!
//! Does not judge a plan and prints nothing.

use std::collections::BTreeMap;
use std::time::Duration;

use amcp_protocol::Failure;
use amcp_protocol::llm::Usage;
use serde::Serialize;

use super::judge::{Outcome, Tally, Verdict};
use crate::{Planned, PlanningError};

/// What planning one query cost.
#[derive(Debug, Clone, Copy, Default)]
pub struct Cost {
    /// How long it took.
    pub took: Duration,
    /// How many LLM calls it needed.
    pub llm_calls: u32,
    /// The tokens of these calls.
    pub usage: Usage,
}

/// One judged case.
#[derive(Debug, Clone)]
pub struct Scored {
    /// The case's id.
    pub id: String,
    /// The case's class.
    pub class: String,
    /// The query.
    pub query: String,
    /// The judgement.
    pub verdict: Verdict,
    /// The answer, if the case was asked.
    pub answer: Option<Answered>,
    /// What planning cost; the LLM calls and tokens of the answer are among it, those of its judge are not.
    pub cost: Cost,
}

/// A judged answer.
#[derive(Debug, Clone)]
pub struct Answered {
    /// What keeps it from being right; a failure where the judge model could not judge.
    pub faults: Result<Vec<String>, Failure>,
    /// From the question to the answer.
    pub took: Duration,
}

/// Some cases added up.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Row {
    /// How many there are.
    pub cases: u32,
    /// How many of them are right.
    pub right: u32,
    /// … right in part.
    pub partly: u32,
    /// … wrong, and nothing admits it.
    pub silently_wrong: u32,
    /// … declined although something can be planned.
    pub declined: u32,
    /// … not planned because the planner could not work.
    pub failed: u32,
    /// The four outcomes as parts of 1.
    pub shares: Shares,
    /// How many tasks change something and should not, or not with these values.
    pub wrong_writes: u32,
    /// How many answers were judged.
    pub answers: u32,
    /// How many of them are right.
    pub right_answers: u32,
    /// How many answers the judge model could not judge.
    pub unjudged_answers: u32,
    /// F1 of tasks, from 0 to 1; absent when there are none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node_f1: Option<f64>,
    /// F1 of edges between tasks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub edge_f1: Option<f64>,
    /// F1 of the values of the expected tasks' params.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value_f1: Option<f64>,
}

/// Outcomes as parts of all cases, from 0 to 1.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Shares {
    /// Right.
    pub right: f64,
    /// Partly.
    pub partly: f64,
    /// Silently wrong.
    pub silently_wrong: f64,
    /// Declined.
    pub declined: f64,
}

/// A case that is not right.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Miss {
    /// The case's id.
    pub id: String,
    /// The case's class.
    pub class: String,
    /// The query.
    pub query: String,
    /// What the plan is worth.
    pub outcome: Outcome,
    /// What keeps it from being right.
    pub why: Vec<String>,
}

/// All cases of a file added up.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// All cases.
    pub total: Row,
    /// The cases of each class.
    pub classes: BTreeMap<String, Row>,
    /// The median time of a plan, in milliseconds.
    pub latency_p50_ms: f64,
    /// The longest time of a plan, in milliseconds.
    pub latency_max_ms: f64,
    /// The median time of an answer, in milliseconds; 0 without answers.
    pub answer_p50_ms: f64,
    /// The longest time of an answer, in milliseconds.
    pub answer_max_ms: f64,
    /// LLM calls of all cases together.
    pub llm_calls: u32,
    /// Tokens of all cases together.
    pub usage: Usage,
    /// The cases whose plan or answer is not right, in the file's order.
    pub misses: Vec<Miss>,
}

impl Report {
    /// Adds up.
    #[must_use]
    pub fn of(cases: &[Scored]) -> Self {
        let mut classes = BTreeMap::<_, Vec<&Scored>>::new();
        for case in cases {
            classes.entry(case.class.clone()).or_default().push(case);
        }
        let plans = times(cases.iter().map(|case| case.cost.took));
        let answers = cases.iter().filter_map(|case| case.answer.as_ref());
        let answers = times(answers.map(|answer| answer.took));
        let mut usage = Usage::default();
        for case in cases {
            usage += case.cost.usage;
        }
        let misses = cases.iter().filter(|case| {
            let answer = case.answer.as_ref();
            case.verdict.outcome != Outcome::Right
                || answer.is_some_and(|answer| answer.faults != Ok(Vec::new()))
        });
        Self {
            total: Row::of(cases.iter()),
            classes: classes
                .into_iter()
                .map(|(class, cases)| (class, Row::of(cases.into_iter())))
                .collect(),
            latency_p50_ms: plans.0,
            latency_max_ms: plans.1,
            answer_p50_ms: answers.0,
            answer_max_ms: answers.1,
            llm_calls: cases.iter().map(|case| case.cost.llm_calls).sum(),
            usage,
            misses: misses
                .map(|case| Miss {
                    id: case.id.clone(),
                    class: case.class.clone(),
                    query: case.query.clone(),
                    outcome: case.verdict.outcome,
                    why: case.why(),
                })
                .collect(),
        }
    }
}

/// The median and the longest, in milliseconds; 0 when there are none.
fn times(times: impl Iterator<Item = Duration>) -> (f64, f64) {
    let mut times: Vec<_> = times.collect();
    times.sort_unstable();
    let ms = |at: usize| times.get(at).map_or(0.0, |time| time.as_secs_f64() * 1e3);
    let last = times.len().saturating_sub(1);
    (ms(last / 2), ms(last))
}

impl Cost {
    /// What a planner's work cost that took this long.
    #[must_use]
    pub fn of(made: &Result<Planned, PlanningError>, took: Duration) -> Self {
        let (llm_calls, usage) = match made {
            Ok(planned) => (planned.llm_calls, planned.usage),
            Err(error) => (error.llm_calls, error.usage),
        };
        Self {
            took,
            llm_calls,
            usage,
        }
    }
}

impl Scored {
    /// What keeps the plan and the answer from being right.
    fn why(&self) -> Vec<String> {
        let unjudged;
        let answer = match self.answer.as_ref().map(|answer| &answer.faults) {
            None => &[],
            Some(Ok(faults)) => faults.as_slice(),
            Some(Err(failure)) => {
                unjudged = [format!("the answer could not be judged: {failure}")];
                &unjudged
            }
        };
        [&*self.verdict.why, answer].concat()
    }
}

impl Row {
    /// Adds up the judgements of some cases.
    pub fn of<'a>(cases: impl Iterator<Item = &'a Scored>) -> Self {
        let mut row = Self::default();
        let (mut nodes, mut edges, mut values) = <(Tally, Tally, Tally)>::default();
        for Scored {
            verdict, answer, ..
        } in cases
        {
            row.cases += 1;
            *match verdict.outcome {
                Outcome::Right => &mut row.right,
                Outcome::Partly => &mut row.partly,
                Outcome::SilentlyWrong => &mut row.silently_wrong,
                Outcome::Declined => &mut row.declined,
                Outcome::Failed => &mut row.failed,
            } += 1;
            row.wrong_writes += verdict.wrong_writes;
            match answer.as_ref().map(|answer| &answer.faults) {
                None => {}
                Some(Err(_)) => row.unjudged_answers += 1,
                Some(Ok(faults)) => {
                    row.answers += 1;
                    row.right_answers += u32::from(faults.is_empty());
                }
            }
            nodes += verdict.nodes;
            edges += verdict.edges;
            values += verdict.values;
        }
        let share = |number: u32| f64::from(number) / f64::from(row.cases.max(1));
        row.shares = Shares {
            right: share(row.right),
            partly: share(row.partly),
            silently_wrong: share(row.silently_wrong),
            declined: share(row.declined),
        };
        (row.node_f1, row.edge_f1, row.value_f1) = (nodes.f1(), edges.f1(), values.f1());
        row
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scored(class: &str, outcome: Outcome, made: u32, ms: u64) -> Scored {
        let tally = |right| Tally {
            expected: 2,
            made,
            right,
        };
        Scored {
            id: format!("{class}{ms}"),
            class: class.to_owned(),
            query: "q".to_owned(),
            verdict: Verdict {
                outcome,
                nodes: tally(made.min(2)),
                edges: Tally::default(),
                values: tally(0),
                wrong_writes: u32::from(outcome == Outcome::SilentlyWrong),
                why: Vec::new(),
            },
            answer: None,
            cost: Cost {
                took: Duration::from_millis(ms),
                llm_calls: 2,
                usage: Usage {
                    prompt_tokens: 10,
                    reply_tokens: 1,
                    calls: 1,
                },
            },
        }
    }

    #[test]
    fn cases_are_added_up_by_class_and_together() {
        let report = Report::of(&[
            scored("a", Outcome::Right, 2, 5),
            scored("a", Outcome::SilentlyWrong, 4, 1),
            scored("b", Outcome::Declined, 0, 3),
            scored("b", Outcome::Partly, 1, 9),
        ]);
        let total = &report.total;
        assert_eq!((total.cases, total.right, total.partly), (4, 1, 1));
        assert_eq!(
            (total.silently_wrong, total.declined, total.wrong_writes),
            (1, 1, 1)
        );
        assert_eq!(
            (total.shares.right, total.shares.silently_wrong),
            (0.25, 0.25)
        );
        // 2 + 2 + 0 + 1 of 8 expected and 7 made.
        assert_eq!(total.node_f1, Some(10.0 / 15.0));
        assert_eq!((total.edge_f1, total.value_f1), (None, Some(0.0)));
        assert_eq!(report.classes["a"].shares.right, 0.5);
        assert_eq!((report.latency_p50_ms, report.latency_max_ms), (3.0, 9.0));
        assert_eq!((report.llm_calls, report.usage.prompt_tokens), (8, 40));
        let missed: Vec<_> = report.misses.iter().map(|miss| miss.id.as_str()).collect();
        assert_eq!(missed, ["a1", "b3", "b9"]);
    }

    #[test]
    fn a_right_plan_with_a_wrong_answer_is_a_miss() {
        let with = |faults| Scored {
            answer: Some(Answered {
                faults,
                took: Duration::from_millis(4),
            }),
            ..scored("a", Outcome::Right, 2, 1)
        };
        let unjudged = Failure::internal("the judge sleeps");
        let wrong = vec!["the answer lacks 3".to_owned()];
        let cases = [with(Ok(Vec::new())), with(Ok(wrong)), with(Err(unjudged))];
        let report = Report::of(&cases);
        let total = &report.total;
        assert_eq!(
            (total.answers, total.right_answers, total.unjudged_answers),
            (2, 1, 1)
        );
        let why: Vec<_> = report.misses.iter().flat_map(|miss| &miss.why).collect();
        assert_eq!(report.answer_max_ms, 4.0);
        assert!(why[0] == "the answer lacks 3" && why[1].contains("the judge sleeps"));
        assert_eq!(why.len(), 2);
    }

    #[test]
    fn no_case_at_all_is_no_fault() {
        let report = Report::of(&[]);
        assert_eq!((report.total.cases, report.total.node_f1), (0, None));
        assert_eq!(report.latency_max_ms, 0.0);
    }
}
