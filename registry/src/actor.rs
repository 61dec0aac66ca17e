//! The `RegistryActor` keeps the node's [`Directory`] true: agents register, their process group reports deaths, and links
//! report the agents of other nodes.
//!
//! Does not answer look-ups: readers take the published snapshot. Does not start or restart agents.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use amcp_protocol::event::{AGENT_DEREGISTER, AGENT_REGISTER};
use amcp_protocol::{
    AgentCard, AgentId, CallReport, CloudEvent, Grant, Payload, Permissions, RequestId,
};
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

use crate::agent::{AgentState, Entry, Registration};
use crate::bus::{EventBus, unix_ms};
use crate::directory::{Change, Directory, RegisterError};
use crate::group;
use crate::mailbox::AgentPort;
use crate::roster::RosterChange;

/// The source of the registry's events.
const SOURCE: &str = "/registry";
/// The pause between two searches for agents to forget: no agent stays more than a sixth longer than the grace period.
const FORGET_EVERY: Duration = Duration::from_secs(10);
/// How long a caller waits for a registry that restarts.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// The directory of this node's registry.
pub type Agents = Directory<AgentPort>;

/// The registry's mailbox.
#[derive(Debug)]
pub enum RegistryMsg {
    /// From a supervisor that started an agent. Answered when readers see the agent in the directory, or with the refusal.
    Register(
        Box<Registration<AgentPort>>,
        RpcReplyPort<Result<(), RegisterError>>,
    ),
    /// From the party that stops an agent for good. Answered with whether the agent was there.
    Deregister(AgentId, RpcReplyPort<bool>),
    /// From a supervisor or an agent's shell: how the agent fares. Not answered.
    Report(AgentId, AgentState),
    /// From a supervisor: the agent cools down until this time, in milliseconds since 1970. Not answered.
    Cools(AgentId, i64),
    /// From the link to another node: changes among its agents. Not answered.
    Roster(Box<RosterChange>),
    /// From itself: publish the changed directory.
    Publish,
    /// From its timer: forget agents that left long ago.
    Forget,
}

impl ractor::Message for RegistryMsg {}

/// The way to the registry and its directory. It outlives the actor: a restarted registry takes it over, with every agent
/// that is still alive.
#[derive(Clone)]
pub struct RegistryHandle(Arc<Shared>);

/// Hears of the calls that agents of this node make of others: in which request and for whom, the end, and the params. Must not block.
pub type CallHeard = Box<dyn Fn((RequestId, &Grant), &CallReport, &Payload) + Send + Sync>;

struct Shared {
    scope: String,
    bus: EventBus,
    origin: Instant,
    directory: ArcSwap<Agents>,
    permissions: ArcSwap<Permissions>,
    calls: OnceLock<CallHeard>,
    changed: watch::Sender<()>,
    actor: watch::Sender<Option<ActorRef<RegistryMsg>>>,
}

