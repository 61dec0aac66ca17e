//! The parts of a query that mean the same whatever is asked: spans of time, times, numbers, arithmetic, quotes, addresses, SQL.
//!
//! Does not calculate, and does not decide which param a fact fills.

use std::ops::Range;

use jiff::civil::{Date, Time};

use super::lexicon::{number_word, scale, unit_seconds};
use super::span::{Reader, Span, Way};
use super::text::{Token, TokenKind};
use super::words::{BEGINS_FACT, FUNCTION, JOINS_NUMBERS, OPERATOR, UNIT_OF_NUMBER, is};

/// Longest arithmetic expression, in tokens: longer ones are not typed by people, and each is read once.
const MAX_EXPRESSION: usize = 64;

/// What some tokens mean.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Meaning {
    Span(Span),
    Time(Time),
    /// With the seconds of its time unit, if it has one.
    Number(f64, Option<f64>),
    /// Arithmetic as it was written, with its numbers in digits.
    Expression(String),
    Quoted(String),
    Email(String),
    Url(String),
    Sql(String),
}

/// Some tokens and what they mean.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Fact {
    pub(super) tokens: Range<usize>,
    pub(super) meaning: Meaning,
    /// The span that it is for what looks back, and for what looks ahead.
    ways: [Option<Span>; 2],
}

impl Fact {
    /// The span of time that it is for those that look so.
    pub(super) fn span_for(&self, way: Way) -> Option<&Span> {
        let [past, future] = &self.ways;
        let other = match way {
            Way::Past => past.as_ref(),
            Way::Open => None,
            Way::Future => future.as_ref(),
        };
        other.or(self.span())
    }

    /// The span of time that it is.
    pub(super) fn span(&self) -> Option<&Span> {
        if let Meaning::Span(span) = &self.meaning {
            Some(span)
        } else {
            None
        }
    }
}

/// The facts of a query, in its order; they do not overlap.
pub(super) fn facts(query: &str, tokens: &[Token<'_>], today: Date) -> Vec<Fact> {
    let reader = Facts {
        query,
        tokens,
        spans: Reader {
            tokens,
            today,
            way: Way::Open,
        },
    };
    let mut facts = Vec::new();
    let mut at = 0;
    while let Some(token) = tokens.get(at) {
        if let Some((length, meaning)) = reader.read(at, token).filter(|(length, _)| *length > 0) {
            let ways = [Way::Past, Way::Future].map(|way| reader.other(at, &meaning, way));
            facts.push(Fact {
                tokens: at..at + length,
                meaning,
                ways,
            });
            at += length;
        } else {
            at += 1;
        }
    }
    facts
}

struct Facts<'a> {
    query: &'a str,
    tokens: &'a [Token<'a>],
    spans: Reader<'a>,
}

