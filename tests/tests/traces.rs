//! Traces: what a collector gets of a request that two nodes and a model work on.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

use std::collections::{BTreeMap, BTreeSet};

use amcp_tests::cluster::{Spec, mesh, until};
use amcp_tests::fake_ollama::{FakeOllama, Reply};
use amcp_tests::process::{Node, PATIENCE, Sandbox, client};
use serde_json::{Value, json};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const CALLER: &str = "00f067aa0ba902b7";

/// The spans that arrived, each with its node's name.
fn spans(collector: &FakeOllama) -> Vec<(String, Value)> {
    let mut found = Vec::new();
    for request in collector.requests() {
        assert_eq!(request.headers["content-type"], "application/json");
        let of_node = &request.body["resourceSpans"][0];
        let resource = attributes(&of_node["resource"]);
        assert_eq!(resource["service.name"], "amcp");
        let spans = of_node["scopeSpans"][0]["spans"].as_array().unwrap();
        let node = resource["service.instance.id"].as_str().unwrap();
        found.extend(spans.iter().map(|span| (node.to_owned(), span.clone())));
    }
    found
}

fn attributes(of: &Value) -> BTreeMap<String, Value> {
    let pairs = of["attributes"].as_array().unwrap().iter();
    let value = |pair: &Value| pair["value"].as_object().unwrap().values().next().cloned();
    pairs
        .map(|pair| {
            (
                pair["key"].as_str().unwrap().to_owned(),
                value(pair).unwrap(),
            )
        })
        .collect()
}

fn nanos(span: &Value, key: &str) -> u128 {
    span[key].as_str().unwrap().parse().unwrap()
}

fn one<'a>(found: &'a [(String, Value)], name: &str) -> &'a Value {
    let span = found.iter().find(|(_, span)| span["name"] == name);
    &span.unwrap().1
}

/// Each span is below the one that caused it, has a length, and no failure.
fn assert_nested(found: &[(String, Value)]) {
    let one = |name: &str| one(found, name);
    let above = |name: &str| one(name)["parentSpanId"].clone();
    assert_eq!(above("POST /ask"), CALLER);
    for (span, parent) in [
        ("request", "POST /ask"),
        ("plan", "request"),
        ("write", "request"),
        ("execute_tool weather.get", "request"),
        ("handle weather.get", "execute_tool weather.get"),
    ] {
        assert_eq!(above(span), one(parent)["spanId"], "{span}");
    }
    let chats = found
        .iter()
        .filter(|(_, span)| span["name"] == "chat fake:1b");
    let around: BTreeSet<_> = chats
        .map(|(_, span)| span["parentSpanId"].as_str())
        .collect();
    let parts = ["plan", "write"].map(|part| one(part)["spanId"].as_str());
    assert_eq!(around, parts.into());
    for (_, span) in found {
        let length = nanos(span, "endTimeUnixNano").checked_sub(nanos(span, "startTimeUnixNano"));
        assert!(length.is_some(), "{span}");
        assert_eq!(span["status"], json!({}), "{span}");
    }
}

