//! The types that settings have, beyond those of the standard library: how each is written as text.
//!
//! Does not know which settings there are.

use std::borrow::Cow;
use std::fmt;
use std::net::SocketAddr;
use std::ops::Deref;
use std::path::PathBuf;
use std::time::Duration;

use amcp_planner::client::parse_ollama_url;
use jiff::SignedDuration;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A type that the file writes as one text. `show` writes what `parse` reads.
pub(crate) trait Written: Sized {
    /// The form of its texts, for people.
    const FORM: &'static str;
    /// The error says how to write the text; it never repeats the text, which may hold a password.
    fn parse(text: &str) -> Result<Self, String>;
    fn show(&self) -> String;
}

/// A setting that is [`Written`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Text<T>(pub(crate) T);

impl<T: Written> Text<T> {
    /// A default.
    pub(super) fn known(text: &str) -> Self {
        Self(T::parse(text).expect("a test reads all defaults"))
    }
}

impl<T> Deref for Text<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<'de, T: Written> Deserialize<'de> for Text<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        T::parse(&text).map(Self).map_err(D::Error::custom)
    }
}

impl<T: Written> Serialize for Text<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.show())
    }
}

impl<T: Written> JsonSchema for Text<T> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        T::FORM.into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "string", "format": T::FORM})
    }
}

/// A longer duration is a mistake of units; instants overflow only far beyond.
const MAX_DURATION: Duration = Duration::from_secs(24 * 60 * 60);

impl Written for Duration {
    const FORM: &'static str = "duration";

    fn parse(text: &str) -> Result<Self, String> {
        let read = text.parse::<SignedDuration>().ok();
        let read = read.ok_or("write numbers with units: ms, s, m or h, such as 30s or 1m30s")?;
        match Self::try_from(read) {
            Ok(duration) if !duration.is_zero() && duration <= MAX_DURATION => Ok(duration),
            _ => Err("it must be more than 0 and at most 24h".to_owned()),
        }
    }

    fn show(&self) -> String {
        SignedDuration::try_from(*self).map_or_else(
            |_| format!("{}s", self.as_secs()),
            |shown| format!("{shown:#}").replace(' ', ""),
        )
    }
}

impl Written for SocketAddr {
    const FORM: &'static str = "address:port";

    fn parse(text: &str) -> Result<Self, String> {
        let explicit = match text.strip_prefix("localhost:") {
            Some(port) => format!("127.0.0.1:{port}"),
            None => text.to_owned(),
        };
        explicit
            .parse()
            .map_err(|_| "write an IP address and a port, such as 127.0.0.1:8080".to_owned())
    }

    fn show(&self) -> String {
        self.to_string()
    }
}

/// The address of an HTTP server, without a slash at its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct HttpUrl(String);

impl HttpUrl {
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// Reads OLLAMA_HOST, which may leave out the scheme, the host or the port.
    pub(super) fn from_ollama_host(text: &str) -> Result<Self, String> {
        let url = parse_ollama_url(text)
            .map_err(|_| "write it as host:port, or as http://host:port".to_owned())?;
        Self::parse(url.as_str())
    }
}

impl Written for HttpUrl {
    const FORM: &'static str = "http or https URL";

    fn parse(text: &str) -> Result<Self, String> {
        let url = reqwest::Url::parse(text)
            .map_err(|error| format!("write a URL such as http://127.0.0.1:11434 ({error})"))?;
        if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
            return Err("write a URL that begins with http:// or https://".to_owned());
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err("credentials must not stand in a URL".to_owned());
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err("leave out what follows the path".to_owned());
        }
        Ok(Self(text.trim_end_matches('/').to_owned()))
    }

    fn show(&self) -> String {
        self.0.clone()
    }
}

/// The place of the journal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum JournalPlace {
    /// Requests end with the process.
    Memory,
    /// In the data folder.
    Data,
    /// In this folder.
    Folder(PathBuf),
}

impl Written for JournalPlace {
    const FORM: &'static str = "`file`, `file:FOLDER` or `memory`";

    fn parse(text: &str) -> Result<Self, String> {
        match (text, text.strip_prefix("file:")) {
            ("memory", _) => Ok(Self::Memory),
            ("file", _) => Ok(Self::Data),
            (_, Some(folder)) if !folder.is_empty() => Ok(Self::Folder(folder.into())),
            _ => Err(format!("write {}", Self::FORM)),
        }
    }

    fn show(&self) -> String {
        match self {
            Self::Memory => "memory".to_owned(),
            Self::Data => "file".to_owned(),
            Self::Folder(folder) => format!("file:{}", folder.display()),
        }
    }
}

/// Stands for a secret in every output.
pub(super) const HIDDEN: &str = "(secret)";
/// The form of a [`Secret`] in the schema.
pub(super) const SECRET: &str = "secret";

/// A secret, or the place that holds it. No output shows the secret; the place is none.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Secret {
    Literal(String),
    /// The path of a file that holds nothing but the secret.
    File(PathBuf),
    /// The name of an environment variable.
    Env(String),
}

