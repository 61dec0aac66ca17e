//! POST /requests/{id}/flows/{flow}: a person's answer to a question of a request.
//!
//! Only the request's user may answer. The request's machine judges whether the answer counts.

use amcp_access::{Entry, What};
use amcp_protocol::{ErrorCode, Failure, FlowAnswer, FlowId, NodeName};
use axum::Json;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use serde_json::{Value, json};

use crate::ask::whole;
use crate::auth::Asker;
use crate::problem::Problem;
use crate::requests::{Found, look_up, parse, show};
use crate::state::{GatewayState, InPath};

/// Passes the answer on and returns the request's new state.
pub(crate) async fn answer(
    State(state): State<GatewayState>,
    asker: Asker,
    InPath((id, flow)): InPath<(String, String)>,
    request: Request,
) -> Result<Json<Value>, Problem> {
    let answer = flow_answer(&whole(request.into_body()).await?)?;
    let found = look_up(&state, &asker, &id).await?;
    let (request, flow) = (parse(&id)?, flow_id(&flow)?);
    let note = || {
        state.note(
            &asker,
            Entry {
                request: Some(request),
                decision: Some(format!("{:?}", answer.decision).to_lowercase()),
                outcome: Some(format!("flow {flow}")),
                text: answer.reason.clone(),
                ..Entry::new(What::FlowAnswered)
            },
        )
    };
    match found {
        Found::Here(view) => {
            asker.check_is(view.account.user.as_deref())?;
            note()?;
            state
                .orchestrator
                .answer_flow(request, flow, answer)
                .await?
        }
        Found::There(owner, body) => {
            asker.check_is(body.get("user").and_then(Value::as_str))?;
            note()?;
            let answered = match &state.peers {
                Some(peers) => {
                    peers
                        .answer_flow(owner.clone(), request, flow.clone(), answer)
                        .await
                }
                None => None,
            };
            match answered {
                Some(judged) => judged?,
                None => return Err(unheard((&state, &asker), &owner, &id, &flow).await),
            }
        }
    }
    // The answer counts, whatever becomes of this look at the request.
    let now = show(State(state), asker, InPath(id)).await;
    Ok(now.unwrap_or_else(|_| Json(json!({"request_id": request}))))
}

/// Without a reply of the request's node the answer may count: it may be on its way, or only the reply was lost. So nobody is
/// sent elsewhere to answer anew.
async fn unheard(
    (state, asker): (&GatewayState, &Asker),
    owner: &NodeName,
    id: &str,
    flow: &FlowId,
) -> Problem {
    let ask = "GET /requests/{id} shows how the request goes on";
    let open = |found: &Found| matches!(found, Found::There(_, body) if asks(body, flow));
    match look_up(state, asker, id).await {
        Ok(found) if !open(&found) => {
            let message =
                format!("flow {flow} has ended; node {owner} did not say whether by this answer");
            Failure::new(ErrorCode::FlowClosed, message)
                .hint(ask)
                .into()
        }
        Ok(_) | Err(_) => {
            let message =
                format!("node {owner} did not reply, and whether the answer counts is not known");
            let http = state.peers.as_ref().and_then(|peers| peers.http_of(owner));
            let there = http.map_or_else(|| owner.to_string(), |http| format!("{owner}, {http}"));
            let hint = format!("{ask}; while the flow stays open, answer it at node {there}");
            let failure = Failure::new(ErrorCode::NodeLost, message).hint(hint);
            Problem::with_status(StatusCode::GATEWAY_TIMEOUT, failure)
        }
    }
}

/// Whether a flow of a request is open, by the request's body.
fn asks(body: &Value, flow: &FlowId) -> bool {
    let open = body.get("flows").and_then(Value::as_array);
    open.is_some_and(|open| {
        open.iter()
            .any(|open| open.get("id").and_then(Value::as_str) == Some(flow.as_str()))
    })
}

fn flow_answer(body: &[u8]) -> Result<FlowAnswer, Problem> {
    serde_json::from_slice(body).map_err(|error| {
        Problem::bad_request(
            format!("the body is not an answer to a flow: {error}"),
            r#"send {"decision":"approve","digest":"…"} or "deny", with the digest of the flow; "payload" and "reason" are optional"#,
        )
    })
}

fn flow_id(text: &str) -> Result<FlowId, Problem> {
    text.parse().map_err(|_| {
        let shown: String = text.chars().take(80).collect();
        let failure = Failure::new(
            ErrorCode::NotFound,
            format!("there is no open flow '{shown}'"),
        );
        failure
            .hint("GET /requests/{id} lists the open flows")
            .into()
    })
}
