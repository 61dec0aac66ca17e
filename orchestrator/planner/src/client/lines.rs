//! Cuts a byte stream into lines, wherever the network cut it.
//!
//! Does not bound its buffer; the body that feeds it does.

/// Keeps the beginning of a line until its end arrives: characters and lines may be split anywhere.
#[derive(Debug, Default)]
pub(crate) struct Lines {
    begun: Vec<u8>,
}

impl Lines {
    /// Takes bytes and returns the lines that they complete, without blank ones.
    pub(crate) fn push(&mut self, bytes: &[u8]) -> Vec<Vec<u8>> {
        let mut lines = Vec::new();
        let mut parts = bytes.split(|&b| b == b'\n');
        if let Some(first) = parts.next() {
            self.begun.extend_from_slice(first);
        }
        for part in parts {
            lines.push(std::mem::replace(&mut self.begun, part.to_vec()));
        }
        lines.retain(|line| !line.trim_ascii().is_empty());
        lines
    }

    /// Number of bytes of the unfinished line.
    pub(crate) const fn begun(&self) -> usize {
        self.begun.len()
    }

    /// The last line of a stream that ended without a line feed.
    pub(crate) fn rest(&mut self) -> Option<Vec<u8>> {
        let rest = std::mem::take(&mut self.begun);
        (!rest.trim_ascii().is_empty()).then_some(rest)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn invariant_lines_do_not_depend_on_where_the_bytes_were_cut(
            text in "[a-zé😀 \n]{0,60}",
            cuts in prop::collection::vec(0_usize..120, 0..8),
        ) {
            let bytes = text.as_bytes();
            let mut cuts: Vec<usize> = cuts.into_iter().map(|c| c.min(bytes.len())).collect();
            cuts.extend([0, bytes.len()]);
            cuts.sort_unstable();
            let mut lines = Lines::default();
            let mut found = Vec::new();
            for pair in cuts.windows(2) {
                found.extend(lines.push(&bytes[pair[0]..pair[1]]));
            }
            found.extend(lines.rest());
            let expected: Vec<Vec<u8>> = text
                .split('\n')
                .filter(|l| !l.trim_ascii().is_empty())
                .map(|l| l.as_bytes().to_vec())
                .collect();
            prop_assert_eq!(found, expected);
        }
    }
}
