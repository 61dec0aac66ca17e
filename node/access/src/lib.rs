//! Who asks, and what was done: API keys, tokens of an issuer, the principals that they prove, the audit log.
//!
//! Decides nothing about capabilities, knows no request and speaks no HTTP; the gateway passes on what the client sent.

pub mod audit;
mod authentication;
mod budgets;
mod files;
pub mod keys;
mod names;
pub mod tokens;

pub use audit::{Audit, AuditRules, Entry, OnTrouble, Unaudited, What};
pub use authentication::Authentication;
pub use budgets::{Budget, Budgets, Exhausted, Spent};
pub use keys::{Key, KeyError, KeyFile, KeyRing, Keys, Lifetime, NewKey};
pub use names::{ANONYMOUS, NameError, anonymous, local};

pub use tokens::{JwksSource, RulesError, TokenFault, TokenRules, Tokens};

use jiff::Timestamp;

/// Why a node does not take a client for the user that it claims to be. The text tells a stranger nothing about keys.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Without a credential a node serves at most clients on its own machine, and only if they come directly.
    #[error("a key or a token is needed")]
    Missing,
    /// The credential is neither a key nor a token.
    #[error("the credential is neither a key of the form amcp_ID_SECRET nor a token")]
    Malformed,
    /// The node takes no tokens of the issuer that the token names.
    #[error("the token is of no issuer that this node knows")]
    UnknownIssuer,
    /// A token that proves nobody.
    #[error(transparent)]
    Token(#[from] TokenFault),
    /// No key has this id, or its secret is another.
    #[error("the key is unknown")]
    UnknownKey,
    /// The key is right, but was valid only until this time.
    #[error("the key {id} ended at {at}")]
    EndedKey {
        /// The key's id.
        id: String,
        /// When it expired, was revoked or was replaced.
        at: Timestamp,
    },
}
