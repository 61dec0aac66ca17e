//! [`ClusterActor`] starts the parts that carry a node's links, and feeds its state.
//!
//! Its handler awaits nothing: tasks wait for names, sockets and peers, and end with the actor. When a child ends, so does the
//! actor: its supervisor starts it again, and all links with it.

use std::time::Duration;

use ractor::{Actor, ActorProcessingErr, ActorRef, SupervisionEvent};
use ractor_cluster::node::{NodeConnectionMode, NodeServerSessionInformation};
use ractor_cluster::{NodeEventSubscription, NodeServer, NodeServerMessage};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};

use super::dialling::local;
use super::state::{ClusterMsg, ClusterState, Session};
use super::{Cluster, Shared};
use crate::membership::{Event, Membership};
use crate::transport::{never_tls, session_cookie};

/// The pause between heartbeats: a peer suspects this node after three missed ones.
const BEAT: Duration = Duration::from_secs(1);
/// How often we check which nodes are silent and which to dial: we notice a dead node within 5 s.
const TICK: Duration = Duration::from_millis(200);
/// Largest frame that a session takes: four of ours, in case several travel together, and still little memory.
const MAX_FRAME: u64 = 1024 * 1024;
/// Most greeted connections that wait for the actor in the channel; further ones wait in their own tasks.
const ESTABLISHED: usize = 16;

/// How long the sessions and the port may take to stop: half of the time that the node waits for one of its parts.
const CHILDREN_STOP: Duration = Duration::from_secs(1);

/// Owns a node's links. Start it with [`Cluster::spawn`].
#[derive(Debug)]
pub(super) struct ClusterActor;

impl Actor for ClusterActor {
    type Msg = ClusterMsg;
    type State = ClusterState;
    type Arguments = Cluster;

    async fn pre_start(
        &self,
        myself: ActorRef<ClusterMsg>,
        cluster: Cluster,
    ) -> Result<ClusterState, ActorProcessingErr> {
        let shared = &cluster.0;
        close_all(shared);
        shared.links.spawn_port(myself.get_cell()).await?;
        let (server, _) =
            Actor::spawn_linked(None, node_server(shared), (), myself.get_cell()).await?;
        server.send_message(NodeServerMessage::SubscribeToEvents {
            id: "cluster".to_owned(),
            subscription: Box::new(Sessions(myself.clone())),
        })?;
        let mut membership = Membership::new(
            shared.info.name.clone(),
            shared.info.incarnation,
            &shared.settings.seeds,
            fastrand::u64(..),
        );
        // The members that the previous actor knew.
        let known = shared.snapshot.load();
        let known = known.members.iter().map(|member| member.info.clone());
        membership.step(shared.now(), Event::Members(known.collect()));
        let mut tasks = JoinSet::new();
        start_tasks(&mut tasks, &cluster, &myself);
        shared.actor.send_replace(Some(myself.clone()));
        Ok(ClusterState::new(
            cluster, myself, server, membership, tasks,
        ))
    }

    async fn handle(
        &self,
        _myself: ActorRef<ClusterMsg>,
        message: ClusterMsg,
        state: &mut ClusterState,
    ) -> Result<(), ActorProcessingErr> {
        state.handle(message);
        Ok(())
    }

    async fn handle_supervisor_evt(
        &self,
        _myself: ActorRef<ClusterMsg>,
        event: SupervisionEvent,
        _state: &mut ClusterState,
    ) -> Result<(), ActorProcessingErr> {
        match event {
            SupervisionEvent::ActorFailed(_, error) => {
                Err(format!("a part of the links failed: {error}").into())
            }
            SupervisionEvent::ActorTerminated(_, _, reason) => {
                let reason = reason.unwrap_or_default();
                Err(format!("a part of the links ended: {reason}").into())
            }
            SupervisionEvent::ActorStarted(_)
            | SupervisionEvent::ProcessGroupChanged(_)
            | SupervisionEvent::PidLifecycleEvent(_) => Ok(()),
        }
    }

