//! The settings about users: who proves them, what roles may use, which capabilities agents may call.
//!
//! Judges nobody; [`Permissions`] and [`Authentication`] do.

use std::collections::BTreeMap;
use std::num::NonZeroU64;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use amcp_access::tokens::Algorithm;
use amcp_access::{
    Audit, AuditRules, Authentication, Budget, JwksSource, KeyFile, Keys, OnTrouble, TokenRules,
    Tokens,
};
use amcp_outbound::{Guard, IpNet, Url};
use amcp_protocol::access::EVERYONE;
use amcp_protocol::{AccessRules, CapabilityPattern, Effect, Irreversible, Permissions};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use smart_default::SmartDefault;

use super::Config;
use super::value::{Text, Written};
use crate::output::Trouble;

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
    /// What each user of a role may spend. For each figure the most counts that one of the user's roles grants.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) budget: Option<BudgetSettings>,
}

/// What a user may spend; a figure that is missing has no bound.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct BudgetSettings {
    /// Requests and plans in a minute.
    requests_per_minute: Option<NonZeroU64>,
    /// Requests without an answer, those that wait for a person too.
    at_a_time: Option<NonZeroU64>,
    /// Tasks in 24 hours.
    tasks_per_day: Option<NonZeroU64>,
    /// Calls that the LLM answered in 24 hours.
    llm_calls_per_day: Option<NonZeroU64>,
    /// Tokens that the LLM read and wrote in 24 hours.
    tokens_per_day: Option<NonZeroU64>,
}

/// The audit log of a node that serves.
#[derive(Debug, Clone, PartialEq, SmartDefault, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct AuditSettings {
    /// Whether a node that serves writes requests, tasks, flows and refusals to the audit log. Changes of keys are always written.
    #[default(true)]
    pub(crate) on: bool,
    /// The file of the signed heads, best on another disk; by default `audit/anchors.log` in the data folder.
    #[schemars(extend("format" = "path"))]
    pub(crate) anchors: Option<PathBuf>,
    /// What becomes of new requests while the log cannot be written.
    pub(crate) on_failure: OnFailure,
}

/// What a node does while its audit log cannot be written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum OnFailure {
    // They get 503.
    #[default]
    Refuse,
    // The node goes on, and writes how many records it lost.
    Continue,
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

/// An issuer of tokens.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Issuer {
    /// The issuer's name, as its tokens say it in the claim `iss`.
    pub(crate) issuer: String,
    /// The names of this node for the issuer: a token has one of them in the claim `aud`.
    #[schemars(length(min = 1))]
    pub(crate) audience: Vec<String>,
    /// The algorithms of its signatures, such as `RS256`, `ES256` or `EdDSA`.
    #[schemars(length(min = 1))]
    pub(crate) algorithms: Vec<Text<Algorithm>>,
    /// Where its keys are: `{ url = "https://…" }` or `{ file = "PATH" }`.
    pub(crate) jwks: Jwks,
    /// The claim that names the user; a path is dotted.
    #[serde(default = "sub")]
    pub(crate) user_claim: String,
    /// The claim that lists the user's roles, such as `realm_access.roles`; without it users have no roles.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) roles_claim: Option<String>,
    /// How much the issuer's clock may differ, 5m at most.
    #[serde(default = "half_a_minute")]
    pub(crate) leeway: Text<Duration>,
    /// Networks that are not public and may hold the URL of the keys, such as `10.0.0.0/8`.
    #[serde(default)]
    pub(crate) networks: Vec<Text<IpNet>>,
}

/// The place of an issuer's keys.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Jwks {
    /// Over https, or over http on this machine.
    Url(Text<Url>),
    /// A file, which the node reads again every ten minutes.
    File(PathBuf),
}

fn sub() -> String {
    "sub".to_owned()
}

const fn half_a_minute() -> Text<Duration> {
    Text(Duration::from_secs(30))
}

impl Written for Algorithm {
    const FORM: &'static str = "algorithm";

    fn parse(text: &str) -> Result<Self, String> {
        let read: Result<Self, _> = text.parse();
        read.map_err(|_| "write RS256, ES256, EdDSA or their like".to_owned())
    }

    fn show(&self) -> String {
        format!("{self:?}")
    }
}

impl Written for Url {
    const FORM: &'static str = "URL of keys";

    fn parse(text: &str) -> Result<Self, String> {
        let read = Self::parse(text).ok().filter(|url| url.has_host());
        let read = read.filter(|url| url.username().is_empty() && url.password().is_none());
        read.ok_or_else(|| {
            "write a URL such as https://issuer.example/keys, without credentials".to_owned()
        })
    }

    fn show(&self) -> String {
        self.to_string()
    }
}

impl Written for IpNet {
    const FORM: &'static str = "network";

    fn parse(text: &str) -> Result<Self, String> {
        let problem = |_| "write an address and the length of its prefix, such as 10.0.0.0/8";
        text.parse().map_err(problem).map_err(str::to_owned)
    }

    fn show(&self) -> String {
        self.to_string()
    }
}

impl Issuer {
    /// # Errors
    /// The rules cannot be followed.
    fn rules(&self) -> Result<TokenRules, Trouble> {
        let jwks = match &self.jwks {
            Jwks::File(path) => JwksSource::File(path.clone()),
            Jwks::Url(url) => JwksSource::Url(url.0.clone()),
        };
        let rules = TokenRules {
            issuer: self.issuer.clone(),
            audience: self.audience.clone(),
            algorithms: self.algorithms.iter().map(|text| text.0).collect(),
            jwks,
            user_claim: self.user_claim.clone(),
            roles_claim: self.roles_claim.clone(),
            leeway: *self.leeway,
        };
        let checked = rules.check().map(|()| rules);
        checked.map_err(|error| Trouble::usage(format!("issuer '{}': {error}", self.issuer)))
    }
}

