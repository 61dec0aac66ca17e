//! The ledger's books of flows, their answers, and the request's clock while nothing else is open.
//!
//! Counts independently of the machine.

use std::collections::BTreeMap;

use amcp_plan::{Action, Assignment, Event, Machine, Policy, Time, TimerKey};
use amcp_protocol::flow::FlowEnd;
use amcp_protocol::task::TaskOutcome;
use amcp_protocol::{Flow, FlowId, FlowKind, Progress, TaskId, TaskState};

use super::{Ledger, Rule, count};

/// Most flows of one task.
const MOST: u32 = 16;

#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub(super) struct Flows {
    tasks: BTreeMap<usize, Asked>,
    /// Deadline, closing and flows.
    timers: BTreeMap<TimerKey, Time>,
    /// Time between closing and deadline, if the request closes.
    reserve: Option<Time>,
    idle_since: Option<Time>,
    idle: Time,
    /// The end of a task's flow that the current event must bring.
    due: Option<(usize, FlowEnd)>,
    /// The flow that a task's agent asks for in the current event.
    asks: Option<(usize, FlowKind)>,
    /// Whether the machine accepted the answer of the current event.
    counts: Option<bool>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
struct Asked {
    opened: u32,
    /// Number of flows that the machine opened by itself.
    before: u32,
    open: Option<Open>,
    /// The params that a person approved before the task was first sent.
    approved: Option<String>,
    ended: Vec<(FlowId, FlowEnd)>,
    /// Whether an agent holds the work done so far, and was not told that nobody waits for the rest.
    held: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Open {
    id: FlowId,
    digest: String,
    params: String,
    before: bool,
    until: Time,
}

impl Flows {
    /// The time of the final response at the latest.
    pub(super) fn deadline(&self, policy: &Policy) -> Time {
        policy.deadline + self.idle
    }

    pub(super) fn is_any_open(&self) -> bool {
        self.tasks.values().any(|asked| asked.open.is_some())
    }

    pub(super) const fn is_idle(&self) -> bool {
        self.idle_since.is_some()
    }

    /// Notes whether the agent that asks for a flow holds work.
    pub(super) fn hold(&mut self, task: usize, held: bool) {
        self.tasks.entry(task).or_default().held = held;
    }

    fn find(&self, id: &FlowId) -> Option<(usize, &Open)> {
        let open = |(&task, asked): (&usize, &Asked)| match &asked.open {
            Some(open) if open.id == *id => Some(task),
            Some(_) | None => None,
        };
        let task = self.tasks.iter().find_map(open)?;
        Some((task, self.tasks.get(&task)?.open.as_ref()?))
    }

    /// Adds the time until an event, if only flows were open.
    pub(super) fn pass(&mut self, now: Time) {
        if let Some(since) = &mut self.idle_since {
            self.idle += now - *since;
            *since = now;
        }
    }

    pub(super) fn take_event(&mut self, now: Time, event: &Event) {
        match event {
            Event::FlowAnswered { flow, answer } => {
                let asked = self.find(flow);
                let asked = asked.filter(|(_, open)| open.digest == answer.digest);
                self.due = asked.map(|(task, _)| (task, FlowEnd::of(Some(answer))));
            }
            Event::TimerFired(key) => {
                if self.timers.get(key).is_some_and(|at| *at <= now) {
                    self.timers.remove(key);
                }
                if let TimerKey::Flow { task, number } = key
                    && let Some(asked) = self.tasks.get(task)
                    && asked.open.is_some()
                    && asked.opened == *number
                {
                    self.due = Some((*task, FlowEnd::Expired));
                }
            }
            Event::Responded {
                task,
                outcome: TaskOutcome::FlowRequired(flow),
                ..
            } => self.asks = Some((*task, flow.kind)),
            Event::TasksAdded { .. }
            | Event::Planned { .. }
            | Event::Chosen { .. }
            | Event::Progressed { .. }
            | Event::Spent(_)
            | Event::Responded { .. }
            | Event::Composed { .. }
            | Event::CancelRequested
            | Event::CutOff(_) => {}
        }
    }
}

impl Ledger {
    /// Notes an event before the machine gets it.
    pub(crate) fn hears(&mut self, machine: &Machine, event: &Event) {
        if let Event::FlowAnswered { flow, answer } = event {
            self.flows.counts = Some(machine.check_answer(flow, answer).is_ok());
        }
    }

