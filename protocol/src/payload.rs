//! JSON values that travel as bytes where the format is binary.
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
