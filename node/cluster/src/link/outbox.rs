//! The entries that wait to be written to one peer: in frames, or as parcels if they are too large for a frame.
//!
//! Does not write: the link's writer takes whole frames. Entries of the same moment share a frame.

use std::collections::{HashMap, VecDeque};

use serde::{Deserialize, Serialize};

use super::frame::{self, Kind};

/// Bytes after which a frame takes no further entry: far below the 256 KiB at which a message stalls a session's others.
const FULL: usize = 64 * 1024;
/// Largest body inside a frame; with [`FULL`] a frame stays below 256 KiB.
pub(crate) const INLINE: usize = 128 * 1024;
/// Most bytes of a parcel in one piece: other entries pass between two pieces.
pub(crate) const PIECE: usize = 64 * 1024;
/// Most bytes of parcels that wait for one peer to fetch them: its whole credit in large results.
pub(super) const PARCELS: usize = 256 * 1024 * 1024;

/// The error of an entry that cannot be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{PARCELS} bytes of large bodies wait for the peer already")]
pub(crate) struct Full;

/// The announcement of a body too large for a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Parcel {
    /// The number of the entry's kind.
    pub(crate) kind: u8,
    /// The parcel's number.
    pub(crate) number: u64,
    /// The parcel's length in bytes.
    pub(crate) length: u64,
}

#[derive(Debug)]
struct Outgoing {
    bytes: Vec<u8>,
    /// Bytes that the peer has fetched, in order from the first.
    sent: usize,
}

#[derive(Debug)]
pub(crate) struct Outbox {
    token: u64,
    full: VecDeque<Vec<u8>>,
    current: Vec<u8>,
    bytes: usize,
    parcels: HashMap<u64, Outgoing>,
    parcel_bytes: usize,
    next_parcel: u64,
    /// Whether the writer holds a frame that it has not handed over yet.
    writing: bool,
}

impl Outbox {
    pub(crate) fn new(token: u64) -> Self {
        Self {
            token,
            full: VecDeque::new(),
            current: Vec::new(),
            bytes: 0,
            parcels: HashMap::new(),
            parcel_bytes: 0,
            next_parcel: 0,
            writing: false,
        }
    }

    /// Bytes that wait, including parcels.
    pub(crate) fn waiting(&self) -> usize {
        self.bytes + self.parcel_bytes
    }

    /// Queues an entry, as a parcel if it is large.
    pub(crate) fn put(&mut self, kind: Kind, id: u64, body: &[u8]) -> Result<(), Full> {
        if body.len() <= INLINE {
            self.push(kind, id, body);
            return Ok(());
        }
        if self.parcel_bytes + body.len() > PARCELS {
            return Err(Full);
        }
        self.parcel_bytes += body.len();
        self.next_parcel += 1;
        let parcel = Parcel {
            kind: kind as u8,
            number: self.next_parcel,
            length: body.len() as u64,
        };
        let outgoing = Outgoing {
            bytes: body.to_vec(),
            sent: 0,
        };
        self.parcels.insert(parcel.number, outgoing);
        let announced = crate::wire::encode(&parcel).expect("three numbers can be encoded");
        self.push(Kind::Parcel, id, &announced);
        Ok(())
    }

    fn push(&mut self, kind: Kind, id: u64, body: &[u8]) {
        if self.current.is_empty() {
            self.current = frame::begin(self.token);
            self.bytes += self.current.len();
        }
        let before = self.current.len();
        frame::push(&mut self.current, kind, id, body);
        self.bytes += self.current.len() - before;
        if self.current.len() >= FULL {
            self.full.push_back(std::mem::take(&mut self.current));
        }
    }

    /// The next frame to write; none when no entry waits.
    pub(crate) fn take(&mut self) -> Option<Vec<u8>> {
        let frame = self.full.pop_front().or_else(|| {
            let current = std::mem::take(&mut self.current);
            (!current.is_empty()).then_some(current)
        })?;
        self.bytes -= frame.len();
        Some(frame)
    }

    /// Like [`Self::take`], for the writer, which holds the frame until [`Self::handed_over`].
    pub(crate) fn take_to_write(&mut self) -> Option<Vec<u8>> {
        let frame = self.take();
        self.writing = frame.is_some();
        frame
    }

    pub(crate) fn handed_over(&mut self) {
        self.writing = false;
    }

    /// Whether an entry that is put now may be taken at once without overtaking earlier ones.
    pub(crate) fn is_idle(&self) -> bool {
        !self.writing && self.full.is_empty()
    }

