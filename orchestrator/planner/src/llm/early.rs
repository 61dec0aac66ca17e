//! Hands tasks on while the model still writes its plan: those that only read and wait for nothing.
//!
//! Does not judge the plan. If the complete plan changes or lacks an early task, that task's work is lost.

use std::sync::Arc;

use amcp_plan::{Catalogue, NoFill, Rules, TaskReader, compile_early};
use amcp_protocol::TaskId;
use amcp_protocol::llm::TextSink;

use crate::PlanningInput;

/// The tasks of one round, including repairs, that started early.
pub(super) struct Early<'a> {
    input: &'a PlanningInput,
    usable: Arc<Catalogue>,
    reader: TaskReader,
    /// At most as many as a plan may have. Each id starts early once: a repaired task with the same id waits for the complete plan.
    gone: Vec<TaskId>,
}

impl<'a> Early<'a> {
    pub(super) fn new(input: &'a PlanningInput, usable: Arc<Catalogue>) -> Self {
        Self {
            input,
            usable,
            reader: TaskReader::default(),
            gone: Vec::new(),
        }
    }

    /// Resets the reader when the model begins another text.
    pub(super) fn begin(&mut self) {
        self.reader = TaskReader::default();
    }
}

impl TextSink for Early<'_> {
    fn piece(&mut self, text: &str) {
        let rules = Rules {
            catalogue: &self.usable,
            access: &self.input.access,
            limits: &self.input.limits,
            fill: &NoFill,
        };
        for proposed in self.reader.push(text) {
            let Some(task) = compile_early(&proposed, &rules) else {
                continue;
            };
            if self.gone.len() < rules.limits.tasks && !self.gone.contains(&task.id) {
                self.gone.push(task.id.clone());
                self.input.early.send(task);
            }
        }
    }

    fn reset(&mut self) {
        self.begin();
    }
}
