//! Tasks on their way: to an agent that the directory offers, and back as one message to the request's actor.
//!
//! Does not retry; a task that finds no agent is told to the machine like any other failure.

use std::sync::atomic::Ordering;
use std::time::Duration;

use amcp_plan::Event;
use amcp_protocol::task::WIRE_VERSION;
use amcp_protocol::{
    AgentId, CapabilityName, CloudEvent, ErrorCode, Failure, TaskRequest, TaskResponse, event,
};
use amcp_registry::bus::unix_ms;
use amcp_registry::{AgentMsg, AgentPort, TaskKey, Wire};
use ractor::ActorRef;
use serde_json::{Value, json};
use tokio::sync::oneshot;

use super::{RequestMsg, RequestState, is_given_up};
use crate::SOURCE;
use crate::shared::Shared;

/// An attempt that an agent has.
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
                outcome: Err(Failure::new(code, message)),
            })
        };
        let request = self.task_request(task, attempt, params, time)?;
        let directory = self.shared.registry.load();
        let Some(choice) = directory.choose(&request.capability, avoid, fastrand::u64(..)) else {
            return refused(
                ErrorCode::NoAgent,
                format!("no agent offers {} at the moment", request.capability),
            );
        };
        let (agent, port, in_flight) = (
            choice.entry.id().clone(),
            choice.entry.port.clone(),
            choice.entry.begin(),
        );
        self.task_request_event(&request, &agent);
        let awaited = Awaited {
            key: key_of(&request),
            capability: request.capability.clone(),
            agent: agent.clone(),
        };
        self.sent.push(Sent {
            task,
            key: awaited.key.clone(),
            port: port.clone(),
        });
        let (answer, answered) = oneshot::channel();
        if port
            .send_message(AgentMsg::Execute(Wire::new(request), answer.into()))
            .is_err()
        {
            return refused(
                ErrorCode::AgentUnavailable,
                format!("{agent} has just stopped"),
            );
        }
        let (to, shared) = (myself.clone(), self.shared.clone());
        tokio::spawn(async move {
            let outcome = awaited.read(answered.await.ok(), &shared);
            drop(in_flight);
            let given_up = is_given_up(&outcome);
            let message = RequestMsg::Responded {
                task,
                attempt,
                outcome,
            };
            if to.cast(message).is_err() && !given_up {
                shared.counters.late.fetch_add(1, Ordering::Relaxed);
            }
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
            capability: planned.capability().clone(),
            params,
        })
    }

    pub(super) fn abandon(&mut self, task: usize, attempt: u32) {
        if let Some(at) = self.sent.iter().position(|sent| sent.is(task, attempt)) {
            let Sent { key, port, .. } = self.sent.swap_remove(at);
            // An agent that is gone works on nothing.
            let _ = port.send_message(AgentMsg::Cancel(Wire::new(key)));
        }
    }

    fn task_request_event(&self, request: &TaskRequest, agent: &AgentId) {
        self.shared.bus.publish(format_args!("task.request.{}", request.capability), || {
            let data = json!({"task": request.task_id, "attempt": request.attempt, "agent": agent, "params": request.params});
            task_event(event::TASK_REQUEST, SOURCE.to_owned(), &key_of(request), data).about(request.capability.as_str())
        });
    }
}

fn key_of(request: &TaskRequest) -> TaskKey {
    TaskKey {
        request_id: request.request_id,
        task_id: request.task_id.clone(),
        attempt: request.attempt,
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

/// Whose answer is waited for, to what.
struct Awaited {
    key: TaskKey,
    capability: CapabilityName,
    agent: AgentId,
}

impl Awaited {
    /// What an answer means; none came when the agent dropped the port.
    fn read(&self, answer: Option<Wire<TaskResponse>>, shared: &Shared) -> Result<Value, Failure> {
        let Self { key, agent, .. } = self;
        let lost = |what: &str| Failure::new(ErrorCode::AgentLost, format!("{agent} {what}"));
        let outcome = match answer.map(Wire::open) {
            None => Err(lost("went away with the task")),
            Some(Err(error)) => Err(Failure::new(
                ErrorCode::UpstreamFailed,
                format!("the answer of {agent}: {error}"),
            )),
            Some(Ok(response))
                if response.task_id == key.task_id && response.attempt == key.attempt =>
            {
                response.outcome.into()
            }
            // It has spent its one answer on another task: for this one it is lost.
            Some(Ok(_)) => {
                shared.counters.foreign.fetch_add(1, Ordering::Relaxed);
                Err(lost("answered for another task"))
            }
        };
        shared
            .bus
            .publish(format_args!("task.response.{}", self.capability), || {
                let data = match &outcome {
                    Ok(result) => {
                        json!({"task": key.task_id, "attempt": key.attempt, "result": result})
                    }
                    Err(error) => {
                        json!({"task": key.task_id, "attempt": key.attempt, "error": error})
                    }
                };
                task_event(event::TASK_RESPONSE, format!("/agent/{agent}"), key, data)
                    .about(self.capability.as_str())
            });
        outcome
    }
}
