//! Makes the JSON Schema of a model's plan for one request from the capabilities that its user may use.
//!
//! Does not judge plans: a server may ignore the schema, and the compiler checks every plan anyway.

use amcp_plan::Catalogue;
use amcp_protocol::Capability;
use serde_json::{Map, Value, json};

/// Longest explanation to ask a model for, in characters: it costs time and decides nothing.
const REASONING_CHARS: usize = 300;
/// Deepest nesting of definitions; deeper ones stay open, which also ends recursive ones.
const MAX_DEPTH: usize = 8;
/// Largest bound on a length; larger ones cost a grammar more than they help.
const MAX_LENGTH: u64 = 1_000;

/// Keywords that every server's grammar knows and whose values we copy.
const PLAIN: &str = "type enum const minItems maxItems minLength maxLength";

/// The schema of a plan over these capabilities. It has no references, and `reasoning` comes first, so that the model thinks
/// before it chooses. A plan made `again` names the tasks of the first plan that it replaces.
pub(super) fn plan_schema(visible: &Catalogue, max_tasks: usize, again: bool) -> Value {
    schema(
        visible,
        (max_tasks, again),
        |literal| json!({"anyOf": [literal, reference_schema()]}),
    )
}

/// The schema for a prompt, without the reference that each field may have instead of a value: these make half of the
/// schema, and reading them costs a small machine minutes.
pub(super) fn plan_schema_for_prompt(visible: &Catalogue, max_tasks: usize, again: bool) -> Value {
    schema(visible, (max_tasks, again), |literal| literal)
}

fn schema(
    visible: &Catalogue,
    (max_tasks, again): (usize, bool),
    field: fn(Value) -> Value,
) -> Value {
    let tasks: Vec<Value> = visible
        .iter()
        .map(|c| task_schema(&c.capability, again, field))
        .collect();
    json!({
        "type": "object",
        "properties": {
            "reasoning": {"type": "string", "maxLength": REASONING_CHARS},
            "answer_directly": {"type": ["string", "null"]},
            "tasks": {"type": "array", "maxItems": max_tasks, "items": {"anyOf": tasks}},
            "unplaced": {"type": "array", "maxItems": max_tasks, "items": {"type": "string"}},
        },
        "required": ["reasoning", "answer_directly", "tasks", "unplaced"],
        "additionalProperties": false,
    })
}

fn task_schema(capability: &Capability, again: bool, field: fn(Value) -> Value) -> Value {
    let mut schema = json!({
        "type": "object",
        "properties": {
            "id": {"type": "string"},
            "capability": {"const": capability.name},
            "params": params_schema(capability, field),
            "depends_on": {"type": "array", "items": {"type": "string"}},
        },
        "required": ["id", "capability", "params", "depends_on"],
        "additionalProperties": false,
    });
    if again
        && let Some(properties) = schema
            .pointer_mut("/properties")
            .and_then(Value::as_object_mut)
    {
        let ids = json!({"type": "array", "items": {"type": "string"}});
        properties.insert("replaces".to_owned(), ids);
    }
    schema
}

fn params_schema(capability: &Capability, field: fn(Value) -> Value) -> Value {
    let root = &capability.params;
    let mut schema = simplified(root, root, 0);
    let Some(map) = schema.as_object_mut() else {
        return json!({"type": "object"});
    };
    if let Some(Value::Object(properties)) = map.get_mut("properties") {
        for property in properties.values_mut() {
            *property = field(property.take());
        }
    }
    // Params that another task's result can fill are optional: the compiler fills them.
    let required: Vec<&str> = capability
        .required_params()
        .filter(|name| capability.consumes.iter().all(|c| c.param != *name))
        .collect();
    map.insert("required".to_owned(), json!(required));
    schema
}

fn reference_schema() -> Value {
    json!({
        "type": "object",
        "properties": {"$ref": {"type": "string"}, "path": {"type": "string"}},
        "required": ["$ref"],
        "additionalProperties": false,
    })
}

