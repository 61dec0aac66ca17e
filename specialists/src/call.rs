//! Calls that agents make of other agents, within the caller's grant, deadline, depth and budget.
//!
//! Does not decide whether a failed call is tried again ([`amcp_protocol::retry`] does) and does not check params or
//! results: the callee's shell does. A call keeps its own loop beside the request machine, which knows plans and rounds and on
//! which specialists do not depend (ADR-0015); `tests/tests/calls.rs` runs the same faults through both.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use amcp_protocol::capability::DELEGATES;
use amcp_protocol::flow::Subject;
use amcp_protocol::llm::{ChatReply, ChatRequest, SharedLlm, Usage};
use amcp_protocol::retry::{History, Patience, Verdict};
use amcp_protocol::task::{TaskOutcome, WIRE_VERSION, calls_used};
use amcp_protocol::{
    AgentId, CallBudget, CallReport, CapabilityName, Contract, ErrorCode, Failure, FlowRequest,
    Grant, Lineage, Payload, Step, TaskId, TaskRequest, TaskResponse,
};
use amcp_registry::{AgentPort, AnswerPort, InFlight, RegistryHandle, TaskKey};
use parking_lot::Mutex;
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use tokio::sync::{oneshot, watch};
use tokio::time::{Instant, sleep, sleep_until};

use crate::specialist::Context;

/// Most calls that a task reports besides those that its budget bounds.
const MAX_REPORTS: usize = Lineage::CALLS as usize;

/// The calling agent, and the registry in which it finds others.
#[derive(Debug)]
pub(crate) struct Caller {
    pub(crate) registry: RegistryHandle,
    /// None for a context outside of any agent.
    pub(crate) agent: Option<AgentId>,
}

/// The calls that a task has made so far, and the budget for further calls.
#[derive(Debug)]
pub(crate) struct Calls(Mutex<Ledger>);

#[derive(Debug)]
struct Ledger {
    budget: CallBudget,
    /// How often the task made each call, by the call's digest.
    made: HashMap<Digest, u32>,
    reports: Vec<CallReport>,
    /// What models took for the task and for its calls.
    usage: Usage,
    /// Why parts of the task's result are missing.
    missing: Option<Failure>,
    /// The failure with which the task's handler says that no work began.
    refused: Option<Failure>,
    /// Whether a call may have done work that must not be done twice.
    acted: bool,
    /// The latest question of the task's handler to a person: several calls at once may each ask.
    required: Option<Box<FlowRequest>>,
}

impl Calls {
    pub(crate) fn new(lineage: &Lineage) -> Self {
        Self(Mutex::new(Ledger {
            budget: CallBudget::new(lineage.calls),
            made: HashMap::new(),
            reports: Vec::new(),
            usage: Usage::default(),
            missing: None,
            refused: None,
            acted: false,
            required: None,
        }))
    }

    /// The calls, and what models took.
    pub(crate) fn take(&self) -> (Vec<CallReport>, Usage) {
        let mut ledger = self.0.lock();
        (std::mem::take(&mut ledger.reports), ledger.usage)
    }

    /// The attempt's outcome, from the handler's result and its earlier reports.
    pub(crate) fn outcome(&self, returned: Result<Payload, Failure>) -> TaskOutcome {
        let mut ledger = self.0.lock();
        match returned {
            Ok(value) => match ledger.missing.take() {
                Some(missing) => TaskOutcome::Partly(value, missing),
                None => TaskOutcome::Done(value),
            },
            Err(failure) if ledger.refused.as_ref() == Some(&failure) && ledger.made.is_empty() => {
                TaskOutcome::Refused(failure)
            }
            Err(failure) => match ledger.required.take() {
                Some(flow) if failure.code == ErrorCode::FlowRequired => {
                    if ledger.acted {
                        return TaskOutcome::Failed(too_late(failure));
                    }
                    TaskOutcome::FlowRequired(flow)
                }
                Some(_) | None => TaskOutcome::Failed(failure),
            },
        }
    }
}

impl Context {
    /// Calls another agent and waits for its result, at most as long as this task may take. The call is made for the same user,
    /// counts against this task's budget of calls, and shows in the request's trace. Dropping the future cancels the call.
    ///
    /// Failed attempts are tried again at other agents, like those of a plan's tasks.
    ///
    /// # Errors
    /// The callee's failure. A code that would say of *this* agent that it had not begun, or had died, arrives as
    /// [`ErrorCode::DependencyFailed`]. [`ErrorCode::UnknownCapability`], [`ErrorCode::NotPermitted`] and
    /// [`ErrorCode::BudgetExceeded`] without any attempt.
    pub async fn call(&self, capability: &CapabilityName, params: Value) -> Result<Value, Failure> {
        let params = Payload::from(params);
        let mut call = Call::new(self, capability, &params);
        let outcome = call.run(params).await;
        call.error = outcome.as_ref().err().map(|failure| failure.code);
        outcome
            .map(Payload::into_value)
            .map_err(|failure| as_dependency(capability, failure))
    }

