//! The orchestrator as an agent: other orchestrators and agents delegate whole requests to it.
//!
//! Does not decide which requests it accepts or what its card says; the orchestrator does.

use std::sync::Arc;
use std::time::Duration;

use amcp_orchestrator::{Delegation, OrchestratorHandle};
use amcp_protocol::task::TaskOutcome;
use amcp_protocol::{AgentId, NodeName};
use amcp_registry::{RegistryHandle, RestartPolicy};
use amcp_specialists::{
    AgentCard, Capability, ChildSpec, Context, Failure, ShellLimits, Specialist, SupervisorConfig,
    SupervisorHandle, Task, Value, async_trait,
};
use ractor::{Actor, ActorProcessingErr, ActorRef, SpawnErr, SupervisionEvent};
use tokio_util::task::AbortOnDropHandle;

use super::Supervisors;
use super::links;

/// Pause after a change among the agents: many join at a time, and each new card of the orchestrator goes to every node.
const CALM: Duration = Duration::from_millis(500);
/// How long requests delegated under an old card may take to end: as long as the card gives a task.
const LAST_TASKS: Duration = Duration::from_secs(60);

/// The parts that the agent needs.
#[derive(Clone)]
pub(super) struct Delegated {
    pub(super) orchestrator: OrchestratorHandle,
    pub(super) registry: RegistryHandle,
    pub(super) node: NodeName,
    /// The supervisor of the node's own specialists; the agent joins after them.
    pub(super) specialists: Option<Arc<Supervisors>>,
}

/// Sent only by tasks that the actor spawned.
#[derive(Debug)]
pub(super) enum DelegateMsg {
    /// Agents may have joined or left.
    Look,
    /// The agent with the new card has started, or has failed to; `None`: the orchestrator offers nothing any more.
    Changed(Result<Option<Box<Offer>>, SpawnErr>),
    /// The agent with the old card has ended.
    Relieved,
}

impl ractor::Message for DelegateMsg {}

/// A running agent and its card's capability.
#[derive(Debug)]
pub(super) struct Offer {
    capability: Capability,
    supervisor: SupervisorHandle,
}

/// Keeps the agent's card true while agents join and leave. An agent with the new card starts before the one with the old
/// card drains, so that no task is refused.
pub(super) struct DelegateActor;

pub(super) struct DelegateState {
    made_of: Delegated,
    current: Option<Box<Offer>>,
    /// Number of changes of the card; gives two agents that run at once different ids.
    changes: u32,
    /// Whether a change is under way; the next one waits.
    changing: bool,
    _watch: AbortOnDropHandle<()>,
}

impl Actor for DelegateActor {
    type Msg = DelegateMsg;
    type State = DelegateState;
    type Arguments = Delegated;

    async fn pre_start(
        &self,
        myself: ActorRef<DelegateMsg>,
        made_of: Delegated,
    ) -> Result<DelegateState, ActorProcessingErr> {
        let changes = made_of.registry.changes();
        let specialists = made_of.specialists.clone();
        let watch = tokio::spawn(watch(myself, specialists, changes));
        Ok(DelegateState {
            made_of,
            current: None,
            changes: 0,
            changing: false,
            _watch: AbortOnDropHandle::new(watch),
        })
    }

    async fn handle(
        &self,
        myself: ActorRef<DelegateMsg>,
        message: DelegateMsg,
        state: &mut DelegateState,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            DelegateMsg::Look => state.look(&myself),
            DelegateMsg::Changed(offer) => state.current = offer?,
            DelegateMsg::Relieved => {
                state.changing = false;
                state.look(&myself);
            }
        }
        Ok(())
    }

    async fn handle_supervisor_evt(
        &self,
        _: ActorRef<DelegateMsg>,
        event: SupervisionEvent,
        state: &mut DelegateState,
    ) -> Result<(), ActorProcessingErr> {
        let ended = match event {
            SupervisionEvent::ActorTerminated(actor, ..)
            | SupervisionEvent::ActorFailed(actor, _) => actor,
            SupervisionEvent::ActorStarted(_)
            | SupervisionEvent::ProcessGroupChanged(_)
            | SupervisionEvent::PidLifecycleEvent(_) => return Ok(()),
        };
        let is_current = |offer: &Offer| offer.supervisor.cell() == ended;
        if state.current.as_deref().is_some_and(is_current) {
            return Err("the supervisor of the orchestrator's agent ended".into());
        }
        Ok(())
    }
}

