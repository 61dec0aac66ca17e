//! Identifiers, each validated where it enters and cheap to clone.
//!
//! Does not generate ids: randomness and clocks stay outside.

use std::fmt;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Why a text is not an id of the wanted kind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{text}' is not a valid {kind}: {reason}")]
pub struct IdError {
    kind: &'static str,
    text: String,
    reason: &'static str,
}

impl IdError {
    fn new(kind: &'static str, text: &str, reason: &'static str) -> Self {
        // An id may come from outside: the message repeats only its beginning.
        Self {
            kind,
            text: text.chars().take(80).collect(),
            reason,
        }
    }
}

/// One request of one user; also the `correlationid` of all its events.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(transparent)]
#[schemars(extend("format" = "uuid"))]
pub struct RequestId(#[schemars(with = "String")] Uuid);

impl RequestId {
    /// Wraps a UUID; orchestrators pass version 7, so that ids sort by time.
    #[must_use]
    pub const fn from_uuid(uuid: Uuid) -> Self {
        Self(uuid)
    }

    /// The UUID inside.
    #[must_use]
    pub const fn uuid(self) -> Uuid {
        self.0
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl std::str::FromStr for RequestId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Uuid::try_parse(text)
            .map(Self)
            .map_err(|_| IdError::new("request id", text, "it must be a UUID"))
    }
}

macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident, $kind:literal, $check:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(Arc<str>);

        impl $name {
            #[doc = concat!("Validates `text` as a ", $kind, ".")]
            ///
            /// # Errors
            /// [`IdError`] names the rule that the text breaks.
            pub fn new(text: impl AsRef<str>) -> Result<Self, IdError> {
                let text = text.as_ref();
                let check: fn(&str) -> Result<(), &'static str> = $check;
                check(text).map_err(|reason| IdError::new($kind, text, reason))?;
                Ok(Self(Arc::from(text)))
            }

            /// The id as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl TryFrom<String> for $name {
            type Error = IdError;

            fn try_from(text: String) -> Result<Self, IdError> {
                Self::new(text)
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> Self {
                id.0.as_ref().to_owned()
            }
        }

        impl std::str::FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                Self::new(text)
            }
        }

        impl std::borrow::Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }
    };
}

text_id!(
    /// A node of the mesh, such as `finance-1`: a DNS label, so that a certificate can name it.
    NodeName, "node name", |text| match text {
        "" => Err("it is empty"),
        t if t.len() > 63 => Err("it has more than 63 characters"),
        t if t.starts_with('-') || t.ends_with('-') => Err("it begins or ends with '-'"),
        t if !t.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-') =>
            Err("only small letters, digits and '-' are allowed"),
        _ => Ok(()),
    }
);

text_id!(
    /// A task within one plan, such as `t1`: letters, digits, `_` and `-`, at most 64. No dot, so that `$t1.rows` reads
    /// one way only.
    TaskId, "task id", |text| match text {
        "" => Err("it is empty"),
        t if t.len() > 64 => Err("it has more than 64 characters"),
        t if !t.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-') =>
            Err("only letters, digits, '_' and '-' are allowed"),
        _ => Ok(()),
    }
);

text_id!(
    /// A flow within one request, such as `t1.1`: the task's id, a dot and a number from 1.
    FlowId, "flow id", |text| match text.rsplit_once('.') {
        Some((task, number)) if TaskId::new(task).is_ok() && number.parse::<u32>().is_ok() => Ok(()),
        _ => Err("it is a task's id, a dot and a number"),
    }
);

impl FlowId {
    /// A task's flow; `number` counts from 1.
    #[must_use]
    pub fn of(task: &TaskId, number: u32) -> Self {
        Self(Arc::from(format!("{task}.{number}")))
    }
}

