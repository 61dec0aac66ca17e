//! The LLM clients against a server that misbehaves in every known way: whatever comes, a text or a typed failure.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::Duration;

use amcp_planner::client::{
    ApiKey, BreakerSettings, ChatReply, ChatRequest, ChatTurn, GuardSettings, Guarded, LlmClient,
    LlmSettings, Provider, parse_ollama_url, parse_openai_url, probe,
};
use amcp_protocol::{ErrorCode, Failure};
use amcp_tests::fake_ollama::{End, FakeOllama, Framing, Reply};
use serde_json::{Value, json};

const BOTH: [Provider; 2] = [Provider::Ollama, Provider::OpenAi];

fn settings(provider: Provider, url: &str) -> LlmSettings {
    let url = match provider {
        Provider::Ollama => parse_ollama_url(url),
        Provider::OpenAi => parse_openai_url(url),
    };
    LlmSettings {
        first_byte: Duration::from_secs(30),
        idle: Duration::from_secs(30),
        ..LlmSettings::new(provider, url.unwrap(), FakeOllama::MODEL)
    }
}

/// For the replies that never come.
fn hasty(provider: Provider, url: &str) -> LlmSettings {
    LlmSettings {
        first_byte: Duration::from_millis(100),
        idle: Duration::from_millis(100),
        ..settings(provider, url)
    }
}

fn hello() -> ChatRequest {
    ChatRequest {
        system: "Be brief.".to_owned(),
        turns: vec![ChatTurn {
            by_model: false,
            text: "Say hello.".to_owned(),
        }],
        format: None,
        max_tokens: 100,
    }
}

async fn ask(settings: &LlmSettings) -> Result<ChatReply, Failure> {
    settings.client().unwrap().chat(hello()).await
}

async fn text_of(provider: Provider, reply: Reply) -> String {
    let server = FakeOllama::start().await;
    server.script([reply]);
    ask(&settings(provider, &server.url())).await.unwrap().text
}

async fn failure_of(provider: Provider, reply: Reply) -> Failure {
    let server = FakeOllama::start().await;
    let mut settings = if reply.is_endless() {
        hasty(provider, &server.url())
    } else {
        settings(provider, &server.url())
    };
    server.script([reply]);
    settings.answer_bytes = 100_000;
    ask(&settings).await.unwrap_err()
}

#[tokio::test]
async fn a_text_is_whole_however_it_was_cut_on_its_way() {
    let text = "Zürich: 21 °C ☀️ 😀\n\"quoted\" — fin";
    for framing in [
        Framing::Lines,
        Framing::MidCharacter,
        Framing::MidLine,
        Framing::Joined(2),
        Framing::Joined(1_000),
        Framing::Bytes(1),
        Framing::Bytes(7),
    ] {
        let got = text_of(Provider::Ollama, Reply::text(text).framed(framing)).await;
        assert_eq!(got, text, "{framing:?}");
    }
    assert_eq!(text_of(Provider::OpenAi, Reply::text(text)).await, text);
}

