//! What it costs to plan without a model: usual queries, and 16 KB of the words that give the planner most to do.
//!
//! Over the built-in specialists' cards; compiling the plan is included.

use std::sync::Arc;
use std::time::Duration;

use amcp_plan::{Catalogue, PlanLimits};
use amcp_planner::embedded::EmbeddedPlanner;
use amcp_planner::{Planner, PlanningInput, Sink};
use amcp_specialists::builtin::{Settings, all};
use criterion::{Criterion, criterion_group, criterion_main};

fn catalogue() -> Arc<Catalogue> {
    let cards = all(&Settings::new("unused"))
        .into_iter()
        .map(|(_, make)| make().card());
    let contracts = cards.flat_map(|card| card.contracts().expect("the cards are sound"));
    Arc::new(contracts.collect())
}

fn plan(criterion: &mut Criterion) {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime starts");
    let (planner, catalogue) = (EmbeddedPlanner::new(), catalogue());
    let mut group = criterion.benchmark_group("embedded planner");
    let hostile = |part: &str| part.repeat(16 * 1024 / part.len());
    for (name, query) in [
        (
            "weather and joke",
            "What's the weather in Paris and tell me a programming joke?".to_owned(),
        ),
        (
            "expense report",
            "Produce an expense summary report for Q4 2024".to_owned(),
        ),
        ("nothing to do", "book me a flight to Mars".to_owned()),
        ("16 KB of 'and '", hostile("and ")),
        (
            "16 KB of 'weather in Paris and '",
            hostile("weather in Paris and "),
        ),
        ("16 KB of 'Q4 2024 and '", hostile("Q4 2024 and ")),
    ] {
        let input = PlanningInput {
            query,
            catalogue: catalogue.clone(),
            access: amcp_protocol::Access::default(),
            limits: PlanLimits::default(),
            time: Duration::from_secs(10),
            llm_calls: 0,
            today: jiff::civil::date(2026, 11, 20),
            history: Vec::new(),
            feedback: None,
            early: Sink::default(),
        };
        group.bench_function(name, |bencher| {
            // A refusal of the hostile ones is as good as a plan.
            bencher
                .to_async(&runtime)
                .iter(|| planner.plan(input.clone()));
        });
    }
    group.finish();
}

criterion_group!(benches, plan);
criterion_main!(benches);
