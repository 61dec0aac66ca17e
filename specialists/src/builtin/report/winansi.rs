//! Text of PDF's standard fonts: the encoding (Windows-1252) and the widths of Helvetica's characters (Adobe's font
//! metrics), without which nothing can be wrapped or set to the right.
//!
//! Knows no other script: what the encoding lacks becomes `?`.

/// Characters 0x80 to 0x9F; `\0` where there is none.
const HIGH: [char; 32] = [
    '€', '\0', '‚', 'ƒ', '„', '…', '†', '‡', 'ˆ', '‰', 'Š', '‹', 'Œ', '\0', 'Ž', '\0', '\0', '‘',
    '’', '“', '”', '•', '–', '—', '˜', '™', 'š', '›', 'œ', '\0', 'ž', 'Ÿ',
];

/// Widths of Helvetica from space to `~`, in thousandths of the size.
const REGULAR: [u16; 95] = [
    278, 278, 355, 556, 556, 889, 667, 191, 333, 333, 389, 584, 278, 333, 278, 278, 556, 556, 556,
    556, 556, 556, 556, 556, 556, 556, 278, 278, 584, 584, 584, 556, 1015, 667, 667, 722, 722, 667,
    611, 778, 722, 278, 500, 667, 556, 833, 722, 778, 667, 778, 722, 667, 611, 722, 667, 944, 667,
    667, 611, 278, 278, 278, 469, 556, 333, 556, 556, 500, 556, 556, 278, 556, 556, 222, 222, 500,
    222, 833, 556, 556, 556, 556, 333, 500, 278, 556, 500, 722, 500, 500, 500, 334, 260, 334, 584,
];

/// The same of Helvetica Bold.
const BOLD: [u16; 95] = [
    278, 333, 474, 556, 556, 889, 722, 238, 333, 333, 389, 584, 278, 333, 278, 278, 556, 556, 556,
    556, 556, 556, 556, 556, 556, 556, 333, 333, 584, 584, 584, 611, 975, 722, 722, 722, 722, 667,
    611, 778, 722, 278, 556, 722, 611, 833, 722, 778, 667, 778, 722, 667, 611, 722, 667, 944, 667,
    667, 611, 333, 278, 333, 584, 556, 333, 556, 611, 556, 611, 556, 333, 611, 611, 278, 278, 556,
    278, 889, 611, 611, 611, 611, 389, 556, 333, 611, 556, 778, 556, 556, 500, 389, 280, 389, 584,
];

/// Widths of Helvetica from 0xA0 to 0xFF.
const LATIN: [u16; 96] = [
    278, 333, 556, 556, 556, 556, 260, 556, 333, 737, 370, 556, 584, 333, 737, 333, 400, 584, 333,
    333, 333, 556, 537, 278, 333, 333, 365, 556, 834, 834, 834, 611, 667, 667, 667, 667, 667, 667,
    1000, 722, 667, 667, 667, 667, 278, 278, 278, 278, 722, 722, 778, 778, 778, 778, 778, 584, 778,
    722, 722, 722, 722, 667, 667, 611, 556, 556, 556, 556, 556, 556, 889, 500, 556, 556, 556, 556,
    278, 278, 278, 278, 556, 556, 556, 556, 556, 556, 556, 584, 611, 556, 556, 556, 556, 500, 556,
    500,
];

/// One of the two fonts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Font {
    Regular,
    Bold,
}

/// The byte that stands for a character; none when the encoding lacks it.
fn byte_of(character: char) -> Option<u8> {
    match character {
        ' '..='~' | '\u{A0}'..='\u{FF}' => u8::try_from(u32::from(character)).ok(),
        '\0' => None,
        // Spaces and dashes of typography that have a plain form.
        '\u{2009}' | '\u{202F}' | '\u{2007}' => Some(b' '),
        '\u{2010}' | '\u{2011}' => Some(b'-'),
        '\u{2212}' => Some(0x96),
        _ => {
            let at = HIGH.iter().position(|high| *high == character)?;
            u8::try_from(0x80 + at).ok()
        }
    }
}

