//! Reads the addresses of LLM servers in all common forms.
//!
//! Does not read the environment: `OLLAMA_HOST` comes in as an argument.

use reqwest::Url;

/// Ollama's own port.
const OLLAMA_PORT: u16 = 11_434;

/// The fault of an address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{text}' is not the address of an LLM server: {reason}")]
pub struct UrlError {
    text: String,
    reason: String,
}

/// Reads an Ollama address as Ollama reads `OLLAMA_HOST`: `host`, `host:port`, `:port`, `http://host/prefix`; without a
/// scheme the default port is 11434. The addresses `0.0.0.0` and `::`, on which servers listen, become loopback.
///
/// # Errors
/// [`UrlError`] names the fault.
pub fn parse_ollama_url(text: &str) -> Result<Url, UrlError> {
    let bare = text.trim().trim_matches(['"', '\'']).trim();
    if bare.is_empty() {
        return parse(text, &format!("http://127.0.0.1:{OLLAMA_PORT}"));
    }
    if bare.contains("://") {
        return parse(text, bare);
    }
    let (host, path) = bare.split_once('/').unwrap_or((bare, ""));
    let host = if host.matches(':').count() > 1 && !host.starts_with('[') {
        format!("[{host}]")
    } else if host.starts_with(':') || host.is_empty() {
        format!("127.0.0.1{host}")
    } else {
        host.to_owned()
    };
    let has_port = host
        .rsplit_once(':')
        .is_some_and(|(_, port)| !port.contains(']'));
    let port = if has_port {
        String::new()
    } else {
        format!(":{OLLAMA_PORT}")
    };
    parse(text, &format!("http://{host}{port}/{path}"))
}

/// Reads the address of an OpenAI-style server, with or without `/v1` at its end.
///
/// # Errors
/// [`UrlError`] names the fault.
pub fn parse_openai_url(text: &str) -> Result<Url, UrlError> {
    let bare = text.trim().trim_matches(['"', '\'']).trim();
    let mut url = if bare.contains("://") {
        parse(text, bare)?
    } else {
        parse(text, &format!("http://{bare}"))?
    };
    let path = url.path().trim_end_matches('/');
    let path = path.strip_suffix("/v1").unwrap_or(path).to_owned();
    url.set_path(&path);
    Ok(url)
}

fn parse(original: &str, text: &str) -> Result<Url, UrlError> {
    let wrong = |reason: &str| UrlError {
        text: original.chars().take(200).collect(),
        reason: reason.to_owned(),
    };
    let mut url = Url::parse(text).map_err(|e| wrong(&e.to_string()))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(wrong("the scheme must be http or https"));
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(wrong("it must not have a query or a fragment"));
    }
    let loopback = match url.host_str() {
        None | Some("") => return Err(wrong("it names no host")),
        Some("0.0.0.0") => Some("127.0.0.1"),
        Some("[::]") => Some("[::1]"),
        Some(_) => None,
    };
    if loopback.is_some() {
        url.set_host(loopback).map_err(|e| wrong(&e.to_string()))?;
    }
    Ok(url)
}

/// The address without user and password, for messages.
pub(crate) fn shown(url: &Url) -> String {
    let mut url = url.clone();
    // Both only fail for addresses without a host, which are refused above.
    let _ = url.set_username("");
    let _ = url.set_password(None);
    url.as_str().trim_end_matches('/').to_owned()
}

/// The address of a resource below the prefix.
pub(crate) fn join(base: &Url, path: &str) -> Url {
    let mut url = base.clone();
    url.set_path(&format!("{}{path}", base.path().trim_end_matches('/')));
    url
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_people_write_for_ollama() {
        for (text, url) in [
            ("", "http://127.0.0.1:11434/"),
            ("0.0.0.0", "http://127.0.0.1:11434/"),
            ("0.0.0.0:8080", "http://127.0.0.1:8080/"),
            (":8080", "http://127.0.0.1:8080/"),
            ("[::]", "http://[::1]:11434/"),
            ("::1", "http://[::1]:11434/"),
            ("[::1]:99", "http://[::1]:99/"),
            ("gpu-box", "http://gpu-box:11434/"),
            ("gpu-box/llm", "http://gpu-box:11434/llm"),
            (" \"gpu-box:80\" ", "http://gpu-box/"),
            ("http://gpu-box", "http://gpu-box/"),
            ("https://example.com/ollama/", "https://example.com/ollama/"),
        ] {
            assert_eq!(parse_ollama_url(text).unwrap().as_str(), url, "{text}");
        }
        for bad in ["ftp://host", "http://", "host:port", "http://h/?a=b", "a b"] {
            let error = parse_ollama_url(bad).unwrap_err().to_string();
            assert!(error.contains(bad), "{error}");
        }
    }

    #[test]
    fn v1_is_not_doubled_and_a_prefix_is_kept() {
        for text in ["http://h:1/p", "http://h:1/p/v1", "http://h:1/p/v1/"] {
            let url = parse_openai_url(text).unwrap();
            assert_eq!(join(&url, "/v1/models").as_str(), "http://h:1/p/v1/models");
        }
        let url = parse_ollama_url("http://h/a/b/").unwrap();
        assert_eq!(join(&url, "/api/chat").as_str(), "http://h/a/b/api/chat");
    }

    #[test]
    fn a_password_is_not_shown() {
        let url = parse_ollama_url("http://me:secret@h/x").unwrap();
        assert_eq!(shown(&url), "http://h/x");
    }
}
