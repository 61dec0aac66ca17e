//! `amcp requests`, `show`, `cancel` and `logs` beside a running node.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

use amcp_tests::process::{Node, Ran, Sandbox, finish};

async fn at(node: &Node, sandbox: &Sandbox, args: &[&str]) -> Ran {
    let mut command = sandbox.amcp(args);
    command.env("AMCP_URL", node.url(""));
    finish(command).await
}

#[tokio::test]
async fn requests_are_listed_shown_and_their_events_printed() {
    let sandbox = Sandbox::new();
    let node = Node::start(&sandbox, &["--offline"], &[]).await;
    let asked = at(&node, &sandbox, &["ask", "--json", "What is 17 * 23?"]).await;
    assert_eq!(asked.code, 0, "{asked:?}");
    let id = asked.json()["request_id"].as_str().unwrap().to_owned();
    let listed = at(&node, &sandbox, &["requests", "--json"]).await.json();
    assert_eq!(
        listed["requests"][0]["request_id"],
        id.as_str(),
        "the node of AMCP_URL answered"
    );
    let table = at(
        &node,
        &sandbox,
        &["requests", "--state", "completed", "--since", "1h"],
    )
    .await;
    assert_eq!(table.code, 0, "{table:?}");
    for part in ["ACCEPTED", &id, "What is 17 * 23?"] {
        assert!(table.stdout.contains(part), "{part}: {table:?}");
    }
    let shown = at(&node, &sandbox, &["show", &id]).await;
    for part in [
        &id,
        "completed",
        "t1  math.eval  completed by math-1",
        "391",
    ] {
        assert!(shown.stdout.contains(part), "{part}: {shown:?}");
    }
    let logs = at(&node, &sandbox, &["logs", &id]).await;
    let parts = [
        "accepted: What is",
        "planned by embedded",
        "✓ t1 done",
        "answered: completed",
    ];
    let places: Vec<_> = parts.iter().map(|part| logs.stdout.find(part)).collect();
    assert!(
        places.iter().all(Option::is_some) && places.is_sorted(),
        "{logs:?}"
    );
    let events = at(&node, &sandbox, &["logs", &id, "--json"]).await;
    let events = events
        .stdout
        .lines()
        .map(|line| serde_json::from_str(line).unwrap());
    let events: Vec<serde_json::Value> = events.collect();
    assert_eq!(events[0]["type"], "progress.accepted");
    let cancelled = at(&node, &sandbox, &["cancel", &id]).await;
    assert_eq!(
        cancelled.stdout.trim(),
        format!("Request {id} is completed.")
    );
}

#[tokio::test]
async fn what_cannot_be_is_refused_with_a_hint() {
    let sandbox = Sandbox::new();
    let node = Node::start(&sandbox, &["--offline"], &[]).await;
    let nobody = "123e4567-e89b-12d3-a456-426614174999";
    for (args, code, said) in [
        (&["show", nobody][..], 1, "there is no request"),
        (&["cancel", nobody], 1, "there is no request"),
        (&["logs", nobody], 1, "there is no request"),
        (&["show", "x"], 2, "invalid value 'x'"),
        (&["requests", "--state", "done"], 2, "awaiting_flow"),
        (&["requests", "--limit", "0"], 2, "between 1 and 100"),
        (&["requests", "--user", "ann"], 1, "names another user"),
    ] {
        let ran = at(&node, &sandbox, args).await;
        assert_eq!(
            (ran.code, ran.stdout.as_str()),
            (code, ""),
            "{args:?}: {ran:?}"
        );
        assert!(ran.stderr.contains(said), "{args:?}: {ran:?}");
    }
    let json = at(&node, &sandbox, &["show", nobody, "--json"]).await;
    assert_eq!(json.json()["error"]["code"], "not_found");
    let local = sandbox
        .run(["ask", "--idempotency-key", "k", "hello"])
        .await;
    assert_eq!(local.code, 2, "{local:?}");
    assert!(local.stderr.contains("--url"), "{local:?}");
}
