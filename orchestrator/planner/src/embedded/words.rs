//! English words that carry grammar rather than meaning, their classes, and the few general synonyms.
//!
//! Holds nothing about any domain: a capability's subject is said by its card alone. `words.txt` has the words.

use std::sync::LazyLock;

/// The words are our own, and looked up some hundred times for each query: hashing must be fast, and need not resist anybody.
type HashMap<K, V> = std::collections::HashMap<K, V, foldhash::fast::FixedState>;

/// Never indexed, never matched, never the end of a name.
pub(super) const STOP: u64 = 1;
/// Verbs that ask to be told something.
pub(super) const ASK: u64 = 1 << 1;
/// Verbs that say that something is to be done, hardly what.
pub(super) const LIGHT: u64 = 1 << 2;
/// Verbs that a command may start with.
pub(super) const COMMAND: u64 = 1 << 3;
/// Question words and auxiliaries that open a question.
pub(super) const QUESTION: u64 = 1 << 4;
/// Said before a clause without meaning anything in it.
pub(super) const PREFACE: u64 = 1 << 5;
/// Changes nothing of what is asked: haste, care, or a name for what any result holds.
pub(super) const FILLER: u64 = 1 << 6;
/// Takes something back.
pub(super) const TAKES_BACK: u64 = 1 << 7;
/// Those for whom something is done; they change nothing of it.
pub(super) const PEOPLE: u64 = 1 << 8;
/// After "in" and "at" no name of a place.
pub(super) const ADVERBIAL: u64 = 1 << 9;
/// Stands for something that was said before.
pub(super) const PRONOUN: u64 = 1 << 10;
/// Stands before a noun.
pub(super) const PREPOSITION: u64 = 1 << 11;
const ARTICLE: u64 = 1 << 12;
const JOINT: u64 = 1 << 13;
pub(super) const NEGATIVE: u64 = 1 << 14;
/// Capital letters that name nothing by themselves.
pub(super) const ACRONYM: u64 = 1 << 15;
/// Verbs that no reading does.
pub(super) const CHANGE: u64 = 1 << 16;
/// Small words inside of names.
pub(super) const PARTICLE: u64 = 1 << 17;
/// Announces a text.
pub(super) const SAYING: u64 = 1 << 18;
/// Ends a topic.
pub(super) const ENDS_TOPIC: u64 = 1 << 19;
/// Joins a phrase to others.
pub(super) const LOOSE: u64 = 1 << 20;
/// Announces a topic.
pub(super) const ABOUT: u64 = 1 << 21;
/// The largest of all.
pub(super) const TOP: u64 = 1 << 22;
/// Verbs of statements.
pub(super) const STATES: u64 = 1 << 23;
/// After "if you" no condition.
pub(super) const POLITE: u64 = 1 << 24;
/// Turns or bounds what follows: a slip in such a word must not be passed over.
pub(super) const TURNS: u64 = 1 << 25;
/// Begins a sentence that tells of the speaker.
pub(super) const TELLS: u64 = 1 << 26;
/// Says that something is wanted.
pub(super) const WISHES: u64 = 1 << 27;
/// Signs and words between two numbers.
pub(super) const OPERATOR: u64 = 1 << 28;
/// Stands before the number or the numbers that it calculates with.
pub(super) const FUNCTION: u64 = 1 << 29;
/// Functions of several numbers.
pub(super) const JOINS_NUMBERS: u64 = 1 << 30;
/// Stands after a number.
pub(super) const UNIT_OF_NUMBER: u64 = 1 << 31;
/// Ends what "without" leaves out.
pub(super) const ENDS_MARK: u64 = 1 << 32;
/// A number that follows is an amount and no year.
pub(super) const BEFORE_AMOUNT: u64 = 1 << 33;
/// A word that follows may be a month.
pub(super) const BEFORE_MONTH: u64 = 1 << 34;
/// After a name, what somebody else does, wants or should do.
pub(super) const REPORTS: u64 = 1 << 35;
/// May begin a span of time, a time, a number or arithmetic.
pub(super) const BEGINS_FACT: u64 = 1 << 36;
/// Says that two spans are set against each other.
pub(super) const COMPARES: u64 = 1 << 37;
/// Stands at a number without a space.
pub(super) const UNIT: u64 = 1 << 38;
/// Stands before a verb: its subject or its auxiliary.
pub(super) const SUBJECT: u64 = 1 << 39;
/// Speaks of what was said before.
pub(super) const RECALLS: u64 = 1 << 40;
/// A currency.
pub(super) const MONEY: u64 = 1 << 41;
/// Needs no explanation.
pub(super) const FREE: u64 = STOP | ASK | LIGHT | FILLER;

/// The classes in the order of their bits, as `words.txt` names them.
const CLASSES: &str = "stop ask light command question preface filler takes_back people adverbial pronoun preposition article joint \
                       negative acronym change \
                       particle saying ends_topic loose about top states polite turns tells wishes \
                       operator function joins_numbers unit_of_number ends_mark before_amount before_month reports begins_fact compares unit subject recalls money";

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
    for (name, list) in lines.filter_map(|line| line.split_once(": ")) {
        let class = CLASSES.split_whitespace().position(|class| class == name);
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

/// Whether a word is one of grammar in which two letters changed places or one is missing: "liek", "fnd".
pub(super) fn is_slip(lower: &str) -> bool {
    let plain = |class: u64| class & (STOP | ASK) != 0;
    let turns = |class: u64| class & (TURNS | NEGATIVE) != 0;
    let slips_of = |of: &dyn Fn(u64) -> bool, shortest: usize| {
        let mut words = WORDS.classes.iter();
        words.any(|(word, class)| of(*class) && word.len() >= shortest && slips(lower, word))
    };
    lower.len() >= 3 && !slips_of(&turns, 3) && slips_of(&plain, 4)
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
        for (bit, class) in CLASSES.split_whitespace().enumerate() {
            let mut words = WORDS.classes.values();
            assert!(words.any(|classes| classes & (1 << bit) != 0), "{class}");
        }
        assert_eq!(base("spent"), "spend");
        assert!(synonyms("buy").any(|word| word == "order"));
    }

    #[test]
    fn slips_are_of_one_letter() {
        assert!(is_slip("liek") && is_slip("fnd") && !is_slip("line"));
        for turning in [
            "witout", "wihtout", "exept", "excludng", "nver", "thn", "abve",
        ] {
            assert!(!is_slip(turning), "{turning}");
        }
        assert!(!slips("light", "night") && !slips("line", "line"));
    }
}
