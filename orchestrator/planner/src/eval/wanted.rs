//! Which values of a param are right.
//!
//! Does not know what became of a value that is wrong.

use serde_json::{Map, Value};

/// The values that are right for a param.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Wanted {
    /// This one; texts are compared as [`plain`].
    Exactly(Value),
    /// Any of these: `{"any_of": […]}`.
    AnyOf(Vec<Self>),
    /// This, or that the param is not set: `{"optional": …}`.
    Optional(Box<Self>),
    /// `{"contains": […], "without": […]}`: a text that contains every text of the first list and no text of the second.
    Text {
        contains: Vec<String>,
        without: Vec<String>,
    },
}

impl Wanted {
    /// Reads what a case wants. An object that has none of the words above stands for itself.
    ///
    /// # Errors
    /// A word has a value of a wrong kind, or stands beside another.
    pub(super) fn read(value: &Value) -> Result<Self, String> {
        let Some(map) = value.as_object() else {
            return Ok(Self::Exactly(value.clone()));
        };
        let alone = |word: &str| match map.len() {
            1 => Ok(()),
            _ => Err(format!("nothing may stand beside '{word}'")),
        };
        if let Some(options) = map.get("any_of") {
            alone("any_of")?;
            let options = options.as_array().filter(|options| !options.is_empty());
            let options = options.ok_or("'any_of' needs a list of values")?;
            let options = options.iter().map(Self::read).collect::<Result<_, _>>()?;
            return Ok(Self::AnyOf(options));
        }
        if let Some(wanted) = map.get("optional") {
            alone("optional")?;
            return Ok(Self::Optional(Box::new(Self::read(wanted)?)));
        }
        if map.contains_key("contains") || map.contains_key("without") {
            let known = |key: &String| matches!(key.as_str(), "contains" | "without");
            if let Some(other) = map.keys().find(|key| !known(key)) {
                return Err(format!(
                    "'{other}' may not stand beside 'contains' and 'without'"
                ));
            }
            return Ok(Self::Text {
                contains: texts(map, "contains")?,
                without: texts(map, "without")?,
            });
        }
        Ok(Self::Exactly(value.clone()))
    }

    /// Whether the param may have this value; none when it is not set.
    pub(super) fn allows(&self, made: Option<&Value>) -> bool {
        match (self, made) {
            (Self::Optional(_), None) => true,
            (Self::Optional(wanted), made) => wanted.allows(made),
            (Self::AnyOf(options), made) => options.iter().any(|option| option.allows(made)),
            (Self::Exactly(wanted), Some(made)) => is_same(wanted, made),
            (Self::Text { contains, without }, Some(made)) => {
                let made = text(made).unwrap_or_else(|| made.to_string());
                let has = |part: &String| plain(&made).contains(&plain(part));
                contains.iter().all(has) && !without.iter().any(has)
            }
            (Self::Exactly(_) | Self::Text { .. }, None) => false,
        }
    }

    /// Whether the param need not be set.
    pub(super) const fn is_optional(&self) -> bool {
        matches!(self, Self::Optional(_))
    }

    /// The values that are written out, as texts: a note that names one of them admits that the param has another.
    pub(super) fn named(&self) -> Vec<String> {
        match self {
            Self::Exactly(value) => text(value).into_iter().collect(),
            Self::AnyOf(options) => options.iter().flat_map(Self::named).collect(),
            Self::Optional(wanted) => wanted.named(),
            Self::Text { contains, .. } => contains.clone(),
        }
    }
}

fn texts(map: &Map<String, Value>, key: &str) -> Result<Vec<String>, String> {
    let Some(value) = map.get(key) else {
        return Ok(Vec::new());
    };
    let texts = value.as_array().and_then(|items| {
        let texts = items.iter().map(|item| item.as_str().map(str::to_owned));
        texts.collect::<Option<Vec<_>>>()
    });
    texts.ok_or_else(|| format!("'{key}' needs a list of texts"))
}

/// A value that people write as one word or phrase.
pub(super) fn text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
    }
}

fn is_same(wanted: &Value, made: &Value) -> bool {
    match (wanted, made) {
        (Value::String(wanted), Value::String(made)) => plain(wanted) == plain(made),
        // 5 and 5.0 are one number.
        (Value::Number(wanted), Value::Number(made)) => {
            wanted == made || wanted.as_f64() == made.as_f64()
        }
        _ => wanted == made,
    }
}

/// A text without what makes no difference to a reader: case, spaces around signs, quotes around it, its last full stop.
pub(super) fn plain(text: &str) -> String {
    let edge = |c: char| c.is_whitespace() || "\"'“”‘’.?!,;:".contains(c);
    let lower = text.trim_matches(edge).to_lowercase();
    let mut plain = String::with_capacity(lower.len());
    let mut space = false;
    for c in lower.chars() {
        if c.is_whitespace() {
            space = true;
            continue;
        }
        let between_words =
            c.is_alphanumeric() && plain.ends_with(|last: char| last.is_alphanumeric());
        if space && between_words {
            plain.push(' ');
        }
        plain.push(c);
        space = false;
    }
    plain
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn allows(wanted: &Value, made: &Value) -> bool {
        let made = Some(made).filter(|made| !made.is_null());
        Wanted::read(wanted).unwrap().allows(made)
    }

    #[test]
    fn several_forms_of_a_value_are_right() {
        let none = Value::Null;
        for (wanted, made, right) in [
            (json!("Paris"), json!(" paris"), true),
            (json!("200 - 15%"), json!("200-15%"), true),
            (json!("sum of 5, 10"), json!("sum of 5,10"), true),
            (json!("sum of 5, 10"), json!("sumof 5,10"), false),
            (json!("Paris"), json!("Paris, Texas"), false),
            (json!("we are late"), json!("We are late."), true),
            (json!("Paris"), none.clone(), false),
            (json!(5), json!(5.0), true),
            (json!(5), json!("5"), false),
            (json!({"any_of": ["a", "b"]}), json!("b"), true),
            (json!({"any_of": ["a", "b"]}), json!("c"), false),
            (json!({"optional": "a"}), none.clone(), true),
            (json!({"optional": "a"}), json!("b"), false),
            (json!({"optional": {"any_of": [1, 2]}}), json!(2), true),
            (
                json!({"contains": ["oslo"]}),
                json!("The weather in Oslo"),
                true,
            ),
            (
                json!({"contains": ["oslo"], "without": ["joke"]}),
                json!("Oslo and a joke"),
                false,
            ),
            (json!({"contains": []}), none, false),
            (json!({"id": 1}), json!({"id": 1}), true),
        ] {
            assert_eq!(allows(&wanted, &made), right, "{wanted} {made}");
        }
    }

    #[test]
    fn words_of_a_wrong_form_are_refused() {
        for wrong in [
            json!({"any_of": "a"}),
            json!({"any_of": []}),
            json!({"any_of": ["a"], "optional": "b"}),
            json!({"contains": "a"}),
            json!({"contains": ["a"], "wihtout": ["b"]}),
        ] {
            assert!(Wanted::read(&wrong).is_err(), "{wrong}");
        }
    }
}
