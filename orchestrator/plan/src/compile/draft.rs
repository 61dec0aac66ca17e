//! The plan while it is compiled: tasks that lack inputs, and the edges found so far.
//!
//! Does not judge or infer; the other steps work on it.

use std::cell::OnceCell;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use amcp_protocol::plan::InferredEdge;
use amcp_protocol::{Contract, ErrorCode, ProposedPlan, TaskId};
use serde_json::{Map, Value, json};

use super::graph::Graph;
use super::ids::Ids;
use super::{PlanError, Rules, judge, shape};
use crate::plan::{PlanTask, Reference, Terms};

/// A task that may still lack inputs.
#[derive(Debug)]
pub(super) struct Draft<'a> {
    pub(super) contract: &'a Arc<Contract>,
    pub(super) params: Map<String, Value>,
    pub(super) references: Vec<Reference>,
    /// The planner's `depends_on`, in the planner's order.
    pub(super) listed: Vec<usize>,
    pub(super) inferred: Vec<Inferred>,
    pub(super) optional: bool,
    /// Tasks of earlier rounds that it replaces, as the planner names them.
    pub(super) replaces: Vec<TaskId>,
    /// The proposed task that it belongs to: itself, or the one that the compiler added it for.
    pub(super) root: usize,
}

impl Draft<'_> {
    pub(super) fn name(&self) -> &str {
        self.contract.capability.name.as_str()
    }

    pub(super) fn schema(&self) -> &Value {
        &self.contract.capability.params
    }

    /// Whether the schema lists the param.
    pub(super) fn declares(&self, param: &str) -> bool {
        self.contract.capability.param_schema(param).is_some()
    }

    /// Whether the value fits the param's schema.
    pub(super) fn accepts(&self, param: &str, value: &Value) -> bool {
        accepts(self.contract, param, value)
    }

    /// Whether a reference fills the param or a part of it.
    pub(super) fn is_referenced(&self, param: &str) -> bool {
        let param = shape::escape(param);
        let mut places = self.references.iter().map(|reference| &reference.place);
        places.any(|place| split(place).0 == param)
    }
}

/// An edge that the compiler added. Its reason names a task, whose id is final only when all tasks are known.
#[derive(Debug)]
pub(super) struct Inferred {
    pub(super) from: usize,
    /// The reason up to the task's name.
    pub(super) before: String,
    /// The task that the reason names.
    pub(super) named: usize,
    /// The rest of the reason.
    pub(super) after: String,
}

/// The param of a place, escaped, and the place within it.
fn split(place: &str) -> (&str, &str) {
    let place = place.strip_prefix('/').unwrap_or_default();
    place.split_at(place.find('/').unwrap_or(place.len()))
}

/// The id of an earlier task as a planner writes it; none for a text that cannot be an id.
fn named(text: &str) -> Option<TaskId> {
    let text = text.trim();
    TaskId::new(text.strip_prefix('$').unwrap_or(text)).ok()
}

/// Whether the value fits the param's schema in the contract.
pub(super) fn accepts(contract: &Contract, param: &str, value: &Value) -> bool {
    let place = format!("/{}", shape::escape(param));
    !contract.params.breaks_at(&json!({param: value}), &place)
}

pub(super) struct Drafts<'a> {
    pub(super) rules: &'a Rules<'a>,
    pub(super) ids: Ids,
    pub(super) tasks: Vec<Draft<'a>>,
    pub(super) graph: Graph,
    /// The only task of each capability; `None` for a capability with several.
    by_capability: OnceCell<HashMap<&'a str, Option<usize>>>,
}

