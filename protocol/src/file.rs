//! A file of one node on its way to a reader at another, piece by piece.
//!
//! Reads no disk.

use serde::{Deserialize, Serialize};

/// A piece of a file, and what a reader needs to put the pieces together.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FilePiece {
    /// The user to whom the file belongs; none if it belongs to nobody.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// The bytes of the whole file.
    pub length: u64,
    /// When the file was written, in milliseconds since 1970: pieces of two versions do not fit together.
    pub written_unix_ms: u64,
    /// The piece; travels beside the other fields.
    #[serde(skip)]
    pub bytes: Vec<u8>,
}
