//! `weather.get`: the weather of a city, now, on a day or on several.
//!
//! Does not forecast: asks Open-Meteo, or, offline, reads what is usual out of the shipped climate table.

mod climate;
mod open_meteo;

use amcp_protocol::{AgentCard, ErrorCode, Failure};
use async_trait::async_trait;
use jiff::ToSpan;
use jiff::civil::Date;
use serde_json::{Value, json};

use self::open_meteo::OpenMeteo;
use super::Settings;
use crate::specialist::{Context, Specialist, Task};

pub(super) const AGENT: &str = "weather-1";

/// Most days at once: Open-Meteo forecasts no further.
const MAX_DAYS: i32 = 16;

/// Most words of a region without a comma before it: "the United Kingdom".
const MAX_REGION_WORDS: usize = 3;

/// What people write for regions and countries.
const SHORT: &str = "al=alabama ak=alaska az=arizona ar=arkansas ca=california co=colorado ct=connecticut de=delaware fl=florida \
    ga=georgia hi=hawaii id=idaho il=illinois in=indiana ia=iowa ks=kansas ky=kentucky la=louisiana me=maine md=maryland \
    ma=massachusetts mi=michigan mn=minnesota ms=mississippi mo=missouri mt=montana ne=nebraska nv=nevada nh=new-hampshire \
    nj=new-jersey nm=new-mexico ny=new-york nc=north-carolina nd=north-dakota oh=ohio ok=oklahoma or=oregon pa=pennsylvania \
    ri=rhode-island sc=south-carolina sd=south-dakota tn=tennessee tx=texas ut=utah vt=vermont va=virginia wa=washington \
    wv=west-virginia wi=wisconsin wy=wyoming dc=district-of-columbia on=ontario qc=quebec bc=british-columbia \
    nsw=new-south-wales vic=victoria qld=queensland wa=western-australia \
    usa=us america=us uk=gb britain=gb great-britain=gb uae=ae korea=kr holland=nl";

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
    /// The first and the last day; none for now.
    days: Option<(Date, Date)>,
    units: Units,
}

/// What a city is called, and the country, its code and the region that it must be in.
type Named<'a> = (&'a str, Vec<&'a str>);

