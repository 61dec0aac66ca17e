//! One link: the entries that wait to be written to the peer, the answers that the link awaits, and its writer.
//!
//! Does not read frames: the port does.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use amcp_protocol::task::{TaskOutcome, WIRE_VERSION};
use amcp_protocol::{AgentId, ErrorCode, Failure, NodeName, TaskRequest, TaskResponse};
use amcp_registry::{AnswerPort, Carrier, TaskKey};
use parking_lot::Mutex;
use ractor::ActorRef;
use serde::Serialize;
use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;

use super::arrivals::Arrivals;
use super::counters::{Counters, count};
use super::frame::Kind;
use super::outbox::Outbox;
use super::port::{Frame, PortMsg};
use super::warrants::Warrants;
use super::{LinkInfo, forms};
use crate::wire::{self, WireError};

/// Most tasks that one peer has at a time: further tasks wait at the orchestrator, where they can still go elsewhere.
pub(crate) const CREDIT: usize = 256;
/// When to come back to a peer without credit, in milliseconds: about the time of a short task.
const RETRY_BUSY_MS: u64 = 50;
/// Most bytes that wait for one peer before tasks go elsewhere: a second of a fast link, a minute of a slow one.
const OUTBOX: usize = 16 * 1024 * 1024;
/// Most tasks in flight with which an entry leaves at once: so few rarely share a frame.
const FEW: usize = 3;
/// Most bytes in ractor_cluster's own queue, which is unbounded: enough to keep a fast link busy.
const SESSION: u64 = 1024 * 1024;
/// The pause between checks whether a full session has room again: a fast link writes [`SESSION`] in less time.
const SESSION_LOOK: Duration = Duration::from_millis(2);

/// The answers that a link awaits, by the id of the entry that asked.
#[derive(Default)]
struct Awaited {
    tasks: HashMap<u64, (TaskKey, AnswerPort)>,
    replies: HashMap<u64, oneshot::Sender<Vec<u8>>>,
}

pub(crate) struct Link {
    pub(crate) info: LinkInfo,
    port: ActorRef<PortMsg>,
    open: AtomicBool,
    outbox: Mutex<Outbox>,
    wake: Notify,
    pub(crate) arrivals: Mutex<Arrivals>,
    awaited: Mutex<Awaited>,
    next_id: AtomicU64,
    /// Tasks that this node sent and the peer has not answered.
    awaiting: AtomicUsize,
    /// The peer's tasks that this node works on.
    pub(crate) serving: AtomicUsize,
    /// The connection's count of written bytes at which all handed-over frames are written.
    written_when_done: AtomicU64,
    counters: Arc<Counters>,
    warrants: Arc<Warrants>,
}

amcp_protocol::opaque_debug!(Link);

impl Link {
    /// A link and its writer, which ends with it.
    pub(crate) fn start(
        info: LinkInfo,
        port: ActorRef<PortMsg>,
        (counters, warrants): (Arc<Counters>, Arc<Warrants>),
    ) -> Arc<Self> {
        let link = Arc::new(Self {
            outbox: Mutex::new(Outbox::new(info.token_out)),
            written_when_done: AtomicU64::new(info.meter.written()),
            info,
            port,
            open: AtomicBool::new(true),
            wake: Notify::new(),
            arrivals: Mutex::default(),
            awaited: Mutex::default(),
            next_id: AtomicU64::new(1),
            awaiting: AtomicUsize::new(0),
            serving: AtomicUsize::new(0),
            counters,
            warrants,
        });
        tokio::spawn(Arc::clone(&link).write());
        link
    }

    pub(crate) fn peer(&self) -> &NodeName {
        &self.info.peer.name
    }

    /// Encodes and sends a value.
    pub(crate) fn send<T: Serialize>(&self, kind: Kind, id: u64, value: &T) -> Result<(), Failure> {
        self.send_encoded(kind, id, wire::encode(value))
    }

    /// Sends an encoded value.
    pub(crate) fn send_encoded(
        &self,
        kind: Kind,
        id: u64,
        body: Result<Vec<u8>, WireError>,
    ) -> Result<(), Failure> {
        let too_large =
            |error: WireError| Failure::new(ErrorCode::ResultTooLarge, error.to_string());
        self.send_bytes(kind, id, &body.map_err(too_large)?)
    }

    /// Sends an entry: at once while few tasks are in flight, otherwise together with other entries of the same moment.
    pub(crate) fn send_bytes(&self, kind: Kind, id: u64, body: &[u8]) -> Result<(), Failure> {
        let mut outbox = self.outbox.lock();
        let few = self.awaiting.load(Relaxed) + self.serving.load(Relaxed) <= FEW;
        let alone = few && outbox.is_idle();
        outbox
            .put(kind, id, body)
            .map_err(|full| Failure::new(ErrorCode::AgentBusy, full.to_string()))?;
        if alone && self.in_session() < SESSION {
            // Under the lock, so that frames keep their order.
            while let Some(frame) = outbox.take() {
                self.hand_over(frame);
            }
            return Ok(());
        }
        drop(outbox);
        self.wake.notify_one();
        Ok(())
    }

