//! Accepted requests: state, answer, progress as server-sent events, cancellation.
//!
//! Keeps no state: the orchestrator has the record of each request.

use std::convert::Infallible;
use std::time::Duration;

use amcp_access::{Entry, What};
use amcp_orchestrator::{OpenFlow, ProgressFeed, RequestView, TextFeed, Ticket};
use amcp_protocol::event::{self, rfc3339};
use amcp_protocol::{CloudEvent, ErrorCode, Failure, Flow, NodeName, RequestId};
use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::{StreamExt, stream};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Value, json};

use crate::auth::Asker;
use crate::problem::Problem;
use crate::state::{GatewayState, InPath};

/// Half of what proxies commonly allow a silent connection.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// The answer, or the state of a running request; for requests of this node and of others.
pub(crate) async fn show(
    State(state): State<GatewayState>,
    asker: Asker,
    InPath(id): InPath,
) -> Result<Json<Value>, Problem> {
    match look_up(&state, &asker, &id).await? {
        Found::Here(view) => Ok(Json(own(&state, &view))),
        Found::There(_, body) => Ok(Json(body)),
    }
}

/// Cancels the request; one that was answered before keeps its answer.
pub(crate) async fn cancel(
    State(state): State<GatewayState>,
    asker: Asker,
    InPath(id): InPath,
) -> Result<Response, Problem> {
    let found = look_up(&state, &asker, &id).await?;
    let (request, is_here, body) = match found {
        Found::Here(view) => (view.account.request_id, true, own(&state, &view)),
        Found::There(_, body) => (parse(&id)?, false, body),
    };
    if body.get("answer").is_some() {
        return Ok(Json(body).into_response());
    }
    let entry = Entry {
        request: Some(request),
        ..Entry::new(What::RequestCancelled)
    };
    state.note(&asker, entry)?;
    if is_here {
        state.orchestrator.cancel(request)?;
    } else {
        cancel_there(&state, &id).await?;
    }
    let now = show(State(state), asker, InPath(id)).await?;
    Ok((StatusCode::ACCEPTED, now).into_response())
}

async fn cancel_there(state: &GatewayState, id: &str) -> Result<(), Problem> {
    let request = parse(id)?;
    let cancelled = match &state.peers {
        Some(peers) => peers.cancel(request).await,
        None => false,
    };
    // The request's node was lost meanwhile, or has forgotten the request.
    cancelled.then_some(()).ok_or_else(|| unknown(id))
}

/// The progress from the start or from after `Last-Event-ID`, up to and including the answer's event; between the events
/// the answer's text while a model writes it. 204 after the last event.
pub(crate) async fn events(
    State(state): State<GatewayState>,
    asker: Asker,
    InPath(id): InPath,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let request = match look_up(&state, &asker, &id).await? {
        Found::Here(view) => view.account.request_id,
        // Nodes do not pass events on: only the request's node streams them.
        Found::There(owner, _) => {
            let message = format!("the events of request {id} are on node {owner} only");
            return Err(elsewhere(&state, &owner, &format!("{id}/events"), message));
        }
    };
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
    let feeds = feeds(&state, request, from).ok_or_else(|| unknown(&id))?;
    if from > 0 && feeds.0.has_ended() {
        // A browser connects again and again until it reads this status.
        return Ok(StatusCode::NO_CONTENT.into_response());
    }
    Ok(stream(request, feeds, None))
}

/// The progress of a request from an event on, and its text; none when the request is forgotten.
fn feeds(state: &GatewayState, id: RequestId, from: usize) -> Option<(ProgressFeed, TextFeed)> {
    let feed = state.orchestrator.progress(id, from)?;
    Some((feed, state.orchestrator.text(id)?))
}

/// The progress and the text of a request from the beginning, and then its answer as the event `user.response`.
pub(crate) fn told(state: &GatewayState, ticket: Ticket) -> Option<Response> {
    let id = ticket.request_id();
    Some(stream(id, feeds(state, id, 0)?, Some(ticket)))
}

