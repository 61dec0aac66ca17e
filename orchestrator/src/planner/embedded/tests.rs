//! What the planner makes of queries, over two catalogues: whole plans compared, accuracy printed.
//!
//! The single steps are tested where they are.

mod catalogues;

use std::sync::LazyLock;

use proptest::prelude::*;

use super::*;

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
        feedback: None,
    }
}

fn plan(catalogue: &Arc<Catalogue>, query: &str) -> Plan {
    EmbeddedPlanner::new()
        .plan_now(&input(catalogue, query))
        .unwrap_or_else(|e| panic!("{query}: {e}"))
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

/// What is asked, the tasks of the compiled plan, and what must be reported as unplaced.
type Case = (
    &'static str,
    &'static [&'static str],
    &'static [&'static str],
);

const MESH: &[Case] = &[
    (
        "What's the weather in Paris and tell me a programming joke?",
        &["weather.get city=Paris", "joke.get topic=programming"],
        &[],
    ),
    (
        "Produce an expense summary report for Q4 2024",
        &[
            "finance.analyze.expenses rows<t3",
            "document.report.generate content<t1",
            "finance.db.query quarter=Q4 2024",
        ],
        &[],
    ),
    (
        "weather in Paris and London",
        &["weather.get city=Paris", "weather.get city=London"],
        &[],
    ),
    (
        "What's the weather in Paris, London and New York?",
        &[
            "weather.get city=Paris",
            "weather.get city=London",
            "weather.get city=New York",
        ],
        &[],
    ),
    (
        "whats the wether in berlin",
        &["weather.get city=berlin"],
        &[],
    ),
    ("paris weather", &["weather.get city=paris"], &[]),
    ("Paris weather please", &["weather.get city=Paris"], &[]),
    (
        "Do I need an umbrella in Rio de Janeiro tomorrow?",
        &["weather.get city=Rio de Janeiro"],
        &[],
    ),
    (
        "Give me the forecast for Oslo for the next 5 days",
        &["weather.get city=Oslo days=5"],
        &[],
    ),
    (
        "What is the weather like in Paris? And in London?",
        &["weather.get city=Paris", "weather.get city=London"],
        &[],
    ),
    (
        "I'm in Lisbon. What's the weather?",
        &["weather.get city=Lisbon"],
        &[],
    ),
    (
        "Is it going to rain in San Francisco?",
        &["weather.get city=San Francisco"],
        &[],
    ),
    (
        "What's the stock price of AAPL?",
        &["stocks.get ticker=AAPL"],
        &[],
    ),
    ("How is MSFT doing?", &["stocks.get ticker=MSFT"], &[]),
    (
        "stock prices of AAPL, MSFT and GOOG",
        &[
            "stocks.get ticker=AAPL",
            "stocks.get ticker=MSFT",
            "stocks.get ticker=GOOG",
        ],
        &[],
    ),
    (
        "What do shares of Microsoft cost?",
        &["stocks.get ticker=Microsoft"],
        &[],
    ),
    ("price of tsla shares", &["stocks.get ticker=TSLA"], &[]),
    ("Tell me a joke", &["joke.get"], &[]),
    (
        "Tell me a joke about the weather",
        &["joke.get topic=weather"],
        &[],
    ),
    ("make me laugh", &["joke.get"], &[]),
    (
        "I'd like to hear something funny about animals",
        &["joke.get topic=animals"],
        &[],
    ),
    ("What is 12 * 7?", &["math.eval expression=12 * 7"], &[]),
    ("12*(3+4)", &["math.eval expression=12 * (3 + 4)"], &[]),
    (
        "what's 15% of 80",
        &["math.eval expression=15 / 100 * 80"],
        &[],
    ),
    (
        "calculate the square root of 144 plus 6",
        &["math.eval expression=sqrt(144) + 6"],
        &[],
    ),
    (
        "add 3 and 4 and tell me a joke",
        &["math.eval expression=3 + 4", "joke.get"],
        &[],
    ),
    (
        "Summarize: The mesh is large. It has many agents, and they talk a lot.",
        &["text.summarize text=The mesh is large. It has many agents, and they talk a lot."],
        &[],
    ),
    (
        "Please summarize \"a long text and more\" in 2 sentences",
        &["text.summarize sentences=2 text=a long text and more"],
        &[],
    ),
    (
        "Show the ledger rows of the marketing department for the fourth quarter of 2024",
        &["finance.db.query department=Marketing quarter=Q4 2024"],
        &[],
    ),
    (
        "List transactions for travel last quarter",
        &["finance.db.query category=Travel quarter=Q4 2024"],
        &[],
    ),
    (
        "Show sales and marketing transactions for Q3 2024",
        &[
            "finance.db.query department=Sales quarter=Q3 2024",
            "finance.db.query department=Marketing quarter=Q3 2024",
        ],
        &[],
    ),
    (
        "SELECT department, SUM(amount) FROM expenses GROUP BY department",
        &["finance.db.query sql=SELECT department, SUM(amount) FROM expenses GROUP BY department"],
        &[],
    ),
    (
        "run the query `SELECT * FROM expenses WHERE amount > 5` please",
        &["finance.db.query sql=SELECT * FROM expenses WHERE amount > 5"],
        &[],
    ),
    (
        "Break down our spending in Q2 2024 by category",
        &[
            "finance.analyze.expenses group_by=category rows<t2",
            "finance.db.query quarter=Q2 2024",
        ],
        &[],
    ),
    (
        "Analyze last quarter's expenses by department and write an HTML report",
        &[
            "finance.analyze.expenses group_by=department rows<t3",
            "document.report.generate content<t1 format=html",
            "finance.db.query quarter=Q4 2024",
        ],
        &[],
    ),
    (
        "Expense report for Q3 2024 as markdown",
        &[
            "finance.analyze.expenses rows<t3",
            "document.report.generate content<t1 format=markdown",
            "finance.db.query quarter=Q3 2024",
        ],
        &[],
    ),
    (
        "1. weather in Rome\n2. a joke\n3. 2+2",
        &[
            "weather.get city=Rome",
            "joke.get",
            "math.eval expression=2 + 2",
        ],
        &[],
    ),
    (
        "- weather in Rome\n- stock price of IBM",
        &["weather.get city=Rome", "stocks.get ticker=IBM"],
        &[],
    ),
    (
        "First tell me a joke, then get the weather in Vienna; also compute 3^4.",
        &[
            "joke.get",
            "weather.get city=Vienna",
            "math.eval expression=3^4",
        ],
        &[],
    ),
    (
        "book me a flight to Mars",
        &[],
        &["book me a flight to Mars"],
    ),
    (
        "What's the weather in Paris and book me a flight to Mars",
        &["weather.get city=Paris"],
        &["book me a flight to Mars"],
    ),
    (
        "Order a pizza, and tell me a joke",
        &["joke.get"],
        &["Order a pizza"],
    ),
    (
        "What's the weather?",
        &[],
        &["What's the weather (city is missing)"],
    ),
    (
        "who won the world cup in 1998?",
        &[],
        &["who won the world cup in 1998"],
    ),
    (
        "What's the weather in Paris, who is the president of France, and what is 3 + 4?",
        &["weather.get city=Paris", "math.eval expression=3 + 4"],
        &["who is the president of France"],
    ),
    (
        "Hello! Could you please tell me a joke? Thanks!",
        &["joke.get"],
        &[],
    ),
    (
        "Create a report on expenses of engineering and sales in Q1 2024",
        &[
            "finance.db.query department=Engineering quarter=Q1 2024",
            "finance.analyze.expenses rows<t1",
            "document.report.generate content<t2",
            "finance.db.query department=Sales quarter=Q1 2024",
            "finance.analyze.expenses rows<t4",
            "document.report.generate content<t5",
        ],
        &[],
    ),
    (
        "Produce expense reports for Q3 2024 and Q4 2024",
        &[
            "finance.db.query quarter=Q3 2024",
            "finance.analyze.expenses rows<t1",
            "document.report.generate content<t2",
            "finance.db.query quarter=Q4 2024",
            "finance.analyze.expenses rows<t4",
            "document.report.generate content<t5",
        ],
        &[],
    ),
    (
        "weather in Paris, France",
        &["weather.get city=Paris, France"],
        &[],
    ),
    (
        "Get the weather in Paris and summarize it",
        &["weather.get city=Paris", "text.summarize text<t1/text"],
        &[],
    ),
    (
        "What did Sales spend on travel in 2023?",
        &["finance.db.query category=Travel department=Sales year=2023"],
        &[],
    ),
    (
        "Expenses for Q4 2024",
        &["finance.db.query quarter=Q4 2024"],
        &[],
    ),
    ("google stock price", &["stocks.get ticker=Google"], &[]),
    (
        "tell me a chuck norris joke",
        &["joke.get topic=chuck norris"],
        &[],
    ),
    (
        "show our bookings of last year",
        &["finance.db.query year=2024"],
        &[],
    ),
    (
        "transactions from 2024-01-01 to 2024-03-31 in engineering",
        &["finance.db.query department=Engineering from=2024-01-01 to=2024-03-31"],
        &[],
    ),
    (
        "list the bookings of 3 May 2024",
        &["finance.db.query from=2024-05-03 to=2024-05-03"],
        &[],
    ),
    (
        "Write an HTML report on our Q1 2024 spending titled 'Spring'",
        &[
            "finance.analyze.expenses rows<t3",
            "document.report.generate content<t1 format=html title=Spring",
            "finance.db.query quarter=Q1 2024",
        ],
        &[],
    ),
    ("Generate a poem", &[], &["Generate a poem"]),
    (
        "make a report",
        &[],
        &["make a report (content is missing)"],
    ),
    (
        "Summarize the weather in Paris",
        &["weather.get city=Paris", "text.summarize text<t1/text"],
        &[],
    ),
    (
        "Write me a poem about the sea and give me the forecast for Nice",
        &["weather.get city=Nice"],
        &["Write me a poem about the sea"],
    ),
    ("Cancel my subscription", &[], &["Cancel my subscription"]),
    (
        "What time is it in Tokyo?",
        &[],
        &["What time is it in Tokyo"],
    ),
    ("Who is Paris Hilton?", &[], &["Who is Paris Hilton"]),
    (
        "Export the ledger of October 2024 as a Markdown document",
        &[
            "finance.db.query month=2024-10",
            "document.report.generate content<t1 format=markdown",
        ],
        &[],
    ),
    (
        "Compare the costs of Q3 2024 by category",
        &[
            "finance.db.query quarter=Q3 2024",
            "finance.analyze.expenses group_by=category rows<t1",
        ],
        &[],
    ),
    (
        "What's the weather in Paris today and what's the price of MSFT",
        &["weather.get city=Paris", "stocks.get ticker=MSFT"],
        &[],
    ),
    (
        "WHAT IS THE WEATHER IN PARIS",
        &["weather.get city=PARIS"],
        &[],
    ),
    (
        "weather for london,paris and rome",
        &[
            "weather.get city=london",
            "weather.get city=paris",
            "weather.get city=rome",
        ],
        &[],
    ),
    ("give me 3 jokes", &["joke.get"], &[]),
    (
        "How's the weather in Zürich? Wie geht's?",
        &["weather.get city=Zürich"],
        &["Wie geht's"],
    ),
];

