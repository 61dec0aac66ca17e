//! JSON Schemas: checked once, then used to judge params and results.
//!
//! Does not fetch anything: a schema that refers to another document is refused.

use std::fmt;

use serde_json::Value;

/// Most violations in a report: enough for a repair, and a hostile value cannot inflate the report.
const MAX_VIOLATIONS: usize = 8;

/// Why a text is not a usable JSON Schema.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a valid JSON Schema: {0}")]
pub struct SchemaError(String);

/// One rule of a schema that a value breaks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// JSON pointer into the value; empty for the value itself.
    pub path: String,
    /// The broken rule, for readers and for a model that repairs its plan.
    pub message: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.path.is_empty() {
            f.write_str(&self.message)
        } else {
            write!(f, "{}: {}", self.path, self.message)
        }
    }
}

/// A JSON Schema (draft 2020-12 unless it says otherwise), compiled.
pub struct Schema {
    validator: jsonschema::Validator,
}

crate::opaque_debug!(Schema);

impl Schema {
    /// Compiles a schema.
    ///
    /// # Errors
    /// [`SchemaError`] when it is not a JSON Schema or refers to another document.
    pub fn compile(schema: &Value) -> Result<Self, SchemaError> {
        jsonschema::validator_for(schema)
            .map(|validator| Self { validator })
            .map_err(|e| SchemaError(e.to_string()))
    }

    /// Whether the value keeps every rule.
    #[must_use]
    pub fn is_valid(&self, value: &Value) -> bool {
        self.validator.is_valid(value)
    }

    /// The rules that `value` breaks, at most eight; none means that it is valid.
    #[must_use]
    pub fn violations(&self, value: &Value) -> Vec<Violation> {
        self.violations_outside(value, &[])
    }

    /// The rules that `value` breaks outside of the `unknown` places (JSON pointers), which have no value yet.
    ///
    /// Leaves out rules above an unknown place that depend on its value (such as `anyOf`): they cannot be judged yet.
    #[must_use]
    pub fn violations_outside(&self, value: &Value, unknown: &[String]) -> Vec<Violation> {
        if self.validator.is_valid(value) {
            return Vec::new();
        }
        self.validator
            .iter_errors(value)
            .filter_map(|error| {
                let path = error.instance_path().to_string();
                let combines = matches!(
                    error.schema_path().to_string().rsplit('/').next(),
                    Some("anyOf" | "oneOf" | "not" | "if" | "then" | "else")
                );
                let undecided = unknown.iter().any(|place| {
                    is_at_or_below(&path, place) || (combines && is_at_or_below(place, &path))
                });
                (!undecided).then(|| Violation {
                    path,
                    message: shortened(&error.to_string()),
                })
            })
            .take(MAX_VIOLATIONS)
            .collect()
    }

    /// Whether `value` breaks a rule at or below the `place` (a JSON pointer), whether or not it breaks rules elsewhere.
    #[must_use]
    pub fn breaks_at(&self, value: &Value, place: &str) -> bool {
        !self.validator.is_valid(value)
            && self
                .validator
                .iter_errors(value)
                .any(|error| is_at_or_below(&error.instance_path().to_string(), place))
    }
}

fn is_at_or_below(path: &str, place: &str) -> bool {
    path.strip_prefix(place)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// A validator's message repeats the offending value; the report must not grow with it.
fn shortened(message: &str) -> String {
    const KEEP: usize = 160;
    if message.chars().count() <= 2 * KEEP {
        return message.to_owned();
    }
    let head: String = message.chars().take(KEEP).collect();
    let tail: Vec<char> = message.chars().rev().take(KEEP).collect();
    format!("{head} … {}", tail.into_iter().rev().collect::<String>())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn schema() -> Schema {
        Schema::compile(&json!({
            "type": "object",
            "properties": {
                "city": {"type": "string"},
                "rows": {"type": "array"},
                "content": {"anyOf": [{"type": "string"}, {"type": "array"}]},
            },
            "required": ["city"],
            "additionalProperties": false,
        }))
        .unwrap()
    }

    #[test]
    fn names_the_place_and_the_rule() {
        let violations = schema().violations(&json!({"city": 3}));
        assert_eq!(violations.len(), 1);
        assert_eq!(violations[0].path, "/city");
        assert!(
            violations[0].message.contains("string"),
            "{}",
            violations[0]
        );
    }

    #[test]
    fn a_place_that_is_not_known_yet_is_not_judged() {
        let value = json!({"city": "Paris", "rows": {"$ref": "t1"}, "content": {"$ref": "t1"}});
        assert_eq!(schema().violations(&value).len(), 2);
        assert!(
            schema()
                .violations_outside(&value, &["/rows".into(), "/content".into()])
                .is_empty()
        );
        assert_eq!(
            schema().violations_outside(&value, &["/rows".into()]).len(),
            1
        );
    }

    #[test]
    fn one_place_is_judged_by_itself() {
        let value = json!({"rows": "none"});
        assert!(schema().breaks_at(&value, "/rows"));
        assert!(!schema().breaks_at(&value, "/content"));
        assert!(!schema().breaks_at(&json!({"rows": []}), "/rows"));
    }

    #[test]
    fn a_schema_that_is_none_or_reaches_out_is_refused() {
        assert!(Schema::compile(&json!({"type": "strnig"})).is_err());
        assert!(Schema::compile(&json!({"$ref": "https://example.com/schema.json"})).is_err());
    }

    #[test]
    fn a_huge_value_makes_no_huge_message() {
        let violations = schema().violations(&json!({"city": ["x".repeat(100_000)]}));
        assert!(violations[0].message.len() < 1_000);
    }
}
