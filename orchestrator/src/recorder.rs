//! Hands over the recordings of requests, line by line, while the requests run.
//!
//! Writes no file; the function behind the recorder does, and must not block the request's actor.

use std::sync::Arc;

use amcp_protocol::RequestId;
use serde::Serialize;

/// Takes the lines of recordings (`amcp_plan::recording`) in order, each without a line break.
#[derive(Clone)]
pub struct Recorder(Arc<dyn Fn(RequestId, String) + Send + Sync>);

impl Recorder {
    /// Passes each line to `take`, which runs in the request's actor and must neither block nor panic.
    pub fn new(take: impl Fn(RequestId, String) + Send + Sync + 'static) -> Self {
        Self(Arc::new(take))
    }

    pub(crate) fn note(&self, request: RequestId, line: &impl Serialize) {
        match serde_json::to_string(line) {
            Ok(line) => (self.0)(request, line),
            Err(error) => {
                tracing::error!(%request, %error, "the recorder cannot serialise an event")
            }
        }
    }
}

amcp_protocol::opaque_debug!(Recorder);
