//! The changes that a link reports to the registry about another node's agents.
//!
//! Does not travel: the link builds the change from the entries that arrive.

use amcp_protocol::{AgentId, NodeName};

use crate::agent::{AgentState, Registration};
use crate::mailbox::AgentPort;

/// Changes among the agents of another node; the registry applies the fields in their order. A change touches that node's
/// agents only, whatever ids it names.
#[derive(Debug)]
pub struct RosterChange {
    /// The agents' node.
    pub node: NodeName,
    /// The node is lost: all of its agents leave.
    pub lost: bool,
    /// The node begins a full account, in this change or in several.
    pub begin_whole: bool,
    /// Agents that left, with their incarnations.
    pub left: Vec<(AgentId, u64)>,
    /// Agents that are there, with their states. An agent that was there before keeps its entry and takes the new port; the
    /// registry refuses an unusable agent with a warning, and an agent that clashes with another waits.
    pub joined: Vec<(Registration<AgentPort>, AgentState)>,
    /// New states of agents.
    pub fares: Vec<(AgentId, AgentState)>,
    /// The full account is complete: agents that it did not name have left.
    pub end_whole: bool,
}

impl RosterChange {
    /// An empty change; refine it with struct update.
    #[must_use]
    pub const fn of(node: NodeName) -> Self {
        Self {
            node,
            lost: false,
            begin_whole: false,
            left: Vec::new(),
            joined: Vec::new(),
            fares: Vec::new(),
            end_whole: false,
        }
    }
}