impl<'a> Drafts<'a> {
    /// Finds the contract of each task's capability.
    pub(super) fn new(
        proposal: &ProposedPlan,
        rules: &'a Rules<'a>,
        ids: Ids,
    ) -> Result<Self, PlanError> {
        let tasks = proposal
            .tasks
            .iter()
            .enumerate()
            .map(|(i, task)| {
                Ok(Draft {
                    contract: judge::capability(&task.capability, i, rules)?,
                    params: task.params.clone(),
                    references: Vec::new(),
                    listed: Vec::new(),
                    inferred: Vec::new(),
                    optional: task.optional,
                    replaces: task.replaces.iter().filter_map(|id| named(id)).collect(),
                    root: i,
                })
            })
            .collect::<Result<Vec<_>, PlanError>>()?;
        let mut drafts = Self {
            rules,
            ids,
            graph: Graph::with_tasks(tasks.len()),
            tasks,
            by_capability: OnceCell::new(),
        };
        for (i, task) in proposal.tasks.iter().enumerate() {
            drafts.list(i, &task.depends_on)?;
        }
        Ok(drafts)
    }

    fn list(&mut self, task: usize, depends_on: &[String]) -> Result<(), PlanError> {
        for (k, text) in depends_on.iter().enumerate() {
            let path = format!("tasks[{task}].depends_on[{k}]");
            let before = self.find(text).ok_or_else(|| self.no_task(path, text))?;
            self.graph.add_edge(before, task);
            self.at_mut(task).listed.push(before);
        }
        Ok(())
    }

