//! Explores every order of events of small requests on a hostile network: lost, late, doubled or foreign answers, timers that
//! fire after they were cleared, planners and writers that never answer.
//!
//! Does not sample: a property that holds here holds on every path of the model. `--run-ignored all` explores the larger
//! models too, which takes about a minute.

mod support {
    pub(crate) mod ledger;
    pub(crate) mod plans;
    pub(crate) mod world;
}

use std::collections::BTreeMap;
use std::hash::{Hash, Hasher};
use std::time::Duration;

use amcp_plan::{Event, PlanTask, Policy, TimerKey};
use amcp_protocol::flow::Decision;
use amcp_protocol::llm::Usage;
use amcp_protocol::task::TaskOutcome;
use amcp_protocol::{
    AnswerState, ErrorCode, Failure, FlowAnswer, FlowId, FlowKind, FlowRequest, TaskId, TaskState,
};
use serde_json::json;
use stateright::{Checker, Model, Property};

use support::ledger::Rule;
use support::plans::{Kind, LOOK, PAY, SEND, WRITE, fed_by, plan, task};
use support::world::World;

/// A person's time for an answer.
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

const DECISIONS: [Decision; 2] = [Decision::Approve, Decision::Deny];

/// A request to explore.
#[derive(Clone)]
struct Request {
    policy: Policy,
    /// The plan of each round.
    plans: Vec<Vec<PlanTask>>,
    faults: Faults,
    /// Outcomes that must be reachable, else the model is smaller than it seems.
    reaches: &'static [Reach],
}

/// Number of faults that may still happen on a path; without bounds the states would be infinite.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Faults {
    duplicates: u8,
    foreign: u8,
    stale_timers: u8,
    /// Tasks that arrive before the plan is complete.
    streamed: u8,
    /// Flows that agents open.
    asks: u8,
    /// Answers to another question than the open one, and repeated or late answers.
    answers: u8,
    /// Signs of life.
    signs: u8,
}

#[derive(Debug, Clone, Copy)]
enum Reach {
    RetryThenSuccess,
    Quarantine,
    Partial,
    Cancelled,
    SecondRound,
    Composed,
    Approved,
    Denied,
    Expired,
    AskedTwice,
}

#[derive(Clone)]
struct State {
    world: World,
    faults: Faults,
    streamed: u8,
    digest: u64,
}

impl PartialEq for State {
    fn eq(&self, other: &Self) -> bool {
        self.digest == other.digest
    }
}

impl Hash for State {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        self.digest.hash(hasher);
    }
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.world.fmt(f)
    }
}

/// The end of an attempt, as far as the machine can tell.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Outcome {
    Done,
    Transient,
    AgentDied,
    /// A failure from a handler, so the work began.
    Busy,
    NotStarted,
    /// The shell refuses a handler's result: the work was done.
    Final,
    Partly,
    /// The agent asks for a payment.
    Asks,
}

const OUTCOMES: [Outcome; 7] = [
    Outcome::Done,
    Outcome::Transient,
    Outcome::AgentDied,
    Outcome::Busy,
    Outcome::NotStarted,
    Outcome::Final,
    Outcome::Partly,
];

impl Outcome {
    fn reported(self, attempt: u32) -> TaskOutcome {
        let failure = |code| Failure::new(code, "as the model says");
        match self {
            Outcome::Done => TaskOutcome::Done(json!({"by": attempt}).into()),
            Outcome::Partly => TaskOutcome::Partly(
                json!({"by": attempt}).into(),
                failure(ErrorCode::TaskFailed),
            ),
            Outcome::Transient => TaskOutcome::Failed(failure(ErrorCode::UpstreamUnavailable)),
            Outcome::AgentDied => TaskOutcome::Failed(failure(ErrorCode::AgentLost)),
            Outcome::Busy => TaskOutcome::Failed(failure(ErrorCode::AgentBusy)),
            Outcome::NotStarted => TaskOutcome::Refused(failure(ErrorCode::AgentBusy)),
            Outcome::Final => TaskOutcome::Failed(failure(ErrorCode::InvalidResult)),
            Outcome::Asks => TaskOutcome::FlowRequired(Box::new(FlowRequest {
                asker: format!("r/t/{attempt}"),
                held: true,
                ..FlowRequest::new(FlowKind::Payment, "May it go on?")
            })),
        }
    }
}

