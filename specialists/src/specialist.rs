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

/// A task. Its params keep the capability's schema.
#[derive(Debug, Clone, PartialEq)]
pub struct Task {
    /// One of the card's capabilities.
    pub capability: CapabilityName,
    /// An object.
    pub params: Payload,
}

impl Task {
    /// Reads the params as your own type.
    ///
    /// # Errors
    /// [`ErrorCode::InvalidParams`] when the params do not fit; they cannot break the schema.
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

/// The task's surroundings, as far as its handler may know them, and the way to other agents ([`Context::call`]).
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
    /// A context outside of any request, for tests of a single specialist. It can call no agent.
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

    /// Adds a registry whose agents the handler can call.
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

    /// A key that all attempts at this task share, and so do repeated calls of a retried caller: give it to a service that acts
    /// for you, so that the service acts once. At most 101 letters, digits and `/`, `-`, `_`.
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

    /// Whether the asker can put this kind of flow before a person. If not, [`Self::obtain`] ends the task as
    /// [`ErrorCode::FlowUnsupported`]: check this first if there is another way.
    #[must_use]
    pub fn supports(&self, kind: FlowKind) -> bool {
        self.grant.flows.contains(&kind)
    }

    /// Asks a person, and returns the approval with its payload. Call it before the task changes anything: while there is no
    /// answer, return its error. That ends the attempt and frees the agent, and the task comes again as another attempt with the
    /// answer. An answer counts for this question only: for the same kind, prompt and payload.
    ///
    /// # Errors
    /// [`ErrorCode::FlowRequired`] while there is no answer, [`ErrorCode::FlowDenied`], [`ErrorCode::FlowExpired`];
    /// [`ErrorCode::FlowUnsupported`] when the asker cannot put the flow before a person.
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

    /// The latest end of any flow of this kind that was opened for this task: by the task itself, or by the orchestrator before
    /// the task began.
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

    /// The ended flows of this task and of the work that it caused, for a specialist that only carries tasks elsewhere.
    #[must_use]
    pub fn flows(&self) -> &[EndedFlow] {
        &self.flows
    }

    /// Says that the task goes on, with a note for users (one line, at most 160 characters) or an empty one. A handler of a
    /// capability with `x-idle-ms` must call this before that time is over, or its attempt is given up; each call renews the time.
    /// Within 100 ms only the last note counts, and users see some of the notes: call this as often as you like. While the task
    /// waits for a call, the callee's notes count as its own.
    pub fn progress(&self, note: &str) {
        self.company.give_sign(note);
    }

    /// The user for whom the task is done, with the user's rights.
    #[must_use]
    pub fn grant(&self) -> &Grant {
        &self.grant
    }

    /// The origin of the task, and the calls that it may still cause.
    #[must_use]
    pub fn lineage(&self) -> &Lineage {
        &self.lineage
    }

    /// W3C trace context of the request.
    #[must_use]
    pub fn traceparent(&self) -> Option<&str> {
        self.traceparent.as_deref()
    }

    /// The time until the deadline.
    #[must_use]
    pub fn time_left(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }

    /// Cancelled when the result is no longer wanted. An `await` drops a cancelled handler, so only work in a blocking thread has
    /// to check this.
    #[must_use]
    pub fn cancelled(&self) -> &CancellationToken {
        self.company.cancelled()
    }
}

/// The work behind an agent.
///
/// The supervisor makes one value per agent and restart; `handle` runs for up to `concurrency` tasks of a capability at once.
#[async_trait]
pub trait Specialist: Send + Sync + 'static {
    /// The agent's id and capabilities. Read once, when the agent starts.
    fn card(&self) -> AgentCard;

    /// Whether `handle` never holds its thread up: it computes for microseconds, or waits at an `await`. Tasks then begin in the
    /// agent's own actor, which costs less, and only a task that waits gets its own tokio task. Read once, when the agent starts.
    fn never_blocks(&self) -> bool {
        false
    }

    /// Does one task. The shell checks the result against the capability's schema. By convention the result is an object whose
    /// field `text` holds one or two complete sentences for the user: a plain answer, without a language model, consists of them.
    ///
    /// Dropped when the task is cancelled or its time is over. A panic costs this task and restarts the agent; the agent's other
    /// tasks end first.
    ///
    /// # Errors
    /// [`Failure::task`] and other codes; the request decides whether and where the task is tried again.
    async fn handle(&self, task: Task, ctx: &Context) -> Result<Value, Failure>;
}
