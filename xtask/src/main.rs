//! Maintainers' commands: `cargo xtask test | tidy | bench | picture`.
//!
//! Runs the tools that check the workspace. Knows nothing about the mesh.

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a command-line tool talks to its user"
)]

mod bench;
mod picture;
mod shell;
mod test;
mod tidy;

use std::process::ExitCode;

use shell::Problem;

const USAGE: &str = "\
Maintainers' commands of AMCP

  cargo xtask test             formatting, tidy, licences, clippy, doctests, tests: all that CI runs
  cargo xtask tidy             the rules of the house that can be checked by reading the sources
  cargo xtask bench [--quick]  the mesh beside bare ractor, over HTTP, under overload, from a cold start (release build)
  cargo xtask bench --cluster  the links between nodes beside bare ractor_cluster; many agents
  cargo xtask picture          docs/demo.svg, the README's picture, from a run of `amcp demo`
";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let outcome = match args.as_slice() {
        ["test"] => test::run(),
        ["tidy"] => tidy::run(),
        ["picture"] => picture::run(),
        ["bench", rest @ ..] => bench::run(rest),
        ["help" | "-h" | "--help"] => {
            println!("{USAGE}");
            return ExitCode::SUCCESS;
        }
        [] => Err(Problem::new("a command is missing", USAGE)),
        other => Err(Problem::new(
            format!("`{}` is no command", other.join(" ")),
            USAGE,
        )),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            eprintln!("{problem}");
            ExitCode::FAILURE
        }
    }
}

/// All commands; tidy checks the documents against this list.
const COMMANDS: &[&str] = &["test", "tidy", "bench", "picture", "help"];
