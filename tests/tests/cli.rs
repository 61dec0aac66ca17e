//! The command line as a user meets it: the real binary, its output, its exit codes.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod cli {
    mod config;
    mod data;
    mod scripts;
}

use std::net::TcpListener;
use std::process::Stdio;

use amcp_tests::fake_ollama::{FakeOllama, Reply};
use amcp_tests::process::{Node, PATIENCE, Ran, Sandbox, client, finish};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::time::timeout;

const WEATHER_AND_JOKE: &str = "What's the weather in Paris and tell me a programming joke?";
const EXPENSES: &str = "Produce an expense summary report for Q4 2024";

fn keys(value: &Value) -> Vec<&str> {
    let mut keys: Vec<&str> = value
        .as_object()
        .unwrap()
        .keys()
        .map(String::as_str)
        .collect();
    keys.sort_unstable();
    keys
}

#[tokio::test]
async fn an_unusable_command_line_exits_with_2_and_says_why() {
    let sandbox = Sandbox::new();
    for args in [
        &[][..],
        &["ask"],
        &["ask", ""],
        &["ask", "   "],
        &["ask", "-"],
        &["aks", "x"],
        &["ask", "x", "--no-such-flag"],
        &["ask", "x", "--url", "not a url"],
        &["ask", "x", "--llm", "oracle"],
        &["ask", "x", "--deadline", "soon"],
        &["ask", "x", "--llm", "ollama"],
        &["ask", "x", "--llm", "openai", "--model", "m"],
        &["ask", "x", "--log", "=[nonsense"],
        &["node", "--http", "nowhere"],
        &["demo", "--requests", "5"],
    ] {
        let ran = sandbox.run(args).await;
        assert_eq!(ran.code, 2, "{args:?}: {ran:?}");
        assert!(ran.stdout.is_empty(), "{args:?}: {ran:?}");
        assert!(!ran.stderr.is_empty(), "{args:?}");
    }
    let ran = sandbox.run(["ask", ""]).await;
    assert!(ran.stderr.contains("error: the query is empty"), "{ran:?}");
    assert!(ran.stderr.contains("hint: "), "{ran:?}");
    // Nothing of this may have begun to work.
    assert_eq!(std::fs::read_dir(sandbox.path()).unwrap().count(), 0);
}

#[tokio::test]
async fn help_documents_the_exit_codes() {
    let ran = Sandbox::new().run(["--help"]).await;
    assert_eq!(ran.code, 0);
    for line in [
        "0  answered",
        "1  failed",
        "2  the command line",
        "3  partly",
        "4  cancelled",
        "5  unavailable",
    ] {
        assert!(
            ran.stdout.contains(line),
            "{line} is missing from {}",
            ran.stdout
        );
    }
}

#[tokio::test]
async fn two_independent_tasks_are_answered_in_one_answer() {
    let sandbox = Sandbox::new();
    let ran = sandbox
        .run(["ask", "--offline", "--json", WEATHER_AND_JOKE])
        .await;
    assert_eq!(ran.code, 0, "{ran:?}");
    let answer = ran.json();
    assert_eq!(answer["state"], "completed");
    assert_eq!(answer["planner"], "embedded");
    assert!(!answer["answer"].as_str().unwrap().is_empty());
    let tasks = answer["tasks"].as_array().unwrap();
    let mut done: Vec<&str> = tasks
        .iter()
        .map(|t| t["capability"].as_str().unwrap())
        .collect();
    done.sort_unstable();
    assert_eq!(done, ["joke.get", "weather.get"]);
    for task in tasks {
        assert_eq!(
            keys(task),
            [
                "agent",
                "attempts",
                "capability",
                "duration_ms",
                "id",
                "result",
                "state"
            ]
        );
        assert_eq!(task["state"], "completed");
    }
    // Piped, the answer alone is on stdout; that no LLM was there is said beside it.
    let ran = sandbox.run(["ask", "--offline", "What is 17 * 23?"]).await;
    assert!(ran.stdout.contains("391"), "{ran:?}");
    assert_eq!(ran.stdout.trim().lines().count(), 1, "{ran:?}");
    assert!(ran.stderr.contains("without a language model"), "{ran:?}");
    let ran = sandbox
        .run(["ask", "--offline", "--quiet", "What is 17 * 23?"])
        .await;
    assert_eq!(ran.stderr, "");
}

