//! `finance.db.query`: expenses out of the ledger.
//!
//! Does not judge them; it adds up only what the analysis needs of the period before.

use std::path::Path;
use std::time::Duration;

use amcp_protocol::{AgentCard, Capability, ErrorCode, Failure, Produces, terms};
use async_trait::async_trait;
use rusqlite::types::ValueRef;
use rusqlite::{Row, Statement, named_params};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use tokio::sync::Semaphore;

use super::ledger::{Ledger, Reader};
use super::money::{CURRENCY, amount, dollars, thousands};
use super::period::{Period, PeriodParams, QUARTER_PATTERN};
use super::{example, words};
use crate::specialist::{Context, Specialist, Task};

pub(super) const AGENT: &str = "finance-db-1";

/// Most rows of a result: more than the sample has, and less than a message should carry.
const MAX_ROWS: usize = 5_000;
/// Most bytes of a result's rows, as far as they are counted: rows of a ledger of one's own may be wide.
const MAX_ROW_BYTES: usize = 1_000_000;
/// How long a statement may take: the sample needs milliseconds.
const MAX_TIME: Duration = Duration::from_secs(10);

/// Places of queries, which block a thread each. The process has one set of them: a query that was given up keeps its
/// place until it has really ended, also when the agent was started anew meanwhile.
static PLACES: Semaphore = Semaphore::const_new(MAX_QUERIES);
/// Twice the tasks that the agent takes at a time: those that were given up end soon.
const MAX_QUERIES: usize = 8;

const DEPARTMENTS: &[&str] = &[
    "Engineering",
    "Finance",
    "Human Resources",
    "Marketing",
    "Operations",
    "Sales",
];
const CATEGORIES: &[&str] = &[
    "Advertising",
    "Cloud Services",
    "Consulting",
    "Facilities",
    "Hardware",
    "Meals",
    "Office Supplies",
    "Software",
    "Telecommunications",
    "Training",
    "Travel",
];
const KEYWORDS: &[&str] = &[
    "expense",
    "expenses",
    "spending",
    "spent",
    "spend",
    "cost",
    "costs",
    "ledger",
    "finance",
    "financial",
    "accounting",
    "database",
    "sql",
    "quarter",
    "department",
    "category",
    "vendor",
    "payments",
    "invoices",
];

/// Which expenses: everything that the params of one kind say.
const MATCHING: &str = "date BETWEEN :from AND :to
    AND (:department IS NULL OR department = :department COLLATE NOCASE)
    AND (:category IS NULL OR category = :category COLLATE NOCASE)";

/// Reads the ledger.
#[derive(Debug)]
pub(super) struct ExpensesQuery {
    ledger: Ledger,
    max_time: Duration,
    places: &'static Semaphore,
}

#[derive(Debug, Deserialize)]
struct Params {
    #[serde(flatten)]
    period: PeriodParams,
    department: Option<String>,
    category: Option<String>,
    sql: Option<String>,
    limit: Option<usize>,
}

/// What is asked for, understood.
struct Filter {
    period: Period,
    department: Option<String>,
    category: Option<String>,
    limit: usize,
}

impl ExpensesQuery {
    pub(super) fn new(data_dir: &Path) -> Self {
        Self {
            ledger: Ledger::new(data_dir),
            max_time: MAX_TIME,
            places: &PLACES,
        }
    }

