//! The tables of a journal in one redb file: heads by request, records by request and number.
//!
//! Starts no thread; a failed write leaves the store to be opened again.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::time::Duration;

use amcp_protocol::RequestId;
use redb::{
    Builder, Database, ReadableDatabase, ReadableTable, Table, TableDefinition, TableError,
    WriteTransaction,
};
use smart_default::SmartDefault;
use uuid::Uuid;

use crate::chain::Head;
use crate::{JournalError, Record, Refusal, Step};

const HEADS: TableDefinition<'_, u128, &[u8]> = TableDefinition::new("heads");
const RECORDS: TableDefinition<'_, (u128, u32), &[u8]> = TableDefinition::new("records");
/// `epoch`: how often the journal was opened.
const ABOUT: TableDefinition<'_, &str, u64> = TableDefinition::new("about");
/// The version of the form of heads and records.
const FORM: u64 = 1;
/// Memory for pages, in bytes: the records of open requests are few and small.
const CACHE: usize = 32 * 1024 * 1024;

/// How long a journal keeps the records of requests that have ended. Open requests stay.
#[derive(Debug, Clone, Copy, SmartDefault)]
pub struct Retention {
    /// Most ended requests with records.
    // Ten times what a node shows by itself.
    #[default = 10_000]
    pub requests: usize,
    /// Most bytes of their records: after a crash, opening reads all of the file.
    #[default(256 * 1024 * 1024)]
    pub bytes: u64,
    /// How long marks stay, from the acceptance.
    #[default(Duration::from_secs(24 * 60 * 60))]
    pub marks: Duration,
}

/// A failed read or write.
pub(crate) type Failed = Box<redb::Error>;

pub(crate) fn failed(error: impl Into<redb::Error>) -> Failed {
    Box::new(error.into())
}

/// An ended request that the journal will drop.
#[derive(Debug)]
struct Ended {
    at_ms: i64,
    request: RequestId,
    bytes: u64,
}

#[derive(Debug)]
pub(crate) struct Store {
    path: PathBuf,
    retention: Retention,
    /// With records, the oldest end first.
    ended: VecDeque<Ended>,
    /// Bytes of all records in `ended`.
    bytes: u64,
    /// Heads without records, by the acceptance, the oldest first.
    marks: VecDeque<(i64, RequestId)>,
}

impl Store {
    pub(crate) fn new(path: PathBuf, retention: Retention) -> Self {
        Self {
            path,
            retention,
            ended: VecDeque::new(),
            bytes: 0,
            marks: VecDeque::new(),
        }
    }

    /// Opens the file, and checks every page of it.
    pub(crate) fn open(&self) -> Result<Database, Failed> {
        let mut builder = Builder::new();
        builder.set_cache_size(CACHE);
        builder.set_check_integrity_on_open(true);
        #[cfg(test)]
        return crate::tests::disk::opened(&builder, &self.path);
        #[cfg(not(test))]
        builder.create(&self.path).map_err(failed)
    }

    /// Counts a new owner in: returns its epoch and all heads. Names a damaged head in the log, and goes on without its request.
    pub(crate) fn begin(
        &mut self,
        database: &Database,
    ) -> Result<(u64, Vec<(RequestId, Head)>), JournalError> {
        let unusable = |error: Failed| JournalError::Unusable(error.to_string());
        let begun = database.begin_write().map_err(failed).map_err(unusable)?;
        let epoch = next_epoch(&begun, &self.path).map_err(unusable)?;
        let mut heads = Vec::new();
        for (request, sealed) in self::sealed(&begun).map_err(unusable)? {
            match Head::open(request, &sealed) {
                Ok(head) => heads.push((request, head)),
                Err(damage) => tracing::error!(%damage, "a request of the journal is left out"),
            }
        }
        begun.commit().map_err(failed).map_err(unusable)?;
        self.remember(&heads);
        Ok((epoch, heads))
    }

