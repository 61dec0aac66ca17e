//! Tables of the machine's behaviour: plan, events, actions.

mod flows;
mod life;

use std::sync::Arc;

use amcp_protocol::plan::PlannedTaskView;
use amcp_protocol::{
    AgentId, AnswerState, Capability, CapabilityName, Contract, Effect, FlowAnswer, FlowId,
    FlowKind, Payload, Progress, TaskId, TaskState,
};
use serde_json::{Value, json};

use super::*;
use crate::catalogue::Catalogue;
use crate::plan::{Reference, RefusedTask, Terms};

fn capability(name: &str, change: impl FnOnce(&mut Capability)) -> Arc<Contract> {
    let mut capability = Capability::new(name, "For tests.");
    change(&mut capability);
    Arc::new(Contract::new(capability).unwrap())
}

fn task(id: &str, after: &[usize]) -> PlanTask {
    task_of(id, after, capability("test.do", |_| ()))
}

fn task_of(id: &str, after: &[usize], contract: Arc<Contract>) -> PlanTask {
    let params = json!({}).into();
    let (id, after) = (TaskId::new(id).unwrap(), after.to_vec());
    PlanTask {
        id,
        capability: contract.capability.name.clone(),
        // Flows have tests of their own.
        terms: Terms {
            flow: None,
            ..Terms::of(&contract.capability)
        },
        params,
        references: Vec::new(),
        after,
        inferred: Vec::new(),
        optional: false,
        replaces: Vec::new(),
    }
}

/// Fills `a` from `/x` of the task `from`.
fn with_reference(mut task: PlanTask, from: usize) -> PlanTask {
    task.params = json!({"a": {"$ref": "t1", "path": "/x"}, "b": 1}).into();
    task.references = vec![Reference {
        place: "/a".into(),
        from,
        path: "/x".into(),
    }];
    task
}

fn replacing(mut task: PlanTask, ids: &[&str]) -> PlanTask {
    task.replaces = ids.iter().map(|id| TaskId::new(id).unwrap()).collect();
    task
}

struct Run {
    machine: Machine,
    now: Time,
    last: Vec<Action>,
    all: Vec<Action>,
}

impl Run {
    fn start(policy: Policy) -> Self {
        let (machine, last) = Machine::start(policy);
        Self {
            machine,
            now: Time::ZERO,
            all: last.clone(),
            last,
        }
    }

    fn planned(tasks: Vec<PlanTask>) -> Self {
        Self::planned_with(Policy::default(), tasks)
    }

    fn planned_with(policy: Policy, tasks: Vec<PlanTask>) -> Self {
        let mut run = Self::start(policy);
        run.plan(
            1,
            Ok(Plan {
                tasks,
                ..Plan::default()
            }),
        );
        run
    }

    fn step(&mut self, event: Event) -> &mut Self {
        self.now += Duration::from_millis(1);
        self.last = self.machine.step(self.now, event);
        self.all.extend(self.last.clone());
        self
    }

    fn plan(&mut self, round: u32, result: Result<Plan, Failure>) -> &mut Self {
        self.step(Event::Planned {
            round,
            result,
            planner: "test".into(),
            llm_calls: 1,
            usage: Usage::default(),
            notes: vec![],
        })
    }

    fn sent(&mut self, task: usize, attempt: u32, agent: &str) -> &mut Self {
        self.step(Event::Chosen {
            task,
            attempt,
            agent: AgentId::new(agent).unwrap(),
            incarnation: 1,
        })
    }

    fn done(&mut self, task: usize, attempt: u32, result: Value) -> &mut Self {
        self.sent(task, attempt, "agent-1").step(Event::Responded {
            calls: Vec::new(),
            task,
            attempt,
            outcome: TaskOutcome::Done(result.into()),
        })
    }

    fn failed(&mut self, task: usize, attempt: u32, code: ErrorCode) -> &mut Self {
        let outcome = TaskOutcome::Failed(Failure::new(code, "as told"));
        self.sent(task, attempt, "agent-1").step(Event::Responded {
            calls: Vec::new(),
            task,
            attempt,
            outcome,
        })
    }

    fn refused(&mut self, task: usize, attempt: u32, code: ErrorCode) -> &mut Self {
        let outcome = TaskOutcome::Refused(Failure::new(code, "as told"));
        self.sent(task, attempt, "agent-1").step(Event::Responded {
            calls: Vec::new(),
            task,
            attempt,
            outcome,
        })
    }

    fn second_plan(&mut self, tasks: Vec<PlanTask>) -> &mut Self {
        self.plan(
            2,
            Ok(Plan {
                tasks,
                ..Plan::default()
            }),
        )
    }

    fn composed(&mut self) -> &Conclusion {
        self.step(Event::Composed {
            result: Ok("The text.".into()),
            llm_calls: 1,
            usage: Usage::default(),
            notes: vec![],
        });
        self.conclusion()
    }

    fn fire(&mut self, key: TimerKey) -> &mut Self {
        if matches!(key, TimerKey::Deadline | TimerKey::Closing) {
            self.now = self.now.max(self.timer(key).unwrap_or_default());
        }
        self.step(Event::TimerFired(key))
    }

    /// The time of a pending timer.
    fn timer(&self, key: TimerKey) -> Option<Time> {
        let mut at = None;
        for action in &self.all {
            if let Action::SetTimer { key: set, at: time } = action
                && *set == key
            {
                at = Some(*time);
            } else if *action == Action::ClearTimer(key) {
                at = None;
            }
        }
        at
    }

