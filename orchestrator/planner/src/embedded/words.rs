//! English words that carry grammar rather than meaning, their classes, and the few general synonyms.
//!
//! Holds nothing about any domain: a capability's subject is said by its card alone. `words.txt` has the words.

use std::collections::HashMap;
use std::sync::LazyLock;

/// Never indexed, never matched, never the end of a name.
pub(super) const STOP: u32 = 1;
/// Verbs that ask to be told something.
pub(super) const ASK: u32 = 1 << 1;
/// Verbs that say that something is to be done, hardly what.
pub(super) const LIGHT: u32 = 1 << 2;
/// Verbs that a command may start with.
pub(super) const COMMAND: u32 = 1 << 3;
/// Question words and auxiliaries that open a question.
pub(super) const QUESTION: u32 = 1 << 4;
/// Said before a clause without meaning anything in it.
pub(super) const PREFACE: u32 = 1 << 5;
/// Changes nothing of what is asked: haste, care, or a name for what any result holds.
pub(super) const FILLER: u32 = 1 << 6;
/// Takes something back.
pub(super) const TAKES_BACK: u32 = 1 << 7;
/// Those for whom something is done; they change nothing of it.
pub(super) const PEOPLE: u32 = 1 << 8;
/// After "in" and "at" no name of a place.
pub(super) const ADVERBIAL: u32 = 1 << 9;
/// Stands for something that was said before.
pub(super) const PRONOUN: u32 = 1 << 10;
/// Stands before a noun.
pub(super) const PREPOSITION: u32 = 1 << 11;
const ARTICLE: u32 = 1 << 12;
const JOINT: u32 = 1 << 13;
pub(super) const NEGATIVE: u32 = 1 << 14;
/// Capital letters that name nothing by themselves.
pub(super) const ACRONYM: u32 = 1 << 15;
/// Verbs that no reading does.
pub(super) const CHANGE: u32 = 1 << 16;
/// Small words inside of names.
pub(super) const PARTICLE: u32 = 1 << 17;
/// Announces a text.
pub(super) const SAYING: u32 = 1 << 18;
/// Ends a topic.
pub(super) const ENDS_TOPIC: u32 = 1 << 19;
/// Joins a phrase to others.
pub(super) const LOOSE: u32 = 1 << 20;
/// Announces a topic.
pub(super) const ABOUT: u32 = 1 << 21;
/// The largest of all.
pub(super) const TOP: u32 = 1 << 22;
/// Verbs of statements.
pub(super) const STATES: u32 = 1 << 23;
/// After "if you" no condition.
pub(super) const POLITE: u32 = 1 << 24;
/// Turns or bounds what follows: a slip in such a word must not be passed over.
pub(super) const TURNS: u32 = 1 << 25;
/// Begins a sentence that tells of the speaker.
pub(super) const TELLS: u32 = 1 << 26;
/// Says that something is wanted.
pub(super) const WISHES: u32 = 1 << 27;
/// Needs no explanation.
pub(super) const FREE: u32 = STOP | ASK | LIGHT | FILLER;

/// The classes in the order of their bits, as `words.txt` names them.
const CLASSES: &str = "stop ask light command question preface filler takes_back people adverbial pronoun preposition article joint \
                       negative acronym change \
                       particle saying ends_topic loose about top states polite turns tells wishes";

#[derive(Default)]
struct Words {
    classes: HashMap<&'static str, u32>,
    /// Groups that mean the same.
    same: Vec<Vec<&'static str>>,
    /// Prepositions and the like, with the words of params' names whose values they announce.
    cues: HashMap<&'static str, Vec<&'static str>>,
    /// Words of params' names, with the kinds that they say.
    kinds: HashMap<&'static str, &'static str>,
    /// Phrases that say nothing, and whether a wish follows at once.
    phrases: Vec<(Vec<&'static str>, bool)>,
    /// Irregular forms, with their bases.
    forms: HashMap<&'static str, &'static str>,
}

static WORDS: LazyLock<Words> = LazyLock::new(|| {
    let mut words = Words::default();
    for line in include_str!("words.txt").lines() {
        let Some((name, list)) = line.split_once(": ") else {
            continue;
        };
        let list: Vec<&str> = list.split_whitespace().collect();
        if let Some(bit) = CLASSES.split_whitespace().position(|class| class == name) {
            for word in list {
                *words.classes.entry(word).or_insert(0) |= 1 << bit;
            }
        } else if name == "same" {
            words.same.push(list);
        } else if matches!(name, "lead" | "aside") {
            let phrases = list.split(|word| *word == "|");
            words
                .phrases
                .extend(phrases.map(|phrase| (phrase.to_vec(), name == "lead")));
        } else if name == "kind" {
            let kind = list.first().copied().unwrap_or_default();
            words
                .kinds
                .extend(list.iter().skip(1).map(|word| (*word, kind)));
        } else if name == "cue" {
            let names = list.iter().skip(1).copied().collect();
            words.cues.extend(list.first().map(|cue| (*cue, names)));
        } else {
            let pairs = list.chunks_exact(2);
            words
                .forms
                .extend(pairs.filter_map(|pair| Some((*pair.first()?, *pair.last()?))));
        }
    }
    words
});

/// Whether a lower-case word is of one of the classes.
pub(super) fn is(lower: &str, classes: u32) -> bool {
    WORDS
        .classes
        .get(lower)
        .is_some_and(|known| known & classes != 0)
}

/// The other words of the groups that a word is in.
pub(super) fn synonyms(lower: &str) -> impl Iterator<Item = &'static str> {
    let groups = WORDS
        .same
        .iter()
        .filter(move |group| group.contains(&lower));
    groups.flatten().copied().filter(move |&word| word != lower)
}

