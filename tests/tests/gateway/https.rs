//! HTTPS: with whom a node speaks, what a stranger costs, and which certificate counts after a change.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use amcp_cluster::certs;
use amcp_gateway::{Https, HttpsFiles, Limits};
use amcp_protocol::NodeName;
use amcp_tests::process::{Node, Sandbox, client};
use reqwest::{Certificate, Client};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::mesh::{Setup, TestMesh};
use crate::PATIENCE;

/// Makes an authority in a folder, and certificates of this machine with these names.
fn authority(folder: &Path, names: &[&str]) {
    certs::init(folder).unwrap();
    for name in names {
        let name = NodeName::new(*name).unwrap();
        certs::issue(folder, &name, &["127.0.0.1".to_owned()]).unwrap();
    }
}

fn files(folder: &Path) -> HttpsFiles {
    HttpsFiles {
        cert: folder.join("a.pem"),
        key: folder.join("a.key"),
        client_ca: None,
    }
}

/// A client that trusts the authority alone.
fn friend(folder: &Path) -> Client {
    let ca = Certificate::from_pem(&fs::read(folder.join("ca.pem")).unwrap()).unwrap();
    let here = "https://127.0.0.1".parse().unwrap();
    let client = amcp_outbound::client_of(&here).timeout(PATIENCE);
    let client = client.tls_built_in_root_certs(false);
    // A connection of its own for each request: a kept one keeps its certificate.
    let client = client.pool_max_idle_per_host(0).add_root_certificate(ca);
    client.build().unwrap()
}

