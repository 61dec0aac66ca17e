//! Chooses the built-in specialists that run on this node, and their ids.
//!
//! Does not start them; their supervisor does.

use std::collections::BTreeSet;

use amcp_protocol::{AgentId, NodeName};
use amcp_registry::RestartPolicy;
use amcp_specialists::supervisor::Factory;
use amcp_specialists::{ChildSpec, ShellLimits, builtin};

use super::links;
use crate::config::Config;
use crate::config::lists::closest;
use crate::output::Trouble;

/// The built-in specialists that the configuration wants; in a mesh their ids carry the node's name.
///
/// # Errors
/// The configuration names an unknown specialist.
pub(super) fn agents(
    config: &Config,
    settings: &builtin::Settings,
    policy: RestartPolicy,
    node: Option<&NodeName>,
) -> Result<Vec<ChildSpec>, Trouble> {
    let all = builtin::all(settings);
    let names: Vec<BTreeSet<String>> = all.iter().map(|(id, make)| names(id, make)).collect();
    let wanted = &config.specialists;
    if let Some(unknown) = wanted
        .iter()
        .find(|name| !names.iter().any(|n| n.contains(*name)))
    {
        let known = || names.iter().flatten().cloned();
        let hint = closest(unknown, known()).map_or_else(
            || {
                let firsts: BTreeSet<String> =
                    known().filter(|name| !name.contains(['.', '-'])).collect();
                format!("choose from {}", Vec::from_iter(firsts).join(", "))
            },
            |meant| format!("did you mean {meant}?"),
        );
        return Err(Trouble::usage(format!("there is no specialist '{unknown}'")).hint(hint));
    }
    let chosen = all
        .into_iter()
        .zip(names)
        .filter(|(_, names)| wanted.is_empty() || wanted.iter().any(|name| names.contains(name)));
    let specs = chosen.map(|((id, factory), _)| ChildSpec {
        id: node.map_or_else(|| id.clone(), |node| links::agent_id(&id, node)),
        factory,
        policy,
        limits: ShellLimits::default(),
    });
    Ok(specs.collect())
}

/// The names by which a user may choose a specialist: its agent's id, its capabilities, their first words.
fn names(id: &AgentId, make: &Factory) -> BTreeSet<String> {
    let card = make().card();
    let capabilities = card.capabilities.iter().map(|c| c.name.as_str());
    let words = capabilities.flat_map(|name| [Some(name), name.split('.').next()]);
    words
        .flatten()
        .chain([id.as_str()])
        .map(str::to_owned)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(specialists: &str) -> Result<Vec<String>, String> {
        let config = Config::of(&[("specialists", specialists)]);
        let settings = builtin::Settings::new("/nowhere");
        let node = "b".parse().unwrap();
        let agents = agents(&config, &settings, RestartPolicy::default(), Some(&node));
        let agents = agents.map_err(|trouble| trouble.to_string())?;
        Ok(agents.iter().map(|spec| spec.id.to_string()).collect())
    }

    #[test]
    fn specialists_are_chosen_by_agent_capability_or_first_word() {
        assert!(chosen("").unwrap().len() > 5);
        assert_eq!(
            chosen("finance,weather.get,joke-1").unwrap(),
            [
                "finance-db-1@b",
                "finance-analyst-1@b",
                "weather-1@b",
                "joke-1@b"
            ]
        );
        let trouble = chosen("wether").unwrap_err();
        assert!(trouble.contains("did you mean weather?"), "{trouble}");
        let trouble = chosen("zzz").unwrap_err();
        assert!(
            trouble.contains("choose from document, finance,"),
            "{trouble}"
        );
    }
}
