//! Adds tasks that the planner left out: finds the capability that can produce an input, and its params.
//!
//! Adds only capabilities that the user may use, that only read, and whose params are all known.

use std::collections::HashMap;
use std::sync::Arc;

use amcp_protocol::{Capability, Consumes, Contract, Effect};
use serde_json::{Map, Value};

use super::draft::accepts;
use super::infer::{Inference, Want};
use super::mend::mend_params;
use super::{PlanError, judge, shape};

/// The distance of each capability from the plan: 1 when all its inputs are given or produced by the plan, 2 when it needs a
/// capability of rank 1, and so on. Only tasks of lower rank supply a task, so that supplying ends.
pub(super) type Ranks<'a> = HashMap<&'a str, usize>;

/// Which capabilities may be added for a want.
#[derive(Clone, Copy)]
pub(super) enum Scope<'s> {
    /// Those that the query names, for one of these types.
    Named(&'s [String]),
    /// Those of a lower rank, for any type that the consumer takes.
    Below(usize),
}

/// A capability that could be added.
struct Candidate<'a> {
    contract: &'a Arc<Contract>,
    /// The required inputs that its params leave open.
    open: Vec<&'a Consumes>,
}

impl<'a> Inference<'_, 'a> {
    /// Ranks the capabilities that could be added for a want.
    pub(super) fn ranks(&mut self, want: &Want<'a>) -> Ranks<'a> {
        let mut unranked = self.candidates(want);
        let mut ranks = Ranks::new();
        let mut within_plan: HashMap<&str, bool> = HashMap::new();
        for rank in 1.. {
            let before = ranks.clone();
            let mut is_reachable = |value_type: &'a str| {
                let catalogue = self.drafts.rules.catalogue;
                let is_supplied = |(name, _): (&&str, &usize)| {
                    let contract = catalogue.get(name);
                    contract.is_some_and(|contract| produces(&contract.capability, value_type))
                };
                *within_plan
                    .entry(value_type)
                    .or_insert_with(|| self.is_in_plan(want.task, value_type))
                    || before.iter().any(is_supplied)
            };
            unranked.retain(|candidate| {
                let is_complete = candidate
                    .open
                    .iter()
                    .all(|consumes| consumes.types.iter().any(|t| is_reachable(t)));
                if is_complete {
                    ranks.insert(candidate.contract.capability.name.as_str(), rank);
                }
                !is_complete
            });
            if ranks.len() == before.len() {
                break;
            }
        }
        ranks
    }

    fn is_in_plan(&self, task: usize, value_type: &str) -> bool {
        let producers = self.producers.of(value_type).into_iter().flatten();
        producers
            .into_iter()
            .any(|&producer| !self.drafts.graph.reaches(task, producer))
    }

    fn candidates(&mut self, want: &Want<'a>) -> Vec<Candidate<'a>> {
        let rules = self.drafts.rules;
        rules
            .catalogue
            .iter()
            .filter(|contract| {
                let capability = &contract.capability;
                capability.effect == Effect::Read
                    && !capability.produces.is_empty()
                    && rules.access.allows(capability)
            })
            .filter_map(|contract| {
                let params = self.filled(contract, &want.extra);
                let open = open_inputs(contract, &params)?;
                Some(Candidate { contract, open })
            })
            .collect()
    }

    /// Params for an added task: those that the query gives, and those that the planner wrote at the consumer.
    fn filled(&mut self, contract: &'a Contract, extra: &Map<String, Value>) -> Map<String, Value> {
        let capability = &contract.capability;
        let fill = self.drafts.rules.fill;
        let mut params = self
            .fills
            .entry(capability.name.as_str())
            .or_insert_with(|| fill.fill(capability))
            .clone();
        params.extend(extra.clone());
        params.retain(|name, _| capability.param_schema(name).is_some());
        mend_params(&capability.params, &mut params);
        params.retain(|name, value| accepts(contract, name, value));
        params
    }

    /// Adds the task that produces a wanted input, and the tasks that this one needs; `below` bounds its rank. False if no
    /// capability fits.
    pub(super) fn supply(
        &mut self,
        want: &Want<'a>,
        ranks: &Ranks<'a>,
        scope: Scope<'_>,
    ) -> Result<bool, PlanError> {
        let Some((contract, value_type, rank)) = self.supplier(want, ranks, scope) else {
            return Ok(false);
        };
        let limits = self.drafts.rules.limits;
        judge::task_count(self.drafts.tasks.len() + 1, limits)?;
        let params = self.filled(contract, &want.extra);
        let root = self.drafts.at(want.task).root;
        let added = self.drafts.add(contract, params, root);
        self.producers.add(added, &contract.capability);
        let remark = "; it was added because no task of the plan does";
        self.bind(want, added, value_type, remark);
        for mut inner in self.wants(added, true) {
            inner.extra.clone_from(&want.extra);
            if !self.bind_within_plan(&inner, true) {
                self.supply(&inner, ranks, Scope::Below(rank))?;
            }
        }
        Ok(true)
    }

    /// The best capability for a wanted input: by preferred type, then worth to the query, then fewest open inputs, then name.
    fn supplier(
        &mut self,
        want: &Want<'a>,
        ranks: &Ranks<'a>,
        scope: Scope<'_>,
    ) -> Option<(&'a Arc<Contract>, &'a str, usize)> {
        let consumer = self.capability(want.task);
        let rules = self.drafts.rules;
        let consumes = want.consumes;
        let (below, named) = match scope {
            Scope::Named(types) => (usize::MAX, Some(types)),
            Scope::Below(rank) => (rank, None),
        };
        let mut types = consumes
            .types
            .iter()
            .filter(|t| named.is_none_or(|types| types.contains(t)));
        types.find_map(|value_type| {
            let suppliers = ranks
                .iter()
                .filter(|&(&name, &rank)| rank < below && name != consumer.name.as_str());
            let suppliers: Vec<_> = suppliers
                .filter_map(|(&name, &rank)| {
                    let contract = rules.catalogue.get(name)?;
                    let capability = &contract.capability;
                    if !produces(capability, value_type) {
                        return None;
                    }
                    let worth = rules.fill.worth(capability, consumer, &consumes.param)?;
                    let params = self.filled(contract, &want.extra);
                    let open = open_inputs(contract, &params)?.len();
                    (named.is_none() || worth > 0.0).then_some((worth, open, name, contract, rank))
                })
                .collect();
            let best = suppliers
                .into_iter()
                .min_by(|a, b| b.0.total_cmp(&a.0).then((a.1, a.2).cmp(&(b.1, b.2))));
            best.map(|(.., contract, rank)| (contract, value_type.as_str(), rank))
        })
    }
}

fn produces(capability: &Capability, value_type: &str) -> bool {
    capability
        .produces
        .iter()
        .any(|produces| produces.value_type == value_type)
}

/// The required inputs that the params leave open; `None` if anything else is missing or wrong.
fn open_inputs<'a>(
    contract: &'a Contract,
    params: &Map<String, Value>,
) -> Option<Vec<&'a Consumes>> {
    let capability = &contract.capability;
    let open = capability
        .required_params()
        .filter(|param| !params.contains_key(*param))
        .map(|param| capability.consumes.iter().find(|c| c.param == param))
        .collect::<Option<Vec<_>>>()?;
    let mut probe = params.clone();
    let mut unknown = Vec::with_capacity(open.len());
    for consumes in &open {
        probe.insert(consumes.param.clone(), Value::Null);
        unknown.push(format!("/{}", shape::escape(&consumes.param)));
    }
    contract
        .params
        .violations_outside(&Value::Object(probe), &unknown)
        .is_empty()
        .then_some(open)
}
