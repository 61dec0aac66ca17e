//! Checks which package depends on which, and that the pure packages reach no runtime.
//!
//! Reads no sources.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::shell::Problem;

/// The house: each package and the packages of the workspace that it may depend on, for building or testing. The outbound package makes
/// the HTTP clients of all that call other servers. The planner knows no actor and no registry: its catalogue is an argument. The
/// orchestrator finds agents at run time, the gateway asks other nodes through a port that the node implements, and access knows no request.
const ARROWS: &str = "\
amcp-protocol:
amcp-outbound:
amcp-journal: amcp-protocol
amcp-plan: amcp-protocol
amcp-planner: amcp-outbound amcp-protocol amcp-plan
amcp-registry: amcp-protocol
amcp-specialists: amcp-outbound amcp-protocol amcp-registry
amcp-orchestrator: amcp-journal amcp-protocol amcp-plan amcp-planner amcp-registry
amcp-access: amcp-outbound amcp-protocol
amcp-gateway: amcp-access amcp-protocol amcp-plan amcp-registry amcp-orchestrator
amcp-cluster: amcp-protocol amcp-registry
amcp: amcp-access amcp-cluster amcp-journal amcp-outbound amcp-protocol amcp-plan amcp-planner amcp-registry amcp-orchestrator amcp-gateway amcp-specialists
amcp-tests: amcp-access amcp-cluster amcp-outbound amcp-protocol amcp-plan amcp-planner amcp-registry amcp-orchestrator amcp-gateway amcp-specialists amcp
xtask:";

fn arrows() -> BTreeMap<&'static str, Vec<&'static str>> {
    let lines = ARROWS.lines().filter_map(|line| line.split_once(':'));
    lines
        .map(|(package, may)| (package, may.split_whitespace().collect()))
        .collect()
}

/// The packages that a package may not reach through any dependency: pure packages have no runtime, no actor and no socket;
/// planners call model servers, but know no actor; the journal has a thread of its own; access also serves faces without HTTP.
pub(super) const BARRED: &[(&str, &[&str])] = &[
    ("amcp-protocol", IMPURE),
    ("amcp-plan", IMPURE),
    ("amcp-planner", &["ractor", "ractor_cluster"]),
    ("amcp-journal", IMPURE),
    ("amcp-access", &["ractor", "ractor_cluster", "axum"]),
];

const IMPURE: &[&str] = &[
    "tokio",
    "ractor",
    "ractor_cluster",
    "mio",
    "socket2",
    "async-std",
    "smol",
];

/// The workspace's packages and the dependencies of each, from `cargo metadata`.
pub(super) fn packages(metadata: &Value) -> BTreeMap<String, BTreeSet<String>> {
    let list = |value: &Value, key: &str| -> Vec<Value> {
        let list = value.get(key).and_then(Value::as_array);
        list.cloned().unwrap_or_default()
    };
    let name = |value: &Value| -> String {
        let name = value.get("name").and_then(Value::as_str);
        name.unwrap_or_default().to_owned()
    };
    list(metadata, "packages")
        .iter()
        .map(|package| {
            let dependencies = list(package, "dependencies");
            (name(package), dependencies.iter().map(name).collect())
        })
        .collect()
}

/// The workspace's packages and their folders, relative to the workspace's folder.
pub(super) fn folders(metadata: &Value) -> Vec<(String, String)> {
    let text = |value: &Value, key: &str| Some(value.get(key)?.as_str()?.replace('\\', "/"));
    let Some(root) = text(metadata, "workspace_root") else {
        return Vec::new();
    };
    let folder = |package: &Value| {
        let manifest = text(package, "manifest_path")?;
        let folder = manifest.strip_prefix(&root)?.strip_suffix("/Cargo.toml")?;
        Some((
            text(package, "name")?,
            folder.trim_start_matches('/').to_owned(),
        ))
    };
    let packages = metadata.get("packages").and_then(Value::as_array);
    packages.into_iter().flatten().filter_map(folder).collect()
}

/// Packages that sources call by another name.
const CRATES: &[(&str, &str)] = &[("rustls-webpki", "webpki")];

/// Judges whether the sources of a package name all its dependencies.
pub(super) fn check_used(
    package: &str,
    packages: &BTreeMap<String, BTreeSet<String>>,
    used: impl Fn(&str) -> bool,
) -> Vec<Problem> {
    let unused = |dependency: &&String| {
        let other = CRATES.iter().find(|(name, _)| name == dependency);
        !other.map_or_else(
            || used(&dependency.replace('-', "_")),
            |(_, name)| used(name),
        )
    };
    let dependencies = packages.get(package).into_iter().flatten();
    let problem = |dependency: &String| {
        Problem::new(
            format!("{package} depends on {dependency}, which none of its sources names"),
            "remove it from the package's Cargo.toml",
        )
    };
    dependencies.filter(unused).map(problem).collect()
}

