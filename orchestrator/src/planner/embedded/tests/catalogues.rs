//! Two catalogues to evaluate the planner with: one like the built-in specialists', one of an office and a house.
//!
//! Imports nothing of the specialists: the planner must work from cards alone.

use std::sync::Arc;

use amcp_plan::Catalogue;
use amcp_protocol::{Capability, Consumes, Contract, Effect, Example, Produces};
use serde_json::{Value, json};

fn capability(name: &str, description: &str, keywords: &[&str], params: Value) -> Capability {
    let mut capability = Capability::new(name, description);
    capability.keywords = keywords.iter().map(|&k| k.to_owned()).collect();
    capability.params = params;
    capability
}

fn object(properties: Value, required: &[&str]) -> Value {
    json!({"type": "object", "properties": properties, "required": required, "additionalProperties": false})
}

fn example(mut capability: Capability, query: &str, params: Value) -> Capability {
    capability.examples.push(Example {
        query: query.to_owned(),
        params,
    });
    capability
}

fn consumes(mut capability: Capability, param: &str, types: &[&str]) -> Capability {
    let types = types.iter().map(|&t| t.to_owned()).collect();
    capability.consumes.push(Consumes {
        param: param.to_owned(),
        types,
    });
    capability
}

fn produces(mut capability: Capability, value_type: &str, path: &str) -> Capability {
    capability.produces.push(Produces {
        value_type: value_type.to_owned(),
        path: path.to_owned(),
    });
    capability
}

fn catalogue(capabilities: Vec<Capability>) -> Arc<Catalogue> {
    let contracts = capabilities
        .into_iter()
        .map(|c| Arc::new(Contract::new(c).expect("a sound card")));
    Arc::new(contracts.collect())
}

/// Like the built-in specialists: finance, documents, weather, shares, jokes, arithmetic, summaries.
pub(super) fn mesh() -> Arc<Catalogue> {
    let text = |c: Capability| produces(c, "text", "/text");
    catalogue(vec![
        db_query(),
        text(analyze()),
        report(),
        text(weather()),
        text(stocks()),
        text(joke()),
        text(math()),
        text(summarize()),
    ])
}

fn db_query() -> Capability {
    let query = capability(
        "finance.db.query",
        "Reads rows of the company's expense ledger by quarter, department or category, or with a SQL SELECT.",
        &[
            "ledger",
            "transactions",
            "bookings",
            "database",
            "sql",
            "expenses",
            "records",
            "rows",
        ],
        object(
            json!({
                "quarter": {"type": "string", "pattern": "^Q[1-4] [0-9]{4}$", "x-kind": "quarter"},
                "department": {"type": "string", "enum": ["Engineering", "Marketing", "Sales", "Operations", "Human Resources"]},
                "category": {"type": "string", "enum": ["Travel", "Software", "Salaries", "Office", "Training"]},
                "sql": {"type": "string", "x-kind": "sql"},
                "limit": {"type": "integer", "minimum": 1, "maximum": 10000},
            }),
            &[],
        ),
    );
    let query = example(
        query,
        "List the ledger rows of marketing in Q3 2024",
        json!({"quarter": "Q3 2024", "department": "Marketing"}),
    );
    produces(query, "expense.rows", "/rows")
}

fn analyze() -> Capability {
    let analyze = capability(
        "finance.analyze.expenses",
        "Sums up expenses by department, category and month, with shares and the change to the quarter before.",
        &[
            "analysis",
            "summary",
            "totals",
            "breakdown",
            "spending",
            "costs",
            "expense",
        ],
        object(
            json!({
                "rows": {"type": "array", "items": {"type": "object"}},
                "by": {"type": "string", "enum": ["department", "category", "month"]},
            }),
            &["rows"],
        ),
    );
    let analyze = example(
        analyze,
        "Analyze the expenses of Q4 2024 by department",
        json!({"by": "department"}),
    );
    produces(
        consumes(analyze, "rows", &["expense.rows"]),
        "expense.analysis",
        "",
    )
}

