//! The [`Orchestrator`] actor: gives each accepted request an actor of its own and watches over it.
//!
//! Does not admit (the handle does, before any mailbox) and decides nothing about a request (its machine does). When a
//! request's actor dies, the orchestrator answers the request as failed and never begins it again.

use std::collections::HashMap;
use std::sync::Arc;

use amcp_plan::Event;
use amcp_protocol::{Answer, Failure, RequestId};
use ractor::concurrency::JoinHandle;
use ractor::{Actor, ActorCell, ActorId, ActorProcessingErr, ActorRef, SpawnErr, SupervisionEvent};
use tokio::sync::oneshot;
use tokio_util::task::AbortOnDropHandle;

use crate::counts::count;
use crate::record::RequestRecord;
use crate::request::{Answering, RequestActor, RequestAlarm, RequestMsg};
use crate::shared::Shared;
use crate::slot::ActorSlot;

#[derive(Debug)]
pub(crate) enum OrchestratorMsg {
    /// From the handle: spawn a request's actor. No reply; the answer goes into the record.
    Begin(Arc<RequestRecord>),
    /// From the handle: the user cancels the request. No reply.
    Cancel(RequestId),
    /// From the handle: a person answers a flow. The request's actor replies; without one the reply is dropped.
    Answer(RequestId, Box<Answering>),
    /// From the journal: the answer to a request whose actor died is durable. No reply.
    Ended(Arc<RequestRecord>, Box<Answer>),
    /// From the handle: the node stops; end all requests. No reply.
    CutOff(Failure),
    /// From the handle: the node stops; stop the actors of all requests, which go on from the journal after its next start.
    Suspend(oneshot::Sender<()>),
}

impl ractor::Message for OrchestratorMsg {}

#[derive(Debug)]
pub(crate) struct Orchestrator {
    shared: Arc<Shared>,
    /// The slot in which the handle finds this actor.
    slot: Arc<ActorSlot<OrchestratorMsg>>,
}

#[derive(Debug)]
pub(crate) struct OrchestratorState {
    alarm: Arc<RequestAlarm>,
    /// Lets the alarm run for as long as the actor lives.
    _wakes: AbortOnDropHandle<()>,
    running: HashMap<ActorId, Running>,
    actors: HashMap<RequestId, ActorId>,
    /// Whether requests stay in the journal until the next start.
    suspended: bool,
}

#[derive(Debug)]
struct Running {
    record: Arc<RequestRecord>,
    actor: ActorRef<RequestMsg>,
}

impl Orchestrator {
    pub(crate) async fn spawn_actor(
        shared: Arc<Shared>,
        slot: Arc<ActorSlot<OrchestratorMsg>>,
        supervisor: Option<ActorCell>,
    ) -> Result<(ActorCell, JoinHandle<()>), SpawnErr> {
        let orchestrator = Self { shared, slot };
        let (actor, ended) = match supervisor {
            Some(supervisor) => Actor::spawn_linked(None, orchestrator, (), supervisor).await?,
            None => Actor::spawn(None, orchestrator, ()).await?,
        };
        Ok((actor.get_cell(), ended))
    }
}

impl Actor for Orchestrator {
    type Msg = OrchestratorMsg;
    type State = OrchestratorState;
    type Arguments = ();

    async fn pre_start(
        &self,
        myself: ActorRef<OrchestratorMsg>,
        (): (),
    ) -> Result<Self::State, ActorProcessingErr> {
        // Open requests belong to an earlier orchestrator actor; their own actors died with it. Those of an earlier process have none yet.
        let open = self.shared.requests.open();
        // Before the answers: the journal sends each to this actor.
        self.slot.set(myself.clone());
        for record in open {
            if record.is_to_begin() {
                // An earlier actor may have died with this message.
                myself.cast(OrchestratorMsg::Begin(record))?;
            } else if record.resumed.lock().is_none() {
                self.crashed(
                    &record,
                    "the orchestrator was restarted while it worked on the request",
                );
            }
        }
        let alarm = Arc::new(RequestAlarm::default());
        let wakes = alarm.clone().run(|request| {
            // Fails for a request that has just stopped, which needs no timer.
            let _ = request.cast(RequestMsg::TimerDue);
        });
        Ok(OrchestratorState {
            alarm,
            _wakes: AbortOnDropHandle::new(tokio::spawn(wakes)),
            running: HashMap::new(),
            actors: HashMap::new(),
            suspended: false,
        })
    }

