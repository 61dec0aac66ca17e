//! The planner without an LLM: reads a query with the help of the cards alone, whatever they are about.
//!
//! Knows no capability by name, calls nobody, and says which parts of a query it could not place. Answers are composed
//! by [`super::plain`].

mod assign;
mod calendar;
mod chain;
mod choose;
mod clause;
mod draft;
mod expression;
mod facts;
mod fill;
mod help;
mod index;
mod kind;
mod learn;
mod lexicon;
mod names;
mod phrase;
mod propose;
mod query;
mod rank;
mod spec;
#[cfg(test)]
mod tests;
mod text;
mod understood;
mod values;
mod wiring;
mod words;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use amcp_plan::{Catalogue, Fill, Plan, PlanError, Rules, compile};
use amcp_protocol::llm::{PortFuture, Usage};
use amcp_protocol::{Capability, CapabilityName, Contract, ErrorCode, Failure, ProposedPlan};
use jiff::civil::Date;
use serde_json::{Map, Value};

use fill::{Reach, fill};
use index::Index;
use query::Query;
use rank::Reading;
use spec::Spec;
use understood::{Misread, judge};

use super::{Planned, Planner, PlanningError, PlanningInput};

/// The name of the planner, as answers show it.
pub const NAME: &str = "embedded";

/// Catalogues whose index is kept: the current one, and those that requests in flight were admitted with.
const KEPT: usize = 4;

/// Plans without an LLM.
#[derive(Debug, Default)]
pub struct EmbeddedPlanner {
    indices: Mutex<Vec<Kept>>,
}

#[derive(Debug)]
struct Kept {
    /// Held so that the addresses stay theirs.
    contracts: Vec<Arc<Contract>>,
    index: Arc<Index>,
}

impl EmbeddedPlanner {
    /// A planner with no index yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The plan, and what the reader of the answer should know of it.
    ///
    /// # Errors
    /// The compiler's, when leaving out the tasks that it refuses does not help.
    fn plan_now(&self, input: &PlanningInput) -> Result<(Plan, Vec<String>), PlanningError> {
        let index = self.index(&input.catalogue);
        let query = Query::new(&input.query, input.today);
        let allowed = index
            .entries
            .iter()
            .map(|e| e.capability().allows(&input.roles))
            .collect();
        let reading = Reading::new(&query, &index, allowed);
        let filler = ReadQuery {
            query: &query,
            index: &index,
        };
        let rules = Rules {
            catalogue: &input.catalogue,
            roles: &input.roles,
            limits: &input.limits,
            fill: &filler,
        };
        if let Some(text) = help::answer(&reading) {
            let answer_directly = Some(text);
            let plan = Plan {
                answer_directly,
                ..Plan::default()
            };
            return Ok((plan, Vec::new()));
        }
        let mut misread = BTreeMap::new();
        loop {
            let proposed = propose::propose(&reading, input.limits.tasks, &misread);
            let plan = compiled(&proposed.plan, &rules)?;
            let judged = judge(&reading, &proposed, &plan);
            if judged.misread.is_empty() {
                return Ok((plan, judged.notes));
            }
            // Each round leaves at least one more clause out; one is enough, unless a clause leaned on another.
            let wrong = judged.misread.into_iter();
            misread.extend(wrong.map(|Misread { clause, why }| (clause, why)));
        }
    }

    fn index(&self, catalogue: &Catalogue) -> Arc<Index> {
        self.index_by(catalogue, Index::new)
    }

    /// Builds without the lock: who has an index does not wait for one that is being made. Two who build the same one
    /// at once agree on the first.
    fn index_by(
        &self,
        catalogue: &Catalogue,
        build: impl FnOnce(&Catalogue) -> Index,
    ) -> Arc<Index> {
        if let Some(index) = known(&mut self.indices(), catalogue) {
            return index;
        }
        let index = Arc::new(build(catalogue));
        let mut indices = self.indices();
        if let Some(index) = known(&mut indices, catalogue) {
            return index;
        }
        indices.push(Kept {
            contracts: catalogue.iter().cloned().collect(),
            index: Arc::clone(&index),
        });
        if indices.len() > KEPT {
            indices.remove(0);
        }
        index
    }

    fn indices(&self) -> MutexGuard<'_, Vec<Kept>> {
        // A panic while the lock was held left the list whole: it is only pushed to and truncated.
        self.indices.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The index of a catalogue, if it is kept; from then on it is the last to be forgotten.
fn known(indices: &mut Vec<Kept>, catalogue: &Catalogue) -> Option<Arc<Index>> {
    let at = indices.iter().position(|kept| {
        kept.contracts.len() == catalogue.len()
            && kept
                .contracts
                .iter()
                .zip(catalogue.iter())
                .all(|(a, b)| Arc::ptr_eq(a, b))
    })?;
    let kept = indices.remove(at);
    let index = Arc::clone(&kept.index);
    indices.push(kept);
    Some(index)
}

impl Planner for EmbeddedPlanner {
    fn name(&self) -> String {
        NAME.to_owned()
    }

