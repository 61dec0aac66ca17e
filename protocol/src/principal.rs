//! The user on whose behalf a node acts, and how the node knows.
//!
//! Proves nothing: `amcp-access` makes principals from credentials.

use serde::{Deserialize, Serialize};

/// The user of clients without a credential. No key and no token can name it: its requests would be theirs.
pub const ANONYMOUS: &str = "anonymous";

/// A user whom a node has authenticated.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Principal {
    /// The user's name: requests, files and budgets belong to it.
    pub user: String,
    /// The user's roles.
    pub roles: Vec<String>,
    /// How the node knows.
    pub by: Proof,
}

/// How a node knows a user.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Proof {
    /// By the API key with this id.
    Key(String),
    /// By a token.
    Token {
        /// The claim `iss`.
        issuer: String,
        /// The claim `sub`, which may differ from the user's name.
        subject: String,
    },
    /// Not at all: somebody on the node's own machine.
    Anonymous,
    /// By another node, which passes the user's request or task on.
    Peer,
    /// By the operating system: the user of the command line that runs the node.
    Local,
}
