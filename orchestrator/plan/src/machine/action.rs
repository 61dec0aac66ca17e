//! The actions of a machine, and their data.

use std::time::Duration;

use amcp_protocol::llm::Usage;
use amcp_protocol::{
    AgentId, AnswerState, EndedFlow, Failure, Payload, Progress, TaskId, TaskReport,
};
use serde::{Deserialize, Serialize};

use super::{Time, TimerKey};

/// Instructs the request's actor.
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
        /// If set, only this agent in this incarnation may get the task, because it holds the work done so far.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        only: Option<(AgentId, u64)>,
    },
    /// Send a task to the chosen agent; feed back [`Event::Responded`].
    Send(Assignment),
    /// Send a task that ended to the agent that holds what was done so far: nobody waits for the rest. Feed back nothing.
    Withdraw(Assignment),
    /// Tell the agent that the result is no longer wanted; if it has ended with a flow and holds work, as after
    /// [`Action::Withdraw`].
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
    /// Start the composer; feed back [`Event::Composed`].
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
    /// Record and publish progress.
    Report(Progress),
    /// Give the one final response; nothing follows.
    Respond(Box<Conclusion>),
}

/// An attempt for the chosen agent.
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
    /// The params, with values in place of references.
    pub params: Payload,
    /// How long the attempt may take: the deadline that travels with the task.
    pub time: Duration,
    /// Most calls that the attempt may cause; none if the request has no common bound for all tasks.
    pub calls: Option<u32>,
    /// The ends of the task's flows so far.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub flows: Vec<EndedFlow>,
}

/// The final response; without a text if no model wrote one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Conclusion {
    /// The state in which the request ended.
    pub state: AnswerState,
    /// The text; if none, the caller composes it from the other fields.
    pub text: Option<String>,
    /// The planner's name, for messages.
    pub planner: String,
    /// The end of each task, in the plans' order.
    pub tasks: Vec<TaskReport>,
    /// Parts of the query that no capability covers.
    pub unplaced: Vec<String>,
    /// The reason of the failure, or the first missing part.
    pub error: Option<Failure>,
    /// Tokens that planning and writing took.
    #[serde(default)]
    pub usage: Usage,
    /// Remarks for the reader of the answer.
    pub notes: Vec<String>,
    /// Incomplete tasks that a later plan replaced: the answer does not report them as missing.
    pub replaced: Vec<TaskId>,
}
