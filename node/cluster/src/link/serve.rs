//! Acts on each entry that arrives.
//!
//! Does not wait: it answers, starts or hands over; work that takes longer answers later.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use amcp_protocol::task::TaskOutcome;
use amcp_protocol::{
    AgentCard, AgentId, ErrorCode, Failure, FlowId, NodeName, RequestId, TaskRequest, TaskResponse,
};
use amcp_registry::{AgentPort, AgentState, AnswerPort, Registration, RosterChange, TaskKey};
use tokio::time::Instant;

use super::arrivals::Arrived;
use super::counters::count;
use super::frame::{self, Entry, FrameError, Kind};
use super::inbox::{Admitted, Cancelled, Name, Waiter};
use super::outbox::Parcel;
use super::peer::{Link, answered};
use super::roster::Joined;
use super::warrants::Doubt;
use super::{FileQuestion, Links, Question, Shared, forms};
use crate::info::Role;
use crate::membership::Event;
use crate::wire::{self, WireError};

/// Most tasks of other nodes at a time: the whole credit of sixteen peers.
const SERVING: usize = 4_096;

impl Links {
    /// Takes a frame that arrived at the port.
    pub(super) fn arrived(&self, bytes: &[u8]) {
        let shared = &self.0;
        let link = frame::token(bytes).and_then(|token| shared.link(token));
        let Some(link) = link.filter(|_| !shared.overslept()) else {
            // The frame's link no longer stands, or this node slept so long that others have its work.
            count(&shared.counters.dropped_late);
            return;
        };
        let entries = match frame::open(bytes) {
            Ok((_, entries)) => entries,
            Err(error) => {
                count(&shared.counters.unknown);
                if let FrameError::Version(_) = error {
                    refuse(&link, WHOLE_FRAME, 0, &error.to_string());
                }
                return;
            }
        };
        for entry in entries {
            match entry {
                Ok(entry) => shared.entry(&link, entry),
                Err(_) => count(&shared.counters.unknown),
            }
        }
    }
}

impl Shared {
    fn entry(self: &Arc<Self>, link: &Arc<Link>, entry: Entry<'_>) {
        let why = match Kind::of(entry.kind) {
            Some(kind) => match self.known_entry(link, kind, entry.id, entry.body) {
                Ok(()) => return,
                Err(error) => format!("{kind:?}: {error}"),
            },
            None => format!(
                "this build does not understand entries of kind {}",
                entry.kind
            ),
        };
        count(&self.counters.unknown);
        tracing::warn!(peer = %link.peer(), why, "this node cannot read an entry of a peer, which may run another version");
        // A peer that asked must learn of the refusal; an entry that only reports waits for no answer.
        let told = Kind::of(entry.kind).is_some_and(|kind| !kind.asks());
        if !told && entry.id != 0 {
            refuse(link, entry.kind, entry.id, &why);
        }
    }

    fn known_entry(
        self: &Arc<Self>,
        link: &Arc<Link>,
        kind: Kind,
        id: u64,
        body: &[u8],
    ) -> Result<(), WireError> {
        match kind {
            Kind::Beat => {}
            Kind::Task2 => self.task(link, id, forms::read_task(body)?),
            Kind::Cancel => self.cancelled(link, id),
            Kind::Outcome2 => outcome(link, id, body)?,
            Kind::Sign => link.heard(id, &String::from_utf8_lossy(body)),
            Kind::Lost => drop(link.awaited(id)),
            Kind::Refused => refused(link, id, body)?,
            Kind::Joined => self.joined(link, wire::decode(body)?),
            Kind::Fares => self.registry.tell_roster(RosterChange {
                fares: wire::decode::<Vec<(AgentId, AgentState)>>(body)?,
                ..RosterChange::of(link.peer().clone())
            }),
            Kind::Left => self.registry.tell_roster(RosterChange {
                left: wire::decode::<Vec<(AgentId, u64)>>(body)?,
                ..RosterChange::of(link.peer().clone())
            }),
            Kind::Resync => self.send_roster(&self.roster.lock(), link),
            Kind::Anew => self.tell_roster(link, |change| change.begin_whole = true),
            Kind::Whole => self.tell_roster(link, |change| change.end_whole = true),
            Kind::Members => self.event(Event::Members(wire::decode(body)?)),
            Kind::Draining => self.event(Event::Draining(link.info.token_in)),
            Kind::Goodbye => self.event(Event::Goodbye(link.info.token_in)),
            // A node that is not trusted with everything is not trusted with other users' requests.
            Kind::Question | Kind::FlowAnswer | Kind::List if self.trust.limits(link.peer()) => {
                count(&self.counters.not_allowed);
                link.say(Kind::Reply, id, &[]);
            }
            Kind::Question => self.question(link, id, wire::decode(body)?),
            Kind::FlowAnswer => self.flow_answer(link, id, wire::decode(body)?)?,
            Kind::File => self.file(link, id, body)?,
            Kind::List => self.list(link, id, body)?,
            Kind::Reply => link.replied(id, body.to_vec()),
            Kind::Parcel => self.parcel(link, id, wire::decode(body)?),
            Kind::Fetch => link.send_piece(id, number(body)?),
            Kind::Piece => self.piece(link, id, body)?,
            Kind::Drop => link.drop_parcel(id),
            Kind::Settled => self.inbox.lock().settled(link.info.token_in, id),
        }
        Ok(())
    }

