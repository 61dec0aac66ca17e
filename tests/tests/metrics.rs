//! What a running node tells of itself: GET /metrics, read by a parser of Prometheus' format, and the log.

#![expect(
    clippy::unwrap_used,
    reason = "the helper of both tests fails by panicking"
)]

use amcp_tests::process::{Node, Sandbox, client};
use prometheus_parse::{Scrape, Value};
use serde_json::json;

/// The value of a counter, a gauge or the count of a histogram whose labels hold these.
fn value(scrape: &Scrape, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
    let holds = |sample: &&prometheus_parse::Sample| {
        let mut labels = labels.iter();
        sample.metric == name && labels.all(|(key, value)| sample.labels.get(key) == Some(*value))
    };
    let sample = scrape.samples.iter().find(holds)?;
    match &sample.value {
        Value::Counter(number) | Value::Gauge(number) | Value::Untyped(number) => Some(*number),
        Value::Histogram(_) | Value::Summary(_) => None,
    }
}

/// A node that answered three requests and refused one.
async fn worked(sandbox: &Sandbox) -> Node {
    let args = ["--offline", "--log-format", "json"];
    let node = Node::start(sandbox, &args, &[]).await;
    let ask = |body: serde_json::Value| client().post(node.url("/ask")).json(&body).send();
    for _ in 0..3 {
        let answer = ask(json!({"query": "What is 17 * 23?"})).await.unwrap();
        assert_eq!(answer.status(), 200);
    }
    assert_eq!(ask(json!({"query": " "})).await.unwrap().status(), 400);
    node
}

#[tokio::test]
async fn a_node_counts_what_it_did_and_what_it_refused() {
    let sandbox = Sandbox::new();
    let node = worked(&sandbox).await;
    let response = client().get(node.url("/metrics")).send().await.unwrap();
    let form = response.headers()["content-type"]
        .to_str()
        .unwrap()
        .to_owned();
    assert!(form.starts_with("text/plain; version=0.0.4"), "{form}");
    let text = response.text().await.unwrap();
    let scrape = Scrape::parse(text.lines().map(|line| Ok(line.to_owned()))).unwrap();
    let told = |name, labels: &[(&str, &str)]| value(&scrape, name, labels);
    let state = &[("state", "completed")];
    assert_eq!(
        told("amcp_request_seconds_count", state),
        Some(3.0),
        "{text}"
    );
    assert_eq!(told("amcp_requests_accepted_total", &[]), Some(3.0));
    let code = &[("code", "bad_request")];
    assert_eq!(told("amcp_requests_refused_total", code), Some(1.0));
    let capability = &[("capability", "math.eval")];
    assert_eq!(told("amcp_task_seconds_count", capability), Some(3.0));
    let agent = &[("agent", "math-1"), ("outcome", "done")];
    assert_eq!(told("amcp_agent_tasks_total", agent), Some(3.0), "{text}");
    assert_eq!(told("amcp_agents", &[("state", "ready")]), Some(8.0));
    assert_eq!(told("amcp_build_info", &[]), Some(1.0));
    // Every series has its help text.
    for sample in &scrape.samples {
        let whole = ["_bucket", "_sum", "_count"]
            .iter()
            .find_map(|end| sample.metric.strip_suffix(end));
        let name = whole.unwrap_or(&sample.metric);
        assert!(
            scrape.docs.contains_key(name) || scrape.docs.contains_key(&sample.metric),
            "{name}"
        );
    }
}

#[tokio::test]
async fn a_node_logs_a_line_for_each_answer_and_each_refusal() {
    let sandbox = Sandbox::new();
    let node = worked(&sandbox).await;
    node.signal("TERM").await;
    let (_, log) = node.ended().await;
    let lines: Vec<serde_json::Value> = log
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok())
        .collect();
    let of = |message: &str| {
        lines
            .iter()
            .filter(|line| line["fields"]["message"] == message)
            .collect::<Vec<_>>()
    };
    let answered = of("answered");
    assert_eq!(answered.len(), 3, "{log}");
    let fields = &answered[0]["fields"];
    assert_eq!(
        (&fields["planner"], &fields["state"], &fields["tasks"]),
        (&json!("embedded"), &json!("completed"), &json!(1))
    );
    for time in ["planning_ms", "executing_ms", "writing_ms", "total_ms"] {
        assert!(
            fields[time].is_u64() || fields[time].is_i64() || fields[time].is_string(),
            "{time}: {fields}"
        );
    }
    let refused = of("refused");
    assert_eq!(refused.len(), 1, "{log}");
    assert_eq!(refused[0]["fields"]["error"], "bad_request");
}
