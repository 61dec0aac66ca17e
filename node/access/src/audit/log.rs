//! The log's files: appended to under a lock, followed by others when they are full, removed when they are old.
//!
//! Several processes may append to one log in turn. Does not decide when; [`super::writer`] does.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use jiff::Timestamp;

use super::anchor::{Signer, lines};
use super::record::{Entry, Head, line, read};
use super::text::Text;
use super::{AuditError, AuditRules};
use crate::{make_private_folder, private_file};

/// The log as this process last saw it.
#[derive(Debug)]
pub(super) struct Log {
    rules: AuditRules,
    lock: File,
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
        let lock = lock_of(&folder);
        let lock = private_file().open(&lock).map_err(AuditError::at(&lock))?;
        lock.lock().map_err(AuditError::at(&folder))?;
        let signer = Signer::load_or_make(&folder)?;
        let public = signer.public();
        let signed = lines(&rules.anchors)?;
        let signed = signed.iter().filter_map(|line| public.read(line));
        let mut log = Self {
            anchored: signed.map(|anchor| anchor.seq).max().unwrap_or(0),
            rules,
            lock,
            signer,
            head: Head::default(),
            path: PathBuf::new(),
            len: 0,
        };
        let opened = log.catch_up();
        sync_folder(&folder).map_err(AuditError::at(&folder))?;
        log.lock.unlock().map_err(AuditError::at(&folder))?;
        opened.map(|()| log)
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
        let trouble = AuditError::at(&path);
        let file = private_file().open(&path).map_err(&trouble)?;
        let text = fs::read(&path).map_err(&trouble)?;
        let whole = text.iter().rposition(|byte| *byte == b'\n');
        let whole = whole.map_or(0, |at| at + 1);
        let len = u64::try_from(whole).unwrap_or_default();
        if whole < text.len() {
            tracing::warn!("the audit log ended within a record, which is cut off");
            file.set_len(len).map_err(&trouble)?;
        }
        // A file without a record was begun just before a crash: the head is in the one before.
        let mut head = last(&path)?;
        while head.is_none() && files.pop().is_some() {
            let before = files.last().map(|(path, _)| last(path));
            head = before.transpose()?.flatten();
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
        let folder = self.rules.folder.clone();
        self.lock.lock().map_err(AuditError::at(&folder))?;
        let appended = self.append_locked(entries);
        self.lock.unlock().map_err(AuditError::at(&folder))?;
        appended
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
        if texts.len() > 1 {
            let path = self.path.with_extension("texts");
            write(&path, &texts).map_err(AuditError::at(&path))?;
        }
        let trouble = AuditError::at(&self.path);
        if let Err(source) = write(&self.path, &out) {
            // A part of a record at the end would look like a crash.
            let file = private_file().open(&self.path).map_err(&trouble)?;
            file.set_len(self.len).map_err(&trouble)?;
            return Err(trouble(source));
        }
        self.len += u64::try_from(out.len()).unwrap_or_default();
        self.head = head;
        Ok(())
    }

    /// Begins the next file, and removes the oldest ones past the limit.
    fn begin_file(&mut self) -> Result<(), AuditError> {
        let folder = self.rules.folder.clone();
        let path = name(&folder, self.head.seq + 1);
        private_file().open(&path).map_err(AuditError::at(&path))?;
        (self.path, self.len) = (path, 0);
        sync_folder(&folder).map_err(AuditError::at(&folder))?;
        let files = files(&folder)?;
        let kept = self.rules.keep_files.max(2);
        let Some(old) = files
            .len()
            .checked_sub(kept)
            .and_then(|count| files.get(..count))
        else {
            return Ok(());
        };
        let Some((newest, _)) = old.last() else {
            return Ok(());
        };
        // Signed first: a log whose beginning is missing without a word is a log that somebody cut.
        if let Some(head) = last(newest)? {
            self.sign(head, true)?;
        }
        for (path, _) in old {
            fs::remove_file(path).map_err(AuditError::at(path))?;
            // Not every file has texts, and people may remove them before.
            let _ = fs::remove_file(path.with_extension("texts"));
        }
        Ok(())
    }

    /// Signs the head, unless it is signed.
    pub(super) fn anchor(&mut self) -> Result<(), AuditError> {
        if self.anchored == self.head.seq {
            return Ok(());
        }
        self.sign(self.head, false)?;
        self.anchored = self.head.seq;
        Ok(())
    }

    fn sign(&self, head: Head, removed: bool) -> Result<(), AuditError> {
        let path = &self.rules.anchors;
        let line = self.signer.sign(head, Timestamp::now(), removed) + "\n";
        write(path, &line).map_err(AuditError::at(path))
    }

    pub(super) fn seq(&self) -> u64 {
        self.head.seq
    }
}

/// The head after the last whole record of a file; none in an empty one.
fn last(path: &Path) -> Result<Option<Head>, AuditError> {
    let text = fs::read_to_string(path).map_err(AuditError::at(path))?;
    let Some(line) = text.split_inclusive('\n').next_back() else {
        return Ok(None);
    };
    let (_, head) = read(line).map_err(|flaw| AuditError::End {
        path: path.to_owned(),
        flaw: flaw.to_owned(),
    })?;
    Ok(Some(head))
}

fn write(path: &Path, text: &str) -> io::Result<()> {
    let mut file = private_file().open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_data()
}

fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}
