//! What the request machine costs: every event of one request from acceptance to its final response.
//!
//! No actor, no agent, no clock: what an orchestrated request costs beyond this is the shells'.

use std::hint::black_box;
use std::time::Duration;

use amcp_plan::Plan;
use amcp_plan::machine::{Action, Event, Machine, Policy};
use amcp_protocol::AgentId;
use amcp_tests::bench::{Shape, catalogue, plan};
use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use serde_json::json;

/// Runs a request whose agents all answer at once, and returns how many events it took.
fn run(plan: Plan, agent: &AgentId) -> usize {
    let (mut machine, actions) = Machine::start(Policy::default());
    black_box(actions);
    let mut events = vec![Event::Planned {
        round: 1,
        result: Ok(plan),
        planner: String::new(),
        llm_calls: 0,
        notes: Vec::new(),
    }];
    let mut handled = 0;
    while let Some(event) = events.pop() {
        handled += 1;
        for action in machine.step(Duration::from_micros(handled), event) {
            if let Action::Dispatch { task, attempt, .. } = action {
                events.push(Event::Responded {
                    task,
                    attempt,
                    outcome: Ok(json!({"n": 1})),
                });
                events.push(Event::Sent {
                    task,
                    attempt,
                    agent: agent.clone(),
                });
            }
        }
    }
    assert!(machine.is_done());
    handled as usize
}

fn requests(criterion: &mut Criterion) {
    let catalogue = catalogue();
    let agent = AgentId::new("bench-1").expect("an agent id");
    let mut group = criterion.benchmark_group("machine");
    for shape in Shape::ALL {
        let plan = plan(shape, &catalogue);
        group.bench_function(shape.name(), |bencher| {
            bencher.iter_batched(
                || plan.clone(),
                |plan| run(plan, &agent),
                BatchSize::SmallInput,
            );
        });
    }
    group.finish();
}

criterion_group!(benches, requests);
criterion_main!(benches);
