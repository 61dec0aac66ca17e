//! The command line: commands, flags and help texts.
//!
//! Does not judge the values of settings: their texts go to [`crate::config::layers`] beside those of the other sources.

mod audit;
mod cluster;
mod keys;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use jiff::civil::Date;

pub(crate) use audit::{Audit, Shown};
pub(crate) use cluster::{Certs, Cluster, ClusterTool, Node};
pub(crate) use keys::Keys;

use crate::config::layers::Inputs;

const EXIT_CODES: &str = "\
Exit codes:
  0  answered
  1  failed
  2  the command line, the configuration or the query is unusable
  3  partly answered: something is missing, and the answer says what
  4  cancelled
  5  unavailable for now (overloaded, draining, no node, no LLM): try again later

Settings come from flags, then AMCP_* in the environment, then the configuration file (--config, else AMCP_CONFIG,
else ./amcp.toml or DATA/amcp.toml), then the defaults; `amcp config show` says which.";

/// Ask in plain language; supervised agents do the work and one answer comes back.
#[derive(Debug, Parser)]
#[command(name = "amcp", version, after_help = EXIT_CODES)]
pub(crate) struct Cli {
    #[command(flatten)]
    flags: Flags,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Settings for any command.
#[derive(Debug, Args)]
#[command(next_help_heading = "Settings")]
struct Flags {
    /// The configuration file
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The folder for all files that AMCP writes [default: ./amcp-data]
    #[arg(long, global = true, value_name = "DIR")]
    data: Option<String>,
    /// Specialists stay off the network and answer from shipped sample data; their answers say so
    #[arg(long, global = true)]
    offline: bool,
    /// The planner: embedded, ollama or openai [default: embedded]
    #[arg(long, global = true, value_name = "PLANNER")]
    llm: Option<String>,
    /// The name of the model on the LLM server
    #[arg(long, global = true, value_name = "NAME")]
    model: Option<String>,
    /// Let the embedded planner take over when the LLM fails; the answer says so
    #[arg(long, global = true)]
    llm_fallback: bool,
    /// The address of the Ollama server [default: http://127.0.0.1:11434]
    #[arg(long, global = true, value_name = "URL")]
    ollama_url: Option<String>,
    /// The address of an OpenAI-style server
    #[arg(long, global = true, value_name = "URL")]
    openai_url: Option<String>,
    /// A file that holds the key of the OpenAI-style server
    #[arg(long, global = true, value_name = "FILE")]
    openai_key_file: Option<String>,
    /// The address on which a node listens for HTTP [default: 127.0.0.1:8080]
    #[arg(long, global = true, value_name = "ADDRESS")]
    http: Option<String>,
    /// The log's level or filter [default: info for a node, else warn]
    #[arg(long, global = true, value_name = "FILTER")]
    log: Option<String>,
    /// The log's form: human or json [default: human]
    #[arg(long, global = true, value_name = "FORMAT")]
    log_format: Option<String>,
    /// The deadline of a request, such as 30s [default: 60s]
    #[arg(long, global = true, value_name = "TIME")]
    deadline: Option<String>,
}

impl Cli {
    /// The layers above the defaults: flags, file and environment.
    pub(crate) fn inputs(&self) -> Inputs {
        let flags = &self.flags;
        let switch = |on: bool| on.then(|| "true".to_owned());
        let given = [
            ("data", flags.data.clone()),
            ("offline", switch(flags.offline)),
            ("llm", flags.llm.clone()),
            ("llm_fallback", switch(flags.llm_fallback)),
            ("model", flags.model.clone()),
            ("ollama_url", flags.ollama_url.clone()),
            ("openai_url", flags.openai_url.clone()),
            ("openai_key_file", flags.openai_key_file.clone()),
            ("http", flags.http.clone()),
            ("log", flags.log.clone()),
            ("log_format", flags.log_format.clone()),
            ("deadline", flags.deadline.clone()),
        ];
        let of_node = match &self.command {
            Command::Node(node) => node.given(),
            Command::Ask(_)
            | Command::Plan(_)
            | Command::Eval(_)
            | Command::Agents(_)
            | Command::Doctor { .. }
            | Command::Cluster(_)
            | Command::Demo(_)
            | Command::Replay { .. }
            | Command::Keys { .. }
            | Command::Audit { .. }
            | Command::Config { .. } => Vec::new(),
        };
        Inputs {
            flags: given
                .into_iter()
                .chain(of_node)
                .filter_map(|(key, text)| Some((key, text?)))
                .collect(),
            file: flags.config.clone(),
            environment: std::env::vars_os().collect(),
        }
    }
}

/// The commands.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Ask, and get one answer
    Ask(Ask),
    /// Show the plan for a query, without carrying it out
    Plan(Plan),
    /// Measure the planner by a file of queries, their right plans and answers; carries plans out only with --answers
    Eval(Eval),
    /// Compare a recorded request with the decisions of this build, without carrying them out
    Replay {
        /// A file that `amcp ask --record FILE` wrote
        file: PathBuf,
    },
    /// List the agents: capability, agent, state, tasks in flight, restarts
    Agents(Agents),
    /// Check the LLM, the port, the data folder and the sample data
    Doctor {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Serve until told to stop: over HTTP, and together with other nodes
    Node(Box<Node>),
    /// Show the nodes, their state, agents and tasks under way; make certificates and a cookie for them
    Cluster(Cluster),
    /// Make, list and end the API keys in the data folder
    Keys {
        #[command(subcommand)]
        what: Keys,
    },
    /// Check and show the log of what was asked and done
    Audit {
        #[command(subcommand)]
        what: Audit,
    },
    /// Show a whole mesh at work, without an LLM or a network
    Demo(Demo),
    /// Show the settings
    Config {
        #[command(subcommand)]
        what: Config,
    },
}

/// The query, its user, and the node that answers.
#[derive(Debug, Args)]
pub(crate) struct Query {
    /// The query in plain language; `-` reads it from stdin
    #[arg(required = true, value_name = "QUERY")]
    pub(crate) words: Vec<String>,
    /// The running node to ask; without it this process starts a node of its own
    #[arg(long, value_name = "URL")]
    pub(crate) url: Option<String>,
    /// A role that you have; may be repeated
    #[arg(long = "role", value_name = "ROLE")]
    pub(crate) roles: Vec<String>,
    /// Your name
    #[arg(long, value_name = "NAME")]
    pub(crate) user: Option<String>,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
    /// Print only the answer, or the reason why there is none
    #[arg(long, short)]
    pub(crate) quiet: bool,
}

/// `amcp ask`.
#[derive(Debug, Args)]
pub(crate) struct Ask {
    #[command(flatten)]
    pub(crate) query: Query,
    /// The node carries out the request once per key, however often it is sent (with --url)
    #[arg(long, value_name = "KEY", requires = "url")]
    pub(crate) idempotency_key: Option<String>,
    /// Approve every confirmation without asking, for scripts; other questions need a terminal
    #[arg(long, short)]
    pub(crate) yes: bool,
    /// Record every decision to a new file, for `amcp replay` and bug reports; it holds the query and all results
    #[arg(long, value_name = "FILE", conflicts_with = "url")]
    pub(crate) record: Option<PathBuf>,
}

/// `amcp plan`.
#[derive(Debug, Args)]
pub(crate) struct Plan {
    #[command(flatten)]
    pub(crate) query: Query,
    /// Plan over the capabilities in this JSON file, a list written as on agents' cards, without any agent
    #[arg(long, value_name = "FILE", conflicts_with = "url")]
    pub(crate) cards: Option<PathBuf>,
    /// The day from which "tomorrow" counts, such as 2025-03-31 [default: today]
    #[arg(long, value_name = "DATE", conflicts_with = "url")]
    pub(crate) today: Option<Date>,
}

/// `amcp eval`.
#[derive(Debug, Args)]
pub(crate) struct Eval {
    /// A JSON file of cases: queries and their right plans
    pub(crate) file: PathBuf,
    /// The day from which "tomorrow" counts in cases without `today`, such as 2025-03-31 [default: today]
    #[arg(long, value_name = "DATE")]
    pub(crate) today: Option<Date>,
    /// Carry out the plans of the cases with an answer, and judge the answers too (by the model as well, if one is configured)
    #[arg(long)]
    pub(crate) answers: bool,
    /// The model on the LLM server that judges answers [default: the planner's]
    #[arg(long, value_name = "NAME", requires = "answers")]
    pub(crate) judge: Option<String>,
    /// Also list each wrong case with the reason
    #[arg(long)]
    pub(crate) list: bool,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// `amcp agents`.
#[derive(Debug, Args)]
pub(crate) struct Agents {
    /// The running node to ask; without it this process starts a node of its own
    #[arg(long, value_name = "URL")]
    pub(crate) url: Option<String>,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// `amcp demo`.
#[derive(Debug, Args)]
pub(crate) struct Demo {
    /// Let specialists use the network (by default the demo is offline)
    #[arg(long, conflicts_with = "offline")]
    pub(crate) online: bool,
    /// Kill specialists while requests run, and count how the requests end
    #[arg(long, conflicts_with = "online")]
    pub(crate) faults: bool,
    /// The number of requests that --faults sends
    #[arg(long, value_name = "N", default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=100_000), requires = "faults")]
    pub(crate) requests: u32,
    /// Start N nodes on this machine (3 to 9); kill one, freeze one and cut one off while requests run
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(3..=9), conflicts_with_all = ["faults", "online"])]
    pub(crate) cluster: Option<u8>,
}

/// `amcp config`.
#[derive(Debug, Subcommand)]
pub(crate) enum Config {
    /// Show each setting, its value and the source of the value
    Show {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;
    use crate::config::SETTINGS;

    #[test]
    fn the_command_line_is_sound_and_its_settings_exist() {
        Cli::command().debug_assert();
        let cli = Cli::parse_from([
            "amcp",
            "--data",
            "d",
            "--offline",
            "--llm",
            "ollama",
            "--llm-fallback",
            "--model",
            "m",
            "--ollama-url",
            "u",
            "--openai-url",
            "u",
            "--openai-key-file",
            "f",
            "--http",
            "h",
            "--log",
            "l",
            "--log-format",
            "f",
            "--deadline",
            "1s",
            "node",
            "--name=a",
            "--admin=a",
            "--cluster=c",
            "--join=j:1",
            "--join=k:1,l:1",
            "--advertise=a",
            "--roles=orchestrator",
            "--roles=gateway",
            "--specialists=s",
            "--domain=d",
            "--cookie-file=f",
            "--cluster-certs=f",
            "--cluster-ca=f",
            "--cluster-cert=f",
            "--cluster-key=f",
            "--insecure",
            "--cluster-allow=b=x.*",
            "--cluster-allow=c=y.*",
        ]);
        let inputs = cli.inputs();
        assert_eq!(inputs.flags.len(), 12 + 15);
        let given = |key: &str| {
            inputs
                .flags
                .iter()
                .find(|(k, _)| *k == key)
                .map(|(_, text)| text.as_str())
        };
        assert_eq!(given("join"), Some("j:1,k:1,l:1"));
        assert_eq!(given("roles"), Some("orchestrator,gateway"));
        assert_eq!(given("cluster_allow"), Some("b=x.*;c=y.*"));
        assert_eq!(given("insecure"), Some("true"));
        for (key, _) in inputs.flags {
            assert!(SETTINGS.iter().any(|setting| setting.key == key), "{key}");
        }
    }
}
