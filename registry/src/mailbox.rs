//! The way to an agent: the mailbox that every agent has, the port that takes tasks to it on this node or another, and the
//! port that brings back its signs of life and its answer.
//!
//! Does not cross nodes: a [`Carrier`] does, which the links between nodes provide.

use std::fmt;
use std::sync::Arc;

use amcp_protocol::{AgentId, ErrorCode, Failure, RequestId, TaskId, TaskRequest, TaskResponse};
use ractor::{ActorCell, DerivedActorRef, MessagingErr};
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

/// The name of one attempt at one task.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct TaskKey {
    /// The request.
    pub request_id: RequestId,
    /// The task within its plan.
    pub task_id: TaskId,
    /// Counts from 1.
    pub attempt: u32,
}

impl TaskKey {
    /// The attempt that a task's request begins.
    #[must_use]
    pub fn of(request: &TaskRequest) -> Self {
        Self {
            request_id: request.request_id,
            task_id: request.task_id.clone(),
            attempt: request.attempt,
        }
    }
}

/// An agent's mailbox.
#[derive(Debug)]
pub enum AgentMsg {
    /// From a request, here or on another node: do this task. Answered once.
    Execute(TaskRequest, AnswerPort),
    /// From a request: the result is no longer wanted. Never answered.
    Cancel(TaskKey),
    /// From its supervisor: take no new task, end the others, stop. Never answered.
    Drain,
}

impl ractor::Message for AgentMsg {}

/// The way for an attempt's signs of life before its answer. All clones lead to the same asker; the default leads nowhere.
#[derive(Clone, Default)]
pub struct Signs(Option<Arc<Hears>>);

type Hears = dyn Fn(&str) + Send + Sync;

impl Signs {
    /// Longest note of a sign, in characters: two lines of a terminal.
    pub const MAX_NOTE: usize = 160;

    /// Gives a sign of life with the first line of `note`, cut to [`Self::MAX_NOTE`] characters; `note` may be empty. The sign may
    /// be lost on its way.
    pub fn give(&self, note: &str) {
        let Some(hears) = &self.0 else {
            return;
        };
        let line = note.trim().lines().next().unwrap_or_default();
        let end = line.char_indices().nth(Self::MAX_NOTE);
        hears(end.and_then(|(end, _)| line.get(..end)).unwrap_or(line));
    }
}

amcp_protocol::opaque_debug!(Signs, AnswerPort, AgentPort);

/// The way for an attempt's one answer. A port that is dropped unused tells the asker that the agent ended with the task.
pub struct AnswerPort {
    take: Option<Box<dyn FnOnce(Option<TaskResponse>) + Send>>,
    signs: Signs,
}

impl AnswerPort {
    /// A port that hands over the answer, or none when the agent ended without one. `take` runs in the agent's task: it must
    /// neither block nor panic.
    pub fn new(take: impl FnOnce(Option<TaskResponse>) + Send + 'static) -> Self {
        Self {
            take: Some(Box::new(take)),
            signs: Signs::default(),
        }
    }

    /// Adds a receiver of signs of life. `hears` runs in the agent's task: it must neither block nor panic.
    #[must_use]
    pub fn hearing(mut self, hears: impl Fn(&str) + Send + Sync + 'static) -> Self {
        self.signs = Signs(Some(Arc::new(hears)));
        self
    }

    /// The way for signs of life before the answer.
    #[must_use]
    pub const fn signs(&self) -> &Signs {
        &self.signs
    }

    /// A port and a receiver of its answer, which fails when the agent ended without an answer.
    #[must_use]
    pub fn channel() -> (Self, oneshot::Receiver<TaskResponse>) {
        let (answer, answered) = oneshot::channel();
        let port = Self::new(move |response| {
            if let Some(response) = response {
                // The asker may have stopped waiting.
                let _ = answer.send(response);
            }
        });
        (port, answered)
    }

    /// Hands the answer over.
    pub fn answer(mut self, response: TaskResponse) {
        if let Some(take) = self.take.take() {
            take(Some(response));
        }
    }

    /// Drops the port without a report: the task was never sent.
    pub fn discard(mut self) {
        self.take = None;
    }
}

impl Drop for AnswerPort {
    fn drop(&mut self) {
        if let Some(take) = self.take.take() {
            take(None);
        }
    }
}

/// Carries tasks to the agents of another node for as long as the link to it lasts.
pub trait Carrier: Send + Sync + fmt::Debug {
    /// Sends a task to an agent of that node. A lost link drops the port unused.
    ///
    /// # Errors
    /// The task was certainly not sent; the port was discarded.
    fn execute(
        &self,
        agent: &AgentId,
        task: TaskRequest,
        answer: AnswerPort,
    ) -> Result<(), Failure>;

    /// Tells the agent that the result of an attempt is no longer wanted.
    fn cancel(&self, agent: &AgentId, key: TaskKey);

    /// Whether the link still stands.
    fn is_open(&self) -> bool;
}