    /// Like [`Self::call`], for a capability whose name is written in the source.
    ///
    /// # Errors
    /// As [`Self::call`]; [`ErrorCode::UnknownCapability`] when `capability` is not a capability name.
    pub async fn call_named(&self, capability: &str, params: Value) -> Result<Value, Failure> {
        let name = CapabilityName::new(capability)
            .map_err(|error| Failure::new(ErrorCode::UnknownCapability, error.to_string()))?;
        self.call(&name, params).await
    }

    /// Declares that the result will be incomplete, and why: the request then ends as partial.
    pub fn report_missing(&self, missing: Failure) {
        self.calls.0.lock().missing = Some(missing);
    }

    /// For a specialist that only carries tasks elsewhere. Declares that the work began neither here nor there: if `handle` returns
    /// this failure, it becomes a refusal, after which the task may be tried again even if it must not be done twice. Has no effect
    /// once the task has called another agent.
    #[must_use]
    pub fn refuse(&self, failure: Failure) -> Failure {
        self.calls.0.lock().refused = Some(failure.clone());
        failure
    }

    /// Names the flow that the task needs before it goes on: if `handle` returns [`ErrorCode::FlowRequired`], the attempt ends with
    /// the flow that was named last. For a specialist that only carries tasks elsewhere; others use [`Self::obtain`].
    #[must_use]
    pub fn pass_on(&self, flow: Box<FlowRequest>) -> Failure {
        let message = format!("the task needs a person's answer first: {}", flow.prompt);
        self.calls.0.lock().required = Some(flow);
        Failure::new(ErrorCode::FlowRequired, message)
    }

    /// Asks a model for the task. What the model takes counts in the request's `usage` and in its user's budget.
    ///
    /// # Errors
    /// Those of the model.
    pub async fn chat(&self, llm: &SharedLlm, request: ChatRequest) -> Result<ChatReply, Failure> {
        let reply = llm.chat(request).await?;
        self.report_usage(reply.usage);
        Ok(reply)
    }

    /// Counts what models took for the task elsewhere, as [`Self::chat`] does for its own calls.
    pub fn report_usage(&self, usage: Usage) {
        self.calls.0.lock().usage += usage;
    }

    /// Shows calls that [`Self::call`] did not make, below the task in the request's trace; drops those past the bound of
    /// reports.
    pub fn report_calls(&self, calls: Vec<CallReport>) {
        let mut ledger = self.calls.0.lock();
        let room = MAX_REPORTS.saturating_sub(ledger.reports.len());
        ledger.reports.extend(calls.into_iter().take(room));
    }
}

/// The failure of a call as the caller's own asker sees it, once the call's attempts are over.
fn as_dependency(capability: &CapabilityName, failure: Failure) -> Failure {
    if !failure.code.is_transient() && failure.code != ErrorCode::Cancelled {
        return failure;
    }
    let message = format!("the call of {capability} failed: {failure}");
    Failure {
        hint: failure.hint,
        ..Failure::new(ErrorCode::DependencyFailed, message)
    }
}

/// After the person's answer the task would begin anew and repeat calls that must not be repeated.
fn too_late(failure: Failure) -> Failure {
    let message =
        format!("{failure}; but the task has made a call before that must not be repeated");
    Failure::new(ErrorCode::DependencyFailed, message)
        .hint("the specialist should ask before it acts")
}

/// An attempt at a call that an agent works on.
struct Sent {
    answered: oneshot::Receiver<TaskResponse>,
    /// The callee's latest sign of life.
    signs: watch::Receiver<String>,
    _in_flight: InFlight,
}

/// One call, from its first attempt to its report.
struct Call<'a> {
    ctx: &'a Context,
    capability: &'a CapabilityName,
    params: Payload,
    task_id: TaskId,
    attempt: u32,
    /// Agents that failed, and the caller itself, which may have no place left for a task that it waits for.
    avoid: Vec<AgentId>,
    agent: Option<AgentId>,
    began: Instant,
    /// The end of the call: the caller's deadline, or twice an attempt's time-out, as for a task of a plan.
    deadline: Instant,
    /// The attempt under way.
    sent: Option<(AgentPort, TaskKey)>,
    /// Whether the call has used up a part of the budget.
    counted: bool,
    /// The code of the call's failure; a call that is dropped was cancelled.
    error: Option<ErrorCode>,
    /// The callee's own calls.
    below: Vec<CallReport>,
}

