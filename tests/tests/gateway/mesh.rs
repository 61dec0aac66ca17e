//! A small mesh behind a real listener: a planner that does as the query says, and one agent.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use amcp_access::{Audit, Authentication, KeyFile, Keys, NewKey, TokenRules, Tokens};
use amcp_gateway::{GatewayState, Https, Limits, Names, Peers, router, serve};
use amcp_orchestrator::{OrchestratorHandle, Settings};
use amcp_outbound::Guard;
use amcp_plan::{Plan, PlanTask, Terms};
use amcp_planner::{Planned, Planner, PlanningError, PlanningInput};
use amcp_protocol::llm::{PortFuture, Usage};
use amcp_protocol::{ErrorCode, Permissions, TaskId};
use amcp_registry::{EventBus, RegistryHandle};
use amcp_specialists::{
    AgentCard, Capability, ChildSpec, Context, Effect, Failure, FlowKind, FlowRequest, Specialist,
    SupervisorConfig, Task, Value, async_trait, json,
};
use jiff::Timestamp;
use reqwest::{Client, RequestBuilder, Response};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

/// Plans for what the user may use, and for `word!` whether the user may or not. `echo TEXT`, `wait`, `fail`, `send TEXT` and `pay MS` are tasks, joined by ` and `; everything else is nothing that it could plan.
struct StubPlanner;

impl Planner for StubPlanner {
    fn name(&self) -> String {
        "stub".to_owned()
    }

    fn plan(&self, input: PlanningInput) -> PortFuture<'_, Result<Planned, PlanningError>> {
        Box::pin(async move {
            let parts = (1..).zip(input.query.split(" and "));
            let tasks = parts.map(|(number, part)| {
                let (word, text) = part.split_once(' ').unwrap_or((part, ""));
                let (word, is_blind) = word.strip_suffix('!').map_or((word, false), |w| (w, true));
                let contract = input.catalogue.get(&format!("test.{word}"))?;
                if !is_blind && !input.access.allows(&contract.capability) {
                    return None;
                }
                Some(PlanTask {
                    id: TaskId::new(format!("t{number}")).unwrap(),
                    capability: contract.capability.name.clone(),
                    terms: Terms::of(&contract.capability),
                    params: json!({"text": text}).into(),
                    references: Vec::new(),
                    after: Vec::new(),
                    inferred: Vec::new(),
                    optional: false,
                    replaces: Vec::new(),
                })
            });
            let tasks: Option<_> = tasks.collect();
            let tasks = tasks.ok_or_else(|| PlanningError {
                failure: Failure::new(ErrorCode::NothingPlanned, "no capability covers it"),
                planner: self.name(),
                llm_calls: 0,
                usage: Usage::default(),
                proposal: None,
            })?;
            Ok(Planned {
                plan: Plan {
                    tasks,
                    ..Plan::default()
                },
                planner: self.name(),
                llm_calls: 0,
                usage: Usage::default(),
                notes: Vec::new(),
            })
        })
    }
}

/// What tests and the agent tell each other.
struct Signs {
    executions: AtomicUsize,
    started: Semaphore,
    gate: Semaphore,
}

struct Tester(Arc<Signs>);

#[async_trait]
impl Specialist for Tester {
    fn card(&self) -> AgentCard {
        let capability = |name: &str| Capability {
            concurrency: 64,
            ..Capability::new(name, "For tests.")
        };
        let names = ["test.echo", "test.wait", "test.fail", "test.pay"];
        let mut capabilities = names.map(capability).to_vec();
        capabilities.push(Capability {
            effect: Effect::Irreversible,
            ..capability("test.send")
        });
        capabilities.push(Capability {
            params: json!({"type": "object", "required": ["text"], "additionalProperties": false,
                "properties": {"text": {"type": "string"}, "times": {"type": "integer"}}}),
            ..capability("test.repeat")
        });
        capabilities.push(Capability {
            required_roles: vec!["boss".to_owned()],
            ..capability("test.secret")
        });
        AgentCard::new("tester-1", "For tests.", capabilities)
    }

    async fn handle(&self, task: Task, ctx: &Context) -> Result<Value, Failure> {
        self.0.executions.fetch_add(1, Ordering::SeqCst);
        match task.capability.as_str() {
            "test.wait" => {
                self.0.started.add_permits(1);
                let _ = self.0.gate.acquire().await;
            }
            "test.pay" => {
                let flow = FlowRequest::new(FlowKind::Payment, "Pay 12 EUR?");
                let flow = flow.payload(json!({"eur": 12}));
                let expires_ms = task.text("text").parse().unwrap();
                let paid = ctx.obtain(flow.expires_ms(expires_ms))?;
                return Ok(json!({"receipt": paid.payload}));
            }
            "test.fail" => return Err(Failure::task("as it was told")),
            _ => {}
        }
        Ok(json!({"text": format!("{}.", task.text("text"))}))
    }
}

/// Where clients reach the node, through a proxy.
pub(crate) const PUBLIC: &str = "https://amcp.example.org";

/// How a test differs.
#[derive(Debug, Clone)]
pub(crate) struct Setup {
    pub(crate) max_requests: usize,
    pub(crate) limits: Limits,
    pub(crate) peers: Option<Arc<dyn Peers>>,
    pub(crate) https: Option<Arc<Https>>,
    /// Users with a key, and their roles.
    pub(crate) users: &'static [(&'static str, &'static [&'static str])],
    pub(crate) issuers: Vec<TokenRules>,
    /// Whether direct clients need no credential.
    pub(crate) anonymous: bool,
    pub(crate) permissions: Permissions,
    pub(crate) audit: Option<Arc<Audit>>,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            max_requests: 1_000,
            limits: Limits::default(),
            peers: None,
            https: None,
            users: &[],
            issuers: Vec::new(),
            anonymous: true,
            permissions: Permissions::default(),
            audit: None,
        }
    }
}

