//! CloudEvents 1.0 in structured JSON, strictly: the events that the mesh emits and accepts.
//!
//! Does not read the clock or make ids: the emitter of an event passes both.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::{Map, Value};

use crate::id::RequestId;
use crate::request::{Answer, AnswerPiece, Progress};

/// A request was accepted.
pub const USER_REQUEST: &str = "user.request";
/// An orchestrator sent an agent a task.
pub const TASK_REQUEST: &str = "task.request";
/// An agent answered a task.
pub const TASK_RESPONSE: &str = "task.response";
/// A request got its one final response.
pub const USER_RESPONSE: &str = "user.response";
/// An agent joined.
pub const AGENT_REGISTER: &str = "agent.register";
/// An agent left.
pub const AGENT_DEREGISTER: &str = "agent.deregister";
/// A subscriber was too slow and lost its subscription.
pub const SUBSCRIPTION_LOST: &str = "subscription.lost";

/// Why the mesh does not take a text as a CloudEvent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EventError {
    /// The text is not a JSON object.
    #[error("not a JSON object: {0}")]
    NotJson(String),
    /// A required attribute is missing or empty.
    #[error("the attribute '{0}' is missing or empty")]
    Missing(&'static str),
    /// An attribute has a value that its type does not allow.
    #[error("the attribute '{name}' {reason}")]
    Value {
        /// The attribute, as JSON spells it.
        name: String,
        /// Completes the sentence "the attribute NAME …".
        reason: String,
    },
    /// An attribute's name breaks the rule: lower-case letters and digits, at most 20 characters.
    #[error("'{0}' is not a legal attribute name: use only a-z and 0-9, at most 20 characters")]
    Name(String),
}

/// An event. Serialises as structured JSON with the extensions beside the attributes.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CloudEvent {
    /// Always `1.0`.
    pub specversion: &'static str,
    /// Unique together with `source`.
    pub id: String,
    /// The origin: a URI reference such as `/agent/orchestrator`.
    pub source: String,
    /// The kind of event, such as `task.request`.
    #[serde(rename = "type")]
    pub event_type: String,
    /// For tasks, the capability.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// The time of the event, RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time: Option<String>,
    /// Media type of `data`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub datacontenttype: Option<String>,
    /// The schema of `data`, as a URI.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dataschema: Option<String>,
    /// Extension attributes: `correlationid` (the request), `causationid` (the event that caused this one),
    /// `traceparent` and others. Values are strings, booleans or 32-bit integers.
    #[serde(flatten)]
    pub extensions: BTreeMap<String, Value>,
    /// JSON; its shape depends on the type of the event.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data: Option<Value>,
}

/// Milliseconds since 1970 in UTC, as RFC 3339 writes them; none past the year 9999.
#[must_use]
pub fn rfc3339(unix_ms: i64) -> Option<String> {
    let time = jiff::Timestamp::from_millisecond(unix_ms).ok()?;
    Some(format!("{time:.3}"))
}

impl CloudEvent {
    /// An event with JSON data.
    #[must_use]
    pub fn new(
        event_type: impl Into<String>,
        source: impl Into<String>,
        id: impl Into<String>,
        data: Value,
    ) -> Self {
        Self {
            specversion: "1.0",
            id: id.into(),
            source: source.into(),
            event_type: event_type.into(),
            subject: None,
            time: None,
            datacontenttype: Some("application/json".to_owned()),
            dataschema: None,
            extensions: BTreeMap::new(),
            data: Some(data),
        }
    }

    /// A progress event of a request; `sequence` counts from 0 within the request and makes the id.
    #[must_use]
    pub fn progress(
        request: RequestId,
        sequence: usize,
        source: impl Into<String>,
        progress: &Progress,
    ) -> Self {
        let data = serde_json::to_value(progress).expect("progress has string keys only");
        let event = Self::new(
            progress.event_type(),
            source,
            format!("{request}-{sequence}"),
            data,
        );
        let event = match sequence.checked_sub(1) {
            Some(before) => event.caused_by(format!("{request}-{before}")),
            None => event.caused_by(request.to_string()),
        };
        let subject = progress.task().map(ToString::to_string);
        Self {
            subject,
            ..event.correlated(request)
        }
    }

