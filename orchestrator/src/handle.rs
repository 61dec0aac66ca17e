//! The entrance of the orchestrator: admits requests before any mailbox, finds, cancels and drains them.
//!
//! Runs no request; each gets an actor of its own.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use amcp_plan::Catalogue;
use amcp_protocol::plan::PlannedTaskView;
use amcp_protocol::{Capability, ErrorCode, Failure, FlowAnswer, FlowId, RequestId, UserRequest};
use amcp_registry::bus::unix_ms;
use amcp_registry::{AgentState, EventBus, RegistryHandle};
use ractor::concurrency::JoinHandle;
use ractor::{ActorCell, SpawnErr};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::sync::{OwnedSemaphorePermit, oneshot};
use tokio_util::task::AbortOnDropHandle;
use uuid::Uuid;

use crate::account::Account;
use crate::actor::{Orchestrator, OrchestratorMsg};
use crate::counts::{Counts, count};
use crate::draft::Read;
use crate::listing::Wanted;
use crate::planning;
use crate::record::{ProgressFeed, RequestRecord, RequestView, TextFeed, Ticket};
use crate::recorder::Recorder;
use crate::request::Answering;
use crate::requests::Known;
use crate::settings::Settings;
use crate::shared::Shared;
use crate::slot::ActorSlot;
use crate::witness::Witness;
use amcp_planner::domain::{self, Domain};
use amcp_planner::{Planned, SharedPlanner, Sink};

/// A plan that is not carried out.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PlanView {
    /// The name of the planner.
    pub planner: String,
    /// The compiled tasks.
    pub tasks: Vec<PlannedTaskView>,
    /// Parts of the query that no capability covers.
    pub unplaced: Vec<String>,
    /// The planner's reasons for the plan.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reasoning: Option<String>,
    /// An answer that needs no task.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answer_directly: Option<String>,
    /// Remarks for the reader.
    #[serde(default)]
    pub notes: Vec<String>,
}

impl From<Planned> for PlanView {
    fn from(planned: Planned) -> Self {
        Self {
            planner: planned.planner,
            tasks: planned.plan.view(),
            unplaced: planned.plan.unplaced,
            reasoning: planned.plan.reasoning,
            answer_directly: planned.plan.answer_directly,
            notes: planned.notes,
        }
    }
}

/// The result of a drain.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Drained {
    /// Number of requests answered during the drain.
    pub answered: usize,
    /// The requests that the deadline cut off; each was answered as failed.
    pub cut_off: Vec<RequestId>,
    /// The requests that go on after the next start, from the journal.
    pub go_on: Vec<RequestId>,
}

/// Retry-After of a node that starts or waits for an agent: most nodes need less, and asking too early costs little.
const STARTING_MS: u64 = 1_000;
/// Period at which a drain looks for requests that run without a place: they are few.
const LOOK_AGAIN: Duration = Duration::from_millis(20);
/// How long requests that the drain cuts off may take to answer with the results that they have.
const CUT_OFF: Duration = Duration::from_millis(500);

/// A handle on an orchestrator; clones share it. It outlives the actors behind it: accepted requests stay known when an
/// actor is restarted.
#[derive(Debug, Clone)]
pub struct OrchestratorHandle {
    pub(crate) shared: Arc<Shared>,
    pub(crate) orchestrator: Arc<ActorSlot<OrchestratorMsg>>,
}

impl OrchestratorHandle {
    /// Makes a handle without actors; [`Self::spawn_planner`] and [`Self::spawn`] start them.
    #[must_use]
    pub fn new(
        settings: Settings,
        planner: SharedPlanner,
        registry: RegistryHandle,
        bus: EventBus,
    ) -> Self {
        Self {
            shared: Arc::new(Shared::new(settings, planner, registry, bus)),
            orchestrator: Arc::default(),
        }
    }

    /// Starts the orchestrator's actor, for the first time or again; answers requests that an earlier actor left unanswered as
    /// failed.
    ///
    /// # Errors
    /// [`SpawnErr`] when the supervisor is stopping.
    pub async fn spawn(
        &self,
        supervisor: Option<ActorCell>,
    ) -> Result<(ActorCell, JoinHandle<()>), SpawnErr> {
        let (shared, slot) = (self.shared.clone(), self.orchestrator.clone());
        Orchestrator::spawn_actor(shared, slot, supervisor).await
    }

