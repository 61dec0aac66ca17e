//! The card of `finance.db.query`.

use amcp_protocol::{AgentCard, Capability, Produces, terms};
use serde_json::{Value, json};

use super::super::example;
use super::super::period::QUARTER_PATTERN;
use super::{AGENT, MAX_ROWS};

/// Most names to leave out: more than people list.
const MAX_EXCEPT: usize = 20;

// The sample's names.
const DEPARTMENTS: &str = "Engineering, Finance, Human Resources, Marketing, Operations, Sales";
const CATEGORIES: &str = "Advertising, Cloud Services, Consulting, Facilities, Hardware, Meals, Office Supplies, Software, Telecommunications, \
    Training, Travel";
const VENDORS: &str = "Beacon Mobile, Blue Harbor Data, Brightline Media, Cobalt Airways, Copper Kettle, Corvid Computers, Echo Audio Ads, \
    Evergreen Cleaning, Fenwick Partners, Greystone Property, Halden Legal, Harbourview Hotels, Inkwell Supplies, Juniper \
    Catering, Keystone Academy, Larkspur Software, Ledgerline, Longline Telecom, Maple Office, Meridian Rail, Nimbus \
    Cloud, Northgate Devices, Oakridge Advisory, Papertrail Print, Quillworks, Saffron Table, Signal & Co, Skylark Travel, \
    Stratus Hosting, Tessellate, Upward Learning, Volt Energy";

const KEYWORDS: &str = "expense expenses spending spent spend cost costs ledger finance financial accounting database sql quarter payments \
    invoices paid pay bills money dollars usd";

/// Words for the orders; [`super::filter::Sort`] reads them.
const SORTS: &[&str] = &[
    "largest",
    "biggest",
    "highest",
    "most expensive",
    "smallest",
    "lowest",
    "cheapest",
    "latest",
    "newest",
    "oldest",
];

/// The params; only the sample's names are known beforehand.
pub(super) fn params(is_sample: bool) -> Value {
    let date = |what: &str, role: &str| json!({"type": "string", "format": "date", terms::KIND: "date", terms::ROLE: role, "description": what});
    let one_of = |names: &[&str], mut schema: Value| {
        if let Some(schema) = schema.as_object_mut().filter(|_| is_sample) {
            let names: Vec<_> = names.iter().flat_map(|names| names.split(", ")).collect();
            schema.insert("enum".to_owned(), names.into());
        }
        schema
    };
    json!({
        "type": "object",
        "properties": {
            "quarter": {
                "type": "string", "pattern": QUARTER_PATTERN, terms::KIND: "quarter", "examples": ["Q4 2024"],
                "description": "A quarter; without a year the latest one.",
            },
            "month": {
                "type": "string", "pattern": "^[0-9]{4}-[0-9]{2}$", terms::KIND: "month", "examples": ["2024-10"],
                "description": "A month.",
            },
            "year": {"type": "integer", "minimum": 1900, "maximum": 2200, terms::KIND: "year", "description": "A whole year."},
            "from": date("The first day.", "from"),
            "to": date("The last day.", "to"),
            "department": one_of(&[DEPARTMENTS], json!({"type": "string", terms::KIND: "department", "description": "Only this department."})),
            "category": one_of(&[CATEGORIES], json!({"type": "string", terms::KIND: "category", "description": "Only this kind of expense."})),
            "vendor": one_of(&[VENDORS], json!({"type": "string", "description": "Only what this vendor was paid."})),
            "except": {
                "type": "array", "maxItems": MAX_EXCEPT, terms::ROLE: terms::EXCEPT,
                "items": one_of(&[DEPARTMENTS, CATEGORIES, VENDORS], json!({"type": "string"})),
                "description": "Without these departments, categories and vendors.",
            },
            "min_amount": {"type": "number", terms::ROLE: terms::LEAST, "description": "Only expenses of at least this amount."},
            "max_amount": {"type": "number", terms::ROLE: terms::MOST, "description": "Only expenses of at most this amount."},
            "sort": {
                "type": "string", "enum": SORTS,
                "description": "Which expenses come first; the largest with 'limit', else the oldest.",
            },
            "limit": {
                "type": "integer", "minimum": 1, "maximum": MAX_ROWS, terms::ROLE: terms::COUNT,
                "description": "Only so many expenses: the first ones by 'sort'.",
            },
            "sql": {
                "type": "string", "minLength": 1, "maxLength": 10_000, terms::KIND: "sql",
                "description": "In place of all other params but 'limit': one SELECT on expenses (date, year, quarter, department, category, vendor, description, amount).",
            },
        },
        "additionalProperties": false,
    })
}

