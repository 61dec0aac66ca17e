//! The command line of `amcp audit`: flags and help texts.
//!
//! Does not know what a record is.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use jiff::Timestamp;

/// `amcp audit`.
#[derive(Debug, Subcommand)]
pub(crate) enum Audit {
    /// Check that no record was changed, removed or added, and say how far the log is anchored
    Verify {
        /// The file of the signed heads [default: DATA/audit/anchors.log]
        #[arg(long, value_name = "FILE")]
        anchors: Option<PathBuf>,
        /// The public key that signed them, noted down elsewhere [default: the one beside the log]
        #[arg(long, value_name = "HEX")]
        public_key: Option<String>,
    },
    /// Show records, the oldest first
    Show(Shown),
    /// Print records as JSON, one a line, with the texts that are still there
    Export(Shown),
}

/// The records that a command shows.
#[derive(Debug, Args)]
pub(crate) struct Shown {
    /// Only of this user
    #[arg(long, value_name = "NAME")]
    pub(crate) user: Option<String>,
    /// Only since this time, such as 2026-11-22T08:00:00Z
    #[arg(long, value_name = "TIME")]
    pub(crate) since: Option<Timestamp>,
    /// Only of this kind, such as request.refused, or key for all kinds of keys
    #[arg(long, value_name = "KIND")]
    pub(crate) what: Option<String>,
}
