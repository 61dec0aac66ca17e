//! The `x-…` keywords of a capability's params schema, with which its author tells planners and policies more than JSON Schema
//! can say. Validators ignore the keywords.
//!
//! Does not plan with them; it names them, checks how they are written and reads those that belong to a whole capability.
//!
//! | term | stands at | value | says |
//! | --- | --- | --- | --- |
//! | [`KIND`] | a param | a string, see below | the kind of words that the param takes from a query |
//! | [`ROLE`] | a param | a string, see below | how a query marks the words that the param takes |
//! | [`ALIASES`] | a param | a list of strings | other names that plans use for the param; the compiler renames them |
//! | [`SENDS_OUT`] | the whole schema | a boolean, `false` without it | doing the task may carry data out of the mesh |
//! | [`REQUIRES_FLOW`] | the whole schema | a [`FlowKind`] | the task waits for this flow before its first dispatch; a capability with an irreversible effect waits for a confirmation without it |
//! | [`IDLE_MS`] | the whole schema | a positive integer | an attempt that gives no sign of life for this many milliseconds is given up; without it an attempt has its time-out only |
//!
//! They stand in the schema, not in fields of the capability: cards cross links in a form that cannot grow, and a build that
//! does not know a term must still read the card. As parts of the schema they are parts of the contract, which all agents
//! of a capability share.
//!
//! The `examples` of a param are its best-known values: a value that occurs in the query, in any case, is meant.
//!
//! | [`ROLE`] | where its value is in a query |
//! | --- | --- |
//! | [`FROM`], [`TO`] | the first and the last day of a span of time, both included |
//! | [`EXCEPT`] | after "without", "excluding", "except", "not", "but not" |
//! | [`LEAST`], [`MOST`] | a number after "more than", "over", "at least"; after "less than", "under", "at most" |
//! | [`COUNT`] | a number of things: "top 5", "the 5 largest", "first 3" |
//!
//! | [`KIND`] | a value | where it is in a query |
//! | --- | --- | --- |
//! | `quarter` | `Q4 2024` | a quarter, with or without its year |
//! | `year` | `2024` | a year by itself |
//! | `month` | `2024-10` | a month of a year |
//! | `date` | `2024-10-31` | a day, also "today", "tomorrow" |
//! | `datetime`, `time` | `2024-10-31T15:30:00`, `15:30` | a time, with or without its day |
//! | `department`, `category`, `units`, `format` | `Sales` | one of the `enum` |
//! | `group` | `department` | one of the `enum`, after "by" or "per" |
//! | `city`, `place`, `country`, `person`, `language`, `name` | `Paris` | a name, after "in", "for", "at" |
//! | `ticker` | `AMZN` | a stock's symbol or a company's name |
//! | `topic`, `title` | `programming` | a subject: before the noun, after "about", or quoted |
//! | `expression` | `15% of 80` | arithmetic |
//! | `email`, `url` | `someone@example.com` | an address |
//! | `text`, `query` | | the rest of the query, or quoted text |
//! | `request` | | a part of the query that another orchestrator is to work on |
//! | `sql` | `SELECT …` | a query that the user wrote in SQL; planners make none up |
//! | `content` | | nowhere in a query: the value comes from another task |

use serde_json::Value;

use crate::flow::FlowKind;

/// The term for the kind of words that a param takes from a query.
pub const KIND: &str = "x-kind";
/// The term for the words of a query that mark a param's value.
pub const ROLE: &str = "x-role";
/// The role of a span's first day.
pub const FROM: &str = "from";
/// The role of a span's last day.
pub const TO: &str = "to";
/// The role of a value to leave out.
pub const EXCEPT: &str = "except";
/// The role of a lower bound.
pub const LEAST: &str = "least";
/// The role of an upper bound.
pub const MOST: &str = "most";
/// The role of a number of things.
pub const COUNT: &str = "count";
/// The term for other names that plans use for a param.
pub const ALIASES: &str = "x-aliases";
/// The term for capabilities whose tasks may carry data out of the mesh.
pub const SENDS_OUT: &str = "x-sends-out";

/// The term for capabilities whose tasks wait for a person.
pub const REQUIRES_FLOW: &str = "x-requires-flow";
/// The term for capabilities whose handlers give signs of life.
pub const IDLE_MS: &str = "x-idle-ms";

const ALL: [&str; 6] = [KIND, ROLE, ALIASES, SENDS_OUT, REQUIRES_FLOW, IDLE_MS];

const ROLES: [&str; 6] = [FROM, TO, EXCEPT, LEAST, MOST, COUNT];

/// Keywords whose value names subschemas: the keys below are names of params or definitions.
const NAMED: [&str; 5] = [
    "properties",
    "patternProperties",
    "dependentSchemas",
    "$defs",
    "definitions",
];

/// Keywords whose value is data.
const DATA: [&str; 4] = ["enum", "const", "default", "examples"];

