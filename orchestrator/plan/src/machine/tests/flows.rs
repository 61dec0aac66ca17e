//! Flows before the first dispatch and in the middle of a task, their ends, and the request's clock.

use amcp_protocol::flow::{Decision, FlowEnd};
use amcp_protocol::{Flow, FlowRequest};

use super::*;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

fn policy() -> Policy {
    Policy {
        flows: vec![FlowKind::Confirmation, FlowKind::Payment],
        ..Policy::default()
    }
}

/// A task that asks for a confirmation before its dispatch and is not idempotent.
fn send(id: &str, after: &[usize]) -> PlanTask {
    let contract = capability("mail.send", |mail| {
        (mail.effect, mail.idempotent) = (Effect::Irreversible, false);
    });
    let terms = Terms::of(&contract.capability);
    assert_eq!(terms.flow, Some(FlowKind::Confirmation));
    PlanTask {
        terms,
        ..task_of(id, after, contract)
    }
}

impl Run {
    fn opened(&self) -> Vec<&Flow> {
        let mut flows = Vec::new();
        for action in &self.last {
            if let Action::Report(Progress::FlowRequired { flow }) = action {
                flows.push(&**flow);
            }
        }
        flows
    }

    fn ended(&self) -> Vec<(&str, FlowEnd)> {
        let mut ends = Vec::new();
        for action in &self.last {
            if let Action::Report(Progress::FlowEnded { flow, end, .. }) = action {
                ends.push((flow.as_str(), *end));
            }
        }
        ends
    }

    fn answer(&self, id: &str, decision: Decision) -> (FlowId, FlowAnswer) {
        let id: FlowId = id.parse().unwrap();
        let mut open = self.machine.open_flows();
        let digest = open.find(|flow| flow.id == id).map(|f| f.digest.clone());
        let answer = FlowAnswer {
            decision,
            digest: digest.unwrap_or_default(),
            payload: json!({"by": "a person"}),
            reason: None,
        };
        (id, answer)
    }

    fn decide(&mut self, id: &str, decision: Decision) -> &mut Self {
        let (flow, answer) = self.answer(id, decision);
        self.step(Event::FlowAnswered { flow, answer })
    }

    fn ask(&mut self, task: usize, attempt: u32, kind: FlowKind) -> &mut Self {
        let flow = FlowRequest {
            asker: format!("r/t/{attempt}"),
            ..FlowRequest::new(kind, "Pay 12 EUR?")
        };
        self.sent(task, attempt, "agent-1").step(Event::Responded {
            calls: Vec::new(),
            task,
            attempt,
            outcome: TaskOutcome::FlowRequired(Box::new(flow)),
        })
    }
}

#[test]
fn what_cannot_be_undone_waits_for_a_yes_and_the_others_go_on() {
    let mut run = Run::planned_with(policy(), vec![send("t1", &[]), task("t2", &[])]);
    assert_eq!(run.dispatched(), [(1, 1)]);
    let shown = run.opened();
    assert_eq!(shown.len(), 1);
    assert_eq!(shown[0].id.as_str(), "t1.1");
    assert_eq!(shown[0].subject.capability.as_str(), "mail.send");
    run.done(1, 1, json!(1)).decide("t1.1", Decision::Approve);
    assert_eq!(run.ended(), [("t1.1", FlowEnd::Approved)]);
    assert_eq!(run.dispatched(), [(0, 1)]);
    run.sent(0, 1, "agent-1");
    let sent = |action: &Action| {
        if let Action::Send(sent) = action {
            return Some(sent.flows.clone());
        }
        None
    };
    let flows = run.last.iter().find_map(sent).unwrap();
    assert_eq!(flows[0].payload, json!({"by": "a person"}));
    run.step(Event::Responded {
        calls: Vec::new(),
        task: 0,
        attempt: 1,
        outcome: TaskOutcome::Done(json!(1).into()),
    });
    assert_eq!(run.conclusion().state, AnswerState::Completed);
}

#[test]
fn what_a_person_sees_has_its_references_replaced() {
    let fed = with_reference(send("t2", &[0]), 0);
    let mut run = Run::planned_with(policy(), vec![task("t1", &[]), fed]);
    run.done(0, 1, json!({"x": "bob@example.com"}));
    assert_eq!(
        run.opened()[0].subject.params,
        json!({"a": "bob@example.com", "b": 1})
    );
}

