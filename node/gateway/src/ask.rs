//! POST /ask, /run and /plan: from an HTTP request to a [`UserRequest`], and its answer back.
//!
//! Does not verify the user; [`crate::auth`] does. No body names a user or roles.

use std::time::Duration;

use amcp_orchestrator::{Phase, PlanView, Ticket};
use amcp_protocol::request::is_traceparent;
use amcp_protocol::{Answer, AnswerState, ErrorCode, Failure, RunRequest, UserRequest};
use axum::Json;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures_util::StreamExt;
use serde::de::DeserializeOwned;
use serde_json::json;
use tokio::time::timeout;

use crate::auth::Asker;
use crate::codes;
use crate::problem::{Problem, retry_after};
use crate::reply::{self, Form};
use crate::requests::{summary, told};
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

/// Accepts a query and waits for its answer or its first open flow. A client that disconnects cancels nothing.
pub(crate) async fn ask(
    State(state): State<GatewayState>,
    asker: Asker,
    request: Request,
) -> Result<Response, Problem> {
    accept(&state, &asker, request, query).await
}

/// Accepts a plan in place of a query.
pub(crate) async fn run(
    State(state): State<GatewayState>,
    asker: Asker,
    request: Request,
) -> Result<Response, Problem> {
    accept(&state, &asker, request, given_plan).await
}

/// Reads a body: its headers, its bytes.
type Read = fn(&HeaderMap, &[u8]) -> Result<UserRequest, Problem>;

async fn accept(
    state: &GatewayState,
    asker: &Asker,
    request: Request,
    read: Read,
) -> Result<Response, Problem> {
    let (parts, body) = request.into_parts();
    let form = Form::check(&parts.headers)?;
    let key = idempotency_key(&parts.headers)?;
    let request = user_request(&parts.headers, asker, body, read).await?;
    let ticket = state.orchestrator.ask(request, key)?;
    ticket.kept().await?;
    let replayed = ticket.replayed();
    let place = HeaderValue::try_from(format!("/requests/{}", ticket.request_id()));
    let mut response = if form == Form::Events {
        told(state, ticket).ok_or_else(|| Failure::internal("the request is forgotten"))?
    } else if prefers_async(&parts.headers) {
        let mut response = accepted(state, &ticket, form);
        let applied = HeaderValue::from_static("respond-async");
        response.headers_mut().insert(PREFERENCE_APPLIED, applied);
        response
    } else {
        match ticket.answer_or_flows().await {
            Ok(answer) => answered(&answer, form),
            Err(_) => accepted(state, &ticket, form),
        }
    };
    if let Ok(place) = place
        && (form == Form::Events || response.status() == StatusCode::ACCEPTED)
    {
        response.headers_mut().insert(header::LOCATION, place);
    }
    if replayed {
        let replayed = HeaderValue::from_static("true");
        response
            .headers_mut()
            .insert(IDEMPOTENCY_REPLAYED, replayed);
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
    let request = user_request(&parts.headers, &asker, body, query).await?;
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

fn answered(answer: &Answer, form: Form) -> Response {
    let mut response = match form {
        Form::Plain => reply::plain(reply::answer(answer)),
        Form::Json | Form::Events => Json(answer).into_response(),
    };
    *response.status_mut() = codes::of_answer(answer).0;
    let failure = answer
        .error
        .as_ref()
        .filter(|_| answer.state == AnswerState::Failed);
    retry_after(&mut response, failure.and_then(|e| e.retry_after_ms));
    response
}

fn accepted(state: &GatewayState, ticket: &Ticket, form: Form) -> Response {
    let id = ticket.request_id();
    let mut response = match state.orchestrator.request(id) {
        Some(view) if form == Form::Plain => reply::plain(reply::request(&view)),
        Some(view) => Json(summary(&view)).into_response(),
        // It was answered and forgotten meanwhile.
        None => Json(json!({"request_id": id, "state": Phase::Done})).into_response(),
    };
    *response.status_mut() = StatusCode::ACCEPTED;
    response
}

async fn user_request(
    headers: &HeaderMap,
    asker: &Asker,
    body: Body,
    read: Read,
) -> Result<UserRequest, Problem> {
    let bytes = whole(body).await?;
    let mut request = read(headers, &bytes)?;
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
fn query(headers: &HeaderMap, bytes: &[u8]) -> Result<UserRequest, Problem> {
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
    let hint = r#"send {"query":"…"}; "deadline_ms", "history" and "flows" may be added; the API key names the user"#;
    from_json(bytes, "a request", hint)
}

fn given_plan(_: &HeaderMap, bytes: &[u8]) -> Result<UserRequest, Problem> {
    let hint = r#"send {"tasks":[{"capability":"…","params":{…}}]}; tasks may have "id", "depends_on" and "optional"; "deadline_ms" and "flows" may be added"#;
    from_json::<RunRequest>(bytes, "a plan", hint).map(Into::into)
}

/// # Errors
/// `bad_request`, which names the place of the fault.
fn from_json<T: DeserializeOwned>(bytes: &[u8], noun: &str, hint: &str) -> Result<T, Problem> {
    let mut json = serde_json::Deserializer::from_slice(bytes);
    let read = serde_path_to_error::deserialize(&mut json);
    let read = read.map_err(|error| match error.path().to_string().as_str() {
        "." => error.inner().to_string(),
        path => format!("{path}: {}", error.inner()),
    });
    let read = read.and_then(|read| json.end().map(|()| read).map_err(|error| error.to_string()));
    read.map_err(|error| Problem::bad_request(format!("the body is not {noun}: {error}"), hint))
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
        let response = answered(&failed(Some(1_200)), Form::Json);
        assert_eq!(response.status(), 503);
        assert_eq!(response.headers()[header::RETRY_AFTER], "2");
        let response = answered(&failed(None), Form::Json);
        assert!(!response.headers().contains_key(header::RETRY_AFTER));
    }
}
