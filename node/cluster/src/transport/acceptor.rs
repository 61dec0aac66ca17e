//! Accepting other nodes: listens, encrypts, greets, and hands over connections whose two sides know each other.
//!
//! Whoever has not proven that it knows the cookie is a stranger: strangers are few, have seconds, and leave for newer
//! ones. Decides nothing about members.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{sleep, timeout};

use super::handshake::{Meeting, Trouble, answer};
use super::stream::Bytes;
use super::{Connection, Local, socket};

/// A handshake takes two round trips and a millisecond of work. With the greeting's it keeps a silent stranger for less
/// than 5 s in all.
pub(super) const TLS_HANDSHAKE: Duration = Duration::from_secs(2);

/// The greeting takes two round trips, and admission asks an actor.
pub(super) const GREETING: Duration = Duration::from_secs(2);

/// Strangers at the same time: more than nodes of a mesh dial at once, and few enough that what they can make this node
/// hold (a socket, a TLS handshake, 4 KiB of greeting) stays under 10 MB.
const STRANGERS: usize = 128;

/// How long a refused peer is given to read why, before the socket is closed under it.
const PARTING: Duration = Duration::from_millis(500);

/// After a failed `accept` (no file descriptor is left, mostly): long enough for strangers to be timed out, not so long
/// that a peer gives up. Up to twice as long, so that nodes of one machine do not try in step.
const AFTER_FAILURE: Duration = Duration::from_millis(100);

/// The socket that other nodes dial.
#[derive(Debug)]
pub struct Acceptor {
    listener: TcpListener,
    address: SocketAddr,
    refused: Arc<AtomicU64>,
}

impl Acceptor {
    /// Listens. Needs a runtime.
    ///
    /// # Errors
    /// The address cannot be listened on.
    pub fn bind(address: SocketAddr) -> io::Result<Self> {
        let listener = socket::listen(address)?;
        Ok(Self {
            address: listener.local_addr()?,
            listener,
            refused: Arc::default(),
        })
    }

    /// Where it listens.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Connections that came to nothing so far, for whatever reason.
    #[must_use]
    pub fn refused(&self) -> u64 {
        self.refused.load(Relaxed)
    }

    /// Accepts until `established` is closed or this future is dropped, which ends the greetings under way as well. May run
    /// again afterwards; meanwhile the kernel holds who dials.
    pub async fn run(&self, local: Arc<Local>, established: mpsc::Sender<Connection>) {
        let mut tasks = JoinSet::new();
        let mut strangers: Vec<Stranger> = Vec::new();
        loop {
            tokio::select! {
                () = established.closed() => return,
                // Only so that the set does not keep the ended ones.
                Some(_) = tasks.join_next() => {}
                accepted = self.listener.accept() => match accepted {
                    Ok((stream, remote)) => {
                        strangers.retain(Stranger::is_one);
                        self.make_room(&mut strangers);
                        let proven = Arc::new(AtomicBool::new(false));
                        let guest = Guest {
                            remote,
                            local: local.clone(),
                            established: established.clone(),
                            proven: proven.clone(),
                            refused: self.refused.clone(),
                        };
                        strangers.push(Stranger {
                            ip: remote.ip(),
                            task: tasks.spawn(guest.welcome(stream)),
                            proven,
                        });
                    }
                    Err(error) => {
                        tracing::warn!(%error, "cannot accept a connection; is the limit of open files too low?");
                        sleep(AFTER_FAILURE.mul_f64(1.0 + fastrand::f64())).await;
                    }
                },
            }
        }
    }

    /// The newest always gets a place: who waits longest has most likely nothing to say.
    fn make_room(&self, strangers: &mut Vec<Stranger>) {
        if strangers.len() < STRANGERS {
            return;
        }
        let ips: Vec<IpAddr> = strangers.iter().map(|s| s.ip).collect();
        if let Some(index) = whose_place(&ips) {
            let stranger = strangers.remove(index);
            stranger.task.abort();
            self.refused.fetch_add(1, Relaxed);
            tracing::debug!(ip = %stranger.ip, "too many strangers: the oldest of this address must go");
        }
    }
}