    fn params_schema(&self) -> Value {
        let date = |what: &str, role: &str| json!({"type": "string", "format": "date", terms::KIND: "date", terms::ROLE: role, "description": what});
        let mut department = json!({"type": "string", terms::KIND: "department", "description": "Only this department."});
        let mut category = json!({"type": "string", terms::KIND: "category", "description": "Only this kind of expense."});
        // A ledger of one's own has names of its own.
        if self.ledger.is_sample() {
            for (schema, names) in [(&mut department, DEPARTMENTS), (&mut category, CATEGORIES)] {
                if let Some(schema) = schema.as_object_mut() {
                    schema.insert("enum".to_owned(), names.into());
                }
            }
        }
        json!({
            "type": "object",
            "properties": {
                "quarter": {
                    "type": "string", "pattern": QUARTER_PATTERN, terms::KIND: "quarter", "examples": ["Q4 2024"],
                    "description": "A quarter; without a year the latest one.",
                },
                "month": {
                    "type": "string", "pattern": "^[0-9]{4}-[0-9]{2}$", terms::KIND: "month", "examples": ["2024-10"],
                    "description": "A month.",
                },
                "year": {"type": "integer", "minimum": 1900, "maximum": 2200, terms::KIND: "year", "description": "A whole year."},
                "from": date("The first day.", "from"),
                "to": date("The last day.", "to"),
                "department": department,
                "category": category,
                "sql": {
                    "type": "string", "minLength": 1, "maxLength": 10_000, terms::KIND: "sql",
                    "description": "In place of all other params: one SELECT on expenses (date, year, quarter, department, category, vendor, description, amount).",
                },
                "limit": {"type": "integer", "minimum": 1, "maximum": MAX_ROWS, "default": MAX_ROWS, "description": "Most rows."},
            },
            "additionalProperties": false,
        })
    }
}

fn result_schema() -> Value {
    let sums = json!({"type": "array", "items": {"type": "object", "required": ["name", "total", "count"]}});
    let totals = json!({
        "type": "object",
        "properties": {
            "period": {"type": "string"}, "count": {"type": "integer"}, "total": {"type": "number"},
            "by_department": sums, "by_category": sums, "by_month": sums,
        },
        "required": ["period", "count", "total", "by_department", "by_category", "by_month"],
    });
    json!({
        "type": "object",
        "properties": {
            "text": {"type": "string"},
            "rows": {"type": "array", "items": {"type": "object"}},
            "count": {"type": "integer"},
            "total": {"type": "number"},
            "truncated": {"type": "boolean"},
            "period": {"type": "string"},
            "source": {"type": "string"},
            "currency": {"type": "string"},
            "totals": totals,
            "previous": totals,
        },
        "required": ["text", "rows", "count", "truncated", "period", "source"],
    })
}

#[async_trait]
impl Specialist for ExpensesQuery {
    fn card(&self) -> AgentCard {
        let mut capability = Capability::new(
            "finance.db.query",
            "Looks up expenses in the finance database, by quarter, month, year, dates, department and category, or with an SQL SELECT.",
        );
        capability.params = self.params_schema();
        capability.result = result_schema();
        // The whole result: the analysis also wants the sums of the period before.
        capability.produces = vec![Produces {
            value_type: "expense.rows".into(),
            path: String::new(),
        }];
        capability.keywords = words(KEYWORDS);
        capability.examples = vec![
            // Each period once after "for" and once after "in": planners learn from examples which word leads to which param.
            example("Expenses for Q4 2024", json!({"quarter": "Q4 2024"})),
            example(
                "What did operations cost us in Q2 2025?",
                json!({"quarter": "Q2 2025", "department": "Operations"}),
            ),
            example(
                "What did Sales spend on travel in 2023?",
                json!({"department": "Sales", "category": "Travel", "year": 2023}),
            ),
            example(
                "List all expenses of Marketing in 2024-10",
                json!({"department": "Marketing", "month": "2024-10"}),
            ),
            example(
                "Spending from 2025-01-01 to 2025-02-15",
                json!({"from": "2025-01-01", "to": "2025-02-15"}),
            ),
            example(
                "SELECT vendor, sum(amount) FROM expenses GROUP BY vendor",
                json!({"sql": "SELECT vendor, sum(amount) FROM expenses GROUP BY vendor"}),
            ),
        ];
        AgentCard::new(AGENT, "Reads the ledger of expenses.", vec![capability])
    }

