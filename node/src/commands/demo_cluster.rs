//! `amcp demo --cluster N`: starts N nodes as processes on this machine, kills one, freezes one and cuts one off while
//! requests run, and counts how the requests end.
//!
//! Counts only what the running nodes say. Needs no privileges, and leaves nothing behind.

mod load;
mod nodes;
mod wires;

use std::sync::Arc;
use std::time::{Duration, Instant};

use amcp_cluster::view::ClusterCounts;
use amcp_cluster::{ClusterView, MemberState, MemberView};
use amcp_protocol::NodeName;
use futures_util::{StreamExt, stream};

use self::load::{Asked, Load, Tally};
use self::nodes::Nodes;
use super::node::{EXIT_INTERRUPTED, Signals};
use crate::client::Client;
use crate::config::Config;
use crate::output::{self, Style, Trouble};
use crate::show;

/// How long a node is frozen or cut off: longer than the five seconds within which the others notice.
const APART: Duration = Duration::from_secs(8);
/// How long requests run undisturbed before each fault.
const QUIET: Duration = Duration::from_secs(1);
/// The period at which the demo reads the state of the mesh, and so the precision of the times.
const LOOK: Duration = Duration::from_millis(10);
/// How long we wait for a member to be lost or back; on a quiet machine it takes five seconds.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long we wait for the node to have a task before its fault; after that the fault comes without.
const BUSY_WITHIN: Duration = Duration::from_secs(2);
/// Records that the demo reads at a time in the end.
const READ_AT_ONCE: usize = 16;

/// # Errors
/// A node does not start, or the others do not notice a fault or its end.
pub(super) async fn run(count: u8) -> Result<u8, Trouble> {
    let mut signals = Signals::listen()?;
    let mut nodes = Nodes::none_yet()?;
    let outcome = tokio::select! {
        outcome = shown(&mut nodes, count) => outcome,
        () = signals.next() => Ok(EXIT_INTERRUPTED),
    };
    nodes.end().await;
    outcome
}

async fn shown(nodes: &mut Nodes, count: u8) -> Result<u8, Trouble> {
    let style = Style::for_stdout();
    output::print(format_args!(
        "Starting {count} nodes on this machine: a takes the requests, the others do the work …"
    ))?;
    nodes.start(count).await?;
    let Some(first) = nodes.all().first() else {
        return Err(Trouble::usage("a cluster has at least one node"));
    };
    let mut scene = Scene {
        a: Arc::new(Client::new(&first.url, &Config::default())?),
        workers: usize::from(count) - 1,
        agents: 0,
    };
    scene.agents = scene.all_there().await?;
    output::print(format_args!(
        "a knows {} agents of each of the others; from now on requests run all the time.",
        scene.agents
    ))?;
    let began = Instant::now();
    let mut load = Load::start(scene.a.clone());
    let mut over = Vec::new();
    for (name, fault) in [("b", Fault::Kill), ("c", Fault::Freeze), ("b", Fault::Cut)] {
        let name = NodeName::new(name).map_err(|error| Trouble::failed(error.to_string()))?;
        over.push(scene.strike(nodes, &mut load, &name, fault).await?);
    }
    tokio::time::sleep(QUIET).await;
    let asked = load.stop().await;
    let took = began.elapsed();
    let tally = scene.tally(&asked).await?;
    let counts = counted(nodes).await?;
    output::print(format_args!("\n{}\n", table(&over, &asked, style)))?;
    output::print(tally.report(&counts, took))?;
    output::verdict(
        tally.good(),
        "Every request was answered exactly once, and every node is back.",
    )
}

#[derive(Debug, Clone, Copy)]
enum Fault {
    Kill,
    Freeze,
    Cut,
}

/// A fault from which the mesh recovered.
#[derive(Debug)]
struct Over {
    what: String,
    /// From the fault to when `a` had lost the node.
    noticed: Duration,
    /// From the end of the fault to when all agents of the node were back at `a`.
    back: Duration,
    from: Instant,
    to: Instant,
}

/// The view from `a`, from which we watch the faults.
struct Scene {
    a: Arc<Client>,
    /// Number of nodes that do the work.
    workers: usize,
    /// Number of agents of each worker.
    agents: usize,
}

impl Scene {
    /// Waits until all workers are linked with `a` and have equally many agents; returns that number.
    async fn all_there(&self) -> Result<usize, Trouble> {
        let mut agents = 0;
        let met = self.wait("the nodes to meet", |view| {
            let alive = || {
                view.members
                    .iter()
                    .filter(|m| m.state == MemberState::Alive)
            };
            agents = alive().map(|member| member.agents).max().unwrap_or(0);
            agents > 0 && alive().filter(|member| member.agents == agents).count() == self.workers
        });
        met.await?;
        Ok(agents)
    }

