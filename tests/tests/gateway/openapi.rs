//! The description of the routes: that it has all of them and every code, and that real answers keep its schemas.

use std::collections::BTreeSet;

use amcp_gateway::codes::outcome;
use amcp_protocol::{ErrorCode, Schema};
use serde_json::{Value, json};

use super::mesh::{Setup, TestMesh};

async fn document(mesh: &TestMesh) -> Value {
    mesh.get("/openapi.json").await.json().await.unwrap()
}

#[tokio::test]
async fn it_has_the_routes_of_the_router_and_every_code_under_its_status() {
    let mesh = TestMesh::start(Setup::default()).await;
    let document = document(&mesh).await;
    let described: BTreeSet<String> = document["paths"]
        .as_object()
        .unwrap()
        .iter()
        .flat_map(|(path, item)| {
            let methods = item.as_object().unwrap().keys();
            methods.map(move |method| format!("{} {path}", method.to_uppercase()))
        })
        .collect();
    let nothing: Value = mesh.get("/nothing").await.json().await.unwrap();
    let hint = nothing["error"]["hint"].as_str().unwrap();
    let routed: BTreeSet<String> = hint.split(", ").map(str::to_owned).collect();
    assert_eq!(described, routed);
    // Each described route exists, and refuses what it does not take as described.
    for route in &described {
        let path = route.split_once(' ').unwrap().1.replace(['{', '}'], "");
        let patched = mesh.http.patch(mesh.url(&path)).send().await.unwrap();
        assert_eq!(patched.status(), 405, "{route}");
    }
    let responses = &document["paths"]["/ask"]["post"]["responses"];
    for code in ErrorCode::ALL {
        let status = outcome(*code).0;
        let said = responses[status.as_str()]["description"].as_str().unwrap();
        assert!(
            said.split(", ").any(|word| word == code.as_str()),
            "{code} is not under {status}: {said}"
        );
    }
    let schemas = &document["components"]["schemas"];
    let all = schemas["ErrorCode"]["enum"].as_array().unwrap();
    assert_eq!(all.len(), ErrorCode::ALL.len());
    let deadline = &schemas["RunRequest"]["properties"]["deadline_ms"];
    assert_eq!(deadline["maximum"], 600_000, "what this node allows");
}

#[tokio::test]
async fn every_reference_leads_somewhere() {
    fn references<'a>(value: &'a Value, found: &mut Vec<&'a str>) {
        match value {
            Value::Object(fields) => {
                found.extend(fields.get("$ref").and_then(Value::as_str));
                fields.values().for_each(|value| references(value, found));
            }
            Value::Array(items) => items.iter().for_each(|value| references(value, found)),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }
    let mesh = TestMesh::start(Setup::default()).await;
    let document = document(&mesh).await;
    let mut found = Vec::new();
    references(&document, &mut found);
    assert!(found.len() > 50, "{found:?}");
    for reference in found {
        let place = reference.strip_prefix('#').unwrap();
        assert!(document.pointer(place).is_some(), "{reference}");
    }
}

#[tokio::test]
async fn answers_keep_their_schemas() {
    let mesh = TestMesh::start(Setup::default()).await;
    let document = document(&mesh).await;
    let location = mesh.accept("send bob and echo x").await;
    let plan = json!({"tasks": [{"capability": "test.echo", "params": {"text": "x"}}]});
    let get = |path: &str| mesh.http.get(mesh.url(path));
    let post = |path: &str, body: Value| mesh.post(path).json(&body);
    for (request, path, method) in [
        (
            post("/ask", json!({"query": "echo x and fail"})),
            "/ask",
            "post",
        ),
        (post("/ask", json!({"query": "fail"})), "/ask", "post"),
        (post("/ask", json!({"query": "send bob"})), "/ask", "post"),
        (post("/ask", json!({"query": ""})), "/ask", "post"),
        (post("/run", plan), "/run", "post"),
        (post("/plan", json!({"query": "echo x"})), "/plan", "post"),
        (get("/requests"), "/requests", "get"),
        (get("/requests?limit=x"), "/requests", "get"),
        (get(&location), "/requests/{id}", "get"),
        (
            mesh.http.delete(mesh.url(&location)),
            "/requests/{id}",
            "delete",
        ),
        (get("/agents"), "/agents", "get"),
        (get("/cluster"), "/cluster", "get"),
        (get("/readyz"), "/readyz", "get"),
    ] {
        let response = request.send().await.unwrap();
        let status = response.status();
        let described = &document["paths"][path][method]["responses"][status.as_str()];
        let schema = &described["content"]["application/json"]["schema"];
        assert!(
            !schema.is_null(),
            "{method} {path}: {status} is not described"
        );
        let schema = json!({"allOf": [schema], "components": document["components"]});
        let body: Value = response.json().await.unwrap();
        let violations = Schema::compile(&schema).unwrap().violations(&body);
        assert!(
            violations.is_empty(),
            "{method} {path} {status}: {violations:?}\n{body}"
        );
    }
    let agents: Value = mesh.get("/agents").await.json().await.unwrap();
    let cards = agents["capabilities"].as_array().unwrap();
    let names: Vec<_> = cards
        .iter()
        .map(|card| card["name"].as_str().unwrap())
        .collect();
    assert!(
        names.contains(&"test.repeat") && !names.contains(&"test.secret"),
        "{names:?}"
    );
}
