//! One task of the machine: from waiting to its end, attempt by attempt.

use std::sync::Arc;
use std::time::Duration;

use amcp_protocol::retry::{self, Verdict};
use amcp_protocol::{AgentId, CallReport, ErrorCode, Failure, Progress, TaskId, TaskState};
use serde_json::Value;

use super::{Action, Machine, Stage, Time, TimerKey};
use crate::plan::{PlanTask, Reference};

#[derive(Debug, Clone)]
pub(super) enum Status {
    /// For other tasks.
    Waiting,
    /// With an agent, or on its way to one.
    InFlight,
    /// Before the next attempt.
    Backoff,
    Completed(Arc<Value>),
    Failed(Failure),
    Skipped(Failure),
    Cancelled(Failure),
}

impl Status {
    pub(super) const fn has_ended(&self) -> bool {
        matches!(
            self,
            Self::Completed(_) | Self::Failed(_) | Self::Skipped(_) | Self::Cancelled(_)
        )
    }

    pub(super) const fn failure(&self) -> Option<&Failure> {
        match self {
            Self::Failed(failure) | Self::Skipped(failure) | Self::Cancelled(failure) => {
                Some(failure)
            }
            Self::Waiting | Self::InFlight | Self::Backoff | Self::Completed(_) => None,
        }
    }
}

#[derive(Debug, Clone)]
pub(super) struct TaskRun {
    pub(super) plan: PlanTask,
    pub(super) status: Status,
    /// A later round replaced it.
    pub(super) superseded: bool,
    /// Tasks that it waits for and that have not ended.
    pub(super) waiting_for: usize,
    pub(super) dependents: Vec<usize>,
    /// The latest attempt; counts from 1.
    pub(super) attempt: u32,
    /// Attempts that reached an agent.
    pub(super) sent: u32,
    /// How its attempts failed so far.
    pub(super) history: retry::History,
    pub(super) avoid: Vec<AgentId>,
    /// Who got the latest attempt.
    pub(super) agent: Option<AgentId>,
    pub(super) first_dispatch: Option<Time>,
    pub(super) ended: Option<Time>,
    /// The calls of other agents that the last answered attempt took.
    pub(super) calls: Vec<CallReport>,
}

impl TaskRun {
    fn new(plan: PlanTask) -> Self {
        Self {
            plan,
            status: Status::Waiting,
            superseded: false,
            waiting_for: 0,
            dependents: Vec::new(),
            attempt: 0,
            sent: 0,
            history: retry::History::default(),
            avoid: Vec::new(),
            agent: None,
            first_dispatch: None,
            ended: None,
            calls: Vec::new(),
        }
    }

    /// Whether a complete plan's task is the one that arrived before; its indexes count from `base`.
    pub(super) fn is_of(&self, task: &PlanTask, base: usize) -> bool {
        let after = task.after.iter().map(|before| before + base);
        let references = task.references.iter().map(|reference| Reference {
            from: reference.from + base,
            ..reference.clone()
        });
        self.plan.capability() == task.capability()
            && self.plan.optional == task.optional
            && self.plan.params == task.params
            && self.plan.after.iter().copied().eq(after)
            && self.plan.references.iter().cloned().eq(references)
    }

    /// A task may be tried again for twice its time-out: one attempt that hangs leaves time for one more.
    fn deadline(&self, now: Time) -> Time {
        self.first_dispatch.unwrap_or(now) + 2 * self.plan.contract.capability.timeout()
    }
}

impl Machine {
    /// Adds tasks to the current round; their indexes count within it.
    pub(super) fn add(&mut self, tasks: Vec<PlanTask>) {
        let base = self.round_start;
        for mut task in tasks {
            let index = self.tasks.len();
            task.id = self.unique_id(&task.id);
            for from in task.after.iter_mut().chain(
                task.references
                    .iter_mut()
                    .map(|reference| &mut reference.from),
            ) {
                *from += base;
            }
            let mut run = TaskRun::new(task);
            for &before in &run.plan.after {
                if let Some(before) = self
                    .tasks
                    .get_mut(before)
                    .filter(|before| !before.status.has_ended())
                {
                    before.dependents.push(index);
                    run.waiting_for += 1;
                } else if before >= index {
                    // A forward edge of a compiled plan: linked below, once its task is there.
                    run.waiting_for += 1;
                }
            }
            self.tasks.push(run);
            self.open += 1;
        }
        self.link_forward_edges();
    }

    fn link_forward_edges(&mut self) {
        let forward: Vec<(usize, usize)> = self
            .tasks
            .iter()
            .enumerate()
            .skip(self.round_start)
            .flat_map(|(index, run)| {
                run.plan
                    .after
                    .iter()
                    .filter(move |&&b| b > index)
                    .map(move |&b| (b, index))
            })
            .collect();
        for (before, index) in forward {
            if let Some(run) = self.tasks.get_mut(before)
                && !run.dependents.contains(&index)
            {
                run.dependents.push(index);
            }
        }
    }

