//! The state that the orchestrator's actors and its handle share: settings, the table of requests, counters.
//!
//! Moves no request on.

use std::num::NonZeroU32;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use amcp_journal::Journal;
use amcp_plan::Catalogue;
use amcp_protocol::{
    Access, Answer, AnswerState, CloudEvent, Failure, Lineage, RequestId, UserRequest, event,
    payload,
};
use amcp_registry::actor::Agents;
use amcp_registry::bus::unix_ms;
use amcp_registry::{EventBus, RegistryHandle};
use arc_swap::ArcSwap;
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use parking_lot::Mutex;
use serde_json::json;
use tokio::sync::Semaphore;
use tokio::time::Instant;

use crate::SOURCE;
use crate::counts::Counters;
use crate::places::Waiting;
use crate::planning::PlannerMsg;
use crate::record::RequestRecord;
use crate::recorder::Recorder;
use crate::requests::Requests;
use crate::settings::Settings;
use crate::slot::ActorSlot;
use crate::witness::Witness;
use amcp_planner::domain::{self, Domain};
use amcp_planner::{PlanningInput, SharedPlanner, Sink};

/// The name of the counter of refused requests, by `code`.
pub const REFUSED: &str = "amcp_requests_refused_total";
/// Most log lines of refusals a second: an overloaded node refuses 200,000 requests a second.
const REFUSALS: NonZeroU32 = NonZeroU32::new(10).unwrap();

pub(crate) struct Shared {
    /// The settings at the start; those that may change are read from `live`.
    pub(crate) settings: Settings,
    /// The deadlines and bounds of requests that begin now.
    pub(crate) live: ArcSwap<Settings>,
    pub(crate) planner: SharedPlanner,
    pub(crate) registry: RegistryHandle,
    pub(crate) bus: EventBus,
    pub(crate) admission: Arc<Semaphore>,
    pub(crate) waiting: Arc<Waiting>,
    pub(crate) draining: AtomicBool,
    pub(crate) starting: AtomicBool,
    pub(crate) requests: Requests,
    pub(crate) counters: Counters,
    pub(crate) planning: Arc<ActorSlot<PlannerMsg>>,
    /// Takes the recordings of requests; unset unless requests are recorded.
    pub(crate) recorder: OnceLock<Recorder>,
    /// Keeps requests before their effects; unset, they end with the process.
    pub(crate) journal: OnceLock<Arc<dyn Journal>>,
    /// Why the journal cannot be used at all.
    pub(crate) unkept: OnceLock<String>,
    /// Open requests of an earlier process that wait for a place, each with its deadline.
    pub(crate) recovered: Mutex<Vec<(Instant, Arc<RequestRecord>)>>,
    /// Hears of all requests, if somebody keeps account of them.
    pub(crate) witness: OnceLock<Arc<dyn Witness>>,
    /// Bounds the log lines of refusals.
    refusals: DefaultDirectRateLimiter,
    /// The lineage of all requests that come from users.
    lineage: Arc<Lineage>,
    /// The last catalogue and the directory that it was made from, which changes far less often than requests come.
    catalogue: Mutex<Option<(Arc<Agents>, Arc<Catalogue>)>>,
}

amcp_protocol::opaque_debug!(Shared);

