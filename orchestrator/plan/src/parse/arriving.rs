//! Reads the tasks of a plan while its text still arrives: each task as soon as its closing brace arrives.
//!
//! Not final: [`super::parse`] reads the whole text. A draft before the plan, or an unfinished list, gives tasks here that the
//! whole text does not have. Leaves lists under other names than `tasks` to [`super::parse`].

use amcp_protocol::ProposedTask;
use serde_json::Value;

use super::{MAX_TEXT_BYTES, is_task_map, task};

/// Deepest nesting, in levels: the limit of the JSON parser.
const MAX_DEPTH: usize = 128;
const TASKS: &[u8] = b"tasks";
const THINKING: &[u8] = b"<think>";
const THOUGHT: &[u8] = b"</think>";

/// Takes a plan's text in pieces and returns the tasks that are complete. Holds the text of one task at most.
#[derive(Debug, Default)]
pub struct TaskReader {
    /// Number of bytes so far.
    read: usize,
    given: usize,
    /// The plan is over, or was given up.
    done: bool,
    thinking: bool,
    /// Number of matching bytes of the tag that we look for outside of JSON.
    tag: usize,
    /// The closing byte of each open value.
    open: Vec<u8>,
    /// Only the opening bracket of the outermost value has arrived.
    begun: bool,
    string: InString,
    /// The outermost object's latest key, cut to one byte more than the length of [`TASKS`].
    key: Vec<u8>,
    at_key: AtKey,
    /// The number of open values at which a task of the list begins; 0 outside of the list.
    list: usize,
    had_list: bool,
    /// The text of the open task.
    task: Vec<u8>,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum InString {
    #[default]
    No,
    Yes,
    /// After a backslash.
    Escaped,
}

/// The reader's position in a field of the outermost object.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum AtKey {
    #[default]
    Before,
    Within,
    After,
}

impl TaskReader {
    /// Takes the next piece of the text, cut anywhere, and returns the tasks that the piece completes.
    pub fn push(&mut self, text: &str) -> Vec<ProposedTask> {
        let mut tasks = Vec::new();
        self.read = self.read.saturating_add(text.len());
        // `parse` refuses such a text too.
        self.done |= self.read > MAX_TEXT_BYTES;
        for byte in text.bytes() {
            if self.done {
                self.task = Vec::new();
                break;
            }
            tasks.extend(self.next(byte));
        }
        tasks
    }

    fn next(&mut self, byte: u8) -> Option<ProposedTask> {
        if self.open.is_empty() {
            self.outside(byte);
            return None;
        }
        if self.is_in_task() {
            self.task.push(byte);
        }
        self.string = match (self.string, byte) {
            (InString::No, _) => return self.inside(byte),
            (InString::Yes, b'"') => InString::No,
            (InString::Yes, b'\\') => InString::Escaped,
            (InString::Yes | InString::Escaped, _) => InString::Yes,
        };
        if self.at_key == AtKey::Within {
            if self.string == InString::No {
                self.at_key = AtKey::After;
            } else if self.key.len() <= TASKS.len() {
                self.key.push(byte);
            }
        }
        None
    }

    /// Reads a byte of the prose or the thinking around the JSON.
    fn outside(&mut self, byte: u8) {
        let tag = if self.thinking { THOUGHT } else { THINKING };
        self.tag = match tag.get(self.tag) {
            Some(next) if *next == byte => self.tag + 1,
            _ => usize::from(byte == b'<'),
        };
        if self.tag == tag.len() {
            self.thinking = !self.thinking;
            self.tag = 0;
        } else if !self.thinking && matches!(byte, b'{' | b'[') {
            self.begun = true;
            self.list = usize::from(byte == b'[');
            self.had_list = false;
            self.at_key = AtKey::Before;
            self.open(byte);
        }
    }

    fn inside(&mut self, byte: u8) -> Option<ProposedTask> {
        if byte.is_ascii_whitespace() {
            return None;
        }
        let at_root = self.open.len() == 1;
        let in_list = self.list > 0 && self.open.len() == self.list;
        let fits = if in_list {
            matches!(byte, b'{' | b',' | b']')
        } else {
            // An object begins with a key; any other byte means a bracket in prose.
            !self.begun || matches!(byte, b'"' | b'}')
        };
        if !fits {
            self.give_up(byte);
            return None;
        }
        self.begun = false;
        match byte {
            b'"' => {
                self.string = InString::Yes;
                if at_root && self.at_key == AtKey::Before {
                    self.at_key = AtKey::Within;
                    self.key.clear();
                }
            }
            b',' if at_root => self.at_key = AtKey::Before,
            b'{' | b'[' => {
                if in_list {
                    self.task = vec![byte];
                } else if byte == b'[' && at_root && self.key == TASKS && !self.had_list {
                    self.list = 2;
                    self.had_list = true;
                }
                self.open(byte);
            }
            b'}' | b']' => return self.close(byte),
            _ => {}
        }
        None
    }

    fn is_in_task(&self) -> bool {
        self.list > 0 && self.open.len() > self.list
    }

    fn open(&mut self, byte: u8) {
        if self.open.len() == MAX_DEPTH {
            self.give_up(byte);
        } else {
            self.open.push(if byte == b'{' { b'}' } else { b']' });
        }
    }

    fn close(&mut self, byte: u8) -> Option<ProposedTask> {
        let was_in_task = self.is_in_task();
        if self.open.pop() != Some(byte) {
            self.give_up(byte);
            return None;
        }
        if was_in_task && !self.is_in_task() {
            let complete = match serde_json::from_slice(&std::mem::take(&mut self.task)) {
                Ok(Value::Object(map)) if self.list > 1 || is_task_map(&map) => {
                    task(map, None).ok()
                }
                _ => None,
            };
            match &complete {
                Some(_) => self.given += 1,
                None => self.give_up(byte),
            }
            return complete;
        }
        if self.open.len() < self.list {
            self.list = 0;
        }
        if self.open.is_empty() {
            self.end();
        }
        None
    }

    /// Drops the open value. The unexpected `byte` may begin another.
    fn give_up(&mut self, byte: u8) {
        self.open.clear();
        self.end();
        if !self.done {
            self.outside(byte);
        }
    }

    /// Ends a value: if it gave tasks it was the plan; else goes on looking for one.
    fn end(&mut self) {
        self.done = self.given > 0;
        self.string = InString::No;
        self.list = 0;
        self.task = Vec::new();
    }
}
