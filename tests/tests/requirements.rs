//! The tests that the requirements ask for, by their names there, through a whole mesh with an LLM planner that talks to
//! the fake Ollama server.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

use std::sync::Arc;
use std::time::Duration;

use amcp_orchestrator::Settings;
use amcp_planner::client::{LlmSettings, Provider, parse_ollama_url};
use amcp_planner::llm::LlmPlanner;
use amcp_protocol::{AnswerState, ErrorCode, TaskState, UserRequest};
use amcp_specialists::supervisor::ChildSpec;
use amcp_specialists::{
    AgentCard, Capability, Consumes, Context, Failure, Produces, Specialist, Task, async_trait,
};
use amcp_tests::fake_ollama::{FakeOllama, Reply};
use amcp_tests::mesh::Mesh;
use amcp_tests::process::client;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// A specialist of one capability, from a function.
struct Does<F> {
    capability: Capability,
    work: F,
}

#[async_trait]
impl<F: Fn(&Task) -> Result<Value, Failure> + Send + Sync + 'static> Specialist for Does<F> {
    fn card(&self) -> AgentCard {
        AgentCard::new("replaced", "For tests.", vec![self.capability.clone()])
    }

    async fn handle(&self, task: Task, _: &Context) -> Result<Value, Failure> {
        tokio::task::yield_now().await;
        (self.work)(&task)
    }
}

fn does<F>(id: &str, capability: Capability, work: F) -> ChildSpec
where
    F: Fn(&Task) -> Result<Value, Failure> + Clone + Send + Sync + 'static,
{
    ChildSpec::new(id, move || Does {
        capability: capability.clone(),
        work: work.clone(),
    })
}

fn takes(name: &str, param: &str) -> Capability {
    let mut capability = Capability::new(name, &format!("Does {name}."));
    capability.params = json!({
        "type": "object", "properties": {param: {"type": "string"}}, "required": [param], "additionalProperties": false,
    });
    capability
}

fn weather() -> ChildSpec {
    does("weather-1", takes("weather.get", "city"), |task| {
        Ok(json!({"text": format!("In {} it is sunny.", task.text("city"))}))
    })
}

fn joke() -> ChildSpec {
    does("joke-1", takes("joke.get", "topic"), |task| {
        Ok(json!({"text": format!("A {} joke: there are 10 kinds of people.", task.text("topic"))}))
    })
}

async fn mesh(llm: &FakeOllama, children: Vec<ChildSpec>) -> Mesh {
    let settings = LlmSettings::new(Provider::Ollama, llm.url().parse().unwrap(), "test-model");
    let client = settings.client().unwrap();
    Mesh::start(
        Arc::new(LlmPlanner::new(client)),
        Settings::default(),
        children,
    )
    .await
}

fn weather_and_joke() -> Reply {
    Reply::plan(&json!([
        {"capability": "weather.get", "params": {"city": "Paris"}},
        {"capability": "joke.get", "params": {"topic": "programming"}},
    ]))
}

#[tokio::test]
async fn plan_dispatch_and_aggregation() {
    let llm = FakeOllama::start().await;
    llm.script([
        weather_and_joke(),
        Reply::text("In Paris it's sunny. Here is a programming joke: 10 kinds."),
    ]);
    let mesh = mesh(&llm, vec![weather(), joke()]).await;
    let mut requests = mesh.bus.subscribe("task.request.**".parse().unwrap(), 8);
    let mut responses = mesh.bus.subscribe("user.response".parse().unwrap(), 8);
    let answer = mesh
        .ask("What's the weather in Paris and tell me a programming joke?")
        .await;
    let mut subjects = Vec::new();
    for _ in 0..2 {
        let event = requests.recv().await.unwrap();
        assert_eq!(
            (event.event_type.as_str(), event.correlation()),
            ("task.request", Some(answer.request_id))
        );
        subjects.push((
            event.subject.clone().unwrap(),
            event.data.clone().unwrap()["params"].clone(),
        ));
    }
    subjects.sort_by(|a, b| a.0.cmp(&b.0));
    assert_eq!(
        subjects[0],
        ("joke.get".into(), json!({"topic": "programming"}))
    );
    assert_eq!(
        subjects[1],
        ("weather.get".into(), json!({"city": "Paris"}))
    );
    assert_eq!(
        responses.recv().await.unwrap().correlation(),
        Some(answer.request_id)
    );
    assert_eq!(answer.state, AnswerState::Completed);
    assert!(
        answer.answer.contains("Paris") && answer.answer.contains("joke"),
        "{}",
        answer.answer
    );
    assert_eq!(mesh.orchestrator.in_flight(), 0);
    // The second call was given both results to write from.
    let written_from = llm.chats()[1].last_message().to_owned();
    assert!(
        written_from.contains("In Paris it is sunny.") && written_from.contains("10 kinds"),
        "{written_from}"
    );
}

