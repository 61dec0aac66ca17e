//! The planner that asks a language model: the model proposes, the compiler judges, and refused plans go back for repair.
//!
//! Does not trust the model: compiles each plan against the whole catalogue. Dispatches nothing.

mod compose;
mod early;
mod fallback;
mod format;
mod prompt;
pub(crate) mod quote;
mod rank;

use std::fmt;
use std::sync::Arc;

use amcp_plan::{Catalogue, Fill, NoFill, Plan, Rules, compile, compile_possible, parse};
use amcp_protocol::llm::{
    ChatReply, ChatRequest, ChatTurn, PortFuture, SharedLlm, TextSink, Usage,
};
use amcp_protocol::{ErrorCode, Failure, ProposedPlan};
use jiff::civil::Date;
use serde_json::Value;
use tokio::time::timeout;

use super::{ComposeInput, Composed, Planned, Planner, PlanningError, PlanningInput};
use early::Early;
pub use fallback::WithFallback;
pub use rank::{Rank, by_shared_words};

/// Most calls for a plan: one and two repairs. A model that fails twice to repair a plan does not succeed later.
const MAX_CALLS: u32 = 3;
/// Most tokens of a plan: 32 tasks of 60 tokens, and the reasoning.
const PLAN_TOKENS: u32 = 2_304;
/// Most capabilities in a prompt: more confuse small models and fill their context.
const MAX_SHOWN: usize = 30;
/// Most characters of a refused answer in a repair.
const SHOWN_AGAIN: usize = 6_000;
/// Most characters of a problem and its allowed values in a repair.
const MAX_PROBLEM: usize = 400;
const MAX_ALLOWED: usize = 40;

/// Makes the filler of one request from its query and the user's date; it fills the params of tasks that the compiler adds.
pub type FillFor = Arc<dyn Fn(&str, Date) -> Box<dyn Fill> + Send + Sync>;

/// Plans and composes with a language model.
#[derive(Clone)]
#[expect(
    missing_debug_implementations,
    reason = "holds closures and a trait object"
)]
pub struct LlmPlanner {
    llm: SharedLlm,
    rank: Rank,
    fill: FillFor,
}

impl LlmPlanner {
    /// Plans with this model, which should be [guarded](crate::client::Guarded).
    #[must_use]
    pub fn new(llm: SharedLlm) -> Self {
        Self {
            llm,
            rank: Arc::new(by_shared_words),
            fill: Arc::new(|_, _| Box::new(NoFill)),
        }
    }

    /// Sets the ranking of capabilities, for when there are too many for a prompt.
    #[must_use]
    pub fn ranked_by(mut self, rank: Rank) -> Self {
        self.rank = rank;
        self
    }

    /// Sets the filler for the params of tasks that the compiler adds.
    #[must_use]
    pub fn filled_by(mut self, fill: FillFor) -> Self {
        self.fill = fill;
        self
    }

    async fn make(&self, input: PlanningInput) -> Result<Planned, PlanningError> {
        let mut round = Round::new(self, &input);
        let made = match timeout(input.time, round.run()).await {
            Ok(made) => made,
            Err(_) => Err(Failure::new(
                ErrorCode::LlmTimeout,
                format!("{} made no plan within {:?}", self.llm.name(), input.time),
            )
            .hint("allow more time (deadline_ms), or use a smaller model")),
        };
        match made {
            Ok(plan) => Ok(Planned {
                notes: if plan.tasks.is_empty() && plan.answer_directly.is_some() {
                    vec![format!(
                        "{} answered from its own knowledge; no agent was asked",
                        self.llm.name()
                    )]
                } else {
                    Vec::new()
                },
                plan,
                planner: self.llm.name(),
                llm_calls: round.calls,
                usage: round.usage,
            }),
            Err(failure) => Err(PlanningError {
                failure,
                planner: self.llm.name(),
                llm_calls: round.calls,
                usage: round.usage,
                proposal: round.proposal.map(Box::new),
            }),
        }
    }

