//! Parses and shows each kind of setting.
//!
//! Does not know which settings there are.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use amcp_planner::client::parse_ollama_url;

/// A type that a setting can have. `show` writes what `parse` reads.
pub(crate) trait SettingValue: Sized {
    /// The form of its texts, for docs/CONFIG.md.
    const KIND: &'static str;
    /// Whether the value must stay hidden.
    const SECRET: bool = false;
    /// The error completes "… is not usable: ".
    fn parse(text: &str) -> Result<Self, String>;
    fn show(&self) -> String;
}

impl<T: SettingValue> SettingValue for Option<T> {
    const KIND: &'static str = T::KIND;
    const SECRET: bool = T::SECRET;

    fn parse(text: &str) -> Result<Self, String> {
        (!text.is_empty()).then(|| T::parse(text)).transpose()
    }

    fn show(&self) -> String {
        self.as_ref().map_or_else(String::new, T::show)
    }
}

impl SettingValue for String {
    const KIND: &'static str = "text";

    fn parse(text: &str) -> Result<Self, String> {
        Ok(text.to_owned())
    }

    fn show(&self) -> String {
        self.clone()
    }
}

impl SettingValue for PathBuf {
    const KIND: &'static str = "path";

    fn parse(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Err("a path is needed".to_owned());
        }
        Ok(Self::from(text))
    }

    fn show(&self) -> String {
        self.display().to_string()
    }
}

impl SettingValue for bool {
    const KIND: &'static str = "`true` or `false`";

    fn parse(text: &str) -> Result<Self, String> {
        match text {
            "true" | "1" | "yes" | "on" => Ok(true),
            "false" | "0" | "no" | "off" => Ok(false),
            _ => Err("write true or false".to_owned()),
        }
    }

    fn show(&self) -> String {
        self.to_string()
    }
}

macro_rules! counts {
    ($($type:ty),*) => {$(
        impl SettingValue for $type {
            const KIND: &'static str = "number";

            fn parse(text: &str) -> Result<Self, String> {
                match text.parse() {
                    Ok(0) => Err("it must be at least 1".to_owned()),
                    Ok(number) => Ok(number),
                    Err(_) => Err(format!("write a whole number from 1 to {}", Self::MAX)),
                }
            }

            fn show(&self) -> String {
                self.to_string()
            }
        }
    )*};
}

counts!(u32, usize);

/// A longer duration is a mistake of units; instants overflow only far beyond.
const MAX_DURATION: Duration = Duration::from_secs(24 * 60 * 60);

impl SettingValue for Duration {
    const KIND: &'static str = "duration";

    fn parse(text: &str) -> Result<Self, String> {
        let digits = text
            .find(|c: char| !c.is_ascii_digit())
            .unwrap_or(text.len());
        let (number, unit) = text.split_at(digits);
        let unit_ms: u64 = match unit {
            "ms" => 1,
            "s" => 1_000,
            "m" | "min" => 60_000,
            "h" => 3_600_000,
            _ => return Err("write a number and a unit: ms, s, m or h, such as 30s".to_owned()),
        };
        let duration = number
            .parse::<u64>()
            .ok()
            .and_then(|number| number.checked_mul(unit_ms))
            .map(Duration::from_millis)
            .ok_or("write a number and a unit: ms, s, m or h, such as 30s")?;
        if duration.is_zero() || duration > MAX_DURATION {
            return Err("it must be more than 0 and at most 24h".to_owned());
        }
        Ok(duration)
    }

    fn show(&self) -> String {
        let ms = self.as_millis();
        for (unit, unit_ms) in [("h", 3_600_000), ("m", 60_000), ("s", 1_000)] {
            // Minutes and hours only from five on: people write time-outs as 90s and 120s.
            if ms.is_multiple_of(unit_ms) && (unit == "s" || ms >= unit_ms * 5) {
                return format!("{}{unit}", ms / unit_ms);
            }
        }
        format!("{ms}ms")
    }
}

impl SettingValue for SocketAddr {
    const KIND: &'static str = "address:port";

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
    pub(crate) fn from_ollama_host(text: &str) -> Result<Self, String> {
        let url = parse_ollama_url(text).map_err(|error| error.to_string())?;
        Self::parse(url.as_str())
    }
}

impl SettingValue for HttpUrl {
    const KIND: &'static str = "http:// or https:// URL";

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

/// A text that no output shows.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Secret(String);

impl Secret {
    pub(crate) fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text, for the code that must send it.
    pub(crate) fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

impl SettingValue for Secret {
    const KIND: &'static str = "secret text";
    const SECRET: bool = true;

    fn parse(text: &str) -> Result<Self, String> {
        Ok(Self::new(text))
    }

    fn show(&self) -> String {
        "(secret)".to_owned()
    }
}

macro_rules! choices {
    ($(#[$doc:meta])* $name:ident, $kind:literal, $($(#[$variant_doc:meta])* $variant:ident = $text:literal,)*) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(crate) enum $name { $($(#[$variant_doc])* $variant,)* }

        impl SettingValue for $name {
            const KIND: &'static str = $kind;

            fn parse(text: &str) -> Result<Self, String> {
                match text {
                    $($text => Ok(Self::$variant),)*
                    _ => Err(format!("choose one of {}", [$($text),*].join(", "))),
                }
            }

            fn show(&self) -> String {
                match self { $(Self::$variant => $text.to_owned(),)* }
            }
        }
    };
}

choices! {
    /// The planner.
    LlmKind, "`embedded`, `ollama` or `openai`",
    /// The embedded planner: no LLM.
    Embedded = "embedded",
    /// An Ollama server.
    Ollama = "ollama",
    /// A server that speaks `/v1/chat/completions`.
    Openai = "openai",
}

choices! {
    /// The form of the log.
    LogFormat, "`human` or `json`",
    /// Text.
    Human = "human",
    /// One JSON object per line.
    Json = "json",
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
            ("1h", 3_600_000),
        ] {
            assert_eq!(Duration::parse(text).unwrap(), Duration::from_millis(ms));
        }
        for bad in [
            "",
            "30",
            "s",
            "0s",
            "-1s",
            "1.5s",
            "25h",
            "99999999999999999999s",
            "1d",
        ] {
            assert!(Duration::parse(bad).is_err(), "{bad:?}");
        }
        for text in ["250ms", "1500ms", "1s", "90s", "120s", "10m", "24h"] {
            assert_eq!(Duration::parse(text).unwrap().show(), text);
        }
    }

    #[test]
    fn a_secret_is_not_shown() {
        let secret = Secret::parse("sk-123").unwrap();
        assert!(!format!("{secret:?} {}", secret.show()).contains("123"));
        assert_eq!(secret.reveal(), "sk-123");
    }

    #[test]
    fn urls_are_checked() {
        assert_eq!(
            HttpUrl::parse("http://x:1/v1/").unwrap().as_str(),
            "http://x:1/v1"
        );
        for bad in [
            "x",
            "127.0.0.1:11434",
            "ftp://x",
            "http://u:p@x",
            "http://x?y=1",
            "",
        ] {
            assert!(HttpUrl::parse(bad).is_err(), "{bad:?}");
        }
    }
}
