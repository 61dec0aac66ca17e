//! The [`RequestActor`]: one request's machine, its timers and its tasks under way.
//!
//! Decides nothing: it feeds events to the machine and carries out the machine's actions. It lives from acceptance to the
//! final response and is never restarted. Dropped before that, it cancels the tasks that it has sent.

mod dispatch;
mod turns;

use std::sync::Arc;

use amcp_journal::Refusal;
use amcp_plan::recording::{self, Accepted, Opening, Turn};
use amcp_plan::{Action, Catalogue, Conclusion, Event, Machine, Policy, Time, TimerKey};
use amcp_protocol::llm::Usage;
use amcp_protocol::task::TaskOutcome;
use amcp_protocol::{
    Answer, CapabilityName, ErrorCode, Failure, FlowAnswer, FlowId, FlowKind, Grant, Lineage,
    Progress, TaskReport, UserRequest,
};
use amcp_registry::bus::unix_ms;
use amcp_registry::trace;
use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio::sync::oneshot;
use tokio_util::sync::DropGuard;
use tracing::field::display;
use tracing::{Instrument, Span};

use crate::alarm::{Alarm, Armed};
use crate::counts::count;
use crate::places::Place;
use crate::planning::{self, Begun, PlannerCall};
use crate::record::{Phase, RequestRecord};
use crate::recovery::Acceptance;
use crate::shared::{Clock, Shared};
use amcp_planner::plain::compose_plainly;
use amcp_planner::{
    ComposeInput, Composed, Feedback, Given, Planned, PlanningError, SharedPlanner, Sink,
};
use dispatch::{HeldWork, Sent};
use turns::Turns;

#[derive(Debug)]
pub(crate) enum RequestMsg {
    /// From itself: begin. Messages that came before, such as a cancel, go first.
    Begin,
    /// From the planner, agents and the orchestrator: an event for the machine.
    Happened(Event),
    /// From agents: an attempt ended with a flow, and its agent holds work. Dropped unread, the message tells the agent that nobody
    /// waits for it.
    Holds(Box<(Event, HeldWork)>),
    /// From the orchestrator: a person answers a flow. The reply says whether the answer counts.
    Answered(Box<Answering>),
    /// From the alarm: a timer may be due.
    TimerDue,
    /// From the journal: the record under way is durable, or refused.
    Kept(Result<(), Refusal>),
}

/// A person's answer on its way to the request.
#[derive(Debug)]
pub(crate) struct Answering {
    pub(crate) flow: FlowId,
    pub(crate) answer: FlowAnswer,
    pub(crate) reply: oneshot::Sender<Result<(), Failure>>,
}

impl ractor::Message for RequestMsg {}

/// Wakes requests at their earliest timers.
pub(crate) type RequestAlarm = Alarm<ActorRef<RequestMsg>>;

#[derive(Debug)]
pub(crate) struct RequestActor;

#[derive(Debug)]
pub(crate) struct RequestState {
    shared: Arc<Shared>,
    record: Arc<RequestRecord>,
    machine: Machine,
    /// The machine's first actions, or those that a restart left open.
    first: Vec<Action>,
    /// The way into the journal; none without one.
    turns: Option<Box<Turns>>,
    clock: Clock,
    phase: Phase,
    /// The capabilities at the time of acceptance.
    catalogue: Arc<Catalogue>,
    grant: Arc<Grant>,
    lineage: Arc<Lineage>,
    /// At most one for each running task and two for the request.
    timers: Vec<(TimerKey, Time)>,
    alarm: Arc<RequestAlarm>,
    /// The alarm's call, at the earliest timer or before.
    armed: Option<Armed<ActorRef<RequestMsg>>>,
    sent: Vec<Sent>,
    /// Whether the request waits for nothing but flows, as last noted in the record.
    idle: bool,
    /// The planner's call for this request; dropping the guard ends the call.
    planner_call: Option<DropGuard>,
    /// The request's span, and the trace context of what it causes.
    span: Span,
    traceparent: Option<String>,
}

