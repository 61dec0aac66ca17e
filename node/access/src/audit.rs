//! The audit log: what was asked and done, by whom, in a chain of records that cannot be changed unnoticed.
//!
//! Judges nothing itself: [`record`] makes and checks single records, [`chain`] the whole log, [`log`] has the files, [`writer`] the thread.

mod anchor;
mod chain;
mod log;
mod record;
#[cfg(test)]
mod tests;
mod text;
mod verify;
mod writer;

use std::io;
use std::path::{Path, PathBuf};

pub use anchor::PublicKey;
pub use chain::{Fault, Flaw, Verified};
pub use record::{Entry, Record, What};
pub use verify::{records, verify};
pub use writer::{Audit, Unaudited};

/// Where the log is, and how much of it is kept.
#[derive(Debug, Clone)]
pub struct AuditRules {
    /// The folder of the log's files.
    pub folder: PathBuf,
    /// The file of the signed heads. Kept on another disk or machine, it shows a log that was cut or written anew.
    pub anchors: PathBuf,
    /// A file of the log that is larger is followed by another.
    pub file_bytes: u64,
    /// The most files; the oldest go first. At least 2.
    pub keep_files: usize,
    /// What a node does that cannot write.
    pub on_trouble: OnTrouble,
}

impl AuditRules {
    /// The log in a data folder: 64 files of 16 MiB are about 700,000 requests with one task, of four records each.
    #[must_use]
    pub fn in_data(data: &Path) -> Self {
        let folder = data.join("audit");
        Self {
            anchors: folder.join("anchors.log"),
            folder,
            file_bytes: 16 * 1_024 * 1_024,
            keep_files: 64,
            on_trouble: OnTrouble::Refuse,
        }
    }
}

/// What a node does while its audit log cannot be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnTrouble {
    /// It refuses new requests.
    Refuse,
    /// It goes on, counts what is lost, and writes the count when it can.
    Continue,
}

/// The error of a log that cannot be opened, read or written.
#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    /// A file of the log.
    #[error("{}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The operating system's error.
        source: io::Error,
    },
    /// The last record is none, so that no other can follow it.
    #[error("{} does not end with a record: {flaw}", path.display())]
    End {
        /// The file.
        path: PathBuf,
        /// The fault.
        flaw: String,
    },
    /// The log is shorter than it was, or than its signed head says.
    #[error("the audit log ends with record {last}, but had record {known}: its end was cut off")]
    Cut {
        /// The last record's number.
        last: u64,
        /// The number of the last one that was signed or that this process wrote.
        known: u64,
    },
    /// The key that signs heads.
    #[error("{} is no key for signing heads: {reason}", path.display())]
    Key {
        /// The file.
        path: PathBuf,
        /// The fault, in words.
        reason: String,
    },
}

impl AuditError {
    fn at(path: &Path) -> impl Fn(io::Error) -> Self + use<> {
        let path = path.to_owned();
        move |source| Self::File {
            path: path.clone(),
            source,
        }
    }
}
