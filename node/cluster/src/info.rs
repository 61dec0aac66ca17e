//! What a node says about itself when it is met.

use std::fmt;

use amcp_protocol::NodeName;
use serde::{Deserialize, Serialize};

/// What a node is there for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// It takes and carries out requests.
    Orchestrator,
    /// It serves HTTP.
    Gateway,
    /// It runs specialists.
    Specialists,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Orchestrator => "orchestrator",
            Self::Gateway => "gateway",
            Self::Specialists => "specialists",
        })
    }
}

/// One boot of one node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeInfo {
    /// Its name, unique in the mesh.
    pub name: NodeName,
    /// When it was booted, in milliseconds since the epoch: greater for a later boot of the same name.
    pub incarnation: u64,
    /// The build that it runs, as `0.1.0`.
    pub build: String,
    /// Where other nodes reach its cluster port, as `host:port`; an empty host means the address that it is met from.
    pub address: String,
    /// Where clients reach its gateway, if it has one.
    pub http: Option<String>,
    /// What it is there for.
    pub roles: Vec<Role>,
    /// The domain that its orchestrator is restricted to.
    pub domain: Option<String>,
}