#[test]
fn a_denied_or_expired_task_fails_and_is_not_planned_again() {
    for (decision, code) in [
        (Some(Decision::Deny), ErrorCode::FlowDenied),
        (None, ErrorCode::FlowExpired),
    ] {
        let policy = Policy {
            rounds: 2,
            ..policy()
        };
        let mut run = Run::planned_with(
            policy,
            vec![send("t1", &[]), task("t2", &[0]), task("t3", &[])],
        );
        run.done(2, 1, json!(1));
        match decision {
            Some(decision) => run.decide("t1.1", decision),
            None => run.fire(TimerKey::Flow { task: 0, number: 1 }),
        };
        let conclusion = run.conclusion();
        assert_eq!(conclusion.state, AnswerState::Partial);
        assert_eq!(conclusion.error.as_ref().unwrap().code, code);
        assert_eq!(
            run.states(),
            [TaskState::Failed, TaskState::Skipped, TaskState::Completed]
        );
        assert_eq!(conclusion.tasks[0].attempts, 0);
    }
}

#[test]
fn an_asker_that_cannot_answer_gets_no_question() {
    let mut run = Run::planned(vec![send("t1", &[]), task("t2", &[])]);
    assert_eq!(run.opened(), Vec::<&Flow>::new());
    run.done(1, 1, json!(1));
    let error = run.conclusion().error.clone().unwrap();
    assert_eq!(error.code, ErrorCode::FlowUnsupported);
}

#[test]
fn an_agent_that_asks_is_free_and_gets_the_task_again_with_the_answer() {
    for decision in [Decision::Approve, Decision::Deny] {
        let mut run = Run::planned_with(policy(), vec![task("t1", &[])]);
        run.ask(0, 1, FlowKind::Payment);
        assert_eq!(run.opened()[0].prompt, "Pay 12 EUR?");
        assert_eq!(
            run.timer(TimerKey::Attempt {
                task: 0,
                attempt: 1
            }),
            None
        );
        run.decide("t1.1", decision);
        assert_eq!(run.dispatched(), [(0, 2)]);
        run.done(0, 2, json!(1));
        assert_eq!(run.conclusion().state, AnswerState::Completed);
    }
}

/// Its one task is at agent-7, which holds work and asks for a flow of this kind.
fn holds(kind: FlowKind) -> Run {
    let mut run = Run::planned_with(policy(), vec![task("t1", &[])]);
    let flow = FlowRequest {
        held: true,
        asker: "inner/t1.1".into(),
        ..FlowRequest::new(kind, "Pay 12 EUR?")
    };
    run.sent(0, 1, "agent-7").step(Event::Responded {
        calls: Vec::new(),
        task: 0,
        attempt: 1,
        outcome: TaskOutcome::FlowRequired(Box::new(flow)),
    });
    run
}

fn held() -> Run {
    holds(FlowKind::Payment)
}

/// The news for holders: the agent, the attempt, and the ends of the flows.
fn withdrawn(run: &Run) -> Vec<(&str, u32, Vec<FlowEnd>)> {
    let mut told = Vec::new();
    for action in &run.all {
        if let Action::Withdraw(sent) = action {
            let ends = sent.flows.iter().map(|flow| flow.end).collect();
            told.push((sent.agent.as_str(), sent.attempt, ends));
        }
    }
    told
}

#[test]
fn the_holder_of_a_task_learns_that_its_flow_was_withdrawn() {
    let mut run = held();
    run.step(Event::CancelRequested);
    assert_eq!(withdrawn(&run), [("agent-7", 2, vec![FlowEnd::Withdrawn])]);

    // An agent that holds nothing needs not know.
    let mut run = Run::planned_with(policy(), vec![task("t1", &[])]);
    run.ask(0, 1, FlowKind::Payment)
        .step(Event::CancelRequested);
    assert_eq!(withdrawn(&run), []);
}