/// The text's bytes, and whether some character had to be replaced.
pub(super) fn encoded(text: &str) -> (Vec<u8>, bool) {
    let mut replaced = false;
    let bytes = text
        .chars()
        .map(|character| {
            byte_of(character).unwrap_or_else(|| {
                replaced = true;
                b'?'
            })
        })
        .collect();
    (bytes, replaced)
}

/// How wide the text is at a size, in points.
pub(super) fn width(text: &str, font: Font, size: f32) -> f32 {
    let thousandths: u32 = text
        .chars()
        .map(|character| u32::from(character_width(character, font)))
        .sum();
    #[expect(clippy::cast_precision_loss, reason = "lines are short")]
    let width = thousandths as f32 * size / 1000.0;
    width
}

fn character_width(character: char, font: Font) -> u16 {
    let byte = byte_of(character).unwrap_or(b'?');
    let plain = if font == Font::Bold { &BOLD } else { &REGULAR };
    let known = match byte {
        0x20..=0x7E => plain.get(usize::from(byte - 0x20)),
        0xA0..=0xFF => LATIN.get(usize::from(byte - 0xA0)),
        _ => None,
    };
    // Dashes and ellipsis are the wide ones among the rest.
    known
        .copied()
        .unwrap_or(if matches!(character, '…' | '—' | '™' | '‰' | 'Œ') {
            1000
        } else {
            556
        })
}

/// The text cut to a width, with an ellipsis where it was cut.
pub(super) fn fitted(text: &str, font: Font, size: f32, most: f32) -> String {
    // A column is as wide as its longest cell, give or take what floats lose.
    if width(text, font, size) <= most + 0.05 {
        return text.to_owned();
    }
    let mut cut = String::new();
    let mut taken = width("…", font, size);
    for character in text.chars() {
        taken += f32::from(character_width(character, font)) * size / 1000.0;
        if taken > most {
            break;
        }
        cut.push(character);
    }
    cut.push('…');
    cut
}

/// The text in lines of at most a width; a word that is wider is cut into pieces.
pub(super) fn wrapped(text: &str, font: Font, size: f32, most: f32) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    let mut line = String::new();
    for word in text.split_whitespace() {
        let joined = if line.is_empty() {
            word.to_owned()
        } else {
            format!("{line} {word}")
        };
        if width(&joined, font, size) <= most {
            line = joined;
            continue;
        }
        if !line.is_empty() {
            lines.push(std::mem::take(&mut line));
        }
        for character in word.chars() {
            if !line.is_empty()
                && width(&line, font, size)
                    + f32::from(character_width(character, font)) * size / 1000.0
                    > most
            {
                lines.push(std::mem::take(&mut line));
            }
            line.push(character);
        }
    }
    if !line.is_empty() {
        lines.push(line);
    }
    lines
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_the_encoding_has_is_kept_and_the_rest_said() {
        assert_eq!(
            encoded("a€é…–"),
            (vec![b'a', 0x80, 0xE9, 0x85, 0x96], false)
        );
        assert_eq!(encoded("日本"), (vec![b'?', b'?'], true));
        assert_eq!(width("Hello", Font::Regular, 10.0), 22.78);
    }

    proptest! {
        #[test]
        fn invariant_no_line_is_wider_than_allowed(text in "[ -~é日…]{0,200}", most in 20f32..300.0) {
            for line in wrapped(&text, Font::Bold, 10.0, most) {
                prop_assert!(width(&line, Font::Bold, 10.0) <= most + 0.01, "{}", line);
            }
            prop_assert_eq!(wrapped(&text, Font::Bold, 10.0, most).concat().replace(' ', ""), text.replace(' ', ""));
            prop_assert!(width(&fitted(&text, Font::Regular, 10.0, most), Font::Regular, 10.0) <= most + 0.06);
        }
    }
}