    /// (task, attempt) of each `Choose` among the last actions.
    fn dispatched(&self) -> Vec<(usize, u32)> {
        let dispatch = |action: &Action| {
            if let Action::Choose { task, attempt, .. } = action {
                Some((*task, *attempt))
            } else {
                None
            }
        };
        self.last.iter().filter_map(dispatch).collect()
    }

    fn params(&self) -> Payload {
        let params = |action: &Action| {
            if let Action::Send(sent) = action {
                Some(sent.params.clone())
            } else {
                None
            }
        };
        self.last.iter().find_map(params).expect("a dispatch")
    }

    fn conclusion(&self) -> &Conclusion {
        let responses: Vec<_> = self
            .all
            .iter()
            .filter_map(|action| {
                if let Action::Respond(conclusion) = action {
                    Some(conclusion)
                } else {
                    None
                }
            })
            .collect();
        assert_eq!(responses.len(), 1, "exactly one final response");
        responses[0]
    }

    fn states(&self) -> Vec<TaskState> {
        self.conclusion()
            .tasks
            .iter()
            .map(|task| task.state)
            .collect()
    }
}

#[test]
fn independent_tasks_start_at_once_and_a_dependent_one_after_both() {
    let mut run = Run::planned(vec![task("t1", &[]), task("t2", &[]), task("t3", &[0, 1])]);
    assert_eq!(run.dispatched(), [(0, 1), (1, 1)]);
    assert_eq!(run.done(1, 1, json!(1)).dispatched(), []);
    assert_eq!(run.done(0, 1, json!(1)).dispatched(), [(2, 1)]);
    run.done(2, 1, json!(1));
    assert_eq!(run.conclusion().state, AnswerState::Completed);
    assert_eq!(run.states(), [TaskState::Completed; 3]);
}

#[test]
fn a_task_that_the_compiler_added_last_still_runs_first() {
    let mut run = Run::planned(vec![task("t1", &[1]), task("t2", &[])]);
    assert_eq!(run.dispatched(), [(1, 1)]);
    assert_eq!(run.done(1, 1, json!(1)).dispatched(), [(0, 1)]);
}

#[test]
fn references_are_replaced_by_values_and_a_missing_value_fails_the_task() {
    let plan = || vec![task("t1", &[]), with_reference(task("t2", &[0]), 0)];
    let mut run = Run::planned(plan());
    assert_eq!(
        run.done(0, 1, json!({"x": [1, 2]}))
            .sent(1, 1, "agent-1")
            .params(),
        json!({"a": [1, 2], "b": 1})
    );
    let mut run = Run::planned(plan());
    run.done(0, 1, json!({"y": 1}));
    assert_eq!(run.states(), [TaskState::Completed, TaskState::Failed]);
    assert!(
        run.conclusion()
            .error
            .as_ref()
            .unwrap()
            .message
            .contains("nothing at '/x'")
    );
    assert_eq!(run.conclusion().state, AnswerState::Partial);
}

#[test]
fn a_failed_task_skips_all_that_need_it_and_the_error_names_the_root() {
    let mut run = Run::planned(vec![
        task("t1", &[]),
        task("t2", &[0]),
        task("t3", &[1]),
        task("t4", &[]),
    ]);
    run.failed(0, 1, ErrorCode::TaskFailed).done(3, 1, json!(1));
    let skipped = TaskState::Skipped;
    assert_eq!(
        run.states(),
        [TaskState::Failed, skipped, skipped, TaskState::Completed]
    );
    let conclusion = run.conclusion();
    assert_eq!(
        (conclusion.state, conclusion.error.as_ref().unwrap().code),
        (AnswerState::Partial, ErrorCode::TaskFailed)
    );
}

#[test]
fn dependents_of_an_optional_task_go_on_without_it() {
    let mut first = task("t1", &[]);
    first.optional = true;
    let mut run = Run::planned(vec![first, with_reference(task("t2", &[0]), 0)]);
    assert_eq!(
        run.failed(0, 1, ErrorCode::TaskFailed)
            .sent(1, 1, "agent-1")
            .params(),
        json!({"b": 1})
    );
    run.done(1, 1, json!(1));
    assert_eq!(run.conclusion().state, AnswerState::Completed);
}

#[test]
fn a_retry_avoids_the_agent_that_failed_and_stale_answers_are_counted() {
    let mut run = Run::planned(vec![task("t1", &[])]);
    run.failed(0, 1, ErrorCode::AgentLost);
    assert_eq!(run.dispatched(), [], "not before the pause is over");
    run.fire(TimerKey::Retry {
        task: 0,
        attempt: 1,
    });
    let first = [AgentId::new("agent-1").unwrap()];
    let avoided = run.last.iter().any(
        |action| matches!(action, Action::Choose { avoid, attempt: 2, .. } if *avoid == first),
    );
    assert!(avoided, "{:?}", run.last);
    run.done(0, 1, json!("late"));
    run.done(0, 7, json!("foreign"))
        .done(4, 1, json!("foreign"));
    run.fire(TimerKey::Retry {
        task: 0,
        attempt: 1,
    });
    assert_eq!(run.dispatched(), [], "a stale timer does nothing");
    run.done(0, 2, json!("second"));
    assert_eq!(
        run.machine.dropped(),
        Dropped {
            duplicate: 0,
            late: 1,
            foreign: 2
        }
    );
    let task = &run.conclusion().tasks[0];
    assert_eq!(
        (task.attempts, task.result.as_deref()),
        (2, Some(&json!("second")))
    );
}

