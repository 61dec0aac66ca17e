//! Nodes of this build and of the previous release, which knows no kind past [`Kind::Whole`].

use std::sync::atomic::AtomicUsize;

use super::*;
use crate::link::outbox::Parcel;
use crate::link::port::{Frame, PortMsg};

const LAST: u8 = Kind::Whole as u8;

/// Stands before a node's port, lets entries through that the previous release understands, and refuses the rest as it would.
struct OldPort {
    node: Links,
    /// The sender, and the token of frames to it.
    sender: (Links, u64),
    refused: Arc<AtomicUsize>,
}

impl Actor for OldPort {
    type Msg = PortMsg;
    type State = ();
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<PortMsg>, (): ()) -> Result<(), ActorProcessingErr> {
        Ok(())
    }

    async fn handle(
        &self,
        _: ActorRef<PortMsg>,
        PortMsg::Carry(Frame(bytes)): PortMsg,
        (): &mut (),
    ) -> Result<(), ActorProcessingErr> {
        let (token, entries) = frame::open(&bytes).unwrap();
        let mut known = frame::begin(token);
        let mut back = frame::begin(self.sender.1);
        for entry in entries.map(Result::unwrap) {
            let parcel = (entry.kind == Kind::Parcel as u8)
                .then(|| wire::decode::<Parcel>(entry.body).unwrap());
            let kind = parcel.map_or(entry.kind, |parcel| parcel.kind);
            if kind <= LAST {
                let same = Kind::of(entry.kind).unwrap();
                frame::push(&mut known, same, entry.id, entry.body);
                continue;
            }
            assert_ne!(kind, Kind::Outcome2 as u8, "what was asked in the old form");
            if let Some(parcel) = parcel {
                frame::push(&mut back, Kind::Drop, parcel.number, &[]);
            }
            self.refused.fetch_add(1, Relaxed);
            frame::push(&mut back, Kind::Refused, entry.id, &[kind, b'?']);
        }
        self.node.arrived(&known);
        self.sender.0.arrived(&back);
        Ok(())
    }
}

/// Links two nodes, each of which takes the other for a node of the previous release. Returns how often each was refused.
async fn link_as_before(a: &Node, b: &Node, number: u64) -> [Arc<AtomicUsize>; 2] {
    let (to_a, to_b) = (number * 2, number * 2 + 1);
    let counts: [Arc<AtomicUsize>; 2] = Default::default();
    let ways = [(a, b, to_a, to_b), (b, a, to_b, to_a)];
    for ((from, to, token_in, token_out), refused) in ways.into_iter().zip(&counts) {
        let port = OldPort {
            node: to.links.clone(),
            sender: (from.links.clone(), token_in),
            refused: Arc::clone(refused),
        };
        let (port, _) = Actor::spawn(None, port, ()).await.unwrap();
        let info = LinkInfo {
            peer: to.info(),
            token_in,
            token_out,
            meter: Arc::default(),
        };
        from.links.open(info, port.get_cell());
    }
    counts
}

fn ends(task: &TaskRequest, outcome: TaskOutcome) -> TaskResponse {
    TaskResponse {
        outcome,
        ..done(task, Value::Null)
    }
}

#[tokio::test(start_paused = true)]
async fn a_peer_of_the_last_release_gets_each_task_once() {
    let (a, b) = two().await;
    b.agent("worker@b", "a.x").await;
    let [refused, _] = link_as_before(&a, &b, 1).await;
    let port = a.sees("worker@b").await;
    let large = TaskRequest {
        params: json!("x".repeat(500 * 1024)).into(),
        ..task("t4", 1)
    };
    let tasks = [task("t1", 1), task("t2", 1), task("t3", 1), large];
    // All before the first refusal has come.
    let answered: Vec<_> = tasks.iter().map(|t| send(&port, t.clone())).collect();
    let held = b.tasks(tasks.len()).await;
    assert_eq!(refused.load(Relaxed), tasks.len());
    // A repeated refusal refers to the form that the task no longer has.
    let mut again = frame::begin(2);
    frame::push(&mut again, Kind::Refused, 1, &[Kind::Task2 as u8]);
    a.links.arrived(&again);
    assert_eq!(a.links.statuses()[0].in_flight, tasks.len());
    for (asked, answer) in held {
        assert!(tasks.contains(&asked));
        answer.answer(done(&asked, json!(asked.task_id.as_str())));
    }
    for (task, answered) in tasks.iter().zip(answered) {
        let expected = done(task, json!(task.task_id.as_str()));
        assert_eq!(answered.await.unwrap(), expected);
    }
    // From now on the link uses the old form at once.
    let answered = send(&port, task("t5", 1));
    let (asked, answer) = b.tasks(1).await.remove(0);
    answer.answer(done(&asked, json!(5)));
    answered.await.unwrap();
    assert_eq!(refused.load(Relaxed), tasks.len());
    assert_eq!(a.links.statuses()[0].in_flight, 0);
    assert_eq!(
        (b.links.counts().deduplicated, b.links.counts().unknown),
        (0, 0)
    );
    assert!(b.held.lock().unwrap().is_empty());
    // The peer can refuse the old form too: then there is no other to try.
    let answered = send(&port, task("t6", 1));
    b.tasks(1).await.remove(0).1.discard();
    again.truncate(frame::HEADER);
    frame::push(&mut again, Kind::Refused, 6, &[Kind::Task as u8]);
    a.links.arrived(&again);
    let given_up = answered.await.unwrap().outcome;
    assert!(given_up.is_refused());
    assert_eq!(given_up.failure().unwrap().code, ErrorCode::UnsupportedWire);
}

