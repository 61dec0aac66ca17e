//! Flows through the real actors: questions, answers, places, delegation.

use amcp_orchestrator::{Delegation, OpenFlow, Phase, Ticket};
use amcp_protocol::flow::{Decision, FlowEnd};
use amcp_protocol::{EndedFlow, FlowAnswer, RequestId};

use super::delegated::delegation;
use super::*;

pub(super) fn send(id: &str, params: Value) -> Value {
    json!({"id": id, "capability": "test.send", "params": params})
}

pub(super) async fn mesh(name: &str, settings: Settings) -> Mesh {
    let mesh = Mesh::with(name, settings).await;
    mesh.join("sender-1", "test.send").await;
    mesh
}

fn answer(open: &OpenFlow, decision: Decision) -> FlowAnswer {
    FlowAnswer {
        decision,
        digest: open.flow.digest.clone(),
        payload: json!({"receipt": 7}),
        reason: None,
    }
}

impl Mesh {
    fn begin(&self, query: String) -> Ticket {
        self.handle.ask(UserRequest::new(query), None).unwrap()
    }

    /// The open flows, once nothing else is open.
    async fn idle(&self, id: RequestId) -> Vec<OpenFlow> {
        let wait = async {
            loop {
                let view = self.handle.request(id).unwrap();
                if view.account.state == Phase::AwaitingFlow.as_str() {
                    return view.flows;
                }
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        let waited = tokio::time::timeout(Duration::from_secs(3_600), wait).await;
        waited.expect("the request never waited for a person")
    }

    async fn until_answered(&self, count: u64) {
        let wait = async {
            while self.handle.counts().answered < count {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        let waited = tokio::time::timeout(Duration::from_secs(10), wait).await;
        waited.expect("a request goes on");
    }

    async fn decide(
        &self,
        ticket: &Ticket,
        open: &OpenFlow,
        decision: Decision,
    ) -> Result<(), ErrorCode> {
        let (id, flow) = (ticket.request_id(), open.flow.id.clone());
        let answered = self.handle.answer_flow(id, flow, answer(open, decision));
        answered.await.map_err(|failure| failure.code)
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_waits_for_its_person_and_not_for_its_deadline() {
    let mesh = mesh("confirm", Settings::default()).await;
    let tasks = [
        send("t1", json!({"to": "bob"})),
        task("t2", json!({"fine": 1})),
    ];
    let request = UserRequest::new(plan(&tasks));
    let ticket = mesh.handle.ask(request, Some("a key")).unwrap();
    let Err(open) = ticket.answer_or_flows().await else {
        panic!("it asks first");
    };
    assert_eq!(open[0].flow.subject.params, json!({"to": "bob"}));
    mesh.idle(ticket.request_id()).await;
    // Its place is free, and its deadline of a minute passes without it.
    assert_eq!(mesh.handle.in_flight(), 0);
    tokio::time::sleep(Duration::from_secs(20 * 60 * 60)).await;
    assert_eq!(
        mesh.decide(&ticket, &open[0], Decision::Approve).await,
        Ok(())
    );
    assert_eq!(
        mesh.decide(&ticket, &open[0], Decision::Deny).await,
        Err(ErrorCode::FlowClosed)
    );
    let answer = ticket.answer().await;
    assert_eq!(answer.state, AnswerState::Completed, "{answer:?}");
    assert_eq!(answer.tasks[0].attempts, 1);
    assert_eq!(
        mesh.decide(&ticket, &open[0], Decision::Approve).await,
        Err(ErrorCode::FlowClosed)
    );
    assert_eq!(mesh.handle.request(ticket.request_id()).unwrap().flows, []);
}

#[tokio::test(start_paused = true)]
async fn what_a_user_may_no_longer_do_is_not_done_although_a_person_approves() {
    let mesh = mesh("no-longer", Settings::default()).await;
    let ticket = mesh.begin(plan(&[send("t1", json!({"to": "bob"}))]));
    let open = mesh.idle(ticket.request_id()).await;
    let rules = json!({"roles": {"everyone": {"allow": ["*"], "deny": ["test.send"]}}});
    mesh.registry.permit(serde_json::from_value(rules).unwrap());
    assert_eq!(
        mesh.decide(&ticket, &open[0], Decision::Approve).await,
        Ok(())
    );
    let answer = ticket.answer().await;
    let task = &answer.tasks[0];
    assert_eq!(task.agent, None, "{task:?}");
    let error = task.error.as_ref().unwrap();
    assert_eq!(error.code, ErrorCode::NotPermitted);
    assert!(error.hint.as_ref().unwrap().contains("'test.send'"));
}

#[tokio::test(start_paused = true)]
async fn what_a_person_denies_is_not_done_and_not_planned_again() {
    let told = Told { replans: true };
    let mesh = Mesh::planned_by(told, "denied", Settings::default()).await;
    mesh.join("sender-1", "test.send").await;
    let ticket = mesh.begin(plan(&[
        send("t1", json!({"to": "bob"})),
        task("t2", json!({"from": "$t1"})),
        task("t3", json!({"x": 1})),
    ]));
    let open = mesh.idle(ticket.request_id()).await;
    mesh.decide(&ticket, &open[0], Decision::Deny)
        .await
        .unwrap();
    let answer = ticket.answer().await;
    assert_eq!(answer.error.as_ref().unwrap().code, ErrorCode::FlowDenied);
    let ends: Vec<_> = answer.tasks.iter().map(|t| (t.state, t.attempts)).collect();
    assert_eq!(
        ends,
        [
            (TaskState::Failed, 0),
            (TaskState::Skipped, 0),
            (TaskState::Completed, 1)
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn a_flow_expires_after_a_day() {
    let mesh = mesh("expires", Settings::default()).await;
    let ticket = mesh.begin(plan(&[send("t1", json!({}))]));
    let open = mesh.idle(ticket.request_id()).await;
    let answer = ticket.answer().await;
    assert_eq!(answer.state, AnswerState::Failed);
    assert_eq!(answer.error.as_ref().unwrap().code, ErrorCode::FlowExpired);
    assert_eq!(
        mesh.decide(&ticket, &open[0], Decision::Approve).await,
        Err(ErrorCode::FlowExpired)
    );
}

#[tokio::test(start_paused = true)]
async fn an_agent_asks_and_gets_the_answer() {
    let mesh = mesh("pays", Settings::default()).await;
    let ticket = mesh.begin(plan(&[task("t1", json!({"pay": true}))]));
    let open = mesh.idle(ticket.request_id()).await;
    assert_eq!(open[0].flow.kind, FlowKind::Payment);
    assert_eq!(open[0].flow.subject.params, json!({"pay": true}));
    mesh.decide(&ticket, &open[0], Decision::Approve)
        .await
        .unwrap();
    let answer = ticket.answer().await;
    let result = answer.tasks[0].result.as_deref().unwrap();
    assert_eq!(result["flows"][0]["end"], "approved");
    assert_eq!(result["flows"][0]["payload"], json!({"receipt": 7}));
    assert_eq!(answer.tasks[0].attempts, 2);
}

#[tokio::test(start_paused = true)]
async fn waiting_requests_have_a_bound_of_their_own() {
    let settings = Settings {
        max_requests: 2,
        max_waiting: 1,
        ..Settings::default()
    };
    let mesh = mesh("places", settings).await;
    let ask = |user: &str| {
        let request = UserRequest {
            user: Some(user.to_owned()),
            ..UserRequest::new(plan(&[send("t1", json!({"to": user}))]))
        };
        mesh.handle.ask(request, None)
    };
    let first = ask("ann").unwrap();
    mesh.idle(first.request_id()).await;
    assert_eq!(mesh.handle.in_flight(), 0);
    // Nobody may take all places.
    let refused = ask("ann").unwrap_err();
    assert_eq!(refused.code, ErrorCode::Overloaded);
    assert!(refused.message.contains("ann") && refused.hint.is_some());
    // No place among those that wait is left: it keeps its own.
    let second = ask("bob").unwrap();
    let open = mesh.idle(second.request_id()).await;
    assert_eq!(mesh.handle.in_flight(), 1);
    mesh.decide(&second, &open[0], Decision::Deny)
        .await
        .unwrap();
    assert_eq!(second.answer().await.state, AnswerState::Failed);
    assert_eq!(mesh.handle.in_flight(), 0);
    mesh.handle.cancel(first.request_id()).unwrap();
    first.answer().await;
    assert!(ask("ann").is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_drain_does_not_wait_for_people() {
    let mesh = mesh("drained", Settings::default()).await;
    let ticket = mesh.begin(plan(&[send("t1", json!({}))]));
    mesh.idle(ticket.request_id()).await;
    let begun = tokio::time::Instant::now();
    let drained = mesh.handle.drain(Duration::from_secs(30)).await;
    assert_eq!(drained.cut_off, [ticket.request_id()]);
    assert!(begun.elapsed() < Duration::from_secs(1));
    let error = ticket.answer().await.error.clone().unwrap();
    assert_eq!(error.code, ErrorCode::ShuttingDown);
}

pub(super) fn passed_on(outcome: TaskOutcome) -> Box<FlowRequest> {
    let TaskOutcome::FlowRequired(flow) = outcome else {
        panic!("it asks its asker: {outcome:?}");
    };
    flow
}

#[tokio::test(start_paused = true)]
async fn the_flows_of_a_delegated_request_are_its_askers() {
    for (end, done) in [
        (FlowEnd::Approved, "completed"),
        (FlowEnd::Denied, "partial"),
        (FlowEnd::Expired, "partial"),
    ] {
        let mesh = mesh(&format!("passes-on-{end}"), Settings::default()).await;
        let tasks = [send("t1", json!({"to": "bob"})), task("t2", json!({}))];
        let mut what = delegation(plan(&tasks));
        what.grant.flows = FlowKind::ALL.to_vec();
        let (outcome, _) = mesh.handle.delegated(what.clone(), |_| ()).await;
        let flow = passed_on(outcome);
        let subject = flow.subject.clone().unwrap();
        assert_eq!(subject.capability.as_str(), "test.send");
        // The same delegation again, without an answer: the same question.
        let (again, _) = mesh.handle.delegated(what.clone(), |_| ()).await;
        assert_eq!(passed_on(again), flow);
        let ids = ("t9.1".parse().unwrap(), "t9".parse().unwrap());
        let shown = amcp_protocol::Flow::open(ids, *flow, subject);
        what.flows = vec![EndedFlow {
            end,
            ..EndedFlow::of(shown, None)
        }];
        let (outcome, (calls, _)) = mesh.handle.delegated(what, |_| ()).await;
        assert_eq!(outcome.result().unwrap()["state"], done, "{outcome:?}");
        assert_eq!(calls.len(), 2);
    }
}

#[tokio::test(start_paused = true)]
async fn a_delegated_request_that_waits_for_a_person_ends_with_its_asker() {
    let mesh = mesh("withdrawn", Settings::default()).await;
    let mut what = delegation(plan(&[send("t1", json!({"to": "bob"}))]));
    what.grant.flows = FlowKind::ALL.to_vec();
    let (outcome, _) = mesh.handle.delegated(what.clone(), |_| ()).await;
    let flow = passed_on(outcome);
    let subject = flow.subject.clone().unwrap();
    let ids = ("t9.1".parse().unwrap(), "t9".parse().unwrap());
    let shown = amcp_protocol::Flow::open(ids, *flow, subject);
    what.flows = vec![EndedFlow {
        end: FlowEnd::Withdrawn,
        ..EndedFlow::of(shown, None)
    }];
    for words in [what.query.clone(), plan(&[task("t1", json!({}))])] {
        what.query = words;
        let (outcome, _) = mesh.handle.delegated(what.clone(), |_| ()).await;
        let code = outcome.failure().map(|failure| failure.code);
        assert_eq!(code, Some(ErrorCode::Cancelled));
        mesh.until_answered(1).await;
        // What this orchestrator does not know, such as before a restart, it does not begin.
        let counts = mesh.handle.counts();
        assert_eq!((counts.accepted, counts.cancelled), (1, 1));
    }
}

/// The agent of an orchestrator to which another one delegates.
struct Delegate(OrchestratorHandle);

impl Actor for Delegate {
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
        let (AgentMsg::Execute(task, port), inner) = (message, self.0.clone()) else {
            return Ok(());
        };
        let query = task.params.get("query").and_then(Value::as_str);
        let what = Delegation {
            by: (task.request_id, task.task_id.clone()),
            grant: Grant::clone(&task.grant),
            lineage: Lineage::clone(&task.lineage),
            flows: task.flows.clone(),
            ..delegation(query.unwrap().to_owned())
        };
        tokio::spawn(async move {
            let (outcome, (calls, usage)) = inner.delegated(what, |_| ()).await;
            port.answer(TaskResponse {
                version: task.version,
                request_id: task.request_id,
                task_id: task.task_id,
                attempt: task.attempt,
                agent: "shop".parse().unwrap(),
                calls,
                usage,
                outcome,
            });
        });
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_asks_for_the_one_that_it_delegates_and_takes_it_along() {
    let inner = mesh("inner", Settings::default()).await;
    let settings = Settings {
        domain: Some("finance=test.do".parse().unwrap()),
        ..Settings::default()
    };
    let outer = mesh("outer", settings).await;
    let (delegate, _) = Actor::spawn(None, Delegate(inner.handle.clone()), ())
        .await
        .unwrap();
    let card = Capability::new("orchestrate.shop", "Takes whole requests.");
    let card = AgentCard::new("orchestrator@shop", "An orchestrator.", vec![card]);
    let shop = Registration::new(card, 1, delegate.get_derived());
    outer.registry.register(shop).await.unwrap();

    let part = plan(&[send("t1", json!({"to": "bob"}))]);
    let whole = json!({"id": "t1", "capability": "orchestrate.shop", "params": {"query": part}});
    let whole = plan(&[whole]);
    let ticket = outer.begin(whole.clone());
    let open = outer.idle(ticket.request_id()).await;
    assert_eq!(open[0].flow.subject.capability.as_str(), "test.send");
    outer
        .decide(&ticket, &open[0], Decision::Approve)
        .await
        .unwrap();
    let answer = ticket.answer().await;
    assert_eq!(answer.state, AnswerState::Completed, "{answer:?}");

    let ticket = outer.begin(whole);
    outer.idle(ticket.request_id()).await;
    outer.handle.cancel(ticket.request_id()).unwrap();
    assert_eq!(ticket.answer().await.state, AnswerState::Cancelled);
    inner.until_answered(2).await;
    // Its flow would stand for a day.
    let counts = inner.handle.counts();
    assert_eq!((counts.completed, counts.cancelled), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn what_is_passed_on_stands_for_the_rest_of_its_time() {
    let mesh = mesh("the-rest", Settings::default()).await;
    let tasks = ["t1", "t2"].map(|id| send(id, json!({"to": id})));
    let mut what = delegation(plan(&tasks));
    what.grant.flows = FlowKind::ALL.to_vec();
    let (first, _) = mesh.handle.delegated(what.clone(), |_| ()).await;
    let first = passed_on(first);
    tokio::time::sleep(Duration::from_secs(20 * 60 * 60)).await;
    let subject = first.subject.clone().unwrap();
    let ids = ("t9.1".parse().unwrap(), "t9".parse().unwrap());
    let shown = amcp_protocol::Flow::open(ids, *first, subject);
    what.flows = vec![EndedFlow {
        end: FlowEnd::Approved,
        ..EndedFlow::of(shown, None)
    }];
    let (second, _) = mesh.handle.delegated(what, |_| ()).await;
    let second = passed_on(second);
    assert_eq!(second.subject.unwrap().params["to"], "t2");
    assert_eq!(second.expires_ms / (60 * 60 * 1_000), 4, "hours");
}

#[tokio::test(start_paused = true)]
async fn an_asker_that_cannot_answer_is_told_so() {
    let mesh = mesh("cannot-ask", Settings::default()).await;
    let request = UserRequest {
        flows: Some(vec![FlowKind::Payment]),
        ..UserRequest::new(plan(&[send("t1", json!({}))]))
    };
    let answer = mesh.handle.ask(request, None).unwrap().answer().await;
    let error = answer.error.clone().unwrap();
    assert_eq!(error.code, ErrorCode::FlowUnsupported, "{error}");
    assert_eq!(answer.tasks[0].attempts, 0);
}

#[tokio::test(start_paused = true)]
async fn a_task_whose_holder_is_gone_is_lost_and_goes_to_no_other_agent() {
    let mesh = mesh("holder", Settings::default()).await;
    let holder = mesh.join("payer-1", "test.pay").await;
    let pays = json!({"id": "t1", "capability": "test.pay", "params": {"pay": "held"}});
    let ticket = mesh.begin(plan(&[pays]));
    let open = mesh.idle(ticket.request_id()).await;
    mesh.join("payer-2", "test.pay").await;
    holder.stop_and_wait(None, None).await.unwrap();
    let gone = "payer-1".parse().unwrap();
    while mesh.registry.load().agent(&gone).is_some() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    mesh.decide(&ticket, &open[0], Decision::Approve)
        .await
        .unwrap();
    let answer = ticket.answer().await;
    let error = answer.tasks[0].error.clone().unwrap();
    assert_eq!(error.code, ErrorCode::DependencyFailed, "{error}");
    assert_eq!(answer.tasks[0].attempts, 1);
}
