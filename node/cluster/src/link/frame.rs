//! Frames and entries: the envelope of everything that crosses a link. Pure.
//!
//! A frame is one version byte, the link's token (8 bytes) and any number of entries; an entry is its kind (1 byte), an id
//! (8 bytes), the length of its body (4 bytes) and the body; numbers are big-endian. This envelope never changes, so that
//! builds of different ages can refuse unknown kinds by number. The shape of a kind's body never changes either: a new shape
//! gets a new kind. Only [`Kind::Task2`] and [`Kind::Outcome2`] may grow, by named fields in their heads: readers ignore
//! unknown names, so a new field must be safe to ignore. A name is never used again for another field. These names are taken,
//! and no build writes them yet:
//!
//! | head | name | what it will hold |
//! |---|---|---|
//! | Task2 | `key` | text: the idempotency key, the same for all attempts |
//! | Task2 | `epoch` | number: the life of the request that asks, once a request can outlive its orchestrator |
//! | Task2 | `idle_ms` | number: the longest time without a sign of life, in milliseconds |
//! | Outcome2 | `attempt` | number: the attempt that was carried out, where several share an outcome |
//! | Outcome2 | `progress` | bytes of JSON: the task's progress |

/// The version of the envelope that this build writes and reads.
pub const VERSION: u8 = 1;
/// Bytes before the first entry.
pub const HEADER: usize = 9;
const ENTRY_HEADER: usize = 13;

macro_rules! kinds {
    ($($(#[$doc:meta])* $name:ident = $number:literal,)*) => {
        /// The kind of an entry; its number is on the wire.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum Kind {
            $($(#[$doc])* $name = $number,)*
        }

        impl Kind {
            /// The kind with a number; none for one of a newer build.
            #[must_use]
            pub const fn of(number: u8) -> Option<Self> {
                match number {
                    $($number => Some(Self::$name),)*
                    _ => None,
                }
            }
        }
    };
}

// 2 and 4 were tasks and outcomes before the first release; no kind gets these numbers again.
kinds! {
    /// A heartbeat. No body.
    Beat = 1,
    /// The result of the task with this id is no longer wanted. No body.
    Cancel = 3,
    /// The agent ended without an answer to the task with this id. No body.
    Lost = 5,
    /// The sender does not understand the entry with this id: its kind (1 byte; 0 for every frame), and the reason as text.
    Refused = 6,
    /// Agents that joined, with their cards.
    Joined = 7,
    /// New states of agents.
    Fares = 8,
    /// Agents that left.
    Left = 9,
    /// Send the whole roster again. No body.
    Resync = 10,
    /// The whole roster follows, up to [`Kind::Whole`]. No body.
    Anew = 11,
    /// The members that the sender knows to be alive.
    Members = 12,
    /// The sender drains. No body.
    Draining = 13,
    /// The sender is about to leave. No body.
    Goodbye = 14,
    /// A question about a request; the reply repeats the id.
    Question = 15,
    /// The reply to the question with this id.
    Reply = 16,
    /// An entry with a body too large for a frame: its kind, and a parcel's number and length. The id is the entry's.
    Parcel = 17,
    /// Send a piece of the parcel with this id: its first byte.
    Fetch = 18,
    /// A piece of the parcel with this id: its first byte's place, and the bytes.
    Piece = 19,
    /// The parcel with this id is not wanted. No body.
    Drop = 20,
    /// The outcome of the task with this id has arrived: the peer need not keep it for another attempt. No body.
    Settled = 21,
    /// The whole roster has been sent: agents that it did not name have left. No body.
    Whole = 22,
    /// Do this task: a head that names agent and task, and the params. Answers repeat the id.
    Task2 = 23,
    /// The outcome of the task with this id, a head and the result.
    Outcome2 = 24,
    /// A person answers a flow of a request: the request, the flow, and the answer as JSON. The [`Kind::Reply`] with this id holds
    /// nothing if there is no such request, or else JSON: the reason why the answer does not count, or null.
    FlowAnswer = 25,
    /// The agent works on the task with this id, sent as [`Kind::Task2`]: a note for users, perhaps empty, as text.
    Sign = 26,
    /// Send a piece of a report: its name and the first byte's place, as JSON whose unknown fields count as absent. The
    /// [`Kind::Reply`] with this id holds nothing if there is no such report, or else JSON about it and the bytes.
    File = 27,
    /// List requests: which ones, as JSON. The [`Kind::Reply`] with this id holds nothing if this build cannot read it, or else a list
    /// as JSON.
    List = 28,
}

impl Kind {
    /// Whether the sender waits for an answer under the entry's id.
    #[must_use]
    pub const fn asks(self) -> bool {
        matches!(self, Self::Task2) || self.is_question()
    }

    /// Whether a [`Kind::Reply`] answers an entry of this kind.
    #[must_use]
    pub const fn is_question(self) -> bool {
        matches!(
            self,
            Self::Question | Self::FlowAnswer | Self::File | Self::List
        )
    }
}

/// The error of a frame that cannot be read to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// A newer build wrote the frame.
    #[error("this build does not understand frames of version {0}, only of version {VERSION}")]
    Version(u8),
    /// The frame ends too early.
    #[error("the frame ends in the middle of an entry")]
    Truncated,
}

/// One entry of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry<'a> {
    /// The number of the entry's [`Kind`].
    pub kind: u8,
    /// Names the task, question or parcel, unique on its link.
    pub id: u64,
    /// The bytes after the entry's header.
    pub body: &'a [u8],
}

/// Begins a frame: version and token.
#[must_use]
pub fn begin(token: u64) -> Vec<u8> {
    let mut frame = Vec::with_capacity(512);
    frame.push(VERSION);
    frame.extend(token.to_be_bytes());
    frame
}

/// Appends an entry; `body` writes its body.
///
/// # Errors
/// Those of `body`; the frame is then unchanged.
pub fn push_with<E>(
    frame: &mut Vec<u8>,
    kind: Kind,
    id: u64,
    body: impl FnOnce(&mut Vec<u8>) -> Result<(), E>,
) -> Result<(), E> {
    let start = frame.len();
    frame.push(kind as u8);
    frame.extend(id.to_be_bytes());
    frame.extend([0; 4]);
    if let Err(error) = body(frame) {
        frame.truncate(start);
        return Err(error);
    }
    let length = u32::try_from(frame.len() - start - ENTRY_HEADER).unwrap_or(u32::MAX);
    if let Some(place) = frame.get_mut(start + 9..start + ENTRY_HEADER) {
        place.copy_from_slice(&length.to_be_bytes());
    }
    Ok(())
}

/// Appends an entry.
pub fn push(frame: &mut Vec<u8>, kind: Kind, id: u64, body: &[u8]) {
    let Ok(()) = push_with(frame, kind, id, |frame| {
        frame.extend_from_slice(body);
        Ok::<(), std::convert::Infallible>(())
    });
}

/// The token of a frame and its entries, read one by one.
///
/// # Errors
/// [`FrameError`].
pub fn open(frame: &[u8]) -> Result<(u64, Entries<'_>), FrameError> {
    let (&version, rest) = frame.split_first().ok_or(FrameError::Truncated)?;
    let (token, entries) = rest.split_first_chunk().ok_or(FrameError::Truncated)?;
    if version == VERSION {
        Ok((u64::from_be_bytes(*token), Entries(entries)))
    } else {
        Err(FrameError::Version(version))
    }
}

/// The token of any build's frame: its place never changes.
#[must_use]
pub fn token(frame: &[u8]) -> Option<u64> {
    let token = frame.get(1..)?.first_chunk()?;
    Some(u64::from_be_bytes(*token))
}

/// The entries of a frame.
#[derive(Debug, Clone)]
pub struct Entries<'a>(&'a [u8]);