impl Facts<'_> {
    fn lower(&self, at: usize) -> &str {
        self.tokens.get(at).map_or("", |t| t.lower.as_str())
    }

    /// What an assumed span is for those that look another way.
    fn other(&self, at: usize, meaning: &Meaning, way: Way) -> Option<Span> {
        let assumed = matches!(meaning, Meaning::Span(span) if span.assumed);
        let Reader { tokens, today, .. } = self.spans;
        let reader = Reader { tokens, today, way };
        assumed
            .then(|| reader.span(at))
            .flatten()
            .map(|(_, span)| span)
    }

    fn read(&self, at: usize, token: &Token<'_>) -> Option<(usize, Meaning)> {
        let text = || token.text.to_owned();
        match token.kind {
            TokenKind::Quoted if is_sql(token.text) => Some((1, Meaning::Sql(text()))),
            TokenKind::Quoted => Some((1, Meaning::Quoted(text()))),
            TokenKind::Link if token.text.contains("://") => Some((1, Meaning::Url(text()))),
            TokenKind::Link => Some((1, Meaning::Email(text()))),
            TokenKind::Line => None,
            TokenKind::Word | TokenKind::Mark if !may_begin(token) => None,
            TokenKind::Word | TokenKind::Number | TokenKind::Mark => {
                let begins = token.kind != TokenKind::Mark;
                let span = begins.then(|| self.spans.span(at)).flatten();
                self.sql(at)
                    .or_else(|| span.map(|(length, span)| (length, Meaning::Span(span))))
                    .or_else(|| self.time(at))
                    .or_else(|| self.expression(at))
                    .or_else(|| self.number(at))
            }
        }
    }

    /// `SELECT …` up to a semicolon, an empty line or the end.
    fn sql(&self, at: usize) -> Option<(usize, Meaning)> {
        let first = self
            .tokens
            .get(at)
            .filter(|t| t.is("select") || t.is("with"))?;
        let rest = self.query.get(first.start..)?;
        let ends = [";", "\n\n"].iter().filter_map(|end| rest.find(end));
        let length = ends.min().unwrap_or(rest.len());
        let text = rest.get(..length)?.trim();
        let end = first.start + length;
        let count = self
            .tokens
            .iter()
            .skip(at)
            .take_while(|t| t.start < end)
            .count();
        is_sql(text).then(|| (count, Meaning::Sql(text.to_owned())))
    }

    fn time(&self, at: usize) -> Option<(usize, Meaning)> {
        let lower = self.lower(at);
        match lower {
            "noon" | "midday" => return Some((1, Meaning::Time(Time::constant(12, 0, 0, 0)))),
            "midnight" => return Some((1, Meaning::Time(Time::midnight()))),
            _ => {}
        }
        // "quarter to nine", "half past ten"
        let a = usize::from(lower == "a");
        let minutes = match (self.lower(at + a), self.lower(at + a + 1)) {
            ("half", "past") => Some(30),
            ("quarter", "past") => Some(15),
            ("quarter", "to") => Some(-15),
            _ => None,
        };
        if let Some(minutes) = minutes {
            let hour = self.lower(at + a + 2);
            let hour = hour.parse().ok().or_else(|| number_word(hour))?;
            let hour = i8::try_from(hour)
                .ok()
                .filter(|hour| (1..24).contains(hour))?;
            let time = Time::new(hour, 0, 0, 0).ok()?;
            let time = time.checked_add(jiff::Span::new().minutes(minutes)).ok()?;
            return Some((a + 3, Meaning::Time(time)));
        }
        let at_time = at
            .checked_sub(1)
            .is_some_and(|before| self.lower(before) == "at");
        let (digits, mut suffix) =
            lower.split_at(lower.find(char::is_alphabetic).unwrap_or(lower.len()));
        let mut length = 1;
        if suffix.is_empty() && matches!(self.lower(at + 1), "am" | "pm" | "o'clock") {
            suffix = self.lower(at + 1);
            length = 2;
        }
        let dotted = digits.split_once('.').filter(|_| at_time);
        let (hour, minute) = match digits.split_once(':').or(dotted) {
            Some((h, m)) if m.len() == 2 => (h.parse::<i8>().ok()?, m.parse::<i8>().ok()?),
            Some(_) => return None,
            None if suffix.is_empty() => return self.hour(at),
            None => (digits.parse::<i8>().ok()?, 0),
        };
        let hour = match suffix {
            "am" if hour == 12 => 0,
            "pm" if hour < 12 => hour + 12,
            "" | "am" | "pm" | "h" | "o'clock" => hour,
            _ => return None,
        };
        Some((length, Meaning::Time(Time::new(hour, minute, 0, 0).ok()?)))
    }

    /// "at 10": an hour, where no other number can stand.
    fn hour(&self, at: usize) -> Option<(usize, Meaning)> {
        let before = at.checked_sub(1).map(|before| self.lower(before));
        let hour = self
            .lower(at)
            .parse::<i8>()
            .ok()
            .filter(|hour| *hour < 24)?;
        let ends = self.tokens.get(at + 1).is_none_or(|t| {
            matches!(
                t.lower.as_str(),
                "." | "," | "?" | "!" | "with" | "for" | "on" | "and"
            )
        });
        (before == Some("at") && ends).then_some((1, Meaning::Time(Time::new(hour, 0, 0, 0).ok()?)))
    }

    /// A number in digits or words: `1,200.5`, `5k`, `2 million`, `a hundred and twenty-five`.
    fn amount(&self, at: usize) -> Option<(usize, f64)> {
        let article = matches!(self.lower(at), "a" | "an") && scale(self.lower(at + 1)).is_some();
        let seen = article || self.lower(at) == "dozen";
        let (mut total, mut current, mut seen) = (0.0, f64::from(i8::from(seen)), seen);
        let mut end = at + usize::from(article);
        loop {
            let and = usize::from(seen && self.lower(end) == "and" && current >= 100.0);
            let token = self.tokens.get(end + and)?;
            if let Some(number) = number_word(&token.lower) {
                current += f64::from(number);
            } else if let (Some(number), false) = (token.number(), seen) {
                current = number;
            } else if let (Some(scale), true, 0) = (scale(&token.lower), seen, and) {
                if scale < 1e3 {
                    current *= scale;
                } else {
                    total += current * scale;
                    current = 0.0;
                }
            } else {
                break;
            }
            seen = true;
            end += and + 1;
            if end >= self.tokens.len() {
                break;
            }
        }
        let half = [0, 1, 2].map(|i| self.lower(end + i)) == ["and", "a", "half"];
        let (more, part) = if half { (3, 0.5) } else { (0, 0.0) };
        seen.then_some((end + more - at, total + current + part))
    }

    fn number(&self, at: usize) -> Option<(usize, Meaning)> {
        let token = self.tokens.get(at)?;
        let half = match (self.lower(at), self.lower(at + 1), self.lower(at + 2)) {
            ("half", "an" | "a", _) => Some((2, 0.5)),
            ("quarter", "of", "an" | "a") => Some((3, 0.25)),
            _ => None,
        };
        if let Some((length, part)) = half {
            let unit = unit_seconds(self.lower(at + length))?;
            return Some((length, Meaning::Number(part, Some(unit))));
        }
        if let Some((length, value)) = self.amount(at) {
            // "one" by itself is a pronoun, unless a noun follows.
            let pronoun = token.is("one")
                && length == 1
                && self.tokens.get(at + 1).is_none_or(|t| !t.is_word());
            let before = at.checked_sub(1).and_then(|before| self.tokens.get(before));
            let negative = !token.spaced && before.is_some_and(|sign| sign.is("-") && sign.spaced);
            let value = if negative { -value } else { value };
            return (!pronoun).then(|| {
                (
                    length,
                    Meaning::Number(value, unit_seconds(self.lower(at + length))),
                )
            });
        }
        // `5k`, `30min`
        let split = token.lower.find(char::is_alphabetic).filter(|&i| i > 0)?;
        let (digits, suffix) = token.lower.split_at_checked(split)?;
        let number: f64 = digits.replace(',', "").parse().ok()?;
        match (scale(suffix), unit_seconds(suffix)) {
            (Some(scale), _) => Some((1, Meaning::Number(number * scale, None))),
            (_, Some(seconds)) => Some((1, Meaning::Number(number, Some(seconds)))),
            _ => None,
        }
    }

    /// The longest run of numbers, signs and words of arithmetic that begins here, if it calculates anything.
    fn expression(&self, at: usize) -> Option<(usize, Meaning)> {
        let (mut end, mut whole, mut depth) = (at, at, 0_usize);
        // The last token is an operand; an operator or a function was read; words such as "and" join numbers.
        let (mut operand, mut calculates, mut joins) = (false, false, false);
        while end - at < MAX_EXPRESSION {
            if let (false, Some((length, _))) = (operand, self.amount(end)) {
                (operand, end) = (true, end + length);
            } else {
                let [word, next] = [0, 1].map(|i| self.lower(end + i));
                let number = self.amount(end + 1).is_some();
                let percent = matches!(self.lower(end.wrapping_sub(1)), "%" | "percent");
                let root = matches!((word, next), ("square" | "cube", "root"));
                let called =
                    matches!(next, "(" | "of" | "between") || number && !is(word, JOINS_NUMBERS);
                match (operand, word) {
                    (false, "(") => depth += 1,
                    (true, ")") if depth > 0 => depth -= 1,
                    (false, "pi" | "π") => operand = true,
                    (false, "-") => {}
                    (false, "the" | "a" | "of" | "between" | "by" | "power" | "and" | "*")
                        if calculates || joins => {}
                    (false, _) if root || called && is(word, FUNCTION) => {
                        (calculates, joins) = (true, joins || is(word, JOINS_NUMBERS));
                        end += usize::from(root);
                    }
                    (false, "add" | "subtract" | "multiply" | "divide") if number && end == at => {
                        joins = true;
                    }
                    (true, "squared" | "cubed") => calculates = true,
                    (true, "!") if is(next, OPERATOR) => {}
                    (true, _) if is(word, UNIT_OF_NUMBER) => {}
                    (true, "of" | "off") if percent || calculates && number => {
                        (operand, calculates) = (false, true);
                    }
                    (true, _) if is(word, OPERATOR) || (word, next) == ("to", "the") => {
                        (operand, calculates) = (false, true);
                    }
                    (true, "," | "and" | "to" | "from" | "by" | "with") if joins => {
                        (operand, calculates) = (false, true);
                    }
                    (true, ",") if depth > 0 => operand = false,
                    _ => break,
                }
                end += 1;
            }
            if operand && calculates && depth == 0 {
                whole = end;
            }
        }
        (whole > at).then(|| (whole - at, Meaning::Expression(self.in_digits(at..whole))))
    }

    /// The text of some tokens, with digits in place of words for numbers.
    fn in_digits(&self, tokens: Range<usize>) -> String {
        let mut text = String::new();
        let mut at = tokens.start;
        while let Some(token) = self.tokens.get(at).filter(|_| at < tokens.end) {
            if token.spaced && at > tokens.start {
                text.push(' ');
            }
            let words = self.amount(at).filter(|_| token.kind == TokenKind::Word);
            if let Some((length, value)) = words {
                text.push_str(&value.to_string());
                at += length;
            } else {
                text.push_str(token.text);
                at += 1;
            }
        }
        text
    }
}

