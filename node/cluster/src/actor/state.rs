//! The actor's state, and how it carries out the membership's decisions.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use ractor::ActorRef;
use ractor_cluster::{ClusterBidiStream, NodeId, NodeServerMessage, NodeSessionMessage};
use tokio::sync::oneshot;
use tokio::task::JoinSet;

use super::dialling::{local, look, reach};
use super::news::{Troubles, announce};
use super::{Cluster, OpenLink, Snapshot};
use crate::info::NodeInfo;
use crate::link::{LinkInfo, Links};
use crate::membership::{
    Action, Cause, DialFailure, DialId, Event, LinkId, Membership, News, READY_TIMEOUT, Veto,
};
use crate::settings::Seed;
use crate::transport::{Connection, Refusal};

/// The cluster actor's mailbox.
#[derive(Debug)]
pub(super) enum ClusterMsg {
    /// From its timer, every 200 ms.
    Tick,
    /// From a greeting: may this peer come in, which the dial (if any) reached? Answered with the refusal, if any.
    Admit(
        Box<NodeInfo>,
        Option<DialId>,
        oneshot::Sender<Result<(), Refusal>>,
    ),
    /// From the acceptor, or from a dial: a connection stands.
    Established(Box<Connection>, Option<DialId>),
    /// From a dial, with its address: it made no connection.
    DialFailed(DialId, String, DialFailure),
    /// From the look-up of the seed with this index.
    Found(usize, Result<Vec<String>, String>),
    /// From ractor_cluster: news of a connection's session.
    Session(LinkId, Session),
    /// From a link or from the node: an event for the membership.
    Happened(Event),
    /// From the node. Answered when no link is left.
    Alone(oneshot::Sender<()>),
    /// From the node: close every link. Answered when it is done.
    Leave(oneshot::Sender<()>),
}

impl ractor::Message for ClusterMsg {}

/// News of a session.
#[derive(Debug)]
pub(super) enum Session {
    Opened(ActorRef<NodeSessionMessage>),
    Ready(NodeId),
    Closed,
}

/// A connection that we have not given up, or whose session has not ended yet.
struct Held {
    info: LinkInfo,
    dialled: bool,
    security: &'static str,
    stage: Stage,
    /// When we gave it up.
    given_up: Option<Duration>,
}

enum Stage {
    /// A session of the same boot of the peer must end first: of two, ractor_cluster stops one, and not always the older.
    Waiting(Box<dyn ClusterBidiStream>),
    Handed,
    Open(ActorRef<NodeSessionMessage>),
    /// The session is ready; the peer's port is not there yet.
    Ready(ActorRef<NodeSessionMessage>, NodeId),
}

pub(super) struct ClusterState {
    pub(super) cluster: Cluster,
    /// Tasks that end with the actor.
    pub(super) tasks: JoinSet<()>,
    myself: ActorRef<ClusterMsg>,
    server: ActorRef<NodeServerMessage>,
    membership: Membership,
    held: HashMap<LinkId, Held>,
    troubles: Troubles,
    alone: Vec<oneshot::Sender<()>>,
}

impl ClusterState {
    pub(super) fn new(
        cluster: Cluster,
        myself: ActorRef<ClusterMsg>,
        server: ActorRef<NodeServerMessage>,
        membership: Membership,
        tasks: JoinSet<()>,
    ) -> Self {
        Self {
            cluster,
            tasks,
            myself,
            server,
            membership,
            held: HashMap::new(),
            troubles: Troubles::default(),
            alone: Vec::new(),
        }
    }

