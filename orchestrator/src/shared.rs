//! What the orchestrator's actors and its handle share: settings, the table of requests, counters, the way to each
//! other.
//!
//! Does not move a request on.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use amcp_plan::Catalogue;
use amcp_protocol::{
    Answer, AnswerState, CloudEvent, ErrorCode, Failure, Lineage, RequestId, UserRequest, event,
};
use amcp_registry::actor::Agents;
use amcp_registry::bus::unix_ms;
use amcp_registry::{EventBus, RegistryHandle};
use ractor::{ActorRef, Message};
use serde_json::json;
use tokio::sync::Semaphore;
use tokio::time::Instant;

use crate::SOURCE;
use crate::actor::OrchestratorMsg;
use crate::handle::Settings;
use crate::planning::PlannerMsg;
use crate::record::RequestRecord;
use amcp_planner::domain::{self, Domain};
use amcp_planner::{PlanningInput, SharedPlanner};

/// Most bytes of results, estimated as JSON, that answered requests keep: some times that in memory.
const RETAINED_BYTES: usize = 128 * 1024 * 1024;

pub(crate) struct Shared {
    pub(crate) settings: Settings,
    pub(crate) planner: SharedPlanner,
    pub(crate) registry: RegistryHandle,
    pub(crate) bus: EventBus,
    pub(crate) admission: Arc<Semaphore>,
    pub(crate) draining: AtomicBool,
    pub(crate) starting: AtomicBool,
    pub(crate) requests: Requests,
    pub(crate) counters: Counters,
    pub(crate) orchestrator: ActorSlot<OrchestratorMsg>,
    pub(crate) planning: ActorSlot<PlannerMsg>,
    /// Of the requests that users ask: the same for all.
    lineage: Arc<Lineage>,
    /// The catalogue of the directory that it was made from: the directory changes far less often than requests come.
    catalogue: Mutex<Option<(Arc<Agents>, Arc<Catalogue>)>>,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Orchestrator")
            .field("planner", &self.planner.name())
            .finish_non_exhaustive()
    }
}

impl Shared {
    pub(crate) fn new(
        settings: Settings,
        planner: SharedPlanner,
        registry: RegistryHandle,
        bus: EventBus,
    ) -> Self {
        Self {
            admission: Arc::new(Semaphore::new(settings.max_requests)),
            draining: AtomicBool::new(false),
            starting: AtomicBool::new(false),
            requests: Requests::new(settings.retained),
            counters: Counters::default(),
            orchestrator: ActorSlot::default(),
            planning: ActorSlot::default(),
            catalogue: Mutex::new(None),
            lineage: Arc::new(Lineage {
                domains: vec![
                    settings
                        .domain
                        .as_ref()
                        .map_or(domain::ANY, Domain::name)
                        .to_owned(),
                ],
                ..Lineage::default()
            }),
            settings,
            planner,
            registry,
            bus,
        }
    }

    pub(crate) fn catalogue(&self) -> Arc<Catalogue> {
        let directory = self.registry.directory();
        let mut cached = self
            .catalogue
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some((made_from, catalogue)) = cached.as_ref()
            && Arc::ptr_eq(made_from, &directory)
        {
            return catalogue.clone();
        }
        let mut fresh: Arc<Catalogue> = Arc::new(
            directory
                .contracts()
                .filter(|contract| {
                    domain::holds(
                        self.settings.domain.as_ref(),
                        contract.capability.name.as_str(),
                    )
                })
                .cloned()
                .collect(),
        );
        // Planners cache by the catalogue's identity, so one that says the same stays the same.
        if let Some((_, last)) = cached.as_ref()
            && last.len() == fresh.len()
            && last
                .iter()
                .zip(fresh.iter())
                .all(|(a, b)| Arc::ptr_eq(a, b))
        {
            fresh = last.clone();
        }
        *cached = Some((directory, fresh.clone()));
        fresh
    }

    /// How the tasks of a request come about.
    pub(crate) fn lineage(&self, request: &UserRequest) -> Arc<Lineage> {
        if request.lineage.domains.is_empty() {
            return Arc::clone(&self.lineage);
        }
        let mut lineage = request.lineage.clone();
        lineage.domains.extend(self.lineage.domains.iter().cloned());
        Arc::new(lineage)
    }

    pub(crate) fn deadline_of(&self, request: &UserRequest) -> Duration {
        let asked = request
            .deadline_ms
            .map_or(self.settings.default_deadline, Duration::from_millis);
        asked.min(self.settings.max_deadline)
    }

    pub(crate) fn planning_input(
        &self,
        request: &UserRequest,
        catalogue: Arc<Catalogue>,
        time: Duration,
    ) -> PlanningInput {
        PlanningInput {
            query: request.query.clone(),
            catalogue,
            roles: request.roles.clone(),
            limits: self.settings.limits.clone(),
            time,
            llm_calls: self.settings.llm_calls,
            today: jiff::Zoned::now().date(),
            feedback: None,
        }
    }

