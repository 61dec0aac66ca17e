//! The [`RegistryActor`] keeps the node's [`Directory`] true to who is alive: agents register, process groups say who
//! left or joined on other nodes.
//!
//! Does not answer look-ups: readers take the snapshot that it publishes. Does not start or restart agents.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use amcp_protocol::event::{AGENT_DEREGISTER, AGENT_REGISTER};
use amcp_protocol::{AgentCard, AgentId, CloudEvent};
use arc_swap::{ArcSwap, Guard};
use ractor::concurrency::JoinHandle;
use ractor::pg::{self, GroupChangeMessage};
use ractor::{
    Actor, ActorCell, ActorId, ActorProcessingErr, ActorRef, ActorStatus, RpcReplyPort, SpawnErr,
    SupervisionEvent,
};
use serde_json::json;
use tokio::sync::{oneshot, watch};
use tokio::time::Instant;

use crate::agent::{AgentState, Registration};
use crate::bus::{EventBus, unix_ms};
use crate::directory::{Directory, RegisterError};
use crate::group;
use crate::mailbox::{AgentMsg, AgentPort};

/// What events of the registry say as their source.
const SOURCE: &str = "/registry";
/// How often is looked for agents to forget: often enough that the grace period is kept within a sixth.
const FORGET_EVERY: Duration = Duration::from_secs(10);
/// How long an unknown member may take to describe itself: a remote call takes 0.1 ms, a busy node some hundred.
const DESCRIBE_TIMEOUT: Duration = Duration::from_secs(5);
/// How long to wait for a registry that is being restarted.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// The directory of this node's registry.
pub type Agents = Directory<AgentPort>;

/// What the registry understands.
#[derive(Debug)]
pub enum RegistryMsg {
    /// From a supervisor that started an agent. Answered when the agent is in the directory, or with why not.
    Register(
        Box<Registration<AgentPort>>,
        RpcReplyPort<Result<(), RegisterError>>,
    ),
    /// From whoever stops an agent for good. Answered with whether it was there.
    Deregister(AgentId, RpcReplyPort<bool>),
    /// From a supervisor or an agent's shell: how the agent fares. Not answered.
    Report(AgentId, AgentState),
    /// From itself: what an unknown member of a group says about itself.
    Described(ActorCell, Result<AgentCard, String>),
    /// From its timer: forget who has been gone for long.
    Forget,
}

impl ractor::Message for RegistryMsg {}

/// The way to the registry and its directory. It outlives the actor: a restarted registry takes it up again, with
/// everybody who is still alive.
#[derive(Clone)]
pub struct RegistryHandle(Arc<Shared>);

struct Shared {
    scope: String,
    bus: EventBus,
    origin: Instant,
    directory: ArcSwap<Agents>,
    changed: watch::Sender<()>,
    actor: watch::Sender<Option<ActorRef<RegistryMsg>>>,
}

impl std::fmt::Debug for RegistryHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("RegistryHandle")
            .field(&self.0.scope)
            .finish()
    }
}

impl RegistryHandle {
    /// A handle with an empty directory and no actor yet. Process groups are global to the process: two registries that
    /// must not meet need two scopes.
    #[must_use]
    pub fn new(scope: impl Into<String>, bus: EventBus) -> Self {
        Self(Arc::new(Shared {
            scope: scope.into(),
            bus,
            origin: Instant::now(),
            directory: ArcSwap::default(),
            changed: watch::Sender::new(()),
            actor: watch::Sender::new(None),
        }))
    }

    /// Starts the actor, for the first time or again, linked to `supervisor`.
    ///
    /// # Errors
    /// [`SpawnErr`] when the supervisor is stopping.
    pub async fn spawn(
        &self,
        supervisor: Option<ActorCell>,
    ) -> Result<(ActorRef<RegistryMsg>, JoinHandle<()>), SpawnErr> {
        match supervisor {
            Some(supervisor) => {
                Actor::spawn_linked(None, RegistryActor, self.clone(), supervisor).await
            }
            None => Actor::spawn(None, RegistryActor, self.clone()).await,
        }
    }

    /// The directory as it is now, to keep.
    #[must_use]
    pub fn directory(&self) -> Arc<Agents> {
        self.0.directory.load_full()
    }

    /// The directory as it is now, to look something up: cheaper than [`Self::directory`], not to be held for long.
    #[must_use]
    pub fn load(&self) -> Guard<Arc<Agents>> {
        self.0.directory.load()
    }

    /// The scope of its process groups.
    #[must_use]
    pub fn scope(&self) -> &str {
        &self.0.scope
    }

    /// Lets an agent join; it is in the directory when this returns. Waits up to 5 s for a registry that is being
    /// restarted.
    ///
    /// # Errors
    /// [`RegisterError`] says why not.
    pub async fn register(
        &self,
        registration: Registration<AgentPort>,
    ) -> Result<(), RegisterError> {
        self.call(|reply| RegistryMsg::Register(Box::new(registration.clone()), reply))
            .await
            .unwrap_or(Err(RegisterError::Unavailable))
    }

