//! Independent books of a machine's events and actions, and the rules that both must keep.
//!
//! Does not predict the next action: it judges each step afterwards.

mod flows;

use std::collections::{BTreeMap, BTreeSet};

use amcp_plan::{
    Action, Assignment, Conclusion, Dropped, Event, Machine, Plan, PlanTask, Policy, Time, TimerKey,
};
use amcp_protocol::task::TaskOutcome;
use amcp_protocol::{AnswerState, Effect, ErrorCode, Progress, TaskId, TaskReport, TaskState};

use flows::Flows;

/// The rules that hold after every step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Rule {
    /// There is at most one final response.
    OneResponse,
    /// The final response is the last action.
    NothingAfterTheResponse,
    /// Cancelled, cut off or at its deadline, a request is answered in the same step; a deadline that has moved does nothing.
    AnswersWhenTold,
    /// A request without an answer waits for a person, or for an event other than the deadline that leads to its answer.
    NeverStuck,
    /// The first accepted result stays, and a task ends once.
    ResultIsFinal,
    /// A capability that is not idempotent is not dispatched again once its work may have been done.
    NeverTwice,
    /// A task starts only when all tasks before it have ended, and none but optional ones failed.
    DependenciesFirst,
    /// Attempts count up one by one, and one at most is current.
    OneCurrentAttempt,
    /// Attempts, refusals, rounds, LLM calls, result bytes.
    Budgets,
    /// No timer and no time-out reaches beyond the deadline, but that of a flow.
    DeadlineKept,
    /// No task runs that the user's roles do not allow.
    Permitted,
    /// Before a plan is complete only reads start; no task of a refused plan goes on.
    OnlyAcceptedPlans,
    /// A later round has no effect that the first plan did not have.
    NoNewEffects,
    /// Accepted tasks are those of the plan, with its edges.
    PlanKept,
    /// No task is under way once the composer writes the answer.
    NothingLeftRunning,
    /// A report has each task once, and its state, result and error fit each other and the answer's state.
    ReportsAreWhole,
    /// Every response that was not for the current attempt is counted by its kind.
    DropsCounted,
    /// A task that needs a flow is dispatched only after an approval, and with the params that were approved.
    AsksFirst,
    /// The machine itself asks once for each task, before its first dispatch; its other questions come from agents.
    AsksOnce,
    /// A task is not dispatched while its flow is open.
    WaitsForPeople,
    /// Each flow ends once, by its answer, its timer or its task's end; none is open after the response.
    FlowsEndOnce,
    /// An answer counts exactly if `check_answer` accepts it, and each attempt brings all ends so far to the agent.
    AnswersArrive,
    /// An agent that holds a task's work is told once that the task ended, unless the task completed.
    HoldersLearn,
    /// The deadline moves by exactly the time in which nothing but flows is open, and has a timer at all other times.
    ClockKept,
    /// A sign of life renews a timer and becomes progress; nothing else follows.
    SignsDecideNothing,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
struct Row {
    dispatched: u32,
    current: bool,
    refused: u32,
    /// Number of failed attempts that had begun.
    begun: u32,
    /// Number of attempts in which a fake agent may have acted: those sent and not refused.
    executions: u32,
    /// Whether the current attempt was sent.
    sent: bool,
    end: Option<TaskState>,
    accepted: Option<String>,
    /// Whether the accepted result is partial.
    partial: bool,
}

fn is_of_signs(action: &Action) -> bool {
    matches!(
        action,
        Action::ClearTimer(TimerKey::Silence { .. })
            | Action::SetTimer {
                key: TimerKey::Silence { .. },
                ..
            }
            | Action::Report(Progress::Progressed { .. })
    )
}

/// The books of one request.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub(crate) struct Ledger {
    pub(crate) breaches: BTreeSet<Rule>,
    rows: BTreeMap<usize, Row>,
    /// Backoffs that have not ended.
    retries: BTreeSet<(usize, u32)>,
    pub(crate) rounds: u32,
    round_start: usize,
    /// Whether the current round's plan was accepted.
    accepted: bool,
    /// Incomplete tasks, and the tasks of later plans that replace them.
    replaced: BTreeMap<usize, usize>,
    /// Number of tasks in the accepted plans when the round began.
    placed: usize,
    planning: bool,
    composing: bool,
    done: bool,
    llm_calls: u32,
    dropped: (u32, u32, u32),
    flows: Flows,
}

impl Ledger {
    pub(crate) fn start(policy: &Policy, machine: &Machine, first: &[Action]) -> Self {
        let mut ledger = Self::default();
        ledger.take_actions(Time::ZERO, policy, machine, first);
        ledger
    }

