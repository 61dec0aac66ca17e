//! What a witness hears of plans that nobody carries out, and of refusals.

use std::sync::Mutex;

use amcp_orchestrator::Witness;
use amcp_protocol::{CapabilityName, RequestId};

use super::*;

/// Refuses the query `dear`, and writes down what it hears.
#[derive(Debug, Default)]
struct Book(Mutex<Vec<String>>);

impl Book {
    fn write(&self, line: String) {
        self.0.lock().unwrap().push(line);
    }

    fn read(&self) -> Vec<String> {
        std::mem::take(&mut *self.0.lock().unwrap())
    }
}

impl Witness for Book {
    fn accepts(&self, _: Option<RequestId>, request: &UserRequest) -> Result<(), Failure> {
        let dear = request.query == "dear";
        let spent = || Failure::new(ErrorCode::QuotaExceeded, "all is spent");
        if dear { Err(spent()) } else { Ok(()) }
    }

    fn refused(&self, _: &UserRequest, failure: &Failure) {
        self.write(format!("refused {}", failure.code));
    }

    fn dispatched(&self, _: &UserRequest, _: &TaskRequest, _: &AgentId) {}

    fn progressed(&self, _: (RequestId, &UserRequest), _: Option<&CapabilityName>, _: &Progress) {}

    fn answered(&self, _: &UserRequest, answer: &amcp_protocol::Answer) {
        self.write(format!("answered with {} calls", answer.usage.calls));
    }

    fn spent(&self, _: &UserRequest, usage: Usage) {
        self.write(format!("spent {}", usage.calls));
    }

    fn planned(&self, _: &UserRequest, failure: Option<&Failure>) {
        let code = failure.map_or("completed", |failure| failure.code.as_str());
        self.write(format!("planned: {code}"));
    }
}

async fn witnessed(name: &str) -> (Mesh, Arc<Book>) {
    let (mesh, book) = (Mesh::start(name).await, Arc::<Book>::default());
    mesh.handle.witnessed_by(book.clone());
    (mesh, book)
}

#[tokio::test(start_paused = true)]
async fn a_plans_refusal_its_calls_and_its_end_are_told() {
    let (mesh, book) = witnessed("witness-plan").await;
    for (query, told) in [
        ("", &["refused bad_request"][..]),
        ("dear", &["refused quota_exceeded"]),
        ("down", &["planned: llm_unavailable"]),
        ("panic", &["planned: internal"]),
        ("hang", &["spent 1", "planned: deadline_exceeded"]),
        (&plan(&[task("t1", json!({}))]), &["planned: completed"]),
    ] {
        let planned = mesh.handle.plan(UserRequest::new(query)).await;
        assert_eq!(planned.is_ok(), told == ["planned: completed"], "{query}");
        assert_eq!(book.read(), told, "{query}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_plan_whose_caller_goes_away_costs_what_it_took() {
    let (mesh, book) = witnessed("witness-gone").await;
    let second = Duration::from_secs(1);
    let planning = mesh.handle.plan(UserRequest::new("hang"));
    assert!(tokio::time::timeout(second, planning).await.is_err());
    assert_eq!(book.read(), ["spent 1", "planned: cancelled"]);
}
