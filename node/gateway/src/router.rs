//! The routes, and what needs no file of its own behind them.
//!
//! Does not listen; that is [`crate::serve()`].

use amcp_protocol::{ErrorCode, Failure};
use axum::extract::State;
use axum::http::{Method, StatusCode, Uri, header};
use axum::middleware::{from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde_json::{Value, json};

use crate::agents::Agents;
use crate::auth::Asker;
use crate::problem::Problem;
use crate::routes::{HEALTH, ROUTES, Route};
use crate::state::GatewayState;
use crate::{auth, entrance, openapi, trace};

/// All routes.
pub fn router(state: GatewayState) -> Router {
    let users = from_fn_with_state(state.users.clone(), auth::enter);
    let all = with(Router::new(), ROUTES);
    let all = all.fallback(async |uri: Uri| no_route(&uri));
    // Around all routes and fallbacks before it, those of later builds too.
    let all = all.method_not_allowed_fallback(no_method).layer(users);
    // Health checks are in no trace.
    let all = all.layer(from_fn(trace::follow));
    entered(with(all, HEALTH), state)
}

/// The routes for operators, which an address of their own serves to everybody who reaches it.
pub fn health_router(state: GatewayState) -> Router {
    let all = with(Router::new(), HEALTH).route("/metrics", get(metrics));
    let all = all.fallback(async |uri: Uri| nothing_at(&uri, HEALTH.iter()));
    entered(all.method_not_allowed_fallback(no_method), state)
}

fn with(router: Router<GatewayState>, routes: &[Route]) -> Router<GatewayState> {
    routes
        .iter()
        .fold(router, |all, route| all.route(route.path, (route.serve)()))
}

/// Puts the entrance around all routes and fallbacks, those of later builds too.
fn entered(router: Router<GatewayState>, state: GatewayState) -> Router {
    let names = from_fn_with_state(state.names.clone(), entrance::enter);
    router.with_state(state).layer(names)
}

pub(crate) fn no_route(uri: &Uri) -> Problem {
    nothing_at(uri, ROUTES.iter().chain(HEALTH))
}

fn nothing_at<'a>(uri: &Uri, routes: impl Iterator<Item = &'a Route>) -> Problem {
    let message = format!("there is nothing at {}", uri.path());
    let routes: Vec<_> = routes
        .map(|route| format!("{} {}", route.method, route.path))
        .collect();
    Failure::new(ErrorCode::NotFound, message)
        .hint(routes.join(", "))
        .into()
}

pub(crate) async fn agents(State(state): State<GatewayState>, asker: Asker) -> Json<Agents> {
    Json(Agents::of(&state.registry, asker.roles()))
}

pub(crate) async fn openapi(State(state): State<GatewayState>) -> impl IntoResponse {
    let form = "application/vnd.oai.openapi+json;version=3.1";
    let document = openapi::document(state.orchestrator.max_deadline_ms());
    ([(header::CONTENT_TYPE, form)], document.to_string())
}

/// GET /cluster: 404 for a node that is alone.
pub(crate) async fn cluster(State(state): State<GatewayState>) -> Result<Json<Value>, Problem> {
    match &state.peers {
        Some(peers) => Ok(Json(peers.view())),
        None => Err(Failure::new(ErrorCode::NotFound, "this node is alone")
            .hint("a node that is started with --cluster ADDRESS joins others")
            .into()),
    }
}

pub(crate) async fn livez() -> Json<Value> {
    Json(json!({"status": "live"}))
}

pub(crate) async fn metrics(State(state): State<GatewayState>) -> impl IntoResponse {
    let form = "text/plain; version=0.0.4; charset=utf-8";
    ([(header::CONTENT_TYPE, form)], (state.metrics)())
}

pub(crate) async fn readyz(State(state): State<GatewayState>) -> Response {
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
    let message = format!("{} does not take {method}", uri.path());
    Failure::new(ErrorCode::MethodNotAllowed, message)
        .hint("the Allow header lists the methods that it takes")
        .into()
}
