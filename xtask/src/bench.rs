//! `cargo xtask bench`: builds the release binary and runs the bench of the mesh against it; with `--cluster` that of the
//! links between nodes.
//!
//! What is measured, and how, is said in `tests/benches/mesh/main.rs` and `tests/benches/cluster/main.rs`.

use std::path::PathBuf;

use crate::shell::{self, Problem, cargo, show};

pub(crate) fn run(args: &[&str]) -> Result<(), Problem> {
    if let ["--cluster", rest @ ..] = args {
        // Its processes are the bench itself.
        return measure("cluster", rest, &[]);
    }
    // By itself, as users build it: together with the tests it would get their dependencies' features as well.
    let mut build = cargo();
    build.args(["build", "--release", "--package", "amcp"]);
    show(build).map_err(|why| Problem::new(why, "the release build has to pass first"))?;

    let amcp = shell::amcp(&shell::metadata()?, "release");
    measure("mesh", args, &[("AMCP_BIN", amcp)])
}

fn measure(name: &str, args: &[&str], environment: &[(&str, PathBuf)]) -> Result<(), Problem> {
    let mut bench = cargo();
    bench.args(["bench", "--package", "amcp-tests", "--bench", name, "--"]);
    bench.args(args);
    bench.envs(environment.iter().map(|(name, path)| (name, path)));
    show(bench).map_err(|why| Problem::new(why, "with --quick it is the short run"))
}