    fn remember(&mut self, heads: &[(RequestId, Head)]) {
        let mut ended = Vec::new();
        let mut marks = Vec::new();
        for (request, head) in heads {
            if let (Some(at_ms), false) = (head.ended_ms, head.dropped) {
                let (request, bytes) = (*request, head.bytes);
                ended.push(Ended {
                    at_ms,
                    request,
                    bytes,
                });
            } else if head.dropped {
                marks.push((head.opened_ms, *request));
            }
        }
        ended.sort_unstable_by_key(|ended| ended.at_ms);
        marks.sort_unstable();
        self.bytes = ended.iter().map(|ended| ended.bytes).sum();
        self.ended = ended.into();
        self.marks = marks.into();
    }

    /// Writes records in one commit, which is durable when this returns; each may be refused for itself. A commit that has failed may be
    /// in the file all the same: a record that comes `again` and is the last of its request already is not written twice.
    pub(crate) fn write(
        &mut self,
        database: &Database,
        (batch, again): (&[&Record], bool),
    ) -> Result<Vec<Result<(), Refusal>>, Failed> {
        let begun = database.begin_write().map_err(failed)?;
        let mut ended = Vec::new();
        let mut outcomes = Vec::with_capacity(batch.len());
        {
            let mut heads = begun.open_table(HEADS).map_err(failed)?;
            let mut records = begun.open_table(RECORDS).map_err(failed)?;
            for record in batch {
                let tables = (&mut heads, &mut records);
                let outcome = put(tables, record, again)?;
                outcomes.push(outcome.map(|end| ended.extend(end)));
            }
        }
        let now = batch.iter().map(|record| record.unix_ms).max();
        let dropped = self.drop_old(&begun, now.unwrap_or_default())?;
        begun.commit().map_err(failed)?;
        // Only now: a failed commit has dropped nothing.
        for _ in 0..dropped.ended {
            if let Some(oldest) = self.ended.pop_front() {
                self.bytes = self.bytes.saturating_sub(oldest.bytes);
            }
        }
        self.marks.drain(..dropped.marks);
        self.marks.extend(dropped.marked);
        self.bytes += ended.iter().map(|ended| ended.bytes).sum::<u64>();
        self.ended.extend(ended);
        Ok(outcomes)
    }

    /// Removes the records of the oldest ended requests past the bounds, and the heads whose time is over.
    fn drop_old(&self, begun: &WriteTransaction, now: i64) -> Result<Dropped, Failed> {
        let mut dropped = Dropped::default();
        let mut bytes = self.bytes;
        let mut left = self.ended.len();
        let over = |since: &i64| {
            let age = u64::try_from(now.saturating_sub(*since)).unwrap_or_default();
            Duration::from_millis(age) > self.retention.marks
        };
        for oldest in &self.ended {
            if left <= self.retention.requests && bytes <= self.retention.bytes {
                break;
            }
            (left, bytes) = (left - 1, bytes.saturating_sub(oldest.bytes));
            dropped.ended += 1;
            if let Some(marked) = drop_records(begun, oldest.request, over)? {
                dropped.marked.push((marked, oldest.request));
            }
        }
        for (_, request) in self.marks.iter().take_while(|(since, _)| over(since)) {
            dropped.marks += 1;
            let mut heads = begun.open_table(HEADS).map_err(failed)?;
            heads.remove(request.uuid().as_u128()).map_err(failed)?;
        }
        Ok(dropped)
    }
}

type Heads<'a> = Table<'a, u128, &'static [u8]>;
type Records<'a> = Table<'a, (u128, u32), &'static [u8]>;

