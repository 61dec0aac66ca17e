//! How good a planner is: cases that say which plans a query may get, and the judgement of the plan that it got; where a case
//! says what its answer must say, also the judgement of the answer.
//!
//! Runs no planner, reads no file and measures no time; the caller does. Nothing here knows a capability by name.
//!
//! A plan is judged as one of four outcomes:
//!
//! - **right**: the expected tasks, values and edges, and nothing else.
//! - **partly**: something is missing, or what is wrong is admitted by a note or by a part of the query that is left out.
//! - **silently wrong**: a task or a value that is not expected, and that nothing admits; a write is never admitted. Also no task
//!   where some are expected, and not a word about it.
//! - **declined**: no task where some are expected, and the planner says so.
//!
//! A query that nothing may be planned for is right when nothing is planned.

mod answer;
mod cases;
mod compare;
mod judge;
mod report;
mod wanted;

pub use answer::{WantedAnswer, judge_request, judged};
pub use cases::{Case, CaseError, read};
pub use judge::{Outcome, Tally, Verdict, judge};
pub use report::{Answered, Cost, Report, Row, Scored};
