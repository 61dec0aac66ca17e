//! Says of a part of a query that no agent here takes which setting would bring one that does.
//!
//! Plans nothing itself.

use std::sync::{Arc, OnceLock};

use amcp_plan::Catalogue;
use amcp_planner::embedded::EmbeddedPlanner;
use amcp_planner::{Planned, Planner, PlanningError, PlanningInput, SharedPlanner};
use amcp_protocol::llm::PortFuture;
use amcp_specialists::builtin::{Settings, all};

/// The planner of a node that is online, where some specialists are not offered.
pub(super) struct LeftOut {
    planner: SharedPlanner,
    reader: EmbeddedPlanner,
    /// Of the specialists that only `--offline` offers; made when a part is first left over.
    catalogue: OnceLock<Arc<Catalogue>>,
}

impl LeftOut {
    pub(super) fn new(planner: SharedPlanner) -> Self {
        Self {
            planner,
            reader: EmbeddedPlanner::new(),
            catalogue: OnceLock::new(),
        }
    }

    fn catalogue(&self) -> Arc<Catalogue> {
        let make = || {
            let online = Settings::new("");
            let offline = Settings {
                offline: true,
                ..online.clone()
            };
            let here: Vec<_> = all(&online).into_iter().map(|(id, _)| id).collect();
            let others = all(&offline)
                .into_iter()
                .filter(|(id, _)| !here.contains(id));
            let contracts = others.filter_map(|(_, make)| make().card().contracts().ok());
            Arc::new(contracts.flatten().collect())
        };
        Arc::clone(self.catalogue.get_or_init(make))
    }

    /// The part with the capability that would take it, if there is one.
    async fn explained(&self, part: &str, like: &PlanningInput) -> Option<String> {
        let (said, _) = part.split_once(" – ").unwrap_or((part, ""));
        let input = PlanningInput {
            query: said.to_owned(),
            catalogue: self.catalogue(),
            feedback: None,
            ..like.clone()
        };
        let plan = self.reader.plan(input).await.ok()?.plan;
        let name = plan.tasks.first()?.capability.as_str();
        Some(format!(
            "{said} – only with --offline there is {name}, and it answers from sample data"
        ))
    }
}

impl Planner for LeftOut {
    fn inner(&self) -> Option<&dyn Planner> {
        Some(&*self.planner)
    }

    fn plan(&self, input: PlanningInput) -> PortFuture<'_, Result<Planned, PlanningError>> {
        Box::pin(async move {
            let mut planned = self.planner.plan(input.clone()).await?;
            for part in &mut planned.plan.unplaced {
                if let Some(explained) = self.explained(part, &input).await {
                    *part = explained;
                }
            }
            Ok(planned)
        })
    }
}