/// Writes one record, and returns its request if that has ended.
fn put(
    (heads, records): (&mut Heads<'_>, &mut Records<'_>),
    record: &Record,
    again: bool,
) -> Result<Result<Option<Ended>, Refusal>, Failed> {
    let key = record.request.uuid().as_u128();
    let known = heads.get(key).map_err(failed)?;
    let known = known.map(|sealed| Head::open(record.request, sealed.value()));
    let ended = |head: &Head| {
        head.ended_ms.map(|at_ms| Ended {
            at_ms,
            request: record.request,
            bytes: head.bytes,
        })
    };
    let stamp = (record.epoch, record.unix_ms);
    if let (true, Some(Ok(head))) = (again, &known) {
        let last = (key, head.records.saturating_sub(1));
        let last = records.get(last).map_err(failed)?;
        if last.is_some_and(|kept| Head::is_same(kept.value(), stamp, &record.body)) {
            return Ok(Ok(ended(head)));
        }
    }
    let mut head = match admitted(record, known) {
        Ok(head) => head,
        Err(refusal) => return Ok(Err(refusal)),
    };
    let number = head.records;
    let framed = if let Step::Resumes = record.step {
        (head.epoch, head.tries) = (record.epoch, head.tries + 1);
        None
    } else {
        Some(head.add(record.request, stamp, &record.body))
    };
    if matches!(record.step, Step::Ends | Step::OpensAndEnds(_)) {
        head.ended_ms = Some(record.unix_ms);
    }
    let Ok(sealed) = head.seal(record.request) else {
        return Ok(Err(Refusal::Superseded("its head cannot be written")));
    };
    heads.insert(key, sealed.as_slice()).map_err(failed)?;
    if let Some(framed) = framed {
        let framed = framed.as_slice();
        records.insert((key, number), framed).map_err(failed)?;
    }
    Ok(Ok(ended(&head)))
}

/// Numbers of entries that leave the front of each queue, and the heads that stay without records.
#[derive(Debug, Default)]
struct Dropped {
    ended: usize,
    marks: usize,
    marked: Vec<(i64, RequestId)>,
}

/// Removes a request's records, and its head unless its mark must stay; then returns the time of its acceptance.
fn drop_records(
    begun: &WriteTransaction,
    request: RequestId,
    is_over: impl Fn(&i64) -> bool,
) -> Result<Option<i64>, Failed> {
    let key = request.uuid().as_u128();
    let mut records = begun.open_table(RECORDS).map_err(failed)?;
    records
        .retain_in((key, 0)..=(key, u32::MAX), |_, _| false)
        .map_err(failed)?;
    let mut heads = begun.open_table(HEADS).map_err(failed)?;
    let head = heads.remove(key).map_err(failed)?;
    let head = head.and_then(|sealed| Head::open(request, sealed.value()).ok());
    let Some(mut head) = head.filter(|head| !head.mark.is_empty() && !is_over(&head.opened_ms))
    else {
        return Ok(None);
    };
    head.dropped = true;
    if let Ok(sealed) = head.seal(request) {
        heads.insert(key, sealed.as_slice()).map_err(failed)?;
    }
    Ok(Some(head.opened_ms))
}

/// The head that a record continues.
fn admitted(record: &Record, known: Option<Result<Head, JournalError>>) -> Result<Head, Refusal> {
    let opens = match &record.step {
        Step::Opens(mark) | Step::OpensAndEnds(mark) => Some(mark),
        Step::Continues | Step::Resumes | Step::Ends => None,
    };
    match (known, opens) {
        (None, Some(mark)) => Ok(Head::new(record.unix_ms, mark.clone())),
        (None, None) => Err(Refusal::Superseded("it is unknown")),
        (Some(Err(_)), _) => Err(Refusal::Superseded("its head is damaged")),
        (Some(Ok(_)), Some(_)) => Err(Refusal::Superseded("it was accepted before")),
        (Some(Ok(head)), None) if head.ended_ms.is_some() => {
            Err(Refusal::Superseded("it has its answer"))
        }
        (Some(Ok(head)), None) if head.epoch > record.epoch => {
            Err(Refusal::Superseded("a later epoch owns it"))
        }
        (Some(Ok(head)), None) => Ok(head),
    }
}

