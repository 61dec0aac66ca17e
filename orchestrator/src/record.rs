//! The record of one request from acceptance to expiry: its progress, its one answer, the waits for both.
//!
//! Decides nothing; the request's actor writes it, all others only read it. It outlives the actor, so that a late or
//! returning reader misses nothing.

use std::convert::Infallible;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::time::Duration;

use amcp_plan::Resumed;
use amcp_protocol::{
    Answer, AnswerPiece, CloudEvent, Failure, Flow, FlowId, Progress, RequestId, TaskId,
    UserRequest, flow,
};
use amcp_registry::bus::unix_ms;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::sync::{Notify, OwnedSemaphorePermit};
use tokio::time::Instant;

use crate::account::{Account, Known};
use crate::draft::{Draft, Read};
use crate::places::Place;
use crate::witness::Witness;

/// The stage of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// The planner works.
    Planning,
    /// Tasks are under way.
    Executing,
    /// Nothing is under way: tasks wait for a person's answer, and the request's clock stands still.
    AwaitingFlow,
    /// The composer writes the answer.
    Synthesizing,
    /// The request was answered.
    Done,
}

impl Phase {
    /// The stage as it is serialised.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Planning => "planning",
            Self::Executing => "executing",
            Self::AwaitingFlow => "awaiting_flow",
            Self::Synthesizing => "synthesizing",
            Self::Done => "done",
        }
    }
}

/// The public state of a request.
#[derive(Debug, Clone)]
pub struct RequestView {
    /// Its id, state, user, times and figures.
    pub account: Account,
    /// The open questions to a person.
    pub flows: Vec<OpenFlow>,
    /// The final response; none before.
    pub answer: Option<Arc<Answer>>,
}

/// An open flow with its time of expiry.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct OpenFlow {
    /// The flow.
    #[serde(flatten)]
    pub flow: Flow,
    /// The time of its expiry, in milliseconds since 1970 UTC.
    pub expires_unix_ms: i64,
}

/// A recorded progress event.
#[derive(Debug, Clone, PartialEq)]
pub struct Recorded {
    /// Counts from 0 within the request.
    pub sequence: usize,
    /// The time of the event, in milliseconds since 1970 UTC.
    pub unix_ms: i64,
    /// The event.
    pub progress: Progress,
}

impl Recorded {
    /// Converts the event to a CloudEvent.
    #[must_use]
    pub fn to_event(&self, request: RequestId) -> CloudEvent {
        CloudEvent::progress(request, self.sequence, crate::SOURCE, &self.progress)
            .at_unix_ms(self.unix_ms)
    }
}

#[derive(Debug)]
pub(crate) struct RequestRecord {
    pub(crate) id: RequestId,
    pub(crate) request: Arc<UserRequest>,
    pub(crate) accepted: Instant,
    /// The time of acceptance, in milliseconds since 1970 UTC.
    pub(crate) accepted_unix_ms: i64,
    /// The user's idempotency key.
    pub(crate) key: Option<Box<str>>,
    /// Number of callers that wait for this request, if it was delegated.
    pub(crate) delegators: AtomicUsize,
    state: Mutex<State>,
    /// Notified at each change of progress, draft or answer.
    changed: Notify,
    /// Notified when the answer is committed, a flow opens or only flows are open. Separate from `changed`, so that steps do
    /// not wake waits for the answer.
    stopped: Notify,
    /// Notified at each sign of life of an agent; the record keeps only some of their words.
    pub(crate) lived: Notify,
    /// The state of a request from before a restart, until its actor takes it.
    pub(crate) resumed: parking_lot::Mutex<Option<Box<Resumed>>>,
}

#[derive(Debug)]
struct State {
    phase: Phase,
    progress: Vec<(i64, Progress)>,
    answer: Option<Arc<Answer>>,
    /// The text of a composer so far, if one writes.
    draft: Option<Box<Draft>>,
    /// The open flows, each with the time of its opening.
    flows: Vec<(Instant, OpenFlow)>,
    /// The request's place among those admitted or among those that wait for flows; given back with the answer.
    place: Option<Place>,
    /// The total of past waits for nothing but flows, and the beginning of the current one.
    idle: (Duration, Option<Instant>),
    /// Whether the acceptance is durable, or need not be.
    kept: bool,
    /// The answer on its way into the journal, of which there is only one.
    decided: Option<Box<Answer>>,
}