#[test]
fn a_duplicate_answer_changes_nothing() {
    let mut run = Run::planned(vec![task("t1", &[]), task("t2", &[])]);
    run.done(0, 1, json!("first"))
        .done(0, 1, json!("again"))
        .done(1, 1, json!(1));
    assert_eq!(run.machine.dropped().duplicate, 1);
    assert_eq!(
        run.conclusion().tasks[0].result.as_deref(),
        Some(&json!("first"))
    );
}

#[test]
fn an_attempt_that_hangs_is_abandoned_and_tried_again() {
    let mut run = Run::planned(vec![task("t1", &[])]);
    run.sent(0, 1, "agent-1").fire(TimerKey::Attempt {
        task: 0,
        attempt: 1,
    });
    assert!(run.last.iter().any(|action| matches!(
        action,
        Action::Abandon {
            task: 0,
            attempt: 1
        }
    )));
    run.fire(TimerKey::Attempt {
        task: 0,
        attempt: 1,
    });
    assert!(run.last.is_empty(), "the same timer twice");
    assert_eq!(
        run.fire(TimerKey::Retry {
            task: 0,
            attempt: 1
        })
        .dispatched(),
        [(0, 2)]
    );
}

#[test]
fn a_task_that_is_not_idempotent_is_not_tried_after_a_time_out() {
    let pay = capability("test.pay", |c| {
        (c.idempotent, c.effect) = (false, Effect::Irreversible)
    });
    let mut run = Run::planned(vec![task_of("t1", &[], pay)]);
    run.sent(0, 1, "agent-1").fire(TimerKey::Attempt {
        task: 0,
        attempt: 1,
    });
    let error = run.conclusion().error.clone().unwrap();
    assert_eq!(error.code, ErrorCode::TaskTimeout);
    assert!(error.hint.unwrap().contains("unknown"));
}

#[test]
fn a_role_that_is_missing_stops_a_forged_plan_at_dispatch() {
    let secret = capability("test.secret", |c| c.required_roles = vec!["boss".into()]);
    let mut run = Run::planned(vec![task_of("t1", &[], secret.clone())]);
    assert_eq!(run.dispatched(), []);
    assert_eq!(
        run.conclusion().error.as_ref().unwrap().code,
        ErrorCode::NotPermitted
    );
    let policy = Policy {
        roles: vec!["boss".into()],
        ..Policy::default()
    };
    run = Run::planned_with(policy, vec![task_of("t1", &[], secret)]);
    assert_eq!(run.dispatched(), [(0, 1)]);
}

#[test]
fn a_failed_plan_fails_the_request_with_the_planners_reason() {
    let mut run = Run::start(Policy::default());
    run.plan(
        1,
        Err(Failure::new(ErrorCode::LlmUnavailable, "no LLM at all")),
    );
    let conclusion = run.conclusion();
    assert_eq!(
        (conclusion.state, conclusion.planner.as_str()),
        (AnswerState::Failed, "test")
    );
    assert_eq!(
        conclusion.error.as_ref().unwrap().code,
        ErrorCode::LlmUnavailable
    );
}

#[test]
fn a_direct_answer_and_an_empty_plan() {
    let mut run = Run::start(Policy::default());
    run.plan(
        1,
        Ok(Plan {
            answer_directly: Some("42".into()),
            ..Plan::default()
        }),
    );
    assert_eq!(
        (run.conclusion().state, run.conclusion().text.as_deref()),
        (AnswerState::Completed, Some("42"))
    );
    let run = Run::planned(vec![]);
    assert_eq!(
        run.conclusion().error.as_ref().unwrap().code,
        ErrorCode::NothingPlanned
    );
}

#[test]
fn what_could_not_be_placed_makes_the_answer_partial() {
    let mut run = Run::start(Policy::default());
    let plan = Plan {
        tasks: vec![task("t1", &[])],
        unplaced: vec!["fly me".into()],
        ..Plan::default()
    };
    run.plan(1, Ok(plan)).done(0, 1, json!(1));
    let conclusion = run.conclusion();
    assert_eq!(
        (conclusion.state, conclusion.unplaced.len()),
        (AnswerState::Partial, 1)
    );
    assert!(
        conclusion
            .error
            .as_ref()
            .unwrap()
            .message
            .contains("fly me")
    );
}

#[test]
fn cancel_answers_at_once_whatever_is_under_way() {
    let mut run = Run::start(Policy::default());
    run.step(Event::CancelRequested);
    assert_eq!(run.conclusion().state, AnswerState::Cancelled);
    let mut run = Run::planned(vec![task("t1", &[]), task("t2", &[0])]);
    run.step(Event::CancelRequested);
    assert!(run.last.iter().any(|action| matches!(
        action,
        Action::Abandon {
            task: 0,
            attempt: 1
        }
    )));
    assert_eq!(run.states(), [TaskState::Cancelled; 2]);
    assert!(run.done(0, 1, json!(1)).last.is_empty());
    assert_eq!(run.machine.dropped().late, 1);
}

#[test]
fn at_the_deadline_what_is_there_is_answered() {
    let mut run = Run::planned(vec![task("t1", &[]), task("t2", &[])]);
    run.done(0, 1, json!(1)).fire(TimerKey::Deadline);
    assert_eq!(run.states(), [TaskState::Completed, TaskState::Cancelled]);
    assert_eq!(run.conclusion().state, AnswerState::Partial);
}

