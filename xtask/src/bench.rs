//! `cargo xtask bench`: builds the release binary and runs the bench of the mesh against it, or with `--cluster` the bench of
//! the links between nodes.
//!
//! `tests/benches/mesh/main.rs` and `tests/benches/cluster/main.rs` describe the measurements.

use std::path::PathBuf;

use crate::shell::{self, Problem, cargo, show};

pub(crate) fn run(args: &[&str]) -> Result<(), Problem> {
    if let ["--cluster", rest @ ..] = args {
        // The bench starts itself as its other processes.
        return measure("cluster", rest, &[]);
    }
    measure("mesh", args, &[("AMCP_BIN", shell::release()?)])
}

fn measure(name: &str, args: &[&str], environment: &[(&str, PathBuf)]) -> Result<(), Problem> {
    let mut bench = cargo();
    bench.args(["bench", "--package", "amcp-tests", "--bench", name, "--"]);
    bench.args(args);
    bench.envs(environment.iter().map(|(name, path)| (name, path)));
    show(bench).map_err(|why| Problem::new(why, "try the short run with --quick"))
}
