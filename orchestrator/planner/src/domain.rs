//! The domain of an orchestrator: the capabilities that it plans with, and the capability that it offers to others.
//!
//! Pure. Does not work on delegated requests; the orchestrator does.

use std::fmt;
use std::fmt::Write;
use std::str::FromStr;

use amcp_plan::Catalogue;
use amcp_protocol::capability::{DELEGATES, MAX_DESCRIPTION};
use amcp_protocol::{Capability, CapabilityName, CapabilityPattern, Effect, terms};
use serde_json::json;

/// The name of an orchestrator without a domain.
pub const ANY: &str = "any";
/// Most capabilities that a card names: models read the card and pay for each word.
const DESCRIBED: usize = 24;
/// Most keywords of a card: as many as about ten usual capabilities have.
const KEYWORDS: usize = 256;

/// The part of the mesh that an orchestrator plans with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Domain {
    name: String,
    globs: Vec<CapabilityPattern>,
}

/// The fault of a text for a domain.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{text}' is no domain: {reason}; write 'finance' or 'finance=finance.*,report.*'")]
pub struct DomainError {
    text: String,
    reason: &'static str,
}

impl Domain {
    /// The domain's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether an orchestrator of this domain may plan with a capability: one of its own, or another orchestrator.
    fn holds(&self, capability: &str) -> bool {
        match capability.strip_prefix(DELEGATES) {
            Some(other) => other != self.name,
            None => self.globs.iter().any(|glob| glob.matches(capability)),
        }
    }
}

/// Whether an orchestrator may plan with a capability. An orchestrator without a domain plans with all and delegates nothing.
pub fn holds(domain: Option<&Domain>, capability: &str) -> bool {
    match domain {
        Some(domain) => domain.holds(capability),
        None => !capability.starts_with(DELEGATES),
    }
}

/// The pattern of a domain that gives only a name.
fn whole(name: &str) -> String {
    format!("{name}.*")
}

impl FromStr for Domain {
    type Err = DomainError;

    fn from_str(text: &str) -> Result<Self, DomainError> {
        let refused = |reason| DomainError {
            text: text.chars().take(80).collect(),
            reason,
        };
        let (name, globs) = match text.split_once('=') {
            Some((name, globs)) => (name.trim(), globs.to_owned()),
            None => (text.trim(), whole(text.trim())),
        };
        let name = name.to_owned();
        if name == ANY {
            return Err(refused("'any' stands for orchestrators without a domain"));
        }
        if name.contains('.') || CapabilityName::new(format!("{DELEGATES}{name}")).is_err() {
            return Err(refused("a name is one or more of a-z, 0-9, '_' and '-'"));
        }
        // An orchestrator of everything has no domain.
        let globs = globs.split(',').map(|glob| {
            let glob = CapabilityPattern::new(glob.trim()).ok()?;
            (glob.as_str() != "*").then_some(glob)
        });
        match globs.collect() {
            Some(globs) => Ok(Self { name, globs }),
            None => Err(refused("each part is a capability, or ends in '.*'")),
        }
    }
}

impl fmt::Display for Domain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let globs: Vec<&str> = self.globs.iter().map(CapabilityPattern::as_str).collect();
        if globs == [whole(&self.name)] {
            return f.write_str(&self.name);
        }
        write!(f, "{}={}", self.name, globs.join(","))
    }
}

/// The name of the capability that an orchestrator of this domain offers.
pub fn offered(domain: Option<&Domain>) -> String {
    format!("{DELEGATES}{}", domain.map_or(ANY, Domain::name))
}