#[tokio::test]
async fn the_expense_report_is_a_real_pdf_in_the_data_folder() {
    let sandbox = Sandbox::new();
    let ran = sandbox
        .run(["ask", "--offline", "--json", "--data", "d", EXPENSES])
        .await;
    assert_eq!(ran.code, 0, "{ran:?}");
    assert_eq!(ran.json()["state"], "completed");
    let reports: Vec<_> = std::fs::read_dir(sandbox.path().join("d/reports"))
        .unwrap()
        .collect();
    assert_eq!(reports.len(), 1);
    let pdf = std::fs::read(reports[0].as_ref().unwrap().path()).unwrap();
    assert!(pdf.starts_with(b"%PDF-"));
}

#[tokio::test]
async fn a_query_comes_from_stdin_too() {
    let sandbox = Sandbox::new();
    let mut command = sandbox.amcp(["ask", "--offline", "-"]);
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut process = command.spawn().unwrap();
    let mut stdin = process.stdin.take().unwrap();
    stdin.write_all(b"What is 17 * 23?\n").await.unwrap();
    drop(stdin);
    let output = process.wait_with_output().await.unwrap();
    assert!(
        String::from_utf8_lossy(&output.stdout).contains("391"),
        "{output:?}"
    );
}

#[tokio::test]
async fn a_query_that_nobody_can_do_fails_and_says_so() {
    let ran = Sandbox::new()
        .run(["ask", "--offline", "--json", "xyzzy plugh frobnicate"])
        .await;
    assert_eq!(ran.code, 1, "{ran:?}");
    let answer = ran.json();
    assert_eq!(answer["state"], "failed");
    assert!(answer["error"]["code"].is_string(), "{answer}");
    let ran = Sandbox::new()
        .run(["ask", "--offline", "xyzzy plugh frobnicate"])
        .await;
    assert_eq!(ran.stdout, "");
    assert!(ran.stderr.contains("error: "), "{ran:?}");
}

#[tokio::test]
async fn a_plan_shows_each_edge_with_its_reason_and_carries_nothing_out() {
    let sandbox = Sandbox::new();
    let ran = sandbox.run(["plan", "--json", EXPENSES]).await;
    assert_eq!(ran.code, 0, "{ran:?}");
    let plan = ran.json();
    assert_eq!(plan["planner"], "embedded");
    assert!(plan["unplaced"].is_array());
    let tasks = plan["tasks"].as_array().unwrap();
    for task in tasks {
        assert_eq!(
            keys(task),
            ["capability", "depends_on", "id", "inferred", "params"]
        );
    }
    let edges: usize = tasks
        .iter()
        .map(|t| t["depends_on"].as_array().unwrap().len())
        .sum();
    assert!(edges >= 2, "{plan}");
    let reasons: Vec<&str> = tasks
        .iter()
        .flat_map(|t| t["inferred"].as_array().unwrap())
        .map(|edge| edge["reason"].as_str().unwrap())
        .collect();
    assert!(reasons.iter().all(|reason| !reason.is_empty()));
    assert_eq!(
        std::fs::read_dir(sandbox.path()).unwrap().count(),
        0,
        "a plan writes nothing"
    );

    let ran = sandbox.run(["plan", EXPENSES]).await;
    assert!(
        ran.stdout.contains("1. t1") && ran.stdout.contains("after t1: "),
        "{ran:?}"
    );
}

#[tokio::test]
async fn a_plan_over_a_file_of_cards_needs_no_agent() {
    let sandbox = Sandbox::new();
    let cards = sandbox.path().join("cards.json");
    std::fs::write(&cards, LAMP).unwrap();
    let cards = cards.to_str().unwrap();
    let ran = sandbox
        .run([
            "plan",
            "--json",
            "--cards",
            cards,
            "switch on the lamp in the hall",
        ])
        .await;
    assert_eq!(ran.code, 0, "{ran:?}");
    let plan = ran.json();
    assert_eq!(plan["tasks"][0]["capability"], "lamp.set", "{plan}");
    assert!(plan["notes"].is_array(), "{plan}");

    let ran = sandbox
        .run([
            "plan",
            "--json",
            "--today",
            "2025-02-14",
            "weather in Oslo tomorrow",
        ])
        .await;
    assert_eq!(
        ran.json()["tasks"][0]["params"]["date"],
        "2025-02-15",
        "{ran:?}"
    );

    for (cards, said) in [
        ("{}", "not a list of capabilities"),
        (r#"[{"name": "a.b"}]"#, "capability 1: 'description'"),
    ] {
        let path = sandbox.path().join("wrong.json");
        std::fs::write(&path, cards).unwrap();
        let ran = sandbox
            .run(["plan", "--cards", path.to_str().unwrap(), "x"])
            .await;
        assert_eq!(ran.code, 2, "{ran:?}");
        assert!(
            ran.stderr.contains(said) && ran.stderr.contains("hint: "),
            "{ran:?}"
        );
    }
    let ran = sandbox.run(["plan", "--today", "soon", "x"]).await;
    assert_eq!(ran.code, 2, "{ran:?}");
}

const LAMP: &str = r#"[{"name": "lamp.set", "description": "Switches a lamp on or off.", "effect": "write", "keywords": ["lamp", "switch"],
    "params": {"type": "object", "properties": {"room": {"type": "string", "enum": ["hall", "attic"]}}, "required": ["room"]}}]"#;

