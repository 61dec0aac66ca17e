//! The bench of the mesh: what an orchestrated request costs, beside the same work on bare ractor in the same run; then
//! the real node over HTTP, past its limits, and from a cold start. Started by `cargo xtask bench [--quick] [SECTION…]`;
//! `cargo xtask bench --spin ours|bare IN_FLIGHT` runs ten seconds of one of them, for a profiler.
//!
//! Prints whether each goal is met; never fails because one is missed.

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a bench prints its figures"
)]

mod agents;
mod bare;
mod http;
mod node;
mod ours;

/// As in the `amcp` binary.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

use std::error::Error;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Runtime;
use tokio::sync::Semaphore;

use amcp_tests::bench::load::{self, Fate, Open, Sample, Subject, median};
use amcp_tests::bench::report::{Goal, Report};
use amcp_tests::bench::{Shape, memory};
use bare::Bare;
use ours::Ours;

/// How long one measurement takes, and how many there are.
#[derive(Debug, Clone, Copy)]
struct Effort {
    round: Duration,
    rounds: u32,
    held: usize,
    starts: usize,
}

const FULL: Effort = Effort {
    round: Duration::from_secs(2),
    rounds: 5,
    held: 10_000,
    starts: 20,
};

/// Shows that everything runs; its figures mean little.
const QUICK: Effort = Effort {
    round: Duration::from_millis(200),
    rounds: 1,
    held: 1_024,
    starts: 3,
};

const SECTIONS: [&str; 6] = ["cold", "mesh", "agents", "overload", "http", "account"];

fn main() -> Result<(), Box<dyn Error>> {
    // `cargo bench` adds `--bench`; without it, as in `cargo test --benches`, it only has to run.
    let words: Vec<String> = std::env::args()
        .skip(1)
        .filter(|word| word != "--bench")
        .collect();
    let quick = !std::env::args().any(|word| word == "--bench");
    if let [flag, who, count] = words.as_slice()
        && flag == "--hold"
    {
        Runtime::new()?.block_on(hold(who, count.parse()?));
        return Ok(());
    }
    if let [flag, who, in_flight] = words.as_slice()
        && flag == "--spin"
    {
        Runtime::new()?.block_on(spin(who, in_flight.parse()?));
        return Ok(());
    }
    let effort = if quick || words.iter().any(|word| word == "--quick") {
        QUICK
    } else {
        FULL
    };
    let wanted: Vec<&String> = words.iter().filter(|word| *word != "--quick").collect();
    if let Some(unknown) = wanted
        .iter()
        .find(|word| !SECTIONS.contains(&word.as_str()))
    {
        eprintln!(
            "error: there is no section `{unknown}`\nhint: {}",
            SECTIONS.join(", ")
        );
        return Err("nothing was measured".into());
    }
    let runs = |section: &str| wanted.is_empty() || wanted.iter().any(|word| *word == section);

    let mut report = Report::new("mesh", "bare ractor");
    report.note(load::machine());
    // What is cold first: it needs a quiet machine.
    if runs("cold") {
        let outcome = cold(&mut report, effort);
        measured(&mut report, "the cold start", outcome);
    }
    let runtime = Runtime::new()?;
    if runs("mesh") {
        let outcome = memory_per_request(&mut report, effort);
        measured(&mut report, "memory per request", outcome);
        runtime.block_on(mesh(&mut report, effort));
    }
    if runs("agents") {
        runtime.block_on(agents::series(&mut report, effort.round * effort.rounds));
    }
    if runs("overload") {
        runtime.block_on(overload(&mut report, effort));
    }
    if runs("http") {
        let outcome = runtime.block_on(over_http(&mut report, effort));
        measured(&mut report, "the node over HTTP", outcome);
    }
    if runs("account") {
        let outcome = runtime.block_on(account(&mut report, effort));
        measured(&mut report, "the cost of users and accounts", outcome);
    }
    println!("{}", report.markdown());
    println!("\nwritten to {}", report.save()?.display());
    Ok(())
}

/// A section that cannot be measured costs only itself.
fn measured(report: &mut Report, what: &str, outcome: Result<(), Box<dyn Error>>) {
    if let Err(error) = outcome {
        eprintln!("error: {what}: {error}");
        report.note(format!("**{what} was not measured to its end**: {error}"));
    }
}

