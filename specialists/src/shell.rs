//! The actor shell around a specialist takes tasks, refuses those that the agent may not or cannot do, and answers each once.
//!
//! Does not do the work (a job that may take long has its own tokio task, so that the shell always hears) and does not
//! restart: after a panic it gives the other jobs a moment to end, and then fails so that its supervisor sees it.

mod job;
mod msg;
mod outcomes;

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use amcp_protocol::access::Denial;
use amcp_protocol::task::{TaskOutcome, WIRE_VERSION};
use amcp_protocol::{
    AgentCard, Capability, CapabilityName, Contract, ErrorCode, Failure, TaskRequest,
};
use amcp_registry::{AgentLoad, AgentMsg, AgentState, AnswerPort, RegistryHandle, TaskKey, group};
use parking_lot::Mutex;
use ractor::{Actor, ActorProcessingErr, ActorRef};
use smart_default::SmartDefault;
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

pub(crate) use job::Company;
pub(crate) use job::panic_text;
use job::{Attempt, Closed, Job, JobEnd, Work, Workshop, begin, cancelled};
pub use msg::ShellMsg;
use outcomes::unknown;

use crate::call::Caller;
use crate::quarantine::SharedQuarantine;
use crate::specialist::{Specialist, Task};

/// How long a drained agent stays: it refuses tasks that were sent to it before every directory had forgotten it. A stopped actor
/// would lose them, and a lost task may have begun.
const LINGER: Duration = Duration::from_millis(100);
/// How long jobs that run beside a panic have to end: most end sooner, and meanwhile the agent refuses tasks, whose retries
/// take some four seconds.
const LAST_JOBS: Duration = Duration::from_secs(1);
/// When to come back to an agent with a full queue, in milliseconds: about the time of a short task.
const RETRY_BUSY_MS: u64 = 50;

/// The bounds of a shell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, SmartDefault)]
pub struct ShellLimits {
    /// Tasks that may wait for each capability.
    // Enough for a burst of eight full plans; further tasks should wait where they can still go to another agent.
    #[default = 256]
    pub queue: usize,
    /// Largest result, in bytes of its JSON, about.
    // A ledger of some ten thousand rows; a request keeps several of them in memory.
    #[default(8 * 1024 * 1024)]
    pub max_result_bytes: usize,
}

/// A specialist about to become an agent.
pub struct ShellArgs {
    /// The specialist that does the work.
    pub specialist: Arc<dyn Specialist>,
    /// The specialist's card, with the agent's id in the mesh.
    pub card: AgentCard,
    /// The contracts of the card.
    pub contracts: Vec<Arc<Contract>>,
    /// Different for each start.
    pub incarnation: u64,
    /// Counters, the same for each start.
    pub load: Arc<AgentLoad>,
    /// Shared with the other agents of the supervisor.
    pub quarantine: Arc<SharedQuarantine>,
    /// Takes the shell's reports of its state. The supervisor registers the agent.
    pub registry: RegistryHandle,
    /// Bounds of the queue and of results.
    pub limits: ShellLimits,
}

amcp_protocol::opaque_debug!(ShellArgs, ShellState);

/// The actor that runs one specialist as an agent.
#[derive(Debug)]
pub struct SpecialistActor;

/// Keys are hashed several times for each task, so the hasher is a fast one.
type HashMap<K, V> = std::collections::HashMap<K, V, foldhash::fast::RandomState>;

/// One capability's places and queue.
struct Lane {
    contract: Arc<Contract>,
    running: u32,
    queue: VecDeque<Job>,
}

impl Lane {
    fn has_room(&self) -> bool {
        self.running < self.contract.capability.concurrency
    }
}

struct RunningJob {
    capability: CapabilityName,
    company: Company,
    _task: AbortOnDropHandle<()>,
}

/// The fate of a task that arrives.
enum Intake {
    Open,
    Draining,
    /// The specialist panicked, with this text.
    Failing(String),
}

/// The tasks of an agent. Dropping it ends them unanswered.
pub struct ShellState {
    workshop: Arc<Workshop>,
    card: AgentCard,
    registry: RegistryHandle,
    limits: ShellLimits,
    lanes: HashMap<CapabilityName, Lane>,
    running: HashMap<TaskKey, RunningJob>,
    intake: Intake,
}

impl Drop for ShellState {
    fn drop(&mut self) {
        self.workshop.load.queued.store(0, Relaxed);
        self.workshop.load.running.store(0, Relaxed);
    }
}

