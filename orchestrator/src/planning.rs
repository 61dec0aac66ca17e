//! The planner's actor: runs planning and composing beside the requests, and owes each exactly one message back.
//!
//! Does not bound or retry calls; the guard before an LLM client does.

use std::sync::Arc;

use amcp_protocol::Failure;
use ractor::concurrency::JoinHandle;
use ractor::{Actor, ActorCell, ActorProcessingErr, ActorRef, SpawnErr};
use tokio::task::JoinSet;

use crate::planner::{ComposeInput, Composed, Planned, PlanningError, PlanningInput};
use crate::request::RequestMsg;
use crate::shared::Shared;

/// What the planner's actor understands.
#[derive(Debug)]
pub(crate) enum PlannerMsg {
    /// From a request: make a plan. Answered once through the reply, whatever happens.
    Plan(Box<PlanningInput>, Reply<Result<Planned, PlanningError>>),
    /// From a request: write the answer. Answered once through the reply, whatever happens.
    Compose(Box<ComposeInput>, Reply<Result<Composed, Failure>>),
}

impl ractor::Message for PlannerMsg {}

/// An owed message to a request's actor. Dropped unsent (a panic, a kill, a dead mailbox) it sends word of that.
pub(crate) struct Reply<T> {
    owed: Option<(ActorRef<RequestMsg>, Wrap<T>)>,
    lost: fn() -> T,
}

type Wrap<T> = Box<dyn FnOnce(T) -> RequestMsg + Send + Sync>;

impl<T> Reply<T> {
    pub(crate) fn new(
        to: ActorRef<RequestMsg>,
        wrap: impl FnOnce(T) -> RequestMsg + Send + Sync + 'static,
        lost: fn() -> T,
    ) -> Self {
        Self {
            owed: Some((to, Box::new(wrap))),
            lost,
        }
    }

    fn send(mut self, value: T) {
        self.pay(value);
    }

    fn pay(&mut self, value: T) {
        if let Some((to, wrap)) = self.owed.take() {
            // A request that has been answered meanwhile needs it no more.
            let _ = to.cast(wrap(value));
        }
    }
}

impl<T> Drop for Reply<T> {
    fn drop(&mut self) {
        if self.owed.is_some() {
            self.pay((self.lost)());
        }
    }
}

impl<T> std::fmt::Debug for Reply<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Reply")
    }
}

#[derive(Debug)]
struct PlannerActor {
    shared: Arc<Shared>,
}

pub(crate) async fn spawn_actor(
    shared: Arc<Shared>,
    supervisor: Option<ActorCell>,
) -> Result<(ActorCell, JoinHandle<()>), SpawnErr> {
    let planner = PlannerActor { shared };
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
        self.shared.planning.set(myself);
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
        let planner = self.shared.planner.clone();
        match message {
            PlannerMsg::Plan(input, reply) => {
                calls.spawn(async move { reply.send(planner.plan(*input).await) })
            }
            PlannerMsg::Compose(input, reply) => {
                calls.spawn(async move { reply.send(planner.compose(*input).await) })
            }
        };
        Ok(())
    }
}
