//! Reads from a JSON Schema whether a place exists and which JSON type it has.
//!
//! Does not judge values; [`amcp_protocol::Schema`] does.

use std::borrow::Cow;

use serde_json::Value;

/// Keywords that may describe a place beside `properties` and `items`.
const ELSEWHERE: &[&str] = &[
    "$ref",
    "$dynamicRef",
    "allOf",
    "anyOf",
    "oneOf",
    "if",
    "not",
    "patternProperties",
    "dependentSchemas",
];

/// A place according to a schema.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Place<'s> {
    /// The schema describes it.
    Described(&'s Value),
    /// It may exist or not.
    Open,
    /// It does not exist: we take a list of properties as complete.
    Absent,
}

/// Finds the place of a JSON pointer.
pub(super) fn place<'s>(schema: &'s Value, pointer: &str) -> Place<'s> {
    let mut at = schema;
    for token in pointer.split('/').skip(1) {
        match step(at, &unescape(token)) {
            Place::Described(next) => at = next,
            end @ (Place::Open | Place::Absent) => return end,
        }
    }
    match at.as_bool() {
        Some(true) => Place::Open,
        Some(false) => Place::Absent,
        None => Place::Described(at),
    }
}

fn step<'s>(schema: &'s Value, token: &str) -> Place<'s> {
    let Some(rules) = schema.as_object() else {
        return if schema == &Value::Bool(false) {
            Place::Absent
        } else {
            Place::Open
        };
    };
    let may_be = |kind| names(schema, kind).unwrap_or(true);
    if may_be("object") {
        let properties = rules.get("properties").and_then(Value::as_object);
        if let Some(property) = properties.and_then(|properties| properties.get(token)) {
            return Place::Described(property);
        }
        match rules.get("additionalProperties") {
            Some(Value::Bool(true)) => return Place::Open,
            Some(rest @ Value::Object(_)) => return Place::Described(rest),
            None if properties.is_none() => return Place::Open,
            _ => {}
        }
    }
    if let (true, Ok(index)) = (may_be("array"), token.parse::<usize>()) {
        let prefix = rules.get("prefixItems").and_then(|items| items.get(index));
        return match prefix.or_else(|| rules.get("items")) {
            Some(item) => Place::Described(item),
            None => Place::Open,
        };
    }
    if ELSEWHERE.iter().any(|keyword| rules.contains_key(*keyword)) {
        Place::Open
    } else {
        Place::Absent
    }
}

/// Whether a schema names the JSON type; `None` when it names none at all.
pub(super) fn names(schema: &Value, kind: &str) -> Option<bool> {
    match schema.get("type")? {
        Value::String(one) => Some(one == kind),
        Value::Array(several) => Some(several.iter().any(|one| one == kind)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => None,
    }
}

/// The JSON types that a schema names.
pub(super) fn types(schema: &Value) -> Vec<&str> {
    match schema.get("type") {
        Some(Value::String(one)) => vec![one],
        Some(Value::Array(several)) => several.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    }
}

/// Whether the types of the two schemas exclude a value that fits both.
pub(super) fn clash(one: &Value, other: &Value) -> bool {
    const KINDS: [&str; 7] = [
        "object", "array", "string", "number", "integer", "boolean", "null",
    ];
    let is_number =
        |schema| names(schema, "number") == Some(true) || names(schema, "integer") == Some(true);
    one.get("type").is_some()
        && other.get("type").is_some()
        && !KINDS
            .iter()
            .any(|kind| names(one, kind) != Some(false) && names(other, kind) != Some(false))
        && !(is_number(one) && is_number(other))
}

/// Whether the JSON type of a value is among those that the schema names.
pub(super) fn admits(schema: &Value, value: &Value) -> bool {
    let admits = |kind| names(schema, kind).unwrap_or(true);
    match value {
        Value::Null => admits("null"),
        Value::Bool(_) => admits("boolean"),
        Value::Number(number) => admits("number") || (!number.is_f64() && admits("integer")),
        Value::String(_) => admits("string"),
        Value::Array(_) => admits("array"),
        Value::Object(_) => admits("object"),
    }
}

/// The schema's properties, as JSON pointers.
pub(super) fn pointers(schema: &Value) -> impl Iterator<Item = String> {
    schema
        .get("properties")
        .and_then(Value::as_object)
        .into_iter()
        .flat_map(|properties| properties.keys())
        .map(|name| format!("/{}", escape(name)))
}

/// Whether the schema forbids properties that it does not list.
pub(super) fn is_closed(schema: &Value) -> bool {
    let refuses = |keyword| schema.get(keyword) == Some(&Value::Bool(false));
    (refuses("additionalProperties") || refuses("unevaluatedProperties"))
        && !ELSEWHERE
            .iter()
            .filter(|keyword| !matches!(**keyword, "if" | "not"))
            .any(|keyword| mentions_properties(schema.get(*keyword)))
}

/// `anyOf: [{"required": […]}]` adds no property; `patternProperties` does.
fn mentions_properties(rule: Option<&Value>) -> bool {
    match rule {
        None => false,
        Some(Value::Array(branches)) => branches
            .iter()
            .any(|branch| branch.get("properties").is_some() || branch.get("$ref").is_some()),
        Some(_) => true,
    }
}

/// A name as a token of a JSON pointer.
pub(super) fn escape(name: &str) -> Cow<'_, str> {
    if name.contains(['~', '/']) {
        Cow::Owned(name.replace('~', "~0").replace('/', "~1"))
    } else {
        Cow::Borrowed(name)
    }
}

/// A token of a JSON pointer as the name that it stands for.
pub(super) fn unescape(token: &str) -> Cow<'_, str> {
    if token.contains('~') {
        Cow::Owned(token.replace("~1", "/").replace("~0", "~"))
    } else {
        Cow::Borrowed(token)
    }
}

/// A JSON pointer in dotted form: `/rows/0/amount` is `.rows[0].amount`.
pub(super) fn dotted(pointer: &str) -> String {
    pointer
        .split('/')
        .skip(1)
        .fold(String::new(), |path, token| {
            if token.bytes().all(|b| b.is_ascii_digit()) && !token.is_empty() {
                format!("{path}[{token}]")
            } else {
                format!("{path}.{}", unescape(token))
            }
        })
}
