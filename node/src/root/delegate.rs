//! The orchestrator as an agent: other orchestrators and agents delegate whole requests to it.
//!
//! Does not decide what it accepts; the orchestrator does.

use amcp_orchestrator::{Delegation, OrchestratorHandle};
use amcp_specialists::{AgentCard, Context, Failure, Specialist, Task, Value, async_trait};

/// Offers `orchestrate.<domain>`. Its card describes what the orchestrator can plan with when the agent starts: start it
/// after the specialists have settled.
pub(crate) struct DelegateSpecialist(OrchestratorHandle);

impl DelegateSpecialist {
    /// An agent for this orchestrator.
    pub(crate) const fn new(orchestrator: OrchestratorHandle) -> Self {
        Self(orchestrator)
    }
}

#[async_trait]
impl Specialist for DelegateSpecialist {
    fn card(&self) -> AgentCard {
        let description = "Plans whole requests and has them done.";
        // The agent's id in the mesh is its supervisor's to give.
        AgentCard::new("orchestrator", description, vec![self.0.capability()])
    }

    async fn handle(&self, task: Task, ctx: &Context) -> Result<Value, Failure> {
        let (outcome, calls) = self
            .0
            .delegated(Delegation {
                query: task.text("query").to_owned(),
                grant: ctx.grant().clone(),
                lineage: ctx.lineage().clone(),
                time: ctx.time_left(),
                traceparent: ctx.traceparent().map(str::to_owned),
            })
            .await;
        ctx.report_calls(calls);
        outcome
    }
}
