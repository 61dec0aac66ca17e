//! What a capability's card says about its params: of which kind each is, which values are known, which words stand
//! before or after them.
//!
//! Does not read queries; see [`super::fill`].

use std::collections::BTreeSet;

use amcp_protocol::{Capability, Schema, terms};
use serde_json::{Map, Value};

use super::kind::{Kind, kind_of, type_of, variant};
use super::learn::learn;
use super::text::stem;
use super::words::is_stop;

/// A value that is known by the words for it.
#[derive(Debug)]
pub(super) struct Choice {
    pub(super) stems: Vec<String>,
    pub(super) value: Value,
}

/// One param.
#[derive(Debug)]
pub(super) struct Param {
    pub(super) name: String,
    pub(super) kind: Kind,
    pub(super) required: bool,
    /// Takes an array of such values.
    pub(super) list: bool,
    /// Another task's result can fill it.
    pub(super) consumed: bool,
    pub(super) default: Option<Value>,
    pub(super) choices: Vec<Choice>,
    /// Lower-case words that stand before a value, as the examples show.
    pub(super) cues: BTreeSet<String>,
    /// Stems of words that a value stands before, as the examples show: "a programming joke".
    pub(super) heads: BTreeSet<String>,
    /// Stems of the words after a number, and of the param's name.
    pub(super) words: Vec<String>,
    /// Values as the card shows them; their spelling is kept.
    pub(super) samples: Vec<String>,
    /// The unit of time that a number counts, in seconds.
    pub(super) unit_seconds: Option<f64>,
    /// Judges one value; none when the schema needs its surroundings.
    schema: Option<Schema>,
}

impl Param {
    pub(super) fn accepts(&self, value: &Value) -> bool {
        self.schema
            .as_ref()
            .is_none_or(|schema| schema.is_valid(value))
    }

    /// The first of some texts that the schema accepts.
    pub(super) fn accepted_text(&self, texts: &[&str]) -> Option<Value> {
        texts
            .iter()
            .map(|&text| Value::from(text))
            .find(|value| self.accepts(value))
    }
}

/// All params of a capability, and the words that it is known by.
#[derive(Debug)]
pub(super) struct Spec {
    pub(super) params: Vec<Param>,
    /// Stems of its name, keywords and description: they do not become values by being near.
    pub(super) words: BTreeSet<String>,
    /// Stems of the names of the fields of its result.
    pub(super) results: BTreeSet<String>,
    /// It takes requests and plans them itself.
    pub(super) plans: bool,
}

impl Spec {
    pub(super) fn new(capability: &Capability) -> Self {
        let empty = Map::new();
        let properties = capability
            .params
            .get("properties")
            .and_then(Value::as_object)
            .unwrap_or(&empty);
        let mut params: Vec<Param> = properties
            .iter()
            .map(|(name, schema)| param(capability, name, schema))
            .collect();
        // The order in which people name required things first.
        params.sort_by_key(|p| !p.required);
        let words: BTreeSet<String> = capability
            .name
            .as_str()
            .split(['.', '_', '-'])
            .chain(
                capability
                    .keywords
                    .iter()
                    .flat_map(|k| k.split_whitespace()),
            )
            .chain(capability.description.split(|c: char| !c.is_alphanumeric()))
            .map(str::to_lowercase)
            .filter(|w| !w.is_empty() && !is_stop(w))
            .map(|w| stem(&w))
            .collect();
        learn(capability, &words, &mut params);
        let plans = params.iter().any(|p| p.kind == Kind::Request);
        let held = capability
            .result
            .get("properties")
            .and_then(Value::as_object);
        let results = held.into_iter().flat_map(Map::keys);
        Self {
            params,
            words,
            results: results
                .flat_map(|name| name_words(name))
                .map(|w| stem(&w))
                .collect(),
            plans,
        }
    }
}

fn param(capability: &Capability, name: &str, declared: &Value) -> Param {
    let schema = variant(declared);
    let list = type_of(schema) == Some("array");
    let item = if list {
        schema.get("items").map_or(schema, variant)
    } else {
        schema
    };
    let judge = Schema::compile(item).ok();
    let shown: Vec<&str> = item
        .get("examples")
        .or_else(|| declared.get("examples"))
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    let annotation = item.get(terms::KIND).or_else(|| declared.get(terms::KIND));
    let annotation = annotation.and_then(Value::as_str);
    let samples = samples(capability, name, &shown);
    let words = name_words(name);
    let kind = kind_of((item, annotation), &words, &samples, judge.as_ref());
    let known = known_values(item, kind, &shown, &samples);
    Param {
        name: name.to_owned(),
        kind,
        required: capability.required_params().any(|r| r == name),
        list,
        consumed: capability.consumes.iter().any(|c| c.param == name),
        default: declared.get("default").cloned(),
        choices: known
            .into_iter()
            .filter_map(|value| {
                Some(Choice {
                    stems: value_stems(value.as_str()?),
                    value,
                })
            })
            .filter(|choice| !choice.stems.is_empty())
            .collect(),
        cues: BTreeSet::new(),
        heads: BTreeSet::new(),
        words: words.iter().map(|w| stem(w)).collect(),
        samples: samples.iter().map(|&s| s.to_owned()).collect(),
        unit_seconds: unit_of(declared, &words),
        schema: judge,
    }
}