/// The kind, as `x-kind` has it, that a word of a param's name says.
pub(super) fn kind_word(word: &str) -> Option<&'static str> {
    WORDS.kinds.get(word).copied()
}

/// The words of params' names whose values a word announces.
pub(super) fn cues(lower: &str) -> impl Iterator<Item = &'static str> {
    WORDS.cues.get(lower).into_iter().flatten().copied()
}

/// The longest phrase that says nothing which begins with these words: its length, and whether a wish follows at once.
pub(super) fn phrase<'t>(words: impl Iterator<Item = &'t str> + Clone) -> Option<(usize, bool)> {
    let begins = |phrase: &[&str]| words.clone().take(phrase.len()).eq(phrase.iter().copied());
    let found = WORDS.phrases.iter().filter(|(phrase, _)| begins(phrase));
    let longest = found.max_by_key(|(phrase, _)| phrase.len())?;
    Some((longest.0.len(), longest.1))
}

/// The form of a verb that its stem is made of.
pub(super) fn base(lower: &str) -> &str {
    WORDS.forms.get(lower).copied().unwrap_or(lower)
}

/// Whether a word is one of grammar in which two letters changed places or one is missing: "liek", "fnd".
pub(super) fn is_slip(lower: &str) -> bool {
    let slips = |word: &str| slip(lower, word).is_some_and(|slip| slip != Slip::Other);
    let plain = |class: u32| class & (STOP | ASK) != 0;
    let turns = |class: u32| class & (TURNS | NEGATIVE) != 0;
    let slips_of = |of: &dyn Fn(u32) -> bool, shortest: usize| {
        let mut words = WORDS.classes.iter();
        words.any(|(word, class)| of(*class) && word.len() >= shortest && slips(word))
    };
    lower.len() >= 3 && !slips_of(&turns, 3) && slips_of(&plain, 4)
}

/// How a word differs from another one with the same first letter.
#[derive(PartialEq, Eq)]
pub(super) enum Slip {
    /// Two letters changed places.
    Swapped,
    /// A letter is missing.
    Missing,
    /// A letter is wrong, or one too many.
    Other,
}

/// How `written` differs from `meant`, if by one slip.
pub(super) fn slip(written: &str, meant: &str) -> Option<Slip> {
    let (a, b) = (written.as_bytes(), meant.as_bytes());
    let head = a.iter().zip(b).take_while(|(x, y)| x == y).count();
    let rest =
        |x: usize, y: usize| a.get(head + x..).is_some() && a.get(head + x..) == b.get(head + y..);
    let swapped = || {
        a.get(head).is_some() && a.get(head) == b.get(head + 1) && a.get(head + 1) == b.get(head)
    };
    if head == 0 || a == b {
        None
    } else if swapped() && rest(2, 2) {
        Some(Slip::Swapped)
    } else if rest(0, 1) {
        Some(Slip::Missing)
    } else {
        (rest(1, 1) || rest(1, 0)).then_some(Slip::Other)
    }
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

/// The mark that ends with a word, and how many words it has; `before` and `first` are those before it.
pub(super) fn mark(word: &str, before: &str, first: &str) -> Option<(Mark, usize)> {
    let not = is_negative(first);
    let more = "more greater larger bigger higher longer dearer costlier";
    let less = "less fewer smaller lower cheaper shorter";
    let among = |list: &str| list.split(' ').any(|other| other == before);
    if word == "than" && (among(more) || among(less)) {
        let mark = if among(more) == not {
            Mark::Most
        } else {
            Mark::Least
        };
        return Some((mark, 2 + usize::from(not)));
    }
    match (before, word) {
        ("nothing" | "none", "over" | "above") => Some((Mark::Most, 2)),
        ("leaving", "out") => Some((Mark::Except, 2)),
        ("/", "o") if first == "w" => Some((Mark::Except, 3)),
        ("at", "least") | ("starting", "at") => Some((Mark::Least, 2)),
        ("at", "most") | ("up", "to") => Some((Mark::Most, 2)),
        ("other" | "rather", "than")
        | ("instead", "of")
        | ("apart" | "aside", "from")
        | ("but", "not" | "no") => Some((Mark::Except, 2)),
        (_, "but") if among("everybody everyone everything all anything nothing nobody") => {
            Some((Mark::Except, 1))
        }
        (_, "over" | "above" | "exceeding" | "minimum" | "min") => Some((Mark::Least, 1)),
        (_, "under" | "below" | "maximum" | "max" | "within") => Some((Mark::Most, 1)),
        (
            _,
            "without" | "excluding" | "exclude" | "excludes" | "except" | "not" | "minus"
            | "besides" | "excl",
        ) => Some((Mark::Except, 1)),
        _ => None,
    }
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
        assert!(slip("light", "night").is_none());
    }
}
