//! Exports the spans of [`amcp_registry::trace`] to a collector, as OTLP over HTTP in JSON.
//!
//! Makes no span. Never holds anybody up: what finds no place in the queue is dropped and counted.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use amcp_registry::trace::TARGET;
use jiff::Timestamp;
use reqwest::{Client, Url};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Subscriber, warn};
use tracing_subscriber::Layer;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::Context;
use tracing_subscriber::registry::LookupSpan;

/// Spans that wait: some seconds of a busy node, 16 MB at most.
const QUEUE: usize = 16_384;
/// Most spans in one request to the collector: about 300 KB.
const BATCH: usize = 512;
/// Pause after a batch that was not full.
const PAUSE: Duration = Duration::from_millis(200);
/// Time-out of a request to the collector.
const SEND: Duration = Duration::from_secs(10);
/// How long the end of the process waits for the last batches.
const LAST: Duration = Duration::from_secs(2);
/// Pause between two words in the log about trouble.
const SAY_AGAIN: Duration = Duration::from_secs(60);

/// Takes the spans of the target from the program.
pub(crate) struct Spans {
    queue: mpsc::Sender<Value>,
    dropped: Arc<AtomicU64>,
}

/// Sends them on.
pub(crate) struct Exporter {
    queue: mpsc::Receiver<Value>,
    dropped: Arc<AtomicU64>,
    url: Url,
    resource: Value,
}

/// A layer for the log, and what must run for its spans to arrive. `node` tells this node's spans from those of others.
pub(crate) fn layer<S>(url: Url, node: &str) -> (impl Layer<S> + Send + Sync, Exporter)
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    let (queue, waiting) = mpsc::channel(QUEUE);
    let dropped = Arc::<AtomicU64>::default();
    let spans = Spans {
        queue,
        dropped: Arc::clone(&dropped),
    };
    let of_node = [
        ("service.name", "amcp"),
        ("service.version", env!("CARGO_PKG_VERSION")),
        ("service.instance.id", node),
    ];
    let exporter = Exporter {
        queue: waiting,
        dropped,
        url,
        resource: json!({"attributes": of_node.map(|(key, value)| attribute(key, json!({"stringValue": value})))}),
    };
    let only = Targets::new().with_target(TARGET, LevelFilter::INFO);
    (spans.with_filter(only), exporter)
}

fn attribute(key: &str, value: Value) -> Value {
    json!({"key": key, "value": value})
}

/// A span under way.
#[derive(Default)]
struct Open {
    name: String,
    kind: String,
    trace: String,
    id: String,
    above: Option<String>,
    began: Timestamp,
    attributes: Vec<Value>,
    failed: bool,
}

impl Open {
    fn ended(self) -> Value {
        // The numbers of opentelemetry.proto.trace.v1.Span.SpanKind and Status.StatusCode.
        let kind = match self.kind.as_str() {
            "server" => 2,
            "client" => 3,
            _ => 1,
        };
        json!({
            "traceId": self.trace,
            "spanId": self.id,
            "parentSpanId": self.above.unwrap_or_default(),
            "name": self.name,
            "kind": kind,
            "startTimeUnixNano": self.began.as_nanosecond().to_string(),
            "endTimeUnixNano": Timestamp::now().as_nanosecond().to_string(),
            "attributes": self.attributes,
            "status": if self.failed { json!({"code": 2}) } else { json!({}) },
        })
    }

    fn number(&mut self, field: &Field, number: impl ToString) {
        let value = json!({"intValue": number.to_string()});
        self.attributes.push(attribute(field.name(), value));
    }
}

impl Visit for Open {
    fn record_str(&mut self, field: &Field, text: &str) {
        match field.name() {
            "otel.name" => self.name = text.to_owned(),
            "otel.kind" => self.kind = text.to_owned(),
            "trace" => self.trace = text.to_owned(),
            "id" => self.id = text.to_owned(),
            "above" => self.above = Some(text.to_owned()),
            name => {
                self.failed |= name == "error.type";
                let value = json!({"stringValue": text});
                self.attributes.push(attribute(name, value));
            }
        }
    }

