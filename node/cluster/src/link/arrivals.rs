//! The peer's parcels on their way to this node, and which of their pieces to ask for.
//!
//! Sends nothing. A slow link gets one piece at a time: more would fill the queue before it, drop packets there, and hold up
//! heartbeats until the peer counts as lost.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use tokio::time::Instant;

use super::frame::Kind;
use super::outbox::{INLINE, PARCELS, PIECE, Parcel, may_be_large};

/// Most pieces under way: enough to keep a fast link busy, few enough to let other entries pass.
const WINDOW: usize = 16;
/// A piece that comes within this time lets one more be under way: a link of more than 1 Mbit/s.
const QUICK: Duration = Duration::from_millis(500);
/// A piece that takes longer than this halves the number under way.
const SLOW: Duration = Duration::from_secs(1);

/// What became of a piece.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Arrived {
    /// The parcel has further pieces.
    Part,
    /// The body is whole: its kind's number, its entry's id, the body.
    Whole(u8, u64, Vec<u8>),
    /// The piece belongs to no parcel, or is not the next piece of its parcel.
    Stray,
}

#[derive(Debug)]
pub(crate) struct Arrivals {
    parcels: HashMap<u64, Arrival>,
    /// The parcels with pieces to ask for, the next one first.
    turns: VecDeque<u64>,
    /// The announced bytes of all parcels.
    bytes: usize,
    /// Pieces under way, and how many may be.
    under_way: usize,
    window: usize,
}

#[derive(Debug)]
struct Arrival {
    kind: u8,
    id: u64,
    length: usize,
    bytes: Vec<u8>,
    /// The first byte that is not asked for.
    next: usize,
    /// When the pieces under way were asked for, the next one first.
    asked: VecDeque<Instant>,
}

impl Default for Arrivals {
    fn default() -> Self {
        Self {
            parcels: HashMap::new(),
            turns: VecDeque::new(),
            bytes: 0,
            under_way: 0,
            window: 1,
        }
    }
}

impl Arrivals {
    /// Takes the announcement of a parcel. Returns whether it is right and the parcel not too large to take.
    pub(crate) fn announced(&mut self, id: u64, parcel: Parcel) -> bool {
        let Ok(length) = usize::try_from(parcel.length) else {
            return false;
        };
        let fits = length > INLINE
            && length <= crate::wire::MAX_BYTES
            && self.bytes + length <= PARCELS
            && !self.parcels.contains_key(&parcel.number);
        if !fits || !Kind::of(parcel.kind).is_some_and(may_be_large) {
            return false;
        }
        self.bytes += length;
        let arrival = Arrival {
            kind: parcel.kind,
            id,
            length,
            // Grows as pieces come, so that an announced length costs no memory.
            bytes: Vec::new(),
            next: 0,
            asked: VecDeque::new(),
        };
        self.parcels.insert(parcel.number, arrival);
        self.turns.push_back(parcel.number);
        true
    }

    /// The pieces to ask for now, parcel by parcel in turn: a parcel's number and the piece's first byte.
    pub(crate) fn asks(&mut self, now: Instant) -> Vec<(u64, u64)> {
        let mut asks = Vec::new();
        while self.under_way < self.window {
            let Some(number) = self.turns.pop_front() else {
                break;
            };
            let Some(arrival) = self.parcels.get_mut(&number) else {
                continue;
            };
            asks.push((number, arrival.next as u64));
            arrival.next += PIECE;
            arrival.asked.push_back(now);
            self.under_way += 1;
            if arrival.next < arrival.length {
                self.turns.push_back(number);
            }
        }
        asks
    }

