//! The orchestrator: admission, one short-lived actor per request, the planners and the LLM clients behind them.
//!
//! Decides nothing itself: which plan runs and what happens next are decisions of the pure crate `amcp-plan`. Does not
//! know any specialist: agents are found at run time, in the registry's directory.

pub mod llm;
pub mod planner;

pub use planner::{
    ComposeInput, Composed, Feedback, Planned, Planner, PlanningError, PlanningInput,
};
