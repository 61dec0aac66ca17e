//! A fake LLM server, byte-exact on the wire (Ollama's protocol and OpenAI's), that answers by script and remembers its
//! requests.
//!
//! Contains no model: the tests write all its replies.

mod reply;
mod wire;

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::{Map, Value};
use tokio::net::TcpListener;
use tokio::task::{JoinHandle, JoinSet};

pub use reply::{End, Framing, Pace, Reply, Text};

/// A request to the server.
#[derive(Debug, Clone)]
pub struct Request {
    /// The method, such as `POST`.
    pub method: String,
    /// The path below the prefix, such as `/api/chat`.
    pub path: String,
    /// The headers by lower-case name.
    pub headers: BTreeMap<String, String>,
    /// The JSON body; null without one.
    pub body: Value,
}

impl Request {
    /// Whether it is a chat or completion.
    #[must_use]
    pub fn is_chat(&self) -> bool {
        matches!(self.path.as_str(), "/api/chat" | "/v1/chat/completions")
    }

    /// The text of one message; empty when there is none.
    #[must_use]
    pub fn message(&self, index: usize) -> &str {
        self.body
            .pointer(&format!("/messages/{index}/content"))
            .and_then(Value::as_str)
            .unwrap_or_default()
    }

    /// The text of the last message.
    #[must_use]
    pub fn last_message(&self) -> &str {
        let messages = self.body.get("messages").and_then(Value::as_array);
        self.message(messages.map_or(0, |m| m.len().saturating_sub(1)))
    }

    /// The schema that the answer must keep, of either protocol.
    #[must_use]
    pub fn format(&self) -> &Value {
        self.body
            .get("format")
            .or_else(|| self.body.pointer("/response_format/json_schema/schema"))
            .unwrap_or(&Value::Null)
    }
}

type Answer = Box<dyn Fn(&Request) -> Reply + Send>;

struct Shared {
    prefix: String,
    models: Vec<String>,
    script: VecDeque<Reply>,
    otherwise: Answer,
    requests: Vec<Request>,
}

/// The server; dropping it ends it and its connections.
#[expect(missing_debug_implementations, reason = "holds a closure")]
pub struct FakeOllama {
    address: SocketAddr,
    prefix: String,
    shared: Arc<Mutex<Shared>>,
    server: JoinHandle<()>,
}

impl FakeOllama {
    /// The only model that the server lists by default.
    pub const MODEL: &'static str = "fake:1b";

    /// Starts on a free port.
    pub async fn start() -> Self {
        Self::start_below("").await
    }

    /// Starts on a free port, below a path prefix such as `/llm`.
    ///
    /// # Panics
    /// The loopback address has no free port.
    pub async fn start_below(prefix: &str) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0))
            .await
            .expect("the loopback has a free port");
        let address = listener
            .local_addr()
            .expect("a bound socket has an address");
        let shared = Arc::new(Mutex::new(Shared {
            prefix: prefix.to_owned(),
            models: vec![Self::MODEL.to_owned()],
            script: VecDeque::new(),
            otherwise: Box::new(|_| {
                Reply::Status(500, "the script has no more replies".to_owned())
            }),
            requests: Vec::new(),
        }));
        let server = tokio::spawn(serve(listener, Arc::clone(&shared)));
        Self {
            address,
            prefix: prefix.to_owned(),
            shared,
            server,
        }
    }

    /// Its address with the prefix.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}{}", self.address, self.prefix)
    }

    /// Adds replies, one for each coming chat.
    pub fn script(&self, replies: impl IntoIterator<Item = Reply>) -> &Self {
        lock(&self.shared).script.extend(replies);
        self
    }

    /// Sets the answer to chats after the end of the script.
    pub fn otherwise(&self, answer: impl Fn(&Request) -> Reply + Send + 'static) -> &Self {
        lock(&self.shared).otherwise = Box::new(answer);
        self
    }

    /// Sets the models that the server lists.
    pub fn models(&self, names: &[&str]) -> &Self {
        lock(&self.shared).models = names.iter().map(|&n| n.to_owned()).collect();
        self
    }

    /// All requests so far.
    #[must_use]
    pub fn requests(&self) -> Vec<Request> {
        lock(&self.shared).requests.clone()
    }

    /// The chats among [`Self::requests`].
    #[must_use]
    pub fn chats(&self) -> Vec<Request> {
        let mut requests = self.requests();
        requests.retain(Request::is_chat);
        requests
    }
}

impl Drop for FakeOllama {
    fn drop(&mut self) {
        self.server.abort();
    }
}

fn lock(shared: &Mutex<Shared>) -> MutexGuard<'_, Shared> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn serve(listener: TcpListener, shared: Arc<Mutex<Shared>>) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        let shared = Arc::clone(&shared);
        connections.spawn(async move {
            // Fails when a client goes away in the middle, as some tests do.
            let _ = wire::converse(stream, |request| shared_reply(&shared, request)).await;
        });
        while connections.try_join_next().is_some() {}
    }
}

/// Remembers the request and chooses the answer.
fn shared_reply(shared: &Mutex<Shared>, mut request: Request) -> wire::Response {
    let mut shared = lock(shared);
    let Some(path) = request.path.strip_prefix(shared.prefix.as_str()) else {
        return wire::Response::text(404, "404 page not found");
    };
    request.path = path.to_owned();
    shared.requests.push(request.clone());
    match (request.method.as_str(), request.path.as_str()) {
        ("GET", "" | "/") => wire::Response::text(200, "Ollama is running"),
        ("POST", "/api/chat" | "/v1/chat/completions") => {
            let reply = shared
                .script
                .pop_front()
                .unwrap_or_else(|| (shared.otherwise)(&request));
            reply.response(&request)
        }
        // A collector of traces takes whatever comes.
        ("POST", "/v1/traces") => wire::Response::json(200, &Value::Object(Map::new())),
        _ => reply::resource(&request, &shared.models),
    }
}
