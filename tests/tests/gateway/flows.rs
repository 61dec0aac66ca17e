//! Flows over HTTP: a request that asks a person, and the person's answers.

use amcp_tests::process::Sandbox;
use reqwest::{Response, StatusCode};
use serde_json::{Value, json};
use tokio::time::timeout;

use super::mesh::{Setup, TestMesh};
use crate::{PATIENCE, error_code};

impl TestMesh {
    /// Asks and is asked back; returns the request's address and the open flow.
    async fn ask_back(&self, query: &str) -> (String, Value) {
        let response = self.ask(query).await;
        assert_eq!(response.status(), StatusCode::ACCEPTED);
        let location = response.headers()["location"].to_str().unwrap().to_owned();
        let body: Value = response.json().await.unwrap();
        (location, body["flows"][0].clone())
    }

    async fn decide(&self, location: &str, flow: &Value, decision: &str) -> Response {
        let answer = json!({"decision": decision, "digest": flow["digest"], "reason": "so I wish"});
        self.answer(location, flow["id"].as_str().unwrap(), &answer.to_string())
            .await
    }

    async fn answer(&self, location: &str, flow: &str, body: &str) -> Response {
        let post = self.post(&format!("{location}/flows/{flow}"));
        post.body(body.to_owned()).send().await.unwrap()
    }

    /// The whole event stream, once the request was answered.
    async fn events(&self, location: &str) -> String {
        let events = self.get(&format!("{location}/events")).await;
        timeout(PATIENCE, events.text()).await.unwrap().unwrap()
    }

    /// The request, once nothing but flows is open.
    async fn idle(&self, location: &str) -> Value {
        let look = async {
            loop {
                let body: Value = self.get(location).await.json().await.unwrap();
                if body["state"] == "awaiting_flow" {
                    return body;
                }
                tokio::task::yield_now().await;
            }
        };
        timeout(PATIENCE, look).await.unwrap()
    }
}

#[tokio::test]
async fn a_request_asks_first_and_is_done_after_an_approval() {
    let mesh = TestMesh::start(Setup::default()).await;
    let asked = mesh.ask("send bob").await;
    assert_eq!(asked.status(), StatusCode::ACCEPTED);
    assert!(!asked.headers().contains_key("preference-applied"));
    let (location, flow) = mesh.ask_back("send bob").await;
    let id = location.strip_prefix("/requests/").unwrap();
    let body = mesh.idle(&location).await;
    assert_eq!(body["request_id"], id);
    assert_eq!(body["state"], "awaiting_flow");
    assert_eq!(body["flows"], json!([flow]));
    assert_eq!(flow["kind"], "confirmation");
    assert_eq!(flow["capability"], "test.send");
    assert_eq!(flow["params"], json!({"text": "bob"}));
    assert!(flow["prompt"].as_str().unwrap().contains("test.send"));
    let expires = flow["expires_at"].as_str().unwrap();
    assert!(
        expires.ends_with('Z') && flow.get("expires_unix_ms").is_none(),
        "{flow}"
    );
    assert_eq!(mesh.executions(), 0);

    let answered = mesh.decide(&location, &flow, "approve").await;
    assert_eq!(answered.status(), StatusCode::OK);
    let now: Value = answered.json().await.unwrap();
    assert_eq!(now["request_id"], id);
    assert_eq!(now.get("flows"), None);
    mesh.events(&location).await;
    let answer: Value = mesh.get(&location).await.json().await.unwrap();
    assert_eq!(answer["state"], "completed");
    assert_eq!(answer["tasks"][0]["result"]["text"], "bob.");
    assert_eq!(mesh.executions(), 1);
}

#[tokio::test]
async fn what_is_denied_is_missing_and_the_rest_is_answered() {
    let mesh = TestMesh::start(Setup::default()).await;
    let (location, flow) = mesh.ask_back("send bob and echo hello").await;
    let denied = mesh.decide(&location, &flow, "deny").await;
    assert_eq!(denied.status(), StatusCode::OK);
    mesh.events(&location).await;
    let answer: Value = mesh.get(&location).await.json().await.unwrap();
    assert_eq!(answer["state"], "partial");
    assert_eq!(answer["tasks"][0]["error"]["code"], "flow_denied");
    let why = answer["tasks"][0]["error"]["message"].as_str().unwrap();
    assert!(why.contains("so I wish"), "{why}");
    assert_eq!(mesh.executions(), 1);
}

