//! A gateway among others: requests that are not its own, with the other nodes played by a fake.

use std::sync::{Arc, Mutex};

use amcp_gateway::Peers;
use amcp_protocol::flow::closed;
use amcp_protocol::llm::PortFuture;
use amcp_protocol::{Failure, FilePiece, FlowAnswer, FlowId, NodeName, RequestId};
use reqwest::StatusCode;
use serde_json::{Value, json};

use super::mesh::{Setup, TestMesh};

const OPEN: &str = "00000000-0000-7000-8000-000000000001";
const ANSWERED: &str = "00000000-0000-7000-8000-000000000002";
const NOBODYS: &str = "00000000-0000-7000-8000-000000000003";

/// Node `b` has an open and an answered request; which were cancelled there is kept.
#[derive(Debug)]
struct OneOther {
    node: NodeName,
    cancelled: Mutex<Vec<RequestId>>,
    state: Mutex<There>,
}

/// How node `b` takes answers to the flow `t1.1` of its open request.
#[derive(Debug, Clone, Copy, PartialEq)]
enum There {
    Replies,
    /// It replies and is gone.
    RepliesLast,
    /// A build of the release before, or a node that gets the answer late.
    Deaf,
    /// Its reply is lost.
    Mute,
    /// It is lost with its reply.
    Lost,
    /// The flow has ended.
    Closed,
    Gone,
}

impl Peers for OneOther {
    fn node(&self) -> &NodeName {
        &self.node
    }

    fn view(&self) -> Value {
        json!({"node": "a", "members": [{"name": "a"}, {"name": "b"}]})
    }

    fn http_of(&self, node: &NodeName) -> Option<String> {
        (node.as_str() == "b").then(|| "http://b:8080".to_owned())
    }

    fn find(&self, id: RequestId) -> PortFuture<'_, Option<(NodeName, Value)>> {
        let state = *self.state.lock().unwrap();
        let body = match id.to_string().as_str() {
            _ if state == There::Gone => None,
            OPEN if state == There::Closed => {
                Some(json!({"request_id": id, "state": "executing", "owner": "b"}))
            }
            OPEN => Some(
                json!({"request_id": id, "state": "executing", "owner": "b", "flows": [{"id": "t1.1"}]}),
            ),
            ANSWERED => {
                Some(json!({"request_id": id, "state": "completed", "answer": "42.", "owner": "b"}))
            }
            _ => None,
        };
        Box::pin(async move { Some(("b".parse().unwrap(), body?)) })
    }

    /// Node `b` has an old request and one whose clock is ahead, node `c` does not reply.
    fn list(&self, wanted: Value) -> PortFuture<'_, Vec<(NodeName, Option<Vec<Value>>)>> {
        assert_eq!(wanted["limit"], 51, "one more than asked for");
        let row =
            |at: &str| json!({"request_id": ANSWERED, "state": "completed", "accepted_at": at});
        let mut rows = vec![
            row("2999-12-31T23:00:00.000Z"),
            row("1999-12-31T23:00:00.000Z"),
            // Nobody asked for another user's, and a row without a time has no place.
            row("2999-12-31T23:00:00.000Z"),
            row("soon"),
        ];
        rows[2]["user"] = json!("ann");
        let b = ("b".parse().unwrap(), Some(rows));
        Box::pin(async move { vec![b, ("c".parse().unwrap(), None)] })
    }

    /// `whole.pdf` comes in two pieces; `changed.pdf` is another file after the first.
    fn file<'a>(
        &'a self,
        name: &'a str,
        from: u64,
        owner: Option<&'a NodeName>,
    ) -> PortFuture<'a, Option<(NodeName, FilePiece)>> {
        assert_eq!(owner.is_some(), from > 0);
        let bytes = if from == 0 { &b"%PDF-"[..] } else { b"1.7" };
        let piece = FilePiece {
            user: None,
            length: 8,
            written_unix_ms: if name == "changed.pdf" { from } else { 0 },
            bytes: bytes.to_vec(),
        };
        let there = ["whole.pdf", "changed.pdf"].contains(&name);
        Box::pin(async move { there.then(|| ("b".parse().unwrap(), piece)) })
    }

    fn cancel(&self, id: RequestId) -> PortFuture<'_, bool> {
        self.cancelled.lock().unwrap().push(id);
        Box::pin(async { true })
    }

    fn answer_flow(
        &self,
        owner: NodeName,
        _: RequestId,
        flow: FlowId,
        answer: FlowAnswer,
    ) -> PortFuture<'_, Option<Result<(), Failure>>> {
        assert_eq!((owner.as_str(), answer.digest.as_str()), ("b", "d"));
        let mut state = self.state.lock().unwrap();
        let replies = matches!(*state, There::Replies | There::RepliesLast);
        if let There::RepliesLast | There::Lost = *state {
            *state = There::Gone;
        } else if *state == There::Mute {
            *state = There::Closed;
        }
        let judged = (flow.as_str() == "t1.1").then_some(());
        let judged = judged.ok_or_else(|| closed(&flow, None));
        Box::pin(async move { replies.then_some(judged) })
    }
}

