//! Starts cargo and other tools, and reports their failures.
//!
//! Does not decide which tools run or what a failure means.

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::LazyLock;

/// A fault and a hint what to do.
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

/// The workspace's folder, as cargo names it now: worktrees that share a target folder share this binary.
pub(crate) fn root() -> &'static Path {
    static FOLDER: LazyLock<PathBuf> = LazyLock::new(|| {
        let folder = std::env::var_os("CARGO_MANIFEST_DIR");
        folder.map_or_else(|| env!("CARGO_MANIFEST_DIR").into(), PathBuf::from)
    });
    FOLDER
        .parent()
        .expect("xtask lies in the workspace's folder")
}

/// A command that runs in the workspace's folder.
pub(crate) fn command(program: &str) -> Command {
    let mut command = Command::new(program);
    command.current_dir(root());
    // `cargo run` describes xtask in these variables; a build script that watches one of them would run again whenever
    // cargo is called from here after a call from a terminal.
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

/// Whether a command starts and succeeds; hides its output.
pub(crate) fn succeeds(mut command: Command) -> bool {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

/// Runs a command to its end and shows its output.
pub(crate) fn show(mut command: Command) -> Result<(), String> {
    match command.status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("{} ({status})", line(&command))),
        Err(error) => Err(format!("{}: {error}", line(&command))),
    }
}

/// Runs a command to its end and returns its stdout.
pub(crate) fn output(mut command: Command) -> Result<String, Problem> {
    let output = command.stdin(Stdio::null()).output();
    let failed = |why: &str| {
        Problem::new(
            format!("`{}` failed: {}", line(&command), why.trim()),
            "run the command alone",
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

/// `cargo metadata` of the workspace, without its dependencies.
pub(crate) fn metadata() -> Result<serde_json::Value, Problem> {
    let mut command = cargo();
    command.args(["metadata", "--format-version", "1", "--no-deps"]);
    serde_json::from_str(&output(command)?)
        .map_err(|error| Problem::new(format!("cargo metadata: {error}"), "is cargo up to date?"))
}

/// Builds the release binary `amcp`, alone as users build it: together with the tests it would get the features of their dependencies too.
/// Returns its path.
pub(crate) fn release() -> Result<PathBuf, Problem> {
    let mut build = cargo();
    build.args(["build", "--release", "--package", "amcp"]);
    show(build).map_err(|why| Problem::new(why, "mend the release build first"))?;
    let metadata = metadata()?;
    let target = metadata.get("target_directory");
    let target = target.and_then(serde_json::Value::as_str);
    let name = format!("release/amcp{}", std::env::consts::EXE_SUFFIX);
    Ok(Path::new(target.unwrap_or("target")).join(name))
}
