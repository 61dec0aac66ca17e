//! Numbers that stay exact fractions as long as they fit, and become doubles when they do not.
//!
//! Does not parse expressions.

use serde_json::Value;

/// Digits shown of a number that is not exact: fewer than a double has, so that its last errors stay hidden.
const SHOWN_DIGITS: usize = 12;

/// Why there is no number.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum MathError {
    #[error("division by zero")]
    DivisionByZero,
    #[error("the result is too large")]
    TooLarge,
    #[error("{0} is not a real number")]
    NotReal(String),
    #[error("{0}")]
    Syntax(String),
}

/// A finite number.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Number {
    /// A fraction in lowest terms with a positive denominator.
    Exact(i128, i128),
    /// Finite.
    Approx(f64),
}

use Number::{Approx, Exact};

fn gcd(a: u128, b: u128) -> u128 {
    if b == 0 { a } else { gcd(b, a % b) }
}

impl Number {
    pub(super) const fn whole(value: i128) -> Self {
        Exact(value, 1)
    }

    /// The fraction in lowest terms; none when it is no fraction or does not fit.
    fn fraction(over: i128, under: i128) -> Option<Self> {
        let divisor = i128::try_from(gcd(over.unsigned_abs(), under.unsigned_abs())).ok()?;
        let divisor = if under < 0 {
            divisor.checked_neg()?
        } else {
            divisor
        };
        Some(Exact(
            over.checked_div(divisor)?,
            under.checked_div(divisor)?,
        ))
    }

    /// A double that must be finite.
    pub(super) fn approx(value: f64) -> Result<Self, MathError> {
        if value.is_finite() {
            Ok(Approx(value))
        } else {
            Err(MathError::TooLarge)
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "meant: the nearest double")]
    pub(super) fn to_f64(self) -> f64 {
        match self {
            Exact(over, under) => over as f64 / under as f64,
            Approx(value) => value,
        }
    }

    /// The whole number that it is exactly.
    pub(super) const fn as_whole(self) -> Option<i128> {
        match self {
            Exact(value, 1) => Some(value),
            Exact(..) | Approx(_) => None,
        }
    }

    pub(super) fn is_zero(self) -> bool {
        self.to_f64() == 0.0
    }

    /// Exactly if that fits, else in doubles.
    fn combine(
        self,
        other: Self,
        exact: impl Fn(i128, i128, i128, i128) -> Option<Self>,
        approx: impl Fn(f64, f64) -> f64,
    ) -> Result<Self, MathError> {
        if let (Exact(a, b), Exact(c, d)) = (self, other)
            && let Some(number) = exact(a, b, c, d)
        {
            return Ok(number);
        }
        Self::approx(approx(self.to_f64(), other.to_f64()))
    }

    pub(super) fn add(self, other: Self) -> Result<Self, MathError> {
        self.combine(
            other,
            |a, b, c, d| {
                Self::fraction(
                    a.checked_mul(d)?.checked_add(c.checked_mul(b)?)?,
                    b.checked_mul(d)?,
                )
            },
            |a, b| a + b,
        )
    }

    pub(super) fn negate(self) -> Self {
        match self {
            Exact(over, under) => over
                .checked_neg()
                .map_or(Approx(-self.to_f64()), |over| Exact(over, under)),
            Approx(value) => Approx(-value),
        }
    }

    pub(super) fn multiply(self, other: Self) -> Result<Self, MathError> {
        self.combine(
            other,
            |a, b, c, d| Self::fraction(a.checked_mul(c)?, b.checked_mul(d)?),
            |a, b| a * b,
        )
    }

    pub(super) fn divide(self, other: Self) -> Result<Self, MathError> {
        if other.is_zero() {
            return Err(MathError::DivisionByZero);
        }
        self.combine(
            other,
            |a, b, c, d| Self::fraction(a.checked_mul(d)?, b.checked_mul(c)?),
            |a, b| a / b,
        )
    }

    /// What is left of a division, with the sign of the divisor.
    pub(super) fn modulo(self, other: Self) -> Result<Self, MathError> {
        let times = self.divide(other)?.floor()?;
        self.add(other.multiply(times)?.negate())
    }

    pub(super) fn floor(self) -> Result<Self, MathError> {
        match self {
            Exact(over, under) => Ok(Self::whole(over.div_euclid(under))),
            Approx(value) => Self::approx(value.floor()),
        }
    }

    /// To the nearest whole number, halves away from zero.
    pub(super) fn round(self) -> Result<Self, MathError> {
        let half = Exact(1, 2);
        if self.to_f64() < 0.0 {
            Ok(self.negate().add(half)?.floor()?.negate())
        } else {
            self.add(half)?.floor()
        }
    }

    pub(super) fn power(self, exponent: Self) -> Result<Self, MathError> {
        let base = self.to_f64();
        if self.is_zero() && exponent.to_f64() < 0.0 {
            return Err(MathError::DivisionByZero);
        }
        if let (Exact(over, under), Some(times)) = (self, exponent.as_whole())
            && let Ok(count) = u32::try_from(times.unsigned_abs())
            && let (Some(over), Some(under)) = (over.checked_pow(count), under.checked_pow(count))
            && let Some(number) = if times < 0 {
                Self::fraction(under, over)
            } else {
                Some(Exact(over, under))
            }
        {
            return Ok(number);
        }
        if base < 0.0 && exponent.to_f64().fract() != 0.0 {
            return Err(MathError::NotReal(
                "a fractional power of a negative number".to_owned(),
            ));
        }
        if exponent == Exact(1, 2) {
            return self.sqrt();
        }
        Self::approx(base.powf(exponent.to_f64()))
    }

