//! The yardstick: the same requests written by hand on bare ractor_cluster, without deadlines, policy, retries, schemas,
//! progress or composition; only each call has a time-out, without which a lost peer would hold it for ever.
//!
//! Payloads are bytes.

use std::error::Error;
use std::net::{Ipv4Addr, TcpListener};
use std::time::{Duration, Instant};

use amcp_tests::bench::load::{Fate, Subject};
use amcp_tests::bench::memory;
use ractor::{Actor, ActorCell, ActorProcessingErr, ActorRef, RpcReplyPort, SupervisionEvent, pg};
use ractor::{RactorErr, call_t};
use ractor_cluster::{NodeServer, NodeServerMessage, RactorClusterMessage};
use tokio::sync::oneshot;

use crate::worker::{self, Worker};

/// The time-out of each call, in milliseconds.
const CALL_MS: u64 = 5_000;
/// What both nodes know.
const COOKIE: &str = "3d1f0a9be86c4c5d8e7a2b914f60d7c3";
/// One group for each kind of worker.
const GROUPS: [&str; 3] = ["bare/a", "bare/b", "bare/c"];
/// How long the nodes may take to know each other.
const MEET: Duration = Duration::from_secs(10);

pub(crate) struct Bare {
    root: ActorRef<Nothing>,
    workers: [ActorRef<Work>; 3],
    worker: Worker,
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

/// To a worker, over the wire.
#[derive(RactorClusterMessage)]
enum Work {
    /// Bytes whose first eight are a number to add one to.
    #[rpc]
    Count(Vec<u8>, RpcReplyPort<Vec<u8>>),
}

/// A number and so many bytes beside it.
fn parcel(number: u64, payload: usize) -> Vec<u8> {
    let mut bytes = number.to_le_bytes().to_vec();
    bytes.resize(8 + payload, b'x');
    bytes
}

fn number(bytes: &[u8]) -> u64 {
    let first = bytes.first_chunk().copied();
    u64::from_le_bytes(first.unwrap_or_default())
}

/// Answers at once.
struct Counter;

impl Actor for Counter {
    type Msg = Work;
    type State = ();
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<Work>, (): ()) -> Result<(), ActorProcessingErr> {
        Ok(())
    }

    async fn handle(
        &self,
        _: ActorRef<Work>,
        Work::Count(mut bytes, reply): Work,
        (): &mut (),
    ) -> Result<(), ActorProcessingErr> {
        let next = number(&bytes) + 1;
        if let Some(first) = bytes.first_chunk_mut() {
            *first = next.to_le_bytes();
        }
        Ok(reply.send(bytes)?)
    }
}

struct Start;
impl ractor::Message for Start {}

/// One request.
struct Request;

struct Running {
    payload: usize,
    workers: [ActorRef<Work>; 3],
    reply: Option<oneshot::Sender<u64>>,
}

async fn ask(worker: &ActorRef<Work>, bytes: Vec<u8>) -> Result<Vec<u8>, RactorErr<Work>> {
    call_t!(worker, Work::Count, CALL_MS, bytes)
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
        let of = |number| parcel(number, running.payload);
        let (x, y) = tokio::join!(ask(a, of(1)), ask(b, of(2)));
        let (mut bytes, y) = (x?, y?);
        let sum = number(&bytes) + number(&y);
        if let Some(first) = bytes.first_chunk_mut() {
            *first = sum.to_le_bytes();
        }
        let answer = number(&ask(c, bytes).await?);
        if let Some(reply) = running.reply.take() {
            // The asker may have gone away.
            let _ = reply.send(answer);
        }
        myself.stop(None);
        Ok(())
    }
}

/// A node that listens on this port of this machine.
async fn node(name: &str, port: u16) -> Result<ActorRef<NodeServerMessage>, Box<dyn Error>> {
    let host = Ipv4Addr::LOCALHOST.to_string();
    let server = NodeServer::new(port, COOKIE.to_owned(), name.to_owned(), host, None, None)
        .with_listen_addr(Ipv4Addr::LOCALHOST.into());
    Ok(Actor::spawn(None, server, ()).await?.0)
}

/// The server can be told a free port, but cannot say which it chose.
fn free_port() -> std::io::Result<u16> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    Ok(listener.local_addr()?.port())
}

/// The worker process.
pub(crate) async fn work(port: u16) -> Result<(), Box<dyn Error>> {
    let _server = node("bare-workers", port).await?;
    for group in GROUPS {
        let (counter, _) = Actor::spawn(None, Counter, ()).await?;
        pg::join(group.to_owned(), vec![counter.get_cell()]);
    }
    worker::say("ready");
    worker::until_alone().await;
    Ok(())
}

impl Bare {
    pub(crate) async fn start() -> Result<Self, Box<dyn Error>> {
        let port = free_port()?;
        let mut worker = Worker::start(&format!("bare {port}"))?;
        worker.hears().await?;
        let server = node("bare-requests", free_port()?).await?;
        ractor_cluster::client_connect(&server, (Ipv4Addr::LOCALHOST, port)).await?;
        let began = Instant::now();
        let mut members: Vec<ActorCell> = Vec::new();
        while members.len() < GROUPS.len() {
            if began.elapsed() > MEET {
                return Err("the bare nodes do not meet".into());
            }
            // The server tells of sessions, not of the group members that they bring.
            tokio::time::sleep(Duration::from_millis(5)).await;
            let firsts = GROUPS.map(|group| pg::get_members(&group.to_owned()).pop());
            members = firsts.into_iter().flatten().collect();
        }
        let workers: Vec<ActorRef<Work>> = members.into_iter().map(ActorRef::from).collect();
        let workers = <[_; 3]>::try_from(workers).map_err(|_| "three workers")?;
        let (root, _) = Actor::spawn(None, Root, ()).await?;
        Ok(Self {
            root,
            workers,
            worker,
        })
    }
}

impl Subject for Bare {
    /// Bytes in each param and each result.
    type Question = usize;

    async fn ask(&self, payload: usize) -> Fate {
        let (reply, answer) = oneshot::channel();
        let running = Running {
            payload,
            workers: self.workers.clone(),
            reply: Some(reply),
        };
        Actor::spawn_linked(None, Request, running, self.root.get_cell())
            .await
            .expect("a request starts");
        let answer = answer.await.expect("a request answers");
        assert_eq!(answer, 6, "(1 + 1) + (2 + 1) + 1");
        Fate::Answered
    }

    fn processor(&self) -> Option<Duration> {
        Some(memory::processor()? + self.worker.processor()?)
    }
}