#[test]
fn with_an_llm_tasks_are_cut_in_time_to_write_the_answer() {
    let policy = Policy {
        composes: true,
        ..Policy::default()
    };
    let mut run = Run::planned_with(policy, vec![task("t1", &[]), task("t2", &[])]);
    run.done(0, 1, json!(1)).fire(TimerKey::Closing);
    assert!(
        run.last
            .iter()
            .any(|action| matches!(action, Action::Compose { tasks, .. } if tasks.len() == 2))
    );
    run.step(Event::Composed {
        result: Ok("Half of it.".into()),
        llm_calls: 1,
        usage: Usage::default(),
        notes: vec![],
    });
    assert_eq!(
        (run.conclusion().state, run.conclusion().text.as_deref()),
        (AnswerState::Partial, Some("Half of it."))
    );
}

#[test]
fn an_llm_that_fails_to_write_costs_the_text_not_the_request() {
    let policy = || Policy {
        composes: true,
        ..Policy::default()
    };
    let mut run = Run::planned_with(policy(), vec![task("t1", &[])]);
    let failure = Failure::new(ErrorCode::LlmCut, "cut");
    run.done(0, 1, json!(1)).step(Event::Composed {
        result: Err(failure),
        llm_calls: 1,
        usage: Usage::default(),
        notes: vec![],
    });
    assert_eq!(
        (run.conclusion().state, &run.conclusion().text),
        (AnswerState::Completed, &None)
    );
    assert!(run.conclusion().notes[0].contains("without the LLM"));
    let mut run = Run::planned_with(policy(), vec![task("t1", &[])]);
    run.done(0, 1, json!(1)).fire(TimerKey::Deadline);
    assert_eq!(run.conclusion().state, AnswerState::Completed);
}

fn llm_policy() -> Policy {
    Policy {
        composes: true,
        llm_calls: 3,
        rounds: 2,
        ..Policy::default()
    }
}

#[test]
fn one_more_round_replaces_what_failed() {
    let mut run = Run::planned_with(llm_policy(), vec![task("t1", &[]), task("t2", &[])]);
    run.done(0, 1, json!(1)).failed(1, 1, ErrorCode::TaskFailed);
    assert!(
        run.last.iter().any(
            |action| matches!(action, Action::Plan { round: 2, tasks, .. } if tasks.len() == 2)
        )
    );
    run.plan(
        2,
        Ok(Plan {
            tasks: vec![replacing(task("t2", &[]), &["t2"])],
            ..Plan::default()
        }),
    );
    assert_eq!(run.dispatched(), [(2, 1)]);
    run.done(2, 1, json!("ok"));
    run.step(Event::Composed {
        result: Ok("All.".into()),
        llm_calls: 1,
        usage: Usage::default(),
        notes: vec![],
    });
    let conclusion = run.conclusion();
    assert_eq!(conclusion.state, AnswerState::Completed);
    assert_eq!(conclusion.tasks[2].id.as_str(), "r2-t2");
}

#[test]
fn there_is_no_third_round_and_no_round_without_llm_calls() {
    let mut run = Run::planned_with(llm_policy(), vec![task("t1", &[])]);
    run.failed(0, 1, ErrorCode::TaskFailed);
    run.plan(
        2,
        Ok(Plan {
            tasks: vec![task("t1", &[])],
            ..Plan::default()
        }),
    )
    .failed(1, 1, ErrorCode::TaskFailed);
    assert_eq!(run.conclusion().state, AnswerState::Failed);
    let policy = Policy {
        llm_calls: 1,
        ..llm_policy()
    };
    let mut run = Run::planned_with(policy, vec![task("t1", &[])]);
    run.failed(0, 1, ErrorCode::TaskFailed);
    assert_eq!(run.conclusion().state, AnswerState::Failed);
}

#[test]
fn a_second_round_cannot_reach_for_effects_that_were_not_planned_before() {
    let mut run = Run::planned_with(llm_policy(), vec![task("t1", &[])]);
    run.failed(0, 1, ErrorCode::TaskFailed);
    let pay = capability("test.pay", |c| c.effect = Effect::Irreversible);
    let catalogue: Catalogue = [pay.clone(), capability("test.look", |_| ())]
        .into_iter()
        .collect();
    assert_eq!(
        run.machine.authorised(&catalogue),
        [CapabilityName::new("test.look").unwrap()]
    );
    run.plan(
        2,
        Ok(Plan {
            tasks: vec![task_of("t1", &[], pay)],
            ..Plan::default()
        }),
    );
    assert_eq!(run.dispatched(), []);
    assert!(
        run.conclusion().notes[0].contains("not authorised"),
        "{:?}",
        run.conclusion().notes
    );
}

/// A request whose task `t1` arrived before its plan was complete.
fn early_then(tasks: Vec<PlanTask>) -> Run {
    let mut run = Run::start(Policy::default());
    run.step(Event::TasksAdded {
        round: 1,
        tasks: vec![task("t1", &[])],
    });
    assert_eq!(run.dispatched(), [(0, 1)]);
    run.plan(
        1,
        Ok(Plan {
            tasks,
            ..Plan::default()
        }),
    );
    run
}