/// The part of a schema that grammars understand, with its definitions in place. Each omission makes it more permissive.
fn simplified(schema: &Value, root: &Value, depth: usize) -> Value {
    let Value::Object(map) = schema else {
        return json!({});
    };
    if depth > MAX_DEPTH {
        return json!({});
    }
    if let Some(target) = map.get("$ref").and_then(Value::as_str) {
        let found = target.strip_prefix('#').and_then(|path| root.pointer(path));
        return found.map_or_else(|| json!({}), |s| simplified(s, root, depth + 1));
    }
    let inner = |schema: &Value| simplified(schema, root, depth + 1);
    let mut simple = Map::new();
    for (key, value) in map {
        let kept = match (key.as_str(), value) {
            ("minLength" | "maxLength" | "minItems" | "maxItems", bound)
                if bound.as_u64().is_none_or(|b| b > MAX_LENGTH) =>
            {
                continue;
            }
            (key, value) if PLAIN.split(' ').any(|plain| plain == key) => value.clone(),
            // Grammars know bounds only for whole numbers.
            ("minimum" | "maximum", value)
                if value.is_i64() && map.get("type") == Some(&json!("integer")) =>
            {
                value.clone()
            }
            ("properties", Value::Object(fields)) => fields
                .iter()
                .map(|(name, field)| (name.clone(), inner(field)))
                .collect::<Map<_, _>>()
                .into(),
            ("required", Value::Array(_)) | ("additionalProperties", Value::Bool(_)) => {
                value.clone()
            }
            ("items" | "additionalProperties", Value::Object(_)) => inner(value),
            ("anyOf" | "oneOf", Value::Array(options)) => {
                simple.insert("anyOf".to_owned(), options.iter().map(inner).collect());
                continue;
            }
            _ => continue,
        };
        simple.insert(key.clone(), kept);
    }
    simple.into()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use amcp_protocol::{Consumes, Contract, Schema};

    use super::*;

    fn catalogue(params: Value, consumes: &[&str]) -> Catalogue {
        let mut capability = Capability::new("document.report.generate", "Writes a report.");
        capability.params = params;
        capability.consumes = consumes
            .iter()
            .map(|&param| Consumes {
                param: param.to_owned(),
                types: vec!["expense.rows".to_owned()],
            })
            .collect();
        [Arc::new(Contract::new(capability).unwrap())]
            .into_iter()
            .collect()
    }

    fn plan(params: Value) -> Value {
        json!({"reasoning": "", "answer_directly": null, "unplaced": [],
            "tasks": [{"id": "t1", "capability": "document.report.generate", "params": params, "depends_on": []}]})
    }

    #[test]
    fn each_field_takes_a_value_of_its_own_kind_or_a_reference() {
        let params = json!({"type": "object", "required": ["title", "rows"], "additionalProperties": false, "properties": {
            "title": {"type": "string"}, "rows": {"type": "array", "items": {"$ref": "#/$defs/row"}}},
            "$defs": {"row": {"type": "object", "properties": {"next": {"$ref": "#/$defs/row"}}}}});
        let schema = plan_schema(&catalogue(params, &["rows"]), 2, true);
        assert!(!schema.to_string().contains("$defs"), "{schema}");
        let schema = Schema::compile(&schema).unwrap();
        for (params, ok) in [
            (
                json!({"title": "Q4", "rows": [{"next": {"next": {}}}]}),
                true,
            ),
            (json!({"title": {"$ref": "t1", "path": "/title"}}), true),
            (json!({"title": "Q4", "rows": {"$ref": "t1"}}), true),
            (json!({"rows": []}), false),
            (json!({"title": 4}), false),
            (json!({"title": "Q4", "rows": ["row"]}), false),
            (json!({"title": "Q4", "colour": "red"}), false),
        ] {
            assert_eq!(schema.is_valid(&plan(params.clone())), ok, "{params}");
        }
        let mut third = plan(json!({"title": "Q4"}));
        let task = third["tasks"][0].clone();
        third["tasks"] = json!([task, task, task]);
        assert!(!schema.is_valid(&third), "more tasks than allowed");
    }

    #[test]
    fn what_grammars_do_not_know_is_left_out() {
        let params = json!({"type": "object", "title": "x", "properties": {
            "city": {"type": "string", "pattern": "^[A-Z]", "format": "hostname", "not": {"const": "x"}, "maxLength": 100_000},
            "days": {"type": "integer", "minimum": 1, "default": 3},
            "share": {"type": "number", "minimum": 1},
            "kind": {"oneOf": [{"const": "a"}, {"const": "b"}]}}});
        let schema = plan_schema(&catalogue(params, &[]), 2, false).to_string();
        for word in [
            "pattern", "format", "not", "100000", "default", "oneOf", "title",
        ] {
            assert!(
                !schema.contains(&format!("\"{word}\"")),
                "{word} in {schema}"
            );
        }
        assert!(
            schema.contains(r#"{"type":"integer","minimum":1}"#),
            "{schema}"
        );
        assert!(schema.contains(r#"{"type":"number"}"#), "{schema}");
        assert!(
            schema.contains(r#""anyOf":[{"const":"a"},{"const":"b"}]"#),
            "{schema}"
        );
    }

    #[test]
    fn the_model_reasons_first() {
        let schema = plan_schema(&Catalogue::default(), 32, false).to_string();
        assert!(schema.find("reasoning") < schema.find("tasks"), "{schema}");
    }
}
