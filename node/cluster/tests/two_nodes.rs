//! Two real nodes: one in this process, the other in processes that this test starts from its own binary, because
//! ractor's registries allow only one node in a process.

#![expect(
    clippy::unwrap_used,
    reason = "a test that cannot go on says so by panicking"
)]

use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use amcp_cluster::{
    AllowList, Cluster, ClusterSettings, Desk, MemberState, MemberView, Role, Seed,
};
use amcp_protocol::llm::PortFuture;
use amcp_protocol::{Failure, FlowAnswer, FlowId, NodeName, RequestId, TopicPattern};
use amcp_registry::RegistryHandle;
use amcp_registry::bus::EventBus;
use ractor::ActorCell;
use serde_json::Value;
use tokio::time::{Instant, sleep};

/// Far beyond what a loaded machine needs.
const PATIENCE: Duration = Duration::from_secs(30);
/// Where the other node finds the first: set only for processes that this test starts.
const JOIN: &str = "AMCP_TEST_JOIN";

#[derive(Debug)]
struct NoRequests;

impl Desk for NoRequests {
    fn request(&self, _id: RequestId) -> Option<Value> {
        None
    }

    fn cancel(&self, _id: RequestId) -> bool {
        false
    }

    fn answer_flow(
        &self,
        _: RequestId,
        _: FlowId,
        _: FlowAnswer,
    ) -> PortFuture<'static, Option<Result<(), Failure>>> {
        Box::pin(async { None })
    }
}

async fn node(name: &str, seeds: Vec<Seed>, bus: EventBus) -> (Cluster, ActorCell) {
    let registry = RegistryHandle::new("two-nodes", bus);
    registry.spawn(None).await.unwrap();
    let settings = ClusterSettings {
        name: NodeName::new(name).unwrap(),
        roles: vec![Role::Specialists],
        domain: None,
        bind: "127.0.0.1:0".parse().unwrap(),
        advertise: None,
        http: None,
        seeds,
        cookie: "0123456789abcdef0123456789abcdef".to_owned(),
        tls: None,
        insecure: false,
        allow: AllowList::default(),
    };
    let cluster = Cluster::bind(settings, registry, Arc::new(NoRequests))
        .await
        .unwrap();
    let actor = cluster.spawn(None).await.unwrap();
    (cluster, actor)
}

fn other(join: &str) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "the_other_node", "--nocapture"])
        .env(JOIN, join)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap()
}

async fn wait_for(cluster: &Cluster, what: &str, is: impl Fn(&MemberView) -> bool) -> MemberView {
    let end = Instant::now() + PATIENCE;
    loop {
        let view = cluster.view();
        let b = view
            .members
            .iter()
            .find(|member| member.name.as_str() == "b");
        if let Some(b) = b.filter(|b| is(b)) {
            return b.clone();
        }
        assert!(Instant::now() < end, "b is not {what}: {view:#?}");
        sleep(Duration::from_millis(10)).await;
    }
}

/// Not a test of its own: what the processes run that the test below starts. Leaves when its standard input ends.
#[tokio::test(flavor = "multi_thread")]
async fn the_other_node() {
    let Ok(join) = std::env::var(JOIN) else {
        return;
    };
    let (cluster, _) = node("b", vec![Seed::Host(join)], EventBus::new()).await;
    let ended = tokio::task::spawn_blocking(|| std::io::read_to_string(std::io::stdin()));
    ended.await.unwrap().unwrap();
    cluster.drain(PATIENCE).await;
    cluster.leave().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_joins_outlives_an_actor_dies_comes_back_and_leaves() {
    let bus = EventBus::new();
    let mut events = bus.subscribe("node.*".parse::<TopicPattern>().unwrap(), 64);
    let (cluster, actor) = node("a", vec![], bus).await;
    let join = cluster.address().to_string();

    let mut child = other(&join);
    let first = wait_for(&cluster, "alive", |b| b.state == MemberState::Alive).await;
    assert_eq!(first.security.as_deref(), Some("plain"));

    // The actor dies; the one that follows has the link again.
    actor.kill_and_wait(None).await.unwrap();
    cluster.spawn(None).await.unwrap();
    wait_for(&cluster, "alive over another link", |b| {
        b.state == MemberState::Alive && cluster.view().counts.links == 2
    })
    .await;

    child.kill().unwrap();
    child.wait().unwrap();
    wait_for(&cluster, "lost", |b| b.state == MemberState::Lost).await;

    let mut child = other(&join);
    let second = wait_for(&cluster, "alive again", |b| b.state == MemberState::Alive).await;
    assert!(second.incarnation > first.incarnation);
    drop(child.stdin.take());
    wait_for(&cluster, "gone", |b| b.state == MemberState::Left).await;
    child.wait().unwrap();

    let mut told = Vec::new();
    while told.len() < 5 {
        told.push(events.recv().await.unwrap().event_type.clone());
    }
    assert_eq!(
        told,
        [
            "node.joined",
            "node.joined",
            "node.lost",
            "node.joined",
            "node.left"
        ]
    );
}
