//! The request machine: everything that is decided between a user's request and its one final response.
//!
//! `State × Event → Actions, State'` and nothing else: it sends nothing, keeps no clock (times are durations since the
//! request was accepted) and draws no random numbers (jitter comes from a seed). The request's actor carries the actions
//! out and feeds back what comes of them; the same machine runs in tests, in the model checker and in a replay.
//!
//! Promises: exactly one [`Action::Respond`] on every path, and none after it; at most one attempt at a task is current;
//! a task's first accepted result is final; what is not idempotent is never done again once an attempt may have done it,
//! neither in its round nor in a later one.

mod arrive;
mod conclude;
mod flow;
mod life;
mod replace;
mod run;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::time::Duration;

use amcp_protocol::llm::Usage;
use amcp_protocol::plan::PlannedTaskView;
use amcp_protocol::retry::Patience;
use amcp_protocol::task::{TaskOutcome, calls_used};
use amcp_protocol::{
    AgentId, AnswerState, CallBudget, CallReport, CapabilityName, Effect, EndedFlow, ErrorCode,
    Failure, FlowAnswer, FlowId, FlowKind, Payload, Progress, TaskId, TaskReport,
};
use serde::{Deserialize, Serialize};

use crate::catalogue::Catalogue;
use crate::plan::{Plan, PlanTask};
use replace::Refusal;
use run::{Status, TaskRun};

/// Time since the request was accepted.
pub type Time = Duration;

/// What a machine is run with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Policy {
    /// The user's roles; checked again before each dispatch.
    pub roles: Vec<String>,
    /// When the final response is due.
    pub deadline: Time,
    /// How long one planning round may take.
    pub plan_time: Duration,
    /// Most attempts at one task that may have begun.
    pub attempts: u32,
    /// Most refusals of one task by agents that had not begun (busy, restarting, none there).
    pub refusals: u32,
    /// After so many agents died with a task, it is given to no other.
    pub kills: u32,
    /// Most LLM calls, repairs and the answer included.
    pub llm_calls: u32,
    /// Most bytes of results, estimated.
    pub result_bytes: usize,
    /// Most calls that the tasks may cause together; without this bound each task has its own. A delegated request has the
    /// budget that its task was given.
    pub calls: Option<u32>,
    /// Most planning rounds: 2 allows one replanning.
    pub rounds: u32,
    /// Whether an LLM writes the answer; otherwise the machine concludes without text and the caller composes plainly.
    pub composes: bool,
    /// The kinds of flows that the asker can put before a person.
    #[serde(default)]
    pub flows: Vec<FlowKind>,
    /// Source of the jitter.
    pub seed: u64,
}

impl Policy {
    const fn patience(&self) -> Patience {
        Patience {
            attempts: self.attempts,
            refusals: self.refusals,
            kills: self.kills,
        }
    }
}

impl Default for Policy {
    fn default() -> Self {
        let Patience {
            attempts,
            refusals,
            kills,
        } = Patience::default();
        Self {
            roles: Vec::new(),
            deadline: Duration::from_secs(60),
            // Half of the deadline, so that a slow plan leaves time to carry it out.
            plan_time: Duration::from_secs(30),
            attempts,
            refusals,
            kills,
            llm_calls: 6,
            result_bytes: 32 * 1024 * 1024,
            calls: None,
            // Planning again is worth it only with a planner that learns from what failed.
            rounds: 1,
            composes: false,
            flows: Vec::new(),
            seed: 0,
        }
    }
}