#[tokio::test]
async fn eval_counts_the_outcomes_of_each_class() {
    let sandbox = Sandbox::new();
    let file = sandbox.path().join("cases.json");
    std::fs::write(sandbox.path().join("lamp.json"), LAMP).unwrap();
    let lamp = |room: &str| json!([{"capability": "lamp.set", "params": {"room": room}}]);
    let cases = json!({"today": "2025-02-14", "cases": [
        {"class": "write", "query": "switch on the lamp in the hall", "cards": "lamp.json", "expect": lamp("hall")},
        {"class": "write", "query": "switch on the lamp in the attic", "cards": "lamp.json", "expect": lamp("hall")},
        {"class": "read", "query": "weather in Oslo tomorrow", "expect": [{"capability": "weather.get", "params": {"city": "Oslo", "date": "2025-02-15"}}]},
        {"class": "read", "query": "please knit me a jumper", "expect": []},
        {"class": "read", "query": "please knit me a scarf", "expect": [{"capability": "joke.get"}]},
    ]});
    std::fs::write(&file, cases.to_string()).unwrap();
    let file = file.to_str().unwrap();
    let ran = sandbox.run(["eval", "--json", file]).await;
    assert_eq!(ran.code, 0, "{ran:?}");
    let report = ran.json();
    let read = &report["classes"]["read"];
    assert_eq!(
        (&read["right"], &read["declined"]),
        (&json!(2), &json!(1)),
        "{report}"
    );
    let write = &report["classes"]["write"];
    assert_eq!(
        (
            &write["right"],
            &write["silently_wrong"],
            &write["wrong_writes"]
        ),
        (&json!(1), &json!(1), &json!(1))
    );
    assert_eq!(report["total"]["shares"]["right"], json!(0.6));
    assert_eq!(report["misses"][0]["id"], "2");

    let ran = sandbox.run(["eval", "--list", file]).await;
    assert_eq!(ran.code, 0, "{ran:?}");
    for part in [
        "SILENTLY WRONG",
        "1 (50 %)",
        "in the median",
        "lamp.set.room is \"attic\"",
    ] {
        assert!(
            ran.stdout.contains(part),
            "{part} is missing from {}",
            ran.stdout
        );
    }
}

#[tokio::test]
async fn what_only_offline_offers_is_named_online() {
    let sandbox = Sandbox::new();
    let ran = sandbox
        .run(["ask", "What's the stock price of Apple?"])
        .await;
    assert_eq!(ran.code, 1, "{ran:?}");
    for part in ["What's the stock price of Apple", "--offline", "stocks.get"] {
        assert!(ran.stderr.contains(part), "{part} is missing from {ran:?}");
    }
    let ran = sandbox.run(["ask", "How much is a flight to Rome?"]).await;
    assert!(!ran.stderr.contains("stocks.get"), "{ran:?}");
    // A failure does not hide the parts that were not even tried.
    let query = "What's 1 divided by 0? And knit me a jumper.";
    let ran = sandbox.run(["ask", query]).await;
    assert!(
        ran.stderr.contains("zero") && ran.stderr.contains("jumper"),
        "{ran:?}"
    );
}

#[tokio::test]
async fn eval_asks_cases_with_an_answer_and_judges_it() {
    let sandbox = Sandbox::new();
    let file = sandbox.path().join("cases.json");
    let sum = json!([{"capability": "math.eval"}]);
    let cases = json!([
        {"id": "right", "query": "What is 17 * 23?", "expect": sum, "answer": [391, "17"]},
        {"id": "wrong", "query": "What is 17 * 3?", "expect": sum, "answer": {"contains": 50, "without": "51"}},
        {"id": "unasked", "query": "What is 17 * 4?", "expect": sum},
        {"id": "tomorrow", "query": "expenses since yesterday", "today": "2025-01-02", "expect": [{"capability": "finance.db.query"}],
         "answer": "2025-01-01"},
        {"id": "cards", "query": "switch on the lamp in the hall", "cards": serde_json::from_str::<Value>(LAMP).unwrap(),
         "expect": [{"capability": "lamp.set"}], "answer": "on"},
    ]);
    std::fs::write(&file, cases.to_string()).unwrap();
    let file = file.to_str().unwrap();
    let asked = ["--offline", "eval", "--json", "--answers", file];
    let report = sandbox.run(asked).await.json();
    let total = &report["total"];
    assert_eq!(
        (&total["answers"], &total["right_answers"], &total["right"]),
        (&json!(3), &json!(2), &json!(5)),
        "{report}"
    );
    assert_eq!(
        report["misses"],
        json!([{"id": "wrong", "class": "", "query": "What is 17 * 3?", "outcome": "right",
            "why": ["the answer lacks 50", "the answer has \"51\""]}])
    );
    let ran = sandbox
        .run(["--offline", "eval", "--list", "--answers", file])
        .await;
    assert!(
        ran.stdout.contains("2 of 3") && ran.stdout.contains("an answer"),
        "{ran:?}"
    );
    let ran = sandbox.run(["eval", "--json", file]).await;
    assert_eq!(ran.json()["total"]["answers"], 0, "{ran:?}");
}