/// Sends [`DelegateMsg::Look`] once the node's own specialists are ready, and [`CALM`] after each change.
async fn watch(
    actor: ActorRef<DelegateMsg>,
    specialists: Option<Arc<Supervisors>>,
    mut changes: tokio::sync::watch::Receiver<()>,
) {
    if let Some(specialists) = specialists {
        let mut current = specialists.subscribe();
        let supervisor = current.wait_for(Option::is_some).await;
        let supervisor = supervisor.ok().and_then(|current| current.clone());
        if let Some(supervisor) = supervisor {
            supervisor.settled().await;
        }
    }
    while actor.send_message(DelegateMsg::Look).is_ok() && changes.changed().await.is_ok() {
        tokio::time::sleep(CALM).await;
        changes.mark_unchanged();
    }
}

impl DelegateState {
    fn look(&mut self, myself: &ActorRef<DelegateMsg>) {
        let wanted = self.made_of.orchestrator.capability();
        let current = self.current.as_ref().map(|offer| &offer.capability);
        if self.changing || current == wanted.as_ref() {
            return;
        }
        self.changing = true;
        let next = wanted.map(|capability| (capability, self.next_id()));
        let (orchestrator, registry) = (
            self.made_of.orchestrator.clone(),
            self.made_of.registry.clone(),
        );
        let (before, myself) = (self.current.take(), myself.clone());
        tokio::spawn(async move {
            let offer = match next {
                Some((capability, id)) => {
                    let config = supervisor(registry, id, &orchestrator, &capability);
                    let started = config.start(Some(myself.get_cell())).await;
                    started.map(|supervisor| {
                        Some(Box::new(Offer {
                            capability,
                            supervisor,
                        }))
                    })
                }
                None => Ok(None),
            };
            if let Ok(Some(offer)) = &offer {
                offer.supervisor.settled().await;
            }
            // Fails only when the actor has ended, and its agents with it.
            let _ = myself.send_message(DelegateMsg::Changed(offer));
            if let Some(before) = before {
                before.supervisor.drain(LAST_TASKS).await;
                before.supervisor.cell().stop(None);
            }
            let _ = myself.send_message(DelegateMsg::Relieved);
        });
    }

    /// `orchestrator@b`, and while that agent drains `orchestrator-2@b`.
    fn next_id(&mut self) -> AgentId {
        let id = match self.changes % 2 {
            0 => AgentId::ORCHESTRATOR,
            _ => "orchestrator-2",
        };
        self.changes = self.changes.wrapping_add(1);
        let id = AgentId::new(id).expect("an id in the source is valid");
        links::agent_id(&id, &self.made_of.node)
    }
}

fn supervisor(
    registry: RegistryHandle,
    id: AgentId,
    orchestrator: &OrchestratorHandle,
    capability: &Capability,
) -> SupervisorConfig {
    let (orchestrator, capability) = (orchestrator.clone(), capability.clone());
    let agent = ChildSpec {
        id,
        factory: Arc::new(move || {
            Arc::new(DelegateSpecialist {
                orchestrator: orchestrator.clone(),
                capability: capability.clone(),
            })
        }),
        policy: RestartPolicy::default(),
        limits: ShellLimits::default(),
    };
    SupervisorConfig::new(registry, vec![agent])
}

/// Offers `orchestrate.<domain>`.
struct DelegateSpecialist {
    orchestrator: OrchestratorHandle,
    capability: Capability,
}

#[async_trait]
impl Specialist for DelegateSpecialist {
    fn card(&self) -> AgentCard {
        let description = "Plans whole requests and has them done.";
        // The supervisor gives the agent its id in the mesh.
        AgentCard::new("orchestrator", description, vec![self.capability.clone()])
    }

    async fn handle(&self, task: Task, ctx: &Context) -> Result<Value, Failure> {
        let delegation = Delegation {
            by: (ctx.request_id(), ctx.task_id().clone()),
            query: task.text("query").to_owned(),
            grant: ctx.grant().clone(),
            lineage: ctx.lineage().clone(),
            flows: ctx.flows().to_vec(),
            time: ctx.time_left(),
            traceparent: ctx.traceparent().map(str::to_owned),
        };
        let (outcome, (calls, usage)) = self
            .orchestrator
            .delegated(delegation, |note| ctx.progress(note))
            .await;
        ctx.report_calls(calls);
        ctx.report_usage(usage);
        match outcome {
            TaskOutcome::Done(result) => Ok(result.into_value()),
            TaskOutcome::Partly(result, missing) => {
                ctx.report_missing(missing);
                Ok(result.into_value())
            }
            TaskOutcome::Failed(failure) => Err(failure),
            TaskOutcome::Refused(failure) => Err(ctx.refuse(failure)),
            TaskOutcome::FlowRequired(flow) => Err(ctx.pass_on(flow)),
        }
    }
}
