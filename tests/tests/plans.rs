//! What the embedded planner makes of plain language over the capabilities that AMCP ships: which tasks, which params,
//! which edges.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::Arc;
use std::time::Duration;

use amcp_plan::{Catalogue, PlanLimits};
use amcp_planner::embedded::EmbeddedPlanner;
use amcp_planner::{Planner, PlanningInput, Sink};
use amcp_specialists::builtin::{Settings, all};
use serde_json::Value;

/// A query and its plan: tasks in the order of their work, each with its params (those from other tasks as `<capability`).
const PLANS: &[(&str, &[&str])] = &[
    (
        "What's the weather in Paris and tell me a programming joke?",
        &["joke.get topic=programming", "weather.get city=Paris"],
    ),
    (
        "Produce an expense summary report for Q4 2024",
        &[
            "document.report.generate content=<finance.analyze.expenses",
            "finance.analyze.expenses rows=<finance.db.query",
            "finance.db.query quarter=Q4 2024",
        ],
    ),
    (
        "expense report for Q4 2024",
        &[
            "document.report.generate content=<finance.analyze.expenses",
            "finance.analyze.expenses rows=<finance.db.query",
            "finance.db.query quarter=Q4 2024",
        ],
    ),
    (
        "Put the weather in Oslo into a PDF",
        &[
            "document.report.generate content=<weather.get",
            "weather.get city=Oslo",
        ],
    ),
    (
        "Make a PDF with the share price of Apple",
        &[
            "document.report.generate content=<stocks.get",
            "stocks.get ticker=Apple",
        ],
    ),
    (
        "Tell me a joke and produce an expense report for Q4 2024",
        &[
            "document.report.generate content=<finance.analyze.expenses",
            "finance.analyze.expenses rows=<finance.db.query",
            "finance.db.query quarter=Q4 2024",
            "joke.get",
        ],
    ),
    (
        "weather in London and Tokyo",
        &["weather.get city=London", "weather.get city=Tokyo"],
    ),
    (
        "What's the weather in Paris, Rome and Berlin?",
        &[
            "weather.get city=Berlin",
            "weather.get city=Paris",
            "weather.get city=Rome",
        ],
    ),
    (
        "How is the weather in New York tomorrow?",
        &["weather.get city=New York date=2026-11-21"],
    ),
    (
        "What's the weather in NYC and the stock price of AMZN?",
        &["stocks.get ticker=AMZN", "weather.get city=NYC"],
    ),
    (
        "Write a report of the weather in Oslo and Paris",
        &[
            "document.report.generate content=[<weather.get, <weather.get]",
            "weather.get city=Oslo",
            "weather.get city=Paris",
        ],
    ),
    (
        "Get the weather in Oslo and the stock price of Apple and put them into a PDF",
        &[
            "document.report.generate content=[<weather.get, <stocks.get]",
            "stocks.get ticker=Apple",
            "weather.get city=Oslo",
        ],
    ),
    (
        "List the expenses of Q4 2024, analyse them, and put both into a report",
        &[
            "document.report.generate content=[<finance.db.query, <finance.analyze.expenses]",
            "finance.analyze.expenses rows=<finance.db.query",
            "finance.db.query quarter=Q4 2024",
        ],
    ),
    (
        "Tell me a joke and write a report of the weather in Oslo",
        &[
            "document.report.generate content=<weather.get",
            "joke.get",
            "weather.get city=Oslo",
        ],
    ),
    (
        "expenses by quarter in 2024",
        &[
            "finance.analyze.expenses group_by=quarter rows=<finance.db.query",
            "finance.db.query year=2024",
        ],
    ),
    ("What is 15% of 80?", &["math.eval expression=15% of 80"]),
    (
        "calculate (3 + 4) * 2^10",
        &["math.eval expression=(3 + 4) * 2^10"],
    ),
    ("tell me a joke", &["joke.get"]),
    (
        "How much did Sales spend in 2023?",
        &["finance.db.query department=Sales year=2023"],
    ),
    (
        "Summarize marketing expenses by category for Q2 2024",
        &[
            "finance.analyze.expenses group_by=category rows=<finance.db.query",
            "finance.db.query department=Marketing quarter=Q2 2024",
        ],
    ),
    (
        "How is Microsoft's stock doing?",
        &["stocks.get ticker=Microsoft"],
    ),
];

