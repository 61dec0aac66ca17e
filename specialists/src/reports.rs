//! The folder of reports: how much it may hold, whose they are, how long they stay.
//!
//! Does not make reports and does not serve them.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use amcp_protocol::{ErrorCode, Failure};
use parking_lot::Mutex;
use smart_default::SmartDefault;

/// The most that a folder may hold.
#[derive(Debug, Clone, Copy, SmartDefault)]
pub struct Quota {
    /// Number of reports.
    // More makes each look into the folder slow.
    #[default = 10_000]
    pub count: usize,
    /// Bytes of all reports.
    #[default(1024 * 1024 * 1024)]
    pub bytes: u64,
}

/// A folder of reports; clones share it.
#[derive(Debug, Clone)]
pub(crate) struct Reports {
    folder: PathBuf,
    quota: Quota,
}

/// Held from the look at the folder to the end of writing, so that two reports do not take the same room, and while a report and its
/// owner leave. Of all folders: a process has one.
static CHANGING: Mutex<()> = Mutex::new(());

impl Reports {
    pub(crate) fn new(folder: PathBuf, quota: Quota) -> Self {
        Self { folder, quota }
    }

    #[cfg(test)]
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Writes a report, or another version of it. Blocks. A full folder takes no report rather than lose one before its time.
    ///
    /// # Errors
    /// [`ErrorCode::StorageFull`]; `task_failed` when the file system refuses.
    pub(crate) fn save(
        &self,
        name: &str,
        owner: Option<&str>,
        bytes: &[u8],
    ) -> Result<(), Failure> {
        let _one = CHANGING.lock();
        let unwritable = |error: io::Error| {
            Failure::task(format!("the report cannot be written: {error}"))
                .hint("check the data folder's rights and its free space")
        };
        std::fs::create_dir_all(&self.folder).map_err(unwritable)?;
        let (count, held) = self.held_beside(name).map_err(unwritable)?;
        let Quota {
            count: most,
            bytes: most_bytes,
        } = self.quota;
        if count >= most || held.saturating_add(bytes.len() as u64) > most_bytes {
            let message = format!(
                "there is no room for another report: the node keeps {count} of {held} bytes, and may keep {most} of {most_bytes}"
            );
            let hint = "old reports leave after `report_days`; `report_count` and `report_bytes` set the bounds";
            return Err(Failure::new(ErrorCode::StorageFull, message).hint(hint));
        }
        // First, so that a report never stands there as nobody's.
        let owned = match owner {
            Some(owner) => self.write(&owner_file(name), owner.as_bytes()),
            None => Ok(()),
        };
        owned
            .and_then(|()| self.write(name, bytes))
            .map_err(unwritable)
    }

    /// The number of other reports, and their bytes.
    fn held_beside(&self, name: &str) -> io::Result<(usize, u64)> {
        let mut held = (0, 0);
        for entry in std::fs::read_dir(&self.folder)? {
            let entry = entry?;
            let other = entry.file_name();
            if other != name && !is_hidden(&other.to_string_lossy()) {
                // The sweeper may have removed it by now.
                held.1 += entry.metadata().map_or(0, |about| about.len());
                held.0 += 1;
            }
        }
        Ok(held)
    }

    /// Whole or not at all: a reader never finds half a report.
    fn write(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let unfinished = self.folder.join(format!(".{:016x}.tmp", fastrand::u64(..)));
        let written = std::fs::File::create_new(&unfinished)
            .and_then(|mut file| file.write_all(bytes))
            .and_then(|()| std::fs::rename(&unfinished, self.folder.join(name)));
        if written.is_err() {
            // Best effort: the error that is reported is the first one.
            drop(std::fs::remove_file(&unfinished));
        }
        written
    }
}

/// The user for whom a report was made; none if the request named nobody.
#[must_use]
pub fn owner(folder: &Path, name: &str) -> Option<String> {
    match std::fs::read_to_string(folder.join(owner_file(name))) {
        Ok(owner) => Some(owner),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
        // Not nobody's: a name that no user can have.
        Err(_) => Some(String::new()),
    }
}

/// Removes the files of a folder of reports that were written before a time; returns how many reports went. Blocks.
///
/// # Errors
/// Those of the file system; a missing folder has no reports.
pub fn sweep(folder: &Path, before: SystemTime) -> io::Result<usize> {
    let mut swept = 0;
    let entries = match std::fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        let _one = CHANGING.lock();
        // It leaves with its report, and after it: a report without an owner would be nobody's.
        let owned = name
            .strip_prefix('.')
            .and_then(|name| name.strip_suffix(OWNER));
        if owned.map_or(Ok(false), |report| folder.join(report).try_exists())? {
            continue;
        }
        // Not of what a link leads to.
        let Some(about) = unless_gone(entry.metadata())? else {
            continue;
        };
        if about.is_file() && about.modified()? < before {
            unless_gone(std::fs::remove_file(entry.path()))?;
            if !is_hidden(&name) {
                unless_gone(std::fs::remove_file(folder.join(owner_file(&name))))?;
                swept += 1;
            }
        }
    }
    Ok(swept)
}

/// None for a file that was renamed or removed meanwhile.
fn unless_gone<T>(done: io::Result<T>) -> io::Result<Option<T>> {
    match done {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        done => done.map(Some),
    }
}

/// Ends the name of a file with a report's owner.
const OWNER: &str = ".owner";