impl Actor for RequestActor {
    type Msg = RequestMsg;
    /// In a box, because ractor moves it several times. In an option, so that the request's own task drops the state; otherwise
    /// ractor would send it to the orchestrator with the news of the end.
    type State = Option<Box<RequestState>>;
    type Arguments = (Arc<Shared>, Arc<RequestRecord>, Arc<RequestAlarm>);

    /// Runs in the orchestrator's task, which begins all requests, so it only builds the state.
    async fn pre_start(
        &self,
        _myself: ActorRef<RequestMsg>,
        (shared, record, alarm): Self::Arguments,
    ) -> Result<Self::State, ActorProcessingErr> {
        let request = &record.request;
        let resumed = record.resumed.lock().take();
        let journal = shared.journal.get();
        let mut acceptance = None;
        let (machine, first, timers) = match resumed {
            Some(resumed) => (resumed.machine, resumed.open, resumed.timers),
            None => {
                let policy = policy(&shared, &record);
                acceptance = journal.map(|_| Acceptance::of(&record, policy.clone()));
                let recorder = shared.recorder.get();
                let accepted = recorder.map(|_| accepted(&record, policy.clone()));
                let (machine, first) = Machine::start(policy);
                if let (Some(recorder), Some(accepted)) = (recorder, accepted) {
                    let actions = first.clone();
                    recorder.note(record.id, &Opening { accepted, actions });
                }
                (machine, first, Vec::with_capacity(8))
            }
        };
        let turns = journal.map(|journal| Turns::new(journal.clone(), acceptance));
        let caller = request.traceparent.clone();
        let (span, traceparent) = trace::begin("internal", ("request", ""), caller);
        span.record("amcp.request", display(record.id));
        Ok(Some(Box::new(RequestState {
            catalogue: shared.catalogue(),
            grant: Arc::new(Grant {
                user: request.user.clone(),
                roles: request.roles.clone(),
                flows: flows(request),
            }),
            lineage: shared.lineage(request),
            clock: Clock::since(record.accepted),
            phase: if machine.places().is_empty() {
                Phase::Planning
            } else {
                Phase::Executing
            },
            timers,
            turns,
            alarm,
            armed: None,
            sent: Vec::with_capacity(4),
            idle: false,
            planner_call: None,
            span,
            traceparent,
            shared,
            record,
            machine,
            first,
        })))
    }

    async fn post_start(
        &self,
        myself: ActorRef<RequestMsg>,
        state: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        let Some(state) = state else {
            return Ok(());
        };
        // Not again for a request of an earlier process.
        if !state.record.is_told() {
            let query = state.record.request.query.clone();
            let accepted = Action::Report(Progress::Accepted { query });
            if let Some(accepted) = state.hold(accepted) {
                state.perform(&myself, accepted);
            }
        }
        Ok(myself.cast(RequestMsg::Begin)?)
    }

    async fn handle(
        &self,
        myself: ActorRef<RequestMsg>,
        message: RequestMsg,
        state: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        let Some(state) = state else {
            return Ok(());
        };
        if let RequestMsg::Kept(outcome) = message {
            state.kept(&myself, outcome);
        } else if let Some(message) = state.unless_it_waits(message) {
            state.take(&myself, message);
            state.write_down(&myself);
        }
        state.keep_place();
        Ok(())
    }

    async fn post_stop(
        &self,
        _myself: ActorRef<RequestMsg>,
        state: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        *state = None;
        Ok(())
    }
}

fn accepted(record: &RequestRecord, policy: Policy) -> Accepted {
    let request = &record.request;
    Accepted {
        version: recording::VERSION,
        request_id: record.id,
        unix_ms: record.accepted_unix_ms,
        query: request.query.clone(),
        user: request.user.clone(),
        idempotency_key: record.key.as_deref().map(str::to_owned),
        traceparent: request.traceparent.clone(),
        lineage: request.lineage.clone(),
        policy,
    }
}

/// A given plan takes the planner's place.
fn planner(shared: &Shared, request: &UserRequest) -> SharedPlanner {
    match &request.plan {
        Some(tasks) => Arc::new(Given(tasks.clone())),
        None => shared.planner.clone(),
    }
}

