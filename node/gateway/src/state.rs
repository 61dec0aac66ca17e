//! What the routes share, and how they read the variable parts of a path.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use amcp_access::{Audit, Authentication, Entry};
use amcp_orchestrator::OrchestratorHandle;
use amcp_protocol::{ErrorCode, Failure};
use amcp_registry::RegistryHandle;
use axum::extract::{self, FromRequestParts};
use axum::http::request::Parts;
use serde::de::DeserializeOwned;

use crate::auth::Asker;
use crate::entrance::Names;
use crate::peers::Peers;
use crate::problem::Problem;
use crate::router::no_route;

/// Returns the reasons why the node is not ready; empty when it is.
pub type Readiness = Arc<dyn Fn() -> Vec<String> + Send + Sync>;

/// Returns the node's figures in Prometheus' text format.
pub type Metrics = Arc<dyn Fn() -> String + Send + Sync>;

/// Returns the user to whom a file of a folder belongs; none if it belongs to clients without a credential.
pub type OwnerOf = fn(&Path, &str) -> Option<String>;

/// The state that all routes share.
#[derive(Clone)]
pub struct GatewayState {
    /// Admits, finds and cancels requests.
    pub orchestrator: OrchestratorHandle,
    /// Knows the agents, for /agents.
    pub registry: RegistryHandle,
    /// The folder whose files are served under /files.
    pub reports: PathBuf,
    /// Tells whose a file of that folder is.
    pub owner_of: OwnerOf,
    /// The node's own names; requests under other names are refused.
    pub names: Arc<Names>,
    /// Prove the users of clients.
    pub users: Arc<Authentication>,
    /// The log of what clients do; none if the node keeps none.
    pub audit: Option<Arc<Audit>>,
    /// For /readyz.
    pub readiness: Readiness,
    /// For /metrics.
    pub metrics: Metrics,
    /// The other nodes; none for a node that is alone.
    pub peers: Option<Arc<dyn Peers>>,
}

impl GatewayState {
    /// Writes to the audit log what a client is about to do.
    ///
    /// # Errors
    /// 503: the log cannot be written, and nothing may happen without it.
    pub(crate) fn note(&self, asker: &Asker, entry: Entry) -> Result<(), Problem> {
        let by = Some(asker.principal().clone());
        let recorded = self
            .audit
            .as_ref()
            .map_or(Ok(()), |audit| audit.record(Entry { by, ..entry }));
        recorded.map_err(|unaudited| {
            Failure::new(ErrorCode::NotReady, unaudited.to_string())
                .hint("ask another node, or an administrator to look at this node's log and disk")
                .into()
        })
    }
}

impl fmt::Debug for GatewayState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GatewayState")
            .field("reports", &self.reports)
            .finish_non_exhaustive()
    }
}

/// The variable part of a route, or a tuple of its parts; 404 when it cannot be decoded.
pub(crate) struct InPath<T = String>(pub(crate) T);

impl<S: Send + Sync, T: DeserializeOwned + Send> FromRequestParts<S> for InPath<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        match extract::Path::from_request_parts(parts, state).await {
            Ok(extract::Path(part)) => Ok(Self(part)),
            Err(_) => Err(no_route(&parts.uri)),
        }
    }
}