impl RequestRecord {
    pub(crate) fn new(
        (id, key): (RequestId, Option<&str>),
        request: Arc<UserRequest>,
        admitted: Option<OwnedSemaphorePermit>,
    ) -> Self {
        let state = State {
            phase: Phase::Planning,
            // Two events, `Accepted` and `Planned`; the plan reserves room for its tasks.
            progress: Vec::with_capacity(2),
            answer: None,
            draft: None,
            flows: Vec::new(),
            place: admitted.map(Place::from),
            idle: (Duration::ZERO, None),
            kept: false,
            decided: None,
        };
        Self {
            id,
            request,
            accepted: Instant::now(),
            accepted_unix_ms: unix_ms(),
            key: key.map(Box::from),
            delegators: AtomicUsize::new(0),
            state: Mutex::new(state),
            changed: Notify::new(),
            stopped: Notify::new(),
            lived: Notify::new(),
            resumed: parking_lot::Mutex::default(),
        }
    }

    /// A record whose acceptance need not become durable.
    pub(crate) fn unwritten(mut self) -> Self {
        let state = self.state.get_mut();
        state.unwrap_or_else(PoisonError::into_inner).kept = true;
        self
    }

    /// Notes that the acceptance is durable.
    pub(crate) fn keep(&self) {
        self.state().kept = true;
        self.stopped.notify_waiters();
    }

    /// Whether the record has events from before a restart.
    pub(crate) fn is_told(&self) -> bool {
        !self.state().progress.is_empty()
    }

    /// Decides on the answer that goes into the journal, and returns the one that was decided on first.
    pub(crate) fn decide(&self, answer: Answer) -> Answer {
        let mut state = self.state();
        let decided = state.decided.get_or_insert_with(|| Box::new(answer));
        Answer::clone(decided)
    }

    /// Gives a request from before a restart its place.
    pub(crate) fn admit(&self, place: OwnedSemaphorePermit) {
        self.state().place = Some(place.into());
    }