#[tokio::test]
async fn an_answer_counts_once_for_what_was_shown_while_it_is_asked() {
    let mesh = TestMesh::start(Setup::default()).await;
    let (location, flow) = mesh.ask_back("send bob").await;
    let other = json!({"id": flow["id"], "digest": "0".repeat(64)});
    let closed = (StatusCode::CONFLICT, "flow_closed".to_owned());
    let unknown = (StatusCode::NOT_FOUND, "not_found".to_owned());
    let refused = mesh.decide(&location, &other, "approve").await;
    assert_eq!(error_code(refused).await, closed);
    for id in ["t1.2", "t9.1", "nonsense", "%ff"] {
        let other = json!({"id": id, "digest": flow["digest"]});
        let refused = mesh.decide(&location, &other, "approve").await;
        assert_eq!(error_code(refused).await, unknown, "{id}");
    }
    for request in ["123e4567-e89b-12d3-a456-426614174999", "x"] {
        let location = format!("/requests/{request}");
        let refused = mesh.decide(&location, &flow, "approve").await;
        assert_eq!(error_code(refused).await, unknown);
    }
    assert_eq!(mesh.executions(), 0);
    let taken = mesh.decide(&location, &flow, "approve").await;
    assert_eq!(taken.status(), StatusCode::OK);
    mesh.events(&location).await;
    let again = mesh.decide(&location, &flow, "deny").await;
    assert_eq!(error_code(again).await, closed);
    assert_eq!(mesh.executions(), 1);
}

