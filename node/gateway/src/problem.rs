//! The form of a failure over HTTP: `{"error":{"code","message","hint"?,"retry_after_ms"?}}`.
//!
//! Does not choose the status of a code; the table in [`crate::codes`] does.

use amcp_protocol::{ErrorCode, Failure};
use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use schemars::JsonSchema;
use serde::Serialize;

use crate::codes;

/// A refusal: a failure and its HTTP status.
#[derive(Debug)]
pub(crate) struct Problem {
    status: StatusCode,
    failure: Failure,
}

/// The body of a refusal.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Refusal")]
pub(crate) struct Body {
    pub(crate) error: Failure,
}

impl Problem {
    /// For statuses that HTTP has beside the one of the code.
    pub(crate) const fn with_status(status: StatusCode, failure: Failure) -> Self {
        Self { status, failure }
    }

    pub(crate) fn bad_request(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Failure::new(ErrorCode::BadRequest, message)
            .hint(hint)
            .into()
    }
}

impl From<Failure> for Problem {
    fn from(failure: Failure) -> Self {
        Self::with_status(codes::outcome(failure.code).0, failure)
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let retry_after_ms = self.failure.retry_after_ms;
        let error = self.failure.clone();
        let mut response = (self.status, Json(Body { error })).into_response();
        retry_after(&mut response, retry_after_ms);
        // For the entrance, which knows whether the client wants plain text.
        response.extensions_mut().insert(self.failure);
        response
    }
}

/// Sets `Retry-After`, if the time is known.
pub(crate) fn retry_after(response: &mut Response, ms: Option<u64>) {
    if let Some(ms) = ms {
        // The header counts whole seconds; rounded up, so that no client comes back too early.
        let seconds = HeaderValue::from(ms.div_ceil(1_000).max(1));
        response.headers_mut().insert(header::RETRY_AFTER, seconds);
    }
}
