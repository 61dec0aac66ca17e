//! The process groups that make agents visible to every node: one per capability.
//!
//! Does not decide who is a member: the registry joins agents, and an agent leaves when it drains or dies.

use amcp_protocol::{AgentCard, CapabilityName};
use ractor::{ActorCell, pg};

const PREFIX: &str = "amcp/cap/";

/// The group of those who offer a capability.
#[must_use]
pub fn name(capability: &CapabilityName) -> String {
    format!("{PREFIX}{capability}")
}

/// Whether a group is one of ours.
pub(crate) fn is_ours(group: &str) -> bool {
    group.starts_with(PREFIX)
}

/// Puts an agent into the group of each of its capabilities.
pub(crate) fn join(scope: &str, card: &AgentCard, agent: &ActorCell) {
    for capability in &card.capabilities {
        pg::join_scoped(
            scope.to_owned(),
            name(&capability.name),
            vec![agent.clone()],
        );
    }
}

/// Takes an agent out of its groups: from then on no registry, here or on another node, offers it.
pub fn leave(scope: &str, card: &AgentCard, agent: &ActorCell) {
    for capability in &card.capabilities {
        pg::leave_scoped(
            scope.to_owned(),
            name(&capability.name),
            vec![agent.clone()],
        );
    }
}
