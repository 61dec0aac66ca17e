//! The routes, and what needs no file of its own behind them.
//!
//! Does not listen; that is [`crate::serve()`].

use amcp_protocol::{ErrorCode, Failure};
use axum::extract::State;
use axum::http::{Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde_json::{Value, json};

use crate::problem::Problem;
use crate::state::{GatewayState, no_route};
use crate::{ask, files, flows, requests};

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

async fn agents(State(state): State<GatewayState>) -> Json<Value> {
    Json(json!({"agents": state.registry.directory().agents()}))
}

/// GET /cluster: 404 for a node that is alone.
async fn cluster(State(state): State<GatewayState>) -> Result<Json<Value>, Problem> {
    match &state.peers {
        Some(peers) => Ok(Json(peers.view())),
        None => Err(Failure::new(ErrorCode::NotFound, "this node is alone")
            .hint("`amcp node --cluster ADDRESS` joins others, see docs/CLUSTER.md")
            .into()),
    }
}

async fn livez() -> Json<Value> {
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

async fn no_method(method: Method, uri: Uri) -> Problem {
    let failure = Failure::new(
        ErrorCode::BadRequest,
        format!("{} does not take {method}", uri.path()),
    )
    .hint("the Allow header lists the methods that it takes");
    Problem::with_status(StatusCode::METHOD_NOT_ALLOWED, failure)
}
