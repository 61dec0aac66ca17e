//! The replies of the fake server: all good and bad answers that a client must cope with, in both protocols.
//!
//! Does not write to the socket.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::Semaphore;

use super::Request;
use super::wire::{Response, Then};

/// One scripted answer to a chat.
#[derive(Debug, Clone)]
pub enum Reply {
    /// Text of the model, well or badly delivered.
    Text(Text),
    /// 503, as from Ollama with a full queue.
    Busy,
    /// 404, as from Ollama without the model.
    ModelMissing,
    /// 500, as from Ollama for a schema that it cannot use.
    InvalidFormat,
    /// Any other status with an error message.
    Status(u16, String),
    /// 301 to another address.
    Redirect(String),
    /// Takes the request and never answers.
    Hang,
    /// Takes the request and closes the connection.
    Reset,
    /// 200 with this body.
    Raw(Vec<u8>),
}

/// Text of the model.
#[derive(Debug, Clone)]
pub struct Text {
    /// The text.
    pub text: String,
    /// The boundaries of its chunks.
    pub framing: Framing,
    /// The end of the stream.
    pub end: End,
    /// Number of tokens to report; `None` sends no such field, as old servers do.
    pub eval_count: Option<u64>,
    /// The times at which the chunks leave.
    pub pace: Pace,
}

/// The times at which the chunks of a stream leave.
#[derive(Debug, Clone)]
pub enum Pace {
    /// One after the other.
    AtOnce,
    /// One for each permit.
    Permits(Arc<Semaphore>),
    /// One in each period.
    Every(Duration),
}

impl Pace {
    pub(super) async fn turn(&self) {
        match self {
            Self::AtOnce => {}
            // Fails for a closed semaphore, which then holds no chunk back.
            Self::Permits(permits) => {
                if let Ok(permit) = permits.acquire().await {
                    permit.forget();
                }
            }
            Self::Every(period) => tokio::time::sleep(*period).await,
        }
    }
}

/// The boundaries of a stream's chunks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// A chunk is a line, as Ollama sends it.
    Lines,
    /// In the middle of every character that has several bytes.
    MidCharacter,
    /// In the middle of every line.
    MidLine,
    /// This number of lines in a chunk.
    Joined(usize),
    /// This number of bytes in a chunk.
    Bytes(usize),
}

/// The end of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// With a last line that gives this reason, such as `stop` or `length`.
    Done(&'static str),
    /// With a last line that gives no reason, as old servers do.
    DoneWithoutReason,
    /// Properly, but without a last line.
    Missing,
    /// With an error line.
    Error(String),
    /// With a closed connection.
    Cut,
    /// Never.
    Stall,
}

impl Reply {
    /// Text, well delivered.
    #[must_use]
    pub fn text(text: impl Into<String>) -> Self {
        Self::Text(Text {
            text: text.into(),
            framing: Framing::Lines,
            end: End::Done("stop"),
            eval_count: Some(42),
            pace: Pace::AtOnce,
        })
    }

    /// A plan, well delivered.
    #[must_use]
    pub fn plan(plan: &Value) -> Self {
        Self::text(plan.to_string())
    }

    /// A plan in a Markdown fence, with prose around it.
    #[must_use]
    pub fn fenced(plan: &Value) -> Self {
        Self::text(format!(
            "Here is the plan:\n```json\n{plan:#}\n```\nHope this helps!"
        ))
    }

    /// A plan after the model's thinking, in the text as older servers send it.
    #[must_use]
    pub fn thinking(plan: &Value) -> Self {
        Self::text(format!(
            "<think>\nThe user wants {{something}}.\n</think>\n\n{plan}"
        ))
    }

    /// The first half of a plan, as after the bound of tokens.
    #[must_use]
    pub fn truncated(plan: &Value) -> Self {
        let text = plan.to_string();
        let half: String = text.chars().take(text.chars().count() / 2).collect();
        Self::text(half).ending(End::Done("length"))
    }

    /// A plan with a capability that no agent offers.
    #[must_use]
    pub fn hallucinated() -> Self {
        Self::plan(
            &json!({"tasks": [{"id": "t1", "capability": "teleport.user", "params": {}, "depends_on": []}]}),
        )
    }

    /// A plan of two tasks of one capability that wait for each other.
    #[must_use]
    pub fn cyclic(capability: &str, params: &Value) -> Self {
        Self::plan(&json!({"tasks": [
            {"id": "t1", "capability": capability, "params": params, "depends_on": ["t2"]},
            {"id": "t2", "capability": capability, "params": params, "depends_on": ["t1"]},
        ]}))
    }

    /// A plan of `count` tasks.
    #[must_use]
    pub fn many_tasks(count: usize, capability: &str, params: &Value) -> Self {
        let tasks: Vec<Value> = (0..count)
            .map(|i| json!({"id": format!("t{i}"), "capability": capability, "params": params, "depends_on": []}))
            .collect();
        Self::plan(&json!({"tasks": tasks}))
    }

