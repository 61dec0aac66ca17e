//! Signs the warrants of this node's requests, and verifies those with which other nodes pass work on (ADR-0031).
//!
//! Knows neither capabilities nor roles that a node may ask for: [`Trust`](crate::settings::Trust) does.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use amcp_protocol::warrant::{Gap, Sealed};
use amcp_protocol::{ErrorCode, Failure, NodeName, TaskRequest, Warrant};
use amcp_registry::bus::unix_ms;
use hmac::Mac;
use parking_lot::Mutex;
use sha2::{Digest as _, Sha256};
use tokio::time::Instant;
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::sign::CertifiedKey;

use super::forms;
use crate::transport::{Tls, mac, sign, verifies};

/// Precedes the signed bytes: the same keys prove other things too. Longer than the two random values, of 32 bytes each, with
/// which TLS 1.2 begins what it signs.
const LABEL: &[u8] =
    b"amcp warrant 1: what the node that accepted a request lets other nodes pass on\0";
/// Most verified warrants that a node remembers, of at most 64 KB each: those of the requests of some seconds. A forgotten one is
/// verified again.
const KNOWN: usize = 1_024;
/// Most nodes whose certificates a node remembers: far more than a mesh has.
const MET: usize = 1_024;
/// How far the clocks of two nodes may differ. Ends a warrant that was kept for later; in ordinary use its lifetime does, which
/// every node measures by itself.
const SKEW: Duration = Duration::from_secs(300);

/// A node's name, and the secret with which it signs.
pub struct Identity {
    pub(super) name: NodeName,
    secret: Secret,
}

enum Secret {
    Cookie(String),
    Certificate(Arc<CertifiedKey>),
}

amcp_protocol::opaque_debug!(Identity);

impl Identity {
    /// A node that signs with the key of its certificate, or without TLS with the cookie, which all nodes have.
    #[must_use]
    pub fn new(name: NodeName, cookie: &str, tls: Option<&Tls>) -> Self {
        let secret = match tls {
            Some(tls) => Secret::Certificate(Arc::clone(&tls.own)),
            None => Secret::Cookie(cookie.to_owned()),
        };
        Self { name, secret }
    }
}

/// The reason for which a node does not believe that a task belongs to another node's request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Doubt {
    #[error("the task comes without a warrant")]
    Missing,
    #[error("this node has never been linked with the node that signed the warrant")]
    Stranger,
    #[error("the signature of the warrant is not its issuer's")]
    Forged,
    #[error("the warrant has ended, or the clocks of the nodes differ by more than five minutes")]
    Ended,
    #[error("the warrant does not cover the task: {0}")]
    Gap(#[from] Gap),
}

impl Doubt {
    pub(super) fn failure(self, task: &TaskRequest, peer: &NodeName) -> Failure {
        let message = format!(
            "{} for a request of another node, passed on by {peer}: {self}",
            task.capability
        );
        let (code, hint) = match self {
            // The next attempt may find the link.
            Self::Stranger => (
                ErrorCode::AgentUnavailable,
                "every node needs a link with each node that takes requests",
            ),
            Self::Missing => (
                ErrorCode::NotPermitted,
                "a node with cluster_trust needs a warrant; earlier builds send none",
            ),
            Self::Forged | Self::Ended | Self::Gap(_) => (
                ErrorCode::NotPermitted,
                "nodes pass on only what the node that accepted the request has signed",
            ),
        };
        Failure::new(code, message).hint(hint)
    }
}

/// SHA-256 of a warrant's words.
type Key = [u8; 32];

/// The warrants that were verified, each with the time of its first arrival, from which the lifetime counts.
#[derive(Default)]
struct Known {
    live: HashMap<Key, (Arc<Warrant>, Instant)>,
    /// The oldest first.
    order: VecDeque<Key>,
}

impl Known {
    fn remember(&mut self, key: Key, warrant: (Arc<Warrant>, Instant)) {
        let Entry::Vacant(place) = self.live.entry(key) else {
            return;
        };
        place.insert(warrant);
        self.order.push_back(key);
        if self.order.len() > KNOWN
            && let Some(oldest) = self.order.pop_front()
        {
            self.live.remove(&oldest);
        }
    }
}

/// The warrants of one node.
pub(crate) struct Warrants {
    me: Identity,
    /// The certificates of nodes that have proven their names over a link, this node's own too.
    met: Mutex<HashMap<NodeName, CertificateDer<'static>>>,
    known: Mutex<Known>,
}

