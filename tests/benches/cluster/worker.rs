//! The other processes: this binary once more, told by an environment variable what to be. A worker ends with whoever
//! started it, because its stdin ends then.

use std::error::Error;
use std::io;
use std::process::Stdio;
use std::time::Duration;

use amcp_tests::bench::memory;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::{bare, ours, scale};

/// Names what a worker is to be.
const TASK: &str = "AMCP_BENCH_WORKER";

/// Longest wait for a worker's next line: many times what 10,000 agents take.
const PATIENCE: Duration = Duration::from_secs(120);

/// What this process is to be, if it is a worker.
pub(crate) fn task() -> Option<String> {
    std::env::var(TASK).ok()
}

/// What a worker does.
pub(crate) async fn run(task: &str) -> Result<(), Box<dyn Error>> {
    let words: Vec<&str> = task.split(' ').collect();
    match words.as_slice() {
        ["bare", port] => bare::work(port.parse()?).await,
        ["ours", seed] => ours::work(seed).await,
        ["scale", name, agents] => scale::work(name, agents.parse()?).await,
        _ => Err(format!("{TASK} names no task: `{task}`").into()),
    }
}

/// What this process is told, line by line; ends with whoever started it.
pub(crate) fn orders() -> mpsc::UnboundedReceiver<String> {
    let (order, orders) = mpsc::unbounded_channel();
    // A thread of its own: a read of stdin cannot be given up.
    std::thread::spawn(move || {
        for line in io::stdin().lines().map_while(Result::ok) {
            if order.send(line).is_err() {
                break;
            }
        }
    });
    orders
}

/// Says a line to whoever started this process.
pub(crate) fn say(line: &str) {
    println!("{line}");
}

/// Waits until whoever started this process is gone.
pub(crate) async fn until_alone() {
    let mut orders = orders();
    while orders.recv().await.is_some() {}
}

/// A worker, ended when dropped.
#[derive(Debug)]
pub(crate) struct Worker {
    process: Child,
    stdin: ChildStdin,
    stdout: Lines<BufReader<ChildStdout>>,
    pid: String,
}

impl Worker {
    pub(crate) fn start(task: &str) -> io::Result<Self> {
        let mut process = Command::new(std::env::current_exe()?)
            .env(TASK, task)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let gone = || io::Error::other("a worker ended at once");
        Ok(Self {
            stdin: process.stdin.take().ok_or_else(gone)?,
            stdout: BufReader::new(process.stdout.take().ok_or_else(gone)?).lines(),
            pid: process.id().ok_or_else(gone)?.to_string(),
            process,
        })
    }

    /// Its next line.
    pub(crate) async fn hears(&mut self) -> io::Result<String> {
        let line = timeout(PATIENCE, self.stdout.next_line()).await;
        let line = line.map_err(|_| io::Error::other("a worker hangs"))??;
        match line {
            Some(line) => Ok(line),
            None => Err(io::Error::other(format!(
                "a worker ended: {}",
                self.process.wait().await?
            ))),
        }
    }

    /// Tells it something.
    pub(crate) async fn tell(&mut self, order: &str) -> io::Result<()> {
        self.stdin.write_all(format!("{order}\n").as_bytes()).await
    }

    /// The processor time that it has used.
    pub(crate) fn processor(&self) -> Option<Duration> {
        memory::processor_of(&self.pid)
    }

    /// What it occupies.
    pub(crate) fn resident(&self) -> Option<u64> {
        memory::status(self.pid.parse().ok()?, "VmRSS")
    }
}