impl<'a> Call<'a> {
    fn new(ctx: &'a Context, capability: &'a CapabilityName, params: &Payload) -> Self {
        let digest = digest(capability, params);
        let number = {
            let mut ledger = ctx.calls.0.lock();
            let made = ledger.made.entry(digest).or_default();
            *made += 1;
            *made
        };
        let caller = ctx.caller.as_ref();
        Self {
            ctx,
            capability,
            params: params.clone(),
            task_id: task_id(&ctx.task_id, digest, number),
            attempt: 0,
            avoid: caller.and_then(|c| c.agent.clone()).into_iter().collect(),
            agent: None,
            began: Instant::now(),
            deadline: ctx.deadline,
            sent: None,
            counted: false,
            error: Some(ErrorCode::Cancelled),
            below: Vec::new(),
        }
    }

    async fn run(&mut self, params: Payload) -> Result<Payload, Failure> {
        let Some(caller) = &self.ctx.caller else {
            let message = format!("{} cannot be called outside of a mesh", self.capability);
            let hint = "give the context a registry: Context::with_registry";
            return Err(Failure::new(ErrorCode::NoAgent, message).hint(hint));
        };
        let contract = self.contract(caller)?;
        let lineage = self.lineage()?;
        let twice = self.began + 2 * contract.capability.timeout();
        self.deadline = self.deadline.min(twice);
        let mut history = History::default();
        loop {
            let attempt = self.attempt(caller, &contract, &lineage, params.clone());
            let (patience, jitter) = (Patience::default(), fastrand::f64());
            let verdict = match attempt.await {
                TaskOutcome::Done(value) => return Ok(value),
                TaskOutcome::Partly(value, missing) => {
                    self.ctx.report_missing(missing);
                    return Ok(value);
                }
                TaskOutcome::FlowRequired(flow) if flow.held => {
                    let message = format!(
                        "{} waits for a person, and a call cannot wait",
                        self.capability
                    );
                    let failure = Failure::new(ErrorCode::FlowUnsupported, message);
                    return Err(failure.hint("make it a task of the plan"));
                }
                TaskOutcome::FlowRequired(mut flow) => {
                    let subject = || Subject {
                        capability: self.capability.clone(),
                        params,
                    };
                    flow.subject.get_or_insert_with(subject);
                    return Err(self.ctx.pass_on(flow));
                }
                TaskOutcome::Refused(failure) => history.refused(failure, patience, jitter),
                TaskOutcome::Failed(failure) => {
                    let idempotent = contract.capability.idempotent;
                    history.failed(failure, idempotent, patience, jitter)
                }
            };
            match verdict {
                Verdict::GiveUp(failure) => return Err(failure),
                Verdict::Retry { after, failure } if Instant::now() + after >= self.deadline => {
                    return Err(failure);
                }
                Verdict::Retry { after, .. } => sleep(after).await,
            }
            let failed = self
                .agent
                .iter()
                .filter(|agent| !self.avoid.contains(agent));
            let failed: Vec<_> = failed.cloned().collect();
            self.avoid.extend(failed);
        }
    }

    /// Checks beforehand what the callee would refuse for certain.
    fn contract(&self, caller: &Caller) -> Result<Arc<Contract>, Failure> {
        let name = self.capability;
        let Some(contract) = caller.registry.load().contract(name).cloned() else {
            let message = format!("no agent offers {name}");
            return Err(Failure::new(ErrorCode::UnknownCapability, message));
        };
        let permissions = caller.registry.permissions();
        let user = permissions.check(&self.ctx.grant.roles, &contract.capability);
        user.map_err(|denial| denial.of_user(name))?;
        if let Some(agent) = &caller.agent {
            let called = permissions.check_call(agent, &contract.capability);
            called.map_err(|denial| denial.of_agent(agent, name))?;
        }
        Ok(contract)
    }

