//! The routes, their shared state, and the answer to unknown paths.
//!
//! Does not listen; that is [`crate::serve()`].

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use amcp_orchestrator::OrchestratorHandle;
use amcp_protocol::{ErrorCode, Failure};
use amcp_registry::RegistryHandle;
use axum::extract::{FromRequestParts, Path, State};
use axum::http::request::Parts;
use axum::http::{Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::de::DeserializeOwned;
use serde_json::json;

use crate::peers::{Peers, cluster};
use crate::problem::Problem;
use crate::{ask, files, flows, requests};

/// Returns the reasons why the node is not ready; empty when it is.
pub type Readiness = Arc<dyn Fn() -> Vec<String> + Send + Sync>;

/// The state that all routes share.
#[derive(Clone)]
pub struct GatewayState {
    /// Admits, finds and cancels requests.
    pub orchestrator: OrchestratorHandle,
    /// Knows the agents, for /agents.
    pub registry: RegistryHandle,
    /// The folder whose files are served under /files.
    pub reports: PathBuf,
    /// For /readyz.
    pub readiness: Readiness,
    /// The other nodes; none for a node that is alone.
    pub peers: Option<Arc<dyn Peers>>,
}

impl fmt::Debug for GatewayState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GatewayState")
            .field("reports", &self.reports)
            .finish_non_exhaustive()
    }
}

/// All routes.
pub fn router(state: GatewayState) -> Router {
    Router::new()
        .route("/ask", post(ask::ask))
        .route("/plan", post(ask::plan))
        .route(
            "/requests/{id}",
            get(requests::show).delete(requests::cancel),
        )
        .route("/requests/{id}/cancel", post(requests::cancel))
        .route("/requests/{id}/events", get(requests::events))
        .route("/requests/{id}/flows/{flow}", post(flows::answer))
        .route("/files/{name}", get(files::file))
        .route("/agents", get(agents))
        .route("/cluster", get(cluster))
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
        .fallback(no_route)
        .method_not_allowed_fallback(no_method)
        .with_state(state)
}

/// The variable part of a route, or a tuple of its parts; 404 when it cannot be decoded.
pub(crate) struct InPath<T = String>(pub(crate) T);

impl<S: Send + Sync, T: DeserializeOwned + Send> FromRequestParts<S> for InPath<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        match Path::from_request_parts(parts, state).await {
            Ok(Path(part)) => Ok(Self(part)),
            Err(_) => Err(no_route(parts.uri.clone()).await),
        }
    }
}

async fn agents(State(state): State<GatewayState>) -> Json<serde_json::Value> {
    Json(json!({"agents": state.registry.directory().agents()}))
}

async fn livez() -> Json<serde_json::Value> {
    Json(json!({"status": "live"}))
}

async fn readyz(State(state): State<GatewayState>) -> Response {
    let reasons = (state.readiness)();
    if reasons.is_empty() {
        Json(json!({"status": "ready"})).into_response()
    } else {
        (
            StatusCode::SERVICE_UNAVAILABLE,
            Json(json!({"status": "not_ready", "reasons": reasons})),
        )
            .into_response()
    }
}

async fn no_route(uri: Uri) -> Problem {
    Failure::new(
        ErrorCode::NotFound,
        format!("there is nothing at {}", uri.path()),
    )
    .hint("POST /ask, POST /plan, GET /requests/{id}, POST /requests/{id}/flows/{flow_id}, GET /agents, GET /cluster, GET /livez, GET /readyz")
    .into()
}

async fn no_method(method: Method, uri: Uri) -> Problem {
    let failure = Failure::new(
        ErrorCode::BadRequest,
        format!("{} does not take {method}", uri.path()),
    )
    .hint("the Allow header lists the methods that it takes");
    Problem::with_status(StatusCode::METHOD_NOT_ALLOWED, failure)
}
