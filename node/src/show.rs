//! Plans, progress, answers and agents as text for a terminal.
//!
//! Pure: writes nothing. Makes foreign text (queries, results, names) printable.

use std::fmt::Write;

use amcp_orchestrator::PlanView;
use amcp_protocol::{CallReport, Flow, PlannedTaskView, Progress, TaskReport};
use amcp_registry::AgentStatus;
use serde_json::Value;

use crate::output::{Style, printable};

/// Longest value of a param that is shown, in characters.
const MAX_VALUE: usize = 80;
/// Longest value of a param that a person decides about, in characters: a page.
const MAX_DECIDED: usize = 2_000;
/// Deepest indentation of a call: a remote agent may name any depth.
const MAX_INDENT: usize = 8;

/// A plan: numbered tasks with their params, each edge with its reason.
pub(crate) fn plan(view: &PlanView, style: Style) -> String {
    let mut text = format!("Plan by {}\n", style.bold(&printable(&view.planner)));
    if let Some(answer) = &view.answer_directly {
        let _ = writeln!(text, "  no task is needed: {}", printable(answer));
    }
    text.push_str(&tasks(&view.tasks, style));
    for part in &view.unplaced {
        let _ = writeln!(text, "{}", unplaced(part, style));
    }
    text.trim_end().to_owned()
}

/// A part of the query that no capability covers.
pub(crate) fn unplaced(part: &str, style: Style) -> String {
    format!("  {} not done: {}", style.yellow("!"), printable(part))
}

/// The tasks of a plan: one line for each task and for each edge.
pub(crate) fn tasks(tasks: &[PlannedTaskView], style: Style) -> String {
    let id_width = tasks.iter().map(|t| t.id.as_str().len()).max().unwrap_or(0);
    let name_width = tasks
        .iter()
        .map(|t| t.capability.as_str().len())
        .max()
        .unwrap_or(0);
    let mut text = String::new();
    for (number, task) in tasks.iter().enumerate() {
        let name = format!("{:<name_width$}", task.capability.as_str());
        let _ = writeln!(
            text,
            "  {}. {:<id_width$}  {}  {}",
            number + 1,
            task.id.as_str(),
            style.cyan(&name),
            params(&task.params)
        );
        for before in &task.depends_on {
            let reason = task
                .inferred
                .iter()
                .find(|edge| edge.from == *before)
                .map_or("the planner said so", |edge| edge.reason.as_str());
            let after = format!("after {before}: {}", printable(reason));
            let _ = writeln!(text, "     {:<id_width$}  {}", "", style.dim(&after));
        }
    }
    text
}

/// Params on one line: `quarter="Q4 2024"  rows←t1/rows`.
fn params(params: &Value) -> String {
    let Some(map) = params.as_object() else {
        return value(params);
    };
    let shown: Vec<String> = map
        .iter()
        .map(|(name, param)| match reference(param) {
            Some((from, path)) => format!("{name}←{}{}", printable(from), printable(path)),
            None => format!("{name}={}", value(param)),
        })
        .collect();
    shown.join("  ")
}

fn reference(value: &Value) -> Option<(&str, &str)> {
    let from = value.get("$ref")?.as_str()?;
    let path = value.get("path").and_then(Value::as_str);
    Some((from, path.unwrap_or_default()))
}

fn value(value: &Value) -> String {
    shortened(&printable(&value.to_string()), MAX_VALUE)
}

/// The text, cut to `limit` characters.
pub(crate) fn shortened(text: &str, limit: usize) -> String {
    if text.chars().count() <= limit {
        return text.to_owned();
    }
    let head: String = text.chars().take(limit.saturating_sub(1)).collect();
    format!("{head}…")
}

