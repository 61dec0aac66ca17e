//! Writes any JSON value as text: sentences of labels and values, short tables; never braces.
//!
//! Does not know what the values mean.

use serde_json::{Map, Value};

/// Most rows of a table: they fit on a screen beside the rest of an answer.
const MAX_ROWS: usize = 8;
/// Most columns of a table.
const MAX_COLUMNS: usize = 6;
/// Most fields of an object.
const MAX_FIELDS: usize = 12;
/// Most items of a plain list.
const MAX_ITEMS: usize = 10;
/// Longest text of one cell, in characters.
const MAX_CELL: usize = 80;
/// Most levels of nesting.
const MAX_DEPTH: usize = 3;

/// A value as text; empty for an empty value.
pub(super) fn readable(value: &Value) -> String {
    at_depth(value, 0)
}

fn at_depth(value: &Value, depth: usize) -> String {
    match value {
        Value::Object(map) => fields(map, depth),
        Value::Array(items) if items.iter().all(Value::is_object) && !items.is_empty() => {
            table(items)
        }
        Value::Array(items) => list(items, depth),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => scalar(value),
    }
}

/// A value other than a collection, in words.
pub(super) fn scalar(value: &Value) -> String {
    match value {
        Value::Null | Value::Array(_) | Value::Object(_) => String::new(),
        Value::Bool(true) => "yes".to_owned(),
        Value::Bool(false) => "no".to_owned(),
        Value::Number(number) => number.to_string(),
        Value::String(text) => text.trim().to_owned(),
    }
}

/// A field's name in words: `due_date` is "Due date".
pub(super) fn label(name: &str) -> String {
    let words = name.replace(['_', '-', '.'], " ");
    let mut letters = words.trim().chars();
    letters.next().map_or_else(String::new, |first| {
        first.to_uppercase().chain(letters).collect()
    })
}

fn fields(map: &Map<String, Value>, depth: usize) -> String {
    if depth >= MAX_DEPTH {
        return counted(map.len(), "field");
    }
    let mut lines: Vec<String> = Vec::new();
    let mut hidden = 0;
    for (name, value) in map {
        let text = at_depth(value, depth + 1);
        if text.is_empty() {
            continue;
        }
        if lines.len() == MAX_FIELDS {
            hidden += 1;
            continue;
        }
        let nested = value.is_object() || text.contains('\n');
        let separator = if nested { ":\n" } else { ": " };
        lines.push(format!("{}{separator}{text}", label(name)));
    }
    if hidden > 0 {
        lines.push(format!("… and {}", counted(hidden, "more field")));
    }
    lines.join("\n")
}

fn list(items: &[Value], depth: usize) -> String {
    if depth >= MAX_DEPTH {
        return counted(items.len(), "item");
    }
    let shown: Vec<String> = items
        .iter()
        .take(MAX_ITEMS)
        .map(|item| {
            if item.is_array() || item.is_object() {
                at_depth(item, depth + 1).replace('\n', ", ")
            } else {
                scalar(item)
            }
        })
        .filter(|text| !text.is_empty())
        .collect();
    let more = items.len().saturating_sub(MAX_ITEMS);
    let rest = if more > 0 {
        format!(" … and {more} more")
    } else {
        String::new()
    };
    shown.join(", ") + &rest
}

fn table(rows: &[Value]) -> String {
    let mut columns: Vec<&String> = Vec::new();
    for row in rows.iter().take(MAX_ROWS).filter_map(Value::as_object) {
        for (name, value) in row {
            let fits = columns.len() < MAX_COLUMNS && !columns.contains(&name);
            if fits && !scalar(value).is_empty() {
                columns.push(name);
            }
        }
    }
    if columns.is_empty() {
        return counted(rows.len(), "row");
    }
    let head: Vec<String> = columns.iter().map(|name| label(name)).collect();
    let mut lines = vec![head.join(" | ")];
    for row in rows.iter().take(MAX_ROWS) {
        let cell = |name: &&String| {
            row.get(name.as_str())
                .map_or_else(String::new, |v| cut(&scalar(v), MAX_CELL))
        };
        lines.push(columns.iter().map(cell).collect::<Vec<_>>().join(" | "));
    }
    let more = rows.len().saturating_sub(MAX_ROWS);
    if more > 0 {
        lines.push(format!("… and {}", counted(more, "more row")));
    }
    lines.join("\n")
}

fn counted(count: usize, noun: &str) -> String {
    let s = if count == 1 { "" } else { "s" };
    format!("{count} {noun}{s}")
}

/// The beginning of a text.
pub(super) fn cut(text: &str, most: usize) -> String {
    match text.char_indices().nth(most) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default().trim_end()),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn objects_lists_and_tables_are_read_as_such() {
        let value = json!({
            "due_date": "2025-05-03", "open": true, "nothing": null, "tags": ["a", "b"],
            "rows": [{"name": "Sales", "total": 12.5}, {"name": "IT", "total": 3, "extra": "x"}],
            "where": {"city": "Paris"},
        });
        assert_eq!(
            readable(&value),
            "Due date: 2025-05-03\nOpen: yes\nTags: a, b\nRows:\nName | Total | Extra\nSales | 12.5 | \nIT | 3 | x\nWhere:\nCity: Paris"
        );
    }

    #[test]
    fn long_tables_are_cut_with_a_count() {
        let rows: Vec<Value> = (0..100).map(|i| json!({"n": i})).collect();
        let text = readable(&Value::from(rows));
        assert!(text.ends_with("\n7\n… and 92 more rows"), "{text}");
    }

    fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i32>().prop_map(Value::from),
            "[a-z ]{0,12}".prop_map(Value::from),
        ];
        leaf.prop_recursive(6, 64, 8, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..20).prop_map(Value::from),
                prop::collection::btree_map("[a-z_]{1,6}", inner, 0..20)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn invariant_nothing_looks_like_json_and_all_is_bounded(value in any_json()) {
            let text = readable(&value);
            prop_assert!(!text.contains(['{', '}', '[', ']', '"']), "{}", text);
            prop_assert!(text.len() < 100_000);
        }
    }
}