#[derive(Debug, Clone, PartialEq)]
enum Step {
    Stream,
    PlanArrives,
    PlanFails,
    Answer(usize, u32, Outcome),
    AnswerAgain(usize, u32, Outcome),
    Sign(usize, u32),
    ForeignTask,
    ForeignAttempt(usize, u32),
    Fire(TimerKey),
    FireCleared(TimerKey),
    ComposingEnds(bool),
    Decide(FlowId, Decision),
    DecideAgain(FlowId, Decision),
    WrongDigest(FlowId),
    Cancel,
}

impl Request {
    fn plan_of(&self, round: u32) -> Vec<PlanTask> {
        self.plans
            .get(round as usize - 1)
            .cloned()
            .unwrap_or_default()
    }

    fn event(&self, state: &State, step: &Step) -> Event {
        let round = state.world.planning.unwrap_or(1);
        let planned = |result| Event::Planned {
            round,
            result,
            planner: "model".into(),
            llm_calls: 1,
            usage: Usage::default(),
            notes: vec![],
        };
        let failure = |code| Failure::new(code, "as the model says");
        let responded = |task, attempt, outcome| Event::Responded {
            task,
            attempt,
            outcome,
            calls: Vec::new(),
        };
        match step {
            Step::Stream => Event::TasksAdded {
                round,
                tasks: self
                    .plan_of(round)
                    .into_iter()
                    .skip(state.streamed.into())
                    .take(1)
                    .collect(),
            },
            Step::PlanArrives => planned(Ok(plan(self.plan_of(round)))),
            Step::PlanFails => planned(Err(failure(ErrorCode::LlmUnavailable))),
            Step::Answer(task, attempt, outcome) => {
                responded(*task, *attempt, outcome.reported(*attempt))
            }
            Step::Sign(task, attempt) => Event::Progressed {
                task: *task,
                attempt: *attempt,
                note: "as the model says".into(),
            },
            Step::AnswerAgain(task, attempt, Outcome::Done) => responded(
                *task,
                *attempt,
                TaskOutcome::Done(json!("another result").into()),
            ),
            Step::AnswerAgain(task, attempt, _) => responded(
                *task,
                *attempt,
                TaskOutcome::Failed(failure(ErrorCode::AgentLost)),
            ),
            Step::ForeignTask => responded(9, 1, TaskOutcome::Done(json!("foreign").into())),
            Step::ForeignAttempt(task, attempt) => responded(
                *task,
                attempt + 1,
                TaskOutcome::Done(json!("foreign").into()),
            ),
            Step::Fire(key) | Step::FireCleared(key) => Event::TimerFired(*key),
            Step::ComposingEnds(well) => Event::Composed {
                result: if *well {
                    Ok("The text.".into())
                } else {
                    Err(failure(ErrorCode::LlmCut))
                },
                llm_calls: 1,
                usage: Usage::default(),
                notes: vec![],
            },
            Step::Decide(flow, decision) => answered(flow, &state.world.flows, *decision),
            Step::DecideAgain(flow, decision) => answered(flow, &state.world.closed, *decision),
            Step::WrongDigest(flow) => answered(flow, &BTreeMap::new(), Decision::Approve),
            Step::Cancel => Event::CancelRequested,
        }
    }
}