const OFFICE: &[Case] = &[
    (
        "Schedule a meeting with Anna tomorrow at 3pm",
        &["calendar.create attendee=Anna date=2025-02-15 time=15:00"],
        &[],
    ),
    (
        "Create an event called \"Launch party\" on 3 May 2025 for 2 hours",
        &["calendar.create date=2025-05-03 duration_minutes=120 title=Launch party"],
        &[],
    ),
    (
        "Translate 'good evening' to German and Italian",
        &[
            "translate.text target=German text=good evening",
            "translate.text target=Italian text=good evening",
        ],
        &[],
    ),
    (
        "Translate it to Spanish",
        &[],
        &["Translate it to Spanish (text is missing)"],
    ),
    (
        "translate where is the station into french",
        &["translate.text target=French text=where is the station"],
        &[],
    ),
    (
        "Turn on the lights in the kitchen and set the brightness to 60",
        &["device.light.set brightness=60 room=kitchen state=on"],
        &[],
    ),
    (
        "switch off the living room lamp",
        &["device.light.set room=living room state=off"],
        &[],
    ),
    (
        "Make the bedroom and kitchen lights blue",
        &[
            "device.light.set colour=blue room=bedroom",
            "device.light.set colour=blue room=kitchen",
        ],
        &[],
    ),
    (
        "Find the top 5 critical tickets created after 2025-01-01",
        &["ticket.search created_after=2025-01-01 limit=5 priority=critical"],
        &[],
    ),
    (
        "show me tickets in progress from yesterday until today",
        &["ticket.search created_after=2025-02-13 created_before=2025-02-14 status=in_progress"],
        &[],
    ),
    (
        "search closed bugs mentioning \"time-out\"",
        &["ticket.search status=closed text=time-out"],
        &[],
    ),
    (
        "Send an email to carol@example.com about the budget saying we are over it, and turn off the office lights",
        &[
            "mail.send body=we are over it subject=budget to=carol@example.com",
            "device.light.set room=office state=off",
        ],
        &[],
    ),
    (
        "Find open tickets and mail them to ops@example.com",
        &[
            "ticket.search status=open",
            "mail.send body<t1/summary to=ops@example.com",
        ],
        &[],
    ),
    (
        "Trains from Berlin to Hamburg tomorrow at 8:15 for 3 passengers",
        &["travel.train.find departure=2025-02-15T08:15:00 from=Berlin passengers=3 to=Hamburg"],
        &[],
    ),
    (
        "is there a first class train to Wien from Graz",
        &["travel.train.find first_class=true from=Graz to=Wien"],
        &[],
    ),
    (
        "start a timer for 5 minutes",
        &["kitchen.timer.start seconds=300"],
        &[],
    ),
    (
        "Set a timer for 90 seconds, then dim the bedroom lights to 10 percent",
        &[
            "kitchen.timer.start seconds=90",
            "device.light.set brightness=10 room=bedroom",
        ],
        &[],
    ),
    (
        "book me a flight to Mars",
        &[],
        &["book me a flight to Mars"],
    ),
    (
        "turn on the lights",
        &[],
        &["turn on the lights (room is missing)"],
    ),
    (
        "Is there lightning today?",
        &[],
        &["Is there lightning today"],
    ),
    (
        "What's the weather in Paris?",
        &[],
        &["What's the weather in Paris"],
    ),
];