    /// Starts the planner's actor, for the first time or again.
    ///
    /// # Errors
    /// [`SpawnErr`] when the supervisor is stopping.
    pub async fn spawn_planner(
        &self,
        supervisor: Option<ActorCell>,
    ) -> Result<(ActorCell, JoinHandle<()>), SpawnErr> {
        planning::spawn_actor(self.shared.planning.clone(), supervisor).await
    }

    /// Accepts a request. An accepted request gets exactly one final response.
    ///
    /// # Errors
    /// `bad_request`; `overloaded` and `not_ready` with `retry_after_ms`; `overloaded` without it when too many requests of the user
    /// wait for a person; `shutting_down`; for a key that the same user gave within 24 hours `idempotency_conflict` with another
    /// request, and `gone` once the answer was dropped; `overloaded` when the node has no room for another key.
    ///
    /// The node is `not_ready` while it starts, and while there is no agent ([`Self::has_agents`]), even if a language model
    /// might answer without one: only a call would tell, and a proxy that reads 503 has other nodes to ask.
    pub fn ask(
        &self,
        request: UserRequest,
        idempotency_key: Option<&str>,
    ) -> Result<Ticket, Failure> {
        let request = Arc::new(request);
        let known = idempotency_key.map_or(Known::No, Known::ByKey);
        let checked = self.check_deadline(&request);
        let entered = checked.and_then(|()| self.enter(request.clone(), known));
        entered.inspect_err(|failure| self.shared.refused(&request, failure))
    }

    /// Not for delegated requests: they end with the task that delegates them, whose node may allow more time.
    fn check_deadline(&self, request: &UserRequest) -> Result<(), Failure> {
        let most = self.max_deadline_ms();
        match request.deadline_ms {
            Some(asked) if asked > most => {
                let message = format!("deadline_ms is {asked}, more than this node's {most}");
                Err(Failure::new(ErrorCode::BadRequest, message)
                    .hint("shorten it, or leave it out for the node's default"))
            }
            _ => Ok(()),
        }
    }

    pub(crate) fn enter(
        &self,
        request: Arc<UserRequest>,
        known: Known<'_>,
    ) -> Result<Ticket, Failure> {
        request.check()?;
        let accept = || {
            self.shared.waiting.check_room(&request.user)?;
            let admitted = self.admit()?;
            let named = match known {
                Known::ById(id) => (id, None),
                Known::No => (RequestId::from_uuid(Uuid::now_v7()), None),
                Known::ByKey(key) => (RequestId::from_uuid(Uuid::now_v7()), Some(key)),
            };
            if let Some(witness) = self.shared.witness.get() {
                witness.accepts(Some(named.0), &request)?;
            }
            let record = RequestRecord::new(named, request.clone(), Some(admitted));
            let written = self.shared.journal.get().is_some();
            Ok(Arc::new(if written { record } else { record.unwritten() }))
        };
        let (record, replayed) = self.shared.requests.enter(&request, known, accept)?;
        if !replayed {
            self.begin(&record, known)?;
        }
        Ok(Ticket { record, replayed })
    }

    fn begin(&self, record: &Arc<RequestRecord>, known: Known<'_>) -> Result<(), Failure> {
        let begun = self
            .orchestrator
            .send(OrchestratorMsg::Begin(record.clone()));
        if begun {
            count(&self.shared.counters.accepted, 1);
            return Ok(());
        }
        let failure = Failure::new(ErrorCode::Overloaded, "the orchestrator is being restarted")
            .retry_after_ms(1_000);
        // A racing repetition may hold the record already, and gets its answer from this commit.
        let answer = Shared::failed(record.id, failure.clone());
        record.commit(unix_ms(), answer, self.shared.witness.get());
        self.shared.requests.withdraw(record, known);
        Err(failure)
    }

