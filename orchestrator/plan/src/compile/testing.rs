//! The catalogue that the compiler's tests plan with.

use std::sync::Arc;

use amcp_protocol::{Access, Capability, Consumes, Contract, Effect, Produces, ProposedPlan};
use serde_json::{Map, Value, json};

use super::{Fill, PlanError, PlanLimits, Rules, compile};
use crate::catalogue::Catalogue;
use crate::plan::Plan;

pub(super) fn capability(
    name: &str,
    params: Value,
    result: Value,
    consumes: &[(&str, &[&str])],
    produces: &[(&str, &str)],
) -> Capability {
    Capability {
        params,
        result,
        consumes: consumes
            .iter()
            .map(|(param, types)| Consumes {
                param: (*param).to_owned(),
                types: types.iter().map(|t| (*t).to_owned()).collect(),
            })
            .collect(),
        produces: produces
            .iter()
            .map(|(value_type, path)| Produces {
                value_type: (*value_type).to_owned(),
                path: (*path).to_owned(),
            })
            .collect(),
        ..Capability::new(name, "For tests.")
    }
}

fn object(properties: Value, required: &[&str]) -> Value {
    json!({"type": "object", "properties": properties, "required": required, "additionalProperties": false})
}

fn finance() -> Vec<Capability> {
    let rows = json!({"type": "array", "items": {"type": "object"}});
    vec![
        capability(
            "finance.db.query",
            object(
                json!({"quarter": {"type": "string"}, "department": {"type": "string"}, "limit": {"type": "integer"}}),
                &["quarter"],
            ),
            json!({"type": "object", "properties": {"rows": rows, "count": {"type": "integer"}}}),
            &[],
            &[("expense.rows", "/rows")],
        ),
        capability(
            "finance.analyze.expenses",
            object(
                json!({
                    "rows": rows,
                    "metric": {"type": "string"},
                    "baseline": rows,
                    "top": {"type": "array", "items": {"type": "string"}},
                }),
                &["rows"],
            ),
            json!({"type": "object", "properties": {"summary": {"type": "object"}, "text": {"type": "string"}}}),
            &[("rows", &["expense.rows"]), ("baseline", &["expense.rows"])],
            &[("expense.summary", "/summary"), ("text", "/text")],
        ),
        capability(
            "document.report.generate",
            object(
                json!({
                    "content": {},
                    "title": {"type": "string"},
                    "format": {"enum": ["pdf", "markdown", "html"]},
                }),
                &["content", "format"],
            ),
            json!({"type": "object", "properties": {"url": {"type": "string"}}}),
            &[("content", &["expense.summary", "expense.rows", "text"])],
            &[("document", "")],
        ),
    ]
}

fn others() -> Vec<Capability> {
    vec![
        capability(
            "summary.mail",
            object(json!({"summary": {"type": "object"}}), &["summary"]),
            json!(true),
            &[("summary", &["expense.summary"])],
            &[],
        ),
        capability(
            "weather.get",
            object(
                json!({"city": {"type": "string"}, "days": {"type": "integer"}}),
                &["city"],
            ),
            json!({"type": "object", "properties": {"text": {"type": "string"}, "temperature": {"type": "number"}}}),
            &[],
            &[("text", "/text")],
        ),
        capability(
            "text.summarize",
            object(
                json!({"text": {"type": "string"}, "words": {"type": "integer"}}),
                &["text"],
            ),
            json!({"type": "object", "properties": {"text": {"type": "string"}}}),
            &[("text", &["text"])],
            &[("text", "/text")],
        ),
        capability(
            "page.print",
            object(json!({"content": {}}), &["content"]),
            json!(true),
            &[("content", &["expense.summary", Consumes::ANY])],
            &[("page", "")],
        ),
        capability("joke.get", object(json!({}), &[]), json!(true), &[], &[]),
        capability(
            "payment.send",
            object(json!({"to": {"type": "string"}}), &[]),
            json!(true),
            &[],
            &[("receipt", "")],
        ),
        capability(
            "receipt.archive",
            object(json!({"receipt": {}}), &["receipt"]),
            json!(true),
            &[("receipt", &["receipt"])],
            &[],
        ),
        capability(
            "salary.list",
            object(json!({}), &[]),
            json!(true),
            &[],
            &[("salaries", "")],
        ),
        capability(
            "salary.chart",
            object(json!({"salaries": {}}), &["salaries"]),
            json!(true),
            &[("salaries", &["salaries"])],
            &[],
        ),
    ]
}

pub(super) fn catalogue() -> Catalogue {
    let mut all = [finance(), others()].concat();
    for capability in &mut all {
        match capability.name.as_str() {
            "payment.send" => capability.effect = Effect::Irreversible,
            "salary.list" => capability.required_roles = vec!["hr".to_owned()],
            _ => {}
        }
    }
    all.into_iter()
        .map(|capability| Arc::new(Contract::new(capability).expect("a sound test capability")))
        .collect()
}

/// Fills the quarter, for a query that is always the same.
pub(super) struct SaysQ4;

impl Fill for SaysQ4 {
    fn fill(&self, capability: &Capability) -> Map<String, Value> {
        let mut params = Map::new();
        if capability.param_schema("quarter").is_some() {
            params.insert("quarter".to_owned(), "Q4 2024".into());
        }
        params
    }
}

pub(super) fn compiled_with(
    proposal: &ProposedPlan,
    fill: &dyn Fill,
    limits: &PlanLimits,
) -> Result<Plan, PlanError> {
    compile(
        proposal,
        &Rules {
            catalogue: &catalogue(),
            access: &Access::default(),
            limits,
            fill,
        },
    )
}

pub(super) fn proposal(tasks: Value) -> ProposedPlan {
    crate::parse(&tasks.to_string()).expect("a readable test plan")
}

pub(super) fn compiled(tasks: Value) -> Result<Plan, PlanError> {
    compiled_with(&proposal(tasks), &super::NoFill, &PlanLimits::default())
}

/// The plan's data flow, such as `t2.rows=t1/rows`, and its bare edges, such as `t2>t1`.
pub(super) fn wiring(plan: &Plan) -> Vec<String> {
    let mut lines = Vec::new();
    for task in &plan.tasks {
        for reference in &task.references {
            let place = task.params.pointer(&reference.place).unwrap();
            let from = plan.tasks[reference.from].id.as_str();
            assert_eq!(place, &json!({"$ref": from, "path": reference.path}));
            let param = reference.place.trim_start_matches('/');
            lines.push(format!("{}.{param}={from}{}", task.id, reference.path));
        }
        for &before in &task.after {
            if !task.references.iter().any(|r| r.from == before) {
                lines.push(format!("{}>{}", task.id, plan.tasks[before].id));
            }
        }
    }
    lines
}
