//! The forms of [`Kind::Task`] and [`Kind::Outcome`](super::frame::Kind::Outcome), for peers of the release before
//! [`Kind::Task2`]. The release after next deletes them. Pure.
//!
//! bincode reads fields by position, so these forms never change, however the types of `amcp-protocol` do. They know neither
//! refusals nor results in part nor flows. A refusal crosses as a failure with its code, which no longer says that the work did
//! not begin and thus errs on the safe side; a result in part crosses as a whole result; a flow crosses as the failure of an
//! asker that cannot answer it.
//!
//! [`Kind::Task`]: super::frame::Kind::Task
//! [`Kind::Task2`]: super::frame::Kind::Task2

use std::sync::Arc;

use amcp_protocol::capability::DELEGATES;
use amcp_protocol::task::TaskOutcome;
use amcp_protocol::{
    AgentId, CallReport, CapabilityName, ErrorCode, Failure, Grant, Lineage, Payload, RequestId,
    TaskId, TaskRequest, TaskResponse, flow,
};
use amcp_registry::TaskKey;
use serde::{Deserialize, Serialize};

use crate::wire::{self, WireError};

#[derive(Debug, Serialize, Deserialize)]
struct OldTask {
    agent: AgentId,
    version: u16,
    request_id: RequestId,
    task_id: TaskId,
    attempt: u32,
    deadline_ms: u64,
    traceparent: Option<String>,
    /// The user and the user's roles.
    grant: (Option<String>, Vec<String>),
    /// Domains, depth, calls.
    lineage: (Vec<String>, u8, u32),
    capability: CapabilityName,
    params: Payload,
}

#[derive(Debug, Serialize, Deserialize)]
struct OldResponse {
    version: u16,
    request_id: RequestId,
    task_id: TaskId,
    attempt: u32,
    agent: AgentId,
    calls: Vec<OldCall>,
    outcome: OldOutcome,
}

/// Depth, capability, agent, milliseconds, error.
type OldCall = (u8, CapabilityName, Option<AgentId>, u64, Option<ErrorCode>);

#[derive(Debug, Serialize, Deserialize)]
enum OldOutcome {
    Done(Payload),
    /// Code, message, hint, milliseconds after which to try again.
    Failed((ErrorCode, String, Option<String>, Option<u64>)),
}

/// The body that asks an agent for a task.
///
/// # Errors
/// [`WireError::Unencodable`], also for a delegated request: the peer would ask no person before an irreversible task.
pub(super) fn task(agent: AgentId, task: TaskRequest) -> Result<Vec<u8>, WireError> {
    if task.capability.as_str().starts_with(DELEGATES) {
        let message = "an orchestrator of the previous release asks no person before it acts";
        return Err(WireError::Unencodable(message.to_owned()));
    }
    let (grant, lineage) = (&task.grant, &task.lineage);
    wire::encode(&OldTask {
        agent,
        version: task.version,
        request_id: task.request_id,
        task_id: task.task_id,
        attempt: task.attempt,
        deadline_ms: task.deadline_ms,
        grant: (grant.user.clone(), grant.roles.clone()),
        lineage: (lineage.domains.clone(), lineage.depth, lineage.calls),
        traceparent: task.traceparent,
        capability: task.capability,
        params: task.params,
    })
}

/// Reads what [`task`] wrote.
///
/// # Errors
/// [`WireError::Malformed`].
pub(super) fn read_task(body: &[u8]) -> Result<(AgentId, TaskRequest), WireError> {
    let old: OldTask = wire::decode(body)?;
    let (user, roles) = old.grant;
    let (domains, depth, calls) = old.lineage;
    let task = TaskRequest {
        version: old.version,
        request_id: old.request_id,
        task_id: old.task_id,
        attempt: old.attempt,
        deadline_ms: old.deadline_ms,
        traceparent: old.traceparent,
        // Peers of that release know no flows.
        grant: Arc::new(Grant {
            user,
            roles,
            flows: Vec::new(),
        }),
        lineage: Arc::new(Lineage {
            domains,
            depth,
            calls,
        }),
        capability: old.capability,
        flows: Vec::new(),
        params: old.params,
    };
    Ok((old.agent, task))
}

