//! Replays recordings of real requests, and drawn ones, with today's machine.
//!
//! Does not judge the machine's actions: the ledger of the other tests does.

mod support {
    pub(crate) mod plans;
}

use std::path::Path;
use std::time::Duration;

use amcp_plan::recording::{self, Accepted, Opening, ReplayError, Turn, replay};
use amcp_plan::{Action, Event, Machine, PlanTask, Policy, Time, TimerKey, resume};
use amcp_protocol::flow::Decision;
use amcp_protocol::llm::Usage;
use amcp_protocol::task::TaskOutcome;
use amcp_protocol::{AgentId, ErrorCode, Failure, FlowAnswer, FlowKind, FlowRequest, Lineage};
use proptest::collection::vec;
use proptest::prelude::*;
use serde_json::json;

use support::plans::{LOOK, SEND, WRITE, fed_by, plan, task};

/// Recordings that `AMCP_RECORD_TO=DIR cargo nextest run -p amcp-orchestrator` writes, one for each request of its tests.
#[test]
fn every_recorded_request_is_repeated() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/recorded");
    let mut repeated = 0;
    for entry in std::fs::read_dir(folder).expect("the recordings are beside this file") {
        let path = entry.expect("a readable folder").path();
        let text = std::fs::read_to_string(&path).expect("a recording is a text");
        match replay(&text) {
            Ok(replayed) => assert!(replayed.answered, "{}", path.display()),
            Err(error) => panic!("{}: {error}", path.display()),
        }
        repeated += 1;
    }
    assert!(repeated >= 20, "{repeated} recordings");
}

#[test]
fn what_is_no_recording_is_named() {
    assert_eq!(replay(" \n"), Err(ReplayError::Empty));
    let text = recorded(&Policy::default(), &[]);
    let later = text.replacen("\"version\":1", "\"version\":2", 1);
    assert_eq!(replay(&later), Err(ReplayError::Version(2)));
    let cut = text + "{\"at\"";
    assert!(matches!(
        replay(&cut),
        Err(ReplayError::Unreadable { line: 2, .. })
    ));
}

/// The kinds of the actions that are open after these events, and the number of timers.
fn open_after(events: &[Event]) -> (Vec<&'static str>, usize) {
    let events = events.iter().cloned().map(|event| (Time::ZERO, event));
    let resumed = resume(asks(), events);
    let kind = |action: &Action| match action {
        Action::Plan { .. } => "plan",
        Action::Choose { .. } => "choose",
        Action::Send(_) => "send",
        Action::Compose { .. } => "compose",
        Action::Respond(_) => "respond",
        Action::Withdraw(_)
        | Action::Abandon { .. }
        | Action::SetTimer { .. }
        | Action::ClearTimer(_)
        | Action::Report(_) => "over at once",
    };
    let kinds = resumed.open.iter().map(kind).collect();
    (kinds, resumed.timers.len())
}

#[test]
fn what_has_no_outcome_is_open_after_a_crash() {
    let plan = planned(1, vec![task("t1", LOOK, &[]), task("t2", LOOK, &[0])]);
    let chosen = |task| Event::Chosen {
        task,
        attempt: 1,
        agent: AgentId::new("a").expect("a valid id"),
        incarnation: 1,
    };
    let done = |task| Event::Responded {
        task,
        attempt: 1,
        outcome: TaskOutcome::Done(json!({"x": 1}).into()),
        calls: Vec::new(),
    };
    let events = [plan, chosen(0), done(0), chosen(1), done(1)];
    let open: Vec<_> = (0..=events.len())
        .map(|n| open_after(&events[..n]))
        .collect();
    let kinds: Vec<_> = open.iter().map(|(kinds, _)| kinds.join(" ")).collect();
    assert_eq!(
        kinds,
        ["plan", "choose", "send", "choose", "send", "respond"]
    );
    // The deadline with the round's time, then with the attempt's; none after the answer.
    let timers: Vec<_> = open.iter().map(|(_, timers)| *timers).collect();
    assert_eq!(timers, [2, 2, 2, 2, 2, 0]);
}

/// Any event, whether or not it fits what happened before.
fn event() -> impl Strategy<Value = Event> {
    let place = || (0..4_usize, 1..4_u32);
    let code = || prop::sample::select(ErrorCode::ALL);
    let failure = |code| Failure::new(code, "as drawn");
    let outcome = prop_oneof![
        any::<u8>().prop_map(|n| TaskOutcome::Done(json!({ "x": n }).into())),
        code().prop_map(move |code| TaskOutcome::Failed(failure(code))),
        code().prop_map(move |code| TaskOutcome::Refused(failure(code))),
        Just(TaskOutcome::FlowRequired(Box::new(FlowRequest {
            asker: "r/t/1".into(),
            ..FlowRequest::new(FlowKind::Payment, "Pay 12 EUR?")
        }))),
    ];
    let key = prop_oneof![
        Just(TimerKey::Deadline),
        Just(TimerKey::Closing),
        (1..3_u32).prop_map(|round| TimerKey::Planning { round }),
        place().prop_map(|(task, attempt)| TimerKey::Attempt { task, attempt }),
        place().prop_map(|(task, attempt)| TimerKey::Retry { task, attempt }),
        place().prop_map(|(task, number)| TimerKey::Flow { task, number }),
        place().prop_map(|(task, attempt)| TimerKey::Silence { task, attempt }),
    ];
    let agent = |attempt: u32| AgentId::new(format!("agent-{attempt}")).expect("a valid id");
    prop_oneof![
        2 => (1..3_u32).prop_map(|round| Event::TasksAdded { round, tasks: diamond().into_iter().take(2).collect() }),
        4 => (1..3_u32).prop_map(|round| planned(round, diamond())),
        4 => place().prop_map(move |(task, attempt)| Event::Chosen { task, attempt, agent: agent(attempt), incarnation: 1 }),
        8 => (place(), outcome).prop_map(|((task, attempt), outcome)| Event::Responded { calls: Vec::new(), task, attempt, outcome }),
        2 => place().prop_map(|(task, attempt)| Event::Progressed { task, attempt, note: "it goes on".into() }),
        4 => key.prop_map(Event::TimerFired),
        4 => prop::sample::select(vec![Decision::Approve, Decision::Deny]).prop_map(confirmed),
        1 => code().prop_map(move |code| Event::Composed { result: Err(failure(code)), llm_calls: 1, usage: Usage::default(), notes: vec![] }),
        1 => Just(Event::CancelRequested),
    ]
}

