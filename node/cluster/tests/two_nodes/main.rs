//! Two real nodes: one in this process, the other in processes that this test starts from the example `other_node`, because
//! ractor's registries allow only one node in a process.

#![expect(
    clippy::unwrap_used,
    reason = "a test that cannot go on says so by panicking"
)]

mod node;

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use amcp_cluster::{Cluster, MemberState, MemberView};
use amcp_protocol::TopicPattern;
use amcp_registry::bus::EventBus;
use tokio::time::{Instant, sleep};

use node::{PATIENCE, node};

/// `cargo test` builds the example before it runs any test.
fn other(join: &str) -> Child {
    let test = std::env::current_exe().unwrap();
    // target/debug/deps/two_nodes-… → target/debug/examples/other_node
    let folder = test.parent().and_then(Path::parent).unwrap();
    Command::new(folder.join("examples/other_node"))
        .arg(join)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .expect("`cargo build --workspace --examples` makes the example other_node")
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

#[tokio::test(flavor = "multi_thread")]
async fn a_node_joins_outlives_an_actor_dies_comes_back_and_leaves() {
    let bus = EventBus::new();
    let mut events = bus.subscribe("node.*".parse::<TopicPattern>().unwrap(), 64);
    let (cluster, actor) = node("a", vec![], bus).await;
    let join = cluster.address().to_string();

    let mut child = other(&join);
    let first = wait_for(&cluster, "alive", |b| b.state == MemberState::Alive).await;
    assert_eq!(first.security.as_deref(), Some("plain"));

    // The actor dies; its successor links the nodes again.
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
