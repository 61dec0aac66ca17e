//! Reads each setting from the first layer that has it: flags, the environment, the file, the default.
//!
//! Does not know what a setting means. Refuses what it does not understand, with the place.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};

use serde::Deserializer;
use serde_json::Value;
use toml::Table;

use super::Config;
use super::lists::closest;
use super::schema::{self, Setting, settings};
use super::value::{HttpUrl, Written};
use crate::output::Trouble;

/// The configuration file's name in the user's folder of configurations.
const USER_FILE: &str = "amcp/amcp.toml";
const OF_USER: &str = "user folder";
/// Variables that begin with `AMCP_` without being settings: the configuration file, the key of the command line's user, and the binary
/// that tests run.
const OTHER_VARIABLES: &[&str] = &[
    "AMCP_CONFIG",
    crate::client::KEY_VARIABLE,
    crate::client::URL_VARIABLE,
    "AMCP_BIN",
];

/// `roles` named the node's parts once.
const PARTS_HINT: &str = "the parts of a node are the setting `parts` (--parts, AMCP_PARTS); [roles.NAME] has the rules of a role";

/// The layer that a setting comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Source {
    Flag(String),
    Environment(String),
    File(PathBuf),
    Default,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag(flag) => write!(f, "flag {flag}"),
            Self::Environment(name) => write!(f, "environment {name}"),
            Self::File(path) => write!(f, "file {}", path.display()),
            Self::Default => f.write_str("default"),
        }
    }
}

/// The layers above the defaults.
#[derive(Default, Clone)]
pub(crate) struct Inputs {
    /// Settings given as flags, as texts.
    pub(crate) flags: Vec<(&'static Setting, String)>,
    /// `--config`.
    pub(crate) file: Option<PathBuf>,
    pub(crate) environment: Vec<(OsString, OsString)>,
}

impl fmt::Debug for Inputs {
    /// Without the environment, which holds secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inputs").finish_non_exhaustive()
    }
}

/// All settings and their layers.
#[derive(Debug)]
pub(crate) struct Loaded {
    pub(crate) config: Config,
    /// The file that was read, and how it was found.
    pub(crate) file: Option<(PathBuf, &'static str)>,
    /// What the user should know although the settings are usable.
    pub(crate) warnings: Vec<String>,
    inputs: Inputs,
    sources: BTreeMap<&'static str, Source>,
}

impl Loaded {
    pub(crate) fn source(&self, path: &str) -> &Source {
        self.sources.get(path).unwrap_or(&Source::Default)
    }

    /// Each setting with its value; secrets are hidden.
    pub(crate) fn values(&self) -> impl Iterator<Item = (&'static Setting, Value)> {
        let tree = serde_json::to_value(&self.config).unwrap_or_default();
        settings().iter().map(move |setting| {
            let pointer = format!("/{}", setting.path.replace('.', "/"));
            (setting, schema::at(&tree, &pointer).clone())
        })
    }

    /// The file that was read, for people.
    pub(crate) fn file_said(&self) -> String {
        match &self.file {
            Some((path, found)) => format!("configuration file: {} ({found})", path.display()),
            None => "configuration file: none".to_owned(),
        }
    }

    /// Writes to the log which file was read, and the warnings.
    pub(crate) fn warn(&self) {
        tracing::info!("{}", self.file_said());
        for warning in &self.warnings {
            tracing::warn!("{warning}");
        }
    }

    /// The keys of the settings that differ from those of `other`, except for secrets: those that a running node takes over, or the others.
    pub(crate) fn changed(&self, other: &Self, live: bool) -> String {
        let pairs = self.values().zip(other.values());
        let changed = pairs.filter(|((setting, a), (_, b))| setting.is_live() == live && a != b);
        let keys: Vec<&str> = changed
            .map(|((setting, _), _)| setting.path.as_str())
            .collect();
        if keys.is_empty() {
            "nothing".to_owned()
        } else {
            keys.join(", ")
        }
    }

