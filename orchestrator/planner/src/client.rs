//! Clients of language models behind the [`LlmClient`] port: Ollama and OpenAI-style servers, and the guard before either
//! (breaker, bounded concurrency, time-out).
//!
//! Does not plan; the planners write the prompts.

pub mod breaker;
pub mod guard;
mod http;
mod lines;
mod ollama;
mod openai;
pub mod probe;
mod reply;
mod url;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use reqwest::Url;

pub use amcp_protocol::llm::{
    ChatReply, ChatRequest, ChatTurn, LlmClient, SharedLlm, TextSink, Usage,
};
use amcp_protocol::{ErrorCode, Failure};

pub use breaker::{Breaker, BreakerSettings};
pub use guard::{CALL_SECONDS, GuardSettings, Guarded, LlmHealth};
pub use probe::{Check, probe};
pub use url::{UrlError, parse_ollama_url, parse_openai_url};

/// The protocol of a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Provider {
    /// Ollama's `/api/chat`.
    Ollama,
    /// OpenAI's `/v1/chat/completions`.
    OpenAi,
}

impl Provider {
    /// The name in configuration and messages.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ollama => "ollama",
            Self::OpenAi => "openai",
        }
    }
}

/// A secret that no log and no error shows.
#[derive(Clone, PartialEq, Eq)]
pub struct ApiKey(String);

impl ApiKey {
    /// Wraps the key.
    #[must_use]
    pub fn new(key: impl Into<String>) -> Self {
        Self(key.into())
    }
}

impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ApiKey(hidden)")
    }
}

/// The address of a model, and the bounds of calls.
#[derive(Debug, Clone)]
pub struct LlmSettings {
    /// The server's protocol.
    pub provider: Provider,
    /// The server with its path prefix; see [`parse_ollama_url`] and [`parse_openai_url`].
    pub url: Url,
    /// The model's name on the server.
    pub model: String,
    /// Sent as a bearer token.
    pub api_key: Option<ApiKey>,
    /// Tokens of the context that Ollama reserves for prompt and answer together.
    pub num_ctx: u32,
    /// Longest wait for a connection.
    pub connect: Duration,
    /// Longest wait for the first byte of an answer.
    pub first_byte: Duration,
    /// Longest wait between two pieces of an answer.
    pub idle: Duration,
    /// Largest answer in bytes, as it comes over the wire.
    pub answer_bytes: usize,
}

impl LlmSettings {
    /// The defaults for a server.
    #[must_use]
    pub fn new(provider: Provider, url: Url, model: impl Into<String>) -> Self {
        Self {
            provider,
            url,
            model: model.into(),
            api_key: None,
            // Room for thirty capabilities with their schemas, twice, and a plan; Ollama's default (4,096) is too small.
            num_ctx: 16_384,
            // A server in the same data centre answers in milliseconds.
            connect: Duration::from_secs(3),
            // Ollama loads a model before it sends a byte: a large one from a slow disk takes a minute.
            first_byte: Duration::from_secs(120),
            // Twenty times as long as a large model on a small CPU takes for a token.
            idle: Duration::from_secs(20),
            // A line of the stream costs some 150 bytes a token; this holds 50,000 tokens.
            answer_bytes: 8 * 1024 * 1024,
        }
    }

    /// Makes the client. Opens no connection.
    ///
    /// # Errors
    /// [`ErrorCode::Internal`] when TLS cannot be set up, [`ErrorCode::BadRequest`] for a key with invalid characters.
    pub fn client(&self) -> Result<SharedLlm, Failure> {
        Ok(Arc::new(http::Http::new(self)?))
    }

    /// Provider and model, such as `ollama/llama3.1:8b`.
    #[must_use]
    pub fn name(&self) -> String {
        format!("{}/{}", self.provider.as_str(), self.model)
    }
}

/// Whether the LLM is at fault: another planner may still answer.
#[must_use]
pub fn is_llm_failure(code: ErrorCode) -> bool {
    code.as_str().starts_with("llm_")
}