impl Actor for SpecialistActor {
    type Msg = ShellMsg;
    type State = ShellState;
    type Arguments = ShellArgs;

    async fn pre_start(
        &self,
        _myself: ActorRef<ShellMsg>,
        args: ShellArgs,
    ) -> Result<ShellState, ActorProcessingErr> {
        let lane = |contract: Arc<Contract>| Lane {
            contract,
            running: 0,
            queue: VecDeque::new(),
        };
        let lanes = args.contracts.into_iter();
        Ok(ShellState {
            lanes: lanes
                .map(|contract| (contract.capability.name.clone(), lane(contract)))
                .collect(),
            workshop: Arc::new(Workshop {
                agent: args.card.id.clone(),
                never_blocks: args.specialist.never_blocks(),
                specialist: args.specialist,
                incarnation: args.incarnation,
                quarantine: args.quarantine,
                load: args.load,
                max_result_bytes: args.limits.max_result_bytes,
                outcomes: Mutex::default(),
                caller: Arc::new(Caller {
                    registry: args.registry.clone(),
                    agent: Some(args.card.id.clone()),
                }),
            }),
            card: args.card,
            registry: args.registry,
            limits: args.limits,
            running: HashMap::default(),
            intake: Intake::Open,
        })
    }

    async fn handle(
        &self,
        myself: ActorRef<ShellMsg>,
        message: ShellMsg,
        state: &mut ShellState,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            ShellMsg::Agent(AgentMsg::Execute(task, answer)) => {
                state.execute(&myself, task, answer)
            }
            ShellMsg::Agent(AgentMsg::Cancel(key)) => state.cancel(&key),
            ShellMsg::Agent(AgentMsg::Drain) => state.drain(&myself),
            ShellMsg::JobEnded { key, panic } => return state.job_ended(&myself, &key, panic),
            ShellMsg::FailNow => return state.fail_now(),
        }
        Ok(())
    }
}

impl ShellState {
    fn execute(&mut self, myself: &ActorRef<ShellMsg>, request: TaskRequest, answer: AnswerPort) {
        let key = TaskKey::of(&request);
        let Some(answer) = self.join(&request, &key, answer) else {
            return;
        };
        let lane = self.lanes.get(&request.capability);
        let attempt = Attempt {
            key,
            company: Company::of(&answer),
            answer,
            once: lane.is_some_and(|lane| !lane.contract.capability.idempotent),
        };
        let deadline = Instant::now() + Duration::from_millis(request.deadline_ms);
        match self.admit(&request) {
            Err(failure) => self.workshop.refuse(attempt, failure),
            Ok(()) => self.place(
                myself,
                Job {
                    attempt,
                    task: Task {
                        capability: request.capability,
                        params: request.params,
                    },
                    grant: request.grant,
                    lineage: request.lineage,
                    traceparent: request.traceparent,
                    flows: request.flows,
                    deadline,
                },
            ),
        }
    }

    /// Answers a repeated attempt with the outcome of the first: while the agent has the attempt and, where it must not be made
    /// twice, for two minutes after its end. Returns the port of any other attempt.
    fn join(&self, request: &TaskRequest, key: &TaskKey, answer: AnswerPort) -> Option<AnswerPort> {
        let Some(lane) = self.lanes.get(&request.capability) else {
            return Some(answer);
        };
        let capability = &lane.contract.capability;
        // `admit` refuses these.
        if request.version != WIRE_VERSION || self.permits(request, capability).is_err() {
            return Some(answer);
        }
        let once = !capability.idempotent;
        let company = match self.running.get(key) {
            Some(running) => Some(&running.company),
            None => {
                let mut queue = lane.queue.iter();
                let queued = queue.find(|job| job.attempt.key == *key);
                queued.map(|job| &job.attempt.company)
            }
        };
        let (answer, closed) = match company {
            Some(company) => match company.join(answer) {
                Ok(()) => return None,
                Err(refused) => refused,
            },
            None if once => (answer, Closed::Ended),
            None => return Some(answer),
        };
        let kept = (once && closed == Closed::Ended)
            .then(|| self.workshop.outcomes.lock().of(key, Instant::now()))
            .flatten();
        match (kept, company) {
            (Some(response), _) => answer.answer(response),
            (None, None) => return Some(answer),
            (None, Some(_)) => {
                let outcome = match closed {
                    Closed::Full => {
                        TaskOutcome::Failed(unknown("too many senders wait for its end already"))
                    }
                    Closed::Ended if once => TaskOutcome::Failed(unknown("it has just ended")),
                    // The attempt may be made again as soon as the first one has ended.
                    Closed::Ended => {
                        let message = "the attempt was sent again while the first one ends";
                        let busy = Failure::new(ErrorCode::AgentBusy, message);
                        TaskOutcome::Refused(busy.retry_after_ms(RETRY_BUSY_MS))
                    }
                };
                self.workshop.tell(key, answer, outcome);
            }
        }
        None
    }

