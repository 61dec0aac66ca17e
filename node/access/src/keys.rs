//! API keys: made, found, checked, ended.
//!
//! Pure but for the randomness of a new key: [`store`] reads and writes the file.

mod store;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use amcp_protocol::{Principal, Proof};
use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::rand;
use data_encoding::HEXLOWER;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

pub use store::{KeyFile, Keys};

use crate::Refusal;
use crate::names::{self, NameError};

/// Digits and letters: a double click marks a whole key, and no shell reads a character of it otherwise.
const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
/// Secret scanners find keys by this beginning.
const BEGINNING: &str = "amcp_";
/// 47 bits: ids need only differ.
const ID_CHARS: usize = 8;
/// 256 bits. So much randomness needs no slow hash, which would let strangers keep the node busy.
const SECRET_CHARS: usize = 43;
/// A file of about 3 MB, read in a few milliseconds.
const MAX_KEYS: usize = 10_000;
/// An ended key stays in the list for so long, so that its user learns why it is refused.
const KEPT: Duration = Duration::from_secs(30 * 86_400);

/// The error of a change to the keys.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// No key has the id.
    #[error("no key has the id {0}")]
    Unknown(String),
    /// The key ended before.
    #[error("the key {id} ended at {at}")]
    Ended {
        /// The key's id.
        id: String,
        /// When it ended.
        at: Timestamp,
    },
    /// The user or a role has an unusable name.
    #[error(transparent)]
    Name(#[from] NameError),
    /// The lifetime ends after the year 9999.
    #[error("the key would end after the year 9999")]
    TooLong,
    /// There are too many.
    #[error("there are {MAX_KEYS} keys already")]
    Full,
    /// The file cannot be read or written.
    #[error("{path}: {source}")]
    File {
        /// The file.
        path: String,
        /// The operating system's error.
        source: std::io::Error,
    },
    /// The file holds something else.
    #[error("{path} holds no keys: {reason}")]
    Content {
        /// The file.
        path: String,
        /// The fault, in words.
        reason: String,
    },
}

/// A key as the file holds it: without its secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Key {
    /// The second part of the key's text.
    pub id: String,
    /// The user that it proves.
    pub user: String,
    /// The user's roles.
    #[serde(default)]
    pub roles: Vec<String>,
    /// A note for people, such as the machine that has the key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// When the key was made.
    pub created: Timestamp,
    /// When it expires, or when it was revoked or replaced.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ends: Option<Timestamp>,
    /// Set when the key is replaced.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    rotated: Option<Rotated>,
    /// Whether somebody ended it: it stays ended while the clock is behind.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    revoked: bool,
    /// Of the key's whole text, in hexadecimal digits.
    sha256: String,
}

/// A key that another one replaces.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Rotated {
    /// When the key would have expired without the other one: the measure of the other one's life.
    ends: Option<Timestamp>,
}

impl Key {
    /// Whether the key is valid no more.
    #[must_use]
    pub fn has_ended(&self, now: Timestamp) -> bool {
        self.ended(now).is_some()
    }

    fn ended(&self, now: Timestamp) -> Option<Timestamp> {
        self.ends.filter(|ends| self.revoked || *ends <= now)
    }
}

/// The time that a key is valid: for ever without an end.
pub type Lifetime = Option<Duration>;

/// What a new key is for.
#[derive(Debug, Clone, Default)]
pub struct NewKey {
    /// The user that it proves.
    pub user: String,
    /// The user's roles.
    pub roles: Vec<String>,
    /// A note for people.
    pub name: Option<String>,
    /// How long it is valid.
    pub lifetime: Lifetime,
}

/// The keys of a file, found by their ids.
#[derive(Debug, Default)]
pub struct KeyRing(HashMap<String, Entry>);

#[derive(Debug)]
struct Entry {
    key: Key,
    sha256: [u8; 32],
    principal: Arc<Principal>,
}

impl KeyRing {
    /// The keys, the oldest first.
    #[must_use]
    pub fn keys(&self) -> Vec<&Key> {
        let mut keys: Vec<&Key> = self.0.values().map(|entry| &entry.key).collect();
        keys.sort_by(|a, b| (a.created, &a.id).cmp(&(b.created, &b.id)));
        keys
    }

    /// Finds the user that a key's text proves. Takes the same time for every secret of an id.
    ///
    /// # Errors
    /// The [`Refusal`].
    pub fn check(&self, text: &str, now: Timestamp) -> Result<Arc<Principal>, Refusal> {
        let (id, _) = parts(text).ok_or(Refusal::Malformed)?;
        let entry = self.0.get(id).ok_or(Refusal::UnknownKey)?;
        let made = digest(&SHA256, text.as_bytes());
        verify_slices_are_equal(made.as_ref(), &entry.sha256).map_err(|_| Refusal::UnknownKey)?;
        match entry.key.ended(now) {
            Some(at) => Err(Refusal::EndedKey {
                id: entry.key.id.clone(),
                at,
            }),
            None => Ok(Arc::clone(&entry.principal)),
        }
    }

