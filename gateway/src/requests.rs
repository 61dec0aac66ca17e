//! A request that was accepted: its state, its answer, its progress as server-sent events, its end.
//!
//! Does not keep anything: what is known of a request is the orchestrator's.

use std::convert::Infallible;
use std::time::Duration;

use amcp_orchestrator::{OrchestratorHandle, RequestView};
use amcp_protocol::{ErrorCode, Failure, RequestId};
use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::{Stream, stream};
use serde_json::json;

use crate::ask::refuse_web_pages;
use crate::problem::Problem;
use crate::router::{GatewayState, InPath};

/// Half of what proxies commonly allow a silent connection.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// The answer, or how far the request is.
pub(crate) async fn show(
    State(state): State<GatewayState>,
    InPath(id): InPath,
) -> Result<Response, Problem> {
    Ok(body(&look_up(&state.orchestrator, &id)?))
}

/// Cancels; a request that was answered before keeps its answer.
pub(crate) async fn cancel(
    State(state): State<GatewayState>,
    InPath(id): InPath,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    refuse_web_pages(&headers)?;
    let view = look_up(&state.orchestrator, &id)?;
    if view.answer.is_some() {
        return Ok(body(&view));
    }
    state.orchestrator.cancel(view.request_id)?;
    Ok((
        StatusCode::ACCEPTED,
        body(&look_up(&state.orchestrator, &id)?),
    )
        .into_response())
}

/// The progress from the start, or from after `Last-Event-ID`, up to and including the answer's event.
pub(crate) async fn events(
    State(state): State<GatewayState>,
    InPath(id): InPath,
    headers: HeaderMap,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, Problem> {
    let request = look_up(&state.orchestrator, &id)?.request_id;
    let from = match headers.get("last-event-id") {
        None => 0,
        Some(value) => value
            .to_str()
            .ok()
            .and_then(|text| text.parse::<usize>().ok())
            .and_then(|last| last.checked_add(1))
            .ok_or_else(|| {
                Problem::bad_request(
                    "the Last-Event-ID is not a number",
                    "repeat the id of the last event that arrived",
                )
            })?,
    };
    let feed = state
        .orchestrator
        .progress(request, from)
        .ok_or_else(|| unknown(&id))?;
    // Nothing is buffered here: the record keeps the events, and the feed is read as fast as the client reads.
    let events = stream::unfold(feed, move |mut feed| async move {
        let recorded = feed.next().await?;
        let event = Event::default()
            .id(recorded.sequence.to_string())
            .event(recorded.progress.event_type());
        let event = event
            .json_data(recorded.to_event(request))
            .expect("an event has string keys only");
        Some((Ok(event), feed))
    });
    Ok(Sse::new(events).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)))
}

fn look_up(orchestrator: &OrchestratorHandle, id: &str) -> Result<RequestView, Problem> {
    let request: RequestId = id.parse().map_err(|_| unknown(id))?;
    orchestrator.request(request).ok_or_else(|| unknown(id))
}

fn unknown(id: &str) -> Problem {
    let shown: String = id.chars().take(80).collect();
    Failure::new(
        ErrorCode::NotFound,
        format!("there is no request '{shown}'"),
    )
    .hint("answered requests are forgotten after a while; ids are those that POST /ask gave")
    .into()
}

fn body(view: &RequestView) -> Response {
    match &view.answer {
        Some(answer) => Json(&**answer).into_response(),
        None => Json(json!({"request_id": view.request_id, "state": view.phase})).into_response(),
    }
}