/// The body with a task's outcome: the attempt, then the response.
///
/// # Errors
/// [`WireError::Unencodable`].
pub(super) fn outcome(response: TaskResponse) -> Result<Vec<u8>, WireError> {
    let mut body = response.attempt.to_be_bytes().to_vec();
    let call = |c: CallReport| (c.depth, c.capability, c.agent, c.elapsed_ms, c.error);
    let old = OldResponse {
        version: response.version,
        request_id: response.request_id,
        task_id: response.task_id,
        attempt: response.attempt,
        agent: response.agent,
        calls: response.calls.into_iter().map(call).collect(),
        outcome: match response.outcome {
            TaskOutcome::Done(result) | TaskOutcome::Partly(result, _) => OldOutcome::Done(result),
            TaskOutcome::Failed(f) | TaskOutcome::Refused(f) => {
                OldOutcome::Failed((f.code, f.message, f.hint, f.retry_after_ms))
            }
            TaskOutcome::FlowRequired(flow) => {
                let f = flow::unsupported(flow.kind);
                OldOutcome::Failed((f.code, f.message, f.hint, f.retry_after_ms))
            }
        },
    };
    wire::encode_into(&old, &mut body)?;
    Ok(body)
}

/// Reads the outcome of the attempt `key`.
///
/// # Errors
/// [`WireError::Malformed`].
pub(super) fn read_outcome(body: &[u8], key: TaskKey) -> Result<TaskResponse, WireError> {
    let body = body.get(4..).unwrap_or_default();
    let old: OldResponse = wire::decode(body)?;
    let call = |(depth, capability, agent, elapsed_ms, error): OldCall| CallReport {
        depth,
        capability,
        agent,
        elapsed_ms,
        error,
    };
    Ok(TaskResponse {
        version: old.version,
        request_id: key.request_id,
        task_id: key.task_id,
        attempt: key.attempt,
        agent: old.agent,
        calls: old.calls.into_iter().map(call).collect(),
        outcome: match old.outcome {
            OldOutcome::Done(result) => TaskOutcome::Done(result),
            OldOutcome::Failed((code, message, hint, retry_after_ms)) => {
                TaskOutcome::Failed(Failure {
                    code,
                    message,
                    hint,
                    retry_after_ms,
                })
            }
        },
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::super::forms::tests::{asked, ended};
    use super::*;

    /// Written by the last build that knew no other form.
    const TASK: &str = "05736b7940620110123e4567e89b12d3a45642661417499902743102fbdc05010430302d610105616c69636501076669\
                        6e616e63650103616e79010f0b776561746865722e676574107b2263697479223a225061726973227d";
    const DONE: &str = "000000020110123e4567e89b12d3a4564266141749990274310205736b79406201010b776561746865722e6765740105736b\
                        79406207010c7461736b5f74696d656f757400077b2278223a317d";
    const FAILED: &str = "000000020110123e4567e89b12d3a4564266141749990274310205736b79406201010b776561746865722e6765740105736b\
                          79406207010c7461736b5f74696d656f7574010a6167656e745f62757379026e6f01016801fb2c01";

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    #[test]
    fn a_whole_request_does_not_go_to_an_orchestrator_that_asks_nobody() {
        let (agent, mut request) = asked();
        request.capability = CapabilityName::new("orchestrate.finance").unwrap();
        assert!(task(agent, request).is_err());
    }

    #[test]
    fn the_forms_are_those_of_the_last_release() {
        let (agent, request) = asked();
        let body = task(agent.clone(), request.clone()).unwrap();
        assert_eq!(hex(&body), TASK);
        // Peers of that release know no flows.
        let Grant { user, roles, .. } = Grant::clone(&request.grant);
        let flows = Vec::new();
        let known = TaskRequest {
            grant: Arc::new(Grant { user, roles, flows }),
            flows: Vec::new(),
            ..request.clone()
        };
        assert_eq!(read_task(&body), Ok((agent, known)));
        let failure = Failure::new(ErrorCode::AgentBusy, "no")
            .hint("h")
            .retry_after_ms(300);
        let result = Payload::from(json!({"x": 1}));
        let (done, failed) = (
            TaskOutcome::Done(result.clone()),
            TaskOutcome::Failed(failure.clone()),
        );
        for (outcome, written, read) in [
            (done.clone(), DONE, &done),
            (TaskOutcome::Partly(result, failure.clone()), DONE, &done),
            (failed.clone(), FAILED, &failed),
            (TaskOutcome::Refused(failure), FAILED, &failed),
        ] {
            let body = super::outcome(ended(outcome)).unwrap();
            assert_eq!(hex(&body), written);
            let response = read_outcome(&body, TaskKey::of(&request));
            assert_eq!(response, Ok(ended(read.clone())));
        }
    }

    proptest! {
        #[test]
        fn invariant_garbage_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..512)) {
            let _ = read_task(&bytes);
            let _ = read_outcome(&bytes, TaskKey::of(&asked().1));
        }
    }
}
