//! Facts as values of params: the spelling that a schema wants, and the words that tell one param from another.
//!
//! Does not look at the query.

use serde_json::{Number, Value};

use super::expression::PERCENT_OF;
use super::facts::{Fact, Meaning};
use super::kind::Kind;
use super::spec::Param;

/// The value that a fact gives a param, if it is of the param's kind and the schema accepts it.
pub(super) fn of_fact(param: &Param, fact: &Fact) -> Option<Value> {
    match (param.kind, &fact.meaning) {
        (Kind::Quarter, &Meaning::Quarter { year, quarter }) => quarter_text(param, year, quarter),
        // A period param whose pattern admits a whole year.
        (Kind::Quarter, Meaning::Year(year)) => (!param.accepts(&Value::from("zzz")))
            .then(|| param.accepted_text(&[&year.to_string()]))
            .flatten(),
        (Kind::Date, Meaning::Date(date)) => {
            let (y, m, d) = (date.year(), date.month(), date.day());
            in_style(param, &[format!("{y:04}-{m:02}-{d:02}"), format!("{d:02}.{m:02}.{y:04}"), format!("{m:02}/{d:02}/{y:04}")])
        }
        (Kind::Month, &Meaning::Month { year, month }) => {
            in_style(param, &[format!("{year:04}-{month:02}"), format!("{} {year}", month_name(month)), month_name(month).to_owned()])
        }
        (Kind::Time, Meaning::Time(time)) => {
            let (h, m) = (time.hour(), time.minute());
            in_style(param, &[format!("{h:02}:{m:02}"), format!("{h:02}:{m:02}:00")])
        }
        (Kind::Year, &Meaning::Year(year) | &Meaning::Quarter { year, .. } | &Meaning::Month { year, .. }) => {
            accepted(param, &[Value::from(year), Value::from(year.to_string())])
        }
        (Kind::Number, &Meaning::Quarter { quarter, .. }) => {
            has_word(param, &["quarter"]).then(|| accepted(param, &[Value::from(quarter)])).flatten()
        }
        (Kind::Number, &Meaning::Month { month, .. }) => {
            has_word(param, &["month"]).then(|| accepted(param, &[Value::from(month)])).flatten()
        }
        (Kind::Number, &Meaning::Number { value, unit_seconds }) => number(param, value, unit_seconds),
        (Kind::Number, &Meaning::Year(year)) => number(param, f64::from(year), None),
        (Kind::Expression, Meaning::Expression(text)) => expression(param, text),
        (Kind::Email, Meaning::Email(text))
        | (Kind::Url, Meaning::Url(text))
        | (Kind::Sql, Meaning::Sql(text))
        // An address is as good a name as any, where the schema takes it.
        | (Kind::Name, Meaning::Email(text) | Meaning::Url(text)) => param.accepted_text(&[text]),
        _ => None,
    }
}

/// Whether the fact gives the param only a part of its meaning, so that another param may take the rest.
pub(super) fn is_derived(param: Option<&Param>, fact: &Fact) -> bool {
    let kind = param.map(|p| p.kind);
    matches!(
        (kind, &fact.meaning),
        (
            Some(Kind::Year | Kind::Number),
            Meaning::Quarter { .. } | Meaning::Month { .. }
        )
    )
}

/// Whether the fact is a quarter or a month, which other params could take parts of.
pub(super) const fn is_period(fact: &Fact) -> bool {
    matches!(
        fact.meaning,
        Meaning::Quarter { .. } | Meaning::Month { .. }
    )
}

fn accepted(param: &Param, values: &[Value]) -> Option<Value> {
    values.iter().find(|v| param.accepts(v)).cloned()
}

/// Per cents stay as they are where the card shows that they are understood.
fn expression(param: &Param, text: &str) -> Option<Value> {
    let plain = text.replace(PERCENT_OF, "% of ");
    let understood = param.samples.iter().any(|s| s.contains("% of "));
    param.accepted_text(&[if understood { plain.as_str() } else { text }, text])
}

fn number(param: &Param, value: f64, unit_seconds: Option<f64>) -> Option<Value> {
    let value = match (unit_seconds, param.unit_seconds) {
        (Some(given), Some(wanted)) => value * given / wanted,
        _ => value,
    };
    #[expect(
        clippy::cast_possible_truncation,
        reason = "checked to be whole and small"
    )]
    let whole = (value.fract() == 0.0 && value.abs() < 9e15).then(|| Value::from(value as i64));
    let exact = Number::from_f64(value).map(Value::Number);
    [whole, exact]
        .into_iter()
        .flatten()
        .find(|v| param.accepts(v))
}

