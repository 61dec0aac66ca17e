//! What the journal's records of a request say, and the requests of an earlier process that they bring back.
//!
//! Takes no decision about a request: `amcp_plan::resume` and the machine do.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use amcp_journal::{Head, Journal, Record, Step};
use amcp_plan::{Event, Policy, Resumed, resume};
use amcp_protocol::plan::ProposedTask;
use amcp_protocol::{Answer, ErrorCode, Failure, Lineage, Progress, Proof, RequestId, UserRequest};
use amcp_registry::bus::unix_ms;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use crate::actor::OrchestratorMsg;
use crate::handle::OrchestratorHandle;
use crate::record::{Phase, RequestRecord};
use crate::shared::Shared;

/// Most processes that may end while they take a request over: the next one sets it aside.
const TRIES: u32 = 2;
/// Period at which a request waits for an orchestrator that is restarting.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// A request at its acceptance, as the journal has it: with the fields that no body can set.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Acceptance {
    /// The version of the build that accepted it.
    build: String,
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
            build: env!("CARGO_PKG_VERSION").to_owned(),
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
    /// The time of the answer at the latest, without waits for flows.
    deadline: Instant,
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
    let time = policy.deadline;
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
        deadline: record.accepted + time,
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
        let message = "the node has just started, and the request waits for its place";
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
    /// Open requests that ended the processes that took them over, or that cannot be read: each is answered as failed.
    pub set_aside: Vec<RequestId>,
}

impl OrchestratorHandle {
    /// Keeps every request in this journal from now on, and takes over the requests that it has: answered ones can be read again, the
    /// latest first up to `retained`; open ones go on after [`Self::open`]. Call it once, before the first request.
    ///
    /// # Errors
    /// The journal is damaged; names the record and the request. Then nothing is kept.
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
        let mut waiting = Vec::new();
        for (id, head) in ended.into_iter().skip(latest).chain(open) {
            let bodies = journal.read(*id).map_err(|error| error.to_string())?;
            match read(*id, head, &bodies) {
                Ok(known) if known.answer.is_some() => {
                    shared.restore_answered(known, head);
                    recovered.answered += 1;
                }
                Ok(known) if head.tries <= TRIES => waiting.push(shared.restore_open(known)),
                Ok(mut known) => {
                    let reason = format!("{TRIES} processes ended while they took it over");
                    recovered.set_aside.push(*id);
                    known.answer = Some(set_aside(&journal, *id, &reason));
                    shared.restore_answered(known, head);
                }
                Err(reason) if head.ended_ms.is_none() => {
                    recovered.set_aside.push(*id);
                    set_aside(&journal, *id, &reason);
                }
                Err(reason) => {
                    tracing::error!(request = %id, reason, "an answered request cannot be read");
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
        waiting.sort_unstable_by_key(|(deadline, _)| *deadline);
        *shared.recovered.lock() = waiting;
        // A second journal would split the records of a request.
        let _ = shared.journal.set(journal);
        Ok(recovered)
    }

    /// Begins the recovered requests as places come free, those with the earliest deadlines first.
    pub(crate) fn resume(&self) {
        let waiting = std::mem::take(&mut *self.shared.recovered.lock());
        if waiting.is_empty() {
            return;
        }
        let handle = self.clone();
        tokio::spawn(async move {
            for (_, record) in waiting {
                let admission = handle.shared.admission.clone();
                let Ok(place) = admission.acquire_owned().await else {
                    return;
                };
                record.admit(place);
                while !handle
                    .orchestrator
                    .send(OrchestratorMsg::Begin(record.clone()))
                {
                    tokio::time::sleep(LOOK_AGAIN).await;
                }
            }
        });
    }
}

/// Answers a request that cannot go on; the records before stay for people to read.
fn set_aside(journal: &Arc<dyn Journal>, id: RequestId, reason: &str) -> Answer {
    tracing::error!(request = %id, reason, "a request is set aside");
    let failure = Failure::internal(format!(
        "the request was set aside after a restart: {reason}"
    ));
    let failure = failure.hint("what it did until then is in the node's journal");
    let answer = Shared::failed(id, failure);
    journal.append(last_record(journal, &answer), Box::new(|_| {}));
    answer
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
    fn restore_open(&self, known: Read) -> (Instant, Arc<RequestRecord>) {
        let Read {
            record,
            mut resumed,
            answer: _,
            deadline,
        } = known;
        record.retell(std::mem::take(&mut resumed.progress));
        if let Some(witness) = self.witness.get() {
            // It was accepted: a budget that is used up now refuses later requests.
            let _ = witness.accepts(Some(record.id), &record.request);
        }
        *record.resumed.lock() = Some(Box::new(resumed));
        let record = Arc::new(record);
        self.requests.restore(record.clone());
        (deadline, record)
    }

    fn restore_answered(&self, known: Read, head: &Head) {
        let Read {
            record,
            resumed,
            answer,
            deadline: _,
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
