//! Runs the real `amcp` binary as a process for tests, each in its own folder.
//!
//! Does not judge the output of commands.

use std::env::consts::EXE_SUFFIX;
use std::ffi::OsStr;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};
use tokio::time::timeout;

/// Time-out for everything here: longer than any step takes on a loaded machine.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// The binary: `AMCP_BIN`, else the one that cargo built together with the tests of the workspace.
///
/// # Panics
/// When there is none. A build of this package's tests alone makes none, and leaves an old one as it is.
#[must_use]
pub fn binary() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| {
        if let Some(path) = std::env::var_os("AMCP_BIN") {
            return path.into();
        }
        let test = std::env::current_exe().expect("the test knows where it is");
        // target/debug/deps/cli-… → target/debug/amcp
        let folder = test.parent().and_then(Path::parent);
        let folder = folder.expect("tests are in target/*/deps");
        let binary = folder.join(format!("amcp{EXE_SUFFIX}"));
        assert!(
            binary.is_file(),
            "there is no {}: run the tests of the whole workspace (`--workspace`), or name a binary in AMCP_BIN",
            binary.display()
        );
        binary
    })
}

/// A folder in which `amcp` runs without this machine's configuration.
#[derive(Debug)]
pub struct Sandbox {
    folder: TempDir,
}

impl Default for Sandbox {
    fn default() -> Self {
        Self::new()
    }
}

impl Sandbox {
    /// Makes an empty folder.
    ///
    /// # Panics
    /// The folder cannot be made.
    #[must_use]
    pub fn new() -> Self {
        Self {
            folder: tempfile::tempdir().expect("a temporary folder can be made"),
        }
    }

    /// The folder's path.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// The command `amcp` with these arguments.
    pub fn amcp<I: IntoIterator<Item = S>, S: AsRef<OsStr>>(&self, args: I) -> Command {
        self.command(binary(), args)
    }

    /// The command of another program that starts `amcp`.
    pub fn command<I: IntoIterator<Item = S>, S: AsRef<OsStr>>(
        &self,
        program: impl AsRef<OsStr>,
        args: I,
    ) -> Command {
        let mut command = Command::new(program);
        command
            .args(args)
            .current_dir(self.path())
            // The place of the cookie of nodes that are given none.
            .env("XDG_STATE_HOME", self.path().join("state"))
            .env("XDG_CONFIG_HOME", self.path().join("config"))
            .stdin(Stdio::null())
            .kill_on_drop(true);
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("AMCP_") || name == "OLLAMA_HOST" {
                command.env_remove(name);
            }
        }
        command
    }

    /// Runs `amcp` with these arguments.
    pub async fn run<I: IntoIterator<Item = S>, S: AsRef<OsStr>>(&self, args: I) -> Ran {
        finish(self.amcp(args)).await
    }
}

/// The result of a process.
#[derive(Debug)]
pub struct Ran {
    /// The exit code.
    pub code: i32,
    /// Its output on stdout.
    pub stdout: String,
    /// Its output on stderr.
    pub stderr: String,
}

impl Ran {
    /// stdout as JSON.
    ///
    /// # Panics
    /// stdout is no JSON.
    #[must_use]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error} in {self:?}"))
    }
}

impl From<Output> for Ran {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

/// Runs a command to its end.
///
/// # Panics
/// The command cannot be started or does not end.
pub async fn finish(mut command: Command) -> Ran {
    let output = timeout(PATIENCE, command.output()).await;
    output
        .expect("amcp ends")
        .expect("amcp can be started")
        .into()
}

/// A node that serves; killed when dropped.
#[derive(Debug)]
pub struct Node {
    process: Child,
    stdout: Lines<BufReader<ChildStdout>>,
    scheme: String,
    /// The address of its gateway.
    pub address: SocketAddr,
}

impl Node {
    /// Starts `amcp node` on a free port unless the arguments name one, with further arguments and environment, and waits until it listens.
    ///
    /// # Panics
    /// The node does not listen in time.
    pub async fn start(sandbox: &Sandbox, args: &[&str], environment: &[(&str, &str)]) -> Self {
        let mut command = sandbox.amcp(["node"]);
        if !args.contains(&"--http") {
            command.args(["--http", "127.0.0.1:0"]);
        }
        command
            .args(args)
            .envs(environment.iter().copied())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut process = command.spawn().expect("amcp can be started");
        let stdout = process.stdout.take().expect("stdout is piped");
        let mut stdout = BufReader::new(stdout).lines();
        let (scheme, address) = said(&mut stdout, "listening on ").await;
        Self {
            process,
            scheme,
            stdout,
            address,
        }
    }

