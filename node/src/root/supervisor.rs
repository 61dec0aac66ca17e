//! The [`RootSupervisor`] starts the parts of a node in order and starts one again when it ends, within its budget.
//!
//! Does not know what the parts are. When one ends too often it ends itself, and with it the node: a new process is
//! the only thing that could still help.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;

use amcp_registry::restart::{Decision, Exit, RestartBudget, RestartPolicy};
use ractor::{Actor, ActorCell, ActorProcessingErr, ActorRef, ActorStatus, SupervisionEvent};
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
            RootMsg::Started(index, Ok(cell)) => state.started(&myself, index, cell),
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
                let exit = Exit::of_termination(reason.as_deref());
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

    fn started(&mut self, myself: &ActorRef<RootMsg>, index: usize, cell: ActorCell) {
        let Some(child) = self.children.get_mut(index) else {
            return;
        };
        // Events overtake messages: that of a part that is dead already came before its cell was known, or finds none.
        if cell.get_status() >= ActorStatus::Stopping {
            tracing::warn!(part = child.spec.name, "a part of the node ended at once");
            self.ended(myself, index, Exit::Abnormal);
            return;
        }
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
            // A node without one of its parts only looks alive; whoever runs it starts another process.
            Decision::CoolDown { .. } => {
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

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::time::Duration;

    use super::*;

    struct Part;

    impl Actor for Part {
        type Msg = ();
        type State = ();
        type Arguments = ();

        async fn pre_start(&self, _: ActorRef<()>, (): ()) -> Result<(), ActorProcessingErr> {
            Ok(())
        }

        async fn handle(
            &self,
            _: ActorRef<()>,
            (): (),
            (): &mut (),
        ) -> Result<(), ActorProcessingErr> {
            panic!("as it was told")
        }
    }

    type Log = Arc<Mutex<Vec<(&'static str, ActorCell)>>>;

    fn spec(name: &'static str, log: &Log) -> ChildSpec {
        let log = log.clone();
        ChildSpec {
            name,
            policy: RestartPolicy::default(),
            start: Arc::new(move |supervisor| {
                let log = log.clone();
                Box::pin(async move {
                    let (part, _) = Actor::spawn_linked(None, Part, (), supervisor)
                        .await
                        .map_err(|error| error.to_string())?;
                    log.lock().unwrap().push((name, part.get_cell()));
                    Ok(part.get_cell())
                })
            }),
        }
    }

    async fn until<T>(mut look: impl FnMut() -> Option<T>) -> T {
        let found = async {
            loop {
                if let Some(found) = look() {
                    return found;
                }
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        let patience = Duration::from_secs(3_600);
        tokio::time::timeout(patience, found).await.unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn a_part_that_panics_or_is_killed_is_started_again_and_the_others_stay() {
        let log = Log::default();
        let (fate, _) = watch::channel(None);
        let specs = vec![spec("a", &log), spec("b", &log)];
        let (root, ended) = Actor::spawn(None, RootSupervisor, (specs, fate))
            .await
            .unwrap();
        let started = |n: usize| log.lock().unwrap().get(n).cloned();
        started(1).unwrap().1.send_message(()).unwrap();
        let (name, second) = until(|| started(2)).await;
        assert_eq!(name, "b");
        second.kill();
        assert_eq!(until(|| started(3)).await.0, "b");
        assert_eq!(
            log.lock()
                .unwrap()
                .iter()
                .filter(|(name, _)| *name == "a")
                .count(),
            1
        );
        root.send_message(RootMsg::Stop).unwrap();
        ended.await.unwrap();
        let (_, last) = started(3).unwrap();
        assert_eq!(last.get_status(), ActorStatus::Stopped);
        assert!(
            started(4).is_none(),
            "what is stopped with the node is not started again"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_part_that_dies_before_its_start_is_known_is_started_again() {
        let log = Log::default();
        let (steady, seen) = (spec("part", &log), log.clone());
        let start = steady.start;
        let dies_once = ChildSpec {
            start: Arc::new(move |supervisor| {
                let (started, seen) = (start(supervisor), seen.clone());
                Box::pin(async move {
                    let cell = started.await?;
                    if seen.lock().unwrap().len() == 2 {
                        cell.kill_and_wait(None).await.unwrap();
                    }
                    Ok(cell)
                })
            }),
            ..spec("part", &log)
        };
        let (fate, _) = watch::channel(None);
        let (root, ended) = Actor::spawn(None, RootSupervisor, (vec![dies_once], fate))
            .await
            .unwrap();
        let started = |n: usize| log.lock().unwrap().get(n).cloned();
        started(0).unwrap().1.kill();
        let (_, third) = until(|| started(2)).await;
        assert_eq!(third.get_status(), ActorStatus::Running);
        root.send_message(RootMsg::Stop).unwrap();
        ended.await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_part_that_ends_too_often_ends_the_node_with_its_name() {
        let log = Log::default();
        let (fate, mut seen) = watch::channel(None);
        let specs = vec![spec("steady", &log), spec("broken", &log)];
        let (_, ended) = Actor::spawn(None, RootSupervisor, (specs, fate))
            .await
            .unwrap();
        let killer = log.clone();
        let kill = tokio::spawn(async move {
            let mut killed = 0;
            loop {
                let next = until(|| {
                    let log = killer.lock().unwrap();
                    log.iter()
                        .filter(|(name, _)| *name == "broken")
                        .nth(killed)
                        .cloned()
                });
                next.await.1.kill();
                killed += 1;
            }
        });
        let reason = seen.wait_for(Option::is_some).await.unwrap().clone();
        assert_eq!(reason.unwrap(), "broken ended too often");
        ended.await.unwrap();
        kill.abort();
        let intensity = RestartPolicy::default().restart_intensity as usize;
        let starts = log
            .lock()
            .unwrap()
            .iter()
            .filter(|(name, _)| *name == "broken")
            .count();
        assert_eq!(starts, intensity + 1);
        let (_, steady) = log.lock().unwrap().first().cloned().unwrap();
        assert_eq!(steady.get_status(), ActorStatus::Stopped);
    }

    #[tokio::test]
    async fn a_node_whose_part_does_not_start_does_not_start() {
        let broken = ChildSpec {
            start: Arc::new(|_| Box::pin(async { Err("no luck".to_owned()) })),
            ..spec("broken", &Log::default())
        };
        let (fate, _) = watch::channel(None);
        let error = Actor::spawn(None, RootSupervisor, (vec![broken], fate))
            .await
            .unwrap_err();
        assert!(
            error.to_string().contains("broken does not start: no luck"),
            "{error}"
        );
    }
}
