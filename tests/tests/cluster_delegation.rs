//! Orchestrators of different domains, each in a process of its own: who plans what, and what bounds a delegated request.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod cluster_delegation {
    mod flows;
}

use amcp_protocol::{Answer, AnswerState, CapabilityName, ErrorCode, TaskReport};
use amcp_tests::cluster::{Member, Spec, all_met, mesh, until};
use amcp_tests::fake_ollama::{FakeOllama, Reply};
use amcp_tests::process::{PATIENCE, client};
use serde_json::{Value, json};

const BOTH: &str = "What did I spend in Q4 2024 and what's the weather in Paris?";
const SPENT: &str = "What did I spend in Q4 2024?";

fn weather() -> Spec {
    Spec::new("a").with(&["--domain", "weather", "--specialists", "weather"])
}

fn finance() -> Spec {
    let domain = "finance=finance.*,document.*";
    Spec::new("b").with(&["--domain", domain, "--specialists", "finance,document"])
}

/// Where an LLM is asked in place of the embedded planner.
fn with_llm(spec: Spec, llm: &FakeOllama) -> Spec {
    let url = llm.url();
    spec.with(&["--llm", "ollama", "--model", FakeOllama::MODEL])
        .with(&["--ollama-url", &url])
}

/// Waits until a node sees somebody who offers this.
async fn finds(member: &Member, capability: &str) {
    let what = format!("{} finds {capability}", member.name());
    let found = until(&what, PATIENCE, async || {
        let mut seen = member.get("/agents").await.unwrap_or_default();
        let Some(Value::Array(agents)) = seen.get_mut("agents").map(Value::take) else {
            return false;
        };
        agents.iter().any(|agent| {
            let offers = agent["capabilities"].as_array();
            agent["state"] == "ready" && offers.is_some_and(|o| o.iter().any(|c| c == capability))
        })
    });
    found.await;
}

async fn domains() -> Vec<Member> {
    let members = mesh(vec![weather(), finance()]).await;
    for (member, other) in members.iter().zip(["finance", "weather"]) {
        finds(member, &format!("orchestrate.{other}")).await;
    }
    members
}

async fn ask(member: &Member, request: &Value) -> Answer {
    let asked = client().post(member.url("/ask")).json(request).send().await;
    let said: Value = asked.unwrap().json().await.unwrap();
    serde_json::from_value(said.clone()).unwrap_or_else(|error| panic!("{error}: {said}"))
}

fn task<'a>(answer: &'a Answer, capability: &str) -> &'a TaskReport {
    let capability = CapabilityName::new(capability).unwrap();
    let found = answer.tasks.iter().find(|t| t.capability == capability);
    found.unwrap_or_else(|| panic!("no {capability} in {answer:?}"))
}

fn agent(report: &TaskReport) -> &str {
    report.agent.as_ref().unwrap().as_str()
}

#[tokio::test]
async fn each_orchestrator_does_its_part_of_a_request_over_two_domains() {
    let members = domains().await;
    let answer = ask(&members[0], &json!({"query": BOTH})).await;
    assert_eq!(answer.state, AnswerState::Completed, "{answer:?}");
    assert_eq!(agent(task(&answer, "weather.get")), "weather-1@a");
    let delegated = task(&answer, "orchestrate.finance");
    assert!(agent(delegated).ends_with("@b"), "{delegated:?}");
    let result = delegated.result.as_ref().unwrap();
    let text = result["text"].as_str().unwrap();
    assert!(
        !text.is_empty() && answer.answer.contains(text),
        "{answer:?}"
    );
    let calls: Vec<_> = delegated.calls.iter().collect();
    assert!(
        calls
            .iter()
            .any(|call| call.capability.as_str() == "finance.db.query"
                && call.error.is_none()
                && call.agent.as_ref().unwrap().as_str() == "finance-db-1@b"),
        "{calls:?}"
    );
    // The other way round it is the same.
    let answer = ask(&members[1], &json!({"query": BOTH})).await;
    assert_eq!(answer.state, AnswerState::Completed, "{answer:?}");
    assert!(agent(task(&answer, "finance.db.query")).ends_with("@b"));
    assert!(agent(task(&answer, "orchestrate.weather")).ends_with("@a"));
}

