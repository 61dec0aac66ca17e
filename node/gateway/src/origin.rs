//! Keeps web pages of other origins from acting as this machine's user.
//!
//! Does not verify clients that are no browsers.

use std::net::IpAddr;

use amcp_protocol::{ErrorCode, Failure};
use axum::http::{HeaderMap, HeaderValue, Uri, header};

use crate::problem::Problem;

/// A web page can make its visitor's browser post here, and would then act as this machine's user.
///
/// # Errors
/// `not_permitted` when the request comes from a page that this address did not serve.
pub(crate) fn refuse_web_pages(headers: &HeaderMap) -> Result<(), Problem> {
    let Some(origin) = headers.get(header::ORIGIN) else {
        return Ok(());
    };
    if is_own(origin, headers.get(header::HOST)) {
        return Ok(());
    }
    let message = "requests from web pages of other origins are refused";
    Err(Failure::new(ErrorCode::NotPermitted, message)
        .hint("send the request without an Origin header, from a program")
        .into())
}

/// Whether the page came from this address and port. A host name proves nothing: its owner can point it here after the
/// browser has loaded the page from elsewhere.
fn is_own(origin: &HeaderValue, host: Option<&HeaderValue>) -> bool {
    let text = |value: &HeaderValue| value.to_str().ok().map(str::to_owned);
    let Some((origin, host)) = text(origin).zip(host.and_then(text)) else {
        return false;
    };
    let uri = origin.parse::<Uri>().ok();
    let Some(authority) = uri.as_ref().and_then(Uri::authority) else {
        return false;
    };
    let name = authority.host();
    let is_address = name.trim_matches(['[', ']']).parse::<IpAddr>().is_ok();
    (is_address || name.eq_ignore_ascii_case("localhost"))
        && authority.as_str().eq_ignore_ascii_case(&host)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_pages_of_the_address_itself_may_ask() {
        let refused = |origin: &str, host: &str| {
            let headers = [(header::ORIGIN, origin), (header::HOST, host)]
                .into_iter()
                .map(|(name, value)| (name, HeaderValue::try_from(value).unwrap()));
            refuse_web_pages(&headers.collect()).is_err()
        };
        for (origin, host) in [
            ("http://127.0.0.1:8080", "127.0.0.1:8080"),
            ("https://LOCALHOST:8080", "localhost:8080"),
            ("http://[::1]:8080", "[::1]:8080"),
            ("http://192.0.2.7", "192.0.2.7"),
        ] {
            assert!(!refused(origin, host), "{origin} at {host}");
        }
        for (origin, host) in [
            ("http://127.0.0.1:3000", "127.0.0.1:8080"),
            ("http://localhost:8080", "127.0.0.1:8080"),
            ("http://localhost", "localhost:8080"),
            ("http://127.0.0.1:8080.evil.example", "127.0.0.1:8080"),
            ("https://evil.example", "127.0.0.1:8080"),
            // A name whose owner points it here.
            ("http://evil.example:8080", "evil.example:8080"),
            ("null", "127.0.0.1:8080"),
            ("", ""),
        ] {
            assert!(refused(origin, host), "{origin} at {host}");
        }
        assert!(refuse_web_pages(&HeaderMap::new()).is_ok());
    }
}
