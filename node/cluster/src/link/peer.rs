//! One link: what waits to be written to the peer, whose answers are awaited from it, and its writer.
//!
//! Does not read frames: the port does.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use amcp_protocol::task::{TaskOutcome, WIRE_VERSION};
use amcp_protocol::{AgentId, ErrorCode, Failure, NodeName, TaskRequest, TaskResponse};
use amcp_registry::{AnswerPort, Carrier, TaskKey};
use ractor::ActorRef;
use serde::Serialize;
use tokio::sync::{Notify, oneshot};

use super::awaited::{Asked, Awaited, NotTaken};
use super::counters::{Counters, count};
use super::frame::Kind;
use super::outbox::{Arrivals, Outbox};
use super::port::{Frame, PortMsg};
use super::{LinkInfo, forms, old};
use crate::wire::{self, WireError};

/// Tasks that one peer may have at a time: more wait better at an orchestrator, where they can still go elsewhere.
pub(crate) const CREDIT: usize = 256;
/// When to come back to a peer whose credit is used up: about what a short task takes.
const RETRY_BUSY_MS: u64 = 50;
/// Most bytes that wait for one peer before tasks go elsewhere: a second of a fast link, a minute of a slow one.
const OUTBOX: usize = 16 * 1024 * 1024;
/// With so few tasks in flight nothing is gained by waiting for others to send something too.
const FEW: usize = 3;
/// Bytes that may be in ractor_cluster's own queue, which has no bound: enough to keep a fast link busy.
const SESSION: u64 = 1024 * 1024;
/// How often we check whether a full session has room again: a fast link writes [`SESSION`] in less time.
const SESSION_LOOK: Duration = Duration::from_millis(2);

pub(crate) struct Link {
    pub(crate) info: LinkInfo,
    port: ActorRef<PortMsg>,
    open: AtomicBool,
    outbox: Mutex<Outbox>,
    wake: Notify,
    pub(crate) arrivals: Mutex<Arrivals>,
    awaited: Mutex<Awaited>,
    next_id: AtomicU64,
    /// Tasks sent there and not answered.
    awaiting: AtomicUsize,
    /// Tasks of the peer that are worked on here.
    pub(crate) serving: AtomicUsize,
    /// How far the connection must have been written for everything handed over to be written.
    written_when_done: AtomicU64,
    counters: Arc<Counters>,
}

impl std::fmt::Debug for Link {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Link").field(&self.info.peer.name).finish()
    }
}

