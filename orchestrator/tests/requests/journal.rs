//! Requests with a journal: nothing happens before its record is durable, and another process goes on where the first one was.

use std::collections::HashMap;

use amcp_journal::{Head, Journal, JournalError, Kept, Record, Refusal, Step};
use amcp_protocol::flow::Decision;
use amcp_protocol::{FlowAnswer, RequestId};

use super::*;

/// A journal in memory that outlives orchestrators, as a disk outlives processes. Each `owner` is another process.
#[derive(Debug, Clone)]
pub(super) struct Disk {
    owner: u64,
    known: Arc<Mutex<Known>>,
}

#[derive(Default)]
pub(super) struct Known {
    owner: u64,
    pub(super) records: HashMap<RequestId, Vec<Record>>,
    tries: HashMap<RequestId, u32>,
    /// Whether records wait; each is durable later.
    pub(super) slow: bool,
    waiting: Vec<Kept>,
    full: bool,
}

impl std::fmt::Debug for Known {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Known")
    }
}

impl Disk {
    fn new() -> Self {
        Self {
            owner: 0,
            known: Arc::default(),
        }
    }

    /// Ends the process that has the disk, and makes the next one's orchestrator.
    pub(super) async fn restart(&mut self, mesh: &mut Mesh) -> amcp_orchestrator::Recovered {
        let heads = {
            let mut known = self.known.lock().unwrap();
            known.owner += 1;
            known.waiting.clear();
            self.owner = known.owner;
            known.heads()
        };
        let (registry, bus) = (mesh.registry.clone(), mesh.bus.clone());
        let planner = Arc::new(Told::default());
        mesh.handle = OrchestratorHandle::new(Settings::default(), planner, registry, bus);
        let recovered = mesh.handle.recover(Arc::new(self.clone()), heads).unwrap();
        mesh.planner = mesh.handle.spawn_planner(None).await.unwrap().0;
        mesh.orchestrator = mesh.handle.spawn(None).await.unwrap().0;
        mesh.handle.open();
        recovered
    }

    /// Makes all that waits durable.
    pub(super) fn flush(&self) {
        let waiting = std::mem::take(&mut self.known.lock().unwrap().waiting);
        waiting.into_iter().for_each(|kept| kept(Ok(())));
    }

    pub(super) fn set(&self, change: impl FnOnce(&mut Known)) {
        change(&mut self.known.lock().unwrap());
    }

    pub(super) fn waits(&self) -> usize {
        self.known.lock().unwrap().waiting.len()
    }

    pub(super) fn records(&self, id: RequestId) -> usize {
        self.known
            .lock()
            .unwrap()
            .records
            .get(&id)
            .map_or(0, Vec::len)
    }
}

impl Known {
    fn heads(&self) -> Vec<(RequestId, Head)> {
        let heads = self.records.iter().map(|(id, records)| {
            let first = records.first().unwrap();
            let ended = records
                .iter()
                .find(|r| matches!(r.step, Step::Ends | Step::OpensAndEnds(_)));
            let mark = match &first.step {
                Step::Opens(mark) | Step::OpensAndEnds(mark) => mark.clone(),
                Step::Continues | Step::Resumes | Step::Ends => panic!("the first record opens"),
            };
            let head = Head {
                ended_ms: ended.map(|record| record.unix_ms),
                tries: self.tries.get(id).copied().unwrap_or_default(),
                ..Head::new(first.unix_ms, mark)
            };
            (*id, head)
        });
        heads.collect()
    }
}

impl Journal for Disk {
    fn append(&self, record: Record, kept: Kept) {
        let mut known = self.known.lock().unwrap();
        let opens = matches!(record.step, Step::Opens(_) | Step::OpensAndEnds(_));
        let outcome = if record.epoch < known.owner {
            Err(Refusal::Superseded("a later epoch owns it"))
        } else if known.full && opens {
            Err(Refusal::Unwritable("no space left on device".to_owned()))
        } else if let Step::Resumes = record.step {
            *known.tries.entry(record.request).or_default() += 1;
            Ok(())
        } else {
            known.tries.insert(record.request, 0);
            known
                .records
                .entry(record.request)
                .or_default()
                .push(record);
            if known.slow {
                return known.waiting.push(kept);
            }
            Ok(())
        };
        drop(known);
        kept(outcome);
    }

    fn epoch(&self) -> u64 {
        self.owner
    }

    fn read(&self, request: RequestId) -> Result<Vec<Vec<u8>>, JournalError> {
        let known = self.known.lock().unwrap();
        let records = known.records.get(&request).into_iter().flatten();
        Ok(records.map(|record| record.body.clone()).collect())
    }

    fn trouble(&self) -> Option<String> {
        None
    }
}

