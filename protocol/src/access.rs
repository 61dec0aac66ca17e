//! Which roles may use which capabilities, and which capabilities agents may call: a node's permissions, and a user's access
//! under them.
//!
//! Does not know who has a role; authentication does. Asks no person; a capability's flow does.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::capability::{Capability, DELEGATES, Effect};
use crate::error::{ErrorCode, Failure};
use crate::id::{AgentId, CapabilityName, CapabilityPattern};

/// The role that every user has.
pub const EVERYONE: &str = "everyone";
/// The key of the rules for agents that no other key names.
pub const ANY_AGENT: &str = "*";

/// The rules of a role or of a calling agent. What `deny` names is denied, whatever the rules of the user's other roles allow.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AccessRules {
    /// The capabilities that may be used.
    #[serde(default)]
    pub allow: Vec<CapabilityPattern>,
    /// The capabilities that may not.
    #[serde(default)]
    pub deny: Vec<CapabilityPattern>,
    /// The strongest effect that `allow` covers. A whole part of a query that goes to another orchestrator counts by its tasks there.
    #[serde(default = "any_effect")]
    pub effect: Effect,
    /// Whether what cannot be undone is possible at all, whatever the rules of the user's other roles allow.
    #[serde(default)]
    pub irreversible: Irreversible,
}

/// What becomes of a task that cannot be undone.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Irreversible {
    /// A person confirms it, as always.
    #[default]
    Confirm,
    /// It is denied.
    Deny,
}

const fn any_effect() -> Effect {
    Effect::Irreversible
}

/// Finds the pattern of a list that names a capability.
fn named<'a>(patterns: &'a [CapabilityPattern], name: &str) -> Option<&'a CapabilityPattern> {
    patterns.iter().find(|pattern| pattern.matches(name))
}

impl AccessRules {
    fn covers(&self, capability: &Capability) -> bool {
        capability.effect <= self.effect || capability.name.as_str().starts_with(DELEGATES)
    }

    fn forbids(&self, capability: &Capability) -> bool {
        self.irreversible == Irreversible::Deny
            && capability.effect == Effect::Irreversible
            && !capability.name.as_str().starts_with(DELEGATES)
    }
}

/// A node's permissions. Without roles every user may use every capability whose card asks for no role that the user lacks; without
/// agents every agent may call every capability.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Permissions {
    /// By role; [`EVERYONE`] is a role of every user.
    #[serde(default)]
    pub roles: BTreeMap<String, AccessRules>,
    /// By the id of the calling agent, or [`ANY_AGENT`].
    #[serde(default)]
    pub agents: BTreeMap<String, AccessRules>,
}

/// Why a use is allowed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Grounds {
    /// There are no rules.
    NoRules,
    /// The rules of this role or agent allow it.
    Rule {
        /// The role or the agent.
        of: String,
        /// The pattern that names the capability.
        pattern: CapabilityPattern,
    },
}

/// Why a use is denied.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Denial {
    /// The card asks for roles that the user lacks.
    #[error("it needs all of these roles: {}", .0.join(", "))]
    Lacks(Vec<String>),
    /// A rule denies the capability.
    #[error("the rules of '{of}' deny '{pattern}'")]
    Denied {
        /// The role or the agent.
        of: String,
        /// The pattern that names the capability.
        pattern: CapabilityPattern,
    },
    /// Rules allow only weaker effects.
    #[error("the rules of '{of}' allow no effect stronger than '{}'", effect)]
    Effect {
        /// The role or the agent.
        of: String,
        /// The strongest effect that they cover.
        effect: Effect,
    },
    /// No rule names the capability.
    #[error("no rule of {0} allows it")]
    Unnamed(String),
}

impl Permissions {
    /// Judges the use of a capability by a user with these roles.
    ///
    /// # Errors
    /// The [`Denial`].
    pub fn check(&self, roles: &[String], capability: &Capability) -> Result<Grounds, Denial> {
        if !capability
            .required_roles
            .iter()
            .all(|role| roles.contains(role))
        {
            return Err(Denial::Lacks(capability.required_roles.clone()));
        }
        if self.roles.is_empty() {
            return Ok(Grounds::NoRules);
        }
        let names = roles.iter().map(String::as_str).chain([EVERYONE]);
        let rules = names.filter_map(|name| self.roles.get_key_value(name));
        let unnamed = || match roles {
            [] => format!("'{EVERYONE}'"),
            roles => format!("the user's roles ({}) or '{EVERYONE}'", roles.join(", ")),
        };
        judge(rules.map(|(of, rules)| (of.as_str(), rules)), capability)
            .unwrap_or_else(|| Err(Denial::Unnamed(unnamed())))
    }