    /// Whether a request from before a restart has its place, and no actor yet.
    pub(crate) fn is_to_begin(&self) -> bool {
        self.resumed.lock().is_some() && self.state().place.is_some()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Each write below is a single assignment or push, so the state is whole even under a poisoned lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records an event and returns its sequence number; records nothing after the answer.
    pub(crate) fn push(&self, unix_ms: i64, phase: Phase, progress: Progress) -> Option<usize> {
        let asks;
        let sequence = {
            let mut state = self.state();
            if state.answer.is_some() {
                return None;
            }
            state.phase = phase;
            state.note_flow(unix_ms, &progress);
            if let Progress::Planned { tasks, .. } = &progress {
                // Two events for each task, the plan and the answer.
                state.progress.reserve(2 * tasks.len() + 2);
            }
            asks = matches!(progress, Progress::FlowRequired { .. });
            state.progress.push((unix_ms, progress));
            state.progress.len() - 1
        };
        self.changed.notify_waiters();
        if asks {
            self.stopped.notify_waiters();
        }
        Some(sequence)
    }

    /// Commits the one final response. The first commit wins; later ones change nothing and return false. Tells the witness of it before
    /// any reader: who has the answer finds the request ended.
    pub(crate) fn commit(
        &self,
        unix_ms: i64,
        answer: Answer,
        witness: Option<&Arc<dyn Witness>>,
    ) -> bool {
        {
            let mut state = self.state();
            if state.answer.is_some() {
                return false;
            }
            if let Some(witness) = witness {
                witness.answered(&self.request, &answer);
            }
            state.phase = Phase::Done;
            state.stop_waiting();
            state.progress.push((
                unix_ms,
                Progress::Answered {
                    state: answer.state,
                },
            ));
            if let Some(draft) = &mut state.draft {
                draft.end(&answer.answer);
            }
            state.answer = Some(Arc::new(answer));
            state.decided = None;
            state.flows = Vec::new();
            state.place = None;
        }
        self.changed.notify_waiters();
        self.stopped.notify_waiters();
        true
    }

    /// Notes that the request waits for nothing but flows, or goes on. Without a new place it keeps the old one.
    pub(crate) fn moved(&self, idle: bool, place: Option<Place>) {
        {
            let mut state = self.state();
            if state.answer.is_some() {
                return;
            }
            if place.is_some() {
                state.place = place;
            }
            if idle {
                state.phase = Phase::AwaitingFlow;
                state.idle.1 = Some(Instant::now());
            } else {
                if state.phase == Phase::AwaitingFlow {
                    state.phase = Phase::Executing;
                }
                state.stop_waiting();
            }
        }
        self.stopped.notify_waiters();
    }

    /// Whether the request waits for nothing but flows.
    pub(crate) fn is_idle(&self) -> bool {
        self.state().phase == Phase::AwaitingFlow
    }

    /// Why a flow takes no answer once the request's actor has ended.
    pub(crate) fn closed(&self, id: &FlowId) -> Failure {
        let state = self.state();
        let mut ends = state.progress.iter().rev().map(|(_, progress)| progress);
        let end = ends.find_map(|progress| {
            if let Progress::FlowEnded { flow, end, .. } = progress {
                return (flow == id).then_some(*end);
            }
            None
        });
        flow::closed(id, end)
    }

    /// Adds a piece of the composer's text; ignores it after the answer.
    pub(crate) fn write(&self, piece: AnswerPiece) {
        {
            let mut state = self.state();
            if state.answer.is_some() {
                return;
            }
            state.draft.get_or_insert_default().write(piece);
        }
        self.changed.notify_waiters();
    }

    /// The next piece for a reader of the draft; none at the end.
    fn unread(&self, read: &mut Read) -> Poll<Option<AnswerPiece>> {
        let state = self.state();
        let answer = state.answer.as_deref().map(|a| a.answer.as_str());
        let piece = state.draft.as_ref().and_then(|d| d.unread(read, answer));
        match (piece, answer) {
            (None, None) => Poll::Pending,
            (piece, _) => Poll::Ready(piece),
        }
    }

    pub(crate) fn answer(&self) -> Option<Arc<Answer>> {
        self.state().answer.clone()
    }

    pub(crate) fn recorded(&self, sequence: usize) -> Option<Recorded> {
        match self.look(sequence) {
            Poll::Ready(recorded) => recorded,
            Poll::Pending => None,
        }
    }

    /// The event at a reader's position, or none at the end; one lock covers both, so that no event before the end is missed.
    fn look(&self, sequence: usize) -> Poll<Option<Recorded>> {
        let state = self.state();
        match state.progress.get(sequence) {
            Some((unix_ms, progress)) => Poll::Ready(Some(Recorded {
                sequence,
                unix_ms: *unix_ms,
                progress: progress.clone(),
            })),
            None if state.answer.is_some() => Poll::Ready(None),
            None => Poll::Pending,
        }
    }

    pub(crate) fn last(&self) -> Option<Recorded> {
        let last = self.state().progress.len().checked_sub(1)?;
        self.recorded(last)
    }

    /// The pairs of a task and another that the plan gives its result to.
    pub(crate) fn inputs(&self) -> Vec<(TaskId, TaskId)> {
        let mut inputs = Vec::new();
        for (_, progress) in &self.state().progress {
            let Progress::Planned { tasks, .. } = progress else {
                continue;
            };
            for task in tasks {
                // An edge without a reference gives order only.
                let used = task
                    .depends_on
                    .iter()
                    .filter(|from| refers(&task.params, from));
                inputs.extend(used.map(|from| (from.clone(), task.id.clone())));
            }
        }
        inputs
    }

    /// The account of the request if it is answered with this at the given time, in milliseconds since 1970 UTC.
    pub(crate) fn account(&self, unix_ms: i64, answer: &Answer) -> Account {
        let total = self.accepted.elapsed();
        self.account_of(&self.state(), Some(answer), (unix_ms, total))
    }

    fn account_of(
        &self,
        state: &State,
        answer: Option<&Answer>,
        (now, total): (i64, Duration),
    ) -> Account {
        let (before, since) = state.idle;
        Account::of(Known {
            id: self.id,
            request: &self.request,
            phase: state.phase,
            answer,
            progress: &state.progress,
            span: (self.accepted_unix_ms, now),
            waiting: before + since.map(|since| since.elapsed()).unwrap_or_default(),
            total,
        })
    }

    pub(crate) fn view(&self) -> RequestView {
        let state = self.state();
        let last = state.progress.last().filter(|_| state.answer.is_some());
        let times = match last {
            Some((at, _)) => {
                let ms = at.saturating_sub(self.accepted_unix_ms);
                (*at, Duration::from_millis(ms.try_into().unwrap_or(0)))
            }
            None => (unix_ms(), self.accepted.elapsed()),
        };
        RequestView {
            account: self.account_of(&state, state.answer.as_deref(), times),
            flows: state.open_flows(),
            answer: state.answer.clone(),
        }
    }
}

impl State {
    fn stop_waiting(&mut self) {
        let waited = self.idle.1.take().map(|since| since.elapsed());
        self.idle.0 += waited.unwrap_or_default();
    }

