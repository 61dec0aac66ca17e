//! The command line of `amcp run`, `requests`, `show`, `cancel` and `logs`: flags and help texts.
//!
//! Judges neither a plan nor a filter; the node does.

use std::path::PathBuf;

use amcp_protocol::RequestId;
use clap::{ArgGroup, Args};

use super::{Asker, How};

/// `amcp run`.
#[derive(Debug, Args)]
#[command(group(ArgGroup::new("what").required(true).args(["capability", "plan"])))]
pub(crate) struct Run {
    /// The capability of the one task, such as weather.get; `amcp agents` lists them
    pub(crate) capability: Option<String>,
    /// A param of the task; a value that begins with { or [ is JSON; may be repeated
    #[arg(long = "param", short, value_name = "NAME=VALUE", value_parser = param, conflicts_with = "plan")]
    pub(crate) params: Vec<(String, String)>,
    /// A JSON file with the tasks of a plan, as the body of POST /run; `-` reads it from stdin
    #[arg(long, value_name = "FILE")]
    pub(crate) plan: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) asker: Asker,
    #[command(flatten)]
    pub(crate) how: How,
}

fn param(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("write NAME=VALUE")?;
    Ok((name.to_owned(), value.to_owned()))
}

/// `amcp requests`.
#[derive(Debug, Args)]
pub(crate) struct Requests {
    /// Only in this state: open, or planning, executing, awaiting_flow, synthesizing, completed, partial, failed, cancelled; several with commas
    #[arg(long, value_name = "LIST")]
    pub(crate) state: Option<String>,
    /// Only of this user (for the role admin); anonymous: of clients without a key
    #[arg(long, value_name = "NAME")]
    pub(crate) user: Option<String>,
    /// Only accepted since this time, such as 2026-11-22T08:00:00Z, or within this time, such as 90m or 2d
    #[arg(long, value_name = "TIME")]
    pub(crate) since: Option<String>,
    /// Most requests to list, 100 at most
    #[arg(long, value_name = "N", default_value_t = 20)]
    pub(crate) limit: usize,
    /// Go on where an earlier list ended
    #[arg(long, value_name = "CURSOR")]
    pub(crate) cursor: Option<String>,
    /// The running node to ask [env: AMCP_URL] [default: the one that `http` in the settings names]
    #[arg(long, value_name = "URL")]
    pub(crate) url: Option<String>,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// `amcp show`, `cancel` and `logs`.
#[derive(Debug, Args)]
pub(crate) struct OneRequest {
    /// The request's id
    pub(crate) id: RequestId,
    /// The running node to ask [env: AMCP_URL] [default: the one that `http` in the settings names]
    #[arg(long, value_name = "URL")]
    pub(crate) url: Option<String>,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}
