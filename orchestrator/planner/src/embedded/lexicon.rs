//! Words for numbers, months, days and units.
//!
//! Does not read sequences of words.

use jiff::civil::Weekday;

pub(super) fn quarter_of(month: i8) -> i8 {
    (month - 1) / 3 + 1
}

pub(super) fn quarter_number(text: &str) -> Option<i8> {
    text.parse().ok().filter(|n| (1..=4).contains(n))
}

pub(super) fn year_number(text: &str) -> Option<i16> {
    (text.len() == 4)
        .then(|| text.parse().ok())
        .flatten()
        .filter(|y| (1900..2200).contains(y))
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
        _ => ["st", "nd", "rd", "th"]
            .iter()
            .find_map(|s| word.strip_suffix(s)?.parse().ok()),
    }
}

pub(super) fn day_number(word: &str) -> Option<i8> {
    word.parse()
        .ok()
        .or_else(|| ordinal(word))
        .filter(|d| (1..=31).contains(d))
}

pub(super) fn ordinal_or_count(word: &str) -> Option<i16> {
    word.parse()
        .ok()
        .or_else(|| count_word(word))
        .or((word == "a").then_some(1))
}

pub(super) fn count_word(word: &str) -> Option<i16> {
    const SMALL: [&str; 13] = [
        "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten",
        "eleven", "twelve",
    ];
    match word {
        // "one" is a pronoun more often than a number.
        "one" => None,
        "fifteen" => Some(15),
        "twenty" => Some(20),
        "thirty" => Some(30),
        "forty" => Some(40),
        "fifty" => Some(50),
        "hundred" => Some(100),
        _ => SMALL
            .iter()
            .position(|w| *w == word)
            .and_then(|i| i16::try_from(i).ok()),
    }
}

pub(super) fn scale(suffix: &str) -> Option<f64> {
    match suffix {
        "k" | "thousand" => Some(1e3),
        "m" | "million" => Some(1e6),
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
        "monday" => Weekday::Monday,
        "tuesday" => Weekday::Tuesday,
        "wednesday" => Weekday::Wednesday,
        "thursday" => Weekday::Thursday,
        "friday" => Weekday::Friday,
        "saturday" => Weekday::Saturday,
        "sunday" => Weekday::Sunday,
        _ => return None,
    })
}