fn sealed(begun: &WriteTransaction) -> Result<Vec<(RequestId, Vec<u8>)>, Failed> {
    // Makes the table, so that readers find it.
    begun.open_table(RECORDS).map_err(failed)?;
    let heads = begun.open_table(HEADS).map_err(failed)?;
    collected(&heads)
}

fn collected(
    heads: &impl ReadableTable<u128, &'static [u8]>,
) -> Result<Vec<(RequestId, Vec<u8>)>, Failed> {
    let entries = heads.iter().map_err(failed)?;
    let entries = entries.map(|entry| {
        let (key, sealed) = entry.map_err(failed)?;
        let request = RequestId::from_uuid(Uuid::from_u128(key.value()));
        Ok((request, sealed.value().to_vec()))
    });
    entries.collect()
}

fn next_epoch(begun: &WriteTransaction, path: &Path) -> Result<u64, Failed> {
    let mut about = begun.open_table(ABOUT).map_err(failed)?;
    let read = |name: &str| -> Result<Option<u64>, Failed> {
        let value = about.get(name).map_err(failed)?;
        Ok(value.map(|value| value.value()))
    };
    let form = read("form")?.unwrap_or(FORM);
    if form != FORM {
        let shown = path.display();
        let message = format!("{shown} has form {form}, and this build reads form {FORM}");
        return Err(failed(redb::Error::Corrupted(message)));
    }
    let epoch = read("epoch")?.unwrap_or(0) + 1;
    about.insert("form", FORM).map_err(failed)?;
    about.insert("epoch", epoch).map_err(failed)?;
    Ok(epoch)
}

/// Whether the store can be written: writes the epoch again, and removes the requests that were refused although a commit that failed
/// may have brought them into the file.
pub(crate) fn probe(database: &Database, epoch: u64, refused: &[RequestId]) -> Result<(), Failed> {
    let begun = database.begin_write().map_err(failed)?;
    {
        let mut about = begun.open_table(ABOUT).map_err(failed)?;
        about.insert("epoch", epoch).map_err(failed)?;
    }
    for request in refused {
        drop_records(&begun, *request, |_| true)?;
    }
    begun.commit().map_err(failed)
}

/// All heads as they are stored.
pub(crate) fn all_heads(database: &Database) -> Result<Vec<(RequestId, Vec<u8>)>, Failed> {
    let begun = database.begin_read().map_err(failed)?;
    collected(&begun.open_table(HEADS).map_err(failed)?)
}

/// The checked bodies of a request's records.
pub(crate) fn read(
    database: &Database,
    request: RequestId,
) -> Result<Result<Vec<Vec<u8>>, JournalError>, Failed> {
    let begun = database.begin_read().map_err(failed)?;
    let key = request.uuid().as_u128();
    let heads = match begun.open_table(HEADS) {
        Ok(heads) => heads,
        Err(TableError::TableDoesNotExist(_)) => return Ok(Ok(Vec::new())),
        Err(error) => return Err(failed(error)),
    };
    let Some(sealed) = heads.get(key).map_err(failed)? else {
        return Ok(Ok(Vec::new()));
    };
    let head = match Head::open(request, sealed.value()) {
        Ok(head) if head.dropped => return Ok(Ok(Vec::new())),
        Ok(head) => head,
        Err(damaged) => return Ok(Err(damaged)),
    };
    let records = begun.open_table(RECORDS).map_err(failed)?;
    let entries = records
        .range((key, 0)..=(key, u32::MAX))
        .map_err(failed)?
        .map(|entry| {
            let (key, kept) = entry.map_err(failed)?;
            Ok((key.value().1, kept.value().to_vec()))
        });
    let entries = entries.collect::<Result<Vec<_>, Failed>>()?;
    Ok(head.check(request, entries))
}