    /// Confirms that an outcome has arrived. No party waits for this, so it goes with the next frame.
    pub(crate) fn settle(&self, id: u64) {
        // If the outbox is full, the peer keeps the outcome for a while longer.
        let _ = self.outbox.lock().put(Kind::Settled, id, &[]);
    }

    /// Sends a sign of life, unless the peer is slow to read.
    pub(crate) fn send_sign(&self, id: u64, note: &str) {
        let waiting = self.outbox.lock().waiting();
        if waiting <= OUTBOX {
            self.say(Kind::Sign, id, note.as_bytes());
        }
    }

    /// Passes a peer's sign of life on to the asker, unless the task has ended here.
    pub(crate) fn heard(&self, id: u64, note: &str) {
        let signs = {
            let awaited = self.awaited.lock();
            let asked = awaited.tasks.get(&id);
            asked.map(|(_, port)| port.signs().clone())
        };
        if let Some(signs) = signs {
            signs.give(note);
        }
    }

    /// Hands a frame to the session.
    fn hand_over(&self, frame: Vec<u8>) {
        // ractor_cluster's own bytes are few beside a backlog, and without a backlog the count begins anew.
        let from = self
            .written_when_done
            .load(Relaxed)
            .max(self.info.meter.written());
        self.written_when_done
            .store(from + frame.len() as u64, Relaxed);
        // The cluster's actor notices a session that has ended, and closes the link.
        let _ = self.port.cast(PortMsg::Carry(Frame(frame)));
    }

    /// Sends an entry whose loss is only logged.
    pub(crate) fn say(&self, kind: Kind, id: u64, body: &[u8]) {
        if let Err(full) = self.send_bytes(kind, id, body) {
            tracing::warn!(peer = %self.peer(), ?kind, %full, "an entry for a peer is dropped: too many bytes wait");
        }
    }

    /// Sends the piece of a parcel that the peer asks for.
    pub(crate) fn send_piece(&self, number: u64, from: u64) {
        let there = self.outbox.lock().piece(number, from);
        if there {
            self.wake.notify_one();
        }
    }

    /// Asks for the pieces of the peer's parcels that may be under way now.
    pub(crate) fn fetch(&self) {
        let asks = self.arrivals.lock().asks(Instant::now());
        for (parcel, from) in asks {
            self.say(Kind::Fetch, parcel, &from.to_be_bytes());
        }
    }

    pub(crate) fn drop_parcel(&self, number: u64) {
        self.outbox.lock().drop_parcel(number);
    }

    /// Asks a question. None if no reply comes in time or the link is lost meanwhile.
    pub(crate) async fn ask(
        &self,
        kind: Kind,
        question: &[u8],
        within: Duration,
    ) -> Option<Vec<u8>> {
        let (reply, replied) = oneshot::channel();
        let id = self.next_id.fetch_add(1, Relaxed);
        self.awaited.lock().replies.insert(id, reply);
        self.say(kind, id, question);
        let replied = if self.is_open() {
            tokio::time::timeout(within, replied).await.ok()
        } else {
            None
        };
        self.awaited.lock().replies.remove(&id);
        replied?.ok()
    }

    /// Whether the peer should get no more large bodies; see [`Outbox::is_stuffed`].
    pub(crate) fn is_stuffed(&self) -> bool {
        self.outbox.lock().is_stuffed()
    }

    /// The attempt whose answer is awaited, and the port for it; none if the task was given up.
    pub(crate) fn awaited(&self, id: u64) -> Option<(TaskKey, AnswerPort)> {
        let found = self.awaited.lock().tasks.remove(&id);
        match found {
            Some(_) => drop(self.awaiting.fetch_sub(1, Relaxed)),
            None => count(&self.counters.dropped_late),
        }
        found
    }

    /// The ids of all tasks whose answers are awaited.
    pub(crate) fn all_awaited(&self) -> Vec<u64> {
        self.awaited.lock().tasks.keys().copied().collect()
    }

    /// Ends the wait for a reply that will not come.
    pub(crate) fn not_replied(&self, id: u64) {
        self.awaited.lock().replies.remove(&id);
    }

    pub(crate) fn replied(&self, id: u64, reply: Vec<u8>) {
        if let Some(asker) = self.awaited.lock().replies.remove(&id) {
            // The asker may have stopped waiting.
            let _ = asker.send(reply);
        }
    }

    pub(crate) fn in_flight(&self) -> usize {
        self.awaiting.load(Relaxed)
    }

    /// Bytes that wait to be written to the socket, here and in the session.
    pub(crate) fn queued_bytes(&self) -> u64 {
        self.outbox.lock().waiting() as u64 + self.in_session()
    }

