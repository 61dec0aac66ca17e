//! Of which kind a param is: by its annotation, its schema, the values that the card shows, its name.
//!
//! Does not read queries.

use amcp_protocol::Schema;
use serde_json::Value;

use super::words::kind_word;

/// What sort of text or value a param wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// One of the schema's `enum`.
    Choice,
    Flag,
    Number,
    Date,
    DateTime,
    Time,
    Quarter,
    Month,
    Year,
    Ticker,
    Expression,
    Email,
    Url,
    Sql,
    /// A place, a person, a thing: a word or a few.
    Name,
    /// What something is about: a phrase.
    Topic,
    /// Whatever is left of the clause.
    Text,
    /// The clause itself, for somebody who plans with it.
    Request,
    /// A text or something larger, which words give only between quotes or after a colon.
    Content,
    /// Nothing that a query can say.
    Opaque,
}

pub(super) fn type_of(schema: &Value) -> Option<&str> {
    let kind = schema.get("type")?;
    match kind.as_array() {
        Some(kinds) => kinds
            .iter()
            .filter_map(Value::as_str)
            .find(|t| *t != "null"),
        None => kind.as_str(),
    }
}

/// The alternative of a schema that words can fill.
pub(super) fn variant(schema: &Value) -> &Value {
    ["anyOf", "oneOf"]
        .iter()
        .find_map(|k| schema.get(k)?.as_array())
        .and_then(|variants| {
            let fillable = |v: &&Value| {
                matches!(
                    type_of(v),
                    Some("string" | "integer" | "number" | "boolean")
                )
            };
            variants.iter().find(fillable)
        })
        .unwrap_or(schema)
}

/// The kind of a param with this schema and these words in its name.
pub(super) fn kind_of(
    (schema, annotation): (&Value, Option<&str>),
    words: &[String],
    judge: Option<&Schema>,
) -> Kind {
    if annotation == Some("content") {
        return content_kind(schema);
    }
    if let Some(kind) = annotation.and_then(annotated_kind) {
        return kind;
    }
    if schema.get("enum").is_some() {
        return Kind::Choice;
    }
    let last = words.last().map_or("", String::as_str);
    match type_of(schema) {
        Some("boolean") => return Kind::Flag,
        Some("integer" | "number") if last == "year" => return Kind::Year,
        Some("integer" | "number") => return Kind::Number,
        Some("object" | "array" | "null") => return Kind::Opaque,
        None if is_composed(schema) => return Kind::Opaque,
        _ => {}
    }
    let by_format = match schema.get("format").and_then(Value::as_str) {
        Some("date") => Some(Kind::Date),
        Some("date-time") => Some(Kind::DateTime),
        Some("time") => Some(Kind::Time),
        Some("email" | "idn-email") => Some(Kind::Email),
        Some("uri" | "url" | "iri") => Some(Kind::Url),
        _ => None,
    };
    let by_pattern = || schema.get("pattern").and_then(|_| pattern_kind(judge?));
    by_format
        .or_else(by_pattern)
        .or_else(|| {
            words
                .iter()
                .rev()
                .find_map(|w| annotated_kind(kind_word(w)?))
        })
        .unwrap_or(Kind::Name)
}

fn content_kind(schema: &Value) -> Kind {
    if type_of(schema) == Some("string") {
        Kind::Content
    } else {
        Kind::Opaque
    }
}

/// Whether a schema consists of others, none of which words can fill.
fn is_composed(schema: &Value) -> bool {
    ["anyOf", "oneOf", "allOf", "$ref"]
        .iter()
        .any(|key| schema.get(key).is_some())
}

fn annotated_kind(kind: &str) -> Option<Kind> {
    Some(match kind {
        "city" | "name" | "place" | "person" | "language" | "country" => Kind::Name,
        "quarter" => Kind::Quarter,
        "ticker" => Kind::Ticker,
        "expression" => Kind::Expression,
        "topic" | "title" => Kind::Topic,
        "text" | "query" => Kind::Text,
        "request" => Kind::Request,
        "sql" => Kind::Sql,
        "date" => Kind::Date,
        "datetime" => Kind::DateTime,
        "time" => Kind::Time,
        "month" => Kind::Month,
        "year" => Kind::Year,
        "email" => Kind::Email,
        "url" => Kind::Url,
        "content" => Kind::Content,
        _ => return None,
    })
}

/// What a pattern lets through, found by trying.
fn pattern_kind(judge: &Schema) -> Option<Kind> {
    let accepts = |text: &str| judge.is_valid(&Value::from(text));
    if ["some words", "x y z", "ABCD1234", "2024X9"]
        .iter()
        .any(|text| accepts(text))
    {
        return None;
    }
    let probes: [(&[&str], Kind); 6] = [
        (&["Q4 2024", "2024-Q4", "2024Q4", "Q4-2024"], Kind::Quarter),
        (&["2024-11-30"], Kind::Date),
        (&["2024-11"], Kind::Month),
        (&["15:30"], Kind::Time),
        (&["someone@example.com"], Kind::Email),
        (&["AAPL"], Kind::Ticker),
    ];
    // A ticker's pattern that lets other words through is a name's.
    let kind = probes
        .iter()
        .find(|(texts, _)| texts.iter().any(|t| accepts(t)))?
        .1;
    (kind != Kind::Ticker || !accepts("Wonderful")).then_some(kind)
}
