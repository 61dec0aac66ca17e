//! Hierarchical topics and the patterns that subscribe to them (AMCP: `x.*` one level, `x.**` any depth).
//!
//! Does not deliver: the event bus is the registry crate's.

use std::fmt;
use std::str::FromStr;

/// Deepest topic: a bound on what matching costs.
const MAX_LEVELS: usize = 16;
/// Longest topic, in bytes.
const MAX_BYTES: usize = 256;

/// Why a text is not a topic or not a pattern.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{text}' is not a topic{}: {reason}", if *.pattern { " pattern" } else { "" })]
pub struct TopicError {
    text: String,
    pattern: bool,
    reason: &'static str,
}

fn levels(text: &str, pattern: bool) -> Result<Vec<String>, TopicError> {
    let wrong = |reason| TopicError {
        text: text.chars().take(80).collect(),
        pattern,
        reason,
    };
    if text.len() > MAX_BYTES {
        return Err(wrong("it has more than 256 bytes"));
    }
    // The requirements write topics with slashes too (`agent/finance/db/query`).
    let levels: Vec<String> = text.split(['.', '/']).map(str::to_owned).collect();
    if levels.len() > MAX_LEVELS {
        return Err(wrong("it has more than 16 levels"));
    }
    for level in &levels {
        let wild = pattern && (level == "*" || level == "**");
        let plain = !level.is_empty()
            && level
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"_-@:".contains(&b));
        if !wild && !plain {
            return Err(wrong(if pattern {
                "each level is a name, '*' (one level) or '**' (any number of levels)"
            } else {
                "each level is letters, digits, '_', '-', '@' or ':'"
            }));
        }
    }
    Ok(levels)
}

/// A place on the event bus, such as `task.request.finance.db.query`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Topic(Vec<String>);

impl FromStr for Topic {
    type Err = TopicError;

    fn from_str(text: &str) -> Result<Self, TopicError> {
        levels(text, false).map(Self)
    }
}

impl fmt::Display for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join("."))
    }
}

/// The topics that a subscriber wants: levels, `*` for exactly one, `**` for any number including none.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct TopicPattern(Vec<String>);

impl FromStr for TopicPattern {
    type Err = TopicError;

    fn from_str(text: &str) -> Result<Self, TopicError> {
        let mut levels = levels(text, true)?;
        // `**.**` says no more than `**`, and one of them keeps matching linear in practice.
        levels.dedup_by(|a, b| a == "**" && b == "**");
        Ok(Self(levels))
    }
}

impl fmt::Display for TopicPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join("."))
    }
}

impl TopicPattern {
    /// Whether the pattern covers the topic.
    #[must_use]
    pub fn matches(&self, topic: &Topic) -> bool {
        // The greedy walk with one remembered `**`: on a mismatch the last `**` swallows one more level.
        let (mut p, mut t) = (0, 0);
        let mut last_star: Option<(usize, usize)> = None;
        while let Some(level) = topic.0.get(t) {
            match self.0.get(p).map(String::as_str) {
                Some("**") => {
                    last_star = Some((p, t));
                    p += 1;
                }
                Some(wanted) if wanted == "*" || wanted == level => {
                    p += 1;
                    t += 1;
                }
                _ => match &mut last_star {
                    Some((star, swallowed)) => {
                        *swallowed += 1;
                        p = *star + 1;
                        t = *swallowed;
                    }
                    None => return false,
                },
            }
        }
        self.0.iter().skip(p).all(|level| level == "**")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn matches(pattern: &str, topic: &str) -> bool {
        pattern
            .parse::<TopicPattern>()
            .unwrap()
            .matches(&topic.parse().unwrap())
    }

    #[test]
    fn one_level_and_any_depth() {
        assert!(matches("task.*", "task.request"));
        assert!(!matches("task.*", "task.request.finance"));
        assert!(!matches("task.*", "task"));
        assert!(matches("task.**", "task.request.finance.db.query"));
        assert!(matches("task.**", "task"));
        assert!(matches("**", "anything.at.all"));
        assert!(matches("**.query", "task.request.finance.db.query"));
        assert!(matches("task.**.db.*", "task.db.request.db.query"));
        assert!(!matches("task.**.db.*", "task.request.db"));
        assert!(matches("task/request/*", "task.request.x"));
    }

    #[test]
    fn malformed_ones_are_refused() {
        for bad in ["", "a..b", "a.b*", "a b", "*.a.***"] {
            assert!(bad.parse::<TopicPattern>().is_err(), "{bad:?}");
        }
        assert!("a.*".parse::<Topic>().is_err());
        assert!("a.".repeat(200).parse::<Topic>().is_err());
    }

    /// The obvious exponential definition, to compare with.
    fn defined(pattern: &[&str], topic: &[&str]) -> bool {
        match (pattern, topic) {
            ([], []) => true,
            (["**", rest @ ..], t) => (0..=t.len()).any(|n| defined(rest, &t[n..])),
            (["*", p @ ..], [_, t @ ..]) => defined(p, t),
            ([a, p @ ..], [b, t @ ..]) => a == b && defined(p, t),
            _ => false,
        }
    }

    proptest! {
        #[test]
        fn invariant_matching_is_its_definition(
            pattern in prop::collection::vec(prop::sample::select(vec!["a", "b", "*", "**"]), 1..6),
            topic in prop::collection::vec(prop::sample::select(vec!["a", "b", "c"]), 1..7),
        ) {
            prop_assert_eq!(matches(&pattern.join("."), &topic.join(".")), defined(&pattern, &topic));
        }
    }
}
