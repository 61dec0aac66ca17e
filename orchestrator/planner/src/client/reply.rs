//! A model's reply while it arrives: keeps the text and hands it on without the model's thinking.
//!
//! Does not interpret the text: the plan parser deals with fences and prose around JSON.

use amcp_protocol::llm::{ChatReply, TextSink, Usage};

const OPEN: &str = "<think>";
const CLOSE: &str = "</think>";

/// Removes the thinking from a text: `<think>…</think>` at the beginning, even if the server's template swallowed the
/// opening tag or the thinking never ends.
pub(crate) struct Arriving<'a> {
    sink: &'a mut dyn TextSink,
    /// All text so far; the client bounds it.
    text: String,
    stage: Stage,
    /// The beginning of the reply in `text`.
    start: usize,
    /// The end of the text that was read and handed on.
    at: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Before the reply, where thinking may begin.
    Head,
    Thinking,
    /// After thinking whose opening tag is missing.
    Blank,
    /// In the reply; `doubted` while it may turn out to be thinking.
    Reply {
        doubted: bool,
    },
}

impl<'a> Arriving<'a> {
    pub(crate) fn new(sink: &'a mut dyn TextSink) -> Self {
        Self {
            sink,
            text: String::new(),
            stage: Stage::Head,
            start: 0,
            at: 0,
        }
    }

    /// Takes the next text from the server.
    pub(crate) fn push(&mut self, text: &str) {
        self.text.push_str(text);
        while self.advance(false) {}
    }

    /// The reply, once all text has arrived; `reason` is the server's word for why the model stopped.
    pub(crate) fn reply(self, reason: Option<&str>, usage: Usage, max_tokens: u32) -> ChatReply {
        ChatReply {
            text: self.end(),
            // Old servers give no reason.
            truncated: match reason {
                Some("length") => true,
                Some("stop") => false,
                _ => usage.reply_tokens >= max_tokens,
            },
            usage,
        }
    }

    fn end(mut self) -> String {
        while self.advance(true) {}
        match self.stage {
            Stage::Reply { .. } => self.text.split_off(self.start),
            Stage::Head | Stage::Thinking | Stage::Blank => String::new(),
        }
    }

    /// Makes one step; false when the next step needs more text.
    fn advance(&mut self, ended: bool) -> bool {
        let rest = self.text.get(self.at..).unwrap_or_default();
        match self.stage {
            Stage::Head | Stage::Blank => {
                let rest = rest.trim_start();
                self.at = self.text.len() - rest.len();
                let is_head = self.stage == Stage::Head;
                if rest.is_empty() || (is_head && !ended && OPEN.starts_with(rest)) {
                    return false;
                }
                if is_head && rest.starts_with(OPEN) {
                    self.at += OPEN.len();
                    self.stage = Stage::Thinking;
                } else {
                    self.start = self.at;
                    // Inside JSON the tag belongs to a text.
                    let doubted = is_head && !rest.starts_with(['{', '[', '`']);
                    self.stage = Stage::Reply { doubted };
                }
                true
            }
            Stage::Thinking => {
                let Some(close) = rest.find(CLOSE) else {
                    // The tag may have begun.
                    self.at = self.before(self.text.len(), self.at);
                    return false;
                };
                self.at += close + CLOSE.len();
                self.stage = Stage::Head;
                true
            }
            Stage::Reply { doubted: true } => {
                let from = self.before(self.at, self.start);
                let seen = self.text.get(from..).unwrap_or_default();
                match (seen.find(CLOSE), seen.find(OPEN)) {
                    (Some(close), open) if open.is_none_or(|open| open > close) => {
                        if self.at > self.start {
                            self.sink.reset();
                        }
                        self.at = from + close + CLOSE.len();
                        self.stage = Stage::Blank;
                        return true;
                    }
                    (_, Some(_)) => self.stage = Stage::Reply { doubted: false },
                    (_, None) => {}
                }
                self.hand_on()
            }
            Stage::Reply { doubted: false } => self.hand_on(),
        }
    }

    fn hand_on(&mut self) -> bool {
        let piece = self.text.get(self.at..).unwrap_or_default();
        if !piece.is_empty() {
            self.sink.piece(piece);
        }
        self.at = self.text.len();
        false
    }

    /// The position before which no unfinished tag can begin, but at least `least`.
    fn before(&self, place: usize, least: usize) -> usize {
        let place = place.saturating_sub(CLOSE.len() - 1);
        self.text.floor_char_boundary(place).max(least)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The reply of a complete text.
    fn without_thinking(text: &str) -> &str {
        let mut trimmed = text.trim_start();
        while let Some(thinking) = trimmed.strip_prefix(OPEN) {
            trimmed = match thinking.split_once(CLOSE) {
                Some((_, rest)) => rest.trim_start(),
                None => "",
            };
        }
        if trimmed.starts_with(['{', '[', '`']) {
            return trimmed;
        }
        match trimmed.split_once(CLOSE) {
            Some((before, rest)) if !before.contains(OPEN) => rest.trim_start(),
            _ => trimmed,
        }
    }

    #[derive(Default)]
    struct Pieces(String);

    impl TextSink for Pieces {
        fn piece(&mut self, text: &str) {
            assert!(!text.is_empty());
            self.0.push_str(text);
        }

        fn reset(&mut self) {
            assert!(!self.0.is_empty());
            self.0.clear();
        }
    }

    fn read<'t>(pieces: impl IntoIterator<Item = &'t str>) -> (String, String) {
        let mut sink = Pieces::default();
        let mut arriving = Arriving::new(&mut sink);
        for piece in pieces {
            arriving.push(piece);
        }
        (arriving.end(), sink.0)
    }

    #[test]
    fn thinking_goes_and_the_rest_stays() {
        for (text, rest) in [
            ("plain", "plain"),
            ("<think>hm</think>\n{}", "{}"),
            ("<think>a</think><think>b</think> c", "c"),
            ("hm, so</think>\n{}", "{}"),
            ("<think>never ends", ""),
            ("<thin", "<thin"),
            ("{\"a\":\"</think>\"}", "{\"a\":\"</think>\"}"),
            ("write <think> and </think>", "write <think> and </think>"),
        ] {
            assert_eq!(without_thinking(text), rest, "{text}");
            let whole = read([text]);
            let by_char = read(text.split_inclusive(|_| true));
            assert_eq!(whole, (rest.to_owned(), rest.to_owned()), "{text}");
            assert_eq!(by_char, whole, "{text}");
        }
    }

    proptest! {
        #[test]
        fn invariant_pieces_add_up_to_the_text_without_thinking(
            pieces in prop::collection::vec("(<think>|</think>|<th|ink>|</|[ {é\n]|a ){0,4}", 0..8),
        ) {
            let text = pieces.concat();
            let expected = without_thinking(&text).to_owned();
            let got = read(pieces.iter().map(String::as_str));
            prop_assert_eq!(got, (expected.clone(), expected));
        }
    }
}
