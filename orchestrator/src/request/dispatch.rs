//! Sends tasks to agents of the directory, and their answers back as one message to the request's actor.
//!
//! Does not retry; the machine hears of a task without an agent as of any other failure.

use std::sync::Arc;

use amcp_plan::{Assignment, Event, WITHDRAWAL};
use amcp_protocol::capability::DELEGATES;
use amcp_protocol::retry::{History, Patience, Verdict};
use amcp_protocol::task::{TaskOutcome, WIRE_VERSION};
use amcp_protocol::warrant::{Draft, WarrantedTask, digest};
use amcp_protocol::{
    AgentId, Backing, CallReport, CloudEvent, EndedFlow, ErrorCode, Failure, Lineage, TaskRequest,
    TaskResponse, event,
};
use amcp_registry::bus::unix_ms;
use amcp_registry::{AgentPort, AnswerPort, InFlight, TaskKey, trace};
use ractor::ActorRef;
use serde_json::{Value, json};
use tokio::runtime::Handle;
use tracing::Span;

use super::{RequestMsg, RequestState};
use crate::SOURCE;
use crate::counts::count;
use crate::shared::Shared;

/// Most calls of one task that a request keeps and shows: those within its budget, and as many refused ones.
const MAX_CALLS: usize = 2 * Lineage::CALLS as usize;

/// Most refusals of news by a busy agent: about a minute with the backoff's steps.
const MAX_REFUSALS: u32 = 32;

/// An agent's held work. Dropped, it tells the agent that nobody waits for the rest; a lost agent holds nothing any more.
#[derive(Debug)]
pub(crate) struct HeldWork {
    shared: Arc<Shared>,
    agent: AgentId,
    incarnation: u64,
    news: Option<TaskRequest>,
}

impl HeldWork {
    /// Leaves the news to the machine, which knows of the work now.
    pub(super) fn known(mut self) {
        self.news = None;
    }
}

impl Drop for HeldWork {
    fn drop(&mut self) {
        // Without a runtime the node ends, and its links with it.
        let (Some(mut news), Ok(runtime)) = (self.news.take(), Handle::try_current()) else {
            return;
        };
        let shared = self.shared.clone();
        let (agent, incarnation) = (self.agent.clone(), self.incarnation);
        let patience = Patience {
            refusals: MAX_REFUSALS,
            ..Patience::default()
        };
        let holder = move || {
            let directory = shared.registry.load();
            let entry = directory.agent(&agent);
            let entry = entry.filter(|entry| entry.incarnation == incarnation);
            entry.map(|entry| entry.port.clone())
        };
        runtime.spawn(async move {
            let mut history = History::default();
            while let Some(port) = holder() {
                let (answer, answered) = AnswerPort::channel();
                let heard = match port.execute(news.clone(), answer) {
                    Ok(()) => answered.await.ok().map(|answer| answer.outcome),
                    Err(failure) => Some(TaskOutcome::Refused(failure)),
                };
                let Some(TaskOutcome::Refused(failure)) = heard else {
                    return;
                };
                match history.refused(failure, patience, fastrand::f64()) {
                    Verdict::Retry { after, .. } => tokio::time::sleep(after).await,
                    Verdict::GiveUp(_) => return,
                }
                news.attempt += 1;
            }
        });
    }
}

/// An attempt at an agent.
pub(super) struct Sent {
    task: usize,
    key: TaskKey,
    port: AgentPort,
    span: Span,
}

amcp_protocol::opaque_debug!(Sent);

impl Sent {
    pub(super) fn is(&self, task: usize, attempt: u32) -> bool {
        self.task == task && self.key.attempt == attempt
    }

    /// Tells the agent that the result is no longer wanted.
    pub(super) fn cancel(self) {
        self.port.cancel(self.key);
    }
}

/// An attempt that certainly did not begin.
fn refused((task, attempt): (usize, u32), failure: Failure) -> Event {
    Event::Responded {
        task,
        attempt,
        outcome: TaskOutcome::Refused(failure),
        calls: Vec::new(),
    }
}