async fn among_others() -> (TestMesh, Arc<OneOther>) {
    let other = Arc::new(OneOther {
        node: "a".parse().unwrap(),
        cancelled: Mutex::default(),
        state: Mutex::new(There::Replies),
    });
    let peers: Arc<dyn Peers> = other.clone();
    let setup = Setup {
        peers: Some(peers),
        ..Setup::default()
    };
    (TestMesh::start(setup).await, other)
}

#[tokio::test]
async fn every_gateway_shows_every_request_and_whose_it_is() {
    let (mesh, _) = among_others().await;
    let there: Value = mesh
        .get(&format!("/requests/{OPEN}"))
        .await
        .json()
        .await
        .unwrap();
    assert_eq!(
        there,
        json!({"request_id": OPEN, "state": "executing", "owner": "b", "flows": [{"id": "t1.1"}]})
    );

    let location = mesh.accept("wait").await;
    mesh.started().await;
    let here: Value = mesh.get(&location).await.json().await.unwrap();
    assert_eq!(
        (&here["state"], &here["owner"]),
        (&json!("executing"), &json!("a"))
    );
    mesh.open_gate();
    mesh.get(&format!("{location}/events"))
        .await
        .text()
        .await
        .unwrap();
    let here: Value = mesh.get(&location).await.json().await.unwrap();
    assert_eq!(
        (&here["state"], &here["owner"]),
        (&json!("completed"), &json!("a"))
    );

    let nobodys = mesh.get(&format!("/requests/{NOBODYS}")).await;
    assert_eq!(nobodys.status(), 404);
}

#[tokio::test]
async fn a_list_has_the_requests_of_all_nodes_that_reply() {
    let (mesh, _) = among_others().await;
    assert_eq!(mesh.ask("echo x").await.status(), 200);
    let list: Value = mesh.get("/requests").await.json().await.unwrap();
    let rows = list["requests"].as_array().unwrap().iter();
    let owners: Vec<_> = rows.map(|row| row["owner"].as_str().unwrap()).collect();
    assert_eq!(owners, ["b", "a", "b"], "by time, whosever they are");
    assert_eq!(list["silent"], json!(["c"]));
    assert_eq!(list.get("next"), None);
}

#[tokio::test]
async fn a_request_of_another_node_is_cancelled_there_unless_it_was_answered() {
    let (mesh, other) = among_others().await;
    let cancel = |id: &str| mesh.post(&format!("/requests/{id}/cancel")).send();
    let open = cancel(OPEN).await.unwrap();
    assert_eq!(open.status(), StatusCode::ACCEPTED);
    assert_eq!(open.json::<Value>().await.unwrap()["owner"], "b");
    let answered = cancel(ANSWERED).await.unwrap();
    assert_eq!(answered.status(), StatusCode::OK);
    assert_eq!(answered.json::<Value>().await.unwrap()["answer"], "42.");
    assert_eq!(
        cancel(NOBODYS).await.unwrap().status(),
        StatusCode::NOT_FOUND
    );
    let cancelled: Vec<String> = other
        .cancelled
        .lock()
        .unwrap()
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(cancelled, [OPEN]);
}