    async fn handle(
        &self,
        myself: ActorRef<OrchestratorMsg>,
        message: OrchestratorMsg,
        state: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            OrchestratorMsg::Begin(record) => self.begin(&myself, record, state).await,
            OrchestratorMsg::Cancel(id) => {
                state.tell(id, RequestMsg::Happened(Event::CancelRequested))
            }
            OrchestratorMsg::Answer(id, answering) => {
                state.tell(id, RequestMsg::Answered(answering))
            }
            OrchestratorMsg::Ended(record, answer) => self.answer_for(&record, *answer),
            OrchestratorMsg::CutOff(failure) => {
                for running in state.running.values() {
                    // Fails for a request that has just stopped, and so has answered.
                    let _ = running
                        .actor
                        .cast(RequestMsg::Happened(Event::CutOff(failure.clone())));
                }
            }
            OrchestratorMsg::Suspend(done) => {
                // Before they end: the orchestrator would answer for them. A stopped actor takes no further message.
                state.suspended = true;
                state.actors.clear();
                for (_, running) in state.running.drain() {
                    running.actor.stop(None);
                }
                // Fails for a drain that was given up.
                let _ = done.send(());
            }
        }
        Ok(())
    }

    async fn handle_supervisor_evt(
        &self,
        _myself: ActorRef<OrchestratorMsg>,
        event: SupervisionEvent,
        state: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        match event {
            SupervisionEvent::ActorTerminated(who, _, _) => {
                self.ended(&who, "it was stopped", state)
            }
            SupervisionEvent::ActorFailed(who, error) => {
                self.ended(&who, &error.to_string(), state)
            }
            SupervisionEvent::ActorStarted(_)
            | SupervisionEvent::ProcessGroupChanged(_)
            | SupervisionEvent::PidLifecycleEvent(_) => {}
        }
        Ok(())
    }
}

impl Orchestrator {
    async fn begin(
        &self,
        myself: &ActorRef<OrchestratorMsg>,
        record: Arc<RequestRecord>,
        state: &mut OrchestratorState,
    ) {
        let known = record.answer().is_some() || state.actors.contains_key(&record.id);
        if known || state.suspended {
            return;
        }
        let arguments = (self.shared.clone(), record.clone(), state.alarm.clone());
        match Actor::spawn_linked(None, RequestActor, arguments, myself.get_cell()).await {
            Ok((actor, _)) => {
                state.actors.insert(record.id, actor.get_id());
                state
                    .running
                    .insert(actor.get_id(), Running { record, actor });
            }
            Err(error) => self.crashed(&record, &format!("it could not be started: {error}")),
        }
    }

    /// Answers the request as failed if its actor ended without an answer.
    fn ended(&self, who: &ActorCell, reason: &str, state: &mut OrchestratorState) {
        if let Some(Running { record, .. }) = state.running.remove(&who.get_id()) {
            state.actors.remove(&record.id);
            if record.answer().is_none() {
                self.crashed(&record, reason);
            }
        }
    }

    fn crashed(&self, record: &Arc<RequestRecord>, reason: &str) {
        let failure = Failure::internal(format!(
            "the request's actor died before it answered: {reason}"
        ))
        .hint("ask again; the node's log says more");
        tracing::error!(request = %record.id, reason, "a request's actor died");
        // The same for each orchestrator that answers for the request, and for the journal.
        let answer = record.decide(Shared::failed(record.id, failure));
        if self.shared.journal.get().is_none() {
            return self.answer_for(record, answer);
        }
        let (slot, record) = (self.slot.clone(), record.clone());
        self.shared.end(answer, move |answer| {
            // Fails while the orchestrator restarts; the next one finds the request open and comes here again.
            slot.send(OrchestratorMsg::Ended(record, Box::new(answer)));
        });
    }

    /// Gives the answer for a request's actor that died.
    fn answer_for(&self, record: &Arc<RequestRecord>, answer: Answer) {
        if self.shared.finish(record, answer, 0) {
            count(&self.shared.counters.crashed, 1);
        }
    }
}

impl OrchestratorState {
    fn tell(&self, id: RequestId, message: RequestMsg) {
        if let Some(running) = self
            .actors
            .get(&id)
            .and_then(|actor| self.running.get(actor))
        {
            // Fails for a request that has just stopped, and so has answered.
            let _ = running.actor.cast(message);
        }
    }
}
