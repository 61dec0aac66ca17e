//! The request machine: takes every decision between a user's request and its one final response.
//!
//! `State × Event → Actions, State'` and nothing else: it sends nothing, keeps no clock (times are durations since the
//! request was accepted) and draws no random numbers (jitter comes from a seed). The request's actor carries the actions
//! out and feeds back their outcomes; the same machine runs in tests, in the model checker and in a replay.
//!
//! Promises: exactly one [`Action::Respond`] on every path, and none after it; at most one attempt at a task is current;
//! a task's first accepted result is final; a capability that is not idempotent is never used again once an attempt may have
//! done its work, neither in its round nor in a later one.

mod action;
mod arrive;
mod authority;
mod clock;
mod conclude;
mod event;
mod flow;
mod life;
mod policy;
mod replace;
mod run;
mod task;
#[cfg(test)]
mod tests;

use std::time::Duration;

use amcp_protocol::llm::Usage;
use amcp_protocol::task::{TaskOutcome, calls_used};
use amcp_protocol::{CallBudget, CallReport, ErrorCode, Failure};
use serde::{Deserialize, Serialize};

use crate::plan::{Plan, PlanTask};
use replace::Refusal;
use task::{Status, TaskRun};

pub use action::{Action, Assignment, Conclusion};
pub use event::{Event, TimerKey};
pub use flow::WITHDRAWAL;
pub use policy::Policy;

/// Time since the request was accepted.
pub type Time = Duration;

/// Numbers of responses that were not for the current attempt.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dropped {
    /// The task had ended.
    pub duplicate: u32,
    /// The attempt was no longer the current one, or the request had ended.
    pub late: u32,
    /// No such task or attempt was ever dispatched.
    pub foreign: u32,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
enum Stage {
    #[default]
    Planning,
    Executing,
    Composing,
    Done,
}

/// The state of one request and the function that decides about it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Machine {
    policy: Policy,
    stage: Stage,
    round: u32,
    /// Index of the current round's first task.
    round_start: usize,
    /// Tasks of all rounds, also those that arrived early and belong to no plan.
    tasks: Vec<TaskRun>,
    /// The tasks of the accepted plans, in the plans' order.
    order: Vec<usize>,
    /// Number of tasks that have not ended.
    open: usize,
    usage: Usage,
    llm_calls_left: u32,
    result_bytes_left: usize,
    calls_left: Option<CallBudget>,
    /// Impossible tasks of the plans.
    refused: Vec<Refusal>,
    planner: String,
    answer_directly: Option<String>,
    unplaced: Vec<String>,
    notes: Vec<String>,
    /// The reason why the request as a whole was stopped.
    stopped: Option<Failure>,
    dropped: Dropped,
    /// Number of open flows.
    flows: usize,
    /// The beginning of the current wait for nothing but flows; each event moves it to the present.
    idle_since: Option<Time>,
    /// Total time of waits for nothing but flows; moves the deadline.
    idle: Duration,
}

impl Machine {
    /// Makes a machine; returns it with its first actions.
    #[must_use]
    pub fn start(policy: Policy) -> (Self, Vec<Action>) {
        let mut machine = Self {
            llm_calls_left: policy.llm_calls,
            result_bytes_left: policy.result_bytes,
            calls_left: policy.calls.map(CallBudget::new),
            policy,
            ..Self::default()
        };
        let mut out = Vec::new();
        machine.set_deadline(&mut out);
        machine.begin_round(Time::ZERO, &mut out);
        (machine, out)
    }