/// A mesh whose orchestrator has a journal.
pub(super) async fn mesh(name: &str) -> (Mesh, Disk) {
    let mut mesh = Mesh::start(name).await;
    let mut disk = Disk::new();
    assert_eq!(disk.restart(&mut mesh).await.open, 0);
    (mesh, disk)
}

pub(super) fn request(tasks: &[Value]) -> UserRequest {
    UserRequest::new(plan(tasks))
}

fn agents_of(progress: &[Progress]) -> Vec<String> {
    let sent = progress.iter().filter_map(|progress| {
        if let Progress::Dispatched { task, attempt, .. } = progress {
            return Some(format!("{task}/{attempt}"));
        }
        None
    });
    sent.collect()
}

pub(super) async fn progress(mesh: &Mesh, id: RequestId) -> Vec<Progress> {
    let mut feed = mesh.handle.progress(id, 0).unwrap();
    let mut all = Vec::new();
    while let Some(recorded) = feed.next().await {
        all.push(recorded.progress);
    }
    all
}

#[tokio::test(start_paused = true)]
async fn an_accepted_request_goes_on_where_it_was_and_repeats_no_done_task() {
    let (mut mesh, mut disk) = mesh("journal-goes-on").await;
    let tasks = [
        task("t1", json!({"x": 1})),
        task(
            "t2",
            json!({"hold": true, "of": {"$ref": "t1", "path": "/x"}}),
        ),
    ];
    let ticket = mesh.handle.ask(request(&tasks), Some("k")).unwrap();
    ticket.kept().await.unwrap();
    mesh.until_held(1).await;
    let recovered = disk.restart(&mut mesh).await;
    assert_eq!((recovered.open, recovered.answered), (1, 0));
    // The attempt of the first process is unknown; its task is idempotent and comes again.
    mesh.until_held(2).await;
    let id = ticket.request_id();
    assert!(mesh.handle.request(id).unwrap().answer.is_none());
    let again = mesh.handle.ask(request(&tasks), Some("k")).unwrap();
    assert!(again.replayed() && again.request_id() == id);
    mesh.handle.cancel(id).unwrap();
    let answer = again.answer().await;
    let states: Vec<_> = answer.tasks.iter().map(|task| task.state).collect();
    assert_eq!(states, [TaskState::Completed, TaskState::Cancelled]);
    let progress = progress(&mesh, id).await;
    assert_eq!(agents_of(&progress), ["t1/1", "t2/1", "t2/2"]);
    let first = |kind: &str| {
        progress
            .iter()
            .filter(|p| p.event_type().ends_with(kind))
            .count()
    };
    assert_eq!(
        [first("accepted"), first("planned"), first("answered")],
        [1, 1, 1]
    );
    // The answer stays too, and is the same.
    let recovered = disk.restart(&mut mesh).await;
    assert_eq!((recovered.open, recovered.answered), (0, 1));
    let later = mesh.handle.ask(request(&tasks), Some("k")).unwrap();
    assert_eq!((later.request_id(), later.answer().await), (id, answer));
}

#[tokio::test(start_paused = true)]
async fn work_that_must_not_come_twice_is_reported_as_unknown() {
    let (mut mesh, mut disk) = mesh("journal-unknown").await;
    mesh.join("sender-1", "test.send").await;
    let send = json!({"id": "t1", "capability": "test.send", "params": {"hold": true}});
    let ticket = mesh.handle.ask(request(&[send]), None).unwrap();
    let open = ticket.answer_or_flows().await.unwrap_err();
    let approve = |open: &amcp_orchestrator::OpenFlow| FlowAnswer {
        decision: Decision::Approve,
        digest: open.flow.digest.clone(),
        payload: Value::Null,
        reason: None,
    };
    // The question survives.
    disk.restart(&mut mesh).await;
    let id = ticket.request_id();
    let ticket = mesh.handle.ticket(id).unwrap();
    let again = ticket.answer_or_flows().await.unwrap_err();
    assert_eq!(again[0].flow, open[0].flow);
    // Not before the request has its place again.
    let early = mesh
        .handle
        .answer_flow(id, open[0].flow.id.clone(), approve(&open[0]));
    assert_eq!(early.await.unwrap_err().code, ErrorCode::NotReady);
    let answered = async || {
        let answer = mesh
            .handle
            .answer_flow(id, open[0].flow.id.clone(), approve(&open[0]));
        tokio::task::yield_now().await;
        answer.await
    };
    while answered()
        .await
        .is_err_and(|error| error.code == ErrorCode::NotReady)
    {}
    mesh.until_held(1).await;
    disk.restart(&mut mesh).await;
    let answer = mesh.handle.ticket(id).unwrap().answer().await;
    let error = answer.tasks[0].error.as_ref().unwrap();
    assert_eq!(error.code, ErrorCode::NodeLost);
    assert!(
        error.hint.as_ref().unwrap().contains("unknown"),
        "{error:?}"
    );
    assert_eq!(answer.tasks[0].attempts, 1);
}

