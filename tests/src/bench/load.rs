//! Drives open-loop and closed-loop load, and measures rates and latencies.
//!
//! Does not know how a mesh answers.

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use super::memory;

/// The measurements of one run.
#[derive(Debug, Clone, Default)]
pub struct Sample {
    /// The time of each accepted request, ascending.
    latencies: Vec<Duration>,
    /// Number of refused requests.
    pub refused: usize,
    /// Number of requests that the generator could not send, because all its connections were in use.
    pub unsent: usize,
    elapsed: Duration,
    /// Processor time of the run, including the generator's.
    processor: Option<Duration>,
}

/// The end of one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// The request was answered.
    Answered,
    /// The request was refused at the entrance.
    Refused,
}

/// A system under load: ours, or bare ractor.
pub trait Subject: Send + Sync + 'static {
    /// A request's content.
    type Question: Copy + Send + 'static;

    /// Asks and waits for the answer.
    fn ask(&self, question: Self::Question) -> impl Future<Output = Fate> + Send;

    /// The processor time so far of all processes of the subject.
    fn processor(&self) -> Option<Duration> {
        memory::processor()
    }
}

/// Open-loop measurements with two clocks: the generator shares the cores with its subject, and may itself be late.
#[derive(Debug)]
pub struct Open {
    /// Latencies from the time of sending.
    pub sent: Sample,
    /// Latencies from the time at which the request was due.
    pub due: Sample,
}

impl Open {
    /// Takes the end of each request with its latencies since sending and since it was due.
    pub fn new(fates: Vec<(Fate, Duration, Duration)>, unsent: usize, elapsed: Duration) -> Self {
        let (sent, due) = fates
            .into_iter()
            .map(|(fate, sent, due)| ((fate, sent), (fate, due)))
            .unzip();
        Self {
            sent: Sample::new(sent, unsent, elapsed),
            due: Sample::new(due, unsent, elapsed),
        }
    }
}

impl Sample {
    /// Takes the end of each request with its latency.
    #[must_use]
    pub fn new(fates: Vec<(Fate, Duration)>, unsent: usize, elapsed: Duration) -> Self {
        let refused = fates.iter().filter(|(fate, _)| *fate == Fate::Refused);
        let refused = refused.count();
        let answered = fates
            .into_iter()
            .filter(|(fate, _)| *fate == Fate::Answered);
        let mut latencies: Vec<Duration> = answered.map(|(_, took)| took).collect();
        latencies.sort_unstable();
        Self {
            latencies,
            refused,
            unsent,
            elapsed,
            processor: None,
        }
    }

    /// Number of answered requests.
    pub fn answered(&self) -> usize {
        self.latencies.len()
    }

    /// Answered requests per second.
    pub fn rate(&self) -> f64 {
        self.answered() as f64 / self.elapsed.as_secs_f64()
    }

    /// Processor time per answered request, in microseconds.
    pub fn processor_us(&self) -> f64 {
        self.processor.map_or(f64::NAN, |processor| {
            processor.as_secs_f64() * 1e6 / self.answered() as f64
        })
    }

    /// All figures in one line.
    #[must_use]
    pub fn summary(&self) -> String {
        format!(
            "{} requests, {:.0}/s, p50 {:.1} µs, p99 {:.1} µs, {:.1} µs of processor time each",
            self.answered(),
            self.rate(),
            self.percentile_us(0.5),
            self.percentile_us(0.99),
            self.processor_us()
        )
    }

    /// The latency that a share of the answered requests does not exceed, in microseconds.
    pub fn percentile_us(&self, share: f64) -> f64 {
        let last = self.latencies.len().saturating_sub(1);
        let index = (last as f64 * share).round() as usize;
        let latency = self.latencies.get(index).copied().unwrap_or_default();
        latency.as_secs_f64() * 1e6
    }
}

/// The middle value; of an even number the upper one.
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// Closed loop: `in_flight` askers; each asks again as soon as it has its answer.
pub async fn closed<M: Subject>(
    mesh: &Arc<M>,
    question: M::Question,
    in_flight: usize,
    duration: Duration,
) -> Sample {
    let (start, used) = (Instant::now(), mesh.processor());
    let mut askers = JoinSet::new();
    for _ in 0..in_flight {
        let mesh = mesh.clone();
        askers.spawn(async move {
            let mut fates = Vec::new();
            while start.elapsed() < duration {
                let asked = Instant::now();
                let fate = mesh.ask(question).await;
                fates.push((fate, asked.elapsed()));
            }
            fates
        });
    }
    let fates = askers.join_all().await.concat();
    let used = mesh
        .processor()
        .zip(used)
        .map(|(after, before)| after.saturating_sub(before));
    Sample {
        processor: used,
        ..Sample::new(fates, 0, start.elapsed())
    }
}

/// Open loop: `rate` requests a second, whether or not earlier ones were answered.
pub async fn open<M: Subject>(
    mesh: &Arc<M>,
    question: M::Question,
    rate: f64,
    duration: Duration,
) -> Open {
    let start = Instant::now();
    let mut fates = Vec::new();
    let mut asked = JoinSet::new();
    let mut sent = 0_u32;
    while start.elapsed() < duration {
        let mut due = start + Duration::from_secs_f64(f64::from(sent) / rate);
        while due <= Instant::now() {
            let mesh = mesh.clone();
            asked.spawn(async move {
                let sent = Instant::now();
                (mesh.ask(question).await, sent.elapsed(), due.elapsed())
            });
            sent += 1;
            due = start + Duration::from_secs_f64(f64::from(sent) / rate);
        }
        while let Some(done) = asked.try_join_next() {
            fates.extend(done);
        }
        // The runtime's timer ticks each millisecond; all requests that fell due meanwhile leave at once.
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let elapsed = start.elapsed();
    fates.extend(asked.join_all().await);
    Open::new(fates, 0, elapsed)
}

/// The machine of the measurements, and its load.
#[must_use]
pub fn machine() -> String {
    let read = |path| std::fs::read_to_string(path).unwrap_or_default();
    let cpus = read("/proc/cpuinfo");
    let model = cpus
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(": "))
        .map_or("unknown processor", |(_, model)| model);
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let load = read("/proc/loadavg");
    let load = load.split(' ').next().unwrap_or_default();
    format!("{cores} cores of {model}; load average at the start {load}")
}
