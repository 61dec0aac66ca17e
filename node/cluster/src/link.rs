//! The links carry tasks, answers, cards and questions, in frames, so that entries that leave at the same time travel together.
//!
//! Does not decide which links there are: the cluster's actor opens and closes them. A closed link loses its token, so that
//! frames that still arrive over it are dropped and counted.

mod arrivals;
mod counters;
mod forms;
pub mod frame;
mod inbox;
mod outbox;
mod peer;
mod port;
mod roster;
mod serve;
mod warrants;

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use amcp_protocol::llm::PortFuture;
use amcp_protocol::{Failure, FilePiece, FlowAnswer, FlowId, NodeName, RequestId, TaskRequest};
use amcp_registry::RegistryHandle;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use parking_lot::{Mutex, RwLock};
use ractor::{ActorCell, ActorRef, SpawnErr};
use ractor_cluster::NodeId;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_rustls::rustls::pki_types::CertificateDer;

use crate::info::{NodeInfo, Role};
use crate::membership::{EVICT_AFTER, Event};
use crate::settings::Trust;
use crate::transport::Meter;
use crate::view::ClusterCounts;
use crate::wire;
use counters::Counters;
use frame::Kind;
use inbox::Inbox;
use peer::Link;
use roster::Roster;
pub use warrants::Identity;
use warrants::Warrants;

/// How long a peer may take to answer a question about a request: a slow link takes a second, a lost link is noticed in five.
const QUESTION: Duration = Duration::from_secs(3);
/// The pause between checks whether every task was answered and every frame written.
const LOOK: Duration = Duration::from_millis(5);

/// The body of a [`Kind::File`].
#[derive(Debug, Serialize, Deserialize)]
struct FileQuestion {
    name: String,
    from: u64,
}

/// Answers other nodes' questions about this node's requests and reports.
pub trait Desk: Send + Sync + fmt::Debug {
    /// The view of a request of this node, as `GET /requests/{id}` shows it.
    fn request(&self, id: RequestId) -> Option<Value>;

    /// The requests of this node that a question wants, as JSON; none by default, for a node that cannot read the question.
    fn list(&self, _wanted: Value) -> Option<Value> {
        None
    }

    /// Cancels a request; returns whether this node has it.
    fn cancel(&self, id: RequestId) -> bool;

    /// Hands a person's answer to a flow of a request. Returns whether the answer counts; none when this node does not have the request.
    fn answer_flow(
        &self,
        id: RequestId,
        flow: FlowId,
        answer: FlowAnswer,
    ) -> PortFuture<'static, Option<Result<(), Failure>>>;

    /// A piece of a report of this node that begins at a byte, at most 64 KB; none by default, for a node that keeps no reports.
    fn file(&self, _name: String, _from: u64) -> PortFuture<'static, Option<FilePiece>> {
        Box::pin(std::future::ready(None))
    }

    /// Hears that this node believes a peer's task not, or does not permit it; must not block.
    fn refused(&self, _peer: &NodeName, _task: &TaskRequest, _failure: &Failure) {}
}

/// A connection about to become a link, as its greeting settled it.
#[derive(Debug, Clone)]
pub struct LinkInfo {
    /// The node at the other side.
    pub peer: NodeInfo,
    /// The token of frames from the peer.
    pub token_in: u64,
    /// The token of frames to the peer.
    pub token_out: u64,
    /// The peer's certificate; none without TLS.
    pub certificate: Option<CertificateDer<'static>>,
    /// Counts the connection's bytes.
    pub meter: Arc<Meter>,
}

/// The figures of a link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkStatus {
    /// The node at the other side.
    pub peer: NodeName,
    /// The link's token.
    pub token_in: u64,
    /// The peer's agents in the directory.
    pub agents: usize,
    /// Tasks that this node sent and the peer has not answered.
    pub in_flight: usize,
    /// The peer's tasks that this node works on.
    pub serving: usize,
    /// Bytes that wait to be written to the peer.
    pub queued_bytes: u64,
}

/// A question about a request.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
enum Question {
    Request(RequestId),
    Cancel(RequestId),
}

/// All links of a node. Clones share them.
#[derive(Clone)]
pub struct Links(Arc<Shared>);

struct Shared {
    name: NodeName,
    registry: RegistryHandle,
    desk: Arc<dyn Desk>,
    trust: Trust,
    warrants: Arc<Warrants>,
    events: mpsc::UnboundedSender<Event>,
    /// By the token that frames carry.
    links: RwLock<HashMap<u64, Arc<Link>>>,
    /// Also held while a link opens, so that the peer gets the whole roster and then each change of it.
    roster: Mutex<Roster>,
    inbox: Mutex<Inbox<Link>>,
    draining: AtomicBool,
    origin: Instant,
    /// The last time at which this node was awake, in milliseconds since `origin`.
    ticked_ms: AtomicU64,
    counters: Arc<Counters>,
}

