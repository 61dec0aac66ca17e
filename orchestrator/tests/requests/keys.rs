//! Idempotency keys: one key is one execution, also when its answer is not kept any more.

use amcp_protocol::plan::ProposedTask;
use serde_json::Map;

use super::*;

#[tokio::test(start_paused = true)]
async fn one_idempotency_key_is_one_execution() {
    let mesh = Mesh::start("idempotency").await;
    let request = || UserRequest::new(plan(&[task("t1", json!({"hold": true}))]));
    let first = mesh.handle.ask(request(), Some("k")).unwrap();
    let again = mesh.handle.ask(request(), Some("k")).unwrap();
    assert_eq!(
        (again.request_id(), again.replayed()),
        (first.request_id(), true)
    );
    assert!(!first.replayed());
    let other = mesh
        .handle
        .ask(UserRequest::new("{}"), Some("k"))
        .unwrap_err();
    assert_eq!(other.code, ErrorCode::IdempotencyConflict);
    let somebody = UserRequest {
        user: Some("bob".into()),
        ..request()
    };
    assert_ne!(
        mesh.handle.ask(somebody, Some("k")).unwrap().request_id(),
        first.request_id()
    );
}

#[tokio::test(start_paused = true)]
async fn a_recording_names_its_key() {
    let first: Arc<Mutex<Option<String>>> = Arc::default();
    let lines = first.clone();
    let recorder = Recorder::new(move |_, line| {
        lines.lock().unwrap().get_or_insert(line);
    });
    let (told, settings) = (Told::default(), Settings::default());
    let mesh = Mesh::recorded_by(Some(recorder), told, "recorded", settings).await;
    let request = UserRequest::new(plan(&[task("t1", json!({}))]));
    let ticket = mesh.handle.ask(request, Some("k")).unwrap();
    ticket.answer().await;
    let line = first.lock().unwrap().take().unwrap();
    let opening: Value = serde_json::from_str(&line).unwrap();
    assert_eq!(opening["accepted"]["idempotency_key"], "k");
}

/// 65,000 numbers are 130 KB of JSON and 5 MB in memory.
#[tokio::test(start_paused = true)]
async fn given_plans_count_as_memory() {
    let mesh = Mesh::start("given").await;
    let task = ProposedTask {
        capability: "nobody.offers".to_owned(),
        params: Map::from_iter([("a".to_owned(), json!(vec![0; 65_000]))]),
        ..ProposedTask::default()
    };
    let request = || UserRequest {
        plan: Some(vec![task.clone()]),
        ..UserRequest::new("run")
    };
    let first = mesh.handle.ask(request(), None).unwrap();
    first.answer().await;
    for _ in 0..12 {
        mesh.handle.ask(request(), None).unwrap().answer().await;
    }
    while mesh.handle.request(first.request_id()).is_some() {
        tokio::task::yield_now().await;
    }
}

#[tokio::test(start_paused = true)]
async fn answered_requests_are_kept_for_a_while_and_then_forgotten() {
    let mesh = Mesh::with(
        "retained",
        Settings {
            retained: 2,
            ..Settings::default()
        },
    )
    .await;
    let request = || UserRequest::new(plan(&[task("t1", json!({}))]));
    let first = mesh.handle.ask(request(), Some("k")).unwrap();
    first.answer().await;
    assert!(
        mesh.handle
            .request(first.request_id())
            .unwrap()
            .answer
            .is_some()
    );
    for _ in 0..2 {
        mesh.handle.ask(request(), None).unwrap().answer().await;
    }
    // The answer is committed just before the oldest is forgotten.
    while mesh.handle.request(first.request_id()).is_some() {
        tokio::task::yield_now().await;
    }
    let before = mesh.handle.counts().accepted;
    let gone = mesh.handle.ask(request(), Some("k")).unwrap_err();
    assert_eq!(gone.code, ErrorCode::Gone);
    assert!(gone.message.contains(&first.request_id().to_string()));
    assert_eq!(mesh.handle.counts().accepted, before);

    tokio::time::advance(Duration::from_secs(24 * 60 * 60)).await;
    let next_day = mesh.handle.ask(request(), Some("k")).unwrap();
    assert!(!next_day.replayed());
    assert_eq!(next_day.answer().await.state, AnswerState::Completed);
}
