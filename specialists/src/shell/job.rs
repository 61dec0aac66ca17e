//! One attempt at one task, from its start to its answer.
//!
//! Does not decide when the attempt may start; the shell does.

use std::any::Any;
use std::convert::Infallible;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, OnceLock};
use std::task::{Poll, Waker};
use std::time::Duration;

use amcp_protocol::llm::Usage;
use amcp_protocol::task::{TaskOutcome, WIRE_VERSION};
use amcp_protocol::{
    AgentId, CallReport, Contract, EndedFlow, ErrorCode, Failure, Grant, Lineage, Payload,
    TaskResponse, Violation,
};
use amcp_registry::{AgentLoad, AnswerPort, Signs, TaskKey, trace};
use futures_util::FutureExt;
use parking_lot::Mutex;
use ractor::ActorRef;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use super::msg::ShellMsg;
use super::outcomes::Outcomes;
use crate::call::{Caller, Calls};
use crate::quarantine::{SharedQuarantine, Suspect};
use crate::specialist::{Context, Specialist, Task};

/// The parts that all jobs of an agent share.
pub(crate) struct Workshop {
    pub(crate) agent: AgentId,
    pub(crate) specialist: Arc<dyn Specialist>,
    /// Whether its jobs may begin in the shell.
    pub(crate) never_blocks: bool,
    pub(crate) incarnation: u64,
    pub(crate) quarantine: Arc<SharedQuarantine>,
    pub(crate) load: Arc<AgentLoad>,
    pub(crate) max_result_bytes: usize,
    pub(crate) outcomes: Mutex<Outcomes>,
    /// The caller under whose name the agent's jobs call other agents.
    pub(crate) caller: Arc<Caller>,
}

/// The attempt that a job answers.
#[derive(Debug)]
pub(crate) struct Attempt {
    pub(crate) key: TaskKey,
    pub(crate) answer: AnswerPort,
    pub(crate) company: Company,
    /// Whether the shell keeps the outcome, in case the attempt is sent again.
    pub(crate) once: bool,
}

/// The part of an attempt that shell and job share: the ports of repeated attempts, which wait for the same end, the way for
/// signs of life, and whether a result is still wanted.
#[derive(Debug, Clone, Default)]
pub(crate) struct Company(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    /// Leads to the sender of the first attempt.
    signs: Signs,
    waiting: Mutex<Waiting>,
    /// Wakes the job when a sign waits in `waiting.unsaid`.
    unsaid: Notify,
    /// Made by the first cancellation, or when the job first waits for one.
    cancelled: OnceLock<CancellationToken>,
}

#[derive(Debug, Default)]
struct Waiting {
    joined: Vec<AnswerPort>,
    /// Number of ports that wait but no longer want the result.
    cancelled: usize,
    ended: bool,
    /// The earliest time for the next sign of life.
    next_sign: Option<Instant>,
    /// The latest sign that came too early.
    unsaid: Option<String>,
}

/// Most ports that join one attempt: enough for a dispatcher that restarted several times.
const MOST_JOINED: usize = 4;

/// The least time between two signs of life: a handler may give a sign at each turn of a loop, and a faster sequence helps no
/// reader.
const SIGNS_APART: Duration = Duration::from_millis(100);

/// Why a port cannot join an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Closed {
    /// The attempt has ended, or is about to because its work was given up.
    Ended,
    /// [`MOST_JOINED`] ports wait already.
    Full,
}

impl Company {
    /// The company of the attempt behind this port.
    pub(crate) fn of(answer: &AnswerPort) -> Self {
        let signs = answer.signs().clone();
        Self(Arc::new(Shared {
            signs,
            ..Shared::default()
        }))
    }

    /// Gives all ports a sign of life, at most one in [`SIGNS_APART`]; of earlier signs the last is given when it is due.
    pub(crate) fn give_sign(&self, note: &str) {
        let now = Instant::now();
        let mut waiting = self.0.waiting.lock();
        if waiting.next_sign.is_some_and(|next| now < next) {
            note.clone_into(waiting.unsaid.get_or_insert_default());
            self.0.unsaid.notify_one();
            return;
        }
        (waiting.next_sign, waiting.unsaid) = (Some(now + SIGNS_APART), None);
        self.0.signs.give(note);
        for port in &waiting.joined {
            port.signs().give(note);
        }
    }

    /// Gives signs that came too early when they are due; never ends.
    async fn give_late_signs(&self) -> Infallible {
        loop {
            self.0.unsaid.notified().await;
            let next = self.0.waiting.lock().next_sign;
            sleep_until(next.unwrap_or_else(Instant::now)).await;
            let unsaid = self.0.waiting.lock().unsaid.take();
            if let Some(note) = unsaid {
                self.give_sign(&note);
            }
        }
    }