    /// Prose, as from a server that ignores `format`.
    #[must_use]
    pub fn ignoring_format() -> Self {
        Self::text("Sure! First I would look at the weather, then I would tell a joke.")
    }

    /// One line of this number of bytes, without an end.
    #[must_use]
    pub fn huge_line(bytes: usize) -> Self {
        Self::Raw(vec![b'x'; bytes])
    }

    /// The same text in other chunks.
    #[must_use]
    pub fn framed(self, framing: Framing) -> Self {
        self.changed(|text| text.framing = framing)
    }

    /// The same text with another end.
    #[must_use]
    pub fn ending(self, end: End) -> Self {
        self.changed(|text| text.end = end)
    }

    /// The same text at another pace.
    #[must_use]
    pub fn paced(self, pace: Pace) -> Self {
        self.changed(|text| text.pace = pace)
    }

    /// The same text with another count of tokens.
    #[must_use]
    pub fn counting(self, eval_count: Option<u64>) -> Self {
        self.changed(|text| text.eval_count = eval_count)
    }

    /// Whether the reply never ends, so that only the client's time-out ends the call.
    #[must_use]
    pub fn is_endless(&self) -> bool {
        matches!(
            self,
            Self::Hang
                | Self::Text(Text {
                    end: End::Stall,
                    ..
                })
        )
    }

    fn changed(mut self, change: impl FnOnce(&mut Text)) -> Self {
        if let Self::Text(text) = &mut self {
            change(text);
        }
        self
    }

    pub(super) fn response(self, request: &Request) -> Response {
        let openai = request.path.starts_with("/v1/");
        let error = |status: u16, message: &str| {
            let body = if openai {
                json!({"error": {"message": message, "type": "api_error", "param": null, "code": null}})
            } else {
                json!({"error": message})
            };
            Response::json(status, &body)
        };
        let model = model(request);
        match self {
            Self::Text(text)
                if openai && request.body.get("stream") != Some(&Value::Bool(true)) =>
            {
                text.completion(&model)
            }
            Self::Text(text) if openai => text.events(&model),
            Self::Text(text) => text.stream(&model),
            Self::Busy => error(
                503,
                "server busy, please try again.  maximum pending requests exceeded",
            ),
            Self::ModelMissing => error(404, &format!("model '{model}' not found")),
            Self::InvalidFormat => error(
                500,
                "invalid format: \"anyOf\"; expected \"json\" or a JSON schema",
            ),
            Self::Status(status, message) => error(status, &message),
            Self::Redirect(to) => {
                let mut response = Response::text(301, "");
                if let Some(head) = &mut response.head {
                    head.push_str(&format!("Location: {to}\r\n"));
                }
                response
            }
            Self::Hang => Response::nothing(Then::Stall),
            Self::Reset => Response::nothing(Then::Cut),
            Self::Raw(bytes) => Response::whole(200, "application/x-ndjson", bytes),
        }
    }
}

impl Text {
    /// The text token by token.
    #[must_use]
    pub fn tokens(text: &str) -> Vec<String> {
        let chars: Vec<char> = text.chars().collect();
        // A few letters make a token; a huge text has longer tokens, so that a test has few lines.
        let token = (chars.len() / 200).max(4);
        chars.chunks(token).map(|c| c.iter().collect()).collect()
    }

    /// Ollama's stream.
    fn stream(&self, model: &str) -> Response {
        let stamp = "2026-01-31T12:00:00.123456789Z";
        let mut lines: Vec<Value> = Self::tokens(&self.text)
            .iter()
            .map(|content| json!({"model": model, "created_at": stamp, "message": {"role": "assistant", "content": content}, "done": false}))
            .collect();
        let mut last = json!({"model": model, "created_at": stamp, "message": {"role": "assistant", "content": ""},
            "done": true, "total_duration": 5_589_157_167_u64, "load_duration": 3_013_701_500_u64,
            "prompt_eval_count": 326, "prompt_eval_duration": 1_160_282_000_u64, "eval_duration": 1_325_948_000_u64});
        if let (Some(count), Some(last)) = (self.eval_count, last.as_object_mut()) {
            last.insert("eval_count".to_owned(), json!(count));
        }
        match &self.end {
            End::Done(reason) => {
                if let Some(last) = last.as_object_mut() {
                    last.insert("done_reason".to_owned(), json!(reason));
                }
                lines.push(last);
            }
            End::DoneWithoutReason => lines.push(last),
            End::Error(message) => lines.push(json!({"error": message})),
            End::Missing | End::Cut | End::Stall => {}
        }
        let lines: Vec<Vec<u8>> = lines
            .iter()
            .map(|l| format!("{l}\n").into_bytes())
            .collect();
        self.sent("application/x-ndjson", &lines)
    }

