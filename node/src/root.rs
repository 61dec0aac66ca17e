//! Puts the parts of a node together: registry, specialists, planner, orchestrator, links to other nodes, HTTP listener;
//! only those that `parts` names.
//!
//! Does not decide when to start or stop; the commands do. A part starts after the parts that it needs, and stops before
//! them.

mod chosen;
mod delegate;
mod http;
mod journal;
mod ledger;
mod left_out;
mod links;
mod opening;
mod parts;
mod peers;
mod planning;
mod supervisor;
mod sweeper;

use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use amcp_access::Audit;
use amcp_cluster::{Cluster, ClusterSettings, Role};
use amcp_gateway::{GatewayState, Https, Peers};
use amcp_orchestrator::{Drained, OrchestratorHandle, Settings};
use amcp_planner::SharedPlanner;
use amcp_planner::client::{Guarded, SharedLlm};
use amcp_protocol::{AgentId, NodeName};
use amcp_registry::{EventBus, RegistryHandle, RestartPolicy};
use amcp_specialists::{Leftover, SupervisorHandle};
use ractor::{Actor, ActorRef};
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

use delegate::Delegated;
use http::Listener;
pub(crate) use http::{bind_failure, check as check_http};
pub(crate) use journal::folder as journal_folder;
use ledger::Ledger;
pub(crate) use links::name;
pub(crate) use parts::{guessed_url, llm_settings, scheme, specialist_settings};
pub(crate) use planning::{Planning, llm, this_day};
use supervisor::{PartSpec, RootMsg, RootSupervisor};

use crate::config::Config;
use crate::data::{self, Held};
use crate::metrics::Readings;
use crate::output::Trouble;

/// How long one part may take to stop; the end of the process ends a part that hangs longer.
const PART_STOP: Duration = Duration::from_secs(2);
/// How long the listener's open connections may outlive the drain of the requests: time to fetch the answers.
const LAST_WORDS: Duration = Duration::from_secs(1);
/// How long the agents may take to be ready before a node is called broken.
const SETTLE: Duration = Duration::from_secs(10);

/// The specialists' current supervisor; a restart replaces it.
type Supervisors = watch::Sender<Option<SupervisorHandle>>;

/// The reason for which a node starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// To plan or to list agents; writes no file.
    Look,
    /// To answer requests of this process.
    Work,
    /// The same, while the demo kills specialists.
    WorkUnderFaults,
    /// To answer requests over HTTP.
    Serve,
}

impl Purpose {
    /// Prepares the data folder; a node that serves keeps others out of it.
    fn take(self, folder: &Path) -> Result<Option<Held>, Trouble> {
        if self == Self::Look {
            return Ok(None);
        }
        data::prepare(folder).map_err(|error| data::unusable(folder, &error))?;
        (self == Self::Serve)
            .then(|| data::hold(folder))
            .transpose()
    }

    fn restarts(self) -> RestartPolicy {
        match self {
            // The demo kills each agent more often than the normal budget allows, and needs it back before a request gives up.
            Self::WorkUnderFaults => RestartPolicy {
                restart_intensity: 10_000,
                backoff_max: Duration::from_millis(50),
                ..RestartPolicy::default()
            },
            Self::Look | Self::Work | Self::Serve => RestartPolicy::default(),
        }
    }
}

/// A running node.
pub(crate) struct Node {
    pub(crate) orchestrator: OrchestratorHandle,
    pub(crate) registry: RegistryHandle,
    /// Present if the node runs specialists.
    supervisors: Option<Arc<Supervisors>>,
    root: ActorRef<RootMsg>,
    fate: watch::Receiver<Option<String>>,
    place: Option<ClusterPlace>,
    http: Option<Listener>,
    health: Option<Listener>,
    ledger: Arc<Ledger>,
    /// Keeps other nodes out of the data folder.
    _data: Option<Held>,
    /// The task that opens admission.
    opening: Option<AbortOnDropHandle<()>>,
}

