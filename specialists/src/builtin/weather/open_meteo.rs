//! Open-Meteo over HTTP: a city's place, then its forecast.
//!
//! Does not retry: that is the request's policy. Trusts nothing that comes back: size, time and shape are bounded.

use std::sync::OnceLock;
use std::time::Duration;

use amcp_protocol::{ErrorCode, Failure};
use reqwest::{Client, Response, StatusCode, Url};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::{Units, Wanted, is_in};

const GEOCODING: &str = "https://geocoding-api.open-meteo.com";
const FORECAST: &str = "https://api.open-meteo.com";
/// An answer is some kilobytes.
const MAX_BODY: usize = 256 * 1024;
/// Two slow calls fit into the capability's half minute.
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

#[derive(Debug, Clone, Deserialize)]
struct Location {
    name: String,
    latitude: f64,
    longitude: f64,
    country: Option<String>,
    country_code: Option<String>,
    /// The region; told only of a place that has a namesake in its country, or that was asked for with a region.
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
        let place = self.place(wanted).await?;
        let forecast = self.forecast(&place, wanted).await?;
        let days: Option<Vec<Day<'_>>> = (0..forecast.daily.time.len())
            .map(|at| forecast.daily.day(at))
            .collect();
        let days = days
            .filter(|days| !days.is_empty())
            .ok_or_else(|| upstream("the weather service sent a forecast without days"))?;
        let current = forecast.current.filter(|_| wanted.days.is_none());
        Ok(result(&place, &days, current.as_ref(), wanted.units))
    }

    async fn place(&self, wanted: &Wanted) -> Result<Location, Failure> {
        // The service knows names of places only; the regions choose among namesakes.
        for (name, regions) in wanted.names() {
            let query = [
                ("name", name),
                ("count", "10"),
                ("language", "en"),
                ("format", "json"),
            ];
            let places: Places = self.get(&self.geocoding, "/v1/search", &query).await?;
            let fits = |place: &&Location| {
                let names = [&place.country, &place.country_code, &place.admin1];
                regions
                    .iter()
                    .all(|region| is_in(region, names.map(Option::as_deref)))
            };
            if let Some(place) = places.results.iter().find(fits) {
                let namesake =
                    |other: &&Location| other.name == place.name && other.country == place.country;
                let mut place = place.clone();
                // The country tells most namesakes apart, but "London, CA" may mean Canada or California.
                let is_unclear =
                    !regions.is_empty() || places.results.iter().filter(namesake).count() > 1;
                place.admin1 = place.admin1.filter(|_| is_unclear);
                return Ok(place);
            }
        }
        Err(
            Failure::task(format!("no city '{}' is known", quoted(&wanted.city)))
                .hint("check the spelling, or name a larger place nearby"),
        )
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
        let days = wanted
            .days
            .map(|(from, to)| (from.to_string(), to.to_string()));
        match &days {
            Some((from, to)) => query.extend([("start_date", from.as_str()), ("end_date", to)]),
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
    fn day(&self, at: usize) -> Option<Day<'_>> {
        let of = |values: &[Option<f64>]| values.get(at).copied().flatten();
        Some(Day {
            date: self.time.get(at)?,
            condition: condition(of(&self.weather_code)),
            high: of(&self.temperature_2m_max)?,
            low: of(&self.temperature_2m_min)?,
            precipitation: of(&self.precipitation_sum),
            probability: of(&self.precipitation_probability_max),
        })
    }
}

impl Day<'_> {
    fn chance(&self, before: &str) -> String {
        self.probability.map_or_else(String::new, |percent| {
            format!("{before}a {percent} % chance of rain or snow")
        })
    }

    fn to_json(&self) -> Map<String, Value> {
        let fields = [
            ("date", quoted(self.date).into()),
            ("condition", self.condition.into()),
            ("high", self.high.into()),
            ("low", self.low.into()),
            ("precipitation", self.precipitation.into()),
            ("precipitation_probability", self.probability.into()),
        ];
        fields
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value))
            .collect()
    }
}

/// The weather now, of one day or of several.
fn result(place: &Location, days: &[Day<'_>], current: Option<&Current>, units: Units) -> Value {
    let names = [
        Some(&place.name),
        place.admin1.as_ref(),
        place.country.as_ref(),
    ];
    let names = names.into_iter().flatten().map(|name| quoted(name));
    let full_name = names.collect::<Vec<_>>().join(", ");
    let mut result = Map::new();
    let text = match (days, current) {
        ([day], Some(now)) => {
            result = day.to_json();
            result.extend([
                ("condition".to_owned(), condition(now.weather_code).into()),
                ("temperature".to_owned(), now.temperature_2m.into()),
                ("feels_like".to_owned(), now.apparent_temperature.into()),
                ("humidity".to_owned(), now.relative_humidity_2m.into()),
                ("wind_speed".to_owned(), now.wind_speed_10m.into()),
            ]);
            format!(
                "In {full_name}, it is {} with {} now; today's high is {}, the low {}{}.",
                units.degrees(now.temperature_2m),
                condition(now.weather_code),
                units.degrees(day.high),
                units.degrees(day.low),
                day.chance(", with "),
            )
        }
        ([day], None) => {
            result = day.to_json();
            format!(
                "In {full_name}, expect {} on {}, with a high of {} and a low of {}{}.",
                day.condition,
                quoted(day.date),
                units.degrees(day.high),
                units.degrees(day.low),
                day.chance(", with "),
            )
        }
        (days, _) => {
            let each = days.iter().map(|day| {
                format!(
                    "\n{}: {}, {} to {}{}",
                    quoted(day.date),
                    day.condition,
                    units.degrees(day.low),
                    units.degrees(day.high),
                    day.chance(", "),
                )
            });
            let each: Vec<_> = each.collect();
            let days: Vec<_> = days.iter().map(Day::to_json).collect();
            result.insert("days".to_owned(), days.into());
            format!("The weather to expect in {full_name}:{}.", each.join(";"))
        }
    };
    let general = [
        ("text", text.into()),
        ("title", format!("Weather in {full_name}").into()),
        ("city", quoted(&place.name).into()),
        ("region", place.admin1.as_deref().map(quoted).into()),
        ("country", place.country.as_deref().map(quoted).into()),
        ("units", units.to_json()),
        ("source", "Open-Meteo".into()),
    ];
    result.extend(general.map(|(name, value)| (name.to_owned(), value)));
    result.retain(|_, value| !value.is_null());
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
