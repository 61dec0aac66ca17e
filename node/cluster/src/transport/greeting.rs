//! The messages with which the two sides of a new connection greet and prove that they know the cookie: pure.
//!
//! Every frame: `AMCP`, the protocol's version (u16), the body's length (u32, at most 4 KiB), the body, a JSON object.
//! Magic, version and length are the same in all versions, and readers ignore unknown fields, so that a node can at least
//! tell another that it does not speak its version. Uses no sockets.

use amcp_protocol::NodeName;
use hmac::Mac;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::cookie::mac;
use super::random_bytes;
use crate::info::{NodeInfo, Role};

/// The version of the greeting and of the protocol after it.
pub const PROTOCOL_VERSION: u16 = 1;

const MAGIC: [u8; 4] = *b"AMCP";

/// Bytes of magic, version and length.
pub(super) const HEADER: usize = 10;

/// Largest body, in bytes: a greeting has some 400; this leaves room for long host names and for later versions, and a flood of
/// sockets that all claim this much costs little memory.
const MAX_BODY: usize = 4 * 1024;

/// Longest part of a message from outside that we show, in characters: a few lines of a terminal.
const MAX_MESSAGE: usize = 300;

/// The reason for which a node refuses a connection.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[serde(tag = "code", rename_all = "snake_case")]
pub enum Refusal {
    /// The other side does not know the cookie.
    #[error("the cookies differ: give both nodes the same --cookie-file or AMCP_COOKIE")]
    WrongCookie,
    /// The other side speaks another version.
    #[error(
        "the protocol versions differ: a node that speaks {spoken} refuses {refused}; run builds that speak the same version"
    )]
    ProtocolVersion {
        /// The refusing node's version.
        spoken: u16,
        /// The refused node's version.
        refused: u16,
    },
    /// The node dialled itself, at an address that turned out to be its own.
    #[error("this is the node itself")]
    SelfDial,
    /// A connection with this peer stands already.
    #[error("the two nodes are linked already")]
    Duplicate,
    /// Another node has this name.
    #[error(
        "the name {name} belongs to the node at {holder}: give this node another --name, or stop the other node first"
    )]
    NameTaken {
        /// The name.
        name: NodeName,
        /// The address of the name's holder.
        holder: String,
    },
    /// The certificate does not name the node.
    #[error(
        "the certificate does not name the node {name}: issue one with `amcp cluster certs issue {name}`"
    )]
    WrongCertificate {
        /// The name in the greeting.
        name: NodeName,
    },
    /// The refusing node is about to end.
    #[error("the node is leaving the mesh")]
    Leaving,
    /// The refusing node has as many links as it takes.
    #[error("the node has as many links as it takes")]
    TooMany,
    /// A reason that only another build knows.
    #[error("{message}")]
    Other {
        /// The reason in that build's words.
        message: String,
    },
}

impl Refusal {
    /// Whether a node may give this reason before it has proven the cookie. We believe the others from nodes of the mesh only.
    pub(super) const fn is_early(&self) -> bool {
        match self {
            Self::WrongCookie
            | Self::ProtocolVersion { .. }
            | Self::SelfDial
            | Self::WrongCertificate { .. }
            | Self::TooMany
            | Self::Other { .. } => true,
            Self::Duplicate | Self::NameTaken { .. } | Self::Leaving => false,
        }
    }
}

/// One frame's body.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "step", rename_all = "snake_case")]
pub(super) enum Greeting {
    /// From both sides, the dialler first.
    Hello(Hello),
    /// From both sides, the acceptor first.
    Proof { proof: [u8; 32] },
    /// From the acceptor: the dialler may come in.
    Accept,
    /// From either side: the connection is refused.
    Refuse { refusal: Value, message: String },
}

/// A node's description of itself for this connection.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Hello {
    pub(super) info: NodeInfo,
    /// Fresh for each connection, so that an old proof proves nothing.
    pub(super) nonce: [u8; 32],
    /// The token of frames to the sender.
    pub(super) token: u64,
    /// Whether the sender's proofs cover the headers too. An older build's do not, and one that reads this cannot be made to
    /// believe so: the hello itself is under both forms of the proof.
    #[serde(default)]
    pub(super) headers: bool,
}

impl Hello {
    pub(super) fn new(info: NodeInfo) -> Self {
        Self {
            info,
            nonce: random_bytes(),
            token: u64::from_le_bytes(random_bytes()),
            headers: true,
        }
    }
}

/// The bytes are not a greeting.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the other side does not greet like an AMCP node: {0}")]
pub(super) struct Garbled(pub(super) String);

impl Greeting {
    pub(super) fn refuse(refusal: &Refusal) -> Self {
        Self::Refuse {
            refusal: serde_json::to_value(refusal).unwrap_or_default(),
            message: refusal.to_string(),
        }
    }