#[test]
fn the_holder_of_a_task_learns_of_every_end_but_its_own() {
    let ends = || vec![FlowEnd::Approved, FlowEnd::Withdrawn];
    // Cancelled on its way to the holder, and in the pause after the holder's refusal.
    let mut run = held();
    run.decide("t1.1", Decision::Approve);
    run.step(Event::CancelRequested);
    assert_eq!(withdrawn(&run), [("agent-7", 3, ends())]);
    let mut run = held();
    run.decide("t1.1", Decision::Approve);
    run.refused(0, 2, ErrorCode::AgentBusy);
    run.step(Event::CancelRequested);
    assert_eq!(withdrawn(&run), [("agent-7", 3, ends())]);
    // Given up after too many refusals.
    let mut run = held();
    run.decide("t1.1", Decision::Approve);
    let mut attempt = 2;
    while !run.machine.is_done() {
        run.refused(0, attempt, ErrorCode::AgentBusy);
        run.fire(TimerKey::Retry { task: 0, attempt });
        attempt += 1;
    }
    assert_eq!(withdrawn(&run), [("agent-7", attempt, ends())]);
    // The flow does not open.
    let run = holds(FlowKind::Oauth);
    assert!(run.machine.is_done());
    assert_eq!(withdrawn(&run), [("agent-7", 2, vec![FlowEnd::Withdrawn])]);
    // It knows its own end.
    let mut run = held();
    run.decide("t1.1", Decision::Approve);
    run.done(0, 2, json!(1));
    assert_eq!(withdrawn(&run), []);
}

#[test]
fn a_task_goes_on_only_where_its_work_is_held() {
    let mut run = held();
    run.decide("t1.1", Decision::Approve);
    let only = |action: &Action| {
        if let Action::Choose { only, .. } = action {
            return only.clone();
        }
        None
    };
    let holder = run.last.iter().find_map(only);
    assert_eq!(holder, Some((AgentId::new("agent-7").unwrap(), 1)));
    // After a question of an agent that holds nothing, any agent may go on.
    run.ask(0, 2, FlowKind::Payment);
    run.decide("t1.2", Decision::Approve);
    assert_eq!(run.last.iter().find_map(only), None);
}

#[test]
fn what_a_person_denied_is_not_asked_again_by_a_second_plan() {
    let policy = Policy {
        rounds: 2,
        ..policy()
    };
    let mut run = Run::planned_with(policy, vec![send("t1", &[]), task("t2", &[])]);
    run.failed(1, 1, ErrorCode::TaskFailed);
    run.decide("t1.1", Decision::Deny);
    run.second_plan(vec![send("t9", &[])]);
    assert_eq!(run.opened(), Vec::<&Flow>::new());
    assert_eq!(run.conclusion().state, AnswerState::Failed);
}

#[test]
fn an_agent_that_asks_without_end_fails() {
    let mut run = Run::planned_with(policy(), vec![task("t1", &[])]);
    let mut attempt = 0;
    while !run.machine.is_done() {
        attempt += 1;
        run.ask(0, attempt, FlowKind::Payment);
        run.decide(&format!("t1.{attempt}"), Decision::Approve);
    }
    assert_eq!(attempt, 17);
    let error = run.conclusion().error.clone().unwrap();
    assert_eq!(error.code, ErrorCode::BudgetExceeded);
}

#[test]
fn an_agent_may_ask_only_for_what_the_asker_can_answer() {
    let mut run = Run::planned_with(policy(), vec![task("t1", &[])]);
    run.ask(0, 1, FlowKind::Oauth);
    let error = run.conclusion().error.clone().unwrap();
    assert_eq!(error.code, ErrorCode::FlowUnsupported);
}

