//! Names every task of a plan, and finds the task that a text names.
//!
//! Does not read references.

use std::cell::OnceCell;
use std::collections::{BTreeSet, HashMap, HashSet};

use amcp_protocol::{ProposedTask, TaskId};

use super::PlanError;

/// Longest id that is mended, in bytes; longer ones come from a confused model and are refused. Also bounds the search for an
/// id at the beginning of a text.
const MAX_RAW_ID: usize = 256;

/// The ids of a plan's tasks, by index, and the ways to write them.
#[derive(Debug)]
pub(super) struct Ids {
    ids: Vec<TaskId>,
    by_id: HashMap<TaskId, usize>,
    /// Illegal ids as the planner wrote them, with their tasks.
    mended: HashMap<String, usize>,
    /// The ids without their numbers, such as `t`.
    stems: OnceCell<HashSet<String>>,
    /// The tasks whose ids the compiler made up.
    made_up: BTreeSet<usize>,
    next_made_up: usize,
}

impl Ids {
    /// Takes the planner's ids, mends illegal ones and makes up missing ones.
    pub(super) fn assign(tasks: &[ProposedTask]) -> Result<Self, PlanError> {
        let mut all = Self {
            ids: Vec::with_capacity(tasks.len()),
            by_id: HashMap::with_capacity(tasks.len()),
            mended: HashMap::new(),
            stems: OnceCell::new(),
            made_up: BTreeSet::new(),
            next_made_up: tasks.len() + 1,
        };
        let mut raw: HashMap<&str, usize> = HashMap::with_capacity(tasks.len());
        let mut given: Vec<Option<TaskId>> = Vec::with_capacity(tasks.len());
        for (i, task) in tasks.iter().enumerate() {
            let text = task.id.as_deref().map_or("", str::trim);
            if text.len() > MAX_RAW_ID {
                return Err(PlanError::invalid(
                    format!("tasks[{i}].id"),
                    "the id is too long: write a short one such as 't1'",
                ));
            }
            if !text.is_empty()
                && let Some(other) = raw.insert(text, i)
            {
                return Err(PlanError::invalid(
                    format!("tasks[{i}].id"),
                    format!(
                        "the id '{text}' belongs to tasks[{other}] too: every task needs its own"
                    ),
                ));
            }
            let id = TaskId::new(text).ok();
            if let Some(id) = &id {
                all.by_id.insert(id.clone(), i);
            }
            given.push(id);
        }
        let mut suffixes = HashMap::new();
        for (i, (task, id)) in tasks.iter().zip(given).enumerate() {
            let text = task.id.as_deref().map_or("", str::trim);
            let id = match id {
                Some(id) => id,
                None if text.is_empty() => {
                    all.made_up.insert(i);
                    all.make_up(Some(i + 1))
                }
                None => {
                    all.mended.insert(text.to_owned(), i);
                    all.mend(text, &mut suffixes)
                }
            };
            all.by_id.insert(id.clone(), i);
            all.ids.push(id);
        }
        Ok(all)
    }

    /// An id for a task that the compiler adds.
    pub(super) fn add(&mut self) {
        let id = self.make_up(None);
        self.made_up.insert(self.ids.len());
        self.by_id.insert(id.clone(), self.ids.len());
        self.ids.push(id);
    }

    /// Numbers the made-up ids in the order of execution, skipping the planner's own. Returns the tasks whose ids changed.
    pub(super) fn number(&mut self, order: &[usize]) -> BTreeSet<usize> {
        for task in &self.made_up {
            if let Some(id) = self.ids.get(*task) {
                self.by_id.remove(id);
            }
        }
        self.next_made_up = 1;
        let mut renamed = BTreeSet::new();
        for &task in order {
            if !self.made_up.contains(&task) {
                continue;
            }
            let id = self.make_up(None);
            self.by_id.insert(id.clone(), task);
            if let Some(slot) = self.ids.get_mut(task)
                && *slot != id
            {
                *slot = id;
                renamed.insert(task);
            }
        }
        renamed
    }

    fn make_up(&mut self, wanted: Option<usize>) -> TaskId {
        let mut number = wanted;
        loop {
            let n = number.take().unwrap_or_else(|| {
                self.next_made_up += 1;
                self.next_made_up - 1
            });
            let id = TaskId::new(format!("t{n}")).expect("a letter and a number are a task id");
            if !self.by_id.contains_key(&id) {
                return id;
            }
        }
    }

    /// The nearest legal free id; `suffixes` counts the uses of each.
    fn mend(&self, text: &str, suffixes: &mut HashMap<String, usize>) -> TaskId {
        // 64 characters minus the suffix.
        let stem: String = text
            .chars()
            .map(|c| {
                if c.is_ascii_alphanumeric() || c == '-' {
                    c
                } else {
                    '_'
                }
            })
            .take(56)
            .collect();
        let count = suffixes.entry(stem.clone()).or_insert(0);
        loop {
            *count += 1;
            let candidate = match *count {
                1 => stem.clone(),
                n => format!("{stem}-{n}"),
            };
            let id = TaskId::new(candidate).expect("only legal characters are left");
            if !self.by_id.contains_key(&id) {
                return id;
            }
        }
    }

    /// The task with this id, as the planner wrote it.
    pub(super) fn find(&self, text: &str) -> Option<usize> {
        let text = text.trim();
        self.by_id
            .get(text)
            .or_else(|| self.mended.get(text))
            .copied()
    }

    /// The task whose id the text begins with, and what follows the id: `t1.rows`, `t1/rows`, `t1[0]`, `t1`.
    pub(super) fn find_at_start<'t>(&self, text: &'t str) -> Option<(usize, &'t str)> {
        let end = text.floor_char_boundary(MAX_RAW_ID);
        let mut head = text.get(..end)?;
        // The planner's ids may contain dots: the longest match counts.
        if end < text.len() {
            head = head.get(..head.rfind(['.', '/', '['])?)?;
        }
        loop {
            if let Some(task) = self.find(head) {
                return Some((task, text.get(head.len()..)?));
            }
            head = head.get(..head.rfind(['.', '/', '['])?)?;
        }
    }

    /// Whether the text looks like an id of this plan without being one: `t9` in a plan with `t1` and `t2`.
    pub(super) fn is_alike(&self, text: &str) -> bool {
        let stems = self.stems.get_or_init(|| {
            self.ids
                .iter()
                .filter_map(|id| stem(id.as_str()))
                .map(str::to_owned)
                .collect()
        });
        stem(text).is_some_and(|stem| stems.contains(stem))
    }

    /// All ids, in the plan's order.
    pub(super) fn iter(&self) -> impl Iterator<Item = &TaskId> {
        self.ids.iter()
    }

    /// The id of a task.
    pub(super) fn of(&self, task: usize) -> Option<&TaskId> {
        self.ids.get(task)
    }
}

/// The part before the number at the end; none if either is missing.
fn stem(text: &str) -> Option<&str> {
    let stem = text.trim_end_matches(|c: char| c.is_ascii_digit());
    (!stem.is_empty() && stem.len() < text.len()).then_some(stem)
}
