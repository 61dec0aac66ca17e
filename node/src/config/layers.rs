//! Reads each setting from the first layer that has it: flags, the environment, the file, the default.
//!
//! Does not know what a setting means. Refuses unknown keys and variables by name and place.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};

use super::lists::closest;
use super::value::{HttpUrl, SettingValue};
use super::{Config, SETTINGS, Setting};
use crate::output::Trouble;

/// Variables that begin with `AMCP_` without being settings: the configuration file, and the binary that tests run.
const OTHER_VARIABLES: &[&str] = &["AMCP_CONFIG", "AMCP_BIN"];

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

/// A setting's text and its layer.
#[derive(Debug, Clone)]
pub(crate) struct Sourced {
    pub(crate) setting: &'static Setting,
    pub(crate) text: String,
    pub(crate) source: Source,
}

/// The layers above the defaults.
#[derive(Debug, Default)]
pub(crate) struct Inputs {
    /// Settings given as flags: key and text.
    pub(crate) flags: Vec<(&'static str, String)>,
    /// `--config`.
    pub(crate) file: Option<PathBuf>,
    pub(crate) environment: Vec<(OsString, OsString)>,
}

/// All settings: parsed, and as texts with their layers in the table's order.
#[derive(Debug)]
pub(crate) struct Loaded {
    pub(crate) config: Config,
    pub(crate) sourced: Vec<Sourced>,
}

impl Loaded {
    pub(crate) fn source(&self, key: &str) -> &Source {
        self.sourced
            .iter()
            .find(|sourced| sourced.setting.key == key)
            .map_or(&Source::Default, |sourced| &sourced.source)
    }
}

/// Reads all layers.
///
/// # Errors
/// Unknown keys and variables, values that do not parse, files that cannot be read.
pub(crate) fn load(inputs: &Inputs) -> Result<Loaded, Trouble> {
    let mut values: BTreeMap<&'static str, (String, Source)> = SETTINGS
        .iter()
        .map(|setting| (setting.key, (setting.default.to_owned(), Source::Default)))
        .collect();
    let environment = from_environment(&inputs.environment)?;
    let flags: Vec<_> = inputs
        .flags
        .iter()
        .map(|(key, text)| (*key, text.clone(), Source::Flag(flag_name(key))))
        .collect();
    let data = || {
        let given = flags
            .iter()
            .chain(&environment)
            .find(|(key, ..)| *key == "data");
        given.map_or("./amcp-data", |(_, text, _)| text)
    };
    let file = match find_file(inputs, data())? {
        Some(path) => from_file(&path)?,
        None => Vec::new(),
    };
    if let Some(host) = variable(&inputs.environment, "OLLAMA_HOST")? {
        let source = Source::Environment("OLLAMA_HOST".to_owned());
        let url = HttpUrl::from_ollama_host(&host)
            .map_err(|problem| unusable("ollama_url", &host, &source, &problem))?;
        values.insert("ollama_url", (url.show(), source));
    }
    // Later layers overwrite earlier ones.
    for (key, text, source) in file.into_iter().chain(environment).chain(flags) {
        values.insert(key, (text, source));
    }
    let mut sourced = Vec::with_capacity(SETTINGS.len());
    for setting in SETTINGS {
        let (text, source) = values
            .remove(setting.key)
            .expect("every setting has its default");
        (setting.check)(&text).map_err(|problem| {
            let shown = if setting.secret { "(secret)" } else { &text };
            unusable(setting.key, shown, &source, &problem)
        })?;
        sourced.push(Sourced {
            setting,
            text,
            source,
        });
    }
    let text_of = |key: &str| {
        sourced
            .iter()
            .find(|s| s.setting.key == key)
            .map_or("", |s| s.text.as_str())
    };
    let config = Config::from_texts(text_of)
        .map_err(|(key, problem)| Trouble::usage(format!("{key} is not usable: {problem}")))?;
    Ok(Loaded { config, sourced })
}

fn flag_name(key: &str) -> String {
    format!("--{}", key.replace('_', "-"))
}

fn unusable(key: &str, text: &str, source: &Source, problem: &str) -> Trouble {
    Trouble::usage(format!("'{text}' is not usable for {key} ({source})")).hint(problem)
}

type Layer = Vec<(&'static str, String, Source)>;

fn from_environment(environment: &[(OsString, OsString)]) -> Result<Layer, Trouble> {
    let mut layer = Vec::new();
    for (name, value) in environment {
        let Some(name) = name.to_str().filter(|name| name.starts_with("AMCP_")) else {
            continue;
        };
        if OTHER_VARIABLES.contains(&name) {
            continue;
        }
        let Some(setting) = SETTINGS.iter().find(|setting| setting.env() == name) else {
            let names = SETTINGS.iter().map(Setting::env);
            return Err(unknown("the environment variable", name, names));
        };
        let text = value
            .to_str()
            .ok_or_else(|| Trouble::usage(format!("the value of {name} is not UTF-8")))?;
        layer.push((
            setting.key,
            text.to_owned(),
            Source::Environment(name.to_owned()),
        ));
    }
    Ok(layer)
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

/// A file named by flag or variable must exist; those at the default places need not.
fn find_file(inputs: &Inputs, data: &str) -> Result<Option<PathBuf>, Trouble> {
    if let Some(path) = &inputs.file {
        return Ok(Some(path.clone()));
    }
    if let Some(path) = variable(&inputs.environment, "AMCP_CONFIG")? {
        return Ok(Some(PathBuf::from(path)));
    }
    let found = [
        PathBuf::from("amcp.toml"),
        Path::new(data).join("amcp.toml"),
    ];
    Ok(found.into_iter().find(|path| path.is_file()))
}

fn from_file(path: &Path) -> Result<Layer, Trouble> {
    let place = path.display();
    let text = std::fs::read_to_string(path).map_err(|error| {
        Trouble::usage(format!(
            "the configuration file {place} cannot be read: {error}"
        ))
        .hint("check --config and AMCP_CONFIG")
    })?;
    let table: toml::Table = text.parse().map_err(|error: toml::de::Error| {
        Trouble::usage(format!(
            "{place} is not TOML: {}",
            error.to_string().trim_end()
        ))
    })?;
    let mut layer = Vec::new();
    for (key, value) in table {
        let Some(setting) = SETTINGS.iter().find(|setting| setting.key == key) else {
            let keys = SETTINGS.iter().map(|setting| setting.key.to_owned());
            return Err(unknown(&format!("the key in {place}"), &key, keys));
        };
        let source = Source::File(path.to_owned());
        let text = match value {
            toml::Value::String(text) => text,
            toml::Value::Integer(number) => number.to_string(),
            toml::Value::Boolean(yes) => yes.to_string(),
            toml::Value::Float(_)
            | toml::Value::Datetime(_)
            | toml::Value::Array(_)
            | toml::Value::Table(_) => {
                let problem = format!("write {}", setting.kind);
                return Err(unusable(&key, &value.to_string(), &source, &problem));
            }
        };
        layer.push((setting.key, text, source));
    }
    Ok(layer)
}

fn unknown(what: &str, name: &str, known: impl Iterator<Item = String>) -> Trouble {
    let hint = match closest(name, known) {
        Some(candidate) => format!("did you mean {candidate}?"),
        None => "`amcp config show` lists all settings".to_owned(),
    };
    Trouble::usage(format!("{what} '{name}' is unknown")).hint(hint)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn env(pairs: &[(&str, &str)]) -> Vec<(OsString, OsString)> {
        pairs.iter().map(|(n, v)| (n.into(), v.into())).collect()
    }

    fn with_file(text: &str) -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("c.toml");
        std::fs::write(&path, text).unwrap();
        (folder, path)
    }

    #[test]
    fn flags_go_before_the_environment_before_the_file_before_the_default() {
        let (_folder, path) =
            with_file("model = \"file\"\nattempts = 7\nollama_url = \"http://file:1\"\n");
        let mut inputs = Inputs {
            flags: vec![("model", "flag".to_owned())],
            file: Some(path.clone()),
            environment: env(&[
                ("AMCP_MODEL", "env"),
                ("AMCP_RETAINED", "5"),
                ("OLLAMA_HOST", "host:2"),
            ]),
        };
        let loaded = load(&inputs).unwrap();
        assert_eq!(loaded.config.model.as_deref(), Some("flag"));
        assert_eq!(loaded.source("model"), &Source::Flag("--model".into()));
        assert_eq!(loaded.config.retained, 5);
        assert_eq!(loaded.config.attempts, 7);
        assert_eq!(loaded.source("attempts"), &Source::File(path));
        assert_eq!(loaded.source("offline"), &Source::Default);
        assert_eq!(loaded.config.ollama_url.as_str(), "http://file:1");
        inputs.file = None;
        inputs.flags.clear();
        let loaded = load(&inputs).unwrap();
        assert_eq!(loaded.config.model.as_deref(), Some("env"));
        assert_eq!(loaded.config.ollama_url.as_str(), "http://host:2");
        assert_eq!(
            loaded.source("ollama_url"),
            &Source::Environment("OLLAMA_HOST".into())
        );
        // A server's address alone chooses no LLM.
        assert_eq!(loaded.config.llm, super::super::value::LlmKind::Embedded);
    }

    #[test]
    fn what_is_not_understood_is_refused_with_name_place_and_advice() {
        let refused = |inputs: Inputs| load(&inputs).unwrap_err().to_string();
        let (_folder, path) = with_file("ollama_ur = \"http://x\"");
        let text = refused(Inputs {
            file: Some(path.clone()),
            ..Inputs::default()
        });
        assert!(
            text.contains("ollama_ur") && text.contains("did you mean ollama_url?"),
            "{text}"
        );
        assert!(text.contains(&path.display().to_string()), "{text}");

        let text = refused(Inputs {
            environment: env(&[("AMCP_MODLE", "x")]),
            ..Inputs::default()
        });
        assert!(text.contains("did you mean AMCP_MODEL?"), "{text}");

        let text = refused(Inputs {
            environment: env(&[("AMCP_ATTEMPTS", "many")]),
            ..Inputs::default()
        });
        assert!(
            text.contains("'many'") && text.contains("attempts") && text.contains("AMCP_ATTEMPTS"),
            "{text}"
        );

        let (_folder, path) = with_file("data = [1]");
        assert!(
            refused(Inputs {
                file: Some(path),
                ..Inputs::default()
            })
            .contains("data")
        );
        let (_folder, path) = with_file("data = ");
        assert!(
            refused(Inputs {
                file: Some(path),
                ..Inputs::default()
            })
            .contains("not TOML")
        );
        let missing = Inputs {
            file: Some("/nowhere/x.toml".into()),
            ..Inputs::default()
        };
        assert!(refused(missing).contains("/nowhere/x.toml"));
    }
}
