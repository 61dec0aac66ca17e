//! A compiled plan: an executable DAG whose tasks, references and edges were all checked.
//!
//! Does not change once compiled; what happens to it is the machine's state.

use std::sync::Arc;

use amcp_protocol::plan::{InferredEdge, PlannedTaskView};
use amcp_protocol::{CapabilityName, Contract, TaskId};
use serde_json::Value;

/// A plan that can be executed. Tasks refer to each other by their index in `tasks`, and every index in it exists.
#[derive(Debug, Clone, Default)]
pub struct Plan {
    /// Why, in the planner's words.
    pub reasoning: Option<String>,
    /// An answer that needs no task; then `tasks` may be empty.
    pub answer_directly: Option<String>,
    /// In the planner's order; what the compiler added comes last.
    pub tasks: Vec<PlanTask>,
    /// Parts of the query that no capability covers.
    pub unplaced: Vec<String>,
}

/// One task of a plan.
#[derive(Debug, Clone)]
pub struct PlanTask {
    /// Unique in the plan.
    pub id: TaskId,
    /// What to do, and what is promised about it.
    pub contract: Arc<Contract>,
    /// An object; the places of `references` hold their long form until they are replaced by values.
    pub params: Value,
    /// Which places of `params` are filled from other tasks' results.
    pub references: Vec<Reference>,
    /// The tasks that must have ended before: explicit, referenced and inferred ones, without duplicates, ascending.
    pub after: Vec<usize>,
    /// The edges that the compiler added; a task that it added itself carries the reason in the edge to its consumer.
    pub inferred: Vec<InferredEdge>,
    /// Whether dependents go on without it when it fails.
    pub optional: bool,
    /// In a later round: the tasks of earlier rounds that did not complete and that this one makes up for.
    pub replaces: Vec<TaskId>,
}

/// A place in a task's params that is filled from another task's result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reference {
    /// Where in the params: a JSON pointer.
    pub place: String,
    /// Whose result: an index into the plan's tasks.
    pub from: usize,
    /// Which part of the result: a JSON pointer, empty for all of it.
    pub path: String,
}

impl PlanTask {
    /// What to do.
    #[must_use]
    pub fn capability(&self) -> &CapabilityName {
        &self.contract.capability.name
    }
}

impl Plan {
    /// The tasks as people and programs are shown them.
    #[must_use]
    pub fn view(&self) -> Vec<PlannedTaskView> {
        self.tasks
            .iter()
            .map(|task| PlannedTaskView {
                id: task.id.clone(),
                capability: task.capability().clone(),
                params: task.params.clone(),
                depends_on: task
                    .after
                    .iter()
                    .filter_map(|&i| self.tasks.get(i))
                    .map(|t| t.id.clone())
                    .collect(),
                inferred: task.inferred.clone(),
            })
            .collect()
    }
}
