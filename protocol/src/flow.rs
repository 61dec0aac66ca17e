//! Flows: a task's question to a person, and the person's answer.
//!
//! Does not ask the person: the request's machine opens a flow, and the gateway and `amcp ask` show it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::error::{ErrorCode, Failure};
use crate::id::{CapabilityName, FlowId, TaskId};
use crate::payload::{self, Payload};

/// Longest prompt, in bytes: a paragraph that a person reads before a decision.
pub const MAX_PROMPT_BYTES: usize = 2 * 1024;
/// Largest payload of a flow or of its answer, in bytes of JSON: a signed payment or mandate takes a few thousand.
pub const MAX_PAYLOAD_BYTES: usize = 16 * 1024;
/// Longest name of an asker, in bytes: a request's id, a task's id, a number and a question take 129.
const MAX_ASKER_BYTES: usize = 160;
/// How long a flow stays open by default, in milliseconds: until the same time tomorrow.
pub const DEFAULT_EXPIRY_MS: u64 = 24 * 60 * 60 * 1_000;
/// Longest life of a flow, in milliseconds: a week.
pub const MAX_EXPIRY_MS: u64 = 7 * DEFAULT_EXPIRY_MS;

/// The kind of a question to a person (`urn:a2a:orchestrator:v1` names the first three).
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
#[derive(strum::Display, strum::IntoStaticStr, strum::VariantArray)]
#[strum(serialize_all = "snake_case")]
pub enum FlowKind {
    /// A yes to the task that is about to be done.
    Confirmation,
    /// A payment.
    Payment,
    /// Authority to act in the person's name.
    Delegation,
    /// A login at a service outside the mesh.
    Oauth,
}

impl FlowKind {
    /// All kinds.
    pub const ALL: &'static [Self] = <Self as strum::VariantArray>::VARIANTS;

    /// The kind as it is serialised.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        self.into()
    }

    /// The kind in a sentence for people; it takes the article "a".
    #[must_use]
    pub fn noun(self) -> &'static str {
        match self {
            Self::Confirmation | Self::Payment | Self::Delegation => self.as_str(),
            Self::Oauth => "login",
        }
    }
}

impl std::str::FromStr for FlowKind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let known = Self::ALL.iter().copied().find(|kind| kind.as_str() == text);
        known.ok_or_else(|| {
            format!("'{text:.40}' is none of confirmation, payment, delegation, oauth")
        })
    }
}

/// The task that the person decides about, with values in place of references.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Subject {
    /// The capability of the task.
    pub capability: CapabilityName,
    /// The params of the task.
    pub params: Payload,
}

/// A question with which a specialist ends an attempt; the orchestrator sends the task again with the person's answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FlowRequest {
    /// The kind of the question.
    pub kind: FlowKind,
    /// The question in words for the person, at most [`MAX_PROMPT_BYTES`].
    pub prompt: String,
    /// Data that the kind needs besides the words, such as an amount or an address; null or at most [`MAX_PAYLOAD_BYTES`].
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub payload: Value,
    /// How long the question stands, in milliseconds; at most [`MAX_EXPIRY_MS`].
    pub expires_ms: u64,
    /// Whether the asker holds half-done work, so that no other agent can go on with it. Carriers of whole requests set it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub held: bool,
    /// The asker's address for the answer. The asker's shell fills it in.
    #[serde(default)]
    pub asker: String,
    /// The asker's task. The sender of that task fills it in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<Subject>,
}

impl FlowRequest {
    /// A question that stands for [`DEFAULT_EXPIRY_MS`], without a payload.
    #[must_use]
    pub fn new(kind: FlowKind, prompt: impl Into<String>) -> Self {
        Self {
            kind,
            prompt: prompt.into(),
            payload: Value::Null,
            expires_ms: DEFAULT_EXPIRY_MS,
            held: false,
            asker: String::new(),
            subject: None,
        }
    }

    /// Adds the data that the kind needs besides the words.
    #[must_use]
    pub fn payload(self, payload: Value) -> Self {
        Self { payload, ..self }
    }

    /// Sets how long the question stands, in milliseconds.
    #[must_use]
    pub fn expires_ms(self, expires_ms: u64) -> Self {
        Self { expires_ms, ..self }
    }