    /// Reads all layers again.
    ///
    /// # Errors
    /// Those of [`load`].
    pub(crate) fn again(&self) -> Result<Self, Trouble> {
        load(&self.inputs)
    }
}

/// Reads all layers.
///
/// # Errors
/// Values that do not fit, unknown keys of the file, a file that cannot be read.
pub(crate) fn load(inputs: &Inputs) -> Result<Loaded, Trouble> {
    let mut tree = Table::new();
    let mut sources = BTreeMap::new();
    let mut layer = |setting: &'static Setting, value: toml::Value, source: Source| {
        put(&mut tree, &setting.path, value);
        sources.insert(setting.path.as_str(), source);
    };
    if let Some((setting, value, source)) = ollama_host(&inputs.environment)? {
        layer(setting, value, source);
    }
    let file = find_file(inputs)?;
    if let Some((path, _)) = &file {
        let table = from_file(path)?;
        for setting in settings() {
            let mut keys = setting.path.split('.');
            let table = toml::Value::Table(table.clone());
            if let Some(value) = keys.try_fold(&table, |table, key| table.get(key)) {
                layer(setting, value.clone(), Source::File(path.clone()));
            }
        }
    }
    let (variables, mut warnings) = from_environment(&inputs.environment)?;
    let flags = inputs.flags.iter().filter_map(|(setting, text)| {
        let flag = setting.flag()?;
        Some(textual(setting, &flag, text, Source::Flag(flag.clone())))
    });
    for given in variables.into_iter().map(Ok).chain(flags) {
        if let Some((setting, value, source)) = given? {
            layer(setting, value, source);
        }
    }
    if file.as_ref().is_none_or(|(_, found)| *found == OF_USER) && Path::new("amcp.toml").is_file()
    {
        warnings.push("./amcp.toml is not read, since anybody may have written it: name it with --config or AMCP_CONFIG".to_owned());
    }
    Ok(Loaded {
        config: judged(toml::Value::Table(tree), |_| {
            "the settings together".to_owned()
        })?,
        file,
        warnings,
        inputs: inputs.clone(),
        sources,
    })
}

