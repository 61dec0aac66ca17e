//! Spans of days as people name them: a quarter, a year, a month, from one day to another.
//!
//! Does not know which day it is today.

use std::fmt;

use amcp_protocol::{ErrorCode, Failure};
use jiff::civil::Date;
use jiff::{ToSpan, Unit};

/// A span of days.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Period {
    /// Without beginning and end.
    All,
    /// A year.
    Year(i16),
    /// A year and one of its quarters, from 1.
    Quarter(i16, i8),
    /// A year and one of its months, from 1.
    Month(i16, i8),
    /// The first and the last day, both included.
    Days(Option<Date>, Option<Date>),
}

use Period::{All, Days, Month, Quarter, Year};

fn month_days(year: i16, first: i8, last: i8) -> (Date, Date) {
    let first = Date::new(year, first, 1).unwrap_or(Date::MIN);
    let last = Date::new(year, last, 1).unwrap_or(Date::MAX);
    (first, last.last_of_month())
}

impl Period {
    /// The first and the last day as they compare in SQL: `YYYY-MM-DD`.
    pub(super) fn bounds(self) -> (String, String) {
        let (from, to) = self.days();
        (
            from.map_or_else(|| "0000-01-01".to_owned(), |day| day.to_string()),
            to.map_or_else(|| "9999-12-31".to_owned(), |day| day.to_string()),
        )
    }

    fn days(self) -> (Option<Date>, Option<Date>) {
        let (from, to) = match self {
            All => return (None, None),
            Days(from, to) => return (from, to),
            Year(year) => month_days(year, 1, 12),
            Quarter(year, quarter) => month_days(year, 3 * quarter - 2, 3 * quarter),
            Month(year, month) => month_days(year, month, month),
        };
        (Some(from), Some(to))
    }

    /// As it follows "the expenses": " in Q4 2024"; nothing for all periods.
    pub(super) fn phrase(self) -> String {
        let word = match self {
            All | Days(None, None) => return String::new(),
            Year(_) | Quarter(..) | Month(..) => "in ",
            Days(Some(from), Some(to)) if from == to => "on ",
            Days(Some(_), Some(_)) => "from ",
            Days(..) => "",
        };
        format!(" {word}{self}")
    }

    /// The span of the same length before it; none when it has no beginning or no end.
    pub(super) fn previous(self) -> Option<Self> {
        match self {
            All => None,
            Year(year) => Some(Year(year - 1)),
            Quarter(year, 1) => Some(Quarter(year - 1, 4)),
            Quarter(year, quarter) => Some(Quarter(year, quarter - 1)),
            Month(year, 1) => Some(Month(year - 1, 12)),
            Month(year, month) => Some(Month(year, month - 1)),
            Days(from, to) => {
                let (from, to) = (from?, to?);
                let last = from.yesterday().ok()?;
                // Whole months follow whole months: a quarter's length in days is not that of the one before it.
                let first = if from.day() == 1 && to == to.last_of_month() {
                    let months = from.until((Unit::Month, to.tomorrow().ok()?)).ok()?;
                    from.checked_sub(months).ok()?
                } else {
                    last.checked_sub(from.until(to).ok()?.get_days().days())
                        .ok()?
                };
                Some(Days(Some(first), Some(last)))
            }
        }
    }
}

impl fmt::Display for Period {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            All | Days(None, None) => f.write_str("all periods"),
            Year(year) => write!(f, "{year}"),
            Quarter(year, quarter) => write!(f, "Q{quarter} {year}"),
            Month(year, month) => match Date::new(*year, *month, 1) {
                Ok(day) => write!(f, "{}", day.strftime("%B %Y")),
                Err(_) => write!(f, "{year}-{month:02}"),
            },
            Days(Some(from), Some(to)) if from == to => write!(f, "{from}"),
            Days(Some(from), Some(to)) => write!(f, "{from} to {to}"),
            Days(Some(from), None) => write!(f, "since {from}"),
            Days(None, Some(to)) => write!(f, "until {to}"),
        }
    }
}

/// The params that name a period.
#[derive(Debug, Default, serde::Deserialize)]
#[serde(default)]
pub(super) struct PeriodParams {
    quarter: Option<String>,
    year: Option<i16>,
    month: Option<String>,
    from: Option<String>,
    to: Option<String>,
}

fn invalid(message: impl Into<String>) -> Failure {
    Failure::new(ErrorCode::InvalidParams, message)
}

fn day(param: &str, text: Option<&str>) -> Result<Option<Date>, Failure> {
    text.map(|text| {
        text.parse().map_err(|_| {
            invalid(format!("'{param}' is no date: {text}")).hint("write dates like 2024-10-31")
        })
    })
    .transpose()
}

