//! The shipped climate table: what is usual in a month.
//!
//! Says nothing of any particular day.

use amcp_protocol::Failure;
use jiff::ToSpan;
use jiff::civil::Date;
use serde_json::{Value, json};

use super::{Named, Units, Wanted, is_in};

const TABLE: &str = include_str!("../../../data/climate.csv");

/// A city's month.
struct Normals {
    city: &'static str,
    country: &'static str,
    country_code: &'static str,
    /// Empty where nobody names it.
    region: &'static str,
    aliases: &'static str,
    month: i8,
    high: f64,
    low: f64,
    precipitation: f64,
    condition: &'static str,
}

fn table() -> impl Iterator<Item = Normals> {
    TABLE.lines().skip(1).filter_map(|line| {
        let mut fields = line.split(',');
        Some(Normals {
            city: fields.next()?,
            country: fields.next()?,
            country_code: fields.next()?,
            region: fields.next()?,
            aliases: fields.next()?,
            month: fields.next()?.parse().ok()?,
            high: fields.next()?.parse().ok()?,
            low: fields.next()?.parse().ok()?,
            precipitation: fields.next()?.parse().ok()?,
            condition: fields.next()?,
        })
    })
}

impl Normals {
    fn is_called(&self, (name, regions): &Named<'_>) -> bool {
        let is_name = |known: &str| known.to_lowercase() == name.to_lowercase();
        let names = [self.country, self.country_code, self.region].map(Some);
        (is_name(self.city) || self.aliases.split(';').any(is_name))
            && regions.iter().all(|region| is_in(region, names))
    }
}

/// The city that is called much like this, with its country: a slip, or a namesake elsewhere.
fn nearest(city: &str) -> Option<String> {
    let name = city
        .split(',')
        .next()
        .unwrap_or_default()
        .trim()
        .to_lowercase();
    let likeness = |normals: &Normals| {
        strsim::normalized_damerau_levenshtein(&name, &normals.city.to_lowercase())
    };
    let near = table()
        .map(|normals| (likeness(&normals), normals))
        .filter(|(likeness, _)| *likeness >= 0.7);
    let (_, nearest) = near.max_by(|(a, _), (b, _)| a.total_cmp(b))?;
    Some(format!("{}, {}", nearest.city, nearest.country))
}

pub(super) fn weather(wanted: &Wanted, today: Date) -> Result<Value, Failure> {
    let (from, to) = wanted.days.unwrap_or((today, today));
    let called = |name: &Named<'_>| {
        let year: Vec<_> = table().filter(|normals| normals.is_called(name)).collect();
        (!year.is_empty()).then_some(year)
    };
    let year = wanted.names().iter().find_map(called).ok_or_else(|| {
        let shown: String = wanted.city.chars().take(60).collect();
        let known = nearest(&wanted.city)
            .unwrap_or_else(|| format!("{} cities, among them London", table().count() / 12));
        Failure::task(format!("the offline climate table has no city '{shown}'")).hint(format!(
            "it has {known}; without --offline every city can be asked for"
        ))
    })?;
    let normals = |day: Date| Some((day, year.iter().find(|n| n.month == day.month())?));
    let days = from.series(1.day()).take_while(|day| *day <= to);
    let days: Vec<(Date, &Normals)> = days.filter_map(normals).collect();
    let convert = |celsius: f64| match wanted.units {
        Units::Metric => celsius,
        Units::Imperial => (celsius * 9.0 / 5.0 + 32.0).round(),
    };
    let months = days.chunk_by(|(_, a), (_, b)| a.month == b.month);
    let months = months
        .filter_map(|days| days.first())
        .map(|(day, normals)| {
            format!(
                "in {} is {}, with highs of {} and lows of {}",
                day.strftime("%B"),
                normals.condition,
                wanted.units.degrees(convert(normals.high)),
                wanted.units.degrees(convert(normals.low)),
            )
        });
    let months = months.collect::<Vec<_>>().join(", and ");
    let figures = |(day, normals): &(Date, &Normals)| {
        let precipitation = match wanted.units {
            Units::Metric => normals.precipitation,
            Units::Imperial => (normals.precipitation / 2.54).round() / 10.0,
        };
        json!({
            "date": day.to_string(), "condition": normals.condition, "high": convert(normals.high), "low": convert(normals.low),
            "precipitation_month": precipitation,
        })
    };
    let Some((_, place)) = days.first() else {
        return Err(Failure::internal("the climate table lacks a month"));
    };
    let names = [place.city, place.region, place.country];
    let names = names.into_iter().filter(|name| !name.is_empty());
    let names = names.collect::<Vec<_>>().join(", ");
    let mut result = json!({
        "text": format!("In {names}, the usual weather {months} (climate normals, not a forecast)."),
        "title": format!("Weather in {names}"),
        "city": place.city,
        "region": place.region,
        "country": place.country,
        "units": wanted.units.to_json(),
        "source": "climate normals (offline)",
        "note": "Climate normals, not a forecast.",
    });
    let figures = match days.as_slice() {
        [day] => figures(day),
        days => json!({"days": days.iter().map(figures).collect::<Vec<_>>()}),
    };
    if let (Some(result), Value::Object(figures)) = (result.as_object_mut(), figures) {
        result.extend(figures);
        result.retain(|_, value| value != "");
    }
    Ok(result)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_table_is_whole_and_every_name_leads_to_one_city() {
        let cities: Vec<_> = table().step_by(12).map(|normals| normals.city).collect();
        assert!(cities.len() >= 60);
        assert_eq!(table().count(), 12 * cities.len());
        let mut names = BTreeSet::new();
        for (at, normals) in table().enumerate() {
            assert_eq!(usize::try_from(normals.month).unwrap(), at % 12 + 1);
            assert_eq!(normals.city, cities[at / 12]);
            assert!(
                normals.high > normals.low
                    && (-40.0..50.0).contains(&normals.high)
                    && normals.precipitation >= 0.0,
                "{}",
                normals.city
            );
            if normals.month == 1 {
                for name in normals
                    .aliases
                    .split(';')
                    .filter(|a| !a.is_empty())
                    .chain([normals.city])
                {
                    assert!(names.insert(name.to_lowercase()), "{name}");
                }
            }
        }
    }
}