    /// Judges one step of the machine; `machine` is its state after the step.
    pub(crate) fn saw(
        &mut self,
        policy: &Policy,
        machine: &Machine,
        now: Time,
        (event, actions): (&Event, &[Action]),
    ) {
        let (done_before, base) = (self.done, self.placed);
        self.flows.pass(now);
        let due = !self.flows.is_idle() && now >= self.flows.deadline(policy);
        self.take_event(now, event);
        self.keep(
            Rule::NothingAfterTheResponse,
            !done_before || actions.is_empty(),
        );
        if matches!(event, Event::Progressed { .. }) {
            self.keep(Rule::SignsDecideNothing, actions.iter().all(is_of_signs));
        }
        // First, since a plan whose tasks end at once is composed in the same step.
        let accepts = |action: &Action| matches!(action, Action::Report(Progress::Planned { .. }));
        if let Event::Planned {
            result: Ok(plan), ..
        } = event
            && actions.iter().any(accepts)
        {
            self.check_plan(machine, plan, base);
        }
        self.take_actions(now, policy, machine, actions);
        let deadline = *event == Event::TimerFired(TimerKey::Deadline);
        let told = matches!(event, Event::CancelRequested | Event::CutOff(_)) || deadline && due;
        self.keep(Rule::AnswersWhenTold, self.done || !told);
        self.keep(
            Rule::AnswersWhenTold,
            due || !deadline || actions.is_empty(),
        );
        self.keep(Rule::AnswersWhenTold, self.done == machine.is_done());
        let under_way = self.planning
            || self.composing
            || !self.retries.is_empty()
            || self.rows.values().any(|row| row.current);
        self.check_people(policy, machine, (now, under_way), actions);
        let asked = self.flows.is_any_open();
        self.keep(Rule::NeverStuck, self.done || under_way || asked);
        let Dropped {
            duplicate,
            late,
            foreign,
        } = machine.dropped();
        self.keep(
            Rule::DropsCounted,
            self.dropped == (duplicate, late, foreign),
        );
    }

    fn keep(&mut self, rule: Rule, kept: bool) {
        if !kept {
            self.breaches.insert(rule);
        }
    }

    fn take_event(&mut self, now: Time, event: &Event) {
        if self.done {
            let late = |event: &Event| matches!(event, Event::Responded { outcome, .. } if !outcome.is_cancelled());
            self.dropped.1 += u32::from(late(event));
            return;
        }
        self.flows.take_event(now, event);
        match event {
            Event::Planned {
                round, llm_calls, ..
            } if self.planning && *round == self.rounds => {
                self.planning = false;
                self.llm_calls += llm_calls;
            }
            Event::TimerFired(TimerKey::Planning { round }) if *round == self.rounds => {
                self.planning = false;
            }
            Event::Composed { llm_calls, .. } if self.composing => {
                self.composing = false;
                self.llm_calls += llm_calls;
            }
            Event::Responded {
                task,
                attempt,
                outcome,
                ..
            } => self.take_response(*task, *attempt, outcome),
            Event::TimerFired(
                TimerKey::Attempt { task, attempt } | TimerKey::Silence { task, attempt },
            ) => {
                if let Some(row) = self.rows.get_mut(task)
                    && row.current
                    && row.dispatched == *attempt
                {
                    row.current = false;
                    row.begun += 1;
                }
            }
            Event::TimerFired(TimerKey::Retry { task, attempt }) => {
                self.retries.remove(&(*task, *attempt));
            }
            Event::Planned { .. }
            | Event::Composed { .. }
            | Event::TimerFired(_)
            | Event::TasksAdded { .. }
            | Event::Chosen { .. }
            | Event::Progressed { .. }
            | Event::Spent(_)
            | Event::FlowAnswered { .. }
            | Event::CancelRequested
            | Event::CutOff(_) => {}
        }
    }