amcp_protocol::opaque_debug!(Links);

impl Links {
    /// Starts without links. `events` takes peers' reports about members. Must be called inside a runtime: a task tells peers of
    /// changes in the registry until the last clone of the links is dropped.
    #[must_use]
    pub fn new(
        identity: Identity,
        registry: RegistryHandle,
        desk: Arc<dyn Desk>,
        trust: Trust,
        events: mpsc::UnboundedSender<Event>,
    ) -> Self {
        let shared = Arc::new(Shared {
            name: identity.name.clone(),
            warrants: Arc::new(Warrants::new(identity)),
            registry,
            desk,
            trust,
            events,
            links: RwLock::default(),
            roster: Mutex::default(),
            inbox: Mutex::default(),
            draining: AtomicBool::new(false),
            origin: Instant::now(),
            ticked_ms: AtomicU64::new(0),
            counters: Arc::default(),
        });
        tokio::spawn(follow(Arc::downgrade(&shared), shared.registry.clone()));
        Self(shared)
    }

    /// Starts the one actor that peers reach, linked to `supervisor`; the actor is in the process group of all nodes' ports
    /// when this returns.
    ///
    /// # Errors
    /// [`SpawnErr`] when the supervisor is stopping.
    pub async fn spawn_port(&self, supervisor: ActorCell) -> Result<ActorCell, SpawnErr> {
        port::spawn(self.clone(), supervisor).await
    }

    /// The port of the peer behind a session of ractor_cluster, once the session is ready.
    #[must_use]
    pub fn port_of(session: NodeId) -> Option<ActorCell> {
        port::of_session(session)
    }

    /// Uses a link from now on: this node's cards go to the peer. `port` is the peer's port.
    pub fn open(&self, link: LinkInfo, port: ActorCell) {
        let token = link.token_in;
        let shared = &self.0;
        shared
            .warrants
            .met(&link.peer.name, link.certificate.clone());
        let books = (Arc::clone(&shared.counters), Arc::clone(&shared.warrants));
        let link = Link::start(link, ActorRef::from(port), books);
        let mut roster = self.0.roster.lock();
        // Tells the other peers of changes since the last look; the new peer gets them with the whole roster.
        self.0.tell(&roster.update(&self.0.registry.load()));
        self.0.links.write().insert(token, Arc::clone(&link));
        self.0.send_roster(&roster, &link);
        // Either side may open first, and its entries are lost until the other side has opened: the later side asks for them.
        link.say(Kind::Resync, 0, &[]);
    }

    /// Stops using a link: the peer's agents leave the directory at once, and tasks in flight are lost. Harmless for a link that
    /// is not open. Neither cuts the connection nor stops its session.
    pub fn close(&self, token_in: u64) {
        let shared = &self.0;
        let Some(link) = shared.links.write().remove(&token_in) else {
            return;
        };
        // In this order: an asker that learns that its task is lost must find neither the agents nor an open way to them.
        link.shut();
        let again = shared
            .links()
            .iter()
            .any(|other| other.peer() == link.peer());
        if !again {
            shared.tell_roster(&link, |change| change.lost = true);
        }
        link.close();
        shared.inbox.lock().closed(token_in);
    }

    /// Notes that this node is awake: call it several times a second, and before anything else after a sleep. After a sleep so
    /// long that every peer has given this node up, closes all links, so that this node begins no task that peers sent before.
    /// Returns whether it closed them.
    pub fn ticked(&self) -> bool {
        let slept = self.0.overslept();
        if slept {
            for link in self.0.links() {
                self.close(link.info.token_in);
            }
        }
        let now = self.0.origin.elapsed().as_millis();
        self.0
            .ticked_ms
            .store(u64::try_from(now).unwrap_or(u64::MAX), Relaxed);
        slept
    }

    /// Sends a heartbeat over every link.
    pub fn beat(&self) {
        self.0.say_all(Kind::Beat);
    }

    /// Sends the members to every peer.
    pub fn gossip(&self, members: Vec<NodeInfo>) {
        let body = wire::encode(&members).expect("a few hundred members are small");
        for link in self.0.links() {
            link.say(Kind::Members, 0, &body);
        }
    }

    /// Withdraws this node's agents from every peer, and tells the peers that this node drains. From then on it refuses new tasks.
    pub fn withdraw(&self) {
        self.0.draining.store(true, Relaxed);
        self.0.say_all(Kind::Draining);
        let mut roster = self.0.roster.lock();
        roster.withdraw();
        self.0.tell(&roster.update(&self.0.registry.load()));
    }

    /// Says good-bye over every link.
    pub fn goodbye(&self) {
        self.0.say_all(Kind::Goodbye);
    }

