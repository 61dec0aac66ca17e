//! The planner's actor: runs planning and composing calls that take time, and owes the request exactly one message for each.
//!
//! Does not bound or retry calls (the guard before an LLM client does), and gets no call that ends at its first poll.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use amcp_protocol::llm::PortFuture;
use ractor::concurrency::JoinHandle;
use ractor::{Actor, ActorCell, ActorProcessingErr, ActorRef, SpawnErr};
use tokio::task::JoinSet;
use tokio_util::sync::{CancellationToken, DropGuard};

use amcp_plan::Event;

use crate::request::RequestMsg;
use crate::slot::ActorSlot;

/// A planner's work for a request, as the event that it ends in.
pub(crate) type PlannerCall = PortFuture<'static, Event>;

/// From a request: go on with this call. The reply sends exactly one event, even after a panic or a kill.
pub(crate) struct PlannerMsg {
    call: PlannerCall,
    reply: Reply,
    unwanted: CancellationToken,
}

impl ractor::Message for PlannerMsg {}

amcp_protocol::opaque_debug!(PlannerMsg);

/// An owed message to a request's actor. Dropped unsent (a panic, a kill, a dead mailbox) it sends `lost`.
struct Reply {
    to: ActorRef<RequestMsg>,
    lost: Option<Event>,
}

impl Reply {
    fn send(mut self, event: Event) {
        self.lost = None;
        // Fails for a request that has been answered meanwhile.
        let _ = self.to.cast(RequestMsg::Happened(event));
    }
}

impl Drop for Reply {
    fn drop(&mut self) {
        if let Some(lost) = self.lost.take() {
            let _ = self.to.cast(RequestMsg::Happened(lost));
        }
    }
}

/// The state of a call after its first poll.
pub(crate) enum Begun {
    /// The call has ended.
    Ended(Box<Event>),
    /// The planner's actor goes on with the call and sends one message, unless this guard is dropped before.
    GoesOn(DropGuard),
}

/// Polls a call once; only a call that must wait goes to the planner's actor.
pub(crate) fn begin(
    planner: &ActorSlot<PlannerMsg>,
    to: &ActorRef<RequestMsg>,
    mut call: PlannerCall,
    lost: Event,
) -> Begun {
    let mut nobody = Context::from_waker(Waker::noop());
    // The planner may be foreign code: its panic costs this call, not the request.
    match catch_unwind(AssertUnwindSafe(|| call.as_mut().poll(&mut nobody))) {
        Ok(Poll::Ready(event)) => Begun::Ended(Box::new(event)),
        Ok(Poll::Pending) => {
            let unwanted = CancellationToken::new();
            let reply = Reply {
                to: to.clone(),
                lost: Some(lost),
            };
            let message = PlannerMsg {
                call,
                reply,
                unwanted: unwanted.clone(),
            };
            // An unsent message is dropped, and its reply then sends `lost`.
            planner.send(message);
            Begun::GoesOn(unwanted.drop_guard())
        }
        Err(_) => {
            tracing::error!("a planner's call panicked");
            Begun::Ended(Box::new(lost))
        }
    }
}

#[derive(Debug)]
struct PlannerActor {
    /// The slot in which requests find this actor.
    slot: Arc<ActorSlot<PlannerMsg>>,
}

pub(crate) async fn spawn_actor(
    slot: Arc<ActorSlot<PlannerMsg>>,
    supervisor: Option<ActorCell>,
) -> Result<(ActorCell, JoinHandle<()>), SpawnErr> {
    let planner = PlannerActor { slot };
    let (actor, ended) = match supervisor {
        Some(supervisor) => Actor::spawn_linked(None, planner, (), supervisor).await?,
        None => Actor::spawn(None, planner, ()).await?,
    };
    Ok((actor.get_cell(), ended))
}

impl Actor for PlannerActor {
    type Msg = PlannerMsg;
    /// Calls under way; they end with the actor. At most one for each running request.
    type State = JoinSet<()>;
    type Arguments = ();

    async fn pre_start(
        &self,
        myself: ActorRef<PlannerMsg>,
        (): (),
    ) -> Result<JoinSet<()>, ActorProcessingErr> {
        self.slot.set(myself);
        Ok(JoinSet::new())
    }

    async fn handle(
        &self,
        _myself: ActorRef<PlannerMsg>,
        message: PlannerMsg,
        calls: &mut JoinSet<()>,
    ) -> Result<(), ActorProcessingErr> {
        while let Some(ended) = calls.try_join_next() {
            if let Err(error) = ended {
                tracing::error!(%error, "a planner's call panicked");
            }
        }
        let PlannerMsg {
            call,
            reply,
            unwanted,
        } = message;
        calls.spawn(async move {
            // An LLM must not work on for a request that was cancelled or answered.
            if let Some(message) = unwanted.run_until_cancelled(call).await {
                reply.send(message);
            }
        });
        Ok(())
    }
}
