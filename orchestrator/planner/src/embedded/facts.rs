//! What parts of a query mean whatever is asked: dates, quarters, times, numbers, expressions, quoted texts, links, SQL.
//!
//! Does not decide which param a fact fills.

use std::ops::Range;

use jiff::civil::{Date, Time};

use super::lexicon::{count_word, scale, unit_seconds};
use super::text::{Token, TokenKind};

/// Longest arithmetic expression, in tokens: longer ones are not typed by people, and each is read once.
const MAX_EXPRESSION: usize = 64;

/// What some tokens mean.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Meaning {
    Quarter {
        year: i16,
        quarter: i8,
    },
    Date(Date),
    Month {
        year: i16,
        month: i8,
    },
    Year(i16),
    Time(Time),
    /// With the seconds of its time unit, if it has one.
    Number {
        value: f64,
        unit_seconds: Option<f64>,
    },
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
}

/// The facts of a query, in its order; they do not overlap.
pub(super) fn facts(query: &str, tokens: &[Token<'_>], today: Date) -> Vec<Fact> {
    let reader = Reader {
        query,
        tokens,
        today,
    };
    let mut facts = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        match reader.read(at) {
            Some((length, meaning)) if length > 0 => {
                if let Some(meaning) = meaning {
                    facts.push(Fact {
                        tokens: at..at + length,
                        meaning,
                    });
                }
                at += length;
            }
            _ => at += 1,
        }
    }
    facts
}

pub(super) struct Reader<'a> {
    query: &'a str,
    tokens: &'a [Token<'a>],
    pub(super) today: Date,
}

/// How many tokens were read and what they mean; nothing when they are to be passed over.
pub(super) type Read = Option<(usize, Option<Meaning>)>;

pub(super) fn found(length: usize, meaning: Meaning) -> Read {
    Some((length, Some(meaning)))
}

impl Reader<'_> {
    pub(super) fn token(&self, at: usize) -> Option<&Token<'_>> {
        self.tokens.get(at)
    }

    pub(super) fn lower(&self, at: usize) -> &str {
        self.token(at).map_or("", |t| t.lower.as_str())
    }

    fn read(&self, at: usize) -> Read {
        let token = self.token(at)?;
        match token.kind {
            TokenKind::Quoted => {
                let text = token.text.to_owned();
                let sql = is_sql(&text);
                found(
                    1,
                    if sql {
                        Meaning::Sql(text)
                    } else {
                        Meaning::Quoted(text)
                    },
                )
            }
            TokenKind::Link if token.text.contains("://") => {
                found(1, Meaning::Url(token.text.to_owned()))
            }
            TokenKind::Link => found(1, Meaning::Email(token.text.to_owned())),
            TokenKind::Line => None,
            TokenKind::Word | TokenKind::Number | TokenKind::Mark => self
                .sql(at)
                .or_else(|| self.quarter(at))
                .or_else(|| self.relative_period(at))
                .or_else(|| self.date(at))
                .or_else(|| self.time(at))
                .or_else(|| self.slashed_date(at))
                .or_else(|| self.expression(at))
                .or_else(|| self.month_or_year(at))
                .or_else(|| self.number(at)),
        }
    }

    /// `SELECT …` up to a semicolon, an empty line or the end.
    fn sql(&self, at: usize) -> Read {
        let first = self.token(at)?;
        if !first.is("select") && !first.is("with") {
            return None;
        }
        let rest = self.query.get(first.start..)?;
        let length = [";", "\n\n"]
            .iter()
            .filter_map(|end| rest.find(end))
            .min()
            .unwrap_or(rest.len());
        let text = rest.get(..length)?.trim();
        if !is_sql(text) {
            return None;
        }
        let end = first.start + length;
        let count = self
            .tokens
            .iter()
            .skip(at)
            .take_while(|t| t.start < end)
            .count();
        found(count, Meaning::Sql(text.to_owned()))
    }

    fn number(&self, at: usize) -> Read {
        let token = self.token(at)?;
        let (mut value, mut length) = if let Some(value) = token.number() {
            let negative =
                at > 0 && !token.spaced && self.lower(at - 1) == "-" && self.token(at - 1)?.spaced;
            (if negative { -value } else { value }, 1)
        } else if let Some(count) = count_word(&token.lower) {
            (f64::from(count), 1)
        } else {
            let split = token
                .lower
                .find(|c: char| c.is_alphabetic())
                .filter(|&i| i > 0)?;
            let (digits, suffix) = token.lower.split_at_checked(split)?;
            let number: f64 = digits.replace(',', "").parse().ok()?;
            return match (scale(suffix), unit_seconds(suffix)) {
                (Some(scale), _) if suffix != "m" => number_found(1, number * scale, None),
                (_, Some(seconds)) => number_found(1, number, Some(seconds)),
                _ => None,
            };
        };
        if let Some(scale) = scale(self.lower(at + 1)) {
            value *= scale;
            length += 1;
        }
        number_found(length, value, unit_seconds(self.lower(at + length)))
    }

    fn expression(&self, at: usize) -> Read {
        super::expression::read(
            self.tokens
                .get(at..)?
                .get(..MAX_EXPRESSION)
                .or_else(|| self.tokens.get(at..))?,
        )
        .map(|(length, text)| (length, Some(Meaning::Expression(text))))
    }
}