impl Config {
    /// The rules of each issuer's tokens, and the networks that its keys may come from.
    ///
    /// # Errors
    /// Rules that cannot be followed; two for one issuer.
    fn issuers(&self) -> Result<Vec<(TokenRules, Guard)>, Trouble> {
        let mut made: Vec<(TokenRules, Guard)> = Vec::new();
        for issuer in &self.issuers {
            let networks: Vec<IpNet> = issuer.networks.iter().map(|net| net.0).collect();
            if made.iter().any(|(rules, _)| rules.issuer == issuer.issuer) {
                let twice = format!("the issuer '{}' is there twice", issuer.issuer);
                return Err(Trouble::usage(twice).hint("write one [[issuers]] for both"));
            }
            made.push((issuer.rules()?, Guard::allowing(networks)));
        }
        Ok(made)
    }

    /// Whether the settings about users fit together.
    ///
    /// # Errors
    /// What does not fit.
    pub(crate) fn check_access(&self) -> Result<(), Trouble> {
        let spends = self.calls.iter().find(|(_, rules)| rules.budget.is_some());
        if let Some((agent, _)) = spends {
            let message = format!("calls.{agent}.budget: agents have no budget");
            return Err(Trouble::usage(message).hint("write [roles.NAME.budget]"));
        }
        self.issuers().map(drop)
    }

    /// The budgets of roles that have one.
    pub(crate) fn budgets(&self) -> BTreeMap<String, Budget> {
        let roles = self.roles.iter();
        let made = roles.filter_map(|(role, rules)| {
            let of = rules.budget?;
            let budget = Budget {
                requests_per_minute: of.requests_per_minute,
                at_a_time: of.at_a_time,
                tasks_per_day: of.tasks_per_day,
                llm_calls_per_day: of.llm_calls_per_day,
                tokens_per_day: of.tokens_per_day,
            };
            Some((role.clone(), budget))
        });
        made.collect()
    }

    /// Where the audit log is, and what happens without it.
    pub(crate) fn audit_rules(&self) -> AuditRules {
        let rules = AuditRules::in_data(&self.data);
        AuditRules {
            anchors: self.audit.anchors.clone().unwrap_or(rules.anchors),
            on_trouble: match self.audit.on_failure {
                OnFailure::Refuse => OnTrouble::Refuse,
                OnFailure::Continue => OnTrouble::Continue,
            },
            ..rules
        }
    }

    /// Begins to take the credentials that the settings allow; the keys of the data folder count if it `serves`. Needs a tokio runtime.
    ///
    /// # Errors
    /// The file is unusable, or the rules of an issuer are.
    pub(crate) fn authentication(
        &self,
        serves: bool,
        audit: &Option<Arc<Audit>>,
    ) -> Result<Authentication, Trouble> {
        let issuers = self.issuers()?.into_iter();
        let issuers = issuers.map(|(rules, guard)| Tokens::start(rules, guard));
        let issuers = issuers.collect::<Result<_, _>>();
        let issuers = issuers.map_err(|error| Trouble::usage(error.to_string()))?;
        let keys = Keys::of(serves.then(|| KeyFile::in_data(&self.data)))?;
        // Behind a proxy that sets no header every client seems to be on this machine.
        let (anonymous, audit) = (self.anonymous && !self.behind_proxy, audit.clone());
        Ok(Authentication::new(keys, issuers, anonymous, audit))
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

    #[tokio::test]
    async fn behind_a_proxy_nobody_comes_without_a_credential() {
        for (text, is_taken) in [
            ("", true),
            ("anonymous = false", false),
            ("behind_proxy = true", false),
        ] {
            let users = config(text).authentication(false, &None).unwrap();
            let loopback = Some(std::net::Ipv4Addr::LOCALHOST.into());
            let judged = users.check(None, loopback, false).await;
            assert_eq!(judged.is_ok(), is_taken, "{text}");
        }
    }

    #[test]
    fn an_issuer_is_named_once_with_rules_that_can_be_followed() {
        let issuer = |more: &str| {
            let text =
                "[[issuers]]\nissuer = 'https://i'\naudience = ['amcp']\nalgorithms = ['ES256']\n";
            config(&format!("{text}{more}")).check_access()
        };
        let file = "jwks.file = '/k'\n";
        assert!(issuer(file).is_ok());
        for (more, said) in [
            ("jwks.url = 'http://i/keys'", "https"),
            ("jwks.file = '/k'\nleeway = '6m'", "300 s"),
            (&format!("{file}user_claim = ''"), "claim of the user"),
            (
                &format!(
                    "{file}[[issuers]]\nissuer = 'https://i'\naudience = []\nalgorithms = []\n{file}"
                ),
                "twice",
            ),
        ] {
            let trouble = issuer(more).expect_err(more).to_string();
            assert!(trouble.contains(said), "{more}: {trouble}");
        }
        let read = |text: &str| {
            toml::from_str::<Config>(text)
                .map(drop)
                .map_err(|e| e.to_string())
        };
        let symmetric =
            "[[issuers]]\nissuer = 'i'\naudience = ['a']\nalgorithms = ['none']\njwks.file = 'k'";
        assert!(read(symmetric).unwrap_err().contains("EdDSA"));
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
