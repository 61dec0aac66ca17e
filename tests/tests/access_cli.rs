//! `amcp keys` and `amcp audit` as a user meets them.

use amcp_tests::fake_ollama::{FakeOllama, Reply};
use amcp_tests::process::{Node, Sandbox, client};
use serde_json::{Value, json};

#[tokio::test]
async fn a_key_is_printed_once_and_alone_and_lives_until_it_is_ended() {
    let sandbox = Sandbox::new();
    let create = ["keys", "create", "ana", "--roles", "analyst,clerk"];
    let made = sandbox.run(create).await;
    assert_eq!(made.code, 0, "{made:?}");
    let key = made.stdout.trim_end();
    let id = key.split('_').nth(1).unwrap();
    assert!(key.starts_with("amcp_") && key.len() == 57, "{key}");
    assert!(made.stderr.contains(id) && !made.stderr.contains(key));
    let timed = [
        "keys",
        "create",
        "bob",
        "--expires",
        "90d",
        "--name",
        "laptop",
    ];
    assert_eq!(sandbox.run(timed).await.code, 0);
    let rotated = sandbox.run(["keys", "rotate", id, "--overlap", "1h"]).await;
    assert_eq!(rotated.code, 0, "{rotated:?}");
    assert!(rotated.stderr.contains("valid until"), "{rotated:?}");
    assert_ne!(rotated.stdout.trim_end(), key);
    assert_eq!(sandbox.run(["keys", "revoke", id]).await.code, 0);
    let listed = sandbox.run(["keys", "list", "--json"]).await.stdout;
    assert!(!listed.contains(key), "no secret in the list");
    let listed: Value = serde_json::from_str(&listed).unwrap();
    let keys = listed["keys"].as_array().unwrap();
    let of = |member: &str| -> Vec<&Value> { keys.iter().map(|key| &key[member]).collect() };
    assert_eq!(of("user"), ["ana", "bob", "ana"]);
    assert_eq!(of("ended"), [true, false, false]);
    assert_eq!(keys[2]["roles"], serde_json::json!(["analyst", "clerk"]));
    let table = sandbox.run(["keys", "list"]).await.stdout;
    assert!(
        table.contains("laptop") && table.contains("ended "),
        "{table}"
    );
}

#[tokio::test]
async fn what_keys_cannot_do_is_refused_with_a_reason() {
    let sandbox = Sandbox::new();
    for (args, said) in [
        (&["keys", "create", ""][..], "user's name"),
        (&["keys", "create", "anonymous"], "anonymous"),
        (&["keys", "create", "ana", "--roles", "a,,b"], "roles"),
        (
            &["keys", "create", "ana", "--expires", "soon"],
            "such as 90d",
        ),
        (&["keys", "revoke", "00000000"], "amcp keys list"),
        (&["keys", "rotate", "00000000"], "no key has the id"),
    ] {
        let ran = sandbox.run(args).await;
        assert_eq!(
            (ran.code, ran.stdout.as_str()),
            (2, ""),
            "{args:?}: {ran:?}"
        );
        assert!(ran.stderr.contains(said), "{args:?}: {ran:?}");
    }
}

#[tokio::test]
async fn changes_of_keys_are_audited_and_a_changed_record_is_named() {
    let sandbox = Sandbox::new();
    let early = sandbox.run(["audit", "verify"]).await;
    assert_eq!(early.code, 1, "{early:?}");
    for user in ["ana", "bob"] {
        let made = sandbox.run(["keys", "create", user, "--data", "d"]).await;
        assert_eq!(made.code, 0, "{made:?}");
    }
    let verify = ["audit", "verify", "--data", "d"];
    let verified = sandbox.run(verify).await;
    assert_eq!(verified.code, 0, "{verified:?}");
    assert!(verified.stdout.contains("Records 1 to 2"), "{verified:?}");
    assert!(verified.stdout.contains("All of them are anchored"));
    let digits = std::fs::read_to_string(sandbox.path().join("d/audit/anchor.pub")).unwrap();
    let pinned = [
        "audit",
        "verify",
        "--data",
        "d",
        "--public-key",
        digits.trim(),
    ];
    assert_eq!(sandbox.run(pinned).await.code, 0);
    let shown = sandbox
        .run(["audit", "show", "--data", "d", "--what", "key"])
        .await;
    assert!(shown.stdout.contains("key.created") && shown.stdout.contains("of bob"));
    let exported = sandbox.run(["audit", "export", "--data", "d"]).await.stdout;
    let records: Vec<Value> = exported
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(
        (records.len(), &records[1]["what"]),
        (2, &"key.created".into())
    );
    let none = sandbox
        .run([
            "audit",
            "show",
            "--data",
            "d",
            "--since",
            "2999-01-01T00:00:00Z",
        ])
        .await;
    assert_eq!((none.code, none.stdout.as_str()), (0, ""));
    let log = sandbox.path().join("d/audit/00000000000000000001.log");
    let forged = std::fs::read_to_string(&log)
        .unwrap()
        .replace("of ana", "of eve");
    std::fs::write(&log, forged).unwrap();
    let found = sandbox.run(verify).await;
    assert_eq!(found.code, 1, "{found:?}");
    assert!(
        found.stderr.contains("line 1: record 1: it was changed"),
        "{found:?}"
    );
}

