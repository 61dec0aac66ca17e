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

/// The lists of phrases.
const PHRASES: [&str; 8] = [
    "year_so_far",
    "lead",
    "aside",
    "except",
    "least",
    "most",
    "least_after",
    "most_after",
];

#[derive(Default)]
struct Words {
    classes: HashMap<&'static str, u64>,
    /// Groups that mean the same.
    same: Vec<Vec<&'static str>>,
    /// Prepositions and the like, with the words of params' names whose values they announce.
    cues: HashMap<&'static str, Vec<&'static str>>,
    /// Words of params' names, with the kinds and the roles that they say.
    kinds: HashMap<&'static str, &'static str>,
    roles: HashMap<&'static str, &'static str>,
    /// Phrases by their first word, with the names of their lists.
    phrases: HashMap<&'static str, Vec<(&'static str, Vec<&'static str>)>>,
    /// Irregular forms, with their bases.
    forms: HashMap<&'static str, &'static str>,
    /// Month, day and name.
    holidays: Vec<&'static str>,
    /// Verbs in two parts: verb, particle, meaning.
    phrasal: Vec<Vec<&'static str>>,
    /// Groups of phrases that name one value.
    aliases: Vec<Vec<&'static str>>,
    /// Words as thumbs type them, with the usual spelling.
    typed: HashMap<&'static str, &'static str>,
}

static WORDS: LazyLock<Words> = LazyLock::new(|| {
    let mut words = Words::default();
    for line in include_str!("words.txt").lines() {
        let Some((name, list)) = line.split_once(": ") else {
            continue;
        };
        if name == "holiday" {
            words.holidays.extend(list.split(" | "));
            continue;
        }
        if name == "phrasal" {
            let verbs = list
                .split(" | ")
                .map(|verb| verb.split(' ').collect::<Vec<_>>());
            words.phrasal.extend(verbs);
            continue;
        }
        if name == "alias" {
            words.aliases.push(list.split(" | ").collect());
            continue;
        }
        let list: Vec<&str> = list.split_whitespace().collect();
        if let Some(bit) = CLASSES.split_whitespace().position(|class| class == name) {
            for word in list {
                *words.classes.entry(word).or_insert(0) |= 1 << bit;
            }
        } else if name == "same" {
            words.same.push(list);
        } else if PHRASES.contains(&name) {
            let phrases = list.split(|word| *word == "|");
            for phrase in phrases {
                let first = phrase.first().copied().unwrap_or_default();
                let known = words.phrases.entry(first).or_default();
                known.push((name, phrase.to_vec()));
            }
        } else if matches!(name, "kind" | "role") {
            let said = list.first().copied().unwrap_or_default();
            let known = list.iter().skip(1).map(|word| (*word, said));
            match name {
                "kind" => words.kinds.extend(known),
                _ => words.roles.extend(known),
            }
        } else if name == "cue" {
            let names = list.iter().skip(1).copied().collect();
            words.cues.extend(list.first().map(|cue| (*cue, names)));
        } else {
            let pairs = list.chunks_exact(2);
            let pairs = pairs.filter_map(|pair| Some((*pair.first()?, *pair.last()?)));
            match name {
                "typed" => words.typed.extend(pairs),
                _ => words.forms.extend(pairs),
            }
        }
    }
    words
});

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
    let groups = WORDS
        .same
        .iter()
        .filter(move |group| group.contains(&lower));
    groups.flatten().copied().filter(move |&word| word != lower)
}

/// The month and the day of the holiday that begins with these words, and how many words it has.
pub(super) fn holiday<'t>(words: impl Iterator<Item = &'t str> + Clone) -> Option<(i8, i8, usize)> {
    let found = WORDS.holidays.iter().filter_map(|holiday| {
        let mut parts = holiday.split(' ');
        let (month, day) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
        let length = parts.clone().count();
        words
            .clone()
            .take(length)
            .eq(parts)
            .then_some((month, day, length))
    });
    found.max_by_key(|(.., length)| *length)
}

/// What a verb means with one of the words after it, and this word: "sum it up".
pub(super) fn phrasal(verb: &str, after: &[&str]) -> Option<(&'static str, &'static str)> {
    let mut verbs = WORDS.phrasal.iter();
    verbs.find_map(|parts| match parts.as_slice() {
        [first, particle, meaning] if *first == verb && after.contains(particle) => {
            Some((*meaning, *particle))
        }
        _ => None,
    })
}

/// The phrases that name a value, itself among them; none for most values.
pub(super) fn aliases(value: &str) -> &'static [&'static str] {
    let value = value.to_lowercase();
    let group = WORDS.aliases.iter().find(|g| g.contains(&value.as_str()));
    group.map_or(&[], Vec::as_slice)
}

/// The kind, as `x-kind` has it, that a word of a param's name says.
pub(super) fn kind_word(word: &str) -> Option<&'static str> {
    WORDS.kinds.get(word).copied()
}

/// The role, as `x-role` has it, that a word of a param's name says.
pub(super) fn role_word(word: &str) -> Option<&'static str> {
    WORDS.roles.get(word).copied()
}

/// The words of params' names whose values a word announces.
pub(super) fn cues(lower: &str) -> impl Iterator<Item = &'static str> {
    WORDS.cues.get(lower).into_iter().flatten().copied()
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
    match WORDS.typed.get(lower.as_str()) {
        Some(usual) => (*usual).to_owned(),
        None => lower,
    }
}

/// The form of a verb that its stem is made of.
pub(super) fn base(lower: &str) -> &str {
    WORDS.forms.get(lower).copied().unwrap_or(lower)
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
