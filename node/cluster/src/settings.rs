//! What a node's links are configured with.

use std::net::SocketAddr;
use std::path::PathBuf;

use amcp_protocol::{AgentCard, NodeName};

use crate::info::Role;

/// Where other nodes are looked for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Seed {
    /// One node, as `host:port`: the first address that the host has.
    Host(String),
    /// `dns:host:port`: every address that the host has is a node; looked up again before each round.
    Dns(String),
}

/// Which capabilities the agents of which node may offer here.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AllowList(pub Vec<(NodeName, Vec<String>)>);

impl AllowList {
    /// The first capability of a card that the node may not offer. A node that the list does not name may offer anything; an
    /// empty list names nobody.
    #[must_use]
    pub fn refuses<'a>(&self, node: &NodeName, card: &'a AgentCard) -> Option<&'a str> {
        let (_, allowed) = self.0.iter().find(|(name, _)| name == node)?;
        let permits = |name: &str| {
            allowed.iter().any(|glob| match glob.strip_suffix('*') {
                Some(prefix) => name.starts_with(prefix),
                None => glob == name,
            })
        };
        let names = card.capabilities.iter().map(|c| c.name.as_str());
        names.into_iter().find(|name| !permits(name))
    }
}

/// The files of mutual TLS, in PEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// Whom this node trusts.
    pub ca: PathBuf,
    /// Its certificate, which names it.
    pub cert: PathBuf,
    /// The key of the certificate.
    pub key: PathBuf,
}

/// What a node's links are configured with.
#[derive(Debug, Clone)]
pub struct ClusterSettings {
    /// The node's name.
    pub name: NodeName,
    /// What it is there for.
    pub roles: Vec<Role>,
    /// The domain that its orchestrator is restricted to.
    pub domain: Option<String>,
    /// Where it listens for other nodes.
    pub bind: SocketAddr,
    /// Where other nodes reach it, as `host:port`; by default the address that it is met from and the port it listens on.
    pub advertise: Option<String>,
    /// Where clients reach its gateway.
    pub http: Option<String>,
    /// Where it looks for others.
    pub seeds: Vec<Seed>,
    /// What all nodes of the mesh know, at least 128 bits of it.
    pub cookie: String,
    /// Mutual TLS; none means plain TCP, which [`crate::Cluster::bind`] refuses beyond loopback without `insecure`.
    pub tls: Option<TlsFiles>,
    /// Allows plain TCP beyond loopback.
    pub insecure: bool,
    /// Which capabilities the agents of which node may offer here.
    pub allow: AllowList,
}
