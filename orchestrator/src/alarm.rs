//! One timer for many calls; makes each call at its time.
//!
//! Does not know what the calls are for. A task with a sleep for each call would cost a request a spawn and two wake-ups.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

/// A call's time, and a number that tells calls of the same moment apart.
type Key = (Instant, u64);

#[derive(Debug)]
pub(crate) struct Alarm<T> {
    due: Mutex<Due<T>>,
    /// Notified when a call is due before the alarm would wake.
    earlier: Notify,
}

#[derive(Debug)]
struct Due<T> {
    calls: BTreeMap<Key, T>,
    set: u64,
    /// The time at which the alarm wakes; none while no call is set.
    wakes: Option<Instant>,
}

/// A pending call. Dropping this value prevents the call.
#[derive(Debug)]
pub(crate) struct Armed<T> {
    alarm: Arc<Alarm<T>>,
    key: Key,
}

impl<T> Armed<T> {
    pub(crate) const fn at(&self) -> Instant {
        self.key.0
    }
}

impl<T> Drop for Armed<T> {
    fn drop(&mut self) {
        let call = self.alarm.due.lock().calls.remove(&self.key);
        // Dropped after the lock is released: a call's drop may run any code.
        drop(call);
    }
}

impl<T> Default for Alarm<T> {
    fn default() -> Self {
        let due = Due {
            calls: BTreeMap::new(),
            set: 0,
            wakes: None,
        };
        Self {
            due: Mutex::new(due),
            earlier: Notify::new(),
        }
    }
}

impl<T> Alarm<T> {
    /// Makes `call` at the time `at`, unless the returned [`Armed`] is dropped before.
    pub(crate) fn set(self: &Arc<Self>, at: Instant, call: T) -> Armed<T> {
        let mut due = self.due.lock();
        let key = (at, due.set);
        due.set += 1;
        due.calls.insert(key, call);
        if due.wakes.is_none_or(|wakes| at < wakes) {
            due.wakes = Some(at);
            drop(due);
            self.earlier.notify_one();
        }
        let alarm = self.clone();
        Armed { alarm, key }
    }

    /// Makes each call at its time. Never ends.
    pub(crate) async fn run(self: Arc<Self>, make: impl Fn(T)) {
        loop {
            let (calls, wakes) = self.take(Instant::now());
            calls.into_values().for_each(&make);
            let sleep = async {
                match wakes {
                    Some(at) => sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = sleep => {}
                () = self.earlier.notified() => {}
            }
        }
    }

    /// Takes the due calls; also returns the time of the next one.
    fn take(&self, now: Instant) -> (BTreeMap<Key, T>, Option<Instant>) {
        let mut due = self.due.lock();
        let later = due.calls.split_off(&(now, u64::MAX));
        let calls = std::mem::replace(&mut due.calls, later);
        due.wakes = due.calls.first_key_value().map(|((at, _), _)| *at);
        (calls, due.wakes)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::sync::mpsc;
    use tokio_util::task::AbortOnDropHandle;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn each_call_is_made_at_its_time_and_none_that_was_dropped() {
        let alarm = Arc::new(Alarm::default());
        let (made, mut calls) = mpsc::unbounded_channel();
        let run = alarm.clone().run(move |name| made.send(name).unwrap());
        let _run = AbortOnDropHandle::new(tokio::spawn(run));
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut armed = vec![
            alarm.set(at(30), "third"),
            alarm.set(at(20), "never"),
            alarm.set(at(10), "first"),
        ];
        drop(armed.remove(1));
        assert_eq!(calls.recv().await, Some("first"));
        assert_eq!(start.elapsed().as_secs(), 10);
        // Earlier than the time until which the alarm sleeps.
        armed.push(alarm.set(at(15), "second"));
        armed.push(alarm.set(at(15), "with it"));
        assert_eq!(calls.recv().await, Some("second"));
        assert_eq!(calls.recv().await, Some("with it"));
        assert_eq!(start.elapsed().as_secs(), 15);
        assert_eq!(calls.recv().await, Some("third"));
        assert_eq!(start.elapsed().as_secs(), 30);
        let past = alarm.set(at(1), "at once");
        assert_eq!(calls.recv().await, Some("at once"));
        assert_eq!(start.elapsed().as_secs(), 30);
        drop((armed, past));
        assert!(alarm.due.lock().calls.is_empty());
    }
}
