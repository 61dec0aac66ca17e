//! The nodes of the demo: processes of this binary, each with a folder and an entrance of its own.
//!
//! Does not judge what they do; dropping them kills them.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use amcp_protocol::NodeName;
use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};

use super::wires::{Entrance, Wires};
use crate::output::Trouble;

/// Time-out of a start: a node listens after a fraction of a second, on a busy machine much later.
const START: Duration = Duration::from_secs(30);
/// The first node, which takes the requests.
const FIRST: &str = "a";

/// A running node.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) name: NodeName,
    /// The address of its gateway until the next restart.
    pub(super) url: String,
    entrance: Entrance,
    process: Child,
    // Stays open, so that the node does not print to a closed pipe.
    _stdout: Lines<BufReader<ChildStdout>>,
    args: Vec<String>,
    folder: PathBuf,
}

/// All nodes and their folder.
#[derive(Debug)]
pub(super) struct Nodes {
    // Dropped before the folder, so that no node writes there any more.
    nodes: Vec<Node>,
    pub(super) wires: Wires,
    folder: tempfile::TempDir,
}

impl Nodes {
    /// Makes the folder and the shared cookie; starts no node.
    ///
    /// # Errors
    /// The temporary folder cannot be written.
    pub(super) fn none_yet() -> Result<Self, Trouble> {
        let unusable = |error: io::Error| {
            let place = std::env::temp_dir();
            Trouble::failed(format!(
                "the folder {} cannot be used: {error}",
                place.display()
            ))
            .hint("the demo needs a temporary folder: set TMPDIR to one that can be written")
        };
        let folder = tempfile::Builder::new().prefix("amcp-demo-").tempdir();
        let folder = folder.map_err(unusable)?;
        let secret = || uuid::Uuid::new_v4().simple();
        let cookie = format!("{}{}\n", secret(), secret());
        // Only its owner may read the folder.
        std::fs::write(folder.path().join("cookie"), cookie).map_err(unusable)?;
        Ok(Self {
            nodes: Vec::new(),
            wires: Wires::default(),
            folder,
        })
    }

    /// Starts `count` nodes one after the other: `a` takes requests; `b`, `c` and so on do the work.
    ///
    /// # Errors
    /// A node does not start.
    pub(super) async fn start(&mut self, count: u8) -> Result<(), Trouble> {
        for letter in (b'a'..).take(usize::from(count)) {
            let name = char::from(letter).to_string();
            let name = NodeName::new(&name).map_err(|error| Trouble::failed(error.to_string()))?;
            let entrance = self.wires.entrance(name.clone()).await?;
            let seed = self.nodes.first().map(|first| first.entrance.address);
            let args = args(&name, &entrance, seed);
            let folder = self.folder.path().join(name.as_str());
            std::fs::create_dir(&folder)?;
            let node = Node::start(name, entrance, args, folder).await?;
            self.nodes.push(node);
        }
        Ok(())
    }

    /// All nodes; the first takes the requests.
    pub(super) fn all(&self) -> &[Node] {
        &self.nodes
    }

    fn index(&self, name: &NodeName) -> Result<usize, Trouble> {
        let found = self.nodes.iter().position(|node| node.name == *name);
        found.ok_or_else(|| Trouble::failed(format!("there is no node {name}")))
    }

    /// The node of this name.
    ///
    /// # Errors
    /// The demo has no such node.
    pub(super) fn get(&mut self, name: &NodeName) -> Result<&mut Node, Trouble> {
        let index = self.index(name)?;
        Ok(self.nodes.get_mut(index).expect("it is its index"))
    }

    /// Kills the node and starts it again, under the same name, with the same data and at the same entrance.
    ///
    /// # Errors
    /// The node does not start.
    pub(super) async fn start_again(&mut self, name: &NodeName) -> Result<(), Trouble> {
        let index = self.index(name)?;
        let mut old = self.nodes.remove(index);
        old.process.kill().await?;
        let again = Node::start(old.name, old.entrance, old.args, old.folder).await?;
        self.nodes.insert(index, again);
        Ok(())
    }

