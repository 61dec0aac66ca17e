//! Work that a third node passes on, over links with certificates: `a` accepts requests, `b` works for them and passes work on
//! to `c`, which lets `b` use nothing and `a` the weather.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};

use amcp_cluster::settings::TlsFiles;
use amcp_cluster::{Cluster, ClusterSettings, Role, certs};
use amcp_protocol::task::{TaskOutcome, WIRE_VERSION};
use amcp_protocol::{AgentCard, Backing, Capability, ErrorCode, Failure, Grant, Lineage};
use amcp_protocol::{AgentId, CapabilityName, NodeName, Payload, TaskRequest};
use amcp_registry::{AnswerPort, RegistryHandle};
use amcp_specialists::{ChildSpec, Context, Specialist, SupervisorHandle, Task, async_trait};
use amcp_tests::cluster::{Member, Spec, here, mesh, until};
use amcp_tests::process::{PATIENCE, client};
use serde_json::{Value, json};
use tempfile::TempDir;

type Seen = Arc<Mutex<Vec<(Grant, Lineage, TaskRequest)>>>;

/// Calls what it is told to call, and keeps what it was given.
struct Errand(Seen);

#[async_trait]
impl Specialist for Errand {
    fn card(&self) -> AgentCard {
        let run = Capability {
            params: json!({"type": "object"}),
            ..Capability::new("errand.run", "Runs an errand.")
        };
        AgentCard::new("errand", "Runs errands.", vec![run])
    }

    async fn handle(&self, task: Task, ctx: &Context) -> Result<Value, Failure> {
        let capability = task.text("capability");
        let params = task.params::<BTreeMap<String, Value>>()?.remove("params");
        let params = params.unwrap_or_default();
        let call = TaskRequest {
            version: WIRE_VERSION,
            request_id: ctx.request_id(),
            task_id: format!("{}-c1-0", ctx.task_id()).parse().unwrap(),
            attempt: 1,
            deadline_ms: 5_000,
            traceparent: None,
            grant: Arc::new(ctx.grant().clone()),
            lineage: Arc::default(),
            capability: CapabilityName::new(capability).unwrap(),
            flows: Vec::new(),
            params: Payload::from(params.clone()),
        };
        let kept = (ctx.grant().clone(), ctx.lineage().clone(), call);
        self.0.lock().unwrap().push(kept);
        ctx.call_named(capability, params).await
    }
}

struct Three {
    a: Member,
    c: Member,
    /// `b`, in this process.
    registry: RegistryHandle,
    seen: Seen,
    audit: TempDir,
    _b: (Cluster, SupervisorHandle, TempDir),
}

/// Certificates, and the settings of `c`.
fn files(folder: &Path) {
    certs::init(folder).unwrap();
    for name in ["a", "b", "c"] {
        certs::issue(folder, &NodeName::new(name).unwrap(), &[]).unwrap();
    }
    let trust = "[cluster_trust.a]\nroles = []\ncapabilities = [\"weather.*\"]\n\
                 [cluster_trust.b]\nroles = []\ncapabilities = []\n";
    std::fs::write(folder.join("c.toml"), trust).unwrap();
}