text_id!(
    /// An agent's name, unique in the mesh, such as `weather-1`: letters, digits, `_`, `-`, `.`, `@` and `/`, at most
    /// 128.
    AgentId, "agent id", |text| match text {
        "" => Err("it is empty"),
        t if t.len() > 128 => Err("it has more than 128 characters"),
        t if !t.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-.@/".contains(&b)) =>
            Err("only letters, digits and _ - . @ / are allowed"),
        _ => Ok(()),
    }
);

text_id!(
    /// The name of work that agents do: dotted and lower-case such as `finance.db.query`, two to eight levels, at most
    /// 128 characters.
    CapabilityName, "capability name", |text| {
        if text.len() > 128 {
            return Err("it has more than 128 characters");
        }
        let levels = text.split('.').count();
        if !(2..=8).contains(&levels) {
            return Err("it needs two to eight dotted levels, such as 'finance.db.query'");
        }
        let level_ok = |level: &str| {
            !level.is_empty() && level.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_' || b == b'-')
        };
        if text.split('.').all(level_ok) { Ok(()) } else {
            Err("each level is one or more of a-z, 0-9, '_' and '-'")
        }
    }
);

text_id!(
    /// A pattern of capability names: a name, `finance.*` for all names below `finance`, or `*` for all names.
    CapabilityPattern, "capability pattern", |text| {
        let below = text.strip_suffix(".*").map(|above| format!("{above}.x"));
        if text == "*" || CapabilityName::new(below.as_deref().unwrap_or(text)).is_ok() {
            Ok(())
        } else {
            Err("it is neither a capability such as 'finance.db.query' nor 'finance.*' nor '*'")
        }
    }
);

impl AgentId {
    /// The id of an orchestrator's own agent, as each node gives it; only such an agent plans whole requests for others.
    pub const ORCHESTRATOR: &str = "orchestrator";

    /// Whether it is an orchestrator's agent: `orchestrator`, `orchestrator-2`, and the same at a node.
    #[must_use]
    pub fn is_orchestrator(&self) -> bool {
        let (name, _) = self.0.split_once('@').unwrap_or((&self.0, ""));
        let rest = name.strip_prefix(Self::ORCHESTRATOR);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
    }
}

impl CapabilityPattern {
    /// Whether the pattern names a capability.
    #[must_use]
    pub fn matches(&self, capability: &str) -> bool {
        match self.0.strip_suffix('*') {
            Some(start) => capability.starts_with(start),
            None => *self.0 == *capability,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_names_a_capability_those_below_a_word_or_all() {
        let matches =
            |pattern: &str, name: &str| CapabilityPattern::new(pattern).unwrap().matches(name);
        assert!(matches("finance.db.query", "finance.db.query"));
        assert!(!matches("finance.db.query", "finance.db.query_all"));
        assert!(matches("finance.*", "finance.db.query"));
        assert!(!matches("finance.*", "financial.db.query"));
        assert!(matches("*", "finance.db.query"));
        for bad in ["", "finance", "fin*", "*.query", "Finance.*", "finance.**"] {
            assert!(CapabilityPattern::new(bad).is_err(), "{bad:?} was accepted");
        }
    }

    #[test]
    fn capability_names_are_dotted_lower_case() {
        for good in ["weather.get", "finance.db.query", "mcp.server-1.tool_2"] {
            assert_eq!(CapabilityName::new(good).unwrap().as_str(), good);
        }
        for bad in [
            "",
            "weather",
            "Weather.get",
            "weather..get",
            ".get",
            "a.b.c.d.e.f.g.h.i",
            "weather.get ",
        ] {
            assert!(CapabilityName::new(bad).is_err(), "{bad:?} was accepted");
        }
    }

    #[test]
    fn task_ids_have_no_dot() {
        assert!(TaskId::new("t1").is_ok());
        assert!(TaskId::new("t1.rows").is_err());
        assert!(serde_json::from_str::<TaskId>("\"a b\"").is_err());
    }

    #[test]
    fn an_error_repeats_only_the_beginning_of_a_long_text() {
        let error = AgentId::new("x".repeat(10_000)).unwrap_err();
        assert!(error.to_string().len() < 200);
    }
}
