//! Flows: opens the questions of tasks to a person, and ends them.

use std::time::Duration;

use amcp_protocol::flow::{self, FlowEnd, Subject};
use amcp_protocol::{
    EndedFlow, ErrorCode, Failure, Flow, FlowAnswer, FlowId, FlowKind, FlowRequest, Progress,
};

use super::task::{Status, TaskRun};
use super::{Action, Assignment, Machine, Time, TimerKey};

/// Most flows of one task: a purchase takes a confirmation, an authority and a payment; the rest is for delegated requests,
/// whose flows come one after the other.
const MAX_FLOWS: u32 = 16;
/// How long the news of a withdrawal may wait for a busy holder: longer than most tasks take.
pub const WITHDRAWAL: Duration = Duration::from_secs(60);

impl TaskRun {
    /// The flow that the task needs before its first dispatch and does not have yet.
    pub(super) fn flow_before(&self) -> Option<FlowKind> {
        let asked = |ended: &EndedFlow| ended.asker.is_none();
        let asked = self.ended_flows.iter().any(asked);
        self.plan.terms.flow.filter(|_| !asked)
    }
}

impl Machine {
    /// Whether an answer would end an open flow.
    ///
    /// # Errors
    /// [`ErrorCode::NotFound`]; [`ErrorCode::FlowExpired`] after its time; [`ErrorCode::FlowClosed`] for a flow that was
    /// answered before, or an answer to another question; [`ErrorCode::BadRequest`] for an answer past the bounds.
    pub fn check_answer(&self, id: &FlowId, answer: &FlowAnswer) -> Result<(), Failure> {
        if let Some((_, flow)) = self.open_flow(id) {
            return flow.check(answer);
        }
        let mut ended = self.tasks.iter().flat_map(|run| &run.ended_flows);
        let end = ended.find(|ended| ended.id == *id).map(|ended| ended.end);
        Err(flow::closed(id, end))
    }

    /// The open flows, in the order of their tasks.
    pub fn open_flows(&self) -> impl Iterator<Item = &Flow> {
        self.tasks.iter().filter_map(|run| run.status.flow())
    }

    fn open_flow(&self, id: &FlowId) -> Option<(usize, &Flow)> {
        let flows = self.tasks.iter().map(|run| run.status.flow());
        let mut open = flows
            .enumerate()
            .filter_map(|(index, flow)| Some((index, flow?)));
        open.find(|(_, flow)| flow.id == *id)
    }

    /// Opens a flow before the first dispatch of a task.
    pub(super) fn ask_before(
        &mut self,
        now: Time,
        index: usize,
        kind: FlowKind,
        out: &mut Vec<Action>,
    ) -> Result<(), Failure> {
        let Some(run) = self.tasks.get(index) else {
            return Ok(());
        };
        let prompt = match kind {
            FlowKind::Confirmation => format!("May {} be done?", run.plan.capability),
            FlowKind::Payment | FlowKind::Delegation | FlowKind::Oauth => {
                let noun = kind.noun();
                format!("{} needs a {noun} before it is done.", run.plan.capability)
            }
        };
        self.open(now, index, FlowRequest::new(kind, prompt), out)
    }

    /// Opens the flow with which an agent ended an attempt.
    pub(super) fn flow_required(
        &mut self,
        now: Time,
        index: usize,
        request: FlowRequest,
        out: &mut Vec<Action>,
    ) {
        if let Some(run) = self.tasks.get_mut(index) {
            let agent = run.agent.clone().filter(|_| request.held);
            run.holder = agent.map(|agent| (agent, run.incarnation));
        }
        let opened = request
            .check()
            .and_then(|()| self.open(now, index, request, out));
        if let Err(failure) = opened {
            self.end(now, index, Status::Failed(failure), out);
        }
    }

    fn open(
        &mut self,
        now: Time,
        index: usize,
        request: FlowRequest,
        out: &mut Vec<Action>,
    ) -> Result<(), Failure> {
        if !self.policy.flows.contains(&request.kind) {
            return Err(flow::unsupported(request.kind));
        }
        let params = self.params_of(index);
        let (Some(run), Some(params)) = (self.tasks.get_mut(index), params) else {
            return Ok(());
        };
        run.flows += 1;
        if run.flows > MAX_FLOWS {
            let message = format!("the task asks for more than {MAX_FLOWS} flows");
            return Err(Failure::new(ErrorCode::BudgetExceeded, message));
        }
        let subject = Subject {
            capability: run.plan.capability.clone(),
            params,
        };
        let id = FlowId::of(&run.plan.id, run.flows);
        let flow = Flow::open((id, run.plan.id.clone()), request, subject);
        out.push(Action::SetTimer {
            key: TimerKey::Flow {
                task: index,
                number: run.flows,
            },
            at: now + Duration::from_millis(flow.expires_ms),
        });
        out.push(Action::Report(Progress::FlowRequired {
            flow: Box::new(flow.clone()),
        }));
        // Keeps the time used so far: the wait does not count.
        run.first_dispatch = run.first_dispatch.map(|first| now.saturating_sub(first));
        run.agent = None;
        run.status = Status::AwaitingFlow(Box::new(flow));
        self.flows += 1;
        Ok(())
    }

