//! A query as tokens: words with their stems, numbers, quoted texts, links and marks, each with its place.
//!
//! Does not know what any of them means.

use rust_stemmers::{Algorithm, Stemmer};

use super::lexicon::month_number;
use super::words::{STOP, UNIT, base, classes, is, phrasal, typed};

/// Most tokens that are looked at: a page of text, the longest query there is, has some 3,000 words.
const MAX_TOKENS: usize = 4_096;

/// How far the parts of a verb may stand from each other, in words.
const PARTED: usize = 4;

/// What a token is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TokenKind {
    /// Starts with a letter, or is a number with letters in it, such as `3pm`.
    Word,
    /// Digits, with separators.
    Number,
    /// What stands between quotes or back-ticks; its text is without them.
    Quoted,
    /// A web or mail address.
    Link,
    /// One punctuation mark or symbol.
    Mark,
    /// The end of a line.
    Line,
}

/// A piece of a query.
#[derive(Debug, Clone)]
pub(super) struct Token<'q> {
    pub(super) kind: TokenKind,
    /// As written.
    pub(super) text: &'q str,
    /// Where it starts, quotes included, in bytes.
    pub(super) start: usize,
    /// Where it ends, quotes included, in bytes.
    pub(super) end: usize,
    /// Lower case, without a possessive ending.
    pub(super) lower: String,
    /// The stem of a word; otherwise the same as `lower`.
    pub(super) stem: String,
    /// The classes of the word.
    classes: u64,
    /// Whether white space stands before it.
    pub(super) spaced: bool,
}

impl Token<'_> {
    pub(super) fn is(&self, lower: &str) -> bool {
        self.lower == lower
    }

    /// Whether it is of one of the classes.
    pub(super) fn has(&self, classes: u64) -> bool {
        self.classes & classes != 0
    }

    pub(super) fn is_word(&self) -> bool {
        self.kind == TokenKind::Word
    }

    pub(super) fn is_line(&self) -> bool {
        self.kind == TokenKind::Line
    }

    /// As written, without a possessive ending.
    pub(super) fn name(&self) -> &str {
        self.text
            .strip_suffix("'s")
            .or_else(|| self.text.strip_suffix("’s"))
            .unwrap_or(self.text)
    }

    pub(super) fn is_capitalised(&self) -> bool {
        self.is_word() && self.text.chars().next().is_some_and(char::is_uppercase)
    }

    pub(super) fn number(&self) -> Option<f64> {
        // `1,5` and `1.500,00` have two readings.
        let whole = self.text.split('.').next().unwrap_or_default();
        let mut groups = whole.split(',').skip(1);
        let plain = !self.text.contains(',')
            || (self.text.rfind(',') < self.text.find('.').or(Some(usize::MAX))
                && groups.all(|g| g.len() == 3));
        (self.kind == TokenKind::Number && plain)
            .then(|| self.text.replace([',', '_'], "").parse().ok())
            .flatten()
            .filter(|n: &f64| n.is_finite())
    }
}

/// The stem of a lower-case word.
pub(super) fn stem(lower: &str) -> String {
    // A stemmer holds no more than a function pointer.
    Stemmer::create(Algorithm::English)
        .stem(base(lower))
        .into_owned()
}

/// The tokens of a query, at most [`MAX_TOKENS`].
pub(super) fn tokens(query: &str) -> Vec<Token<'_>> {
    let mut scan = Scan {
        query,
        at: 0,
        unclosed: Vec::new(),
    };
    let mut tokens = Vec::new();
    let mut spaced = true;
    while let Some(c) = scan.peek() {
        if tokens.len() == MAX_TOKENS {
            break;
        }
        if c.is_whitespace() && c != '\n' {
            scan.at += c.len_utf8();
            spaced = true;
            continue;
        }
        let start = scan.at;
        let (kind, text) = scan.next(c);
        tokens.push(token(kind, text, (start, scan.at), spaced));
        spaced = false;
    }
    for at in 0..tokens.len() {
        let Some((verb, after)) = tokens.get_mut(at..).and_then(<[_]>::split_first_mut) else {
            break;
        };
        let words = after.iter().take(PARTED).take_while(|t| t.is_word());
        let words: Vec<&str> = words.map(|t| t.lower.as_str()).collect();
        if let Some((meaning, particle)) = phrasal(&verb.lower, &words) {
            (verb.stem, verb.classes) = (stem(meaning), classes(meaning));
            meaning.clone_into(&mut verb.lower);
            let particle = after.iter_mut().find(|t| t.is(particle));
            particle.into_iter().for_each(|t| t.classes |= STOP);
        }
    }
    tokens
}

