//! Composes an answer's text without an LLM: what each task has to say, and what is missing.
//!
//! Does not judge the results.

use super::{ComposeInput, Composed};

/// The `text` of each result, then what failed and what nobody can do.
#[must_use]
pub fn compose_plainly(input: &ComposeInput) -> Composed {
    let done = input
        .tasks
        .iter()
        .filter_map(|task| Some(task.result.as_ref()?.get("text")?.as_str()?.to_owned()));
    let failed = input.tasks.iter().filter_map(|task| {
        Some(format!(
            "{} was not done: {}.",
            task.capability,
            task.error.as_ref()?
        ))
    });
    let unplaced = input
        .unplaced
        .iter()
        .map(|part| format!("I have no agent for: {part}."));
    let text = done
        .chain(failed)
        .chain(unplaced)
        .collect::<Vec<_>>()
        .join("\n");
    let text = if text.is_empty() {
        "Done.".to_owned()
    } else {
        text
    };
    Composed {
        text,
        llm_calls: 0,
        notes: Vec::new(),
    }
}
