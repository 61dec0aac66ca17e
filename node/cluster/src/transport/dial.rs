//! Dialling another node, once. Whether and when to dial again is decided elsewhere.

use std::io;
use std::net::SocketAddr;

use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::rustls;

use super::acceptor::{GREETING, TLS_HANDSHAKE};
use super::greeting::Refusal;
use super::handshake::{Meeting, Trouble, greet};
use super::stream::Bytes;
use super::tls::common_name;
use super::{Connection, Local, socket};

/// Why a node that was dialled is not linked.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// Nobody answers there.
    #[error("{address} cannot be reached: {reason}")]
    Unreachable {
        /// What was dialled.
        address: SocketAddr,
        /// What is wrong, for people.
        reason: String,
    },
    /// One side does not accept the other's certificate, or only one side uses TLS.
    #[error("no TLS with {address}: {reason}")]
    Tls {
        /// What was dialled.
        address: SocketAddr,
        /// What is wrong, for people.
        reason: String,
    },
    /// Something else than a node listens there, or it broke off.
    #[error("{address} did not complete the greeting: {reason}")]
    Greeting {
        /// What was dialled.
        address: SocketAddr,
        /// What is wrong, for people.
        reason: String,
    },
    /// The other node says no, or proved not to be one of the mesh.
    #[error("refused by {address}: {refusal}")]
    Refused {
        /// What was dialled.
        address: SocketAddr,
        /// The peer's reason.
        refusal: Refusal,
    },
    /// This node says no.
    #[error("not linked with {address}: {refusal}")]
    Refuses {
        /// What was dialled.
        address: SocketAddr,
        /// The peer's reason.
        refusal: Refusal,
    },
}

impl DialError {
    /// The refusal, whoever refused.
    #[must_use]
    pub const fn refusal(&self) -> Option<&Refusal> {
        match self {
            Self::Refused { refusal, .. } | Self::Refuses { refusal, .. } => Some(refusal),
            Self::Unreachable { .. } | Self::Tls { .. } | Self::Greeting { .. } => None,
        }
    }
}

/// Dials a node and greets it. Takes at most 7 s: three to connect, two for TLS, two for the greeting.
///
/// # Errors
/// [`DialError`] says who did not want what.
pub async fn dial(local: &Local, address: SocketAddr) -> Result<Connection, DialError> {
    let stream = socket::connect(address)
        .await
        .map_err(|error| DialError::Unreachable {
            address,
            reason: error.to_string(),
        })?;
    let mut bytes = secure(local, stream, address).await?;
    let meeting = Meeting {
        local,
        remote: address.ip(),
        certificate: bytes.certificate(),
        proven: &|| (),
    };
    match timeout(GREETING, greet(&mut bytes, &meeting)).await {
        Ok(Ok(met)) => Ok(met.connection(bytes, true, address)),
        Ok(Err(trouble)) => Err(explain(address, trouble, local.tls.is_some())),
        Err(_) => Err(DialError::Greeting {
            address,
            reason: format!("it said nothing for {} s", GREETING.as_secs()),
        }),
    }
}

/// Encrypts, if this node does.
async fn secure(local: &Local, stream: TcpStream, address: SocketAddr) -> Result<Bytes, DialError> {
    let Some(tls) = &local.tls else {
        return Ok(Bytes::Plain(stream));
    };
    let failed = |reason| DialError::Tls { address, reason };
    match timeout(TLS_HANDSHAKE, tls.connector.connect(common_name(), stream)).await {
        Ok(Ok(stream)) => Ok(Bytes::Tls(Box::new(stream.into()))),
        Ok(Err(error)) if is_tls(&error) => Err(failed(error.to_string())),
        Ok(Err(error)) => Err(failed(format!("{error}; does it use TLS at all?"))),
        Err(_) => Err(failed(format!(
            "no handshake within {} s; does it use TLS at all?",
            TLS_HANDSHAKE.as_secs()
        ))),
    }
}

fn explain(address: SocketAddr, trouble: Trouble, secured: bool) -> DialError {
    match trouble {
        Trouble::Refused(refusal) => DialError::Refused { address, refusal },
        Trouble::Refuses(refusal) => DialError::Refuses { address, refusal },
        Trouble::Garbled(garbled) => DialError::Greeting {
            address,
            reason: garbled.to_string(),
        },
        // In TLS 1.3 the acceptor judges our certificate after our handshake is over: its verdict arrives here.
        Trouble::Io(error) if is_tls(&error) => {
            let reason = error.to_string();
            DialError::Tls { address, reason }
        }
        Trouble::Io(error) => DialError::Greeting {
            address,
            reason: if secured {
                error.to_string()
            } else {
                format!("{error}; does it use TLS, which this node does not?")
            },
        },
    }
}

/// Whether the trouble is between the two sides' TLS rather than on the way.
fn is_tls(error: &io::Error) -> bool {
    error.get_ref().is_some_and(|e| e.is::<rustls::Error>())
}