#[tokio::test]
async fn no_capability() {
    let llm = FakeOllama::start().await;
    llm.otherwise(|_| Reply::plan(&json!([{"capability": "unknown.skill"}])));
    let mesh = mesh(&llm, vec![weather()]).await;
    let answer = mesh.ask("Do the unknown.").await;
    assert_eq!(
        (answer.state, answer.error.as_ref().unwrap().code),
        (AnswerState::Failed, ErrorCode::UnknownCapability)
    );
    assert!(answer.tasks.is_empty() && !answer.answer.is_empty());
    assert!(llm.chats().len() <= 3, "one plan and two repairs");
}

fn finance() -> Vec<ChildSpec> {
    let rows = json!([{"department": "Sales", "amount": 10_000}, {"department": "Engineering", "amount": 8_000}]);
    let mut query = takes("finance.db.query", "quarter");
    query.produces = vec![Produces {
        value_type: "expense.rows".into(),
        path: "/rows".into(),
    }];
    let mut analyze = takes("finance.analyze.expenses", "metric");
    analyze.params["properties"]["rows"] = json!({"type": "array"});
    analyze.params["required"] = json!(["rows"]);
    analyze.consumes = vec![Consumes {
        param: "rows".into(),
        types: vec!["expense.rows".into()],
    }];
    analyze.produces = vec![Produces {
        value_type: "expense.summary".into(),
        path: String::new(),
    }];
    let mut report = takes("document.report.generate", "format");
    report.params["properties"]["content"] = json!({"type": "object"});
    report.params["required"] = json!(["content"]);
    report.consumes = vec![Consumes {
        param: "content".into(),
        types: vec!["expense.summary".into()],
    }];
    vec![
        does("db-1", query, move |_| Ok(json!({"rows": rows}))),
        does("analyze-1", analyze, |task| {
            let rows = task.params["rows"].as_array().expect("the schema says so");
            let total: i64 = rows.iter().filter_map(|row| row["amount"].as_i64()).sum();
            Ok(json!({"total": total, "text": format!("Total {total}.")}))
        }),
        does("report-1", report, |task| {
            Ok(
                json!({"url": "file:///q4.pdf", "text": format!("A report of {}.", task.params["content"]["total"])}),
            )
        }),
    ]
}

/// The requirements' own failing plan: three tasks in parallel, none with its input.
#[tokio::test]
async fn sequential_dependency() {
    let llm = FakeOllama::start().await;
    llm.script([
        Reply::plan(&json!([
            {"capability": "finance.db.query", "params": {"quarter": "Q4 2024"}},
            {"capability": "finance.analyze.expenses", "params": {"metric": "summary by department"}},
            {"capability": "document.report.generate", "params": {"format": "PDF"}},
        ])),
        Reply::text("The total is 18000."),
    ]);
    let mesh = mesh(&llm, finance()).await;
    let answer = mesh
        .ask("Produce an expense summary report for Q4 2024.")
        .await;
    assert_eq!(answer.state, AnswerState::Completed, "{answer:#?}");
    assert_eq!(
        answer.tasks[2].result.as_ref().unwrap()["text"],
        "A report of 18000."
    );
}

#[tokio::test]
async fn llm_down() {
    let llm = FakeOllama::start().await;
    let mesh = mesh(&llm, vec![weather()]).await;
    drop(llm);
    let answer = mesh.ask("What's the weather in Paris?").await;
    let error = answer.error.as_ref().unwrap();
    assert_eq!(
        (answer.state, error.code),
        (AnswerState::Failed, ErrorCode::LlmUnavailable)
    );
    assert!(error.hint.is_some());
    assert_eq!(mesh.orchestrator.counts().crashed, 0);
}

