//! Measures the cost of deciding: whole requests, with agents that never fail.
//!
//! Does not measure actors, timers or planners.

#[path = "../tests/support/plans.rs"]
#[expect(dead_code, reason = "the tests use the rest")]
mod plans;

use std::hint::black_box;
use std::time::Duration;

use amcp_plan::{Action, Event, Machine, Plan, PlanTask, Policy};
use amcp_protocol::AgentId;
use amcp_protocol::llm::Usage;
use amcp_protocol::task::TaskOutcome;
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use serde_json::json;

use plans::{LOOK, fed_by, plan, task};

fn link(index: usize) -> PlanTask {
    match index.checked_sub(1) {
        Some(before) => fed_by(task(&format!("t{index}"), LOOK, &[before]), before),
        None => task("t0", LOOK, &[]),
    }
}

fn plans() -> [(&'static str, Plan); 3] {
    let diamond = vec![
        task("a", LOOK, &[]),
        task("b", LOOK, &[]),
        fed_by(task("c", LOOK, &[0, 1]), 0),
    ];
    let wide = (0..100).map(|i| task(&format!("t{i}"), LOOK, &[]));
    [
        ("diamond", plan(diamond)),
        ("100 wide", plan(wide.collect())),
        ("100 deep", plan((0..100).map(link).collect())),
    ]
}

/// Runs a request from its plan to its response; returns the number of steps.
fn live(plan: Plan, agent: &AgentId) -> u64 {
    let (mut machine, first) = Machine::start(Policy::default());
    black_box(first);
    let (mut steps, mut now) = (0, Duration::ZERO);
    let mut step = |event: Event| {
        steps += 1;
        now += Duration::from_micros(1);
        machine.step(now, event)
    };
    let mut actions = step(Event::Planned {
        round: 1,
        result: Ok(plan),
        planner: "bench".into(),
        llm_calls: 0,
        usage: Usage::default(),
        notes: vec![],
    });
    while let Some(action) = actions.pop() {
        if let Action::Choose { task, attempt, .. } = action {
            let agent = agent.clone();
            black_box(step(Event::Chosen {
                task,
                attempt,
                agent,
                incarnation: 1,
            }));
            let outcome = TaskOutcome::Done(json!({"rows": [1, 2, 3]}).into());
            actions.extend(step(Event::Responded {
                calls: Vec::new(),
                task,
                attempt,
                outcome,
            }));
        }
    }
    assert!(machine.is_done());
    steps
}

fn whole_lives(criterion: &mut Criterion) {
    let agent = AgentId::new("bench-1").expect("an id in a bench is valid");
    let mut group = criterion.benchmark_group("machine");
    for (name, plan) in plans() {
        group.throughput(Throughput::Elements(live(plan.clone(), &agent)));
        group.bench_function(name, |bencher| {
            bencher.iter_batched(
                || plan.clone(),
                |plan| live(plan, &agent),
                BatchSize::SmallInput,
            );
        });
    }
    group.finish();
}

criterion_group!(benches, whole_lives);
criterion_main!(benches);