    async fn handle(&self, task: Task, ctx: &Context) -> Result<Value, Failure> {
        let params: Params = task.params()?;
        let ledger = self.ledger.clone();
        let place = self
            .places
            .acquire()
            .await
            .expect("the semaphore is never closed");
        let time = ctx.time_left().min(self.max_time);
        // A thread that blocks outlives a dropped future unless it is told.
        let stop = ctx.cancelled().child_token();
        let stopper = stop.clone().drop_guard();
        let result = tokio::task::spawn_blocking(move || {
            let _place = place;
            answer(&ledger, &ledger.open(stop, time)?, params)
        })
        .await;
        drop(stopper);
        result.map_err(|error| Failure::internal(format!("the query broke off: {error}")))?
    }
}

fn answer(ledger: &Ledger, reader: &Reader, params: Params) -> Result<Value, Failure> {
    let limit = params.limit.unwrap_or(MAX_ROWS).min(MAX_ROWS);
    if let Some(sql) = &params.sql {
        let period = params.period.period(|_| Ok(0))?;
        if period != Period::All || params.department.is_some() || params.category.is_some() {
            return Err(Failure::new(
                ErrorCode::InvalidParams,
                "'sql' stands in place of the other params",
            )
            .hint("write the conditions into the statement"));
        }
        return run_sql(reader, sql, limit, &ledger.source());
    }
    let failure = |error: rusqlite::Error| reader.failure(&error);
    let period = params
        .period
        .period(|quarter| latest_year(reader, quarter).map_err(failure))?;
    let filter = Filter {
        period,
        department: params.department,
        category: params.category,
        limit,
    };
    run_filter(reader, &filter, &ledger.source()).map_err(failure)
}

/// The last year that has entries in the quarter; the year 1 when none has.
fn latest_year(reader: &Reader, quarter: i8) -> rusqlite::Result<i16> {
    let latest: Option<i16> = reader.connection.query_row(
        "SELECT max(CAST(substr(date, 1, 4) AS INTEGER)) FROM expenses WHERE (CAST(substr(date, 6, 2) AS INTEGER) + 2) / 3 = ?",
        [quarter],
        |row| row.get(0),
    )?;
    Ok(latest.unwrap_or(1))
}