#[tokio::test]
async fn eval_lets_a_model_judge_answers_and_counts_calls_and_tokens() {
    let sandbox = Sandbox::new();
    let path = sandbox.path().join("cases.json");
    let case = |id: &str| {
        let expect = json!([{"capability": "math.eval"}]);
        json!({"id": id, "query": "What is 17 * 23?", "expect": expect, "answer": {"contains": 391, "says": "the product"}})
    };
    let cases = json!([case("right"), case("wrong"), case("unjudged")]);
    std::fs::write(&path, cases.to_string()).unwrap();
    let ollama = FakeOllama::start().await;
    let plan = json!({"tasks": [{"id": "t1", "capability": "math.eval", "params": {"expression": "17 * 23"}, "depends_on": []}]});
    let verdicts = [
        "{\"why\": \"-\", \"right\": true}",
        "{\"why\": \"No unit.\", \"right\": false}",
        "Well done.",
    ];
    for verdict in verdicts {
        ollama.script([
            Reply::plan(&plan),
            Reply::text("It comes to 391."),
            Reply::text(verdict),
        ]);
    }
    let mut command = sandbox.amcp(["--offline", "--llm", "ollama", "--model", FakeOllama::MODEL]);
    command.args(["--ollama-url", &ollama.url(), "eval", "--json", "--answers"]);
    command.args(["--judge", "judge:70b", path.to_str().unwrap()]);
    let ran = finish(command).await;
    assert_eq!(ran.code, 0, "{ran:?}");
    let report = ran.json();
    let total = &report["total"];
    assert_eq!(
        (
            &total["right_answers"],
            &total["answers"],
            &total["unjudged_answers"]
        ),
        (&json!(1), &json!(2), &json!(1)),
        "{report}"
    );
    assert_eq!(report["misses"][0]["why"], json!(["the judge: No unit."]));
    // Of each case the plan and the answer; the judge's calls are not the planner's.
    assert_eq!(report["llm_calls"], 6, "{report}");
    assert_eq!(
        report["usage"],
        json!({"prompt_tokens": 6 * 326, "reply_tokens": 6 * 42, "calls": 6})
    );
    let judged = ollama.requests();
    let judged: Vec<_> = judged
        .iter()
        .filter(|r| r.body["model"] == "judge:70b")
        .collect();
    assert_eq!(judged.len(), 3);
    assert!(judged[0].last_message().contains("the product"));
}

