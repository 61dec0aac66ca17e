//! What a report shows, whatever its format: made from the results of other tasks.
//!
//! Does not lay anything out; content that it does not know is shown as tables and paragraphs.

use serde_json::{Map, Value};

use super::super::capitalised;
use super::super::money::{CURRENCY, cents_of, dollars, percent, signed_percent, thousands};

/// Most rows of all tables together: a hundred pages.
const MAX_ROWS: usize = 5_000;
/// Most columns: what fits on a page.
const MAX_COLUMNS: usize = 8;
/// Most characters of a table's cell: more is a text, not a value.
const MAX_CELL: usize = 500;
/// Most characters of tables, headings and paragraphs together: about three hundred pages.
const MAX_CHARACTERS: usize = 1_000_000;
/// Most characters of a paragraph.
const MAX_PARAGRAPH: usize = 20_000;
/// Most characters of a title: two lines.
const MAX_TITLE: usize = 150;
/// Most blocks, and how deep content is followed.
const MAX_BLOCKS: usize = 200;
const MAX_DEPTH: usize = 4;
/// Most bars of a chart: more are not told apart.
const MAX_BARS: usize = 12;

/// A report.
#[derive(Debug, Default)]
pub(super) struct Document {
    pub(super) title: String,
    pub(super) blocks: Vec<Block>,
    /// What the reader should know: sources, and what was left out.
    pub(super) notes: Vec<String>,
    rows: usize,
    characters: usize,
    /// Whether the content around says that its amounts are dollars.
    dollars: bool,
    /// Whether the rows around are a part of all, so that their sum means nothing.
    partial: bool,
}

#[derive(Debug)]
pub(super) enum Block {
    Heading(String),
    Paragraph(String),
    Table(Table),
    Chart(Chart),
}

#[derive(Debug, Default)]
pub(super) struct Table {
    pub(super) columns: Vec<Column>,
    pub(super) rows: Vec<Vec<String>>,
    /// A last row that stands out.
    pub(super) total: Option<Vec<String>>,
}

#[derive(Debug)]
pub(super) struct Column {
    pub(super) title: String,
    /// Numbers are set to the right.
    pub(super) right: bool,
}

/// Horizontal bars.
#[derive(Debug)]
pub(super) struct Chart {
    pub(super) title: String,
    pub(super) bars: Vec<Bar>,
}

impl Chart {
    /// The longest bar; above zero.
    pub(super) fn highest(&self) -> f64 {
        let values = self.bars.iter().map(|bar| bar.value.abs());
        values.fold(f64::MIN_POSITIVE, f64::max)
    }
}

#[derive(Debug)]
pub(super) struct Bar {
    pub(super) label: String,
    pub(super) value: f64,
    pub(super) shown: String,
}

impl Document {
    /// A report of `content`, under `title` or one of the content's own.
    pub(super) fn new(title: &str, content: &Value) -> Self {
        let mut document = Self::default();
        match results(content) {
            Some(results) => {
                for result in results {
                    document
                        .blocks
                        .extend(own_title(result).map(Block::Heading));
                    document.add(result, 0);
                }
            }
            None => document.add(content, 0),
        }
        let title = Some(one_line(title, MAX_TITLE)).filter(|title| !title.is_empty());
        let title = title.or_else(|| own_title(content));
        document.title = title.unwrap_or_else(|| "Report".to_owned());
        document
    }

    fn note(&mut self, note: impl Into<String>) {
        let note = note.into();
        if !self.notes.contains(&note) {
            self.notes.push(note);
        }
    }

    fn block(&mut self, mut block: Block) {
        let mut fits = |text: &String| {
            self.characters += text.chars().count();
            self.characters <= MAX_CHARACTERS
        };
        let whole = match &mut block {
            Block::Heading(text) | Block::Paragraph(text) => fits(text),
            Block::Table(table) => {
                let all = table.rows.len();
                table.rows.retain(|row| row.iter().all(&mut fits));
                let whole = table.rows.len() == all;
                table.total = table.total.take().filter(|_| whole);
                whole
            }
            Block::Chart(_) => true,
        };
        let room = self.blocks.len() < MAX_BLOCKS;
        if room && (whole || matches!(block, Block::Table(_))) {
            self.blocks.push(block);
        }
        if !(room && whole) {
            self.note("The content is longer than a report; its end is left out.");
        }
    }

