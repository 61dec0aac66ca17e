//! JSON that travels: text that becomes a value on first use.
//!
//! Bounds no size: the receiver of a payload does. `serde_json` bounds the depth, at 128 levels.

use std::borrow::Cow;
use std::fmt;
use std::ops::Deref;
use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::de::{MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de, ser};
use serde_json::Value;

/// Params or a result: shared by its clones, never changed, read like the [`Value`] that it is.
///
/// In text formats it is its value. Binary formats such as bincode cannot read a value (that needs a self-describing format):
/// there a payload is its JSON text in bytes.
#[derive(Clone)]
pub struct Payload(Arc<Forms>);

struct Forms {
    value: OnceLock<Value>,
    /// Dropped once there is a value: nodes keep answers for long, and a large result should not be in memory twice.
    text: Mutex<Option<Arc<[u8]>>>,
    size: usize,
}

impl Forms {
    fn parsed(&self) -> Value {
        let text = self.text.lock().take().unwrap_or_default();
        serde_json::from_slice(&text).expect("it was read once, when the payload was made")
    }
}

impl Payload {
    /// A payload of one JSON text. Builds no value.
    ///
    /// # Errors
    /// `serde_json`'s error, for any text that it would not read as a value.
    pub fn from_json(text: &[u8]) -> Result<Self, serde_json::Error> {
        let Size(size) = serde_json::from_slice(text)?;
        Ok(Self(Arc::new(Forms {
            value: OnceLock::new(),
            text: Mutex::new(Some(text.into())),
            size,
        })))
    }

    /// The JSON text: the original before the value's first use, a new one after it.
    #[must_use]
    pub fn text(&self) -> Arc<[u8]> {
        let text = self.0.text.lock().clone();
        text.unwrap_or_else(|| {
            let mut text = Vec::new();
            self.write_to(&mut text);
            text.into()
        })
    }

    /// Appends the JSON text.
    pub fn write_to(&self, out: &mut Vec<u8>) {
        let text = self.0.text.lock().clone();
        match text {
            Some(text) => out.extend_from_slice(&text),
            None => serde_json::to_writer(out, &**self).expect("a value has only texts as names"),
        }
    }

    /// The estimated length of the JSON in bytes, as [`size`] counts it: the same for text and value.
    #[must_use]
    pub fn size(&self) -> usize {
        self.0.size
    }

    /// The value for its last owner; a copy while others share it.
    #[must_use]
    pub fn into_value(mut self) -> Value {
        // Makes the value where there is none yet.
        let _ = &*self;
        let owned = Arc::get_mut(&mut self.0).and_then(|forms| forms.value.take());
        owned.unwrap_or_else(|| self.deref().clone())
    }
}

impl Deref for Payload {
    type Target = Value;

    fn deref(&self) -> &Value {
        self.0.value.get_or_init(|| self.0.parsed())
    }
}

impl From<Value> for Payload {
    fn from(value: Value) -> Self {
        Self(Arc::new(Forms {
            size: size(&value, usize::MAX).unwrap_or(usize::MAX),
            value: OnceLock::from(value),
            text: Mutex::new(None),
        }))
    }
}

impl fmt::Debug for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

impl PartialEq for Payload {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0) || **self == **other
    }
}

impl PartialEq<Value> for Payload {
    fn eq(&self, other: &Value) -> bool {
        **self == *other
    }
}

impl JsonSchema for Payload {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Payload".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        true.into()
    }
}

impl Serialize for Payload {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            (**self).serialize(serializer)
        } else {
            serializer.serialize_bytes(&self.text())
        }
    }
}

impl<'de> Deserialize<'de> for Payload {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            Value::deserialize(deserializer).map(Self::from)
        } else {
            deserializer.deserialize_bytes(Text)
        }
    }
}

/// Reads the bytes in place: as a sequence of numbers, serde would copy them one by one.
struct Text;

impl Visitor<'_> for Text {
    type Value = Payload;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the bytes of a JSON text")
    }

    fn visit_bytes<E: de::Error>(self, bytes: &[u8]) -> Result<Payload, E> {
        Payload::from_json(bytes).map_err(E::custom)
    }
}

/// Serialises a plain value like a [`Payload`]: `#[serde(with = "payload")]`.
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
/// Those of the deserializer, and of JSON in the bytes.
pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Value, D::Error> {
    Payload::deserialize(deserializer).map(Payload::into_value)
}

