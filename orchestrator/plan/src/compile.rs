//! From a proposed plan to an executable one: every rule checked, every missing edge inferred with its reason.
//!
//! Does not talk to planners: it says what is wrong in words that a planner can repair from.

mod choose;
mod draft;
mod early;
mod graph;
mod ids;
mod infer;
mod judge;
mod mend;
mod possible;
mod producers;
mod references;
mod shape;
mod supply;

use amcp_protocol::{Capability, ErrorCode, ProposedPlan};
use serde_json::{Map, Value};

use crate::catalogue::Catalogue;
use crate::plan::Plan;
use draft::Drafts;
pub use early::compile_early;
pub use possible::compile_possible;

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

impl PlanError {
    fn new(code: ErrorCode, path: impl Into<String>, problem: impl Into<String>) -> Self {
        Self {
            code,
            path: path.into(),
            problem: problem.into(),
            allowed: Vec::new(),
        }
    }

    fn invalid(path: impl Into<String>, problem: impl Into<String>) -> Self {
        Self::new(ErrorCode::InvalidPlan, path, problem)
    }

    fn allowed<T: ToString>(mut self, allowed: impl IntoIterator<Item = T>) -> Self {
        // What a model can still choose from; the rest would only fill its context.
        const MOST: usize = 32;
        self.allowed = allowed
            .into_iter()
            .take(MOST)
            .map(|item| item.to_string())
            .collect();
        self
    }
}

/// Compiles a proposed plan.
///
/// The compiler settles what the proposal leaves open: it renames params that a schema knows under another name
/// (`"x-aliases": ["location"]`), brings references to their long form, mends values that differ from the schema in notation
/// alone (`"PDF"`, `"4"`), and binds a missing input to the task that produces it, or to a task that it adds.
///
/// The compiled tasks stand in an order of execution: each follows the tasks that it waits for, and otherwise keeps its place.
/// Ids that the planner gave stay, so that a task may be known by its id before the plan is complete. The compiler numbers tasks
/// without an id in the order of execution; references name them by their place in the proposal (`t2` is the second).
///
/// # Errors
/// The first rule that the proposal breaks, in this order: at least one task; not more tasks than the limit, and not deeper or
/// larger params (first, because these bound the work of all later rules); unique ids; known capabilities; references and
/// `depends_on` that exist and fit; no cycle; the other limits; params that keep their schemas (after the edges, because these
/// fill params); authorisation.
pub fn compile(proposal: &ProposedPlan, rules: &Rules<'_>) -> Result<Plan, PlanError> {
    compile_for(proposal, rules, judge::authorisation)
}

/// Compiles a plan for whom `authorisation` permits.
fn compile_for(
    proposal: &ProposedPlan,
    rules: &Rules<'_>,
    authorisation: fn(&Drafts<'_>) -> Result<(), PlanError>,
) -> Result<Plan, PlanError> {
    judge::something_to_do(proposal)?;
    judge::task_count(proposal.tasks.len(), rules.limits)?;
    judge::nesting(proposal)?;
    let sizes = proposal.tasks.iter().map(|task| &task.params).enumerate();
    judge::params_bytes(sizes, rules.limits)?;
    let ids = ids::Ids::assign(&proposal.tasks)?;
    let mut drafts = Drafts::new(proposal, rules, ids)?;
    mend::rename_all(&mut drafts);
    references::settle_all(&mut drafts)?;
    judge::depth(&drafts, rules.limits)?;
    mend::mend_all(&mut drafts);
    infer::infer_all(&mut drafts)?;
    judge::depth(&drafts, rules.limits)?;
    // Again, since a task that the compiler adds takes what the query says and params of the task that it is for.
    let drafted = drafts.tasks.iter().map(|draft| (draft.root, &draft.params));
    judge::params_bytes(drafted, rules.limits)?;
    judge::params(&mut drafts)?;
    authorisation(&drafts)?;
    let tasks = drafts.into_tasks()?;
    Ok(Plan {
        reasoning: proposal.reasoning.clone(),
        // Work that was planned is not thrown away for an answer that was given on the side.
        answer_directly: proposal
            .answer_directly
            .clone()
            .filter(|_| proposal.tasks.is_empty()),
        tasks,
        unplaced: proposal.unplaced.clone(),
        refused: Vec::new(),
    })
}

#[cfg(test)]
mod hostile_tests;
#[cfg(test)]
mod infer_tests;
#[cfg(test)]
mod rule_tests;
#[cfg(test)]
mod testing;