#[tokio::test]
async fn what_is_no_answer_is_refused_by_name() {
    let mesh = TestMesh::start(Setup::default()).await;
    let (location, flow) = mesh.ask_back("send bob").await;
    let digest = flow["digest"].as_str().unwrap();
    let long = "x".repeat(20_000);
    for (body, named) in [
        (String::new(), "EOF"),
        ("yes".to_owned(), "expected"),
        (r#"{"decision":"approve"}"#.to_owned(), "digest"),
        (
            format!(r#"{{"decision":"yes","digest":"{digest}"}}"#),
            "`yes`",
        ),
        (
            format!(r#"{{"decision":"deny","digest":"{digest}","raeson":"no"}}"#),
            "`raeson`",
        ),
        (
            format!(r#"{{"decision":"deny","digest":"{digest}","reason":"{long}"}}"#),
            "reason of more than",
        ),
        (
            format!(r#"{{"decision":"approve","digest":"{digest}","payload":"{long}"}}"#),
            "payload of more than",
        ),
    ] {
        let refused = mesh.answer(&location, "t1.1", &body).await;
        assert_eq!(refused.status(), StatusCode::BAD_REQUEST, "{named}");
        let refused: Value = refused.json().await.unwrap();
        assert_eq!(refused["error"]["code"], "bad_request");
        let message = refused["error"]["message"].as_str().unwrap();
        assert!(message.contains(named), "{named}: {message}");
    }
    let huge = mesh.answer(&location, "t1.1", &"x".repeat(200_000)).await;
    let too_large = (StatusCode::PAYLOAD_TOO_LARGE, "too_large".to_owned());
    assert_eq!(error_code(huge).await, too_large);
    let webpage = mesh.post(&format!("{location}/flows/t1.1"));
    let webpage = webpage.header("origin", "https://evil.example");
    let webpage = webpage.json(&json!({"decision": "approve", "digest": digest}));
    let forbidden = (StatusCode::FORBIDDEN, "not_permitted".to_owned());
    assert_eq!(error_code(webpage.send().await.unwrap()).await, forbidden);
    let get = mesh.get(&format!("{location}/flows/t1.1")).await;
    assert_eq!(get.headers()["allow"], "POST");
    assert_eq!(error_code(get).await.0, StatusCode::METHOD_NOT_ALLOWED);
    // Nothing of this was an answer.
    assert_eq!(mesh.idle(&location).await["flows"], json!([flow]));
}

#[tokio::test]
async fn a_specialist_gets_what_the_person_sent() {
    let mesh = TestMesh::start(Setup::default()).await;
    let (location, flow) = mesh.ask_back("pay 60000").await;
    assert_eq!(
        (&flow["kind"], &flow["prompt"], &flow["payload"]),
        (
            &json!("payment"),
            &json!("Pay 12 EUR?"),
            &json!({"eur": 12})
        )
    );
    let proof = json!({"decision": "approve", "digest": flow["digest"], "payload": {"receipt": 7}});
    let answered = mesh.answer(&location, "t1.1", &proof.to_string()).await;
    assert_eq!(answered.status(), StatusCode::OK);
    let events = mesh.events(&location).await;
    let answer: Value = mesh.get(&location).await.json().await.unwrap();
    assert_eq!(
        answer["tasks"][0]["result"]["receipt"],
        json!({"receipt": 7})
    );
    let types = events.lines().filter_map(|l| l.strip_prefix("event:"));
    let types: Vec<&str> = types.map(str::trim).collect();
    assert_eq!(
        types,
        [
            "progress.accepted",
            "progress.planned",
            "progress.dispatched",
            "progress.flow_required",
            "progress.flow_ended",
            "progress.dispatched",
            "progress.completed",
            "progress.answered",
        ]
    );
    let data = events.lines().filter_map(|l| l.strip_prefix("data:"));
    let data: Vec<Value> = data.map(|l| serde_json::from_str(l).unwrap()).collect();
    assert_eq!(data[3]["data"]["flow"]["digest"], flow["digest"]);
    assert_eq!(data[4]["data"]["end"], "approved");
}

#[tokio::test]
async fn a_flow_that_nobody_answers_expires() {
    let mesh = TestMesh::start(Setup::default()).await;
    let (location, flow) = mesh.ask_back("pay 1").await;
    mesh.events(&location).await;
    let late = mesh.decide(&location, &flow, "approve").await;
    let expired = (StatusCode::GONE, "flow_expired".to_owned());
    assert_eq!(error_code(late).await, expired);
    let answer = mesh.get(&location).await;
    let answer: Value = answer.json().await.unwrap();
    assert_eq!(answer["error"]["code"], "flow_expired");
}

#[tokio::test]
async fn a_client_says_which_flows_it_can_answer_and_is_asked_only_these() {
    let mesh = TestMesh::start(Setup::default()).await;
    for (flows, status) in [
        (json!([]), StatusCode::UNPROCESSABLE_ENTITY),
        (json!(["payment"]), StatusCode::UNPROCESSABLE_ENTITY),
        (json!(["payment", "confirmation"]), StatusCode::ACCEPTED),
    ] {
        let body = json!({"query": "send bob", "flows": flows});
        let response = mesh.post("/ask").json(&body).send().await.unwrap();
        assert_eq!(response.status(), status, "{flows}");
        let body: Value = response.json().await.unwrap();
        if status == StatusCode::UNPROCESSABLE_ENTITY {
            assert_eq!(body["error"]["code"], "flow_unsupported");
        }
    }
}

#[tokio::test]
async fn a_repeated_ask_meets_the_same_question() {
    let mesh = TestMesh::start(Setup::default()).await;
    let post = || {
        let post = mesh.post("/ask").header("idempotency-key", "k");
        post.body(r#"{"query":"send bob"}"#).send()
    };
    let first = post().await.unwrap();
    let location = first.headers()["location"].clone();
    let first: Value = first.json().await.unwrap();
    let again = post().await.unwrap();
    assert_eq!(again.status(), StatusCode::ACCEPTED);
    assert_eq!(again.headers()["idempotency-replayed"], "true");
    assert_eq!(again.headers()["location"], location);
    let again: Value = again.json().await.unwrap();
    assert_eq!(again["flows"], first["flows"]);
}

#[tokio::test]
async fn the_command_line_is_asked_only_where_somebody_can_answer() {
    let mesh = TestMesh::start(Setup::default()).await;
    let sandbox = Sandbox::new();
    let url = mesh.url("");
    // No terminal: nobody is asked, and the failure says what to do.
    let ran = sandbox.run(["ask", "--url", &url, "send bob"]).await;
    assert_eq!(ran.code, 1, "{ran:?}");
    assert!(ran.stderr.contains("flow_unsupported"), "{ran:?}");
    assert!(ran.stderr.contains("--yes"), "{ran:?}");
    assert_eq!(mesh.executions(), 0);
    let ran = sandbox.run(["ask", "--yes", "--url", &url, "send bob"]);
    let ran = ran.await;
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(ran.stdout.contains("bob."), "{ran:?}");
    assert!(
        ran.stderr
            .contains("approved by --yes: May test.send be done?"),
        "{ran:?}"
    );
    assert_eq!(mesh.executions(), 1);
    // A confirmation is all that it gives.
    let ran = sandbox.run(["ask", "-yq", "--url", &url, "send bob and pay 60000"]);
    let ran = ran.await;
    assert_eq!(ran.code, 3, "{ran:?}");
    assert_eq!(ran.stderr, "");
}
