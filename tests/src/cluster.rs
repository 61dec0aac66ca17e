//! A mesh of real `amcp node` processes on this machine: started, watched through GET /cluster, frozen, killed, started
//! again.
//!
//! Does not judge what they do; and a member that is dropped is killed.

pub mod load;
pub mod netns;

use std::fs::{self, File, OpenOptions};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::{Duration, Instant};

use amcp_cluster::{ClusterView, MemberState, MemberView};
use amcp_protocol::NodeName;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};
use tokio::time::timeout;

use crate::process::{PATIENCE, Sandbox, binary, client};

/// What all nodes of a test know.
pub const COOKIE: &str = "6f1f8a0d3c5e4b7a92d8e1c0b3a4f5d67e8c9b0a1d2f3e4c";
/// How often a condition is looked at: often enough for figures in tenths of a second.
const LOOK: Duration = Duration::from_millis(20);

/// How a node is started.
#[derive(Debug, Clone)]
pub struct Spec {
    name: String,
    args: Vec<String>,
    environment: Vec<(String, String)>,
    joins: Vec<String>,
    host: String,
    namespace: Option<String>,
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

    /// Further arguments.
    #[must_use]
    pub fn with(mut self, args: &[&str]) -> Self {
        self.args.extend(args.iter().copied().map(str::to_owned));
        self
    }

    /// A node that takes requests and does nothing itself.
    #[must_use]
    pub fn orchestrates(self) -> Self {
        self.with(&["--roles", "orchestrator,gateway"])
    }

    /// A node that runs these specialists (all, if none is named) and takes no requests.
    #[must_use]
    pub fn specialises(self, specialists: &[&str]) -> Self {
        let spec = self.with(&["--roles", "specialists"]);
        if specialists.is_empty() {
            return spec;
        }
        spec.with(&["--specialists", &specialists.join(",")])
    }

    /// A variable of its environment.
    #[must_use]
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.retain(|(key, _)| key != name);
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Where it looks for others.
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
        self.with(&["--insecure"])
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
    // Kept, so that what the node prints does not meet a closed pipe.
    _stdout: Lines<BufReader<ChildStdout>>,
    /// Where its gateway listens, if it has one.
    pub http: Option<SocketAddr>,
    /// Where it listens for other nodes.
    pub cluster: SocketAddr,
    /// What it says about the encryption of its links.
    pub security: String,
}

/// A mesh of nodes that each know the first.
///
/// # Panics
/// When one does not start, or they do not meet.
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
    /// When it does not.
    pub async fn start(spec: Spec) -> Self {
        Self::start_in(Sandbox::new(), spec, (0, 0)).await
    }

    async fn start_in(sandbox: Sandbox, spec: Spec, ports: (u16, u16)) -> Self {
        let log = Self::log_file(&sandbox);
        let opened = OpenOptions::new().create(true).append(true).open(log);
        let log: File = opened.expect("a file can be made in the sandbox");
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

    /// What it has logged so far, in all its lives.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read_to_string(Self::log_file(&self.sandbox)).unwrap_or_default()
    }

    /// The address of a path at its gateway.
    ///
    /// # Panics
    /// When it has none.
    #[must_use]
    pub fn url(&self, path: &str) -> String {
        let http = self.http.expect("the node has a gateway");
        format!("http://{http}{path}")
    }

    /// What its gateway says at a path.
    ///
    /// # Errors
    /// Nobody answers, or not with JSON.
    pub async fn get(&self, path: &str) -> Result<Value, reqwest::Error> {
        let response = client().get(self.url(path)).send().await?;
        response.json().await
    }

    /// The mesh as it sees it.
    ///
    /// # Panics
    /// When it does not answer.
    pub async fn view(&self) -> ClusterView {
        let view = self.get("/cluster").await.expect("the gateway answers");
        serde_json::from_value(view).expect("the form of GET /cluster")
    }

    /// How it sees another node, if it knows it.
    pub async fn member(&self, name: &str) -> Option<MemberView> {
        let name = NodeName::new(name).ok()?;
        let members = self.view().await.members;
        members.into_iter().find(|member| member.name == name)
    }

    /// Waits until it sees another node in a state; says how long that took.
    ///
    /// # Panics
    /// When that does not come about in time.
    pub async fn sees(&self, other: &str, state: MemberState, within: Duration) -> Duration {
        let what = format!("{} sees {other} as {state:?}", self.name());
        let seen = until(&what, within, async || {
            let member = self.member(other).await;
            member.is_some_and(|member| member.state == state)
        });
        seen.await
    }

    /// Waits until its directory has so many specialists that take tasks.
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
                // What orchestrators offer to each other depends on when they look.
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

    /// Kills it, as a power failure would.
    ///
    /// # Panics
    /// When the process cannot be waited for.
    pub async fn kill(&mut self) {
        self.process.kill().await.expect("a child can be killed");
    }

    /// Waits for its end; says its exit code.
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

    /// When it is started again, it looks there for others, too.
    pub fn also_joins(&mut self, seed: SocketAddr) {
        self.spec.joins.push(seed.to_string());
    }

    /// Starts it again after its end, under the same name and with the same data, on other ports.
    ///
    /// # Panics
    /// When it does not start.
    pub async fn start_again(self) -> Self {
        Self::start_in(self.sandbox, self.spec, (0, 0)).await
    }

    /// The same on the ports that it had.
    ///
    /// # Panics
    /// When it does not start, for instance because a port was taken meanwhile.
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

/// Waits for a condition; says how long that took.
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