fn quarter_text(param: &Param, year: i16, quarter: i8) -> Option<Value> {
    in_style(
        param,
        &[
            format!("Q{quarter} {year}"),
            format!("{year}-Q{quarter}"),
            format!("{year}Q{quarter}"),
            format!("Q{quarter}-{year}"),
            format!("{year} Q{quarter}"),
            format!("Q{quarter}/{year}"),
            format!("Q{quarter}"),
        ],
    )
}

/// The spelling that looks like the card's own values, else the first one that the schema accepts.
fn in_style(param: &Param, spellings: &[String]) -> Option<Value> {
    let shape = |text: &str| -> String {
        text.chars()
            .map(|c| {
                if c.is_ascii_digit() {
                    '0'
                } else if c.is_alphabetic() {
                    'a'
                } else {
                    c
                }
            })
            .collect()
    };
    let wanted: Vec<String> = param.samples.iter().map(|s| shape(s)).collect();
    let alike = spellings.iter().find(|s| wanted.contains(&shape(s)));
    let order: Vec<&str> = alike
        .into_iter()
        .chain(spellings)
        .map(String::as_str)
        .collect();
    param.accepted_text(&order)
}

fn month_name(month: i8) -> &'static str {
    const NAMES: [&str; 12] = [
        "January",
        "February",
        "March",
        "April",
        "May",
        "June",
        "July",
        "August",
        "September",
        "October",
        "November",
        "December",
    ];
    usize::try_from(month - 1)
        .ok()
        .and_then(|i| NAMES.get(i))
        .copied()
        .unwrap_or("January")
}

fn has_word(param: &Param, words: &[&str]) -> bool {
    words.iter().any(|w| param.words.iter().any(|p| p == w))
}

/// Whether the word before a value says that it is the beginning or the end of a range, and the param's name agrees
/// (positive) or contradicts (negative).
pub(super) fn role(param: &Param, before: &str) -> f32 {
    let begins = has_word(
        param,
        &[
            "from", "start", "since", "begin", "after", "min", "sourc", "origin",
        ],
    );
    let ends = has_word(
        param,
        &[
            "to", "end", "until", "till", "befor", "max", "target", "destin", "due", "deadlin",
        ],
    );
    let first = matches!(
        before,
        "from" | "since" | "after" | "between" | "starting" | "above" | "over" | "least"
    );
    let last = matches!(
        before,
        "to" | "into"
            | "until"
            | "till"
            | "before"
            | "through"
            | "by"
            | "below"
            | "under"
            | "most"
            | "-"
            | "–"
    );
    match (begins, ends) {
        (true, false) if first => 2.0,
        (false, true) if last => 2.0,
        (true, false) if last => -1.0,
        (false, true) if first => -1.0,
        _ => 0.0,
    }
}

/// Whether the word before a number says that it limits how many are wanted, and the param is such a limit.
pub(super) fn counts(param: &Param, before: &str) -> bool {
    matches!(
        before,
        "top" | "limit" | "first" | "last" | "latest" | "show" | "list" | "find"
    ) && has_word(
        param,
        &["limit", "count", "top", "n", "max", "number", "row"],
    )
}

/// Capital letters that name no share.
pub(super) fn is_acronym(name: &str) -> bool {
    matches!(
        name,
        "PDF"
            | "HTML"
            | "CSV"
            | "SQL"
            | "JSON"
            | "XML"
            | "USD"
            | "EUR"
            | "GBP"
            | "USA"
            | "UK"
            | "EU"
            | "API"
            | "URL"
            | "AM"
            | "PM"
            | "OK"
            | "CEO"
            | "CFO"
            | "FAQ"
            | "TODO"
            | "ASAP"
            | "THE"
            | "AND"
            | "OR"
            | "IN"
            | "OF"
            | "FOR"
            | "ME"
            | "TO"
            | "IS"
            | "ON"
            | "AT"
            | "IT"
            | "MY"
            | "WHAT"
            | "HOW"
            | "SHOW"
            | "TELL"
            | "GET"
            | "GIVE"
    )
}
