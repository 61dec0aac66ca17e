//! Accepts other nodes: listens, encrypts, greets, and hands over connections whose two sides have greeted each other.
//!
//! A peer that has not yet proven that it knows the cookie is a stranger. Strangers are bounded in number, have seconds to
//! greet, and make way for newer ones. Decides nothing about members.

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
use tokio_util::either::Either;

use super::handshake::{Meeting, Trouble, answer};
use super::stream::Bytes;
use super::{Connection, Local, socket};

/// A handshake takes two round trips and a millisecond of work. Together with [`GREETING`], a silent stranger stays for less
/// than 5 s.
pub(super) const TLS_HANDSHAKE: Duration = Duration::from_secs(2);

/// The greeting takes two round trips, and admission asks an actor.
pub(super) const GREETING: Duration = Duration::from_secs(2);

/// Most strangers at a time: more than the nodes of a mesh that dial at once, and few enough that their sockets, TLS handshakes
/// and greetings (4 KiB each) stay under 10 MB.
const STRANGERS: usize = 128;

/// How long a refused peer has to read the reason before this node closes the socket.
const PARTING: Duration = Duration::from_millis(500);

/// The least pause after a failed `accept`, mostly for want of a file descriptor: long enough for some strangers to time out,
/// too short for a peer to give up. The pause is up to twice as long, so that nodes of one machine do not try in step.
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
    /// The operating system does not let this process listen on the address.
    pub fn bind(address: SocketAddr) -> io::Result<Self> {
        let listener = socket::listen(address)?;
        Ok(Self {
            address: listener.local_addr()?,
            listener,
            refused: Arc::default(),
        })
    }

    /// The address on which it listens.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Arrived connections that this node did not accept, for any reason.
    #[must_use]
    pub fn refused(&self) -> u64 {
        self.refused.load(Relaxed)
    }

    /// Accepts until `established` is closed or this future is dropped, which also ends the greetings under way. May run again
    /// afterwards; meanwhile the kernel holds new connections.
    pub async fn run(&self, local: Arc<Local>, established: mpsc::Sender<Connection>) {
        let mut tasks = JoinSet::new();
        let mut strangers: Vec<Stranger> = Vec::new();
        loop {
            tokio::select! {
                () = established.closed() => return,
                // Frees the tasks that have ended.
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
                        tracing::warn!(%error, "this node cannot accept a connection; is its limit of open files too low?");
                        sleep(AFTER_FAILURE.mul_f64(1.0 + fastrand::f64())).await;
                    }
                },
            }
        }
    }

    /// Makes room for the newest stranger: the one that has waited longest probably never greets.
    fn make_room(&self, strangers: &mut Vec<Stranger>) {
        if strangers.len() < STRANGERS {
            return;
        }
        let ips: Vec<IpAddr> = strangers.iter().map(|s| s.ip).collect();
        if let Some(index) = whose_place(&ips) {
            let stranger = strangers.remove(index);
            stranger.task.abort();
            self.refused.fetch_add(1, Relaxed);
            tracing::debug!(ip = %stranger.ip, "too many connections wait to greet: this node closes the oldest of this address");
        }
    }
}

/// The index of the stranger that must go, among strangers in order of age: the oldest of the address with the most, so that
/// one address cannot drive out the others.
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

/// A new connection with all that its own task needs.
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
            // A closed channel means that the node is ending, and the connection with it.
            Ok(connection) => drop(self.established.send(connection).await),
            Err(reason) => {
                self.refused.fetch_add(1, Relaxed);
                if reason.worth_a_warning() {
                    tracing::warn!(%remote, %reason, "this node refused another node, or was refused");
                } else {
                    tracing::debug!(%remote, %reason, "a connection did not complete its greeting");
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
        let met = timeout(GREETING, answer(&mut bytes.0, &meeting))
            .await
            .unwrap_or_else(|_| Err(late("greeting", GREETING)));
        match met {
            Ok(met) => Ok(met.connection(bytes, false, self.remote)),
            Err(trouble) => {
                if matches!(trouble, Trouble::Refuses(_)) {
                    part(&mut bytes.0).await;
                }
                Err(trouble)
            }
        }
    }

    /// Adds TLS if this node uses it.
    async fn secure(&self, stream: TcpStream) -> Result<Bytes, Trouble> {
        let Some(tls) = &self.local.tls else {
            return Ok(Bytes(Either::Left(stream)));
        };
        let handshake = tls.acceptor.accept(stream).into_fallible();
        match timeout(TLS_HANDSHAKE, handshake).await {
            Ok(Ok(stream)) => Ok(Bytes(Either::Right(Box::new(stream.into())))),
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

/// Closes so that the other side can still read the last message: a close with unread bytes might take it back.
async fn part<S>(stream: &mut S)
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    // An error means that the other side has closed already, and a time-out that it does not read.
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
