//! The form of [`Kind::Task2`] and [`Kind::Outcome2`](super::frame::Kind::Outcome2), in which tasks and answers cross. Pure.
//!
//! A body is the head's length (4 bytes, big-endian), the head, and unchanged JSON text: a task's params, a result. The head
//! is a map in MessagePack: readers ignore unknown fields, and a missing optional field has its default. So these kinds grow by
//! fields, where others need a new kind; the table of names is in [`super::frame`].
//!
//! [`Kind::Task2`]: super::frame::Kind::Task2

use std::borrow::Cow;
use std::sync::Arc;

use amcp_protocol::llm::Usage;
use amcp_protocol::task::{TaskOutcome, WIRE_VERSION};
use amcp_protocol::warrant::Sealed;
use amcp_protocol::{
    AgentId, Backing, CallReport, CapabilityName, EndedFlow, ErrorCode, Failure, Grant, Lineage,
    Payload, RequestId, TaskId, TaskRequest, TaskResponse, Warrant,
};
use amcp_registry::TaskKey;
use serde::{Deserialize, Serialize};

use crate::wire::{MAX_BYTES, WireError};

/// Longest head, in bytes: a thousand times an ordinary head; large values belong behind it.
const MAX_HEAD: usize = 256 * 1024;
/// Longest warrant, in bytes: one of 500 tasks.
pub(super) const MAX_WARRANT: usize = 64 * 1024;
/// Most roles of a warrant: four times as many as a user has. Without a bound 64 KB of empty names would take 1.5 MB of memory.
const MAX_WARRANT_ROLES: usize = 256;
/// Deepest nesting of a head, in levels: each level costs stack, even in a field that the reader ignores. A head of this build
/// has four levels; JSON in a field may have 128.
const MAX_DEPTH: usize = 256;

#[derive(Debug, Serialize, Deserialize)]
struct TaskHead {
    agent: AgentId,
    #[serde(default = "first_version")]
    version: u16,
    request_id: RequestId,
    task_id: TaskId,
    attempt: u32,
    deadline_ms: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    traceparent: Option<String>,
    /// Without a grant the task is done for an unknown user, who has no roles.
    #[serde(default)]
    grant: Arc<Grant>,
    lineage: Arc<Lineage>,
    /// The warrant of the node that accepted the request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    grant2: Option<Sealed>,
    capability: CapabilityName,
    /// How the flows of earlier attempts ended.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    flow_answers: Vec<EndedFlow>,
}

#[derive(Debug, Serialize, Deserialize)]
struct OutcomeHead<'a> {
    #[serde(default = "first_version")]
    version: u16,
    agent: AgentId,
    #[serde(default, skip_serializing_if = "<[_]>::is_empty")]
    calls: Cow<'a, [CallReport]>,
    #[serde(default, skip_serializing_if = "Usage::is_none")]
    usage: Usage,
    outcome: Cow<'a, str>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    failure: Option<Cow<'a, Failure>>,
}

/// The outcome of an attempt that needs a person's answer; its flow follows the head.
const FLOW_REQUIRED: &str = "flow_required";

const fn first_version() -> u16 {
    WIRE_VERSION
}

/// The body that asks an agent for a task.
///
/// # Errors
/// [`WireError::Unencodable`] past [`MAX_HEAD`] or [`MAX_BYTES`].
pub(super) fn task(agent: &AgentId, task: &TaskRequest) -> Result<Vec<u8>, WireError> {
    let head = TaskHead {
        agent: agent.clone(),
        version: task.version,
        request_id: task.request_id,
        task_id: task.task_id.clone(),
        attempt: task.attempt,
        deadline_ms: task.deadline_ms,
        traceparent: task.traceparent.clone(),
        grant: Arc::clone(&task.grant),
        lineage: Arc::clone(&task.lineage),
        grant2: task.lineage.backing.as_ref().and_then(|b| b.sealed()),
        capability: task.capability.clone(),
        flow_answers: task.flows.clone(),
    };
    write(&head, Some(&task.params))
}

/// Reads what [`task`] wrote.
///
/// # Errors
/// [`WireError::Malformed`].
pub(super) fn read_task(body: &[u8]) -> Result<(AgentId, TaskRequest), WireError> {
    let (mut head, params): (TaskHead, _) = read(body)?;
    if let Some(sealed) = head.grant2 {
        let backing = Some(Arc::new(Backing::of(sealed)));
        Arc::make_mut(&mut head.lineage).backing = backing;
    }
    let task = TaskRequest {
        version: head.version,
        request_id: head.request_id,
        task_id: head.task_id,
        attempt: head.attempt,
        deadline_ms: head.deadline_ms,
        traceparent: head.traceparent,
        grant: head.grant,
        lineage: head.lineage,
        capability: head.capability,
        flows: head.flow_answers,
        params: json(params)?,
    };
    Ok((head.agent, task))
}

