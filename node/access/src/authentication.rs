//! Who sends a request: by key, by token of an issuer, or, where the node allows it, without either.
//!
//! Knows no HTTP: the gateway reads the credential out of a request.

use std::net::IpAddr;
use std::sync::Arc;

use amcp_protocol::Principal;
use jiff::Timestamp;

use crate::keys::is_key;
use crate::tokens::claimed_issuer;
use crate::{Keys, Refusal, Tokens, anonymous};

/// The credentials that a node takes.
#[derive(Debug)]
pub struct Authentication {
    keys: Keys,
    /// One for each issuer.
    issuers: Vec<Tokens>,
    /// Whether a direct client on the node's own machine may come without a credential.
    anonymous: bool,
}

impl From<Keys> for Authentication {
    /// Keys alone; clients on the node's own machine may come without.
    fn from(keys: Keys) -> Self {
        Self::new(keys, Vec::new(), true)
    }
}

impl Authentication {
    /// Takes keys and the tokens of these issuers.
    #[must_use]
    pub const fn new(keys: Keys, issuers: Vec<Tokens>, anonymous: bool) -> Self {
        Self {
            keys,
            issuers,
            anonymous,
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
