//! POST /ask and POST /plan: from an HTTP request to a [`UserRequest`], and its answer back.
//!
//! Does not verify the user; [`crate::auth`] does. No body names a user or roles.

use std::time::Duration;

use amcp_orchestrator::{OrchestratorHandle, Phase, PlanView, Ticket};
use amcp_protocol::request::is_traceparent;
use amcp_protocol::{Answer, AnswerState, ErrorCode, Failure, UserRequest};
use axum::Json;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures_util::StreamExt;
use serde_json::json;
use tokio::time::timeout;

use crate::auth::Asker;
use crate::codes;
use crate::problem::{Problem, retry_after};
use crate::requests::summary;
use crate::state::GatewayState;

/// Four times the longest query with the longest history: room for JSON's escapes.
const MAX_BODY_BYTES: usize = 128 * 1024;
/// Most bytes that we read of a body that is too large: a client that is still sending would not see the refusal.
const MAX_DISCARDED_BYTES: usize = 1024 * 1024;
/// A body of [`MAX_BODY_BYTES`] takes this long at 105 kbit/s.
const BODY_TIME: Duration = Duration::from_secs(10);

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
const IDEMPOTENCY_REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");
const PREFER: HeaderName = HeaderName::from_static("prefer");
const PREFERENCE_APPLIED: HeaderName = HeaderName::from_static("preference-applied");

/// Accepts a request and waits for its answer or its first open flow. A client that disconnects cancels nothing.
pub(crate) async fn ask(
    State(state): State<GatewayState>,
    asker: Asker,
    request: Request,
) -> Result<Response, Problem> {
    let (parts, body) = request.into_parts();
    let key = idempotency_key(&parts.headers)?;
    let request = user_request(&parts.headers, &asker, body).await?;
    let ticket = state.orchestrator.ask(request, key)?;
    let mut response = if prefers_async(&parts.headers) {
        let mut response = accepted(&state.orchestrator, &ticket);
        let applied = HeaderValue::from_static("respond-async");
        response.headers_mut().insert(PREFERENCE_APPLIED, applied);
        response
    } else {
        match ticket.answer_or_flows().await {
            Ok(answer) => answered(&answer),
            Err(_) => accepted(&state.orchestrator, &ticket),
        }
    };
    if ticket.replayed() {
        response
            .headers_mut()
            .insert(IDEMPOTENCY_REPLAYED, HeaderValue::from_static("true"));
    }
    Ok(response)
}

/// Plans without carrying out the plan.
pub(crate) async fn plan(
    State(state): State<GatewayState>,
    asker: Asker,
    request: Request,
) -> Result<Json<PlanView>, Problem> {
    let (parts, body) = request.into_parts();
    let request = user_request(&parts.headers, &asker, body).await?;
    Ok(Json(state.orchestrator.plan(request).await?))
}

fn idempotency_key(headers: &HeaderMap) -> Result<Option<&str>, Problem> {
    let Some(value) = headers.get(IDEMPOTENCY_KEY) else {
        return Ok(None);
    };
    let key = value.as_bytes();
    if !(1..=128).contains(&key.len()) || !key.iter().all(u8::is_ascii_graphic) {
        return Err(Problem::bad_request(
            "the Idempotency-Key is not 1 to 128 visible ASCII characters",
            "use a fresh UUID for each request",
        ));
    }
    Ok(value.to_str().ok())
}

fn prefers_async(headers: &HeaderMap) -> bool {
    headers
        .get_all(PREFER)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split([',', ';']))
        .any(|preference| preference.trim().eq_ignore_ascii_case("respond-async"))
}

fn answered(answer: &Answer) -> Response {
    let mut response = (codes::of_answer(answer).0, Json(answer)).into_response();
    let failure = answer
        .error
        .as_ref()
        .filter(|_| answer.state == AnswerState::Failed);
    retry_after(&mut response, failure.and_then(|e| e.retry_after_ms));
    response
}

