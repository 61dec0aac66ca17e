//! Checks an LLM server: whether it is up, has the model and keeps to a schema.
//!
//! Repairs nothing: each check says what to do.

use std::time::Duration;

use amcp_protocol::{Failure, Schema};
use serde::Serialize;
use serde_json::{Value, json};
use tokio::time::timeout;

use super::http::Http;
use super::{ChatRequest, ChatTurn, LlmSettings, Provider};

/// Time-out of the checks that a running server answers at once.
const LOOK: Duration = Duration::from_secs(5);
/// Enough for the probe's answer, and for some prose of a server that ignores the schema.
const PROBE_TOKENS: u32 = 64;

/// The result of one check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Check {
    /// The name of the check, such as `llm.model`.
    pub name: String,
    /// Whether the check passed.
    pub ok: bool,
    /// The observation.
    pub detail: String,
    /// A remedy for a failed check.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

impl Check {
    /// A passed check.
    #[must_use]
    pub fn good(name: &str, detail: impl Into<String>) -> Self {
        Self {
            name: name.to_owned(),
            ok: true,
            detail: detail.into(),
            hint: None,
        }
    }

    /// A failed check.
    #[must_use]
    pub fn bad(name: &str, failure: Failure) -> Self {
        Self {
            name: name.to_owned(),
            ok: false,
            detail: failure.message,
            hint: failure.hint,
        }
    }
}

/// Checks a server: `llm.server`, `llm.model`, `llm.format`. Ends after the first failed check, since the others would fail
/// for the same reason.
pub async fn probe(settings: &LlmSettings) -> Vec<Check> {
    let http = match Http::new(settings) {
        Ok(http) => http,
        Err(failure) => return vec![Check::bad("llm.server", failure)],
    };
    let mut checks = match settings.provider {
        Provider::Ollama => ollama(&http).await,
        Provider::OpenAi => openai(&http).await,
    };
    if checks.iter().all(|check| check.ok) {
        checks.push(match honours_format(settings).await {
            Ok(detail) => Check::good("llm.format", detail),
            Err(failure) => Check::bad("llm.format", failure),
        });
    }
    checks
}

async fn ollama(http: &Http) -> Vec<Check> {
    let version = match look(http, "/api/version").await {
        Ok(body) => body
            .get("version")
            .and_then(Value::as_str)
            .map(str::to_owned),
        Err(failure) => return vec![Check::bad("llm.server", failure)],
    };
    let server = Check::good(
        "llm.server",
        version.map_or("Ollama of an unknown version".to_owned(), |v| {
            format!("Ollama {v}")
        }),
    );
    // Ollama reads `llama3` as `llama3:latest`.
    let wanted = &http.settings().model;
    let same = |name: &str| name == wanted || name.strip_suffix(":latest") == Some(wanted);
    let model = match look(http, "/api/tags").await {
        Err(failure) => Check::bad("llm.model", failure),
        Ok(body) => model_check(http, &names(&body, "models", "name"), same),
    };
    vec![server, model]
}

async fn openai(http: &Http) -> Vec<Check> {
    let body = match look(http, "/v1/models").await {
        Ok(body) => body,
        Err(failure) => return vec![Check::bad("llm.server", failure)],
    };
    let wanted = &http.settings().model;
    vec![
        Check::good("llm.server", "an OpenAI-style server"),
        model_check(http, &names(&body, "data", "id"), |name| name == wanted),
    ]
}

fn model_check(http: &Http, names: &[String], same: impl Fn(&str) -> bool) -> Check {
    let model = &http.settings().model;
    if names.iter().any(|name| same(name)) {
        return Check::good("llm.model", format!("the server has {model}"));
    }
    let mut missing = http.said(
        amcp_protocol::ErrorCode::LlmModelMissing,
        &format!("model '{model}' not found"),
    );
    let shown: Vec<&str> = names.iter().map(String::as_str).take(10).collect();
    if !shown.is_empty() {
        missing.message = format!("{}; it has {}", missing.message, shown.join(", "));
    }
    Check::bad("llm.model", missing)
}

fn names(body: &Value, list: &str, field: &str) -> Vec<String> {
    body.get(list)
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(|model| model.get(field)?.as_str().map(str::to_owned))
        .collect()
}

async fn look(http: &Http, path: &str) -> Result<Value, Failure> {
    timeout(LOOK, http.get(path))
        .await
        .unwrap_or_else(|_| Err(http.too_slow(&format!("did not answer GET {path}"), LOOK)))
}

/// Sends a schema with an answer that no model would give by itself.
async fn honours_format(settings: &LlmSettings) -> Result<String, Failure> {
    let format = json!({
        "type": "object",
        "properties": {
            "shade": {"enum": ["amcp-dark", "amcp-light"]},
            "steps": {"type": "array", "items": {"type": "integer"}, "maxItems": 2},
        },
        "required": ["shade", "steps"],
        "additionalProperties": false,
    });
    let schema = Schema::compile(&format).map_err(|e| Failure::internal(e.to_string()))?;
    let request = ChatRequest {
        system: "You are polite.".to_owned(),
        turns: vec![ChatTurn::user("Say hello.".to_owned())],
        format: Some(format),
        max_tokens: PROBE_TOKENS,
    };
    let reply = settings.client()?.chat(request).await?;
    let kept =
        serde_json::from_str::<Value>(reply.text.trim()).is_ok_and(|value| schema.is_valid(&value));
    if kept {
        return Ok("the server's answers keep to the request's schema".to_owned());
    }
    Err(Failure::new(
        amcp_protocol::ErrorCode::LlmMalformed,
        format!("{} ignores the request's schema", settings.name()),
    )
    .hint(
        "AMCP checks and repairs plans anyway; a newer server or another model needs fewer repairs",
    ))
}
