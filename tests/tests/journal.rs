//! A real node is killed with -9 in the middle of requests, again and again, and started on the same data folder.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use amcp_tests::process::{Node, Sandbox, client, until};
use serde_json::{Value, json};
use tokio::sync::Mutex;
use tokio::task::JoinSet;

/// How often the node is killed; `AMCP_KILLS` sets another number.
const KILLS: usize = 20;
/// Clients that ask at the same time.
const CLIENTS: usize = 6;
/// The seed of the moments.
const SEED: u64 = 20_261_122;
/// Three tasks in a row, the last of which writes a file, and one beside them.
const QUERY: &str = "Produce an expense summary report for Q4 2024 and what is 17 * 23?";

/// What clients were told: the answer to each key, or only the request's id.
#[derive(Default)]
struct Told {
    accepted: BTreeMap<String, String>,
    answers: BTreeMap<String, Value>,
}

/// Asks under a key; none when the node is gone.
async fn ask(url: &str, key: &str, waits: bool) -> Option<(u16, Value)> {
    let post = client().post(format!("{url}/ask"));
    let post = post.header("idempotency-key", key);
    let post = match waits {
        true => post,
        false => post.header("prefer", "respond-async"),
    };
    let reply = post.json(&json!({"query": QUERY})).send().await.ok()?;
    let status = reply.status().as_u16();
    Some((status, reply.json().await.ok()?))
}

/// Asks new questions until the node is gone.
async fn load(
    url: String,
    (round, client): (usize, usize),
    told: Arc<Mutex<Told>>,
    heard: Arc<AtomicUsize>,
) {
    for number in 0.. {
        let key = format!("{round}-{client}-{number}");
        let Some((status, body)) = ask(&url, &key, number % 2 == 0).await else {
            return;
        };
        let id = body["request_id"].as_str().unwrap_or_default().to_owned();
        assert!(
            [200, 202].contains(&status) && !id.is_empty(),
            "{status} {body}"
        );
        let mut told = told.lock().await;
        told.accepted.insert(key.clone(), id);
        if status == 200 {
            told.answers.insert(key, body);
        }
        heard.fetch_add(1, Ordering::SeqCst);
    }
}

/// The tasks that were sent again after they were done, by the node's audit log.
async fn repeated(sandbox: &Sandbox) -> Vec<String> {
    let exported = sandbox.run(["audit", "export"]).await.stdout;
    let mut done = BTreeSet::new();
    let mut again = Vec::new();
    for line in exported.lines() {
        let record: Value = serde_json::from_str(line).unwrap();
        let words = record["outcome"].as_str().unwrap_or_default();
        let task = format!("{}/{}", record["request"], words.split(' ').next().unwrap());
        if record["what"] == "task.ended" && words.contains("done by") {
            done.insert(task);
        } else if record["what"] == "task.dispatched" && done.contains(&task) {
            again.push(task);
        }
    }
    assert!(!done.is_empty(), "{exported}");
    again
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_is_killed_answers_all_that_it_accepted_exactly_once() {
    let kills = std::env::var("AMCP_KILLS")
        .ok()
        .and_then(|n| n.parse().ok());
    let kills = kills.unwrap_or(KILLS);
    let sandbox = Sandbox::new();
    let told = Arc::new(Mutex::new(Told::default()));
    let mut draw = fastrand::Rng::with_seed(SEED);
    for round in 0..kills {
        let node = Node::start(&sandbox, &["--offline"], &[]).await;
        let heard = Arc::new(AtomicUsize::new(0));
        let mut clients = JoinSet::new();
        for client in 0..CLIENTS {
            let (told, heard) = (told.clone(), heard.clone());
            clients.spawn(load(node.url(""), (round, client), told, heard));
        }
        // At any moment of the others' requests, sometimes before the first answer.
        let enough = draw.usize(..3 * CLIENTS);
        let came = until(async || heard.load(Ordering::SeqCst) >= enough).await;
        assert!(came, "round {round}: {heard:?} of {enough}");
        node.signal("KILL").await;
        node.ended().await;
        while let Some(ended) = clients.join_next().await {
            ended.unwrap();
        }
    }
    let node = Node::start(&sandbox, &["--offline"], &[]).await;
    let told = told.lock().await;
    assert!(told.accepted.len() > kills, "{}", told.accepted.len());
    for (key, id) in &told.accepted {
        let url = node.url(&format!("/requests/{id}"));
        let answered = until(async || {
            let reply = client().get(&url).send().await.unwrap();
            let is_there = reply.status() == 200;
            let view: Value = reply.json().await.unwrap();
            is_there && !view["answer"].is_null()
        });
        assert!(answered.await, "{key}: {id} was accepted and is lost");
        // The same key gets the same request, and the answer that was given before.
        let (status, body) = ask(&node.url(""), key, true).await.unwrap();
        assert_eq!(
            (status, body["request_id"].as_str()),
            (200, Some(id.as_str())),
            "{key}: {body}"
        );
        if let Some(before) = told.answers.get(key) {
            assert_eq!(&body, before, "{key}");
        }
        assert_eq!(body["state"], "completed", "{body}");
    }
    node.signal("TERM").await;
    node.ended().await;
    assert_eq!(repeated(&sandbox).await, Vec::<String>::new());
    eprintln!(
        "{kills} kills, {} accepted, {} answered before a kill",
        told.accepted.len(),
        told.answers.len()
    );
}
