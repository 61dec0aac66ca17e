//! The LLM clients against a server that misbehaves in every known way: whatever comes, a text or a typed failure.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::Arc;
use std::time::Duration;

use amcp_planner::client::{
    ApiKey, BreakerSettings, ChatReply, ChatRequest, ChatTurn, GuardSettings, Guarded, LlmClient,
    LlmSettings, Provider, TextSink, Usage, parse_ollama_url, parse_openai_url, probe,
};
use amcp_protocol::{ErrorCode, Failure};
use amcp_tests::fake_ollama::{End, FakeOllama, Framing, Pace, Reply};
use serde_json::{Value, json};
use tokio::sync::Semaphore;

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
        for provider in BOTH {
            let got = text_of(provider, Reply::text(text).framed(framing)).await;
            assert_eq!(got, text, "{provider:?} {framing:?}");
        }
    }
}

/// Remembers the pieces, and how often they became void.
#[derive(Default)]
struct Pieces {
    pieces: Vec<String>,
    resets: usize,
}

impl TextSink for Pieces {
    fn piece(&mut self, text: &str) {
        self.pieces.push(text.to_owned());
    }

    fn reset(&mut self) {
        self.pieces.clear();
        self.resets += 1;
    }
}

async fn stream(settings: &LlmSettings, sink: &mut Pieces) -> Result<ChatReply, Failure> {
    settings.client().unwrap().stream(hello(), sink).await
}

#[tokio::test]
async fn a_text_comes_in_the_pieces_in_which_it_is_written() {
    let text = "Zürich: 21 °C ☀️ 😀\n\"quoted\" — fin";
    for provider in BOTH {
        let server = FakeOllama::start().await;
        server.script([
            Reply::text(text),
            Reply::text(format!("<think>{text}</think>\n{text}")).framed(Framing::Bytes(3)),
            Reply::text(format!("Well, well</think>\n{text}")),
        ]);
        let settings = settings(provider, &server.url());
        for resets in [0, 0, 1] {
            let mut sink = Pieces::default();
            let reply = stream(&settings, &mut sink).await.unwrap();
            assert_eq!(reply.text, text);
            assert_eq!((sink.pieces.concat().as_str(), sink.resets), (text, resets));
            assert!(sink.pieces.len() > 3, "{:?}", sink.pieces);
            let usage = Usage {
                prompt_tokens: 326,
                reply_tokens: 42,
                calls: 1,
            };
            assert_eq!(reply.usage, usage, "{provider:?}");
        }
        server.script([Reply::text(text).ending(End::Cut)]);
        let mut sink = Pieces::default();
        let failure = stream(&settings, &mut sink).await.unwrap_err();
        assert_eq!(failure.code, ErrorCode::LlmCut);
        assert_eq!(sink.pieces.concat(), text, "what came before the cut");
    }
}

/// The server has written so many tokens and waits for leave to write the next one.
#[tokio::test]
async fn a_piece_is_there_before_the_next_one_is_written() {
    struct Tell(tokio::sync::mpsc::UnboundedSender<String>);
    impl TextSink for Tell {
        fn piece(&mut self, text: &str) {
            self.0.send(text.to_owned()).unwrap();
        }

        fn reset(&mut self) {}
    }
    for provider in BOTH {
        let server = FakeOllama::start().await;
        let leave = Arc::new(Semaphore::new(0));
        server.script([Reply::text("one two three").paced(Pace::Permits(leave.clone()))]);
        let client = settings(provider, &server.url()).client().unwrap();
        let (told, mut pieces) = tokio::sync::mpsc::unbounded_channel();
        let asked = tokio::spawn(async move { client.stream(hello(), &mut Tell(told)).await });
        if provider == Provider::OpenAi {
            // A comment, and an event with the role alone.
            leave.add_permits(2);
        }
        for piece in ["one ", "two ", "thre", "e"] {
            leave.add_permits(1);
            let got = tokio::time::timeout(Duration::from_secs(30), pieces.recv()).await;
            assert_eq!(got.unwrap().unwrap(), piece);
        }
        leave.close();
        assert_eq!(asked.await.unwrap().unwrap().text, "one two three");
    }
}

