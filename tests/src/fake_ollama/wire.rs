//! HTTP/1.1 on a socket by hand: chunk boundaries, cuts and stalls come exactly where the script wants them.
//!
//! Does not choose the answers.

use std::collections::BTreeMap;
use std::io;

use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

use super::{Pace, Request};

/// A response, byte for byte.
#[derive(Debug, Clone)]
pub(super) struct Response {
    /// Status line and headers, without the blank line; `None` sends no byte at all.
    pub(super) head: Option<String>,
    /// The body.
    pub(super) body: Body,
    /// The course of the connection after the body.
    pub(super) then: Then,
    /// The times at which the chunks of the body leave.
    pub(super) pace: Pace,
}

#[derive(Debug, Clone)]
pub(super) enum Body {
    /// Unchanged, in one piece.
    Whole(Vec<u8>),
    /// Each as one chunk of `Transfer-Encoding: chunked`.
    Chunks(Vec<Vec<u8>>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Then {
    /// The body is ended and the connection waits for the next request.
    KeepAlive,
    /// The connection is closed before the body is ended.
    Cut,
    /// The connection stays open and silent.
    Stall,
}

impl Response {
    pub(super) fn text(status: u16, text: &str) -> Self {
        Self::whole(
            status,
            "text/plain; charset=utf-8",
            text.as_bytes().to_vec(),
        )
    }

    pub(super) fn json(status: u16, value: &Value) -> Self {
        let body = value.to_string().into_bytes();
        Self::whole(status, "application/json; charset=utf-8", body)
    }

    pub(super) fn whole(status: u16, content_type: &str, body: Vec<u8>) -> Self {
        let length = body.len();
        Self {
            head: Some(format!(
                "HTTP/1.1 {status} {}\r\nContent-Type: {content_type}\r\nContent-Length: {length}\r\n",
                reason(status)
            )),
            body: Body::Whole(body),
            then: Then::KeepAlive,
            pace: Pace::AtOnce,
        }
    }

    pub(super) fn chunks(content_type: &str, chunks: Vec<Vec<u8>>, then: Then) -> Self {
        Self {
            head: Some(format!(
                "HTTP/1.1 200 OK\r\nContent-Type: {content_type}\r\nTransfer-Encoding: chunked\r\n"
            )),
            body: Body::Chunks(chunks),
            then,
            pace: Pace::AtOnce,
        }
    }

    pub(super) fn nothing(then: Then) -> Self {
        Self {
            head: None,
            body: Body::Whole(Vec::new()),
            then,
            pace: Pace::AtOnce,
        }
    }
}

const fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        301 => "Moved Permanently",
        400 => "Bad Request",
        401 => "Unauthorized",
        404 => "Not Found",
        500 => "Internal Server Error",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        _ => "Status",
    }
}

/// Answers the requests of one connection until either side closes it.
pub(super) async fn converse(
    stream: TcpStream,
    answer: impl Fn(Request) -> Response,
) -> io::Result<()> {
    // A chunk must leave at once, or boundaries vanish.
    stream.set_nodelay(true)?;
    let mut stream = BufReader::new(stream);
    while let Some(request) = read(&mut stream).await? {
        let response = answer(request);
        if let Some(head) = &response.head {
            stream.write_all(head.as_bytes()).await?;
            stream.write_all(b"\r\n").await?;
        }
        match &response.body {
            Body::Whole(bytes) => stream.write_all(bytes).await?,
            Body::Chunks(chunks) => {
                for chunk in chunks {
                    response.pace.turn().await;
                    let size = format!("{:x}\r\n", chunk.len());
                    let framed = [size.as_bytes(), chunk, b"\r\n"].concat();
                    stream.write_all(&framed).await?;
                    stream.flush().await?;
                    // Lets the reader see this chunk alone.
                    tokio::task::yield_now().await;
                }
                if response.then == Then::KeepAlive {
                    stream.write_all(b"0\r\n\r\n").await?;
                }
            }
        }
        stream.flush().await?;
        match response.then {
            Then::KeepAlive => {}
            Then::Cut => return Ok(()),
            // Waits until the client goes away.
            Then::Stall => {
                stream.read_to_end(&mut Vec::new()).await?;
                return Ok(());
            }
        }
    }
    Ok(())
}

async fn read(stream: &mut BufReader<TcpStream>) -> io::Result<Option<Request>> {
    let mut line = String::new();
    if stream.read_line(&mut line).await? == 0 {
        return Ok(None);
    }
    let mut words = line.split_whitespace().map(str::to_owned);
    let (method, path) = (
        words.next().unwrap_or_default(),
        words.next().unwrap_or_default(),
    );
    let mut headers = BTreeMap::new();
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).await?;
        let Some((name, value)) = line.split_once(':') else {
            break;
        };
        headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
    }
    let length = headers
        .get("content-length")
        .and_then(|l| l.parse().ok())
        .unwrap_or(0);
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await?;
    Ok(Some(Request {
        method,
        path,
        headers,
        body: serde_json::from_slice(&body).unwrap_or(Value::Null),
    }))
}
