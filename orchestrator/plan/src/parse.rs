//! Reads a proposed plan from a planner's text, with fences, thinking and prose around it, in all shapes of the JSON.
//!
//! Does not judge the plan; that is [`crate::compile()`].

mod arriving;

use amcp_protocol::{ProposedPlan, ProposedTask};
use serde_json::{Map, Value};

pub use arriving::TaskReader;

/// Longest text. Ten thousand tasks fit, so that such a plan is refused for its real fault; a model's answer is far shorter.
const MAX_TEXT_BYTES: usize = 2 * 1024 * 1024;

/// How many times over we read text that failed to parse before we give up: enough for braces in prose, and a hostile text
/// costs linear time.
const MAX_REREADS: usize = 4;

// The names that models use for the parts of a plan; the first is ours.
const TASKS: &[&str] = &["tasks", "plan", "steps", "tool_calls"];
const CAPABILITY: &[&str] = &["capability", "tool", "action", "name"];
const PARAMS: &[&str] = &["params", "parameters", "args", "arguments", "input"];
const DEPENDS_ON: &[&str] = &["depends_on", "dependsOn", "dependencies", "depends"];
const ID: &[&str] = &["id", "task_id", "step"];
/// Remarks about a task that are no params, where the params stand beside them.
const REMARKS: &[&str] = &["name", "type", "description", "reason", "reasoning", "step"];

/// The reason why no plan can be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{problem}")]
pub struct ParseError {
    /// The fault and its place.
    pub problem: String,
}

impl ParseError {
    fn new(problem: impl Into<String>) -> Self {
        Self {
            problem: problem.into(),
        }
    }
}

/// Reads a plan.
///
/// Of several plans in the text the last one counts: the others are examples or drafts. Single tasks outside of any list
/// make one plan. A broken or unfinished list is refused rather than read in part.
///
/// # Errors
/// [`ParseError`] names the fault in words that let a model repair it.
pub fn parse(text: &str) -> Result<ProposedPlan, ParseError> {
    if text.len() > MAX_TEXT_BYTES {
        return Err(ParseError::new(format!(
            "the answer has {} bytes, more than {MAX_TEXT_BYTES}",
            text.len()
        )));
    }
    match text.rsplit_once("</think>") {
        // A plan may contain `</think>` in a text.
        Some((_, answer)) if text.trim_start().starts_with(['{', '[']) => {
            search(answer).or_else(|_| search(text))
        }
        Some((_, answer)) => search(answer),
        None => search(text),
    }
}

/// A JSON value in the text.
enum Found {
    Plan(ProposedPlan),
    Task(ProposedTask),
    Other(Vec<String>),
}

fn search(text: &str) -> Result<ProposedPlan, ParseError> {
    let mut outcome = Outcome::default();
    let mut work = MAX_REREADS * text.len();
    let mut at = 0;
    while let Some(start) = text.get(at..).and_then(|rest| rest.find(['{', '['])) {
        let start = at + start;
        let rest = text.get(start..).unwrap_or_default();
        let mut values = serde_json::Deserializer::from_str(rest).into_iter::<Value>();
        match values.next() {
            Some(Ok(value)) => {
                at = start + values.byte_offset();
                outcome.note(start, classify(value));
            }
            Some(Err(error)) => {
                let read = bytes_read(rest, &error);
                outcome.note_broken(start, read, error);
                let Some(left) = work.checked_sub(read) else {
                    break;
                };
                work = left;
                at = start + 1;
            }
            None => break,
        }
    }
    outcome.decide(text)
}

/// The results of the search so far.
#[derive(Default)]
struct Outcome {
    plan: Option<ProposedPlan>,
    tasks: Vec<ProposedTask>,
    /// The fault of a value that is meant as a plan or a task.
    misshapen: Option<ParseError>,
    /// The longest piece that looks like JSON and is not.
    broken: Option<Broken>,
    /// The end of the last broken piece.
    broken_until: usize,
    /// Keys of the last value that is no plan.
    keys: Option<Vec<String>>,
}

impl Outcome {
    fn note(&mut self, start: usize, found: Result<Found, ParseError>) {
        match found {
            Ok(Found::Plan(plan)) => {
                let is_empty = plan == ProposedPlan::default();
                if !is_empty || self.plan.is_none() {
                    self.plan = Some(plan);
                }
            }
            // A task from a broken list: taking it would silently lose the others.
            Ok(Found::Task(_)) if start < self.broken_until => {}
            Ok(Found::Task(task)) => self.tasks.push(task),
            Ok(Found::Other(keys)) => self.keys = Some(keys),
            Err(error) => self.misshapen = Some(error),
        }
    }

