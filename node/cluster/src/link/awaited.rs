//! Whose answers a link awaits, and in which form each task went to the peer. Pure.
//!
//! The new form is tried first. A peer of the release before refuses it by its number; the task then goes again in the old
//! form, as all later ones do. Until one or the other has shown, each task is kept, so that nothing is lost in the switch.

use std::collections::HashMap;

use amcp_protocol::{AgentId, TaskRequest};
use amcp_registry::{AnswerPort, TaskKey};
use tokio::sync::oneshot;

use super::frame::Kind;

/// By the id of the entry that asked.
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

/// In which forms the peer takes tasks, as far as this link has shown.
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
    /// The task is there while it may have to be sent again in the old form.
    New(Option<Box<(AgentId, TaskRequest)>>),
}

/// What follows when the peer does not understand a task.
#[derive(Debug)]
pub(crate) enum NotTaken {
    /// It certainly does not begin there.
    GiveUp,
    /// Send it again in the old form.
    Again(Box<(AgentId, TaskRequest)>),
    /// Nothing: the task is there in another form by now.
    Ignore,
}

impl Awaited {
    /// A task is about to be sent under an id. Says whether in the old form.
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

    /// The peer has used the new form: it understands it.
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

    /// An attempt is no longer wanted: it is not sent again. Returns its id, if it is there.
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
