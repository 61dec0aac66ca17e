//! The planners behind one port: from a query to a compiled plan, and from results to an answer's text.
//!
//! Outside of the request machine, which only sees what came of it. A planner dispatches nothing, knows no actor and no
//! registry: the catalogue that it plans with is an argument.

pub mod cards;
pub mod client;
pub mod domain;
pub mod embedded;
pub mod eval;
pub mod llm;
pub mod plain;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use amcp_plan::{Catalogue, Plan, PlanLimits, PlanTask};
use amcp_protocol::llm::{PortFuture, Usage};
use amcp_protocol::{AnswerPiece, CapabilityName, Failure, ProposedPlan, TaskId, TaskReport, Turn};
use jiff::civil::Date;

pub use domain::{Domain, DomainError};

/// What a planner is asked.
#[derive(Debug, Clone)]
pub struct PlanningInput {
    /// What the user wants, in the user's words.
    pub query: String,
    /// All capabilities of the mesh; a planner shows a model only those that `roles` permit, and compiles against all.
    pub catalogue: Arc<Catalogue>,
    /// The user's roles.
    pub roles: Vec<String>,
    /// How large the plan may be.
    pub limits: PlanLimits,
    /// How long planning may take.
    pub time: Duration,
    /// How many LLM calls it may cost.
    pub llm_calls: u32,
    /// The user's date, for "last quarter" and the like.
    pub today: Date,
    /// The conversation before the query, oldest turn first.
    pub history: Vec<Turn>,
    /// In a second round: what became of the first one. The new plan adds tasks and may only use `authorised`.
    pub feedback: Option<Feedback>,
    /// Takes the tasks that may start before the plan is complete.
    pub early: Sink<PlanTask>,
}

/// Takes tasks or text that a planner has before its work is done. A sink must not block, and bounds what it keeps.
pub struct Sink<T>(Option<Arc<dyn Fn(T) + Send + Sync>>);

impl<T> Sink<T> {
    /// A sink that hands every item to a function.
    pub fn new(take: impl Fn(T) + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(take)))
    }

    /// Hands an item on, or drops it without a taker.
    pub fn send(&self, item: T) {
        if let Some(take) = &self.0 {
            take(item);
        }
    }
}

/// A sink without a taker.
impl<T> Default for Sink<T> {
    fn default() -> Self {
        Self(None)
    }
}

impl<T> Clone for Sink<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T> fmt::Debug for Sink<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Sink").field(&self.0.is_some()).finish()
    }
}

/// What became of the first round.
#[derive(Debug, Clone)]
pub struct Feedback {
    /// The tasks that are done and those that failed.
    pub tasks: Vec<TaskReport>,
    /// The capabilities that were authorised when the request was accepted.
    pub authorised: Vec<CapabilityName>,
}

/// What came of planning.
#[derive(Debug, Clone)]
pub struct Planned {
    /// The compiled plan.
    pub plan: Plan,
    /// Who made it, such as `embedded` or `ollama/llama3.1:8b`.
    pub planner: String,
    /// How many LLM calls it cost.
    pub llm_calls: u32,
    /// What these calls cost together.
    pub usage: Usage,
    /// What the reader of the answer should know, such as a fall-back.
    pub notes: Vec<String>,
}

/// Why there is no plan.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{failure}")]
pub struct PlanningError {
    /// The reason.
    pub failure: Failure,
    /// Who failed.
    pub planner: String,
    /// How many LLM calls it cost.
    pub llm_calls: u32,
    /// What these calls cost together.
    pub usage: Usage,
    /// The last plan that was proposed and refused, for the user to see.
    pub proposal: Option<Box<ProposedPlan>>,
}

/// What the answer is composed from.
#[derive(Debug, Clone)]
pub struct ComposeInput {
    /// What the user wanted.
    pub query: String,
    /// What became of each task.
    pub tasks: Vec<TaskReport>,
    /// Whose results were whose params: pairs of a task and one that used its result.
    pub inputs: Vec<(TaskId, TaskId)>,
    /// Parts of the query that no capability covers.
    pub unplaced: Vec<String>,
    /// The conversation before the query, oldest turn first.
    pub history: Vec<Turn>,
    /// The contracts of the tasks' capabilities: they say what a result means.
    pub catalogue: Arc<Catalogue>,
    /// How long it may take.
    pub time: Duration,
    /// How many LLM calls it may cost.
    pub llm_calls: u32,
    /// Takes the text while it is written.
    pub pieces: Sink<AnswerPiece>,
}

/// A composed answer.
#[derive(Debug, Clone)]
pub struct Composed {
    /// For the user to read; never empty, never raw JSON.
    pub text: String,
    /// How many LLM calls it cost.
    pub llm_calls: u32,
    /// What these calls cost together.
    pub usage: Usage,
    /// What the reader should know.
    pub notes: Vec<String>,
}

/// Makes plans and composes answers.
///
/// Both futures may be dropped at any time; the caller bounds them by `time` as well.
pub trait Planner: Send + Sync + 'static {
    /// For people, such as `embedded` or `ollama/llama3.1:8b`.
    fn name(&self) -> String;

    /// Whether it can make another plan after seeing what failed; one that cannot is not asked twice.
    fn replans(&self) -> bool {
        false
    }

    /// Whether the planner hands on tasks and text before it is done; the orchestrator prepares to take them only then.
    fn streams(&self) -> bool {
        false
    }

    /// Whether it writes answers itself; for one that does not, the plain composer does.
    fn composes(&self) -> bool {
        false
    }

    /// Makes a compiled plan.
    fn plan(&self, input: PlanningInput) -> PortFuture<'_, Result<Planned, PlanningError>>;

    /// Composes the answer's text; only asked when it [`Self::composes`]. After a failure the caller composes plainly.
    fn compose(&self, _input: ComposeInput) -> PortFuture<'_, Result<Composed, Failure>> {
        let failure = Failure::internal(format!(
            "the planner {} does not compose answers",
            self.name()
        ));
        Box::pin(async { Err(failure) })
    }
}

/// A shared planner.
pub type SharedPlanner = Arc<dyn Planner>;