    /// The callee's lineage, without its budget.
    fn lineage(&self) -> Result<Lineage, Failure> {
        let lineage = &self.ctx.lineage;
        if lineage.depth >= Lineage::MAX_DEPTH {
            let message = format!(
                "{} was not called: it would be nested below {} calls",
                self.capability, lineage.depth
            );
            let hint = "agents that call each other in a circle never end";
            return Err(Failure::new(ErrorCode::BudgetExceeded, message).hint(hint));
        }
        let caller = self.ctx.caller.as_ref();
        let mut path = lineage.path.clone();
        path.push(Step {
            task: self.ctx.task_id.clone(),
            caller: caller.and_then(|caller| caller.agent.clone()),
            part: None,
        });
        Ok(Lineage {
            depth: lineage.depth + 1,
            calls: 0,
            path,
            ..Lineage::clone(lineage)
        })
    }

    async fn attempt(
        &mut self,
        caller: &Caller,
        contract: &Contract,
        lineage: &Lineage,
        params: Payload,
    ) -> TaskOutcome {
        let now = Instant::now();
        let until = self.deadline.min(now + contract.capability.timeout());
        let Some(given) = self.ctx.calls.0.lock().budget.take() else {
            let message = format!(
                "the task's budget of calls has none left for {}",
                self.capability
            );
            let hint = "a task of a plan may cause 32 calls, and each callee gets half of the rest";
            let failure = Failure::new(ErrorCode::BudgetExceeded, message).hint(hint);
            return TaskOutcome::Refused(failure);
        };
        self.attempt += 1;
        let lineage = Arc::new(Lineage {
            calls: given,
            ..Lineage::clone(lineage)
        });
        let request = self.request(lineage, until.saturating_duration_since(now), params);
        let idle = contract.capability.idle();
        let outcome = match self.send(caller, request) {
            Ok(sent) => match self.answer(sent, until, idle).await {
                Ok(response) => self.read(response, given),
                Err(failure) => TaskOutcome::Failed(failure),
            },
            Err(failure) => TaskOutcome::Refused(failure),
        };
        // An attempt with an outcome needs no cancel; a time-out has sent one already.
        self.sent = None;
        if outcome.is_refused() {
            self.give_back(given + 1);
        } else {
            self.counted = true;
            let asks = matches!(outcome, TaskOutcome::FlowRequired(_));
            let acted = !asks && !contract.capability.idempotent;
            self.ctx.calls.0.lock().acted |= acted;
        }
        outcome
    }

    /// Waits for an answer, and passes the callee's signs of life on as the caller's own.
    async fn answer(
        &self,
        mut sent: Sent,
        until: Instant,
        idle: Option<Duration>,
    ) -> Result<TaskResponse, Failure> {
        loop {
            let silent = idle
                .map(|idle| Instant::now() + idle)
                .filter(|at| *at < until);
            tokio::select! {
                biased;
                answered = &mut sent.answered => {
                    return answered.map_err(|_| self.lost("ended before it answered the call"));
                }
                Ok(()) = sent.signs.changed() => {
                    let note = sent.signs.borrow_and_update().clone();
                    self.ctx.progress(&note);
                }
                () = sleep_until(silent.unwrap_or(until)) => {
                    return Err(self.timed_out(silent.and(idle)));
                }
            }
        }
    }

    fn request(&self, lineage: Arc<Lineage>, time: Duration, params: Payload) -> TaskRequest {
        let ctx = self.ctx;
        TaskRequest {
            version: WIRE_VERSION,
            request_id: ctx.request_id,
            task_id: self.task_id.clone(),
            attempt: self.attempt,
            deadline_ms: u64::try_from(time.as_millis()).unwrap_or(u64::MAX),
            traceparent: ctx.traceparent.clone(),
            grant: self.grant(),
            lineage,
            capability: self.capability.clone(),
            // Answers to the caller's own task, such as a token, are none of a callee's business.
            flows: ctx
                .flows
                .iter()
                .filter(|ended| !ctx.is_own(ended))
                .cloned()
                .collect(),
            params,
        }
    }

    /// The caller's grant. A whole request that waits for a person would outlive the call, so it may ask nobody.
    fn grant(&self) -> Arc<Grant> {
        let grant = &self.ctx.grant;
        if !self.capability.as_str().starts_with(DELEGATES) || grant.flows.is_empty() {
            return Arc::clone(grant);
        }
        Arc::new(Grant {
            flows: Vec::new(),
            ..Grant::clone(grant)
        })
    }

