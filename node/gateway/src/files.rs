//! GET /files/{name}: the reports that specialists wrote, here or on another node.
//!
//! Serves plain files of one folder only: no folders, no links, no hidden files, and nothing that a browser could run
//! with the rights of this origin.

use std::io::{self, SeekFrom};
use std::path::Path;
use std::sync::Arc;
use std::time::UNIX_EPOCH;

use amcp_access::{Entry, What};
use amcp_protocol::{ErrorCode, Failure, FilePiece, NodeName};
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use tokio::fs;
use tokio::io::{AsyncReadExt, AsyncSeekExt};
use tokio_util::io::ReaderStream;

use crate::auth::Asker;
use crate::peers::Peers;
use crate::problem::Problem;
use crate::state::{GatewayState, InPath, OwnerOf};

/// Most bytes that one question to another node brings: half a second of a link of 256 kbit/s, which has three seconds for it beside others.
const PIECE: u64 = 16 * 1024;
/// Longest file name that common file systems take.
const MAX_NAME: usize = 255;

pub(crate) async fn file(
    State(state): State<GatewayState>,
    asker: Asker,
    InPath(name): InPath,
) -> Result<Response, Problem> {
    if !is_plain(&name) {
        return Err(missing(&name));
    }
    if let Some((file, user)) = owned((&state.reports, state.owner_of), &name).await {
        let seen = asker.sees(user.as_deref()).then_some(file);
        let file = seen.ok_or_else(|| missing(&name))?;
        note(&state, &asker, &name)?;
        return response(&name, file).await.ok_or_else(|| missing(&name));
    }
    let there = match &state.peers {
        Some(peers) => peers
            .file(&name, 0, None)
            .await
            .zip(Some(Arc::clone(peers))),
        None => None,
    };
    let seen = there.filter(|((_, first), _)| asker.sees(first.user.as_deref()));
    let ((owner, first), peers) = seen.ok_or_else(|| missing(&name))?;
    note(&state, &asker, &name)?;
    let length = first.length;
    let rest = Rest {
        peers,
        owner,
        name: name.clone(),
        at: 0,
        next: Some(first),
    };
    let pieces = stream::try_unfold(rest, Rest::take);
    Ok(headed(&name, length, Body::from_stream(pieces)))
}

fn note(state: &GatewayState, asker: &Asker, name: &str) -> Result<(), Problem> {
    let outcome = Some(name.to_owned());
    state.note(
        asker,
        Entry {
            outcome,
            ..Entry::new(What::FileRead)
        },
    )
}

/// A file of another node, as far as the reader has not got it.
struct Rest {
    peers: Arc<dyn Peers>,
    owner: NodeName,
    name: String,
    at: u64,
    /// A piece that is here but not taken, or the last taken one without its bytes.
    next: Option<FilePiece>,
}

impl Rest {
    /// # Errors
    /// The node is gone, or the file is: the reader sees that it did not get the whole.
    async fn take(mut self) -> io::Result<Option<(Vec<u8>, Self)>> {
        let broken = || io::Error::other("the node of the file does not send the rest of it");
        let mut piece = self.next.take().ok_or_else(broken)?;
        if self.at == piece.length {
            return Ok(None);
        }
        if self.at > 0 {
            let owner = Some(&self.owner);
            let (_, next) = self
                .peers
                .file(&self.name, self.at, owner)
                .await
                .ok_or_else(broken)?;
            if (next.length, next.written_unix_ms) != (piece.length, piece.written_unix_ms) {
                return Err(broken());
            }
            piece = next;
        }
        let bytes = std::mem::take(&mut piece.bytes);
        self.at += bytes.len() as u64;
        if bytes.is_empty() || self.at > piece.length {
            return Err(broken());
        }
        self.next = Some(piece);
        Ok(Some((bytes, self)))
    }
}

/// A piece of a user's report in a folder, for a gateway of another node.
pub async fn piece(
    (folder, owner_of): (&Path, OwnerOf),
    name: &str,
    from: u64,
) -> Option<FilePiece> {
    if !is_plain(name) {
        return None;
    }
    let (mut file, user) = owned((folder, owner_of), name).await?;
    let about = file.metadata().await.ok()?;
    let written = about.modified().ok()?.duration_since(UNIX_EPOCH).ok()?;
    let length = about.len();
    file.seek(SeekFrom::Start(from)).await.ok()?;
    let mut bytes = Vec::new();
    let rest = length.saturating_sub(from).min(PIECE);
    file.take(rest).read_to_end(&mut bytes).await.ok()?;
    Some(FilePiece {
        user,
        length,
        written_unix_ms: u64::try_from(written.as_millis()).ok()?,
        bytes,
    })
}

/// Opens a user's report. It counts only if the user is the same before and after: a report that is being written or swept meanwhile would
/// pass for nobody's.
async fn owned(
    (folder, owner_of): (&Path, OwnerOf),
    name: &str,
) -> Option<(fs::File, Option<String>)> {
    let owner = || {
        let (folder, name) = (folder.to_owned(), name.to_owned());
        tokio::task::spawn_blocking(move || owner_of(&folder, &name))
    };
    let user = owner().await.ok()?;
    let file = open(&folder.join(name)).await?;
    (owner().await.ok()? == user).then_some((file, user))
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
    let body = Body::from_stream(ReaderStream::new(file.take(about.len())));
    Some(headed(name, about.len(), body))
}

fn headed(name: &str, length: u64, body: Body) -> Response {
    let headers = [
        (
            header::CONTENT_TYPE,
            HeaderValue::from_static(content_type(name)),
        ),
        (header::CONTENT_LENGTH, HeaderValue::from(length)),
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
    (headers, body).into_response()
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

    #[tokio::test]
    async fn a_report_whose_user_changes_while_it_is_opened_is_not_there() {
        /// Nobody's at the first question, ana's at the next one, and so on.
        fn owner(folder: &Path, _: &str) -> Option<String> {
            let asked = folder.join(".asked");
            if std::fs::remove_file(&asked).is_ok() {
                return Some("ana".to_owned());
            }
            std::fs::write(asked, "").unwrap();
            None
        }
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("a.txt"), "hers").unwrap();
        let piece_by = |owner_of: OwnerOf| piece((folder.path(), owner_of), "a.txt", 0);
        // It was written in between; the other way round it was swept.
        assert!(piece_by(owner).await.is_none());
        std::fs::write(folder.path().join(".asked"), "").unwrap();
        assert!(piece_by(owner).await.is_none());
        let user = |piece: Option<FilePiece>| piece.unwrap().user;
        assert_eq!(user(piece_by(|_, _| None).await), None);
        let anas: OwnerOf = |_, _| Some("ana".to_owned());
        assert_eq!(user(piece_by(anas).await).as_deref(), Some("ana"));
    }
}