    pub(crate) fn piece(&mut self, number: u64, from: u64, bytes: &[u8], now: Instant) -> Arrived {
        let Some(arrival) = self.parcels.get_mut(&number) else {
            return Arrived::Stray;
        };
        let fits = from == arrival.bytes.len() as u64
            && !bytes.is_empty()
            && arrival.bytes.len() + bytes.len() <= arrival.length;
        let asked = arrival.asked.front().copied().filter(|_| fits);
        let Some(asked) = asked else {
            self.forget(number);
            return Arrived::Stray;
        };
        arrival.asked.pop_front();
        arrival.bytes.extend_from_slice(bytes);
        let whole = arrival.bytes.len() == arrival.length;
        self.under_way -= 1;
        match now.saturating_duration_since(asked) {
            took if took < QUICK => self.window = WINDOW.min(self.window + 1),
            took if took > SLOW => self.window = 1.max(self.window / 2),
            _ => {}
        }
        if !whole {
            return Arrived::Part;
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
        self.under_way -= arrival.asked.len();
        Some(arrival)
    }

    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::super::outbox::Outbox;
    use super::super::outbox::tests::entries;
    use super::*;

    fn parcel(number: u64, length: u64) -> Parcel {
        Parcel {
            kind: Kind::Outcome2 as u8,
            number,
            length,
        }
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
        assert!(receiver.announced(9, parcel));
        let now = Instant::now();
        let mut whole = None;
        while whole.is_none() {
            let asks = receiver.asks(now);
            assert!(!asks.is_empty(), "nothing asks for the rest");
            for (number, from) in asks {
                assert!(sender.piece(number, from));
            }
            for (kind, number, piece) in entries(&mut sender) {
                assert_eq!(kind, Kind::Piece as u8);
                let (from, bytes) = piece.split_first_chunk().unwrap();
                match receiver.piece(number, u64::from_be_bytes(*from), bytes, now) {
                    Arrived::Part => {}
                    Arrived::Whole(kind, id, bytes) => whole = Some((kind, id, bytes)),
                    Arrived::Stray => panic!("stray"),
                }
            }
        }
        assert_eq!(whole, Some((Kind::Outcome2 as u8, 9, body)));
        assert_eq!((sender.waiting(), receiver.bytes), (0, 0));
        assert_eq!((receiver.under_way, receiver.asks(now)), (0, vec![]));
        assert!(
            !sender.piece(parcel.number, 0),
            "what was sent is forgotten"
        );
    }

    #[test]
    fn what_does_not_fit_is_refused_and_costs_nothing() {
        let mut receiver = Arrivals::default();
        for wrong in [u64::MAX, 33 * 1024 * 1024, 10] {
            assert!(!receiver.announced(1, parcel(1, wrong)), "{wrong}");
        }
        let nested = Parcel {
            kind: Kind::Piece as u8,
            ..parcel(1, 200_000)
        };
        assert!(!receiver.announced(1, nested));
        assert!(receiver.announced(1, parcel(1, 200_000)));
        assert!(!receiver.announced(2, parcel(1, 200_000)));
        let now = Instant::now();
        assert_eq!(receiver.asks(now), [(1, 0)]);
        assert_eq!(receiver.piece(1, 5, &[0; 9], now), Arrived::Stray);
        assert_eq!((receiver.bytes, receiver.parcels.len()), (0, 0));
        assert!(receiver.announced(3, parcel(3, 200_000)));
        assert_eq!(
            receiver.piece(3, 0, &[0; 9], now),
            Arrived::Stray,
            "not asked for"
        );
        assert_eq!((receiver.bytes, receiver.under_way), (0, 0));
    }

    #[test]
    fn a_slow_link_has_one_piece_under_way_and_a_quick_one_many() {
        let mut receiver = Arrivals::default();
        for number in [1, 2] {
            assert!(receiver.announced(number, parcel(number, 30 * 1024 * 1024)));
        }
        let mut now = Instant::now();
        let mut waiting = VecDeque::new();
        for (takes, most) in [(1, WINDOW), (2_000, 1), (700, 1), (1, WINDOW)] {
            for _ in 0..40 {
                waiting.extend(receiver.asks(now));
                now += Duration::from_millis(takes);
                let (number, from) = waiting.pop_front().unwrap();
                // Only the link's speed counts here, not the wait behind other pieces.
                let asked = &mut receiver.parcels.get_mut(&number).unwrap().asked[0];
                *asked = now - Duration::from_millis(takes);
                let arrived = receiver.piece(number, from, &vec![0; PIECE], now);
                assert_eq!(arrived, Arrived::Part);
            }
            assert_eq!((receiver.window, waiting.len()), (most, most - 1));
        }
        assert_eq!(receiver.turns.len(), 2, "both parcels go on");
    }
}
