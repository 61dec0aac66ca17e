//! Many agents: how long until every node knows all of them, and what a remote one costs the others in memory.
//!
//! They only register; nobody sends them tasks.

use std::error::Error;
use std::time::{Duration, Instant};

use amcp_cluster::{Cluster, MemberState, Role};
use amcp_protocol::Capability;
use amcp_registry::{AgentState, RegistryHandle};
use amcp_specialists::ChildSpec;
use amcp_tests::bench::report::{Goal, Report};
use amcp_tests::cluster::here;

use crate::ours::Counter;
use crate::worker::{self, Worker};

/// Kinds of agents: a mesh has many agents of few kinds.
const KINDS: usize = 5;
/// How often a worker looks whether it knows all; the figures are a hundred times as large.
const LOOK: Duration = Duration::from_millis(5);
/// Resident memory that has not grown for so long does not grow.
const QUIET: Duration = Duration::from_millis(500);

/// A worker: `join SEED` links it (`-`: to nobody yet), `await N` answers when it knows N agents.
pub(crate) async fn work(name: &str, agents: usize) -> Result<(), Box<dyn Error>> {
    let children = (0..agents).map(|number| {
        let kind = Capability::new(&format!("scale.kind{}", number % KINDS), "Counts.");
        ChildSpec::new(&format!("agent-{number}@{name}"), move || {
            Counter(kind.clone())
        })
    });
    let (registry, _specialists) = here::specialists(children.collect()).await?;
    worker::say("ready");
    let mut cluster = None;
    let mut orders = worker::orders();
    while let Some(order) = orders.recv().await {
        match order.split_once(' ') {
            Some(("join", seed)) => {
                let seed = (seed != "-").then_some(seed);
                let linked = here::link(name, Role::Specialists, seed, &registry).await?;
                worker::say(&linked.address().to_string());
                if seed.is_some() {
                    until(|| is_linked(&linked)).await;
                    worker::say("linked");
                }
                cluster = Some(linked);
            }
            Some(("await", count)) => {
                let count: usize = count.parse()?;
                until(|| knows(&registry) >= count).await;
                worker::say("full");
            }
            _ => return Err(format!("an unknown order: `{order}`").into()),
        }
    }
    drop(cluster);
    Ok(())
}

fn is_linked(cluster: &Cluster) -> bool {
    let members = cluster.view().members;
    members
        .iter()
        .any(|member| member.state == MemberState::Alive)
}

fn knows(registry: &RegistryHandle) -> usize {
    let agents = registry.load();
    let ready = agents.entries().filter(|e| e.state == AgentState::Ready);
    ready.count()
}

async fn until(condition: impl Fn() -> bool) {
    while !condition() {
        tokio::time::sleep(LOOK).await;
    }
}

/// Two nodes, then a third.
pub(crate) async fn measure(report: &mut Report, agents: usize) -> Result<(), Box<dyn Error>> {
    eprintln!("── scale: {agents} agents on each node");
    let mut nodes = Vec::new();
    for name in ["one", "two", "three"] {
        let mut node = Worker::start(&format!("scale {name} {agents}"))?;
        node.hears().await?;
        nodes.push(node);
    }
    let [one, ..] = nodes.as_mut_slice() else {
        return Err("three nodes were started".into());
    };
    one.tell("join -").await?;
    let seed = one.hears().await?;
    let alone = resident(&nodes).await;
    let mut last = alone;
    for count in [2, 3] {
        let all = count * agents;
        let Some(linked) = nodes.get_mut(..count) else {
            return Err("three nodes were started".into());
        };
        let (link, full) = join(linked, &seed, all).await?;
        let name = |what| format!("{all} agents on {count} nodes: {what}");
        let ms = |took: Duration| (took.as_secs_f64() * 1e3, None);
        report.add(
            name("the new node is linked after"),
            "ms",
            ms(link),
            Goal::None,
        );
        let goal = Goal::AtMost(2_000.0);
        report.add(name("every node knows all after"), "ms", ms(full), goal);
        let now = resident(&nodes).await;
        if let Some(((now, alone), last)) = now.zip(alone).zip(last) {
            let kb = |bytes: u64, agents: usize| (bytes as f64 / 1e3 / agents as f64, None);
            let grown = now.saturating_sub(alone);
            let each = kb(grown, all - agents);
            report.add(name("memory per remote agent"), "KB", each, Goal::None);
            if count > 2 {
                let newest = kb(now.saturating_sub(last), agents);
                let what = name("memory per agent of the newest node");
                report.add(what, "KB", newest, Goal::None);
            }
            let whole = (now as f64 / 1e6, None);
            report.add(name("memory of the first node"), "MB", whole, Goal::None);
        }
        last = now;
    }
    report.note("scale: memory is the growth of the first node's resident memory, links included");
    Ok(())
}

/// Links the last of the nodes; how long until it was linked, and until all nodes knew all.
async fn join(
    nodes: &mut [Worker],
    seed: &str,
    all: usize,
) -> Result<(Duration, Duration), Box<dyn Error>> {
    let Some((newest, others)) = nodes.split_last_mut() else {
        return Err("nobody joins".into());
    };
    for node in others.iter_mut() {
        node.tell(&format!("await {all}")).await?;
    }
    let began = Instant::now();
    newest.tell(&format!("join {seed}")).await?;
    newest.tell(&format!("await {all}")).await?;
    newest.hears().await?;
    newest.hears().await?;
    let linked = began.elapsed();
    newest.hears().await?;
    for node in others {
        node.hears().await?;
    }
    Ok((linked, began.elapsed()))
}

/// What the first node occupies when it no longer grows.
async fn resident(nodes: &[Worker]) -> Option<u64> {
    let mut seen = nodes.first()?.resident()?;
    loop {
        tokio::time::sleep(QUIET).await;
        let now = nodes.first()?.resident()?;
        if now <= seen {
            return Some(now);
        }
        seen = now;
    }
}
