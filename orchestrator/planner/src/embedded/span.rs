//! Reads spans of time: days, weeks, months, quarters, halves and years, absolute and relative, and ranges of them.
//!
//! Does not know the clock: the user's date is given. Does not know params; see [`super::fill`].

use jiff::ToSpan;
use jiff::civil::{Date, Weekday};

use super::lexicon::{count, month_number, ordinal, relative, weekday, year_number};
use super::text::{Token, TokenKind};
use super::words::{FREE, is};

/// A span of days, both ends included; an end that is not given is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) from: Option<Date>,
    pub(super) to: Option<Date>,
    /// The words leave open which one is meant, such as "in March".
    pub(super) assumed: bool,
}

/// What calendars have a name for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Grain {
    Day,
    Month,
    Quarter,
    Year,
    Other,
}

impl Span {
    fn new(from: Date, to: Date, assumed: bool) -> Self {
        Self {
            from: Some(from),
            to: Some(to),
            assumed,
        }
    }

    /// What the span is exactly.
    pub(super) fn grain(&self) -> Grain {
        let (Some(from), Some(to)) = (self.from, self.to) else {
            return Grain::Other;
        };
        let whole = from.day() == 1 && to == to.last_of_month() && from.year() == to.year();
        match (to.month() - from.month(), from.month()) {
            _ if from == to => Grain::Day,
            (0, _) if whole => Grain::Month,
            (2, 1 | 4 | 7 | 10) if whole => Grain::Quarter,
            (11, 1) if whole => Grain::Year,
            _ => Grain::Other,
        }
    }

    /// As people are told of it.
    pub(super) fn told(&self) -> String {
        let (Some(from), Some(to)) = (self.from, self.to) else {
            let end = |word: &str, date: Option<Date>| date.map(|date| format!("{word} {date}"));
            return end("from", self.from)
                .or_else(|| end("until", self.to))
                .unwrap_or_default();
        };
        match self.grain() {
            Grain::Day => from.strftime("%A, %Y-%m-%d").to_string(),
            Grain::Month => from.strftime("%B %Y").to_string(),
            Grain::Quarter => format!("Q{} {}", (from.month() + 2) / 3, from.year()),
            Grain::Year => from.year().to_string(),
            Grain::Other => format!("{from} to {to}"),
        }
    }
}

/// A span that may lack its year.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    /// The months of a year, the first and the last one included.
    Months(i8, i8, Option<i16>),
    Day(i8, i8, Option<i16>),
    /// "3" in "between 3 and 9 November".
    DayOf(i8),
    Fixed(Span),
}

impl Part {
    fn year(self) -> Option<i16> {
        match self {
            Self::Months(.., year) | Self::Day(.., year) => year,
            Self::Fixed(span) => Some(span.from?.year()),
            Self::DayOf(_) => None,
        }
    }
}

/// Reads spans at places of a query.
pub(super) struct Reader<'a> {
    pub(super) tokens: &'a [Token<'a>],
    pub(super) today: Date,
}

