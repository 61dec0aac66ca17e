//! Runs the tasks of the machine from waiting to their ends, attempt by attempt.

use amcp_protocol::retry::{self, Verdict};
use amcp_protocol::{AgentId, CallBudget, ErrorCode, Failure, Payload, Progress, TaskId};
use serde_json::Value;

use super::task::{Status, TaskRun, millis, state_of};
use super::{Action, Assignment, Machine, Time, TimerKey};
use crate::plan::Reference;

impl Machine {
    /// Dispatches the tasks that wait for nothing.
    pub(super) fn dispatch_ready(
        &mut self,
        tasks: impl IntoIterator<Item = usize>,
        now: Time,
        out: &mut Vec<Action>,
    ) {
        for index in tasks {
            if let Some(status) = self.dispatch_if_ready(now, index, out) {
                self.end(now, index, status, out);
            }
        }
    }

    /// Returns the end of a task that cannot be dispatched.
    fn dispatch_if_ready(
        &mut self,
        now: Time,
        index: usize,
        out: &mut Vec<Action>,
    ) -> Option<Status> {
        let ready = self
            .tasks
            .get(index)
            .is_some_and(|run| matches!(run.status, Status::Waiting) && run.waiting_for == 0);
        if !ready {
            return None;
        }
        self.failed_before(index)
            .or_else(|| self.try_dispatch(now, index, out).err().map(Status::Failed))
    }

    /// The end of a task that needs one that failed before it arrived.
    fn failed_before(&self, index: usize) -> Option<Status> {
        let before = self
            .tasks
            .get(index)?
            .plan
            .after
            .iter()
            .filter_map(|&before| self.tasks.get(before));
        let failed = |run: &&TaskRun| run.status.failure().is_some() && !run.plan.optional;
        before
            .into_iter()
            .find(failed)
            .map(|run| skipped_for(&run.plan.id))
    }

    pub(super) fn dispatch(&mut self, now: Time, index: usize, out: &mut Vec<Action>) {
        if let Err(failure) = self.try_dispatch(now, index, out) {
            self.end(now, index, Status::Failed(failure), out);
        }
    }

    fn try_dispatch(
        &mut self,
        now: Time,
        index: usize,
        out: &mut Vec<Action>,
    ) -> Result<(), Failure> {
        self.check_references(index)?;
        let closing = self.closing_time();
        let Some(run) = self.tasks.get_mut(index) else {
            return Ok(());
        };
        if !run.plan.terms.allow(&self.policy.roles) {
            let message = format!("the user's roles do not allow {}", run.plan.capability);
            return Err(Failure::new(ErrorCode::NotPermitted, message));
        }
        if let Some(kind) = run.flow_before() {
            return self.ask_before(now, index, kind, out);
        }
        let until = run.until(now).min(closing);
        run.first_dispatch.get_or_insert(now);
        run.attempt += 1;
        run.given = None;
        run.status = Status::InFlight;
        run.until = until;
        let (attempt, avoid, only) = (run.attempt, run.avoid.clone(), run.holder.clone());
        out.push(Action::SetTimer {
            key: TimerKey::Attempt {
                task: index,
                attempt,
            },
            at: until,
        });
        out.push(Action::Choose {
            task: index,
            attempt,
            avoid,
            only,
        });
        Ok(())
    }

    /// Gives the chosen agent its share of the calls, and sends the task.
    pub(super) fn chosen(
        &mut self,
        now: Time,
        (task, attempt): (usize, u32),
        (agent, incarnation): (AgentId, u64),
        out: &mut Vec<Action>,
    ) {
        let waits = |run: &&TaskRun| run.is_current(attempt) && run.agent.is_none();
        if self.tasks.get(task).filter(waits).is_none() {
            return;
        }
        let calls = self.calls_left.as_mut().map(CallBudget::take);
        if calls == Some(None) {
            let message = "the request has no call left in its budget";
            let failure = Failure::new(ErrorCode::BudgetExceeded, message);
            out.push(Action::ClearTimer(TimerKey::Attempt { task, attempt }));
            self.attempt_failed(now, task, (failure, true), out);
            return self.advance(now, out);
        }
        let params = self.params_of(task);
        let (Some(run), Some(params)) = (self.tasks.get_mut(task), params) else {
            return;
        };
        run.agent = Some(agent.clone());
        run.incarnation = incarnation;
        run.sent += 1;
        run.given = calls.flatten();
        run.wait_for_sign(now, task, out);
        out.push(Action::Report(Progress::Dispatched {
            task: run.plan.id.clone(),
            capability: run.plan.capability.clone(),
            attempt,
            agent: agent.clone(),
        }));
        out.push(Action::Send(Assignment {
            task,
            attempt,
            agent,
            incarnation,
            params,
            time: run.until.saturating_sub(now),
            calls: run.given,
            flows: run.ended_flows.clone(),
        }));
    }

