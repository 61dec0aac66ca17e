//! What the planner makes of queries, over two catalogues: whole plans compared, accuracy printed.
//!
//! The single steps are tested where they are.

mod catalogues;

use super::*;

/// 14 February 2025: a Friday, so that "next Monday" and "last quarter" cross a boundary.
fn today() -> Date {
    jiff::civil::date(2025, 2, 14)
}

fn plan(catalogue: &Arc<Catalogue>, query: &str) -> Plan {
    let input = PlanningInput {
        query: query.to_owned(),
        catalogue: Arc::clone(catalogue),
        roles: Vec::new(),
        limits: amcp_plan::PlanLimits::default(),
        time: std::time::Duration::from_secs(1),
        llm_calls: 0,
        today: today(),
        feedback: None,
    };
    EmbeddedPlanner::new()
        .plan_now(&input)
        .unwrap_or_else(|e| panic!("{query}: {e}"))
}

/// A task in one line: `weather.get city=Paris`, a reference as `rows<t1/rows`.
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

type Case = (
    &'static str,
    &'static [&'static str],
    &'static [&'static str],
);

const MESH: &[Case] = &[
    (
        "What's the weather in Paris and tell me a programming joke?",
        &["weather.get city=Paris", "joke.get category=programming"],
        &[],
    ),
    (
        "Produce an expense summary report for Q4 2024",
        &[
            "finance.analyze.expenses rows<t3/rows",
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
        &["stocks.get ticker=MSFT"],
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
        &["joke.get category=animals"],
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
            "finance.analyze.expenses by=category rows<t2/rows",
            "finance.db.query quarter=Q2 2024",
        ],
        &[],
    ),
    (
        "Analyze last quarter's expenses by department and write an HTML report",
        &[
            "finance.analyze.expenses by=department rows<t3/rows",
            "document.report.generate content<t1 format=html",
            "finance.db.query quarter=Q4 2024",
        ],
        &[],
    ),
    (
        "Expense report for Q3 2024 as markdown",
        &[
            "finance.analyze.expenses rows<t3/rows",
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
            "finance.analyze.expenses rows<t1/rows",
            "document.report.generate content<t2",
            "finance.db.query department=Sales quarter=Q1 2024",
            "finance.analyze.expenses rows<t4/rows",
            "document.report.generate content<t5",
        ],
        &[],
    ),
    (
        "Produce expense reports for Q3 2024 and Q4 2024",
        &[
            "finance.db.query quarter=Q3 2024",
            "finance.analyze.expenses rows<t1/rows",
            "document.report.generate content<t2",
            "finance.db.query quarter=Q4 2024",
            "finance.analyze.expenses rows<t4/rows",
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

fn check(catalogue: &Arc<Catalogue>, cases: &[Case]) -> usize {
    let mut wrong = 0;
    for (query, tasks, unplaced) in cases {
        let plan = plan(catalogue, query);
        let lines: Vec<String> = plan.view().iter().map(line).collect();
        if lines != *tasks || plan.unplaced != *unplaced {
            wrong += 1;
            println!(
                "{query}\n   wanted {tasks:?} {unplaced:?}\n   made   {lines:?} {:?}\n   {:?}",
                plan.unplaced, plan.reasoning
            );
        }
    }
    wrong
}

#[test]
fn evaluation_of_the_mesh() {
    let wrong = check(&catalogues::mesh(), MESH);
    let office = check(&catalogues::office(), OFFICE);
    assert_eq!(
        (wrong, office),
        (0, 0),
        "of {} {}",
        MESH.len(),
        OFFICE.len()
    );
}