    /// Adds a port that waits for the end.
    ///
    /// # Errors
    /// The port, and the reason why it cannot join.
    pub(crate) fn join(&self, answer: AnswerPort) -> Result<(), (AnswerPort, Closed)> {
        let mut waiting = self.0.waiting.lock();
        if waiting.ended || waiting.cancelled > waiting.joined.len() {
            return Err((answer, Closed::Ended));
        }
        if waiting.joined.len() >= MOST_JOINED {
            return Err((answer, Closed::Full));
        }
        waiting.joined.push(answer);
        Ok(())
    }

    /// Notes that one port no longer wants the result. When no port is left that wants it, cancels the work and returns true.
    pub(crate) fn cancel(&self) -> bool {
        let mut waiting = self.0.waiting.lock();
        waiting.cancelled += 1;
        let nobody = waiting.cancelled > waiting.joined.len();
        if nobody {
            self.cancelled().cancel();
        }
        nobody
    }

    /// Cancelled when no port wants the result any more.
    pub(crate) fn cancelled(&self) -> &CancellationToken {
        self.0.cancelled.get_or_init(CancellationToken::new)
    }

    fn end(&self) -> Vec<AnswerPort> {
        let mut waiting = self.0.waiting.lock();
        waiting.ended = true;
        std::mem::take(&mut waiting.joined)
    }
}

/// A task that starts as soon as there is a place for it.
pub(crate) struct Job {
    pub(crate) attempt: Attempt,
    pub(crate) task: Task,
    pub(crate) grant: Arc<Grant>,
    pub(crate) lineage: Arc<Lineage>,
    pub(crate) traceparent: Option<String>,
    pub(crate) flows: Vec<EndedFlow>,
    pub(crate) deadline: Instant,
}

/// The calls of an attempt, and what models took for it.
type Took = (Vec<CallReport>, Usage);

/// Tells the shell when it is dropped that the job's place is free, however the job ended.
pub(crate) struct JobEnd {
    pub(crate) shell: ActorRef<ShellMsg>,
    pub(crate) key: TaskKey,
    pub(crate) panic: Option<String>,
}

impl JobEnd {
    pub(crate) fn new(shell: ActorRef<ShellMsg>, key: TaskKey) -> Self {
        // The regular end clears this: a job that unwinds past it panicked outside of its handler, such as in a destructor.
        let panic = Some("its work panicked when it was dropped".to_owned());
        Self { shell, key, panic }
    }

    /// Finishes the job, and then frees its place.
    pub(crate) async fn after(mut self, work: Work) {
        self.panic = work.await;
    }
}

impl Drop for JobEnd {
    fn drop(&mut self) {
        let (key, panic) = (self.key.clone(), self.panic.take());
        // A shell that has ended needs no place.
        let _ = self.shell.send_message(ShellMsg::JobEnded { key, panic });
    }
}

impl Workshop {
    /// Refuses an attempt that did not begin.
    pub(crate) fn refuse(&self, attempt: Attempt, failure: Failure) {
        self.answer(attempt, TaskOutcome::Refused(failure), Took::default());
    }

    /// Answers an attempt that may have called other agents.
    fn answer(&self, attempt: Attempt, outcome: TaskOutcome, took: Took) {
        let counter = match outcome.failure() {
            None => &self.load.done,
            Some(_) => &self.load.failed,
        };
        counter.fetch_add(1, Relaxed);
        let response = self.response(&attempt.key, outcome, took);
        // Kept before the answer, so that a repeated attempt finds either the running job or its outcome.
        if attempt.once && !response.outcome.begins_anew() {
            let mut outcomes = self.outcomes.lock();
            outcomes.keep(&attempt.key, &response, Instant::now());
        }
        for answer in attempt.company.end() {
            answer.answer(response.clone());
        }
        attempt.answer.answer(response);
    }

    /// Answers a repeated attempt that cannot join the first one.
    pub(crate) fn tell(&self, key: &TaskKey, answer: AnswerPort, outcome: TaskOutcome) {
        answer.answer(self.response(key, outcome, Took::default()));
    }

    fn response(&self, key: &TaskKey, outcome: TaskOutcome, (calls, usage): Took) -> TaskResponse {
        TaskResponse {
            version: WIRE_VERSION,
            request_id: key.request_id,
            task_id: key.task_id.clone(),
            attempt: key.attempt,
            agent: self.agent.clone(),
            calls,
            usage,
            outcome,
        }
    }

    /// Does a job and answers it. Returns the text of a panic.
    pub(crate) async fn run(self: Arc<Self>, job: Job, contract: Arc<Contract>) -> Option<String> {
        let Job { attempt, task, .. } = job;
        let params = task.params.clone();
        let name = ("handle", task.capability.as_str());
        let (span, traceparent) = trace::begin("server", name, job.traceparent);
        span.record("gen_ai.tool.name", task.capability.as_str());
        span.record("gen_ai.agent.name", self.agent.as_str());
        let context = Context {
            request_id: attempt.key.request_id,
            task_id: attempt.key.task_id.clone(),
            attempt: attempt.key.attempt,
            grant: job.grant,
            calls: Calls::new(&job.lineage),
            caller: Some(Arc::clone(&self.caller)),
            lineage: job.lineage,
            traceparent,
            flows: job.flows,
            deadline: job
                .deadline
                .min(Instant::now() + contract.capability.timeout()),
            company: attempt.company.clone(),
        };
        let (outcome, panic) = match self.check_params(&contract, &params) {
            Err(failure) => (TaskOutcome::Refused(failure), None),
            Ok(()) => match self
                .work(task, &context, &contract)
                .instrument(span.clone())
                .await
            {
                Ok(outcome) => (context.calls.outcome(outcome), None),
                Err(panic) => {
                    let suspect = Suspect::new(&contract.capability.name, &params);
                    self.quarantine.died(suspect, self.incarnation);
                    (TaskOutcome::Failed(self.panicked(&panic)), Some(panic))
                }
            },
        };
        if let Some(failure) = outcome.failure() {
            span.record("error.type", failure.code.as_str());
        }
        self.answer(attempt, outcome, context.calls.take());
        panic
    }

