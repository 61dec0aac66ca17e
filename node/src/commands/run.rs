//! `amcp run`: one capability, or a plan from a file, without a planner.
//!
//! Judges nothing: the orchestrator compiles such a plan like any other.

use std::io::Read;
use std::path::Path;

use amcp_protocol::{ProposedTask, RunRequest};
use serde_json::Value;

use crate::cli;
use crate::commands::ask;
use crate::config::layers::Loaded;
use crate::output::Trouble;

/// Most bytes of a plan, as over HTTP.
const MAX_BYTES: u64 = 128 * 1024;

/// Runs the command.
///
/// # Errors
/// The plan is unusable or was refused, or could not be sent.
pub(crate) async fn run(loaded: &Loaded, args: cli::Run) -> Result<u8, Trouble> {
    let plan = match &args.plan {
        Some(file) => read(file)?,
        None => RunRequest {
            tasks: vec![ProposedTask {
                capability: args.capability.unwrap_or_default(),
                params: args.params.into_iter().map(param).collect(),
                ..ProposedTask::default()
            }],
            ..RunRequest::default()
        },
    };
    let request = ask::asked_by(loaded, &args.asker, plan.into())?;
    ask::carry_out(loaded, request, &args.asker, args.how).await
}

/// The compiler mends `4` and `true` where the schema wants a number or a truth value.
fn param((name, text): (String, String)) -> (String, Value) {
    let structure = text
        .starts_with(['{', '['])
        .then(|| serde_json::from_str(&text));
    let value = structure.and_then(Result::ok);
    (name, value.unwrap_or(Value::String(text)))
}

fn read(file: &Path) -> Result<RunRequest, Trouble> {
    let unusable = |why: String| {
        Trouble::usage(format!("the plan in {}: {why}", file.display())).hint(
            r#"write {"tasks": [{"capability": "math.eval", "params": {"expression": "17 * 23"}}]}; docs/HTTP.md says more"#,
        )
    };
    let source: Box<dyn Read> = if file == Path::new("-") {
        Box::new(std::io::stdin().lock())
    } else {
        Box::new(std::fs::File::open(file).map_err(|error| unusable(error.to_string()))?)
    };
    let mut bytes = Vec::new();
    let read = source.take(MAX_BYTES + 1).read_to_end(&mut bytes);
    let size = read.map_err(|error| unusable(error.to_string()))?;
    if size as u64 > MAX_BYTES {
        return Err(unusable(format!("it has more than {MAX_BYTES} bytes")));
    }
    let mut json = serde_json::Deserializer::from_slice(&bytes);
    serde_path_to_error::deserialize(&mut json).map_err(|error| unusable(error.to_string()))
}