#[tokio::test]
async fn specialist_errors() {
    let llm = FakeOllama::start().await;
    llm.script([
        weather_and_joke(),
        Reply::text("nothing better"),
        Reply::text("Sunny, but no joke."),
    ]);
    let broken = does("joke-1", takes("joke.get", "topic"), |_| {
        Err(Failure::task("no joke comes to mind"))
    });
    let mesh = mesh(&llm, vec![weather(), broken]).await;
    let answer = mesh
        .ask("What's the weather in Paris and tell me a programming joke?")
        .await;
    assert_eq!(answer.state, AnswerState::Partial);
    let (good, bad) = (&answer.tasks[0], &answer.tasks[1]);
    assert_eq!(
        (good.state, bad.state),
        (TaskState::Completed, TaskState::Failed)
    );
    assert_eq!(bad.error.as_ref().unwrap().message, "no joke comes to mind");
}

#[tokio::test]
async fn malformed_data() {
    let llm = FakeOllama::start().await;
    llm.otherwise(|_| {
        Reply::plan(&json!([{"capability": "weather.get", "params": {"city": "Paris"}}]))
    });
    let mut strict = takes("weather.get", "city");
    strict.result = json!({"type": "object", "required": ["celsius"], "properties": {"celsius": {"type": "number"}}});
    let liar = does("weather-1", strict.clone(), |_| {
        Ok(json!({"celsius": "warm"}))
    });
    let mesh_of_liar = mesh(&llm, vec![liar]).await;
    let answer = mesh_of_liar.ask("What's the weather in Paris?").await;
    assert_eq!(
        answer.tasks[0].error.as_ref().unwrap().code,
        ErrorCode::InvalidResult,
        "{answer:#?}"
    );

    let panics = does("weather-1", strict, |task| {
        panic!("cannot read {:?}", task.params)
    });
    let mesh = mesh(&llm, vec![panics, joke()]).await;
    let answer = mesh.ask("What's the weather in Paris?").await;
    assert_eq!(answer.state, AnswerState::Failed);
    let code = answer.tasks[0].error.as_ref().unwrap().code;
    assert!(
        [ErrorCode::Quarantined, ErrorCode::AgentPanicked].contains(&code),
        "{code}"
    );
    mesh.specialists.settled().await;
    llm.script([
        Reply::plan(&json!([{"capability": "joke.get", "params": {"topic": "x"}}])),
        Reply::text("A joke."),
    ]);
    assert_eq!(mesh.ask("A joke.").await.state, AnswerState::Completed);
}

/// A specialist whose work is an HTTP call, against a server that answers, errs, and hangs.
#[tokio::test]
async fn connector_over_http() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        for status in ["200 OK", "500 Internal Server Error", "200 OK"] {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = [0; 1024];
            let read = stream.read(&mut request).await.unwrap();
            assert!(request[..read].starts_with(b"GET /weather?city=Paris"));
            let reply =
                format!("HTTP/1.1 {status}\r\nContent-Length: 2\r\nConnection: close\r\n\r\n21");
            stream.write_all(reply.as_bytes()).await.unwrap();
        }
    });
    struct Http(String);
    #[async_trait]
    impl Specialist for Http {
        fn card(&self) -> AgentCard {
            AgentCard::new("replaced", "Over HTTP.", vec![takes("weather.get", "city")])
        }

        async fn handle(&self, task: Task, _: &Context) -> Result<Value, Failure> {
            let failed =
                |error: reqwest::Error| Failure::new(ErrorCode::UpstreamFailed, error.to_string());
            let url = format!("{}/weather?city={}", self.0, task.text("city"));
            let reply = client().get(url).send().await;
            let reply = reply
                .and_then(reqwest::Response::error_for_status)
                .map_err(failed)?;
            Ok(json!({"text": format!("{} degrees", reply.text().await.map_err(failed)?)}))
        }
    }
    let llm = FakeOllama::start().await;
    llm.otherwise(|request| {
        if request.format().is_null() {
            Reply::text("It is 21 degrees.")
        } else {
            Reply::plan(&json!([{"capability": "weather.get", "params": {"city": "Paris"}}]))
        }
    });
    let mesh = mesh(
        &llm,
        vec![ChildSpec::new("weather-1", move || Http(url.clone()))],
    )
    .await;
    let states = [mesh.ask("Paris?").await, mesh.ask("Paris?").await].map(|answer| {
        (
            answer.state,
            answer.tasks[0].error.as_ref().map(|error| error.code),
        )
    });
    assert_eq!(states[0], (AnswerState::Completed, None));
    // The second round's plan of the failed request finds the service well again.
    assert_eq!(
        states[1],
        (AnswerState::Completed, Some(ErrorCode::UpstreamFailed))
    );
}