impl PeriodParams {
    /// The period meant. A quarter without a year is in `latest_year_of` that quarter.
    pub(super) fn period(
        &self,
        latest_year_of: impl FnOnce(i8) -> Result<i16, Failure>,
    ) -> Result<Period, Failure> {
        if self.year.is_some_and(|year| !(1..=9999).contains(&year)) {
            return Err(invalid("'year' must be 1 to 9999"));
        }
        let days = self.from.is_some() || self.to.is_some();
        match (&self.quarter, &self.month) {
            (None, None) if days && self.year.is_none() => {
                let (from, to) = (
                    day("from", self.from.as_deref())?,
                    day("to", self.to.as_deref())?,
                );
                if from.zip(to).is_some_and(|(from, to)| from > to) {
                    return Err(invalid("'from' is later than 'to'"));
                }
                Ok(Days(from, to))
            }
            (Some(quarter), None) if !days => self.quarter(quarter, latest_year_of),
            (None, Some(month)) if !days => {
                let first = day("month", Some(&format!("{month}-01")))?
                    .ok_or_else(|| invalid("'month' is empty"))?;
                self.in_year(first.year())?;
                Ok(Month(first.year(), first.month()))
            }
            (None, None) if !days => Ok(self.year.map_or(All, Year)),
            _ => Err(invalid("the params name two periods")
                .hint("give a quarter, a month, a year, or 'from' and 'to'")),
        }
    }

    fn in_year(&self, year: i16) -> Result<(), Failure> {
        match self.year {
            Some(other) if other != year => Err(invalid(format!(
                "the params name two years, {year} and {other}"
            ))),
            Some(_) | None => Ok(()),
        }
    }

    fn quarter(
        &self,
        text: &str,
        latest_year_of: impl FnOnce(i8) -> Result<i16, Failure>,
    ) -> Result<Period, Failure> {
        let unclear = || invalid(format!("'{text}' is no quarter")).hint("write it like Q4 2024");
        let upper = text.to_uppercase();
        let at = upper.find('Q').ok_or_else(unclear)?;
        let number = upper
            .get(at + 1..at + 2)
            .and_then(|digit| digit.parse().ok());
        let quarter = number
            .filter(|quarter| (1..=4).contains(quarter))
            .ok_or_else(unclear)?;
        let rest: String = upper
            .get(..at)
            .into_iter()
            .chain(upper.get(at + 2..))
            .collect();
        let rest = rest.trim_matches([' ', '-', '/']);
        let year = if rest.is_empty() {
            self.year.map_or_else(|| latest_year_of(quarter), Ok)?
        } else {
            rest.parse().map_err(|_| unclear())?
        };
        self.in_year(year)?;
        Ok(Quarter(year, quarter))
    }
}

#[cfg(test)]
mod tests {
    use jiff::civil::date;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    fn period(params: Value) -> Result<Period, Failure> {
        serde_json::from_value::<PeriodParams>(params)
            .unwrap()
            .period(|_| Ok(2025))
    }

    #[test]
    fn periods_are_understood_as_they_are_written() {
        for (params, meant) in [
            (json!({"quarter": "Q4 2024"}), Quarter(2024, 4)),
            (json!({"quarter": "2024-q4"}), Quarter(2024, 4)),
            (json!({"quarter": "Q4/2024"}), Quarter(2024, 4)),
            (json!({"quarter": "q2", "year": 2023}), Quarter(2023, 2)),
            (json!({"quarter": "Q3"}), Quarter(2025, 3)),
            (json!({"year": 2022}), Year(2022)),
            (json!({"month": "2024-02"}), Month(2024, 2)),
            (
                json!({"from": "2024-01-05"}),
                Days(Some(date(2024, 1, 5)), None),
            ),
            (json!({}), All),
        ] {
            assert_eq!(period(params.clone()), Ok(meant), "{params}");
        }
    }

    #[test]
    fn a_period_that_contradicts_itself_is_refused() {
        for params in [
            json!({"quarter": "Q4 2024", "year": 2023}),
            json!({"quarter": "Q4 2024", "month": "2024-11"}),
            json!({"quarter": "Q5 2024"}),
            json!({"quarter": "Q"}),
            json!({"quarter": "Qé2024"}),
            json!({"year": 2024, "from": "2024-01-01"}),
            json!({"from": "2024-02-01", "to": "2024-01-01"}),
            json!({"from": "yesterday"}),
            json!({"month": "2024-13"}),
            json!({"year": 0}),
        ] {
            assert_eq!(
                period(params.clone()).unwrap_err().code,
                ErrorCode::InvalidParams,
                "{params}"
            );
        }
    }

    #[test]
    fn whole_months_follow_whole_months() {
        let days = |from, to| Days(Some(from), Some(to));
        for (from, to, before) in [
            (date(2024, 1, 1), date(2024, 6, 30), date(2023, 7, 1)),
            (date(2025, 1, 1), date(2025, 6, 30), date(2024, 7, 1)),
            (date(2024, 7, 1), date(2024, 12, 31), date(2024, 1, 1)),
            (date(2024, 2, 1), date(2024, 2, 29), date(2024, 1, 1)),
            (date(2022, 1, 1), date(2023, 12, 31), date(2020, 1, 1)),
            (date(2024, 3, 1), date(2024, 3, 30), date(2024, 1, 31)),
        ] {
            let last = from.yesterday().unwrap();
            assert_eq!(
                days(from, to).previous(),
                Some(days(before, last)),
                "{from} to {to}"
            );
        }
    }

    proptest! {
        #[test]
        fn invariant_a_period_begins_the_day_after_the_one_before_it(year in 2i16..9998, part in 1i8..=4, month in 1i8..=12) {
            for period in [Year(year), Quarter(year, part), Month(year, month), Days(Some(date(year, month, 1)), Some(date(year, month, 20)))] {
                let (first, last) = period.days();
                let (_, before) = period.previous().unwrap().days();
                prop_assert_eq!(before.unwrap().tomorrow().unwrap(), first.unwrap());
                prop_assert!(first < last);
            }
        }
    }
}
