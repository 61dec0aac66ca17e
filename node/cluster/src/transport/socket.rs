//! Sockets with the options that a link needs. Speaks nothing.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpListener, TcpSocket, TcpStream};

/// How long written bytes may stay unacknowledged. Without it the kernel goes on for about 15 minutes when a peer's machine
/// or the way to it is gone; the heartbeats give up after about as long, this ends what they do not see.
#[cfg(target_os = "linux")]
const UNACKNOWLEDGED: Duration = Duration::from_secs(5);

/// A socket on which nothing happens is probed after this long, then every second: heartbeats flow once a second, so a
/// probe means that neither side's process is at work.
const KEEPALIVE_AFTER: Duration = Duration::from_secs(5);
const KEEPALIVE_EVERY: Duration = Duration::from_secs(1);

/// Connections that the kernel holds for us: those of a mesh that all dial at once after a restart, and a flood of 900 on
/// top, without one of them being told to come again a second later.
const BACKLOG: u32 = 1_024;

/// How long a dialled node may take: a lost SYN is sent again after one second.
pub(super) const CONNECT: Duration = Duration::from_secs(3);

/// Sets what both sides of a connection need.
pub(super) fn prepare(stream: &TcpStream) -> io::Result<()> {
    let socket = SockRef::from(stream);
    // Frames are coalesced before they are written; holding them back once more only costs time.
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
        // `[::]` means every address of the machine, IPv4 too, whatever the system's default is.
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
