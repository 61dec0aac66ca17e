//! One task's state: how far it is, and what is known of its attempts.

use std::time::Duration;

use amcp_protocol::retry;
use amcp_protocol::{
    AgentId, CallReport, EndedFlow, ErrorCode, Failure, Flow, Payload, TaskId, TaskState,
};
use serde::{Deserialize, Serialize};

use super::Time;
use crate::plan::PlanTask;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) enum Status {
    /// For other tasks.
    Waiting,
    /// With an agent, or on its way to one.
    InFlight,
    /// Before the next attempt.
    Backoff,
    /// For a person's answer.
    AwaitingFlow(Box<Flow>),
    /// The result, and why a part of it is missing.
    Completed(Payload, Option<Failure>),
    Failed(Failure),
    Skipped(Failure),
    Cancelled(Failure),
}

impl Status {
    pub(super) const fn has_ended(&self) -> bool {
        matches!(
            self,
            Self::Completed(..) | Self::Failed(_) | Self::Skipped(_) | Self::Cancelled(_)
        )
    }

    /// Why a part of a result is missing.
    pub(super) const fn missing(&self) -> Option<&Failure> {
        match self {
            Self::Completed(_, missing) => missing.as_ref(),
            Self::Waiting
            | Self::InFlight
            | Self::Backoff
            | Self::AwaitingFlow(_)
            | Self::Failed(_)
            | Self::Skipped(_)
            | Self::Cancelled(_) => None,
        }
    }

    /// The flow that the task waits for.
    pub(super) fn flow(&self) -> Option<&Flow> {
        match self {
            Self::AwaitingFlow(flow) => Some(flow),
            Self::Waiting
            | Self::InFlight
            | Self::Backoff
            | Self::Completed(..)
            | Self::Failed(_)
            | Self::Skipped(_)
            | Self::Cancelled(_) => None,
        }
    }

    pub(super) const fn failure(&self) -> Option<&Failure> {
        match self {
            Self::Failed(failure) | Self::Skipped(failure) | Self::Cancelled(failure) => {
                Some(failure)
            }
            Self::Waiting
            | Self::InFlight
            | Self::Backoff
            | Self::AwaitingFlow(_)
            | Self::Completed(..) => None,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct TaskRun {
    pub(super) plan: PlanTask,
    pub(super) status: Status,
    /// The task of a later round that makes up for it, once that is done.
    pub(super) replaced_by: Option<usize>,
    /// The task arrived before its plan was complete, under this id, and no complete plan has it yet.
    pub(super) unplanned: Option<TaskId>,
    /// Whether an attempt may have done its work: no refusal says that it did not begin.
    pub(super) may_be_done: bool,
    /// Tasks that it waits for and that have not ended.
    pub(super) waiting_for: usize,
    pub(super) dependents: Vec<usize>,
    /// The latest attempt; counts from 1.
    pub(super) attempt: u32,
    /// Attempts that were sent to an agent.
    pub(super) sent: u32,
    /// Share of the request's budget of calls that the current attempt holds.
    pub(super) given: Option<u32>,
    /// How its attempts failed so far.
    pub(super) history: retry::History,
    pub(super) avoid: Vec<AgentId>,
    /// Who got the latest attempt.
    pub(super) agent: Option<AgentId>,
    /// The incarnation of the latest agent.
    #[serde(default)]
    pub(super) incarnation: u64,
    /// The agent that holds what was done before a flow: no other may go on.
    #[serde(default)]
    pub(super) holder: Option<(AgentId, u64)>,
    /// Later by the time that the task has waited for flows since.
    pub(super) first_dispatch: Option<Time>,
    /// When the latest attempt is over.
    pub(super) until: Time,
    /// When its agents' words were last shown.
    pub(super) shown: Option<Time>,
    pub(super) ended: Option<Time>,
    /// The calls of other agents that the last answered attempt took.
    pub(super) calls: Vec<CallReport>,
    /// Number of flows that were opened for it.
    pub(super) flows: u32,
    /// How its flows ended.
    pub(super) ended_flows: Vec<EndedFlow>,
}

impl TaskRun {
    pub(super) fn new(plan: PlanTask) -> Self {
        Self {
            plan,
            status: Status::Waiting,
            replaced_by: None,
            unplanned: None,
            may_be_done: false,
            waiting_for: 0,
            dependents: Vec::new(),
            attempt: 0,
            sent: 0,
            given: None,
            history: retry::History::default(),
            avoid: Vec::new(),
            agent: None,
            incarnation: 0,
            holder: None,
            first_dispatch: None,
            until: Time::ZERO,
            shown: None,
            ended: None,
            calls: Vec::new(),
            flows: 0,
            ended_flows: Vec::new(),
        }
    }

    /// Whether a complete plan's task is this one, which arrived before the plan was complete and waits for nothing.
    pub(super) fn is_of(&self, task: &PlanTask) -> bool {
        self.unplanned.as_ref() == Some(&task.id)
            && self.plan.capability == task.capability
            && self.plan.params == task.params
            && task.after.is_empty()
            && task.references.is_empty()
    }

    /// Whether another task would do the same: the same params, filled from the same results.
    pub(super) fn asks_the_same(&self, task: &PlanTask) -> bool {
        self.plan.params == task.params
            && self.plan.references.is_empty()
            && task.references.is_empty()
    }

    /// Whether a person denied what the task needed before it was dispatched.
    pub(super) fn was_denied(&self) -> bool {
        let code = self.status.failure().map(|failure| failure.code);
        code == Some(ErrorCode::FlowDenied)
    }

    /// Whether an attempt is the one under way.
    pub(super) fn is_current(&self, attempt: u32) -> bool {
        matches!(self.status, Status::InFlight) && self.attempt == attempt
    }

    /// When an attempt that begins now is over.
    pub(super) fn until(&self, now: Time) -> Time {
        (now + self.plan.terms.timeout()).min(self.deadline(now))
    }

    /// A task may be tried again for twice its time-out: one attempt that hangs leaves time for one more.
    pub(super) fn deadline(&self, now: Time) -> Time {
        self.first_dispatch.unwrap_or(now) + 2 * self.plan.terms.timeout()
    }
}

pub(super) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

pub(super) const fn state_of(status: &Status) -> TaskState {
    match status {
        Status::Completed(..) => TaskState::Completed,
        Status::Failed(_) => TaskState::Failed,
        Status::Skipped(_) => TaskState::Skipped,
        Status::Waiting
        | Status::InFlight
        | Status::Backoff
        | Status::AwaitingFlow(_)
        | Status::Cancelled(_) => TaskState::Cancelled,
    }
}