/// The capability that an orchestrator offers to others; none while it has no capabilities itself. Only the description and
/// the keywords depend on its catalogue: the contract is the same on every node of the domain.
pub fn capability(domain: Option<&Domain>, catalogue: &Catalogue) -> Option<Capability> {
    let own: Vec<&Capability> = catalogue
        .iter()
        .map(|contract| &contract.capability)
        // Other orchestrators' descriptions may repeat this one's.
        .filter(|capability| !capability.name.as_str().starts_with(DELEGATES))
        .take(DESCRIBED)
        .collect();
    if own.is_empty() {
        return None;
    }
    let name = domain.map_or(ANY, Domain::name);
    let mut capability = Capability::new(&offered(domain), &description(name, &own));
    capability.params = json!({
        "type": "object",
        "properties": {"query": {
            "type": "string",
            terms::KIND: "request",
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
    capability.keywords = keywords(name, &own);
    // A whole request may have any effect that its tasks have.
    capability.effect = Effect::Irreversible;
    capability.idempotent = false;
    // As long as a request's default deadline, and many at a time, since the agent only waits.
    capability.timeout_ms = 60_000;
    capability.concurrency = 256;
    Some(capability)
}

/// Keywords of its capabilities. Each capability gives the same number, so that none crowds out another.
fn keywords(name: &str, own: &[&Capability]) -> Vec<String> {
    let mut keywords = vec![name.to_owned()];
    let mut words: Vec<_> = own
        .iter()
        .map(|capability| {
            let named = capability.name.as_str().split(['.', '_', '-']);
            let keywords = capability.keywords.iter().map(String::as_str);
            named.chain(keywords)
        })
        .collect();
    let mut left = true;
    while left && keywords.len() < KEYWORDS {
        left = false;
        for word in words.iter_mut().filter_map(Iterator::next) {
            left = true;
            if !keywords.iter().any(|known| known == word) {
                keywords.push(word.to_owned());
            }
        }
    }
    keywords.truncate(KEYWORDS);
    keywords
}

/// One line with the names of its capabilities, as many as fit into a description.
fn description(name: &str, own: &[&Capability]) -> String {
    const MORE: &str = ", …";
    let mut text = match name {
        ANY => "Answers whole questions in plain language; can ".to_owned(),
        name => format!("Answers whole questions about {name} in plain language; can "),
    };
    for (number, capability) in own.iter().enumerate() {
        let name = capability.name.as_str();
        let room = MAX_DESCRIPTION.saturating_sub(text.chars().count() + MORE.chars().count());
        let separator = if number == 0 { "" } else { ", " };
        if separator.len() + name.len() > room {
            text.push_str(MORE);
            return text;
        }
        let _ = write!(text, "{separator}{name}");
    }
    text.push('.');
    text
}

#[cfg(test)]
mod tests {
    use amcp_protocol::Contract;

    use super::*;

    #[test]
    fn a_domain_is_a_name_or_a_name_and_what_belongs_to_it() {
        let finance: Domain = "finance".parse().unwrap();
        assert_eq!(finance.to_string(), "finance");
        assert!(finance.holds("finance.db.query") && !finance.holds("finances.x"));
        let wide: Domain = "finance=finance.*, report.build".parse().unwrap();
        assert_eq!(wide.to_string(), "finance=finance.*,report.build");
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
        let card = |all: &[&Capability]| {
            let contracts = all.iter().map(|&c| Contract::new(c.clone()).unwrap());
            let catalogue: Catalogue = contracts.map(std::sync::Arc::new).collect();
            capability(Some(&finance), &catalogue)
        };
        let mut query = Capability::new("finance.db.query", "Reads expenses.");
        query.keywords = vec!["spend".into()];
        let pay = Capability::new("finance.pay", "Pays.");
        let one = card(&[&query]).unwrap();
        let both = card(&[&query, &pay]).unwrap();
        assert!(one.description.ends_with("; can finance.db.query."));
        assert!(
            both.description
                .ends_with("; can finance.db.query, finance.pay.")
        );
        assert_eq!(one.keywords, ["finance", "db", "query", "spend"]);
        assert!(both.keywords.contains(&"pay".to_owned()));
        assert_eq!((&one.params, one.effect), (&both.params, both.effect));
        assert!(Contract::new(both).is_ok());
        let many: Vec<_> = (0..40)
            .map(|n| Capability::new(&format!("finance.some.long-name-{n}"), "Does."))
            .collect();
        let all = card(&many.iter().collect::<Vec<_>>()).unwrap();
        assert!(all.description.ends_with(", …"), "{}", all.description);
        assert!(all.keywords.len() <= KEYWORDS && Contract::new(all).is_ok());
        // Another orchestrator's capability is not its own, so there is nothing to offer.
        let other = Capability::new("orchestrate.weather", "Forecasts.");
        assert_eq!(card(&[&query, &other]), Some(one));
        assert_eq!(card(&[&other]), None);
    }
}
