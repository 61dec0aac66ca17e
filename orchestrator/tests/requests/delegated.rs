//! Requests that other orchestrators delegate.

use amcp_orchestrator::Delegation;

use super::*;

/// The orchestrator of `finance` in a mesh, as an agent that another orchestrator delegates to would ask it.
async fn finance(name: &str) -> Mesh {
    let settings = Settings {
        domain: Some("finance=test.do".parse().unwrap()),
        ..Settings::default()
    };
    let mesh = Mesh::with(name, settings).await;
    mesh.join("worker-2", "test.other").await;
    mesh
}

pub(super) fn delegation(query: String) -> Delegation {
    Delegation {
        by: (
            "123e4567-e89b-12d3-a456-426614174999".parse().unwrap(),
            "t1".parse().unwrap(),
        ),
        query,
        grant: Grant::default(),
        lineage: Lineage {
            domains: vec!["weather".into()],
            ..Lineage::default()
        },
        flows: Vec::new(),
        time: Duration::from_secs(20),
        traceparent: None,
    }
}

#[tokio::test(start_paused = true)]
async fn a_delegated_request_is_answered_with_its_tasks_as_calls() {
    let mesh = finance("delegated").await;
    let tasks = [
        task("t1", json!({"took": 7})),
        task("t2", json!({"fail": "task_failed"})),
    ];
    let (outcome, (calls, usage)) = mesh
        .handle
        .delegated(delegation(plan(&tasks)), |_| ())
        .await;
    let TaskOutcome::Partly(result, missing) = outcome else {
        panic!("a partial answer is no plain success: {outcome:?}");
    };
    assert_eq!(missing.code, ErrorCode::TaskFailed);
    assert_eq!(result["state"], "partial");
    assert!(!result["text"].as_str().unwrap().is_empty());
    assert_eq!(result["tasks"][0]["state"], "completed");
    let errors: Vec<_> = calls.iter().map(|call| (call.depth, call.error)).collect();
    assert_eq!(errors, [(1, None), (1, Some(ErrorCode::TaskFailed))]);

    assert_eq!(usage.calls, 7, "what the agent's model took");

    let other = json!({"id": "t1", "capability": "test.other", "params": {}});
    let (refused, _) = mesh
        .handle
        .delegated(delegation(plan(&[other])), |_| ())
        .await;
    let refused = refused.failure().unwrap();
    assert_eq!(
        refused.code,
        ErrorCode::UnknownCapability,
        "another domain's capability: {refused}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_delegation_that_comes_back_or_goes_too_deep_is_refused() {
    let mesh = finance("loops").await;
    let ask = |change: fn(&mut Lineage)| {
        let mut what = delegation(plan(&[task("t1", json!({}))]));
        change(&mut what.lineage);
        async { mesh.handle.delegated(what, |_| ()).await.0 }
    };
    let refused = |outcome: TaskOutcome| match outcome {
        TaskOutcome::Refused(failure) => failure,
        TaskOutcome::Done(_)
        | TaskOutcome::Partly(..)
        | TaskOutcome::Failed(_)
        | TaskOutcome::FlowRequired(_) => {
            panic!("it never began: {outcome:?}")
        }
    };
    let looped = ask(|lineage| lineage.domains = vec!["finance".into(), "weather".into()]).await;
    let looped = refused(looped);
    assert_eq!(looped.code, ErrorCode::CyclicPlan);
    assert!(
        looped.message.contains("finance > weather > finance"),
        "{looped}"
    );
    let deep = ask(|lineage| lineage.depth = Lineage::MAX_DEPTH).await;
    assert_eq!(refused(deep).code, ErrorCode::BudgetExceeded);
    let spent = ask(|lineage| lineage.calls = 0).await;
    let spent = spent.failure().unwrap();
    assert_eq!(spent.code, ErrorCode::BudgetExceeded, "{spent}");
}

#[tokio::test(start_paused = true)]
async fn a_delegated_request_has_the_time_of_its_task_and_ends_with_it() {
    let mesh = finance("ends").await;
    let held = || plan(&[task("t1", json!({"hold": true}))]);
    let begin = tokio::time::Instant::now();
    let late = mesh.handle.delegated(delegation(held()), |_| ()).await.0;
    assert!(late.failure().is_some());
    assert_eq!(begin.elapsed().as_secs(), 20);

    let handle = mesh.handle.clone();
    let mut what = delegation(held());
    what.by.1 = "t2".parse().unwrap();
    let asked = tokio::spawn(async move { handle.delegated(what, |_| ()).await });
    mesh.until_held(1).await;
    asked.abort();
    mesh.until_held(0).await;
    assert_eq!(mesh.handle.counts().cancelled, 1);
}

#[tokio::test(start_paused = true)]
async fn a_domains_catalogue_holds_its_own_and_other_orchestrators() {
    let mesh = finance("domain").await;
    for other in ["weather", "finance"] {
        let (agent, capability) = (
            format!("orchestrator@{other}"),
            format!("orchestrate.{other}"),
        );
        mesh.join(&agent, &capability).await;
    }
    let may = |capability: &str| {
        let task = json!({"id": "t1", "capability": capability, "params": {}});
        let request = UserRequest::new(plan(&[task]));
        let handle = mesh.handle.clone();
        async move { handle.plan(request).await.is_ok() }
    };
    assert!(may("test.do").await && may("orchestrate.weather").await);
    assert!(!may("orchestrate.finance").await && !may("test.other").await);
    let card = mesh.handle.capability().unwrap();
    assert_eq!(card.name.as_str(), "orchestrate.finance");
    assert!(
        card.description.ends_with("can test.do."),
        "{}",
        card.description
    );
}

#[tokio::test(start_paused = true)]
async fn a_delegation_that_is_sent_twice_runs_once() {
    let mesh = finance("twice").await;
    let held = || plan(&[task("t1", json!({"hold": true}))]);
    let send = |what: Delegation| {
        let handle = mesh.handle.clone();
        tokio::spawn(async move { handle.delegated(what, |_| ()).await })
    };
    let first = send(delegation(held()));
    mesh.until_held(1).await;
    // What is sent again has less time left.
    let again = send(Delegation {
        time: Duration::from_secs(10),
        ..delegation(held())
    });
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(mesh.handle.counts().accepted, 1);
    // One of two that wait gives up: the other one still wants it.
    first.abort();
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(mesh.handle.counts().answered, 0);
    again.abort();
    mesh.until_held(0).await;
    assert_eq!(mesh.handle.counts().cancelled, 1);
}

#[tokio::test(start_paused = true)]
async fn a_delegation_that_is_sent_again_gets_its_answer_and_other_words_run() {
    let settings = Settings {
        retained: 3,
        ..Settings::default()
    };
    let mesh = Mesh::with("again", settings).await;
    let send = |x: u32, change: fn(&mut Delegation)| {
        let mut what = delegation(plan(&[task("t1", json!({"x": x}))]));
        change(&mut what);
        mesh.handle.delegated(what, |_| ())
    };
    let first = send(1, |_| {}).await;
    assert_eq!(first, send(1, |_| {}).await);
    assert!(first.0.failure().is_none(), "{first:?}");
    assert_eq!(mesh.handle.counts().accepted, 1);
    let for_another = send(1, |what| {
        what.grant.user = Some("eve".to_owned());
    });
    let refused = for_another.await.0;
    let code = refused.failure().unwrap().code;
    assert_eq!(code, ErrorCode::IdempotencyConflict);
    assert_eq!(mesh.handle.counts().accepted, 1);

    send(2, |_| {}).await;
    send(1, |what| what.by.1 = "t2".parse().unwrap()).await;
    assert_eq!(mesh.handle.counts().accepted, 3);
    // Another request pushes the first one's answer out.
    send(1, |what| {
        what.by.0 = "123e4567-e89b-12d3-a456-426614174998".parse().unwrap();
    })
    .await;
    let mut gone = send(1, |_| {}).await.0;
    // The answer is committed just before the oldest is forgotten.
    while matches!(gone, TaskOutcome::Done(_)) && mesh.handle.counts().accepted == 4 {
        tokio::task::yield_now().await;
        gone = send(1, |_| {}).await.0;
    }
    assert!(
        matches!(&gone, TaskOutcome::Failed(failure) if failure.code == ErrorCode::Gone),
        "it was done, and so it is no refusal: {gone:?}"
    );
    assert_eq!(mesh.handle.counts().accepted, 4);
}