/// A flow's question in words, and the task with all its params.
pub(crate) fn flow(flow: &Flow, style: Style) -> String {
    let whole = |value: &Value| shortened(&printable(&value.to_string()), MAX_DECIDED);
    let mut text = format!(
        "{} {} needs a {}: {}\n  {}",
        style.yellow("?"),
        flow.task,
        flow.kind.noun(),
        style.bold(&printable(&flow.prompt)),
        style.cyan(flow.subject.capability.as_str())
    );
    match flow.subject.params.as_object() {
        Some(params) => {
            for (name, value) in params {
                let _ = write!(text, "\n    {} = {}", printable(name), whole(value));
            }
        }
        None => {
            let _ = write!(text, "\n    {}", whole(&flow.subject.params));
        }
    }
    if !flow.payload.is_null() {
        let _ = write!(text, "\n  with {}", whole(&flow.payload));
    }
    text
}

/// An event of a task in one line; none for events that other functions show.
pub(crate) fn event(progress: &Progress, style: Style) -> Option<String> {
    let arrow = style.dim("→");
    let line = match progress {
        Progress::Dispatched {
            task,
            capability,
            attempt,
            agent,
        } => {
            let again = match attempt {
                1 => String::new(),
                n => format!(", attempt {n}"),
            };
            let capability = style.cyan(capability.as_str());
            format!("{arrow} {task} {capability} to {agent}{again}")
        }
        Progress::Progressed { task, note } => {
            format!("{arrow} {task} {}", printable(note))
        }
        Progress::Retried {
            task,
            error,
            after_ms,
            ..
        } => format!(
            "{} {task} failed ({}), again in {after_ms} ms",
            style.yellow("↻"),
            printable(&error.message)
        ),
        Progress::FlowRequired { flow } => format!(
            "{} {} waits for a {}: {}",
            style.yellow("?"),
            flow.task,
            flow.kind.noun(),
            printable(&flow.prompt)
        ),
        Progress::FlowEnded { task, end, .. } => {
            format!("{arrow} {task} was {end}")
        }
        Progress::Completed {
            task,
            agent,
            duration_ms,
            calls,
        } => {
            let done = format!(
                "{} {task} done by {agent} in {duration_ms} ms",
                style.green("✓")
            );
            with_calls(done, calls, style)
        }
        Progress::Failed {
            task,
            state,
            error,
            calls,
        } => {
            let ended = format!(
                "{} {task} {}: {}",
                style.red("✗"),
                word(state),
                printable(&error.message)
            );
            with_calls(ended, calls, style)
        }
        Progress::Accepted { .. } | Progress::Planned { .. } | Progress::Answered { .. } => {
            return None;
        }
    };
    Some(line)
}

fn with_calls(mut task: String, calls: &[CallReport], style: Style) -> String {
    for call in calls {
        task.push_str(&called(call, style));
    }
    task
}

/// A call that a task made, on a line of its own below the task.
fn called(call: &CallReport, style: Style) -> String {
    let indent = "  ".repeat(usize::from(call.depth).min(MAX_INDENT));
    let agent = call.agent.iter().map(|agent| format!(" by {agent}"));
    let agent: String = agent.collect();
    let end = match call.error {
        None => format!("in {} ms", call.elapsed_ms),
        Some(error) => style.red(&format!("failed ({})", error.as_str())),
    };
    let name = style.cyan(call.capability.as_str());
    format!("\n  {indent}↳ {name}{agent} {end}")
}

/// The ends of tasks: one line for each, and one for its error.
pub(crate) fn reports(tasks: &[TaskReport], style: Style) -> String {
    let line = |task: &TaskReport| {
        let agent = task.agent.as_ref().map_or("–", |agent| agent.as_str());
        let (state, ms) = (word(&task.state), task.duration_ms);
        let capability = style.cyan(task.capability.as_str());
        let line = format!(
            "  {}  {capability}  {state} by {agent} in {ms} ms, attempts: {}",
            task.id, task.attempts
        );
        let error = task.error.iter();
        let error =
            error.map(|error| format!("\n     {}: {}", error.code, printable(&error.message)));
        with_calls(line + &error.collect::<String>(), &task.calls, style)
    };
    tasks.iter().map(line).collect::<Vec<_>>().join("\n")
}

