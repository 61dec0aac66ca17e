//! What the journal's records of a request say, and the requests of an earlier process that they bring back.
//!
//! Takes no decision about a request: `amcp_plan::resume` and the machine do.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use amcp_journal::{Head, Journal, JournalError, Record, Step};
use amcp_plan::{Action, Event, Policy, Resumed, TimerKey, resume};
use amcp_protocol::plan::ProposedTask;
use amcp_protocol::{Answer, ErrorCode, Failure, Lineage, Progress, Proof, RequestId, UserRequest};
use amcp_registry::bus::unix_ms;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::time::Instant;

use crate::actor::OrchestratorMsg;
use crate::handle::OrchestratorHandle;
use crate::record::{Phase, RequestRecord};
use crate::shared::Shared;

/// Most processes that may end between the beginning of a request and its next record: the next one sets it aside.
const TRIES: u32 = 2;

/// A request at its acceptance, as the journal has it: with the fields that no body can set.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Acceptance {
    unix_ms: i64,
    request: UserRequest,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    user: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    by: Option<Proof>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    roles: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    plan: Option<Vec<ProposedTask>>,
    lineage: Lineage,
    policy: Policy,
}

/// The text of one record: all that one turn of the request's actor added.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Entry {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) accepted: Option<Box<Acceptance>>,
    /// Each event with its time, in nanoseconds since the acceptance.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) turns: Vec<(u64, Event)>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) answer: Option<Answer>,
}

impl Entry {
    pub(crate) fn written(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("an entry has string keys only")
    }
}

impl Acceptance {
    pub(crate) fn of(record: &RequestRecord, policy: Policy) -> Box<Self> {
        let request = UserRequest::clone(&record.request);
        Box::new(Self {
            unix_ms: record.accepted_unix_ms,
            user: request.user.clone(),
            by: request.by.clone(),
            roles: request.roles.clone(),
            plan: request.plan.clone(),
            lineage: request.lineage.clone(),
            request,
            policy,
        })
    }

    fn into_request(self) -> (UserRequest, Policy) {
        let request = UserRequest {
            user: self.user,
            by: self.by,
            roles: self.roles,
            plan: self.plan,
            lineage: self.lineage,
            ..self.request
        };
        (request, self.policy)
    }
}

/// The mark of a request with an idempotency key: the user and the key.
pub(crate) fn mark(record: &RequestRecord) -> Vec<u8> {
    let key = record.key.as_deref();
    let owned = key.map(|key| (&record.request.user, key));
    owned
        .and_then(|owned| serde_json::to_vec(&owned).ok())
        .unwrap_or_default()
}

/// All that the journal has of a request.
struct Read {
    record: RequestRecord,
    resumed: Resumed,
    answer: Option<Answer>,
}

fn read(id: RequestId, head: &Head, bodies: &[Vec<u8>]) -> Result<Read, String> {
    let mut accepted = None;
    let mut answer = None;
    let mut events = Vec::new();
    for body in bodies {
        let entry: Entry = serde_json::from_slice(body).map_err(|error| error.to_string())?;
        accepted = accepted.or(entry.accepted);
        answer = answer.or(entry.answer);
        let turns = entry.turns.into_iter();
        events.extend(turns.map(|(at, event)| (Duration::from_nanos(at), event)));
    }
    let accepted = accepted.ok_or("no record tells of its acceptance")?;
    let accepted_ms = accepted.unix_ms;
    let (request, policy) = accepted.into_request();
    let replay = AssertUnwindSafe(|| resume(policy, events));
    let resumed = catch_unwind(replay).map_err(|_| "its replay panicked".to_owned())?;
    let key = owner_and_key(&head.mark).map(|(_, key)| key);
    let mut record = RequestRecord::new((id, key.as_deref()), request.into(), None);
    // The wall clock goes on while no process runs, but never back.
    let passed = u64::try_from(unix_ms().saturating_sub(accepted_ms)).unwrap_or_default();
    let passed = Duration::from_millis(passed).max(resumed.at);
    let now = Instant::now();
    record.accepted = now.checked_sub(passed).unwrap_or(now);
    record.accepted_unix_ms = accepted_ms;
    Ok(Read {
        record,
        resumed,
        answer,
    })
}

