//! The port to a language model: one call, no tools.
//!
//! Does not talk to any server; the clients are the orchestrator crate's. Whoever needs a model takes an
//! `Arc<dyn LlmClient>`.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use serde_json::Value;

use crate::error::Failure;

/// A future that a port returns.
pub type PortFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// One prompt.
#[derive(Debug, Clone, PartialEq)]
pub struct ChatRequest {
    /// The model's role and rules.
    pub system: String,
    /// Turns after it, oldest first; the last one is the user's.
    pub turns: Vec<ChatTurn>,
    /// JSON Schema that the answer must keep; none for free text.
    pub format: Option<Value>,
    /// At most so many tokens are generated.
    pub max_tokens: u32,
}

/// One turn of a conversation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChatTurn {
    /// Whether the model said it (`assistant`) or the user.
    pub by_model: bool,
    /// What was said.
    pub text: String,
}

/// What the model said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChatReply {
    /// The text, without the model's thinking.
    pub text: String,
    /// Whether it ended because `max_tokens` was reached: the text is cut.
    pub truncated: bool,
    /// Tokens read, if the server says.
    pub prompt_tokens: Option<u64>,
    /// Tokens written, if the server says.
    pub reply_tokens: Option<u64>,
}

/// A language model behind a server.
pub trait LlmClient: Send + Sync + 'static {
    /// For people: provider and model, such as `ollama/llama3.1:8b`.
    fn name(&self) -> String;

    /// Asks once and waits for the whole reply; the caller bounds the time by dropping the future.
    ///
    /// # Errors
    /// The `llm_*` codes.
    fn chat(&self, request: ChatRequest) -> PortFuture<'_, Result<ChatReply, Failure>>;
}

/// A shared client.
pub type SharedLlm = Arc<dyn LlmClient>;
