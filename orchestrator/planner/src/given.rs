//! A plan that its user gives, in place of a planner: compiled and judged like any other.
//!
//! Adds no task and fills no param.

use amcp_plan::{Fill, PlanError, Rules, compile};
use amcp_protocol::llm::{PortFuture, Usage};
use amcp_protocol::{Capability, Failure, ProposedPlan, ProposedTask};
use serde_json::{Map, Value};

use crate::{Planned, Planner, PlanningError, PlanningInput};

const NAME: &str = "given";

/// The tasks of a given plan.
#[derive(Debug)]
pub struct Given(pub Vec<ProposedTask>);

impl Planner for Given {
    fn name(&self) -> String {
        NAME.to_owned()
    }

    fn plan(&self, input: PlanningInput) -> PortFuture<'_, Result<Planned, PlanningError>> {
        Box::pin(async move {
            let rules = Rules {
                catalogue: &input.catalogue,
                access: &input.access,
                limits: &input.limits,
                fill: &Nothing,
            };
            let proposal = ProposedPlan {
                tasks: self.0.clone(),
                ..ProposedPlan::default()
            };
            let plan = compile(&proposal, &rules)
                .map_err(|error| PlanningError::new(refusal(&error, &self.0), self.name()))?;
            Ok(Planned {
                plan,
                planner: self.name(),
                llm_calls: 0,
                usage: Usage::default(),
                notes: Vec::new(),
            })
        })
    }
}

/// A user who writes a plan means these tasks and no others.
struct Nothing;

impl Fill for Nothing {
    fn fill(&self, _: &Capability) -> Map<String, Value> {
        Map::new()
    }

    fn worth(&self, _: &Capability, _: &Capability, _: &str) -> Option<f32> {
        None
    }
}

fn refusal(error: &PlanError, tasks: &[ProposedTask]) -> Failure {
    let mut named = (0..).zip(tasks).filter_map(|(at, task)| {
        let at: usize = at;
        let here = error.path.strip_prefix(&format!("tasks[{at}]"))?;
        let id = task.id.iter().map(|id| format!("'{id}', "));
        let id: String = id.collect();
        here.is_empty()
            .then_some(())
            .or_else(|| here.starts_with('.').then_some(()))?;
        Some(format!(" ({id}{})", task.capability))
    });
    let task = named.next().unwrap_or_default();
    let message = format!("the plan cannot be carried out: {error}{task}");
    let hint = match error.allowed.as_slice() {
        [] => "GET /agents has the capabilities with the schemas of their params".to_owned(),
        allowed => format!("possible there: {}", allowed.join(", ")),
    };
    Failure::new(error.code, message).hint(hint)
}
