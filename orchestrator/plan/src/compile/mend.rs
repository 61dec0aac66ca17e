//! Mends values that differ from the schema in notation alone: `"PDF"` for `pdf`, `"4"` for 4, one value for a list of one,
//! null for an optional param.
//!
//! Does not guess: a value with more than one reading stays.

use amcp_protocol::terms;
use serde_json::{Map, Value};

use super::draft::Drafts;
use super::shape::{admits, names};

/// Mends the params of all tasks.
pub(super) fn mend_all(drafts: &mut Drafts<'_>) {
    for draft in &mut drafts.tasks {
        let capability = &draft.contract.capability;
        mend_params(&capability.params, &mut draft.params);
    }
}

/// Renames params that the plan calls by an alias of the schema ([`terms::ALIASES`]).
pub(super) fn rename_all(drafts: &mut Drafts<'_>) {
    for draft in &mut drafts.tasks {
        let properties = draft.contract.capability.params.get("properties");
        let properties = properties.and_then(Value::as_object);
        for (name, schema) in properties.into_iter().flatten() {
            let aliases = schema.get(terms::ALIASES).and_then(Value::as_array);
            let given = |alias: &&str| draft.params.contains_key(*alias);
            let mut aliases = aliases.into_iter().flatten().filter_map(Value::as_str);
            if !draft.params.contains_key(name)
                && let Some(value) = aliases
                    .find(given)
                    .and_then(|a| draft.params.shift_remove(a))
            {
                draft.params.insert(name.clone(), value);
            }
        }
    }
}

/// Mends params against their capability's schema.
pub(super) fn mend_params(schema: &Value, params: &mut Map<String, Value>) {
    let required = schema.get("required").and_then(Value::as_array);
    let is_required =
        |name: &String| required.is_some_and(|names| names.iter().any(|required| required == name));
    let property = |name: &String| schema.get("properties").and_then(|p| p.get(name));
    params.retain(|name, value| {
        !value.is_null()
            || is_required(name)
            || property(name).is_none_or(|schema| admits(schema, value))
    });
    for (name, value) in params.iter_mut() {
        if let Some(schema) = property(name) {
            mend(schema, value);
        }
    }
}

pub(super) fn mend(schema: &Value, value: &mut Value) {
    if value.get("$ref").is_some() {
        return;
    }
    for keyword in ["anyOf", "oneOf"] {
        if let Some(Value::Array(branches)) = schema.get(keyword) {
            mend_one_of(branches, value);
        }
    }
    if let Some(options) = options(schema) {
        mend_choice(&options, value);
    }
    if admits(schema, value) {
        match value {
            Value::Object(map) => mend_params(schema, map),
            Value::Array(items) => {
                if let Some(schema) = schema.get("items") {
                    items.iter_mut().for_each(|item| mend(schema, item));
                }
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    } else if let Some(mended) = converted(schema, value) {
        *value = mended;
    }
}

/// The values of an `enum` or `const`.
pub(super) fn options(schema: &Value) -> Option<Vec<&Value>> {
    match (schema.get("enum"), schema.get("const")) {
        (Some(Value::Array(options)), _) => Some(options.iter().collect()),
        (_, Some(option)) => Some(vec![option]),
        _ => None,
    }
}

/// Takes the only option that equals the value but for case.
fn mend_choice(options: &[&Value], value: &mut Value) {
    if options.contains(&&*value) {
        return;
    }
    let text = as_text(value).trim().to_lowercase();
    let mut alike = options
        .iter()
        .filter(|option| as_text(option).to_lowercase() == text);
    if let (Some(option), None) = (alike.next(), alike.next()) {
        *value = (**option).clone();
    }
}

fn as_text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null | Value::Bool(_) | Value::Number(_) => value.to_string(),
        // Never equals a choice that was written as a text.
        Value::Array(_) | Value::Object(_) => String::new(),
    }
}

/// Mends a scalar that fits no branch so that it fits one.
fn mend_one_of(branches: &[Value], value: &mut Value) {
    let keeps = |schema: &Value, value: &Value| {
        admits(schema, value) && options(schema).is_none_or(|options| options.contains(&value))
    };
    let is_scalar = !value.is_array() && !value.is_object();
    if !is_scalar || branches.iter().any(|branch| keeps(branch, value)) {
        return;
    }
    let mended = branches.iter().find_map(|branch| {
        let mut mended = value.clone();
        mend(branch, &mut mended);
        (mended != *value && keeps(branch, &mended)).then_some(mended)
    });
    if let Some(mended) = mended {
        *value = mended;
    }
}

/// The scalar converted to the schema's JSON type.
fn converted(schema: &Value, value: &Value) -> Option<Value> {
    let wants = |kind| names(schema, kind) == Some(true);
    let converted = match value {
        Value::String(text) => {
            let text = text.trim();
            let whole = (wants("integer") || wants("number"))
                .then(|| text.parse::<i64>().ok().map(Value::from))
                .flatten();
            let broken = wants("number")
                .then(|| text.parse::<f64>().ok().filter(|n| n.is_finite()))
                .flatten();
            let truth = wants("boolean")
                .then(|| text.to_lowercase().parse::<bool>().ok())
                .flatten();
            whole
                .or_else(|| broken.map(Value::from))
                .or_else(|| truth.map(Value::from))
        }
        Value::Number(number) if wants("string") => Some(Value::String(number.to_string())),
        Value::Number(number) if wants("integer") => number
            .as_f64()
            .filter(|n| n.fract() == 0.0 && n.abs() < 9e15)
            .map(|n| Value::from(n as i64)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => {
            None
        }
    };
    converted.or_else(|| list_of_one(schema, value).filter(|_| wants("array")))
}

/// The scalar as a list of one, if the list's items have its type.
fn list_of_one(schema: &Value, value: &Value) -> Option<Value> {
    if value.is_null() || value.is_array() || value.is_object() {
        return None;
    }
    let items = schema.get("items")?;
    let mut item = value.clone();
    mend(items, &mut item);
    let is_item = admits(items, &item) && options(items).is_none_or(|o| o.contains(&&item));
    // Items without a type allow no conclusion about scalars.
    (is_item && (items.get("type").is_some() || options(items).is_some()))
        .then(|| Value::Array(vec![item]))
}
