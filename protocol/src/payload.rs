//! JSON values that travel as bytes where the format is binary, and how large they are.
//!
//! Binary formats such as bincode cannot read a `serde_json::Value` (it needs a self-describing format), so there a
//! value is its JSON text in bytes, parsed where it is used. Use with `#[serde(with = "payload")]`.

use std::fmt;

use serde::de::Visitor;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de, ser};
use serde_json::Value;

/// Serialises a value: as itself in text formats, as the bytes of its JSON in binary ones.
///
/// # Errors
/// Those of the serializer.
pub fn serialize<S: Serializer>(value: &Value, serializer: S) -> Result<S::Ok, S::Error> {
    if serializer.is_human_readable() {
        value.serialize(serializer)
    } else {
        serializer.serialize_bytes(&serde_json::to_vec(value).map_err(ser::Error::custom)?)
    }
}

/// Reads what [`serialize`] wrote.
///
/// # Errors
/// Those of the deserializer, and JSON syntax errors in the bytes.
pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Value, D::Error> {
    if deserializer.is_human_readable() {
        Value::deserialize(deserializer)
    } else {
        deserializer.deserialize_bytes(Json)
    }
}

/// The estimated length of a value's JSON in bytes, or none past `most`: without escapes, and with digits not exact. Writing
/// the JSON out for the exact length costs several times as much.
#[must_use]
pub fn size(value: &Value, most: usize) -> Option<usize> {
    let left = take(value, most)?;
    Some(most - left)
}

/// The rest of `left` bytes after a value, or none if they do not suffice.
fn take(value: &Value, left: usize) -> Option<usize> {
    match value {
        Value::Null | Value::Bool(_) => left.checked_sub(4),
        Value::Number(_) => left.checked_sub(8),
        Value::String(text) => left.checked_sub(text.len() + 2),
        Value::Array(items) => {
            let left = left.checked_sub(items.len() + 2);
            items.iter().try_fold(left?, |left, item| take(item, left))
        }
        Value::Object(members) => {
            let mut members = members.iter();
            members.try_fold(left.checked_sub(2)?, |left, (name, value)| {
                take(value, left.checked_sub(name.len() + 4)?)
            })
        }
    }
}

/// Reads the bytes where they are: as a sequence of numbers they would be copied one by one.
struct Json;

impl Visitor<'_> for Json {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the bytes of a JSON text")
    }

    fn visit_bytes<E: de::Error>(self, bytes: &[u8]) -> Result<Value, E> {
        serde_json::from_slice(bytes).map_err(E::custom)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_size_is_about_that_of_the_json_and_a_bound_is_kept() {
        for value in [
            json!(null),
            json!({"a": [1, true, "text"], "empty": {}, "number": 12345678}),
            json!([[], {"name": "a".repeat(1_000)}]),
        ] {
            let exact = value.to_string().len();
            let size = size(&value, usize::MAX).unwrap();
            assert!(size.abs_diff(exact) < 20, "{size} for {exact}: {value}");
            assert_eq!(super::size(&value, size), Some(size));
            assert_eq!(super::size(&value, size - 1), None);
        }
    }
}
