//! Refuses documents that name files, types or xtask commands that do not exist.
//!
//! Does not judge prose or links to other hosts.

use std::collections::BTreeMap;

use crate::COMMANDS;
use crate::shell::Problem;

/// Judges one document; `exists` says whether a path relative to it exists.
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
                format!("the commands are: {}", COMMANDS.join(", ")),
            ));
        }
    }
    problems
}

/// Judges the names of the decision records: two may not have the same number.
pub(super) fn check_numbers<'a>(records: impl Iterator<Item = &'a str>) -> Vec<Problem> {
    let mut taken = BTreeMap::new();
    let numbered = records.filter_map(|record| Some((record.split_once('-')?.0, record)));
    let again =
        numbered.filter_map(|(number, record)| Some((taken.insert(number, record)?, record)));
    let problem = |(first, second)| {
        Problem::new(
            format!("docs/adr/{first} and docs/adr/{second} have the same number"),
            "give the later record the next free number",
        )
    };
    again.map(problem).collect()
}

/// Types and paths in backticks from outside of this tree, each with its origin.
const FOREIGN: &[(&str, &str)] = &[
    ("RactorClusterMessage", "a macro of ractor_cluster"),
    ("ActorRef", "a type of ractor"),
    ("reports/", "a folder of a node's data"),
    ("./amcp.toml", "a user's file"),
    ("gateway/", "node/gateway before ADR-0010"),
    ("deploy/", "node/deploy before ADR-0010"),
];

/// Judges the names in a document's backticks: paths relative to the workspace's folder and types.
pub(super) fn check_names(
    file: &str,
    text: &str,
    exists: impl Fn(&str) -> bool,
    is_item: impl Fn(&str) -> bool,
) -> Vec<Problem> {
    let mut problems = Vec::new();
    let mut is_code = false;
    for (index, line) in text.lines().enumerate() {
        if line.trim_start().starts_with("```") {
            is_code = !is_code;
        }
        // An indented block is a drawing.
        if is_code || line.starts_with("    ") {
            continue;
        }
        let at = format!("{file}:{}", index + 1);
        for span in line.split('`').skip(1).step_by(2) {
            let is_foreign = |name: &str| FOREIGN.iter().any(|(foreign, _)| *foreign == name);
            if is_path(span) && !exists(span) && !is_foreign(span) {
                problems.push(Problem::new(
                    format!("{at} names the file `{span}`, which does not exist"),
                    "paths in backticks are relative to the workspace's folder",
                ));
            }
            let name = type_name(span).filter(|name| !is_item(name) && !is_foreign(name));
            if let Some(name) = name {
                problems.push(Problem::new(
                    format!("{at} names the type `{name}`, which does not exist"),
                    "correct it, or list it in FOREIGN of xtask/src/tidy/documents.rs with its reason",
                ));
            }
        }
    }
    problems
}

/// Whether a text in backticks is a path of the workspace: a folder with a slash at its end, or a source or document.
fn is_path(span: &str) -> bool {
    const ENDINGS: [&str; 5] = [".rs", ".md", ".toml", ".yaml", "/"];
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "_-./".contains(c);
    let begins = |c: char| c.is_ascii_alphabetic() || c == '.';
    span.contains('/')
        && span.starts_with(begins)
        && span.chars().all(is_plain)
        && ENDINGS.iter().any(|ending| span.ends_with(ending))
}

/// The type that a text in backticks names, such as `Wire` of `Wire<T>`, `Record` of `Record::commit`, `RequestActor`. A
/// name with a single capital counts only with such a suffix: `Location` is a header.
fn type_name(span: &str) -> Option<&str> {
    let is_ident = |c: char| c.is_ascii_alphanumeric();
    let end = span.find(|c| !is_ident(c)).unwrap_or(span.len());
    let (name, rest) = span.split_at(end);
    let mut letters = name.chars();
    let is_camel =
        letters.next()?.is_ascii_uppercase() && name.contains(|c: char| c.is_ascii_lowercase());
    let humps = letters.filter(char::is_ascii_uppercase).count();
    let is_named = humps > 0 && rest.is_empty();
    (is_camel && (is_named || rest.starts_with('<') || rest.starts_with("::"))).then_some(name)
}

/// The file targets of `[text](target)`, without their anchors.
fn links(line: &str) -> impl Iterator<Item = &str> {
    line.split("](")
        .skip(1)
        .filter_map(|rest| rest.split([')', ' ']).next())
        .filter(|target| !target.contains("://") && !target.starts_with("mailto:"))
        .filter_map(|target| target.split('#').next())
        .filter(|target| !target.is_empty())
}

/// The words after `cargo xtask`.
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
    fn paths_and_types_in_backticks_exist() {
        let text = "`plan/src/` and `plan/gone.rs`, `GET /x/`, `a/b`; `Wire<T>`, `RequestActor`, `Location`, `Record::commit`, \
                    `A2A`, `GoneActor`\n```\n`x/y.rs` `NoSuch`\n```\n    `x/y.rs`";
        let problems = check_names(
            "README.md",
            text,
            |path| path == "plan/src/",
            |name| ["RequestActor", "Record"].contains(&name),
        );
        let errors: Vec<_> = problems.into_iter().map(|problem| problem.error).collect();
        assert_eq!(
            errors,
            [
                "README.md:1 names the file `plan/gone.rs`, which does not exist",
                "README.md:1 names the type `Wire`, which does not exist",
                "README.md:1 names the type `GoneActor`, which does not exist",
            ]
        );
    }

    #[test]
    fn two_decisions_with_one_number_are_found() {
        let records = ["0001-a.md", "0002-b.md", "0002-c.md"];
        let problems = check_numbers(records.into_iter());
        let errors: Vec<_> = problems.into_iter().map(|problem| problem.error).collect();
        assert_eq!(
            errors,
            ["docs/adr/0002-b.md and docs/adr/0002-c.md have the same number"]
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
