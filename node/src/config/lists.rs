//! The types of the settings of a node among others: parts, names, addresses to join, capabilities.
//!
//! Reads no file and resolves no name; the users of the settings judge whether they fit together.

use std::borrow::Cow;

use amcp_cluster::{Role, Seed};
use amcp_planner::{Domain, DomainError};
use amcp_protocol::NodeName;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use super::value::Written;

impl Written for NodeName {
    const FORM: &'static str = "small letters, digits and `-`";

    fn parse(text: &str) -> Result<Self, String> {
        Self::new(text).map_err(|error| error.to_string())
    }

    fn show(&self) -> String {
        self.to_string()
    }
}

/// The parts of a node: sorted, each once, at least one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<Role>")]
pub(crate) struct Parts(Vec<Role>);

impl Parts {
    pub(crate) fn has(&self, part: Role) -> bool {
        self.0.contains(&part)
    }

    pub(crate) fn as_slice(&self) -> &[Role] {
        &self.0
    }
}

impl Default for Parts {
    fn default() -> Self {
        Self(vec![Role::Orchestrator, Role::Gateway, Role::Specialists])
    }
}

impl TryFrom<Vec<Role>> for Parts {
    type Error = &'static str;

    fn try_from(mut parts: Vec<Role>) -> Result<Self, Self::Error> {
        parts.sort_unstable();
        parts.dedup();
        if parts.is_empty() {
            return Err("name at least one of orchestrator, gateway, specialists");
        }
        if parts.contains(&Role::Gateway) && !parts.contains(&Role::Orchestrator) {
            return Err(
                "a gateway hands requests to the orchestrator of its own node: add orchestrator, or leave gateway out",
            );
        }
        Ok(Self(parts))
    }
}

impl JsonSchema for Parts {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Parts".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let items = Self::default();
        json_schema!({"type": "array", "items": {"type": "string", "enum": items}, "minItems": 1})
    }
}

impl Written for Seed {
    const FORM: &'static str = "`host:port` or `dns:host:port`";

    fn parse(text: &str) -> Result<Self, String> {
        Self::parse(text).map_err(|error| match error.hint {
            Some(hint) => format!("{}: {hint}", error.message),
            None => error.message,
        })
    }

    fn show(&self) -> String {
        match self {
            Self::Host(host) => host.clone(),
            Self::Dns(host) => format!("dns:{host}"),
        }
    }
}

/// A host, by name or address, and a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct HostPort(pub(crate) String);

impl HostPort {
    /// The host; an IPv6 address without its brackets.
    pub(crate) fn host_of(text: &str) -> &str {
        let host = text.rsplit_once(':').map_or(text, |(host, _)| host);
        host.trim_start_matches('[').trim_end_matches(']')
    }
}

impl Written for HostPort {
    const FORM: &'static str = "`host:port`";

    fn parse(text: &str) -> Result<Self, String> {
        let problem = || "write host:port, such as node-a:7000".to_owned();
        let (host, port) = text.rsplit_once(':').ok_or_else(problem)?;
        let is_v6 = host.starts_with('[') && host.ends_with(']');
        let is_name = !host.contains([':', '/', '[', ']', ' ', '@']) && !host.is_empty();
        match port.parse::<u16>() {
            Ok(port) if port > 0 && (is_v6 || is_name) => Ok(Self(text.to_owned())),
            _ => Err(problem()),
        }
    }

    fn show(&self) -> String {
        self.0.clone()
    }
}

impl Written for Domain {
    const FORM: &'static str = "`word` or `word=capability,…`";

    fn parse(text: &str) -> Result<Self, String> {
        text.parse().map_err(|error: DomainError| error.to_string())
    }

    fn show(&self) -> String {
        self.to_string()
    }
}

/// The least similarity of a name that the user probably meant.
const SIMILAR: f64 = 0.75;

/// The known name that the user probably meant.
pub(crate) fn closest(name: &str, known: impl Iterator<Item = String>) -> Option<String> {
    known
        .map(|candidate| (strsim::jaro_winkler(name, &candidate), candidate))
        .filter(|(similarity, _)| *similarity > SIMILAR)
        .max_by(|(a, _), (b, _)| a.total_cmp(b))
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_a_set_and_a_gateway_needs_an_orchestrator() {
        let parts = vec![Role::Specialists, Role::Orchestrator, Role::Specialists];
        let parts = Parts::try_from(parts).unwrap();
        assert_eq!(parts.as_slice(), [Role::Orchestrator, Role::Specialists]);
        let hint = Parts::try_from(vec![Role::Gateway]).unwrap_err();
        assert!(hint.contains("add orchestrator"), "{hint}");
        assert!(Parts::try_from(vec![]).is_err());
    }

    #[test]
    fn seeds_are_hosts_with_ports() {
        for good in ["a:7000", "dns:amcp.internal:7000", "[::1]:7"] {
            assert_eq!(<Seed as Written>::parse(good).unwrap().show(), good);
        }
        for bad in [
            "a",
            "a:",
            ":7000",
            "a:0",
            "a:70000",
            "http://a:7000",
            "::1:7",
            "dns:a",
        ] {
            assert!(<Seed as Written>::parse(bad).is_err(), "{bad:?}");
            assert!(HostPort::parse(bad).is_err(), "{bad:?}");
        }
        assert_eq!(HostPort::host_of("[::1]:7"), "::1");
    }

    #[test]
    fn a_domain_is_a_word_and_perhaps_what_belongs_to_it() {
        for text in ["finance", "office=finance.*,document.report.generate"] {
            assert_eq!(<Domain as Written>::parse(text).unwrap().show(), text);
        }
        for bad in ["finance.db", "Finance!", "", "any", "a=", "a=b.*.c", "a=*"] {
            let hint = <Domain as Written>::parse(bad).unwrap_err();
            assert!(hint.contains("finance=finance.*"), "{bad:?}: {hint}");
        }
    }
}
