//! Checks that a source file does not contain text that its folder forbids.
//!
//! Reads text, not syntax: a file that needs forbidden text gets an exception here, with its reason.

use crate::shell::Problem;

/// Text that the shipped code of some folders must not contain.
struct Rule {
    needles: &'static [&'static str],
    /// Beginnings of the paths to which the rule applies.
    within: &'static [&'static str],
    /// Files to which it does not apply, with reasons.
    except: &'static [(&'static str, &'static str)],
    /// The reason, after "contains `needle`: ".
    why: &'static str,
    hint: &'static str,
}

const RULES: &[Rule] = &[
    Rule {
        needles: &["::now(", "::now_v7(", "::now_v1("],
        within: &["protocol/src/", "orchestrator/plan/src/"],
        except: &[],
        why: "pure code reads no clock",
        hint: "take the time as an argument; the shell reads the clock",
    },
    Rule {
        needles: &[
            "std::net::Tcp",
            "std::net::Udp",
            "tokio::net",
            "TcpListener",
            "TcpStream",
            "UdpSocket",
        ],
        within: &["protocol/src/", "orchestrator/plan/src/", "registry/src/"],
        except: &[],
        why: "only the gateway, connectors, LLM clients, the cluster's links and the node open sockets",
        hint: "move it to one of those, behind a port",
    },
    Rule {
        needles: &["std::env", "env::var", "env::args", "env::current_"],
        within: &[
            "protocol/src/",
            "orchestrator/src/",
            "orchestrator/planner/src/",
            "orchestrator/plan/src/",
            "registry/src/",
            "specialists/src/",
            "node/gateway/src/",
            "node/cluster/src/",
        ],
        except: &[],
        why: "only the node reads the environment",
        hint: "take it as configuration; node/ reads the environment",
    },
];

/// Judges one source file.
pub(super) fn check(file: &str, text: &str) -> Vec<Problem> {
    let mut problems = Vec::new();
    if !is_tests(file) && !text.trim_start_matches('\u{feff}').starts_with("//!") {
        problems.push(Problem::new(
            format!("{file} does not begin with `//!`"),
            "say in one sentence what the file is responsible for, and in one what it deliberately does not do",
        ));
    }
    for rule in RULES {
        if rule.within.iter().any(|folder| file.starts_with(folder))
            && !rule.except.iter().any(|(path, _)| *path == file)
        {
            problems.extend(shipped(file, text).filter_map(|(line, code)| {
                let needle = rule.needles.iter().find(|needle| code.contains(**needle))?;
                Some(Problem::new(
                    format!("{file}:{line} contains `{needle}`: {}", rule.why),
                    rule.hint,
                ))
            }));
        }
    }
    problems
}

/// The words of a source, also of its comments and strings.
pub(super) fn words(text: &str) -> impl Iterator<Item = &str> {
    let is_ident = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let words = text.split(move |c| !is_ident(c));
    words.filter(|word| !word.is_empty())
}

/// The names of a source's types and variants.
pub(super) fn items(text: &str) -> impl Iterator<Item = &str> {
    const KEYWORDS: [&str; 4] = ["struct", "enum", "trait", "type"];
    text.lines().filter_map(move |line| {
        let line = line.trim_start();
        let mut rest = words(line);
        if rest.by_ref().any(|word| KEYWORDS.contains(&word)) {
            return rest.next();
        }
        let variant = words(line).next().filter(|word| line.starts_with(word))?;
        let is_alone = line
            .get(variant.len()..)?
            .trim_start()
            .starts_with([',', '(', '{']);
        (is_alone && variant.starts_with(|c: char| c.is_ascii_uppercase())).then_some(variant)
    })
}

/// Whether a file is a test module, which the documentation of its parent covers.
fn is_tests(file: &str) -> bool {
    file.ends_with("tests.rs")
}

/// The numbered lines of shipped code: no comments, and nothing from the test module on, which by custom is the last item
/// or a separate file.
fn shipped<'a>(file: &str, text: &'a str) -> impl Iterator<Item = (usize, &'a str)> {
    let end = text.find("\n#[cfg(test)]\nmod tests {");
    let end = if is_tests(file) {
        0
    } else {
        end.unwrap_or(text.len())
    };
    let shipped = text.get(..end).unwrap_or(text);
    shipped
        .lines()
        .enumerate()
        .map(|(index, line)| (index + 1, line))
        .filter(|(_, line)| !line.trim_start().starts_with("//"))
}