/// Names a timer. An expired timer may already be on its way when it is cleared, so every key carries what it was set
/// for and the machine ignores one that is no longer current.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum TimerKey {
    /// The final response is due.
    Deadline,
    /// Tasks are cut off, so that time is left to write the answer.
    Closing,
    /// A planning round has taken too long.
    Planning {
        /// Counts from 1.
        round: u32,
    },
    /// An attempt has taken too long.
    Attempt {
        /// The task's index, see [`Machine::task`].
        task: usize,
        /// Counts from 1 for each task.
        attempt: u32,
    },
    /// An attempt has given no sign of life for its idle time.
    Silence {
        /// The task's index, see [`Machine::task`].
        task: usize,
        /// Counts from 1 for each task.
        attempt: u32,
    },
    /// The backoff after an attempt is over.
    Retry {
        /// The task's index, see [`Machine::task`].
        task: usize,
        /// The attempt that failed.
        attempt: u32,
    },
    /// A flow expires.
    Flow {
        /// The task's index, see [`Machine::task`].
        task: usize,
        /// Counts from 1 for each task.
        number: u32,
    },
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Event {
    /// Tasks of a plan that is still arriving. Those that read, may be repeated and wait for nothing start at once; the
    /// others are left to the complete plan.
    TasksAdded {
        /// The round that plans them; counts from 1.
        round: u32,
        /// The tasks.
        tasks: Vec<PlanTask>,
    },
    /// A planning round ended. A task of the plan with the id, the capability and the params of one that arrived before is
    /// that task; a task that arrived before and is not in the plan is given up.
    Planned {
        /// Counts from 1.
        round: u32,
        /// The plan, or why there is none.
        result: Result<Plan, Failure>,
        /// The planner's name, for people.
        planner: String,
        /// LLM calls spent.
        llm_calls: u32,
        /// Tokens that these calls took.
        #[serde(default)]
        usage: Usage,
        /// Remarks for the reader of the answer.
        notes: Vec<String>,
    },
    /// An agent was chosen for an attempt. Nothing has left yet.
    Chosen {
        /// The task's index, see [`Machine::task`].
        task: usize,
        /// Counts from 1 for each task.
        attempt: u32,
        /// The chosen agent.
        agent: AgentId,
        /// The agent's incarnation, which each of its starts renews.
        incarnation: u64,
    },
    /// An agent gave a sign of life. No other event depends on this one: a record of a request may leave it out.
    Progressed {
        /// The task's index, see [`Machine::task`].
        task: usize,
        /// Counts from 1 for each task.
        attempt: u32,
        /// Words for people, or nothing.
        note: String,
    },
    /// An attempt ended: with a result or a failure, or because it can never end.
    Responded {
        /// The task's index, see [`Machine::task`].
        task: usize,
        /// Counts from 1 for each task.
        attempt: u32,
        /// How the attempt ended.
        outcome: TaskOutcome,
        /// The calls of other agents that it took.
        calls: Vec<CallReport>,
    },
    /// A person answered a flow.
    FlowAnswered {
        /// The flow.
        flow: FlowId,
        /// The answer.
        answer: FlowAnswer,
    },
    /// A timer expired.
    TimerFired(TimerKey),
    /// The answer was written, or not.
    Composed {
        /// The text, or why there is none.
        result: Result<String, Failure>,
        /// LLM calls spent.
        llm_calls: u32,
        /// Tokens that these calls took.
        #[serde(default)]
        usage: Usage,
        /// Remarks for the reader of the answer.
        notes: Vec<String>,
    },
    /// The user, or a client for the user, cancels the request.
    CancelRequested,
    /// The node must stop now.
    CutOff(Failure),
}

/// What to do.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Action {
    /// Make a plan and feed back [`Event::Planned`].
    Plan {
        /// Counts from 1.
        round: u32,
        /// Most time to spend.
        time: Duration,
        /// Most LLM calls to spend.
        llm_calls: u32,
        /// In a later round: the ends of the tasks so far.
        tasks: Vec<TaskReport>,
    },
    /// Choose an agent for a task; feed back [`Event::Chosen`], or [`Event::Responded`] with a refusal when there is none.
    Choose {
        /// The task's index, see [`Machine::task`].
        task: usize,
        /// Counts from 1 for each task.
        attempt: u32,
        /// Agents that should not get the task if another can.
        avoid: Vec<AgentId>,
        /// The agent and its incarnation that alone may get the task, because it holds what was done so far.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        only: Option<(AgentId, u64)>,
    },
    /// Send a task to the agent that was chosen; feed back [`Event::Responded`].
    Send(Assignment),
    /// Tell the agent that the result is no longer wanted.
    Abandon {
        /// The task's index, see [`Machine::task`].
        task: usize,
        /// Counts from 1 for each task.
        attempt: u32,
    },
    /// Feed back [`Event::TimerFired`] at a time.
    SetTimer {
        /// The timer's name, which the event repeats.
        key: TimerKey,
        /// Time since the request was accepted.
        at: Time,
    },
    /// Forget a timer.
    ClearTimer(TimerKey),
    /// Have the answer written and feed back [`Event::Composed`].
    Compose {
        /// The end of each task, in the plans' order.
        tasks: Vec<TaskReport>,
        /// Parts of the query that no capability covers.
        unplaced: Vec<String>,
        /// Most time to spend.
        time: Duration,
        /// Most LLM calls to spend.
        llm_calls: u32,
    },
    /// Let watchers know.
    Report(Progress),
    /// Give the one final response; nothing follows.
    Respond(Box<Conclusion>),
}

