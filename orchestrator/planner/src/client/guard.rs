//! Guards an LLM client: bounds the calls at a time and the time of each, and sends none to a server that keeps failing.
//!
//! Does not decide how a request goes on without an answer.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use amcp_protocol::llm::PortFuture;
use amcp_protocol::{ErrorCode, Failure};
use parking_lot::Mutex;
use serde::Serialize;
use smart_default::SmartDefault;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::{Instant, sleep, timeout};
use tracing::{Instrument, Span, field};

use super::breaker::{Breaker, BreakerSettings, BreakerState, Outcome, Pass};
use super::{ChatReply, ChatRequest, LlmClient, SharedLlm, TextSink};

/// Longest pause for which a call waits when a server asks for one; after that the call fails.
const MAX_BACKOFF_MS: u64 = 2_000;

/// The bounds of a guard.
#[derive(Debug, Clone, SmartDefault)]
pub struct GuardSettings {
    /// Most calls at a time.
    // Ollama works on one prompt at a time by default; a second call hides the gap between prompts.
    #[default = 2]
    pub concurrency: usize,
    /// Most waiting calls.
    // Far more than a slow model answers within a request's default deadline.
    #[default = 64]
    pub queue: usize,
    /// Longest time of one call with its retries, without its wait in the queue.
    // A plan of 1,000 tokens at 10 tokens a second, and loading the model.
    #[default(Duration::from_secs(120))]
    pub call: Duration,
    /// Most attempts of one call while the server refuses before it begins.
    #[default = 3]
    pub attempts: u32,
    /// A call abandoned after this time counts as a failure.
    // People cancel sooner; after this time it is usually a request's deadline.
    #[default(Duration::from_secs(10))]
    pub patience: Duration,
    /// The bounds of the breaker.
    pub breaker: BreakerSettings,
}

/// The name of the histogram of the seconds of calls at an LLM server, by `outcome`: `answered`, `failed`, `abandoned`.
pub const CALL_SECONDS: &str = "amcp_llm_call_seconds";

/// The health of a guarded client, for a node's readiness.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LlmHealth {
    /// Provider and model, such as `ollama/llama3.1:8b`.
    pub name: String,
    /// The breaker's state: `closed` (calls go through), `open` (they do not), `half_open` (one call is on trial, or the next
    /// will be).
    pub breaker: &'static str,
    /// Failures in a row.
    pub failures: u32,
    /// Number of calls at the server.
    pub in_flight: usize,
    /// Number of waiting calls.
    pub waiting: usize,
    /// The last failure, if the last call failed.
    pub last_failure: Option<Failure>,
}

/// A client behind its guard.
#[expect(missing_debug_implementations, reason = "the client is a trait object")]
pub struct Guarded {
    client: SharedLlm,
    settings: GuardSettings,
    permits: Semaphore,
    waiting: AtomicUsize,
    began: Instant,
    seen: Mutex<Seen>,
}

struct Seen {
    breaker: Breaker,
    last_failure: Option<Failure>,
}

impl Guarded {
    /// Guards a client. Share the guard: bounds hold per guard.
    #[must_use]
    pub fn new(client: SharedLlm, settings: GuardSettings) -> Arc<Self> {
        Arc::new(Self {
            client,
            permits: Semaphore::new(settings.concurrency.max(1)),
            waiting: AtomicUsize::new(0),
            began: Instant::now(),
            seen: Mutex::new(Seen {
                breaker: Breaker::new(settings.breaker.clone()),
                last_failure: None,
            }),
            settings,
        })
    }

    /// The current health.
    #[must_use]
    pub fn health(&self) -> LlmHealth {
        let (state, last_failure) = {
            let seen = self.seen.lock();
            (seen.breaker.state(), seen.last_failure.clone())
        };
        let (breaker, failures) = match state {
            BreakerState::Closed(failures) => (state, failures),
            BreakerState::Open(until) if self.began.elapsed() < until => {
                (state, self.settings.breaker.failures)
            }
            BreakerState::Open(_) | BreakerState::HalfOpen => {
                (BreakerState::HalfOpen, self.settings.breaker.failures)
            }
        };
        LlmHealth {
            name: self.client.name(),
            breaker: breaker.name(),
            failures,
            in_flight: self
                .settings
                .concurrency
                .max(1)
                .saturating_sub(self.permits.available_permits()),
            waiting: self.waiting.load(Ordering::Relaxed),
            last_failure,
        }
    }

