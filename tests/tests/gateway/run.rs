//! POST /run: plans that are given, and the forms in which an answer is accepted.

use reqwest::{Method, Response, StatusCode};
use serde_json::{Value, json};
use tokio::time::timeout;

use super::super::{PATIENCE, error_code};
use super::mesh::{Setup, TestMesh};

impl TestMesh {
    async fn run(&self, plan: &Value) -> (StatusCode, Value) {
        let response = self.post("/run").json(plan).send().await.unwrap();
        (response.status(), response.json().await.unwrap())
    }

    async fn accepting(&self, form: &str, path: &str, body: &Value) -> Response {
        let post = self.post(path).header("accept", form).json(body);
        post.send().await.unwrap()
    }
}

#[tokio::test]
async fn a_given_plan_is_carried_out_as_it_is_without_the_planner() {
    let mesh = TestMesh::start(Setup::default()).await;
    let plan = json!({"tasks": [
        {"id": "b", "capability": "test.repeat", "params": {"text": {"$ref": "a", "path": "/text"}, "times": "3"}},
        {"id": "a", "capability": "test.echo", "params": {"text": "x"}},
        {"id": "c", "capability": "test.echo", "params": {"text": "y"}, "depends_on": ["b"]},
    ], "deadline_ms": 60_000});
    let (status, answer) = mesh.run(&plan).await;
    assert_eq!(status, 200, "{answer}");
    assert_eq!(
        (&answer["state"], &answer["planner"]),
        (&json!("completed"), &json!("given"))
    );
    let tasks = answer["tasks"].as_array().unwrap();
    let results: Vec<_> = tasks
        .iter()
        .map(|t| (t["id"].clone(), t["result"]["text"].clone()))
        .collect();
    assert_eq!(
        json!(results),
        json!([["a", "x."], ["b", "x.."], ["c", "y."]])
    );
    let id = answer["request_id"].as_str().unwrap();
    let shown: Value = mesh
        .get(&format!("/requests/{id}"))
        .await
        .json()
        .await
        .unwrap();
    assert_eq!(shown["query"], "run test.repeat, test.echo, test.echo");
}

#[tokio::test]
async fn a_plan_that_cannot_run_is_refused_by_task_and_param_before_any_work() {
    let mesh = TestMesh::start(Setup::default()).await;
    let echo = json!({"capability": "test.echo", "params": {"text": "x"}});
    for (task, code, named) in [
        (
            json!({"capability": "test.repeat", "params": {"text": {"a": 1}}}),
            "invalid_plan",
            &["tasks[1].params.text"][..],
        ),
        (
            json!({"id": "r", "capability": "test.repeat", "params": {}}),
            "invalid_plan",
            &["tasks[1]", "'r', test.repeat", "text"],
        ),
        (
            json!({"capability": "test.repeat", "params": {"text": "x", "tmes": 2}}),
            "invalid_plan",
            &["tasks[1].params.tmes"],
        ),
        (
            json!({"capability": "test.nothing"}),
            "unknown_capability",
            &["tasks[1].capability", "test.nothing"],
        ),
        (
            json!({"capability": "test.secret"}),
            "not_permitted",
            &["tasks[1]", "test.secret"],
        ),
        (
            json!({"id": "t2", "capability": "test.echo", "depends_on": ["t2"]}),
            "cyclic_plan",
            &["tasks[1]"],
        ),
        (
            json!({"capability": "test.echo", "depends_on": ["t9"]}),
            "invalid_plan",
            &["tasks[1].depends_on", "t9"],
        ),
    ] {
        let (status, answer) = mesh.run(&json!({"tasks": [echo, task]})).await;
        let error = &answer["error"];
        assert_eq!(error["code"], code, "{task}: {answer}");
        let expected = if code == "not_permitted" { 403 } else { 422 };
        assert_eq!(status.as_u16(), expected, "{task}: {answer}");
        for part in named {
            assert!(
                error["message"].as_str().unwrap().contains(part),
                "{part}: {error}"
            );
        }
        assert!(error["hint"].is_string(), "{error}");
    }
    let many = vec![echo; 33];
    let (_, refused) = mesh.run(&json!({"tasks": many})).await;
    assert_eq!(refused["error"]["code"], "budget_exceeded");
    assert_eq!(mesh.executions(), 0);
}

