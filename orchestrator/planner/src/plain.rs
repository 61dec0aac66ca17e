//! Composes an answer's text without an LLM from the tasks' results and the missing parts.
//!
//! Does not judge the results, and never shows raw JSON.

mod value;

use amcp_protocol::llm::Usage;
use amcp_protocol::{TaskReport, TaskState};
use serde_json::Value;

use super::{ComposeInput, Composed};
use value::{cut, readable, scalar};

/// Longest text of one task, in characters: a page.
const MAX_TASK: usize = 3_000;
/// Longest notes of one task, in characters: a few sentences.
const MAX_NOTES: usize = 600;
/// Longest answer, in characters: as much as a person reads on a terminal.
const MAX_ANSWER: usize = 12_000;
/// Fields in which a result points to its substance elsewhere, the best for a reader first.
const POINTERS: [&str; 4] = ["url", "link", "path", "file"];

/// Writes the results of the finished tasks, then the failures with their reasons, then the parts without an agent.
///
/// By convention a result has a top-level `text` of one or two sentences; otherwise we write out the value. A result that
/// was merely another task's input is left out, unless that task only made a file of it.
#[must_use]
pub fn compose_plainly(input: &ComposeInput) -> Composed {
    let mut parts: Vec<String> = Vec::new();
    for task in input
        .tasks
        .iter()
        .filter(|task| !is_mere_input(task, input))
    {
        let said = task.result.as_deref().map(|result| said(task, result));
        parts.extend(said.filter(|text| !text.is_empty() && !parts.contains(text)));
    }
    parts.extend(input.tasks.iter().filter_map(failed));
    parts.extend(not_reached(&input.tasks));
    parts.extend(input.unplaced.iter().map(|part| unplaced(part)));
    if parts.is_empty() {
        parts.push("No agent could do any part of this request.".to_owned());
    }
    Composed {
        text: cut(&parts.join("\n"), MAX_ANSWER),
        llm_calls: 0,
        usage: Usage::default(),
        notes: Vec::new(),
    }
}

/// Whether all tasks that used the result completed and carry its substance on.
fn is_mere_input(task: &TaskReport, input: &ComposeInput) -> bool {
    let mut users = input
        .inputs
        .iter()
        .filter(|(from, _)| *from == task.id)
        .map(|(_, user)| {
            let user = input.tasks.iter().find(|other| other.id == *user);
            user.and_then(|user| user.result.as_deref())
        })
        .peekable();
    users.peek().is_some() && users.all(|result| result.is_some_and(|r| pointer(r).is_none()))
}

/// The path or URL that a result points to.
fn pointer(result: &Value) -> Option<&str> {
    POINTERS
        .iter()
        .find_map(|key| result.get(key)?.as_str())
        .filter(|place| !place.trim().is_empty())
}

fn said(task: &TaskReport, result: &Value) -> String {
    let text = match result.get("text").unwrap_or(result).as_str() {
        Some(text) => unquoted(text),
        None => {
            let text = readable(result);
            // A lone value needs a subject.
            if text.is_empty() || result.is_object() {
                text
            } else {
                format!("{}: {text}", task.capability)
            }
        }
    };
    let text = if text.is_empty() {
        format!("{} is done.", task.capability)
    } else {
        text
    };
    let notes = notes(result, &text);
    let mut text = cut(&text, MAX_TASK);
    if let Some(place) = pointer(result)
        && !POINTERS.iter().any(|key| names(&text, result.get(key)))
    {
        text = format!("{text}\n{place}");
    }
    if notes.is_empty() {
        text
    } else {
        format!("{text}\nNote: {notes}")
    }
}

/// What else the reader should know, unless the text says it; sources are no news.
fn notes(result: &Value, text: &str) -> String {
    let text = text.to_lowercase();
    let listed = result.get("notes").and_then(Value::as_array);
    let notes = listed.into_iter().flatten().chain(result.get("note"));
    let notes = notes.filter_map(|note| Some(note.as_str()?.trim()));
    let notes: Vec<_> = notes
        .filter(|note| {
            !note.starts_with("Source:")
                && !text.contains(note.trim_end_matches('.').to_lowercase().as_str())
        })
        .collect();
    cut(&notes.join(" "), MAX_NOTES)
}

