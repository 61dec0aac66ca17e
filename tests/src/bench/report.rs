//! Prints a table and writes a JSON file, with the goal of each figure.
//!
//! Judges figures against goals, but fails no run.

#![expect(
    clippy::print_stderr,
    reason = "a bench shows its figures as they come"
)]

use std::fmt::Write as _;
use std::path::PathBuf;

use serde_json::{Value, json};

/// The goal of a figure.
#[derive(Debug, Clone, Copy)]
pub enum Goal {
    /// This value or more.
    AtLeast(f64),
    /// This value or less.
    AtMost(f64),
    /// No goal: for comparison only.
    None,
}

impl Goal {
    fn verdict(self, value: f64) -> Option<bool> {
        match self {
            Self::AtLeast(goal) => Some(value >= goal),
            Self::AtMost(goal) => Some(value <= goal),
            Self::None => None,
        }
    }

    fn text(self) -> String {
        match self {
            Self::AtLeast(goal) => format!("≥ {}", number(goal)),
            Self::AtMost(goal) => format!("≤ {}", number(goal)),
            Self::None => String::new(),
        }
    }
}

/// All figures of a run, in the order of measurement.
#[derive(Debug)]
pub struct Report {
    bench: &'static str,
    yardstick: &'static str,
    rows: Vec<Row>,
    notes: Vec<String>,
}

#[derive(Debug)]
struct Row {
    what: String,
    unit: &'static str,
    ours: f64,
    bare: Option<f64>,
    goal: Goal,
}

impl Report {
    /// Makes an empty report of a bench that compares its figures with a yardstick's.
    #[must_use]
    pub fn new(bench: &'static str, yardstick: &'static str) -> Self {
        Self {
            bench,
            yardstick,
            rows: Vec::new(),
            notes: Vec::new(),
        }
    }

    /// Adds our figure and, if measured, the yardstick's.
    pub fn add(
        &mut self,
        what: impl Into<String>,
        unit: &'static str,
        (ours, bare): (f64, Option<f64>),
        goal: Goal,
    ) {
        let what = what.into();
        eprintln!("   {what}: {} {unit}", number(ours));
        self.rows.push(Row {
            what,
            unit,
            ours,
            bare,
            goal,
        });
    }

    /// Adds a remark for readers.
    pub fn note(&mut self, note: impl Into<String>) {
        self.notes.push(note.into());
    }

    /// The table and the notes in Markdown.
    #[must_use]
    pub fn markdown(&self) -> String {
        let mut text = format!(
            "| what | ours | {} | ours ÷ bare | goal | |\n|---|--:|--:|--:|--:|---|\n",
            self.yardstick
        );
        for row in &self.rows {
            let (bare, ratio) = row.bare.map_or_else(Default::default, |bare| {
                (number(bare), format!("{:.2}", row.ours / bare))
            });
            let verdict = match row.goal.verdict(row.ours) {
                Some(true) => "met",
                Some(false) => "**missed**",
                None => "",
            };
            let ours = format!("{} {}", number(row.ours), row.unit);
            let goal = row.goal.text();
            // Writing into a String cannot fail.
            let _ = writeln!(
                text,
                "| {} | {ours} | {bare} | {ratio} | {goal} | {verdict} |",
                row.what
            );
        }
        for note in &self.notes {
            let _ = write!(text, "\n- {note}");
        }
        text
    }

    fn json(&self) -> Value {
        let rows = self.rows.iter().map(|row| {
            json!({
                "what": row.what, "unit": row.unit, "ours": row.ours, "bare": row.bare,
                "goal": row.goal.text(), "met": row.goal.verdict(row.ours),
            })
        });
        json!({"figures": rows.collect::<Vec<_>>(), "notes": self.notes})
    }

    /// Writes the JSON and returns its path.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn save(&self) -> std::io::Result<PathBuf> {
        // In the build's folder: cargo runs benches in the package's folder.
        let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../target/bench");
        std::fs::create_dir_all(&folder)?;
        let file = folder.canonicalize()?.join(format!("{}.json", self.bench));
        std::fs::write(&file, format!("{:#}\n", self.json()))?;
        Ok(file)
    }
}

/// The number with three significant digits and separated thousands.
fn number(value: f64) -> String {
    if !value.is_finite() {
        return "n/a".to_owned();
    }
    if value.abs() < 100.0 {
        let digits = if value.abs() < 10.0 { 2 } else { 1 };
        let text = format!("{value:.digits$}");
        let trimmed = text.trim_end_matches('0').trim_end_matches('.');
        return trimmed.to_owned();
    }
    let digits = format!("{value:.0}");
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}
