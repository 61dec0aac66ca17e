//! Reads a log from its files, also while a node writes it: judges it, or gives its records.
//!
//! Writes nothing.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::AuditError;
use super::anchor::{Anchor, PublicKey, lines};
use super::chain::{Chain, Fault, Flaw, Verified};
use super::log::{files, lock_of};
use super::record::{Record, read};
use super::text::Text;

/// Judges a whole log.
///
/// # Errors
/// A file cannot be read. The inner one is the first [`Flaw`].
pub fn verify(
    folder: &Path,
    anchors: &PathBuf,
    key: &PublicKey,
) -> Result<Result<Verified, Flaw>, AuditError> {
    // The heads are read first: what is signed later belongs to records that are written later.
    let signed = match heads(anchors, key)? {
        Ok(signed) => signed,
        Err(flaw) => return Ok(Err(flaw)),
    };
    let mut chain = Chain::new(signed);
    let mut last = folder.display().to_string();
    for (path, len) in steady(folder)? {
        for (number, line) in text(&path, len)?.split_inclusive('\n').enumerate() {
            last = format!("{}, line {}", path.display(), number + 1);
            if let Err(fault) = chain.take(line) {
                return Ok(Err(Flaw { place: last, fault }));
            }
        }
    }
    Ok(chain.end().map_err(|fault| Flaw { place: last, fault }))
}

fn heads(anchors: &PathBuf, key: &PublicKey) -> Result<Result<Vec<Anchor>, Flaw>, AuditError> {
    let mut signed = Vec::new();
    for (number, line) in lines(anchors)?.iter().enumerate() {
        let Some(anchor) = key.read(line) else {
            let place = format!("{}, line {}", anchors.display(), number + 1);
            let fault = Fault::Anchor;
            return Ok(Err(Flaw { place, fault }));
        };
        signed.push(anchor);
    }
    Ok(Ok(signed))
}

/// The files with sizes at which no record is half written.
fn steady(folder: &Path) -> Result<Vec<(PathBuf, u64)>, AuditError> {
    // A copy of a log may lack the lock, or be on a disk that allows none; nobody writes it.
    let lock = File::open(lock_of(folder)).ok();
    let is_locked = lock.as_ref().is_some_and(|lock| lock.lock_shared().is_ok());
    let files = files(folder);
    if let Some(lock) = lock.filter(|_| is_locked) {
        let _ = lock.unlock();
    }
    files
}

fn text(path: &Path, len: u64) -> Result<String, AuditError> {
    let mut text = Vec::new();
    let read = File::open(path).and_then(|file| file.take(len).read_to_end(&mut text));
    read.map_err(AuditError::at(path))?;
    // A line that is no text any more is no record either.
    Ok(String::from_utf8_lossy(&text).into_owned())
}

/// Gives each record with its text, where that is still there, until `each` says that it has seen enough. Judges nothing: lines that
/// are no records are left out.
///
/// # Errors
/// A file cannot be read.
pub fn records(
    folder: &Path,
    mut each: impl FnMut(Record, Option<&str>) -> bool,
) -> Result<(), AuditError> {
    for (path, len) in steady(folder)? {
        let texts = texts(&path.with_extension("texts"))?;
        for line in text(&path, len)?.split_inclusive('\n') {
            let Ok((record, _)) = read(line) else {
                continue;
            };
            let text = record.text.as_ref().and_then(|digest| texts.get(digest));
            let text = text.map(String::as_str);
            if !each(record, text) {
                return Ok(());
            }
        }
    }
    Ok(())
}

/// The texts of a file by their digests, so that only unchanged ones are found.
fn texts(path: &Path) -> Result<HashMap<String, String>, AuditError> {
    let read = match fs::read(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        read => read.map_err(AuditError::at(path))?,
    };
    let texts = read.split(|byte| *byte == b'\n').filter_map(|line| {
        let text: Text = serde_json::from_slice(line).ok()?;
        Some((text.digest(), text.text))
    });
    Ok(texts.collect())
}