fn policy(shared: &Shared, record: &RequestRecord) -> Policy {
    let settings = shared.live.load();
    let planner = planner(shared, &record.request);
    let deadline = shared.deadline_of(&record.request);
    Policy {
        roles: record.request.roles.clone(),
        deadline,
        plan_time: deadline / 2,
        attempts: settings.attempts,
        llm_calls: settings.llm_calls,
        result_bytes: settings.result_bytes,
        rounds: if planner.replans() { 2 } else { 1 },
        composes: planner.composes(),
        flows: flows(&record.request),
        calls: (record.request.lineage.depth > 0).then_some(record.request.lineage.calls),
        // The low half of a version 7 UUID is random.
        seed: record.id.uuid().as_u64_pair().1,
        ..Policy::default()
    }
}

/// The kinds of flows that the asker can put before a person.
fn flows(request: &UserRequest) -> Vec<FlowKind> {
    let named = request.flows.clone();
    named.unwrap_or_else(|| FlowKind::ALL.to_vec())
}

fn planned(round: u32, result: Result<Planned, PlanningError>) -> Event {
    match result {
        Ok(Planned {
            plan,
            planner,
            llm_calls,
            usage,
            notes,
        }) => Event::Planned {
            round,
            result: Ok(plan),
            planner,
            llm_calls,
            usage,
            notes,
        },
        Err(PlanningError {
            failure,
            planner,
            llm_calls,
            usage,
            proposal,
        }) => {
            let proposed =
                proposal.and_then(|proposal| serde_json::to_string(&proposal.tasks).ok());
            let notes = proposed
                .map(|tasks| format!("the refused plan was {}", clipped(&tasks)))
                .into_iter()
                .collect();
            Event::Planned {
                round,
                result: Err(failure),
                planner,
                llm_calls,
                usage,
                notes,
            }
        }
    }
}

/// The beginning of a refused plan, which may have any size.
fn clipped(text: &str) -> String {
    const SHOWN: usize = 2_000;
    if text.chars().count() <= SHOWN {
        text.to_owned()
    } else {
        text.chars().take(SHOWN).chain(['…']).collect()
    }
}

fn composed(result: Result<Composed, Failure>) -> Event {
    match result {
        Ok(Composed {
            text,
            llm_calls,
            usage,
            notes,
        }) => Event::Composed {
            result: Ok(text),
            llm_calls,
            usage,
            notes,
        },
        Err(failure) => Event::Composed {
            result: Err(failure),
            llm_calls: 1,
            usage: Usage::default(),
            notes: Vec::new(),
        },
    }
}

impl Drop for RequestState {
    /// Cancels the tasks of an actor that was killed or has panicked; after the final response there are none.
    fn drop(&mut self) {
        for sent in self.sent.drain(..) {
            sent.cancel();
        }
    }
}

impl RequestState {
    /// Returns a message unless it must wait for the journal.
    fn unless_it_waits(&mut self, message: RequestMsg) -> Option<RequestMsg> {
        match &mut self.turns {
            Some(turns) => turns.defer(message),
            None => Some(message),
        }
    }

    fn take(&mut self, myself: &ActorRef<RequestMsg>, message: RequestMsg) {
        match message {
            RequestMsg::Begin => self.begin(myself),
            RequestMsg::Happened(event) => {
                if let Event::Responded {
                    task,
                    attempt,
                    outcome,
                    ..
                } = &event
                {
                    self.settle(*task, *attempt, outcome.failure());
                } else if let Event::Progressed { .. } = &event {
                    self.record.lived.notify_waiters();
                }
                self.feed(myself, event);
            }
            RequestMsg::Holds(asked) => {
                let (event, work) = *asked;
                if let Event::Responded { task, attempt, .. } = &event
                    && self.settle(*task, *attempt, None)
                {
                    work.known();
                }
                self.feed(myself, event);
            }
            RequestMsg::Answered(answering) => self.answered(myself, *answering),
            RequestMsg::TimerDue => self.timers_due(myself),
            // Never waits for itself.
            RequestMsg::Kept(_) => {}
        }
    }

