//! Lists of requests: whose they are, in what order, page by page.

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use super::super::error_code;
use super::mesh::{Setup, TestMesh};

async fn mesh() -> TestMesh {
    let users: &[(&str, &[&str])] = &[("ann", &[]), ("bob", &[]), ("eve", &["admin"])];
    let setup = Setup {
        users,
        ..Setup::default()
    };
    TestMesh::start(setup).await
}

impl TestMesh {
    /// The value of a field in each row of a list.
    async fn listed(&self, user: &str, query: &str, field: &str) -> Vec<Value> {
        let list = self.by(user, Method::GET, &format!("/requests{query}"));
        let list: Value = list.send().await.unwrap().json().await.unwrap();
        let rows = list["requests"].as_array().unwrap();
        rows.iter().map(|row| row[field].clone()).collect()
    }

    async fn asks(&self, user: &str, query: &str) {
        let ask = self.by(user, Method::POST, "/ask");
        ask.json(&json!({"query": query})).send().await.unwrap();
    }
}

#[tokio::test]
async fn a_list_has_ones_own_requests_and_an_admins_all() {
    let mesh = mesh().await;
    mesh.asks("ann", "echo 1").await;
    mesh.asks("bob", "fail").await;
    mesh.asks("nobody", "echo 3").await;
    for (user, query, listed) in [
        ("ann", "", json!(["echo 1"])),
        ("ann", "?user=ann", json!(["echo 1"])),
        ("ann", "?state=failed", json!([])),
        ("bob", "?state=failed,completed", json!(["fail"])),
        ("nobody", "", json!(["echo 3"])),
        ("eve", "", json!(["echo 3", "fail", "echo 1"])),
        ("eve", "?user=bob", json!(["fail"])),
        ("eve", "?user=anonymous", json!(["echo 3"])),
        ("eve", "?state=open", json!([])),
        ("eve", "?since=1h&limit=1", json!(["echo 3"])),
        ("eve", "?since=2999-01-01T00:00:00Z", json!([])),
    ] {
        assert_eq!(
            json!(mesh.listed(user, query, "query").await),
            listed,
            "{user} {query}"
        );
    }
    let others = mesh.by("ann", Method::GET, "/requests?user=bob");
    let refused = error_code(others.send().await.unwrap()).await;
    assert_eq!(refused, (StatusCode::FORBIDDEN, "not_permitted".into()));
    let failed = mesh.listed("bob", "", "error_code").await;
    assert_eq!(failed, [json!("task_failed")]);
}

#[tokio::test]
async fn pages_follow_each_other_without_a_gap_while_requests_come() {
    let mesh = TestMesh::start(Setup::default()).await;
    for number in 0..5 {
        mesh.asks("nobody", &format!("echo {number}")).await;
    }
    let (mut seen, mut next) = (Vec::new(), String::new());
    loop {
        let page: Value = mesh
            .get(&format!("/requests?limit=2{next}"))
            .await
            .json()
            .await
            .unwrap();
        let rows = page["requests"].as_array().unwrap();
        assert!(rows.len() <= 2, "{page}");
        seen.extend(
            rows.iter()
                .map(|row| row["query"].as_str().unwrap().to_owned()),
        );
        // Newer ones change no later page.
        mesh.asks("nobody", "echo new").await;
        let Some(cursor) = page["next"].as_str() else {
            break;
        };
        next = format!("&cursor={cursor}");
    }
    assert_eq!(seen, ["echo 4", "echo 3", "echo 2", "echo 1", "echo 0"]);
}

#[tokio::test]
async fn a_row_tells_times_and_figures() {
    let mesh = TestMesh::start(Setup::default()).await;
    mesh.asks("nobody", "echo a and echo b").await;
    let location = mesh.accept("wait").await;
    mesh.started().await;
    let list: Value = mesh.get("/requests").await.json().await.unwrap();
    let [open, done] = list["requests"].as_array().unwrap().as_slice() else {
        panic!("{list}");
    };
    assert_eq!(
        (&open["state"], &open["answered"]),
        (&json!("executing"), &json!(false))
    );
    assert_eq!(
        (&done["state"], &done["answered"]),
        (&json!("completed"), &json!(true))
    );
    assert_eq!(
        (&open["task_count"], &done["task_count"]),
        (&json!(1), &json!(2))
    );
    assert_eq!(
        (&open["planner"], &done["planner"]),
        (&json!("stub"), &json!("stub"))
    );
    for row in [open, done] {
        let part = |name: &str| row[name].as_u64().unwrap();
        let parts = part("planning_ms") + part("executing_ms") + part("writing_ms");
        assert!(parts <= part("total_ms") + 3, "{row}");
        assert!(row["accepted_at"].as_str().unwrap().ends_with('Z'));
    }
    mesh.open_gate();
    mesh.get(&format!("{location}/events"))
        .await
        .text()
        .await
        .unwrap();
    assert_eq!(
        mesh.listed("nobody", "?state=open", "state").await,
        [] as [Value; 0]
    );
}

#[tokio::test]
async fn a_query_that_means_nothing_is_refused_by_name() {
    let mesh = TestMesh::start(Setup::default()).await;
    for (query, named) in [
        ("state=done", "state"),
        ("state=", "state"),
        ("since=yesterday", "since"),
        ("cursor=x", "cursor"),
        ("cursor=zz.123e4567-e89b-12d3-a456-426614174999", "cursor"),
        ("limit=0", "limit"),
        ("limit=101", "limit"),
        ("limit=many", "limit"),
        ("stat=failed", "stat"),
        ("limit=1&limit=2", "limit"),
    ] {
        let response = mesh.get(&format!("/requests?{query}")).await;
        assert_eq!(response.status(), 400, "{query}");
        let body: Value = response.json().await.unwrap();
        assert_eq!(body["error"]["code"], "bad_request");
        assert!(
            body["error"]["message"].as_str().unwrap().contains(named),
            "{query}: {body}"
        );
    }
}