#[tokio::test]
async fn one_trace_holds_gateway_planner_model_nodes_and_specialists() {
    let (collector, model) = (FakeOllama::start().await, FakeOllama::start().await);
    let plan =
        json!({"tasks": [{"id": "t1", "capability": "weather.get", "params": {"city": "Oslo"}}]});
    let words = "It rains in Oslo.";
    model.script([Reply::plan(&plan), Reply::text(words)]);
    let (to, url) = (collector.url(), model.url());
    let traced = ["--otlp-url", &to];
    let llm = [
        "--llm",
        "ollama",
        "--model",
        FakeOllama::MODEL,
        "--ollama-url",
    ];
    let a = Spec::new("a").orchestrates().with(&traced).with(&llm);
    let b = Spec::new("b").specialises(&["weather"]).with(&traced);
    let members = mesh(vec![a.with(&[&url]), b]).await;
    members[0].has_agents(1).await;
    let ask = client()
        .post(members[0].url("/ask"))
        .header("traceparent", format!("00-{TRACE}-{CALLER}-01"))
        .body(json!({"query": "Will I need an umbrella in Oslo?"}).to_string());
    let answer: Value = ask.send().await.unwrap().json().await.unwrap();
    assert_eq!(answer["answer"], words, "{answer}");

    let names = [
        ("a", "POST /ask", 2),
        ("a", "request", 1),
        ("a", "plan", 1),
        ("a", "chat fake:1b", 3),
        ("a", "execute_tool weather.get", 3),
        ("b", "handle weather.get", 2),
        ("a", "write", 1),
        ("a", "chat fake:1b", 3),
    ];
    let ours = || {
        let mut found = spans(&collector);
        found.retain(|(_, span)| span["traceId"] == TRACE);
        found
    };
    until("all spans arrive", PATIENCE, async || {
        ours().len() >= names.len()
    })
    .await;
    let found = ours();
    let kind = |(node, span): &'_ (String, Value)| {
        let (name, kind) = (span["name"].as_str(), span["kind"].as_u64());
        (node.clone(), name.unwrap().to_owned(), kind.unwrap())
    };
    let mut kinds: Vec<_> = found.iter().map(kind).collect();
    let mut names = names.map(|(node, name, kind)| (node.to_owned(), name.to_owned(), kind));
    names.sort_unstable();
    kinds.sort_unstable();
    assert_eq!(kinds, names);

    assert_nested(&found);
    let one = |name: &str| one(&found, name);
    let chat = attributes(one("chat fake:1b"));
    assert_eq!(chat["gen_ai.operation.name"], "chat");
    assert_eq!(chat["gen_ai.provider.name"], "ollama");
    assert_eq!(chat["gen_ai.request.model"], "fake:1b");
    let tokens = |key: &str| chat[key].as_str().unwrap().parse::<u32>().unwrap();
    assert!(tokens("gen_ai.usage.input_tokens") > 0 && tokens("gen_ai.usage.output_tokens") > 0);
    assert_eq!(attributes(one("request"))["amcp.state"], "completed");
    let status = &attributes(one("POST /ask"))["http.response.status_code"];
    assert_eq!(status, "200");
    // No words of the user, of the model or of a result.
    let all = found
        .iter()
        .map(|(_, span)| span.to_string())
        .collect::<String>();
    assert!(!all.contains("Oslo") && !all.contains("umbrella"), "{all}");
}

#[tokio::test]
async fn a_caller_that_records_nothing_is_believed_and_a_failure_shows() {
    let collector = FakeOllama::start().await;
    let to = collector.url();
    let sandbox = Sandbox::new();
    let node = Node::start(&sandbox, &["--otlp-url", &to, "--offline"], &[]).await;
    let ask = |flags: &str, query: &str| {
        let parent = format!("00-{TRACE}-{CALLER}-{flags}");
        let post = client()
            .post(node.url("/ask"))
            .header("traceparent", parent);
        post.body(json!({"query": query}).to_string()).send()
    };
    assert_eq!(ask("00", "What is 2 + 2?").await.unwrap().status(), 200);
    assert_eq!(ask("01", "What is 1 / 0?").await.unwrap().status(), 422);
    node.signal("TERM").await;
    // The last spans leave before the process ends.
    let (code, said) = node.ended().await;
    assert_eq!(code, 0, "{said}");
    let found = spans(&collector);
    let requests: Vec<_> = found
        .iter()
        .filter(|(_, s)| s["name"] == "request")
        .collect();
    assert_eq!(requests.len(), 1, "{found:?}");
    assert_eq!(requests[0].1["status"], json!({"code": 2}));
    let of = attributes(&requests[0].1);
    assert_eq!(of["amcp.state"], "failed", "{of:?}");
    assert!(found.iter().all(|(_, span)| span["traceId"] == TRACE));
}

#[tokio::test]
async fn a_collector_that_hangs_or_is_gone_holds_nobody_up() {
    // It takes connections, and answers none.
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let hangs = format!("http://{}", silent.local_addr().unwrap());
    for to in [hangs.as_str(), "http://127.0.0.1:1"] {
        let sandbox = Sandbox::new();
        let mut node = Node::start(&sandbox, &["--otlp-url", to, "--offline"], &[]).await;
        for _ in 0..20 {
            let ask = client().post(node.url("/ask"));
            let ask = ask.body(json!({"query": "What is 2 + 2?"}).to_string());
            assert_eq!(ask.send().await.unwrap().status(), 200);
        }
        if to != hangs {
            let line = node.says("did not reach the collector").await;
            assert!(line.contains("lost="), "{line}");
        }
        node.signal("TERM").await;
        assert_eq!(node.ended().await.0, 0);
    }
}