/// The bytes of a warrant that its issuer signs.
///
/// # Errors
/// [`WireError::Unencodable`] past [`MAX_WARRANT`].
pub(super) fn warrant(warrant: &Warrant) -> Result<Vec<u8>, WireError> {
    let bytes = rmp_serde::to_vec_named(warrant);
    let bytes = bytes.map_err(|error| WireError::Unencodable(error.to_string()))?;
    if bytes.len() > MAX_WARRANT {
        let message = format!("a warrant of {} bytes is too long", bytes.len());
        return Err(WireError::Unencodable(message));
    }
    Ok(bytes)
}

/// Reads what [`warrant`] wrote.
///
/// # Errors
/// [`WireError::Malformed`].
pub(super) fn read_warrant(mut bytes: &[u8]) -> Result<Warrant, WireError> {
    let mut reader = rmp_serde::Deserializer::new(&mut bytes);
    reader.set_max_depth(MAX_DEPTH);
    let warrant = Warrant::deserialize(&mut reader);
    let warrant = warrant.map_err(|error| WireError::Malformed(error.to_string()))?;
    if !bytes.is_empty() || warrant.roles.len() > MAX_WARRANT_ROLES {
        let why = "the warrant has too many roles, or bytes behind it";
        return Err(WireError::Malformed(why.to_owned()));
    }
    Ok(warrant)
}

/// The body with a task's outcome. The entry's id names the task.
///
/// # Errors
/// [`WireError::Unencodable`] past [`MAX_HEAD`] or [`MAX_BYTES`].
pub(super) fn outcome(response: &TaskResponse) -> Result<Vec<u8>, WireError> {
    let outcome = match &response.outcome {
        TaskOutcome::Done(_) => "done",
        TaskOutcome::Failed(_) => "failed",
        TaskOutcome::Refused(_) => "refused",
        TaskOutcome::Partly(..) => "partly",
        TaskOutcome::FlowRequired(_) => FLOW_REQUIRED,
    };
    let failure = match &response.outcome {
        TaskOutcome::Done(_) | TaskOutcome::FlowRequired(_) => None,
        TaskOutcome::Failed(failure)
        | TaskOutcome::Refused(failure)
        | TaskOutcome::Partly(_, failure) => Some(Cow::Borrowed(failure)),
    };
    let head = OutcomeHead {
        version: response.version,
        agent: response.agent.clone(),
        calls: Cow::Borrowed(&response.calls),
        usage: response.usage,
        outcome: Cow::Borrowed(outcome),
        failure,
    };
    if let TaskOutcome::FlowRequired(flow) = &response.outcome {
        let flow = serde_json::to_value(flow);
        let flow = flow.map_err(|error| WireError::Unencodable(error.to_string()))?;
        return write(&head, Some(&flow.into()));
    }
    write(&head, response.outcome.result())
}

