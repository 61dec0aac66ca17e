//! The planner's actor: runs the planning and composing that take time beside the requests, and owes each exactly one
//! message back.
//!
//! Does not bound or retry calls (the guard before an LLM client does), and sees none of a planner that answers at once.

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

/// What the planner's actor understands: from a request, go on with this call. Answered once through the reply, whatever
/// happens.
pub(crate) struct PlannerMsg {
    call: PlannerCall,
    reply: Reply,
    unwanted: CancellationToken,
}

impl ractor::Message for PlannerMsg {}

impl std::fmt::Debug for PlannerMsg {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PlannerMsg")
    }
}

/// An owed message to a request's actor. Dropped unsent (a panic, a kill, a dead mailbox) it sends `lost`.
struct Reply {
    to: ActorRef<RequestMsg>,
    lost: Option<Event>,
}

impl Reply {
    fn send(mut self, event: Event) {
        self.lost = None;
        // A request that has been answered meanwhile needs it no more.
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

/// How far a call came at once.
pub(crate) enum Begun {
    /// To its end.
    Ended(Box<Event>),
    /// The planner's actor goes on with it and one message follows, unless this is dropped before.
    GoesOn(DropGuard),
}

/// Begins a call; one that needs no waiting never leaves the request's actor.
pub(crate) fn begin(
    planner: &ActorSlot<PlannerMsg>,
    to: &ActorRef<RequestMsg>,
    mut call: PlannerCall,
    lost: Event,
) -> Begun {
    let mut nobody = Context::from_waker(Waker::noop());
    // A planner is code of others: its panic costs this call, not the request.
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
            // A message that is not sent is dropped, and its reply says so.
            planner.send(message);
            Begun::GoesOn(unwanted.drop_guard())
        }
        Err(_) => {
            tracing::error!("a planner's call died");
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
    /// Calls under way; they end with the actor. Bounded by the requests that were admitted.
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
                tracing::error!(%error, "a planner's call died");
            }
        }
        let PlannerMsg {
            call,
            reply,
            unwanted,
        } = message;
        calls.spawn(async move {
            // An LLM must not work for a request that was cancelled or answered.
            if let Some(message) = unwanted.run_until_cancelled(call).await {
                reply.send(message);
            }
        });
        Ok(())
    }
}
