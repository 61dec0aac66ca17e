//! The client of `/v1/chat/completions`: llama-server, vLLM, Ollama itself and hosted services.
//!
//! Does not stream: a plan is of no use before its end.

use amcp_protocol::llm::PortFuture;
use amcp_protocol::{ErrorCode, Failure};
use serde::Deserialize;
use serde_json::{Value, json};

use super::http::{Http, error_text};
use super::ollama::SEED;
use super::text::without_thinking;
use super::{ChatReply, ChatRequest, LlmClient, LlmSettings};

/// Asks a model on an OpenAI-style server.
#[derive(Debug, Clone)]
pub struct OpenAiClient {
    http: Http,
}

impl OpenAiClient {
    /// Makes the client; opens no connection.
    ///
    /// # Errors
    /// As [`LlmSettings::client`].
    pub fn new(settings: &LlmSettings) -> Result<Self, Failure> {
        Http::new(settings).map(|http| Self { http })
    }

    async fn ask(&self, request: ChatRequest) -> Result<ChatReply, Failure> {
        let max_tokens = request.max_tokens;
        let body = self.body(request);
        let answer = self
            .http
            .post("/v1/chat/completions", &body)
            .await?
            .json()
            .await?;
        if let Some(message) = error_text(&answer) {
            return Err(self.http.said(ErrorCode::LlmMalformed, &message));
        }
        let nonsense = |why: &str| {
            self.http
                .failure(
                    ErrorCode::LlmMalformed,
                    format!("sent no chat completion: {why}"),
                )
                .hint("is this the address of an OpenAI-style server?")
        };
        let completion: Completion =
            serde_json::from_value(answer).map_err(|e| nonsense(&e.to_string()))?;
        let Some(choice) = completion.choices.into_iter().next() else {
            return Err(nonsense("it has no choices"));
        };
        let usage = completion.usage.unwrap_or_default();
        let full = usage
            .completion_tokens
            .is_some_and(|tokens| tokens >= u64::from(max_tokens));
        Ok(ChatReply {
            text: without_thinking(&choice.message.content.unwrap_or_default()).to_owned(),
            truncated: match choice.finish_reason.as_deref() {
                Some("length") => true,
                Some("stop") => false,
                _ => full,
            },
            prompt_tokens: usage.prompt_tokens,
            reply_tokens: usage.completion_tokens,
        })
    }

    fn body(&self, request: ChatRequest) -> Value {
        let mut messages = vec![json!({"role": "system", "content": request.system})];
        messages.extend(request.turns.into_iter().map(|turn| {
            let role = if turn.by_model { "assistant" } else { "user" };
            json!({"role": role, "content": turn.text})
        }));
        let mut body = json!({
            "model": self.http.settings().model,
            "messages": messages,
            "stream": false,
            "temperature": 0,
            "seed": SEED,
            "max_tokens": request.max_tokens,
        });
        if let (Some(schema), Some(body)) = (request.format, body.as_object_mut()) {
            // Not `strict`: that allows a part of JSON Schema only, and what comes back is checked anyway.
            let format =
                json!({"type": "json_schema", "json_schema": {"name": "answer", "schema": schema}});
            body.insert("response_format".to_owned(), format);
        }
        body
    }
}

impl LlmClient for OpenAiClient {
    fn name(&self) -> String {
        self.http.settings().name()
    }

    fn chat(&self, request: ChatRequest) -> PortFuture<'_, Result<ChatReply, Failure>> {
        Box::pin(self.ask(request))
    }
}

#[derive(Debug, Deserialize)]
struct Completion {
    choices: Vec<Choice>,
    #[serde(default)]
    usage: Option<Usage>,
}

#[derive(Debug, Deserialize)]
struct Choice {
    message: Message,
    #[serde(default)]
    finish_reason: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Message {
    #[serde(default)]
    content: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
struct Usage {
    #[serde(default)]
    prompt_tokens: Option<u64>,
    #[serde(default)]
    completion_tokens: Option<u64>,
}
