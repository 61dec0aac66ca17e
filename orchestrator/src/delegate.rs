//! Runs requests that other orchestrators delegate, each as a request of this one, within the bounds of its task.
//!
//! Does not receive tasks; the agent that registers the capability hands them over.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use amcp_protocol::flow::{Decision, FlowEnd};
use amcp_protocol::llm::Usage;
use amcp_protocol::task::TaskOutcome;
use amcp_protocol::warrant::{ParamsDigest, digest, part_id};
use amcp_protocol::{
    Answer, AnswerState, Backing, CallReport, Capability, EndedFlow, ErrorCode, Failure,
    FlowAnswer, Grant, Lineage, Proof, RequestId, Step, TaskId, TaskReport, UserRequest,
};
use serde_json::json;

use crate::handle::OrchestratorHandle;
use crate::record::Ticket;
use crate::requests::Known;
use amcp_planner::domain;

/// A delegated query and its bounds.
#[derive(Debug, Clone)]
pub struct Delegation {
    /// The request and the task that delegate it. With the query they make the id of the delegated request.
    pub by: (RequestId, TaskId),
    /// The query in plain language.
    pub query: String,
    /// The user that the request is done for.
    pub grant: Grant,
    /// The path of delegations and calls to the delegating task.
    pub lineage: Lineage,
    /// The ends of flows that earlier attempts passed on.
    pub flows: Vec<EndedFlow>,
    /// The rest of the deadline.
    pub time: Duration,
    /// W3C trace context.
    pub traceparent: Option<String>,
}

/// The params of the task that delegates a query.
fn params_of(query: &str) -> ParamsDigest {
    digest(&json!({"query": query}))
}

/// A wait for a delegated request. Dropping the last wait cancels the request, unless it waits for a person.
struct Wanted<'a> {
    orchestrator: &'a OrchestratorHandle,
    ticket: Ticket,
    /// Whether the request waits for a person now.
    idle: bool,
}

impl<'a> Wanted<'a> {
    fn new(orchestrator: &'a OrchestratorHandle, ticket: Ticket) -> Self {
        ticket.record.delegators.fetch_add(1, Ordering::SeqCst);
        Self {
            orchestrator,
            ticket,
            idle: false,
        }
    }
}

impl Drop for Wanted<'_> {
    fn drop(&mut self) {
        let last = self.ticket.record.delegators.fetch_sub(1, Ordering::SeqCst) == 1;
        if last && !self.idle {
            // Changes nothing in a request that was answered.
            let _ = self.orchestrator.cancel(self.ticket.request_id());
        }
    }
}

impl OrchestratorHandle {
    /// The capability that this orchestrator offers to others, described by the capabilities that it can plan with now; none
    /// while it has none of its own.
    #[must_use]
    pub fn capability(&self) -> Option<Capability> {
        domain::capability(self.domain(), &self.catalogue())
    }

    /// Works on a delegated request. Returns the outcome of the delegating task, the request's tasks as its calls, and what models took.
    ///
    /// When only flows are open in the request, the delegating task ends with the first of them and the request waits: the same
    /// delegation with the person's answer lets it go on, with a withdrawn flow cancels it. The request ends by itself when its
    /// flows expire.
    ///
    /// A repeated delegation waits for the running request or gets its answer. Dropping the last of these futures cancels the
    /// request. Each sign of life of the request calls `hear`, with a few words or none.
    ///
    /// Refusals: [`ErrorCode::CyclicPlan`] when this domain works on it already,
    /// [`ErrorCode::BudgetExceeded`] past the depth limit, and the refusals of [`OrchestratorHandle::ask`]. A request whose
    /// answer was dropped is not refused but fails as [`ErrorCode::Gone`], since it was done. A partial answer becomes
    /// [`TaskOutcome::Partly`].
    pub async fn delegated(
        &self,
        mut what: Delegation,
        hear: impl Fn(&str),
    ) -> (TaskOutcome, (Vec<CallReport>, Usage)) {
        let flows = std::mem::take(&mut what.flows);
        if flows.iter().any(|flow| flow.end == FlowEnd::Withdrawn) {
            return (self.withdrawn(&what), Default::default());
        }
        let ticket = match self.accept(what) {
            Ok(ticket) => ticket,
            // The request ran before, so the task is not refused.
            Err(failure) if failure.code == ErrorCode::Gone => {
                return (TaskOutcome::Failed(failure), Default::default());
            }
            Err(failure) => return (TaskOutcome::Refused(failure), Default::default()),
        };
        let mut wanted = Wanted::new(self, ticket);
        let id = wanted.ticket.request_id();
        self.answer_flows(id, flows).await;
        let end = tokio::select! {
            biased;
            end = wanted.ticket.answer_or_idle() => end,
            never = wanted.ticket.live(hear) => match never {},
        };
        let answer = match end {
            Ok(answer) => answer,
            Err(flow) => {
                wanted.idle = true;
                let asker = format!("{id}/{}", flow.id);
                let flow = Box::new(flow.passed_on(asker));
                return (TaskOutcome::FlowRequired(flow), Default::default());
            }
        };
        let calls = answer.tasks.iter().flat_map(calls_of).collect();
        (self.outcome(&answer), (calls, answer.usage))
    }

