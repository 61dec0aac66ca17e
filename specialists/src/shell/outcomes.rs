//! Keeps the outcomes of attempts that must not be made twice: an attempt that is sent again after its end gets the same
//! outcome. Pure: time comes in as an argument.
//!
//! Does not keep outcomes of idempotent capabilities, whose attempts run again. Links keep other nodes' outcomes.

use std::collections::VecDeque;
use std::time::Duration;

use amcp_protocol::{ErrorCode, Failure, TaskResponse, task::TaskOutcome};
use amcp_registry::TaskKey;
use tokio::time::Instant;

use super::HashMap;

/// As long as a link keeps a result: longer than all pauses of a task's attempts.
const KEPT: Duration = Duration::from_secs(120);
/// Most outcomes of an agent, as many as tasks may wait for a capability; past this number the oldest is forgotten.
const MOST: usize = 256;
/// Largest result that is kept, in estimated bytes of JSON: 4 MiB for an agent in all.
const MOST_BYTES: usize = 16 * 1024;

#[derive(Debug, Default)]
pub(super) struct Outcomes {
    kept: HashMap<TaskKey, TaskResponse>,
    /// The earliest end first.
    ends: VecDeque<(Instant, TaskKey)>,
}

impl Outcomes {
    /// Keeps an outcome; if its result is too large, keeps only the fact that the work was done.
    pub(super) fn keep(&mut self, key: &TaskKey, response: &TaskResponse, now: Instant) {
        self.forget_old(now);
        if self.ends.len() >= MOST
            && let Some((_, oldest)) = self.ends.pop_front()
        {
            self.kept.remove(&oldest);
        }
        let result = response.outcome.result();
        let small = result.is_none_or(|result| result.size() <= MOST_BYTES);
        let kept = if small {
            response.clone()
        } else {
            TaskResponse {
                calls: Vec::new(),
                outcome: TaskOutcome::Failed(unknown(
                    "its work was done, and its result was too large to keep",
                )),
                ..response.clone()
            }
        };
        if self.kept.insert(key.clone(), kept).is_none() {
            self.ends.push_back((now, key.clone()));
        }
    }

    /// The outcome of an attempt that ended at most [`KEPT`] ago.
    pub(super) fn of(&mut self, key: &TaskKey, now: Instant) -> Option<TaskResponse> {
        self.forget_old(now);
        self.kept.get(key).cloned()
    }

    fn forget_old(&mut self, now: Instant) {
        while let Some((end, key)) = self.ends.front()
            && now.saturating_duration_since(*end) > KEPT
        {
            self.kept.remove(key);
            self.ends.pop_front();
        }
    }
}

/// The failure of an attempt that began and has no known outcome. The code must not count as an agent's death: the agent lives,
/// and three deaths would quarantine the task.
pub(super) fn unknown(why: &str) -> Failure {
    let message = format!("the same attempt was sent before: {why}");
    Failure::new(ErrorCode::NodeLost, message)
}

#[cfg(test)]
mod tests {
    use amcp_protocol::task::WIRE_VERSION;
    use amcp_protocol::{AgentId, TaskId};
    use serde_json::{Value, json};

    use super::*;

    fn response(task: usize, result: Value) -> (TaskKey, TaskResponse) {
        let (request_id, task_id) = (
            "123e4567-e89b-12d3-a456-426614174999".parse().unwrap(),
            TaskId::new(format!("t{task}")).unwrap(),
        );
        let response = TaskResponse {
            version: WIRE_VERSION,
            request_id,
            task_id: task_id.clone(),
            attempt: 1,
            agent: AgentId::new("one").unwrap(),
            calls: Vec::new(),
            usage: Default::default(),
            outcome: TaskOutcome::Done(result.into()),
        };
        let key = TaskKey {
            request_id,
            task_id,
            attempt: 1,
        };
        (key, response)
    }

    #[tokio::test(start_paused = true)]
    async fn an_outcome_is_kept_for_a_while() {
        let mut outcomes = Outcomes::default();
        let (key, done) = response(1, json!(1));
        outcomes.keep(&key, &done, Instant::now());
        tokio::time::advance(KEPT).await;
        assert_eq!(outcomes.of(&key, Instant::now()), Some(done));
        tokio::time::advance(Duration::from_millis(1)).await;
        assert_eq!(outcomes.of(&key, Instant::now()), None);
        assert_eq!((outcomes.kept.len(), outcomes.ends.len()), (0, 0));
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let (mut outcomes, now) = (Outcomes::default(), Instant::now());
        for task in 0..2 * MOST {
            let (key, done) = response(task, json!("a".repeat(MOST_BYTES)));
            outcomes.keep(&key, &done, now);
        }
        assert_eq!((outcomes.kept.len(), outcomes.ends.len()), (MOST, MOST));
        assert_eq!(outcomes.of(&response(MOST - 1, json!(1)).0, now), None);
        let large = outcomes.of(&response(MOST, json!(1)).0, now).unwrap();
        assert_eq!(large.outcome.failure().unwrap().code, ErrorCode::NodeLost);
    }
}