/// The way for an agent's tasks: its mailbox here, or the link to its node.
#[derive(Clone)]
pub enum AgentPort {
    /// It runs in this process.
    Local(DerivedActorRef<AgentMsg>),
    /// It runs on another node.
    Remote(AgentId, Arc<dyn Carrier>),
}

impl AgentPort {
    /// Sends a task.
    ///
    /// # Errors
    /// The task was certainly not sent; no answer comes through `answer` then.
    pub fn execute(&self, task: TaskRequest, answer: AnswerPort) -> Result<(), Failure> {
        match self {
            Self::Local(agent) => match agent.send_message(AgentMsg::Execute(task, answer)) {
                Ok(()) => Ok(()),
                Err(error) => {
                    if let MessagingErr::SendErr(AgentMsg::Execute(_, answer)) = error {
                        answer.discard();
                    }
                    let message = "the agent has just stopped";
                    Err(Failure::new(ErrorCode::AgentUnavailable, message))
                }
            },
            Self::Remote(agent, carrier) => carrier.execute(agent, task, answer),
        }
    }

    /// Tells the agent that the result of an attempt is no longer wanted.
    pub fn cancel(&self, key: TaskKey) {
        match self {
            // An agent that has ended works on nothing.
            Self::Local(agent) => drop(agent.send_message(AgentMsg::Cancel(key))),
            Self::Remote(agent, carrier) => carrier.cancel(agent, key),
        }
    }

    /// The agent's actor, when it runs in this process.
    #[must_use]
    pub fn actor(&self) -> Option<ActorCell> {
        match self {
            Self::Local(agent) => Some(agent.get_cell()),
            Self::Remote(..) => None,
        }
    }

    /// Whether the agent or the link still takes tasks.
    #[must_use]
    pub fn is_open(&self) -> bool {
        match self {
            Self::Local(agent) => agent.get_status() < ractor::ActorStatus::Stopping,
            Self::Remote(_, carrier) => carrier.is_open(),
        }
    }
}

/// Equal when both lead to the same agent over the same link.
impl PartialEq for AgentPort {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Local(one), Self::Local(two)) => one.get_id() == two.get_id(),
            (Self::Remote(one, over), Self::Remote(two, other)) => {
                one == two && std::ptr::addr_eq(Arc::as_ptr(over), Arc::as_ptr(other))
            }
            (Self::Local(_), Self::Remote(..)) | (Self::Remote(..), Self::Local(_)) => false,
        }
    }
}

impl From<DerivedActorRef<AgentMsg>> for AgentPort {
    fn from(agent: DerivedActorRef<AgentMsg>) -> Self {
        Self::Local(agent)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use amcp_protocol::task::{TaskOutcome, WIRE_VERSION};
    use serde_json::json;

    use super::*;

    type Heard = Arc<Mutex<Vec<Option<TaskResponse>>>>;

    fn port() -> (AnswerPort, Heard) {
        let heard = Heard::default();
        let hears = Arc::clone(&heard);
        (
            AnswerPort::new(move |r| hears.lock().unwrap().push(r)),
            heard,
        )
    }

    fn response() -> TaskResponse {
        TaskResponse {
            version: WIRE_VERSION,
            request_id: "123e4567-e89b-12d3-a456-426614174999".parse().unwrap(),
            task_id: TaskId::new("t1").unwrap(),
            attempt: 1,
            agent: AgentId::new("one").unwrap(),
            calls: Vec::new(),
            usage: Default::default(),
            outcome: TaskOutcome::Done(json!(1).into()),
        }
    }

    #[test]
    fn a_port_says_one_thing_whatever_becomes_of_it() {
        let (answered, heard) = port();
        answered.answer(response());
        assert_eq!(*heard.lock().unwrap(), [Some(response())]);

        let (dropped, heard) = port();
        drop(dropped);
        assert_eq!(*heard.lock().unwrap(), [None]);

        let (discarded, heard) = port();
        discarded.discard();
        assert_eq!(*heard.lock().unwrap(), [], "it was never sent");
    }

    #[test]
    fn the_words_of_a_sign_are_one_short_line() {
        let heard = Arc::new(Mutex::new(Vec::new()));
        let hears = Arc::clone(&heard);
        let (port, _) = port();
        let port = port.hearing(move |note| hears.lock().unwrap().push(note.to_owned()));
        for note in ["", " page 1\r\nof 3", &"é".repeat(1_000)] {
            port.signs().clone().give(note);
        }
        let long = "é".repeat(Signs::MAX_NOTE);
        assert_eq!(*heard.lock().unwrap(), ["", "page 1", &long]);
        AnswerPort::channel().0.signs().give("nobody hears it");
    }

    #[tokio::test]
    async fn the_wait_for_an_answer_fails_when_the_agent_went_away() {
        let (port, answered) = AnswerPort::channel();
        port.answer(response());
        assert_eq!(answered.await.unwrap(), response());
        let (port, answered) = AnswerPort::channel();
        drop(port);
        assert!(answered.await.is_err());
    }
}