/// All values that the card shows for a param.
fn samples<'a>(capability: &'a Capability, name: &str, shown: &[&'a str]) -> Vec<&'a str> {
    let used = capability
        .examples
        .iter()
        .filter_map(|e| e.params.get(name));
    let mut samples: Vec<&str> = used
        .flat_map(|v| v.as_array().map_or(std::slice::from_ref(v), Vec::as_slice))
        .filter_map(Value::as_str)
        .chain(shown.iter().copied())
        .collect();
    samples.sort_unstable();
    samples.dedup();
    samples
}

/// The values that are recognised by their words, wherever they stand.
fn known_values(item: &Value, kind: Kind, shown: &[&str], samples: &[&str]) -> Vec<Value> {
    if kind == Kind::Choice {
        let listed = item.get("enum").and_then(Value::as_array);
        return listed.cloned().unwrap_or_default();
    }
    let known = if kind == Kind::Ticker {
        samples
    } else if matches!(kind, Kind::Name | Kind::Topic) {
        shown
    } else {
        &[]
    };
    known
        .iter()
        .copied()
        .filter(|s| is_short(s))
        .map(Value::from)
        .collect()
}

/// The unit of time that a number counts, as its name or description says.
fn unit_of(schema: &Value, words: &[String]) -> Option<f64> {
    let description = schema
        .get("description")
        .and_then(Value::as_str)
        .unwrap_or_default();
    let said = description.split(|c: char| !c.is_alphanumeric());
    // A single letter in a description is no unit.
    let mut words = words
        .iter()
        .map(String::as_str)
        .chain(said)
        .filter(|w| w.len() > 2);
    words.find_map(|word| super::lexicon::unit_seconds(&word.to_lowercase()))
}

/// The words of a param's name: `due_date`, `dueDate`.
fn name_words(name: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    for c in name.chars() {
        if !c.is_alphanumeric() || c.is_uppercase() {
            words.push(String::new());
        }
        if c.is_alphanumeric()
            && let Some(word) = words.last_mut()
        {
            word.extend(c.to_lowercase());
        }
    }
    words.retain(|w| !w.is_empty());
    words
}

/// The stems of a value, which may be several words.
pub(super) fn value_stems(value: &str) -> Vec<String> {
    value
        .split(|c: char| !c.is_alphanumeric())
        .filter(|w| !w.is_empty())
        .map(|w| stem(&w.to_lowercase()))
        .collect()
}

/// A value that is matched as a name, not as a phrase.
fn is_short(text: &str) -> bool {
    text.split_whitespace().count() <= 3
}

#[cfg(test)]
mod tests {
    use amcp_protocol::Example;
    use serde_json::json;

    use super::*;

    fn kind(name: &str, schema: Value) -> Kind {
        let mut capability = Capability::new("a.b", "Does.");
        capability.params = json!({"type": "object", "properties": {name: schema}});
        Spec::new(&capability).params[0].kind
    }

    #[test]
    fn kinds_come_from_annotation_format_pattern_samples_and_name() {
        assert_eq!(
            kind("where", json!({"type": "string", "x-kind": "city"})),
            Kind::Name
        );
        assert_eq!(
            kind("x", json!({"type": "string", "format": "date"})),
            Kind::Date
        );
        assert_eq!(
            kind(
                "x",
                json!({"type": "string", "pattern": "^Q[1-4] [0-9]{4}$"})
            ),
            Kind::Quarter
        );
        assert_eq!(
            kind("x", json!({"type": "string", "pattern": "^[A-Z]{1,5}$"})),
            Kind::Ticker
        );
        assert_eq!(
            kind(
                "x",
                json!({"type": "string", "examples": ["12 * 3", "1 + 1"]})
            ),
            Kind::Expression
        );
        assert_eq!(kind("due_date", json!({"type": "string"})), Kind::Date);
        assert_eq!(kind("dueDate", json!({"type": "string"})), Kind::Date);
        assert_eq!(
            kind(
                "content",
                json!({"anyOf": [{"type": "array"}, {"type": "string"}]})
            ),
            Kind::Content
        );
        assert_eq!(kind("rows", json!({"type": "array"})), Kind::Opaque);
        assert_eq!(kind("fiscal_year", json!({"type": "integer"})), Kind::Year);
        assert_eq!(kind("thing", json!({"type": "string"})), Kind::Name);
    }

    #[test]
    fn examples_teach_cues_units_and_other_names() {
        let mut capability = Capability::new("a.b", "Does.");
        capability.params = json!({"type": "object", "properties": {
            "ticker": {"type": "string"}, "days": {"type": "integer"}, "title": {"type": "string"}}});
        capability.examples = vec![Example {
            query: "Chart the shares of Apple over 5 sessions under \"My chart\"".into(),
            params: json!({"ticker": "AAPL", "days": 5, "title": "My chart"}),
        }];
        let spec = Spec::new(&capability);
        let param = |name: &str| spec.params.iter().find(|p| p.name == name).unwrap();
        assert!(param("ticker").cues.contains("of"));
        assert!(
            param("ticker")
                .choices
                .iter()
                .any(|c| c.stems == ["appl"] && c.value == "AAPL")
        );
        assert!(param("days").words.contains(&"session".to_owned()));
        assert!(param("title").cues.contains("under"));
    }
}
