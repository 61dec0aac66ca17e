//! Parses and shows the settings of a node among others: names, roles, addresses to join, lists.
//!
//! Reads no file and resolves no name; the users of the settings judge whether they fit together.

use amcp_cluster::{AllowList, ClusterError, Role, Seed};
use amcp_planner::{Domain, DomainError};
use amcp_protocol::NodeName;

use super::value::SettingValue;

impl SettingValue for NodeName {
    const KIND: &'static str = "small letters, digits and `-`";

    fn parse(text: &str) -> Result<Self, String> {
        Self::new(text).map_err(|error| error.to_string())
    }

    fn show(&self) -> String {
        self.to_string()
    }
}

/// The roles of a node: sorted, each once, at least one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Roles(Vec<Role>);

const ROLES: [Role; 3] = [Role::Orchestrator, Role::Gateway, Role::Specialists];

impl Roles {
    pub(crate) fn has(&self, role: Role) -> bool {
        self.0.contains(&role)
    }

    pub(crate) fn as_slice(&self) -> &[Role] {
        &self.0
    }
}

impl SettingValue for Roles {
    const KIND: &'static str = "list of `orchestrator`, `gateway`, `specialists`";

    fn parse(text: &str) -> Result<Self, String> {
        let mut roles = Vec::new();
        for item in items(text, ',') {
            let role = ROLES.into_iter().find(|role| role.to_string() == item);
            roles.push(role.ok_or_else(|| {
                let meant = closest(&item, ROLES.iter().map(ToString::to_string));
                meant.map_or_else(
                    || format!("there is no role '{item}': choose from orchestrator, gateway, specialists"),
                    |meant| format!("there is no role '{item}': did you mean {meant}?"),
                )
            })?);
        }
        roles.sort_unstable();
        roles.dedup();
        if roles.is_empty() {
            return Err("name at least one of orchestrator, gateway, specialists".to_owned());
        }
        if roles.contains(&Role::Gateway) && !roles.contains(&Role::Orchestrator) {
            return Err(
                "a gateway hands requests to the orchestrator of its own node: add orchestrator, or leave gateway out"
                    .to_owned(),
            );
        }
        Ok(Self(roles))
    }

    fn show(&self) -> String {
        let shown: Vec<String> = self.0.iter().map(ToString::to_string).collect();
        shown.join(",")
    }
}

/// The addresses of other nodes to dial first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Seeds(pub(crate) Vec<Seed>);

impl SettingValue for Seeds {
    const KIND: &'static str = "list of `host:port` and `dns:host:port`";

    fn parse(text: &str) -> Result<Self, String> {
        let seeds = items(text, ',').map(|item| Seed::parse(&item).map_err(said));
        seeds.collect::<Result<_, _>>().map(Self)
    }

    fn show(&self) -> String {
        let shown: Vec<String> = self
            .0
            .iter()
            .map(|seed| match seed {
                Seed::Host(host) => host.clone(),
                Seed::Dns(host) => format!("dns:{host}"),
            })
            .collect();
        shown.join(",")
    }
}

/// A host, by name or address, and a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct HostPort(pub(crate) String);

impl HostPort {
    /// The host; an IPv6 address without its brackets.
    pub(crate) fn host_of(text: &str) -> &str {
        let host = text.rsplit_once(':').map_or(text, |(host, _)| host);
        host.trim_start_matches('[').trim_end_matches(']')
    }
}

impl SettingValue for HostPort {
    const KIND: &'static str = "`host:port`";

    fn parse(text: &str) -> Result<Self, String> {
        let problem = || {
            format!("'{text}' is no host and port: write them as host:port, such as node-a:7000")
        };
        let (host, port) = text.rsplit_once(':').ok_or_else(problem)?;
        let is_v6 = host.starts_with('[') && host.ends_with(']');
        let is_name = !host.contains([':', '/', '[', ']', ' ', '@']) && !host.is_empty();
        match port.parse::<u16>() {
            Ok(port) if port > 0 && (is_v6 || is_name) => Ok(Self(text.to_owned())),
            _ => Err(problem()),
        }
    }

    fn show(&self) -> String {
        self.0.clone()
    }
}

/// Words, each once, in the order in which they were given.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Words(pub(crate) Vec<String>);

impl SettingValue for Words {
    const KIND: &'static str = "list of names";

