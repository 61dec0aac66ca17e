//! Words for numbers, months, days and units.
//!
//! Does not read sequences of words.

use jiff::civil::Weekday;

pub(super) fn year_number(text: &str) -> Option<i16> {
    let text = text.strip_prefix("fy").unwrap_or(text);
    let year = (text.len() == 4).then(|| text.parse().ok()).flatten();
    year.filter(|y| (1900..2200).contains(y))
}

pub(super) fn relative(word: &str) -> Option<i16> {
    match word {
        "last" | "previous" | "prior" => Some(-1),
        "this" | "current" => Some(0),
        "next" | "coming" | "following" => Some(1),
        _ => None,
    }
}

pub(super) fn ordinal(word: &str) -> Option<i8> {
    match word {
        "first" => Some(1),
        "second" => Some(2),
        "third" => Some(3),
        "fourth" => Some(4),
        _ => {
            let mut endings = ["st", "nd", "rd", "th"].iter();
            endings.find_map(|ending| word.strip_suffix(ending)?.parse().ok())
        }
    }
}

/// A whole number in digits or words; "one" and "a" are pronouns and articles more often than numbers.
pub(super) fn count(word: &str) -> Option<i16> {
    let number = word.parse().ok().or_else(|| number_word(word));
    number.filter(|_| word != "one")
}

pub(super) fn number_word(word: &str) -> Option<i16> {
    const SMALL: [&str; 20] = [
        "zero",
        "one",
        "two",
        "three",
        "four",
        "five",
        "six",
        "seven",
        "eight",
        "nine",
        "ten",
        "eleven",
        "twelve",
        "thirteen",
        "fourteen",
        "fifteen",
        "sixteen",
        "seventeen",
        "eighteen",
        "nineteen",
    ];
    const TENS: [&str; 8] = [
        "twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety",
    ];
    if let Some((tens, ones)) = word.split_once('-') {
        let tens = TENS.iter().position(|w| *w == tens)?;
        let ones = SMALL.iter().take(10).skip(1).position(|w| *w == ones)?;
        return i16::try_from(10 * (tens + 2) + ones + 1).ok();
    }
    if let Some(at) = TENS.iter().position(|w| *w == word) {
        return i16::try_from(10 * (at + 2)).ok();
    }
    let at = SMALL.iter().position(|w| *w == word)?;
    i16::try_from(at).ok()
}

pub(super) fn scale(suffix: &str) -> Option<f64> {
    match suffix {
        "dozen" => Some(12.0),
        "hundred" => Some(1e2),
        "k" | "thousand" => Some(1e3),
        "million" => Some(1e6),
        "billion" => Some(1e9),
        _ => None,
    }
}

/// How many seconds a unit of time has.
pub(super) fn unit_seconds(unit: &str) -> Option<f64> {
    match unit {
        "s" | "sec" | "secs" | "second" | "seconds" => Some(1.0),
        "min" | "mins" | "minute" | "minutes" => Some(60.0),
        "h" | "hr" | "hrs" | "hour" | "hours" => Some(3_600.0),
        "day" | "days" => Some(86_400.0),
        "week" | "weeks" => Some(604_800.0),
        _ => None,
    }
}

pub(super) fn month_number(word: &str) -> Option<i8> {
    const MONTHS: [&str; 12] = [
        "january",
        "february",
        "march",
        "april",
        "may",
        "june",
        "july",
        "august",
        "september",
        "october",
        "november",
        "december",
    ];
    let full = |month: &&str| {
        *month == word
            || (word.len() == 3 && month.starts_with(word))
            || (word == "sept" && *month == "september")
    };
    MONTHS
        .iter()
        .position(full)
        .and_then(|i| i8::try_from(i + 1).ok())
}

pub(super) fn weekday(word: &str) -> Option<Weekday> {
    Some(match word {
        "monday" | "mondays" => Weekday::Monday,
        "tuesday" | "tuesdays" => Weekday::Tuesday,
        "wednesday" | "wednesdays" => Weekday::Wednesday,
        "thursday" | "thursdays" => Weekday::Thursday,
        "friday" | "fridays" => Weekday::Friday,
        "saturday" | "saturdays" => Weekday::Saturday,
        "sunday" | "sundays" => Weekday::Sunday,
        _ => return None,
    })
}
