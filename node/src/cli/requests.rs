//! The command line of `amcp requests`, `show`, `cancel` and `logs`: flags and help texts.
//!
//! Does not judge a filter; the node does.

use amcp_protocol::RequestId;
use clap::Args;

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
