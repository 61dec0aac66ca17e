//! The planner without an LLM: reads a query with the help of the cards alone, whatever they are about.
//!
//! Knows no capability by name, calls nobody, and says which parts of a query it could not place. Answers are composed
//! by [`super::plain`].
//!
//! The path of a query:
//! 1. `text` makes tokens, `facts` (with `span` and `calendar`) finds what means the same whatever is asked, and `query`
//!    finds the words that mark others: "without", "at least", "Anna wrote:".
//! 2. `rank` looks each word up in the `index` of the `card`s.
//! 3. `clause` divides at marks and conjunctions; `piece` joins clauses again where that leaves fewer words.
//! 4. For a piece, `choose` tries the capabilities that rank best, alone and together.
//! 5. `fill` (with `names` and `spell`) finds all values for a capability's params; the surest has its words.
//! 6. `judge` objects: a word that nothing explains, a negation that no param takes, a change that nobody asked for.
//! 7. `propose` makes the tasks, the parts that are left out, and the notes; the plan compiler wires them.

mod calendar;
mod card;
mod choose;
mod clause;
mod facts;
mod fill;
mod help;
mod index;
mod judge;
mod kind;
mod lexicon;
mod names;
mod piece;
mod propose;
mod query;
mod rank;
mod span;
mod spell;
#[cfg(test)]
mod tests;
mod text;
mod words;

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use amcp_plan::{Catalogue, Fill, Plan, PlanError, Rules, compile};
use amcp_protocol::llm::{PortFuture, Usage};
use amcp_protocol::{Capability, CapabilityName, Contract, ErrorCode, Failure, ProposedPlan};
use jiff::civil::Date;
use serde_json::{Map, Value};

use card::Card;
use fill::fill;
use index::Index;
use kind::Kind;
use query::Query;
use rank::Reading;

use super::gather::gather;
use super::{Planned, Planner, PlanningError, PlanningInput};

/// The name of the planner, as answers show it.
pub const NAME: &str = "embedded";

/// Most clauses that are left out because the compiler refuses their tasks: each costs another plan.
const MAX_REFUSED: usize = 4;
/// Catalogues whose index is kept: the current one, and those that requests in flight were admitted with.
const KEPT: usize = 4;

