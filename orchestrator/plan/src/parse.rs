//! Reads a proposed plan out of what a planner wrote: fences, thinking and prose around it, all shapes of the JSON.
//!
//! Does not judge the plan; that is [`crate::compile()`].

use amcp_protocol::ProposedPlan;

/// Why no plan can be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{problem}")]
pub struct ParseError {
    /// What is wrong and where.
    pub problem: String,
}

/// Reads a plan.
///
/// # Errors
/// [`ParseError`] says what is wrong, in words that a model can repair from.
pub fn parse(_text: &str) -> Result<ProposedPlan, ParseError> {
    unimplemented!("written next")
}
