//! `cargo xtask bench`: builds the release binary and runs the bench of the mesh against it.
//!
//! What is measured, and how, is said in `tests/benches/mesh.rs`.

use crate::shell::{self, Problem, cargo, show};

pub(crate) fn run(args: &[&str]) -> Result<(), Problem> {
    // By itself, as users build it: together with the tests it would get their dependencies' features as well.
    let mut build = cargo();
    build.args(["build", "--release", "--package", "amcp"]);
    show(build).map_err(|why| Problem::new(why, "the release build has to pass first"))?;

    let mut bench = cargo();
    bench.args(["bench", "--package", "amcp-tests", "--bench", "mesh", "--"]);
    bench.args(args);
    bench.env("AMCP_BIN", shell::amcp(&shell::metadata()?, "release"));
    show(bench).map_err(|why| Problem::new(why, "`cargo xtask bench --quick` is the short run"))
}
