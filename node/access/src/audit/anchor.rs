//! Signed heads of the chain, in a file of their own: they show that its end was cut off or all of it written anew.
//!
//! Does not read the log. Signatures and no HMAC: an auditor can check them without a key that could forge them (ADR-0021).

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, BufWriter, Write};
use std::path::Path;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use data_encoding::HEXLOWER;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::log::files;
use super::record::{Head, seal, unseal};
use super::{AuditError, AuditRules};
use crate::files::{private_file, replace};

/// In hexadecimal digits.
const SIGNATURE: usize = 128;

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
        let (sealed, signature) = unseal(line, "sig", SIGNATURE)?;
        let signature = HEXLOWER.decode(signature.as_bytes()).ok()?;
        let key = HEXLOWER.decode(self.0.as_bytes()).ok()?;
        let key = UnparsedPublicKey::new(&ED25519, key);
        key.verify(sealed.as_bytes(), &signature).ok()?;
        parse(sealed)
    }
}

impl Signer {
    /// Loads the log's key, or makes one for a log that begins, with an empty file of heads. The caller holds the log's lock.
    pub(super) fn load_or_make(rules: &AuditRules) -> Result<Self, AuditError> {
        let path = rules.folder.join("anchor.key");
        let public = rules.folder.join("anchor.pub");
        let trouble = AuditError::at(&path);
        let fault = |reason: &dyn ToString| AuditError::Key {
            path: path.clone(),
            reason: reason.to_string(),
        };
        if !path.try_exists().map_err(&trouble)? {
            if public.exists() || !files(&rules.folder)?.is_empty() {
                return Err(fault(&"it is missing, and may have signed heads"));
            }
            private_file(&rules.anchors).map_err(AuditError::at(&rules.anchors))?;
            let made = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new());
            let made = made.map_err(|error| fault(&error))?;
            replace(&path, |aside| aside.write_all(made.as_ref())).map_err(&trouble)?;
        }
        let read = fs::read(&path).map_err(&trouble)?;
        let pair = Ed25519KeyPair::from_pkcs8(&read).map_err(|error| fault(&error))?;
        let text = format!("{}\n", HEXLOWER.encode(pair.public_key().as_ref()));
        if fs::read(&public).ok().as_deref() != Some(text.as_bytes()) {
            replace(&public, |aside| aside.write_all(text.as_bytes()))
                .map_err(AuditError::at(&public))?;
        }
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

/// Removes the heads before a record from their file: the records are gone. Lines that are no heads stay.
pub(super) fn forget(path: &Path, before: u64) -> io::Result<()> {
    // Behind a link, so that the link stays.
    let path = fs::canonicalize(path)?;
    let heads = BufReader::new(File::open(&path)?);
    replace(&path, |aside| {
        let mut kept = BufWriter::new(aside);
        for line in heads.split(b'\n') {
            let line = line?;
            let text = String::from_utf8_lossy(&line);
            let anchor = unseal(&text, "sig", SIGNATURE).map(|(sealed, _)| parse(sealed));
            if anchor.flatten().is_none_or(|anchor| anchor.seq >= before) {
                kept.write_all(&line)?;
                kept.write_all(b"\n")?;
            }
        }
        kept.flush()
    })
}

fn parse(sealed: &str) -> Option<Anchor> {
    serde_json::from_str(&format!("{sealed}}}")).ok()
}