    async fn post_stop(
        &self,
        myself: ActorRef<ClusterMsg>,
        state: &mut ClusterState,
    ) -> Result<(), ActorProcessingErr> {
        state.tasks.abort_all();
        close_all(&state.cluster.0);
        // ractor kills the children of an actor that ends; sessions that stop before that end in order.
        myself
            .stop_children_and_wait(None, Some(CHILDREN_STOP))
            .await;
        Ok(())
    }
}

/// Closes all connections that an actor left open.
fn close_all(shared: &Shared) {
    let open: Vec<_> = shared.open.lock().keys().copied().collect();
    open.into_iter().for_each(|link| shared.close(link));
}

/// ractor_cluster's part: sessions over connections that we hand to it. Its own listener lets no peer in.
fn node_server(shared: &Shared) -> NodeServer {
    let name = shared.info.name.to_string();
    // Unique for each boot of each node, even if two boot in the same millisecond: ractor_cluster takes a session whose ends
    // have the same host and port for a session with itself.
    let host = format!("{:016x}.{name}", shared.info.incarnation);
    let cookie = session_cookie(&shared.settings.cookie);
    let isolated = NodeConnectionMode::Isolated;
    NodeServer::new(0, cookie, name, host, Some(never_tls()), Some(isolated))
        .with_listen_addr(std::net::Ipv4Addr::LOCALHOST.into())
        .with_max_inbound_frame_size(MAX_FRAME)
}

fn start_tasks(tasks: &mut JoinSet<()>, cluster: &Cluster, myself: &ActorRef<ClusterMsg>) {
    let links = cluster.0.links.clone();
    tasks.spawn(async move {
        let mut beats = interval(BEAT);
        beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            beats.tick().await;
            links.beat();
        }
    });
    let actor = myself.clone();
    tasks.spawn(async move {
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            if actor.send_message(ClusterMsg::Tick).is_err() {
                return;
            }
        }
    });
    let (shared, actor) = (cluster.0.clone(), myself.clone());
    tasks.spawn(async move {
        let mut said = shared.said.lock().await;
        while let Some(said) = said.recv().await {
            if actor.send_message(ClusterMsg::Happened(said)).is_err() {
                return;
            }
        }
    });
    let (established, mut arrivals) = mpsc::channel(ESTABLISHED);
    let (shared, side) = (cluster.0.clone(), local(cluster, myself, None));
    tasks.spawn(async move { shared.acceptor.run(side, established).await });
    let actor = myself.clone();
    tasks.spawn(async move {
        while let Some(connection) = arrivals.recv().await {
            if actor
                .send_message(ClusterMsg::Established(Box::new(connection), None))
                .is_err()
            {
                return;
            }
        }
    });
}

/// Passes on news of sessions. A session's label names its connection.
struct Sessions(ActorRef<ClusterMsg>);

impl Sessions {
    fn pass(
        &self,
        session: NodeServerSessionInformation,
        what: fn(NodeServerSessionInformation) -> Session,
    ) {
        if let Ok(link) = u64::from_str_radix(&session.peer_addr, 16) {
            // An actor that has ended took its sessions with it.
            let _ = self
                .0
                .send_message(ClusterMsg::Session(link, what(session)));
        }
    }
}

impl NodeEventSubscription for Sessions {
    fn node_session_opened(&self, session: NodeServerSessionInformation) {
        self.pass(session, |session| Session::Opened(session.actor));
    }

    fn node_session_disconnected(&self, session: NodeServerSessionInformation) {
        self.pass(session, |_| Session::Closed);
    }

    fn node_session_authenticated(&self, _session: NodeServerSessionInformation) {}

    fn node_session_ready(&self, session: NodeServerSessionInformation) {
        self.pass(session, |session| Session::Ready(session.node_id));
    }
}