/// An attempt and the agent that was chosen for it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Assignment {
    /// The task's index, see [`Machine::task`].
    pub task: usize,
    /// Counts from 1 for each task.
    pub attempt: u32,
    /// The chosen agent.
    pub agent: AgentId,
    /// The agent's incarnation; the task goes to no other incarnation.
    pub incarnation: u64,
    /// The params, references replaced.
    pub params: Payload,
    /// How long the attempt may take: the deadline that travels with the task.
    pub time: Duration,
    /// Calls that the attempt may cause, where the request bounds them for all tasks together.
    pub calls: Option<u32>,
    /// How the task's flows ended so far.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub flows: Vec<EndedFlow>,
}

/// The final response; its text is missing where no model wrote one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Conclusion {
    /// How the request ended.
    pub state: AnswerState,
    /// The text; where there is none the caller composes it from the rest.
    pub text: Option<String>,
    /// The planner's name, for people.
    pub planner: String,
    /// The end of each task, in the plans' order.
    pub tasks: Vec<TaskReport>,
    /// Parts of the query that no capability covers.
    pub unplaced: Vec<String>,
    /// Why it failed, or what is missing.
    pub error: Option<Failure>,
    /// Tokens that planning and writing took.
    #[serde(default)]
    pub usage: Usage,
    /// Remarks for the reader of the answer.
    pub notes: Vec<String>,
    /// Tasks that did not complete and that a later plan replaced: their failures are no longer missing.
    pub replaced: Vec<TaskId>,
}

/// Responses that were not for the current attempt.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dropped {
    /// The task had ended.
    pub duplicate: u32,
    /// The attempt was no longer the current one, or the request had ended.
    pub late: u32,
    /// No such task or attempt was ever dispatched.
    pub foreign: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum Stage {
    Planning,
    Executing,
    Composing,
    Done,
}

/// One request's state.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Machine {
    policy: Policy,
    stage: Stage,
    round: u32,
    /// Where the current round's tasks begin.
    round_start: usize,
    /// Tasks of all rounds, also those that arrived early and belong to no plan.
    tasks: Vec<TaskRun>,
    /// The tasks of the accepted plans, in the plans' order.
    order: Vec<usize>,
    /// Tasks that have not ended.
    open: usize,
    usage: Usage,
    llm_calls_left: u32,
    result_bytes_left: usize,
    calls_left: Option<CallBudget>,
    /// Tasks of the plans that are not carried out.
    refused: Vec<Refusal>,
    planner: String,
    answer_directly: Option<String>,
    unplaced: Vec<String>,
    notes: Vec<String>,
    /// Why the request as a whole goes no further.
    stopped: Option<Failure>,
    dropped: Dropped,
    /// Number of open flows.
    flows: usize,
    /// Since when the request has waited for nothing but flows.
    idle_since: Option<Time>,
    /// How long the request has waited for nothing but flows; the deadline is later by as much.
    idle: Duration,
}

impl Machine {
    /// A machine and its first actions.
    #[must_use]
    pub fn start(policy: Policy) -> (Self, Vec<Action>) {
        let mut machine = Self {
            stage: Stage::Planning,
            round: 0,
            round_start: 0,
            tasks: Vec::new(),
            order: Vec::new(),
            open: 0,
            usage: Usage::default(),
            llm_calls_left: policy.llm_calls,
            result_bytes_left: policy.result_bytes,
            calls_left: policy.calls.map(CallBudget::new),
            refused: Vec::new(),
            planner: String::new(),
            answer_directly: None,
            unplaced: Vec::new(),
            notes: Vec::new(),
            stopped: None,
            dropped: Dropped::default(),
            flows: 0,
            idle_since: None,
            idle: Duration::ZERO,
            policy,
        };
        let mut out = Vec::new();
        machine.set_deadline(&mut out);
        machine.begin_round(Time::ZERO, &mut out);
        (machine, out)
    }

    /// What to do after `event`, which happened at `now`.
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

    /// Bytes of results that were gathered so far, estimated.
    #[must_use]
    pub const fn result_bytes(&self) -> usize {
        self.policy.result_bytes - self.result_bytes_left
    }

    /// Responses that were dropped so far.
    #[must_use]
    pub const fn dropped(&self) -> Dropped {
        self.dropped
    }

    /// The indexes of the tasks of all accepted plans, in the plans' order.
    #[must_use]
    pub fn places(&self) -> &[usize] {
        &self.order
    }

