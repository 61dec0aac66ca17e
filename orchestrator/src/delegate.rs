//! Requests that another orchestrator delegates: each becomes a request of its own here, within what its task was given.
//!
//! Does not receive tasks; whoever registers the capability hands them over.

use std::sync::atomic::Ordering;
use std::time::Duration;

use amcp_protocol::flow::{Decision, FlowEnd};
use amcp_protocol::task::TaskOutcome;
use amcp_protocol::{
    AnswerState, CallReport, Capability, EndedFlow, ErrorCode, Failure, FlowAnswer, Grant, Lineage,
    RequestId, TaskId, TaskReport, UserRequest,
};
use serde_json::json;
use sha2::{Digest, Sha256};

use crate::handle::OrchestratorHandle;
use crate::record::Ticket;
use crate::requests::Known;
use amcp_planner::domain;

/// What is delegated, and within which bounds.
#[derive(Debug, Clone)]
pub struct Delegation {
    /// The request and the task that delegate it. With the query they make the id of the delegated request.
    pub by: (RequestId, TaskId),
    /// In plain language.
    pub query: String,
    /// Whom it is done for.
    pub grant: Grant,
    /// How the delegating task came about.
    pub lineage: Lineage,
    /// How the flows ended that were passed on before.
    pub flows: Vec<EndedFlow>,
    /// What is left of its deadline.
    pub time: Duration,
    /// W3C trace context.
    pub traceparent: Option<String>,
}

/// The id of the request that a task delegates: the same each time the delegation is sent, so that it stays one request.
fn id_of((request, task): &(RequestId, TaskId), query: &str) -> RequestId {
    let words = Sha256::digest(query);
    let mut hash = Sha256::new();
    // The task's id alone has no fixed length, so that no two triples read the same.
    hash.update(request.uuid());
    hash.update(task.as_str());
    hash.update(words);
    let mut id = [0; 16];
    id.iter_mut()
        .zip(hash.finalize())
        .for_each(|(to, from)| *to = from);
    RequestId::from_uuid(uuid::Builder::from_custom_bytes(id).into_uuid())
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
            // A request that was answered stays as it is.
            let _ = self.orchestrator.cancel(self.ticket.request_id());
        }
    }
}

impl OrchestratorHandle {
    /// What this orchestrator offers to others, described by what it can plan with at the moment; nothing while that is
    /// nothing of its own.
    #[must_use]
    pub fn capability(&self) -> Option<Capability> {
        domain::capability(self.domain(), &self.catalogue())
    }

    /// Works on a delegated request. Returns how the delegating task ends, and the request's tasks as the calls of that task.
    ///
    /// When nothing but flows is open in it, the delegating task ends with the first of them and the request waits: the same delegation
    /// with the person's answer lets it go on. It ends by itself when its flows expire.
    ///
    /// The same delegation again waits for the running request or gets its answer, whatever that was. Dropping the last of
    /// these futures cancels the request. `hear` is told what shows that the request lives, in a few words or none.
    ///
    /// Refusals: [`ErrorCode::CyclicPlan`] when this domain works on it already,
    /// [`ErrorCode::BudgetExceeded`] past the depth limit, and the refusals of [`OrchestratorHandle::ask`]. A request whose
    /// answer was dropped is not refused but fails as [`ErrorCode::Gone`], since it was done. A partial answer is a result in part.
    pub async fn delegated(
        &self,
        what: Delegation,
        hear: impl Fn(&str),
    ) -> (TaskOutcome, Vec<CallReport>) {
        let mut what = what;
        let flows = std::mem::take(&mut what.flows);
        let ticket = match self.accept(what) {
            Ok(ticket) => ticket,
            // It was done before.
            Err(failure) if failure.code == ErrorCode::Gone => {
                return (TaskOutcome::Failed(failure), Vec::new());
            }
            Err(failure) => return (TaskOutcome::Refused(failure), Vec::new()),
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
                return (TaskOutcome::FlowRequired(flow), Vec::new());
            }
        };
        let calls = answer.tasks.iter().flat_map(calls_of).collect();
        let missing = answer.error.as_ref().map(|error| {
            // The delegating task must not read the code as its own agent's death: this agent lives.
            let code = if error.code.is_transient() || error.code == ErrorCode::Cancelled {
                ErrorCode::DependencyFailed
            } else {
                error.code
            };
            let domain = self.domain_name();
            let message = match answer.state {
                AnswerState::Partial => format!("of the part of {domain}: {error}"),
                AnswerState::Completed | AnswerState::Failed | AnswerState::Cancelled => {
                    format!("the orchestrator of {domain} could not answer: {error}")
                }
            };
            Failure::new(code, message)
        });
        if matches!(answer.state, AnswerState::Failed | AnswerState::Cancelled) {
            let unexplained = || Failure::internal("no reason is known");
            return (
                TaskOutcome::Failed(missing.unwrap_or_else(unexplained)),
                calls,
            );
        }
        let tasks: Vec<_> = answer
            .tasks
            .iter()
            .map(|task| json!({"id": task.id, "capability": task.capability, "state": task.state}))
            .collect();
        let state = answer.state.as_str();
        let result = json!({"text": answer.answer, "state": state, "tasks": tasks}).into();
        let outcome = match missing {
            Some(missing) => TaskOutcome::Partly(result, missing),
            None => TaskOutcome::Done(result),
        };
        (outcome, calls)
    }

    /// Hands on how the flows ended that a delegated request had passed on.
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
            // It came with an earlier attempt already.
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
        let id = id_of(&by, &query);
        let request = UserRequest {
            query,
            user: grant.user,
            roles: grant.roles,
            deadline_ms: Some(u64::try_from(time.as_millis()).unwrap_or(u64::MAX).max(1)),
            // The clause stands for itself: the conversation stays with the orchestrator that had it.
            history: Vec::new(),
            flows: Some(grant.flows),
            traceparent,
            lineage,
        };
        // An agent's words for the same: whoever delegated may ask another one, or come back.
        self.enter(request, Known::ById(id)).map_err(|mut failure| {
            if failure.code == ErrorCode::Overloaded {
                failure.code = ErrorCode::AgentBusy;
            } else if [ErrorCode::ShuttingDown, ErrorCode::NotReady].contains(&failure.code) {
                failure.code = ErrorCode::AgentUnavailable;
            }
            failure
        })
    }
}

/// A task of the delegated request, and below it what it called.
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
