//! What a machine says: actions, and what they carry.

use std::time::Duration;

use amcp_protocol::llm::Usage;
use amcp_protocol::{
    AgentId, AnswerState, EndedFlow, Failure, Payload, Progress, TaskId, TaskReport,
};
use serde::{Deserialize, Serialize};

use super::{Time, TimerKey};

/// What to do.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Action {
    /// Make a plan and feed back [`Event::Planned`].
    Plan {
        /// Counts from 1.
        round: u32,
        /// Most time to spend.
        time: Duration,
        /// Most LLM calls to spend.
        llm_calls: u32,
        /// In a later round: the ends of the tasks so far.
        tasks: Vec<TaskReport>,
    },
    /// Choose an agent for a task; feed back [`Event::Chosen`], or [`Event::Responded`] with a refusal when there is none.
    Choose {
        /// The task's index, see [`Machine::task`].
        task: usize,
        /// Counts from 1 for each task.
        attempt: u32,
        /// Agents that should not get the task if another can.
        avoid: Vec<AgentId>,
        /// The agent and its incarnation that alone may get the task, because it holds what was done so far.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        only: Option<(AgentId, u64)>,
    },
    /// Send a task to the agent that was chosen; feed back [`Event::Responded`].
    Send(Assignment),
    /// Tell the agent that the result is no longer wanted.
    Abandon {
        /// The task's index, see [`Machine::task`].
        task: usize,
        /// Counts from 1 for each task.
        attempt: u32,
    },
    /// Feed back [`Event::TimerFired`] at a time.
    SetTimer {
        /// The timer's name, which the event repeats.
        key: TimerKey,
        /// Time since the request was accepted.
        at: Time,
    },
    /// Forget a timer.
    ClearTimer(TimerKey),
    /// Have the answer written and feed back [`Event::Composed`].
    Compose {
        /// The end of each task, in the plans' order.
        tasks: Vec<TaskReport>,
        /// Parts of the query that no capability covers.
        unplaced: Vec<String>,
        /// Most time to spend.
        time: Duration,
        /// Most LLM calls to spend.
        llm_calls: u32,
    },
    /// Let watchers know.
    Report(Progress),
    /// Give the one final response; nothing follows.
    Respond(Box<Conclusion>),
}

/// An attempt and the agent that was chosen for it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Assignment {
    /// The task's index, see [`Machine::task`].
    pub task: usize,
    /// Counts from 1 for each task.
    pub attempt: u32,
    /// The chosen agent.
    pub agent: AgentId,
    /// The agent's incarnation; the task goes to no other incarnation.
    pub incarnation: u64,
    /// The params, references replaced.
    pub params: Payload,
    /// How long the attempt may take: the deadline that travels with the task.
    pub time: Duration,
    /// Calls that the attempt may cause, where the request bounds them for all tasks together.
    pub calls: Option<u32>,
    /// How the task's flows ended so far.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub flows: Vec<EndedFlow>,
}

/// The final response; its text is missing where no model wrote one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Conclusion {
    /// How the request ended.
    pub state: AnswerState,
    /// The text; where there is none the caller composes it from the rest.
    pub text: Option<String>,
    /// The planner's name, for people.
    pub planner: String,
    /// The end of each task, in the plans' order.
    pub tasks: Vec<TaskReport>,
    /// Parts of the query that no capability covers.
    pub unplaced: Vec<String>,
    /// Why it failed, or what is missing.
    pub error: Option<Failure>,
    /// Tokens that planning and writing took.
    #[serde(default)]
    pub usage: Usage,
    /// Remarks for the reader of the answer.
    pub notes: Vec<String>,
    /// Tasks that did not complete and that a later plan replaced: their failures are no longer missing.
    pub replaced: Vec<TaskId>,
}
