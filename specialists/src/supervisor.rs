//! The supervisor of a node's specialists, as others see it: what it keeps alive, and the way to it.
//!
//! Does not decide whether and when to restart; that is the registry crate's restart budget, and the actor acts on it.

mod actor;
pub mod children;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use amcp_protocol::AgentId;
use amcp_registry::{AgentState, AgentStatus, Agents, RegistryHandle, RestartPolicy};
use ractor::{Actor, ActorCell, ActorRef, RpcReplyPort, SpawnErr};
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

use crate::shell::ShellLimits;
use crate::specialist::Specialist;
use actor::{SupervisorActor, SupervisorMsg};

/// Makes a specialist: a fresh value for each start, so that nothing of a broken one survives. Called on a thread that may
/// block.
pub type Factory = Arc<dyn Fn() -> Arc<dyn Specialist> + Send + Sync>;

/// An agent to be kept alive.
#[derive(Clone)]
pub struct ChildSpec {
    /// The agent's id; the card's own is replaced, so that one specialist can serve as several agents.
    pub id: AgentId,
    /// Makes its specialist.
    pub factory: Factory,
    /// When, how often and how fast it is started again.
    pub policy: RestartPolicy,
    /// What its shell allows.
    pub limits: ShellLimits,
}

impl ChildSpec {
    /// A permanent child with the default restart policy and limits.
    ///
    /// # Panics
    /// When `id` is no agent id: it is written in the source.
    #[must_use]
    pub fn new<S: Specialist>(id: &str, make: impl Fn() -> S + Send + Sync + 'static) -> Self {
        Self {
            id: AgentId::new(id).expect("an agent id in the source is valid"),
            factory: Arc::new(move || Arc::new(make())),
            policy: RestartPolicy::default(),
            limits: ShellLimits::default(),
        }
    }

    /// The same, with another restart policy.
    #[must_use]
    pub const fn policy(mut self, policy: RestartPolicy) -> Self {
        self.policy = policy;
        self
    }

    /// The same, with other limits.
    #[must_use]
    pub const fn limits(mut self, limits: ShellLimits) -> Self {
        self.limits = limits;
        self
    }
}

impl fmt::Debug for ChildSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChildSpec")
            .field("id", &self.id)
            .field("policy", &self.policy)
            .finish_non_exhaustive()
    }
}

/// A supervisor to be.
#[derive(Debug, Clone)]
pub struct SupervisorConfig {
    /// Where agents register.
    pub registry: RegistryHandle,
    /// Who is kept alive; ids are distinct.
    pub children: Vec<ChildSpec>,
}

impl SupervisorConfig {
    /// One for one: a specialist that fails does not cost the others. A specialist that fails too often cools down and starts
    /// again.
    #[must_use]
    pub const fn new(registry: RegistryHandle, children: Vec<ChildSpec>) -> Self {
        Self { registry, children }
    }

    /// Starts the supervisor, linked to `parent`. It returns at once; [`SupervisorHandle::settled`] waits for the agents.
    ///
    /// # Errors
    /// [`SpawnErr`] when the parent is stopping.
    pub async fn start(self, parent: Option<ActorCell>) -> Result<SupervisorHandle, SpawnErr> {
        let registry = self.registry.clone();
        let mut agents: Vec<_> = self.children.iter().map(|child| child.id.clone()).collect();
        agents.sort_unstable();
        let (actor, _) = match parent {
            Some(parent) => Actor::spawn_linked(None, SupervisorActor, self, parent).await?,
            None => Actor::spawn(None, SupervisorActor, self).await?,
        };
        Ok(SupervisorHandle {
            actor,
            registry,
            agents: agents.into(),
        })
    }
}

/// What a drain had to cut off.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Leftover {
    /// Whose tasks.
    pub agent: AgentId,
    /// How many were queued or worked on.
    pub tasks: u32,
}

/// The way to a supervisor.
#[derive(Debug, Clone)]
pub struct SupervisorHandle {
    actor: ActorRef<SupervisorMsg>,
    registry: RegistryHandle,
    agents: Arc<[AgentId]>,
}

impl SupervisorHandle {
    /// The supervisor's actor, to be watched or stopped by its parent.
    #[must_use]
    pub fn cell(&self) -> ActorCell {
        self.actor.get_cell()
    }

    /// Waits until every agent is ready, cools down or was given up.
    pub async fn settled(&self) {
        // Who was seen to be settled is not looked at again at each of thousands of changes; whoever fails meanwhile is.
        let mut waited_for = 0;
        let settled = |directory: &Agents, agent: &AgentId| {
            use AgentState::{Cooling, GivenUp, Ready};
            matches!(directory.state(agent), Some(Ready | Cooling | GivenUp))
        };
        self.registry
            .wait_for(|directory| {
                let rest = self.agents.get(waited_for..).unwrap_or_default();
                waited_for += rest.iter().take_while(|a| settled(directory, a)).count();
                waited_for == self.agents.len() && self.agents.iter().all(|a| settled(directory, a))
            })
            .await;
    }

    /// How the supervisor's agents fare, by id.
    #[must_use]
    pub fn agents(&self) -> Vec<AgentStatus> {
        let directory = self.registry.load();
        let statuses = self
            .agents
            .iter()
            .filter_map(|agent| directory.status(agent));
        statuses.collect()
    }

    /// Kills an agent in the middle of whatever it does; it is restarted like one that failed by itself. Says whether it
    /// was running.
    pub async fn kill(&self, agent: &AgentId) -> bool {
        self.call(|reply| SupervisorMsg::Kill(agent.clone(), reply))
            .await
            .unwrap_or_default()
    }

    /// Lets every agent end what it has, within this time, and stop; nothing is started again. Returns what had to be cut
    /// off. The supervisor itself stays, for its parent to stop.
    pub async fn drain(&self, within: Duration) -> Vec<Leftover> {
        self.call(|reply| SupervisorMsg::Drain(within, reply))
            .await
            .unwrap_or_default()
    }

    async fn call<T>(&self, message: impl FnOnce(RpcReplyPort<T>) -> SupervisorMsg) -> Option<T> {
        let (reply, answer) = oneshot::channel();
        self.actor.send_message(message(reply.into())).ok()?;
        answer.await.ok()
    }
}

#[cfg(test)]
mod tests;
