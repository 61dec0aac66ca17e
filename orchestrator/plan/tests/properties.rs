//! Runs machines with random plans on a random network and checks every step against the ledger's rules.
//!
//! Does not reach every order of events: that is the model's part, with smaller plans.

#[expect(dead_code, reason = "the model uses the rest")]
mod support {
    pub(crate) mod ledger;
    pub(crate) mod plans;
    pub(crate) mod world;
}

use std::time::Duration;

use amcp_plan::{Event, Plan, PlanTask, Policy, TimerKey};
use amcp_protocol::flow::Decision;
use amcp_protocol::llm::Usage;
use amcp_protocol::task::TaskOutcome;
use amcp_protocol::{
    Effect, ErrorCode, Failure, FlowAnswer, FlowId, FlowKind, FlowRequest, TaskId,
};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest_state_machine::{ReferenceStateMachine, StateMachineTest, prop_state_machine};
use serde_json::json;

use support::ledger::Rule;
use support::plans::{Kind, fed_by, plan, task};
use support::world::World;

/// The fixed input of a run.
#[derive(Debug, Clone)]
struct Request {
    policy: Policy,
    /// The plan of each round; the last one serves all further rounds.
    plans: Vec<Vec<PlanTask>>,
}

/// The next event. A number picks one of the candidates at that time.
#[derive(Debug, Clone)]
enum Step {
    /// This number of further tasks of the arriving plan.
    Stream(usize),
    PlanArrives {
        llm_calls: u32,
        unplaced: bool,
    },
    /// Another plan than the one whose tasks arrived before.
    OtherPlanArrives,
    PlanFails,
    /// A plan that the machine did not ask for, or no longer wants.
    StalePlan(u32),
    Answer(usize, Outcome),
    AnswerAgain(usize, Outcome),
    Foreign(usize, u32),
    Sign(usize, u32),
    NextTimer,
    AnyTimer(usize),
    ClearedTimer(usize),
    Deadline,
    Decide(usize, Decision),
    /// An answer to a closed flow, with its digest.
    DecideLate(usize, Decision),
    /// An approval with another digest.
    WrongDigest(usize),
    Wait(u64),
    Composed(bool, u32),
    Cancel,
    CutOff,
}

/// The end of an attempt: a result's size, or a code.
#[derive(Debug, Clone, Copy)]
enum Outcome {
    Done(usize),
    Partly(usize),
    Failed(ErrorCode),
    Refused(ErrorCode),
    Asks(FlowKind),
}

fn kind() -> impl Strategy<Value = Kind> {
    let effect = prop_oneof![
        4 => Just(Effect::Read),
        2 => Just(Effect::Write),
        1 => Just(Effect::Irreversible),
    ];
    let flow = prop::sample::select(vec![FlowKind::Confirmation, FlowKind::Payment]);
    (
        effect,
        prop::bool::weighted(0.7),
        prop::bool::weighted(0.1),
        prop::option::weighted(0.25, flow),
    )
        .prop_map(|(effect, idempotent, secret, flow)| Kind {
            effect,
            idempotent,
            secret,
            flow,
        })
}

/// An acyclic plan in any order: the compiler appends the tasks that it adds, so edges point forward too.
fn tasks() -> impl Strategy<Value = Vec<PlanTask>> {
    let one = || {
        (
            kind(),
            prop::bool::weighted(0.2),
            vec(any::<prop::sample::Index>(), 0..3),
            prop::bool::weighted(0.3),
            any::<u16>(),
            prop::option::weighted(0.5, 0..4_usize),
        )
    };
    // Mostly small plans: a run is long enough to end their round and begin the next.
    let drawn = prop_oneof![2 => vec(one(), 0..4), 1 => vec(one(), 4..=12)];
    drawn.prop_map(|drawn| {
        let mut places: Vec<usize> = (0..drawn.len()).collect();
        places.sort_by_key(|&i| drawn.get(i).map(|one| one.4));
        let mut tasks: Vec<(usize, PlanTask)> = drawn
            .iter()
            .enumerate()
            .map(|(nth, (kind, optional, before, fed, order, replaces))| {
                let place = |nth: usize| places.iter().position(|&i| i == nth).unwrap_or(nth);
                let mut after: Vec<usize> = before
                    .iter()
                    .filter(|_| nth > 0)
                    .map(|index| place(index.index(nth)))
                    .collect();
                after.sort_unstable();
                after.dedup();
                let mut task = task(&format!("t{nth}"), *kind, &after);
                task.optional = *optional;
                task.terms.idle_ms = (order % 2 == 0).then_some(300);
                // In a first round there is nothing to replace, and the machine ignores `replaces`.
                let replaced = replaces.map(|n| TaskId::new(format!("t{n}")).expect("a valid id"));
                task.replaces = replaced.into_iter().collect();
                if let Some(&from) = after.first().filter(|_| *fed) {
                    task = fed_by(task, from);
                }
                (place(nth), task)
            })
            .collect();
        tasks.sort_by_key(|(place, _)| *place);
        tasks.into_iter().map(|(_, task)| task).collect()
    })
}