    /// The address for health checks of a node that has one of its own.
    ///
    /// # Panics
    /// When it does not say one.
    pub async fn admin(&mut self) -> SocketAddr {
        said(&mut self.stdout, "health on ").await.1
    }

    /// The process.
    ///
    /// # Panics
    /// When the node is gone.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.process.id().expect("the node runs")
    }

    /// The address of a path.
    #[must_use]
    pub fn url(&self, path: &str) -> String {
        format!("{}://{}{path}", self.scheme, self.address)
    }

    /// Sends a signal, such as `TERM`.
    ///
    /// # Panics
    /// When the node is gone.
    pub async fn signal(&self, name: &str) {
        let id = self.process.id().expect("the node runs").to_string();
        let sent = Command::new("kill").args(["-s", name, &id]).status().await;
        assert!(sent.expect("kill runs").success());
        // On a busy machine a process stops some time after the signal.
        let stops = async {
            let stat = format!("/proc/{id}/stat");
            while std::fs::read_to_string(&stat).is_ok_and(|stat| !stat.contains(") T ")) {
                tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            }
        };
        if name == "STOP" {
            timeout(PATIENCE, stops).await.expect("the node stops");
        }
    }

    /// Waits for a line on stderr that has this text, and returns the line.
    ///
    /// # Panics
    /// When the line does not come, or the node ends before.
    pub async fn says(&mut self, text: &str) -> String {
        let stderr = self.process.stderr.as_mut().expect("stderr is piped");
        let mut line = Vec::new();
        let found = async {
            loop {
                match stderr.read_u8().await.expect("the node runs") {
                    b'\n' if String::from_utf8_lossy(&line).contains(text) => break,
                    b'\n' => line.clear(),
                    byte => line.push(byte),
                }
            }
        };
        timeout(PATIENCE, found).await.expect("the node says it");
        String::from_utf8_lossy(&line).into_owned()
    }

    /// Waits for its end; returns its exit code and its output on stderr.
    ///
    /// # Panics
    /// When it does not end.
    pub async fn ended(mut self) -> (i32, String) {
        let mut stderr = self.process.stderr.take().expect("stderr is piped");
        let mut text = String::new();
        let end = async {
            let _ = stderr.read_to_string(&mut text).await;
            self.process.wait().await
        };
        let status = timeout(PATIENCE, end).await.expect("the node ends");
        let code = status.expect("it can be waited for").code();
        (code.unwrap_or(-1), text)
    }
}

/// The scheme and the address on the next line.
async fn said(stdout: &mut Lines<BufReader<ChildStdout>>, before: &str) -> (String, SocketAddr) {
    let line = timeout(PATIENCE, stdout.next_line()).await;
    let line = line.expect("the node says where it listens");
    let line = line.expect("stdout can be read");
    let url = line.as_deref().and_then(|line| line.strip_prefix(before));
    let said = url.and_then(|url| url.split_once("://"));
    let said = said.and_then(|(scheme, text)| Some((scheme.to_owned(), text.parse().ok()?)));
    said.unwrap_or_else(|| panic!("the node said {line:?}"))
}

/// Whether the condition holds before the patience is over.
pub async fn until<F: Future<Output = bool>>(mut holds: impl FnMut() -> F) -> bool {
    let holds = async {
        while !holds().await {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, holds).await.is_ok()
}

/// A client for nodes on this machine.
///
/// # Panics
/// The client cannot be made.
#[must_use]
pub fn client() -> reqwest::Client {
    // Not shared: each test has its own runtime, which a shared client would outlive.
    let here = "http://127.0.0.1".parse().expect("an address");
    let client = amcp_outbound::client_of(&here).timeout(PATIENCE);
    client.build().expect("an HTTP client")
}
