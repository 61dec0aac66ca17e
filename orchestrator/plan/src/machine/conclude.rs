//! Ends a request: asks for the answer's text, and determines its state and the missing parts.

use amcp_protocol::{AnswerState, ErrorCode, Failure, TaskReport};

use super::replace::Refusal;
use super::task::{Status, TaskRun, millis, state_of};
use crate::plan::RefusedTask;

use super::{Action, Conclusion, Machine, Stage, Time, TimerKey};

impl Machine {
    /// Once all tasks have ended, responds, or first asks the composer for a text.
    pub(super) fn write_answer(&mut self, now: Time, out: &mut Vec<Action>) {
        if self.order.is_empty() && self.refused.is_empty() {
            let text = self.answer_directly.take();
            return self.respond(now, text, out);
        }
        let worth_it = self
            .planned_runs()
            .any(|run| matches!(run.status, Status::Completed(..)));
        if !(self.policy.composes && worth_it && self.llm_calls_left > 0) {
            return self.respond(now, None, out);
        }
        self.stage = Stage::Composing;
        out.push(Action::ClearTimer(TimerKey::Closing));
        let current = |run: &&TaskRun| !self.is_made_up_for(run.replaced_by);
        let refused = self.refused_now().map(not_done);
        out.push(Action::Compose {
            tasks: self
                .planned_runs()
                .filter(current)
                .map(|run| report(run, now))
                .chain(refused)
                .collect(),
            unplaced: self.unplaced.clone(),
            time: self.deadline().saturating_sub(now),
            llm_calls: self.llm_calls_left,
        });
    }

    pub(super) fn composed(
        &mut self,
        now: Time,
        result: Result<String, Failure>,
        out: &mut Vec<Action>,
    ) {
        let text = match result {
            Ok(text) if !text.trim().is_empty() => Some(text),
            Ok(_) => None,
            Err(failure) => {
                self.notes.push(format!(
                    "the answer's text was composed without the LLM: {failure}"
                ));
                None
            }
        };
        self.respond(now, text, out);
    }

    /// Gives the one final response.
    pub(super) fn respond(&mut self, now: Time, text: Option<String>, out: &mut Vec<Action>) {
        self.stage = Stage::Done;
        let (state, error) = self.verdict(text.is_some());
        out.push(Action::Respond(Box::new(Conclusion {
            state,
            text,
            planner: std::mem::take(&mut self.planner),
            tasks: self.reports(now),
            unplaced: std::mem::take(&mut self.unplaced),
            error,
            usage: self.usage,
            notes: std::mem::take(&mut self.notes),
            replaced: self
                .planned_runs()
                .filter(|run| self.is_made_up_for(run.replaced_by))
                .map(|run| run.plan.id.clone())
                .collect(),
        })));
    }

    fn verdict(&self, answered_directly: bool) -> (AnswerState, Option<Failure>) {
        if let Some(failure) = self
            .stopped
            .as_ref()
            .filter(|failure| failure.code == ErrorCode::Cancelled)
        {
            return (AnswerState::Cancelled, Some(failure.clone()));
        }
        let any_done = self
            .planned_runs()
            .any(|run| matches!(run.status, Status::Completed(..)));
        let missing = || {
            self.planned_runs()
                .filter(|run| !self.is_made_up_for(run.replaced_by) && !run.plan.optional)
        };
        // A failed task explains more than the tasks that were skipped because of it.
        let root = |run: &&TaskRun| !matches!(run.status, Status::Skipped(_));
        let task_failure = missing()
            .filter(root)
            .find_map(|run| run.status.failure())
            .or_else(|| missing().find_map(|run| run.status.failure()))
            .or_else(|| missing().find_map(|run| run.status.missing()))
            .or_else(|| {
                let mut needed = self.refused_now().filter(|refused| !refused.optional);
                needed.next().map(|refused| &refused.failure)
            })
            .cloned();
        let unplaced = (!self.unplaced.is_empty()).then(|| {
            let parts = self.unplaced.join("; ");
            // A planner that knows the reason adds it to the words of the user.
            let hint = if self.unplaced.iter().any(|part| part.contains(" – ")) {
                "say it in other words"
            } else {
                "say it in other words, or start an agent that can"
            };
            Failure::new(ErrorCode::NothingPlanned, format!("not done: {parts}")).hint(hint)
        });
        let error = self.stopped.clone().or(task_failure).or(unplaced);
        match (error, any_done) {
            (None, false) if !answered_directly && self.order.is_empty() => {
                let failure = Failure::new(
                    ErrorCode::NothingPlanned,
                    "the plan has no task and no answer",
                );
                (AnswerState::Failed, Some(failure))
            }
            // If all tasks were optional and failed, nothing is left for an answer.
            (None, false) if !answered_directly => {
                let first = self
                    .planned_runs()
                    .find_map(|run| run.status.failure())
                    .cloned();
                (AnswerState::Failed, first)
            }
            (None, _) => (AnswerState::Completed, None),
            (Some(error), true) => (AnswerState::Partial, Some(error)),
            (Some(error), false) if answered_directly => (AnswerState::Partial, Some(error)),
            (Some(error), false) => (AnswerState::Failed, Some(error)),
        }
    }

    pub(super) fn reports(&self, now: Time) -> Vec<TaskReport> {
        let runs = self.planned_runs().map(|run| report(run, now));
        runs.chain(self.refused_now().map(not_done)).collect()
    }

    /// The refused tasks that no later task replaced.
    fn refused_now(&self) -> impl Iterator<Item = &RefusedTask> {
        let open = |refusal: &&Refusal| !self.is_made_up_for(refusal.replaced_by);
        self.refused
            .iter()
            .filter(open)
            .map(|refusal| &refusal.task)
    }

    /// The tasks of all accepted plans, in the plans' order.
    pub(super) fn planned_runs(&self) -> impl Iterator<Item = &TaskRun> {
        self.order.iter().filter_map(|&index| self.tasks.get(index))
    }
}

fn not_done(refused: &RefusedTask) -> TaskReport {
    TaskReport {
        id: refused.view.id.clone(),
        capability: refused.view.capability.clone(),
        agent: None,
        state: refused.state,
        attempts: 0,
        duration_ms: 0,
        result: None,
        error: Some(refused.failure.clone()),
        calls: Vec::new(),
    }
}

fn report(run: &TaskRun, now: Time) -> TaskReport {
    let end = run.ended.unwrap_or(now);
    TaskReport {
        id: run.plan.id.clone(),
        capability: run.plan.capability.clone(),
        agent: run.agent.clone().or_else(|| run.avoid.last().cloned()),
        state: state_of(&run.status),
        attempts: run.sent,
        duration_ms: millis(end.saturating_sub(run.first_dispatch.unwrap_or(end))),
        result: if let Status::Completed(result, _) = &run.status {
            Some(result.clone())
        } else {
            None
        },
        error: run
            .status
            .failure()
            .or_else(|| run.status.missing())
            .cloned(),
        calls: run.calls.clone(),
    }
}