/// Reads the outcome of the attempt `key`. An outcome that only a newer build knows becomes a failure, since the work may have
/// been done.
///
/// # Errors
/// [`WireError::Malformed`].
pub(super) fn read_outcome(body: &[u8], key: TaskKey) -> Result<TaskResponse, WireError> {
    let (head, result): (OutcomeHead<'_>, _) = read(body)?;
    let failure = head.failure.map_or_else(
        || Failure::internal("the peer gives no reason"),
        Cow::into_owned,
    );
    let outcome = match &*head.outcome {
        "done" => TaskOutcome::Done(json(result)?),
        "failed" => TaskOutcome::Failed(failure),
        "refused" => TaskOutcome::Refused(failure),
        "partly" => TaskOutcome::Partly(json(result)?, failure),
        FLOW_REQUIRED => {
            TaskOutcome::FlowRequired(serde_json::from_slice(result).map_err(unreadable)?)
        }
        newer => {
            let message = format!(
                "the task ended as '{newer:.40}', an outcome that this build does not know"
            );
            TaskOutcome::Failed(Failure::new(ErrorCode::UnsupportedWire, message))
        }
    };
    Ok(TaskResponse {
        version: head.version,
        request_id: key.request_id,
        task_id: key.task_id,
        attempt: key.attempt,
        agent: head.agent,
        calls: head.calls.into_owned(),
        usage: head.usage,
        outcome,
    })
}

fn write<H: Serialize>(head: &H, json: Option<&Payload>) -> Result<Vec<u8>, WireError> {
    let mut body = Vec::with_capacity(512 + json.map_or(0, Payload::size));
    body.extend([0; 4]);
    rmp_serde::encode::write_named(&mut body, head)
        .map_err(|error| WireError::Unencodable(error.to_string()))?;
    let length = body.len() - 4;
    if let Some(json) = json {
        json.write_to(&mut body);
    }
    if length > MAX_HEAD || body.len() > MAX_BYTES {
        let message = format!(
            "a head of {length} bytes and {} in all are more than {MAX_HEAD} and {MAX_BYTES}",
            body.len()
        );
        return Err(WireError::Unencodable(message));
    }
    let length = u32::try_from(length).unwrap_or(u32::MAX);
    if let Some(place) = body.first_chunk_mut() {
        *place = length.to_be_bytes();
    }
    Ok(body)
}

/// The head of a body, and the bytes behind it.
fn read<'a, H: Deserialize<'a>>(body: &'a [u8]) -> Result<(H, &'a [u8]), WireError> {
    let malformed = |why: &str| WireError::Malformed(why.to_owned());
    let (length, rest) = body
        .split_first_chunk()
        .ok_or_else(|| malformed("the body has no head"))?;
    let length = usize::try_from(u32::from_be_bytes(*length)).unwrap_or(usize::MAX);
    if length > MAX_HEAD {
        return Err(malformed("the head is too long"));
    }
    let (head, rest) = rest
        .split_at_checked(length)
        .ok_or_else(|| malformed("the body ends in its head"))?;
    let mut reader = rmp_serde::Deserializer::from_read_ref(head);
    reader.set_max_depth(MAX_DEPTH);
    let head = H::deserialize(&mut reader).map_err(|error| malformed(&error.to_string()))?;
    Ok((head, rest))
}

fn json(bytes: &[u8]) -> Result<Payload, WireError> {
    Payload::from_json(bytes).map_err(unreadable)
}

fn unreadable(error: serde_json::Error) -> WireError {
    WireError::Malformed(error.to_string())
}

#[cfg(test)]
pub(super) mod tests {
    use amcp_protocol::flow::FlowEnd;
    use amcp_protocol::{FlowKind, FlowRequest, Step};
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    pub(in crate::link) fn asked() -> (AgentId, TaskRequest) {
        let task = TaskRequest {
            version: 1,
            request_id: "123e4567-e89b-12d3-a456-426614174999".parse().unwrap(),
            task_id: TaskId::new("t1").unwrap(),
            attempt: 2,
            deadline_ms: 1_500,
            traceparent: Some("00-a".into()),
            grant: Arc::new(Grant {
                user: Some("alice".into()),
                roles: vec!["finance".into()],
                flows: vec![FlowKind::Payment],
            }),
            lineage: Arc::new(Lineage {
                domains: vec!["any".into()],
                depth: 1,
                calls: 15,
                path: vec![Step {
                    task: TaskId::new("t0").unwrap(),
                    caller: Some(AgentId::new("caller@a").unwrap()),
                    part: Some([200; 32]),
                }],
                backing: Some(Arc::new(Backing::of(Sealed {
                    issuer: "a".parse().unwrap(),
                    warrant: [0, 255].into(),
                    signature: [200; 70].into(),
                }))),
            }),
            capability: CapabilityName::new("weather.get").unwrap(),
            flows: vec![EndedFlow {
                id: "t1.1".parse().unwrap(),
                asker: Some("a/t1/1".into()),
                kind: FlowKind::Payment,
                digest: "d".into(),
                end: FlowEnd::Approved,
                payload: json!({"receipt": [1, 2.5]}),
                reason: None,
            }],
            params: json!({"city": "Paris"}).into(),
        };
        (AgentId::new("sky@b").unwrap(), task)
    }

    pub(in crate::link) fn ended(outcome: TaskOutcome) -> TaskResponse {
        let (agent, task) = asked();
        TaskResponse {
            version: 1,
            request_id: task.request_id,
            task_id: task.task_id,
            attempt: task.attempt,
            calls: vec![CallReport {
                depth: 1,
                capability: task.capability,
                agent: Some(agent.clone()),
                elapsed_ms: 7,
                error: Some(ErrorCode::TaskTimeout),
            }],
            usage: Usage {
                prompt_tokens: 900,
                reply_tokens: 70,
                calls: 2,
            },
            agent,
            outcome,
        }
    }

    fn head() -> TaskHead {
        let (agent, request) = asked();
        read::<TaskHead>(&task(&agent, &request).unwrap())
            .unwrap()
            .0
    }

    #[test]
    fn tasks_and_every_end_cross_whole() {
        let (agent, request) = asked();
        let body = task(&agent, &request).unwrap();
        assert_eq!(read_task(&body), Ok((agent, request.clone())));
        assert!(
            body.ends_with(br#"{"city":"Paris"}"#),
            "the params' text is there as it is"
        );
        let failure = Failure::new(ErrorCode::AgentBusy, "no")
            .hint("h")
            .retry_after_ms(300);
        for outcome in [
            TaskOutcome::Done(json!({"x": [1, 2.5]}).into()),
            TaskOutcome::Failed(failure.clone()),
            TaskOutcome::Refused(failure.clone()),
            TaskOutcome::Partly(json!(null).into(), failure),
            TaskOutcome::FlowRequired(Box::new(
                FlowRequest::new(FlowKind::Payment, "Pay?").payload(json!({"eur": 12})),
            )),
        ] {
            let response = ended(outcome);
            let body = super::outcome(&response).unwrap();
            assert_eq!(read_outcome(&body, TaskKey::of(&request)), Ok(response));
        }
    }

    #[test]
    fn every_failure_crosses_whole_and_a_code_of_tomorrow_is_internal() {
        let key = || TaskKey::of(&asked().1);
        let read = |body: &[u8]| read_outcome(body, key()).unwrap().outcome;
        for &code in ErrorCode::ALL {
            let outcome = TaskOutcome::Failed(Failure::new(code, "x"));
            let body = super::outcome(&ended(outcome.clone())).unwrap();
            assert_eq!(read(&body), outcome);
        }
        let busy = TaskOutcome::Failed(Failure::new(ErrorCode::AgentBusy, "x"));
        let mut body = super::outcome(&ended(busy)).unwrap();
        let at = body.windows(10).position(|bytes| bytes == b"agent_busy");
        body[at.unwrap()] = b'A';
        assert_eq!(read(&body), TaskOutcome::Failed(Failure::internal("x")));
    }

    #[test]
    fn a_head_of_a_newer_build_is_read() {
        #[derive(Serialize)]
        struct Newer<H> {
            key: &'static str,
            epoch: u64,
            #[serde(flatten)]
            head: H,
            idle_ms: u64,
            progress: Value,
            of_tomorrow: Value,
        }
        fn newer<H>(head: H) -> Newer<H> {
            Newer {
                key: "k",
                epoch: 7,
                head,
                idle_ms: 9,
                progress: json!([0.5]),
                of_tomorrow: json!({"nobody": ["knows", {"this": null}]}),
            }
        }
        let (agent, request) = asked();
        let body = write(&newer(serde_json::Map::new()), Some(&request.params)).unwrap();
        assert!(read_task(&body).is_err(), "it lacks what makes a task");
        let body = write(&newer(head()), Some(&request.params)).unwrap();
        assert_eq!(read_task(&body), Ok((agent, request.clone())));
        let response = ended(TaskOutcome::Done(json!(1).into()));
        let written = super::outcome(&response).unwrap();
        let (head, _) = read::<OutcomeHead<'_>>(&written).unwrap();
        let body = write(&newer(head), Some(&json!(1).into())).unwrap();
        assert_eq!(read_outcome(&body, TaskKey::of(&request)), Ok(response));
    }

    #[test]
    fn what_is_optional_may_be_missing() {
        #[derive(Serialize)]
        struct Least<'a> {
            capability: &'a str,
            lineage: Lineage,
            deadline_ms: u64,
            attempt: u32,
            task_id: &'a str,
            request_id: RequestId,
            agent: &'a str,
        }
        let (agent, request) = asked();
        let least = Least {
            capability: "weather.get",
            lineage: Lineage {
                path: Vec::new(),
                backing: None,
                ..(*request.lineage).clone()
            },
            deadline_ms: 1_500,
            attempt: 2,
            task_id: "t1",
            request_id: request.request_id,
            agent: "sky@b",
        };
        let expected = TaskRequest {
            traceparent: None,
            grant: Arc::default(),
            lineage: Arc::new(least.lineage.clone()),
            flows: Vec::new(),
            ..request.clone()
        };
        let body = write(&least, Some(&request.params)).unwrap();
        assert_eq!(read_task(&body), Ok((agent, expected)));
    }

    #[test]
    fn a_warrant_of_a_newer_build_is_read_and_nothing_behind_it() {
        #[derive(Serialize)]
        struct Newer {
            epoch: u64,
            #[serde(flatten)]
            warrant: Warrant,
        }
        let of = |roles: usize| Warrant {
            issuer: "a".parse().unwrap(),
            request: asked().1.request_id,
            user: None,
            roles: vec![String::new(); roles],
            tasks: Vec::new(),
            issued_unix_ms: 1,
            lifetime_ms: 2,
        };
        let bytes = warrant(&of(256)).unwrap();
        assert_eq!(read_warrant(&bytes), Ok(of(256)));
        assert!(read_warrant(&[&bytes[..], b"\xc0"].concat()).is_err());
        assert!(read_warrant(&warrant(&of(257)).unwrap()).is_err());
        let (epoch, warrant) = (7, of(1));
        let newer = rmp_serde::to_vec_named(&Newer { epoch, warrant });
        assert_eq!(read_warrant(&newer.unwrap()), Ok(of(1)));
    }

    #[test]
    fn an_end_that_only_a_newer_build_knows_is_a_failure_and_no_refusal() {
        let (agent, request) = asked();
        let read = |outcome: &'static str| {
            let head = OutcomeHead {
                version: 1,
                agent: agent.clone(),
                calls: Cow::default(),
                // Not written, as by a build that knows no usage.
                usage: Usage::default(),
                outcome: Cow::Borrowed(outcome),
                failure: None,
            };
            let body = write(&head, None).unwrap();
            let read = read_outcome(&body, TaskKey::of(&request));
            read.map(|response| {
                assert!(response.usage.is_none());
                response.outcome
            })
        };
        let newer = read("of_tomorrow").unwrap();
        assert!(!newer.is_refused());
        assert_eq!(newer.failure().unwrap().code, ErrorCode::UnsupportedWire);
        assert!(read("refused").unwrap().is_refused());
        assert!(read("done").is_err(), "it has no result");
        assert!(read("flow_required").is_err(), "it has no flow");
    }

    #[test]
    fn heads_are_bounded_in_length_and_depth() {
        let (agent, mut request) = asked();
        request.grant = Arc::new(Grant {
            user: None,
            roles: vec!["x".repeat(MAX_HEAD)],
            flows: Vec::new(),
        });
        assert!(task(&agent, &request).is_err());
        // A map whose one field holds arrays in arrays.
        for depth in [MAX_DEPTH / 2, MAX_DEPTH * 2, MAX_HEAD - 100] {
            let head = [b"\x81\xa1x", &vec![0x91; depth][..], b"\xc0"].concat();
            let length = u32::try_from(head.len()).unwrap().to_be_bytes();
            assert!(read_task(&[&length, &head[..]].concat()).is_err());
        }
        // A text and an array that claim four thousand million bytes and elements.
        for claim in [b"\x81\xa5agent\xdb", b"\x81\xa5calls\xdd"] {
            let head = [&claim[..], &[0xff; 4]].concat();
            let body = [&[0, 0, 0, 12], &head[..]].concat();
            assert!(read_task(&body).is_err());
            assert!(read_outcome(&body, TaskKey::of(&request)).is_err());
        }
    }

    proptest! {
        #[test]
        fn invariant_garbage_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..512)) {
            let key = TaskKey::of(&asked().1);
            let length = u32::try_from(bytes.len()).unwrap().to_be_bytes();
            for body in [bytes.clone(), [&length, &bytes[..]].concat()] {
                let _ = read_task(&body);
                let _ = read_outcome(&body, key.clone());
            }
        }

        #[test]
        fn invariant_a_body_with_a_changed_byte_never_panics(
            at in any::<prop::sample::Index>(),
            byte in any::<u8>(),
            cut in any::<prop::sample::Index>(),
        ) {
            let (agent, request) = asked();
            let failure = Failure::new(ErrorCode::AgentBusy, "no");
            let response = ended(TaskOutcome::Partly(json!({"x": 1}).into(), failure));
            for mut body in [task(&agent, &request).unwrap(), super::outcome(&response).unwrap()] {
                let whole = body.len();
                body[at.index(whole)] = byte;
                let _ = read_task(&body);
                let _ = read_outcome(&body, TaskKey::of(&request));
                body.truncate(cut.index(whole));
                let _ = read_task(&body);
                let _ = read_outcome(&body, TaskKey::of(&request));
            }
        }
    }
}