    pub(super) fn take_timer(&mut self, policy: &Policy, key: TimerKey, at: Time) {
        let within = matches!(key, TimerKey::Flow { .. }) || at <= self.flows.deadline(policy);
        self.keep(Rule::DeadlineKept, within);
        if let TimerKey::Deadline | TimerKey::Closing | TimerKey::Flow { .. } = key {
            let twice = self.flows.timers.insert(key, at).is_some();
            self.keep(Rule::ClockKept, !twice);
        }
        if key == TimerKey::Closing {
            let reserve = self.flows.deadline(policy) - at;
            let same = *self.flows.reserve.get_or_insert(reserve) == reserve;
            self.keep(Rule::ClockKept, same);
        }
    }

    pub(super) fn drop_timer(&mut self, key: TimerKey) {
        self.flows.timers.remove(&key);
    }

    pub(super) fn flow_opened(&mut self, now: Time, machine: &Machine, flow: &Flow) {
        let Some((index, planned)) = task_of(machine, &flow.task) else {
            return self.keep(Rule::FlowsEndOnce, false);
        };
        let before = flow.asker.is_none();
        let row = self.rows.entry(index).or_default();
        let free = !row.current && row.end.is_none();
        let first = row.dispatched == 0;
        let asked = self.flows.tasks.entry(index).or_default();
        asked.opened += 1;
        asked.before += u32::from(before);
        let kept = free
            && asked.open.is_none()
            && flow.id == FlowId::of(&flow.task, asked.opened)
            && asked.opened <= MOST;
        let once = if before {
            first && asked.before == 1 && planned.terms.flow == Some(flow.kind)
        } else {
            self.flows.asks == Some((index, flow.kind))
        };
        let own = flow.subject.capability == planned.capability;
        asked.open = Some(Open {
            id: flow.id.clone(),
            digest: flow.digest.clone(),
            params: flow.subject.params.to_string(),
            before,
            until: now + std::time::Duration::from_millis(flow.expires_ms),
        });
        self.keep(Rule::FlowsEndOnce, kept);
        self.keep(Rule::AsksOnce, once && own);
        // People answer questions about plans, not about drafts.
        self.keep(Rule::OnlyAcceptedPlans, !before || self.accepted);
    }

    pub(super) fn flow_ended(&mut self, flow: &FlowId, end: FlowEnd) {
        let Some((task, _)) = self.flows.find(flow) else {
            return self.keep(Rule::FlowsEndOnce, false);
        };
        let due = self.flows.due.take_if(|(due, _)| *due == task);
        let fits = end == due.map_or(FlowEnd::Withdrawn, |(_, end)| end);
        if let Some(asked) = self.flows.tasks.get_mut(&task)
            && let Some(open) = asked.open.take()
        {
            asked.ended.push((open.id, end));
            if open.before && end == FlowEnd::Approved {
                asked.approved = Some(open.params);
            }
        }
        self.keep(Rule::FlowsEndOnce, fits);
    }

    /// Judges the news for a holder: all ends of its task's flows, the last of them withdrawn.
    pub(super) fn withdrawn(&mut self, assigned: &Assignment) {
        let asked = self.flows.tasks.entry(assigned.task).or_default();
        let held = std::mem::take(&mut asked.held);
        let mut told = assigned.flows.iter();
        let all = asked
            .ended
            .iter()
            .all(|(id, end)| told.next().map(|ended| (&ended.id, ended.end)) == Some((id, *end)));
        let last = assigned.flows.last().map(|ended| ended.end);
        let fits = all && told.len() < 2 && last == Some(FlowEnd::Withdrawn);
        self.keep(Rule::AnswersArrive, fits);
        self.keep(Rule::HoldersLearn, held);
    }

