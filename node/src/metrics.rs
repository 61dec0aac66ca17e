//! A node's figures in Prometheus' text format: the histograms and counters that its parts keep, and the state of its agents, links and
//! language model at the time of the reading.
//!
//! Serves nothing; the gateway's GET /metrics does.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use amcp_cluster::{Cluster, MemberState};
use amcp_gateway::Metrics;
use amcp_orchestrator::OrchestratorHandle;
use amcp_planner::client::Guarded;
use amcp_registry::{AgentState, RegistryHandle};
use metrics::{counter, gauge};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use metrics_util::MetricKindMask;

use crate::output::Trouble;
use crate::root::ClusterPlace;
use crate::show::word;

/// Upper bounds in seconds: from a plan without a model to the longest request.
const SECONDS: [f64; 12] = [
    0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 120.0, 600.0,
];
/// A gauge of an agent or a member that is gone disappears after this time, which is longer than any usual period of readings.
const FORGOTTEN: Duration = Duration::from_secs(600);

/// Period of draining the histograms: some 100,000 samples of a busy node.
const UPKEEP: Duration = Duration::from_secs(5);

/// Every series: its name and its help text. Alert rules and dashboards may name no other.
fn series() -> impl Iterator<Item = (&'static str, &'static str)> {
    let lines = include_str!("metrics/series.txt").lines();
    lines.filter_map(|line| line.split_once(' '))
}

/// The process's recorder; its parts write to it by name.
fn recorder() -> Result<PrometheusHandle, Trouble> {
    static RECORDER: Mutex<Option<PrometheusHandle>> = Mutex::new(None);
    let mut made = RECORDER.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(recorder) = &*made {
        return Ok(recorder.clone());
    }
    let unusable = |error: &dyn std::fmt::Display| Trouble::failed(format!("no metrics: {error}"));
    let builder = PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &SECONDS)
        .map_err(|error| unusable(&error))?;
    let builder = builder.idle_timeout(MetricKindMask::GAUGE, Some(FORGOTTEN));
    let recorder = builder.build_recorder();
    let handle = recorder.handle();
    if metrics::set_global_recorder(recorder).is_ok() {
        for (name, help) in series() {
            if name.ends_with("_total") {
                metrics::describe_counter!(name, help);
            } else if name.ends_with("_seconds") && name != "amcp_link_silence_seconds" {
                metrics::describe_histogram!(name, help);
            } else {
                metrics::describe_gauge!(name, help);
            }
        }
    }
    // The recorder keeps each sample of a histogram until somebody drains it, and perhaps nobody ever reads the metrics.
    let (kept, (stop, stopped)) = (handle.clone(), mpsc::channel::<()>());
    let upkeep = move || {
        let _never = stop;
        while stopped.recv_timeout(UPKEEP) == Err(RecvTimeoutError::Timeout) {
            kept.run_upkeep();
        }
    };
    let thread = thread::Builder::new().name("amcp-metrics".to_owned());
    thread.spawn(upkeep).map_err(|error| unusable(&error))?;
    Ok(made.insert(handle).clone())
}

/// Reads a node's figures.
pub(crate) struct Readings {
    orchestrator: OrchestratorHandle,
    registry: RegistryHandle,
    cluster: Option<Cluster>,
    llm: Option<Arc<Guarded>>,
}

impl Readings {
    pub(crate) fn of(
        (orchestrator, registry): (&OrchestratorHandle, &RegistryHandle),
        place: Option<&ClusterPlace>,
        llm: Option<Arc<Guarded>>,
    ) -> Self {
        Self {
            orchestrator: orchestrator.clone(),
            registry: registry.clone(),
            cluster: place.map(|place| place.cluster.clone()),
            llm,
        }
    }

    /// The function behind GET /metrics.
    ///
    /// # Errors
    /// The recorder cannot be made.
    pub(crate) fn text(self) -> Result<Metrics, Trouble> {
        let recorder = recorder()?;
        Ok(Arc::new(move || {
            self.requests();
            self.agents();
            self.links();
            self.llm();
            gauge!("amcp_build_info", "version" => env!("CARGO_PKG_VERSION")).set(1);
            recorder.run_upkeep();
            recorder.render()
        }))
    }

    fn requests(&self) {
        let counts = self.orchestrator.counts();
        counter!("amcp_requests_accepted_total").absolute(counts.accepted);
        counter!("amcp_requests_crashed_total").absolute(counts.crashed);
        counter!("amcp_retries_total").absolute(counts.retries);
        for (why, number) in [
            ("duplicate", counts.dropped_duplicate),
            ("late", counts.dropped_late),
            ("foreign", counts.dropped_foreign),
        ] {
            counter!("amcp_responses_dropped_total", "why" => why).absolute(number);
        }
        gauge!("amcp_requests_in_flight").set(as_f64(self.orchestrator.in_flight() as u64));
    }

