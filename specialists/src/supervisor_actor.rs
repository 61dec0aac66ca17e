//! The supervisor's actor: starts each specialist as an agent, starts it again when it ends, gives up on one that ends too
//! often.
//!
//! Does not look into tasks and does not decide whether and when to restart; that is [`RestartBudget`].

use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use amcp_protocol::AgentId;
use amcp_registry::{
    AgentLoad, AgentMsg, AgentPort, AgentState, Decision, Entry, Exit, RegisterError, Registration,
    RegistryHandle, RestartBudget,
};
use ractor::{
    Actor, ActorCell, ActorProcessingErr, ActorRef, ActorStatus, RpcReplyPort, SupervisionEvent,
};
use tokio::time::Instant;

use crate::quarantine::SharedQuarantine;
use crate::shell::{AbortOnDrop, ShellArgs, ShellMsg, SpecialistActor};
use crate::shell_job::panic_text;
use crate::supervisor::{ChildSpec, Leftover, SupervisorConfig};

/// What the supervisor understands.
#[derive(Debug)]
pub(crate) enum SupervisorMsg {
    /// From its timers: start this child.
    Start(AgentId),
    /// From the task that starts a child: whether it runs.
    Started(AgentId, Result<ActorCell, NotStarted>),
    /// From the handle. Answered with whether the agent was running.
    Kill(AgentId, RpcReplyPort<bool>),
    /// From the handle. Answered when all agents have ended or the time is over.
    Drain(Duration, RpcReplyPort<Vec<Leftover>>),
    /// From its timer: the time for draining is over.
    DrainOver,
}

impl ractor::Message for SupervisorMsg {}

/// Why a child does not run.
#[derive(Debug)]
pub(crate) enum NotStarted {
    /// It may run when tried again.
    Failed(String),
    /// It will be refused again.
    Refused(RegisterError),
}

pub(crate) struct SupervisorActor;

pub(crate) struct SupervisorState {
    config: SupervisorConfig,
    children: BTreeMap<AgentId, Child>,
    quarantine: Arc<SharedQuarantine>,
    origin: Instant,
    /// From the first drain on nothing is started any more.
    closing: bool,
    /// Until all agents have ended or the time is over.
    draining: Option<Draining>,
}

struct Draining {
    reply: RpcReplyPort<Vec<Leftover>>,
    _timer: AbortOnDrop,
}

struct Child {
    spec: ChildSpec,
    budget: RestartBudget,
    load: Arc<AgentLoad>,
    ran: bool,
    phase: Phase,
}

