//! Open-Meteo over HTTP: a city's place, then its forecast.
//!
//! Does not retry: that is the request's policy. Trusts nothing that comes back: size, time and shape are bounded.

use std::sync::OnceLock;
use std::time::Duration;

use amcp_protocol::{ErrorCode, Failure};
use reqwest::{Client, Response, StatusCode, Url};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use super::{Units, Wanted};

const GEOCODING: &str = "https://geocoding-api.open-meteo.com";
const FORECAST: &str = "https://api.open-meteo.com";
/// An answer is some kilobytes.
const MAX_BODY: usize = 256 * 1024;
/// Two calls fit into the capability's half minute.
const CALL_TIME: Duration = Duration::from_secs(10);
const CONNECT_TIME: Duration = Duration::from_secs(4);
const OFFLINE_HINT: &str = "check the network, or use --offline for climate normals";

/// The service, or another one that speaks like it.
#[derive(Debug)]
pub(super) struct OpenMeteo {
    geocoding: String,
    forecast: String,
    call_time: Duration,
    /// Made with the first call: reading the root certificates takes longer than starting a node may.
    client: OnceLock<Client>,
}

#[derive(Debug, Deserialize)]
struct Places {
    // Absent when nothing is found.
    #[serde(default)]
    results: Vec<Location>,
}

#[derive(Debug, Deserialize)]
struct Location {
    name: String,
    latitude: f64,
    longitude: f64,
    country: Option<String>,
    country_code: Option<String>,
    admin1: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Forecast {
    current: Option<Current>,
    daily: Daily,
}

#[derive(Debug, Deserialize)]
struct Current {
    temperature_2m: f64,
    apparent_temperature: Option<f64>,
    relative_humidity_2m: Option<f64>,
    wind_speed_10m: Option<f64>,
    weather_code: Option<f64>,
}

#[derive(Debug, Deserialize)]
struct Daily {
    time: Vec<String>,
    weather_code: Vec<Option<f64>>,
    temperature_2m_max: Vec<Option<f64>>,
    temperature_2m_min: Vec<Option<f64>>,
    precipitation_sum: Vec<Option<f64>>,
    precipitation_probability_max: Vec<Option<f64>>,
}

/// One day of [`Daily`].
struct Day<'a> {
    date: &'a str,
    condition: &'static str,
    high: f64,
    low: f64,
    precipitation: Option<f64>,
    probability: Option<f64>,
}

fn upstream(message: impl Into<String>) -> Failure {
    Failure::new(ErrorCode::UpstreamFailed, message)
}

/// Words of a stranger, fit to be shown.
fn quoted(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    line.chars().filter(|c| !c.is_control()).take(160).collect()
}

impl OpenMeteo {
    pub(super) fn new(geocoding: Option<&str>, forecast: Option<&str>) -> Self {
        Self {
            geocoding: geocoding
                .unwrap_or(GEOCODING)
                .trim_end_matches('/')
                .to_owned(),
            forecast: forecast
                .unwrap_or(FORECAST)
                .trim_end_matches('/')
                .to_owned(),
            call_time: CALL_TIME,
            client: OnceLock::new(),
        }
    }

    pub(super) async fn weather(&self, wanted: &Wanted) -> Result<Value, Failure> {
        let place = self.place(&wanted.city).await?;
        let forecast = self.forecast(&place, wanted).await?;
        let day = forecast
            .daily
            .first()
            .ok_or_else(|| upstream("the weather service sent a forecast without days"))?;
        let current = forecast.current.filter(|_| wanted.date.is_none());
        Ok(result(&place, &day, current.as_ref(), wanted.units))
    }