    /// Checks that each reference of a ready task has a value.
    fn check_references(&self, index: usize) -> Result<(), Failure> {
        let Some(run) = self.tasks.get(index) else {
            return Ok(());
        };
        for reference in &run.plan.references {
            if let Some(from) = self.tasks.get(reference.from)
                && let Status::Completed(result, _) = &from.status
                && result.pointer(&reference.path).is_none()
            {
                return Err(missing(from, reference));
            }
        }
        Ok(())
    }

    /// The params with values in place of references.
    pub(super) fn params_of(&self, index: usize) -> Option<Payload> {
        let run = self.tasks.get(index)?;
        if run.plan.references.is_empty() {
            return Some(run.plan.params.clone());
        }
        let mut params = Value::clone(&run.plan.params);
        for reference in &run.plan.references {
            let Some(from) = self.tasks.get(reference.from) else {
                continue;
            };
            if let Status::Completed(result, _) = &from.status {
                let value = result.pointer(&reference.path).cloned();
                if let (Some(value), Some(place)) = (value, params.pointer_mut(&reference.place)) {
                    *place = value;
                }
            } else {
                // No value: the other task was optional, else this one would not run.
                reference.leave_out_of(&mut params);
            }
        }
        Some(params.into())
    }

    pub(super) fn completed(
        &mut self,
        now: Time,
        index: usize,
        (result, missing): (Payload, Option<Failure>),
        out: &mut Vec<Action>,
    ) {
        let Some(left) = self.result_bytes_left.checked_sub(result.size()) else {
            let message = format!(
                "the results of this request exceed {} bytes",
                self.policy.result_bytes
            );
            let failure =
                Failure::new(ErrorCode::BudgetExceeded, message).hint("ask for less at a time");
            return self.end(now, index, Status::Failed(failure), out);
        };
        self.result_bytes_left = left;
        self.end(now, index, Status::Completed(result, missing), out);
    }

    pub(super) fn attempt_failed(
        &mut self,
        now: Time,
        index: usize,
        (failure, refused): (Failure, bool),
        out: &mut Vec<Action>,
    ) {
        let closing = self.closing_time();
        let Some(run) = self.tasks.get_mut(index) else {
            return;
        };
        if let Some(agent) = run.agent.take().filter(|agent| !run.avoid.contains(agent)) {
            run.avoid.push(agent);
        }
        let jitter = retry::jitter(self.policy.seed, index, run.attempt);
        let (patience, idempotent) = (self.policy.patience(), run.plan.terms.idempotent);
        let verdict = if refused {
            run.history.refused(failure, patience, jitter)
        } else {
            run.history.failed(failure, idempotent, patience, jitter)
        };
        match verdict {
            Verdict::Retry { after, failure } => {
                let at = now + after;
                if at >= run.deadline(now).min(closing) {
                    return self.end(now, index, Status::Failed(failure), out);
                }
                run.status = Status::Backoff;
                let (task, attempt) = (run.plan.id.clone(), run.attempt);
                let after_ms = u64::try_from(after.as_millis()).unwrap_or(u64::MAX);
                out.push(Action::Report(Progress::Retried {
                    task,
                    attempt,
                    error: failure,
                    after_ms,
                }));
                out.push(Action::SetTimer {
                    key: TimerKey::Retry {
                        task: index,
                        attempt,
                    },
                    at,
                });
            }
            Verdict::GiveUp(failure) => self.end(now, index, Status::Failed(failure), out),
        }
    }

    pub(super) fn attempt_timed_out(
        &mut self,
        now: Time,
        (task, attempt): (usize, u32),
        silent: bool,
        out: &mut Vec<Action>,
    ) {
        let current = |run: &&mut TaskRun| run.is_current(attempt);
        let Some(run) = self.tasks.get_mut(task).filter(current) else {
            return;
        };
        let limit = run.plan.terms.timeout();
        let message = match (&run.agent, run.plan.terms.idle()) {
            (Some(agent), Some(idle)) if silent => {
                format!("{agent} gave no sign of life for {idle:?}")
            }
            (Some(agent), _) => format!("{agent} did not answer within {limit:?}"),
            (None, _) => format!("no agent took the task within {limit:?}"),
        };
        run.may_be_done |= run.agent.is_some();
        out.push(Action::Abandon { task, attempt });
        if silent {
            out.push(Action::ClearTimer(TimerKey::Attempt { task, attempt }));
        } else if run.plan.terms.idle_ms.is_some() {
            out.push(Action::ClearTimer(TimerKey::Silence { task, attempt }));
        }
        let failure = Failure::new(ErrorCode::TaskTimeout, message);
        self.attempt_failed(now, task, (failure, false), out);
        self.advance(now, out);
    }