amcp_protocol::opaque_debug!(RegistryHandle);

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
            permissions: ArcSwap::default(),
            calls: OnceLock::new(),
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

    /// The current directory, to keep.
    #[must_use]
    pub fn directory(&self) -> Arc<Agents> {
        self.0.directory.load_full()
    }

    /// The current directory, for a short look-up: cheaper than [`Self::directory`]; do not hold it for long.
    #[must_use]
    pub fn load(&self) -> Guard<Arc<Agents>> {
        self.0.directory.load()
    }

    /// Who may use what on this node, at the moment.
    #[must_use]
    pub fn permissions(&self) -> Arc<Permissions> {
        self.0.permissions.load_full()
    }

    /// Replaces the node's permissions; tasks that are dispatched, begun or called from now on are judged by them.
    pub fn permit(&self, permissions: Permissions) {
        self.0.permissions.store(Arc::new(permissions));
    }

    /// Tells this of every call from now on. Only the first one counts.
    pub fn calls_heard_by(&self, hear: CallHeard) {
        let _ = self.0.calls.set(hear);
    }

    /// Tells of a call that has ended.
    pub fn called(&self, of: (RequestId, &Grant), call: &CallReport, params: &Payload) {
        if let Some(hear) = self.0.calls.get() {
            hear(of, call, params);
        }
    }

    /// The event bus on which the registry announces agents.
    #[must_use]
    pub fn bus(&self) -> &EventBus {
        &self.0.bus
    }

    /// The scope of its process groups.
    #[must_use]
    pub fn scope(&self) -> &str {
        &self.0.scope
    }

    /// Lets an agent join; readers see it in the directory when this returns. Waits up to 5 s for a registry that restarts.
    ///
    /// # Errors
    /// The [`RegisterError`] with which the registry refuses the agent.
    pub async fn register(
        &self,
        registration: Registration<AgentPort>,
    ) -> Result<(), RegisterError> {
        self.call(|reply| RegistryMsg::Register(Box::new(registration.clone()), reply))
            .await
            .unwrap_or(Err(RegisterError::Unavailable))
    }

    /// Takes an agent out of the directory. Returns whether it was there.
    pub async fn deregister(&self, agent: &AgentId) -> bool {
        self.call(|reply| RegistryMsg::Deregister(agent.clone(), reply))
            .await
            .unwrap_or_default()
    }

    /// Passes on changes among another node's agents. A registry that restarts misses them: [`Self::incumbents`] tells when to
    /// send a full account.
    pub fn tell_roster(&self, change: RosterChange) {
        self.tell(RegistryMsg::Roster(Box::new(change)));
    }

    /// Changes whenever a registry actor starts work.
    #[must_use]
    pub fn incumbents(&self) -> watch::Receiver<Option<ActorRef<RegistryMsg>>> {
        self.0.actor.subscribe()
    }

    /// Completes at the next change of the directory.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<()> {
        self.0.changed.subscribe()
    }

    /// Reports an agent's new state.
    pub fn report(&self, agent: &AgentId, state: AgentState) {
        self.tell(RegistryMsg::Report(agent.clone(), state));
    }

    /// Reports an agent that failed too often and starts again after this time.
    pub fn report_cooling(&self, agent: &AgentId, after: Duration) {
        let after = i64::try_from(after.as_millis()).unwrap_or(i64::MAX);
        let again_at = unix_ms().saturating_add(after);
        self.tell(RegistryMsg::Cools(agent.clone(), again_at));
    }

    /// A message to a dying registry is lost; its successor checks the agents itself.
    fn tell(&self, message: RegistryMsg) {
        if let Some(actor) = self.0.actor.borrow().as_ref() {
            let _ = actor.send_message(message);
        }
    }

    /// Waits until the directory fulfils a condition, and returns it.
    pub async fn wait_for(&self, mut condition: impl FnMut(&Agents) -> bool) -> Arc<Agents> {
        let mut changes = self.0.changed.subscribe();
        loop {
            let directory = self.directory();
            // `self` holds the sender, so this wait cannot fail.
            if condition(&directory) || changes.changed().await.is_err() {
                return directory;
            }
        }
    }

    /// Asks the registry, or its successor if the registry dies before it answers.
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
pub(crate) struct RegistryActor;