    /// The task at an index, as it was planned.
    #[must_use]
    pub fn task(&self, index: usize) -> Option<&PlanTask> {
        self.tasks.get(index).map(|run| &run.plan)
    }

    /// The capabilities of `catalogue` that a later planning round may use: what the user may read, and what the first
    /// plan used already, unless it must not be done twice and may have been done. What a result says can so never lead
    /// to an effect that was not planned before it was read.
    #[must_use]
    pub fn authorised(&self, catalogue: &Catalogue) -> Vec<CapabilityName> {
        let names = catalogue.iter().map(|contract| &contract.capability);
        names
            .filter(|capability| {
                let used = || {
                    self.planned_runs()
                        .any(|run| run.plan.capability == capability.name)
                };
                capability.allows(&self.policy.roles)
                    && (capability.effect == Effect::Read || used())
                    && !self.may_be_done(&capability.name, capability.idempotent)
            })
            .map(|capability| capability.name.clone())
            .collect()
    }

    /// When tasks are cut off so that an LLM has time to write the answer: a fifth of the deadline, ten seconds at most.
    fn closing_time(&self) -> Time {
        let reserve = (self.policy.deadline / 5).min(Duration::from_secs(10));
        if self.policy.composes {
            self.deadline().saturating_sub(reserve)
        } else {
            self.deadline()
        }
    }

    /// When the final response is due.
    fn deadline(&self) -> Time {
        self.policy.deadline + self.idle
    }

