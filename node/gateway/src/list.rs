//! GET /requests: the requests of this node and of the others, the newest first, page by page.
//!
//! Keeps no state between pages: the cursor names the last request of the page before.

use std::borrow::Cow;

use amcp_orchestrator::{Phase, Wanted, Whose};
use amcp_protocol::{AnswerState, ErrorCode, Failure, RequestId};
use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use jiff::{SignedDuration, Timestamp};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::auth::Asker;
use crate::problem::Problem;
use crate::state::GatewayState;

/// Most requests in a page, 1 KB each.
const MAX_LIMIT: usize = 100;
const DEFAULT_LIMIT: usize = 50;
/// Stands for clients without a credential; no user can have this name.
const ANONYMOUS: &str = "anonymous";

/// The values of `state`.
const STATES: &str = "^(open|planning|executing|awaiting_flow|synthesizing|completed|partial|failed|cancelled)\
    (,(open|planning|executing|awaiting_flow|synthesizing|completed|partial|failed|cancelled))*$";

/// The values of `since`.
struct Since;

impl JsonSchema for Since {
    fn schema_name() -> Cow<'static, str> {
        "Since".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"anyOf": [
            {"type": "string", "format": "date-time"},
            {"type": "string", "pattern": "^[0-9]{1,4}[smhdw]$"},
        ]})
    }
}

/// The query of GET /requests.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Filter {
    /// States with commas between them; `open` stands for all of requests that are not answered yet.
    #[schemars(regex(pattern = STATES))]
    state: Option<String>,
    /// For the role `admin`: only this user's requests; `anonymous` for those of clients without a credential.
    user: Option<String>,
    /// Accepted since then: a time in RFC 3339, or a time before now as a number of s, m, h, d or w, such as `90m`.
    #[schemars(with = "Since")]
    since: Option<String>,
    /// `next` of the page before.
    #[schemars(regex(pattern = r"^[0-9a-f]{1,12}\.[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$"))]
    cursor: Option<String>,
    /// 1 to 100, 50 by default.
    #[schemars(range(min = 1, max = 100))]
    limit: Option<usize>,
}

/// A page of requests.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Page {
    /// The newest first.
    requests: Vec<Value>,
    /// The cursor of the next page; none after the last one.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
    /// Other nodes with an orchestrator that did not reply in time, so that their requests may be missing.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    silent: Vec<String>,
}

pub(crate) async fn list(
    State(state): State<GatewayState>,
    asker: Asker,
    filter: Result<Query<Filter>, QueryRejection>,
) -> Result<Json<Page>, Problem> {
    let Query(filter) = filter.map_err(|rejection| {
        let hint = "state, user, since, cursor and limit may be given, each once";
        Problem::bad_request(rejection.body_text(), hint)
    })?;
    let mut wanted = wanted(&filter, &asker, Timestamp::now())?;
    let limit = wanted.limit;
    // One more tells whether another page follows.
    wanted.limit += 1;
    let mut page = Page {
        requests: Vec::new(),
        next: None,
        silent: Vec::new(),
    };
    let own = state.orchestrator.list(&wanted);
    let own = own.iter().map(|account| json!(account)).collect();
    match &state.peers {
        None => page.requests = own,
        Some(peers) => {
            let others = peers.list(json!(wanted)).await;
            for (node, rows) in std::iter::once((peers.node().clone(), Some(own))).chain(others) {
                let Some(rows) = rows else {
                    page.silent.push(node.to_string());
                    continue;
                };
                // A node of another build may not know each filter.
                let rows = rows.into_iter().filter(|row| {
                    let user = row.get("user").and_then(Value::as_str);
                    asker.sees(user) && cursor(row).is_some()
                });
                page.requests.extend(rows.map(|mut row| {
                    if let Value::Object(fields) = &mut row {
                        fields.insert("owner".to_owned(), json!(node));
                    }
                    row
                }));
            }
            page.requests.sort_by(|a, b| place(b).cmp(&place(a)));
        }
    }
    if page.requests.len() > limit {
        page.requests.truncate(limit);
        page.next = page.requests.last().and_then(cursor);
    }
    Ok(Json(page))
}

