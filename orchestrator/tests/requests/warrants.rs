//! The warrants and paths with which tasks leave an orchestrator.

use amcp_orchestrator::Witness;
use amcp_protocol::flow::FlowEnd;
use amcp_protocol::warrant::{Sealed, digest, part_id};
use amcp_protocol::{Backing, CapabilityName, EndedFlow, RequestId, Step};

use super::delegated::delegation;
use super::flows::{mesh, passed_on, send};
use super::*;

/// Keeps the tasks that are dispatched.
#[derive(Debug, Default)]
struct Sent(Mutex<Vec<TaskRequest>>);

impl Sent {
    fn by(mesh: &Mesh) -> Arc<Self> {
        let sent = Arc::<Self>::default();
        mesh.handle.witnessed_by(sent.clone());
        sent
    }

    fn take(&self) -> Vec<TaskRequest> {
        std::mem::take(&mut *self.0.lock().unwrap())
    }
}

impl Witness for Sent {
    fn accepts(&self, _: Option<RequestId>, _: &UserRequest) -> Result<(), Failure> {
        Ok(())
    }

    fn refused(&self, _: &UserRequest, _: &Failure) {}

    fn dispatched(&self, _: &UserRequest, task: &TaskRequest, _: &AgentId) {
        self.0.lock().unwrap().push(task.clone());
    }

    fn progressed(&self, _: (RequestId, &UserRequest), _: Option<&CapabilityName>, _: &Progress) {}

    fn answered(&self, _: &UserRequest, _: &amcp_protocol::Answer) {}

    fn spent(&self, _: &UserRequest, _: Usage) {}

    fn planned(&self, _: &UserRequest, _: Option<&Failure>) {}
}

fn meshed() -> Settings {
    Settings {
        meshed: true,
        ..Settings::default()
    }
}

fn backing(task: &TaskRequest) -> &Arc<Backing> {
    task.lineage.backing.as_ref().unwrap()
}

#[tokio::test(start_paused = true)]
async fn all_tasks_of_a_round_share_a_warrant_that_names_them() {
    let mesh = Mesh::planned_by(Told { replans: true }, "warranted", meshed()).await;
    let sent = Sent::by(&mesh);
    let tasks = [
        task("t1", json!({"x": 1})),
        task(
            "t2",
            json!({"fail": "task_failed", "from": {"$ref": "t1", "path": "/x"}}),
        ),
    ];
    let mut instead = task("t3", json!({"x": 2}));
    instead["replaces"] = json!(["t2"]);
    let query = json!({"tasks": tasks, "then": {"tasks": [instead]}});
    let request = UserRequest {
        user: Some("ana".to_owned()),
        roles: vec!["analyst".to_owned()],
        deadline_ms: Some(30_000),
        ..UserRequest::new(query.to_string())
    };
    let id = mesh
        .handle
        .ask(request, None)
        .unwrap()
        .answer()
        .await
        .request_id;
    let sent = sent.take();
    let [first, second, third] = &sent[..] else {
        panic!("{sent:?}");
    };
    assert!(Arc::ptr_eq(backing(first), backing(second)));
    assert!(
        !Arc::ptr_eq(backing(second), backing(third)),
        "a later round"
    );
    let draft = backing(third).draft().unwrap();
    assert_eq!((draft.request, draft.lifetime_ms), (id, 30_000));
    assert_eq!(draft.user.as_deref(), Some("ana"));
    assert_eq!(draft.roles, ["analyst"]);
    let named = draft.tasks.iter().map(|named| named.id.as_str());
    assert_eq!(named.collect::<Vec<_>>(), ["t1", "t2", "t3"]);
    let digests = draft.tasks.iter().filter(|named| named.params.is_some());
    assert_eq!(digests.count(), 0, "only parts of queries have digests");
    assert!(
        sent.iter().all(|task| backing(task).sealed().is_none()),
        "nothing left the node"
    );
}

#[tokio::test(start_paused = true)]
async fn a_warrant_fixes_the_query_of_a_part() {
    let settings = Settings {
        domain: Some("finance=test.do".parse().unwrap()),
        ..meshed()
    };
    let mesh = Mesh::with("parts", settings).await;
    mesh.join("orchestrator@b", "orchestrate.b").await;
    let sent = Sent::by(&mesh);
    let whole = json!({"id": "t1", "capability": "orchestrate.b", "params": {"query": "?"}});
    let query = plan(&[whole, task("t2", json!({}))]);
    mesh.ask(query).await;
    let sent = sent.take();
    let named = &backing(&sent[0]).draft().unwrap().tasks;
    let digests: Vec<_> = named.iter().map(|named| named.params).collect();
    assert_eq!(digests, [Some(digest(&json!({"query": "?"}))), None]);
}

#[tokio::test(start_paused = true)]
async fn a_node_without_links_has_no_warrants() {
    let mesh = Mesh::start("unwarranted").await;
    let sent = Sent::by(&mesh);
    let query = plan(&[task("t1", json!({}))]);
    let ticket = mesh.handle.ask(UserRequest::new(query), None).unwrap();
    ticket.answer().await;
    assert!(sent.take()[0].lineage.backing.is_none());
}

fn sealed(issuer: &str, signature: u8) -> Sealed {
    Sealed {
        issuer: issuer.parse().unwrap(),
        warrant: [0].into(),
        signature: [signature].into(),
    }
}

#[tokio::test(start_paused = true)]
async fn a_delegated_request_keeps_the_warrant_it_came_with_and_takes_a_later_one() {
    let mesh = mesh("passes-warrants-on", meshed()).await;
    let sent = Sent::by(&mesh);
    let mut last = task("t2", json!({}));
    last["depends_on"] = json!(["t1"]);
    let mut what = delegation(plan(&[send("t1", json!({"to": "bob"})), last]));
    what.grant.flows = FlowKind::ALL.to_vec();
    let with = |sealed| Some(Arc::new(Backing::of(sealed)));
    what.lineage.backing = with(sealed("a", 1));
    let (outcome, _) = mesh.handle.delegated(what.clone(), |_| ()).await;
    let flow = passed_on(outcome);
    let subject = flow.subject.clone().unwrap();
    let ids = ("t9.1".parse().unwrap(), "t9".parse().unwrap());
    let shown = amcp_protocol::Flow::open(ids, *flow, subject);
    // Another node's cannot take its place.
    what.lineage.backing = with(sealed("z", 3));
    let _ = mesh.handle.delegated(what.clone(), |_| ()).await;
    what.lineage.backing = with(sealed("a", 2));
    what.flows = vec![EndedFlow {
        end: FlowEnd::Approved,
        ..EndedFlow::of(shown, None)
    }];
    let _ = mesh.handle.delegated(what.clone(), |_| ()).await;
    let sent = sent.take();
    let part = digest(&json!({"query": what.query}));
    let (request, by) = what.by;
    for task in &sent {
        assert_eq!(backing(task).sealed(), Some(sealed("a", 2)));
        assert_eq!(task.request_id, part_id(request, &by, &part));
        let step = Step {
            task: by.clone(),
            caller: None,
            part: Some(part),
        };
        assert_eq!(task.lineage.path, [step]);
    }
    assert_eq!(sent.len(), 2);
}