    fn paragraph(&mut self, text: &str) {
        for part in text.split("\n\n") {
            let shown = one_line(part, MAX_PARAGRAPH);
            if !shown.is_empty() {
                self.block(Block::Paragraph(shown));
            }
        }
    }

    fn add(&mut self, content: &Value, depth: usize) {
        if depth > MAX_DEPTH {
            return self.note("Some content is nested too deeply and is left out.");
        }
        match content {
            Value::Null => (),
            Value::Array(items) if !items.is_empty() && items.iter().all(is_flat_object) => {
                self.table(items)
            }
            Value::Array(items) => {
                for item in items {
                    self.add(item, depth + 1);
                }
            }
            Value::Object(fields) => self.object(fields, depth),
            Value::String(text) => self.paragraph(text),
            Value::Bool(_) | Value::Number(_) => self.block(Block::Paragraph(plain(content))),
        }
    }

    fn object(&mut self, fields: &Map<String, Value>, depth: usize) {
        let around = (self.dollars, self.partial);
        if let Some(currency) = fields.get("currency") {
            self.dollars = currency == CURRENCY;
        }
        self.partial |= fields.get("truncated") == Some(&Value::Bool(true));
        self.result(fields, depth);
        (self.dollars, self.partial) = around;
    }

    fn result(&mut self, fields: &Map<String, Value>, depth: usize) {
        if let Some(text) = fields.get("text").and_then(Value::as_str) {
            self.paragraph(text);
        }
        let groups = fields
            .get("groups")
            .and_then(Value::as_array)
            .filter(|groups| groups.iter().all(is_flat_object));
        if let Some(groups) = groups.filter(|_| self.dollars && fields.contains_key("total")) {
            self.summary(fields, groups);
            self.largest(fields);
        } else if let Some(rows) = fields.get("rows").and_then(Value::as_array) {
            self.add(&Value::Array(rows.clone()), depth + 1);
            if self.partial {
                self.note("Not all rows are shown.");
            }
        } else {
            self.fields(fields, depth);
        }
        for note in fields
            .get("notes")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .chain(fields.get("note"))
        {
            if let Some(note) = note.as_str().filter(|note| !note.is_empty()) {
                self.note(one_line(note, 500));
            }
        }
        if let Some(source) = fields.get("source").and_then(Value::as_str) {
            self.note(format!("Source: {}.", one_line(source, 200)));
        }
    }

    /// An analysis of expenses: its groups as table and chart.
    fn summary(&mut self, fields: &Map<String, Value>, groups: &[Value]) {
        let by = capitalised(
            fields
                .get("group_by")
                .and_then(Value::as_str)
                .unwrap_or("group"),
        );
        let before = fields.get("previous_period").and_then(Value::as_str);
        let comparable = groups.iter().any(|group| group.get("previous").is_some());
        let before = before.filter(|_| comparable);
        let mut columns = vec![left(&by), right("Entries"), right("Total"), right("Share")];
        columns.extend(
            before
                .into_iter()
                .flat_map(|period| [right(&one_line(period, 40)), right("Change")]),
        );
        let row = |name: &str, of: &dyn Fn(&str) -> Option<Value>| {
            let cents = |key| {
                of(key)
                    .as_ref()
                    .and_then(cents_of)
                    .map_or_else(String::new, dollars)
            };
            let tenths = |key, show: fn(i64) -> String| {
                of(key)
                    .as_ref()
                    .and_then(tenths_of)
                    .map_or_else(String::new, show)
            };
            let mut row = vec![
                one_line(name, MAX_CELL),
                of("count").as_ref().map_or_else(String::new, plain),
                cents("total"),
                tenths("share", percent),
            ];
            if before.is_some() {
                row.extend([cents("previous"), tenths("change_percent", signed_percent)]);
            }
            row
        };
        let name = |group: &Value| {
            group
                .get("name")
                .and_then(Value::as_str)
                .unwrap_or("?")
                .to_owned()
        };
        let rows: Vec<_> = groups
            .iter()
            .take(MAX_ROWS)
            .map(|group| row(&name(group), &|key| group.get(key).cloned()))
            .collect();
        self.rows += rows.len();
        let total = row("Total", &|key| {
            if key == "share" {
                Some(100.into())
            } else {
                fields.get(key).cloned()
            }
        });
        self.block(Block::Table(Table {
            columns,
            rows,
            total: Some(total),
        }));
        self.chart(&by, groups);
    }