    fn open_flows(&self) -> Vec<OpenFlow> {
        let open = self.flows.iter();
        open.map(|(_, open)| open.clone()).collect()
    }

    fn note_flow(&mut self, unix_ms: i64, progress: &Progress) {
        if let Progress::FlowRequired { flow } = progress {
            let open = OpenFlow {
                flow: Flow::clone(flow),
                expires_unix_ms: unix_ms.saturating_add_unsigned(flow.expires_ms),
            };
            self.flows.push((Instant::now(), open));
        } else if let Progress::FlowEnded { flow, .. } = progress {
            self.flows.retain(|(_, open)| open.flow.id != *flow);
        }
    }
}

/// Whether a value holds a reference to a task's result.
fn refers(value: &Value, from: &TaskId) -> bool {
    match value {
        Value::Object(map) => {
            map.get("$ref").and_then(Value::as_str) == Some(from.as_str())
                || map.values().any(|value| refers(value, from))
        }
        Value::Array(values) => values.iter().any(|value| refers(value, from)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
    }
}

/// Waits for the answer to an accepted request. Dropping it cancels nothing.
#[derive(Debug, Clone)]
pub struct Ticket {
    pub(crate) record: Arc<RequestRecord>,
    pub(crate) replayed: bool,
}

impl Ticket {
    /// The id of the request.
    #[must_use]
    pub fn request_id(&self) -> RequestId {
        self.record.id
    }

    /// Whether the request had been accepted before, under the same idempotency key.
    #[must_use]
    pub const fn replayed(&self) -> bool {
        self.replayed
    }

    /// Waits until the acceptance is durable; at once without a journal.
    ///
    /// # Errors
    /// `not_ready`: the journal cannot be written, and the request was not accepted.
    pub async fn kept(&self) -> Result<(), Failure> {
        let look = || {
            let state = self.record.state();
            match &state.answer {
                _ if state.kept => Poll::Ready(Ok(())),
                Some(answer) => Poll::Ready(answer.error.clone().map_or(Ok(()), Err)),
                None => Poll::Pending,
            }
        };
        until(&self.record.stopped, look).await
    }

    /// Waits for the one final response.
    pub async fn answer(&self) -> Arc<Answer> {
        let Ok(answer) = self.answer_or(|_| None::<Infallible>).await;
        answer
    }

    /// Waits for the one final response, or for a question to a person.
    ///
    /// # Errors
    /// The open flows.
    pub async fn answer_or_flows(&self) -> Result<Arc<Answer>, Vec<OpenFlow>> {
        self.answer_or(|state| (!state.flows.is_empty()).then(|| state.open_flows()))
            .await
    }

    /// Waits for the one final response, or until nothing but flows is open.
    ///
    /// # Errors
    /// The first of the open flows, for the rest of its time.
    pub(crate) async fn answer_or_idle(&self) -> Result<Arc<Answer>, Box<Flow>> {
        let waits = |state: &State| {
            let (since, open) = state.flows.first()?;
            let waited = u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX);
            let mut flow = Box::new(open.flow.clone());
            flow.expires_ms = flow.expires_ms.saturating_sub(waited).max(1);
            (state.phase == Phase::AwaitingFlow).then_some(flow)
        };
        self.answer_or(waits).await
    }

    /// Calls `hear` for each event from now on, with a few words for some, and without words for each other sign of life. Never
    /// ends.
    pub(crate) async fn live(&self, hear: impl Fn(&str)) -> Infallible {
        let mut feed = ProgressFeed {
            record: Arc::clone(&self.record),
            next: self.record.state().progress.len(),
        };
        loop {
            tokio::select! {
                Some(recorded) = feed.next() => {
                    if let Progress::Progressed { note, .. } = &recorded.progress {
                        hear(note);
                    } else if let Progress::Dispatched { capability, .. } = &recorded.progress {
                        hear(capability.as_str());
                    } else {
                        hear("");
                    }
                }
                () = self.record.lived.notified() => hear(""),
            }
        }
    }

    async fn answer_or<E>(&self, other: impl Fn(&State) -> Option<E>) -> Result<Arc<Answer>, E> {
        let look = |state: &State| match &state.answer {
            Some(answer) => Poll::Ready(Ok(Arc::clone(answer))),
            None => other(state).map_or(Poll::Pending, |other| Poll::Ready(Err(other))),
        };
        until(&self.record.stopped, || look(&self.record.state())).await
    }
}

/// Reads an answer's text while it is written. A slow reader gets larger pieces, not more of them.
#[derive(Debug)]
pub struct TextFeed {
    pub(crate) record: Arc<RequestRecord>,
    pub(crate) read: Read,
}

impl TextFeed {
    /// Waits for the next piece; returns it with a name that is unique within the request; none at the answer.
    pub async fn next(&mut self) -> Option<(String, AnswerPiece)> {
        until(&self.record.changed, || {
            let name = self.read.to_string();
            let piece = self.record.unread(&mut self.read);
            piece.map(|piece| piece.map(|piece| (name, piece)))
        })
        .await
    }
}

/// Reads a request's progress in order, from any position, at any speed.
#[derive(Debug)]
pub struct ProgressFeed {
    pub(crate) record: Arc<RequestRecord>,
    pub(crate) next: usize,
}

impl ProgressFeed {
    /// Whether no further event will come.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        matches!(self.record.look(self.next), Poll::Ready(None))
    }