    fn send(&mut self, caller: &Caller, request: TaskRequest) -> Result<Sent, Failure> {
        let directory = caller.registry.load();
        let Some(entry) = directory.choose(self.capability, &self.avoid, fastrand::u64(..)) else {
            let message = format!("no agent offers {} at the moment", self.capability);
            return Err(Failure::new(ErrorCode::NoAgent, message));
        };
        self.agent = Some(entry.id().clone());
        let key = TaskKey::of(&request);
        let (answer, answered) = AnswerPort::channel();
        let (sign, signs) = watch::channel(String::new());
        let answer = answer.hearing(move |note| drop(sign.send_replace(note.to_owned())));
        let in_flight = entry.begin();
        entry.port.execute(request, answer)?;
        self.sent = Some((entry.port.clone(), key));
        Ok(Sent {
            answered,
            signs,
            _in_flight: in_flight,
        })
    }

    fn read(&mut self, response: TaskResponse, given: u32) -> TaskOutcome {
        if response.task_id != self.task_id || response.attempt != self.attempt {
            return TaskOutcome::Failed(self.lost("answered another task"));
        }
        let gone = |failure: &Failure| failure.code.is_agent_gone();
        if !response.outcome.is_refused() && !response.outcome.failure().is_some_and(gone) {
            self.give_back(given - calls_used(given, &response.calls));
        }
        self.ctx.report_usage(response.usage);
        // An agent elsewhere may report any number of calls.
        let room = MAX_REPORTS.saturating_sub(self.below.len());
        self.below.extend(response.calls.into_iter().take(room));
        response.outcome
    }

    fn give_back(&self, calls: u32) {
        self.ctx.calls.0.lock().budget.give_back(calls);
    }

    fn who(&self) -> &str {
        self.agent.as_ref().map_or("nobody", AgentId::as_str)
    }

    fn lost(&self, what: &str) -> Failure {
        Failure::new(ErrorCode::AgentLost, format!("{} {what}", self.who()))
    }

    fn timed_out(&self, silent: Option<Duration>) -> Failure {
        if let Some((port, key)) = &self.sent {
            port.cancel(key.clone());
        }
        let message = match silent {
            Some(idle) => format!("{} gave no sign of life for {idle:?}", self.who()),
            None => format!("{} did not answer in time", self.who()),
        };
        Failure::new(ErrorCode::TaskTimeout, message)
    }
}

impl Drop for Call<'_> {
    fn drop(&mut self) {
        let underway = self.sent.take();
        if let Some((port, key)) = &underway {
            port.cancel(key.clone());
        }
        let report = CallReport {
            depth: 1,
            capability: self.capability.clone(),
            agent: self.agent.take(),
            elapsed_ms: u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX),
            error: self.error,
        };
        if let Some(caller) = &self.ctx.caller {
            let of = (self.ctx.request_id, &*self.ctx.grant);
            caller.registry.called(of, &report, &self.params);
        }
        let mut ledger = self.ctx.calls.0.lock();
        // The budget bounds calls that used it; calls that were refused at once are shown while there is room.
        let bounded = self.counted || underway.is_some();
        if !bounded && ledger.reports.len() >= MAX_REPORTS {
            return;
        }
        ledger.reports.push(report);
        let below = std::mem::take(&mut self.below).into_iter();
        let below = below.map(|mut report| {
            report.depth = report.depth.saturating_add(1);
            report
        });
        ledger.reports.extend(below);
    }
}

/// A digest of capability and params: in 2^32 tasks with thousands of calls each, about one has two calls that collide.
type Digest = [u8; 6];

fn digest(capability: &CapabilityName, params: &Payload) -> Digest {
    let mut hash = Sha256::new();
    hash.update(capability.as_str());
    hash.update([0]);
    hash.update(params.text());
    let [a, b, c, d, e, f, ..] = <[u8; 32]>::from(hash.finalize());
    [a, b, c, d, e, f]
}

/// The id of a call: the same for each attempt at the call, and the same when the caller itself is tried again and makes the
/// same calls, in any order. An effect under [`Context::idempotency_key`] thus happens once.
fn task_id(caller: &TaskId, digest: Digest, number: u32) -> TaskId {
    let [a, b, c, d, e, f] = digest;
    let suffix = format!("c{number}-{a:02x}{b:02x}{c:02x}{d:02x}{e:02x}{f:02x}");
    TaskId::new(format!("{caller}-{suffix}")).unwrap_or_else(|_| {
        // The id is too long after a deep chain, or with a planner's long id.
        let [a, b, c, d, e, f, ..] = <[u8; 32]>::from(Sha256::digest(caller.as_str()));
        let caller = format!("h{a:02x}{b:02x}{c:02x}{d:02x}{e:02x}{f:02x}");
        TaskId::new(format!("{caller}-{suffix}"))
            .expect("two digests and a number are 40 letters and digits at most")
    })
}

#[cfg(test)]
mod tests;
