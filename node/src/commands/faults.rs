//! `amcp demo --faults`: kills specialists at random while requests run, and counts how the requests end.
//!
//! Counts only what the running node says.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use amcp_orchestrator::Counts;
use amcp_protocol::{Answer, AnswerState, UserRequest};
use amcp_registry::bus::unix_ms;
use amcp_registry::{AgentState, AgentStatus};
use futures_util::{StreamExt, stream};

use crate::output::{self, Style, Trouble};
use crate::root::Node;
use crate::show;

/// Requests at a time: every agent has work when it is killed.
const AT_ONCE: usize = 16;
/// Time between kills: each of the agents dies about seven times a second, and is back after 20 to 50 ms.
const KILL_EVERY: Duration = Duration::from_millis(20);
/// A request that is not answered this long after its deadline is lost.
const SLACK: Duration = Duration::from_secs(5);
/// The deadline that the requests name.
const DEADLINE: Duration = Duration::from_secs(20);

/// Single tasks, parallel tasks, and a chain; none leaves files behind.
pub(super) const QUERIES: [&str; 5] = [
    super::demo::SCENARIOS[0],
    "What is 17 * 23?",
    "Show the expenses by department for Q3 2024",
    "What is the stock price of AMZN?",
    "Tell me a programming joke",
];

#[derive(Debug, Default)]
struct Tally {
    requests: u32,
    refused: u32,
    lost: u32,
    /// Answers that reached the clients.
    received: u32,
    completed: u32,
    partial: u32,
    failed: u32,
    cancelled: u32,
    dispatched: u32,
    retried: u32,
    /// Number of failed requests by reason.
    reasons: BTreeMap<&'static str, u64>,
}

/// Sends the requests and kills meanwhile.
///
/// # Errors
/// Those of stdout.
pub(super) async fn run(node: &Node, requests: u32) -> Result<u8, Trouble> {
    output::print(format_args!(
        "Sending {requests} requests, {AT_ONCE} at a time, and killing a random specialist every {} ms …",
        KILL_EVERY.as_millis()
    ))?;
    let restarts_before = restarts(node);
    let began = Instant::now();
    let mut tally = Tally::default();
    let mut outcomes = stream::iter(0..requests)
        .map(|number| one(node, number))
        .buffer_unordered(AT_ONCE);
    let mut kill_at = tokio::time::interval(KILL_EVERY);
    let mut kills = 0_u32;
    loop {
        tokio::select! {
            outcome = outcomes.next() => match outcome {
                Some(outcome) => tally.count(outcome),
                None => break,
            },
            _ = kill_at.tick() => kills += u32::from(kill_one(node).await?),
        }
    }
    drop(outcomes);
    let took = began.elapsed();
    let all_back = wait_until_back(node, restarts_before + u64::from(kills)).await;
    let counts = node.orchestrator.counts();
    let restarts = restarts(node).saturating_sub(restarts_before);
    output::print(format_args!("\n{}\n", fared(node)))?;
    output::print(tally.report(&counts, kills, restarts, took))?;
    let good = tally.refused == 0 && tally.answered_once(&counts) && all_back;
    output::verdict(
        good,
        "Every request was answered exactly once, and every specialist is back.",
    )
}

enum Outcome {
    Refused,
    Lost,
    Answered(Arc<Answer>),
}

async fn one(node: &Node, number: u32) -> Outcome {
    let query = QUERIES
        .get(number as usize % QUERIES.len())
        .copied()
        .unwrap_or_default();
    let request = UserRequest {
        deadline_ms: u64::try_from(DEADLINE.as_millis()).ok(),
        ..UserRequest::new(query)
    };
    let Ok(ticket) = node.orchestrator.ask(request, None) else {
        return Outcome::Refused;
    };
    let answer = tokio::time::timeout(DEADLINE + SLACK, ticket.answer()).await;
    answer.map_or(Outcome::Lost, Outcome::Answered)
}

impl Tally {
    fn count(&mut self, outcome: Outcome) {
        self.requests += 1;
        match outcome {
            Outcome::Refused => self.refused += 1,
            Outcome::Lost => self.lost += 1,
            Outcome::Answered(answer) => {
                self.received += 1;
                for task in &answer.tasks {
                    self.dispatched += task.attempts;
                    self.retried += task.attempts.saturating_sub(1);
                }
                match answer.state {
                    AnswerState::Completed => self.completed += 1,
                    AnswerState::Partial => self.partial += 1,
                    AnswerState::Failed => {
                        self.failed += 1;
                        let error = answer.error.as_ref();
                        let reason = error.map_or("unknown", |error| error.code.as_str());
                        *self.reasons.entry(reason).or_default() += 1;
                    }
                    AnswerState::Cancelled => self.cancelled += 1,
                }
            }
        }
    }

    /// Whether the clients received exactly the answers that the orchestrator committed, one for each accepted request, each in
    /// its committed state.
    fn answered_once(&self, counts: &Counts) -> bool {
        let received = [
            self.requests - self.refused,
            self.received,
            self.completed,
            self.partial,
            self.failed,
            self.cancelled,
        ];
        let committed = [
            counts.accepted,
            counts.answered,
            counts.completed,
            counts.partial,
            counts.failed,
            counts.cancelled,
        ];
        self.lost == 0 && counts.accepted == counts.answered && received.map(u64::from) == committed
    }

