//! Sockets with the options that a link needs. Sends and receives nothing.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpListener, TcpSocket, TcpStream};

/// How long written bytes may stay unacknowledged. By default the kernel goes on for about 15 minutes when a peer's machine or
/// the way to it is gone. Silent peers are evicted after about 5 s anyway; this also ends a link that loses our bytes only.
#[cfg(target_os = "linux")]
const UNACKNOWLEDGED: Duration = Duration::from_secs(5);

/// The kernel probes a socket after this long without traffic, then every second: heartbeats flow once a second, so a probe
/// means that neither side's process runs.
const KEEPALIVE_AFTER: Duration = Duration::from_secs(5);
const KEEPALIVE_EVERY: Duration = Duration::from_secs(1);

/// Most connections that the kernel holds for us: enough for a mesh that dials at once after a restart and for a flood of 900
/// on top, so that no node has to send its SYN again a second later.
const BACKLOG: u32 = 1_024;

/// How long a connect may take: the kernel sends a lost SYN again after one second.
pub(super) const CONNECT: Duration = Duration::from_secs(3);

/// Sets the options that both sides of a connection need.
pub(super) fn prepare(stream: &TcpStream) -> io::Result<()> {
    let socket = SockRef::from(stream);
    // Links coalesce frames themselves; a further delay only costs time.
    socket.set_tcp_nodelay(true)?;
    #[cfg(target_os = "linux")]
    socket.set_tcp_user_timeout(Some(UNACKNOWLEDGED))?;
    let keepalive = TcpKeepalive::new()
        .with_time(KEEPALIVE_AFTER)
        .with_interval(KEEPALIVE_EVERY);
    socket.set_tcp_keepalive(&keepalive)
}

/// Listens; a node that restarts gets its port back at once.
pub(super) fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() {
        TcpSocket::new_v4()?
    } else {
        let socket = TcpSocket::new_v6()?;
        // `[::]` means every address of the machine, including IPv4, whatever the system's default.
        SockRef::from(&socket).set_only_v6(false)?;
        socket
    };
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Connects within [`CONNECT`].
pub(super) async fn connect(address: SocketAddr) -> io::Result<TcpStream> {
    let stream = tokio::time::timeout(CONNECT, TcpStream::connect(address))
        .await
        .map_err(|_| {
            let text = format!("no answer within {} s", CONNECT.as_secs());
            io::Error::new(io::ErrorKind::TimedOut, text)
        })??;
    prepare(&stream)?;
    Ok(stream)
}
