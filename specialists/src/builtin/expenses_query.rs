//! `finance.db.query`: expenses out of the ledger.
//!
//! Does not judge them; it adds up only what the analysis needs of the period before.

use std::fmt;
use std::path::Path;
use std::time::Duration;

use amcp_protocol::{AgentCard, Capability, ErrorCode, Failure, Produces, terms};
use async_trait::async_trait;
use rusqlite::types::ValueRef;
use rusqlite::{OptionalExtension, Row, Statement, named_params};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use tokio::sync::Semaphore;

use super::ledger::{Ledger, Reader};
use super::money::{CURRENCY, amount, cents_of, dollars, thousands};
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
/// Most names to leave out: more than people list.
const MAX_EXCEPT: usize = 20;
/// Most expenses that the text names: what a person reads in a terminal.
const NAMED: usize = 10;
/// Most expenses that are named unasked.
const FEW: i64 = 3;

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
const VENDORS: &[&str] = &[
    "Beacon Mobile",
    "Blue Harbor Data",
    "Brightline Media",
    "Cobalt Airways",
    "Copper Kettle",
    "Corvid Computers",
    "Echo Audio Ads",
    "Evergreen Cleaning",
    "Fenwick Partners",
    "Greystone Property",
    "Halden Legal",
    "Harbourview Hotels",
    "Inkwell Supplies",
    "Juniper Catering",
    "Keystone Academy",
    "Larkspur Software",
    "Ledgerline",
    "Longline Telecom",
    "Maple Office",
    "Meridian Rail",
    "Nimbus Cloud",
    "Northgate Devices",
    "Oakridge Advisory",
    "Papertrail Print",
    "Quillworks",
    "Saffron Table",
    "Signal & Co",
    "Skylark Travel",
    "Stratus Hosting",
    "Tessellate",
    "Upward Learning",
    "Volt Energy",
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

/// Which expenses: everything that the params say, except how many. `:except` is a list in JSON.
const MATCHING: &str = "date BETWEEN :from AND :to
    AND (:department IS NULL OR department = :department COLLATE NOCASE)
    AND (:category IS NULL OR category = :category COLLATE NOCASE)
    AND (:vendor IS NULL OR vendor = :vendor COLLATE NOCASE)
    AND (:least IS NULL OR amount_cents >= :least)
    AND (:most IS NULL OR amount_cents <= :most)
    AND NOT EXISTS (SELECT 1 FROM json_each(:except) WHERE value COLLATE NOCASE IN (department, category, vendor))";

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
    #[serde(flatten)]
    which: Which,
    sql: Option<String>,
    limit: Option<usize>,
}

/// The params that choose among the expenses of a period.
#[derive(Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
struct Which {
    department: Option<String>,
    category: Option<String>,
    vendor: Option<String>,
    /// Departments, categories and vendors.
    except: Vec<String>,
    min_amount: Option<Value>,
    max_amount: Option<Value>,
    sort: Option<Sort>,
}

/// The order of the rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Sort {
    Largest,
    Smallest,
    Latest,
    Oldest,
}

impl Sort {
    const fn name(self) -> &'static str {
        match self {
            Self::Largest => "largest",
            Self::Smallest => "smallest",
            Self::Latest => "latest",
            Self::Oldest => "oldest",
        }
    }

    const fn order(self) -> &'static str {
        match self {
            Self::Largest => "amount_cents DESC, date, entry",
            Self::Smallest => "amount_cents, date, entry",
            Self::Latest => "date DESC, entry DESC",
            Self::Oldest => "date, entry",
        }
    }
}

