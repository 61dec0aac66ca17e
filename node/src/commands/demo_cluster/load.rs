//! Keeps requests running the whole time, and keeps the outcome of each.
//!
//! Sends each request once and waits for its answer; a client that tried again would hide losses.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use amcp_cluster::view::ClusterCounts;
use amcp_protocol::{Answer, AnswerState, Progress, UserRequest};
use parking_lot::Mutex;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::client::Client;
use crate::commands::faults::QUERIES;
use crate::output::Style;
use crate::show;

/// Requests at a time.
const ASKERS: usize = 16;
/// Pause of an asker between requests: a few hundred requests a second leave the machine time for other work.
const PAUSE: Duration = Duration::from_millis(100);
/// The deadline that the requests name: several times as long as a fault.
const DEADLINE: Duration = Duration::from_secs(40);
/// A request that is not answered this long after its deadline is lost.
const SLACK: Duration = Duration::from_secs(5);
/// Keeps a specialist busy for some tenths of a second, so that a node has a task; changes nothing.
const SLOW: &str =
    "SELECT count(*) FROM expenses a, expenses b WHERE a.amount < b.amount AND a.id < 1800";

#[derive(Debug)]
pub(super) struct Asked {
    pub(super) began: Instant,
    pub(super) ended: Instant,
    /// None when the request was lost.
    pub(super) answer: Option<Arc<Answer>>,
}

/// Load that runs until it is stopped.
#[derive(Debug)]
pub(super) struct Load {
    client: Arc<Client>,
    askers: JoinSet<()>,
    slow: JoinSet<()>,
    asked: Arc<Mutex<Vec<Asked>>>,
    enough: CancellationToken,
}

impl Load {
    pub(super) fn start(client: Arc<Client>) -> Self {
        let mut load = Self {
            client,
            askers: JoinSet::new(),
            slow: JoinSet::new(),
            asked: Arc::default(),
            enough: CancellationToken::new(),
        };
        for asker in 0..ASKERS {
            let (client, asked) = (load.client.clone(), load.asked.clone());
            let enough = load.enough.clone();
            load.askers.spawn(async move {
                for query in QUERIES.iter().cycle().skip(asker) {
                    if enough.is_cancelled() {
                        break;
                    }
                    ask(&client, query, &asked).await;
                    tokio::time::sleep(PAUSE).await;
                }
            });
        }
        load
    }

    /// Sends `count` more slow requests.
    pub(super) fn ask_slow(&mut self, count: usize) {
        for _ in 0..count {
            let (client, asked) = (self.client.clone(), self.asked.clone());
            self.slow
                .spawn(async move { ask(&client, SLOW, &asked).await });
        }
    }

    /// Waits for the slow requests: after three agents died with a task, no further agent gets it.
    pub(super) async fn slow_answered(&mut self) {
        while self.slow.join_next().await.is_some() {}
    }

    /// Waits for the requests under way, and returns all outcomes.
    pub(super) async fn stop(mut self) -> Vec<Asked> {
        self.enough.cancel();
        while self.askers.join_next().await.is_some() {}
        self.slow_answered().await;
        std::mem::take(&mut *self.asked.lock())
    }
}

async fn ask(client: &Client, query: &str, asked: &Mutex<Vec<Asked>>) {
    let request = UserRequest {
        deadline_ms: u64::try_from(DEADLINE.as_millis()).ok(),
        flows: Some(Vec::new()),
        ..UserRequest::new(query)
    };
    let began = Instant::now();
    let answer =
        tokio::time::timeout(DEADLINE + SLACK, client.post::<Answer>("ask", &request)).await;
    let asked_now = Asked {
        began,
        ended: Instant::now(),
        answer: answer.ok().and_then(Result::ok).map(Arc::new),
    };
    asked.lock().push(asked_now);
}

#[derive(Debug, Default)]
pub(super) struct Tally {
    asked: usize,
    answered: usize,
    /// Of these: committed once, and each of their tasks once, by the record of `a`.
    once: usize,
    completed: usize,
    /// Other answers, by state and reason.
    otherwise: BTreeMap<String, usize>,
    dispatched: u32,
    retried: u32,
}

