//! The state of one task and its attempts.

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
    /// At an agent, or on its way.
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
        if let Self::Completed(_, missing) = self {
            missing.as_ref()
        } else {
            None
        }
    }

    /// The flow that the task waits for.
    pub(super) fn flow(&self) -> Option<&Flow> {
        if let Self::AwaitingFlow(flow) = self {
            Some(flow)
        } else {
            None
        }
    }

    pub(super) const fn failure(&self) -> Option<&Failure> {
        if let Self::Failed(why) | Self::Skipped(why) | Self::Cancelled(why) = self {
            Some(why)
        } else {
            None
        }
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct TaskRun {
    pub(super) plan: PlanTask,
    pub(super) status: Status,
    /// The task of a later round that replaces it once that task is done.
    pub(super) replaced_by: Option<usize>,
    /// The planner's id of a task that arrived early, until a complete plan has the task.
    pub(super) unplanned: Option<TaskId>,
    /// Whether an attempt may have done its work: it ended otherwise than by a refusal.
    pub(super) may_be_done: bool,
    /// Number of tasks that it still waits for.
    pub(super) waiting_for: usize,
    pub(super) dependents: Vec<usize>,
    /// The latest attempt; counts from 1.
    pub(super) attempt: u32,
    /// Number of attempts that were sent to an agent.
    pub(super) sent: u32,
    /// Share of the request's budget of calls that the current attempt holds.
    pub(super) given: Option<u32>,
    /// The failures of its attempts so far.
    pub(super) history: retry::History,
    pub(super) avoid: Vec<AgentId>,
    /// The agent of the latest attempt.
    pub(super) agent: Option<AgentId>,
    /// The incarnation of the latest agent.
    #[serde(default)]
    pub(super) incarnation: u64,
    /// The agent that holds the work done before a flow: no other may go on.
    #[serde(default)]
    pub(super) holder: Option<(AgentId, u64)>,
    /// Waits for flows move it forward, so that they do not count.
    pub(super) first_dispatch: Option<Time>,
    /// The latest end of the current attempt.
    pub(super) until: Time,
    /// The time of its last note in the progress.
    pub(super) shown: Option<Time>,
    pub(super) ended: Option<Time>,
    /// The last answered attempt's calls of other agents.
    pub(super) calls: Vec<CallReport>,
    /// Number of its flows, open or ended.
    pub(super) flows: u32,
    /// The ends of its flows.
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

    /// Whether this early task is the given task of the complete plan.
    pub(super) fn is_of(&self, task: &PlanTask) -> bool {
        self.unplanned.as_ref() == Some(&task.id)
            && self.plan.capability == task.capability
            && self.plan.params == task.params
            && task.after.is_empty()
            && task.references.is_empty()
    }

    /// Whether a task has the same params and neither takes results of others.
    pub(super) fn asks_the_same(&self, task: &PlanTask) -> bool {
        self.plan.params == task.params
            && self.plan.references.is_empty()
            && task.references.is_empty()
    }

    /// Whether a person denied the flow before its dispatch.
    pub(super) fn was_denied(&self) -> bool {
        let code = self.status.failure().map(|failure| failure.code);
        code == Some(ErrorCode::FlowDenied)
    }

    /// Whether an attempt is the one under way.
    pub(super) fn is_current(&self, attempt: u32) -> bool {
        matches!(self.status, Status::InFlight) && self.attempt == attempt
    }

    /// The latest end of an attempt that begins now.
    pub(super) fn until(&self, now: Time) -> Time {
        (now + self.plan.terms.timeout()).min(self.deadline(now))
    }

    /// The latest end of all attempts: twice the time-out, so that one attempt that hangs leaves time for another.
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
