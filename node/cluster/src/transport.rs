//! Connections between nodes: the acceptor, the dialler, mutual TLS, and the greeting in which both sides prove that they
//! know the cookie and say who they are.
//!
//! Hands over only connections that are ready for ractor_cluster; decides nothing about members.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use ractor_cluster::ClusterBidiStream;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::info::NodeInfo;

/// What a connection's stream counts as bytes pass, and the way to cut it.
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
    /// How long nothing has been received.
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

    /// Ends the connection: both directions fail from now on.
    pub fn cut(&self) {
        self.cut.cancel();
    }
}

/// A connection whose two sides know each other.
pub struct Connection {
    /// Who is at the other side. Its address is complete.
    pub peer: NodeInfo,
    /// Whether this node dialled.
    pub dialled: bool,
    /// From where the other side is met.
    pub remote: SocketAddr,
    /// What frames from there must carry; chosen here for this connection.
    pub token_in: u64,
    /// What frames to there must carry; chosen there.
    pub token_out: u64,
    /// `mtls` or `plain`.
    pub security: &'static str,
    /// Counts the bytes.
    pub meter: Arc<Meter>,
    /// The bytes, for ractor_cluster. Its peer label is the connection's `token_in` in 16 hex digits.
    pub stream: Box<dyn ClusterBidiStream>,
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection")
            .field("peer", &self.peer.name)
            .field("remote", &self.remote)
            .finish_non_exhaustive()
    }
}
