//! How a request begins and how it ends before its time: in a task of its own, within the time since acceptance.

use std::sync::Barrier;
use std::sync::atomic::AtomicBool;

use tokio::time::Instant;

use super::*;

static REACHED: AtomicBool = AtomicBool::new(false);
static LET_GO: Barrier = Barrier::new(2);

/// What the planner does when it is told to block.
pub(super) fn block() {
    REACHED.store(true, Ordering::SeqCst);
    LET_GO.wait();
}

/// Lets the blocked planner go on, also when the test fails.
struct Blocked;

impl Drop for Blocked {
    fn drop(&mut self) {
        LET_GO.wait();
    }
}

async fn progress(mesh: &Mesh, id: amcp_protocol::RequestId) -> Vec<&'static str> {
    let mut feed = mesh.handle.progress(id, 0).unwrap();
    let mut kinds = Vec::new();
    while let Some(recorded) = feed.next().await {
        kinds.push(recorded.progress.event_type());
    }
    kinds
}

fn held() -> UserRequest {
    UserRequest::new(plan(&[
        task("t1", json!({"x": 1})),
        task("t2", json!({"hold": true})),
    ]))
}

fn within(ms: u64, query: String) -> UserRequest {
    UserRequest {
        deadline_ms: Some(ms),
        ..UserRequest::new(query)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn a_planner_that_blocks_its_thread_delays_nobody_else() {
    let mesh = Mesh::start("blocks").await;
    let ask = |request| mesh.handle.ask(request, None).unwrap();
    let stuck = ask(UserRequest::new("block"));
    let others = async {
        while !REACHED.load(Ordering::SeqCst) {
            tokio::task::yield_now().await;
        }
        let blocked = Blocked;
        let answer = mesh.ask(plan(&[task("t1", json!({}))])).await;
        assert_eq!(answer.state, AnswerState::Completed);

        let unwanted = ask(held());
        mesh.until_held(1).await;
        mesh.handle.cancel(unwanted.request_id()).unwrap();
        assert_eq!(unwanted.answer().await.state, AnswerState::Cancelled);
        mesh.until_held(0).await;

        let late = ask(held());
        mesh.until_held(1).await;
        mesh.handle.drain(Duration::ZERO).await;
        let answer = late.answer().await;
        assert_eq!(answer.state, AnswerState::Partial, "{answer:?}");
        drop(blocked);
    };
    let in_time = tokio::time::timeout(Duration::from_secs(20), others).await;
    in_time.expect("one planner keeps everybody waiting");
    assert_eq!(stuck.answer().await.state, AnswerState::Failed);
}

#[tokio::test(start_paused = true)]
async fn time_runs_since_the_acceptance() {
    let mesh = Mesh::start("since").await;
    let accepted = Instant::now();
    let ask = |request| mesh.handle.ask(request, None).unwrap();
    let told = ask(within(
        10_000,
        plan(&[task("t1", json!({"deadline": true}))]),
    ));
    let hangs = ask(within(10_000, plan(&[task("t1", json!({"hold": true}))])));
    // Nothing was begun so far.
    tokio::time::advance(Duration::from_secs(4)).await;
    let answer = told.answer().await;
    assert_eq!(
        answer.tasks[0].result.as_deref(),
        Some(&json!({"ms": 6_000}))
    );
    hangs.answer().await;
    assert_eq!(accepted.elapsed(), Duration::from_secs(10));
}

#[tokio::test(start_paused = true)]
async fn what_begins_after_its_deadline_plans_nothing() {
    let mesh = Mesh::start("too-late").await;
    let late = mesh.handle.ask(within(2_000, held().query), None).unwrap();
    tokio::time::advance(Duration::from_secs(3)).await;
    let answer = late.answer().await;
    assert_eq!(
        answer.error.as_ref().unwrap().code,
        ErrorCode::DeadlineExceeded
    );
    let kinds = progress(&mesh, late.request_id()).await;
    assert_eq!(kinds, ["progress.accepted", "progress.answered"]);
}

#[tokio::test(start_paused = true)]
async fn what_is_cancelled_or_cut_off_before_it_begins_plans_nothing() {
    let mesh = Mesh::start("unbegun").await;
    let cancelled = mesh.handle.ask(held(), None).unwrap();
    mesh.handle.cancel(cancelled.request_id()).unwrap();
    assert_eq!(cancelled.answer().await.state, AnswerState::Cancelled);
    let cut_off = mesh.handle.ask(held(), None).unwrap();
    mesh.handle.drain(Duration::ZERO).await;
    let answer = cut_off.answer().await;
    assert_eq!(answer.error.as_ref().unwrap().code, ErrorCode::ShuttingDown);
    for ticket in [cancelled, cut_off] {
        let kinds = progress(&mesh, ticket.request_id()).await;
        assert_eq!(kinds, ["progress.accepted", "progress.answered"]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_that_dies_ends_its_tasks_and_its_planners_call() {
    let mesh = Mesh::start("dies").await;
    let dies = mesh.handle.ask(held(), None).unwrap();
    mesh.until_held(1).await;
    mesh.orchestrator.get_children()[0].kill();
    mesh.until_held(0).await;
    assert_eq!(dies.answer().await.state, AnswerState::Failed);

    let before = ENDED.load(Ordering::SeqCst);
    let plans = mesh.handle.ask(UserRequest::new("hang"), None).unwrap();
    let mut feed = mesh.handle.progress(plans.request_id(), 0).unwrap();
    feed.next().await;
    mesh.orchestrator.get_children()[0].kill();
    let ended = async {
        while ENDED.load(Ordering::SeqCst) == before {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    let in_time = tokio::time::timeout(Duration::from_secs(3_600), ended).await;
    in_time.expect("the planner works for a request that died");
}
