//! The judgement of a whole log: every record follows the one before, and the signed heads are where they were.
//!
//! Pure: reads no file.

use std::collections::BTreeMap;
use std::fmt;

use data_encoding::HEXLOWER;
use jiff::Timestamp;

use super::anchor::Anchor;
use super::record::{Head, Record, read};

/// The first fault of a log.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{place}: {fault}")]
pub struct Flaw {
    /// The file and the line in it.
    pub place: String,
    /// The fault, with the record's number.
    pub fault: Fault,
}

/// What is wrong with a record or a signed head.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// The line's hash is not that of its bytes, or it is no record.
    #[error("record {seq}: {words}")]
    Record {
        /// The number that belongs in this place.
        seq: u64,
        /// The fault, in words.
        words: &'static str,
    },
    /// Records are missing before this one.
    #[error("records {from} to {to} are missing")]
    Missing {
        /// The first of them.
        from: u64,
        /// The last of them.
        to: u64,
    },
    /// A record has a number that was there before.
    #[error("record {found} stands where record {seq} should")]
    Order {
        /// The number that belongs in this place.
        seq: u64,
        /// The number that the record has.
        found: u64,
    },
    /// The record before it is another one than at its writing.
    #[error("record {seq} does not follow the record before it: one of them was replaced")]
    Chain {
        /// The record's number.
        seq: u64,
    },
    /// The record is sound, but another one than was signed: all of them since then were written anew.
    #[error(
        "record {seq} is not the one whose hash was signed at {time}: the log was written anew"
    )]
    Rewritten {
        /// The record's number.
        seq: u64,
        /// When its head was signed.
        time: Timestamp,
    },
    /// The log ends before a signed head.
    #[error(
        "the log ends with record {last}, but record {signed} was signed at {time}: its end was cut off"
    )]
    Cut {
        /// The last record's number.
        last: u64,
        /// The signed head's number.
        signed: u64,
        /// When it was signed.
        time: Timestamp,
    },
    /// A line of the file of heads that the key did not sign.
    #[error("the key did not sign this head")]
    Anchor,
}

/// What was found of a log without a fault.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Verified {
    /// The number of the first record that is still there, and of the last: none in an empty log.
    pub records: Option<(u64, u64)>,
    /// The last signed head: the number of its record, and when. What comes after it is a chain that nothing outside vouches for.
    pub anchored: Option<(u64, Timestamp)>,
}

impl fmt::Display for Verified {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some((first, last)) = self.records else {
            return f.write_str("The log is empty.");
        };
        write!(f, "Records {first} to {last} are a chain without a fault.")?;
        match self.anchored {
            None => f.write_str(" No head of it was signed."),
            Some((signed, time)) if signed < last => write!(
                f,
                " Those up to {signed} are anchored (signed {time}); {} to {last} are not yet.",
                signed + 1
            ),
            Some((_, time)) => write!(f, " All of them are anchored (signed {time})."),
        }
    }
}

/// A log that is being read.
#[derive(Debug)]
pub(super) struct Chain {
    head: Option<Head>,
    anchors: BTreeMap<u64, Vec<Anchor>>,
    found: Verified,
}

impl Chain {
    pub(super) fn new(signed: impl IntoIterator<Item = Anchor>) -> Self {
        let mut anchors: BTreeMap<u64, Vec<Anchor>> = BTreeMap::new();
        for anchor in signed {
            anchors.entry(anchor.seq).or_default().push(anchor);
        }
        Self {
            head: None,
            anchors,
            found: Verified::default(),
        }
    }

    /// Judges the next line.
    pub(super) fn take(&mut self, line: &str) -> Result<Record, Fault> {
        let expected = self.head.map_or(1, |head| head.seq + 1);
        let of = |words| Fault::Record {
            seq: expected,
            words,
        };
        let (record, head) = read(line).map_err(of)?;
        let before = match self.head {
            Some(before) => before,
            None => self.beginning(&record)?,
        };
        if head.seq <= before.seq {
            let (seq, found) = (before.seq + 1, head.seq);
            return Err(Fault::Order { seq, found });
        }
        if head.seq > before.seq + 1 {
            let (from, to) = (before.seq + 1, head.seq - 1);
            return Err(Fault::Missing { from, to });
        }
        if !before.precedes(&record) {
            return Err(Fault::Chain { seq: head.seq });
        }
        self.check_signed(head)?;
        self.head = Some(head);
        let first = self.found.records.map_or(head.seq, |(first, _)| first);
        self.found.records = Some((first, head.seq));
        Ok(record)
    }

    /// The log begins with record 1, or after records whose removal was signed.
    fn beginning(&mut self, record: &Record) -> Result<Head, Fault> {
        let before = record.before().unwrap_or_default();
        if before.seq == 0 {
            return Ok(Head::default());
        }
        let signed = self.anchors.get(&before.seq);
        let is_removed = signed.is_some_and(|list| list.iter().any(|anchor| anchor.removed));
        if !is_removed {
            let to = before.seq;
            return Err(Fault::Missing { from: 1, to });
        }
        self.check_signed(before)?;
        Ok(before)
    }

    fn check_signed(&mut self, head: Head) -> Result<(), Fault> {
        let hash = HEXLOWER.encode(&head.hash);
        for anchor in self.anchors.get(&head.seq).into_iter().flatten() {
            let (seq, time) = (head.seq, anchor.time);
            if anchor.hash != hash {
                return Err(Fault::Rewritten { seq, time });
            }
            self.found.anchored = Some((seq, time));
        }
        Ok(())
    }

    /// Judges the end of the log.
    pub(super) fn end(self) -> Result<Verified, Fault> {
        let last = self.head.map_or(0, |head| head.seq);
        let signed = self.anchors.last_key_value();
        match signed.and_then(|(_, anchors)| anchors.last()) {
            Some(anchor) if anchor.seq > last => Err(Fault::Cut {
                last,
                signed: anchor.seq,
                time: anchor.time,
            }),
            _ => Ok(self.found),
        }
    }
}
