//! Signs of life on their way through a request: to its machine, to people, to a delegating task.

use std::sync::Mutex;

use super::*;

fn crawl(seconds: u64) -> Value {
    json!({"id": "t1", "capability": "test.crawl", "params": {"say": seconds}})
}

#[tokio::test(start_paused = true)]
async fn an_attempt_lives_as_long_as_it_says_so_and_people_see_some_of_it() {
    let mesh = Mesh::start("life").await;
    for agent in ["crawler-1", "crawler-2"] {
        mesh.join(agent, "test.crawl").await;
    }
    let begin = tokio::time::Instant::now();
    let ticket = mesh.handle.ask(UserRequest::new(plan(&[crawl(10)])), None);
    let ticket = ticket.unwrap();
    let answer = ticket.answer().await;
    let error = answer.error.as_ref().unwrap();
    assert_eq!(error.code, ErrorCode::TaskTimeout);
    assert!(
        error.message.contains("gave no sign of life for 3s"),
        "{error}"
    );
    // Three attempts, each silent after its last word at 9.5 s.
    assert_eq!(answer.tasks[0].attempts, 3);
    assert_eq!(begin.elapsed().as_secs(), 37);
    let mut feed = mesh.handle.progress(ticket.request_id(), 0).unwrap();
    let mut shown = 0;
    while let Some(recorded) = feed.next().await {
        shown += usize::from(matches!(recorded.progress, Progress::Progressed { .. }));
    }
    assert!((15..=25).contains(&shown), "{shown} of 60");
}

#[tokio::test(start_paused = true)]
async fn what_a_delegated_request_does_is_a_sign_of_life_of_the_delegating_task() {
    let mesh = Mesh::start("life-delegated").await;
    mesh.join("crawler-1", "test.crawl").await;
    let heard = Arc::new(Mutex::new(Vec::new()));
    let begin = tokio::time::Instant::now();
    let what = delegated::delegation(plan(&[crawl(5)]));
    let hear = |note: &str| {
        let at = begin.elapsed().as_millis();
        heard.lock().unwrap().push((at, note.to_owned()));
    };
    let (outcome, _) = mesh.handle.delegated(what, hear).await;
    assert!(outcome.failure().is_some());
    let heard = heard.lock().unwrap().clone();
    let said = |words: &str| heard.iter().any(|(_, note)| note == words);
    assert!(said("test.crawl") && said("crawler-1 at 0"), "{heard:?}");
    let signs = heard.iter().filter(|(at, _)| *at < 4_600).count();
    assert!(signs >= 10, "each word of the agent is a sign: {heard:?}");
}