    async fn place(&self, city: &str) -> Result<Location, Failure> {
        // The service knows names of places only; what follows a comma chooses among namesakes.
        let mut parts = city.split(',').map(str::trim);
        let name = parts.next().unwrap_or_default();
        let hints: Vec<_> = parts.map(str::to_lowercase).collect();
        let places: Places = self
            .get(
                &self.geocoding,
                "/v1/search",
                &[
                    ("name", name),
                    ("count", "10"),
                    ("language", "en"),
                    ("format", "json"),
                ],
            )
            .await?;
        let fits = |place: &Location| {
            hints.iter().all(|hint| {
                let of = [&place.country, &place.country_code, &place.admin1];
                of.into_iter()
                    .flatten()
                    .any(|name| name.to_lowercase().starts_with(hint.as_str()))
            })
        };
        places.results.into_iter().find(fits).ok_or_else(|| {
            Failure::task(format!("no city '{}' is known", quoted(city)))
                .hint("check the spelling, or name a larger place nearby")
        })
    }

    async fn forecast(&self, place: &Location, wanted: &Wanted) -> Result<Forecast, Failure> {
        let (latitude, longitude) = (place.latitude.to_string(), place.longitude.to_string());
        let mut query = vec![
            ("latitude", latitude.as_str()),
            ("longitude", longitude.as_str()),
            (
                "current",
                "temperature_2m,apparent_temperature,relative_humidity_2m,wind_speed_10m,weather_code",
            ),
            (
                "daily",
                "weather_code,temperature_2m_max,temperature_2m_min,precipitation_sum,precipitation_probability_max",
            ),
            // Days are the city's own.
            ("timezone", "auto"),
        ];
        let date = wanted.date.map(|date| date.to_string());
        match &date {
            Some(date) => {
                query.extend([("start_date", date.as_str()), ("end_date", date.as_str())])
            }
            None => query.push(("forecast_days", "1")),
        }
        if wanted.units == Units::Imperial {
            query.extend([
                ("temperature_unit", "fahrenheit"),
                ("wind_speed_unit", "mph"),
                ("precipitation_unit", "inch"),
            ]);
        }
        self.get(&self.forecast, "/v1/forecast", &query).await
    }

    fn client(&self, base: &Url) -> Result<&Client, Failure> {
        if let Some(client) = self.client.get() {
            return Ok(client);
        }
        let client = amcp_outbound::client_of(base)
            .connect_timeout(CONNECT_TIME)
            .timeout(self.call_time)
            .build()
            .map_err(|error| Failure::internal(format!("no HTTP client can be made: {error}")))?;
        Ok(self.client.get_or_init(|| client))
    }

    async fn get<T: DeserializeOwned>(
        &self,
        base: &str,
        path: &str,
        query: &[(&str, &str)],
    ) -> Result<T, Failure> {
        let url = Url::parse_with_params(&format!("{base}{path}"), query).map_err(|error| {
            Failure::task(format!("the weather service's URL {base} is none: {error}"))
                .hint("check the configured URL")
        })?;
        let client = self.client(&url)?;
        let unreachable = |error: reqwest::Error| {
            let what = if error.is_timeout() {
                "does not answer in time"
            } else {
                "cannot be reached"
            };
            Failure::new(
                ErrorCode::UpstreamUnavailable,
                format!("the weather service at {base} {what}"),
            )
            .hint(OFFLINE_HINT)
        };
        let mut response = client.get(url.clone()).send().await.map_err(unreachable)?;
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(unreachable)? {
            if body.len() + chunk.len() > MAX_BODY {
                return Err(upstream(format!(
                    "the weather service at {base} sent more than {MAX_BODY} bytes"
                )));
            }
            body.extend_from_slice(&chunk);
        }
        if !response.status().is_success() {
            return Err(refusal(base, &response, &body));
        }
        serde_json::from_slice(&body).map_err(|error| {
            upstream(format!(
                "the weather service at {base} sent something that is no forecast: {}",
                quoted(&error.to_string())
            ))
        })
    }
}

