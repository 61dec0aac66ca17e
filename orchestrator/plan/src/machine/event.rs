//! The events for a machine, and the names of the timers that it sets.

use amcp_protocol::llm::Usage;
use amcp_protocol::task::TaskOutcome;
use amcp_protocol::{AgentId, CallReport, Failure, FlowAnswer, FlowId};
use serde::{Deserialize, Serialize};

use crate::plan::{Plan, PlanTask};

/// Names a timer. An expired timer may already be on its way when it is cleared, so every key carries its purpose and the
/// machine ignores keys that are no longer current.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum TimerKey {
    /// The final response is due.
    Deadline,
    /// Tasks must end, so that time is left to write the answer.
    Closing,
    /// A planning round has taken too long.
    Planning {
        /// Counts from 1.
        round: u32,
    },
    /// An attempt has taken too long.
    Attempt {
        /// The task's index, see [`Machine::task`].
        task: usize,
        /// Counts from 1 for each task.
        attempt: u32,
    },
    /// An attempt has given no sign of life for its idle time.
    Silence {
        /// The task's index, see [`Machine::task`].
        task: usize,
        /// Counts from 1 for each task.
        attempt: u32,
    },
    /// The pause after a failed attempt is over.
    Retry {
        /// The task's index, see [`Machine::task`].
        task: usize,
        /// The attempt that failed.
        attempt: u32,
    },
    /// A flow expires.
    Flow {
        /// The task's index, see [`Machine::task`].
        task: usize,
        /// Counts from 1 for each task.
        number: u32,
    },
}

/// Tells the machine what happened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Event {
    /// Tasks of a plan that is still arriving. Idempotent reads that wait for nothing start at once; the others wait for the
    /// complete plan.
    TasksAdded {
        /// The round that plans them; counts from 1.
        round: u32,
        /// The tasks.
        tasks: Vec<PlanTask>,
    },
    /// A planning round ended. A task of the plan with the id, the capability and the params of an early one adopts it; the
    /// machine cancels early tasks that the plan lacks.
    Planned {
        /// Counts from 1.
        round: u32,
        /// The plan, or the reason why there is none.
        result: Result<Plan, Failure>,
        /// The planner's name, for people.
        planner: String,
        /// LLM calls spent.
        llm_calls: u32,
        /// Tokens that these calls took.
        #[serde(default)]
        usage: Usage,
        /// Remarks for the reader of the answer.
        notes: Vec<String>,
    },
    /// The shell chose an agent for an attempt and has sent nothing yet.
    Chosen {
        /// The task's index, see [`Machine::task`].
        task: usize,
        /// Counts from 1 for each task.
        attempt: u32,
        /// The chosen agent.
        agent: AgentId,
        /// The agent's incarnation, which each of its starts renews.
        incarnation: u64,
    },
    /// An agent gave a sign of life. No other event depends on this one, so a record of a request may omit it.
    Progressed {
        /// The task's index, see [`Machine::task`].
        task: usize,
        /// Counts from 1 for each task.
        attempt: u32,
        /// A few words for the user, or an empty text.
        note: String,
    },
    /// An attempt ended, or its agent was lost.
    Responded {
        /// The task's index, see [`Machine::task`].
        task: usize,
        /// Counts from 1 for each task.
        attempt: u32,
        /// The result or failure, or the flow that the attempt needs.
        outcome: TaskOutcome,
        /// The attempt's calls of other agents.
        calls: Vec<CallReport>,
    },
    /// Models took this for an attempt, whatever became of the attempt.
    Spent(Usage),
    /// A person answered a flow.
    FlowAnswered {
        /// The flow.
        flow: FlowId,
        /// The answer.
        answer: FlowAnswer,
    },
    /// A timer expired.
    TimerFired(TimerKey),
    /// The composer ended.
    Composed {
        /// The text, or the reason why there is none.
        result: Result<String, Failure>,
        /// LLM calls spent.
        llm_calls: u32,
        /// Tokens that these calls took.
        #[serde(default)]
        usage: Usage,
        /// Remarks for the reader of the answer.
        notes: Vec<String>,
    },
    /// The user or a client cancels the request.
    CancelRequested,
    /// The node stops; the failure is the reason for the answer.
    CutOff(Failure),
}