/// The node's listener for other nodes.
pub(crate) struct ClusterPlace {
    pub(crate) name: NodeName,
    pub(crate) cluster: Cluster,
    /// Whether its links are encrypted and both ends prove who they are.
    pub(crate) secured: bool,
    /// Whether the settings name other nodes.
    seeded: bool,
}

/// The result of a drain.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) requests: Drained,
    /// Tasks that other nodes still waited for.
    pub(crate) tasks_of_others: usize,
    /// Tasks that specialists did not finish.
    pub(crate) leftover: Vec<Leftover>,
}

impl Node {
    /// Starts a node.
    ///
    /// # Errors
    /// The configuration contradicts itself, the data folder or an address cannot be used, or a part does not start.
    pub(crate) async fn start(config: &Config, purpose: Purpose) -> Result<Self, Trouble> {
        Self::start_with(config, purpose, |planner| planner).await
    }

    /// As [`Self::start`], with another planner in place of the configured one.
    pub(crate) async fn start_with(
        config: &Config,
        purpose: Purpose,
        replace: impl FnOnce(SharedPlanner) -> SharedPlanner,
    ) -> Result<Self, Trouble> {
        let serves = purpose == Purpose::Serve;
        // A command that answers in its own process needs all parts; `parts` is for nodes that serve.
        let has = |part| !serves || config.parts.has(part);
        // Refuses unusable settings before it writes anything.
        let guarded = parts::llm(config)?;
        let llm = guarded.clone().map(|llm| llm as SharedLlm);
        let settings = parts::orchestrator_settings(config)?;
        let joins = serves.then(|| links::settings(config));
        let joins = joins.transpose()?.flatten();
        let name = joins.as_ref().map(|joins| &joins.name);
        let specialists = specialist_settings(config, llm.clone());
        let agents = chosen::agents(config, &specialists, purpose.restarts(), name)?;
        let data = purpose.take(&config.data)?;
        let (listener, health, https) = http::listen(config, purpose)?;
        let address = listener.as_ref().map(TcpListener::local_addr).transpose()?;
        let bus = EventBus::new();
        let registry = RegistryHandle::new("amcp", bus.clone());
        let planner = replace(parts::planner_of_node(config, llm.clone()));
        let orchestrator = OrchestratorHandle::new(settings, planner, registry.clone(), bus);
        let ledger = Ledger::open(config, serves, (&orchestrator, &registry))?;
        journal::open(config, serves && has(Role::Orchestrator), &orchestrator).await?;
        // The listener serves before the agents are ready.
        orchestrator.hold();
        let http = address.and_then(|http| links::reached_at(config, http));
        let names = Arc::new(http::names(config, http.as_deref()));
        let joins = joins.map(|joins| ClusterSettings { http, ..joins });
        let reports = config.data.join(data::REPORTS);
        let place = ClusterPlace::of(joins, &registry, (&orchestrator, &ledger), &reports).await?;
        let mut specs = vec![parts::registry_part(registry.clone())];
        let supervisors = has(Role::Specialists).then(|| Arc::new(Supervisors::new(None)));
        let specialists = |current| parts::specialists_part(registry.clone(), agents, current);
        specs.extend(supervisors.clone().map(specialists));
        if has(Role::Orchestrator) {
            let others = place.as_ref();
            let delegated = others.map(|p| p.delegated(&orchestrator, &registry, &supervisors));
            specs.extend(parts::planning_parts(&orchestrator, delegated));
        }
        specs.extend(serves.then(|| parts::sweeper_part(reports.clone(), config)));
        specs.extend(place.iter().map(|p| parts::cluster_part(p.cluster.clone())));
        // With a fallback the node answers without its LLM.
        let needed = guarded.clone().filter(|_| !config.llm_fallback);
        let metrics = Readings::of((&orchestrator, &registry), place.as_ref(), guarded).text()?;
        let state = GatewayState {
            orchestrator: orchestrator.clone(),
            registry: registry.clone(),
            reports,
            names,
            readiness: readiness(orchestrator.clone(), needed, ledger.audit.clone()),
            metrics,
            users: Arc::new(config.authentication(serves, &ledger.audit)?),
            audit: ledger.audit.clone(),
            owner_of: amcp_specialists::reports::owner,
            peers: place.as_ref().map(ClusterPlace::peers),
        };
        let (http, health) = http::parts(config, (listener, health, https), state, &mut specs)?;
        let (root, fate) = started(specs).await?;
        let mut mesh = Self {
            orchestrator,
            registry,
            supervisors,
            root,
            fate,
            place,
            http,
            health,
            ledger,
            _data: data,
            opening: None,
        };
        mesh.settle().await?;
        mesh.opening = mesh.open();
        Ok(mesh)
    }