type Given = (&'static Setting, toml::Value, Source);

/// Reads one text, by itself, so that its fault is not that of another source. An empty text says nothing.
fn textual(
    setting: &'static Setting,
    name: &str,
    text: &str,
    source: Source,
) -> Result<Option<Given>, Trouble> {
    if text.is_empty() {
        return Ok(None);
    }
    let place = source.to_string();
    let value = setting
        .read(name, text)
        .map_err(|problem| unusable(&place, &setting.path, &problem))?;
    let mut alone = Table::new();
    put(&mut alone, &setting.path, value.clone());
    judged(toml::Value::Table(alone), |_| place.clone())?;
    Ok(Some((setting, value, source)))
}

fn put(tree: &mut Table, path: &str, value: toml::Value) {
    match path.split_once('.') {
        None => drop(tree.insert(path.to_owned(), value)),
        Some((key, rest)) => {
            let inner = tree.entry(key).or_insert_with(|| Table::new().into());
            if let toml::Value::Table(inner) = inner {
                put(inner, rest, value);
            }
        }
    }
}

/// A variable of another program, below the file.
fn ollama_host(environment: &[(OsString, OsString)]) -> Result<Option<Given>, Trouble> {
    const NAME: &str = "OLLAMA_HOST";
    let setting = settings().iter().find(|s| s.path == "ollama_url");
    let (Some(host), Some(setting)) = (variable(environment, NAME)?, setting) else {
        return Ok(None);
    };
    let source = Source::Environment(NAME.to_owned());
    let url = HttpUrl::from_ollama_host(&host)
        .map_err(|problem| unusable(&source.to_string(), &setting.path, &problem))?;
    Ok(Some((setting, url.show().into(), source)))
}

fn from_environment(
    environment: &[(OsString, OsString)],
) -> Result<(Vec<Option<Given>>, Vec<String>), Trouble> {
    let mut layer = Vec::new();
    let mut warnings = Vec::new();
    for (name, _) in environment {
        let Some(name) = name.to_str().filter(|name| name.starts_with("AMCP_")) else {
            continue;
        };
        let Some(setting) = settings()
            .iter()
            .find(|setting| setting.variables().iter().any(|known| known == name))
        else {
            if name == "AMCP_ROLES" {
                return Err(Trouble::usage("AMCP_ROLES is no setting").hint(PARTS_HINT));
            }
            if !OTHER_VARIABLES.contains(&name) && !of_a_service(name) {
                let known = settings().iter().flat_map(Setting::variables);
                let meant = closest(name, known).map(|meant| format!("; did you mean {meant}?"));
                let meant = meant.unwrap_or_default();
                warnings.push(format!(
                    "the environment variable {name} is no setting{meant}"
                ));
            }
            continue;
        };
        let text = variable(environment, name)?.unwrap_or_default();
        let source = Source::Environment(name.to_owned());
        layer.push(textual(setting, name, &text, source)?);
    }
    Ok((layer, warnings))
}

/// Whether Kubernetes sets the variable for a service whose name begins with `amcp`.
fn of_a_service(name: &str) -> bool {
    name.contains("_SERVICE_HOST")
        || name.contains("_SERVICE_PORT")
        || name.split_once("_PORT").is_some_and(|(_, rest)| {
            let rest = rest.strip_prefix('_');
            rest.is_none_or(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
        })
}

fn variable(environment: &[(OsString, OsString)], name: &str) -> Result<Option<String>, Trouble> {
    let Some((_, value)) = environment.iter().find(|(n, _)| n == name) else {
        return Ok(None);
    };
    match value.to_str() {
        Some("") => Ok(None),
        Some(text) => Ok(Some(text.to_owned())),
        None => Err(Trouble::usage(format!("the value of {name} is not UTF-8"))),
    }
}

/// The file and how it was found. A file named by flag or variable must exist; the user's need not. The current folder and the
/// data folder are not searched: what lies there may be somebody else's (ADR-0019).
fn find_file(inputs: &Inputs) -> Result<Option<(PathBuf, &'static str)>, Trouble> {
    if let Some(path) = &inputs.file {
        return Ok(Some((path.clone(), "--config")));
    }
    let named = |name| variable(&inputs.environment, name);
    if let Some(path) = named("AMCP_CONFIG")? {
        return Ok(Some((path.into(), "AMCP_CONFIG")));
    }
    // The XDG specification ignores relative paths.
    let folder = |path: Option<String>| path.map(PathBuf::from).filter(|path| path.is_absolute());
    let of_home = || Some(folder(named("HOME").ok()?)?.join(".config"));
    let user = folder(named("XDG_CONFIG_HOME")?).or_else(of_home);
    let found = user.map(|user| user.join(USER_FILE));
    Ok(found
        .filter(|path| path.is_file())
        .map(|path| (path, OF_USER)))
}

/// Reads and judges a configuration file.
///
/// # Errors
/// Line, column and key of the first fault; or the file holds a secret and others may read it.
pub(crate) fn from_file(path: &Path) -> Result<Table, Trouble> {
    let shown = path.display();
    let unreadable = |error: std::io::Error| {
        Trouble::usage(format!(
            "the configuration file {shown} cannot be read: {error}"
        ))
        .hint("check --config and AMCP_CONFIG")
    };
    let text = std::fs::read_to_string(path).map_err(unreadable)?;
    let place = |at: Option<Range<usize>>| {
        let before = at.and_then(|at| text.get(..at.start)).unwrap_or_default();
        let line = before.matches('\n').count() + 1;
        let column = before.chars().rev().take_while(|c| *c != '\n').count() + 1;
        format!("{shown}:{line}:{column}")
    };
    let no_toml = |error: toml::de::Error| {
        // The text itself may hold a secret.
        let place = place(error.span());
        Trouble::usage(format!("{place}: this is not TOML: {}", error.message()))
    };
    let table: Table = toml::from_str(&text).map_err(no_toml)?;
    let read = toml::Deserializer::parse(&text).map_err(no_toml)?;
    let config = judged(read, place)?;
    config.check_access()?;
    if config.holds_secrets() && is_open(path).map_err(unreadable)? {
        return Err(Trouble::usage(format!("{shown} holds a secret, and other users may read it")).hint(
            format!("chmod 600 {shown}, or write {{ file = \"PATH\" }} or {{ env = \"VARIABLE\" }} in place of the secret"),
        ));
    }
    Ok(table)
}

#[cfg(unix)]
fn is_open(path: &Path) -> std::io::Result<bool> {
    use std::os::unix::fs::PermissionsExt;
    Ok(path.metadata()?.permissions().mode() & 0o044 != 0)
}

#[cfg(not(unix))]
fn is_open(_: &Path) -> std::io::Result<bool> {
    Ok(false)
}

/// Reads the settings; a fault says its place, its key and what is allowed there.
fn judged<'de, D: Deserializer<'de, Error = toml::de::Error>>(
    read: D,
    place: impl Fn(Option<Range<usize>>) -> String,
) -> Result<Config, Trouble> {
    serde_path_to_error::deserialize(read).map_err(|error| {
        let path = error.path().to_string();
        let error = error.into_inner();
        let place = place(error.span());
        // The words are those of serde's own trait: `unknown field`, and the names that it knows, between backticks.
        let mut names = error.message().split('`').skip(1).step_by(2);
        let kinds = ["unknown field", "unknown variant"];
        let unknown = kinds.iter().any(|kind| error.message().starts_with(kind));
        let Some(name) = names.next().filter(|_| unknown) else {
            return unusable(&place, &path, error.message());
        };
        let known: Vec<String> = names.map(str::to_owned).collect();
        let hint = match closest(name, known.iter().cloned()) {
            Some(meant) => format!("did you mean {meant}?"),
            None if known.len() < 10 => format!("choose from {}", known.join(", ")),
            None => "`amcp config show` lists all settings".to_owned(),
        };
        let shown = if path.ends_with(name) {
            String::new()
        } else {
            format!(" for {path}")
        };
        Trouble::usage(format!("{place}: '{name}' is unknown{shown}")).hint(hint)
    })
}

fn unusable(place: &str, path: &str, problem: &str) -> Trouble {
    let trouble = Trouble::usage(format!("{place}: {path} is not usable: {problem}"));
    match settings().iter().find(|setting| setting.path == path) {
        Some(_) if path == "roles" => trouble.hint(PARTS_HINT),
        Some(setting) => trouble.hint(format!("{path} takes {}", setting.allowed())),
        None => trouble,
    }
}

#[cfg(test)]
mod tests;
