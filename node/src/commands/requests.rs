//! `amcp requests`, `show`, `cancel` and `logs`: requests of a running node.
//!
//! Decides nothing about them: the node lists, cancels and tells.

use amcp_protocol::{Answer, Flow, Progress};
use serde_json::Value;

use crate::cli;
use crate::client::{Client, said};
use crate::commands::ask;
use crate::config::layers::Loaded;
use crate::output::{self, Style, Trouble, printable};
use crate::root;
use crate::show::{self, shortened};

/// Longest query in a list, in characters: the rest of a line of 120.
const MAX_QUERY: usize = 48;

/// A client of the node at this address, or of the one that the settings name.
///
/// # Errors
/// The address or the key is unusable.
pub(crate) fn client(loaded: &Loaded, url: Option<&str>) -> Result<Client, Trouble> {
    let config = &loaded.config;
    // A certificate is for the host by which others reach the node.
    let public = config
        .public_url
        .as_ref()
        .filter(|_| config.tls_cert.is_some());
    let guessed = || root::guessed_url(config, *config.http);
    let default = || public.map_or_else(guessed, |url| url.as_str().to_owned());
    Client::new(&url.map_or_else(default, str::to_owned), config)
}

/// `amcp requests`.
///
/// # Errors
/// The node's refusal, or no connection to it.
pub(crate) async fn list(loaded: &Loaded, args: &cli::Requests) -> Result<u8, Trouble> {
    let limit = args.limit.to_string();
    let mut filter = vec![("limit", limit.as_str())];
    for (name, value) in [
        ("state", &args.state),
        ("user", &args.user),
        ("since", &args.since),
        ("cursor", &args.cursor),
    ] {
        filter.extend(value.as_deref().map(|value| (name, value)));
    }
    let client = client(loaded, args.url.as_deref())?;
    let page = client.list(&filter).await?;
    if args.json {
        output::print_json(&page)?;
        return Ok(0);
    }
    let list = |field: &str| {
        page.get(field)
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
    };
    output::print(show::table(&rows(list("requests")), Style::for_stdout()))?;
    let note = Style::for_stderr().cyan("note:");
    for node in list("silent") {
        let node = printable(node.as_str().unwrap_or_default());
        output::say(format_args!(
            "{note} node {node} did not reply: its requests are missing"
        ));
    }
    if let Some(next) = page.get("next").and_then(Value::as_str) {
        output::say(format_args!(
            "{note} there are more: --cursor {}",
            printable(next)
        ));
    }
    Ok(0)
}

fn rows<'a>(requests: impl Iterator<Item = &'a Value>) -> Vec<Vec<String>> {
    let row = |request: &Value| {
        let user = text(request, "user").unwrap_or_else(|| "–".to_owned());
        let node = text(request, "owner").unwrap_or_else(|| "here".to_owned());
        let of = |field| text(request, field).unwrap_or_default();
        // A tab or a line's end would break the table.
        let query = of("query").split_whitespace().collect::<Vec<_>>().join(" ");
        vec![
            of("request_id"),
            of("state"),
            of("accepted_at"),
            took(request),
            of("task_count"),
            user,
            node,
            shortened(&query, MAX_QUERY),
        ]
    };
    let heading = show::heading("ID, STATE, ACCEPTED, TOOK, TASKS, USER, NODE, QUERY");
    std::iter::once(heading).chain(requests.map(row)).collect()
}

/// A field in words; none if it is missing.
fn text(request: &Value, field: &str) -> Option<String> {
    let value = request.get(field)?;
    Some(value.as_str().map_or_else(|| value.to_string(), printable))
}

fn took(request: &Value) -> String {
    let ms = |field| request.get(field).and_then(Value::as_u64).unwrap_or(0);
    let waited = match ms("waiting_ms") {
        0 => String::new(),
        waited => format!(" ({waited} waiting)"),
    };
    format!("{} ms{waited}", ms("total_ms"))
}

/// `amcp show`, and `amcp cancel` (`cancels`).
///
/// # Errors
/// The node's refusal, or no connection to it.
pub(crate) async fn show(
    loaded: &Loaded,
    args: &cli::OneRequest,
    cancels: bool,
) -> Result<u8, Trouble> {
    let client = client(loaded, args.url.as_deref())?;
    let request: Value = if cancels {
        client.cancel(args.id).await?
    } else {
        client.get(&format!("requests/{}", args.id)).await?
    };
    if args.json {
        output::print_json(&request)?;
    } else if cancels {
        let state = text(&request, "state").unwrap_or_default();
        output::print(format_args!("Request {} is {state}.", args.id))?;
    } else {
        print(&request)?;
    }
    Ok(0)
}

fn print(request: &Value) -> Result<(), Trouble> {
    let style = Style::for_stdout();
    for (name, field) in [
        ("request", "request_id"),
        ("query", "query"),
        ("user", "user"),
        ("node", "owner"),
        ("state", "state"),
        ("accepted", "accepted_at"),
        ("planner", "planner"),
    ] {
        if let Some(value) = text(request, field).filter(|value| !value.is_empty()) {
            output::print(format_args!("{} {value}", style.dim(&format!("{name:<9}"))))?;
        }
    }
    output::print(format_args!("{} {}", style.dim("took     "), took(request)))?;
    let flows = request.get("flows").and_then(Value::as_array);
    for flow in flows.into_iter().flatten() {
        if let Ok(flow) = serde_json::from_value::<Flow>(flow.clone()) {
            output::print(show::flow(&flow, style))?;
        }
    }
    if let Ok(answer) = serde_json::from_value::<Answer>(request.clone()) {
        output::print(show::reports(&answer.tasks, style))?;
        output::print(String::new())?;
        ask::remark(&answer, false);
        ask::show(&answer, false)?;
    }
    Ok(())
}

/// `amcp logs`.
///
/// # Errors
/// The node's refusal, no connection to it, or one that breaks off.
pub(crate) async fn logs(loaded: &Loaded, args: &cli::OneRequest) -> Result<u8, Trouble> {
    let style = Style::for_stdout();
    let each = |event: &Value| {
        if args.json {
            output::print(event)?;
        } else if let Some(progress) = said::<Progress>(event) {
            let time = text(event, "time").unwrap_or_default();
            output::print(format_args!(
                "{} {}",
                style.dim(&time),
                line(&progress, style)
            ))?;
        }
        Ok(())
    };
    let client = client(loaded, args.url.as_deref())?;
    client.events(args.id, each).await?;
    Ok(0)
}

fn line(progress: &Progress, style: Style) -> String {
    match progress {
        Progress::Planned {
            planner,
            round,
            tasks,
            unplaced,
        } => {
            let head = format!("planned by {}, round {round}", printable(planner));
            let tasks = show::tasks(tasks, style);
            let unplaced = unplaced.iter().map(|part| show::unplaced(part, style));
            let lines = std::iter::once(format!("{head}\n{}", tasks.trim_end())).chain(unplaced);
            lines.collect::<Vec<_>>().join("\n")
        }
        Progress::Answered { state } => format!("answered: {}", state.as_str()),
        Progress::Accepted { query } => format!("accepted: {}", printable(query)),
        Progress::Dispatched { .. }
        | Progress::Progressed { .. }
        | Progress::Retried { .. }
        | Progress::FlowRequired { .. }
        | Progress::FlowEnded { .. }
        | Progress::Completed { .. }
        | Progress::Failed { .. } => show::event(progress, style).unwrap_or_default(),
    }
}
