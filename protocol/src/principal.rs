//! The user on whose behalf a node acts, and how the node knows.
//!
//! Proves nothing: `amcp-access` makes principals from credentials.

use serde::{Deserialize, Serialize};

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
    /// By the operating system: the user of the command line that runs the node.
    Local,
}