    async fn ask(
        &self,
        request: ChatRequest,
        sink: &mut dyn TextSink,
    ) -> Result<ChatReply, Failure> {
        let _permit = match self.permits.try_acquire() {
            Ok(permit) => permit,
            Err(_) => self.turn().await?,
        };
        let mut call = self.admit()?;
        let span = self.span();
        let asked = self.attempts(request, sink).instrument(span.clone());
        let result = timeout(self.settings.call, asked)
            .await
            .unwrap_or_else(|_| {
                Err(Failure::new(
                    ErrorCode::LlmTimeout,
                    format!(
                        "{} did not answer within {:?}",
                        self.client.name(),
                        self.settings.call
                    ),
                )
                .hint("try a smaller model, or allow more time"))
            });
        call.ended(&result);
        match &result {
            Ok(ChatReply { usage, .. }) => {
                span.record("gen_ai.usage.input_tokens", usage.prompt_tokens);
                span.record("gen_ai.usage.output_tokens", usage.reply_tokens);
            }
            Err(failure) => drop(span.record("error.type", failure.code.as_str())),
        }
        result
    }

    /// The span of a call, within that of its caller; OpenTelemetry's names for generative AI.
    fn span(&self) -> Span {
        let name = self.client.name();
        let (provider, model) = name.split_once('/').unwrap_or((&name, ""));
        tracing::info_span!(
            target: "amcp::trace",
            "chat",
            otel.name = format_args!("chat {model}"),
            otel.kind = "client",
            gen_ai.operation.name = "chat",
            gen_ai.provider.name = provider,
            gen_ai.request.model = model,
            gen_ai.usage.input_tokens = field::Empty,
            gen_ai.usage.output_tokens = field::Empty,
            error.type = field::Empty,
        )
    }

    async fn turn(&self) -> Result<SemaphorePermit<'_>, Failure> {
        let _place = Queued::take(&self.waiting, self.settings.queue).ok_or_else(|| {
            let (queue, name) = (self.settings.queue, self.client.name());
            Failure::new(
                ErrorCode::LlmBusy,
                format!("{queue} calls are already waiting for {name}"),
            )
            .hint("try again later, or raise llm_concurrency")
            .retry_after_ms(1_000)
        })?;
        self.permits
            .acquire()
            .await
            .map_err(|_| Failure::internal("the guard of the LLM is closed"))
    }

    /// Calls again while the server refuses before it begins: busy, or an expired kept-alive connection.
    async fn attempts(
        &self,
        request: ChatRequest,
        sink: &mut dyn TextSink,
    ) -> Result<ChatReply, Failure> {
        let mut attempt = 1;
        loop {
            let failure = match self.client.stream(request.clone(), sink).await {
                Ok(reply) => return Ok(reply),
                Err(failure) => failure,
            };
            let not_begun = matches!(failure.code, ErrorCode::LlmBusy | ErrorCode::LlmUnavailable);
            match failure.retry_after_ms {
                Some(ms)
                    if not_begun && ms <= MAX_BACKOFF_MS && attempt < self.settings.attempts =>
                {
                    // A server may report that it is busy after its first words.
                    sink.reset();
                    let jittered = 0.5 + fastrand::f64();
                    sleep(Duration::from_millis(ms).mul_f64(jittered) * attempt).await;
                    attempt += 1;
                }
                _ => return Err(failure),
            }
        }
    }

    fn admit(&self) -> Result<GuardedCall<'_>, Failure> {
        let mut seen = self.seen.lock();
        match seen.breaker.admit(self.began.elapsed()) {
            Ok(pass) => Ok(GuardedCall {
                guard: self,
                pass: Some(pass),
                since: Instant::now(),
            }),
            Err(wait) => {
                let mut failure = seen.last_failure.clone().unwrap_or_else(|| {
                    Failure::new(ErrorCode::LlmUnavailable, "the LLM server does not answer")
                });
                failure.code = ErrorCode::LlmUnavailable;
                failure.message = format!(
                    "{} failed repeatedly and gets no calls for a while; last: {}",
                    self.client.name(),
                    failure.message
                );
                let ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
                Err(failure.retry_after_ms(ms.max(1)))
            }
        }
    }
}

impl LlmClient for Guarded {
    fn name(&self) -> String {
        self.client.name()
    }

    fn stream<'a>(
        &'a self,
        request: ChatRequest,
        sink: &'a mut dyn TextSink,
    ) -> PortFuture<'a, Result<ChatReply, Failure>> {
        Box::pin(self.ask(request, sink))
    }
}

/// A place in the queue; dropping it frees the place.
struct Queued<'a>(&'a AtomicUsize);

impl<'a> Queued<'a> {
    fn take(waiting: &'a AtomicUsize, most: usize) -> Option<Self> {
        let before = waiting.fetch_add(1, Ordering::Relaxed);
        let place = Self(waiting);
        (before < most).then_some(place)
    }
}

impl Drop for Queued<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A call under way; dropped before its end, it counts as abandoned.
struct GuardedCall<'a> {
    guard: &'a Guarded,
    pass: Option<Pass>,
    since: Instant,
}