    /// Judges a dispatch; with the params once the agent is chosen.
    pub(super) fn check_asked(
        &mut self,
        policy: &Policy,
        machine: &Machine,
        index: usize,
        sent: Option<&Assignment>,
    ) {
        let needs = machine.task(index).and_then(|task| task.terms.flow);
        let asked = self.flows.tasks.get(&index).cloned().unwrap_or_default();
        self.keep(Rule::WaitsForPeople, asked.open.is_none());
        let supported = needs.is_none_or(|kind| policy.flows.contains(&kind));
        let approved = needs.is_none() || asked.approved.is_some();
        self.keep(Rule::AsksFirst, supported && approved);
        if let Some(sent) = sent {
            let seen = asked
                .approved
                .is_none_or(|params| params == sent.params.to_string());
            self.keep(Rule::AsksFirst, seen);
            let ends = sent.flows.iter().map(|ended| (&ended.id, ended.end));
            let all = ends.eq(asked.ended.iter().map(|(id, end)| (id, *end)));
            self.keep(Rule::AnswersArrive, all);
        }
    }

    /// Judges the state after each step; `under_way`: the request waits for more than a person.
    pub(super) fn check_people(
        &mut self,
        policy: &Policy,
        machine: &Machine,
        (now, under_way): (Time, bool),
        actions: &[Action],
    ) {
        let closes = |action: &Action| matches!(action, Action::Report(Progress::FlowEnded { .. }));
        if let Some(counts) = self.flows.counts.take() {
            self.keep(Rule::AnswersArrive, counts == actions.iter().any(closes));
        }
        // An event that should end a flow has ended it.
        let left = self.flows.due.take().is_some();
        self.keep(Rule::FlowsEndOnce, !left);
        self.flows.asks = None;
        for (task, asked) in self.flows.tasks.clone() {
            let end = self.rows.get(&task).and_then(|row| row.end);
            let last = asked.ended.last().map(|(_, end)| *end);
            let given_up = last == Some(FlowEnd::Withdrawn);
            let open_or_done = end.is_none_or(|end| end == TaskState::Completed);
            self.keep(Rule::HoldersLearn, open_or_done || !asked.held);
            self.keep(Rule::FlowsEndOnce, !given_up || end.is_some());
            let refused = asked.before > 0 && asked.open.is_none() && asked.approved.is_none();
            let failed = matches!(end, Some(TaskState::Failed | TaskState::Cancelled));
            self.keep(Rule::AsksFirst, !refused || failed);
            let number = asked.opened;
            let set = self.flows.timers.get(&TimerKey::Flow { task, number });
            let fits = set.copied() == asked.open.map(|open| open.until);
            self.keep(Rule::ClockKept, fits);
        }
        let shown = machine.open_flows().map(|flow| &flow.id);
        let open = self.flows.tasks.values().filter_map(|a| a.open.as_ref());
        let same = shown.eq(open.map(|open| &open.id));
        self.keep(Rule::FlowsEndOnce, same);
        self.check_clock(policy, machine, (now, under_way));
    }

    fn check_clock(&mut self, policy: &Policy, machine: &Machine, (now, under_way): (Time, bool)) {
        if self.done {
            let nobody_waits = !self.flows.is_any_open();
            self.flows.idle_since = None;
            return self.keep(Rule::FlowsEndOnce, nobody_waits);
        }
        let deadline = self.flows.deadline(policy);
        let closing = deadline - self.flows.reserve.unwrap_or_default();
        let idle = !under_way && self.flows.is_any_open() && now < closing;
        self.flows.idle_since = idle.then_some(now);
        self.keep(Rule::ClockKept, machine.is_idle() == idle);
        self.keep(Rule::ClockKept, machine.idle() == self.flows.idle);
        let set = |key| self.flows.timers.get(&key).copied();
        let ends = (!idle).then_some(deadline);
        let kept = set(TimerKey::Deadline) == ends;
        let closes = (policy.composes && !idle && !self.composing).then_some(closing);
        // The request closes only once.
        let closed = closes.is_some() && now >= closing && set(TimerKey::Closing).is_none();
        let closes = set(TimerKey::Closing) == closes || closed;
        self.keep(Rule::ClockKept, kept && closes);
    }
}

fn task_of<'a>(machine: &'a Machine, id: &TaskId) -> Option<(usize, &'a amcp_plan::PlanTask)> {
    let task = |index| Some((index, machine.task(index)?));
    let mut tasks = (0..count(machine)).filter_map(task);
    tasks.find(|(_, task)| task.id == *id)
}
