//! Connections between nodes: the acceptor, the dialler, mutual TLS, and the greeting in which both sides prove that they
//! know the cookie and describe themselves.
//!
//! Hands over only connections that are ready for ractor_cluster; decides nothing about members.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use futures_util::future::BoxFuture;
use ractor_cluster::ClusterBidiStream;
use tokio::time::Instant;
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_util::sync::CancellationToken;

use crate::info::NodeInfo;

mod acceptor;
mod cookie;
mod dial;
mod greeting;
mod handshake;
mod socket;
mod stream;
#[cfg(test)]
mod tests;
mod tls;

pub use acceptor::Acceptor;
pub use cookie::{CookieError, check_cookie, load_or_make_cookie, session_cookie};
pub use dial::{DialError, dial};
pub use greeting::{PROTOCOL_VERSION, Refusal, dialler};
pub use tls::{COMMON_NAME, Tls, TlsError, never_tls};

pub(crate) use cookie::{mac, random_bytes, write_secret};
pub(crate) use tls::{certificates, check, sign, verifies};

/// Answers before the use of a connection whether the peer may come in. The other side may still vanish after the answer, so
/// the question must reserve nothing.
pub type Admit = Arc<dyn Fn(NodeInfo) -> BoxFuture<'static, Result<(), Refusal>> + Send + Sync>;

/// This side of every connection.
pub struct Local {
    /// This node's description of itself. Its address may lack the host, but not the port.
    pub info: NodeInfo,
    /// The secret that all nodes of the mesh share.
    pub cookie: String,
    /// Mutual TLS; none means plain TCP.
    pub tls: Option<Tls>,
    /// Judges whether a peer may come in.
    pub admit: Admit,
}

amcp_protocol::opaque_debug!(Local, Connection);

/// Counts a connection's bytes, and can cut the connection.
#[derive(Debug)]
pub struct Meter {
    origin: Instant,
    heard_ms: AtomicU64,
    received: AtomicU64,
    written: AtomicU64,
    cut: CancellationToken,
}

impl Default for Meter {
    fn default() -> Self {
        Self {
            origin: Instant::now(),
            heard_ms: AtomicU64::new(0),
            received: AtomicU64::new(0),
            written: AtomicU64::new(0),
            cut: CancellationToken::new(),
        }
    }
}

impl Meter {
    /// The time since the last byte arrived.
    #[must_use]
    pub fn silence(&self) -> std::time::Duration {
        let heard = std::time::Duration::from_millis(self.heard_ms.load(Relaxed));
        self.origin.elapsed().saturating_sub(heard)
    }

    /// Bytes received so far.
    #[must_use]
    pub fn received(&self) -> u64 {
        self.received.load(Relaxed)
    }

    /// Bytes written to the socket so far.
    #[must_use]
    pub fn written(&self) -> u64 {
        self.written.load(Relaxed)
    }

    fn heard(&self, bytes: usize) {
        // Saturates after 584 million years.
        let ms = u64::try_from(self.origin.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.heard_ms.store(ms, Relaxed);
        self.received.fetch_add(bytes as u64, Relaxed);
    }

    /// Ends the connection: both directions fail from now on.
    pub fn cut(&self) {
        self.cut.cancel();
    }
}

/// A connection whose two sides have greeted each other.
pub struct Connection {
    /// The node at the other side. Its address is complete.
    pub peer: NodeInfo,
    /// Whether this node dialled.
    pub dialled: bool,
    /// The other end's address.
    pub remote: SocketAddr,
    /// The token of frames from the peer; this node chose it for this connection.
    pub token_in: u64,
    /// The token of frames to the peer; the peer chose it.
    pub token_out: u64,
    /// `mtls` or `plain`.
    pub security: &'static str,
    /// The peer's certificate, which names it; none without TLS.
    pub certificate: Option<CertificateDer<'static>>,
    /// Counts the connection's bytes.
    pub meter: Arc<Meter>,
    /// The bytes, for ractor_cluster. Its peer label is the connection's `token_in` in 16 hex digits.
    pub stream: Box<dyn ClusterBidiStream>,
}
