//! Where settings come from, how a file is checked, what a hangup changes.

use std::net::TcpListener;

use amcp_tests::process::{Node, Sandbox, client, finish};
use serde_json::{Value, json};

fn setting<'a>(shown: &'a Value, key: &str) -> &'a Value {
    let settings = shown["settings"].as_array().unwrap();
    settings.iter().find(|s| s["key"] == key).unwrap()
}

#[tokio::test]
async fn config_show_says_where_each_value_comes_from() {
    let sandbox = Sandbox::new();
    let file = sandbox.path().join("config/amcp/amcp.toml");
    std::fs::create_dir_all(file.parent().unwrap()).unwrap();
    std::fs::write(&file, "model = \"file\"\nattempts = 7\nretained = 9\n").unwrap();
    let mut command = sandbox.amcp(["config", "show", "--json", "--model", "flag"]);
    command
        .env("AMCP_ATTEMPTS", "5")
        .env("AMCP_MODEL", "env")
        .env("AMCP_OPENAI_KEY", "sk-do-not-show")
        .env("OLLAMA_HOST", "gpu.local:8000");
    let ran = finish(command).await;
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(!ran.stdout.contains("sk-do-not-show"), "{ran:?}");
    let shown = ran.json();
    assert_eq!(setting(&shown, "model")["value"], "flag");
    assert_eq!(setting(&shown, "model")["from"], "--model");
    assert_eq!(setting(&shown, "attempts")["from"], "AMCP_ATTEMPTS");
    assert_eq!(setting(&shown, "retained")["value"], 9);
    assert_eq!(setting(&shown, "retained")["source"], "file");
    assert_eq!(setting(&shown, "retained")["from"], file.to_str().unwrap());
    assert_eq!(shown["file"], file.to_str().unwrap());
    assert_eq!(
        setting(&shown, "ollama_url")["value"],
        "http://gpu.local:8000"
    );
    assert_eq!(setting(&shown, "ollama_url")["from"], "OLLAMA_HOST");
    assert_eq!(setting(&shown, "llm")["source"], "default");
    assert_eq!(setting(&shown, "openai_key")["value"], "(secret)");
}

#[tokio::test]
async fn what_is_not_a_setting_is_refused_with_what_was_meant() {
    let sandbox = Sandbox::new();
    let mut command = sandbox.amcp(["config", "show"]);
    command
        .env("AMCP_OLAMA_URL", "http://x")
        .env("AMCP_PORT", "tcp://10.0.0.1:80");
    let ran = finish(command).await;
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(
        ran.stderr.contains("did you mean AMCP_OLLAMA_URL?") && !ran.stderr.contains("AMCP_PORT"),
        "{ran:?}"
    );

    std::fs::write(sandbox.path().join("mine.toml"), "max_request = 5\n").unwrap();
    let ran = sandbox
        .run(["config", "show", "--config", "mine.toml"])
        .await;
    assert_eq!(ran.code, 2);
    assert!(
        ran.stderr.contains("mine.toml") && ran.stderr.contains("did you mean max_requests?"),
        "{ran:?}"
    );

    std::fs::write(sandbox.path().join("mine.toml"), "max_requests = 0\n").unwrap();
    let ran = sandbox
        .run(["config", "show", "--config", "mine.toml"])
        .await;
    assert_eq!(ran.code, 2);
    assert!(
        ran.stderr.contains("mine.toml:1:16: max_requests")
            && ran.stderr.contains("takes number from 1"),
        "{ran:?}"
    );
}

/// Four lines in a foreign folder would send the content of one of the user's files, and the key in the user's environment, to
/// a foreign server.
#[tokio::test]
async fn a_configuration_file_of_the_current_folder_is_not_read() {
    let sandbox = Sandbox::new();
    let stranger = TcpListener::bind("127.0.0.1:0").unwrap();
    let lines = format!(
        "llm = 'openai'\nmodel = 'm'\nopenai_url = 'http://{}'\nopenai_key.file = '/etc/hostname'\n",
        stranger.local_addr().unwrap()
    );
    std::fs::create_dir(sandbox.path().join("amcp-data")).unwrap();
    for place in ["amcp.toml", "amcp-data/amcp.toml"] {
        std::fs::write(sandbox.path().join(place), &lines).unwrap();
    }
    let mut command = sandbox.amcp(["ask", "--offline", "--json", "What is 17 * 23?"]);
    command.env("AMCP_OPENAI_KEY", "sk-of-the-user");
    let ran = finish(command).await;
    assert_eq!(ran.code, 0, "{ran:?}");
    assert_eq!(ran.json()["planner"], "embedded");
    assert!(ran.stderr.contains("./amcp.toml is not read"), "{ran:?}");
    stranger.set_nonblocking(true).unwrap();
    assert!(stranger.accept().is_err(), "nobody dials the stranger");
    // Named, the same file counts.
    let ran = sandbox
        .run(["config", "show", "--config", "amcp.toml"])
        .await;
    assert!(ran.stdout.contains("amcp.toml (--config)"), "{ran:?}");
}