    /// Ends all nodes at once, also frozen ones, and removes their files.
    pub(super) async fn end(mut self) {
        for node in &mut self.nodes {
            // Fails only for a process that has ended already.
            let _ = node.process.kill().await;
        }
    }
}

/// The arguments of a node; port 0 everywhere, so that each port is free.
fn args(name: &NodeName, entrance: &Entrance, seed: Option<SocketAddr>) -> Vec<String> {
    let roles = if name.as_str() == FIRST {
        "orchestrator,gateway"
    } else {
        // With a gateway, so that the demo can read its counts.
        "orchestrator,gateway,specialists"
    };
    let (advertise, http) = (&entrance.address, "127.0.0.1:0");
    let mut args = format!(
        "node --offline --name {name} --parts {roles} --http {http} --cluster {http} --advertise {advertise} --cookie-file ../cookie"
    );
    if let Some(seed) = seed {
        args += &format!(" --join {seed}");
    }
    args.split(' ').map(str::to_owned).collect()
}

impl Node {
    async fn start(
        name: NodeName,
        entrance: Entrance,
        args: Vec<String>,
        folder: PathBuf,
    ) -> Result<Self, Trouble> {
        let mut process = command(&args, &folder)?.spawn()?;
        let stdout = process.stdout.take();
        let stdout = stdout.ok_or_else(|| Trouble::failed("a node has no stdout"))?;
        let mut stdout = BufReader::new(stdout).lines();
        let listening = tokio::time::timeout(START, listening(&mut stdout, &name)).await;
        let Ok(Some((http, cluster))) = listening else {
            let log = std::fs::read_to_string(folder.join("log")).unwrap_or_default();
            let last = log.lines().last().unwrap_or("it said nothing");
            let message = format!("node {name} does not start: {last}");
            return Err(Trouble::failed(message).hint("try `amcp doctor`"));
        };
        entrance.leads_to(cluster);
        Ok(Self {
            name,
            url: format!("http://{http}"),
            entrance,
            process,
            _stdout: stdout,
            args,
            folder,
        })
    }

    /// Kills the node as a power failure would.
    ///
    /// # Errors
    /// The process cannot be killed.
    pub(super) async fn kill(&mut self) -> Result<(), Trouble> {
        Ok(self.process.kill().await?)
    }

    /// Freezes the process, or lets it go on.
    ///
    /// # Errors
    /// The process has ended.
    pub(super) fn freeze(&self, frozen: bool) -> Result<(), Trouble> {
        let id = self.process.id().and_then(|id| i32::try_from(id).ok());
        let process = id.and_then(Pid::from_raw);
        let process =
            process.ok_or_else(|| Trouble::failed(format!("node {} has ended", self.name)))?;
        let signal = if frozen { Signal::STOP } else { Signal::CONT };
        Ok(kill_process(process, signal).map_err(io::Error::from)?)
    }
}

fn command(args: &[String], folder: &Path) -> io::Result<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    command
        .args(args)
        .current_dir(folder)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(
            std::fs::File::options()
                .create(true)
                .append(true)
                .open(folder.join("log"))?,
        )
        .kill_on_drop(true);
    // The user's own settings are not meant for the nodes of the demo.
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("AMCP_") {
            command.env_remove(name);
        }
    }
    // The demo reads all records again in the end.
    command.env("AMCP_RETAINED", "100000");
    Ok(command)
}

/// The addresses that the node prints, for clients and for other nodes; none when it ends before.
async fn listening(
    stdout: &mut Lines<BufReader<ChildStdout>>,
    name: &NodeName,
) -> Option<(SocketAddr, SocketAddr)> {
    let mut http = None;
    let as_name = format!(" as {name} ");
    while let Ok(Some(line)) = stdout.next_line().await {
        if let Some(address) = line.strip_prefix("listening on http://") {
            http = address.parse().ok();
        } else if let Some(rest) = line.strip_prefix("cluster on ") {
            let (address, _) = rest.split_once(&as_name)?;
            return Some((http?, address.parse().ok()?));
        }
    }
    None
}
