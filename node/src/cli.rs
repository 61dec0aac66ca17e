//! The command line: commands, flags and help texts.
//!
//! Does not judge the values of settings: their texts go to [`crate::config::layers`] beside those of the other sources.

mod audit;
mod cluster;
mod keys;
mod requests;

use std::path::PathBuf;

use clap::{ArgMatches, Args, CommandFactory, FromArgMatches, Parser, Subcommand};
use clap_complete::Shell;
use jiff::civil::Date;

pub(crate) use audit::{Audit, Shown};
pub(crate) use cluster::{Certs, Cluster, ClusterTool};
pub(crate) use keys::Keys;
pub(crate) use requests::{OneRequest, Requests, Run};

use crate::client::URL_VARIABLE;
use crate::config::layers::Inputs;
use crate::config::schema;

const EXIT_CODES: &str = "\
Exit codes:
  0  answered
  1  failed
  2  the command line, the configuration or the query is unusable
  3  partly answered: something is missing, and the answer says what
  4  cancelled
  5  unavailable for now (overloaded, draining, no node, no LLM): try again later

Settings come from flags, then AMCP_* in the environment, then the configuration file (--config, else AMCP_CONFIG,
else ~/.config/amcp/amcp.toml), then the defaults; `amcp config show` says which.

AMCP_URL is the address of the node to ask, in place of --url; AMCP_KEY is the API key that proves who you are there.";

/// Ask in plain language; supervised agents do the work and one answer comes back.
#[derive(Debug, Parser)]
#[command(name = "amcp", version, after_help = EXIT_CODES)]
pub(crate) struct Cli {
    /// The configuration file
    #[arg(long, global = true, value_name = "FILE", help_heading = "Settings")]
    config: Option<PathBuf>,
    #[command(subcommand)]
    pub(crate) command: Command,
}

impl Cli {
    /// Reads the command line of this process, with the layers above the defaults; ends the process if the line is unusable.
    pub(crate) fn read() -> (Self, Inputs) {
        Self::of(with_settings().get_matches()).unwrap_or_else(|error| error.exit())
    }

    fn of(matches: ArgMatches) -> clap::error::Result<(Self, Inputs)> {
        let mut cli = Self::from_arg_matches(&matches)?;
        let named = std::env::var(URL_VARIABLE).ok();
        if let (Some(url), Some(named)) = (cli.command.url(), named.filter(|url| !url.is_empty())) {
            url.get_or_insert(named);
        }
        let mut innermost = &matches;
        while let Some((_, matches)) = innermost.subcommand() {
            innermost = matches;
        }
        let inputs = Inputs {
            flags: schema::given(innermost),
            file: cli.config.clone(),
            environment: std::env::vars_os().collect(),
        };
        Ok((cli, inputs))
    }
}

/// The commands with the flags of the settings.
pub(crate) fn with_settings() -> clap::Command {
    let command = Cli::command().args(schema::flags(true));
    // Its name before `[roles.NAME]`.
    let old = clap::Arg::new("roles")
        .long("roles")
        .hide(true)
        .value_parser(|_: &str| Err::<String, _>("the parts of a node are --parts"));
    command.mut_subcommand("node", |node| node.args(schema::flags(false)).arg(old))
}

/// The commands.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Ask, and get one answer
    Ask(Ask),
    /// Carry out one capability, or a plan of your own, without a planner
    Run(Run),
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
    /// List the requests of a running node and of the others, the newest first
    Requests(Requests),
    /// Show a request: its state, times, tasks, open questions and answer
    Show(OneRequest),
    /// Cancel a request; an answered one stays as it is
    Cancel(OneRequest),
    /// Print the events of a request from its beginning, and follow it to its end
    Logs(OneRequest),
    /// Check the LLM, the port, the data folder and the sample data
    Doctor {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Serve until told to stop: over HTTP, and together with other nodes
    Node,
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
    /// Check the journal of accepted requests
    Journal {
        #[command(subcommand)]
        what: Journal,
    },
    /// Explain which rule allows or denies a user a capability
    Policy {
        #[command(subcommand)]
        what: Policy,
    },
    /// Show a whole mesh at work, without an LLM or a network
    Demo(Demo),
    /// Print completions for a shell
    Completions {
        /// Source what it prints, or put it where the shell looks for completions
        shell: Shell,
    },
    /// Write the manual pages of all commands to a folder
    Man {
        /// A folder of man1 pages, such as ~/.local/share/man/man1; it is made if it is missing
        folder: PathBuf,
    },
    /// Show the settings, check a configuration file, or print the schema of such files
    Config {
        #[command(subcommand)]
        what: Config,
    },
}

impl Command {
    /// The place of the node's address; none for a command that asks no other node, or not with these flags.
    fn url(&mut self) -> Option<&mut Option<String>> {
        match self {
            Self::Ask(Ask {
                query: Query { asker, .. },
                how,
            })
            | Self::Run(Run { asker, how, .. })
                if how.record.is_none() =>
            {
                Some(&mut asker.url)
            }
            Self::Plan(Plan {
                query,
                cards: None,
                today: None,
            }) => Some(&mut query.asker.url),
            Self::Agents(Agents { url, .. })
            | Self::Cluster(Cluster { node: url, .. })
            | Self::Requests(Requests { url, .. }) => Some(url),
            Self::Show(one) | Self::Cancel(one) | Self::Logs(one) => Some(&mut one.url),
            Self::Ask(_)
            | Self::Run(_)
            | Self::Plan(_)
            | Self::Eval(_)
            | Self::Replay { .. }
            | Self::Doctor { .. }
            | Self::Node
            | Self::Keys { .. }
            | Self::Audit { .. }
            | Self::Journal { .. }
            | Self::Policy { .. }
            | Self::Demo(_)
            | Self::Completions { .. }
            | Self::Man { .. }
            | Self::Config { .. } => None,
        }
    }

