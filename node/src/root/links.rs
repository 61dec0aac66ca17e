//! The settings of a node's links to other nodes: its name, its cookie, its certificates, the addresses to dial.
//!
//! Does not listen and does not dial; the cluster does.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use amcp_cluster::settings::TlsFiles;
use amcp_cluster::transport::load_or_make_cookie;
use amcp_cluster::{AllowList, ClusterSettings, Role, Seed, Trust};
use amcp_protocol::{AgentId, NodeName};

use super::parts::{guessed_url, scheme};
use crate::config::Config;
use crate::config::lists::HostPort;
use crate::output::Trouble;

/// The node's name on a machine without a usable name.
const NAMELESS: &str = "amcp";
/// The shared cookie of all nodes of one user on this machine, in the user's state folder.
const COOKIE: &str = "amcp/cookie";

pub(crate) fn name(config: &Config) -> NodeName {
    let machine = || node_name(&rustix::system::uname().nodename().to_string_lossy());
    config.name.clone().map_or_else(machine, |name| name.0)
}

/// A node name made from the machine's name: its first label, with invalid characters replaced.
fn node_name(machine: &str) -> NodeName {
    let label = machine.split('.').next().unwrap_or_default();
    let label: String = label
        .to_ascii_lowercase()
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c } else { '-' })
        .take(63)
        .collect();
    NodeName::new(label.trim_matches('-'))
        .or_else(|_| NodeName::new(NAMELESS))
        .expect("the name for the nameless is valid")
}

/// An agent's id in the whole mesh.
pub(super) fn agent_id(agent: &AgentId, node: &NodeName) -> AgentId {
    AgentId::new(format!("{agent}@{node}"))
        .expect("a built-in agent's id leaves more room than a node's name takes")
}

/// The settings of the links; none when the node is alone.
///
/// # Errors
/// The settings contradict each other, or a cookie is missing.
pub(super) fn settings(config: &Config) -> Result<Option<ClusterSettings>, Trouble> {
    let Some(bind) = config.cluster else {
        return alone(config).map(|()| None);
    };
    let name = name(config);
    let seeds: Vec<Seed> = config.join.iter().map(|seed| seed.0.clone()).collect();
    // Before the cookie, because that may create a file.
    let tls = tls(config, &name)?;
    let local = bind.ip().is_loopback() && seeds.iter().all(is_here);
    Ok(Some(ClusterSettings {
        roles: config.parts.as_slice().to_vec(),
        domain: config
            .domain
            .as_ref()
            .map(|domain| domain.name().to_owned()),
        bind: *bind,
        advertise: config.advertise.as_ref().map(|host| host.0.0.clone()),
        // Set when the gateway listens.
        http: None,
        seeds,
        cookie: cookie(config, local)?,
        tls,
        insecure: config.insecure,
        trust: Trust {
            offer: AllowList(config.cluster_allow.clone().into_iter().collect()),
            issue: config.cluster_trust.clone(),
        },
        name,
    }))
}

/// Judges the settings of a node that is alone.
fn alone(config: &Config) -> Result<(), Trouble> {
    if !config.join.is_empty() {
        return Err(Trouble::usage(
            "join names other nodes, but the node does not listen for them",
        )
        .hint("add --cluster ADDRESS, such as --cluster 0.0.0.0:7000"));
    }
    if !config.parts.has(Role::Gateway) {
        return Err(Trouble::usage(
            "a node without the part gateway and without a cluster serves no client",
        )
        .hint("add the part gateway, or --cluster ADDRESS"));
    }
    if !config.parts.has(Role::Specialists) {
        return Err(Trouble::usage(
            "a node without the part specialists and without a cluster can do nothing",
        )
        .hint("add the part specialists, or --cluster ADDRESS"));
    }
    Ok(())
}

fn is_here(seed: &Seed) -> bool {
    let (Seed::Host(text) | Seed::Dns(text)) = seed;
    let host = HostPort::host_of(text);
    host == "localhost" || host.parse().is_ok_and(|ip: IpAddr| ip.is_loopback())
}