    fn take_response(&mut self, task: usize, attempt: u32, outcome: &TaskOutcome) {
        let (duplicate, late, foreign) = &mut self.dropped;
        let Some(row) = self
            .rows
            .get_mut(&task)
            .filter(|row| (1..=row.dispatched).contains(&attempt))
        else {
            *foreign += 1;
            return;
        };
        let current = row.current && row.dispatched == attempt;
        if !current && outcome.is_cancelled() {
            return;
        }
        if row.end.is_some() {
            *duplicate += 1;
        } else if !row.current || row.dispatched != attempt {
            *late += 1;
        } else {
            row.current = false;
            match outcome {
                TaskOutcome::Done(value) | TaskOutcome::Partly(value, _) => {
                    row.accepted = Some(value.to_string());
                    row.partial = matches!(outcome, TaskOutcome::Partly(..));
                }
                TaskOutcome::Refused(_) => {
                    row.refused += 1;
                    row.executions -= u32::from(row.sent);
                }
                TaskOutcome::Failed(_) => row.begun += 1,
                // The task asks before its first dispatch.
                TaskOutcome::FlowRequired(flow) => {
                    row.executions -= u32::from(row.sent);
                    self.flows.hold(task, flow.held && row.sent);
                }
            }
        }
    }

    fn take_actions(&mut self, now: Time, policy: &Policy, machine: &Machine, actions: &[Action]) {
        for action in actions {
            if self.done {
                self.keep(Rule::OneResponse, !matches!(action, Action::Respond { .. }));
                self.keep(Rule::NothingAfterTheResponse, false);
            }
            match action {
                Action::Plan {
                    round,
                    time,
                    llm_calls,
                    tasks,
                } => {
                    self.check_time(policy, now, *time);
                    self.keep(
                        Rule::Budgets,
                        *round == self.rounds + 1 && *round <= policy.rounds,
                    );
                    self.check_llm_calls(policy, *llm_calls);
                    self.check_quiet(machine, tasks, false);
                    (self.rounds, self.planning, self.accepted) = (*round, true, false);
                    self.round_start = count(machine);
                    self.placed = machine.places().len();
                }
                Action::Compose {
                    tasks,
                    time,
                    llm_calls,
                    ..
                } => {
                    self.check_time(policy, now, *time);
                    self.check_llm_calls(policy, *llm_calls);
                    self.check_quiet(machine, tasks, true);
                    self.composing = true;
                }
                Action::Choose { task, attempt, .. } => {
                    self.check_asked(policy, machine, *task, None);
                    self.take_dispatch(policy, machine, *task, *attempt);
                }
                Action::Send(assigned) => {
                    self.check_asked(policy, machine, assigned.task, Some(assigned));
                    self.take_send(now, policy, assigned);
                }
                Action::Withdraw(assigned) => self.withdrawn(assigned),
                Action::Abandon { task, attempt } => {
                    let row = self.rows.entry(*task).or_default();
                    row.current &= row.dispatched != *attempt;
                }
                Action::SetTimer { key, at } => {
                    self.take_timer(policy, *key, *at);
                    if let TimerKey::Retry { task, attempt } = key {
                        self.retries.insert((*task, *attempt));
                    }
                }
                Action::ClearTimer(TimerKey::Retry { task, attempt }) => {
                    self.retries.remove(&(*task, *attempt));
                }
                Action::ClearTimer(key) => self.drop_timer(*key),
                Action::Report(progress) => self.take_progress(now, policy, machine, progress),
                Action::Respond(conclusion) => {
                    self.check_quiet(machine, &conclusion.tasks, false);
                    self.check_conclusion(machine, conclusion);
                    self.done = true;
                }
            }
        }
    }

    fn check_time(&mut self, policy: &Policy, now: Time, time: Time) {
        let deadline = self.flows.deadline(policy);
        self.keep(Rule::DeadlineKept, now + time <= deadline.max(now));
    }

    fn take_send(&mut self, now: Time, policy: &Policy, assigned: &Assignment) {
        self.check_time(policy, now, assigned.time);
        let row = self.rows.entry(assigned.task).or_default();
        let chosen = row.current && row.dispatched == assigned.attempt && !row.sent;
        (row.sent, row.executions) = (true, row.executions + 1);
        self.keep(Rule::OneCurrentAttempt, chosen);
    }