#[tokio::test]
async fn a_served_request_is_audited_from_its_acceptance_to_its_end() {
    let sandbox = Sandbox::new();
    let rules = "offline = true\ndata = 'd'\naudit.anchors = 'heads.log'\n[roles.everyone]\ndeny = ['stocks.*']\n";
    std::fs::write(sandbox.path().join("n.toml"), rules).unwrap();
    let made = sandbox
        .run(["keys", "create", "ana", "--config", "n.toml"])
        .await;
    let key = made.stdout.trim_end();
    let mut node = Node::start(&sandbox, &["--config", "n.toml"], &[]).await;
    let url = node.url("/ask");
    let ask = async |key: &str, query: &str| {
        let post = client().post(&url).bearer_auth(key);
        post.json(&json!({"query": query})).send().await.unwrap()
    };
    assert_eq!(ask(key, "What is 17 * 23?").await.status(), 200);
    assert_eq!(
        ask(&format!("{key}x"), "What is 1 + 1?").await.status(),
        401
    );
    assert_eq!(ask(key, "").await.status(), 400);
    let rules = format!("{rules}[roles.analyst]\ndeny = ['jokes.*']\n");
    std::fs::write(sandbox.path().join("n.toml"), rules).unwrap();
    node.signal("HUP").await;
    node.says("roles changed").await;
    node.signal("TERM").await;
    let (code, log) = node.ended().await;
    assert_eq!(code, 0, "{log}");
    let exported = sandbox
        .run(["audit", "export", "--config", "n.toml"])
        .await
        .stdout;
    let records: Vec<Value> = exported
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let kinds: Vec<&Value> = records.iter().map(|record| &record["what"]).collect();
    let expected = [
        "key.created",
        "policy.changed",
        "request.accepted",
        "task.dispatched",
        "task.ended",
        "request.ended",
        "login.refused",
        "request.refused",
        "policy.changed",
    ];
    assert_eq!(kinds, expected);
    assert_eq!(records[2]["text"]["text"], "What is 17 * 23?");
    for record in &records[2..6] {
        assert_eq!(record["user"], "ana", "{record}");
        assert_eq!(record["by"]["key"], key.split('_').nth(1).unwrap());
        assert_eq!(record["request"], records[2]["request"]);
    }
    assert_eq!(records[3]["capability"], records[4]["capability"]);
    assert_eq!(
        records[3]["params"].as_str().unwrap().len(),
        64,
        "their hash"
    );
    assert!(!exported.contains(key), "no secret in the log");
    assert_eq!(records[5]["outcome"], "completed");
    assert_eq!(records[7]["decision"], "bad_request");
    let verified = sandbox.run(["audit", "verify", "--config", "n.toml"]).await;
    assert!(
        verified.stdout.contains("All of them are anchored"),
        "{verified:?}"
    );
    assert!(sandbox.path().join("heads.log").is_file());
}

#[tokio::test]
async fn a_given_plan_is_audited_like_a_query() {
    let sandbox = Sandbox::new();
    let node = Node::start(&sandbox, &["--offline"], &[]).await;
    let task = json!({"id": "t1", "capability": "math.eval", "params": {"expression": "17 * 23"}});
    let post = client()
        .post(node.url("/run"))
        .json(&json!({"tasks": [task]}));
    assert_eq!(post.send().await.unwrap().status(), 200);
    node.signal("TERM").await;
    assert_eq!(node.ended().await.0, 0);
    let exported = sandbox.run(["audit", "export"]).await.stdout;
    let accepted: Value = serde_json::from_str(exported.lines().nth(1).unwrap()).unwrap();
    assert_eq!(
        (&accepted["what"], &accepted["user"]),
        (&json!("request.accepted"), &json!("anonymous"))
    );
    let text = accepted["text"]["text"].as_str().unwrap();
    assert!(
        text.contains("math.eval") && text.contains("17 * 23"),
        "{text}"
    );
    assert_eq!(exported.lines().count(), 5, "{exported}");
}

