//! Finds the references in params, brings them to the long form and checks that their paths can exist.
//!
//! Adds no reference; inference does.

use amcp_protocol::{Capability, Produces};
use serde_json::{Map, Value};

use super::PlanError;
use super::draft::{Drafts, Inferred};
use super::shape::{self, Place};
use crate::plan::Reference;

/// Names that models use for the whole result.
const WHOLE: &[&str] = &[
    "result", "results", "output", "outputs", "data", "value", "response",
];

/// A reference as the planner wrote it.
#[derive(Debug)]
struct Written {
    /// The place in the params: a JSON pointer.
    place: String,
    from: usize,
    /// The part of the result; `None` when the planner named none.
    path: Option<String>,
}

/// Finds and settles the references of all tasks.
pub(super) fn settle_all(drafts: &mut Drafts<'_>) -> Result<(), PlanError> {
    for task in 0..drafts.tasks.len() {
        for written in find(drafts, task)? {
            let (reference, inferred) = settle(drafts, task, written)?;
            drafts.at_mut(task).inferred.extend(inferred);
            drafts.refer(task, reference);
        }
    }
    Ok(())
}

fn find(drafts: &Drafts<'_>, task: usize) -> Result<Vec<Written>, PlanError> {
    let params = &drafts.at(task).params;
    let mut search = Search {
        drafts,
        task,
        place: String::new(),
        found: Vec::new(),
    };
    for (name, value) in params {
        search.below(name, value)?;
    }
    Ok(search.found)
}

struct Search<'d, 'a> {
    drafts: &'d Drafts<'a>,
    task: usize,
    place: String,
    found: Vec<Written>,
}

impl Search<'_, '_> {
    fn below(&mut self, token: &str, value: &Value) -> Result<(), PlanError> {
        let before = self.place.len();
        self.place.push('/');
        self.place.push_str(&shape::escape(token));
        self.visit(value)?;
        self.place.truncate(before);
        Ok(())
    }

