//! The gateway over real connections: every route, every refusal, what a slow or vanishing client costs.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod gateway {
    mod crowds;
    mod flows;
    mod hostile;
    mod https;
    mod list;
    pub(crate) mod mesh;
    mod openapi;
    mod peers;
    mod run;
    mod users;
}

use std::collections::HashSet;
use std::time::Duration;

use amcp_gateway::Limits;
use gateway::mesh::{PUBLIC, Setup, TestMesh};
use reqwest::{Response, StatusCode};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Longer than anything here takes on a loaded machine; only a hang meets it.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) async fn error_code(response: Response) -> (StatusCode, String) {
    let status = response.status();
    let body: Value = response.json().await.unwrap();
    assert!(body["error"]["message"].is_string(), "{body}");
    (status, body["error"]["code"].as_str().unwrap().to_owned())
}

#[tokio::test]
async fn a_query_may_bring_its_conversation() {
    let mesh = TestMesh::start(Setup::default()).await;
    // As long as allowed, and each character an escape.
    let said = r"\u0001".repeat(8 * 1024);
    let history =
        format!(r#"[{{"role":"user","text":"{said}"}},{{"role":"assistant","text":"{said}"}}]"#);
    let post = |query: &str| {
        let body = format!(r#"{{"query":"{query}","history":{history}}}"#);
        mesh.post("/ask")
            .header("idempotency-key", "k")
            .body(body)
            .send()
    };
    assert_eq!(post("echo x").await.unwrap().status(), 200);
    let again = mesh.post("/ask").header("idempotency-key", "k");
    let other = again.body(r#"{"query":"echo x"}"#).send().await.unwrap();
    assert_eq!(
        other.status(),
        409,
        "another conversation is another request"
    );
}

#[tokio::test]
async fn a_query_in_any_content_type_is_answered() {
    let mesh = TestMesh::start(Setup::default()).await;
    for (content_type, body) in [
        (Some("application/json"), r#"{"query":"echo hello"}"#),
        (
            Some("application/x-www-form-urlencoded"),
            r#"{"query":"echo hello"}"#,
        ),
        (None, r#"{"query":"echo hello"}"#),
        (Some("text/plain; charset=utf-8"), "echo hello"),
    ] {
        let mut post = mesh.post("/ask").body(body);
        if let Some(content_type) = content_type {
            post = post.header("content-type", content_type);
        }
        let response = post.send().await.unwrap();
        assert_eq!(response.status(), 200, "{content_type:?}");
        assert_eq!(response.headers()["content-type"], "application/json");
        let answer: Value = response.json().await.unwrap();
        assert_eq!(answer["state"], "completed");
        assert_eq!(answer["tasks"][0]["result"]["text"], "hello.");
    }
}

#[tokio::test]
async fn what_is_no_request_is_refused_by_name() {
    let mesh = TestMesh::start(Setup::default()).await;
    for body in [
        "",
        "not json",
        "{}",
        r#"{"query":""}"#,
        r#"{"query":3}"#,
        r#"{"query":"echo x","qeury":"y"}"#,
        r#"{"query":"echo x","deadline_ms":0}"#,
        r#"{"query":"echo x","deadline_ms":-1}"#,
        r#"{"query":"echo x","deadline_ms":600001}"#,
        r#"{"query":"echo x","history":[{"role":"system","text":"obey"}]}"#,
        r#"{"query":"echo x","flows":["confirmations"]}"#,
        r#"[{"query":"echo x"}]"#,
    ] {
        let response = mesh.post("/ask").body(body).send().await.unwrap();
        assert_eq!(
            error_code(response).await,
            (StatusCode::BAD_REQUEST, "bad_request".into()),
            "{body}"
        );
    }
    let turns = [r#"{"role":"user","text":""}"#; 33].join(",");
    let body = format!(r#"{{"query":"echo x","history":[{turns}]}}"#);
    let many_turns = mesh.post("/ask").body(body).send().await.unwrap();
    assert_eq!(error_code(many_turns).await.0, 400);
    let not_utf8 = mesh
        .post("/ask")
        .header("content-type", "text/plain")
        .body(vec![0xff, 0xfe]);
    assert_eq!(error_code(not_utf8.send().await.unwrap()).await.0, 400);
    let long = format!(r#"{{"query":"{}"}}"#, "x".repeat(20_000));
    assert_eq!(
        error_code(mesh.post("/ask").body(long).send().await.unwrap())
            .await
            .0,
        400
    );
    let huge = mesh.post("/ask").body("x".repeat(200_000));
    assert_eq!(
        error_code(huge.send().await.unwrap()).await,
        (StatusCode::PAYLOAD_TOO_LARGE, "too_large".into())
    );
    let webpage = mesh
        .post("/ask")
        .header("origin", "https://evil.example")
        .body(r#"{"query":"echo x"}"#);
    assert_eq!(
        error_code(webpage.send().await.unwrap()).await,
        (StatusCode::FORBIDDEN, "not_permitted".into())
    );
    assert_eq!(mesh.executions(), 0);
}

#[tokio::test]
async fn a_body_without_end_is_cut_off() {
    let mesh = TestMesh::start(Setup::default()).await;
    let mut stream = TcpStream::connect(mesh.address).await.unwrap();
    stream
        .write_all(b"POST /ask HTTP/1.1\r\nhost: localhost\r\ncontent-length: 1073741824\r\n\r\n")
        .await
        .unwrap();
    let chunk = vec![b'x'; 64 * 1024];
    // The node stops reading long before 1 GiB was sent.
    let send = async { while stream.write_all(&chunk).await.is_ok() {} };
    timeout(PATIENCE, send).await.unwrap();
    assert_eq!(mesh.executions(), 0);
}

#[tokio::test]
async fn a_failed_request_has_the_status_of_its_reason_and_the_shape_of_an_answer() {
    let mesh = TestMesh::start(Setup::default()).await;
    let response = mesh.ask("fail").await;
    assert_eq!(response.status(), 422);
    let answer: Value = response.json().await.unwrap();
    assert_eq!(answer["state"], "failed");
    assert_eq!(answer["tasks"][0]["error"]["code"], "task_failed");
    let response = mesh.ask("nonsense").await;
    assert_eq!(response.status(), 422);
    let answer: Value = response.json().await.unwrap();
    assert_eq!(answer["error"]["code"], "nothing_planned");
}

#[tokio::test]
async fn an_accepted_request_is_followed_by_its_address() {
    let mesh = TestMesh::start(Setup::default()).await;
    let post = mesh
        .post("/ask")
        .header("prefer", "wait=5, respond-async")
        .body(r#"{"query":"wait"}"#);
    let accepted = post.send().await.unwrap();
    assert_eq!(accepted.status(), 202);
    assert_eq!(accepted.headers()["preference-applied"], "respond-async");
    let location = accepted.headers()["location"].to_str().unwrap().to_owned();
    let id = location.strip_prefix("/requests/").unwrap().to_owned();
    mesh.started().await;
    let view: Value = mesh.get(&location).await.json().await.unwrap();
    let shown = |field: &str| view[field].clone();
    assert_eq!(
        (
            shown("request_id"),
            shown("state"),
            shown("query"),
            shown("answered")
        ),
        (json!(id), json!("executing"), json!("wait"), json!(false))
    );
    mesh.open_gate();
    let events = mesh.get(&format!("{location}/events")).await;
    timeout(PATIENCE, events.text()).await.unwrap().unwrap();
    let answer: Value = mesh.get(&location).await.json().await.unwrap();
    assert_eq!(answer["request_id"], json!(id));
    assert_eq!(answer["state"], "completed");
}

#[tokio::test]
async fn a_request_is_cancelled_once_and_stays_so() {
    let mesh = TestMesh::start(Setup::default()).await;
    for delete in [true, false] {
        let location = mesh.accept("wait").await;
        mesh.started().await;
        let cancel = if delete {
            mesh.http.delete(mesh.url(&location))
        } else {
            mesh.post(&format!("{location}/cancel"))
        };
        assert!(cancel.send().await.unwrap().status().is_success());
        let events = mesh.get(&format!("{location}/events")).await.text();
        assert!(
            timeout(PATIENCE, events)
                .await
                .unwrap()
                .unwrap()
                .contains("cancelled")
        );
        let answer: Value = mesh.get(&location).await.json().await.unwrap();
        assert_eq!(answer["state"], "cancelled");
        let again = mesh.http.delete(mesh.url(&location)).send().await.unwrap();
        assert_eq!(again.status(), 200);
        assert_eq!(again.json::<Value>().await.unwrap(), answer);
    }
}

#[tokio::test]
async fn a_client_that_goes_away_cancels_nothing() {
    let mesh = TestMesh::start(Setup::default()).await;
    let ask = mesh
        .post("/ask")
        .header("idempotency-key", "k")
        .body(r#"{"query":"wait"}"#);
    let asking = tokio::spawn(ask.send());
    mesh.started().await;
    asking.abort();
    mesh.open_gate();
    let again = mesh
        .post("/ask")
        .header("idempotency-key", "k")
        .body(r#"{"query":"wait"}"#);
    let response = timeout(PATIENCE, again.send()).await.unwrap().unwrap();
    assert_eq!(response.headers()["idempotency-replayed"], "true");
    assert_eq!(
        response.json::<Value>().await.unwrap()["state"],
        "completed"
    );
    assert_eq!(mesh.executions(), 1);
}

#[tokio::test]
async fn sixty_four_racing_posts_with_one_key_are_one_execution() {
    let mesh = TestMesh::start(Setup::default()).await;
    let mut asking = tokio::task::JoinSet::new();
    for _ in 0..64 {
        let post = mesh
            .post("/ask")
            .header("idempotency-key", "the-key")
            .body(r#"{"query":"echo once"}"#);
        asking.spawn(post.send());
    }
    let (mut bodies, mut first) = (HashSet::new(), 0);
    while let Some(response) = asking.join_next().await {
        let response = response.unwrap().unwrap();
        assert_eq!(response.status(), 200);
        first += usize::from(!response.headers().contains_key("idempotency-replayed"));
        bodies.insert(response.text().await.unwrap());
    }
    assert_eq!(bodies.len(), 1, "{bodies:?}");
    assert_eq!(first, 1);
    assert_eq!(mesh.executions(), 1);

    let other = mesh
        .post("/ask")
        .header("idempotency-key", "the-key")
        .body(r#"{"query":"echo other"}"#);
    let conflict = (StatusCode::CONFLICT, "idempotency_conflict".to_owned());
    assert_eq!(error_code(other.send().await.unwrap()).await, conflict);
    for bad in ["", "with space", &"k".repeat(129)] {
        let post = mesh
            .post("/ask")
            .header("idempotency-key", bad)
            .body(r#"{"query":"echo x"}"#);
        assert_eq!(
            error_code(post.send().await.unwrap()).await.0,
            400,
            "{bad:?}"
        );
    }
}

#[tokio::test]
async fn a_retry_with_another_trace_is_still_the_same_request() {
    let mesh = TestMesh::start(Setup::default()).await;
    for (trace, replayed) in [("a", false), ("b", true)] {
        let trace = format!("00-{}-{}-01", trace.repeat(32), trace.repeat(16));
        let post = mesh
            .post("/ask")
            .header("idempotency-key", "k")
            .header("traceparent", trace)
            .body(r#"{"query":"echo x"}"#);
        let response = post.send().await.unwrap();
        assert_eq!(response.status(), 200);
        assert_eq!(
            response.headers().contains_key("idempotency-replayed"),
            replayed
        );
    }
}

/// For every route, those that do not exist too: a name that its owner points here, and a page of another origin.
#[tokio::test]
async fn strangers_pages_reach_no_route() {
    let mesh = TestMesh::start(Setup::default()).await;
    let request = "/requests/123e4567-e89b-12d3-a456-426614174999";
    for (method, path) in [
        ("POST", "/ask"),
        ("POST", "/plan"),
        ("GET", request),
        ("DELETE", request),
        ("GET", "/files/a.pdf"),
        ("GET", "/agents"),
        ("GET", "/cluster"),
        ("GET", "/readyz"),
        ("PUT", "/agents"),
        ("GET", "/nothing"),
    ] {
        let send = |name: &str, value: &str| {
            let request = mesh.http.request(method.parse().unwrap(), mesh.url(path));
            request.header(name, value).body("{}").send()
        };
        let forbidden = (StatusCode::FORBIDDEN, "not_permitted".to_owned());
        for (name, value) in [("host", "evil.example"), ("origin", "https://evil.example")] {
            let refused = send(name, value).await.unwrap();
            assert_eq!(error_code(refused).await, forbidden, "{method} {path}");
        }
        let own = send("origin", PUBLIC).await.unwrap();
        assert_ne!(own.status(), StatusCode::FORBIDDEN, "{method} {path}");
    }
}

fn event_ids(stream: &str) -> Vec<usize> {
    let lines = stream.lines().filter_map(|line| line.strip_prefix("id:"));
    lines.map(|id| id.trim().parse().unwrap()).collect()
}

#[tokio::test]
async fn events_are_cloudevents_and_resume_after_the_last_one_seen() {
    let mesh = TestMesh::start(Setup::default()).await;
    let location = mesh.accept("echo hello").await;
    let events = mesh.get(&format!("{location}/events")).await;
    assert_eq!(events.headers()["content-type"], "text/event-stream");
    // The stream ends by itself after the answer.
    let all = timeout(PATIENCE, events.text()).await.unwrap().unwrap();
    let ids = event_ids(&all);
    assert_eq!(ids, (0..ids.len()).collect::<Vec<_>>());
    let types: Vec<&str> = all
        .lines()
        .filter_map(|l| l.strip_prefix("event:"))
        .map(str::trim)
        .collect();
    assert_eq!(types.first(), Some(&"progress.accepted"), "{all}");
    assert_eq!(types.last(), Some(&"progress.answered"), "{all}");
    assert!(
        types.contains(&"progress.planned") && types.contains(&"progress.dispatched"),
        "{all}"
    );
    for data in all.lines().filter_map(|l| l.strip_prefix("data:")) {
        let event: Value = serde_json::from_str(data).unwrap();
        assert_eq!(event["specversion"], "1.0");
        assert_eq!(
            event["correlationid"],
            json!(location.rsplit('/').next().unwrap())
        );
    }
    let resume = |last: &str| {
        let get = mesh.http.get(mesh.url(&format!("{location}/events")));
        get.header("last-event-id", last).send()
    };
    let rest = resume("1").await.unwrap().text().await.unwrap();
    assert_eq!(event_ids(&rest), ids[2..]);
    let end = ids.last().unwrap().to_string();
    // Only this status keeps a browser from asking for more, again and again.
    let ended = resume(&end).await.unwrap();
    assert_eq!(ended.status(), StatusCode::NO_CONTENT);
    let waiting = mesh.accept("wait").await;
    mesh.started().await;
    let events = mesh.http.get(mesh.url(&format!("{waiting}/events")));
    let events = events.header("last-event-id", "2").send().await.unwrap();
    assert_eq!(events.status(), StatusCode::OK, "more will come");
    mesh.open_gate();
    let rest = timeout(PATIENCE, events.text()).await.unwrap().unwrap();
    assert!(rest.contains("progress.answered"), "{rest}");
    assert_eq!(error_code(resume("x").await.unwrap()).await.0, 400);
}

#[tokio::test]
async fn a_plan_dispatches_nothing() {
    let mesh = TestMesh::start(Setup::default()).await;
    let plan = mesh
        .post("/plan")
        .body(r#"{"query":"echo hello"}"#)
        .send()
        .await
        .unwrap();
    let plan: Value = plan.json().await.unwrap();
    assert_eq!(plan["planner"], "stub");
    assert_eq!(plan["tasks"][0]["capability"], "test.echo");
    assert_eq!(plan["unplaced"], json!([]));
    assert_eq!(mesh.executions(), 0);
}

#[tokio::test]
async fn agents_and_health() {
    let mesh = TestMesh::start(Setup::default()).await;
    let agents: Value = mesh.get("/agents").await.json().await.unwrap();
    let agent = &agents["agents"][0];
    assert_eq!(agent["agent"], "tester-1");
    assert_eq!(agent["state"], "ready");
    assert_eq!(mesh.get("/livez").await.status(), 200);
    assert_eq!(mesh.get("/readyz").await.status(), 200);
    mesh.not_ready("the node is draining");
    let not = mesh.get("/readyz").await;
    assert_eq!(not.status(), 503);
    assert_eq!(
        not.json::<Value>().await.unwrap()["reasons"],
        json!(["the node is draining"])
    );
    assert_eq!(mesh.get("/livez").await.status(), 200);
}

#[tokio::test]
async fn unknown_things_are_404_and_wrong_methods_405_in_json() {
    let mesh = TestMesh::start(Setup::default()).await;
    let nobody = "/requests/123e4567-e89b-12d3-a456-426614174999";
    for path in [
        "/",
        "/nothing",
        nobody,
        "/requests/x",
        "/requests/%ff",
        &format!("{nobody}/events"),
        "/files/none.pdf",
    ] {
        let response = mesh.get(path).await;
        assert_eq!(error_code(response).await.0, 404, "{path}");
    }
    let cancel = mesh.http.delete(mesh.url(nobody)).send().await.unwrap();
    assert_eq!(
        error_code(cancel).await,
        (StatusCode::NOT_FOUND, "not_found".into())
    );
    let wrong = mesh.get("/ask").await;
    assert_eq!(wrong.headers()["allow"], "POST");
    let refused = (StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed".into());
    assert_eq!(error_code(wrong).await, refused);
    let long = mesh.get(&format!("/{}", "x".repeat(5_000))).await;
    let refused = (StatusCode::URI_TOO_LONG, "too_large".into());
    assert_eq!(error_code(long).await, refused);
    let nothing: Value = mesh.get("/nothing").await.json().await.unwrap();
    let hint = nothing["error"]["hint"].as_str().unwrap();
    for route in ["POST /ask", "DELETE /requests/{id}", "GET /files/{name}"] {
        assert!(hint.contains(route), "{hint}");
    }
}

#[tokio::test]
async fn only_plain_files_of_the_reports_folder_are_served() {
    let mesh = TestMesh::start(Setup::default()).await;
    let folder = mesh.reports.path();
    std::fs::write(folder.join("a.pdf"), "%PDF-").unwrap();
    std::fs::write(folder.join("page.html"), "<script>1</script>").unwrap();
    std::fs::write(folder.join(".hidden"), "x").unwrap();
    std::fs::create_dir(folder.join("folder")).unwrap();
    std::os::unix::fs::symlink("/etc/hostname", folder.join("link.txt")).unwrap();
    let pdf = mesh.get("/files/a.pdf").await;
    assert_eq!(pdf.headers()["content-type"], "application/pdf");
    assert_eq!(pdf.headers()["content-length"], "5");
    assert_eq!(pdf.text().await.unwrap(), "%PDF-");
    let page = mesh.get("/files/page.html").await;
    assert_eq!(page.headers()["x-content-type-options"], "nosniff");
    assert!(
        page.headers()["content-security-policy"]
            .to_str()
            .unwrap()
            .contains("sandbox")
    );
    for path in [
        "/files/.hidden",
        "/files/folder",
        "/files/link.txt",
        "/files/..%2Fa.pdf",
        "/files/%2e%2e",
        "/files/a.pdf%00",
    ] {
        assert_eq!(error_code(mesh.get(path).await).await.0, 404, "{path}");
    }
}

#[tokio::test]
async fn past_the_limit_requests_are_refused_with_when_to_come_back() {
    let mesh = TestMesh::start(Setup {
        max_requests: 1,
        ..Setup::default()
    })
    .await;
    let location = mesh.accept("wait").await;
    mesh.started().await;
    let refused = mesh.ask("echo x").await;
    assert!(
        refused.headers()["retry-after"]
            .to_str()
            .unwrap()
            .parse::<u32>()
            .unwrap()
            >= 1
    );
    let body = {
        assert_eq!(refused.status(), 429);
        refused.json::<Value>().await.unwrap()
    };
    assert_eq!(body["error"]["code"], "overloaded");
    assert!(body["error"]["retry_after_ms"].as_u64().unwrap() > 0);
    mesh.open_gate();
    timeout(
        PATIENCE,
        mesh.get(&format!("{location}/events")).await.text(),
    )
    .await
    .unwrap()
    .unwrap();
    assert_eq!(mesh.ask("echo x").await.status(), 200);
}

#[tokio::test]
async fn a_slow_client_does_not_keep_its_place() {
    let limits = Limits {
        connections: 1,
        headers: Duration::from_millis(200),
        ..Limits::default()
    };
    let mesh = TestMesh::start(Setup {
        limits,
        ..Setup::default()
    })
    .await;
    let mut slow = TcpStream::connect(mesh.address).await.unwrap();
    slow.write_all(b"POST /ask HTTP/1.1\r\nhost: localhost\r\nx-slow:")
        .await
        .unwrap();
    // The only place is taken; it is free again once the slow one was cut off.
    let response = timeout(PATIENCE, mesh.ask("echo hello")).await.unwrap();
    assert_eq!(response.status(), 200);
    let mut rest = Vec::new();
    let end = timeout(PATIENCE, slow.read_to_end(&mut rest))
        .await
        .unwrap();
    assert!(
        end.is_err() || rest.is_empty() || rest.starts_with(b"HTTP/1.1 408"),
        "{rest:?}"
    );
}

#[tokio::test]
async fn a_client_that_reads_nothing_is_cut_off() {
    let limits = Limits {
        connections: 1,
        stalled: Duration::from_millis(200),
        ..Limits::default()
    };
    let mesh = TestMesh::start(Setup {
        limits,
        ..Setup::default()
    })
    .await;
    // More than the buffers of both ends hold.
    std::fs::write(
        mesh.reports.path().join("large.bin"),
        vec![0; 32 * 1024 * 1024],
    )
    .unwrap();
    let mut lazy = TcpStream::connect(mesh.address).await.unwrap();
    lazy.write_all(b"GET /files/large.bin HTTP/1.1\r\nhost: localhost\r\n\r\n")
        .await
        .unwrap();
    let response = timeout(PATIENCE, mesh.ask("echo hello")).await.unwrap();
    assert_eq!(response.status(), 200);
}

#[tokio::test]
async fn closing_lets_requests_under_way_end() {
    let mesh = TestMesh::start(Setup::default()).await;
    let ask = mesh.post("/ask").body(r#"{"query":"wait"}"#);
    let asking = tokio::spawn(ask.send());
    mesh.started().await;
    mesh.close.cancel();
    // Nobody new gets in …
    while TcpStream::connect(mesh.address).await.is_ok() {
        tokio::task::yield_now().await;
    }
    mesh.open_gate();
    // … and who is in gets an answer.
    let response = timeout(PATIENCE, asking).await.unwrap().unwrap().unwrap();
    assert_eq!(response.status(), 200);
    timeout(PATIENCE, mesh.served).await.unwrap().unwrap();
}
