//! The planners behind one port: they make a compiled plan from a query, and an answer's text from results.
//!
//! Outside of the request machine, which only sees the results. A planner dispatches nothing and knows neither actor nor
//! registry: its catalogue is an argument.

pub mod aside;
pub mod cards;
pub mod client;
pub mod domain;
pub mod embedded;
pub mod eval;
mod gather;
mod given;
pub mod llm;
pub mod plain;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use amcp_plan::{Catalogue, Plan, PlanLimits, PlanTask};
use amcp_protocol::llm::{PortFuture, Usage};
use amcp_protocol::{
    Access, AnswerPiece, CapabilityName, Failure, ProposedPlan, TaskId, TaskReport, Turn,
};
use jiff::civil::Date;

pub use domain::{Domain, DomainError};
pub use given::Given;

/// The input of a planner.
#[derive(Debug, Clone)]
pub struct PlanningInput {
    /// The query in the user's words.
    pub query: String,
    /// All capabilities of the mesh; a planner shows a model only those that `access` allows, and compiles against all.
    pub catalogue: Arc<Catalogue>,
    /// What the user may use.
    pub access: Access,
    /// The bounds on the plan.
    pub limits: PlanLimits,
    /// How long planning may take.
    pub time: Duration,
    /// Most LLM calls to spend.
    pub llm_calls: u32,
    /// The user's date, for words such as "last quarter".
    pub today: Date,
    /// The conversation before the query, oldest turn first.
    pub history: Vec<Turn>,
    /// In a second round: the results of the first. The new plan adds tasks and may only use `authorised`.
    pub feedback: Option<Feedback>,
    /// Takes the tasks that may start before the plan is complete.
    pub early: Sink<PlanTask>,
    /// Hears at once what each call of the model took, so that it counts whatever becomes of the planning.
    pub spent: Sink<Usage>,
}

/// Takes tasks or text from a planner at work. A sink must not block, and must bound what it keeps.
pub struct Sink<T>(Option<Arc<dyn Fn(T) + Send + Sync>>);

impl<T> Sink<T> {
    /// Makes a sink that hands every item to `take`.
    pub fn new(take: impl Fn(T) + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(take)))
    }

    /// Hands an item on, or drops it if there is no taker.
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

/// The results of the first round.
#[derive(Debug, Clone)]
pub struct Feedback {
    /// The ends of its tasks.
    pub tasks: Vec<TaskReport>,
    /// The capabilities that were authorised when the request was accepted.
    pub authorised: Vec<CapabilityName>,
}

/// The result of planning.
#[derive(Debug, Clone)]
pub struct Planned {
    /// The compiled plan.
    pub plan: Plan,
    /// The planner's name, such as `embedded` or `ollama/llama3.1:8b`.
    pub planner: String,
    /// Number of LLM calls spent.
    pub llm_calls: u32,
    /// Tokens that these calls took together.
    pub usage: Usage,
    /// Remarks for the reader of the answer, such as a fall-back.
    pub notes: Vec<String>,
}

/// The failure of a planner.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{failure}")]
pub struct PlanningError {
    /// The reason why there is no plan.
    pub failure: Failure,
    /// The name of the planner that failed.
    pub planner: String,
    /// Number of LLM calls spent.
    pub llm_calls: u32,
    /// Tokens that these calls took together.
    pub usage: Usage,
    /// The last refused proposal, for the user.
    pub proposal: Option<Box<ProposedPlan>>,
}

impl PlanningError {
    /// The failure of a planner that asked no LLM and proposed nothing.
    #[must_use]
    pub fn new(failure: Failure, planner: String) -> Self {
        Self {
            failure,
            planner,
            llm_calls: 0,
            usage: Usage::default(),
            proposal: None,
        }
    }
}

/// The input of a composer.
#[derive(Debug, Clone)]
pub struct ComposeInput {
    /// The query in the user's words.
    pub query: String,
    /// The end of each task.
    pub tasks: Vec<TaskReport>,
    /// Pairs of a task and another task that used its result.
    pub inputs: Vec<(TaskId, TaskId)>,
    /// Parts of the query that no capability covers.
    pub unplaced: Vec<String>,
    /// The conversation before the query, oldest turn first.
    pub history: Vec<Turn>,
    /// The contracts of the tasks' capabilities, which describe their results.
    pub catalogue: Arc<Catalogue>,
    /// Most time to spend.
    pub time: Duration,
    /// Most LLM calls to spend.
    pub llm_calls: u32,
    /// Takes the text while a model writes it.
    pub pieces: Sink<AnswerPiece>,
}

/// A composed answer.
#[derive(Debug, Clone)]
pub struct Composed {
    /// The text for the user; never empty, never raw JSON.
    pub text: String,
    /// Number of LLM calls spent.
    pub llm_calls: u32,
    /// Tokens that these calls took together.
    pub usage: Usage,
    /// Remarks for the reader of the answer.
    pub notes: Vec<String>,
}

/// Makes plans and composes answers.
///
/// Both futures may be dropped at any time; the caller bounds them by `time` as well.
pub trait Planner: Send + Sync + 'static {
    /// The planner's name in answers and logs, such as `embedded` or `ollama/llama3.1:8b`; by default that of the planner it wraps.
    fn name(&self) -> String {
        self.inner().map_or_else(String::new, Planner::name)
    }

    /// The planner that this one wraps: except for planning it does by default what that one does.
    fn inner(&self) -> Option<&dyn Planner> {
        None
    }

    /// Whether the planner can plan again from failures; otherwise there is no second round.
    fn replans(&self) -> bool {
        self.inner().is_some_and(Planner::replans)
    }

    /// Whether the planner hands on tasks and text while it works; only then does the orchestrator prepare to take them.
    fn streams(&self) -> bool {
        self.inner().is_some_and(Planner::streams)
    }

    /// Whether the planner writes answers; otherwise the plain composer does.
    fn composes(&self) -> bool {
        self.inner().is_some_and(Planner::composes)
    }

    /// Makes a compiled plan within the input's bounds.
    fn plan(&self, input: PlanningInput) -> PortFuture<'_, Result<Planned, PlanningError>>;

    /// Composes the answer's text; called only if the planner [`Self::composes`]. After a failure the caller composes plainly.
    fn compose(&self, input: ComposeInput) -> PortFuture<'_, Result<Composed, Failure>> {
        if let Some(inner) = self.inner() {
            return inner.compose(input);
        }
        let failure = Failure::internal(format!(
            "the planner {} does not compose answers",
            self.name()
        ));
        Box::pin(async { Err(failure) })
    }
}

/// A planner that the actors of an orchestrator share.
pub type SharedPlanner = Arc<dyn Planner>;
