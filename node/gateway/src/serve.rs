//! Serves a router on a listener, and bounds the cost of a connection.
//!
//! axum's own server has no time-outs and no limit of connections; this is hyper with both. It closes the connection of a
//! client that sends its headers slowly, stays idle or stops reading its response.

use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::Router;
use axum::extract::{ConnectInfo, Request};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::{Sleep, sleep};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower_service::Service;

/// Bounds on the clients of one listener.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Most connections at a time; further ones wait in the system's queue.
    pub connections: usize,
    /// How long a connection may be idle, and how long the headers of a request may take.
    pub headers: Duration,
    /// How long a client may go without reading a byte of its response.
    pub stalled: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            // Twice the default limit of requests: room for clients that only watch. About 20 KB each.
            connections: 2_048,
            // A longer time would close fewer pooled connections under their clients, but keep slow senders for longer.
            headers: Duration::from_secs(30),
            stalled: Duration::from_secs(30),
        }
    }
}

/// Pause before accepting again after a passing error, such as a lack of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Serves until `shutdown` is cancelled; then takes no new connection and returns when the requests under way have ended.
/// The caller bounds that wait by dropping the future.
///
/// # Errors
/// The listener itself is broken.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    limits: Limits,
    shutdown: CancellationToken,
) -> io::Result<()> {
    let places = Arc::new(Semaphore::new(limits.connections));
    let connections = TaskTracker::new();
    // Dropping this future ends the connections too.
    let abort = CancellationToken::new();
    let _abort = abort.clone().drop_guard();
    loop {
        let accepted = tokio::select! {
            biased;
            () = shutdown.cancelled() => break,
            accepted = accept(&listener, &places) => accepted?,
        };
        let Some((stream, peer, place)) = accepted else {
            continue;
        };
        let connection = connection(stream, peer, router.clone(), &limits, shutdown.clone());
        let abort = abort.clone();
        connections.spawn(async move {
            let _place = place;
            tokio::select! {
                () = abort.cancelled() => {}
                () = connection => {}
            }
        });
    }
    drop(listener);
    connections.close();
    connections.wait().await;
    Ok(())
}

type Accepted = (
    TcpStream,
    std::net::SocketAddr,
    tokio::sync::OwnedSemaphorePermit,
);

async fn accept(listener: &TcpListener, places: &Arc<Semaphore>) -> io::Result<Option<Accepted>> {
    let place = Arc::clone(places)
        .acquire_owned()
        .await
        .expect("the semaphore is never closed");
    match listener.accept().await {
        Ok((stream, peer)) => Ok(Some((stream, peer, place))),
        Err(error) if is_of_one_connection(&error) => Ok(None),
        Err(error) if is_of_the_listener(&error) => Err(error),
        Err(error) => {
            tracing::warn!(%error, "the gateway cannot accept a connection for now");
            sleep(ACCEPT_PAUSE).await;
            Ok(None)
        }
    }
}

fn is_of_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionRefused
            | io::ErrorKind::Interrupted
    )
}

/// Whether the listener will never accept again. All other errors pass: a lack of descriptors or memory, a network that is
/// down for a moment, a firewall that refuses one client.
fn is_of_the_listener(error: &io::Error) -> bool {
    const EBADF: i32 = 9;
    const EINVAL: i32 = 22;
    const ENOTSOCK: i32 = if cfg!(target_os = "linux") { 88 } else { 38 };
    const EOPNOTSUPP: i32 = if cfg!(target_os = "linux") { 95 } else { 102 };
    matches!(
        error.raw_os_error(),
        Some(EBADF | EINVAL | ENOTSOCK | EOPNOTSUPP)
    )
}

fn connection(
    stream: TcpStream,
    peer: std::net::SocketAddr,
    router: Router,
    limits: &Limits,
    shutdown: CancellationToken,
) -> impl Future<Output = ()> + use<> {
    // An answer is one small write; waiting for more would only delay it.
    let _ = stream.set_nodelay(true);
    let io = TokioIo::new(Stallable {
        stream,
        allowed: limits.stalled,
        stalled: None,
    });
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(ConnectInfo(peer));
        router.clone().call(request)
    });
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(limits.headers);
    let connection = builder.serve_connection(io, service);
    async move {
        let mut connection = pin!(connection);
        let result = tokio::select! {
            result = connection.as_mut() => result,
            () = shutdown.cancelled() => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(error) = result {
            tracing::debug!(%peer, %error, "a connection ended early");
        }
    }
}

/// A connection whose writes fail once the client has read nothing for [`Limits::stalled`].
struct Stallable {
    stream: TcpStream,
    allowed: Duration,
    stalled: Option<Pin<Box<Sleep>>>,
}

impl Stallable {
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
}

impl AsyncRead for Stallable {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Stallable {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let write = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.watch(cx, write)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let write = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.watch(cx, write)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flush = Pin::new(&mut self.stream).poll_flush(cx);
        self.watch(cx, flush)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn only_a_broken_listener_ends_serving() {
        // EBADF, EINVAL, ENOTSOCK, EOPNOTSUPP; accept(2) lists the others.
        let fatal = [9, 22, 88, 95];
        let (emfile, enfile, enomem, enobufs) = (24, 23, 12, 105);
        let (eperm, eproto, enetdown, ehostunreach) = (1, 71, 100, 113);
        for code in fatal {
            assert!(is_of_the_listener(&io::Error::from_raw_os_error(code)));
        }
        for code in [
            emfile,
            enfile,
            enomem,
            enobufs,
            eperm,
            eproto,
            enetdown,
            ehostunreach,
        ] {
            let error = io::Error::from_raw_os_error(code);
            assert!(!is_of_the_listener(&error), "{error}");
        }
    }
}
