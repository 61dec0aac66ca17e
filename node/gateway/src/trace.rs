//! A span for each request of a client, above the spans of what it causes.
//!
//! Records nothing itself; see [`amcp_registry::trace`].

use amcp_registry::trace;
use axum::extract::{MatchedPath, Request};
use axum::http::{HeaderMap, HeaderValue};
use axum::middleware::Next;
use axum::response::Response;

const TRACEPARENT: &str = "traceparent";

/// Passes a request on with the span's trace context in place of the client's.
pub(crate) async fn follow(mut request: Request, next: Next) -> Response {
    let text = |headers: &HeaderMap| Some(headers.get(TRACEPARENT)?.to_str().ok()?.to_owned());
    let route = request.extensions().get::<MatchedPath>().cloned();
    let route = route.as_ref().map_or("", MatchedPath::as_str);
    // A client may make methods up, of any length.
    let method = match request.method().as_str() {
        known @ ("GET" | "HEAD" | "POST" | "PUT" | "PATCH" | "DELETE" | "OPTIONS") => known,
        _ => "_OTHER",
    };
    let name = (method, route);
    let (span, own) = trace::begin("server", name, text(request.headers()));
    span.record("http.request.method", method);
    span.record("http.route", route);
    if let Some(own) = own.and_then(|own| HeaderValue::try_from(own).ok()) {
        request.headers_mut().insert(TRACEPARENT, own);
    }
    let response = next.run(request).await;
    span.record("http.response.status_code", response.status().as_u16());
    if response.status().is_server_error() {
        span.record("error.type", response.status().as_str());
    }
    response
}
