//! A delegated task that needs a person: the question comes out at the node that was asked, and the answer goes the same way back.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use amcp_cluster::{Cluster, Role};
use amcp_specialists::{
    AgentCard, Capability, ChildSpec, Context, Effect, Failure, Specialist, SupervisorHandle, Task,
    async_trait,
};
use amcp_tests::cluster::here;

use crate::*;

/// Sends mails, which cannot be undone.
struct Post(Arc<AtomicUsize>);

#[async_trait]
impl Specialist for Post {
    fn card(&self) -> AgentCard {
        let mut send = Capability::new("mail.send", "Sends a mail to somebody.");
        send.params = json!({"type": "object", "properties": {"to": {"type": "string"}}});
        (send.effect, send.idempotent) = (Effect::Irreversible, false);
        AgentCard::new("post-1", "Sends mails.", vec![send])
    }

    async fn handle(&self, task: Task, _: &Context) -> Result<Value, Failure> {
        self.0.fetch_add(1, Ordering::SeqCst);
        Ok(json!({"text": format!("I wrote to {}.", task.text("to"))}))
    }
}

/// The node of the specialist, in this process: no shipped one does what cannot be undone.
struct PostOffice {
    sent: Arc<AtomicUsize>,
    _cluster: Cluster,
    _specialists: SupervisorHandle,
}

impl PostOffice {
    async fn joins(seed: &Member) -> Self {
        let sent = Arc::<AtomicUsize>::default();
        let counted = sent.clone();
        let post = ChildSpec::new("post-1@c", move || Post(counted.clone()));
        let (registry, specialists) = here::specialists(vec![post]).await.unwrap();
        let seed = seed.cluster.to_string();
        let cluster = here::link("c", Role::Specialists, Some(&seed), &registry).await;
        let cluster = cluster.unwrap();
        Self {
            sent,
            _cluster: cluster,
            _specialists: specialists,
        }
    }

    fn sent(&self) -> usize {
        self.sent.load(Ordering::SeqCst)
    }
}

/// A model whose every plan is this task.
async fn plans(capability: &'static str, params: Value) -> FakeOllama {
    let llm = FakeOllama::start().await;
    llm.otherwise(move |request| {
        if request.format().is_null() {
            return Reply::text("It is done.");
        }
        let task =
            json!({"id": "t1", "capability": capability, "params": params, "depends_on": []});
        Reply::plan(&json!({"tasks": [task]}))
    });
    llm
}

async fn post(url: String, body: &Value) -> (u16, Value) {
    let sent = client().post(url).json(body).send().await.unwrap();
    (sent.status().as_u16(), sent.json().await.unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_answers_at_the_node_that_was_asked() {
    let (outer, inner) = (
        plans("orchestrate.mail", json!({"query": "Write to Bob"})).await,
        plans("mail.send", json!({"to": "bob"})).await,
    );
    let mail = Spec::new("b").with(&["--domain", "mail", "--parts", "orchestrator"]);
    let a = with_llm(weather(), &outer);
    let members = mesh(vec![a, with_llm(mail, &inner)]).await;
    let a = &members[0];
    let office = PostOffice::joins(a).await;
    finds(a, "orchestrate.mail").await;

    for (decision, state) in [("approve", "completed"), ("deny", "failed")] {
        let before = office.sent();
        let query = json!({"query": "Write to Bob that it is done."});
        let (status, asks) = post(a.url("/ask"), &query).await;
        assert_eq!(status, 202, "{asks}");
        let flow = &asks["flows"][0];
        assert_eq!(flow["capability"], "mail.send", "{asks}");
        assert_eq!(flow["params"], json!({"to": "bob"}));
        assert_eq!((office.sent(), &flow["task"]), (before, &json!("t1")));

        let request = format!("/requests/{}", asks["request_id"].as_str().unwrap());
        let flow_id = flow["id"].as_str().unwrap();
        let answer = json!({"decision": decision, "digest": flow["digest"]});
        let (status, now) = post(a.url(&format!("{request}/flows/{flow_id}")), &answer).await;
        assert_eq!(status, 200, "{now}");
        let answered = until("the request is answered", PATIENCE, async || {
            let seen = a.get(&request).await.unwrap_or_default();
            seen.get("answer").is_some()
        });
        answered.await;
        let seen = a.get(&request).await.unwrap();
        assert_eq!(seen["state"], state, "{seen}");
        let done = usize::from(decision == "approve");
        assert_eq!(office.sent(), before + done, "{seen}");
        let by = &seen["tasks"][0]["calls"][0]["agent"];
        assert_eq!(*by == "post-1@c", decision == "approve", "{seen}");
        let code = seen["error"]["code"].as_str();
        assert_eq!(code, (decision == "deny").then_some("flow_denied"));
    }

    let query = json!({"query": "Write to Bob that it is done."});
    let (_, asks) = post(a.url("/ask"), &query).await;
    let request = format!("/requests/{}", asks["request_id"].as_str().unwrap());
    let asker = asks["flows"][0]["asker"].as_str().unwrap();
    let inner = format!("/requests/{}", asker.split('/').next().unwrap());
    post(a.url(&format!("{request}/cancel")), &json!({})).await;
    // Its flow would stand for a day.
    let ended = until("the delegated request ends too", PATIENCE, async || {
        let seen = a.get(&inner).await.unwrap_or_default();
        seen["state"] == "cancelled"
    });
    ended.await;
}