fn token(kind: TokenKind, text: &str, (start, end): (usize, usize), spaced: bool) -> Token<'_> {
    // The text between quotes is a value; it is never matched as a word.
    let mut lower = if kind == TokenKind::Quoted {
        String::new()
    } else {
        text.to_lowercase().replace('’', "'")
    };
    if kind == TokenKind::Word && lower.ends_with("'s") {
        lower.truncate(lower.len() - 2);
    }
    if kind == TokenKind::Word {
        lower = typed(lower);
    }
    let stem = if kind == TokenKind::Word {
        stem(&lower)
    } else {
        lower.clone()
    };
    Token {
        kind,
        text,
        start,
        end,
        classes: classes(&lower),
        lower,
        stem,
        spaced,
    }
}

struct Scan<'q> {
    query: &'q str,
    at: usize,
    /// Closing quotes that do not occur any more: each is searched in vain only once.
    unclosed: Vec<char>,
}

impl<'q> Scan<'q> {
    fn rest(&self) -> &'q str {
        self.query.get(self.at..).unwrap_or_default()
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn take(&mut self, bytes: usize) -> &'q str {
        let text = self.rest().get(..bytes).unwrap_or_default();
        self.at += bytes;
        text
    }

    fn next(&mut self, c: char) -> (TokenKind, &'q str) {
        if c == '\n' {
            return (TokenKind::Line, self.take(1));
        }
        if let Some(inside) = self.quoted(c) {
            return (TokenKind::Quoted, inside);
        }
        if c.is_alphanumeric() {
            return self.word();
        }
        (TokenKind::Mark, self.take(c.len_utf8()))
    }

    fn quoted(&mut self, open: char) -> Option<&'q str> {
        let close = match open {
            '"' | '`' | '\'' => open,
            '“' | '„' => '”',
            '«' => '»',
            '‘' => '’',
            _ => return None,
        };
        if self.unclosed.contains(&close) {
            return None;
        }
        let inner_start = open.len_utf8();
        let rest = self.rest().get(inner_start..)?;
        let ends_quote = |(i, _): &(usize, &str)| {
            // An apostrophe inside of a word closes nothing.
            !matches!(close, '\'' | '’')
                || !rest
                    .get(i + close.len_utf8()..)
                    .and_then(|r| r.chars().next())
                    .is_some_and(char::is_alphanumeric)
        };
        let Some((length, _)) = rest.match_indices(close).find(ends_quote) else {
            self.unclosed.push(close);
            return None;
        };
        let inside = rest.get(..length)?;
        if inside.trim().is_empty() {
            return None;
        }
        self.at += inner_start + length + close.len_utf8();
        Some(inside.trim())
    }

    fn word(&mut self) -> (TokenKind, &'q str) {
        let rest = self.rest();
        if rest.starts_with("http://") || rest.starts_with("https://") {
            let length = rest.find(char::is_whitespace).unwrap_or(rest.len());
            let link = rest.get(..length).unwrap_or_default();
            let trimmed = link.trim_end_matches(['.', ',', ';', '?', '!', ')']);
            return (TokenKind::Link, self.take(trimmed.len()));
        }
        let numeric = rest.starts_with(|c: char| c.is_ascii_digit());
        let dated = if numeric { iso_date_length(rest) } else { 0 };
        let mut before = ' ';
        let mut length = 0;
        for (i, c) in rest.char_indices() {
            let after = rest.get(i + c.len_utf8()..).unwrap_or_default();
            let joined = c.is_alphanumeric() || i < dated || joins(before, c, after, numeric);
            if !joined {
                break;
            }
            before = c;
            length = i + c.len_utf8();
        }
        // "August-September" is a range.
        let is_month = |word: &str| month_number(&word.to_lowercase()).is_some();
        let head = rest.get(..length).and_then(|word| word.split_once('-'));
        let months = head.filter(|(a, b)| is_month(a) && is_month(b));
        // "8kg" is a number and its unit.
        let word = rest.get(..length).unwrap_or_default();
        let digits = word.trim_end_matches(char::is_alphabetic).len();
        let unit = word
            .get(digits..)
            .filter(|unit| numeric && is(&unit.to_lowercase(), UNIT));
        let length = unit.map_or(length, |_| digits);
        let text = self.take(months.map_or(length, |(first, _)| first.len()));
        if text.contains('@') {
            return (TokenKind::Link, text);
        }
        if matches!(text, "Dr" | "Mr" | "Mrs" | "Ms" | "Prof" | "St" | "dr")
            && self.rest().starts_with('.')
        {
            self.at += 1;
            let start = self.at - text.len() - 1;
            return (
                TokenKind::Word,
                self.query.get(start..self.at).unwrap_or(text),
            );
        }
        let only_digits = text
            .chars()
            .all(|c| c.is_ascii_digit() || ".,_".contains(c));
        let kind = if numeric && only_digits {
            TokenKind::Number
        } else {
            TokenKind::Word
        };
        (kind, text)
    }
}

