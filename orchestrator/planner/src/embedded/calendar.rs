//! Reads the parts of spans: days, weeks, months, quarters, halves and years, absolute and relative to the user's date.
//!
//! Does not know ranges, and leaves the year open that the words leave open; see [`super::span`].

use jiff::ToSpan;
use jiff::civil::{Date, Weekday};

use super::lexicon::{count, month_number, ordinal, relative, weekday, year_number};
use super::span::{Reader, Span};
use super::text::Token;
use super::words::{BEFORE_AMOUNT, BEFORE_MONTH, FREE, holiday, is};

/// A span that may lack its year.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    /// The months of a year, the first and the last one included.
    Months(i8, i8, Option<i16>),
    Day(i8, i8, Option<i16>),
    /// "3" in "between 3 and 9 November".
    DayOf(i8),
    Fixed(Span),
}

impl Part {
    pub(super) fn year(self) -> Option<i16> {
        match self {
            Self::Months(.., year) | Self::Day(.., year) => year,
            Self::Fixed(span) => Some(span.from?.year()),
            Self::DayOf(_) => None,
        }
    }
}

impl Reader<'_> {
    pub(super) fn part(&self, at: usize) -> Option<(usize, Part)> {
        self.quarter_or_half(at)
            .or_else(|| self.written_date(at))
            .or_else(|| self.month(at))
            .or_else(|| self.day_of_month(at))
            .or_else(|| self.relative(at).map(|(n, span)| (n, Part::Fixed(span))))
            .or_else(|| self.named_day(at).map(|(n, span)| (n, Part::Fixed(span))))
            .or_else(|| {
                self.distance(at, false)
                    .map(|(n, span)| (n, Part::Fixed(span)))
            })
            .or_else(|| {
                // "over 2000", "$2000": an amount.
                let amount = is(self.before(at), BEFORE_AMOUNT);
                let year = year_number(self.lower(at)).filter(|_| !amount)?;
                Some((1, Part::Months(1, 12, Some(year))))
            })
    }

    /// A year that follows: `2024`, `of 2024`, `, 2024`, `'24`, `last year`.
    fn year_after(&self, at: usize) -> (usize, Option<i16>) {
        let mut skip = usize::from(matches!(
            self.lower(at),
            "of" | "in" | "," | "/" | "-" | "'"
        ));
        skip += usize::from(skip == 1 && self.lower(at + 1) == "the");
        skip += usize::from(self.lower(at + skip) == "year");
        let lower = self.lower(at + skip);
        if let Some(year) = year_number(lower) {
            return (skip + 1, Some(year));
        }
        if skip == 1 && self.lower(at) == "'" && lower.len() == 2 {
            return (2, lower.parse::<i16>().ok().map(|year| 2000 + year));
        }
        if skip == 3 && self.lower(at + 2) == "year" {
            return (3, Some(self.today.year()));
        }
        match relative(lower) {
            Some(offset) if self.lower(at + skip + 1) == "year" => {
                (skip + 2, Some(self.today.year() + offset))
            }
            _ => (0, None),
        }
    }

    /// `Q4 2024`, `2024-Q4`, `H2 2023`, `fourth quarter of 2024`, `quarter three 2024`, `first half of 2025`.
    fn quarter_or_half(&self, at: usize) -> Option<(usize, Part)> {
        let sign = |text: &str| -> Option<(i8, i8)> {
            let (months, most) = if text.starts_with('q') {
                (3, 4)
            } else {
                (6, 2)
            };
            let number: i8 = text.strip_prefix(['q', 'h'])?.parse().ok()?;
            (1..=most).contains(&number).then_some((months, number))
        };
        let lower = self.lower(at);
        let part = |(months, number): (i8, i8), year| {
            Part::Months(months * (number - 1) + 1, months * number, year)
        };
        if let Some((a, b)) = lower.split_once('-').or_else(|| lower.split_at_checked(4))
            && let (Some(found), Some(year)) = (
                sign(a).or_else(|| sign(b)),
                year_number(a).or_else(|| year_number(b)),
            )
        {
            return Some((1, part(found, Some(year))));
        }
        let comma = usize::from(self.lower(at + 1) == ",");
        if let (Some(year), Some(found)) = (year_number(lower), sign(self.lower(at + 1 + comma))) {
            return Some((2 + comma, part(found, Some(year))));
        }
        let (length, found) = if let Some(found) = sign(lower) {
            (1, found)
        } else {
            let unit = |word: &str| match word {
                "quarter" | "quarters" => Some((3, 4)),
                "half" => Some((6, 2)),
                _ => None,
            };
            let after = ordinal(lower).and_then(|n| Some((unit(self.lower(at + 1))?, n)));
            let numbered = || {
                let unit = unit(lower).filter(|unit| unit.0 == 3)?;
                Some((unit, i8::try_from(count(self.lower(at + 1))?).ok()?))
            };
            let ((months, most), number) = after.or_else(numbered)?;
            (2, (1..=most).contains(&number).then_some((months, number))?)
        };
        let (more, year) = self.year_after(at + length);
        Some((length + more, part(found, year)))
    }

    /// `2024-05-03`, `2024-05`, `31/12/2024`, `31.12.2024`; none for `03/05/2024`, which has two readings.
    fn written_date(&self, at: usize) -> Option<(usize, Part)> {
        let lower = self.lower(at);
        if let Some((year, month)) = lower.split_once('-')
            && let (Some(year), Ok(month @ 1..=12)) = (year_number(year), month.parse())
        {
            return Some((1, Part::Months(month, month, Some(year))));
        }
        if !lower.starts_with(|c: char| c.is_ascii_digit()) {
            return None;
        }
        let slashed = self.lower(at + 1) == "/" && self.lower(at + 3) == "/";
        let (length, text) = if slashed {
            let text = [lower, self.lower(at + 2), self.lower(at + 4)].join("/");
            (5, text)
        } else {
            (1, lower.to_owned())
        };
        let read = |format: &&str| Date::strptime(format, &text).ok();
        let formats = ["%Y-%m-%d", "%d.%m.%Y", "%d/%m/%Y", "%m/%d/%Y"];
        let mut dates: Vec<Date> = formats.iter().filter_map(read).collect();
        dates.dedup();
        let [date] = *dates.as_slice() else {
            return None;
        };
        let usual = (1900..2200).contains(&date.year());
        usual.then_some((length, Part::Fixed(Span::new(date, date, false))))
    }

    /// `3 May 2024`, `3rd of May`, `May 3, 2024`, `March 2024`, `in march`.
    fn month(&self, at: usize) -> Option<(usize, Part)> {
        let words = self.tokens.iter().skip(at).map(|t| t.lower.as_str());
        if let Some((month, day, length)) = holiday(words) {
            let (more, year) = self.year_after(at + length);
            return Some((length + more, Part::Day(month, day, year)));
        }
        let day = |at: usize| {
            let lower = self.lower(at);
            let day: Option<i8> = lower.parse().ok().or_else(|| ordinal(lower));
            day.filter(|day| (1..=31).contains(day))
        };
        let Some(month) = month_number(self.lower(at)) else {
            let of = usize::from(self.lower(at + 1) == "of");
            let (day, month) = (day(at)?, month_number(self.lower(at + 1 + of))?);
            let (more, year) = self.year_after(at + 2 + of);
            return Some((2 + of + more, Part::Day(month, day, year)));
        };
        if let Some(day) = day(at + 1) {
            let (more, year) = self.year_after(at + 2);
            return Some((2 + more, Part::Day(month, day, year)));
        }
        let (more, year) = self.year_after(at + 1);
        // These are other words too, unless a preposition or a capital inside of a sentence says so.
        let verb = matches!(
            self.lower(at),
            "may" | "march" | "mar" | "dec" | "sep" | "jan"
        );
        let dated = is(self.before(at), BEFORE_MONTH);
        let capital = at > 0 && self.token(at)?.is_capitalised();
        (!verb || more > 0 || dated || capital)
            .then_some((1 + more, Part::Months(month, month, year)))
    }

    /// "last quarter", "this week", "last 3 months", "next Monday".
    fn relative(&self, at: usize) -> Option<(usize, Span)> {
        let the = usize::from(self.lower(at) == "the");
        let word = self.lower(at + the);
        let offset = relative(word).or((word == "past").then_some(-1));
        // "on the weekend"
        let (offset, the) = match offset {
            None if word == "weekend" && the == 1 => (0, 0),
            offset => (offset?, the),
        };
        let today = self.today;
        let unit = self.lower(at + the + 1);
        if let Some(number) = count(unit).or_else(|| matches!(unit, "couple" | "few").then_some(0))
        {
            let whole = self.lower(at + the + 2);
            let days = length_of(whole, i64::from(number)).filter(|_| number > 0)?;
            let span = if offset < 0 {
                Span::new(today.checked_sub(days).ok()?, today, true)
            } else {
                Span::new(today, today.checked_add(days).ok()?.yesterday().ok()?, true)
            };
            return Some((the + 3, span));
        }
        let span = match unit {
            "year" => Span::new(today.first_of_year(), today.last_of_year(), false)
                .moved((12 * i64::from(offset)).months())?,
            "quarter" => {
                let first = Date::new(today.year(), (today.month() - 1) / 3 * 3 + 1, 1).ok()?;
                let last = first.checked_add(2.months()).ok()?;
                Span::new(first, last, true).moved((3 * i64::from(offset)).months())?
            }
            "month" => {
                Span::new(today.first_of_month(), today, true).moved(i64::from(offset).months())?
            }
            "week" | "weekend" => {
                let monday = today
                    .tomorrow()
                    .ok()?
                    .nth_weekday(-1, Weekday::Monday)
                    .ok()?;
                let first = monday.checked_add((7 * i64::from(offset)).days()).ok()?;
                let skip = if unit == "week" { 0 } else { 5 };
                Span::new(
                    first.checked_add(skip.days()).ok()?,
                    first.checked_add(6.days()).ok()?,
                    true,
                )
            }
            day => {
                let nth = if offset < 0 { -1 } else { 1 };
                let date = today.nth_weekday(nth, weekday(day)?).ok()?;
                Span::new(date, date, true)
            }
        };
        Some((the + 2, span))
    }

    /// "tomorrow", "the day after tomorrow", "on Monday".
    fn named_day(&self, at: usize) -> Option<(usize, Span)> {
        let day =
            |length: usize, date: Date, assumed| Some((length, Span::new(date, date, assumed)));
        let from_today = |length: usize, days: i64| {
            day(length, self.today.checked_add(days.days()).ok()?, false)
        };
        let the = usize::from(self.lower(at) == "the");
        // "the last day of October"
        let edge = self.lower(at + the);
        if matches!(edge, "first" | "last")
            && self.lower(at + the + 1) == "day"
            && self.lower(at + the + 2) == "of"
        {
            let (length, part) = self.part(at + the + 3)?;
            let span = self.settled(part, None, at)?;
            let date = if edge == "first" { span.from } else { span.to };
            return day(the + 3 + length, date?, span.assumed);
        }
        if edge == "day" {
            return match (self.lower(at + the + 1), self.lower(at + the + 2)) {
                ("after", "tomorrow") => from_today(the + 3, 2),
                ("before", "yesterday") => from_today(the + 3, -2),
                _ => None,
            };
        }
        match self.lower(at) {
            "today" | "tonight" => from_today(1, 0),
            "tomorrow" => from_today(1, 1),
            "yesterday" => from_today(1, -1),
            word => {
                let nth = if self.looks_back(at) { -1 } else { 1 };
                day(1, self.today.nth_weekday(nth, weekday(word)?).ok()?, true)
            }
        }
    }

    /// `2 weeks ago`; after "in" also `3 days`.
    pub(super) fn distance(&self, at: usize, ahead: bool) -> Option<(usize, Span)> {
        let lower = self.lower(at);
        let number = count(lower).or_else(|| matches!(lower, "a" | "an").then_some(1))?;
        let way = length_of(self.lower(at + 1), i64::from(number))?;
        let (length, date) = match (self.lower(at + 2), self.lower(at + 3)) {
            ("ago", _) => (3, self.today.checked_sub(way)),
            ("from", "now" | "today") => (4, self.today.checked_add(way)),
            _ if ahead => (2, self.today.checked_add(way)),
            _ => return None,
        };
        let date = date.ok()?;
        Some((length, Span::new(date, date, false)))
    }

    /// "the 16th"
    pub(super) fn day_of_month(&self, at: usize) -> Option<(usize, Part)> {
        let the =
            self.lower(at) == "the" && self.lower(at + 1).starts_with(|c: char| c.is_ascii_digit());
        let noun = self.token(at + 2).is_some_and(Token::is_word) && !is(self.lower(at + 2), FREE);
        if the && let Some((length, part)) = self.month(at + 1) {
            return Some((1 + length, part));
        }
        let day =
            ordinal(self.lower(at + 1)).filter(|day| the && !noun && (1..=31).contains(day))?;
        Some((2, Part::DayOf(day)))
    }

    pub(super) fn bare_day(&self, at: usize) -> Option<Part> {
        let day = self
            .lower(at)
            .parse()
            .ok()
            .or_else(|| ordinal(self.lower(at)))?;
        (1..=31).contains(&day).then_some(Part::DayOf(day))
    }
}

impl Span {
    /// Moved by whole months: the first day by itself, the last one to the end of its month.
    fn moved(self, by: jiff::Span) -> Option<Self> {
        let to = self
            .to?
            .first_of_month()
            .checked_add(by)
            .ok()?
            .last_of_month();
        Some(Self::new(self.from?.checked_add(by).ok()?, to, false))
    }
}

fn length_of(unit: &str, number: i64) -> Option<jiff::Span> {
    let span = jiff::Span::new();
    match unit {
        "day" | "days" => span.try_days(number),
        "week" | "weeks" => span.try_weeks(number),
        "month" | "months" => span.try_months(number),
        "quarter" | "quarters" => span.try_months(3 * number),
        "year" | "years" => span.try_years(number),
        _ => return None,
    }
    .ok()
}