enum Phase {
    Starting,
    Running(ActorCell),
    /// Until its timer rings.
    Waiting {
        _timer: AbortOnDrop,
    },
    Ended,
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
        let mut children = BTreeMap::new();
        for spec in &config.children {
            let child = Child {
                budget: RestartBudget::new(spec.policy),
                load: Arc::default(),
                ran: false,
                phase: Phase::Starting,
                spec: spec.clone(),
            };
            if children.insert(spec.id.clone(), child).is_some() {
                return Err(format!("the agent id '{}' is given twice", spec.id).into());
            }
            myself.send_message(SupervisorMsg::Start(spec.id.clone()))?;
        }
        Ok(SupervisorState {
            config,
            children,
            quarantine: Arc::default(),
            origin: Instant::now(),
            closing: false,
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
            SupervisorMsg::Start(agent) => state.start(&myself, &agent),
            SupervisorMsg::Started(agent, outcome) => {
                return state.started(&myself, &agent, outcome);
            }
            SupervisorMsg::Kill(agent, reply) => {
                // Whoever asked may not care.
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
        match event {
            SupervisionEvent::ActorTerminated(actor, _, reason) => {
                let exit = Exit::of_termination(reason.as_deref());
                let reason = reason.unwrap_or_else(|| "it stopped".to_owned());
                state.actor_ended(&myself, &actor, exit, &reason)
            }
            SupervisionEvent::ActorFailed(actor, error) => {
                state.actor_ended(&myself, &actor, Exit::Abnormal, &error.to_string())
            }
            SupervisionEvent::ActorStarted(_)
            | SupervisionEvent::ProcessGroupChanged(_)
            | SupervisionEvent::PidLifecycleEvent(_) => Ok(()),
        }
    }
}

impl SupervisorState {
    fn start(&mut self, myself: &ActorRef<SupervisorMsg>, agent: &AgentId) {
        let Some(child) = self.children.get_mut(agent) else {
            return;
        };
        if self.closing {
            // Its timer had rung when the drain came.
            return;
        }
        child.phase = Phase::Starting;
        let start = Start {
            spec: child.spec.clone(),
            load: Arc::clone(&child.load),
            quarantine: Arc::clone(&self.quarantine),
            registry: self.config.registry.clone(),
            supervisor: myself.get_cell(),
        };
        let myself = myself.clone();
        tokio::spawn(async move {
            let agent = start.spec.id.clone();
            let outcome = start.run().await;
            // A supervisor that is gone took the child with it.
            let _ = myself.send_message(SupervisorMsg::Started(agent, outcome));
        });
    }

    fn started(
        &mut self,
        myself: &ActorRef<SupervisorMsg>,
        agent: &AgentId,
        outcome: Result<ActorCell, NotStarted>,
    ) -> Result<(), ActorProcessingErr> {
        let Some(child) = self.children.get_mut(agent) else {
            return Ok(());
        };
        match outcome {
            Ok(actor) => {
                if std::mem::replace(&mut child.ran, true) {
                    child.load.restarts.fetch_add(1, Relaxed);
                }
                // Whoever dies now is noticed through its supervision event; whoever is dead already was not known then.
                let dead = actor.get_status() >= ActorStatus::Stopping;
                child.phase = Phase::Running(actor.clone());
                if dead {
                    return self.actor_ended(myself, &actor, Exit::Abnormal, "it ended at once");
                }
                if self.draining.is_some() {
                    tell_to_drain(&actor);
                } else if self.closing {
                    actor.kill();
                }
                Ok(())
            }
            Err(NotStarted::Failed(reason)) => self.ended(myself, agent, Exit::Abnormal, &reason),
            Err(NotStarted::Refused(error)) => self.give_up(agent, &error.to_string()),
        }
    }

    fn actor_ended(
        &mut self,
        myself: &ActorRef<SupervisorMsg>,
        actor: &ActorCell,
        exit: Exit,
        reason: &str,
    ) -> Result<(), ActorProcessingErr> {
        let is_it = |child: &Child| matches!(&child.phase, Phase::Running(its) if its == actor);
        let ended = self.children.iter().find(|(_, child)| is_it(child));
        match ended.map(|(agent, _)| agent.clone()) {
            Some(agent) => self.ended(myself, &agent, exit, reason),
            // One that ended before it was known to run; `started` finds it dead.
            None => Ok(()),
        }
    }

    /// A child does not run any more, or did not start.
    fn ended(
        &mut self,
        myself: &ActorRef<SupervisorMsg>,
        agent: &AgentId,
        exit: Exit,
        reason: &str,
    ) -> Result<(), ActorProcessingErr> {
        let Some(child) = self.children.get_mut(agent) else {
            return Ok(());
        };
        child.phase = Phase::Ended;
        let registry = &self.config.registry;
        if self.closing {
            report(registry, agent, child, AgentState::Left);
            self.finish_drain_if_over();
            return Ok(());
        }
        let now = self.origin.elapsed();
        match child.budget.decide(exit, now, fastrand::u64(..)) {
            Decision::Restart { after } => {
                tracing::warn!(%agent, %reason, ?after, "an agent ended and is restarted");
                report(registry, agent, child, AgentState::Restarting);
                let message = SupervisorMsg::Start(agent.clone());
                child.phase = Phase::Waiting {
                    _timer: send_later(myself, after, message),
                };
                Ok(())
            }
            Decision::Leave => {
                tracing::info!(%agent, %reason, "an agent ended");
                report(registry, agent, child, AgentState::Left);
                Ok(())
            }
            Decision::CoolDown { after } => {
                tracing::error!(%agent, %reason, ?after, "an agent ended too often and cools down");
                if is_ours(registry, agent, child) {
                    registry.report_cooling(agent, after);
                }
                let message = SupervisorMsg::Start(agent.clone());
                child.phase = Phase::Waiting {
                    _timer: send_later(myself, after, message),
                };
                Ok(())
            }
        }
    }

    fn give_up(&mut self, agent: &AgentId, reason: &str) -> Result<(), ActorProcessingErr> {
        tracing::error!(%agent, %reason, "an agent is given up");
        if let Some(child) = self.children.get_mut(agent) {
            child.phase = Phase::Ended;
            let registry = &self.config.registry;
            report(registry, agent, child, AgentState::GivenUp);
        }
        self.finish_drain_if_over();
        Ok(())
    }

    fn kill(&self, agent: &AgentId) -> bool {
        match self.children.get(agent).map(|child| &child.phase) {
            Some(Phase::Running(actor)) => {
                actor.kill();
                true
            }
            Some(Phase::Starting | Phase::Waiting { .. } | Phase::Ended) | None => false,
        }
    }

    fn drain(
        &mut self,
        myself: &ActorRef<SupervisorMsg>,
        within: Duration,
        reply: RpcReplyPort<Vec<Leftover>>,
    ) {
        if std::mem::replace(&mut self.closing, true) {
            // Somebody drains already; who asks again is told that nothing of his was cut off.
            return;
        }
        for child in self.children.values_mut() {
            match &child.phase {
                Phase::Running(actor) => tell_to_drain(actor),
                Phase::Waiting { .. } => child.phase = Phase::Ended,
                Phase::Starting | Phase::Ended => (),
            }
        }
        self.draining = Some(Draining {
            reply,
            _timer: send_later(myself, within, SupervisorMsg::DrainOver),
        });
        self.finish_drain_if_over();
    }

    fn finish_drain_if_over(&mut self) {
        let over = |child: &Child| matches!(child.phase, Phase::Ended);
        if self.children.values().all(over)
            && let Some(draining) = self.draining.take()
        {
            // Whoever asked may have given up waiting.
            let _ = draining.reply.send(Vec::new());
        }
    }

    fn drain_over(&mut self) {
        let Some(draining) = self.draining.take() else {
            return;
        };
        let mut left = Vec::new();
        for (agent, child) in &mut self.children {
            if let Phase::Running(actor) = std::mem::replace(&mut child.phase, Phase::Ended) {
                let tasks = child.load.queued.load(Relaxed) + child.load.running.load(Relaxed);
                report(&self.config.registry, agent, child, AgentState::Left);
                let agent = agent.clone();
                left.push(Leftover { agent, tasks });
                actor.kill();
            }
        }
        // Whoever asked may have given up waiting.
        let _ = draining.reply.send(left);
    }
}

/// Says how a child fares, unless its id belongs to somebody else's agent.
fn report(registry: &RegistryHandle, agent: &AgentId, child: &Child, state: AgentState) {
    if is_ours(registry, agent, child) {
        registry.report(agent, state);
    }
}

fn is_ours(registry: &RegistryHandle, agent: &AgentId, child: &Child) -> bool {
    let directory = registry.load();
    let theirs =
        |entry: &Entry<AgentPort>| entry.is_present() && !Arc::ptr_eq(&entry.load, &child.load);
    !directory.agent(agent).is_some_and(|entry| theirs(entry))
}

fn tell_to_drain(actor: &ActorCell) {
    // One that is gone has nothing left to end.
    let _ = ActorRef::<ShellMsg>::from(actor.clone()).send_message(AgentMsg::Drain.into());
}

fn send_later(
    to: &ActorRef<SupervisorMsg>,
    after: Duration,
    message: SupervisorMsg,
) -> AbortOnDrop {
    let to = to.clone();
    AbortOnDrop(tokio::spawn(async move {
        tokio::time::sleep(after).await;
        // A supervisor that is gone needs no timer.
        let _ = to.send_message(message);
    }))
}

/// A child on its way to being an agent.
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
            NotStarted::Refused(RegisterError::Card { agent, source })
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
                shell.stop(Some("it could not be registered".to_owned()));
                Err(match error {
                    // The agent of a supervisor that just failed may still be on its way out.
                    RegisterError::AlreadyRegistered(_) | RegisterError::Unavailable => {
                        NotStarted::Failed(error.to_string())
                    }
                    RegisterError::Card { .. } | RegisterError::NameClash { .. } => {
                        NotStarted::Refused(error)
                    }
                })
            }
        }
    }
}
