//! The journal's thread: gathers the records that wait and makes them durable in one commit.
//!
//! Its queue is bounded by its writers: each request has one record under way.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use amcp_protocol::RequestId;
use parking_lot::{Mutex, RwLock};
use redb::Database;

use crate::store::{Failed, Store, probe};
use crate::{Kept, Record, Refusal, Step};

/// Most records of one commit: more would make the first of them wait longer than a disk takes.
const BATCH: usize = 1_024;
/// How long the thread waits before it tries a journal again that could not be written: as long as a client waits.
const AGAIN: Duration = Duration::from_secs(1);

/// What the thread shares with the journal's readers.
#[derive(Debug)]
pub(crate) struct Common {
    /// None between a failed write and the next attempt.
    pub(crate) database: RwLock<Option<Database>>,
    pub(crate) trouble: Mutex<Option<String>>,
}

pub(crate) type Waiting = (Record, Kept);

pub(crate) struct Committer {
    pub(crate) store: Store,
    pub(crate) epoch: u64,
    pub(crate) inbox: Receiver<Waiting>,
    pub(crate) common: Arc<Common>,
}

impl Committer {
    /// Runs until all senders are gone and their records are durable.
    pub(crate) fn run(mut self) {
        while let Ok(first) = self.inbox.recv() {
            let mut batch = vec![first];
            while batch.len() < BATCH
                && let Ok(next) = self.inbox.try_recv()
            {
                batch.push(next);
            }
            if !self.commit(batch) {
                return;
            }
        }
    }

    /// Makes a batch durable, however long that takes; false if the journal closes before.
    fn commit(&mut self, mut batch: Vec<Waiting>) -> bool {
        let mut refused = Vec::new();
        let mut again = false;
        loop {
            let error = match caught(|| self.write(&batch, again)) {
                Ok(outcomes) => {
                    for ((_, kept), outcome) in batch.into_iter().zip(outcomes) {
                        kept(outcome);
                    }
                    return true;
                }
                Err(error) => error,
            };
            again = true;
            tracing::error!(error, "the journal cannot be written");
            *self.common.trouble.lock() = Some(error.clone());
            // A failed write leaves the store's memory behind its file.
            let database = self.common.database.write().take();
            let _ = caught(|| {
                drop(database);
                Ok(())
            });
            loop {
                batch = refuse_new(batch, &error, &mut refused);
                match self.inbox.recv_timeout(AGAIN) {
                    Ok(next) => batch.push(next),
                    Err(RecvTimeoutError::Disconnected) => return false,
                    Err(RecvTimeoutError::Timeout) => {
                        if self.reopen(&refused) {
                            break;
                        }
                    }
                }
            }
        }
    }

    fn write(
        &mut self,
        batch: &[Waiting],
        again: bool,
    ) -> Result<Vec<Result<(), Refusal>>, Failed> {
        let database = self.common.database.read();
        let Some(database) = database.as_ref() else {
            return Err(Box::new(redb::Error::DatabaseClosed));
        };
        let records: Vec<_> = batch.iter().map(|(record, _)| record).collect();
        self.store.write(database, (&records, again))
    }

    fn reopen(&self, refused: &[RequestId]) -> bool {
        let opened = caught(|| {
            let database = self.store.open()?;
            probe(&database, self.epoch, refused)?;
            Ok(database)
        });
        match opened {
            Ok(database) => {
                *self.common.database.write() = Some(database);
                *self.common.trouble.lock() = None;
                tracing::info!("the journal can be written again");
                true
            }
            Err(error) => {
                *self.common.trouble.lock() = Some(error);
                false
            }
        }
    }
}

/// The result, or why there is none. The store panics on a file that something else has changed; the records that wait must outlive that.
fn caught<T>(attempt: impl FnOnce() -> Result<T, Failed>) -> Result<T, String> {
    match catch_unwind(AssertUnwindSafe(attempt)) {
        Ok(done) => done.map_err(|error| error.to_string()),
        Err(_) => Err("its store panicked".to_owned()),
    }
}

/// Refuses and names the records that accept requests, and returns the others, which wait.
fn refuse_new(batch: Vec<Waiting>, error: &str, refused: &mut Vec<RequestId>) -> Vec<Waiting> {
    let (new, waiting): (Vec<_>, Vec<_>) = batch
        .into_iter()
        .partition(|(record, _)| matches!(record.step, Step::Opens(_) | Step::OpensAndEnds(_)));
    for (record, kept) in new {
        refused.push(record.request);
        kept(Err(Refusal::Unwritable(error.to_owned())));
    }
    waiting
}
