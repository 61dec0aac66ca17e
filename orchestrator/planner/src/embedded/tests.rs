//! What the planner makes of queries, over two catalogues: whole plans compared, accuracy printed.
//!
//! The single steps are tested where they are.

mod cases;
mod catalogues;
mod delegation;

use std::sync::LazyLock;

use cases::{Case, DECLINED_MESH, DECLINED_OFFICE, KNOWN_WEAK, MESH, OFFICE};
use proptest::prelude::*;

use super::*;
use crate::Sink;

/// 14 February 2025: a Friday, so that "next Monday" and "last quarter" cross a boundary.
fn today() -> Date {
    jiff::civil::date(2025, 2, 14)
}

fn input(catalogue: &Arc<Catalogue>, query: &str) -> PlanningInput {
    PlanningInput {
        query: query.to_owned(),
        catalogue: Arc::clone(catalogue),
        roles: Vec::new(),
        limits: amcp_plan::PlanLimits::default(),
        time: std::time::Duration::from_secs(1),
        llm_calls: 0,
        today: today(),
        history: Vec::new(),
        feedback: None,
        early: Sink::default(),
    }
}

fn plan(catalogue: &Arc<Catalogue>, query: &str) -> Plan {
    EmbeddedPlanner::new()
        .plan_now(&input(catalogue, query))
        .unwrap_or_else(|e| panic!("{query}: {e}"))
        .0
}

/// A task in one line: `weather.get city=Paris`, a reference as `rows<t1`.
fn line(task: &amcp_protocol::PlannedTaskView) -> String {
    let params = task.params.as_object().unwrap();
    let mut parts: Vec<String> = params
        .iter()
        .map(|(name, value)| {
            if let Some(from) = value.get("$ref").and_then(Value::as_str) {
                let path = value["path"].as_str().unwrap_or_default();
                return format!("{name}<{from}{path}");
            }
            match value.as_str() {
                Some(text) => format!("{name}={text}"),
                None => format!("{name}={value}"),
            }
        })
        .collect();
    parts.sort();
    parts.insert(0, task.capability.to_string());
    parts.join(" ")
}

fn lines(plan: &Plan) -> Vec<String> {
    plan.view().iter().map(line).collect()
}

/// Right tasks (and all), right params (and all), queries that are not exactly right.
#[derive(Default)]
struct Score {
    tasks: (usize, usize),
    params: (usize, usize),
    wrong: Vec<String>,
}

impl Score {
    fn count(&mut self, made: &[String], wanted: &[&str]) {
        let capability = |line: &str| line.split(' ').next().unwrap().to_owned();
        self.tasks.1 += wanted.len().max(made.len());
        for wanted in wanted {
            let params: Vec<&str> = wanted.split(' ').skip(1).collect();
            self.params.1 += params.len();
            let best = made.iter().filter(|m| capability(m) == capability(wanted));
            let right = |m: &String| {
                params
                    .iter()
                    .filter(|p| m.split(' ').any(|q| q == **p))
                    .count()
            };
            if let Some(most) = best.map(right).max() {
                self.tasks.0 += 1;
                self.params.0 += most;
            }
        }
    }
}

fn evaluate(catalogue: &Arc<Catalogue>, cases: &[Case]) -> Score {
    let mut score = Score::default();
    for (query, wanted, unplaced) in cases {
        let plan = plan(catalogue, query);
        let made = lines(&plan);
        score.count(&made, wanted);
        if made != *wanted || plan.unplaced != *unplaced {
            let reasoning = plan.reasoning.unwrap_or_default();
            score.wrong.push(format!(
                "{query}\n  wanted {wanted:?} {unplaced:?}\n  made   {made:?} {:?}\n  {reasoning}",
                plan.unplaced
            ));
        }
    }
    score
}

fn check(name: &str, catalogue: &Arc<Catalogue>, cases: &[Case]) {
    let score = evaluate(catalogue, cases);
    println!(
        "{name}: {} queries, tasks {}/{}, params {}/{}, exact {}",
        cases.len(),
        score.tasks.0,
        score.tasks.1,
        score.params.0,
        score.params.1,
        cases.len() - score.wrong.len()
    );
    assert!(score.wrong.is_empty(), "{}", score.wrong.join("\n"));
}

#[test]
fn plans_over_a_catalogue_like_the_built_in_one() {
    check("mesh", &catalogues::mesh(), MESH);
}

#[test]
fn plans_over_a_catalogue_of_something_else() {
    check("office", &catalogues::office(), OFFICE);
}

#[test]
fn what_is_known_to_be_weak_is_no_worse() {
    for (query, right, today) in KNOWN_WEAK {
        let made = lines(&plan(&catalogues::mesh(), query));
        assert!(made == *right || made == *today, "{query}: {made:?}");
    }
}