    fn in_session(&self) -> u64 {
        let due = self.written_when_done.load(Relaxed);
        due.saturating_sub(self.info.meter.written())
    }

    /// Takes no further tasks.
    pub(crate) fn shut(&self) {
        self.open.store(false, Relaxed);
        self.wake.notify_one();
    }

    /// Ends the link: refuses the tasks that were never sent, and reports the awaited ones as lost.
    pub(crate) fn close(&self) {
        self.shut();
        let unsent = self.outbox.lock().clear();
        self.arrivals.lock().clear();
        for id in unsent {
            self.fail(id, "before the task was sent", |message| {
                TaskOutcome::Refused(Failure::new(ErrorCode::AgentUnavailable, message))
            });
        }
        for id in self.all_awaited() {
            self.lose(id);
        }
        self.awaited.lock().replies.clear();
    }

    fn lose(&self, id: u64) {
        self.fail(id, "while the node had the task", |message| {
            TaskOutcome::Failed(Failure::new(ErrorCode::NodeLost, message))
        });
    }

    /// Tells a task's asker that the link was lost. Not under a lock: the asker may send again.
    fn fail(&self, id: u64, when: &str, outcome: impl FnOnce(String) -> TaskOutcome) {
        let awaited = self.awaited.lock().tasks.remove(&id);
        if let Some((key, port)) = awaited {
            self.awaiting.fetch_sub(1, Relaxed);
            let message = format!("the link to {} was lost {when}", self.peer());
            port.answer(answered(key, self.peer(), outcome(message)));
        }
    }

    async fn write(self: Arc<Self>) {
        while self.open.load(Relaxed) {
            let Some(frame) = self.outbox.lock().take_to_write() else {
                self.wake.notified().await;
                // Lets other ready senders go first, so that their entries share the frame.
                tokio::task::yield_now().await;
                continue;
            };
            while self.in_session() > SESSION && self.open.load(Relaxed) {
                tokio::time::sleep(SESSION_LOOK).await;
            }
            self.hand_over(frame);
            self.outbox.lock().handed_over();
        }
    }
}

/// The answer to a task that no agent answered.
pub(crate) fn answered(key: TaskKey, node: &NodeName, outcome: TaskOutcome) -> TaskResponse {
    TaskResponse {
        version: WIRE_VERSION,
        request_id: key.request_id,
        task_id: key.task_id,
        attempt: key.attempt,
        // An answer needs an agent, and only the node is known.
        agent: AgentId::new(node.as_str()).expect("a node's name is an agent's too"),
        calls: Vec::new(),
        usage: Default::default(),
        outcome,
    }
}

impl Carrier for Link {
    fn execute(
        &self,
        agent: &AgentId,
        task: TaskRequest,
        answer: AnswerPort,
    ) -> Result<(), Failure> {
        let refused = |answer: AnswerPort, code, message: String| {
            answer.discard();
            Err(Failure::new(code, message))
        };
        let lost = || format!("the link to {} is lost", self.peer());
        if !self.is_open() {
            return refused(answer, ErrorCode::AgentUnavailable, lost());
        }
        let waiting = self.outbox.lock().waiting();
        let id = self.next_id.fetch_add(1, Relaxed);
        {
            let mut awaited = self.awaited.lock();
            if awaited.tasks.len() >= CREDIT || waiting > OUTBOX {
                drop(awaited);
                answer.discard();
                let message = format!(
                    "{} already has as many tasks and bytes in flight as it may have",
                    self.peer()
                );
                let busy = Failure::new(ErrorCode::AgentBusy, message);
                return Err(busy.retry_after_ms(RETRY_BUSY_MS));
            }
            awaited.tasks.insert(id, (TaskKey::of(&task), answer));
            self.awaiting.fetch_add(1, Relaxed);
        }
        self.warrants.seal(&task);
        match self.send_encoded(Kind::Task2, id, forms::task(agent, &task)) {
            Ok(()) => {
                count(&self.counters.tasks_out);
                if !self.is_open() {
                    // The link may have closed before it awaited the answer, after the task was sent.
                    self.lose(id);
                }
                Ok(())
            }
            Err(failure) => {
                let taken = self.awaited.lock().tasks.remove(&id);
                match taken {
                    Some((_, port)) => {
                        self.awaiting.fetch_sub(1, Relaxed);
                        port.discard();
                        Err(failure)
                    }
                    // The link's end has taken the task, and told the request through the port.
                    None => Ok(()),
                }
            }
        }
    }

    fn cancel(&self, _agent: &AgentId, key: TaskKey) {
        let id = {
            let awaited = self.awaited.lock();
            let asked = awaited.tasks.iter().find(|(_, (asked, _))| *asked == key);
            asked.map(|(id, _)| *id)
        };
        if let Some(id) = id {
            self.say(Kind::Cancel, id, &[]);
        }
    }

    fn is_open(&self) -> bool {
        self.open.load(Relaxed)
    }
}
