//! `amcp demo --cluster`: three nodes of this binary, three faults, nothing lost and nothing left behind.

use amcp_tests::process::{PATIENCE, Sandbox};
use tokio::time::timeout;

#[tokio::test]
async fn everything_is_answered_while_nodes_are_killed_frozen_and_cut_off() {
    let sandbox = Sandbox::new();
    let mut demo = sandbox.amcp(["demo", "--cluster", "3"]);
    demo.env("TMPDIR", sandbox.path());
    // The three faults alone take half of the patience with one command.
    let ran = timeout(2 * PATIENCE, demo.output()).await.unwrap().unwrap();
    let said = String::from_utf8_lossy(&ran.stdout);
    let troubles = String::from_utf8_lossy(&ran.stderr);
    assert!(ran.status.success(), "{said}{troubles}");
    for expected in [
        "b killed (-9)",
        "c frozen",
        "b cut off",
        "Every request was answered exactly once",
    ] {
        assert!(said.contains(expected), "{expected} is missing in:\n{said}");
    }
    let left: Vec<_> = std::fs::read_dir(sandbox.path()).unwrap().collect();
    assert!(left.is_empty(), "{left:?}");
}

#[tokio::test]
async fn fewer_than_three_nodes_are_refused() {
    let ran = Sandbox::new().run(["demo", "--cluster", "2"]).await;
    assert_eq!(ran.code, 2, "{ran:?}");
    assert!(ran.stderr.contains("3..=9"), "{ran:?}");
}