/// What is asked for, understood.
struct Filter {
    period: Period,
    which: Which,
    /// Bounds in cents.
    least: Option<i64>,
    most: Option<i64>,
    limit: Option<usize>,
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
        // A ledger of one's own has names of its own.
        let is_sample = self.ledger.is_sample();
        let one_of = |names: &[&[&str]], mut schema: Value| {
            if let Some(schema) = schema.as_object_mut().filter(|_| is_sample) {
                schema.insert("enum".to_owned(), names.concat().into());
            }
            schema
        };
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
                "department": one_of(&[DEPARTMENTS], json!({"type": "string", terms::KIND: "department", "description": "Only this department."})),
                "category": one_of(&[CATEGORIES], json!({"type": "string", terms::KIND: "category", "description": "Only this kind of expense."})),
                "vendor": one_of(&[VENDORS], json!({"type": "string", "description": "Only what this vendor was paid."})),
                "except": {
                    "type": "array", "maxItems": MAX_EXCEPT, terms::ROLE: terms::EXCEPT,
                    "items": one_of(&[DEPARTMENTS, CATEGORIES, VENDORS], json!({"type": "string"})),
                    "description": "Without these departments, categories and vendors.",
                },
                "min_amount": {"type": "number", terms::ROLE: terms::LEAST, "description": "Only expenses of at least this amount."},
                "max_amount": {"type": "number", terms::ROLE: terms::MOST, "description": "Only expenses of at most this amount."},
                "sort": {
                    "type": "string", "enum": [Sort::Largest.name(), Sort::Smallest.name(), Sort::Latest.name(), Sort::Oldest.name()],
                    "description": "Which expenses come first; the largest with 'limit', else the oldest.",
                },
                "limit": {
                    "type": "integer", "minimum": 1, "maximum": MAX_ROWS, terms::ROLE: terms::COUNT,
                    "description": "Only so many expenses: the first ones by 'sort'.",
                },
                "sql": {
                    "type": "string", "minLength": 1, "maxLength": 10_000, terms::KIND: "sql",
                    "description": "In place of all other params but 'limit': one SELECT on expenses (date, year, quarter, department, category, vendor, description, amount).",
                },
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
            "Looks up expenses in the finance database, by quarter, month, year, dates, department, category, vendor and amount, or with an SQL SELECT.",
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
                "Expenses for Q4 2024 excluding travel and meals",
                json!({"quarter": "Q4 2024", "except": ["Travel", "Meals"]}),
            ),
            example(
                "What did we pay Nimbus Cloud in 2024?",
                json!({"vendor": "Nimbus Cloud", "year": 2024}),
            ),
            example(
                "Which expenses of Sales were more than 5000 in 2024?",
                json!({"department": "Sales", "min_amount": 5000, "year": 2024}),
            ),
            example("Top 5 expenses of 2024", json!({"limit": 5, "year": 2024})),
            example(
                "The smallest 3 expenses of Engineering in 2025-06",
                json!({"sort": "smallest", "limit": 3, "department": "Engineering", "month": "2025-06"}),
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
    let invalid = |message: String| Failure::new(ErrorCode::InvalidParams, message);
    if let Some(sql) = &params.sql {
        let period = params.period.period(|_| Ok(0))?;
        if period != Period::All || params.which != Which::default() {
            return Err(
                invalid("'sql' stands in place of the other params".to_owned())
                    .hint("write the conditions into the statement"),
            );
        }
        let limit = params.limit.unwrap_or(MAX_ROWS).min(MAX_ROWS);
        return run_sql(reader, sql, limit, &ledger.source());
    }
    let failure = |error: rusqlite::Error| reader.failure(&error);
    let cents = |name: &str, amount: &Option<Value>| {
        let too_large = || invalid(format!("'{name}' is too large"));
        let amount = amount.as_ref();
        amount
            .map(|amount| cents_of(amount).ok_or_else(too_large))
            .transpose()
    };
    let filter = Filter {
        period: params
            .period
            .period(|quarter| latest_year(reader, quarter).map_err(failure))?,
        least: cents("min_amount", &params.which.min_amount)?,
        most: cents("max_amount", &params.which.max_amount)?,
        limit: params.limit,
        which: params.which,
    };
    if let Some(name) = unknown(reader, &filter).map_err(failure)? {
        return Err(invalid(format!(
            "the {} has no department, category or vendor '{name}' to leave out",
            ledger.source()
        )));
    }
    run_filter(reader, &filter, &ledger.source()).map_err(failure)
}

