//! The supervisor's actor: starts each specialist as an agent, restarts it when it ends, and reports its state to the registry.
//!
//! Does not look into tasks and does not decide whether and when to restart; its [`Children`] do.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use amcp_protocol::AgentId;
use amcp_registry::{
    AgentLoad, AgentMsg, AgentPort, AgentState, Decision, Entry, RegisterError, Registration,
    RegistryHandle,
};
use ractor::{
    Actor, ActorCell, ActorId, ActorProcessingErr, ActorRef, RpcReplyPort, SupervisionEvent,
};
use tokio_util::task::AbortOnDropHandle;

use super::children::{ChildMsg, ChildNews, Children, NotStarted, send_later};
use super::{ChildSpec, Leftover, SupervisorConfig};
use crate::quarantine::SharedQuarantine;
use crate::shell::panic_text;
use crate::shell::{ShellArgs, ShellMsg, SpecialistActor};

/// The supervisor's mailbox.
#[derive(Debug)]
pub(crate) enum SupervisorMsg {
    /// From its timers and the tasks that start children.
    Child(ChildMsg<AgentId>),
    /// From the handle. Answered with whether the agent was running.
    Kill(AgentId, RpcReplyPort<bool>),
    /// From the handle. Answered when all agents have ended or the time is over.
    Drain(Duration, RpcReplyPort<Vec<Leftover>>),
    /// From its timer: the time for draining is over.
    DrainOver,
}

impl ractor::Message for SupervisorMsg {}

impl From<ChildMsg<AgentId>> for SupervisorMsg {
    fn from(message: ChildMsg<AgentId>) -> Self {
        Self::Child(message)
    }
}

pub(crate) struct SupervisorActor;

pub(crate) struct SupervisorState {
    registry: RegistryHandle,
    children: Children<AgentId, Agent>,
    quarantine: Arc<SharedQuarantine>,
    /// A drain that waits until all agents have ended or its time is over.
    draining: Option<Draining>,
}

struct Draining {
    reply: RpcReplyPort<Vec<Leftover>>,
    _timer: AbortOnDropHandle<()>,
}

struct Agent {
    spec: ChildSpec,
    load: Arc<AgentLoad>,
    ran: bool,
    /// The agent's last killed actor: its end may not have been noticed yet.
    killed: Option<ActorId>,
}

impl Actor for SupervisorActor {
    type Msg = SupervisorMsg;
    type State = SupervisorState;
    type Arguments = SupervisorConfig;

    async fn pre_start(
        &self,
        myself: ActorRef<SupervisorMsg>,
        config: SupervisorConfig,
    ) -> Result<SupervisorState, ActorProcessingErr> {
        let mut children = Children::default();
        for spec in config.children {
            let (id, policy) = (spec.id.clone(), spec.policy);
            let agent = Agent {
                spec,
                load: Arc::default(),
                ran: false,
                killed: None,
            };
            if !children.add(id.clone(), agent, policy) {
                return Err(format!("two children have the agent id '{id}'").into());
            }
            myself.send_message(ChildMsg::Start(id).into())?;
        }
        Ok(SupervisorState {
            registry: config.registry,
            children,
            quarantine: Arc::default(),
            draining: None,
        })
    }

    async fn handle(
        &self,
        myself: ActorRef<SupervisorMsg>,
        message: SupervisorMsg,
        state: &mut SupervisorState,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            SupervisorMsg::Child(ChildMsg::Start(agent)) => state.start(&myself, agent),
            SupervisorMsg::Child(ChildMsg::Started(agent, outcome)) => {
                if let Some(news) = state.children.started(&myself, &agent, outcome) {
                    state.heard(&agent, news);
                }
            }
            SupervisorMsg::Kill(agent, reply) => {
                // The caller may not wait for the reply.
                let _ = reply.send(state.kill(&agent));
            }
            SupervisorMsg::Drain(within, reply) => state.drain(&myself, within, reply),
            SupervisorMsg::DrainOver => state.drain_over(),
        }
        Ok(())
    }

    async fn handle_supervisor_evt(
        &self,
        myself: ActorRef<SupervisorMsg>,
        event: SupervisionEvent,
        state: &mut SupervisorState,
    ) -> Result<(), ActorProcessingErr> {
        if let Some((agent, news)) = state.children.event(&myself, event) {
            state.heard(&agent, news);
        }
        Ok(())
    }
}

impl SupervisorState {
    fn kill(&mut self, id: &AgentId) -> bool {
        let running = self.children.running(id).cloned();
        let Some((actor, agent)) = running.zip(self.children.get_mut(id)) else {
            return false;
        };
        actor.kill();
        agent.killed.replace(actor.get_id()) != Some(actor.get_id())
    }

    fn start(&mut self, myself: &ActorRef<SupervisorMsg>, id: AgentId) {
        let Some(agent) = self.children.get(&id) else {
            return;
        };
        let start = Start {
            spec: agent.spec.clone(),
            load: Arc::clone(&agent.load),
            quarantine: Arc::clone(&self.quarantine),
            registry: self.registry.clone(),
            supervisor: myself.get_cell(),
        };
        self.children.start(myself, id, start.run());
    }

