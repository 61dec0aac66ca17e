//! GET /files/{name}: the reports that specialists wrote.
//!
//! Serves plain files of one folder only: no folders, no links, no hidden files, and nothing that a browser could run
//! with the rights of this origin.

use amcp_protocol::{ErrorCode, Failure};
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use tokio::fs;
use tokio_util::io::ReaderStream;

use crate::problem::Problem;
use crate::router::{GatewayState, InPath};

/// Longest file name that common file systems take.
const MAX_NAME: usize = 255;

/// One file.
pub(crate) async fn file(
    State(state): State<GatewayState>,
    InPath(name): InPath,
) -> Result<Response, Problem> {
    if !is_plain(&name) {
        return Err(missing(&name));
    }
    let path = state.reports.join(&name);
    let about = fs::symlink_metadata(&path)
        .await
        .map_err(|_| missing(&name))?;
    if !about.is_file() {
        return Err(missing(&name));
    }
    let file = fs::File::open(&path).await.map_err(|_| missing(&name))?;
    let headers = [
        (
            header::CONTENT_TYPE,
            HeaderValue::from_static(content_type(&name)),
        ),
        (header::CONTENT_LENGTH, HeaderValue::from(about.len())),
        (
            header::X_CONTENT_TYPE_OPTIONS,
            HeaderValue::from_static("nosniff"),
        ),
        // A report repeats what other systems said; it may be shown, never run.
        (
            header::CONTENT_SECURITY_POLICY,
            HeaderValue::from_static(
                "sandbox; default-src 'none'; style-src 'unsafe-inline'; img-src data:",
            ),
        ),
    ];
    Ok((headers, Body::from_stream(ReaderStream::new(file))).into_response())
}

fn is_plain(name: &str) -> bool {
    (1..=MAX_NAME).contains(&name.len())
        && !name.starts_with('.')
        && name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
}

fn content_type(name: &str) -> &'static str {
    match name.rsplit_once('.').map(|(_, extension)| extension) {
        Some("pdf") => "application/pdf",
        Some("md") => "text/markdown; charset=utf-8",
        Some("html") => "text/html; charset=utf-8",
        Some("svg") => "image/svg+xml",
        Some("csv") => "text/csv; charset=utf-8",
        Some("json") => "application/json",
        Some("txt") => "text/plain; charset=utf-8",
        _ => "application/octet-stream",
    }
}

fn missing(name: &str) -> Problem {
    let shown: String = name.chars().take(80).collect();
    Failure::new(ErrorCode::NotFound, format!("there is no file '{shown}'"))
        .hint("the answer that wrote a file names it")
        .into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_names_are_looked_for() {
        assert!(is_plain("expenses-2024-Q4.pdf"));
        for name in [
            "", ".", "..", ".env", "../x", "a/b", "a\\b", "a\0", "ü.pdf", "a b",
        ] {
            assert!(!is_plain(name), "{name:?}");
        }
    }
}