    fn admit(&self) -> Result<OwnedSemaphorePermit, Failure> {
        let admitted = self.shared.admission.clone().try_acquire_owned();
        // Checked after taking the place: a drain that begins now waits for that place.
        if self.is_draining() {
            let failure = Failure::new(ErrorCode::ShuttingDown, "the node is shutting down");
            return Err(failure.hint("ask another node, or this one when it is back"));
        }
        if self.is_starting() {
            let failure = Failure::new(ErrorCode::NotReady, "the node is starting");
            let failure = failure.hint("ask another node, or this one in a moment");
            return Err(failure.retry_after_ms(STARTING_MS));
        }
        self.shared.check_journal()?;
        if !self.has_agents() {
            let of = self.domain().map(|domain| format!(" of {}", domain.name()));
            let message = format!("no agent{} is ready", of.unwrap_or_default());
            let hint = "start specialists here or a node with some, then ask again";
            let failure = Failure::new(ErrorCode::NotReady, message).hint(hint);
            return Err(failure.retry_after_ms(STARTING_MS));
        }
        admitted.map_err(|_| {
            let message = format!(
                "the node works on {} requests and takes no more",
                self.shared.settings.max_requests
            );
            let failure = Failure::new(ErrorCode::Overloaded, message).hint("try again later");
            failure.retry_after_ms(self.shared.counters.retry_after_ms())
        })
    }

    /// Records every request from now on. Only the first call has an effect.
    pub fn record_with(&self, recorder: Recorder) {
        // A second recorder would cut the first one's recordings off.
        let _ = self.shared.recorder.set(recorder);
    }

    /// Tells this witness of every request from now on. Only the first call has an effect.
    pub fn witnessed_by(&self, witness: Arc<dyn Witness>) {
        let _ = self.shared.witness.set(witness);
    }

    /// Plans without dispatching anything.
    ///
    /// # Errors
    /// Those of [`Self::ask`] and of planning.
    pub async fn plan(&self, request: UserRequest) -> Result<PlanView, Failure> {
        let admitted = self.admit_plan(&request);
        let _admitted = admitted.inspect_err(|failure| self.shared.refused(&request, failure))?;
        let request = Arc::new(request);
        let gone = Failure::new(ErrorCode::Cancelled, "nobody waits for the plan any more");
        let mut end = PlanEnd {
            shared: &self.shared,
            request: &request,
            failure: Some(gone),
        };
        let time = self.shared.deadline_of(&request);
        let catalogue = self.shared.catalogue();
        let mut input = self.shared.planning_input(&request, catalogue, time);
        let (shared, by) = (self.shared.clone(), Arc::clone(&request));
        // At once: the planning may fail, or be given up.
        input.spent = Sink::new(move |usage| {
            if let Some(witness) = shared.witness.get() {
                witness.spent(&by, usage);
            }
        });
        let planner = self.shared.planner.clone();
        // In a separate task: a panic of a foreign planner must not reach the caller.
        let planning =
            AbortOnDropHandle::new(tokio::spawn(async move { planner.plan(input).await }));
        let planned = match tokio::time::timeout(time, planning).await {
            Ok(Ok(planned)) => planned.map_err(|error| error.failure),
            Ok(Err(_)) => {
                Err(Failure::internal("the planner died before it had answered").hint("ask again"))
            }
            Err(_) => {
                let message = "planning took too long";
                Err(Failure::new(ErrorCode::DeadlineExceeded, message))
            }
        };
        end.failure = planned.as_ref().err().cloned();
        planned.map(Into::into)
    }

    fn admit_plan(&self, request: &UserRequest) -> Result<OwnedSemaphorePermit, Failure> {
        request.check()?;
        self.check_deadline(request)?;
        let admitted = self.admit()?;
        let witness = self.shared.witness.get();
        witness.map_or(Ok(()), |witness| witness.accepts(None, request))?;
        Ok(admitted)
    }

