//! A node and its command line: parse, validate, trace, start, await a signal, drain.
//!
//! Decides nothing about a request. The binary `amcp` adds an allocator to this library.

mod audience;
mod cli;
mod client;
mod commands;
mod config;
mod data;
mod live;
mod metrics;
mod openable;
mod otlp;
mod output;
mod person;
mod recording;
mod root;
mod show;
mod trace;

use std::process::ExitCode;

use crate::cli::{Cli, Command};
use crate::config::layers::{self, Inputs};
use crate::otlp::Exporter;

/// Runs the command line of this process and returns its exit code.
#[must_use]
pub fn main() -> ExitCode {
    let (cli, inputs) = Cli::read();
    let json = cli.command.prints_json();
    let exit = run(cli, &inputs).unwrap_or_else(|trouble| {
        output::report(&trouble);
        let exit = trouble.exit();
        if json {
            // As over HTTP. Without stdout there is nobody to tell.
            let error = trouble.into_failure();
            let _ = output::print_json(&serde_json::json!({ "error": error }));
        }
        exit
    });
    ExitCode::from(exit)
}

fn run(cli: Cli, inputs: &Inputs) -> Result<u8, output::Trouble> {
    data::keep_private();
    if let Command::Config { what } = &cli.command {
        return commands::config::run(inputs, what);
    }
    if let Command::Completions { shell } = cli.command {
        return commands::help::completions(shell);
    }
    if let Command::Man { folder } = &cli.command {
        return commands::help::man(folder);
    }
    let loaded = layers::load(inputs)?;
    let (log, _guard, exporter) = trace::start(&loaded.config, &cli.command)?;
    loaded.warn();
    if let Command::Keys { what } = cli.command {
        return commands::keys::run(&loaded, what);
    }
    if let Command::Audit { what } = cli.command {
        return commands::audit::run(&loaded, what);
    }
    if let Command::Journal { what } = cli.command {
        return commands::journal::run(&loaded, what);
    }
    if let Command::Replay { file } = &cli.command {
        return commands::replay::run(file);
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_name("amcp")
        .build()?;
    let exit = runtime.block_on(async {
        let exporter = exporter.map(Exporter::start);
        let exit = match cli.command {
            Command::Ask(args) => commands::ask::run(&loaded, args).await,
            Command::Run(args) => commands::run::run(&loaded, args).await,
            Command::Plan(args) => commands::plan::run(&loaded, args).await,
            Command::Eval(args) => commands::eval::run(&loaded, args).await,
            Command::Agents(args) => commands::agents::run(&loaded, args).await,
            Command::Requests(args) => commands::requests::list(&loaded, &args).await,
            Command::Show(args) => commands::requests::show(&loaded, &args, false).await,
            Command::Cancel(args) => commands::requests::show(&loaded, &args, true).await,
            Command::Logs(args) => commands::requests::logs(&loaded, &args).await,
            Command::Doctor { json } => commands::doctor::run(&loaded, json).await,
            Command::Node => commands::node::run(loaded, &log).await,
            Command::Cluster(args) => commands::cluster::run(&loaded, args).await,
            Command::Policy { what } => commands::policy::run(&loaded, what).await,
            Command::Demo(args) => commands::demo::run(&loaded, args).await,
            Command::Config { .. }
            | Command::Audit { .. }
            | Command::Journal { .. }
            | Command::Keys { .. }
            | Command::Completions { .. }
            | Command::Man { .. }
            | Command::Replay { .. } => {
                unreachable!("served above, without a runtime")
            }
        };
        if let Some(exporter) = exporter {
            exporter.end().await;
        }
        exit
    });
    // A blocking call whose result is no longer wanted must not keep the process.
    runtime.shutdown_background();
    exit
}
