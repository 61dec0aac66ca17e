//! The [`Ledger`] keeps account of the node's requests: budgets before they are accepted, the audit log of what becomes of them.
//!
//! Judges no capability, and never waits: the log has a thread, a budget is a look into a table.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Instant;

use amcp_access::{Audit, Budgets, Entry, Spent, What};
use amcp_orchestrator::{OrchestratorHandle, Witness};
use amcp_protocol::llm::Usage;
use amcp_protocol::principal::ANONYMOUS;
use amcp_protocol::{
    AgentId, Answer, CallReport, CapabilityName, ErrorCode, Failure, Grant, NodeName, Payload,
    Principal, Progress, Proof, RequestId, TaskRequest, UserRequest,
};
use amcp_registry::RegistryHandle;
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use serde_json::json;

use crate::config::Config;
use crate::output::Trouble;

/// Retry-After while the audit log cannot be written: it is tried again every second.
const LOG_AGAIN_MS: u64 = 2_000;

/// The decision in the records of a request that only asks for a plan.
const PLAN_ONLY: &str = "plan only";
/// As many as of refused requests: a peer may send thousands a second, and the log is bounded.
const REFUSALS: NonZeroU32 = NonZeroU32::new(10).unwrap();

/// The node's books.
#[derive(Debug)]
pub(super) struct Ledger {
    pub(super) audit: Option<Arc<Audit>>,
    budgets: Budgets,
    /// Bounds the records of other nodes' refused tasks.
    refusals: DefaultDirectRateLimiter,
}

impl Ledger {
    /// Opens the books of a node that serves, and its audit log if the settings want one. Gives every node its permissions.
    ///
    /// # Errors
    /// The log is unusable.
    pub(super) fn open(
        config: &Config,
        serves: bool,
        (orchestrator, registry): (&OrchestratorHandle, &RegistryHandle),
    ) -> Result<Arc<Self>, Trouble> {
        let audited = serves && config.audit.on;
        let audit = audited.then(|| Audit::open(config.audit_rules()));
        let ledger = Arc::new(Self {
            audit: audit.transpose()?.map(Arc::new),
            budgets: Budgets::default(),
            refusals: RateLimiter::direct(Quota::per_second(REFUSALS)),
        });
        ledger.adopt(config, None, registry);
        if serves {
            orchestrator.witnessed_by(ledger.clone());
            let hears = ledger.clone();
            registry.calls_heard_by(Box::new(move |of, call, params| {
                hears.called(of, call, params);
            }));
        }
        Ok(ledger)
    }

    /// Takes permissions and budgets over, and notes the rules: at the start, and when they differ from those before.
    pub(super) fn adopt(
        &self,
        config: &Config,
        before: Option<&Config>,
        registry: &RegistryHandle,
    ) {
        registry.permit(config.permissions());
        self.budgets.set(config.budgets());
        if before.is_some_and(|old| (&old.roles, &old.calls) == (&config.roles, &config.calls)) {
            return;
        }
        // What only a start takes over.
        let once = before.is_none().then(|| {
            let anonymous = config.anonymous && !config.behind_proxy;
            json!({"issuers": config.issuers, "anonymous": anonymous, "cluster_trust": config.cluster_trust})
        });
        let text = json!({"roles": config.roles, "calls": config.calls, "once": once});
        let (roles, agents) = (config.roles.len(), config.calls.len());
        self.note(Entry {
            outcome: Some(format!("rules of {roles} roles and {agents} agents")),
            text: Some(text.to_string()),
            ..Entry::new(What::PolicyChanged)
        });
    }

    /// Takes an entry about what cannot be refused any more.
    fn note(&self, entry: Entry) {
        if let Some(audit) = &self.audit {
            // The log counts what it loses.
            let _ = audit.record(entry);
        }
    }

    /// An entry about a request, if there is a log.
    fn about(&self, request: &UserRequest, id: Option<RequestId>, what: What) -> Option<Entry> {
        self.audit.as_ref().map(|_| Entry {
            by: Some(Arc::new(request.principal())),
            request: id,
            ..Entry::new(what)
        })
    }

    /// Notes a task of another node that this node does not do, ten a second. Without its roles: nobody has proven them, and they
    /// may be long.
    pub(super) fn task_refused(&self, peer: &NodeName, task: &TaskRequest, failure: &Failure) {
        if self.refusals.check().is_ok() {
            let user = task.grant.user.clone();
            self.note(Entry {
                by: Some(Arc::new(Principal {
                    user: user.unwrap_or_else(|| ANONYMOUS.to_owned()),
                    roles: Vec::new(),
                    by: Proof::Peer,
                })),
                request: Some(task.request_id),
                capability: Some(task.capability.clone()),
                params: Some(task.params.clone()),
                decision: Some(failure.code.to_string()),
                outcome: Some(format!("{} of {peer}: {}", task.task_id, failure.message)),
                ..Entry::new(What::TaskRefused)
            });
        }
    }

    /// Notes the end of a call that an agent of this node made of another, for the user of the agent's task.
    fn called(&self, (id, of): (RequestId, &Grant), call: &CallReport, params: &Payload) {
        let request = UserRequest {
            user: of.user.clone(),
            by: Some(Proof::Peer),
            ..UserRequest::new("")
        };
        if let Some(entry) = self.about(&request, Some(id), What::TaskCalled) {
            let agent = call.agent.as_ref().map_or("no agent", |id| id.as_str());
            let end = if call.error.is_some() {
                "failed"
            } else {
                "done"
            };
            self.note(Entry {
                capability: Some(call.capability.clone()),
                params: Some(params.clone()),
                decision: call.error.map(|code| code.to_string()),
                outcome: Some(format!("call {end} by {agent}")),
                ..entry
            });
        }
    }