fn policy() -> impl Strategy<Value = Policy> {
    let limits = (1..4_u32, 1..4_u32, 1..4_u32, 0..7_u32, 1..4_u32);
    let flows = prop_oneof![
        3 => Just(FlowKind::ALL.to_vec()),
        1 => prop::sample::subsequence(FlowKind::ALL.to_vec(), 0..4),
    ];
    let rest = (
        any::<bool>(),
        any::<bool>(),
        any::<u64>(),
        prop_oneof![Just(40_usize), Just(100_000)],
        prop::option::weighted(0.3, 0..8_u32),
    );
    // Short deadlines cut retries off, long ones let all of them happen.
    let deadline = prop_oneof![200..2_000_u64, 2_000..120_000_u64];
    (limits, rest, deadline, flows).prop_map(|(limits, rest, deadline_ms, flows)| {
        let (attempts, refusals, kills, llm_calls, rounds) = limits;
        let (boss, composes, seed, result_bytes, calls) = rest;
        Policy {
            roles: boss.then(|| "boss".to_owned()).into_iter().collect(),
            deadline: Duration::from_millis(deadline_ms),
            plan_time: Duration::from_millis(deadline_ms / 2),
            attempts,
            refusals,
            kills,
            llm_calls,
            result_bytes,
            rounds,
            composes,
            calls,
            flows,
            seed,
        }
    })
}

fn outcome() -> impl Strategy<Value = Outcome> {
    prop_oneof![
        6 => (0..30_usize).prop_map(Outcome::Done),
        1 => (0..30_usize).prop_map(Outcome::Partly),
        3 => prop::sample::select(ErrorCode::ALL).prop_map(Outcome::Failed),
        2 => prop::sample::select(ErrorCode::ALL).prop_map(Outcome::Refused),
        2 => prop::sample::select(FlowKind::ALL.to_vec()).prop_map(Outcome::Asks),
    ]
}

impl ReferenceStateMachine for Request {
    type State = Self;
    type Transition = Step;

    fn init_state() -> BoxedStrategy<Self> {
        (policy(), vec(tasks(), 1..3))
            .prop_map(|(policy, plans)| Self { policy, plans })
            .boxed()
    }

    fn transitions(_: &Self) -> BoxedStrategy<Step> {
        let pick = any::<usize>;
        let decision = || prop_oneof![3 => Just(Decision::Approve), 1 => Just(Decision::Deny)];
        prop_oneof![
            4 => (1..4_usize).prop_map(Step::Stream),
            12 => (0..3_u32, prop::bool::weighted(0.2))
                .prop_map(|(llm_calls, unplaced)| Step::PlanArrives { llm_calls, unplaced }),
            1 => Just(Step::OtherPlanArrives),
            1 => Just(Step::PlanFails),
            1 => (0..4_u32).prop_map(Step::StalePlan),
            30 => (pick(), outcome()).prop_map(|(pick, outcome)| Step::Answer(pick, outcome)),
            4 => (pick(), outcome()).prop_map(|(pick, outcome)| Step::AnswerAgain(pick, outcome)),
            2 => (0..14_usize, 0..9_u32).prop_map(|(task, attempt)| Step::Foreign(task, attempt)),
            4 => (0..14_usize, 0..9_u32).prop_map(|(task, attempt)| Step::Sign(task, attempt)),
            8 => Just(Step::NextTimer),
            2 => pick().prop_map(Step::AnyTimer),
            4 => pick().prop_map(Step::ClearedTimer),
            8 => (pick(), decision()).prop_map(|(pick, what)| Step::Decide(pick, what)),
            2 => (pick(), decision()).prop_map(|(pick, what)| Step::DecideLate(pick, what)),
            1 => pick().prop_map(Step::WrongDigest),
            4 => (0..200_u64).prop_map(Step::Wait),
            3 => (any::<bool>(), 0..3_u32).prop_map(|(well, calls)| Step::Composed(well, calls)),
            1 => prop::sample::select(vec![Step::Deadline, Step::Cancel, Step::CutOff]),
        ]
        .boxed()
    }

    fn apply(state: Self, _: &Step) -> Self {
        state
    }
}

struct Run {
    world: World,
    streamed: usize,
}

impl Run {
    fn tasks(&self, request: &Request) -> Vec<PlanTask> {
        let round = self.world.planning.unwrap_or(1) as usize;
        let plans = request.plans.get(round - 1).or(request.plans.last());
        plans.cloned().unwrap_or_default()
    }

