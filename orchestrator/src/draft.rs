//! The text of an answer while a composer writes it, for readers of any speed.
//!
//! Does not decide on the answer: a draft that does not become the answer is void.

use std::fmt;

use amcp_protocol::AnswerPiece;

/// Longest draft for readers, in bytes: many times the longest answer that a composer asks for.
const MAX_BYTES: usize = 64 * 1024;

/// One text for all readers; each keeps only its position.
#[derive(Debug, Default)]
pub(crate) struct Draft {
    text: String,
    /// Number of times that the text became void.
    version: u32,
    /// The text has become longer than [`MAX_BYTES`]: only the answer holds the rest.
    full: bool,
    /// The answer is committed: the text is void, or the beginning of the answer.
    ended: bool,
}

/// A reader's position.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Read {
    version: u32,
    bytes: usize,
}

impl fmt::Display for Read {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.version, self.bytes)
    }
}

impl Draft {
    pub(crate) fn write(&mut self, piece: AnswerPiece) {
        match piece {
            AnswerPiece::Text { text } => {
                self.full |= self.text.len() + text.len() > MAX_BYTES;
                if !self.full {
                    self.text.push_str(&text);
                }
            }
            AnswerPiece::TextReset => self.void(),
        }
    }

    fn void(&mut self) {
        self.version += 1;
        self.text.clear();
        self.full = false;
    }

    pub(crate) fn end(&mut self, answer: &str) {
        // Composers trim the model's text.
        if !answer.starts_with(&self.text) && self.text.trim_end() != answer {
            self.void();
        }
        self.text = String::new();
        self.ended = true;
    }

    /// The text that the reader has not seen; with an answer, the rest of the answer.
    pub(crate) fn unread(&self, read: &mut Read, answer: Option<&str>) -> Option<AnswerPiece> {
        if read.version != self.version {
            let saw_some = read.bytes > 0;
            *read = Read {
                version: self.version,
                bytes: 0,
            };
            if saw_some {
                return Some(AnswerPiece::TextReset);
            }
        }
        // Readers get the rest of a text only if they have seen a part of it.
        let text = match answer {
            Some(answer) if self.ended && read.bytes > 0 => answer,
            _ => &self.text,
        };
        let text = text.get(read.bytes..).filter(|text| !text.is_empty())?;
        read.bytes += text.len();
        Some(AnswerPiece::Text {
            text: text.to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn text(text: &str) -> AnswerPiece {
        AnswerPiece::Text {
            text: text.to_owned(),
        }
    }

    #[test]
    fn a_slow_reader_gets_one_large_piece_and_a_late_one_all_of_it() {
        let (mut draft, mut slow) = (Draft::default(), Read::default());
        draft.write(text("It "));
        assert_eq!(draft.unread(&mut slow, None), Some(text("It ")));
        assert_eq!(draft.unread(&mut slow, None), None);
        for word in ["is ", "sunny", "."] {
            draft.write(text(word));
        }
        assert_eq!(draft.unread(&mut slow, None), Some(text("is sunny.")));
        assert_eq!(
            draft.unread(&mut Read::default(), None),
            Some(text("It is sunny."))
        );
    }

    #[test]
    fn a_draft_is_bounded() {
        let mut draft = Draft::default();
        for _ in 0..100 {
            draft.write(text(&"x".repeat(1_000)));
        }
        assert!(draft.text.len() <= MAX_BYTES);
    }

    proptest! {
        #[test]
        fn invariant_what_a_reader_holds_in_the_end_is_the_answer_or_nothing(
            pieces in prop::collection::vec(prop::option::of("[a-zé ]{1,4}"), 0..8),
            reads in prop::collection::vec(any::<bool>(), 8),
            is_kept: bool,
        ) {
            let (mut draft, mut read, mut held) = (Draft::default(), Read::default(), String::new());
            let mut take = |draft: &Draft, answer| {
                while let Some(piece) = draft.unread(&mut read, answer) {
                    match piece {
                        AnswerPiece::Text { text } => held.push_str(&text),
                        AnswerPiece::TextReset => held.clear(),
                    }
                }
                held.clone()
            };
            for (piece, reads) in pieces.iter().zip(reads) {
                draft.write(piece.as_ref().map_or(AnswerPiece::TextReset, |piece| text(piece)));
                if reads {
                    prop_assert_eq!(take(&draft, None), draft.text.clone());
                }
            }
            let written = draft.text.clone();
            let answer = if is_kept { written.trim_end() } else { "Something else." };
            draft.end(answer);
            let held = take(&draft, Some(answer));
            prop_assert!(held.trim_end() == answer || held.is_empty(), "{held:?} {answer:?}");
            prop_assert!(is_kept || held.is_empty());
        }
    }
}