impl GuardedCall<'_> {
    fn ended(&mut self, result: &Result<ChatReply, Failure>) {
        let outcome = match result {
            Err(failure)
                if matches!(
                    failure.code,
                    ErrorCode::LlmUnavailable | ErrorCode::LlmTimeout
                ) =>
            {
                Outcome::Failed
            }
            Ok(_) | Err(_) => Outcome::Answered,
        };
        self.tell(outcome, result.as_ref().err().cloned());
    }

    fn tell(&mut self, outcome: Outcome, failure: Option<Failure>) {
        let Some(pass) = self.pass.take() else { return };
        let ended = match outcome {
            Outcome::Answered => "answered",
            Outcome::Failed => "failed",
            Outcome::Abandoned => "abandoned",
        };
        metrics::histogram!(CALL_SECONDS, "outcome" => ended).record(self.since.elapsed());
        let now = self.guard.began.elapsed();
        let mut seen = self.guard.seen.lock();
        let before = seen.breaker.state().name();
        seen.breaker.record(pass, outcome, now, fastrand::f64());
        let after = seen.breaker.state().name();
        if after != before {
            let (llm, error) = (
                self.guard.client.name(),
                failure.as_ref().map(Failure::to_string),
            );
            tracing::info!(target: "amcp::llm", llm, before, after, error, "breaker changed");
        }
        if outcome != Outcome::Abandoned {
            seen.last_failure = failure;
        }
    }
}

impl Drop for GuardedCall<'_> {
    fn drop(&mut self) {
        let waited = self.since.elapsed();
        if waited < self.guard.settings.patience {
            self.tell(Outcome::Abandoned, None);
        } else {
            let name = self.guard.client.name();
            let failure = Failure::new(
                ErrorCode::LlmTimeout,
                format!("{name} did not answer in the request's time"),
            );
            self.tell(Outcome::Failed, Some(failure));
        }
    }
}

#[cfg(test)]
mod tests {
    use amcp_protocol::llm::Usage;

    use super::*;

    /// Answers after a second; remembers the most calls at a time.
    #[derive(Default)]
    struct Slow {
        now: AtomicUsize,
        peak: AtomicUsize,
    }

    impl LlmClient for Slow {
        fn name(&self) -> String {
            "slow".to_owned()
        }

        fn stream<'a>(
            &'a self,
            _: ChatRequest,
            _: &'a mut dyn TextSink,
        ) -> PortFuture<'a, Result<ChatReply, Failure>> {
            Box::pin(async {
                let now = self.now.fetch_add(1, Ordering::SeqCst) + 1;
                self.peak.fetch_max(now, Ordering::SeqCst);
                sleep(Duration::from_secs(1)).await;
                self.now.fetch_sub(1, Ordering::SeqCst);
                Ok(ChatReply {
                    text: "hi".to_owned(),
                    truncated: false,
                    usage: Usage::default(),
                })
            })
        }
    }

    fn hello() -> ChatRequest {
        ChatRequest {
            system: String::new(),
            turns: Vec::new(),
            format: None,
            max_tokens: 1,
        }
    }

    async fn codes(guarded: &Arc<Guarded>, calls: usize) -> Vec<Option<ErrorCode>> {
        let mut asked = tokio::task::JoinSet::new();
        for _ in 0..calls {
            let guarded = Arc::clone(guarded);
            asked.spawn(async move { guarded.chat(hello()).await.err().map(|f| f.code) });
        }
        asked.join_all().await
    }

    #[tokio::test(start_paused = true)]
    async fn calls_wait_for_their_turn_and_the_queue_is_bounded() {
        let slow = Arc::new(Slow::default());
        let settings = GuardSettings {
            concurrency: 2,
            queue: 3,
            ..GuardSettings::default()
        };
        let guarded = Guarded::new(Arc::clone(&slow) as SharedLlm, settings);
        let codes = codes(&guarded, 10).await;
        let busy = codes.iter().filter(|c| **c == Some(ErrorCode::LlmBusy));
        assert_eq!(busy.count(), 10 - 2 - 3);
        assert_eq!(codes.iter().filter(|c| c.is_none()).count(), 5);
        assert_eq!(slow.peak.load(Ordering::SeqCst), 2);
        let health = guarded.health();
        assert_eq!((health.in_flight, health.waiting), (0, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn a_caller_who_leaves_early_is_no_failure_and_one_who_leaves_late_is() {
        let settings = GuardSettings {
            patience: Duration::from_millis(500),
            ..GuardSettings::default()
        };
        let guarded = Guarded::new(Arc::new(Slow::default()), settings);
        for (after_ms, failures) in [(100, 0), (600, 1), (100, 1), (2_000, 0)] {
            let _ = timeout(Duration::from_millis(after_ms), guarded.chat(hello())).await;
            assert_eq!(guarded.health().failures, failures, "after {after_ms} ms");
        }
    }
}