    /// Waits until every task of other nodes is answered and its answer is written out or, if large, fetched. Returns how many
    /// tasks were not answered after `within`.
    pub async fn idle(&self, within: Duration) -> usize {
        self.wait(within, |shared| {
            shared.inbox.lock().serving() + shared.unwritten()
        })
        .await;
        self.0.inbox.lock().serving()
    }

    /// Waits until all queued bytes are written, at most `within`.
    pub async fn flushed(&self, within: Duration) {
        self.wait(within, Shared::unwritten).await;
    }

    async fn wait(&self, within: Duration, left: impl Fn(&Shared) -> usize) {
        let done = async {
            while left(&self.0) > 0 {
                tokio::time::sleep(LOOK).await;
            }
        };
        let _ = tokio::time::timeout(within, done).await;
    }

    /// The figures of each open link, by peer.
    #[must_use]
    pub fn statuses(&self) -> Vec<LinkStatus> {
        let directory = self.0.registry.load();
        let mut agents: HashMap<&NodeName, usize> = HashMap::new();
        for entry in directory.entries().filter(|entry| entry.is_present()) {
            if let Some(node) = &entry.node {
                *agents.entry(node).or_default() += 1;
            }
        }
        let links = self.0.links();
        let mut all: Vec<_> = links
            .iter()
            .map(|link| LinkStatus {
                peer: link.peer().clone(),
                token_in: link.info.token_in,
                agents: agents.get(link.peer()).copied().unwrap_or_default(),
                in_flight: link.in_flight(),
                serving: link.serving.load(Relaxed),
                queued_bytes: link.queued_bytes(),
            })
            .collect();
        all.sort_by(|a, b| a.peer.cmp(&b.peer));
        all
    }

    /// The links' counters; `links`, `evicted` and `refused` belong to others and stay 0.
    #[must_use]
    pub fn counts(&self) -> ClusterCounts {
        self.0.counters.read()
    }

    /// Asks every peer that has an orchestrator for a request; returns its owner and its view.
    pub async fn find_request(&self, id: RequestId) -> Option<(NodeName, Value)> {
        let found = |reply: Vec<u8>| wire::decode::<Option<Vec<u8>>>(&reply).ok()?;
        let (owner, view) = self.ask_orchestrators(Question::Request(id), found).await?;
        Some((owner, serde_json::from_slice(&view).ok()?))
    }

    /// Asks every peer that has an orchestrator to cancel a request; returns whether a peer has it.
    pub async fn cancel_request(&self, id: RequestId) -> bool {
        let has = |reply: Vec<u8>| wire::decode::<bool>(&reply).ok()?.then_some(());
        self.ask_orchestrators(Question::Cancel(id), has)
            .await
            .is_some()
    }

    /// Hands a person's answer to the peer that owns the request. Returns whether the answer counts there; none when the peer does
    /// not reply, has no such request, or is a build that knows no flows.
    pub async fn answer_flow(
        &self,
        owner: &NodeName,
        id: RequestId,
        flow: &FlowId,
        answer: &FlowAnswer,
    ) -> Option<Result<(), Failure>> {
        let answer = serde_json::to_vec(answer).ok()?;
        let answer = wire::encode(&(id, flow, answer)).ok()?;
        let mut links = self.0.links().into_iter();
        let link = links.find(|link| link.peer() == owner)?;
        let reply = link.ask(Kind::FlowAnswer, &answer, QUESTION).await?;
        let refusal = wire::decode::<Option<Vec<u8>>>(&reply).ok()??;
        let refusal: Option<Failure> = serde_json::from_slice(&refusal).ok()?;
        Some(refusal.map_or(Ok(()), Err))
    }

    /// Asks every peer, or `owner` if it is known, for a piece of a report from a byte on; returns its node and the piece.
    pub async fn file(
        &self,
        name: &str,
        from: u64,
        owner: Option<&NodeName>,
    ) -> Option<(NodeName, FilePiece)> {
        let name = name.to_owned();
        let question = serde_json::to_vec(&FileQuestion { name, from }).ok()?;
        let has = |link: &Link| owner.is_none_or(|owner| link.peer() == owner);
        let says = |reply: Vec<u8>| {
            let (about, bytes) = wire::decode::<Option<(Vec<u8>, Vec<u8>)>>(&reply).ok()??;
            let piece: FilePiece = serde_json::from_slice(&about).ok()?;
            Some(FilePiece { bytes, ..piece })
        };
        self.ask_all((Kind::File, &question), has, says).await
    }

    /// Asks every peer that has an orchestrator for a list of requests; returns each peer's list, none for one that did not reply.
    pub async fn list_requests(&self, wanted: &Value) -> Vec<(NodeName, Option<Value>)> {
        let question = wanted.to_string();
        let replies = self.ask_each((Kind::List, question.as_bytes()), orchestrates);
        let list = |reply: Vec<u8>| {
            let list = wire::decode::<Option<Vec<u8>>>(&reply).ok()??;
            serde_json::from_slice(&list).ok()
        };
        let replies = replies.map(|(peer, reply)| (peer, reply.and_then(list)));
        replies.collect().await
    }