    fn plan(&self, input: PlanningInput) -> PortFuture<'_, Result<Planned, PlanningError>> {
        Box::pin(async move {
            let (plan, notes) = self.plan_now(&input)?;
            Ok(Planned {
                plan,
                planner: self.name(),
                llm_calls: 0,
                usage: Usage::default(),
                notes,
            })
        })
    }
}

/// Compiles a proposal without the tasks that the compiler refuses.
fn compiled(proposal: &ProposedPlan, rules: &Rules<'_>) -> Result<Plan, PlanningError> {
    let mut proposal = proposal.clone();
    loop {
        if proposal.tasks.is_empty() {
            return Ok(Plan {
                reasoning: proposal.reasoning,
                unplaced: proposal.unplaced,
                ..Plan::default()
            });
        }
        match compile(&proposal, rules) {
            Ok(plan) => return Ok(plan),
            Err(error) => {
                if !leave_out(&mut proposal, &error) {
                    return Err(refused(&error, proposal));
                }
            }
        }
    }
}

/// Takes the task that the compiler refuses out of the proposal, and what waits for it; false when none can be named.
fn leave_out(proposal: &mut ProposedPlan, error: &PlanError) -> bool {
    let named = error
        .path
        .strip_prefix("tasks[")
        .and_then(|rest| rest.split(']').next()?.parse::<usize>().ok());
    let Some(at) = named.filter(|&at| at < proposal.tasks.len()) else {
        return false;
    };
    let refused = proposal.tasks.remove(at);
    proposal
        .unplaced
        .push(format!("{} ({})", refused.capability, error.problem));
    let mut gone: Vec<String> = refused.id.into_iter().collect();
    while let Some(id) = gone.pop() {
        let waits = |value: &Value| value.get("$ref").and_then(Value::as_str) == Some(id.as_str());
        let (stay, go): (Vec<_>, Vec<_>) = proposal
            .tasks
            .drain(..)
            .partition(|task| !task.params.values().any(waits) && !task.depends_on.contains(&id));
        proposal.tasks = stay;
        for task in go {
            proposal
                .unplaced
                .push(format!("{} (what it needs is missing)", task.capability));
            gone.extend(task.id);
        }
    }
    true
}

fn refused(error: &PlanError, proposal: ProposedPlan) -> PlanningError {
    let hint = match error.allowed.as_slice() {
        [] => "ask for less at once, or say more precisely what is wanted".to_owned(),
        allowed => format!("possible there: {}", allowed.join(", ")),
    };
    let code = if error.code == ErrorCode::Internal {
        ErrorCode::InvalidPlan
    } else {
        error.code
    };
    PlanningError {
        failure: Failure::new(code, format!("no plan could be made of the query: {error}"))
            .hint(hint),
        planner: NAME.to_owned(),
        llm_calls: 0,
        usage: Usage::default(),
        proposal: Some(Box::new(proposal)),
    }
}

/// Fills tasks that the compiler adds, from a query that was read already.
struct ReadQuery<'a> {
    query: &'a Query<'a>,
    index: &'a Index,
}

impl Fill for ReadQuery<'_> {
    fn fill(&self, capability: &Capability) -> Map<String, Value> {
        let known = self
            .index
            .entries
            .iter()
            .find(|e| e.capability().name == capability.name);
        known.map_or_else(Map::new, |entry| said(self.query, &entry.spec))
    }
}

/// Fills params from a query, for planners that have no index: what the words say unmistakably.
#[derive(Debug, Clone)]
pub struct QueryFill {
    /// What the user wants.
    pub query: String,
    /// The user's date.
    pub today: Date,
}

impl QueryFill {
    /// A filler for one request.
    #[must_use]
    pub fn new(query: &str, today: Date) -> Self {
        Self {
            query: query.to_owned(),
            today,
        }
    }
}

impl Fill for QueryFill {
    fn fill(&self, capability: &Capability) -> Map<String, Value> {
        said(&Query::new(&self.query, self.today), &Spec::new(capability))
    }
}

/// The capabilities of a catalogue that a query speaks of, the best one first.
#[must_use]
pub fn ranked(query: &str, catalogue: &Catalogue) -> Vec<CapabilityName> {
    let index = Index::new(catalogue);
    // The date plays no part in ranking.
    let query = Query::new(query, Date::constant(2000, 1, 1));
    let all = index.entries.iter().map(|_| true).collect();
    let reading = Reading::new(&query, &index, all);
    let ranked = reading.rank(0..query.tokens.len());
    ranked
        .into_iter()
        .filter_map(|r| Some(index.entry(r.entry)?.capability().name.clone()))
        .collect()
}

fn said(query: &Query<'_>, spec: &Spec) -> Map<String, Value> {
    let filled = fill(query, spec, 0..query.tokens.len(), Reach::Elsewhere, &[]);
    let mut params = filled.first();
    for param in spec.params.iter().filter(|p| p.required) {
        if let (false, Some(default)) = (params.contains_key(&param.name), &param.default) {
            params.insert(param.name.clone(), default.clone());
        }
    }
    params
}
