//! AMCP over HTTP: requests, answers, progress, reports, health.
//!
//! Translates, streams and bounds the cost of a client; takes no decision about a request.

mod agents;
mod ask;
mod auth;
pub mod codes;
mod entrance;
mod files;
mod flows;
mod list;
mod openapi;
mod peers;
mod problem;
mod reply;
mod requests;
mod router;
mod routes;
mod serve;
mod state;
mod trace;

pub use agents::Agents;
pub use axum::Router;
pub use entrance::Names;
pub use files::piece as file_piece;
pub use peers::Peers;
pub use reply::printable;
pub use requests::body as request_body;
pub use router::{health_router, router};
pub use serve::{Https, HttpsFiles, Limits, serve};
pub use state::{GatewayState, Metrics, OwnerOf, Readiness};