fn number_found(length: usize, value: f64, unit_seconds: Option<f64>) -> Read {
    found(
        length,
        Meaning::Number {
            value,
            unit_seconds,
        },
    )
}

fn is_sql(text: &str) -> bool {
    let head: String = text.chars().take(2_000).collect::<String>().to_lowercase();
    let upper = text.starts_with("SELECT ") || text.starts_with("WITH ");
    let typed = head.starts_with("select ")
        && [
            "select *",
            "select count(",
            "select sum(",
            "select distinct ",
        ]
        .iter()
        .any(|s| head.starts_with(s));
    (upper || typed) && (head.contains(" from ") || head.contains("\nfrom "))
}

#[cfg(test)]
mod tests {
    use super::super::text::tokens;
    use super::*;

    fn read(query: &str) -> Vec<Meaning> {
        let today = jiff::civil::date(2025, 2, 14);
        facts(query, &tokens(query), today)
            .into_iter()
            .map(|f| f.meaning)
            .collect()
    }

    fn quarter(year: i16, quarter: i8) -> Vec<Meaning> {
        vec![Meaning::Quarter { year, quarter }]
    }

    #[test]
    fn quarters_in_every_spelling() {
        for text in [
            "Q4 2024",
            "q4 of 2024",
            "Q4/2024",
            "Q4-2024",
            "2024-Q4",
            "2024Q4",
            "2024 Q4",
            "fourth quarter of 2024",
            "4th quarter 2024",
            "the last quarter",
            "the previous quarter",
            "Q4 '24",
            "Q4",
            "the fourth quarter",
            "Q4 last year",
        ] {
            assert_eq!(read(text), quarter(2024, 4), "{text}");
        }
        let both = [quarter(2023, 3), quarter(2023, 4)].concat();
        for text in [
            "Q3 and Q4 2023",
            "from Q3 to Q4 2023",
            "Q3, Q4 2023",
            "Q3 2023 vs Q4 2023",
        ] {
            assert_eq!(read(text), both, "{text}");
        }
        assert_eq!(read("this quarter"), quarter(2025, 1));
        assert_eq!(read("next quarter"), quarter(2025, 2));
        assert_eq!(read("Q1"), quarter(2025, 1));
    }

    #[test]
    fn dates_months_years_and_times() {
        let date = |y, m, d| vec![Meaning::Date(jiff::civil::date(y, m, d))];
        for text in [
            "3 May 2024",
            "May 3, 2024",
            "3rd of May 2024",
            "2024-05-03",
            "May 3rd 2024",
        ] {
            assert_eq!(read(text), date(2024, 5, 3), "{text}");
        }
        assert_eq!(read("tomorrow"), date(2025, 2, 15));
        assert_eq!(read("yesterday"), date(2025, 2, 13));
        assert_eq!(read("in 3 days"), date(2025, 2, 17));
        assert_eq!(read("2 weeks ago"), date(2025, 1, 31));
        assert_eq!(read("on Monday"), date(2025, 2, 17));
        assert_eq!(read("31/12/2024"), date(2024, 12, 31));
        assert_eq!(read("03/05/2024"), vec![]);
        assert_eq!(
            read("March 2024"),
            vec![Meaning::Month {
                year: 2024,
                month: 3
            }]
        );
        assert_eq!(read("this year"), vec![Meaning::Year(2025)]);
        assert_eq!(read("you may go"), vec![]);
        for text in ["3pm", "3 pm", "15:00", "3:00pm"] {
            assert_eq!(
                read(text),
                vec![Meaning::Time(Time::constant(15, 0, 0, 0))],
                "{text}"
            );
        }
    }

    #[test]
    fn numbers_with_scales_and_units() {
        let number = |value, unit_seconds| {
            vec![Meaning::Number {
                value,
                unit_seconds,
            }]
        };
        assert_eq!(read("1,200.5"), number(1200.5, None));
        assert_eq!(read("5k"), number(5_000.0, None));
        assert_eq!(read("2 million"), number(2e6, None));
        assert_eq!(read("for 2 hours"), number(2.0, Some(3_600.0)));
        assert_eq!(read("30min"), number(30.0, Some(60.0)));
        assert_eq!(read("three"), number(3.0, None));
        assert_eq!(read("at -5"), number(-5.0, None));
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
