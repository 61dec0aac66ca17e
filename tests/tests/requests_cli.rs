//! `amcp requests`, `show`, `cancel` and `logs` beside a running node; `amcp run` there and in its own process.

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

#[tokio::test]
async fn a_capability_or_a_plan_runs_here_and_at_a_node() {
    let sandbox = Sandbox::new();
    let node = Node::start(&sandbox, &["--offline"], &[]).await;
    let plan = r#"{"tasks": [{"id": "sum", "capability": "math.eval", "params": {"expression": "17 * 23"}},
        {"capability": "text.summarize", "params": {"text": {"$ref": "sum", "path": "/text"}}}]}"#;
    std::fs::write(sandbox.path().join("plan.json"), plan).unwrap();
    let bad = r#"{"tasks": [{"capability": "math.eval", "param": {}}]}"#;
    std::fs::write(sandbox.path().join("bad.json"), bad).unwrap();
    let one = &["run", "math.eval", "--param", "expression=17 * 23"][..];
    for remote in [false, true] {
        let run = async |args: &[&str]| match remote {
            true => at(&node, &sandbox, args).await,
            false => sandbox.run([args, &["--offline"]].concat()).await,
        };
        let ran = run(one).await;
        assert_eq!((ran.code, ran.stderr.as_str()), (0, ""), "{ran:?}");
        assert!(ran.stdout.contains("391"), "{ran:?}");
        let ran = run(&["run", "--plan", "plan.json", "--json"]).await;
        assert_eq!(ran.code, 0, "{ran:?}");
        assert_eq!(ran.json()["planner"], "given");
        assert_eq!(ran.json()["tasks"][0]["id"], "sum");
        for (args, code, said) in [
            (&["run", "math.eval"][..], 1, "expression"),
            // No joke is told for want of a text.
            (&["run", "text.summarize"], 1, "needs 'text'"),
            (
                &["run", "math.evil", "--param", "expression=1"],
                1,
                "math.evil",
            ),
            (
                &["run", "math.eval", "--param", "expression"],
                2,
                "NAME=VALUE",
            ),
            (&["run"], 2, "--plan"),
            (
                &["run", "math.eval", "--plan", "plan.json"],
                2,
                "cannot be used with",
            ),
            (
                &["run", "--plan", "bad.json"],
                2,
                "tasks[0].param: unknown field",
            ),
            (&["run", "--plan", "none.json"], 2, "none.json"),
        ] {
            let ran = run(args).await;
            assert_eq!(
                (ran.code, ran.stdout.as_str()),
                (code, ""),
                "{args:?}: {ran:?}"
            );
            assert!(
                ran.stderr.contains(said) && ran.stderr.contains("error:"),
                "{args:?}: {ran:?}"
            );
        }
    }
}

#[tokio::test]
async fn shells_and_man_know_every_command() {
    let sandbox = Sandbox::new();
    for shell in ["bash", "zsh", "fish"] {
        let ran = sandbox.run(["completions", shell]).await;
        assert_eq!((ran.code, ran.stderr.as_str()), (0, ""), "{ran:?}");
        for word in ["requests", "idempotency-key", "max-requests"] {
            assert!(ran.stdout.contains(word), "{shell}: {word}");
        }
    }
    let ran = sandbox.run(["man", "share/man1"]).await;
    assert_eq!(ran.code, 0, "{ran:?}");
    for name in [
        "amcp.1",
        "amcp-ask.1",
        "amcp-keys-create.1",
        "amcp-completions.1",
    ] {
        let page = std::fs::read_to_string(sandbox.path().join("share/man1").join(name));
        assert!(
            page.is_ok_and(|page| page.contains(".SH SYNOPSIS")),
            "{name}"
        );
    }
    let ran = sandbox.run(["completions", "cmd"]).await;
    assert_eq!(ran.code, 2, "{ran:?}");
    std::fs::write(sandbox.path().join("file"), "").unwrap();
    let ran = sandbox.run(["man", "file"]).await;
    assert_eq!(ran.code, 1, "{ran:?}");
    assert!(ran.stderr.contains("hint:"), "{ran:?}");
}