/// Plans without an LLM.
#[derive(Debug, Default)]
pub struct EmbeddedPlanner {
    indices: Mutex<Vec<Arc<Index>>>,
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
    /// The compiler's, when leaving out the clauses whose tasks it refuses does not help.
    fn plan_now(&self, input: &PlanningInput) -> Result<(Plan, Vec<String>), PlanningError> {
        let began = Instant::now();
        let index = self.index(&input.catalogue);
        let query = Query::new(&input.query, input.today);
        let reading = Reading::new(&query, &index, Some(&input.access));
        if let Some(text) = help::answer(&reading) {
            let answer_directly = Some(text);
            let plan = Plan {
                answer_directly,
                ..Plan::default()
            };
            return Ok((plan, Vec::new()));
        }
        // Each round leaves at least one more clause out.
        let mut refused = BTreeMap::new();
        loop {
            let mut proposed = propose::propose(&reading, input.limits.tasks, &refused);
            let propose::Proposed { plan, clauses, .. } = &mut proposed;
            gather(plan, clauses, &input.query, &input.catalogue);
            if proposed.plan.tasks.is_empty() {
                let plan = Plan {
                    unplaced: proposed.plan.unplaced,
                    ..Plan::default()
                };
                return Ok((plan, Vec::new()));
            }
            let filler = ReadQuery {
                reading: &reading,
                placed: &proposed.placed,
            };
            let rules = Rules {
                catalogue: &input.catalogue,
                access: &input.access,
                limits: &input.limits,
                fill: &filler,
            };
            match compile(&proposed.plan, &rules) {
                Ok(plan) => return Ok((plan, proposed.notes)),
                Err(error) => {
                    let task = error
                        .path
                        .strip_prefix("tasks[")
                        .and_then(|rest| rest.split(']').next()?.parse::<usize>().ok());
                    let clause = task.and_then(|task| proposed.clauses.get(task));
                    let again = refused.len() < MAX_REFUSED && began.elapsed() < input.time;
                    let clause = clause.filter(|clause| again && !refused.contains_key(*clause));
                    let Some(&clause) = clause else {
                        return Err(refusal(&error, proposed.plan));
                    };
                    refused.insert(clause, error.problem);
                }
            }
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
        indices.push(Arc::clone(&index));
        if indices.len() > KEPT {
            indices.remove(0);
        }
        index
    }

    fn indices(&self) -> MutexGuard<'_, Vec<Arc<Index>>> {
        // A panic while the lock was held left the list whole: it is only pushed to and truncated.
        self.indices.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The index of a catalogue, if it is kept; from then on it is the last to be forgotten.
fn known(indices: &mut Vec<Arc<Index>>, catalogue: &Catalogue) -> Option<Arc<Index>> {
    // The cards hold the contracts, so that their addresses stay theirs.
    let is_of = |index: &Arc<Index>| {
        let mut pairs = index.cards.iter().zip(catalogue.iter());
        index.cards.len() == catalogue.len()
            && pairs.all(|(card, contract)| Arc::ptr_eq(&card.contract, contract))
    };
    let at = indices.iter().position(is_of)?;
    let index = indices.remove(at);
    indices.push(Arc::clone(&index));
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

fn refusal(error: &PlanError, proposal: ProposedPlan) -> PlanningError {
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

/// Fills tasks that the compiler adds, and prefers those that the query names.
struct ReadQuery<'a> {
    reading: &'a Reading<'a>,
    /// The clauses that have tasks.
    placed: &'a [Range<usize>],
}

impl ReadQuery<'_> {
    fn entry(&self, capability: &Capability) -> Option<usize> {
        self.reading.index.entry(capability.name.as_str())
    }
}

impl Fill for ReadQuery<'_> {
    fn fill(&self, capability: &Capability) -> Map<String, Value> {
        let mut params = Map::new();
        let Some(entry) = self.entry(capability) else {
            return params;
        };
        let speaks_of = |range: &&Range<usize>| {
            (*range)
                .clone()
                .any(|at| self.reading.worth(at, entry) > rank::NAMED)
        };
        let Some(card) = self.reading.index.card(entry) else {
            return params;
        };
        for range in self.placed.iter().filter(speaks_of) {
            let filled = fill(self.reading.query, card, range.clone(), fill::SURE);
            for (name, value) in filled.first() {
                params.entry(name).or_insert(value);
            }
        }
        params
    }

    /// A capability of which the query says nothing is asked only for what no words could say: "translate it" is no reason to
    /// fetch any text that there is.
    fn worth(&self, supplier: &Capability, consumer: &Capability, param: &str) -> Option<f32> {
        let unsayable = || {
            let card = self
                .entry(consumer)
                .and_then(|entry| self.reading.index.card(entry));
            card.is_some_and(|card| {
                card.params
                    .iter()
                    .any(|p| p.name == param && p.kind == Kind::Opaque)
            })
        };
        choose::named(self.reading, self.entry(supplier)?).or_else(|| unsayable().then_some(0.0))
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
        let query = Query::new(&self.query, self.today);
        let Ok(contract) = Contract::new(capability.clone()) else {
            return Map::new();
        };
        let all = 0..query.tokens.len();
        fill(&query, &Card::new(&Arc::new(contract)), all, fill::SURE).first()
    }
}

/// The capabilities of a catalogue that a query speaks of, the best one first.
#[must_use]
pub fn ranked(query: &str, catalogue: &Catalogue) -> Vec<CapabilityName> {
    let index = Index::new(catalogue);
    // The date plays no part in ranking.
    let query = Query::new(query, Date::constant(2000, 1, 1));
    let reading = Reading::new(&query, &index, None);
    let ranked = reading.rank(0..query.tokens.len());
    let ranked = ranked.iter();
    ranked
        .filter_map(|r| Some(index.card(r.entry)?.capability().name.clone()))
        .collect()
}
