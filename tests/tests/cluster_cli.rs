//! The command line of a cluster as a user meets it: what is refused and with which hint, keys, what a node that is alone says.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use amcp_access::KeyFile;
use amcp_tests::process::{Node, Sandbox, binary};
use jiff::Timestamp;
use yaml_rust2::{Yaml, YamlLoader};

fn deploy() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../node/deploy"))
}

#[tokio::test]
async fn what_does_not_fit_together_is_refused_with_what_to_do() {
    let sandbox = Sandbox::new();
    for (args, said) in [
        (
            &["node", "--parts", "gateway,specialists"][..],
            "add orchestrator",
        ),
        (
            &["node", "--parts", "specialist"],
            "did you mean specialists?",
        ),
        (&["node", "--parts", "specialists"], "--cluster"),
        (&["node", "--roles", "specialists"], "--parts"),
        (
            &["node", "--specialists", "wether"],
            "did you mean weather?",
        ),
        (&["node", "--join", "a:7000"], "--cluster"),
        (&["node", "--join", "a"], "host:port"),
        (&["node", "--cluster", "nowhere"], "127.0.0.1:8080"),
        (&["node", "--cluster", "0.0.0.0:0"], "amcp cluster cookie"),
        (
            &["node", "--cluster", "127.0.0.1:0", "--join", "b:1"],
            "amcp cluster cookie",
        ),
        (
            &["node", "--cluster", "127.0.0.1:0", "--cookie-file", "none"],
            "the file none cannot be read",
        ),
        (&["node", "--name", "A_1"], "small letters"),
        (&["node", "--cluster-allow", "b"], "write name="),
        (
            &["node", "--cluster", "127.0.0.1:0", "--cluster-ca", "c"],
            "cluster_cert and cluster_key",
        ),
        (&["cluster", "--node", "not a url"], "write a URL"),
        (&["cluster", "cokie"], "cookie"),
        (&["cluster", "certs", "init"], "--out"),
        (
            &["cluster", "certs", "issue", "A_1", "--out", "d"],
            "small letters",
        ),
        (&["cluster", "cookie", "--json"], "--json"),
    ] {
        let ran = sandbox.run(args).await;
        assert_eq!(ran.code, 2, "{args:?}: {ran:?}");
        assert!(ran.stderr.contains(said), "{args:?}: {ran:?}");
        assert!(ran.stdout.is_empty(), "{args:?}: {ran:?}");
    }
    // Nothing of this may have begun to work.
    assert_eq!(std::fs::read_dir(sandbox.path()).unwrap().count(), 0);
}

#[tokio::test]
async fn links_that_are_not_safe_or_cannot_be_made_safe_are_refused_as_misconfigured() {
    let sandbox = Sandbox::new();
    let cookie = sandbox.path().join("cookie");
    std::fs::write(&cookie, "00112233445566778899aabbccddeeff").unwrap();
    for (args, said) in [
        (&["--cluster", "0.0.0.0:0"][..], "there is no TLS"),
        (
            &["--cluster-certs", "nowhere", "--cluster", "127.0.0.1:0"],
            "nowhere",
        ),
    ] {
        let common = ["node", "--http", "127.0.0.1:0", "--cookie-file", "cookie"];
        let ran = sandbox.run(&[&common[..], args].concat()).await;
        assert_eq!(ran.code, 2, "{args:?}: {ran:?}");
        assert!(ran.stderr.contains(said), "{args:?}: {ran:?}");
    }
}

#[tokio::test]
async fn each_cookie_is_another() {
    let sandbox = Sandbox::new();
    let mut cookies = BTreeSet::new();
    for _ in 0..2 {
        let ran = sandbox.run(["cluster", "cookie"]).await;
        assert_eq!(ran.code, 0, "{ran:?}");
        let cookie = ran.stdout.trim().to_owned();
        assert_eq!(cookie.len(), 64, "{cookie}");
        assert!(cookie.bytes().all(|b| b.is_ascii_hexdigit()), "{cookie}");
        cookies.insert(cookie);
    }
    assert_eq!(cookies.len(), 2);
}

fn mode(file: &Path) -> u32 {
    std::fs::metadata(file).unwrap().permissions().mode() & 0o777
}