#[test]
fn a_complete_plan_adopts_the_early_tasks_that_it_has_and_gives_up_the_others() {
    let mut adopted = early_then(vec![task("t0", &[]), task("t1", &[])]);
    assert_eq!(adopted.dispatched(), [(1, 1)], "t1 runs already");
    adopted.done(0, 1, json!("t1")).done(1, 1, json!("t0"));
    let ids: Vec<_> = adopted
        .conclusion()
        .tasks
        .iter()
        .map(|t| t.id.as_str())
        .collect();
    assert_eq!(ids, ["t0", "t1"], "in the plan's order");
    let changes: [fn(&mut PlanTask); 4] = [
        |task| task.id = TaskId::new("t9").unwrap(),
        |task| task.params = json!({"another": 1}).into(),
        |task| task.capability = CapabilityName::new("test.another").unwrap(),
        |task| task.after = vec![1],
    ];
    for change in changes {
        let mut changed = task("t1", &[]);
        change(&mut changed);
        let mut run = early_then(vec![changed, task("t2", &[])]);
        let abandoned = |action: &Action| {
            matches!(
                action,
                Action::Abandon {
                    task: 0,
                    attempt: 1
                }
            )
        };
        assert!(run.last.iter().any(abandoned));
        // A late cancellation is no answer; a late result counts as a duplicate.
        run.step(Event::Responded {
            task: 0,
            attempt: 1,
            outcome: TaskOutcome::Failed(Failure::new(ErrorCode::Cancelled, "as told")),
            calls: Vec::new(),
        });
        run.done(0, 1, json!("early"))
            .done(2, 1, json!("t2"))
            .done(1, 1, json!("changed"));
        let conclusion = run.conclusion();
        assert_eq!(conclusion.state, AnswerState::Completed);
        assert_eq!(conclusion.tasks.len(), 2);
        let told: Vec<_> = conclusion
            .tasks
            .iter()
            .filter_map(|t| t.result.as_deref())
            .collect();
        assert_eq!(told, [&json!("changed"), &json!("t2")]);
        assert_ne!(
            conclusion.tasks[0].id.as_str(),
            "t1",
            "agents tell attempts apart by their ids"
        );
        assert_eq!(run.machine.dropped().duplicate, 1);
    }
}

#[test]
fn a_second_plan_that_fails_takes_its_early_tasks_with_it() {
    let write = capability("test.write", |c| c.effect = Effect::Write);
    let mut run = Run::planned_with(llm_policy(), vec![task_of("t1", &[], write.clone())]);
    run.failed(0, 1, ErrorCode::TaskFailed)
        .step(Event::TasksAdded {
            round: 2,
            tasks: vec![task("t1", &[]), task_of("t2", &[0], write)],
        });
    assert_eq!(run.dispatched(), [(1, 1)]);
    run.plan(2, Err(Failure::new(ErrorCode::LlmCut, "cut")));
    assert!(run.last.iter().any(|action| matches!(
        action,
        Action::Abandon {
            task: 1,
            attempt: 1
        }
    )));
    assert_eq!(run.states(), [TaskState::Failed], "no plan has the others");
    assert_eq!(run.done(1, 1, json!(1)).dispatched(), []);
}

#[test]
fn a_second_plan_without_a_task_leaves_the_answer_partial() {
    let mut run = Run::planned_with(llm_policy(), vec![task("t1", &[]), task("t2", &[])]);
    run.done(0, 1, json!(1)).failed(1, 1, ErrorCode::TaskFailed);
    run.plan(2, Ok(Plan::default())).fire(TimerKey::Deadline);
    assert_eq!(run.conclusion().state, AnswerState::Partial);
}

#[test]
fn a_second_rounds_ids_are_unique_and_its_edges_use_them() {
    let long = "x".repeat(64);
    let ids = ["t1", "r2-t1", &long];
    let plan = || -> Vec<_> {
        let chain = ids.iter().enumerate();
        chain
            .map(|(i, id)| task(id, &i.checked_sub(1).map_or(vec![], |before| vec![before])))
            .collect()
    };
    let mut run = Run::planned_with(llm_policy(), plan());
    run.failed(0, 1, ErrorCode::TaskFailed);
    let tasks = plan();
    run.plan(
        2,
        Ok(Plan {
            tasks,
            ..Plan::default()
        }),
    );
    let view = run.last.iter().find_map(|action| {
        if let Action::Report(Progress::Planned { tasks, .. }) = action {
            Some(tasks.clone())
        } else {
            None
        }
    });
    let view = view.expect("a plan is reported");
    let ids: Vec<_> = view.iter().map(|task| task.id.as_str()).collect();
    assert_eq!(ids, ["r2-1", "r2-r2-t1", "r2-2"]);
    assert_eq!(view[1].depends_on, [view[0].id.clone()]);
    assert_eq!(view[2].depends_on, [view[1].id.clone()]);
}

#[test]
fn what_a_round_replaced_needs_no_further_round() {
    let policy = Policy {
        rounds: 3,
        ..llm_policy()
    };
    let mut run = Run::planned_with(policy, vec![task("t1", &[])]);
    run.failed(0, 1, ErrorCode::TaskFailed);
    let tasks = vec![replacing(task("t1", &[]), &["t1"])];
    run.plan(
        2,
        Ok(Plan {
            tasks,
            ..Plan::default()
        }),
    );
    run.done(1, 1, json!(1));
    assert!(matches!(run.last.last(), Some(Action::Compose { .. })));
}

