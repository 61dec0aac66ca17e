//! The command line's client of a running node: questions, plans and agents over HTTP, progress over server-sent events.
//!
//! Does not send a question again: a lost connection leaves its outcome unknown, and only an idempotency key makes that safe.

use std::error::Error;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use amcp_gateway::codes;
use amcp_protocol::{
    Answer, AnswerPiece, Failure, FlowAnswer, FlowId, Progress, RequestId, RunRequest, UserRequest,
};
use futures_util::StreamExt;
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderValue};
use reqwest::{Certificate, Identity, Method, RequestBuilder, Response, StatusCode, Url};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::audience::Audience;
use crate::config::Config;
use crate::config::value::{HttpUrl, Written};
use crate::output::Trouble;

/// The variable with the API key of the command line's user, for `--url`.
pub(crate) const KEY_VARIABLE: &str = "AMCP_KEY";
/// The variable with the address of the node to ask, in place of `--url`.
pub(crate) const URL_VARIABLE: &str = "AMCP_URL";
/// Time-out of a dial: ten times as long as to a node on the same continent.
const CONNECT: Duration = Duration::from_secs(5);
/// Most reconnections to a broken event stream; the request goes on without the stream.
const RESUMES: u32 = 5;
/// Pause before each reconnection.
const RESUME_AFTER: Duration = Duration::from_millis(300);
/// Longest line of an event stream: a plan of 32 tasks with params of 256 KiB.
const MAX_EVENT: usize = 1024 * 1024;

/// A client of one node.
#[derive(Debug)]
pub(crate) struct Client {
    http: reqwest::Client,
    base: Url,
}

/// An answer has an `error` too, among others.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Refused {
    error: Failure,
}

#[derive(Deserialize)]
struct Accepted {
    request_id: RequestId,
}

impl Client {
    /// Proves its user by the key in [`KEY_VARIABLE`], if there is one. Trusts the authorities in `ca`, and shows `client_cert`.
    ///
    /// # Errors
    /// `url` is not an HTTP address, the key is no text for a header, or a file of certificates is unusable.
    pub(crate) fn new(url: &str, config: &Config) -> Result<Self, Trouble> {
        // Without the text, which may hold a password.
        let unusable =
            |problem: String| Trouble::usage("the node's URL is not usable").hint(problem);
        let base = HttpUrl::parse(url).map_err(unusable)?;
        let base = Url::parse(&format!("{}/", base.as_str()))
            .map_err(|error| unusable(error.to_string()))?;
        let mut headers = HeaderMap::new();
        if let Some(key) = std::env::var(KEY_VARIABLE)
            .ok()
            .filter(|key| !key.is_empty())
        {
            let mut value =
                HeaderValue::try_from(format!("Bearer {}", key.trim())).map_err(|_| {
                    Trouble::usage(format!("the value of {KEY_VARIABLE} is no key"))
                        .hint("`amcp keys create` prints one: amcp_ID_SECRET")
                })?;
            value.set_sensitive(true);
            headers.insert(AUTHORIZATION, value);
        }
        let mut builder = amcp_outbound::client_of(&base)
            .default_headers(headers)
            .connect_timeout(CONNECT)
            // Nodes on other machines too: the environment's proxy serves the public network.
            .no_proxy();
        for certificate in
            pem(config.ca.as_deref(), Certificate::from_pem_bundle)?.unwrap_or_default()
        {
            builder = builder.add_root_certificate(certificate);
        }
        if let Some(identity) = pem(config.client_cert.as_deref(), Identity::from_pem)? {
            builder = builder.identity(identity);
        }
        let http = builder
            .build()
            .map_err(|error| Trouble::failed(format!("no HTTP client: {error}")))?;
        Ok(Self { http, base })
    }

    fn request(&self, method: Method, path: &str) -> Result<RequestBuilder, Trouble> {
        let url = self
            .base
            .join(path)
            .map_err(|error| Trouble::failed(format!("no address for {path}: {error}")))?;
        Ok(self.http.request(method, url))
    }

    async fn send(&self, request: RequestBuilder) -> Result<Response, Trouble> {
        request.send().await.map_err(|error| {
            let broke = if error.is_connect() {
                "no node listens there"
            } else {
                "the connection broke off"
            };
            let hint = "start a node with `amcp node`, or correct --url; `ask`, `run`, `plan` and `agents` need no node without it";
            let (reason, hint) = match of_certificates(&error) {
                Some(reason) => (reason, "name the file of the node's authority with --ca, and a certificate for this client with --client-cert if the node wants one"),
                None => (broke.to_owned(), hint),
            };
            let message = format!("no answer from {}: {reason}", self.base);
            Trouble::new(codes::EXIT_UNAVAILABLE, message).hint(hint)
        })
    }

