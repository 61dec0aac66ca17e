//! Makes each part of a node from the configuration, with the function that starts it.
//!
//! Starts nothing; the root supervisor does.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;

use amcp_cluster::Cluster;
use amcp_orchestrator::{OrchestratorHandle, Settings};
use amcp_plan::PlanLimits;
use amcp_planner::SharedPlanner;
use amcp_planner::aside::Aside;
use amcp_planner::client::{
    ApiKey, GuardSettings, Guarded, LlmSettings, Provider, SharedLlm, parse_ollama_url,
    parse_openai_url,
};
use amcp_planner::embedded::{EmbeddedPlanner, QueryFill, ranked};
use amcp_planner::llm::{LlmPlanner, WithFallback};
use amcp_registry::{RegistryHandle, Restart, RestartPolicy};
use amcp_specialists::reports::Quota;
use amcp_specialists::{ChildSpec, SupervisorConfig, builtin};
use ractor::{Actor, ActorCell};

use super::Supervisors;
use super::delegate::{DelegateActor, Delegated};
use super::http::{Http, HttpActor};
use super::left_out::LeftOut;
use super::supervisor::{PartSpec, Start};
use super::sweeper::SweeperActor;
use crate::config::Config;
use crate::config::value::{HttpUrl, LlmKind, Secret, Text};
use crate::output::Trouble;

/// The settings of the configured LLM's client; none without an LLM.
///
/// # Errors
/// A model, an address or a key is missing or unusable.
pub(crate) fn llm_settings(config: &Config) -> Result<Option<LlmSettings>, Trouble> {
    let model = || {
        config.model.clone().ok_or_else(|| {
            Trouble::usage("no model is chosen for the LLM").hint("name one with --model")
        })
    };
    let unusable = |error: amcp_planner::client::UrlError| Trouble::usage(error.to_string());
    let (provider, url) = match config.llm {
        LlmKind::Embedded => return Ok(None),
        LlmKind::Ollama => {
            let url = parse_ollama_url(config.ollama_url.as_str()).map_err(unusable)?;
            (Provider::Ollama, url)
        }
        LlmKind::Openai => {
            let url = config.openai_url.as_ref().ok_or_else(|| {
                Trouble::usage("no address is given for the OpenAI-style server")
                    .hint("add --openai-url URL")
            })?;
            let url = parse_openai_url(url.as_str()).map_err(unusable)?;
            (Provider::OpenAi, url)
        }
    };
    let mut settings = LlmSettings::new(provider, url, model()?);
    settings.num_ctx = config.llm_context.get();
    settings.api_key = key(config)?;
    Ok(Some(settings))
}

fn key(config: &Config) -> Result<Option<ApiKey>, Trouble> {
    if config.llm != LlmKind::Openai {
        return Ok(None);
    }
    let key = config.openai_key.as_ref().map(Secret::reveal).transpose();
    key.map(|key| key.map(ApiKey::new))
        .map_err(|problem| Trouble::usage(format!("there is no openai_key: {problem}")))
}

/// The configured LLM behind its guard.
///
/// # Errors
/// Those of [`llm_settings`].
pub(super) fn llm(config: &Config) -> Result<Option<Arc<Guarded>>, Trouble> {
    let Some(settings) = llm_settings(config)? else {
        return Ok(None);
    };
    let guard = GuardSettings {
        concurrency: config.llm_concurrency.get() as usize,
        call: *config.llm_timeout,
        ..GuardSettings::default()
    };
    Ok(Some(Guarded::new(settings.client()?, guard)))
}

/// Why a node that needs this LLM is not ready: the breaker is open. When the breaker lets a try through the node is ready
/// again, else no request would try.
pub(super) fn llm_trouble(llm: &Guarded) -> Option<String> {
    let health = llm.health();
    let why = health.last_failure.map(|failure| failure.message);
    (health.breaker == "open").then(|| {
        format!(
            "the LLM {} gets no calls for a while after {} failures: {}",
            health.name,
            health.failures,
            why.unwrap_or_default()
        )
    })
}

