//! The [`Children`] of a supervisor: the state of each child, its restarts and their timers. Every supervisor of a node uses
//! them, including the root.
//!
//! Does not know the kind of the children and reports their states to no registry: their supervisor does.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::time::Duration;

use amcp_registry::{Decision, Exit, RestartBudget, RestartPolicy};
use ractor::{ActorCell, ActorRef, ActorStatus, Message, SupervisionEvent};
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

/// Messages of a supervisor's own timers and tasks.
#[derive(Debug)]
pub enum ChildMsg<K> {
    /// From its timer: start this child.
    Start(K),
    /// From the task that starts a child: the child's actor, or the reason why there is none.
    Started(K, Result<ActorCell, NotStarted>),
}

/// Why a child does not run.
#[derive(Debug)]
pub enum NotStarted {
    /// The child may run at the next try.
    Failed(String),
    /// Every further try would fail in the same way.
    Refused(String),
}

/// News of a child.
#[derive(Debug)]
pub enum ChildNews {
    /// The child runs.
    Runs(ActorCell),
    /// The child ended or did not start, for this reason. Unless the decision leaves it, its timer starts it again.
    Ended(Decision, String),
    /// The child never starts again, for this reason.
    Refused(String),
}

#[derive(Debug)]
enum Life {
    Starting,
    Running(ActorCell),
    /// Down until its timer rings.
    Waiting {
        _timer: AbortOnDropHandle<()>,
    },
    Ended,
}

#[derive(Debug)]
struct Child<T> {
    of: T,
    budget: RestartBudget,
    life: Life,
}

/// Children by their keys, each with a value of type `T` that belongs to the supervisor.
#[derive(Debug)]
pub struct Children<K, T> {
    children: BTreeMap<K, Child<T>>,
    origin: Instant,
    closing: bool,
}

impl<K, T> Default for Children<K, T> {
    fn default() -> Self {
        Self {
            children: BTreeMap::new(),
            origin: Instant::now(),
            closing: false,
        }
    }
}