/// The address at which clients reach the gateway, if known.
pub(super) fn reached_at(config: &Config, http: SocketAddr) -> Option<String> {
    if let Some(url) = &config.public_url {
        return Some(url.as_str().to_owned());
    }
    if !http.ip().is_unspecified() {
        return Some(guessed_url(config, http));
    }
    let host = config.advertise.as_ref()?.0.0.rsplit_once(':')?.0;
    Some(format!("{}://{host}:{}", scheme(config), http.port()))
}

fn cookie(config: &Config, local: bool) -> Result<String, Trouble> {
    if let Some(cookie) = &config.cookie {
        return cookie.reveal().map_err(|problem| {
            Trouble::usage(format!("there is no cookie: {problem}"))
                .hint("`amcp cluster cookie > FILE` makes one; all nodes need the same")
        });
    }
    if !local {
        return Err(Trouble::usage("links to other machines need a cookie, and there is none").hint(
            "make one with `amcp cluster cookie > FILE`, give the file to every node, and add --cookie-file FILE (or AMCP_COOKIE)",
        ));
    }
    let variable = |name| std::env::var_os(name).map(PathBuf::from);
    let path = shared_cookie(variable("XDG_STATE_HOME"), variable("HOME")).ok_or_else(|| {
        Trouble::usage(
            "there is no cookie, and no folder to make one in: neither XDG_STATE_HOME nor HOME is set",
        )
        .hint("make one with `amcp cluster cookie > FILE` and add --cookie-file FILE")
    })?;
    load_or_make_cookie(&path).map_err(|error| Trouble::failed(error.to_string()))
}

/// The cookie's path. Not in the data folder: two nodes on one machine have one each, and must find the same cookie.
fn shared_cookie(state: Option<PathBuf>, home: Option<PathBuf>) -> Option<PathBuf> {
    // The XDG specification ignores relative paths.
    let usable = |path: &PathBuf| path.is_absolute();
    let state = state.filter(usable);
    let state = state.or_else(|| Some(home.filter(usable)?.join(".local/state")))?;
    Some(state.join(COOKIE))
}

fn tls(config: &Config, name: &NodeName) -> Result<Option<TlsFiles>, Trouble> {
    let singles = [
        ("cluster_ca", &config.cluster_ca),
        ("cluster_cert", &config.cluster_cert),
        ("cluster_key", &config.cluster_key),
    ];
    let given = |key: &str| singles.iter().any(|(k, path)| *k == key && path.is_some());
    if let Some(folder) = &config.cluster_certs {
        if let Some((key, _)) = singles.iter().find(|(key, _)| given(key)) {
            return Err(
                Trouble::usage(format!("cluster_certs and {key} are both set")).hint(
                    "give the folder, or the three files cluster_ca, cluster_cert and cluster_key",
                ),
            );
        }
        return Ok(Some(in_folder(folder, name)));
    }
    match (
        &config.cluster_ca,
        &config.cluster_cert,
        &config.cluster_key,
    ) {
        (None, None, None) => Ok(None),
        (Some(ca), Some(cert), Some(key)) => Ok(Some(TlsFiles {
            ca: ca.clone(),
            cert: cert.clone(),
            key: key.clone(),
        })),
        _ => {
            let missing = singles.iter().filter(|(key, _)| !given(key));
            let missing: Vec<&str> = missing.map(|(key, _)| *key).collect();
            Err(Trouble::usage(format!("{} is missing", missing.join(" and ")))
                .hint("mutual TLS needs cluster_ca, cluster_cert and cluster_key, or cluster_certs in place of all three"))
        }
    }
}

