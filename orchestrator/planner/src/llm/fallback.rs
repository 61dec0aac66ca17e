//! A planner with a fallback, for nodes whose configuration allows that.
//!
//! A plan of the fallback carries a note with the reason.

use std::time::Duration;

use amcp_protocol::ErrorCode;
use amcp_protocol::llm::PortFuture;
use tokio::time::Instant;

use crate::client::is_llm_failure;
use crate::{Planned, Planner, PlanningError, PlanningInput, SharedPlanner};

/// Most time kept for the fallback, which plans within milliseconds.
const RESERVED: Duration = Duration::from_secs(1);

/// Plans with `primary`, and with `fallback` when the LLM behind `primary` fails in the first round.
#[expect(missing_debug_implementations, reason = "planners are trait objects")]
pub struct WithFallback {
    /// The planner to ask first.
    pub primary: SharedPlanner,
    /// The planner to ask when the LLM of the first gives no usable plan.
    pub fallback: SharedPlanner,
}

impl WithFallback {
    async fn make(&self, input: PlanningInput) -> Result<Planned, PlanningError> {
        if input.feedback.is_some() {
            // The fallback reads only the query: in a second round it would repeat the first plan.
            return self.primary.plan(input).await;
        }
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
                planned.usage += error.usage;
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
                let mut usage = error.usage;
                usage += second.usage;
                failure.message = format!(
                    "{}; the {} planner made no plan either: {}",
                    failure.message, second.planner, second.failure
                );
                Err(PlanningError {
                    failure,
                    llm_calls: error.llm_calls + second.llm_calls,
                    usage,
                    ..error
                })
            }
        }
    }
}

/// Whether another planner may do better: the LLM was unreachable, or its plans stayed unusable. Another planner cannot help
/// a user who lacks a role.
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
    fn inner(&self) -> Option<&dyn Planner> {
        Some(&*self.primary)
    }

    fn plan(&self, input: PlanningInput) -> PortFuture<'_, Result<Planned, PlanningError>> {
        Box::pin(self.make(input))
    }
}

#[cfg(test)]
mod tests {
    use amcp_protocol::Access;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};

    use amcp_plan::{Catalogue, Plan, PlanLimits};
    use amcp_protocol::Failure;
    use amcp_protocol::llm::Usage;
    use jiff::civil::date;

    use super::*;
    use crate::{Feedback, Sink};

    struct NoLlm;

    impl Planner for NoLlm {
        fn name(&self) -> String {
            "llm".to_owned()
        }

        fn replans(&self) -> bool {
            true
        }

        fn plan(&self, _: PlanningInput) -> PortFuture<'_, Result<Planned, PlanningError>> {
            let error = PlanningError {
                failure: Failure::new(ErrorCode::LlmUnavailable, "it is down"),
                planner: self.name(),
                llm_calls: 1,
                usage: Usage::default(),
                proposal: None,
            };
            Box::pin(async { Err(error) })
        }
    }

    #[derive(Default)]
    struct Reserve(AtomicU32);

    impl Planner for Reserve {
        fn name(&self) -> String {
            "reserve".to_owned()
        }

        fn plan(&self, _: PlanningInput) -> PortFuture<'_, Result<Planned, PlanningError>> {
            self.0.fetch_add(1, Ordering::Relaxed);
            let planned = Planned {
                plan: Plan::default(),
                planner: self.name(),
                llm_calls: 0,
                usage: Usage::default(),
                notes: Vec::new(),
            };
            Box::pin(async { Ok(planned) })
        }
    }

    #[tokio::test]
    async fn the_reserve_plans_a_first_round_and_never_a_second() {
        let reserve = Arc::new(Reserve::default());
        let planner = WithFallback {
            primary: Arc::new(NoLlm),
            fallback: Arc::clone(&reserve) as SharedPlanner,
        };
        let first = PlanningInput {
            query: "weather?".to_owned(),
            catalogue: Arc::new(Catalogue::default()),
            access: Access::default(),
            limits: PlanLimits::default(),
            time: Duration::from_secs(10),
            llm_calls: 3,
            today: date(2025, 2, 14),
            history: Vec::new(),
            feedback: None,
            early: Sink::default(),
            spent: Sink::default(),
        };
        let second = PlanningInput {
            feedback: Some(Feedback {
                tasks: Vec::new(),
                authorised: Vec::new(),
            }),
            ..first.clone()
        };
        assert_eq!(planner.plan(first).await.unwrap().planner, "reserve");
        let error = planner.plan(second).await.unwrap_err();
        assert_eq!(
            (error.failure.code, error.planner.as_str()),
            (ErrorCode::LlmUnavailable, "llm")
        );
        assert_eq!(reserve.0.load(Ordering::Relaxed), 1);
    }
}
