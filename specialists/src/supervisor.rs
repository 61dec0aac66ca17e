//! The supervisor of a node's specialists, as others see it: its children and its handle.
//!
//! Does not decide whether and when to restart; the registry crate's restart budget does, and the actor acts on it.

mod actor;
pub mod children;

use std::sync::Arc;
use std::time::Duration;

use amcp_protocol::AgentId;
use amcp_registry::{AgentState, Agents, RegistryHandle, RestartPolicy};
use ractor::{Actor, ActorCell, ActorRef, RpcReplyPort, SpawnErr};
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

use crate::shell::ShellLimits;
use crate::specialist::Specialist;
use actor::{SupervisorActor, SupervisorMsg};

/// Makes a specialist: a fresh value for each start, so that no broken state survives. Runs on a thread that may block.
pub type Factory = Arc<dyn Fn() -> Arc<dyn Specialist> + Send + Sync>;

/// An agent that the supervisor keeps alive.
#[derive(Clone)]
pub struct ChildSpec {
    /// The agent's id; it replaces the card's id, so that one specialist can serve as several agents.
    pub id: AgentId,
    /// Makes the agent's specialist.
    pub factory: Factory,
    /// When, how often and how fast the agent starts again.
    pub policy: RestartPolicy,
    /// Bounds of the agent's queue and results.
    pub limits: ShellLimits,
}

impl ChildSpec {
    /// A permanent child with the default restart policy and limits.
    ///
    /// # Panics
    /// When `id`, which is written in the source, is not an agent id.
    #[must_use]
    pub fn new<S: Specialist>(id: &str, make: impl Fn() -> S + Send + Sync + 'static) -> Self {
        Self {
            id: AgentId::new(id).expect("an agent id in the source is valid"),
            factory: Arc::new(move || Arc::new(make())),
            policy: RestartPolicy::default(),
            limits: ShellLimits::default(),
        }
    }

    /// Sets another restart policy.
    #[must_use]
    pub const fn policy(mut self, policy: RestartPolicy) -> Self {
        self.policy = policy;
        self
    }

    /// Sets other limits.
    #[must_use]
    pub const fn limits(mut self, limits: ShellLimits) -> Self {
        self.limits = limits;
        self
    }
}

amcp_protocol::opaque_debug!(ChildSpec);

/// The configuration of a supervisor.
#[derive(Debug, Clone)]
pub struct SupervisorConfig {
    /// The registry in which agents register.
    pub registry: RegistryHandle,
    /// The agents that the supervisor keeps alive; their ids are distinct.
    pub children: Vec<ChildSpec>,
}

impl SupervisorConfig {
    /// One for one: a specialist that fails does not cost the others. A specialist that fails too often cools down and starts
    /// again.
    #[must_use]
    pub const fn new(registry: RegistryHandle, children: Vec<ChildSpec>) -> Self {
        Self { registry, children }
    }

    /// Starts the supervisor, linked to `parent`. Returns at once; [`SupervisorHandle::settled`] waits for the agents.
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

/// The tasks of an agent that a drain cut off.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Leftover {
    /// The agent with the tasks.
    pub agent: AgentId,
    /// How many tasks the agent had queued or worked on.
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
    /// The supervisor's actor, which its parent may watch or stop.
    #[must_use]
    pub fn cell(&self) -> ActorCell {
        self.actor.get_cell()
    }

    /// Waits until every agent is ready, cools down or was given up.
    pub async fn settled(&self) {
        // Thousands of changes arrive: each looks only at agents that have not settled yet, and at all of them in the end.
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

    /// Kills an agent in the middle of its work; it restarts as after a failure. Returns whether it was running.
    pub async fn kill(&self, agent: &AgentId) -> bool {
        self.call(|reply| SupervisorMsg::Kill(agent.clone(), reply))
            .await
            .unwrap_or_default()
    }

    /// Lets every agent end its tasks within this time, and stop; no agent starts again. Returns the tasks that the drain cut
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