    /// Whether programs read what it prints.
    pub(crate) const fn prints_json(&self) -> bool {
        match self {
            Self::Ask(Ask { query, .. }) | Self::Plan(Plan { query, .. }) => query.asker.json,
            Self::Run(run) => run.asker.json,
            Self::Eval(Eval { json, .. })
            | Self::Agents(Agents { json, .. })
            | Self::Requests(Requests { json, .. })
            | Self::Show(OneRequest { json, .. })
            | Self::Cancel(OneRequest { json, .. })
            | Self::Logs(OneRequest { json, .. })
            | Self::Cluster(Cluster { json, .. })
            | Self::Doctor { json }
            | Self::Keys {
                what: Keys::List { json },
            }
            | Self::Config {
                what: Config::Show { json },
            }
            | Self::Policy {
                what: Policy::Explain { json, .. },
            } => *json,
            Self::Config {
                what: Config::Check { .. } | Config::Schema,
            }
            | Self::Keys { .. }
            | Self::Audit { .. }
            | Self::Journal { .. }
            | Self::Replay { .. }
            | Self::Node
            | Self::Completions { .. }
            | Self::Man { .. }
            | Self::Demo(_) => false,
        }
    }
}

/// `amcp journal`.
#[derive(Debug, Clone, Copy, Subcommand)]
pub(crate) enum Journal {
    /// Check every record, while no node runs, and name the damaged ones
    Verify,
}

/// The query and its asker.
#[derive(Debug, Args)]
pub(crate) struct Query {
    /// The query in plain language; `-` reads it from stdin
    #[arg(required = true, value_name = "QUERY")]
    pub(crate) words: Vec<String>,
    #[command(flatten)]
    pub(crate) asker: Asker,
}

/// The user of a request, the node that answers, and the form of the answer.
#[derive(Debug, Args)]
pub(crate) struct Asker {
    /// The running node to ask [env: AMCP_URL]; without it this process starts a node of its own
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
    #[command(flatten)]
    pub(crate) how: How,
}

/// How a request is carried out.
#[derive(Debug, Args)]
pub(crate) struct How {
    /// The node carries out the request once per key, however often it is sent (with --url)
    #[arg(long, value_name = "KEY")]
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
    /// The running node to ask [env: AMCP_URL]; without it this process starts a node of its own
    #[arg(long, value_name = "URL")]
    pub(crate) url: Option<String>,
    /// A role that you have; may be repeated
    #[arg(long = "role", value_name = "ROLE", conflicts_with = "url")]
    pub(crate) roles: Vec<String>,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// `amcp demo`.
#[derive(Debug, Args)]
pub(crate) struct Demo {
    /// Let specialists use the network (by default the demo is offline)
    #[arg(long, conflicts_with = "AMCP_OFFLINE")]
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

/// `amcp policy`.
#[derive(Debug, Subcommand)]
pub(crate) enum Policy {
    /// Say whether a user may use a capability, by which rule, and at which places; exit code 1 if not
    Explain {
        /// The user's name
        user: String,
        /// Such as finance.db.query
        capability: String,
        /// The user's roles [default: those of the user's keys in the data folder]
        #[arg(long, value_name = "LIST", value_delimiter = ',')]
        roles: Option<Vec<String>>,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
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
    /// Check a configuration file without using it
    Check { file: PathBuf },
    /// Print the JSON Schema of the configuration file, for editors
    Schema,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::schema::settings;

    #[test]
    fn the_command_line_is_sound_and_every_setting_has_its_flag() {
        with_settings().debug_assert();
        let mut line: Vec<String> = vec!["amcp".into(), "node".into()];
        line.extend(
            settings()
                .iter()
                .filter_map(|setting| Some(format!("{}=true", setting.flag()?))),
        );
        let read = |line: &[String]| Cli::of(with_settings().try_get_matches_from(line).unwrap());
        let (_, inputs) = read(&line).unwrap();
        assert_eq!(inputs.flags.len(), line.len() - 2);
        let line = "amcp node --join=j:1 --join=k:1,l:1 --cluster-allow=b=x.* --cluster-allow=c=y.* --insecure --offline=false";
        let line: Vec<String> = line.split(' ').map(str::to_owned).collect();
        let (_, inputs) = read(&line).unwrap();
        let given: Vec<(&str, &str)> = inputs
            .flags
            .iter()
            .map(|(s, text)| (s.path.as_str(), text.as_str()))
            .collect();
        assert_eq!(
            given,
            [
                ("offline", "false"),
                ("join", "j:1,k:1,l:1"),
                ("insecure", "true"),
                ("cluster_allow", "b=x.*;c=y.*"),
            ]
        );
        let ask = ["amcp", "ask", "--role=analyst", "--offline", "x"].map(str::to_owned);
        let (_, inputs) = read(&ask).unwrap();
        assert_eq!(
            inputs.flags.len(),
            1,
            "a role of the user is none of the node"
        );
    }
}