/// Whether a symbol belongs to the word around it.
fn joins(before: char, c: char, rest: &str, numeric: bool) -> bool {
    let Some(after) = rest.chars().next() else {
        return false;
    };
    let digits = before.is_ascii_digit() && after.is_ascii_digit();
    match c {
        ',' => digits,
        '\'' | '’' => before.is_alphabetic() && after.is_alphabetic(),
        '-' => after.is_alphanumeric() && (!numeric || after.is_alphabetic()),
        '.' => {
            digits || (before.is_alphanumeric() && after.is_alphabetic() && !after.is_uppercase())
        }
        ':' => digits,
        '_' => after.is_alphanumeric(),
        '@' => before.is_alphanumeric() && after.is_alphanumeric(),
        _ => false,
    }
}

/// The length of `2024-05-03` or `2024-05` at the start of a text, otherwise 0.
fn iso_date_length(text: &str) -> usize {
    let digit = |c: char| if c.is_ascii_digit() { '0' } else { c };
    let shape: String = text.chars().take(11).map(digit).collect();
    let ends = |rest: &str| !rest.starts_with(char::is_alphanumeric);
    let mut shapes = ["0000-00-00", "0000-00"].into_iter();
    let dated = shapes.find(|date| shape.strip_prefix(date).is_some_and(ends));
    dated.map_or(0, str::len)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(query: &str) -> Vec<&str> {
        tokens(query).iter().map(|t| t.text).collect()
    }

    #[test]
    fn words_numbers_dates_and_links() {
        assert_eq!(
            texts(
                "Mail bob@example.com, at 15:30 on 2024-05-03: 1,200.50*3 (see https://x.org/a?b=1)."
            ),
            [
                "Mail",
                "bob@example.com",
                ",",
                "at",
                "15:30",
                "on",
                "2024-05-03",
                ":",
                "1,200.50",
                "*",
                "3",
                "(",
                "see",
                "https://x.org/a?b=1",
                ")",
                "."
            ]
        );
        assert_eq!(
            texts("Q4-2024 2024-Q4 12-7 state-of-the-art"),
            ["Q4-2024", "2024-Q4", "12", "-", "7", "state-of-the-art"]
        );
        assert_eq!(texts("Paris. London"), ["Paris", ".", "London"]);
    }

    #[test]
    fn quotes_hold_together_and_apostrophes_do_not_open() {
        assert_eq!(
            texts("say 'it's and on' don't"),
            ["say", "it's and on", "don't"]
        );
        assert_eq!(texts("“a b” \"open"), ["a b", "\"", "open"]);
    }

    #[test]
    fn possessives_have_the_stem_of_their_noun() {
        let tokens = tokens("Apple’s companies");
        assert_eq!(
            (tokens[0].lower.as_str(), tokens[0].name()),
            ("apple", "Apple")
        );
        assert_eq!(tokens[1].stem, "compani");
    }
}
