//! English words that carry grammar rather than meaning, their classes, and the few general synonyms.
//!
//! Holds nothing about any domain: a capability's subject is said by its card alone. `words.txt` has the words.

use std::sync::LazyLock;

/// The words are our own, and looked up some hundred times for each query: hashing must be fast, and need not resist anybody.
type HashMap<K, V> = std::collections::HashMap<K, V, foldhash::fast::FixedState>;

/// A bit for each class of words, in the order of their names here; `words.txt` says what each is for.
macro_rules! classes {
    ($($name:ident)*) => {
        #[expect(
            non_camel_case_types,
            clippy::upper_case_acronyms,
            reason = "each is the name of a constant, too"
        )]
        enum Bit { $($name),* }
        $(pub(super) const $name: u64 = 1 << Bit::$name as u64;)*
        const CLASSES: &[&str] = &[$(stringify!($name)),*];
    };
}

classes! {
    STOP ASK LIGHT COMMAND QUESTION PREFACE FILLER TAKES_BACK PEOPLE ADVERBIAL PRONOUN
    PREPOSITION ARTICLE JOINT NEGATIVE ACRONYM CHANGE PARTICLE SAYING ENDS_TOPIC LOOSE ABOUT TOP
    STATES POLITE TURNS TELLS WISHES OPERATOR FUNCTION JOINS_NUMBERS UNIT_OF_NUMBER ENDS_MARK
    BEFORE_AMOUNT BEFORE_MONTH REPORTS QUOTES BEGINS_FACT COMPARES UNIT SUBJECT RECALLS MONEY
}

/// Needs no explanation.
pub(super) const FREE: u64 = STOP | ASK | LIGHT | FILLER;

#[derive(Default)]
struct Words {
    classes: HashMap<&'static str, u64>,
    /// By list and word: what the list says of it.
    pairs: HashMap<(&'static str, &'static str), &'static str>,
    /// By list: the words or phrases of each line.
    lines: HashMap<&'static str, Vec<Vec<&'static str>>>,
    /// Phrases by their first word, with the names of their lists.
    phrases: HashMap<&'static str, Vec<(&'static str, Vec<&'static str>)>>,
}

static WORDS: LazyLock<Words> = LazyLock::new(|| {
    let mut words = Words::default();
    let lines = include_str!("words.txt").lines();
    let lines = lines.filter(|line| !line.starts_with('#'));
    for (name, list) in lines.filter_map(|line| line.split_once(": ")) {
        let class = CLASSES
            .iter()
            .position(|class| class.eq_ignore_ascii_case(name));
        let parts: Vec<&str> = match list.contains(" | ") {
            true => list.split(" | ").collect(),
            false => list.split_whitespace().collect(),
        };
        match (class, name, parts.as_slice()) {
            (Some(bit), ..) => {
                let bits = parts.iter().map(|word| (*word, 1 << bit));
                bits.for_each(|(word, bit)| *words.classes.entry(word).or_insert(0) |= bit);
            }
            (None, "form" | "typed", _) => {
                let pairs = parts
                    .chunks_exact(2)
                    .filter_map(|pair| Some((*pair.first()?, *pair.last()?)));
                words
                    .pairs
                    .extend(pairs.map(|(word, said)| ((name, word), said)));
            }
            (None, "kind" | "role", [said, rest @ ..]) => {
                words
                    .pairs
                    .extend(rest.iter().map(|word| ((name, *word), *said)));
            }
            _ => {
                for phrase in &parts {
                    let phrase: Vec<&str> = phrase.split(' ').collect();
                    let first = phrase.first().copied().unwrap_or_default();
                    words.phrases.entry(first).or_default().push((name, phrase));
                }
                words.lines.entry(name).or_default().push(parts);
            }
        }
    }
    words
});

/// The lines of a list.
fn lines(list: &str) -> impl Iterator<Item = &'static [&'static str]> {
    WORDS
        .lines
        .get(list)
        .into_iter()
        .flatten()
        .map(Vec::as_slice)
}

/// What a list says of a word.
fn said(list: &'static str, word: &str) -> Option<&'static str> {
    // The key's lifetime is that of the list: a word of a query is no such key, but compares with them.
    WORDS.pairs.get(&(list, word) as &(&str, &str)).copied()
}

/// The classes of a lower-case word.
pub(super) fn classes(lower: &str) -> u64 {
    WORDS.classes.get(lower).copied().unwrap_or(0)
}

/// Whether a lower-case word is of one of some classes.
pub(super) fn is(lower: &str, of: u64) -> bool {
    classes(lower) & of != 0
}

/// The other words of the groups that a word is in.
pub(super) fn synonyms(lower: &str) -> impl Iterator<Item = &'static str> {
    let groups = lines("same").filter(move |group| group.contains(&lower));
    groups.flatten().copied().filter(move |&word| word != lower)
}