    pub(super) fn handle(&mut self, message: ClusterMsg) {
        match message {
            ClusterMsg::Tick => self.tick(),
            ClusterMsg::Admit(peer, dial, reply) => {
                // A greeting that was given up waits for no answer.
                let _ = reply.send(self.admit(&peer, dial));
            }
            ClusterMsg::Established(connection, dial) => self.established(*connection, dial),
            ClusterMsg::DialFailed(dial, address, failure) => {
                let settled = matches!(failure.veto, Some(Veto::Duplicate | Veto::Itself));
                self.troubles.tell(&address, &failure.text, settled);
                self.step(Event::DialFailed(dial, failure));
            }
            ClusterMsg::Found(seed, found) => {
                if let (Err(why), Some(seed)) = (&found, self.seed(seed)) {
                    self.troubles.tell(seed.address(), why, false);
                }
                self.step(Event::Found(seed, found));
            }
            ClusterMsg::Session(link, what) => self.session(link, what),
            ClusterMsg::Happened(event) => self.step(event),
            ClusterMsg::Alone(reply) => self.alone.push(reply),
            ClusterMsg::Leave(reply) => {
                self.step(Event::Leave);
                // The caller may have stopped waiting; its links are closed all the same.
                let _ = reply.send(());
            }
        }
        if self
            .membership
            .members()
            .all(|member| member.link().is_none())
        {
            for reply in self.alone.drain(..) {
                let _ = reply.send(());
            }
        }
    }

    fn seed(&self, index: usize) -> Option<Seed> {
        self.cluster.0.settings.seeds.get(index).cloned()
    }

    fn tick(&mut self) {
        // First of all, since we must not begin tasks that peers sent before a long sleep.
        if self.cluster.0.links.ticked() {
            self.step(Event::Overslept);
        }
        // Frees the tasks that have ended.
        while self.tasks.try_join_next().is_some() {}
        let now = self.cluster.0.now();
        // A session that never started sends no news.
        self.held.retain(|_, held| {
            let given_up = held.given_up.unwrap_or(now);
            !matches!(held.stage, Stage::Handed) || now.saturating_sub(given_up) < READY_TIMEOUT
        });
        let ids: Vec<_> = self.held.keys().copied().collect();
        ids.into_iter().for_each(|link| self.try_ready(link));
        let open = self.cluster.0.open.lock();
        let silences = open.iter().map(|(id, open)| (*id, open.meter.silence()));
        let silences = silences.collect();
        drop(open);
        self.step(Event::Tick(silences));
    }

    fn admit(&mut self, peer: &NodeInfo, dial: Option<DialId>) -> Result<(), Refusal> {
        let now = self.cluster.0.now();
        let verdict = self.membership.admit(now, peer, dial);
        verdict.map_err(|veto| match veto {
            Veto::Itself => Refusal::SelfDial,
            Veto::Leaving => Refusal::Leaving,
            Veto::Duplicate => Refusal::Duplicate,
            Veto::NameTaken => Refusal::NameTaken {
                name: peer.name.clone(),
                holder: self.holder(peer),
            },
        })
    }

    fn holder(&self, peer: &NodeInfo) -> String {
        let mut members = self.membership.members();
        let holder = members.find(|member| member.info.name == peer.name);
        holder.map_or_else(|| self.cluster.0.address(), |h| h.info.address.clone())
    }

    fn established(&mut self, connection: Connection, dial: Option<DialId>) {
        let Connection {
            peer,
            dialled,
            token_in,
            token_out,
            security,
            certificate,
            meter,
            stream,
            ..
        } = connection;
        self.troubles.over(&peer.address);
        let info = LinkInfo {
            peer: peer.clone(),
            token_in,
            token_out,
            certificate,
            meter,
        };
        let held = Held {
            info,
            dialled,
            security,
            stage: Stage::Waiting(stream),
            given_up: None,
        };
        self.held.insert(token_in, held);
        self.step(Event::Connected {
            link: token_in,
            peer,
            dial,
        });
    }

    fn session(&mut self, link: LinkId, what: Session) {
        let Some(held) = self.held.get_mut(&link) else {
            return;
        };
        match what {
            Session::Opened(actor) if held.given_up.is_some() => {
                actor.stop(None);
                held.stage = Stage::Open(actor);
            }
            Session::Opened(actor) => held.stage = Stage::Open(actor),
            Session::Ready(node) => {
                if let Stage::Open(actor) = &held.stage {
                    held.stage = Stage::Ready(actor.clone(), node);
                    self.try_ready(link);
                }
            }
            Session::Closed => {
                let peer = held.info.peer.clone();
                self.held.remove(&link);
                self.step(Event::Closed(link, "the connection broke".to_owned()));
                self.hand_over(&peer);
            }
        }
    }

