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
const PARCELS: usize = 256 * 1024 * 1024;

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
fn may_be_large(kind: Kind) -> bool {
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

/// The peer's parcels on their way to this node.
#[derive(Debug, Default)]
pub(crate) struct Arrivals {
    parcels: HashMap<u64, Arrival>,
    bytes: usize,
}

#[derive(Debug)]
struct Arrival {
    kind: u8,
    id: u64,
    length: usize,
    bytes: Vec<u8>,
    asked: usize,
}

/// Most pieces of one parcel under way: enough to keep a fast link busy, few enough to let other entries pass.
const WINDOW: usize = 4;

/// The next step after a piece.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Arrived {
    /// Ask for the pieces that begin at these bytes.
    Ask(Vec<u64>),
    /// The body is whole: its kind's number, its entry's id, the body.
    Whole(u8, u64, Vec<u8>),
    /// The piece belongs to no parcel, or is not the next piece of its parcel.
    Stray,
}

impl Arrivals {
    /// Takes the announcement of a parcel. Returns the first bytes of the pieces to ask for; none if the announcement is wrong, or
    /// the parcel too large to take.
    pub(crate) fn announced(&mut self, id: u64, parcel: Parcel) -> Option<Vec<u64>> {
        let length = usize::try_from(parcel.length).ok()?;
        let fits = length > INLINE
            && length <= crate::wire::MAX_BYTES
            && self.bytes + length <= PARCELS
            && !self.parcels.contains_key(&parcel.number);
        if !fits || !Kind::of(parcel.kind).is_some_and(may_be_large) {
            return None;
        }
        self.bytes += length;
        let mut arrival = Arrival {
            kind: parcel.kind,
            id,
            length,
            // Grows as pieces come, so that an announced length costs no memory.
            bytes: Vec::new(),
            asked: 0,
        };
        let asks = arrival.ask(WINDOW);
        self.parcels.insert(parcel.number, arrival);
        Some(asks)
    }

    pub(crate) fn piece(&mut self, number: u64, from: u64, bytes: &[u8]) -> Arrived {
        let Some(arrival) = self.parcels.get_mut(&number) else {
            return Arrived::Stray;
        };
        let fits = from == arrival.bytes.len() as u64
            && !bytes.is_empty()
            && arrival.bytes.len() + bytes.len() <= arrival.length;
        if !fits {
            self.forget(number);
            return Arrived::Stray;
        }
        arrival.bytes.extend_from_slice(bytes);
        if arrival.bytes.len() < arrival.length {
            return Arrived::Ask(arrival.ask(1));
        }
        match self.forget(number) {
            Some(whole) => Arrived::Whole(whole.kind, whole.id, whole.bytes),
            None => Arrived::Stray,
        }
    }

    /// Drops the parcel of a task that is no longer wanted. Returns the parcel's number, if it was on its way.
    pub(crate) fn cancel(&mut self, id: u64) -> Option<u64> {
        let task = |arrival: &Arrival| arrival.kind == Kind::Task2 as u8 && arrival.id == id;
        let found = self.parcels.iter().find(|(_, arrival)| task(arrival));
        let number = *found?.0;
        self.forget(number);
        Some(number)
    }

    fn forget(&mut self, number: u64) -> Option<Arrival> {
        let arrival = self.parcels.remove(&number)?;
        self.bytes -= arrival.length;
        Some(arrival)
    }

    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }
}

impl Arrival {
    fn ask(&mut self, pieces: usize) -> Vec<u64> {
        let mut from = Vec::with_capacity(pieces);
        while from.len() < pieces && self.asked < self.length {
            from.push(self.asked as u64);
            self.asked += PIECE;
        }
        from
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries(outbox: &mut Outbox) -> Vec<(u8, u64, Vec<u8>)> {
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
    fn a_large_body_is_fetched_in_pieces_and_comes_whole() {
        let body: Vec<u8> = (0..1_000_000_u32).map(|n| n as u8).collect();
        let (mut sender, mut receiver) = (Outbox::new(5), Arrivals::default());
        sender.put(Kind::Outcome2, 9, &body).unwrap();
        assert!(sender.waiting() > body.len());
        let announced = entries(&mut sender).pop().unwrap();
        assert_eq!((announced.0, announced.1), (Kind::Parcel as u8, 9));
        let parcel: Parcel = crate::wire::decode(&announced.2).unwrap();
        let mut asks = receiver.announced(9, parcel).unwrap();
        assert_eq!(asks.len(), WINDOW);
        let mut whole = None;
        while !asks.is_empty() {
            for from in std::mem::take(&mut asks) {
                assert!(sender.piece(parcel.number, from));
            }
            for (kind, number, piece) in entries(&mut sender) {
                assert_eq!(kind, Kind::Piece as u8);
                let (from, bytes) = piece.split_first_chunk().unwrap();
                match receiver.piece(number, u64::from_be_bytes(*from), bytes) {
                    Arrived::Ask(from) => asks.extend(from),
                    Arrived::Whole(kind, id, bytes) => whole = Some((kind, id, bytes)),
                    Arrived::Stray => panic!("stray"),
                }
            }
        }
        assert_eq!(whole, Some((Kind::Outcome2 as u8, 9, body)));
        assert_eq!((sender.waiting(), receiver.bytes), (0, 0));
        assert!(
            !sender.piece(parcel.number, 0),
            "what was sent is forgotten"
        );
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
    fn what_does_not_fit_is_refused_and_costs_nothing() {
        let mut receiver = Arrivals::default();
        let parcel = |length| Parcel {
            kind: Kind::Outcome2 as u8,
            number: 1,
            length,
        };
        assert_eq!(receiver.announced(1, parcel(u64::MAX)), None);
        assert_eq!(receiver.announced(1, parcel(33 * 1024 * 1024)), None);
        assert_eq!(receiver.announced(1, parcel(10)), None);
        let nested = Parcel {
            kind: Kind::Piece as u8,
            ..parcel(200_000)
        };
        assert_eq!(receiver.announced(1, nested), None);
        assert!(receiver.announced(1, parcel(200_000)).is_some());
        assert_eq!(receiver.announced(2, parcel(200_000)), None);
        assert_eq!(receiver.piece(1, 5, &[0; 9]), Arrived::Stray);
        assert_eq!((receiver.bytes, receiver.parcels.len()), (0, 0));
        let mut sender = Outbox::new(5);
        let large = vec![0; 64 * 1024 * 1024];
        for _ in 0..4 {
            sender.put(Kind::Outcome2, 1, &large).unwrap();
        }
        assert_eq!(sender.put(Kind::Outcome2, 1, &large), Err(Full));
    }
}