/// The configured planner. The embedded one ranks capabilities and fills params for the LLM, and is its fallback if
/// `llm_fallback` is set.
pub(super) fn planner(config: &Config, llm: Option<SharedLlm>) -> SharedPlanner {
    // One core stays free for all else.
    let cores = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
    let embedded = Arc::new(Aside::new(EmbeddedPlanner::new(), cores - 1));
    let Some(llm) = llm else {
        return embedded;
    };
    let primary = LlmPlanner::new(llm)
        .ranked_by(Arc::new(ranked))
        .filled_by(Arc::new(|query, today| {
            Box::new(QueryFill::new(query, today))
        }));
    let primary = Arc::new(primary);
    if config.llm_fallback {
        Arc::new(WithFallback {
            primary,
            fallback: embedded,
        })
    } else {
        primary
    }
}

/// The configured planner, which online names what only `--offline` offers.
pub(super) fn planner_of_node(config: &Config, llm: Option<SharedLlm>) -> SharedPlanner {
    let planner = planner(config, llm);
    match config.offline {
        true => planner,
        false => Arc::new(LeftOut::new(planner)),
    }
}

/// The settings of the orchestrator.
///
/// # Errors
/// `deadline` is longer than `max_deadline`.
pub(super) fn orchestrator_settings(config: &Config) -> Result<Settings, Trouble> {
    if *config.deadline > *config.max_deadline {
        return Err(Trouble::usage("deadline is longer than max_deadline")
            .hint("`amcp config show` says where each comes from"));
    }
    Ok(Settings {
        max_requests: config.max_requests.get() as usize,
        default_deadline: *config.deadline,
        max_deadline: *config.max_deadline,
        attempts: config.attempts.get(),
        limits: PlanLimits {
            tasks: config.max_tasks.get() as usize,
            ..PlanLimits::default()
        },
        llm_calls: config.llm_calls.get(),
        result_bytes: config.result_bytes.get(),
        retained: config.retained.get() as usize,
        domain: config.domain.clone().map(|domain| domain.0),
        meshed: config.cluster.is_some(),
        ..Settings::default()
    })
}

/// The settings of the built-in specialists.
pub(crate) fn specialist_settings(config: &Config, llm: Option<SharedLlm>) -> builtin::Settings {
    let text = |url: &Option<Text<HttpUrl>>| url.as_ref().map(|url| url.as_str().to_owned());
    builtin::Settings {
        offline: config.offline,
        weather_url: text(&config.weather_url),
        geocoding_url: text(&config.geocoding_url),
        quota: Quota {
            count: config.report_count.get() as usize,
            bytes: config.report_bytes.get() as u64,
        },
        llm,
        ..builtin::Settings::new(&config.data)
    }
}

/// The URL of a node without `public_url`; loopback for a node that listens on every address.
pub(crate) fn guessed_url(config: &Config, mut address: SocketAddr) -> String {
    match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => address.set_ip(Ipv4Addr::LOCALHOST.into()),
        IpAddr::V6(ip) if ip.is_unspecified() => address.set_ip(Ipv6Addr::LOCALHOST.into()),
        IpAddr::V4(_) | IpAddr::V6(_) => {}
    }
    format!("{}://{address}", scheme(config))
}

/// The scheme of the gateway's URLs.
pub(crate) fn scheme(config: &Config) -> &'static str {
    if config.tls_cert.is_some() {
        "https"
    } else {
        "http"
    }
}

