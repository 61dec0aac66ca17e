//! Reads in a JSON Schema what it says about a place: whether it exists, and of which JSON type it is.
//!
//! Does not judge values; [`amcp_protocol::Schema`] does.

use std::borrow::Cow;

use serde_json::Value;

/// Keywords that may say more about a place than `properties` and `items` do.
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

/// What a schema says about a place.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Place<'s> {
    /// It is described.
    Described(&'s Value),
    /// It may be there or not.
    Open,
    /// It is certainly not there: a schema that lists properties is taken at its word.
    Absent,
}

/// Looks a JSON pointer up.
pub(super) fn place<'s>(schema: &'s Value, pointer: &str) -> Place<'s> {
    let mut at = schema;
    for token in pointer.split('/').skip(1) {
        match step(at, &token.replace("~1", "/").replace("~0", "~")) {
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
    let may_be = |kind| types(schema).is_none_or(|types| types.contains(&kind));
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

/// The JSON types that a schema names; `None` when it names none.
pub(super) fn types(schema: &Value) -> Option<Vec<&str>> {
    match schema.get("type")? {
        Value::String(one) => Some(vec![one]),
        Value::Array(several) => several.iter().map(Value::as_str).collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => None,
    }
}

/// Whether no value that keeps the one schema can keep the other, judged by their types alone.
pub(super) fn clash<'s>(one: &'s Value, other: &'s Value) -> Option<(Vec<&'s str>, Vec<&'s str>)> {
    let (one, other) = (types(one)?, types(other)?);
    let is_number = |kind: &&str| matches!(*kind, "number" | "integer");
    let meet = one.iter().any(|kind| other.contains(kind))
        || (one.iter().any(is_number) && other.iter().any(is_number));
    (!meet).then_some((one, other))
}

/// Whether the JSON type of a value is among those that the schema names.
pub(super) fn admits(schema: &Value, value: &Value) -> bool {
    let Some(types) = types(schema) else {
        return true;
    };
    let kind = match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() => "number",
        Value::Number(_) => return types.contains(&"integer") || types.contains(&"number"),
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    types.contains(&kind)
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

/// Whether an object of this schema may have no other properties than those listed.
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

/// A JSON pointer as people write it: `/rows/0/amount` is `.rows[0].amount`.
pub(super) fn dotted(pointer: &str) -> String {
    pointer
        .split('/')
        .skip(1)
        .fold(String::new(), |path, token| {
            if token.bytes().all(|b| b.is_ascii_digit()) && !token.is_empty() {
                format!("{path}[{token}]")
            } else {
                format!("{path}.{}", token.replace("~1", "/").replace("~0", "~"))
            }
        })
}