impl Warrants {
    pub(super) fn new(me: Identity) -> Self {
        let own = match &me.secret {
            Secret::Cookie(_) => None,
            Secret::Certificate(own) => own.cert.first().cloned(),
        };
        Self {
            met: Mutex::new(own.map(|own| (me.name.clone(), own)).into_iter().collect()),
            me,
            known: Mutex::default(),
        }
    }

    /// Remembers the certificate of a node that was linked.
    pub(super) fn met(&self, node: &NodeName, certificate: Option<CertificateDer<'static>>) {
        let mut met = self.met.lock();
        if let Some(certificate) = certificate
            && (met.len() < MET || met.contains_key(node))
        {
            met.insert(node.clone(), certificate);
        }
    }

    /// Signs the warrant of a task of this node's own request, before the task leaves.
    pub(super) fn seal(&self, task: &TaskRequest) {
        if let Some(backing) = &task.lineage.backing {
            backing.seal(&self.me.name, (now_unix(), task.deadline_ms), |warrant| {
                self.sign(warrant)
            });
        }
    }

    pub(super) fn sign(&self, warrant: &Warrant) -> Option<Sealed> {
        let bytes = forms::warrant(warrant)
            .inspect_err(|error| tracing::warn!(request = %warrant.request, %error, "nodes cannot pass the tasks of a request on"))
            .ok()?;
        let signature = match &self.me.secret {
            Secret::Cookie(cookie) => {
                let mac = mac(cookie).chain_update(LABEL).chain_update(&bytes);
                mac.finalize().into_bytes().to_vec()
            }
            Secret::Certificate(own) => sign(own, &[LABEL, &bytes].concat())?,
        };
        Some(Sealed {
            issuer: warrant.issuer.clone(),
            warrant: bytes.into(),
            signature: signature.into(),
        })
    }

    /// Checks that a warrant is its issuer's, and that it covers a task that another node passes on. Returns the rest of its life.
    /// Checks the cheap things first: anybody may write a warrant.
    ///
    /// # Errors
    /// The first [`Doubt`].
    pub(super) fn prove(&self, sealed: &Sealed, task: &TaskRequest) -> Result<Duration, Doubt> {
        if sealed.warrant.len() > forms::MAX_WARRANT {
            return Err(Doubt::Forged);
        }
        let now = Instant::now();
        let key = Sha256::digest(&sealed.warrant).into();
        let known = self.known.lock().live.get(&key).cloned();
        let verify = || Ok::<_, Doubt>((Arc::new(self.verify(sealed)?), now));
        let (warrant, since) = known.map_or_else(verify, Ok)?;
        if warrant.issuer != sealed.issuer {
            return Err(Doubt::Forged);
        }
        let life = Duration::from_millis(warrant.lifetime_ms);
        let rest = life.checked_sub(now.saturating_duration_since(since));
        let rest = rest.ok_or(Doubt::Ended)?;
        // A warrant that does not cover its task takes no place.
        warrant.covers(task)?;
        self.known.lock().remember(key, (warrant, since));
        Ok(rest)
    }

    #[cfg(test)]
    pub(super) fn remembered(&self) -> (usize, usize) {
        let known = self.known.lock();
        (known.live.len(), known.order.len())
    }

    fn verify(&self, sealed: &Sealed) -> Result<Warrant, Doubt> {
        let is_signed = match &self.me.secret {
            Secret::Cookie(cookie) => {
                let mac = mac(cookie)
                    .chain_update(LABEL)
                    .chain_update(&sealed.warrant);
                mac.verify_slice(&sealed.signature).is_ok()
            }
            Secret::Certificate(_) => {
                let certificate = self.met.lock().get(&sealed.issuer).cloned();
                let certificate = certificate.ok_or(Doubt::Stranger)?;
                let message = [LABEL, &sealed.warrant].concat();
                verifies(&certificate, &message, &sealed.signature)
            }
        };
        if !is_signed {
            return Err(Doubt::Forged);
        }
        let warrant = forms::read_warrant(&sealed.warrant).map_err(|_| Doubt::Forged)?;
        let (now, skew) = (now_unix(), u64::try_from(SKEW.as_millis()).unwrap_or(0));
        let issued = warrant.issued_unix_ms;
        let end = issued.saturating_add(warrant.lifetime_ms);
        if issued > now.saturating_add(skew) || end.saturating_add(skew) < now {
            return Err(Doubt::Ended);
        }
        Ok(warrant)
    }
}

fn now_unix() -> u64 {
    u64::try_from(unix_ms()).unwrap_or_default()
}