#[tokio::test]
async fn rules_that_a_restart_took_away_are_in_the_audit_log() {
    let sandbox = Sandbox::new();
    let file = sandbox.path().join("n.toml");
    for rules in ["anonymous = false\n[roles.clerk]\ndeny = ['jokes.*']\n", ""] {
        std::fs::write(&file, rules).unwrap();
        let node = Node::start(&sandbox, &["--offline", "--config", "n.toml"], &[]).await;
        node.signal("TERM").await;
        assert_eq!(node.ended().await.0, 0);
    }
    let exported = sandbox.run(["audit", "export"]).await.stdout;
    let records = exported
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap());
    let said = records.map(|record| {
        assert_eq!(record["what"], "policy.changed");
        let text: Value = serde_json::from_str(record["text"]["text"].as_str().unwrap()).unwrap();
        (record["outcome"].clone(), text["once"]["anonymous"].clone())
    });
    let rules = |roles, anonymous| {
        let outcome = format!("rules of {roles} roles and 0 agents");
        (json!(outcome), json!(anonymous))
    };
    assert_eq!(said.collect::<Vec<_>>(), [rules(1, false), rules(0, true)]);
}

/// A folder in the place of the log's file: it cannot be opened for writing, whoever tries.
#[tokio::test]
async fn without_its_audit_log_a_node_takes_no_request_unless_it_was_told_to() {
    for (on_failure, status) in [("refuse", 503), ("continue", 200)] {
        let sandbox = Sandbox::new();
        let data = sandbox.path().join("d");
        let args = ["--offline", "--data", "d", "--audit-on-failure", on_failure];
        let mut node = Node::start(&sandbox, &args, &[]).await;
        let url = node.url("/ask");
        let ask = async || {
            let post = client().post(&url);
            post.json(&json!({"query": "What is 17 * 23?"}))
                .send()
                .await
                .unwrap()
        };
        assert_eq!(ask().await.status(), 200);
        std::fs::rename(data.join("audit"), data.join("before")).unwrap();
        std::fs::write(data.join("audit"), "").unwrap();
        // The thread that writes sees it with the next records.
        let refused = amcp_tests::process::until(async || ask().await.status() == status).await;
        assert!(refused, "{on_failure}");
        node.says("the audit log cannot be written").await;
        let ready = client().get(node.url("/readyz")).send().await.unwrap();
        assert!(ready.text().await.unwrap().contains("audit log"));
        assert_eq!(ask().await.status(), status);
    }
}

#[tokio::test]
async fn a_policy_is_explained_with_the_line_of_its_rule() {
    let sandbox = Sandbox::new();
    let rules = "offline = true\n[roles.analyst]\nallow = [\n  'finance.*',\n]\n[roles.trainee]\ndeny = ['finance.*']\n";
    std::fs::write(sandbox.path().join("n.toml"), rules).unwrap();
    let key = ["keys", "create", "ana", "--roles", "analyst"];
    assert_eq!(sandbox.run(key).await.code, 0);
    let explain = async |args: &[&str]| {
        let command = ["policy", "explain", "--config", "n.toml"];
        sandbox.run(command.iter().chain(args)).await
    };
    for (args, code, said) in [
        (&["ana", "finance.db.query"][..], 0, "'finance.*'  n.toml:4"),
        (
            &["ana", "finance.db.query", "--roles", "analyst,trainee"],
            1,
            "[roles.trainee] deny 'finance.*'",
        ),
        (
            &["bob", "finance.db.query"],
            1,
            "no rule of 'everyone' allows it",
        ),
        (&["ana", "weather.get"], 1, "planner   does not see it"),
    ] {
        let ran = explain(args).await;
        assert_eq!(ran.code, code, "{args:?}: {ran:?}");
        assert!(ran.stdout.contains(said), "{args:?}: {ran:?}");
    }
    let rules = "[roles.trainee]\ndeny = ['finance.*']\n";
    std::fs::write(sandbox.path().join("denies.toml"), rules).unwrap();
    let denies = ["--config", "denies.toml"];
    let allowed = ["policy", "explain", "ana", "weather.get"];
    let ran = sandbox.run(allowed.iter().chain(&denies)).await;
    assert!(ran.stdout.contains("no role has `allow`"), "{ran:?}");
    let denied = explain(&["ana", "finance.db.query", "--roles", "trainee", "--json"])
        .await
        .json();
    assert_eq!(
        (&denied["allowed"], &denied["line"]),
        (&json!(false), &json!(7))
    );
    assert_eq!(explain(&["ana", "Finance"]).await.code, 2);
}

#[tokio::test]
async fn agents_are_listed_with_what_ones_roles_may_use() {
    let sandbox = Sandbox::new();
    let rules = "offline = true\n[roles.analyst]\nallow = ['math.*']\n";
    std::fs::write(sandbox.path().join("n.toml"), rules).unwrap();
    let list = ["agents", "--json", "--config", "n.toml"];
    for (role, names) in [
        (&[][..], json!([])),
        (&["--role", "analyst"], json!(["math.eval"])),
    ] {
        let listed = sandbox.run(list.iter().chain(role)).await.json();
        let capabilities = listed["capabilities"].as_array().unwrap().iter();
        let listed: Vec<_> = capabilities.map(|capability| &capability["name"]).collect();
        assert_eq!(json!(listed), names);
    }
}

