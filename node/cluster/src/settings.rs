//! The settings of a node's links, and whether they are safe. Opens no file and no socket, but looks up hosts.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use amcp_protocol::{AgentCard, CapabilityPattern, ErrorCode, Failure, NodeName, TaskRequest};
use serde::{Deserialize, Serialize};

use crate::ClusterError;
use crate::info::{Role, split_host_port};
use crate::transport::check_cookie;

/// How long a look-up may take: a slow name server must not hold up a round of dials, and the next round asks again.
const LOOKUP: Duration = Duration::from_secs(3);

pub(crate) fn wrong(message: String, hint: &str) -> ClusterError {
    ClusterError {
        message,
        hint: Some(hint.to_owned()),
        of_settings: true,
    }
}

/// A place at which a node looks for other nodes.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Seed {
    /// One node, as `host:port`: the first address that the host has.
    Host(String),
    /// `dns:host:port`: every address of the host is a node; the node looks the host up before each round.
    Dns(String),
}

impl Seed {
    /// Reads `host:port` or `dns:host:port`.
    ///
    /// # Errors
    /// The error names the mistake.
    pub fn parse(text: &str) -> Result<Self, ClusterError> {
        let (seed, address): (fn(String) -> Self, _) = match text.strip_prefix("dns:") {
            Some(address) => (Self::Dns, address),
            None => (Self::Host, text),
        };
        split_host_port(address).map_err(|reason| {
            wrong(
                format!("{text:?} is not an address to join: {reason}"),
                "write --join HOST:PORT for one node, --join dns:HOST:PORT for every address of a name",
            )
        })?;
        Ok(seed(address.to_owned()))
    }

    /// `host:port`.
    pub(crate) fn address(&self) -> &str {
        match self {
            Self::Host(address) | Self::Dns(address) => address,
        }
    }

    /// Whether the seed is certainly on this machine.
    fn is_loopback(&self) -> bool {
        let host = split_host_port(self.address()).map(|(host, _)| host);
        host.is_ok_and(|host| match host.parse::<IpAddr>() {
            Ok(ip) => ip.to_canonical().is_loopback(),
            Err(_) => host == "localhost",
        })
    }
}

/// Looks up all addresses of a seed, each once. Those of a [`Seed::Host`] lead to one node, the best first (`localhost` is
/// often `[::1]`, then `127.0.0.1`, and the node listens on one of them).
///
/// # Errors
/// The host is not known, or the name server does not answer.
pub async fn resolve(seed: &Seed) -> Result<Vec<SocketAddr>, ClusterError> {
    let address = seed.address();
    let unknown = |reason: String| {
        wrong(
            format!("the look-up of the host in {address} failed: {reason}"),
            "check the name; the node looks it up again before each round",
        )
    };
    let found = tokio::time::timeout(LOOKUP, tokio::net::lookup_host(address))
        .await
        .map_err(|_| unknown(format!("no answer within {} s", LOOKUP.as_secs())))?
        .map_err(|error| unknown(error.to_string()))?;
    let mut addresses = Vec::new();
    for address in found {
        if !addresses.contains(&address) {
            addresses.push(address);
        }
    }
    if addresses.is_empty() {
        return Err(unknown("the host has no address".to_owned()));
    }
    Ok(addresses)
}

/// The capabilities that agents of other nodes may offer on this node, by node.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AllowList(pub Vec<(NodeName, Vec<CapabilityPattern>)>);

impl AllowList {
    /// The first capability of a card that the node may not offer. A node that the list does not name may offer any capability; an
    /// empty list names no node.
    #[must_use]
    pub fn refuses<'a>(&self, node: &NodeName, card: &'a AgentCard) -> Option<&'a str> {
        let (_, allowed) = self.0.iter().find(|(name, _)| name == node)?;
        let permits = |name: &str| allowed.iter().any(|pattern| pattern.matches(name));
        let names = card.capabilities.iter().map(|c| c.name.as_str());
        names.into_iter().find(|name| !permits(name))
    }
}

