//! The two decisions of an orchestrator as pure functions: which plan runs, and what happens next.
//!
//! No runtime, no actor, no clock, no randomness: time and jitter come in as arguments. Sends nothing.

pub mod catalogue;
pub mod compile;
pub mod machine;
pub mod parse;
pub mod plan;
pub mod recording;
pub mod resume;

pub use catalogue::Catalogue;
pub use compile::{
    Fill, NoFill, PlanError, PlanLimits, Rules, compile, compile_early, compile_possible,
};
pub use machine::{
    Action, Assignment, Conclusion, Dropped, Event, Machine, Policy, Time, TimerKey, WITHDRAWAL,
};
pub use parse::{ParseError, TaskReader, parse};
pub use plan::{Plan, PlanTask, Reference, RefusedTask, Terms};
pub use resume::{Resumed, resume};
