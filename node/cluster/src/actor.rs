//! The [`Cluster`], a node's handle of its links to other nodes, and the actor that owns the links.
//!
//! The handle checks, listens and reads; the actor carries out the decisions of [`crate::membership`]. Neither decides itself.

mod dialling;
mod news;
mod shell;
mod state;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use amcp_registry::RegistryHandle;
use amcp_registry::bus::unix_ms;
use arc_swap::ArcSwap;
use parking_lot::Mutex;
use ractor::{Actor, ActorCell, ActorRef, SpawnErr};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, timeout};

use crate::info::NodeInfo;
use crate::link::{Desk, Identity, Links};
use crate::membership::{Event, LinkId, Member};
use crate::settings::{ClusterSettings, wrong};
use crate::transport::{Acceptor, Meter, Tls};
use crate::view::{ClusterCounts, ClusterView, MemberView};
use shell::ClusterActor;
use state::ClusterMsg;

/// How long a leaving node waits until its good-byes are written, and again until its peers close: a round trip takes less,
/// and a process that ends has more to do.
const FAREWELL: Duration = Duration::from_secs(1);

/// The error of a node that cannot take part in a mesh.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct ClusterError {
    /// The fault and its place.
    pub message: String,
    /// The user's remedy.
    pub hint: Option<String>,
    /// Whether the settings are at fault, rather than the machine or the network.
    pub of_settings: bool,
}

/// The handle of a node's links. It outlives the actor: a restarted actor dials again.
#[derive(Clone)]
pub struct Cluster(Arc<Shared>);

amcp_protocol::opaque_debug!(Cluster);

struct Shared {
    settings: ClusterSettings,
    info: NodeInfo,
    tls: Option<Tls>,
    acceptor: Acceptor,
    registry: RegistryHandle,
    links: Links,
    /// Peers' reports about members; the running actor takes them.
    said: tokio::sync::Mutex<mpsc::UnboundedReceiver<Event>>,
    origin: Instant,
    actor: watch::Sender<Option<ActorRef<ClusterMsg>>>,
    snapshot: ArcSwap<Snapshot>,
    /// Every connection that ractor_cluster has and that was not given up: a new actor closes these first.
    open: Mutex<HashMap<LinkId, OpenLink>>,
    joined: watch::Sender<u64>,
    evicted: AtomicU64,
}

#[derive(Debug, Clone)]
struct OpenLink {
    meter: Arc<Meter>,
    security: &'static str,
}

/// The membership as readers see it.
#[derive(Debug, Default)]
struct Snapshot {
    members: Vec<Member>,
    /// Seeds behind which we met no node, with the reasons.
    strangers: Vec<(String, String)>,
}