impl Secret {
    /// Fetches the secret, without the white space around it, for the code that must send it.
    ///
    /// # Errors
    /// The place and why it cannot be read.
    pub(crate) fn reveal(&self) -> Result<String, String> {
        let text = match self {
            Self::Literal(text) => text.clone(),
            Self::File(path) => std::fs::read_to_string(path)
                .map_err(|error| format!("the file {} cannot be read: {error}", path.display()))?,
            Self::Env(name) => std::env::var(name)
                .map_err(|_| format!("the environment variable {name} is not set to a text"))?,
        };
        Ok(text.trim().to_owned())
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

impl<'de> Deserialize<'de> for Secret {
    /// By way of a value, because an error of serde would repeat the text.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = toml::Value::deserialize(deserializer)?;
        if let Some(text) = value.as_str() {
            return Ok(Self::Literal(text.to_owned()));
        }
        let only = value.as_table().filter(|table| table.len() == 1);
        let place = |key| only?.get(key)?.as_str();
        match (place("file"), place("env")) {
            (Some(path), _) => Ok(Self::File(path.into())),
            (None, Some(name)) => Ok(Self::Env(name.to_owned())),
            (None, None) => Err(D::Error::custom(
                "write { file = \"PATH\" } or { env = \"VARIABLE\" }",
            )),
        }
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Literal(_) => serializer.serialize_str(HIDDEN),
            Self::File(path) => serializer.collect_map([("file", path)]),
            Self::Env(name) => serializer.collect_map([("env", name)]),
        }
    }
}

impl JsonSchema for Secret {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        SECRET.into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let place = |doc| json_schema!({"type": "string", "description": doc});
        json_schema!({
            "type": ["string", "object"],
            "format": SECRET,
            "properties": {
                "file": place("A file that holds nothing but the secret."),
                "env": place("An environment variable that holds the secret."),
            },
            "additionalProperties": false,
            "minProperties": 1,
            "maxProperties": 1,
        })
    }
}

/// The planner.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum LlmKind {
    // No LLM.
    #[default]
    Embedded,
    Ollama,
    // A server that speaks `/v1/chat/completions`.
    Openai,
}

/// The form of the log.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum LogFormat {
    #[default]
    Human,
    // One object per line.
    Json,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_units() {
        for (text, ms) in [
            ("250ms", 250),
            ("30s", 30_000),
            ("2m", 120_000),
            ("1m30s", 90_000),
            ("1h", 3_600_000),
        ] {
            let duration = Duration::parse(text).unwrap();
            assert_eq!(duration, Duration::from_millis(ms));
            assert_eq!(duration.show(), text);
        }
        for bad in [
            "",
            "30",
            "s",
            "0s",
            "-1s",
            "25h",
            "99999999999999999999s",
            "1d",
        ] {
            assert!(Duration::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_secret_is_fetched_from_its_place_and_never_shown() {
        let read = |text: &str| toml::Value::try_from(text).unwrap().try_into::<Secret>();
        let secret = read("sk-123").unwrap();
        let shown = serde_json::to_string(&secret).unwrap();
        assert_eq!(format!("{secret:?} {shown}"), r#"Secret "(secret)""#);
        assert_eq!(secret.reveal().unwrap(), "sk-123");

        let from = |text: &str| toml::from_str::<toml::Table>(text).unwrap()["k"].clone();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        std::fs::write(&path, " sk-456\n").unwrap();
        let secret: Secret = from(&format!("k = {{ file = '{}' }}", path.display()))
            .try_into()
            .unwrap();
        assert_eq!(secret.reveal().unwrap(), "sk-456");
        let secret: Secret = from("k = { env = 'AMCP_NO_SUCH_KEY' }").try_into().unwrap();
        assert!(secret.reveal().unwrap_err().contains("AMCP_NO_SUCH_KEY"));
        for bad in [
            "k = 123",
            "k = ['sk-1']",
            "k = {}",
            "k = { file = 'a', env = 'sk-1' }",
            "k = { fiel = 'sk-1' }",
        ] {
            let error = from(bad).try_into::<Secret>().unwrap_err().to_string();
            assert!(
                !error.contains("sk-1") && !error.contains("123"),
                "{bad}: {error}"
            );
        }
    }

    #[test]
    fn urls_are_checked_and_their_passwords_not_repeated() {
        assert_eq!(
            HttpUrl::parse("http://x:1/v1/").unwrap().as_str(),
            "http://x:1/v1"
        );
        for bad in [
            "x",
            "127.0.0.1:11434",
            "ftp://x",
            "http://u:p4ss@x",
            "http://u:p4ss@x:y",
            "http://x?y=1",
            "",
        ] {
            assert!(
                !HttpUrl::parse(bad).unwrap_err().contains("p4ss"),
                "{bad:?}"
            );
            let host = HttpUrl::from_ollama_host(bad).err();
            assert!(!host.is_some_and(|e| e.contains("p4ss")), "{bad:?}");
        }
    }
}
