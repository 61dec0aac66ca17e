//! Starting cargo and other tools, and how a failure is told.
//!
//! Decides nothing about which tools run or what their failure means.

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// What is wrong, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Problem {
    pub(crate) error: String,
    pub(crate) hint: String,
}

impl Problem {
    pub(crate) fn new(error: impl Into<String>, hint: impl Into<String>) -> Self {
        Self {
            error: error.into(),
            hint: hint.into(),
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "error: {}\nhint: {}", self.error, self.hint)
    }
}

/// The workspace's folder.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("xtask lies in the workspace's folder")
}

/// A command that runs in the workspace's folder.
pub(crate) fn command(program: &str) -> Command {
    let mut command = Command::new(program);
    command.current_dir(root());
    // `cargo run` describes xtask in these; a build script that watches one of them (ring's does) would run again each
    // time that cargo is called from here and from a terminal by turns.
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy();
        if [
            "CARGO_PKG_",
            "CARGO_MANIFEST_",
            "CARGO_BIN_",
            "CARGO_CRATE_",
        ]
        .iter()
        .any(|prefix| name.starts_with(prefix))
        {
            command.env_remove(&*name);
        }
    }
    command
}

/// The cargo that runs xtask.
pub(crate) fn cargo() -> Command {
    command(&std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned()))
}

/// Whether a command can be started and succeeds; says nothing.
pub(crate) fn succeeds(mut command: Command) -> bool {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

/// Runs a command to its end, its output shown.
pub(crate) fn show(mut command: Command) -> Result<(), String> {
    match command.status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("{} ({status})", line(&command))),
        Err(error) => Err(format!("{}: {error}", line(&command))),
    }
}

/// Runs a command to its end and takes what it prints.
pub(crate) fn output(mut command: Command) -> Result<String, Problem> {
    let output = command.stdin(Stdio::null()).output();
    let failed = |why: &str| {
        Problem::new(
            format!("`{}` failed: {}", line(&command), why.trim()),
            "run it by itself",
        )
    };
    let output = output.map_err(|error| failed(&error.to_string()))?;
    if !output.status.success() {
        return Err(failed(&String::from_utf8_lossy(&output.stderr)));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn line(command: &Command) -> String {
    let program = Path::new(command.get_program())
        .file_stem()
        .unwrap_or(command.get_program());
    std::iter::once(program)
        .chain(command.get_args())
        .map(|word| word.to_string_lossy())
        .collect::<Vec<_>>()
        .join(" ")
}

/// What cargo knows about the workspace, without its dependencies.
pub(crate) fn metadata() -> Result<serde_json::Value, Problem> {
    let mut command = cargo();
    command.args(["metadata", "--format-version", "1", "--no-deps"]);
    serde_json::from_str(&output(command)?)
        .map_err(|error| Problem::new(format!("cargo metadata: {error}"), "is cargo up to date?"))
}

/// Where the binary `amcp` is after a build in `profile` (the folder's name).
pub(crate) fn amcp(metadata: &serde_json::Value, profile: &str) -> PathBuf {
    let target = metadata
        .get("target_directory")
        .and_then(serde_json::Value::as_str)
        .unwrap_or("target");
    Path::new(target)
        .join(profile)
        .join(format!("amcp{}", std::env::consts::EXE_SUFFIX))
}
