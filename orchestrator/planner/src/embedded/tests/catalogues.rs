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
        analyze(),
        report(),
        text(weather()),
        text(stocks()),
        text(joke()),
        text(math()),
        summarize(),
    ])
}

fn db_query() -> Capability {
    let date =
        |role: &str| json!({"type": "string", "format": "date", "x-kind": "date", "x-role": role});
    let query = capability(
        "finance.db.query",
        "Looks up expenses in the finance database, by quarter, month, year, dates, department and category, or with an SQL SELECT.",
        &[
            "expense",
            "expenses",
            "spending",
            "spent",
            "cost",
            "costs",
            "ledger",
            "transactions",
            "bookings",
            "database",
            "sql",
        ],
        object(
            json!({
                "quarter": {"type": "string", "pattern": "^Q[1-4]( [0-9]{4})?$", "x-kind": "quarter", "examples": ["Q4 2024"]},
                "year": {"type": "integer", "minimum": 1900, "maximum": 2200, "x-kind": "year"},
                "month": {"type": "string", "pattern": "^[0-9]{4}-[0-9]{2}$", "x-kind": "month", "examples": ["2024-10"]},
                "from": date("from"),
                "to": date("to"),
                "department": {"type": "string", "x-kind": "department", "enum": ["Engineering", "Marketing", "Sales", "Operations", "Human Resources"]},
                "category": {"type": "string", "x-kind": "category", "enum": ["Travel", "Software", "Salaries", "Office", "Training"]},
                "sql": {"type": "string", "x-kind": "sql"},
                "limit": {"type": "integer", "minimum": 1, "maximum": 10000, "default": 10000, "description": "Most rows."},
            }),
            &[],
        ),
    );
    let query = example(query, "Expenses for Q4 2024", json!({"quarter": "Q4 2024"}));
    let query = example(
        query,
        "What did Sales spend on travel in 2023?",
        json!({"department": "Sales", "category": "Travel", "year": 2023}),
    );
    let query = example(
        query,
        "List all expenses of Marketing in October 2024",
        json!({"department": "Marketing", "month": "2024-10"}),
    );
    produces(query, "expense.rows", "")
}

fn analyze() -> Capability {
    let analyze = capability(
        "finance.analyze.expenses",
        "Analyses expenses: summary with totals and shares by department, category or month, and the change to the period before.",
        &[
            "analyze",
            "analyse",
            "analysis",
            "summary",
            "summarize",
            "expense",
            "expenses",
            "spending",
            "breakdown",
            "totals",
            "compare",
        ],
        object(
            json!({
                "rows": {"anyOf": [{"type": "object", "required": ["rows"]}, {"type": "array", "items": {"type": "object"}}], "x-kind": "content"},
                "group_by": {"type": "string", "enum": ["department", "category", "month"], "default": "department", "x-kind": "group"},
                "metric": {"type": "string", "maxLength": 300, "examples": ["summary by department"]},
            }),
            &["rows"],
        ),
    );
    let analyze = example(
        analyze,
        "Summarize the expenses by department",
        json!({"group_by": "department"}),
    );
    let analyze = example(
        analyze,
        "Break the spending of Q3 2024 down by category",
        json!({"group_by": "category"}),
    );
    let analyze = example(
        analyze,
        "How did the costs change from month to month?",
        json!({"group_by": "month"}),
    );
    produces(
        consumes(analyze, "rows", &["expense.rows"]),
        "expense.summary",
        "",
    )
}

fn report() -> Capability {
    let report = capability(
        "document.report.generate",
        "Writes a report file (PDF, Markdown or HTML) with a table and a chart from a summary, rows or text.",
        &[
            "report", "document", "pdf", "html", "markdown", "write", "generate", "produce",
            "create", "export", "file", "chart", "table",
        ],
        object(
            json!({
                "content": {"anyOf": [{"type": "object"}, {"type": "array"}, {"type": "string", "minLength": 1}], "x-kind": "content"},
                "title": {"type": "string", "maxLength": 300, "x-kind": "title"},
                "format": {"type": "string", "enum": ["pdf", "markdown", "html", "PDF", "Markdown", "HTML", "md"], "default": "pdf", "x-kind": "format"},
            }),
            &["content"],
        ),
    );
    let mut report = example(
        report,
        "Produce an expense summary report",
        json!({"format": "pdf"}),
    );
    report.effect = Effect::Write;
    let report = example(
        report,
        "Write the summary as an HTML page titled \"Our spending\"",
        json!({"format": "html", "title": "Our spending"}),
    );
    let report = example(
        report,
        "Export this as a Markdown document",
        json!({"format": "markdown"}),
    );
    produces(
        consumes(
            report,
            "content",
            &["expense.summary", "text.summary", "expense.rows"],
        ),
        "document.file",
        "",
    )
}

