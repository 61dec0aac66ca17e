//! `amcp plan`: the plan that a query would be answered with.
//!
//! Carries nothing out.

use crate::cli;
use crate::client::Client;
use crate::commands::ask::user_request;
use crate::config::layers::Loaded;
use crate::output::{self, Style, Trouble, printable};
use crate::root::{Node, Purpose};
use crate::show;

/// Runs the command.
///
/// # Errors
/// The query was refused, or no plan could be made.
pub(crate) async fn run(loaded: &Loaded, args: cli::Plan) -> Result<u8, Trouble> {
    let cli::Plan { query } = args;
    let request = user_request(loaded, &query)?;
    let plan = match &query.url {
        Some(url) => Client::new(url)?.plan(&request).await?,
        None => {
            let node = Node::start(&loaded.config, Purpose::Look).await?;
            node.orchestrator.plan(request).await?
        }
    };
    if query.json {
        output::print_json(&plan)?;
    } else {
        output::print(show::plan(&plan, Style::for_stdout()))?;
    }
    if !query.quiet {
        let note = Style::for_stderr().cyan("note:");
        for text in &plan.notes {
            output::say(format_args!("{note} {}", printable(text)));
        }
    }
    Ok(0)
}
