//! The client of Ollama's `/api/chat`, streamed.
//!
//! Takes the request's types from `ollama-rs`, but not its HTTP, which loses statuses, error lines and lines that two chunks
//! share.

use amcp_protocol::{ErrorCode, Failure};
use ollama_rs::generation::chat::ChatMessage;
use ollama_rs::generation::chat::request::ChatMessageRequest;
use ollama_rs::generation::parameters::FormatType;
use ollama_rs::models::ModelOptions;
use serde::Deserialize;
use serde_json::Value;

use super::http::Http;
use super::reply::Arriving;
use super::{ChatReply, ChatRequest, TextSink, Usage};

/// Any fixed number: the same prompt gives the same plan.
pub(crate) const SEED: i32 = 7;

pub(super) async fn ask(
    http: &Http,
    request: ChatRequest,
    sink: &mut dyn TextSink,
) -> Result<ChatReply, Failure> {
    let max_tokens = request.max_tokens;
    let body = body(http, request)?;
    let mut answer = http.post("/api/chat", &body).await?;
    let mut text = Arriving::new(sink);
    while let Some(line) = answer.line().await? {
        let line: Line = http.piece(&line, ErrorCode::LlmCut)?;
        if let Some(message) = &line.message {
            text.push(&message.content);
        }
        if line.done {
            let usage = Usage {
                prompt_tokens: line.prompt_eval_count,
                reply_tokens: line.eval_count,
                calls: 1,
            };
            return Ok(text.reply(line.done_reason.as_deref(), usage, max_tokens));
        }
    }
    Err(answer.cut())
}

fn body(http: &Http, request: ChatRequest) -> Result<Value, Failure> {
    let settings = http.settings();
    let mut messages = vec![ChatMessage::system(request.system)];
    messages.extend(request.turns.into_iter().map(|turn| {
        if turn.by_model {
            ChatMessage::assistant(turn.text)
        } else {
            ChatMessage::user(turn.text)
        }
    }));
    let options = ModelOptions::default()
        .num_ctx(u64::from(settings.num_ctx))
        .num_predict(i32::try_from(request.max_tokens).unwrap_or(i32::MAX))
        .temperature(0.0)
        .seed(SEED);
    let mut chat = ChatMessageRequest::new(settings.model.clone(), messages)
        .options(options)
        .think(false);
    let wrong = |e: serde_json::Error| Failure::internal(format!("cannot write the prompt: {e}"));
    if let Some(schema) = request.format {
        chat = chat.format(serde_json::from_value::<FormatType>(schema).map_err(wrong)?);
    }
    let mut body = serde_json::to_value(chat).map_err(wrong)?;
    if let Some(body) = body.as_object_mut() {
        body.insert("stream".to_owned(), Value::Bool(true));
        // Otherwise a prompt that is too long silently loses its beginning, the rules.
        body.insert("truncate".to_owned(), Value::Bool(false));
    }
    Ok(body)
}

/// One line of the stream. The server leaves out fields that are zero.
#[derive(Debug, Deserialize)]
struct Line {
    #[serde(default)]
    message: Option<Piece>,
    done: bool,
    #[serde(default)]
    done_reason: Option<String>,
    #[serde(default)]
    prompt_eval_count: u32,
    #[serde(default)]
    eval_count: u32,
}

#[derive(Debug, Deserialize)]
struct Piece {
    #[serde(default)]
    content: String,
}
