//! The settings of a node: one tree of types from which the file, the environment's names, the flags, `amcp config`, the JSON
//! Schema and the table of docs/CONFIG.md come (ADR-0019).
//!
//! Does not read files or the environment; that is [`layers`]. A field's comment is its documentation everywhere.

pub(crate) mod access;
pub(crate) mod layers;
pub(crate) mod lists;
pub(crate) mod schema;
pub(crate) mod value;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::num::{NonZeroU32, NonZeroUsize};
use std::path::PathBuf;
use std::time::Duration;

use amcp_cluster::{Issue, Seed};
use amcp_planner::Domain;
use amcp_protocol::{CapabilityPattern, NodeName};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use smart_default::SmartDefault;

use access::{AuditSettings, Issuer, Rules};
use lists::{HostPort, Parts};
use value::{HttpUrl, JournalPlace, LlmKind, LogFormat, Secret, Text};

/// The settings. `x-anywhere`: every command has the flag, not only `amcp node`. `x-live`: a running node takes a new value over.
#[derive(Debug, Clone, PartialEq, SmartDefault, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(title = "amcp.toml", description = "The settings of an AMCP node.")]
pub(crate) struct Config {
    /// The folder for all files that the node writes.
    #[default(PathBuf::from("./amcp-data"))]
    #[schemars(extend("format" = "path", "x-anywhere" = true))]
    pub(crate) data: PathBuf,
    /// Where a node that serves keeps accepted requests, so that they go on after a crash: `file` in the data folder, `file:FOLDER`, or `memory`, where they end with the process.
    #[default(Text(JournalPlace::Data))]
    pub(crate) journal: Text<JournalPlace>,
    /// Specialists stay off the network and answer from shipped sample data; their answers say so.
    #[schemars(extend("x-anywhere" = true))]
    pub(crate) offline: bool,
    /// The planner, which also writes the answers: an LLM server, or the embedded planner without one.
    #[schemars(extend("x-anywhere" = true))]
    pub(crate) llm: LlmKind,
    /// The name of the model on the LLM server.
    #[schemars(extend("x-anywhere" = true))]
    pub(crate) model: Option<String>,
    /// The address of the Ollama server. `OLLAMA_HOST` comes last before the default.
    #[default(Text::known("http://127.0.0.1:11434"))]
    #[schemars(extend("x-anywhere" = true))]
    pub(crate) ollama_url: Text<HttpUrl>,
    /// The address of an OpenAI-style server, without `/v1/chat/completions`.
    #[schemars(extend("x-anywhere" = true))]
    pub(crate) openai_url: Option<Text<HttpUrl>>,
    /// The key of the OpenAI-style server.
    #[schemars(extend("x-anywhere" = true))]
    pub(crate) openai_key: Option<Secret>,
    /// Whether the embedded planner takes over when the LLM fails; the answer says so.
    #[schemars(extend("x-anywhere" = true))]
    pub(crate) llm_fallback: bool,
    /// How long one call of the LLM may take.
    #[default(Text(Duration::from_secs(120)))]
    pub(crate) llm_timeout: Text<Duration>,
    /// The most calls of the LLM at a time.
    #[default(most(2))]
    pub(crate) llm_concurrency: NonZeroU32,
    /// The context that Ollama reserves, in tokens: prompt and answer together.
    #[default(most(16_384))]
    pub(crate) llm_context: NonZeroU32,
    /// The most calls of the LLM for one request, with those that repair a plan and write the answer.
    #[default(most(6))]
    #[schemars(extend("x-live" = true))]
    pub(crate) llm_calls: NonZeroU32,
    /// The server that forecasts come from, in place of Open-Meteo.
    pub(crate) weather_url: Option<Text<HttpUrl>>,
    /// The server that the coordinates of cities come from, in place of Open-Meteo.
    pub(crate) geocoding_url: Option<Text<HttpUrl>>,
    /// The address on which the node listens for HTTP. Other machines can reach it only with HTTPS and API keys (docs/ACCESS.md).
    #[default(Text::known("127.0.0.1:8080"))]
    #[schemars(extend("x-anywhere" = true))]
    pub(crate) http: Text<SocketAddr>,
    /// The certificate for HTTPS at `http`, in PEM, with those of the authorities between it and a root. The node reads changed files again.
    #[schemars(extend("format" = "path"))]
    pub(crate) tls_cert: Option<PathBuf>,
    /// The key of `tls_cert`, in PEM without a password.
    #[schemars(extend("format" = "path"))]
    pub(crate) tls_key: Option<PathBuf>,
    /// The authorities of clients, in PEM: only clients with a certificate of theirs can connect to `http`; they need an API key all the same.
    #[schemars(extend("format" = "path"))]
    pub(crate) tls_client_ca: Option<PathBuf>,
    /// The authorities, in PEM, that the command line trusts when it asks a node (`--url`), beside the public ones.
    #[schemars(extend("format" = "path", "x-anywhere" = true))]
    pub(crate) ca: Option<PathBuf>,
    /// The certificate that the command line shows to a node with `tls_client_ca`, and its key, in one PEM file.
    #[schemars(extend("format" = "path", "x-anywhere" = true))]
    pub(crate) client_cert: Option<PathBuf>,
    /// Says that a proxy before the node speaks HTTPS with clients, so that the node may serve other machines without `tls_cert`. Then every client needs a credential.
    pub(crate) behind_proxy: bool,
    /// The address at which clients reach the node, perhaps through a proxy. Its host is a name of the node, and its pages may ask.
    pub(crate) public_url: Option<Text<HttpUrl>>,
    /// Further host names of the node. It refuses requests that name another `Host` than these, those of `public_url` and `advertise`, `localhost` and IP addresses.
    pub(crate) http_hosts: Vec<String>,
    /// An address of its own for `/livez`, `/readyz` and `/metrics`, all without a key, which answers however many clients `http` has; nodes without a gateway have it too.
    pub(crate) admin: Option<Text<SocketAddr>>,
    /// The most HTTP connections at a time.
    #[default(most(2_048))]
    pub(crate) connections: NonZeroU32,
    /// The most HTTP connections of one client's address at a time; the node refuses further ones. A proxy is one address.
    #[default(most(1_024))]
    pub(crate) connections_per_address: NonZeroU32,
    /// The most requests at a time; the node refuses further ones as `overloaded`.
    #[default(most(1_024))]
    pub(crate) max_requests: NonZeroU32,
    /// The deadline of a request that names none.
    #[default(Text(Duration::from_secs(60)))]
    #[schemars(extend("x-anywhere" = true, "x-live" = true))]
    pub(crate) deadline: Text<Duration>,
    /// The longest deadline that a request may name.
    #[default(Text(Duration::from_secs(600)))]
    #[schemars(extend("x-live" = true))]
    pub(crate) max_deadline: Text<Duration>,
    /// How many days a node that serves keeps a report.
    #[default(most(7))]
    pub(crate) report_days: NonZeroU32,
    /// The most reports in the data folder; further ones are refused as `storage_full`.
    #[default(most(10_000))]
    pub(crate) report_count: NonZeroU32,
    /// The most bytes of reports in the data folder.
    #[default(NonZeroUsize::new(1024 * 1024 * 1024).expect("not zero"))]
    pub(crate) report_bytes: NonZeroUsize,
    /// The most attempts at one task.
    #[default(most(3))]
    #[schemars(extend("x-live" = true))]
    pub(crate) attempts: NonZeroU32,
    /// The most tasks in one plan.
    #[default(most(32))]
    #[schemars(extend("x-live" = true))]
    pub(crate) max_tasks: NonZeroU32,
    /// The most bytes of results that one request may gather.
    #[default(NonZeroUsize::new(32 * 1024 * 1024).expect("not zero"))]
    #[schemars(extend("x-live" = true))]
    pub(crate) result_bytes: NonZeroUsize,
    /// The most answered requests that stay readable.
    #[default(most(1_000))]
    pub(crate) retained: NonZeroU32,
    /// How long a stopping node waits for requests under way.
    #[default(Text(Duration::from_secs(10)))]
    #[schemars(extend("x-live" = true))]
    pub(crate) drain: Text<Duration>,
    /// A level or a filter such as `info,amcp_orchestrator=debug`; by default `info` for a node, else `warn`.
    #[schemars(extend("x-anywhere" = true, "x-live" = true))]
    pub(crate) log: Option<String>,
    /// The form of the log: text for people, or one JSON object per line.
    #[schemars(extend("x-anywhere" = true))]
    pub(crate) log_format: LogFormat,
    /// The collector for traces (OpenTelemetry, OTLP over HTTP), without `/v1/traces`; without one, no span is recorded.
    #[schemars(extend("x-anywhere" = true))]
    pub(crate) otlp_url: Option<Text<HttpUrl>>,
    /// The node's name, unique among the nodes; by default the machine's, or `amcp` if the machine's is no valid node name.
    pub(crate) name: Option<Text<NodeName>>,
    /// The address on which the node listens for other nodes; without it the node stays alone.
    pub(crate) cluster: Option<Text<SocketAddr>>,
    /// Addresses of other nodes to dial first; `dns:` stands for all addresses of a host.
    pub(crate) join: Vec<Text<Seed>>,
    /// The address at which other nodes reach this one; by default the one that its connections come from, with the port of `cluster`.
    pub(crate) advertise: Option<Text<HostPort>>,
    /// The parts that the node runs; a gateway needs the orchestrator beside it.
    pub(crate) parts: Parts,
    /// The rules of roles: `[roles.analyst]` with `allow`, `deny`, `effect`, `irreversible` and `budget` (docs/ACCESS.md).
    #[schemars(extend("x-live" = true))]
    pub(crate) roles: BTreeMap<String, Rules>,
    /// The rules of agents that call other agents: `[calls.AGENT]` as for roles; `[calls."*"]` is for agents without rules of their own.
    #[schemars(extend("x-live" = true))]
    pub(crate) calls: BTreeMap<String, Rules>,
    /// The issuers whose tokens prove users: `[[issuers]]` with `issuer`, `audience`, `algorithms` and `jwks` (docs/ACCESS.md).
    pub(crate) issuers: Vec<Issuer>,
    /// Whether a client on the node's own machine may come without a credential, if it comes directly; behind a proxy that sets no header everybody seems to.
    #[default(true)]
    pub(crate) anonymous: bool,
    /// The log of what was asked and done.
    pub(crate) audit: AuditSettings,
    /// The built-in specialists that run here, by agent, capability or first word (`finance,weather`); by default all.
    pub(crate) specialists: Vec<String>,
    /// The capabilities that this node's orchestrator plans with: those that begin with the word (`finance`), or those in the list (`finance=finance.*,document.*`); by default all. It hands other parts of a query to the orchestrators of other domains.
    pub(crate) domain: Option<Text<Domain>>,
    /// The secret that all nodes of the cluster share, 128 bits or more; `amcp cluster cookie` makes one. Without a cookie, nodes on loopback addresses share a generated one (`~/.local/state/amcp/cookie`).
    pub(crate) cookie: Option<Secret>,
    /// A folder with `ca.pem`, `NAME.pem` and `NAME.key`, as `amcp cluster certs` makes them.
    #[schemars(extend("format" = "path"))]
    pub(crate) cluster_certs: Option<PathBuf>,
    /// In place of `cluster_certs`: the certificate of the authority that all nodes trust.
    #[schemars(extend("format" = "path"))]
    pub(crate) cluster_ca: Option<PathBuf>,
    /// In place of `cluster_certs`: this node's certificate.
    #[schemars(extend("format" = "path"))]
    pub(crate) cluster_cert: Option<PathBuf>,
    /// In place of `cluster_certs`: the key of this node's certificate.
    #[schemars(extend("format" = "path"))]
    pub(crate) cluster_key: Option<PathBuf>,
    /// Allows links without encryption beyond loopback addresses.
    pub(crate) insecure: bool,
    /// The capabilities that the agents of a node may offer here (`b=finance.*,report.*;c=weather.get`); a node that is not in the list may offer all.
    #[schemars(with = "BTreeMap<String, Vec<String>>")]
    pub(crate) cluster_allow: BTreeMap<NodeName, Vec<CapabilityPattern>>,
    /// What the requests of a node may ask for here (`[cluster_trust.b]`): `roles` that their users may have, `capabilities` that they may use; without either, and for a node without a table, everything. With any table, work that a third node passes on needs a warrant; the table of the node that accepted the request counts, or that of the node that passes on where it has none.
    #[schemars(with = "BTreeMap<String, BTreeMap<String, Vec<String>>>")]
    pub(crate) cluster_trust: BTreeMap<NodeName, Issue>,
}

