//! Which capabilities an orchestrator plans with, and how it shows itself to the others.
//!
//! Pure: it asks nobody. Does not work on what others delegate; [`crate::delegate`] does.

use std::fmt;
use std::fmt::Write;
use std::str::FromStr;

use amcp_plan::Catalogue;
use amcp_protocol::{Capability, CapabilityName, Effect};
use serde::{Deserialize, Serialize};
use serde_json::json;

/// What every orchestrator's own capability begins with.
const KIND: &str = "orchestrate.";
/// The domain of an orchestrator that has none.
pub(crate) const ANY: &str = "any";
/// Most capabilities that a description names, and words of each: a card is read by models, which pay for each word.
const DESCRIBED: usize = 24;

/// The part of the mesh that an orchestrator plans with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Domain {
    name: String,
    globs: Vec<String>,
}

/// Why a text is no domain.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{text}' is no domain: {reason}; write 'finance' or 'finance=finance.*,report.*'")]
pub struct DomainError {
    text: String,
    reason: &'static str,
}

impl Domain {
    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether an orchestrator of this domain may plan with a capability: one of its own, or another orchestrator.
    fn holds(&self, capability: &str) -> bool {
        match capability.strip_prefix(KIND) {
            Some(other) => other != self.name,
            None => self.globs.iter().any(|glob| matches(glob, capability)),
        }
    }
}

/// Whether an orchestrator may plan with a capability. One without a domain sees everything and delegates nothing.
pub(crate) fn holds(domain: Option<&Domain>, capability: &str) -> bool {
    match domain {
        Some(domain) => domain.holds(capability),
        None => !capability.starts_with(KIND),
    }
}

/// `finance.*` is everything below `finance`, at any depth; anything else is one capability.
fn matches(glob: &str, capability: &str) -> bool {
    match glob.strip_suffix('*') {
        Some(prefix) => capability.starts_with(prefix),
        None => glob == capability,
    }
}

impl FromStr for Domain {
    type Err = DomainError;

    fn from_str(text: &str) -> Result<Self, DomainError> {
        let refused = |reason| DomainError {
            text: text.chars().take(80).collect(),
            reason,
        };
        let (name, globs) = match text.split_once('=') {
            Some((name, globs)) => (
                name,
                globs.split(',').map(|g| g.trim().to_owned()).collect(),
            ),
            None => (text, vec![format!("{}.*", text.trim())]),
        };
        let name = name.trim().to_owned();
        if name == ANY {
            return Err(refused("'any' is the name of those without a domain"));
        }
        if name.contains('.') || CapabilityName::new(format!("{KIND}{name}")).is_err() {
            return Err(refused("a name is one or more of a-z, 0-9, '_' and '-'"));
        }
        let sound = |glob: &String| {
            let level = glob.strip_suffix(".*").map(|above| format!("{above}.x"));
            CapabilityName::new(level.as_ref().unwrap_or(glob)).is_ok()
        };
        if globs.is_empty() || !globs.iter().all(sound) {
            return Err(refused("each part is a capability, or ends in '.*'"));
        }
        Ok(Self { name, globs })
    }
}

impl fmt::Display for Domain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.name, self.globs.join(","))
    }
}

impl TryFrom<String> for Domain {
    type Error = DomainError;

    fn try_from(text: String) -> Result<Self, DomainError> {
        text.parse()
    }
}

impl From<Domain> for String {
    fn from(domain: Domain) -> Self {
        domain.to_string()
    }
}

/// What an orchestrator offers to others. Only the description and the keywords follow its catalogue: the contract is the
/// same on every node of the domain.
pub(crate) fn capability(domain: Option<&Domain>, catalogue: &Catalogue) -> Capability {
    let name = domain.map_or(ANY, Domain::name);
    let mut capability = Capability::new(&format!("{KIND}{name}"), &description(name, catalogue));
    capability.params = json!({
        "type": "object",
        "properties": {"query": {
            "type": "string",
            "description": "What the user wants of this, in plain language, complete in itself.",
        }},
        "required": ["query"],
        "additionalProperties": false,
    });
    capability.result = json!({
        "type": "object",
        "properties": {
            "text": {"type": "string"},
            "state": {"type": "string"},
            "tasks": {"type": "array", "items": {"type": "object"}},
        },
        "required": ["text", "state", "tasks"],
    });
    let own = || {
        catalogue
            .iter()
            .map(|contract| &contract.capability)
            .take(DESCRIBED)
    };
    let mut keywords: Vec<String> = own().flat_map(|c| c.keywords.iter().cloned()).collect();
    keywords.push(name.to_owned());
    keywords.sort_unstable();
    keywords.dedup();
    keywords.truncate(4 * DESCRIBED);
    capability.keywords = keywords;
    // A whole request may do anything that its tasks may.
    capability.effect = Effect::Irreversible;
    capability.idempotent = false;
    // As long as a request may take by default, and many at a time: it only waits.
    capability.timeout_ms = 60_000;
    capability.concurrency = 256;
    capability
}

fn description(name: &str, catalogue: &Catalogue) -> String {
    let mut text = match name {
        ANY => "Answers whole questions in plain language by planning their tasks.".to_owned(),
        name => format!("Answers whole questions about {name} in plain language."),
    };
    let own = catalogue
        .iter()
        .filter(|c| !c.capability.name.as_str().starts_with(KIND));
    for contract in own.take(DESCRIBED) {
        let first = contract.capability.description.split_inclusive('.').next();
        let _ = write!(text, " {}", first.unwrap_or_default().trim());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_domain_is_a_name_or_a_name_and_what_belongs_to_it() {
        let finance: Domain = "finance".parse().unwrap();
        assert_eq!(finance.to_string(), "finance=finance.*");
        let wide: Domain = "finance=finance.*, report.build".parse().unwrap();
        for (capability, holds) in [
            ("finance.db.query", true),
            ("financed.x", false),
            ("report.build", true),
            ("report.build.more", false),
            ("weather.get", false),
            ("orchestrate.weather", true),
            ("orchestrate.any", true),
            ("orchestrate.finance", false),
        ] {
            assert_eq!(wide.holds(capability), holds, "{capability}");
        }
        for bad in ["", "any", "Finance", "a.b", "a=", "a=*", "a=b.*.c", "a=b"] {
            assert!(bad.parse::<Domain>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn without_a_domain_everything_is_planned_with_but_other_orchestrators() {
        assert!(holds(None, "weather.get"));
        assert!(!holds(None, "orchestrate.finance"));
    }

    #[test]
    fn the_card_is_sound_and_its_contract_does_not_follow_the_catalogue() {
        let finance: Domain = "finance".parse().unwrap();
        let query = Capability::new("finance.db.query", "Reads expenses. Slowly.");
        let contract = amcp_protocol::Contract::new(query).unwrap();
        let catalogue: Catalogue = [std::sync::Arc::new(contract)].into_iter().collect();
        let (empty, full) = (
            capability(Some(&finance), &Catalogue::default()),
            capability(Some(&finance), &catalogue),
        );
        assert!(full.description.ends_with("Reads expenses."));
        assert_eq!((&empty.params, empty.effect), (&full.params, full.effect));
        assert!(amcp_protocol::Contract::new(full).is_ok());
    }
}