    fn visit(&mut self, value: &Value) -> Result<(), PlanError> {
        match value {
            Value::String(text) => {
                if let Some((from, path)) = self.text(text)? {
                    self.note(from, path);
                }
            }
            Value::Array(items) => {
                for (i, item) in items.iter().enumerate() {
                    self.below(&i.to_string(), item)?;
                }
            }
            Value::Object(map) => match map.get("$ref") {
                Some(target) if !is_schema_reference(target) => {
                    let (from, path) = self.object(map, target)?;
                    self.note(from, path);
                }
                _ => {
                    for (name, item) in map {
                        self.below(name, item)?;
                    }
                }
            },
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
        Ok(())
    }

    fn note(&mut self, from: usize, path: Option<String>) {
        self.found.push(Written {
            place: self.place.clone(),
            from,
            path,
        });
    }

    fn at(&self) -> String {
        format!("tasks[{}].params{}", self.task, shape::dotted(&self.place))
    }

    /// `$t1.rows`, `${t1.rows}`, `{{t1.rows}}`.
    fn text(&self, text: &str) -> Result<Option<(usize, Option<String>)>, PlanError> {
        let text = text.trim();
        let braced = unbraced(text);
        let Some(inner) = braced.or_else(|| text.strip_prefix('$')) else {
            return self.refuse_within(text).map(|()| None);
        };
        let inner = inner.strip_prefix('$').unwrap_or(inner);
        let found = self.drafts.ids.find_at_start(inner);
        // "$t1.50 a piece" is a text.
        let rest = found.map_or(inner, |(_, path)| path);
        if braced.is_none() && rest.contains(char::is_whitespace) {
            return Ok(None);
        }
        if let Some((from, path)) = found {
            return Ok(Some((from, (!path.is_empty()).then(|| pointer(path)))));
        }
        let head = inner.split(['.', '/', '[']).next().unwrap_or_default();
        if self.drafts.ids.is_alike(head) {
            return Err(self.drafts.no_task(self.at(), head));
        }
        Ok(None)
    }

    /// Refuses a reference in the middle of a text: the specialist would get it as text.
    fn refuse_within(&self, text: &str) -> Result<(), PlanError> {
        let ids = &self.drafts.ids;
        let names_task = |open: &str, close: char| {
            text.split(open).skip(1).any(|rest| {
                rest.split_once(close).is_some_and(|(inner, _)| {
                    let inner = inner.trim();
                    ids.find_at_start(inner.strip_prefix('$').unwrap_or(inner))
                        .is_some()
                })
            })
        };
        if names_task("{{", '}') || names_task("${", '}') {
            return Err(PlanError::invalid(
                self.at(),
                "a reference cannot stand inside a text: the value must be the reference alone",
            ));
        }
        Ok(())
    }

    fn object(
        &self,
        map: &Map<String, Value>,
        target: &Value,
    ) -> Result<(usize, Option<String>), PlanError> {
        let wrong = |problem: &str| Err(PlanError::invalid(self.at(), problem));
        if map.keys().any(|key| key != "$ref" && key != "path") {
            return wrong("a reference has only '$ref' and 'path'");
        }
        let target = match target {
            Value::String(text) => text.trim().to_owned(),
            Value::Number(number) => number.to_string(),
            Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => {
                return wrong("'$ref' must be the id of a task");
            }
        };
        let target = target.strip_prefix('$').unwrap_or(&target);
        let (from, rest) = match self.drafts.find(target) {
            Some(from) => (from, ""),
            None => self
                .drafts
                .ids
                .find_at_start(target)
                .ok_or_else(|| self.drafts.no_task(self.at(), target))?,
        };
        let path = match map.get("path") {
            None | Some(Value::Null) => None,
            Some(Value::String(path)) => Some(pointer(path)),
            Some(Value::Number(index)) => Some(format!("/{index}")),
            Some(_) => return wrong("'path' must be a JSON pointer such as '/rows'"),
        };
        let path = match (rest, path) {
            ("", path) => path,
            (rest, path) => Some(pointer(rest) + &path.unwrap_or_default()),
        };
        Ok((from, path))
    }
}

/// Whether the `$ref` belongs to a JSON Schema among the params.
fn is_schema_reference(target: &Value) -> bool {
    target
        .as_str()
        .is_some_and(|text| text.starts_with('#') || text.contains("://"))
}

fn unbraced(text: &str) -> Option<&str> {
    let inner = |open, close| text.strip_prefix(open)?.strip_suffix(close);
    let inner = inner("{{", "}}").or_else(|| inner("${", "}"))?;
    (!inner.contains(['{', '}'])).then(|| inner.trim())
}

/// A path in any notation as a JSON pointer: `/rows/0`, `rows.0`, `.rows[0]`, `$.rows`.
fn pointer(path: &str) -> String {
    let path = path.trim();
    if path == "/" {
        return String::new();
    }
    if path.starts_with('/') {
        return path.to_owned();
    }
    path.strip_prefix('$')
        .unwrap_or(path)
        .split(['.', '[', ']'])
        .map(|token| token.trim_matches(['"', '\'']))
        .filter(|token| !token.is_empty())
        .map(|token| format!("/{}", shape::escape(token)))
        .collect()
}

/// Settles the part of the result that a reference means; returns a reason if that differs from the written path.
fn settle(
    drafts: &Drafts<'_>,
    task: usize,
    written: Written,
) -> Result<(Reference, Option<Inferred>), PlanError> {
    let Written { place, from, path } = written;
    let consumer = &drafts.at(task).contract.capability;
    let producer = &drafts.at(from).contract.capability;
    let declared = consumed(consumer, &place, producer);
    let reference = |place: String, path: &str| Reference {
        place,
        from,
        path: path.to_owned(),
    };
    let because = |problem: &str, path: &str| {
        let what = declared.map_or("result", |produces| &produces.value_type);
        Some(Inferred {
            from,
            before: format!("{problem}; "),
            named: from,
            after: format!(" has its {what} at '{path}'"),
        })
    };
    let param = |place: &str| format!("tasks[{task}].params{}", shape::dotted(place));
    let asked = path.clone().unwrap_or_default();
    if path.is_none()
        && let Some(produces) = declared
        && !produces.path.is_empty()
    {
        let why = because("the reference names no part of the result", &produces.path);
        return Ok((reference(place, &produces.path), why));
    }
    let found = shape::place(&producer.result, &asked);
    if found == Place::Absent {
        let problem = format!("'{asked}' does not exist");
        let within = without_whole(&asked).filter(|path| {
            let is_whole = path.is_empty() && declared.is_some();
            !is_whole && shape::place(&producer.result, path) != Place::Absent
        });
        return match within.or(declared.map(|produces| produces.path.as_str())) {
            Some(path) => Ok((reference(place, path), because(&problem, path))),
            None => {
                let problem = format!("the result of {} has no '{asked}'", drafts.named(from));
                let parts = shape::pointers(&producer.result);
                Err(PlanError::invalid(param(&place), problem).allowed(parts))
            }
        };
    }
    let Some(kinds) = clash(found, shape::place(&consumer.params, &place)) else {
        return Ok((reference(place, &asked), None));
    };
    if let Some(produces) = declared.filter(|produces| produces.path != asked) {
        let why = because(&format!("'{asked}' is {}", kinds.0), &produces.path);
        return Ok((reference(place, &produces.path), why));
    }
    if let Some(param) = list_around(drafts, task, &place)
        && clash(found, shape::place(&consumer.params, param)).is_none()
    {
        let why = because("the list is the reference's value itself", &asked);
        return Ok((reference(param.to_owned(), &asked), why));
    }
    Err(PlanError::invalid(
        param(&place),
        format!(
            "'{asked}' of {} is {}, but {} is wanted",
            drafts.named(from),
            kinds.0,
            kinds.1
        ),
    )
    .allowed(producer.produces.iter().map(|produces| &produces.path)))
}

/// The outputs of the producer that fit the param at this place, the consumer's preferred type first.
fn consumed<'p>(
    consumer: &Capability,
    place: &str,
    producer: &'p Capability,
) -> Option<&'p Produces> {
    let consumes = consumer
        .consumes
        .iter()
        .find(|consumes| place.strip_prefix('/') == Some(&*shape::escape(&consumes.param)))?;
    consumes.types.iter().find_map(|wanted| {
        producer
            .produces
            .iter()
            .find(|produces| produces.value_type == *wanted)
    })
}

fn without_whole(path: &str) -> Option<&str> {
    let rest = path.strip_prefix('/')?;
    let (first, _) = rest.split_once('/').unwrap_or((rest, ""));
    WHOLE
        .contains(&first)
        .then(|| rest.get(first.len()..))
        .flatten()
}

/// The types of the result and of the param, if they can never match.
fn clash(result: Place<'_>, param: Place<'_>) -> Option<(String, String)> {
    let (Place::Described(result), Place::Described(param)) = (result, param) else {
        return None;
    };
    let told = |schema| shape::types(schema).join(" or ");
    shape::clash(result, param).then(|| (told(result), told(param)))
}

/// The param, if the place is the only item of its list.
fn list_around<'p>(drafts: &Drafts<'_>, task: usize, place: &'p str) -> Option<&'p str> {
    let param = place.strip_suffix("/0")?;
    let name = param.strip_prefix('/')?;
    let value = drafts.at(task).params.get(name)?;
    (value.as_array()?.len() == 1).then_some(param)
}
