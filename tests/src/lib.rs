//! The harness of the cross-crate tests and benches.

pub mod fake_ollama;
pub mod process;

pub mod bench;