fn names(text: &str, place: Option<&Value>) -> bool {
    place
        .map(scalar)
        .is_some_and(|place| !place.is_empty() && text.contains(&place))
}

/// The text; if it is JSON, its value in words.
fn unquoted(text: &str) -> String {
    let text = text.trim();
    if text.starts_with(['{', '[', '"'])
        && let Ok(value) = serde_json::from_str::<Value>(text)
    {
        return readable(&value);
    }
    text.to_owned()
}

fn failed(task: &TaskReport) -> Option<String> {
    if task.state != TaskState::Failed {
        return None;
    }
    let capability = &task.capability;
    let Some(failure) = &task.error else {
        return Some(format!("I could not do {capability}."));
    };
    let reason = failure.message.trim().trim_end_matches('.');
    let hint = failure
        .hint
        .as_deref()
        .map(|hint| format!(" ({})", hint.trim().trim_end_matches('.')));
    Some(format!(
        "I could not do {capability}: {reason}{}.",
        hint.unwrap_or_default()
    ))
}

/// One sentence for each reason why tasks were not tried.
fn not_reached(tasks: &[TaskReport]) -> impl Iterator<Item = String> {
    [
        (
            TaskState::Skipped,
            "Not done, because something that it needs is missing",
        ),
        (
            TaskState::Cancelled,
            "Not done, because the request ended before",
        ),
    ]
    .into_iter()
    .filter_map(|(state, why)| {
        let mut names: Vec<&str> = Vec::new();
        for task in tasks.iter().filter(|task| task.state == state) {
            if !names.contains(&task.capability.as_str()) {
                names.push(task.capability.as_str());
            }
        }
        (!names.is_empty()).then(|| format!("{why}: {}.", names.join(", ")))
    })
}