#[tokio::test]
async fn concurrency_without_bleed() {
    let llm = FakeOllama::start().await;
    llm.otherwise(|request| {
        let text = (0..8)
            .map(|i| request.message(i))
            .collect::<Vec<_>>()
            .join("\n");
        let user = text
            .rsplit("city-")
            .next()
            .map(|rest| rest.chars().take_while(char::is_ascii_digit).collect());
        let user: String = user.unwrap_or_default();
        if request.format().is_null() {
            Reply::text(format!("written for city-{user}"))
        } else {
            Reply::plan(
                &json!([{"capability": "weather.get", "params": {"city": format!("city-{user}")}}]),
            )
        }
    });
    let mesh = mesh(&llm, vec![weather()]).await;
    let ask = |n: u32| {
        let request = UserRequest {
            user: Some(format!("user-{n}")),
            ..UserRequest::new(format!("weather of city-{n}"))
        };
        (n, mesh.orchestrator.ask(request, None).unwrap())
    };
    for (n, ticket) in (0..40).map(ask).collect::<Vec<_>>() {
        let answer = tokio::time::timeout(Duration::from_secs(60), ticket.answer())
            .await
            .unwrap();
        assert_eq!(answer.answer, format!("written for city-{n}"));
        assert_eq!(
            answer.tasks[0].result.as_ref().unwrap()["text"],
            format!("In city-{n} it is sunny.")
        );
    }
}

/// Both scenarios with a real model, where `AMCP_TEST_OLLAMA` names a server; `AMCP_TEST_MODEL` names the model.
#[tokio::test]
async fn both_scenarios_on_a_real_server() {
    let Ok(url) = std::env::var("AMCP_TEST_OLLAMA") else {
        println!("skipped: AMCP_TEST_OLLAMA names no server");
        return;
    };
    let model = std::env::var("AMCP_TEST_MODEL").unwrap_or_else(|_| "llama3.1:8b".to_owned());
    let llm = LlmSettings::new(Provider::Ollama, parse_ollama_url(&url).unwrap(), model);
    // A small machine reads a prompt of 3,000 tokens in minutes.
    let patience = Duration::from_secs(900);
    let settings = Settings {
        default_deadline: patience,
        max_deadline: patience,
        ..Settings::default()
    };
    let children = [vec![weather(), joke()], finance()].concat();
    let planner = Arc::new(LlmPlanner::new(llm.client().unwrap()));
    let mesh = Mesh::start(planner, settings, children).await;
    for (query, capabilities) in [
        (
            "What's the weather in Paris and tell me a programming joke?",
            &["weather.get", "joke.get"][..],
        ),
        (
            "Produce an expense summary report for Q4 2024.",
            &[
                "finance.db.query",
                "finance.analyze.expenses",
                "document.report.generate",
            ],
        ),
    ] {
        let began = std::time::Instant::now();
        let answer = mesh.ask(query).await;
        println!(
            "{query}\n{:?} after {:?}: {}",
            answer.state,
            began.elapsed(),
            answer.answer
        );
        assert_eq!(answer.state, AnswerState::Completed, "{answer:#?}");
        for capability in capabilities {
            let done = |task: &&amcp_protocol::TaskReport| task.capability.as_str() == *capability;
            let task = answer.tasks.iter().find(done);
            assert_eq!(
                task.map(|task| task.state),
                Some(TaskState::Completed),
                "{answer:#?}"
            );
        }
    }
}