    /// Makes a key. Its text exists nowhere else: the ring keeps a digest.
    ///
    /// # Errors
    /// Unusable names, too long a lifetime, too many keys.
    pub fn create(&mut self, new: NewKey, now: Timestamp) -> Result<(String, Key), KeyError> {
        self.0.retain(|_, entry| {
            let ends = entry.key.ends;
            ends.is_none_or(|ends| now.duration_since(ends) < KEPT.try_into().unwrap_or_default())
        });
        if self.0.len() >= MAX_KEYS {
            return Err(KeyError::Full);
        }
        let ends = new.lifetime.map(|lifetime| later(now, lifetime));
        let id = std::iter::repeat_with(|| random(ID_CHARS))
            .find(|id| !self.0.contains_key(id))
            .expect("62^8 ids are more than the keys of a file");
        let text = format!("{BEGINNING}{id}_{}", random(SECRET_CHARS));
        let key = Key {
            id,
            user: new.user,
            roles: new.roles,
            name: new.name,
            created: now,
            ends: ends.transpose()?,
            rotated: None,
            revoked: false,
            sha256: HEXLOWER.encode(digest(&SHA256, text.as_bytes()).as_ref()),
        };
        names::check(&key.user, &key.roles)?;
        self.put(key.clone())
            .expect("its names and its digest are good");
        Ok((text, key))
    }

    /// Ends a key now.
    ///
    /// # Errors
    /// No such key, or an ended one.
    pub fn revoke(&mut self, id: &str, now: Timestamp) -> Result<Key, KeyError> {
        let key = self.valid(id, now)?;
        (key.ends, key.revoked) = (Some(now), true);
        Ok(key.clone())
    }

    /// Makes another key for the same user, valid as long as the old one was, and ends the old one after `overlap`.
    ///
    /// # Errors
    /// Those of [`Self::create`] and [`Self::revoke`].
    pub fn rotate(
        &mut self,
        id: &str,
        overlap: Duration,
        now: Timestamp,
    ) -> Result<(String, Key), KeyError> {
        let old = self.valid(id, now)?;
        let whole = old.rotated.as_ref().map_or(old.ends, |before| before.ends);
        let lifetime = whole.map(|ends| ends.duration_since(old.created));
        let new = NewKey {
            user: old.user.clone(),
            roles: old.roles.clone(),
            name: old.name.clone(),
            lifetime: lifetime.map(|lifetime| lifetime.unsigned_abs()),
        };
        let ends = later(now, overlap)?;
        let made = self.create(new, now)?;
        let old = self.valid(id, now)?;
        old.rotated = Some(Rotated { ends: whole });
        old.ends = Some(old.ends.map_or(ends, |before| before.min(ends)));
        old.revoked = overlap.is_zero();
        Ok(made)
    }

    fn valid(&mut self, id: &str, now: Timestamp) -> Result<&mut Key, KeyError> {
        let entry = self.0.get_mut(id);
        let entry = entry.ok_or_else(|| KeyError::Unknown(id.to_owned()))?;
        match entry.key.ended(now) {
            Some(at) => Err(KeyError::Ended {
                id: id.to_owned(),
                at,
            }),
            None => Ok(&mut entry.key),
        }
    }

    /// Takes a key up, or says its fault.
    fn put(&mut self, key: Key) -> Result<(), String> {
        names::check(&key.user, &key.roles).map_err(|error| error.to_string())?;
        let sha256 = HEXLOWER.decode(key.sha256.as_bytes());
        let sha256 = sha256.ok().and_then(|bytes| bytes.try_into().ok());
        let entry = Entry {
            sha256: sha256.ok_or("its sha256 is no SHA-256")?,
            principal: Arc::new(Principal {
                user: key.user.clone(),
                roles: key.roles.clone(),
                by: Proof::Key(key.id.clone()),
            }),
            key,
        };
        self.0.insert(entry.key.id.clone(), entry);
        Ok(())
    }
}

/// Whether a credential looks like a key, right or wrong.
#[must_use]
pub fn is_key(text: &str) -> bool {
    text.starts_with(BEGINNING)
}

/// The id and the secret of a key's text.
fn parts(text: &str) -> Option<(&str, &str)> {
    let (id, secret) = text.strip_prefix(BEGINNING)?.split_once('_')?;
    let is_part =
        |part: &str, chars| part.len() == chars && part.bytes().all(|b| b.is_ascii_alphanumeric());
    (is_part(id, ID_CHARS) && is_part(secret, SECRET_CHARS)).then_some((id, secret))
}

/// Random digits and letters from the system's secure source.
fn random(chars: usize) -> String {
    let mut text = String::with_capacity(chars);
    while text.len() < chars {
        let mut bytes = [0; 64];
        rand::fill(&mut bytes)
            .expect("the system's source of randomness does not fail once it is up");
        // 248 is four times 62: larger bytes would make the first digits likelier than the others.
        let even = bytes.iter().filter(|byte| **byte < 248);
        let letters = even.filter_map(|byte| ALPHABET.get(usize::from(*byte) % ALPHABET.len()));
        text.extend(
            letters
                .map(|byte| char::from(*byte))
                .take(chars - text.len()),
        );
    }
    text
}

fn later(now: Timestamp, by: Duration) -> Result<Timestamp, KeyError> {
    now.checked_add(by).map_err(|_| KeyError::TooLong)
}