    pub(super) fn tell_roster(&self, link: &Link, fill: impl FnOnce(&mut RosterChange)) {
        let mut change = RosterChange::of(link.peer().clone());
        fill(&mut change);
        self.registry.tell_roster(change);
    }

    fn event(&self, event: Event) {
        // The receiver is missing only while the node ends.
        let _ = self.events.send(event);
    }

    /// Takes a peer's task.
    fn task(
        self: &Arc<Self>,
        link: &Arc<Link>,
        id: u64,
        (agent, mut task): (AgentId, TaskRequest),
    ) {
        let waiter = Waiter {
            link: Arc::clone(link),
            token: link.info.token_in,
            id,
        };
        link.serving.fetch_add(1, Relaxed);
        // A warrant costs the check of a signature, so a node that has no room looks at none.
        let judged = self.has_room(link).and_then(|()| {
            let judged = self.judge(link.peer(), &mut task);
            judged.inspect_err(|failure| {
                count(&self.counters.not_allowed);
                self.desk.refused(link.peer(), &task, failure);
            })
        });
        if let Err(failure) = judged {
            let key = TaskKey::of(&task);
            let refused = answered(key, &self.name, TaskOutcome::Refused(failure));
            tell(&waiter, Some(&encoded(refused)));
            return;
        }
        let admitted = self.inbox.lock().admit(&task, waiter, Instant::now());
        count(&self.counters.tasks_in);
        match admitted {
            Admitted::Execute(name) => self.execute(name, agent, task),
            Admitted::Joined => count(&self.counters.deduplicated),
            Admitted::Known(waiter, response) => {
                count(&self.counters.deduplicated);
                tell(&waiter, Some(&response));
            }
        }
    }

    /// Refuses a task while this node takes none.
    fn has_room(&self, link: &Link) -> Result<(), Failure> {
        let (code, why) = if self.draining.load(Relaxed) {
            (ErrorCode::AgentUnavailable, "is draining")
        } else if self.inbox.lock().serving() >= SERVING || link.is_stuffed() {
            let why = "works on as many tasks of other nodes as it takes";
            (ErrorCode::AgentBusy, why)
        } else {
            return Ok(());
        };
        Err(Failure::new(code, format!("{} {why}", self.name)))
    }

    /// Judges a peer's task by what the node may ask for here whose request it is, or the peer if that node has no table, and
    /// takes the roles from its user that this node may not issue. Each agent whose call led to the task must be permitted it.
    fn judge(&self, peer: &NodeName, task: &mut TaskRequest) -> Result<(), Failure> {
        let issuer = self.issuer(peer, task).map_err(|doubt| {
            count(&self.counters.unproven);
            doubt.failure(task, peer)
        })?;
        let limits = self.trust.limits(&issuer);
        self.trust
            .judge(if limits { &issuer } else { peer }, task)?;
        let path = &task.lineage.path;
        let caller = path.last().and_then(|step| step.caller.as_ref());
        if let Some(caller) = caller.filter(|caller| !is_of(caller, peer)) {
            let message = format!("{peer} names {caller}, an agent of another node, as the caller");
            return Err(Failure::new(ErrorCode::NotPermitted, message));
        }
        let Some(contract) = self.registry.load().contract(&task.capability).cloned() else {
            return Ok(());
        };
        let permissions = self.registry.permissions();
        for caller in path.iter().filter_map(|step| step.caller.as_ref()) {
            let called = permissions.check_call(caller, &contract.capability);
            called.map_err(|denial| denial.of_agent(caller, &task.capability))?;
        }
        Ok(())
    }