/// The place of a request in the list. All times have the same number of digits.
fn place(row: &Value) -> (Option<&str>, Option<&str>) {
    let text = |field| row.get(field).and_then(Value::as_str);
    (text("accepted_at"), text("request_id"))
}

fn cursor(row: &Value) -> Option<String> {
    let (accepted, id) = place(row);
    let accepted: Timestamp = accepted?.parse().ok()?;
    Some(format!("{:x}.{}", accepted.as_millisecond(), id?))
}

fn read_cursor(text: &str) -> Option<(i64, RequestId)> {
    let (accepted, id) = text.split_once('.')?;
    Some((i64::from_str_radix(accepted, 16).ok()?, id.parse().ok()?))
}

fn wanted(filter: &Filter, asker: &Asker, now: Timestamp) -> Result<Wanted, Problem> {
    let whose = match filter.user.as_deref() {
        None if asker.sees_all() => Whose::All,
        None => Whose::Of(asker.user().map(str::to_owned)),
        Some(user) => Whose::Of((user != ANONYMOUS).then(|| user.to_owned())),
    };
    if let Whose::Of(user) = &whose
        && !asker.sees(user.as_deref())
    {
        let failure = Failure::new(ErrorCode::NotPermitted, "`user` names another user");
        return Err(failure
            .hint("leave it out to list your own requests; the role admin sees all")
            .into());
    }
    let since = filter.since.as_deref().map(|text| {
        since(text, now).ok_or_else(|| {
            Problem::bad_request(
                "`since` is no time",
                "write 2026-11-22T08:00:00Z, or 90m for the last 90 minutes",
            )
        })
    });
    let after = filter.cursor.as_deref().map(|text| {
        read_cursor(text).ok_or_else(|| {
            Problem::bad_request(
                "`cursor` is none that this list gave",
                "repeat `next` of the page before",
            )
        })
    });
    let limit = filter.limit.unwrap_or(DEFAULT_LIMIT);
    if !(1..=MAX_LIMIT).contains(&limit) {
        let message = format!("`limit` is {limit}, not between 1 and {MAX_LIMIT}");
        return Err(Problem::bad_request(message, "follow `next` for more"));
    }
    Ok(Wanted {
        states: states(filter.state.as_deref())?,
        whose,
        since_unix_ms: since.transpose()?.map(Timestamp::as_millisecond),
        after: after.transpose()?,
        limit,
    })
}

fn since(text: &str, now: Timestamp) -> Option<Timestamp> {
    let ago = || {
        let (number, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
        let seconds = match unit {
            "s" => 1,
            "m" => 60,
            "h" => 3_600,
            "d" => 86_400,
            "w" => 604_800,
            _ => return None,
        };
        let plain = number.len() <= 4 && number.bytes().all(|byte| byte.is_ascii_digit());
        let number: i64 = number.parse().ok().filter(|_| plain)?;
        now.checked_sub(SignedDuration::from_secs(number * seconds))
            .ok()
    };
    text.parse().ok().or_else(ago)
}

fn states(text: Option<&str>) -> Result<Vec<String>, Problem> {
    use {AnswerState as A, Phase as P};
    let open = [P::Planning, P::Executing, P::AwaitingFlow, P::Synthesizing].map(P::as_str);
    let ended = [A::Completed, A::Partial, A::Failed, A::Cancelled].map(A::as_str);
    let mut states = Vec::new();
    for state in text.into_iter().flat_map(|text| text.split(',')) {
        match state.trim() {
            "open" => states.extend(open.map(str::to_owned)),
            state if open.contains(&state) || ended.contains(&state) => {
                states.push(state.to_owned());
            }
            _ => {
                let all = [open, ended].concat().join(", ");
                let hint = format!("possible: open, {all}; several with commas between them");
                return Err(Problem::bad_request(
                    "`state` names no state of a request",
                    hint,
                ));
            }
        }
    }
    Ok(states)
}
