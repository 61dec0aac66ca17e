//! The command line of `amcp keys`: flags and help texts.
//!
//! Does not know what a key is.

use std::time::Duration;

use clap::Subcommand;
use jiff::{Span, SpanRelativeTo};

/// `amcp keys`.
#[derive(Debug, Subcommand)]
pub(crate) enum Keys {
    /// Make a key and print it, once: only its digest is kept
    Create {
        /// The user that the key proves
        user: String,
        /// The user's roles
        #[arg(long, value_name = "LIST", value_delimiter = ',')]
        roles: Vec<String>,
        /// How long the key is valid, such as 90d or 12h [default: until it is revoked]
        #[arg(long, value_name = "TIME", value_parser = duration)]
        expires: Option<Duration>,
        /// A note, such as the machine that has the key
        #[arg(long, value_name = "TEXT")]
        name: Option<String>,
    },
    /// List the keys, without their secrets
    List {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// End a key now
    Revoke {
        /// The key's id
        id: String,
    },
    /// Make another key for the user of a key, and print it, once; the old one ends after the overlap
    Rotate {
        /// The id of the old key
        id: String,
        /// How long both are valid
        #[arg(long, value_name = "TIME", value_parser = duration, default_value = "24h")]
        overlap: Duration,
    },
}

fn duration(text: &str) -> Result<Duration, String> {
    let span: Span = text
        .parse()
        .map_err(|_| "write a number and a unit: s, m, h, d or w, such as 90d".to_owned())?;
    let duration = span.to_duration(SpanRelativeTo::days_are_24_hours());
    duration
        .and_then(Duration::try_from)
        .map_err(|_| "write a time of days at most, and none that is past".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lifetimes_are_numbers_with_units() {
        for (text, hours) in [("90d", 2_160), ("24h", 24), ("1d 2h", 26), ("2w", 336)] {
            assert_eq!(
                duration(text),
                Ok(Duration::from_secs(hours * 3_600)),
                "{text}"
            );
        }
        for text in ["", "90", "-1d", "1 month", "soon"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }
}
