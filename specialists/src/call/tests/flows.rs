//! Tasks and calls that need a person: the asker, the question and the way of the answer.

use std::slice::from_ref;

use amcp_protocol::flow::{FlowEnd, Subject};
use amcp_protocol::{EndedFlow, Flow};

use super::*;

/// An attempt of a user who can be asked for anything.
fn attempt(number: u32, params: Value, flows: &[EndedFlow]) -> TaskRequest {
    let grant = Grant {
        flows: FlowKind::ALL.to_vec(),
        ..Grant::default()
    };
    TaskRequest {
        attempt: number,
        grant: Arc::new(grant),
        flows: flows.to_vec(),
        ..request(params)
    }
}

fn buy(what: &str) -> Value {
    json!({"act": "buy", "what": what})
}

fn ended(asker: Option<&str>, end: FlowEnd) -> EndedFlow {
    EndedFlow {
        id: "t1.1".parse().unwrap(),
        asker: asker.map(str::to_owned),
        kind: FlowKind::Payment,
        digest: String::new(),
        end,
        payload: json!({"receipt": asker}),
        reason: None,
    }
}

fn asked(response: &TaskResponse) -> FlowRequest {
    let TaskOutcome::FlowRequired(flow) = &response.outcome else {
        panic!("it asks: {response:?}");
    };
    FlowRequest::clone(flow)
}

/// The ended flow of a question that a person approved, as a request's machine builds it.
fn approved(flow: FlowRequest) -> EndedFlow {
    let subject = Subject {
        capability: "mesh.do".parse().unwrap(),
        params: json!({}).into(),
    };
    let ids = ("t1.1".parse().unwrap(), "t1".parse().unwrap());
    let flow = Flow::open(ids, flow, subject);
    EndedFlow {
        end: FlowEnd::Approved,
        payload: json!({"receipt": flow.prompt}),
        ..EndedFlow::of(flow, None)
    }
}

impl Mesh {
    fn paid(&self) -> Vec<String> {
        self.world.paid.lock().clone()
    }
}

#[tokio::test(start_paused = true)]
async fn a_task_goes_on_with_an_approval_and_ends_without() {
    let mesh = mesh(1).await;
    let first = mesh.ask(attempt(3, buy("a book"), &[])).await;
    let flow = asked(&first);
    assert_eq!(
        (flow.kind, flow.prompt.as_str(), flow.subject.as_ref()),
        (FlowKind::Payment, "Pay for a book?", None)
    );
    assert!(flow.asker.starts_with(&format!("{}/t1/3.", id())));
    assert_eq!(mesh.paid(), Vec::<String>::new());

    let own = |end| ended(Some(&flow.asker), end);
    for (end, wanted) in [
        (FlowEnd::Approved, None),
        (FlowEnd::Denied, Some(ErrorCode::FlowDenied)),
        (FlowEnd::Expired, Some(ErrorCode::FlowExpired)),
    ] {
        let response = mesh.ask(attempt(4, buy("a book"), &[own(end)])).await;
        assert_eq!(code(&response), wanted, "{response:?}");
    }
    // The answer to another question does not answer this question.
    let response = mesh
        .ask(attempt(4, buy("a pen"), &[own(FlowEnd::Approved)]))
        .await;
    assert_eq!(asked(&response).prompt, "Pay for a pen?");
    // The latest answer counts.
    let twice = [own(FlowEnd::Denied), own(FlowEnd::Approved)];
    let response = mesh.ask(attempt(5, buy("a book"), &twice)).await;
    assert_eq!(code(&response), None);
    assert_eq!(mesh.paid().len(), 2);

    let nobody = mesh.ask(request(buy("a book"))).await;
    assert_eq!(code(&nobody), Some(ErrorCode::FlowUnsupported));
}

#[tokio::test(start_paused = true)]
async fn a_whole_request_that_is_called_may_ask_nobody() {
    let mesh = mesh(2).await;
    let call = |name| attempt(1, calls(name, &buy("a book")), &[]);
    let asks = mesh.ask(call("mesh.do")).await;
    assert_eq!(asked(&asks).prompt, "Pay for a book?");
    // It would wait for longer than its caller.
    let refused = mesh.ask(call("orchestrate.shop")).await;
    assert_eq!(code(&refused), Some(ErrorCode::FlowUnsupported));
}