    fn take_dispatch(&mut self, policy: &Policy, machine: &Machine, task: usize, attempt: u32) {
        let Some(planned) = machine.task(task) else {
            return self.keep(Rule::PlanKept, false);
        };
        let terms = &planned.terms;
        self.keep(Rule::Permitted, terms.allow(&policy.roles));
        let reads = terms.effect == Effect::Read;
        let early = self.planning && reads && terms.idempotent;
        self.keep(Rule::OnlyAcceptedPlans, self.accepted || early);
        let alike = |index: &usize| {
            machine.task(*index).is_some_and(|t| {
                let same_params = terms.effect == Effect::Write || t.params == planned.params;
                t.capability == planned.capability && same_params
            })
        };
        let earlier = (0..self.round_start).filter(alike).count();
        let again = (self.round_start..count(machine)).filter(alike).count();
        let any_number = terms.effect == Effect::Write && terms.idempotent && earlier > 0;
        self.keep(
            Rule::NoNewEffects,
            reads || task < self.round_start || self.rounds == 1 || any_number || again <= earlier,
        );
        let ready = planned.after.iter().all(|before| {
            let end = self.rows.get(before).and_then(|row| row.end);
            let optional = machine.task(*before).is_some_and(|t| t.optional);
            end == Some(TaskState::Completed) || (end.is_some() && optional)
        });
        self.keep(Rule::DependenciesFirst, ready);
        let acted = |(index, row): (&usize, &Row)| {
            let same = machine.task(*index).map(|t| &t.capability) == Some(&planned.capability);
            row.executions > 0 && (*index == task || (*index < self.round_start && same))
        };
        let repeats = self.rows.iter().any(acted);
        self.keep(Rule::NeverTwice, terms.idempotent || !repeats);
        let row = self.rows.entry(task).or_default();
        let (counts_up, idle) = (attempt == row.dispatched + 1, !row.current);
        let in_budget = row.begun < policy.attempts && row.refused < policy.refusals;
        let open = row.end.is_none();
        (row.dispatched, row.current) = (attempt, true);
        row.sent = false;
        self.keep(Rule::OneCurrentAttempt, counts_up && idle);
        self.keep(Rule::Budgets, in_budget);
        self.keep(Rule::ResultIsFinal, open);
    }

    fn take_progress(
        &mut self,
        now: Time,
        policy: &Policy,
        machine: &Machine,
        progress: &Progress,
    ) {
        let (id, end) = match progress {
            Progress::Completed { task, .. } => (task, TaskState::Completed),
            Progress::Failed { task, state, .. } => (task, *state),
            Progress::Planned { tasks, .. } => {
                let ids = |i: &usize| machine.task(*i).map(|t| t.id.clone());
                let places = machine.places().iter().skip(self.placed);
                for (index, view) in places.zip(tasks) {
                    let before: Option<BTreeSet<TaskId>> = machine
                        .task(*index)
                        .and_then(|t| t.after.iter().map(ids).collect());
                    let shown = view.depends_on.iter().cloned().collect();
                    self.keep(Rule::PlanKept, before == Some(shown));
                }
                self.accepted = true;
                return;
            }
            Progress::Accepted { .. }
            | Progress::Dispatched { .. }
            | Progress::Progressed { .. }
            | Progress::Retried { .. }
            | Progress::Answered { .. } => return,
            Progress::FlowRequired { flow } => return self.flow_opened(now, machine, flow),
            Progress::FlowEnded { flow, end, .. } => return self.flow_ended(flow, *end),
        };
        let Some(index) = (0..count(machine)).find(|&i| machine.task(i).map(|t| &t.id) == Some(id))
        else {
            return self.keep(Rule::ReportsAreWhole, false);
        };
        let row = self.rows.entry(index).or_default();
        // An attempt that the machine gives up before sending it has no answer.
        row.current &= row.sent;
        let first = row.end.replace(end).is_none();
        let founded = end != TaskState::Completed || row.accepted.is_some();
        self.keep(Rule::ResultIsFinal, first && founded);
        let completed = self
            .rows
            .values()
            .filter(|row| row.end == Some(TaskState::Completed));
        let bytes: usize = completed
            .filter_map(|row| row.accepted.as_ref())
            .map(String::len)
            .sum();
        self.keep(Rule::Budgets, bytes <= policy.result_bytes);
    }

    fn check_llm_calls(&mut self, policy: &Policy, offered: u32) {
        let left = policy.llm_calls.saturating_sub(self.llm_calls);
        self.keep(Rule::Budgets, offered <= left);
    }

