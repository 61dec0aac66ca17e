//! The entrance that every request passes before its route: the request must be addressed to this node by a name of its own,
//! and no web page of another origin may have sent it.
//!
//! Does not verify users: [`crate::auth`] does.

use std::net::IpAddr;
use std::sync::Arc;

use amcp_protocol::{ErrorCode, Failure};
use axum::extract::{Request, State};
use axum::http::uri::Authority;
use axum::http::{HeaderName, HeaderValue, StatusCode, Uri, Version, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use crate::problem::Problem;
use crate::reply::{self, Form};

/// Longest path and query, in bytes: several times the longest file name with each byte escaped.
const MAX_URI: usize = 4 * 1024;

/// The names under which clients reach this node. IP addresses and `localhost` always count: no page can make a browser
/// send them in place of the page's host name.
#[derive(Debug, Clone, Default)]
pub struct Names {
    hosts: Vec<String>,
    /// The origin of `public_url`, which a proxy may hide behind another `Host`.
    public: Option<Origin>,
}

/// Scheme, host and port.
type Origin = (String, String, u16);

impl Names {
    /// The host of each URL, the origin of the first, and further host names.
    #[must_use]
    pub fn new<'a>(
        public_url: Option<&str>,
        other_urls: impl IntoIterator<Item = &'a str>,
        hosts: impl IntoIterator<Item = &'a str>,
    ) -> Self {
        let public = public_url.and_then(origin);
        let others = other_urls.into_iter().filter_map(origin);
        let of_urls = public.clone().into_iter().chain(others);
        let of_urls = of_urls.map(|(_, host, _)| host);
        let hosts = hosts.into_iter().map(plain);
        Self {
            hosts: of_urls.chain(hosts).collect(),
            public,
        }
    }

    fn has(&self, host: &str) -> bool {
        let host = plain(host);
        let is_address = host.trim_matches(['[', ']']).parse::<IpAddr>().is_ok();
        is_address || host == "localhost" || self.hosts.contains(&host)
    }

    /// # Errors
    /// 414 for a long URI; `bad_request` without one `Host`; `not_permitted` for a foreign `Host` or `Origin`.
    fn judge(&self, request: &Request) -> Result<(), Problem> {
        let (uri, version) = (request.uri(), request.version());
        if uri.path_and_query().map_or(0, |path| path.as_str().len()) > MAX_URI {
            let message = format!("the path and the query have more than {MAX_URI} bytes");
            let failure = Failure::new(ErrorCode::TooLarge, message).hint("shorten them");
            return Err(Problem::with_status(StatusCode::URI_TOO_LONG, failure));
        }
        let host = match uri.authority() {
            Some(authority) => Some(authority.clone()),
            None => one(request, header::HOST)?
                .map(|host| authority(&host))
                .transpose()?,
        };
        let origin = one(request, header::ORIGIN)?;
        let Some(host) = host else {
            // Some health checks speak HTTP/1.0; browsers do not.
            return if version < Version::HTTP_11 && origin.is_none() {
                Ok(())
            } else {
                let hint = "name the node's host and port in the Host header";
                Err(Problem::bad_request("the Host header is missing", hint))
            };
        };
        if !self.has(host.host()) {
            let host = shown(host.host());
            let message = format!("'{host}' is no name of this node");
            let hint =
                "use public_url, localhost or an IP address; `http_hosts` adds names of the node";
            return Err(Failure::new(ErrorCode::NotPermitted, message)
                .hint(hint)
                .into());
        }
        match origin {
            Some(origin) if !self.is_own(&origin, &host) => {
                let message = "requests from web pages of other origins are refused";
                Err(Failure::new(ErrorCode::NotPermitted, message)
                    .hint("send the request without an Origin header, from a program; for a page behind a proxy set public_url")
                    .into())
            }
            _ => Ok(()),
        }
    }

    /// Whether this node served the page: from the address that the request names, or from `public_url`.
    fn is_own(&self, page: &str, host: &Authority) -> bool {
        let uri = page.parse::<Uri>().ok();
        let authority = uri.as_ref().and_then(Uri::authority);
        authority.is_some_and(|page| page.as_str().eq_ignore_ascii_case(host.as_str()))
            || self.public.is_some() && origin(page) == self.public
    }
}

/// Passes a request on, or answers with the refusal.
pub(crate) async fn enter(
    State(names): State<Arc<Names>>,
    request: Request,
    next: Next,
) -> Response {
    let is_plain = Form::of(request.headers()) == Some(Form::Plain);
    let mut response = match names.judge(&request) {
        Ok(()) => next.run(request).await,
        Err(problem) => problem.into_response(),
    };
    if is_plain && let Some(failure) = response.extensions_mut().remove::<Failure>() {
        let form = HeaderValue::from_static(reply::PLAIN);
        response.headers_mut().insert(header::CONTENT_TYPE, form);
        response.headers_mut().remove(header::CONTENT_LENGTH);
        *response.body_mut() = reply::failure(&failure).into();
    }
    response
}

/// Lower case, without the root's dot.
fn plain(host: &str) -> String {
    host.trim_end_matches('.').to_ascii_lowercase()
}