    pub(super) fn cut_open_tasks(&mut self, now: Time, failure: &Failure, out: &mut Vec<Action>) {
        for task in 0..self.tasks.len() {
            self.cut(now, task, failure, out);
        }
    }

    /// Cancels a task that has not ended, and its current attempt.
    pub(super) fn cut(&mut self, now: Time, task: usize, failure: &Failure, out: &mut Vec<Action>) {
        let Some(run) = self.tasks.get_mut(task) else {
            return;
        };
        let attempt = run.attempt;
        match run.status {
            Status::InFlight => {
                run.may_be_done |= run.agent.is_some();
                out.push(Action::Abandon { task, attempt });
                run.clear_timers(task, out);
            }
            Status::Backoff => out.push(Action::ClearTimer(TimerKey::Retry { task, attempt })),
            Status::AwaitingFlow(_) => self.withdraw_flow(now, task, out),
            Status::Waiting => {}
            Status::Completed(..)
            | Status::Failed(_)
            | Status::Skipped(_)
            | Status::Cancelled(_) => return,
        }
        self.mark_ended(now, task, Status::Cancelled(failure.clone()), out);
    }

    /// Ends a task, then dispatches or skips those that wait for it. Uses its own stack: a chain may be thousands long.
    pub(super) fn end(&mut self, now: Time, index: usize, status: Status, out: &mut Vec<Action>) {
        let mut ending = vec![(index, status)];
        while let Some((index, status)) = ending.pop() {
            let succeeded = matches!(status, Status::Completed(..));
            if !self.mark_ended(now, index, status, out) {
                continue;
            }
            let Some(run) = self.tasks.get_mut(index) else {
                continue;
            };
            let goes_on = succeeded || run.plan.optional;
            let cause = run.plan.id.clone();
            for dependent in std::mem::take(&mut run.dependents) {
                if let Some(run) = self.tasks.get_mut(dependent) {
                    run.waiting_for = run.waiting_for.saturating_sub(1);
                }
                let ended = if goes_on {
                    self.dispatch_if_ready(now, dependent, out)
                } else {
                    Some(skipped_for(&cause))
                };
                ending.extend(ended.map(|status| (dependent, status)));
            }
        }
    }

    /// Notes a task's end; false if the task had ended before.
    fn mark_ended(
        &mut self,
        now: Time,
        index: usize,
        status: Status,
        out: &mut Vec<Action>,
    ) -> bool {
        let open = |run: &&mut TaskRun| !run.status.has_ended();
        let Some(run) = self.tasks.get_mut(index).filter(open) else {
            return false;
        };
        // A holder that completed the task holds nothing any more; each other end is news to it.
        if run.holder.is_some() && !matches!(status, Status::Completed(..)) {
            self.release(index, out);
        }
        let Some(run) = self.tasks.get_mut(index) else {
            return false;
        };
        run.status = status;
        run.ended = Some(now);
        self.open -= 1;
        let task = run.plan.id.clone();
        let duration = now.saturating_sub(run.first_dispatch.unwrap_or(now));
        out.push(Action::Report(match (&run.status, &run.agent) {
            (Status::Completed(..), Some(agent)) => Progress::Completed {
                task,
                agent: agent.clone(),
                duration_ms: millis(duration),
                calls: run.calls.clone(),
            },
            (status, _) => Progress::Failed {
                task,
                state: state_of(status),
                error: status
                    .failure()
                    .cloned()
                    .unwrap_or_else(|| Failure::internal("the task completed without an agent")),
                calls: run.calls.clone(),
            },
        }));
        true
    }
}

fn skipped_for(cause: &TaskId) -> Status {
    let message = format!("it needs the result of {cause}, which failed");
    Status::Skipped(Failure::new(ErrorCode::DependencyFailed, message))
}

fn missing(from: &TaskRun, reference: &Reference) -> Failure {
    let message = format!(
        "the result of {} has nothing at '{}'",
        from.plan.id, reference.path
    );
    Failure::new(ErrorCode::InvalidParams, message)
}