/// Whether a word or a mark may begin a fact: cheap, since each is asked.
fn may_begin(token: &Token<'_>) -> bool {
    let sign = |byte: u8| byte.is_ascii_digit() || byte == b'-';
    token.has(BEGINS_FACT | FUNCTION) || token.text.bytes().any(sign)
}

fn is_sql(text: &str) -> bool {
    let head: String = text.chars().take(2_000).collect::<String>().to_lowercase();
    let upper = text.starts_with("SELECT ") || text.starts_with("WITH ");
    let typed = ["*", ",", "(", " where ", "distinct "];
    let typed = head.starts_with("select ") && typed.iter().any(|sign| head.contains(sign));
    (upper || typed) && (head.contains(" from ") || head.contains("\nfrom "))
}

#[cfg(test)]
mod tests {
    use super::super::text::tokens;
    use super::*;

    fn read(query: &str) -> Vec<Meaning> {
        let today = jiff::civil::date(2025, 2, 14);
        let found = facts(query, &tokens(query), today);
        found.into_iter().map(|f| f.meaning).collect()
    }

    #[test]
    fn arithmetic_is_passed_on_as_it_was_written() {
        for (query, expression) in [
            ("what is 12 * (3 + 4) please", "12 * (3 + 4)"),
            ("12*7", "12*7"),
            ("2^10?", "2^10"),
            ("15% of 80", "15% of 80"),
            ("200 minus 15%", "200 minus 15%"),
            ("so fifteen percent of eighty", "15 percent of 80"),
            ("twelve times 3 and a joke", "12 times 3"),
            ("two plus two", "2 plus 2"),
            ("a hundred and twenty-five divided by 5", "125 divided by 5"),
            (
                "the square root of 16 plus 4 squared",
                "square root of 16 plus 4 squared",
            ),
            ("the sum of 5, 10 and 15", "sum of 5, 10 and 15"),
            ("average of 3, 5 and 10", "average of 3, 5 and 10"),
            ("add 19% to 250", "add 19% to 250"),
            ("sin(30 degrees)", "sin(30 degrees)"),
            ("the sine of 30 degrees", "sine of 30 degrees"),
            ("-3 - -4", "-3 - -4"),
            ("2 to the power of 10", "2 to the power of 10"),
            ("3 + 4, and who is there", "3 + 4"),
            ("sqrt(2) * pi", "sqrt(2) * pi"),
        ] {
            assert_eq!(
                read(query),
                [Meaning::Expression(expression.into())],
                "{query}"
            );
        }
        let calculates = |query: &str| {
            read(query)
                .iter()
                .any(|m| matches!(m, Meaning::Expression(_)))
        };
        for query in [
            "42",
            "(((",
            "3 +",
            "5 apples",
            "- and",
            "3 and 4",
            "half the staff",
            "add milk",
            "Q1 2024 minus travel",
        ] {
            assert!(!calculates(query), "{query}");
        }
    }

