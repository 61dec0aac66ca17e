//! The client of `/v1/chat/completions`, streamed as server-sent events: llama-server, vLLM, Ollama itself and hosted
//! services.
//!
//! Does not depend on the stream: also reads the one JSON body of a server that ignores `stream`.

use amcp_protocol::{ErrorCode, Failure};
use serde::Deserialize;
use serde_json::{Value, json};

use super::http::Http;
use super::ollama::SEED;
use super::reply::Arriving;
use super::{ChatReply, ChatRequest, TextSink, Usage};

pub(super) async fn ask(
    http: &Http,
    request: ChatRequest,
    sink: &mut dyn TextSink,
) -> Result<ChatReply, Failure> {
    let max_tokens = request.max_tokens;
    let body = body(http, request);
    let mut answer = http.post("/v1/chat/completions", &body).await?;
    let mut text = Arriving::new(sink);
    if !answer.is_event_stream() {
        let whole = answer.bytes().await?;
        let completion: Completion = http.piece(&whole, ErrorCode::LlmMalformed)?;
        if completion.choices.is_empty() {
            return Err(http.nonsense("it has no choices", &whole));
        }
        let usage = completion.usage.map_or_else(Usage::default, Usage::from);
        let reason = completion.add_to(&mut text);
        return Ok(text.reply(reason.as_deref(), usage, max_tokens));
    }
    let (mut reason, mut usage) = (None, Usage::default());
    while let Some(line) = answer.line().await? {
        // Skips comments, which keep the connection alive, and the names of events.
        let Some(data) = line.strip_prefix(b"data:").map(<[u8]>::trim_ascii) else {
            continue;
        };
        if data == b"[DONE]" {
            return Ok(text.reply(reason.as_deref(), usage, max_tokens));
        }
        let completion: Completion = http.piece(data, ErrorCode::LlmCut)?;
        usage = completion.usage.map_or(usage, Usage::from);
        reason = completion.add_to(&mut text).or(reason);
    }
    Err(answer.cut())
}

fn body(http: &Http, request: ChatRequest) -> Value {
    let mut messages = vec![json!({"role": "system", "content": request.system})];
    messages.extend(request.turns.into_iter().map(|turn| {
        let role = if turn.by_model { "assistant" } else { "user" };
        json!({"role": role, "content": turn.text})
    }));
    let mut body = json!({
        "model": http.settings().model,
        "messages": messages,
        "stream": true,
        "stream_options": {"include_usage": true},
        "temperature": 0,
        "seed": SEED,
        "max_tokens": request.max_tokens,
    });
    if let (Some(schema), Some(body)) = (request.format, body.as_object_mut()) {
        // Not `strict`: that allows only a part of JSON Schema, and we check the answer anyway.
        let format =
            json!({"type": "json_schema", "json_schema": {"name": "answer", "schema": schema}});
        body.insert("response_format".to_owned(), format);
    }
    body
}

/// A whole answer, or one event of its stream; the event with the usage has no choices.
#[derive(Debug, Deserialize)]
struct Completion {
    #[serde(default)]
    choices: Vec<Choice>,
    #[serde(default)]
    usage: Option<Counted>,
}

impl Completion {
    /// Adds the event's text. Returns why the model stopped, if it did.
    fn add_to(self, text: &mut Arriving<'_>) -> Option<String> {
        let choice = self.choices.into_iter().next()?;
        let content = choice.message.and_then(|message| message.content);
        text.push(&content.unwrap_or_default());
        choice.finish_reason
    }
}

#[derive(Debug, Deserialize)]
struct Choice {
    #[serde(default, alias = "delta")]
    message: Option<Message>,
    #[serde(default)]
    finish_reason: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Message {
    #[serde(default)]
    content: Option<String>,
}

#[derive(Debug, Clone, Copy, Default, Deserialize)]
struct Counted {
    #[serde(default)]
    prompt_tokens: Option<u32>,
    #[serde(default)]
    completion_tokens: Option<u32>,
}

impl From<Counted> for Usage {
    fn from(counted: Counted) -> Self {
        Self {
            prompt_tokens: counted.prompt_tokens.unwrap_or_default(),
            reply_tokens: counted.completion_tokens.unwrap_or_default(),
            calls: 1,
        }
    }
}
