//! `amcp keys` and `amcp audit` as a user meets them.

use amcp_tests::process::Sandbox;
use serde_json::Value;

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
