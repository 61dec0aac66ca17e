//! The [`RootSupervisor`] starts the parts of a node in order and starts one again when it ends, within its budget.
//!
//! Does not know what the parts are. When one ends too often it ends itself, and with it the node: a new process is
//! the only thing that could still help.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;

use amcp_registry::restart::{Decision, Exit, RestartBudget, RestartPolicy};
use ractor::{Actor, ActorCell, ActorProcessingErr, ActorRef, SupervisionEvent};
use tokio::sync::watch;
use tokio::time::Instant;

/// Starts a part, linked to the cell that it is given.
pub(crate) type Start = Arc<
    dyn Fn(ActorCell) -> Pin<Box<dyn Future<Output = Result<ActorCell, String>> + Send>>
        + Send
        + Sync,
>;

/// One part of the node.
#[derive(Clone)]
pub(crate) struct ChildSpec {
    /// For people.
    pub(crate) name: &'static str,
    /// How often it is started again.
    pub(crate) policy: RestartPolicy,
    /// How it is started.
    pub(crate) start: Start,
}

impl fmt::Debug for ChildSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ChildSpec").field(&self.name).finish()
    }
}

/// What the root supervisor understands.
#[derive(Debug)]
pub(crate) enum RootMsg {
    /// From its timer: start this part again.
    Restart(usize),
    /// From the task that started a part: what came of it.
    Started(usize, Result<ActorCell, String>),
    /// From the node: stop the parts, the last one first, then yourself.
    Stop,
}

impl ractor::Message for RootMsg {}

/// Why the node cannot go on; nothing while it can.
pub(crate) type Fate = watch::Sender<Option<String>>;

/// Supervises the parts.
#[derive(Debug)]
pub(crate) struct RootSupervisor;

/// A part and what became of it.
#[derive(Debug)]
struct Child {
    spec: ChildSpec,
    cell: Option<ActorCell>,
    budget: RestartBudget,
}

/// The parts, in the order of their start.
#[derive(Debug)]
pub(crate) struct RootState {
    children: Vec<Child>,
    fate: Fate,
    began: Instant,
    stopping: bool,
}

impl Actor for RootSupervisor {
    type Msg = RootMsg;
    type State = RootState;
    type Arguments = (Vec<ChildSpec>, Fate);

    async fn pre_start(
        &self,
        myself: ActorRef<RootMsg>,
        (specs, fate): Self::Arguments,
    ) -> Result<RootState, ActorProcessingErr> {
        let mut children = Vec::with_capacity(specs.len());
        for spec in specs {
            let cell = (spec.start)(myself.get_cell())
                .await
                .map_err(|reason| format!("{} does not start: {reason}", spec.name))?;
            children.push(Child {
                budget: RestartBudget::new(spec.policy),
                cell: Some(cell),
                spec,
            });
        }
        Ok(RootState {
            children,
            fate,
            began: Instant::now(),
            stopping: false,
        })
    }

    async fn handle(
        &self,
        myself: ActorRef<RootMsg>,
        message: RootMsg,
        state: &mut RootState,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            RootMsg::Restart(index) => state.restart(&myself, index),
            RootMsg::Started(index, Ok(cell)) => state.started(index, cell),
            RootMsg::Started(index, Err(reason)) => {
                tracing::error!(%reason, "a part of the node does not start");
                state.ended(&myself, index, Exit::Abnormal);
            }
            RootMsg::Stop => state.stop(&myself),
        }
        Ok(())
    }

    async fn handle_supervisor_evt(
        &self,
        myself: ActorRef<RootMsg>,
        event: SupervisionEvent,
        state: &mut RootState,
    ) -> Result<(), ActorProcessingErr> {
        let (cell, exit, reason) = match event {
            SupervisionEvent::ActorTerminated(cell, _, reason) => {
                // ractor reports a kill as a termination with this reason.
                let exit = match reason.as_deref() {
                    Some("killed") => Exit::Abnormal,
                    Some(_) | None => Exit::Normal,
                };
                (cell, exit, reason.unwrap_or_default())
            }
            SupervisionEvent::ActorFailed(cell, error) => (cell, Exit::Abnormal, error.to_string()),
            SupervisionEvent::ActorStarted(_)
            | SupervisionEvent::ProcessGroupChanged(_)
            | SupervisionEvent::PidLifecycleEvent(_) => return Ok(()),
        };
        let id = cell.get_id();
        let index = state
            .children
            .iter()
            .position(|child| child.cell.as_ref().is_some_and(|c| c.get_id() == id));
        if let Some(index) = index {
            let name = state.children.get(index).map_or("", |c| c.spec.name);
            if exit == Exit::Abnormal && !state.stopping {
                tracing::warn!(part = name, %reason, "a part of the node ended");
            }
            state.ended(&myself, index, exit);
        }
        Ok(())
    }
}

impl RootState {
    fn restart(&mut self, myself: &ActorRef<RootMsg>, index: usize) {
        let Some(child) = self.children.get(index).filter(|_| !self.stopping) else {
            return;
        };
        let start = (child.spec.start)(myself.get_cell());
        let myself = myself.clone();
        tokio::spawn(async move {
            let started = start.await;
            // A supervisor that ended meanwhile took what was started with it.
            let _ = myself.send_message(RootMsg::Started(index, started));
        });
    }

    fn started(&mut self, index: usize, cell: ActorCell) {
        let Some(child) = self.children.get_mut(index) else {
            return;
        };
        if self.stopping {
            cell.stop(None);
        }
        tracing::info!(
            part = child.spec.name,
            "a part of the node was started again"
        );
        child.cell = Some(cell);
    }

    fn ended(&mut self, myself: &ActorRef<RootMsg>, index: usize, exit: Exit) {
        let now = self.began.elapsed();
        let Some(child) = self.children.get_mut(index) else {
            return;
        };
        child.cell = None;
        if self.stopping {
            return;
        }
        match child
            .budget
            .decide(exit, now, uuid::Uuid::new_v4().as_u64_pair().0)
        {
            Decision::Restart { after } => {
                myself.send_after(after, move || RootMsg::Restart(index));
            }
            Decision::Leave => {}
            Decision::GiveUp => {
                let reason = format!("{} ended too often", child.spec.name);
                tracing::error!(%reason, "the node gives up");
                self.fate.send_replace(Some(reason));
                self.stop(myself);
            }
        }
    }

    /// Children of a stopping parent are killed; stopped before it, each has its post_stop.
    fn stop(&mut self, myself: &ActorRef<RootMsg>) {
        if std::mem::replace(&mut self.stopping, true) {
            return;
        }
        let cells: Vec<ActorCell> = self
            .children
            .iter_mut()
            .rev()
            .filter_map(|c| c.cell.clone())
            .collect();
        let myself = myself.clone();
        tokio::spawn(async move {
            for cell in cells {
                let _ = cell.stop_and_wait(None, Some(super::PART_STOP)).await;
            }
            myself.stop(None);
        });
    }
}
