//! Measures reading and compiling a plan: the requirements' three tasks, and ten thousand.
//!
//! Does not measure the request machine.

use std::hint::black_box;
use std::sync::Arc;

use amcp_plan::{Catalogue, NoFill, PlanLimits, Rules, compile, parse};
use amcp_protocol::{Access, Capability, Consumes, Contract, Produces};
use criterion::{Criterion, criterion_group, criterion_main};
use serde_json::{Value, json};

fn catalogue() -> Catalogue {
    let rows = json!({"type": "array", "items": {"type": "object"}});
    let closed = |properties: Value, required: &[&str]| json!({"type": "object", "properties": properties, "required": required, "additionalProperties": false});
    let consumes = |param: &str, value_type: &str| {
        vec![Consumes {
            param: param.to_owned(),
            types: vec![value_type.to_owned()],
        }]
    };
    let produces = |value_type: &str, path: &str| {
        vec![Produces {
            value_type: value_type.to_owned(),
            path: path.to_owned(),
        }]
    };
    let capabilities = [
        Capability {
            params: closed(json!({"quarter": {"type": "string"}}), &["quarter"]),
            result: json!({"type": "object", "properties": {"rows": rows}}),
            produces: produces("expense.rows", "/rows"),
            ..Capability::new("finance.db.query", "Reads expenses.")
        },
        Capability {
            params: closed(
                json!({"rows": rows, "metric": {"type": "string"}}),
                &["rows"],
            ),
            result: json!({"type": "object", "properties": {"summary": {"type": "object"}}}),
            consumes: consumes("rows", "expense.rows"),
            produces: produces("expense.summary", "/summary"),
            ..Capability::new("finance.analyze.expenses", "Sums expenses up.")
        },
        Capability {
            params: closed(
                json!({"content": {}, "format": {"enum": ["pdf", "markdown", "html"]}}),
                &["content", "format"],
            ),
            consumes: consumes("content", "expense.summary"),
            ..Capability::new("document.report.generate", "Writes a report.")
        },
    ];
    capabilities
        .into_iter()
        .map(|capability| Arc::new(Contract::new(capability).expect("a sound capability")))
        .collect()
}

/// `n` tasks, in chains of a query and an analysis.
fn chains(n: usize, task: impl Fn(usize, usize) -> Value) -> String {
    let tasks: Value = (0..n).map(|i| task(i, i % 2)).collect();
    json!({"reasoning": "much to do", "tasks": tasks}).to_string()
}

fn bench(c: &mut Criterion) {
    let catalogue = catalogue();
    let default = PlanLimits::default();
    let wide = PlanLimits {
        tasks: 10_000,
        depth: 16,
        params_bytes: 1 << 30,
    };
    let run = |text: &str, limits: &PlanLimits| {
        let rules = Rules {
            catalogue: &catalogue,
            access: &Access::default(),
            limits,
            fill: &NoFill,
        };
        compile(&parse(black_box(text)).expect("a readable plan"), &rules)
    };
    let three = json!([
        {"capability": "finance.db.query", "params": {"quarter": "Q4 2024"}},
        {"capability": "finance.analyze.expenses", "params": {"metric": "summary by department"}},
        {"capability": "document.report.generate", "params": {"format": "PDF"}},
    ])
    .to_string();
    let query = |i: usize| json!({"id": format!("t{i}"), "capability": "finance.db.query", "params": {"quarter": "Q4 2024"}, "depends_on": []});
    let explicit = chains(10_000, |i, odd| match odd {
        0 => query(i),
        _ => json!({
            "id": format!("t{i}"),
            "capability": "finance.analyze.expenses",
            "params": {"rows": {"$ref": format!("t{}", i - 1), "path": "/rows"}},
            "depends_on": [format!("t{}", i - 1)],
        }),
    });
    let implicit = chains(10_000, |i, odd| match odd {
        0 => query(i),
        _ => json!({"id": format!("t{i}"), "capability": "finance.analyze.expenses", "params": {}}),
    });
    let unsupplied = chains(
        10_000,
        |i, _| json!({"id": format!("t{i}"), "capability": "document.report.generate", "params": {"format": "PDF"}}),
    );
    c.bench_function("plan/three tasks of the requirements", |b| {
        b.iter(|| run(&three, &default).expect("it compiles"));
    });
    let mut group = c.benchmark_group("plan/10,000 tasks");
    group.sample_size(20);
    group.bench_function("read only", |b| b.iter(|| parse(black_box(&explicit))));
    group.bench_function("refused by the limit", |b| {
        b.iter(|| run(&explicit, &default).expect_err("it is too large"));
    });
    group.bench_function("with all edges", |b| {
        b.iter(|| run(&explicit, &wide).expect("it compiles"));
    });
    group.bench_function("without any edge", |b| {
        b.iter(|| run(&implicit, &wide).expect("it compiles"));
    });
    group.bench_function("without any producer", |b| {
        b.iter(|| run(&unsupplied, &wide).expect_err("no task produces the content"));
    });
    group.finish();
}

criterion_group!(benches, bench);
criterion_main!(benches);
