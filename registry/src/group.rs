//! The process group of this node's agents: the registry's death watch over them.
//!
//! Does not decide who is a member: the registry lets agents join, and an agent leaves when it drains or dies. Does not
//! reach other nodes; a node's roster tells those who is here.

use ractor::{ActorCell, pg};

/// The group that all agents of this node are in.
pub(crate) const AGENTS: &str = "amcp/agents";

/// Puts an agent into the group.
pub(crate) fn join(scope: &str, agent: &ActorCell) {
    pg::join_scoped(scope.to_owned(), AGENTS.to_owned(), vec![agent.clone()]);
}

/// Takes an agent out of the group: the registry offers it no more, and neither do other nodes once they are told.
pub fn leave(scope: &str, agent: &ActorCell) {
    pg::leave_scoped(scope.to_owned(), AGENTS.to_owned(), vec![agent.clone()]);
}
