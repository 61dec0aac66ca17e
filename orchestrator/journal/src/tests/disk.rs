//! A disk that fails in one way or another while a file of a certain name lies beside the journal's.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use redb::backends::FileBackend;
use redb::{Builder, Database, StorageBackend};

use crate::store::{Failed, failed};

/// Nothing can be written.
pub(crate) const FULL: &str = "full";
/// What was written can be read back, but not made durable.
pub(crate) const UNSYNCED: &str = "unsynced";
/// The store panics once all is written.
pub(crate) const PANICS: &str = "panics";

#[derive(Debug)]
struct Disk {
    file: FileBackend,
    path: PathBuf,
}

pub(crate) fn opened(builder: &Builder, path: &Path) -> Result<Database, Failed> {
    let mut options = File::options();
    let options = options.read(true).write(true).create(true).truncate(false);
    let file = options.open(path).map_err(failed)?;
    let disk = Disk {
        file: FileBackend::new(file).map_err(failed)?,
        path: path.to_owned(),
    };
    builder.create_with_backend(disk).map_err(failed)
}

impl Disk {
    fn is(&self, what: &str) -> bool {
        self.path.with_file_name(what).exists()
    }

    fn check(&self) -> io::Result<()> {
        if self.is(FULL) {
            // ENOSPC
            return Err(io::Error::from_raw_os_error(28));
        }
        Ok(())
    }
}

impl StorageBackend for Disk {
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.file.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.check()?;
        self.file.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        if self.is(UNSYNCED) {
            return Err(io::Error::other("the sync failed"));
        }
        assert!(!self.is(PANICS), "as told");
        self.file.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.check()?;
        self.file.write(offset, data)
    }

    fn close(&self) -> io::Result<()> {
        self.file.close()
    }
}