    fn note_broken(&mut self, start: usize, read: usize, error: serde_json::Error) {
        self.broken_until = self.broken_until.max(start + read);
        if self
            .broken
            .as_ref()
            .is_none_or(|longest| read > longest.read)
        {
            self.broken = Some(Broken { start, read, error });
        }
    }

    fn decide(self, text: &str) -> Result<ProposedPlan, ParseError> {
        const SHAPE: &str = r#"write one object {"tasks": [{"id": "t1", "capability": …, "params": {…}, "depends_on": []}]} and nothing else"#;
        let empty = ProposedPlan::default();
        match (self.plan, self.misshapen) {
            (Some(plan), _) if plan != empty => return Ok(plan),
            (_, Some(error)) => return Err(error),
            (_, None) if !self.tasks.is_empty() => {
                return Ok(ProposedPlan {
                    tasks: self.tasks,
                    ..empty
                });
            }
            (Some(plan), None) if self.broken.is_none() => return Ok(plan),
            _ => {}
        }
        if let Some(broken) = self.broken {
            return Err(broken.told(text));
        }
        Err(ParseError::new(self.keys.map_or_else(
            || format!("there is no JSON in the answer: {SHAPE}"),
            |keys| {
                let keys = keys.join("', '");
                format!("the JSON is no plan (it has '{keys}'): {SHAPE}")
            },
        )))
    }
}

/// A piece of the text that begins like JSON and is not.
struct Broken {
    start: usize,
    read: usize,
    error: serde_json::Error,
}

impl Broken {
    fn told(&self, text: &str) -> ParseError {
        let before = text.get(..self.start).unwrap_or_default();
        let line = before.matches('\n').count() + self.error.line();
        if self.error.is_eof() {
            return ParseError::new(format!(
                "the JSON breaks off at line {line}: write it whole, and shorter"
            ));
        }
        // The parser counts lines from the beginning of the piece.
        let told = self.error.to_string();
        let what = told.split(" at line ").next().unwrap_or_default();
        ParseError::new(format!("the JSON is broken at line {line}: {what}"))
    }
}

/// The bytes that the parser read, from the line and column that it names.
fn bytes_read(text: &str, error: &serde_json::Error) -> usize {
    let lines = error.line().saturating_sub(1);
    let before: usize = text.split_inclusive('\n').take(lines).map(str::len).sum();
    (before + error.column()).clamp(1, text.len().max(1))
}

fn classify(value: Value) -> Result<Found, ParseError> {
    match value {
        Value::Array(items) if items.is_empty() || items.iter().any(is_task) => {
            let tasks = tasks(items)?;
            Ok(Found::Plan(ProposedPlan {
                tasks,
                ..ProposedPlan::default()
            }))
        }
        Value::Object(map) if is_plan(&map) => plan(map, 0).map(Found::Plan),
        Value::Object(map) if is_task_map(&map) => task(map, None).map(Found::Task),
        Value::Object(map) => Ok(Found::Other(map.keys().take(8).cloned().collect())),
        Value::Array(_) | Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {
            Ok(Found::Other(vec!["a list without tasks".to_owned()]))
        }
    }
}

fn is_plan(map: &Map<String, Value>) -> bool {
    map.contains_key("answer_directly")
        || map.contains_key("tasks")
        || (!is_task_map(map)
            && TASKS.iter().any(|key| {
                map.get(*key)
                    .is_some_and(|value| value.is_array() || value.is_object())
            }))
}

fn is_task(value: &Value) -> bool {
    value.as_object().is_some_and(is_task_map)
}

fn is_task_map(map: &Map<String, Value>) -> bool {
    let has = |keys: &[&str]| keys.iter().any(|key| map.contains_key(*key));
    // A `name` alone may be that of anything.
    has(&["capability", "tool", "action"])
        || (map.contains_key("name") && has(PARAMS))
        || map.get("function").is_some_and(is_task)
}

fn plan(mut map: Map<String, Value>, wrapped: usize) -> Result<ProposedPlan, ParseError> {
    let holds_tasks =
        |key: &&&str| matches!(map.get(**key), Some(Value::Array(_) | Value::Object(_)));
    let key = TASKS.iter().find(holds_tasks).unwrap_or(&"tasks");
    let tasks = match map.shift_remove(*key) {
        Some(Value::Array(items)) => tasks(items)?,
        Some(Value::Object(inner)) if wrapped < 2 && is_plan(&inner) => {
            return plan(inner, wrapped + 1);
        }
        Some(Value::Object(inner)) => vec![task(inner, Some(0))?],
        None | Some(Value::Null) => Vec::new(),
        Some(_) => return Err(ParseError::new("'tasks' must be a list of tasks")),
    };
    Ok(ProposedPlan {
        reasoning: take(&mut map, &["reasoning", "thought", "thoughts"])
            .and_then(|value| value.as_str().map(str::to_owned)),
        answer_directly: take(&mut map, &["answer_directly"])
            .and_then(|value| said(value.as_str()?)),
        tasks,
        unplaced: match take(&mut map, &["unplaced"]) {
            Some(Value::String(part)) => vec![part],
            Some(value) => {
                texts(value).ok_or_else(|| ParseError::new("'unplaced' must be a list of texts"))?
            }
            None => Vec::new(),
        },
    })
}