#[tokio::test]
async fn keys_are_for_their_owner_and_nothing_is_overwritten() {
    let sandbox = Sandbox::new();
    let keys = sandbox.path().join("keys");
    let issue = ["cluster", "certs", "issue", "a", "--out", "keys"];
    let early = sandbox.run(issue).await;
    assert_eq!(early.code, 1, "{early:?}");
    assert!(
        early.stderr.contains("amcp cluster certs init"),
        "{early:?}"
    );
    let init = ["cluster", "certs", "init", "--out", "keys"];
    for args in [&init[..], &issue] {
        let made = sandbox.run(args).await;
        assert_eq!(made.code, 0, "{made:?}");
    }
    let made: BTreeSet<String> = std::fs::read_dir(&keys)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    assert_eq!(
        made,
        ["a.key", "a.pem", "ca.key", "ca.pem"]
            .map(str::to_owned)
            .into()
    );
    for secret in ["a.key", "ca.key"] {
        assert_eq!(mode(&keys.join(secret)), 0o600, "{secret}");
    }
    let before = std::fs::read(keys.join("ca.pem")).unwrap();
    for args in [&init[..], &issue] {
        let again = sandbox.run(args).await;
        assert_eq!(again.code, 1, "{again:?}");
        assert!(again.stderr.contains("hint: "), "{again:?}");
    }
    assert_eq!(std::fs::read(keys.join("ca.pem")).unwrap(), before);
}

#[tokio::test]
async fn a_node_that_is_alone_has_no_members_and_one_that_is_not_there_is_named() {
    let sandbox = Sandbox::new();
    let node = Node::start(&sandbox, &["--offline"], &[]).await;
    let ran = sandbox.run(["cluster", "--node", &node.url("")]).await;
    assert_eq!(ran.code, 1, "{ran:?}");
    assert!(ran.stderr.contains("alone [not_found]"), "{ran:?}");
    assert!(ran.stderr.contains("hint: "), "{ran:?}");
    let address = node.address.to_string();
    drop(node);
    // Without --node it is the one of the settings.
    let ran = sandbox.run(["cluster", "--http", &address]).await;
    assert!([1, 5].contains(&ran.code), "{ran:?}");
    assert!(
        ran.stderr.contains(&address) || ran.stderr.contains("alone"),
        "{ran:?}"
    );
}

/// Names of settings that a text mentions as variables.
fn variables(text: &str) -> BTreeSet<String> {
    let words = text.split(|c: char| !(c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_'));
    words
        .filter(|word| word.starts_with("AMCP_"))
        .map(str::to_owned)
        .collect()
}

#[tokio::test]
async fn what_is_deployed_sets_only_settings_that_there_are() {
    let shown = Sandbox::new()
        .run(["config", "show", "--json"])
        .await
        .json();
    let settings: BTreeSet<String> = shown["settings"]
        .as_array()
        .unwrap()
        .iter()
        .flat_map(|setting| setting["variables"].as_array().unwrap())
        .map(|name| name.as_str().unwrap().to_owned())
        .collect();
    // The command line's own, of which a node knows nothing.
    let clients = BTreeSet::from(["AMCP_KEY".to_owned()]);
    for file in [
        "Dockerfile",
        "compose.yaml",
        "systemd/amcp@.service",
        "systemd/node.env.example",
    ] {
        let text = std::fs::read_to_string(deploy().join(file)).unwrap();
        let used = &variables(&text) - &clients;
        assert!(!used.is_empty(), "{file}");
        assert_eq!(&used - &settings, BTreeSet::new(), "{file}");
    }
}

/// Runs a checker that a machine may lack; says whether it is there, and what it complained about.
#[expect(clippy::print_stderr, reason = "says that nothing was checked")]
fn checked(program: &str, args: &[&str]) -> Option<String> {
    match Command::new(program).args(args).output() {
        Ok(output) => Some(
            String::from_utf8_lossy(&output.stdout).into_owned()
                + &String::from_utf8_lossy(&output.stderr),
        ),
        Err(_) => {
            eprintln!("skipped: {program} is not installed");
            None
        }
    }
}

#[test]
fn the_unit_is_one_that_systemd_understands() {
    let unit = deploy().join("systemd/amcp@.service");
    let Some(said) = checked("systemd-analyze", &["verify", unit.to_str().unwrap()]) else {
        return;
    };
    let complaints: Vec<&str> = said
        .lines()
        // The binary is not installed where tests run.
        .filter(|line| !line.contains("/usr/local/bin/amcp is not executable"))
        .filter(|line| line.contains("amcp@"))
        .collect();
    assert!(complaints.is_empty(), "{complaints:#?}");
}

/// A field, also one that is merged in with `<<`.
fn field<'a>(map: &'a Yaml, name: &str) -> &'a Yaml {
    let (own, shared) = (&map[name], &map["<<"]);
    if own.is_badvalue() && shared.is_hash() {
        return field(shared, name);
    }
    own
}

fn texts(list: &Yaml) -> impl Iterator<Item = &str> {
    list.as_vec().into_iter().flatten().filter_map(Yaml::as_str)
}

