//! The expenses that the params choose: as SQL, and in words.
//!
//! Adds nothing up.

use std::fmt;

use rusqlite::{OptionalExtension, Row, named_params};
use serde::Deserialize;
use serde_json::Value;

use super::super::ledger::Reader;
use super::super::money::dollars;
use super::super::period::Period;

/// Which expenses: everything that the params say, except how many. `:except` is a list in JSON.
const MATCHING: &str = "date BETWEEN :from AND :to
    AND (:department IS NULL OR department = :department COLLATE NOCASE)
    AND (:category IS NULL OR category = :category COLLATE NOCASE)
    AND (:vendor IS NULL OR vendor = :vendor COLLATE NOCASE)
    AND (:least IS NULL OR amount_cents >= :least)
    AND (:most IS NULL OR amount_cents <= :most)
    AND NOT EXISTS (SELECT 1 FROM json_each(:except) WHERE value COLLATE NOCASE IN (department, category, vendor))";

/// The params that choose among the expenses of a period.
#[derive(Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub(super) struct Which {
    pub(super) department: Option<String>,
    pub(super) category: Option<String>,
    pub(super) vendor: Option<String>,
    /// Departments, categories and vendors.
    pub(super) except: Vec<String>,
    pub(super) min_amount: Option<Value>,
    pub(super) max_amount: Option<Value>,
    pub(super) sort: Option<Sort>,
}

/// The order of the rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Sort {
    #[serde(alias = "biggest", alias = "highest", alias = "most expensive")]
    Largest,
    #[serde(alias = "lowest", alias = "cheapest")]
    Smallest,
    #[serde(alias = "newest")]
    Latest,
    Oldest,
}

impl Sort {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Largest => "largest",
            Self::Smallest => "smallest",
            Self::Latest => "latest",
            Self::Oldest => "oldest",
        }
    }

    const fn order(self) -> &'static str {
        match self {
            Self::Largest => "amount_cents DESC, date, entry",
            Self::Smallest => "amount_cents, date, entry",
            Self::Latest => "date DESC, entry DESC",
            Self::Oldest => "date, entry",
        }
    }
}

/// What is asked for, understood.
pub(super) struct Filter {
    pub(super) period: Period,
    pub(super) which: Which,
    /// Bounds in cents.
    pub(super) least: Option<i64>,
    pub(super) most: Option<i64>,
    pub(super) limit: Option<usize>,
}

impl Filter {
    /// Limited to some expenses, the largest are meant unless another order is named.
    pub(super) fn sort(&self) -> Option<Sort> {
        self.which.sort.or(self.limit.and(Some(Sort::Largest)))
    }

    pub(super) fn order(&self) -> &'static str {
        self.sort().unwrap_or(Sort::Oldest).order()
    }

    fn except(&self) -> String {
        Value::from(self.which.except.as_slice()).to_string()
    }

    /// The rows that a statement beginning with `select` finds among the chosen expenses of a period.
    pub(super) fn rows<T>(
        &self,
        reader: &Reader,
        period: Period,
        (select, rest): (&str, &str),
        read: impl FnMut(&Row<'_>) -> rusqlite::Result<T>,
    ) -> rusqlite::Result<Vec<T>> {
        let description = if reader.has_column("description") {
            "description"
        } else {
            "NULL AS description"
        };
        let most = self.limit.map_or_else(String::new, |limit| {
            format!("ORDER BY {} LIMIT {limit}", self.order())
        });
        let mut statement = reader.connection.prepare(&format!(
            "SELECT {select} FROM (
                SELECT date, department, category, vendor, {description}, amount_cents, rowid AS entry
                FROM expenses WHERE {MATCHING} {most}) {rest}"
        ))?;
        let (from, to) = period.bounds();
        let which = &self.which;
        let rows = statement.query_map(
            named_params! {":from": from, ":to": to, ":department": which.department, ":category": which.category,
                ":vendor": which.vendor, ":least": self.least, ":most": self.most, ":except": self.except()},
            read,
        )?;
        rows.collect()
    }
}

/// A name to leave out that is nobody's: leaving out nothing would be a wrong sum.
pub(super) fn unknown(reader: &Reader, filter: &Filter) -> rusqlite::Result<Option<String>> {
    let sql = "SELECT value FROM json_each(?)
        WHERE NOT EXISTS (SELECT 1 FROM expenses WHERE value COLLATE NOCASE IN (department, category, vendor))";
    let found = |row: &Row<'_>| row.get(0);
    reader
        .connection
        .query_row(sql, [filter.except()], found)
        .optional()
}

/// As it follows "the expenses".
impl fmt::Display for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let which = &self.which;
        for (word, name) in [
            ("of", &which.department),
            ("on", &which.category),
            ("at", &which.vendor),
        ] {
            if let Some(name) = name {
                write!(f, " {word} {name}")?;
            }
        }
        match (self.least.map(dollars), self.most.map(dollars)) {
            (Some(least), Some(most)) => write!(f, " of {least} to {most} each")?,
            (Some(least), None) => write!(f, " of at least {least} each")?,
            (None, Some(most)) => write!(f, " of at most {most} each")?,
            (None, None) => (),
        }
        match which.except.as_slice() {
            [] => (),
            [only] => write!(f, " without {only}")?,
            [others @ .., last] => write!(f, " without {} and {last}", others.join(", "))?,
        }
        f.write_str(&self.period.phrase())
    }
}
