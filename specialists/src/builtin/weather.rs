//! `weather.get`: the weather of a city, now or on a day.
//!
//! Does not forecast: asks Open-Meteo, or, offline, reads what is usual out of the shipped climate table.

mod climate;
mod open_meteo;

use amcp_protocol::{AgentCard, Capability, ErrorCode, Failure, Produces, terms};
use async_trait::async_trait;
use jiff::civil::Date;
use serde_json::{Value, json};

use self::open_meteo::OpenMeteo;
use super::{Settings, example, words};
use crate::specialist::{Context, Specialist, Task};

pub(super) const AGENT: &str = "weather-1";

const KEYWORDS: &[&str] = &[
    "weather",
    "forecast",
    "temperature",
    "rain",
    "raining",
    "snow",
    "sunny",
    "cloudy",
    "wind",
    "hot",
    "cold",
    "warm",
    "umbrella",
    "climate",
    "degrees",
];

/// Knows the weather.
#[derive(Debug)]
pub(super) struct Weather {
    /// None when offline.
    service: Option<OpenMeteo>,
}

/// What is asked for.
#[derive(Debug)]
struct Wanted {
    city: String,
    /// None for today.
    date: Option<Date>,
    units: Units,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Units {
    Metric,
    Imperial,
}

impl Units {
    const fn name(self) -> &'static str {
        match self {
            Self::Metric => "metric",
            Self::Imperial => "imperial",
        }
    }

    /// A temperature for people.
    fn degrees(self, value: f64) -> String {
        let value = value.round();
        // Minus zero is none.
        let value = if value == 0.0 { 0.0 } else { value };
        match self {
            Self::Metric => format!("{value} °C"),
            Self::Imperial => format!("{value} °F"),
        }
    }
}

impl Weather {
    pub(super) fn new(settings: &Settings) -> Self {
        let service = || {
            OpenMeteo::new(
                settings.geocoding_url.as_deref(),
                settings.weather_url.as_deref(),
            )
        };
        Self {
            service: (!settings.offline).then(service),
        }
    }
}

impl Wanted {
    fn of(task: &Task) -> Result<Self, Failure> {
        let invalid = |message: String| Failure::new(ErrorCode::InvalidParams, message);
        let city = task.text("city").trim();
        if city.is_empty() {
            return Err(invalid("no city is given".to_owned()).hint("name one, such as Paris"));
        }
        let date = match task.text("date") {
            "" => None,
            text => Some(text.parse().map_err(|_| {
                let shown: String = text.chars().take(40).collect();
                invalid(format!("'{shown}' is no date")).hint("write dates like 2025-03-31")
            })?),
        };
        let units = match task.text("units") {
            "imperial" | "fahrenheit" => Units::Imperial,
            _ => Units::Metric,
        };
        Ok(Self {
            city: city.to_owned(),
            date,
            units,
        })
    }
}

#[async_trait]
impl Specialist for Weather {
    fn card(&self) -> AgentCard {
        let mut capability = Capability::new(
            "weather.get",
            "The weather of a city: now and today, or on a given day.",
        );
        capability.params = json!({
            "type": "object",
            "properties": {
                "city": {
                    "type": "string", "minLength": 1, "maxLength": 100, terms::KIND: "city",
                    terms::ALIASES: ["location", "place", "town"],
                    "description": "The city, with its country if there are several.",
                    "examples": ["Paris", "New York", "Tokyo"],
                },
                "date": {"type": "string", "format": "date", terms::KIND: "date", "description": "The day; today without it."},
                "units": {
                    "type": "string", "enum": ["metric", "imperial", "celsius", "fahrenheit"], "default": "metric", terms::KIND: "units",
                    "description": "Metric or imperial units.",
                },
            },
            "required": ["city"],
            "additionalProperties": false,
            // The city goes to Open-Meteo. Offline it does not, but a plan does not know which node will do its task, and agents
            // of one capability share one contract.
            terms::SENDS_OUT: true,
        });
        let (number, string) = (json!({"type": "number"}), json!({"type": "string"}));
        capability.result = json!({
            "type": "object",
            "properties": {
                "text": string, "city": string, "country": string, "date": string, "condition": string, "high": number, "low": number,
                "temperature": number, "feels_like": number, "humidity": number, "wind_speed": number, "precipitation": number,
                "precipitation_probability": number, "precipitation_month": number, "units": string, "source": string, "note": string,
            },
            "required": ["text", "city", "date", "condition", "high", "low", "units", "source"],
        });
        capability.produces = vec![Produces {
            value_type: "text".into(),
            path: "/text".into(),
        }];
        capability.keywords = words(KEYWORDS);
        capability.examples = vec![
            example("What's the weather in Paris?", json!({"city": "Paris"})),
            example("Will it rain in Tokyo?", json!({"city": "Tokyo"})),
            example(
                "How warm is it in New York in Fahrenheit?",
                json!({"city": "New York", "units": "fahrenheit"}),
            ),
        ];
        AgentCard::new(AGENT, "Knows the weather.", vec![capability])
    }

    async fn handle(&self, task: Task, _: &Context) -> Result<Value, Failure> {
        let wanted = Wanted::of(&task)?;
        match &self.service {
            Some(service) => service.weather(&wanted).await,
            // Without a service there is no clock but this node's; the city's own day may differ, its climate does not.
            None => climate::weather(&wanted, jiff::Zoned::now().date()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{ask, context};
    use super::*;

    fn offline() -> Weather {
        Weather::new(&Settings {
            offline: true,
            ..Settings::new("/nowhere")
        })
    }

    #[tokio::test]
    async fn offline_the_usual_weather_is_given_and_said_to_be_that() {
        let paris = ask(
            &offline(),
            json!({"city": "paris", "date": "2025-07-14"}),
            &context(1),
        )
        .await
        .unwrap();
        assert_eq!(
            (&paris["high"], &paris["low"], &paris["city"]),
            (&json!(26.0), &json!(16.0), &json!("Paris"))
        );
        assert_eq!(paris["source"], "climate normals (offline)");
        assert!(
            paris["text"].as_str().unwrap().contains("July")
                && paris["note"].as_str().unwrap().contains("not a forecast")
        );
        let new_york = ask(
            &offline(),
            json!({"city": "NYC", "units": "fahrenheit", "date": "2025-07-04"}),
            &context(1),
        )
        .await
        .unwrap();
        assert_eq!(
            (&new_york["city"], &new_york["high"]),
            (&json!("New York"), &json!(84.0))
        );
        for city in ["Zürich", "Zurich, Switzerland", " SÃO PAULO "] {
            assert!(
                ask(&offline(), json!({"city": city}), &context(1))
                    .await
                    .is_ok(),
                "{city}"
            );
        }
    }

    #[tokio::test]
    async fn offline_an_unknown_city_fails_with_those_that_are_known() {
        let failure = ask(&offline(), json!({"city": "Atlantis"}), &context(1))
            .await
            .unwrap_err();
        assert_eq!(failure.code, ErrorCode::TaskFailed);
        let hint = failure.hint.unwrap();
        assert!(
            failure.message.contains("Atlantis")
                && hint.contains("Amsterdam")
                && hint.contains("Zurich")
        );
    }

    #[tokio::test]
    async fn params_that_mean_nothing_are_refused() {
        for params in [
            json!({"city": "  "}),
            json!({"city": "Paris", "date": "tomorrow"}),
        ] {
            let failure = ask(&offline(), params, &context(1)).await.unwrap_err();
            assert_eq!(failure.code, ErrorCode::InvalidParams);
        }
    }
}
