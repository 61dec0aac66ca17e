//! Requests whose specialists are on other nodes.

use amcp_cluster::certs;
use amcp_protocol::{Answer, AnswerState, ErrorCode, NodeName};
use amcp_tests::cluster::load::ask as ask_all;
use amcp_tests::cluster::{Member, SPECIALISTS, Spec, mesh, until};
use amcp_tests::process::{PATIENCE, Sandbox, client};
use serde_json::Value;

/// Asks a node and expects the whole answer.
pub(crate) async fn ask(member: &Member, query: &str) -> Answer {
    let gateway = member.http.unwrap();
    let outcome = ask_all(&client(), &[gateway], query).await;
    assert!(outcome.is_complete(), "{outcome:?}");
    outcome.answer.unwrap().1
}

#[tokio::test]
async fn tasks_are_done_where_their_specialists_are() {
    let members = mesh(vec![
        Spec::new("a").orchestrates(),
        Spec::new("b").specialises(&["finance", "document"]),
        Spec::new("c").specialises(&["weather", "joke"]),
    ])
    .await;
    let a = &members[0];
    a.has_agents(5).await;
    let answer = ask(
        a,
        "What's the weather in Paris and tell me a programming joke?",
    )
    .await;
    let agents: Vec<_> = answer
        .tasks
        .iter()
        .map(|t| t.agent.clone().unwrap())
        .collect();
    assert_eq!(agents.len(), 2);
    assert!(
        agents.iter().all(|agent| agent.as_str().ends_with("@c")),
        "{agents:?}"
    );
    // A chain: each task takes the result of the one before, and both nodes' results pass through the orchestrator's.
    let answer = ask(a, "Produce an expense summary report for Q4 2024").await;
    assert!(answer.tasks.len() >= 2);
    let here =
        |task: &amcp_protocol::TaskReport| task.agent.as_ref().unwrap().as_str().ends_with("@b");
    assert!(answer.tasks.iter().all(here), "{answer:?}");
    // The report is on a node without a gateway; its link leads to it at any other's.
    let link = answer.tasks.last().unwrap().result.as_deref().unwrap()["url"].clone();
    let file = client()
        .get(a.url(link.as_str().unwrap()))
        .send()
        .await
        .unwrap();
    assert_eq!(file.status(), 200);
    let length = file.content_length();
    let bytes = file.bytes().await.unwrap();
    assert!(bytes.starts_with(b"%PDF-") && length == Some(bytes.len() as u64));
    let counts = a.view().await.counts;
    assert_eq!(
        counts.tasks_out as usize,
        2 + answer.tasks.len(),
        "{counts:?}"
    );
}

#[tokio::test]
async fn a_result_of_any_size_crosses() {
    // All of the ledger: several times what one message may carry.
    let query = "SELECT * FROM expenses";
    let members = mesh(vec![
        Spec::new("a").orchestrates(),
        Spec::new("b").specialises(&[]),
    ])
    .await;
    members[0].has_agents(SPECIALISTS).await;
    let there = ask(&members[0], query).await;
    let here = Sandbox::new()
        .run(["ask", "--offline", "--json", query])
        .await;
    let here: Answer = serde_json::from_str(&here.stdout).unwrap();
    let result = |answer: &Answer| answer.tasks[0].result.clone().unwrap();
    let bytes = result(&there).to_string().len();
    assert!(
        bytes > 256 * 1024,
        "the result has {bytes} bytes: too few to show anything"
    );
    assert_eq!(result(&there), result(&here));
}

#[tokio::test]
async fn every_gateway_shows_every_request() {
    let members = mesh(vec![
        Spec::new("a"),
        Spec::new("b"),
        Spec::new("c").orchestrates(),
    ])
    .await;
    for owner in &members {
        let answer = ask(owner, "What is 17 * 23?").await;
        for gateway in &members {
            let path = format!("/requests/{}", answer.request_id);
            let shown = gateway.get(&path).await.unwrap();
            let shown: Answer = serde_json::from_value(shown).unwrap();
            assert_eq!(
                shown,
                answer,
                "{} asks for {}'s",
                gateway.name(),
                owner.name()
            );
        }
    }
    let unknown = "/requests/01890a5d-ac96-774b-bcce-b302099a8057";
    let response = client().get(members[0].url(unknown)).send().await.unwrap();
    assert_eq!(response.status(), 404);
}