fn origin(url: &str) -> Option<Origin> {
    let uri: Uri = url.parse().ok()?;
    let scheme = uri.scheme_str()?.to_ascii_lowercase();
    let usual = if scheme == "https" { 443 } else { 80 };
    Some((scheme, plain(uri.host()?), uri.port_u16().unwrap_or(usual)))
}

fn authority(host: &str) -> Result<Authority, Problem> {
    let parsed = host.parse::<Authority>().ok();
    let parsed = parsed.filter(|authority| !authority.as_str().contains('@'));
    parsed.ok_or_else(|| {
        let message = format!("the Host header '{}' is not usable", shown(host));
        Problem::bad_request(message, "write a host, and a port after a colon")
    })
}

/// The header's one value; none without it.
fn one(request: &Request, name: HeaderName) -> Result<Option<String>, Problem> {
    let mut values = request.headers().get_all(&name).iter();
    let value = values.next().map(|value| value.to_str().ok());
    match (value, values.next()) {
        (None, _) => Ok(None),
        (Some(Some(value)), None) => Ok(Some(value.to_owned())),
        (Some(_), _) => {
            let message = format!("the header {name} is there more than once, or not readable");
            Err(Problem::bad_request(message, "send it once, as ASCII text"))
        }
    }
}

fn shown(text: &str) -> String {
    text.chars().take(80).collect()
}

#[cfg(test)]
mod tests {
    use axum::body::Body;

    use super::*;

    fn refused(names: &Names, version: Version, headers: &[(&str, &str)]) -> Option<String> {
        let mut request = Request::builder().uri("/agents").version(version);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Body::empty()).unwrap();
        names.judge(&request).err().map(|p| format!("{p:?}"))
    }

    fn names() -> Names {
        let public = Some("https://amcp.example.org/");
        Names::new(public, ["http://Node-A:8080"], ["Other.example"])
    }

    #[test]
    fn a_request_names_the_node() {
        let refused = |host: &str| refused(&names(), Version::HTTP_11, &[("host", host)]);
        for host in [
            "127.0.0.1:8080",
            "localhost:1",
            "LOCALHOST",
            "[::1]:8080",
            "192.0.2.7",
            "amcp.example.org",
            "amcp.example.org.:443",
            "node-a:8080",
            "other.example:9",
        ] {
            assert_eq!(refused(host), None, "{host}");
        }
        for host in [
            "evil.example",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "amcp.example.org.evil.example",
            "xamcp.example.org",
            "a@localhost",
            "",
            "lo calhost",
        ] {
            assert!(refused(host).is_some(), "{host}");
        }
        assert!(refused("evil.example").unwrap().contains("http_hosts"));
    }

    #[test]
    fn only_pages_of_the_node_itself_may_ask() {
        let refused = |origin: &str, host: &str| {
            let headers = [("origin", origin), ("host", host)];
            refused(&names(), Version::HTTP_11, &headers).is_some()
        };
        for (origin, host) in [
            ("http://127.0.0.1:8080", "127.0.0.1:8080"),
            ("https://LOCALHOST:8080", "localhost:8080"),
            ("http://[::1]:8080", "[::1]:8080"),
            ("http://192.0.2.7", "192.0.2.7"),
            ("http://other.example:9", "other.example:9"),
            // Behind a proxy that passes its own name on, and behind one that does not.
            ("https://amcp.example.org", "amcp.example.org"),
            ("https://amcp.example.org", "127.0.0.1:8080"),
        ] {
            assert!(!refused(origin, host), "{origin} at {host}");
        }
        for (origin, host) in [
            ("http://127.0.0.1:3000", "127.0.0.1:8080"),
            ("http://localhost:8080", "127.0.0.1:8080"),
            ("http://localhost", "localhost:8080"),
            ("http://127.0.0.1:8080.evil.example", "127.0.0.1:8080"),
            ("https://evil.example", "127.0.0.1:8080"),
            ("http://amcp.example.org", "127.0.0.1:8080"),
            ("https://amcp.example.org:444", "127.0.0.1:8080"),
            ("http://other.example", "127.0.0.1:8080"),
            // A name whose owner points it here.
            ("http://evil.example:8080", "evil.example:8080"),
            ("null", "127.0.0.1:8080"),
            ("", "127.0.0.1:8080"),
        ] {
            assert!(refused(origin, host), "{origin} at {host}");
        }
    }

    #[test]
    fn a_header_that_two_readers_could_read_differently_is_refused() {
        let names = names();
        for headers in [
            &[("host", "localhost"), ("host", "localhost")][..],
            &[
                ("host", "localhost"),
                ("origin", "http://localhost"),
                ("origin", "http://evil.example"),
            ],
            &[],
        ] {
            let refused = refused(&names, Version::HTTP_11, headers);
            assert!(refused.is_some(), "{headers:?}");
        }
        assert_eq!(refused(&names, Version::HTTP_10, &[]), None);
        let page = [("origin", "http://evil.example")];
        assert!(refused(&names, Version::HTTP_10, &page).is_some());
    }
}