    async fn ask_orchestrators<T>(
        &self,
        question: Question,
        says: impl Fn(Vec<u8>) -> Option<T>,
    ) -> Option<(NodeName, T)> {
        let question = wire::encode(&question).expect("an id can be encoded");
        self.ask_all((Kind::Question, &question), orchestrates, says)
            .await
    }

    /// The first reply from which `says` reads a value.
    async fn ask_all<T>(
        &self,
        question: (Kind, &[u8]),
        asked: impl Fn(&Link) -> bool,
        says: impl Fn(Vec<u8>) -> Option<T>,
    ) -> Option<(NodeName, T)> {
        let mut replies = self.ask_each(question, asked);
        while let Some((peer, reply)) = replies.next().await {
            if let Some(said) = reply.and_then(&says) {
                return Some((peer, said));
            }
        }
        None
    }

    /// The replies in the order of their arrival, none where a peer does not reply in time.
    fn ask_each(
        &self,
        (kind, question): (Kind, &[u8]),
        asked: impl Fn(&Link) -> bool,
    ) -> FuturesUnordered<impl Future<Output = (NodeName, Option<Vec<u8>>)>> {
        let links = self.0.links().into_iter().filter(|link| asked(link));
        let asks = links.map(|link| async move {
            let reply = link.ask(kind, question, QUESTION).await;
            (link.peer().clone(), reply)
        });
        asks.collect()
    }
}

fn orchestrates(link: &Link) -> bool {
    link.info.peer.roles.contains(&Role::Orchestrator)
}

impl Shared {
    /// Whether this node has just woken from a sleep so long that no peer waits for it any more.
    fn overslept(&self) -> bool {
        let ticked = Duration::from_millis(self.ticked_ms.load(Relaxed));
        self.origin.elapsed().saturating_sub(ticked) >= EVICT_AFTER
    }

    fn link(&self, token: u64) -> Option<Arc<Link>> {
        self.links.read().get(&token).cloned()
    }

    fn links(&self) -> Vec<Arc<Link>> {
        self.links.read().values().cloned().collect()
    }

    /// Number of links with bytes that wait to be written.
    fn unwritten(&self) -> usize {
        let links = self.links();
        links.iter().filter(|link| link.queued_bytes() > 0).count()
    }

    fn say_all(&self, kind: Kind) {
        for link in self.links() {
            link.say(kind, 0, &[]);
        }
    }

    /// Sends the whole roster to one peer.
    fn send_roster(&self, roster: &Roster, link: &Link) {
        link.say(Kind::Anew, 0, &[]);
        let batches = roster.whole();
        let sent: Result<Vec<()>, _> = batches
            .iter()
            .map(|joined| link.send(Kind::Joined, 0, joined))
            .collect();
        match sent {
            Ok(_) => link.say(Kind::Whole, 0, &[]),
            Err(failure) => {
                tracing::warn!(peer = %link.peer(), %failure, "this node cannot announce its agents to a peer");
            }
        }
    }

    /// Tells every peer of changes among this node's agents.
    fn tell(&self, change: &roster::Change) {
        if *change == roster::Change::default() {
            return;
        }
        for link in self.links() {
            let fares =
                (!change.fares.is_empty()).then(|| link.send(Kind::Fares, 0, &change.fares));
            let left = (!change.left.is_empty()).then(|| link.send(Kind::Left, 0, &change.left));
            let joined = change.joined.iter().map(|j| link.send(Kind::Joined, 0, j));
            let said: Result<Vec<()>, _> = fares.into_iter().chain(left).chain(joined).collect();
            if let Err(failure) = said {
                tracing::warn!(peer = %link.peer(), %failure, "this node cannot tell a peer of changes among its agents");
            }
        }
    }
}

/// Tells peers of changes among this node's agents, and asks for their rosters again when the registry restarted.
async fn follow(shared: std::sync::Weak<Shared>, registry: RegistryHandle) {
    let (mut changes, mut incumbents) = (registry.changes(), registry.incumbents());
    // The current registry has heard all rosters so far.
    incumbents.mark_unchanged();
    loop {
        let anew = tokio::select! {
            changed = changes.changed() => changed.map(|()| false),
            changed = incumbents.changed() => changed.map(|()| true),
        };
        let (Ok(anew), Some(shared)) = (anew, shared.upgrade()) else {
            return;
        };
        if anew {
            shared.say_all(Kind::Resync);
        }
        let mut roster = shared.roster.lock();
        let change = roster.update(&shared.registry.load());
        shared.tell(&change);
    }
}

#[cfg(test)]
mod tests;
