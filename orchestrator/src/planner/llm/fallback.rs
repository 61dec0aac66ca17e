//! A planner with another one in reserve, for nodes whose configuration allows that.
//!
//! Does not hide it: a plan of the reserve carries a note that says so and why.

use std::time::Duration;

use amcp_protocol::llm::PortFuture;
use amcp_protocol::{ErrorCode, Failure};
use tokio::time::Instant;

use crate::llm::is_llm_failure;
use crate::planner::{
    ComposeInput, Composed, Planned, Planner, PlanningError, PlanningInput, SharedPlanner,
};

/// The reserve plans within milliseconds; so much is kept for it of a time that is short.
const RESERVED: Duration = Duration::from_secs(1);

/// Plans with `primary`, and with `fallback` when the LLM behind `primary` fails.
#[expect(missing_debug_implementations, reason = "planners are trait objects")]
pub struct WithFallback {
    /// Asked first.
    pub primary: SharedPlanner,
    /// Asked when no usable plan came from the first one's LLM.
    pub fallback: SharedPlanner,
}

impl WithFallback {
    async fn make(&self, input: PlanningInput) -> Result<Planned, PlanningError> {
        let reserved = RESERVED.min(input.time / 10);
        let first = PlanningInput {
            time: input.time.saturating_sub(reserved),
            ..input.clone()
        };
        let began = Instant::now();
        let error = match self.primary.plan(first).await {
            Err(error) if is_the_llms_fault(error.failure.code) => error,
            result => return result,
        };
        let reason = &error.failure;
        let left = PlanningInput {
            time: input.time.saturating_sub(began.elapsed()).max(reserved),
            llm_calls: input.llm_calls.saturating_sub(error.llm_calls),
            ..input
        };
        match self.fallback.plan(left).await {
            Ok(mut planned) => {
                planned.llm_calls += error.llm_calls;
                planned.notes.insert(
                    0,
                    format!(
                        "the LLM {} was not available ({}: {reason}); the {} planner made this plan",
                        error.planner, reason.code, planned.planner
                    ),
                );
                Ok(planned)
            }
            Err(second) => {
                let mut failure = error.failure.clone();
                failure.message = format!(
                    "{}; the {} planner made no plan either: {}",
                    failure.message, second.planner, second.failure
                );
                Err(PlanningError {
                    failure,
                    llm_calls: error.llm_calls + second.llm_calls,
                    ..error
                })
            }
        }
    }
}

/// Whether another planner may do better: the LLM was not there, or what it wrote stayed unusable. A plan that the user
/// is not permitted is refused, whoever makes it.
fn is_the_llms_fault(code: ErrorCode) -> bool {
    is_llm_failure(code)
        || matches!(
            code,
            ErrorCode::InvalidPlan
                | ErrorCode::UnknownCapability
                | ErrorCode::CyclicPlan
                | ErrorCode::BudgetExceeded
        )
}

impl Planner for WithFallback {
    fn name(&self) -> String {
        self.primary.name()
    }

    fn replans(&self) -> bool {
        self.primary.replans()
    }

    fn composes(&self) -> bool {
        self.primary.composes()
    }

    fn plan(&self, input: PlanningInput) -> PortFuture<'_, Result<Planned, PlanningError>> {
        Box::pin(self.make(input))
    }

    fn compose(&self, input: ComposeInput) -> PortFuture<'_, Result<Composed, Failure>> {
        self.primary.compose(input)
    }
}
