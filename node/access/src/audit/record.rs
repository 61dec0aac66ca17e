//! One record: its members, its line, its place in the chain.
//!
//! Pure.

use std::sync::Arc;

use amcp_protocol::{CapabilityName, Payload, Principal, Proof, RequestId};
use aws_lc_rs::digest::{SHA256, digest};
use data_encoding::HEXLOWER;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// SHA-256.
pub(super) type Hash = [u8; 32];

/// In bytes: decisions and outcomes are codes and short reasons.
const MAX_WORDS: usize = 1_024;

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the names on the wire say it")]
pub enum What {
    #[serde(rename = "request.accepted")]
    RequestAccepted,
    #[serde(rename = "request.refused")]
    RequestRefused,
    #[serde(rename = "request.cancelled")]
    RequestCancelled,
    #[serde(rename = "request.ended")]
    RequestEnded,
    #[serde(rename = "task.dispatched")]
    TaskDispatched,
    #[serde(rename = "task.called")]
    TaskCalled,
    #[serde(rename = "task.ended")]
    TaskEnded,
    #[serde(rename = "task.refused")]
    TaskRefused,
    #[serde(rename = "flow.answered")]
    FlowAnswered,
    #[serde(rename = "flow.ended")]
    FlowEnded,
    #[serde(rename = "login.refused")]
    LoginRefused,
    #[serde(rename = "key.created")]
    KeyCreated,
    #[serde(rename = "key.revoked")]
    KeyRevoked,
    #[serde(rename = "key.rotated")]
    KeyRotated,
    #[serde(rename = "policy.changed")]
    PolicyChanged,
    #[serde(rename = "file.read")]
    FileRead,
    #[serde(rename = "audit.opened")]
    AuditOpened,
    #[serde(rename = "audit.lost")]
    AuditLost,
}

/// What a node reports; the log's writer makes a [`Record`] of it.
#[derive(Debug, Clone)]
pub struct Entry {
    /// What happened.
    pub what: What,
    /// Who did it; none for the node itself.
    pub by: Option<Arc<Principal>>,
    /// In which request.
    pub request: Option<RequestId>,
    /// With which capability.
    pub capability: Option<CapabilityName>,
    /// Of the task; the log holds their SHA-256.
    pub params: Option<Payload>,
    /// What the node decided, and by which rule.
    pub decision: Option<String>,
    /// How it ended.
    pub outcome: Option<String>,
    /// The query or the answer to a flow. It lies beside the chain, where it can be deleted.
    pub text: Option<String>,
}

impl Entry {
    /// An entry without details.
    #[must_use]
    pub const fn new(what: What) -> Self {
        Self {
            what,
            by: None,
            request: None,
            capability: None,
            params: None,
            decision: None,
            outcome: None,
            text: None,
        }
    }
}

/// One line of the log, without its own hash.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// The records are numbered from 1 without gaps.
    pub seq: u64,
    /// When the node reported it.
    pub time: Timestamp,
    /// What happened.
    pub what: What,
    /// The user's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// How the node knew the user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<Proof>,
    /// The request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<RequestId>,
    /// The capability.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capability: Option<CapabilityName>,
    /// SHA-256 of the params as JSON.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub params: Option<String>,
    /// What the node decided.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decision: Option<String>,
    /// How it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<String>,
    /// SHA-256 of the salted text beside the chain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// The hash of the record before; zeros for the first.
    prev: String,
}

/// The last record of a chain so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Head {
    pub(super) seq: u64,
    pub(super) hash: Hash,
}

impl Head {
    /// The next record.
    pub(super) fn record(&self, entry: Entry, time: Timestamp, text: Option<String>) -> Record {
        let (user, by) = match entry.by {
            Some(by) => (Some(by.user.clone()), Some(by.by.clone())),
            None => (None, None),
        };
        Record {
            seq: self.seq + 1,
            time,
            what: entry.what,
            user,
            by,
            request: entry.request,
            capability: entry.capability,
            params: entry.params.map(|params| sha256(&params.text()).1),
            decision: entry.decision.map(bounded),
            outcome: entry.outcome.map(bounded),
            text,
            prev: HEXLOWER.encode(&self.hash),
        }
    }

    /// Whether a record is the next one.
    pub(super) fn precedes(&self, record: &Record) -> bool {
        record.prev == HEXLOWER.encode(&self.hash)
    }
}

impl Record {
    /// The head of the chain that ends before this record.
    pub(super) fn before(&self) -> Option<Head> {
        let hash = HEXLOWER.decode(self.prev.as_bytes()).ok()?;
        Some(Head {
            seq: self.seq.checked_sub(1)?,
            hash: hash.try_into().ok()?,
        })
    }
}

fn bounded(mut words: String) -> String {
    words.truncate(words.floor_char_boundary(MAX_WORDS));
    words
}

/// The hash of some bytes, and its text.
pub(super) fn sha256(bytes: &[u8]) -> (Hash, String) {
    let mut hash = Hash::default();
    hash.copy_from_slice(digest(&SHA256, bytes).as_ref());
    (hash, HEXLOWER.encode(&hash))
}

/// Seals a JSON object: appends a member that vouches for every byte before it. Needs no canonical form of JSON.
pub(super) fn seal(
    value: &impl Serialize,
    member: &str,
    vouch: impl FnOnce(&[u8]) -> String,
) -> String {
    let mut line = serde_json::to_string(value).expect("its members have texts as names");
    line.truncate(line.len() - 1);
    let vouched = vouch(line.as_bytes());
    line + &format!(",\"{member}\":\"{vouched}\"}}")
}

/// The sealed bytes of a line and what vouches for them, of `digits` hexadecimal digits.
pub(super) fn unseal<'a>(line: &'a str, member: &str, digits: usize) -> Option<(&'a str, &'a str)> {
    let rest = line.strip_suffix("\"}")?;
    let (rest, vouched) = rest.split_at_checked(rest.len().checked_sub(digits)?)?;
    let sealed = rest.strip_suffix(&format!(",\"{member}\":\""))?;
    Some((sealed, vouched))
}

/// The line of a record, with its end, and the head that it makes.
pub(super) fn line(record: &Record) -> (String, Head) {
    let mut head = Head {
        seq: record.seq,
        hash: Hash::default(),
    };
    let line = seal(record, "hash", |sealed| {
        let (hash, text) = sha256(sealed);
        head.hash = hash;
        text
    });
    (line + "\n", head)
}

/// Reads a line of the log, with its end.
///
/// # Errors
/// The fault, in words.
pub(super) fn read(line: &str) -> Result<(Record, Head), &'static str> {
    let whole = line.strip_suffix('\n').ok_or("it has no end")?;
    let (sealed, vouched) = unseal(whole, "hash", 64).ok_or("it is no record")?;
    let record: Result<Record, _> = serde_json::from_str(&format!("{sealed}}}"));
    let (hash, text) = sha256(sealed.as_bytes());
    if text != vouched {
        return Err("it was changed");
    }
    let record = record.map_err(|_| "it is no record")?;
    let seq = record.seq;
    Ok((record, Head { seq, hash }))
}