/// What is asked, what would be right, and what is made of it today.
type Weak = (
    &'static str,
    &'static [&'static str],
    &'static [&'static str],
);

const KNOWN_WEAK: &[Weak] = &[
    ("How is Apple doing?", &["stocks.get ticker=Apple"], &[]),
    (
        "weather in Paris, London",
        &["weather.get city=Paris", "weather.get city=London"],
        &["weather.get city=Paris, London"],
    ),
    (
        "Tell me two jokes, one about cats and one about dogs",
        &["joke.get topic=cats", "joke.get topic=dogs"],
        &["joke.get topic=cats and one about dogs"],
    ),
    (
        "Will I get wet in Dublin?",
        &["weather.get city=Dublin"],
        &[],
    ),
    (
        "weather paris joke",
        &["weather.get city=paris", "joke.get"],
        &["joke.get topic=weather paris"],
    ),
    (
        "Which department spent the most in 2024?",
        &[
            "finance.analyze.expenses group_by=department rows<t2",
            "finance.db.query year=2024",
        ],
        &["finance.db.query year=2024"],
    ),
];

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
    let allowed = EmbeddedPlanner::new().plan_now(&input).unwrap();
    assert_eq!(allowed.tasks.len(), 2);
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
                prop_assert!(task.contract.params.violations_outside(&task.params, &unknown).is_empty());
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
#[ignore = "measures; run it with optimisation"]
fn measure() {
    let planner = EmbeddedPlanner::new();
    let time = |query: &str, rounds: u32| {
        let input = input(mesh(), query);
        planner.plan_now(&input).unwrap();
        let start = std::time::Instant::now();
        for _ in 0..rounds {
            std::hint::black_box(planner.plan_now(&input).unwrap());
        }
        start.elapsed() / rounds
    };
    for query in [
        MESH[0].0,
        MESH[1].0,
        "What is 12 * 7?",
        "book me a flight to Mars",
        "Create a report on expenses of engineering and sales in Q1 2024",
    ] {
        println!("{:?} {query}", time(query, 1_000));
    }
    for part in [
        "and ",
        "weather in Paris and ",
        "xyzzy1 plugh2 ",
        "Q4 2024 and ",
        "expense report for sales and ",
        "1 + ",
        "a ",
        "weather ",
    ] {
        println!(
            "{:?} 16 KB of {part:?}",
            time(&part.repeat(16 * 1024 / part.len()), 3)
        );
    }
}