    /// A piece of a request's answer; `name` is unique within the request.
    #[must_use]
    pub fn piece(
        request: RequestId,
        name: &str,
        source: impl Into<String>,
        piece: &AnswerPiece,
    ) -> Self {
        let data = serde_json::to_value(piece).expect("a piece has string keys only");
        let id = format!("{request}-text-{name}");
        Self::new(piece.event_type(), source, id, data).correlated(request)
    }

    /// The one final response to a request.
    #[must_use]
    pub fn response(answer: &Answer, source: impl Into<String>) -> Self {
        let data = serde_json::to_value(answer).expect("an answer has string keys only");
        let request = answer.request_id;
        Self::new(USER_RESPONSE, source, format!("{request}-response"), data)
            .correlated(request)
            .caused_by(request.to_string())
    }

    /// Adds the request that the event belongs to.
    #[must_use]
    pub fn correlated(self, request: RequestId) -> Self {
        self.extension("correlationid", request.to_string())
    }

    /// Adds the id of the event that caused this one.
    #[must_use]
    pub fn caused_by(self, event_id: impl Into<String>) -> Self {
        self.extension("causationid", event_id.into())
    }

    /// Adds the subject.
    #[must_use]
    pub fn about(mut self, subject: impl Into<String>) -> Self {
        self.subject = Some(subject.into());
        self
    }

    /// Adds the time: milliseconds since 1970 in UTC.
    #[must_use]
    pub fn at_unix_ms(mut self, ms: i64) -> Self {
        self.time = rfc3339(ms);
        self
    }

    fn extension(mut self, name: &str, value: String) -> Self {
        self.extensions
            .insert(name.to_owned(), Value::String(value));
        self
    }

    /// The request that the event belongs to; none without a `correlationid` that is a request's id.
    #[must_use]
    pub fn correlation(&self) -> Option<RequestId> {
        self.extensions.get("correlationid")?.as_str()?.parse().ok()
    }

    /// Reads a structured-mode event.
    ///
    /// AMCP's own hyphenated names (`amcp-correlation-id`) are accepted and become the legal ones.
    ///
    /// # Errors
    /// [`EventError`] names the attribute.
    pub fn from_json(text: &[u8]) -> Result<Self, EventError> {
        let map: Map<String, Value> =
            serde_json::from_slice(text).map_err(|error| EventError::NotJson(error.to_string()))?;
        Self::from_attributes(map)
    }

    fn from_attributes(mut map: Map<String, Value>) -> Result<Self, EventError> {
        if take_text(&mut map, "specversion")?.as_deref() != Some("1.0") {
            return Err(wrong("specversion", "must be \"1.0\""));
        }
        let event = Self {
            specversion: "1.0",
            id: take_text(&mut map, "id")?.ok_or(EventError::Missing("id"))?,
            source: take_text(&mut map, "source")?.ok_or(EventError::Missing("source"))?,
            event_type: take_text(&mut map, "type")?.ok_or(EventError::Missing("type"))?,
            subject: take_text(&mut map, "subject")?,
            time: take_text(&mut map, "time")?,
            datacontenttype: take_text(&mut map, "datacontenttype")?,
            dataschema: take_text(&mut map, "dataschema")?,
            data: match (map.remove("data"), map.remove("data_base64")) {
                (Some(_), Some(_)) => {
                    return Err(wrong("data_base64", "must not stand beside 'data'"));
                }
                (data, None) => data,
                (None, Some(_)) => {
                    return Err(wrong(
                        "data_base64",
                        "is not taken: the mesh's events carry JSON in 'data'",
                    ));
                }
            },
            extensions: extensions(map)?,
        };
        if let Some(time) = &event.time
            && let Err(error) = time.parse::<jiff::Timestamp>()
        {
            return Err(wrong("time", format!("is no RFC 3339 time: {error}")));
        }
        Ok(event)
    }
}

fn wrong(name: impl Into<String>, reason: impl Into<String>) -> EventError {
    let (name, reason) = (name.into(), reason.into());
    EventError::Value { name, reason }
}

fn take_text(
    map: &mut Map<String, Value>,
    name: &'static str,
) -> Result<Option<String>, EventError> {
    match map.remove(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) if text.is_empty() => Err(EventError::Missing(name)),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(wrong(name, "must be a string")),
    }
}

/// AMCP's reference implementation emits names that CloudEvents forbids; these are the known ones.
fn legal_name(name: &str) -> Option<&'static str> {
    match name {
        "amcp-correlation-id" | "correlation-id" => Some("correlationid"),
        "amcp-causation-id" | "causation-id" => Some("causationid"),
        "amcp-trace-parent" | "amcp-traceparent" => Some("traceparent"),
        "amcp-reply-to" | "reply-to" => Some("replyto"),
        _ => None,
    }
}

