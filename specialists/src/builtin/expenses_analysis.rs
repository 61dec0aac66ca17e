//! `finance.analyze.expenses`: totals, shares, and the change to the period before, in exact cents.
//!
//! Does not read the ledger: the rows come from another task.

use std::borrow::Cow;
use std::collections::BTreeMap;

use amcp_protocol::{AgentCard, ErrorCode, Failure};
use async_trait::async_trait;
use serde_json::{Map, Value, json};

use super::money::{CURRENCY, amount, cents_of, dollars, percent, tenths_of_percent};
use crate::specialist::{Context, Specialist, Task};

pub(super) const AGENT: &str = "finance-analyst-1";

/// How many groups the text names: what fits into a sentence.
const NAMED_GROUPS: usize = 4;
/// How many single expenses are shown.
const LARGEST: usize = 5;

/// Analyses expenses.
#[derive(Debug)]
pub(super) struct ExpensesAnalysis;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum GroupBy {
    Department,
    Category,
    Vendor,
    Month,
    Quarter,
}

impl GroupBy {
    /// From the enum's name, or from words such as "summary by department".
    fn of(words: &str) -> Option<Self> {
        words
            .to_lowercase()
            .split(|c: char| !c.is_alphanumeric())
            .find_map(|word| match word {
                "department" | "departments" | "team" | "teams" => Some(Self::Department),
                "category" | "categories" | "kind" | "kinds" | "type" | "types" => {
                    Some(Self::Category)
                }
                "vendor" | "vendors" | "supplier" | "suppliers" => Some(Self::Vendor),
                "month" | "months" | "monthly" => Some(Self::Month),
                "quarter" | "quarters" | "quarterly" => Some(Self::Quarter),
                _ => None,
            })
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Department => "department",
            Self::Category => "category",
            Self::Vendor => "vendor",
            Self::Month => "month",
            Self::Quarter => "quarter",
        }
    }

    /// Whether the groups are parts of the period, which no other period has.
    const fn is_time(self) -> bool {
        matches!(self, Self::Month | Self::Quarter)
    }

    /// The group that a row belongs to.
    fn group(self, row: &Map<String, Value>) -> Option<Cow<'_, str>> {
        let date = || row.get("date")?.as_str();
        Some(match self {
            Self::Department | Self::Category | Self::Vendor => {
                row.get(self.name())?.as_str()?.into()
            }
            Self::Month => date()?.get(..7)?.into(),
            Self::Quarter => {
                let month: u8 = date()?.get(5..7)?.parse().ok()?;
                format!("{} Q{}", date()?.get(..4)?, month.div_ceil(3)).into()
            }
        })
    }
}

/// Cents and number of entries.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Sum {
    cents: i64,
    count: i64,
}

impl Sum {
    fn add(&mut self, other: Self) -> Result<(), Failure> {
        let cents = self.cents.checked_add(other.cents);
        self.cents = cents.ok_or_else(|| {
            Failure::task("the amounts add up to more than can be counted in cents")
        })?;
        self.count += other.count;
        Ok(())
    }
}

type Groups = BTreeMap<String, Sum>;

/// The expenses of a period, grouped.
#[derive(Debug)]
struct Expenses<'a> {
    /// Which expenses, as it follows "the": "10 largest expenses of Sales in 2024".
    scope: String,
    period: String,
    groups: Groups,
    total: Sum,
    /// Whether a group comes to less than nothing.
    has_refunds: bool,
    rows: &'a [Value],
    notes: Vec<String>,
}

impl Expenses<'_> {
    /// A group's share in tenths of a per cent; none beside refunds, where shares would exceed the whole.
    fn share(&self, group: Sum) -> Option<i64> {
        tenths_of_percent(group.cents, self.total.cents).filter(|_| !self.has_refunds)
    }
}

/// Sums that came along with the rows, for one grouping.
fn given_sums(totals: Option<&Value>, by: GroupBy) -> Option<Groups> {
    let sums = totals?.get(format!("by_{}", by.name()))?.as_array()?;
    sums.iter()
        .map(|sum| {
            let name = sum.get("name")?.as_str()?.to_owned();
            let sum = Sum {
                cents: cents_of(sum.get("total")?)?,
                count: sum.get("count")?.as_i64()?,
            };
            Some((name, sum))
        })
        .collect()
}

fn total(groups: &Groups) -> Result<Sum, Failure> {
    groups.values().try_fold(Sum::default(), |mut total, sum| {
        total.add(*sum).map(|()| total)
    })
}

