//! Meshes of real `amcp` processes: who finds whom, and what becomes of requests when nodes are killed, frozen, cut off or
//! replaced.
//!
//! Times are printed, and bounded only loosely: the machine may be busy with other tests.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "cluster/faults.rs"]
mod faults;
#[path = "cluster/hostile.rs"]
mod hostile;
#[path = "cluster/join.rs"]
mod join;
#[path = "cluster/partition.rs"]
mod partition;
#[path = "cluster/tasks.rs"]
mod tasks;
#[path = "cluster/upgrade.rs"]
mod upgrade;
#[path = "cluster/warrants.rs"]
mod warrants;

use std::time::Duration;

use amcp_tests::cluster::load::Outcome;

/// What nodes detect within five seconds on a quiet machine.
const DETECTED: Duration = Duration::from_secs(15);

/// Short tasks of several specialists, one with two of them at once, and a chain.
const QUERIES: [&str; 4] = [
    "What is 17 * 23?",
    "What's the weather in Paris and tell me a programming joke?",
    "What is the stock price of AMZN?",
    "Show the expenses by department for Q3 2024",
];

/// Every request was answered, and whole.
fn all_complete(outcomes: &[Outcome]) {
    assert!(!outcomes.is_empty(), "no request was sent");
    for outcome in outcomes {
        assert!(outcome.is_complete(), "{outcome:?}");
    }
}