    /// The task at an index of this list.
    pub(super) fn at(&self, task: usize) -> &Draft<'a> {
        self.tasks
            .get(task)
            .expect("indexes of tasks come from this list, which only grows")
    }

    /// The task at an index of this list.
    pub(super) fn at_mut(&mut self, task: usize) -> &mut Draft<'a> {
        self.tasks
            .get_mut(task)
            .expect("indexes of tasks come from this list, which only grows")
    }

    /// A task's id.
    pub(super) fn id(&self, task: usize) -> &TaskId {
        self.ids
            .of(task)
            .expect("every task was given an id when it was added")
    }

    /// A task in messages, such as `t1 (finance.db.query)`.
    pub(super) fn named(&self, task: usize) -> String {
        format!("{} ({})", self.id(task), self.at(task).name())
    }

    /// The task that a planner names: by its id, or by its capability where only one task has it.
    pub(super) fn find(&self, text: &str) -> Option<usize> {
        let text = text.trim();
        let text = text.strip_prefix('$').unwrap_or(text);
        self.ids.find(text).or_else(|| {
            let by_capability = self.by_capability.get_or_init(|| {
                let mut tasks = HashMap::new();
                for (i, draft) in self.tasks.iter().enumerate() {
                    tasks
                        .entry(draft.contract.capability.name.as_str())
                        .and_modify(|only| *only = None)
                        .or_insert(Some(i));
                }
                tasks
            });
            by_capability.get(text).copied().flatten()
        })
    }

    /// The error for a text that names no task.
    pub(super) fn no_task(&self, path: String, text: &str) -> PlanError {
        let text: String = text.chars().take(80).collect();
        PlanError::invalid(path, format!("the plan has no task '{text}'")).allowed(self.ids.iter())
    }

    /// Adds a task that the planner did not propose.
    pub(super) fn add(
        &mut self,
        contract: &'a Arc<Contract>,
        params: Map<String, Value>,
        root: usize,
    ) -> usize {
        self.ids.add();
        self.graph.add_task();
        self.tasks.push(Draft {
            contract,
            params,
            references: Vec::new(),
            listed: Vec::new(),
            inferred: Vec::new(),
            optional: false,
            replaces: Vec::new(),
            root,
        });
        self.tasks.len() - 1
    }

    /// Whether the compiler added the task.
    pub(super) fn is_added(&self, task: usize) -> bool {
        self.at(task).root != task
    }

    /// Makes a part of another task's result the value of a place of a task's params.
    pub(super) fn refer(&mut self, task: usize, reference: Reference) {
        let id = self.id(reference.from).as_str();
        let (param, rest) = split(&reference.place);
        let param = shape::unescape(param).into_owned();
        let written = self.at(task).params.get(&*param);
        let written = written.and_then(|value| value.pointer(rest));
        if !written.is_some_and(|value| is_long_form(value, id, &reference.path)) {
            let long = json!({"$ref": id, "path": reference.path});
            let value = self.at_mut(task).params.entry(param).or_insert(Value::Null);
            if let Some(slot) = value.pointer_mut(rest) {
                *slot = long;
            }
        }
        self.graph.add_edge(reference.from, task);
        self.at_mut(task).references.push(reference);
    }

    /// An order of execution; the error names a cycle.
    pub(super) fn order(&self) -> Result<Vec<usize>, PlanError> {
        self.graph.order().map_err(|circle| {
            let first = circle.first().copied().unwrap_or_default();
            let path = match circle.as_slice() {
                // A task that the compiler added is never in a cycle.
                [] => "tasks".to_owned(),
                _ => format!("tasks[{first}]"),
            };
            PlanError::new(
                ErrorCode::CyclicPlan,
                path,
                format!(
                    "tasks wait for each other in a circle: {}",
                    self.chain(&circle, first)
                ),
            )
        })
    }

    /// `t1 → t2 → t1`; cuts a long chain.
    fn chain(&self, tasks: &[usize], last: usize) -> String {
        const SHOWN: usize = 12;
        let mut names: Vec<_> = tasks
            .iter()
            .take(SHOWN)
            .map(|&task| self.id(task).to_string())
            .collect();
        if tasks.len() > SHOWN {
            names.push(format!("… {} more …", tasks.len() - SHOWN));
        }
        names.push(self.id(last).to_string());
        names.join(" → ")
    }

    /// The finished tasks in an order of execution; numbers made-up ids in this order.
    pub(super) fn into_tasks(mut self) -> Result<Vec<PlanTask>, PlanError> {
        let order = self.order()?;
        let renamed = self.ids.number(&order);
        for task in 0..self.tasks.len() {
            self.rename_references(task, &renamed);
        }
        let mut positions = vec![0; order.len()];
        for (position, &task) in order.iter().enumerate() {
            if let Some(slot) = positions.get_mut(task) {
                *slot = position;
            }
        }
        let position = |task: usize| positions.get(task).copied().unwrap_or_default();
        let mut finished = Vec::with_capacity(order.len());
        for &task in &order {
            let inferred = self.at(task).inferred.iter().map(|edge| self.told(edge));
            let inferred = inferred.collect();
            let mut after: Vec<_> = self.graph.before_it(task).map(position).collect();
            after.sort_unstable();
            after.dedup();
            let id = self.id(task).clone();
            let draft = self.at_mut(task);
            let mut references = std::mem::take(&mut draft.references);
            for reference in &mut references {
                reference.from = position(reference.from);
            }
            finished.push(PlanTask {
                id,
                capability: draft.contract.capability.name.clone(),
                terms: Terms::of(&draft.contract.capability),
                params: Value::Object(std::mem::take(&mut draft.params)).into(),
                references,
                after,
                inferred,
                optional: draft.optional,
                replaces: std::mem::take(&mut draft.replaces),
            });
        }
        Ok(finished)
    }

    fn told(&self, inferred: &Inferred) -> InferredEdge {
        let named = self.named(inferred.named);
        InferredEdge {
            from: self.id(inferred.from).clone(),
            reason: [&*inferred.before, &named, &*inferred.after].concat(),
        }
    }

    fn rename_references(&mut self, task: usize, renamed: &BTreeSet<usize>) {
        let Self { tasks, ids, .. } = self;
        let Some(Draft {
            references, params, ..
        }) = tasks.get_mut(task)
        else {
            return;
        };
        for reference in references
            .iter()
            .filter(|reference| renamed.contains(&reference.from))
        {
            let (param, rest) = split(&reference.place);
            let value = params.get_mut(&*shape::unescape(param));
            let target = value.and_then(|value| value.pointer_mut(rest)?.get_mut("$ref"));
            if let (Some(target), Some(id)) = (target, ids.of(reference.from)) {
                *target = id.as_str().into();
            }
        }
    }
}

fn is_long_form(value: &Value, id: &str, path: &str) -> bool {
    value.as_object().is_some_and(|map| {
        map.len() == 2
            && map.get("$ref").and_then(Value::as_str) == Some(id)
            && map.get("path").and_then(Value::as_str) == Some(path)
    })
}
