//! Compiles a proposed plan to an executable one: checks every rule, and infers every missing edge with its reason.
//!
//! Calls no planner; its errors have the words that a planner needs for a repair.

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

use amcp_protocol::{Access, Capability, ErrorCode, ProposedPlan};
use serde_json::{Map, Value};
use smart_default::SmartDefault;

use crate::catalogue::Catalogue;
use crate::plan::Plan;
use draft::Drafts;
pub use early::compile_early;
pub use possible::compile_possible;

/// The bounds on a plan.
#[derive(Debug, Clone, PartialEq, Eq, SmartDefault)]
pub struct PlanLimits {
    /// Most tasks, including those that the compiler adds.
    // A longer plan than a person would read is more often a mistake than a need.
    #[default = 32]
    pub tasks: usize,
    /// Longest chain of tasks.
    // Each level costs a task's time.
    #[default = 16]
    pub depth: usize,
    /// Most bytes of all params together, as JSON.
    // They fit into one message between nodes.
    #[default(256 * 1024)]
    pub params_bytes: usize,
}

/// Params for a task that the compiler adds, taken from the user's query.
pub trait Fill {
    /// The params of the capability that the query gives; an empty map when it gives none.
    fn fill(&self, capability: &Capability) -> Map<String, Value>;

    /// How much the query speaks of a capability that could be added for a consumer's param: the largest worth wins, 0 for a
    /// capability that the query does not name; none for one that must not be added.
    fn worth(&self, _supplier: &Capability, _consumer: &Capability, _param: &str) -> Option<f32> {
        Some(0.0)
    }
}

/// Fills nothing: for plans without a query, and tests.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoFill;

impl Fill for NoFill {
    fn fill(&self, _: &Capability) -> Map<String, Value> {
        Map::new()
    }
}

/// The rules for a plan.
#[expect(missing_debug_implementations, reason = "the filler is a trait object")]
pub struct Rules<'a> {
    /// All capabilities of the mesh, also those that the user may not use.
    pub catalogue: &'a Catalogue,
    /// What the plan's user may use.
    pub access: &'a Access,
    /// The bounds on the plan.
    pub limits: &'a PlanLimits,
    /// Fills the params of tasks that the compiler adds.
    pub fill: &'a dyn Fill,
}

/// The reason why a plan is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {problem}")]
pub struct PlanError {
    /// `invalid_plan`, `nothing_planned`, `unknown_capability`, `cyclic_plan`, `not_permitted` or `budget_exceeded`.
    pub code: ErrorCode,
    /// The place in the proposed plan, such as `tasks[1].params.rows`.
    pub path: String,
    /// The fault there.
    pub problem: String,
    /// The valid choices there, if they can be listed.
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
        // As many choices as help a model; more would only fill its context.
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
/// The compiled tasks stand in an order of execution: each follows the tasks that it waits for, and otherwise keeps its
/// place. The planner's ids stay, so that a task may be known by its id before the plan is complete. The compiler numbers
/// tasks without an id in the order of execution; references name them by their place in the proposal (`t2`: the second).
///
/// # Errors
/// The first rule that the proposal breaks, in this order: at least one task; not more tasks than the limit, and not deeper or
/// larger params (first, because these bound the work of all later rules); unique ids; known capabilities; references and
/// `depends_on` that exist and fit; no cycle; the other limits; params that keep their schemas (after the edges, because these
/// fill params); authorisation.
pub fn compile(proposal: &ProposedPlan, rules: &Rules<'_>) -> Result<Plan, PlanError> {
    compile_for(proposal, rules, judge::authorisation)
}

/// Compiles a plan; `authorisation` is the last check.
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
    // Again, since a task that the compiler adds gets params from the query and from its consumer.
    let drafted = drafts.tasks.iter().map(|draft| (draft.root, &draft.params));
    judge::params_bytes(drafted, rules.limits)?;
    judge::params(&mut drafts)?;
    authorisation(&drafts)?;
    let tasks = drafts.into_tasks()?;
    Ok(Plan {
        reasoning: proposal.reasoning.clone(),
        // Planned tasks win over a direct answer.
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
