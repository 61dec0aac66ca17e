//! One request as a text: its acceptance, then each event with the machine's actions.
//!
//! Lines of JSON in a form independent of HTTP bodies. Reads and writes no file.

use amcp_protocol::{Lineage, RequestId};
use serde::{Deserialize, Serialize};

use crate::machine::{Action, Event, Machine, Policy, Time};

/// The version of the form that this build writes and reads.
pub const VERSION: u32 = 1;

/// A request at its acceptance.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Accepted {
    /// [`VERSION`] of the build that accepted it.
    pub version: u32,
    /// The request's id.
    pub request_id: RequestId,
    /// Time of acceptance, in milliseconds since 1970 UTC.
    pub unix_ms: i64,
    /// The query in plain language.
    pub query: String,
    /// The user, if known.
    pub user: Option<String>,
    /// The user's idempotency key.
    pub idempotency_key: Option<String>,
    /// W3C trace context of the caller.
    pub traceparent: Option<String>,
    /// The path of delegations and calls to the request.
    pub lineage: Lineage,
    /// The machine's settings, among them the user's roles and the deadline.
    pub policy: Policy,
}

/// The first line of a recording.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Opening {
    /// The request.
    pub accepted: Accepted,
    /// The machine's first actions.
    pub actions: Vec<Action>,
}

/// Each further line of a recording: an event and the actions that followed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Turn {
    /// Time since the request was accepted.
    pub at: Time,
    /// The event for the machine.
    pub event: Event,
    /// The machine's actions.
    pub actions: Vec<Action>,
}

/// A recording that this build's machine repeats line by line.
#[derive(Debug, Clone, PartialEq)]
pub struct Replayed {
    /// The request.
    pub accepted: Accepted,
    /// Number of repeated events.
    pub turns: usize,
    /// Whether the recording goes as far as the final response.
    pub answered: bool,
}

/// The reason why a recording is not repeated. Lines count from 1.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReplayError {
    /// The text has no line.
    #[error("the recording is empty")]
    Empty,
    /// A line is no JSON of the expected form.
    #[error("line {line} cannot be read: {reason}")]
    Unreadable {
        /// Counts from 1.
        line: usize,
        /// The parser's message.
        reason: String,
    },
    /// Another build wrote it in another form.
    #[error("the recording has version {0} of the form, and this build reads version {VERSION}")]
    Version(u64),
    /// This build's machine decides otherwise.
    #[error("line {line} differs: the recording says {recorded}, and this build says {today}")]
    Differs {
        /// Counts from 1.
        line: usize,
        /// The first action that differs, as JSON, or words for a missing action.
        recorded: String,
        /// The action of this build's machine in that place.
        today: String,
    },
}

/// Steps this build's machine through a recording; carries nothing out.
///
/// # Errors
/// [`ReplayError`] names the first line that cannot be read or that the machine does not repeat.
pub fn replay(text: &str) -> Result<Replayed, ReplayError> {
    let lines = text
        .lines()
        .enumerate()
        .map(|(index, text)| (index + 1, text));
    let mut lines = lines.filter(|(_, text)| !text.trim().is_empty());
    let (line, first) = lines.next().ok_or(ReplayError::Empty)?;
    // The only field that every version of the form has.
    let head: serde_json::Value = read(line, first)?;
    let version = head
        .pointer("/accepted/version")
        .and_then(serde_json::Value::as_u64);
    if let Some(version) = version.filter(|version| *version != u64::from(VERSION)) {
        return Err(ReplayError::Version(version));
    }
    let Opening { accepted, actions } = read(line, first)?;
    let (mut machine, said) = Machine::start(accepted.policy.clone());
    compare(line, &actions, &said)?;
    let mut turns = 0;
    for (line, text) in lines {
        let Turn { at, event, actions } = read(line, text)?;
        let said = machine.step(at, event);
        compare(line, &actions, &said)?;
        turns += 1;
    }
    Ok(Replayed {
        accepted,
        turns,
        answered: machine.is_done(),
    })
}

fn read<'a, T: Deserialize<'a>>(line: usize, text: &'a str) -> Result<T, ReplayError> {
    serde_json::from_str(text).map_err(|error| ReplayError::Unreadable {
        line,
        reason: error.to_string(),
    })
}

fn compare(line: usize, recorded: &[Action], said: &[Action]) -> Result<(), ReplayError> {
    let longest = recorded.len().max(said.len());
    let differs = (0..longest).find(|&at| recorded.get(at) != said.get(at));
    let Some(at) = differs else {
        return Ok(());
    };
    let shown = |action: Option<&Action>| match action {
        Some(action) => serde_json::to_string(action).unwrap_or_else(|error| error.to_string()),
        None => "nothing more follows".to_owned(),
    };
    Err(ReplayError::Differs {
        line,
        recorded: shown(recorded.get(at)),
        today: shown(said.get(at)),
    })
}