    /// Judges a call of a capability by an agent.
    ///
    /// # Errors
    /// The [`Denial`].
    pub fn check_call(&self, agent: &AgentId, capability: &Capability) -> Result<Grounds, Denial> {
        // An agent of another node bears the node's name after '@'.
        let (name, _) = agent
            .as_str()
            .split_once('@')
            .unwrap_or((agent.as_str(), ""));
        let keys = [agent.as_str(), name, ANY_AGENT];
        let rules = keys.into_iter().find_map(|key| self.agents.get(key));
        let Some(rules) = rules else {
            return Ok(Grounds::NoRules);
        };
        let of = agent.as_str();
        judge([(of, rules)].into_iter(), capability)
            .unwrap_or_else(|| Err(Denial::Unnamed(format!("agent '{of}'"))))
    }
}

/// The judgement of the first rule that counts most: a denial, then a permission, then a permission of weaker effects.
fn judge<'a>(
    rules: impl Iterator<Item = (&'a str, &'a AccessRules)> + Clone,
    capability: &Capability,
) -> Option<Result<Grounds, Denial>> {
    let name = capability.name.as_str();
    let denied = rules
        .clone()
        .find_map(|(of, rules)| Some((of, named(&rules.deny, name)?)));
    if let Some((of, pattern)) = denied {
        let (of, pattern) = (of.to_owned(), pattern.clone());
        return Some(Err(Denial::Denied { of, pattern }));
    }
    let forbidden = rules.clone().find(|(_, rules)| rules.forbids(capability));
    if let Some((of, _)) = forbidden {
        let (of, effect) = (of.to_owned(), Effect::Write);
        return Some(Err(Denial::Effect { of, effect }));
    }
    let mut weaker = None;
    for (of, rules) in rules {
        let Some(pattern) = named(&rules.allow, name) else {
            continue;
        };
        let of = of.to_owned();
        if rules.covers(capability) {
            let pattern = pattern.clone();
            return Some(Ok(Grounds::Rule { of, pattern }));
        }
        let effect = rules.effect;
        weaker.get_or_insert(Err(Denial::Effect { of, effect }));
    }
    weaker
}

/// What a user may use: the user's roles under a node's permissions.
#[derive(Debug, Clone, Default)]
pub struct Access {
    roles: Arc<[String]>,
    permissions: Arc<Permissions>,
}

impl Access {
    /// The access of a user with these roles.
    #[must_use]
    pub fn new(roles: impl Into<Arc<[String]>>, permissions: Arc<Permissions>) -> Self {
        Self {
            roles: roles.into(),
            permissions,
        }
    }

    /// Whether the user may use the capability.
    #[must_use]
    pub fn allows(&self, capability: &Capability) -> bool {
        self.permissions.check(&self.roles, capability).is_ok()
    }

    /// # Errors
    /// `not_permitted`, with the reason as its hint.
    pub fn check(&self, capability: &Capability) -> Result<(), Failure> {
        match self.permissions.check(&self.roles, capability) {
            Ok(_) => Ok(()),
            Err(denial) => Err(denial.of_user(&capability.name)),
        }
    }
}

impl Denial {
    /// The failure of a use by a user.
    #[must_use]
    pub fn of_user(&self, capability: &CapabilityName) -> Failure {
        self.failure(format!("the user's roles do not allow {capability}"))
    }

    /// The failure of a call by an agent.
    #[must_use]
    pub fn of_agent(&self, agent: &AgentId, capability: &CapabilityName) -> Failure {
        self.failure(format!("{agent} may not call {capability}"))
    }