fn owner_and_key(mark: &[u8]) -> Option<(Option<String>, String)> {
    serde_json::from_slice(mark).ok()
}

impl RequestRecord {
    /// # Errors
    /// `not_ready` for a request from before a restart that nobody works on yet.
    pub(crate) fn check_begun(&self) -> Result<(), Failure> {
        if self.resumed.lock().is_none() {
            return Ok(());
        }
        let message =
            "the node was started again, and the request waits for its place and for agents";
        Err(Failure::new(ErrorCode::NotReady, message).retry_after_ms(1_000))
    }

    /// Records again what was reported before a restart.
    fn retell(&self, progress: Vec<(Duration, Progress)>) {
        let query = self.request.query.clone();
        let first = (Duration::ZERO, Progress::Accepted { query });
        let mut phase = Phase::Planning;
        for (at, progress) in std::iter::once(first).chain(progress) {
            if let Progress::Planned { .. } = progress {
                phase = Phase::Executing;
            }
            let ms = i64::try_from(at.as_millis()).unwrap_or(i64::MAX);
            self.push(self.accepted_unix_ms.saturating_add(ms), phase, progress);
        }
        self.keep();
    }
}

/// The requests that a restart brought back.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Recovered {
    /// Number of open requests, which go on.
    pub open: usize,
    /// Number of answered requests that can be read again.
    pub answered: usize,
    /// Open requests that do not go on, each with its answer: those that ended the processes that began them are answered as failed for
    /// good. Those that cannot be read stay open in the journal, for a build that can.
    pub set_aside: Vec<RequestId>,
}

impl OrchestratorHandle {
    /// Keeps every request in this journal from now on, and takes over the requests that it has: answered ones can be read again, the
    /// latest first up to `retained`; open ones go on after [`Self::open`]. Call it once, before the first request.
    ///
    /// # Errors
    /// The journal cannot be read at all. Then nothing is kept.
    pub fn recover(
        &self,
        journal: Arc<dyn Journal>,
        mut heads: Vec<(RequestId, Head)>,
    ) -> Result<Recovered, String> {
        let mut recovered = Recovered::default();
        let shared = &self.shared;
        heads.sort_unstable_by_key(|(_, head)| (head.ended_ms, head.opened_ms));
        let (open, mut ended): (Vec<_>, Vec<_>) =
            heads.iter().partition(|(_, head)| head.ended_ms.is_none());
        ended.retain(|(_, head)| !head.dropped);
        let latest = ended.len().saturating_sub(shared.settings.retained);
        let mut all = Vec::new();
        for (id, head) in ended.into_iter().skip(latest).chain(open) {
            let bodies = match journal.read(*id) {
                Ok(bodies) => bodies,
                Err(damage @ JournalError::Damaged { .. }) => {
                    all.push((id, head, Err((damage.to_string(), None))));
                    continue;
                }
                Err(error) => return Err(error.to_string()),
            };
            let known = read(*id, head, &bodies);
            all.push((
                id,
                head,
                known.map_err(|reason| (reason, shell(*id, head, &bodies))),
            ));
        }
        let mut waiting = Vec::new();
        for (id, head, known) in all {
            match known {
                Ok(known) if known.answer.is_some() => {
                    shared.restore_answered(known, head);
                    recovered.answered += 1;
                }
                Ok(known) if head.tries < TRIES => waiting.push(shared.restore_open(known)),
                Ok(mut known) => {
                    let reason = format!("{TRIES} processes ended after they had begun it");
                    recovered.set_aside.push(*id);
                    let answer = set_aside(*id, &reason);
                    // It would be set aside again if this record were lost.
                    journal.append(last_record(&journal, &answer), Box::new(|_| {}));
                    known.answer = Some(answer);
                    shared.restore_answered(known, head);
                }
                Err((reason, shell)) => {
                    if head.ended_ms.is_none() {
                        recovered.set_aside.push(*id);
                    }
                    let answer = Some(set_aside(*id, &reason));
                    if let Some(record) = shell {
                        shared.restore_answered(Read { answer, ..record }, head);
                    }
                }
            }
        }
        shared
            .requests
            .remember(heads.iter().filter_map(|(id, head)| {
                let (user, key) = owner_and_key(&head.mark)?;
                Some((*id, user, key, head.opened_ms))
            }));
        recovered.open = waiting.len();
        *shared.recovered.lock() = waiting;
        // A second journal would split the records of a request.
        let _ = shared.journal.set(journal);
        Ok(recovered)
    }