    fn set_deadline(&self, out: &mut Vec<Action>) {
        out.push(Action::SetTimer {
            key: TimerKey::Deadline,
            at: self.deadline(),
        });
        if self.policy.composes && self.stage != Stage::Composing {
            out.push(Action::SetTimer {
                key: TimerKey::Closing,
                at: self.closing_time(),
            });
        }
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

    /// Takes a plan over; returns the indexes of its tasks.
    fn accept(&mut self, plan: Plan, out: &mut Vec<Action>) -> Vec<usize> {
        let mut view = plan.view();
        let added = self.add(plan.tasks);
        self.replace(&added);
        self.order.extend(&added);
        // A later round's ids may have been changed to stay unique.
        let ids = added.iter().filter_map(|&index| self.tasks.get(index));
        let renamed: BTreeMap<TaskId, TaskId> = view
            .iter()
            .zip(ids)
            .filter(|(task, run)| task.id != run.plan.id)
            .map(|(task, run)| (task.id.clone(), run.plan.id.clone()))
            .collect();
        rename(&mut view, &renamed);
        let mut refused = plan.refused;
        for (refusal, shown) in refused.iter_mut().zip(view.iter_mut().skip(added.len())) {
            refusal.view.id = self.unique_id(&refusal.view.id, &[]);
            shown.id = refusal.view.id.clone();
            self.refused.push(Refusal::of(refusal.clone()));
        }
        self.answer_directly = plan.answer_directly.filter(|text| !text.trim().is_empty());
        // A later plan repairs what failed; what nobody could do before, nobody can do now.
        for part in plan.unplaced {
            if !self.unplaced.contains(&part) {
                self.unplaced.push(part);
            }
        }
        out.push(Action::Report(Progress::Planned {
            planner: self.planner.clone(),
            round: self.round,
            tasks: view,
            unplaced: self.unplaced.clone(),
        }));
        out.extend(refused.into_iter().map(|refused| {
            Action::Report(Progress::Failed {
                task: refused.view.id,
                state: refused.state,
                error: refused.failure,
                calls: Vec::new(),
            })
        }));
        added
    }

    /// The compiler authorised the first plan, and each task is checked once more before its dispatch. The planner of a later
    /// plan has read results: that plan may use only those capabilities with effects that the first plan used, none again that
    /// must not be done twice, and nothing irreversible with other params or more often.
    fn check_authorised(&self, tasks: &[PlanTask]) -> Result<(), Failure> {
        if self.round == 1 {
            return Ok(());
        }
        let mut earlier: Vec<&TaskRun> = self.planned_runs().collect();
        for task in tasks {
            let same = |run: &TaskRun| run.plan.capability == task.capability;
            let denied = |run: &TaskRun| same(run) && run.was_denied() && run.asks_the_same(task);
            let refused = if self.may_be_done(&task.capability, task.terms.idempotent) {
                "may have been done already and is not idempotent"
            } else if self.planned_runs().any(denied) {
                "was denied by a person with these params"
            } else {
                let confirmed = task.terms.flow.is_some();
                let (likewise, refused): (&dyn Fn(&TaskRun) -> bool, _) = match task.terms.effect {
                    Effect::Read => continue,
                    Effect::Write => (&same, "was not authorised before results were read"),
                    Effect::Irreversible => (
                        // A person sees the params of what waits for a flow.
                        &|run| same(run) && (confirmed || run.asks_the_same(task)),
                        "was not authorised as often with these params before results were read",
                    ),
                };
                match earlier.iter().position(|run| likewise(run)) {
                    // Each task uses up one of the first plan, unless its capability may be used any number of times.
                    Some(_) if task.terms.effect == Effect::Write && task.terms.idempotent => {
                        continue;
                    }
                    Some(at) => {
                        earlier.swap_remove(at);
                        continue;
                    }
                    None => refused,
                }
            };
            let message = format!("{} {refused}", task.capability);
            return Err(Failure::new(ErrorCode::NotPermitted, message));
        }
        Ok(())
    }

    /// Whether an attempt of an earlier round may have done the work of the capability, whatever it answered, and so forbids
    /// another use.
    fn may_be_done(&self, capability: &CapabilityName, idempotent: bool) -> bool {
        let tried = |run: &TaskRun| run.plan.capability == *capability;
        !idempotent && self.planned_runs().any(|run| tried(run) && run.may_be_done)
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
            // An agent that confirms the end of an abandoned attempt gives no answer.
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

    fn timer_fired(&mut self, now: Time, key: TimerKey, out: &mut Vec<Action>) {
        match key {
            // Set before the request waited for nothing but flows: it is due later now.
            TimerKey::Deadline if now < self.deadline() => {}
            TimerKey::Closing if now < self.closing_time() => {}
            // Everything was done but the text: that is not a failure of the request.
            TimerKey::Deadline if self.stage == Stage::Composing => {
                let failure = Failure::new(
                    ErrorCode::LlmTimeout,
                    "it did not answer before the request's deadline",
                );
                self.composed(now, Err(failure), out);
            }
            TimerKey::Deadline => {
                let failure =
                    Failure::new(ErrorCode::DeadlineExceeded, "the request's deadline passed");
                self.stop_now(now, failure.hint("ask with a longer deadline"), out);
            }
            TimerKey::Closing => match self.stage {
                Stage::Executing => {
                    let failure = Failure::new(
                        ErrorCode::DeadlineExceeded,
                        "the request ran out of time for this task",
                    );
                    self.cut_open_tasks(now, &failure, out);
                    self.write_answer(now, out);
                }
                Stage::Planning | Stage::Composing | Stage::Done => {}
            },
            TimerKey::Planning { round } => {
                if self.stage == Stage::Planning && self.round == round {
                    let failure =
                        Failure::new(ErrorCode::DeadlineExceeded, "planning took too long");
                    self.planned(
                        now,
                        Err(failure.hint("ask with a longer deadline or use a faster model")),
                        out,
                    );
                }
            }
            TimerKey::Attempt { task, attempt } => {
                self.attempt_timed_out(now, (task, attempt), false, out);
            }
            TimerKey::Silence { task, attempt } => {
                self.attempt_timed_out(now, (task, attempt), true, out);
            }
            TimerKey::Flow { task, number } => self.flow_expired(now, task, number, out),
            TimerKey::Retry { task, attempt } => {
                let waiting = |run: &&TaskRun| {
                    matches!(run.status, Status::Backoff) && run.attempt == attempt
                };
                if self.tasks.get(task).filter(waiting).is_some() {
                    self.dispatch(now, task, out);
                    self.advance(now, out);
                }
            }
        }
    }

    /// Ends what is under way and responds at once with what there is.
    fn stop_now(&mut self, now: Time, failure: Failure, out: &mut Vec<Action>) {
        self.cut_open_tasks(now, &failure, out);
        self.stopped = Some(failure);
        self.respond(now, None, out);
    }

    /// After a task ended: is anything left to do?
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
        // A planner cannot mend what a person decided.
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

fn rename(view: &mut [PlannedTaskView], names: &BTreeMap<TaskId, TaskId>) {
    for task in view {
        let edges = task.inferred.iter_mut().map(|edge| &mut edge.from);
        for id in edges.chain(&mut task.depends_on).chain([&mut task.id]) {
            if let Some(name) = names.get(id) {
                *id = name.clone();
            }
        }
    }
}