    /// Uses a link whose session is ready, once the peer's port is there.
    fn try_ready(&mut self, link: LinkId) {
        let Some(held) = self.held.get_mut(&link).filter(|h| h.given_up.is_none()) else {
            return;
        };
        if let Stage::Ready(actor, node) = &held.stage
            && let Some(port) = Links::port_of(*node)
        {
            held.stage = Stage::Open(actor.clone());
            self.cluster.0.links.open(held.info.clone(), port);
            self.step(Event::Ready(link));
        }
    }

    fn step(&mut self, event: Event) {
        let actions = self.membership.step(self.cluster.0.now(), event);
        for action in actions {
            self.act(action);
        }
        let strangers = self.membership.strangers();
        let snapshot = Snapshot {
            members: self.membership.members().cloned().collect(),
            strangers: strangers
                .map(|(seed, why)| (seed.address().to_owned(), why.to_owned()))
                .collect(),
        };
        self.cluster.0.snapshot.store(Arc::new(snapshot));
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Look(index) => {
                let Some(seed) = self.seed(index) else {
                    return;
                };
                let actor = self.myself.clone();
                self.tasks.spawn(async move {
                    // An actor that has ended needs no addresses.
                    let _ = actor.send_message(ClusterMsg::Found(index, look(&seed).await));
                });
            }
            Action::Dial(dial, address) => {
                let actor = self.myself.clone();
                let side = local(&self.cluster, &actor, Some(dial));
                self.tasks.spawn(async move {
                    let message = match reach(&side, address.clone()).await {
                        Ok(connection) => ClusterMsg::Established(Box::new(connection), Some(dial)),
                        Err(failure) => ClusterMsg::DialFailed(dial, address, failure),
                    };
                    // An actor that has ended needs no connection.
                    let _ = actor.send_message(message);
                });
            }
            Action::Open(link) => {
                if let Some(held) = self.held.get(&link) {
                    let open = OpenLink {
                        meter: held.info.meter.clone(),
                        security: held.security,
                    };
                    let peer = held.info.peer.clone();
                    self.cluster.0.open.lock().insert(link, open);
                    self.hand_over(&peer);
                }
            }
            Action::Close(link, cause) => self.close(link, &cause),
            Action::Gossip(members) => self.cluster.0.links.gossip(members),
            Action::Announce(peer, news) => {
                if news == News::Joined {
                    self.cluster.0.joined.send_modify(|joined| *joined += 1);
                } else if news == News::Lost(Cause::Silent) {
                    self.cluster.0.evicted.fetch_add(1, Relaxed);
                }
                announce(self.cluster.0.registry.bus(), &peer, &news);
            }
        }
    }

    /// Hands a peer's waiting connection to ractor_cluster, if no other session with the peer is left.
    fn hand_over(&mut self, peer: &NodeInfo) {
        let same = |held: &Held| {
            held.info.peer.name == peer.name && held.info.peer.incarnation == peer.incarnation
        };
        let waits = |held: &Held| matches!(held.stage, Stage::Waiting(_));
        if self.held.values().any(|held| same(held) && !waits(held)) {
            return;
        }
        let open = self.cluster.0.open.lock();
        let mut waiting = self
            .held
            .iter_mut()
            .filter(|(id, held)| same(held) && open.contains_key(id));
        let Some((_, held)) = waiting.next() else {
            return;
        };
        let is_server = !held.dialled;
        if let Stage::Waiting(stream) = std::mem::replace(&mut held.stage, Stage::Handed) {
            let opened = NodeServerMessage::ConnectionOpenedExternal { stream, is_server };
            // A server that has ended ends this actor, too.
            let _ = self.server.send_message(opened);
        }
    }

    fn close(&mut self, link: LinkId, cause: &Cause) {
        self.cluster.0.close(link);
        let now = self.cluster.0.now();
        let Some(held) = self.held.get_mut(&link) else {
            return;
        };
        tracing::debug!(node = %held.info.peer.name, %cause, "a connection is closed");
        held.info.meter.cut();
        held.given_up = Some(now);
        match &held.stage {
            Stage::Waiting(_) => drop(self.held.remove(&link)),
            Stage::Handed => {}
            Stage::Open(actor) | Stage::Ready(actor, _) => actor.stop(Some(cause.to_string())),
        }
    }
}