#[tokio::test]
async fn thinking_is_not_part_of_the_text() {
    for provider in BOTH {
        let text = text_of(provider, Reply::thinking(&json!({"tasks": []}))).await;
        assert_eq!(text, r#"{"tasks":[]}"#);
    }
}

#[tokio::test]
async fn a_cut_text_is_known_to_be_cut() {
    for (end, tokens, truncated) in [
        (End::Done("stop"), Some(100), false),
        (End::Done("length"), Some(3), true),
        (End::Done("length"), None, true),
        (End::DoneWithoutReason, Some(99), false),
        (End::DoneWithoutReason, Some(100), true),
        (End::DoneWithoutReason, None, false),
    ] {
        for provider in BOTH {
            let server = FakeOllama::start().await;
            server.script([Reply::text("hi").ending(end.clone()).counting(tokens)]);
            let reply = ask(&settings(provider, &server.url())).await.unwrap();
            assert_eq!(
                reply.truncated, truncated,
                "{provider:?} {end:?} {tokens:?}"
            );
            assert_eq!(reply.reply_tokens, tokens);
        }
    }
}

/// Each fault with the code that it has at Ollama and at an OpenAI-style server.
fn faults() -> Vec<(Reply, ErrorCode, ErrorCode)> {
    use ErrorCode::{LlmBusy, LlmCut, LlmMalformed, LlmModelMissing, LlmTimeout, LlmUnavailable};
    let status = |status, message: &str| Reply::Status(status, message.to_owned());
    let begun = |end| Reply::text("Hello, this is the beginning of").ending(end);
    let said = |message: &str| begun(End::Error(message.to_owned()));
    let raw = |body: &str| Reply::Raw(body.as_bytes().to_vec());
    let crashed = said("llama runner process has terminated");
    let alike = |reply, code| (reply, code, code);
    vec![
        alike(Reply::Busy, LlmBusy),
        alike(Reply::ModelMissing, LlmModelMissing),
        alike(Reply::InvalidFormat, LlmMalformed),
        alike(status(401, "no key"), LlmMalformed),
        alike(status(429, "slow down"), LlmBusy),
        alike(status(500, "out of memory"), LlmMalformed),
        alike(status(502, "bad gateway"), LlmUnavailable),
        alike(status(504, "too slow"), LlmTimeout),
        alike(
            Reply::Redirect("http://127.0.0.1:9/".to_owned()),
            LlmMalformed,
        ),
        alike(Reply::Hang, LlmTimeout),
        alike(Reply::Reset, LlmUnavailable),
        alike(begun(End::Cut), LlmCut),
        alike(begun(End::Missing), LlmCut),
        alike(begun(End::Stall), LlmTimeout),
        (crashed, LlmCut, LlmMalformed),
        alike(said("server busy, please try again"), LlmBusy),
        alike(raw("<html>hello</html>"), LlmMalformed),
        alike(raw("{\"hello\": 1}"), LlmMalformed),
        alike(raw("{\"done\": \"yes\"}\n"), LlmMalformed),
        alike(Reply::huge_line(1_000_000), LlmMalformed),
    ]
}

#[tokio::test]
async fn each_fault_is_a_typed_failure_that_says_where() {
    for (reply, ollama, openai) in faults() {
        for (provider, code) in [(Provider::Ollama, ollama), (Provider::OpenAi, openai)] {
            let failure = failure_of(provider, reply.clone()).await;
            assert_eq!(failure.code, code, "{provider:?} {reply:?}: {failure}");
            assert!(failure.message.contains("127.0.0.1"), "{failure}");
            assert!(failure.message.len() < 1_000, "{failure}");
        }
    }
}

#[tokio::test]
async fn an_empty_body_is_no_answer() {
    assert_eq!(
        failure_of(Provider::Ollama, Reply::Raw(Vec::new()))
            .await
            .code,
        ErrorCode::LlmCut
    );
    assert_eq!(
        failure_of(Provider::OpenAi, Reply::Raw(Vec::new()))
            .await
            .code,
        ErrorCode::LlmMalformed
    );
}

#[tokio::test]
async fn hints_name_the_command_that_helps() {
    let missing = failure_of(Provider::Ollama, Reply::ModelMissing).await;
    assert!(missing.hint.unwrap().contains("ollama pull fake:1b"));
    let gone = {
        let server = FakeOllama::start().await;
        server.url()
    };
    for provider in BOTH {
        let failure = ask(&settings(provider, &gone)).await.unwrap_err();
        assert_eq!(failure.code, ErrorCode::LlmUnavailable, "{failure}");
        assert!(failure.hint.unwrap().contains(&gone));
    }
    let nowhere = settings(Provider::Ollama, "http://host.invalid:11434");
    assert_eq!(
        ask(&nowhere).await.unwrap_err().code,
        ErrorCode::LlmUnavailable
    );
}

#[tokio::test]
async fn a_wrong_prefix_is_not_a_missing_model() {
    let server = FakeOllama::start_below("/llm").await;
    server.script([Reply::text("hi")]);
    let wrong = server.url().replace("/llm", "/elsewhere");
    let failure = ask(&settings(Provider::Ollama, &wrong)).await.unwrap_err();
    assert_eq!(failure.code, ErrorCode::LlmMalformed, "{failure}");
    let reply = ask(&settings(Provider::Ollama, &server.url()))
        .await
        .unwrap();
    assert_eq!(reply.text, "hi");
}

#[tokio::test]
async fn ollama_is_told_everything_that_makes_it_predictable() {
    let server = FakeOllama::start().await;
    server.script([Reply::text("{}")]);
    let schema =
        json!({"type": "object", "properties": {"z": {"const": 1}, "a": {"type": "string"}}});
    let request = ChatRequest {
        format: Some(schema.clone()),
        ..hello()
    };
    let client = settings(Provider::Ollama, &server.url()).client().unwrap();
    client.chat(request).await.unwrap();
    let sent = &server.chats()[0];
    assert_eq!(
        sent.format().to_string(),
        schema.to_string(),
        "the order of properties is part of the prompt"
    );
    assert_eq!(sent.body["stream"], json!(true));
    assert_eq!(sent.body["truncate"], json!(false));
    assert_eq!(sent.body["think"], json!(false));
    let options = &sent.body["options"];
    assert_eq!(options["temperature"], json!(0.0));
    assert_eq!(options["num_predict"], json!(100));
    assert!(options["num_ctx"].as_u64().unwrap() > 4_096);
    assert!(options["seed"].is_number());
    assert_eq!(
        (sent.message(0), sent.last_message()),
        ("Be brief.", "Say hello.")
    );
}

#[tokio::test]
async fn an_openai_style_server_gets_its_key_and_schema_in_its_own_form() {
    let server = FakeOllama::start_below("/proxy").await;
    server.script([Reply::text("{}")]);
    let mut settings = settings(Provider::OpenAi, &format!("{}/v1", server.url()));
    settings.api_key = Some(ApiKey::new("k-123"));
    assert!(!format!("{settings:?}").contains("k-123"));
    let request = ChatRequest {
        format: Some(json!({"type": "object"})),
        ..hello()
    };
    settings.client().unwrap().chat(request).await.unwrap();
    let sent = &server.chats()[0];
    assert_eq!(sent.headers["authorization"], "Bearer k-123");
    assert_eq!(sent.body["response_format"]["type"], "json_schema");
    assert_eq!(sent.format(), &json!({"type": "object"}));
    assert_eq!(sent.body["max_tokens"], json!(100));
}

#[tokio::test]
async fn a_busy_server_is_asked_again_and_a_missing_model_is_not() {
    let server = FakeOllama::start().await;
    server.script([Reply::Reset, Reply::Busy, Reply::text("hi")]);
    let client = settings(Provider::Ollama, &server.url()).client().unwrap();
    let guarded = Guarded::new(client, GuardSettings::default());
    assert_eq!(guarded.chat(hello()).await.unwrap().text, "hi");
    assert_eq!(server.chats().len(), 3);
    assert_eq!(guarded.health().last_failure, None);

    server.script([Reply::ModelMissing, Reply::text("not asked for")]);
    let failure = guarded.chat(hello()).await.unwrap_err();
    assert_eq!(failure.code, ErrorCode::LlmModelMissing);
    assert_eq!(server.chats().len(), 4);
    assert_eq!(guarded.health().breaker, "closed");
}

#[tokio::test]
async fn a_server_that_hangs_is_left_alone_after_some_calls() {
    let server = FakeOllama::start().await;
    server.otherwise(|_| Reply::Hang);
    let client = settings(Provider::Ollama, &server.url()).client().unwrap();
    let guard = GuardSettings {
        call: Duration::from_millis(500),
        breaker: BreakerSettings {
            failures: 2,
            open: Duration::from_secs(3_600),
        },
        ..GuardSettings::default()
    };
    let guarded = Guarded::new(client, guard);
    for code in [
        ErrorCode::LlmTimeout,
        ErrorCode::LlmTimeout,
        ErrorCode::LlmUnavailable,
    ] {
        assert_eq!(guarded.chat(hello()).await.unwrap_err().code, code);
    }
    assert_eq!(
        server.chats().len(),
        2,
        "the third call does not reach the server"
    );
    let health = guarded.health();
    assert_eq!(
        (health.breaker, health.in_flight, health.waiting),
        ("open", 0, 0)
    );
    assert_eq!(health.last_failure.unwrap().code, ErrorCode::LlmTimeout);
}

#[tokio::test]
async fn the_doctor_names_the_first_thing_that_is_wrong() {
    let good = r#"{"shade":"amcp-dark","steps":[1]}"#;
    for provider in BOTH {
        let server = FakeOllama::start().await;
        let settings = settings(provider, &server.url());
        server.script([Reply::text(good), Reply::text("Hello!")]);
        let seen = |checks: Vec<amcp_planner::client::Check>| -> Vec<(String, bool)> {
            checks.into_iter().map(|c| (c.name, c.ok)).collect()
        };
        let named = |oks: &[bool]| -> Vec<(String, bool)> {
            ["llm.server", "llm.model", "llm.format"]
                .into_iter()
                .zip(oks)
                .map(|(n, &ok)| (n.to_owned(), ok))
                .collect()
        };
        assert_eq!(seen(probe(&settings).await), named(&[true, true, true]));
        assert_eq!(seen(probe(&settings).await), named(&[true, true, false]));
        server.models(&["other:7b"]);
        let checks = probe(&settings).await;
        assert!(checks[1].detail.contains("other:7b"), "{checks:?}");
        assert!(checks[1].hint.is_some());
        assert_eq!(seen(checks), named(&[true, false]));
        drop(server);
        let checks = probe(&settings).await;
        assert!(
            checks[0].hint.as_ref().unwrap().contains("running"),
            "{checks:?}"
        );
        assert_eq!(seen(checks), named(&[false]));
    }
}

#[tokio::test]
async fn a_model_may_be_named_without_its_tag() {
    let server = FakeOllama::start().await;
    server
        .models(&["tiny:latest"])
        .script([Reply::text(r#"{"shade":"amcp-dark","steps":[]}"#)]);
    let mut settings = settings(Provider::Ollama, &server.url());
    settings.model = "tiny".to_owned();
    assert!(probe(&settings).await.iter().all(|check| check.ok));
    let chat: Value = server.chats()[0].body.clone();
    assert_eq!(chat["model"], json!("tiny"));
}