    fn begin(&mut self, myself: &ActorRef<RequestMsg>) {
        let mut first = std::mem::take(&mut self.first);
        first.retain(|action| {
            if let Action::SetTimer { key, at } = action {
                self.timers.push((*key, *at));
                return false;
            }
            true
        });
        // Time counts from acceptance: after a long wait for a processor the deadline may have passed already.
        self.timers_due(myself);
        for action in first {
            // This build may have concluded from the journal's events where the one before had not.
            if self.machine.is_done() && !matches!(action, Action::Respond(_)) {
                return;
            }
            match lost(&action) {
                Some(event) => self.feed(myself, event),
                None => self.carry_out(myself, vec![action]),
            }
        }
    }

    fn feed(&mut self, myself: &ActorRef<RequestMsg>, event: Event) {
        let actions = self.step(event);
        self.carry_out(myself, actions);
    }

    fn answered(&mut self, myself: &ActorRef<RequestMsg>, answering: Answering) {
        let Answering {
            flow,
            answer,
            reply,
        } = answering;
        let judged = self.machine.check_answer(&flow, &answer);
        if judged.is_ok() {
            self.feed(myself, Event::FlowAnswered { flow, answer });
            self.keep_place();
        }
        match &mut self.turns {
            Some(turns) => turns.tell(reply, judged),
            // Fails for an asker that has gone; it can read the request's progress later.
            None => drop(reply.send(judged)),
        }
    }

    /// Gives back the place among the admitted requests while nothing but flows is open.
    fn keep_place(&mut self) {
        let idle = self.machine.is_idle();
        // What a held turn says of the plan comes first: it would take the request for a working one again.
        let held = self.turns.as_ref().is_some_and(|turns| turns.waits());
        if held || idle == self.idle || self.machine.is_done() {
            return;
        }
        self.idle = idle;
        if idle {
            self.phase = Phase::AwaitingFlow;
        } else if self.phase == Phase::AwaitingFlow {
            self.phase = Phase::Executing;
        }
        let place = if idle {
            self.shared.waiting.take(&self.record.request.user)
        } else {
            let admitted = self.shared.admission.clone().try_acquire_owned();
            admitted.ok().map(Place::from)
        };
        self.record.moved(idle, place);
    }

    fn step(&mut self, event: Event) -> Vec<Action> {
        let at = self.clock.now();
        let recorder = self.shared.recorder.get();
        if recorder.is_none() && self.turns.is_none() {
            return self.machine.step(at, event);
        }
        let actions = self.machine.step(at, event.clone());
        let turn = Turn { at, event, actions };
        if let Some(recorder) = recorder {
            recorder.note(self.record.id, &turn);
        }
        if let Some(turns) = &mut self.turns {
            turns.note(at, turn.event, &turn.actions);
        }
        turn.actions
    }

    /// Carries out actions in order, and the actions that follow from them at once.
    fn carry_out(&mut self, myself: &ActorRef<RequestMsg>, mut actions: Vec<Action>) {
        // `pop` takes the next one.
        actions.reverse();
        while let Some(action) = actions.pop() {
            let action = self.hold(action);
            if let Some(event) = action.and_then(|action| self.perform(myself, action)) {
                // Before the other actions, so that a chosen agent counts as busy at the next choice.
                actions.extend(self.step(event).into_iter().rev());
            }
        }
        self.arm(myself);
    }