    /// The first round's ids are unique in their plan; a later round's are changed where they were given before.
    fn unique_id(&self, id: &TaskId) -> TaskId {
        let free = |id: &TaskId| self.tasks.iter().all(|run| &run.plan.id != id);
        if self.round == 1 || free(id) {
            return id.clone();
        }
        let round = self.round;
        let named = std::iter::once(format!("r{round}-{id}"));
        // An id may be too long for a prefix, or the prefixed one given too.
        let mut numbered = named.chain((1..).map(|n| format!("r{round}-{n}")));
        numbered
            .find_map(|text| TaskId::new(text).ok().filter(free))
            .unwrap_or_else(|| id.clone())
    }

    /// Dispatches what waits for nothing, from an index on.
    pub(super) fn dispatch_ready(&mut self, now: Time, from: usize, out: &mut Vec<Action>) {
        for index in from..self.tasks.len() {
            if let Some(status) = self.dispatch_if_ready(now, index, out) {
                self.end(now, index, status, out);
            }
        }
    }

    /// How the task ends instead, if it cannot be dispatched.
    fn dispatch_if_ready(
        &mut self,
        now: Time,
        index: usize,
        out: &mut Vec<Action>,
    ) -> Option<Status> {
        // While a plan is still arriving nothing that changes the world may start: the rest may be refused.
        let early = self.stage == Stage::Planning;
        let ready = self.tasks.get(index).is_some_and(|run| {
            let reads = run.plan.contract.capability.effect == amcp_protocol::Effect::Read;
            matches!(run.status, Status::Waiting) && run.waiting_for == 0 && (reads || !early)
        });
        if !ready {
            return None;
        }
        self.failed_before(index)
            .or_else(|| self.try_dispatch(now, index, out).err().map(Status::Failed))
    }

