//! The port to a language model: one call, no tools, the reply as a whole or piece by piece.
//!
//! Does not talk to any server; the clients are the planner crate's. Code that needs a model takes an
//! `Arc<dyn LlmClient>`.

use std::future::Future;
use std::ops::AddAssign;
use std::pin::Pin;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::Failure;

/// A future that a port returns.
pub type PortFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// One prompt to a language model.
#[derive(Debug, Clone, PartialEq)]
pub struct ChatRequest {
    /// The model's role and rules.
    pub system: String,
    /// Turns after it, oldest first; the last one is the user's.
    pub turns: Vec<ChatTurn>,
    /// JSON Schema that the answer must keep; none for free text.
    pub format: Option<Value>,
    /// The most tokens that the model may generate.
    pub max_tokens: u32,
}

/// One turn of a conversation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChatTurn {
    /// Whether the model said it (`assistant`) or the user.
    pub by_model: bool,
    /// Plain text.
    pub text: String,
}

impl ChatTurn {
    /// A turn of the user.
    #[must_use]
    pub const fn user(text: String) -> Self {
        Self {
            by_model: false,
            text,
        }
    }
}

/// A model's whole reply to a [`ChatRequest`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChatReply {
    /// The text, without the model's thinking.
    pub text: String,
    /// Whether the model reached `max_tokens`, so that the text is cut.
    pub truncated: bool,
    /// The tokens of the call.
    pub usage: Usage,
}

/// Tokens of one call, or of several together; 0 where the server does not count.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Usage {
    /// Tokens read.
    pub prompt_tokens: u32,
    /// Tokens written.
    pub reply_tokens: u32,
    /// Calls that the model answered.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub calls: u32,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
const fn is_zero(number: &u32) -> bool {
    *number == 0
}

impl Usage {
    /// Whether no token was counted.
    #[must_use]
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }
}

impl AddAssign for Usage {
    fn add_assign(&mut self, other: Self) {
        self.prompt_tokens = self.prompt_tokens.saturating_add(other.prompt_tokens);
        self.reply_tokens = self.reply_tokens.saturating_add(other.reply_tokens);
        self.calls = self.calls.saturating_add(other.calls);
    }
}

/// Takes the text of a reply while the model writes it. In the end only the reply's own text counts.
pub trait TextSink: Send {
    /// Takes the next piece; it is never empty, and holds none of the model's thinking.
    fn piece(&mut self, text: &str);

    /// Voids all pieces so far: the call begins again, or they turned out to be the model's thinking.
    fn reset(&mut self);
}

/// Ignores the pieces, for callers that wait for the whole reply.
impl TextSink for () {
    fn piece(&mut self, _: &str) {}

    fn reset(&mut self) {}
}

/// A language model behind a server.
pub trait LlmClient: Send + Sync + 'static {
    /// Provider and model, such as `ollama/llama3.1:8b`.
    fn name(&self) -> String;

    /// Asks once and waits for the whole reply; the caller bounds the time by dropping the future.
    ///
    /// # Errors
    /// The `llm_*` codes.
    fn chat(&self, request: ChatRequest) -> PortFuture<'_, Result<ChatReply, Failure>> {
        Box::pin(async move { self.stream(request, &mut ()).await })
    }

    /// Asks once and hands the text on while it comes. The pieces since the last reset add up to the reply's text;
    /// after a failure they are void. A client that cannot stream hands the text on in one piece.
    ///
    /// # Errors
    /// The `llm_*` codes.
    fn stream<'a>(
        &'a self,
        request: ChatRequest,
        sink: &'a mut dyn TextSink,
    ) -> PortFuture<'a, Result<ChatReply, Failure>>;
}

/// A client that several planners and specialists share.
pub type SharedLlm = Arc<dyn LlmClient>;
