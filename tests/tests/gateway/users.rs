//! Who may use a gateway, and who sees what: keys, clients without one, and other users' requests and files.

use std::sync::Arc;

use amcp_access::{Audit, AuditRules, What};
use reqwest::{Method, RequestBuilder, StatusCode};
use serde_json::{Value, json};

use super::super::error_code;
use super::mesh::{Setup, TestMesh};

async fn mesh() -> TestMesh {
    let users: &[(&str, &[&str])] = &[("ann", &["analyst"]), ("bob", &[]), ("eve", &["admin"])];
    TestMesh::start(Setup {
        users,
        ..Setup::default()
    })
    .await
}

impl TestMesh {
    pub(crate) fn by(&self, user: &str, method: Method, path: &str) -> RequestBuilder {
        let url = format!("http://{}{path}", self.address);
        let request = self.http.request(method, url);
        match self.keys.get(user) {
            Some(key) => request.bearer_auth(key),
            None => request,
        }
    }

    async fn status(&self, user: &str, method: Method, path: &str) -> StatusCode {
        self.by(user, method, path).send().await.unwrap().status()
    }
}

#[tokio::test]
async fn a_request_belongs_to_the_user_whom_the_key_proves() {
    let mesh = mesh().await;
    let asked = mesh
        .by("ann", Method::POST, "/ask")
        .json(&json!({"query": "pay 60000"}));
    let asked: Value = asked.send().await.unwrap().json().await.unwrap();
    let id = asked["request_id"].as_str().unwrap();
    let shown = mesh.by("ann", Method::GET, &format!("/requests/{id}"));
    let shown: Value = shown.send().await.unwrap().json().await.unwrap();
    assert_eq!(shown["user"], "ann");
    let flow = shown["flows"][0]["id"].as_str().unwrap();
    let (path, events) = (format!("/requests/{id}"), format!("/requests/{id}/events"));
    let (cancel, flow) = (format!("{path}/cancel"), format!("{path}/flows/{flow}"));
    for stranger in ["bob", "nobody"] {
        for (method, path) in [
            (Method::GET, &path),
            (Method::GET, &events),
            (Method::POST, &cancel),
            (Method::DELETE, &path),
        ] {
            let status = mesh.status(stranger, method.clone(), path).await;
            assert_eq!(status, StatusCode::NOT_FOUND, "{stranger}: {method} {path}");
        }
        let answer = json!({"decision": "approve", "digest": shown["flows"][0]["digest"]});
        let answered = mesh
            .by(stranger, Method::POST, &flow)
            .json(&answer)
            .send()
            .await
            .unwrap();
        assert_eq!(answered.status(), StatusCode::NOT_FOUND, "{stranger}");
    }
    let answer = json!({"decision": "approve", "digest": shown["flows"][0]["digest"]});
    let answered = mesh.by("eve", Method::POST, &flow).json(&answer).send();
    assert_eq!(answered.await.unwrap().status(), StatusCode::FORBIDDEN);
    assert_eq!(
        mesh.status("eve", Method::GET, &path).await,
        StatusCode::OK,
        "an admin sees all"
    );
    assert_eq!(
        mesh.status("ann", Method::DELETE, &path).await,
        StatusCode::ACCEPTED
    );
}

#[tokio::test]
async fn the_audit_log_names_the_user_who_cancels() {
    let folder = tempfile::tempdir().unwrap();
    let audit = Arc::new(Audit::open(AuditRules::in_data(folder.path())).unwrap());
    let mesh = TestMesh::start(Setup {
        users: &[("ann", &[]), ("eve", &["admin"])],
        audit: Some(audit.clone()),
        ..Setup::default()
    })
    .await;
    let ask = mesh.by("ann", Method::POST, "/ask");
    let ask = ask.header("prefer", "respond-async");
    let asked = ask.json(&json!({"query": "wait"})).send().await.unwrap();
    let path = asked.headers()["location"].to_str().unwrap();
    mesh.started().await;
    let cancelled = mesh.status("eve", Method::DELETE, path).await;
    assert_eq!(cancelled, StatusCode::ACCEPTED);
    audit.close().unwrap();
    let mut seen = Vec::new();
    let all = amcp_access::audit::records(&folder.path().join("audit"), |record, _| {
        seen.push((
            record.what,
            record.user,
            record.request.map(|id| id.to_string()),
        ));
        true
    });
    all.unwrap();
    let id = path.rsplit('/').next().map(str::to_owned);
    assert_eq!(seen, [(What::RequestCancelled, Some("eve".to_owned()), id)]);
}

