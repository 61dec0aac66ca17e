//! One process at a time has a journal; the lock's file names it.
//!
//! Does not break a lock: the system frees it when its process ends.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::path::Path;

use crate::JournalError;

/// Takes the lock of a journal's folder; dropping the file frees it.
pub(crate) fn take(folder: &Path) -> Result<File, JournalError> {
    let unusable = |error: io::Error| JournalError::Unusable(error.to_string());
    let mut options = OpenOptions::new();
    let options = options.read(true).write(true).create(true).truncate(false);
    let mut file = options
        .open(folder.join("journal.lock"))
        .map_err(unusable)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut holder = String::new();
            // Without the holder's word the refusal stands all the same.
            let _ = file.take(20).read_to_string(&mut holder);
            return Err(JournalError::Held {
                holder: holder.trim().to_owned(),
                path: folder.display().to_string(),
            });
        }
        Err(TryLockError::Error(error)) => return Err(unusable(error)),
    }
    let written = file
        .set_len(0)
        .and_then(|()| writeln!(file, "{}", std::process::id()));
    written.map_err(unusable)?;
    Ok(file)
}
