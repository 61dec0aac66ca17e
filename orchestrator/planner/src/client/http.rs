//! One HTTP exchange with an LLM server, bounded in time and size; turns errors into typed failures.
//!
//! Does not interpret bodies, except for error messages.

use std::collections::VecDeque;
use std::time::Duration;

use amcp_protocol::llm::PortFuture;
use amcp_protocol::{ErrorCode, Failure};
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use reqwest::{Method, Response, StatusCode};
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::time::timeout;

use super::lines::Lines;
use super::url::{join, shown};
use super::{ChatReply, ChatRequest, LlmClient, LlmSettings, Provider, TextSink, ollama, openai};

/// Most bytes that we read of an error's body.
const ERROR_BYTES: usize = 64 * 1024;
const ERROR_CHARS: usize = 300;
/// Longest line of a stream: a line holds a token, or the whole reply of a server that does not stream.
const LINE_BYTES: usize = 1024 * 1024;
/// Pause before asking a busy server again that names no time: about one prompt.
const BUSY_RETRY_MS: u64 = 500;
/// Pause after a closed connection, which may have been a kept-alive one that had just expired.
const RESET_RETRY_MS: u64 = 50;

/// A server and its client.
#[derive(Debug, Clone)]
pub(crate) struct Http {
    client: reqwest::Client,
    settings: LlmSettings,
    authorization: Option<HeaderValue>,
}

impl LlmClient for Http {
    fn name(&self) -> String {
        self.settings.name()
    }

    fn stream<'a>(
        &'a self,
        request: ChatRequest,
        sink: &'a mut dyn TextSink,
    ) -> PortFuture<'a, Result<ChatReply, Failure>> {
        match self.settings.provider {
            Provider::Ollama => Box::pin(ollama::ask(self, request, sink)),
            Provider::OpenAi => Box::pin(openai::ask(self, request, sink)),
        }
    }
}

impl Http {
    pub(crate) fn new(settings: &LlmSettings) -> Result<Self, Failure> {
        let client = amcp_outbound::client_of(&settings.url)
            .connect_timeout(settings.connect)
            .build()
            .map_err(|e| Failure::internal(format!("cannot set up the HTTP client: {e}")))?;
        let authorization = match &settings.api_key {
            None => None,
            Some(key) => {
                let mut value =
                    HeaderValue::from_str(&format!("Bearer {}", key.0)).map_err(|_| {
                        Failure::new(
                            ErrorCode::BadRequest,
                            "the LLM's API key has invalid characters",
                        )
                        .hint("look for a line break or a quote at its end")
                    })?;
                value.set_sensitive(true);
                Some(value)
            }
        };
        Ok(Self {
            client,
            settings: settings.clone(),
            authorization,
        })
    }

    pub(crate) const fn settings(&self) -> &LlmSettings {
        &self.settings
    }