/// The registry's state beside the published directory.
pub(crate) struct RegistryState {
    handle: RegistryHandle,
    directory: Agents,
    /// The agents' ids and incarnations, by actor.
    members: HashMap<ActorId, (AgentId, u64)>,
    /// Callers to answer once readers see the change; while there is a change, a [`RegistryMsg::Publish`] is on its way.
    waiting: Vec<Box<dyn FnOnce() + Send>>,
    dirty: bool,
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
        // Subscribe before the first look: a change in between is seen twice, which does no harm.
        pg::monitor_scope(handle.0.scope.clone(), myself.get_cell());
        let mut state = RegistryState {
            directory: handle.directory().as_ref().clone(),
            members: HashMap::new(),
            waiting: Vec::new(),
            dirty: false,
            forget_timer: myself.send_interval(FORGET_EVERY, || RegistryMsg::Forget),
            handle,
        };
        state.recover();
        state.publish();
        state.handle.0.actor.send_replace(Some(myself));
        Ok(state)
    }

    async fn handle(
        &self,
        myself: ActorRef<RegistryMsg>,
        message: RegistryMsg,
        state: &mut RegistryState,
    ) -> Result<(), ActorProcessingErr> {
        let now = state.handle.now();
        let changed = match message {
            RegistryMsg::Register(registration, reply) => {
                let outcome = state.register(*registration);
                // A caller that stopped waiting asks again or has left; so below.
                let tell = move || drop(reply.send(outcome));
                state.waiting.push(Box::new(tell));
                true
            }
            RegistryMsg::Deregister(agent, reply) => {
                let there = state.deregister(&agent);
                state
                    .waiting
                    .push(Box::new(move || drop(reply.send(there))));
                true
            }
            RegistryMsg::Roster(change) => {
                state.roster(*change);
                true
            }
            RegistryMsg::Report(agent, fares) => state.directory.report(&agent, fares, now),
            RegistryMsg::Cools(agent, again_at) => {
                state.directory.cools(&agent, again_at, now);
                true
            }
            RegistryMsg::Forget => state.directory.forget(now),
            RegistryMsg::Publish => {
                state.publish();
                false
            }
        };
        if changed {
            state.settle();
            state.publish_soon(&myself);
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
            && change.get_group() == group::AGENTS
            && let GroupChangeMessage::Leave(_, _, actors) = change
        {
            for actor in actors {
                state.left(&actor);
            }
            state.settle();
            state.publish_soon(&myself);
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
    /// Takes over from the previous registry: keeps the living agents, drops the others.
    fn recover(&mut self) {
        let scope = self.handle.0.scope.clone();
        let members = pg::get_scoped_members(&scope, &group::AGENTS.to_owned());
        let alive: HashSet<ActorId> = members.iter().map(ActorCell::get_id).collect();
        let known: Vec<_> = self
            .directory
            .entries()
            .filter(|entry| entry.is_present())
            .cloned()
            .collect();
        for entry in known {
            let member = (entry.id().clone(), entry.incarnation);
            match entry.port.actor() {
                Some(actor) => {
                    self.members.insert(actor.get_id(), member);
                    if !alive.contains(&actor.get_id()) {
                        self.left(&actor);
                    }
                }
                None if entry.port.is_open() => {}
                None => {
                    let now = self.handle.now();
                    self.directory.leave(&member.0, member.1, now);
                }
            }
        }
        self.settle();
    }

    fn register(&mut self, registration: Registration<AgentPort>) -> Result<(), RegisterError> {
        let actor = registration.port.actor();
        let member = (registration.card.id.clone(), registration.incarnation);
        let waited = self.directory.waiting();
        self.directory.register(registration, self.handle.now())?;
        if self.directory.waiting() > waited {
            let agent = &member.0;
            tracing::warn!(%agent, "agents of other nodes have this agent's id or another contract; they wait until this agent leaves");
        }
        if let Some(actor) = actor
            && self.members.insert(actor.get_id(), member).is_none()
        {
            group::join(&self.handle.0.scope, &actor);
            if actor.get_status() >= ActorStatus::Stopping {
                // An agent that died before it joined the group causes no event of the group.
                self.left(&actor);
            }
        }
        Ok(())
    }

    fn deregister(&mut self, agent: &AgentId) -> bool {
        let there = |entry: &&Arc<Entry<AgentPort>>| entry.is_present();
        let Some(entry) = self.directory.agent(agent).filter(there).cloned() else {
            return false;
        };
        match entry.port.actor() {
            Some(actor) => self.left(&actor),
            None => drop(
                self.directory
                    .leave(agent, entry.incarnation, self.handle.now()),
            ),
        }
        true
    }

    fn roster(&mut self, change: RosterChange) {
        let (node, now) = (&change.node, self.handle.now());
        let directory = &mut self.directory;
        if change.lost {
            directory.lose(node, now);
        }
        if change.begin_whole {
            directory.begin_whole(node);
        }
        for (agent, incarnation) in change.left {
            directory.leave_from(node, &agent, incarnation, now);
        }
        let mut refused = Vec::new();
        for joins in change.joined {
            // A link that has closed since took its agents with it.
            if joins.0.port.is_open() {
                refused.extend(directory.join_from(node, joins, now).err());
            }
        }
        if let Some(first) = refused.first() {
            // One line for all: there may be thousands of agents of one kind.
            let agents = refused.len();
            tracing::warn!(%node, agents, %first, "the directory refuses agents of another node");
        }
        for (agent, fares) in change.fares {
            directory.report_from(node, &agent, fares, now);
        }
        if change.end_whole {
            directory.end_whole(node, now);
        }
    }

    /// An agent of this node left its group, or died: it leaves the directory.
    fn left(&mut self, actor: &ActorCell) {
        if let Some((agent, incarnation)) = self.members.remove(&actor.get_id()) {
            group::leave(&self.handle.0.scope, actor);
            self.directory.leave(&agent, incarnation, self.handle.now());
        }
    }

    /// Lets refused agents join that have room now, and announces all joins and departures on the bus.
    fn settle(&mut self) {
        let now = self.handle.now();
        for change in self.directory.settle(AgentPort::is_open, now) {
            let (event_type, entry) = match change {
                Change::Joined(entry) => (AGENT_REGISTER, entry),
                Change::Left(entry) => (AGENT_DEREGISTER, entry),
            };
            self.announce(event_type, &entry.card, entry.incarnation);
        }
    }

    /// Publishing costs a copy of the directory's tables, so changes that arrive together are published together.
    fn publish_soon(&mut self, myself: &ActorRef<RegistryMsg>) {
        if !std::mem::replace(&mut self.dirty, true) {
            // An actor that is stopping publishes nothing; its successor does.
            let _ = myself.send_message(RegistryMsg::Publish);
        }
    }

    fn publish(&mut self) {
        self.dirty = false;
        let shared = &self.handle.0;
        shared.directory.store(Arc::new(self.directory.clone()));
        shared.changed.send_replace(());
        self.waiting.drain(..).for_each(|tell| tell());
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

#[cfg(test)]
mod tests;
