//! The shipped cases, judged: what the embedded planner gets right must not become less.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use amcp_plan::{Catalogue, PlanLimits};
use amcp_planner::embedded::EmbeddedPlanner;
use amcp_planner::eval::{Case, Cost, Report, Scored, judge, read};
use amcp_planner::{Planner, PlanningInput, Sink};
use amcp_specialists::builtin::{Settings, all};
use amcp_tests::process::Sandbox;

/// At least this many cases of a file are right; at most this many are silently wrong, and at most this many tasks change
/// something that they should not. A better planner moves the numbers.
struct Floor {
    file: &'static str,
    cases: u32,
    right: u32,
    silently_wrong: u32,
    wrong_writes: u32,
}

const FLOORS: &[Floor] = &[
    Floor {
        file: "shipped.json",
        cases: 155,
        right: 149,
        silently_wrong: 0,
        wrong_writes: 0,
    },
    Floor {
        file: "office.json",
        cases: 60,
        right: 53,
        silently_wrong: 0,
        wrong_writes: 0,
    },
    Floor {
        file: "home.json",
        cases: 58,
        right: 54,
        silently_wrong: 0,
        wrong_writes: 0,
    },
    Floor {
        file: "shop.json",
        cases: 60,
        right: 56,
        silently_wrong: 0,
        wrong_writes: 0,
    },
    Floor {
        file: "everyday.json",
        cases: 75,
        right: 71,
        silently_wrong: 0,
        wrong_writes: 0,
    },
    Floor {
        file: "unseen1.json",
        cases: 151,
        right: 130,
        silently_wrong: 2,
        wrong_writes: 0,
    },
    Floor {
        file: "unseen2.json",
        cases: 120,
        right: 92,
        silently_wrong: 1,
        wrong_writes: 0,
    },
    Floor {
        file: "work.json",
        cases: 120,
        right: 100,
        silently_wrong: 1,
        wrong_writes: 0,
    },
    Floor {
        file: "foreign.json",
        cases: 120,
        right: 89,
        silently_wrong: 1,
        wrong_writes: 0,
    },
];

fn shipped() -> Arc<Catalogue> {
    let settings = Settings {
        offline: true,
        ..Settings::new("unused")
    };
    let cards = all(&settings).into_iter().map(|(_, make)| make().card());
    Arc::new(cards.flat_map(|card| card.contracts().unwrap()).collect())
}

fn cases(file: &str) -> Vec<Case> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("eval");
    let load = |path: &str| std::fs::read_to_string(folder.join(path)).map_err(|e| e.to_string());
    let text = load(file).unwrap();
    read(&text, &shipped(), &mut { load }).unwrap_or_else(|error| panic!("{file}: {error}"))
}

async fn score(planner: &EmbeddedPlanner, case: &Case) -> Scored {
    let input = PlanningInput {
        query: case.query.clone(),
        catalogue: case.catalogue.clone(),
        access: amcp_protocol::Access::default(),
        limits: PlanLimits::default(),
        time: Duration::from_secs(10),
        llm_calls: 0,
        today: case.today.unwrap(),
        history: Vec::new(),
        feedback: None,
        early: Sink::default(),
        spent: Sink::default(),
    };
    let planned = planner.plan(input).await;
    Scored {
        id: case.id.clone(),
        class: case.class.clone(),
        query: case.query.clone(),
        verdict: judge(case, planned.as_ref()),
        answer: None,
        cost: Cost::default(),
    }
}

#[tokio::test]
async fn what_is_right_of_the_shipped_cases_does_not_become_less() {
    let planner = EmbeddedPlanner::new();
    let mut worse = Vec::new();
    for floor in FLOORS {
        let mut scored = Vec::new();
        for case in cases(floor.file) {
            scored.push(score(&planner, &case).await);
        }
        let row = Report::of(&scored).total;
        assert_eq!(row.cases, floor.cases, "{}", floor.file);
        if row.right < floor.right
            || row.silently_wrong > floor.silently_wrong
            || row.wrong_writes > floor.wrong_writes
        {
            worse.push(format!("{}: {row:?}", floor.file));
        }
    }
    assert!(worse.is_empty(), "{}", worse.join("\n"));
}

/// The figures come from the sample data by other means than the specialists'.
#[tokio::test]
async fn the_shipped_specialists_answer_with_the_right_figures() {
    let file = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("eval/answers.json");
    let file = file.to_str().unwrap();
    let sandbox = Sandbox::new();
    let ran = sandbox
        .run(["--offline", "eval", "--answers", "--json", file])
        .await;
    assert_eq!(ran.code, 0, "{ran:?}");
    let report = ran.json();
    let total = &report["total"];
    assert!(total["answers"].as_u64() >= Some(50), "{total}");
    let misses = &report["misses"];
    assert_eq!(total["right_answers"], total["answers"], "{misses:#}");
    assert_eq!(total["right"], total["cases"], "{misses:#}");
}

#[test]
fn three_in_ten_cases_must_not_be_planned_and_each_is_asked_once() {
    let files = FLOORS.iter().map(|floor| floor.file);
    let cases: Vec<Case> = files
        .chain(["heldout3.json", "heldout4.json", "heldout5.json"])
        .flat_map(cases)
        .collect();
    let declined = cases.iter().filter(|case| case.expects_nothing()).count();
    assert!(
        10 * declined >= 3 * cases.len(),
        "{declined} of {}",
        cases.len()
    );
    let mut queries: Vec<_> = cases.iter().map(|case| case.query.to_lowercase()).collect();
    queries.sort_unstable();
    let twice: Vec<_> = queries
        .windows(2)
        .filter(|pair| pair[0] == pair[1])
        .collect();
    assert!(twice.is_empty(), "{twice:?}");
    assert!(
        cases
            .iter()
            .all(|case| !case.class.is_empty() && case.today.is_some())
    );
}
