//! `amcp policy explain`: which rule allows or denies a user a capability, and at which places.
//!
//! Changes nothing, and asks no running node: it judges by this configuration, this data folder's keys and the built-in agents' cards.

use std::collections::BTreeSet;
use std::path::Path;

use amcp_access::KeyFile;
use amcp_gateway::codes;
use amcp_protocol::access::{Denial, Grounds};
use amcp_protocol::{Capability, CapabilityName, Effect};
use jiff::Timestamp;
use serde_json::json;
use toml::de::{DeTable, DeValue};

use crate::cli;
use crate::config::Config;
use crate::config::layers::Loaded;
use crate::output::{self, Trouble, printable};
use crate::root::{Node, Purpose};

/// Runs the command; exit code 1 if the use is denied.
///
/// # Errors
/// The keys or the built-in agents cannot be read; the name is no capability's.
pub(crate) async fn run(loaded: &Loaded, what: cli::Policy) -> Result<u8, Trouble> {
    let cli::Policy::Explain {
        user,
        capability,
        roles,
        json,
    } = what;
    let name = CapabilityName::new(&capability).map_err(|error| {
        Trouble::usage(error.to_string()).hint("`amcp agents` lists capabilities")
    })?;
    let node = Node::start(&loaded.config, Purpose::Look).await?;
    let directory = node.registry.directory();
    let contract = directory.contract(&name);
    if contract.is_none() {
        output::say(format_args!(
            "No agent of this node offers {name}: taken as one that reads and asks for no role."
        ));
    }
    let unknown = || Capability::new(name.as_str(), "");
    let capability = contract.map_or_else(unknown, |contract| contract.capability.clone());
    let mut denied = false;
    for roles in role_sets(&loaded.config, &user, roles)? {
        let judged = loaded.config.permissions().check(&roles, &capability);
        denied |= judged.is_err();
        let file = loaded.file.as_ref().map(|(path, _)| path.as_path());
        let text = file.map(std::fs::read_to_string).transpose()?;
        let rule = Rule::of(&judged, (&loaded.config, &capability), text.as_deref());
        if json {
            let place = rule.line.and(file);
            output::print_json(
                &json!({"user": user, "roles": roles, "capability": name, "effect": capability.effect,
                "allowed": judged.is_ok(), "rule": rule.words, "file": place, "line": rule.line}),
            )?;
        } else {
            say(&user, &roles, &capability, (judged.is_ok(), &rule, file))?;
        }
    }
    Ok(if denied {
        codes::EXIT_FAILED
    } else {
        codes::EXIT_ANSWERED
    })
}

/// The roles that the command line names, or those of each valid key of the user.
fn role_sets(
    config: &Config,
    user: &str,
    named: Option<Vec<String>>,
) -> Result<BTreeSet<Vec<String>>, Trouble> {
    if let Some(roles) = named {
        return Ok([roles].into());
    }
    let (ring, now) = (KeyFile::in_data(&config.data).read()?, Timestamp::now());
    let keys = ring.keys().into_iter();
    let valid = keys.filter(|key| key.user == user && !key.has_ended(now));
    let sets: BTreeSet<_> = valid.map(|key| key.roles.clone()).collect();
    if sets.is_empty() {
        let user = printable(user);
        output::say(format_args!(
            "No valid key of the data folder is {user}'s: taken without roles; --roles names some."
        ));
        return Ok([Vec::new()].into());
    }
    Ok(sets)
}

fn say(
    user: &str,
    roles: &[String],
    capability: &Capability,
    (is_allowed, rule, file): (bool, &Rule, Option<&Path>),
) -> Result<(), Trouble> {
    let (user, name, effect) = (printable(user), &capability.name, capability.effect);
    let roles = match roles {
        [] => "without roles".to_owned(),
        roles => format!("with {}", printable(&roles.join(", "))),
    };
    let may = if is_allowed { "may use" } else { "may not use" };
    output::print(format_args!(
        "{user}, {roles}, {may} {name} (effect {effect})"
    ))?;
    let place = rule.line.zip(file);
    let place = place.map(|(line, file)| format!("  {}:{line}", file.display()));
    output::print(format_args!(
        "  rule      {}{}",
        printable(&rule.words),
        place.unwrap_or_default()
    ))?;
    let places = if is_allowed {
        ["sees it", "accepts it", "sends it", "takes it"]
    } else {
        ["does not see it", "refuses it", "refuses it", "refuses it"]
    };
    for (place, does) in ["planner", "compiler", "dispatch", "agent"]
        .iter()
        .zip(places)
    {
        output::print(format_args!("  {place:<9} {does}"))?;
    }
    if is_allowed && effect == Effect::Irreversible {
        output::print("  person    confirms each task before it is sent")?;
    }
    Ok(())
}