    fn largest(&mut self, fields: &Map<String, Value>) {
        let largest = fields
            .get("largest")
            .and_then(Value::as_array)
            .filter(|rows| !rows.is_empty() && rows.iter().all(is_flat_object));
        if let Some(largest) = largest {
            self.block(Block::Heading("Largest expenses".to_owned()));
            self.partial = true;
            self.table(largest);
        }
    }

    fn chart(&mut self, by: &str, groups: &[Value]) {
        let bars: Vec<_> = groups
            .iter()
            .take(MAX_BARS)
            .filter_map(|group| {
                let total = group.get("total")?;
                let label = one_line(group.get("name")?.as_str()?, 40);
                Some(Bar {
                    label,
                    value: total.as_f64()?,
                    shown: dollars(cents_of(total)?),
                })
            })
            .collect();
        if bars.len() > 1 {
            if groups.len() > MAX_BARS {
                self.note(format!(
                    "The chart shows {MAX_BARS} of {} groups.",
                    groups.len()
                ));
            }
            self.block(Block::Chart(Chart {
                title: format!("Total by {}", by.to_lowercase()),
                bars,
            }));
        }
    }

    /// An object that is not known: single values as a table of two columns, the others below.
    fn fields(&mut self, fields: &Map<String, Value>, depth: usize) {
        const SHOWN_ELSEWHERE: [&str; 6] = ["text", "title", "headline", "notes", "note", "source"];
        let text = fields.get("text").and_then(Value::as_str).unwrap_or("");
        let is_said = |value: &Value| {
            value
                .as_str()
                .is_some_and(|v| v.len() > 60 && text.contains(v))
        };
        let others = || {
            let fields = fields.iter().filter(|(_, value)| !is_said(value));
            fields.filter(|(name, _)| !SHOWN_ELSEWHERE.contains(&name.as_str()))
        };
        let fits = |value: &Value| {
            let long = |text: &str| text.chars().count() > MAX_CELL;
            is_single(value) && !value.as_str().is_some_and(long)
        };
        let rows: Vec<_> = others()
            .filter(|(_, value)| fits(value) && !value.is_null())
            .map(|(name, value)| vec![title_of(name), shortened(&plain(value))])
            .collect();
        if !rows.is_empty() {
            self.block(Block::Table(Table {
                columns: vec![left(""), left("")],
                rows,
                total: None,
            }));
        }
        for (name, value) in others().filter(|(_, value)| !fits(value)) {
            self.block(Block::Heading(title_of(name)));
            self.add(value, depth + 1);
        }
    }

    fn table(&mut self, items: &[Value]) {
        let mut names: Vec<&String> = Vec::new();
        for name in items
            .iter()
            .filter_map(Value::as_object)
            .flat_map(Map::keys)
        {
            if !names.contains(&name) {
                names.push(name);
            }
        }
        if names.len() > MAX_COLUMNS {
            self.note(format!(
                "Tables show {MAX_COLUMNS} columns at most; {} are left out.",
                names.len() - MAX_COLUMNS
            ));
            names.truncate(MAX_COLUMNS);
        }
        let room = MAX_ROWS.saturating_sub(self.rows);
        if items.len() > room {
            self.note(format!(
                "Only {} of {} rows are shown.",
                thousands(room as u64),
                thousands(items.len() as u64)
            ));
        }
        let sums = self.dollars && !self.partial && items.len() > 1 && items.len() <= room;
        let items = items.get(..room).unwrap_or(items);
        self.rows += items.len();
        let kind = |name: &&String| {
            let kind = Kind::of(name, items);
            let bare = kind == Kind::Money && !self.dollars;
            if bare { Kind::Number } else { kind }
        };
        let kinds: Vec<Kind> = names.iter().map(kind).collect();
        let rows = items
            .iter()
            .map(|item| {
                names
                    .iter()
                    .zip(&kinds)
                    .map(|(name, kind)| kind.show(item.get(name.as_str()).unwrap_or(&Value::Null)))
                    .collect()
            })
            .collect();
        let columns = names
            .iter()
            .zip(&kinds)
            .map(|(name, kind)| Column {
                title: title_of(name),
                right: *kind != Kind::Text,
            })
            .collect();
        let total = sums.then(|| total_row(&names, items)).flatten();
        self.block(Block::Table(Table {
            columns,
            rows,
            total,
        }));
    }
}