    /// Withdraws the flow of a task that is about to end.
    pub(super) fn withdraw_flow(&mut self, now: Time, index: usize, out: &mut Vec<Action>) {
        let flow = self.close_flow(now, index, FlowEnd::Withdrawn, out);
        if let (Some(flow), Some(run)) = (flow, self.tasks.get_mut(index)) {
            run.ended_flows.push(EndedFlow {
                end: FlowEnd::Withdrawn,
                ..EndedFlow::of(flow, None)
            });
        }
    }

    /// Tells the agent that holds a task's work that nobody waits for the rest.
    pub(super) fn release(&mut self, index: usize, out: &mut Vec<Action>) {
        let params = self.params_of(index);
        let (Some(params), Some(run)) = (params, self.tasks.get_mut(index)) else {
            return;
        };
        let Some((agent, incarnation)) = run.holder.take() else {
            return;
        };
        let mut flows = run.ended_flows.clone();
        if flows.last().map(|last| last.end) != Some(FlowEnd::Withdrawn) {
            flows.push(EndedFlow::withdrawn(&run.plan.id));
        }
        out.push(Action::Withdraw(Assignment {
            task: index,
            attempt: run.attempt + 1,
            agent,
            incarnation,
            params,
            time: WITHDRAWAL,
            calls: None,
            flows,
        }));
    }

    /// Takes the flow of a task that waits for one; the caller must set the task's next status.
    fn close_flow(
        &mut self,
        now: Time,
        index: usize,
        end: FlowEnd,
        out: &mut Vec<Action>,
    ) -> Option<Flow> {
        let run = self.tasks.get_mut(index)?;
        let Status::AwaitingFlow(flow) = std::mem::replace(&mut run.status, Status::Waiting) else {
            return None;
        };
        run.first_dispatch = run.first_dispatch.map(|spent| now.saturating_sub(spent));
        self.flows -= 1;
        out.push(Action::ClearTimer(TimerKey::Flow {
            task: index,
            number: run.flows,
        }));
        out.push(Action::Report(Progress::FlowEnded {
            task: flow.task.clone(),
            flow: flow.id.clone(),
            end,
        }));
        Some(*flow)
    }

    pub(super) fn flow_answered(
        &mut self,
        now: Time,
        id: &FlowId,
        answer: FlowAnswer,
        out: &mut Vec<Action>,
    ) {
        if self.check_answer(id, &answer).is_ok()
            && let Some((index, _)) = self.open_flow(id)
        {
            self.flow_ended(now, index, Some(answer), out);
        }
    }

    pub(super) fn flow_expired(
        &mut self,
        now: Time,
        index: usize,
        number: u32,
        out: &mut Vec<Action>,
    ) {
        let waits =
            |run: &&TaskRun| run.flows == number && matches!(run.status, Status::AwaitingFlow(_));
        if self.tasks.get(index).filter(waits).is_some() {
            self.flow_ended(now, index, None, out);
        }
    }

    /// An agent that asked gets any end of its flow, since it may have another way. A task that was not dispatched yet goes on
    /// only after an approval.
    fn flow_ended(
        &mut self,
        now: Time,
        index: usize,
        answer: Option<FlowAnswer>,
        out: &mut Vec<Action>,
    ) {
        let end = FlowEnd::of(answer.as_ref());
        let Some(flow) = self.close_flow(now, index, end, out) else {
            return;
        };
        let asked_before = flow.asker.is_none();
        let ended = EndedFlow::of(flow, answer);
        let failure = ended.failure().filter(|_| asked_before);
        if let Some(run) = self.tasks.get_mut(index) {
            run.ended_flows.push(ended);
        }
        match failure {
            Some(failure) => self.end(now, index, Status::Failed(failure), out),
            None => self.dispatch(now, index, out),
        }
        self.advance(now, out);
    }
}