fn answered(flow: &FlowId, shown: &BTreeMap<FlowId, String>, decision: Decision) -> Event {
    Event::FlowAnswered {
        flow: flow.clone(),
        answer: FlowAnswer {
            decision,
            digest: shown.get(flow).cloned().unwrap_or_default(),
            payload: json!({"by": "a person"}),
            reason: None,
        },
    }
}

impl State {
    /// Drops data that no longer matters, so that otherwise equal states become one.
    fn settled(mut self) -> Self {
        if self.faults.duplicates == 0 {
            self.world.answered.clear();
        }
        if self.faults.stale_timers == 0 {
            self.world.cleared.clear();
        }
        if self.faults.answers == 0 {
            self.world.closed.clear();
        }
        let mut hasher = std::hash::DefaultHasher::new();
        (self.world.digest(), self.faults, self.streamed).hash(&mut hasher);
        self.digest = hasher.finish();
        self
    }

    fn keeps(&self, rule: Rule) -> bool {
        !self.world.ledger.breaches.contains(&rule)
    }

    fn reached(&self, reach: Reach) -> bool {
        let Some(conclusion) = &self.world.conclusion else {
            return false;
        };
        let task = |wanted: &dyn Fn(&amcp_protocol::TaskReport) -> bool| {
            conclusion.tasks.iter().any(wanted)
        };
        let failed = |code| task(&|task| task.error.as_ref().map(|error| error.code) == Some(code));
        match reach {
            Reach::RetryThenSuccess => {
                task(&|task| task.attempts > 1 && task.state == TaskState::Completed)
            }
            Reach::Quarantine => failed(ErrorCode::Quarantined),
            Reach::Partial => conclusion.state == AnswerState::Partial,
            Reach::Cancelled => conclusion.state == AnswerState::Cancelled,
            Reach::SecondRound => {
                self.world.ledger.rounds == 2 && conclusion.state == AnswerState::Completed
            }
            Reach::Composed => conclusion.text.is_some(),
            Reach::Approved => {
                let approved = self.world.machine.idle() > Duration::ZERO;
                approved && conclusion.state == AnswerState::Completed
            }
            Reach::Denied => failed(ErrorCode::FlowDenied),
            Reach::Expired => failed(ErrorCode::FlowExpired),
            Reach::AskedTwice => self.world.machine.idle() >= 2 * DAY,
        }
    }
}

impl Model for Request {
    type State = State;
    type Action = Step;

    fn init_states(&self) -> Vec<State> {
        let mut world = World::start(self.policy.clone());
        // Time moves only for the deadline and for people: every other timer may fire at any moment anyway.
        world.now = Duration::from_millis(1);
        let state = State {
            world,
            faults: self.faults,
            streamed: 0,
            digest: 0,
        };
        vec![state.settled()]
    }

    fn actions(&self, state: &State, steps: &mut Vec<Step>) {
        let world = &state.world;
        // A separate property judges the time after the response, without adding states.
        if world.conclusion.is_some() || !world.ledger.breaches.is_empty() {
            return;
        }
        if let Some(round) = world.planning {
            steps.extend([Step::PlanArrives, Step::PlanFails]);
            let more = usize::from(state.streamed) < self.plan_of(round).len();
            if state.faults.streamed > 0 && more {
                steps.push(Step::Stream);
            }
        }
        for &(task, attempt) in &world.awaited {
            steps.extend(OUTCOMES.map(|outcome| Step::Answer(task, attempt, outcome)));
            if state.faults.asks > 0 {
                steps.push(Step::Answer(task, attempt, Outcome::Asks));
            }
            if state.faults.signs > 0 {
                steps.push(Step::Sign(task, attempt));
            }
        }
        for flow in world.flows.keys() {
            steps.extend(DECISIONS.map(|decision| Step::Decide(flow.clone(), decision)));
        }
        if state.faults.answers > 0 {
            let again = world.closed.keys().flat_map(|flow| {
                DECISIONS.map(|decision| Step::DecideAgain(flow.clone(), decision))
            });
            steps.extend(again);
            steps.extend(world.flows.keys().cloned().map(Step::WrongDigest));
        }
        if state.faults.duplicates > 0 {
            for &(task, attempt) in &world.answered {
                steps.push(Step::AnswerAgain(task, attempt, Outcome::Done));
                steps.push(Step::AnswerAgain(task, attempt, Outcome::AgentDied));
            }
        }
        if state.faults.foreign > 0 {
            steps.push(Step::ForeignTask);
            let latest = world.awaited.iter().max();
            steps.extend(latest.map(|&(task, attempt)| Step::ForeignAttempt(task, attempt)));
        }
        steps.extend(world.timers.keys().map(|&key| Step::Fire(key)));
        if state.faults.stale_timers > 0 {
            steps.extend(world.cleared.iter().map(|&key| Step::FireCleared(key)));
        }
        if world.composing {
            steps.extend([true, false].map(Step::ComposingEnds));
        }
        steps.push(Step::Cancel);
    }