/// How a column's values are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Text,
    Money,
    Number,
}

const MONEY: [&str; 5] = ["amount", "total", "previous", "change", "sum"];

impl Kind {
    fn of(name: &str, items: &[Value]) -> Self {
        let numbers = items
            .iter()
            .filter_map(|item| item.get(name))
            .all(|value| value.is_number() || value.is_null());
        match numbers {
            false => Self::Text,
            true if MONEY.contains(&name) => Self::Money,
            true => Self::Number,
        }
    }

    fn show(self, value: &Value) -> String {
        match (self, cents_of(value)) {
            (Self::Money, Some(cents)) => dollars(cents),
            _ => shortened(&plain(value)),
        }
    }
}

/// The sum of the amounts, if the rows have amounts.
fn total_row(names: &[&String], items: &[Value]) -> Option<Vec<String>> {
    let at = names
        .iter()
        .position(|name| *name == "amount")
        .filter(|at| *at > 0)?;
    let cents = items.iter().try_fold(0i64, |sum, item| {
        sum.checked_add(cents_of(item.get("amount")?)?)
    })?;
    let mut row = vec![String::new(); names.len()];
    *row.first_mut()? = "Total".to_owned();
    *row.get_mut(at)? = dollars(cents);
    Some(row)
}

/// The results of several tasks; rows are none, since the text of a result is sentences.
fn results(content: &Value) -> Option<&Vec<Value>> {
    let says = |item: &Value| {
        let text = item.get("text").and_then(Value::as_str);
        text.is_some_and(|text| text.ends_with(['.', '!', '?', '"']))
    };
    let items = content.as_array()?;
    (items.len() > 1 && items.iter().all(says)).then_some(items)
}

/// What the content says it is about: its own title or scope, or those of all its results.
fn own_title(content: &Value) -> Option<String> {
    if let Some(results) = results(content) {
        let mut titles: Vec<_> = results.iter().filter_map(own_title).collect();
        titles.dedup();
        return (!titles.is_empty()).then(|| one_line(&titles.join(" · "), MAX_TITLE));
    }
    let text = |key| {
        let text = content.get(key)?.as_str()?;
        Some(capitalised(&one_line(text, MAX_TITLE))).filter(|text| !text.is_empty())
    };
    text("title").or_else(|| text("scope"))
}

fn left(title: &str) -> Column {
    Column {
        title: title.to_owned(),
        right: false,
    }
}

fn right(title: &str) -> Column {
    Column {
        title: title.to_owned(),
        right: true,
    }
}

fn is_single(value: &Value) -> bool {
    !value.is_object() && !value.is_array()
}

fn is_flat_object(value: &Value) -> bool {
    value
        .as_object()
        .is_some_and(|fields| fields.values().all(is_single))
}

fn tenths_of(value: &Value) -> Option<i64> {
    #[expect(clippy::cast_possible_truncation, reason = "the cast saturates")]
    value.as_f64().map(|value| (value * 10.0).round() as i64)
}

/// A single value as people write it.
fn plain(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => one_line(text, MAX_PARAGRAPH),
        Value::Number(number) => number
            .as_u64()
            .filter(|n| *n > 9_999)
            .map_or_else(|| number.to_string(), thousands),
        Value::Bool(true) => "yes".to_owned(),
        Value::Bool(false) => "no".to_owned(),
        Value::Array(_) | Value::Object(_) => "…".to_owned(),
    }
}

fn shortened(text: &str) -> String {
    one_line(text, MAX_CELL)
}

/// White space made single spaces, control characters dropped, at most so many characters.
fn one_line(text: &str, most: usize) -> String {
    let mut line = String::new();
    let mut count = 0;
    for word in text.split_whitespace() {
        if count > 0 {
            line.push(' ');
            count += 1;
        }
        for character in word.chars().filter(|c| !c.is_control()) {
            if count >= most {
                line.push('…');
                return line;
            }
            line.push(character);
            count += 1;
        }
    }
    line
}

/// `change_percent` as a title: `Change percent`.
fn title_of(name: &str) -> String {
    capitalised(&shortened(&name.replace('_', " ")))
}

#[cfg(test)]
mod tests;