    /// Begins the recovered requests as places come free and the agents for their open tasks are known, those with the earliest deadlines
    /// first; without the agents when a deadline comes. None once the node drains.
    pub(crate) fn resume(&self) {
        let mut waiting = std::mem::take(&mut *self.shared.recovered.lock());
        if waiting.is_empty() {
            return;
        }
        let handle = self.clone();
        let mut changes = handle.shared.registry.changes();
        tokio::spawn(async move {
            waiting.sort_unstable_by_key(|(due, _)| *due);
            while let Some((first, _)) = waiting.first() {
                let due = *first;
                let mut later = Vec::new();
                for (due, record) in waiting {
                    if due > Instant::now() && !handle.has_agents_for(&record) {
                        later.push((due, record));
                    } else if !handle.begin_again(record).await {
                        return;
                    }
                }
                waiting = later;
                if !waiting.is_empty() {
                    // Whatever ends the wait, all are looked at again.
                    let _ = tokio::time::timeout_at(due, changes.changed()).await;
                }
            }
        });
    }

    /// Whether a recovered request would find an agent for whatever it does next.
    fn has_agents_for(&self, record: &RequestRecord) -> bool {
        let resumed = record.resumed.lock();
        let Some(resumed) = resumed.as_ref() else {
            return true;
        };
        let directory = self.shared.registry.load();
        let offered = |capability| directory.choose(capability, &[], 0).is_some();
        let plans = |action: &Action| matches!(action, Action::Plan { .. });
        let mut tasks = resumed.machine.open_tasks();
        resumed.machine.is_idle()
            || tasks.all(|task| offered(&task.capability))
                && (self.has_agents() || !resumed.open.iter().any(plans))
    }

    /// Gives a recovered request its place and begins it, once the journal has counted that; false when the node drains.
    async fn begin_again(&self, record: Arc<RequestRecord>) -> bool {
        let place = self.shared.admission.clone().acquire_owned().await;
        let (Ok(place), Some(journal)) = (place, self.shared.journal.get()) else {
            return false;
        };
        if self.is_draining() {
            return false;
        }
        record.admit(place);
        let begins = Record {
            request: record.id,
            epoch: journal.epoch(),
            unix_ms: unix_ms(),
            step: Step::Resumes,
            body: Vec::new(),
        };
        let orchestrator = self.orchestrator.clone();
        let begin = move |_| {
            // Fails while the orchestrator restarts: the next one begins all that have a place. A refused request ends with its first record.
            orchestrator.send(OrchestratorMsg::Begin(record));
        };
        journal.append(begins, Box::new(begin));
        true
    }
}

/// The answer to a request that cannot go on; its records stay for people to read.
fn set_aside(id: RequestId, reason: &str) -> Answer {
    tracing::error!(request = %id, reason, "a request is set aside");
    let failure = Failure::internal(format!(
        "the request was set aside after a restart: {reason}"
    ));
    let failure = failure.hint("what it did until then is in the node's journal");
    Shared::failed(id, failure)
}

