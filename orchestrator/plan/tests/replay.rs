//! The same events at the same times lead to the same actions, and one recorded request reads as a story.
//!
//! Does not judge what the machine does: the ledger of the other tests does.

mod support {
    pub(crate) mod plans;
}

use std::fmt::Write as _;
use std::time::Duration;

use amcp_plan::{Action, Event, Machine, Policy, Time, TimerKey};
use amcp_protocol::task::TaskOutcome;
use amcp_protocol::{AgentId, ErrorCode, Failure};
use proptest::collection::vec;
use proptest::prelude::*;
use serde_json::json;

use support::plans::{LOOK, PAY, WRITE, fed_by, plan, task};

/// Any event, whether or not it fits what happened before.
fn event() -> impl Strategy<Value = Event> {
    let place = || (0..4_usize, 1..4_u32);
    let code = || prop::sample::select(ErrorCode::ALL);
    let failure = |code| Failure::new(code, "as drawn");
    let outcome = prop_oneof![
        any::<u8>().prop_map(|n| TaskOutcome::Done(json!({ "x": n }))),
        code().prop_map(move |code| TaskOutcome::Failed(failure(code))),
        code().prop_map(move |code| TaskOutcome::Refused(failure(code))),
    ];
    let key = prop_oneof![
        Just(TimerKey::Deadline),
        Just(TimerKey::Closing),
        (1..3_u32).prop_map(|round| TimerKey::Planning { round }),
        place().prop_map(|(task, attempt)| TimerKey::Attempt { task, attempt }),
        place().prop_map(|(task, attempt)| TimerKey::Retry { task, attempt }),
    ];
    let agent = |attempt: u32| AgentId::new(format!("agent-{attempt}")).expect("a valid id");
    prop_oneof![
        2 => (1..3_u32).prop_map(|round| Event::TasksAdded { round, tasks: diamond().into_iter().take(2).collect() }),
        4 => (1..3_u32).prop_map(|round| planned(round, 1)),
        4 => place().prop_map(move |(task, attempt)| Event::Sent { task, attempt, agent: agent(attempt) }),
        8 => (place(), outcome).prop_map(|((task, attempt), outcome)| Event::Responded { calls: Vec::new(), task, attempt, outcome }),
        4 => key.prop_map(Event::TimerFired),
        1 => code().prop_map(move |code| Event::Composed { result: Err(failure(code)), llm_calls: 1, notes: vec![] }),
        1 => Just(Event::CancelRequested),
    ]
}

fn diamond() -> Vec<amcp_plan::PlanTask> {
    vec![
        task("t1", LOOK, &[]),
        fed_by(task("t2", LOOK, &[0]), 0),
        task("t3", WRITE, &[0]),
        task("t4", PAY, &[1, 2]),
    ]
}

fn planned(round: u32, llm_calls: u32) -> Event {
    Event::Planned {
        round,
        result: Ok(plan(diamond())),
        planner: "recorded".into(),
        llm_calls,
        notes: vec![],
    }
}

/// All actions of a recording, one line each.
fn replay(policy: &Policy, recording: &[(Time, Event)]) -> String {
    let (mut machine, first) = Machine::start(policy.clone());
    let mut text = String::new();
    let mut note = |actions: &[Action]| {
        for action in actions {
            writeln!(text, "{action:?}").expect("a string takes every text");
        }
    };
    note(&first);
    for (now, event) in recording {
        note(&machine.step(*now, event.clone()));
    }
    text
}

proptest! {
    #[test]
    fn invariant_a_recording_replays_to_the_same_actions(
        drawn in vec((0..500_u64, event()), 0..60),
        seed: u64,
        composes: bool,
    ) {
        let policy = Policy { rounds: 2, seed, composes, ..Policy::default() };
        let mut now = Time::ZERO;
        let recording: Vec<_> = drawn
            .into_iter()
            .map(|(ms, event)| {
                now += Duration::from_millis(ms);
                (now, event)
            })
            .collect();
        let actions = replay(&policy, &recording);
        prop_assert_eq!(&actions, &replay(&policy, &recording));
        let responses = actions.lines().filter(|line| line.starts_with("Respond("));
        prop_assert!(responses.count() <= 1);
    }
}