    /// `placed` is the number of tasks before the plan: with its last task the next round may have begun.
    fn check_plan(&mut self, machine: &Machine, plan: &Plan, placed: usize) {
        let places: Vec<usize> = machine.places().iter().skip(placed).copied().collect();
        let kept = plan.tasks.iter().zip(&places).all(|(task, &place)| {
            machine.task(place).is_some_and(|accepted| {
                let after: BTreeSet<_> = task.after.iter().map(|&i| places.get(i)).collect();
                accepted.capability == task.capability
                    && accepted.params == task.params
                    && accepted.optional == task.optional
                    && accepted.after.iter().map(Some).collect::<BTreeSet<_>>() == after
            })
        });
        self.keep(Rule::PlanKept, kept && places.len() == plan.tasks.len());
        let unfinished = |index: &usize| {
            let row = self.rows.get(index);
            row.is_none_or(|row| row.partial || row.end != Some(TaskState::Completed))
        };
        let whole = |index: &usize| self.rows.get(index).is_none_or(|row| !row.partial);
        let mut replaced = self.replaced.clone();
        for &new in &places {
            let Some(task) = machine.task(new) else {
                continue;
            };
            let earlier = machine.places().iter().take(placed).copied();
            let earlier = earlier.filter(unfinished);
            let earlier: Vec<_> = earlier.filter(|old| !replaced.contains_key(old)).collect();
            let named = |old: &usize| {
                machine
                    .task(*old)
                    .is_some_and(|t| task.replaces.contains(&t.id))
            };
            // Plans of tests have references with equal params only to a first task, or none.
            let again = |old: &usize| {
                whole(old)
                    && machine.task(*old).is_some_and(|t| {
                        let from = |t: &PlanTask| t.references.first().map(|r| r.from);
                        let inputs = match (from(t), from(task)) {
                            (None, None) => true,
                            (Some(old), Some(new)) => {
                                replaced.get(&old) == Some(&new) || old == new
                            }
                            (None, Some(_)) | (Some(_), None) => false,
                        };
                        t.capability == task.capability && t.params == task.params && inputs
                    })
            };
            let found: Vec<usize> = if task.replaces.is_empty() {
                earlier.into_iter().find(again).into_iter().collect()
            } else {
                earlier.into_iter().filter(named).collect()
            };
            replaced.extend(found.into_iter().map(|old| (old, new)));
        }
        self.replaced = replaced;
    }

    /// Judges the reports once all tasks have ended; with `current`, without replaced tasks.
    fn check_quiet(&mut self, machine: &Machine, reports: &[TaskReport], current: bool) {
        let quiet = self.retries.is_empty() && self.rows.values().all(|row| !row.current);
        let asked = self.flows.is_any_open();
        self.keep(Rule::NothingLeftRunning, quiet && !asked);
        let row = |index: usize| self.rows.get(&index).cloned().unwrap_or_default();
        let replaced = |index: usize| self.is_made_up_for(index);
        let reported: Vec<usize> = machine
            .places()
            .iter()
            .copied()
            .filter(|&index| !(current && replaced(index)))
            .collect();
        let mut ids = BTreeSet::new();
        let whole = reported.iter().zip(reports).all(|(&index, report)| {
            let row = row(index);
            let (task, done) = (machine.task(index), report.state == TaskState::Completed);
            let result = report.result.as_ref().map(|result| result.to_string());
            ids.insert(&report.id)
                && task.map(|t| (&t.id, &t.capability)) == Some((&report.id, &report.capability))
                && row.end == Some(report.state)
                && result == row.accepted.filter(|_| done)
                && report.error.is_none() == (done && !row.partial)
                && report.attempts <= row.dispatched
        });
        self.keep(
            Rule::ReportsAreWhole,
            whole && reports.len() == reported.len(),
        );
    }

    /// Whether the replacing task, or one that replaced it in turn, has completed.
    fn is_made_up_for(&self, task: usize) -> bool {
        self.replaced.get(&task).is_some_and(|&by| {
            let end = self.rows.get(&by).and_then(|row| row.end);
            end == Some(TaskState::Completed) || self.is_made_up_for(by)
        })
    }

    fn check_conclusion(&mut self, machine: &Machine, conclusion: &Conclusion) {
        let mut reports = conclusion.tasks.iter();
        let something =
            conclusion.text.is_some() || reports.any(|report| report.state == TaskState::Completed);
        let code = conclusion.error.as_ref().map(|error| error.code);
        let lacks = |(&index, report): (&usize, &TaskReport)| {
            (report.state != TaskState::Completed || report.error.is_some())
                && !self.is_made_up_for(index)
                && machine.task(index).is_some_and(|task| !task.optional)
        };
        let missing = machine.places().iter().zip(&conclusion.tasks).any(lacks);
        let fits = match conclusion.state {
            AnswerState::Completed => {
                code.is_none() && something && !missing && conclusion.unplaced.is_empty()
            }
            AnswerState::Partial => code.is_some() && something,
            AnswerState::Failed => code.is_some() && !something,
            AnswerState::Cancelled => code == Some(ErrorCode::Cancelled),
        };
        self.keep(Rule::ReportsAreWhole, fits);
    }
}

fn count(machine: &Machine) -> usize {
    (0..)
        .take_while(|&index| machine.task(index).is_some())
        .count()
}
