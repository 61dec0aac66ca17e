//! Files and folders that only their owner may read: the owner of the folder above, also where root makes them.
//!
//! Does not know what they hold.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, fchown, lchown};
use std::path::Path;

use tempfile::NamedTempFile;

/// Makes a folder and those above it, unless they exist.
pub(crate) fn make_private_folder(folder: &Path) -> io::Result<()> {
    if folder.is_dir() {
        return Ok(());
    }
    make_private_folder(above(folder))?;
    match DirBuilder::new().mode(0o700).create(folder) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
        made => {
            made?;
            let about = fs::symlink_metadata(folder)?;
            give_away(&about, folder, |user, group| lchown(folder, user, group))
        }
    }
}

/// Opens a file for reading and appending, and makes it where there is none.
pub(crate) fn private_file(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).append(true).mode(0o600);
    match options.clone().create_new(true).open(path) {
        // Made by another process meanwhile, or long ago.
        Err(error) if error.kind() == ErrorKind::AlreadyExists => options.create(true).open(path),
        made => {
            let made = made?;
            give_away(&made.metadata()?, path, |user, group| {
                fchown(&made, user, group)
            })?;
            Ok(made)
        }
    }
}

/// Puts another file in the place of a file, whole or not at all.
pub(crate) fn replace(
    path: &Path,
    write: impl FnOnce(&mut NamedTempFile) -> io::Result<()>,
) -> io::Result<()> {
    // Only its owner may read a new temporary file.
    let mut aside = NamedTempFile::new_in(above(path))?;
    write(&mut aside)?;
    let made = aside.as_file();
    made.sync_all()?;
    give_away(&made.metadata()?, path, |user, group| {
        fchown(made, user, group)
    })?;
    aside.persist(path)?;
    File::open(above(path))?.sync_all()
}

fn above(path: &Path) -> &Path {
    let folder = path.parent().filter(|folder| *folder != Path::new(""));
    folder.unwrap_or(Path::new("."))
}

/// Gives what root has just made to the owner of the folder above: a node that runs as this user could not open it otherwise. Files
/// that were there stay whose they are: the owner of the folder may have put links to root's own files there.
fn give_away(
    made: &fs::Metadata,
    path: &Path,
    give: impl FnOnce(Option<u32>, Option<u32>) -> io::Result<()>,
) -> io::Result<()> {
    let owner = fs::metadata(above(path))?;
    if made.uid() != 0 || owner.uid() == 0 {
        return Ok(());
    }
    give(Some(owner.uid()), Some(owner.gid()))
}