    /// The node whose request a task belongs to. The link proves it for the peer's own. As soon as this node trusts any node with
    /// less than everything, what a peer passes on needs a warrant, and takes no longer than the warrant lives.
    fn issuer(&self, peer: &NodeName, task: &mut TaskRequest) -> Result<NodeName, Doubt> {
        if self.trust.issue.is_empty() {
            return Ok(peer.clone());
        }
        let backing = task.lineage.backing.as_ref();
        let Some(sealed) = backing.and_then(|backing| backing.sealed()) else {
            let own = task.lineage.depth == 0;
            return own.then(|| peer.clone()).ok_or(Doubt::Missing);
        };
        if sealed.issuer != *peer {
            let rest = self.warrants.prove(&sealed, task)?.as_millis();
            let rest = u64::try_from(rest).unwrap_or(u64::MAX);
            task.deadline_ms = task.deadline_ms.min(rest);
        }
        Ok(sealed.issuer)
    }

    fn execute(self: &Arc<Self>, name: Name, agent: AgentId, task: TaskRequest) {
        let key = TaskKey::of(&task);
        let directory = self.registry.load();
        let entry = directory
            .agent(&agent)
            .filter(|entry| entry.is_present() && entry.node.is_none());
        let Some(entry) = entry else {
            let message = format!("{agent} is no longer there");
            let failure = Failure::new(ErrorCode::AgentUnavailable, message);
            let refused = answered(key, &self.name, TaskOutcome::Refused(failure));
            self.ended(name, Some(refused), false);
            return;
        };
        let contract = directory.contract(&task.capability);
        let once = contract.is_none_or(|contract| !contract.capability.idempotent);
        let (shared, done, of) = (Arc::clone(self), name.clone(), key.clone());
        let port = AnswerPort::new(move |response| {
            let lost = || {
                let message = format!("{agent} ended while it had the task");
                let failure = Failure::new(ErrorCode::AgentLost, message);
                TaskResponse {
                    agent,
                    ..answered(of, &shared.name, TaskOutcome::Failed(failure))
                }
            };
            // Answered and kept like any other failure, since another attempt must not begin the work again.
            let response = response.or_else(|| once.then(lost));
            shared.ended(done, response, once);
        });
        let (shared, of) = (Arc::clone(self), name.clone());
        let port = port.hearing(move |note| {
            let hearing = shared.inbox.lock().hearing(&of);
            for (link, id) in hearing {
                link.send_sign(id, note);
            }
        });
        self.inbox.lock().placed(&name, entry.port.clone());
        if let Err(failure) = entry.port.execute(task, port) {
            let refused = answered(key, &self.name, TaskOutcome::Refused(failure));
            self.ended(name, Some(refused), false);
        }
    }

    /// Answers all links that wait for a task that ended, or whose agent did. `once`: a failed task must not be executed again.
    fn ended(&self, name: Name, response: Option<TaskResponse>, once: bool) {
        let done = response.as_ref().is_some_and(|response| {
            response.outcome.result().is_some() || once && !response.outcome.begins_anew()
        });
        let body = response.map(|response| Arc::new(encoded(response)));
        let kept = body.clone().filter(|_| done);
        let waiters = self.inbox.lock().ended(name, kept, Instant::now());
        if waiters.is_empty() {
            // The asker's link is gone; its next attempt finds the kept answer.
            count(&self.counters.dropped_late);
        }
        for waiter in waiters {
            tell(&waiter, body.as_deref().map(Vec::as_slice));
        }
    }

    fn cancelled(&self, link: &Link, id: u64) {
        let cancelled = self.inbox.lock().cancel(link.info.token_in, id);
        if let Some(Cancelled { waiter, executed }) = cancelled {
            tell(&waiter, None);
            if let Some((port, key)) = executed {
                port.cancel(key);
            }
            return;
        }
        // A large task may still be on its way.
        let arriving = link.arrivals.lock().cancel(id);
        if let Some(parcel) = arriving {
            link.say(Kind::Drop, parcel, &[]);
            link.say(Kind::Lost, id, &[]);
            link.fetch();
        }
    }

