//! `stocks.get`: the latest close of a stock in the shipped sample series.
//!
//! Does not know real prices, says so in each result, and is offered only offline.

use amcp_protocol::{AgentCard, Failure};
use async_trait::async_trait;
use jiff::civil::Date;
use serde_json::{Value, json};

use super::money::{CURRENCY, amount, dollars, signed_percent, tenths_of_percent};
use crate::specialist::{Context, Specialist, Task};

pub(super) const AGENT: &str = "stocks-1";

const SERIES: &str = include_str!("../../data/stocks.csv");

/// Other names that people use.
const ALIASES: &[(&str, &str)] = &[
    ("google", "GOOG"),
    ("googl", "GOOG"),
    ("alphabet", "GOOG"),
    ("facebook", "META"),
    ("jp morgan", "JPM"),
    ("jpmorgan", "JPM"),
    ("advanced micro devices", "AMD"),
];

/// Knows the sample series.
#[derive(Debug)]
pub(super) struct Stocks;

struct Stock {
    ticker: &'static str,
    name: &'static str,
    /// Days and closes in cents, oldest first.
    closes: Vec<(Date, i64)>,
}

/// Tickers with names, in the order of the columns.
fn listed() -> impl Iterator<Item = (&'static str, &'static str)> {
    let mut lines = SERIES.lines();
    let tickers = lines.next().unwrap_or_default().split(',').skip(1);
    let names = lines.next().unwrap_or_default().split(',').skip(1);
    tickers.zip(names)
}

fn find(wanted: &str) -> Option<Stock> {
    let wanted = wanted.trim().trim_start_matches('$').to_lowercase();
    let wanted = wanted.strip_suffix(" stock").unwrap_or(&wanted);
    let alias = ALIASES
        .iter()
        .find(|(name, _)| *name == wanted)
        .map(|(_, ticker)| *ticker);
    let (column, (ticker, name)) = listed().enumerate().find(|(_, (ticker, name))| {
        alias == Some(ticker) || ticker.to_lowercase() == wanted || name.to_lowercase() == wanted
    })?;
    let closes = SERIES.lines().skip(2).filter_map(|line| {
        let mut fields = line.split(',');
        Some((
            fields.next()?.parse().ok()?,
            fields.nth(column)?.parse().ok()?,
        ))
    });
    Some(Stock {
        ticker,
        name,
        closes: closes.collect(),
    })
}

impl Stock {
    fn report(&self) -> Option<Value> {
        let [.., (_, before), (day, close)] = self.closes.as_slice() else {
            return None;
        };
        let high = self.closes.iter().max_by_key(|(_, close)| *close)?;
        let low = self.closes.iter().min_by_key(|(_, close)| *close)?;
        let change = close - before;
        let tenths = tenths_of_percent(change, *before)?;
        let named = if self.name == self.ticker {
            self.name.to_owned()
        } else {
            format!("{} ({})", self.name, self.ticker)
        };
        #[expect(clippy::cast_precision_loss, reason = "tenths of a per cent are small")]
        Some(json!({
            "text": format!(
                "{named} closed at {} on {day}, {} from the day before; its 52-week range is {} to {} (fictitious sample data).",
                dollars(*close), signed_percent(tenths), dollars(low.1), dollars(high.1),
            ),
            "title": format!("Stock price of {named}"),
            "ticker": self.ticker,
            "name": self.name,
            "date": day.to_string(),
            "close": amount(*close),
            "previous_close": amount(*before),
            "change": amount(change),
            "change_percent": tenths as f64 / 10.0,
            "high_52w": amount(high.1),
            "low_52w": amount(low.1),
            "currency": CURRENCY,
            "source": "sample data",
            "note": "Fictitious sample data.",
        }))
    }
}

#[async_trait]
impl Specialist for Stocks {
    fn card(&self) -> AgentCard {
        super::card(AGENT)
    }

    fn never_blocks(&self) -> bool {
        true
    }

    async fn handle(&self, task: Task, _: &Context) -> Result<Value, Failure> {
        let wanted = task.text("ticker");
        let stock = find(wanted).ok_or_else(|| {
            let shown: String = wanted.chars().take(60).collect();
            let tickers: Vec<_> = listed().map(|(ticker, _)| ticker).collect();
            Failure::task(format!("the sample data has no stock '{shown}'"))
                .hint(format!("it has {}", tickers.join(", ")))
        })?;
        stock.report().ok_or_else(|| {
            Failure::internal(format!("the sample series of {} is empty", stock.ticker))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{ask, context};
    use super::*;

    #[test]
    fn every_stock_has_a_whole_year() {
        assert!(listed().count() >= 12);
        for (ticker, _) in listed() {
            let closes = find(ticker).unwrap().closes;
            assert_eq!(closes.len(), 261, "{ticker}");
            assert!(closes.is_sorted() && closes.iter().all(|(_, close)| *close > 0));
        }
    }

    #[tokio::test]
    async fn a_stock_is_found_by_ticker_and_by_name() {
        let amazon = ask(&Stocks, json!({"ticker": "AMZN"}), &context(1))
            .await
            .unwrap();
        for name in ["amzn", "Amazon", " $AMZN ", "amazon stock"] {
            assert_eq!(
                ask(&Stocks, json!({"ticker": name}), &context(1))
                    .await
                    .unwrap(),
                amazon
            );
        }
        for (name, ticker) in [("Google", "GOOG"), ("facebook", "META"), ("IBM", "IBM")] {
            assert_eq!(
                ask(&Stocks, json!({"ticker": name}), &context(1))
                    .await
                    .unwrap()["ticker"],
                ticker
            );
        }
    }

    #[tokio::test]
    async fn the_figures_are_those_of_the_series() {
        let amazon = ask(&Stocks, json!({"ticker": "AMZN"}), &context(1))
            .await
            .unwrap();
        assert_eq!(amazon["date"], "2025-09-30");
        assert_eq!(amazon["source"], "sample data");
        assert_eq!(amazon["close"], 149.29);
        assert_eq!(amazon["change"], -2.58);
        assert_eq!(amazon["change_percent"], -1.7);
        assert_eq!(amazon["high_52w"], 212.39);
        assert_eq!(amazon["low_52w"], 145.95);
    }

    #[tokio::test]
    async fn an_unknown_stock_fails_with_those_that_are_known() {
        let failure = ask(&Stocks, json!({"ticker": "ZZZZ"}), &context(1))
            .await
            .unwrap_err();
        assert!(failure.message.contains("ZZZZ") && failure.hint.unwrap().contains("AMZN"));
    }
}
