//! `finance.db.query`: expenses out of the ledger.
//!
//! Does not judge them; it adds up only what the analysis needs of the period before.

mod filter;
mod sql;
mod sums;

use std::path::Path;
use std::time::Duration;

use amcp_protocol::{AgentCard, ErrorCode, Failure};
use async_trait::async_trait;
use serde::Deserialize;
use serde_json::Value;
use tokio::sync::Semaphore;

use self::filter::{Filter, Which};
use super::ledger::{self, Ledger, Reader};
use super::money::{cents_of, thousands};
use super::period::{Period, PeriodParams};
use crate::specialist::{Context, Specialist, Task};

pub(super) const AGENT: &str = "finance-db-1";

/// Most rows of a result: more than the sample has, and less than a message should carry.
const MAX_ROWS: usize = 5_000;
/// Most bytes of a result's rows, as far as they are counted: rows of a ledger of one's own may be wide.
const MAX_ROW_BYTES: usize = 1_000_000;
/// How long a statement may take: the sample needs milliseconds.
const MAX_TIME: Duration = Duration::from_secs(10);
/// Most rows that the text names: what a person reads in a terminal.
const NAMED: usize = 10;

/// Places of queries, which block a thread each. The process has one set of them: a query that was given up keeps its
/// place until it has really ended, also when the agent was started anew meanwhile.
static PLACES: Semaphore = Semaphore::const_new(MAX_QUERIES);
/// Twice the tasks that the agent takes at a time: those that were given up end soon.
const MAX_QUERIES: usize = 8;

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

/// Only the sample's names are known beforehand.
fn forget_names(card: &mut AgentCard) {
    let mut capabilities = card.capabilities.to_vec();
    for capability in &mut capabilities {
        for param in ["department", "category", "vendor", "except/items"] {
            let schema = capability
                .params
                .pointer_mut(&format!("/properties/{param}"));
            if let Some(schema) = schema.and_then(Value::as_object_mut) {
                schema.shift_remove("enum");
            }
        }
    }
    card.capabilities = capabilities.into();
}

impl ExpensesQuery {
    pub(super) fn new(data_dir: &Path) -> Self {
        Self {
            ledger: Ledger::new(data_dir),
            max_time: MAX_TIME,
            places: &PLACES,
        }
    }
}

#[async_trait]
impl Specialist for ExpensesQuery {
    fn card(&self) -> AgentCard {
        let mut card = super::card(AGENT);
        if !self.ledger.is_sample() {
            forget_names(&mut card);
        }
        card
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
        return sql::answer(reader, sql, limit, &ledger.source());
    }
    let failure = |error: rusqlite::Error| {
        ledger::crowded_out(&error).unwrap_or_else(|| reader.failure(&error))
    };
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
    if let Some(name) = filter::unknown(reader, &filter).map_err(failure)? {
        return Err(invalid(format!(
            "the {} has no department, category or vendor '{name}' to leave out",
            ledger.source()
        )));
    }
    sums::answer(reader, &filter, &ledger.source()).map_err(failure)
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

/// The text of some rows, of which there are `count`.
fn listed(heading: &str, lines: impl Iterator<Item = String>, count: usize) -> String {
    let lines: Vec<_> = lines.take(NAMED).collect();
    let break_or_space = if count == 1 { ' ' } else { '\n' };
    let mut text = format!("{heading}:{break_or_space}{}", lines.join(";\n"));
    let more = count.saturating_sub(lines.len());
    if more > 0 {
        text += &format!(";\nand {} more", thousands(more as u64));
    }
    text + "."
}

#[cfg(test)]
mod tests;