fn weather() -> Capability {
    let weather = capability(
        "weather.get",
        "The weather of a city: now and today, or on a given day.",
        &[
            "weather",
            "forecast",
            "temperature",
            "rain",
            "raining",
            "snow",
            "sunny",
            "cloudy",
            "wind",
            "hot",
            "cold",
            "warm",
            "umbrella",
            "climate",
            "degrees",
        ],
        object(
            json!({
                "city": {"type": "string", "minLength": 1, "maxLength": 100, "x-kind": "city", "examples": ["Paris", "New York", "Tokyo"]},
                "date": {"type": "string", "format": "date", "x-kind": "date", "description": "The day; today without it."},
                "units": {"type": "string", "enum": ["metric", "imperial", "celsius", "fahrenheit"], "default": "metric", "x-kind": "units"},
            }),
            &["city"],
        ),
    );
    let weather = example(
        weather,
        "What's the weather in Paris?",
        json!({"city": "Paris"}),
    );
    let weather = example(weather, "Will it rain in Tokyo?", json!({"city": "Tokyo"}));
    example(
        weather,
        "How warm is it in New York in Fahrenheit?",
        json!({"city": "New York", "units": "fahrenheit"}),
    )
}

fn stocks() -> Capability {
    let stocks = capability(
        "stocks.get",
        "The stock price of a company: latest close, change and 52-week range (sample data).",
        &[
            "stock", "stocks", "share", "shares", "price", "quote", "ticker", "market", "trading",
            "nasdaq",
        ],
        object(
            json!({
                "ticker": {
                    "type": "string", "minLength": 1, "maxLength": 60, "x-kind": "ticker",
                    "examples": ["AAPL", "Apple", "MSFT", "Microsoft", "AMZN", "Amazon", "JPM", "JPMorgan Chase", "Google"],
                },
            }),
            &["ticker"],
        ),
    );
    let stocks = example(
        stocks,
        "What is the stock price of Amazon?",
        json!({"ticker": "AMZN"}),
    );
    example(stocks, "How is MSFT trading?", json!({"ticker": "MSFT"}))
}

fn joke() -> Capability {
    let joke = capability(
        "joke.get",
        "Tells a joke, on a topic if one is wished.",
        &[
            "joke",
            "jokes",
            "funny",
            "laugh",
            "humor",
            "humour",
            "pun",
            "cheer me up",
        ],
        object(
            json!({
                "topic": {
                    "type": "string", "maxLength": 200, "x-kind": "topic",
                    "examples": ["programming", "math", "science", "animals", "office", "food", "general"],
                },
            }),
            &[],
        ),
    );
    let joke = example(
        joke,
        "Tell me a programming joke",
        json!({"topic": "programming"}),
    );
    let joke = example(joke, "Make me laugh", json!({}));
    example(
        joke,
        "Do you know a joke about animals?",
        json!({"topic": "animals"}),
    )
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
        "What is 15% of 80?",
        json!({"expression": "15% of 80"}),
    )
}

fn summarize() -> Capability {
    let summarize = capability(
        "text.summarize",
        "Summarises a text in a few sentences.",
        &[
            "summarize",
            "summarise",
            "summary",
            "shorten",
            "condense",
            "tldr",
            "gist",
            "key points",
            "abstract",
            "text",
        ],
        object(
            json!({
                "text": {"anyOf": [{"type": "string", "minLength": 1}, {"type": "object"}], "x-kind": "text"},
                "sentences": {"type": "integer", "minimum": 1, "maximum": 20, "default": 3},
            }),
            &["text"],
        ),
    );
    let summarize = example(
        summarize,
        "Summarize this text in two sentences",
        json!({"sentences": 2}),
    );
    let summarize = example(summarize, "Give me the gist of it", json!({}));
    produces(
        consumes(summarize, "text", &["document.text", "text"]),
        "text.summary",
        "",
    )
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
