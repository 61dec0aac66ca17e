//! A node's description of itself, which it gives in a greeting.

use std::net::IpAddr;

use amcp_protocol::NodeName;
use serde::{Deserialize, Serialize};

/// A part that a node may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[derive(strum::Display)]
#[strum(serialize_all = "snake_case")]
pub enum Role {
    /// The node takes and carries out requests.
    Orchestrator,
    /// The node serves HTTP.
    Gateway,
    /// The node runs specialists.
    Specialists,
}

/// Longest texts of a description together, in bytes: more does not fit into a greeting.
const MAX_TEXTS: usize = 4 * 1024;
/// Most roles of a node: more than this build knows, for newer builds.
const MAX_ROLES: usize = 16;

/// One boot of one node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeInfo {
    /// Unique in the mesh.
    pub name: NodeName,
    /// The time of the boot, in milliseconds since 1970: greater for a later boot of the same name.
    pub incarnation: u64,
    /// The node's build, such as `0.1.0`.
    pub build: String,
    /// The cluster port for other nodes, as `host:port`; an empty host means the address from which the node connects.
    pub address: String,
    /// The address of the node's gateway for clients, if it has one.
    pub http: Option<String>,
    /// The parts that the node has.
    pub roles: Vec<Role>,
    /// The domain of the node's orchestrator, if it is restricted to one.
    pub domain: Option<String>,
}

impl NodeInfo {
    /// Completes the address with the host `remote` if it lacks one.
    ///
    /// # Errors
    /// As [`Self::checked`].
    pub(crate) fn met_from(mut self, remote: IpAddr) -> Result<Self, String> {
        let port = self.address.strip_prefix(':').map(str::to_owned);
        if let Some(port) = port {
            // A socket for both versions shows IPv4 in the form of IPv6.
            self.address = match remote.to_canonical() {
                IpAddr::V4(ip) => format!("{ip}:{port}"),
                IpAddr::V6(ip) => format!("[{ip}]:{port}"),
            };
        }
        self.checked()
    }

    /// Checks that the description can be shown and dialled, and is no larger than a greeting may be.
    ///
    /// # Errors
    /// The fault, in words.
    pub(crate) fn checked(self) -> Result<Self, String> {
        let texts = [Some(&self.build), self.http.as_ref(), self.domain.as_ref()];
        let texts = texts.into_iter().flatten();
        if texts.clone().any(|text| text.chars().any(char::is_control)) {
            return Err("its description has control characters".to_owned());
        }
        if texts.map(String::len).sum::<usize>() > MAX_TEXTS || self.roles.len() > MAX_ROLES {
            return Err("its description is too long".to_owned());
        }
        split_host_port(&self.address).map_err(|reason| format!("its address: {reason}"))?;
        Ok(self)
    }
}

/// The host, without the brackets of IPv6, and the port of `host:port`.
pub(crate) fn split_host_port(text: &str) -> Result<(&str, u16), String> {
    let wrong = |reason: &str| Err(format!("{text:?} is not host:port: {reason}"));
    let Some((host, port)) = text.rsplit_once(':') else {
        return wrong("it has no port");
    };
    let Some(port) = port.parse().ok().filter(|port| *port != 0) else {
        return wrong("its port is not a number from 1 to 65535");
    };
    let bracketed = host.strip_prefix('[').and_then(|h| h.strip_suffix(']'));
    let in_names = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    match bracketed {
        Some(ip) if ip.parse::<std::net::Ipv6Addr>().is_ok() => Ok((ip, port)),
        Some(_) => wrong("there is no IPv6 address between the brackets"),
        None if host.is_empty() => wrong("it has no host"),
        None if host.contains(':') => wrong("an IPv6 address needs brackets, as in [::1]:7000"),
        None if host.len() <= 253 && host.chars().all(in_names) => Ok((host, port)),
        None => wrong("its host is neither a name nor an address"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn met(address: &str, remote: &str) -> Result<String, String> {
        let info = NodeInfo {
            name: NodeName::new("a").unwrap(),
            incarnation: 1,
            build: "0.1.0".into(),
            address: address.into(),
            http: None,
            roles: vec![],
            domain: None,
        };
        info.met_from(remote.parse().unwrap()).map(|i| i.address)
    }

    #[test]
    fn an_address_without_a_host_is_completed() {
        assert_eq!(met(":7000", "10.0.0.7").unwrap(), "10.0.0.7:7000");
        assert_eq!(met(":7000", "::ffff:10.0.0.7").unwrap(), "10.0.0.7:7000");
        assert_eq!(met(":7000", "fe80::1").unwrap(), "[fe80::1]:7000");
        assert_eq!(met("host-a:7000", "10.0.0.7").unwrap(), "host-a:7000");
        for wrong in [
            "",
            ":",
            ":0",
            "host",
            "a b:7000",
            "a\u{1b}:7000",
            "::1:7000",
            "[x]:7000",
            "a:70000",
        ] {
            assert!(met(wrong, "10.0.0.7").is_err(), "{wrong}");
        }
    }
}