fn diamond() -> Vec<PlanTask> {
    let mut first = task("t1", LOOK, &[]);
    first.terms.idle_ms = Some(1_000);
    vec![
        first,
        fed_by(task("t2", LOOK, &[0]), 0),
        task("t3", WRITE, &[0]),
        task("t4", SEND, &[]),
    ]
}

/// The answer to the flow before the fourth task.
fn confirmed(decision: Decision) -> Event {
    let (mut machine, _) = Machine::start(asks());
    let _ = machine.step(Time::ZERO, planned(1, vec![task("t4", SEND, &[])]));
    let flow = machine.open_flows().next().expect("it asks first");
    Event::FlowAnswered {
        flow: flow.id.clone(),
        answer: FlowAnswer {
            decision,
            digest: flow.digest.clone(),
            payload: json!({"by": "a person"}),
            reason: None,
        },
    }
}

fn asks() -> Policy {
    Policy {
        rounds: 2,
        flows: FlowKind::ALL.to_vec(),
        ..Policy::default()
    }
}

fn planned(round: u32, tasks: Vec<PlanTask>) -> Event {
    Event::Planned {
        round,
        result: Ok(plan(tasks)),
        planner: "recorded".into(),
        llm_calls: 1,
        usage: Usage::default(),
        notes: vec![],
    }
}

/// A recording of these events.
fn recorded(policy: &Policy, events: &[(Time, Event)]) -> String {
    let (mut machine, actions) = Machine::start(policy.clone());
    let accepted = Accepted {
        version: recording::VERSION,
        request_id: "123e4567-e89b-12d3-a456-426614174999"
            .parse()
            .expect("a UUID"),
        unix_ms: 0,
        query: "as drawn".into(),
        user: None,
        idempotency_key: None,
        traceparent: None,
        lineage: Lineage::default(),
        policy: policy.clone(),
    };
    let line = |value: serde_json::Result<String>| value.expect("a recording is JSON") + "\n";
    let mut text = line(serde_json::to_string(&Opening { accepted, actions }));
    for (at, event) in events {
        let turn = Turn {
            at: *at,
            event: event.clone(),
            actions: machine.step(*at, event.clone()),
        };
        text += &line(serde_json::to_string(&turn));
    }
    text
}

/// Events and the times at which they happen.
fn timed(drawn: Vec<(u64, Event)>) -> Vec<(Time, Event)> {
    let mut now = Time::ZERO;
    let events = drawn.into_iter().map(|(ms, event)| {
        now += Duration::from_millis(ms);
        (now, event)
    });
    events.collect()
}

proptest! {
    #[test]
    fn invariant_a_recording_is_repeated_and_a_changed_one_is_not(
        drawn in vec((0..500_u64, event()), 0..60),
        seed: u64,
        composes: bool,
    ) {
        let policy = Policy { seed, composes, ..asks() };
        let text = recorded(&policy, &timed(drawn));
        let turns = text.lines().count() - 1;
        prop_assert_eq!(replay(&text).map(|replayed| replayed.turns), Ok(turns));
        let changed = text.replacen("\"round\":1", "\"round\":7", 1);
        let is_found = matches!(replay(&changed), Err(ReplayError::Differs { line: 1, .. }));
        prop_assert!(is_found, "the first action of all is to plan round 1");
    }

    #[test]
    fn invariant_a_machine_goes_on_from_its_written_state(
        drawn in vec((0..500_u64, event()), 1..60),
        cut in any::<prop::sample::Index>(),
        composes: bool,
    ) {
        let policy = Policy { composes, ..asks() };
        let events = timed(drawn);
        let (mut machine, _) = Machine::start(policy.clone());
        let (before, after) = events.split_at(cut.index(events.len()));
        for (at, event) in before {
            let _ = machine.step(*at, event.clone());
        }
        let written = serde_json::to_string(&machine).expect("a machine is JSON");
        let mut again: Machine = serde_json::from_str(&written).expect("and reads back");
        prop_assert_eq!(&again, &machine);
        let resumed = resume(policy, before.iter().cloned());
        prop_assert_eq!(&resumed.machine, &machine);
        let responds = matches!(resumed.open[..], [Action::Respond(_)]);
        prop_assert_eq!(responds, machine.is_done());
        for (at, event) in after {
            prop_assert_eq!(again.step(*at, event.clone()), machine.step(*at, event.clone()));
        }
    }
}
