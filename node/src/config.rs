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
    /// What it does.
    pub(crate) doc: &'static str,
    /// As text; empty when it is not set by default.
    pub(crate) default: &'static str,
    /// What its values look like.
    pub(crate) kind: &'static str,
    /// Whether its value must not be shown.
    pub(crate) secret: bool,
    /// Parses a text and says what is wrong with it, or how the value is shown.
    pub(crate) check: fn(&str) -> Result<String, String>,
}

impl Setting {
    /// Its name in the environment.
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
            /// The key and what is wrong with its text.
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
    /// The folder that everything that is written goes to.
    data: PathBuf = "./amcp-data",
    /// No specialist touches the network; shipped sample data is used and labelled.
    offline: bool = "false",
    /// Who plans and writes the answers: an LLM server, or the embedded planner, which needs none.
    llm: LlmKind = "embedded",
    /// The model that the LLM server is asked for.
    model: Option<String> = "",
    /// Where Ollama listens. OLLAMA_HOST is used when nothing else sets it.
    ollama_url: HttpUrl = "http://127.0.0.1:11434",
    /// Where an OpenAI-style server listens (`/v1/chat/completions` is added).
    openai_url: Option<HttpUrl> = "",
    /// The key of the OpenAI-style server. Better kept in a file: see openai_key_file.
    openai_key: Option<Secret> = "",
    /// A file that holds the key of the OpenAI-style server.
    openai_key_file: Option<PathBuf> = "",
    /// Whether the embedded planner takes over when the LLM fails; the answer says so.
    llm_fallback: bool = "false",
    /// How long one call of the LLM may take.
    llm_timeout: Duration = "120s",
    /// Most calls of the LLM at a time.
    llm_concurrency: u32 = "2",
    /// Tokens that Ollama reserves for prompt and answer together.
    llm_context: u32 = "16384",
    /// Most calls of the LLM for one request, repairs and the answer included.
    llm_calls: u32 = "6",
    /// Where forecasts come from, in place of Open-Meteo.
    weather_url: Option<HttpUrl> = "",
    /// Where coordinates of cities come from, in place of Open-Meteo.
    geocoding_url: Option<HttpUrl> = "",
    /// Where the node listens for HTTP. There are no accounts yet: whoever reaches it may use it.
    http: SocketAddr = "127.0.0.1:8080",
    /// Where clients reach the node, for links to reports; by default the address it listens on, or loopback where that is every address.
    public_url: Option<HttpUrl> = "",
    /// Most HTTP connections at a time.
    connections: u32 = "2048",
    /// Most requests at a time; further ones are refused as overloaded.
    max_requests: u32 = "1024",
    /// How long a request may take when it does not say.
    deadline: Duration = "60s",
    /// The longest deadline that a request may name.
    max_deadline: Duration = "10m",
    /// Most attempts at one task.
    attempts: u32 = "3",
    /// Most tasks of one plan.
    max_tasks: u32 = "32",
    /// Most bytes of results that one request may gather.
    result_bytes: usize = "33554432",
    /// How many answered requests stay readable.
    retained: u32 = "1000",
    /// How long requests under way may take to end when the node is told to stop.
    drain: Duration = "10s",
    /// What is logged: a level or a filter such as `info,amcp_orchestrator=debug`; by default `info` for a node, else `warn`.
    log: Option<String> = "",
    /// How it is logged.
    log_format: LogFormat = "human",
    /// The node's name, unique among the nodes; by default the machine's, or `amcp` where that is no name for a node.
    name: Option<NodeName> = "",
    /// Where the node listens for other nodes; without it, it is alone.
    cluster: Option<SocketAddr> = "",
    /// Where other nodes are looked for; `dns:` takes every address that the host has.
    join: Seeds = "",
    /// Where other nodes reach this one; by default the address that it is met from and the port that it listens on.
    advertise: Option<HostPort> = "",
    /// What the node is there for; a gateway needs the orchestrator beside it.
    roles: Roles = "orchestrator,gateway,specialists",
    /// Which built-in specialists run here, by agent, capability or first word (`finance,weather`); by default all.
    specialists: Words = "",
    /// What this node's orchestrator plans with: what begins with the word (`finance`), or what is named (`finance=finance.*,document.*`); by default everything. Of what is not its own it hands whole requests to orchestrators of other domains.
    domain: Option<Domain> = "",
    /// What all nodes of the cluster know: 128 bits or more; `amcp cluster cookie` makes one. Better kept in a file: see cookie_file.
    cookie: Option<Secret> = "",
    /// A file that holds the cookie. Without a cookie, nodes on loopback addresses share a generated one (`~/.local/state/amcp/cookie`).
    cookie_file: Option<PathBuf> = "",
    /// A folder that `amcp cluster certs` filled: `ca.pem`, `NAME.pem` and `NAME.key` are used.
    cluster_certs: Option<PathBuf> = "",
    /// In place of cluster_certs: the certificate of the authority that all nodes trust.
    cluster_ca: Option<PathBuf> = "",
    /// In place of cluster_certs: this node's certificate.
    cluster_cert: Option<PathBuf> = "",
    /// In place of cluster_certs: the key of this node's certificate.
    cluster_key: Option<PathBuf> = "",
    /// Allows links without encryption beyond loopback addresses.
    insecure: bool = "false",
    /// Which capabilities the agents of a node may offer here; one that is not named may offer all (`b=finance.*,report.*;c=weather.get`).
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

    /// docs/CONFIG.md is what this prints; the test fails when the two differ.
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
