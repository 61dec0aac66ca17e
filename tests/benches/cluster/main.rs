//! The bench of the links between nodes: a request whose specialists are in another process, beside the same calls on bare
//! ractor_cluster in the same run; then how fast many agents join, and what they cost the others. Started by
//! `cargo xtask bench --cluster [--quick] [SECTION…]`; `cargo xtask bench --cluster --spin ours|bare IN_FLIGHT BYTES` runs ten
//! seconds of one of them, for a profiler.
//!
//! Both processes of each pair are this binary. Prints whether each goal is met; never fails because one is missed.

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a bench prints its figures"
)]

mod bare;
mod ours;
mod scale;
mod worker;

/// As in the `amcp` binary.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use amcp_tests::bench::load::{self, Sample, median};
use amcp_tests::bench::report::{Goal, Report};
use tokio::runtime::Runtime;

use bare::Bare;
use ours::Ours;

/// How long one measurement takes, and how many there are.
#[derive(Debug, Clone, Copy)]
struct Effort {
    round: Duration,
    rounds: u32,
    /// Agents of each node in the section `scale`.
    agents: usize,
}

const FULL: Effort = Effort {
    round: Duration::from_secs(2),
    rounds: 5,
    agents: 5_000,
};

/// Shows that everything runs; its figures mean little.
const QUICK: Effort = Effort {
    round: Duration::from_millis(200),
    rounds: 1,
    agents: 200,
};

/// Bytes in each param and each result, beside the numbers, and what that is called.
const PAYLOADS: [(usize, &str); 3] = [(0, "small"), (1_024, "1 KB"), (65_536, "64 KB")];

const SECTIONS: [&str; 2] = ["diamond", "scale"];

fn main() -> Result<(), Box<dyn Error>> {
    if let Some(task) = worker::task() {
        return Runtime::new()?.block_on(worker::run(&task));
    }
    // `cargo bench` adds `--bench`; without it, as in `cargo test --benches`, it only has to run.
    let bench = std::env::args().any(|word| word == "--bench");
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let mut wanted = words.clone();
    wanted.retain(|word| !["--bench", "--quick"].contains(word));
    if let ["--spin", who, in_flight, payload] = wanted.as_slice() {
        let spinning = spin(who, in_flight.parse()?, payload.parse()?);
        return Runtime::new()?.block_on(spinning);
    }
    if let Some(unknown) = wanted.iter().find(|word| !SECTIONS.contains(word)) {
        eprintln!(
            "error: there is no section `{unknown}`\nhint: {}",
            SECTIONS.join(", ")
        );
        return Err("nothing was measured".into());
    }
    let quick = !bench || words.contains(&"--quick");
    let effort = if quick { QUICK } else { FULL };
    let runs = |section: &str| wanted.is_empty() || wanted.contains(&section);

    let mut report = Report::new("cluster", "bare ractor_cluster");
    report.note(load::machine());
    let runtime = Runtime::new()?;
    if runs("diamond") {
        runtime.block_on(diamond(&mut report, effort))?;
    }
    if runs("scale") {
        runtime.block_on(scale::measure(&mut report, effort.agents))?;
    }
    println!("{}", report.markdown());
    println!("\nwritten to {}", report.save()?.display());
    Ok(())
}

/// Nothing but the diamond, for a profiler to look at.
async fn spin(who: &str, in_flight: usize, payload: usize) -> Result<(), Box<dyn Error>> {
    let duration = Duration::from_secs(10);
    let sample = if who == "ours" {
        let ours = Arc::new(Ours::start().await?);
        load::closed(&ours, payload, in_flight, duration).await
    } else {
        let bare = Arc::new(Bare::start().await?);
        load::closed(&bare, payload, in_flight, duration).await
    };
    println!("{}", sample.summary());
    Ok(())
}

/// Ours and bare by turns, so that a change of the machine's mood meets both.
async fn by_turns(
    (ours, bare): (&Arc<Ours>, &Arc<Bare>),
    payload: usize,
    in_flight: usize,
    effort: Effort,
) -> (Vec<Sample>, Vec<Sample>) {
    // The first turn of each warms up.
    load::closed(ours, payload, in_flight, effort.round).await;
    load::closed(bare, payload, in_flight, effort.round).await;
    let mut samples = (Vec::new(), Vec::new());
    for _ in 0..effort.rounds {
        let of_ours = load::closed(ours, payload, in_flight, effort.round).await;
        let of_bare = load::closed(bare, payload, in_flight, effort.round).await;
        samples.0.push(of_ours);
        samples.1.push(of_bare);
    }
    samples
}

async fn diamond(report: &mut Report, effort: Effort) -> Result<(), Box<dyn Error>> {
    let ours = Arc::new(Ours::start().await?);
    let bare = Arc::new(Bare::start().await?);
    report.note(
        "diamond: two calls at once, then one with what came of them, all to another process on this machine over plain \
         loopback TCP; both processes share the cores. Processor time is that of both",
    );
    for (payload, size) in PAYLOADS {
        for in_flight in [1, 64] {
            eprintln!("── diamond, {size}, {in_flight} in flight");
            let (ours, bare) = by_turns((&ours, &bare), payload, in_flight, effort).await;
            let pair = |figure: fn(&Sample) -> f64| {
                let of = |samples: &[Sample]| median(samples.iter().map(figure).collect());
                (of(&ours), Some(of(&bare)))
            };
            let name = |what| format!("{size}, {in_flight} in flight: {what}");
            let rates = pair(Sample::rate);
            report.add(name("requests per second"), "/s", rates, Goal::None);
            let ratio = rates.0 / rates.1.unwrap_or(f64::NAN);
            // Coalescing what goes the same way pays only where there is something to coalesce.
            let goal = Goal::AtLeast(if in_flight == 1 { 0.7 } else { 1.0 });
            let share = name("share of bare ractor_cluster's rate");
            report.add(share, "", (ratio, None), goal);
            let p50 = pair(|sample| sample.percentile_us(0.5));
            report.add(name("p50"), "µs", p50, Goal::None);
            let p99 = pair(|sample| sample.percentile_us(0.99));
            report.add(name("p99"), "µs", p99, Goal::None);
            let processor = pair(Sample::processor_us);
            report.add(name("processor time"), "µs", processor, Goal::None);
        }
    }
    Ok(())
}
