//! The mesh as `amcp cluster` and `GET /cluster` show it.

use std::time::Duration;

use amcp_protocol::NodeName;
use serde::{Deserialize, Serialize};

use crate::info::{NodeInfo, Role};
use crate::membership::{LinkPhase, Member, Standing};

/// How a member fares, as seen from one node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MemberState {
    /// The node that was asked.
    Here,
    /// The link stands and is heard.
    Alive,
    /// The link stands and has been silent for three heartbeats.
    Suspect,
    /// It ends what it has and takes nothing new.
    Draining,
    /// There is no link; it is dialled again and again.
    Lost,
    /// It said good-bye.
    Left,
}

/// One member.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MemberView {
    /// Its name.
    pub name: NodeName,
    /// How it fares.
    pub state: MemberState,
    /// Its boot, in milliseconds since the epoch; none for one that was never met.
    pub incarnation: Option<u64>,
    /// How long it has been in this state, in milliseconds.
    pub since_ms: u64,
    /// How long ago it was last heard of, in milliseconds; none without a link.
    pub heartbeat_age_ms: Option<u64>,
    /// Where it is reached.
    pub address: String,
    /// Where clients reach its gateway.
    pub http: Option<String>,
    /// What it is there for.
    pub roles: Vec<Role>,
    /// The domain that its orchestrator is restricted to.
    pub domain: Option<String>,
    /// The build that it runs.
    pub build: Option<String>,
    /// Agents of it in the directory.
    pub agents: usize,
    /// Tasks sent to it and not answered yet.
    pub in_flight: usize,
    /// Tasks of it that are worked on here.
    pub serving: usize,
    /// Bytes that wait to be written to it.
    pub queued_bytes: u64,
    /// `mtls`, or `plain` without encryption.
    pub security: Option<String>,
    /// Why there is no link.
    pub trouble: Option<String>,
}

/// What was counted since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterCounts {
    /// Links that came to stand.
    pub links: u64,
    /// Peers evicted because they were silent.
    pub evicted: u64,
    /// Connections refused, for whatever reason.
    pub refused: u64,
    /// Answers and frames that came over a link that no longer stood, or to attempts that were over: dropped.
    pub dropped_late: u64,
    /// Tasks sent to other nodes.
    pub tasks_out: u64,
    /// Tasks taken from other nodes.
    pub tasks_in: u64,
    /// Of these: answered from the cache, or joined to one that was under way, instead of executed again.
    pub deduplicated: u64,
    /// Frames or entries that this build does not know, refused.
    pub unknown: u64,
    /// Agents that the allow-list kept out.
    pub not_allowed: u64,
}

/// The mesh, as seen from one node.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ClusterView {
    /// Which node was asked.
    pub node: NodeName,
    /// All members, itself first, then by name.
    pub members: Vec<MemberView>,
    /// What was counted since the start.
    pub counts: ClusterCounts,
}

/// Whole milliseconds; as many as there are numbers for.
pub(crate) fn in_ms(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

impl MemberView {
    /// The node that is asked.
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

    /// Another one, without what its link counts.
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

    /// A seed behind which nobody was met: it is called by its address.
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