    fn parse(text: &str) -> Result<Self, String> {
        let mut words: Vec<String> = Vec::new();
        for item in items(text, ',') {
            if !words.contains(&item) {
                words.push(item);
            }
        }
        Ok(Self(words))
    }

    fn show(&self) -> String {
        self.0.join(",")
    }
}

impl SettingValue for Domain {
    const KIND: &'static str = "`word` or `word=capability,…`";

    fn parse(text: &str) -> Result<Self, String> {
        text.parse().map_err(|error: DomainError| error.to_string())
    }

    fn show(&self) -> String {
        self.to_string()
    }
}

impl SettingValue for AllowList {
    const KIND: &'static str = "`node=capability,…;node=…`";

    fn parse(text: &str) -> Result<Self, String> {
        let entries: Vec<String> = items(text, ';').collect();
        Self::parse(entries.iter().map(String::as_str)).map_err(said)
    }

    fn show(&self) -> String {
        let shown: Vec<String> = self
            .0
            .iter()
            .map(|(node, globs)| format!("{node}={}", globs.join(",")))
            .collect();
        shown.join(";")
    }
}

fn said(error: ClusterError) -> String {
    match error.hint {
        Some(hint) => format!("{}: {hint}", error.message),
        None => error.message,
    }
}

fn items(text: &str, separator: char) -> impl Iterator<Item = String> + '_ {
    let items = text.split(separator).map(str::trim);
    items.filter(|item| !item.is_empty()).map(str::to_owned)
}

/// The least similarity of a name that the user probably meant.
const SIMILAR: f64 = 0.75;

/// The known name that the user probably meant.
pub(crate) fn closest(name: &str, known: impl Iterator<Item = String>) -> Option<String> {
    known
        .map(|candidate| (strsim::jaro_winkler(name, &candidate), candidate))
        .filter(|(similarity, _)| *similarity > SIMILAR)
        .max_by(|(a, _), (b, _)| a.total_cmp(b))
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roles_are_a_set_and_a_gateway_needs_an_orchestrator() {
        let shown = |text: &str| Roles::parse(text).map(|roles| roles.show());
        assert_eq!(
            shown("specialists, orchestrator,specialists").unwrap(),
            "orchestrator,specialists"
        );
        let hint = shown("gateway,specialists").unwrap_err();
        assert!(hint.contains("add orchestrator"), "{hint}");
        assert!(
            shown("specialist")
                .unwrap_err()
                .contains("did you mean specialists?")
        );
        assert!(shown("").is_err());
    }

    #[test]
    fn seeds_are_hosts_with_ports() {
        let Seeds(seeds) = Seeds::parse("a:7000, dns:amcp.internal:7000,[::1]:7,").unwrap();
        assert_eq!(
            seeds,
            [
                Seed::Host("a:7000".into()),
                Seed::Dns("amcp.internal:7000".into()),
                Seed::Host("[::1]:7".into()),
            ]
        );
        assert_eq!(Seeds(seeds).show(), "a:7000,dns:amcp.internal:7000,[::1]:7");
        for bad in [
            "a",
            "a:",
            ":7000",
            "a:0",
            "a:70000",
            "http://a:7000",
            "::1:7",
            "dns:a",
        ] {
            assert!(Seeds::parse(bad).is_err(), "{bad:?}");
        }
        assert_eq!(HostPort::host_of("[::1]:7"), "::1");
    }

    #[test]
    fn an_allow_list_reads_back_as_it_is_written() {
        let text = "b=finance.*,report.*;c=weather.get;d=";
        let list = <AllowList as SettingValue>::parse(text).unwrap();
        assert_eq!(list.0.len(), 3);
        assert!(
            list.0
                .iter()
                .any(|(node, globs)| node.as_str() == "d" && globs.is_empty())
        );
        assert_eq!(list.show(), text);
        for bad in ["b", "B=x.y", "b=x.*;b=y.*", "b=*.query"] {
            assert!(<AllowList as SettingValue>::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_domain_is_a_word_and_perhaps_what_belongs_to_it() {
        for text in ["finance", "office=finance.*,document.report.generate"] {
            assert_eq!(<Domain as SettingValue>::parse(text).unwrap().show(), text);
        }
        for bad in ["finance.db", "Finance!", "", "any", "a=", "a=b.*.c", "a=*"] {
            let hint = <Domain as SettingValue>::parse(bad).unwrap_err();
            assert!(hint.contains("finance=finance.*"), "{bad:?}: {hint}");
        }
    }
}