/// An event as a person would tell it.
fn heard(event: &Event) -> String {
    match event {
        Event::TasksAdded { round, tasks } => format!("round {round} gets {} tasks", tasks.len()),
        Event::Planned { round, .. } => format!("round {round} is planned"),
        Event::Sent {
            task,
            attempt,
            agent,
        } => format!("{agent} gets {task}.{attempt}"),
        Event::Responded {
            calls: _,
            task,
            attempt,
            outcome: TaskOutcome::Done(result) | TaskOutcome::Partly(result, _),
        } => format!("{task}.{attempt} is done: {result}"),
        Event::Responded {
            calls: _,
            task,
            attempt,
            outcome: TaskOutcome::Failed(failure) | TaskOutcome::Refused(failure),
        } => format!("{task}.{attempt} fails: {}", failure.code),
        Event::TimerFired(key) => format!("{key:?} fires"),
        Event::Composed { .. } => "the answer is written".to_owned(),
        Event::CancelRequested => "the user cancels".to_owned(),
        Event::CutOff(failure) => format!("the node stops: {}", failure.code),
    }
}

/// An action as a person would tell it.
fn told(action: &Action) -> String {
    match action {
        Action::Plan { round, .. } => format!("plan round {round}"),
        Action::Dispatch {
            task,
            attempt,
            params,
            avoid,
            ..
        } => {
            let avoid: Vec<_> = avoid.iter().map(AgentId::as_str).collect();
            format!("dispatch {task}.{attempt} {params} avoiding {avoid:?}")
        }
        Action::Abandon { task, attempt } => format!("abandon {task}.{attempt}"),
        Action::SetTimer { key, at } => format!("set {key:?} at {at:?}"),
        Action::ClearTimer(key) => format!("clear {key:?}"),
        Action::Compose { tasks, .. } => format!("compose from {} tasks", tasks.len()),
        Action::Report(progress) => format!("report {}", progress.event_type()),
        Action::Respond(conclusion) => {
            let states: Vec<_> = conclusion.tasks.iter().map(|task| task.state).collect();
            format!("respond {:?} {states:?}", conclusion.state)
        }
    }
}

#[test]
fn a_recorded_request_in_which_an_agent_dies_and_a_payment_hangs() {
    let ms = Duration::from_millis;
    let sent = |task, attempt, agent: &str| Event::Sent {
        task,
        attempt,
        agent: AgentId::new(agent).unwrap(),
    };
    let done = |task, attempt, result| Event::Responded {
        calls: Vec::new(),
        task,
        attempt,
        outcome: TaskOutcome::Done(result),
    };
    let lost = Event::Responded {
        calls: Vec::new(),
        task: 0,
        attempt: 1,
        outcome: TaskOutcome::Failed(Failure::new(ErrorCode::AgentLost, "it went away")),
    };
    let retry = TimerKey::Retry {
        task: 0,
        attempt: 1,
    };
    let pay = TimerKey::Attempt {
        task: 3,
        attempt: 1,
    };
    let recording = [
        (ms(2), planned(1, 0)),
        (ms(3), sent(0, 1, "look-1")),
        (ms(9), lost),
        (ms(70), Event::TimerFired(retry)),
        (ms(71), sent(0, 2, "look-2")),
        (ms(72), done(0, 1, json!("late"))),
        (ms(80), done(0, 2, json!({"x": 1}))),
        (ms(81), sent(1, 1, "look-2")),
        (ms(81), sent(2, 1, "write-1")),
        (ms(90), done(1, 1, json!(2))),
        (ms(95), done(2, 1, json!(3))),
        (ms(96), sent(3, 1, "pay-1")),
        (ms(30_095), Event::TimerFired(pay)),
    ];
    let (mut machine, first) = Machine::start(Policy::default());
    let mut story = vec!["0ns the request is accepted".to_owned()];
    story.extend(first.iter().map(|action| format!("  {}", told(action))));
    for (now, event) in recording {
        story.push(format!("{now:?} {}", heard(&event)));
        let actions = machine.step(now, event);
        story.extend(actions.iter().map(|action| format!("  {}", told(action))));
    }
    let story = story.join("\n") + "\n";
    let recorded = include_str!("recorded/agent_dies_and_payment_hangs.txt");
    assert!(
        story == recorded,
        "the request went another way than recorded:\n{story}"
    );
}
