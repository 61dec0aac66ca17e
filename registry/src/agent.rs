//! An agent as the directory sees it: its state, its counters and its port.
//!
//! Pure: it sends nothing and reads no clock.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use amcp_protocol::{AgentCard, AgentId, Capability, CapabilityName, FlowKind, NodeName};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// An agent's state, as its supervisor or its node reports it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[derive(strum::VariantArray)]
pub enum AgentState {
    /// It takes tasks.
    Ready,
    /// The agent failed and starts again.
    Restarting,
    /// It is there and gets no tasks.
    Quarantined,
    /// The agent can never start: its card is refused.
    GivenUp,
    /// It ends its tasks and takes no new ones.
    Draining,
    /// It went away.
    Left,
    /// The agent failed too often: its supervisor waits a while before it starts the agent again.
    Cooling,
}

impl AgentState {
    /// All states.
    pub const ALL: &'static [Self] = <Self as strum::VariantArray>::VARIANTS;
}

/// An agent's work, shared by all that count it: dispatchers count `in_flight`, the agent's shell the tasks, its supervisor
/// the restarts. It outlives the agent's restarts.
#[derive(Debug, Default)]
pub struct AgentLoad {
    /// Tasks that this node sent and the agent has not answered, including queued ones.
    pub in_flight: AtomicU32,
    /// Tasks in the agent's queue.
    pub queued: AtomicU32,
    /// Tasks that the agent works on.
    pub running: AtomicU32,
    /// Tasks that ended with a result.
    pub done: AtomicU64,
    /// Tasks that ended without a result, including refused ones.
    pub failed: AtomicU64,
    /// Number of the agent's restarts.
    pub restarts: AtomicU64,
}

/// One task on its way to an agent or at the agent, counted until this is dropped.
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
    /// The agent's id and capabilities.
    pub card: AgentCard,
    /// Different for each start of each agent.
    pub incarnation: u64,
    /// The port for its tasks.
    pub port: P,
    /// Its counters.
    pub load: Arc<AgentLoad>,
    /// The agent's node; none for this node.
    pub node: Option<NodeName>,
}

impl<P> Registration<P> {
    /// An agent of this node that joins, with its own counters.
    pub fn new(card: AgentCard, incarnation: u64, port: impl Into<P>) -> Self {
        Self {
            card,
            incarnation,
            port: port.into(),
            load: Arc::default(),
            node: None,
        }
    }

    /// Sets the node of an agent that runs elsewhere.
    #[must_use]
    pub fn on(mut self, node: NodeName) -> Self {
        self.node = Some(node);
        self
    }
}

/// An agent in the directory.
#[derive(Debug, Clone)]
pub struct Entry<P> {
    /// The agent's id and capabilities.
    pub card: Arc<AgentCard>,
    /// Different for each start of each agent.
    pub incarnation: u64,
    /// The port for its tasks.
    pub port: P,
    /// Its counters.
    pub load: Arc<AgentLoad>,
    /// The agent's node; none for this node.
    pub node: Option<NodeName>,
    /// The agent's last reported state.
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

    /// Whether the agent is still there; it may nevertheless be unable to take tasks.
    #[must_use]
    pub const fn is_present(&self) -> bool {
        self.gone_at.is_none()
    }

    pub(crate) fn status(&self) -> AgentStatus {
        let load = &self.load;
        let asks = |c: &Capability| Some((c.name.clone(), c.requires_flow()?));
        AgentStatus {
            agent: self.id().clone(),
            node: self.node.clone(),
            capabilities: self
                .card
                .capabilities
                .iter()
                .map(|c| c.name.clone())
                .collect(),
            asks: self.card.capabilities.iter().filter_map(asks).collect(),
            state: self.state,
            again_at_unix_ms: None,
            in_flight: load.in_flight.load(Relaxed),
            queued: load.queued.load(Relaxed),
            restarts: load.restarts.load(Relaxed),
            done: load.done.load(Relaxed),
            failed: load.failed.load(Relaxed),
        }
    }

    /// The same agent in another state.
    pub(crate) fn changed(&self, state: AgentState, gone_at: Option<Duration>) -> Self
    where
        P: Clone,
    {
        Self {
            state,
            gone_at,
            ..self.clone()
        }
    }

    /// Counts a task as in flight until the guard is dropped. Hold the guard from the dispatch to the answer: the choice of
    /// agents depends on the count.
    #[must_use]
    pub fn begin(&self) -> InFlight {
        InFlight::new(&self.load)
    }
}

/// An agent as `amcp agents` shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AgentStatus {
    /// The agent's id.
    pub agent: AgentId,
    /// The agent's node; none for the node that was asked. For an agent elsewhere only tasks from the asked node count.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<NodeName>,
    /// The agent's capabilities; empty if the agent never registered.
    pub capabilities: Vec<CapabilityName>,
    /// The flows that tasks of a capability wait for before their dispatch.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub asks: BTreeMap<CapabilityName, FlowKind>,
    /// The agent's last reported state.
    pub state: AgentState,
    /// When an agent that cools down starts again, in milliseconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub again_at_unix_ms: Option<i64>,
    /// Tasks that the agent got and has not answered.
    pub in_flight: u32,
    /// Tasks in the agent's queue.
    pub queued: u32,
    /// Number of the agent's restarts.
    pub restarts: u64,
    /// Tasks that ended with a result.
    pub done: u64,
    /// Tasks that ended without a result.
    pub failed: u64,
}

impl AgentStatus {
    /// An agent with a report that never registered.
    pub(crate) fn unseen(agent: &AgentId, state: AgentState) -> Self {
        Self {
            agent: agent.clone(),
            node: None,
            capabilities: Vec::new(),
            asks: BTreeMap::new(),
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