/// As much of a request as its acceptance tells any build: the user and the query. None without both: a stranger must not see it.
fn shell(id: RequestId, head: &Head, bodies: &[Vec<u8>]) -> Option<Read> {
    let first: Value = serde_json::from_slice(bodies.first()?).ok()?;
    let accepted = first.get("accepted")?;
    let query = accepted.pointer("/request/query")?.as_str()?;
    let mut request = UserRequest::new(query);
    request.user = match accepted.get("user") {
        Some(user) => Some(user.as_str()?.to_owned()),
        None => None,
    };
    let key = owner_and_key(&head.mark).map(|(_, key)| key);
    let mut record = RequestRecord::new((id, key.as_deref()), request.into(), None);
    record.accepted_unix_ms = head.opened_ms;
    Some(Read {
        record,
        resumed: resume(Policy::default(), []),
        answer: None,
    })
}

/// A record of nothing but the answer.
fn last_record(journal: &Arc<dyn Journal>, answer: &Answer) -> Record {
    let entry = Entry {
        answer: Some(answer.clone()),
        ..Entry::default()
    };
    Record {
        request: answer.request_id,
        epoch: journal.epoch(),
        unix_ms: unix_ms(),
        step: Step::Ends,
        body: entry.written(),
    }
}

impl Shared {
    /// Returns the request with the time at which it must begin, whatever agents there are: it may have to end then.
    fn restore_open(&self, known: Read) -> (Instant, Arc<RequestRecord>) {
        let Read {
            record,
            mut resumed,
            answer: _,
        } = known;
        let ends = resumed.timers.iter().filter(|(key, _)| match key {
            TimerKey::Deadline
            | TimerKey::Closing
            | TimerKey::Planning { .. }
            | TimerKey::Flow { .. } => true,
            TimerKey::Attempt { .. } | TimerKey::Silence { .. } | TimerKey::Retry { .. } => false,
        });
        let due = ends.map(|(_, at)| *at).min().unwrap_or_default();
        let due = record.accepted + due;
        record.retell(std::mem::take(&mut resumed.progress));
        if let Some(witness) = self.witness.get() {
            // It was accepted: a budget that is used up now refuses later requests.
            let _ = witness.accepts(Some(record.id), &record.request);
        }
        *record.resumed.lock() = Some(Box::new(resumed));
        let record = Arc::new(record);
        self.requests.restore(record.clone());
        (due, record)
    }

    fn restore_answered(&self, known: Read, head: &Head) {
        let Read {
            record,
            resumed,
            answer,
        } = known;
        record.retell(resumed.progress);
        let record = Arc::new(record);
        self.requests.restore(record.clone());
        if let Some(answer) = answer {
            record.commit(head.ended_ms.unwrap_or_else(unix_ms), answer, None);
        }
        let bytes = usize::try_from(head.bytes).unwrap_or(usize::MAX);
        self.requests.finished(record.id, bytes);
    }

    /// Writes down the answer to a request whose actor is dead, and calls `heard` when it is durable.
    pub(crate) fn end(&self, answer: Answer, heard: impl FnOnce(Answer) + Send + 'static) {
        let Some(journal) = self.journal.get() else {
            return heard(answer);
        };
        let record = last_record(journal, &answer);
        journal.append(
            record,
            Box::new(move |outcome| {
                // Refused where the actor had written the same answer, or nothing yet.
                if let Err(refusal) = outcome {
                    tracing::warn!(request = %answer.request_id, %refusal, "the answer is not written again");
                }
                heard(answer);
            }),
        );
    }

    /// Why no request can be accepted.
    pub(crate) fn check_journal(&self) -> Result<(), Failure> {
        let trouble = self.journal.get().and_then(|journal| journal.trouble());
        let trouble = trouble.or_else(|| self.unkept.get().cloned());
        trouble.map_or(Ok(()), |trouble| Err(unwritable(&trouble)))
    }
}

/// The refusal of a request that cannot be kept.
pub(crate) fn unwritable(trouble: &str) -> Failure {
    let message = format!("the node's journal cannot keep requests: {trouble}");
    Failure::new(ErrorCode::NotReady, message)
        .hint("ask another node, or an administrator to look at this node's disk")
        .retry_after_ms(2_000)
}