    /// Returns the event that follows at once, if any.
    fn perform(&mut self, myself: &ActorRef<RequestMsg>, action: Action) -> Option<Event> {
        match action {
            Action::Plan {
                round,
                time,
                llm_calls,
                tasks,
            } => {
                self.phase = Phase::Planning;
                let mut input =
                    self.shared
                        .planning_input(&self.record.request, self.catalogue.clone(), time);
                input.llm_calls = llm_calls;
                input.feedback = (round > 1).then(|| Feedback {
                    tasks,
                    authorised: self.authorised(),
                });
                let planner = planner(&self.shared, &self.record.request);
                if planner.streams() {
                    let myself = myself.clone();
                    input.early = Sink::new(move |task| {
                        // Fails for a request that has been answered meanwhile.
                        let tasks = vec![task];
                        let arrived = Event::TasksAdded { round, tasks };
                        let _ = myself.cast(RequestMsg::Happened(arrived));
                    });
                }
                let span = self.part("plan");
                let call = async move { planned(round, planner.plan(input).await) };
                let call = call.instrument(span);
                let lost = planned(round, Err(planner_lost()));
                return self.begin_call(myself, Box::pin(call), lost);
            }
            Action::Compose {
                tasks,
                unplaced,
                time,
                llm_calls,
            } => {
                self.phase = Phase::Synthesizing;
                let mut input = self.compose_input(tasks, unplaced);
                (input.time, input.llm_calls) = (time, llm_calls);
                input.history = self.record.request.history.clone();
                let record = self.record.clone();
                input.pieces = Sink::new(move |piece| record.write(piece));
                let planner = self.shared.planner.clone();
                let span = self.part("write");
                let call = async move { composed(planner.compose(input).await) };
                let call = call.instrument(span);
                let lost = composed(Err(planner_lost().failure));
                return self.begin_call(myself, Box::pin(call), lost);
            }
            Action::Choose {
                task,
                attempt,
                avoid,
                only,
            } => return self.choose((task, attempt), &avoid, only),
            Action::Send(assigned) => return self.send(myself, assigned),
            Action::Withdraw(assigned) => self.withdraw(assigned),
            Action::Abandon { task, attempt } => self.abandon(task, attempt),
            Action::SetTimer { key, at } => self.timers.push((key, at)),
            Action::ClearTimer(key) => self.timers.retain(|(other, _)| *other != key),
            Action::Report(progress) => self.report(progress),
            Action::Respond(conclusion) => {
                let answer = self.conclude(*conclusion);
                self.give(myself, answer);
            }
        }
        None
    }

    /// A span of the request.
    fn part(&self, what: &str) -> Span {
        trace::begin("internal", (what, ""), self.traceparent.clone()).0
    }

    fn begin_call(
        &mut self,
        myself: &ActorRef<RequestMsg>,
        call: PlannerCall,
        lost: Event,
    ) -> Option<Event> {
        match planning::begin(&self.shared.planning, myself, call, lost) {
            Begun::Ended(event) => Some(*event),
            Begun::GoesOn(guard) => {
                self.planner_call = Some(guard);
                None
            }
        }
    }

    fn authorised(&self) -> Vec<CapabilityName> {
        let access = self.shared.access(&self.record.request);
        self.machine.authorised(&self.catalogue.permitted(&access))
    }

    fn compose_input(&self, tasks: Vec<TaskReport>, unplaced: Vec<String>) -> ComposeInput {
        ComposeInput {
            query: self.record.request.query.clone(),
            tasks,
            inputs: self.record.inputs(),
            unplaced,
            history: Vec::new(),
            catalogue: self.catalogue.clone(),
            time: Time::ZERO,
            llm_calls: 0,
            pieces: Sink::default(),
        }
    }

    fn report(&mut self, progress: Progress) {
        match progress {
            Progress::Planned { .. } => self.phase = Phase::Executing,
            Progress::Retried { .. } => {
                count(&self.shared.counters.retries, 1);
            }
            Progress::Accepted { .. } => self.shared.user_request_event(&self.record),
            Progress::Dispatched { .. }
            | Progress::Progressed { .. }
            | Progress::FlowRequired { .. }
            | Progress::FlowEnded { .. }
            | Progress::Completed { .. }
            | Progress::Failed { .. }
            | Progress::Answered { .. } => {}
        }
        if let Some(witness) = self.shared.witness.get() {
            let id = progress.task();
            let mut tasks = (0..).map_while(|at| self.machine.task(at));
            let task = id.and_then(|id| tasks.find(|task| task.id == *id));
            let request = (self.record.id, &*self.record.request);
            witness.progressed(request, task.map(|task| &task.capability), &progress);
        }
        let topic = progress.event_type();
        if let Some(sequence) = self.record.push(unix_ms(), self.phase, progress) {
            let record = &self.record;
            self.shared.bus.publish(topic, || {
                let recorded = record.recorded(sequence).expect("it was just recorded");
                recorded.to_event(record.id)
            });
        }
    }