/// Needs no buffer: the record keeps events and text, and we read the feeds as fast as the client reads.
fn stream(id: RequestId, feeds: (ProgressFeed, TextFeed), last: Option<Ticket>) -> Response {
    let events = stream::unfold(feeds, move |(mut feed, mut text)| async move {
        let (event, data) = tokio::select! {
            // The text ends before the answer, whose event comes last.
            biased;
            Some((name, piece)) = text.next() => {
                // Without an id: a reader that reconnects gets the text from its beginning.
                let event = Event::default().event(piece.event_type());
                (event, CloudEvent::piece(id, &name, amcp_orchestrator::SOURCE, &piece))
            }
            recorded = feed.next() => {
                let recorded = recorded?;
                let event = Event::default()
                    .id(recorded.sequence.to_string())
                    .event(recorded.progress.event_type());
                (event, recorded.to_event(id))
            }
        };
        Some((with_data(event, &data), (feed, text)))
    });
    let last = stream::iter(last).then(async |ticket| {
        let answer = ticket.answer().await;
        let event = Event::default().event(event::USER_RESPONSE);
        with_data(
            event,
            &CloudEvent::response(&answer, amcp_orchestrator::SOURCE),
        )
    });
    Sse::new(events.chain(last).map(Ok::<_, Infallible>))
        .keep_alive(KeepAlive::new().interval(KEEP_ALIVE))
        .into_response()
}

fn with_data(event: Event, data: &CloudEvent) -> Event {
    let event = event.json_data(data);
    event.expect("an event has string keys only")
}

/// A request of this node or of another.
pub(crate) enum Found {
    Here(RequestView),
    There(NodeName, Value),
}

/// Another user's request is as unknown as one that never was.
pub(crate) async fn look_up(
    state: &GatewayState,
    asker: &Asker,
    id: &str,
) -> Result<Found, Problem> {
    let request = parse(id)?;
    if let Some(view) = state.orchestrator.request(request) {
        let seen = asker.sees(view.account.user.as_deref());
        return seen.then_some(Found::Here(view)).ok_or_else(|| unknown(id));
    }
    let found = match &state.peers {
        Some(peers) => peers.find(request).await,
        None => None,
    };
    let seen = |(_, body): &(NodeName, Value)| asker.sees(body.get("user").and_then(Value::as_str));
    let (owner, body) = found.filter(seen).ok_or_else(|| unknown(id))?;
    Ok(Found::There(owner, body))
}

pub(crate) fn parse(id: &str) -> Result<RequestId, Problem> {
    id.parse().map_err(|_| unknown(id))
}

fn unknown(id: &str) -> Problem {
    let shown: String = id.chars().take(80).collect();
    Failure::new(
        ErrorCode::NotFound,
        format!("there is no request '{shown}'"),
    )
    .hint("check the id that POST /ask returned; nodes forget answered requests after a while, and a lost node's requests are gone")
    .into()
}

/// Refuses an operation that only the request's own node can do; `path` is the path below /requests there.
pub(crate) fn elsewhere(
    state: &GatewayState,
    owner: &NodeName,
    path: &str,
    message: String,
) -> Problem {
    let http = state.peers.as_ref().and_then(|peers| peers.http_of(owner));
    let hint = match http {
        Some(http) => format!("ask node {owner}: {http}/requests/{path}"),
        None => format!("ask node {owner}; GET /requests/{{id}} has the answer here too"),
    };
    let failure = Failure::new(ErrorCode::NotFound, message).hint(hint);
    Problem::with_status(StatusCode::MISDIRECTED_REQUEST, failure)
}

fn own(state: &GatewayState, view: &RequestView) -> Value {
    body(view, state.peers.as_ref().map(|peers| peers.node()))
}

/// The body of GET /requests/{id}: the account of the request, with the answer or the open flows; in a mesh also its node.
#[must_use]
pub fn body(view: &RequestView, owner: Option<&NodeName>) -> Value {
    let mut body = json!(view.account);
    let rest = match &view.answer {
        Some(answer) => json!(**answer),
        None => summary(view),
    };
    if let (Value::Object(fields), Value::Object(rest)) = (&mut body, rest) {
        fields.extend(rest);
        fields.extend(owner.map(|owner| ("owner".to_owned(), json!(owner))));
    }
    body
}

/// The state of a request and its open flows.
pub(crate) fn summary(view: &RequestView) -> Value {
    json!(Summary {
        request_id: view.account.request_id,
        state: view.account.state,
        flows: view.flows.iter().map(Question::of).collect(),
    })
}

#[derive(Serialize, JsonSchema)]
pub(crate) struct Summary<'a> {
    request_id: RequestId,
    state: &'static str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    flows: Vec<Question<'a>>,
}

#[derive(Serialize, JsonSchema)]
pub(crate) struct Question<'a> {
    #[serde(flatten)]
    flow: &'a Flow,
    expires_at: Option<String>,
}

impl<'a> Question<'a> {
    fn of(open: &'a OpenFlow) -> Self {
        Self {
            flow: &open.flow,
            expires_at: rfc3339(open.expires_unix_ms),
        }
    }
}
