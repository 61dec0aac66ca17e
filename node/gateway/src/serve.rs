//! Serves a router on a listener, and bounds the cost of a connection.
//!
//! axum's own server has no time-outs and no limit of connections; this is hyper with both. It closes the connection of a
//! client that sends its headers slowly, stays idle or stops reading its response. What hyper refuses by itself gets a body here.

mod addresses;
mod https;
mod stream;

use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use amcp_protocol::{ErrorCode, Failure};
use axum::Router;
use axum::extract::{ConnectInfo, Request};
use axum::http::StatusCode;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::{AbortOnDropHandle, TaskTracker};
use tower_service::Service;

use addresses::Addresses;
pub use https::{Https, HttpsFiles};
use stream::{MAX_HEAD, Stallable, response};

/// Bounds on the clients of one listener.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Most connections at a time; further ones wait in the system's queue.
    pub connections: usize,
    /// Most connections of one address (IPv6: of one network of 64 bits) at a time; further ones are refused.
    pub per_address: usize,
    /// How long a TLS handshake and then the first request's headers may take.
    pub first: Duration,
    /// How long a connection may be idle, and how long the headers of a later request may take.
    pub headers: Duration,
    /// How long a client may go without reading a byte of its response.
    pub stalled: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            // Twice the default limit of requests: room for clients that only watch. About 20 KB each.
            connections: 2_048,
            // As many as the default limit of requests: a proxy, which is one address, can carry them all.
            per_address: 1_024,
            first: Duration::from_secs(5),
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
    https: Option<Arc<Https>>,
    shutdown: CancellationToken,
) -> io::Result<()> {
    let following = https.clone().map(|https| tokio::spawn(https.follow()));
    let _following = following.map(AbortOnDropHandle::new);
    let places = Arc::new(Semaphore::new(limits.connections));
    let addresses = Arc::new(Addresses::new(limits.per_address));
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
        let Some(of_address) = addresses.enter(peer.ip()) else {
            if https.is_none() {
                refuse(&stream);
            }
            continue;
        };
        let (places, abort) = ((place, of_address), abort.clone());
        let (router, limits, shutdown) = (router.clone(), limits.clone(), shutdown.clone());
        // An answer is one small write; waiting for more would only delay it.
        let _ = stream.set_nodelay(true);
        match https.clone() {
            None => {
                let connection = connection(stream, peer, router, &limits, shutdown);
                connections.spawn(unless(abort, connection, places));
            }
            Some(https) => {
                let connection = async move {
                    if let Some(stream) = shaken(&https, stream, &limits, &shutdown).await {
                        connection(stream, peer, router, &limits, shutdown).await;
                    }
                };
                connections.spawn(unless(abort, connection, places));
            }
        }
    }
    drop(listener);
    connections.close();
    connections.wait().await;
    Ok(())
}

/// Carries a connection through, or drops it; it keeps its places until then.
async fn unless<P>(abort: CancellationToken, connection: impl Future<Output = ()>, places: P) {
    tokio::select! {
        () = abort.cancelled() => {}
        () = connection => {}
    }
    drop(places);
}

/// The stream after its handshake; none if that failed, took too long, or the listener closes.
async fn shaken(
    https: &Https,
    stream: TcpStream,
    limits: &Limits,
    shutdown: &CancellationToken,
) -> Option<TlsStream<TcpStream>> {
    let shaken = tokio::select! {
        () = shutdown.cancelled() => return None,
        shaken = timeout(limits.first, https.accept(stream)) => shaken,
    };
    match shaken.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
        Ok(stream) => Some(stream),
        Err(error) => {
            tracing::debug!(%error, "a handshake failed");
            None
        }
    }
}

/// Answers a connection that has no place, as far as its empty buffer takes the answer.
fn refuse(stream: &TcpStream) {
    let failure = Failure::new(
        ErrorCode::Overloaded,
        "this address has too many connections",
    )
    .hint("use a connection for several requests, or close some")
    .retry_after_ms(1_000);
    let _ = stream.try_write(&response(StatusCode::TOO_MANY_REQUESTS, failure));
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

fn connection<S>(
    stream: S,
    peer: std::net::SocketAddr,
    router: Router,
    limits: &Limits,
    shutdown: CancellationToken,
) -> impl Future<Output = ()> + use<S>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let io = TokioIo::new(Stallable::new(stream, limits.stalled));
    let first = limits.first;
    let asked = CancellationToken::new();
    let overdue = {
        let asked = asked.clone();
        async move {
            if timeout(first, asked.cancelled()).await.is_ok() {
                std::future::pending::<()>().await;
            }
        }
    };
    let service = service_fn(move |mut request: Request<Incoming>| {
        asked.cancel();
        request.extensions_mut().insert(ConnectInfo(peer));
        router.clone().call(request)
    });
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .max_header_size(MAX_HEAD)
        .header_read_timeout(limits.headers);
    let connection = builder.serve_connection(io, service);
    async move {
        let mut connection = pin!(connection);
        let result = tokio::select! {
            result = connection.as_mut() => result,
            () = overdue => Ok(()),
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