/// The estimated length of a value's JSON in bytes, or none past `most`: it leaves out escapes and estimates digits. Writing
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

/// The [`size`] of a JSON text. Reads the text like a value, with the same errors; `IgnoredAny` would accept bad escapes,
/// numbers out of range and any depth.
struct Size(usize);

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Sizes).map(Size)
    }
}

struct Sizes;

impl<'de> Visitor<'de> for Sizes {
    type Value = usize;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<usize, E> {
        Ok(4)
    }

    fn visit_bool<E>(self, _: bool) -> Result<usize, E> {
        Ok(4)
    }

    fn visit_i64<E>(self, _: i64) -> Result<usize, E> {
        Ok(8)
    }

    fn visit_u64<E>(self, _: u64) -> Result<usize, E> {
        Ok(8)
    }

    fn visit_f64<E>(self, _: f64) -> Result<usize, E> {
        Ok(8)
    }

    fn visit_str<E>(self, text: &str) -> Result<usize, E> {
        Ok(text.len() + 2)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<usize, A::Error> {
        let mut size = 2;
        while let Some(Size(item)) = items.next_element()? {
            size += item + 1;
        }
        Ok(size)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<usize, A::Error> {
        let mut size = 2;
        while let Some((Name(name), Size(value))) = members.next_entry()? {
            size += name + value + 2;
        }
        Ok(size)
    }
}

/// The size of a member's name.
struct Name(usize);

impl<'de> Deserialize<'de> for Name {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(Names)
    }
}

struct Names;

impl Visitor<'_> for Names {
    type Value = Name;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }

    /// With features that other crates may switch on, `serde_json` reads objects with its own reserved names as raw text or numbers.
    fn visit_str<E: de::Error>(self, name: &str) -> Result<Name, E> {
        if name.starts_with("$serde_json::") {
            return Err(E::custom(format_args!("the name '{name:.80}' is reserved")));
        }
        Ok(Name(name.len() + 2))
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

    #[test]
    fn text_and_value_are_one_payload_of_one_size() {
        for value in [
            json!(null),
            json!({"a": [1, -2, 2.5, true, "\u{1F600}\n\""], "empty": {}, "none": [null, []]}),
        ] {
            let made = Payload::from(value.clone());
            let text = value.to_string();
            let read = Payload::from_json(text.as_bytes()).unwrap();
            assert_eq!((made.size(), made.text()), (read.size(), read.text()));
            assert_eq!(read, made);
            assert_eq!(made.text(), read.text(), "written anew");
            assert_eq!(read, value);
            assert_eq!(serde_json::to_string(&read).unwrap(), text);
            assert_eq!(serde_json::from_str::<Payload>(&text).unwrap(), made);
            assert_eq!(read.clone().into_value(), value, "shared");
            assert_eq!(read.into_value(), value, "the last owner");
            let read = Payload::from_json(text.as_bytes()).unwrap();
            let shared = read.clone();
            let texts = [read.text(), shared.text()];
            assert!(Arc::ptr_eq(&texts[0], &texts[1]), "as it came");
            assert_eq!(read.into_value(), value, "never looked at");
            assert!(shared.0.text.lock().is_none(), "no text beside the value");
        }
    }

    #[test]
    fn a_name_with_which_serde_json_marks_raw_text_is_refused() {
        for name in ["RawValue", "Number"] {
            let text = format!(r#"[{{"$serde_json::private::{name}": 0}}]"#);
            assert!(Payload::from_json(text.as_bytes()).is_err());
        }
    }

    /// A payload that was accepted must parse later, when no caller can refuse it any more.
    #[test]
    fn what_is_no_value_is_no_payload() {
        let deep = |levels: usize| "[".repeat(levels) + &"]".repeat(levels);
        for text in [
            "",
            "{",
            "1 2",
            "nul",
            "1e999",
            r#""\ud800""#,
            r#"{"a" 1}"#,
            "{1:2}",
            "\"\n\"",
            &deep(127),
            &deep(128),
            &deep(100_000),
            "[1,[2,{\"a\":-0.5e3}]]",
        ] {
            let value = serde_json::from_str::<Value>(text);
            let payload = Payload::from_json(text.as_bytes());
            assert_eq!(payload.is_ok(), value.is_ok(), "{text:.20}");
            if let (Ok(payload), Ok(value)) = (payload, value) {
                assert_eq!(payload, value);
            }
        }
        assert!(Payload::from_json(b"\"\xff\"").is_err());
    }
}
