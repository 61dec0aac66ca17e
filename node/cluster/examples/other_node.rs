//! A node without work that joins another node, and leaves when its standard input ends: `other_node HOST:PORT`.
//!
//! The test `two_nodes` starts and kills it.

#![expect(
    clippy::unwrap_used,
    reason = "a part of a test that cannot go on says so by panicking"
)]

#[path = "../tests/two_nodes/node.rs"]
mod node;

use amcp_cluster::Seed;
use amcp_registry::bus::EventBus;
use node::PATIENCE;

#[tokio::main]
async fn main() {
    let join = std::env::args().nth(1).expect("the address of a node");
    let (cluster, _) = node::node("b", vec![Seed::Host(join)], EventBus::new()).await;
    let ended = tokio::task::spawn_blocking(|| std::io::read_to_string(std::io::stdin()));
    ended.await.unwrap().unwrap();
    cluster.drain(PATIENCE).await;
    cluster.leave().await;
}
