//! The wires between the nodes of the demo: others reach each node through an entrance here, so that we can cut it off.
//!
//! Changes no byte and loses none: bytes that a cut holds back arrive when it heals, as with a real network.
//! Works only for links without encryption: it reads their greeting.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};

use amcp_cluster::transport::dialler;
use amcp_protocol::NodeName;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::task::AbortOnDropHandle;

/// Longest first frame of a dialler, in bytes; a greeting is several times shorter.
const MAX_FIRST: usize = 8 * 1024;
/// Bytes carried at a time: what a socket's buffer holds.
const CARRIED: usize = 64 * 1024;

#[derive(Debug, Default)]
pub(super) struct Wires {
    /// The node that is cut off from all others.
    cut: watch::Sender<Option<NodeName>>,
}

/// The address at which the others reach a node.
#[derive(Debug)]
pub(super) struct Entrance {
    /// The address that the node advertises, also after a restart.
    pub(super) address: SocketAddr,
    target: watch::Sender<Option<SocketAddr>>,
    _carrying: AbortOnDropHandle<()>,
}

impl Wires {
    /// Makes the entrance of a node that does not listen yet.
    ///
    /// # Errors
    /// There is no free port.
    pub(super) async fn entrance(&self, node: NodeName) -> io::Result<Entrance> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let (target, leads_to) = watch::channel(None);
        let cut = self.cut.subscribe();
        let carrying = tokio::spawn(carry_all(listener, move |socket| {
            carry(socket, node.clone(), leads_to.clone(), cut.clone())
        }));
        Ok(Entrance {
            address,
            target,
            _carrying: AbortOnDropHandle::new(carrying),
        })
    }

    /// Holds back all bytes to and from this node, until [`Self::heal`].
    pub(super) fn cut_off(&self, node: NodeName) {
        self.cut.send_replace(Some(node));
    }

    /// Lets all bytes through again.
    pub(super) fn heal(&self) {
        self.cut.send_replace(None);
    }
}

impl Entrance {
    /// Sets the address of the node behind the entrance.
    pub(super) fn leads_to(&self, address: SocketAddr) {
        self.target.send_replace(Some(address));
    }
}

async fn carry_all<F>(listener: TcpListener, carry: impl Fn(TcpStream) -> F)
where
    F: Future<Output = io::Result<()>> + Send + 'static,
{
    let mut carried = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((socket, _)) => {
                    carried.spawn(carry(socket));
                }
                // Accepting has failed for good: to the nodes this is a peer that does not answer.
                Err(_) => return,
            },
            // A broken wire closes the connection, so that both ends see it.
            Some(_) = carried.join_next() => {}
        }
    }
}

/// Carries one connection to `owner` to its end.
async fn carry(
    mut caller: TcpStream,
    owner: NodeName,
    leads_to: watch::Receiver<Option<SocketAddr>>,
    cut: watch::Receiver<Option<NodeName>>,
) -> io::Result<()> {
    let mut first = Vec::with_capacity(MAX_FIRST);
    let name = loop {
        let read = caller.read_buf(&mut first).await?;
        if let Some(name) = dialler(&first) {
            break name;
        }
        if read == 0 || first.len() > MAX_FIRST {
            return Ok(());
        }
    };
    let mut way = Way {
        cut,
        ends: [owner, name],
    };
    way.open().await;
    let target = *leads_to.borrow();
    let Some(target) = target else {
        return Ok(());
    };
    let mut called = TcpStream::connect(target).await?;
    called.set_nodelay(true)?;
    caller.set_nodelay(true)?;
    called.write_all(&first).await?;
    let (from_caller, to_caller) = caller.split();
    let (from_called, to_called) = called.split();
    // A link is over when one direction has ended.
    tokio::select! {
        ended = pump(from_caller, to_called, way.clone()) => ended,
        ended = pump(from_called, to_caller, way) => ended,
    }
}

async fn pump(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    mut way: Way,
) -> io::Result<()> {
    let mut buffer = vec![0; CARRIED];
    loop {
        let read = from.read(&mut buffer).await?;
        // A cut also holds back the end of a connection.
        way.open().await;
        match buffer.get(..read) {
            None | Some([]) => return Ok(()),
            Some(bytes) => to.write_all(bytes).await?,
        }
    }
}

/// The way between two nodes.
#[derive(Debug, Clone)]
struct Way {
    cut: watch::Receiver<Option<NodeName>>,
    ends: [NodeName; 2],
}

impl Way {
    /// Waits until neither end is cut off.
    async fn open(&mut self) {
        let ends = &self.ends;
        let passes = |cut: &Option<NodeName>| cut.as_ref().is_none_or(|cut| !ends.contains(cut));
        // Fails when the wires are gone: the way then stays as it is.
        let _ = self.cut.wait_for(passes).await;
    }
}