    pub(super) fn sqrt(self) -> Result<Self, MathError> {
        if self.to_f64() < 0.0 {
            return Err(MathError::NotReal(
                "the square root of a negative number".to_owned(),
            ));
        }
        if let Exact(over, under) = self
            && let (a, b) = (over.isqrt(), under.isqrt())
            && a * a == over
            && b * b == under
        {
            return Ok(Exact(a, b));
        }
        Self::approx(self.to_f64().sqrt())
    }

    pub(super) fn factorial(self) -> Result<Self, MathError> {
        // 171! is beyond a double.
        match self.as_whole() {
            Some(whole @ 0..=170) => (2..=whole).try_fold(Self::whole(1), |product, n| {
                product.multiply(Self::whole(n))
            }),
            Some(171..) => Err(MathError::TooLarge),
            Some(_) | None => Err(MathError::Syntax(
                "a factorial needs a whole number from 0".to_owned(),
            )),
        }
    }

    /// The number in digits, and whether the digits are all of it.
    pub(super) fn show(self) -> (String, bool) {
        match self {
            Exact(over, under) => decimal(over, under)
                .map_or_else(|| (rounded(self.to_f64()), false), |text| (text, true)),
            Approx(value) => (rounded(value), false),
        }
    }

    /// A JSON number, the nearest one.
    pub(super) fn to_json(self) -> Value {
        match self.as_whole().and_then(|whole| i64::try_from(whole).ok()) {
            Some(whole) => whole.into(),
            None => self.to_f64().into(),
        }
    }
}

/// The fraction as a finite decimal of at most 30 places; none when it is none.
fn decimal(over: i128, under: i128) -> Option<String> {
    let mut scale: i128 = 1;
    let places = (0..=30usize).find(|_| {
        let fits = scale % under == 0;
        if !fits {
            scale = scale.saturating_mul(10);
        }
        fits
    })?;
    let digits = over.checked_mul(scale / under)?;
    let sign = if digits < 0 { "-" } else { "" };
    let text = format!("{:0>width$}", digits.unsigned_abs(), width = places + 1);
    let (whole, fraction) = text.split_at_checked(text.len() - places)?;
    Some(if fraction.is_empty() {
        format!("{sign}{whole}")
    } else {
        format!("{sign}{whole}.{fraction}")
    })
}

fn rounded(value: f64) -> String {
    let scientific = format!("{value:.*e}", SHOWN_DIGITS - 1);
    let exponent: i32 = scientific
        .split_once('e')
        .and_then(|(_, e)| e.parse().ok())
        .unwrap_or(0);
    if !(-7..=15).contains(&exponent) {
        let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
        return format!("{}e{exponent}", trimmed(digits));
    }
    let places = usize::try_from(11 - exponent).unwrap_or(0);
    trimmed(&format!("{value:.places$}")).to_owned()
}

fn trimmed(digits: &str) -> &str {
    if digits.contains('.') {
        digits.trim_end_matches('0').trim_end_matches('.')
    } else {
        digits
    }
}

/// The digits before the point in groups of three.
pub(super) fn separated(digits: &str) -> String {
    let whole: String = digits
        .chars()
        .skip_while(|c| *c == '-')
        .take_while(char::is_ascii_digit)
        .collect();
    match whole.parse::<u64>() {
        Ok(number) => digits.replacen(&whole, &super::super::money::thousands(number), 1),
        Err(_) => digits.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn invariant_fractions_compute_like_fractions(a in -9999i128..9999, b in 1i128..999, c in -9999i128..9999, d in 1i128..999) {
            let (x, y) = (Number::fraction(a, b).unwrap(), Number::fraction(c, d).unwrap());
            prop_assert_eq!(x.add(y).unwrap().add(y.negate()).unwrap(), x);
            if c != 0 {
                prop_assert_eq!(x.multiply(y).unwrap().divide(y).unwrap(), x);
                let rest = x.modulo(y).unwrap();
                prop_assert!(rest.to_f64().abs() < y.to_f64().abs());
                prop_assert!(rest.is_zero() || (rest.to_f64() < 0.0) == (c < 0));
            }
        }

        #[test]
        fn invariant_no_operation_panics_or_leaves_the_finite_numbers(a in any::<i128>(), b in any::<i128>(), e in any::<i16>()) {
            let (a, b) = (Number::whole(a), Number::whole(b));
            for result in [a.add(b), a.multiply(b), a.divide(b), a.modulo(b), a.power(Number::whole(e.into())), a.power(b), a.sqrt(), a.round(), b.factorial(), Ok(a.negate())] {
                prop_assert!(result.is_err() || result.is_ok_and(|n| n.to_f64().is_finite() && !n.show().0.is_empty()));
            }
        }
    }

    #[test]
    fn digits_are_all_there_or_rounded_for_reading() {
        assert_eq!(
            Number::fraction(-1, 8).unwrap().show(),
            ("-0.125".into(), true)
        );
        assert_eq!(
            Number::fraction(1, 3).unwrap().show(),
            ("0.333333333333".into(), false)
        );
        assert_eq!(Approx(2.0).show(), ("2".into(), false));
        assert_eq!(Approx(1.5e300).show(), ("1.5e300".into(), false));
        assert_eq!(Approx(1234.5).show(), ("1234.5".into(), false));
        assert_eq!(separated("-1234567.25"), "-1,234,567.25");
    }
}
