//! The specialists that AMCP ships, ready to be started: finance, reports, weather, stocks, jokes, arithmetic, summaries.
//!
//! Does not run them; that is the supervisor's. Nothing is opened or connected before a specialist's first task.
//!
//! A convention that serves composers without a language model: each result is an object whose field `text` holds one or two
//! complete sentences, for a person to read. The plain composer builds its answers of them. A report of the result is called by
//! its `title`, if it has one. [`amcp_protocol::terms`] lists what cards tell planners about their params.

mod expenses_analysis;
mod expenses_query;
mod jokes;
mod ledger;
mod maths;
mod money;
mod period;
mod report;
mod stocks;
mod summaries;
mod weather;

use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, LazyLock};

use amcp_protocol::llm::SharedLlm;
use amcp_protocol::{AgentCard, AgentId};

use crate::reports::Quota;
use crate::specialist::Specialist;
use crate::supervisor::Factory;

/// What the built-in specialists need to know.
#[derive(Clone)]
pub struct Settings {
    /// Where they write: the ledger (`ledger.sqlite`) and the reports (`reports/`). Made when needed.
    pub data_dir: PathBuf,
    /// Whether nothing may touch the network: shipped data is used instead, and says so.
    pub offline: bool,
    /// Base URL of the forecast service, in place of Open-Meteo's.
    pub weather_url: Option<String>,
    /// Base URL of the geocoding service, in place of Open-Meteo's.
    pub geocoding_url: Option<String>,
    /// The most that `data_dir/reports` may hold.
    pub quota: Quota,
    /// The language model, if one is configured.
    pub llm: Option<SharedLlm>,
}

impl Settings {
    /// Online, without a language model, with the public services.
    #[must_use]
    pub fn new(data_dir: impl Into<PathBuf>) -> Self {
        Self {
            data_dir: data_dir.into(),
            offline: false,
            weather_url: None,
            geocoding_url: None,
            quota: Quota::default(),
            llm: None,
        }
    }
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("data_dir", &self.data_dir)
            .field("offline", &self.offline)
            .field("weather_url", &self.weather_url)
            .field("geocoding_url", &self.geocoding_url)
            .field("quota", &self.quota)
            .field("llm", &self.llm.as_ref().map(|llm| llm.name()))
            .finish()
    }
}

/// Every specialist that can work with these settings, by its agent's id.
#[must_use]
pub fn all(settings: &Settings) -> Vec<(AgentId, Factory)> {
    let data_dir = settings.data_dir.clone();
    let (for_reports, for_weather) = (settings.clone(), settings.clone());
    let llm = settings.llm.clone();
    let mut all = vec![
        entry(expenses_query::AGENT, move || {
            expenses_query::ExpensesQuery::new(&data_dir)
        }),
        entry(expenses_analysis::AGENT, || {
            expenses_analysis::ExpensesAnalysis
        }),
        entry(report::AGENT, move || {
            report::ReportWriter::new(&for_reports)
        }),
        entry(weather::AGENT, move || weather::Weather::new(&for_weather)),
        entry(jokes::AGENT, || jokes::Jokes),
        entry(maths::AGENT, || maths::Maths),
        entry(summaries::AGENT, move || {
            summaries::Summaries::new(llm.clone())
        }),
    ];
    // Under the tickers of real companies, made-up prices are for trying things out only.
    if settings.offline {
        all.push(entry(stocks::AGENT, || stocks::Stocks));
    }
    all
}

/// The cards in `data/cards.json`.
static CARDS: LazyLock<Vec<AgentCard>> = LazyLock::new(|| {
    serde_json::from_str(include_str!("../data/cards.json")).expect("the shipped cards are cards")
});

fn card(agent: &str) -> AgentCard {
    let card = CARDS.iter().find(|card| card.id.as_str() == agent);
    card.expect("every built-in agent has a card").clone()
}

fn capitalised(text: &str) -> String {
    let mut characters = text.chars();
    characters.next().map_or_else(String::new, |first| {
        first.to_uppercase().chain(characters).collect()
    })
}