impl Reader<'_> {
    fn token(&self, at: usize) -> Option<&Token<'_>> {
        self.tokens.get(at)
    }

    fn lower(&self, at: usize) -> &str {
        self.token(at).map_or("", |t| t.lower.as_str())
    }

    fn before(&self, at: usize) -> &str {
        at.checked_sub(1).map_or("", |at| self.lower(at))
    }

    /// The span that begins at a token, and how many tokens it has.
    pub(super) fn span(&self, at: usize) -> Option<(usize, Span)> {
        if let Some(found) = self.year_so_far(at).or_else(|| self.open(at)) {
            return Some(found);
        }
        let word = self.lower(at);
        if word == "in" {
            return self.distance(at + 1, true).map(|(n, span)| (1 + n, span));
        }
        let lead = usize::from(matches!(word, "from" | "between" | "year"));
        if let Some((length, span)) = self.range(at + lead, word == "between") {
            return Some((lead + length, span));
        }
        // "from" and "between" alone belong to no span.
        let lead = usize::from(word == "year");
        let (length, part) = self.part(at + lead)?;
        Some((lead + length, self.settled(part, None, at)?))
    }

    /// "year to date", "since the start of the year"
    fn year_so_far(&self, at: usize) -> Option<(usize, Span)> {
        let words = |phrase: &str| {
            let mut words = phrase.split(' ').enumerate();
            words
                .all(|(i, word)| self.lower(at + i) == word)
                .then(|| phrase.split(' ').count())
        };
        let phrases = [
            "year to date",
            "ytd",
            "so far this year",
            "this year so far",
            "since the start of the year",
            "since the beginning of the year",
            "since the start of this year",
        ];
        let length = phrases.into_iter().find_map(words)?;
        Some((
            length,
            Span::new(self.today.first_of_year(), self.today, true),
        ))
    }

    /// "since January", "until the end of May", "before 3 March".
    fn open(&self, at: usize) -> Option<(usize, Span)> {
        let word = self.lower(at);
        let opens = matches!(word, "since" | "after" | "starting");
        if !opens && !matches!(word, "until" | "till" | "before") {
            return None;
        }
        let skip = self.edge(at + 1);
        // "since the end of March" would need the other end.
        let edge = self.lower(at + 1 + usize::from(self.lower(at + 1) == "the"));
        if matches!(
            (opens, edge),
            (true, "end") | (false, "beginning" | "start")
        ) {
            return None;
        }
        let (length, part) = self.part(at + 1 + skip)?;
        let span = self.settled(part, None, at)?;
        let span = match word {
            "since" | "starting" => Span { to: None, ..span },
            "after" => Span {
                from: span.to?.tomorrow().ok(),
                to: None,
                ..span
            },
            "before" => Span {
                to: span.from?.yesterday().ok(),
                from: None,
                ..span
            },
            _ => Span { from: None, ..span },
        };
        Some((1 + skip + length, span))
    }

    /// How many words "the end of" or "the beginning of" has here.
    fn edge(&self, at: usize) -> usize {
        let the = usize::from(self.lower(at) == "the");
        let edge = matches!(self.lower(at + the), "end" | "beginning" | "start");
        let of = self.lower(at + the + 1) == "of";
        the + usize::from(edge) + usize::from(edge && of)
    }

    /// "Q1 to Q3 2024", "from October to December", "between 3 and 9 November".
    fn range(&self, at: usize, between: bool) -> Option<(usize, Span)> {
        let skip = self.edge(at);
        let first = at + skip;
        let (length, left) = self
            .part(first)
            .or_else(|| Some((1, self.bare_day(first)?)))?;
        let joint = first + length;
        let joins = matches!(
            self.lower(joint),
            "to" | "until" | "till" | "through" | "-" | "–" | "thru"
        ) || (between && self.lower(joint) == "and");
        if !joins {
            return None;
        }
        let skip = self.edge(joint + 1);
        let second = joint + 1 + skip;
        let (length, right) = self.part(second).or_else(|| {
            let (length, day) = self.day_of_month(second - 1)?;
            Some((length - 1, day))
        })?;
        let left = match (left, right) {
            (Part::DayOf(day), Part::Day(month, _, year)) => Part::Day(month, day, year),
            (Part::DayOf(_), Part::Months(..) | Part::Fixed(_)) => return None,
            (left, _) => left,
        };
        let to = self.settled(right, left.year(), second)?;
        let from = self.settled(left, right.year().or(Some(to.from?.year())), at)?;
        // "from November to February": the first one is of the year before.
        let months = matches!((left, right), (Part::Months(..), Part::Months(..)));
        let turned = months && from.from? > to.to? && left.year().is_none();
        let from = if turned {
            self.settled(left, Some(to.to?.year() - 1), at)?
        } else {
            from
        };
        let open = left.year().or(right.year()).is_none();
        let span = Span::new(from.from?, to.to?, open || from.assumed);
        (span.from <= span.to).then_some((second + length - at, span))
    }

    /// "the 16th"
    fn day_of_month(&self, at: usize) -> Option<(usize, Part)> {
        let the =
            self.lower(at) == "the" && self.lower(at + 1).starts_with(|c: char| c.is_ascii_digit());
        let noun = self.token(at + 2).is_some_and(Token::is_word) && !is(self.lower(at + 2), FREE);
        let day =
            ordinal(self.lower(at + 1)).filter(|day| the && !noun && (1..=31).contains(day))?;
        Some((2, Part::DayOf(day)))
    }

    fn bare_day(&self, at: usize) -> Option<Part> {
        let day = self
            .lower(at)
            .parse()
            .ok()
            .or_else(|| ordinal(self.lower(at)))?;
        (1..=31).contains(&day).then_some(Part::DayOf(day))
    }

    /// A part with its year: its own, else the given one, else the one that is most likely.
    fn settled(&self, part: Part, year: Option<i16>, at: usize) -> Option<Span> {
        let assumed = part.year().or(year).is_none();
        match part {
            Part::Fixed(span) => Some(span),
            Part::DayOf(day) => {
                // The next such day, or the latest one where the words look back.
                let looks_back = self.looks_back(at);
                let months = (0..3).map(|i| if looks_back { -i } else { i });
                let of = |months: i64| {
                    let month = self
                        .today
                        .first_of_month()
                        .checked_add(months.months())
                        .ok()?;
                    let date = Date::new(month.year(), month.month(), day).ok()?;
                    (if looks_back {
                        date <= self.today
                    } else {
                        date >= self.today
                    })
                    .then_some(date)
                };
                let date = months.filter_map(of).next()?;
                Some(Span::new(date, date, true))
            }
            Part::Months(first, last, own) => {
                // Without a year the latest that has begun: questions look back more often than not.
                let latest = self.today.year() - i16::from(first > self.today.month());
                let year = own.or(year).unwrap_or(latest);
                let to = Date::new(year, last, 1).ok()?.last_of_month();
                Some(Span::new(Date::new(year, first, 1).ok()?, to, assumed))
            }
            Part::Day(month, day, own) => {
                let of = |year: i16| Date::new(year, month, day).ok();
                let this = self.today.year();
                let looks_back = self.looks_back(at);
                let nearest = (this - 1..=this + 1)
                    .filter_map(of)
                    .filter(|date| !looks_back || *date <= self.today)
                    .min_by_key(|date| date.duration_since(self.today).as_secs().abs());
                let date = own.or(year).map_or(nearest, of)?;
                Some(Span::new(date, date, assumed))
            }
        }
    }

    /// "since", "did", "was": what happened before today.
    fn looks_back(&self, at: usize) -> bool {
        let past = |at: usize| matches!(self.lower(at), "did" | "was" | "were" | "had" | "since");
        (at.saturating_sub(8)..=at).any(past)
    }

    fn part(&self, at: usize) -> Option<(usize, Part)> {
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
                let amount = matches!(
                    self.before(at),
                    "than"
                        | "over"
                        | "above"
                        | "under"
                        | "below"
                        | "least"
                        | "most"
                        | "$"
                        | "€"
                        | "£"
                );
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
        let year = year.or_else(|| self.year_of_next(at + length, 4));
        Some((length + more, part(found, year)))
    }

    /// "Q3 and Q4 2024": the year of the quarter that follows, at most `most` further.
    fn year_of_next(&self, at: usize, most: usize) -> Option<i16> {
        if most == 0
            || !matches!(
                self.lower(at),
                "and" | "," | "vs" | "versus" | "or" | "with"
            )
        {
            return None;
        }
        let is_quarter = |at: &usize| matches!(self.lower(*at), "q1" | "q2" | "q3" | "q4");
        let next = (at + 1..at + 3).find(is_quarter)?;
        self.year_after(next + 1)
            .1
            .or_else(|| self.year_of_next(next + 1, most - 1))
    }

    /// `2024-05-03`, `2024-05`, `31/12/2024`, `31.12.2024`.
    fn written_date(&self, at: usize) -> Option<(usize, Part)> {
        let lower = self.lower(at);
        if let Ok(date) = lower.parse::<Date>()
            && lower.len() == 10
        {
            return Some((1, Part::Fixed(Span::new(date, date, false))));
        }
        if let Some((year, month)) = lower.split_once('-')
            && let (Some(year), Ok(month @ 1..=12)) = (year_number(year), month.parse())
        {
            return Some((1, Part::Months(month, month, Some(year))));
        }
        let slashed = self.lower(at + 1) == "/" && self.lower(at + 3) == "/";
        let dotted: Vec<i16> = lower.split('.').filter_map(|n| n.parse().ok()).collect();
        let parted = [lower, self.lower(at + 2), self.lower(at + 4)];
        let parted: Vec<i16> = parted.iter().filter_map(|n| n.parse().ok()).collect();
        let (length, numbers) = if slashed { (5, parted) } else { (1, dotted) };
        let [a, b, year] = *numbers.as_slice() else {
            return None;
        };
        // "03/05/2024" has two readings: nobody knows which one is meant.
        let (day, month) = if a > 12 || a == b || !slashed {
            (a, b)
        } else {
            (b, a)
        };
        let plain = (1900..2200).contains(&year) && (day > 12 || a == b || !slashed);
        let date = Date::new(year, i8::try_from(month).ok()?, i8::try_from(day).ok()?).ok()?;
        plain.then_some((length, Part::Fixed(Span::new(date, date, false))))
    }

    /// `3 May 2024`, `3rd of May`, `May 3, 2024`, `March 2024`, `in march`.
    fn month(&self, at: usize) -> Option<(usize, Part)> {
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
            "may" | "march" | "mar" | "sun" | "dec" | "sep" | "jan"
        );
        let dated = matches!(
            self.before(at),
            "in" | "since"
                | "of"
                | "during"
                | "until"
                | "from"
                | "for"
                | "to"
                | "between"
                | "and"
                | "till"
                | "-"
        );
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
        if self.lower(at + the) == "day" {
            return match (self.lower(at + the + 1), self.lower(at + the + 2)) {
                ("after", "tomorrow") => from_today(the + 3, 2),
                ("before", "yesterday") => from_today(the + 3, -2),
                _ => None,
            };
        }
        match self.lower(at) {
            "today" | "tonight" => from_today(1, 0),
            "tomorrow" | "tmrw" | "tmr" | "tomorow" | "tommorow" | "tommorrow" => from_today(1, 1),
            "yesterday" => from_today(1, -1),
            word => {
                let nth = if self.looks_back(at) { -1 } else { 1 };
                day(1, self.today.nth_weekday(nth, weekday(word)?).ok()?, true)
            }
        }
    }

    /// `2 weeks ago`; after "in" also `3 days`.
    fn distance(&self, at: usize, ahead: bool) -> Option<(usize, Span)> {
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

/// Whether a token may begin a span: cheap, since each token is asked.
pub(super) fn may_begin(token: &Token<'_>) -> bool {
    matches!(token.kind, TokenKind::Word | TokenKind::Number)
}

#[cfg(test)]
mod tests {
    use super::super::text::tokens;
    use super::*;

    fn read(query: &str) -> Option<(String, String)> {
        let tokens = tokens(query);
        let reader = Reader {
            tokens: &tokens,
            today: jiff::civil::date(2025, 11, 20),
        };
        let found = (0..tokens.len()).find_map(|at| reader.span(at))?.1;
        let shown = |date: Option<Date>| date.map(|d| d.to_string()).unwrap_or_default();
        Some((shown(found.from), shown(found.to)))
    }

    #[test]
    fn spans_have_two_ends_however_they_are_said() {
        for (said, from, to) in [
            ("Q4 2024", "2024-10-01", "2024-12-31"),
            ("q4 of 2024", "2024-10-01", "2024-12-31"),
            ("2024-Q4", "2024-10-01", "2024-12-31"),
            ("2024Q4", "2024-10-01", "2024-12-31"),
            ("2024 Q4", "2024-10-01", "2024-12-31"),
            ("fourth quarter of 2024", "2024-10-01", "2024-12-31"),
            ("4th quarter '24", "2024-10-01", "2024-12-31"),
            ("the fourth quarter last year", "2024-10-01", "2024-12-31"),
            ("quarter three 2024", "2024-07-01", "2024-09-30"),
            ("last quarter", "2025-07-01", "2025-09-30"),
            ("this quarter", "2025-10-01", "2025-12-31"),
            ("H2 2023", "2023-07-01", "2023-12-31"),
            ("the first half of 2025", "2025-01-01", "2025-06-30"),
            ("Q1 to Q3 2024", "2024-01-01", "2024-09-30"),
            ("from October to December 2024", "2024-10-01", "2024-12-31"),
            ("from November to February 2025", "2024-11-01", "2025-02-28"),
            ("between 1 March and 15 April", "2026-03-01", "2026-04-15"),
            ("between 3 and 9 November", "2025-11-03", "2025-11-09"),
            ("August-September 2025", "2025-08-01", "2025-09-30"),
            ("2022-2023", "2022-01-01", "2023-12-31"),
            (
                "15 January 2024 until the end of May 2024",
                "2024-01-15",
                "2024-05-31",
            ),
            ("last 3 months", "2025-08-20", "2025-11-20"),
            ("the past two weeks", "2025-11-06", "2025-11-20"),
            ("next 5 days", "2025-11-20", "2025-11-24"),
            ("last week", "2025-11-10", "2025-11-16"),
            ("next week", "2025-11-24", "2025-11-30"),
            ("this weekend", "2025-11-22", "2025-11-23"),
            ("last month", "2025-10-01", "2025-10-31"),
            ("last year", "2024-01-01", "2024-12-31"),
            ("in march", "2025-03-01", "2025-03-31"),
            ("in december", "2024-12-01", "2024-12-31"),
            ("since January", "2025-01-01", ""),
            ("since the first of October", "2025-10-01", ""),
            ("since Monday", "2025-11-17", ""),
            ("until the end of May", "", "2025-05-31"),
            ("before 3 March 2025", "", "2025-03-02"),
            ("the day after tomorrow", "2025-11-22", "2025-11-22"),
            ("December 24", "2025-12-24", "2025-12-24"),
            ("2 december", "2025-12-02", "2025-12-02"),
            ("3rd of January", "2026-01-03", "2026-01-03"),
            ("May 3, 2024", "2024-05-03", "2024-05-03"),
            ("31/12/2024", "2024-12-31", "2024-12-31"),
            ("24.12.2025", "2025-12-24", "2025-12-24"),
            ("in two days", "2025-11-22", "2025-11-22"),
            ("2 weeks ago", "2025-11-06", "2025-11-06"),
            ("on Friday", "2025-11-21", "2025-11-21"),
            ("last Sunday", "2025-11-16", "2025-11-16"),
            ("next Monday", "2025-11-24", "2025-11-24"),
        ] {
            let read = read(said);
            assert_eq!(read, Some((from.into(), to.into())), "{said}");
        }
        for said in ["you may go", "march on", "12 eggs", "half a pizza"] {
            assert_eq!(read(said), None, "{said}");
        }
    }
}