    #[test]
    fn times_and_numbers_with_scales_and_units() {
        let number = |value, unit| vec![Meaning::Number(value, unit)];
        assert_eq!(read("1,200.5"), number(1200.5, None));
        assert_eq!(read("5k"), number(5_000.0, None));
        assert_eq!(read("2 million"), number(2e6, None));
        assert_eq!(read("for 2 hours"), number(2.0, Some(3_600.0)));
        assert_eq!(read("quarter of an hour"), number(0.25, Some(3_600.0)));
        assert_eq!(read("30min"), number(30.0, Some(60.0)));
        assert_eq!(read("three"), number(3.0, None));
        assert_eq!(read("one star"), number(1.0, None));
        assert_eq!(read("that one"), vec![]);
        assert_eq!(read("set to -5"), number(-5.0, None));
        for text in ["3pm", "3 pm", "15:00", "3:00pm"] {
            assert_eq!(
                read(text),
                vec![Meaning::Time(Time::constant(15, 0, 0, 0))],
                "{text}"
            );
        }
    }

    #[test]
    fn sql_is_one_fact_with_its_commas() {
        assert_eq!(
            read("run SELECT a, b FROM t WHERE q = 'Q4 2024' and x > 3; then stop"),
            vec![Meaning::Sql(
                "SELECT a, b FROM t WHERE q = 'Q4 2024' and x > 3".into()
            )]
        );
        assert_eq!(read("select a city from these"), vec![]);
    }
}
