//! The table of requests: those under way and, of the answered ones, the latest; and who asked which under which key.
//!
//! Does not admit and does not move a request on.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use amcp_protocol::{ErrorCode, Failure, RequestId, UserRequest};

use crate::record::RequestRecord;

/// Most bytes of results, estimated as JSON, that answered requests keep: some times that in memory.
const RETAINED_BYTES: usize = 128 * 1024 * 1024;

/// All requests that are known: those under way and, of the answered ones, the latest.
#[derive(Debug)]
pub(crate) struct Requests {
    retained: usize,
    table: Mutex<Table>,
}

#[derive(Debug, Default)]
struct Table {
    records: HashMap<RequestId, Arc<RequestRecord>>,
    /// The oldest first, each with the bytes of its results.
    answered: VecDeque<(RequestId, usize)>,
    /// Bytes of all results in `answered`.
    bytes: usize,
    /// By user and key.
    keys: HashMap<(Option<String>, String), RequestId>,
    keys_of: HashMap<RequestId, (Option<String>, String)>,
}

impl Requests {
    pub(crate) fn new(retained: usize) -> Self {
        Self {
            retained,
            table: Mutex::default(),
        }
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        // A panic under the lock could only come from an allocation that failed, which aborts.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Enters a request, or finds the one that came before under the same key (`true`). Under one lock, so that of many
    /// racing posts one is accepted.
    pub(crate) fn enter(
        &self,
        request: &UserRequest,
        key: Option<&str>,
        accept: impl FnOnce() -> Result<Arc<RequestRecord>, Failure>,
    ) -> Result<(Arc<RequestRecord>, bool), Failure> {
        let key = key.map(|key| (request.user.clone(), key.to_owned()));
        let mut table = self.table();
        if let Some(record) = key
            .as_ref()
            .and_then(|key| table.records.get(table.keys.get(key)?))
        {
            if is_same(&record.request, request) {
                return Ok((record.clone(), true));
            }
            let failure = Failure::new(
                ErrorCode::IdempotencyConflict,
                "the idempotency key was used before, with another request",
            );
            return Err(failure.hint("use a new key for a new request"));
        }
        let record = accept()?;
        table.records.insert(record.id, record.clone());
        if let Some(key) = key {
            table.keys.insert(key.clone(), record.id);
            table.keys_of.insert(record.id, key);
        }
        Ok((record, false))
    }

    pub(crate) fn get(&self, id: RequestId) -> Option<Arc<RequestRecord>> {
        self.table().records.get(&id).cloned()
    }

    pub(crate) fn open(&self) -> Vec<Arc<RequestRecord>> {
        self.table()
            .records
            .values()
            .filter(|record| record.answer().is_none())
            .cloned()
            .collect()
    }

    /// Keeps an answered request until enough later ones were answered, or their results have become too large.
    pub(crate) fn finished(&self, id: RequestId, bytes: usize) {
        let mut table = self.table();
        table.answered.push_back((id, bytes));
        table.bytes += bytes;
        while table.answered.len() > self.retained || table.bytes > RETAINED_BYTES {
            let Some((oldest, bytes)) = table.answered.pop_front() else {
                break;
            };
            table.bytes -= bytes;
            table.forget(oldest);
        }
    }

    pub(crate) fn forget(&self, id: RequestId) {
        self.table().forget(id);
    }
}

/// Whether it asks for the same. A repeated request comes in a trace of its own.
fn is_same(first: &UserRequest, again: &UserRequest) -> bool {
    let UserRequest {
        query,
        user,
        roles,
        deadline_ms,
        // The same key with another lineage is the same question.
        traceparent: _,
        lineage: _,
    } = first;
    (query, user, roles, deadline_ms)
        == (&again.query, &again.user, &again.roles, &again.deadline_ms)
}

impl Table {
    fn forget(&mut self, id: RequestId) {
        self.records.remove(&id);
        if let Some(key) = self.keys_of.remove(&id) {
            self.keys.remove(&key);
        }
    }
}
