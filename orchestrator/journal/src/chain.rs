//! The form of heads and records: each record carries a hash over all before it, each head the hash of the last record.
//!
//! Pure; the hash is also the checksum, so a separate one would find nothing more.

use amcp_protocol::RequestId;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::JournalError;

/// The bytes of a hash.
pub(crate) const HASH: usize = 32;
/// The bytes before a record's body: the hash, the epoch, the time.
const FRONT: usize = HASH + 16;

pub(crate) type Hash = [u8; HASH];

/// A request as the journal knows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// The epoch of its last record.
    pub epoch: u64,
    /// Number of its records.
    pub records: u32,
    /// Bytes of their bodies.
    pub bytes: u64,
    /// The time of the first record, in milliseconds since 1970 UTC.
    pub opened_ms: i64,
    /// The time of the last record, if the request has ended.
    pub ended_ms: Option<i64>,
    /// How often a process took the request over ([`Step::Resumes`](crate::Step::Resumes)) since its last record.
    pub tries: u32,
    /// Whether the journal has dropped the records.
    pub dropped: bool,
    /// The bytes that came with the first record.
    pub mark: Vec<u8>,
    /// The hash of the last record.
    pub hash: [u8; HASH],
}

impl Head {
    /// The head of a request without records.
    #[must_use]
    pub fn new(opened_ms: i64, mark: Vec<u8>) -> Self {
        Self {
            epoch: 0,
            records: 0,
            bytes: 0,
            opened_ms,
            ended_ms: None,
            tries: 0,
            dropped: false,
            mark,
            hash: Hash::default(),
        }
    }

    /// The head as the store has it: a hash, then the fields.
    pub(crate) fn seal(&self, request: RequestId) -> Result<Vec<u8>, JournalError> {
        let fields = rmp_serde::to_vec(self);
        let fields = fields.map_err(|error| damaged(request, "the head", error.to_string()))?;
        let mut sealed = digest(request, &[&fields]).to_vec();
        sealed.extend(fields);
        Ok(sealed)
    }

    pub(crate) fn open(request: RequestId, sealed: &[u8]) -> Result<Self, JournalError> {
        let damaged = |reason: String| damaged(request, "the head", reason);
        let lost = || damaged("its hash differs, and all that the request did is lost".to_owned());
        let (hash, fields) = sealed.split_at_checked(HASH).ok_or_else(lost)?;
        if digest(request, &[fields]) != *hash {
            return Err(lost());
        }
        rmp_serde::from_slice(fields).map_err(|error| damaged(error.to_string()))
    }

    /// Adds a record, and returns it as the store has it.
    pub(crate) fn add(
        &mut self,
        request: RequestId,
        (epoch, unix_ms): (u64, i64),
        body: &[u8],
    ) -> Vec<u8> {
        let front = front(epoch, unix_ms);
        self.hash = self.next(request, self.records, &front, body);
        self.epoch = epoch;
        self.records += 1;
        self.bytes += body.len() as u64;
        self.tries = 0;
        let mut kept = Vec::with_capacity(FRONT + body.len());
        kept.extend(self.hash);
        kept.extend(front);
        kept.extend(body);
        kept
    }

    /// Whether a record, as the store has it, has this text and these stamps.
    pub(crate) fn is_same(kept: &[u8], (epoch, unix_ms): (u64, i64), body: &[u8]) -> bool {
        let written = kept.split_at_checked(FRONT);
        written
            .is_some_and(|(before, kept)| before.ends_with(&front(epoch, unix_ms)) && kept == body)
    }

    fn next(&self, request: RequestId, number: u32, front: &[u8], body: &[u8]) -> Hash {
        digest(request, &[&self.hash, &number.to_be_bytes(), front, body])
    }

    /// Checks all records of a request against its head, and returns their bodies.
    pub(crate) fn check(
        &self,
        request: RequestId,
        records: impl IntoIterator<Item = (u32, Vec<u8>)>,
    ) -> Result<Vec<Vec<u8>>, JournalError> {
        let mut so_far = Self::new(self.opened_ms, Vec::new());
        let mut bodies = Vec::new();
        for (number, mut kept) in records {
            let expected = so_far.records;
            if number != expected {
                let reason = format!("it is missing, and record {number} follows");
                return Err(at(request, expected, reason));
            }
            let lost = || {
                at(
                    request,
                    number,
                    "its hash differs from the chain's".to_owned(),
                )
            };
            let (hash, rest) = kept.split_at_checked(HASH).ok_or_else(lost)?;
            let (front, body) = rest.split_at_checked(FRONT - HASH).ok_or_else(lost)?;
            let next = so_far.next(request, number, front, body);
            if next != *hash {
                return Err(lost());
            }
            so_far.hash = next;
            so_far.records += 1;
            bodies.push(kept.split_off(FRONT));
        }
        if so_far.records != self.records || so_far.hash != self.hash {
            let last = self.records.max(so_far.records).saturating_sub(1);
            let reason = format!("the head tells of {} records", self.records);
            return Err(at(request, last, reason));
        }
        Ok(bodies)
    }
}

fn front(epoch: u64, unix_ms: i64) -> Vec<u8> {
    [epoch.to_be_bytes(), unix_ms.to_be_bytes()].concat()
}

fn at(request: RequestId, record: u32, reason: String) -> JournalError {
    let reason = format!("{reason}; what the request did from there on is lost");
    damaged(request, &format!("record {record}"), reason)
}

fn damaged(request: RequestId, place: &str, reason: String) -> JournalError {
    JournalError::Damaged {
        request,
        place: place.to_owned(),
        reason,
    }
}

fn digest(request: RequestId, parts: &[&[u8]]) -> Hash {
    let mut hasher = Sha256::new_with_prefix(request.uuid().as_bytes());
    parts.iter().for_each(|part| hasher.update(part));
    hasher.finalize().into()
}