    /// Posts JSON; returns the body of a successful answer.
    pub(crate) async fn post(&self, path: &str, body: &Value) -> Result<Body<'_>, Failure> {
        self.send(Method::POST, path, Some(body)).await
    }

    /// Gets JSON.
    pub(crate) async fn get(&self, path: &str) -> Result<Value, Failure> {
        let body = self.send(Method::GET, path, None).await?;
        self.piece(&body.bytes().await?, ErrorCode::LlmMalformed)
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Body<'_>, Failure> {
        let mut request = self.client.request(method, join(&self.settings.url, path));
        if let Some(value) = &self.authorization {
            request = request.header(AUTHORIZATION, value);
        }
        if let Some(body) = body {
            request = request.json(body);
        }
        let response = match timeout(self.settings.first_byte, request.send()).await {
            Err(_) => {
                return Err(self.too_slow("did not begin to answer", self.settings.first_byte));
            }
            Ok(Err(error)) => return Err(self.unreachable(&error)),
            Ok(Ok(response)) => response,
        };
        let status = response.status();
        let retry_after_ms = retry_after_ms(&response);
        let body = Body {
            http: self,
            response,
            begun: false,
            left: self.settings.answer_bytes,
            lines: Lines::default(),
            ready: VecDeque::new(),
        };
        if status.is_success() {
            return Ok(body);
        }
        let message = body.error_message().await;
        Err(self.refused(status, &message, retry_after_ms))
    }

    /// The failure that a server's error message means, whatever its status.
    pub(crate) fn said(&self, code: ErrorCode, message: &str) -> Failure {
        let lower = message.to_lowercase();
        let model = &self.settings.model;
        if lower.contains("not found") && lower.contains("model") {
            let hint = match self.settings.provider {
                Provider::Ollama => format!("run `ollama pull {model}` where Ollama runs"),
                Provider::OpenAi => "GET /v1/models lists its models".to_owned(),
            };
            let message = format!("has no model '{model}'");
            return self.failure(ErrorCode::LlmModelMissing, message).hint(hint);
        }
        if lower.contains("server busy") {
            return self
                .failure(ErrorCode::LlmBusy, "is busy".to_owned())
                .hint("try again later, or raise OLLAMA_NUM_PARALLEL where Ollama runs")
                .retry_after_ms(BUSY_RETRY_MS);
        }
        if lower.contains("invalid format") {
            return self
                .failure(ErrorCode::LlmMalformed, format!("refused the answer's schema: {message}"))
                .hint("try a newer version of the server; `amcp doctor` tells whether it honours schemas");
        }
        if lower.contains("context length") || lower.contains("context size") {
            return self
                .failure(
                    ErrorCode::LlmMalformed,
                    format!("refused the prompt: {message}"),
                )
                .hint("use a model with a longer context, or allow a longer one (num_ctx)");
        }
        self.failure(code, format!("said: {message}"))
    }

    /// A failure whose message begins with the server's address.
    pub(crate) fn failure(&self, code: ErrorCode, what: String) -> Failure {
        Failure::new(
            code,
            format!("the LLM server {} {what}", shown(&self.settings.url)),
        )
    }

    pub(crate) fn too_slow(&self, what: &str, after: Duration) -> Failure {
        self.failure(ErrorCode::LlmTimeout, format!("{what} within {after:?}"))
            .hint("try a smaller model, or allow more time")
    }

    fn refused(&self, status: StatusCode, message: &str, retry_after_ms: Option<u64>) -> Failure {
        match status {
            StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS => self
                .failure(ErrorCode::LlmBusy, format!("is busy: {message}"))
                .hint("try again later, or raise the server's number of parallel requests (OLLAMA_NUM_PARALLEL)")
                .retry_after_ms(retry_after_ms.unwrap_or(BUSY_RETRY_MS)),
            StatusCode::BAD_GATEWAY => self.not_there(&format!("answered {status}: {message}")),
            StatusCode::GATEWAY_TIMEOUT | StatusCode::REQUEST_TIMEOUT => self
                .failure(ErrorCode::LlmTimeout, format!("answered {status}: {message}"))
                .hint("try a smaller model, or allow more time"),
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => self
                .failure(ErrorCode::LlmMalformed, format!("answered {status}: {message}"))
                .hint("check the API key"),
            status if status.is_redirection() => self
                .failure(ErrorCode::LlmMalformed, format!("redirects ({status}), and AMCP follows no redirects"))
                .hint("configure the address that it redirects to"),
            status => {
                let failure = self.said(ErrorCode::LlmMalformed, message);
                if status == StatusCode::NOT_FOUND && failure.code == ErrorCode::LlmMalformed {
                    return failure.hint("is this the address of the LLM server, and its path prefix?");
                }
                failure
            }
        }
    }

    /// Parses a piece of an answer, or all of it; a server's error in its place gets `code`.
    pub(crate) fn piece<T: DeserializeOwned>(
        &self,
        bytes: &[u8],
        code: ErrorCode,
    ) -> Result<T, Failure> {
        let nonsense = |error: serde_json::Error| self.nonsense(&error.to_string(), bytes);
        let value: Value = serde_json::from_slice(bytes).map_err(nonsense)?;
        if let Some(message) = error_text(&value) {
            return Err(self.said(code, &message));
        }
        serde_json::from_value(value).map_err(nonsense)
    }

    /// The failure of a server that sent no answer of the protocol.
    pub(crate) fn nonsense(&self, why: &str, bytes: &[u8]) -> Failure {
        let message = format!("sent no part of an answer ({why}): {}", excerpt(bytes));
        self.failure(ErrorCode::LlmMalformed, message)
            .hint(match self.settings.provider {
                Provider::Ollama => "is this the address of an Ollama server?",
                Provider::OpenAi => "is this the address of an OpenAI-style server?",
            })
    }

    fn unreachable(&self, error: &reqwest::Error) -> Failure {
        if error.is_connect() {
            return self.not_there(&format!("cannot be reached: {}", innermost(error)));
        }
        if error.is_timeout() {
            return self.too_slow("did not begin to answer", self.settings.first_byte);
        }
        self.not_there(&format!("closed the connection: {}", innermost(error)))
            .retry_after_ms(RESET_RETRY_MS)
    }

    fn not_there(&self, what: &str) -> Failure {
        let url = shown(&self.settings.url);
        self.failure(ErrorCode::LlmUnavailable, what.to_owned())
            .hint(match self.settings.provider {
                Provider::Ollama => format!("is Ollama running at {url}? `ollama serve` starts it"),
                Provider::OpenAi => format!("is the LLM server running at {url}?"),
            })
    }
}

