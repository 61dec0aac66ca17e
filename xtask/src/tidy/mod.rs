//! `cargo xtask tidy`: checks the invariants of docs/ARCHITECTURE.md that reading can check.
//!
//! Gathers the files; the judges are pure functions in [`arrows`], [`sources`] and [`documents`].

mod arrows;
mod documents;
mod sources;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use crate::shell::{self, Problem, cargo, output, root};

pub(crate) fn run() -> Result<(), Problem> {
    let metadata = shell::metadata()?;
    let packages = arrows::packages(&metadata);
    let mut problems = arrows::check(&packages);
    for (package, barred) in arrows::BARRED {
        let mut tree = cargo();
        tree.args(["tree", "--package", package, "--edges", "normal"])
            .args(["--prefix", "none", "--format", "{p}", "--target", "all"]);
        problems.extend(arrows::check_barred(package, barred, &output(tree)?));
    }
    let mut items = BTreeSet::new();
    let mut words: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for path in files(root(), &["rs"])? {
        let text = read(&path)?;
        let mut folders = path.ancestors();
        if let Some(package) = folders.find(|folder| folder.join("Cargo.toml").is_file()) {
            let words = words.entry(name(package)).or_default();
            words.extend(sources::words(&text).map(str::to_owned));
        }
        problems.extend(sources::check(&name(&path), &text));
        items.extend(sources::items(&text).map(str::to_owned));
    }
    for (package, folder) in arrows::folders(&metadata) {
        let used = |name: &str| words.get(&folder).is_some_and(|words| words.contains(name));
        problems.extend(arrows::check_used(&package, &packages, used));
    }
    for path in files(root(), &["toml"])? {
        problems.extend(sources::check_unwinding(&name(&path), &read(&path)?));
    }
    let records = files(&root().join("docs/adr"), &["md"])?;
    let records = records.iter().filter_map(|path| path.file_name()?.to_str());
    problems.extend(documents::check_numbers(records));
    for path in files(root(), &["md"])? {
        let exists = |link: &str| path.with_file_name("").join(link).exists();
        let (name, text) = (name(&path), read(&path)?);
        problems.extend(documents::check(&name, &text, exists));
        // The changelog also names deleted files.
        if name == "README.md" || name.starts_with("docs/") {
            let exists = |file: &str| root().join(file).exists();
            let is_item = |item: &str| items.contains(item);
            problems.extend(documents::check_names(&name, &text, exists, is_item));
        }
    }
    match problems.len() {
        0 => Ok(()),
        n => {
            for problem in &problems {
                eprintln!("{problem}");
            }
            Err(Problem::new(
                format!("tidy found {n} violation{}", if n == 1 { "" } else { "s" }),
                "each violation above has a hint",
            ))
        }
    }
}

/// The path relative to the workspace's folder, with forward slashes.
fn name(path: &Path) -> String {
    path.strip_prefix(root())
        .unwrap_or(path)
        .to_string_lossy()
        .replace('\\', "/")
}

fn read(path: &Path) -> Result<String, Problem> {
    std::fs::read_to_string(path).map_err(|error| {
        Problem::new(
            format!("{}: {error}", name(path)),
            "sources and documents are UTF-8 text",
        )
    })
}

/// All files with one of these endings, sorted, without hidden ones (but `.cargo`) and build results.
fn files(folder: &Path, endings: &[&str]) -> Result<Vec<PathBuf>, Problem> {
    let unreadable = |error: std::io::Error| {
        Problem::new(
            format!("{}: {error}", folder.display()),
            "tidy reads the whole tree",
        )
    };
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if path.is_dir() {
            let skipped = name.starts_with('.') && name != ".cargo" || name == "target";
            if !skipped && name != "amcp-data" {
                found.extend(files(&path, endings)?);
            }
        } else if path
            .extension()
            .is_some_and(|ending| endings.iter().any(|wanted| ending == *wanted))
        {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}