#[tokio::test(start_paused = true)]
async fn the_answer_to_somebody_else_is_not_ones_own() {
    let mesh = mesh(2).await;
    let others = [
        format!("{}/t2/1", id()),
        format!("{}/t1-c1-010101010101/1", id()),
        format!("{}/t1", id()),
        "123e4567-e89b-12d3-a456-426614174998/t1/1".to_owned(),
        "t1/1".to_owned(),
        "t1".to_owned(),
    ];
    for other in others {
        let flows = [ended(Some(&other), FlowEnd::Approved)];
        let response = mesh.ask(attempt(2, buy("a book"), &flows)).await;
        assert_eq!(asked(&response).prompt, "Pay for a book?", "{other}");
    }
    let mut confirmed = ended(None, FlowEnd::Approved);
    confirmed.kind = FlowKind::Confirmation;
    let response = mesh.ask(attempt(2, buy("a book"), &[confirmed])).await;
    asked(&response);
    // The answer to the orchestrator's question before the dispatch does not answer the task's own question.
    let before = [ended(None, FlowEnd::Approved)];
    asked(&mesh.ask(attempt(2, buy("a book"), &before)).await);
    let caller = calls("mesh.once", &buy("a book"));
    asked(&mesh.ask(attempt(2, caller, &before)).await);
}

#[tokio::test(start_paused = true)]
async fn the_question_of_a_callee_is_its_callers_and_the_answer_gets_to_it() {
    let mesh = mesh(2).await;
    let caller = calls("mesh.once", &calls("mesh.once", &buy("a book")));
    let first = mesh.ask(attempt(1, caller.clone(), &[])).await;
    let flow = asked(&first);
    let subject = flow.subject.clone().unwrap();
    assert_eq!(
        (subject.capability.as_str(), subject.params),
        ("mesh.once", buy("a book").into())
    );
    assert_eq!(first.calls.len(), 2, "what it took is reported");
    assert_eq!(mesh.world.begun.load(Ordering::Relaxed), 3);

    // At once, while the agents still keep the outcomes of attempts that must not be made twice.
    let answer = approved(flow);
    let again = mesh
        .ask(attempt(2, caller.clone(), from_ref(&answer)))
        .await;
    let TaskOutcome::Done(result) = &again.outcome else {
        panic!("{again:?}");
    };
    assert_eq!(result["paid"], json!({"receipt": "Pay for a book?"}));
    assert_eq!(mesh.world.begun.load(Ordering::Relaxed), 6);
    // A further attempt brings no new answer, and does not repeat the work.
    let third = mesh.ask(attempt(3, caller, &[answer])).await;
    assert_eq!(third.outcome, again.outcome);
    assert_eq!(mesh.paid().len(), 1, "{:?}", mesh.paid());
}

#[tokio::test(start_paused = true)]
async fn what_was_given_to_a_caller_is_not_given_to_its_callees() {
    let mesh = mesh(2).await;
    let caller = json!({"act": "buy and call", "name": "mesh.once", "params": buy("a book")});
    let own = approved(asked(&mesh.ask(attempt(1, caller.clone(), &[])).await));
    let callees = asked(&mesh.ask(attempt(2, caller.clone(), from_ref(&own))).await);
    assert_eq!(callees.prompt, "Pay for a book?");
    let both = [own, approved(callees)];
    let response = mesh.ask(attempt(3, caller, &both)).await;
    let TaskOutcome::Done(result) = &response.outcome else {
        panic!("{response:?}");
    };
    assert_eq!(result["flows"], 1);
    assert_eq!(result["paid"], json!({"receipt": "Pay for a book?"}));
}

#[tokio::test(start_paused = true)]
async fn nobody_is_asked_after_a_call_that_must_not_be_repeated() {
    let mesh = mesh(3).await;
    let all = [buy("a book"), buy("a pen")];
    let caller = json!({"act": "call all at once", "params": all});
    let mut flows = Vec::new();
    let response = loop {
        let number = u32::try_from(flows.len()).unwrap() + 1;
        let response = mesh.ask(attempt(number, caller.clone(), &flows)).await;
        if code(&response).is_some() || flows.len() > 2 || response.outcome.result().is_some() {
            break response;
        }
        flows.push(approved(asked(&response)));
    };
    assert_eq!(code(&response), Some(ErrorCode::DependencyFailed));
    assert_eq!((flows.len(), mesh.paid().len()), (1, 1));
}