    /// The outcome of the delegating task by the answer to its request.
    fn outcome(&self, answer: &Answer) -> TaskOutcome {
        let missing = answer.error.as_ref().map(|error| {
            // The code must not look like the death of this agent, which lives.
            let code = if error.code.is_transient() || error.code == ErrorCode::Cancelled {
                ErrorCode::DependencyFailed
            } else {
                error.code
            };
            let domain = self.domain_name();
            let message = match answer.state {
                AnswerState::Partial => format!("{domain} answered in part: {error}"),
                AnswerState::Completed | AnswerState::Failed | AnswerState::Cancelled => {
                    format!("the orchestrator of {domain} could not answer: {error}")
                }
            };
            Failure::new(code, message)
        });
        if matches!(answer.state, AnswerState::Failed | AnswerState::Cancelled) {
            let unexplained = || Failure::internal("the orchestrator gave no reason");
            return TaskOutcome::Failed(missing.unwrap_or_else(unexplained));
        }
        let tasks: Vec<_> = answer
            .tasks
            .iter()
            .map(|task| json!({"id": task.id, "capability": task.capability, "state": task.state}))
            .collect();
        let state = answer.state.as_str();
        let result = json!({"text": answer.answer, "state": state, "tasks": tasks}).into();
        match missing {
            Some(missing) => TaskOutcome::Partly(result, missing),
            None => TaskOutcome::Done(result),
        }
    }

    /// Cancels a delegated request. One that was answered meanwhile, or forgotten, stays as it is.
    fn withdrawn(&self, what: &Delegation) -> TaskOutcome {
        let (request, task) = &what.by;
        let id = part_id(*request, task, &params_of(&what.query));
        self.renew(id, what.lineage.backing.as_deref());
        let _ = self.cancel(id);
        let message = "the delegating task has ended";
        TaskOutcome::Failed(Failure::new(ErrorCode::Cancelled, message))
    }

    /// Answers the flows that the delegated request had passed on.
    async fn answer_flows(&self, id: RequestId, flows: Vec<EndedFlow>) {
        for ended in flows {
            let asker = ended
                .asker
                .as_deref()
                .and_then(|asker| asker.split_once('/'));
            let Some(flow) = asker
                .filter(|(request, _)| *request == id.to_string())
                .and_then(|(_, flow)| flow.parse().ok())
            else {
                continue;
            };
            let answer = FlowAnswer {
                decision: match ended.end {
                    FlowEnd::Approved => Decision::Approve,
                    FlowEnd::Denied | FlowEnd::Expired | FlowEnd::Withdrawn => Decision::Deny,
                },
                reason: match ended.end {
                    FlowEnd::Expired => Some("nobody answered in time".to_owned()),
                    FlowEnd::Approved | FlowEnd::Denied | FlowEnd::Withdrawn => ended.reason,
                },
                digest: ended.digest,
                payload: ended.payload,
            };
            // Refused if an earlier attempt brought the answer already.
            let _ = self.answer_flow(id, flow, answer).await;
        }
    }

    fn accept(&self, what: Delegation) -> Result<Ticket, Failure> {
        let Delegation {
            by,
            query,
            grant,
            mut lineage,
            flows: _,
            time,
            traceparent,
        } = what;
        let own = self.domain_name();
        if lineage.domains.iter().any(|domain| domain == own) {
            let path = lineage.domains.join(" > ");
            let message = format!("{own} works on this request already: {path} > {own}");
            let failure = Failure::new(ErrorCode::CyclicPlan, message);
            return Err(failure.hint("no domain of this path can do it: ask for something else"));
        }
        if lineage.depth >= Lineage::MAX_DEPTH {
            let message = format!("{} delegations and calls led here already", lineage.depth);
            return Err(Failure::new(ErrorCode::BudgetExceeded, message));
        }
        lineage.depth += 1;
        let ((request, task), part) = (by, params_of(&query));
        let id = part_id(request, &task, &part);
        lineage.path.push(Step {
            task,
            caller: None,
            part: Some(part),
        });
        let backing = lineage.backing.clone();
        let request = UserRequest {
            query,
            user: grant.user,
            by: Some(Proof::Peer),
            roles: grant.roles,
            deadline_ms: Some(u64::try_from(time.as_millis()).unwrap_or(u64::MAX).max(1)),
            // The delegated words stand alone: the conversation stays with the first orchestrator.
            history: Vec::new(),
            flows: Some(grant.flows),
            plan: None,
            traceparent,
            lineage,
        };
        // Codes of an agent, so that the delegating machine tries another agent, or this one later.
        let request = Arc::new(request);
        let entered = self
            .enter(request.clone(), Known::ById(id))
            .map_err(|mut failure| {
                self.shared.refused(&request, &failure);
                if failure.code == ErrorCode::Overloaded {
                    failure.code = ErrorCode::AgentBusy;
                } else if [ErrorCode::ShuttingDown, ErrorCode::NotReady].contains(&failure.code) {
                    failure.code = ErrorCode::AgentUnavailable;
                }
                failure
            });
        if entered.is_ok() {
            self.renew(id, backing.as_deref());
        }
        entered
    }

    /// Gives a delegated request the warrant that came with its delegation again: the first may have ended while the request waited
    /// for a person, and what it sends or withdraws now needs one.
    fn renew(&self, id: RequestId, later: Option<&Backing>) {
        let record = self.shared.requests.get(id);
        let held = record.and_then(|record| record.request.lineage.backing.clone());
        if let (Some(held), Some(later)) = (held, later) {
            held.renew(later);
        }
    }
}

/// A task of the delegated request, and below it its own calls.
fn calls_of(task: &TaskReport) -> impl Iterator<Item = CallReport> + use<'_> {
    let own = CallReport {
        depth: 1,
        capability: task.capability.clone(),
        agent: task.agent.clone(),
        elapsed_ms: task.duration_ms,
        error: task.error.as_ref().map(|failure| failure.code),
    };
    let below = task.calls.iter().cloned().map(|mut call| {
        call.depth = call.depth.saturating_add(1);
        call
    });
    std::iter::once(own).chain(below)
}