#[tokio::test]
async fn a_file_belongs_to_its_owner() {
    let mesh = mesh().await;
    std::fs::write(mesh.reports.path().join("q4.txt"), "secret").unwrap();
    std::fs::write(mesh.reports.path().join(".q4.txt.owner"), "ann").unwrap();
    std::fs::write(mesh.reports.path().join("open.txt"), "nobody's").unwrap();
    // Whose it is cannot be read.
    std::fs::write(mesh.reports.path().join("odd.txt"), "secret").unwrap();
    std::fs::create_dir(mesh.reports.path().join(".odd.txt.owner")).unwrap();
    for (user, file, status) in [
        ("nobody", "odd.txt", StatusCode::NOT_FOUND),
        ("ann", "q4.txt", StatusCode::OK),
        ("eve", "q4.txt", StatusCode::OK),
        ("bob", "q4.txt", StatusCode::NOT_FOUND),
        ("nobody", "q4.txt", StatusCode::NOT_FOUND),
        ("nobody", "open.txt", StatusCode::OK),
        ("bob", "open.txt", StatusCode::NOT_FOUND),
    ] {
        let path = format!("/files/{file}");
        assert_eq!(
            mesh.status(user, Method::GET, &path).await,
            status,
            "{user} {file}"
        );
    }
}

#[tokio::test]
async fn what_proves_nothing_gets_in_nowhere() {
    let mesh = mesh().await;
    let key = mesh.keys["ann"].clone();
    let url = |path: &str| format!("http://{}{path}", mesh.address);
    for path in [
        "/agents",
        "/cluster",
        "/metrics",
        "/files/a.txt",
        "/requests/x",
        "/nothing",
    ] {
        let get = || mesh.http.get(url(path));
        for request in [
            get().bearer_auth("amcp_nonsense"),
            get().bearer_auth(format!("{key}x")),
            get().bearer_auth(""),
            get().basic_auth("ann", Some(&key)),
            get().header("authorization", &key),
            get().bearer_auth(&key).header("x-api-key", &key),
            // A proxy on this machine has the machine's address; its clients have not.
            get().header("x-forwarded-for", "203.0.113.9"),
            get().header("forwarded", "for=127.0.0.1"),
        ] {
            let shown = format!("{path} {request:?}");
            let response = request.send().await.unwrap();
            assert!(
                response.headers().contains_key("www-authenticate"),
                "{shown}"
            );
            let (status, code) = error_code(response).await;
            assert_eq!(
                (status, code.as_str()),
                (StatusCode::UNAUTHORIZED, "unauthenticated"),
                "{shown}"
            );
        }
    }
    let known = mesh.http.get(url("/agents")).header("x-api-key", &key);
    assert_eq!(known.send().await.unwrap().status(), StatusCode::OK);
    let health = mesh
        .http
        .get(url("/livez"))
        .header("x-forwarded-for", "203.0.113.9");
    assert_eq!(health.send().await.unwrap().status(), StatusCode::OK);
}

#[tokio::test]
async fn no_body_names_a_user_or_roles() {
    let mesh = mesh().await;
    for field in [json!({"user": "ann"}), json!({"roles": ["admin"]})] {
        let mut body = json!({"query": "echo x"});
        body.as_object_mut()
            .unwrap()
            .extend(field.as_object().unwrap().clone());
        let asked = mesh
            .by("bob", Method::POST, "/ask")
            .json(&body)
            .send()
            .await
            .unwrap();
        let (status, code) = error_code(asked).await;
        assert_eq!(
            (status, code.as_str()),
            (StatusCode::BAD_REQUEST, "bad_request"),
            "{body}"
        );
    }
}