    /// Distinguishes an asker's questions: the first 16 hexadecimal digits of the SHA-256 of kind, prompt and payload.
    #[must_use]
    pub fn question(&self) -> String {
        let mut digest = hex(&json!([self.kind, self.prompt, self.payload]));
        digest.truncate(16);
        digest
    }

    /// Checks the bounds of an agent's question.
    ///
    /// # Errors
    /// [`ErrorCode::TaskFailed`]: the specialist that asks is at fault.
    pub fn check(&self) -> Result<(), Failure> {
        let wrong = |what: String| Err(Failure::new(ErrorCode::TaskFailed, what));
        let length = self.prompt.len();
        if self.prompt.trim().is_empty() || length > MAX_PROMPT_BYTES {
            return wrong(format!(
                "a flow's prompt has 1 to {MAX_PROMPT_BYTES} bytes, not {length}"
            ));
        }
        if too_large(&self.payload) {
            return wrong(format!(
                "a flow's payload has more than {MAX_PAYLOAD_BYTES} bytes"
            ));
        }
        if !(1..=MAX_EXPIRY_MS).contains(&self.expires_ms) {
            return wrong(format!(
                "a flow stays open for 1 to {MAX_EXPIRY_MS} ms, not {}",
                self.expires_ms
            ));
        }
        let name = self.asker.len();
        if !(1..=MAX_ASKER_BYTES).contains(&name) {
            return wrong(format!(
                "a flow's asker has a name of 1 to {MAX_ASKER_BYTES} bytes, not {name}"
            ));
        }
        Ok(())
    }
}

fn too_large(payload: &Value) -> bool {
    payload::size(payload, MAX_PAYLOAD_BYTES).is_none()
}

/// An open question to a person.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Flow {
    /// Unique within the request.
    pub id: FlowId,
    /// The task that waits.
    pub task: TaskId,
    /// The kind of the question.
    pub kind: FlowKind,
    /// The question in words.
    pub prompt: String,
    /// Data that the kind needs besides the words; null without any.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub payload: Value,
    /// The task that the person decides about.
    #[serde(flatten)]
    pub subject: Subject,
    /// SHA-256 of kind, prompt, payload and subject, in hexadecimal: an answer repeats it, which ties the decision to the question
    /// that the person saw.
    pub digest: String,
    /// How long the flow stays open from its opening, in milliseconds.
    pub expires_ms: u64,
    /// [`FlowRequest::asker`]; none when the orchestrator asks before it dispatches the task.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asker: Option<String>,
}

impl Flow {
    /// Opens a flow for a task.
    #[must_use]
    pub fn open((id, task): (FlowId, TaskId), request: FlowRequest, subject: Subject) -> Self {
        let FlowRequest {
            kind,
            prompt,
            payload,
            expires_ms,
            held: _,
            asker,
            subject: asked_about,
        } = request;
        let subject = asked_about.unwrap_or(subject);
        Self {
            digest: hex(&json!([kind, prompt, payload, subject])),
            asker: Some(asker).filter(|asker| !asker.is_empty()),
            id,
            task,
            kind,
            prompt,
            payload,
            subject,
            expires_ms,
        }
    }

    /// Checks that an answer belongs to this flow as the person saw it.
    ///
    /// # Errors
    /// [`ErrorCode::FlowClosed`] when the answer repeats another digest, [`ErrorCode::BadRequest`] when it is too large.
    pub fn check(&self, answer: &FlowAnswer) -> Result<(), Failure> {
        if answer.digest != self.digest {
            let message = format!(
                "the answer belongs to another question than the one that flow {} asks",
                self.id
            );
            let hint = "read the flow again, and repeat the digest that it has now";
            return Err(Failure::new(ErrorCode::FlowClosed, message).hint(hint));
        }
        let reason = answer.reason.as_ref().map_or(0, String::len);
        if too_large(&answer.payload) || reason > MAX_PROMPT_BYTES {
            let message = format!(
                "the answer has a payload of more than {MAX_PAYLOAD_BYTES} or a reason of more than {MAX_PROMPT_BYTES} bytes"
            );
            return Err(Failure::new(ErrorCode::BadRequest, message).hint("shorten it"));
        }
        Ok(())
    }

