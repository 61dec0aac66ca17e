//! The data folder: who may read it, and that it has one node.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use amcp_tests::process::{Node, Sandbox};

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o777
}

fn set_mode(path: &Path, mode: u32) {
    std::fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

#[tokio::test]
async fn the_data_folder_is_private_also_when_an_earlier_build_left_it_open() {
    let sandbox = Sandbox::new();
    let data = sandbox.path().join("d");
    let reports = data.join("reports");
    std::fs::create_dir_all(&reports).unwrap();
    for file in [reports.join("old.pdf"), data.join("ledger.sqlite")] {
        std::fs::write(&file, "").unwrap();
        set_mode(&file, 0o644);
    }
    set_mode(&reports, 0o755);
    set_mode(&data, 0o755);
    let _node = Node::start(&sandbox, &["--data", "d"], &[]).await;
    assert_eq!((mode(&data), mode(&reports)), (0o700, 0o700));
    for file in ["reports/old.pdf", "ledger.sqlite", "node.lock"] {
        assert_eq!(mode(&data.join(file)), 0o600, "{file}");
    }
    // What a command writes is private too, and a folder that is not AMCP's keeps its rights.
    let home = sandbox.path().join("home");
    std::fs::create_dir(&home).unwrap();
    std::fs::write(home.join("mine.txt"), "").unwrap();
    set_mode(&home, 0o755);
    let ask = [
        "ask",
        "--offline",
        "--data",
        "home",
        "Produce an expense summary report for Q4 2024",
    ];
    let ran = sandbox.run(ask).await;
    assert_eq!(ran.code, 0, "{ran:?}");
    assert_eq!((mode(&home), mode(&home.join("reports"))), (0o755, 0o700));
    assert_eq!(mode(&home.join("ledger.sqlite")), 0o600);
    for file in std::fs::read_dir(home.join("reports")).unwrap() {
        assert_eq!(mode(&file.unwrap().path()), 0o600);
    }
}

#[tokio::test]
async fn a_data_folder_has_one_node_and_commands_beside_it() {
    let sandbox = Sandbox::new();
    let node = Node::start(&sandbox, &["--offline"], &[]).await;
    let second = sandbox.run(["node", "--http", "127.0.0.1:0"]).await;
    assert_eq!(second.code, 1, "{second:?}");
    let holder = format!("process {}", node.id());
    assert!(second.stderr.contains(&holder), "{holder}: {second:?}");
    assert!(
        second.stderr.contains("hint: ") && second.stderr.contains("--data"),
        "{second:?}"
    );
    let beside = sandbox.run(["ask", "--offline", "What is 17 * 23?"]).await;
    assert_eq!(beside.code, 0, "{beside:?}");
    // The lock ends with its process, however that ends.
    node.signal("KILL").await;
    node.ended().await;
    Node::start(&sandbox, &["--offline"], &[]).await;
}
