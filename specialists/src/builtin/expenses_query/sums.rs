//! The chosen expenses, their sums, and what people read of them.

use rusqlite::Row;
use serde_json::{Map, Value, json};

use super::super::ledger::Reader;
use super::super::money::{CURRENCY, amount, cents_of, dollars, thousands};
use super::super::period::Period;
use super::filter::{Filter, Sort};
use super::{MAX_ROW_BYTES, MAX_ROWS, listed};

/// Most expenses that are named unasked.
const FEW: usize = 3;

/// The result of the task.
pub(super) fn answer(reader: &Reader, filter: &Filter, source: &str) -> rusqlite::Result<Value> {
    let totals = Totals::of(reader, filter, filter.period)?;
    // Some of the expenses say nothing about a trend.
    let previous = filter.period.previous().filter(|_| filter.limit.is_none());
    let previous = previous
        .map(|period| Totals::of(reader, filter, period))
        .transpose()?;
    let statement = (
        "date, department, category, vendor, description, amount_cents",
        format!("ORDER BY {} LIMIT {MAX_ROWS}", filter.order()),
    );
    let mut room = MAX_ROW_BYTES;
    let rows = filter.rows(reader, filter.period, (statement.0, &statement.1), |row| {
        let (row, size) = entry(row)?;
        room = room.saturating_sub(size);
        Ok((room > 0).then_some(row))
    })?;
    let rows: Vec<Value> = rows.into_iter().map_while(|row| row).collect();
    let scope = match (
        filter.limit.and(filter.sort()).map(Sort::name),
        totals.count,
    ) {
        (None, _) | (_, 0) => format!("expenses{filter}"),
        (Some(sort), 1) => format!("{sort} expense{filter}"),
        (Some(sort), count) => format!(
            "{} {sort} expenses{filter}",
            thousands(count.unsigned_abs())
        ),
    };
    let mut result = json!({
        "text": text(reader, filter, &totals, &rows, (&scope, source))?,
        "scope": scope,
        "period": filter.period.to_string(),
        "source": source,
        "currency": CURRENCY,
        "count": totals.count,
        "total": amount(totals.cents),
        "truncated": (rows.len() as i64) < totals.count,
        "rows": rows,
        "totals": totals.to_json(),
    });
    // A period before the ledger's beginning says nothing.
    if let (Some(previous), Some(result)) =
        (previous.filter(|p| p.count > 0), result.as_object_mut())
    {
        result.insert("previous".to_owned(), previous.to_json());
    }
    Ok(result)
}

/// An expense, and how many bytes its texts have.
fn entry(row: &Row<'_>) -> rusqlite::Result<(Value, usize)> {
    let mut entry = Map::new();
    for (at, name) in ["date", "department", "category", "vendor"]
        .iter()
        .enumerate()
    {
        entry.insert((*name).to_owned(), row.get::<_, String>(at)?.into());
    }
    if let Some(description) = row.get::<_, Option<String>>(4)? {
        entry.insert("description".to_owned(), description.into());
    }
    let size = entry.values().filter_map(Value::as_str).map(str::len).sum();
    entry.insert("amount".to_owned(), amount(row.get(5)?));
    Ok((entry.into(), size))
}

/// Name, cents and number of entries of a group.
type Sum = (String, i64, i64);

/// Sums of a period, in cents.
struct Totals {
    period: Period,
    count: i64,
    cents: i64,
    /// By department, category and month; the largest first, months in order.
    groups: [(&'static str, Vec<Sum>); 3],
}

impl Totals {
    fn of(reader: &Reader, filter: &Filter, period: Period) -> rusqlite::Result<Self> {
        let sums = |by: &str, order: &str| -> rusqlite::Result<Vec<Sum>> {
            let select = format!("{by}, sum(amount_cents), count(*)");
            let grouped = format!("GROUP BY 1 ORDER BY {order}");
            filter.rows(reader, period, (&select, &grouped), |row| {
                Ok((row.get(0)?, row.get(1)?, row.get(2)?))
            })
        };
        let groups = [
            ("by_department", sums("department", "2 DESC, 1")?),
            ("by_category", sums("category", "2 DESC, 1")?),
            ("by_month", sums("substr(date, 1, 7)", "1")?),
        ];
        let [(_, departments), ..] = &groups;
        let (cents, count) = departments
            .iter()
            .fold((0i64, 0), |(cents, count), (_, c, n)| {
                (cents.saturating_add(*c), count + n)
            });
        Ok(Self {
            period,
            count,
            cents,
            groups,
        })
    }

    fn to_json(&self) -> Value {
        let mut totals = Map::new();
        totals.insert("period".to_owned(), self.period.to_string().into());
        totals.insert("count".to_owned(), self.count.into());
        totals.insert("total".to_owned(), amount(self.cents));
        for (name, sums) in &self.groups {
            let sums: Vec<_> = sums.iter().map(|(name, cents, count)| json!({"name": name, "total": amount(*cents), "count": count})).collect();
            totals.insert((*name).to_owned(), sums.into());
        }
        totals.into()
    }
}

fn text(
    reader: &Reader,
    filter: &Filter,
    totals: &Totals,
    rows: &[Value],
    (scope, source): (&str, &str),
) -> rusqlite::Result<String> {
    let [(_, departments), ..] = &totals.groups;
    let Some((largest, cents, _)) = departments.first() else {
        let covered = reader.connection.query_row(
            "SELECT min(date), max(date) FROM expenses",
            [],
            |row| {
                Ok(Option::zip(
                    row.get::<_, Option<String>>(0)?,
                    row.get::<_, Option<String>>(1)?,
                ))
            },
        )?;
        let (first, last) = filter.period.bounds();
        let why = match covered {
            None => format!(": the {source} is empty"),
            Some((from, to)) if to < first || last < from => {
                format!(": the {source} covers {from} to {to}")
            }
            Some(_) => String::new(),
        };
        return Ok(format!("There are no {scope}{why}."));
    };
    let sort = filter.sort().map(Sort::name);
    if let ([only], 1) = (rows, totals.count) {
        let which_one = sort.unwrap_or("only");
        return Ok(format!(
            "The {which_one} expense{filter} is {}.",
            line(only)
        ));
    }
    let count = usize::try_from(totals.count).unwrap_or(usize::MAX);
    let sum = format!("add up to {}", dollars(totals.cents));
    let number = thousands(totals.count.unsigned_abs());
    let heading = match (sort, filter.limit) {
        (Some(_), Some(_)) => format!("The {scope} {sum}"),
        (Some(sort), None) => format!("The {sort} of {number} {scope}, which {sum}"),
        (None, _) if departments.len() > 1 => format!(
            "{number} {scope} {sum}, the largest part of it in {largest} ({})",
            dollars(*cents)
        ),
        (None, _) => format!("{number} {scope} {sum}"),
    };
    if sort.is_some() || count <= FEW {
        return Ok(listed(&heading, rows.iter().map(line), count));
    }
    Ok(heading + ".")
}

/// An expense for people.
fn line(row: &Value) -> String {
    let text = |name: &str| row.get(name).and_then(Value::as_str).unwrap_or_default();
    let cents = row.get("amount").and_then(cents_of).unwrap_or_default();
    format!(
        "{} to {} on {} ({}, {})",
        dollars(cents),
        text("vendor"),
        text("date"),
        text("category"),
        text("department")
    )
}