    /// The request that puts this flow before another orchestrator's user; the answer comes back under the name `asker`.
    #[must_use]
    pub fn passed_on(self, asker: String) -> FlowRequest {
        FlowRequest {
            kind: self.kind,
            prompt: self.prompt,
            payload: self.payload,
            expires_ms: self.expires_ms,
            held: true,
            asker,
            subject: Some(self.subject),
        }
    }
}

/// SHA-256 in hexadecimal.
fn hex(value: &Value) -> String {
    let digest = Sha256::digest(value.to_string());
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The person's decision.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Decision {
    /// The task goes on.
    Approve,
    /// The task does not go on.
    Deny,
}

/// A person's answer to a flow: the body of `POST /requests/{id}/flows/{flow_id}`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FlowAnswer {
    /// The decision.
    pub decision: Decision,
    /// [`Flow::digest`] of the flow that the person decided about.
    pub digest: String,
    /// Data that the asker needs, such as a proof of payment; null or at most [`MAX_PAYLOAD_BYTES`].
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub payload: Value,
    /// Why the person denied, in words for the reader of the request's answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// How a flow ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[derive(strum::Display)]
#[strum(serialize_all = "snake_case")]
pub enum FlowEnd {
    /// The person approved.
    Approved,
    /// The person denied.
    Denied,
    /// No answer came in time.
    Expired,
    /// The task or its request ended first.
    Withdrawn,
}

impl FlowEnd {
    /// The end that an answer brings; without an answer the flow expired.
    #[must_use]
    pub const fn of(answer: Option<&FlowAnswer>) -> Self {
        match answer {
            None => Self::Expired,
            Some(answer) => match answer.decision {
                Decision::Approve => Self::Approved,
                Decision::Deny => Self::Denied,
            },
        }
    }
}

/// The end of a flow, as it travels with the task that asked for it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EndedFlow {
    /// The flow.
    pub id: FlowId,
    /// [`Flow::asker`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asker: Option<String>,
    /// The kind of the question.
    pub kind: FlowKind,
    /// [`Flow::digest`].
    pub digest: String,
    /// How it ended.
    pub end: FlowEnd,
    /// [`FlowAnswer::payload`].
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub payload: Value,
    /// [`FlowAnswer::reason`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

impl EndedFlow {
    /// Ends a flow, by an answer or by expiry.
    #[must_use]
    pub fn of(flow: Flow, answer: Option<FlowAnswer>) -> Self {
        let end = FlowEnd::of(answer.as_ref());
        let (payload, reason) = answer.map_or((Value::Null, None), |a| (a.payload, a.reason));
        Self {
            id: flow.id,
            asker: flow.asker,
            kind: flow.kind,
            digest: flow.digest,
            end,
            payload,
            reason,
        }
    }

    /// The news for an agent that holds a task's work: nobody waits for the rest, whatever became of its question.
    #[must_use]
    pub fn withdrawn(task: &TaskId) -> Self {
        Self {
            id: FlowId::of(task, 0),
            asker: None,
            kind: FlowKind::Confirmation,
            digest: String::new(),
            end: FlowEnd::Withdrawn,
            payload: Value::Null,
            reason: None,
        }
    }

    /// The failure of the task that asked; none after an approval.
    #[must_use]
    pub fn failure(&self) -> Option<Failure> {
        let noun = self.kind.noun();
        let (code, message, hint) = match self.end {
            FlowEnd::Approved => return None,
            FlowEnd::Denied => (
                ErrorCode::FlowDenied,
                match &self.reason {
                    Some(reason) => format!("the {noun} was denied: {reason}"),
                    None => format!("the {noun} was denied"),
                },
                None,
            ),
            FlowEnd::Expired | FlowEnd::Withdrawn => (
                ErrorCode::FlowExpired,
                format!("nobody answered the {noun} in time"),
                Some("ask again, and answer before it expires"),
            ),
        };
        let failure = Failure::new(code, message);
        Some(match hint {
            Some(hint) => failure.hint(hint),
            None => failure,
        })
    }
}

/// The failure of a task that needs a flow which its asker cannot answer.
#[must_use]
pub fn unsupported(kind: FlowKind) -> Failure {
    let noun = kind.noun();
    let message = format!("the task needs a {noun}, which the asker cannot give");
    Failure::new(ErrorCode::FlowUnsupported, message)
        .hint("ask from where a person can answer: `amcp ask` in a terminal (`--yes` approves confirmations), or a client that lists the kind in \"flows\"")
}

