//! GET /files/{name}: the reports that specialists wrote.
//!
//! Serves plain files of one folder only: no folders, no links, no hidden files, and nothing that a browser could run
//! with the rights of this origin.

use std::path::Path;

use amcp_protocol::{ErrorCode, Failure};
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use tokio::fs;
use tokio::io::AsyncReadExt;
use tokio_util::io::ReaderStream;

use crate::problem::Problem;
use crate::state::{GatewayState, InPath};

/// Longest file name that common file systems take.
const MAX_NAME: usize = 255;

pub(crate) async fn file(
    State(state): State<GatewayState>,
    InPath(name): InPath,
) -> Result<Response, Problem> {
    if !is_plain(&name) {
        return Err(missing(&name));
    }
    let file = open(&state.reports.join(&name))
        .await
        .ok_or_else(|| missing(&name))?;
    response(&name, file).await.ok_or_else(|| missing(&name))
}

/// Checks the type before opening: opening follows links, and blocks at pipes.
async fn open(path: &Path) -> Option<fs::File> {
    let about = fs::symlink_metadata(path).await.ok()?;
    if !about.is_file() {
        return None;
    }
    fs::File::open(path).await.ok()
}

/// Sends exactly as many bytes as the opened file has now, even if the file grows or another replaces it meanwhile.
async fn response(name: &str, file: fs::File) -> Option<Response> {
    let about = file.metadata().await.ok()?;
    if !about.is_file() {
        return None;
    }
    let headers = [
        (
            header::CONTENT_TYPE,
            HeaderValue::from_static(content_type(name)),
        ),
        (header::CONTENT_LENGTH, HeaderValue::from(about.len())),
        (
            header::X_CONTENT_TYPE_OPTIONS,
            HeaderValue::from_static("nosniff"),
        ),
        // A report repeats foreign text: a browser may show it, never run it.
        (
            header::CONTENT_SECURITY_POLICY,
            HeaderValue::from_static(
                "sandbox; default-src 'none'; style-src 'unsafe-inline'; img-src data:",
            ),
        ),
    ];
    let body = Body::from_stream(ReaderStream::new(file.take(about.len())));
    Some((headers, body).into_response())
}

fn is_plain(name: &str) -> bool {
    (1..=MAX_NAME).contains(&name.len())
        && !name.starts_with('.')
        && name
            .chars()
            .all(|c| c.is_alphanumeric() || "-_.".contains(c))
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
        .hint("answers name the files that they wrote")
        .into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_names_are_looked_for() {
        assert!(is_plain("expenses-2024-Q4.pdf") && is_plain("übersicht-東京.pdf"));
        for name in ["", ".", "..", ".env", "../x", "a/b", "a\\b", "a\0", "a b"] {
            assert!(!is_plain(name), "{name:?}");
        }
    }

    #[tokio::test]
    async fn a_file_that_changes_is_sent_as_it_was_opened() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.txt");
        std::fs::write(&path, "old").unwrap();
        let file = open(&path).await.unwrap();
        // Replaces the file as a whole, as a new report does.
        std::fs::write(folder.path().join("new"), "a longer one").unwrap();
        std::fs::rename(folder.path().join("new"), &path).unwrap();
        let response = response("a.txt", file).await.unwrap();
        assert_eq!(response.headers()[header::CONTENT_LENGTH], "3");
        let body = axum::body::to_bytes(response.into_body(), 100)
            .await
            .unwrap();
        assert_eq!(body, "old");

        let file = open(&path).await.unwrap();
        let response = super::response("a.txt", file).await.unwrap();
        let grown = std::fs::OpenOptions::new().append(true).open(&path);
        std::io::Write::write_all(&mut grown.unwrap(), b" and more").unwrap();
        let body = axum::body::to_bytes(response.into_body(), 100)
            .await
            .unwrap();
        assert_eq!(body, "a longer one");
    }
}
