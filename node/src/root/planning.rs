//! Plans over given cards with the configured planner, without a node and its agents.
//!
//! Carries nothing out and writes no file.

use std::sync::Arc;

use amcp_orchestrator::Settings;
use amcp_plan::Catalogue;
use amcp_planner::client::SharedLlm;
use amcp_planner::{Planned, PlanningError, PlanningInput, SharedPlanner, Sink, domain};
use amcp_protocol::{Access, CardError, ErrorCode, Failure};
use amcp_registry::RestartPolicy;
use jiff::civil::Date;

use super::{chosen, parts, specialist_settings};
use crate::config::Config;
use crate::output::Trouble;

/// The configured planner and its bounds.
pub(crate) struct Planning {
    planner: SharedPlanner,
    settings: Settings,
    /// The capabilities of the specialists that the configuration wants.
    pub(crate) offered: Arc<Catalogue>,
}

impl Planning {
    /// Starts no actor.
    ///
    /// # Errors
    /// The configuration contradicts itself, or names a specialist that does not exist.
    pub(crate) fn new(config: &Config) -> Result<Self, Trouble> {
        let llm = llm(config)?;
        let settings = parts::orchestrator_settings(config)?;
        let specialists = specialist_settings(config, llm.clone());
        let agents = chosen::agents(config, &specialists, RestartPolicy::default(), None)?;
        let contracts = agents
            .iter()
            .map(|spec| (spec.factory)().card().contracts());
        let contracts: Result<Vec<_>, CardError> = contracts.collect();
        let contracts = contracts.map_err(|error| Trouble::failed(error.to_string()))?;
        let domain = settings.domain.as_ref();
        let offered = contracts.into_iter().flatten();
        let offered = offered.filter(|c| domain::holds(domain, c.capability.name.as_str()));
        Ok(Self {
            planner: parts::planner(config, llm),
            offered: Arc::new(offered.collect()),
            settings,
        })
    }

    /// The planner's input for a query of a user without roles.
    pub(crate) fn input(
        &self,
        query: String,
        catalogue: Arc<Catalogue>,
        today: Date,
    ) -> PlanningInput {
        PlanningInput {
            query,
            catalogue,
            access: Access::default(),
            limits: self.settings.limits.clone(),
            time: self.settings.default_deadline,
            llm_calls: self.settings.llm_calls,
            today,
            history: Vec::new(),
            feedback: None,
            early: Sink::default(),
            spent: Sink::default(),
        }
    }

    /// Plans within the input's time.
    ///
    /// # Errors
    /// Those of the planner, and `deadline_exceeded`.
    pub(crate) async fn plan(&self, input: PlanningInput) -> Result<Planned, PlanningError> {
        let time = input.time;
        let planned = tokio::time::timeout(time, self.planner.plan(input)).await;
        planned.unwrap_or_else(|_| {
            let failure = Failure::new(ErrorCode::DeadlineExceeded, "planning took too long");
            Err(PlanningError::new(failure, self.planner.name()))
        })
    }
}

/// The configured LLM; none without one.
///
/// # Errors
/// A model, an address or a key is missing or unusable.
pub(crate) fn llm(config: &Config) -> Result<Option<SharedLlm>, Trouble> {
    Ok(parts::llm(config)?.map(|llm| llm as SharedLlm))
}

/// The day of this machine's clock and time zone.
pub(crate) fn this_day() -> Date {
    jiff::Zoned::now().date()
}