/// What a node may ask for on this node, for users that it names itself.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Issue {
    /// The roles that its users may have here; none means all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub roles: Option<Vec<String>>,
    /// The capabilities that it may use here; none means all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub capabilities: Option<Vec<CapabilityPattern>>,
}

/// What this node believes of others, who have proven their names.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Trust {
    /// The capabilities that agents of other nodes may offer on this node.
    pub offer: AllowList,
    /// What other nodes may ask for; a node that is not here may ask for everything.
    pub issue: BTreeMap<NodeName, Issue>,
}

impl Trust {
    /// Whether a node may ask for less than everything.
    #[must_use]
    pub fn limits(&self, node: &NodeName) -> bool {
        self.issue.contains_key(node)
    }

    /// Judges a task that a node sends, and takes the roles from its user that the node may not issue.
    ///
    /// # Errors
    /// The node may not use the capability.
    pub fn judge(&self, node: &NodeName, task: &mut TaskRequest) -> Result<(), Failure> {
        let Some(issue) = self.issue.get(node) else {
            return Ok(());
        };
        let capability = &task.capability;
        let matches = |pattern: &CapabilityPattern| pattern.matches(capability.as_str());
        if let Some(allowed) = &issue.capabilities
            && !allowed.iter().any(matches)
        {
            let message = format!("the node {node} may not use {capability} here");
            return Err(Failure::new(ErrorCode::NotPermitted, message)
                .hint("cluster_trust of the node that refuses says what others may use there"));
        }
        if let Some(roles) = &issue.roles
            && task.grant.roles.iter().any(|role| !roles.contains(role))
        {
            Arc::make_mut(&mut task.grant)
                .roles
                .retain(|role| roles.contains(role));
        }
        Ok(())
    }
}

/// The files of mutual TLS, in PEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// The certificates of the authorities that this node trusts.
    pub ca: PathBuf,
    /// The node's certificate, which names it.
    pub cert: PathBuf,
    /// The key of the certificate.
    pub key: PathBuf,
}

/// The settings of a node's links.
#[derive(Debug, Clone)]
pub struct ClusterSettings {
    /// The node's name.
    pub name: NodeName,
    /// The parts that the node has.
    pub roles: Vec<Role>,
    /// The domain of the node's orchestrator, if it is restricted to one.
    pub domain: Option<String>,
    /// The address on which the node listens for others.
    pub bind: SocketAddr,
    /// The address for other nodes, as `host:port`; by default the address from which the node connects, with its own port.
    pub advertise: Option<String>,
    /// The address of the node's gateway for clients.
    pub http: Option<String>,
    /// The places at which the node looks for others.
    pub seeds: Vec<Seed>,
    /// The secret that all nodes of the mesh share, of at least 128 bits.
    pub cookie: String,
    /// Mutual TLS; none means plain TCP, which [`crate::Cluster::bind`] refuses beyond loopback without `insecure`.
    pub tls: Option<TlsFiles>,
    /// Allows plain TCP beyond loopback.
    pub insecure: bool,
    /// What other nodes may offer and ask for on this node.
    pub trust: Trust,
}

