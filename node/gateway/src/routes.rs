//! The table of routes: what serves each, and what its description in OpenAPI says.
//!
//! Serves nothing itself.

use amcp_orchestrator::PlanView;
use amcp_protocol::{Answer, ErrorCode as E, FlowAnswer, RunRequest, UserRequest};
use axum::routing::{MethodRouter, delete, get, post};

use crate::agents::Agents;
use crate::list::{Filter, Page};
use crate::openapi::{BYTES, Doc, Header, JSON, SchemaOf, TEXT, any, of, request, words};
use crate::requests::Summary;
use crate::state::GatewayState;
use crate::{ask, files, flows, list, requests, router};

pub(crate) struct Route {
    pub(crate) method: &'static str,
    pub(crate) path: &'static str,
    pub(crate) serve: fn() -> MethodRouter<GatewayState>,
    pub(crate) doc: Doc,
}

const EVENTS: &str = "text/event-stream";
const KEY: Header = (
    "Idempotency-Key",
    "1 to 128 visible ASCII characters: the node carries a key and its body out once",
    "^[!-~]{1,128}$",
);
const PREFER: Header = ("Prefer", "`respond-async`: do not wait for the answer", "");
const TRACE: Header = (
    "traceparent",
    "W3C Trace Context, which goes with the tasks; another text counts as none",
    "",
);

const ANSWERED: Doc = Doc {
    headers: &[KEY, PREFER, TRACE],
    gives: &[
        (200, JSON, of::<Answer> as SchemaOf),
        (200, EVENTS, any),
        (200, TEXT, any),
        (202, JSON, of::<Summary>),
        (202, TEXT, any),
    ],
    // A failed answer has the status of its reason, whichever it is.
    codes: E::ALL,
    beside: &[(408, E::BadRequest)],
    failed: Some(of::<Answer>),
    ..Doc::NONE
};

pub(crate) const ROUTES: &[Route] = &[
    Route {
        method: "POST",
        path: "/ask",
        serve: || post(ask::ask),
        doc: Doc {
            summary: "Ask in plain language; wait for the answer, or for the first question to a person",
            asks: &[(JSON, of::<UserRequest>), (TEXT, words)],
            ..ANSWERED
        },
    },
    Route {
        method: "POST",
        path: "/run",
        serve: || post(ask::run),
        doc: Doc {
            summary: "Carry out a given plan without a planner; answers as POST /ask does",
            asks: &[(JSON, of::<RunRequest>)],
            ..ANSWERED
        },
    },
    Route {
        method: "POST",
        path: "/plan",
        serve: || post(ask::plan),
        doc: Doc {
            summary: "Plan without carrying out the plan",
            asks: &[(JSON, of::<UserRequest>), (TEXT, words)],
            gives: &[(200, JSON, of::<PlanView>)],
            headers: &[TRACE],
            codes: E::ALL,
            beside: &[(408, E::BadRequest)],
            ..Doc::NONE
        },
    },
    Route {
        method: "GET",
        path: "/requests",
        serve: || get(list::list),
        doc: Doc {
            summary: "List one's own requests (the role admin: all), the newest first",
            query: Some(of::<Filter>),
            gives: &[(200, JSON, of::<Page>)],
            ..Doc::NONE
        },
    },
    Route {
        method: "GET",
        path: "/requests/{id}",
        serve: || get(requests::show),
        doc: Doc {
            summary: "A request: its account, with its answer or its open flows",
            gives: &[(200, JSON, request)],
            codes: &[E::NotFound],
            ..Doc::NONE
        },
    },
    Route {
        method: "DELETE",
        path: "/requests/{id}",
        serve: || delete(requests::cancel),
        doc: CANCEL,
    },
    Route {
        method: "POST",
        path: "/requests/{id}/cancel",
        serve: || post(requests::cancel),
        doc: CANCEL,
    },
    Route {
        method: "GET",
        path: "/requests/{id}/events",
        serve: || get(requests::events),
        doc: Doc {
            summary: "A request's progress as server-sent events (CloudEvents in JSON); 204 after the last one",
            headers: &[(
                "Last-Event-ID",
                "The number of the last event that arrived",
                "^[0-9]{1,9}$",
            )],
            gives: &[(200, EVENTS, any), (204, "", any)],
            codes: &[E::NotFound],
            beside: &[(421, E::NotFound)],
            ..Doc::NONE
        },
    },
    Route {
        method: "POST",
        path: "/requests/{id}/flows/{flow_id}",
        serve: || post(flows::answer),
        doc: Doc {
            summary: "Answer a question of a request",
            asks: &[(JSON, of::<FlowAnswer>)],
            gives: &[(200, JSON, request)],
            codes: &[E::NotFound, E::TooLarge, E::FlowClosed, E::FlowExpired],
            beside: &[(408, E::BadRequest), (504, E::NodeLost)],
            ..Doc::NONE
        },
    },
    Route {
        method: "GET",
        path: "/files/{name}",
        serve: || get(files::file),
        doc: Doc {
            summary: "A report, by the path in an answer",
            gives: &[(200, BYTES, any)],
            codes: &[E::NotFound],
            ..Doc::NONE
        },
    },
    Route {
        method: "GET",
        path: "/agents",
        serve: || get(router::agents),
        doc: Doc {
            summary: "The agents, and the capabilities that the asker may use, with schemas and examples",
            gives: &[(200, JSON, of::<Agents>)],
            ..Doc::NONE
        },
    },
    Route {
        method: "GET",
        path: "/cluster",
        serve: || get(router::cluster),
        doc: Doc {
            summary: "The nodes as this one sees them; 404 for a node that is alone",
            gives: &[(200, JSON, any)],
            codes: &[E::NotFound],
            ..Doc::NONE
        },
    },
    Route {
        method: "GET",
        path: "/metrics",
        serve: || get(router::metrics),
        doc: Doc {
            summary: "The node's figures in Prometheus' text format",
            gives: &[(200, TEXT, any)],
            ..Doc::NONE
        },
    },
    Route {
        method: "GET",
        path: "/openapi.json",
        serve: || get(router::openapi),
        doc: Doc {
            summary: "This description",
            gives: &[(200, "application/vnd.oai.openapi+json", any)],
            ..Doc::NONE
        },
    },
];

const CANCEL: Doc = Doc {
    summary: "Cancel a request; an answered one stays as it is",
    gives: &[(200, JSON, request), (202, JSON, request)],
    codes: &[E::NotFound],
    ..Doc::NONE
};

/// These routes need no credential: a health check has none, and reads no word of anybody.
pub(crate) const HEALTH: &[Route] = &[
    Route {
        method: "GET",
        path: "/livez",
        serve: || get(router::livez),
        doc: Doc {
            summary: "Whether the process answers",
            gives: &[(200, JSON, any)],
            ..Doc::NONE
        },
    },
    Route {
        method: "GET",
        path: "/readyz",
        serve: || get(router::readyz),
        doc: Doc {
            summary: "Whether the node takes requests, with the reasons if not",
            gives: &[(200, JSON, any), (503, JSON, any)],
            ..Doc::NONE
        },
    },
];
