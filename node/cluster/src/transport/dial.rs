//! Dials another node once. [`crate::membership`] decides whether and when to dial again.

use std::io;
use std::net::SocketAddr;

use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::rustls;
use tokio_util::either::Either;

use super::acceptor::{GREETING, TLS_HANDSHAKE};
use super::greeting::Refusal;
use super::handshake::{Meeting, Trouble, greet};
use super::stream::Bytes;
use super::tls::common_name;
use super::{Connection, Local, socket};

/// The error of a dial.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// No node answers at the address.
    #[error("{address} cannot be reached: {reason}")]
    Unreachable {
        /// The dialled address.
        address: SocketAddr,
        /// The fault, in words.
        reason: String,
    },
    /// One side does not accept the other's certificate, or only one side uses TLS.
    #[error("no TLS with {address}: {reason}")]
    Tls {
        /// The dialled address.
        address: SocketAddr,
        /// The fault, in words.
        reason: String,
    },
    /// A program that is not a node listens there, or the node broke off.
    #[error("{address} did not complete the greeting: {reason}")]
    Greeting {
        /// The dialled address.
        address: SocketAddr,
        /// The fault, in words.
        reason: String,
    },
    /// The other node refuses, or did not prove that it belongs to the mesh.
    #[error("refused by {address}: {refusal}")]
    Refused {
        /// The dialled address.
        address: SocketAddr,
        /// The peer's reason.
        refusal: Refusal,
    },
    /// This node refuses.
    #[error("not linked with {address}: {refusal}")]
    Refuses {
        /// The dialled address.
        address: SocketAddr,
        /// This node's reason.
        refusal: Refusal,
    },
}

impl DialError {
    /// The refusal of either side.
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
/// [`DialError`] names the side and the reason.
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
    match timeout(GREETING, greet(&mut bytes.0, &meeting)).await {
        Ok(Ok(met)) => Ok(met.connection(bytes, true, address)),
        Ok(Err(trouble)) => Err(explain(address, trouble, local.tls.is_some())),
        Err(_) => Err(DialError::Greeting {
            address,
            reason: format!("it took more than {} s", GREETING.as_secs()),
        }),
    }
}

/// Adds TLS if this node uses it.
async fn secure(local: &Local, stream: TcpStream, address: SocketAddr) -> Result<Bytes, DialError> {
    let Some(tls) = &local.tls else {
        return Ok(Bytes(Either::Left(stream)));
    };
    let failed = |reason| DialError::Tls { address, reason };
    match timeout(TLS_HANDSHAKE, tls.connector.connect(common_name(), stream)).await {
        Ok(Ok(stream)) => Ok(Bytes(Either::Right(Box::new(stream.into())))),
        Ok(Err(error)) if is_tls(&error) => Err(failed(error.to_string())),
        Ok(Err(error)) => Err(failed(format!(
            "{error}; does the other node use TLS at all?"
        ))),
        Err(_) => Err(failed(format!(
            "no handshake within {} s; does the other node use TLS at all?",
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
        // In TLS 1.3 the acceptor judges our certificate after our handshake has ended: its verdict arrives here.
        Trouble::Io(error) if is_tls(&error) => {
            let reason = error.to_string();
            DialError::Tls { address, reason }
        }
        Trouble::Io(error) => DialError::Greeting {
            address,
            reason: if secured {
                error.to_string()
            } else {
                format!("{error}; does the other node use TLS, which this node does not?")
            },
        },
    }
}

/// Whether the fault is between the two sides' TLS rather than on the way.
fn is_tls(error: &io::Error) -> bool {
    error.get_ref().is_some_and(|e| e.is::<rustls::Error>())
}