pub(crate) struct TestMesh {
    pub(crate) address: SocketAddr,
    pub(crate) registry: RegistryHandle,
    pub(crate) http: Client,
    pub(crate) reports: TempDir,
    /// Each user's key, by the user's name.
    pub(crate) keys: HashMap<&'static str, String>,
    pub(crate) close: CancellationToken,
    pub(crate) served: JoinHandle<()>,
    reasons: Arc<Mutex<Vec<String>>>,
    signs: Arc<Signs>,
}

/// Makes the setup's keys in a folder; returns what knows them and the issuers, and each user's key.
fn known(setup: &Setup, folder: &Path) -> (Authentication, HashMap<&'static str, String>) {
    let file = KeyFile::in_data(folder);
    let mut keys = HashMap::new();
    for (user, roles) in setup.users {
        let new = NewKey {
            user: (*user).to_owned(),
            roles: roles.iter().map(|&role| role.to_owned()).collect(),
            ..NewKey::default()
        };
        let made = file.change(|ring| ring.create(new, Timestamp::now()));
        keys.insert(*user, made.unwrap().0);
    }
    let guard = Guard::allowing(["127.0.0.1/32".parse().unwrap()]);
    let issuers = setup.issuers.iter().cloned();
    let issuers = issuers.map(|rules| Tokens::start(rules, guard.clone()).unwrap());
    let keys_of_file = Keys::open(file).unwrap();
    let users = Authentication::new(keys_of_file, issuers.collect(), setup.anonymous, None);
    (users, keys)
}

impl TestMesh {
    pub(crate) async fn start(setup: Setup) -> Self {
        let bus = EventBus::new();
        // Process groups are global: each test has its own.
        let registry = RegistryHandle::new(uuid::Uuid::new_v4().to_string(), bus.clone());
        registry.spawn(None).await.unwrap();
        registry.permit(setup.permissions.clone());
        let signs = Arc::new(Signs {
            executions: AtomicUsize::new(0),
            started: Semaphore::new(0),
            gate: Semaphore::new(0),
        });
        let tester = signs.clone();
        let child = ChildSpec::new("tester-1", move || Tester(tester.clone()));
        let supervisor = SupervisorConfig::new(registry.clone(), vec![child]);
        supervisor.start(None).await.unwrap().settled().await;
        let settings = Settings {
            max_requests: setup.max_requests,
            ..Settings::default()
        };
        let orchestrator =
            OrchestratorHandle::new(settings, Arc::new(StubPlanner), registry.clone(), bus);
        orchestrator.spawn_planner(None).await.unwrap();
        orchestrator.spawn(None).await.unwrap();
        let reports = tempfile::tempdir().unwrap();
        let (users, keys) = known(&setup, reports.path());
        let reasons = Arc::new(Mutex::new(Vec::new()));
        let readiness = reasons.clone();
        let state = GatewayState {
            orchestrator,
            registry: registry.clone(),
            reports: reports.path().to_owned(),
            names: Arc::new(Names::new(Some(PUBLIC), None, None)),
            audit: setup.audit,
            metrics: Arc::new(String::new),
            users: Arc::new(users),
            owner_of: amcp_specialists::reports::owner,
            readiness: Arc::new(move || readiness.lock().unwrap().clone()),
            peers: setup.peers,
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let close = CancellationToken::new();
        let serving = serve(
            listener,
            router(state),
            setup.limits,
            setup.https,
            close.clone(),
        );
        Self {
            address,
            registry,
            http: amcp_tests::process::client(),
            reports,
            keys,
            close,
            served: tokio::spawn(async move { serving.await.unwrap() }),
            reasons,
            signs,
        }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub(crate) fn post(&self, path: &str) -> RequestBuilder {
        self.http.post(self.url(path))
    }

    pub(crate) async fn get(&self, path: &str) -> Response {
        self.http.get(self.url(path)).send().await.unwrap()
    }

    pub(crate) async fn ask(&self, query: &str) -> Response {
        let body = json!({"query": query}).to_string();
        self.post("/ask").body(body).send().await.unwrap()
    }

    /// Asks without waiting; returns the request's address.
    pub(crate) async fn accept(&self, query: &str) -> String {
        let body = json!({"query": query}).to_string();
        let post = self.post("/ask").header("prefer", "respond-async");
        let accepted = post.body(body).send().await.unwrap();
        assert_eq!(accepted.status(), 202);
        accepted.headers()["location"].to_str().unwrap().to_owned()
    }

    /// How many tasks were begun.
    pub(crate) fn executions(&self) -> usize {
        self.signs.executions.load(Ordering::SeqCst)
    }

    /// Waits until one more `wait` task was begun.
    pub(crate) async fn started(&self) {
        let started = timeout(Duration::from_secs(30), self.signs.started.acquire()).await;
        started.unwrap().unwrap().forget();
    }

    /// Lets all `wait` tasks end, those to come too.
    pub(crate) fn open_gate(&self) {
        self.signs.gate.close();
    }

    pub(crate) fn not_ready(&self, reason: &str) {
        self.reasons.lock().unwrap().push(reason.to_owned());
    }
}
