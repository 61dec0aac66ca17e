//! The settings of a node: one table from which the type, the file's keys, the environment's names, `config show` and
//! docs/CONFIG.md come.
//!
//! Does not read files or the environment; that is [`layers`].

pub(crate) mod layers;
pub(crate) mod lists;
pub(crate) mod value;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use amcp_cluster::AllowList;
use amcp_planner::Domain;
use amcp_protocol::NodeName;
use lists::{HostPort, Roles, Seeds, Words};
use value::{HttpUrl, LlmKind, LogFormat, Secret, SettingValue};

/// One row of the table.
#[derive(Debug)]
pub(crate) struct Setting {
    /// The key in the file; upper-cased and after `AMCP_` the name in the environment; with dashes the flag, if it has one.
    pub(crate) key: &'static str,
    /// One or two sentences for docs/CONFIG.md.
    pub(crate) doc: &'static str,
    /// As text; empty when the setting has no default.
    pub(crate) default: &'static str,
    /// The form of its values, for docs/CONFIG.md.
    pub(crate) kind: &'static str,
    /// Whether the value must stay hidden.
    pub(crate) secret: bool,
    /// Parses a text: the value as `config show` prints it, or the fault of the text.
    pub(crate) check: fn(&str) -> Result<String, String>,
}

impl Setting {
    pub(crate) fn env(&self) -> String {
        format!("AMCP_{}", self.key.to_ascii_uppercase())
    }
}