    /// Takes an agent out of the directory. Says whether it was there.
    pub async fn deregister(&self, agent: &AgentId) -> bool {
        self.call(|reply| RegistryMsg::Deregister(agent.clone(), reply))
            .await
            .unwrap_or_default()
    }

    /// Says how an agent fares.
    pub fn report(&self, agent: &AgentId, state: AgentState) {
        if let Some(actor) = self.0.actor.borrow().as_ref() {
            // A report that meets a dying registry is lost; its successor looks for itself who is alive.
            let _ = actor.send_message(RegistryMsg::Report(agent.clone(), state));
        }
    }

    /// Waits until the directory fulfils a condition, and returns it.
    pub async fn wait_for(&self, mut condition: impl FnMut(&Agents) -> bool) -> Arc<Agents> {
        let mut changes = self.0.changed.subscribe();
        loop {
            let directory = self.directory();
            // The sender is in `self`, so that waiting for it cannot fail.
            if condition(&directory) || changes.changed().await.is_err() {
                return directory;
            }
        }
    }

    /// Asks the registry, or the one that follows when it dies before it answers.
    async fn call<T>(&self, message: impl Fn(RpcReplyPort<T>) -> RegistryMsg) -> Option<T> {
        let mut actors = self.0.actor.subscribe();
        let answer = async {
            loop {
                let actor = actors.wait_for(Option::is_some).await.ok()?.clone()?;
                let (reply, answer) = oneshot::channel();
                if actor.send_message(message(reply.into())).is_ok()
                    && let Ok(answer) = answer.await
                {
                    return Some(answer);
                }
                actors.changed().await.ok()?;
            }
        };
        tokio::time::timeout(ANSWER_TIMEOUT, answer).await.ok()?
    }

    fn now(&self) -> Duration {
        self.0.origin.elapsed()
    }
}

/// Keeps the directory. Start it with [`RegistryHandle::spawn`].
#[derive(Debug)]
pub struct RegistryActor;

/// What the registry knows beyond the directory.
#[derive(Debug)]
pub struct RegistryState {
    handle: RegistryHandle,
    directory: Agents,
    /// Which agent an actor is.
    members: HashMap<ActorId, (AgentId, u64)>,
    /// Who was asked for its card and has not answered yet.
    asked: HashSet<ActorId>,
    forget_timer: JoinHandle<()>,
}

impl Actor for RegistryActor {
    type Msg = RegistryMsg;
    type State = RegistryState;
    type Arguments = RegistryHandle;

    async fn pre_start(
        &self,
        myself: ActorRef<RegistryMsg>,
        handle: RegistryHandle,
    ) -> Result<RegistryState, ActorProcessingErr> {
        // First listen, then look: what changes in between is seen twice, which changes nothing.
        pg::monitor_scope(handle.0.scope.clone(), myself.get_cell());
        let mut state = RegistryState {
            directory: handle.directory().as_ref().clone(),
            members: HashMap::new(),
            asked: HashSet::new(),
            forget_timer: myself.send_interval(FORGET_EVERY, || RegistryMsg::Forget),
            handle,
        };
        state.recover(&myself);
        state.handle.0.actor.send_replace(Some(myself));
        Ok(state)
    }

    async fn handle(
        &self,
        _myself: ActorRef<RegistryMsg>,
        message: RegistryMsg,
        state: &mut RegistryState,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            RegistryMsg::Register(registration, reply) => {
                // Whoever gave up waiting asks again or has left.
                let _ = reply.send(state.register(*registration));
            }
            RegistryMsg::Deregister(agent, reply) => {
                let _ = reply.send(state.deregister(&agent));
            }
            RegistryMsg::Report(agent, fares) => {
                if state.directory.report(&agent, fares, state.handle.now()) {
                    state.publish();
                }
            }
            RegistryMsg::Described(actor, card) => state.described(actor, card),
            RegistryMsg::Forget => {
                if state.directory.forget(state.handle.now()) {
                    state.publish();
                }
            }
        }
        Ok(())
    }

    async fn handle_supervisor_evt(
        &self,
        myself: ActorRef<RegistryMsg>,
        event: SupervisionEvent,
        state: &mut RegistryState,
    ) -> Result<(), ActorProcessingErr> {
        if let SupervisionEvent::ProcessGroupChanged(change) = event
            && group::is_ours(&change.get_group())
        {
            match change {
                GroupChangeMessage::Join(_, _, actors) => {
                    actors
                        .into_iter()
                        .for_each(|actor| state.joined(&myself, actor));
                }
                GroupChangeMessage::Leave(_, _, actors) => {
                    actors.iter().for_each(|actor| state.left(actor));
                }
            }
        }
        Ok(())
    }

    async fn post_stop(
        &self,
        _myself: ActorRef<RegistryMsg>,
        state: &mut RegistryState,
    ) -> Result<(), ActorProcessingErr> {
        state.forget_timer.abort();
        Ok(())
    }
}