fn cold(report: &mut Report, effort: Effort) -> Result<(), Box<dyn Error>> {
    eprintln!("── cold start: {} × `amcp ask --offline`", effort.starts);
    let data = tempfile::tempdir()?;
    let first = node::cold(data.path())?;
    let mut starts = Vec::new();
    for _ in 0..effort.starts {
        starts.push(node::cold(data.path())?.as_secs_f64() * 1e3);
    }
    let ms = first.as_secs_f64() * 1e3;
    report.add(
        "first start with an empty data folder",
        "ms",
        (ms, None),
        Goal::None,
    );
    report.add(
        "process start to first answer, median",
        "ms",
        (median(starts), None),
        Goal::AtMost(20.0),
    );
    match node::cold_peak(data.path()) {
        Some(peak) => {
            let peak = peak as f64 / 1e6;
            report.add(
                "peak memory of that process",
                "MB",
                (peak, None),
                Goal::AtMost(50.0),
            );
        }
        None => {
            report.note("/usr/bin/time is not installed: peak memory of a cold start not measured")
        }
    }
    Ok(())
}

/// Each in a process of its own: memory that one had and gave back would be there for the other.
fn memory_per_request(report: &mut Report, effort: Effort) -> Result<(), Box<dyn Error>> {
    eprintln!("── memory: {} requests held in flight", effort.held);
    let held = |who: &str| -> Result<Option<f64>, Box<dyn Error>> {
        let output = Command::new(std::env::current_exe()?)
            .args(["--hold", who, &effort.held.to_string()])
            .stderr(Stdio::inherit())
            .output()?;
        let printed = String::from_utf8(output.stdout)?;
        Ok(printed.trim().parse().ok())
    };
    let (ours, bare) = (held("ours")?, held("bare")?);
    match ours {
        Some(ours) => report.add(
            format!("memory per request in flight ({} held)", effort.held),
            "KB",
            (ours / 1e3, bare.map(|bare| bare / 1e3)),
            Goal::AtMost(32.0),
        ),
        None => report.note("memory per request in flight was not measured: it needs /proc"),
    }
    Ok(())
}

/// What such a process does: prints the bytes, or nothing where they cannot be known.
async fn hold(who: &str, count: usize) {
    let gate = Arc::new(Semaphore::new(1));
    let bytes = if who == "ours" {
        let ours = Ours::start(count + 1, gate.clone()).await;
        held(Arc::new(ours), gate, count).await
    } else {
        let bare = Bare::start(gate.clone()).await;
        held(Arc::new(bare), gate, count).await
    };
    if let Some(bytes) = bytes {
        println!("{bytes}");
    }
}

/// Nothing but the diamond, for a profiler to look at.
async fn spin(who: &str, in_flight: usize) {
    let gate = Arc::new(Semaphore::new(Semaphore::MAX_PERMITS / 2));
    let (shape, duration) = (Shape::Diamond, Duration::from_secs(10));
    let sample = if who == "ours" {
        let ours = Arc::new(Ours::start(in_flight, gate).await);
        load::closed(&ours, shape, in_flight, duration).await
    } else {
        let bare = Arc::new(Bare::start(gate).await);
        load::closed(&bare, shape, in_flight, duration).await
    };
    println!("{}", sample.summary());
}