fn in_folder(folder: &Path, name: &NodeName) -> TlsFiles {
    TlsFiles {
        ca: folder.join("ca.pem"),
        cert: folder.join(format!("{name}.pem")),
        key: folder.join(format!("{name}.key")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::value::Secret;

    const COOKIE: (&str, &str) = ("cookie", "00112233445566778899aabbccddeeff");

    fn made(given: &[(&str, &str)]) -> Result<ClusterSettings, String> {
        match settings(&Config::of(given)) {
            Ok(made) => Ok(made.unwrap()),
            Err(trouble) => Err(trouble.to_string()),
        }
    }

    #[test]
    fn a_machines_name_becomes_a_nodes() {
        for (machine, node) in [
            ("Host-7.example.org", "host-7"),
            ("my_box", "my-box"),
            ("-x-", "x"),
            ("", "amcp"),
            ("§", "amcp"),
        ] {
            assert_eq!(node_name(machine).as_str(), node, "{machine:?}");
        }
        assert_eq!(node_name(&"x".repeat(80)).as_str().len(), 63);
    }

    #[test]
    fn a_node_that_is_alone_must_be_of_use() {
        assert!(settings(&Config::of(&[])).unwrap().is_none());
        for (given, hint) in [
            (("join", "a:1"), "--cluster"),
            (("parts", "specialists"), "part gateway"),
            (("parts", "orchestrator,gateway"), "part specialists"),
        ] {
            let trouble = settings(&Config::of(&[given])).unwrap_err().to_string();
            assert!(trouble.contains(hint), "{trouble}");
        }
    }

    #[test]
    fn beyond_loopback_a_cookie_is_needed() {
        for given in [
            &[("cluster", "0.0.0.0:7000")][..],
            &[
                ("cluster", "127.0.0.1:7000"),
                ("join", "127.0.0.1:1,b:7000"),
            ],
        ] {
            let trouble = made(given).unwrap_err();
            assert!(trouble.contains("amcp cluster cookie"), "{trouble}");
        }
        let with = made(&[("cluster", "0.0.0.0:7000"), COOKIE]).unwrap();
        assert_eq!(with.cookie, COOKIE.1);
        let mut config = Config::of(&[("cluster", "0.0.0.0:7000")]);
        config.cookie = Some(Secret::File("/nowhere/c".into()));
        let trouble = settings(&config).unwrap_err().to_string();
        assert!(trouble.contains("/nowhere/c"), "{trouble}");
    }

    #[test]
    fn only_addresses_of_this_machine_do_without_a_cookie_of_ones_own() {
        for (seed, here) in [
            ("127.0.0.1:7", true),
            ("localhost:7", true),
            ("[::1]:7", true),
            ("dns:localhost:7", true),
            ("b:7", false),
            ("10.0.0.1:7", false),
        ] {
            let list = Config::of(&[("join", seed)]).join;
            assert_eq!(list.iter().all(|seed| is_here(seed)), here, "{seed}");
        }
        let path = |state: Option<&str>, home: Option<&str>| {
            shared_cookie(state.map(PathBuf::from), home.map(PathBuf::from))
        };
        assert_eq!(
            path(Some("/s"), Some("/h")).unwrap(),
            Path::new("/s/amcp/cookie")
        );
        assert_eq!(
            path(Some("s"), Some("/h")).unwrap(),
            Path::new("/h/.local/state/amcp/cookie")
        );
        assert_eq!(path(None, Some("")), None);
    }

    #[test]
    fn certificates_are_a_folder_or_three_files() {
        let base = [("cluster", "0.0.0.0:7000"), ("name", "a"), COOKIE];
        let with = |more: &[(&'static str, &'static str)]| made(&[&base[..], more].concat());
        assert_eq!(with(&[]).unwrap().tls, None);
        let tls = with(&[("cluster_certs", "/c")]).unwrap().tls.unwrap();
        assert_eq!(tls.cert, Path::new("/c/a.pem"));
        assert_eq!(tls.key, Path::new("/c/a.key"));
        let missing = with(&[("cluster_ca", "/c"), ("cluster_key", "/k")]).unwrap_err();
        assert!(missing.contains("cluster_cert is missing"), "{missing}");
        let both = with(&[("cluster_certs", "/c"), ("cluster_key", "/k")]).unwrap_err();
        assert!(both.contains("both"), "{both}");
    }

    #[test]
    fn clients_are_told_an_address_only_where_it_is_known() {
        let listens = "0.0.0.0:8080".parse().unwrap();
        let http = |given: &[(&str, &str)]| reached_at(&Config::of(given), listens);
        assert_eq!(http(&[]), None);
        assert_eq!(http(&[("advertise", "a:7000")]).unwrap(), "http://a:8080");
        assert_eq!(
            http(&[("advertise", "[fd00::1]:7000")]).unwrap(),
            "http://[fd00::1]:8080"
        );
        assert_eq!(http(&[("public_url", "https://x")]).unwrap(), "https://x");
    }

    #[test]
    fn an_agents_id_names_its_node() {
        let id = agent_id(&"weather-1".parse().unwrap(), &"b".parse().unwrap());
        assert_eq!(id.as_str(), "weather-1@b");
    }
}
