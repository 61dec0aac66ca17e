//! The log's files: appended to under a lock, followed by others when they are full, removed when they are old.
//!
//! Several processes may append to one log in turn. Does not decide when; [`super::writer`] does.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;

use super::anchor::{Signer, forget};
use super::record::{Entry, Head, line, read};
use super::text::Text;
use super::{AuditError, AuditRules};
use crate::files::{make_private_folder, private_file};

/// In bytes, of what is read of a file's end: more than any record, and some two hundred signed heads, checked in 10 ms.
const TAIL: u64 = 64 * 1_024;

/// The log as this process last saw it.
#[derive(Debug)]
pub(super) struct Log {
    rules: AuditRules,
    lock: Arc<File>,
    signer: Signer,
    head: Head,
    /// The last record that is signed.
    pub(super) anchored: u64,
    path: PathBuf,
    /// Of the file, up to the end of the last whole record.
    len: u64,
}

/// The log's files and their sizes, the oldest first: their names are the numbers of their first records.
pub(super) fn files(folder: &Path) -> Result<Vec<(PathBuf, u64)>, AuditError> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).map_err(AuditError::at(folder))? {
        let path = entry.map_err(AuditError::at(folder))?.path();
        let is_number = |stem: &str| stem.bytes().all(|byte| byte.is_ascii_digit());
        let stem = path.file_stem().and_then(|stem| stem.to_str());
        if path.extension().is_some_and(|end| end == "log") && stem.is_some_and(is_number) {
            let size = fs::metadata(&path).map_err(AuditError::at(&path))?.len();
            files.push((path, size));
        }
    }
    files.sort();
    Ok(files)
}

/// Names sort like numbers.
fn name(folder: &Path, first: u64) -> PathBuf {
    folder.join(format!("{first:020}.log"))
}

pub(super) fn lock_of(folder: &Path) -> PathBuf {
    folder.join("lock")
}

impl Log {
    /// Opens the log, or begins one. Cuts off a record that a crash left half written, and says so in the log.
    pub(super) fn open(rules: AuditRules) -> Result<Self, AuditError> {
        let folder = rules.folder.clone();
        make_private_folder(&folder).map_err(AuditError::at(&folder))?;
        let path = lock_of(&folder);
        let lock = Arc::new(private_file(&path).map_err(AuditError::at(&path))?);
        locked(&lock, &folder, || {
            let signer = Signer::load_or_make(&rules)?;
            let public = signer.public();
            // Not made anew: without the heads nobody would see that the log's end was cut off.
            let heads = OpenOptions::new()
                .read(true)
                .append(true)
                .open(&rules.anchors);
            let heads = heads
                .and_then(end)
                .map_err(AuditError::at(&rules.anchors))?
                .0;
            let heads = String::from_utf8_lossy(&heads);
            // Processes sign in turn, so that the newest head need not be the last one.
            let signed = heads.lines().filter_map(|line| public.read(line));
            let mut log = Self {
                anchored: signed.map(|anchor| anchor.seq).max().unwrap_or(0),
                rules,
                lock: Arc::clone(&lock),
                signer,
                head: Head::default(),
                path: PathBuf::new(),
                len: 0,
            };
            log.catch_up()?;
            sync_folder(&folder).map_err(AuditError::at(&folder))?;
            Ok(log)
        })
    }

    /// Finds the end of the log where another process has moved it. The end never moves back.
    fn catch_up(&mut self) -> Result<(), AuditError> {
        let folder = &self.rules.folder;
        let mut files = files(folder)?;
        let path = match files.last() {
            Some((path, len)) if *path == self.path && *len == self.len => return Ok(()),
            Some((path, _)) => path.clone(),
            None => name(folder, 1),
        };
        let (mut head, len) = last(&path)?;
        // A file without a record was begun just before a crash: the head is in the one before.
        while head.is_none() && files.pop().is_some() {
            let before = files.last().map(|(path, _)| last(path));
            head = before.transpose()?.and_then(|(head, _)| head);
        }
        let head = head.unwrap_or_default();
        let known = self.head.seq.max(self.anchored);
        if head.seq < known {
            return Err(AuditError::Cut {
                last: head.seq,
                known,
            });
        }
        (self.head, self.path, self.len) = (head, path, len);
        Ok(())
    }

    /// Appends records, durably when it returns. After an error none of them is there.
    pub(super) fn append(&mut self, entries: &[(Timestamp, Entry)]) -> Result<(), AuditError> {
        let (lock, folder) = (Arc::clone(&self.lock), self.rules.folder.clone());
        locked(&lock, &folder, || self.append_locked(entries))
    }