impl Tally {
    /// Counts a request, with its record.
    pub(super) fn count(&mut self, asked: &Asked, record: &[Progress]) {
        self.asked += 1;
        let Some(answer) = &asked.answer else {
            return;
        };
        self.answered += 1;
        self.once += usize::from(committed_once(answer, record));
        if answer.state == AnswerState::Completed {
            self.completed += 1;
        } else {
            let why = answer
                .error
                .as_ref()
                .map_or("", |error| error.code.as_str());
            let how = format!("{} {why}", answer.state.as_str());
            *self.otherwise.entry(how).or_default() += 1;
        }
        for task in &answer.tasks {
            self.dispatched += task.attempts;
            self.retried += task.attempts.saturating_sub(1);
        }
    }

    /// Whether every request was answered completely and exactly once.
    pub(super) const fn good(&self) -> bool {
        self.asked > 0
            && self.answered == self.asked
            && self.once == self.asked
            && self.completed == self.asked
    }

    pub(super) fn report(&self, counts: &ClusterCounts, took: Duration) -> String {
        let mut table = vec![show::heading("WHAT, HOW MANY")];
        let mut row = |what: &str, count: u64| table.push(vec![what.to_owned(), count.to_string()]);
        row("requests", self.asked as u64);
        row("answered", self.answered as u64);
        row("  once", self.once as u64);
        row("  completed", self.completed as u64);
        for (how, count) in &self.otherwise {
            row(&format!("  {how}"), *count as u64);
        }
        row("lost", (self.asked - self.answered) as u64);
        row("tasks dispatched", self.dispatched.into());
        row("tasks retried", self.retried.into());
        row("late frames dropped", counts.dropped_late);
        row("tasks deduplicated", counts.deduplicated);
        row("peers evicted", counts.evicted);
        row(
            "milliseconds",
            u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
        );
        show::table(&table, Style::for_stdout())
    }
}

/// Whether the record has one answer, and one result for each task that was done.
fn committed_once(answer: &Answer, record: &[Progress]) -> bool {
    let times = |of: &dyn Fn(&Progress) -> bool| record.iter().filter(|step| of(step)).count();
    let each = |task: &amcp_protocol::TaskReport| {
        times(&|step| matches!(step, Progress::Completed { task: done, .. } if *done == task.id))
            <= 1
    };
    times(&|step| matches!(step, Progress::Answered { .. })) == 1 && answer.tasks.iter().all(each)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(state: AnswerState) -> Asked {
        let answer = serde_json::json!({
            "request_id": "01890a5d-ac96-774b-bcce-b302099a8057",
            "state": state,
            "answer": "12",
            "planner": "embedded",
            "tasks": [{
                "id": "t1", "capability": "math.eval", "agent": "math-1", "state": "completed", "attempts": 2, "duration_ms": 0,
            }],
        });
        let now = Instant::now();
        Asked {
            began: now,
            ended: now,
            answer: Some(serde_json::from_value(answer).unwrap()),
        }
    }

    fn record(steps: &[&str]) -> Vec<Progress> {
        let step = |kind: &&str| match *kind {
            "completed" => {
                serde_json::json!({"kind": "completed", "task": "t1", "agent": "math-1", "duration_ms": 0})
            }
            _ => serde_json::json!({"kind": kind, "state": "completed", "answer": "12"}),
        };
        let read = |kind| serde_json::from_value(step(kind)).unwrap();
        steps.iter().map(read).collect()
    }

    #[test]
    fn what_is_lost_doubled_or_left_undone_is_noticed() {
        let judged = |asked: Asked, steps: &[&str]| {
            let mut tally = Tally::default();
            tally.count(&asked, &record(steps));
            tally.good()
        };
        let completed = || asked(AnswerState::Completed);
        assert!(judged(completed(), &["completed", "answered"]));
        assert!(!judged(
            completed(),
            &["completed", "completed", "answered"]
        ));
        assert!(!judged(completed(), &["completed", "answered", "answered"]));
        assert!(!judged(completed(), &["completed"]));
        assert!(!judged(
            asked(AnswerState::Partial),
            &["completed", "answered"]
        ));
        let lost = Asked {
            answer: None,
            ..completed()
        };
        assert!(!judged(lost, &[]));
        assert!(!Tally::default().good(), "nothing was asked");
    }
}