fn report() -> Capability {
    let report = capability(
        "document.report.generate",
        "Writes a report with a table and a chart as PDF, Markdown or HTML.",
        &["report", "document", "pdf", "chart"],
        object(
            json!({
                "content": {"anyOf": [{"type": "object"}, {"type": "string"}]},
                "title": {"type": "string"},
                "format": {"type": "string", "enum": ["pdf", "markdown", "html"], "default": "pdf"},
            }),
            &["content"],
        ),
    );
    let report = example(
        report,
        "Produce an expense summary report for Q4 2024 as PDF",
        json!({"format": "pdf"}),
    );
    produces(
        consumes(report, "content", &["expense.analysis", "text"]),
        "document.file",
        "/path",
    )
}

fn weather() -> Capability {
    let weather = capability(
        "weather.get",
        "Tells the current weather and the forecast of a city.",
        &[
            "weather",
            "forecast",
            "temperature",
            "rain",
            "sunny",
            "umbrella",
            "snow",
        ],
        object(
            json!({
                "city": {"type": "string", "minLength": 1, "x-kind": "city"},
                "days": {"type": "integer", "minimum": 1, "maximum": 7},
            }),
            &["city"],
        ),
    );
    let weather = example(
        weather,
        "What's the weather in Paris?",
        json!({"city": "Paris"}),
    );
    example(
        weather,
        "Give me a 3 day forecast for Oslo",
        json!({"city": "Oslo", "days": 3}),
    )
}

fn stocks() -> Capability {
    let stocks = capability(
        "stocks.get",
        "Tells the latest price of a share by its ticker symbol.",
        &["stock", "share", "price", "ticker", "quote", "shares"],
        object(
            json!({"ticker": {"type": "string", "pattern": "^[A-Z]{1,5}$", "x-kind": "ticker"}}),
            &["ticker"],
        ),
    );
    let stocks = example(
        stocks,
        "What is the stock price of AAPL?",
        json!({"ticker": "AAPL"}),
    );
    example(
        stocks,
        "How do shares of Microsoft trade?",
        json!({"ticker": "MSFT"}),
    )
}

fn joke() -> Capability {
    let joke = capability(
        "joke.get",
        "Tells a joke.",
        &["joke", "funny", "laugh", "pun"],
        object(
            json!({
                "category": {"type": "string", "enum": ["programming", "general", "animals", "office"]},
                "topic": {"type": "string", "x-kind": "topic"},
            }),
            &[],
        ),
    );
    let joke = example(
        joke,
        "Tell me a programming joke",
        json!({"category": "programming"}),
    );
    example(joke, "Tell me a joke about cats", json!({"topic": "cats"}))
}

fn math() -> Capability {
    let math = capability(
        "math.eval",
        "Calculates an arithmetic expression.",
        &[
            "calculate",
            "math",
            "arithmetic",
            "sum",
            "multiply",
            "divide",
        ],
        object(
            json!({"expression": {"type": "string", "x-kind": "expression"}}),
            &["expression"],
        ),
    );
    example(
        math,
        "What is 12 * (3 + 4)?",
        json!({"expression": "12 * (3 + 4)"}),
    )
}

fn summarize() -> Capability {
    let summarize = capability(
        "text.summarize",
        "Shortens a text to its main points.",
        &["summarize", "shorten", "condense", "tldr"],
        object(
            json!({"text": {"type": "string", "minLength": 1, "x-kind": "text"}, "sentences": {"type": "integer", "minimum": 1}}),
            &["text"],
        ),
    );
    let summarize = example(
        summarize,
        "Summarize: the quick brown fox jumps over the dog",
        json!({"text": "the quick brown fox jumps over the dog"}),
    );
    consumes(summarize, "text", &["text"])
}

/// Nothing of the demo, no annotations: mail, calendar, translation, lamps, tickets, trains, music.
pub(super) fn office() -> Arc<Catalogue> {
    catalogue(vec![
        calendar(),
        mail(),
        translate(),
        lamp(),
        tickets(),
        trains(),
        timer(),
    ])
}

fn calendar() -> Capability {
    let mut calendar = capability(
        "calendar.create",
        "Adds an event to the calendar.",
        &["meeting", "event", "appointment", "calendar"],
        object(
            json!({
                "title": {"type": "string"},
                "date": {"type": "string", "format": "date"},
                "time": {"type": "string", "pattern": "^[0-2][0-9]:[0-5][0-9]$"},
                "duration_minutes": {"type": "integer", "minimum": 5, "default": 30},
                "attendee": {"type": "string"},
            }),
            &["date"],
        ),
    );
    calendar.effect = Effect::Write;
    let calendar = example(
        calendar,
        "Schedule a meeting with Anna on 2024-05-03 at 15:30 called \"Budget\"",
        json!({"title": "Budget", "date": "2024-05-03", "time": "15:30", "attendee": "Anna"}),
    );
    produces(calendar, "text.plain", "/confirmation")
}

