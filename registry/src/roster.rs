//! What a link tells the registry about the agents of another node.
//!
//! Does not travel: whoever links nodes makes it of what arrives.

use amcp_protocol::{AgentId, NodeName};

use crate::agent::{AgentState, Registration};
use crate::mailbox::AgentPort;

/// What changed among the agents of another node, in the order in which it is taken over. It concerns nobody else's agents,
/// whatever their ids.
#[derive(Debug)]
pub struct RosterChange {
    /// Whose agents.
    pub node: NodeName,
    /// The node is lost: all of its agents leave.
    pub lost: bool,
    /// The node begins a full account, in this change or in several.
    pub begin_whole: bool,
    /// Who left, and which incarnation of it.
    pub left: Vec<(AgentId, u64)>,
    /// Who is there and how it fares. One that was there keeps its place and takes the new port; one that cannot be used
    /// is left out with a warning, and waits when somebody else is in its way.
    pub joined: Vec<(Registration<AgentPort>, AgentState)>,
    /// How an agent fares now.
    pub fares: Vec<(AgentId, AgentState)>,
    /// The full account is complete: whom it did not name is gone.
    pub end_whole: bool,
}

impl RosterChange {
    /// Nothing changed among a node's agents; to be refined with struct update.
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