    fn agents(&self) {
        let directory = self.registry.directory();
        for &state in AgentState::ALL {
            let number = directory
                .entries()
                .filter(|entry| entry.state == state)
                .count();
            gauge!("amcp_agents", "state" => word(&state)).set(as_f64(number as u64));
        }
        // Each node tells of its own agents.
        for entry in directory.entries().filter(|entry| entry.node.is_none()) {
            let (load, agent) = (&entry.load, entry.id().to_string());
            let now = |number: &AtomicU32| f64::from(number.load(Relaxed));
            gauge!("amcp_agent_queued", "agent" => agent.clone()).set(now(&load.queued));
            gauge!("amcp_agent_running", "agent" => agent.clone()).set(now(&load.running));
            let total = |number: &AtomicU64| number.load(Relaxed);
            counter!("amcp_agent_restarts_total", "agent" => agent.clone())
                .absolute(total(&load.restarts));
            let ended = [("done", &load.done), ("failed", &load.failed)];
            for (outcome, number) in ended {
                counter!("amcp_agent_tasks_total", "agent" => agent.clone(), "outcome" => outcome)
                    .absolute(total(number));
            }
        }
    }

    fn links(&self) {
        let Some(cluster) = &self.cluster else {
            return;
        };
        let view = cluster.view();
        let counts = view.counts;
        for (event, number) in [
            ("established", counts.links),
            ("evicted", counts.evicted),
            ("refused", counts.refused),
        ] {
            counter!("amcp_links_total", "event" => event).absolute(number);
        }
        for (reason, number) in [
            (
                "not_allowed",
                counts.not_allowed.saturating_sub(counts.unproven),
            ),
            ("unproven", counts.unproven),
        ] {
            counter!("amcp_peers_refused_total", "reason" => reason).absolute(number);
        }
        for &state in MemberState::ALL {
            let number = view
                .members
                .iter()
                .filter(|member| member.state == state)
                .count();
            gauge!("amcp_members", "state" => word(&state)).set(as_f64(number as u64));
        }
        for member in view.members {
            let peer = member.name.to_string();
            if let Some(ms) = member.heartbeat_age_ms {
                gauge!("amcp_link_silence_seconds", "peer" => peer.clone())
                    .set(Duration::from_millis(ms));
                gauge!("amcp_link_queued_bytes", "peer" => peer).set(as_f64(member.queued_bytes));
            }
        }
    }

    fn llm(&self) {
        let Some(llm) = &self.llm else {
            return;
        };
        let health = llm.health();
        gauge!("amcp_llm_open").set(f64::from(u8::from(health.breaker == "open")));
        gauge!("amcp_llm_waiting").set(as_f64(health.waiting as u64));
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "a gauge is a double; counts stay below 2^53"
)]
const fn as_f64(number: u64) -> f64 {
    number as f64
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use amcp_orchestrator::{PHASE_SECONDS, REFUSED, REQUEST_SECONDS, TASK_SECONDS, TOKENS};
    use amcp_planner::client::CALL_SECONDS;

    use super::*;

    /// The series that a text names, without the suffixes of histograms.
    fn named(text: &str) -> BTreeSet<String> {
        let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        let names = words.filter(|word| word.starts_with("amcp_"));
        let series = names.map(|name| {
            let suffixes = ["_bucket", "_sum", "_count"].into_iter();
            let mut whole = suffixes.filter_map(|suffix| name.strip_suffix(suffix));
            whole.next().unwrap_or(name).to_owned()
        });
        series.collect()
    }

    #[test]
    fn the_document_lists_every_series() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/OPERATIONS.md");
        let document = std::fs::read_to_string(path).unwrap();
        let rows = series().map(|(name, help)| format!("| `{name}` | {help} |\n"));
        let rows: String = rows.collect();
        assert!(
            document.contains(&rows),
            "docs/OPERATIONS.md needs these rows:\n{rows}"
        );
    }

    #[test]
    fn alerts_and_dashboard_name_only_series_that_exist() {
        let known: BTreeSet<String> = series().map(|(name, _)| name.to_owned()).collect();
        assert!(series().is_sorted());
        for name in [
            CALL_SECONDS,
            TOKENS,
            PHASE_SECONDS,
            REQUEST_SECONDS,
            REFUSED,
            TASK_SECONDS,
        ] {
            assert!(known.contains(name), "{name}");
        }
        for file in ["prometheus/alerts.yml", "grafana/amcp.json"] {
            let path = Path::new(env!("CARGO_MANIFEST_DIR"))
                .join("deploy")
                .join(file);
            let named = named(&std::fs::read_to_string(path).unwrap());
            assert!(named.len() > 5, "{file}");
            let unknown: Vec<_> = named.difference(&known).collect();
            assert!(unknown.is_empty(), "{file}: {unknown:?}");
        }
    }
}