fn accepted(orchestrator: &OrchestratorHandle, ticket: &Ticket) -> Response {
    let id = ticket.request_id();
    // An unknown request was answered and forgotten meanwhile.
    let body = match orchestrator.request(id) {
        Some(view) => summary(&view),
        None => json!({"request_id": id, "state": Phase::Done}),
    };
    let mut response = (StatusCode::ACCEPTED, Json(body)).into_response();
    if let Ok(location) = HeaderValue::try_from(format!("/requests/{id}")) {
        response.headers_mut().insert(header::LOCATION, location);
    }
    response
}

async fn user_request(
    headers: &HeaderMap,
    asker: &Asker,
    body: Body,
) -> Result<UserRequest, Problem> {
    let bytes = whole(body).await?;
    let mut request = parse(headers, &bytes)?;
    let trace = headers.get("traceparent").and_then(|v| v.to_str().ok());
    request.traceparent = trace.map(str::to_owned).or(request.traceparent);
    // As W3C Trace Context demands: what is no trace begins none, and costs nobody an answer.
    request.traceparent = request.traceparent.filter(|trace| is_traceparent(trace));
    request.user = asker.user().map(str::to_owned);
    request.by = Some(asker.principal().by.clone());
    request.roles = asker.roles().to_vec();
    Ok(request)
}

/// Reads a body, bounded in bytes and time.
///
/// # Errors
/// 413, 408, and `bad_request` when the body breaks off.
pub(crate) async fn whole(body: Body) -> Result<Vec<u8>, Problem> {
    timeout(BODY_TIME, read(body)).await.map_err(|_| {
        let failure = Failure::new(ErrorCode::BadRequest, "the body did not arrive in time")
            .hint(format!("send it within {} s", BODY_TIME.as_secs()));
        Problem::with_status(StatusCode::REQUEST_TIMEOUT, failure)
    })?
}

async fn read(body: Body) -> Result<Vec<u8>, Problem> {
    let mut bytes = Vec::new();
    let mut seen = 0_usize;
    let mut chunks = body.into_data_stream();
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk.map_err(|error| {
            Problem::bad_request(
                format!("the body broke off: {error}"),
                "send the whole body",
            )
        })?;
        seen = seen.saturating_add(chunk.len());
        if seen <= MAX_BODY_BYTES {
            bytes.extend_from_slice(&chunk);
        } else if seen > MAX_DISCARDED_BYTES {
            break;
        }
    }
    if seen <= MAX_BODY_BYTES {
        return Ok(bytes);
    }
    let message = format!("the body has more than {MAX_BODY_BYTES} bytes");
    let failure = Failure::new(ErrorCode::TooLarge, message);
    Err(failure.hint("shorten it").into())
}

/// Reads plain text as the query, and any other content type as JSON (curl -d claims a form).
fn parse(headers: &HeaderMap, bytes: &[u8]) -> Result<UserRequest, Problem> {
    let plain = headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .is_some_and(|value| {
            value
                .split(';')
                .next()
                .is_some_and(|media| media.trim().eq_ignore_ascii_case("text/plain"))
        });
    if plain {
        return match std::str::from_utf8(bytes) {
            Ok(query) => Ok(UserRequest::new(query)),
            Err(error) => Err(Problem::bad_request(
                format!("the body is not UTF-8: {error}"),
                "send the query as UTF-8",
            )),
        };
    }
    serde_json::from_slice(bytes).map_err(|error| {
        Problem::bad_request(
            format!("the body is not a request: {error}"),
            r#"send {"query":"…"}; "deadline_ms", "history" and "flows" may be added; the API key names the user"#,
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failed(retry_after_ms: Option<u64>) -> Answer {
        let error = Failure {
            retry_after_ms,
            ..Failure::new(ErrorCode::AgentBusy, "no place")
        };
        serde_json::from_value(json!({
            "request_id": "123e4567-e89b-12d3-a456-426614174999", "state": "failed", "answer": "", "error": error,
            "planner": "test", "tasks": [],
        }))
        .unwrap()
    }

    #[test]
    fn a_failed_answer_says_when_to_come_back() {
        let response = answered(&failed(Some(1_200)));
        assert_eq!(response.status(), 503);
        assert_eq!(response.headers()[header::RETRY_AFTER], "2");
        let response = answered(&failed(None));
        assert!(!response.headers().contains_key(header::RETRY_AFTER));
    }
}