    fn next_state(&self, last: &State, step: Step) -> Option<State> {
        let event = self.event(last, &step);
        let mut next = last.clone();
        match step {
            Step::Stream => {
                next.faults.streamed -= 1;
                next.streamed += 1;
            }
            Step::PlanArrives | Step::PlanFails => next.streamed = 0,
            Step::AnswerAgain(..) => next.faults.duplicates -= 1,
            Step::ForeignTask | Step::ForeignAttempt(..) => next.faults.foreign -= 1,
            Step::FireCleared(_) => next.faults.stale_timers -= 1,
            Step::Answer(_, _, Outcome::Asks) => next.faults.asks -= 1,
            Step::DecideAgain(..) | Step::WrongDigest(_) => next.faults.answers -= 1,
            Step::Sign(..) => next.faults.signs -= 1,
            Step::Decide(..)
            | Step::Answer(..)
            | Step::Fire(_)
            | Step::ComposingEnds(_)
            | Step::Cancel => {}
        }
        // Deadline and closing fire only when they are due; people take their time.
        let due = match (&event, last.world.machine.is_idle()) {
            (Event::TimerFired(key @ (TimerKey::Deadline | TimerKey::Closing)), false) => {
                last.world.timers.get(key).copied()
            }
            (Event::FlowAnswered { .. } | Event::TimerFired(TimerKey::Flow { .. }), true) => {
                Some(last.world.now + DAY)
            }
            _ => None,
        };
        next.world.now = last.world.now.max(due.unwrap_or_default());
        next.world.feed(event);
        Some(next.settled())
    }

    fn properties(&self) -> Vec<Property<Self>> {
        macro_rules! always {
            ($($rule:ident)*) => {
                vec![$(Property::always(stringify!($rule), |_, state: &State| state.keeps(Rule::$rule)),)*]
            };
        }
        let mut properties = always![OneResponse NothingAfterTheResponse AnswersWhenTold NeverStuck ResultIsFinal
            NeverTwice DependenciesFirst OneCurrentAttempt Budgets DeadlineKept Permitted OnlyAcceptedPlans NoNewEffects
            PlanKept NothingLeftRunning ReportsAreWhole DropsCounted AsksFirst AsksOnce WaitsForPeople FlowsEndOnce
            AnswersArrive HoldersLearn ClockKept];
        properties.push(Property::eventually("answered", |_, state: &State| {
            state.world.conclusion.is_some()
        }));
        properties.push(Property::always(
            "silent once answered",
            |model: &Self, state: &State| {
                state.world.conclusion.is_none() || model.is_silent(state)
            },
        ));
        properties.push(Property::always(
            "the deadline answers",
            |_, state: &State| {
                let deadline = state.world.timers.get(&TimerKey::Deadline);
                // There is no deadline while nothing but flows is open.
                let asks = deadline.is_none() && !state.world.flows.is_empty();
                state.world.conclusion.is_some() || asks || {
                    let mut world = state.world.clone();
                    world.now = world.now.max(deadline.copied().unwrap_or_default());
                    world.feed(Event::TimerFired(TimerKey::Deadline));
                    world.conclusion.is_some() && world.ledger.breaches.is_empty()
                }
            },
        ));
        macro_rules! reached {
            ($($reach:ident)*) => {
                |reach: &Reach| match reach {
                    $(Reach::$reach => Property::sometimes(stringify!($reach), |_, state: &State| {
                        state.reached(Reach::$reach)
                    }),)*
                }
            };
        }
        let sometimes = reached![RetryThenSuccess Quarantine Partial Cancelled SecondRound Composed Approved Denied Expired AskedTwice];
        properties.extend(self.reaches.iter().map(sometimes));
        properties
    }
}