async fn three() -> Three {
    let (keys, audit) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    files(keys.path());
    let certificates = ["--cluster-certs", keys.path().to_str().unwrap()];
    let config = keys.path().join("c.toml");
    let mut members = mesh(vec![
        Spec::new("a").with(&certificates).orchestrates(),
        Spec::new("c")
            .with(&certificates)
            .with(&["--config", config.to_str().unwrap()])
            .with(&["--data", audit.path().to_str().unwrap()])
            .with(&["--specialists", "weather,joke"]),
    ])
    .await;
    let seen = Seen::default();
    let kept = Arc::clone(&seen);
    let child = ChildSpec::new("errand@b", move || Errand(Arc::clone(&kept)));
    let (registry, supervisor) = here::specialists(vec![child]).await.unwrap();
    let mut settings: Option<ClusterSettings> = None;
    for member in &members {
        let seed = member.cluster.to_string();
        let of = here::settings("b", Role::Specialists, Some(&seed)).unwrap();
        settings.get_or_insert(of.clone()).seeds.extend(of.seeds);
    }
    let settings = ClusterSettings {
        tls: Some(TlsFiles {
            ca: keys.path().join("ca.pem"),
            cert: keys.path().join("b.pem"),
            key: keys.path().join("b.key"),
        }),
        ..settings.unwrap()
    };
    let cluster = here::linked(settings, &registry).await.unwrap();
    let (c, a) = (members.pop().unwrap(), members.pop().unwrap());
    a.has_agents(3).await;
    let here = registry.wait_for(|agents| agents.entries().filter(|e| e.is_present()).count() >= 3);
    tokio::time::timeout(PATIENCE, here).await.unwrap();
    Three {
        a,
        c,
        registry,
        seen,
        audit,
        _b: (cluster, supervisor, keys),
    }
}

impl Three {
    /// Asks `a` for an errand of `b`: a call of what `c` offers.
    async fn errand(&self, capability: &str, params: Value) -> Value {
        let params = json!({"capability": capability, "params": params});
        let plan = json!({"tasks": [{"id": "t1", "capability": "errand.run", "params": params}]});
        let run = client().post(self.a.url("/run")).json(&plan);
        run.send().await.unwrap().json().await.unwrap()
    }

    /// Sends a task from `b` to the weather agent of `c`; the code of its refusal, if it is refused.
    async fn sends(&self, task: TaskRequest) -> Option<ErrorCode> {
        let (answer, answered) = AnswerPort::channel();
        let agent = AgentId::new("weather-1@c").unwrap();
        let directory = self.registry.load();
        let entry = directory.agent(&agent).unwrap();
        entry.port.execute(task, answer).unwrap();
        match answered.await.unwrap().outcome {
            TaskOutcome::Refused(failure) => Some(failure.code),
            TaskOutcome::Done(_)
            | TaskOutcome::Failed(_)
            | TaskOutcome::Partly(..)
            | TaskOutcome::FlowRequired(_) => None,
        }
    }

    /// What `b` may make of the warrant that it got with its first errand.
    async fn forgeries(&self) -> Vec<(&'static str, TaskRequest)> {
        let (grant, lineage, call) = self.seen.lock().unwrap().remove(0);
        let backing = lineage.backing.clone().unwrap();
        let sealed = backing.sealed().unwrap();
        let with = |backing: Option<Arc<Backing>>| TaskRequest {
            lineage: Arc::new(Lineage {
                depth: 1,
                path: vec![amcp_protocol::Step {
                    task: "t1".parse().unwrap(),
                    caller: Some("errand@b".parse().unwrap()),
                    part: None,
                }],
                backing,
                ..lineage.clone()
            }),
            ..call.clone()
        };
        let honest = with(Some(Arc::clone(&backing)));
        assert_eq!(self.sends(honest.clone()).await, None);
        let mut forged = sealed.clone();
        Arc::make_mut(&mut forged.warrant).reverse();
        let other = "00000000-0000-0000-0000-000000000001".parse().unwrap();
        let admin = Grant {
            roles: vec!["admin".to_owned()],
            ..grant
        };
        let own = TaskRequest {
            lineage: Arc::default(),
            ..call.clone()
        };
        let of_no_task = Arc::new(Lineage {
            path: vec![],
            ..Lineage::clone(&honest.lineage)
        });
        vec![
            ("b's own request", own),
            ("no warrant", with(None)),
            ("a forged one", with(Some(Arc::new(Backing::of(forged))))),
            (
                "another request",
                TaskRequest {
                    request_id: other,
                    ..honest.clone()
                },
            ),
            (
                "a role that the user lacks",
                TaskRequest {
                    grant: Arc::new(admin),
                    ..honest.clone()
                },
            ),
            (
                "no task of the plan",
                TaskRequest {
                    lineage: of_no_task,
                    ..honest
                },
            ),
        ]
    }