/// What an HTTP status means.
fn refusal(base: &str, response: &Response, body: &[u8]) -> Failure {
    let status = response.status();
    let reason = serde_json::from_slice::<Value>(body).ok();
    let reason = reason
        .as_ref()
        .and_then(|body| body.get("reason")?.as_str())
        .map_or_else(String::new, |text| format!(": {}", quoted(text)));
    let message = format!(
        "the weather service at {base} answered {}{reason}",
        status.as_u16()
    );
    match status {
        StatusCode::TOO_MANY_REQUESTS
        | StatusCode::BAD_GATEWAY
        | StatusCode::SERVICE_UNAVAILABLE
        | StatusCode::GATEWAY_TIMEOUT => {
            let failure = Failure::new(ErrorCode::UpstreamUnavailable, message).hint(OFFLINE_HINT);
            let seconds = response
                .headers()
                .get("retry-after")
                .and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
            seconds.map_or(failure.clone(), |seconds| {
                failure.retry_after_ms(seconds.saturating_mul(1_000))
            })
        }
        StatusCode::BAD_REQUEST => upstream(message).hint("forecasts reach about two weeks ahead"),
        _ => upstream(message),
    }
}

impl Daily {
    fn first(&self) -> Option<Day<'_>> {
        let first = |values: &[Option<f64>]| values.first().copied().flatten();
        Some(Day {
            date: self.time.first()?,
            condition: condition(first(&self.weather_code)),
            high: first(&self.temperature_2m_max)?,
            low: first(&self.temperature_2m_min)?,
            precipitation: first(&self.precipitation_sum),
            probability: first(&self.precipitation_probability_max),
        })
    }
}

fn result(place: &Location, day: &Day<'_>, current: Option<&Current>, units: Units) -> Value {
    let name = quoted(&place.name);
    let country = place.country.as_deref().map(quoted);
    let full_name = country
        .as_ref()
        .map_or_else(|| name.clone(), |country| format!("{name}, {country}"));
    let chance = day.probability.map_or_else(String::new, |percent| {
        format!(", with a {percent} % chance of rain or snow")
    });
    let (high, low) = (units.degrees(day.high), units.degrees(day.low));
    let date = quoted(day.date);
    let condition = current.map_or(day.condition, |current| condition(current.weather_code));
    let text = match current {
        Some(now) => {
            let temperature = units.degrees(now.temperature_2m);
            format!(
                "In {full_name} it is {temperature} with {condition} now; today's high is {high}, the low {low}{chance}."
            )
        }
        None => format!(
            "In {full_name} expect {condition} on {date}, with a high of {high} and a low of {low}{chance}."
        ),
    };
    let mut result = Map::new();
    let mut put = |name: &str, value: Value| {
        if !value.is_null() {
            result.insert(name.to_owned(), value);
        }
    };
    put("text", text.into());
    put("city", name.into());
    put("country", country.into());
    put("date", date.into());
    put("condition", condition.into());
    put("high", day.high.into());
    put("low", day.low.into());
    if let Some(now) = current {
        put("temperature", now.temperature_2m.into());
        put("feels_like", now.apparent_temperature.into());
        put("humidity", now.relative_humidity_2m.into());
        put("wind_speed", now.wind_speed_10m.into());
    }
    put("precipitation", day.precipitation.into());
    put("precipitation_probability", day.probability.into());
    put("units", units.name().into());
    put("source", json!("Open-Meteo"));
    result.into()
}

/// WMO weather codes, as Open-Meteo groups them, in words that follow "with".
fn condition(code: Option<f64>) -> &'static str {
    #[expect(clippy::cast_possible_truncation, reason = "the cast saturates")]
    match code.map(|code| code as i64) {
        Some(0) => "a clear sky",
        Some(1) => "a mostly clear sky",
        Some(2) => "some clouds",
        Some(3) => "an overcast sky",
        Some(45 | 48) => "fog",
        Some(51..=57) => "drizzle",
        Some(61 | 66 | 80) => "light rain",
        Some(63 | 81) => "rain",
        Some(65 | 67 | 82) => "heavy rain",
        Some(71 | 77 | 85) => "light snow",
        Some(73) => "snow",
        Some(75 | 86) => "heavy snow",
        Some(95..=99) => "thunderstorms",
        _ => "unknown conditions",
    }
}

#[cfg(test)]
mod tests;