pub(super) fn progressed(task: usize, attempt: u32, note: &str) -> Event {
    Event::Progressed {
        task,
        attempt,
        note: note.to_owned(),
    }
}

impl RequestState {
    /// Chooses an agent for an attempt. Returns [`Event::Chosen`], or a refusal when there is none.
    pub(super) fn choose(
        &mut self,
        (task, attempt): (usize, u32),
        avoid: &[AgentId],
        only: Option<(AgentId, u64)>,
    ) -> Option<Event> {
        let capability = &self.machine.task(task)?.capability;
        let directory = self.shared.registry.load();
        // The permissions may have changed since the plan was made; after a restart the agent may have come later than the request.
        let contract = self.catalogue.get(capability.as_str());
        if let Some(contract) = contract.or_else(|| directory.contract(capability)) {
            let permissions = self.shared.registry.permissions();
            let checked = permissions.check(&self.record.request.roles, &contract.capability);
            if let Err(denial) = checked {
                return Some(refused((task, attempt), denial.of_user(capability)));
            }
        }
        if let Some((agent, incarnation)) = only {
            let entry = directory.agent(&agent);
            if entry.is_some_and(|entry| entry.incarnation == incarnation) {
                return Some(Event::Chosen {
                    task,
                    attempt,
                    agent,
                    incarnation,
                });
            }
            let message = format!("{agent} went away while its task waited for a person");
            // Not retried: another attempt would begin the work again.
            let lost = TaskOutcome::Failed(Failure::new(ErrorCode::DependencyFailed, message));
            return Some(Event::Responded {
                task,
                attempt,
                outcome: lost,
                calls: Vec::new(),
            });
        }
        let Some(entry) = directory.choose(capability, avoid, fastrand::u64(..)) else {
            let message = format!("no agent offers {capability} at the moment");
            let failure = Failure::new(ErrorCode::NoAgent, message);
            return Some(refused((task, attempt), failure));
        };
        if let Some(turns) = &mut self.turns {
            turns.busy(entry.begin());
        }
        Some(Event::Chosen {
            task,
            attempt,
            agent: entry.id().clone(),
            incarnation: entry.incarnation,
        })
    }

    /// Sends an attempt to the chosen agent; returns a refusal if it cannot.
    pub(super) fn send(
        &mut self,
        myself: &ActorRef<RequestMsg>,
        assigned: Assignment,
    ) -> Option<Event> {
        let (task, attempt) = (assigned.task, assigned.attempt);
        let (agent, incarnation) = (assigned.agent.clone(), assigned.incarnation);
        self.vouch(task);
        let mut request = self.task_request(assigned)?;
        let directory = self.shared.registry.load();
        let chosen = directory.agent(&agent);
        let Some(entry) = chosen.filter(|entry| entry.incarnation == incarnation) else {
            let message = format!("{agent} has just left");
            let failure = Failure::new(ErrorCode::AgentUnavailable, message);
            return Some(refused((task, attempt), failure));
        };
        let name = ("execute_tool", request.capability.as_str());
        let (span, traceparent) = trace::begin("client", name, request.traceparent.take());
        span.record("gen_ai.operation.name", "execute_tool");
        span.record("gen_ai.tool.name", request.capability.as_str());
        span.record("gen_ai.agent.name", agent.as_str());
        span.record("amcp.task", request.task_id.as_str());
        span.record("amcp.attempt", attempt);
        request.traceparent = traceparent;
        self.task_request_event(&request, &agent);
        if let Some(witness) = self.shared.witness.get() {
            witness.dispatched(&self.record.request, &request, &agent);
        }
        let key = TaskKey::of(&request);
        let awaited = Awaited {
            request: request.clone(),
            agent,
            incarnation,
            task,
            to: myself.clone(),
            shared: self.shared.clone(),
            _in_flight: entry.begin(),
        };
        let to = myself.clone();
        let answer = AnswerPort::new(move |response| awaited.arrived(response)).hearing(
            // Fails for a request that has been answered meanwhile.
            move |note| drop(to.cast(RequestMsg::Happened(progressed(task, attempt, note)))),
        );
        if let Err(failure) = entry.port.execute(request, answer) {
            let message = format!("{}: {failure}", entry.id());
            let failure = Failure::new(failure.code, message);
            return Some(refused((task, attempt), failure));
        }
        let port = entry.port.clone();
        self.sent.push(Sent {
            task,
            key,
            port,
            span,
        });
        None
    }

