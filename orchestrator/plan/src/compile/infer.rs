//! Binds missing inputs to the task of the plan that produces them, else to an added task.
//!
//! Keeps the planner's values that fit the capability's schema.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use amcp_protocol::{Capability, Consumes};
use serde_json::{Map, Value};

use super::PlanError;
use super::draft::{Drafts, Inferred};
use super::producers::Producers;
use super::shape;
use super::supply::Scope;
use crate::plan::Reference;

/// Infers the missing inputs of all tasks.
///
/// Required inputs come first, so that an optional one takes none of their producers.
pub(super) fn infer_all(drafts: &mut Drafts<'_>) -> Result<(), PlanError> {
    let mut inference = Inference {
        producers: Producers::default(),
        waiting: HashMap::new(),
        fills: BTreeMap::new(),
        drafts,
    };
    inference.note_what_is_there();
    let proposed = inference.drafts.tasks.len();
    let wants: Vec<_> = (0..proposed)
        .flat_map(|task| inference.wants(task, true))
        .collect();
    for want in &wants {
        let key = inference.key(want);
        *inference.waiting.entry(key).or_insert(0) += 1;
    }
    for want in wants {
        inference.satisfy(&want)?;
        let key = inference.key(&want);
        inference.waiting.entry(key).and_modify(|tasks| *tasks -= 1);
    }
    for task in 0..inference.drafts.tasks.len() {
        for want in inference.wants(task, false) {
            inference.offer(&want);
        }
    }
    for task in 0..proposed {
        inference.move_misplaced(task);
    }
    Ok(())
}

/// An input that a task lacks.
#[derive(Debug, Clone)]
pub(super) struct Want<'a> {
    pub(super) task: usize,
    pub(super) consumes: &'a Consumes,
    /// Tasks that the planner named for it: in a placeholder, or in `depends_on`.
    pub(super) named: Vec<usize>,
    /// Params of the task that its schema does not list; they belong to the producer.
    pub(super) extra: Map<String, Value>,
}

/// The state of inferring.
pub(super) struct Inference<'d, 'a> {
    pub(super) drafts: &'d mut Drafts<'a>,
    pub(super) producers: Producers<'a>,
    /// Number of tasks that still lack an input, by capability and param.
    pub(super) waiting: HashMap<(&'a str, &'a str), usize>,
    /// The query's params for capabilities that could be added.
    pub(super) fills: BTreeMap<&'a str, Map<String, Value>>,
}