    /// Whether a task that arrived late waits for one that had failed already.
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
        let params = self.params_of(index)?;
        let closing = self.closing_time();
        let Some(run) = self.tasks.get_mut(index) else {
            return Ok(());
        };
        let capability = &run.plan.contract.capability;
        if !capability.allows(&self.policy.roles) {
            let message = format!("the user's roles do not allow {}", capability.name);
            return Err(Failure::new(ErrorCode::NotPermitted, message));
        }
        let until = (now + capability.timeout())
            .min(run.deadline(now))
            .min(closing);
        run.first_dispatch.get_or_insert(now);
        run.attempt += 1;
        run.status = Status::InFlight;
        let (attempt, avoid) = (run.attempt, run.avoid.clone());
        out.push(Action::SetTimer {
            key: TimerKey::Attempt {
                task: index,
                attempt,
            },
            at: until,
        });
        let time = until.saturating_sub(now);
        out.push(Action::Dispatch {
            task: index,
            attempt,
            params,
            time,
            avoid,
        });
        Ok(())
    }

    /// The params with the references replaced by values.
    fn params_of(&self, index: usize) -> Result<Value, Failure> {
        let Some(run) = self.tasks.get(index) else {
            return Ok(Value::Null);
        };
        let mut params = run.plan.params.clone();
        for reference in &run.plan.references {
            let Some(from) = self.tasks.get(reference.from) else {
                continue;
            };
            if let Status::Completed(result) = &from.status {
                let value = result
                    .pointer(&reference.path)
                    .cloned()
                    .ok_or_else(|| missing(from, reference))?;
                if let Some(place) = params.pointer_mut(&reference.place) {
                    *place = value;
                }
            } else {
                // Only an optional task leaves its dependents going on without it.
                remove(&mut params, &reference.place);
            }
        }
        Ok(params)
    }

    pub(super) fn completed(
        &mut self,
        now: Time,
        index: usize,
        result: Value,
        out: &mut Vec<Action>,
    ) {
        let bytes = estimated_bytes(&result);
        if bytes > self.result_bytes_left {
            let message = format!(
                "the results of this request exceed {} bytes",
                self.policy.result_bytes
            );
            let failure =
                Failure::new(ErrorCode::BudgetExceeded, message).hint("ask for less at a time");
            return self.end(now, index, Status::Failed(failure), out);
        }
        self.result_bytes_left -= bytes;
        self.end(now, index, Status::Completed(Arc::new(result)), out);
    }

    pub(super) fn attempt_failed(
        &mut self,
        now: Time,
        index: usize,
        failure: Failure,
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
        match run.history.judge(
            failure,
            run.plan.contract.capability.idempotent,
            self.policy.patience(),
            jitter,
        ) {
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
        task: usize,
        attempt: u32,
        out: &mut Vec<Action>,
    ) {
        let current =
            |run: &&TaskRun| matches!(run.status, Status::InFlight) && run.attempt == attempt;
        let Some(run) = self.tasks.get(task).filter(current) else {
            return;
        };
        let limit = run.plan.contract.capability.timeout();
        let message = match &run.agent {
            Some(agent) => format!("{agent} did not answer within {limit:?}"),
            None => format!("nobody took the task within {limit:?}"),
        };
        out.push(Action::Abandon { task, attempt });
        self.attempt_failed(
            now,
            task,
            Failure::new(ErrorCode::TaskTimeout, message),
            out,
        );
        self.advance(now, out);
    }

    pub(super) fn cut_open_tasks(&mut self, now: Time, failure: &Failure, out: &mut Vec<Action>) {
        for task in 0..self.tasks.len() {
            let Some(run) = self.tasks.get(task) else {
                continue;
            };
            let attempt = run.attempt;
            match run.status {
                Status::InFlight => {
                    out.push(Action::Abandon { task, attempt });
                    out.push(Action::ClearTimer(TimerKey::Attempt { task, attempt }));
                }
                Status::Backoff => out.push(Action::ClearTimer(TimerKey::Retry { task, attempt })),
                Status::Waiting => {}
                Status::Completed(_)
                | Status::Failed(_)
                | Status::Skipped(_)
                | Status::Cancelled(_) => continue,
            }
            self.mark_ended(now, task, Status::Cancelled(failure.clone()), out);
        }
    }

    /// Ends a task and whatever that means for those that wait for it. Walks with a stack of its own: a chain may be
    /// thousands long.
    fn end(&mut self, now: Time, index: usize, status: Status, out: &mut Vec<Action>) {
        let mut ending = vec![(index, status)];
        while let Some((index, status)) = ending.pop() {
            let succeeded = matches!(status, Status::Completed(_));
            if !self.mark_ended(now, index, status, out) {
                continue;
            }
            let Some(run) = self.tasks.get(index) else {
                continue;
            };
            let goes_on = succeeded || run.plan.optional;
            let cause = run.plan.id.clone();
            let dependents = run.dependents.clone();
            for dependent in dependents {
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

    /// The first end is final; false when there was one before.
    fn mark_ended(
        &mut self,
        now: Time,
        index: usize,
        status: Status,
        out: &mut Vec<Action>,
    ) -> bool {
        let Some(run) = self
            .tasks
            .get_mut(index)
            .filter(|run| !run.status.has_ended())
        else {
            return false;
        };
        run.status = status;
        run.ended = Some(now);
        self.open -= 1;
        let task = run.plan.id.clone();
        let duration = now.saturating_sub(run.first_dispatch.unwrap_or(now));
        out.push(Action::Report(match (&run.status, &run.agent) {
            (Status::Completed(_), Some(agent)) => Progress::Completed {
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
                    .unwrap_or_else(|| Failure::internal("answered by nobody")),
                calls: run.calls.clone(),
            },
        }));
        true
    }
}

pub(super) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

pub(super) const fn state_of(status: &Status) -> TaskState {
    match status {
        Status::Completed(_) => TaskState::Completed,
        Status::Failed(_) => TaskState::Failed,
        Status::Skipped(_) => TaskState::Skipped,
        Status::Waiting | Status::InFlight | Status::Backoff | Status::Cancelled(_) => {
            TaskState::Cancelled
        }
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

/// Takes away a place that will never have a value; a list's element becomes null, so that the others keep their places.
fn remove(params: &mut Value, place: &str) {
    let Some((parent, key)) = place.rsplit_once('/') else {
        return;
    };
    match params.pointer_mut(parent) {
        Some(Value::Object(map)) => {
            map.shift_remove(&key.replace("~1", "/").replace("~0", "~"));
        }
        Some(Value::Array(items)) => {
            if let Some(item) = key.parse::<usize>().ok().and_then(|i| items.get_mut(i)) {
                *item = Value::Null;
            }
        }
        _ => {}
    }
}

/// What a value costs, near enough: its JSON without escapes.
fn estimated_bytes(value: &Value) -> usize {
    match value {
        Value::Null | Value::Bool(_) => 4,
        Value::Number(_) => 8,
        Value::String(text) => text.len() + 2,
        Value::Array(items) => {
            items
                .iter()
                .map(|item| estimated_bytes(item) + 1)
                .sum::<usize>()
                + 2
        }
        Value::Object(map) => {
            map.iter()
                .map(|(key, item)| key.len() + 4 + estimated_bytes(item))
                .sum::<usize>()
                + 2
        }
    }
}
