//! A running request's progress on a terminal: the plan, and a line for each task that changes in place.
//!
//! Does not print answers; draws only where stdout and stderr are a terminal.

use std::collections::BTreeMap;
use std::io::{self, IsTerminal};
use std::time::Duration;

use amcp_protocol::{AnswerPiece, PlannedTaskView, Progress, TaskId};
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::output::{Style, printable};
use crate::show;

/// Time between two drawings: smooth to the eye and cheap.
const TICK: Duration = Duration::from_millis(100);

pub(crate) struct Live {
    lines: MultiProgress,
    thinking: ProgressBar,
    tasks: BTreeMap<TaskId, ProgressBar>,
    /// Whether a complete plan was shown; tasks may begin before.
    planned: bool,
    /// The answer's text so far.
    text: String,
    style: Style,
}

impl Live {
    pub(crate) fn is_wanted() -> bool {
        io::stderr().is_terminal() && io::stdout().is_terminal()
    }

    pub(crate) fn new() -> Self {
        let lines = MultiProgress::with_draw_target(ProgressDrawTarget::stderr());
        let thinking = lines.add(spinner("planning"));
        Self {
            lines,
            thinking,
            tasks: BTreeMap::new(),
            planned: false,
            text: String::new(),
            style: Style::for_stderr(),
        }
    }

    pub(crate) fn show(&mut self, progress: &Progress) {
        match progress {
            Progress::Accepted { .. } => {}
            Progress::Planned {
                planner,
                round,
                tasks,
                unplaced,
            } => self.planned(planner, *round, tasks, unplaced),
            Progress::Dispatched { .. }
            | Progress::Progressed { .. }
            | Progress::Retried { .. }
            | Progress::FlowRequired { .. }
            | Progress::FlowEnded { .. } => {
                let text = show::event(progress, self.style);
                if let (Some(task), Some(text)) = (progress.task(), text) {
                    self.line(task).set_message(text);
                }
            }
            Progress::Completed { task, .. } | Progress::Failed { task, .. } => {
                self.line(task).finish_and_clear();
                if let Some(text) = show::event(progress, self.style) {
                    let _ = self.lines.println(format!("  {text}"));
                }
                self.say_what_goes_on();
            }
            Progress::Answered { .. } => self.clear(),
        }
    }

    /// Shows the end of the answer's text below all tasks while a model writes it, until the whole answer is printed.
    pub(crate) fn write(&mut self, piece: &AnswerPiece) {
        match piece {
            AnswerPiece::Text { text } => self.text.push_str(text),
            AnswerPiece::TextReset => self.text.clear(),
        }
        if self.text.is_empty() {
            self.say_what_goes_on();
        } else {
            let end = printable(last_lines(&self.text));
            self.thinking.set_message(format!("{end}\n  "));
        }
    }

    fn planned(
        &mut self,
        planner: &str,
        round: u32,
        tasks: &[PlannedTaskView],
        unplaced: &[String],
    ) {
        let again = if round > 1 { ", second round" } else { "" };
        let heading = format!("Plan by {}{again}", self.style.bold(planner));
        let _ = self.lines.println(heading);
        let _ = self
            .lines
            .println(show::tasks(tasks, self.style).trim_end());
        for part in unplaced {
            let _ = self.lines.println(show::unplaced(part, self.style));
        }
        self.planned = true;
        for task in tasks {
            // A task that was dispatched before its plan was complete shows more already, or has ended.
            if !self.tasks.contains_key(&task.id) {
                let waiting = format!("{} {}", task.id, task.capability);
                let waiting = self.style.dim(&waiting);
                self.line(&task.id).set_message(waiting);
            }
        }
        self.say_what_goes_on();
    }

    fn say_what_goes_on(&self) {
        let all_ended = self.tasks.values().all(ProgressBar::is_finished);
        let message = match (self.planned, all_ended) {
            (false, _) => "planning",
            (true, false) => "working",
            (true, true) => "writing the answer",
        };
        self.thinking.set_message(message);
    }

    /// The task's line; it stays when the task has ended.
    fn line(&mut self, task: &TaskId) -> &ProgressBar {
        let (lines, thinking) = (&self.lines, &self.thinking);
        let line = self.tasks.entry(task.clone());
        line.or_insert_with(|| lines.insert_before(thinking, spinner("")))
    }

    /// Prints text above the lines.
    pub(crate) fn say(&self, text: &str) {
        let _ = self.lines.println(format!("  {}", printable(text)));
    }

    /// Hides the lines while a question is on the terminal.
    pub(crate) fn pause(&self) {
        let _ = self.lines.clear();
        self.lines.set_draw_target(ProgressDrawTarget::hidden());
    }

    /// Draws again after [`Self::pause`].
    pub(crate) fn go_on(&self) {
        self.lines.set_draw_target(ProgressDrawTarget::stderr());
    }

    /// Removes the lines of unfinished tasks.
    pub(crate) fn clear(&mut self) {
        for line in self.tasks.values() {
            line.finish_and_clear();
        }
        self.thinking.finish_and_clear();
    }
}

/// The end of a text that fits below the plan on a small terminal.
fn last_lines(text: &str) -> &str {
    const CHARS: usize = 480;
    const LINES: usize = 6;
    let cut = text.chars().rev().take(CHARS).map(char::len_utf8).sum();
    let tail = text
        .get(text.len() - usize::min(cut, text.len())..)
        .unwrap_or(text);
    let lines = tail.rmatch_indices('\n').nth(LINES - 1);
    lines.map_or(tail, |(at, _)| tail.get(at + 1..).unwrap_or(tail))
}

fn spinner(message: &str) -> ProgressBar {
    let bar = ProgressBar::new_spinner().with_message(message.to_owned());
    if let Ok(style) = ProgressStyle::with_template("  {spinner} {msg} {elapsed:.dim}") {
        bar.set_style(style);
    }
    bar.enable_steady_tick(TICK);
    bar
}

#[cfg(test)]
mod tests {
    use super::last_lines;

    #[test]
    fn the_end_of_a_text_is_shown() {
        for (text, end) in [
            ("", ""),
            ("It is sunny.", "It is sunny."),
            ("1\n2\n3\n4\n5\n6\n7\n8", "3\n4\n5\n6\n7\n8"),
        ] {
            assert_eq!(last_lines(text), end);
        }
        assert_eq!(last_lines(&"é".repeat(1_000)).chars().count(), 480);
    }
}
