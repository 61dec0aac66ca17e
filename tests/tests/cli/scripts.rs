//! What programs that call the command line read.

use std::process::Stdio;

use amcp_tests::process::{Node, Sandbox};
use tokio::io::AsyncWriteExt;

#[tokio::test]
async fn a_refusal_is_json_where_json_is_asked_for() {
    let sandbox = Sandbox::new();
    for (args, code) in [
        (&["ask", "--json", ""][..], "bad_request"),
        (&["plan", "--json", ""], "bad_request"),
        (&["ask", "--json", "x", "--llm", "oracle"], "bad_request"),
        (
            &["ask", "--json", "x", "--url", "http://127.0.0.1:1"],
            "internal",
        ),
        (&["agents", "--json", "--specialists"], ""),
    ] {
        let ran = sandbox.run(args).await;
        assert_ne!(ran.code, 0, "{ran:?}");
        // The parser of the command line has words of its own.
        if !code.is_empty() {
            assert_eq!(ran.json()["error"]["code"], code, "{ran:?}");
            assert!(ran.stderr.contains("error: "), "{ran:?}");
        }
    }
}

#[tokio::test]
async fn a_flag_that_another_node_does_not_see_is_named() {
    let sandbox = Sandbox::new();
    let node = Node::start(&sandbox, &["--offline"], &[]).await;
    let url = node.url("");
    let args = [
        "ask",
        "--url",
        &url,
        "--llm",
        "openai",
        "--deadline",
        "20s",
        "What is 17 * 23?",
    ];
    let ran = sandbox.run(args).await;
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(
        ran.stderr.contains("--llm has no effect with --url"),
        "{ran:?}"
    );
    assert!(!ran.stderr.contains("--deadline"), "{ran:?}");
}

#[tokio::test]
async fn a_query_that_is_too_long_is_reported_with_its_size() {
    let sandbox = Sandbox::new();
    let mut command = sandbox.amcp(["ask", "--offline", "-"]);
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut process = command.spawn().unwrap();
    let mut stdin = process.stdin.take().unwrap();
    // A letter of two bytes stands across every bound that a reader may have.
    stdin
        .write_all("xé".repeat(400_000).as_bytes())
        .await
        .unwrap();
    drop(stdin);
    let output = process.wait_with_output().await.unwrap();
    assert_eq!(output.status.code(), Some(2));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("1200000 bytes"), "{said}");
}