fn run_filter(reader: &Reader, filter: &Filter, source: &str) -> rusqlite::Result<Value> {
    let totals = Totals::of(reader, filter, filter.period)?;
    let previous = filter
        .period
        .previous()
        .map(|period| Totals::of(reader, filter, period))
        .transpose()?;
    let (from, to) = filter.period.bounds();
    let description = if reader.has_column("description") {
        "description"
    } else {
        "NULL"
    };
    let mut statement = reader.connection.prepare(&format!(
        "SELECT date, department, category, vendor, {description}, amount_cents FROM expenses WHERE {MATCHING}
         ORDER BY date, rowid LIMIT :limit"
    ))?;
    let found = statement.query_map(
        named_params! {":from": from, ":to": to, ":department": filter.department, ":category": filter.category,
            ":limit": i64::try_from(filter.limit).unwrap_or(i64::MAX)},
        entry,
    )?;
    let (mut rows, mut room) = (Vec::new(), MAX_ROW_BYTES);
    for row in found {
        let (row, size) = row?;
        let Some(left) = room.checked_sub(size) else {
            break;
        };
        room = left;
        rows.push(row);
    }
    let mut result = json!({
        "text": text(reader, filter, &totals, source)?,
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
        let (from, to) = period.bounds();
        let sums = |by: &str, order: &str| -> rusqlite::Result<Vec<Sum>> {
            let mut statement = reader.connection.prepare(&format!(
                "SELECT {by}, sum(amount_cents), count(*) FROM expenses WHERE {MATCHING} GROUP BY 1 ORDER BY {order}"
            ))?;
            let params = named_params! {":from": from, ":to": to, ":department": filter.department, ":category": filter.category};
            let rows =
                statement.query_map(params, |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
            rows.collect()
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
    source: &str,
) -> rusqlite::Result<String> {
    let which: String = [(" of ", &filter.department), (" on ", &filter.category)]
        .iter()
        .filter_map(|(word, name)| Some(format!("{word}{}", name.as_ref()?)))
        .collect();
    let period = filter.period;
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
        let covered = covered.map_or("is empty".to_owned(), |(from, to)| {
            format!("covers {from} to {to}")
        });
        return Ok(format!(
            "There are no expenses{which} for {period}: the {source} {covered}."
        ));
    };
    let count = thousands(totals.count.unsigned_abs());
    let noun = if totals.count == 1 {
        "expense"
    } else {
        "expenses"
    };
    let most = if departments.len() > 1 {
        format!(", most of it in {largest} ({})", dollars(*cents))
    } else {
        String::new()
    };
    Ok(format!(
        "{count} {noun}{which} for {period} add up to {}{most}.",
        dollars(totals.cents)
    ))
}

fn run_sql(reader: &Reader, sql: &str, limit: usize, source: &str) -> Result<Value, Failure> {
    let failure = |error: rusqlite::Error| reader.failure(&error);
    let mut statement = reader.connection.prepare(sql).map_err(failure)?;
    let columns = columns(&statement);
    let mut rows = statement.query([]).map_err(failure)?;
    let (mut found, mut room, mut truncated) = (Vec::new(), MAX_ROW_BYTES, false);
    while let Some(row) = rows.next().map_err(failure)? {
        let next = if found.len() == limit {
            None
        } else {
            fields(row, &columns, &mut room).map_err(failure)?
        };
        let Some(fields) = next else {
            truncated = true;
            break;
        };
        found.push(Value::from(fields));
    }
    if truncated && found.is_empty() {
        return Err(Failure::task(format!(
            "a single row of the result has more than {MAX_ROW_BYTES} bytes"
        ))
        .hint("select fewer columns, or shorten them with substr"));
    }
    let text = match found.as_slice() {
        [Value::Object(only)] if only.len() <= 4 && !truncated => {
            let fields: Vec<_> = only
                .iter()
                .map(|(name, value)| format!("{name} is {value}"))
                .collect();
            format!("The query found one row: {}.", fields.join(", "))
        }
        rows => format!(
            "The query found {}{} rows.",
            if truncated { "more than " } else { "" },
            rows.len()
        ),
    };
    Ok(json!({
        "text": text, "period": "SQL query", "source": source, "count": found.len(), "truncated": truncated, "rows": found,
    }))
}

/// A row, unless it takes more than the room that is left.
fn fields(
    row: &Row<'_>,
    columns: &[String],
    room: &mut usize,
) -> rusqlite::Result<Option<Map<String, Value>>> {
    let mut fields = Map::new();
    for (at, column) in columns.iter().enumerate() {
        let (value, size) = cell(row.get_ref(at)?);
        let Some(left) = room.checked_sub(size + column.len()) else {
            return Ok(None);
        };
        *room = left;
        fields.insert(column.clone(), value);
    }
    Ok(Some(fields))
}

/// Column names, made distinct.
fn columns(statement: &Statement<'_>) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for name in statement.column_names() {
        let (mut distinct, mut count) = (name.to_owned(), 1);
        while names.contains(&distinct) {
            count += 1;
            distinct = format!("{name}_{count}");
        }
        names.push(distinct);
    }
    names
}

fn cell(value: ValueRef<'_>) -> (Value, usize) {
    match value {
        ValueRef::Null => (Value::Null, 4),
        ValueRef::Integer(number) => (number.into(), 8),
        // A double's last digits are noise of its sum: amounts have two places, other figures are no more exact than six.
        ValueRef::Real(number) => (Value::from((number * 1e6).round() / 1e6), 8),
        ValueRef::Text(text) => (String::from_utf8_lossy(text).into(), text.len()),
        ValueRef::Blob(blob) => (format!("({} bytes)", blob.len()).into(), 16),
    }
}

#[cfg(test)]
mod tests;