    fn next_timer(&self) -> Option<Event> {
        let next = self.world.timers.iter().min_by_key(|(_, at)| **at);
        next.map(|(key, _)| Event::TimerFired(*key))
    }

    fn planned(&self, round: Option<u32>, result: Result<Plan, Failure>, llm_calls: u32) -> Event {
        Event::Planned {
            round: round.or(self.world.planning).unwrap_or(1),
            result,
            planner: "random".into(),
            llm_calls,
            usage: Usage::default(),
            notes: vec![],
        }
    }

    fn sign(&self, n: usize, attempt: u32) -> Event {
        let awaited = pick(&self.world.awaited, n).filter(|_| attempt.is_multiple_of(2));
        let (task, attempt) = awaited.copied().unwrap_or((n, attempt));
        let note = "it goes on".to_owned();
        Event::Progressed {
            task,
            attempt,
            note,
        }
    }

    /// The event of a step; none if there is no candidate.
    fn event(&mut self, request: &Request, step: Step) -> Option<Event> {
        let tasks = self.tasks(request);
        let planning = self.world.planning;
        let event = match step {
            Step::Stream(more) => {
                let next: Vec<_> = tasks.into_iter().skip(self.streamed).take(more).collect();
                self.streamed += next.len();
                Event::TasksAdded {
                    round: planning?,
                    tasks: next,
                }
            }
            Step::PlanArrives {
                llm_calls,
                unplaced,
            } => {
                planning?;
                let unplaced = unplaced.then(|| "the rest".to_owned());
                let plan = Plan {
                    unplaced: unplaced.into_iter().collect(),
                    ..plan(tasks)
                };
                self.planned(None, Ok(plan), llm_calls)
            }
            Step::OtherPlanArrives => {
                planning?;
                let half = tasks.len() / 2;
                let mut tasks: Vec<_> = tasks.into_iter().take(half).collect();
                for task in &mut tasks {
                    task.after.retain(|&before| before < half);
                    task.references.retain(|reference| reference.from < half);
                }
                self.planned(None, Ok(plan(tasks)), 1)
            }
            Step::PlanFails => {
                planning?;
                self.planned(None, Err(failure(ErrorCode::LlmMalformed)), 1)
            }
            Step::StalePlan(round) if planning != Some(round) => {
                self.planned(Some(round), Ok(plan(tasks)), 1)
            }
            Step::StalePlan(_) => return None,
            Step::Answer(n, outcome) => responded(*pick(&self.world.awaited, n)?, outcome),
            Step::AnswerAgain(n, outcome) => responded(*pick(&self.world.answered, n)?, outcome),
            Step::Foreign(task, attempt) => {
                if self.world.awaited.contains(&(task, attempt)) {
                    return None;
                }
                responded((task, attempt), Outcome::Done(1))
            }
            Step::Sign(n, attempt) => self.sign(n, attempt),
            Step::NextTimer => self.next_timer()?,
            Step::AnyTimer(n) => Event::TimerFired(*pick(self.world.timers.keys(), n)?),
            Step::ClearedTimer(n) => Event::TimerFired(*pick(&self.world.cleared, n)?),
            Step::Deadline => Event::TimerFired(TimerKey::Deadline),
            Step::Decide(n, decision) => answered(pick(&self.world.flows, n)?, decision),
            Step::DecideLate(n, decision) => answered(pick(&self.world.closed, n)?, decision),
            Step::WrongDigest(n) => {
                let flow = pick(self.world.flows.keys(), n)?;
                answered((flow, &String::new()), Decision::Approve)
            }
            Step::Wait(ms) => {
                self.world.now += Duration::from_millis(ms);
                return None;
            }
            Step::Composed(well, llm_calls) => composed(well, llm_calls),
            Step::Cancel => Event::CancelRequested,
            Step::CutOff => Event::CutOff(failure(ErrorCode::ShuttingDown)),
        };
        Some(event)
    }
}

fn failure(code: ErrorCode) -> Failure {
    Failure::new(code, "as drawn")
}

fn composed(well: bool, llm_calls: u32) -> Event {
    let text = well.then(|| "The text.".to_owned());
    Event::Composed {
        result: text.ok_or_else(|| failure(ErrorCode::LlmCut)),
        llm_calls,
        usage: Usage::default(),
        notes: vec![],
    }
}

fn pick<T>(from: impl IntoIterator<Item = T, IntoIter: ExactSizeIterator>, n: usize) -> Option<T> {
    let mut from = from.into_iter();
    let index = n.checked_rem(from.len())?;
    from.nth(index)
}