fn shown(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[tokio::test]
async fn the_command_line_asks_over_https_and_says_what_it_does_not_trust() {
    let sandbox = Sandbox::new();
    let folder = sandbox.path().join("keys");
    authority(&folder, &["a", "me"]);
    let of = |name: &str| shown(&folder.join(name)).to_owned();
    let ca = of("ca.pem");
    let both = sandbox.path().join("both.pem");
    let text = ["me.pem", "me.key"].map(|name| fs::read_to_string(of(name)).unwrap());
    fs::write(&both, text.concat()).unwrap();
    let certificate = [
        "--offline",
        "--tls-cert",
        &of("a.pem"),
        "--tls-key",
        &of("a.key"),
    ];
    let open = Node::start(&sandbox, &certificate, &[]).await;
    let base = open.url("");
    assert!(base.starts_with("https://"), "{base}");
    let question = ["ask", "What is 17 * 23?", "--url", &base];
    let ran = sandbox.run(question.iter().chain(&["--ca", &ca])).await;
    assert_eq!((ran.code, ran.stdout.contains("391")), (0, true), "{ran:?}");
    let ran = sandbox.run(question).await;
    assert_eq!(ran.code, 5, "{ran:?}");
    assert!(ran.stderr.contains("UnknownIssuer"), "{ran:?}");
    assert!(ran.stderr.contains("--ca"), "{ran:?}");
    let plain = base.replace("https", "http");
    let refused = client().get(plain).send().await.unwrap();
    assert_eq!(refused.status(), 400);
    let body: Value = refused.json().await.unwrap();
    assert_eq!(body["error"]["code"], "bad_request");
    assert!(body.to_string().contains("https://"), "{body}");

    let data = sandbox.path().join("other");
    let mutual = [
        &certificate[..],
        &["--tls-client-ca", &ca, "--data", shown(&data)],
    ]
    .concat();
    let closed = Node::start(&sandbox, &mutual, &[]).await;
    let base = closed.url("");
    let question = ["ask", "What is 17 * 23?", "--url", &base, "--ca", &ca];
    let ran = sandbox.run(question).await;
    assert_eq!(ran.code, 5, "{ran:?}");
    assert!(ran.stderr.contains("--client-cert"), "{ran:?}");
    let with = ["--client-cert", shown(&both)];
    let ran = sandbox.run(question.iter().chain(&with)).await;
    assert_eq!((ran.code, ran.stdout.contains("391")), (0, true), "{ran:?}");
}

#[tokio::test]
async fn changed_files_count_without_a_restart_and_unusable_ones_do_not() {
    let sandbox = Sandbox::new();
    let folders = ["one", "two"].map(|name| sandbox.path().join(name));
    for folder in &folders {
        authority(folder, &["a"]);
    }
    let [one, two] = &folders;
    let (cert, key) = (sandbox.path().join("c.pem"), sandbox.path().join("k.pem"));
    let put = |from: &PathBuf| {
        fs::copy(from.join("a.pem"), &cert).unwrap();
        fs::copy(from.join("a.key"), &key).unwrap();
    };
    put(one);
    let args = ["--tls-cert", shown(&cert), "--tls-key", shown(&key)];
    let mut node = Node::start(&sandbox, &args, &[]).await;
    let live = node.url("/livez");
    let answers = async |folder: &Path| friend(folder).get(&live).send().await.is_ok();
    assert!(answers(one).await && !answers(two).await);
    put(two);
    let changed = async {
        while !answers(two).await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(PATIENCE, changed).await.expect("the node reads it");
    assert!(!answers(one).await);
    fs::write(&cert, "-----BEGIN CERTIFICATE-----\nAAAA\n?\n").unwrap();
    let line = node.says("the old one stays").await;
    let fault = format!("{}, line 3: ", cert.display());
    assert!(line.contains(&fault), "{line}");
    assert!(answers(two).await);
    node.signal("HUP").await;
    let line = node.says("the new configuration is unusable").await;
    assert!(line.contains(&fault), "{line}");
    assert!(answers(two).await);
}

#[tokio::test]
async fn a_handshake_has_a_deadline_and_its_connection_counts() {
    let folder = tempfile::tempdir().unwrap();
    authority(folder.path(), &["a"]);
    let setup = |first| Setup {
        limits: Limits {
            first,
            per_address: 1,
            ..Limits::default()
        },
        https: Some(Https::open(files(folder.path())).unwrap()),
        ..Setup::default()
    };
    let mesh = TestMesh::start(setup(Duration::from_millis(200))).await;
    // Nothing, and a handshake that never ends.
    for begin in [&b""[..], &[22, 3, 1, 2, 0]] {
        let mut silent = TcpStream::connect(mesh.address).await.unwrap();
        silent.write_all(begin).await.unwrap();
        let read = timeout(PATIENCE, silent.read(&mut [0])).await;
        assert!(
            !matches!(read.expect("the node hangs up"), Ok(1..)),
            "{begin:?}"
        );
    }
    let mesh = TestMesh::start(setup(PATIENCE)).await;
    let live = format!("https://{}/livez", mesh.address);
    let silent = TcpStream::connect(mesh.address).await.unwrap();
    let client = friend(folder.path());
    assert!(client.get(&live).send().await.is_err());
    drop(silent);
    let again = async { while client.get(&live).send().await.is_err() {} };
    timeout(PATIENCE, again).await.unwrap();
    // A handshake under way does not hold up the end.
    let _silent = TcpStream::connect(mesh.address).await.unwrap();
    mesh.close.cancel();
    timeout(PATIENCE / 2, mesh.served).await.unwrap().unwrap();
}

#[test]
fn a_fault_names_its_file_and_line() {
    let folder = tempfile::tempdir().unwrap();
    authority(folder.path(), &["a", "b"]);
    let good = files(folder.path());
    let cert = fs::read_to_string(&good.cert).unwrap();
    let key = fs::read_to_string(&good.key).unwrap();
    let bad = folder.path().join("bad.pem");
    let cut = cert.rsplit_once("-----END").unwrap().0.to_owned();
    let lines = cert.lines().count();
    for (text, fault) in [
        (String::new(), "no certificate in PEM".to_owned()),
        (key.clone(), "no certificate in PEM".to_owned()),
        (
            format!("# made by hand\n\n{cut}"),
            "line 3: what begins here has no end".to_owned(),
        ),
        (
            format!("{cut}{cert}"),
            format!("line {lines}: this begins before"),
        ),
        (
            cert.replacen("\nM", "\n!", 1),
            "line 2: this is no base64".to_owned(),
        ),
        (
            "-----END CERTIFICATE-----".to_owned(),
            "line 1: this ends".to_owned(),
        ),
        (
            format!("{cert}-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"),
            format!("line {}: no certificate begins here", lines + 1),
        ),
    ] {
        fs::write(&bad, &text).unwrap();
        let files = HttpsFiles {
            cert: bad.clone(),
            ..good.clone()
        };
        let said = Https::open(files).unwrap_err();
        assert!(
            said.starts_with(shown(&bad)) && said.contains(&fault),
            "{said}"
        );
        let files = HttpsFiles {
            client_ca: Some(bad.clone()),
            ..good.clone()
        };
        assert!(Https::open(files).unwrap_err().contains(&fault), "{fault}");
    }
    let key = |path: PathBuf| {
        Https::open(HttpsFiles {
            key: path,
            ..good.clone()
        })
        .unwrap_err()
    };
    assert!(key(good.cert.clone()).contains("no private key in PEM"));
    let other = key(folder.path().join("b.key"));
    assert!(other.contains("does not belong"), "{other}");
    assert!(key(folder.path().join("none.key")).contains("none.key: No such file"));
}

#[tokio::test]
async fn a_node_that_other_machines_reach_is_not_open() {
    let sandbox = Sandbox::new();
    let folder = sandbox.path().join("keys");
    authority(&folder, &["a"]);
    let (cert, key) = (folder.join("a.pem"), folder.join("a.key"));
    let https = ["--tls-cert", shown(&cert), "--tls-key", shown(&key)];
    let everywhere = ["node", "--offline", "--http", "0.0.0.0:0"];
    let refused = async |more: &[&str], hint: &str| {
        let ran = sandbox.run(everywhere.iter().chain(more)).await;
        assert_eq!(ran.code, 2, "{more:?}: {ran:?}");
        assert!(ran.stderr.contains(hint), "{more:?}: {ran:?}");
    };
    let doctor = sandbox.run(["doctor", "--http", "0.0.0.0:0"]).await;
    assert!(doctor.stdout.contains("other machines reach"), "{doctor:?}");
    refused(&[], "--tls-cert").await;
    refused(&https[..2], "tls_key is missing").await;
    refused(&["--behind-proxy"], "amcp keys create").await;
    refused(&https, "amcp keys create").await;
    // The hint's own words, with a name.
    let made = sandbox
        .run(["keys", "create", "ana", "--data", "./amcp-data"])
        .await;
    assert_eq!(made.code, 0, "{made:?}");
    refused(&[], "--tls-cert").await;
    for way in [&["--behind-proxy"][..], &https] {
        let args = [&["--http", "0.0.0.0:0"][..], way].concat();
        let node = Node::start(&sandbox, &args, &[]).await;
        let live = node.url("/livez").replace("0.0.0.0", "127.0.0.1");
        let answer = friend(&folder).get(live).send().await.unwrap();
        assert_eq!(answer.status(), 200);
    }
    let id = sandbox.run(["keys", "list", "--json"]).await.json()["keys"][0]["id"].clone();
    let revoked = sandbox.run(["keys", "revoke", id.as_str().unwrap()]).await;
    assert_eq!(revoked.code, 0, "{revoked:?}");
    refused(&https, "no API key is valid").await;
}
