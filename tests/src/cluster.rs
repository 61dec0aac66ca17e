//! A mesh of real `amcp node` processes on this machine: starts, freezes, kills and restarts them, and watches them through
//! GET /cluster.
//!
//! Does not judge them. Dropping a member kills its process.

pub mod here;
pub mod load;
pub mod netns;

use std::fs::{self, File, OpenOptions};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use amcp_access::{KeyFile, NewKey};
use amcp_cluster::{ClusterView, MemberState, MemberView};
use amcp_protocol::NodeName;
use jiff::Timestamp;
use reqwest::RequestBuilder;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};
use tokio::time::timeout;

use crate::process::{PATIENCE, Sandbox, binary, client};

/// The shared secret of a test's nodes.
pub const COOKIE: &str = "6f1f8a0d3c5e4b7a92d8e1c0b3a4f5d67e8c9b0a1d2f3e4c";
/// The built-in specialists of a node that stays offline.
pub const SPECIALISTS: usize = 8;
/// The file with the keys in a node's data folder.
const KEYS: &str = "keys.json";
/// The period of checking a condition: short enough for figures in tenths of a second.
const LOOK: Duration = Duration::from_millis(20);

/// The arguments and the environment of a node.
#[derive(Debug, Clone)]
pub struct Spec {
    name: String,
    args: Vec<String>,
    environment: Vec<(String, String)>,
    joins: Vec<String>,
    host: String,
    namespace: Option<String>,
}

/// A key and the file that holds it. Nodes in namespaces have the file: their clients come from another machine, as far as they
/// know.
fn key() -> &'static (String, Vec<u8>) {
    static KEY: OnceLock<(String, Vec<u8>)> = OnceLock::new();
    KEY.get_or_init(|| {
        let folder = tempfile::tempdir().expect("a folder can be made");
        let new = NewKey {
            user: "tester".to_owned(),
            ..NewKey::default()
        };
        let file = KeyFile::in_data(folder.path());
        let made = file.change(|ring| ring.create(new, Timestamp::now()));
        let keys = fs::read(folder.path().join(KEYS)).expect("the file was written");
        (made.expect("a key can be made").0, keys)
    })
}

/// Adds the key that a node takes from clients elsewhere.
pub fn credential(request: RequestBuilder, gateway: SocketAddr) -> RequestBuilder {
    if gateway.ip().is_loopback() {
        request
    } else {
        request.bearer_auth(&key().0)
    }
}

impl Spec {
    /// A node of this name on loopback, with every role and every specialist, offline.
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            args: vec!["--offline".to_owned()],
            environment: vec![("AMCP_COOKIE".to_owned(), COOKIE.to_owned())],
            joins: Vec::new(),
            host: "127.0.0.1".to_owned(),
            namespace: None,
        }
    }

    /// Adds arguments.
    #[must_use]
    pub fn with(mut self, args: &[&str]) -> Self {
        self.args.extend(args.iter().copied().map(str::to_owned));
        self
    }

    /// Makes it a node that takes requests and runs no specialists.
    #[must_use]
    pub fn orchestrates(self) -> Self {
        self.with(&["--parts", "orchestrator,gateway"])
    }

    /// Makes it a node that runs these specialists (all, if the list is empty) and takes no requests.
    #[must_use]
    pub fn specialises(self, specialists: &[&str]) -> Self {
        let spec = self.with(&["--parts", "specialists"]);
        if specialists.is_empty() {
            return spec;
        }
        spec.with(&["--specialists", &specialists.join(",")])
    }

    /// Sets a variable of its environment.
    #[must_use]
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.retain(|(key, _)| key != name);
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Adds an address of another node to dial.
    #[must_use]
    pub fn joins(mut self, seed: impl ToString) -> Self {
        self.joins.push(seed.to_string());
        self
    }

    /// Runs it in a network namespace, where it listens on this address without encryption.
    #[must_use]
    pub fn inside(mut self, namespace: &str, host: &str) -> Self {
        self.namespace = Some(namespace.to_owned());
        self.host = host.to_owned();
        self.with(&["--insecure", "--behind-proxy"])
    }

    fn command(&self, sandbox: &Sandbox, (cluster, http): (u16, u16)) -> Command {
        let mut args = vec!["node".to_owned(), "--name".to_owned(), self.name.clone()];
        args.extend(["--cluster".to_owned(), format!("{}:{cluster}", self.host)]);
        args.extend(["--http".to_owned(), format!("{}:{http}", self.host)]);
        for seed in &self.joins {
            args.extend(["--join".to_owned(), seed.clone()]);
        }
        args.extend(self.args.clone());
        let mut command = match &self.namespace {
            None => sandbox.amcp(args),
            Some(namespace) => {
                let mut words = ["netns", "exec", namespace].map(str::to_owned).to_vec();
                words.push(binary().to_string_lossy().into_owned());
                words.extend(args);
                sandbox.command("ip", words)
            }
        };
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command
    }
}