/// The cents of a row, whatever the query called them.
fn row_cents(row: &Map<String, Value>) -> Option<i64> {
    let plain = ["amount", "total", "sum", "sum(amount)"]
        .iter()
        .find_map(|name| row.get(*name));
    plain
        .and_then(cents_of)
        .or_else(|| row.get("amount_cents").and_then(Value::as_i64))
}

fn summed(rows: &[Value], by: GroupBy) -> Result<Groups, Failure> {
    let mut groups = Groups::new();
    for (at, row) in rows.iter().enumerate() {
        let problem = |what: &str| {
            let has = row.as_object().map_or_else(
                || "no fields".to_owned(),
                |row| row.keys().cloned().collect::<Vec<_>>().join(", "),
            );
            let has: String = has.chars().take(200).collect();
            Failure::task(format!(
                "row {} of the expenses has no {what}; it has {has}",
                at + 1
            ))
            .hint(
                "each row needs 'amount', and 'department', 'category', 'vendor' or 'date' to be grouped by",
            )
        };
        let row = row.as_object().ok_or_else(|| problem("fields"))?;
        let cents = row_cents(row).ok_or_else(|| problem("amount"))?;
        let group = by.group(row).ok_or_else(|| problem(by.name()))?;
        let sum = match groups.get_mut(&*group) {
            Some(sum) => sum,
            None => groups.entry(group.into_owned()).or_default(),
        };
        sum.add(Sum { cents, count: 1 })?;
    }
    Ok(groups)
}

/// The expenses of `rows`: an array of rows, or the whole result of the query, which also has sums.
fn expenses(given: &Value, by: GroupBy) -> Result<Expenses<'_>, Failure> {
    let rows = given
        .as_array()
        .or_else(|| given.get("rows")?.as_array())
        .ok_or_else(|| {
            Failure::task("'rows' holds no rows")
                .hint("give the result of finance.db.query or an array of rows")
        })?;
    let truncated = given.get("truncated").and_then(Value::as_bool) == Some(true);
    let mut notes = Vec::new();
    let groups = match given_sums(given.get("totals"), by) {
        Some(groups) if truncated => {
            notes.push(format!(
                "only {} rows were at hand; the totals are of all",
                rows.len()
            ));
            groups
        }
        _ => {
            if truncated {
                notes.push(format!(
                    "incomplete: only the first {} rows were at hand",
                    rows.len()
                ));
            }
            summed(rows, by)?
        }
    };
    let period = given
        .get("period")
        .and_then(Value::as_str)
        .map_or_else(|| span(rows), str::to_owned);
    let scope = given
        .get("scope")
        .and_then(Value::as_str)
        .map_or_else(|| format!("given expenses ({period})"), str::to_owned);
    let scope = if truncated && given_sums(given.get("totals"), by).is_none() {
        format!("first {} of the {scope}", rows.len())
    } else {
        scope
    };
    Ok(Expenses {
        scope,
        period,
        total: total(&groups)?,
        has_refunds: groups.values().any(|sum| sum.cents < 0),
        groups,
        rows: if truncated { &[] } else { rows },
        notes,
    })
}

/// The days that rows without a named period span.
fn span(rows: &[Value]) -> String {
    let days = || rows.iter().filter_map(|row| row.get("date")?.as_str());
    match (days().min(), days().max()) {
        (Some(from), Some(to)) => format!("{from} to {to}"),
        _ => "without dates".to_owned(),
    }
}

#[expect(clippy::cast_precision_loss, reason = "tenths of a per cent are small")]
fn tenths(tenths: i64) -> Value {
    (tenths as f64 / 10.0).into()
}

/// `change` and `change_percent` to what it was before.
fn change(now: i64, before: i64) -> Map<String, Value> {
    let difference = now.saturating_sub(before);
    let mut change = Map::from_iter([
        ("previous".to_owned(), amount(before)),
        ("change".to_owned(), amount(difference)),
    ]);
    if let Some(percent) = tenths_of_percent(difference, before) {
        change.insert("change_percent".to_owned(), tenths(percent));
    }
    change
}

fn group_rows(expenses: &Expenses<'_>, by: GroupBy, previous: Option<&Groups>) -> Vec<Value> {
    let mut groups: Vec<_> = expenses
        .groups
        .iter()
        .map(|(name, sum)| (name, *sum))
        .collect();
    let vanished = previous
        .into_iter()
        .flatten()
        .filter(|(name, _)| !expenses.groups.contains_key(*name));
    groups.extend(vanished.map(|(name, _)| (name, Sum::default())));
    if !by.is_time() {
        groups.sort_by_key(|(_, sum)| std::cmp::Reverse(sum.cents));
    }
    let row = |(name, sum): &(&String, Sum)| {
        let mut group = Map::new();
        group.insert("name".to_owned(), name.as_str().into());
        group.insert("total".to_owned(), amount(sum.cents));
        group.insert("count".to_owned(), sum.count.into());
        if let Some(share) = expenses.share(*sum) {
            group.insert("share".to_owned(), tenths(share));
        }
        if let Some(previous) = previous {
            group.extend(change(
                sum.cents,
                previous.get(*name).copied().unwrap_or_default().cents,
            ));
        }
        Value::from(group)
    };
    groups.iter().map(row).collect()
}

