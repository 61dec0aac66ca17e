//! A report as Markdown and as HTML.
//!
//! Trusts no text: whatever a result says is shown, never interpreted.

use super::document::{Block, Chart, Column, Document, Table};

/// The report in Markdown (GitHub's tables).
pub(super) fn markdown(document: &Document) -> String {
    let mut out = format!("# {}\n", md(&document.title));
    for block in &document.blocks {
        out.push('\n');
        match block {
            Block::Heading(text) => out.push_str(&format!("## {}\n", md(text))),
            Block::Paragraph(text) => out.push_str(&format!("{}\n", md(text))),
            Block::Table(table) => md_table(&mut out, table),
            Block::Chart(chart) => md_chart(&mut out, chart),
        }
    }
    if !document.notes.is_empty() {
        out.push('\n');
    }
    for note in &document.notes {
        out.push_str(&format!("- *{}*\n", md(note)));
    }
    out
}

/// Text in which Markdown finds nothing to interpret.
fn md(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 8);
    for (at, character) in text.chars().enumerate() {
        let is_number = || at > 0 && at < 10 && text.chars().take(at).all(|c| c.is_ascii_digit());
        let escapes = match character {
            '\\' | '`' | '*' | '_' | '[' | ']' | '#' | '|' | '~' | '!' | '$' => true,
            // At the beginning of a line these make a list or a rule.
            '-' | '+' | '=' => at == 0,
            '.' | ')' => is_number(),
            _ => false,
        };
        match character {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '\n' | '\r' => out.push(' '),
            other if escapes => out.extend(['\\', other]),
            other => out.push(other),
        }
    }
    out
}

fn md_table(out: &mut String, table: &Table) {
    let line = |cells: Vec<String>| format!("| {} |\n", cells.join(" | "));
    let columns = table.columns.iter();
    let rule = |column: &Column| if column.right { "---:" } else { "---" }.to_owned();
    out.push_str(&line(columns.clone().map(|c| md(&c.title)).collect()));
    out.push_str(&line(columns.map(rule).collect()));
    for row in &table.rows {
        out.push_str(&line(row.iter().map(|cell| md(cell)).collect()));
    }
    if let Some(total) = &table.total {
        let strong = |cell: &String| {
            if cell.is_empty() {
                String::new()
            } else {
                format!("**{}**", md(cell))
            }
        };
        out.push_str(&line(total.iter().map(strong).collect()));
    }
}

fn md_chart(out: &mut String, chart: &Chart) {
    const LONGEST: f64 = 30.0;
    let highest = chart.highest();
    out.push_str(&format!("**{}**\n\n```text\n", md(&chart.title)));
    for bar in &chart.bars {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "at most thirty"
        )]
        let length = (bar.value.abs() / highest * LONGEST).round() as usize;
        let label: String = bar.label.replace('`', "'").chars().take(24).collect();
        out.push_str(&format!(
            "{label:<24} {} {}\n",
            "█".repeat(length),
            bar.shown
        ));
    }
    out.push_str("```\n");
}

const STYLE: &str = "body{font:16px/1.5 system-ui,sans-serif;max-width:52rem;margin:2rem auto;padding:0 1rem;color:#1c2430}\
table{border-collapse:collapse;margin:1rem 0;width:100%}th,td{padding:.25rem .6rem;border-bottom:1px solid #d5dae1;text-align:left}\
.n{text-align:right;font-variant-numeric:tabular-nums}tfoot td{font-weight:bold;border-top:2px solid #8a94a3}\
.bar{display:grid;grid-template-columns:11rem 1fr 8rem;gap:.6rem;align-items:center}.bar i{display:block;height:1rem;background:#2961a8}\
.bar i.m{background:#b8382e}.notes{color:#5b6675;font-size:.85rem}";

/// The report as one HTML page without scripts.
pub(super) fn html(document: &Document) -> String {
    let title = esc(&document.title);
    let mut out = format!(
        "<!doctype html>\n<html lang=\"en\">\n<head><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\">\
         <title>{title}</title><style>{STYLE}</style></head>\n<body>\n<h1>{title}</h1>\n"
    );
    for block in &document.blocks {
        match block {
            Block::Heading(text) => out.push_str(&format!("<h2>{}</h2>\n", esc(text))),
            Block::Paragraph(text) => out.push_str(&format!("<p>{}</p>\n", esc(text))),
            Block::Table(table) => html_table(&mut out, table),
            Block::Chart(chart) => html_chart(&mut out, chart),
        }
    }
    if !document.notes.is_empty() {
        let notes: String = document
            .notes
            .iter()
            .map(|note| format!("<li>{}</li>", esc(note)))
            .collect();
        out.push_str(&format!("<ul class=\"notes\">{notes}</ul>\n"));
    }
    out.push_str("</body>\n</html>\n");
    out
}

fn esc(text: &str) -> String {
    let text = text.replace('&', "&amp;").replace('<', "&lt;");
    let text = text.replace('>', "&gt;").replace('"', "&quot;");
    text.replace('\'', "&#39;")
}

fn html_table(out: &mut String, table: &Table) {
    let row = |cells: &[String], tag: &str| -> String {
        let cells = cells.iter().zip(&table.columns).map(|(cell, column)| {
            let class = if column.right { " class=\"n\"" } else { "" };
            format!("<{tag}{class}>{}</{tag}>", esc(cell))
        });
        format!("<tr>{}</tr>", cells.collect::<String>())
    };
    let titles: Vec<_> = table
        .columns
        .iter()
        .map(|column| column.title.clone())
        .collect();
    let body: String = table.rows.iter().map(|cells| row(cells, "td")).collect();
    let foot = table.total.as_ref().map_or_else(String::new, |cells| {
        format!("<tfoot>{}</tfoot>", row(cells, "td"))
    });
    out.push_str(&format!(
        "<table><thead>{}</thead><tbody>{body}</tbody>{foot}</table>\n",
        row(&titles, "th")
    ));
}

fn html_chart(out: &mut String, chart: &Chart) {
    let highest = chart.highest();
    out.push_str(&format!("<h3>{}</h3>\n", esc(&chart.title)));
    for bar in &chart.bars {
        let class = if bar.value < 0.0 { " class=\"m\"" } else { "" };
        let percent = bar.value.abs() / highest * 100.0;
        let line = format!(
            "<div class=\"bar\"><span>{}</span><i{class} style=\"width:{percent:.1}%\"></i><span class=\"n\">{}</span></div>\n",
            esc(&bar.label),
            esc(&bar.shown)
        );
        out.push_str(&line);
    }
}
