//! Who sends a request: by key, by token of an issuer, or, where the node allows it, without either.
//!
//! Knows no HTTP: the gateway reads the credential out of a request.

use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::Arc;

use amcp_protocol::Principal;
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use jiff::Timestamp;

use crate::keys::is_key;
use crate::tokens::claimed_issuer;
use crate::{Audit, Entry, Keys, Refusal, Tokens, What, anonymous};

/// Strangers can be refused as often as they like; at this rate their records fill the log in a month.
const REFUSALS: NonZeroU32 = NonZeroU32::new(1).unwrap();
/// A person with a wrong key and a script with several.
const BURST: NonZeroU32 = NonZeroU32::new(20).unwrap();

/// The credentials that a node takes.
#[derive(Debug)]
pub struct Authentication {
    keys: Keys,
    /// One for each issuer.
    issuers: Vec<Tokens>,
    /// Whether a direct client on the node's own machine may come without a credential.
    anonymous: bool,
    audit: Option<Arc<Audit>>,
    /// Bounds the records of refusals.
    refusals: DefaultDirectRateLimiter,
}

impl From<Keys> for Authentication {
    /// Keys alone; clients on the node's own machine may come without.
    fn from(keys: Keys) -> Self {
        Self::new(keys, Vec::new(), true, None)
    }
}

impl Authentication {
    /// Takes keys and the tokens of these issuers; tells the audit log of credentials that it refuses.
    #[must_use]
    pub fn new(
        keys: Keys,
        issuers: Vec<Tokens>,
        anonymous: bool,
        audit: Option<Arc<Audit>>,
    ) -> Self {
        Self {
            keys,
            issuers,
            anonymous,
            audit,
            refusals: RateLimiter::direct(Quota::per_second(REFUSALS).allow_burst(BURST)),
        }
    }

    /// Finds the user of a credential, or of a client without one; see [`anonymous`]. Waits only for a token that a key signed which the
    /// node does not have yet.
    ///
    /// # Errors
    /// The [`Refusal`].
    pub async fn check(
        &self,
        credential: Option<&str>,
        peer: Option<IpAddr>,
        is_forwarded: bool,
    ) -> Result<Arc<Principal>, Refusal> {
        let judged = self.judge(credential, peer, is_forwarded).await;
        if let (Err(refusal), Some(audit)) = (&judged, &self.audit)
            && self.refusals.check().is_ok()
        {
            // Without the log the client is refused all the same.
            let _ = audit.record(Entry {
                decision: peer.map(|peer| format!("client {peer}")),
                outcome: Some(refusal.to_string()),
                ..Entry::new(What::LoginRefused)
            });
        }
        judged
    }

    async fn judge(
        &self,
        credential: Option<&str>,
        peer: Option<IpAddr>,
        is_forwarded: bool,
    ) -> Result<Arc<Principal>, Refusal> {
        match credential {
            Some(key) if is_key(key) => self.keys.check(key, Timestamp::now()),
            Some(token) => {
                // Which issuer's keys judge it; they judge this claim too.
                let claimed = claimed_issuer(token).ok_or(Refusal::Malformed)?;
                let issuer = self
                    .issuers
                    .iter()
                    .find(|tokens| tokens.issuer() == claimed);
                let issuer = issuer.ok_or(Refusal::UnknownIssuer)?;
                Ok(Arc::new(issuer.check(token).await?))
            }
            None if self.anonymous => {
                anonymous(peer.ok_or(Refusal::Missing)?, is_forwarded).map(Arc::new)
            }
            None => Err(Refusal::Missing),
        }
    }
}
