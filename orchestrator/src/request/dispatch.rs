//! Tasks on their way: to an agent that the directory offers, and back as one message to the request's actor.
//!
//! Does not retry; a task that finds no agent is told to the machine like any other failure.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use amcp_plan::Event;
use amcp_protocol::task::{TaskOutcome, WIRE_VERSION, calls_used};
use amcp_protocol::{
    AgentId, CallBudget, CallReport, CapabilityName, CloudEvent, ErrorCode, Failure, Lineage,
    TaskRequest, TaskResponse, event,
};
use amcp_registry::bus::unix_ms;
use amcp_registry::{AgentPort, AnswerPort, InFlight, TaskKey};
use ractor::ActorRef;
use serde_json::{Value, json};

use super::{RequestMsg, RequestState};
use crate::SOURCE;
use crate::shared::Shared;

/// Most calls of one task that a request keeps and shows: those that its budget allows, and as many refused ones.
const MAX_CALLS: usize = 2 * Lineage::CALLS as usize;

/// An attempt that an agent has.
pub(super) struct Sent {
    task: usize,
    key: TaskKey,
    port: AgentPort,
    /// Calls of the request's budget that it may cause.
    given: u32,
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

    /// Tells the agent that nobody wants the result any more.
    pub(super) fn cancel(self) {
        self.port.cancel(self.key);
    }
}

impl RequestState {
    /// Sends an attempt to an agent; returns what happened at once.
    pub(super) fn dispatch(
        &mut self,
        myself: &ActorRef<RequestMsg>,
        (task, attempt): (usize, u32),
        params: Value,
        (time, avoid): (Duration, &[AgentId]),
    ) -> Option<Event> {
        let refused = |code, message: String| {
            Some(Event::Responded {
                task,
                attempt,
                outcome: TaskOutcome::Refused(Failure::new(code, message)),
                calls: Vec::new(),
            })
        };
        let mut request = self.task_request(task, attempt, params, time)?;
        let directory = self.shared.registry.load();
        let Some(entry) = directory.choose(&request.capability, avoid, fastrand::u64(..)) else {
            return refused(
                ErrorCode::NoAgent,
                format!("no agent offers {} at the moment", request.capability),
            );
        };
        let agent = entry.id().clone();
        let Some(given) = share(&mut self.budget, &mut request) else {
            let message = format!("no call is left for {}", request.capability);
            return refused(ErrorCode::BudgetExceeded, message);
        };
        self.task_request_event(&request, &agent);
        let key = TaskKey::of(&request);
        let awaited = Awaited {
            key: key.clone(),
            capability: request.capability.clone(),
            agent: agent.clone(),
            task,
            to: myself.clone(),
            shared: self.shared.clone(),
            _in_flight: entry.begin(),
        };
        let answer = AnswerPort::new(move |response| awaited.arrived(response));
        if let Err(failure) = entry.port.execute(request, answer) {
            if let Some(budget) = &mut self.budget {
                budget.give_back(given + 1);
            }
            return refused(failure.code, format!("{agent}: {failure}"));
        }
        self.sent.push(Sent {
            task,
            key,
            port: entry.port.clone(),
            given,
        });
        Some(Event::Sent {
            task,
            attempt,
            agent,
        })
    }

    fn task_request(
        &self,
        task: usize,
        attempt: u32,
        params: Value,
        time: Duration,
    ) -> Option<TaskRequest> {
        let planned = self.machine.task(task)?;
        Some(TaskRequest {
            version: WIRE_VERSION,
            request_id: self.record.id,
            task_id: planned.id.clone(),
            attempt,
            deadline_ms: u64::try_from(time.as_millis()).unwrap_or(u64::MAX).max(1),
            traceparent: self.record.request.traceparent.clone(),
            grant: self.grant.clone(),
            lineage: self.lineage.clone(),
            capability: planned.capability().clone(),
            params,
        })
    }

    /// An attempt is over: its place is free, and so is what it left of the request's budget.
    pub(super) fn settle(
        &mut self,
        (task, attempt): (usize, u32),
        outcome: &TaskOutcome,
        calls: &[CallReport],
    ) {
        let Some(at) = self.sent.iter().position(|sent| sent.is(task, attempt)) else {
            return;
        };
        let Sent { given, .. } = self.sent.swap_remove(at);
        let Some(budget) = &mut self.budget else {
            return;
        };
        match outcome {
            TaskOutcome::Refused(_) => budget.give_back(given + 1),
            // What a lost agent called before nobody knows.
            TaskOutcome::Failed(failure) if failure.code.is_agent_death() => {}
            TaskOutcome::Done(_) | TaskOutcome::Partly(..) | TaskOutcome::Failed(_) => {
                budget.give_back(given - calls_used(given, calls));
            }
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

/// Gives a task of a delegated request its share of what the request may cause; another's is the same for each task.
fn share(budget: &mut Option<CallBudget>, request: &mut TaskRequest) -> Option<u32> {
    let Some(budget) = budget else {
        return Some(0);
    };
    let given = budget.take()?;
    request.lineage = Arc::new(Lineage {
        calls: given,
        ..Lineage::clone(&request.lineage)
    });
    Some(given)
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

/// Whose answer is waited for, to what, by whom.
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
    /// Hands an answer to the request; none came when the agent went away.
    fn arrived(self, response: Option<TaskResponse>) {
        let (outcome, calls) = self.read(response);
        let given_up = outcome.is_cancelled();
        let message = RequestMsg::Responded {
            task: self.task,
            attempt: self.key.attempt,
            outcome,
            calls,
        };
        if self.to.cast(message).is_err() && !given_up {
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
                // An agent elsewhere may say anything.
                calls.truncate(MAX_CALLS);
                response.outcome
            }
            // It has spent its one answer on another task: for this one it is lost.
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
                    data.insert("result".to_owned(), result.clone());
                }
                let lacks = match &outcome {
                    TaskOutcome::Partly(_, failure)
                    | TaskOutcome::Failed(failure)
                    | TaskOutcome::Refused(failure) => Some(failure),
                    TaskOutcome::Done(_) => None,
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