#[tokio::test(start_paused = true)]
async fn nothing_is_sent_or_shown_before_its_record_is_durable() {
    let (mesh, disk) = mesh("journal-first").await;
    disk.set(|known| known.slow = true);
    let tasks = [
        task("t1", json!({"x": 1})),
        task("t2", json!({"hold": true})),
    ];
    let ticket = mesh.handle.ask(request(&tasks), None).unwrap();
    let id = ticket.request_id();
    let records = async |count| {
        while disk.waits() == 0 || disk.records(id) != count {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        // Long enough for anything that does not wait.
        tokio::time::sleep(Duration::from_secs(1)).await;
    };
    records(1).await;
    let early = tokio::time::timeout(Duration::from_secs(1), ticket.kept()).await;
    assert!(early.is_err(), "it is not accepted yet");
    assert_eq!(mesh.held.load(Ordering::SeqCst), 0, "no agent has a task");
    let mut feed = mesh.handle.progress(id, 0).unwrap();
    let shown = tokio::time::timeout(Duration::from_secs(1), feed.next()).await;
    assert!(shown.is_err(), "nobody hears of it");
    disk.flush();
    ticket.kept().await.unwrap();
    mesh.until_held(1).await;
    records(2).await;
    let done = |progress: &Progress| matches!(progress, Progress::Completed { .. });
    let seen = async || {
        let mut feed = mesh.handle.progress(id, 0).unwrap();
        let mut seen = Vec::new();
        while let Ok(Some(recorded)) =
            tokio::time::timeout(Duration::from_millis(10), feed.next()).await
        {
            seen.push(recorded.progress);
        }
        seen
    };
    assert!(!seen().await.iter().any(done), "the result is not durable");
    disk.flush();
    while !seen().await.iter().any(done) {}
    mesh.handle.cancel(id).unwrap();
    records(3).await;
    assert!(mesh.handle.request(id).unwrap().answer.is_none());
    disk.flush();
    assert_eq!(ticket.answer().await.state, AnswerState::Cancelled);
}

#[tokio::test(start_paused = true)]
async fn a_request_that_cannot_be_kept_is_refused_and_its_key_is_free() {
    let (mesh, disk) = mesh("journal-full").await;
    disk.set(|known| known.full = true);
    let tasks = [task("t1", json!({"x": 1}))];
    let ticket = mesh.handle.ask(request(&tasks), Some("k")).unwrap();
    let refused = ticket.kept().await.unwrap_err();
    assert_eq!(refused.code, ErrorCode::NotReady);
    assert!(refused.message.contains("no space left"), "{refused:?}");
    assert!(mesh.handle.request(ticket.request_id()).is_none());
    disk.set(|known| known.full = false);
    let again = mesh.handle.ask(request(&tasks), Some("k")).unwrap();
    again.kept().await.unwrap();
    assert!(!again.replayed());
    assert_eq!(again.answer().await.state, AnswerState::Completed);
}

#[tokio::test(start_paused = true)]
async fn a_request_that_ends_two_processes_is_set_aside_and_answered() {
    let (mut mesh, mut disk) = mesh("journal-poison").await;
    let tasks = [task("t1", json!({"hold": true}))];
    let ticket = mesh.handle.ask(request(&tasks), Some("k")).unwrap();
    mesh.until_held(1).await;
    let id = ticket.request_id();
    disk.set(|known| *known.tries.entry(id).or_default() = 2);
    let recovered = disk.restart(&mut mesh).await;
    assert_eq!((recovered.open, recovered.set_aside), (0, vec![id]));
    let again = mesh.handle.ask(request(&tasks), Some("k")).unwrap();
    let answer = again.answer().await;
    assert_eq!(
        (again.request_id(), answer.state),
        (id, AnswerState::Failed)
    );
    let error = answer.error.as_ref().unwrap();
    assert!(error.message.contains("set aside"), "{error:?}");
    // Once is enough.
    let recovered = disk.restart(&mut mesh).await;
    assert_eq!((recovered.answered, recovered.set_aside.len()), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn the_answer_of_a_dead_actor_is_kept_like_any_other() {
    let (mut mesh, mut disk) = mesh("journal-dead").await;
    let ticket = mesh
        .handle
        .ask(request(&[task("t1", json!({"hold": true}))]), None)
        .unwrap();
    mesh.until_held(1).await;
    mesh.orchestrator.kill();
    mesh.orchestrator.wait(None).await.unwrap();
    mesh.orchestrator = mesh.handle.spawn(None).await.unwrap().0;
    let answer = ticket.answer().await;
    assert_eq!(answer.state, AnswerState::Failed);
    let recovered = disk.restart(&mut mesh).await;
    assert_eq!((recovered.open, recovered.answered), (0, 1));
    let later = mesh.handle.ticket(ticket.request_id()).unwrap();
    assert_eq!(later.answer().await, answer);
}
