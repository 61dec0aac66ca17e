//! `cargo xtask test`: all checks that CI runs, the tests last.
//!
//! All checks run even if one fails, so that one run shows all faults.

use std::time::Instant;

use crate::shell::{self, Problem, cargo, command, show, succeeds};
use crate::tidy;

pub(crate) fn run() -> Result<(), Problem> {
    require_c_compiler()?;
    require_component("fmt", "rustfmt")?;
    require_component("clippy", "clippy")?;
    try_network_tools();

    let mut failed = Vec::new();
    let mut check = |name: &'static str, outcome: &dyn Fn() -> Result<(), String>| {
        eprintln!("── {name}");
        let start = Instant::now();
        let result = outcome();
        let seconds = start.elapsed().as_secs_f32();
        match result {
            Ok(()) => eprintln!("   {name}: passed ({seconds:.1} s)"),
            Err(why) => {
                eprintln!("   {name}: FAILED ({seconds:.1} s): {why}");
                failed.push(name);
            }
        }
    };
    check("format", &|| show(with("fmt --all --check")));
    check("tidy", &|| tidy::run().map_err(|p| p.to_string()));
    if succeeds(with("deny --version")) {
        check("licences, bans, sources", &|| {
            show(with("deny check licenses bans sources"))
        });
    } else {
        eprintln!(
            "── licences, bans, sources: skipped, because cargo-deny is not installed (`cargo install --locked cargo-deny` takes minutes)"
        );
    }
    // Denies warnings by an argument, because RUSTFLAGS would make every dependency build again.
    check("clippy", &|| {
        show(with("clippy --workspace --all-targets -- -D warnings"))
    });
    // With --tests, so that dependencies have the tests' features and are built once.
    check("build", &|| show(with("build --workspace --bins --tests")));
    check("doctests", &|| show(with("test --workspace --doc")));
    if !failed.is_empty() {
        eprintln!("── failed: {}; the tests run anyway", failed.join(", "));
    }
    let tests = tests();
    match (tests, failed.as_slice()) {
        (Ok(()), []) => Ok(()),
        (Ok(()), failed) => Err(Problem::new(
            format!(
                "the tests pass, but these checks fail: {}",
                failed.join(", ")
            ),
            "see the output of each above",
        )),
        (Err(why), _) => Err(Problem::new(why, "the output above names the failed tests")),
    }
}

fn with(args: &str) -> std::process::Command {
    let mut command = cargo();
    command.args(args.split(' '));
    command
}

fn tests() -> Result<(), String> {
    let runner = if succeeds(with("nextest --version")) {
        "nextest run --workspace"
    } else {
        eprintln!("   cargo-nextest is not installed: `cargo test` runs the tests");
        // Libraries, binaries and tests, but no benches. Doctests ran before.
        "test --workspace --lib --bins --tests --no-fail-fast"
    };
    eprintln!("── tests");
    show(with(runner))
}

fn require_component(subcommand: &str, component: &str) -> Result<(), Problem> {
    if succeeds(with(&format!("{subcommand} --version"))) {
        return Ok(());
    }
    eprintln!("── {component} is missing: installing it");
    let mut install = command("rustup");
    install.args(["component", "add", component]);
    if show(install).is_ok() && succeeds(with(&format!("{subcommand} --version"))) {
        return Ok(());
    }
    Err(Problem::new(
        format!("`cargo {subcommand}` is missing and could not be installed"),
        format!(
            "run `rustup component add {component}`, or install it with the toolchain's package"
        ),
    ))
}

/// Installs what the tests of partitions need for network namespaces; without it they are skipped and say so.
fn try_network_tools() {
    let is_there = |tool: &str| {
        let mut probe = command(tool);
        probe.arg(if tool == "apt-get" { "--version" } else { "-V" });
        succeeds(probe)
    };
    if ["ip", "tc", "nft"].into_iter().all(is_there) {
        return;
    }
    let mut who = command("id");
    who.arg("-u");
    let is_root = shell::output(who).is_ok_and(|id| id.trim() == "0");
    let mut install = command("apt-get");
    install.args("install --yes --no-install-recommends iproute2 nftables".split(' '));
    if is_root && is_there("apt-get") {
        eprintln!("── iproute2 and nftables are missing: installing them");
        let mut update = command("apt-get");
        update.args(["--quiet", "update"]);
        if show(update).and_then(|()| show(install)).is_ok() {
            return;
        }
    }
    eprintln!(
        "   tests of partitions are skipped: they need root, iproute2 and nftables (Debian, Ubuntu: `apt install iproute2 nftables`)"
    );
}

/// SQLite and aws-lc-rs are partly C.
fn require_c_compiler() -> Result<(), Problem> {
    let named = std::env::var("CC").ok();
    let candidates = ["cc", "gcc", "clang", "cl"];
    let found = named
        .as_deref()
        .into_iter()
        .chain(candidates)
        .any(|compiler| {
            let mut probe = command(compiler);
            probe.arg("--version");
            succeeds(probe)
        });
    if found {
        return Ok(());
    }
    Err(Problem::new(
        "no C compiler was found; SQLite and aws-lc-rs need one",
        "install one (Debian, Ubuntu: `apt install gcc libc6-dev`; Fedora: `dnf install gcc`; macOS: `xcode-select --install`), or name it in CC",
    ))
}