/// A part that each start makes of `of`.
fn part<T, F, C>(name: &'static str, of: T, start: F) -> PartSpec
where
    T: Clone + Send + Sync + 'static,
    F: Fn(T, ActorCell) -> C + Send + Sync + 'static,
    C: Future<Output = Result<ActorCell, ractor::SpawnErr>> + Send + 'static,
{
    let start: Start = Arc::new(move |supervisor| {
        let started = start(of.clone(), supervisor);
        Box::pin(async move { started.await.map_err(|error| error.to_string()) })
    });
    PartSpec {
        name,
        policy: RestartPolicy::default(),
        start,
    }
}

/// A part that is one actor.
fn actor_part<A>(name: &'static str, actor: fn() -> A, args: A::Arguments) -> PartSpec
where
    A: Actor,
    A::Arguments: Clone + Sync,
{
    part(name, args, move |args, supervisor| async move {
        let (started, _) = Actor::spawn_linked(None, actor(), args, supervisor).await?;
        Ok(started.get_cell())
    })
}

pub(super) fn registry_part(registry: RegistryHandle) -> PartSpec {
    part("registry", registry, |registry, supervisor| async move {
        Ok(registry.spawn(Some(supervisor)).await?.0.get_cell())
    })
}

/// The planner and the orchestrator; in a mesh also the orchestrator's agent.
pub(super) fn planning_parts(
    orchestrator: &OrchestratorHandle,
    delegated: Option<Delegated>,
) -> Vec<PartSpec> {
    let of = || orchestrator.clone();
    let planner = part("planner", of(), |orchestrator, supervisor| async move {
        Ok(orchestrator.spawn_planner(Some(supervisor)).await?.0)
    });
    let actor = part(
        "orchestrator",
        of(),
        |orchestrator, supervisor| async move { Ok(orchestrator.spawn(Some(supervisor)).await?.0) },
    );
    let delegate = delegated.map(|made_of| actor_part("delegate", || DelegateActor, made_of));
    [planner, actor].into_iter().chain(delegate).collect()
}

pub(super) fn cluster_part(cluster: Cluster) -> PartSpec {
    part("cluster", cluster, |cluster, supervisor| async move {
        cluster.spawn(Some(supervisor)).await
    })
}

pub(super) fn specialists_part(
    registry: RegistryHandle,
    agents: Vec<ChildSpec>,
    current: Arc<Supervisors>,
) -> PartSpec {
    let of = (registry, agents, current);
    part(
        "specialists",
        of,
        |(registry, agents, current), supervisor| async move {
            let config = SupervisorConfig::new(registry, agents);
            let handle = config.start(Some(supervisor)).await?;
            let cell = handle.cell();
            current.send_replace(Some(handle));
            Ok(cell)
        },
    )
}

pub(super) fn sweeper_part(reports: PathBuf, config: &Config) -> PartSpec {
    let days = config.report_days.get();
    actor_part("sweeper", || SweeperActor, (reports, days))
}

pub(super) fn http_part(name: &'static str, http: Arc<Http>) -> PartSpec {
    let mut spec = actor_part(name, || HttpActor, http);
    // The actor stops by itself when the node closes it.
    spec.policy.restart = Restart::Transient;
    spec
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use amcp_planner::client::{ChatReply, ChatRequest, LlmClient};
    use amcp_protocol::llm::{PortFuture, TextSink};
    use amcp_protocol::{ErrorCode, Failure};

    use super::*;

    #[test]
    fn links_name_an_address_that_can_be_reached() {
        for (address, url) in [
            ("0.0.0.0:8080", "http://127.0.0.1:8080"),
            ("[::]:8080", "http://[::1]:8080"),
            ("192.0.2.7:80", "http://192.0.2.7:80"),
        ] {
            assert_eq!(
                guessed_url(&Config::default(), address.parse().unwrap()),
                url
            );
        }
    }

    struct Down;

    impl LlmClient for Down {
        fn name(&self) -> String {
            "ollama/none".to_owned()
        }

        fn stream<'a>(
            &'a self,
            _: ChatRequest,
            _: &'a mut dyn TextSink,
        ) -> PortFuture<'a, Result<ChatReply, Failure>> {
            Box::pin(async { Err(Failure::new(ErrorCode::LlmTimeout, "it hangs")) })
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_llm_that_is_left_alone_is_named_until_it_may_be_tried_again() {
        let settings = GuardSettings::default();
        let (failures, open) = (settings.breaker.failures, settings.breaker.open);
        let llm = Guarded::new(Arc::new(Down), settings);
        for _ in 0..failures {
            assert_eq!(llm_trouble(&llm), None);
            let request = ChatRequest {
                system: String::new(),
                turns: Vec::new(),
                format: None,
                max_tokens: 1,
            };
            llm.chat(request).await.unwrap_err();
        }
        let trouble = llm_trouble(&llm).unwrap();
        assert!(trouble.contains("ollama/none"), "{trouble}");
        assert!(trouble.contains("it hangs"), "{trouble}");
        tokio::time::advance(open + Duration::from_millis(1)).await;
        assert_eq!(llm_trouble(&llm), None);
    }
}