/// The text, unless it is empty or the word "null", which models write for no text.
fn said(text: &str) -> Option<String> {
    let text = text.trim();
    let nothing = ["", "null", "none"]
        .iter()
        .any(|word| text.eq_ignore_ascii_case(word));
    (!nothing).then(|| text.to_owned())
}

fn tasks(items: Vec<Value>) -> Result<Vec<ProposedTask>, ParseError> {
    items
        .into_iter()
        .enumerate()
        .map(|(i, item)| {
            let Value::Object(map) = item else {
                return Err(ParseError::new(format!("tasks[{i}] must be an object")));
            };
            task(map, Some(i))
        })
        .collect()
}

fn task(mut map: Map<String, Value>, index: Option<usize>) -> Result<ProposedTask, ParseError> {
    let wrong = |what: &str| {
        let place = index.map_or_else(|| "the task".to_owned(), |i| format!("tasks[{i}]"));
        ParseError::new(format!("{place} {what}"))
    };
    // The shape of tool calls: {"type":"function","function":{"name":…,"arguments":…}}.
    if map.get("function").is_some_and(Value::is_object)
        && let Some(Value::Object(function)) = map.shift_remove("function")
    {
        map.extend(function);
    }
    let capability = match take(&mut map, CAPABILITY) {
        Some(Value::String(name)) => name,
        Some(_) => return Err(wrong("has a 'capability' that is no text")),
        None => return Err(wrong("has no 'capability'")),
    };
    let id = match take(&mut map, ID) {
        None => None,
        Some(Value::String(id)) => Some(id),
        Some(Value::Number(id)) => Some(id.to_string()),
        Some(_) => return Err(wrong("has an 'id' that is no text")),
    };
    let depends_on = take(&mut map, DEPENDS_ON).map_or_else(|| Some(Vec::new()), texts);
    let depends_on =
        depends_on.ok_or_else(|| wrong("has a 'depends_on' that is no list of ids"))?;
    let optional = take(&mut map, &["optional"]).is_some_and(|value| value == Value::Bool(true));
    let has_params = PARAMS.iter().any(|key| map.contains_key(*key));
    // Without a member for params the object's other members are the params.
    let replaces = if has_params {
        take(&mut map, &["replaces"])
    } else {
        None
    };
    let replaces = replaces.and_then(texts).unwrap_or_default();
    let params = match take(&mut map, PARAMS) {
        Some(Value::Object(params)) => params,
        Some(Value::String(text)) => serde_json::from_str(&text)
            .map_err(|_| wrong("has 'params' that are a text: they must be an object"))?,
        Some(_) => return Err(wrong("has 'params' that are no object")),
        None if has_params => Map::new(),
        None => {
            map.retain(|key, _| !REMARKS.contains(&key.as_str()));
            map
        }
    };
    Ok(ProposedTask {
        id,
        capability,
        params,
        depends_on,
        optional,
        replaces,
    })
}

/// Takes the value of the first key that exists and is not null.
fn take(map: &mut Map<String, Value>, keys: &[&str]) -> Option<Value> {
    let mut taken = None;
    for key in keys {
        if taken.is_none()
            && let Some(value) = map.shift_remove(*key)
        {
            taken = (!value.is_null()).then_some(value);
        }
    }
    taken
}

/// A list of texts, also from a single text, several in one text, or numbers.
fn texts(value: Value) -> Option<Vec<String>> {
    match value {
        Value::Null => Some(Vec::new()),
        Value::String(text) => Some(
            text.split(',')
                .map(str::trim)
                .filter(|part| !part.is_empty())
                .map(str::to_owned)
                .collect(),
        ),
        Value::Number(number) => Some(vec![number.to_string()]),
        Value::Array(items) => items
            .into_iter()
            .filter(|item| !item.is_null())
            .map(|item| match item {
                Value::String(text) => Some(text),
                Value::Number(number) => Some(number.to_string()),
                Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
            })
            .collect(),
        Value::Bool(_) | Value::Object(_) => None,
    }
}

#[cfg(test)]
mod tests;