    fn spend(&self, request: &UserRequest, spent: Spent, ends: bool) {
        if is_own(request) {
            self.budgets.spend(&request.principal().user, spent, ends);
        }
    }
}

/// Whether the user asked this node, which counts what it delegates to others too.
fn is_own(request: &UserRequest) -> bool {
    request.by != Some(Proof::Peer)
}

/// The query, or the plan that is to be carried out as it is.
fn asked(request: &UserRequest) -> String {
    let plan = request.plan.as_ref();
    let plan = plan.and_then(|plan| serde_json::to_string(plan).ok());
    plan.unwrap_or_else(|| request.query.clone())
}

fn spent(tasks: usize, usage: Usage) -> Spent {
    Spent {
        tasks: tasks as u64,
        llm_calls: usage.calls.into(),
        tokens: u64::from(usage.prompt_tokens) + u64::from(usage.reply_tokens),
    }
}

impl Witness for Ledger {
    fn accepts(&self, id: Option<RequestId>, request: &UserRequest) -> Result<(), Failure> {
        let stays = id.is_some();
        if is_own(request) {
            let by = request.principal();
            let admitted = self
                .budgets
                .admit(&by.user, &by.roles, stays, Instant::now());
            admitted.map_err(|exhausted| {
                let ms = u64::try_from(exhausted.again.as_millis()).unwrap_or(u64::MAX);
                Failure::new(ErrorCode::QuotaExceeded, exhausted.to_string())
                    .hint("come back later; an administrator sets budgets in [roles.NAME.budget]")
                    .retry_after_ms(ms.max(1))
            })?;
        }
        let (Some(audit), Some(entry)) =
            (&self.audit, self.about(request, id, What::RequestAccepted))
        else {
            return Ok(());
        };
        let entry = Entry {
            decision: (!stays).then(|| PLAN_ONLY.to_owned()),
            text: Some(asked(request)),
            ..entry
        };
        audit.record(entry).map_err(|unaudited| {
            if is_own(request) {
                let by = request.principal();
                self.budgets.withdraw(&by.user, &by.roles, stays);
            }
            Failure::new(ErrorCode::NotReady, unaudited.to_string())
                .hint("ask another node, or an administrator to look at this node's log and disk")
                .retry_after_ms(LOG_AGAIN_MS)
        })
    }

    fn refused(&self, request: &UserRequest, failure: &Failure) {
        if let Some(entry) = self.about(request, None, What::RequestRefused) {
            self.note(Entry {
                decision: Some(failure.code.to_string()),
                outcome: Some(failure.message.clone()),
                ..entry
            });
        }
    }

    fn dispatched(&self, request: &UserRequest, task: &TaskRequest, agent: &AgentId) {
        let id = Some(task.request_id);
        if let Some(entry) = self.about(request, id, What::TaskDispatched) {
            self.note(Entry {
                capability: Some(task.capability.clone()),
                params: Some(task.params.clone()),
                outcome: Some(format!(
                    "{} attempt {} at {agent}",
                    task.task_id, task.attempt
                )),
                ..entry
            });
        }
    }

    fn progressed(
        &self,
        (id, request): (RequestId, &UserRequest),
        capability: Option<&CapabilityName>,
        progress: &Progress,
    ) {
        let (what, decision, outcome) = match progress {
            Progress::Completed { task, agent, .. } => {
                (What::TaskEnded, None, format!("{task} done by {agent}"))
            }
            Progress::Failed { task, error, .. } => {
                let words = format!("{task} failed: {error}");
                (What::TaskEnded, Some(error.code.to_string()), words)
            }
            Progress::FlowEnded { task, flow, end } => {
                let words = format!("{task} flow {flow}");
                (What::FlowEnded, Some(crate::show::word(end)), words)
            }
            Progress::Accepted { .. }
            | Progress::Planned { .. }
            | Progress::Dispatched { .. }
            | Progress::Progressed { .. }
            | Progress::Retried { .. }
            | Progress::FlowRequired { .. }
            | Progress::Answered { .. } => return,
        };
        if let Some(entry) = self.about(request, Some(id), what) {
            self.note(Entry {
                capability: capability.cloned(),
                decision,
                outcome: Some(outcome),
                ..entry
            });
        }
    }

    fn answered(&self, request: &UserRequest, answer: &Answer) {
        // The calls of a task are tasks of other agents, or of the orchestrator that it was delegated to.
        let tasks = answer.tasks.iter().map(|task| 1 + task.calls.len()).sum();
        self.spend(request, spent(tasks, answer.usage), true);
        let id = Some(answer.request_id);
        if let Some(entry) = self.about(request, id, What::RequestEnded) {
            let error = answer.error.as_ref();
            self.note(Entry {
                decision: error.map(|error| error.code.to_string()),
                outcome: Some(answer.state.as_str().to_owned()),
                ..entry
            });
        }
    }

    fn spent(&self, request: &UserRequest, usage: Usage) {
        self.spend(request, spent(0, usage), false);
    }

    fn planned(&self, request: &UserRequest, failure: Option<&Failure>) {
        if let Some(entry) = self.about(request, None, What::RequestEnded) {
            let outcome = failure.map_or("completed", |failure| failure.code.as_str());
            self.note(Entry {
                decision: Some(PLAN_ONLY.to_owned()),
                outcome: Some(outcome.to_owned()),
                ..entry
            });
        }
    }
}
