//! Requests of an earlier process: what they wait for, what they keep, what becomes of those that cannot go on.

use amcp_journal::{Record, Step};
use amcp_orchestrator::Recorded;
use amcp_plan::Event;
use amcp_protocol::flow::Decision;
use amcp_protocol::{FlowAnswer, RequestId};

use super::journal::{Disk, mesh, progress, request};
use super::*;

fn late() -> UserRequest {
    let task = json!({"id": "t1", "capability": "test.late", "params": {"hold": true}});
    request(&[task])
}

/// Ends an agent, and waits until nobody finds it.
async fn end(mesh: &Mesh, agent: ActorCell, capability: &str) {
    agent.stop(None);
    let name = capability.parse().unwrap();
    let gone = mesh
        .registry
        .wait_for(|agents| agents.choose(&name, &[], 0).is_none());
    gone.await;
}

/// Ends the orchestrator with the actors of its requests.
async fn crash(mesh: &Mesh) {
    mesh.orchestrator.kill();
    mesh.orchestrator.wait(None).await.unwrap();
}

async fn seen(mesh: &Mesh, id: RequestId) -> Vec<Recorded> {
    let mut feed = mesh.handle.progress(id, 0).unwrap();
    let mut seen = Vec::new();
    while let Ok(Some(event)) = tokio::time::timeout(Duration::from_millis(1), feed.next()).await {
        seen.push(event);
    }
    seen
}

/// Adds a record, or changes those that there are.
fn doctor(disk: &Disk, id: RequestId, change: impl FnOnce(&mut Vec<Record>)) {
    disk.set(|known| change(known.records.get_mut(&id).unwrap()));
}