    fn append_locked(&mut self, entries: &[(Timestamp, Entry)]) -> Result<(), AuditError> {
        self.catch_up()?;
        if self.len >= self.rules.file_bytes {
            self.begin_file()?;
        }
        // The line break ends what a failure left behind.
        let (mut head, mut out, mut texts) = (self.head, String::new(), "\n".to_owned());
        for (time, entry) in entries {
            let mut entry = entry.clone();
            let text = entry.text.take().map(|text| Text::new(head.seq + 1, text));
            if let Some(text) = &text {
                texts += &serde_json::to_string(text).expect("its members have texts as names");
                texts.push('\n');
            }
            let record = head.record(entry, *time, text.map(|text| text.digest()));
            let (line, next) = line(&record);
            head = next;
            out += &line;
        }
        let beside = self.path.with_extension("texts");
        let written = (texts.len() > 1).then(|| append(&beside, &texts));
        let before = written.transpose().map_err(AuditError::at(&beside))?;
        if let Err(source) = append(&self.path, &out) {
            // They come again with the records. Best effort: the first error counts.
            let texts = before.map(|before| private_file(&beside)?.set_len(before));
            drop(texts);
            return Err(AuditError::at(&self.path)(source));
        }
        self.len += u64::try_from(out.len()).unwrap_or_default();
        self.head = head;
        Ok(())
    }

    /// Begins the next file, and removes the oldest ones past the limit.
    fn begin_file(&mut self) -> Result<(), AuditError> {
        let folder = self.rules.folder.clone();
        let path = name(&folder, self.head.seq + 1);
        private_file(&path).map_err(AuditError::at(&path))?;
        (self.path, self.len) = (path, 0);
        sync_folder(&folder).map_err(AuditError::at(&folder))?;
        let files = files(&folder)?;
        let old = files.len().saturating_sub(self.rules.keep_files.max(2));
        let mut gone = 0;
        for (path, _) in files.iter().take(old) {
            // Signed first: a log whose beginning is missing without a word is a log that somebody cut.
            if let (Some(head), _) = last(path)? {
                self.sign(head, true)?;
                gone = head.seq;
            }
            fs::remove_file(path).map_err(AuditError::at(path))?;
            // Not every file has texts, and people may remove them before.
            let _ = fs::remove_file(path.with_extension("texts"));
        }
        if gone > 0
            && let Err(error) = forget(&self.rules.anchors, gone)
        {
            // They only take room; their disk may take nothing but additions.
            tracing::warn!("the signed heads of removed records stay: {error}");
        }
        Ok(())
    }

    /// Signs the head, unless it is signed.
    pub(super) fn anchor(&mut self) -> Result<(), AuditError> {
        if self.anchored == self.head.seq {
            return Ok(());
        }
        locked(&self.lock, &self.rules.folder, || {
            self.sign(self.head, false)
        })?;
        self.anchored = self.head.seq;
        Ok(())
    }

    fn sign(&self, head: Head, removed: bool) -> Result<(), AuditError> {
        let path = &self.rules.anchors;
        let line = self.signer.sign(head, Timestamp::now(), removed) + "\n";
        // What a crash left half written would spoil this line.
        let whole = private_file(path).and_then(end);
        let signed = whole.and_then(|_| append(path, &line));
        signed.map(drop).map_err(AuditError::at(path))
    }

    pub(super) fn seq(&self) -> u64 {
        self.head.seq
    }
}

fn locked<T>(
    lock: &File,
    folder: &Path,
    act: impl FnOnce() -> Result<T, AuditError>,
) -> Result<T, AuditError> {
    lock.lock().map_err(AuditError::at(folder))?;
    let done = act();
    lock.unlock().map_err(AuditError::at(folder))?;
    done
}

/// The last lines of a file, and its length. Cuts off a line that a crash left half written.
fn end(mut file: File) -> io::Result<(Vec<u8>, u64)> {
    let size = file.seek(SeekFrom::End(0))?;
    let start = file.seek(SeekFrom::Start(size.saturating_sub(TAIL)))?;
    let mut lines = Vec::new();
    (&file).take(size - start).read_to_end(&mut lines)?;
    let whole = match lines.iter().rposition(|byte| *byte == b'\n') {
        Some(at) => at + 1,
        None if start == 0 => 0,
        None => {
            return Err(io::Error::new(
                ErrorKind::InvalidData,
                "its end has no lines",
            ));
        }
    };
    if whole < lines.len() {
        tracing::warn!("a file of the audit log ended within a line, which is cut off");
        lines.truncate(whole);
        file.set_len(start + whole as u64)?;
    }
    Ok((lines, start + whole as u64))
}

/// The head after the last whole record of a file, none in an empty one, and the file's length.
fn last(path: &Path) -> Result<(Option<Head>, u64), AuditError> {
    let (lines, len) = private_file(path)
        .and_then(end)
        .map_err(AuditError::at(path))?;
    let Some(line) = lines.split_inclusive(|byte| *byte == b'\n').next_back() else {
        return Ok((None, len));
    };
    let line = str::from_utf8(line).map_err(|_| "it is no text");
    let (_, head) = line.and_then(read).map_err(|flaw| AuditError::End {
        path: path.to_owned(),
        flaw: flaw.to_owned(),
    })?;
    Ok((Some(head), len))
}

/// Appends whole lines, durably, or nothing; returns the length before.
fn append(path: &Path, lines: &str) -> io::Result<u64> {
    let mut file = private_file(path)?;
    let before = file.metadata()?.len();
    let written = file.write_all(lines.as_bytes());
    if let Err(error) = written.and_then(|()| file.sync_data()) {
        // Best effort: the first error counts.
        drop(file.set_len(before));
        return Err(error);
    }
    Ok(before)
}

fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}