#[tokio::test]
async fn a_server_that_ignores_the_wish_to_stream_is_read_all_the_same() {
    let server = FakeOllama::start().await;
    let body = |text: &str| {
        json!({"choices": [{"message": {"role": "assistant", "content": text}, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 1, "completion_tokens": 2}})
    };
    let raw = |body: Value| Reply::Raw(body.to_string().into_bytes());
    server.script([
        raw(body("hi")),
        raw(json!({"error": {"message": "no"}})),
        raw(json!({"choices": []})),
    ]);
    let settings = settings(Provider::OpenAi, &server.url());
    let mut sink = Pieces::default();
    let reply = stream(&settings, &mut sink).await.unwrap();
    assert_eq!((reply.text.as_str(), reply.truncated), ("hi", false));
    assert_eq!(reply.usage.reply_tokens, 2);
    assert_eq!(sink.pieces, ["hi"]);
    for _ in 0..2 {
        let failure = ask(&settings).await.unwrap_err();
        assert_eq!(failure.code, ErrorCode::LlmMalformed, "{failure}");
    }
}

#[tokio::test]
async fn a_line_and_a_reply_are_bounded() {
    for (line_bytes, answer_bytes) in [(2_000_000, usize::MAX), (500_000, 400_000)] {
        let server = FakeOllama::start().await;
        server.script([Reply::huge_line(line_bytes)]);
        let mut settings = settings(Provider::Ollama, &server.url());
        settings.answer_bytes = answer_bytes;
        let failure = ask(&settings).await.unwrap_err();
        assert_eq!(failure.code, ErrorCode::LlmMalformed);
        assert!(failure.message.contains("more than"), "{failure}");
    }
}

#[tokio::test]
async fn pieces_of_a_call_that_is_repeated_are_void() {
    for provider in BOTH {
        let server = FakeOllama::start().await;
        server.script([
            Reply::text("The first words").ending(End::Error("server busy".to_owned())),
            Reply::text("hi"),
        ]);
        let client = settings(provider, &server.url()).client().unwrap();
        let guarded = Guarded::new(client, GuardSettings::default());
        let mut sink = Pieces::default();
        let reply = guarded.stream(hello(), &mut sink).await.unwrap();
        assert_eq!((reply.text.as_str(), sink.resets), ("hi", 1));
        assert_eq!(sink.pieces, ["hi"]);
    }
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
            assert_eq!(u64::from(reply.usage.reply_tokens), tokens.unwrap_or(0));
        }
    }
}

/// Each fault with its code, which is the same of both protocols.
fn faults() -> Vec<(Reply, ErrorCode)> {
    use ErrorCode::{LlmBusy, LlmCut, LlmMalformed, LlmModelMissing, LlmTimeout, LlmUnavailable};
    let status = |status, message: &str| Reply::Status(status, message.to_owned());
    let begun = |end| Reply::text("Hello, this is the beginning of").ending(end);
    let said = |message: &str| begun(End::Error(message.to_owned()));
    let raw = |body: &str| Reply::Raw(body.as_bytes().to_vec());
    vec![
        (Reply::Busy, LlmBusy),
        (Reply::ModelMissing, LlmModelMissing),
        (Reply::InvalidFormat, LlmMalformed),
        (status(401, "no key"), LlmMalformed),
        (status(429, "slow down"), LlmBusy),
        (status(500, "out of memory"), LlmMalformed),
        (status(502, "bad gateway"), LlmUnavailable),
        (status(504, "too slow"), LlmTimeout),
        (
            Reply::Redirect("http://127.0.0.1:9/".to_owned()),
            LlmMalformed,
        ),
        (Reply::Hang, LlmTimeout),
        (Reply::Reset, LlmUnavailable),
        (begun(End::Cut), LlmCut),
        (begun(End::Missing), LlmCut),
        (begun(End::Stall), LlmTimeout),
        (said("llama runner process has terminated"), LlmCut),
        (said("server busy, please try again"), LlmBusy),
        (raw("<html>hello</html>"), LlmMalformed),
        (raw("{\"hello\": 1}"), LlmMalformed),
        (raw("{\"done\": \"yes\"}\n"), LlmMalformed),
        (Reply::huge_line(1_000_000), LlmMalformed),
    ]
}

#[tokio::test]
async fn each_fault_is_a_typed_failure_that_says_where() {
    for (reply, code) in faults() {
        for provider in BOTH {
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
    assert_eq!(sent.body["stream"], json!(true));
    assert_eq!(sent.body["stream_options"]["include_usage"], json!(true));
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