#[tokio::test]
async fn eval_names_the_case_and_the_field_that_are_unusable() {
    let sandbox = Sandbox::new();
    let path = sandbox.path().join("cases.json");
    let file = path.to_str().unwrap();
    for (cases, said) in [
        ("[{", "not JSON"),
        (r#"[{"query": "x"}]"#, "case 1: expect: it is missing"),
        (
            r#"[{"id": "w", "query": "x", "expect": [{"capability": "wether.get"}]}]"#,
            "case 1 (w): expect[0].capability: no card offers 'wether.get'",
        ),
        (
            r#"[{"query": "x", "cards": "none.json", "expect": []}]"#,
            "case 1: cards: ",
        ),
    ] {
        std::fs::write(&path, cases).unwrap();
        let ran = sandbox.run(["eval", file]).await;
        assert_eq!(ran.code, 2, "{ran:?}");
        assert!(ran.stderr.contains(said), "{said} is missing from {ran:?}");
        assert!(
            ran.stderr.contains("hint: ") && ran.stdout.is_empty(),
            "{ran:?}"
        );
    }
    let ran = sandbox.run(["eval", "/nowhere/cases.json"]).await;
    assert_eq!(ran.code, 2, "{ran:?}");
}

#[tokio::test]
async fn agents_are_listed_with_what_they_can_do() {
    let sandbox = Sandbox::new();
    let ran = sandbox.run(["agents"]).await;
    assert!(
        ran.code == 0 && !ran.stdout.contains("stocks.get"),
        "online nobody tells made-up prices: {ran:?}"
    );
    let ran = sandbox.run(["agents", "--offline"]).await;
    assert_eq!(ran.code, 0, "{ran:?}");
    let heading = ran.stdout.lines().next().unwrap();
    for column in ["CAPABILITY", "AGENT", "STATE", "IN FLIGHT", "RESTARTS"] {
        assert!(heading.contains(column), "{heading}");
    }
    for capability in [
        "finance.db.query",
        "finance.analyze.expenses",
        "document.report.generate",
        "weather.get",
        "stocks.get",
        "joke.get",
        "math.eval",
    ] {
        let row = ran.stdout.lines().find(|line| line.starts_with(capability));
        assert!(
            row.is_some_and(|row| row.contains("ready")),
            "{capability}: {}",
            ran.stdout
        );
    }
    assert!(sandbox.run(["agents", "--json"]).await.json()["agents"].is_array());
}

#[tokio::test]
async fn the_doctor_finds_what_is_wrong() {
    let sandbox = Sandbox::new();
    let ran = sandbox
        .run(["doctor", "--json", "--http", "127.0.0.1:0"])
        .await;
    assert_eq!(ran.code, 0, "{ran:?}");
    assert_eq!(ran.json()["ok"], true);

    // A port that was free a moment ago, so that nobody answers there.
    let free = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken_at = taken.local_addr().unwrap().to_string();
    let url = format!("http://{free}");
    let ran = sandbox
        .run([
            "doctor",
            "--json",
            "--llm",
            "ollama",
            "--model",
            "m",
            "--ollama-url",
            &url,
            "--http",
            &taken_at,
        ])
        .await;
    assert_eq!(ran.code, 1, "{ran:?}");
    let report = ran.json();
    let failed: Vec<&Value> = report["checks"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|check| check["ok"] == false)
        .collect();
    assert_eq!(failed.len(), 2, "{report}");
    assert!(failed.iter().any(|check| check["name"] == "http"));
    assert!(failed.iter().any(|check| check["name"] == "llm.server"));
    assert!(failed.iter().all(|check| check["hint"].is_string()));
}

#[tokio::test]
async fn a_node_answers_over_http_and_to_ask_with_url() {
    let sandbox = Sandbox::new();
    let node = Node::start(&sandbox, &["--offline"], &[]).await;
    let http = client();
    // As curl -d sends it: JSON under the content type of a form.
    let response = http
        .post(node.url("/ask"))
        .header("content-type", "application/x-www-form-urlencoded")
        .body(r#"{"query":"What is 17 * 23?"}"#)
        .send()
        .await
        .unwrap();
    assert_eq!(response.status(), 200);
    let answer: Value = response.json().await.unwrap();
    assert!(
        answer["answer"].as_str().unwrap().contains("391"),
        "{answer}"
    );

    let url = node.url("");
    let ran = sandbox
        .run(["ask", "--url", &url, "--json", WEATHER_AND_JOKE])
        .await;
    assert_eq!(ran.code, 0, "{ran:?}");
    assert_eq!(ran.json()["state"], "completed");
    let ran = sandbox
        .run(["plan", "--url", &url, "--json", EXPENSES])
        .await;
    assert!(
        ran.json()["tasks"].as_array().unwrap().len() >= 3,
        "{ran:?}"
    );
    let ran = sandbox.run(["agents", "--url", &url]).await;
    assert!(ran.stdout.contains("math.eval"), "{ran:?}");

    // A report's link leads to the report.
    let ran = sandbox
        .run(["ask", "--url", &url, "--json", EXPENSES])
        .await;
    let answer = ran.json();
    let report = answer["tasks"]
        .as_array()
        .unwrap()
        .iter()
        .find(|t| t["capability"] == "document.report.generate");
    let link = report.unwrap()["result"]["url"].as_str().unwrap();
    let file = http.get(link).send().await.unwrap();
    assert_eq!(file.headers()["content-type"], "application/pdf");
    assert_eq!(file.headers()["x-content-type-options"], "nosniff");
    assert!(file.bytes().await.unwrap().starts_with(b"%PDF-"));

    node.signal("TERM").await;
    let (code, stderr) = node.ended().await;
    assert_eq!(code, 0, "{stderr}");
    assert!(stderr.contains("nothing left"), "{stderr}");
}

#[tokio::test]
async fn a_node_without_agents_is_not_ready_and_says_what_to_do() {
    let sandbox = Sandbox::new();
    let args = ["--offline", "--cluster", "127.0.0.1:0"];
    let roles = [("AMCP_PARTS", "orchestrator,gateway")];
    let node = Node::start(&sandbox, &args, &roles).await;
    let http = client();
    let ready = http.get(node.url("/readyz")).send().await.unwrap();
    assert_eq!(ready.status(), 503);
    for path in ["/ask", "/plan"] {
        let asked = http
            .post(node.url(path))
            .body(r#"{"query":"What is 17 * 23?"}"#);
        let refused = asked.send().await.unwrap();
        assert_eq!(refused.status(), 503, "{path}");
        assert_eq!(refused.headers()["retry-after"], "1");
        let body: Value = refused.json().await.unwrap();
        assert_eq!(body["error"]["code"], "not_ready", "{body}");
    }
    let ran = sandbox.run(["ask", "--url", &node.url(""), "2 + 2"]).await;
    assert_eq!(ran.code, 5, "{ran:?}");
    assert!(ran.stderr.contains("no agent is ready"), "{ran:?}");
    assert!(
        ran.stderr.contains("hint: ") && ran.stderr.contains("start specialists"),
        "{ran:?}"
    );
}

/// What a node says of a request that is open when its drain ends, and its exit code.
async fn drained_with(journal: &str) -> (i32, String) {
    // A weather service that accepts and says nothing.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let silent = format!("http://{}", silent.local_addr().unwrap());
    let environment = [
        ("AMCP_WEATHER_URL", silent.as_str()),
        ("AMCP_GEOCODING_URL", silent.as_str()),
        ("AMCP_DRAIN", "300ms"),
        ("AMCP_JOURNAL", journal),
    ];
    let sandbox = Sandbox::new();
    let node = Node::start(&sandbox, &[], &environment).await;
    let http = client();
    let accepted = http
        .post(node.url("/ask"))
        .header("prefer", "respond-async")
        .body(r#"{"query":"What is the weather in Paris?"}"#)
        .send()
        .await
        .unwrap();
    assert_eq!(accepted.status(), 202);
    let location = accepted.headers()["location"].to_str().unwrap().to_owned();
    let id = location.rsplit('/').next().unwrap().to_owned();
    node.signal("TERM").await;
    let (code, stderr) = node.ended().await;
    assert!(stderr.contains(&id), "{stderr}");
    (code, stderr)
}

#[tokio::test]
async fn a_drain_ends_in_time_and_says_what_it_left() {
    let (code, stderr) = drained_with("memory").await;
    assert!(
        code == 1 && stderr.contains("1 answered as failed, cut off"),
        "{code} {stderr}"
    );
    let (code, stderr) = drained_with("file").await;
    assert!(
        code == 0 && stderr.contains("1 go on after the next start"),
        "{code} {stderr}"
    );
}

#[tokio::test]
async fn the_second_signal_ends_a_node_at_once() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let silent = format!("http://{}", silent.local_addr().unwrap());
    let environment = [
        ("AMCP_WEATHER_URL", silent.as_str()),
        ("AMCP_GEOCODING_URL", silent.as_str()),
        ("AMCP_DRAIN", "10m"),
    ];
    let sandbox = Sandbox::new();
    let node = Node::start(&sandbox, &[], &environment).await;
    let http = client();
    let ask = http
        .post(node.url("/ask"))
        .header("prefer", "respond-async")
        .body(r#"{"query":"What is the weather in Paris?","deadline_ms":600000}"#);
    assert_eq!(ask.send().await.unwrap().status(), 202);
    node.signal("INT").await;
    // While it drains it says so, and takes nothing new.
    loop {
        let ready = http.get(node.url("/readyz")).send().await.unwrap();
        if ready.status() == 503 {
            assert!(ready.text().await.unwrap().contains("draining"));
            break;
        }
        tokio::task::yield_now().await;
    }
    let refused = http
        .post(node.url("/ask"))
        .body(r#"{"query":"1+1"}"#)
        .send()
        .await
        .unwrap();
    assert_eq!(refused.status(), 503);
    node.signal("INT").await;
    assert_eq!(node.ended().await.0, 130);
}

#[tokio::test]
async fn where_a_node_cannot_serve_it_says_what_to_do() {
    let sandbox = Sandbox::new();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let ran = sandbox.run(["node", "--http", &address]).await;
    assert_eq!(ran.code, 1);
    assert!(
        ran.stderr.contains(&address) && ran.stderr.contains("--http"),
        "{ran:?}"
    );

    std::fs::write(sandbox.path().join("file"), "").unwrap();
    let ran = sandbox
        .run(["ask", "--data", "file/data", "What is 1 + 1?"])
        .await;
    assert_eq!(ran.code, 1);
    assert!(
        ran.stderr.contains("file/data") && ran.stderr.contains("--data"),
        "{ran:?}"
    );

    let ran = sandbox
        .run(["ask", "--url", "http://127.0.0.1:9", "x"])
        .await;
    assert_eq!(ran.code, 5, "{ran:?}");
    assert!(ran.stderr.contains("amcp node"), "{ran:?}");
}

#[tokio::test]
async fn the_demo_shows_both_scenarios() {
    let sandbox = Sandbox::new();
    let ran = sandbox.run(["demo"]).await;
    assert_eq!(ran.code, 0, "{ran:?}");
    for part in [
        WEATHER_AND_JOKE,
        EXPENSES,
        "Plan by embedded",
        "after t1: ",
        "done by",
        "Answer (completed):",
        ".pdf",
    ] {
        assert!(
            ran.stdout.contains(part),
            "{part} is missing from\n{}",
            ran.stdout
        );
    }
}

#[tokio::test]
async fn faults_lose_no_request() {
    let sandbox = Sandbox::new();
    let ran = sandbox.run(["demo", "--faults", "--requests", "60"]).await;
    assert_eq!(ran.code, 0, "{ran:?}");
    let count = |what: &str| {
        let row = ran
            .stdout
            .lines()
            .find(|line| line.trim_start().starts_with(what));
        let count = row.and_then(|row| row.split_whitespace().last()?.parse::<u64>().ok());
        count.unwrap_or_else(|| panic!("no {what} in {}", ran.stdout))
    };
    assert_eq!(count("requests"), 60);
    assert_eq!(count("answered"), 60);
    assert_eq!(count("lost"), 0);
    assert!(count("specialists killed") > 0, "{}", ran.stdout);
    assert!(count("specialists restarted") > 0, "{}", ran.stdout);
}

#[tokio::test]
async fn a_model_plans_and_words_the_answer() {
    let ollama = FakeOllama::start().await;
    let plan = json!({
        "reasoning": "arithmetic", "answer_directly": null,
        "tasks": [{"id": "t1", "capability": "math.eval", "params": {"expression": "17 * 23"}, "depends_on": []}],
    });
    ollama.script([Reply::plan(&plan), Reply::text("It comes to 391.")]);
    let args = [
        "ask",
        "--offline",
        "--json",
        "--llm",
        "ollama",
        "--model",
        FakeOllama::MODEL,
    ];
    let sandbox = Sandbox::new();
    let mut command = sandbox.amcp(args);
    command.args(["--ollama-url", &ollama.url(), "What is 17 * 23?"]);
    let ran = finish(command).await;
    assert_eq!(ran.code, 0, "{ran:?}");
    let answer = ran.json();
    assert_eq!(answer["planner"], "ollama/fake:1b");
    assert_eq!(answer["answer"], "It comes to 391.");
    assert!(!ran.stderr.contains("without a language model"), "{ran:?}");

    // The same server, its address from OLLAMA_HOST: looked at and found well but for the reply to the probe.
    let mut command = sandbox.amcp([
        "doctor",
        "--json",
        "--http",
        "127.0.0.1:0",
        "--llm",
        "ollama",
    ]);
    command
        .args(["--model", "absent:7b"])
        .env("OLLAMA_HOST", ollama.url());
    let ran = finish(command).await;
    assert_eq!(ran.code, 1, "{ran:?}");
    let report = ran.json();
    let checks = report["checks"].as_array().unwrap();
    let ok = |name: &str| checks.iter().find(|check| check["name"] == name).unwrap()["ok"].clone();
    assert_eq!(ok("llm.server"), true, "{report}");
    assert_eq!(ok("llm.model"), false, "{report}");
}

#[tokio::test]
async fn a_dead_model_is_replaced_if_that_is_allowed_and_the_answer_says_so() {
    let free = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let url = format!("http://{free}");
    let args = [
        "ask",
        "--offline",
        "--llm",
        "ollama",
        "--model",
        "m",
        "--ollama-url",
        &url,
        "What is 17 * 23?",
    ];
    let sandbox = Sandbox::new();
    let mut command = sandbox.amcp(args);
    command.arg("--llm-fallback");
    let ran = finish(command).await;
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(ran.stdout.contains("391"), "{ran:?}");
    assert!(
        ran.stderr.contains("note: ") && ran.stderr.contains("llm_unavailable"),
        "{ran:?}"
    );

    let ran = sandbox.run(args).await;
    assert_eq!(ran.code, 5, "{ran:?}");
    assert!(
        ran.stderr.contains("error: ") && ran.stdout.is_empty(),
        "{ran:?}"
    );
}

#[tokio::test]
async fn an_interrupted_ask_is_cancelled_here_and_at_a_node() {
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", silent.local_addr().unwrap());
    let sandbox = Sandbox::new();
    let waits = [("AMCP_WEATHER_URL", &*url), ("AMCP_GEOCODING_URL", &*url)];
    let node = Node::start(&sandbox, &[], &waits).await;
    let there = node.url("");
    let there = ["--url", &*there];
    for place in [&[][..], &there] {
        let query = ["ask", "--json", "What is the weather in Paris?"];
        let mut command = sandbox.amcp(query.iter().chain(place));
        command
            .envs(waits)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let process = command.spawn().unwrap();
        // The task is under way.
        let _asked = timeout(PATIENCE, silent.accept()).await.unwrap().unwrap();
        let id = process.id().unwrap().to_string();
        let sent = std::process::Command::new("kill")
            .args(["-s", "INT", &id])
            .status();
        assert!(sent.unwrap().success());
        let output = timeout(PATIENCE, process.wait_with_output()).await.unwrap();
        let ran = Ran::from(output.unwrap());
        assert_eq!(ran.code, 4, "{place:?}: {ran:?}");
        assert_eq!(ran.json()["state"], "cancelled");
    }
}

/// Interrupts a process until it ends.
async fn interrupted(mut process: tokio::process::Child) -> Ran {
    let end = async {
        while process.try_wait().unwrap().is_none() {
            interrupt(&process);
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
        process.wait_with_output().await.unwrap()
    };
    timeout(PATIENCE, end).await.unwrap().into()
}

fn interrupt(process: &tokio::process::Child) {
    let id = process.id().unwrap().to_string();
    let kill = std::process::Command::new("kill")
        .args(["-s", "INT", &id])
        .status();
    assert!(kill.unwrap().success());
}

fn begin(sandbox: &Sandbox, url: &str) -> tokio::process::Child {
    let mut command = sandbox.amcp(["ask", "What is the weather in Paris?", "--url", url]);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().unwrap()
}

#[tokio::test]
async fn a_second_interrupt_ends_the_wait_for_a_node_that_hangs() {
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", silent.local_addr().unwrap());
    let sandbox = Sandbox::new();
    let waits = [("AMCP_WEATHER_URL", &*url), ("AMCP_GEOCODING_URL", &*url)];
    let node = Node::start(&sandbox, &[], &waits).await;
    let process = begin(&sandbox, &node.url(""));
    // The task is under way.
    let _asked = timeout(PATIENCE, silent.accept()).await.unwrap().unwrap();
    node.signal("STOP").await;
    let ran = interrupted(process).await;
    node.signal("CONT").await;
    assert_eq!(ran.code, 4, "{ran:?}");
    assert!(ran.stderr.contains("so it may go on"), "{ran:?}");

    // The same before a node has accepted the request; the first one may still ask for the weather.
    let mute = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let process = begin(&sandbox, &format!("http://{}", mute.local_addr().unwrap()));
    let _asked = timeout(PATIENCE, mute.accept()).await.unwrap().unwrap();
    let ran = interrupted(process).await;
    assert_eq!(ran.code, 4, "{ran:?}");
    assert!(ran.stderr.contains("so it may go on"), "{ran:?}");
}

#[tokio::test]
async fn an_interrupt_before_the_request_is_accepted_cancels_it_afterwards() {
    let node = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", node.local_addr().unwrap());
    let sandbox = Sandbox::new();
    let process = begin(&sandbox, &url);
    let connection = async || {
        let (stream, _) = timeout(PATIENCE, node.accept()).await.unwrap().unwrap();
        let mut stream = tokio::io::BufReader::new(stream);
        let mut line = String::new();
        let read = tokio::io::AsyncBufReadExt::read_line(&mut stream, &mut line);
        timeout(PATIENCE, read).await.unwrap().unwrap();
        (line, stream)
    };
    let (asked, mut stream) = connection().await;
    assert!(asked.starts_with("POST /ask"), "{asked}");
    interrupt(&process);
    let id = "0190a0e2-6f3c-7b1a-8d2e-3f4a5b6c7d8e";
    let body = json!({"request_id": id}).to_string();
    let head = "HTTP/1.1 202 Accepted\r\nconnection: close\r\ncontent-length";
    let reply = format!("{head}: {}\r\n\r\n{body}", body.len());
    stream.write_all(reply.as_bytes()).await.unwrap();
    // The events and the cancellation, in any order.
    let (one, _events) = connection().await;
    let (other, _cancel) = connection().await;
    let cancels = |line: &str| line.starts_with(&format!("DELETE /requests/{id}"));
    assert!(cancels(&one) || cancels(&other), "{one}{other}");
    assert_eq!(interrupted(process).await.code, 4);
}