    /// Opens admission once the node knows agents, as [`opening`] decides.
    fn open(&self) -> Option<AbortOnDropHandle<()>> {
        let seeded = self.place.as_ref().filter(|place| place.seeded);
        let others = seeded.map(|place| place.cluster.clone());
        opening::begin(self.orchestrator.clone(), self.registry.clone(), others)
    }

    async fn settle(&self) -> Result<(), Trouble> {
        if self.supervisors.is_none() {
            return Ok(());
        }
        let Some(supervisor) = self.supervisor() else {
            return Err(Trouble::failed(
                "the specialists' supervisor ended while it started",
            ));
        };
        tokio::time::timeout(SETTLE, supervisor.settled())
            .await
            .map_err(|_| {
                Trouble::failed("the specialists are not ready after 10 s")
                    .hint("run again with --log info to see which one it is")
            })
    }

    fn supervisor(&self) -> Option<SupervisorHandle> {
        self.supervisors.as_ref()?.borrow().clone()
    }

    /// None when the node is alone.
    pub(crate) const fn place(&self) -> Option<&ClusterPlace> {
        self.place.as_ref()
    }

    /// The listener's address; none when the node does not serve.
    pub(crate) fn address(&self) -> Option<SocketAddr> {
        self.http.as_ref().map(|listener| listener.address)
    }

    /// The address for health checks, if it has one of its own.
    pub(crate) fn admin(&self) -> Option<SocketAddr> {
        self.health.as_ref().map(|listener| listener.address)
    }

    /// Kills an agent; says whether it was running.
    pub(crate) async fn kill(&self, agent: &AgentId) -> bool {
        match self.supervisor() {
            Some(supervisor) => supervisor.kill(agent).await,
            None => false,
        }
    }

    /// Waits until a part has ended too often; returns the reason.
    pub(crate) async fn failed(&self) -> String {
        let mut fate = self.fate.clone();
        match fate.wait_for(Option::is_some).await {
            Ok(reason) => reason.clone().unwrap_or_default(),
            Err(_) => "its root supervisor ended".to_owned(),
        }
    }

    /// Its certificate for HTTPS, if it has one.
    pub(crate) fn https(&self) -> Option<Arc<Https>> {
        self.http.as_ref()?.https.clone()
    }

    /// Takes over the settings of a [`checked`] configuration that may change while the node runs.
    pub(crate) fn adopt(&self, settings: Settings, config: &Config, before: &Config) {
        self.orchestrator.adopt(settings);
        self.ledger.adopt(config, Some(before), &self.registry);
    }

    /// Refuses new work, lets running requests end within this time, and stops every part.
    pub(crate) async fn drain(&self, within: Duration) -> Ended {
        // The listener still serves: /readyz says that the node drains, and answers can be fetched. Other nodes send its
        // agents nothing from now on; its own requests go on with them.
        let others = async {
            match &self.place {
                Some(place) => place.cluster.drain(within).await,
                None => 0,
            }
        };
        let (requests, tasks_of_others) = tokio::join!(self.orchestrator.drain(within), others);
        let leftover = match self.supervisor() {
            // Without requests only the tasks that the drain has just cut off are left.
            Some(supervisor) => supervisor.drain(PART_STOP).await,
            None => Vec::new(),
        };
        if let Some(place) = &self.place {
            place.cluster.leave().await;
        }
        for listener in self.http.iter().chain(&self.health) {
            listener.close.cancel();
            let _ = tokio::time::timeout(LAST_WORDS, listener.closed.cancelled()).await;
        }
        // Fails when the root has ended, and its parts with it.
        let _ = self.root.send_message(RootMsg::Stop);
        let _ = self.root.wait(Some(PART_STOP)).await;
        let ledger = self.ledger.clone();
        let closed =
            tokio::task::spawn_blocking(move || ledger.audit.as_ref().map(|audit| audit.close()));
        // A log that cannot be written has said so.
        let _ = tokio::time::timeout(PART_STOP, closed).await;
        Ended {
            requests,
            tasks_of_others,
            leftover,
        }
    }
}