/// Which of the strangers, oldest first, must go: the oldest from the address that has most of them, so that one address
/// cannot drive out the others.
fn whose_place(strangers: &[IpAddr]) -> Option<usize> {
    let mut counts: HashMap<IpAddr, usize> = HashMap::new();
    for ip in strangers {
        *counts.entry(*ip).or_default() += 1;
    }
    let most = counts.values().copied().max()?;
    strangers
        .iter()
        .position(|ip| counts.get(ip) == Some(&most))
}

/// A connection that has not greeted yet.
struct Stranger {
    ip: IpAddr,
    task: AbortHandle,
    proven: Arc<AtomicBool>,
}

impl Stranger {
    fn is_one(&self) -> bool {
        !self.task.is_finished() && !self.proven.load(Relaxed)
    }
}

/// What a connection's own task needs.
struct Guest {
    remote: SocketAddr,
    local: Arc<Local>,
    established: mpsc::Sender<Connection>,
    proven: Arc<AtomicBool>,
    refused: Arc<AtomicU64>,
}

impl Guest {
    async fn welcome(self, stream: TcpStream) {
        let remote = self.remote;
        match self.meet(stream).await {
            // Closed means that the node is ending; the connection goes with it.
            Ok(connection) => drop(self.established.send(connection).await),
            Err(reason) => {
                self.refused.fetch_add(1, Relaxed);
                if reason.worth_a_warning() {
                    tracing::warn!(%remote, %reason, "a node was turned away");
                } else {
                    tracing::debug!(%remote, %reason, "a connection came to nothing");
                }
            }
        }
    }

    async fn meet(&self, stream: TcpStream) -> Result<Connection, Trouble> {
        socket::prepare(&stream)?;
        let mut bytes = self.secure(stream).await?;
        let meeting = Meeting {
            local: &self.local,
            remote: self.remote.ip(),
            certificate: bytes.certificate(),
            proven: &|| self.proven.store(true, Relaxed),
        };
        let met = timeout(GREETING, answer(&mut bytes, &meeting))
            .await
            .unwrap_or_else(|_| Err(late("greeting", GREETING)));
        match met {
            Ok(met) => Ok(met.connection(bytes, false, self.remote)),
            Err(trouble) => {
                if matches!(trouble, Trouble::Refuses(_)) {
                    part(&mut bytes).await;
                }
                Err(trouble)
            }
        }
    }

    /// Encrypts, if this node does.
    async fn secure(&self, stream: TcpStream) -> Result<Bytes, Trouble> {
        let Some(tls) = &self.local.tls else {
            return Ok(Bytes::Plain(stream));
        };
        let handshake = tls.acceptor.accept(stream).into_fallible();
        match timeout(TLS_HANDSHAKE, handshake).await {
            Ok(Ok(stream)) => Ok(Bytes::Tls(Box::new(stream.into()))),
            Ok(Err((error, mut stream))) => {
                part(&mut stream).await;
                Err(error.into())
            }
            Err(_) => Err(late("TLS handshake", TLS_HANDSHAKE)),
        }
    }
}

fn late(what: &str, within: Duration) -> Trouble {
    let text = format!("no {what} within {} s", within.as_secs());
    io::Error::new(io::ErrorKind::TimedOut, text).into()
}

/// Closes so that the other side can still read what it was told last: closing with bytes unread would take it back.
async fn part<S>(stream: &mut S)
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    // Errors mean that the other side is gone already, and lateness that it does not listen.
    let _ = timeout(PARTING, async {
        stream.shutdown().await?;
        let mut ignored = [0; 1024];
        while stream.read(&mut ignored).await? > 0 {}
        io::Result::Ok(())
    })
    .await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_of_the_most_frequent_address_goes() {
        let check = |ips: &[u8], goes: Option<usize>| {
            let ips: Vec<IpAddr> = ips.iter().map(|n| [10, 0, 0, *n].into()).collect();
            assert_eq!(whose_place(&ips), goes, "{ips:?}");
        };
        check(&[], None);
        check(&[1], Some(0));
        check(&[1, 2, 2], Some(1));
        check(&[1, 2, 2, 1, 1], Some(0));
        check(&[3, 1, 2], Some(0));
    }
}
