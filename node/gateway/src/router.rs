//! The routes, and what needs no file of its own behind them.
//!
//! Does not listen; that is [`crate::serve()`].

use amcp_protocol::{ErrorCode, Failure};
use axum::extract::State;
use axum::http::{Method, StatusCode, Uri, header};
use axum::middleware::{from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, delete, get, post};
use axum::{Json, Router};
use serde_json::{Value, json};

use crate::problem::Problem;
use crate::state::GatewayState;
use crate::{ask, auth, entrance, files, flows, list, requests, trace};

/// Method, path, and what serves them.
type Route = (
    &'static str,
    &'static str,
    fn() -> MethodRouter<GatewayState>,
);

const ROUTES: &[Route] = &[
    ("POST", "/ask", || post(ask::ask)),
    ("POST", "/run", || post(ask::run)),
    ("POST", "/plan", || post(ask::plan)),
    ("GET", "/requests", || get(list::list)),
    ("GET", "/requests/{id}", || get(requests::show)),
    ("DELETE", "/requests/{id}", || delete(requests::cancel)),
    ("POST", "/requests/{id}/cancel", || post(requests::cancel)),
    ("GET", "/requests/{id}/events", || get(requests::events)),
    ("POST", "/requests/{id}/flows/{flow_id}", || {
        post(flows::answer)
    }),
    ("GET", "/files/{name}", || get(files::file)),
    ("GET", "/agents", || get(agents)),
    ("GET", "/cluster", || get(cluster)),
    ("GET", "/metrics", || get(metrics)),
];

/// These routes need no credential: a health check has none, and reads no word of anybody.
const HEALTH: &[Route] = &[
    ("GET", "/livez", || get(livez)),
    ("GET", "/readyz", || get(readyz)),
];

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
        .fold(router, |all, (_, path, serve)| all.route(path, serve()))
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
        .map(|(method, path, _)| format!("{method} {path}"))
        .collect();
    Failure::new(ErrorCode::NotFound, message)
        .hint(routes.join(", "))
        .into()
}

async fn agents(State(state): State<GatewayState>) -> Json<Value> {
    Json(json!({"agents": state.registry.directory().agents()}))
}

/// GET /cluster: 404 for a node that is alone.
async fn cluster(State(state): State<GatewayState>) -> Result<Json<Value>, Problem> {
    match &state.peers {
        Some(peers) => Ok(Json(peers.view())),
        None => Err(Failure::new(ErrorCode::NotFound, "this node is alone")
            .hint("a node that is started with --cluster ADDRESS joins others")
            .into()),
    }
}

async fn livez() -> Json<Value> {
    Json(json!({"status": "live"}))
}

async fn metrics(State(state): State<GatewayState>) -> impl IntoResponse {
    let form = "text/plain; version=0.0.4; charset=utf-8";
    ([(header::CONTENT_TYPE, form)], (state.metrics)())
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
    let message = format!("{} does not take {method}", uri.path());
    Failure::new(ErrorCode::MethodNotAllowed, message)
        .hint("the Allow header lists the methods that it takes")
        .into()
}
