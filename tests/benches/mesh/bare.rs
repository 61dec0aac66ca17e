//! The yardstick: the same requests written by hand on bare ractor, without deadlines, policy, retries, schemas,
//! progress or composition.
//!
//! Per request it spawns a linked actor, calls workers, gathers, replies and stops: what no orchestrator on ractor can
//! go below. Payloads are numbers.

use std::sync::Arc;

use amcp_tests::bench::load::{Fate, Subject};
use amcp_tests::bench::{LONG, Shape};
use futures_util::future::join_all;
use ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort, SupervisionEvent, call};
use tokio::sync::{Semaphore, oneshot};

pub(crate) struct Bare {
    root: ActorRef<Nothing>,
    workers: [ActorRef<Work>; 3],
}

struct Nothing;
impl ractor::Message for Nothing {}

/// Supervises the requests.
struct Root;

impl Actor for Root {
    type Msg = Nothing;
    type State = ();
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<Nothing>, (): ()) -> Result<(), ActorProcessingErr> {
        Ok(())
    }

    async fn handle_supervisor_evt(
        &self,
        _: ActorRef<Nothing>,
        _: SupervisionEvent,
        (): &mut (),
    ) -> Result<(), ActorProcessingErr> {
        Ok(())
    }
}

/// To a worker: a number to add one to.
struct Work(u64, RpcReplyPort<u64>);
impl ractor::Message for Work {}

/// Answers at once, or when its gate opens.
struct Worker;

impl Actor for Worker {
    type Msg = Work;
    type State = Arc<Semaphore>;
    type Arguments = Arc<Semaphore>;

    async fn pre_start(
        &self,
        _: ActorRef<Work>,
        gate: Arc<Semaphore>,
    ) -> Result<Self::State, ActorProcessingErr> {
        Ok(gate)
    }

    async fn handle(
        &self,
        _: ActorRef<Work>,
        Work(number, reply): Work,
        gate: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        let _open = gate.acquire().await?;
        Ok(reply.send(number + 1)?)
    }
}

struct Start;
impl ractor::Message for Start {}

/// One request.
struct Request;

struct Running {
    shape: Shape,
    workers: [ActorRef<Work>; 3],
    reply: Option<oneshot::Sender<u64>>,
}

impl Actor for Request {
    type Msg = Start;
    type State = Running;
    type Arguments = Running;

    async fn pre_start(
        &self,
        myself: ActorRef<Start>,
        running: Running,
    ) -> Result<Running, ActorProcessingErr> {
        myself.cast(Start)?;
        Ok(running)
    }

    async fn handle(
        &self,
        myself: ActorRef<Start>,
        Start: Start,
        running: &mut Running,
    ) -> Result<(), ActorProcessingErr> {
        let [a, b, c] = &running.workers;
        let answer = match running.shape {
            Shape::Diamond => {
                let ask = |worker: ActorRef<Work>| async move { call!(worker, Work, 1) };
                let (x, y) = tokio::join!(ask(a.clone()), ask(b.clone()));
                let sum = x? + y?;
                call!(c, Work, sum)?
            }
            Shape::Wide => {
                let calls = (0..LONG as u64).map(|i| {
                    let worker = a.clone();
                    async move { call!(worker, Work, i) }
                });
                let results = join_all(calls).await;
                results.into_iter().sum::<Result<u64, _>>()?
            }
            Shape::Deep => {
                let mut number = 0;
                for _ in 0..LONG {
                    number = call!(a, Work, number)?;
                }
                number
            }
        };
        if let Some(reply) = running.reply.take() {
            // The asker may have gone away.
            let _ = reply.send(answer);
        }
        myself.stop(None);
        Ok(())
    }
}

impl Bare {
    /// Workers answer as long as the gate has permits.
    pub(crate) async fn start(gate: Arc<Semaphore>) -> Self {
        let worker = async || {
            let spawned = Actor::spawn(None, Worker, gate.clone()).await;
            spawned.expect("a worker starts").0
        };
        let (root, _) = Actor::spawn(None, Root, ()).await.expect("a root starts");
        Self {
            root,
            workers: [worker().await, worker().await, worker().await],
        }
    }
}

impl Subject for Bare {
    type Question = Shape;

    async fn ask(&self, shape: Shape) -> Fate {
        let (reply, answer) = oneshot::channel();
        let running = Running {
            shape,
            workers: self.workers.clone(),
            reply: Some(reply),
        };
        Actor::spawn_linked(None, Request, running, self.root.get_cell())
            .await
            .expect("a request starts");
        answer.await.expect("a request answers");
        Fate::Answered
    }
}
