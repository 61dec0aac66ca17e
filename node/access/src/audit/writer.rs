//! The thread that writes the log: takes entries from a bounded queue and makes them durable in batches.
//!
//! Knows no file; [`super::log`] does.

use std::panic::{self, AssertUnwindSafe};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, SyncSender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use jiff::Timestamp;

use super::log::Log;
use super::record::{Entry, What};
use super::{AuditError, AuditRules, OnTrouble};

/// About a tenth of a second of a node at its full rate, in 2 MB.
const QUEUE: usize = 8_192;
/// A batch is one write and one flush of the disk.
const BATCH: usize = 1_024;
/// A log that cannot be written is tried again so often.
const RETRY: Duration = Duration::from_secs(1);
/// What is not signed yet can be cut off unnoticed: at most so many records, and so old ones.
const ANCHOR_RECORDS: u64 = 1_000;
const ANCHOR_AGE: Duration = Duration::from_secs(60);

/// The entry was not taken: the node must not do what it would have told of.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the audit log cannot be written, and nothing may happen without it")]
pub struct Unaudited;

/// The audit log of a running process.
#[derive(Debug)]
pub struct Audit {
    /// An empty message is the last one.
    queue: SyncSender<Option<(Timestamp, Entry)>>,
    state: Arc<State>,
    on_trouble: OnTrouble,
    thread: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Debug, Default)]
struct State {
    trouble: Mutex<Option<String>>,
    /// Entries that were not taken and that the log does not tell of yet.
    lost: AtomicU64,
    /// The last record that is durable.
    durable: AtomicU64,
    /// A log that cannot be written must not keep the process.
    is_closing: AtomicBool,
}

impl State {
    fn set(&self, trouble: Option<String>) {
        let mut current = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(words) = trouble.as_ref().filter(|_| current.is_none()) {
            tracing::error!("the audit log cannot be written: {words}");
        }
        *current = trouble;
    }
}

impl Audit {
    /// Opens the log and begins to write it.
    ///
    /// # Errors
    /// The log cannot be opened, does not end with a record, or is shorter than its signed head says.
    pub fn open(rules: AuditRules) -> Result<Self, AuditError> {
        let (folder, on_trouble) = (rules.folder.clone(), rules.on_trouble);
        let log = Log::open(rules)?;
        let state = Arc::new(State::default());
        let (queue, entries) = mpsc::sync_channel(QUEUE);
        let writer = Writer {
            log,
            entries,
            state: Arc::clone(&state),
            pending: Vec::new(),
            signed_at: Instant::now(),
        };
        let thread = thread::Builder::new().name("amcp-audit".to_owned());
        let ended = Arc::clone(&state);
        let thread = thread.spawn(move || guarded(&ended, || writer.run()));
        Ok(Self {
            queue,
            state,
            on_trouble,
            thread: Mutex::new(Some(thread.map_err(AuditError::at(&folder))?)),
        })
    }

    /// Takes an entry for the log. It is durable after the next flush of the disk, within milliseconds; a crash of the machine before that
    /// loses it.
    ///
    /// # Errors
    /// [`Unaudited`] under [`OnTrouble::Refuse`]: the queue is full; or the log cannot be written, and the entry accepts a request. What
    /// is under way is still taken then, as long as the queue has room.
    pub fn record(&self, entry: Entry) -> Result<(), Unaudited> {
        let refuses = self.on_trouble == OnTrouble::Refuse;
        if refuses && entry.what == What::RequestAccepted && self.trouble().is_some() {
            return Err(Unaudited);
        }
        let told = Some((Timestamp::now(), entry));
        if self.queue.try_send(told).is_ok() {
            return Ok(());
        }
        self.state.lost.fetch_add(1, Ordering::Relaxed);
        if refuses { Err(Unaudited) } else { Ok(()) }
    }

