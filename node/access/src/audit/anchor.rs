//! Signed heads of the chain, in a file of their own: they show that its end was cut off or all of it written anew.
//!
//! Does not read the log. Signatures and no HMAC: an auditor can check them without a key that could forge them (ADR-0021).

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use data_encoding::HEXLOWER;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::AuditError;
use super::record::{Head, seal, unseal};

/// A head that was signed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Anchor {
    pub(super) seq: u64,
    /// Of the record with this number.
    pub(super) hash: String,
    pub(super) time: Timestamp,
    /// Whether the records up to this one were removed because of their age.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) removed: bool,
}

/// The key that signs.
#[derive(Debug)]
pub(super) struct Signer(Ed25519KeyPair);

/// The public part of the key that signs heads, as hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicKey(String);

impl PublicKey {
    /// The key in a log's folder. Whoever can write there can replace it: compare it with a copy of your own.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn of_log(folder: &Path) -> Result<Self, AuditError> {
        let path = folder.join("anchor.pub");
        let text = fs::read_to_string(&path).map_err(AuditError::at(&path))?;
        Ok(Self(text.trim().to_owned()))
    }

    /// A key that was noted down elsewhere.
    #[must_use]
    pub fn new(text: &str) -> Self {
        Self(text.trim().to_ascii_lowercase())
    }

    /// The digits.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Reads a line of the file of heads; none if this key did not sign it.
    pub(super) fn read(&self, line: &str) -> Option<Anchor> {
        let (sealed, signature) = unseal(line, "sig", 128)?;
        let signature = HEXLOWER.decode(signature.as_bytes()).ok()?;
        let key = HEXLOWER.decode(self.0.as_bytes()).ok()?;
        let key = UnparsedPublicKey::new(&ED25519, key);
        key.verify(sealed.as_bytes(), &signature).ok()?;
        serde_json::from_str(&format!("{sealed}}}")).ok()
    }
}

impl Signer {
    /// Loads the folder's key, or makes one if there is none. The caller holds the log's lock.
    pub(super) fn load_or_make(folder: &Path) -> Result<Self, AuditError> {
        let path = folder.join("anchor.key");
        let trouble = AuditError::at(&path);
        let fault = |reason: &dyn ToString| AuditError::Key {
            path: path.clone(),
            reason: reason.to_string(),
        };
        if !path.try_exists().map_err(&trouble)? {
            let made = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new());
            let made = made.map_err(|error| fault(&error))?;
            let mut aside = tempfile::NamedTempFile::new_in(folder).map_err(&trouble)?;
            aside.write_all(made.as_ref()).map_err(&trouble)?;
            aside.as_file().sync_all().map_err(&trouble)?;
            aside.persist(&path).map_err(|error| trouble(error.error))?;
        }
        let read = fs::read(&path).map_err(&trouble)?;
        let pair = Ed25519KeyPair::from_pkcs8(&read).map_err(|error| fault(&error))?;
        let public = folder.join("anchor.pub");
        let text = format!("{}\n", HEXLOWER.encode(pair.public_key().as_ref()));
        fs::write(&public, text).map_err(AuditError::at(&public))?;
        Ok(Self(pair))
    }

    pub(super) fn public(&self) -> PublicKey {
        PublicKey(HEXLOWER.encode(self.0.public_key().as_ref()))
    }

    /// The line of a signed head.
    pub(super) fn sign(&self, head: Head, time: Timestamp, removed: bool) -> String {
        let anchor = Anchor {
            seq: head.seq,
            hash: HEXLOWER.encode(&head.hash),
            time,
            removed,
        };
        seal(&anchor, "sig", |sealed| {
            HEXLOWER.encode(self.0.sign(sealed).as_ref())
        })
    }
}

/// The lines of the file of heads; none without a file.
pub(super) fn lines(path: &PathBuf) -> Result<Vec<String>, AuditError> {
    match fs::read_to_string(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        read => Ok(read
            .map_err(AuditError::at(path))?
            .lines()
            .map(str::to_owned)
            .collect()),
    }
}