/// The body of an answer while it arrives.
#[derive(Debug)]
pub(crate) struct Body<'a> {
    http: &'a Http,
    response: Response,
    left: usize,
    /// Whether any byte of the body has arrived.
    begun: bool,
    lines: Lines,
    /// Unread lines.
    ready: VecDeque<Vec<u8>>,
}

impl Body<'_> {
    /// Whether the server streams events; a server that ignores `stream` answers with JSON.
    pub(crate) fn is_event_stream(&self) -> bool {
        self.response
            .headers()
            .get(CONTENT_TYPE)
            .and_then(|value| value.to_str().ok())
            .is_some_and(|value| value.trim_start().starts_with("text/event-stream"))
    }

    /// The next line that is not blank; none at the end.
    pub(crate) async fn line(&mut self) -> Result<Option<Vec<u8>>, Failure> {
        loop {
            if let Some(line) = self.ready.pop_front() {
                return Ok(Some(line));
            }
            let Some(bytes) = self.next().await? else {
                return Ok(self.lines.rest());
            };
            self.ready.extend(self.lines.push(&bytes));
            if self.lines.begun() > LINE_BYTES {
                let what = format!("sent a line of more than {LINE_BYTES} bytes");
                return Err(self.http.failure(ErrorCode::LlmMalformed, what));
            }
        }
    }

    /// The failure of a stream that ended before its last line.
    pub(crate) fn cut(&self) -> Failure {
        self.stopped("ended its answer in the middle".to_owned())
    }

    fn stopped(&self, what: String) -> Failure {
        self.http
            .failure(ErrorCode::LlmCut, what)
            .hint("its log says why; a model that does not fit into memory is the usual reason")
    }

    /// The next bytes; none at the end.
    async fn next(&mut self) -> Result<Option<Vec<u8>>, Failure> {
        // Some servers send the head of a stream before they read the prompt.
        let idle = if self.begun {
            self.http.settings.idle
        } else {
            self.http.settings.first_byte
        };
        let chunk = match timeout(idle, self.response.chunk()).await {
            Err(_) => return Err(self.http.too_slow("did not go on with its answer", idle)),
            Ok(Err(error)) => {
                let what = format!("stopped in the middle of its answer: {}", innermost(&error));
                return Err(self.stopped(what));
            }
            Ok(Ok(chunk)) => chunk,
        };
        self.begun = true;
        let Some(chunk) = chunk else { return Ok(None) };
        self.left = self.left.checked_sub(chunk.len()).ok_or_else(|| {
            self.http.failure(
                ErrorCode::LlmMalformed,
                format!(
                    "answered with more than {} bytes",
                    self.http.settings.answer_bytes
                ),
            )
        })?;
        Ok(Some(chunk.to_vec()))
    }

    /// The whole body.
    pub(crate) async fn bytes(mut self) -> Result<Vec<u8>, Failure> {
        let mut bytes = Vec::new();
        while let Some(chunk) = self.next().await? {
            bytes.extend(chunk);
        }
        Ok(bytes)
    }

    /// The server's error message, as much as arrived.
    async fn error_message(mut self) -> String {
        self.left = self.left.min(ERROR_BYTES);
        let mut bytes = Vec::new();
        while let Ok(Some(chunk)) = self.next().await {
            bytes.extend(chunk);
        }
        match serde_json::from_slice::<Value>(&bytes) {
            Ok(body) => error_text(&body).unwrap_or_else(|| excerpt(&bytes)),
            Err(_) => excerpt(&bytes),
        }
    }
}

/// The message of an error body: `{"error":"…"}` or `{"error":{"message":"…"}}`.
fn error_text(body: &Value) -> Option<String> {
    let error = body.get("error")?;
    let text = error.as_str().or_else(|| error.get("message")?.as_str());
    Some(text.map_or_else(|| error.to_string(), str::to_owned))
        .map(|text| text.chars().take(ERROR_CHARS).collect())
}

/// The beginning of a body, for messages.
fn excerpt(bytes: &[u8]) -> String {
    let head = bytes.get(..ERROR_CHARS).unwrap_or(bytes);
    let text = String::from_utf8_lossy(head);
    match text.trim() {
        "" => "an empty body".to_owned(),
        text => format!("'{text}'"),
    }
}

/// The innermost cause. The outer messages of reqwest repeat the address with its password.
fn innermost(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}

fn retry_after_ms(response: &Response) -> Option<u64> {
    let seconds: u64 = response
        .headers()
        .get(RETRY_AFTER)?
        .to_str()
        .ok()?
        .trim()
        .parse()
        .ok()?;
    seconds.checked_mul(1_000)
}