    /// The actions that follow from `event`, which happened at `now`.
    #[must_use]
    pub fn step(&mut self, now: Time, event: Event) -> Vec<Action> {
        let mut out = Vec::new();
        if self.stage == Stage::Done {
            if let Event::Responded { outcome, .. } = event {
                self.dropped.late += u32::from(!outcome.is_cancelled());
            }
            return out;
        }
        self.count_idle(now);
        match event {
            Event::TasksAdded { round, tasks } => self.tasks_added(now, round, tasks, &mut out),
            Event::Planned {
                round,
                result,
                planner,
                llm_calls,
                usage,
                notes,
            } => {
                self.usage += usage;
                if self.stage == Stage::Planning && round == self.round {
                    self.planner = planner;
                    self.notes.extend(notes);
                    self.llm_calls_left = self.llm_calls_left.saturating_sub(llm_calls);
                    self.planned(now, result, &mut out);
                }
            }
            Event::Chosen {
                task,
                attempt,
                agent,
                incarnation,
            } => self.chosen(now, (task, attempt), (agent, incarnation), &mut out),
            Event::Progressed {
                task,
                attempt,
                note,
            } => self.progressed(now, (task, attempt), note, &mut out),
            Event::Responded {
                task,
                attempt,
                outcome,
                calls,
            } => self.responded(now, (task, attempt), (outcome, calls), &mut out),
            Event::Spent(usage) => self.usage += usage,
            Event::FlowAnswered { flow, answer } => {
                self.flow_answered(now, &flow, answer, &mut out)
            }
            Event::TimerFired(key) => self.timer_fired(now, key, &mut out),
            Event::Composed {
                result,
                llm_calls,
                usage,
                notes,
            } => {
                self.usage += usage;
                if self.stage == Stage::Composing {
                    self.llm_calls_left = self.llm_calls_left.saturating_sub(llm_calls);
                    self.notes.extend(notes);
                    self.composed(now, result, &mut out);
                }
            }
            Event::CancelRequested => {
                let failure = Failure::new(ErrorCode::Cancelled, "the request was cancelled");
                self.stop_now(now, failure, &mut out);
            }
            Event::CutOff(failure) => self.stop_now(now, failure, &mut out),
        }
        self.keep_clock(now, &mut out);
        out
    }