impl Config {
    /// Whether a secret itself is among the settings, and not its place.
    fn holds_secrets(&self) -> bool {
        fn holds(tree: &serde_json::Value) -> bool {
            let lists = tree.as_array().into_iter().flatten();
            let tables = tree
                .as_object()
                .into_iter()
                .flat_map(|table| table.values());
            tree == value::HIDDEN || lists.chain(tables).any(holds)
        }
        serde_json::to_value(self).is_ok_and(|tree| holds(&tree))
    }
}

/// A bound that is a constant of this file.
const fn most(number: u32) -> NonZeroU32 {
    NonZeroU32::new(number).expect("no default is zero")
}

#[cfg(test)]
impl Config {
    /// The settings that these variables give: keys and texts.
    pub(crate) fn of(given: &[(&str, &str)]) -> Self {
        let variable = |(path, text): &(&str, &str)| {
            let name = format!("AMCP_{}", path.to_ascii_uppercase());
            (name.into(), (*text).into())
        };
        let inputs = layers::Inputs {
            environment: given.iter().map(variable).collect(),
            ..layers::Inputs::default()
        };
        layers::load(&inputs).unwrap().config
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_default_reads_back_as_it_is_shown() {
        let defaults = Config::of(&[]);
        assert_eq!(defaults, Config::default());
        for setting in schema::settings() {
            if let Some(text) = setting.default() {
                assert_eq!(Config::of(&[(&setting.path, &text)]), defaults, "{text}");
            }
        }
    }

    #[test]
    fn the_document_is_the_tree() {
        let mut rows = String::new();
        for setting in schema::settings() {
            let code = |text: &String| format!("`{text}`");
            let variables: Vec<String> = setting.variables().iter().map(code).collect();
            let default = setting.default().as_ref().map_or("–".to_owned(), code);
            let live = if setting.is_live() { "yes" } else { "" };
            rows.push_str(&format!(
                "| `{}` | {} | {} | {default} | {live} | {} |\n",
                setting.path,
                variables.join(", "),
                setting.allowed(),
                setting.doc
            ));
        }
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/CONFIG.md");
        let document = std::fs::read_to_string(path).unwrap();
        let table = document
            .split_once("|---|---|---|---|---|---|\n")
            .map_or("", |(_, table)| table);
        assert_eq!(
            table.trim_end(),
            rows.trim_end(),
            "replace the table of docs/CONFIG.md by:\n{rows}"
        );
    }
}
