//! `amcp node`: serves over HTTP and for other nodes until told to stop, then drains.
//!
//! Does not serve or supervise by itself; the root supervisor's parts do.

use std::sync::Arc;
use std::time::Duration;

use amcp_gateway::codes;
use amcp_orchestrator::Drained;
use amcp_protocol::RequestId;
use tokio::signal::unix::SignalKind;

use crate::cli::Command;
use crate::config::Config;
use crate::config::layers::Loaded;
use crate::output::{self, Trouble};
use crate::root::{self, Node, Purpose};
use crate::trace::{self, Log};

/// Exit code of a process that a signal ended (128 + SIGINT).
pub(super) const EXIT_INTERRUPTED: u8 = 130;

/// # Errors
/// The node does not start, or a part of it ended too often.
pub(crate) async fn run(loaded: Loaded, log: &Log) -> Result<u8, Trouble> {
    // Before anything starts, so that an early signal is not lost.
    let mut signals = Signals::listen()?;
    open_more_files();
    let mut hangup = tokio::signal::unix::signal(SignalKind::hangup())?;
    let node = Node::start(&loaded.config, Purpose::Serve).await?;
    announce(&node, &loaded.config)?;
    let loaded = Arc::new(loaded);
    let mut current = Arc::clone(&loaded);
    loop {
        tokio::select! {
            () = signals.next() => break,
            _ = hangup.recv() => {
                tokio::select! {
                    () = signals.next() => break,
                    new = reload(&node, log, &loaded, &current) => current = new.unwrap_or(current),
                }
            }
            reason = node.failed() => {
                return Err(Trouble::failed(format!("the node cannot go on: {reason}"))
                    .hint("the log says why it ended; start it again"));
            }
        }
    }
    let drain = *current.config.drain;
    output::say(format_args!(
        "draining for at most {} s; a second signal ends the node at once",
        drain.as_secs_f64()
    ));
    tokio::select! {
        ended = node.drain(drain) => {
            output::say(summary(&ended.requests, drain));
            for left in ended.leftover {
                output::say(format_args!("{} left {} tasks", left.agent, left.tasks));
            }
            if ended.tasks_of_others > 0 {
                output::say(format_args!("{} tasks of other nodes were left: those nodes try them again elsewhere", ended.tasks_of_others));
            }
            Ok(if ended.requests.cut_off.is_empty() { codes::EXIT_ANSWERED } else { codes::EXIT_FAILED })
        }
        () = signals.next() => Ok(EXIT_INTERRUPTED),
    }
}

/// Reads the configuration again and takes over what a running node can; a configuration that is unusable changes nothing.
async fn reload(
    node: &Node,
    log: &Log,
    started: &Loaded,
    now: &Arc<Loaded>,
) -> Option<Arc<Loaded>> {
    let (before, https) = (Arc::clone(now), node.https());
    // Disks may be slow, and a signal is heard meanwhile.
    let read = tokio::task::spawn_blocking(move || {
        let new = before.again()?;
        let filter = trace::filter(&new.config, &Command::Node)?;
        Ok((root::checked(&new.config, https.as_deref())?, new, filter))
    });
    let read = read.await;
    match read.unwrap_or_else(|error| Err(Trouble::failed(error.to_string()))) {
        Ok((settings, new, filter)) => {
            node.adopt(settings, &new.config, &now.config);
            // The log lives as long as the process.
            let _ = log.reload(filter);
            let (taken, waits) = (new.changed(now, true), new.changed(started, false));
            tracing::info!(
                "configuration read again: {taken} changed; {waits} would change with a restart"
            );
            Some(Arc::new(new))
        }
        Err(trouble) => {
            let trouble = trouble.to_string().replace('\n', "; ");
            tracing::error!("the new configuration is unusable, and the old one stays: {trouble}");
            None
        }
    }
}

/// Says on which addresses the node listens, and what is risky about that.
fn announce(node: &Node, config: &Config) -> Result<(), Trouble> {
    if let Some(address) = node.address() {
        output::print(format_args!(
            "listening on {}://{address}",
            root::scheme(config)
        ))?;
    }
    if let Some(address) = node.admin() {
        if !address.ip().is_loopback() {
            tracing::warn!(%address, "`admin` shows health and metrics to everybody who can reach it, without a key");
        }
        output::print(format_args!("health on http://{address}"))?;
    }
    if let Some(place) = node.place() {
        let address = place.cluster.address();
        if !place.secured && !address.ip().is_loopback() {
            tracing::warn!(
                %address,
                "LINKS TO OTHER NODES ARE NOT ENCRYPTED: anyone who can read or change the traffic sees and can forge tasks and \
                 answers; `amcp cluster certs` makes certificates for --cluster-certs"
            );
        }
        let security = if place.secured { "mtls" } else { "plain" };
        output::print(format_args!(
            "cluster on {address} as {} ({security})",
            place.name
        ))?;
    }
    tracing::info!(data = %config.data.display(), agents = node.registry.directory().agents().len(), "ready");
    Ok(())
}

/// Raises this process's limit of open files to what the system allows: each connection is one, and the usual 1,024 are fewer
/// than `connections`.
fn open_more_files() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut files = getrlimit(Resource::Nofile);
    if files.current == files.maximum {
        return;
    }
    files.current = files.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, files) {
        tracing::warn!(%error, "the limit of open files stays as it is");
    }
}

fn summary(drained: &Drained, within: Duration) -> String {
    let left = |ids: &[RequestId], end: &str| {
        let named: Vec<String> = ids.iter().map(ToString::to_string).collect();
        let time = within.as_secs_f64();
        format!("{} {end} after {time} s: {}", ids.len(), named.join(" "))
    };
    let rest = match (&*drained.cut_off, &*drained.go_on) {
        ([], []) => "nothing left".to_owned(),
        ([], waiting) => left(waiting, "go on after the next start, stopped"),
        (failed, _) => left(failed, "answered as failed, cut off"),
    };
    format!("drained: {} answered meanwhile, {rest}", drained.answered)
}

/// SIGTERM and SIGINT.
pub(super) struct Signals {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
}

impl Signals {
    pub(super) fn listen() -> Result<Self, Trouble> {
        use tokio::signal::unix::signal;
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    pub(super) async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
