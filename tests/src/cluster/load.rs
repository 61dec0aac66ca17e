//! A client of several gateways that asks without pause, and keeps the outcome of each request.
//!
//! Like a careful client it goes to the next gateway when one refuses or does not answer, with the same key, so that a
//! gateway that has the request already does not begin it again.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use amcp_protocol::{Answer, AnswerState, TaskState};
use reqwest::Client;
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::credential;
use crate::process::client;

/// A request without an answer for this long is lost.
const LOST_AFTER: Duration = Duration::from_secs(60);
/// Pause after every gateway has refused in turn.
const PAUSE: Duration = Duration::from_millis(100);

/// The outcome of one request.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// The query.
    pub query: String,
    /// The time of the first attempt.
    pub began: Instant,
    /// The time of the answer, or of giving up.
    pub ended: Instant,
    /// Number of attempts.
    pub sent: u32,
    /// The gateway that answered and its answer; none when the request is lost.
    pub answer: Option<(SocketAddr, Answer)>,
}

impl Outcome {
    /// Whether each task was done once and the whole query was answered.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        let Some((_, answer)) = &self.answer else {
            return false;
        };
        let done = |task: &amcp_protocol::TaskReport| task.state == TaskState::Completed;
        let mut ids: Vec<_> = answer.tasks.iter().map(|task| &task.id).collect();
        ids.sort_unstable();
        ids.dedup();
        answer.state == AnswerState::Completed
            && answer.tasks.iter().all(done)
            && ids.len() == answer.tasks.len()
    }

    /// The agents that worked on it.
    pub fn agents(&self) -> impl Iterator<Item = &str> {
        let tasks = self.answer.iter().flat_map(|(_, answer)| &answer.tasks);
        tasks.filter_map(|task| task.agent.as_ref().map(|agent| agent.as_str()))
    }
}

/// Load that runs until it is stopped.
#[derive(Debug)]
pub struct Load {
    askers: JoinSet<()>,
    outcomes: Arc<Mutex<Vec<Outcome>>>,
    enough: CancellationToken,
}

impl Load {
    /// Starts `askers` clients that ask these queries in turn.
    #[must_use]
    pub fn start(gateways: &[SocketAddr], queries: &'static [&'static str], askers: usize) -> Self {
        let outcomes = Arc::new(Mutex::new(Vec::new()));
        let enough = CancellationToken::new();
        let mut running = JoinSet::new();
        for asker in 0..askers {
            let (outcomes, enough) = (Arc::clone(&outcomes), enough.clone());
            let mut gateways = gateways.to_vec();
            let of_all = gateways.len().max(1);
            gateways.rotate_left(asker % of_all);
            running.spawn(async move {
                let client = client();
                for query in queries.iter().cycle().skip(asker) {
                    if enough.is_cancelled() {
                        break;
                    }
                    let outcome = ask(&client, &gateways, query).await;
                    let mut outcomes = outcomes.lock().unwrap_or_else(PoisonError::into_inner);
                    outcomes.push(outcome);
                }
            });
        }
        Self {
            askers: running,
            outcomes,
            enough,
        }
    }

    /// Number of requests that have ended so far.
    #[must_use]
    pub fn ended(&self) -> usize {
        let outcomes = self.outcomes.lock();
        outcomes.unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Waits for the requests under way, and returns all outcomes.
    ///
    /// # Panics
    /// An asker panicked.
    pub async fn stop(mut self) -> Vec<Outcome> {
        self.enough.cancel();
        while let Some(ended) = self.askers.join_next().await {
            ended.expect("an asker does not panic");
        }
        let mut outcomes = self.outcomes.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut *outcomes)
    }
}

/// Asks one gateway after the other until one gives a final answer.
pub async fn ask(client: &Client, gateways: &[SocketAddr], query: &str) -> Outcome {
    let key = uuid::Uuid::new_v4().to_string();
    let began = Instant::now();
    let mut sent = 0;
    let answer = 'asked: loop {
        for gateway in gateways {
            sent += 1;
            if let Some(answer) = post(client, *gateway, query, &key).await {
                break 'asked Some((*gateway, answer));
            }
        }
        if began.elapsed() > LOST_AFTER {
            break None;
        }
        tokio::time::sleep(PAUSE).await;
    };
    Outcome {
        query: query.to_owned(),
        began,
        ended: Instant::now(),
        sent,
        answer,
    }
}

/// A final answer; none when the gateway refused or could not be reached.
async fn post(client: &Client, gateway: SocketAddr, query: &str, key: &str) -> Option<Answer> {
    let post = client
        .post(format!("http://{gateway}/ask"))
        .header("idempotency-key", key)
        .json(&json!({"query": query}));
    let post = credential(post, gateway);
    let body: Value = post.send().await.ok()?.json().await.ok()?;
    serde_json::from_value(body).ok()
}

/// The number of commits of each task of a request, and of answers to the request, by its gateway's record.
///
/// # Errors
/// The gateway cannot be reached.
pub async fn commits(
    client: &Client,
    (gateway, answer): &(SocketAddr, Answer),
) -> Result<(Vec<usize>, usize), reqwest::Error> {
    let id = answer.request_id;
    let url = format!("http://{gateway}/requests/{id}/events");
    let events = credential(client.get(url), *gateway)
        .send()
        .await?
        .text()
        .await?;
    let data = events.lines().filter_map(|line| line.strip_prefix("data:"));
    let events: Vec<Value> = data.filter_map(|d| serde_json::from_str(d).ok()).collect();
    let count = |kind: &str, task: Option<&str>| {
        let of = |event: &&Value| {
            let data = event.get("data");
            let field = |name| data.and_then(|data| data.get(name)).and_then(Value::as_str);
            field("kind") == Some(kind) && (task.is_none() || field("task") == task)
        };
        events.iter().filter(of).count()
    };
    let tasks = answer.tasks.iter();
    let each = tasks.map(|task| count("completed", Some(task.id.as_str())));
    Ok((each.collect(), count("answered", None)))
}

/// For each of these moments the time until the last request under way then had its answer; ascending. Omits moments
/// without requests.
#[must_use]
pub fn recoveries(moments: &[Instant], outcomes: &[Outcome]) -> Vec<Duration> {
    let mut recoveries: Vec<Duration> = moments
        .iter()
        .filter_map(|moment| {
            let under_way = |o: &&Outcome| o.began <= *moment && o.ended > *moment;
            let ends = outcomes.iter().filter(under_way).map(|o| o.ended);
            ends.max().map(|end| end.duration_since(*moment))
        })
        .collect();
    recoveries.sort_unstable();
    recoveries
}

/// The duration that a share of them does not exceed; zero for an empty list.
#[must_use]
pub fn percentile(ascending: &[Duration], share: f64) -> Duration {
    let last = ascending.len().saturating_sub(1);
    let index = (last as f64 * share).round() as usize;
    ascending.get(index).copied().unwrap_or_default()
}