/// A node of a mesh; killed when dropped.
#[derive(Debug)]
pub struct Member {
    spec: Spec,
    sandbox: Sandbox,
    process: Child,
    // Stays open, so that the node does not print to a closed pipe.
    _stdout: Lines<BufReader<ChildStdout>>,
    /// The address of its gateway, if it has one.
    pub http: Option<SocketAddr>,
    /// The address on which it listens for other nodes.
    pub cluster: SocketAddr,
    /// Its own words about the encryption of its links.
    pub security: String,
}

/// Starts nodes that all dial the first, and waits until they have met.
///
/// # Panics
/// A node does not start, or the nodes do not meet in time.
pub async fn mesh(specs: Vec<Spec>) -> Vec<Member> {
    let mut members: Vec<Member> = Vec::new();
    for spec in specs {
        let spec = match members.first() {
            Some(seed) => spec.joins(seed.cluster),
            None => spec,
        };
        members.push(Member::start(spec).await);
    }
    all_met(&members).await;
    members
}

/// Waits until every gateway sees every other node alive.
///
/// # Panics
/// When that does not come about.
pub async fn all_met(members: &[Member]) {
    for member in members.iter().filter(|member| member.http.is_some()) {
        let others: Vec<&str> = members.iter().map(Member::name).collect();
        for other in others.iter().filter(|other| **other != member.name()) {
            member.sees(other, MemberState::Alive, PATIENCE).await;
        }
    }
}

impl Member {
    /// Starts a node on free ports and waits until it listens.
    ///
    /// # Panics
    /// The node does not listen in time.
    pub async fn start(spec: Spec) -> Self {
        Self::start_in(Sandbox::new(), spec, (0, 0)).await
    }

    async fn start_in(sandbox: Sandbox, spec: Spec, ports: (u16, u16)) -> Self {
        let log = Self::log_file(&sandbox);
        let opened = OpenOptions::new().create(true).append(true).open(log);
        let log: File = opened.expect("a file can be made in the sandbox");
        if spec.namespace.is_some() {
            let data = sandbox.path().join("amcp-data");
            fs::create_dir_all(&data).expect("a folder can be made");
            fs::write(data.join(KEYS), &key().1).expect("a file can be written");
        }
        let mut command = spec.command(&sandbox, ports);
        command.stdout(Stdio::piped()).stderr(log);
        let mut process = command.spawn().expect("amcp can be started");
        let stdout = process.stdout.take().expect("stdout is piped");
        let mut stdout = BufReader::new(stdout).lines();
        let mut http = None;
        loop {
            let line = timeout(PATIENCE, stdout.next_line()).await;
            let line = line.expect("the node says where it listens");
            let line = line.expect("stdout can be read").unwrap_or_else(|| {
                let log = fs::read_to_string(Self::log_file(&sandbox));
                panic!("{} ended: {}", spec.name, log.unwrap_or_default())
            });
            if let Some(address) = line.strip_prefix("listening on http://") {
                http = address.parse().ok();
            }
            if let Some((cluster, security)) = placed(&line, &spec.name) {
                return Self {
                    spec,
                    sandbox,
                    process,
                    _stdout: stdout,
                    http,
                    cluster,
                    security,
                };
            }
        }
    }

    fn log_file(sandbox: &Sandbox) -> PathBuf {
        sandbox.path().join("log.txt")
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.spec.name
    }

