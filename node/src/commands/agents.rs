//! `amcp agents`: the agents, their capabilities and states.
//!
//! Changes nothing.

use amcp_gateway::Agents;
use amcp_protocol::CapabilityName;
use amcp_registry::AgentStatus;
use amcp_registry::bus::unix_ms;

use crate::cli;
use crate::client::Client;
use crate::commands::ask::say_what_has_no_effect;
use crate::config::layers::Loaded;
use crate::output::{self, Style, Trouble};
use crate::root::{Node, Purpose};
use crate::show;

/// Runs the command.
///
/// # Errors
/// The node cannot be reached or started.
pub(crate) async fn run(loaded: &Loaded, args: cli::Agents) -> Result<u8, Trouble> {
    let agents: Agents = match &args.url {
        Some(url) => {
            say_what_has_no_effect(loaded);
            Client::new(url, &loaded.config)?.get("agents").await?
        }
        None => {
            let node = Node::start(&loaded.config, Purpose::Look).await?;
            Agents::of(&node.registry, &args.roles)
        }
    };
    if args.json {
        output::print_json(&agents)?;
    } else {
        output::print(show::table(&rows(&agents.agents), Style::for_stdout()))?;
    }
    Ok(0)
}

/// One row for each capability of each agent, by capability; a column for the node if there are several, and one for what a person
/// is asked for first if a capability needs it.
fn rows(agents: &[AgentStatus]) -> Vec<Vec<String>> {
    let now = unix_ms();
    let several = agents.iter().any(|agent| agent.node.is_some());
    let some_ask = agents.iter().any(|agent| !agent.asks.is_empty());
    let mut rows: Vec<Vec<String>> = agents
        .iter()
        .flat_map(|agent| {
            let state = show::agent_state(agent, now);
            let node = agent.node.as_ref().map_or("here", |node| node.as_str());
            let named = |name: &CapabilityName| {
                let asks = agent.asks.get(name).map_or("", |kind| kind.noun());
                (name.to_string(), asks)
            };
            let capabilities: Vec<_> = match agent.capabilities.as_slice() {
                [] => vec![("–".to_owned(), "")],
                some => some.iter().map(named).collect(),
            };
            capabilities.into_iter().map(move |(capability, asks)| {
                let mut row = vec![
                    capability,
                    agent.agent.to_string(),
                    state.clone(),
                    agent.in_flight.to_string(),
                    agent.restarts.to_string(),
                ];
                if several {
                    row.insert(2, node.to_owned());
                }
                if some_ask {
                    row.push(asks.to_owned());
                }
                row
            })
        })
        .collect();
    rows.sort();
    let mut heading = vec!["CAPABILITY", "AGENT", "STATE", "IN FLIGHT", "RESTARTS"];
    if several {
        heading.insert(2, "NODE");
    }
    if some_ask {
        heading.push("ASKS FOR A");
    }
    rows.insert(0, heading.into_iter().map(str::to_owned).collect());
    rows
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use amcp_protocol::FlowKind;
    use amcp_registry::AgentState;

    use super::*;

    #[test]
    fn nodes_are_shown_where_there_are_several() {
        let agent = |id: &str, node: Option<&str>| AgentStatus {
            agent: id.parse().unwrap(),
            node: node.map(|node| node.parse().unwrap()),
            capabilities: vec!["math.eval".parse().unwrap()],
            asks: BTreeMap::new(),
            state: AgentState::Ready,
            again_at_unix_ms: None,
            in_flight: 0,
            queued: 0,
            restarts: 0,
            done: 0,
            failed: 0,
        };
        let alone = rows(&[agent("math-1", None)]);
        assert_eq!(alone[0].len(), 5);
        assert_eq!(alone[1][..3], ["math.eval", "math-1", "ready"]);
        let cooling = AgentStatus {
            state: AgentState::Cooling,
            again_at_unix_ms: Some(0),
            ..agent("math-1", None)
        };
        assert_eq!(rows(&[cooling])[1][2], "cooling, 0 s left");
        let mail = AgentStatus {
            capabilities: vec!["mail.read".parse().unwrap(), "mail.send".parse().unwrap()],
            asks: BTreeMap::from([("mail.send".parse().unwrap(), FlowKind::Oauth)]),
            ..agent("mail-1", None)
        };
        let asking = rows(&[mail]);
        let last: Vec<_> = asking.iter().map(|row| row[5].as_str()).collect();
        assert_eq!(last, ["ASKS FOR A", "", "login"]);
        let among = rows(&[agent("math-1@b", Some("b")), agent("math-1@a", None)]);
        assert_eq!(among[0][2], "NODE");
        assert_eq!(among[1][1..3], ["math-1@a", "here"]);
        assert_eq!(among[2][1..3], ["math-1@b", "b"]);
    }
}
