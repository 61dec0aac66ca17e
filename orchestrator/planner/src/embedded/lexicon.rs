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
    const SMALL: &str = "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen \
                         seventeen eighteen nineteen";
    const TENS: &str = "ten twenty thirty forty fifty sixty seventy eighty ninety";
    let tens = |word: &str| Some(10 * (place(TENS, word)? + 1));
    if let Some((left, right)) = word.split_once('-') {
        let ones = place(SMALL, right).filter(|ones| (1..10).contains(ones))?;
        return Some(tens(left).filter(|tens| *tens > 10)? + ones);
    }
    place(SMALL, word).or_else(|| tens(word))
}

/// The place of a word in a list.
fn place(list: &str, word: &str) -> Option<i16> {
    let at = list.split(' ').position(|other| other == word)?;
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
        "month" | "months" => Some(2_629_800.0),
        "year" | "years" => Some(31_557_600.0),
        _ => None,
    }
}

pub(super) fn month_number(word: &str) -> Option<i8> {
    const MONTHS: &str =
        "january february march april may june july august september october november december";
    beginning(MONTHS, word).map(|month| month + 1)
}

pub(super) fn weekday(word: &str) -> Option<Weekday> {
    const DAYS: &str = "monday tuesday wednesday thursday friday saturday sunday";
    // These are words of their own.
    let word = Some(word).filter(|word| !matches!(*word, "sat" | "sun" | "wed"))?;
    let day = beginning(
        DAYS,
        word.strip_suffix('s')
            .filter(|day| day.ends_with("day"))
            .unwrap_or(word),
    )?;
    Weekday::from_monday_zero_offset(day).ok()
}

/// The place of the word in a list that begins so, with three letters at least.
fn beginning(list: &str, word: &str) -> Option<i8> {
    let at = list
        .split(' ')
        .position(|full| word.len() >= 3 && full.starts_with(word))?;
    i8::try_from(at).ok()
}
