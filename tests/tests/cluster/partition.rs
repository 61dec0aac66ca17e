//! Networks that fail: cut both ways, cut one way, slow.
//!
//! Needs network namespaces; each test says when it is skipped.

use amcp_cluster::MemberState;
use amcp_tests::cluster::load::Load;
use amcp_tests::cluster::netns::Network;
use amcp_tests::cluster::{Member, SPECIALISTS, Spec, mesh, until};
use amcp_tests::process::PATIENCE;

use super::{DETECTED, QUERIES, all_complete};

const AT_ONCE: usize = 4;

/// a takes requests; b and c do the work, or b alone.
async fn spread(network: &Network, specs: Vec<Spec>) -> Vec<Member> {
    let inside = specs.into_iter().zip(0..).map(|(spec, node)| {
        spec.inside(&network.namespace(node), &network.address(node).to_string())
    });
    mesh(inside.collect()).await
}

#[expect(clippy::print_stdout, reason = "measured figures are shown")]
async fn survives(cut: impl Fn(&Network) -> Result<(), String>) {
    let Some(network) = Network::or_skip(3) else {
        return;
    };
    let specs = vec![
        Spec::new("a").orchestrates(),
        Spec::new("b"),
        Spec::new("c"),
    ];
    let members = spread(&network, specs).await;
    let [a, b, c] = members.as_slice() else {
        unreachable!()
    };
    a.has_agents(2 * SPECIALISTS).await;
    let load = Load::start(&[a.http.unwrap()], &QUERIES, AT_ONCE);
    until("requests are answered", PATIENCE, async || {
        load.ended() >= 20
    })
    .await;
    cut(&network).unwrap();
    let (here, there) = tokio::join!(
        a.sees("b", MemberState::Lost, DETECTED),
        b.sees("a", MemberState::Lost, DETECTED),
    );
    println!("a lost b after {here:?}, b lost a after {there:?}");
    c.sees("a", MemberState::Alive, PATIENCE).await;
    c.sees("b", MemberState::Alive, PATIENCE).await;
    let so_far = load.ended();
    until("requests are answered", PATIENCE, async || {
        load.ended() >= so_far + 20
    })
    .await;
    network.heal(0).unwrap();
    let healed = a.sees("b", MemberState::Alive, PATIENCE).await;
    b.sees("a", MemberState::Alive, PATIENCE).await;
    a.has_agents(2 * SPECIALISTS).await;
    println!("healed after {healed:?}");
    all_complete(&load.stop().await);
}

#[tokio::test]
async fn a_cut_is_noticed_on_both_sides_and_heals() {
    survives(|network| network.cut(0, 1)).await;
}

#[tokio::test]
async fn a_cut_in_one_direction_is_noticed_on_both_sides_and_heals() {
    survives(|network| network.deafen(0, 1)).await;
}

#[tokio::test]
async fn a_slow_link_is_no_lost_node() {
    // Some 200 KB of result: six seconds at this rate, in which heartbeats must get through or not be missed.
    const QUERY: [&str; 1] = ["SELECT * FROM expenses LIMIT 1200"];
    let Some(network) = Network::or_skip(2) else {
        return;
    };
    let specs = vec![
        Spec::new("a").orchestrates(),
        Spec::new("b").specialises(&["finance"]),
    ];
    let members = spread(&network, specs).await;
    let a = &members[0];
    a.has_agents(2).await;
    network.slow(1, "256kbit").unwrap();
    let load = Load::start(&[a.http.unwrap()], &QUERY, 2);
    until("results crossed the slow link", PATIENCE, async || {
        load.ended() >= 2
    })
    .await;
    let outcomes = load.stop().await;
    all_complete(&outcomes);
    let (_, answer) = outcomes[0].answer.clone().unwrap();
    let bytes = answer.tasks[0].result.clone().unwrap().to_string().len();
    assert!(
        bytes > 150_000,
        "the result has {bytes} bytes: too few to fill the link"
    );
    let counts = a.view().await.counts;
    assert_eq!((counts.evicted, counts.links), (0, 1), "{counts:?}");
}