    fn permits(&self, request: &TaskRequest, capability: &Capability) -> Result<(), Failure> {
        let checked = self
            .registry
            .permissions()
            .check(&request.grant.roles, capability);
        let denied = |denial: Denial| denial.of_user(&capability.name);
        checked.map(|_| ()).map_err(denied)
    }

    /// Judges a task without its params, which the job's own task judges.
    fn admit(&self, request: &TaskRequest) -> Result<(), Failure> {
        let refused = |code, message: String| Err(Failure::new(code, message));
        let agent = &self.card.id;
        let name = &request.capability;
        if request.version != WIRE_VERSION {
            let message = format!(
                "{agent} does not speak version {} of task requests, only {WIRE_VERSION}",
                request.version
            );
            return refused(ErrorCode::UnsupportedWire, message);
        }
        match &self.intake {
            Intake::Open => (),
            Intake::Draining => {
                return refused(ErrorCode::AgentUnavailable, format!("{agent} is stopping"));
            }
            Intake::Failing(_) => {
                let message = format!("{agent} panicked and restarts");
                return refused(ErrorCode::AgentUnavailable, message);
            }
        }
        let Some(lane) = self.lanes.get(name) else {
            return refused(ErrorCode::NoAgent, format!("{agent} does not offer {name}"));
        };
        let capability = &lane.contract.capability;
        self.permits(request, capability)?;
        if request.deadline_ms == 0 {
            return Err(expired(name));
        }
        Ok(())
    }

    /// Starts a job, queues it, or refuses it when the queue is full.
    fn place(&mut self, myself: &ActorRef<ShellMsg>, job: Job) {
        let Some(lane) = self.lanes.get_mut(&job.task.capability) else {
            return;
        };
        if lane.has_room() {
            return self.start(myself, job);
        }
        if lane.queue.len() >= self.limits.queue {
            // Expired jobs must not keep out jobs that still have time.
            drop_expired(&self.workshop, lane);
        }
        if lane.queue.len() < self.limits.queue {
            lane.queue.push_back(job);
            self.workshop.load.queued.fetch_add(1, Relaxed);
            return;
        }
        let message = format!(
            "{} tasks already wait for {} at {}",
            lane.queue.len(),
            job.task.capability,
            self.card.id
        );
        let failure = Failure::new(ErrorCode::AgentBusy, message).retry_after_ms(RETRY_BUSY_MS);
        self.workshop.refuse(job.attempt, failure);
    }

    fn cancel(&mut self, key: &TaskKey) {
        if let Some(running) = self.running.get(key) {
            running.company.cancel();
            return;
        }
        for lane in self.lanes.values_mut() {
            let Some(place) = lane.queue.iter().position(|job| job.attempt.key == *key) else {
                continue;
            };
            let company = lane.queue.get(place).map(|job| &job.attempt.company);
            if company.is_some_and(|company| !company.cancel()) {
                return;
            }
            if let Some(job) = lane.queue.remove(place) {
                self.workshop.load.queued.fetch_sub(1, Relaxed);
                self.workshop.refuse(job.attempt, cancelled());
                return;
            }
        }
    }

    fn drain(&mut self, myself: &ActorRef<ShellMsg>) {
        if matches!(self.intake, Intake::Open) {
            self.intake = Intake::Draining;
            self.step_back(myself, AgentState::Draining);
            if self.running.is_empty() {
                myself.exit_after(LINGER);
            }
        }
    }

    /// Takes this agent out of every directory.
    fn step_back(&self, myself: &ActorRef<ShellMsg>, state: AgentState) {
        self.registry.report(&self.card.id, state);
        group::leave(self.registry.scope(), &myself.get_cell());
    }

