//! The process group of this node's agents: the registry's death watch over them.
//!
//! Does not decide on membership: the registry lets agents join, and an agent leaves when it drains or dies. Does not
//! reach other nodes; a node sends them its roster.

use ractor::{ActorCell, pg};

/// The name of the group.
pub(crate) const AGENTS: &str = "amcp/agents";

pub(crate) fn join(scope: &str, agent: &ActorCell) {
    pg::join_scoped(scope.to_owned(), AGENTS.to_owned(), vec![agent.clone()]);
}

/// Takes an agent out of the group: the registry stops offering it, and so do other nodes once they hear of it.
pub fn leave(scope: &str, agent: &ActorCell) {
    pg::leave_scoped(scope.to_owned(), AGENTS.to_owned(), vec![agent.clone()]);
}
