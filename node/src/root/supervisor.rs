//! The [`RootSupervisor`] starts the parts of a node in order and restarts a part that ends, within its budget.
//!
//! Does not know what the parts do. When one ends too often the supervisor ends, and the node with it: a node without one of
//! its parts only looks alive, and only a new process can help.

use std::pin::Pin;
use std::sync::Arc;

use amcp_registry::{Decision, RestartPolicy};
use amcp_specialists::supervisor::children::{ChildMsg, ChildNews, Children, NotStarted};
use ractor::{Actor, ActorCell, ActorProcessingErr, ActorRef, SupervisionEvent};
use tokio::sync::watch;

/// Starts a part, linked to the cell that it is given.
pub(crate) type Start = Arc<
    dyn Fn(ActorCell) -> Pin<Box<dyn Future<Output = Result<ActorCell, String>> + Send>>
        + Send
        + Sync,
>;

/// One part of the node.
#[derive(Clone)]
pub(crate) struct PartSpec {
    /// For the log.
    pub(crate) name: &'static str,
    /// The budget of restarts.
    pub(crate) policy: RestartPolicy,
    pub(crate) start: Start,
}

amcp_protocol::opaque_debug!(PartSpec);

#[derive(Debug)]
pub(crate) enum RootMsg {
    /// From its timers and the tasks that start parts. The number is the part's place in the order of the start.
    Part(ChildMsg<usize>),
    /// From the node: stop the parts, the last one first, then the supervisor.
    Stop,
}

impl ractor::Message for RootMsg {}

impl From<ChildMsg<usize>> for RootMsg {
    fn from(message: ChildMsg<usize>) -> Self {
        Self::Part(message)
    }
}

/// The reason why the node cannot go on; none while it can.
pub(crate) type Fate = watch::Sender<Option<String>>;

#[derive(Debug)]
pub(crate) struct RootSupervisor;

/// The parts, in the order of their start.
#[derive(Debug)]
pub(crate) struct RootState {
    parts: Children<usize, PartSpec>,
    fate: Fate,
}

impl Actor for RootSupervisor {
    type Msg = RootMsg;
    type State = RootState;
    type Arguments = (Vec<PartSpec>, Fate);

    async fn pre_start(
        &self,
        myself: ActorRef<RootMsg>,
        (specs, fate): Self::Arguments,
    ) -> Result<RootState, ActorProcessingErr> {
        let mut state = RootState {
            parts: Children::default(),
            fate,
        };
        for (index, spec) in specs.into_iter().enumerate() {
            let part = (spec.start)(myself.get_cell())
                .await
                .map_err(|reason| format!("{} does not start: {reason}", spec.name))?;
            let policy = spec.policy;
            state.parts.add(index, spec, policy);
            if let Some(news) = state.parts.started(&myself, &index, Ok(part)) {
                state.heard(&myself, index, news);
            }
        }
        Ok(state)
    }

    async fn handle(
        &self,
        myself: ActorRef<RootMsg>,
        message: RootMsg,
        state: &mut RootState,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            RootMsg::Part(ChildMsg::Start(index)) => state.start(&myself, index),
            RootMsg::Part(ChildMsg::Started(index, outcome)) => {
                if let Some(news) = state.parts.started(&myself, &index, outcome) {
                    state.heard(&myself, index, news);
                }
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
        if let Some((index, news)) = state.parts.event(&myself, event) {
            state.heard(&myself, index, news);
        }
        Ok(())
    }
}

impl RootState {
    fn start(&mut self, myself: &ActorRef<RootMsg>, index: usize) {
        if let Some(spec) = self.parts.get(&index) {
            let start = (spec.start)(myself.get_cell());
            let start = async move { start.await.map_err(NotStarted::Failed) };
            self.parts.start(myself, index, start);
        }
    }

    fn heard(&mut self, myself: &ActorRef<RootMsg>, index: usize, news: ChildNews) {
        let part = self.parts.get(&index).map_or("", |spec| spec.name);
        match news {
            ChildNews::Runs(actor) if self.parts.is_closing() => actor.stop(None),
            ChildNews::Runs(_) => tracing::info!(part, "a part of the node runs"),
            ChildNews::Ended(Decision::Restart { after }, reason) => {
                tracing::warn!(part, %reason, ?after, "a part of the node ended and is restarted");
            }
            ChildNews::Ended(Decision::Leave, reason) => {
                tracing::info!(part, %reason, "a part of the node ended");
            }
            ChildNews::Ended(Decision::CoolDown { .. }, reason) | ChildNews::Refused(reason) => {
                tracing::error!(part, %reason, "a part ended too often: the node gives up");
                let fate = format!("{part} ended too often");
                self.fate.send_replace(Some(fate));
                self.stop(myself);
            }
        }
    }

    /// Stops the parts before the supervisor: ractor kills the children of a stopping parent without post_stop.
    fn stop(&mut self, myself: &ActorRef<RootMsg>) {
        if !self.parts.close() {
            return;
        }
        let running = self.parts.all_running().rev();
        let running: Vec<ActorCell> = running.map(|(_, _, actor)| actor.clone()).collect();
        let myself = myself.clone();
        tokio::spawn(async move {
            for actor in running {
                let _ = actor.stop_and_wait(None, Some(super::PART_STOP)).await;
            }
            myself.stop(None);
        });
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::time::Duration;

    use ractor::ActorStatus;

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

    fn spec(name: &'static str, log: &Log) -> PartSpec {
        let log = log.clone();
        PartSpec {
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
        let dies_once = PartSpec {
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
        let broken = PartSpec {
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