    fn conclude(&self, conclusion: Conclusion) -> Answer {
        self.span.record("amcp.state", conclusion.state.as_str());
        if let Some(error) = &conclusion.error {
            self.span.record("error.type", error.code.as_str());
        }
        let Conclusion {
            state,
            text,
            planner,
            mut tasks,
            unplaced,
            error,
            mut notes,
            replaced,
            usage,
        } = conclusion;
        let answer = match (text, tasks.is_empty(), &error) {
            (Some(text), _, _) => text,
            (None, true, Some(error)) => sentence(error),
            (None, _, _) => {
                let wanted = |task: &TaskReport| !replaced.contains(&task.id);
                let input = if replaced.is_empty() {
                    self.compose_input(std::mem::take(&mut tasks), unplaced)
                } else {
                    self.compose_input(
                        tasks.iter().filter(|task| wanted(task)).cloned().collect(),
                        unplaced,
                    )
                };
                let composed = compose_plainly(&input);
                if replaced.is_empty() {
                    tasks = input.tasks;
                }
                notes.extend(composed.notes);
                composed.text
            }
        };
        Answer {
            request_id: self.record.id,
            state,
            answer,
            planner,
            tasks,
            error,
            usage,
            notes,
        }
    }

    fn give(&mut self, myself: &ActorRef<RequestMsg>, answer: Answer) {
        self.shared
            .finish(&self.record, answer, self.machine.result_bytes());
        let (dropped, counters) = (self.machine.dropped(), &self.shared.counters);
        count(&counters.duplicate, dropped.duplicate);
        count(&counters.late, dropped.late);
        count(&counters.foreign, dropped.foreign);
        myself.stop(None);
    }

    fn timers_due(&mut self, myself: &ActorRef<RequestMsg>) {
        self.armed = None;
        let now = self.clock.now();
        let earliest = |timers: &[(TimerKey, Time)]| {
            let due = timers.iter().enumerate().filter(|(_, (_, at))| *at <= now);
            due.min_by_key(|(_, timer)| (timer.1, timer.0))
                .map(|(index, _)| index)
        };
        while let Some(due) = earliest(&self.timers) {
            let (key, _) = self.timers.swap_remove(due);
            self.feed(myself, Event::TimerFired(key));
        }
        self.arm(myself);
    }

    /// Sets the alarm to the earliest timer. A call that comes too early, because its timer was cleared, costs less than a new
    /// call for each change.
    fn arm(&mut self, myself: &ActorRef<RequestMsg>) {
        let Some(earliest) = self.timers.iter().map(|(_, at)| *at).min() else {
            return;
        };
        let at = self.clock.at(earliest);
        if self.machine.is_done() || self.armed.as_ref().is_some_and(|armed| armed.at() <= at) {
            return;
        }
        self.armed = Some(self.alarm.set(at, myself.clone()));
    }
}

fn planner_lost() -> PlanningError {
    let failure = Failure::new(
        ErrorCode::Internal,
        "the planner died before it had answered",
    )
    .hint("ask again");
    PlanningError::new(failure, String::new())
}

/// What becomes of an attempt that was under way when the process ended: nobody knows.
fn lost(action: &Action) -> Option<Event> {
    let Action::Send(assigned) = action else {
        return None;
    };
    let agent = &assigned.agent;
    let message = format!("the orchestrator was restarted while {agent} had the task");
    Some(Event::Responded {
        task: assigned.task,
        attempt: assigned.attempt,
        outcome: TaskOutcome::Failed(Failure::new(ErrorCode::NodeLost, message)),
        calls: Vec::new(),
    })
}

fn sentence(error: &Failure) -> String {
    match &error.hint {
        Some(hint) => format!("I could not answer: {error} ({hint})."),
        None => format!("I could not answer: {error}."),
    }
}
