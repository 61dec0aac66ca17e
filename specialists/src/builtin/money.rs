//! Amounts in cents: read from JSON, written to JSON and for people.
//!
//! Does not know currencies: everything shipped is in US dollars.

use serde_json::Value;

/// The currency of all shipped data.
pub(super) const CURRENCY: &str = "USD";

/// The cents of an amount as it stands in JSON; none when it is no amount or too large to be exact.
pub(super) fn cents_of(amount: &Value) -> Option<i64> {
    if let Some(whole) = amount.as_i64() {
        return whole.checked_mul(100);
    }
    // Up to 2^53 cents, the nearest double of an amount with two decimals rounds back to the same cents.
    let cents = (amount.as_f64()? * 100.0).round();
    #[expect(clippy::cast_possible_truncation, reason = "the range is checked")]
    (cents.abs() < 9e15).then_some(cents as i64)
}

/// The amount as a JSON number: the double nearest to it, which prints with at most two decimals.
pub(super) fn amount(cents: i64) -> Value {
    #[expect(
        clippy::cast_precision_loss,
        reason = "exact up to 2^53 cents, ninety trillion dollars"
    )]
    Value::from(cents as f64 / 100.0)
}

/// For people, such as `-$1,234.50`.
pub(super) fn dollars(cents: i64) -> String {
    let sign = if cents < 0 { "-" } else { "" };
    let absolute = cents.unsigned_abs();
    format!("{sign}${}.{:02}", thousands(absolute / 100), absolute % 100)
}

/// A number with separators, such as `1,234`.
pub(super) fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `part` of `whole` in tenths of a per cent, rounded half away from zero; none of nothing.
pub(super) fn tenths_of_percent(part: i64, whole: i64) -> Option<i64> {
    let (part, whole) = (i128::from(part) * 1000, i128::from(whole));
    let half = whole.abs() / 2;
    let rounded = part + if part < 0 { -half } else { half };
    i64::try_from(rounded.checked_div(whole.abs())? * whole.signum()).ok()
}

/// Tenths of a per cent for people, such as `12.5 %`.
pub(super) fn percent(tenths: i64) -> String {
    let sign = if tenths < 0 { "-" } else { "" };
    format!("{sign}{}.{} %", tenths.abs() / 10, tenths.abs() % 10)
}

/// The same with its sign, such as `+3.2 %`.
pub(super) fn signed_percent(tenths: i64) -> String {
    let sign = if tenths >= 0 { "+" } else { "" };
    format!("{sign}{}", percent(tenths))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn people_read_separators_and_cents() {
        assert_eq!(dollars(0), "$0.00");
        assert_eq!(dollars(5), "$0.05");
        assert_eq!(dollars(123_456_789), "$1,234,567.89");
        assert_eq!(dollars(-100_000), "-$1,000.00");
        assert_eq!(dollars(i64::MIN), "-$92,233,720,368,547,758.08");
        assert_eq!(amount(123_450).to_string(), "1234.5");
    }

    #[test]
    fn percentages_round_half_away_from_zero_and_nothing_has_no_share() {
        assert_eq!(tenths_of_percent(1, 3), Some(333));
        assert_eq!(tenths_of_percent(1, 2000), Some(1));
        assert_eq!(tenths_of_percent(-1, 2000), Some(-1));
        assert_eq!(tenths_of_percent(1, -2), Some(-500));
        assert_eq!(tenths_of_percent(1, 0), None);
        assert_eq!(signed_percent(-5), "-0.5 %");
        assert_eq!(signed_percent(32), "+3.2 %");
    }

    #[test]
    fn what_is_no_amount_has_no_cents() {
        for bad in [
            json!("12"),
            json!(null),
            json!(1e300),
            json!([1]),
            json!(i64::MAX),
        ] {
            assert_eq!(cents_of(&bad), None, "{bad}");
        }
        assert_eq!(cents_of(&json!(12)), Some(1200));
    }

    proptest! {
        #[test]
        fn invariant_cents_survive_json(cents in -9_000_000_000_000i64..9_000_000_000_000) {
            let text = amount(cents).to_string();
            prop_assert_eq!(cents_of(&serde_json::from_str(&text).unwrap()), Some(cents));
            prop_assert!(text.split('.').nth(1).unwrap_or("").len() <= 2, "{}", text);
        }
    }
}