#[tokio::test]
async fn an_orchestrator_offers_itself_once_others_can_do_its_work() {
    let domain = Spec::new("b").with(&["--domain", "finance", "--parts", "orchestrator"]);
    let mut members = mesh(vec![weather(), domain]).await;
    let a = &members[0];
    // What is there only for others to be planned with is there at once.
    finds(a, "orchestrate.weather").await;
    let before = ask(a, &json!({"query": SPENT})).await;
    assert!(before.tasks.is_empty(), "nobody can do it: {before:?}");
    let hands = Spec::new("c").specialises(&["finance"]).joins(a.cluster);
    members.push(Member::start(hands).await);
    all_met(&members).await;
    let a = &members[0];
    finds(a, "orchestrate.finance").await;
    let answer = ask(a, &json!({"query": SPENT})).await;
    assert_eq!(answer.state, AnswerState::Completed, "{answer:?}");
    let delegated = task(&answer, "orchestrate.finance");
    assert!(agent(delegated).ends_with("@b"), "{delegated:?}");
    let by = delegated.calls[0].agent.as_ref().unwrap();
    assert!(by.as_str().ends_with("@c"), "{delegated:?}");
}

#[tokio::test]
async fn a_delegation_that_comes_back_is_refused() {
    let llm = FakeOllama::start().await;
    llm.otherwise(|_| {
        let params = json!({"query": "What did I spend?"});
        let back = json!({"id": "t1", "capability": "orchestrate.weather", "params": params, "depends_on": []});
        Reply::plan(&json!({"tasks": [back]}))
    });
    let members = mesh(vec![weather(), with_llm(finance(), &llm)]).await;
    let a = &members[0];
    finds(a, "orchestrate.finance").await;
    finds(&members[1], "orchestrate.weather").await;
    let answer = ask(a, &json!({"query": SPENT})).await;
    assert_eq!(answer.state, AnswerState::Failed, "{answer:?}");
    let delegated = task(&answer, "orchestrate.finance");
    let error = delegated.error.as_ref().unwrap();
    assert_eq!(error.code, ErrorCode::CyclicPlan, "{error}");
    assert!(
        error.message.contains("weather > finance > weather"),
        "{error}"
    );
    let refused = &delegated.calls[0];
    assert_eq!(refused.capability.as_str(), "orchestrate.weather");
    assert_eq!(refused.error, Some(ErrorCode::CyclicPlan));
    let asked = u32::try_from(llm.chats().len()).unwrap();
    assert_eq!(answer.usage.calls, asked, "the other node's calls count");
}

#[tokio::test]
async fn a_delegated_request_ends_with_the_one_that_needs_it() {
    let llm = FakeOllama::start().await;
    llm.script([Reply::Hang])
        .otherwise(|_| Reply::plan(&json!({"tasks": [], "answer_directly": "Hello."})));
    // It has one place: while a delegated request is there, nobody else is let in.
    let finance = with_llm(finance(), &llm)
        .with(&["--deadline", "10m"])
        .env("AMCP_MAX_REQUESTS", "1");
    let members = mesh(vec![weather(), finance]).await;
    let [a, b] = members.as_slice() else {
        panic!("two nodes")
    };
    finds(a, "orchestrate.finance").await;
    let request = json!({"query": SPENT, "deadline_ms": 3_000});
    let url = b.url("/ask");
    let status = async || {
        let sent = client().post(&url).json(&json!({"query": "Hello"})).send();
        sent.await.unwrap().status().as_u16()
    };
    let turned_away = async {
        until("b works on it", PATIENCE, async || !llm.chats().is_empty()).await;
        status().await
    };
    let (answer, turned_away) = tokio::join!(ask(a, &request), turned_away);
    assert_eq!(turned_away, 429, "the delegated request has the only place");
    assert_ne!(answer.state, AnswerState::Completed, "{answer:?}");
    // Its own deadline would be ten minutes.
    let free = until("b is free", PATIENCE, async || status().await == 200);
    free.await;
}