#[test]
fn a_second_round_does_not_repeat_what_may_have_been_done() {
    let pay = capability("test.pay", |c| {
        (c.idempotent, c.effect) = (false, Effect::Irreversible)
    });
    let catalogue: Catalogue = [pay.clone()].into_iter().collect();
    // The first plan pays and looks; looking fails, and the second plan would pay again.
    let again = |policy: Policy, pays: &dyn Fn(&mut Run)| {
        let first = vec![task_of("t1", &[], pay.clone()), task("t2", &[])];
        let mut run = Run::planned_with(policy, first);
        run.failed(1, 1, ErrorCode::TaskFailed);
        pays(&mut run);
        let offered = run.machine.authorised(&catalogue).len();
        run.second_plan(vec![replacing(task_of("t1", &[], pay.clone()), &["t2"])]);
        (offered, run.dispatched().len())
    };
    for &code in ErrorCode::ALL {
        let failed = |run: &mut Run| _ = run.failed(0, 1, code);
        assert_eq!(again(llm_policy(), &failed), (0, 0), "{code} of a handler");
    }
    let paid = |run: &mut Run| _ = run.done(0, 1, json!({"paid": true}));
    assert_eq!(again(llm_policy(), &paid), (0, 0), "it is done");
    let small = Policy {
        result_bytes: 10,
        ..llm_policy()
    };
    let too_large = |run: &mut Run| _ = run.done(0, 1, json!("x".repeat(60)));
    assert_eq!(again(small, &too_large), (0, 0), "its result was too large");
    let late = |run: &mut Run| {
        _ = run.sent(0, 1, "agent-1").fire(TimerKey::Attempt {
            task: 0,
            attempt: 1,
        })
    };
    assert_eq!(again(llm_policy(), &late), (0, 0), "the outcome is unknown");
    let refused = |run: &mut Run| _ = run.refused(0, 1, ErrorCode::InvalidParams);
    assert_eq!(again(llm_policy(), &refused), (1, 1), "it never began");
}

#[test]
fn a_second_round_keeps_the_params_of_what_cannot_be_undone() {
    let send = capability("test.send", |c| c.effect = Effect::Irreversible);
    let to = |name: &str| PlanTask {
        params: json!({"to": name}).into(),
        ..task_of("t1", &[], send.clone())
    };
    let dispatched = |second: PlanTask| {
        let mut run = Run::planned_with(llm_policy(), vec![to("ann"), task("t2", &[])]);
        run.done(0, 1, json!("sent"))
            .failed(1, 1, ErrorCode::TaskFailed);
        run.second_plan(vec![replacing(second, &["t2"])])
            .dispatched()
    };
    assert_eq!(dispatched(to("ann")), [(2, 1)], "idempotent, and the same");
    assert_eq!(dispatched(to("mallory")), []);
}

#[test]
fn what_a_second_plan_does_not_replace_is_still_missing() {
    let first = || vec![task("t1", &[]), task("t2", &[]), task("t3", &[])];
    let mut run = Run::planned_with(llm_policy(), first());
    run.done(0, 1, json!(1))
        .failed(1, 1, ErrorCode::TaskFailed)
        .failed(2, 1, ErrorCode::UpstreamFailed)
        .second_plan(vec![replacing(task("t2", &[]), &["t2"])])
        .done(3, 1, json!(2));
    let conclusion = run.composed();
    assert_eq!(conclusion.state, AnswerState::Partial);
    let error = conclusion.error.as_ref().unwrap();
    assert_eq!(error.code, ErrorCode::UpstreamFailed);
    assert_eq!(conclusion.replaced, [TaskId::new("t2").unwrap()]);
}

#[test]
fn a_result_that_lacks_something_makes_the_answer_partial() {
    let mut run = Run::planned(vec![task("t1", &[]), task("t2", &[0])]);
    let missing = Failure::new(ErrorCode::DependencyFailed, "half of it");
    run.sent(0, 1, "agent-1").step(Event::Responded {
        task: 0,
        attempt: 1,
        outcome: TaskOutcome::Partly(json!(1).into(), missing.clone()),
        calls: Vec::new(),
    });
    assert_eq!(run.dispatched(), [(1, 1)], "what there is may be used");
    run.done(1, 1, json!(2));
    let conclusion = run.conclusion();
    assert_eq!(conclusion.state, AnswerState::Partial);
    assert_eq!(conclusion.error, Some(missing.clone()));
    assert_eq!(conclusion.tasks[0].error, Some(missing));
}

#[test]
fn results_beyond_the_budget_fail_their_task() {
    let policy = Policy {
        result_bytes: 100,
        ..Policy::default()
    };
    let mut run = Run::planned_with(policy, vec![task("t1", &[]), task("t2", &[])]);
    run.done(0, 1, json!("x".repeat(60)))
        .done(1, 1, json!("x".repeat(60)));
    assert_eq!(run.states(), [TaskState::Completed, TaskState::Failed]);
    assert_eq!(
        run.conclusion().error.as_ref().unwrap().code,
        ErrorCode::BudgetExceeded
    );
}

#[test]
fn while_a_plan_arrives_only_tasks_that_read_start() {
    let write = capability("test.write", |c| c.effect = Effect::Write);
    let (first, second) = (task("t1", &[]), task_of("t2", &[], write));
    let mut run = Run::start(Policy::default());
    run.step(Event::TasksAdded {
        round: 1,
        tasks: vec![first.clone(), second.clone()],
    });
    assert_eq!(run.dispatched(), [(0, 1)]);
    run.done(0, 1, json!(1));
    run.plan(
        1,
        Ok(Plan {
            tasks: vec![first.clone(), second, task("t3", &[0])],
            ..Plan::default()
        }),
    );
    assert_eq!(run.dispatched(), [(1, 1), (2, 1)]);
    run.done(1, 1, json!(1)).done(2, 1, json!(1));
    assert_eq!(run.conclusion().state, AnswerState::Completed);
    let mut run = Run::start(Policy::default());
    run.step(Event::TasksAdded {
        round: 1,
        tasks: vec![first.clone()],
    })
    .failed(0, 1, ErrorCode::TaskFailed);
    run.plan(
        1,
        Ok(Plan {
            tasks: vec![first, task("t2", &[0])],
            ..Plan::default()
        }),
    );
    assert_eq!(run.states(), [TaskState::Failed, TaskState::Skipped]);
}

