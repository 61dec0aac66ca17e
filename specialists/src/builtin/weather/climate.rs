//! The shipped climate table: what is usual in a month.
//!
//! Says nothing of any particular day.

use amcp_protocol::Failure;
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

/// The cities of the table.
pub(super) fn cities() -> Vec<&'static str> {
    // One line in twelve; the first field is enough.
    TABLE
        .lines()
        .skip(1)
        .step_by(12)
        .filter_map(|line| line.split(',').next())
        .collect()
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
    let of = |day: Date| {
        let month = |normals: &Normals| normals.month == day.month();
        let called = |name: &Named<'_>| {
            table()
                .filter(month)
                .find(|normals| normals.is_called(name))
        };
        wanted.names().iter().find_map(called).ok_or_else(|| {
            let shown: String = wanted.city.chars().take(60).collect();
            let known = nearest(&wanted.city).unwrap_or_else(|| cities().join(", "));
            Failure::task(format!("the offline climate table has no city '{shown}'")).hint(format!(
                "it has {known}; without --offline every city can be asked for"
            ))
        })
    };
    let normals = of(from)?;
    let convert = |celsius: f64| match wanted.units {
        Units::Metric => celsius,
        Units::Imperial => (celsius * 9.0 / 5.0 + 32.0).round(),
    };
    let usual = |day: Date, normals: &Normals| {
        format!(
            "in {} is {}, with highs of {} and lows of {}",
            day.strftime("%B"),
            normals.condition,
            wanted.units.degrees(convert(normals.high)),
            wanted.units.degrees(convert(normals.low)),
        )
    };
    let mut months = usual(from, &normals);
    if from.month() != to.month() {
        months += &format!(", and {}", usual(to, &of(to)?));
    }
    let precipitation = match wanted.units {
        Units::Metric => normals.precipitation,
        Units::Imperial => (normals.precipitation / 2.54).round() / 10.0,
    };
    let text = format!(
        "In {}, {} the usual weather {months} (climate normals, not a forecast).",
        normals.city, normals.country,
    );
    Ok(json!({
        "text": text,
        "city": normals.city,
        "country": normals.country,
        "date": from.to_string(),
        "condition": normals.condition,
        "high": convert(normals.high),
        "low": convert(normals.low),
        "precipitation_month": precipitation,
        "units": wanted.units.to_json(),
        "source": "climate normals (offline)",
        "note": "What is usual in this month, from shipped sample data; not a forecast.",
    }))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_table_is_whole_and_every_name_leads_to_one_city() {
        assert!(cities().len() >= 60);
        assert_eq!(table().count(), 12 * cities().len());
        let mut names = BTreeSet::new();
        for (at, normals) in table().enumerate() {
            assert_eq!(usize::try_from(normals.month).unwrap(), at % 12 + 1);
            assert_eq!(normals.city, cities()[at / 12]);
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
