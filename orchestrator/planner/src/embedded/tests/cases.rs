//! Queries and the plans that they mean.
//!
//! Runs nothing; the tests beside it do.

/// What is asked, the tasks of the compiled plan, and what must be reported as unplaced.
pub(super) type Case = (
    &'static str,
    &'static [&'static str],
    &'static [&'static str],
);

pub(super) const MESH: &[Case] = &[
    (
        "What's the weather in Paris and tell me a programming joke?",
        &["weather.get city=Paris", "joke.get topic=programming"],
        &[],
    ),
    (
        "Produce an expense summary report for Q4 2024",
        &[
            "finance.db.query quarter=Q4 2024",
            "finance.analyze.expenses rows<t1",
            "document.report.generate content<t2",
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
    ("paris weather", &["weather.get city=Paris"], &[]),
    ("Paris weather please", &["weather.get city=Paris"], &[]),
    (
        "Do I need an umbrella in Rio de Janeiro tomorrow?",
        &["weather.get city=Rio de Janeiro date=2025-02-15"],
        &[],
    ),
    (
        "Give me the forecast for Oslo for the next 5 days",
        &[],
        &[
            "Give me the forecast for Oslo for the next 5 days (weather.get was meant, but '5' was not understood)",
        ],
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
    ("what's 15% of 80", &["math.eval expression=15% of 80"], &[]),
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
            "finance.db.query quarter=Q2 2024",
            "finance.analyze.expenses group_by=category rows<t1",
        ],
        &[],
    ),
    (
        "Analyze last quarter's expenses by department and write an HTML report",
        &[
            "finance.db.query quarter=Q4 2024",
            "finance.analyze.expenses group_by=department rows<t1",
            "document.report.generate content<t2 format=html",
        ],
        &[],
    ),
    (
        "Expense report for Q3 2024 as markdown",
        &[
            "finance.db.query quarter=Q3 2024",
            "finance.analyze.expenses rows<t1",
            "document.report.generate content<t2 format=markdown",
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
            "finance.db.query quarter=Q1 2024",
            "finance.analyze.expenses rows<t1",
            "document.report.generate content<t2 format=html title=Spring",
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
        &[
            "weather.get city=Paris date=2025-02-14",
            "stocks.get ticker=MSFT",
        ],
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
    (
        "give me 3 jokes",
        &[],
        &["give me 3 jokes (joke.get was meant, but '3' was not understood)"],
    ),
    (
        "How's the weather in Zürich? Wie geht's?",
        &["weather.get city=Zürich"],
        &["Wie geht's"],
    ),
    (
        "How warm is it in Rome and Paris in celsius?",
        &[
            "weather.get city=Rome units=celsius",
            "weather.get city=Paris units=celsius",
        ],
        &[],
    ),
    (
        "Write a report about the weather in Oslo",
        &[
            "weather.get city=Oslo",
            "text.summarize text<t1/text",
            "document.report.generate content<t2 title=weather in Oslo",
        ],
        &[],
    ),
    ("Summarize it", &[], &["Summarize it (text is missing)"]),
    (
        "Give me the gist of: one fish, two fish, red fish",
        &["text.summarize text=one fish, two fish, red fish"],
        &[],
    ),
    (
        "Produce an expense summary",
        &["finance.db.query", "finance.analyze.expenses rows<t1"],
        &[],
    ),
    (
        "Fetch Q4 2024 expenses, analyze them and produce a report",
        &[
            "finance.db.query quarter=Q4 2024",
            "finance.analyze.expenses rows<t1",
            "document.report.generate content<t2",
        ],
        &[],
    ),
    (
        "What were our total expenses in Q4 2024?",
        &[
            "finance.db.query quarter=Q4 2024",
            "finance.analyze.expenses rows<t1",
        ],
        &[],
    ),
    (
        "What's 12 divided by 7, and the square root of 2?",
        &[
            "math.eval expression=12 / 7",
            "math.eval expression=sqrt(2)",
        ],
        &[],
    ),
    (
        "How did our expenses change from Q3 to Q4 2024?",
        &[
            "finance.db.query quarter=Q3 2024",
            "finance.db.query quarter=Q4 2024",
        ],
        &[],
    ),
    (
        "Is it colder in Oslo or in Helsinki?",
        &["weather.get city=Oslo", "weather.get city=Helsinki"],
        &[],
    ),
    (
        "What is the price of Amazon and NVIDIA?",
        &["stocks.get ticker=Amazon", "stocks.get ticker=NVIDIA"],
        &[],
    ),
    (
        "Tell me a joke about the weather forecast in Berlin",
        &["joke.get topic=weather forecast in Berlin"],
        &[],
    ),
];

pub(super) const OFFICE: &[Case] = &[
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
pub(super) type Weak = (
    &'static str,
    &'static [&'static str],
    &'static [&'static str],
);

pub(super) const KNOWN_WEAK: &[Weak] = &[
    ("How is Apple doing?", &["stocks.get ticker=Apple"], &[]),
    (
        "weather in Paris, London",
        &["weather.get city=Paris", "weather.get city=London"],
        &["weather.get city=Paris, London"],
    ),
    (
        "Tell me two jokes, one about cats and one about dogs",
        &["joke.get topic=cats", "joke.get topic=dogs"],
        &[],
    ),
    (
        "Will I get wet in Dublin?",
        &["weather.get city=Dublin"],
        &[],
    ),
    (
        "weather paris joke",
        &["weather.get city=Paris", "joke.get"],
        &[],
    ),
    (
        "Which department spent the most in 2024?",
        &[
            "finance.db.query year=2024",
            "finance.analyze.expenses group_by=department rows<t1",
        ],
        &["finance.db.query year=2024"],
    ),
];

/// A query, the tasks that remain of it, and a part of the reason why the rest is not done.
type Declined = (&'static str, &'static [&'static str], &'static str);

pub(super) const DECLINED_MESH: &[Declined] = &[
    (
        "Show expenses for Q4 2024 excluding travel",
        &[],
        "'excluding travel' cannot be expressed",
    ),
    ("expenses over 500 in Q4 2024", &[], "'over 500"),
    (
        "tell me a joke that is not about cats",
        &[],
        "'not about cats'",
    ),
    (
        "Do not tell me a joke, just the weather in Oslo",
        &["weather.get city=Oslo"],
        "Do not tell me a joke",
    ),
    (
        "expenses from October to December 2024",
        &[],
        "'December 2024' was not understood",
    ),
    ("expenses in march", &[], "'march'"),
    (
        "What's the weather in Oslo the day after tomorrow",
        &[],
        "'after'",
    ),
    ("Any marketing purchases in Q3 2024?", &[], "'Q3 2024'"),
    ("What is the sine of 30 degrees?", &[], "'30'"),
    ("What's the price of a flight to Rome?", &[], "'Rome'"),
    ("How much does a train ticket to Lyon cost?", &[], "'train'"),
    (
        "What's the total population of France?",
        &[],
        "'population France'",
    ),
    ("200 minus 15%", &[], "'%'"),
    (
        "delete every row of the ledger",
        &[],
        "nothing here can delete that",
    ),
    (
        "Delete the Q4 report",
        &[],
        "document.report.generate changes something",
    ),
    (
        "weather for liquid nitrogen in Rome",
        &[],
        "was not understood",
    ),
    ("book me a table in Paris tonight", &[], "'Paris'"),
    ("Which stocks fell today?", &[], "'today'"),
];

pub(super) const DECLINED_OFFICE: &[Declined] = &[
    (
        "Turn off the lights. Not in the kitchen.",
        &[],
        "Not in the kitchen",
    ),
    (
        "Cancel my meeting with Anna tomorrow at 3pm",
        &[],
        "calendar.create changes something",
    ),
    (
        "Don't email bob@example.com saying we are late",
        &[],
        "'Don't email",
    ),
    (
        "What's on my calendar tomorrow?",
        &[],
        "calendar.create changes something",
    ),
    (
        "Is there a light in the kitchen?",
        &[],
        "device.light.set changes something",
    ),
];