fn result() -> Value {
    let sums = json!({"type": "array", "items": {"type": "object", "required": ["name", "total", "count"]}});
    let totals = json!({
        "type": "object",
        "properties": {
            "period": {"type": "string"}, "count": {"type": "integer"}, "total": {"type": "number"},
            "by_department": sums, "by_category": sums, "by_month": sums,
        },
        "required": ["period", "count", "total", "by_department", "by_category", "by_month"],
    });
    json!({
        "type": "object",
        "properties": {
            "text": {"type": "string"},
            "rows": {"type": "array", "items": {"type": "object"}},
            "count": {"type": "integer"},
            "total": {"type": "number"},
            "truncated": {"type": "boolean"},
            "scope": {"type": "string"},
            "period": {"type": "string"},
            "source": {"type": "string"},
            "currency": {"type": "string"},
            "totals": totals,
            "previous": totals,
        },
        "required": ["text", "rows", "count", "truncated", "period", "source"],
    })
}

/// The card.
pub(super) fn card(is_sample: bool) -> AgentCard {
    let mut capability = Capability::new(
        "finance.db.query",
        "Looks up expenses in the finance database by any of its params, or with an SQL SELECT; adds them up, but not by groups.",
    );
    capability.params = params(is_sample);
    capability.result = result();
    // The whole result: the analysis also wants the sums of the period before.
    capability.produces = vec![Produces {
        value_type: "expense.rows".into(),
        path: String::new(),
    }];
    capability.version = "1.1".to_owned();
    capability.keywords = KEYWORDS.split(' ').map(str::to_owned).collect();
    capability.examples = vec![
        // Each period once after "for" and once after "in": planners learn from examples which word leads to which param.
        example("Expenses for Q4 2024", json!({"quarter": "Q4 2024"})),
        example(
            "What did operations cost us in Q2 2025?",
            json!({"quarter": "Q2 2025", "department": "Operations"}),
        ),
        example(
            "What did Sales spend on travel in 2023?",
            json!({"department": "Sales", "category": "Travel", "year": 2023}),
        ),
        example(
            "List all expenses of Marketing in 2024-10",
            json!({"department": "Marketing", "month": "2024-10"}),
        ),
        example(
            "Spending from 2025-01-01 to 2025-02-15",
            json!({"from": "2025-01-01", "to": "2025-02-15"}),
        ),
        example(
            "Expenses for Q4 2024 excluding travel and meals",
            json!({"quarter": "Q4 2024", "except": ["Travel", "Meals"]}),
        ),
        example(
            "What did we pay Nimbus Cloud in 2024?",
            json!({"vendor": "Nimbus Cloud", "year": 2024}),
        ),
        example(
            "Which expenses of Sales were at least 5000 in 2024?",
            json!({"department": "Sales", "min_amount": 5000, "year": 2024}),
        ),
        example("Top 5 expenses of 2024", json!({"limit": 5, "year": 2024})),
        example(
            "What was the largest expense in 2025?",
            json!({"sort": "largest", "limit": 1, "year": 2025}),
        ),
        example(
            "The latest 3 expenses of Sales",
            json!({"sort": "latest", "limit": 3, "department": "Sales"}),
        ),
        example(
            "The smallest 3 expenses of Engineering in 2025-06",
            json!({"sort": "smallest", "limit": 3, "department": "Engineering", "month": "2025-06"}),
        ),
        example(
            "SELECT vendor, sum(amount) FROM expenses GROUP BY vendor",
            json!({"sql": "SELECT vendor, sum(amount) FROM expenses GROUP BY vendor"}),
        ),
    ];
    AgentCard::new(AGENT, "Reads the ledger of expenses.", vec![capability])
}