impl<'a> Iterator for Entries<'a> {
    type Item = Result<Entry<'a>, FrameError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        match split(self.0) {
            Some((entry, rest)) => {
                self.0 = rest;
                Some(Ok(entry))
            }
            None => {
                self.0 = &[];
                Some(Err(FrameError::Truncated))
            }
        }
    }
}

fn split(bytes: &[u8]) -> Option<(Entry<'_>, &[u8])> {
    let (&kind, rest) = bytes.split_first()?;
    let (id, rest) = rest.split_first_chunk()?;
    let (length, rest) = rest.split_first_chunk()?;
    let length = usize::try_from(u32::from_be_bytes(*length)).ok()?;
    let (body, rest) = rest.split_at_checked(length)?;
    let id = u64::from_be_bytes(*id);
    Some((Entry { kind, id, body }, rest))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn entries_come_out_as_they_went_in() {
        let mut frame = begin(7);
        push(&mut frame, Kind::Beat, 0, &[]);
        push(&mut frame, Kind::Task2, u64::MAX, b"body");
        let failed = push_with(&mut frame, Kind::Outcome2, 3, |frame| {
            frame.push(1);
            Err("no")
        });
        assert_eq!(failed, Err("no"));
        let (token, entries) = open(&frame).unwrap();
        let entries: Vec<_> = entries.map(|e| e.map(|e| (e.kind, e.id, e.body))).collect();
        assert_eq!(token, 7);
        assert_eq!(
            entries,
            [Ok((1, 0, &b""[..])), Ok((23, u64::MAX, &b"body"[..]))]
        );
    }

    #[test]
    fn a_frame_of_a_newer_build_still_says_whose_it_is() {
        let mut frame = begin(7);
        frame[0] = 9;
        assert_eq!(open(&frame).unwrap_err(), FrameError::Version(9));
        assert_eq!(token(&frame), Some(7));
    }

    #[test]
    fn every_number_is_its_kind() {
        for number in 0..=u8::MAX {
            assert!(Kind::of(number).is_none_or(|kind| kind as u8 == number));
        }
        assert_eq!(Kind::of(28), Some(Kind::List));
        assert_eq!(Kind::of(29), None);
    }

    proptest! {
        #[test]
        fn invariant_a_cut_frame_gives_whole_entries_and_an_error(
            bodies in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 1..6),
            cut in any::<prop::sample::Index>(),
        ) {
            let mut frame = begin(1);
            for body in &bodies {
                push(&mut frame, Kind::Task2, 1, body);
            }
            let at = HEADER + cut.index(frame.len() - HEADER);
            let entries: Vec<_> = open(&frame[..at]).unwrap().1.collect();
            for (entry, body) in entries.iter().zip(&bodies) {
                prop_assert!(entry.is_err() || entry.unwrap().body == body.as_slice());
            }
            prop_assert!(entries.iter().filter(|entry| entry.is_ok()).count() < bodies.len());
        }

        #[test]
        fn invariant_garbage_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..256)) {
            if let Ok((_, entries)) = open(&bytes) {
                prop_assert!(entries.count() <= bytes.len());
            }
        }
    }
}
