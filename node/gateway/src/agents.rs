//! The body of GET /agents: the agents, and the capabilities that the asker may use, as on their cards.
//!
//! Changes nothing.

use amcp_protocol::{Access, Capability};
use amcp_registry::{AgentStatus, RegistryHandle};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The agents and the capabilities of a mesh, as one node knows them.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub struct Agents {
    /// All agents, with their states.
    pub agents: Vec<AgentStatus>,
    /// What the asker may use, with the schemas of params and results and with examples, by name.
    #[serde(default)]
    pub capabilities: Vec<Capability>,
}

impl Agents {
    /// Those that a registry knows, for a user with these roles.
    #[must_use]
    pub fn of(registry: &RegistryHandle, roles: &[String]) -> Self {
        let directory = registry.directory();
        let access = Access::new(roles, registry.permissions());
        let contracts = directory.contracts().map(|contract| &contract.capability);
        let permitted = contracts.filter(|capability| access.allows(capability));
        let mut capabilities: Vec<Capability> = permitted.cloned().collect();
        capabilities.sort_by(|a, b| a.name.cmp(&b.name));
        Self {
            agents: directory.agents(),
            capabilities,
        }
    }
}