#[test]
fn the_clock_stands_still_while_nothing_but_flows_is_open() {
    let policy = Policy {
        composes: true,
        ..policy()
    };
    let mut run = Run::planned_with(policy.clone(), vec![send("t1", &[]), task("t2", &[])]);
    assert!(!run.machine.is_idle());
    assert_eq!(run.timer(TimerKey::Deadline), Some(policy.deadline));
    run.done(1, 1, json!(1));
    assert!(run.machine.is_idle());
    assert_eq!(run.timer(TimerKey::Deadline), None);
    assert_eq!(run.timer(TimerKey::Closing), None);
    assert_eq!(
        run.timer(TimerKey::Flow { task: 0, number: 1 }),
        Some(DAY + Duration::from_millis(1))
    );
    let wait = DAY / 2;
    run.now += wait;
    // A late timer changes nothing.
    run.fire(TimerKey::Deadline);
    assert!(run.machine.is_idle());
    run.decide("t1.1", Decision::Approve);
    assert!(!run.machine.is_idle());
    let idle = run.machine.idle();
    assert!(idle >= wait);
    assert_eq!(run.timer(TimerKey::Deadline), Some(policy.deadline + idle));
    assert!(run.timer(TimerKey::Closing).is_some());
    // The wait has cost the task no time.
    let until = run.timer(TimerKey::Attempt {
        task: 0,
        attempt: 1,
    });
    assert!(until.unwrap() > run.now);
    run.done(0, 1, json!(1));
    assert_eq!(run.composed().state, AnswerState::Completed);
    let millis = run.conclusion().tasks[0].duration_ms;
    assert!(millis < 1_000, "the wait is no work: {millis} ms");
}

#[test]
fn an_answer_counts_once_and_only_for_what_was_shown() {
    let mut run = Run::planned_with(policy(), vec![send("t1", &[]), task("t2", &[])]);
    let (id, answer) = run.answer("t1.1", Decision::Approve);
    let check = |run: &Run, id: &str, answer: &FlowAnswer| {
        let judged = run.machine.check_answer(&id.parse().unwrap(), answer);
        judged.err().map(|failure| failure.code)
    };
    let mut other = answer.clone();
    other.digest = "0".repeat(64);
    assert_eq!(check(&run, "t1.1", &other), Some(ErrorCode::FlowClosed));
    assert_eq!(check(&run, "t1.2", &answer), Some(ErrorCode::NotFound));
    run.step(Event::FlowAnswered {
        flow: id.clone(),
        answer: other,
    });
    assert_eq!((run.ended(), run.dispatched()), (vec![], vec![]));
    assert_eq!(check(&run, "t1.1", &answer), None);
    run.decide("t1.1", Decision::Approve);
    assert_eq!(check(&run, "t1.1", &answer), Some(ErrorCode::FlowClosed));
    run.step(Event::FlowAnswered { flow: id, answer });
    assert_eq!(run.dispatched(), []);
}

#[test]
fn a_second_plan_may_change_what_a_person_sees_and_nothing_else() {
    let policy = Policy {
        rounds: 2,
        ..policy()
    };
    let changed = |terms: Option<FlowKind>| {
        let mut task = send("t9", &[]);
        task.params = json!({"to": "somebody else"}).into();
        task.terms.flow = terms;
        task.terms.idempotent = true;
        task
    };
    for (flow, asked) in [(Some(FlowKind::Confirmation), 1), (None, 0)] {
        let mut first = send("t1", &[]);
        first.terms.idempotent = true;
        first.terms.flow = None;
        let mut run = Run::planned_with(policy.clone(), vec![first]);
        run.failed(0, 1, ErrorCode::TaskFailed);
        run.second_plan(vec![changed(flow)]);
        assert_eq!(run.opened().len(), asked);
        assert_eq!(run.machine.is_done(), asked == 0);
    }
}

#[test]
fn the_end_of_the_request_takes_its_flows_back() {
    let mut run = Run::planned_with(policy(), vec![send("t1", &[])]);
    assert!(run.machine.is_idle());
    run.step(Event::CancelRequested);
    assert_eq!(run.ended(), [("t1.1", FlowEnd::Withdrawn)]);
    assert_eq!(run.timer(TimerKey::Flow { task: 0, number: 1 }), None);
    assert_eq!(run.timer(TimerKey::Deadline), None);
    assert_eq!(run.conclusion().state, AnswerState::Cancelled);
}

#[test]
fn a_retry_after_an_approval_does_not_ask_again() {
    let mut again = send("t1", &[]);
    again.terms.idempotent = true;
    let mut run = Run::planned_with(policy(), vec![again]);
    run.decide("t1.1", Decision::Approve);
    run.failed(0, 1, ErrorCode::UpstreamUnavailable);
    run.fire(TimerKey::Retry {
        task: 0,
        attempt: 1,
    });
    assert_eq!(run.dispatched(), [(0, 2)]);
    assert_eq!(run.opened(), Vec::<&Flow>::new());
}