    fn failure(&self, message: String) -> Failure {
        Failure::new(ErrorCode::NotPermitted, message).hint(self.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn capability(name: &str, effect: Effect) -> Capability {
        Capability {
            effect,
            ..Capability::new(name, "For tests.")
        }
    }

    fn permissions() -> Permissions {
        let rules = serde_json::json!({
            "roles": {
                "everyone": {"allow": ["weather.*"]},
                "analyst": {"allow": ["finance.*", "orchestrate.*"], "deny": ["finance.salary.*"], "effect": "read"},
                "treasurer": {"allow": ["*"]},
                "trainee": {"irreversible": "deny"},
            },
            "agents": {
                "reporter": {"allow": ["finance.*"], "effect": "read"},
                "*": {"allow": ["*"], "deny": ["finance.*"]},
            },
        });
        serde_json::from_value(rules).unwrap()
    }

    fn judged(roles: &[&str], name: &str, effect: Effect) -> Result<(), String> {
        let roles: Vec<String> = roles.iter().map(|&role| role.to_owned()).collect();
        let checked = permissions().check(&roles, &capability(name, effect));
        checked.map(|_| ()).map_err(|denial| denial.to_string())
    }

    #[test]
    fn the_rules_of_all_roles_add_up_and_a_denial_wins() {
        use Effect::{Irreversible, Read, Write};
        for (roles, name, effect) in [
            (&[][..], "weather.get", Read),
            (&["guest"], "weather.get", Read),
            (&["analyst"], "weather.get", Read),
            (&["analyst"], "finance.db.query", Read),
            (&["analyst", "treasurer"], "finance.db.book", Write),
            (&["treasurer"], "mail.send", Irreversible),
            (&["treasurer"], "finance.salary.list", Read),
            (&["analyst"], "orchestrate.travel", Write),
            (&["treasurer", "trainee"], "mail.draft", Write),
            (&["treasurer", "trainee"], "orchestrate.mail", Irreversible),
        ] {
            assert_eq!(judged(roles, name, effect), Ok(()), "{roles:?} {name}");
        }
        for (roles, name, effect, reason) in [
            (&[][..], "finance.db.query", Read, "'everyone'"),
            (&["guest"], "finance.db.query", Read, "(guest)"),
            (&["analyst"], "finance.db.book", Write, "'read'"),
            (
                &["treasurer", "trainee"],
                "mail.send",
                Irreversible,
                "'trainee' allow no effect stronger than 'write'",
            ),
            (
                &["analyst"],
                "finance.salary.list",
                Read,
                "'analyst' deny 'finance.salary.*'",
            ),
            (
                &["treasurer", "analyst"],
                "finance.salary.list",
                Read,
                "'finance.salary.*'",
            ),
        ] {
            let denial = judged(roles, name, effect).expect_err(name);
            assert!(denial.contains(reason), "{roles:?} {name}: {denial}");
        }
    }

    #[test]
    fn a_card_may_ask_for_roles_whatever_the_rules_allow() {
        let mut secret = capability("finance.db.query", Effect::Read);
        secret.required_roles = vec!["hr".to_owned(), "staff".to_owned()];
        for permissions in [Permissions::default(), permissions()] {
            let allows = |roles: &[&str]| {
                let roles: Vec<String> = roles.iter().map(|&role| role.to_owned()).collect();
                Access::new(roles, Arc::new(permissions.clone())).allows(&secret)
            };
            assert!(!allows(&["treasurer", "hr"]));
            assert!(allows(&["treasurer", "staff", "hr"]));
        }
        let unruled = Permissions::default();
        assert_eq!(
            unruled.check(&[], &capability("a.b", Effect::Write)),
            Ok(Grounds::NoRules)
        );
    }

    #[test]
    fn agents_call_what_their_own_rules_allow() {
        let calls = |agent: &str, name: &str, effect| {
            let agent = AgentId::new(agent).unwrap();
            permissions()
                .check_call(&agent, &capability(name, effect))
                .is_ok()
        };
        assert!(calls("reporter", "finance.db.query", Effect::Read));
        assert!(calls("reporter@node-2", "finance.db.query", Effect::Read));
        assert!(!calls("reporter", "finance.db.book", Effect::Write));
        assert!(!calls("reporter", "weather.get", Effect::Read));
        assert!(calls("joker", "weather.get", Effect::Read));
        assert!(!calls("joker", "finance.db.query", Effect::Read));
    }

    #[test]
    fn a_misspelt_rule_is_refused() {
        let read =
            |text: &str| serde_json::from_str::<Permissions>(text).map_err(|e| e.to_string());
        assert!(
            read(r#"{"roles": {"a": {"alow": ["x.y"]}}}"#)
                .unwrap_err()
                .contains("alow")
        );
        assert!(
            read(r#"{"roles": {"a": {"allow": ["X"]}}}"#)
                .unwrap_err()
                .contains("capability pattern")
        );
    }
}
