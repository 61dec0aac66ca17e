//! What it costs to plan without a model: usual queries, and 16 KB of the words that give the planner most to do.
//!
//! Over the built-in specialists' cards, a thousand cards, and hostile cards; compiling the plan is included.

use std::sync::Arc;
use std::time::Duration;

use amcp_plan::{Catalogue, PlanLimits};
use amcp_planner::embedded::EmbeddedPlanner;
use amcp_planner::{Planner, PlanningInput, Sink};
use amcp_protocol::{Capability, Consumes, Contract, Produces};
use amcp_specialists::builtin::{Settings, all};
use criterion::{Criterion, criterion_group, criterion_main};
use serde_json::json;

fn catalogue() -> Arc<Catalogue> {
    let cards = all(&Settings::new("unused"))
        .into_iter()
        .map(|(_, make)| make().card());
    let contracts = cards.flat_map(|card| card.contracts().expect("the cards are sound"));
    Arc::new(contracts.collect())
}

/// A card about one thing, which takes a name and a day.
fn card(number: usize) -> Capability {
    let mut card = Capability::new(
        &format!("area{}.thing{number}.get", number % 40),
        &format!("Looks up the widget{number} of a place on a day."),
    );
    card.params = json!({"type": "object", "required": ["place"], "properties": {
        "place": {"type": "string", "x-kind": "city"}, "date": {"type": "string", "format": "date"}}});
    card.keywords = vec![format!("widget{number}"), "stock".into(), "figures".into()];
    card
}

/// The built-in cards among `count` others, each changed.
fn beside(count: usize, change: impl Fn(&mut Capability)) -> Arc<Catalogue> {
    let others = (0..count).map(|number| {
        let mut card = card(number);
        change(&mut card);
        Arc::new(Contract::new(card).expect("the card is sound"))
    });
    Arc::new(catalogue().iter().cloned().chain(others).collect())
}

/// A thousand cards that feed each other.
fn fed() -> Arc<Catalogue> {
    beside(992, |card| {
        let (param, types) = ("place".to_owned(), vec!["t0".to_owned()]);
        card.consumes = vec![Consumes { param, types }];
        let (value_type, path) = ("t0".to_owned(), "/t".to_owned());
        card.produces = vec![Produces { value_type, path }];
    })
}

/// A card with a thousand required params.
fn wide() -> Arc<Catalogue> {
    beside(1, |card| {
        let params = (0..1_000).map(|i| (format!("p{i}"), json!({"type": "string"})));
        let params: serde_json::Map<_, _> = params.collect();
        let names: Vec<_> = params.keys().cloned().collect();
        card.params = json!({"type": "object", "properties": params, "required": names});
    })
}

/// A card with a choice of five thousand values.
fn long() -> Arc<Catalogue> {
    beside(1, |card| {
        let values: Vec<_> = (0..5_000).map(|i| format!("value {i}")).collect();
        card.params = json!({"type": "object", "required": ["place"], "properties": {
            "place": {"type": "string", "enum": values}}});
    })
}

fn plan(criterion: &mut Criterion) {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime starts");
    let planner = EmbeddedPlanner::new();
    let mut group = criterion.benchmark_group("embedded planner");
    // All of it in less than a minute: a plan varies little.
    group
        .sample_size(20)
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2));
    let hostile = |part: &str| part.repeat(16 * 1024 / part.len());
    let (few, many) = (catalogue(), beside(992, |_| ()));
    let (fed, wide, long) = (fed(), wide(), long());
    let asked = "What's the weather in Paris and tell me a programming joke?";
    let report = "Produce an expense summary report for Q4 2024";
    let clauses = |i| format!("show the widget{i} stock figures of some thing for Rome now. ");
    let clauses: String = (0..64).map(clauses).collect();
    let places = hostile("widget0 stock of Rome and Oslo, ");
    for (name, query, catalogue) in [
        ("weather and joke", asked.to_owned(), &few),
        ("expense report", report.to_owned(), &few),
        ("nothing to do", "book me a flight to Mars".to_owned(), &few),
        ("16 KB of 'and '", hostile("and "), &few),
        (
            "16 KB of 'weather in Paris and '",
            hostile("weather in Paris and "),
            &few,
        ),
        ("16 KB of 'Q4 2024 and '", hostile("Q4 2024 and "), &few),
        ("plan over 1,000 cards", asked.to_owned(), &many),
        (
            "one of 1,000 cards",
            "widget617 figures in Rome tomorrow".to_owned(),
            &many,
        ),
        (
            "64 clauses over 1,000 cards that feed each other",
            clauses,
            &fed,
        ),
        ("16 KB over a card of 1,000 params", places, &wide),
        (
            "16 KB over an enum of 5,000 values",
            hostile("widget0 value 7 stock "),
            &long,
        ),
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
            spent: Sink::default(),
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