/// The most memory that the given plan of a request takes, in bytes: a value of three bytes of JSON (`[]` and a comma) takes 72.
fn held(request: &UserRequest) -> usize {
    let params = request.plan.iter().flatten().flat_map(|task| &task.params);
    let sizes = params
        .map(|(name, value)| name.len() + payload::size(value, usize::MAX).unwrap_or_default());
    24 * sizes.sum::<usize>()
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
            waiting: Arc::new(Waiting::new(settings.max_waiting)),
            draining: AtomicBool::new(false),
            starting: AtomicBool::new(false),
            requests: Requests::new(settings.retained),
            counters: Counters::default(),
            refusals: RateLimiter::direct(Quota::per_second(REFUSALS)),
            planning: Arc::default(),
            catalogue: Mutex::new(None),
            recorder: OnceLock::new(),
            journal: OnceLock::new(),
            unkept: OnceLock::new(),
            recovered: Mutex::default(),
            witness: OnceLock::new(),
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
            live: ArcSwap::from_pointee(settings.clone()),
            settings,
            planner,
            registry,
            bus,
        }
    }

    pub(crate) fn catalogue(&self) -> Arc<Catalogue> {
        let directory = self.registry.directory();
        let mut cached = self.catalogue.lock();
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
        // Planners cache by the catalogue's identity, so equal catalogues stay the same object.
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

    /// The lineage of a request's tasks: the request's own, extended by this domain.
    pub(crate) fn lineage(&self, request: &UserRequest) -> Arc<Lineage> {
        // Not by the domains: the node that delegates writes them, and a task of another node's request never becomes one of this.
        if request.lineage.depth == 0 {
            return Arc::clone(&self.lineage);
        }
        let mut lineage = request.lineage.clone();
        lineage.domains.extend(self.lineage.domains.iter().cloned());
        Arc::new(lineage)
    }

    pub(crate) fn deadline_of(&self, request: &UserRequest) -> Duration {
        let live = self.live.load();
        let asked = request
            .deadline_ms
            .map_or(live.default_deadline, Duration::from_millis);
        asked.min(live.max_deadline)
    }

    /// What the request's user may use now.
    pub(crate) fn access(&self, request: &UserRequest) -> Access {
        Access::new(request.roles.as_slice(), self.registry.permissions())
    }

    pub(crate) fn planning_input(
        &self,
        request: &UserRequest,
        catalogue: Arc<Catalogue>,
        time: Duration,
    ) -> PlanningInput {
        let live = self.live.load();
        PlanningInput {
            query: request.query.clone(),
            catalogue,
            access: self.access(request),
            limits: live.limits.clone(),
            time,
            llm_calls: live.llm_calls,
            today: jiff::Zoned::now().date(),
            history: request.history.clone(),
            feedback: None,
            early: Sink::default(),
            spent: Sink::default(),
        }
    }

    /// Commits a final response with about `bytes` bytes of results and publishes it; false if the request was answered before.
    pub(crate) fn finish(&self, record: &Arc<RequestRecord>, answer: Answer, bytes: usize) -> bool {
        let now = unix_ms();
        let account = record.account(now, &answer);
        let state = answer.state;
        if !record.commit(now, answer, self.witness.get()) {
            return false;
        }
        self.counters.answered(state, account.worked);
        let answer = record.answer();
        account.tell(answer.as_ref().map_or(&[], |answer| &answer.tasks));
        self.requests
            .finished(record.id, bytes + held(&record.request));
        if let Some(answer) = &answer {
            let response = || CloudEvent::response(answer, SOURCE).at_unix_ms(now);
            self.bus.publish(event::USER_RESPONSE, response);
        }
        if let Some(last) = record.last() {
            self.bus
                .publish(last.progress.event_type(), || last.to_event(record.id));
        }
        true
    }

    /// Notes a refusal: in a log line, unless there were many within the last second, and in a counter by code.
    pub(crate) fn refused(&self, request: &UserRequest, failure: &Failure) {
        let user = request.user.as_deref();
        let code = failure.code.as_str();
        metrics::counter!(REFUSED, "code" => code).increment(1);
        // Else whoever is refused fills the log and the audit log, and pushes the evidence out.
        if self.refusals.check().is_ok() {
            tracing::info!(target: "amcp::request", user, error = code, reason = failure.message, "refused");
            if let Some(witness) = self.witness.get() {
                witness.refused(request, failure);
            }
        }
    }

    /// The final response to a request that failed without its machine.
    pub(crate) fn failed(id: RequestId, failure: Failure) -> Answer {
        Answer {
            request_id: id,
            state: AnswerState::Failed,
            answer: format!("The request could not be answered: {failure}."),
            planner: String::new(),
            tasks: Vec::new(),
            error: Some(failure),
            usage: amcp_protocol::llm::Usage::default(),
            notes: Vec::new(),
        }
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

/// Time since a start.
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
