//! `amcp demo`: a whole node in this process, and the requirements' two scenarios as they happen.
//!
//! Shows only what the running node says: no plan, result or answer is written here.

use amcp_gateway::codes;
use amcp_protocol::{Answer, AnswerState, Progress, TaskReport, UserRequest};
use serde_json::Value;

use crate::cli;
use crate::commands::{demo_cluster, faults};
use crate::config::Config;
use crate::config::layers::Loaded;
use crate::config::value::LlmKind;
use crate::data;
use crate::openable::Reports;
use crate::output::{self, Style, Trouble, printable};
use crate::root::{Node, Purpose};
use crate::show;

/// The requirements' two scenarios: independent tasks, and a chain in which each task needs the previous task.
pub(super) const SCENARIOS: [&str; 2] = [
    "What's the weather in Paris and tell me a programming joke?",
    "Produce an expense summary report for Q4 2024",
];

/// Longest result that is shown, in characters.
const MAX_RESULT: usize = 200;

/// # Errors
/// The node does not start, or refuses a scenario.
pub(crate) async fn run(loaded: &Loaded, args: cli::Demo) -> Result<u8, Trouble> {
    if let Some(nodes) = args.cluster {
        return demo_cluster::run(nodes).await;
    }
    let mut config = loaded.config.clone();
    config.offline = !args.online;
    let style = Style::for_stdout();
    output::print(surroundings(&config))?;
    let purpose = if args.faults {
        Purpose::WorkUnderFaults
    } else {
        Purpose::Work
    };
    let node = Node::start(&config, purpose).await?;
    let agents = node.registry.directory().agents();
    let capabilities: usize = agents.iter().map(|agent| agent.capabilities.len()).sum();
    output::print(format_args!(
        "{} agents with {capabilities} capabilities are ready.",
        agents.len()
    ))?;
    if args.faults {
        return faults::run(&node, args.requests).await;
    }
    let mut exit = codes::EXIT_ANSWERED;
    let reports = Reports::Here(config.data.join(data::REPORTS));
    for query in SCENARIOS {
        let answer = scenario(&node, &reports, query, style).await?;
        if answer.state != AnswerState::Completed {
            exit = codes::EXIT_FAILED;
        }
    }
    node.drain(*config.drain).await;
    Ok(exit)
}

fn surroundings(config: &Config) -> String {
    let network = if config.offline {
        "offline: shipped sample data, labelled as such (--online uses the network)"
    } else {
        "online: the weather comes from Open-Meteo"
    };
    let planner = match config.llm {
        LlmKind::Embedded => "no LLM: the embedded planner plans (--llm ollama uses one)",
        LlmKind::Ollama => "plans come from Ollama",
        LlmKind::Openai => "plans come from an OpenAI-style server",
    };
    format!("This demo is {network}; {planner}.")
}

/// Asks, and prints progress as it comes.
async fn scenario(
    node: &Node,
    reports: &Reports,
    query: &str,
    style: Style,
) -> Result<Answer, Trouble> {
    output::print(format_args!("\n{} {}", style.bold(">"), style.bold(query)))?;
    let ticket = node.orchestrator.ask(UserRequest::new(query), None)?;
    let feed = node.orchestrator.progress(ticket.request_id(), 0);
    if let Some(mut feed) = feed {
        while let Some(recorded) = feed.next().await {
            progress(&recorded.progress, style)?;
        }
    }
    let answer = reports.linked(&*ticket.answer().await);
    for task in &answer.tasks {
        result(task, style)?;
    }
    let heading = format!("Answer ({}):", answer.state.as_str());
    let colour = match answer.state {
        AnswerState::Completed => style.green(&heading),
        AnswerState::Partial => style.yellow(&heading),
        AnswerState::Failed | AnswerState::Cancelled => style.red(&heading),
    };
    output::print(format_args!("{colour}\n{}", printable(&answer.answer)))?;
    for note in &answer.notes {
        output::print(format_args!("note: {}", printable(note)))?;
    }
    Ok(answer)
}

fn progress(progress: &Progress, style: Style) -> Result<(), Trouble> {
    if let Progress::Planned {
        planner,
        tasks,
        unplaced,
        ..
    } = progress
    {
        output::print(format_args!("Plan by {}", style.bold(planner)))?;
        output::print(show::tasks(tasks, style).trim_end())?;
        for part in unplaced {
            output::print(show::unplaced(part, style))?;
        }
    } else if let Some(line) = show::event(progress, style) {
        output::print(format_args!("  {line}"))?;
    }
    Ok(())
}

/// Prints a task's result in one line, and the file that the task wrote.
fn result(task: &TaskReport, style: Style) -> Result<(), Trouble> {
    let Some(result) = task.result.as_deref() else {
        return Ok(());
    };
    let text = show::shortened(&printable(&result.to_string()), MAX_RESULT);
    output::print(format_args!(
        "  {} {} {}",
        style.dim("="),
        task.id,
        style.dim(&text)
    ))?;
    if let Some(path) = result.get("url").and_then(Value::as_str)
        && let Ok(about) = std::fs::metadata(path)
    {
        let bytes = about.len();
        output::print(format_args!(
            "  {} {} ({bytes} bytes)",
            style.dim("file:"),
            style.bold(&printable(path))
        ))?;
    }
    Ok(())
}
