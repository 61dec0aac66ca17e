//! The node's event bus delivers CloudEvents to subscribers by topic.
//!
//! Waits for no subscriber and keeps no history: a subscriber that falls behind loses its own subscription and gets an event
//! that says so; publishers and other subscribers do not notice.

use std::collections::VecDeque;
use std::fmt;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::{SystemTime, UNIX_EPOCH};

use amcp_protocol::event::SUBSCRIPTION_LOST;
use amcp_protocol::{CloudEvent, Topic, TopicPattern};
use arc_swap::ArcSwap;
use parking_lot::Mutex;
use serde_json::json;
use tokio::sync::Notify;

/// The source of the bus's own events.
const SOURCE: &str = "/bus";

/// The time for events' `time` attribute: milliseconds since 1970 in UTC.
#[must_use]
#[expect(
    clippy::disallowed_methods,
    reason = "events carry wall-clock time for readers and logs; no decision depends on it"
)]
pub fn unix_ms() -> i64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .ok()
        .and_then(|since| i64::try_from(since.as_millis()).ok())
        .unwrap_or_default()
}

/// Clones share one bus; subscriptions end when the last clone is dropped.
#[derive(Clone, Default)]
pub struct EventBus(Arc<Bus>);

#[derive(Default)]
struct Bus {
    /// The length of `subscribers`: without subscribers, publishing costs this one read.
    count: AtomicUsize,
    subscribers: ArcSwap<Vec<Arc<Subscriber>>>,
    changing: Mutex<()>,
    next_id: AtomicU64,
}

struct Subscriber {
    id: u64,
    pattern: TopicPattern,
    queue: Mutex<Queue>,
    news: Notify,
}

struct Queue {
    events: VecDeque<Arc<CloudEvent>>,
    capacity: usize,
    /// Events that came after the queue was full; from then on the queue takes no event.
    missed: u64,
    closed: bool,
}

/// A subscriber's end; dropping it unsubscribes.
pub struct Subscription {
    subscriber: Arc<Subscriber>,
    bus: Weak<Bus>,
}

amcp_protocol::opaque_debug!(EventBus, Subscription);
impl EventBus {
    /// A bus without subscribers.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Subscribes to the topics that the pattern matches, with room for `capacity` events that wait to be received.
    #[must_use]
    pub fn subscribe(&self, pattern: TopicPattern, capacity: usize) -> Subscription {
        let subscriber = Arc::new(Subscriber {
            id: self.0.next_id.fetch_add(1, Ordering::Relaxed),
            pattern,
            queue: Mutex::new(Queue {
                events: VecDeque::new(),
                capacity: capacity.max(1),
                missed: 0,
                closed: false,
            }),
            news: Notify::new(),
        });
        self.0.change(|all| all.push(Arc::clone(&subscriber)));
        Subscription {
            subscriber,
            bus: Arc::downgrade(&self.0),
        }
    }

    /// Publishes an event. Formats the topic only if there are subscribers, and builds the event only if a subscriber wants it;
    /// `format_args!("task.request.{capability}")` makes a topic that costs nothing otherwise.
    pub fn publish(&self, topic: impl fmt::Display, event: impl FnOnce() -> CloudEvent) {
        if self.0.count.load(Ordering::Acquire) > 0 {
            self.0.publish(&topic.to_string(), event);
        }
    }
}

impl Bus {
    fn publish(&self, topic: &str, event: impl FnOnce() -> CloudEvent) {
        let topic: Topic = match topic.parse() {
            Ok(topic) => topic,
            Err(error) => {
                tracing::error!(%error, "the bus did not publish an event");
                return;
            }
        };
        let subscribers = self.subscribers.load();
        let mut wanted = subscribers
            .iter()
            .filter(|subscriber| subscriber.pattern.matches(&topic))
            .peekable();
        if wanted.peek().is_some() {
            let event = Arc::new(event());
            wanted.for_each(|subscriber| subscriber.offer(&event));
        }
    }

    fn change(&self, change: impl FnOnce(&mut Vec<Arc<Subscriber>>)) {
        let _one_at_a_time = self.changing.lock();
        let mut all = self.subscribers.load().as_ref().clone();
        change(&mut all);
        self.count.store(all.len(), Ordering::Release);
        self.subscribers.store(Arc::new(all));
    }
}

impl Drop for Bus {
    fn drop(&mut self) {
        for subscriber in self.subscribers.load().iter() {
            subscriber.queue.lock().closed = true;
            subscriber.news.notify_one();
        }
    }
}

impl Subscriber {
    fn offer(&self, event: &Arc<CloudEvent>) {
        {
            let mut queue = self.queue.lock();
            if queue.missed > 0 || queue.events.len() >= queue.capacity {
                queue.missed += 1;
                return;
            }
            queue.events.push_back(Arc::clone(event));
        }
        self.news.notify_one();
    }
}

impl Subscription {
    /// The next event; `None` when the subscription is over. A lost subscription delivers its queued events, then
    /// `subscription.lost` with the number of missed events, then `None`.
    pub async fn recv(&mut self) -> Option<Arc<CloudEvent>> {
        loop {
            let news = self.subscriber.news.notified();
            let missed = {
                let mut queue = self.subscriber.queue.lock();
                if let Some(event) = queue.events.pop_front() {
                    return Some(event);
                }
                if queue.closed {
                    return None;
                }
                queue.closed = queue.missed > 0;
                queue.missed
            };
            if missed > 0 {
                self.unsubscribe();
                return Some(Arc::new(self.lost(missed)));
            }
            news.await;
        }
    }

    fn lost(&self, missed: u64) -> CloudEvent {
        let Subscriber { id, pattern, .. } = self.subscriber.as_ref();
        let data = json!({"pattern": pattern.to_string(), "missed": missed});
        CloudEvent::new(
            SUBSCRIPTION_LOST,
            SOURCE,
            format!("subscription-{id}-lost-{}", unix_ms()),
            data,
        )
        .about(pattern.to_string())
        .at_unix_ms(unix_ms())
    }

    fn unsubscribe(&self) {
        if let Some(bus) = self.bus.upgrade() {
            bus.change(|all| all.retain(|other| other.id != self.subscriber.id));
        }
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.unsubscribe();
    }
}

#[cfg(test)]
mod tests;