    /// # Errors
    /// The node's refusal, or an answer that no node gives.
    async fn read<T: DeserializeOwned>(&self, response: Response) -> Result<T, Trouble> {
        let status = response.status();
        let body = response.bytes().await.map_err(|error| {
            Trouble::failed(format!("the answer of {} broke off: {error}", self.base))
        })?;
        if let Ok(refused) = serde_json::from_slice::<Refused>(&body) {
            return Err(refused.error.into());
        }
        serde_json::from_slice(&body).map_err(|_| not_a_node(&self.base, status))
    }

    /// # Errors
    /// The node's refusal.
    async fn unless_refused(&self, response: Response) -> Result<Response, Trouble> {
        if response.status().is_success() {
            return Ok(response);
        }
        let status = response.status();
        Err(match self.read::<Value>(response).await {
            Ok(_) => not_a_node(&self.base, status),
            Err(refused) => refused,
        })
    }

    /// Reads what the node has at a path.
    ///
    /// # Errors
    /// The node's refusal, or no connection to it.
    pub(crate) async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Trouble> {
        let response = self.send(self.request(Method::GET, path)?).await?;
        self.read(response).await
    }

    /// Sends a body and reads the answer.
    ///
    /// # Errors
    /// The node's refusal, or no connection to it.
    pub(crate) async fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T, Trouble> {
        let response = self.send(self.request(Method::POST, path)?.json(body));
        self.read(response.await?).await
    }

    /// A page of requests.
    ///
    /// # Errors
    /// The node's refusal, or no connection to it.
    pub(crate) async fn list(&self, filter: &[(&str, &str)]) -> Result<Value, Trouble> {
        let get = self.request(Method::GET, "requests")?.query(filter);
        self.read(self.send(get).await?).await
    }

    /// Sends the request. Returns its id once the node has accepted it.
    ///
    /// # Errors
    /// The node's refusal, or no connection to it.
    pub(crate) async fn begin(
        &self,
        request: &UserRequest,
        key: Option<&str>,
    ) -> Result<RequestId, Trouble> {
        let mut post = match &request.plan {
            None => self.request(Method::POST, "ask")?.json(request),
            Some(tasks) => self.request(Method::POST, "run")?.json(&RunRequest {
                tasks: tasks.clone(),
                deadline_ms: request.deadline_ms,
                flows: request.flows.clone(),
            }),
        };
        if let Some(key) = key {
            post = post.header("idempotency-key", key);
        }
        let response = self.send(post.header("prefer", "respond-async")).await?;
        let Accepted { request_id } = self.read(response).await?;
        Ok(request_id)
    }

    /// Waits for the answer to an accepted request; the audience sees the progress and answers the flows meanwhile.
    ///
    /// # Errors
    /// No connection to the node.
    pub(crate) async fn answer(
        &self,
        id: RequestId,
        audience: &mut Audience,
    ) -> Result<Arc<Answer>, Trouble> {
        let watched = self.watch(id, audience).await;
        audience.clear();
        watched?;
        self.get(&format!("requests/{id}")).await.map(Arc::new)
    }

    /// Cancels a request; an answer that is there stays. Returns the request as it is now.
    ///
    /// # Errors
    /// The node's refusal, or no connection to it.
    pub(crate) async fn cancel(&self, id: RequestId) -> Result<Value, Trouble> {
        let delete = self.request(Method::DELETE, &format!("requests/{id}"))?;
        self.read(self.send(delete).await?).await
    }

    /// Shows events up to the last one; connects again up to [`RESUMES`] times.
    async fn watch(&self, id: RequestId, audience: &mut Audience) -> Result<(), Trouble> {
        let mut last: Option<String> = None;
        for resume in 0..=RESUMES {
            if resume > 0 {
                tokio::time::sleep(RESUME_AFTER).await;
            }
            let mut get = self.request(Method::GET, &format!("requests/{id}/events"))?;
            if let Some(last) = &last {
                get = get.header("last-event-id", last);
            }
            let Ok(response) = self.send(get).await else {
                continue;
            };
            let response = self.unless_refused(response).await?;
            if self.follow(id, response, &mut last, audience).await {
                return Ok(());
            }
        }
        let message = format!("the events of request {id} broke off {} times", RESUMES + 1);
        Err(Trouble::new(codes::EXIT_UNAVAILABLE, message)
            .hint("the request goes on; GET /requests/{id} has its answer"))
    }

    /// Shows the events of one connection; true after the last one of the request.
    async fn follow(
        &self,
        id: RequestId,
        response: Response,
        last: &mut Option<String>,
        audience: &mut Audience,
    ) -> bool {
        let mut chunks = response.bytes_stream();
        let mut events = Events::default();
        loop {
            tokio::select! {
                chunk = chunks.next() => match chunk {
                    Some(Ok(chunk)) => events.buffer.extend_from_slice(&chunk),
                    Some(Err(_)) | None => return false,
                },
                (flow, answer) = audience.decided() => {
                    let judged = self.answer_flow(id, &flow, &answer).await;
                    audience.judged(judged);
                }
            }
            while let Some((id, data)) = events.next() {
                *last = id.or(last.take());
                let event = serde_json::from_str(&data).unwrap_or_default();
                if let Some(piece) = said::<AnswerPiece>(&event) {
                    audience.write(&piece);
                }
                if let Some(progress) = said::<Progress>(&event) {
                    audience.show(&progress);
                    if matches!(progress, Progress::Answered { .. }) {
                        return true;
                    }
                }
            }
            if events.buffer.len() > MAX_EVENT {
                return false;
            }
        }
    }