#[tokio::test]
async fn a_user_who_has_spent_the_budget_comes_back_later() {
    let sandbox = Sandbox::new();
    let rules = "offline = true\n[roles.everyone.budget]\nat_a_time = 1\nrequests_per_minute = 2\n[roles.analyst.budget]\nrequests_per_minute = 100\ntasks_per_day = 3\n";
    std::fs::write(sandbox.path().join("n.toml"), rules).unwrap();
    let config = ["--config", "n.toml"];
    let made = sandbox
        .run(["keys", "create", "ana", "--roles", "analyst"])
        .await;
    let key = made.stdout.trim_end();
    let node = Node::start(&sandbox, &config, &[]).await;
    let ask = async |key: &str| {
        let post = client().post(node.url("/ask"));
        let post = match key {
            "" => post,
            key => post.bearer_auth(key),
        };
        post.json(&json!({"query": "What is 17 * 23?"}))
            .send()
            .await
            .unwrap()
    };
    for (key, good, again) in [("", 2, 1..=30), (key, 3, 80_000..=86_400)] {
        for _ in 0..good {
            assert_eq!(ask(key).await.status(), 200, "{key}");
        }
        let refused = ask(key).await;
        assert_eq!(refused.status(), 429);
        let seconds = refused.headers()["retry-after"].to_str().unwrap();
        let seconds: u64 = seconds.parse().unwrap();
        assert!(again.contains(&seconds), "{seconds}");
        let body: Value = refused.json().await.unwrap();
        assert_eq!(body["error"]["code"], "quota_exceeded");
    }
    let metrics = client().get(node.url("/metrics")).bearer_auth(key);
    let metrics = metrics.send().await.unwrap().text().await.unwrap();
    assert!(metrics.contains("code=\"quota_exceeded\"} 2"), "{metrics}");
}

#[tokio::test]
async fn what_a_specialists_model_takes_counts() {
    let llm = FakeOllama::start().await;
    llm.otherwise(|_| Reply::text("In short."));
    let sandbox = Sandbox::new();
    let rules = "offline = true\nllm = 'ollama'\n[roles.everyone.budget]\nllm_calls_per_day = 2\n";
    std::fs::write(sandbox.path().join("n.toml"), rules).unwrap();
    let url = llm.url();
    let args = [
        "--config",
        "n.toml",
        "--model",
        FakeOllama::MODEL,
        "--ollama-url",
        &url,
    ];
    let node = Node::start(&sandbox, &args, &[]).await;
    let task = json!({"capability": "text.summarize", "params": {"text": "It rains. It pours."}});
    let other = json!({"capability": "text.summarize", "params": {"text": "The sun is out."}});
    let run = async || {
        let post = client().post(node.url("/run"));
        post.json(&json!({"tasks": [task, other]}))
            .send()
            .await
            .unwrap()
    };
    let answer: Value = run().await.json().await.unwrap();
    let (usage, chats) = (&answer["usage"], llm.chats().len());
    assert_eq!((usage["calls"].as_u64(), chats), (Some(2), 2), "{answer}");
    assert!(usage["prompt_tokens"].as_u64() > Some(0), "{usage}");
    assert_eq!(run().await.status(), 429);
}

#[tokio::test]
async fn a_key_that_cannot_be_shown_is_audited() {
    let sandbox = Sandbox::new();
    let create = ["keys", "create", "ana", "--roles", "admin"];
    let full = std::fs::File::options()
        .write(true)
        .open("/dev/full")
        .unwrap();
    let mut create = sandbox.amcp(create);
    let status = create.stdout(full).status().await.unwrap();
    assert!(!status.success(), "{status}");
    let shown = sandbox.run(["audit", "show"]).await;
    assert!(shown.stdout.contains("key.created"), "{shown:?}");
    let verified = sandbox.run(["audit", "verify"]).await;
    assert_eq!(verified.code, 0, "{verified:?}");
}

#[tokio::test]
async fn a_folder_with_keys_is_closed_to_other_users() {
    use std::os::unix::fs::PermissionsExt;
    let sandbox = Sandbox::new();
    let data = sandbox.path().join("d");
    std::fs::create_dir(&data).unwrap();
    std::fs::set_permissions(&data, PermissionsExt::from_mode(0o755)).unwrap();
    let made = sandbox.run(["keys", "create", "ana", "--data", "d"]).await;
    assert_eq!(made.code, 0, "{made:?}");
    let ran = sandbox.run(["doctor", "--offline", "--data", "d"]).await;
    let mode = std::fs::metadata(data).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700, "{ran:?}");
}