#[tokio::test]
async fn a_report_of_another_node_is_served_whole_or_breaks_off() {
    let (mesh, _) = among_others().await;
    let whole = mesh.get("/files/whole.pdf").await;
    assert_eq!(whole.headers()["content-type"], "application/pdf");
    assert_eq!(whole.headers()["content-length"], "8");
    assert!(
        whole.headers()["content-security-policy"]
            .to_str()
            .unwrap()
            .contains("sandbox")
    );
    assert_eq!(whole.text().await.unwrap(), "%PDF-1.7");
    // The connection breaks before or behind the head.
    let changed = mesh.http.get(mesh.url("/files/changed.pdf")).send().await;
    let changed = match changed {
        Ok(changed) => changed.bytes().await.map(drop),
        Err(error) => Err(error),
    };
    assert!(changed.is_err(), "two versions do not make one file");
    assert_eq!(
        mesh.get("/files/none.pdf").await.status(),
        StatusCode::NOT_FOUND
    );
}

#[tokio::test]
async fn events_of_another_node_are_refused_with_where_they_are() {
    let (mesh, _) = among_others().await;
    let refused = mesh.get(&format!("/requests/{OPEN}/events")).await;
    assert_eq!(refused.status(), StatusCode::MISDIRECTED_REQUEST);
    let body: Value = refused.json().await.unwrap();
    assert_eq!(body["error"]["code"], "not_found");
    let hint = body["error"]["hint"].as_str().unwrap();
    let address = format!("http://b:8080/requests/{OPEN}/events");
    assert!(hint.contains(&address), "{hint}");
}

#[tokio::test]
async fn an_answer_to_a_flow_is_passed_on_to_the_node_that_asks() {
    let (mesh, _) = among_others().await;
    let answer = |id: &str, flow: &str| {
        let post = mesh.post(&format!("/requests/{id}/flows/{flow}"));
        post.body(r#"{"decision":"approve","digest":"d"}"#).send()
    };
    let taken = answer(OPEN, "t1.1").await.unwrap();
    assert_eq!(taken.status(), StatusCode::OK);
    assert_eq!(taken.json::<Value>().await.unwrap()["owner"], "b");
    let closed = answer(OPEN, "t1.2").await.unwrap();
    assert_eq!(closed.status(), StatusCode::NOT_FOUND);
    let nobodys = answer(NOBODYS, "t1.1").await.unwrap();
    assert_eq!(nobodys.status(), StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn nobody_is_sent_elsewhere_with_an_answer_that_may_count() {
    let (mesh, other) = among_others().await;
    let answer = async |state| {
        *other.state.lock().unwrap() = state;
        let post = mesh.post(&format!("/requests/{OPEN}/flows/t1.1"));
        let post = post.body(r#"{"decision":"approve","digest":"d"}"#);
        let said = post.send().await.unwrap();
        (said.status().as_u16(), said.json::<Value>().await.unwrap())
    };
    let (status, body) = answer(There::Mute).await;
    assert_eq!(
        (status, &body["error"]["code"]),
        (409, &json!("flow_closed"))
    );
    // The answer may be on its way still.
    let (status, body) = answer(There::Deaf).await;
    assert_eq!((status, &body["error"]["code"]), (504, &json!("node_lost")));
    let hint = body["error"]["hint"].as_str().unwrap();
    assert!(hint.contains("http://b:8080"), "{hint}");
    let (status, body) = answer(There::Lost).await;
    assert_eq!((status, &body["error"]["code"]), (504, &json!("node_lost")));
    // It counts, and only what became of the request is not known.
    let (status, body) = answer(There::RepliesLast).await;
    assert_eq!((status, body), (200, json!({"request_id": OPEN})));
}

#[tokio::test]
async fn the_members_are_shown_and_a_node_that_is_alone_says_so() {
    let (mesh, other) = among_others().await;
    let view: Value = mesh.get("/cluster").await.json().await.unwrap();
    assert_eq!(view, other.view());
    let alone = TestMesh::start(Setup::default()).await;
    let refused = alone.get("/cluster").await;
    assert_eq!(refused.status(), 404);
    let body: Value = refused.json().await.unwrap();
    assert_eq!(body["error"]["code"], "not_found");
    assert!(
        body["error"]["hint"]
            .as_str()
            .unwrap()
            .contains("--cluster")
    );
}
