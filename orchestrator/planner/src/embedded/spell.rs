//! Spells facts as the values that a param's schema accepts.
//!
//! Does not decide which param takes which fact.

use jiff::ToSpan;
use jiff::civil::Date;
use serde_json::{Number, Value};

use super::card::{Param, Role};
use super::kind::Kind;
use super::span::{Grain, Span};

/// The params that take a span exactly, with their values: a single one, or the first and the last day.
pub(super) fn span(params: &[Param], span: &Span) -> Vec<Vec<(usize, Value)>> {
    let mut ways = Vec::new();
    let places = || params.iter().enumerate();
    for (index, param) in
        places().filter(|(_, p)| p.role.is_none_or(|role| matches!(role, Role::Count)))
    {
        ways.extend(named(param, span).map(|value| vec![(index, value)]));
    }
    let end = |role: Role, date: Option<Date>| {
        let param = places()
            .find(|(_, p)| p.role == Some(role) && matches!(p.kind, Kind::Date | Kind::DateTime));
        // "before Friday" names Friday to a param that is called so.
        let edge = |p: &Param, date: Date| {
            let step = i64::from(p.has_word(&["befor"])) - i64::from(p.has_word(&["after"]));
            date.checked_add(step.days()).ok()
        };
        let value = |p: &Param| day(p, date.and_then(|date| edge(p, date))?);
        param.map(|(index, p)| (index, value(p)))
    };
    let edge = params.iter().any(|p| p.edge);
    match (end(Role::From, span.from), end(Role::To, span.to)) {
        (Some((from, Some(first))), Some(_)) if edge && span.from == span.to => {
            ways.push(vec![(from, first)])
        }
        (Some((from, Some(first))), Some((to, Some(last)))) => {
            ways.push(vec![(from, first), (to, last)])
        }
        (Some((from, Some(first))), _) if span.to.is_none() => ways.push(vec![(from, first)]),
        (_, Some((to, Some(last)))) if span.from.is_none() => ways.push(vec![(to, last)]),
        _ => {}
    }
    ways
}

/// A span that one param can name.
fn named(param: &Param, span: &Span) -> Option<Value> {
    let from = span.from?;
    let (y, m, quarter) = (from.year(), from.month(), (from.month() + 2) / 3);
    match (param.kind, span.grain()) {
        (Kind::Date, Grain::Day) => day(param, from),
        (Kind::Quarter, Grain::Quarter) => styled(
            param,
            &[
                format!("Q{quarter} {y}"),
                format!("{y}-Q{quarter}"),
                format!("{y}Q{quarter}"),
                format!("Q{quarter}-{y}"),
                format!("{y} Q{quarter}"),
                format!("Q{quarter}/{y}"),
            ],
        ),
        (Kind::Month, Grain::Month) => {
            let name = from.strftime("%B").to_string();
            styled(
                param,
                &[
                    format!("{y}-{m:02}"),
                    format!("{name} {y}"),
                    format!("{m:02}/{y}"),
                ],
            )
        }
        (Kind::Year, Grain::Year) => year(param, y),
        _ => None,
    }
}

fn year(param: &Param, year: i16) -> Option<Value> {
    let values = [Value::from(year), Value::from(year.to_string())];
    values.into_iter().find(|value| param.accepts(value))
}

/// A day, with the time 00:00 where the param wants one.
fn day(param: &Param, date: Date) -> Option<Value> {
    let midnight = date.to_datetime(jiff::civil::Time::midnight());
    let texts = [
        date.to_string(),
        date.strftime("%d/%m/%Y").to_string(),
        date.strftime("%d.%m.%Y").to_string(),
        midnight.to_string(),
        format!("{midnight}Z"),
    ];
    styled(param, &texts)
}

/// A time, with its day where the param wants one.
pub(super) fn time(param: &Param, time: jiff::civil::Time, date: Option<Date>) -> Option<Value> {
    let (h, m) = (time.hour(), time.minute());
    match (param.kind, date) {
        (Kind::Time, _) => styled(
            param,
            &[format!("{h:02}:{m:02}"), format!("{h:02}:{m:02}:00")],
        ),
        (Kind::DateTime, Some(date)) => {
            let at = date.to_datetime(time).to_string();
            styled(param, &[at.clone(), format!("{at}Z")])
        }
        _ => None,
    }
}

/// A number in the unit of the param.
pub(super) fn number(param: &Param, value: f64, unit_seconds: Option<f64>) -> Option<Value> {
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
        .find(|value| param.accepts(value))
}

/// The first spelling that the schema accepts.
fn styled(param: &Param, spellings: &[String]) -> Option<Value> {
    let mut values = spellings.iter().map(|text| Value::from(text.as_str()));
    values.find(|value| param.accepts(value))
}
