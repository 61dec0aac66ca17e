//! The answers that a link awaits, and the form in which each task went to the peer. Pure: sends nothing.
//!
//! A link tries the new form first. A peer of the previous release refuses that form by its number; the link then sends the
//! task again in the old form, and all later tasks too. Until the peer has shown which form it takes, the link keeps each
//! task, so that the switch loses none.

use std::collections::HashMap;

use amcp_protocol::{AgentId, TaskRequest};
use amcp_registry::{AnswerPort, TaskKey};
use tokio::sync::oneshot;

use super::frame::Kind;

/// Tasks and questions by the id of the entry that asked.
#[derive(Debug, Default)]
pub(crate) struct Awaited {
    pub(super) tasks: HashMap<u64, Asked>,
    pub(super) replies: HashMap<u64, oneshot::Sender<Vec<u8>>>,
    forms: Forms,
}

/// A task that the peer has.
#[derive(Debug)]
pub(crate) struct Asked {
    pub(super) key: TaskKey,
    pub(super) port: AnswerPort,
    sent: Sent,
}

/// The form in which the peer takes tasks, as far as this link has seen.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Forms {
    #[default]
    Untried,
    /// The peer refused the new form.
    Old,
    /// The peer has used the new form itself.
    New,
}

/// The form in which a task went to the peer.
#[derive(Debug)]
enum Sent {
    Old,
    /// Holds the task while the link may have to send it again in the old form.
    New(Option<Box<(AgentId, TaskRequest)>>),
}

/// The link's next step when the peer does not understand a task.
#[derive(Debug)]
pub(crate) enum NotTaken {
    /// The task certainly does not begin there.
    GiveUp,
    /// Send the task again in the old form.
    Again(Box<(AgentId, TaskRequest)>),
    /// Do nothing: by now the peer has the task in another form.
    Ignore,
}

impl Awaited {
    /// Notes a task that the link is about to send under an id. Returns whether to send it in the old form.
    pub(super) fn insert(
        &mut self,
        id: u64,
        agent: &AgentId,
        task: &TaskRequest,
        port: AnswerPort,
    ) -> bool {
        let sent = match self.forms {
            Forms::Untried => Sent::New(Some(Box::new((agent.clone(), task.clone())))),
            Forms::New => Sent::New(None),
            Forms::Old => Sent::Old,
        };
        let key = TaskKey::of(task);
        self.tasks.insert(id, Asked { key, port, sent });
        self.forms == Forms::Old
    }

    /// Notes that the peer has used the new form, and therefore understands it.
    pub(super) fn uses_new_form(&mut self) {
        if self.forms != Forms::New {
            self.forms = Forms::New;
            for asked in self.tasks.values_mut() {
                asked.is_not_sent_again();
            }
        }
    }

    /// The peer does not understand a task in the form of `kind`.
    pub(super) fn is_not_taken(&mut self, id: u64, kind: Kind) -> NotTaken {
        let Some(asked) = self.tasks.get_mut(&id) else {
            return NotTaken::GiveUp;
        };
        match &mut asked.sent {
            Sent::Old if kind == Kind::Task => NotTaken::GiveUp,
            Sent::New(again) if kind == Kind::Task2 => match again.take() {
                Some(task) => {
                    asked.sent = Sent::Old;
                    self.forms = Forms::Old;
                    NotTaken::Again(task)
                }
                None => NotTaken::GiveUp,
            },
            Sent::Old | Sent::New(_) => NotTaken::Ignore,
        }
    }

    /// Gives up an attempt, so that the link does not send it again. Returns the entry's id if the peer has the task.
    pub(super) fn cancel(&mut self, key: &TaskKey) -> Option<u64> {
        let (id, asked) = self.tasks.iter_mut().find(|(_, asked)| asked.key == *key)?;
        asked.is_not_sent_again();
        Some(*id)
    }
}

impl Asked {
    fn is_not_sent_again(&mut self) {
        if let Sent::New(again) = &mut self.sent {
            *again = None;
        }
    }
}