impl Request {
    /// Whether an answered request ignores every event.
    fn is_silent(&self, state: &State) -> bool {
        let world = &state.world;
        let attempts = world.awaited.iter().chain(&world.answered);
        let mut late: Vec<Step> = attempts
            .map(|&(task, attempt)| Step::Answer(task, attempt, Outcome::Done))
            .collect();
        late.extend(
            world
                .timers
                .keys()
                .chain(&world.cleared)
                .map(|&key| Step::Fire(key)),
        );
        late.extend([Step::PlanArrives, Step::PlanFails, Step::ForeignTask]);
        late.extend([Step::ComposingEnds(true), Step::Cancel]);
        late.extend(
            world
                .closed
                .keys()
                .map(|flow| Step::DecideAgain(flow.clone(), Decision::Approve)),
        );
        let mut after = world.clone();
        for step in late {
            after.feed(self.event(state, &step));
        }
        after.ledger.breaches == world.ledger.breaches
    }

    fn explore(self, at_least: usize) {
        let checker = self.checker().threads(2).spawn_bfs().join();
        let states = checker.unique_state_count();
        assert!(checker.is_done(), "stopped after {states} states");
        checker.assert_properties();
        // Fails if the model shrinks and explores less than its name says.
        assert!(states >= at_least, "{states} states");
    }
}

/// A task that replaces tasks of earlier rounds.
fn replacing(mut task: PlanTask, ids: &[&str]) -> PlanTask {
    let id = |id: &&str| TaskId::new(id).expect("an id in a test is valid");
    task.replaces = ids.iter().map(id).collect();
    task
}

fn policy() -> Policy {
    Policy {
        attempts: 2,
        refusals: 2,
        kills: 2,
        ..Policy::default()
    }
}

const NO_FAULTS: Faults = Faults {
    duplicates: 0,
    foreign: 0,
    stale_timers: 0,
    streamed: 0,
    asks: 0,
    answers: 0,
    signs: 0,
};

const FAULTS: Faults = Faults {
    duplicates: 1,
    foreign: 1,
    stale_timers: 1,
    ..NO_FAULTS
};

#[test]
fn a_chain_whose_second_task_must_not_run_twice() {
    let request = Request {
        policy: policy(),
        plans: vec![vec![
            task("t1", LOOK, &[]),
            fed_by(task("t2", PAY, &[0]), 0),
        ]],
        faults: FAULTS,
        reaches: &[
            Reach::RetryThenSuccess,
            Reach::Quarantine,
            Reach::Partial,
            Reach::Cancelled,
        ],
    };
    request.explore(4_000);
}

#[test]
fn tasks_whose_agents_give_signs_and_fall_silent() {
    let mut tasks = vec![task("t1", LOOK, &[]), task("t2", PAY, &[])];
    tasks
        .iter_mut()
        .for_each(|task| task.terms.idle_ms = Some(1_000));
    let request = Request {
        policy: Policy {
            refusals: 1,
            ..policy()
        },
        plans: vec![tasks],
        faults: Faults {
            signs: 2,
            stale_timers: 1,
            ..NO_FAULTS
        },
        reaches: &[Reach::RetryThenSuccess, Reach::Partial, Reach::Cancelled],
    };
    request.explore(4_000);
}