    fn report(&self, counts: &Counts, kills: u32, restarts: u64, took: Duration) -> String {
        let rows = [
            ("requests", u64::from(self.requests)),
            ("refused", u64::from(self.refused)),
            ("accepted", counts.accepted),
            ("answered", counts.answered),
            ("  completed", u64::from(self.completed)),
            ("  partial", u64::from(self.partial)),
            ("  failed", u64::from(self.failed)),
            ("  cancelled", u64::from(self.cancelled)),
            ("answers received", u64::from(self.received)),
            ("lost", u64::from(self.lost)),
            ("tasks dispatched", u64::from(self.dispatched)),
            ("tasks retried", u64::from(self.retried)),
            ("late responses dropped", counts.dropped_late),
            ("duplicate responses dropped", counts.dropped_duplicate),
            ("specialists killed", u64::from(kills)),
            ("specialists restarted", restarts),
            (
                "milliseconds",
                u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
            ),
        ];
        let mut table = vec![show::heading("WHAT, HOW MANY")];
        for (what, count) in rows {
            table.push(vec![what.to_owned(), count.to_string()]);
            if what.trim() == "failed" {
                let reasons = self.reasons.iter();
                table.extend(
                    reasons.map(|(why, count)| vec![format!("    {why}"), count.to_string()]),
                );
            }
        }
        show::table(&table, Style::for_stdout())
    }
}

/// Kills a random ready agent; false if none was running.
async fn kill_one(node: &Node) -> Result<bool, Trouble> {
    let mut ready = node.registry.directory().agents();
    ready.retain(|agent| agent.state == AgentState::Ready);
    let random = uuid::Uuid::new_v4().as_u64_pair().0;
    let chosen = u64::try_from(ready.len())
        .ok()
        .and_then(|count| random.checked_rem(count))
        .and_then(|index| ready.get(usize::try_from(index).ok()?));
    let Some(AgentStatus {
        agent, in_flight, ..
    }) = chosen
    else {
        return Ok(false);
    };
    let hit = node.kill(agent).await;
    if hit {
        let style = Style::for_stdout();
        let under_way = node.orchestrator.in_flight();
        output::print(format_args!(
            "  {} {agent} killed with {in_flight} tasks in its hands, {under_way} requests under way",
            style.red("✗")
        ))?;
    }
    Ok(hit)
}

fn restarts(node: &Node) -> u64 {
    let agents = node.registry.directory().agents();
    agents.iter().map(|agent| agent.restarts).sum()
}

/// Waits until each kill led to a restart, each agent takes tasks and each answer is counted; false if that takes too long.
async fn wait_until_back(node: &Node, restarts_wanted: u64) -> bool {
    let all_back = async {
        // The counters of restarts send no notice, so we poll them.
        let mut look = tokio::time::interval(KILL_EVERY);
        loop {
            look.tick().await;
            let agents = node.registry.directory().agents();
            let ready = agents.iter().all(|agent| agent.state == AgentState::Ready);
            let counts = node.orchestrator.counts();
            let quiet = counts.answered >= counts.accepted;
            if ready && quiet && restarts(node) >= restarts_wanted {
                break;
            }
        }
    };
    tokio::time::timeout(SLACK, all_back).await.is_ok()
}

/// A table of the agents and their restarts.
fn fared(node: &Node) -> String {
    let mut rows = vec![show::heading("AGENT, STATE, RESTARTS, TASKS DONE")];
    for agent in node.registry.directory().agents() {
        rows.push(vec![
            agent.agent.to_string(),
            show::agent_state(&agent, unix_ms()),
            agent.restarts.to_string(),
            agent.done.to_string(),
        ]);
    }
    show::table(&rows, Style::for_stdout())
}

#[cfg(test)]
mod tests {
    use amcp_protocol::RequestId;

    use super::*;

    #[test]
    fn answers_that_are_missing_too_many_or_others_are_noticed() {
        let mut tally = Tally::default();
        for state in [AnswerState::Completed, AnswerState::Failed] {
            tally.count(Outcome::Answered(Arc::new(Answer {
                request_id: RequestId::from_uuid(uuid::Uuid::nil()),
                state,
                answer: String::new(),
                planner: String::new(),
                tasks: Vec::new(),
                error: None,
                usage: Default::default(),
                notes: Vec::new(),
            })));
        }
        tally.count(Outcome::Refused);
        let good = Counts {
            accepted: 2,
            answered: 2,
            completed: 1,
            failed: 1,
            ..Counts::default()
        };
        assert!(tally.answered_once(&good));
        for bad in [
            Counts {
                answered: 3,
                completed: 2,
                ..good
            },
            Counts {
                answered: 1,
                failed: 0,
                ..good
            },
            Counts {
                accepted: 3,
                ..good
            },
            Counts {
                completed: 2,
                failed: 0,
                ..good
            },
        ] {
            assert!(!tally.answered_once(&bad), "{bad:?}");
        }
        tally.count(Outcome::Lost);
        assert!(!tally.answered_once(&good));
    }
}