fn entry<S: Specialist>(
    agent: &str,
    make: impl Fn() -> S + Send + Sync + 'static,
) -> (AgentId, Factory) {
    let id = AgentId::new(agent).expect("an agent id in the source is valid");
    (id, Arc::new(move || Arc::new(make())))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::time::Duration;

    use amcp_protocol::{Contract, RequestId};
    use serde_json::Value;

    use super::*;
    use crate::{Context, Failure, Task};

    /// A context of a request of its own.
    pub(super) fn context(number: u128) -> Context {
        let id: RequestId = format!("00000000-0000-7000-8000-{number:012x}")
            .parse()
            .unwrap();
        Context::detached(id, Duration::from_secs(20))
    }

    /// What the shell does around `handle`: both schemas, and the convention that a result reads as text.
    pub(super) async fn ask(
        specialist: &impl Specialist,
        params: Value,
        ctx: &Context,
    ) -> Result<Value, Failure> {
        let capability = specialist.card().capabilities[0].clone();
        let contract = Contract::new(capability).unwrap();
        let violations = contract.params.violations(&params);
        assert!(violations.is_empty(), "{params}: {violations:?}");
        let capability = contract.capability.name.clone();
        let params = params.into();
        let result = specialist.handle(Task { capability, params }, ctx).await?;
        let violations = contract.result.violations(&result);
        assert!(violations.is_empty(), "{result}: {violations:?}");
        assert!(
            result["text"]
                .as_str()
                .unwrap()
                .ends_with(['.', '!', '?', '"']),
            "{result}"
        );
        Ok(result)
    }

    #[test]
    fn every_card_is_sound_and_its_examples_keep_its_schema() {
        let mut names = BTreeSet::new();
        let mut settings = Settings::new("/nowhere");
        settings.offline = true;
        for (id, make) in all(&settings) {
            let card = make().card();
            assert_eq!(card.id, id);
            for contract in card.contracts().unwrap() {
                let capability = &contract.capability;
                assert!(names.insert(capability.name.clone()));
                assert!(!capability.examples.is_empty(), "{}", capability.name);
                assert!(!capability.keywords.is_empty(), "{}", capability.name);
                assert!(
                    contract.capability.result["required"]
                        .as_array()
                        .unwrap()
                        .contains(&"text".into())
                );
                for example in &capability.examples {
                    // What comes from other tasks is left out: a planner that copies an example must not copy data.
                    let mut params = example.params.clone();
                    let consumed = capability.consumes.iter().map(|consumes| &consumes.param);
                    for param in consumed.clone() {
                        assert!(
                            params
                                .as_object_mut()
                                .unwrap()
                                .insert(param.clone(), Value::Null)
                                .is_none()
                        );
                    }
                    let unknown: Vec<_> = consumed.map(|param| format!("/{param}")).collect();
                    let violations = contract.params.violations_outside(&params, &unknown);
                    assert_eq!(violations, [], "{}", example.query);
                }
            }
        }
    }

    /// Cards are contracts: agents of two builds share a capability only while their cards agree. A change here needs a new
    /// version of the capability and a line in the changelog. `INSTA_UPDATE=always` writes the snapshots anew.
    #[test]
    fn no_card_changes_unseen() {
        let mut settings = Settings::new("/nowhere");
        let cards = |settings: &Settings| {
            let cards = all(settings).into_iter().map(|(_, make)| make().card());
            cards.collect::<Vec<_>>()
        };
        let online = cards(&settings);
        settings.offline = true;
        let mut offline = cards(&settings);
        insta::assert_json_snapshot!("cards", offline);
        // Made-up prices are not offered beside real data.
        offline.retain(|card| card.id.as_str() != stocks::AGENT);
        assert_eq!(offline, online, "nodes of one mesh share contracts");
        let all = online.iter().flat_map(|card| card.capabilities.iter());
        let sending = all.filter(|capability| capability.sends_out());
        let sending: Vec<_> = sending.map(|c| c.name.to_string()).collect();
        assert_eq!(sending, ["weather.get"]);
    }

    #[test]
    fn making_them_touches_no_disk() {
        let dir = tempfile::tempdir().unwrap();
        let data_dir = dir.path().join("data");
        for (_, make) in all(&Settings::new(&data_dir)) {
            make().card();
        }
        assert!(!data_dir.exists());
    }
}