#[test]
fn two_tasks_at_once_one_of_which_must_not_run_twice() {
    let request = Request {
        policy: policy(),
        plans: vec![vec![task("t1", LOOK, &[]), task("t2", PAY, &[])]],
        faults: Faults {
            foreign: 0,
            ..FAULTS
        },
        reaches: &[
            Reach::RetryThenSuccess,
            Reach::Quarantine,
            Reach::Partial,
            Reach::Cancelled,
        ],
    };
    request.explore(15_000);
}

/// Explores rounds and texts; the other models explore attempts.
fn two_rounds() -> Policy {
    Policy {
        rounds: 2,
        llm_calls: 3,
        composes: true,
        attempts: 1,
        refusals: 1,
        ..policy()
    }
}

#[test]
fn a_second_round_whose_tasks_arrive_one_by_one() {
    let request = Request {
        policy: two_rounds(),
        plans: vec![
            vec![task("t1", WRITE, &[])],
            vec![
                task("t1", LOOK, &[]),
                replacing(fed_by(task("t2", WRITE, &[0]), 0), &["t1"]),
            ],
        ],
        faults: Faults {
            duplicates: 1,
            foreign: 0,
            stale_timers: 1,
            streamed: 2,
            ..NO_FAULTS
        },
        reaches: &[Reach::SecondRound, Reach::Composed, Reach::Partial],
    };
    request.explore(12_000);
}

#[test]
fn a_second_round_that_would_do_again_what_must_not_be_done_twice() {
    let request = Request {
        policy: two_rounds(),
        plans: vec![
            vec![task("t1", PAY, &[])],
            vec![replacing(task("t1", PAY, &[]), &["t1"])],
        ],
        faults: FAULTS,
        reaches: &[Reach::SecondRound, Reach::Composed],
    };
    request.explore(900);
}

#[test]
fn a_second_round_that_reaches_for_an_effect_that_was_not_planned_before() {
    let request = Request {
        policy: two_rounds(),
        plans: vec![
            vec![task("t1", LOOK, &[])],
            vec![task("t1", LOOK, &[]), task("t2", WRITE, &[])],
        ],
        faults: Faults {
            streamed: 1,
            ..FAULTS
        },
        reaches: &[Reach::Composed],
    };
    request.explore(2_000);
}

#[test]
fn tasks_that_are_cut_off_in_a_backoff_so_that_the_answer_can_be_written() {
    let policy = Policy {
        composes: true,
        refusals: 1,
        ..policy()
    };
    let request = Request {
        policy,
        plans: vec![vec![task("t1", LOOK, &[]), task("t2", LOOK, &[])]],
        faults: Faults {
            stale_timers: 1,
            ..NO_FAULTS
        },
        reaches: &[Reach::RetryThenSuccess, Reach::Composed, Reach::Partial],
    };
    request.explore(20_000);
}

/// Explores people who give any answer.
fn asks() -> Policy {
    Policy {
        flows: FlowKind::ALL.to_vec(),
        refusals: 1,
        ..policy()
    }
}

#[test]
fn a_chain_whose_second_task_needs_a_yes() {
    let request = Request {
        policy: asks(),
        plans: vec![vec![
            task("t1", LOOK, &[]),
            fed_by(task("t2", SEND, &[0]), 0),
        ]],
        faults: Faults {
            asks: 1,
            answers: 1,
            ..NO_FAULTS
        },
        reaches: &[
            Reach::Approved,
            Reach::Denied,
            Reach::Expired,
            Reach::AskedTwice,
            Reach::Partial,
            Reach::Cancelled,
        ],
    };
    request.explore(4_000);
}