/// The month and the day of the holiday that begins with these words, and how many words it has.
pub(super) fn holiday<'t>(words: impl Iterator<Item = &'t str> + Clone) -> Option<(i8, i8, usize)> {
    let found = lines("holiday").flatten().filter_map(|holiday| {
        let mut parts = holiday.split(' ');
        let (month, day) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
        let length = parts.clone().count();
        let begins = words.clone().take(length).eq(parts);
        begins.then_some((month, day, length))
    });
    found.max_by_key(|(.., length)| *length)
}

/// What a verb means with one of the words after it, and this word: "sum it up".
pub(super) fn phrasal(verb: &str, after: &[&str]) -> Option<(&'static str, &'static str)> {
    lines("phrasal").flatten().find_map(|line| {
        let (first, rest) = line.split_once(' ')?;
        let (particle, meaning) = rest.split_once(' ')?;
        (first == verb && after.contains(&particle)).then_some((meaning, particle))
    })
}

/// The phrases that name a value, itself among them; none for most values.
pub(super) fn aliases(value: &str) -> &'static [&'static str] {
    let value = value.to_lowercase();
    lines("alias")
        .find(|group| group.contains(&value.as_str()))
        .unwrap_or_default()
}

/// The kind, as `x-kind` has it, that a word of a param's name says.
pub(super) fn kind_word(word: &str) -> Option<&'static str> {
    said("kind", word)
}

/// The role, as `x-role` has it, that a word of a param's name says.
pub(super) fn role_word(word: &str) -> Option<&'static str> {
    said("role", word)
}

/// The words of params' names whose values a word announces.
pub(super) fn cues(lower: &str) -> impl Iterator<Item = &'static str> {
    let cue = lines("cue").find_map(|line| line.split_first().filter(|(cue, _)| **cue == lower));
    cue.into_iter().flat_map(|(_, names)| names.iter().copied())
}

/// The longest phrase of some lists that begins with these words: its list and its length.
pub(super) fn phrase<'t>(
    mut words: impl Iterator<Item = &'t str> + Clone,
    lists: &[&str],
) -> Option<(&'static str, usize)> {
    let all = words.clone();
    let known = WORDS.phrases.get(words.next()?)?.iter();
    let begins = |phrase: &[&str]| all.clone().take(phrase.len()).eq(phrase.iter().copied());
    let found = known.filter(|(list, phrase)| lists.contains(list) && begins(phrase));
    let (list, phrase) = found.max_by_key(|(_, phrase)| phrase.len())?;
    Some((list, phrase.len()))
}

/// The usual spelling of a word.
pub(super) fn typed(lower: String) -> String {
    said("typed", &lower).map_or(lower, str::to_owned)
}

/// The form of a verb that its stem is made of.
pub(super) fn base(lower: &str) -> &str {
    said("form", lower).unwrap_or(lower)
}

/// Whether a letter of `meant` is missing in `written`, or two changed places: a wrong letter often makes another word.
pub(super) fn slips(written: &str, meant: &str) -> bool {
    let (a, b) = (written.as_bytes(), meant.as_bytes());
    if a.first() != b.first() || a.len().abs_diff(b.len()) > 1 {
        return false;
    }
    let head = a.iter().zip(b).take_while(|(x, y)| x == y).count();
    let (a, b) = (a.get(head..), b.get(head..));
    let (Some(a), Some(b @ [_, after @ ..])) = (a, b) else {
        return false;
    };
    let swapped =
        || matches!((a, b), ([p, q, a @ ..], [r, s, b @ ..]) if (p, q) == (s, r) && a == b);
    head > 0 && (a == after || swapped())
}

/// Joins values of one list, or the parts of a query.
pub(super) fn is_joint(lower: &str) -> bool {
    is(lower, JOINT)
}

pub(super) fn is_article(lower: &str) -> bool {
    is(lower, ARTICLE)
}

/// Takes back what follows: "don't", "never", "no".
pub(super) fn is_negative(lower: &str) -> bool {
    is(lower, NEGATIVE) || lower.ends_with("n't")
}

/// How the words before a value mark it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mark {
    /// "without", "except", "not".
    Except,
    /// "more than", "at least".
    Least,
    /// "less than", "at most".
    Most,
}

/// The longest mark of some lists that begins with these words, and how many words it has.
pub(super) fn mark<'t>(
    words: impl Iterator<Item = &'t str> + Clone,
    lists: &[&str],
) -> Option<(Mark, usize)> {
    let (list, length) = phrase(words, lists)?;
    let mark = match list {
        "except" => Mark::Except,
        "least" | "least_after" => Mark::Least,
        _ => Mark::Most,
    };
    Some((mark, length))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_class_has_words() {
        for (bit, class) in CLASSES.iter().enumerate() {
            let mut words = WORDS.classes.values();
            assert!(words.any(|classes| classes & (1 << bit) != 0), "{class}");
        }
        assert_eq!(base("spent"), "spend");
        assert!(synonyms("buy").any(|word| word == "order"));
    }

    #[test]
    fn slips_are_of_one_letter() {
        assert!(!slips("light", "night") && !slips("line", "line"));
    }
}