    /// Its log so far, also from before restarts.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read_to_string(Self::log_file(&self.sandbox)).unwrap_or_default()
    }

    /// The address of a path at its gateway.
    ///
    /// # Panics
    /// It has no gateway.
    #[must_use]
    pub fn url(&self, path: &str) -> String {
        let http = self.http.expect("the node has a gateway");
        format!("http://{http}{path}")
    }

    /// The JSON that its gateway returns for a path.
    ///
    /// # Errors
    /// The gateway does not answer, or not with JSON.
    pub async fn get(&self, path: &str) -> Result<Value, reqwest::Error> {
        let http = self.http.expect("the node has a gateway");
        let request = credential(client().get(self.url(path)), http);
        let response = request.send().await?;
        response.json().await
    }

    /// The mesh as it sees it.
    ///
    /// # Panics
    /// It does not answer.
    pub async fn view(&self) -> ClusterView {
        let view = self.get("/cluster").await.expect("the gateway answers");
        serde_json::from_value(view).expect("the form of GET /cluster")
    }

    /// Its view of another node, if it knows that node.
    pub async fn member(&self, name: &str) -> Option<MemberView> {
        let name = NodeName::new(name).ok()?;
        let members = self.view().await.members;
        members.into_iter().find(|member| member.name == name)
    }

    /// Waits until it sees another node in a state; returns the time that this took.
    ///
    /// # Panics
    /// The state does not come in time.
    pub async fn sees(&self, other: &str, state: MemberState, within: Duration) -> Duration {
        let what = format!("{} sees {other} as {state:?}", self.name());
        let seen = until(&what, within, async || {
            let member = self.member(other).await;
            member.is_some_and(|member| member.state == state)
        });
        seen.await
    }

    /// Waits until its directory has exactly `count` specialists that take tasks.
    ///
    /// # Panics
    /// When that does not come about.
    pub async fn has_agents(&self, count: usize) {
        let what = format!("{} knows {count} agents", self.name());
        let mut seen = Value::Null;
        let known = async {
            let mut look = tokio::time::interval(LOOK);
            loop {
                look.tick().await;
                seen = self.get("/agents").await.unwrap_or_default();
                let agents = seen.get("agents").and_then(Value::as_array);
                // Orchestrators do not count: their offers to each other come at any time.
                let ready = |agent: &&Value| {
                    let says = |key| agent.get(key).and_then(Value::as_str).unwrap_or_default();
                    says("state") == "ready" && !says("agent").starts_with("orchestrator")
                };
                if agents.is_some_and(|agents| agents.iter().filter(ready).count() == count) {
                    break;
                }
            }
        };
        let known = timeout(PATIENCE, known).await;
        assert!(known.is_ok(), "not within {PATIENCE:?}: {what}, but {seen}");
    }

    /// Sends a signal, such as `STOP`.
    ///
    /// # Panics
    /// When the node is gone.
    pub async fn signal(&self, name: &str) {
        let id = self.process.id().expect("the node runs").to_string();
        let sent = Command::new("kill").args(["-s", name, &id]).status().await;
        assert!(sent.expect("kill runs").success());
    }

    /// Kills the process as a power failure would.
    ///
    /// # Panics
    /// The process cannot be killed.
    pub async fn kill(&mut self) {
        self.process.kill().await.expect("a child can be killed");
    }

    /// Waits for its end; returns its exit code.
    ///
    /// # Panics
    /// When it does not end.
    pub async fn ended(&mut self) -> i32 {
        let ended = timeout(PATIENCE, self.process.wait()).await;
        let status = ended
            .expect("the node ends")
            .expect("a child is waited for");
        status.code().unwrap_or(-1)
    }

    /// Adds an address to dial after the next start.
    pub fn also_joins(&mut self, seed: SocketAddr) {
        self.spec.joins.push(seed.to_string());
    }

    /// Starts it again after its end, with the same name and data, on other ports.
    ///
    /// # Panics
    /// When it does not start.
    pub async fn start_again(self) -> Self {
        Self::start_in(self.sandbox, self.spec, (0, 0)).await
    }

    /// Starts it again on the same ports.
    ///
    /// # Panics
    /// It does not start, for instance because another process has taken a port.
    pub async fn start_again_in_place(self) -> Self {
        let ports = (self.cluster.port(), self.http.map_or(0, |http| http.port()));
        Self::start_in(self.sandbox, self.spec, ports).await
    }
}

/// `cluster on ADDRESS as NAME (SECURITY)`.
fn placed(line: &str, name: &str) -> Option<(SocketAddr, String)> {
    let rest = line.strip_prefix("cluster on ")?;
    let (address, rest) = rest.split_once(" as ")?;
    let security = rest.strip_prefix(name)?.trim();
    let security = security.trim_matches(['(', ')']).to_owned();
    Some((address.parse().ok()?, security))
}

/// Waits for a condition; returns the time that this took.
///
/// # Panics
/// When it does not come about in time.
pub async fn until(
    what: &str,
    within: Duration,
    mut condition: impl AsyncFnMut() -> bool,
) -> Duration {
    let began = Instant::now();
    let mut look = tokio::time::interval(LOOK);
    loop {
        look.tick().await;
        if condition().await {
            return began.elapsed();
        }
        assert!(began.elapsed() < within, "not within {within:?}: {what}");
    }
}
