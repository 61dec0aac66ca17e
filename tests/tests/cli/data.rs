//! The data folder: who may read it, and that it has one node.

use std::fs::{File, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, SystemTime};

use amcp_tests::cluster::until;
use amcp_tests::process::{Node, PATIENCE, Sandbox, client};
use serde_json::Value;

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
    let ask = ["ask", "--offline", "--data", "home", REPORT];
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

const REPORT: &str = "Produce an expense summary report for Q4 2024";

/// The last word that begins with `start`, without the sentence's end.
fn word(text: &str, start: &str) -> String {
    let mut words = text
        .split_whitespace()
        .filter(|word| word.starts_with(start));
    words
        .next_back()
        .unwrap_or_default()
        .trim_end_matches('.')
        .to_owned()
}

#[tokio::test]
async fn a_report_is_named_by_what_its_reader_can_open() {
    let sandbox = Sandbox::new();
    let folder = sandbox.path().to_str().unwrap();
    let node = Node::start(&sandbox, &["--offline", "--data", "n"], &[]).await;
    // Over HTTP: a path at any gateway, and no word of the node's folders.
    let asked = client()
        .post(node.url("/ask"))
        .body(REPORT)
        .header("content-type", "text/plain");
    let body = asked.send().await.unwrap().text().await.unwrap();
    assert!(
        !body.contains(folder) && !body.contains("127.0.0.1"),
        "{body}"
    );
    let answer: Value = serde_json::from_str(&body).unwrap();
    let link = word(answer["answer"].as_str().unwrap(), "/files/");
    assert_eq!(answer["tasks"][2]["result"]["url"], link, "{body}");
    let file = client().get(node.url(&link)).send().await.unwrap();
    assert!(file.bytes().await.unwrap().starts_with(b"%PDF-"));
    // At a terminal: the URL at the node that was asked, or the file.
    let ran = sandbox.run(["ask", "--url", &node.url(""), REPORT]).await;
    let url = word(&ran.stdout, "http://");
    assert!(url.starts_with(&node.url("/files/")), "{ran:?}");
    assert_eq!(client().get(url).send().await.unwrap().status(), 200);
    let ran = sandbox.run(["ask", "--offline", REPORT]).await;
    let file = word(&ran.stdout, folder);
    assert!(
        std::fs::read(&file).unwrap().starts_with(b"%PDF-"),
        "{ran:?}"
    );
    let ran = sandbox.run(["ask", "--offline", "--json", REPORT]).await;
    let file = ran.json()["tasks"][2]["result"]["url"].clone();
    assert!(Path::new(file.as_str().unwrap()).is_file(), "{ran:?}");
}

#[tokio::test]
async fn a_full_folder_refuses_reports_and_a_node_removes_old_ones() {
    let sandbox = Sandbox::new();
    let first = sandbox.run(["ask", "--offline", REPORT]).await;
    assert_eq!(first.code, 0, "{first:?}");
    let mut full = sandbox.amcp(["ask", "--offline", "--json", REPORT]);
    full.env("AMCP_REPORT_COUNT", "1");
    let full = amcp_tests::process::finish(full).await;
    assert_eq!(full.code, 3, "{full:?}");
    assert_eq!(full.json()["error"]["code"], "storage_full", "{full:?}");
    let report = sandbox
        .path()
        .join("amcp-data/reports")
        .join(word(&first.stdout, "/").rsplit('/').next().unwrap());
    let old = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
    File::options()
        .append(true)
        .open(&report)
        .unwrap()
        .set_modified(old)
        .unwrap();
    let young = report.with_file_name("young.pdf");
    std::fs::write(&young, "").unwrap();
    let days = [("AMCP_REPORT_DAYS", "1")];
    let _node = Node::start(&sandbox, &["--offline"], &days).await;
    until("the old report goes", PATIENCE, async || !report.exists()).await;
    assert!(young.exists());
}