    /// Why the log cannot be written; none while it can. For a node's health.
    #[must_use]
    pub fn trouble(&self) -> Option<String> {
        let trouble = self.state.trouble.lock();
        trouble.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The number of the last record that is durable, of this process.
    #[must_use]
    pub fn durable(&self) -> u64 {
        self.state.durable.load(Ordering::Acquire)
    }

    /// Takes nothing more, and waits until what was taken is written and signed.
    ///
    /// # Errors
    /// The reason why it is not, in words.
    pub fn close(&self) -> Result<(), String> {
        let mut thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(thread) = thread.take() {
            self.state.is_closing.store(true, Ordering::Release);
            thread.thread().unpark();
            // Fails when the thread has ended, and has said why.
            let _ = self.queue.send(None);
            let _ = thread.join();
        }
        self.trouble().map_or(Ok(()), Err)
    }
}

impl Drop for Audit {
    fn drop(&mut self) {
        // The log has told of its trouble.
        let _ = self.close();
    }
}

/// A panic of the writer must not pass for a log that is written.
fn guarded(state: &State, write: impl FnOnce()) {
    if panic::catch_unwind(AssertUnwindSafe(write)).is_err() {
        state.set(Some("its writer panicked".to_owned()));
    }
}

struct Writer {
    log: Log,
    entries: Receiver<Option<(Timestamp, Entry)>>,
    state: Arc<State>,
    pending: Vec<(Timestamp, Entry)>,
    signed_at: Instant,
}

impl Writer {
    fn run(mut self) {
        loop {
            let is_open = self.fill();
            let written = self.write();
            let signed = written.and_then(|()| self.sign(!is_open));
            let failed = signed.as_ref().err().map(ToString::to_string);
            let has_failed = failed.is_some();
            self.state.set(failed);
            if !is_open || has_failed && self.state.is_closing.load(Ordering::Acquire) {
                let lost = self.pending.len() + self.entries.try_iter().flatten().count();
                if lost > 0 {
                    tracing::error!("{lost} records of the audit log are lost");
                }
                return;
            }
            if has_failed {
                thread::park_timeout(RETRY);
            }
        }
    }

    /// Waits for entries and takes as many as a batch holds; says whether more may come.
    fn fill(&mut self) -> bool {
        if self.pending.is_empty() {
            let wait = ANCHOR_AGE.saturating_sub(self.signed_at.elapsed());
            match self
                .entries
                .recv_timeout(wait.max(Duration::from_millis(1)))
            {
                Ok(Some(entry)) => self.pending.push(entry),
                Err(RecvTimeoutError::Timeout) => {}
                Ok(None) | Err(RecvTimeoutError::Disconnected) => return false,
            }
        }
        while self.pending.len() < BATCH {
            match self.entries.try_recv() {
                Ok(Some(entry)) => self.pending.push(entry),
                Err(mpsc::TryRecvError::Empty) => break,
                Ok(None) | Err(mpsc::TryRecvError::Disconnected) => return false,
            }
        }
        true
    }

    fn write(&mut self) -> Result<(), AuditError> {
        // While the log cannot be written, what is lost is counted, and told in one record.
        let is_told = |(_, entry): &(Timestamp, Entry)| entry.what == What::AuditLost;
        let lost = match self.pending.last().is_some_and(is_told) {
            true => 0,
            false => self.state.lost.swap(0, Ordering::Relaxed),
        };
        if lost > 0 {
            let mut entry = Entry::new(What::AuditLost);
            entry.outcome = Some(format!("{lost} records"));
            self.pending.push((Timestamp::now(), entry));
        }
        if self.pending.is_empty() {
            return Ok(());
        }
        self.log.append(&self.pending)?;
        self.pending.clear();
        self.state.durable.store(self.log.seq(), Ordering::Release);
        Ok(())
    }

    fn sign(&mut self, is_last: bool) -> Result<(), AuditError> {
        let unsigned = self.log.seq().saturating_sub(self.log.anchored);
        let is_old = self.signed_at.elapsed() >= ANCHOR_AGE;
        if is_last || is_old || unsigned >= ANCHOR_RECORDS {
            self.log.anchor()?;
            self.signed_at = Instant::now();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_writer_that_panics_is_trouble() {
        let state = State::default();
        guarded(&state, || ());
        assert_eq!(*state.trouble.lock().unwrap(), None);
        guarded(&state, || panic!("on purpose"));
        assert!(state.trouble.lock().unwrap().is_some());
    }

    #[test]
    fn losses_of_a_log_that_cannot_be_written_are_one_record() {
        let folder = tempfile::tempdir().unwrap();
        let rules = AuditRules::in_data(folder.path());
        let log = Log::open(rules.clone()).unwrap();
        std::fs::remove_dir_all(&rules.folder).unwrap();
        let state = Arc::new(State::default());
        let mut writer = Writer {
            log,
            entries: mpsc::sync_channel(1).1,
            state: Arc::clone(&state),
            pending: Vec::new(),
            signed_at: Instant::now(),
        };
        for _ in 0..10 {
            state.lost.fetch_add(1, Ordering::Relaxed);
            assert!(writer.write().is_err());
        }
        assert_eq!(writer.pending.len(), 1);
        assert_eq!(state.lost.load(Ordering::Relaxed), 9, "told later");
    }
}