/// The rule that decides, and its line in the configuration file.
struct Rule {
    words: String,
    line: Option<usize>,
}

impl Rule {
    fn of(
        judged: &Result<Grounds, Denial>,
        (config, capability): (&Config, &Capability),
        text: Option<&str>,
    ) -> Self {
        let (of, key, item) = match judged {
            Ok(Grounds::NoRules) => {
                let words = "there are no rules for roles".to_owned();
                return Self { words, line: None };
            }
            Ok(Grounds::Rule { of, pattern }) => match config.roles.get(of) {
                Some(rules) if rules.allow.is_some() => (of, "allow", Some(pattern.as_str())),
                Some(rules) if rules.effect.is_some() => (of, "effect", None),
                Some(_) | None => {
                    let words = "no role has `allow` or `effect`: what is not denied is allowed";
                    let words = words.to_owned();
                    return Self { words, line: None };
                }
            },
            Err(Denial::Denied { of, pattern }) => (of, "deny", Some(pattern.as_str())),
            Err(Denial::Effect {
                of,
                effect: Effect::Write,
            }) if capability.effect == Effect::Irreversible => (of, "irreversible", None),
            Err(Denial::Effect { of, .. }) => (of, "effect", None),
            Err(denial @ (Denial::Lacks(_) | Denial::Unnamed(_))) => {
                let words = denial.to_string();
                return Self { words, line: None };
            }
        };
        let shown = item.map(|item| format!(" '{item}'")).unwrap_or_default();
        let why = judged.as_ref().err().map(|denial| format!(": {denial}"));
        Self {
            words: format!("[roles.{of}] {key}{shown}{}", why.unwrap_or_default()),
            line: text.and_then(|text| line_of(text, &["roles", of, key], item)),
        }
    }
}

/// The line of a key, or of an item of its list; of the innermost table that is there if the key is not.
fn line_of(text: &str, keys: &[&str], item: Option<&str>) -> Option<usize> {
    let read = DeTable::parse(text).ok()?;
    let mut table = Some(read.get_ref());
    let (mut at, mut last) = (None, None);
    for key in keys {
        let found = table?.iter().find(|(name, _)| name.get_ref() == key);
        let Some((name, value)) = found else { break };
        (at, last) = (Some(name.span().start), Some(value.get_ref()));
        table = value.get_ref().as_table();
    }
    let items = last.and_then(DeValue::as_array).into_iter().flatten();
    let mut items = items.filter(|of_list| of_list.get_ref().as_str() == item);
    let at = item
        .and(items.next())
        .map(|of_list| of_list.span().start)
        .or(at)?;
    Some(text.get(..at)?.matches('\n').count() + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_is_found_by_its_line_however_it_is_written() {
        let text = "data = 'd'\n[roles.clerk]\nallow = [\n  'a.*',\n  'b.c',\n]\n\n[roles.\"senior clerk\"]\neffect = 'read'\n[roles]\nx.deny = ['y.*']\n";
        let line = |role, key, item| line_of(text, &["roles", role, key], item);
        assert_eq!(line("clerk", "allow", Some("b.c")), Some(5));
        assert_eq!(line("clerk", "allow", Some("z.z")), Some(3));
        assert_eq!(line("senior clerk", "allow", Some("*")), Some(8));
        assert_eq!(line("senior clerk", "effect", None), Some(9));
        assert_eq!(line_of("a = [", &["a"], None), None);
        assert_eq!(line_of("a = 1", &["b"], None), None);
        let inline = "roles = { x = { deny = ['y.*'] } }";
        assert_eq!(
            line_of(inline, &["roles", "x", "deny"], Some("y.*")),
            Some(1)
        );
    }
}