    fn check_params(&self, contract: &Contract, params: &Payload) -> Result<(), Failure> {
        let name = &contract.capability.name;
        if !contract.params.is_valid(params) {
            let why = listed(&contract.params.violations(params));
            let message = format!("the params of {name} break its schema: {why}");
            return Err(Failure::new(ErrorCode::InvalidParams, message));
        }
        if let Some(left) = self.quarantine.refuses(name, params) {
            let message = format!("{name} with these params made several agents panic");
            let hint = format!(
                "the task is refused for another {}; use other params, or repair the specialist",
                minutes(left)
            );
            return Err(Failure::new(ErrorCode::Quarantined, message).hint(hint));
        }
        Ok(())
    }

    /// The outcome, or the text of a panic.
    async fn work(
        &self,
        task: Task,
        context: &Context,
        contract: &Contract,
    ) -> Result<Result<Payload, Failure>, String> {
        let name = &contract.capability.name;
        // An async block, because a hand-written handler may panic before it returns its future.
        let work = AssertUnwindSafe(async { self.specialist.handle(task, context).await });
        let result = tokio::select! {
            biased;
            result = work.catch_unwind() => result.map_err(|panic| panic_text(panic.as_ref()))?,
            // A lazy block, so that only jobs that do not end at once make a token.
            () = async { context.cancelled().cancelled().await } => Err(cancelled()),
            () = async { sleep_until(context.deadline).await } => Err(Failure::new(
                ErrorCode::TaskTimeout,
                format!("{} did not finish {name} in time", self.agent),
            )),
            never = async { context.company.give_late_signs().await } => match never {},
        };
        Ok(result.and_then(|value| self.check_result(contract, value.into())))
    }

    fn check_result(&self, contract: &Contract, result: Payload) -> Result<Payload, Failure> {
        let name = &contract.capability.name;
        let agent = &self.agent;
        if result.size() > self.max_result_bytes {
            let message = format!(
                "{agent} answered {name} with more than {} bytes",
                self.max_result_bytes
            );
            return Err(
                Failure::new(ErrorCode::ResultTooLarge, message).hint("ask for less at a time")
            );
        }
        if !contract.result.is_valid(&result) {
            let why = listed(&contract.result.violations(&result));
            let message = format!("{agent} broke the result schema of {name}: {why}");
            return Err(Failure::new(ErrorCode::InvalidResult, message));
        }
        Ok(result)
    }

    fn panicked(&self, text: &str) -> Failure {
        let message = format!("{} panicked: {text}", self.agent);
        Failure::new(ErrorCode::AgentPanicked, message)
    }
}

/// A job under way.
pub(crate) type Work = Pin<Box<dyn Future<Output = Option<String>> + Send>>;

/// Polls a job once in its agent's own task. Returns the text of a panic or none if the job ended, and the work as the error if
/// it has to go on elsewhere. A panic outside of the handler, such as in a destructor, counts as the job's too.
pub(crate) fn begin(mut work: Work) -> Result<Option<String>, Work> {
    let begun = catch_unwind(AssertUnwindSafe(move || {
        let mut cx = std::task::Context::from_waker(Waker::noop());
        match work.as_mut().poll(&mut cx) {
            Poll::Ready(panic) => {
                drop(work);
                Ok(panic)
            }
            // The lost waker does no harm: the next poll registers another.
            Poll::Pending => Err(work),
        }
    }));
    begun.unwrap_or_else(|panic| Ok(Some(panic_text(panic.as_ref()))))
}

pub(crate) fn cancelled() -> Failure {
    Failure::new(ErrorCode::Cancelled, "the task was cancelled")
}

fn listed(violations: &[Violation]) -> String {
    let all: Vec<_> = violations.iter().map(ToString::to_string).collect();
    all.join("; ")
}

fn minutes(time: Duration) -> String {
    match time.as_secs().div_ceil(60) {
        1 => "minute".to_owned(),
        minutes => format!("{minutes} minutes"),
    }
}

/// The text of a panic, cut to the length of a message.
pub(crate) fn panic_text(panic: &(dyn Any + Send)) -> String {
    const KEEP: usize = 500;
    let text = panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("no text").chars().take(KEEP).collect()
}