#[test]
fn a_deadline_that_was_due_before_a_wait_for_a_person_is_not_due_after_it() {
    let policy = Policy {
        composes: true,
        ..policy()
    };
    let mut run = Run::planned_with(policy, vec![send("t1", &[]), task("t2", &[])]);
    run.done(1, 1, json!(1));
    run.now += DAY / 2;
    run.decide("t1.1", Decision::Approve);
    // Timers that were on their way when they were cleared.
    for stale in [TimerKey::Closing, TimerKey::Deadline] {
        run.step(Event::TimerFired(stale));
        assert_eq!(run.last, [], "{stale:?}");
    }
    run.done(0, 1, json!(1));
    assert_eq!(run.composed().state, AnswerState::Completed);
}

#[test]
fn past_the_deadline_a_request_waits_for_nobody() {
    let mut run = Run::planned_with(policy(), vec![send("t1", &[]), task("t2", &[])]);
    run.now = run.timer(TimerKey::Deadline).unwrap();
    run.done(1, 1, json!(1));
    assert!(!run.machine.is_idle());
    run.fire(TimerKey::Deadline);
    assert_eq!(run.ended(), [("t1.1", FlowEnd::Withdrawn)]);
    assert_eq!(run.conclusion().state, AnswerState::Partial);
}

#[test]
fn nobody_is_asked_about_a_task_that_no_complete_plan_has() {
    let mut read = task("t1", &[]);
    read.terms.flow = Some(FlowKind::Confirmation);
    let mut run = Run::start(policy());
    run.step(Event::TasksAdded {
        round: 1,
        tasks: vec![read.clone(), task("t2", &[])],
    });
    assert_eq!(run.opened(), Vec::<&Flow>::new());
    assert_eq!(run.dispatched(), [(0, 1)]);
    run.plan(
        1,
        Ok(Plan {
            tasks: vec![read, task("t2", &[])],
            ..Plan::default()
        }),
    );
    assert_eq!(run.opened().len(), 1);
}

#[test]
fn a_flow_that_was_taken_back_says_so_while_the_answer_is_written() {
    let policy = Policy {
        composes: true,
        ..policy()
    };
    let mut run = Run::planned_with(
        policy,
        vec![send("t1", &[]), task("t2", &[]), task("t3", &[])],
    );
    let (id, answer) = run.answer("t1.1", Decision::Approve);
    run.done(1, 1, json!(1)).fire(TimerKey::Closing);
    assert_eq!(run.ended(), [("t1.1", FlowEnd::Withdrawn)]);
    let closed = run.machine.check_answer(&id, &answer).unwrap_err();
    assert_eq!(closed.code, ErrorCode::FlowClosed);
    assert!(closed.message.contains("withdrawn"), "{closed}");
}

#[test]
fn an_asker_has_a_name_of_bounded_length() {
    for asker in [String::new(), "x".repeat(1_000)] {
        let mut run = Run::planned_with(policy(), vec![task("t1", &[])]);
        let flow = FlowRequest {
            asker,
            ..FlowRequest::new(FlowKind::Payment, "Pay 12 EUR?")
        };
        run.sent(0, 1, "agent-1").step(Event::Responded {
            calls: Vec::new(),
            task: 0,
            attempt: 1,
            outcome: TaskOutcome::FlowRequired(Box::new(flow)),
        });
        let error = run.conclusion().error.clone().unwrap();
        assert_eq!(error.code, ErrorCode::TaskFailed);
    }
}

#[test]
fn while_the_answer_is_written_nothing_closes() {
    let policy = Policy {
        composes: true,
        ..policy()
    };
    let mut run = Run::planned_with(policy, vec![send("t1", &[]), task("t2", &[])]);
    run.done(1, 1, json!(1)).decide("t1.1", Decision::Deny);
    let composes = |action: &Action| matches!(action, Action::Compose { .. });
    assert!(run.last.iter().any(composes));
    assert!(run.timer(TimerKey::Deadline).is_some());
    assert_eq!(run.timer(TimerKey::Closing), None);
}
