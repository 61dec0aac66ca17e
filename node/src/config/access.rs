//! The settings about users: what roles may use, which capabilities agents may call.
//!
//! Judges nobody; [`Permissions`] do.

use std::collections::BTreeMap;

use amcp_protocol::access::EVERYONE;
use amcp_protocol::{AccessRules, CapabilityPattern, Effect, Irreversible, Permissions};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Config;

/// The rules of a role, or of an agent that calls others.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Rules {
    /// The capabilities that may be used (`finance.db.query`, `finance.*`, `*`). Once a role has such a list, users may use only what one of
    /// their roles allows; `everyone` is a role of every user.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<Vec<String>>")]
    pub(crate) allow: Option<Vec<CapabilityPattern>>,
    /// The capabilities that may not, whatever the user's other roles allow.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(with = "Vec<String>")]
    pub(crate) deny: Vec<CapabilityPattern>,
    /// The strongest effect that `allow` covers, which is `*` if only the effect is given.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>", extend("enum" = ["read", "write", "irreversible"]))]
    pub(crate) effect: Option<Effect>,
    /// Whether tasks that cannot be undone are denied, or need a person's confirmation as always.
    #[schemars(with = "String", extend("enum" = ["confirm", "deny"]))]
    pub(crate) irreversible: Irreversible,
}

impl Rules {
    fn allows(&self) -> bool {
        self.allow.is_some() || self.effect.is_some()
    }

    fn judged(&self, unsaid: &[CapabilityPattern]) -> AccessRules {
        let unsaid = if self.effect.is_some() {
            &everything()
        } else {
            unsaid
        };
        AccessRules {
            allow: self.allow.clone().unwrap_or_else(|| unsaid.to_vec()),
            deny: self.deny.clone(),
            effect: self.effect.unwrap_or(Effect::Irreversible),
            irreversible: self.irreversible,
        }
    }
}

fn everything() -> Vec<CapabilityPattern> {
    vec![CapabilityPattern::new("*").expect("it is a pattern")]
}

impl Config {
    /// The node's permissions. Roles that only deny take nothing else from anybody; an agent without `allow` may call what is not denied.
    pub(crate) fn permissions(&self) -> Permissions {
        let named = |rules: &BTreeMap<String, Rules>, unsaid: &[CapabilityPattern]| {
            let judged = rules.iter();
            judged
                .map(|(name, rules)| (name.clone(), rules.judged(unsaid)))
                .collect::<BTreeMap<_, _>>()
        };
        let mut roles = named(&self.roles, &[]);
        if !roles.is_empty() && !self.roles.values().any(Rules::allows) {
            let everyone = self.roles.get(EVERYONE).cloned().unwrap_or_default();
            roles.insert(EVERYONE.to_owned(), everyone.judged(&everything()));
        }
        Permissions {
            roles,
            agents: named(&self.calls, &everything()),
        }
    }
}

#[cfg(test)]
mod tests {
    use amcp_protocol::access::ANY_AGENT;
    use amcp_protocol::{Access, AgentId, Capability};

    use super::*;

    fn config(text: &str) -> Config {
        toml::from_str(text).unwrap()
    }

    fn allows(text: &str, roles: &[&str], capability: &str, effect: Effect) -> bool {
        let roles: Vec<String> = roles.iter().map(|&role| role.to_owned()).collect();
        let capability = Capability {
            effect,
            ..Capability::new(capability, "For tests.")
        };
        Access::new(roles, config(text).permissions().into()).allows(&capability)
    }

    #[test]
    fn roles_that_allow_nothing_take_nothing_from_others() {
        use Effect::{Irreversible, Read, Write};
        for text in ["", "[roles.clerk]", "[roles.clerk]\ndeny = ['mail.*']"] {
            assert!(allows(text, &[], "finance.db.query", Read), "{text}");
        }
        let deny = "[roles.clerk]\ndeny = ['mail.*']\nirreversible = 'deny'\n[roles.everyone]\ndeny = ['x.*']";
        assert!(allows(deny, &["clerk"], "finance.db.query", Write));
        assert!(!allows(deny, &["clerk"], "mail.send", Write));
        assert!(!allows(deny, &["clerk"], "finance.db.drop", Irreversible));
        assert!(!allows(deny, &[], "x.y", Read));
        let allow = "[roles.clerk]\nallow = ['mail.*']\n[roles.auditor]\neffect = 'read'";
        assert!(allows(allow, &["clerk"], "mail.send", Irreversible));
        assert!(!allows(allow, &["clerk"], "finance.db.query", Read));
        assert!(!allows(allow, &[], "mail.send", Read));
        assert!(allows(allow, &["auditor"], "finance.db.query", Read));
        assert!(!allows(allow, &["auditor"], "finance.db.book", Write));
    }

    #[test]
    fn an_agent_calls_what_is_not_denied_to_it() {
        let permissions = config(&format!(
            "[calls.reporter]\nallow = ['finance.*']\n[calls.'{ANY_AGENT}']\ndeny = ['mail.*']"
        ));
        let permissions = permissions.permissions();
        let calls = |agent: &str, capability: &str| {
            let agent = AgentId::new(agent).unwrap();
            let capability = Capability::new(capability, "For tests.");
            permissions.check_call(&agent, &capability).is_ok()
        };
        assert!(calls("reporter", "finance.db.query") && !calls("reporter", "weather.get"));
        assert!(calls("joker", "weather.get") && !calls("joker", "mail.send"));
    }
}