/// Judges one TOML file: supervision needs unwinding.
pub(super) fn check_unwinding(file: &str, text: &str) -> Option<Problem> {
    let aborts = |line: &str| {
        let code = line.split('#').next().unwrap_or_default();
        let code: String = code.chars().filter(|c| !" \t\"'".contains(*c)).collect();
        code.contains("panic=abort")
    };
    let line = text.lines().position(aborts)?;
    Some(Problem::new(
        format!("{file}:{} sets panic = \"abort\"", line + 1),
        "remove it: a supervisor can only restart what unwinds",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn errors(file: &str, text: &str) -> Vec<String> {
        check(file, text).into_iter().map(|p| p.error).collect()
    }

    #[test]
    fn a_clock_in_pure_code_is_found_with_its_line() {
        let text = "//! Doc.\nfn f() { let t = Instant::now(); }\n";
        assert_eq!(
            errors("orchestrator/plan/src/machine.rs", text),
            ["orchestrator/plan/src/machine.rs:2 contains `::now(`: pure code reads no clock"]
        );
        assert!(errors("protocol/src/id.rs", "//! D\nlet id = Uuid::now_v7();\n").len() == 1);
        assert!(errors("registry/src/shell.rs", text).is_empty());
    }

    #[test]
    fn comments_and_tests_may_name_what_code_may_not_use() {
        let text = "//! D.\n// Instant::now() would be wrong.\n#[cfg(test)]\nmod tests { fn f() { Instant::now(); } }\n";
        assert!(errors("protocol/src/id.rs", text).is_empty());
        let clock = "//! D.\nfn f() { Instant::now(); }\n";
        assert!(errors("protocol/src/id/tests.rs", clock).is_empty());
        for declared in ["#[cfg(test)]\nmod tests;\n", "#[cfg(test)]\nuse a::B;\n"] {
            let before = clock.replace("fn f", &format!("{declared}fn f"));
            assert_eq!(errors("protocol/src/id.rs", &before).len(), 1, "{declared}");
        }
    }

    #[test]
    fn the_environment_is_read_by_the_node_alone() {
        let text = "//! D.\nlet url = std::env::var(\"OLLAMA_HOST\");\n";
        for file in [
            "orchestrator/src/llm.rs",
            "specialists/src/weather.rs",
            "node/gateway/src/lib.rs",
            "node/cluster/src/lib.rs",
        ] {
            assert_eq!(errors(file, text).len(), 1, "{file}");
        }
        for file in [
            "node/src/config.rs",
            "tests/src/lib.rs",
            "xtask/src/main.rs",
        ] {
            assert!(errors(file, text).is_empty(), "{file}");
        }
    }

    #[test]
    fn a_socket_in_the_registry_is_found() {
        let text = "//! D.\nuse tokio::net::TcpStream;\n";
        assert_eq!(errors("registry/src/peers.rs", text).len(), 1);
        assert!(errors("node/gateway/src/lib.rs", text).is_empty());
        assert!(errors("node/cluster/src/transport.rs", text).is_empty());
    }

    #[test]
    fn a_file_without_a_module_doc_is_found() {
        assert_eq!(
            errors("node/src/x.rs", "use std::fs;\n"),
            ["node/src/x.rs does not begin with `//!`"]
        );
    }

    #[test]
    fn a_profile_that_aborts_is_found_in_each_spelling() {
        for text in [
            "[profile.release]\npanic = \"abort\"\n",
            "\nprofile.release = { lto = true, panic = 'abort' }\n",
            "[build]\nrustflags = [\"-Cpanic=abort\"]",
        ] {
            assert!(check_unwinding("Cargo.toml", text).is_some(), "{text}");
        }
        let clean =
            "# no profile may set `panic = \"abort\"`\n[profile.release]\npanic = \"unwind\"\n";
        assert_eq!(check_unwinding("Cargo.toml", clean), None);
    }
}