    fn job_ended(
        &mut self,
        myself: &ActorRef<ShellMsg>,
        key: &TaskKey,
        panic: Option<String>,
    ) -> Result<(), ActorProcessingErr> {
        let ended = self.running.remove(key);
        self.workshop.load.running.fetch_sub(1, Relaxed);
        if let Some(lane) = ended.and_then(|ended| self.lanes.get_mut(&ended.capability)) {
            lane.running -= 1;
        }
        if let Some(text) = panic {
            self.fail(myself, text);
        }
        self.start_queued(myself);
        if self.running.is_empty() {
            match &self.intake {
                Intake::Open => (),
                Intake::Draining => drop(myself.exit_after(LINGER)),
                Intake::Failing(text) => return Err(text.clone().into()),
            }
        }
        Ok(())
    }

    /// The specialist's value may be broken: the shell starts no further job with it, and running jobs have a moment to end.
    fn fail(&mut self, myself: &ActorRef<ShellMsg>, text: String) {
        if matches!(self.intake, Intake::Failing(_)) {
            return;
        }
        tracing::warn!(agent = %self.card.id, panic = %text, "a specialist panicked");
        self.intake = Intake::Failing(text);
        self.step_back(myself, AgentState::Restarting);
        for job in self
            .lanes
            .values_mut()
            .flat_map(|lane| lane.queue.drain(..))
        {
            let message = format!("{} panicked and restarts", self.card.id);
            let failure = Failure::new(ErrorCode::AgentUnavailable, message);
            self.workshop.refuse(job.attempt, failure);
        }
        self.workshop.load.queued.store(0, Relaxed);
        let after = if self.running.is_empty() {
            Duration::ZERO
        } else {
            LAST_JOBS
        };
        myself.send_after(after, || ShellMsg::FailNow);
    }

    /// Ends the shell and the jobs that still run; their dropped ports tell the askers.
    fn fail_now(&self) -> Result<(), ActorProcessingErr> {
        match &self.intake {
            Intake::Failing(text) => Err(text.clone().into()),
            Intake::Open | Intake::Draining => Ok(()),
        }
    }

    fn start_queued(&mut self, myself: &ActorRef<ShellMsg>) {
        while let Some(job) = self.next_queued() {
            self.workshop.load.queued.fetch_sub(1, Relaxed);
            if job.deadline <= Instant::now() {
                let failure = expired(&job.task.capability);
                self.workshop.refuse(job.attempt, failure);
            } else {
                let lane = self.lanes.get(&job.task.capability);
                if lane.is_some_and(|lane| lane.contract.capability.idle().is_some()) {
                    // The time in the queue does not count as silence of the agent.
                    job.attempt.company.give_sign("");
                }
                self.start(myself, job);
            }
        }
    }

    fn next_queued(&mut self) -> Option<Job> {
        let mut lanes = self.lanes.values_mut();
        lanes.find_map(|lane| lane.has_room().then(|| lane.queue.pop_front())?)
    }

    /// Begins a job: in the shell if its handler never blocks, and in its own task if it has to wait or may block.
    fn start(&mut self, myself: &ActorRef<ShellMsg>, job: Job) {
        let Some(lane) = self.lanes.get_mut(&job.task.capability) else {
            return;
        };
        let (key, company) = (job.attempt.key.clone(), job.attempt.company.clone());
        let work = Arc::clone(&self.workshop).run(job, Arc::clone(&lane.contract));
        let goes_on = if self.workshop.never_blocks {
            begin(Box::pin(work))
        } else {
            Err(Box::pin(work) as Work)
        };
        let work = match goes_on {
            Err(work) => work,
            Ok(None) => return,
            Ok(Some(panic)) => return self.fail(myself, panic),
        };
        let end = JobEnd::new(myself.clone(), key.clone());
        let task = tokio::spawn(end.after(work));
        lane.running += 1;
        self.workshop.load.running.fetch_add(1, Relaxed);
        let running = RunningJob {
            capability: lane.contract.capability.name.clone(),
            company,
            _task: AbortOnDropHandle::new(task),
        };
        self.running.insert(key, running);
    }
}

fn drop_expired(workshop: &Workshop, lane: &mut Lane) {
    let now = Instant::now();
    let (dead, alive) = std::mem::take(&mut lane.queue)
        .into_iter()
        .partition(|job| job.deadline <= now);
    lane.queue = alive;
    let dead: VecDeque<Job> = dead;
    for job in dead {
        workshop.load.queued.fetch_sub(1, Relaxed);
        workshop.refuse(job.attempt, expired(&job.task.capability));
    }
}

fn expired(capability: &CapabilityName) -> Failure {
    Failure::new(
        ErrorCode::DeadlineExceeded,
        format!("the deadline passed before {capability} began"),
    )
}