fn mail() -> Capability {
    let mut mail = capability(
        "mail.send",
        "Sends an e-mail to somebody.",
        &["email", "mail", "message"],
        object(
            json!({
                "to": {"type": "string", "format": "email"},
                "subject": {"type": "string"},
                "body": {"type": "string"},
            }),
            &["to", "body"],
        ),
    );
    mail.effect = Effect::Irreversible;
    let mail = example(
        mail,
        "Email bob@example.com about lunch saying see you at noon",
        json!({"to": "bob@example.com", "subject": "lunch", "body": "see you at noon"}),
    );
    consumes(mail, "body", &["text.plain"])
}

fn translate() -> Capability {
    let translate = capability(
        "translate.text",
        "Translates a text into another language.",
        &["translate", "translation"],
        object(
            json!({
                "text": {"type": "string"},
                "target": {"type": "string", "enum": ["English", "French", "German", "Spanish", "Italian"]},
            }),
            &["text", "target"],
        ),
    );
    let translate = example(
        translate,
        "Translate good morning to French",
        json!({"text": "good morning", "target": "French"}),
    );
    produces(
        consumes(translate, "text", &["text.plain"]),
        "text.plain",
        "/text",
    )
}

fn lamp() -> Capability {
    let mut lamp = capability(
        "device.light.set",
        "Switches the lights of a room and sets their brightness and colour.",
        &["light", "lamp", "brightness", "dim"],
        object(
            json!({
                "room": {"type": "string", "enum": ["kitchen", "living room", "bedroom", "office"]},
                "state": {"type": "string", "enum": ["on", "off"]},
                "brightness": {"type": "integer", "minimum": 0, "maximum": 100},
                "colour": {"type": "string", "enum": ["red", "green", "blue", "white"]},
            }),
            &["room"],
        ),
    );
    lamp.effect = Effect::Write;
    example(
        lamp,
        "Dim the lights in the living room to 40 percent",
        json!({"room": "living room", "brightness": 40}),
    )
}

fn tickets() -> Capability {
    let tickets = capability(
        "ticket.search",
        "Finds support tickets by status, priority and age.",
        &["tickets", "issues", "bugs", "support"],
        object(
            json!({
                "status": {"type": "string", "enum": ["open", "in_progress", "closed"]},
                "priority": {"type": "string", "enum": ["low", "medium", "high", "critical"]},
                "created_after": {"type": "string", "format": "date"},
                "created_before": {"type": "string", "format": "date"},
                "text": {"type": "string"},
                "limit": {"type": "integer", "minimum": 1},
                "assigned": {"type": "boolean"},
            }),
            &[],
        ),
    );
    let tickets = example(
        tickets,
        "Find open tickets mentioning \"login\"",
        json!({"status": "open", "text": "login"}),
    );
    produces(tickets, "text.plain", "/summary")
}

fn trains() -> Capability {
    let trains = capability(
        "travel.train.find",
        "Finds train connections between two stations.",
        &["train", "rail", "connection", "departure"],
        object(
            json!({
                "from": {"type": "string"},
                "to": {"type": "string"},
                "departure": {"type": "string", "format": "date-time"},
                "passengers": {"type": "integer", "minimum": 1},
                "first_class": {"type": "boolean"},
            }),
            &["from", "to"],
        ),
    );
    example(
        trains,
        "Trains from Lyon to Nice for 2 passengers",
        json!({"from": "Lyon", "to": "Nice", "passengers": 2}),
    )
}

fn timer() -> Capability {
    let mut timer = capability(
        "kitchen.timer.start",
        "Starts a timer.",
        &["timer", "countdown", "alarm"],
        object(
            json!({"seconds": {"type": "number", "exclusiveMinimum": 0}, "label": {"type": "string"}}),
            &["seconds"],
        ),
    );
    timer.effect = Effect::Write;
    example(
        timer,
        "Start a timer for 30 seconds",
        json!({"seconds": 30}),
    )
}
