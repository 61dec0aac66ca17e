//! The trait that a specialist implements: a card and a handler.
//!
//! Does not deal with mailboxes, queues, time-outs, retries or restarts; the shell and the supervisor do.

use std::sync::Arc;
use std::time::Duration;

use amcp_protocol::flow::unsupported;
use amcp_protocol::{
    AgentCard, CapabilityName, EndedFlow, ErrorCode, Failure, FlowKind, FlowRequest, Grant,
    Lineage, Payload, RequestId, TaskId,
};
use amcp_registry::RegistryHandle;
use async_trait::async_trait;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::call::{Caller, Calls};
use crate::shell::Company;

/// A task to do. Its params keep the capability's schema.
#[derive(Debug, Clone, PartialEq)]
pub struct Task {
    /// Which of the card's capabilities is wanted.
    pub capability: CapabilityName,
    /// The params: an object.
    pub params: Payload,
}

impl Task {
    /// The params as a type of one's own.
    ///
    /// # Errors
    /// [`ErrorCode::InvalidParams`] when they do not fit; what the schema says cannot happen.
    pub fn params<T: DeserializeOwned>(&self) -> Result<T, Failure> {
        T::deserialize(&*self.params).map_err(|error| {
            Failure::new(
                ErrorCode::InvalidParams,
                format!("params of {}: {error}", self.capability),
            )
        })
    }

    /// A text param; empty when it is missing.
    #[must_use]
    pub fn text(&self, param: &str) -> &str {
        self.params
            .get(param)
            .and_then(Value::as_str)
            .unwrap_or_default()
    }
}

/// What a handler may know about the task's surroundings, and its way to other agents ([`Context::call`]). It grows with the
/// mesh; get everything through its methods.
#[derive(Debug)]
pub struct Context {
    pub(crate) request_id: RequestId,
    pub(crate) task_id: TaskId,
    pub(crate) attempt: u32,
    pub(crate) grant: Arc<Grant>,
    pub(crate) lineage: Arc<Lineage>,
    pub(crate) traceparent: Option<String>,
    pub(crate) flows: Vec<EndedFlow>,
    pub(crate) calls: Calls,
    pub(crate) caller: Option<Arc<Caller>>,
    pub(crate) deadline: Instant,
    pub(crate) company: Company,
}

impl Context {
    /// A context outside of any request: for testing a specialist by itself. It can call nobody.
    #[must_use]
    pub fn detached(request_id: RequestId, time_left: Duration) -> Self {
        Self {
            request_id,
            task_id: TaskId::new("t1").expect("a valid task id"),
            attempt: 1,
            grant: Arc::default(),
            lineage: Arc::default(),
            traceparent: None,
            flows: Vec::new(),
            calls: Calls::new(&Lineage::default()),
            caller: None,
            deadline: Instant::now() + time_left,
            company: Company::default(),
        }
    }

    /// The same, with agents that can be called.
    #[must_use]
    pub fn with_registry(mut self, registry: RegistryHandle) -> Self {
        let agent = None;
        self.caller = Some(Arc::new(Caller { registry, agent }));
        self
    }

    /// The request that the task belongs to.
    #[must_use]
    pub const fn request_id(&self) -> RequestId {
        self.request_id
    }

    /// A key that all attempts at this task share, and the repeated calls of a caller that is tried again: give it to a service
    /// that acts for you, so that the service acts once. At most 101 letters, digits and `/`, `-`, `_`.
    #[must_use]
    pub fn idempotency_key(&self) -> String {
        format!("{}/{}", self.request_id, self.task_id)
    }

    /// The task within its plan.
    #[must_use]
    pub const fn task_id(&self) -> &TaskId {
        &self.task_id
    }

    /// Counts from 1.
    #[must_use]
    pub const fn attempt(&self) -> u32 {
        self.attempt
    }

    /// Says that the result which follows is incomplete, and why: the request is then answered as partial.
    pub fn report_missing(&self, missing: Failure) {
        self.calls.report_missing(missing);
    }

    /// For a specialist that only carries tasks elsewhere. Says that the work began neither here nor there: the failure that
    /// `handle` returns becomes a refusal, after which the task may be tried again even if it must not be done twice. Has no effect
    /// once the task has called another agent.
    #[must_use]
    pub fn refuse(&self, failure: Failure) -> Failure {
        self.calls.refuse(failure.clone());
        failure
    }

    /// Whether a person can be asked for this kind of flow. Where not, [`Self::obtain`] ends the task as
    /// [`ErrorCode::FlowUnsupported`]: look here first if there is another way.
    #[must_use]
    pub fn supports(&self, kind: FlowKind) -> bool {
        self.grant.flows.contains(&kind)
    }