    /// Puts a fault on a node that has work, and waits until the node is back.
    async fn strike(
        &self,
        nodes: &mut Nodes,
        load: &mut Load,
        name: &NodeName,
        fault: Fault,
    ) -> Result<Over, Trouble> {
        let style = Style::for_stdout();
        tokio::time::sleep(QUIET).await;
        // Enough slow requests for the node to get one.
        load.ask_slow(self.workers);
        let busy = |view: &ClusterView| member(view, name).is_some_and(|m| m.in_flight > 0);
        let busy = tokio::time::timeout(BUSY_WITHIN, self.wait("a task", busy)).await;
        let in_flight = match busy {
            Ok(view) => member(&view?, name).map_or(0, |member| member.in_flight),
            Err(_) => 0,
        };
        let from = Instant::now();
        fault.begin(nodes, name).await?;
        let what = fault.what(name);
        output::print(format_args!(
            "  {} {what}; tasks in its hands: {in_flight}",
            style.red("✗")
        ))?;
        let lost = |view: &ClusterView| {
            member(view, name).is_some_and(|member| member.state == MemberState::Lost)
        };
        self.wait(&format!("{name} to be lost"), lost).await?;
        let noticed = from.elapsed();
        output::print(format_args!("    a has lost it {} later", seconds(noticed)))?;
        if !matches!(fault, Fault::Kill) {
            tokio::time::sleep_until((from + APART).into()).await;
        }
        let ends = Instant::now();
        fault.end(nodes, name).await?;
        let here = |view: &ClusterView| {
            // Or more: its orchestrator is an agent too, and joins once it knows its capabilities.
            let alive = |m: &MemberView| m.state == MemberState::Alive && m.agents >= self.agents;
            member(view, name).is_some_and(alive)
        };
        self.wait(&format!("{name} to be back"), here).await?;
        let back = ends.elapsed();
        output::print(format_args!(
            "  {} {name} {}, and back with all its agents {} later",
            style.green("✓"),
            fault.ended(),
            seconds(back)
        ))?;
        let to = Instant::now();
        load.slow_answered().await;
        Ok(Over {
            what,
            noticed,
            back,
            from,
            to,
        })
    }

    /// Waits until the mesh as `a` sees it fulfils the condition.
    async fn wait(
        &self,
        what: &str,
        mut is_so: impl FnMut(&ClusterView) -> bool,
    ) -> Result<ClusterView, Trouble> {
        let seen = async {
            let mut look = tokio::time::interval(LOOK);
            loop {
                look.tick().await;
                let view: ClusterView = self.a.get("cluster").await?;
                if is_so(&view) {
                    return Ok(view);
                }
            }
        };
        let late = || {
            let waited = PATIENCE.as_secs();
            Trouble::failed(format!("waited {waited} s for {what}, without success"))
                .hint("if this machine is very busy, try again when it is less busy")
        };
        tokio::time::timeout(PATIENCE, seen)
            .await
            .map_err(|_| late())?
    }

    /// Compares the answers that the clients received with the records at `a`.
    async fn tally(&self, asked: &[Asked]) -> Result<Tally, Trouble> {
        let mut tally = Tally::default();
        let mut records = stream::iter(asked)
            .map(async |asked| {
                let record = match &asked.answer {
                    Some(answer) => self.a.record(answer.request_id).await?,
                    None => Vec::new(),
                };
                Ok::<_, Trouble>((asked, record))
            })
            .buffer_unordered(READ_AT_ONCE);
        while let Some(read) = records.next().await {
            let (asked, record) = read?;
            tally.count(asked, &record);
        }
        Ok(tally)
    }
}

impl Fault {
    async fn begin(self, nodes: &mut Nodes, name: &NodeName) -> Result<(), Trouble> {
        match self {
            Self::Kill => nodes.get(name)?.kill().await,
            Self::Freeze => nodes.get(name)?.freeze(true),
            Self::Cut => {
                nodes.wires.cut_off(name.clone());
                Ok(())
            }
        }
    }

    async fn end(self, nodes: &mut Nodes, name: &NodeName) -> Result<(), Trouble> {
        match self {
            Self::Kill => nodes.start_again(name).await,
            Self::Freeze => nodes.get(name)?.freeze(false),
            Self::Cut => {
                nodes.wires.heal();
                Ok(())
            }
        }
    }

    fn what(self, name: &NodeName) -> String {
        match self {
            Self::Kill => format!("{name} killed (-9)"),
            Self::Freeze => format!("{name} frozen for {} s", APART.as_secs()),
            Self::Cut => format!("{name} cut off for {} s", APART.as_secs()),
        }
    }

    const fn ended(self) -> &'static str {
        match self {
            Self::Kill => "started again",
            Self::Freeze => "woken",
            Self::Cut => "connected again",
        }
    }
}

fn member<'a>(view: &'a ClusterView, name: &NodeName) -> Option<&'a MemberView> {
    view.members.iter().find(|member| member.name == *name)
}

/// The sum of all nodes' counts; a killed node lost those of its first life.
async fn counted(nodes: &Nodes) -> Result<ClusterCounts, Trouble> {
    let mut sum = ClusterCounts::default();
    for node in nodes.all() {
        let view: ClusterView = Client::new(&node.url, &Config::default())?
            .get("cluster")
            .await?;
        sum.dropped_late += view.counts.dropped_late;
        sum.deduplicated += view.counts.deduplicated;
        sum.evicted += view.counts.evicted;
    }
    Ok(sum)
}

fn seconds(time: Duration) -> String {
    format!("{:.2} s", time.as_secs_f64())
}

/// The longest wait for an answer among the requests that ran during the fault.
fn longest_wait(asked: &[Asked], over: &Over) -> Duration {
    let during = |asked: &&Asked| asked.began < over.to && asked.ended > over.from;
    let waits = asked.iter().filter(during);
    waits
        .map(|asked| asked.ended.duration_since(asked.began))
        .max()
        .unwrap_or_default()
}

fn table(over: &[Over], asked: &[Asked], style: Style) -> String {
    let mut rows = vec![show::heading("FAULT, LOST AFTER, LONGEST WAIT, BACK AFTER")];
    for fault in over {
        rows.push(vec![
            fault.what.clone(),
            seconds(fault.noticed),
            seconds(longest_wait(asked, fault)),
            seconds(fault.back),
        ]);
    }
    show::table(&rows, style)
}
