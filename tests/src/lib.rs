//! The harness of the cross-crate tests and benches.

pub mod bench;
pub mod cluster;
pub mod fake_ollama;
pub mod mesh;
pub mod process;
