//! An agent as the directory sees it: its state, its counters, the way to it.
//!
//! Pure: it sends nothing and reads no clock.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use amcp_protocol::{AgentCard, AgentId, CapabilityName, NodeName};
use serde::{Deserialize, Serialize};

/// How an agent fares.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AgentState {
    /// It takes tasks.
    Ready,
    /// It failed and is being started again.
    Restarting,
    /// It is there, and is given nothing.
    Quarantined,
    /// The agent can never start: its card is refused.
    GivenUp,
    /// It ends what it has and takes nothing new.
    Draining,
    /// It went away.
    Left,
    /// The agent failed too often: its supervisor waits a while before it starts the agent again.
    Cooling,
}

/// What an agent has to do and has done, shared by those who count: whoever dispatches counts `in_flight`, the agent's
/// shell the tasks, its supervisor the restarts. It outlives the agent's restarts.
#[derive(Debug, Default)]
pub struct AgentLoad {
    /// Sent to it from this node and not answered yet, on their way and queued ones included.
    pub in_flight: AtomicU32,
    /// Waiting in its hands.
    pub queued: AtomicU32,
    /// Being worked on.
    pub running: AtomicU32,
    /// Tasks that ended with a result.
    pub done: AtomicU64,
    /// Tasks that ended without one, refused ones included.
    pub failed: AtomicU64,
    /// How often it was started again.
    pub restarts: AtomicU64,
}

/// One task on its way to an agent or in its hands, counted until this is dropped.
#[derive(Debug)]
pub struct InFlight(Arc<AgentLoad>);

impl InFlight {
    fn new(load: &Arc<AgentLoad>) -> Self {
        load.in_flight.fetch_add(1, Relaxed);
        Self(Arc::clone(load))
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Relaxed);
    }
}

/// An agent that joins.
#[derive(Debug, Clone)]
pub struct Registration<P> {
    /// Who it is and what it can do.
    pub card: AgentCard,
    /// Different for each start of each agent.
    pub incarnation: u64,
    /// How to reach it.
    pub port: P,
    /// Its counters.
    pub load: Arc<AgentLoad>,
    /// Where it runs; none for this node.
    pub node: Option<NodeName>,
}

impl<P> Registration<P> {
    /// An agent of this node that joins, with counters of its own.
    pub fn new(card: AgentCard, incarnation: u64, port: impl Into<P>) -> Self {
        Self {
            card,
            incarnation,
            port: port.into(),
            load: Arc::default(),
            node: None,
        }
    }

    /// The same, of another node.
    #[must_use]
    pub fn on(mut self, node: NodeName) -> Self {
        self.node = Some(node);
        self
    }
}

/// An agent in the directory.
#[derive(Debug)]
pub struct Entry<P> {
    /// Who it is and what it can do.
    pub card: Arc<AgentCard>,
    /// Different for each start of each agent.
    pub incarnation: u64,
    /// How to reach it.
    pub port: P,
    /// Its counters.
    pub load: Arc<AgentLoad>,
    /// Where it runs; none for this node.
    pub node: Option<NodeName>,
    /// How it fares.
    pub state: AgentState,
    pub(crate) gone_at: Option<Duration>,
}

impl<P> Entry<P> {
    pub(crate) fn joining(registration: Registration<P>, state: AgentState) -> Self {
        Self {
            card: Arc::new(registration.card),
            incarnation: registration.incarnation,
            port: registration.port,
            load: registration.load,
            node: registration.node,
            state,
            gone_at: None,
        }
    }

    /// The agent's id.
    #[must_use]
    pub fn id(&self) -> &AgentId {
        &self.card.id
    }

    /// Whether it has not left; it may be unable to take tasks all the same.
    #[must_use]
    pub const fn is_present(&self) -> bool {
        self.gone_at.is_none()
    }

    /// How it shows.
    pub(crate) fn status(&self) -> AgentStatus {
        let load = &self.load;
        AgentStatus {
            agent: self.id().clone(),
            node: self.node.clone(),
            capabilities: self
                .card
                .capabilities
                .iter()
                .map(|c| c.name.clone())
                .collect(),
            state: self.state,
            again_at_unix_ms: None,
            in_flight: load.in_flight.load(Relaxed),
            queued: load.queued.load(Relaxed),
            restarts: load.restarts.load(Relaxed),
            done: load.done.load(Relaxed),
            failed: load.failed.load(Relaxed),
        }
    }

    /// The same agent, faring otherwise.
    pub(crate) fn changed(&self, state: AgentState, gone_at: Option<Duration>) -> Self
    where
        P: Clone,
    {
        Self {
            card: Arc::clone(&self.card),
            incarnation: self.incarnation,
            port: self.port.clone(),
            load: Arc::clone(&self.load),
            node: self.node.clone(),
            state,
            gone_at,
        }
    }

    /// Counts a task as in flight until the guard is dropped. Hold it from the dispatch to the answer: candidates are
    /// chosen by it.
    #[must_use]
    pub fn begin(&self) -> InFlight {
        InFlight::new(&self.load)
    }
}

/// An agent as `amcp agents` shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentStatus {
    /// Who it is.
    pub agent: AgentId,
    /// Where it runs; none for the node that was asked. Of an agent elsewhere only what this node sent it is counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<NodeName>,
    /// What it can do; empty for one that never got as far as registering.
    pub capabilities: Vec<CapabilityName>,
    /// How it fares.
    pub state: AgentState,
    /// When an agent that cools down is started again, in milliseconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub again_at_unix_ms: Option<i64>,
    /// Tasks sent to it and not answered yet.
    pub in_flight: u32,
    /// Tasks waiting in its hands.
    pub queued: u32,
    /// How often it was started again.
    pub restarts: u64,
    /// Tasks that ended with a result.
    pub done: u64,
    /// Tasks that ended without one.
    pub failed: u64,
}

impl AgentStatus {
    /// An agent that somebody reported on and that never registered.
    pub(crate) fn unseen(agent: &AgentId, state: AgentState) -> Self {
        Self {
            agent: agent.clone(),
            node: None,
            capabilities: Vec::new(),
            state,
            again_at_unix_ms: None,
            in_flight: 0,
            queued: 0,
            restarts: 0,
            done: 0,
            failed: 0,
        }
    }
}
