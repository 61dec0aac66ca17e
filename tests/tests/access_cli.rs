//! `amcp keys` as a user meets it.

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