    /// OpenAI's stream.
    fn events(&self, model: &str) -> Response {
        let event = |choices: Value, usage: Value| {
            json!({"id": "chatcmpl-7", "object": "chat.completion.chunk", "created": 1_769_860_800, "model": model,
                "choices": choices, "usage": usage})
        };
        let piece = |delta: Value, reason: Option<&str>| {
            let choice = json!([{"index": 0, "delta": delta, "finish_reason": reason}]);
            event(choice, Value::Null).to_string()
        };
        let mut events = vec![piece(json!({"role": "assistant", "content": ""}), None)];
        let tokens = Self::tokens(&self.text);
        events.extend(tokens.iter().map(|t| piece(json!({"content": t}), None)));
        let usage = json!({"prompt_tokens": 326, "completion_tokens": self.eval_count});
        let ended = |reason| {
            let usage = event(json!([]), usage.clone()).to_string();
            [piece(json!({}), reason), usage, "[DONE]".to_owned()]
        };
        match &self.end {
            End::Done(reason) => events.extend(ended(Some(reason))),
            End::DoneWithoutReason => events.extend(ended(None)),
            End::Error(message) => {
                events.push(json!({"error": {"message": message, "code": 500}}).to_string());
            }
            End::Missing | End::Cut | End::Stall => {}
        }
        let lines: Vec<Vec<u8>> = [": keep alive\n\n".to_owned()]
            .into_iter()
            .chain(events.iter().map(|event| format!("data: {event}\n\n")))
            .map(String::into_bytes)
            .collect();
        self.sent("text/event-stream", &lines)
    }

    fn sent(&self, content_type: &str, lines: &[Vec<u8>]) -> Response {
        let then = match &self.end {
            End::Cut => Then::Cut,
            End::Stall => Then::Stall,
            End::Done(_) | End::DoneWithoutReason | End::Error(_) | End::Missing => Then::KeepAlive,
        };
        let mut response = Response::chunks(content_type, cut(lines, self.framing), then);
        response.pace = self.pace.clone();
        response
    }

    /// OpenAI's single body.
    fn completion(&self, model: &str) -> Response {
        let reason = match &self.end {
            End::Done(reason) => Some(*reason),
            End::DoneWithoutReason | End::Missing | End::Error(_) | End::Cut | End::Stall => None,
        };
        let body = json!({"id": "chatcmpl-7", "object": "chat.completion", "created": 1_769_860_800, "model": model,
            "choices": [{"index": 0, "message": {"role": "assistant", "content": self.text}, "finish_reason": reason}],
            "usage": {"prompt_tokens": 326, "completion_tokens": self.eval_count}});
        Response::json(200, &body)
    }
}

/// Cuts the stream's bytes into chunks.
fn cut(lines: &[Vec<u8>], framing: Framing) -> Vec<Vec<u8>> {
    let bytes = lines.concat();
    let at: Vec<usize> = match framing {
        Framing::Lines => return lines.to_vec(),
        Framing::Joined(count) => return lines.chunks(count.max(1)).map(<[_]>::concat).collect(),
        Framing::Bytes(count) => return bytes.chunks(count.max(1)).map(<[_]>::to_vec).collect(),
        // A byte 10xxxxxx continues a character.
        Framing::MidCharacter => (1..bytes.len())
            .filter(|&i| bytes.get(i).is_some_and(|b| b & 0xC0 == 0x80))
            .collect(),
        Framing::MidLine => lines
            .iter()
            .scan(0, |start, line| {
                let middle = *start + line.len() / 2;
                *start += line.len();
                Some(middle)
            })
            .collect(),
    };
    let ends = at.iter().copied().chain([bytes.len()]);
    let mut chunks = Vec::new();
    let mut start = 0;
    for end in ends {
        chunks.extend(
            bytes
                .get(start..end)
                .filter(|c| !c.is_empty())
                .map(<[_]>::to_vec),
        );
        start = end;
    }
    chunks
}

fn model(request: &Request) -> String {
    request
        .body
        .get("model")
        .and_then(Value::as_str)
        .unwrap_or_default()
        .to_owned()
}

/// The answer to any request other than a chat.
pub(super) fn resource(request: &Request, models: &[String]) -> Response {
    match (request.method.as_str(), request.path.as_str()) {
        ("GET", "/api/version") => Response::json(200, &json!({"version": "0.0.0-fake"})),
        ("GET", "/api/tags") => {
            let models: Vec<Value> = models
                .iter()
                .map(|name| json!({"name": name, "model": name, "modified_at": "2026-01-31T12:00:00Z", "size": 1_234_567,
                    "digest": "0".repeat(64), "details": {"format": "gguf", "family": "fake", "parameter_size": "1B"}}))
                .collect();
            Response::json(200, &json!({"models": models}))
        }
        ("POST", "/api/show") if models.contains(&model(request)) => Response::json(
            200,
            &json!({"details": {"family": "fake"}, "capabilities": ["completion"]}),
        ),
        ("POST", "/api/show") => Response::json(
            404,
            &json!({"error": format!("model '{}' not found", model(request))}),
        ),
        ("GET", "/v1/models") => {
            let models: Vec<Value> = models
                .iter()
                .map(|name| json!({"id": name, "object": "model", "created": 1_769_860_800, "owned_by": "library"}))
                .collect();
            Response::json(200, &json!({"object": "list", "data": models}))
        }
        _ => Response::text(404, "404 page not found"),
    }
}
