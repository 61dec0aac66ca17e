//! `amcp plan`: plans a query and prints the plan.
//!
//! Carries nothing out.

use std::path::Path;
use std::sync::Arc;

use amcp_orchestrator::PlanView;
use amcp_planner::cards;
use amcp_protocol::{Access, UserRequest};
use jiff::civil::Date;

use crate::cli;
use crate::client::Client;
use crate::commands::ask::user_request;
use crate::config::layers::Loaded;
use crate::output::{self, Style, Trouble, printable};
use crate::root::{Node, Planning, Purpose, this_day};
use crate::show;

/// # Errors
/// The query was refused, or no plan could be made.
pub(crate) async fn run(loaded: &Loaded, args: cli::Plan) -> Result<u8, Trouble> {
    let cli::Plan {
        query,
        cards,
        today,
    } = args;
    let request = user_request(loaded, &query)?;
    let plan = match &query.asker.url {
        Some(url) => {
            Client::new(url, &loaded.config)?
                .post("plan", &request)
                .await?
        }
        None if cards.is_some() || today.is_some() => {
            over(loaded, request, cards.as_deref(), today).await?
        }
        None => {
            let node = Node::start(&loaded.config, Purpose::Look).await?;
            node.orchestrator.plan(request).await?
        }
    };
    if query.asker.json {
        output::print_json(&plan)?;
    } else {
        output::print(show::plan(&plan, Style::for_stdout()))?;
    }
    if !query.asker.quiet {
        let note = Style::for_stderr().cyan("note:");
        for text in &plan.notes {
            output::say(format_args!("{note} {}", printable(text)));
        }
    }
    Ok(0)
}

/// Plans in this process over a file of cards, or over the specialists' cards.
async fn over(
    loaded: &Loaded,
    request: UserRequest,
    cards: Option<&Path>,
    today: Option<Date>,
) -> Result<PlanView, Trouble> {
    let planning = Planning::new(&loaded.config)?;
    let catalogue = match cards {
        None => planning.offered.clone(),
        Some(path) => {
            let unusable = |why: String| {
                Trouble::usage(format!("the cards of {}: {why}", path.display())).hint(
                    "write a list of capabilities, each with its name, description and params",
                )
            };
            let text = std::fs::read_to_string(path).map_err(|e| unusable(e.to_string()))?;
            Arc::new(cards::parse(&text).map_err(|error| unusable(error.to_string()))?)
        }
    };
    let mut input = planning.input(request.query, catalogue, today.unwrap_or_else(this_day));
    input.access = Access::new(request.roles, Arc::default());
    let planned = planning.plan(input).await.map_err(|error| error.failure)?;
    Ok(planned.into())
}