/// The state of an agent, as in its JSON, and the seconds left while the agent cools down.
pub(crate) fn agent_state(agent: &AgentStatus, now_unix_ms: i64) -> String {
    let state = word(&agent.state);
    match agent.again_at_unix_ms {
        Some(at) => format!("{state}, {} s left", (at - now_unix_ms).max(0) / 1_000),
        None => state,
    }
}

/// A state as JSON writes it.
pub(crate) fn word(state: &impl serde::Serialize) -> String {
    let json = serde_json::to_value(state).unwrap_or_default();
    json.as_str().unwrap_or("unknown").to_owned()
}

/// A row of words, such as a heading, from a text with commas between them.
pub(crate) fn heading(words: &str) -> Vec<String> {
    words.split(", ").map(str::to_owned).collect()
}

/// Columns as wide as their widest cell; the first row is the heading.
pub(crate) fn table(rows: &[Vec<String>], style: Style) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        rows.iter()
            .filter_map(|row| row.get(column))
            .map(|cell| cell.chars().count())
            .max()
            .unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    for (number, row) in rows.iter().enumerate() {
        let cells: Vec<String> = row
            .iter()
            .zip(&widths)
            .map(|(cell, &width)| format!("{cell:<width$}"))
            .collect();
        let line = cells.join("  ");
        let line = line.trim_end();
        text.push_str(&if number == 0 {
            style.bold(line)
        } else {
            line.to_owned()
        });
        text.push('\n');
    }
    text.trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_plan_shows_params_references_and_the_reason_of_each_edge() {
        let view: PlanView = serde_json::from_value(json!({
            "planner": "embedded",
            "tasks": [
                {"id": "t1", "capability": "finance.db.query", "params": {"quarter": "Q4 2024"}, "depends_on": [], "inferred": []},
                {"id": "t2", "capability": "finance.analyze.expenses",
                 "params": {"rows": {"$ref": "t1", "path": "/rows"}}, "depends_on": ["t1"],
                 "inferred": [{"from": "t1", "reason": "it needs expense.rows"}]},
            ],
            "unplaced": ["walk the \u{1b}[31mdog"],
        }))
        .unwrap();
        let text = plan(&view, Style::none());
        for part in [
            "Plan by embedded",
            "1. t1  finance.db.query          quarter=\"Q4 2024\"",
            "2. t2  finance.analyze.expenses  rows←t1/rows",
            "after t1: it needs expense.rows",
            "not done: walk the \u{fffd}[31mdog",
        ] {
            assert!(text.contains(part), "{part} is missing from:\n{text}");
        }
    }

    #[test]
    fn what_a_task_called_stands_below_it_whether_it_was_done_or_not() {
        let calls = json!([
            {"depth": 1, "capability": "finance.db.query", "agent": "finance-db-1@b", "elapsed_ms": 7, "error": null},
            {"depth": 2, "capability": "math.eval", "agent": null, "elapsed_ms": 1, "error": "no_agent"},
        ]);
        let shown = |progress: Value| {
            let progress = serde_json::from_value(progress).unwrap();
            event(&progress, Style::none()).unwrap()
        };
        let below = "\n    ↳ finance.db.query by finance-db-1@b in 7 ms\n      ↳ math.eval failed (no_agent)";
        let mut done =
            json!({"kind": "completed", "task": "t1", "agent": "orchestrator@b", "duration_ms": 9});
        let mut failed = json!({"kind": "failed", "task": "t1", "state": "failed", "error": {"code": "task_failed", "message": "no"}});
        done["calls"] = calls.clone();
        failed["calls"] = calls;
        assert_eq!(
            shown(done),
            format!("✓ t1 done by orchestrator@b in 9 ms{below}")
        );
        assert_eq!(shown(failed), format!("✗ t1 failed: no{below}"));
    }
}
