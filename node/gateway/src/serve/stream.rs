//! A connection's bytes: closes the connection of a client that stops reading, and gives a body to what hyper refuses by itself.
//!
//! Does not read requests.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use amcp_protocol::{ErrorCode, Failure};
use axum::http::StatusCode;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};

use crate::problem::Body;

/// Most bytes of a request's line and headers: room for a token of several KiB and a browser's cookies.
pub(super) const MAX_HEAD: usize = 16 * 1024;
/// Most bytes that we read of a request that hyper refused: a client that is still sending would not see the refusal.
const MAX_DISCARDED: usize = 1024 * 1024;
/// Most bytes of a response that hyper writes by itself: a line and three headers.
const MAX_REFUSAL: usize = 256;
/// A header of a response without a body.
const BARE: &[u8] = b"\r\ncontent-length: 0\r\n";

/// A whole response with a problem, after which the connection closes.
pub(super) fn response(status: StatusCode, failure: Failure) -> Vec<u8> {
    let body = serde_json::to_string(&Body { error: failure }).unwrap_or_default();
    let reason = status.canonical_reason().unwrap_or_default();
    let length = body.len();
    format!(
        "HTTP/1.1 {} {reason}\r\ncontent-type: application/json\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}",
        status.as_u16()
    )
    .into_bytes()
}

/// The response to put in place of one that hyper writes by itself, without a body, for a request that it cannot read.
fn with_body(written: &[u8]) -> Option<Vec<u8>> {
    // A piece of a report may begin like one.
    if written.len() > MAX_REFUSAL || !written.ends_with(b"\r\n\r\n") {
        return None;
    }
    let status = written.strip_prefix(b"HTTP/1.1 ")?.get(..3)?;
    let status = StatusCode::from_bytes(status).ok()?;
    let failure = match status {
        StatusCode::BAD_REQUEST => Failure::new(ErrorCode::BadRequest, "this is no HTTP request"),
        StatusCode::URI_TOO_LONG => Failure::new(ErrorCode::TooLarge, "the URI is too long"),
        StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE => {
            let message = format!("the headers have more than {MAX_HEAD} bytes, or are too many");
            Failure::new(ErrorCode::TooLarge, message).hint("send fewer and shorter headers")
        }
        _ => return None,
    };
    let mut parts = written.windows(BARE.len());
    parts
        .any(|part| part == BARE)
        .then(|| response(status, failure))
}

/// A connection whose writes fail once the client has read nothing for [`Limits::stalled`](super::Limits::stalled).
pub(super) struct Stallable<S> {
    stream: S,
    allowed: Duration,
    stalled: Option<Pin<Box<Sleep>>>,
    /// Bytes that were read and dropped since hyper refused to read a request.
    refused: Option<usize>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Stallable<S> {
    pub(super) const fn new(stream: S, allowed: Duration) -> Self {
        Self {
            stream,
            allowed,
            stalled: None,
            refused: None,
        }
    }

    fn watch<T>(
        &mut self,
        cx: &mut Context<'_>,
        write: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if write.is_ready() {
            self.stalled = None;
            return write;
        }
        let allowed = self.allowed;
        let stalled = self.stalled.get_or_insert_with(|| Box::pin(sleep(allowed)));
        ready!(stalled.as_mut().poll(cx));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }

    /// Reads what the client still sends, as long as it may stall and no more than [`MAX_DISCARDED`].
    fn discard(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let allowed = self.allowed;
        let until = self.stalled.get_or_insert_with(|| Box::pin(sleep(allowed)));
        let mut bytes = [0; 8 * 1024];
        while self.refused.is_some_and(|dropped| dropped < MAX_DISCARDED)
            && until.as_mut().poll(cx).is_pending()
        {
            let mut buffer = ReadBuf::new(&mut bytes);
            let read = ready!(Pin::new(&mut self.stream).poll_read(cx, &mut buffer));
            if read.is_err() || buffer.filled().is_empty() {
                break;
            }
            self.refused = self.refused.map(|dropped| dropped + buffer.filled().len());
        }
        Poll::Ready(())
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Stallable<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Stallable<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let write = match with_body(buf) {
            None => Pin::new(&mut self.stream).poll_write(cx, buf),
            Some(refusal) => {
                self.refused = Some(0);
                // A part of it would do: the connection closes.
                let write = Pin::new(&mut self.stream).poll_write(cx, &refusal);
                write.map_ok(|_| buf.len())
            }
        };
        self.watch(cx, write)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flush = Pin::new(&mut self.stream).poll_flush(cx);
        self.watch(cx, flush)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.stream).poll_shutdown(cx))?;
        self.discard(cx).map(Ok)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_refusal_of_hyper_gets_another_body() {
        let refusal = b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\ndate: Sun, 22 Nov 2026 03:00:00 GMT\r\n\r\n";
        assert!(with_body(refusal).is_some());
        // A piece of a report about HTTP.
        let mut piece = refusal.to_vec();
        piece.extend([b'x'; 400]);
        assert!(with_body(&piece).is_none());
        piece.extend(b"\r\n\r\n");
        assert!(with_body(&piece).is_none());
    }
}