impl ClusterSettings {
    /// Checks that the settings are safe: a cookie that cannot be guessed, and encryption on every way beyond this machine.
    /// [`crate::transport::Tls::load`] checks the files.
    ///
    /// # Errors
    /// The unsafe setting, and the remedy.
    pub fn check(&self) -> Result<(), ClusterError> {
        check_cookie(&self.cookie).map_err(|error| {
            wrong(
                error.to_string(),
                "put it into a file and give every node --cookie-file FILE, or set AMCP_COOKIE",
            )
        })?;
        if let Some(advertise) = &self.advertise {
            split_host_port(advertise).map_err(|reason| {
                wrong(
                    format!("other nodes cannot dial the --advertise address: {reason}"),
                    "give the address as others reach it, HOST:PORT",
                )
            })?;
        }
        if self.tls.is_some() || self.insecure {
            return Ok(());
        }
        let hint = "set up mutual TLS with `amcp cluster certs init` and `issue`; --insecure allows plain TCP, \
                    which anyone on the way can read and forge";
        if !self.bind.ip().to_canonical().is_loopback() {
            let message = format!(
                "{} is reachable from other machines, and there is no TLS",
                self.bind
            );
            return Err(wrong(message, hint));
        }
        match self.seeds.iter().find(|seed| !seed.is_loopback()) {
            Some(seed) => Err(wrong(
                format!(
                    "{} is not on this machine, and there is no TLS",
                    seed.address()
                ),
                hint,
            )),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transport::load_or_make_cookie;

    #[test]
    fn seeds_are_read_or_the_mistake_is_named() {
        assert_eq!(Seed::parse("a:7000").unwrap(), Seed::Host("a:7000".into()));
        assert_eq!(
            Seed::parse("dns:a.b:7000").unwrap(),
            Seed::Dns("a.b:7000".into())
        );
        assert_eq!(
            Seed::parse("[::1]:7000").unwrap(),
            Seed::Host("[::1]:7000".into())
        );
        for (text, says) in [
            ("a", "no port"),
            (":7000", "no host"),
            ("dns:a:x", "port is not a number"),
            ("::1:7000", "brackets"),
            ("http://a:7000", "brackets"),
        ] {
            let error = Seed::parse(text).unwrap_err();
            assert!(error.message.contains(says), "{error}");
            assert!(error.hint.is_some());
        }
    }

    #[tokio::test]
    async fn seeds_are_looked_up() {
        let found = resolve(&Seed::Host("127.0.0.1:7000".into())).await.unwrap();
        assert_eq!(found, ["127.0.0.1:7000".parse().unwrap()]);
        let error = resolve(&Seed::Dns("no.such.host.invalid:7000".into()))
            .await
            .unwrap_err();
        assert!(error.message.contains("no.such.host.invalid"), "{error}");
    }

    fn settings() -> ClusterSettings {
        let dir = tempfile::tempdir().unwrap();
        ClusterSettings {
            name: NodeName::new("a").unwrap(),
            roles: vec![],
            domain: None,
            bind: "127.0.0.1:0".parse().unwrap(),
            advertise: None,
            http: None,
            seeds: vec![],
            cookie: load_or_make_cookie(&dir.path().join("cookie")).unwrap(),
            tls: None,
            insecure: false,
            trust: Trust::default(),
        }
    }

    #[test]
    fn plain_tcp_stays_on_this_machine_unless_insecure() {
        let local = [
            "127.0.0.1:1",
            "[::1]:1",
            "localhost:1",
            "[::ffff:127.0.0.1]:1",
        ];
        let seeds = local.map(|seed| Seed::parse(seed).unwrap()).to_vec();
        ClusterSettings {
            seeds,
            ..settings()
        }
        .check()
        .unwrap();
        let far = [
            ClusterSettings {
                bind: "0.0.0.0:0".parse().unwrap(),
                ..settings()
            },
            ClusterSettings {
                bind: "[::]:0".parse().unwrap(),
                ..settings()
            },
            ClusterSettings {
                seeds: vec![Seed::Host("10.0.0.7:1".into())],
                ..settings()
            },
            ClusterSettings {
                seeds: vec![Seed::Dns("host-a:1".into())],
                ..settings()
            },
        ];
        for settings in far {
            let error = settings.check().unwrap_err();
            assert!(error.message.contains("no TLS"), "{error}");
            ClusterSettings {
                insecure: true,
                ..settings.clone()
            }
            .check()
            .unwrap();
            let files = TlsFiles {
                ca: "".into(),
                cert: "".into(),
                key: "".into(),
            };
            ClusterSettings {
                tls: Some(files),
                ..settings
            }
            .check()
            .unwrap();
        }
        let cookie = "secret".to_owned();
        let weak = ClusterSettings {
            cookie,
            insecure: true,
            ..settings()
        };
        assert!(weak.check().unwrap_err().message.contains("too weak"));
    }
}
