//! What a machine is run with: limits, times and the asker's means.

use std::time::Duration;

use amcp_protocol::FlowKind;
use amcp_protocol::retry::Patience;
use serde::{Deserialize, Serialize};

use super::Time;

/// What a machine is run with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Policy {
    /// The user's roles; checked again before each dispatch.
    pub roles: Vec<String>,
    /// When the final response is due.
    pub deadline: Time,
    /// How long one planning round may take.
    pub plan_time: Duration,
    /// Most attempts at one task that may have begun.
    pub attempts: u32,
    /// Most refusals of one task by agents that had not begun (busy, restarting, none there).
    pub refusals: u32,
    /// After so many agents died with a task, it is given to no other.
    pub kills: u32,
    /// Most LLM calls, repairs and the answer included.
    pub llm_calls: u32,
    /// Most bytes of results, estimated.
    pub result_bytes: usize,
    /// Most calls that the tasks may cause together; without this bound each task has its own. A delegated request has the
    /// budget that its task was given.
    pub calls: Option<u32>,
    /// Most planning rounds: 2 allows one replanning.
    pub rounds: u32,
    /// Whether an LLM writes the answer; otherwise the machine concludes without text and the caller composes plainly.
    pub composes: bool,
    /// The kinds of flows that the asker can put before a person.
    #[serde(default)]
    pub flows: Vec<FlowKind>,
    /// Source of the jitter.
    pub seed: u64,
}

impl Policy {
    pub(super) const fn patience(&self) -> Patience {
        Patience {
            attempts: self.attempts,
            refusals: self.refusals,
            kills: self.kills,
        }
    }
}

impl Default for Policy {
    fn default() -> Self {
        let Patience {
            attempts,
            refusals,
            kills,
        } = Patience::default();
        Self {
            roles: Vec::new(),
            deadline: Duration::from_secs(60),
            // Half of the deadline, so that a slow plan leaves time to carry it out.
            plan_time: Duration::from_secs(30),
            attempts,
            refusals,
            kills,
            llm_calls: 6,
            result_bytes: 32 * 1024 * 1024,
            calls: None,
            // Planning again is worth it only with a planner that learns from what failed.
            rounds: 1,
            composes: false,
            flows: Vec::new(),
            seed: 0,
        }
    }
}
