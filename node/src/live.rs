//! A request's progress on a terminal while it is worked on: the plan, and a line for each task that changes in place.
//!
//! Does not print answers, and is not used where nobody watches.

use std::collections::BTreeMap;
use std::io::{self, IsTerminal};
use std::time::Duration;

use amcp_protocol::{AnswerPiece, PlannedTaskView, Progress, TaskId};
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::output::{Style, printable};
use crate::show;

/// Smooth to the eye and cheap to draw.
const TICK: Duration = Duration::from_millis(100);

/// The lines on the terminal.
pub(crate) struct Live {
    lines: MultiProgress,
    thinking: ProgressBar,
    tasks: BTreeMap<TaskId, ProgressBar>,
    /// The answer so far, as it is written.
    text: String,
    style: Style,
}

impl Live {
    /// Whether there is somebody to watch.
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
            text: String::new(),
            style: Style::for_stderr(),
        }
    }

    /// Shows what happened.
    pub(crate) fn show(&mut self, progress: &Progress) {
        match progress {
            Progress::Accepted { .. } => {}
            Progress::Planned {
                planner,
                round,
                tasks,
                unplaced,
            } => self.planned(planner, *round, tasks, unplaced),
            Progress::Dispatched { task, .. } | Progress::Retried { task, .. } => {
                if let (Some(line), Some(text)) =
                    (self.tasks.get(task), show::event(progress, self.style))
                {
                    line.set_message(text);
                }
            }
            Progress::Completed { task, .. } | Progress::Failed { task, .. } => {
                if let Some(line) = self.tasks.remove(task) {
                    line.finish_and_clear();
                }
                if let Some(text) = show::event(progress, self.style) {
                    let _ = self.lines.println(format!("  {text}"));
                }
                if self.tasks.is_empty() {
                    self.thinking.set_message("writing the answer");
                }
            }
            Progress::Answered { .. } => self.clear(),
        }
    }

    /// Shows the answer while it is written: its end, below everything else, until the whole of it is printed.
    pub(crate) fn write(&mut self, piece: &AnswerPiece) {
        match piece {
            AnswerPiece::Text { text } => self.text.push_str(text),
            AnswerPiece::TextReset => self.text.clear(),
        }
        self.thinking.set_message(match self.text.is_empty() {
            true => "writing the answer".to_owned(),
            false => format!("{}\n  ", printable(last_lines(&self.text))),
        });
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
        self.thinking.set_message("working");
        for task in tasks {
            let waiting = format!("{} {}", task.id, task.capability);
            let line = self
                .lines
                .insert_before(&self.thinking, spinner(&self.style.dim(&waiting)));
            self.tasks.insert(task.id.clone(), line);
        }
    }

    /// Takes away what is not finished.
    pub(crate) fn clear(&mut self) {
        for line in self.tasks.values() {
            line.finish_and_clear();
        }
        self.thinking.finish_and_clear();
    }
}

/// The end of a text, as much as fits below the plan on a small terminal.
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
