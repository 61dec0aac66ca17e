//! Reads a log from its files, also while a node writes it: judges it, or gives its records.
//!
//! Writes nothing.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, Read, Take};
use std::path::{Path, PathBuf};

use super::AuditError;
use super::anchor::PublicKey;
use super::chain::{Chain, Fault, Flaw, Verified};
use super::log::{files, lock_of};
use super::record::{Record, read};
use super::text::Text;

/// Opened files of a log.
type Files = Vec<(PathBuf, Take<File>)>;

/// Judges a whole log.
///
/// # Errors
/// A file cannot be read, or there is no file of heads. The inner one is the first [`Flaw`].
pub fn verify(
    folder: &Path,
    anchors: &PathBuf,
    key: &PublicKey,
) -> Result<Result<Verified, Flaw>, AuditError> {
    let read = || fs::read(anchors).map_err(AuditError::at(anchors));
    let (heads, files) = steady(folder, read)?;
    let heads = String::from_utf8_lossy(&heads);
    let mut signed = Vec::new();
    for (number, line) in heads.split_inclusive('\n').enumerate() {
        // A crash left it half written: it says nothing.
        let Some(line) = line.strip_suffix('\n') else {
            break;
        };
        let Some(anchor) = key.read(line) else {
            let place = format!("{}, line {}", anchors.display(), number + 1);
            let fault = Fault::Anchor;
            return Ok(Err(Flaw { place, fault }));
        };
        signed.push(anchor);
    }
    let mut chain = Chain::new(signed);
    let mut last = folder.display().to_string();
    for (path, file) in files {
        for (number, line) in text(&path, file)?.split_inclusive('\n').enumerate() {
            last = format!("{}, line {}", path.display(), number + 1);
            if let Err(fault) = chain.take(line) {
                return Ok(Err(Flaw { place: last, fault }));
            }
        }
    }
    Ok(chain.end().map_err(|fault| Flaw { place: last, fault }))
}

/// The files, up to where no record is half written, and what `read` finds in the same state. They are open: others may remove them.
pub(super) fn steady<T>(
    folder: &Path,
    read: impl FnOnce() -> Result<T, AuditError>,
) -> Result<(T, Files), AuditError> {
    // A copy of a log may lack the lock, or be on a disk that allows none; nobody writes it.
    let lock = File::open(lock_of(folder)).ok();
    let _held = lock.filter(|lock| lock.lock_shared().is_ok());
    let open = |(path, len): (PathBuf, u64)| {
        let file = File::open(&path).map_err(AuditError::at(&path))?;
        Ok((path, file.take(len)))
    };
    let opened = files(folder)?.into_iter().map(open);
    Ok((read()?, opened.collect::<Result<_, _>>()?))
}

fn text(path: &Path, mut file: Take<File>) -> Result<String, AuditError> {
    let mut text = Vec::new();
    file.read_to_end(&mut text).map_err(AuditError::at(path))?;
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
    for (path, file) in steady(folder, || Ok(()))?.1 {
        let texts = texts(&path.with_extension("texts"))?;
        for line in text(&path, file)?.split_inclusive('\n') {
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
        let text = Text::read(line)?;
        Some((text.digest(), text.text))
    });
    Ok(texts.collect())
}
