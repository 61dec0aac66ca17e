//! The table of requests: all that are open and the latest answered ones.
//!
//! Does not limit open requests and moves none on.

use std::cmp::Reverse;
use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use amcp_protocol::{ErrorCode, Failure, RequestId, UserRequest};
use amcp_registry::bus::unix_ms;
use tokio::time::Instant;

use crate::account::Account;
use crate::keys::Keys;
use crate::listing::Wanted;
use crate::record::RequestRecord;

/// Most bytes of results, estimated as JSON, that answered requests keep; in memory they take several times as much.
const RETAINED_BYTES: usize = 128 * 1024 * 1024;

/// Most delegated requests that the table remembers after dropping their answers, 32 bytes each. A delegation comes again
/// only within its deadline, so the table forgets the oldest first.
const FORGOTTEN: usize = 100_000;

/// The mark by which the table recognises a repeated request.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Known<'a> {
    /// No mark: each arrival is a new request.
    No,
    /// The user's idempotency key.
    ByKey(&'a str),
    /// An id derived from the request.
    ById(RequestId),
}

/// Under one lock, since a key, its request and the order of the answered requests change together.
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
    keys: Keys,
    forgotten: Forgotten,
}

impl Requests {
    pub(crate) fn new(retained: usize) -> Self {
        Self {
            retained,
            table: Mutex::default(),
        }
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        // Only a failed allocation could panic under the lock, and that aborts.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Enters a request, or finds the one that it repeats (`true`). One lock covers both, so that only one of many racing
    /// posts is accepted.
    pub(crate) fn enter(
        &self,
        request: &UserRequest,
        known: Known<'_>,
        accept: impl FnOnce() -> Result<Arc<RequestRecord>, Failure>,
    ) -> Result<(Arc<RequestRecord>, bool), Failure> {
        let mut table = self.table();
        if let Some(id) = table.find(request, known) {
            return Ok((table.earlier(id, request, known)?, true));
        }
        if let Known::ByKey(_) = known {
            table.keys.check_room(&request.user)?;
        }
        let record = accept()?;
        table.records.insert(record.id, record.clone());
        if let Known::ByKey(key) = known {
            let now = Instant::now();
            table.keys.add(&request.user, key, record.id, now);
        }
        Ok((record, false))
    }

    /// Removes a request that did not begin.
    pub(crate) fn withdraw(&self, record: &RequestRecord, known: Known<'_>) {
        let mut table = self.table();
        table.records.remove(&record.id);
        if let Known::ByKey(key) = known {
            table.keys.withdraw(&record.request.user, key, record.id);
        }
    }

    /// Enters a request of an earlier process.
    pub(crate) fn restore(&self, record: Arc<RequestRecord>) {
        self.table().records.insert(record.id, record);
    }

    /// Remembers the keys of an earlier process, each with the time of its acceptance in milliseconds since 1970 UTC.
    pub(crate) fn remember(
        &self,
        keys: impl Iterator<Item = (RequestId, Option<String>, String, i64)>,
    ) {
        let now = Instant::now();
        let today = unix_ms();
        let mut keys: Vec<_> = keys.collect();
        keys.sort_unstable_by_key(|(.., accepted)| *accepted);
        let mut table = self.table();
        for (id, user, key, accepted) in keys {
            let age = u64::try_from(today.saturating_sub(accepted)).unwrap_or_default();
            let since = now.checked_sub(Duration::from_millis(age)).unwrap_or(now);
            table.keys.add(&user, &key, id, since);
        }
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

    /// The newest of the wanted requests.
    pub(crate) fn list(&self, wanted: &Wanted) -> Vec<Account> {
        let place = |record: &Arc<RequestRecord>| (record.accepted_unix_ms, record.id);
        let admitted = |record: &&Arc<RequestRecord>| {
            wanted.admits(place(record), record.request.user.as_deref())
        };
        let mut records: Vec<_> = self
            .table()
            .records
            .values()
            .filter(admitted)
            .cloned()
            .collect();
        records.sort_unstable_by_key(|record| Reverse(place(record)));
        let accounts = records.iter().map(|record| record.view().account);
        let accounts = accounts.filter(|account| wanted.has_state(account));
        accounts.take(wanted.limit).collect()
    }

    /// Keeps an answered request until later ones exceed the bounds in number or bytes.
    pub(crate) fn finished(&self, id: RequestId, bytes: usize) {
        // Declared before the lock, so that large results are dropped after it.
        let mut evicted = Vec::new();
        let mut table = self.table();
        table.answered.push_back((id, bytes));
        table.bytes += bytes;
        while table.answered.len() > self.retained || table.bytes > RETAINED_BYTES {
            let Some((oldest, bytes)) = table.answered.pop_front() else {
                break;
            };
            table.bytes -= bytes;
            evicted.extend(table.evict(oldest));
        }
    }
}

impl Table {
    fn find(&mut self, request: &UserRequest, known: Known<'_>) -> Option<RequestId> {
        match known {
            Known::No => None,
            Known::ByKey(key) => {
                let open = |id| {
                    let record: Option<&Arc<RequestRecord>> = self.records.get(&id);
                    record.is_some_and(|record| record.answer().is_none())
                };
                self.keys.find(&request.user, key, Instant::now(), open)
            }
            Known::ById(id) => {
                let is_known = self.records.contains_key(&id) || self.forgotten.ids.contains(&id);
                is_known.then_some(id)
            }
        }
    }

    fn earlier(
        &self,
        id: RequestId,
        again: &UserRequest,
        known: Known<'_>,
    ) -> Result<Arc<RequestRecord>, Failure> {
        let Some(record) = self.records.get(&id) else {
            let message = format!("request {id} was the same, and the node has dropped its answer");
            let hint =
                "the request ran and does not run again: check its effects, or use a new key";
            return Err(Failure::new(ErrorCode::Gone, message).hint(hint));
        };
        if is_same(&record.request, again, known) {
            return Ok(record.clone());
        }
        let message = match known {
            Known::No | Known::ByKey(_) => "the idempotency key belongs to another request",
            Known::ById(_) => "the task has delegated the same request for another user",
        };
        let failure = Failure::new(ErrorCode::IdempotencyConflict, message);
        Err(failure.hint("use a new key for a new request"))
    }

    fn evict(&mut self, id: RequestId) -> Option<Arc<RequestRecord>> {
        let record = self.records.remove(&id)?;
        if record.request.lineage.depth > 0 {
            self.forgotten.add(id);
        }
        Some(record)
    }
}

/// Whether two requests are the same. A repeated request has another trace, and a repeated delegation has less time left.
fn is_same(first: &UserRequest, again: &UserRequest, known: Known<'_>) -> bool {
    let UserRequest {
        query,
        user,
        roles,
        deadline_ms,
        history,
        flows,
        plan,
        traceparent: _,
        // Another key of the same user makes no other question either.
        by: _,
        // Another lineage makes no other question.
        lineage: _,
    } = first;
    (query, user, roles, history, flows, plan)
        == (
            &again.query,
            &again.user,
            &again.roles,
            &again.history,
            &again.flows,
            &again.plan,
        )
        && (*deadline_ms == again.deadline_ms || matches!(known, Known::ById(_)))
}

/// Delegated requests whose answers were dropped.
#[derive(Debug, Default)]
struct Forgotten {
    ids: HashSet<RequestId>,
    /// The oldest first.
    order: VecDeque<RequestId>,
}

impl Forgotten {
    fn add(&mut self, id: RequestId) {
        if self.ids.insert(id) {
            self.order.push_back(id);
        }
        if self.order.len() > FORGOTTEN
            && let Some(oldest) = self.order.pop_front()
        {
            self.ids.remove(&oldest);
        }
    }
}