/// Resident bytes per request while `count` of them wait for a gate.
async fn held<M: Subject<Question = Shape>>(
    mesh: Arc<M>,
    gate: Arc<Semaphore>,
    count: usize,
) -> Option<f64> {
    // Through everything once, so that what is set up once is not counted per request.
    mesh.ask(Shape::Diamond).await;
    gate.forget_permits(1);
    let before = memory::resident()?;
    let ask = |_| {
        let mesh = mesh.clone();
        tokio::spawn(async move { mesh.ask(Shape::Diamond).await })
    };
    let asked: Vec<_> = (0..count).map(ask).collect();
    // Resident memory no longer grows when every request has reached its specialist.
    let mut resident = 0;
    while let now = memory::resident()?
        && now != resident
    {
        resident = now;
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    gate.add_permits(Semaphore::MAX_PERMITS / 2);
    for request in asked {
        assert_eq!(
            request.await.ok()?,
            Fate::Answered,
            "a held request was refused"
        );
    }
    Some(resident.saturating_sub(before) as f64 / count as f64)
}

/// Ours and bare by turns, so that a change of the machine's mood meets both.
async fn by_turns(
    (ours, bare): (&Arc<Ours>, &Arc<Bare>),
    shape: Shape,
    in_flight: usize,
    effort: Effort,
) -> (Vec<Sample>, Vec<Sample>) {
    // The first turn of each warms up.
    load::closed(ours, shape, in_flight, effort.round).await;
    load::closed(bare, shape, in_flight, effort.round).await;
    let mut samples = (Vec::new(), Vec::new());
    for _ in 0..effort.rounds {
        let of_ours = load::closed(ours, shape, in_flight, effort.round).await;
        let of_bare = load::closed(bare, shape, in_flight, effort.round).await;
        samples.0.push(of_ours);
        samples.1.push(of_bare);
    }
    samples
}

async fn mesh(report: &mut Report, effort: Effort) {
    let open = || Arc::new(Semaphore::new(Semaphore::MAX_PERMITS / 2));
    let ours = Arc::new(Ours::start(4_096, open()).await);
    let bare = Arc::new(Bare::start(open()).await);
    let both = (&ours, &bare);
    for in_flight in [1, 64, 1_024] {
        eprintln!("── diamond, {in_flight} in flight");
        let (ours, bare) = by_turns(both, Shape::Diamond, in_flight, effort).await;
        let pair = |figure: fn(&Sample) -> f64| {
            let of = |samples: &[Sample]| median(samples.iter().map(figure).collect());
            (of(&ours), Some(of(&bare)))
        };
        let name = |what| format!("diamond, {in_flight} in flight: {what}");
        let rates = pair(Sample::rate);
        report.add(name("requests per second"), "/s", rates, Goal::None);
        let processor = pair(Sample::processor_us);
        report.add(
            name("processor time per request"),
            "µs",
            processor,
            Goal::None,
        );
        if in_flight == 64 {
            let ratio = rates.0 / rates.1.unwrap_or(f64::NAN);
            let goal = Goal::AtLeast(0.5);
            report.add(name("share of bare ractor's rate"), "", (ratio, None), goal);
        }
        let goal = if in_flight == 1 {
            Goal::AtMost(30.0)
        } else {
            Goal::None
        };
        report.add(name("p50"), "µs", pair(|s| s.percentile_us(0.5)), goal);
        report.add(
            name("p99"),
            "µs",
            pair(|s| s.percentile_us(0.99)),
            Goal::None,
        );
    }
    for shape in [Shape::Wide, Shape::Deep] {
        let name = shape.name();
        eprintln!("── {name}");
        let (ours, bare) = by_turns(both, shape, 1, effort).await;
        let p50 = |samples: &[Sample]| {
            median(samples.iter().map(|s| s.percentile_us(0.5) / 1e3).collect())
        };
        let pair = (p50(&ours), Some(p50(&bare)));
        report.add(format!("{name}: p50"), "ms", pair, Goal::AtMost(1.0));
    }
}

/// How many requests the overloaded orchestrator admits: enough to keep both cores busy, little enough that waiting
/// for each other stays short.
const ADMITTED: usize = 64;

async fn overload(report: &mut Report, effort: Effort) {
    eprintln!("── overload, {ADMITTED} admitted");
    let gate = Arc::new(Semaphore::new(Semaphore::MAX_PERMITS / 2));
    let ours = Arc::new(Ours::start(ADMITTED, gate).await);
    let duration = effort.round * effort.rounds;
    load::closed(&ours, Shape::Diamond, ADMITTED, effort.round).await;
    let full = load::closed(&ours, Shape::Diamond, ADMITTED, duration).await;
    let offered = full.rate() * 3.0;
    let over = load::open(&ours, Shape::Diamond, offered, duration).await;
    shown(report, "in process", (&full, &over), offered);
}

/// Accepted requests past the limit, beside those at it.
fn shown(report: &mut Report, place: &str, (full, over): (&Sample, &Open), offered: f64) {
    let ms = |sample: &Sample| sample.percentile_us(0.99) / 1e3;
    let at_limit = ms(full);
    let name = |what| format!("overload {place}: {what}");
    report.add(name("p99 at the limit"), "ms", (at_limit, None), Goal::None);
    // "Keep their p99" read as: at most one and a half times as long.
    let goal = Goal::AtMost(1.5 * at_limit);
    let (sent, due) = (ms(&over.sent), ms(&over.due));
    report.add(
        name("p99 of the accepted past it"),
        "ms",
        (sent, None),
        goal,
    );
    let late = name("the same with the generator's own delay");
    report.add(late, "ms", (due, None), Goal::None);
    let rates = (over.sent.rate(), None);
    report.add(name("accepted past it"), "/s", rates, Goal::None);
    report.note(format!(
        "overload {place}: {offered:.0}/s offered, {} answered, {} refused, {} not sent for want of a free connection; \
         {:.0}/s were answered at the limit",
        over.sent.answered(),
        over.sent.refused,
        over.sent.unsent,
        full.rate()
    ));
}

async fn over_http(report: &mut Report, effort: Effort) -> Result<(), Box<dyn Error>> {
    eprintln!("── POST /ask, 64 connections");
    let data = tempfile::tempdir()?;
    let duration = effort.round * effort.rounds;
    let node = node::Node::start(data.path(), &[]).await?;
    let request = http::ask(&node.address, node::QUERY, "");
    let (status, body) = http::once(&node.address, &request).await?;
    if status != 200 || !body.contains("391") {
        return Err(format!("the node answers {status}: {body}").into());
    }
    http::closed(&node.address, request.clone(), 64, effort.round).await?;
    let served = http::closed(&node.address, request, 64, duration).await?;
    let goal = Goal::AtLeast(5_000.0);
    report.add(
        "POST /ask, 64 connections",
        "/s",
        (served.rate(), None),
        goal,
    );
    for (share, name) in [(0.5, "p50"), (0.99, "p99")] {
        let ms = served.percentile_us(share) / 1e3;
        report.add(
            format!("POST /ask, 64 connections: {name}"),
            "ms",
            (ms, None),
            Goal::None,
        );
    }
    if let Some(peak) = node.peak() {
        report.add(
            "peak memory of the node",
            "MB",
            (peak as f64 / 1e6, None),
            Goal::None,
        );
    }
    report.note("POST /ask: embedded planner and math.eval, real release binary; the load generator shares the cores");
    drop(node);

    let node = node::Node::start(data.path(), &[("AMCP_MAX_REQUESTS", "64")]).await?;
    let request = http::ask(&node.address, node::QUERY, "");
    http::closed(&node.address, request.clone(), ADMITTED, effort.round).await?;
    let full = http::closed(&node.address, request.clone(), ADMITTED, duration).await?;
    let offered = full.rate() * 2.0;
    let over = http::open(&node.address, request, (offered, 1_024), duration).await?;
    shown(report, "over HTTP", (&full, &over), offered);
    Ok(())
}

/// Rules that hold for each request and bound nothing.
const RULES: &str = "[roles.everyone]
allow = ['weather.*']
[roles.clerk]
allow = ['finance.*', 'math.*']
deny = ['finance.db.delete']
[roles.clerk.budget]
requests_per_minute = 1000000000
at_a_time = 1000000
tasks_per_day = 1000000000
tokens_per_day = 1000000000
[calls.\"*\"]
deny = ['finance.db.delete']
";

/// POST /ask at a node that checks a key, permissions and a budget and writes audit log, log and traces, beside a node that does nothing
/// of it, by turns. Metrics cannot be turned off: both have them.
async fn account(report: &mut Report, effort: Effort) -> Result<(), Box<dyn Error>> {
    eprintln!("── POST /ask with users and accounts, and without");
    let (data, plain) = (tempfile::tempdir()?, tempfile::tempdir()?);
    let rules = data.path().join("rules.toml");
    std::fs::write(&rules, RULES)?;
    let key = node::key(data.path())?;
    let collector = http::collector().await?;
    let rules = rules.to_string_lossy();
    let with = [("AMCP_CONFIG", &*rules), ("AMCP_OTLP_URL", &collector)];
    let without = [("AMCP_AUDIT_ON", "false"), ("AMCP_LOG", "off")];
    let nodes = [
        node::Node::start(data.path(), &with).await?,
        node::Node::start(plain.path(), &without).await?,
    ];
    let mut rates = [Vec::new(), Vec::new()];
    // The first turn of each warms up.
    for round in 0..=effort.rounds {
        for ((node, key), rates) in nodes.iter().zip([&*key, ""]).zip(&mut rates) {
            let request = http::ask(&node.address, node::QUERY, key);
            let (status, body) = http::once(&node.address, &request).await?;
            if status != 200 || !body.contains("391") {
                return Err(format!("the node answers {status}: {body}").into());
            }
            let sample = http::closed(&node.address, request, 64, effort.round).await?;
            rates.extend((round > 0).then_some(sample.rate()));
        }
    }
    let [with, without] = rates.map(median);
    report.note(format!(
        "POST /ask: {with:.0}/s with users and accounts, {without:.0}/s without"
    ));
    let what =
        "POST /ask with key, permissions, budget, audit, log, traces: share of the rate without";
    report.add(what, "", (with / without, None), Goal::AtLeast(0.8));
    Ok(())
}