    /// Cancels a request; changes nothing in one that was answered before.
    ///
    /// # Errors
    /// `not_found`; `not_ready` for a request from before a restart that waits for its place.
    pub fn cancel(&self, id: RequestId) -> Result<(), Failure> {
        let record = self.shared.requests.get(id);
        record.ok_or_else(|| no_request(id))?.check_begun()?;
        // Fails only while the orchestrator restarts, which ends the request too.
        self.orchestrator.send(OrchestratorMsg::Cancel(id));
        Ok(())
    }

    /// Hands a person's answer to a flow of a request.
    ///
    /// # Errors
    /// `not_found` for an unknown request or flow; `flow_closed` for a flow that was answered before, or an answer with another
    /// digest than the flow's; `flow_expired`; `bad_request` for an answer past the bounds; `not_ready` for a request from before a
    /// restart that waits for its place.
    pub async fn answer_flow(
        &self,
        id: RequestId,
        flow: FlowId,
        answer: FlowAnswer,
    ) -> Result<(), Failure> {
        let Some(record) = self.shared.requests.get(id) else {
            return Err(no_request(id));
        };
        record.check_begun()?;
        let (reply, replied) = oneshot::channel();
        let answering = Box::new(Answering {
            flow: flow.clone(),
            answer,
            reply,
        });
        self.orchestrator
            .send(OrchestratorMsg::Answer(id, answering));
        // The request's actor is gone: the request was answered, or died with its orchestrator.
        replied.await.unwrap_or_else(|_| Err(record.closed(&flow)))
    }

    /// A request's state; none when it is unknown or forgotten.
    #[must_use]
    pub fn request(&self, id: RequestId) -> Option<RequestView> {
        Some(self.shared.requests.get(id)?.view())
    }

    /// The accounts of the wanted requests, the newest first: open ones and the latest answered ones (`retained`).
    #[must_use]
    pub fn list(&self, wanted: &Wanted) -> Vec<Account> {
        self.shared.requests.list(wanted)
    }

    /// A ticket for a request accepted before; none when it is unknown or forgotten.
    #[must_use]
    pub fn ticket(&self, id: RequestId) -> Option<Ticket> {
        Some(Ticket {
            record: self.shared.requests.get(id)?,
            replayed: true,
        })
    }

    /// A request's progress from the event number `from` on (0 for all).
    #[must_use]
    pub fn progress(&self, id: RequestId, from: usize) -> Option<ProgressFeed> {
        Some(ProgressFeed {
            record: self.shared.requests.get(id)?,
            next: from,
        })
    }

    /// The text of a request's answer while a model writes it.
    #[must_use]
    pub fn text(&self, id: RequestId) -> Option<TextFeed> {
        Some(TextFeed {
            record: self.shared.requests.get(id)?,
            read: Read::default(),
        })
    }

    pub(crate) fn domain(&self) -> Option<&Domain> {
        self.shared.settings.domain.as_ref()
    }

    pub(crate) fn domain_name(&self) -> &str {
        self.domain().map_or(domain::ANY, Domain::name)
    }

    pub(crate) fn catalogue(&self) -> Arc<Catalogue> {
        self.shared.catalogue()
    }

    /// Whether this orchestrator can plan with any agent: a ready one, or a restarting one, since a request's retries of refused
    /// tasks take longer than a restart. Other orchestrators of the mesh count, this orchestrator's own agent does not.
    #[must_use]
    pub fn has_agents(&self) -> bool {
        let comes = |state| matches!(state, AgentState::Ready | AgentState::Restarting);
        let held = |capability: &Capability| domain::holds(self.domain(), capability.name.as_str());
        self.shared
            .registry
            .load()
            .entries()
            .any(|agent| comes(agent.state) && agent.card.capabilities.iter().any(held))
    }

    /// Applies the deadlines and the bounds on plans, attempts, calls and results to requests that begin from now on. The other settings
    /// stay as they were at the start.
    pub fn adopt(&self, settings: Settings) {
        self.shared.live.store(Arc::new(settings));
    }