    fn record_u64(&mut self, field: &Field, number: u64) {
        self.number(field, number);
    }

    fn record_i64(&mut self, field: &Field, number: i64) {
        self.number(field, number);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        self.record_str(field, &format!("{value:?}"));
    }
}

impl<S> Layer<S> for Spans
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let Some(span) = context.span(id) else { return };
        let mut open = Open {
            began: Timestamp::now(),
            ..Open::default()
        };
        attributes.record(&mut open);
        if open.trace.is_empty() {
            // It names no trace itself: it belongs to that of the span around it, and to none without one.
            let Some(around) = span.parent() else { return };
            let extensions = around.extensions();
            let Some(around) = extensions.get::<Open>() else {
                return;
            };
            open.trace.clone_from(&around.trace);
            open.above = Some(around.id.clone());
            open.id = format!("{:016x}", fastrand::u64(1..));
        }
        span.extensions_mut().insert(open);
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        let Some(span) = context.span(id) else { return };
        if let Some(open) = span.extensions_mut().get_mut::<Open>() {
            values.record(open);
        }
    }

    fn on_close(&self, id: Id, context: Context<'_, S>) {
        let Some(span) = context.span(&id) else {
            return;
        };
        let open = span.extensions_mut().remove::<Open>();
        if let Some(open) = open
            && self.queue.try_send(open.ended()).is_err()
        {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Exporter {
    /// Sends spans until the guard ends it, and then those that wait.
    pub(crate) fn start(self) -> Running {
        let stop = CancellationToken::new();
        Running(tokio::spawn(self.run(stop.clone())), stop)
    }

    async fn run(mut self, stop: CancellationToken) {
        let client = match amcp_outbound::client_of(&self.url).timeout(SEND).build() {
            Ok(client) => client,
            Err(error) => return warn!(%error, "no span can be sent"),
        };
        let mut batch = Vec::with_capacity(BATCH);
        let mut said: Option<Instant> = None;
        let mut lost = 0;
        loop {
            let more = self.queue.recv_many(&mut batch, BATCH);
            if stop.run_until_cancelled(more).await.is_none() {
                while batch.len() < BATCH
                    && let Ok(span) = self.queue.try_recv()
                {
                    batch.push(span);
                }
                if batch.is_empty() {
                    return;
                }
            }
            let whole = batch.len() == BATCH;
            let trouble = self.send(&client, std::mem::take(&mut batch)).await;
            lost += self.dropped.swap(0, Ordering::Relaxed);
            let why = trouble.err();
            lost += why.as_ref().map_or(0, |(spans, _)| *spans);
            if lost > 0 && said.is_none_or(|said| said.elapsed() > SAY_AGAIN) {
                said = Some(Instant::now());
                let why = why.map_or(
                    "more came than the collector took".to_owned(),
                    |(_, why)| why,
                );
                warn!(lost, why, "spans did not reach the collector (otlp_url)");
                lost = 0;
            }
            if !whole {
                stop.run_until_cancelled(sleep(PAUSE)).await;
            }
        }
    }

    /// # Errors
    /// How many spans were lost, and why.
    async fn send(&self, client: &Client, spans: Vec<Value>) -> Result<(), (u64, String)> {
        let lost = |why: &dyn std::fmt::Display| (spans.len() as u64, why.to_string());
        let scope = json!({"scope": {"name": "amcp"}, "spans": spans});
        let body = json!({"resourceSpans": [{"resource": self.resource, "scopeSpans": [scope]}]});
        let sent = client.post(self.url.clone()).json(&body).send().await;
        let answered = sent.and_then(reqwest::Response::error_for_status);
        // Its text may hold a password of the URL.
        answered
            .map(drop)
            .map_err(|error| lost(&error.without_url()))
    }
}

/// An exporter at work.
pub(crate) struct Running(tokio::task::JoinHandle<()>, CancellationToken);

impl Running {
    /// Sends what waits, within two seconds.
    pub(crate) async fn end(self) {
        self.1.cancel();
        let _ = timeout(LAST, self.0).await;
    }
}