impl RegistryState {
    /// Takes over from the registry before: keeps who is alive, lets go of who is not, asks who is new.
    fn recover(&mut self, myself: &ActorRef<RegistryMsg>) {
        let scope = self.handle.0.scope.clone();
        let alive: HashMap<ActorId, ActorCell> = pg::which_scoped_groups(&scope)
            .iter()
            .filter(|group| group::is_ours(group))
            .flat_map(|group| pg::get_scoped_members(&scope, group))
            .map(|actor| (actor.get_id(), actor))
            .collect();
        let known: Vec<_> = self
            .directory
            .entries()
            .filter(|entry| entry.is_present())
            .cloned()
            .collect();
        for entry in known {
            let actor = entry.port.get_id();
            self.members
                .insert(actor, (entry.id().clone(), entry.incarnation));
            if !alive.contains_key(&actor) {
                self.left(&entry.port);
            }
        }
        for actor in alive.into_values() {
            self.joined(myself, actor);
        }
    }

    fn register(&mut self, registration: Registration<AgentPort>) -> Result<(), RegisterError> {
        let actor = registration.port.get_cell();
        let card = registration.card.clone();
        let incarnation = registration.incarnation;
        self.directory.register(registration, self.handle.now())?;
        let member = (card.id.clone(), incarnation);
        if self.members.insert(actor.get_id(), member).is_some() {
            return Ok(());
        }
        if actor.get_id().is_local() {
            group::join(&self.handle.0.scope, &card, &actor);
        }
        self.publish();
        self.announce(AGENT_REGISTER, &card, incarnation);
        if actor.get_status() >= ActorStatus::Stopping {
            // It may have died before it could join, and then no group says that it left.
            self.left(&actor);
        }
        Ok(())
    }

    fn deregister(&mut self, agent: &AgentId) -> bool {
        let Some(entry) = self
            .directory
            .agent(agent)
            .filter(|entry| entry.is_present())
        else {
            return false;
        };
        let actor = entry.port.get_cell();
        self.left(&actor);
        true
    }

    /// Somebody joined a group: an agent that registered here, or one of another node that nobody here knows yet.
    fn joined(&mut self, myself: &ActorRef<RegistryMsg>, actor: ActorCell) {
        let id = actor.get_id();
        // A local agent has a mailbox of its own and registers itself.
        let asks = actor.is_message_type_of::<AgentMsg>() != Some(false);
        if !asks || self.members.contains_key(&id) || !self.asked.insert(id) {
            return;
        }
        let myself = myself.clone();
        tokio::spawn(async move {
            let card = describe(&actor).await;
            // A registry that died meanwhile has a successor that asks again.
            let _ = myself.send_message(RegistryMsg::Described(actor, card));
        });
    }

    fn described(&mut self, actor: ActorCell, card: Result<AgentCard, String>) {
        self.asked.remove(&actor.get_id());
        let refused = match card {
            Ok(card) => {
                let port = ActorRef::<AgentMsg>::from(actor.clone()).get_derived();
                let registration = Registration::new(card, fastrand::u64(..), port);
                self.register(registration).err().map(|e| e.to_string())
            }
            Err(reason) => Some(reason),
        };
        if let Some(reason) = refused {
            tracing::warn!(actor = %actor.get_id(), %reason, "a member of a capability's group is no agent that can be used");
        }
    }

    /// An agent left one of its groups, or died: it leaves all of them and the directory.
    fn left(&mut self, actor: &ActorCell) {
        let Some((agent, incarnation)) = self.members.remove(&actor.get_id()) else {
            return;
        };
        if self.directory.leave(&agent, incarnation, self.handle.now())
            && let Some(card) = self.directory.agent(&agent).map(|e| Arc::clone(&e.card))
        {
            group::leave(&self.handle.0.scope, &card, actor);
            self.announce(AGENT_DEREGISTER, &card, incarnation);
            self.publish();
        }
    }

    fn publish(&self) {
        let shared = &self.handle.0;
        shared.directory.store(Arc::new(self.directory.clone()));
        shared.changed.send_replace(());
    }

    fn announce(&self, event_type: &'static str, card: &AgentCard, incarnation: u64) {
        self.handle.0.bus.publish(event_type, || {
            let names: Vec<_> = card.capabilities.iter().map(|c| &c.name).collect();
            let data = json!({
                "agent": card.id, "description": card.description, "capabilities": names, "incarnation": incarnation,
            });
            let id = format!("{}-{incarnation:x}-{event_type}", card.id);
            CloudEvent::new(event_type, SOURCE, id, data)
                .about(card.id.to_string())
                .at_unix_ms(unix_ms())
        });
    }
}

async fn describe(actor: &ActorCell) -> Result<AgentCard, String> {
    let agent = ActorRef::<AgentMsg>::from(actor.clone());
    let (reply, answer) = oneshot::channel();
    agent
        .send_message(AgentMsg::Describe((reply, DESCRIBE_TIMEOUT).into()))
        .map_err(|error| error.to_string())?;
    match tokio::time::timeout(DESCRIBE_TIMEOUT, answer).await {
        Err(_) => Err("it did not describe itself in time".to_owned()),
        Ok(Err(_)) => Err("it went away without describing itself".to_owned()),
        Ok(Ok(card)) => card.open().map_err(|error| error.to_string()),
    }
}

#[cfg(test)]
mod tests;
