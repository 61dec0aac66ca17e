//! `amcp doctor`: checks that what a node needs is present and usable.
//!
//! Repairs nothing; each failed check says what to do.

use std::time::Duration;

use amcp_gateway::codes;
use amcp_planner::client::{Check, probe};
use amcp_protocol::{ErrorCode, Failure, RequestId};
use amcp_specialists::{Context, Task, builtin};
use serde_json::json;

use crate::client::Client;
use crate::config::Config;
use crate::config::layers::Loaded;
use crate::data;
use crate::output::{self, Style, Trouble, printable};
use crate::root;

/// Time-out of the ledger's check: its first read builds the ledger, thousands of rows on a slow disk.
const LEDGER_TIME: Duration = Duration::from_secs(10);
/// Time-out of a running node's answer: a thousand times as long as it takes.
const LOOK: Duration = Duration::from_secs(2);

/// # Errors
/// Those of stdout; a failed check is no error.
pub(crate) async fn run(loaded: &Loaded, json: bool) -> Result<u8, Trouble> {
    let config = &loaded.config;
    let mut checks = vec![
        data_folder(config),
        ledger(config).await,
        port(config).await,
    ];
    checks.extend(llm(config).await);
    let ok = checks.iter().all(|check| check.ok);
    if json {
        output::print_json(&json!({"ok": ok, "checks": checks}))?;
    } else {
        let style = Style::for_stdout();
        for check in &checks {
            output::print(line(check, style))?;
        }
    }
    Ok(if ok {
        codes::EXIT_ANSWERED
    } else {
        codes::EXIT_FAILED
    })
}

fn line(check: &Check, style: Style) -> String {
    let mark = if check.ok {
        style.green("ok  ")
    } else {
        style.red("FAIL")
    };
    let detail = printable(&check.detail);
    let hint = match &check.hint {
        Some(hint) => format!("\n      {} {}", style.cyan("hint:"), printable(hint)),
        None => String::new(),
    };
    format!("{mark}  {:<11}  {detail}{hint}", check.name)
}

fn data_folder(config: &Config) -> Check {
    let folder = config.data.display();
    match data::prepare(&config.data) {
        Ok(()) => Check::good("data", format!("{folder} can be written")),
        Err(error) => {
            let message = format!("{folder} cannot be written: {error}");
            let failure = Failure::new(ErrorCode::Internal, message);
            Check::bad("data", failure.hint("choose another folder with --data"))
        }
    }
}

/// Sends the ledger's specialist the example task of its card.
async fn ledger(config: &Config) -> Check {
    let settings = root::specialist_settings(config, None);
    let specialists = builtin::all(&settings).into_iter().map(|(_, make)| make());
    for specialist in specialists {
        for capability in specialist.card().capabilities.iter() {
            if capability.name.as_str() != "finance.db.query" {
                continue;
            }
            let params = capability.examples.first().map(|e| e.params.clone());
            let task = Task {
                capability: capability.name.clone(),
                params: params.unwrap_or_else(|| json!({})).into(),
            };
            let context = Context::detached(RequestId::from_uuid(uuid::Uuid::nil()), LEDGER_TIME);
            return match specialist.handle(task, &context).await {
                Ok(result) => Check::good("ledger", summary(&result)),
                Err(failure) => Check::bad("ledger", failure),
            };
        }
    }
    Check::bad(
        "ledger",
        Failure::internal("no specialist offers finance.db.query"),
    )
}

fn summary(result: &serde_json::Value) -> String {
    let text = result.get("text").and_then(|text| text.as_str());
    text.unwrap_or("the sample ledger can be read").to_owned()
}

async fn port(config: &Config) -> Check {
    let address = *config.http;
    if let Err(trouble) = root::check_http(config) {
        return Check::bad("http", trouble.into_failure());
    }
    let error = match std::net::TcpListener::bind(address) {
        Ok(_) => return Check::good("http", format!("{address} is free")),
        Err(error) => error,
    };
    if error.kind() == std::io::ErrorKind::AddrInUse && is_node(config).await {
        return Check::good("http", format!("a node is running at {address}"));
    }
    let failure = root::bind_failure(address, &error);
    Check::bad("http", failure)
}

async fn is_node(config: &Config) -> bool {
    let url = root::guessed_url(config, *config.http);
    let client = Client::new(&url, config).ok();
    let ask = async { client?.get::<serde_json::Value>("livez").await.ok() };
    let answer = tokio::time::timeout(LOOK, ask).await.ok().flatten();
    answer.is_some_and(|body| body.get("status") == Some(&json!("live")))
}

async fn llm(config: &Config) -> Vec<Check> {
    match root::llm_settings(config) {
        Ok(Some(settings)) => probe(&settings).await,
        Ok(None) => vec![Check::good(
            "llm",
            "none is configured: the embedded planner plans, and answers are put together from the results",
        )],
        Err(trouble) => vec![Check::bad("llm", trouble.into_failure())],
    }
}