fn extensions(map: Map<String, Value>) -> Result<BTreeMap<String, Value>, EventError> {
    let mut extensions = BTreeMap::new();
    for (name, value) in map {
        let name = match legal_name(&name) {
            Some(legal) => legal.to_owned(),
            None => name,
        };
        let legal = !name.is_empty()
            && name.len() <= 20
            && name
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
        if !legal {
            return Err(EventError::Name(name.chars().take(80).collect()));
        }
        let plain = match &value {
            Value::Null => continue,
            Value::String(_) | Value::Bool(_) => true,
            Value::Number(number) => number.as_i64().is_some_and(|n| i32::try_from(n).is_ok()),
            Value::Array(_) | Value::Object(_) => false,
        };
        if !plain {
            return Err(wrong(
                name,
                "must be a string, a boolean or a 32-bit integer",
            ));
        }
        if extensions.insert(name.clone(), value).is_some() {
            return Err(wrong(name, "is given twice, under two names"));
        }
    }
    Ok(extensions)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(value: Value) -> Result<CloudEvent, EventError> {
        CloudEvent::from_json(value.to_string().as_bytes())
    }

    fn minimal() -> Value {
        json!({"specversion": "1.0", "id": "1", "source": "/user", "type": "user.request"})
    }

    fn with(name: &str, value: Value) -> Value {
        let mut event = minimal();
        event[name] = value;
        event
    }

    #[test]
    fn the_requirements_example_reads_and_writes_back() {
        let example = json!({
            "specversion": "1.0", "id": "789e4567-e89b-12d3-a456-426614174000", "type": "task.request",
            "source": "/agent/Orchestrator1", "subject": "finance.db.query", "time": "2025-09-29T16:22:31Z",
            "correlationid": "123e4567-e89b-12d3-a456-426614174999",
            "data": {"sql": "SELECT * FROM Expenses WHERE quarter='Q4';"},
        });
        let event = read(example.clone()).unwrap();
        assert_eq!(
            event.correlation().unwrap().to_string(),
            "123e4567-e89b-12d3-a456-426614174999"
        );
        assert_eq!(serde_json::to_value(&event).unwrap(), example);
    }

    #[test]
    fn illegal_names_are_refused_and_amcp_names_become_legal() {
        assert!(matches!(
            read(with("correlationId", json!("x"))),
            Err(EventError::Name(_))
        ));
        assert!(matches!(
            read(with("some-thing", json!("x"))),
            Err(EventError::Name(_))
        ));
        assert!(matches!(
            read(with("abcdefghijklmnopqrstu", json!("x"))),
            Err(EventError::Name(_))
        ));
        let event = read(with("amcp-correlation-id", json!("x"))).unwrap();
        assert_eq!(event.extensions.get("correlationid"), Some(&json!("x")));
        assert!(!serde_json::to_string(&event).unwrap().contains("amcp-"));
    }

    #[test]
    fn each_broken_attribute_is_named() {
        for (name, value) in [
            ("id", json!("")),
            ("source", json!(3)),
            ("type", Value::Null),
            ("time", json!("yesterday")),
            ("specversion", json!("0.3")),
            ("level", json!({"deep": 1})),
            ("level", json!(4_000_000_000_u64)),
            ("data_base64", json!("aGk=")),
        ] {
            let error = read(with(name, value)).unwrap_err().to_string();
            assert!(error.contains(name), "{error}");
        }
        assert!(matches!(
            CloudEvent::from_json(b"[1]"),
            Err(EventError::NotJson(_))
        ));
    }

    #[test]
    fn progress_events_form_a_chain() {
        let request: RequestId = "123e4567-e89b-12d3-a456-426614174999".parse().unwrap();
        let answered = Progress::Answered {
            state: crate::request::AnswerState::Completed,
        };
        let event =
            CloudEvent::progress(request, 4, "/agent/orchestrator", &answered).at_unix_ms(0);
        assert_eq!(event.event_type, "progress.answered");
        assert_eq!(
            event.extensions["causationid"],
            json!(format!("{request}-3"))
        );
        assert_eq!(event.time.as_deref(), Some("1970-01-01T00:00:00.000Z"));
        assert_eq!(read(serde_json::to_value(&event).unwrap()).unwrap(), event);
    }
}
