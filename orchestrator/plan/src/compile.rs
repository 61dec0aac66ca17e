//! From a proposed plan to an executable one: every rule checked, every missing edge inferred with its reason.
//!
//! Does not talk to planners: it says what is wrong in words that a planner can repair from.

use amcp_protocol::{Capability, ErrorCode, ProposedPlan};
use serde_json::{Map, Value};

use crate::catalogue::Catalogue;
use crate::plan::Plan;

/// How large a plan may be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlanLimits {
    /// Most tasks, those that the compiler adds included.
    pub tasks: usize,
    /// Longest chain of tasks.
    pub depth: usize,
    /// Most bytes of all params together, as JSON.
    pub params_bytes: usize,
}

impl Default for PlanLimits {
    fn default() -> Self {
        // 32 tasks: a plan longer than a person would read is a mistake more often than a need. 16 deep: each level
        // costs a task's time. 256 KiB: what fits into one message between nodes.
        Self {
            tasks: 32,
            depth: 16,
            params_bytes: 256 * 1024,
        }
    }
}

/// Params for a task that the compiler adds, taken from the user's query.
pub trait Fill {
    /// What the query says about the capability's params; an empty map when it says nothing.
    fn fill(&self, capability: &Capability) -> Map<String, Value>;
}

/// Fills nothing: for plans without a query, and tests.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoFill;

impl Fill for NoFill {
    fn fill(&self, _: &Capability) -> Map<String, Value> {
        Map::new()
    }
}

/// What a plan is judged by.
#[expect(missing_debug_implementations, reason = "the filler is a trait object")]
pub struct Rules<'a> {
    /// All capabilities of the mesh, whoever may use them.
    pub catalogue: &'a Catalogue,
    /// The roles of the user whom the plan is for.
    pub roles: &'a [String],
    /// How large the plan may be.
    pub limits: &'a PlanLimits,
    /// Fills the params of tasks that the compiler adds.
    pub fill: &'a dyn Fill,
}

/// Why a plan is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {problem}")]
pub struct PlanError {
    /// The kind.
    pub code: ErrorCode,
    /// Where in the proposed plan, such as `tasks[1].params.rows`.
    pub path: String,
    /// What is wrong there.
    pub problem: String,
    /// What would be right there, if that can be listed.
    pub allowed: Vec<String>,
}

/// Compiles a proposed plan.
///
/// # Errors
/// The first rule that it breaks, in this order: unique ids, known capabilities, params, references, edges, cycles,
/// limits, authorisation.
pub fn compile(_proposal: &ProposedPlan, _rules: &Rules<'_>) -> Result<Plan, PlanError> {
    unimplemented!("written next")
}