    /// The body of the greeting's frame.
    pub(super) fn body(&self) -> Vec<u8> {
        serde_json::to_vec(self)
            .expect("a greeting has only string keys and cannot fail to serialise")
    }

    /// Reads a body.
    pub(super) fn read(body: &[u8]) -> Result<Self, Garbled> {
        let garbled = |e: serde_json::Error| Garbled(e.to_string());
        let mut value: Value = serde_json::from_slice(body).map_err(garbled)?;
        // Roles that only a newer build knows must not keep the newer node out.
        if let Some(roles) = value
            .pointer_mut("/info/roles")
            .and_then(Value::as_array_mut)
        {
            roles.retain(|role| Role::deserialize(role).is_ok());
        }
        serde_json::from_value(value).map_err(garbled)
    }
}

/// The refusal in a [`Greeting::Refuse`], even one that this build does not know.
pub(super) fn refusal(value: Value, message: &str) -> Refusal {
    serde_json::from_value(value).unwrap_or_else(|_| Refusal::Other {
        message: message
            .chars()
            .map(|c| if c.is_control() { ' ' } else { c })
            .take(MAX_MESSAGE)
            .collect(),
    })
}

/// Magic, version and length of a frame, and its body.
pub(super) fn frame(body: &[u8]) -> Result<Vec<u8>, Garbled> {
    let length = u32::try_from(body.len())
        .ok()
        .filter(|_| body.len() <= MAX_BODY)
        .ok_or_else(|| Garbled(format!("a greeting of {} bytes is too long", body.len())))?;
    let version = PROTOCOL_VERSION.to_be_bytes();
    Ok([&MAGIC[..], &version, &length.to_be_bytes(), body].concat())
}

/// The version of a frame and the length of its body.
pub(super) fn header(bytes: [u8; HEADER]) -> Result<(u16, usize), Garbled> {
    let [a, b, c, d, v1, v0, length @ ..] = bytes;
    if [a, b, c, d] != MAGIC {
        return Err(Garbled("its first bytes are not AMCP".to_owned()));
    }
    let length = u32::from_be_bytes(length);
    usize::try_from(length)
        .ok()
        .filter(|length| *length <= MAX_BODY)
        .map(|length| (u16::from_be_bytes([v1, v0]), length))
        .ok_or_else(|| Garbled(format!("it announces a greeting of {length} bytes")))
}

/// The node that sent these first bytes of a connection without encryption; none until the bytes name it.
#[must_use]
pub fn dialler(first: &[u8]) -> Option<NodeName> {
    let (head, body) = first.split_first_chunk()?;
    let (_, length) = header(*head).ok()?;
    match Greeting::read(body.get(..length)?).ok()? {
        Greeting::Hello(hello) => Some(hello.info.name),
        Greeting::Proof { .. } | Greeting::Accept | Greeting::Refuse { .. } => None,
    }
}

/// The side that proves. Each has its own label, so that a reflected proof proves nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    Dialler,
    Acceptor,
}

/// The frames of both hellos, byte for byte: versions, names, incarnations, nonces, tokens and all other fields.
#[derive(Debug)]
pub(super) struct Transcript<'a> {
    pub(super) dialler: &'a [u8],
    pub(super) acceptor: &'a [u8],
    /// Whether proofs cover the headers: both sides' builds must.
    pub(super) headers: bool,
}

impl Transcript<'_> {
    /// The proof of `side` that it knows the cookie.
    pub(super) fn proof(&self, cookie: &str, side: Side) -> [u8; 32] {
        self.mac(cookie, side).finalize().into_bytes().into()
    }

    /// Whether `side` knows the cookie. A wrong proof takes as long as a right one.
    pub(super) fn proves(&self, cookie: &str, side: Side, proof: &[u8; 32]) -> bool {
        self.mac(cookie, side).verify_slice(proof).is_ok()
    }

    fn mac(&self, cookie: &str, side: Side) -> impl Mac<OutputSize = sha2::digest::consts::U32> {
        let label: &[u8] = match side {
            Side::Dialler => b"amcp greeting: dialler\0",
            Side::Acceptor => b"amcp greeting: acceptor\0",
        };
        let from = if self.headers { 0 } else { HEADER };
        let hellos =
            [self.dialler, self.acceptor].map(|frame| frame.get(from..).unwrap_or_default());
        // The lengths keep a byte from moving between the two hellos.
        hellos
            .iter()
            .fold(mac(cookie).chain_update(label), |mac, hello| {
                mac.chain_update((hello.len() as u64).to_be_bytes())
                    .chain_update(hello)
            })
    }
}
