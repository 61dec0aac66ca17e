//! AMCP over HTTP: asks, answers, progress, reports, health.
//!
//! Translates, bounds what a client may cost, and streams; takes no decision about a request.

mod ask;
pub mod codes;
mod files;
mod flows;
mod peers;
mod problem;
mod requests;
mod router;
mod serve;

pub use axum::Router;
pub use peers::Peers;
pub use requests::body as request_body;
pub use router::{GatewayState, Readiness, router};
pub use serve::{Limits, serve};