    /// Tells the agent that holds a task's work that nobody waits for the rest of it.
    pub(super) fn withdraw(&self, assigned: Assignment) {
        drop(HeldWork {
            shared: self.shared.clone(),
            agent: assigned.agent.clone(),
            incarnation: assigned.incarnation,
            news: self.task_request(assigned),
        });
    }

    /// Gives a user's request a warrant that names the task, among all known by now.
    fn vouch(&mut self, task: usize) {
        let backing = self.lineage.backing.as_ref();
        let draft = backing.and_then(|backing| backing.draft());
        let named = draft.is_some_and(|draft| task < draft.tasks.len());
        let own = self.shared.settings.meshed && self.lineage.depth == 0;
        if named || !own {
            return;
        }
        let tasks = (0..).map_while(|at| self.machine.task(at)).map(|task| {
            let delegates = task.capability.as_str().starts_with(DELEGATES);
            let whole = delegates && task.references.is_empty();
            WarrantedTask {
                id: task.id.clone(),
                capability: task.capability.clone(),
                params: whole.then(|| digest(&task.params)),
            }
        });
        let lifetime = self.shared.deadline_of(&self.record.request);
        let draft = Draft {
            request: self.record.id,
            user: self.grant.user.clone(),
            roles: self.grant.roles.clone(),
            tasks: tasks.collect(),
            lifetime_ms: u64::try_from(lifetime.as_millis()).unwrap_or(u64::MAX),
        };
        self.lineage = Arc::new(Lineage {
            backing: Some(Arc::new(Backing::own(draft))),
            ..Lineage::clone(&self.lineage)
        });
    }

    fn task_request(&self, assigned: Assignment) -> Option<TaskRequest> {
        let planned = self.machine.task(assigned.task)?;
        let time = u64::try_from(assigned.time.as_millis()).unwrap_or(u64::MAX);
        let lineage = match assigned.calls {
            None => self.lineage.clone(),
            Some(calls) => Arc::new(Lineage {
                calls,
                ..Lineage::clone(&self.lineage)
            }),
        };
        Some(TaskRequest {
            version: WIRE_VERSION,
            request_id: self.record.id,
            task_id: planned.id.clone(),
            attempt: assigned.attempt,
            deadline_ms: time.max(1),
            traceparent: self.traceparent.clone(),
            grant: self.grant.clone(),
            lineage,
            capability: planned.capability.clone(),
            flows: assigned.flows,
            params: assigned.params,
        })
    }

    /// Forgets an attempt that is over, so that its agent gets no cancellation; false if it was forgotten before.
    pub(super) fn settle(&mut self, task: usize, attempt: u32, failure: Option<&Failure>) -> bool {
        let at = self.sent.iter().position(|sent| sent.is(task, attempt));
        let Some(sent) = at.map(|at| self.sent.swap_remove(at)) else {
            return false;
        };
        if let Some(failure) = failure {
            sent.span.record("error.type", failure.code.as_str());
        }
        true
    }

    pub(super) fn abandon(&mut self, task: usize, attempt: u32) {
        if let Some(at) = self.sent.iter().position(|sent| sent.is(task, attempt)) {
            self.sent.swap_remove(at).cancel();
        }
    }

    fn task_request_event(&self, request: &TaskRequest, agent: &AgentId) {
        self.shared.bus.publish(format_args!("task.request.{}", request.capability), || {
            let data = json!({"task": request.task_id, "attempt": request.attempt, "agent": agent, "params": request.params});
            task_event(event::TASK_REQUEST, SOURCE.to_owned(), &TaskKey::of(request), data).about(request.capability.as_str())
        });
    }
}

