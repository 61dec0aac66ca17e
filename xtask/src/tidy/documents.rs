//! What a Markdown document may not promise: files that do not exist, xtask commands that are none.
//!
//! Does not judge prose, nor links to other hosts.

use crate::COMMANDS;
use crate::shell::Problem;

/// Judges one document; `exists` says whether a path, relative to it, is there.
pub(super) fn check(file: &str, text: &str, exists: impl Fn(&str) -> bool) -> Vec<Problem> {
    let mut problems = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let at = format!("{file}:{}", index + 1);
        for link in links(line).filter(|link| !exists(link)) {
            problems.push(Problem::new(
                format!("{at} points to {link}, which does not exist"),
                "correct the link; it is relative to the document",
            ));
        }
        for word in xtask_commands(line).filter(|word| !COMMANDS.contains(word)) {
            problems.push(Problem::new(
                format!("{at} names `cargo xtask {word}`, which is no command"),
                format!("there are: {}", COMMANDS.join(", ")),
            ));
        }
    }
    problems
}

/// The targets of `[text](target)` that are files, without their anchors.
fn links(line: &str) -> impl Iterator<Item = &str> {
    line.split("](")
        .skip(1)
        .filter_map(|rest| rest.split([')', ' ']).next())
        .filter(|target| !target.contains("://") && !target.starts_with("mailto:"))
        .filter_map(|target| target.split('#').next())
        .filter(|target| !target.is_empty())
}

/// The words that follow `cargo xtask`, where they are words.
fn xtask_commands(line: &str) -> impl Iterator<Item = &str> {
    line.split("cargo xtask ")
        .skip(1)
        .filter_map(|rest| rest.split(|c: char| !c.is_ascii_alphanumeric()).next())
        .filter(|word| !word.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn errors(text: &str) -> Vec<String> {
        check("README.md", text, |link| link == "docs/ARCHITECTURE.md")
            .into_iter()
            .map(|problem| problem.error)
            .collect()
    }

    #[test]
    fn a_dead_link_is_found_and_others_are_left_alone() {
        let text = "[map](docs/ARCHITECTURE.md#tree) [web](https://example.org/x) [here](#below)\n[gone](docs/GONE.md)";
        assert_eq!(
            errors(text),
            ["README.md:2 points to docs/GONE.md, which does not exist"]
        );
    }

    #[test]
    fn a_command_that_does_not_exist_is_found() {
        assert_eq!(
            errors("Run `cargo xtask test`, then `cargo xtask tset`."),
            ["README.md:1 names `cargo xtask tset`, which is no command"]
        );
    }
}