fn unplaced(part: &str) -> String {
    let part = part.trim();
    let end = if part.ends_with(['.', '?', '!', '…']) {
        ""
    } else {
        "."
    };
    // A planner that knows the reason adds it to the words of the user.
    if part.contains(" – ") {
        format!("Not done: {part}{end}")
    } else {
        format!("I have no agent for: {part}{end}")
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use amcp_plan::Catalogue;
    use amcp_protocol::{CapabilityName, ErrorCode, Failure, TaskId};
    use serde_json::json;

    use super::*;

    fn task(
        id: &str,
        capability: &str,
        state: TaskState,
        outcome: Result<Value, Failure>,
    ) -> TaskReport {
        let (result, error) = match outcome {
            Ok(value) => (Some(value.into()), None),
            Err(failure) => (None, Some(failure)),
        };
        TaskReport {
            calls: Vec::new(),
            id: TaskId::new(id).unwrap(),
            capability: CapabilityName::new(capability).unwrap(),
            agent: None,
            state,
            attempts: 1,
            duration_ms: 1,
            result,
            error,
        }
    }

    fn done(id: &str, capability: &str, result: Value) -> TaskReport {
        task(id, capability, TaskState::Completed, Ok(result))
    }

    fn compose(tasks: Vec<TaskReport>, inputs: &[(&str, &str)], unplaced: &[&str]) -> String {
        let id = |id: &str| TaskId::new(id).unwrap();
        compose_plainly(&ComposeInput {
            query: "anything".into(),
            tasks,
            inputs: inputs.iter().map(|(from, to)| (id(from), id(to))).collect(),
            unplaced: unplaced.iter().map(|&u| u.to_owned()).collect(),
            catalogue: Arc::new(Catalogue::default()),
            time: Duration::ZERO,
            llm_calls: 0,
            history: Vec::new(),
            pieces: crate::Sink::default(),
        })
        .text
    }

    #[test]
    fn each_result_says_its_text() {
        let tasks = vec![
            done(
                "t1",
                "weather.get",
                json!({"text": "Paris: 12 °C.", "temperature": 12}),
            ),
            done("t2", "joke.get", json!({"text": "A joke."})),
        ];
        assert_eq!(compose(tasks, &[], &[]), "Paris: 12 °C.\nA joke.");
    }

    #[test]
    fn a_report_says_its_sums_and_where_it_is() {
        let tasks = vec![
            done(
                "t1",
                "finance.analyze.expenses",
                json!({"text": "Q4 cost 10."}),
            ),
            done(
                "t2",
                "document.report.generate",
                json!({"text": "The report is ready.", "url": "http://x/r.pdf", "path": "/d/r.pdf"}),
            ),
            done("t3", "finance.db.query", json!({"text": "900 rows."})),
        ];
        assert_eq!(
            compose(tasks.clone(), &[("t3", "t1"), ("t1", "t2")], &[]),
            "Q4 cost 10.\nThe report is ready.\nhttp://x/r.pdf"
        );
        // Without the analysis only the rows are left to report.
        let mut tasks = tasks;
        tasks[0] = task(
            "t1",
            "finance.analyze.expenses",
            TaskState::Failed,
            Err(Failure::task("no memory")),
        );
        tasks[1] = task(
            "t2",
            "document.report.generate",
            TaskState::Skipped,
            Err(Failure::new(ErrorCode::DependencyFailed, "x")),
        );
        assert_eq!(
            compose(tasks, &[("t3", "t1"), ("t1", "t2")], &[]),
            "900 rows.\nI could not do finance.analyze.expenses: no memory.\n\
             Not done, because something that it needs is missing: document.report.generate."
        );
    }

    #[test]
    fn a_failure_is_a_sentence_with_what_to_do() {
        let failure = Failure::new(
            ErrorCode::UpstreamUnavailable,
            "the weather service cannot be reached",
        )
        .hint("use --offline");
        let tasks = vec![task("t1", "weather.get", TaskState::Failed, Err(failure))];
        assert_eq!(
            compose(
                tasks,
                &[],
                &[
                    "book me a flight",
                    "What's the weather – weather.get also needs: city"
                ]
            ),
            "I could not do weather.get: the weather service cannot be reached (use --offline).\n\
             I have no agent for: book me a flight.\n\
             Not done: What's the weather – weather.get also needs: city."
        );
    }

    #[test]
    fn notes_are_said_once_and_bounded() {
        let result = json!({
            "text": "The report is at /r.pdf (no forecast).", "path": "/r.pdf",
            "notes": ["Not all rows are shown.", "Source: ledger.", "No forecast.", 3], "note": "No font has 日.",
        });
        assert_eq!(
            compose(vec![done("t1", "a.b", result)], &[], &[]),
            "The report is at /r.pdf (no forecast).\nNote: Not all rows are shown. No font has 日."
        );
        let result = json!({"text": "x", "notes": vec!["word"; 10_000]});
        assert!(
            compose(vec![done("t1", "a.b", result)], &[], &[])
                .chars()
                .count()
                < MAX_NOTES + 20
        );
        assert_eq!(
            compose(vec![done("t1", "a.b", json!({"note": "hi"}))], &[], &[]),
            "Note: hi"
        );
    }

    #[test]
    fn a_result_without_a_text_is_read_out_and_json_in_a_text_too() {
        let tasks = vec![
            done("t1", "a.b", json!({"count": 2, "names": ["x", "y"]})),
            done("t2", "a.c", json!(42)),
            done("t3", "a.d", json!({"text": "{\"sum\": 3}"})),
            done("t4", "a.e", json!({})),
        ];
        assert_eq!(
            compose(tasks, &[], &[]),
            "Count: 2\nNames: x, y\na.c: 42\nSum: 3\na.e is done."
        );
    }

    #[test]
    fn an_answer_is_never_empty_nor_endless() {
        assert!(!compose(vec![], &[], &[]).is_empty());
        let long = "word ".repeat(100_000);
        let tasks = (0..32)
            .map(|i| {
                done(
                    &format!("t{i}"),
                    "a.b",
                    json!({"text": format!("{i} {long}")}),
                )
            })
            .collect();
        assert!(compose(tasks, &[], &[]).chars().count() <= MAX_ANSWER + 1);
    }
}