    /// Commits a final response, whose results have about so many bytes, and tells everybody; false when there was one
    /// before.
    pub(crate) fn finish(&self, record: &Arc<RequestRecord>, answer: Answer, bytes: usize) -> bool {
        let (state, now) = (answer.state, unix_ms());
        if !record.commit(now, answer) {
            return false;
        }
        self.counters.answered(state, record.age());
        self.requests.finished(record.id, bytes);
        self.bus.publish("user.response", || {
            let data = record
                .answer()
                .and_then(|answer| serde_json::to_value(answer.as_ref()).ok());
            let id = format!("{}-response", record.id);
            let event = CloudEvent::new(event::USER_RESPONSE, SOURCE, id, data.unwrap_or_default());
            event
                .correlated(record.id)
                .caused_by(record.id.to_string())
                .at_unix_ms(now)
        });
        if let Some(last) = record.last() {
            self.bus
                .publish(last.progress.event_type(), || last.to_event(record.id));
        }
        true
    }

    /// The final response to a request that failed before or beside its machine.
    pub(crate) fn failed(id: RequestId, failure: Failure) -> Answer {
        Answer {
            request_id: id,
            state: AnswerState::Failed,
            answer: format!("The request could not be answered: {failure}."),
            planner: String::new(),
            tasks: Vec::new(),
            error: Some(failure),
            notes: Vec::new(),
        }
    }

    /// When a refused asker should come back: after the time that a request takes on average.
    pub(crate) fn retry_after_ms(&self) -> u64 {
        self.counters
            .average_ms
            .load(Ordering::Relaxed)
            .clamp(100, 10_000)
    }

    pub(crate) fn user_request_event(&self, record: &RequestRecord) {
        self.bus.publish("user.request", || {
            let data = json!({"query": record.request.query, "user": record.request.user});
            CloudEvent::new(event::USER_REQUEST, "/user", record.id.to_string(), data)
                .correlated(record.id)
                .at_unix_ms(unix_ms())
        });
    }
}

/// The way to an actor that may be restarted.
#[derive(Debug)]
pub(crate) struct ActorSlot<M>(RwLock<Option<ActorRef<M>>>);

impl<M> Default for ActorSlot<M> {
    fn default() -> Self {
        Self(RwLock::new(None))
    }
}

impl<M: Message> ActorSlot<M> {
    pub(crate) fn set(&self, actor: ActorRef<M>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Some(actor);
    }

    /// Whether it was sent: not while there is no actor.
    pub(crate) fn send(&self, message: M) -> bool {
        let slot = self.0.read().unwrap_or_else(PoisonError::into_inner);
        slot.as_ref()
            .is_some_and(|actor| actor.send_message(message).is_ok())
    }
}

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
    fn new(retained: usize) -> Self {
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
    fn finished(&self, id: RequestId, bytes: usize) {
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

/// What happened since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct Counts {
    /// Requests accepted.
    pub accepted: u64,
    /// Requests answered, in whatever state.
    pub answered: u64,
    /// Of these: completed.
    pub completed: u64,
    /// Of these: partial.
    pub partial: u64,
    /// Of these: failed.
    pub failed: u64,
    /// Of these: cancelled.
    pub cancelled: u64,
    /// Tasks dispatched again after a failed attempt.
    pub retries: u64,
    /// Requests whose actor died before it had answered; each was answered as failed.
    pub crashed: u64,
    /// Responses dropped because the task had ended.
    pub dropped_duplicate: u64,
    /// Responses dropped because their attempt was over.
    pub dropped_late: u64,
    /// Responses dropped because nobody had asked.
    pub dropped_foreign: u64,
}

#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) accepted: AtomicU64,
    states: [AtomicU64; 4],
    pub(crate) retries: AtomicU64,
    pub(crate) crashed: AtomicU64,
    pub(crate) duplicate: AtomicU64,
    pub(crate) late: AtomicU64,
    pub(crate) foreign: AtomicU64,
    average_ms: AtomicU64,
}

impl Counters {
    fn answered(&self, state: AnswerState, age: Duration) {
        let [completed, partial, failed, cancelled] = &self.states;
        let counter = match state {
            AnswerState::Completed => completed,
            AnswerState::Partial => partial,
            AnswerState::Failed => failed,
            AnswerState::Cancelled => cancelled,
        };
        counter.fetch_add(1, Ordering::Relaxed);
        // A moving average over about eight requests; a lost update between two of them does no harm.
        let (age, average) = (
            u64::try_from(age.as_millis()).unwrap_or(u64::MAX),
            &self.average_ms,
        );
        let before = average.load(Ordering::Relaxed);
        average.store((before * 7).saturating_add(age) / 8, Ordering::Relaxed);
    }

    pub(crate) fn read(&self) -> Counts {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let [completed, partial, failed, cancelled] = self.states.each_ref().map(read);
        Counts {
            accepted: read(&self.accepted),
            answered: completed + partial + failed + cancelled,
            completed,
            partial,
            failed,
            cancelled,
            retries: read(&self.retries),
            crashed: read(&self.crashed),
            dropped_duplicate: read(&self.duplicate),
            dropped_late: read(&self.late),
            dropped_foreign: read(&self.foreign),
        }
    }
}

/// Since when something runs.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock(Instant);

impl Clock {
    pub(crate) const fn since(start: Instant) -> Self {
        Self(start)
    }

    pub(crate) fn now(self) -> Duration {
        self.0.elapsed()
    }

    pub(crate) fn at(self, time: Duration) -> Instant {
        self.0 + time
    }
}