    /// Waits until the audit log of `c` has this many tasks that it refused.
    async fn audited(&self, count: usize) {
        let folder = self.audit.path().join("audit");
        until("c audits what it refuses", PATIENCE, async || {
            let files = std::fs::read_dir(&folder).into_iter().flatten().flatten();
            let texts = files.filter_map(|file| std::fs::read_to_string(file.path()).ok());
            let texts: Vec<_> = texts.collect();
            let lines = texts.iter().flat_map(|text| text.lines());
            let refused = lines.filter(|line| line.contains("\"task.refused\""));
            // Nobody has proven the roles of a refused task.
            let admins = refused.clone().filter(|line| line.contains("admin"));
            assert_eq!(admins.count(), 0);
            refused.count() == count
        })
        .await;
    }
}

#[tokio::test]
async fn a_call_that_a_third_node_passes_on_needs_the_issuers_warrant() {
    let three = three().await;
    let city = json!({"city": "Paris"});
    let answer = three.errand("weather.get", city.clone()).await;
    assert_eq!(answer["state"], "completed", "{answer}");
    let calls = &answer["tasks"][0]["calls"];
    assert_eq!(calls[0]["agent"], "weather-1@c", "{answer}");

    // The issuer may not use it on c.
    let answer = three.errand("joke.get", json!({})).await;
    assert_eq!(answer["state"], "failed", "{answer}");
    let error = &answer["tasks"][0]["error"];
    assert_eq!(error["code"], "not_permitted", "{answer}");
    assert!(
        error["message"].as_str().unwrap().contains("node a"),
        "{answer}"
    );
    let c = &three.c;
    assert_eq!(c.view().await.counts.unproven, 0);

    let forgeries = three.forgeries().await;
    let count = forgeries.len();
    for (fault, task) in forgeries {
        let refused = three.sends(task).await;
        assert_eq!(refused, Some(ErrorCode::NotPermitted), "{fault}");
    }
    assert_eq!(c.view().await.counts.unproven, count as u64 - 1);
    three.audited(count + 1).await;
}

/// `b` plans a part of a request of `a`, and its task is `c`'s.
#[tokio::test]
async fn a_part_that_another_orchestrator_passes_on_is_the_first_ones() {
    let keys = tempfile::tempdir().unwrap();
    files(keys.path());
    let certificates = ["--cluster-certs", keys.path().to_str().unwrap()];
    let config = keys.path().join("c.toml");
    let members = mesh(vec![
        Spec::new("a")
            .with(&certificates)
            .with(&["--domain", "math", "--specialists", "math"]),
        Spec::new("b")
            .with(&certificates)
            .with(&["--domain", "weather", "--specialists", "joke"]),
        Spec::new("c")
            .with(&certificates)
            .with(&["--config", config.to_str().unwrap()])
            .specialises(&["weather"]),
    ])
    .await;
    let [a, b, _] = &members[..] else { panic!() };
    until("a finds b's orchestrator", PATIENCE, async || {
        let agents = a.get("/agents").await.unwrap().to_string();
        agents.contains("orchestrate.weather")
    })
    .await;
    let query = json!({"query": "What's the weather in Paris?"});
    let ask = async |member: &Member| -> Value {
        let ask = client().post(member.url("/ask")).json(&query);
        ask.send().await.unwrap().json().await.unwrap()
    };
    let answer = ask(a).await;
    assert_eq!(answer["state"], "completed", "{answer}");
    let task = &answer["tasks"][0];
    assert_eq!(task["capability"], "orchestrate.weather", "{answer}");
    assert_eq!(task["calls"][0]["agent"], "weather-1@c", "{answer}");
    let answer = ask(b).await;
    assert_eq!(answer["state"], "failed", "{answer}");
    assert_eq!(
        answer["tasks"][0]["error"]["code"], "not_permitted",
        "{answer}"
    );
}