#[test]
fn two_tasks_at_once_one_of_which_needs_a_yes_and_the_other_asks() {
    let policy = Policy {
        composes: true,
        attempts: 1,
        ..asks()
    };
    let request = Request {
        policy,
        plans: vec![vec![task("t1", LOOK, &[]), task("t2", SEND, &[])]],
        faults: Faults {
            asks: 1,
            stale_timers: 1,
            ..NO_FAULTS
        },
        reaches: &[
            Reach::Approved,
            Reach::Denied,
            Reach::Expired,
            Reach::AskedTwice,
            Reach::Composed,
            Reach::Partial,
        ],
    };
    request.explore(15_000);
}

#[test]
fn people_who_are_asked_while_plans_arrive_and_are_made_again() {
    let request = Request {
        policy: rounds_that_ask(),
        plans: vec![
            vec![task("t1", LOGIN, &[])],
            vec![replacing(task("t2", LOGIN, &[]), &["t1"])],
        ],
        faults: Faults {
            streamed: 1,
            ..NO_FAULTS
        },
        reaches: &[
            Reach::Approved,
            Reach::Denied,
            Reach::Expired,
            Reach::SecondRound,
            Reach::Composed,
        ],
    };
    request.explore(900);
}

/// A task that reads after a login.
const LOGIN: Kind = Kind {
    flow: Some(FlowKind::Oauth),
    ..LOOK
};

fn rounds_that_ask() -> Policy {
    Policy {
        flows: FlowKind::ALL.to_vec(),
        ..two_rounds()
    }
}

#[test]
#[ignore = "explores for about a minute"]
fn large_two_rounds_that_ask_while_plans_arrive() {
    let request = Request {
        policy: rounds_that_ask(),
        plans: vec![
            vec![task("t1", LOGIN, &[]), task("t2", LOOK, &[])],
            vec![replacing(task("t3", LOGIN, &[]), &["t1", "t2"])],
        ],
        faults: Faults {
            streamed: 1,
            ..NO_FAULTS
        },
        reaches: &[Reach::Approved, Reach::SecondRound],
    };
    request.explore(5_000);
}

#[test]
#[ignore = "explores for about a minute"]
fn large_three_tasks_that_ask() {
    let tasks = vec![
        task("t1", SEND, &[]),
        task("t2", LOOK, &[]),
        task("t3", SEND, &[0, 1]),
    ];
    let request = Request {
        policy: Policy {
            attempts: 1,
            ..asks()
        },
        plans: vec![tasks],
        faults: Faults {
            asks: 1,
            stale_timers: 1,
            ..NO_FAULTS
        },
        reaches: &[
            Reach::Approved,
            Reach::Denied,
            Reach::Expired,
            Reach::AskedTwice,
            Reach::Partial,
        ],
    };
    request.explore(10_000);
}

#[test]
#[ignore = "explores for about a minute"]
fn large_a_diamond() {
    let tasks = vec![
        task("t1", LOOK, &[]),
        task("t2", PAY, &[0]),
        task("t3", LOOK, &[0]),
        task("t4", LOOK, &[1, 2]),
    ];
    let request = Request {
        policy: policy(),
        plans: vec![tasks],
        faults: Faults {
            streamed: 1,
            ..NO_FAULTS
        },
        reaches: &[
            Reach::RetryThenSuccess,
            Reach::Quarantine,
            Reach::Partial,
            Reach::Cancelled,
        ],
    };
    request.explore(200_000);
}

#[test]
#[ignore = "explores for about a minute"]
fn large_two_tasks_at_once_with_three_attempts() {
    let policy = Policy {
        attempts: 3,
        refusals: 2,
        kills: 3,
        ..policy()
    };
    let request = Request {
        policy,
        plans: vec![vec![task("t1", LOOK, &[]), task("t2", LOOK, &[])]],
        faults: NO_FAULTS,
        reaches: &[
            Reach::RetryThenSuccess,
            Reach::Quarantine,
            Reach::Partial,
            Reach::Cancelled,
        ],
    };
    request.explore(100_000);
}
