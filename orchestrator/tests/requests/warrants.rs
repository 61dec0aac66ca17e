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
async fn a_part_of_another_nodes_request_never_becomes_a_request_of_this_one() {
    let mesh = Mesh::with("launders", meshed()).await;
    let sent = Sent::by(&mesh);
    let mut what = delegation(plan(&[task("t1", json!({}))]));
    // The node that delegates writes the domains.
    what.lineage.domains.clear();
    let _ = mesh.handle.delegated(what, |_| ()).await;
    let sent = sent.take();
    let lineage = &sent[0].lineage;
    assert!(lineage.backing.is_none(), "this node signs nothing for it");
    assert_eq!((lineage.depth, lineage.path.len()), (1, 1));
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

/// Asks for a payment and holds the work meanwhile; keeps the tasks that it gets.
struct Holds(Arc<Mutex<Vec<TaskRequest>>>);

impl Actor for Holds {
    type Msg = AgentMsg;
    type State = ();
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<AgentMsg>, (): ()) -> Result<(), ActorProcessingErr> {
        Ok(())
    }

    async fn handle(
        &self,
        _: ActorRef<AgentMsg>,
        message: AgentMsg,
        (): &mut (),
    ) -> Result<(), ActorProcessingErr> {
        if let AgentMsg::Execute(task, port) = message {
            let flow = FlowRequest::new(FlowKind::Payment, "Pay 12 EUR?");
            let flow = Box::new(FlowRequest {
                asker: task.task_id.to_string(),
                held: true,
                ..flow
            });
            port.answer(TaskResponse {
                version: 1,
                request_id: task.request_id,
                task_id: task.task_id.clone(),
                attempt: task.attempt,
                agent: "payer-1".parse().unwrap(),
                calls: Vec::new(),
                usage: Usage::default(),
                outcome: TaskOutcome::FlowRequired(flow),
            });
            self.0.lock().unwrap().push(task);
        }
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn a_withdrawal_goes_on_under_the_warrant_that_it_came_with() {
    let mesh = Mesh::with("withdraws", meshed()).await;
    let got = Arc::new(Mutex::new(Vec::new()));
    let (actor, _) = Actor::spawn(None, Holds(got.clone()), ()).await.unwrap();
    let card = Capability::new("test.pay", "For tests.");
    let card = AgentCard::new("payer-1", "A worker.", vec![card]);
    let agent = Registration::new(card, 1, actor.get_derived());
    mesh.registry.register(agent).await.unwrap();
    let pays = json!({"id": "t1", "capability": "test.pay", "params": {}});
    let mut what = delegation(plan(&[pays]));
    what.grant.flows = FlowKind::ALL.to_vec();
    what.lineage.backing = Some(Arc::new(Backing::of(sealed("a", 1))));
    let (outcome, _) = mesh.handle.delegated(what.clone(), |_| ()).await;
    let flow = passed_on(outcome);
    let subject = flow.subject.clone().unwrap();
    let ids = ("t9.1".parse().unwrap(), "t9".parse().unwrap());
    let shown = amcp_protocol::Flow::open(ids, *flow, subject);
    what.flows = vec![EndedFlow {
        end: FlowEnd::Withdrawn,
        ..EndedFlow::of(shown, None)
    }];
    // By now the first warrant has ended.
    what.lineage.backing = Some(Arc::new(Backing::of(sealed("a", 2))));
    let _ = mesh.handle.delegated(what, |_| ()).await;
    let withdrawn = async {
        while got.lock().unwrap().len() < 2 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    let hour = Duration::from_secs(3_600);
    tokio::time::timeout(hour, withdrawn).await.unwrap();
    let got = got.lock().unwrap();
    assert_eq!(got[1].flows.last().unwrap().end, FlowEnd::Withdrawn);
    assert_eq!(backing(&got[1]).sealed(), Some(sealed("a", 2)));
}