#[test]
fn the_plan_says_which_words_stand_for_what() {
    let plan = plan(
        &catalogues::mesh(),
        "Tell me a joke, and the weather in Rome",
    );
    assert_eq!(
        plan.reasoning.unwrap(),
        "joke.get for 'joke'; weather.get for 'weather'"
    );
}

#[test]
fn each_added_edge_has_its_reason() {
    let plan = plan(
        &catalogues::mesh(),
        "Produce an expense summary report for Q4 2024",
    );
    assert!(
        plan.tasks
            .iter()
            .filter(|t| !t.references.is_empty())
            .all(|t| !t.inferred.is_empty())
    );
}

#[test]
fn what_a_user_may_not_use_is_not_planned() {
    let capabilities = catalogues::mesh();
    let guarded = capabilities.iter().map(|contract| {
        let mut capability = contract.capability.clone();
        if capability.name.as_str() == "joke.get" {
            capability.required_roles = vec!["jester".into()];
        }
        Arc::new(Contract::new(capability).unwrap())
    });
    let guarded: Arc<Catalogue> = Arc::new(guarded.collect());
    let query = "Tell me a joke, and the weather in Rome";
    let refused = plan(&guarded, query);
    assert_eq!(lines(&refused), ["weather.get city=Rome"]);
    assert_eq!(refused.unplaced, ["Tell me a joke"]);
    let mut input = input(&guarded, query);
    input.roles = vec!["jester".into()];
    let allowed = EmbeddedPlanner::new().plan_now(&input).unwrap().0;
    assert_eq!(allowed.tasks.len(), 2);
}

#[test]
fn a_task_that_the_compiler_refuses_costs_only_itself() {
    let picky = catalogues::mesh();
    let picky = picky.iter().map(|contract| {
        let mut capability = contract.capability.clone();
        if capability.name.as_str() == "joke.get" {
            capability.params["maxProperties"] = 0.into();
        }
        Arc::new(Contract::new(capability).unwrap())
    });
    let picky: Arc<Catalogue> = Arc::new(picky.collect());
    let plan = plan(&picky, "Tell me a programming joke and the weather in Rome");
    assert_eq!(lines(&plan), ["weather.get city=Rome"]);
    assert!(
        plan.unplaced[0].starts_with("joke.get ("),
        "{:?}",
        plan.unplaced
    );
}

#[test]
fn one_index_serves_all_queries_of_a_catalogue() {
    let planner = EmbeddedPlanner::new();
    let (mesh, office) = (catalogues::mesh(), catalogues::office());
    let first = planner.index(&mesh);
    // Another catalogue of the same contracts, as the registry makes one for each request.
    let same: Catalogue = mesh.iter().cloned().collect();
    assert!(Arc::ptr_eq(&first, &planner.index(&same)));
    assert!(!Arc::ptr_eq(&first, &planner.index(&office)));
    for _ in 0..10 {
        planner.index(&catalogues::office());
    }
    assert!(planner.indices.lock().unwrap().len() <= KEPT);
}

#[test]
fn a_filler_for_other_planners_says_what_is_unmistakable() {
    let fill = QueryFill::new("Expense report of marketing for Q4 2024", today());
    let mesh = catalogues::mesh();
    let params = |name: &str| fill.fill(&mesh.get(name).unwrap().capability);
    assert_eq!(
        Value::Object(params("finance.db.query")),
        serde_json::json!({"quarter": "Q4 2024", "department": "Marketing"})
    );
    assert!(params("text.summarize").is_empty());
    assert!(params("weather.get").is_empty());
}

#[test]
fn ranking_puts_what_is_meant_first() {
    let ranked = ranked("will it rain in Rome", &catalogues::mesh());
    assert_eq!(ranked[0].as_str(), "weather.get");
}

#[test]
fn hostile_queries_are_planned_or_unplaced() {
    let long = |part: &str| part.repeat(16 * 1024 / part.len());
    let queries = [
        String::new(),
        " \n\t ".into(),
        "?".into(),
        "the of and".into(),
        long("and "),
        long("weather in Paris and "),
        long("a"),
        long("'"),
        long("\"x\" "),
        long("\" "),
        long("("),
        long("1 + "),
        long("1,"),
        long("Q4 2024 and "),
        long("weather "),
        long("xyzzy1 plugh2 "),
        long("expense report for sales and "),
        long("summarize the translation of the weather. "),
        long("é̂🦀 "),
        long("SELECT "),
        "say \"unclosed and 'also unclosed and the weather in Rome".into(),
        "\u{202e}weather in\u{0} Paris\u{feff}".into(),
    ];
    for catalogue in [catalogues::mesh(), catalogues::office()] {
        for query in &queries {
            let plan = plan(&catalogue, query);
            let head: String = query.chars().take(40).collect();
            assert!(
                !(plan.tasks.is_empty() && plan.unplaced.is_empty()),
                "{head}"
            );
            assert!(plan.tasks.len() <= 32, "{head}");
            assert!(
                plan.unplaced.iter().map(String::len).sum::<usize>() < 16 * 1024,
                "{head}"
            );
        }
    }
}