fn task_event(kind: &str, source: String, key: &TaskKey, data: Value) -> CloudEvent {
    let TaskKey {
        request_id,
        task_id,
        attempt,
    } = key;
    let id = |kind: &str| format!("{request_id}-{task_id}-{attempt}-{kind}");
    let cause = if kind == event::TASK_RESPONSE {
        id(event::TASK_REQUEST)
    } else {
        request_id.to_string()
    };
    CloudEvent::new(kind, source, id(kind), data)
        .correlated(*request_id)
        .caused_by(cause)
        .at_unix_ms(unix_ms())
}

/// A wait for an agent's answer to an attempt.
struct Awaited {
    request: TaskRequest,
    agent: AgentId,
    incarnation: u64,
    task: usize,
    to: ActorRef<RequestMsg>,
    shared: Arc<Shared>,
    _in_flight: InFlight,
}

impl Awaited {
    /// Passes the answer to the request; `None` when the agent went away.
    fn arrived(self, response: Option<TaskResponse>) {
        let usage = response.as_ref().map(|response| response.usage);
        if let Some(usage) = usage.filter(|usage| !usage.is_none()) {
            // First, since the response may be the last that the request waits for.
            let _ = self.to.cast(RequestMsg::Happened(Event::Spent(usage)));
        }
        let (outcome, calls) = self.read(response);
        let given_up = outcome.is_cancelled();
        let holds = matches!(&outcome, TaskOutcome::FlowRequired(flow) if flow.held);
        let Self {
            mut request,
            agent,
            incarnation,
            task,
            to,
            shared,
            _in_flight,
        } = self;
        let event = Event::Responded {
            task,
            attempt: request.attempt,
            outcome,
            calls,
        };
        let counts = shared.clone();
        let message = if holds {
            request.attempt += 1;
            request.deadline_ms = WITHDRAWAL.as_secs() * 1_000;
            request.flows.push(EndedFlow::withdrawn(&request.task_id));
            let work = HeldWork {
                shared,
                agent,
                incarnation,
                news: Some(request),
            };
            RequestMsg::Holds(Box::new((event, work)))
        } else {
            RequestMsg::Happened(event)
        };
        if to.cast(message).is_err() && !given_up {
            count(&counts.counters.late, 1);
        }
    }

    fn read(&self, response: Option<TaskResponse>) -> (TaskOutcome, Vec<CallReport>) {
        let Self { request, agent, .. } = self;
        let lost = |what: &str| {
            TaskOutcome::Failed(Failure::new(
                ErrorCode::AgentLost,
                format!("{agent} {what}"),
            ))
        };
        let mut calls = Vec::new();
        let outcome = match response {
            None => lost("went away with the task"),
            Some(response)
                if response.task_id == request.task_id && response.attempt == request.attempt =>
            {
                calls = response.calls;
                // A remote agent may report any number of calls.
                calls.truncate(MAX_CALLS);
                response.outcome
            }
            // The agent's one answer was for another task, so this task has none.
            Some(_) => {
                count(&self.shared.counters.foreign, 1);
                lost("answered for another task")
            }
        };
        self.shared
            .bus
            .publish(format_args!("task.response.{}", request.capability), || {
                let mut data = json!({"task": request.task_id, "attempt": request.attempt});
                if let (Some(result), Some(data)) = (outcome.result(), data.as_object_mut()) {
                    data.insert("result".to_owned(), Value::clone(result));
                }
                let lacks = match &outcome {
                    TaskOutcome::Partly(_, failure)
                    | TaskOutcome::Failed(failure)
                    | TaskOutcome::Refused(failure) => Some(failure),
                    TaskOutcome::Done(_) => None,
                    TaskOutcome::FlowRequired(flow) => {
                        if let Some(data) = data.as_object_mut() {
                            data.insert("flow".to_owned(), json!(flow));
                        }
                        None
                    }
                };
                if let (Some(error), Some(data)) = (lacks, data.as_object_mut()) {
                    data.insert("error".to_owned(), json!(error));
                }
                let source = format!("/agent/{agent}");
                task_event(event::TASK_RESPONSE, source, &TaskKey::of(request), data)
                    .about(request.capability.as_str())
            });
        (outcome, calls)
    }
}
