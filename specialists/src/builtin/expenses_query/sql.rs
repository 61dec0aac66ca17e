//! A SELECT that the user wrote.
//!
//! Does not judge it: the ledger's reader refuses everything that does not only read.

use amcp_protocol::Failure;
use rusqlite::types::ValueRef;
use rusqlite::{Row, Statement};
use serde_json::{Map, Value, json};

use super::super::ledger::Reader;
use super::super::money::thousands;
use super::{MAX_ROW_BYTES, listed};

/// The result of the task.
pub(super) fn answer(
    reader: &Reader,
    sql: &str,
    limit: usize,
    source: &str,
) -> Result<Value, Failure> {
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
    let heading = match (found.len(), truncated) {
        (0, _) => "The query found no rows".to_owned(),
        (1, false) => "The query found one row".to_owned(),
        (count, false) => format!("The query found {} rows", thousands(count as u64)),
        (count, true) => format!("The query found more than {} rows", thousands(count as u64)),
    };
    let text = if found.is_empty() {
        heading + "."
    } else {
        listed(&heading, found.iter().map(line), found.len())
    };
    Ok(json!({
        "text": text, "period": "SQL query", "scope": "rows that the SELECT found", "source": source, "count": found.len(), "truncated": truncated, "rows": found,
    }))
}

/// The beginning of a row for people.
fn line(row: &Value) -> String {
    let shown = |value: &Value| {
        value
            .as_str()
            .map_or_else(|| value.to_string(), |text| text.chars().take(60).collect())
    };
    let fields = row.as_object().into_iter().flatten().take(6);
    let fields: Vec<_> = fields
        .map(|(name, value)| format!("{name} is {}", shown(value)))
        .collect();
    fields.join(", ")
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