fn answered((flow, digest): (&FlowId, &String), decision: Decision) -> Event {
    Event::FlowAnswered {
        flow: flow.clone(),
        answer: FlowAnswer {
            decision,
            digest: digest.clone(),
            payload: json!({"by": "a person"}),
            reason: None,
        },
    }
}

fn responded((task, attempt): (usize, u32), outcome: Outcome) -> Event {
    let result = |n: usize| json!("x".repeat(n)).into();
    Event::Responded {
        calls: Vec::new(),
        task,
        attempt,
        outcome: match outcome {
            Outcome::Done(n) => TaskOutcome::Done(result(n)),
            Outcome::Partly(n) => {
                TaskOutcome::Partly(result(n), failure(ErrorCode::DependencyFailed))
            }
            Outcome::Failed(code) => TaskOutcome::Failed(failure(code)),
            Outcome::Refused(code) => TaskOutcome::Refused(failure(code)),
            Outcome::Asks(kind) => TaskOutcome::FlowRequired(Box::new(FlowRequest {
                asker: format!("r/t{task}/{attempt}"),
                // Also an agent that held work may hold nothing later.
                held: attempt % 3 != 0,
                ..FlowRequest::new(kind, "May it go on?").expires_ms(5_000)
            })),
        },
    }
}

/// The ledger's rules that a test checks.
trait Concern: 'static {
    const RULES: &'static [Rule];
}

struct Keeping<C>(std::marker::PhantomData<C>);

impl<C: Concern> StateMachineTest for Keeping<C> {
    type SystemUnderTest = Run;
    type Reference = Request;

    fn init_test(request: &Request) -> Run {
        Run {
            world: World::start(request.policy.clone()),
            streamed: 0,
        }
    }

    fn apply(mut run: Run, request: &Request, step: Step) -> Run {
        let Some(event) = run.event(request, step) else {
            return run;
        };
        if let Event::TimerFired(key) = &event
            && let Some(due) = run.world.timers.get(key)
        {
            run.world.now = run.world.now.max(*due);
        }
        let round = run.world.planning;
        run.world.feed(event);
        if run.world.planning != round {
            run.streamed = 0;
        }
        run
    }

    fn check_invariants(run: &Run, _: &Request) {
        let broken: Vec<_> = run.world.ledger.breaches.iter().collect();
        let ours = broken.iter().any(|rule| C::RULES.contains(rule));
        assert!(!ours, "{broken:?} in {:?}", run.world);
    }

    fn teardown(mut run: Run, request: Request) {
        // Without a deadline only flows are open, and these expire.
        while run.world.conclusion.is_none() {
            let timed = run.world.timers.contains_key(&TimerKey::Deadline);
            let step = if timed {
                Step::Deadline
            } else {
                Step::NextTimer
            };
            assert!(!run.world.timers.is_empty(), "no answer at the deadline");
            run = Self::apply(run, &request, step);
            Self::check_invariants(&run, &request);
            assert!(run.world.conclusion.is_some() || !timed);
        }
    }
}

macro_rules! concerns {
    ($($name:ident: $($rule:ident)*,)*) => {
        $(
            struct $name;

            impl Concern for $name {
                const RULES: &'static [Rule] = &[$(Rule::$rule),*];
            }
        )*
    };
}

concerns! {
    OneResponse: OneResponse NothingAfterTheResponse AnswersWhenTold NeverStuck,
    NothingTwice: ResultIsFinal NeverTwice OneCurrentAttempt DropsCounted SignsDecideNothing,
    NothingForbidden: DependenciesFirst Permitted OnlyAcceptedPlans NoNewEffects PlanKept,
    WithinLimits: Budgets DeadlineKept ClockKept,
    PeopleAsked: AsksFirst AsksOnce WaitsForPeople FlowsEndOnce AnswersArrive HoldersLearn,
    WholeReports: NothingLeftRunning ReportsAreWhole,
}

prop_state_machine! {
    #[test]
    fn invariant_every_request_is_answered_once_and_nothing_follows(
        sequential 1..80 => Keeping<OneResponse>
    );

    #[test]
    fn invariant_no_task_ends_twice_or_is_done_twice(sequential 1..80 => Keeping<NothingTwice>);

    #[test]
    fn invariant_only_what_is_planned_permitted_and_due_is_dispatched(
        sequential 1..80 => Keeping<NothingForbidden>
    );

    #[test]
    fn invariant_budgets_and_the_deadline_are_kept(sequential 1..80 => Keeping<WithinLimits>);

    #[test]
    fn invariant_people_are_asked_once_and_before_anything_is_done(
        sequential 1..80 => Keeping<PeopleAsked>
    );

    #[test]
    fn invariant_reports_are_whole_and_nothing_runs_on(sequential 1..80 => Keeping<WholeReports>);
}