/// Locks what only short, panic-free pieces of code hold.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Link {
    /// A link and its writer, which ends with it.
    pub(crate) fn start(
        info: LinkInfo,
        port: ActorRef<PortMsg>,
        counters: Arc<Counters>,
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
        });
        tokio::spawn(Arc::clone(&link).write());
        link
    }

    pub(crate) fn peer(&self) -> &NodeName {
        &self.info.peer.name
    }

    /// Lets a value wait to be written.
    pub(crate) fn send<T: Serialize>(&self, kind: Kind, id: u64, value: &T) -> Result<(), Failure> {
        self.send_encoded(kind, id, wire::encode(value))
    }

    /// The same with a value that was written before.
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

    /// Sends an entry: at once while little is in flight, else together with what others send at the same moment.
    pub(crate) fn send_bytes(&self, kind: Kind, id: u64, body: &[u8]) -> Result<(), Failure> {
        let mut outbox = lock(&self.outbox);
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

    /// Says that an outcome has come. Nobody waits for that: it goes with the next frame.
    pub(crate) fn settle(&self, id: u64) {
        // A full outbox costs the peer some memory for a while.
        let _ = lock(&self.outbox).put(Kind::Settled, id, &[]);
    }

    /// Sends a sign of life. A peer that is slow to read gets none.
    pub(crate) fn send_sign(&self, id: u64, note: &str) {
        let waiting = lock(&self.outbox).waiting();
        if waiting <= OUTBOX {
            self.say(Kind::Sign, id, note.as_bytes());
        }
    }

    /// Hands a peer's sign of life on to the asker, if the task has not ended here.
    pub(crate) fn heard(&self, id: u64, note: &str) {
        let signs = {
            let awaited = lock(&self.awaited);
            let asked = awaited.tasks.get(&id);
            asked.map(|asked| asked.port.signs().clone())
        };
        if let Some(signs) = signs {
            signs.give(note);
        }
    }

    /// Hands a frame to the session.
    fn hand_over(&self, frame: Vec<u8>) {
        // What ractor_cluster adds is small beside a backlog, and without a backlog the count begins anew.
        let from = self
            .written_when_done
            .load(Relaxed)
            .max(self.info.meter.written());
        self.written_when_done
            .store(from + frame.len() as u64, Relaxed);
        // A session that has ended is found out and the link closed.
        let _ = self.port.cast(PortMsg::Carry(Frame(frame)));
    }

    /// Lets an entry wait that is no parcel and cannot be refused.
    pub(crate) fn say(&self, kind: Kind, id: u64, body: &[u8]) {
        if let Err(full) = self.send_bytes(kind, id, body) {
            tracing::warn!(peer = %self.peer(), ?kind, %full, "nothing more can wait for a peer");
        }
    }

    /// Sends what is asked for of a parcel.
    pub(crate) fn send_piece(&self, number: u64, from: u64) {
        let there = lock(&self.outbox).piece(number, from);
        if there {
            self.wake.notify_one();
        }
    }

    pub(crate) fn drop_parcel(&self, number: u64) {
        lock(&self.outbox).drop_parcel(number);
    }

    /// Asks a question; nothing is replied when the link is lost meanwhile.
    pub(crate) async fn ask(
        &self,
        kind: Kind,
        question: &[u8],
        within: Duration,
    ) -> Option<Vec<u8>> {
        let (reply, replied) = oneshot::channel();
        let id = self.next_id.fetch_add(1, Relaxed);
        lock(&self.awaited).replies.insert(id, reply);
        self.say(kind, id, question);
        let replied = if self.is_open() {
            tokio::time::timeout(within, replied).await.ok()
        } else {
            None
        };
        lock(&self.awaited).replies.remove(&id);
        replied?.ok()
    }

    /// Whether it has so many large bodies to fetch that it should be given no more.
    pub(crate) fn is_stuffed(&self) -> bool {
        lock(&self.outbox).is_stuffed()
    }

    /// The port that awaits the answer to a task; none when the task was given up.
    pub(crate) fn awaited(&self, id: u64) -> Option<AnswerPort> {
        self.awaited_task(id).map(|(_, port)| port)
    }

    /// The same, with the attempt that is awaited.
    pub(crate) fn awaited_task(&self, id: u64) -> Option<(TaskKey, AnswerPort)> {
        let found = lock(&self.awaited).tasks.remove(&id);
        match found {
            Some(_) => drop(self.awaiting.fetch_sub(1, Relaxed)),
            None => count(&self.counters.dropped_late),
        }
        found.map(|asked| (asked.key, asked.port))
    }

    /// Notes that the peer has used the new form, and so understands it.
    pub(crate) fn uses_new_form(&self) {
        lock(&self.awaited).uses_new_form();
    }

    /// The peer does not understand a task in the form of `kind`. Says whether the task is to be given up; if not, it is on
    /// its way in the old form.
    pub(crate) fn is_not_taken(&self, id: u64, kind: Kind) -> bool {
        // Locked until the task waits to be written: it can be cancelled only before or after that.
        let mut awaited = lock(&self.awaited);
        match awaited.is_not_taken(id, kind) {
            NotTaken::GiveUp => true,
            NotTaken::Ignore => false,
            NotTaken::Again(again) => {
                tracing::debug!(peer = %self.peer(), "a task goes again, in the form of the last release");
                let (agent, task) = *again;
                let sent = self.send_encoded(Kind::Task, id, old::task(agent, task));
                sent.is_err()
            }
        }
    }

    /// The ids of all tasks whose answers are awaited.
    pub(crate) fn all_awaited(&self) -> Vec<u64> {
        lock(&self.awaited).tasks.keys().copied().collect()
    }

    /// Nothing will be replied to a question.
    pub(crate) fn not_replied(&self, id: u64) {
        lock(&self.awaited).replies.remove(&id);
    }

    pub(crate) fn replied(&self, id: u64, reply: Vec<u8>) {
        if let Some(asker) = lock(&self.awaited).replies.remove(&id) {
            // The asker may have given up waiting.
            let _ = asker.send(reply);
        }
    }

    pub(crate) fn in_flight(&self) -> usize {
        self.awaiting.load(Relaxed)
    }

    /// Bytes that wait to be written to the socket, here and in the session.
    pub(crate) fn queued_bytes(&self) -> u64 {
        lock(&self.outbox).waiting() as u64 + self.in_session()
    }

    fn in_session(&self) -> u64 {
        let due = self.written_when_done.load(Relaxed);
        due.saturating_sub(self.info.meter.written())
    }

    /// Takes nothing more.
    pub(crate) fn shut(&self) {
        self.open.store(false, Relaxed);
        self.wake.notify_one();
    }

    /// Ends the link: what was never sent is refused, what is awaited is lost.
    pub(crate) fn close(&self) {
        self.shut();
        let unsent = lock(&self.outbox).clear();
        lock(&self.arrivals).clear();
        for id in unsent {
            self.fail(id, "before the task was sent", |message| {
                TaskOutcome::Refused(Failure::new(ErrorCode::AgentUnavailable, message))
            });
        }
        for id in self.all_awaited() {
            self.lose(id);
        }
        lock(&self.awaited).replies.clear();
    }

    fn lose(&self, id: u64) {
        self.fail(id, "with the task in its hands", |message| {
            TaskOutcome::Failed(Failure::new(ErrorCode::NodeLost, message))
        });
    }

    /// Tells the askers of all tasks that the link was lost. Not under a lock: an asker may send again.
    fn fail(&self, id: u64, when: &str, outcome: impl FnOnce(String) -> TaskOutcome) {
        let awaited = lock(&self.awaited).tasks.remove(&id);
        if let Some(Asked { key, port, .. }) = awaited {
            self.awaiting.fetch_sub(1, Relaxed);
            let message = format!("the link to {} was lost {when}", self.peer());
            port.answer(answered(key, self.peer(), outcome(message)));
        }
    }

    async fn write(self: Arc<Self>) {
        while self.open.load(Relaxed) {
            let Some(frame) = lock(&self.outbox).take_to_write() else {
                self.wake.notified().await;
                // Others that are ready to send may do so first: their entries share the frame.
                tokio::task::yield_now().await;
                continue;
            };
            while self.in_session() > SESSION && self.open.load(Relaxed) {
                tokio::time::sleep(SESSION_LOOK).await;
            }
            self.hand_over(frame);
            lock(&self.outbox).handed_over();
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
        // Where an answer needs an agent and only the node is known.
        agent: AgentId::new(node.as_str()).expect("a node's name is an agent's too"),
        calls: Vec::new(),
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
        let waiting = lock(&self.outbox).waiting();
        let id = self.next_id.fetch_add(1, Relaxed);
        let old = {
            let mut awaited = lock(&self.awaited);
            if awaited.tasks.len() >= CREDIT || waiting > OUTBOX {
                drop(awaited);
                answer.discard();
                let message = format!("{} has as much in flight as it may have", self.peer());
                let busy = Failure::new(ErrorCode::AgentBusy, message);
                return Err(busy.retry_after_ms(RETRY_BUSY_MS));
            }
            let old = awaited.insert(id, agent, &task, answer);
            self.awaiting.fetch_add(1, Relaxed);
            old
        };
        let sent = if old {
            self.send_encoded(Kind::Task, id, old::task(agent.clone(), task))
        } else {
            self.send_encoded(Kind::Task2, id, forms::task(agent, &task))
        };
        match sent {
            Ok(()) => {
                count(&self.counters.tasks_out);
                if !self.is_open() {
                    // It may have been closed before the answer was awaited, and sent before it was closed.
                    self.lose(id);
                }
                Ok(())
            }
            Err(failure) => {
                let taken = lock(&self.awaited).tasks.remove(&id);
                match taken {
                    Some(asked) => {
                        self.awaiting.fetch_sub(1, Relaxed);
                        asked.port.discard();
                        Err(failure)
                    }
                    // The link's end has taken it: the request learns of it through the port.
                    None => Ok(()),
                }
            }
        }
    }

    fn cancel(&self, _agent: &AgentId, key: TaskKey) {
        let id = lock(&self.awaited).cancel(&key);
        if let Some(id) = id {
            self.say(Kind::Cancel, id, &[]);
        }
    }

    fn is_open(&self) -> bool {
        self.open.load(Relaxed)
    }
}
