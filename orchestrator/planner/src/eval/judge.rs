//! The judgement of one plan by its case.
//!
//! Does not add up cases; that is the report's. Does not compare task with task; that is [`Comparison`]'s.

use std::ops::AddAssign;

use amcp_plan::Plan;
use amcp_protocol::ErrorCode;
use serde::Serialize;

use super::cases::Case;
use super::compare::Comparison;
use super::wanted::plain;
use crate::{Planned, PlanningError};

/// What a plan is worth to the user.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The planner could not work: its model is not there or is too slow.
    #[default]
    Failed,
    /// Something that is not expected, and nothing admits it.
    SilentlyWrong,
    /// Nothing is planned, and the planner says so.
    Declined,
    /// Incomplete, or wrong in a way that the planner admits.
    Partly,
    /// As expected.
    Right,
}

impl Outcome {
    /// In words.
    #[must_use]
    pub const fn words(self) -> &'static str {
        match self {
            Self::Failed => "failed",
            Self::SilentlyWrong => "silently wrong",
            Self::Declined => "declined",
            Self::Partly => "partly",
            Self::Right => "right",
        }
    }
}

/// How many things were expected, made, and right.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// How many there should be.
    pub expected: u32,
    /// How many there are.
    pub made: u32,
    /// How many of them should be there.
    pub right: u32,
}

impl Tally {
    /// The harmonic mean of precision and recall, from 0 to 1; none when nothing was expected and nothing made.
    #[must_use]
    pub fn f1(self) -> Option<f64> {
        let both = self.expected + self.made;
        (both > 0).then(|| 2.0 * f64::from(self.right) / f64::from(both))
    }
}

impl AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.expected += other.expected;
        self.made += other.made;
        self.right += other.right;
    }
}

/// A plan judged by its case.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Verdict {
    /// What it is worth.
    pub outcome: Outcome,
    /// Tasks.
    pub nodes: Tally,
    /// Which task waits for which.
    pub edges: Tally,
    /// Params of the tasks that are expected.
    pub values: Tally,
    /// Tasks that change something and are not expected, or have a wrong value. A delegation changes nothing itself.
    pub wrong_writes: u32,
    /// What keeps the plan from being right.
    pub why: Vec<String>,
}

/// Judges what a planner made of a case's query, by the expected plan that it comes closest to.
#[must_use]
pub fn judge(case: &Case, made: Result<&Planned, &PlanningError>) -> Verdict {
    let nothing = Plan::default();
    let (plan, said) = match made {
        Ok(planned) => (&planned.plan, Said::of(planned)),
        Err(error) => {
            if is_out_of_order(error.failure.code) {
                return failed(error.to_string());
            }
            let said = Said::new([error.to_string()].iter(), false);
            (&nothing, said)
        }
    };
    let verdicts = case.plans.iter().map(|expected| {
        let comparison = Comparison::new(expected, plan);
        comparison.verdict(&said, case.declines.as_deref())
    });
    // Of plans that are worth the same, the one that the case names first.
    verdicts
        .reduce(|best, next| {
            if next.outcome > best.outcome {
                next
            } else {
                best
            }
        })
        .unwrap_or_else(|| failed("the case expects no plan".to_owned()))
}

/// Whether the failure says nothing of how well the planner reads queries.
fn is_out_of_order(code: ErrorCode) -> bool {
    matches!(
        code,
        ErrorCode::LlmUnavailable
            | ErrorCode::LlmTimeout
            | ErrorCode::LlmModelMissing
            | ErrorCode::LlmBusy
            | ErrorCode::LlmCut
            | ErrorCode::DeadlineExceeded
            | ErrorCode::Internal
    )
}

fn failed(why: String) -> Verdict {
    Verdict {
        why: vec![why],
        ..Verdict::default()
    }
}

/// What the planner says beside its tasks: notes, and the parts of the query that it leaves out.
pub(super) struct Said {
    pub(super) texts: Vec<String>,
    pub(super) leaves_out: bool,
}

impl Said {
    fn of(planned: &Planned) -> Self {
        let plan = &planned.plan;
        let refused = plan.refused.iter().map(|refused| {
            let (task, failure) = (&refused.view.capability, &refused.failure);
            format!("{task}: {failure}")
        });
        let refused: Vec<_> = refused.collect();
        let leaves_out = !(plan.unplaced.is_empty() && refused.is_empty());
        let texts = planned.notes.iter().chain(&plan.unplaced).chain(&refused);
        Self::new(texts, leaves_out)
    }

    fn new<'a>(texts: impl Iterator<Item = &'a String>, leaves_out: bool) -> Self {
        Self {
            texts: texts.cloned().collect(),
            leaves_out,
        }
    }

    /// Whether a text occurs in what is said, as whole words.
    pub(super) fn names(&self, part: &str) -> bool {
        let part = plain(part);
        let is_word = |c: Option<char>| c.is_some_and(char::is_alphanumeric);
        let occurs = |text: &String| {
            let text = plain(text);
            text.match_indices(&part).any(|(at, found)| {
                let (before, after) = (text.get(..at), text.get(at + found.len()..));
                !is_word(before.and_then(|before| before.chars().next_back()))
                    && !is_word(after.and_then(|after| after.chars().next()))
            })
        };
        !part.is_empty() && self.texts.iter().any(occurs)
    }
}

#[cfg(test)]
mod tests;