impl<'a> Inference<'_, 'a> {
    fn note_what_is_there(&mut self) {
        for (i, draft) in self.drafts.tasks.iter().enumerate() {
            self.producers.add(i, &draft.contract.capability);
        }
        for draft in &self.drafts.tasks {
            for reference in &draft.references {
                let from = &self.drafts.at(reference.from).contract.capability;
                let consumer = draft.contract.capability.name.as_str();
                self.producers.consume(consumer, reference.from, from);
            }
        }
    }

    pub(super) fn key(&self, want: &Want<'a>) -> (&'a str, &'a str) {
        let capability = self.capability(want.task).name.as_str();
        (capability, want.consumes.param.as_str())
    }

    pub(super) fn capability(&self, task: usize) -> &'a Capability {
        &self.drafts.at(task).contract.capability
    }

    /// The inputs that a task lacks: the required ones or the others.
    pub(super) fn wants(&self, task: usize, required: bool) -> Vec<Want<'a>> {
        let capability = self.capability(task);
        capability
            .consumes
            .iter()
            .filter(|consumes| {
                required
                    == capability
                        .required_params()
                        .any(|param| param == consumes.param)
            })
            .filter_map(|consumes| {
                let mut named = self.lacks(task, &consumes.param)?;
                named.extend(&self.drafts.at(task).listed);
                Some(Want {
                    task,
                    consumes,
                    named,
                    extra: self.undeclared(task),
                })
            })
            .collect()
    }

    /// None if the task has the param; else the tasks that a placeholder in its place names.
    fn lacks(&self, task: usize, param: &str) -> Option<Vec<usize>> {
        let draft = self.drafts.at(task);
        let Some(value) = draft.params.get(param) else {
            return Some(Vec::new());
        };
        if draft.is_referenced(param) {
            return None;
        }
        if is_nothing(value) {
            return Some(Vec::new());
        }
        let text = value.as_str().unwrap_or_default();
        let named: Vec<_> = text
            .split(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == '-'))
            .filter_map(|word| self.drafts.ids.find(word))
            .filter(|&named| named != task)
            .collect();
        let is_placeholder = !named.is_empty() && is_bracketed(text);
        (is_placeholder || !draft.accepts(param, value)).then_some(named)
    }

    /// Params, except references, that the task's schema does not list.
    fn undeclared(&self, task: usize) -> Map<String, Value> {
        let draft = self.drafts.at(task);
        draft
            .params
            .iter()
            .filter(|(name, _)| !draft.declares(name) && !draft.is_referenced(name))
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect()
    }

    /// Binds to a task of the plan; of types that the consumer prefers to that task's, a capability that the query names is
    /// added first.
    fn satisfy(&mut self, want: &Want<'a>) -> Result<(), PlanError> {
        let types = &want.consumes.types;
        let found = types
            .iter()
            .position(|value_type| self.choose(want, value_type, true).is_some());
        if found == Some(0) {
            self.bind_within_plan(want, true);
            return Ok(());
        }
        let ranks = self.ranks(want);
        let preferred = types.get(..found.unwrap_or(0)).unwrap_or_default();
        if self.supply(want, &ranks, Scope::Named(preferred))? || self.bind_within_plan(want, true)
        {
            return Ok(());
        }
        self.supply(want, &ranks, Scope::Below(usize::MAX))
            .map(|_| ())
    }

    /// Binds to a task of the plan; tries the types in the consumer's order of preference. False if none produces any.
    pub(super) fn bind_within_plan(&mut self, want: &Want<'a>, reuse: bool) -> bool {
        let consumes = want.consumes;
        for value_type in &consumes.types {
            if let Some(producer) = self.choose(want, value_type, reuse) {
                self.bind(want, producer, value_type, "");
                return true;
            }
        }
        false
    }

    /// Binds an optional input if the planner named its producer, or if no task of this capability consumes that producer.
    fn offer(&mut self, want: &Want<'a>) {
        self.bind_within_plan(want, false);
    }

    /// Binds the want to a producer of the type; appends `remark` to the reason.
    pub(super) fn bind(
        &mut self,
        want: &Want<'a>,
        producer: usize,
        value_type: &str,
        remark: &str,
    ) {
        let from = self.capability(producer);
        let path = from
            .produces
            .iter()
            .find(|produces| produces.value_type == value_type)
            .map(|produces| produces.path.clone())
            .unwrap_or_default();
        let (capability, param) = self.key(want);
        let inferred = Inferred {
            from: producer,
            before: format!(
                "{capability} needs '{param}' ({}), which ",
                Consumes::spoken(value_type)
            ),
            named: producer,
            after: format!(" produces{remark}"),
        };
        self.producers.consume(capability, producer, from);
        self.drafts.refer(
            want.task,
            Reference {
                place: format!("/{}", shape::escape(param)),
                from: producer,
                path,
            },
        );
        self.drafts.at_mut(want.task).inferred.push(inferred);
    }

    /// Moves params that the task's schema does not list to the nearest earlier tasks that take them.
    ///
    /// A param moves only to a task without other consumers, so that no other task's input changes.
    fn move_misplaced(&mut self, task: usize) {
        let undeclared = self.undeclared(task);
        if undeclared.is_empty() || !shape::is_closed(self.drafts.at(task).schema()) {
            return;
        }
        for (name, value) in undeclared {
            let takers = self.takers(task, &name, &value);
            if takers.is_empty() {
                continue;
            }
            self.drafts.at_mut(task).params.shift_remove(&name);
            for (taker, via) in takers {
                let params = &mut self.drafts.at_mut(taker).params;
                params.entry(name.clone()).or_insert_with(|| value.clone());
                let capability = self.drafts.at(task).name();
                let inferred = Inferred {
                    from: via,
                    before: format!("{capability} has no param '{name}', which "),
                    named: taker,
                    after: " takes".to_owned(),
                };
                self.drafts.at_mut(task).inferred.push(inferred);
            }
        }
    }

    /// The nearest tasks that take the param and whose results reach this task, each with this task's direct predecessor on the
    /// path.
    fn takers(&self, task: usize, name: &str, value: &Value) -> Vec<(usize, usize)> {
        let before = |task: usize| self.drafts.at(task).references.iter().map(|r| r.from);
        let takes = |&(producer, _): &(usize, usize)| {
            let draft = self.drafts.at(producer);
            match draft.params.get(name) {
                Some(other) => other == value,
                None => {
                    draft.declares(name)
                        && draft.accepts(name, value)
                        && self.drafts.graph.consumers(producer) == 1
                }
            }
        };
        let mut level: Vec<_> = before(task).map(|from| (from, from)).collect();
        let mut seen = BTreeSet::from([task]);
        while !level.is_empty() {
            level.retain(|&(producer, _)| seen.insert(producer));
            let takers: Vec<_> = level.iter().copied().filter(takes).collect();
            if !takers.is_empty() {
                return takers;
            }
            level = level
                .into_iter()
                .flat_map(|(producer, via)| before(producer).map(move |from| (from, via)))
                .collect();
        }
        Vec::new()
    }
}

/// Whether a model wrote the value in place of none.
fn is_nothing(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.trim().is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(map) => map.is_empty(),
        Value::Bool(_) | Value::Number(_) => false,
    }
}

/// `<result of t1>`, `[result of t1]`, `{{result of t1}}`.
fn is_bracketed(text: &str) -> bool {
    let text = text.trim();
    let text = text.strip_prefix('$').unwrap_or(text);
    [('<', '>'), ('[', ']'), ('{', '}'), ('(', ')')]
        .iter()
        .any(|&(open, close)| text.starts_with(open) && text.ends_with(close))
}