fn largest(rows: &[Value]) -> Vec<Value> {
    let mut by_size: Vec<_> = rows
        .iter()
        .filter_map(|row| Some((row_cents(row.as_object()?)?, row)))
        .collect();
    by_size.sort_by_key(|(cents, _)| std::cmp::Reverse(*cents));
    by_size
        .into_iter()
        .take(LARGEST)
        .map(|(_, row)| row.clone())
        .collect()
}

/// What the groups come to, for a sentence: `Sales $10.00 (33.3 %), …`.
fn named(expenses: &Expenses<'_>, by: GroupBy) -> String {
    let mut groups: Vec<_> = expenses.groups.iter().collect();
    if !by.is_time() {
        groups.sort_by_key(|(_, sum)| std::cmp::Reverse(sum.cents));
    }
    // "And 1 more" takes the place of its name.
    let shown = NAMED_GROUPS + usize::from(groups.len() == NAMED_GROUPS + 1);
    let mut parts: Vec<_> = groups
        .iter()
        .take(shown)
        .map(|(name, sum)| {
            let share = expenses
                .share(**sum)
                .map_or_else(String::new, |t| format!(" ({})", percent(t)));
            format!("{name} {}{share}", dollars(sum.cents))
        })
        .collect();
    if groups.len() > shown {
        parts.push(format!("and {} more", groups.len() - shown));
    }
    parts.join(", ")
}

fn analyse(given: &Value, by: GroupBy) -> Result<Value, Failure> {
    let expenses = expenses(given, by)?;
    // The months of two periods have none in common; there only the whole is compared.
    let before = given.get("previous").and_then(|previous| {
        let groups = given_sums(Some(previous), by)?;
        Some((
            previous.get("period")?.as_str()?.to_owned(),
            total(&groups).ok()?,
            groups,
        ))
    });
    let comparable = before
        .as_ref()
        .filter(|_| !by.is_time())
        .map(|(_, _, groups)| groups);
    let total = dollars(expenses.total.cents);
    let trend = before
        .as_ref()
        .map_or_else(String::new, |(period, before, _)| {
            let difference = expenses.total.cents.saturating_sub(before.cents);
            let size = tenths_of_percent(difference, before.cents).map_or_else(
                || dollars(difference.saturating_abs()),
                |t| percent(t.abs()),
            );
            let way = if difference < 0 { "down" } else { "up" };
            format!("; {way} {size} compared with {period}")
        });
    let scope = &expenses.scope;
    let text = if expenses.total.count == 0 {
        format!("There are no {scope}.")
    } else {
        let groups = named(&expenses, by);
        format!("The total of the {scope} is {total}: {groups}{trend}.")
    };
    let mut result = json!({
        "text": text,
        "headline": format!("The {scope}: {total}{trend}"),
        "scope": scope,
        "period": expenses.period,
        "group_by": by.name(),
        "currency": CURRENCY,
        "total": amount(expenses.total.cents),
        "count": expenses.total.count,
        "groups": group_rows(&expenses, by, comparable),
        "largest": largest(expenses.rows),
        "notes": expenses.notes,
    });
    if let Some(result) = result.as_object_mut() {
        if let Some((period, before, _)) = before {
            result.insert("previous_period".to_owned(), period.into());
            result.extend(change(expenses.total.cents, before.cents));
        }
        if let Some(source) = given.get("source").filter(|source| source.is_string()) {
            result.insert("source".to_owned(), source.clone());
        }
    }
    Ok(result)
}

#[async_trait]
impl Specialist for ExpensesAnalysis {
    fn card(&self) -> AgentCard {
        super::card(AGENT)
    }

    async fn handle(&self, task: Task, _: &Context) -> Result<Value, Failure> {
        let words = [task.text("group_by"), task.text("metric")];
        let by = match words.into_iter().find(|words| !words.is_empty()) {
            None => GroupBy::Department,
            Some(words) => GroupBy::of(words).ok_or_else(|| {
                Failure::new(
                    ErrorCode::InvalidParams,
                    format!("'{words}' names no group"),
                )
                .hint("group by department, category, vendor, month or quarter")
            })?,
        };
        analyse(task.params.get("rows").unwrap_or(&Value::Null), by)
    }
}

#[cfg(test)]
mod tests;
