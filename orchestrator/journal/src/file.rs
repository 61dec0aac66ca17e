//! The journal of one node: a folder with one file, written by one thread.
//!
//! Shares requests with no other machine.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};
use std::thread::JoinHandle;

use amcp_protocol::RequestId;
use parking_lot::{Mutex, RwLock};

use crate::chain::Head;
use crate::committer::{Committer, Common, Waiting};
use crate::store::{self, Failed, Retention, Store};
use crate::{Journal, JournalError, Kept, Record, lock};

/// The journal's file in its folder.
const FILE: &str = "journal.redb";

/// A journal in a folder. Dropped, it makes what waits durable and closes.
#[derive(Debug)]
pub struct FileJournal {
    common: Arc<Common>,
    epoch: u64,
    to_thread: Option<Sender<Waiting>>,
    thread: Option<JoinHandle<()>>,
    /// Keeps other processes out. Freed last.
    _lock: fs::File,
}

/// The result of a check of all records.
#[derive(Debug, Default)]
pub struct Verified {
    /// Number of requests.
    pub requests: usize,
    /// Of these: without an answer.
    pub open: usize,
    /// Number of records.
    pub records: u64,
    /// What is damaged.
    pub damages: Vec<JournalError>,
}

impl FileJournal {
    /// Opens the journal in a folder, or makes one; returns it with the heads of all its requests. Reads the whole file if it was not
    /// closed.
    ///
    /// # Errors
    /// Another process has it, it cannot be written, or it is damaged.
    pub fn open(
        folder: &Path,
        retention: Retention,
    ) -> Result<(Self, Vec<(RequestId, Head)>), JournalError> {
        fs::create_dir_all(folder).map_err(|error| JournalError::Unusable(error.to_string()))?;
        let lock = lock::take(folder)?;
        let mut store = Store::new(folder.join(FILE), retention);
        let database = store.open().map_err(unusable)?;
        let (epoch, heads) = store.begin(&database)?;
        let common = Arc::new(Common {
            database: RwLock::new(Some(database)),
            trouble: Mutex::new(None),
        });
        let (to_thread, inbox) = channel();
        let committer = Committer {
            store,
            epoch,
            inbox,
            common: common.clone(),
        };
        let thread = std::thread::Builder::new().name("journal".to_owned());
        let thread = thread.spawn(move || committer.run());
        let thread = thread.map_err(|error| JournalError::Unusable(error.to_string()))?;
        let journal = Self {
            common,
            epoch,
            to_thread: Some(to_thread),
            thread: Some(thread),
            _lock: lock,
        };
        Ok((journal, heads))
    }

    /// Checks every page of the file and the records of every request, and changes none.
    ///
    /// # Errors
    /// Another process has it, or the file as a whole is unreadable.
    pub fn verify(folder: &Path) -> Result<Verified, JournalError> {
        let path = folder.join(FILE);
        if !path.is_file() {
            return Err(JournalError::Missing(folder.display().to_string()));
        }
        let _lock = lock::take(folder)?;
        let database = Store::new(path, Retention::default()).open();
        let database = database.map_err(unusable)?;
        let mut verified = Verified::default();
        for (request, sealed) in store::all_heads(&database).map_err(unusable)? {
            verified.requests += 1;
            let read = Head::open(request, &sealed).and_then(|head| {
                verified.open += usize::from(head.ended_ms.is_none());
                store::read(&database, request).map_err(unusable)?
            });
            match read {
                Ok(bodies) => verified.records += bodies.len() as u64,
                Err(damage) => verified.damages.push(damage),
            }
        }
        Ok(verified)
    }
}

fn unusable(error: Failed) -> JournalError {
    JournalError::Unusable(error.to_string())
}

impl Journal for FileJournal {
    fn append(&self, record: Record, kept: Kept) {
        if let Some(thread) = &self.to_thread
            && thread.send((record, kept)).is_err()
        {
            // The record's `kept` is dropped unheard, and nothing follows from the record.
            *self.common.trouble.lock() = Some("its thread has ended".to_owned());
        }
    }

    fn epoch(&self) -> u64 {
        self.epoch
    }

    fn read(&self, request: RequestId) -> Result<Vec<Vec<u8>>, JournalError> {
        let database = self.common.database.read();
        let closed = || JournalError::Unusable("it cannot be written now".to_owned());
        store::read(database.as_ref().ok_or_else(closed)?, request).map_err(unusable)?
    }

    fn trouble(&self) -> Option<String> {
        self.common.trouble.lock().clone()
    }
}

impl Drop for FileJournal {
    fn drop(&mut self) {
        self.to_thread = None;
        if let Some(thread) = self.thread.take() {
            // A thread that panicked has said so.
            let _ = thread.join();
        }
    }
}