#[tokio::test]
async fn a_file_is_checked_without_being_used_and_its_schema_is_printed() {
    let sandbox = Sandbox::new();
    std::fs::write(sandbox.path().join("good.toml"), "attempts = 2\n").unwrap();
    std::fs::write(sandbox.path().join("bad.toml"), "[roles\n").unwrap();
    let ran = sandbox.run(["config", "check", "good.toml"]).await;
    assert_eq!(
        (ran.code, ran.stdout.trim()),
        (0, "good.toml is usable: 1 keys")
    );
    let ran = sandbox.run(["config", "check", "bad.toml"]).await;
    assert_eq!(ran.code, 2);
    assert!(ran.stderr.contains("bad.toml:1:7: "), "{ran:?}");
    let schema = sandbox.run(["config", "schema"]).await.json();
    let attempts = &schema["properties"]["attempts"];
    assert_eq!(attempts["minimum"], 1);
    assert_eq!(attempts["default"], 3);
    assert_eq!(schema["additionalProperties"], false);
}

#[tokio::test]
async fn a_hangup_changes_what_can_change_and_an_unusable_file_changes_nothing() {
    let sandbox = Sandbox::new();
    let file = sandbox.path().join("node.toml");
    std::fs::write(&file, "max_tasks = 2\n").unwrap();
    let args = ["--offline", "--config", "node.toml"];
    let mut node = Node::start(&sandbox, &args, &[]).await;
    node.says("configuration file: node.toml (--config)").await;
    let url = node.url("/plan");
    let planned = async || {
        let post = client()
            .post(&url)
            .json(&json!({"query": crate::WEATHER_AND_JOKE}));
        let plan: Value = post.send().await.unwrap().json().await.unwrap();
        plan["tasks"].as_array().unwrap().len()
    };
    assert_eq!(planned().await, 2);
    for text in [
        "max_tasks = 0",
        "max_tasks = 1\ndeadline = '2h'",
        "log = '=='",
        "[",
    ] {
        std::fs::write(&file, text).unwrap();
        node.signal("HUP").await;
        node.says("the old one stays").await;
        assert_eq!(planned().await, 2, "{text}");
    }
    std::fs::write(&file, "max_tasks = 1\nretained = 7\n").unwrap();
    node.signal("HUP").await;
    let line = node.says("configuration read again").await;
    assert!(line.contains("max_tasks changed; retained would"), "{line}");
    assert_eq!(planned().await, 1);
    let rules = "retained = 7\n[roles.everyone]\ndeny = ['weather.*']\n";
    std::fs::write(&file, rules).unwrap();
    node.signal("HUP").await;
    node.says("max_tasks, roles changed").await;
    assert_eq!(planned().await, 1, "the joke alone");
    node.signal("TERM").await;
    let (code, log) = node.ended().await;
    assert_eq!(code, 0, "{log}");
}

/// A file that nobody finishes writing stands for a disk that hangs.
#[tokio::test]
async fn a_node_that_reads_its_configuration_again_hears_that_it_shall_end() {
    let sandbox = Sandbox::new();
    let file = sandbox.path().join("node.toml");
    std::fs::write(&file, "").unwrap();
    let node = Node::start(&sandbox, &["--offline", "--config", "node.toml"], &[]).await;
    std::fs::remove_file(&file).unwrap();
    let made = tokio::process::Command::new("mkfifo").arg(&file).status();
    assert!(made.await.unwrap().success());
    node.signal("HUP").await;
    // Waits until the node reads.
    let write = tokio::fs::File::options().write(true).open(file).await;
    node.signal("TERM").await;
    assert_eq!(node.ended().await.0, 0);
    drop(write.unwrap());
}

#[tokio::test]
async fn a_password_in_a_url_is_never_printed() {
    let sandbox = Sandbox::new();
    let url = "http://me:p4ssw0rd@127.0.0.1:1";
    let mut command = sandbox.amcp(["config", "show"]);
    command.env("OLLAMA_HOST", url);
    let commands = [
        finish(command).await,
        sandbox.run(["ask", "--url", url, "x"]).await,
        sandbox.run(["ask", "--ollama-url", url, "x"]).await,
        sandbox.run(["cluster", "--url", url]).await,
    ];
    for ran in commands {
        assert_eq!(ran.code, 2, "{ran:?}");
        assert!(ran.stderr.contains("credentials must not stand"), "{ran:?}");
        assert!(!format!("{ran:?}").contains("p4ssw0rd"), "{ran:?}");
    }
}