#[tokio::test]
async fn a_request_is_cancelled_from_any_gateway() {
    let members = mesh(vec![Spec::new("a"), Spec::new("b")]).await;
    let post = client()
        .post(members[0].url("/ask"))
        .header("prefer", "respond-async")
        .json(&serde_json::json!({"query": super::faults::SLOW}));
    let accepted: Value = post.send().await.unwrap().json().await.unwrap();
    let path = format!("/requests/{}", accepted["request_id"].as_str().unwrap());
    let cancelled = client().delete(members[1].url(&path)).send().await.unwrap();
    assert!(cancelled.status().is_success(), "{cancelled:?}");
    let ended = until("the request is cancelled", PATIENCE, async || {
        let shown = members[0].get(&path).await.unwrap();
        serde_json::from_value(shown).is_ok_and(|a: Answer| a.state == AnswerState::Cancelled)
    });
    ended.await;
}

#[tokio::test]
async fn only_allowed_capabilities_are_taken_from_a_node() {
    let members = mesh(vec![
        Spec::new("a")
            .orchestrates()
            .with(&["--cluster-allow", "b=weather.*"]),
        Spec::new("b").specialises(&["weather", "joke"]),
    ])
    .await;
    let a = &members[0];
    a.has_agents(1).await;
    ask(a, "What's the weather in Paris?").await;
    // Counted at each account that b gives of its agents.
    assert!(a.view().await.counts.not_allowed > 0);
}

#[tokio::test]
async fn every_node_lists_the_requests_of_all() {
    let specs = vec![Spec::new("a"), Spec::new("b")];
    let members = mesh(specs).await;
    for member in &members {
        ask(member, "What is 17 * 23?").await;
    }
    for member in &members {
        let list = member.get("/requests").await.unwrap();
        let owners = list["requests"].as_array().unwrap().iter();
        let owners: Vec<_> = owners.map(|row| row["owner"].as_str().unwrap()).collect();
        assert_eq!(owners, ["b", "a"], "the newest first: {list}");
        assert_eq!(list.get("silent"), None, "{list}");
    }
}

/// Over links whose certificates prove the names, for a plain task and for a part of a query that another orchestrator takes.
#[tokio::test]
async fn a_node_uses_here_what_the_settings_let_it_use() {
    let keys = tempfile::tempdir().unwrap();
    certs::init(keys.path()).unwrap();
    for name in ["a", "b"] {
        certs::issue(keys.path(), &NodeName::new(name).unwrap(), &[]).unwrap();
    }
    let settings = keys.path().join("b.toml");
    let text = "[cluster_trust.a]\ncapabilities = [\"weather.*\"]\n";
    std::fs::write(&settings, text).unwrap();
    let certificates = ["--cluster-certs", keys.path().to_str().unwrap()];
    let members = mesh(vec![
        Spec::new("a")
            .with(&certificates)
            .with(&["--domain", "weather", "--specialists", "joke"]),
        Spec::new("b")
            .with(&certificates)
            .with(&["--config", settings.to_str().unwrap()])
            .with(&["--domain", "finance", "--specialists", "weather,finance"]),
    ])
    .await;
    let [a, b] = &members[..] else { panic!() };
    assert_eq!(a.security, "mtls");
    until("a finds b's orchestrator", PATIENCE, async || {
        let agents = a.get("/agents").await.unwrap().to_string();
        agents.contains("orchestrate.finance") && agents.contains("weather-1@b")
    })
    .await;
    let answer = ask(a, "What's the weather in Paris?").await;
    assert_eq!(answer.state, AnswerState::Completed, "{answer:?}");
    let both = "What did I spend in Q4 2024 and what's the weather in Paris?";
    let outcome = ask_all(&client(), &[a.http.unwrap()], both).await;
    let answer = outcome.answer.unwrap().1;
    assert_eq!(answer.state, AnswerState::Partial, "{answer:?}");
    let refused = answer
        .tasks
        .iter()
        .find(|task| task.capability.as_str() == "orchestrate.finance");
    let error = refused.and_then(|task| task.error.as_ref()).unwrap();
    assert_eq!(error.code, ErrorCode::NotPermitted, "{answer:?}");
    assert!(error.message.contains("node a"), "{error:?}");
    assert_eq!(b.view().await.counts.not_allowed, 1);
}
