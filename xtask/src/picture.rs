//! `cargo xtask picture`: runs `amcp demo` and draws its output as docs/demo.svg, so that the README shows a real run.
//!
//! Does not judge the run beyond its exit code.

use std::fmt::Write;

use crate::shell::{self, Problem, command, output, root};

/// The picture's path, from the workspace's folder.
const PICTURE: &str = "docs/demo.svg";
/// Longest line of the picture, in characters: as much as fits into a README.
const COLUMNS: usize = 112;
/// Height of a line and width of a character of the font, in pixels.
const LINE: usize = 18;
const CHARACTER: f32 = 7.25;

pub(crate) fn run() -> Result<(), Problem> {
    let data = root().join("target/picture-data");
    let amcp = shell::release()?;
    let mut demo = command(&amcp.to_string_lossy());
    demo.arg("demo").arg("--data").arg(&data);
    let printed = output(demo)?.replace(data.to_string_lossy().as_ref(), "./amcp-data");
    let picture = drawn(&printed);
    std::fs::write(root().join(PICTURE), picture)
        .map_err(|error| Problem::new(format!("{PICTURE}: {error}"), "is the folder writable?"))
}

/// Draws the text on a dark ground; the first character of a line chooses its colour.
fn drawn(text: &str) -> String {
    let lines: Vec<&str> = std::iter::once("$ amcp demo")
        .chain(text.trim_end().lines())
        .collect();
    let (width, height) = (COLUMNS as f32 * CHARACTER + 32.0, (lines.len() + 2) * LINE);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width:.0}\" height=\"{height}\" role=\"img\" \
         aria-label=\"What amcp demo prints\">\n<rect width=\"100%\" height=\"100%\" rx=\"8\" fill=\"#11151c\"/>\n\
         <g font-family=\"ui-monospace, Menlo, Consolas, monospace\" font-size=\"12\" xml:space=\"preserve\">\n"
    );
    for (number, line) in lines.iter().enumerate() {
        let y = (number + 1) * LINE + LINE / 2;
        let colour = colour(line);
        writeln!(
            svg,
            "<text x=\"16\" y=\"{y}\" fill=\"{colour}\">{}</text>",
            escaped(&cut(line))
        )
        .expect("a string takes every text");
    }
    svg.push_str("</g>\n</svg>\n");
    svg
}

fn colour(line: &str) -> &'static str {
    match line.trim_start().chars().next() {
        Some('$' | '>') => "#7dcfff",
        Some('✓') => "#9ece6a",
        Some('✗') => "#f7768e",
        Some('→') => "#e0af68",
        Some('=') => "#6b7394",
        _ => "#d5d9e5",
    }
}

fn cut(line: &str) -> String {
    if line.chars().count() <= COLUMNS {
        return line.to_owned();
    }
    line.chars().take(COLUMNS - 1).chain(['…']).collect()
}

fn escaped(line: &str) -> String {
    line.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_escaped_cut_and_coloured() {
        let long = format!("  ✓ <t1> {}", "x".repeat(200));
        let svg = drawn(&long);
        let line = svg
            .lines()
            .find(|line| line.contains("t1"))
            .expect("the line");
        assert!(
            line.contains("fill=\"#9ece6a\"") && line.contains("&lt;t1&gt;") && line.contains('…')
        );
        assert_eq!(svg.matches("<text").count(), 2, "the command and the line");
    }
}