    /// Reports news of an agent to the registry, and ends a drain with the last agent.
    fn heard(&mut self, agent: &AgentId, news: ChildNews) {
        match news {
            ChildNews::Runs(actor) => self.runs(agent, &actor),
            ChildNews::Ended(Decision::Restart { after }, reason) => {
                tracing::warn!(%agent, %reason, ?after, "an agent ended and restarts");
                self.report(agent, AgentState::Restarting);
            }
            ChildNews::Ended(Decision::CoolDown { after }, reason) => {
                tracing::error!(%agent, %reason, ?after, "an agent ended too often and cools down");
                if self.is_ours(agent) {
                    self.registry.report_cooling(agent, after);
                }
            }
            ChildNews::Ended(Decision::Leave, reason) => {
                tracing::info!(%agent, %reason, "an agent ended");
                self.report(agent, AgentState::Left);
            }
            ChildNews::Refused(reason) => {
                tracing::error!(%agent, %reason, "the supervisor gives up an agent");
                self.report(agent, AgentState::GivenUp);
            }
        }
        self.finish_drain_if_over();
    }

    fn runs(&mut self, id: &AgentId, actor: &ActorCell) {
        if let Some(agent) = self.children.get_mut(id)
            && std::mem::replace(&mut agent.ran, true)
        {
            agent.load.restarts.fetch_add(1, Relaxed);
        }
        if self.draining.is_some() {
            tell_to_drain(actor);
        } else if self.children.is_closing() {
            actor.kill();
        }
    }

    /// Reports a child's state, unless another agent has its id.
    fn report(&self, agent: &AgentId, state: AgentState) {
        if self.is_ours(agent) {
            self.registry.report(agent, state);
        }
    }

    fn is_ours(&self, id: &AgentId) -> bool {
        let Some(agent) = self.children.get(id) else {
            return false;
        };
        let directory = self.registry.load();
        let theirs =
            |entry: &Entry<AgentPort>| entry.is_present() && !Arc::ptr_eq(&entry.load, &agent.load);
        !directory.agent(id).is_some_and(|entry| theirs(entry))
    }

    fn drain(
        &mut self,
        myself: &ActorRef<SupervisorMsg>,
        within: Duration,
        reply: RpcReplyPort<Vec<Leftover>>,
    ) {
        if !self.children.close() {
            // A drain is under way; the second caller does not learn which tasks it cuts off.
            return;
        }
        for (_, _, actor) in self.children.all_running() {
            tell_to_drain(actor);
        }
        self.draining = Some(Draining {
            reply,
            _timer: send_later(myself, within, SupervisorMsg::DrainOver),
        });
        self.finish_drain_if_over();
    }

    fn finish_drain_if_over(&mut self) {
        if self.children.all_ended()
            && let Some(draining) = self.draining.take()
        {
            // The caller may have stopped waiting.
            let _ = draining.reply.send(Vec::new());
        }
    }

    fn drain_over(&mut self) {
        let Some(draining) = self.draining.take() else {
            return;
        };
        let mut left = Vec::new();
        for (id, agent, actor) in self.children.all_running() {
            let tasks = agent.load.queued.load(Relaxed) + agent.load.running.load(Relaxed);
            self.report(id, AgentState::Left);
            let agent = id.clone();
            left.push(Leftover { agent, tasks });
            actor.kill();
        }
        // The caller may have stopped waiting.
        let _ = draining.reply.send(left);
    }
}

fn tell_to_drain(actor: &ActorCell) {
    // An actor that has ended has no tasks left.
    let _ = ActorRef::<ShellMsg>::from(actor.clone()).send_message(AgentMsg::Drain.into());
}

/// The start of a child as an agent.
struct Start {
    spec: ChildSpec,
    load: Arc<AgentLoad>,
    quarantine: Arc<SharedQuarantine>,
    registry: RegistryHandle,
    supervisor: ActorCell,
}

impl Start {
    async fn run(self) -> Result<ActorCell, NotStarted> {
        let factory = Arc::clone(&self.spec.factory);
        let agent = self.spec.id.clone();
        let made = tokio::task::spawn_blocking(move || {
            std::panic::catch_unwind(AssertUnwindSafe(|| {
                let specialist = factory();
                let mut card = specialist.card();
                card.id = agent;
                let contracts = card.contracts();
                (specialist, card, contracts)
            }))
        });
        let (specialist, card, contracts) = made
            .await
            .map_err(|error| NotStarted::Failed(error.to_string()))?
            .map_err(|panic| NotStarted::Failed(panic_text(panic.as_ref())))?;
        let contracts = contracts.map_err(|source| {
            let agent = self.spec.id.clone();
            NotStarted::Refused(RegisterError::Card { agent, source }.to_string())
        })?;
        let incarnation = fastrand::u64(..);
        let args = ShellArgs {
            specialist,
            card: card.clone(),
            contracts,
            incarnation,
            load: Arc::clone(&self.load),
            quarantine: self.quarantine,
            registry: self.registry.clone(),
            limits: self.spec.limits,
        };
        let (shell, _) = Actor::spawn_linked(None, SpecialistActor, args, self.supervisor)
            .await
            .map_err(|error| NotStarted::Failed(error.to_string()))?;
        let registered = self.registry.register(Registration {
            card,
            incarnation,
            port: shell.get_derived().into(),
            node: None,
            load: self.load,
        });
        match registered.await {
            Ok(()) => Ok(shell.get_cell()),
            Err(error) => {
                shell.stop(Some("the registry refused it".to_owned()));
                Err(match error {
                    // The old agent of a supervisor that has just failed may not have left yet.
                    RegisterError::AlreadyRegistered(_) | RegisterError::Unavailable => {
                        NotStarted::Failed(error.to_string())
                    }
                    RegisterError::Card { .. }
                    | RegisterError::NameClash { .. }
                    | RegisterError::Reserved { .. } => NotStarted::Refused(error.to_string()),
                })
            }
        }
    }
}