/// Beside the report, and never served.
fn owner_file(name: &str) -> String {
    format!(".{name}{OWNER}")
}

fn is_hidden(name: &str) -> bool {
    name.starts_with('.')
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn reports(count: usize, bytes: u64) -> (tempfile::TempDir, Reports) {
        let folder = tempfile::tempdir().unwrap();
        let reports = Reports::new(folder.path().join("reports"), Quota { count, bytes });
        (folder, reports)
    }

    #[test]
    fn a_full_folder_takes_no_report_and_loses_none() {
        let (_folder, reports) = reports(2, 10);
        reports.save("a.txt", Some("alice"), b"12345").unwrap();
        let full = reports.save("b.txt", None, b"123456").unwrap_err();
        assert_eq!(full.code, ErrorCode::StorageFull);
        reports.save("b.txt", None, b"12345").unwrap();
        let full = reports.save("c.txt", None, b"").unwrap_err();
        assert_eq!(full.code, ErrorCode::StorageFull);
        // Another attempt at the same task takes the place of its first report.
        reports.save("b.txt", None, b"54321").unwrap();
        let read = |name| std::fs::read_to_string(reports.folder.join(name)).unwrap();
        assert_eq!(
            (read("a.txt"), read("b.txt")),
            ("12345".into(), "54321".into())
        );
        assert_eq!(owner(&reports.folder, "a.txt").as_deref(), Some("alice"));
        assert_eq!(owner(&reports.folder, "b.txt"), None);
    }

    #[test]
    fn old_reports_leave_with_their_owners_and_nothing_else_does() {
        let (folder, reports) = reports(10, 100);
        assert_eq!(sweep(&reports.folder, SystemTime::UNIX_EPOCH).unwrap(), 0);
        reports.save("old.txt", Some("alice"), b"1").unwrap();
        reports.save("new.txt", Some("bob"), b"2").unwrap();
        std::fs::create_dir(reports.folder.join("folder")).unwrap();
        std::fs::write(folder.path().join("mine.txt"), "").unwrap();
        let link = reports.folder.join("link");
        std::os::unix::fs::symlink(folder.path().join("mine.txt"), link).unwrap();
        let then = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000);
        for old in ["old.txt", ".old.txt.owner", "../mine.txt"] {
            let file = std::fs::File::options()
                .append(true)
                .open(reports.folder.join(old));
            file.unwrap().set_modified(then).unwrap();
        }
        assert_eq!(
            sweep(&reports.folder, then + Duration::from_secs(1)).unwrap(),
            1
        );
        let left = std::fs::read_dir(&reports.folder).unwrap();
        let mut left: Vec<_> = left.map(|entry| entry.unwrap().file_name()).collect();
        left.sort();
        assert_eq!(left, [".new.txt.owner", "folder", "link", "new.txt"]);
        assert!(folder.path().join("mine.txt").exists());
    }

    fn age(path: &Path) {
        let file = std::fs::File::options().append(true).open(path).unwrap();
        file.set_modified(SystemTime::UNIX_EPOCH).unwrap();
    }

    #[test]
    fn an_owner_stays_as_long_as_the_report() {
        let (_folder, reports) = reports(10, 100);
        reports.save("r.pdf", Some("ana"), b"1").unwrap();
        age(&reports.folder.join(".r.pdf.owner"));
        reports.save("gone.pdf", Some("ana"), b"1").unwrap();
        age(&reports.folder.join(".gone.pdf.owner"));
        std::fs::remove_file(reports.folder.join("gone.pdf")).unwrap();
        let before = SystemTime::UNIX_EPOCH + Duration::from_secs(1);
        assert_eq!(sweep(&reports.folder, before).unwrap(), 0);
        assert_eq!(owner(&reports.folder, "r.pdf").as_deref(), Some("ana"));
        assert_eq!(owner(&reports.folder, "gone.pdf"), None, "no report has it");
        // An owner that is younger than its report goes with it.
        age(&reports.folder.join("r.pdf"));
        assert_eq!(sweep(&reports.folder, before).unwrap(), 1);
        assert_eq!(std::fs::read_dir(&reports.folder).unwrap().count(), 0);
    }

    #[test]
    fn no_report_is_nobodys_while_others_are_written_and_swept() {
        let (_folder, reports) = reports(100_000, 1_000_000);
        for number in 0..1_000 {
            let name = format!("old-{number}.pdf");
            reports.save(&name, Some("ana"), b"1").unwrap();
            age(&reports.folder.join(&name));
            age(&reports.folder.join(owner_file(&name)));
        }
        let before = SystemTime::UNIX_EPOCH + Duration::from_secs(1);
        std::thread::scope(|scope| {
            let swept = scope.spawn(|| sweep(&reports.folder, before));
            let mut number = 0;
            while !swept.is_finished() {
                let name = format!("new-{number}.pdf");
                reports.save(&name, Some("ana"), b"1").unwrap();
                number += 1;
                for entry in std::fs::read_dir(&reports.folder).unwrap() {
                    let name = entry.unwrap().file_name().to_string_lossy().into_owned();
                    let is_nobodys = !is_hidden(&name) && owner(&reports.folder, &name).is_none();
                    assert!(
                        !is_nobodys || !reports.folder.join(&name).exists(),
                        "{name}"
                    );
                }
            }
            assert_eq!(swept.join().unwrap().unwrap(), 1_000);
        });
    }
}