/// Queries that nobody here can serve; the embedded planner must say so and not guess.
const UNPLACED: &[&str] = &[
    "book me a flight to Mars",
    "translate this contract into Klingon",
    "who won the match?",
];

fn catalogue() -> Arc<Catalogue> {
    let settings = Settings {
        offline: true,
        ..Settings::new("unused")
    };
    let cards = all(&settings)
        .into_iter()
        .map(|(_, factory)| factory().card());
    Arc::new(cards.flat_map(|card| card.contracts().unwrap()).collect())
}

fn input(query: &str, catalogue: &Arc<Catalogue>) -> PlanningInput {
    PlanningInput {
        query: query.to_owned(),
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
    }
}

fn shown(plan: &amcp_plan::Plan) -> Vec<String> {
    let source = |value: &Value| {
        let from = value.get("$ref")?.as_str()?;
        let from = plan.tasks.iter().find(|task| task.id.as_str() == from);
        Some(format!("<{}", from.unwrap().capability))
    };
    let param = |value: &Value| match (value, source(value)) {
        (_, Some(from)) => from,
        (Value::String(text), None) => text.clone(),
        (Value::Array(items), None) if items.iter().all(|item| source(item).is_some()) => {
            let sources: Vec<_> = items.iter().filter_map(source).collect();
            format!("[{}]", sources.join(", "))
        }
        (other, None) => other.to_string(),
    };
    let mut tasks: Vec<String> = plan
        .tasks
        .iter()
        .map(|task| {
            let params = task.params.as_object().unwrap();
            let mut params: Vec<_> = params
                .iter()
                .map(|(name, value)| format!("{name}={}", param(value)))
                .collect();
            // Said twice: the quarter has its year. Defaults and titles are free.
            params.retain(|p| {
                !(p.starts_with("title=") || p.starts_with("format=") || p.starts_with("metric="))
            });
            if params.iter().any(|p| p.starts_with("quarter=")) {
                params.retain(|p| !p.starts_with("year="));
            }
            params.sort();
            params.insert(0, task.capability.to_string());
            params.join(" ")
        })
        .collect();
    tasks.sort();
    tasks
}

#[tokio::test]
async fn plain_language_becomes_the_right_tasks() {
    let (planner, catalogue) = (EmbeddedPlanner::new(), catalogue());
    let mut wrong = Vec::new();
    for (query, expected) in PLANS {
        match planner.plan(input(query, &catalogue)).await {
            Ok(planned)
                if shown(&planned.plan) == *expected && planned.plan.unplaced.is_empty() => {}
            Ok(planned) => {
                wrong.push(format!(
                    "{query}: {:?}, unplaced {:?}",
                    shown(&planned.plan),
                    planned.plan.unplaced
                ));
            }
            Err(error) => wrong.push(format!("{query}: {error}")),
        }
    }
    assert!(
        wrong.is_empty(),
        "{} of {} are wrong:\n{}",
        wrong.len(),
        PLANS.len(),
        wrong.join("\n")
    );
}

#[tokio::test]
async fn what_nobody_can_do_is_said_and_not_guessed() {
    let (planner, catalogue) = (EmbeddedPlanner::new(), catalogue());
    for query in UNPLACED {
        let planned = planner.plan(input(query, &catalogue)).await.unwrap();
        let said = !planned.plan.unplaced.is_empty();
        assert!(
            planned.plan.tasks.is_empty() && said,
            "{query}: {planned:?}"
        );
    }
}