    async fn write(&self, input: ComposeInput) -> Result<Composed, Failure> {
        if input.llm_calls == 0 {
            return Err(no_calls_left());
        }
        let mut pieces = compose::Pieces::new(&input.pieces);
        let asked = self.llm.stream(compose::request(&input), &mut pieces);
        let written = match timeout(input.time, asked).await {
            Ok(reply) => reply.and_then(|reply| Ok((compose::answer(&reply)?, reply.usage))),
            Err(_) => Err(Failure::new(
                ErrorCode::LlmTimeout,
                format!(
                    "{} wrote no answer within {:?}",
                    self.llm.name(),
                    input.time
                ),
            )),
        };
        match written {
            Ok((text, usage)) => Ok(Composed {
                text,
                llm_calls: 1,
                usage,
                notes: Vec::new(),
            }),
            Err(failure) => {
                pieces.reset();
                Err(failure)
            }
        }
    }
}

impl Planner for LlmPlanner {
    fn name(&self) -> String {
        self.llm.name()
    }

    fn replans(&self) -> bool {
        true
    }

    fn streams(&self) -> bool {
        true
    }

    fn composes(&self) -> bool {
        true
    }

    fn plan(&self, input: PlanningInput) -> PortFuture<'_, Result<Planned, PlanningError>> {
        Box::pin(self.make(input))
    }

    fn compose(&self, input: ComposeInput) -> PortFuture<'_, Result<Composed, Failure>> {
        Box::pin(self.write(input))
    }
}

/// The reason why a proposal was refused: for the model's repair, else for the user.
#[derive(Debug, Clone)]
struct Refusal {
    path: String,
    problem: String,
    allowed: Vec<String>,
    code: ErrorCode,
}

impl Refusal {
    fn unreadable(problem: impl Into<String>) -> Self {
        Self {
            path: String::new(),
            problem: problem.into(),
            allowed: Vec::new(),
            code: ErrorCode::LlmMalformed,
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        f.write_str(&self.problem)
    }
}

/// One planning: the conversation and its cost.
struct Round<'a> {
    planner: &'a LlmPlanner,
    input: &'a PlanningInput,
    /// The capabilities in the prompt.
    visible: Catalogue,
    /// The capabilities that the plan may use; in a second round only those authorised in the first.
    usable: Arc<Catalogue>,
    /// Tasks that the first round left undone.
    early: Early<'a>,
    calls: u32,
    usage: Usage,
    proposal: Option<ProposedPlan>,
}

impl<'a> Round<'a> {
    fn new(planner: &'a LlmPlanner, input: &'a PlanningInput) -> Self {
        let usable = match &input.feedback {
            None => Arc::clone(&input.catalogue),
            Some(feedback) => Arc::new(
                feedback
                    .authorised
                    .iter()
                    .filter_map(|name| input.catalogue.get(name.as_str()))
                    .cloned()
                    .collect(),
            ),
        };
        let permitted = usable.permitted(&input.access);
        Self {
            planner,
            input,
            visible: rank::best(&input.query, permitted, MAX_SHOWN, &planner.rank),
            early: Early::new(input, Arc::clone(&usable)),
            usable,
            calls: 0,
            usage: Usage::default(),
            proposal: None,
        }
    }

    async fn run(&mut self) -> Result<Plan, Failure> {
        if self.visible.is_empty() {
            return Err(Failure::new(
                ErrorCode::NothingPlanned,
                "there is no capability that this user may use",
            )
            .hint("some capabilities need a role"));
        }
        let most = self.input.limits.tasks;
        let again = self.input.feedback.is_some();
        let shown = format::plan_schema_for_prompt(&self.visible, most, again);
        let mut chat = ChatRequest {
            system: prompt::system(&self.visible, &shown, self.input.today),
            turns: vec![ChatTurn::user(prompt::user(self.input))],
            format: Some(format::plan_schema(&self.visible, most, again)),
            max_tokens: PLAN_TOKENS,
        };
        let mut last = None;
        while self.calls < MAX_CALLS.min(self.input.llm_calls) {
            self.calls += 1;
            self.early.begin();
            let llm = &self.planner.llm;
            let reply = llm.stream(chat.clone(), &mut self.early).await?;
            self.usage += reply.usage;
            self.input.spent.send(reply.usage);
            let refusal = match self.judge(&reply) {
                Ok(plan) => return Ok(plan),
                Err(refusal) => refusal,
            };
            let told = self.told(&refusal);
            // The prompt, the last answer and its fault: the model would only imitate earlier tries.
            chat.turns.truncate(1);
            chat.turns.push(ChatTurn {
                by_model: true,
                text: reply.text.chars().take(SHOWN_AGAIN).collect(),
            });
            chat.turns.push(ChatTurn::user(prompt::repair(
                &told.path,
                &told.problem,
                &told.allowed,
            )));
            last = Some(refusal);
        }
        let Some(refusal) = last else {
            return Err(no_calls_left());
        };
        self.possible(&refusal).ok_or_else(|| self.gave_up(refusal))
    }