#[tokio::test]
async fn what_is_no_plan_is_refused_by_its_place() {
    let mesh = TestMesh::start(Setup::default()).await;
    let echo = json!({"capability": "test.echo", "params": {"text": "x"}});
    for (body, named) in [
        (json!({"tasks": []}), "no task"),
        (json!({}), "tasks"),
        (json!({"query": "echo x"}), "query"),
        (json!({"tasks": [{"params": {}}]}), "tasks[0]"),
        (
            json!({"tasks": [echo, {"capability": "test.echo", "param": {}}]}),
            "tasks[1].param",
        ),
        (
            json!({"tasks": [{"capability": "test.echo", "params": []}]}),
            "tasks[0].params",
        ),
        (
            json!({"tasks": [{"capability": "test.echo", "replaces": ["t1"]}]}),
            "replaces",
        ),
        (
            json!({"tasks": [echo], "deadline_ms": 600_001}),
            "deadline_ms",
        ),
    ] {
        let (status, answer) = mesh.run(&body).await;
        assert_eq!(
            (status.as_u16(), &answer["error"]["code"]),
            (400, &json!("bad_request")),
            "{body}: {answer}"
        );
        assert!(
            answer["error"]["message"].as_str().unwrap().contains(named),
            "{body}: {answer}"
        );
    }
    assert_eq!(mesh.executions(), 0);
}

#[tokio::test]
async fn an_irreversible_task_of_a_given_plan_asks_a_person_first() {
    let mesh = TestMesh::start(Setup::default()).await;
    let plan = json!({"tasks": [{"capability": "test.send", "params": {"text": "bob"}}]});
    let (status, asked) = mesh.run(&plan).await;
    assert_eq!((status.as_u16(), mesh.executions()), (202, 0), "{asked}");
    assert_eq!(asked["flows"][0]["capability"], "test.send");
    let mut none = plan.clone();
    none["flows"] = json!([]);
    let (status, refused) = mesh.run(&none).await;
    assert_eq!(
        (status.as_u16(), &refused["error"]["code"]),
        (422, &json!("flow_unsupported"))
    );
    assert_eq!(mesh.executions(), 0);
}

#[tokio::test]
async fn one_key_is_one_plan() {
    let mesh = TestMesh::start(Setup::default()).await;
    let run = |text: &str| {
        let plan = json!({"tasks": [{"capability": "test.echo", "params": {"text": text}}]});
        mesh.post("/run")
            .header("idempotency-key", "k")
            .json(&plan)
            .send()
    };
    assert_eq!(run("x").await.unwrap().status(), 200);
    assert_eq!(
        run("x").await.unwrap().headers()["idempotency-replayed"],
        "true"
    );
    assert_eq!(run("y").await.unwrap().status(), 409);
    assert_eq!(mesh.executions(), 1);
}

#[tokio::test]
async fn an_answer_comes_as_events_with_the_answer_last() {
    let mesh = TestMesh::start(Setup::default()).await;
    let plan = json!({"tasks": [{"capability": "test.echo", "params": {"text": "x"}}]});
    for (path, body) in [("/ask", json!({"query": "echo x"})), ("/run", plan)] {
        let response = mesh.accepting("text/event-stream", path, &body).await;
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        let location = response.headers()["location"].to_str().unwrap().to_owned();
        let events = timeout(PATIENCE, response.text()).await.unwrap().unwrap();
        let named = events
            .lines()
            .filter_map(|line| line.strip_prefix("event: "));
        let names: Vec<_> = named.collect();
        assert_eq!(
            names,
            [
                "progress.accepted",
                "progress.planned",
                "progress.dispatched",
                "progress.completed",
                "progress.answered",
                "user.response",
            ]
        );
        let last = events
            .lines()
            .rfind(|line| line.starts_with("data: "))
            .unwrap();
        let last: Value = serde_json::from_str(&last["data: ".len()..]).unwrap();
        assert_eq!(last["data"]["tasks"][0]["result"]["text"], "x.");
        assert!(location.ends_with(last["correlationid"].as_str().unwrap()));
    }
    let refused = mesh
        .accepting("text/event-stream", "/ask", &json!({"query": ""}))
        .await;
    assert_eq!(error_code(refused).await.0, 400, "a refusal is JSON");
}