    /// Waits for the next event; none after [`Progress::Answered`].
    pub async fn next(&mut self) -> Option<Recorded> {
        let look = || self.record.look(self.next);
        let recorded = until(&self.record.changed, look).await;
        self.next += usize::from(recorded.is_some());
        recorded
    }
}

/// Waits until `look` finds something; it looks again at each change.
async fn until<T>(changed: &Notify, mut look: impl FnMut() -> Poll<T>) -> T {
    loop {
        let change = changed.notified();
        tokio::pin!(change);
        // Registered before `look`, so that no change in between is missed.
        change.as_mut().enable();
        if let Poll::Ready(found) = look() {
            return found;
        }
        change.await;
    }
}

#[cfg(test)]
mod tests {
    use amcp_protocol::AnswerState;
    use futures_util::FutureExt;
    use tokio::sync::Semaphore;

    use super::*;

    fn record() -> Arc<RequestRecord> {
        let admitted = Arc::new(Semaphore::new(1)).try_acquire_owned().unwrap();
        let id = "123e4567-e89b-12d3-a456-426614174999".parse().unwrap();
        let request = Arc::new(UserRequest::new("x"));
        Arc::new(RequestRecord::new((id, None), request, Some(admitted)))
    }

    fn answer(id: RequestId) -> Answer {
        Answer {
            request_id: id,
            state: AnswerState::Completed,
            answer: "yes".to_owned(),
            planner: String::new(),
            tasks: Vec::new(),
            error: None,
            usage: amcp_protocol::llm::Usage::default(),
            notes: Vec::new(),
        }
    }

    /// The reader polls without a pause, so that the answer comes at any point of its look.
    #[test]
    fn a_reader_misses_nothing_however_the_answer_comes() {
        for _ in 0..1_000 {
            let record = record();
            let mut feed = ProgressFeed {
                record: record.clone(),
                next: 0,
            };
            let writer = std::thread::spawn(move || record.commit(0, answer(record.id), None));
            let mut looks = 0_u32;
            let read = loop {
                if let Some(recorded) = feed.next().now_or_never() {
                    break recorded;
                }
                looks += 1;
                // Lets the writer run on a single processor.
                if looks.is_multiple_of(1_000) {
                    std::thread::yield_now();
                }
            };
            writer.join().unwrap();
            let state = AnswerState::Completed;
            let last = read.map(|recorded| recorded.progress);
            assert_eq!(last, Some(Progress::Answered { state }));
        }
    }
}