/// The failure of an answer to a flow that is not open.
#[must_use]
pub fn closed(id: &FlowId, end: Option<FlowEnd>) -> Failure {
    let (code, message) = match end {
        None => (ErrorCode::NotFound, format!("there is no open flow {id}")),
        Some(FlowEnd::Expired) => (ErrorCode::FlowExpired, format!("flow {id} has expired")),
        Some(end) => (ErrorCode::FlowClosed, format!("flow {id} is already {end}")),
    };
    Failure::new(code, message).hint("GET /requests/{id} lists the open flows")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flow(params: Value) -> Flow {
        let params = params.into();
        let request =
            FlowRequest::new(FlowKind::Payment, "Pay 12 EUR?").payload(json!({"eur": 12}));
        let capability = CapabilityName::new("shop.buy").unwrap();
        let ids = (FlowId::new("t1.1").unwrap(), TaskId::new("t1").unwrap());
        Flow::open(ids, request, Subject { capability, params })
    }

    fn approval(flow: &Flow) -> FlowAnswer {
        FlowAnswer {
            decision: Decision::Approve,
            digest: flow.digest.clone(),
            payload: Value::Null,
            reason: None,
        }
    }

    #[test]
    fn an_answer_is_to_what_was_shown() {
        let shown = flow(json!({"book": 1}));
        let answer = approval(&shown);
        assert_eq!(shown.check(&answer), Ok(()));
        for other in [
            flow(json!({"book": 2})),
            Flow::open(
                (shown.id.clone(), shown.task.clone()),
                FlowRequest::new(FlowKind::Payment, "Pay 12 EUR?").payload(json!({"eur": 1200})),
                shown.subject.clone(),
            ),
        ] {
            let refused = other.check(&answer).unwrap_err();
            assert_eq!(refused.code, ErrorCode::FlowClosed);
        }
    }

    #[test]
    fn prompts_payloads_askers_and_expiry_are_bounded() {
        let named = |asker: &str, prompt: &str| FlowRequest {
            asker: asker.to_owned(),
            ..FlowRequest::new(FlowKind::Confirmation, prompt)
        };
        let ask = |prompt: &str| named("r/t1/1", prompt);
        assert_eq!(ask("Go on?").check(), Ok(()));
        for wrong in [
            ask(" "),
            named("", "Go on?"),
            named(&"x".repeat(MAX_ASKER_BYTES + 1), "Go on?"),
            ask(&"x".repeat(MAX_PROMPT_BYTES + 1)),
            ask("Go on?").payload(json!("x".repeat(MAX_PAYLOAD_BYTES))),
            ask("Go on?").expires_ms(0),
            ask("Go on?").expires_ms(MAX_EXPIRY_MS + 1),
        ] {
            assert_eq!(wrong.check().unwrap_err().code, ErrorCode::TaskFailed);
        }
        let shown = flow(json!({}));
        let mut answer = approval(&shown);
        answer.payload = json!("x".repeat(MAX_PAYLOAD_BYTES));
        assert_eq!(
            shown.check(&answer).unwrap_err().code,
            ErrorCode::BadRequest
        );
    }

    #[test]
    fn a_flow_is_flat_json_and_keeps_its_digest_where_it_is_passed_on() {
        let shown = flow(json!({"book": 1}));
        let text = serde_json::to_value(&shown).unwrap();
        assert_eq!(text["capability"], "shop.buy");
        assert_eq!(text["params"], json!({"book": 1}));
        assert_eq!(serde_json::from_value::<Flow>(text).unwrap(), shown);
        let other = Subject {
            capability: CapabilityName::new("orchestrate.shop").unwrap(),
            params: json!({"query": "buy it"}).into(),
        };
        let ids = (FlowId::new("t7.1").unwrap(), TaskId::new("t7").unwrap());
        let outer = Flow::open(ids, shown.clone().passed_on("inner/t1.1".into()), other);
        assert_eq!((outer.digest, outer.subject), (shown.digest, shown.subject));
        assert_eq!(outer.asker.as_deref(), Some("inner/t1.1"));
    }
}
