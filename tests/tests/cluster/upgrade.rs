//! Nodes that are replaced one after the other.

use amcp_cluster::MemberState;
use amcp_tests::cluster::load::Load;
use amcp_tests::cluster::{SPECIALISTS, Spec, all_met, mesh, until};
use amcp_tests::process::PATIENCE;

use super::{QUERIES, all_complete};

#[tokio::test]
async fn a_rolling_restart_answers_every_request() {
    let mut members = mesh(vec![Spec::new("a"), Spec::new("b"), Spec::new("c")]).await;
    for member in &members {
        member.has_agents(3 * SPECIALISTS).await;
    }
    // As it should be configured: the first node, too, knows another.
    let second = members[1].cluster;
    members[0].also_joins(second);
    let gateways: Vec<_> = members.iter().map(|member| member.http.unwrap()).collect();
    let load = Load::start(&gateways, &QUERIES, 8);
    for _ in 0..3 {
        let so_far = load.ended();
        until("requests are answered", PATIENCE, async || {
            load.ended() >= so_far + 30
        })
        .await;
        let mut member = members.remove(0);
        member.signal("TERM").await;
        assert_eq!(member.ended().await, 0, "{}", member.log());
        let log = member.log();
        assert!(log.contains("nothing left"), "{log}");
        // It said good-bye: nobody has to find out.
        for other in &members {
            other.sees(member.name(), MemberState::Left, PATIENCE).await;
        }
        members.push(member.start_again_in_place().await);
        all_met(&members).await;
    }
    let so_far = load.ended();
    until("requests are answered", PATIENCE, async || {
        load.ended() >= so_far + 30
    })
    .await;
    let outcomes = load.stop().await;
    all_complete(&outcomes);
    let moved = outcomes.iter().filter(|outcome| outcome.sent > 1).count();
    println!(
        "{} requests answered, {moved} of them by another gateway than the first one asked",
        outcomes.len()
    );
}