impl ClusterPlace {
    /// Listens for other nodes; the cluster part dials and accepts later. None when the node is alone.
    async fn of(
        settings: Option<ClusterSettings>,
        registry: &RegistryHandle,
        (orchestrator, ledger): (&OrchestratorHandle, &Arc<Ledger>),
        reports: &Path,
    ) -> Result<Option<Self>, Trouble> {
        let Some(settings) = settings else {
            return Ok(None);
        };
        let (name, secured) = (settings.name.clone(), settings.tls.is_some());
        let seeded = !settings.seeds.is_empty();
        let desk = peers::OwnRequests {
            node: name.clone(),
            orchestrator: orchestrator.clone(),
            reports: reports.to_owned(),
            ledger: Arc::clone(ledger),
        };
        let cluster = Cluster::bind(settings, registry.clone(), Arc::new(desk)).await?;
        Ok(Some(Self {
            name,
            cluster,
            secured,
            seeded,
        }))
    }

    /// The parts of the orchestrator's agent.
    fn delegated(
        &self,
        orchestrator: &OrchestratorHandle,
        registry: &RegistryHandle,
        specialists: &Option<Arc<Supervisors>>,
    ) -> Delegated {
        Delegated {
            orchestrator: orchestrator.clone(),
            registry: registry.clone(),
            node: self.name.clone(),
            specialists: specialists.clone(),
        }
    }

    /// The gateway's port to other nodes.
    fn peers(&self) -> Arc<dyn Peers> {
        Arc::new(peers::OtherNodes {
            node: self.name.clone(),
            cluster: self.cluster.clone(),
        })
    }
}

/// The orchestrator's settings of a configuration for a running node, whose certificate for HTTPS it reads again. Waits for the disk.
///
/// # Errors
/// The settings contradict each other, or the certificate is unusable and the old one stays.
pub(crate) fn checked(config: &Config, https: Option<&Https>) -> Result<Settings, Trouble> {
    config.check_access()?;
    let settings = parts::orchestrator_settings(config)?;
    https
        .map_or(Ok(()), Https::reread)
        .map_err(http::unusable)?;
    Ok(settings)
}

/// Starts the parts; the channel gets the reason when one of them has ended too often.
async fn started(
    specs: Vec<PartSpec>,
) -> Result<(ActorRef<RootMsg>, watch::Receiver<Option<String>>), Trouble> {
    let (fate, fate_seen) = watch::channel(None);
    let (root, _) = Actor::spawn(None, RootSupervisor, (specs, fate))
        .await
        .map_err(|error| Trouble::failed(format!("the node does not start: {error}")))?;
    Ok((root, fate_seen))
}

fn readiness(
    orchestrator: OrchestratorHandle,
    llm: Option<Arc<Guarded>>,
    audit: Option<Arc<Audit>>,
) -> amcp_gateway::Readiness {
    Arc::new(move || {
        let mut reasons = Vec::new();
        if orchestrator.is_draining() {
            reasons.push("the node is draining".to_owned());
        }
        if orchestrator.is_starting() {
            reasons.push("the node is starting".to_owned());
        }
        if !orchestrator.has_agents() {
            reasons.push("no agent is ready".to_owned());
        }
        reasons.extend(orchestrator.journal_trouble());
        reasons.extend(llm.as_deref().and_then(parts::llm_trouble));
        let trouble = audit.as_deref().and_then(Audit::trouble);
        reasons.extend(trouble.map(|words| format!("the audit log cannot be written: {words}")));
        reasons
    })
}
