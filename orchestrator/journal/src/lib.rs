//! The journal: keeps the records of accepted requests, each durable before its effects.
//!
//! Knows neither what a record says nor what follows from it: the orchestrator writes and reads them (ADR-0032).

mod chain;
mod committer;
mod file;
mod lock;
mod store;
#[cfg(test)]
mod tests;

use std::fmt::Debug;

use amcp_protocol::RequestId;

pub use chain::Head;
pub use file::{FileJournal, Verified};
pub use store::Retention;

/// The place of a record among those of its request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// The first record: the request is accepted. The mark outlives the records by the time of [`Retention::marks`]; empty for
    /// none.
    Opens(Vec<u8>),
    /// A record between the first and the last.
    Continues,
    /// No record: another process takes the request over. Counts in [`Head::tries`] until the next record.
    Resumes,
    /// The last record: the request has its answer.
    Ends,
    /// The first record and the last one in one, with the mark.
    OpensAndEnds(Vec<u8>),
}

/// A record on its way into the journal.
#[derive(Debug, Clone)]
pub struct Record {
    /// The request.
    pub request: RequestId,
    /// The owner's epoch ([`Journal::epoch`]); the journal refuses a record of an earlier owner.
    pub epoch: u64,
    /// The time of the record, in milliseconds since 1970 UTC.
    pub unix_ms: i64,
    /// The record's place.
    pub step: Step,
    /// The text of the record, which the journal does not read.
    pub body: Vec<u8>,
}

/// Why a record was not kept.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The request is answered, unknown, known already, or owned by a later epoch: the writer must stop.
    #[error("the request takes no such record: {0}")]
    Superseded(&'static str),
    /// Nothing can be written, so no request is accepted. Only a first record is refused with this; the others wait until the
    /// journal can be written again.
    #[error("the journal cannot be written: {0}")]
    Unwritable(String),
}

/// Hears once whether a record is durable. Runs in the journal's thread, so it must only send a message.
pub type Kept = Box<dyn FnOnce(Result<(), Refusal>) + Send>;

/// Why a journal cannot be opened or read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JournalError {
    /// Another process has it.
    #[error("process {holder} uses the journal {path}")]
    Held {
        /// The process's id, as it wrote it.
        holder: String,
        /// The journal's folder.
        path: String,
    },
    /// A record, or the head of a request, is not what was written.
    #[error("{place} of request {request} is damaged: {reason}")]
    Damaged {
        /// The request.
        request: RequestId,
        /// `record N`, which counts from 0, or `the head`.
        place: String,
        /// What is wrong and what is lost.
        reason: String,
    },
    /// The folder has no journal.
    #[error("there is no journal in {0}")]
    Missing(String),
    /// The store as a whole cannot be used.
    #[error("the journal is unusable: {0}")]
    Unusable(String),
}

/// Keeps records. Each request has one writer at a time, which waits for [`Kept`] before its next record.
pub trait Journal: Debug + Send + Sync {
    /// Takes a record over, and says through `kept` when it is durable. Records of one request are kept in their order. A journal that
    /// closes before drops `kept` unheard.
    fn append(&self, record: Record, kept: Kept);

    /// The epoch of this owner; later owners have higher ones.
    fn epoch(&self) -> u64;

    /// The bodies of a request's records, in order; empty for an unknown request and for one whose records were dropped.
    ///
    /// # Errors
    /// [`JournalError::Damaged`] names the first record that is not what was written.
    fn read(&self, request: RequestId) -> Result<Vec<Vec<u8>>, JournalError>;

    /// Why no request can be accepted now; none while the journal can be written.
    fn trouble(&self) -> Option<String>;
}