    /// A person's approval of what this task needs, with the payload that came with it. Call it before anything is done: without an
    /// answer so far, the error that `handle` returns ends the attempt, the agent is free, and the task comes again as another attempt
    /// with the answer. An answer counts for this question only: for the same kind, prompt and payload.
    ///
    /// # Errors
    /// [`ErrorCode::FlowRequired`] while nobody has answered, [`ErrorCode::FlowDenied`], [`ErrorCode::FlowExpired`];
    /// [`ErrorCode::FlowUnsupported`] when nobody can be asked.
    pub fn obtain(&self, flow: FlowRequest) -> Result<&EndedFlow, Failure> {
        let question = flow.question();
        let answers = |ended: &&EndedFlow| {
            let asker = ended.asker.as_ref().filter(|_| self.is_own(ended));
            asker.is_some_and(|asker| asker.ends_with(&question))
        };
        if let Some(ended) = self.flows.iter().rev().find(answers) {
            return ended.failure().map_or(Ok(ended), Err);
        }
        if !self.supports(flow.kind) {
            return Err(unsupported(flow.kind));
        }
        let asker = format!("{}/{}.{question}", self.idempotency_key(), self.attempt);
        Err(self.pass_on(Box::new(FlowRequest { asker, ..flow })))
    }

    /// The latest end of a flow of this kind that was opened for this task, whatever it asked: by the task itself, or by the
    /// orchestrator before the task began.
    #[must_use]
    pub fn answer(&self, kind: FlowKind) -> Option<&EndedFlow> {
        let mut ended = self.flows.iter().rev().filter(|e| e.kind == kind);
        ended.find(|ended| self.is_own(ended))
    }

    /// Whether a flow was opened for this task: by one of its attempts, or by the orchestrator before.
    pub(crate) fn is_own(&self, ended: &EndedFlow) -> bool {
        let asker = ended.asker.as_ref().map(|asker| asker.rsplit_once('/'));
        let own = |(asker, _)| asker == self.idempotency_key();
        asker.is_none_or(|attempt| attempt.is_some_and(own))
    }

    /// How the flows of this task and of what it caused ended so far, for a specialist that only carries tasks elsewhere.
    #[must_use]
    pub fn flows(&self) -> &[EndedFlow] {
        &self.flows
    }

    /// Says what the task needs of a person before it goes on: a failure of the code [`ErrorCode::FlowRequired`] that `handle`
    /// returns becomes the flow that was said last. For a specialist that only carries tasks elsewhere; others use [`Self::obtain`].
    #[must_use]
    pub fn pass_on(&self, flow: Box<FlowRequest>) -> Failure {
        let message = format!("it needs a person's answer first: {}", flow.prompt);
        self.calls.require(flow);
        Failure::new(ErrorCode::FlowRequired, message)
    }

    /// Says that the task goes on, with a few words for people (one line, at most 160 characters) or none. A
    /// capability that declares `x-idle-ms` must say so more often than that, or its attempt is given up; each word renews that
    /// time. Of words that follow each other within 100 ms the last counts, and people see a few of all: call this as often as
    /// you like. What this task calls speaks for it while it waits.
    pub fn progress(&self, note: &str) {
        self.company.give_sign(note);
    }

    /// Whom the task is done for.
    #[must_use]
    pub fn grant(&self) -> &Grant {
        &self.grant
    }

    /// How the task came about, and what it may still cause.
    #[must_use]
    pub fn lineage(&self) -> &Lineage {
        &self.lineage
    }

    /// W3C trace context of the request.
    #[must_use]
    pub fn traceparent(&self) -> Option<&str> {
        self.traceparent.as_deref()
    }

    /// What is left of the deadline.
    #[must_use]
    pub fn time_left(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }

    /// Completes when the result is no longer wanted. A handler that is dropped at an `await` needs not look; one that
    /// works in a blocking thread should.
    #[must_use]
    pub fn cancelled(&self) -> &CancellationToken {
        self.company.cancelled()
    }
}

/// Somebody who can do something.
///
/// The supervisor makes one value per agent and restart; `handle` is called for up to `concurrency` tasks at once.
#[async_trait]
pub trait Specialist: Send + Sync + 'static {
    /// Who it is and what it can do. Asked once, when the agent starts.
    fn card(&self) -> AgentCard;

    /// Whether `handle` never holds its thread up: it computes for microseconds, or waits at an `await`. Its tasks then begin
    /// in the agent's own actor, and only a task that waits goes on in a tokio task of its own, which costs less. Read once, when
    /// the agent starts.
    fn never_blocks(&self) -> bool {
        false
    }

    /// Does one task. The result is checked against the capability's schema. By convention it is an object whose field
    /// `text` holds one or two complete sentences for the user: a plain answer, without a language model, is composed of
    /// them.
    ///
    /// Dropped when the task is cancelled or its time is over. A panic costs this task and restarts the agent; the
    /// other tasks in its hands are ended first.
    ///
    /// # Errors
    /// [`Failure::task`] and other codes; which of them are tried again, and where, is decided by the request.
    async fn handle(&self, task: Task, ctx: &Context) -> Result<Value, Failure>;
}
