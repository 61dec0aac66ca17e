//! Texts beside the chain: the chain holds the digest of each with a salt, so that a deleted text can be neither restored nor guessed.
//!
//! Has no files.

use aws_lc_rs::rand;
use data_encoding::HEXLOWER;
use serde::{Deserialize, Serialize};

use super::record::sha256;

/// 128 bits: without them somebody could try likely texts against the digest.
const SALT: usize = 16;

/// One line of a file of texts.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Text {
    /// The record's number.
    pub(super) seq: u64,
    salt: String,
    pub(super) text: String,
}

impl Text {
    pub(super) fn new(seq: u64, text: String) -> Self {
        let mut salt = [0; SALT];
        rand::fill(&mut salt)
            .expect("the system's source of randomness does not fail once it is up");
        Self {
            seq,
            salt: HEXLOWER.encode(&salt),
            text,
        }
    }

    /// The text whose digest a record holds, where it is this one. Salts of one length are a border: no part of the text passes for salt.
    pub(super) fn read(line: &[u8]) -> Option<Self> {
        let read: Option<Self> = serde_json::from_slice(line).ok();
        read.filter(|text| text.salt.len() == 2 * SALT)
    }

    pub(super) fn digest(&self) -> String {
        sha256(format!("{}{}", self.salt, self.text).as_bytes()).1
    }
}
