//! Spans of a trace that crosses nodes: spans of `tracing` under one target, for a node that exports them.
//!
//! Knows no exporter and takes no time. Without a subscriber for the target a span costs one look at a flag. Nothing that a user
//! or an agent says is in a span: names, codes and counts only.

use amcp_protocol::request::is_traceparent;
use tracing::{Level, Span, enabled, field, info_span};

/// The target of the spans.
pub const TARGET: &str = "amcp::trace";

/// Begins a span below the caller's, in a new trace if the caller has none. `kind` is OpenTelemetry's: `server`, `client`,
/// `internal`; its name says what is done, and with which capability or route. Returns the span, which ends when its last clone is dropped, and the trace context for all that it causes.
#[must_use]
pub fn begin(
    kind: &'static str,
    (what, of): (&str, &str),
    parent: Option<String>,
) -> (Span, Option<String>) {
    let above = parent.as_deref().filter(|parent| is_traceparent(parent));
    if !enabled!(target: TARGET, Level::INFO) || above.is_some_and(|parent| !is_sampled(parent)) {
        return (Span::none(), parent);
    }
    let part = |at: usize, digits: usize| above.and_then(|parent| parent.get(at..at + digits));
    let random = || format!("{:032x}", fastrand::u128(1..));
    let trace = part(3, 32).map_or_else(random, str::to_owned);
    let id = format!("{:016x}", fastrand::u64(1..));
    let span = info_span!(
        target: TARGET,
        parent: None,
        "span",
        otel.name = format_args!("{what} {of}").to_string().trim_end(),
        otel.kind = kind,
        trace,
        id,
        above = part(36, 16),
        amcp.request = field::Empty,
        amcp.task = field::Empty,
        amcp.attempt = field::Empty,
        amcp.state = field::Empty,
        gen_ai.operation.name = field::Empty,
        gen_ai.tool.name = field::Empty,
        gen_ai.agent.name = field::Empty,
        http.request.method = field::Empty,
        http.route = field::Empty,
        http.response.status_code = field::Empty,
        error.type = field::Empty,
    );
    (span, Some(format!("00-{trace}-{id}-01")))
}

/// Whether the caller records the trace: the lowest bit of the flags.
fn is_sampled(traceparent: &str) -> bool {
    let flags = traceparent.get(53..55);
    flags
        .and_then(|flags| u8::from_str_radix(flags, 16).ok())
        .is_some_and(|flags| flags & 1 == 1)
}