    /// Number of running requests, without those that wait only for flows.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.shared
            .settings
            .max_requests
            .saturating_sub(self.shared.admission.available_permits())
    }

    /// Refuses requests until [`Self::open`]: a plan made before the agents are known would lack their capabilities.
    pub fn hold(&self) {
        self.shared.starting.store(true, Ordering::SeqCst);
    }

    /// Admits requests again after [`Self::hold`], and begins the recovered ones.
    pub fn open(&self) {
        self.shared.starting.store(false, Ordering::SeqCst);
        self.resume();
    }

    /// Refuses every request for this reason: the journal cannot be used.
    pub fn cannot_keep(&self, reason: String) {
        let _ = self.shared.unkept.set(reason);
    }

    /// Why no request can be kept; none without a journal.
    #[must_use]
    pub fn journal_trouble(&self) -> Option<String> {
        self.shared
            .check_journal()
            .err()
            .map(|failure| failure.message)
    }

    /// The longest deadline that a request may name, in milliseconds.
    #[must_use]
    pub fn max_deadline_ms(&self) -> u64 {
        u64::try_from(self.shared.settings.max_deadline.as_millis()).unwrap_or(u64::MAX)
    }

    /// Whether [`Self::hold`] holds requests back.
    #[must_use]
    pub fn is_starting(&self) -> bool {
        self.shared.starting.load(Ordering::SeqCst)
    }

    /// Whether a drain has begun.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.shared.draining.load(Ordering::SeqCst)
    }

    /// The counters since the start.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.shared.counters.read()
    }

    /// Refuses new requests and waits for those under way. With a journal those left after `within` stop without an answer and go on after
    /// the next start; without one they are answered as failed.
    pub async fn drain(&self, within: Duration) -> Drained {
        self.shared.draining.store(true, Ordering::SeqCst);
        let before = self.counts().answered;
        // All places are free once all requests are answered.
        let all = u32::try_from(self.shared.settings.max_requests).unwrap_or(u32::MAX);
        let idle = async {
            // Fails only when the handle is gone.
            let _ = self.shared.admission.acquire_many(all).await;
            // A request may have gone on after a flow without finding a place.
            while !self.shared.requests.open().iter().all(|r| r.is_idle()) {
                tokio::time::sleep(LOOK_AGAIN).await;
            }
        };
        let _ = tokio::time::timeout(within, idle).await;
        if self.shared.journal.get().is_some() {
            let (done, suspended) = oneshot::channel();
            self.orchestrator.send(OrchestratorMsg::Suspend(done));
            // Fails when the orchestrator is gone, and the requests' actors with it.
            let _ = tokio::time::timeout(CUT_OFF, suspended).await;
        }
        // Requests that wait for nothing but flows hold no place.
        let open = self.shared.requests.open();
        let answered = self.counts().answered.saturating_sub(before);
        let answered = usize::try_from(answered).unwrap_or(usize::MAX);
        let ids = open.iter().map(|record| record.id).collect();
        if self.shared.journal.get().is_some() {
            return Drained {
                answered,
                go_on: ids,
                ..Drained::default()
            };
        }
        let failure = Failure::new(
            ErrorCode::ShuttingDown,
            "the node was stopped before the request was done",
        );
        let failure = failure.hint("ask again");
        self.orchestrator
            .send(OrchestratorMsg::CutOff(failure.clone()));
        let last_moment = tokio::time::Instant::now() + CUT_OFF;
        for record in &open {
            let ticket = Ticket {
                record: record.clone(),
                replayed: true,
            };
            let late = tokio::time::timeout_at(last_moment, ticket.answer()).await;
            if late.is_err() {
                self.shared
                    .finish(record, Shared::failed(record.id, failure.clone()), 0);
            }
        }
        Drained {
            answered,
            cut_off: ids,
            ..Drained::default()
        }
    }
}

/// Tells the witness how a plan that nobody carries out ended, also when its caller goes away.
struct PlanEnd<'a> {
    shared: &'a Shared,
    request: &'a UserRequest,
    failure: Option<Failure>,
}

impl Drop for PlanEnd<'_> {
    fn drop(&mut self) {
        if let Some(witness) = self.shared.witness.get() {
            witness.planned(self.request, self.failure.as_ref());
        }
    }
}

fn no_request(id: RequestId) -> Failure {
    Failure::new(ErrorCode::NotFound, format!("there is no request {id}"))
}