    /// The possible part of a plan with unknown or forbidden capabilities, once the repairs are used up.
    fn possible(&self, refusal: &Refusal) -> Option<Plan> {
        let cannot = [ErrorCode::UnknownCapability, ErrorCode::NotPermitted];
        let proposal = self.proposal.as_ref()?;
        let fill = self.fill();
        let rules = self.rules(fill.as_ref());
        let plan = cannot
            .contains(&refusal.code)
            .then(|| compile_possible(proposal, &rules))?;
        plan.ok()
    }

    fn fill(&self) -> Box<dyn Fill> {
        (self.planner.fill)(&self.input.query, self.input.today)
    }

    fn rules<'r>(&'r self, fill: &'r dyn Fill) -> Rules<'r> {
        Rules {
            catalogue: &self.usable,
            access: &self.input.access,
            limits: &self.input.limits,
            fill,
        }
    }

    fn judge(&mut self, reply: &ChatReply) -> Result<Plan, Refusal> {
        // A server that gives no reason may have stopped early; complete JSON proves that it did not.
        if reply.truncated && serde_json::from_str::<Value>(reply.text.trim()).is_err() {
            return Err(Refusal::unreadable(format!(
                "the answer was cut off at its longest allowed length ({PLAN_TOKENS} tokens): write a shorter plan"
            )));
        }
        let mut proposal = parse(&reply.text).map_err(|e| Refusal::unreadable(e.problem))?;
        if !proposal.tasks.is_empty() {
            // Small models fill every field; the agents' results are the answer.
            proposal.answer_directly = None;
        }
        self.proposal = Some(proposal.clone());
        let input = self.input;
        let fill = self.fill();
        let plan = compile(&proposal, &self.rules(fill.as_ref())).map_err(|error| Refusal {
            path: error.path,
            problem: error.problem,
            allowed: error.allowed,
            code: error.code,
        })?;
        let says_nothing =
            plan.tasks.is_empty() && plan.answer_directly.is_none() && plan.unplaced.is_empty();
        if says_nothing && input.feedback.is_none() {
            return Err(Refusal {
                path: "tasks".to_owned(),
                problem:
                    "the plan is empty: add tasks, or say in 'unplaced' what no capability covers"
                        .to_owned(),
                allowed: self.names(),
                code: ErrorCode::NothingPlanned,
            });
        }
        Ok(plan)
    }

    /// The refusal without names of capabilities that the user may not use: the compiler knows all, the model must not.
    fn told(&self, refusal: &Refusal) -> Refusal {
        let mut told = refusal.clone();
        if matches!(
            told.code,
            ErrorCode::UnknownCapability | ErrorCode::NotPermitted
        ) {
            told.allowed = self.names();
        }
        let hidden = |text: &str| {
            self.input.catalogue.iter().any(|contract| {
                let capability = &contract.capability;
                !self.input.access.allows(capability) && text.contains(capability.name.as_str())
            })
        };
        told.allowed.retain(|allowed| !hidden(allowed));
        if told.code == ErrorCode::NotPermitted || hidden(&told.problem) {
            told.problem = "there is no such capability".to_owned();
        }
        told.allowed.truncate(MAX_ALLOWED);
        told.problem = told.problem.chars().take(MAX_PROBLEM).collect();
        told
    }

    fn gave_up(&self, refusal: Refusal) -> Failure {
        let name = self.planner.llm.name();
        if refusal.code == ErrorCode::NotPermitted {
            return Failure::new(refusal.code, format!("{name} planned {refusal}"))
                .hint("ask the operator of the mesh for the role, or leave that part out");
        }
        let refusal = self.told(&refusal);
        let tries = self.calls;
        Failure::new(
            refusal.code,
            format!(
                "{name} made no usable plan in {tries} tries; the last one was refused: {refusal}"
            ),
        )
        .hint("say it in other words, use a larger model, or plan without one (`--llm embedded`)")
    }

    fn names(&self) -> Vec<String> {
        self.visible
            .iter()
            .map(|contract| contract.capability.name.to_string())
            .collect()
    }
}

fn no_calls_left() -> Failure {
    Failure::new(
        ErrorCode::BudgetExceeded,
        "the request has used up its LLM calls",
    )
}