impl<K: Ord + Clone + Debug + Send + 'static, T> Children<K, T> {
    /// Adds a child that is about to start. Returns whether its key was free.
    pub fn add(&mut self, key: K, of: T, policy: RestartPolicy) -> bool {
        let child = Child {
            of,
            budget: RestartBudget::new(policy),
            life: Life::Starting,
        };
        self.children.insert(key, child).is_none()
    }

    /// The supervisor's value for a child.
    #[must_use]
    pub fn get(&self, key: &K) -> Option<&T> {
        self.children.get(key).map(|child| &child.of)
    }

    /// The supervisor's value for a child, mutable.
    pub fn get_mut(&mut self, key: &K) -> Option<&mut T> {
        self.children.get_mut(key).map(|child| &mut child.of)
    }

    /// A child's actor while it runs.
    #[must_use]
    pub fn running(&self, key: &K) -> Option<&ActorCell> {
        match &self.children.get(key)?.life {
            Life::Running(actor) => Some(actor),
            Life::Starting | Life::Waiting { .. } | Life::Ended => None,
        }
    }

    /// The children that run, by key.
    pub fn all_running(&self) -> impl DoubleEndedIterator<Item = (&K, &T, &ActorCell)> {
        self.children.iter().filter_map(|(key, child)| {
            let Life::Running(actor) = &child.life else {
                return None;
            };
            Some((key, &child.of, actor))
        })
    }

    /// Whether every child has ended and none is about to start.
    #[must_use]
    pub fn all_ended(&self) -> bool {
        let mut children = self.children.values();
        children.all(|child| matches!(child.life, Life::Ended))
    }

    /// Starts no child from now on. A child whose start is under way still comes up, and the supervisor has to stop it. Returns
    /// false if the children were closed before.
    pub fn close(&mut self) -> bool {
        for child in self.children.values_mut() {
            if let Life::Waiting { .. } = child.life {
                child.life = Life::Ended;
            }
        }
        !std::mem::replace(&mut self.closing, true)
    }

    /// Whether [`Self::close`] was called.
    #[must_use]
    pub const fn is_closing(&self) -> bool {
        self.closing
    }

    /// Starts a child in a separate task.
    pub fn start<M: Message + From<ChildMsg<K>>>(
        &mut self,
        myself: &ActorRef<M>,
        key: K,
        start: impl Future<Output = Result<ActorCell, NotStarted>> + Send + 'static,
    ) {
        // The child's timer may have rung as the supervisor closed.
        let Some(child) = self.children.get_mut(&key).filter(|_| !self.closing) else {
            return;
        };
        child.life = Life::Starting;
        let myself = myself.clone();
        tokio::spawn(async move {
            let outcome = start.await;
            // A supervisor that has ended took the child with it.
            let _ = myself.send_message(ChildMsg::Started(key, outcome).into());
        });
    }

    /// Takes the outcome of a start. None for an unknown key.
    pub fn started<M: Message + From<ChildMsg<K>>>(
        &mut self,
        myself: &ActorRef<M>,
        key: &K,
        outcome: Result<ActorCell, NotStarted>,
    ) -> Option<ChildNews> {
        let child = self.children.get_mut(key)?;
        let reason = match outcome {
            // A supervision event overtakes messages: the child's death arrived before its start.
            Ok(actor) if actor.get_status() >= ActorStatus::Stopping => {
                "the child ended at once".into()
            }
            Ok(actor) => {
                child.life = Life::Running(actor.clone());
                return Some(ChildNews::Runs(actor));
            }
            Err(NotStarted::Failed(reason)) => reason,
            Err(NotStarted::Refused(reason)) => {
                child.life = Life::Ended;
                return Some(ChildNews::Refused(reason));
            }
        };
        self.ended(myself, key, Exit::Abnormal, reason)
    }

    /// Takes a supervision event. Returns the child and its news; none for an actor that is not a child.
    pub fn event<M: Message + From<ChildMsg<K>>>(
        &mut self,
        myself: &ActorRef<M>,
        event: SupervisionEvent,
    ) -> Option<(K, ChildNews)> {
        let (actor, exit, reason) = match event {
            SupervisionEvent::ActorTerminated(actor, _, reason) => {
                let exit = Exit::of_termination(reason.as_deref());
                (actor, exit, reason.unwrap_or_else(|| "it stopped".into()))
            }
            SupervisionEvent::ActorFailed(actor, error) => {
                (actor, Exit::Abnormal, error.to_string())
            }
            SupervisionEvent::ActorStarted(_)
            | SupervisionEvent::ProcessGroupChanged(_)
            | SupervisionEvent::PidLifecycleEvent(_) => return None,
        };
        let mut running = self.all_running();
        let key = running.find_map(|(key, _, its)| (*its == actor).then(|| key.clone()));
        drop(running);
        // A child that ended before its start arrived is not found here; `started` finds it dead.
        let key = key?;
        let news = self.ended(myself, &key, exit, reason)?;
        Some((key, news))
    }

    fn ended<M: Message + From<ChildMsg<K>>>(
        &mut self,
        myself: &ActorRef<M>,
        key: &K,
        exit: Exit,
        reason: String,
    ) -> Option<ChildNews> {
        let child = self.children.get_mut(key)?;
        let decision = if self.closing {
            Decision::Leave
        } else {
            let now = self.origin.elapsed();
            child.budget.decide(exit, now, fastrand::u64(..))
        };
        child.life = match decision {
            Decision::Leave => Life::Ended,
            Decision::Restart { after } | Decision::CoolDown { after } => Life::Waiting {
                _timer: send_later(myself, after, ChildMsg::Start(key.clone())),
            },
        };
        Some(ChildNews::Ended(decision, reason))
    }
}

/// Sends a message to an actor later, unless the handle is dropped before.
pub(super) fn send_later<M: Message>(
    to: &ActorRef<M>,
    after: Duration,
    message: impl Into<M> + Send + 'static,
) -> AbortOnDropHandle<()> {
    let to = to.clone();
    AbortOnDropHandle::new(tokio::spawn(async move {
        tokio::time::sleep(after).await;
        // An actor that has ended needs no timer.
        let _ = to.send_message(message.into());
    }))
}