/// Checks all terms of a params schema. Keywords with `x-` that resemble no term belong to other tools and stay.
///
/// # Errors
/// The first misspelt term, with its right spelling, or the first term with a value of a wrong kind.
pub(crate) fn check(schema: &Value) -> Result<(), String> {
    // Not recursive: the depth of the schema is not bounded yet.
    let mut open = vec![(schema, true)];
    while let Some((value, is_schema)) = open.pop() {
        match value {
            Value::Object(map) => {
                for (key, value) in map {
                    if !is_schema {
                        open.push((value, true));
                        continue;
                    }
                    check_term(key, value)?;
                    if !DATA.contains(&key.as_str()) {
                        open.push((value, !NAMED.contains(&key.as_str())));
                    }
                }
            }
            Value::Array(items) => open.extend(items.iter().map(|item| (item, true))),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }
    Ok(())
}

fn check_term(key: &str, value: &Value) -> Result<(), String> {
    let wanted = match key {
        KIND if !value.is_string() => "a string",
        ROLE if !value.as_str().is_some_and(|role| ROLES.contains(&role)) => {
            "\"from\", \"to\", \"except\", \"least\", \"most\" or \"count\""
        }
        ALIASES if !is_list_of_strings(value) => "a list of strings",
        SENDS_OUT if !value.is_boolean() => "true or false",
        REQUIRES_FLOW if flow(value).is_none() => {
            "\"confirmation\", \"payment\", \"delegation\" or \"oauth\""
        }
        IDLE_MS if value.as_u64().is_none_or(|ms| ms == 0) => "a positive integer",
        _ => {
            return match meant(key) {
                Some(term) if term != key => {
                    Err(format!("'{key}' is not a known term; write '{term}'"))
                }
                _ => Ok(()),
            };
        }
    };
    Err(format!("'{key}' must be {wanted}"))
}

/// The flow that a term's value names.
pub(crate) fn flow(value: &Value) -> Option<FlowKind> {
    value.as_str()?.parse().ok()
}

fn is_list_of_strings(value: &Value) -> bool {
    value
        .as_array()
        .is_some_and(|items| items.iter().all(Value::is_string))
}

/// The term that a keyword spells, or resembles so closely that it is probably a slip.
fn meant(key: &str) -> Option<&'static str> {
    const LONGEST: usize = 32;
    if key.len() > LONGEST {
        return None;
    }
    let written = key.to_lowercase().replace('_', "-");
    written.strip_prefix('x')?;
    let distance = |term: &&str| strsim::osa_distance(&written, term);
    // One slip in every five characters: "x-kid" is a slip, "x-mode" is another word.
    let is_slip = |term: &&str| distance(term) <= (term.len() - "x-".len()).div_ceil(5);
    ALL.into_iter().filter(is_slip).min_by_key(distance)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_misspelt_term_is_refused_with_the_one_that_is_meant() {
        for (written, meant) in [
            ("x-kinds", KIND),
            ("x_kind", KIND),
            ("xkind", KIND),
            ("X-Kind", KIND),
            ("x-knid", KIND),
            ("x-rôle", ROLE),
            ("x-alias", ALIASES),
            ("x-aliasses", ALIASES),
            ("x-sendsout", SENDS_OUT),
            ("x_sends_out", SENDS_OUT),
            ("x-send-out", SENDS_OUT),
            ("x-require-flow", REQUIRES_FLOW),
            ("x-idle_ms", IDLE_MS),
            ("x-idlems", IDLE_MS),
        ] {
            let schema = json!({"type": "object", "properties": {"city": {"type": "array", "items": {written: "city"}}}});
            let refused = check(&schema).unwrap_err();
            assert!(refused.contains(&format!("'{written}'")), "{refused}");
            assert!(refused.contains(&format!("write '{meant}'")), "{refused}");
        }
    }

    #[test]
    fn terms_of_others_names_of_params_and_data_are_left_alone() {
        let schema = json!({
            "type": "object",
            "x-google-quota": 5,
            "x-mode": "fast",
            "x-id": 1,
            "properties": {"x-kinds": {"x-kind": "text", "default": {"x-kinds": 1}, "enum": [{"x-role": 7}]}},
            "$defs": {"x-alias": {"type": "string"}},
            "x-sends-out": false,
        });
        assert_eq!(check(&schema), Ok(()));
    }

    #[test]
    fn a_value_of_a_wrong_kind_is_refused() {
        for (term, wrong) in [
            (KIND, json!(["city"])),
            (ROLE, json!("start")),
            (ALIASES, json!("place")),
            (SENDS_OUT, json!("yes")),
            (REQUIRES_FLOW, json!("approval")),
            (IDLE_MS, json!(0)),
            (IDLE_MS, json!("5000")),
        ] {
            let refused = check(&json!({"properties": {"p": {term: wrong}}})).unwrap_err();
            assert!(refused.contains(&format!("'{term}' must be")), "{refused}");
        }
    }

    #[test]
    fn a_schema_of_any_depth_costs_no_stack() {
        let mut schema = json!({"x-kinds": 1});
        for _ in 0..100_000 {
            schema = Value::Array(vec![schema]);
        }
        assert!(check(&schema).is_err());
        // Dropping the value recurses too, so the test takes the value apart.
        while let Value::Array(mut items) = schema {
            schema = items.pop().unwrap();
        }
    }
}
