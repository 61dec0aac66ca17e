//! `amcp agents`: who is there, what they can do, and how they fare.
//!
//! Changes nothing.

use amcp_registry::AgentStatus;
use serde::{Deserialize, Serialize};

use crate::cli;
use crate::client::Client;
use crate::config::layers::Loaded;
use crate::output::{self, Style, Trouble};
use crate::root::{Mesh, Purpose};
use crate::show;

#[derive(Debug, Serialize, Deserialize)]
struct Agents {
    agents: Vec<AgentStatus>,
}

/// Runs the command.
///
/// # Errors
/// The node cannot be reached or started.
pub(crate) async fn run(loaded: &Loaded, args: cli::Agents) -> Result<u8, Trouble> {
    let agents: Agents = match &args.url {
        Some(url) => Client::new(url)?.agents().await?,
        None => {
            let mesh = Mesh::start(&loaded.config, Purpose::Look).await?;
            Agents {
                agents: mesh.registry.directory().agents(),
            }
        }
    };
    if args.json {
        output::print_json(&agents)?;
    } else {
        output::print(show::table(&rows(&agents.agents), Style::for_stdout()))?;
    }
    Ok(0)
}

/// One row for each capability of each agent, by capability.
fn rows(agents: &[AgentStatus]) -> Vec<Vec<String>> {
    let mut rows: Vec<Vec<String>> = agents
        .iter()
        .flat_map(|agent| {
            let state = show::agent_state(agent.state);
            let capabilities: Vec<String> = match agent.capabilities.as_slice() {
                [] => vec!["–".to_owned()],
                some => some.iter().map(ToString::to_string).collect(),
            };
            capabilities.into_iter().map(move |capability| {
                vec![
                    capability,
                    agent.agent.to_string(),
                    state.clone(),
                    agent.in_flight.to_string(),
                    agent.restarts.to_string(),
                ]
            })
        })
        .collect();
    rows.sort();
    let heading = ["CAPABILITY", "AGENT", "STATE", "IN FLIGHT", "RESTARTS"];
    rows.insert(0, heading.map(str::to_owned).to_vec());
    rows
}
