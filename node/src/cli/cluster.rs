//! The command line of `amcp cluster`: flags and help texts.
//!
//! Does not judge the values of settings.

use std::path::PathBuf;

use clap::{Args, Subcommand};

/// `amcp cluster`.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Cluster {
    /// The running node to ask [env: AMCP_URL] [default: the one that `http` in the settings names]
    #[arg(long, visible_alias = "url", value_name = "URL")]
    pub(crate) node: Option<String>,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
    #[command(subcommand)]
    pub(crate) what: Option<ClusterTool>,
}

/// Makes what a cluster needs before it runs.
#[derive(Debug, Subcommand)]
pub(crate) enum ClusterTool {
    /// Make a private authority and the certificates of nodes, for mutual TLS
    Certs {
        #[command(subcommand)]
        what: Certs,
    },
    /// Print a new cookie: 64 random hexadecimal digits
    Cookie,
}

/// `amcp cluster certs`.
#[derive(Debug, Subcommand)]
pub(crate) enum Certs {
    /// Make an authority: ca.pem, which every node needs, and ca.key, which signs and belongs on no node
    Init {
        /// The folder for both files
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
    },
    /// Make NAME.pem and NAME.key with the authority in the folder
    Issue {
        /// The node's name
        #[arg(value_name = "NAME")]
        name: String,
        /// The folder of the authority
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
        /// A further name or address of the node's machine; may be repeated
        #[arg(long = "host", value_name = "HOST")]
        hosts: Vec<String>,
    },
}
