use std::cell::Cell;

use super::*;

fn event(id: impl fmt::Display) -> CloudEvent {
    CloudEvent::new("test.happened", "/test", id.to_string(), json!({}))
}

fn pattern(text: &str) -> TopicPattern {
    text.parse().unwrap()
}

#[tokio::test]
async fn each_subscriber_gets_what_it_asked_for_in_order() {
    let bus = EventBus::new();
    let mut tasks = bus.subscribe(pattern("task.**"), 8);
    let mut all = bus.subscribe(pattern("**"), 8);
    for (topic, id) in [
        ("task.request.weather.get", 1),
        ("agent.register", 2),
        ("task", 3),
    ] {
        bus.publish(topic, || event(id));
    }
    drop(bus);
    let mut ids = Vec::new();
    while let Some(event) = tasks.recv().await {
        ids.push(event.id.clone());
    }
    assert_eq!(ids, ["1", "3"]);
    assert_eq!(all.recv().await.unwrap().id, "1");
    assert_eq!(all.recv().await.unwrap().id, "2");
}

#[tokio::test]
async fn nothing_is_built_for_nobody() {
    struct Untouched;
    impl fmt::Display for Untouched {
        fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
            panic!("the topic was formatted")
        }
    }
    let bus = EventBus::new();
    drop(bus.subscribe(pattern("**"), 1));
    bus.publish(Untouched, || panic!("the event was built"));
    let other = bus.subscribe(pattern("agent.*"), 1);
    bus.publish("task.request", || panic!("the event was built"));
    drop(other);
    let built = Cell::new(0);
    let two = (
        bus.subscribe(pattern("**"), 1),
        bus.subscribe(pattern("task.*"), 1),
    );
    bus.publish("task.request", || {
        built.set(built.get() + 1);
        event(1)
    });
    assert_eq!(built.get(), 1, "one event for both");
    drop(two);
}

#[tokio::test]
async fn a_slow_subscriber_loses_its_own_subscription_and_hears_how_much_it_missed() {
    let bus = EventBus::new();
    let mut slow = bus.subscribe(pattern("task.*"), 2);
    let mut quick = bus.subscribe(pattern("task.*"), 1);
    for id in 0..7 {
        bus.publish("task.request", || event(id));
        assert_eq!(quick.recv().await.unwrap().id, id.to_string());
    }
    assert_eq!(slow.recv().await.unwrap().id, "0");
    bus.publish("task.request", || event(7));
    assert_eq!(
        slow.recv().await.unwrap().id,
        "1",
        "room again does not make a lost subscription whole"
    );
    let lost = slow.recv().await.unwrap();
    assert_eq!(lost.event_type, SUBSCRIPTION_LOST);
    assert_eq!(lost.data, Some(json!({"pattern": "task.*", "missed": 6})));
    bus.publish("task.request", || event(8));
    assert!(slow.recv().await.is_none());
    assert_eq!(quick.recv().await.unwrap().id, "7");
}

#[tokio::test]
async fn a_waiting_subscriber_is_woken() {
    let bus = EventBus::new();
    let mut waiting = bus.subscribe(pattern("**"), 1);
    let received = tokio::spawn(async move { (waiting.recv().await, waiting.recv().await) });
    tokio::task::yield_now().await;
    bus.publish("task.request", || event(1));
    tokio::task::yield_now().await;
    drop(bus);
    let (first, end) = received.await.unwrap();
    assert_eq!(first.unwrap().id, "1");
    assert!(end.is_none());
}
