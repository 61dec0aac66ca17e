//! Reads spans of time: what has a name in the calendar, ranges of it, and what has one end.
//!
//! Does not know the clock: the user's date is given. Does not know params; see [`super::fill`], nor the calendar's words; see
//! [`super::calendar`].

use jiff::ToSpan;
use jiff::civil::Date;

use super::calendar::Part;
use super::text::Token;
use super::words::{COMPARES, is, phrase};

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
    pub(super) fn new(from: Date, to: Date, assumed: bool) -> Self {
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

/// Which of several days or months is meant where the words leave the year open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    Past,
    /// The nearest one, unless the words tell.
    Open,
    Future,
}

/// Reads spans at places of a query.
pub(super) struct Reader<'a> {
    pub(super) tokens: &'a [Token<'a>],
    pub(super) today: Date,
    pub(super) way: Way,
}

impl Reader<'_> {
    pub(super) fn token(&self, at: usize) -> Option<&Token<'_>> {
        self.tokens.get(at)
    }

    pub(super) fn lower(&self, at: usize) -> &str {
        self.token(at).map_or("", |t| t.lower.as_str())
    }

    pub(super) fn before(&self, at: usize) -> &str {
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
        let words = self.tokens.iter().skip(at).map(|t| t.lower.as_str());
        let (_, length) = phrase(words, &["year_so_far"])?;
        let first = self.today.first_of_year();
        let span = Span::new(first, self.today, true);
        let to = span.to.filter(|_| self.lower(at) != "since");
        Some((length, Span { to, ..span }))
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
        // "how did it change from Q3 to Q4": not both together.
        let compares = |at: usize| is(self.lower(at), COMPARES);
        if (at.saturating_sub(6)..at).any(compares) {
            return None;
        }
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
        let months = matches!(
            (left, right),
            (Part::Months(..), Part::Months(..)) | (Part::Day(..), Part::Day(..))
        );
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

    /// A part with its year: its own, else the given one, else the one that is most likely.
    pub(super) fn settled(&self, part: Part, year: Option<i16>, at: usize) -> Option<Span> {
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
                // "in March": the month that has begun or will begin, or the nearest one.
                let (this, month) = (self.today.year(), self.today.month());
                let likely = match self.way {
                    Way::Future => this + i16::from(last < month),
                    Way::Open if !self.looks_back(at) && first > month + 6 => this - 1,
                    Way::Open if !self.looks_back(at) && last < month - 6 => this + 1,
                    Way::Open if !self.looks_back(at) => this,
                    Way::Past | Way::Open => this - i16::from(first > month),
                };
                let year = own.or(year).unwrap_or(likely);
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
                    .filter(|date| self.way != Way::Future || *date >= self.today)
                    .min_by_key(|date| date.duration_since(self.today).as_secs().abs());
                let date = own.or(year).map_or(nearest, of)?;
                Some(Span::new(date, date, assumed))
            }
        }
    }

    /// "since", "did", "was": what happened before today.
    pub(super) fn looks_back(&self, at: usize) -> bool {
        let past = |at: usize| matches!(self.lower(at), "did" | "was" | "were" | "had" | "since");
        self.way == Way::Past || (at.saturating_sub(8)..=at).any(past)
    }
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
            way: Way::Open,
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
            ("in march", "2026-03-01", "2026-03-31"),
            ("in december", "2025-12-01", "2025-12-31"),
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
