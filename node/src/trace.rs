//! Starts the log: to stderr, as text or JSON.
//!
//! Does not decide what is worth logging; the filter comes from the configuration.

use std::io::{self, IsTerminal};

use reqwest::Url;
use tracing::Subscriber;
use tracing_appender::non_blocking::{NonBlocking, WorkerGuard};
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Registry, fmt, reload};

use crate::cli::Command;
use crate::config::Config;
use crate::config::value::LogFormat;
use crate::otlp::{self, Exporter};
use crate::output::Trouble;
use crate::root;

/// ractor logs whole frames at DEBUG, and hyper each byte that it waits for at TRACE; neither helps with AMCP.
/// Spans are for [`crate::otlp`].
const QUIET: &str =
    "amcp::trace=off,ractor=warn,hyper=info,hyper_util=info,reqwest=info,rustls=info";

/// Replaces the filter of the running log.
pub(crate) type Log = reload::Handle<EnvFilter, Registry>;

/// The filter that the configuration wants of this command.
///
/// # Errors
/// The filter is invalid.
pub(crate) fn filter(config: &Config, command: &Command) -> Result<EnvFilter, Trouble> {
    let wanted = match (&config.log, command) {
        (Some(filter), _) => filter.as_str(),
        (None, Command::Node) => "info",
        // The demo prints the kills itself.
        (None, Command::Demo(_)) => "error",
        (None, _) => "warn",
    };
    // Later directives win, so that a user can still ask for ractor's log.
    EnvFilter::try_new(format!("{QUIET},{wanted}")).map_err(|error| {
        Trouble::usage(format!("'{wanted}' is no log filter: {error}")).hint(
            "write a level (error, warn, info, debug, trace) or target=level, separated by commas",
        )
    })
}

/// A node's requests never wait for whoever reads its log: a thread writes it, and drops lines while 128,000 of them wait. Dropping the
/// guard writes the rest.
///
/// # Errors
/// Those of [`filter`].
pub(crate) fn start(
    config: &Config,
    command: &Command,
) -> Result<(Log, WorkerGuard, Option<Exporter>), Trouble> {
    let (filter, log) = reload::Layer::new(filter(config, command)?);
    let (writer, guard) = tracing_appender::non_blocking(io::stderr());
    let registry = tracing_subscriber::registry();
    let Some(url) = &config.otlp_url else {
        registry.with(filter).with(lines(config, writer)).init();
        return Ok((log, guard, None));
    };
    let url = format!("{}/v1/traces", url.as_str());
    let url = Url::parse(&url).map_err(|error| {
        Trouble::usage(format!("otlp_url is not usable: {error}"))
            .hint("give the collector's address, such as http://127.0.0.1:4318")
    })?;
    let (spans, exporter) = otlp::layer(url, root::name(config).as_str());
    // The filter of the log is not that of the spans.
    let lines = lines(config, writer).with_filter(filter);
    registry.with(lines).with(spans).init();
    Ok((log, guard, Some(exporter)))
}

fn lines<S>(config: &Config, writer: NonBlocking) -> Box<dyn Layer<S> + Send + Sync>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    let lines = fmt::layer()
        .with_writer(writer)
        .with_ansi(io::stderr().is_terminal());
    match config.log_format {
        LogFormat::Human => lines.boxed(),
        LogFormat::Json => lines.json().boxed(),
    }
}
