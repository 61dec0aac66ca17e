//! The mesh as `amcp cluster` and `GET /cluster` show it.

use std::time::Duration;

use amcp_protocol::NodeName;
use serde::{Deserialize, Serialize};

use crate::info::{NodeInfo, Role};
use crate::membership::{LinkPhase, Member, Standing};

/// A member's state, as one node sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[derive(strum::VariantArray)]
pub enum MemberState {
    /// The asked node itself.
    Here,
    /// The link stands and the member is heard.
    Alive,
    /// The link stands and has been silent for three heartbeats.
    Suspect,
    /// The member ends its tasks and takes no new ones.
    Draining,
    /// There is no link; the asked node dials the member again and again.
    Lost,
    /// The member said good-bye.
    Left,
}

impl MemberState {
    /// All states.
    pub const ALL: &'static [Self] = <Self as strum::VariantArray>::VARIANTS;
}

/// A member, as one node sees it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MemberView {
    /// The member's name, or the address of a seed behind which no node was met.
    pub name: NodeName,
    /// The member's state.
    pub state: MemberState,
    /// The time of the member's boot, in milliseconds since 1970; none before the first link.
    pub incarnation: Option<u64>,
    /// How long the member has been in this state, in milliseconds.
    pub since_ms: u64,
    /// The time since the member was last heard, in milliseconds; none without a link.
    pub heartbeat_age_ms: Option<u64>,
    /// The address of the member's cluster port.
    pub address: String,
    /// The address of the member's gateway for clients.
    pub http: Option<String>,
    /// The parts that the member has.
    pub roles: Vec<Role>,
    /// The domain of the member's orchestrator, if it is restricted to one.
    pub domain: Option<String>,
    /// The member's build.
    pub build: Option<String>,
    /// The member's agents in the directory.
    pub agents: usize,
    /// Tasks that the asked node sent and the member has not answered.
    pub in_flight: usize,
    /// The member's tasks that the asked node works on.
    pub serving: usize,
    /// Bytes that wait to be written to the member.
    pub queued_bytes: u64,
    /// `mtls`, or `plain` without encryption.
    pub security: Option<String>,
    /// Why there is no link.
    pub trouble: Option<String>,
}

/// Counters since the node's start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterCounts {
    /// Links that were established.
    pub links: u64,
    /// Peers evicted because they were silent.
    pub evicted: u64,
    /// Connections that this node did not accept, for any reason.
    pub refused: u64,
    /// Dropped answers and frames: they came over a link that no longer stood, or for attempts that were over.
    pub dropped_late: u64,
    /// Tasks sent to other nodes.
    pub tasks_out: u64,
    /// Tasks that came from other nodes.
    pub tasks_in: u64,
    /// Of these, tasks that were not executed again: answered from the kept results, or joined to a running attempt.
    pub deduplicated: u64,
    /// Refused frames and entries that this build does not know or cannot read.
    pub unknown: u64,
    /// What other nodes may not offer or ask for here: agents that the allow-list kept out, tasks, questions.
    pub not_allowed: u64,
    /// Of these, tasks that a node passed on without a warrant that covers them.
    #[serde(default)]
    pub unproven: u64,
}

/// The mesh, as seen from one node.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ClusterView {
    /// The asked node.
    pub node: NodeName,
    /// All members, the asked node first, then by name.
    pub members: Vec<MemberView>,
    /// Counters since the node's start.
    pub counts: ClusterCounts,
}

/// Whole milliseconds, saturated.
pub(crate) fn in_ms(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

impl MemberView {
    /// The asked node itself.
    pub(crate) fn here(info: &NodeInfo, address: String, up: Duration, agents: usize) -> Self {
        Self {
            state: MemberState::Here,
            since_ms: in_ms(up),
            address,
            agents,
            trouble: None,
            ..Self::about(info)
        }
    }

    /// Another node, without the figures of its link.
    pub(crate) fn of(member: &Member, now: Duration) -> Self {
        let state = match &member.standing {
            Standing::Apart => MemberState::Lost,
            Standing::Left => MemberState::Left,
            Standing::Linked(link) => match link.phase {
                LinkPhase::Opening => MemberState::Lost,
                LinkPhase::Suspect => MemberState::Suspect,
                LinkPhase::Alive if link.draining => MemberState::Draining,
                LinkPhase::Alive => MemberState::Alive,
            },
        };
        Self {
            state,
            since_ms: in_ms(now.saturating_sub(member.since)),
            trouble: member.trouble.clone(),
            ..Self::about(&member.info)
        }
    }

    /// A seed behind which no node was met, named by its address.
    pub(crate) fn stranger(seed: &str, trouble: &str, up: Duration) -> Option<Self> {
        let name: String = seed
            .chars()
            .map(|c| match c.to_ascii_lowercase() {
                c if c.is_ascii_alphanumeric() => c,
                _ => '-',
            })
            .take(63)
            .collect();
        let name = NodeName::new(name.trim_matches('-')).ok()?;
        Some(Self {
            name,
            state: MemberState::Lost,
            incarnation: None,
            since_ms: in_ms(up),
            heartbeat_age_ms: None,
            address: seed.to_owned(),
            http: None,
            roles: Vec::new(),
            domain: None,
            build: None,
            agents: 0,
            in_flight: 0,
            serving: 0,
            queued_bytes: 0,
            security: None,
            trouble: Some(trouble.to_owned()),
        })
    }

    fn about(info: &NodeInfo) -> Self {
        Self {
            name: info.name.clone(),
            state: MemberState::Lost,
            incarnation: Some(info.incarnation),
            since_ms: 0,
            heartbeat_age_ms: None,
            address: info.address.clone(),
            http: info.http.clone(),
            roles: info.roles.clone(),
            domain: info.domain.clone(),
            build: Some(info.build.clone()),
            agents: 0,
            in_flight: 0,
            serving: 0,
            queued_bytes: 0,
            security: None,
            trouble: None,
        }
    }
}