/// What `docker compose config` would find is looked for here too, so that it is found where there is no docker.
#[test]
fn the_compose_file_has_three_nodes_with_keys_and_nothing_undeclared() {
    let text = std::fs::read_to_string(deploy().join("compose.yaml")).unwrap();
    let file = &YamlLoader::load_from_str(&text).unwrap()[0];
    let services = file["services"].as_hash().unwrap();
    let mut names = BTreeSet::new();
    for (service, fields) in services {
        let service = service.as_str().unwrap();
        assert!(field(fields, "image").as_str().is_some(), "{service}");
        let build = field(fields, "build");
        let context = deploy().join(build["context"].as_str().unwrap());
        let dockerfile = context.join(build["dockerfile"].as_str().unwrap());
        assert!(dockerfile.is_file(), "{service}: {dockerfile:?}");
        for volume in texts(field(fields, "volumes")) {
            let (name, _) = volume.split_once(':').unwrap();
            assert!(has(&file["volumes"], name), "{service}: {volume}");
        }
        for (network, _) in field(fields, "networks").as_hash().into_iter().flatten() {
            assert!(
                has(&file["networks"], network.as_str().unwrap()),
                "{service}: {network:?}"
            );
        }
        for (other, _) in field(fields, "depends_on").as_hash().into_iter().flatten() {
            assert!(services.contains_key(other), "{service}: {other:?}");
        }
        if service == "keys" {
            continue;
        }
        let environment = field(fields, "environment");
        let set = |name: &str| field(environment, name).as_str().unwrap_or_default();
        assert_eq!(set("AMCP_NAME"), service);
        assert_eq!(set("AMCP_JOIN"), "dns:nodes:7000", "{service}");
        assert_eq!(set("AMCP_CLUSTER"), "0.0.0.0:7000", "{service}");
        assert_eq!(set("AMCP_COOKIE_FILE"), "/keys/cookie", "{service}");
        assert_eq!(set("AMCP_CLUSTER_CERTS"), "/keys", "{service}");
        let aliases = &field(fields, "networks")["mesh"]["aliases"];
        assert!(texts(aliases).any(|alias| alias == "nodes"), "{service}");
        assert!(
            texts(field(fields, "volumes")).any(|v| v == format!("keys-{service}:/keys:ro")),
            "{service}"
        );
        assert!(
            texts(field(fields, "volumes")).all(|v| !v.starts_with("authority")),
            "{service}"
        );
        assert_eq!(
            texts(field(fields, "command")).collect::<Vec<_>>(),
            ["node"]
        );
        names.insert(service);
    }
    assert_eq!(names, ["a", "b", "c"].into());
    let keys = texts(&services[&Yaml::String("keys".into())]["command"]).collect::<String>();
    assert_each_node_gets_only_its_own_key(&keys.replace("$$", "$"));
}

/// Runs the script twice, as a second `docker compose up` does.
fn assert_each_node_gets_only_its_own_key(script: &str) {
    let folder = tempfile::tempdir().unwrap();
    let inside = |path: &str| folder.path().join(path).to_str().unwrap().to_owned();
    let script = script.replace("/authority", &inside("authority"));
    let script = script.replace("/nodes", &inside("nodes"));
    let script = script.replace("/data/", &inside("data/"));
    let binaries = binary().parent().unwrap().to_str().unwrap();
    let path = format!("{binaries}:{}", std::env::var("PATH").unwrap());
    for made in [
        "authority",
        "nodes/a",
        "nodes/b",
        "nodes/c",
        "data/a",
        "data/c",
    ] {
        std::fs::create_dir_all(inside(made)).unwrap();
    }
    for _ in 0..2 {
        let ran = Command::new("sh")
            .args(["-euc", &script])
            .env("PATH", &path)
            .output();
        let ran = ran.unwrap();
        assert!(ran.status.success(), "{ran:?}");
        for node in ["a", "b", "c"] {
            let files = std::fs::read_dir(inside(&format!("nodes/{node}"))).unwrap();
            let files = files.map(|file| file.unwrap().file_name().into_string().unwrap());
            let expected = [
                "ca.pem".to_owned(),
                "cookie".to_owned(),
                format!("{node}.key"),
                format!("{node}.pem"),
            ];
            assert_eq!(files.collect::<BTreeSet<_>>(), expected.into());
        }
        // The key in the one place opens the nodes of the others.
        let key = std::fs::read_to_string(inside("authority/api-key")).unwrap();
        for node in ["a", "c"] {
            let file = KeyFile::in_data(Path::new(&inside(&format!("data/{node}"))));
            let user = file.read().unwrap().check(key.trim(), Timestamp::now());
            assert_eq!(user.unwrap().user, "me");
        }
    }
}

fn has(declared: &Yaml, name: &str) -> bool {
    let name = Yaml::String(name.to_owned());
    declared
        .as_hash()
        .is_some_and(|all| all.contains_key(&name))
}