#[tokio::test(start_paused = true)]
async fn a_recovered_request_waits_for_its_agent_until_its_deadline() {
    let (mut mesh, mut disk) = mesh("recovery-waits").await;
    let agent = mesh.join("late-1", "test.late").await;
    let patient = mesh.handle.ask(late(), None).unwrap().request_id();
    let short = UserRequest {
        deadline_ms: Some(20_000),
        ..late()
    };
    let short = mesh.handle.ask(short, None).unwrap().request_id();
    mesh.until_held(2).await;
    crash(&mesh).await;
    end(&mesh, agent, "test.late").await;
    mesh.held.store(0, Ordering::SeqCst);
    // Starts that begin no request make none a suspect.
    for _ in 0..4 {
        let recovered = disk.restart(&mut mesh).await;
        assert_eq!((recovered.open, recovered.set_aside.len()), (2, 0));
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    tokio::time::sleep(Duration::from_secs(20)).await;
    let answer = mesh.handle.ticket(short).unwrap().answer().await;
    let error = answer.error.as_ref().unwrap();
    assert_eq!(error.code, ErrorCode::DeadlineExceeded, "{answer:?}");
    assert!(mesh.handle.request(patient).unwrap().answer.is_none());
    mesh.join("late-2", "test.late").await;
    mesh.until_held(1).await;
    mesh.handle.cancel(patient).unwrap();
    let answer = mesh.handle.ticket(patient).unwrap().answer().await;
    assert_eq!(answer.tasks[0].attempts, 2, "no attempt was wasted");
}

#[tokio::test(start_paused = true)]
async fn a_recovered_request_keeps_to_the_permissions_of_an_agent_that_came_after_it() {
    let (mut mesh, mut disk) = mesh("recovery-denied").await;
    let agent = mesh.join("sender-1", "test.send").await;
    let send = json!({"id": "t1", "capability": "test.send", "params": {}});
    let ticket = mesh.handle.ask(request(&[send]), None).unwrap();
    let open = ticket.answer_or_flows().await.unwrap_err();
    crash(&mesh).await;
    end(&mesh, agent, "test.send").await;
    let name = "test.send".parse().unwrap();
    mesh.registry
        .wait_for(|agents| agents.contract(&name).is_none())
        .await;
    assert_eq!(disk.restart(&mut mesh).await.open, 1);
    let id = ticket.request_id();
    let approval = FlowAnswer {
        decision: Decision::Approve,
        digest: open[0].flow.digest.clone(),
        payload: Value::Null,
        reason: None,
    };
    // A request that waits for a person begins without its agent.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let rules = json!({"roles": {"everyone": {"allow": ["*"], "deny": ["test.send"]}}});
    mesh.registry.permit(serde_json::from_value(rules).unwrap());
    mesh.join("sender-2", "test.send").await;
    let flow = open[0].flow.id.clone();
    mesh.handle.answer_flow(id, flow, approval).await.unwrap();
    let answer = mesh.handle.ticket(id).unwrap().answer().await;
    let error = answer.tasks[0].error.as_ref().unwrap();
    assert_eq!(error.code, ErrorCode::NotPermitted, "{answer:?}");
}

#[tokio::test(start_paused = true)]
async fn a_replay_that_concludes_gives_its_answer() {
    let (mut mesh, mut disk) = mesh("recovery-concludes").await;
    let ticket = mesh
        .handle
        .ask(request(&[task("t1", json!({"hold": true}))]), None);
    let id = ticket.unwrap().request_id();
    mesh.until_held(1).await;
    // As by a build that goes on where this one ends.
    let last = json!({"turns": [[5_000_000_000_u64, Event::CancelRequested]]});
    doctor(&disk, id, |records| {
        let mut record = records.last().unwrap().clone();
        (record.step, record.body) = (Step::Continues, last.to_string().into_bytes());
        records.push(record);
    });
    assert_eq!(disk.restart(&mut mesh).await.open, 1);
    let answer = mesh.handle.ticket(id).unwrap().answer().await;
    assert_eq!(answer.state, AnswerState::Cancelled);
    assert_eq!(disk.restart(&mut mesh).await.answered, 1);
    assert_eq!(mesh.handle.in_flight(), 0);
}

#[tokio::test(start_paused = true)]
async fn an_orderly_stop_leaves_open_requests_to_the_next_start() {
    let (mut mesh, mut disk) = mesh("recovery-stop").await;
    let ticket = mesh
        .handle
        .ask(request(&[task("t1", json!({"hold": true}))]), None);
    let id = ticket.unwrap().request_id();
    mesh.until_held(1).await;
    let drained = mesh.handle.drain(Duration::from_secs(1)).await;
    assert_eq!((drained.cut_off, drained.go_on), (vec![], vec![id]));
    // The agent need not go on with what nobody waits for.
    mesh.until_held(0).await;
    assert!(mesh.handle.request(id).unwrap().answer.is_none());
    assert_eq!(disk.restart(&mut mesh).await.open, 1);
    mesh.until_held(1).await;
}

#[tokio::test(start_paused = true)]
async fn events_keep_their_numbers() {
    let (mut mesh, mut disk) = mesh("recovery-numbers").await;
    let ticket = mesh
        .handle
        .ask(request(&[task("t1", json!({"say": 30}))]), None);
    let id = ticket.unwrap().request_id();
    tokio::time::sleep(Duration::from_secs(5)).await;
    let before = seen(&mesh, id).await;
    let notes = before
        .iter()
        .filter(|event| matches!(event.progress, Progress::Progressed { .. }));
    assert!(notes.count() > 1, "{before:?}");
    disk.restart(&mut mesh).await;
    let kinds = |events: &[Recorded]| {
        let kinds = events
            .iter()
            .map(|event| (event.sequence, event.progress.clone()));
        kinds.collect::<Vec<_>>()
    };
    let after = seen(&mesh, id).await;
    assert_eq!(kinds(&after)[..before.len()], kinds(&before));
}

#[tokio::test(start_paused = true)]
async fn signs_of_life_count_while_the_journal_waits() {
    let (mesh, disk) = mesh("recovery-signs").await;
    mesh.join("crawler-1", "test.crawl").await;
    let crawl = json!({"id": "t1", "capability": "test.crawl", "params": {"say": 20}});
    let id = mesh
        .handle
        .ask(request(&[crawl]), None)
        .unwrap()
        .request_id();
    tokio::time::sleep(Duration::from_millis(600)).await;
    disk.set(|known| known.slow = true);
    while disk.waits() == 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    // Longer than the task may be silent.
    tokio::time::sleep(Duration::from_secs(10)).await;
    disk.set(|known| known.slow = false);
    let written = disk.records(id);
    disk.flush();
    tokio::time::sleep(Duration::from_secs(1)).await;
    let seen = seen(&mesh, id).await;
    let failed = |event: &Recorded| {
        matches!(
            event.progress,
            Progress::Retried { .. } | Progress::Failed { .. }
        )
    };
    assert!(!seen.iter().any(failed), "{seen:?}");
    // Of all that was said meanwhile, only the last is told.
    assert!(disk.records(id) <= written + 2, "{seen:?}");
}

#[tokio::test(start_paused = true)]
async fn an_answer_stays_the_same_however_often_its_orchestrator_dies() {
    let (mut mesh, mut disk) = mesh("recovery-answer").await;
    let ticket = mesh
        .handle
        .ask(request(&[task("t1", json!({"hold": true}))]), None)
        .unwrap();
    mesh.until_held(1).await;
    disk.set(|known| known.slow = true);
    mesh.handle.cancel(ticket.request_id()).unwrap();
    while disk.waits() == 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    for _ in 0..2 {
        crash(&mesh).await;
        mesh.orchestrator = mesh.handle.spawn(None).await.unwrap().0;
    }
    disk.flush();
    let answer = ticket.answer().await;
    assert_eq!(answer.state, AnswerState::Cancelled);
    disk.set(|known| known.slow = false);
    assert_eq!(disk.restart(&mut mesh).await.answered, 1);
    let later = mesh.handle.ticket(ticket.request_id()).unwrap();
    assert_eq!(later.answer().await, answer);
}

#[tokio::test(start_paused = true)]
async fn a_recovered_request_outlives_the_orchestrator_that_was_to_begin_it() {
    let (mut mesh, mut disk) = mesh("recovery-begin").await;
    mesh.handle
        .ask(request(&[task("t1", json!({"hold": true}))]), None)
        .unwrap();
    mesh.until_held(1).await;
    crash(&mesh).await;
    mesh.until_held(0).await;
    disk.restart(&mut mesh).await;
    crash(&mesh).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    mesh.orchestrator = mesh.handle.spawn(None).await.unwrap().0;
    mesh.until_held(1).await;
}

#[tokio::test(start_paused = true)]
async fn a_request_that_this_build_cannot_read_stays_open_for_one_that_can() {
    let (mut mesh, mut disk) = mesh("recovery-unreadable").await;
    let ticket = mesh
        .handle
        .ask(request(&[task("t1", json!({"hold": true}))]), None);
    let id = ticket.unwrap().request_id();
    mesh.until_held(1).await;
    crash(&mesh).await;
    mesh.until_held(0).await;
    let written = disk.records(id);
    let policy = |disk: &Disk, from: &str, to: &str| {
        doctor(disk, id, |records| {
            let text = String::from_utf8(records[0].body.clone()).unwrap();
            assert!(text.contains(from), "{text}");
            records[0].body = text.replacen(from, to, 1).into_bytes();
        });
    };
    policy(&disk, "\"policy\":{", "\"policies\":{");
    let recovered = disk.restart(&mut mesh).await;
    assert_eq!((recovered.open, recovered.set_aside), (0, vec![id]));
    let answer = mesh.handle.ticket(id).unwrap().answer().await;
    let error = answer.error.as_ref().unwrap();
    assert!(error.message.contains("policy"), "{error:?}");
    assert_eq!(disk.records(id), written, "nothing ends it");
    policy(&disk, "\"policies\":{", "\"policy\":{");
    assert_eq!(disk.restart(&mut mesh).await.open, 1);
    mesh.until_held(1).await;
    let told = progress(&mesh, id);
    mesh.handle.cancel(id).unwrap();
    assert!(!told.await.is_empty());
}