    /// Whether the final response was given.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.stage == Stage::Done
    }

    /// Estimated bytes of all results so far.
    #[must_use]
    pub const fn result_bytes(&self) -> usize {
        self.policy.result_bytes - self.result_bytes_left
    }

    /// Numbers of dropped responses so far.
    #[must_use]
    pub const fn dropped(&self) -> Dropped {
        self.dropped
    }

    /// The indexes of the tasks of all accepted plans, in the plans' order.
    #[must_use]
    pub fn places(&self) -> &[usize] {
        &self.order
    }

    /// The planned task at an index.
    #[must_use]
    pub fn task(&self, index: usize) -> Option<&PlanTask> {
        self.tasks.get(index).map(|run| &run.plan)
    }

    /// The tasks that have not ended.
    pub fn open_tasks(&self) -> impl Iterator<Item = &PlanTask> {
        let open = self.tasks.iter().filter(|run| !run.status.has_ended());
        open.map(|run| &run.plan)
    }

    fn begin_round(&mut self, now: Time, out: &mut Vec<Action>) {
        self.stage = Stage::Planning;
        self.round += 1;
        self.round_start = self.tasks.len();
        let time = self
            .policy
            .plan_time
            .min(self.closing_time().saturating_sub(now));
        let round = self.round;
        out.push(Action::SetTimer {
            key: TimerKey::Planning { round },
            at: now + time,
        });
        let tasks = if round == 1 {
            Vec::new()
        } else {
            self.reports(now)
        };
        out.push(Action::Plan {
            round,
            time,
            llm_calls: self.llm_calls_left,
            tasks,
        });
    }

    fn tasks_added(&mut self, now: Time, round: u32, tasks: Vec<PlanTask>, out: &mut Vec<Action>) {
        if self.stage == Stage::Planning && round == self.round {
            let first = self.tasks.len();
            self.add_early(tasks);
            self.dispatch_ready(first..self.tasks.len(), now, out);
        }
    }

    fn planned(&mut self, now: Time, result: Result<Plan, Failure>, out: &mut Vec<Action>) {
        out.push(Action::ClearTimer(TimerKey::Planning { round: self.round }));
        let result = result.and_then(|plan| {
            self.check_authorised(&plan.tasks)?;
            Ok(plan)
        });
        match result {
            Ok(plan) => {
                let added = self.accept(plan, out);
                self.drop_unplanned(now, out);
                self.stage = Stage::Executing;
                self.dispatch_ready(added, now, out);
                self.advance(now, out);
            }
            Err(failure) if self.round == 1 => {
                self.stop_now(now, failure, out);
            }
            Err(failure) => {
                self.notes
                    .push(format!("a second plan was tried and failed: {failure}"));
                // Tasks that arrived before the plan was complete are no longer wanted.
                self.cut_open_tasks(now, &failure, out);
                self.stage = Stage::Executing;
                self.write_answer(now, out);
            }
        }
    }

    fn responded(
        &mut self,
        now: Time,
        (task, attempt): (usize, u32),
        (outcome, calls): (TaskOutcome, Vec<CallReport>),
        out: &mut Vec<Action>,
    ) {
        let Some(run) = self
            .tasks
            .get_mut(task)
            .filter(|run| (1..=run.attempt).contains(&attempt))
        else {
            self.dropped.foreign += 1;
            return;
        };
        if !matches!(run.status, Status::InFlight) || run.attempt != attempt {
            // Confirming the end of an abandoned attempt is no answer.
            if outcome.is_cancelled() {
                return;
            }
            let counter = if run.status.has_ended() {
                &mut self.dropped.duplicate
            } else {
                &mut self.dropped.late
            };
            *counter += 1;
            return;
        }
        if let Some(budget) = &mut self.calls_left {
            let given = run.given.take();
            match &outcome {
                TaskOutcome::Refused(_) => budget.give_back(given.map_or(0, |given| given + 1)),
                // A lost agent cannot report its calls.
                TaskOutcome::Failed(failure) if failure.code.is_agent_gone() => {}
                TaskOutcome::Done(_)
                | TaskOutcome::Partly(..)
                | TaskOutcome::Failed(_)
                | TaskOutcome::FlowRequired(_) => {
                    let given = given.unwrap_or(0);
                    budget.give_back(given - calls_used(given, &calls));
                }
            }
        }
        run.calls = calls;
        run.may_be_done |= !outcome.is_refused();
        run.clear_timers(task, out);
        match outcome {
            TaskOutcome::Done(result) => self.completed(now, task, (result, None), out),
            TaskOutcome::Partly(result, missing) => {
                self.completed(now, task, (result, Some(missing)), out);
            }
            TaskOutcome::Failed(failure) => self.attempt_failed(now, task, (failure, false), out),
            TaskOutcome::Refused(failure) => self.attempt_failed(now, task, (failure, true), out),
            TaskOutcome::FlowRequired(request) => self.flow_required(now, task, *request, out),
        }
        self.advance(now, out);
    }

    /// Ends all open tasks and responds at once with the results so far.
    fn stop_now(&mut self, now: Time, failure: Failure, out: &mut Vec<Action>) {
        self.cut_open_tasks(now, &failure, out);
        self.stopped = Some(failure);
        self.respond(now, None, out);
    }

    /// Once all tasks have ended, begins another round or writes the answer.
    fn advance(&mut self, now: Time, out: &mut Vec<Action>) {
        if self.stage == Stage::Executing && self.open == 0 {
            if self.wants_another_round(now) {
                self.begin_round(now, out);
            } else {
                self.write_answer(now, out);
            }
        }
    }

    fn wants_another_round(&self, now: Time) -> bool {
        // A planner cannot change a person's decision.
        let decided = |failure: &Failure| {
            matches!(
                failure.code,
                ErrorCode::FlowDenied | ErrorCode::FlowExpired | ErrorCode::FlowUnsupported
            )
        };
        let failed = |run: &TaskRun| {
            matches!(&run.status, Status::Failed(failure) if !decided(failure))
                && !run.plan.optional
                && run.replaced_by.is_none()
        };
        self.round < self.policy.rounds
            && self.llm_calls_left > 0
            && now < self.closing_time()
            && self.planned_runs().any(failed)
    }
}