/// Judges the dependencies between the workspace's packages.
pub(super) fn check(packages: &BTreeMap<String, BTreeSet<String>>) -> Vec<Problem> {
    let known = arrows();
    let mut problems = Vec::new();
    for package in known.keys().filter(|name| !packages.contains_key(**name)) {
        problems.push(Problem::new(
            format!("package {package} does not exist, so tidy cannot check it"),
            "update xtask/src/tidy/arrows.rs and docs/ARCHITECTURE.md",
        ));
    }
    for (package, dependencies) in packages {
        let Some(allowed) = known.get(package.as_str()) else {
            problems.push(Problem::new(
                format!("package {package} has no place in the house"),
                "give it one in xtask/src/tidy/arrows.rs, with an ADR",
            ));
            continue;
        };
        let inside = dependencies
            .iter()
            .filter(|name| packages.contains_key(*name));
        for dependency in inside.filter(|name| !allowed.contains(&name.as_str())) {
            problems.push(Problem::new(
                format!("{package} depends on {dependency}, which no arrow allows"),
                "move the code to a package that both may use; a new arrow needs an ADR",
            ));
        }
    }
    problems
}

/// Judges the output of `cargo tree --prefix none --format {p}` for a package with barred dependencies.
pub(super) fn check_barred(package: &str, barred: &[&str], tree: &str) -> Vec<Problem> {
    let names: BTreeSet<&str> = tree
        .lines()
        .filter_map(|line| line.split_whitespace().next())
        .collect();
    if !names.contains(package) {
        return vec![Problem::new(
            format!("cargo tree does not list {package}"),
            "update BARRED in xtask/src/tidy/arrows.rs",
        )];
    }
    barred
        .iter()
        .filter(|name| names.contains(*name))
        .map(|name| {
            Problem::new(
                format!("{package} may not reach {name}, which is among its dependencies"),
                format!("`cargo tree -p {package} -e normal -i {name}` shows the way to it"),
            )
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn house() -> BTreeMap<String, BTreeSet<String>> {
        let house = arrows().into_iter().map(|(name, allowed)| {
            let dependencies = allowed.into_iter().chain(["serde"]);
            (name.to_owned(), dependencies.map(str::to_owned).collect())
        });
        house.collect()
    }

    fn errors(problems: Vec<Problem>) -> Vec<String> {
        problems.into_iter().map(|problem| problem.error).collect()
    }

    #[test]
    fn the_house_as_drawn_passes() {
        assert_eq!(check(&house()), []);
    }

    #[test]
    fn an_arrow_that_nobody_drew_is_found() {
        let mut house = house();
        let orchestrator = house.get_mut("amcp-orchestrator").unwrap();
        orchestrator.insert("amcp-specialists".into());
        assert_eq!(
            errors(check(&house)),
            ["amcp-orchestrator depends on amcp-specialists, which no arrow allows"]
        );
    }

    #[test]
    fn a_renamed_package_is_found_from_both_ends() {
        let mut house = house();
        house.remove("amcp-plan");
        house.insert("amcp-planning".into(), BTreeSet::new());
        let errors = errors(check(&house));
        assert!(
            errors
                .iter()
                .any(|e| e.starts_with("package amcp-plan does not exist"))
        );
        assert!(errors.contains(&"package amcp-planning has no place in the house".to_owned()));
    }

    #[test]
    fn metadata_gives_packages_and_their_dependencies_of_every_kind() {
        let metadata = serde_json::json!({"packages": [{"name": "a", "dependencies": [
            {"name": "b", "kind": null}, {"name": "c", "kind": "dev"},
        ]}]});
        let expected = BTreeSet::from(["b".to_owned(), "c".to_owned()]);
        assert_eq!(
            packages(&metadata),
            BTreeMap::from([("a".to_owned(), expected)])
        );
    }

    #[test]
    fn a_dependency_that_no_source_names_is_found() {
        let metadata = serde_json::json!({"workspace_root": "/x", "packages": [
            {"name": "a", "manifest_path": "/x/a/b/Cargo.toml", "dependencies": [
                {"name": "used-so"}, {"name": "rustls-webpki"}, {"name": "idle"},
            ]},
        ]});
        assert_eq!(folders(&metadata), [("a".to_owned(), "a/b".to_owned())]);
        let used = |name: &str| ["used_so", "webpki"].contains(&name);
        assert_eq!(
            errors(check_used("a", &packages(&metadata), used)),
            ["a depends on idle, which none of its sources names"]
        );
    }

    #[test]
    fn a_runtime_beneath_a_pure_package_is_found_and_its_namesakes_are_not() {
        let clean = "amcp-plan v0.1.0 (/x)\nserde v1.0.0\ntokio-like v1.0.0\n";
        assert_eq!(check_barred("amcp-plan", IMPURE, clean), []);
        let dirty = format!("{clean}tokio v1.4.0\nractor v0.16.5 (*)\n");
        assert_eq!(
            errors(check_barred("amcp-plan", IMPURE, &dirty)),
            [
                "amcp-plan may not reach tokio, which is among its dependencies",
                "amcp-plan may not reach ractor, which is among its dependencies",
            ]
        );
        assert_eq!(
            errors(check_barred("amcp-plan", IMPURE, "")),
            ["cargo tree does not list amcp-plan"]
        );
    }
}
