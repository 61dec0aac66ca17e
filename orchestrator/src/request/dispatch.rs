//! Sends tasks to agents of the directory, and their answers back as one message to the request's actor.
//!
//! Does not retry; the machine hears of a task without an agent as of any other failure.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use amcp_plan::{Assignment, Event};
use amcp_protocol::task::{TaskOutcome, WIRE_VERSION};
use amcp_protocol::{
    AgentId, CallReport, CapabilityName, CloudEvent, ErrorCode, Failure, Lineage, TaskRequest,
    TaskResponse, event,
};
use amcp_registry::bus::unix_ms;
use amcp_registry::{AgentPort, AnswerPort, InFlight, TaskKey};
use ractor::ActorRef;
use serde_json::{Value, json};

use super::{RequestMsg, RequestState};
use crate::SOURCE;
use crate::shared::Shared;

/// Most calls of one task that a request keeps and shows: those within its budget, and as many refused ones.
const MAX_CALLS: usize = 2 * Lineage::CALLS as usize;

/// An attempt at an agent.
pub(super) struct Sent {
    task: usize,
    key: TaskKey,
    port: AgentPort,
}

impl std::fmt::Debug for Sent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Sent").field(&self.key).finish()
    }
}

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
fn refused((task, attempt): (usize, u32), code: ErrorCode, message: String) -> Event {
    Event::Responded {
        task,
        attempt,
        outcome: TaskOutcome::Refused(Failure::new(code, message)),
        calls: Vec::new(),
    }
}

fn progressed(task: usize, attempt: u32, note: &str) -> Event {
    Event::Progressed {
        task,
        attempt,
        note: note.to_owned(),
    }
}

impl RequestState {
    /// Chooses an agent for an attempt. Returns [`Event::Chosen`], or a refusal when there is none.
    pub(super) fn choose(
        &self,
        (task, attempt): (usize, u32),
        avoid: &[AgentId],
        only: Option<(AgentId, u64)>,
    ) -> Option<Event> {
        let capability = &self.machine.task(task)?.capability;
        let directory = self.shared.registry.load();
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
            return Some(refused((task, attempt), ErrorCode::NoAgent, message));
        };
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
        let request = self.task_request(assigned)?;
        let directory = self.shared.registry.load();
        let chosen = directory.agent(&agent);
        let Some(entry) = chosen.filter(|entry| entry.incarnation == incarnation) else {
            let message = format!("{agent} has just left");
            return Some(refused(
                (task, attempt),
                ErrorCode::AgentUnavailable,
                message,
            ));
        };
        self.task_request_event(&request, &agent);
        let key = TaskKey::of(&request);
        let awaited = Awaited {
            key: key.clone(),
            capability: request.capability.clone(),
            agent,
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
            return Some(refused((task, attempt), failure.code, message));
        }
        let port = entry.port.clone();
        self.sent.push(Sent { task, key, port });
        None
    }

    /// Tells the agent that holds a task's work that nobody waits for the rest of it.
    pub(super) fn withdraw(&self, assigned: Assignment) {
        let directory = self.shared.registry.load();
        let (agent, incarnation) = (assigned.agent.clone(), assigned.incarnation);
        let entry = directory.agent(&agent);
        let holder = entry.filter(|entry| entry.incarnation == incarnation);
        if let (Some(holder), Some(request)) = (holder, self.task_request(assigned)) {
            // One that has just gone holds nothing any more.
            let _ = holder.port.execute(request, AnswerPort::new(|_| ()));
        }
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
            traceparent: self.record.request.traceparent.clone(),
            grant: self.grant.clone(),
            lineage,
            capability: planned.capability.clone(),
            flows: assigned.flows,
            params: assigned.params,
        })
    }

    /// Forgets an attempt that is over, so that its agent gets no cancellation.
    pub(super) fn settle(&mut self, task: usize, attempt: u32) {
        if let Some(at) = self.sent.iter().position(|sent| sent.is(task, attempt)) {
            self.sent.swap_remove(at);
        }
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
    key: TaskKey,
    capability: CapabilityName,
    agent: AgentId,
    task: usize,
    to: ActorRef<RequestMsg>,
    shared: Arc<Shared>,
    _in_flight: InFlight,
}

impl Awaited {
    /// Passes the answer to the request; `None` when the agent went away.
    fn arrived(self, response: Option<TaskResponse>) {
        let (outcome, calls) = self.read(response);
        let given_up = outcome.is_cancelled();
        let event = Event::Responded {
            task: self.task,
            attempt: self.key.attempt,
            outcome,
            calls,
        };
        if self.to.cast(RequestMsg::Happened(event)).is_err() && !given_up {
            self.shared.counters.late.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn read(&self, response: Option<TaskResponse>) -> (TaskOutcome, Vec<CallReport>) {
        let Self { key, agent, .. } = self;
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
                if response.task_id == key.task_id && response.attempt == key.attempt =>
            {
                calls = response.calls;
                // A remote agent may report any number of calls.
                calls.truncate(MAX_CALLS);
                response.outcome
            }
            // The agent's one answer was for another task, so this task has none.
            Some(_) => {
                self.shared.counters.foreign.fetch_add(1, Ordering::Relaxed);
                lost("answered for another task")
            }
        };
        self.shared
            .bus
            .publish(format_args!("task.response.{}", self.capability), || {
                let mut data = json!({"task": key.task_id, "attempt": key.attempt});
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
                task_event(event::TASK_RESPONSE, format!("/agent/{agent}"), key, data)
                    .about(self.capability.as_str())
            });
        (outcome, calls)
    }
}