    fn joined(&self, link: &Arc<Link>, joined: Joined) {
        let Joined { cards, agents } = joined;
        let registrations = agents.into_iter().filter_map(|(id, incarnation, state, card)| {
            let body = cards.get(usize::try_from(card).ok()?)?;
            if !is_of(&id, link.peer()) {
                tracing::warn!(agent = %id, node = %link.peer(), "a node offers an agent whose id names another node");
                return None;
            }
            let card = AgentCard {
                id: id.clone(),
                description: body.description.clone(),
                capabilities: body.capabilities.clone(),
            };
            if id.is_orchestrator() && !link.info.peer.roles.contains(&Role::Orchestrator) {
                count(&self.counters.not_allowed);
                tracing::warn!(agent = %id, node = %link.peer(), "a node without an orchestrator offers one");
                return None;
            }
            if let Some(capability) = self.trust.offer.refuses(link.peer(), &card) {
                count(&self.counters.not_allowed);
                tracing::warn!(agent = %id, node = %link.peer(), capability, "the node may not offer this capability here; see cluster_allow");
                return None;
            }
            let port = AgentPort::Remote(id.clone(), Arc::clone(link) as _);
            Some((Registration::new(card, incarnation, port), state))
        });
        self.tell_roster(link, |change| change.joined = registrations.collect());
    }

    fn question(self: &Arc<Self>, link: &Arc<Link>, id: u64, question: Question) {
        let reply = match question {
            Question::Request(request) => {
                let view = self.desk.request(request);
                wire::encode(&view.and_then(|view| serde_json::to_vec(&view).ok()))
            }
            Question::Cancel(request) => wire::encode(&self.desk.cancel(request)),
        };
        if let Ok(reply) = reply {
            link.say(Kind::Reply, id, &reply);
        }
    }

    fn flow_answer(
        &self,
        link: &Arc<Link>,
        id: u64,
        (request, flow, answer): (RequestId, FlowId, Vec<u8>),
    ) -> Result<(), WireError> {
        let answer = serde_json::from_slice(&answer);
        let answer = answer.map_err(|error| WireError::Malformed(error.to_string()))?;
        let judged = self.desk.answer_flow(request, flow, answer);
        let link = Arc::clone(link);
        // This task ends soon: the request's actor judges an answer as its next message.
        tokio::spawn(async move {
            let refusal = judged.await.map(|judged| serde_json::to_vec(&judged.err()));
            if let Ok(reply) = wire::encode(&refusal.and_then(Result::ok)) {
                link.say(Kind::Reply, id, &reply);
            }
        });
        Ok(())
    }

    fn list(&self, link: &Arc<Link>, id: u64, wanted: &[u8]) -> Result<(), WireError> {
        let wanted = serde_json::from_slice(wanted)
            .map_err(|error| WireError::Malformed(error.to_string()))?;
        let list = self.desk.list(wanted);
        if let Ok(reply) = wire::encode(&list.and_then(|list| serde_json::to_vec(&list).ok())) {
            link.say(Kind::Reply, id, &reply);
        }
        Ok(())
    }

    fn file(&self, link: &Arc<Link>, id: u64, question: &[u8]) -> Result<(), WireError> {
        let asked: FileQuestion = serde_json::from_slice(question)
            .map_err(|error| WireError::Malformed(error.to_string()))?;
        let piece = self.desk.file(asked.name, asked.from);
        let link = Arc::clone(link);
        // This task ends soon: it reads one piece.
        tokio::spawn(async move {
            let reply = piece
                .await
                .map(|piece| (serde_json::to_vec(&piece).ok(), piece.bytes));
            let reply = reply.and_then(|(about, bytes)| Some((about?, bytes)));
            if let Ok(reply) = wire::encode(&reply) {
                link.say(Kind::Reply, id, &reply);
            }
        });
        Ok(())
    }

    fn parcel(&self, link: &Link, id: u64, parcel: Parcel) {
        if link.arrivals.lock().announced(id, parcel) {
            return link.fetch();
        }
        count(&self.counters.unknown);
        link.say(Kind::Drop, parcel.number, &[]);
        let why = format!("this node does not take a body of {} bytes", parcel.length);
        match Kind::of(parcel.kind) {
            Some(Kind::Outcome2) => give_up(link, id, &why, |message| {
                TaskOutcome::Failed(Failure::new(ErrorCode::ResultTooLarge, message))
            }),
            Some(kind) if !kind.asks() => {}
            _ => refuse(link, parcel.kind, id, &why),
        }
    }

