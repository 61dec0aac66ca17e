//! AMCP over HTTP: requests, answers, progress, reports, health.
//!
//! Translates, streams and bounds the cost of a client; takes no decision about a request.

mod ask;
pub mod codes;
mod files;
mod flows;
mod origin;
mod peers;
mod problem;
mod requests;
mod router;
mod serve;
mod state;

pub use axum::Router;
pub use peers::Peers;
pub use requests::body as request_body;
pub use router::router;
pub use serve::{Limits, serve};
pub use state::{GatewayState, Readiness};