#[test]
fn a_chain_of_ten_thousand_fails_without_a_deep_stack() {
    let contract = capability("test.do", |_| ());
    let link = |i: usize| {
        task_of(
            &format!("t{i}"),
            &i.checked_sub(1).map_or(vec![], |b| vec![b]),
            contract.clone(),
        )
    };
    let mut run = Run::planned((0..10_000).map(link).collect());
    run.failed(0, 1, ErrorCode::TaskFailed);
    assert_eq!(
        run.states()
            .iter()
            .filter(|&&state| state == TaskState::Skipped)
            .count(),
        9_999
    );
}

#[test]
fn a_chain_of_ten_thousand_that_nobody_may_run_ends_without_a_deep_stack() {
    let secret = capability("test.secret", |c| c.required_roles = vec!["boss".into()]);
    let link = |i: usize| PlanTask {
        optional: true,
        ..task_of(
            &format!("t{i}"),
            &i.checked_sub(1).map_or(vec![], |b| vec![b]),
            secret.clone(),
        )
    };
    let run = Run::planned((0..10_000).map(link).collect());
    assert!(run.states().iter().all(|&state| state == TaskState::Failed));
}

#[test]
fn a_second_plan_replaces_failures_but_not_what_nobody_can_do() {
    let mut run = Run::start(llm_policy());
    let first = Plan {
        tasks: vec![task("t1", &[])],
        unplaced: vec!["fly me".into()],
        ..Plan::default()
    };
    run.plan(1, Ok(first)).failed(0, 1, ErrorCode::TaskFailed);
    run.plan(
        2,
        Ok(Plan {
            tasks: vec![replacing(task("t1", &[]), &["t1"])],
            ..Plan::default()
        }),
    );
    run.done(1, 1, json!("ok"));
    let written_from = run.last.iter().find_map(|action| match action {
        Action::Compose {
            tasks, unplaced, ..
        } => Some((tasks.len(), unplaced.len())),
        Action::Plan { .. }
        | Action::Choose { .. }
        | Action::Send(_)
        | Action::Abandon { .. }
        | Action::SetTimer { .. }
        | Action::ClearTimer(_)
        | Action::Report(_)
        | Action::Withdraw(_)
        | Action::Respond(_) => None,
    });
    assert_eq!(
        written_from,
        Some((1, 1)),
        "the answer does not report the repaired failure"
    );
    run.step(Event::Composed {
        result: Ok("Nearly all.".into()),
        llm_calls: 1,
        usage: Usage::default(),
        notes: vec![],
    });
    let conclusion = run.conclusion();
    assert_eq!(
        (conclusion.state, conclusion.unplaced.len()),
        (AnswerState::Partial, 1)
    );
    assert_eq!((conclusion.tasks.len(), conclusion.replaced.len()), (2, 1));
}

#[test]
fn tasks_that_cannot_be_done_are_told_and_the_others_are_done() {
    for (optional, state) in [
        (false, AnswerState::Partial),
        (true, AnswerState::Completed),
    ] {
        let mut run = Run::start(Policy::default());
        let refused = RefusedTask {
            optional,
            view: PlannedTaskView {
                id: TaskId::new("t2").unwrap(),
                capability: CapabilityName::new("moon.fly").unwrap(),
                params: json!({}).into(),
                depends_on: Vec::new(),
                inferred: Vec::new(),
            },
            state: TaskState::Failed,
            failure: Failure::new(ErrorCode::UnknownCapability, "no agent offers moon.fly"),
        };
        let plan = Plan {
            tasks: vec![task("t1", &[])],
            refused: vec![refused],
            ..Plan::default()
        };
        run.plan(1, Ok(plan)).done(0, 1, json!(1));
        let conclusion = run.conclusion();
        assert_eq!(conclusion.state, state);
        let error = conclusion.error.as_ref().map(|error| error.code);
        assert_eq!(error, (!optional).then_some(ErrorCode::UnknownCapability));
        assert_eq!(run.states(), [TaskState::Completed, TaskState::Failed]);
        let told = |action: &Action| matches!(action, Action::Report(Progress::Failed { task, .. }) if task.as_str() == "t2");
        assert!(run.all.iter().any(told));
    }
}

#[test]
fn a_delegated_requests_calls_are_shared_among_its_tasks_and_come_back() {
    let policy = Policy {
        calls: Some(7),
        ..Policy::default()
    };
    let given = |run: &mut Run, task: usize, attempt: u32| {
        run.sent(task, attempt, "agent-1");
        run.last.iter().find_map(|action| match action {
            Action::Send(sent) => Some(sent.calls),
            Action::Plan { .. }
            | Action::Choose { .. }
            | Action::Abandon { .. }
            | Action::SetTimer { .. }
            | Action::ClearTimer(_)
            | Action::Compose { .. }
            | Action::Report(_)
            | Action::Withdraw(_)
            | Action::Respond(_) => None,
        })
    };
    let respond = |run: &mut Run, task: usize, outcome: TaskOutcome| {
        run.step(Event::Responded {
            task,
            attempt: 1,
            outcome,
            calls: Vec::new(),
        });
    };
    let tasks = ["t1", "t2", "t3"].map(|id| task(id, &[])).to_vec();
    let mut run = Run::planned_with(policy, tasks);
    // Each attempt takes one call and half of the rest; later attempts share what remains.
    assert_eq!(given(&mut run, 0, 1), Some(Some(3)));
    assert_eq!(given(&mut run, 1, 1), Some(Some(1)));
    let busy = Failure::new(ErrorCode::AgentBusy, "as told");
    respond(&mut run, 1, TaskOutcome::Refused(busy));
    run.fire(TimerKey::Retry {
        task: 1,
        attempt: 1,
    });
    assert_eq!(
        given(&mut run, 1, 2),
        Some(Some(1)),
        "a refusal costs nothing"
    );
    assert_eq!(given(&mut run, 2, 1), Some(Some(0)));
    let lost = Failure::new(ErrorCode::AgentLost, "as told");
    respond(&mut run, 2, TaskOutcome::Failed(lost));
    run.fire(TimerKey::Retry {
        task: 2,
        attempt: 1,
    });
    assert_eq!(
        given(&mut run, 2, 2),
        None,
        "no call is left, and the failure says so"
    );
    respond(&mut run, 0, TaskOutcome::Done(json!(1).into()));
    run.step(Event::Responded {
        task: 1,
        attempt: 2,
        outcome: TaskOutcome::Done(json!(1).into()),
        calls: Vec::new(),
    });
    let error = run.conclusion().tasks[2].error.clone().unwrap();
    assert_eq!(error.code, ErrorCode::BudgetExceeded);
}