impl Cluster {
    /// Checks the settings and listens.
    ///
    /// # Errors
    /// The address, the certificates or the cookie are unusable, or encryption is missing where it is needed.
    #[expect(
        clippy::unused_async,
        reason = "listening needs a runtime, which an async function shows"
    )]
    pub async fn bind(
        settings: ClusterSettings,
        registry: RegistryHandle,
        desk: Arc<dyn Desk>,
    ) -> Result<Self, ClusterError> {
        settings.check()?;
        let tls = settings.tls.as_ref();
        let tls = tls
            .map(|files| Tls::load(files, &settings.name))
            .transpose();
        let tls = tls.map_err(|error| wrong(error.to_string(), &error.hint()))?;
        let acceptor = Acceptor::bind(settings.bind).map_err(|error| ClusterError {
            message: format!(
                "cannot listen for other nodes on {}: {error}",
                settings.bind
            ),
            hint: Some(
                "choose another --cluster address, or stop the program that listens there"
                    .to_owned(),
            ),
            of_settings: false,
        })?;
        let port = acceptor.address().port();
        let info = NodeInfo {
            name: settings.name.clone(),
            incarnation: u64::try_from(unix_ms()).unwrap_or_default(),
            build: env!("CARGO_PKG_VERSION").to_owned(),
            address: settings
                .advertise
                .clone()
                .unwrap_or_else(|| format!(":{port}")),
            http: settings.http.clone(),
            roles: settings.roles.clone(),
            domain: settings.domain.clone(),
        };
        let (says, said) = mpsc::unbounded_channel();
        let links = Links::new(
            Identity::new(settings.name.clone(), &settings.cookie, tls.as_ref()),
            registry.clone(),
            desk,
            settings.trust.clone(),
            says,
        );
        Ok(Self(Arc::new(Shared {
            settings,
            info,
            tls,
            acceptor,
            registry,
            links,
            said: tokio::sync::Mutex::new(said),
            origin: Instant::now(),
            actor: watch::Sender::new(None),
            snapshot: ArcSwap::default(),
            open: Mutex::default(),
            joined: watch::Sender::new(0),
            evicted: AtomicU64::new(0),
        })))
    }

    /// Starts the actor, for the first time or again, linked to `supervisor`.
    ///
    /// # Errors
    /// [`SpawnErr`] when the supervisor is stopping.
    pub async fn spawn(&self, supervisor: Option<ActorCell>) -> Result<ActorCell, SpawnErr> {
        let (actor, _) = match supervisor {
            Some(supervisor) => {
                Actor::spawn_linked(None, ClusterActor, self.clone(), supervisor).await?
            }
            None => Actor::spawn(None, ClusterActor, self.clone()).await?,
        };
        Ok(actor.get_cell())
    }

    /// The address on which the node listens for others.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.0.acceptor.address()
    }

    /// The mesh as this node sees it.
    #[must_use]
    pub fn view(&self) -> ClusterView {
        let shared = &self.0;
        let now = shared.now();
        let snapshot = shared.snapshot.load();
        let statuses = shared.links.statuses();
        let mut members = vec![MemberView::here(
            &shared.info,
            shared.address(),
            now,
            shared
                .registry
                .load()
                .entries()
                .filter(|e| e.is_present() && e.node.is_none())
                .count(),
        )];
        members.extend(snapshot.members.iter().map(|member| {
            let id = member.link().map(|link| link.id);
            let mut view = MemberView::of(member, now);
            if let Some(open) = id.and_then(|id| shared.open.lock().get(&id).cloned()) {
                view.heartbeat_age_ms = Some(crate::view::in_ms(open.meter.silence()));
                view.security = Some(open.security.to_owned());
            }
            if let Some(status) = statuses.iter().find(|s| Some(s.token_in) == id) {
                view.agents = status.agents;
                view.in_flight = status.in_flight;
                view.serving = status.serving;
                view.queued_bytes = status.queued_bytes;
            }
            view
        }));
        let strangers = snapshot.strangers.iter();
        members.extend(strangers.filter_map(|(seed, why)| MemberView::stranger(seed, why, now)));
        let counts = ClusterCounts {
            links: *shared.joined.borrow(),
            evicted: shared.evicted.load(Relaxed),
            refused: shared.acceptor.refused(),
            ..shared.links.counts()
        };
        ClusterView {
            node: shared.info.name.clone(),
            members,
            counts,
        }
    }

    /// Waits until the first link stands.
    pub async fn linked(&self) {
        let mut joined = self.0.joined.subscribe();
        // This handle holds the sender, so the wait cannot fail.
        let _ = joined.wait_for(|joined| *joined > 0).await;
    }

    /// The links, for questions to other nodes.
    #[must_use]
    pub fn links(&self) -> &Links {
        &self.0.links
    }

    /// Withdraws this node's agents from all other nodes, and waits until other nodes' tasks are answered. Returns how many of
    /// these tasks were still under way after `within`.
    pub async fn drain(&self, within: Duration) -> usize {
        self.tell(ClusterMsg::Happened(Event::Drain));
        self.0.links.withdraw();
        self.0.links.idle(within).await
    }

    /// Says good-bye, writes out all queued frames and closes every link.
    pub async fn leave(&self) {
        self.tell(ClusterMsg::Happened(Event::Farewell));
        let links = &self.0.links;
        links.goodbye();
        links.flushed(FAREWELL).await;
        // Peers close when they have read the good-bye. If we closed first, with their bytes unread, they might never read it.
        let (reply, closed) = oneshot::channel();
        self.tell(ClusterMsg::Alone(reply));
        let _ = timeout(FAREWELL, closed).await;
        let (reply, left) = oneshot::channel();
        self.tell(ClusterMsg::Leave(reply));
        // Without an actor there are no links.
        let _ = timeout(FAREWELL, left).await;
    }

    fn tell(&self, message: ClusterMsg) {
        if let Some(actor) = self.0.actor.borrow().as_ref() {
            // A dying actor needs no message: the next actor, or the end of the process, closes its links.
            let _ = actor.send_message(message);
        }
    }
}

impl Shared {
    fn now(&self) -> Duration {
        self.origin.elapsed()
    }

    /// The address at which others reach this node, as far as it knows.
    fn address(&self) -> String {
        match &self.settings.advertise {
            Some(address) => address.clone(),
            None => self.acceptor.address().to_string(),
        }
    }

    /// Gives a connection up: the peer's agents leave first, so that no task goes to an agent that cannot answer.
    fn close(&self, link: LinkId) {
        self.links.close(link);
        if let Some(open) = self.open.lock().remove(&link) {
            open.meter.cut();
        }
    }
}