    /// # Errors
    /// Why the answer does not count, or that the node cannot be reached.
    async fn answer_flow(
        &self,
        id: RequestId,
        flow: &FlowId,
        answer: &FlowAnswer,
    ) -> Result<(), Failure> {
        let answered = async {
            let path = format!("requests/{id}/flows/{flow}");
            let post = self.request(Method::POST, &path)?.json(answer);
            self.unless_refused(self.send(post).await?).await
        };
        let answered = answered.await.map(drop);
        answered.map_err(Trouble::into_failure)
    }

    /// Hands each event of a request to `each`, as it comes, to the last one.
    ///
    /// # Errors
    /// The node's refusal, no connection to it, or a connection that breaks off.
    pub(crate) async fn events(
        &self,
        id: RequestId,
        mut each: impl FnMut(&Value) -> Result<(), Trouble>,
    ) -> Result<(), Trouble> {
        let get = self.request(Method::GET, &format!("requests/{id}/events"))?;
        let response = self.unless_refused(self.send(get).await?).await?;
        let mut chunks = response.bytes_stream();
        let mut events = Events::default();
        while let Some(Ok(chunk)) = chunks.next().await {
            events.buffer.extend_from_slice(&chunk);
            while let Some((_, data)) = events.next() {
                let event: Value = serde_json::from_str(&data).unwrap_or_default();
                each(&event)?;
                if matches!(said(&event), Some(Progress::Answered { .. })) {
                    return Ok(());
                }
            }
            if events.buffer.len() > MAX_EVENT {
                break;
            }
        }
        let message = format!("the events of request {id} broke off");
        Err(Trouble::new(codes::EXIT_UNAVAILABLE, message).hint("the request goes on; try again"))
    }

    /// The progress of an answered request, from the node's record.
    ///
    /// # Errors
    /// Those of [`Self::events`].
    pub(crate) async fn record(&self, id: RequestId) -> Result<Vec<Progress>, Trouble> {
        let mut record = Vec::new();
        let note = |event: &Value| {
            record.extend(said(event));
            Ok(())
        };
        self.events(id, note).await?;
        Ok(record)
    }
}

/// What a file in PEM holds; none without a file.
///
/// # Errors
/// The file cannot be read, or holds something else.
fn pem<T>(
    path: Option<&Path>,
    read: fn(&[u8]) -> reqwest::Result<T>,
) -> Result<Option<T>, Trouble> {
    let Some(path) = path else { return Ok(None) };
    let unusable = |error: &dyn Error| {
        Trouble::usage(format!("{} is unusable: {error}", path.display()))
            .hint("give a file in PEM: certificates for --ca, a certificate and its key for --client-cert")
    };
    let text = std::fs::read(path).map_err(|error| unusable(&error))?;
    read(&text).map(Some).map_err(|error| unusable(&error))
}

/// The innermost reason of an error if it speaks of certificates: one side does not trust the other's.
fn of_certificates(error: &reqwest::Error) -> Option<String> {
    let mut last: &dyn Error = error;
    while let Some(inner) = last.source() {
        last = inner;
    }
    let text = last.to_string();
    text.to_ascii_lowercase()
        .contains("certificate")
        .then_some(text)
}

fn not_a_node(base: &Url, status: StatusCode) -> Trouble {
    Trouble::failed(format!(
        "{base} answers ({status}), but not as an AMCP node does"
    ))
    .hint("check --url")
}

/// The part of an event stream that has arrived and was not read yet.
#[derive(Default)]
struct Events {
    buffer: Vec<u8>,
    id: Option<String>,
}

impl Events {
    /// The next event: its id, if it has one, and its data.
    fn next(&mut self) -> Option<(Option<String>, String)> {
        while let Some(end) = self.buffer.iter().position(|&byte| byte == b'\n') {
            let line: Vec<u8> = self.buffer.drain(..=end).collect();
            let line = String::from_utf8_lossy(&line);
            let line = line.trim_end();
            if let Some(value) = line.strip_prefix("id:") {
                self.id = Some(value.trim().to_owned());
            } else if let Some(data) = line.strip_prefix("data:") {
                return Some((self.id.take(), data.to_owned()));
            }
        }
        None
    }
}

/// The event's data; `None` for a type that this build does not know.
pub(crate) fn said<T: DeserializeOwned>(event: &Value) -> Option<T> {
    T::deserialize(event.get("data")?).ok()
}