#[test]
fn a_second_plan_does_what_cannot_be_undone_no_more_often_than_the_first() {
    let pay = capability("test.pay", |c| {
        (c.idempotent, c.effect) = (false, Effect::Irreversible)
    });
    let pays = |id: &str, after: &[usize]| task_of(id, after, pay.clone());
    let second = |tasks: Vec<PlanTask>| {
        let mut run = Run::planned_with(llm_policy(), vec![task("t1", &[]), pays("t2", &[0])]);
        // The payment never began: it waited for the failed task.
        run.failed(0, 1, ErrorCode::TaskFailed);
        run.second_plan(tasks).dispatched().len()
    };
    assert_eq!(second(vec![pays("a", &[])]), 1);
    assert_eq!(second(vec![pays("a", &[]), pays("b", &[])]), 0);
}

#[test]
fn a_replacement_makes_up_for_a_task_only_once_it_is_done() {
    let first = || vec![task("t1", &[]), task("t2", &[])];
    let second = |change: fn(&mut PlanTask), outcome: fn(&mut Run)| {
        let mut run = Run::planned_with(llm_policy(), first());
        run.done(0, 1, json!(1)).failed(1, 1, ErrorCode::TaskFailed);
        let mut again = replacing(
            task_of("t9", &[], capability("test.other", |_| ())),
            &["t2"],
        );
        change(&mut again);
        run.second_plan(vec![again]);
        outcome(&mut run);
        let conclusion = run.composed().clone();
        (conclusion.state, conclusion.replaced.len())
    };
    let done: fn(&mut Run) = |run| _ = run.done(2, 1, json!(2));
    let fails: fn(&mut Run) = |run| _ = run.failed(2, 1, ErrorCode::TaskFailed);
    assert_eq!(second(|_| (), done), (AnswerState::Completed, 1));
    assert_eq!(second(|_| (), fails), (AnswerState::Partial, 0));
    assert_eq!(
        second(|task| task.optional = true, fails),
        (AnswerState::Partial, 0)
    );
    assert_eq!(
        second(|task| task.replaces.clear(), done),
        (AnswerState::Partial, 0)
    );
}

#[test]
fn only_the_same_work_replaces_without_being_named() {
    let about = |id: &str, city: &str| PlanTask {
        params: json!({"city": city}).into(),
        ..task(id, &[])
    };
    let chain = |id: &str, from: usize| with_reference(task(id, &[from]), from);
    let mut run = Run::planned_with(llm_policy(), vec![about("t1", "Paris"), chain("t2", 0)]);
    run.failed(0, 1, ErrorCode::UpstreamFailed)
        .second_plan(vec![about("t1", "Paris"), chain("t2", 0)])
        .done(2, 1, json!({"x": 1}))
        .done(3, 1, json!(2));
    assert_eq!(run.composed().state, AnswerState::Completed);
    let mut run = Run::planned_with(llm_policy(), vec![about("t1", "Paris")]);
    run.failed(0, 1, ErrorCode::UpstreamFailed)
        .second_plan(vec![about("t1", "Rome")])
        .done(1, 1, json!({"x": 1}));
    assert_eq!(
        run.composed().state,
        AnswerState::Partial,
        "Paris is still missing"
    );
}

#[test]
fn what_an_abandoned_attempt_was_given_does_not_come_back_with_the_next_refusal() {
    let policy = Policy {
        calls: Some(3),
        ..Policy::default()
    };
    let mut run = Run::planned_with(policy, vec![task("t1", &[])]);
    let given = |run: &Run| {
        let sent = |action: &Action| matches!(action, Action::Send(sent) if sent.calls == Some(0));
        run.last.iter().any(sent)
    };
    // The first attempt costs one call and half of the two that are left; it may still spend that half.
    run.sent(0, 1, "agent-1").fire(TimerKey::Attempt {
        task: 0,
        attempt: 1,
    });
    run.fire(TimerKey::Retry {
        task: 0,
        attempt: 1,
    });
    let nobody = Failure::new(ErrorCode::NoAgent, "as told");
    run.step(Event::Responded {
        task: 0,
        attempt: 2,
        outcome: TaskOutcome::Refused(nobody),
        calls: Vec::new(),
    });
    run.fire(TimerKey::Retry {
        task: 0,
        attempt: 2,
    });
    assert!(
        given(run.sent(0, 3, "agent-1")),
        "one call is left, and nothing for what it may cause"
    );
}