/// Whether a place is in a region or country that somebody wrote: `TX`, `texas`, `USA`, `UK`, `France`.
fn is_in(written: &str, names: [Option<&str>; 3]) -> bool {
    let plain = |text: &str| text.to_lowercase().replace('.', "").replace(' ', "-");
    let written = plain(written);
    let written = written.strip_prefix("the-").unwrap_or(&written);
    let long = SHORT.split(' ').filter_map(|pair| pair.split_once('='));
    let meant: Vec<_> = long
        .filter(|(short, _)| *short == written)
        .map(|(_, long)| long)
        .chain([written])
        .collect();
    let begins = |name: &str| written.chars().count() > 3 && name.starts_with(written);
    names
        .into_iter()
        .flatten()
        .map(plain)
        .any(|name| meant.contains(&name.as_str()) || begins(&name))
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Units {
    Metric,
    Imperial,
}

impl Units {
    fn to_json(self) -> Value {
        let (system, temperature, precipitation, wind_speed) = match self {
            Self::Metric => ("metric", "°C", "mm", "km/h"),
            Self::Imperial => ("imperial", "°F", "inch", "mph"),
        };
        json!({"system": system, "temperature": temperature, "precipitation": precipitation, "wind_speed": wind_speed})
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
    fn of(task: &Task, today: Date) -> Result<Self, Failure> {
        let invalid = |message: String| Failure::new(ErrorCode::InvalidParams, message);
        let city = task.text("city").trim();
        if city.is_empty() {
            return Err(invalid("no city is given".to_owned()).hint("name one, such as Paris"));
        }
        let day = |param: &str| match task.text(param) {
            "" => Ok(None),
            text => text.parse::<Date>().map(Some).map_err(|_| {
                let shown: String = text.chars().take(40).collect();
                invalid(format!("'{shown}' is no date")).hint("write dates like 2025-03-31")
            }),
        };
        let week = |from: Date| from.saturating_add(6.days());
        let days = match (day("date")?, day("from")?, day("to")?) {
            (None, None, None) => None,
            (Some(date), None, None) => Some((date, date)),
            (None, from, to) => {
                let from = from.unwrap_or(today);
                Some((from, to.unwrap_or(week(from))))
            }
            (Some(_), _, _) => {
                return Err(invalid("give 'date', or 'from' and 'to'".to_owned()));
            }
        };
        if let Some((from, to)) = days
            && !(0..MAX_DAYS).contains(&(to - from).get_days())
        {
            return Err(invalid(format!(
                "{from} to {to} is not a span of 1 to {MAX_DAYS} days"
            )));
        }
        let units = match task.text("units") {
            "imperial" | "fahrenheit" => Units::Imperial,
            _ => Units::Metric,
        };
        Ok(Self {
            city: city.to_owned(),
            days,
            units,
        })
    }

    /// The ways to read the city, the most likely one first: `Paris, Texas`; `New York`; `London UK`.
    fn names(&self) -> Vec<Named<'_>> {
        let city = self.city.as_str();
        if let Some((name, regions)) = city.split_once(',') {
            let regions = regions
                .split(',')
                .map(str::trim)
                .filter(|region| !region.is_empty());
            return vec![(name.trim(), regions.collect())];
        }
        let splits = city.rmatch_indices(' ').take(MAX_REGION_WORDS);
        let names = splits.map(|(at, _)| city.split_at(at));
        let names = names.map(|(name, region)| (name.trim(), vec![region.trim()]));
        std::iter::once((city, Vec::new())).chain(names).collect()
    }
}

#[async_trait]
impl Specialist for Weather {
    fn card(&self) -> AgentCard {
        super::card(AGENT)
    }

    async fn handle(&self, task: Task, _: &Context) -> Result<Value, Failure> {
        // There is no clock but this node's; a city's own day may differ.
        let today = jiff::Zoned::now().date();
        let wanted = Wanted::of(&task, today)?;
        match &self.service {
            Some(service) => service.weather(&wanted).await,
            None => climate::weather(&wanted, today),
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
    }

    #[tokio::test]
    async fn offline_a_region_or_country_must_be_the_citys_own() {
        for (city, found) in [
            ("Zürich", true),
            ("Zurich, Switzerland", true),
            (" SÃO PAULO ", true),
            ("New York, USA", true),
            ("new york, ny", true),
            ("New York, New York, U.S.", true),
            ("London, UK", true),
            ("London UK", true),
            ("London United Kingdom", true),
            ("Cape Town South Africa", true),
            ("London the United Kingdom", true),
            ("Sydney, NSW", true),
            ("Perth WA", true),
            ("Seattle WA", true),
            ("Cape Town West Africa", false),
            ("London, England, the United Kingdom", true),
            ("Paris, FR", true),
            ("San Francisco, CA", true),
            ("Los Angeles CA", true),
            ("Washington D.C.", true),
            ("Paris, Texas", false),
            ("Paris Texas", false),
            ("London, Ontario", false),
            ("Austin, TX", false),
        ] {
            let result = ask(&offline(), json!({"city": city}), &context(1)).await;
            assert_eq!(result.is_ok(), found, "{city}: {result:?}");
        }
    }

    #[tokio::test]
    async fn offline_a_slip_and_a_namesake_get_the_nearest_city_as_a_hint() {
        for (city, hint) in [
            ("Londn", "it has London, United Kingdom;"),
            ("Paris, Texas", "it has Paris, France;"),
        ] {
            let failure = ask(&offline(), json!({"city": city}), &context(1)).await;
            assert!(
                failure.unwrap_err().hint.unwrap().starts_with(hint),
                "{city}"
            );
        }
    }

    #[tokio::test]
    async fn offline_several_days_are_their_months() {
        let days = |from: &str, to: &str| json!({"city": "Oslo", "from": from, "to": to});
        let text = async |params: Value| {
            let result = ask(&offline(), params, &context(1)).await.unwrap();
            result["text"].as_str().unwrap().to_owned()
        };
        let one = text(days("2025-03-03", "2025-03-07")).await;
        assert!(one.contains("March") && !one.contains(", and in"), "{one}");
        let two = text(days("2025-03-28", "2025-04-02")).await;
        assert!(
            two.contains("in March is") && two.contains(", and in April is"),
            "{two}"
        );
        let result = ask(&offline(), days("2025-12-30", "2026-01-02"), &context(1)).await;
        let result = result.unwrap();
        assert!(result.get("high").is_none());
        let each: Vec<_> = result["days"]
            .as_array()
            .unwrap()
            .iter()
            .map(|day| (&day["date"], &day["high"]))
            .collect();
        assert_eq!(each.len(), 4);
        assert_eq!(each[0].0, "2025-12-30");
        assert_eq!(each[3].0, "2026-01-02");
        assert_ne!(each[0].1, each[3].1);
        let vancouver = text(json!({"city": "Vancouver, CA", "date": "2025-07-14"})).await;
        assert!(
            vancouver.starts_with(
                "In Vancouver, British Columbia, Canada, the usual weather in July is "
            ),
            "{vancouver}"
        );
        assert!(
            text(json!({"city": "Oslo", "from": "2025-12-30"}))
                .await
                .contains("January")
        );
        for params in [
            days("2025-03-07", "2025-03-03"),
            days("2025-03-01", "2025-03-17"),
            json!({"city": "Oslo", "date": "2025-03-01", "to": "2025-03-02"}),
        ] {
            let failure = ask(&offline(), params, &context(1)).await.unwrap_err();
            assert_eq!(failure.code, ErrorCode::InvalidParams);
        }
    }

    #[tokio::test]
    async fn offline_an_unknown_city_fails_with_a_hint_of_one_line() {
        let failure = ask(&offline(), json!({"city": "Atlantis"}), &context(1))
            .await
            .unwrap_err();
        assert_eq!(failure.code, ErrorCode::TaskFailed);
        let hint = failure.hint.unwrap();
        assert!(failure.message.contains("Atlantis") && hint.starts_with("it has 77 cities"));
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