/// A name to leave out that is nobody's: leaving out nothing would be a wrong sum.
fn unknown(reader: &Reader, filter: &Filter) -> rusqlite::Result<Option<String>> {
    let sql = "SELECT value FROM json_each(?)
        WHERE NOT EXISTS (SELECT 1 FROM expenses WHERE value COLLATE NOCASE IN (department, category, vendor))";
    let found = |row: &Row<'_>| row.get(0);
    reader
        .connection
        .query_row(sql, [filter.except()], found)
        .optional()
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

impl Filter {
    /// Limited to some expenses, the largest are meant unless another order is named.
    fn sort(&self) -> Option<Sort> {
        self.which.sort.or(self.limit.and(Some(Sort::Largest)))
    }

    fn order(&self) -> &'static str {
        self.sort().unwrap_or(Sort::Oldest).order()
    }

    fn except(&self) -> String {
        Value::from(self.which.except.as_slice()).to_string()
    }

    /// The rows that a statement beginning with `select` finds among the chosen expenses of a period.
    fn rows<T>(
        &self,
        reader: &Reader,
        period: Period,
        (select, rest): (&str, &str),
        read: impl FnMut(&Row<'_>) -> rusqlite::Result<T>,
    ) -> rusqlite::Result<Vec<T>> {
        let description = if reader.has_column("description") {
            "description"
        } else {
            "NULL AS description"
        };
        let most = self.limit.map_or_else(String::new, |limit| {
            format!("ORDER BY {} LIMIT {limit}", self.order())
        });
        let mut statement = reader.connection.prepare(&format!(
            "SELECT {select} FROM (
                SELECT date, department, category, vendor, {description}, amount_cents, rowid AS entry
                FROM expenses WHERE {MATCHING} {most}) {rest}"
        ))?;
        let (from, to) = period.bounds();
        let which = &self.which;
        let rows = statement.query_map(
            named_params! {":from": from, ":to": to, ":department": which.department, ":category": which.category,
                ":vendor": which.vendor, ":least": self.least, ":most": self.most, ":except": self.except()},
            read,
        )?;
        rows.collect()
    }
}

fn run_filter(reader: &Reader, filter: &Filter, source: &str) -> rusqlite::Result<Value> {
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
    let mut result = json!({
        "text": text(reader, filter, &totals, &rows, source)?,
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
    source: &str,
) -> rusqlite::Result<String> {
    let which = filter.to_string();
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
            "There are no expenses{which}: the {source} {covered}."
        ));
    };
    let sort = filter.sort().map(Sort::name);
    if let ([only], 1) = (rows, totals.count) {
        let which_one = sort.unwrap_or("only");
        return Ok(format!("The {which_one} expense{which} is {}.", line(only)));
    }
    let count = thousands(totals.count.unsigned_abs());
    let order = filter
        .limit
        .and(sort)
        .map_or_else(String::new, |sort| format!("{sort} "));
    let mut text = format!(
        "{count} {order}expenses{which} add up to {}",
        dollars(totals.cents)
    );
    if filter.limit.is_some() {
        text.insert_str(0, "The ");
    } else if departments.len() > 1 {
        text += &format!(
            ", the largest part of it in {largest} ({})",
            dollars(*cents)
        );
    }
    if sort.is_some() || totals.count <= FEW {
        let lines: Vec<_> = rows.iter().take(NAMED).map(line).collect();
        let more = totals
            .count
            .saturating_sub(lines.len() as i64)
            .unsigned_abs();
        text = format!("{text}:\n{}", lines.join(";\n"));
        if more > 0 {
            text += &format!(";\nand {} more", thousands(more));
        }
    }
    Ok(text + ".")
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

/// As it follows "the expenses".
impl fmt::Display for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let which = &self.which;
        for (word, name) in [
            ("of", &which.department),
            ("on", &which.category),
            ("at", &which.vendor),
        ] {
            if let Some(name) = name {
                write!(f, " {word} {name}")?;
            }
        }
        for (word, cents) in [("at least", self.least), ("at most", self.most)] {
            if let Some(cents) = cents {
                write!(f, " of {word} {} each", dollars(cents))?;
            }
        }
        if !which.except.is_empty() {
            write!(f, " without {}", which.except.join(", "))?;
        }
        write!(f, " for {}", self.period)
    }
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
