//! Reads dates, times and periods: quarters, months, years, absolute and relative ones.
//!
//! Does not know the clock: the user's date is given.

use jiff::ToSpan;
use jiff::civil::{Date, Time};

use super::facts::{Meaning, Read, Reader, found};
use super::lexicon::{
    day_number, month_number, ordinal, ordinal_or_count, quarter_number, quarter_of, relative,
    weekday, year_number,
};

impl Reader<'_> {
    pub(super) fn quarter(&self, at: usize) -> Read {
        let lower = self.lower(at);
        // Q4, Q4-2024, Q42024
        if let Some(rest) = lower.strip_prefix('q')
            && let Some(quarter) = rest.get(..1).and_then(quarter_number)
        {
            let year = rest.get(1..)?.trim_start_matches('-');
            if let Some(year) = year_number(year) {
                return found(1, Meaning::Quarter { year, quarter });
            }
            if !year.is_empty() {
                return None;
            }
            let (length, year) = self.year_after(at + 1);
            let year = year
                .or_else(|| self.year_of_next(at + 1, 4))
                .unwrap_or_else(|| self.latest_year_of(quarter));
            return found(1 + length, Meaning::Quarter { year, quarter });
        }
        // 2024-Q4, 2024Q4, 2024 Q4
        if let Some((year, rest)) = lower.split_at_checked(4)
            && let Some(year) = year_number(year)
        {
            let (length, quarter) = if rest.is_empty() {
                (2, self.lower(at + 1).strip_prefix('q'))
            } else {
                (1, rest.trim_start_matches('-').strip_prefix('q'))
            };
            if let Some(quarter) = quarter.and_then(quarter_number) {
                return found(length, Meaning::Quarter { year, quarter });
            }
        }
        // fourth quarter of 2024
        let quarter = ordinal(lower).filter(|n| (1..=4).contains(n))?;
        if !self.lower(at + 1).starts_with("quarter") {
            return None;
        }
        let (length, year) = self.year_after(at + 2);
        let year = year.unwrap_or_else(|| self.latest_year_of(quarter));
        found(2 + length, Meaning::Quarter { year, quarter })
    }

    /// A year that follows: `2024`, `of 2024`, `in 2024`, `, 2024`, `'24`, `last year`.
    fn year_after(&self, at: usize) -> (usize, Option<i16>) {
        let skip = usize::from(matches!(
            self.lower(at),
            "of" | "in" | "," | "/" | "-" | "'"
        ));
        let lower = self.lower(at + skip);
        if let Some(year) = year_number(lower) {
            return (skip + 1, Some(year));
        }
        if skip == 1 && self.lower(at) == "'" && lower.len() == 2 {
            return (2, lower.parse::<i16>().ok().map(|y| 2000 + y));
        }
        if self.lower(at + skip + 1) == "year"
            && let Some(offset) = relative(lower)
        {
            return (skip + 2, Some(self.today.year() + offset));
        }
        (0, None)
    }

    /// "Q3 and Q4 2024", "from Q3 to Q4 2024": the year of the quarter that follows.
    fn year_of_next(&self, at: usize, most: usize) -> Option<i16> {
        // A year has four quarters.
        if most == 0
            || !matches!(
                self.lower(at),
                "and" | "to" | "," | "-" | "–" | "vs" | "versus" | "or" | "through" | "with"
            )
        {
            return None;
        }
        let is_quarter = |at: &usize| {
            let number = self.lower(*at).strip_prefix('q');
            number.is_some_and(|number| quarter_number(number).is_some())
        };
        let next = (at + 1..at + 3).find(is_quarter)?;
        self.year_after(next + 1)
            .1
            .or_else(|| self.year_of_next(next + 1, most - 1))
    }

    /// Without a year we take the latest such quarter that has begun: questions about money look back.
    fn latest_year_of(&self, quarter: i8) -> i16 {
        self.today.year() - i16::from(quarter > quarter_of(self.today.month()))
    }

    pub(super) fn relative_period(&self, at: usize) -> Read {
        let offset = relative(self.lower(at))?;
        let meaning = match self.lower(at + 1) {
            "quarter" => {
                let index =
                    self.today.year() * 4 + i16::from(quarter_of(self.today.month())) - 1 + offset;
                let quarter = i8::try_from(index.rem_euclid(4)).unwrap_or(0) + 1;
                Meaning::Quarter {
                    year: index.div_euclid(4),
                    quarter,
                }
            }
            "year" => Meaning::Year(self.today.year() + offset),
            "month" => {
                let day = self
                    .today
                    .first_of_month()
                    .checked_add(i64::from(offset).months())
                    .ok()?;
                Meaning::Month {
                    year: day.year(),
                    month: day.month(),
                }
            }
            "week" => Meaning::Date(self.today.checked_add(i64::from(offset).weeks()).ok()?),
            day => {
                let weekday = weekday(day)?;
                Meaning::Date(
                    self.today
                        .nth_weekday(if offset < 0 { -1 } else { 1 }, weekday)
                        .ok()?,
                )
            }
        };
        found(2, meaning)
    }

    pub(super) fn date(&self, at: usize) -> Read {
        let lower = self.lower(at);
        if let Ok(date) = lower.parse::<Date>()
            && lower.len() == 10
        {
            return found(1, Meaning::Date(date));
        }
        let days = |days: i64| self.today.checked_add(days.days()).ok().map(Meaning::Date);
        match lower {
            "today" | "tonight" => return found(1, Meaning::Date(self.today)),
            "tomorrow" => return Some((1, days(1))),
            "yesterday" => return Some((1, days(-1))),
            _ => {}
        }
        if let Some(weekday) = weekday(lower) {
            return found(1, Meaning::Date(self.today.nth_weekday(1, weekday).ok()?));
        }
        self.days_from_now(at).or_else(|| self.day_and_month(at))
    }

    /// `in 3 days`, `2 weeks ago`.
    fn days_from_now(&self, at: usize) -> Read {
        let from = usize::from(self.lower(at) == "in");
        let count = i64::from(ordinal_or_count(self.lower(at + from))?);
        let unit = match self.lower(at + from + 1) {
            "day" | "days" => 1,
            "week" | "weeks" => 7,
            _ => return None,
        };
        let ago = self.lower(at + from + 2) == "ago";
        if ago == (from == 1) {
            return None;
        }
        let days = count * unit * if ago { -1 } else { 1 };
        let date = self.today.checked_add(days.days()).ok()?;
        found(from + 2 + usize::from(ago), Meaning::Date(date))
    }

    /// `3 May 2024`, `3rd of May`, `May 3, 2024`, `May 3rd`.
    fn day_and_month(&self, at: usize) -> Read {
        let (month, day, length) = if let Some(month) = month_number(self.lower(at)) {
            (month, day_number(self.lower(at + 1))?, 2)
        } else {
            let day = day_number(self.lower(at))?;
            let of = usize::from(self.lower(at + 1) == "of");
            (month_number(self.lower(at + 1 + of))?, day, 2 + of)
        };
        let (more, year) = self.year_after(at + length);
        let date = Date::new(year.unwrap_or_else(|| self.today.year()), month, day).ok()?;
        found(length + more, Meaning::Date(date))
    }

    /// `31/12/2024`, when only one reading is possible; an ambiguous one is passed over rather than divided.
    pub(super) fn slashed_date(&self, at: usize) -> Read {
        let numbers: Vec<i16> = [0, 2, 4]
            .iter()
            .filter_map(|i| self.lower(at + i).parse().ok())
            .collect();
        let [a, b, year] = *numbers.as_slice() else {
            return None;
        };
        if self.lower(at + 1) != "/" || self.lower(at + 3) != "/" || !(1900..2200).contains(&year) {
            return None;
        }
        let (day, month) = if a > 12 || a == b {
            (a, b)
        } else if b > 12 {
            (b, a)
        } else {
            return Some((5, None));
        };
        let date = Date::new(year, i8::try_from(month).ok()?, i8::try_from(day).ok()?).ok();
        Some((5, date.map(Meaning::Date)))
    }

    pub(super) fn month_or_year(&self, at: usize) -> Read {
        let lower = self.lower(at);
        if let Some((year, month)) = lower.split_once('-')
            && let (Some(year), Ok(month @ 1..=12)) = (year_number(year), month.parse())
        {
            return found(1, Meaning::Month { year, month });
        }
        if let Some(month) = month_number(lower) {
            let (length, year) = self.year_after(at + 1);
            // "may" and "march" are months with a year or a capital inside of a sentence.
            let verb = matches!(
                lower,
                "may" | "march" | "mar" | "sun" | "dec" | "sep" | "jan"
            );
            if verb && length == 0 && !(at > 0 && self.token(at)?.is_capitalised()) {
                return None;
            }
            let past = self.today.year() - i16::from(month > self.today.month());
            return found(
                1 + length,
                Meaning::Month {
                    year: year.unwrap_or(past),
                    month,
                },
            );
        }
        let year = year_number(lower)?;
        found(1, Meaning::Year(year))
    }

    pub(super) fn time(&self, at: usize) -> Read {
        match self.lower(at) {
            "noon" | "midday" => return found(1, Meaning::Time(Time::constant(12, 0, 0, 0))),
            "midnight" => return found(1, Meaning::Time(Time::midnight())),
            _ => {}
        }
        let lower = self.lower(at);
        let (digits, mut suffix) = lower.split_at(
            lower
                .find(|c: char| c.is_alphabetic())
                .unwrap_or(lower.len()),
        );
        let mut length = 1;
        if suffix.is_empty() && matches!(self.lower(at + 1), "am" | "pm" | "o'clock") {
            suffix = self.lower(at + 1);
            length = 2;
        }
        let (hour, minute) = match digits.split_once(':') {
            Some((h, m)) if m.len() == 2 => (h.parse::<i8>().ok()?, m.parse::<i8>().ok()?),
            Some(_) => return None,
            None if suffix.is_empty() => return None,
            None => (digits.parse::<i8>().ok()?, 0),
        };
        let hour = match suffix {
            "am" if hour == 12 => 0,
            "pm" if hour < 12 => hour + 12,
            "" | "am" | "pm" | "h" | "o'clock" => hour,
            _ => return None,
        };
        found(length, Meaning::Time(Time::new(hour, minute, 0, 0).ok()?))
    }
}
