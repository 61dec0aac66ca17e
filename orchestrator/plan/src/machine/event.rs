//! What a machine hears: events, and the names of the timers that it sets.

use amcp_protocol::llm::Usage;
use amcp_protocol::task::TaskOutcome;
use amcp_protocol::{AgentId, CallReport, Failure, FlowAnswer, FlowId};
use serde::{Deserialize, Serialize};

use crate::plan::{Plan, PlanTask};

/// Names a timer. An expired timer may already be on its way when it is cleared, so every key carries what it was set
/// for and the machine ignores one that is no longer current.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum TimerKey {
    /// The final response is due.
    Deadline,
    /// Tasks are cut off, so that time is left to write the answer.
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
    /// The backoff after an attempt is over.
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

/// What happened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Event {
    /// Tasks of a plan that is still arriving. Those that read, may be repeated and wait for nothing start at once; the
    /// others are left to the complete plan.
    TasksAdded {
        /// The round that plans them; counts from 1.
        round: u32,
        /// The tasks.
        tasks: Vec<PlanTask>,
    },
    /// A planning round ended. A task of the plan with the id, the capability and the params of one that arrived before is
    /// that task; a task that arrived before and is not in the plan is given up.
    Planned {
        /// Counts from 1.
        round: u32,
        /// The plan, or why there is none.
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
    /// An agent was chosen for an attempt. Nothing has left yet.
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
    /// An agent gave a sign of life. No other event depends on this one: a record of a request may leave it out.
    Progressed {
        /// The task's index, see [`Machine::task`].
        task: usize,
        /// Counts from 1 for each task.
        attempt: u32,
        /// Words for people, or nothing.
        note: String,
    },
    /// An attempt ended: with a result or a failure, or because it can never end.
    Responded {
        /// The task's index, see [`Machine::task`].
        task: usize,
        /// Counts from 1 for each task.
        attempt: u32,
        /// How the attempt ended.
        outcome: TaskOutcome,
        /// The calls of other agents that it took.
        calls: Vec<CallReport>,
    },
    /// A person answered a flow.
    FlowAnswered {
        /// The flow.
        flow: FlowId,
        /// The answer.
        answer: FlowAnswer,
    },
    /// A timer expired.
    TimerFired(TimerKey),
    /// The answer was written, or not.
    Composed {
        /// The text, or why there is none.
        result: Result<String, Failure>,
        /// LLM calls spent.
        llm_calls: u32,
        /// Tokens that these calls took.
        #[serde(default)]
        usage: Usage,
        /// Remarks for the reader of the answer.
        notes: Vec<String>,
    },
    /// The user, or a client for the user, cancels the request.
    CancelRequested,
    /// The node must stop now.
    CutOff(Failure),
}
