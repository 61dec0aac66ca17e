//! The real `amcp` binary as a process: started, asked, measured, stopped.
//!
//! Which binary: `AMCP_BIN`, which `cargo xtask bench` sets to the release build.

use std::io;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use amcp_tests::bench::memory;

use crate::http;

/// A query that the embedded planner places at once and whose specialist only computes.
pub(crate) const QUERY: &str = "What is 17 * 23?";

/// Longest wait for a node to get ready: a hundred times what it takes.
const START: Duration = Duration::from_secs(10);

/// The binary to measure.
pub(crate) fn binary() -> io::Result<PathBuf> {
    let path = std::env::var_os("AMCP_BIN").map(PathBuf::from);
    path.filter(|path| path.is_file()).ok_or_else(|| {
        io::Error::other("AMCP_BIN names no file; start this with `cargo xtask bench`")
    })
}

/// A node that serves HTTP; ended when dropped.
pub(crate) struct Node {
    process: Child,
    pub(crate) address: String,
}

impl Node {
    pub(crate) async fn start(data: &Path, environment: &[(&str, &str)]) -> io::Result<Self> {
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let address = format!("127.0.0.1:{port}");
        let process = amcp()?
            .args(["node", "--offline", "--http", &address, "--data"])
            .arg(data)
            .envs(environment.iter().copied())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        let mut node = Self { process, address };
        let request = format!("GET /readyz HTTP/1.1\r\nhost: {}\r\n\r\n", node.address);
        let start = Instant::now();
        while start.elapsed() < START {
            if let Ok((200, _)) = http::once(&node.address, request.as_bytes()).await {
                return Ok(node);
            }
            if let Some(status) = node.process.try_wait()? {
                return Err(io::Error::other(format!("the node ended: {status}")));
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Err(io::Error::other("the node did not get ready"))
    }

    /// The most memory that was ever resident.
    pub(crate) fn peak(&self) -> Option<u64> {
        memory::status(self.process.id(), "VmHWM")
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn amcp() -> io::Result<Command> {
    let mut command = Command::new(binary()?);
    command.stdin(Stdio::null());
    // What is configured on this machine is not what is measured.
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("AMCP_") || name == "OLLAMA_HOST" {
            command.env_remove(name);
        }
    }
    Ok(command)
}

/// Makes an API key of a user `bench` with the role `clerk`.
pub(crate) fn key(data: &Path) -> io::Result<String> {
    let mut create = amcp()?;
    create.args(["keys", "create", "bench", "--roles", "clerk", "--data"]);
    let made = create.arg(data).output()?;
    Ok(String::from_utf8_lossy(&made.stdout).trim_end().to_owned())
}

/// From the start of a process to its end with the first answer printed.
pub(crate) fn cold(data: &Path) -> io::Result<Duration> {
    let start = Instant::now();
    let output = amcp()?
        .args(["ask", "--offline", "--data"])
        .arg(data)
        .arg(QUERY)
        .output()?;
    let took = start.elapsed();
    let answer = String::from_utf8_lossy(&output.stdout);
    if output.status.success() && answer.contains("391") {
        return Ok(took);
    }
    Err(io::Error::other(format!(
        "amcp ask ended with {}: {answer}{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    )))
}

/// The most memory that such a process ever occupied, as /usr/bin/time sees it; nothing where that is not installed.
pub(crate) fn cold_peak(data: &Path) -> Option<u64> {
    let output = Command::new("/usr/bin/time")
        .args(["-f", "%M"])
        .arg(binary().ok()?)
        .args(["ask", "--offline", "--data"])
        .arg(data)
        .arg(QUERY)
        .stdin(Stdio::null())
        .output()
        .ok()?;
    let printed = String::from_utf8_lossy(&output.stderr);
    let kib: u64 = printed.lines().last()?.trim().parse().ok()?;
    Some(kib * 1024)
}