    /// Queues the next piece of a parcel; the last piece ends the parcel. Returns whether the parcel is there and this piece due.
    pub(crate) fn piece(&mut self, number: u64, from: u64) -> bool {
        let Some(parcel) = self.parcels.get_mut(&number) else {
            return false;
        };
        // Otherwise a peer could make any number of bytes wait.
        if parcel.sent as u64 != from {
            return false;
        }
        let end = (parcel.sent + PIECE).min(parcel.bytes.len());
        let mut body = from.to_be_bytes().to_vec();
        body.extend_from_slice(parcel.bytes.get(parcel.sent..end).unwrap_or_default());
        parcel.sent = end;
        let last = end == parcel.bytes.len();
        self.push(Kind::Piece, number, &body);
        if last {
            self.drop_parcel(number);
        }
        true
    }

    pub(crate) fn drop_parcel(&mut self, number: u64) {
        if let Some(parcel) = self.parcels.remove(&number) {
            self.parcel_bytes -= parcel.bytes.len();
        }
    }

    /// Whether the peer should get no more large bodies, because half of the bytes that may wait are in use.
    pub(crate) fn is_stuffed(&self) -> bool {
        self.parcel_bytes > PARCELS / 2
    }

    /// Forgets everything. Returns the ids of the tasks that were certainly never sent.
    pub(crate) fn clear(&mut self) -> Vec<u64> {
        let Self { full, current, .. } = std::mem::replace(self, Self::new(self.token));
        let task = |entry: &frame::Entry<'_>| entry.kind == Kind::Task2 as u8;
        let frames = full.iter().chain([&current]);
        let entries = frames.filter_map(|frame| frame::open(frame).ok());
        entries
            .flat_map(|(_, entries)| entries.flatten())
            .filter(task)
            .map(|entry| entry.id)
            .collect()
    }
}

/// Whether entries of a kind may come as a parcel. A piece of a parcel may not: a parcel of parcels might never end.
pub(super) fn may_be_large(kind: Kind) -> bool {
    [
        Kind::Task2,
        Kind::Outcome2,
        Kind::Joined,
        Kind::Fares,
        Kind::Left,
        Kind::Members,
        Kind::Reply,
    ]
    .contains(&kind)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in super::super) fn entries(outbox: &mut Outbox) -> Vec<(u8, u64, Vec<u8>)> {
        let mut all = Vec::new();
        while let Some(frame) = outbox.take() {
            let (token, entries) = frame::open(&frame).unwrap();
            assert_eq!(token, 5);
            assert!(frame.len() <= 256 * 1024, "{}", frame.len());
            all.extend(entries.map(|entry| {
                let entry = entry.unwrap();
                (entry.kind, entry.id, entry.body.to_vec())
            }));
        }
        all
    }

    #[test]
    fn what_waits_together_goes_together() {
        let mut outbox = Outbox::new(5);
        assert_eq!(outbox.take(), None);
        for id in 0..100 {
            outbox.put(Kind::Cancel, id, &[]).unwrap();
        }
        let frame = outbox.take().unwrap();
        assert_eq!(frame::open(&frame).unwrap().1.count(), 100);
        assert_eq!((outbox.take(), outbox.waiting()), (None, 0));
        for id in 0..5 {
            outbox.put(Kind::Task2, id, &vec![0; INLINE]).unwrap();
        }
        assert_eq!(entries(&mut outbox).len(), 5);
    }

    #[test]
    fn what_was_never_sent_is_known() {
        let mut outbox = Outbox::new(5);
        outbox.put(Kind::Task2, 1, b"sent").unwrap();
        outbox.take();
        for id in [2, 3] {
            outbox.put(Kind::Task2, id, &vec![0; FULL]).unwrap();
        }
        outbox.put(Kind::Outcome2, 4, b"").unwrap();
        outbox.put(Kind::Task2, 5, b"").unwrap();
        assert_eq!(outbox.clear(), [2, 3, 5]);
        assert_eq!((outbox.take(), outbox.waiting()), (None, 0));
    }

    #[test]
    fn a_peer_that_fetches_nothing_costs_its_credit_only() {
        let mut sender = Outbox::new(5);
        let large = vec![0; 64 * 1024 * 1024];
        for _ in 0..4 {
            sender.put(Kind::Outcome2, 1, &large).unwrap();
        }
        assert_eq!(sender.put(Kind::Outcome2, 1, &large), Err(Full));
    }
}