#[tokio::test]
async fn a_stream_shows_a_flow_and_goes_on_after_its_answer() {
    let mesh = TestMesh::start(Setup::default()).await;
    let mut stream = mesh
        .accepting("text/event-stream", "/ask", &json!({"query": "send bob"}))
        .await;
    let mut text = String::new();
    while !text.contains("progress.flow_required") || !text.ends_with("\n\n") {
        let chunk = timeout(PATIENCE, stream.chunk())
            .await
            .unwrap()
            .unwrap()
            .unwrap();
        text += std::str::from_utf8(&chunk).unwrap();
    }
    let location = stream.headers()["location"].to_str().unwrap().to_owned();
    let shown: Value = mesh.get(&location).await.json().await.unwrap();
    let flow = &shown["flows"][0];
    let answer = json!({"decision": "approve", "digest": flow["digest"]});
    let path = format!("{location}/flows/{}", flow["id"].as_str().unwrap());
    let answered = mesh.post(&path).json(&answer).send().await.unwrap();
    assert_eq!(answered.status(), 200);
    let rest = timeout(PATIENCE, stream.text()).await.unwrap().unwrap();
    assert!(
        rest.contains("progress.flow_ended") && rest.contains("event: user.response"),
        "{rest}"
    );
}

#[tokio::test]
async fn plain_text_has_the_answer_alone_and_errors_with_hints() {
    let mesh = TestMesh::start(Setup::default()).await;
    let ask = |query: &str| {
        let body = json!({"query": query});
        let mesh = &mesh;
        async move {
            let response = mesh.accepting("text/plain", "/ask", &body).await;
            assert_eq!(
                response.headers()["content-type"],
                "text/plain; charset=utf-8"
            );
            (response.status().as_u16(), response.text().await.unwrap())
        }
    };
    assert_eq!(ask("echo x").await, (200, "x.\n".to_owned()));
    let (status, failed) = ask("fail").await;
    assert_eq!(status, 422);
    assert!(
        failed.starts_with("error: ") && failed.contains("[task_failed]"),
        "{failed}"
    );
    let (status, refused) = ask("").await;
    assert_eq!(status, 400);
    assert_eq!(refused.lines().count(), 2, "{refused}");
    assert!(refused.contains("\nhint: say what you want"), "{refused}");
    let (status, partial) = ask("echo x and fail").await;
    assert_eq!(status, 200);
    assert!(
        partial.starts_with("x.") && partial.contains("\npartial: "),
        "{partial}"
    );
    let (status, waits) = ask("send bob").await;
    assert_eq!(status, 202);
    assert!(
        waits.contains("confirmation: May test.send be done?"),
        "{waits}"
    );
    // Refusals of every route, those of the entrance too.
    for (method, path, status) in [(Method::GET, "/nothing", 404), (Method::GET, "/ask", 405)] {
        let request = mesh
            .http
            .request(method, mesh.url(path))
            .header("accept", "text/plain");
        let response = request.send().await.unwrap();
        assert_eq!(response.status().as_u16(), status);
        let text = response.text().await.unwrap();
        assert!(
            text.starts_with("error: ") && text.contains("\nhint: "),
            "{text}"
        );
    }
}

#[tokio::test]
async fn what_no_answer_looks_like_is_not_acceptable_and_nothing_begins() {
    let mesh = TestMesh::start(Setup::default()).await;
    for form in [
        "image/png",
        "application/xml, text/html",
        "application/json;q=0",
    ] {
        for path in ["/ask", "/run"] {
            let response = mesh
                .accepting(form, path, &json!({"query": "echo x"}))
                .await;
            let refused = (StatusCode::NOT_ACCEPTABLE, "not_acceptable".into());
            assert_eq!(error_code(response).await, refused, "{form}");
        }
    }
    let any = mesh
        .accepting("text/html, */*;q=0.1", "/ask", &json!({"query": "echo x"}))
        .await;
    assert_eq!(any.headers()["content-type"], "application/json");
}
