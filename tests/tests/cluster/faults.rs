//! Nodes that are killed and frozen while requests run.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use amcp_cluster::MemberState;
use amcp_tests::cluster::load::{Load, ask, commits, percentile, recoveries};
use amcp_tests::cluster::{Member, SPECIALISTS, Spec, mesh, until};
use amcp_tests::process::{PATIENCE, client};

use super::{DETECTED, QUERIES, all_complete};

/// Keeps a specialist busy for some seconds, and changes nothing.
pub(crate) const SLOW: &str =
    "SELECT count(*) FROM expenses a, expenses b WHERE a.amount < b.amount";

/// Requests at a time: every node has some in its hands when it is killed.
const AT_ONCE: usize = 8;

/// One that takes requests, and so many that do the work.
async fn one_and_specialists(names: &[&str]) -> (Member, Vec<Member>) {
    let mut specs = vec![Spec::new("a").orchestrates().env("AMCP_RETAINED", "100000")];
    specs.extend(names.iter().map(|name| Spec::new(name).specialises(&[])));
    let mut members = mesh(specs).await;
    let a = members.remove(0);
    a.has_agents(SPECIALISTS * names.len()).await;
    (a, members)
}

async fn so_many_answered(load: &Load, count: usize) {
    until("requests are answered", PATIENCE, async || {
        load.ended() >= count
    })
    .await;
}

#[tokio::test]
async fn a_killed_node_costs_nobody_an_answer() {
    let (a, mut members) = one_and_specialists(&["b", "c"]).await;
    let load = Load::start(&[a.http.unwrap()], &QUERIES, AT_ONCE);
    so_many_answered(&load, 50).await;
    let killed = Instant::now();
    members[0].kill().await;
    let seen = a.sees("b", MemberState::Lost, DETECTED).await;
    a.has_agents(SPECIALISTS).await;
    so_many_answered(&load, load.ended() + 50).await;
    let outcomes = load.stop().await;
    all_complete(&outcomes);
    let used = |since: Option<Instant>| -> BTreeSet<String> {
        let after = outcomes
            .iter()
            .filter(|o| since.is_none_or(|since| o.began > since));
        let agents = after.flat_map(|o| o.agents().map(str::to_owned));
        agents
            .filter_map(|agent| agent.split_once('@').map(|(_, node)| node.to_owned()))
            .collect()
    };
    assert!(used(None).contains("b"), "b worked before");
    assert_eq!(used(Some(killed + seen)), ["c".to_owned()].into());
    println!(
        "seen after {seen:?}; the last request under way was answered {:?} after the kill",
        recoveries(&[killed], &outcomes)
    );
}

#[tokio::test]
async fn a_hundred_random_kills_lose_nothing_and_commit_nothing_twice() {
    const KILLS: usize = 100;
    let (a, mut members) = one_and_specialists(&["b", "c", "d"]).await;
    let load = Load::start(&[a.http.unwrap()], &QUERIES, AT_ONCE);
    let seed = std::env::var("AMCP_TEST_SEED").map(|seed| seed.parse().expect("a number"));
    let seed = seed.unwrap_or_else(|_| fastrand::u64(..));
    println!("AMCP_TEST_SEED={seed} chooses the same victims");
    let mut victims = fastrand::Rng::with_seed(seed);
    let mut kills = Vec::new();
    for _ in 0..KILLS {
        so_many_answered(&load, load.ended() + 5).await;
        let mut victim = members.remove(victims.usize(..members.len()));
        kills.push(Instant::now());
        victim.kill().await;
        members.push(victim.start_again().await);
        // A task that three agents died with goes to nobody: each kill is one by itself.
        a.has_agents(3 * SPECIALISTS).await;
    }
    a.has_agents(3 * SPECIALISTS).await;
    so_many_answered(&load, load.ended() + 20).await;
    let outcomes = load.stop().await;
    all_complete(&outcomes);
    let client = client();
    let mut sent_again = 0;
    for outcome in &outcomes {
        sent_again += usize::from(outcome.sent > 1);
        let (tasks, answers) = commits(&client, outcome.answer.as_ref().unwrap())
            .await
            .unwrap();
        assert!(
            answers == 1 && tasks.iter().all(|&times| times == 1),
            "{tasks:?} {answers} {outcome:?}"
        );
    }
    assert_eq!(sent_again, 0, "the gateway was there all the time");
    let recovered = recoveries(&kills, &outcomes);
    println!(
        "{KILLS} kills, {} requests, lost 0, committed twice 0; recovery p50 {:?}, p99 {:?}; {:?}",
        outcomes.len(),
        percentile(&recovered, 0.5),
        percentile(&recovered, 0.99),
        a.view().await.counts
    );
}

#[tokio::test]
async fn a_pause_of_three_seconds_evicts_nobody() {
    let (a, members) = one_and_specialists(&["b", "c"]).await;
    let load = Load::start(&[a.http.unwrap()], &QUERIES, AT_ONCE);
    so_many_answered(&load, 20).await;
    let before = a.member("b").await.unwrap();
    members[0].signal("STOP").await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    members[0].signal("CONT").await;
    a.sees("b", MemberState::Alive, PATIENCE).await;
    so_many_answered(&load, load.ended() + 20).await;
    all_complete(&load.stop().await);
    let after = a.member("b").await.unwrap();
    assert_eq!(a.view().await.counts.evicted, 0);
    assert_eq!(after.incarnation, before.incarnation);
}

#[tokio::test]
async fn a_frozen_node_is_evicted_fenced_when_it_wakes_and_taken_back() {
    let specs = vec![
        Spec::new("a").orchestrates(),
        Spec::new("b").with(&["--specialists", "finance"]),
    ];
    let mut members = mesh(specs).await;
    let b = members.pop().unwrap();
    let a = members.pop().unwrap();
    a.has_agents(2).await;
    let (gateway, slow) = (a.http.unwrap(), SLOW);
    let asked = tokio::spawn(async move { ask(&client(), &[gateway], slow).await });
    until("b works on it", PATIENCE, async || {
        a.member("b").await.unwrap().in_flight == 1
    })
    .await;
    b.signal("STOP").await;
    // Somebody else who can do it.
    let c = Spec::new("c").specialises(&["finance"]).joins(a.cluster);
    let _c = Member::start(c).await;
    let seen = a.sees("b", MemberState::Lost, DETECTED).await;
    let outcome = asked.await.unwrap();
    assert!(outcome.is_complete(), "{outcome:?}");
    assert!(
        outcome.agents().all(|agent| agent.ends_with("@c")),
        "{outcome:?}"
    );
    b.signal("CONT").await;
    let back = a.sees("b", MemberState::Alive, PATIENCE).await;
    // What b still had in its hands when it woke was nobody's any more.
    let dropped = until(
        "the late answer is dropped and counted",
        PATIENCE,
        async || {
            let counts = [a.view().await.counts, b.view().await.counts];
            counts.iter().map(|counts| counts.dropped_late).sum::<u64>() > 0
        },
    );
    dropped.await;
    assert_eq!(a.view().await.counts.evicted, 1);
    println!(
        "evicted {seen:?} after the freeze was begun to be watched, taken back {back:?} after it woke"
    );
}
