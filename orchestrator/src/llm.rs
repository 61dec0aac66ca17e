//! Clients of language models behind the [`LlmClient`] port: Ollama and OpenAI-style servers, and the guard (breaker,
//! bounded concurrency, time-out) that stands before either.
//!
//! Does not plan: prompts are the planners' business.

pub use amcp_protocol::llm::{ChatReply, ChatRequest, ChatTurn, LlmClient, SharedLlm};
