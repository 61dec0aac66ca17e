//! Keeps long computations of a planner off the threads of actors, and ends the wait for them with the request's planning time.
//!
//! Cannot stop a computation: the thread goes on until it has ended, and keeps its place until then.

use std::sync::Arc;

use amcp_protocol::llm::PortFuture;
use amcp_protocol::{ErrorCode, Failure};
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use crate::{Planned, Planner, PlanningError, PlanningInput};

/// Longest query, in bytes, and most capabilities that are planned in place: what people ask takes less than a hand-over to
/// another thread, and nothing takes longer than a few milliseconds.
const IN_PLACE: (usize, usize) = (2 * 1024, 256);

/// A planner that computes without waiting, such as the embedded one.
#[derive(Debug)]
pub struct Aside<P> {
    planner: Arc<P>,
    places: Arc<Semaphore>,
}

impl<P> Aside<P> {
    /// At most `places` (at least one) long computations at a time; more of them wait, within their planning time.
    #[must_use]
    pub fn new(planner: P, places: usize) -> Self {
        Self {
            planner: Arc::new(planner),
            places: Arc::new(Semaphore::new(places.max(1))),
        }
    }
}

impl<P: Planner> Planner for Aside<P> {
    fn inner(&self) -> Option<&dyn Planner> {
        Some(&*self.planner)
    }

    fn plan(&self, input: PlanningInput) -> PortFuture<'_, Result<Planned, PlanningError>> {
        if input.query.len() <= IN_PLACE.0 && input.catalogue.len() <= IN_PLACE.1 {
            return self.planner.plan(input);
        }
        let (planner, places) = (Arc::clone(&self.planner), Arc::clone(&self.places));
        Box::pin(async move {
            let time = input.time;
            let computed = timeout(time, async move {
                let place = places.acquire_owned().await;
                let place = place.expect("the semaphore is never closed");
                spawn_blocking(move || {
                    let _place = place;
                    Handle::current().block_on(planner.plan(input))
                })
                .await
            });
            let failure = match computed.await {
                Ok(Ok(planned)) => return planned,
                Ok(Err(error)) => Failure::internal(format!("the planner broke off: {error}")),
                Err(_) => Failure::new(
                    ErrorCode::DeadlineExceeded,
                    format!("{} made no plan within {time:?}", self.name()),
                )
                .hint("ask for less at once, or allow more time (deadline_ms)"),
            };
            Err(PlanningError::new(failure, self.name()))
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::sync::{Mutex, atomic::AtomicUsize, atomic::Ordering};
    use std::thread::ThreadId;
    use std::time::Duration;

    use amcp_plan::{Catalogue, Plan, PlanLimits};
    use amcp_protocol::llm::Usage;
    use amcp_protocol::{Capability, Contract};

    use super::*;
    use crate::Sink;

    /// Blocks its thread until it is told to go on.
    struct Slow {
        go: Mutex<mpsc::Receiver<()>>,
        began: AtomicUsize,
        on: Mutex<Vec<ThreadId>>,
    }

    impl Planner for Slow {
        fn name(&self) -> String {
            "slow".to_owned()
        }

        fn plan(&self, _: PlanningInput) -> PortFuture<'_, Result<Planned, PlanningError>> {
            Box::pin(async {
                self.on.lock().unwrap().push(std::thread::current().id());
                self.began.fetch_add(1, Ordering::SeqCst);
                let _ = self.go.lock().unwrap().recv();
                Ok(Planned {
                    plan: Plan::default(),
                    planner: self.name(),
                    llm_calls: 0,
                    usage: Usage::default(),
                    notes: Vec::new(),
                })
            })
        }
    }

    fn slow() -> (Aside<Slow>, mpsc::Sender<()>) {
        let (sender, go) = mpsc::channel();
        let slow = Slow {
            go: Mutex::new(go),
            began: AtomicUsize::new(0),
            on: Mutex::default(),
        };
        (Aside::new(slow, 1), sender)
    }

    fn input(bytes: usize, time: Duration) -> PlanningInput {
        let contract = Contract::new(Capability::new("a.b", "Does it.")).unwrap();
        PlanningInput {
            query: "x".repeat(bytes),
            catalogue: Arc::new(Catalogue::from_iter([Arc::new(contract)])),
            access: amcp_protocol::Access::default(),
            limits: PlanLimits::default(),
            time,
            llm_calls: 0,
            today: jiff::civil::date(2026, 11, 20),
            history: Vec::new(),
            feedback: None,
            early: Sink::default(),
            spent: Sink::default(),
        }
    }

    #[tokio::test]
    async fn little_work_is_done_at_once_and_in_place() {
        let (planner, go) = slow();
        go.send(()).unwrap();
        let mut plan = planner.plan(input(IN_PLACE.0, Duration::ZERO));
        let mut nobody = std::task::Context::from_waker(std::task::Waker::noop());
        assert!(plan.as_mut().poll(&mut nobody).is_ready());
        let here = std::thread::current().id();
        assert_eq!(*planner.planner.on.lock().unwrap(), [here]);
    }

    #[tokio::test]
    async fn much_work_that_takes_too_long_is_a_typed_failure_and_keeps_its_place() {
        let (planner, go) = slow();
        let much = |time| planner.plan(input(IN_PLACE.0 + 1, time));
        let error = much(Duration::from_millis(50)).await.unwrap_err();
        assert_eq!(error.failure.code, ErrorCode::DeadlineExceeded);
        assert_eq!(error.planner, "slow");
        // The first one still computes, so that the second one does not begin.
        let error = much(Duration::from_millis(50)).await.unwrap_err();
        assert_eq!(error.failure.code, ErrorCode::DeadlineExceeded);
        assert!(planner.planner.began.load(Ordering::SeqCst) <= 1);
        go.send(()).unwrap();
        go.send(()).unwrap();
        assert!(much(Duration::from_secs(60)).await.is_ok());
        let here = std::thread::current().id();
        assert!(!planner.planner.on.lock().unwrap().contains(&here));
    }
}