macro_rules! settings {
    ($($(#[doc = $doc:literal])+ $key:ident: $type:ty = $default:literal,)*) => {
        /// The settings, each parsed.
        #[derive(Debug, Clone)]
        pub(crate) struct Config {
            $($(#[doc = $doc])+ pub(crate) $key: $type,)*
        }

        /// The table.
        pub(crate) const SETTINGS: &[Setting] = &[$(Setting {
            key: stringify!($key),
            doc: concat!($($doc),+),
            default: $default,
            kind: <$type as SettingValue>::KIND,
            secret: <$type as SettingValue>::SECRET,
            check: |text| <$type as SettingValue>::parse(text).map(|value| value.show()),
        },)*];

        impl Config {
            /// Builds the settings from their texts.
            ///
            /// # Errors
            /// The key, and the fault of its text.
            pub(crate) fn from_texts<'a>(text: impl Fn(&str) -> &'a str) -> Result<Self, (&'static str, String)> {
                Ok(Self {
                    $($key: <$type as SettingValue>::parse(text(stringify!($key)))
                        .map_err(|problem| (stringify!($key), problem))?,)*
                })
            }
        }
    };
}

settings! {
    /// The folder for all files that the node writes.
    data: PathBuf = "./amcp-data",
    /// Specialists stay off the network and answer from shipped sample data; their answers say so.
    offline: bool = "false",
    /// The planner, which also writes the answers: an LLM server, or the embedded planner without one.
    llm: LlmKind = "embedded",
    /// The name of the model on the LLM server.
    model: Option<String> = "",
    /// The address of the Ollama server. `OLLAMA_HOST` comes last before the default.
    ollama_url: HttpUrl = "http://127.0.0.1:11434",
    /// The address of an OpenAI-style server, without `/v1/chat/completions`.
    openai_url: Option<HttpUrl> = "",
    /// The key of the OpenAI-style server. Keep it in a file instead: see `openai_key_file`.
    openai_key: Option<Secret> = "",
    /// A file that holds the key of the OpenAI-style server.
    openai_key_file: Option<PathBuf> = "",
    /// Whether the embedded planner takes over when the LLM fails; the answer says so.
    llm_fallback: bool = "false",
    /// How long one call of the LLM may take.
    llm_timeout: Duration = "120s",
    /// The most calls of the LLM at a time.
    llm_concurrency: u32 = "2",
    /// The context that Ollama reserves, in tokens: prompt and answer together.
    llm_context: u32 = "16384",
    /// The most calls of the LLM for one request, with those that repair a plan and write the answer.
    llm_calls: u32 = "6",
    /// The server that forecasts come from, in place of Open-Meteo.
    weather_url: Option<HttpUrl> = "",
    /// The server that the coordinates of cities come from, in place of Open-Meteo.
    geocoding_url: Option<HttpUrl> = "",
    /// The address on which the node listens for HTTP. There are no accounts yet: everybody who reaches it may use it.
    http: SocketAddr = "127.0.0.1:8080",
    /// The address at which clients reach the node, perhaps through a proxy. Its host is a name of the node, and its pages may ask.
    public_url: Option<HttpUrl> = "",
    /// Further host names of the node. It refuses requests that name another `Host` than these, those of `public_url` and `advertise`, `localhost` and IP addresses.
    http_hosts: Words = "",
    /// An address of its own for `/livez` and `/readyz`, which answers however many clients `http` has; nodes without a gateway have it too.
    admin: Option<SocketAddr> = "",
    /// The most HTTP connections at a time.
    connections: u32 = "2048",
    /// The most HTTP connections of one client's address at a time; the node refuses further ones. A proxy is one address.
    connections_per_address: u32 = "1024",
    /// The most requests at a time; the node refuses further ones as `overloaded`.
    max_requests: u32 = "1024",
    /// The deadline of a request that names none.
    deadline: Duration = "60s",
    /// The longest deadline that a request may name.
    max_deadline: Duration = "10m",
    /// How many days a node that serves keeps a report.
    report_days: u32 = "7",
    /// The most reports in the data folder; further ones are refused as `storage_full`.
    report_count: u32 = "10000",
    /// The most bytes of reports in the data folder.
    report_bytes: usize = "1073741824",
    /// The most attempts at one task.
    attempts: u32 = "3",
    /// The most tasks in one plan.
    max_tasks: u32 = "32",
    /// The most bytes of results that one request may gather.
    result_bytes: usize = "33554432",
    /// The most answered requests that stay readable.
    retained: u32 = "1000",
    /// How long a stopping node waits for requests under way.
    drain: Duration = "10s",
    /// A level or a filter such as `info,amcp_orchestrator=debug`; by default `info` for a node, else `warn`.
    log: Option<String> = "",
    /// The form of the log: text for people, or one JSON object per line.
    log_format: LogFormat = "human",
    /// The node's name, unique among the nodes; by default the machine's, or `amcp` if the machine's is no valid node name.
    name: Option<NodeName> = "",
    /// The address on which the node listens for other nodes; without it the node stays alone.
    cluster: Option<SocketAddr> = "",
    /// Addresses of other nodes to dial first; `dns:` stands for all addresses of a host.
    join: Seeds = "",
    /// The address at which other nodes reach this one; by default the one that its connections come from, with the port of `cluster`.
    advertise: Option<HostPort> = "",
    /// The parts that the node runs; a gateway needs the orchestrator beside it.
    roles: Roles = "orchestrator,gateway,specialists",
    /// The built-in specialists that run here, by agent, capability or first word (`finance,weather`); by default all.
    specialists: Words = "",
    /// The capabilities that this node's orchestrator plans with: those that begin with the word (`finance`), or those in the list (`finance=finance.*,document.*`); by default all. It hands other parts of a query to the orchestrators of other domains.
    domain: Option<Domain> = "",
    /// The secret that all nodes of the cluster share, 128 bits or more; `amcp cluster cookie` makes one. Keep it in a file instead: see `cookie_file`.
    cookie: Option<Secret> = "",
    /// A file that holds the cookie. Without a cookie, nodes on loopback addresses share a generated one (`~/.local/state/amcp/cookie`).
    cookie_file: Option<PathBuf> = "",
    /// A folder with `ca.pem`, `NAME.pem` and `NAME.key`, as `amcp cluster certs` makes them.
    cluster_certs: Option<PathBuf> = "",
    /// In place of `cluster_certs`: the certificate of the authority that all nodes trust.
    cluster_ca: Option<PathBuf> = "",
    /// In place of `cluster_certs`: this node's certificate.
    cluster_cert: Option<PathBuf> = "",
    /// In place of `cluster_certs`: the key of this node's certificate.
    cluster_key: Option<PathBuf> = "",
    /// Allows links without encryption beyond loopback addresses.
    insecure: bool = "false",
    /// The capabilities that the agents of a node may offer here (`b=finance.*,report.*;c=weather.get`); a node that is not in the list may offer all.
    cluster_allow: AllowList = "",
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_default_is_valid_and_shown_as_it_is_written() {
        for setting in SETTINGS {
            let shown = (setting.check)(setting.default)
                .unwrap_or_else(|problem| panic!("{}: {problem}", setting.key));
            assert_eq!(shown, setting.default, "{}", setting.key);
        }
    }

    #[test]
    fn the_document_is_the_table() {
        let mut rows = String::new();
        for setting in SETTINGS {
            let default = match setting.default {
                "" => "–".to_owned(),
                text => format!("`{text}`"),
            };
            rows.push_str(&format!(
                "| `{}` | `{}` | {} | {default} | {} |\n",
                setting.key,
                setting.env(),
                setting.kind,
                setting.doc.trim()
            ));
        }
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/CONFIG.md");
        let document = std::fs::read_to_string(path).unwrap();
        let table = document
            .split_once("|---|---|---|---|---|\n")
            .map_or("", |(_, table)| table);
        assert_eq!(
            table.trim_end(),
            rows.trim_end(),
            "replace the table of docs/CONFIG.md by:\n{rows}"
        );
    }
}