    fn piece(
        self: &Arc<Self>,
        link: &Arc<Link>,
        parcel: u64,
        body: &[u8],
    ) -> Result<(), WireError> {
        let from = number(body)?;
        let bytes = body.get(8..).unwrap_or_default();
        let now = Instant::now();
        let arrived = link.arrivals.lock().piece(parcel, from, bytes, now);
        link.fetch();
        match arrived {
            Arrived::Part => {}
            Arrived::Whole(kind, id, body) => {
                let body = &body;
                self.entry(link, Entry { kind, id, body });
            }
            Arrived::Stray => count(&self.counters.dropped_late),
        }
        Ok(())
    }
}

/// A response as it travels; a failure replaces a response that cannot cross.
fn encoded(mut response: TaskResponse) -> Vec<u8> {
    forms::outcome(&response).unwrap_or_else(|error| {
        tracing::warn!(request = %response.request_id, task = %response.task_id, %error, "a result cannot cross to the other node");
        let failure = Failure::new(ErrorCode::ResultTooLarge, error.to_string());
        response.outcome = TaskOutcome::Failed(failure);
        response.calls.clear();
        forms::outcome(&response).unwrap_or_default()
    })
}

/// Answers a link that waits: with the response that all share, or with a loss if the agent ended without one.
fn tell(waiter: &Waiter<Link>, response: Option<&[u8]>) {
    let link = &waiter.link;
    match response.map(|response| link.send_bytes(Kind::Outcome2, waiter.id, response)) {
        Some(Ok(())) => {}
        Some(Err(failure)) => {
            tracing::warn!(peer = %link.peer(), %failure, "this node cannot send a result to a peer");
            link.say(Kind::Lost, waiter.id, &[]);
        }
        None => link.say(Kind::Lost, waiter.id, &[]),
    }
    // Last, so that the entry counts as in flight while it is sent and may share a frame.
    link.serving.fetch_sub(1, Relaxed);
}

fn outcome(link: &Link, id: u64, body: &[u8]) -> Result<(), WireError> {
    let Some((key, port)) = link.awaited(id) else {
        return Ok(());
    };
    // An unreadable response drops the port, which tells the request that the task is lost.
    let response = forms::read_outcome(body, key)?;
    link.settle(id);
    port.answer(response);
    Ok(())
}

/// In place of a kind: the sender understands no frame of this node.
const WHOLE_FRAME: u8 = 0;

/// Refuses an entry of the peer that this node does not understand, by its kind and the reason.
fn refuse(link: &Link, kind: u8, id: u64, why: &str) {
    link.say(Kind::Refused, id, &[&[kind], why.as_bytes()].concat());
}

/// Takes the peer's refusal of an entry of this node, or of all its frames.
fn refused(link: &Link, id: u64, body: &[u8]) -> Result<(), WireError> {
    let Some((&kind, why)) = body.split_first() else {
        return Err(WireError::Malformed("the refusal names no kind".to_owned()));
    };
    let why = String::from_utf8_lossy(why);
    let known = Kind::of(kind);
    let ids = match known {
        // The peer never understood a frame, so it began no task.
        None if kind == WHOLE_FRAME => link.all_awaited(),
        Some(Kind::Task2) => vec![id],
        Some(question) if question.is_question() => {
            link.not_replied(id);
            Vec::new()
        }
        _ => Vec::new(),
    };
    tracing::warn!(peer = %link.peer(), %why, "a peer does not understand this node; it may run another version");
    for id in ids {
        give_up(link, id, &why, |message| {
            TaskOutcome::Refused(Failure::new(ErrorCode::UnsupportedWire, message))
        });
    }
    Ok(())
}

/// Answers a task in place of the peer.
fn give_up(link: &Link, id: u64, why: &str, outcome: impl FnOnce(String) -> TaskOutcome) {
    if let Some((key, port)) = link.awaited(id) {
        let message = format!(
            "the exchange of the task with {} failed: {why}",
            link.peer()
        );
        port.answer(answered(key, link.peer(), outcome(message)));
    }
}

/// Whether an agent's id says that it runs on a node.
fn is_of(agent: &AgentId, node: &NodeName) -> bool {
    let suffix = agent.as_str().rsplit_once('@');
    suffix.is_some_and(|(_, of)| of == node.as_str())
}

fn number(body: &[u8]) -> Result<u64, WireError> {
    let number = body.first_chunk();
    let number = number.ok_or_else(|| WireError::Malformed("a number is missing".to_owned()))?;
    Ok(u64::from_be_bytes(*number))
}
