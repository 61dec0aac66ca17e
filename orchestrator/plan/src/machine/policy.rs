//! The settings of a machine: limits, times and the kinds of flows that the asker supports.

use std::time::Duration;

use amcp_protocol::FlowKind;
use amcp_protocol::retry::Patience;
use serde::{Deserialize, Serialize};
use smart_default::SmartDefault;

use super::Time;

/// The settings of one request's machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, SmartDefault)]
pub struct Policy {
    /// The user's roles; checked again before each dispatch.
    pub roles: Vec<String>,
    /// The time of the final response at the latest, without waits for flows.
    #[default(Duration::from_secs(60))]
    pub deadline: Time,
    /// How long one planning round may take.
    // Half of the deadline, so that a slow planner leaves time for the tasks.
    #[default(Duration::from_secs(30))]
    pub plan_time: Duration,
    /// Most attempts at one task that may have begun.
    #[default(Patience::default().attempts)]
    pub attempts: u32,
    /// Most refusals of one task by agents that had not begun (busy, restarting, no agent).
    #[default(Patience::default().refusals)]
    pub refusals: u32,
    /// After this number of agents died with a task, no other agent gets it.
    #[default(Patience::default().kills)]
    pub kills: u32,
    /// Most LLM calls, including repairs and the answer.
    #[default = 6]
    pub llm_calls: u32,
    /// Most bytes of results, estimated.
    #[default(32 * 1024 * 1024)]
    pub result_bytes: usize,
    /// Most calls that the tasks may cause together; without this bound each task has its own. A delegated request has its
    /// task's budget.
    pub calls: Option<u32>,
    /// Most planning rounds: 2 allows one replanning.
    // Planning again helps only with a planner that learns from failures.
    #[default = 1]
    pub rounds: u32,
    /// Whether an LLM writes the answer; otherwise the machine concludes without a text and the caller composes plainly.
    pub composes: bool,
    /// The kinds of flows that the asker can put before a person.
    #[serde(default)]
    pub flows: Vec<FlowKind>,
    /// Seed of the jitter.
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
