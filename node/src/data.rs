//! The data folder: private to its user, and of one serving node at a time.
//!
//! Does not know the form of the files in it; the parts that write them do.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::Path;

use crate::output::Trouble;

/// The folder of reports, in the data folder.
pub(crate) const REPORTS: &str = "reports";
/// The folder of the journal, in the data folder.
pub(crate) const JOURNAL: &str = "journal";
/// A serving node holds a lock on this file, which names its process. The system frees the lock when the process ends.
const LOCK: &str = "node.lock";
/// What a folder has that AMCP has used before.
const OURS: [&str; 6] = [
    "ledger.sqlite",
    REPORTS,
    JOURNAL,
    LOCK,
    "keys.json",
    "audit",
];
/// The rights that other users must not have.
const OTHERS: u32 = 0o077;

/// The lock on a data folder; freed when dropped.
#[derive(Debug)]
pub(crate) struct Held {
    _file: File,
}

/// Makes what this process writes from now on readable by its user only.
pub(crate) fn keep_private() {
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(OTHERS));
}

/// Creates the folder, closes it to other users, and checks that it can be written. A folder with foreign files keeps its rights:
/// it may be a home or a system's folder, given by mistake.
///
/// # Errors
/// Those of the file system.
pub(crate) fn prepare(folder: &Path) -> io::Result<()> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)?;
    let is_ours = OURS.iter().any(|name| folder.join(name).exists());
    if is_ours || fs::read_dir(folder)?.next().is_none() {
        close(folder);
    } else if is_open(folder)? {
        let shown = folder.display();
        tracing::warn!(data = %shown, "other users may read the data folder; it has files of others, so its rights stay");
    }
    let probe = folder.join(format!(".probe-{}", uuid::Uuid::new_v4()));
    fs::write(&probe, b"amcp")?;
    fs::remove_file(&probe)
}

/// Prepares the folder for a node that serves: no other node may serve with it meanwhile, and files that an earlier build wrote
/// are closed to other users. Commands that answer in their own process take no lock: they read the ledger and add reports, both
/// whole or not at all.
///
/// # Errors
/// Another node has the folder, or the file system refuses.
pub(crate) fn hold(folder: &Path) -> Result<Held, Trouble> {
    let unusable = |error: io::Error| self::unusable(folder, &error);
    let path = folder.join(LOCK);
    let open = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(&path);
    let mut file = open.map_err(unusable)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut holder = String::new();
            // Without the holder's word the refusal stands all the same.
            let _ = file.take(20).read_to_string(&mut holder);
            let (shown, holder) = (folder.display(), holder.trim());
            return Err(Trouble::failed(format!(
                "another node uses the data folder {shown}: process {holder}"
            ))
            .hint("stop that process, or give this node a folder of its own with --data DIR"));
        }
        Err(TryLockError::Error(error)) => return Err(unusable(error)),
    }
    let written = file
        .set_len(0)
        .and_then(|()| writeln!(file, "{}", std::process::id()));
    written.map_err(unusable)?;
    let reports = folder.join(REPORTS);
    let files = fs::read_dir(&reports).into_iter().flatten().flatten();
    OURS.iter().for_each(|name| close(&folder.join(name)));
    files.for_each(|file| close(&file.path()));
    Ok(Held { _file: file })
}

pub(crate) fn unusable(folder: &Path, error: &io::Error) -> Trouble {
    let shown = folder.display();
    Trouble::failed(format!(
        "the data folder {shown} cannot be written: {error}"
    ))
    .hint("choose another with --data DIR, or AMCP_DATA, or data in the configuration file")
}

fn is_open(path: &Path) -> io::Result<bool> {
    Ok(fs::symlink_metadata(path)?.permissions().mode() & OTHERS != 0)
}

/// Takes other users' rights to a file or a folder away; leaves links alone, because they lead elsewhere.
fn close(path: &Path) {
    let Ok(about) = fs::symlink_metadata(path) else {
        return;
    };
    let mode = about.permissions().mode();
    if about.is_symlink() || mode & OTHERS == 0 {
        return;
    }
    if let Err(error) = fs::set_permissions(path, Permissions::from_mode(mode & !OTHERS)) {
        tracing::warn!(path = %path.display(), %error, "other users may read this, and its rights cannot be changed");
    }
}