#[tokio::test(start_paused = true)]
async fn the_last_release_knows_neither_refusals_nor_parts() {
    let (a, b) = two().await;
    b.agent("worker@b", "a.x").await;
    let failure = Failure::new(ErrorCode::AgentBusy, "full").retry_after_ms(9);
    let refused = TaskOutcome::Refused(failure.clone());
    let partly = TaskOutcome::Partly(json!([1]).into(), failure.clone());
    let crossed = async |number: u64, outcome: &TaskOutcome| {
        let port = a.sees("worker@b").await;
        let task = task(&format!("t{number}"), 1);
        let answered = send(&port, task);
        let (asked, answer) = b.tasks(1).await.remove(0);
        answer.answer(ends(&asked, outcome.clone()));
        answered.await.unwrap().outcome
    };
    link_as_before(&a, &b, 1).await;
    assert_eq!(crossed(1, &refused).await, TaskOutcome::Failed(failure));
    assert_eq!(
        crossed(2, &partly).await,
        TaskOutcome::Done(json!([1]).into())
    );
    a.links.close(2);
    b.links.close(3);
    a.does_not_see("worker@b").await;
    link(&a, &b, 2);
    assert_eq!(crossed(3, &refused).await, refused);
    assert_eq!(crossed(4, &partly).await, partly);
}

#[tokio::test(start_paused = true)]
async fn what_is_cancelled_before_it_is_refused_is_not_sent_again() {
    let (a, b) = two().await;
    b.agent("worker@b", "a.x").await;
    link_as_before(&a, &b, 1).await;
    let port = a.sees("worker@b").await;
    let answered = send(&port, task("t1", 1));
    port.cancel(TaskKey::of(&task("t1", 1)));
    assert!(answered.await.unwrap().outcome.is_refused());
    let _next = send(&port, task("t2", 1));
    let held = b.tasks(1).await;
    assert_eq!(held[0].0.task_id.as_str(), "t2");
    // A later cancel refers to the form that the task has by then.
    drop(held);
    let third = send(&port, task("t3", 1));
    until(|| (b.held.lock().unwrap().len() == 1).then_some(())).await;
    port.cancel(TaskKey::of(&task("t3", 1)));
    assert!(third.await.is_err());
    until(|| b.held.lock().unwrap().is_empty().then_some(())).await;
}

#[tokio::test(start_paused = true)]
async fn peers_of_both_releases_share_one_execution() {
    let (a, b) = two().await;
    let c = Node::start("c", AllowList::default(), None).await;
    b.agent("worker@b", "a.x").await;
    link_as_before(&a, &b, 1).await;
    link(&c, &b, 2);
    let first = send(&a.sees("worker@b").await, task("t1", 1));
    let (asked, answer) = b.tasks(1).await.remove(0);
    let second = send(&c.sees("worker@b").await, task("t1", 2));
    until(|| (b.links.counts().deduplicated == 1).then_some(())).await;
    let failure = Failure::new(ErrorCode::UpstreamFailed, "half");
    let partly = TaskOutcome::Partly(json!(1).into(), failure);
    answer.answer(ends(&asked, partly.clone()));
    let (first, second) = (first.await.unwrap(), second.await.unwrap());
    assert_eq!(
        (first.attempt, first.outcome),
        (1, TaskOutcome::Done(json!(1).into()))
    );
    assert_eq!((second.attempt, second.outcome), (2, partly));
    assert!(b.held.lock().unwrap().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_link_that_is_lost_in_the_switch_leaves_nobody_waiting() {
    let (a, b) = two().await;
    b.agent("worker@b", "a.x").await;
    link_as_before(&a, &b, 1).await;
    let port = a.sees("worker@b").await;
    let answered = send(&port, task("t1", 1));
    a.links.close(2);
    assert_eq!(code(answered.await.unwrap()), ErrorCode::NodeLost);
    until(|| (a.links.counts().dropped_late > 0).then_some(())).await;
    assert!(b.held.lock().unwrap().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_peer_of_the_last_release_takes_no_answer_to_a_flow_and_says_so_at_once() {
    let id: RequestId = REQUEST.parse().unwrap();
    let a = Node::start("a", AllowList::default(), None).await;
    let b = Node::start("b", AllowList::default(), Some(id)).await;
    let [refused, _] = link_as_before(&a, &b, 1).await;
    let flow = FlowId::new("t1.1").unwrap();
    let begun = Instant::now();
    let answered = a.links.answer_flow(&b.name, id, &flow, &approval()).await;
    assert_eq!(answered, None);
    assert_eq!(refused.load(Relaxed), 1);
    assert!(begun.elapsed() < QUESTION);
    // The peer still replies to questions that it knows.
    assert!(a.links.find_request(id).await.is_some());
}

#[tokio::test(start_paused = true)]
async fn a_peer_of_the_last_release_hears_no_signs_of_life() {
    let (a, b) = two().await;
    b.agent("worker@b", "a.x").await;
    let [_, refused] = link_as_before(&a, &b, 1).await;
    let (answered, heard) = listen(&a.sees("worker@b").await, task("t1", 1));
    let (asked, answer) = b.tasks(1).await.remove(0);
    answer.signs().give("page 1");
    answer.answer(done(&asked, json!(1)));
    answered.await.unwrap();
    assert_eq!(heard.lock().unwrap().len(), 0);
    assert_eq!(refused.load(Relaxed), 0, "none was sent");
}
