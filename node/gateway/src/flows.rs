//! POST /requests/{id}/flows/{flow}: a person's answer to a question of a request.
//!
//! Does not verify the person: there are no accounts yet. The request's machine judges whether the answer counts.

use amcp_protocol::{ErrorCode, Failure, FlowAnswer, FlowId};
use axum::Json;
use axum::extract::{Request, State};
use serde_json::Value;

use crate::ask::{refuse_web_pages, whole};
use crate::problem::Problem;
use crate::requests::{Found, elsewhere, look_up, parse, show};
use crate::router::{GatewayState, InPath};

/// Passes the answer on and returns the request's new state.
pub(crate) async fn answer(
    State(state): State<GatewayState>,
    InPath((id, flow)): InPath<(String, String)>,
    request: Request,
) -> Result<Json<Value>, Problem> {
    let (parts, body) = request.into_parts();
    refuse_web_pages(&parts.headers)?;
    let answer = flow_answer(&whole(body).await?)?;
    let found = look_up(&state, &id).await?;
    let (request, flow) = (parse(&id)?, flow_id(&flow)?);
    match found {
        Found::Here(_) => {
            state
                .orchestrator
                .answer_flow(request, flow, answer)
                .await?
        }
        Found::There(owner, _) => {
            let path = format!("{id}/flows/{flow}");
            let answered = match &state.peers {
                Some(peers) => {
                    peers
                        .answer_flow(owner.clone(), request, flow, answer)
                        .await
                }
                None => None,
            };
            answered.ok_or_else(|| {
                let message =
                    format!("request {id} is on node {owner}, which took no answer from here");
                elsewhere(&state, &owner, &path, message)
            })??;
        }
    }
    show(State(state), InPath(id)).await
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