/// Words that steer the planner, among others.
fn any_words() -> impl Strategy<Value = String> {
    let word = prop_oneof![
        prop::sample::select(vec![
            "weather",
            "in",
            "Paris",
            "and",
            "then",
            ",",
            ".",
            "joke",
            "about",
            "report",
            "expense",
            "for",
            "Q4",
            "2024",
            "last",
            "quarter",
            "summarize",
            ":",
            "\"a b\"",
            "'",
            "it",
            "MSFT",
            "12",
            "*",
            "(",
            "translate",
            "to",
            "sales",
            "\n",
            "1.",
            "-",
            "tomorrow",
            "at",
            "3pm",
            "SELECT",
            "from",
            "of",
            "What's",
            "the",
            "stock",
            "price",
        ])
        .prop_map(str::to_owned),
        "\\PC{1,8}",
    ];
    prop::collection::vec(word, 0..40).prop_map(|words| words.join(" "))
}

proptest! {
    #[test]
    fn invariant_every_text_is_planned_or_unplaced(query in prop_oneof![any_words(), ".{0,200}"]) {
        for catalogue in [mesh(), office()] {
            let plan = plan(catalogue, &query);
            prop_assert!(!(plan.tasks.is_empty() && plan.unplaced.is_empty()));
            for task in &plan.tasks {
                let unknown: Vec<String> = task.references.iter().map(|r| r.place.clone()).collect();
                let contract = catalogue.get(task.capability.as_str()).unwrap();
                prop_assert!(contract.params.violations_outside(&task.params, &unknown).is_empty());
            }
        }
    }
}

fn mesh() -> &'static Arc<Catalogue> {
    static MESH: LazyLock<Arc<Catalogue>> = LazyLock::new(catalogues::mesh);
    &MESH
}

fn office() -> &'static Arc<Catalogue> {
    static OFFICE: LazyLock<Arc<Catalogue>> = LazyLock::new(catalogues::office);
    &OFFICE
}

#[test]
fn an_index_is_built_once_and_nobody_waits_for_another_one_to_be_built() {
    let planner = EmbeddedPlanner::new();
    let built = planner.index_by(mesh(), |catalogue| {
        assert!(planner.indices.try_lock().is_ok(), "the lock is held");
        planner.index(office());
        Index::new(catalogue)
    });
    for (catalogue, index) in [(mesh(), &built), (office(), &planner.index(office()))] {
        let again = planner.index_by(catalogue, |_| panic!("it is known"));
        assert!(Arc::ptr_eq(&again, index));
    }
}

/// What the planner does not understand it does not do: the tasks that remain, and a part of the reason.
fn check_declined(catalogue: &Arc<Catalogue>, cases: &[(&str, &[&str], &str)]) {
    for (query, wanted, why) in cases {
        let plan = plan(catalogue, query);
        assert_eq!(lines(&plan), *wanted, "{query}");
        let unplaced = plan.unplaced.join("; ");
        assert!(unplaced.contains(why), "{query}: {unplaced}");
    }
}

#[test]
fn a_word_that_nothing_explains_is_named() {
    check_declined(mesh(), DECLINED_MESH);
}

#[test]
fn nothing_is_changed_that_nobody_asked_to_change() {
    check_declined(office(), DECLINED_OFFICE);
    for query in [
        "Could you email bob@example.com saying we are late?",
        "I need to email bob@example.com saying we are late",
        "turn the kitchen lights off",
    ] {
        assert_eq!(plan(office(), query).tasks.len(), 1, "{query}");
    }
}

#[test]
fn an_adjunct_that_changes_nothing_is_noted() {
    let input = input(mesh(), "weather in Paris for my boss, please, quickly");
    let (plan, notes) = EmbeddedPlanner::new().plan_now(&input).unwrap();
    assert_eq!(lines(&plan), ["weather.get city=Paris"]);
    assert_eq!(plan.unplaced, Vec::<String>::new());
    assert_eq!(notes, ["'for my boss' changed nothing"]);
}

#[test]
fn a_greeting_is_answered_with_what_there_is() {
    for query in ["hello", "Help!", "what can you do?"] {
        let plan = plan(mesh(), query);
        let text = plan.answer_directly.expect(query);
        assert!(text.contains("weather.get"), "{text}");
        assert!(text.contains("Ask for example"), "{text}");
        assert_eq!((plan.tasks.len(), plan.unplaced.len()), (0, 0));
    }
    let asked = plan(mesh(), "help me with the weather in Rome");
    assert_eq!(lines(&asked), ["weather.get city=Rome"]);
}
