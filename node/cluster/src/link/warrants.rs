//! Signs the warrants of this node's requests, and verifies those with which other nodes pass work on (ADR-0031).
//!
//! Knows neither capabilities nor roles that a node may ask for: [`Trust`](crate::settings::Trust) does.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use amcp_protocol::warrant::{Gap, Sealed};
use amcp_protocol::{ErrorCode, Failure, NodeName, RequestId, TaskRequest, Warrant};
use amcp_registry::bus::unix_ms;
use hmac::Mac;
use parking_lot::Mutex;
use tokio::time::Instant;
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::sign::CertifiedKey;

use super::forms;
use crate::transport::{Tls, mac, sign, verifies};

/// Precedes the signed bytes: the same keys prove other things too.
const LABEL: &[u8] = b"amcp warrant 1\0";
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
    #[error("the request of the warrant lives on under a later one")]
    Epoch,
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
            Self::Forged | Self::Ended | Self::Epoch | Self::Gap(_) => (
                ErrorCode::NotPermitted,
                "nodes pass on only what the node that accepted the request has signed",
            ),
        };
        Failure::new(code, message).hint(hint)
    }
}

/// The warrants that were verified, in the order of their arrival.
#[derive(Default)]
struct Known {
    /// With the time of the first arrival, from which the lifetime counts.
    live: HashMap<Sealed, (Arc<Warrant>, Instant)>,
    order: VecDeque<Sealed>,
    /// The latest epoch of each request in `live`.
    epochs: HashMap<RequestId, u64>,
}

impl Known {
    fn judge(&self, (warrant, since): &(Arc<Warrant>, Instant), now: Instant) -> Result<(), Doubt> {
        if now.saturating_duration_since(*since) > Duration::from_millis(warrant.lifetime_ms) {
            return Err(Doubt::Ended);
        }
        let latest = self.epochs.get(&warrant.request);
        if latest.is_some_and(|latest| *latest > warrant.epoch) {
            return Err(Doubt::Epoch);
        }
        Ok(())
    }

    fn remember(&mut self, sealed: &Sealed, warrant: (Arc<Warrant>, Instant)) {
        let latest = self.epochs.entry(warrant.0.request).or_default();
        *latest = warrant.0.epoch.max(*latest);
        self.live.insert(sealed.clone(), warrant);
        self.order.push_back(sealed.clone());
        if self.order.len() > KNOWN
            && let Some(oldest) = self.order.pop_front()
            && let Some((oldest, _)) = self.live.remove(&oldest)
            && self.epochs.get(&oldest.request) == Some(&oldest.epoch)
        {
            self.epochs.remove(&oldest.request);
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

    /// Checks that a warrant is its issuer's, and that it covers a task that another node passes on.
    ///
    /// # Errors
    /// The first [`Doubt`].
    pub(super) fn prove(&self, sealed: &Sealed, task: &TaskRequest) -> Result<(), Doubt> {
        let now = Instant::now();
        {
            let known = self.known.lock();
            if let Some(verified) = known.live.get(sealed) {
                known.judge(verified, now)?;
                let warrant = Arc::clone(&verified.0);
                drop(known);
                return Ok(warrant.covers(task)?);
            }
        }
        let warrant = Arc::new(self.verify(sealed)?);
        // What does not cover its task is not remembered: only work that is done takes a place.
        warrant.covers(task)?;
        let verified = (warrant, now);
        let mut known = self.known.lock();
        known.judge(&verified, now)?;
        known.remember(sealed, verified);
        Ok(())
    }

    #[cfg(test)]
    pub(super) fn remembered(&self) -> (usize, usize, usize) {
        let known = self.known.lock();
        (known.live.len(), known.order.len(), known.epochs.len())
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
                let message = [LABEL, &sealed.warrant].concat();
                verifies(
                    &certificate.ok_or(Doubt::Stranger)?,
                    &message,
                    &sealed.signature,
                )
            }
        };
        let warrant = forms::read_warrant(&sealed.warrant).map_err(|_| Doubt::Forged)?;
        if !is_signed || warrant.issuer != sealed.issuer {
            return Err(Doubt::Forged);
        }
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
